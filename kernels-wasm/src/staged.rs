//! int8 convolutions for engines of x86: the inputs of a tile are copied once, as words its loop can use as they are.
//!
//! Such an engine has 15 vector registers, about ten general ones, and takes an address of one register and a constant. So
//! the rows of a tile are copied to one place, at a constant distance, and a step of `R` pixels by `A` accumulators reads
//! them all from one address:
//!
//! ```text
//! weights [unit][BLOCK channels][4 bytes]      copied, PITCH bytes a row, each unit a word
//!   unit 0  c0-3 c4-7 | c8-11 c12-15             row 0   x0-3   x4-7   ...
//!   unit 1  ...                                  row 1   x0-3   x4-7   ...
//! step:  s[r][a] += weights a * word of row r, for 6 rows and 2 accumulators
//! ```
//!
//! What else the copy does is the word's business ([`Staged`]): it adds 128 where the dot takes unsigned inputs, and widens
//! to 16 bits where products are of such. A tile has up to 512 channels, which share the copy. Runs longer than `CHUNK` units
//! go in pieces, whose sums wait in memory.

use crate::conv::{common, rest};
use crate::engine::Staged;
use crate::epilogue::Common;
use crate::simd::{load, store};
use core::arch::wasm32::*;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;
use sparrow_kernels::conv::{Micro, ROOM, Tile};

/// Units of a row copied at once.
const CHUNK: usize = 256;
/// Channels of a tile: what [`Tile::room`] has words for.
const CHANNELS: usize = ROOM / 4;
/// Most rows of a tile.
const MOST_ROWS: usize = 12;
/// Greatest word.
const MOST_WORD: usize = 8;

/// The tile: steps of `R` pixels by `A` accumulators, and for the last pixels of two by `TAIL`; blocks of `BLOCK` channels.
pub struct Tiled<E, const R: usize, const A: usize, const TAIL: usize, const BLOCK: usize, const SPARSE: bool>(
    PhantomData<E>,
);

/// Units `units` of the taps `taps`: several whole taps, or a piece of one.
#[derive(Clone)]
struct Chunk {
    taps: Range<usize>,
    units: Range<usize>,
}

/// Where a block goes on.
#[derive(Clone, Copy)]
struct Cursor {
    weights: *const u8,
    positions: *const u16,
    /// Positions left of a tap that goes in pieces.
    left: usize,
    /// Those in this piece.
    here: usize,
}

/// What the steps of a tile share. It is read again for each: what is kept across a step's loop takes the engine's registers
/// from the sums.
struct Shared<'a> {
    tile: &'a Tile,
    common: Option<Common>,
    chunk: Chunk,
    /// Bytes of a copied row.
    length: usize,
    /// Whether sums begin, and end, in this chunk.
    begin: bool,
    end: bool,
    words: *const u8,
    /// `[row][CHANNELS]`: sums between chunks.
    partial: *mut u8,
}

/// Bytes from a copied row to the next: no multiple of the distance at which lines share a set of a cache.
const fn pitch<E: Staged>() -> usize {
    CHUNK * E::WORD + 64
}

impl Shared<'_> {
    /// Copies the chunk of every row that is computed, of the tile's `rows`.
    ///
    /// # Safety
    /// As [`Micro::tile`]; `to` has room for `CHUNK` units of each.
    #[inline(never)]
    unsafe fn copy<E: Staged>(&self, (rows, computed): (usize, usize), to: *mut u8) {
        let Chunk { taps, units } = self.chunk.clone();
        let bytes = units.len() * 4;
        for (n, tap) in taps.enumerate() {
            for row in 0..computed {
                let mut to = to.wrapping_add(row * pitch::<E>() + n * units.len() * E::WORD);
                // SAFETY: the run has these units, and `to` a place for each.
                unsafe {
                    let from = (*self.tile.runs.add(tap * rows + row)).add(units.start * 4);
                    if bytes < 16 {
                        for at in (0..bytes).step_by(4) {
                            E::copy4(from.add(at), to);
                            to = to.add(E::WORD);
                        }
                        continue;
                    }
                    let mut at = 0;
                    while at + 16 < bytes {
                        E::copy16(from.add(at), to);
                        (at, to) = (at + 16, to.add(4 * E::WORD));
                    }
                    // The last 16 bytes, of which some may be there already.
                    E::copy16(from.add(bytes - 16), to.sub((at + 16 - bytes) / 4 * E::WORD));
                }
            }
        }
    }

    /// Ends `rows` rows of sums the general way, `vectors` of them from `channel`, or keeps them for the next chunk.
    ///
    /// # Safety
    /// As [`Micro::tile`]; the tile has these rows, and the channel.
    #[inline(never)]
    unsafe fn rest(&self, sums: &[v128], (row, rows): (usize, usize), (channel, vectors): (usize, usize)) {
        if self.end {
            let whole = self.tile.channels >= channel + 4 * vectors;
            let common = if whole { &self.common } else { &None };
            // SAFETY: the caller's promise.
            return unsafe { rest(self.tile, common, true, sums, (row, rows), (channel, vectors)) };
        }
        for (row, sums) in (row..).zip(sums.chunks_exact(sums.len() / rows)) {
            for (n, &sum) in sums[..vectors].iter().enumerate() {
                // SAFETY: `partial` has these rows and channels.
                unsafe { store(self.partial.add((row * CHANNELS + channel + 4 * n) * 4), sum) };
            }
        }
    }
}

impl<E: Staged, const R: usize, const A: usize, const TAIL: usize, const BLOCK: usize, const SPARSE: bool> Micro
    for Tiled<E, R, A, TAIL, BLOCK, SPARSE>
{
    const ROWS: usize = Self::TILE;
    const PANELS: usize = CHANNELS / BLOCK;

    /// Leaves in `room` what sums begin with: the bias, less 128 times the sum of the weights if inputs are 128 too great.
    unsafe fn prepare(tile: &Tile) -> u32 {
        let mut weights = tile.weights;
        for block in 0..tile.channels.div_ceil(BLOCK) {
            // Two sets of sums, or each dot would wait for the last.
            let (mut sums, mut others) = ([i32x4_splat(0); 4], [i32x4_splat(0); 4]);
            // SAFETY: the block has these units and biases; `room` has `CHANNELS` words.
            unsafe {
                let units =
                    if SPARSE { Self::kept(tile, block, 0..tile.taps) } else { tile.taps * tile.kc.div_ceil(4) };
                let add = |sums: &mut [v128; 4], unit: usize| {
                    for (n, sum) in sums[..BLOCK / 4].iter_mut().enumerate() {
                        *sum = E::step(*sum, load(weights.add(unit * Self::UNIT + 16 * n)), u8x16_splat(128));
                    }
                };
                if E::CENTRE {
                    for unit in (1..units).step_by(2) {
                        add(&mut sums, unit - 1);
                        add(&mut others, unit);
                    }
                    if units % 2 == 1 {
                        add(&mut sums, units - 1);
                    }
                }
                weights = weights.add(if SPARSE { units * Self::UNIT } else { tile.panel_stride });
                for n in 0..BLOCK / 4 {
                    let at = (block * BLOCK + 4 * n) * 4;
                    let sum = i32x4_add(sums[n], others[n]);
                    store(tile.room.add(at), i32x4_sub(load(tile.bias.add(at)), sum));
                }
            }
        }
        0
    }

    unsafe fn tile(tile: &Tile) {
        const { assert!(Self::TILE <= MOST_ROWS && E::WORD <= MOST_WORD) };
        let mut words = [const { MaybeUninit::<u8>::uninit() }; MOST_ROWS * (CHUNK * MOST_WORD + 64)];
        let mut partial = [const { MaybeUninit::<u8>::uninit() }; MOST_ROWS * CHANNELS * 4];
        let mut shared = Shared {
            tile,
            common: common::<E>(tile, true),
            chunk: Chunk { taps: 0..0, units: 0..0 },
            length: 0,
            begin: true,
            end: false,
            words: words.as_ptr().cast(),
            partial: partial.as_mut_ptr().cast(),
        };
        let mut cursors = [const { MaybeUninit::uninit() }; CHANNELS / 4];
        let cursors = &mut cursors[..tile.channels.div_ceil(BLOCK)];
        // SAFETY: the caller's promise.
        unsafe { Self::cursors(tile, cursors) };
        let ku = tile.kc.div_ceil(4);
        let (taps, units) = if ku <= CHUNK { (CHUNK / ku, ku) } else { (1, CHUNK) };
        let (mut tap, mut unit) = (0, 0);
        while !shared.end {
            shared.chunk = Chunk { taps: tap..(tap + taps).min(tile.taps), units: unit..(unit + units).min(ku) };
            shared.length = shared.chunk.taps.len() * shared.chunk.units.len() * E::WORD;
            unit = shared.chunk.units.end % ku;
            if unit == 0 {
                tap = shared.chunk.taps.end;
            }
            shared.end = tap == tile.taps;
            // SAFETY: the runs have these units, and `words` has room for `CHUNK` units of every row; the rest is the
            // caller's promise.
            unsafe {
                shared.copy::<E>((Self::TILE, Self::computed(tile)), words.as_mut_ptr().cast());
                for (block, cursor) in cursors.iter_mut().enumerate() {
                    Self::block(&shared, cursor.assume_init_mut(), block);
                }
            }
            shared.begin = false;
        }
    }
}

impl<E: Staged, const R: usize, const A: usize, const TAIL: usize, const BLOCK: usize, const SPARSE: bool>
    Tiled<E, R, A, TAIL, BLOCK, SPARSE>
{
    /// Pixels of a tile.
    const TILE: usize = if 2 * R > MOST_ROWS { R } else { 2 * R };
    /// Bytes of a unit's weights.
    const UNIT: usize = BLOCK * 4;
    /// Most rows beyond a multiple of `R` for which steps of two are less work.
    const FEW: usize = if A == TAIL { 2 } else { R - 2 };

    /// Rows that are computed.
    fn computed(tile: &Tile) -> usize {
        let rest = tile.rows % R;
        tile.rows - rest + if rest <= Self::FEW { rest.next_multiple_of(2) } else { R }
    }

    /// Kept units of these taps.
    ///
    /// # Safety
    /// The block and the taps exist.
    unsafe fn kept(tile: &Tile, block: usize, taps: Range<usize>) -> usize {
        // SAFETY: there is a count for every block and tap.
        taps.map(|tap| usize::from(unsafe { *tile.counts.add(block * tile.taps + tap) })).sum()
    }

    /// Where each block begins.
    ///
    /// # Safety
    /// As [`Micro::tile`].
    unsafe fn cursors(tile: &Tile, cursors: &mut [MaybeUninit<Cursor>]) {
        let mut next = Cursor { weights: tile.weights, positions: tile.positions, left: 0, here: 0 };
        for (block, cursor) in cursors.iter_mut().enumerate() {
            cursor.write(next);
            if SPARSE {
                // SAFETY: the block exists.
                let kept = unsafe { Self::kept(tile, block, 0..tile.taps) };
                next.weights = next.weights.wrapping_add(kept * Self::UNIT);
                next.positions = next.positions.wrapping_add(kept);
            } else {
                next.weights = next.weights.wrapping_add(tile.panel_stride);
            }
        }
    }

    /// All rows of a block in a chunk; moves the cursor behind it.
    ///
    /// # Safety
    /// As [`Micro::tile`]; the chunk is copied.
    #[inline(always)]
    unsafe fn block(shared: &Shared, cursor: &mut Cursor, block: usize) {
        let (tile, Chunk { taps, units }) = (shared.tile, shared.chunk.clone());
        // SAFETY: the block's first channel exists, and its weights and index have what the chunk needs.
        unsafe {
            let mut used = taps.len() * units.len();
            if SPARSE {
                if units.start == 0 {
                    cursor.left = Self::kept(tile, block, taps);
                }
                cursor.here = cursor.left;
                if units.end * 4 < tile.kc {
                    let positions = core::slice::from_raw_parts(cursor.positions, cursor.left);
                    cursor.here = positions.partition_point(|&position| usize::from(position) < units.end);
                }
                cursor.left -= cursor.here;
                used = cursor.here;
            }
            let (channels, computed) = (BLOCK.min(tile.channels - block * BLOCK), Self::computed(tile));
            let mut row = 0;
            while row + R <= computed {
                for c in (0..channels).step_by(A * E::LANES) {
                    Self::step::<R, A>(core::hint::black_box(shared), cursor, row, (block, c));
                }
                row += R;
            }
            while row < computed {
                for c in (0..channels).step_by(TAIL * E::LANES) {
                    Self::step::<2, TAIL>(core::hint::black_box(shared), cursor, row, (block, c));
                }
                row += 2;
            }
            cursor.weights = cursor.weights.add(used * Self::UNIT);
            cursor.positions = cursor.positions.wrapping_add(used);
        }
    }

    /// `R2` rows from `row` by `A2` accumulators from channel `c` of the block.
    ///
    /// # Safety
    /// As [`Self::block`]; the rows are computed and the channel exists.
    #[inline(always)]
    unsafe fn step<const R2: usize, const A2: usize>(
        shared: &Shared,
        cursor: &Cursor,
        row: usize,
        (block, c): (usize, usize),
    ) {
        let (tile, channel) = (shared.tile, block * BLOCK + c);
        let spread = 4 / E::LANES;
        let vectors = A2 / spread;
        let mut sums = [[i32x4_splat(0); A2]; R2];
        // SAFETY: `room`, `partial`, the words, weights and index have these rows, channels and units.
        unsafe {
            let partial = shared.partial.add((row * CHANNELS + channel) * 4);
            if shared.begin {
                for n in 0..vectors {
                    E::spread(load(tile.room.add((channel + 4 * n) * 4)), &mut sums[0][n * spread..]);
                }
                sums = [sums[0]; R2];
            } else {
                for r in 0..R2 {
                    for n in 0..vectors {
                        E::spread(load(partial.add((r * CHANNELS + 4 * n) * 4)), &mut sums[r][n * spread..]);
                    }
                }
            }
            let mut weights = cursor.weights.add(c * 4);
            let mut words = shared.words.add(row * pitch::<E>());
            if SPARSE {
                let Chunk { taps, units } = shared.chunk.clone();
                let mut positions = cursor.positions;
                let mut words = words.wrapping_sub(units.start * E::WORD);
                let whole = taps.len() > 1;
                for tap in taps {
                    let count = if whole { Self::kept(tile, block, tap..tap + 1) } else { cursor.here };
                    let end = positions.add(count);
                    while positions != end {
                        Self::unit(&mut sums, weights, words.wrapping_add(usize::from(*positions) * E::WORD));
                        weights = weights.add(Self::UNIT);
                        positions = positions.add(1);
                    }
                    words = words.wrapping_add(units.len() * E::WORD);
                }
            } else {
                let end = words.add(shared.length);
                while words != end {
                    Self::unit(&mut sums, weights, words);
                    weights = weights.add(Self::UNIT);
                    words = words.add(E::WORD);
                }
            }
            let plain = if tile.residual.is_null() && shared.end { shared.common.as_ref() } else { None };
            if let (Some(common), true) = (plain, tile.channels >= channel + 4 * vectors) {
                let scale: [v128; A2] =
                    core::array::from_fn(|n| load(tile.scale.add(channel + 4 * n.min(vectors - 1)).cast()));
                macro_rules! each {
                    ($($r:literal)*) => {$(
                        if $r < R2 {
                            let sums = sums[$r % R2];
                            let y = (*tile.y.add(row + $r)).add(channel);
                            common.plain(vectors, |n| E::gather(&sums[n * spread..]), |n| scale[n], y);
                        }
                    )*};
                }
                each!(0 1 2 3 4 5 6 7 8 9 10 11);
                return;
            }
            let gathered: [[v128; A2]; R2] =
                sums.map(|sums| core::array::from_fn(|n| E::gather(&sums[n.min(vectors - 1) * spread..])));
            shared.rest(gathered.as_flattened(), (row, R2), (channel, vectors));
        }
    }

    /// One unit, whose word lies at `words` of the first row.
    ///
    /// # Safety
    /// Weights and words exist.
    #[inline(always)]
    unsafe fn unit<const R2: usize, const A2: usize>(
        sums: &mut [[v128; A2]; R2],
        weights: *const u8,
        words: *const u8,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let w: [v128; A2] = core::array::from_fn(|a| E::weights(weights.add(a * E::LANES * 4)));
            for r in 0..R2 {
                let x = E::word(words.add(r * pitch::<E>()));
                for a in 0..A2 {
                    sums[r][a] = E::step(sums[r][a], w[a], x);
                }
            }
        }
    }
}
