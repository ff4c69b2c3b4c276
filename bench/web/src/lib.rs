//! MobileNet-v1 1.0/224 as a list of kernel calls, for timing kernels without a model file.
//!
//! Weights are random, sparse ones keep a random choice of units; activations are real results, so the last layer's
//! output can be compared with the scalar kernels'. The host builds a network, then runs layers and takes the time:
//!
//! ```text
//! build(type, sparsity, block, mask) -> layers      name(layer) -> text      run(first, last)      verify() -> greatest difference
//! ```
#![cfg(target_arch = "wasm32")]

mod net;

use net::Net;
use sparrow_kernels::{Features, Kernels};
use std::cell::RefCell;

thread_local! {
    static NET: RefCell<Option<Net>> = const { RefCell::new(None) };
    static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The kernels of this module with the features outside `mask`.
fn kernels(mask: u32) -> Kernels {
    Kernels::new(&[sparrow_kernels_wasm::CATALOGUE], sparrow_kernels_wasm::detect().without(Features(mask)))
}

/// What the module and its engine can do, as [`Features`] bits.
#[unsafe(no_mangle)]
pub extern "C" fn features() -> u32 {
    sparrow_kernels_wasm::detect().0
}

/// Builds the network of `dtype` (a DType number: 0 f32, 2 i8), its 1x1 layers with `sparsity` percent of blocks of
/// `block` channels left out (0: dense), with the features in `mask` switched off. Returns the number of layers.
#[unsafe(no_mangle)]
pub extern "C" fn build(dtype: u32, sparsity: u32, block: u32, mask: u32) -> usize {
    let net = Net::mobilenet(dtype == 2, sparsity, block as usize, kernels(mask));
    let layers = net.layers();
    NET.set(Some(net));
    layers
}

/// Builds a list of operators instead of a network, each on 2^16 elements. Returns their number.
#[unsafe(no_mangle)]
pub extern "C" fn build_operators(mask: u32) -> usize {
    let net = Net::operators(kernels(mask));
    let layers = net.layers();
    NET.set(Some(net));
    layers
}

/// Runs layers `first..last` once.
#[unsafe(no_mangle)]
pub extern "C" fn run(first: usize, last: usize) {
    NET.with_borrow(|net| net.as_ref().expect("build first").run(first..last));
}

/// Greatest difference between the last layer's output and the scalar kernels', over the greatest magnitude.
#[unsafe(no_mangle)]
pub extern "C" fn verify() -> f32 {
    NET.with_borrow_mut(|net| net.as_mut().expect("build first").verify())
}

/// Length of the layer's name, kernel and multiply-adds, which [`text`] points to.
#[unsafe(no_mangle)]
pub extern "C" fn name(layer: usize) -> usize {
    TEXT.set(NET.with_borrow(|net| net.as_ref().expect("build first").describe(layer)));
    TEXT.with_borrow(|text| text.len())
}

/// The text of the last [`name`].
#[unsafe(no_mangle)]
pub extern "C" fn text() -> *const u8 {
    TEXT.with_borrow(|text| text.as_ptr())
}
