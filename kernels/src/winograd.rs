//! Dense f32 convolutions of 3x3 or 5x5 taps at stride 1 in fewer products: Winograd's minimal filtering (Lavin and Gray,
//! "Fast Algorithms for Convolutional Neural Networks", 2016, sections 4.1 and 4.3).
//!
//! ```text
//!   6x6 of the input  d ──▶ B'dB ─┐
//!                                 ├─▶ 36 products, summed over input channels ─▶ A'mA ──▶ 4x4 (2x2) of the output
//!   3x3 (5x5) weights g ──▶ GgG' ─┘
//! ```
//!
//! A patch of 6x6 input elements gives 4x4 outputs of a 3x3 kernel, or 2x2 of a 5x5 one, from 36 products in place of 144
//! or 100. The transforms are those of the points 0, 1, -1, 2, -2 and infinity for both: only G's and A's sizes differ.
//!
//! The weights stay in the file's one layout. A unit, 16 output channels by some hundred patches, transforms those it
//! needs on its stack, a [`CHUNK`] of input channels at a time: the sums of a chunk are brought back to the output's
//! domain and added to what the chunks before left there, for A'mA is linear.
//!
//! Sums of this kind round more than direct ones do: where those are off by 1e-7 of the largest term, these are by some
//! 1e-6.

use crate::lanes::Vector;
use crate::{Activation, Call, ConvParams, Layout, Op, Strides, conv, conv_input};
use core::mem::MaybeUninit;
use core::ops::Range;

/// Rows and columns of a patch.
const SIDE: usize = 6;
/// Products of a patch.
const POINTS: usize = SIDE * SIDE;
/// Input channels whose weights are transformed at once, at most.
const CHUNK: usize = 64;
/// Input channels whose patches are transformed at once, at most; at least half as many.
const PIECE: usize = 32;
/// Output channels of a panel.
const PANEL: usize = 16;
/// Patches of a unit, about.
const BLOCK: usize = 512;

/// What lives on the stack, 189 KiB with six patches at a time. What a point of all patches takes stays in the L1 cache.
#[repr(C, align(64))]
struct Room<const R: usize> {
    weights: [[[[f32; PANEL]; PIECE]; POINTS]; CHUNK / PIECE],
    inputs: [[[f32; PIECE]; R]; POINTS],
    sums: [[[f32; PANEL]; R]; POINTS],
}

/// How a call is cut.
#[derive(Clone, Copy)]
struct Cut {
    /// Rows and columns of outputs of a patch.
    side: usize,
    /// Patches of a picture: rows, columns.
    rows: usize,
    columns: usize,
    /// Patches of all pictures.
    patches: usize,
    /// Patches of a unit.
    block: usize,
    /// Panels of a group.
    panels: usize,
}

fn cut(p: &ConvParams) -> Cut {
    let side = SIDE + 1 - p.kh as usize;
    let (rows, columns) = ((p.out_h as usize).div_ceil(side), (p.out_w as usize).div_ceil(side));
    let patches = p.batch as usize * rows * columns;
    let block = patches.div_ceil(patches.div_ceil(BLOCK));
    Cut { side, rows, columns, patches, block, panels: (p.oc as usize).div_ceil(PANEL) }
}

/// Dense f32 weights, a kernel that has a transform, and a picture so large that it pays.
pub fn accepts(call: &Call) -> bool {
    let p: &ConvParams = call.params();
    let kernel = matches!([p.kh, p.kw], [3, 3] | [5, 5]);
    let plain = [p.stride_h, p.stride_w, p.dil_h, p.dil_w] == [1; 4];
    call.input(conv_input::WEIGHTS).layout == Layout::DenseF32 && kernel && plain && p.kc >= 16 && pays(p)
}

/// Whether the transforms cost less than the products they save. In cycles of two multiply-adds of eight lanes for an input
/// channel and a panel: 36 for a patch's products, as many as half of that for its transforms; those of the weights.
fn pays(p: &ConvParams) -> bool {
    let direct = u64::from(p.batch) * u64::from(p.out_h) * u64::from(p.out_w) * u64::from(p.kh * p.kw);
    (cut(p).patches as u64 * 56 + 150) * 5 < direct * 4
}

/// Number of units of a call.
pub fn units(call: &Call) -> usize {
    let p: &ConvParams = call.params();
    let cut = cut(p);
    p.groups as usize * cut.panels * cut.patches.div_ceil(cut.block)
}

/// Runs `units` of a call: transforms in vectors `V`, products in vectors `P` of 16 lanes, `R` patches at a time.
///
/// # Safety
/// As [`crate::Kernel::run`], and that of [`Vector`]; the call is accepted.
#[inline(always)]
pub unsafe fn drive<V: Vector, P: Vector, const R: usize>(call: &Call, units: Range<usize>) {
    const { assert!(P::LANES == PANEL && V::LANES <= PANEL) };
    let mut room = MaybeUninit::<Room<R>>::uninit();
    let cut = cut(call.params());
    let blocks = cut.patches.div_ceil(cut.block);
    for unit in units {
        let (panel, block) = (unit / blocks, unit % blocks);
        let work = Work::<R>::new(call, cut, (panel / cut.panels, panel % cut.panels), &raw mut room);
        let patches = block * cut.block..((block + 1) * cut.block).min(cut.patches);
        // SAFETY: the unit lies below `units`, so its panel and patches exist; the rest is the caller's promise.
        unsafe { work.unit::<V, P>(patches) };
    }
}

/// One unit under way.
struct Work<'a, const R: usize> {
    p: &'a ConvParams,
    cut: Cut,
    group: usize,
    oc0: usize,
    /// Output channels of the panel that exist.
    channels: usize,
    x: *const f32,
    pad: *const f32,
    y: *mut f32,
    /// Null if there is none.
    residual: *const f32,
    /// The panel: `[taps][kc][16]`.
    weights: *const f32,
    bias: *const f32,
    slopes: *const f32,
    room: *mut Room<R>,
}

/// Some input channels, and whether they are the first and the last.
#[derive(Clone, Copy)]
struct Chunk {
    start: usize,
    len: usize,
    first: bool,
    last: bool,
}

impl Chunk {
    fn pieces(&self) -> usize {
        self.len.div_ceil(PIECE)
    }

    /// The input channels of a piece.
    fn piece(&self, n: usize) -> Range<usize> {
        let pieces = self.pieces();
        self.start + self.len * n / pieces..self.start + self.len * (n + 1) / pieces
    }
}

/// How the results of a patch end: `count` channels from lane `lane` of the panel on.
#[derive(Clone, Copy)]
struct End {
    chunk: Chunk,
    lane: usize,
    count: usize,
}

impl<'a, const R: usize> Work<'a, R> {
    fn new(call: &'a Call<'a>, cut: Cut, (group, panel): (usize, usize), room: *mut MaybeUninit<Room<R>>) -> Self {
        let p: &ConvParams = call.params();
        let shape = conv::weight_shape(Op::Conv, p);
        let oc0 = panel * PANEL;
        let at = Layout::DenseF32.block_offset(shape, group * cut.panels + panel, None);
        let first = group * cut.panels * PANEL + oc0;
        let input = |i: usize| call.inputs[i].map_or(core::ptr::null(), |i| i.bytes.as_ptr());
        let vector = |i: usize| call.inputs[i].map_or(core::ptr::null(), |i| i.bytes[first * 4..].as_ptr().cast());
        Self {
            p,
            cut,
            group,
            oc0,
            channels: PANEL.min(shape.oc - oc0),
            x: input(conv_input::X).cast(),
            pad: input(conv_input::PAD).cast(),
            y: call.output(0).as_mut_ptr().cast(),
            residual: input(conv_input::RESIDUAL).cast(),
            weights: call.input(conv_input::WEIGHTS).bytes[at..].as_ptr().cast(),
            bias: vector(conv_input::BIAS),
            slopes: vector(conv_input::SLOPES),
            room: room.cast(),
        }
    }

    /// # Safety
    /// As [`drive`]; the patches exist.
    #[inline(always)]
    unsafe fn unit<V: Vector, P: Vector>(&self, patches: Range<usize>) {
        let kc = self.p.kc as usize;
        let chunks = kc.div_ceil(CHUNK);
        for n in 0..chunks {
            let (start, end) = (kc * n / chunks, kc * (n + 1) / chunks);
            let chunk = Chunk { start, len: end - start, first: n == 0, last: n + 1 == chunks };
            // SAFETY: the caller's promise. Weights, then inputs, then sums are written before they are read.
            unsafe {
                for piece in 0..chunk.pieces() {
                    match self.p.kh {
                        3 => self.weights::<V, 3>(chunk, piece),
                        _ => self.weights::<V, 5>(chunk, piece),
                    }
                }
                for patch in patches.clone().step_by(R) {
                    for piece in 0..chunk.pieces() {
                        for row in 0..R {
                            // Past the last patch, it once more.
                            self.inputs::<V>(chunk.piece(piece), (patch + row).min(patches.end - 1), row);
                        }
                        for point in 0..POINTS {
                            self.products::<P>(piece, point, chunk.piece(piece).len());
                        }
                    }
                    for row in 0..R.min(patches.end - patch) {
                        match self.cut.side {
                            4 => self.outputs::<V, 4>(chunk, patch + row, row),
                            _ => self.outputs::<V, 2>(chunk, patch + row, row),
                        }
                    }
                }
            }
        }
    }

    /// Transforms the weights of a piece.
    ///
    /// # Safety
    /// As [`Self::unit`]; `K` is the kernel's side.
    #[inline(always)]
    unsafe fn weights<V: Vector, const K: usize>(&self, chunk: Chunk, piece: usize) {
        let kc = self.p.kc as usize;
        // SAFETY: the panel has `K * K` taps of `kc` positions of 16 weights; the room has a place for each of the chunk.
        unsafe {
            let to: *mut f32 = (&raw mut (*self.room).weights[piece]).cast();
            for (n, channel) in chunk.piece(piece).enumerate() {
                for lane in (0..PANEL).step_by(V::LANES) {
                    let from = self.weights.add(channel * PANEL + lane);
                    let mut half = [[V::splat(0.0); K]; SIDE];
                    for kx in 0..K {
                        let mut taps = [V::splat(0.0); K];
                        for ky in 0..K {
                            taps[ky] = V::load(from.add((ky * K + kx) * kc * PANEL));
                        }
                        let taps = of_weights(taps);
                        for i in 0..SIDE {
                            half[i][kx] = taps[i];
                        }
                    }
                    for i in 0..SIDE {
                        let taps = of_weights(half[i]);
                        for j in 0..SIDE {
                            taps[j].store(to.add(((i * SIDE + j) * PIECE + n) * PANEL + lane));
                        }
                    }
                }
            }
        }
    }

    /// Where patch `patch` is: picture, and its first output row and column.
    #[inline(always)]
    fn place(&self, patch: usize) -> [usize; 3] {
        let Cut { side, rows, columns, .. } = self.cut;
        [patch / (rows * columns), patch / columns % rows * side, patch % columns * side]
    }

    /// Transforms some channels of a patch's inputs.
    ///
    /// # Safety
    /// As [`Self::unit`].
    #[inline(always)]
    unsafe fn inputs<V: Vector>(&self, channels: Range<usize>, patch: usize, row: usize) {
        let p = self.p;
        let [n, oy, ox] = self.place(patch);
        let first = p.x.offset as usize + n * p.x.batch as usize + self.group * p.kc as usize;
        let picture = self.x.wrapping_add(first);
        let (iy, ix) = (oy.wrapping_sub(p.pad_top as usize), ox.wrapping_sub(p.pad_left as usize));
        let mut places = [self.pad; POINTS];
        let inside = iy.wrapping_add(SIDE) <= p.in_h as usize && ix.wrapping_add(SIDE) <= p.in_w as usize;
        let inside = inside && iy < p.in_h as usize && ix < p.in_w as usize;
        for i in 0..SIDE * usize::from(inside) {
            let line = picture.wrapping_add((iy + i) * p.x.row as usize + ix * p.x.pixel as usize);
            for j in 0..SIDE {
                places[i * SIDE + j] = line.wrapping_add(j * p.x.pixel as usize);
            }
        }
        for i in 0..SIDE * usize::from(!inside) {
            let y = iy.wrapping_add(i);
            let line = picture.wrapping_add(y.wrapping_mul(p.x.row as usize));
            for j in 0..SIDE {
                let x = ix.wrapping_add(j);
                if y < p.in_h as usize && x < p.in_w as usize {
                    places[i * SIDE + j] = line.wrapping_add(x * p.x.pixel as usize);
                }
            }
        }
        // SAFETY: pixels inside the picture, and the pad row, have `kc` elements.
        unsafe {
            let to: *mut f32 = (&raw mut (*self.room).inputs).cast();
            for at in (0..channels.len()).step_by(V::LANES) {
                let at = at.min(channels.len() - V::LANES);
                let mut half = [[V::splat(0.0); SIDE]; SIDE];
                for j in 0..SIDE {
                    let mut column = [V::splat(0.0); SIDE];
                    for i in 0..SIDE {
                        column[i] = V::load(places[i * SIDE + j].add(channels.start + at));
                    }
                    let column = of_inputs(column);
                    for i in 0..SIDE {
                        half[i][j] = column[i];
                    }
                }
                for i in 0..SIDE {
                    let line = of_inputs(half[i]);
                    for j in 0..SIDE {
                        line[j].store(to.add(((i * SIDE + j) * R + row) * PIECE + at));
                    }
                }
            }
        }
    }

    /// Multiplies a piece at one point, all patches under way.
    ///
    /// # Safety
    /// As [`Self::unit`]; weights and inputs are transformed.
    #[inline(always)]
    unsafe fn products<P: Vector>(&self, piece: usize, point: usize, len: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let weights: *const f32 = (&raw const (*self.room).weights[piece][point]).cast();
            let inputs: *const f32 = (&raw const (*self.room).inputs[point]).cast();
            let sums: *mut f32 = (&raw mut (*self.room).sums[point]).cast();
            let mut held = [P::splat(0.0); R];
            if piece > 0 {
                for (row, held) in held.iter_mut().enumerate() {
                    *held = P::load(sums.add(row * PANEL));
                }
            }
            for n in 0..len {
                let w = P::load(weights.add(n * PANEL));
                for (row, held) in held.iter_mut().enumerate() {
                    *held = P::splat(*inputs.add(row * PIECE + n)).mul_add(w, *held);
                }
            }
            for (row, held) in held.iter().enumerate() {
                held.store(sums.add(row * PANEL));
            }
        }
    }

    /// Brings a patch's sums to the outputs: the first chunk adds bias and residual, others what is there already, and the
    /// last applies the activation.
    ///
    /// # Safety
    /// As [`Self::unit`]; the products are there and `M` is the side of a patch's outputs.
    #[inline(always)]
    unsafe fn outputs<V: Vector, const M: usize>(&self, chunk: Chunk, patch: usize, row: usize) {
        let p = self.p;
        let [n, oy, ox] = self.place(patch);
        let (height, width) = (M.min(p.out_h as usize - oy), M.min(p.out_w as usize - ox));
        let at = |s: &Strides| {
            let pixel = n * s.batch as usize + oy * s.row as usize + ox * s.pixel as usize;
            s.offset as usize + pixel + self.group * p.oc as usize + self.oc0
        };
        let y = self.y.wrapping_add(at(&p.y));
        let (plus, strides) = match (chunk.first, self.residual.is_null()) {
            (true, true) => (core::ptr::null(), &p.y),
            (true, false) => (self.residual.wrapping_add(at(&p.residual)), &p.residual),
            _ => (y.cast_const(), &p.y),
        };
        // SAFETY: pixels of the patch that exist have the panel's channels; bias and slopes have all 16.
        unsafe {
            let sums: *const f32 = (&raw const (*self.room).sums).cast::<f32>().add(row * PANEL);
            for lane in (0..PANEL).step_by(V::LANES) {
                let mut half = [[V::splat(0.0); SIDE]; M];
                for j in 0..SIDE {
                    let mut column = [V::splat(0.0); SIDE];
                    for i in 0..SIDE {
                        column[i] = V::load(sums.add((i * SIDE + j) * R * PANEL + lane));
                    }
                    let column = of_sums::<V, M>(column);
                    for i in 0..M {
                        half[i][j] = column[i];
                    }
                }
                let mut lines = [[V::splat(0.0); M]; M];
                for i in 0..M {
                    lines[i] = of_sums::<V, M>(half[i]);
                }
                let end = End { chunk, lane, count: self.channels.saturating_sub(lane).min(V::LANES) };
                let (y, y_strides) = (y.add(lane), [p.y.row as usize, p.y.pixel as usize]);
                let plus = if plus.is_null() { plus } else { plus.add(lane) };
                let strides = [strides.row as usize, strides.pixel as usize];
                if height == M && width == M && end.count == V::LANES && p.activation == Activation::Clamp as u32 {
                    self.whole(lines, (plus, strides), (y, y_strides), end);
                    continue;
                }
                for (i, line) in lines.iter().enumerate().take(height) {
                    for (j, &v) in line.iter().enumerate().take(width) {
                        let plus = if plus.is_null() { plus } else { plus.add(i * strides[0] + j * strides[1]) };
                        self.put(v, plus, y.add(i * y_strides[0] + j * y_strides[1]), end);
                    }
                }
            }
        }
    }

    /// A patch that lies inside the picture, all lanes of channels that exist, and at most a clamp.
    ///
    /// # Safety
    /// As [`Self::outputs`].
    #[inline(always)]
    unsafe fn whole<V: Vector, const M: usize>(
        &self,
        mut lines: [[V; M]; M],
        (plus, strides): (*const f32, [usize; 2]),
        (y, y_strides): (*mut f32, [usize; 2]),
        end: End,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            if end.chunk.first {
                let bias = V::load(self.bias.add(end.lane));
                for line in &mut lines {
                    for v in line {
                        *v = v.add(bias);
                    }
                }
            }
            if !plus.is_null() {
                for (i, line) in lines.iter_mut().enumerate() {
                    for (j, v) in line.iter_mut().enumerate() {
                        *v = v.add(V::load(plus.add(i * strides[0] + j * strides[1])));
                    }
                }
            }
            if end.chunk.last {
                let (lo, hi) = (V::splat(self.p.lo), V::splat(self.p.hi));
                for line in &mut lines {
                    for v in line {
                        *v = v.max(lo).min(hi);
                    }
                }
            }
            for (i, line) in lines.iter().enumerate() {
                for (j, v) in line.iter().enumerate() {
                    v.store(y.add(i * y_strides[0] + j * y_strides[1]));
                }
            }
        }
    }

    /// One pixel's `count` channels from lane `lane` of the panel on.
    ///
    /// # Safety
    /// As [`Self::outputs`].
    #[inline(always)]
    unsafe fn put<V: Vector>(&self, mut v: V, plus: *const f32, to: *mut f32, End { chunk, lane, count }: End) {
        let mut short = [0f32; PANEL];
        // SAFETY: the caller's promise: `count` elements exist.
        unsafe {
            if chunk.first {
                v = v.add(V::load(self.bias.add(lane)));
            }
            if !plus.is_null() && count == V::LANES {
                v = v.add(V::load(plus));
            } else if !plus.is_null() {
                core::ptr::copy_nonoverlapping(plus, short.as_mut_ptr(), count);
                v = v.add(V::load(short.as_ptr()));
            }
            if chunk.last {
                v = self.activate(v, lane);
            }
            if count == V::LANES {
                v.store(to);
            } else {
                v.store(short.as_mut_ptr());
                core::ptr::copy_nonoverlapping(short.as_ptr(), to, count);
            }
        }
    }

    /// # Safety
    /// As [`Self::outputs`].
    #[inline(always)]
    unsafe fn activate<V: Vector>(&self, v: V, lane: usize) -> V {
        let p = self.p;
        // SAFETY: the vector's; slopes are there if the activation is PRelu.
        unsafe {
            match Activation::from_number(p.activation) {
                Some(Activation::LeakyRelu) => v.where_negative(v.mul(V::splat(p.lo))),
                Some(Activation::PRelu) => v.where_negative(v.mul(V::load(self.slopes.add(lane)))),
                Some(Activation::HardSwish) => {
                    let gate = v.add(V::splat(3.0)).max(V::splat(0.0)).min(V::splat(6.0));
                    v.mul(gate).div(V::splat(6.0))
                }
                _ => v.max(V::splat(p.lo)).min(V::splat(p.hi)),
            }
        }
    }
}

/// B' times a column: of each point, what its product reads.
///
/// # Safety
/// That of [`Vector`].
#[inline(always)]
unsafe fn of_inputs<V: Vector>([d0, d1, d2, d3, d4, d5]: [V; SIDE]) -> [V; SIDE] {
    // SAFETY: the caller's promise.
    unsafe {
        let (four, less_five) = (V::splat(4.0), V::splat(-5.0));
        let less_four = V::splat(-4.0);
        let (a, b) = (d2.mul_add(less_four, d4), d1.mul_add(less_four, d3));
        let (c, e) = (d4.sub(d2), d3.sub(d1));
        let e = e.add(e);
        let zero = d0.mul_add(four, d2.mul_add(less_five, d4));
        let infinity = d1.mul_add(four, d3.mul_add(less_five, d5));
        [zero, a.add(b), a.sub(b), c.add(e), c.sub(e), infinity]
    }
}

/// G times a column of taps.
///
/// # Safety
/// That of [`Vector`].
#[inline(always)]
unsafe fn of_weights<V: Vector, const K: usize>(g: [V; K]) -> [V; SIDE] {
    // SAFETY: the caller's promise.
    unsafe {
        // Of the polynomial whose coefficients the taps are, the even and the odd part at 1 and at 2.
        let (mut even, mut odd) = ([g[0]; 2], [g[1], g[1].add(g[1])]);
        for k in 2..K {
            let part = if k % 2 == 0 { &mut even } else { &mut odd };
            part[0] = part[0].add(g[k]);
            part[1] = g[k].mul_add(V::splat((1 << k) as f32), part[1]);
        }
        let (one, two) = (V::splat(-1.0 / 6.0), V::splat(1.0 / 24.0));
        [
            g[0].mul(V::splat(0.25)),
            even[0].add(odd[0]).mul(one),
            even[0].sub(odd[0]).mul(one),
            even[1].add(odd[1]).mul(two),
            even[1].sub(odd[1]).mul(two),
            g[K - 1],
        ]
    }
}

/// A' times a column: `M` outputs from the sums at the six points.
///
/// # Safety
/// That of [`Vector`].
#[inline(always)]
unsafe fn of_sums<V: Vector, const M: usize>([m0, m1, m2, m3, m4, m5]: [V; SIDE]) -> [V; M] {
    // SAFETY: the caller's promise.
    unsafe {
        let (even, odd) = ([m1.add(m2), m3.add(m4)], [m1.sub(m2), m3.sub(m4)]);
        let mut to = [m0; M];
        to[0] = m0.add(even[0]).add(even[1]);
        for i in 1..M {
            let part = if i % 2 == 0 { even } else { odd };
            to[i] = part[1].mul_add(V::splat((1 << i) as f32), part[0]);
        }
        to[M - 1] = to[M - 1].add(m5);
        to
    }
}
