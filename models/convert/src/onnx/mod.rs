//! The ONNX file: a protobuf message, and sometimes tensors in files beside it.
//!
//! [`proto`] holds the messages (only the fields that matter here, so unknown ones are skipped), [`tensor`] turns a
//! stored tensor into an [`ir::Tensor`](crate::ir::Tensor). Bytes are taken as hostile: prost bounds the nesting,
//! subgraphs are not even decoded, every size is checked before memory is taken, and external data stays inside the
//! model's directory.
//!
//! Source: onnx/onnx.proto and docs/ExternalData.md of the ONNX project.

pub mod proto;
pub mod tensor;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use prost::Message;
use prost::bytes::Bytes;

pub use proto::ModelProto;

/// Protobuf's own limit for a message, and so for a model without external data.
const MAX_MODEL_BYTES: u64 = 1 << 31;

/// A decoded model and the place its external data is looked for.
#[derive(Clone, Debug)]
pub struct Model {
    /// The message.
    pub proto: ModelProto,
    /// Directory of the model file; `None`: external data is refused.
    pub directory: Option<PathBuf>,
}

/// Why a file is no ONNX model.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ReadError {
    #[error("{path}: cannot be read: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: is larger than 2 GiB, which no ONNX file can be; large weights belong into external data")]
    TooLarge { path: PathBuf },
    #[error("{path}: is not an ONNX model ({source})")]
    Decode { path: PathBuf, source: prost::DecodeError },
    #[error("{path}: is not an ONNX model (it holds no graph)")]
    NoGraph { path: PathBuf },
}

impl Model {
    /// Reads a model file; its external data is read later, on import.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let io = |source| ReadError::Io { path: path.into(), source };
        let mut bytes = Vec::new();
        File::open(path).map_err(io)?.take(MAX_MODEL_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > MAX_MODEL_BYTES {
            return Err(ReadError::TooLarge { path: path.into() });
        }
        let mut model = Self::decode(bytes, path)?;
        model.directory = Some(path.parent().map_or_else(PathBuf::new, Path::to_path_buf));
        Ok(model)
    }

    /// Decodes a model without external data; `path` is for error messages only.
    pub fn decode(bytes: Vec<u8>, path: &Path) -> Result<Self, ReadError> {
        let proto =
            ModelProto::decode(Bytes::from(bytes)).map_err(|source| ReadError::Decode { path: path.into(), source })?;
        if proto.graph.is_none() {
            return Err(ReadError::NoGraph { path: path.into() });
        }
        Ok(Self { proto, directory: None })
    }
}

impl From<ModelProto> for Model {
    fn from(proto: ModelProto) -> Self {
        Self { proto, directory: None }
    }
}

#[cfg(test)]
mod tests {
    use super::proto::*;
    use super::*;

    fn sample() -> ModelProto {
        let weight = TensorProto::from_f32("w", &[2, 2], &[1.0, -2.0, 3.5, 0.0]);
        let node = NodeProto::new("Gemm", "fc", &["x", "w"], &["y"])
            .with(AttributeProto::float("alpha", 0.0))
            .with(AttributeProto::int("transB", 1))
            .with(AttributeProto::ints("unused", &[-1, 0, 7]))
            .with(AttributeProto::string("mode", "abc"));
        let graph = GraphProto {
            name: "g".into(),
            node: vec![node],
            initializer: vec![weight],
            input: vec![ValueInfoProto::tensor("x", DataType::Float, &[Dim::Param("N".into()), Dim::Value(2)])],
            output: vec![ValueInfoProto::tensor("y", DataType::Float, &[Dim::Param("N".into()), Dim::Value(2)])],
            ..GraphProto::default()
        };
        ModelProto::new(graph, 13)
    }

    #[test]
    fn a_model_survives_encoding() {
        let model = sample();
        let decoded = Model::decode(model.encode_to_vec(), Path::new("sample.onnx")).unwrap();
        assert_eq!(decoded.proto, model);
    }

    #[test]
    fn what_is_not_a_model_is_refused() {
        let path = Path::new("bad.onnx");
        let model = sample().encode_to_vec();
        for bytes in [b"".to_vec(), b"\x89PNG\r\n\x1a\n".to_vec(), model[..model.len() - 3].to_vec(), vec![0xff; 64]] {
            let error = Model::decode(bytes, path).unwrap_err().to_string();
            assert!(error.starts_with("bad.onnx: is not an ONNX model"), "{error}");
        }
        assert!(matches!(Model::read(Path::new("no/such/file.onnx")), Err(ReadError::Io { .. })));
    }

    /// Nested graphs cost nothing: they are kept as bytes, so a deep nest is no deep recursion.
    #[test]
    fn subgraphs_are_not_decoded() {
        let mut nested = GraphProto::default().encode_to_vec();
        for _ in 0..2000 {
            let attribute = AttributeProto { g: Some(nested.into()), ..AttributeProto::default() };
            let node = NodeProto { attribute: vec![attribute], ..NodeProto::default() };
            nested = GraphProto { node: vec![node], ..GraphProto::default() }.encode_to_vec();
        }
        let node = NodeProto {
            attribute: vec![AttributeProto { g: Some(nested.into()), ..AttributeProto::default() }],
            ..NodeProto::new("If", "", &["c"], &["y"])
        };
        let model = ModelProto::new(GraphProto { node: vec![node], ..GraphProto::default() }, 13);
        Model::decode(model.encode_to_vec(), Path::new("deep.onnx")).unwrap();
    }
}
