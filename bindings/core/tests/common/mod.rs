//! The test network: the zoo's Fashion-MNIST classifier, converted to int8.
#![allow(dead_code)] // each test program uses a part of it

use sparrow_convert::ir::Tensor;
use sparrow_convert::onnx;
use sparrow_convert::pipeline::{Options, Sample, convert};
use sparrow_convert::settings::Precision;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub const PIXELS: usize = 28 * 28;

fn zoo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/zoo/fashion").join(name)
}

/// The elements of an array of bytes; the headers of these files have 128 bytes.
fn elements(name: &str) -> Vec<u8> {
    std::fs::read(zoo(name)).expect("the array is there").split_off(128)
}

pub fn pixels(image: &[u8]) -> Vec<f32> {
    image.iter().map(|&p| f32::from(p) / 255.0).collect()
}

/// Pictures with their classes.
pub fn pictures() -> Vec<(Vec<f32>, usize)> {
    let labels = elements("test_labels.npy");
    elements("test_images.npy").chunks_exact(PIXELS).map(pixels).zip(labels.into_iter().map(usize::from)).collect()
}

fn network() -> onnx::Model {
    onnx::Model::read(&zoo("fashion.onnx")).expect("the network is there")
}

fn int8(network: &onnx::Model) -> Vec<u8> {
    let sample = |image: &[u8]| Tensor::from_slice(&[1, 1, 28, 28], &pixels(image)).expect("28 by 28");
    let samples = elements("calibration_images.npy");
    let samples = samples.chunks_exact(PIXELS).take(32).map(|i| Sample::from([("image".into(), sample(i))])).collect();
    let options = Options { precision: Precision::I8, samples, ..Options::default() };
    convert(network, &options, &mut |_, _, _| {}).expect("converts").file
}

/// The bytes of the int8 file. Its last layer computes in floats.
pub fn file() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| int8(&network()))
}

/// The bytes of the int8 file without the last layer: its result is the same on every machine.
pub fn features() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let mut network = network();
        let graph = network.proto.graph.as_mut().expect("has a graph");
        let last = graph.node.pop().expect("has a last layer");
        graph.output[0].name.clone_from(&last.input[0]);
        // The shape follows from the rest.
        graph.output[0].r#type = None;
        int8(&network)
    })
}

/// The file in a folder of its own, deleted with the result.
pub fn stored() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fashion.spw");
    std::fs::write(&path, file()).expect("written");
    (folder, path)
}
