//! Pixels of three planes of bytes, with the shuffles of SSSE3, which every CPU with AVX2 has.

use crate::AVX2;
use core::arch::x86_64::*;
use core::ops::Range;
use sparrow_kernels::ops::{copy_pixels, copy_units, makes_pixels};
use sparrow_kernels::{Call, Kernel, Op};

/// For each vector of 16 of 48 bytes and each plane: which of the plane's 16 bytes goes where, -1 where another plane's does.
const PLACES: [[[i8; 16]; 3]; 3] = {
    let mut places = [[[-1; 16]; 3]; 3];
    let mut at = 0;
    while at < 48 {
        places[at / 16][at % 3][at % 16] = (at / 3) as i8;
        at += 1;
    }
    places
};

/// # Safety
/// As [`Kernel::run`].
unsafe fn copy(call: &Call, units: Range<usize>) {
    // SAFETY: the caller's promise, the CPU's features among it.
    unsafe { copy_pixels(call, units, &|planes, pixels| interleave(planes, pixels)) }
}

/// Writes three runs of one length side by side.
#[target_feature(enable = "avx2")]
fn interleave(planes: [&[u8]; 3], pixels: &mut [u8]) {
    let count = planes[0].len();
    assert!(planes.iter().all(|plane| plane.len() == count) && pixels.len() == count * 3);
    if count < 16 {
        // A few pixels that a thread took of a row.
        for (n, pixel) in pixels.iter_mut().enumerate() {
            *pixel = planes[n % 3][n / 3];
        }
        return;
    }
    let (planes, pixels) = (planes.map(<[u8]>::as_ptr), pixels.as_mut_ptr());
    for at in (0..count).step_by(16) {
        // The last vectors begin inside the ones before.
        let at = at.min(count - 16);
        // SAFETY: 16 bytes of each plane, and 48 of the pixels, begin there.
        unsafe {
            let [a, b, c] = planes.map(|plane| _mm_loadu_si128(plane.add(at).cast()));
            for (n, [at_a, at_b, at_c]) in PLACES.iter().enumerate() {
                let a = _mm_shuffle_epi8(a, _mm_loadu_si128(at_a.as_ptr().cast()));
                let b = _mm_shuffle_epi8(b, _mm_loadu_si128(at_b.as_ptr().cast()));
                let c = _mm_shuffle_epi8(c, _mm_loadu_si128(at_c.as_ptr().cast()));
                _mm_storeu_si128(pixels.add(at * 3 + n * 16).cast(), _mm_or_si128(_mm_or_si128(a, b), c));
            }
        }
    }
}

/// Copies of pictures.
pub(crate) const CATALOGUE: &[Kernel] = &[Kernel {
    name: "copy_x8_avx2",
    op: Op::Copy,
    requires: AVX2,
    accepts: makes_pixels,
    units: copy_units,
    run: copy,
}];
