//! NumPy arrays, single (`.npy`) and bundled (`.npz`), as tensors.

use crate::fail::{Failure, Outcome, at, fail};
use npyz::{DType as NpyType, NpyFile, TypeChar, WriterBuilder};
use sparrow_convert::ir::{DType, Tensor};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;
use zip::ZipArchive;

/// What is wrong with a file that was cut off.
const SHORT: &str = "is shorter than its header says";

/// Reads one array. Big-endian, 64-bit float and Fortran-ordered arrays are brought into our form.
fn read<R: Read>(npy: NpyFile<R>) -> Result<Tensor, String> {
    let dims: Vec<usize> = npy.shape().iter().map(|&d| d as usize).collect();
    let rows = npy.order() == npyz::Order::C || dims.len() < 2;
    let NpyType::Plain(kind) = npy.dtype() else { return Err("holds records, not numbers".into()) };
    macro_rules! elements {
        ($rust:ty) => {
            npy.into_vec::<$rust>().map_err(|e| match e.kind() {
                ErrorKind::UnexpectedEof => SHORT.to_owned(),
                _ => format!("cannot be read: {e}"),
            })
        };
    }
    let tensor = match (kind.type_char(), kind.size_field()) {
        (TypeChar::Float, 4) => Tensor::from_slice(&dims, &elements!(f32)?),
        (TypeChar::Float, 8) => {
            Tensor::from_slice(&dims, &elements!(f64)?.into_iter().map(|x| x as f32).collect::<Vec<_>>())
        }
        (TypeChar::Float, 2) => Tensor::from_slice(&dims, &elements!(half::f16)?),
        (TypeChar::Int, 1) => Tensor::from_slice(&dims, &elements!(i8)?),
        (TypeChar::Uint, 1) => Tensor::from_slice(&dims, &elements!(u8)?),
        (TypeChar::Int, 4) => Tensor::from_slice(&dims, &elements!(i32)?),
        (TypeChar::Int, 8) => Tensor::from_slice(&dims, &elements!(i64)?),
        (TypeChar::Bool, _) => {
            Tensor::new(DType::Bool, &dims, elements!(bool)?.into_iter().map(u8::from).collect::<Vec<_>>())
        }
        _ => {
            return Err(format!(
                "holds elements of type {kind}; save it as float32, float16, int8, uint8, int32, int64 or bool"
            ));
        }
    };
    let tensor = tensor.ok_or(SHORT)?;
    if rows { Ok(tensor) } else { Ok(from_columns(&tensor)) }
}

/// A Fortran-ordered array in row-major order.
fn from_columns(tensor: &Tensor) -> Tensor {
    let (dims, size) = (tensor.dims(), tensor.dtype().size());
    let mut bytes = Vec::with_capacity(tensor.bytes().len());
    for mut index in 0..tensor.len() {
        let mut positions = vec![0; dims.len()];
        for (position, &dim) in positions.iter_mut().zip(dims).rev() {
            (*position, index) = (index % dim, index / dim);
        }
        let at = positions.iter().zip(dims).rev().fold(0, |at, (&position, &dim)| at * dim + position) * size;
        bytes.extend_from_slice(&tensor.bytes()[at..at + size]);
    }
    Tensor::new(tensor.dtype(), dims, bytes).expect("as many elements as before")
}

/// Reads an `.npy` file.
pub fn read_npy(path: &Path) -> Outcome<Tensor> {
    let file = File::open(path).map_err(at(path))?;
    let npy = NpyFile::new(BufReader::new(file)).map_err(|e| format!("is no NumPy array: {e}"));
    npy.and_then(read).map_err(at(path))
}

/// Reads an `.npz` file, a zip archive of `.npy` files: arrays by name.
pub fn read_npz(path: &Path) -> Outcome<BTreeMap<String, Tensor>> {
    let file = File::open(path).map_err(at(path))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(at(path))?;
    let mut arrays = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(at(path))?;
        let name = entry.name().map_err(at(path))?;
        let Some(name) = name.strip_suffix(".npy").map(str::to_owned) else { continue };
        let of = |what: String| Failure(format!("{}: array '{name}' {what}", path.display()));
        let npy = NpyFile::new(BufReader::new(entry)).map_err(|e| format!("is no NumPy array: {e}"));
        let tensor = npy.and_then(read).map_err(of)?;
        arrays.insert(name, tensor);
    }
    if arrays.is_empty() { fail(format!("{}: no .npy file in it", path.display())) } else { Ok(arrays) }
}

/// Writes an `.npy` file, whole or not at all.
pub fn write_npy(path: &Path, dtype: DType, dims: &[usize], bytes: &[u8]) -> Outcome {
    let shape: Vec<u64> = dims.iter().map(|&d| d as u64).collect();
    let mut file = Vec::new();
    macro_rules! write {
        ($rust:ty) => {{
            let elements: Vec<$rust> = bytemuck::pod_collect_to_vec(bytes);
            write_elements(&mut file, &shape, elements).map_err(at(path))?
        }};
    }
    match dtype {
        DType::F32 => write!(f32),
        DType::F16 => write!(half::f16),
        DType::I8 => write!(i8),
        DType::U8 => write!(u8),
        DType::I32 => write!(i32),
        DType::I64 => write!(i64),
        DType::Bool => write_elements(&mut file, &shape, bytes.iter().map(|&b| b != 0).collect()).map_err(at(path))?,
    }
    sparrow_convert::write::write_file(path, &file).map_err(at(path))
}

fn write_elements<T: npyz::AutoSerialize>(file: &mut Vec<u8>, shape: &[u64], elements: Vec<T>) -> std::io::Result<()> {
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(shape).writer(file).begin_nd()?;
    writer.extend(elements)?;
    writer.finish()
}

/// Reads `name=file.npy` or `file.npy`.
pub fn read_argument(argument: &str) -> Outcome<(Option<String>, Tensor)> {
    let (name, path) = match argument.split_once('=') {
        // A path with '=' in it is a path if there is such a file.
        Some((name, path)) if !Path::new(argument).exists() => (Some(name.to_owned()), path),
        _ => (None, argument),
    };
    Ok((name, read_npy(Path::new(path))?))
}

/// Calibration samples: the arrays of an `.npz` (their first axis counts samples), or every `.npy` and `.npz` of a folder,
/// one sample each.
pub fn read_samples(path: &Path) -> Outcome<Vec<BTreeMap<String, Tensor>>> {
    if !path.is_dir() {
        return split(&read_npz(path)?, path);
    }
    let mut files: Vec<_> =
        std::fs::read_dir(path).map_err(at(path))?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let mut samples = Vec::new();
    for file in files {
        match file.extension().and_then(|e| e.to_str()) {
            Some("npy") => samples.push(BTreeMap::from([("input".to_owned(), read_npy(&file)?)])),
            Some("npz") => samples.push(read_npz(&file)?),
            _ => {}
        }
    }
    if samples.is_empty() { fail(format!("{}: no .npy or .npz file in it", path.display())) } else { Ok(samples) }
}

/// Cuts arrays along their first axis.
fn split(arrays: &BTreeMap<String, Tensor>, path: &Path) -> Outcome<Vec<BTreeMap<String, Tensor>>> {
    let count = arrays.values().filter_map(|t| t.dims().first().copied()).min().unwrap_or(0);
    if count == 0 {
        return fail(format!("{}: its arrays have no first axis that counts samples", path.display()));
    }
    let one = |tensor: &Tensor, index: usize| {
        let size = tensor.bytes().len() / tensor.dims()[0];
        Tensor::new(tensor.dtype(), &tensor.dims()[1..], &tensor.bytes()[index * size..(index + 1) * size])
    };
    let sample = |index| arrays.iter().filter_map(|(name, tensor)| Some((name.clone(), one(tensor, index)?))).collect();
    Ok((0..count).map(sample).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::CompressionMethod;
    use zip::write::SimpleFileOptions;

    #[test]
    fn arrays_survive_a_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        for dtype in DType::ALL {
            let bytes: Vec<u8> = (0..6 * dtype.size()).map(|i| u8::from(i % 3 == 0)).collect();
            write_npy(&path, dtype, &[2, 3], &bytes).unwrap();
            let back = read_npy(&path).unwrap();
            assert_eq!(
                (back.dtype(), back.dims(), back.bytes()),
                (dtype, &[2usize, 3][..], &bytes[..]),
                "{}",
                dtype.name()
            );
        }
    }

    #[test]
    fn archives_are_read_stored_and_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npz");
        let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
        let mut arrays = BTreeMap::new();
        for (name, method) in [("a", CompressionMethod::Stored), ("b", CompressionMethod::Deflated)] {
            let values: Vec<f32> = (0..1000).map(|i| (i % 7) as f32).collect();
            let mut file = Vec::new();
            write_elements(&mut file, &[10, 100], values.clone()).unwrap();
            let options = SimpleFileOptions::default().compression_method(method);
            archive.start_file(format!("{name}.npy"), options).unwrap();
            archive.write_all(&file).unwrap();
            arrays.insert(name.to_owned(), Tensor::from_slice(&[10, 100], &values).unwrap());
        }
        archive.finish().unwrap();
        let back = read_npz(&path).unwrap();
        assert!(back.keys().eq(arrays.keys()));
        assert!(back.values().zip(arrays.values()).all(|(a, b)| a.dims() == b.dims() && a.bytes() == b.bytes()));

        let whole = std::fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() / 2], b"no archive"] {
            std::fs::write(&path, damaged).unwrap();
            assert!(read_npz(&path).unwrap_err().0.contains("x.npz"));
        }
        let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
        archive.start_file("readme.txt", SimpleFileOptions::default()).unwrap();
        archive.finish().unwrap();
        assert!(read_npz(&path).unwrap_err().0.ends_with("no .npy file in it"));
    }

    #[test]
    fn a_file_cut_off_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        write_npy(&path, DType::F32, &[2, 3], &[0; 24]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(read_npy(&path).unwrap_err().0.ends_with(SHORT));
    }

    #[test]
    fn columns_become_rows() {
        // [[1, 2, 3], [4, 5, 6]] stored column by column.
        let columns = Tensor::from_slice(&[2, 3], &[1u8, 4, 2, 5, 3, 6]).unwrap();
        assert_eq!(from_columns(&columns).bytes(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_bundle_is_cut_into_samples() {
        let arrays = BTreeMap::from([("x".to_owned(), Tensor::from_slice(&[2, 3], &[1u8, 2, 3, 4, 5, 6]).unwrap())]);
        let samples = split(&arrays, Path::new("x.npz")).unwrap();
        assert_eq!(samples.len(), 2);
        assert_eq!(samples[1]["x"].bytes(), [4, 5, 6]);
        assert_eq!(samples[1]["x"].dims(), [3]);
    }
}
