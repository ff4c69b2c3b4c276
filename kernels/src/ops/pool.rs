//! Maximum and average over windows of up to three axes, channels last.
//!
//! A unit is one output row. For each output pixel the part of the window that lies inside the picture is found once;
//! runs of channels are then folded over it, which vectorizes.

use super::shared::{LANES, Number, output};
use crate::conv::requantize;
use crate::{Call, DType, Draft, Features, Kernel, Op, PoolFn, PoolParams, Refusal, product};
use core::ops::Range;
use half::f16;

/// Greatest size, stride or pad along an axis: keeps every coordinate inside an i64.
const MAX: u32 = 1 << 24;

/// Refuses windows of nothing, functions not made for the type, or operands that do not fit.
pub(super) fn check(draft: &Draft) -> Result<(), Refusal> {
    let p: &PoolParams = draft.params()?;
    draft.at_most(1, 2)?;
    let function = PoolFn::from_number(p.function).ok_or(Refusal::Parameter)?;
    let sizes = [p.input, p.output, p.kernel, p.stride, p.dilation, p.before, p.after];
    let steps = [p.kernel, p.stride, p.dilation];
    if sizes.as_flattened().iter().any(|&size| size > MAX) || steps.as_flattened().contains(&0) {
        return Err(Refusal::Parameter);
    }
    if p.x_zero.unsigned_abs() > 255 || p.y_zero.unsigned_abs() > 255 || p.scale.is_nan() {
        return Err(Refusal::Parameter);
    }
    let types: &[DType] = match function {
        PoolFn::Max => &[DType::F32, DType::F16, DType::I8, DType::U8],
        _ => &[DType::F32, DType::F16, DType::I8],
    };
    let elements = |[d, h, w]: [u32; 3]| product(&[p.batch, d, h, w, p.channels]);
    let (x, y, written) = (draft.input(0)?, draft.output(0)?, elements(p.output)?);
    x.expect(types, elements(p.input)?)?;
    y.expect(&[x.dtype], written)?;
    match (p.positions, &draft.outputs[1]) {
        (0, None) => Ok(()),
        (1 | 2, Some(positions)) if function == PoolFn::Max => positions.expect(&[DType::I64], written),
        (0..=2, _) => Err(Refusal::OperandCount),
        _ => Err(Refusal::Parameter),
    }
}

/// The part of a window along one axis that lies inside the picture, and how much lies inside the padded picture.
#[derive(Clone, Copy, Default)]
struct Span {
    first: usize,
    count: usize,
    step: usize,
    padded: usize,
}

fn span(p: &PoolParams, axis: usize, at: usize) -> Span {
    let [len, kernel, stride, dilation, before, after] =
        [p.input, p.kernel, p.stride, p.dilation, p.before, p.after].map(|sizes| i64::from(sizes[axis]));
    let start = at as i64 * stride - before;
    // Taps whose position lies in low..high.
    let taps = |low: i64, high: i64| {
        let first = ((low - start).max(0) as u64).div_ceil(dilation as u64) as i64;
        let end = ((high - start).max(0) as u64).div_ceil(dilation as u64) as i64;
        (first.min(kernel), end.min(kernel))
    };
    let (first, end) = taps(0, len);
    let (padded_first, padded_end) = taps(-before, len + after);
    Span {
        first: if first < end { (start + first * dilation) as usize } else { 0 },
        count: (end - first).max(0) as usize,
        step: dilation as usize,
        padded: (padded_end - padded_first).max(0) as usize,
    }
}

/// The window of one output pixel.
#[derive(Clone, Copy)]
pub(super) struct Window {
    spans: [Span; 3],
    /// First element of the picture.
    base: usize,
}

impl Window {
    /// Positions inside the picture.
    pub(super) fn count(&self) -> usize {
        self.spans.iter().map(|span| span.count).product()
    }

    /// Positions inside the padded picture.
    pub(super) fn padded(&self) -> usize {
        self.spans.iter().map(|span| span.padded).product()
    }

    /// The first position's first element; and along each axis the positions inside the picture and the elements from one
    /// to the next.
    pub(super) fn elements(&self, p: &PoolParams) -> (usize, [(usize, usize); 3]) {
        let [_, height, width] = p.input.map(|len| len as usize);
        let steps = [height * width, width, 1].map(|pixels| pixels * p.channels as usize);
        let first: usize = self.spans.iter().zip(steps).map(|(span, step)| span.first * step).sum();
        (self.base + first, core::array::from_fn(|axis| (self.spans[axis].count, self.spans[axis].step * steps[axis])))
    }

    /// Calls `body` with the coordinates of each position and the offset of its first channel.
    #[inline(always)]
    fn each(&self, p: &PoolParams, mut body: impl FnMut([usize; 3], usize)) {
        let [_, height, width] = p.input.map(|len| len as usize);
        let [s0, s1, s2] = self.spans;
        for i0 in (0..s0.count).map(|i| s0.first + i * s0.step) {
            for i1 in (0..s1.count).map(|i| s1.first + i * s1.step) {
                for i2 in (0..s2.count).map(|i| s2.first + i * s2.step) {
                    let pixel = (i0 * height + i1) * width + i2;
                    body([i0, i1, i2], self.base + pixel * p.channels as usize);
                }
            }
        }
    }
}

/// Calls `body` with each output pixel of `units`: its number and its window.
#[inline(always)]
pub(super) fn pixels(p: &PoolParams, units: Range<usize>, mut body: impl FnMut(usize, Window)) {
    let [depth, height, width] = p.output.map(|len| len as usize);
    if p.channels == 0 || width == 0 || rows(p) == 0 {
        return;
    }
    let picture = p.input.iter().map(|&len| len as usize).product::<usize>() * p.channels as usize;
    for row in units.start..units.end.min(rows(p)) {
        let (batch, o0, o1) = (row / height / depth, row / height % depth, row % height);
        let (first, second) = (span(p, 0, o0), span(p, 1, o1));
        for o2 in 0..width {
            let spans = [first, second, span(p, 2, o2)];
            body(row * width + o2, Window { spans, base: batch * picture });
        }
    }
}

/// Output rows.
pub(super) fn rows(p: &PoolParams) -> usize {
    p.batch as usize * p.output[0] as usize * p.output[1] as usize
}

/// An element with its order and its sums.
trait Pooled: Number<Wide: PartialOrd> {
    /// Less than or equal to every element.
    const LEAST: Self;
    /// The mean of `n` positions that sum to `sum`.
    fn mean(sum: Self::Wide, inside: usize, n: usize, p: &PoolParams) -> Self;
    fn zero() -> Self::Wide;
    fn add(a: Self::Wide, b: Self::Wide) -> Self::Wide;
}

macro_rules! floats {
    ($($type:ty)*) => {$(
        impl Pooled for $type {
            const LEAST: Self = <$type>::NEG_INFINITY;
            fn mean(sum: f32, _: usize, n: usize, _: &PoolParams) -> Self {
                Number::put(sum / n as f32)
            }
            fn zero() -> f32 {
                0.0
            }
            #[inline(always)]
            fn add(a: f32, b: f32) -> f32 {
                a + b
            }
        }
    )*};
}
floats! { f32 f16 }

impl Pooled for i8 {
    const LEAST: Self = Self::MIN;
    fn mean(sum: i64, inside: usize, n: usize, p: &PoolParams) -> Self {
        let sum = sum - i64::from(p.x_zero) * inside as i64;
        requantize(sum as f32 / n as f32 * p.scale, -256.0, 256.0, p.y_zero)
    }
    fn zero() -> i64 {
        0
    }
    #[inline(always)]
    fn add(a: i64, b: i64) -> i64 {
        a + b
    }
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn pool<T: Pooled>(call: &Call, units: Range<usize>) {
    let p: &PoolParams = call.params();
    match PoolFn::from_number(p.function) {
        // SAFETY: the caller's promise.
        Some(PoolFn::Average) => unsafe { average::<T>(call, units, false) },
        // SAFETY: as above.
        Some(PoolFn::AverageIncludePad) => unsafe { average::<T>(call, units, true) },
        // SAFETY: as above.
        _ => unsafe { maximum(call, units, T::LEAST) },
    }
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn average<T: Pooled>(call: &Call, units: Range<usize>, padded: bool) {
    let p: &PoolParams = call.params();
    let (x, channels) = (call.input(0).as_slice::<T>(), p.channels as usize);
    pixels(p, units, |pixel, window| {
        let inside = window.count();
        let n = if padded { window.padded() } else { inside };
        // SAFETY: a row belongs to its unit.
        let y = unsafe { output::<T>(call, 0, pixel * channels..(pixel + 1) * channels) };
        for (chunk, y) in y.chunks_mut(LANES).enumerate() {
            let mut sums = [T::zero(); LANES];
            window.each(p, |_, at| {
                let x = &x[at + chunk * LANES..][..y.len()];
                sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum = T::add(*sum, x.get()));
            });
            // A window of nothing has the mean 0.
            y.iter_mut().zip(sums).for_each(|(y, sum)| *y = T::mean(sum, inside, n.max(1), p));
        }
    });
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn maximum<T: Number<Wide: PartialOrd>>(call: &Call, units: Range<usize>, least: T) {
    let p: &PoolParams = call.params();
    let (x, channels) = (call.input(0).as_slice::<T>(), p.channels as usize);
    pixels(p, units, |pixel, window| {
        let range = pixel * channels..(pixel + 1) * channels;
        // SAFETY: a row belongs to its unit.
        let y = unsafe { output::<T>(call, 0, range.clone()) };
        y.fill(least);
        if p.positions == 0 {
            window.each(p, |_, at| {
                y.iter_mut().zip(&x[at..][..channels]).for_each(|(y, &x)| *y = if x.get() > y.get() { x } else { *y });
            });
            return;
        }
        // SAFETY: as above.
        let positions = unsafe { output::<i64>(call, 1, range) };
        let mut first = true;
        window.each(p, |at, offset| {
            for (channel, &x) in x[offset..][..channels].iter().enumerate() {
                if first || x.get() > y[channel].get() {
                    (y[channel], positions[channel]) = (x, position(p, window.base, channel, at));
                }
            }
            first = false;
        });
        if first {
            positions.fill(0);
        }
    });
}

/// How ONNX counts an element: channels before the spatial axes, those in row-major or in column-major order.
fn position(p: &PoolParams, base: usize, channel: usize, [i0, i1, i2]: [usize; 3]) -> i64 {
    let [d0, d1, d2] = p.input.map(|len| len as usize);
    let picture = d0 * d1 * d2;
    let inside = if p.positions == 2 { i0 + (i1 + i2 * d1) * d0 } else { (i0 * d1 + i1) * d2 + i2 };
    (base + channel * picture + inside) as i64
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn maximum_u8(call: &Call, units: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { maximum(call, units, 0u8) };
}

macro_rules! kernels {
    ($($name:literal, $dtype:ident, $run:expr;)*) => {
        /// Pooling by element type.
        pub(super) const CATALOGUE: &[Kernel] = &[$(Kernel {
            name: $name,
            op: Op::Pool,
            requires: Features::NONE,
            accepts: |call| call.input(0).dtype == DType::$dtype,
            units: |call| rows(call.params()).max(1),
            run: $run,
        },)*];
    };
}

kernels! {
    "pool_f32_scalar", F32, pool::<f32>;
    "pool_f16_scalar", F16, pool::<f16>;
    "pool_i8_scalar", I8, pool::<i8>;
    "pool_u8_scalar", U8, maximum_u8;
}
