//! Convolutions, dense and sparse: one tile algorithm over an [`Arithmetic`].
//!
//! ```text
//!            scratch (L1)                       registers
//!   row 0    x x x x x x x x ... | pad          R rows x P parts of sums
//!   row 1    x x x x x x x x ... | pad   --->
//!   ...      one chunk of K             weights: one part of a unit, read once for all R rows
//! ```
//!
//! A tile first stages a chunk of its rows in a scratch buffer: converted to what the multiply wants (f16 to f32, i8 to
//! i16 or to shifted u8), and at a fixed distance from row to row, so that one base register addresses them all and
//! rows a power of two apart do not fall into one cache set. It then walks its blocks of output channels, so that
//! staging is shared by all of them; where staging counts, neighbouring tiles are merged to have more. A sparse block
//! differs in one thing: the place of a unit in the chunk comes from the index instead of a counter. AVX-512's sparse
//! int8 blocks are staged the other way round ([`turned`]).
//!
//! f32 rows that are few enough for a register each are not staged: all of K is summed up in one go, which MobileNet-v1
//! gains an eighth from.
//!
//! A last tile of few rows, down to the single row of a fully connected layer, is computed with fewer rows and more
//! parts at a time, so that the sums still hide the latency of the multiply-add.

pub(crate) mod bytes;
pub(crate) mod few;
pub(crate) mod pixels;
mod turned;

use crate::arithmetic::{Arithmetic, F16, F32, I8Avx2, I8Vnni, Wide};
use crate::finish::{Avx2, Avx512, Isa, Last};
use crate::vector::{V4, V8, V16};
use crate::{AVX2, AVX512, VNNI};
use core::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;
use sparrow_kernels::conv::{Input, Micro, ROOM, Strip, Tile, accepts, drive, index, units};
use sparrow_kernels::{Call, ConvParams, Kernel, Layout, Op};

/// Most bytes of staged activations.
const SCRATCH: usize = 102 << 10;
/// Most output channels of a tile. A tile that is not merged has as many as keep its weights in half of a small L2 cache.
const CHANNELS: usize = 512;
const _: () = assert!(CHANNELS * 4 <= ROOM);
/// Bytes by which weights are fetched ahead.
const AHEAD: usize = 1024;
/// Most blocks of a tile.
const MAX_BLOCKS: usize = CHANNELS / 4;
/// Most rows of a tile.
const MAX_ROWS: usize = 48;

/// Memory on the stack that begins with a cache line.
#[repr(C, align(64))]
struct Room<T, const N: usize>([MaybeUninit<T>; N]);

impl<T, const N: usize> Room<T, N> {
    const NEW: Self = Self([const { MaybeUninit::uninit() }; N]);

    fn start(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }
}

/// What the tiles of a unit work in, one after the other.
struct Buffers {
    /// Staged activations.
    scratch: Room<u8, SCRATCH>,
    /// Sums of a tile, `[blocks][rows][lanes]`.
    sums: Room<u32, { MAX_ROWS * CHANNELS }>,
    /// Of each block.
    cursors: Room<Cursor, MAX_BLOCKS>,
}

impl Buffers {
    const NEW: Self = Self { scratch: Room::NEW, sums: Room::NEW, cursors: Room::NEW };
}

/// A part of the reduction that is staged at once: whole taps, or some units of one tap.
struct Chunk {
    taps: Range<usize>,
    units: Range<usize>,
}

/// Where a sparse block's next weights and positions are.
#[derive(Clone, Copy, Default)]
struct Cursor {
    /// Kept units of the tile before.
    at: usize,
    /// Kept units left in the tap under way.
    left: usize,
}

/// One tile under way, of at most `ROWS` rows, `LINES` cache lines of each staged at once. `LINES` is odd, so that rows
/// spread over the sets of the cache.
struct Work<'a, I, A: Arithmetic, const ROWS: usize, const LINES: usize, const SPARSE: bool> {
    tile: &'a Tile,
    /// `[ROWS][STRIDE]`
    x: *mut A::X,
    sums: *mut u32,
    chunk: Chunk,
    /// Whether sums begin with this chunk.
    first: bool,
    /// Whether sums go to the output without a stop in `sums`: there is one chunk, and the last step can be done there.
    direct: bool,
    cursors: *mut Cursor,
    isa: PhantomData<I>,
}

impl<'a, I: Isa, A: Arithmetic, const ROWS: usize, const LINES: usize, const SPARSE: bool>
    Work<'a, I, A, ROWS, LINES, SPARSE>
{
    /// Elements from a staged row to the next. A sparse unit loads an activation of every row, three of which come in a cycle
    /// if they do not lie in the same bank of the cache, which its place in a line tells.
    const STRIDE: usize = {
        assert!(LINES % 2 == 1 && ROWS <= MAX_ROWS);
        let apart = 16 * SPARSE as usize;
        (LINES * 64 + apart) / size_of::<A::X>()
    };
    /// Most units of a chunk.
    const CHUNK: usize = LINES * 64 / size_of::<A::X>() / A::STEP;
    /// Channels of a block.
    const BLOCK: usize = A::PARTS * A::LANES;

    /// Whether `rows` rows are read where they lie in memory, all of K at once: nothing is to be converted, and each row has
    /// a register for its address.
    const fn in_place(rows: usize) -> bool {
        A::IN_PLACE && rows <= 7
    }

    /// Whether `rows` rows are staged unit by unit.
    const fn turns(rows: usize) -> bool {
        SPARSE && A::STEP == 4 && ROWS == turned::ROWS && rows > 7
    }

    /// A tile of which nothing is done.
    #[inline(always)]
    fn new(tile: &'a Tile, buffers: &mut Buffers) -> Self {
        Self {
            tile,
            x: buffers.scratch.start().cast(),
            sums: buffers.sums.start(),
            chunk: Self::chunk((0, 0), tile.taps, tile.kc.div_ceil(A::STEP)),
            first: true,
            direct: false,
            cursors: buffers.cursors.start(),
            isa: PhantomData,
        }
    }

    /// Computes a tile, `R` of its rows and `P` parts at a time; rows past the tile's repeat its last one.
    ///
    /// # Safety
    /// As [`Micro::tile`]; the CPU has `A`'s features; the tile has at most `R` rows.
    #[inline(always)]
    unsafe fn run<const R: usize, const P: usize>(tile: &'a Tile, buffers: &mut Buffers) {
        const {
            let bytes = if Self::turns(R) {
                Self::CHUNK * turned::PITCH * 4
            } else {
                R * Self::STRIDE * size_of::<A::X>() + 31
            };
            assert!(bytes <= SCRATCH);
        }
        let units = tile.kc.div_ceil(A::STEP);
        let mut work = Self::new(tile, buffers);
        work.direct = (Self::in_place(R) || work.ends()) && A::finishes(tile);
        if Self::in_place(R) {
            // SAFETY: the caller's promise.
            return unsafe {
                if SPARSE {
                    work.sparse_in_place::<R, P>();
                } else {
                    work.dense_in_place::<R, P>();
                }
                if !work.direct {
                    work.finish::<R>();
                }
            };
        }
        // SAFETY: the caller's promise; chunks follow each other inside the tile's taps and units.
        unsafe {
            if SPARSE {
                work.start();
            }
            loop {
                if Self::turns(R) {
                    work.stage_turned::<{ turned::PITCH }>(R);
                } else {
                    work.stage(R);
                }
                if SPARSE {
                    work.sparse::<R, P>();
                } else {
                    work.dense::<R, P>();
                }
                if work.direct {
                    return;
                }
                if work.ends() {
                    return work.finish::<R>();
                }
                work.next(units);
            }
        }
    }

    /// [`Micro::prepare`]: what the sums of each block begin with. `FLOATS` says that [`Arithmetic::finish`] alone ends them,
    /// which knows of [`Arithmetic::float_bits`].
    ///
    /// # Safety
    /// As [`Micro::prepare`]; the tile's room holds a word for each channel of its blocks.
    #[inline(always)]
    unsafe fn prepare<const FLOATS: bool>(tile: &Tile) -> u32 {
        if !A::RAISED {
            return 0;
        }
        let (mut at, mut most) = (0, 0);
        for block in 0..tile.channels.div_ceil(Self::BLOCK) {
            let channel = block * Self::BLOCK * 4;
            // SAFETY: there is a count for every block and tap, and so many units of weights.
            unsafe {
                let (weights, units) = if SPARSE {
                    let kept = (0..tile.taps).map(|tap| usize::from(*tile.counts.add(block * tile.taps + tap))).sum();
                    (tile.weights.add(at * A::UNIT_BYTES), kept)
                } else {
                    (tile.weights.add(block * tile.panel_stride), tile.taps * tile.kc.div_ceil(A::STEP))
                };
                A::raise(tile.bias.add(channel), weights, units, tile.room.add(channel));
                at += units;
                most = most.max(units);
            }
        }
        // SAFETY: the caller's promise.
        unsafe {
            let small = A::hint(tile);
            let one_chunk = tile.taps * tile.kc.div_ceil(A::STEP) <= Self::CHUNK;
            let floats = FLOATS && small == 1 && one_chunk && A::float_bits(tile, most * A::STEP);
            small | u32::from(floats) << 1
        }
    }

    /// Whether a tile of neighbours is staged pixel by pixel, not window by window: where windows overlap, the rows share
    /// what they have in common. So do runs that are whole windows, as the converter makes them of a picture's few channels: one
    /// column of taps, each as long as all pixels of a row of the window, of which a part is the next window's too.
    fn takes(p: &ConvParams) -> bool {
        let (kh, kw, kc, stride) = (p.kh as usize, p.kw as usize, p.kc as usize, p.stride_w as usize);
        let apart = stride == 1 && kc <= 128 && kh * (ROWS + kw - 1) * pitch(kc) + 63 <= SCRATCH;
        let inside = p.pad_left == 0 && (p.out_w as usize - 1) * stride < p.in_w as usize;
        apart || inside && Self::overlap((kh, kw), stride * p.x.pixel as usize, kc)
    }

    /// Whether windows `step` bytes apart can go to [`Self::windows`], if all of a strip's are in the picture's width.
    #[inline(always)]
    fn overlap((kh, kw): (usize, usize), step: usize, kc: usize) -> bool {
        kw == 1 && matches!(step, 3 | 6) && kh * line(step, kc, ROWS) + 63 <= SCRATCH
    }

    /// The same of a strip.
    #[inline(always)]
    fn overlaps(tile: &Tile, strip: &Strip) -> bool {
        let first = strip.first.1;
        let inside = first >= 0 && first as usize + (ROWS - 1) * strip.stride_w < strip.size.1;
        inside && Self::overlap(strip.kernel, strip.step(), tile.kc)
    }

    /// A tile that is a strip, `P` parts at a time.
    ///
    /// # Safety
    /// As [`Input::Strip`]; the CPU has `A`'s features, and [`Self::takes`] has accepted the convolution.
    #[inline(always)]
    unsafe fn strip<const P: usize>(tile: &'a Tile, strip: &Strip, buffers: &mut Buffers) {
        if P == 0 {
            unreachable!("it takes no strips");
        }
        // SAFETY: the caller's promise.
        unsafe {
            if Self::overlaps(tile, strip) {
                return match strip.step() {
                    3 => Self::windows::<P, 3>(tile, strip, buffers),
                    _ => Self::windows::<P, 6>(tile, strip, buffers),
                };
            }
            match pitch(tile.kc) {
                16 => Self::strip_of::<P, 16>(tile, strip, buffers),
                64 => Self::strip_of::<P, 64>(tile, strip, buffers),
                _ => Self::strip_of::<P, 128>(tile, strip, buffers),
            }
        }
    }

    /// A strip whose pixels are staged `PITCH` bytes apart.
    ///
    /// # Safety
    /// As [`Self::strip`].
    #[inline(always)]
    unsafe fn strip_of<const P: usize, const PITCH: usize>(tile: &'a Tile, strip: &Strip, buffers: &mut Buffers) {
        let mut work = Self::new(tile, buffers);
        work.direct = A::finishes(tile);
        let (kh, kw) = strip.kernel;
        let pixels = ROWS + kw - 1;
        // SAFETY: the caller's promise; the staged strip fits the scratch buffer, and the columns exist.
        unsafe {
            for ky in 0..kh {
                let to = work.x.add(ky * pixels * PITCH);
                if strip.inside(ky, pixels) && strip.pixel == PITCH && tile.kc == PITCH {
                    A::stage(strip.at(ky, 0), to, pixels * PITCH);
                } else {
                    for n in 0..pixels {
                        A::stage(strip.at(ky, n), to.add(n * PITCH), tile.kc);
                    }
                }
            }
            work.strip_parts::<P, PITCH>((kh, kw), pixels * PITCH, PITCH);
        }
    }

    /// A strip whose windows overlap, each of them `STEP` bytes behind the one before.
    ///
    /// # Safety
    /// As [`Self::strip`]; [`Self::overlaps`] says so.
    #[inline(always)]
    unsafe fn windows<const P: usize, const STEP: usize>(tile: &'a Tile, strip: &Strip, buffers: &mut Buffers) {
        let mut work = Self::new(tile, buffers);
        work.direct = A::finishes(tile);
        let line = line(STEP, tile.kc, ROWS);
        // SAFETY: the caller's promise; all windows are inside the picture's width, and the staged lines fit the buffer.
        unsafe {
            for ky in 0..strip.kernel.0 {
                let to = work.x.add(ky * line);
                if strip.inside(ky, 1) {
                    let bytes = (ROWS - 1) * STEP + tile.kc;
                    // The last unit of the last window may go beyond it.
                    to.add(bytes).cast::<u32>().write_unaligned(0);
                    A::stage(strip.at(ky, 0), to, bytes);
                } else {
                    for n in 0..ROWS {
                        A::stage(strip.pad, to.add(n * STEP), tile.kc);
                    }
                }
            }
            work.strip_parts::<P, STEP>((strip.kernel.0, 1), line, 0);
        }
    }

    /// All columns of a staged strip, `P` at a time: the kernel's size, and bytes from a line to the next and from a tap to the
    /// next.
    ///
    /// # Safety
    /// As [`Self::strip`].
    #[inline(always)]
    unsafe fn strip_parts<const P: usize, const STEP: usize>(&self, kernel: (usize, usize), line: usize, tap: usize) {
        let columns = self.tile.channels.div_ceil(Self::BLOCK) * A::PARTS;
        let mut column = 0;
        // SAFETY: the caller's promise; the columns exist.
        unsafe {
            while column + P <= columns {
                self.strip_columns::<P, STEP>(kernel, (line, tap), column);
                column += P;
            }
            while column < columns {
                self.strip_columns::<1, STEP>(kernel, (line, tap), column);
                column += 1;
            }
            if !self.direct {
                self.finish::<ROWS>();
            }
        }
    }

    /// `C` columns of a staged strip, whose pixels are `STEP` bytes apart.
    ///
    /// # Safety
    /// As [`Self::strip`]; the columns exist.
    #[inline(always)]
    unsafe fn strip_columns<const C: usize, const STEP: usize>(
        &self,
        (kh, kw): (usize, usize),
        (line, tap): (usize, usize),
        column: usize,
    ) {
        let tile = self.tile;
        let units = tile.kc.div_ceil(A::STEP);
        // SAFETY: the caller's promise.
        unsafe {
            let mut weights = [tile.weights; C];
            for (c, weights) in weights.iter_mut().enumerate() {
                let (panel, part) = ((column + c) / A::PARTS, (column + c) % A::PARTS);
                *weights = tile.weights.add(panel * tile.panel_stride + part * A::PART_BYTES);
            }
            let mut held = Held::<A, ROWS, C>::new(tile, column, true);
            for ky in 0..kh {
                for kx in 0..kw {
                    let x = self.x.add(ky * line + kx * tap);
                    for n in 0..units {
                        held.multiply_add(x.add(n * A::STEP), STEP, weights, n);
                    }
                    weights = weights.map(|weights| weights.add(units * A::UNIT_BYTES));
                }
            }
            self.put(held, column);
        }
    }

    /// Whether the chunk is the last.
    #[inline(always)]
    fn ends(&self) -> bool {
        self.chunk.taps.end == self.tile.taps && self.chunk.units.end * A::STEP >= self.tile.kc
    }

    /// Goes on to the chunk behind this one.
    #[inline(always)]
    fn next(&mut self, units: usize) {
        let Chunk { taps, units: done } = &self.chunk;
        let next = if done.end == units { (taps.end, 0) } else { (taps.start, done.end) };
        (self.chunk, self.first) = (Self::chunk(next, self.tile.taps, units), false);
    }

    /// The chunk that begins at this tap and unit.
    #[inline(always)]
    fn chunk((tap, unit): (usize, usize), taps: usize, units: usize) -> Chunk {
        if units <= Self::CHUNK {
            Chunk { taps: tap..taps.min(tap + Self::CHUNK / units), units: 0..units }
        } else {
            Chunk { taps: tap..taps.min(tap + 1), units: unit..units.min(unit + Self::CHUNK) }
        }
    }

    /// Stages the chunk of the first `rows` rows.
    ///
    /// # Safety
    /// As [`Self::run`].
    #[inline(always)]
    unsafe fn stage(&self, rows: usize) {
        let (tile, chunk) = (self.tile, &self.chunk);
        let first = chunk.units.start * A::STEP;
        let count = (chunk.units.end * A::STEP).min(tile.kc) - first;
        let run = chunk.units.len() * A::STEP;
        for row in 0..rows {
            let mut staged = 0;
            while staged < chunk.taps.len() {
                // SAFETY: `runs` has `ROWS` entries per tap, each readable for `kc` elements rounded up to a unit; a
                // chunk fits a staged row.
                unsafe {
                    let runs = tile.runs.add((chunk.taps.start + staged) * ROWS + row);
                    let (from, to) = ((*runs).add(first * A::X_BYTES), self.x.add(row * Self::STRIDE + staged * run));
                    // Short taps that lie side by side, in memory and staged, are one run.
                    let mut taps = 1;
                    if run == tile.kc && run * A::X_BYTES < 64 {
                        let end = |taps: usize| from.wrapping_add(taps * run * A::X_BYTES);
                        while staged + taps < chunk.taps.len() && *runs.add(taps * ROWS) == end(taps) {
                            taps += 1;
                        }
                    }
                    A::stage(from, to, (taps - 1) * run + count);
                    staged += taps;
                }
            }
        }
    }

    /// Multiplies the staged chunk into the sums of all columns; a column is one part of a block.
    ///
    /// # Safety
    /// As [`Self::run`]; unless this is the first chunk, the sums hold those before.
    #[inline(always)]
    unsafe fn dense<const R: usize, const P: usize>(&self) {
        let columns = self.tile.channels.div_ceil(Self::BLOCK) * A::PARTS;
        let mut column = 0;
        // SAFETY: the columns exist.
        unsafe {
            while column + P <= columns {
                self.columns::<R, P>(column);
                column += P;
            }
            while column < columns {
                self.columns::<R, 1>(column);
                column += 1;
            }
        }
    }

    /// Asks for the lines that a block will be written to, where products are too few to hide the wait for them.
    ///
    /// # Safety
    /// As [`Self::run`]; the tile has at most `R` rows.
    #[inline(always)]
    unsafe fn fetch_outputs<const R: usize>(&self, block: usize) {
        let tile = self.tile;
        if A::FLOAT && A::LANES == 16 && tile.kc <= 64 && tile.taps == 1 {
            for row in 0..R.min(tile.rows) {
                // SAFETY: the row exists; fetching ahead touches nothing, whatever the address.
                unsafe {
                    let y = (*tile.y.add(row)).wrapping_add(block * Self::BLOCK * A::X_BYTES);
                    _mm_prefetch::<_MM_HINT_T0>(y.cast_const().cast());
                }
            }
        }
    }

    /// All columns of dense weights, on rows where they lie in memory.
    ///
    /// # Safety
    /// As [`Self::run`]; staging would change nothing.
    #[inline(always)]
    unsafe fn dense_in_place<const R: usize, const P: usize>(&self) {
        let columns = self.tile.channels.div_ceil(Self::BLOCK) * A::PARTS;
        let mut column = 0;
        // SAFETY: the columns exist.
        unsafe {
            // Four are two and two, not three and one.
            while column + P <= columns && (P != 3 || column + 4 != columns) {
                self.columns_in_place::<R, P>(column);
                column += P;
            }
            while P > 2 && column + 2 <= columns {
                self.columns_in_place::<R, 2>(column);
                column += 2;
            }
            while column < columns {
                self.columns_in_place::<R, 1>(column);
                column += 1;
            }
        }
    }

    /// A panel of the next channels' weights, which the same pixels need when this unit is done: it is asked for a line a turn, to
    /// wait in the L2 cache. The first tiles of a unit ask for three panels each.
    #[inline(always)]
    fn later(&self, column: usize) -> *const u8 {
        let tile = self.tile;
        let panels = tile.channels.div_ceil(Self::BLOCK);
        let panel = (tile.hint as usize / 4).saturating_mul(3) + column / 3;
        tile.weights.wrapping_add(if panel < panels { (panels + panel) * tile.panel_stride } else { 0 })
    }

    /// `C` columns on rows in memory.
    ///
    /// # Safety
    /// As [`Self::dense_in_place`]; the columns exist.
    #[inline(always)]
    unsafe fn columns_in_place<const R: usize, const C: usize>(&self, column: usize) {
        let tile = self.tile;
        // SAFETY: the caller's promise; `runs` has `ROWS` entries per tap, each readable for `kc` elements.
        unsafe {
            let mut weights = [tile.weights; C];
            for (c, weights) in weights.iter_mut().enumerate() {
                let (panel, part) = ((column + c) / A::PARTS, (column + c) % A::PARTS);
                *weights = tile.weights.add(panel * tile.panel_stride + part * A::PART_BYTES);
            }
            let mut later = self.later(column);
            let mut held = Held::<A, R, C>::new(tile, column, true);
            for tap in 0..tile.taps {
                let rows: [*const A::X; R] = core::array::from_fn(|row| (*tile.runs.add(tap * ROWS + row)).cast());
                for n in 0..tile.kc {
                    fetch_ahead(weights.map(|weights| weights.wrapping_add(n * A::UNIT_BYTES)));
                    // Narrower vectors take their time, and gain nothing.
                    if A::LANES == 16 {
                        _mm_prefetch::<_MM_HINT_T1>(later.wrapping_add(n * A::UNIT_BYTES).cast());
                    }
                    held.multiply_add_rows(rows.map(|row| row.add(n)), weights, n);
                }
                later = later.wrapping_add(tile.kc * A::UNIT_BYTES);
                weights = weights.map(|weights| weights.add(tile.kc * A::UNIT_BYTES));
            }
            self.put(held, column);
        }
    }

    /// `C` columns of dense weights.
    ///
    /// # Safety
    /// As [`Self::dense`]; the columns exist.
    #[inline(always)]
    unsafe fn columns<const R: usize, const C: usize>(&self, column: usize) {
        let (tile, chunk) = (self.tile, &self.chunk);
        let before = chunk.taps.start * tile.kc.div_ceil(A::STEP) + chunk.units.start;
        let units = chunk.taps.len() * chunk.units.len();
        // SAFETY: the caller's promise.
        unsafe {
            let mut weights = [tile.weights; C];
            for (c, weights) in weights.iter_mut().enumerate() {
                let (panel, part) = ((column + c) / A::PARTS, (column + c) % A::PARTS);
                *weights = tile.weights.add(panel * tile.panel_stride + before * A::UNIT_BYTES + part * A::PART_BYTES);
            }
            let mut held = Held::<A, R, C>::new(tile, column, self.first);
            for n in 0..units {
                fetch_ahead(weights.map(|weights| weights.wrapping_add(n * A::UNIT_BYTES)));
                held.multiply_add(self.x.add(n * A::STEP), Self::STRIDE, weights, n);
            }
            self.put(held, column);
        }
    }

    /// Sums of some columns to the output, if that is all, or to the buffer.
    ///
    /// # Safety
    /// As [`Self::dense`]; the columns exist.
    #[inline(always)]
    unsafe fn put<const R: usize, const C: usize>(&self, held: Held<A, R, C>, column: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.direct {
                A::finish(&held.rows, self.tile, column);
            } else {
                held.store(column, self.sums, self.first);
            }
        }
    }

    /// Notes where each block's weights and positions start.
    ///
    /// # Safety
    /// As [`Self::run`].
    #[inline(always)]
    unsafe fn start(&mut self) {
        let tile = self.tile;
        let mut at = 0;
        for block in 0..tile.channels.div_ceil(Self::BLOCK) {
            // SAFETY: there is a cursor for every block, and a count for every block and tap.
            unsafe {
                self.cursors.add(block).write(Cursor { at, left: 0 });
                for tap in 0..tile.taps {
                    at += usize::from(*tile.counts.add(block * tile.taps + tap));
                }
            }
        }
    }

    /// Multiplies the staged chunk into the sums of all blocks, and moves the cursors behind it.
    ///
    /// # Safety
    /// As [`Self::dense`].
    #[inline(always)]
    unsafe fn sparse<const R: usize, const P: usize>(&mut self) {
        for block in 0..self.tile.channels.div_ceil(Self::BLOCK) {
            // SAFETY: block and parts exist.
            unsafe {
                let cursor = self.cursors.add(block);
                let mut after = *cursor;
                self.fetch_outputs::<R>(block + 1);
                for part in (0..A::PARTS).step_by(P) {
                    after = self.kept::<R, P>(block, part, *cursor);
                }
                *cursor = after;
            }
        }
    }

    /// `P` parts of a sparse block, whose cursor stands behind the chunks before; returns it behind this one.
    ///
    /// # Safety
    /// As [`Self::dense`]; the parts exist.
    #[inline(always)]
    unsafe fn kept<const R: usize, const P: usize>(&self, block: usize, part: usize, mut cursor: Cursor) -> Cursor {
        let (tile, chunk) = (self.tile, &self.chunk);
        // SAFETY: the caller's promise.
        unsafe {
            let mut held = Held::<A, R, P>::new(tile, block * A::PARTS + part, self.first);
            for (n, tap) in chunk.taps.clone().enumerate() {
                let kept = self.advance((block, tap), &mut cursor);
                let mut weights = [tile.weights; P];
                for (p, weights) in weights.iter_mut().enumerate() {
                    *weights = tile.weights.add(kept.start * A::UNIT_BYTES + (part + p) * A::PART_BYTES);
                }
                let positions = tile.positions.add(kept.start);
                // Elements from a unit to the next, and from a row.
                let (unit, row) =
                    if Self::turns(R) { (turned::PITCH * A::STEP, A::STEP) } else { (A::STEP, Self::STRIDE) };
                // Positions count from the tap's first unit, the staged run from the chunk's.
                let x = self.x.add(n * chunk.units.len() * unit).wrapping_sub(chunk.units.start * unit);
                for n in 0..kept.len() {
                    let mut x = x.wrapping_add(usize::from(*positions.add(n)) * unit);
                    if !Self::turns(R) {
                        // One sum, which the compiler would make anew in the address of each row's multiply-add.
                        core::arch::asm!("/* {0} */", inout(reg) x, options(pure, readonly, nostack, preserves_flags));
                        fetch_ahead(weights.map(|weights| weights.wrapping_add(n * A::UNIT_BYTES)));
                    }
                    held.multiply_add(x, row, weights, n);
                }
            }
            self.put(held, block * A::PARTS + part);
        }
        cursor
    }

    /// All blocks of sparse weights, on rows where they lie in memory.
    ///
    /// # Safety
    /// As [`Self::dense_in_place`].
    #[inline(always)]
    unsafe fn sparse_in_place<const R: usize, const P: usize>(&self) {
        let tile = self.tile;
        let mut at = 0;
        for block in 0..tile.channels.div_ceil(Self::BLOCK) {
            let mut end = at;
            for part in (0..A::PARTS).step_by(P) {
                // SAFETY: block and parts exist.
                end = unsafe { self.kept_in_place::<R, P>(block, part, at) };
            }
            at = end;
        }
    }

    /// `P` parts of a sparse block, whose first kept unit of the tile is `at`; returns the next block's.
    ///
    /// # Safety
    /// As [`Self::sparse_in_place`]; the parts exist.
    #[inline(always)]
    unsafe fn kept_in_place<const R: usize, const P: usize>(&self, block: usize, part: usize, mut at: usize) -> usize {
        let tile = self.tile;
        // SAFETY: the caller's promise; there is a count for every block and tap, and so many positions, each inside the
        // tap's runs.
        unsafe {
            let mut held = Held::<A, R, P>::new(tile, block * A::PARTS + part, true);
            for tap in 0..tile.taps {
                let rows: [*const A::X; R] = core::array::from_fn(|row| (*tile.runs.add(tap * ROWS + row)).cast());
                let weights: [*const u8; P] =
                    core::array::from_fn(|p| tile.weights.add(at * A::UNIT_BYTES + (part + p) * A::PART_BYTES));
                let count = usize::from(*tile.counts.add(block * tile.taps + tap));
                for n in 0..count {
                    let position = usize::from(*tile.positions.add(at + n));
                    held.multiply_add_rows(rows.map(|row| row.add(position * A::STEP)), weights, n);
                }
                at += count;
            }
            self.put(held, block * A::PARTS + part);
        }
        at
    }

    /// The kept units of one tap in the chunk; moves the cursor behind them.
    ///
    /// # Safety
    /// As [`Self::run`]; the tap is one of the chunk's.
    #[inline(always)]
    unsafe fn advance(&self, (block, tap): (usize, usize), cursor: &mut Cursor) -> Range<usize> {
        let (tile, chunk) = (self.tile, &self.chunk);
        if chunk.units.start == 0 {
            // SAFETY: there is a count for every block and tap.
            cursor.left = usize::from(unsafe { *tile.counts.add(block * tile.taps + tap) });
        }
        let mut count = cursor.left;
        if chunk.units.end * A::STEP < tile.kc {
            // SAFETY: the tap has `left` more positions, which increase.
            let positions = unsafe { core::slice::from_raw_parts(tile.positions.add(cursor.at), cursor.left) };
            count = positions.partition_point(|&position| usize::from(position) < chunk.units.end);
        }
        cursor.left -= count;
        cursor.at += count;
        cursor.at - count..cursor.at
    }

    /// Writes the outputs of a tile computed in `R` rows.
    ///
    /// # Safety
    /// As [`Self::run`]; the sums are complete.
    #[inline(always)]
    unsafe fn finish<const R: usize>(&self) {
        let tile = self.tile;
        for block in 0..tile.channels.div_ceil(Self::BLOCK) {
            let sums = self.sums.wrapping_add(block * R * Self::BLOCK);
            // SAFETY: the block's first channel exists.
            unsafe { Self::finish_block(tile, block, sums) };
        }
    }

    /// Writes a block of a tile, `sums` being `[rows][channels of a block]`.
    ///
    /// # Safety
    /// As [`Self::finish`]; the block exists.
    #[inline(always)]
    unsafe fn finish_block(tile: &Tile, block: usize, sums: *const u32) {
        let last = Last {
            y: tile.y,
            residual: tile.residual,
            bias: if A::BIASED { core::ptr::null() } else { tile.bias },
            scale: tile.scale,
            slopes: tile.slopes,
            channels: tile.channels,
            rows: tile.rows,
            epilogue: &tile.epilogue,
        };
        // SAFETY: the caller's promise.
        unsafe {
            if A::FLOAT {
                I::finish::<A::Block, true>(&last, block * Self::BLOCK, sums);
            } else {
                I::finish::<A::Block, false>(&last, block * Self::BLOCK, sums);
            }
        }
    }
}

/// Bytes between staged pixels of a strip of int8: one of few, as rows are addressed by constants.
fn pitch(kc: usize) -> usize {
    match kc {
        0..=16 => 16,
        17..=64 => 64,
        _ => 128,
    }
}

/// Bytes from a staged line of `rows` windows, each `step` bytes behind the one before, to the next.
const fn line(step: usize, kc: usize, rows: usize) -> usize {
    ((rows - 1) * step + kc + 3).next_multiple_of(32)
}

/// Asks for the weights some units on; what lies past their end is not read.
#[inline(always)]
fn fetch_ahead<const C: usize>(weights: [*const u8; C]) {
    for weights in weights {
        // SAFETY: fetching ahead reads nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD).cast()) };
    }
}

/// Sums in registers: `R` rows by `C` columns.
struct Held<A: Arithmetic, const R: usize, const C: usize> {
    rows: [[A::Sums; C]; R],
}

impl<A: Arithmetic, const R: usize, const C: usize> Held<A, R, C> {
    /// # Safety
    /// The CPU has `A`'s features; the columns exist.
    #[inline(always)]
    unsafe fn new(tile: &Tile, column: usize, first: bool) -> Self {
        // SAFETY: the caller's promise; the bias is readable for every block.
        unsafe {
            let mut held = Self { rows: [[A::begin(core::ptr::null()); C]; R] };
            if A::BIASED && first {
                let bias = if A::RAISED { tile.room.cast_const() } else { tile.bias };
                for row in 0..R {
                    for c in 0..C {
                        held.rows[row][c] = A::begin(bias.add((column + c) * A::LANES * 4));
                    }
                }
            }
            held
        }
    }

    /// Multiplies unit `n` of the weights with the unit of each row that begins at `x`.
    ///
    /// # Safety
    /// The CPU has `A`'s features; weights and staged rows are there.
    #[inline(always)]
    unsafe fn multiply_add(&mut self, x: *const A::X, stride: usize, weights: [*const u8; C], n: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.multiply_add_rows(core::array::from_fn(|row| x.wrapping_add(row * stride)), weights, n) }
    }

    /// The same with the unit of each row anywhere.
    ///
    /// # Safety
    /// As [`Self::multiply_add`].
    #[inline(always)]
    unsafe fn multiply_add_rows(&mut self, x: [*const A::X; R], weights: [*const u8; C], n: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut unit = [A::weights(weights[0].add(n * A::UNIT_BYTES)); C];
            for c in 1..C {
                unit[c] = A::weights(weights[c].add(n * A::UNIT_BYTES));
            }
            for row in 0..R {
                for c in 0..C {
                    self.rows[row][c] = A::multiply_add(self.rows[row][c], x[row], unit[c]);
                }
            }
        }
    }

    /// Stores the sums, `[blocks][R][channels of a block]`, or adds them to those of the chunks before.
    ///
    /// # Safety
    /// The CPU has `A`'s features; `sums` has a place for the columns.
    #[inline(always)]
    unsafe fn store(self, column: usize, sums: *mut u32, first: bool) {
        let block = A::PARTS * A::LANES;
        for c in 0..C {
            let (panel, part) = ((column + c) / A::PARTS, (column + c) % A::PARTS);
            for row in 0..R {
                // SAFETY: the caller's promise.
                unsafe { A::store(self.rows[row][c], sums.add((panel * R + row) * block + part * A::LANES), !first) };
            }
        }
    }
}

/// Whether a call's sparse blocks keep so many units on average.
fn keeps(call: &Call, units: usize) -> bool {
    index(call).is_some_and(|index| index.positions.len() >= units * (index.starts.len() - 1))
}

/// Whether they keep so many that tiles of 28 rows are faster than those of 14, which fill less of L1: 60, and a third of all.
fn keeps_much(call: &Call) -> bool {
    let p: &ConvParams = call.params();
    keeps(call, (p.kh as usize * p.kw as usize * p.kc as usize / 3).max(60))
}

/// Kernels of one catalogue: the channels of a tile, how many such may be merged, and the channels of a block; the rows of a
/// tile and the lines staged of each; `R x P`, the parts at a time for tiles of up to so many rows; what else they want of a
/// call.
macro_rules! catalogue {
    ($(#[$doc:meta])* $catalogue:ident, $isa:ty, $requires:expr, $features:literal;
     $($name:literal, $micro:ident, $layout:ident, $channels:literal $(x $merged:literal)? / $block:literal, $arithmetic:ty, $sparse:literal, $rows:literal x $lines:literal: $($r:literal x $p:literal),+ $(, strips x $ps:literal)? $(, if $wants:path)?;)*) => {
        $(
            struct $micro;

            impl $micro {
                /// # Safety
                /// As [`Micro::tile`].
                #[target_feature(enable = $features)]
                unsafe fn run(tile: &Tile, buffers: &mut Buffers) {
                    // SAFETY: the caller's promise.
                    unsafe {
                        match tile.rows {
                            $(..=$r => Work::<$isa, $arithmetic, $rows, $lines, $sparse>::run::<$r, $p>(tile, buffers),)+
                            _ => unreachable!("a tile has no more rows"),
                        }
                    }
                }

                /// # Safety
                /// As [`Input::Strip`].
                #[target_feature(enable = $features)]
                unsafe fn strip(tile: &Tile, strip: &Strip, buffers: &mut Buffers) {
                    const PARTS: usize = 0 $(+ $ps)?;
                    // SAFETY: the caller's promise.
                    unsafe { Work::<$isa, $arithmetic, $rows, $lines, $sparse>::strip::<PARTS>(tile, strip, buffers) }
                }
            }

            impl Micro for $micro {
                const ROWS: usize = $rows;
                const PANELS: usize = $channels / $block;
                $(const MERGED: usize = $merged;)?
                const STRIPS: Option<fn(&ConvParams) -> bool> =
                    if 0 $(+ $ps)? > 0 { Some(Work::<$isa, $arithmetic, $rows, $lines, $sparse>::takes) } else { None };

                #[target_feature(enable = $features)]
                unsafe fn prepare(tile: &Tile) -> u32 {
                    // SAFETY: the caller's promise.
                    unsafe { Work::<$isa, $arithmetic, $rows, $lines, $sparse>::prepare::<true>(tile) }
                }

                #[inline(always)]
                unsafe fn tiles(tile: &mut Tile, mut next: impl FnMut(&mut Tile) -> Option<Input>) {
                    let mut buffers = Buffers::NEW;
                    while let Some(input) = next(tile) {
                        // SAFETY: the caller's promise.
                        unsafe {
                            match input {
                                Input::Runs => Self::run(tile, &mut buffers),
                                Input::Strip(strip) => Self::strip(tile, &strip, &mut buffers),
                            }
                        }
                        // Above the bits of `Arithmetic::hint` and `float_bits`, how many there were.
                        tile.hint += 4;
                    }
                }
            }
        )*

        $(#[$doc])*
        pub(crate) const $catalogue: &[Kernel] = &[$(Kernel {
            name: $name,
            op: Op::Conv,
            requires: $requires,
            accepts: |call| accepts(call, $rows, Layout::$layout) $(&& $wants(call))?,
            units: units::<$micro>,
            run: drive::<$micro>,
        }),*];
    };
}

catalogue! {
    /// Convolutions with AVX2: 16 vector registers hold 12 sums.
    AVX2_CATALOGUE, Avx2, AVX2, "avx2,fma,f16c";
    "conv_f32_b16_avx2", ConvF32Avx2, DenseF32, 64 / 16, F32<Wide>, false, 6 x 17: 1 x 4, 3 x 2, 6 x 1;
    "conv_f16_b16_avx2", ConvF16Avx2, DenseF16, 64 / 16, F16<Wide>, false, 6 x 17: 1 x 4, 3 x 2, 6 x 1;
    "conv_i8_b16_avx2", ConvI8Avx2, DenseI8, 128 / 16, I8Avx2<Wide, 2>, false, 6 x 33: 1 x 4, 3 x 2, 6 x 1;
    "spconv_f32_b16_avx2", SpconvF32B16Avx2, SparseF32B16, 128 / 16, F32<Wide>, true, 6 x 65: 1 x 1, 3 x 1, 6 x 1;
    "spconv_f32_b8_avx2", SpconvF32B8Avx2, SparseF32B8, 128 / 8, F32<V8>, true, 12 x 41: 1 x 1, 6 x 1, 12 x 1;
    "spconv_f32_b4_avx2", SpconvF32B4Avx2, SparseF32B4, 128 / 4, F32<V4>, true, 12 x 41: 1 x 1, 6 x 1, 12 x 1;
    "spconv_f16_b16_avx2", SpconvF16B16Avx2, SparseF16B16, 128 / 16, F16<Wide>, true, 6 x 65: 1 x 1, 3 x 1, 6 x 1;
    "spconv_f16_b8_avx2", SpconvF16B8Avx2, SparseF16B8, 128 / 8, F16<V8>, true, 12 x 41: 1 x 1, 6 x 1, 12 x 1;
    "spconv_f16_b4_avx2", SpconvF16B4Avx2, SparseF16B4, 128 / 4, F16<V4>, true, 12 x 41: 1 x 1, 6 x 1, 12 x 1;
    "spconv_i8_b16_avx2", SpconvI8B16Avx2, SparseI8B16, 128 / 16, I8Avx2<Wide, 2>, true, 6 x 65: 1 x 2, 3 x 2, 6 x 1;
    "spconv_i8_b8_avx2", SpconvI8B8Avx2, SparseI8B8, 128 / 8, I8Avx2<V8, 2>, true, 6 x 65: 1 x 1, 3 x 1, 6 x 1;
    "spconv_i8_b4_avx2", SpconvI8B4Avx2, SparseI8B4, 128 / 4, I8Avx2<V4, 1>, true, 12 x 41: 1 x 1, 6 x 1, 12 x 1;
}

catalogue! {
    /// Convolutions with AVX-512: 32 vector registers hold 24 sums.
    AVX512_CATALOGUE, Avx512, AVX512, "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl";
    "conv_f32_b16_avx512", ConvF32Avx512, DenseF32, 128 / 16, F32<V16>, false, 7 x 33: 1 x 8, 4 x 4, 7 x 3;
    "conv_f16_b16_avx512", ConvF16Avx512, DenseF16, 128 / 16, F16<V16>, false, 14 x 33: 1 x 8, 7 x 4, 14 x 2;
    "spconv28_f32_b16_avx512", Spconv28F32B16Avx512, SparseF32B16, 128 x 4 / 16, F32<V16>, true, 28 x 33: 1 x 1, 7 x 1, 14 x 1, 21 x 1, 28 x 1, if keeps_much;
    "spconv28_f16_b16_avx512", Spconv28F16B16Avx512, SparseF16B16, 128 x 4 / 16, F16<V16>, true, 28 x 33: 1 x 1, 7 x 1, 14 x 1, 21 x 1, 28 x 1, if keeps_much;
    "spconv_f32_b16_avx512", SpconvF32B16Avx512, SparseF32B16, 128 x 4 / 16, F32<V16>, true, 14 x 33: 1 x 1, 7 x 1, 14 x 1;
    "spconv_f16_b16_avx512", SpconvF16B16Avx512, SparseF16B16, 128 x 4 / 16, F16<V16>, true, 14 x 33: 1 x 1, 7 x 1, 14 x 1;
}

catalogue! {
    /// Integer convolutions with AVX-512 VNNI.
    VNNI_CATALOGUE, Avx512, VNNI, "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni";
    "conv_i8_b16_avx512vnni", ConvI8Vnni, DenseI8, 128 x 4 / 16, I8Vnni<V16>, false, 14 x 33: 1 x 8, 7 x 4, 14 x 2, strips x 2;
    "spconv_i8_b16_avx512vnni", SpconvI8B16Vnni, SparseI8B16, 128 x 4 / 16, I8Vnni<V16>, true, 28 x 33: 1 x 1, 7 x 1, 14 x 1, 21 x 1, 28 x 1;
    "spconv_i8_b8_avx512vnni", SpconvI8B8Vnni, SparseI8B8, 128 x 4 / 8, I8Vnni<V8>, true, 14 x 33: 1 x 1, 7 x 1, 14 x 1;
    "spconv_i8_b4_avx512vnni", SpconvI8B4Vnni, SparseI8B4, 128 x 4 / 4, I8Vnni<V4>, true, 14 x 33: 1 x 1, 7 x 1, 14 x 1;
}
