//! A lowered network: the runtime's operators with their parameter blocks and constants, before anything has an address.
//!
//! [`crate::plan`] gives every arena tensor its place, [`crate::write`] turns the whole into a file.

use bytemuck::Pod;
use sparrow_kernels::{DType, Layout, MAX_INPUTS, MAX_OUTPUTS, Op};

/// Index of a [`Tensor`] in [`Program::tensors`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TensorId(pub u32);

impl TensorId {
    /// The index as `usize`.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a tensor's bytes are.
#[derive(Clone, PartialEq, Debug)]
pub enum Place {
    /// Its own bytes of the arena.
    Arena,
    /// The bytes of another arena tensor, from `offset` (a multiple of 64) on: a reshaped or partial view.
    Alias {
        /// The tensor whose bytes these are; not an alias itself.
        of: TensorId,
        /// First byte.
        offset: usize,
    },
    /// In the file: packed weights, biases, tables.
    Weights(Vec<u8>),
    /// In the file, validated when it is opened: the index of a sparse layout.
    Index(Vec<u8>),
}

/// A tensor.
#[derive(Clone, PartialEq, Debug)]
pub struct Tensor {
    /// The source value's name; may be empty.
    pub name: String,
    /// Type of the elements.
    pub dtype: DType,
    /// [`Layout::Plain`] unless it is packed weights.
    pub layout: Layout,
    /// Its dimensions, at most 8. Packed weights: (groups, channels of a group, taps, elements of a tap).
    pub dims: Vec<u32>,
    /// Scale and zero point of a quantized tensor.
    pub quantization: Option<(f32, i32)>,
    /// Bytes a kernel may read behind the elements.
    pub slack: usize,
    /// Where its bytes are.
    pub place: Place,
}

impl Tensor {
    /// Bytes of its elements and slack; of its data, if it is in the file.
    pub fn size(&self) -> usize {
        match &self.place {
            Place::Weights(bytes) | Place::Index(bytes) => bytes.len(),
            _ => self.dims.iter().map(|&d| d as usize).product::<usize>() * self.dtype.size() + self.slack,
        }
    }
}

/// An operator.
#[derive(Clone, PartialEq, Debug)]
pub struct Instruction {
    /// What it computes.
    pub op: Op,
    /// The source node's name.
    pub name: String,
    /// Its parameter block.
    pub params: Vec<u8>,
    /// Tensors read.
    pub inputs: [Option<TensorId>; MAX_INPUTS],
    /// Tensors written.
    pub outputs: [Option<TensorId>; MAX_OUTPUTS],
}

/// An entry point: operators in order, on one arena.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Program {
    /// The network's name.
    pub name: String,
    /// Every tensor.
    pub tensors: Vec<Tensor>,
    /// Every operator, in the order it runs.
    pub instructions: Vec<Instruction>,
    /// Tensors the caller writes.
    pub inputs: Vec<TensorId>,
    /// Tensors the caller reads.
    pub outputs: Vec<TensorId>,
    /// Keeps every tensor until the end, so that all can be read after a run (calibration, verification).
    pub keep_all: bool,
}

impl Program {
    /// Adds a tensor.
    pub fn add(&mut self, tensor: Tensor) -> TensorId {
        self.tensors.push(tensor);
        TensorId(u32::try_from(self.tensors.len() - 1).expect("fewer than 2^32 tensors"))
    }

    /// Adds a plain arena tensor.
    pub fn arena(&mut self, name: impl Into<String>, dtype: DType, dims: &[usize]) -> TensorId {
        self.add(Tensor {
            name: name.into(),
            dtype,
            layout: Layout::Plain,
            dims: dims.iter().map(|&d| d as u32).collect(),
            quantization: None,
            slack: 0,
            place: Place::Arena,
        })
    }

    /// Adds a plain constant. One that is there already, bit for bit and of the same shape, is used again.
    pub fn constant<T: Pod>(&mut self, dtype: DType, dims: &[usize], elements: &[T]) -> TensorId {
        let bytes: &[u8] = bytemuck::cast_slice(elements);
        let dims: Vec<u32> = dims.iter().map(|&d| d as u32).collect();
        let same = |t: &Tensor| {
            t.dtype == dtype
                && t.dims == dims
                && t.layout == Layout::Plain
                && matches!(&t.place, Place::Weights(b) if b == bytes)
        };
        if let Some(found) = self.tensors.iter().position(same) {
            return TensorId(found as u32);
        }
        let place = Place::Weights(bytes.to_vec());
        self.add(Tensor {
            name: String::new(),
            dtype,
            layout: Layout::Plain,
            dims,
            quantization: None,
            slack: 0,
            place,
        })
    }

    /// The tensor.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.index()]
    }

    /// Adds an operator; `inputs` and `outputs` in the order [`Op`] documents.
    pub fn push<P: Pod>(
        &mut self,
        op: Op,
        name: &str,
        params: &P,
        inputs: &[Option<TensorId>],
        outputs: &[Option<TensorId>],
    ) {
        let at = |ids: &[Option<TensorId>], i: usize| ids.get(i).copied().flatten();
        self.instructions.push(Instruction {
            op,
            name: name.to_owned(),
            params: bytemuck::bytes_of(params).to_vec(),
            inputs: std::array::from_fn(|i| at(inputs, i)),
            outputs: std::array::from_fn(|i| at(outputs, i)),
        });
    }

    /// The arena tensor whose bytes `id` uses, and its offset there; `None` for constants.
    pub fn storage(&self, id: TensorId) -> Option<(TensorId, usize)> {
        match self.tensor(id).place {
            Place::Arena => Some((id, 0)),
            Place::Alias { of, offset } => Some((of, offset)),
            Place::Weights(_) | Place::Index(_) => None,
        }
    }
}
