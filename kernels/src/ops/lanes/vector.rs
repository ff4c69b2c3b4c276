//! What the shared kernels ask of an instruction set.

use bytemuck::Pod;
use half::f16;

/// f32 lanes with their i32 companions: 4, 8 or 16 of each.
///
/// # Safety
/// Every method requires a CPU with the instance's features. Pointers are valid for `LANES` elements, at any alignment.
#[allow(clippy::missing_safety_doc, missing_docs)] // the trait's; and what a name says
pub trait Vector: Copy {
    /// As many i32 lanes.
    type Int: Copy;
    /// What loops of few instructions take at a time: up to 16 lanes.
    type Wide: Vector;
    /// Number of lanes, at most 16.
    const LANES: usize;
    /// Whether a division takes as long as a dozen other operations.
    const DIVIDES_SLOWLY: bool = false;

    /// All lanes alike.
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Loads f16 elements.
    unsafe fn load_f16(from: *const u16) -> Self;
    /// Rounds to f16 elements, to nearest even.
    unsafe fn store_f16(self, to: *mut u16);
    /// `self * b + c`, rounded once or twice.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    unsafe fn add(self, b: Self) -> Self;
    unsafe fn sub(self, b: Self) -> Self;
    unsafe fn mul(self, b: Self) -> Self;
    unsafe fn div(self, b: Self) -> Self;
    /// The nearest to the square root.
    unsafe fn sqrt(self) -> Self;
    /// The greater; `b` where either is NaN.
    unsafe fn max(self, b: Self) -> Self;
    /// The lesser; `b` where either is NaN.
    unsafe fn min(self, b: Self) -> Self;
    /// `less` in the lanes where `self < b`, else `other`.
    unsafe fn where_less(self, b: Self, less: Self, other: Self) -> Self;
    /// `negative` in the lanes where `self < 0`, else `self`.
    #[inline(always)]
    unsafe fn where_negative(self, negative: Self) -> Self {
        // SAFETY: the trait's.
        unsafe { self.where_less(Self::splat(0.0), negative, self) }
    }
    unsafe fn load_int(from: *const i32) -> Self::Int;
    unsafe fn store_int(from: Self::Int, to: *mut i32);
    unsafe fn add_int(a: Self::Int, b: Self::Int) -> Self::Int;
    /// All lanes alike.
    unsafe fn splat_int(value: i32) -> Self::Int;
    /// Loads i8 elements.
    unsafe fn load_i8(from: *const i8) -> Self::Int;
    /// Loads u8 elements.
    unsafe fn load_u8(from: *const u8) -> Self::Int;
    /// Converts to f32.
    unsafe fn from_int(from: Self::Int) -> Self;
    /// Rounds to nearest even what lies within i32.
    unsafe fn round_int(self) -> Self::Int;
    /// The greatest `n` with `2^n <= self`, of positive normal numbers; 128 of infinity.
    unsafe fn exponent(self) -> Self::Int;
    /// 2 to the power `n`, for `n` from -126 to 127.
    unsafe fn power_of_two(n: Self::Int) -> Self;
    /// Saturates what lies within i16 to i8 elements.
    unsafe fn store_i8(from: Self::Int, to: *mut i8);
    /// Saturates what lies within i16 to u8 elements.
    unsafe fn store_u8(from: Self::Int, to: *mut u8);
}

/// Two vectors side by side.
#[derive(Clone, Copy)]
pub struct Two<V>(pub V, pub V);

macro_rules! both {
    ($($name:ident($($arg:ident: $arg_type:ty),*) $(-> $result:ty)? = $first:expr, $second:expr;)*) => {
        impl<V: Vector> Vector for Two<V> {
            type Int = Two<V::Int>;
            type Wide = V::Wide;
            const LANES: usize = 2 * V::LANES;
            $(
                #[inline(always)]
                unsafe fn $name($($arg: $arg_type),*) $(-> $result)? {
                    // SAFETY: the halves' conditions are those of the whole.
                    unsafe { both!(@join $($result)?; $first, $second) }
                }
            )*
        }
    };
    (@join $result:ty; $first:expr, $second:expr) => { Two($first, $second) };
    (@join ; $first:expr, $second:expr) => {{ $first; $second }};
}

both! {
    splat(value: f32) -> Self = V::splat(value), V::splat(value);
    load(from: *const f32) -> Self = V::load(from), V::load(from.add(V::LANES));
    load_f16(from: *const u16) -> Self = V::load_f16(from), V::load_f16(from.add(V::LANES));
    splat_int(value: i32) -> Self::Int = V::splat_int(value), V::splat_int(value);
    load_int(from: *const i32) -> Self::Int = V::load_int(from), V::load_int(from.add(V::LANES));
    load_i8(from: *const i8) -> Self::Int = V::load_i8(from), V::load_i8(from.add(V::LANES));
    load_u8(from: *const u8) -> Self::Int = V::load_u8(from), V::load_u8(from.add(V::LANES));
    from_int(from: Self::Int) -> Self = V::from_int(from.0), V::from_int(from.1);
    store_int(from: Self::Int, to: *mut i32) = V::store_int(from.0, to), V::store_int(from.1, to.add(V::LANES));
    add_int(a: Self::Int, b: Self::Int) -> Self::Int = V::add_int(a.0, b.0), V::add_int(a.1, b.1);
    store_i8(from: Self::Int, to: *mut i8) = V::store_i8(from.0, to), V::store_i8(from.1, to.add(V::LANES));
    store_u8(from: Self::Int, to: *mut u8) = V::store_u8(from.0, to), V::store_u8(from.1, to.add(V::LANES));
    store(self: Self, to: *mut f32) = self.0.store(to), self.1.store(to.add(V::LANES));
    store_f16(self: Self, to: *mut u16) = self.0.store_f16(to), self.1.store_f16(to.add(V::LANES));
    mul_add(self: Self, b: Self, c: Self) -> Self = self.0.mul_add(b.0, c.0), self.1.mul_add(b.1, c.1);
    add(self: Self, b: Self) -> Self = self.0.add(b.0), self.1.add(b.1);
    sub(self: Self, b: Self) -> Self = self.0.sub(b.0), self.1.sub(b.1);
    mul(self: Self, b: Self) -> Self = self.0.mul(b.0), self.1.mul(b.1);
    div(self: Self, b: Self) -> Self = self.0.div(b.0), self.1.div(b.1);
    sqrt(self: Self) -> Self = self.0.sqrt(), self.1.sqrt();
    max(self: Self, b: Self) -> Self = self.0.max(b.0), self.1.max(b.1);
    min(self: Self, b: Self) -> Self = self.0.min(b.0), self.1.min(b.1);
    where_less(self: Self, b: Self, less: Self, other: Self) -> Self = self.0.where_less(b.0, less.0, other.0), self.1.where_less(b.1, less.1, other.1);
    exponent(self: Self) -> Self::Int = self.0.exponent(), self.1.exponent();
    power_of_two(n: Self::Int) -> Self = V::power_of_two(n.0), V::power_of_two(n.1);
    round_int(self: Self) -> Self::Int = self.0.round_int(), self.1.round_int();
}

/// How sums become codes; elements that are no codes are stored as they are.
#[derive(Clone, Copy)]
pub struct Last<V> {
    lo: V,
    hi: V,
    zero: i32,
}

impl<V: Vector> Last<V> {
    /// `round(clamp(v, lo, hi)) + zero`.
    ///
    /// # Safety
    /// That of [`Vector`]; the bounds and the zero point are below 2^14.
    #[inline(always)]
    pub unsafe fn new(lo: f32, hi: f32, zero: i32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self { lo: V::splat(lo), hi: V::splat(hi), zero } }
    }

    /// As [`crate::conv::rounded`] has it, and the zero point.
    #[inline(always)]
    unsafe fn code(self, v: V) -> V::Int {
        // SAFETY: the vector's.
        unsafe { V::add_int(self.clamp(v).round_int(), V::splat_int(self.zero)) }
    }

    #[inline(always)]
    unsafe fn clamp(self, v: V) -> V {
        // SAFETY: the vector's.
        unsafe { v.max(self.lo).min(self.hi) }
    }

    /// How much the rounding of a code changes.
    ///
    /// # Safety
    /// That of [`Vector`].
    #[inline(always)]
    pub unsafe fn rounded_off(self, v: V) -> V {
        // SAFETY: the caller's promise.
        unsafe {
            let v = self.clamp(v);
            let off = v.sub(V::from_int(v.round_int()));
            off.max(V::splat(0.0).sub(off))
        }
    }
}

/// What vectors are loaded from.
pub trait Source: Pod {
    /// The elements less the zero point, if they are integers.
    ///
    /// # Safety
    /// That of [`Vector`].
    unsafe fn load<V: Vector>(from: *const Self, zero: i32) -> V;
}

/// What vectors are stored to as well: elements that f32 holds exactly.
pub trait Element: Source {
    /// Less than or equal to every element.
    const LEAST: f32;

    /// Writes the nearest elements, ties to even; codes end as `last` says and saturate.
    ///
    /// # Safety
    /// That of [`Vector`].
    unsafe fn store<V: Vector>(v: V, last: Last<V>, to: *mut Self);
}

macro_rules! elements {
    ($($type:ty, $least:expr, |$from:ident, $zero:ident| $load:expr, |$v:ident, $last:ident, $to:ident| $store:expr;)*) => {$(
        impl Source for $type {
            #[inline(always)]
            unsafe fn load<V: Vector>($from: *const Self, $zero: i32) -> V {
                // SAFETY: the caller's promise; an f16 is its bits.
                unsafe { $load }
            }
        }

        impl Element for $type {
            const LEAST: f32 = $least;
            #[inline(always)]
            unsafe fn store<V: Vector>($v: V, $last: Last<V>, $to: *mut Self) {
                // SAFETY: as above; codes lie within i16.
                unsafe { $store }
            }
        }
    )*};
}

elements! {
    f32, f32::NEG_INFINITY, |from, _zero| V::load(from), |v, _last, to| v.store(to);
    f16, f32::NEG_INFINITY, |from, _zero| V::load_f16(from.cast()), |v, _last, to| v.store_f16(to.cast());
    i8, -128.0, |from, zero| V::from_int(V::add_int(V::load_i8(from), V::splat_int(-zero))), |v, last, to| V::store_i8(last.code(v), to);
    u8, 0.0, |from, zero| V::from_int(V::add_int(V::load_u8(from), V::splat_int(-zero))), |v, last, to| V::store_u8(last.code(v), to);
}

impl Source for i32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self, zero: i32) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::from_int(V::add_int(V::load_int(from), V::splat_int(zero.wrapping_neg()))) }
    }
}
