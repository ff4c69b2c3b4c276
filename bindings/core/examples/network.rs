//! `network DIR`: the network that hosts are compared on, as `DIR/network.spw`, and a picture for it, `DIR/input.bin`.
//!
//! It is the zoo's Fashion-MNIST classifier in int8 without its last layer, which is computed in floats and so differs in
//! the last bit from one instruction set to another. What is left gives 256 codes times their scale: the same bytes
//! everywhere.

#[path = "../tests/common/mod.rs"]
mod common;

fn main() {
    let folder = std::env::args_os().nth(1).map(std::path::PathBuf::from).expect("usage: network DIR");
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let picture: Vec<u8> = common::pictures()[0].0.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
    std::fs::write(folder.join("network.spw"), common::features()).expect("written");
    std::fs::write(folder.join("input.bin"), picture).expect("written");
}
