//! Any bytes, as they are and with their hashes mended, must open or be refused.
#![no_main]

mod common;

use libfuzzer_sys::fuzz_target;
use sparrow_runtime::{AlignedBytes, Model};

fuzz_target!(|data: &[u8]| {
    let mut file = AlignedBytes::copy_of(data);
    let _ = Model::open(file.as_slice());
    common::mend(file.as_mut_slice());
    if let Ok(model) = Model::open(file.as_slice()) {
        let _ = model.verify();
        for entry in (0..model.entry_count()).filter_map(|i| model.entry(i)) {
            for &id in entry.inputs.iter().chain(entry.outputs) {
                let _ = model.tensor(id).byte_len();
            }
        }
    }
});
