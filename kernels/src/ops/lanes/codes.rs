//! Quantization to 8 bits, dequantization to f32, requantization to i8: each multiplies or divides the elements of a run
//! by one factor.

use super::shared::{BLOCK, count, results, units_of};
use super::{Element, Last, SHORTEST, Source, Vector, input, output, padded};
use crate::{Call, ChannelParams, DType, Input, Op, RequantizeParams};
use core::ops::Range;

/// How the elements of a channel are converted.
struct Factor {
    factor: f32,
    /// Subtracted before, where x is an integer.
    x_zero: i32,
    /// Bounds before the zero point is added, and the zero point, where y is a code.
    last: (f32, f32, i32),
}

/// A run of elements with one factor, from elements of one type to those of another.
pub struct Row<'a> {
    types: (DType, DType),
    x: &'a [u8],
    y: &'a mut [u8],
    factor: Factor,
}

/// Computes a row.
///
/// # Safety
/// That of [`Vector`]; the row is [`SHORTEST`] or longer.
#[inline(always)]
pub unsafe fn row<V: Vector>(mut row: Row) {
    let (bytes, row) = (row.y.len(), &mut row);
    // SAFETY: the caller's promise.
    unsafe {
        match row.types {
            (DType::F32, DType::I8) => divide::<V, i8>(row),
            (DType::F32, _) => divide::<V, u8>(row),
            (DType::U8, _) => convert::<V, u8, f32, false>(row, 0..bytes / 4),
            (DType::I32, _) => convert::<V, i32, i8, false>(row, 0..bytes),
            (_, DType::F32) => convert::<V, i8, f32, false>(row, 0..bytes / 4),
            _ => convert::<V, i8, i8, false>(row, 0..bytes),
        }
    }
}

/// `y = (x - x_zero) * factor`, or the quotient, ended as y's type needs, of the elements `range` of a row; the last vector may
/// begin before them.
///
/// # Safety
/// As [`row`]; the range is the row's and ends at [`SHORTEST`] or later.
#[inline(always)]
unsafe fn convert<V: Vector, X: Source, Y: Element, const DIVIDE: bool>(row: &mut Row, range: Range<usize>) {
    let (x, y) = (row.x.as_ptr().cast::<X>(), row.y.as_mut_ptr().cast::<Y>());
    let Factor { factor, x_zero, last: (lo, hi, zero) } = row.factor;
    // SAFETY: vectors lie inside the row.
    unsafe {
        let (factor, last) = (V::splat(factor), Last::new(lo, hi, zero));
        for at in range.clone().step_by(V::LANES) {
            let at = at.min(range.end - V::LANES);
            let x: V = X::load(x.add(at), x_zero);
            Y::store(if DIVIDE { x.div(factor) } else { x.mul(factor) }, last, y.add(at));
        }
    }
}

/// The codes of quotients. Where a division is slow, most are made with the factor's inverse: of a quotient below 512 that is
/// wrong by less than `512 * 3 * 2^-24`, which changes its code only near the middle between two integers.
///
/// # Safety
/// As [`row`].
#[inline(always)]
unsafe fn divide<V: Vector, Y: Element>(row: &mut Row) {
    /// Elements that are divided if one of them has to be.
    const PART: usize = 256;
    let (len, inverse) = (row.y.len(), 1.0 / row.factor.factor);
    if !V::DIVIDES_SLOWLY || !row.factor.factor.is_normal() || !inverse.is_normal() {
        // SAFETY: the caller's promise.
        return unsafe { convert::<V, f32, Y, true>(row, 0..len) };
    }
    for start in (0..len).step_by(PART) {
        let range = start..len.min(start + PART);
        // SAFETY: the caller's promise.
        unsafe {
            if !multiply::<V, Y>(row, range.clone(), inverse) {
                convert::<V, f32, Y, true>(row, range);
            }
        }
    }
}

/// Writes the codes of products instead, and returns whether they are those of the quotients for sure.
///
/// # Safety
/// As [`convert`].
#[inline(always)]
unsafe fn multiply<V: Vector, Y: Element>(row: &mut Row, range: Range<usize>, inverse: f32) -> bool {
    let (x, y) = (row.x.as_ptr().cast::<f32>(), row.y.as_mut_ptr().cast::<Y>());
    let (lo, hi, zero) = row.factor.last;
    // SAFETY: vectors lie inside the row.
    unsafe {
        let (inverse, last) = (V::splat(inverse), Last::new(lo, hi, zero));
        let mut most = V::splat(0.0);
        for at in range.clone().step_by(V::LANES) {
            let at = at.min(range.end - V::LANES);
            let v = V::load(x.add(at)).mul(inverse);
            most = most.max(last.rounded_off(v));
            Y::store(v, last, y.add(at));
        }
        let mut lanes = [0f32; SHORTEST];
        most.store(lanes.as_mut_ptr());
        lanes.iter().all(|&off| off < 0.4999)
    }
}

fn sizes(call: &Call) -> [u32; 3] {
    if call.op == Op::Requantize {
        let &RequantizeParams { outer, channels, inner, .. } = call.params();
        return [outer, channels, inner];
    }
    let &ChannelParams { outer, channels, inner } = call.params();
    [outer, channels, inner]
}

/// Whether runs of one channel are long: one channel in all, or many elements of each side by side.
fn is_long(call: &Call) -> bool {
    let [_, channels, inner] = sizes(call);
    channels == 1 || inner as usize >= SHORTEST
}

/// Blocks of elements.
pub fn units(call: &Call) -> usize {
    units_of(count(&sizes(call)), BLOCK)
}

/// Element `i` of integers; 0 if there are none.
fn zero(zeros: Option<Input>, i: usize) -> i32 {
    zeros.map_or(0, |zeros| match zeros.dtype {
        DType::U8 => zeros.bytes[i].into(),
        _ => (zeros.bytes[i] as i8).into(),
    })
}

/// The factor of a channel.
fn factor(call: &Call, channel: usize) -> Factor {
    let factor = call.input(1).as_slice()[channel];
    match call.op {
        // 512 is past every code whatever the zero point.
        Op::Quantize => Factor { factor, x_zero: 0, last: (-512.0, 512.0, zero(call.inputs[2], channel)) },
        Op::Dequantize => Factor { factor, x_zero: zero(call.inputs[2], channel), last: (0.0, 0.0, 0) },
        _ => {
            let p: &RequantizeParams = call.params();
            Factor { factor, x_zero: p.x_zero, last: (p.lo, p.hi, p.y_zero) }
        }
    }
}

/// # Safety
/// As [`crate::Kernel::run`], for calls that the `accepts` of its operator takes; the CPU can run `row`.
pub unsafe fn walk(call: &Call, units: Range<usize>, row: unsafe fn(Row)) {
    let [outer, channels, inner] = sizes(call);
    let range = results(&units, BLOCK, count(&[outer, channels, inner]));
    let channels = channels as usize;
    let inner = if channels == 1 { range.end } else { inner as usize };
    let types = (call.input(0).dtype, call.output(0).dtype);
    let mut at = range.start;
    while at < range.end {
        let len = (inner - at % inner).min(range.end - at);
        let (x, channel) = (input(call, 0, at..at + len), at / inner % channels);
        // SAFETY: a block belongs to its unit.
        let y = unsafe { output(call, at..at + len) };
        // SAFETY: rows are long enough.
        padded(len, x, y, |x, y| unsafe { row(Row { types, x, y, factor: factor(call, channel) }) });
        at += len;
    }
}

/// From f32 to 8 bits.
pub mod quantize {
    pub use super::{units, walk};

    /// 8 bits, in long runs.
    pub fn accepts(call: &crate::Call) -> bool {
        call.output(0).dtype.size() == 1 && super::is_long(call)
    }
}

/// From 8 bits to f32.
pub mod dequantize {
    pub use super::{units, walk};

    /// f32, in long runs.
    pub fn accepts(call: &crate::Call) -> bool {
        call.output(0).dtype == crate::DType::F32 && super::is_long(call)
    }
}

/// From integers to i8.
pub mod requantize {
    pub use super::{units, walk};

    /// i8, in long runs.
    pub fn accepts(call: &crate::Call) -> bool {
        call.output(0).dtype == crate::DType::I8 && super::is_long(call)
    }
}
