//! Any bytes, as they are and with their hashes mended, must open or be refused.
#![no_main]

mod common;

use libfuzzer_sys::fuzz_target;
use sparrow_runtime::Model;

fuzz_target!(|data: &[u8]| {
    let mut file = common::Aligned::new(data);
    let _ = Model::open(file.bytes());
    common::mend(file.bytes());
    if let Ok(model) = Model::open(file.bytes()) {
        let _ = model.verify();
        for entry in (0..model.entry_count()).filter_map(|i| model.entry(i)) {
            for &id in entry.inputs.iter().chain(entry.outputs) {
                let _ = model.tensor(id).byte_len();
            }
        }
    }
});
