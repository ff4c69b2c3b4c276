//! Maximum and average over windows, channels last. A unit is an output row, a row of this module an output pixel.
//!
//! A few channels at a time stay in a register while the window's positions are folded into them. Sums of codes are
//! integers below 2^24, so they are exact in f32.

use super::map::greatest;
use super::scalar_pool::{pixels, rows};
use super::{Element, Last, SHORTEST, Same, Vector, line, output, starts};
use crate::{Call, DType, PoolFn, PoolParams};
use core::ops::Range;
use half::f16;

/// Most positions of a window of codes: their sum, and zero points, stay below 2^24.
pub(super) const MOST: usize = 32768;

/// Pictures with many channels; positions of the maxima are not asked for.
pub fn accepts(call: &Call) -> bool {
    let p: &PoolParams = call.params();
    let window = p.kernel.iter().fold(1usize, |all, &size| all.saturating_mul(size as usize));
    p.positions == 0 && p.channels as usize >= SHORTEST && window <= MOST
}

/// `(sum + offset) / n * scale`, plus the zero point of codes.
#[derive(Clone, Copy)]
pub(super) struct Mean {
    pub offset: f32,
    pub n: f32,
    pub scale: f32,
    pub zero: i32,
}

/// Positions along each axis, and elements from one to the next.
pub(super) type Window = [(usize, usize); 3];

/// What is folded.
#[derive(Clone, Copy)]
pub(super) enum Fold {
    /// The positions of a window to their greatest elements.
    Greatest(Window),
    /// The positions of a window to their means.
    Means(Window, Mean),
    /// The same, of both signs and with NaN where any is; the sign is 1, or -1 for the least.
    Extremes(Window, f32),
    /// This many neighbouring elements to a single mean.
    Line(usize, Mean),
    /// To a single extreme.
    Extreme(usize, f32),
}

/// Neighbouring columns of a window, or a line: f32, f16 or i8.
pub struct Row<'a> {
    pub(super) dtype: DType,
    /// Elements from the window's first position.
    pub(super) x: &'a [u8],
    pub(super) fold: Fold,
    /// One result a column.
    pub(super) y: &'a mut [u8],
}

#[inline(always)]
unsafe fn fold<V: Vector, E: Element>(x: *const E, window: Window, first: V, step: impl Step) -> V {
    let mut sum = first;
    let [a, b, c] = window;
    for i in 0..a.0 {
        for j in 0..b.0 {
            for k in 0..c.0 {
                // SAFETY: the caller's: a position of the window.
                sum = unsafe { step.step(E::load::<V>(x.add(i * a.1 + j * b.1 + k * c.1), 0), sum) };
            }
        }
    }
    sum
}

/// How an element joins the others.
trait Step {
    /// # Safety
    /// That of [`Vector`].
    unsafe fn step<V: Vector>(&self, x: V, sum: V) -> V;
}

struct Greatest;
struct Sum;
struct Extreme(f32);

impl Step for Greatest {
    #[inline(always)]
    unsafe fn step<V: Vector>(&self, x: V, sum: V) -> V {
        // SAFETY: the trait's.
        unsafe { x.max(sum) }
    }
}

impl Step for Sum {
    #[inline(always)]
    unsafe fn step<V: Vector>(&self, x: V, sum: V) -> V {
        // SAFETY: the trait's.
        unsafe { sum.add(x) }
    }
}

impl Step for Extreme {
    #[inline(always)]
    unsafe fn step<V: Vector>(&self, x: V, sum: V) -> V {
        // SAFETY: the trait's.
        unsafe { greatest(x.mul(V::splat(self.0)), sum) }
    }
}

/// The mean that a sum makes, and how it ends.
///
/// # Safety
/// That of [`Vector`].
#[inline(always)]
pub(super) unsafe fn finish<V: Vector>(sum: V, Mean { offset, n, scale, zero }: Mean) -> (V, Last<V>) {
    // SAFETY: the caller's promise; codes and zero points are below 256.
    unsafe {
        let mean = sum.add(V::splat(offset)).div(V::splat(n)).mul(V::splat(scale));
        (mean, Last::new(-256.0, 256.0, zero))
    }
}

/// Computes a row.
///
/// # Safety
/// That of [`Vector`]; the row, or line, is [`SHORTEST`] or longer, and every position of the window has as many elements.
#[inline(always)]
pub unsafe fn row<V: Vector>(row: Row) {
    // SAFETY: the caller's promise.
    unsafe {
        match row.dtype {
            DType::F16 => folded::<V::Wide, f16>(row),
            DType::I8 => folded::<V::Wide, i8>(row),
            _ => folded::<V::Wide, f32>(row),
        }
    }
}

#[inline(always)]
unsafe fn folded<V: Vector, E: Element>(row: Row) {
    let (len, x, y) = (row.y.len() / size_of::<E>(), row.x.as_ptr().cast::<E>(), row.y.as_mut_ptr().cast::<E>());
    // SAFETY: vectors lie inside the row.
    unsafe {
        match row.fold {
            Fold::Greatest(window) => {
                for at in starts::<V>(len) {
                    let v = fold::<V, E>(x.add(at), window, V::splat(E::LEAST), Greatest);
                    E::store(v, Last::new(-256.0, 256.0, 0), y.add(at));
                }
            }
            Fold::Means(window, mean) => {
                for at in starts::<V>(len) {
                    let (v, last) = finish(fold::<V, E>(x.add(at), window, V::splat(0.0), Sum), mean);
                    E::store(v, last, y.add(at));
                }
            }
            Fold::Extremes(window, sign) => {
                for at in starts::<V>(len) {
                    let v = fold::<V, E>(x.add(at), window, V::splat(f32::NEG_INFINITY), Extreme(sign));
                    E::store(v.mul(V::splat(sign)), Last::new(-256.0, 256.0, 0), y.add(at));
                }
            }
            Fold::Line(len, mean) => {
                let (v, last) = finish(V::splat(line::<V, E>(x, len, Same)), mean);
                single(v, last, y);
            }
            Fold::Extreme(len, sign) => {
                let mut most = V::splat(f32::NEG_INFINITY);
                for at in starts::<V>(len) {
                    most = Extreme(sign).step(E::load::<V>(x.add(at), 0), most);
                }
                let mut lanes = [f32::NEG_INFINITY; SHORTEST];
                most.store(lanes.as_mut_ptr());
                let most = lanes.into_iter().fold(f32::NEG_INFINITY, |a, b| if a > b || a.is_nan() { a } else { b });
                single(V::splat(most * sign), Last::new(-256.0, 256.0, 0), y);
            }
        }
    }
}

/// Stores one lane of those that are all alike.
#[inline(always)]
unsafe fn single<V: Vector, E: Element>(v: V, last: Last<V>, y: *mut E) {
    let mut results = [E::zeroed(); SHORTEST];
    // SAFETY: a vector has at most as many lanes; the caller's: `y` is a result.
    unsafe {
        E::store(v, last, results.as_mut_ptr());
        y.write_unaligned(results[0]);
    }
}

/// Output rows.
pub fn units(call: &Call) -> usize {
    rows(call.params()).max(1)
}

/// # Safety
/// As [`crate::Kernel::run`], for calls of f32, f16 or i8 that [`accepts`] takes; the CPU can run `row`.
pub unsafe fn walk(call: &Call, units: Range<usize>, row: unsafe fn(Row)) {
    let p: &PoolParams = call.params();
    let (x, channels) = (call.input(0), p.channels as usize);
    let function = PoolFn::from_number(p.function);
    pixels(p, units, |pixel, window| {
        let (first, sizes) = window.elements(p);
        let inside = window.count();
        let n = if function == Some(PoolFn::AverageIncludePad) { window.padded() } else { inside };
        // A window of nothing has the mean 0.
        let n = n.max(1) as f32;
        let mean = match x.dtype {
            DType::I8 => Mean { offset: -(p.x_zero as f32 * inside as f32), n, scale: p.scale, zero: p.y_zero },
            _ => Mean { offset: 0.0, n, scale: 1.0, zero: 0 },
        };
        let fold = if function == Some(PoolFn::Max) { Fold::Greatest(sizes) } else { Fold::Means(sizes, mean) };
        // SAFETY: a pixel belongs to its unit; `check` has seen that windows lie inside the picture.
        unsafe {
            let y = output(call, pixel * channels..(pixel + 1) * channels);
            row(Row { dtype: x.dtype, x: &x.bytes[first * x.dtype.size()..], fold, y });
        }
    });
}
