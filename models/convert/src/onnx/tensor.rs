//! A stored ONNX tensor as an [`ir::Tensor`](crate::ir::Tensor).
//!
//! The representation computes in f32: half, bfloat16 and double become f32, which the caller reports. Other types that
//! the runtime lacks are refused. Elements come from `raw_data`, from the typed field that ONNX prescribes for the type
//! (small integers and half floats sit in `int32_data`), or from a file beside the model.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use half::{bf16, f16};

use super::proto::{DataType, TensorProto};
use crate::ir::{DType, Element, Tensor, byte_count};

/// Dimensions of one tensor; far beyond any network.
pub const MAX_RANK: usize = 16;
/// Largest single dimension: window arithmetic on two of them still fits 64 bits.
pub const MAX_DIM: usize = i32::MAX as usize;

/// Why a stored tensor cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum TensorError {
    #[error("element type {0} is not supported (f32, i8, u8, i32, i64, bool are; f16, bf16 and f64 become f32)")]
    Type(String),
    #[error("dimensions {0:?} are negative or too large")]
    Dims(Vec<i64>),
    #[error("holds {found} {unit}, its dimensions want {expected}")]
    Length { found: usize, expected: usize, unit: &'static str },
    #[error("external data: {0}")]
    External(String),
}

/// The type that stands for an ONNX element type, and whether it is another one than the source's.
pub fn dtype_of(data_type: i32) -> Result<(DType, bool), TensorError> {
    match DataType::from_i32(data_type) {
        Some(DataType::Float) => Ok((DType::F32, false)),
        Some(DataType::Float16 | DataType::Bfloat16 | DataType::Double) => Ok((DType::F32, true)),
        Some(DataType::Int8) => Ok((DType::I8, false)),
        Some(DataType::Uint8) => Ok((DType::U8, false)),
        Some(DataType::Int32) => Ok((DType::I32, false)),
        Some(DataType::Int64) => Ok((DType::I64, false)),
        Some(DataType::Bool) => Ok((DType::Bool, false)),
        Some(other) => Err(TensorError::Type(format!("{other:?}").to_lowercase())),
        None => Err(TensorError::Type(format!("number {data_type}"))),
    }
}

/// Dimensions as the representation holds them.
pub fn checked_dims(dims: &[i64]) -> Result<Vec<usize>, TensorError> {
    let bad = || TensorError::Dims(dims.iter().take(MAX_RANK).copied().collect());
    let checked: Option<Vec<usize>> =
        dims.iter().map(|&dim| usize::try_from(dim).ok().filter(|&dim| dim <= MAX_DIM)).collect();
    checked.filter(|dims| dims.len() <= MAX_RANK).ok_or_else(bad)
}

/// Reads a stored tensor. `directory` is where external data is looked for.
pub fn read_tensor(proto: &TensorProto, directory: Option<&Path>) -> Result<Tensor, TensorError> {
    let (dtype, _) = dtype_of(proto.data_type)?;
    let dims = checked_dims(&proto.dims)?;
    byte_count(dtype, &dims).ok_or_else(|| TensorError::Dims(proto.dims.clone()))?;
    let stored = Stored { proto, dims: &dims };
    if proto.data_location == 1 {
        let bytes = stored.external(directory)?;
        stored.read_raw(&bytes)
    } else if !proto.raw_data.is_empty() {
        stored.read_raw(&proto.raw_data)
    } else {
        stored.read_fields()
    }
}

struct Stored<'a> {
    proto: &'a TensorProto,
    dims: &'a [usize],
}

impl Stored<'_> {
    fn data_type(&self) -> Option<DataType> {
        DataType::from_i32(self.proto.data_type)
    }

    fn count(&self) -> usize {
        self.dims.iter().product()
    }

    /// Bytes of the tensor as stored; `None` if no slice is that long.
    fn stored_bytes(&self) -> Option<usize> {
        let size = match self.data_type()? {
            DataType::Double => 8,
            DataType::Float16 | DataType::Bfloat16 => 2,
            _ => dtype_of(self.proto.data_type).ok()?.0.size(),
        };
        self.count().checked_mul(size)
    }

    fn expect(&self, found: usize, expected: usize, unit: &'static str) -> Result<(), TensorError> {
        if found == expected { Ok(()) } else { Err(TensorError::Length { found, expected, unit }) }
    }

    fn read_raw(&self, bytes: &[u8]) -> Result<Tensor, TensorError> {
        self.expect(bytes.len(), self.stored_bytes().unwrap_or(usize::MAX), "bytes")?;
        match self.data_type() {
            Some(DataType::Double) => self.tensor(&map_raw(bytes, |x: [u8; 8]| f64::from_le_bytes(x) as f32)),
            Some(DataType::Float16) => self.tensor(&map_raw(bytes, |x: [u8; 2]| f16::from_le_bytes(x).to_f32())),
            Some(DataType::Bfloat16) => self.tensor(&map_raw(bytes, |x: [u8; 2]| bf16::from_le_bytes(x).to_f32())),
            Some(DataType::Bool) => self.bools(bytes.iter().map(|&byte| byte != 0)),
            _ => self.bytes(bytes),
        }
    }

    fn read_fields(&self) -> Result<Tensor, TensorError> {
        let proto = self.proto;
        let ints = &proto.int32_data;
        match self.data_type() {
            Some(DataType::Float) => self.tensor(&proto.float_data),
            Some(DataType::Int64) => self.tensor(&proto.int64_data),
            Some(DataType::Int32) => self.tensor(ints),
            // Stored wider than they are; the low bits are the value, as every reader takes them.
            Some(DataType::Int8) => self.tensor(&map(ints, |x| x as i8)),
            Some(DataType::Uint8) => self.tensor(&map(ints, |x| x as u8)),
            Some(DataType::Bool) => self.bools(ints.iter().map(|&x| x != 0)),
            Some(DataType::Double) => self.tensor(&map(&proto.double_data, |x| x as f32)),
            Some(DataType::Float16) => self.tensor(&map(ints, |x| f16::from_bits(x as u16).to_f32())),
            Some(DataType::Bfloat16) => self.tensor(&map(ints, |x| bf16::from_bits(x as u16).to_f32())),
            _ => Err(TensorError::Type(format!("number {}", proto.data_type))),
        }
    }

    fn tensor<T: Element>(&self, elements: &[T]) -> Result<Tensor, TensorError> {
        self.expect(elements.len(), self.count(), "elements")?;
        Tensor::from_slice(self.dims, elements).ok_or_else(|| TensorError::Dims(self.proto.dims.clone()))
    }

    fn bools(&self, elements: impl Iterator<Item = bool>) -> Result<Tensor, TensorError> {
        self.bytes(&elements.map(u8::from).collect::<Vec<_>>())
    }

    fn bytes(&self, bytes: &[u8]) -> Result<Tensor, TensorError> {
        let (dtype, _) = dtype_of(self.proto.data_type)?;
        self.expect(bytes.len(), self.count() * dtype.size(), "bytes")?;
        Tensor::new(dtype, self.dims, bytes).ok_or_else(|| TensorError::Dims(self.proto.dims.clone()))
    }

    /// What the external-data list says under this key.
    fn entry(&self, key: &str) -> Option<&str> {
        self.proto.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    }

    fn number(&self, key: &str) -> Result<Option<u64>, TensorError> {
        let parse = |text: &str| text.parse().map_err(|_| external(format!("{key} '{text}' is not a number")));
        self.entry(key).map(parse).transpose()
    }

    /// The tensor's bytes from the file that it names.
    fn external(&self, directory: Option<&Path>) -> Result<Vec<u8>, TensorError> {
        let location = self.entry("location").ok_or_else(|| external("names no file".into()))?;
        let directory = directory
            .ok_or_else(|| external(format!("'{location}' is wanted, but the model was not read from a file")))?;
        let relative = Path::new(location);
        if location.is_empty() || !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(external(format!("'{location}' must name a file below the model's directory")));
        }
        let path = directory.join(relative);
        let io = |e: std::io::Error| external(format!("{}: {e}", path.display()));
        let mut file = File::open(&path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        let offset = self.number("offset")?.unwrap_or(0);
        let rest = metadata.len().checked_sub(offset).filter(|_| metadata.is_file());
        let wanted = self.stored_bytes().unwrap_or(usize::MAX);
        // A length, where given, is the tensor's; without one the file ends with the tensor.
        let length = self.number("length")?.or(rest).unwrap_or(u64::MAX);
        if length != wanted as u64 || rest.is_none_or(|rest| length > rest) {
            let (path, size) = (path.display(), metadata.len());
            return Err(external(format!("{path}: {wanted} bytes at {offset} are wanted, {length} stated, of {size}")));
        }
        file.seek(SeekFrom::Start(offset)).map_err(io)?;
        let mut bytes = vec![0; wanted];
        file.read_exact(&mut bytes).map_err(io)?;
        Ok(bytes)
    }
}

fn external(message: String) -> TensorError {
    TensorError::External(message)
}

fn map<T: Copy, R>(elements: &[T], f: impl Fn(T) -> R) -> Vec<R> {
    elements.iter().map(|&x| f(x)).collect()
}

fn map_raw<const N: usize, R>(bytes: &[u8], f: impl Fn([u8; N]) -> R) -> Vec<R> {
    bytes.as_chunks().0.iter().map(|&chunk| f(chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::proto::StringStringEntryProto;
    use super::*;

    fn typed(data_type: DataType, dims: &[i64]) -> TensorProto {
        TensorProto { data_type: data_type as i32, dims: dims.to_vec(), ..TensorProto::default() }
    }

    #[test]
    fn every_type_reads_raw_and_typed_fields() {
        type Case = (DataType, Vec<u8>, fn(&mut TensorProto), DType, [f64; 2]);
        let cases: [Case; 9] = [
            (
                DataType::Float,
                [1.5f32, -2.0].map(f32::to_le_bytes).concat(),
                |t| t.float_data = vec![1.5, -2.0],
                DType::F32,
                [1.5, -2.0],
            ),
            (
                DataType::Double,
                [1.5f64, -2.0].map(f64::to_le_bytes).concat(),
                |t| t.double_data = vec![1.5, -2.0],
                DType::F32,
                [1.5, -2.0],
            ),
            (
                DataType::Float16,
                vec![0, 0x3e, 0, 0xc0],
                |t| t.int32_data = vec![0x3e00, 0xc000],
                DType::F32,
                [1.5, -2.0],
            ),
            (
                DataType::Bfloat16,
                vec![0xc0, 0x3f, 0, 0xc0],
                |t| t.int32_data = vec![0x3fc0, 0xc000],
                DType::F32,
                [1.5, -2.0],
            ),
            (DataType::Int8, vec![5, 0xfe], |t| t.int32_data = vec![5, -2], DType::I8, [5.0, -2.0]),
            (DataType::Uint8, vec![5, 0xfe], |t| t.int32_data = vec![5, 254], DType::U8, [5.0, 254.0]),
            (
                DataType::Int32,
                [5i32, -2].map(i32::to_le_bytes).concat(),
                |t| t.int32_data = vec![5, -2],
                DType::I32,
                [5.0, -2.0],
            ),
            (
                DataType::Int64,
                [5i64, -2].map(i64::to_le_bytes).concat(),
                |t| t.int64_data = vec![5, -2],
                DType::I64,
                [5.0, -2.0],
            ),
            (DataType::Bool, vec![7, 0], |t| t.int32_data = vec![1, 0], DType::Bool, [1.0, 0.0]),
        ];
        for (data_type, raw, fill, dtype, expected) in cases {
            let mut fields = typed(data_type, &[2]);
            fill(&mut fields);
            let raw = TensorProto { raw_data: raw.into(), ..typed(data_type, &[2]) };
            for proto in [fields, raw] {
                let tensor = read_tensor(&proto, None).unwrap_or_else(|e| panic!("{data_type:?}: {e}"));
                assert_eq!((tensor.dtype(), tensor.to_f64()), (dtype, expected.to_vec()), "{data_type:?}");
            }
        }
    }

    #[test]
    fn bad_tensors_are_refused() {
        let mut long_rank = typed(DataType::Float, &[1; 17]);
        long_rank.float_data = vec![0.0];
        let short = TensorProto { raw_data: vec![0; 7].into(), ..typed(DataType::Float, &[2]) };
        let cases = [
            (typed(DataType::Uint16, &[]), "element type uint16"),
            (typed(DataType::String, &[]), "element type string"),
            (TensorProto { data_type: 99, ..TensorProto::default() }, "element type number 99"),
            (typed(DataType::Float, &[-1]), "negative or too large"),
            (typed(DataType::Float, &[i64::MAX]), "negative or too large"),
            (typed(DataType::Float, &[1 << 30, 1 << 30, 1 << 30]), "negative or too large"),
            (long_rank, "negative or too large"),
            (short, "holds 7 bytes, its dimensions want 8"),
            (typed(DataType::Int64, &[3]), "holds 0 elements, its dimensions want 3"),
        ];
        for (proto, message) in cases {
            let error = read_tensor(&proto, None).unwrap_err().to_string();
            assert!(error.contains(message), "{error:?} should mention {message:?}");
        }
    }

    #[test]
    fn external_data_is_read_and_kept_inside_the_directory() {
        let directory = std::env::temp_dir().join(format!("sparrow-external-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("sub")).unwrap();
        let bytes: Vec<u8> = [0.0f32, 1.0, 2.0, 3.0].map(f32::to_le_bytes).concat();
        std::fs::write(directory.join("sub/weights.bin"), &bytes).unwrap();
        let tensor = |entries: &[(&str, &str)]| {
            let entry = |&(key, value): &(&str, &str)| StringStringEntryProto { key: key.into(), value: value.into() };
            let external_data = entries.iter().map(entry).collect();
            TensorProto { data_location: 1, external_data, ..typed(DataType::Float, &[2]) }
        };
        let good = tensor(&[("location", "sub/weights.bin"), ("offset", "4"), ("length", "8")]);
        assert_eq!(read_tensor(&good, Some(&directory)).unwrap().to_f64(), [1.0, 2.0]);
        let tail = tensor(&[("location", "sub/weights.bin"), ("offset", "8")]);
        assert_eq!(read_tensor(&tail, Some(&directory)).unwrap().to_f64(), [2.0, 3.0]);
        assert!(read_tensor(&good, None).is_err());
        let inside = |offset, length| [("location", "sub/weights.bin"), ("offset", offset), ("length", length)];
        let absolute = directory.join("sub/weights.bin").display().to_string();
        for entries in [
            vec![],
            vec![("location", "")],
            vec![("location", "../weights.bin")],
            vec![("location", "sub/../../x")],
            vec![("location", absolute.as_str()), ("length", "8")],
            vec![("location", "sub")],
            vec![("location", "missing.bin")],
            inside("12", "8").to_vec(),
            inside("17", "8").to_vec(),
            inside("0", "16").to_vec(),
            inside("-1", "8").to_vec(),
            inside("18446744073709551615", "8").to_vec(),
        ] {
            let error = read_tensor(&tensor(&entries), Some(&directory));
            assert!(matches!(error, Err(TensorError::External(_))), "{entries:?}: {error:?}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
