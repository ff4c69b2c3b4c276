//! Conversions between element types.
//!
//! Integers pass through i64 and floats through f32, which hold every element of their kinds. Floats are truncated
//! towards zero and saturate (NaN is 0); integers keep their low bits; f16 is rounded to nearest even; bool is `!= 0`.

use super::shared::{BLOCK, Number, output, results, units_of};
use crate::{Call, DType, Draft, Features, Kernel, LutParams, Op, Refusal};
use core::ops::Range;
use half::f16;

/// Refuses operands that do not fit.
pub(super) fn check(draft: &Draft) -> Result<(), Refusal> {
    let p: &LutParams = draft.params()?;
    draft.at_most(1, 1)?;
    draft.input(0)?.expect(&DType::ALL, p.count as usize)?;
    draft.output(0)?.expect(&DType::ALL, p.count as usize)
}

/// f32 or i64, on the way from one type to another.
trait Middle: Copy {
    fn f32(self) -> f32;
    fn f16(self) -> f16;
    fn i8(self) -> i8;
    fn u8(self) -> u8;
    fn i32(self) -> i32;
    fn i64(self) -> i64;
    fn truth(self) -> u8;
}

macro_rules! middles {
    ($($type:ident, $half:expr;)*) => {$(
        impl Middle for $type {
            fn f32(self) -> f32 {
                self as f32
            }
            fn f16(self) -> f16 {
                $half(self)
            }
            fn i8(self) -> i8 {
                self as i8
            }
            fn u8(self) -> u8 {
                self as u8
            }
            fn i32(self) -> i32 {
                self as i32
            }
            fn i64(self) -> i64 {
                self as i64
            }
            fn truth(self) -> u8 {
                u8::from(self != 0 as $type)
            }
        }
    )*};
}

middles! {
    f32, f16::from_f32;
    // Exact below 2^53, and infinite in f16 long before.
    i64, |v| f16::from_f64(v as f64);
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn cast<X: Number<Wide: Middle>>(call: &Call, units: Range<usize>) {
    let range = results(&units, BLOCK, call.params::<LutParams>().count as usize);
    let x = &call.input(0).as_slice::<X>()[range.clone()];
    macro_rules! to {
        ($type:ty, $method:ident) => {{
            // SAFETY: a block belongs to its unit.
            let y = unsafe { output::<$type>(call, 0, range) };
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x.get().$method());
        }};
    }
    match call.output(0).dtype {
        DType::F32 => to!(f32, f32),
        DType::F16 => to!(f16, f16),
        DType::I8 => to!(i8, i8),
        DType::U8 => to!(u8, u8),
        DType::I32 => to!(i32, i32),
        DType::I64 => to!(i64, i64),
        DType::Bool => to!(u8, truth),
    }
}

macro_rules! kernels {
    ($($name:literal, $dtype:ident, $type:ty;)*) => {
        /// Casts by the input's type.
        pub(super) const CATALOGUE: &[Kernel] = &[$(Kernel {
            name: $name,
            op: Op::Cast,
            requires: Features::NONE,
            accepts: |call| call.input(0).dtype == DType::$dtype,
            units: |call| units_of(call.params::<LutParams>().count as usize, BLOCK),
            run: cast::<$type>,
        },)*];
    };
}

kernels! {
    "cast_f32_scalar", F32, f32;
    "cast_f16_scalar", F16, f16;
    "cast_i8_scalar", I8, i8;
    "cast_u8_scalar", U8, u8;
    "cast_i32_scalar", I32, i32;
    "cast_i64_scalar", I64, i64;
    "cast_bool_scalar", Bool, u8;
}
