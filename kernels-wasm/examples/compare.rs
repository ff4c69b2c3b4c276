//! Every kernel of the module against the scalar one; a host (`kernels-wasm/test`) calls `compare` and prints the text.
#![cfg(target_arch = "wasm32")]

use sparrow_kernels_wasm::{CATALOGUE, detect};
use std::cell::RefCell;

thread_local! {
    static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What the module and its engine can do, as `Features` bits.
#[unsafe(no_mangle)]
pub extern "C" fn features() -> u32 {
    detect().0
}

/// Runs all cases. Returns whether every kernel the engine can run ran and agreed; [`text`] has the lists.
#[unsafe(no_mangle)]
pub extern "C" fn compare() -> bool {
    let report = sparrow_testkit::compare(CATALOGUE, detect());
    TEXT.set(report.to_string());
    report.ok()
}

/// First byte of the text.
#[unsafe(no_mangle)]
pub extern "C" fn text() -> *const u8 {
    TEXT.with_borrow(|text| text.as_ptr())
}

/// Length of the text.
#[unsafe(no_mangle)]
pub extern "C" fn text_len() -> usize {
    TEXT.with_borrow(|text| text.len())
}
