//! Convolution with constant weights: the check, the loop nest every instruction set shares, and the scalar kernels.
//!
//! A convolution is a matrix product whose left rows are not stored: row m of it is an output pixel, made of one run of
//! `kc` elements per tap. For a tile of a few output pixels the loop nest writes down where each (tap, pixel) run starts,
//! the pad row standing in for runs outside the picture, and hands these addresses to a [`Micro`] kernel, which keeps a
//! tile of `ROWS` pixels by some channels in registers over all taps. Nothing is copied (the indirection of Dukhan, "The
//! Indirect Convolution Algorithm", 2019, made per tile instead of ahead, so that it needs no memory).
//!
//! Work is cut into units of (group, block of pixels, run of channels): the pixels' inputs fit the L2 cache, and a
//! unit's weights are reread from L1 for each of its tiles.

use crate::layout::{Family, Index, Layout, Spec, WeightShape};
use crate::{
    Activation, Call, ConvParams, DType, Draft, Features, Kernel, Op, Refusal, Signature, Strides, conv_input, product,
};
use core::mem::MaybeUninit;
use core::ops::Range;
use half::f16;

/// Most (tap, pixel) runs of one tile.
pub const MAX_RUNS: usize = 1024;
/// Most taps of a kernel.
pub const MAX_TAPS: usize = MAX_RUNS / SCALAR_ROWS;
/// Most pixels of one tile.
pub const MAX_ROWS: usize = 112;
/// Bytes of [`Tile::room`].
pub const ROOM: usize = 2048;
/// Bytes of input a unit should read: half of a small core's L2 cache.
const UNIT_BYTES: usize = 128 << 10;
/// Whether calls may be shared: a WebAssembly module has one thread.
const THREADS: bool = cfg!(not(target_family = "wasm"));
/// What the number of blocks of pixels is a multiple of, if a call is shared between threads and has as many tiles.
const SHARED_BLOCKS: usize = 4;
/// Products of a sum for each pixel above which threads share channels, not pixels: the weights, which all of them would read whole,
/// outweigh what they would read from each other's caches.
const SHARED_PIXELS: usize = 8;

/// The last step of a convolution, as a kernel reads it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Epilogue {
    /// An [`Activation`].
    pub activation: u32,
    /// Type of the output: 0 f32, 1 f16, 2 i8, 4 i32, as [`DType`].
    pub output: u32,
    /// Lower bound, or slope.
    pub lo: f32,
    /// Upper bound.
    pub hi: f32,
    /// Zero point of an i8 output.
    pub y_zero: i32,
    /// Zero point of an i8 residual.
    pub residual_zero: i32,
    /// Scale of an i8 residual over the output's.
    pub residual_scale: f32,
}

/// A tile: `rows` pixels by `channels` output channels, over all taps.
///
/// `runs`, `y` and `residual` have `ROWS` entries per tap or in all; entries past `rows` repeat the last pixel up to a
/// multiple of `STEP`, so a kernel may compute and store these too: equal values go to one place.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Tile {
    /// `[taps][ROWS]`: start of the input run of (tap, pixel).
    pub runs: *const *const u8,
    /// `[ROWS]`: where the first channel of each pixel is written.
    pub y: *const *mut u8,
    /// `[ROWS]`: first channel of each pixel's residual, or null.
    pub residual: *const *const u8,
    /// Packed weights of the first panel or block.
    pub weights: *const u8,
    /// Bytes from a panel to the next (dense layouts).
    pub panel_stride: usize,
    /// Bias of the first channel, f32 or i32; readable up to a multiple of 16 channels.
    pub bias: *const u8,
    /// int8: factor of the first channel; readable as the bias.
    pub scale: *const f32,
    /// Slopes of the first channel, if the activation is PRelu; readable as the bias.
    pub slopes: *const f32,
    /// Sparse: kept units of each tap.
    pub counts: *const u16,
    /// Sparse: the units, tap after tap.
    pub positions: *const u16,
    /// Number of taps.
    pub taps: usize,
    /// Elements of a run. int8 kernels may read up to 3 bytes past it (their weights are zero).
    pub kc: usize,
    /// Pixels, 1..=ROWS.
    pub rows: usize,
    /// Output channels, 1..=MERGED * PANELS * block.
    pub channels: usize,
    /// The last step.
    pub epilogue: Epilogue,
    /// What [`Micro::prepare`] left.
    pub hint: u32,
    /// [`ROOM`] bytes, aligned to 64, for what else it leaves.
    pub room: *mut u8,
}

/// The input of a tile whose pixels are neighbours in an output row, of a convolution whose taps lie side by side along the
/// row: tap (ky, kx) of the tile's pixel n reads pixel `first.1 + n * stride_w + kx` of row `first.0 + ky * dil_h`.
#[derive(Clone, Copy, Debug)]
pub struct Strip {
    /// Pixel (0, 0) of the picture, first channel of the group.
    pub picture: *const u8,
    /// Bytes between input rows.
    pub row: usize,
    /// Bytes between pixels.
    pub pixel: usize,
    /// What is read outside the picture.
    pub pad: *const u8,
    /// Row and column of the first window; negative: outside.
    pub first: (isize, isize),
    /// Height and width of the picture.
    pub size: (usize, usize),
    /// Height and width of the kernel.
    pub kernel: (usize, usize),
    /// Rows from a tap to the next.
    pub dil_h: usize,
    /// Pixels from a window to the next.
    pub stride_w: usize,
}

impl Strip {
    /// Bytes from a window to the next.
    #[inline(always)]
    pub fn step(&self) -> usize {
        self.stride_w * self.pixel
    }

    /// Where pixel `n` of the `ky`th row begins: the pad outside the picture.
    #[inline(always)]
    pub fn at(&self, ky: usize, n: usize) -> *const u8 {
        let (iy, ix) = (self.first.0 + (ky * self.dil_h) as isize, self.first.1 + n as isize);
        if (iy as usize) < self.size.0 && (ix as usize) < self.size.1 {
            self.picture.wrapping_add(iy as usize * self.row + ix as usize * self.pixel)
        } else {
            self.pad
        }
    }

    /// Whether the pixels `0..n` of the `ky`th row lie in the picture.
    #[inline(always)]
    pub fn inside(&self, ky: usize, n: usize) -> bool {
        let (iy, ix) = (self.first.0 + (ky * self.dil_h) as isize, self.first.1);
        (iy as usize) < self.size.0 && ix >= 0 && ix as usize + n <= self.size.1
    }
}

/// What the input of a tile is.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    /// The tile's `runs`.
    Runs,
    /// A strip, every pixel of which is readable as a run. The tile is whole, and has no `runs`.
    Strip(Strip),
}

/// The inner kernel of a convolution.
pub trait Micro {
    /// Pixels of a tile, at most [`MAX_ROWS`].
    const ROWS: usize;
    /// Panels (dense) or blocks (sparse: 1) of a tile.
    const PANELS: usize;
    /// Most tiles side by side, of the same pixels and the next channels, that may come as one: for kernels that do
    /// something to their input first.
    const MERGED: usize = 1;
    /// Pixels computed at a time, a divisor of `ROWS`.
    const STEP: usize = Self::ROWS;

    /// Looks at what the tiles of a unit share (the per-channel vectors, `taps`, `kc`, `channels`) and returns their
    /// [`Tile::hint`]; what does not fit that goes to [`Tile::room`]. Called once a unit, before `runs`, `y`, `residual` and
    /// `rows` are set.
    ///
    /// # Safety
    /// The per-channel vectors are valid as the tile's fields say, and the CPU has the kernel's features.
    unsafe fn prepare(_tile: &Tile) -> u32 {
        0
    }

    /// Computes one tile. A kernel has this or [`Self::tiles`].
    ///
    /// # Safety
    /// The tile's pointers are valid as its fields say, outputs are not aliased, and the CPU has the kernel's features.
    unsafe fn tile(_tile: &Tile) {
        unreachable!("it computes all tiles of a unit")
    }

    /// Whether tiles of a convolution that are `ROWS` neighbours in a row may come to [`Self::tiles`] as strips, if any may.
    const STRIPS: Option<fn(&ConvParams) -> bool> = None;

    /// Whether pixels at one distance may go to [`Self::lines`], `tile.rows` of them, which have no residual.
    fn takes_lines(_tile: &Tile) -> bool {
        false
    }

    /// Computes the pixels of a unit: `next` gives a line of `tile.rows` of them, until there is none. The tile has no addresses.
    ///
    /// # Safety
    /// As [`Self::tile`], for each line.
    unsafe fn lines(_tile: &mut Tile, _next: impl FnMut(&mut Tile) -> Option<Line>) {
        unreachable!("no lines go to it")
    }

    /// Computes the tiles of a unit: `next` makes a tile of what it is given, until there is none. For kernels whose tiles
    /// share more than [`Tile::room`] holds, or may be strips.
    ///
    /// # Safety
    /// As [`Micro::tile`], for each of them.
    #[inline(always)]
    unsafe fn tiles(tile: &mut Tile, mut next: impl FnMut(&mut Tile) -> Option<Input>) {
        while next(tile).is_some() {
            // SAFETY: the caller's promise.
            unsafe { Self::tile(tile) };
        }
    }
}

/// Refuses a convolution that does not fit its operands.
pub fn check(draft: &Draft) -> Result<(), Refusal> {
    let p: &ConvParams = draft.params()?;
    let depthwise = draft.op == Op::Depthwise;
    draft.at_most(8, 1)?;
    let counts = [
        p.batch, p.in_h, p.in_w, p.out_h, p.out_w, p.groups, p.oc, p.kc, p.kh, p.kw, p.stride_h, p.stride_w, p.dil_h,
        p.dil_w,
    ];
    // 2^20 keeps every coordinate computation inside an i64, and 2^15 pads inside an i32.
    if counts.iter().any(|&count| count > 1 << 20) || counts[..7].contains(&0) || [p.stride_h, p.stride_w].contains(&0)
    {
        return Err(Refusal::Parameter);
    }
    if p.pad_top.unsigned_abs() > 1 << 15 || p.pad_left.unsigned_abs() > 1 << 15 || product(&[p.kh, p.kw])? > MAX_TAPS {
        return Err(Refusal::Parameter);
    }
    // A tap-less convolution (a phase of a transposed one) is its bias; nothing else may be empty.
    let tapless = p.kh == 0 || p.kw == 0;
    if p.kc == 0 || tapless && draft.input(conv_input::WEIGHTS)?.layout.spec().family != Family::Dense {
        return Err(Refusal::Parameter);
    }
    if depthwise && (p.groups != 1 || p.kc != 1) {
        return Err(Refusal::Parameter);
    }
    check_weights(draft, p)?;
    let x = draft.input(conv_input::X)?;
    let channels = product(&[p.groups, p.oc])?;
    let step = draft.input(conv_input::WEIGHTS)?.layout.spec().step;
    let read = if depthwise {
        channels
    } else {
        product(&[p.groups, p.kc])?
            .checked_add((p.kc as usize).next_multiple_of(step) - p.kc as usize)
            .ok_or(Refusal::Overflow)?
    };
    check_picture(x, &p.x, [p.batch, p.in_h, p.in_w], read)?;
    let y = draft.output(0)?;
    check_picture(y, &p.y, [p.batch, p.out_h, p.out_w], channels)?;
    check_disjoint(p, channels)?;
    if let Some(residual) = &draft.inputs[conv_input::RESIDUAL] {
        if residual.dtype != y.dtype || y.dtype == DType::I32 {
            return Err(Refusal::OperandType);
        }
        check_picture(residual, &p.residual, [p.batch, p.out_h, p.out_w], channels)?;
    }
    let pad = draft.input(conv_input::PAD)?;
    let pad_len = if depthwise { channels.next_multiple_of(16) } else { (p.kc as usize).next_multiple_of(step) };
    pad.expect(&[x.dtype], pad_len)
}

/// Checks types, sizes and the index of everything that goes with the weights.
fn check_weights(draft: &Draft, p: &ConvParams) -> Result<(), Refusal> {
    let weights = draft.input(conv_input::WEIGHTS)?;
    let Spec { family, dtype, .. } = weights.layout.spec();
    let families = if draft.op == Op::Depthwise {
        [Family::Depthwise, Family::SparseDepthwise]
    } else {
        [Family::Dense, Family::Sparse]
    };
    if !families.contains(&family) {
        return Err(Refusal::OperandLayout);
    }
    if draft.input(conv_input::X)?.dtype != dtype {
        return Err(Refusal::OperandType);
    }
    let y = draft.output(0)?.dtype;
    let (outputs, bias): (&[DType], _) = match dtype {
        DType::I8 => (&[DType::I8, DType::I32, DType::F32], DType::I32),
        DType::F16 => (&[DType::F16], DType::F32),
        _ => (&[DType::F32], DType::F32),
    };
    if !outputs.contains(&y) {
        return Err(Refusal::OperandType);
    }
    let shape = weight_shape(draft.op, p);
    let index = draft.inputs[conv_input::INDEX].as_ref();
    if index.is_some_and(|index| index.content.len() != index.len) {
        return Err(Refusal::Index);
    }
    weights.layout.validate(shape, weights.len, index.map(|index| index.content))?;
    let per_channel = product(&[p.groups, p.oc.next_multiple_of(16)])?;
    draft.input(conv_input::BIAS)?.expect(&[bias], per_channel)?;
    if dtype == DType::I8 && y != DType::I32 {
        draft.input(conv_input::SCALE)?.expect(&[DType::F32], per_channel)?;
    }
    match Activation::from_number(p.activation).ok_or(Refusal::Parameter)? {
        Activation::PRelu => draft.input(conv_input::SLOPES)?.expect(&[DType::F32], per_channel)?,
        Activation::Clamp => {}
        Activation::LeakyRelu | Activation::HardSwish if dtype != DType::I8 => {}
        _ => return Err(Refusal::Parameter),
    }
    let bounded = (-256.0..=256.0).contains(&p.lo) && (-256.0..=256.0).contains(&p.hi) && p.lo <= p.hi;
    if y == DType::I8 && (!bounded || p.y_zero.unsigned_abs() > 128 || p.residual_zero.unsigned_abs() > 128) {
        return Err(Refusal::Parameter);
    }
    Ok(())
}

/// Refuses a picture that leaves its operand.
fn check_picture(
    operand: &Signature,
    strides: &Strides,
    [batch, height, width]: [u32; 3],
    run: usize,
) -> Result<(), Refusal> {
    let span = |count: u32, stride: u32| (count as usize - 1).checked_mul(stride as usize);
    let last = [
        span(batch, strides.batch),
        span(height, strides.row),
        span(width, strides.pixel),
        Some(run),
        Some(strides.offset as usize),
    ];
    let end = last.iter().try_fold(0usize, |sum, term| sum.checked_add((*term)?)).ok_or(Refusal::Overflow)?;
    operand.expect(&[operand.dtype], end)
}

/// Refuses output strides by which two pixels would share an element: threads write pixels side by side.
fn check_disjoint(p: &ConvParams, channels: usize) -> Result<(), Refusal> {
    let mut extent = channels;
    for (count, stride) in [(p.out_w, p.y.pixel), (p.out_h, p.y.row), (p.batch, p.y.batch)] {
        if count > 1 && (stride as usize) < extent {
            return Err(Refusal::OutOfBounds);
        }
        extent += (count as usize - 1) * stride as usize;
    }
    Ok(())
}

/// The shape of a convolution's weights.
pub fn weight_shape(op: Op, p: &ConvParams) -> WeightShape {
    let taps = p.kh as usize * p.kw as usize;
    let kc = if op == Op::Depthwise { 1 } else { p.kc as usize };
    WeightShape { groups: p.groups as usize, oc: p.oc as usize, taps, kc }
}

/// The index of a call's weights, if its layout is sparse.
pub fn index<'a>(call: &Call<'a>) -> Option<Index<'a>> {
    let bytes = call.inputs[conv_input::INDEX]?.bytes;
    let (blocks, taps, _) = call.input(conv_input::WEIGHTS).layout.index_shape(weight_shape(call.op, call.params()))?;
    Index::view(bytes, blocks, taps)
}

/// What the last step of a call needs.
pub fn epilogue(call: &Call) -> Epilogue {
    let p: &ConvParams = call.params();
    Epilogue {
        activation: p.activation,
        output: call.output(0).dtype as u32,
        lo: p.lo,
        hi: p.hi,
        y_zero: p.y_zero,
        residual_zero: p.residual_zero,
        residual_scale: p.residual_scale,
    }
}

/// How a call is cut into units.
#[derive(Clone, Copy)]
struct Cut {
    /// Output pixels in all.
    pixels: usize,
    /// Pixels of a tile.
    rows: usize,
    /// Blocks of pixels: whole tiles but for the last one, of about one size.
    blocks: usize,
    /// Runs of channels a group has.
    runs: usize,
    /// Output channels of such a run.
    channels: usize,
}

impl Cut {
    /// As few blocks of pixels as `UNIT_BYTES` allows. A call that threads share has some at least, of equal numbers for each: so
    /// each thread goes on with the pixels that it has computed, not with a part of every pixel.
    #[inline(never)]
    fn new(call: &Call, rows: usize, panels: usize, shared: bool) -> Self {
        let p: &ConvParams = call.params();
        let spec = call.input(conv_input::WEIGHTS).layout.spec();
        let pixels = p.batch as usize * p.out_h as usize * p.out_w as usize;
        let run = p.kh as usize * p.kw as usize * p.kc as usize;
        let most = (UNIT_BYTES / (run * spec.dtype.size()).max(1)).clamp(rows, rows.max(2048)).next_multiple_of(rows);
        let mut blocks = pixels.div_ceil(most);
        if shared && run <= SHARED_PIXELS.saturating_mul(pixels) {
            let tiles = pixels.div_ceil(rows);
            blocks = blocks.next_multiple_of(SHARED_BLOCKS.min(tiles)).min(tiles);
        }
        let channels = spec.block * panels;
        Self { pixels, rows, blocks, runs: (p.oc as usize).div_ceil(channels), channels }
    }

    fn units(&self, call: &Call) -> usize {
        call.params::<ConvParams>().groups as usize * self.blocks * self.runs
    }

    /// The pixels of a block.
    fn pixels(&self, block: usize) -> Range<usize> {
        let start = |block: usize| (self.pixels.div_ceil(self.rows) * block / self.blocks * self.rows).min(self.pixels);
        start(block)..start(block + 1)
    }
}

/// What the loop nest knows of a [`Micro`]. The nest is compiled once for all of them; only the loop over the tiles of a
/// unit, into which the tile is inlined, is each kernel's own.
struct Shape {
    rows: usize,
    panels: usize,
    merged: usize,
    prepare: unsafe fn(&Tile) -> u32,
    strips: Option<fn(&ConvParams) -> bool>,
    tiles: unsafe fn(&Tile, &mut Walk),
}

impl Shape {
    const fn of<M: Micro>() -> Self {
        Self {
            rows: M::ROWS,
            panels: M::PANELS,
            merged: M::MERGED,
            prepare: M::prepare,
            strips: M::STRIPS,
            tiles: tiles::<M>,
        }
    }
}

/// Number of units of a call for the kernel `M`.
pub fn units<M: Micro>(call: &Call) -> usize {
    count(call, M::ROWS, M::PANELS)
}

fn count(call: &Call, rows: usize, panels: usize) -> usize {
    Cut::new(call, rows, panels, THREADS).units(call)
}

/// The loop nest: runs `units` of a call through the kernel `M`.
///
/// # Safety
/// As [`Kernel::run`]; `M` fits the call's layout and types.
pub unsafe fn drive<M: Micro>(call: &Call, units: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { nest(call, units, &const { Shape::of::<M>() }) }
}

/// # Safety
/// As [`drive`].
unsafe fn nest(call: &Call, mut units: Range<usize>, shape: &Shape) {
    let mut cut = Cut::new(call, shape.rows, shape.panels, THREADS);
    if THREADS && units == (0..cut.units(call)) {
        // A thread alone.
        cut = Cut::new(call, shape.rows, shape.panels, false);
        units = 0..cut.units(call);
    }
    let nest = Nest::new(call, shape);
    let mut addresses = Addresses::new();
    let mut unit = units.start;
    while unit < units.end {
        let (group, rest) = (unit / (cut.blocks * cut.runs), unit % (cut.blocks * cut.runs));
        let (block, run) = (rest / cut.runs, rest % cut.runs);
        // The next units have the same pixels.
        let merged = (cut.runs - run).min(units.end - unit).min(shape.merged);
        // SAFETY: the units lie below `units`, so their pixels and channels exist; the rest is the caller's promise.
        unsafe { nest.unit(group, run * cut.channels, merged * cut.channels, cut.pixels(block), &mut addresses) };
        unit += merged;
    }
}

/// Room for the addresses of one tile: as [`Tile::runs`], [`Tile::y`] and [`Tile::residual`].
struct Addresses {
    runs: [MaybeUninit<*const u8>; MAX_RUNS],
    y: [MaybeUninit<*mut u8>; MAX_ROWS],
    residual: [MaybeUninit<*const u8>; MAX_ROWS],
}

impl Addresses {
    fn new() -> Self {
        Self {
            runs: [const { MaybeUninit::uninit() }; MAX_RUNS],
            y: [const { MaybeUninit::uninit() }; MAX_ROWS],
            residual: [const { MaybeUninit::uninit() }; MAX_ROWS],
        }
    }
}

/// [`Tile::room`].
#[repr(align(64))]
struct Room([MaybeUninit<u8>; ROOM]);

/// An output pixel.
#[derive(Clone, Copy)]
struct Place {
    n: usize,
    oy: usize,
    ox: usize,
}

/// Pixels at one distance, their windows one column wide and inside the picture: where the first is, and the bytes from each
/// to the next.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// The run of the first pixel.
    pub x: *const u8,
    /// Bytes to the next pixel's.
    pub x_step: usize,
    /// Bytes from a tap's run to the next tap's.
    pub x_tap: usize,
    /// Where the first channel of the first pixel is written.
    pub y: *mut u8,
    /// Bytes to the next pixel's.
    pub y_step: usize,
    /// The first channel of the first pixel's residual, or null.
    pub residual: *const u8,
    /// Bytes to the next pixel's.
    pub residual_step: usize,
}

/// Pixels of a tile whose addresses are written without a loop: all, unless that would be kilobytes of code.
const fn part(rows: usize) -> usize {
    let mut part = if rows > 32 { 16 } else { rows };
    while !rows.is_multiple_of(part) {
        part -= 1;
    }
    part
}

impl Line {
    /// No pixels.
    pub const NONE: Self = Self {
        x: core::ptr::null(),
        x_step: 0,
        x_tap: 0,
        y: core::ptr::null_mut(),
        y_step: 0,
        residual: core::ptr::null(),
        residual_step: 0,
    };

    /// Goes on by some pixels.
    #[inline(always)]
    pub fn step(&mut self, pixels: usize) {
        self.x = self.x.wrapping_add(pixels * self.x_step);
        self.y = self.y.wrapping_add(pixels * self.y_step);
    }

    /// Goes back by some pixels.
    #[inline(always)]
    pub fn back(&mut self, pixels: usize) {
        self.x = self.x.wrapping_sub(pixels * self.x_step);
        self.y = self.y.wrapping_sub(pixels * self.y_step);
    }

    /// Writes down the addresses of the next `rows` pixels and steps over them.
    #[inline(always)]
    fn write<M: Micro>(&mut self, rows: usize, to: &mut Addresses) {
        if rows == M::ROWS {
            let part = const { part(M::ROWS) };
            for first in (0..M::ROWS).step_by(part) {
                self.each(first..first + part, to);
            }
        } else {
            self.each(0..rows, to);
            // The last pixel is repeated to the end of the step.
            for row in rows..rows.next_multiple_of(M::STEP) {
                (to.runs[row], to.y[row], to.residual[row]) =
                    (to.runs[rows - 1], to.y[rows - 1], to.residual[rows - 1]);
            }
        }
    }

    /// One kind of address after the other, so that neighbours are stored two at a time.
    #[inline(always)]
    fn each(&mut self, rows: Range<usize>, to: &mut Addresses) {
        for run in &mut to.runs[rows.clone()] {
            run.write(self.x);
            self.x = self.x.wrapping_add(self.x_step);
        }
        for y in &mut to.y[rows.clone()] {
            y.write(self.y);
            self.y = self.y.wrapping_add(self.y_step);
        }
        if !self.residual.is_null() {
            for residual in &mut to.residual[rows] {
                residual.write(self.residual);
                self.residual = self.residual.wrapping_add(self.residual_step);
            }
        }
    }
}

/// The way through the pixels of a unit.
struct Walk<'a> {
    nest: &'a Nest<'a>,
    group: usize,
    oc0: usize,
    /// The first pixel of a flat call.
    line: Line,
    /// The next pixel of any other.
    place: Place,
    /// Pixels of the unit.
    pixels: usize,
    /// Tiles after this one whose addresses are this one's, moved along the row.
    alike: usize,
    addresses: &'a mut Addresses,
}

/// The tiles of a unit. `tile` has no pixels yet.
///
/// # Safety
/// As [`drive`]; the walk's group, channels and pixels exist.
unsafe fn tiles<M: Micro>(tile: &Tile, walk: &mut Walk) {
    // Copies, which may live in registers.
    let (mut tile, mut line, mut left) = (*tile, walk.line, walk.pixels);
    tile.rows = left;
    if walk.nest.lines && M::takes_lines(&tile) {
        let next = |tile: &mut Tile| {
            let next = if walk.nest.flat { (left, line) } else { walk.row(left) };
            tile.rows = next.0;
            left -= next.0;
            (next.0 > 0).then_some(next.1)
        };
        // SAFETY: windows and pixels lie inside their operands, as `lines` says and `check` has proved.
        return unsafe { M::lines(&mut tile, next) };
    }
    let next = |tile: &mut Tile| {
        if M::STRIPS.is_some()
            && M::ROWS <= left
            && let Some(strip) = walk.strip(M::ROWS)
        {
            tile.rows = M::ROWS;
            left -= M::ROWS;
            (tile.runs, tile.y) = (core::ptr::null(), walk.addresses.y.as_ptr().cast());
            if !walk.nest.residual.is_null() {
                tile.residual = walk.addresses.residual.as_ptr().cast();
            }
            return Some(Input::Strip(strip));
        }
        if left == 0 {
            return None;
        }
        tile.rows = M::ROWS.min(left);
        left -= tile.rows;
        if walk.nest.flat {
            line.write::<M>(tile.rows, walk.addresses);
        } else if walk.alike > 0 && tile.rows == M::ROWS {
            // SAFETY: a tile of as many rows has written its addresses.
            unsafe { walk.shift::<M>() };
        } else if !walk.neighbours::<M>(tile.rows) {
            walk.address(tile.rows);
        }
        let to = &*walk.addresses;
        (tile.runs, tile.y) = (to.runs.as_ptr().cast(), to.y.as_ptr().cast());
        if !walk.nest.residual.is_null() {
            tile.residual = to.residual.as_ptr().cast();
        }
        Some(Input::Runs)
    };
    // SAFETY: the addresses lie inside the operands, which `check` has proved for every pixel, tap and channel;
    // those of all pixels, up to a multiple of `STEP`, are written.
    unsafe { M::tiles(&mut tile, next) };
}

/// What the loop nest of one call keeps at hand.
struct Nest<'a> {
    shape: &'a Shape,
    p: &'a ConvParams,
    call: &'a Call<'a>,
    index: Option<Index<'a>>,
    layout: Layout,
    element: usize,
    y_element: usize,
    epilogue: Epilogue,
    x: *const u8,
    pad: *const u8,
    y: *mut u8,
    residual: *const u8,
    /// As [`flat`] says.
    flat: bool,
    /// Whether the pixels of a row are a [`Line`], without a residual.
    lines: bool,
    /// Whether tiles may be strips.
    strips: bool,
}

/// Whether a 1x1 convolution's output pixel m reads input pixel m, and each operand's pixels follow one another with no
/// gap between rows and pictures: then addresses are one multiplication away.
fn flat(p: &ConvParams, residual: bool) -> bool {
    let in_line = |s: &Strides| {
        let rows = p.out_h == 1 && p.batch == 1 || u64::from(s.row) == u64::from(s.pixel) * u64::from(p.out_w);
        rows && (p.batch == 1 || u64::from(s.batch) == u64::from(s.row) * u64::from(p.out_h))
    };
    let ones = [p.kh, p.kw, p.stride_h, p.stride_w] == [1; 4];
    let whole = [p.pad_top, p.pad_left] == [0; 2] && [p.in_h, p.in_w] == [p.out_h, p.out_w];
    ones && whole && in_line(&p.x) && in_line(&p.y) && (!residual || in_line(&p.residual))
}

/// Whether windows are one column wide and inside the picture.
fn inside(p: &ConvParams) -> bool {
    let last = |out: u32, stride: u32, taps: u32, dilation: u32| {
        u64::from(out - 1) * u64::from(stride) + u64::from(taps.saturating_sub(1)) * u64::from(dilation)
    };
    let [bottom, right] = [last(p.out_h, p.stride_h, p.kh, p.dil_h), last(p.out_w, p.stride_w, 1, 0)];
    let unpadded = [p.pad_top, p.pad_left] == [0; 2];
    p.kw == 1 && unpadded && bottom < u64::from(p.in_h) && right < u64::from(p.in_w)
}

impl<'a> Nest<'a> {
    fn new(call: &'a Call<'a>, shape: &'a Shape) -> Self {
        let layout = call.input(conv_input::WEIGHTS).layout;
        Self {
            shape,
            p: call.params(),
            call,
            index: index(call),
            layout,
            element: layout.spec().dtype.size(),
            y_element: call.output(0).dtype.size(),
            epilogue: epilogue(call),
            x: call.input(conv_input::X).bytes.as_ptr(),
            pad: call.input(conv_input::PAD).bytes.as_ptr(),
            y: call.output(0).as_mut_ptr(),
            residual: call.inputs[conv_input::RESIDUAL].map_or(core::ptr::null(), |r| r.bytes.as_ptr()),
            flat: flat(call.params(), call.inputs[conv_input::RESIDUAL].is_some()),
            lines: call.inputs[conv_input::RESIDUAL].is_none() && inside(call.params()),
            strips: shape.strips.is_some_and(|takes| {
                let p: &ConvParams = call.params();
                p.dil_w == 1 && p.kh * p.kw > 1 && takes(p)
            }),
        }
    }

    /// # Safety
    /// As [`drive`]; group, channels and pixels exist.
    unsafe fn unit(&self, group: usize, oc0: usize, channels: usize, pixels: Range<usize>, addresses: &mut Addresses) {
        let p = self.p;
        let shape = weight_shape(Op::Conv, p);
        let block = self.layout.spec().block;
        let panel = group * shape.oc.div_ceil(block) + oc0 / block;
        let at = self.layout.block_offset(shape, panel, self.index.as_ref());
        let per_channel = group * shape.oc.next_multiple_of(16) + oc0;
        let vector = |input: usize| {
            self.call.inputs[input].map_or(core::ptr::null(), |i| i.bytes.as_ptr().wrapping_add(per_channel * 4))
        };
        let (counts, positions) = self.index.map_or((core::ptr::null(), core::ptr::null()), |index| {
            (index.counts[panel * shape.taps..].as_ptr(), index.positions[index.starts[panel] as usize..].as_ptr())
        });
        let mut room = Room([const { MaybeUninit::uninit() }; ROOM]);
        let mut tile = Tile {
            runs: core::ptr::null(),
            y: core::ptr::null(),
            residual: core::ptr::null(),
            weights: self.call.input(conv_input::WEIGHTS).bytes[at..].as_ptr(),
            panel_stride: shape.taps * shape.kc.next_multiple_of(self.layout.spec().step) * block * self.element,
            bias: vector(conv_input::BIAS),
            scale: vector(conv_input::SCALE).cast(),
            slopes: vector(conv_input::SLOPES).cast(),
            counts,
            positions,
            taps: shape.taps,
            kc: shape.kc,
            rows: 0,
            channels: channels.min(shape.oc - oc0),
            epilogue: self.epilogue,
            hint: 0,
            room: room.0.as_mut_ptr().cast(),
        };
        // SAFETY: the vectors have an element per channel, padded to a multiple of 16, as `check` has proved.
        tile.hint = unsafe { (self.shape.prepare)(&tile) };
        let (out_w, out_h) = (p.out_w as usize, p.out_h as usize);
        let mut walk = Walk {
            nest: self,
            group,
            oc0,
            line: self.line(group, oc0, pixels.start),
            place: Place {
                n: pixels.start / out_w / out_h,
                oy: pixels.start / out_w % out_h,
                ox: pixels.start % out_w,
            },
            pixels: pixels.len(),
            alike: 0,
            addresses,
        };
        // SAFETY: the caller's promise.
        unsafe { (self.shape.tiles)(&tile, &mut walk) };
    }

    /// Where pixel `pixel` of a flat call is.
    fn line(&self, group: usize, oc0: usize, pixel: usize) -> Line {
        let p = self.p;
        let channel = group * p.oc as usize + oc0;
        let at = |s: &Strides, first: usize| s.offset as usize + pixel * s.pixel as usize + first;
        Line {
            x: self.x.wrapping_add(at(&p.x, group * p.kc as usize) * self.element),
            x_step: p.x.pixel as usize * self.element,
            x_tap: 0,
            y: self.y.wrapping_add(at(&p.y, channel) * self.y_element),
            y_step: p.y.pixel as usize * self.y_element,
            residual: if self.residual.is_null() {
                self.residual
            } else {
                self.residual.wrapping_add(at(&p.residual, channel) * self.y_element)
            },
            residual_step: p.residual.pixel as usize * self.y_element,
        }
    }
}

impl Walk<'_> {
    /// The next pixels of an output row, at most so many, as a line.
    fn row(&mut self, most: usize) -> (usize, Line) {
        let (nest, place, p) = (self.nest, self.place, self.nest.p);
        let at =
            place.oy * p.stride_h as usize * p.x.row as usize + place.ox * p.stride_w as usize * p.x.pixel as usize;
        let line = Line {
            x: self.picture().wrapping_add(at * nest.element),
            x_step: p.stride_w as usize * p.x.pixel as usize * nest.element,
            x_tap: p.dil_h as usize * p.x.row as usize * nest.element,
            y: nest.y.wrapping_add(self.output(&p.y) * nest.y_element),
            y_step: p.y.pixel as usize * nest.y_element,
            ..self.line
        };
        let pixels = most.min(p.out_w as usize - place.ox);
        self.step(pixels);
        (pixels, line)
    }

    /// The strip of the next tile, of `rows` pixels, whose outputs and residuals are written down, if it lies in one row.
    fn strip(&mut self, rows: usize) -> Option<Strip> {
        let (nest, place, p) = (self.nest, self.place, self.nest.p);
        if !nest.strips || place.ox + rows > p.out_w as usize {
            return None;
        }
        let y = nest.y.wrapping_add(self.output(&p.y) * nest.y_element);
        let y_step = p.y.pixel as usize * nest.y_element;
        for (row, to) in self.addresses.y[..rows].iter_mut().enumerate() {
            to.write(y.wrapping_add(row * y_step));
        }
        if !nest.residual.is_null() {
            let residual = nest.residual.wrapping_add(self.output(&p.residual) * nest.y_element);
            let step = p.residual.pixel as usize * nest.y_element;
            for (row, to) in self.addresses.residual[..rows].iter_mut().enumerate() {
                to.write(residual.wrapping_add(row * step));
            }
        }
        let top = (place.oy * p.stride_h as usize) as isize - p.pad_top as isize;
        let strip = Strip {
            picture: self.picture(),
            row: p.x.row as usize * nest.element,
            pixel: p.x.pixel as usize * nest.element,
            pad: nest.pad,
            first: (top, (place.ox * p.stride_w as usize) as isize - p.pad_left as isize),
            size: (p.in_h as usize, p.in_w as usize),
            kernel: (p.kh as usize, p.kw as usize),
            dil_h: p.dil_h as usize,
            stride_w: p.stride_w as usize,
        };
        self.step(rows);
        Some(strip)
    }

    /// As [`Self::address`], if the tile is whole, in one row of the output, and no window leaves the picture's sides:
    /// then runs follow one another at one distance. Whether it did.
    #[inline(never)]
    fn neighbours<M: Micro>(&mut self, rows: usize) -> bool {
        let (nest, place, p) = (self.nest, self.place, self.nest.p);
        let (stride, dilation) = (p.stride_w as usize, p.dil_w as usize);
        let first = (place.ox * stride).wrapping_sub(p.pad_left as usize);
        let last = first.wrapping_add((M::ROWS - 1) * stride + (p.kw as usize).saturating_sub(1) * dilation);
        let inside = first < p.in_w as usize && last < p.in_w as usize && place.ox + M::ROWS <= p.out_w as usize;
        if rows < M::ROWS || !inside {
            return false;
        }
        let pixel = p.x.pixel as usize * nest.element;
        let x = self.picture().wrapping_add(first * pixel);
        let y = nest.y.wrapping_add(self.output(&p.y) * nest.y_element);
        let y_step = p.y.pixel as usize * nest.y_element;
        (0..M::ROWS).for_each(|row| _ = self.addresses.y[row].write(y.wrapping_add(row * y_step)));
        if !nest.residual.is_null() {
            let residual = nest.residual.wrapping_add(self.output(&p.residual) * nest.y_element);
            let step = p.residual.pixel as usize * nest.y_element;
            (0..M::ROWS).for_each(|row| _ = self.addresses.residual[row].write(residual.wrapping_add(row * step)));
        }
        let mut runs = self.addresses.runs.chunks_exact_mut(M::ROWS);
        let mut padded = false;
        for ky in 0..p.kh as usize {
            let iy = (place.oy * p.stride_h as usize + ky * p.dil_h as usize).wrapping_sub(p.pad_top as usize);
            let (mut x, next, step) = match iy < p.in_h as usize {
                true => (x.wrapping_add(iy * p.x.row as usize * nest.element), dilation * pixel, stride * pixel),
                false => (nest.pad, 0, 0),
            };
            padded |= step == 0;
            for runs in runs.by_ref().take(p.kw as usize) {
                (0..M::ROWS).for_each(|row| _ = runs[row].write(x.wrapping_add(row * step)));
                x = x.wrapping_add(next);
            }
        }
        let in_row = (p.out_w as usize - place.ox) / M::ROWS - 1;
        let in_picture = (p.in_w as usize - 1 - last) / (M::ROWS * stride);
        self.alike = if padded { 0 } else { in_row.min(in_picture) };
        self.step(M::ROWS);
        true
    }

    /// Moves the addresses of the last tile along its row, to the next.
    ///
    /// # Safety
    /// The last tile was a whole one, and its addresses are written.
    #[inline(always)]
    unsafe fn shift<M: Micro>(&mut self) {
        let (nest, p, to) = (self.nest, self.nest.p, &mut *self.addresses);
        let x = M::ROWS * p.stride_w as usize * p.x.pixel as usize * nest.element;
        let y = M::ROWS * p.y.pixel as usize * nest.y_element;
        let taps = p.kh as usize * p.kw as usize;
        // SAFETY: written by the caller's promise.
        unsafe {
            for runs in to.runs.chunks_exact_mut(M::ROWS).take(taps) {
                (0..M::ROWS).for_each(|row| _ = runs[row].write(runs[row].assume_init().wrapping_add(x)));
            }
            for to in &mut to.y[..M::ROWS] {
                to.write(to.assume_init().wrapping_add(y));
            }
            if !nest.residual.is_null() {
                let step = M::ROWS * p.residual.pixel as usize * nest.y_element;
                for residual in &mut to.residual[..M::ROWS] {
                    residual.write(residual.assume_init().wrapping_add(step));
                }
            }
        }
        self.alike -= 1;
        self.step(M::ROWS);
    }

    /// Writes down where the runs, outputs and residuals of a tile start, and goes on to the pixel after it.
    #[inline(never)]
    fn address(&mut self, rows: usize) {
        let p = self.nest.p;
        let mut row = 0;
        while row < rows {
            let stretch = (p.out_w as usize - self.place.ox).min(rows - row);
            // The last pixel is repeated to the end of the tile.
            let copies = if row + stretch == rows { self.nest.shape.rows - row } else { stretch };
            self.stretch((row, stretch, copies));
            row += stretch;
            self.step(stretch);
        }
    }

    /// Goes on by `pixels`, at most to the end of the output row.
    #[inline(always)]
    fn step(&mut self, pixels: usize) {
        let (p, place) = (self.nest.p, &mut self.place);
        place.ox += pixels;
        if place.ox == p.out_w as usize {
            (place.ox, place.oy) = (0, place.oy + 1);
            if place.oy == p.out_h as usize {
                (place.oy, place.n) = (0, place.n + 1);
            }
        }
    }

    /// The element of an operand with one value per output that belongs to the first channel of the next pixel.
    #[inline(always)]
    fn output(&self, strides: &Strides) -> usize {
        let (Place { n, oy, ox }, s) = (self.place, strides);
        let pixel = n * s.batch as usize + oy * s.row as usize + ox * s.pixel as usize;
        s.offset as usize + pixel + self.group * self.nest.p.oc as usize + self.oc0
    }

    /// The picture, at the first channel of the group.
    #[inline(always)]
    fn picture(&self) -> *const u8 {
        let p = self.nest.p;
        let at = p.x.offset as usize + self.place.n * p.x.batch as usize + self.group * p.kc as usize;
        self.nest.x.wrapping_add(at * self.nest.element)
    }

    /// The addresses of `stretch` neighbours in an output row, for tile rows `row..row + copies`.
    fn stretch(&mut self, (row, stretch, copies): (usize, usize, usize)) {
        let (nest, place, x) = (self.nest, self.place, self.picture());
        let p = nest.p;
        let y = nest.y.wrapping_add(self.output(&p.y) * nest.y_element);
        let residual = nest.residual.wrapping_add(self.output(&p.residual) * nest.y_element);
        let to = &mut *self.addresses;
        let (y_step, residual_step) = (p.y.pixel as usize * nest.y_element, p.residual.pixel as usize * nest.y_element);
        for (i, to) in to.y[row..row + copies].iter_mut().enumerate() {
            to.write(y.wrapping_add(i.min(stretch - 1) * y_step));
        }
        if !nest.residual.is_null() {
            for (i, to) in to.residual[row..row + copies].iter_mut().enumerate() {
                to.write(residual.wrapping_add(i.min(stretch - 1) * residual_step));
            }
        }
        let (pixel, step) = (p.x.pixel as usize * nest.element, p.stride_w as usize);
        let mut tap = row;
        for ky in 0..p.kh as usize {
            let iy = (place.oy * p.stride_h as usize + ky * p.dil_h as usize).wrapping_sub(p.pad_top as usize);
            let line = x.wrapping_add(iy.wrapping_mul(p.x.row as usize * nest.element));
            for kx in 0..p.kw as usize {
                let ix = (place.ox * step + kx * p.dil_w as usize).wrapping_sub(p.pad_left as usize);
                for (i, to) in to.runs[tap..tap + copies].iter_mut().enumerate() {
                    let ix = ix.wrapping_add(i.min(stretch - 1) * step);
                    let inside = iy < p.in_h as usize && ix < p.in_w as usize;
                    to.write(if inside { line.wrapping_add(ix * pixel) } else { nest.pad });
                }
                tap += nest.shape.rows;
            }
        }
    }
}

/// Whether the runs of a tile of `rows` pixels fit, and the layout is this one.
pub fn accepts(call: &Call, rows: usize, layout: Layout) -> bool {
    let p: &ConvParams = call.params();
    call.input(conv_input::WEIGHTS).layout == layout && p.kh as usize * p.kw as usize * rows <= MAX_RUNS
}

// ---- scalar kernels ----

/// An element type with its sums: how a scalar kernel multiplies, and how its last step rounds.
pub(crate) trait Element: bytemuck::Pod {
    /// Type of the sums and the bias.
    type Sum: bytemuck::Pod + Default;
    /// Positions of an index unit.
    const STEP: usize;
    /// `sum + x * w`.
    fn multiply_add(sum: Self::Sum, x: Self, w: Self) -> Self::Sum;
    /// `sum + bias`.
    fn add(sum: Self::Sum, bias: Self::Sum) -> Self::Sum;
    /// Bias and sum are in; adds the residual, applies the activation, writes one output element.
    ///
    /// # Safety
    /// `y` and, unless null, `residual` are valid for an element of the epilogue's output type.
    unsafe fn store(sum: Self::Sum, scale: f32, slope: f32, residual: *const u8, y: *mut u8, epilogue: &Epilogue);
}

fn activate(v: f32, slope: f32, epilogue: &Epilogue) -> f32 {
    match Activation::from_number(epilogue.activation) {
        Some(Activation::LeakyRelu) => {
            if v < 0.0 {
                epilogue.lo * v
            } else {
                v
            }
        }
        Some(Activation::PRelu) => {
            if v < 0.0 {
                slope * v
            } else {
                v
            }
        }
        Some(Activation::HardSwish) => v * (v + 3.0).clamp(0.0, 6.0) / 6.0,
        _ => v.max(epilogue.lo).min(epilogue.hi),
    }
}

impl Element for f32 {
    type Sum = f32;
    const STEP: usize = 1;
    fn multiply_add(sum: f32, x: f32, w: f32) -> f32 {
        sum + x * w
    }
    fn add(sum: f32, bias: f32) -> f32 {
        sum + bias
    }
    unsafe fn store(sum: f32, _: f32, slope: f32, residual: *const u8, y: *mut u8, epilogue: &Epilogue) {
        // SAFETY: valid by the caller's promise.
        let residual = if residual.is_null() { 0.0 } else { unsafe { residual.cast::<f32>().read_unaligned() } };
        // SAFETY: as above.
        unsafe { y.cast::<f32>().write_unaligned(activate(sum + residual, slope, epilogue)) };
    }
}

impl Element for f16 {
    type Sum = f32;
    const STEP: usize = 1;
    fn multiply_add(sum: f32, x: f16, w: f16) -> f32 {
        sum + x.to_f32() * w.to_f32()
    }
    fn add(sum: f32, bias: f32) -> f32 {
        sum + bias
    }
    unsafe fn store(sum: f32, _: f32, slope: f32, residual: *const u8, y: *mut u8, epilogue: &Epilogue) {
        let residual = match residual.is_null() {
            true => 0.0,
            // SAFETY: valid by the caller's promise.
            false => unsafe { residual.cast::<f16>().read_unaligned() }.to_f32(),
        };
        // SAFETY: as above.
        unsafe { y.cast::<f16>().write_unaligned(f16::from_f32(activate(sum + residual, slope, epilogue))) };
    }
}

impl Element for i8 {
    type Sum = i32;
    const STEP: usize = 4;
    fn multiply_add(sum: i32, x: i8, w: i8) -> i32 {
        sum.wrapping_add(i32::from(x) * i32::from(w))
    }
    fn add(sum: i32, bias: i32) -> i32 {
        sum.wrapping_add(bias)
    }
    unsafe fn store(sum: i32, scale: f32, slope: f32, residual: *const u8, y: *mut u8, epilogue: &Epilogue) {
        let mut v = sum as f32 * scale;
        if epilogue.output == DType::I32 as u32 {
            // SAFETY: valid by the caller's promise.
            return unsafe { y.cast::<i32>().write_unaligned(sum) };
        }
        if epilogue.output == DType::F32 as u32 {
            if !residual.is_null() {
                // SAFETY: as above.
                v += unsafe { residual.cast::<f32>().read_unaligned() };
            }
            // SAFETY: as above.
            return unsafe { y.cast::<f32>().write_unaligned(activate(v, slope, epilogue)) };
        }
        if !residual.is_null() {
            // SAFETY: as above.
            let code = i32::from(unsafe { residual.cast::<i8>().read() });
            v += (code - epilogue.residual_zero) as f32 * epilogue.residual_scale;
        }
        if epilogue.activation == Activation::PRelu as u32 && v < 0.0 {
            v *= slope;
        }
        // SAFETY: as above.
        unsafe { y.cast::<i8>().write(requantize(v, epilogue.lo, epilogue.hi, epilogue.y_zero)) };
    }
}

/// `round(min(max(v, lo), hi))` to nearest, ties to even, for bounds of at most 2^21: the one rounding of every quantized
/// result. Adding 1.5 * 2^23 leaves no bits for a fraction, so the addition rounds, and the sum's low bits are the integer.
#[inline(always)]
pub fn rounded(v: f32, lo: f32, hi: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    let v = if v > lo { v } else { lo };
    let v = if v < hi { v } else { hi };
    (v + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32
}

/// `clamp(round(v), lo, hi) + zero`, as a code.
#[inline(always)]
pub fn requantize(v: f32, lo: f32, hi: f32, zero: i32) -> i8 {
    (rounded(v, lo, hi) + zero).clamp(-128, 127) as i8
}

/// Pixels of a scalar tile: kernels of up to [`MAX_TAPS`] taps fit.
const SCALAR_ROWS: usize = 4;

/// The scalar kernels: one loop over the tiles of a unit, which calls the [`scalar_tile`] that lies in the room.
struct Scalar;

type ScalarTile = unsafe fn(&Tile);

impl Micro for Scalar {
    const ROWS: usize = SCALAR_ROWS;
    const PANELS: usize = 1;

    unsafe fn tile(tile: &Tile) {
        // SAFETY: `scalar` has written it there; the rest is the caller's promise.
        unsafe { (*tile.room.cast::<ScalarTile>())(tile) }
    }
}

/// # Safety
/// As [`drive`].
unsafe fn scalar<T: Element, const B: usize, const SPARSE: bool>(call: &Call, units: Range<usize>) {
    let prepare = |tile: &Tile| {
        // SAFETY: the room has space for a pointer.
        unsafe { tile.room.cast::<ScalarTile>().write(scalar_tile::<T, B, SPARSE>) };
        0
    };
    // SAFETY: the caller's promise.
    unsafe { nest(call, units, &Shape { prepare, ..Shape::of::<Scalar>() }) }
}

/// The scalar tile: 4 pixels by one block of `B` channels.
///
/// # Safety
/// As [`Micro::tile`].
unsafe fn scalar_tile<T: Element, const B: usize, const SPARSE: bool>(tile: &Tile) {
    let mut sums = [[T::Sum::default(); B]; SCALAR_ROWS];
    let mut weights = tile.weights.cast::<T>();
    let mut positions = tile.positions;
    for tap in 0..tile.taps {
        // SAFETY: `counts` has an entry per tap in a sparse tile.
        let units = if SPARSE { usize::from(unsafe { *tile.counts.add(tap) }) } else { tile.kc.div_ceil(T::STEP) };
        for n in 0..units {
            // SAFETY: `positions` has an entry per kept unit.
            let unit = if SPARSE { usize::from(unsafe { *positions.add(n) }) } else { n };
            let lanes = T::STEP.min(tile.kc - unit * T::STEP);
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: `runs` has `ROWS` entries per tap, each with `kc` readable elements.
                let x = unsafe { (*tile.runs.add(tap * SCALAR_ROWS + row)).cast::<T>().add(unit * T::STEP) };
                for lane in 0..lanes {
                    // SAFETY: as above, `unit * STEP + lane < kc`.
                    let x = unsafe { x.add(lane).read_unaligned() };
                    for (channel, sum) in sums.iter_mut().enumerate() {
                        // SAFETY: a packed unit has `B * STEP` weights.
                        *sum = T::multiply_add(*sum, x, unsafe { *weights.add(channel * T::STEP + lane) });
                    }
                }
            }
            // SAFETY: one packed unit on.
            weights = unsafe { weights.add(B * T::STEP) };
        }
        if SPARSE {
            // SAFETY: this tap's units are read.
            positions = unsafe { positions.add(units) };
        }
    }
    for (row, sums) in sums.iter().enumerate().take(tile.rows) {
        for (channel, &sum) in sums.iter().enumerate().take(tile.channels) {
            // SAFETY: bias, scale, slopes, residual and y have this channel.
            unsafe { finish::<T>(tile, row, channel, sum) };
        }
    }
}

/// # Safety
/// Row and channel lie inside the tile.
unsafe fn finish<T: Element>(tile: &Tile, row: usize, channel: usize, sum: T::Sum) {
    let element = DType::ALL[tile.epilogue.output as usize].size();
    // SAFETY: a per-channel vector that is there has this channel.
    let vector = |values: *const f32| if values.is_null() { 0.0 } else { unsafe { *values.add(channel) } };
    // SAFETY: the bias has this channel, y and residual have this row.
    unsafe {
        let sum = T::add(sum, *tile.bias.cast::<T::Sum>().add(channel));
        let residual =
            if tile.residual.is_null() { core::ptr::null() } else { (*tile.residual.add(row)).add(channel * element) };
        let y = (*tile.y.add(row)).add(channel * element);
        T::store(sum, vector(tile.scale), vector(tile.slopes), residual, y, &tile.epilogue);
    }
}

macro_rules! scalar {
    ($name:literal, $type:ty, $layout:ident, $block:literal, $sparse:literal) => {
        Kernel {
            name: $name,
            op: Op::Conv,
            requires: Features::NONE,
            accepts: |call| accepts(call, SCALAR_ROWS, Layout::$layout),
            units: units::<Scalar>,
            run: scalar::<$type, $block, $sparse>,
        }
    };
}

/// The scalar convolutions, one per layout.
pub const CATALOGUE: &[Kernel] = &[
    scalar!("conv_f32_b16_scalar", f32, DenseF32, 16, false),
    scalar!("conv_f16_b16_scalar", f16, DenseF16, 16, false),
    scalar!("conv_i8_b16_scalar", i8, DenseI8, 16, false),
    scalar!("spconv_f32_b16_scalar", f32, SparseF32B16, 16, true),
    scalar!("spconv_f32_b8_scalar", f32, SparseF32B8, 8, true),
    scalar!("spconv_f32_b4_scalar", f32, SparseF32B4, 4, true),
    scalar!("spconv_f16_b16_scalar", f16, SparseF16B16, 16, true),
    scalar!("spconv_f16_b8_scalar", f16, SparseF16B8, 8, true),
    scalar!("spconv_f16_b4_scalar", f16, SparseF16B4, 4, true),
    scalar!("spconv_i8_b16_scalar", i8, SparseI8B16, 16, true),
    scalar!("spconv_i8_b8_scalar", i8, SparseI8B8, 8, true),
    scalar!("spconv_i8_b4_scalar", i8, SparseI8B4, 4, true),
];
