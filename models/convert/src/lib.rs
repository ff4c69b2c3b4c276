//! Sparrow's converter: a trained network goes in, one flat file comes out.
//!
//! ```text
//! model.onnx --onnx--> ModelProto --import--> ir::Graph --passes, prune, quantize, lower, pack, plan--> model.spw
//! ```
//!
//! [`onnx`] reads and writes the protobuf, [`import`] turns it into the [`ir`]: a list of typed operators with every
//! shape known, every default filled in and every difference between operator-set versions gone.

pub mod compensate;
pub mod conformance;
pub mod evaluate;
pub mod import;
pub mod ir;
pub mod lower;
pub mod onnx;
pub mod passes;
pub mod pipeline;
pub mod plan;
pub mod program;
pub mod prune;
pub mod quantize;
pub mod settings;
mod weights;
pub mod write;
