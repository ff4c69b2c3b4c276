//! Any bytes as an ONNX model: imported, simplified and lowered, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sparrow_convert::onnx::Model;
use sparrow_convert::pipeline::{Options, convert};
use std::path::Path;

fuzz_target!(|data: &[u8]| {
    if let Ok(model) = Model::decode(data.to_vec(), Path::new("fuzz.onnx")) {
        let model = Model { directory: None, ..model };
        let _ = convert(&model, &Options::default(), &mut |_, _, _| {});
    }
});
