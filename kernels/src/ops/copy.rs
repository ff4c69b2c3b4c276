//! Strided copies and fills: every movement of elements that computes nothing.
//!
//! A unit of a copy is one index of the outermost axis. Destinations never overlap (the check sees to that), so units
//! may run side by side. The last two axes make a plane: rows where both sides lie in one piece, else tiles, so that
//! transposing reads and writes every cache line once.

use super::shared::{BLOCK, output, results, units_of};
use crate::{Call, CopyParams, DType, Draft, Features, FillParams, Kernel, MAX_RANK, Op, Refusal, product};
use bytemuck::Pod;
use core::ops::Range;

/// Types of one byte.
pub(super) const BYTES: &[DType] = &[DType::I8, DType::U8, DType::Bool];

/// Refuses a copy that leaves its operands or writes an element twice, or looks up what are not bytes.
pub(super) fn check_copy(draft: &Draft) -> Result<(), Refusal> {
    let p: &CopyParams = draft.params()?;
    draft.at_most(2, 1)?;
    let (x, y) = (draft.input(0)?, draft.output(0)?);
    if x.dtype != y.dtype {
        return Err(Refusal::OperandType);
    }
    if let Some(table) = &draft.inputs[1] {
        table.expect(BYTES, 256)?;
        x.expect(BYTES, 0)?;
    }
    if product(&p.dims)? == 0 {
        return Ok(());
    }
    x.expect(&[x.dtype], end(p.src_offset, &p.dims, &p.src)?)?;
    y.expect(&[y.dtype], end(p.dst_offset, &p.dims, &p.dst)?)?;
    nests(&p.dims, &p.dst)
}

/// One past the greatest element reached; refuses a walk that goes below 0.
fn end(offset: u32, dims: &[u32; MAX_RANK], strides: &[i32; MAX_RANK]) -> Result<usize, Refusal> {
    let (mut low, mut high) = (i128::from(offset), i128::from(offset));
    for (&dim, &stride) in dims.iter().zip(strides) {
        let span = (i128::from(dim) - 1) * i128::from(stride);
        low += span.min(0);
        high += span.max(0);
    }
    if low < 0 { Err(Refusal::OutOfBounds) } else { usize::try_from(high + 1).map_err(|_| Refusal::Overflow) }
}

/// Refuses strides by which two indices could meet: from the smallest stride up, each must step over all below it.
fn nests(dims: &[u32; MAX_RANK], strides: &[i32; MAX_RANK]) -> Result<(), Refusal> {
    let mut axes = [(0u64, 1u64); MAX_RANK];
    for (axis, (&dim, &stride)) in axes.iter_mut().zip(dims.iter().zip(strides)) {
        if dim > 1 {
            *axis = (u64::from(u32::try_from(stride).map_err(|_| Refusal::Parameter)?), u64::from(dim));
        }
    }
    axes.sort_unstable();
    let mut extent = 1u64;
    for (stride, dim) in axes {
        if dim > 1 && stride < extent {
            return Err(Refusal::OutOfBounds);
        }
        extent = extent.saturating_add(stride.saturating_mul(dim - 1));
    }
    Ok(())
}

/// Number of units of a copy.
pub fn copy_units(call: &Call) -> usize {
    let p: &CopyParams = call.params();
    if p.dims.contains(&0) { 1 } else { p.dims[outermost(p)] as usize }
}

/// The first axis longer than 1.
fn outermost(p: &CopyParams) -> usize {
    p.dims.iter().position(|&dim| dim > 1).unwrap_or(MAX_RANK - 1)
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn copy<T: Pod>(call: &Call, units: Range<usize>) {
    let (src, dst) = (call.input(0).as_slice::<T>(), call.output(0).as_mut_ptr().cast::<T>());
    // SAFETY: `planes` promises what `plane` wants.
    planes(call, units, &|p, from, to, sizes| unsafe { plane((src, from), dst.offset(to), p, sizes) });
}

/// What is done to a plane: see [`planes`].
type Plane<'a> = dyn Fn(&CopyParams, isize, isize, [usize; 2]) + 'a;

/// Copies bytes, or what a table has for them.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn copy_bytes(call: &Call, units: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe {
        match call.inputs[1] {
            None => copy::<u8>(call, units),
            Some(_) => copy_through(call, units, &super::map::look_up),
        }
    }
}

/// Copies through a table; `look_up` is given runs of one length.
///
/// # Safety
/// As [`Kernel::run`], of a copy with a table.
pub unsafe fn copy_through(call: &Call, units: Range<usize>, look_up: &super::map::LookUp) {
    let (src, table) = (call.input(0).as_slice::<u8>(), super::map::table(call));
    let dst = call.output(0).as_mut_ptr();
    planes(call, units, &|p, from, to, [rows, columns]| {
        let [[read, read_next], [write, write_next]] = [last_steps(&p.src), last_steps(&p.dst)];
        for row in 0..rows as isize {
            let (from, to) = (from + row * read, to + row * write);
            // SAFETY: elements lie inside the destination and are nobody else's, as `planes` says.
            unsafe {
                if read_next == 1 && write_next == 1 {
                    let run = core::slice::from_raw_parts_mut(dst.offset(to), columns);
                    look_up(table, &src[from as usize..][..columns], run);
                } else {
                    for column in 0..columns as isize {
                        let x = src[(from + column * read_next) as usize];
                        *dst.offset(to + column * write_next) = table[usize::from(x)];
                    }
                }
            }
        }
    });
}

/// Whether a copy makes pixels of three planes of bytes, as of a picture on its way into a network: it can go to
/// [`copy_pixels`].
pub fn makes_pixels(call: &Call) -> bool {
    let p: &CopyParams = call.params();
    let [rows, columns] = [2, 1].map(|n| p.dims[MAX_RANK - n]);
    call.inputs[1].is_none() && size(call) == 1 && rows >= 64 && columns == 3 && interleaves(p)
}

/// Writes the bytes of three runs of one length side by side.
pub type Interleave<'a> = dyn Fn([&[u8]; 3], &mut [u8]) + 'a;

/// Copies what [`makes_pixels`] accepts.
///
/// # Safety
/// As [`Kernel::run`].
pub unsafe fn copy_pixels(call: &Call, units: Range<usize>, interleave: &Interleave) {
    let (src, dst) = (call.input(0).as_slice::<u8>(), call.output(0).as_mut_ptr());
    planes(call, units, &|p, from, to, [rows, _]| {
        let from = |plane: isize| &src[(from + plane * last_steps(&p.src)[1]) as usize..][..rows];
        // SAFETY: elements lie inside the destination and are nobody else's, as `planes` says.
        let run = unsafe { core::slice::from_raw_parts_mut(dst.offset(to), rows * 3) };
        interleave([0, 1, 2].map(from), run);
    });
}

/// Whether the planes of a copy have runs as columns on one side, and as many elements side by side on the other.
fn interleaves(p: &CopyParams) -> bool {
    last_steps(&p.src)[0] == 1 && last_steps(&p.dst) == [p.dims[MAX_RANK - 1] as isize, 1]
}

/// Strides of the last two axes.
fn last_steps(strides: &[i32; MAX_RANK]) -> [isize; 2] {
    [strides[MAX_RANK - 2] as isize, strides[MAX_RANK - 1] as isize]
}

/// Calls `plane` with each plane of the last two axes: the copy, the first element on either side, and the size. All of its
/// elements lie inside the operands, and no other unit writes them.
fn planes(call: &Call, units: Range<usize>, plane: &Plane) {
    let mut p = *call.params::<CopyParams>();
    if p.dims.contains(&0) {
        return;
    }
    let axis = outermost(&p);
    let [before, rows, columns] = [3, 2, 1].map(|n| p.dims[MAX_RANK - n]);
    if axis < MAX_RANK - 3 && rows * columns < 64 && rows < before {
        // A small plane, the steps to which cost more than itself: the axis before makes a greater one.
        for axes in [&mut p.src, &mut p.dst] {
            axes.swap(MAX_RANK - 3, MAX_RANK - 2);
        }
        p.dims.swap(MAX_RANK - 3, MAX_RANK - 2);
    }
    let mut dims = p.dims.map(|dim| dim as usize);
    dims[axis] = units.len();
    let start = units.start as isize;
    let mut from = p.src_offset as isize + start * p.src[axis] as isize;
    let mut to = p.dst_offset as isize + start * p.dst[axis] as isize;
    let mut at = [0usize; MAX_RANK];
    loop {
        // `check` has proved that every element lies inside the operands, and that no other unit writes it.
        plane(&p, from, to, [dims[MAX_RANK - 2], dims[MAX_RANK - 1]]);
        // The next index of the outer axes, as an odometer.
        let mut axis = MAX_RANK - 2;
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            at[axis] += 1;
            from += p.src[axis] as isize;
            to += p.dst[axis] as isize;
            if at[axis] < dims[axis] {
                break;
            }
            from -= p.src[axis] as isize * dims[axis] as isize;
            to -= p.dst[axis] as isize * dims[axis] as isize;
            at[axis] = 0;
        }
    }
}

/// Copies the plane of the last two axes from the element `from` of `src`.
///
/// # Safety
/// `dst` is valid for writes of every element of the plane, which nobody else writes, and `src` has every element that is read.
unsafe fn plane<T: Pod>((src, from): (&[T], isize), dst: *mut T, p: &CopyParams, [rows, columns]: [usize; 2]) {
    const TILE: usize = 16;
    let (read, write) = (last_steps(&p.src), last_steps(&p.dst));
    if read[1] == 1 && write[1] == 1 {
        let size = size_of::<T>();
        let steps = [read[0], write[0]].map(|step| step * size as isize);
        let src = src.as_ptr().wrapping_offset(from);
        // SAFETY: by the caller's promise.
        return unsafe { runs(src.cast(), dst.cast(), steps, rows, columns * size) };
    }
    if interleaves(p) && columns <= 4 {
        // Few planes become the channels of pixels: a picture on its way into a network.
        let planes = |plane: usize| &src[(from + plane as isize * read[1]) as usize..][..rows];
        // SAFETY: by the caller's promise.
        let run = unsafe { core::slice::from_raw_parts_mut(dst, rows * columns) };
        return match columns {
            2 => interleave::<T, 2>([0, 1].map(planes), run),
            3 => interleave::<T, 3>([0, 1, 2].map(planes), run),
            4 => interleave::<T, 4>([0, 1, 2, 3].map(planes), run),
            _ => interleave::<T, 1>([0].map(planes), run),
        };
    }
    if rows <= 4 && read[1] > 0 && write[1] == 1 {
        // The channels of pixels become few planes.
        for row in 0..rows as isize {
            let from = src[(from + row * read[0]) as usize..].iter().step_by(read[1] as usize);
            // SAFETY: by the caller's promise.
            let run = unsafe { core::slice::from_raw_parts_mut(dst.offset(row * write[0]), columns) };
            run.iter_mut().zip(from).for_each(|(y, x)| *y = *x);
        }
        return;
    }
    for (top, left) in (0..rows).step_by(TILE).flat_map(|top| (0..columns).step_by(TILE).map(move |left| (top, left))) {
        for row in top as isize..(top + TILE).min(rows) as isize {
            for column in left as isize..(left + TILE).min(columns) as isize {
                let element = src[(from + row * read[0] + column * read[1]) as usize];
                // SAFETY: by the caller's promise.
                unsafe { *dst.offset(row * write[0] + column * write[1]) = element };
            }
        }
    }
}

/// Copies runs of bytes. A call would cost more than a short run: of that the first bytes and the last ones are copied,
/// which may be the same.
///
/// # Safety
/// The runs can be read and written, and do not overlap.
unsafe fn runs(src: *const u8, dst: *mut u8, [read, write]: [isize; 2], rows: usize, len: usize) {
    // SAFETY: by the caller's promise; `len` is at least the size of a `W`.
    unsafe fn halves<W: Pod>(src: *const u8, dst: *mut u8, [read, write]: [isize; 2], rows: usize, len: usize) {
        for row in 0..rows as isize {
            // SAFETY: as above.
            unsafe {
                let (src, dst) = (src.offset(row * read), dst.offset(row * write));
                let last = len - size_of::<W>();
                let ends = (src.cast::<W>().read_unaligned(), src.add(last).cast::<W>().read_unaligned());
                dst.cast::<W>().write_unaligned(ends.0);
                dst.add(last).cast::<W>().write_unaligned(ends.1);
            }
        }
    }
    // SAFETY: by the caller's promise.
    unsafe {
        match len {
            17.. => {
                for row in 0..rows as isize {
                    dst.offset(row * write).copy_from_nonoverlapping(src.offset(row * read), len);
                }
            }
            8.. => halves::<u64>(src, dst, [read, write], rows, len),
            4.. => halves::<u32>(src, dst, [read, write], rows, len),
            2.. => halves::<u16>(src, dst, [read, write], rows, len),
            1 => halves::<u8>(src, dst, [read, write], rows, len),
            0 => {}
        }
    }
}

/// Writes the elements of `N` runs of one length side by side.
fn interleave<T: Pod, const N: usize>(planes: [&[T]; N], to: &mut [T]) {
    // Slices of a length the compiler knows to be enough.
    let pixels = to.len() / N;
    let planes = planes.map(|plane| &plane[..pixels]);
    for (row, pixel) in to.chunks_exact_mut(N).enumerate() {
        for n in 0..N {
            pixel[n] = planes[n][row];
        }
    }
}

/// Refuses a fill that leaves its output.
pub(super) fn check_fill(draft: &Draft) -> Result<(), Refusal> {
    let p: &FillParams = draft.params()?;
    draft.at_most(0, 1)?;
    let y = draft.output(0)?;
    y.expect(&[y.dtype], p.count as usize)
}

/// Blocks of elements.
fn fill_units(call: &Call) -> usize {
    units_of(call.params::<FillParams>().count as usize, BLOCK)
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn fill<T: Pod>(call: &Call, units: Range<usize>) {
    let p: &FillParams = call.params();
    let value: T = bytemuck::pod_read_unaligned(&bytemuck::bytes_of(&p.bits)[..size_of::<T>()]);
    // SAFETY: a block belongs to its unit.
    unsafe { output::<T>(call, 0, results(&units, BLOCK, p.count as usize)) }.fill(value);
}

/// Size of the output's elements.
fn size(call: &Call) -> usize {
    call.output(0).dtype.size()
}

macro_rules! by_size {
    ($($bytes:literal, $type:ty, $copy:literal, $run:expr, $fill:literal;)*) => {
        /// Copies and fills, by element size.
        pub(super) const CATALOGUE: &[Kernel] = &[$(
            Kernel { name: $copy, op: Op::Copy, requires: Features::NONE, accepts: |call| size(call) == $bytes, units: copy_units, run: $run },
            Kernel { name: $fill, op: Op::Fill, requires: Features::NONE, accepts: |call| size(call) == $bytes, units: fill_units, run: fill::<$type> },
        )*];
    };
}

by_size! {
    1, u8, "copy_x8_scalar", copy_bytes, "fill_x8_scalar";
    2, u16, "copy_x16_scalar", copy::<u16>, "fill_x16_scalar";
    4, u32, "copy_x32_scalar", copy::<u32>, "fill_x32_scalar";
    8, u64, "copy_x64_scalar", copy::<u64>, "fill_x64_scalar";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_that_meet_are_refused() {
        let dims = [1, 1, 1, 1, 1, 2, 3, 4];
        let cases = [
            ("dense", [0, 0, 0, 0, 0, 12, 4, 1], true),
            ("transposed", [0, 0, 0, 0, 0, 1, 2, 6], true),
            ("gaps", [0, 0, 0, 0, 0, 100, 30, 2], true),
            ("overlap", [0, 0, 0, 0, 0, 11, 4, 1], false),
            ("repeat", [0, 0, 0, 0, 0, 12, 4, 0], false),
            ("negative", [0, 0, 0, 0, 0, 12, 4, -1], false),
        ];
        for (name, strides, good) in cases {
            assert_eq!(nests(&dims, &strides).is_ok(), good, "{name}");
        }
    }
}
