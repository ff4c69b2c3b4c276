//! What the families have in common: blocks of work, walks over strided axes, and checks of sizes and quantized bounds.

use crate::{Call, DType, MAX_RANK, Refusal, product};
use bytemuck::Pod;
use core::ops::Range;
use half::f16;

/// Elements of a unit of an element-wise operator: enough to pay for starting it, few enough to share out.
pub(super) const BLOCK: usize = 4096;

/// Accumulators a kernel keeps side by side for neighbouring results.
pub(super) const LANES: usize = 64;

/// Number of units when each makes `block` of `count` results.
pub(super) fn units_of(count: usize, block: usize) -> usize {
    count.div_ceil(block).max(1)
}

/// The results that `units` of `block` out of `count` make.
pub(super) fn results(units: &Range<usize>, block: usize, count: usize) -> Range<usize> {
    (units.start * block).min(count)..(units.end * block).min(count)
}

/// Elements `range` of output `i`.
///
/// # Safety
/// Only the running units write these elements, and no slice of them lives already.
pub(super) unsafe fn output<'a, T: Pod>(call: &Call<'a>, i: usize, range: Range<usize>) -> &'a mut [T] {
    // SAFETY: as the caller promises.
    unsafe { call.output(i).slice(range) }
}

/// One past the greatest element a walk of these dimensions and strides reaches; 0 when it has no element.
pub(super) fn reach(dims: &[u32], strides: &[u32]) -> Result<usize, Refusal> {
    if product(dims)? == 0 {
        return Ok(0);
    }
    let span = |total: usize, (&dim, &stride): (&u32, &u32)| {
        total.checked_add((dim as usize - 1).checked_mul(stride as usize)?)
    };
    dims.iter().zip(strides).try_fold(1, span).ok_or(Refusal::Overflow)
}

/// Number of elements that sizes hold, which [`crate::check`] has seen to fit.
pub(super) fn count(sizes: &[u32]) -> usize {
    sizes.iter().map(|&size| size as usize).product()
}

/// Refuses bounds and zero points that would leave the range in which codes are rounded exactly.
pub(super) fn check_codes(lo: f32, hi: f32, zeros: &[i32]) -> Result<(), Refusal> {
    let bounded = (-256.0..=256.0).contains(&lo) && (-256.0..=256.0).contains(&hi) && lo <= hi;
    if bounded && zeros.iter().all(|zero| zero.unsigned_abs() <= 255) { Ok(()) } else { Err(Refusal::Parameter) }
}

/// An element and the type it is computed in: f32 for floats, i64 for integers.
pub(super) trait Number: Pod {
    /// f32 or i64.
    type Wide: Copy;
    /// Its value.
    fn get(self) -> Self::Wide;
    /// The nearest element; integers wrap.
    fn put(value: Self::Wide) -> Self;
}

impl Number for f32 {
    type Wide = f32;
    fn get(self) -> f32 {
        self
    }
    fn put(value: f32) -> Self {
        value
    }
}

impl Number for f16 {
    type Wide = f32;
    fn get(self) -> f32 {
        self.to_f32()
    }
    fn put(value: f32) -> Self {
        f16::from_f32(value)
    }
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Number for $type {
            type Wide = i64;
            fn get(self) -> i64 {
                self.into()
            }
            fn put(value: i64) -> Self {
                value as Self
            }
        }
    )*};
}
integers! { i8 u8 i32 i64 }

/// Least and greatest value of an integer type (bool: as the bytes it is made of).
pub(super) fn limits(dtype: DType) -> (i64, i64) {
    match dtype {
        DType::I8 => (i8::MIN.into(), i8::MAX.into()),
        DType::U8 => (0, u8::MAX.into()),
        DType::I32 => (i32::MIN.into(), i32::MAX.into()),
        DType::Bool => (0, 1),
        DType::F32 | DType::F16 | DType::I64 => (i64::MIN, i64::MAX),
    }
}

/// `min(max(x, lo), hi)`, NaN staying NaN.
#[inline(always)]
pub(super) fn clamp(x: f32, lo: f32, hi: f32) -> f32 {
    let x = if x < lo { lo } else { x };
    if x > hi { hi } else { x }
}

/// A walk over an index space in row-major order, with one offset for each of `N` operands. Axes of length 1 are dropped
/// and neighbours that all operands step through evenly are joined, so that the last axis is as long as it can be.
#[derive(Clone, Copy)]
pub(super) struct Walk<const N: usize> {
    rank: usize,
    dims: [usize; MAX_RANK],
    strides: [[usize; N]; MAX_RANK],
}

impl<const N: usize> Walk<N> {
    #[inline(never)]
    pub(super) fn new(dims: &[u32], strides: [&[u32]; N]) -> Self {
        let mut walk = Self { rank: 0, dims: [1; MAX_RANK], strides: [[1; N]; MAX_RANK] };
        // Of an empty axis no index, however long the others are.
        let dims = if dims.contains(&0) { &[0] } else { dims };
        for (axis, &dim) in dims.iter().enumerate().filter(|&(_, &dim)| dim != 1) {
            let steps = strides.map(|operand| operand[axis] as usize);
            let even = |(outer, inner): (&usize, &usize)| inner.checked_mul(dim as usize) == Some(*outer);
            if walk.rank > 0 && walk.strides[walk.rank - 1].iter().zip(&steps).all(even) {
                walk.dims[walk.rank - 1] *= dim as usize;
            } else {
                walk.dims[walk.rank] = dim as usize;
                walk.rank += 1;
            }
            walk.strides[walk.rank - 1] = steps;
        }
        walk.rank = walk.rank.max(1);
        walk
    }

    /// Strides of the operands along the last axis.
    pub(super) fn inner(&self) -> [usize; N] {
        self.strides[self.rank - 1]
    }

    /// Length of the last axis.
    pub(super) fn len(&self) -> usize {
        self.dims[self.rank - 1]
    }

    /// Which operands are the same in every run along the last axis.
    pub(super) fn repeated(&self) -> [bool; N] {
        core::array::from_fn(|i| self.strides[..self.rank - 1].iter().all(|strides| strides[i] == 0))
    }

    /// Number of indices.
    pub(super) fn count(&self) -> usize {
        self.dims[..self.rank].iter().product()
    }

    /// Calls `body` with (position of the first index, number of indices, offsets of the first) for every run along the
    /// last axis that the indices `range` are made of.
    #[inline]
    pub(super) fn runs(&self, range: Range<usize>, mut body: impl FnMut(usize, usize, [usize; N])) {
        if range.is_empty() {
            return;
        }
        let last = self.rank - 1;
        let (mut at, mut offsets, mut rest) = ([0; MAX_RANK], [0; N], range.start);
        for axis in (0..self.rank).rev() {
            at[axis] = rest % self.dims[axis];
            rest /= self.dims[axis];
            self.step(&mut offsets, axis, |offset, stride| offset + at[axis] * stride);
        }
        let mut position = range.start;
        loop {
            let len = (self.dims[last] - at[last]).min(range.end - position);
            body(position, len, offsets);
            position += len;
            if position >= range.end {
                return;
            }
            self.step(&mut offsets, last, |offset, stride| offset - at[last] * stride);
            at[last] = 0;
            for axis in (0..last).rev() {
                at[axis] += 1;
                self.step(&mut offsets, axis, |offset, stride| offset + stride);
                if at[axis] < self.dims[axis] {
                    break;
                }
                self.step(&mut offsets, axis, |offset, stride| offset - at[axis] * stride);
                at[axis] = 0;
            }
        }
    }

    #[inline(always)]
    fn step(&self, offsets: &mut [usize; N], axis: usize, next: impl Fn(usize, usize) -> usize) {
        for (offset, &stride) in offsets.iter_mut().zip(&self.strides[axis]) {
            *offset = next(*offset, stride);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    #[test]
    fn walks_over_an_empty_axis_visit_nothing() {
        let walk = Walk::new(&[1 << 31, 1 << 31, 4, 0], [&[0; 4]]);
        assert_eq!(walk.count(), 0);
    }

    #[test]
    fn walks_visit_every_index_in_order() {
        let cases: &[([u32; 4], [u32; 4], usize)] = &[
            ([2, 3, 4, 5], [60, 20, 5, 1], 1),
            ([2, 3, 4, 5], [60, 0, 5, 1], 3),
            ([2, 1, 4, 5], [20, 0, 5, 1], 1),
            ([2, 3, 4, 5], [0, 0, 0, 0], 1),
            ([4, 3, 2, 2], [1, 4, 12, 24], 4),
            ([1, 1, 1, 1], [7, 7, 7, 7], 1),
            ([2, 0, 2, 2], [1, 1, 1, 1], 1),
        ];
        for (dims, strides, rank) in cases {
            let walk = Walk::new(dims, [strides]);
            assert_eq!(walk.rank, *rank, "{dims:?} {strides:?}");
            let total = count(dims);
            assert_eq!(walk.count(), total);
            let want: Vec<usize> = (0..total)
                .map(|mut at| {
                    let mut offset = 0;
                    for axis in (0..4).rev() {
                        offset += at % dims[axis] as usize * strides[axis] as usize;
                        at /= dims[axis] as usize;
                    }
                    offset
                })
                .collect();
            for start in 0..=total {
                for end in [start, (start + 1).min(total), (start + 7).min(total), total] {
                    let mut got = Vec::new();
                    walk.runs(start..end, |position, len, [offset]| {
                        assert_eq!(position, start + got.len());
                        got.extend((0..len).map(|i| offset + i * walk.inner()[0]));
                    });
                    assert_eq!(got, want[start..end], "{dims:?} {strides:?} {start}..{end}");
                }
            }
        }
    }

    #[test]
    fn reach_is_exact_or_refused() {
        assert_eq!(reach(&[2, 3], &[3, 1]), Ok(6));
        assert_eq!(reach(&[2, 3], &[0, 0]), Ok(1));
        assert_eq!(reach(&[2, 0], &[9, 9]), Ok(0));
        assert_eq!(reach(&[u32::MAX; 8], &[1; 8]), Err(Refusal::Overflow));
        assert_eq!(reach(&[65537, 65537, 2, 2], &[u32::MAX; 4]), Ok(1 + 131074 * u32::MAX as usize));
    }
}
