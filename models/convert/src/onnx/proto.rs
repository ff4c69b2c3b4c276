//! The messages of onnx.proto that the importer reads and the zoo writes, declared by hand for prost: field numbers are
//! ONNX's, fields that nobody here uses are left out, and a subgraph stays undecoded bytes.

use prost::Message;
use prost::bytes::Bytes;

/// A model: one graph and the operator sets it is written for.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs)] // ONNX's names
pub struct ModelProto {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
}

/// Domain (empty: ONNX's own operators) and version.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs)] // ONNX's names
pub struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// Nodes in executable order, constants, interface.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs)] // ONNX's names
pub struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    /// Undecoded; only their presence matters.
    #[prost(bytes = "bytes", repeated, tag = "15")]
    pub sparse_initializer: Vec<Bytes>,
}

/// One operator.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs)] // ONNX's names
pub struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// A named attribute of one of several types.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs)] // ONNX's names
pub struct AttributeProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub s: Option<Bytes>,
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    /// A GraphProto, undecoded.
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub g: Option<Bytes>,
    #[prost(float, repeated, tag = "7")]
    pub floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    /// An [`AttributeType`]; 0 in very old models.
    #[prost(int32, tag = "20")]
    pub r#type: i32,
    #[prost(string, tag = "21")]
    pub ref_attr_name: String,
}

/// A stored tensor; the elements are in `raw_data`, in one of the typed fields, or in another file.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs)] // ONNX's names
pub struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    /// A [`DataType`].
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "bytes", tag = "9")]
    pub raw_data: Bytes,
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// 1: the elements are in the file that `external_data` names.
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

/// A key with its value.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs)] // ONNX's names
pub struct StringStringEntryProto {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A graph input or output.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs)] // ONNX's names
pub struct ValueInfoProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
}

/// A value's type; sequences, maps and optionals leave `tensor_type` empty.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs)] // ONNX's names
pub struct TypeProto {
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
}

/// A tensor's type.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs)] // ONNX's names
pub struct TensorTypeProto {
    /// A [`DataType`].
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// A tensor's dimensions.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs)] // ONNX's names
pub struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

/// One dimension, perhaps unknown.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs)] // ONNX's names
pub struct DimensionProto {
    #[prost(oneof = "Dim", tags = "1, 2")]
    pub value: Option<Dim>,
}

/// A dimension's number or symbol.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Dim {
    /// Known.
    #[prost(int64, tag = "1")]
    Value(i64),
    /// To be chosen; equal symbols mean equal numbers.
    #[prost(string, tag = "2")]
    Param(String),
}

/// Element types, numbered as in `TensorProto.DataType`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
#[allow(missing_docs)] // ONNX's names
pub enum DataType {
    Float = 1,
    Uint8 = 2,
    Int8 = 3,
    Uint16 = 4,
    Int16 = 5,
    Int32 = 6,
    Int64 = 7,
    String = 8,
    Bool = 9,
    Float16 = 10,
    Double = 11,
    Uint32 = 12,
    Uint64 = 13,
    Complex64 = 14,
    Complex128 = 15,
    Bfloat16 = 16,
    Float8E4M3Fn = 17,
    Float8E4M3FnUz = 18,
    Float8E5M2 = 19,
    Float8E5M2FnUz = 20,
    Uint4 = 21,
    Int4 = 22,
    Float4E2M1 = 23,
    Float8E8M0 = 24,
    Uint2 = 25,
    Int2 = 26,
}

impl DataType {
    const ALL: [Self; 26] = {
        use DataType::*;
        [
            Float,
            Uint8,
            Int8,
            Uint16,
            Int16,
            Int32,
            Int64,
            String,
            Bool,
            Float16,
            Double,
            Uint32,
            Uint64,
            Complex64,
            Complex128,
            Bfloat16,
            Float8E4M3Fn,
            Float8E4M3FnUz,
            Float8E5M2,
            Float8E5M2FnUz,
            Uint4,
            Int4,
            Float4E2M1,
            Float8E8M0,
            Uint2,
            Int2,
        ]
    };

    /// The type with this number.
    pub fn from_i32(number: i32) -> Option<Self> {
        usize::try_from(number).ok()?.checked_sub(1).and_then(|index| Self::ALL.get(index)).copied()
    }
}

/// Attribute types, numbered as in `AttributeProto.AttributeType`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
#[allow(missing_docs)] // ONNX's names
pub enum AttributeType {
    Float = 1,
    Int = 2,
    String = 3,
    Tensor = 4,
    Floats = 6,
    Ints = 7,
}

impl ModelProto {
    /// A model of ONNX's own operators in this version.
    pub fn new(graph: GraphProto, opset: i64) -> Self {
        // IR version 8 belongs to opset 15 and is what every reader of the last years accepts.
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: opset }];
        Self { ir_version: 8, producer_name: "sparrow".into(), graph: Some(graph), opset_import }
    }
}

impl NodeProto {
    /// A node without attributes.
    pub fn new(op_type: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            op_type: op_type.into(),
            name: name.into(),
            input: owned(inputs),
            output: owned(outputs),
            ..Self::default()
        }
    }

    /// The node with one more attribute.
    pub fn with(mut self, attribute: AttributeProto) -> Self {
        self.attribute.push(attribute);
        self
    }
}

impl AttributeProto {
    fn typed(name: &str, kind: AttributeType) -> Self {
        Self { name: name.into(), r#type: kind as i32, ..Self::default() }
    }

    /// A number.
    pub fn float(name: &str, value: f32) -> Self {
        Self { f: Some(value), ..Self::typed(name, AttributeType::Float) }
    }

    /// An integer.
    pub fn int(name: &str, value: i64) -> Self {
        Self { i: Some(value), ..Self::typed(name, AttributeType::Int) }
    }

    /// A string.
    pub fn string(name: &str, value: &str) -> Self {
        Self { s: Some(Bytes::copy_from_slice(value.as_bytes())), ..Self::typed(name, AttributeType::String) }
    }

    /// A list of numbers.
    pub fn floats(name: &str, values: &[f32]) -> Self {
        Self { floats: values.to_vec(), ..Self::typed(name, AttributeType::Floats) }
    }

    /// A list of integers.
    pub fn ints(name: &str, values: &[i64]) -> Self {
        Self { ints: values.to_vec(), ..Self::typed(name, AttributeType::Ints) }
    }

    /// A tensor.
    pub fn tensor(name: &str, value: TensorProto) -> Self {
        Self { t: Some(value), ..Self::typed(name, AttributeType::Tensor) }
    }
}

impl TensorProto {
    /// Elements as raw little-endian bytes; there must be as many as the dimensions say.
    pub fn raw(name: &str, data_type: DataType, dims: &[usize], bytes: impl Into<Bytes>) -> Self {
        Self {
            name: name.into(),
            data_type: data_type as i32,
            dims: dims.iter().map(|&dim| dim as i64).collect(),
            raw_data: bytes.into(),
            ..Self::default()
        }
    }

    /// A float tensor.
    pub fn from_f32(name: &str, dims: &[usize], elements: &[f32]) -> Self {
        Self::raw(name, DataType::Float, dims, bytemuck::cast_slice::<_, u8>(elements).to_vec())
    }

    /// An integer tensor.
    pub fn from_i64(name: &str, dims: &[usize], elements: &[i64]) -> Self {
        Self::raw(name, DataType::Int64, dims, bytemuck::cast_slice::<_, u8>(elements).to_vec())
    }
}

impl ValueInfoProto {
    /// A tensor of this type and these dimensions.
    pub fn tensor(name: &str, elem_type: DataType, dims: &[Dim]) -> Self {
        let dim = dims.iter().map(|dim| DimensionProto { value: Some(dim.clone()) }).collect();
        let tensor_type = TensorTypeProto { elem_type: elem_type as i32, shape: Some(TensorShapeProto { dim }) };
        Self { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_types_have_onnx_numbers() {
        for (index, kind) in DataType::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index + 1);
            assert_eq!(DataType::from_i32(kind as i32), Some(kind));
        }
        assert_eq!(DataType::Int2 as i32, 26);
        for number in [i32::MIN, -1, 0, 27] {
            assert_eq!(DataType::from_i32(number), None);
        }
    }
}
