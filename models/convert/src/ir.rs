//! The converter's intermediate representation: a network as a list of typed operators with every shape known.
//!
//! The meaning of an operator is ONNX's, normalised: whatever opset a network was written for, an [`Op`] is fully
//! described by its own fields and its true data inputs. What ONNX spreads over attributes in one version and
//! constant inputs in the next (axes, pads, slice bounds, split sizes, clip limits, reshape targets, resize scales)
//! is resolved into fields; negative axes are counted from the front; `auto_pad` has become numbers; variadic
//! operators are chains; operators that only rename dimensions are all [`Op::Reshape`].
//!
//! ```text
//! Graph   values: [ Value { name, dtype, dims, data? } ... ]        data present = constant
//!         nodes:  [ Node  { op, inputs: ids into values, outputs } ... ]   in an order that can be executed
//!         inputs, outputs: ids into values
//! ```
//!
//! Layouts are ONNX's: activations `[N, C, spatial...]`, convolution weights `[M, C / group, kernel...]`, transposed
//! convolution weights `[C, M / group, kernel...]`. Types are never mixed inside an elementwise operator; the importer
//! inserts [`Op::Cast`] where ONNX allows a mixture.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

pub use sparrow_kernels::DType;

// Tensor bytes are little-endian in every source and in our file; elements are read in place.
const _: () = assert!(cfg!(target_endian = "little"));

/// Index of a [`Value`] in [`Graph::values`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ValueId(pub u32);

impl ValueId {
    /// The index as `usize`.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A Rust type that is the element of a [`Tensor`]. [`DType::Bool`] has none: its bytes are 0 or 1.
pub trait Element: bytemuck::Pod {
    /// The element type's name in the representation.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($rust:ty => $dtype:ident),*) => { $(impl Element for $rust { const DTYPE: DType = DType::$dtype; })* };
}
elements!(f32 => F32, half::f16 => F16, i8 => I8, u8 => U8, i32 => I32, i64 => I64);

/// A constant: element type, dimensions (none for a scalar) and the elements, little-endian, last dimension fastest.
/// Cheap to clone; the bytes are shared and never change.
#[derive(Clone, PartialEq, Debug)]
pub struct Tensor {
    dtype: DType,
    dims: Vec<usize>,
    bytes: Arc<[u8]>,
}

impl Tensor {
    /// A tensor of these bytes; `None` unless there are exactly as many as the dimensions say.
    pub fn new(dtype: DType, dims: &[usize], bytes: impl Into<Arc<[u8]>>) -> Option<Self> {
        let bytes = bytes.into();
        (byte_count(dtype, dims)? == bytes.len()).then(|| Self { dtype, dims: dims.to_vec(), bytes })
    }

    /// A tensor of these elements; `None` unless there are exactly as many as the dimensions say.
    pub fn from_slice<T: Element>(dims: &[usize], elements: &[T]) -> Option<Self> {
        Self::new(T::DTYPE, dims, bytemuck::cast_slice::<T, u8>(elements))
    }

    /// A tensor without dimensions.
    pub fn scalar<T: Element>(element: T) -> Self {
        Self { dtype: T::DTYPE, dims: Vec::new(), bytes: Arc::from(bytemuck::bytes_of(&element)) }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Dimensions, slowest first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The elements' bytes. Not aligned to the element: read elements through [`Tensor::elements`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// Whether a dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The elements, borrowed where the bytes happen to be aligned; `None` if the tensor is of another type.
    pub fn elements<T: Element>(&self) -> Option<Cow<'_, [T]>> {
        if self.dtype != T::DTYPE {
            return None;
        }
        Some(match bytemuck::try_cast_slice(&self.bytes) {
            Ok(elements) => Cow::Borrowed(elements),
            Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(&self.bytes)),
        })
    }

    /// Every element as `f64`, whatever the type (exact but for 64-bit integers beyond 2^53).
    pub fn to_f64(&self) -> Vec<f64> {
        match self.dtype {
            DType::F32 => self.map(|x: f32| f64::from(x)),
            DType::F16 => self.map(|x: half::f16| x.to_f64()),
            DType::I8 => self.map(|x: i8| f64::from(x)),
            DType::U8 | DType::Bool => self.bytes.iter().map(|&x| f64::from(x)).collect(),
            DType::I32 => self.map(|x: i32| f64::from(x)),
            DType::I64 => self.map(|x: i64| x as f64),
        }
    }

    /// Every element as `i64`; `None` for floats.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        Some(match self.dtype {
            DType::F32 | DType::F16 => return None,
            DType::I8 => self.map(|x: i8| i64::from(x)),
            DType::U8 | DType::Bool => self.bytes.iter().map(|&x| i64::from(x)).collect(),
            DType::I32 => self.map(|x: i32| i64::from(x)),
            DType::I64 => self.map(|x: i64| x),
        })
    }

    /// The same elements under other dimensions; `None` if the number of elements differs.
    pub fn reshaped(&self, dims: &[usize]) -> Option<Self> {
        Self::new(self.dtype, dims, Arc::clone(&self.bytes))
    }

    fn map<T: Element, R>(&self, f: impl Fn(T) -> R) -> Vec<R> {
        self.bytes.chunks_exact(size_of::<T>()).map(|chunk| f(bytemuck::pod_read_unaligned(chunk))).collect()
    }
}

/// Number of elements of a tensor with these dimensions, `None` if it does not fit.
pub fn element_count(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

/// Number of bytes of a tensor with these dimensions, `None` if it is more than a slice can have.
pub fn byte_count(dtype: DType, dims: &[usize]) -> Option<usize> {
    // Zero dimensions do not excuse absurd ones beside them: strides are computed from those.
    element_count(&dims.iter().map(|&d| d.max(1)).collect::<Vec<_>>())?
        .checked_mul(dtype.size())
        .filter(|&n| isize::try_from(n).is_ok())?;
    Some(element_count(dims)? * dtype.size())
}

/// A tensor of the network: graph input, constant, or the result of one node.
#[derive(Clone, Debug)]
pub struct Value {
    /// Name, unique in the graph; for graph inputs and outputs the source model's.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, slowest first; none for a scalar. Always known.
    pub dims: Vec<usize>,
    /// The elements, if the value is a constant.
    pub data: Option<Tensor>,
}

/// One operator with its operands.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name, from the source or made from operator and position. Nodes that come of one source node share its name.
    pub name: String,
    /// The source's operator, for reports ("Gemm").
    pub onnx_op: String,
    /// The operator-set version the source asked for, for reports.
    pub opset: u32,
    /// What it computes.
    pub op: Op,
    /// Operands in the order that [`Op`] documents; `None` where an optional one is absent. Never a trailing `None`.
    pub inputs: Vec<Option<ValueId>>,
    /// Results in the order that [`Op`] documents; `None` where nobody wants an optional one.
    pub outputs: Vec<Option<ValueId>>,
}

impl Node {
    /// Operand `index` if present.
    pub fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// Result `index` if wanted.
    pub fn output(&self, index: usize) -> Option<ValueId> {
        self.outputs.get(index).copied().flatten()
    }
}

/// A network.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Name, for reports.
    pub name: String,
    /// Every tensor.
    pub values: Vec<Value>,
    /// Every operator, each after the ones it depends on.
    pub nodes: Vec<Node>,
    /// Values that the caller provides.
    pub inputs: Vec<ValueId>,
    /// Values that the caller wants. The same value may appear twice; inputs and constants may be outputs too.
    pub outputs: Vec<ValueId>,
}

/// What a node computes, with ONNX's meaning. "same" for a result means: dtype and dims of the first operand.
#[derive(Clone, PartialEq, Debug)]
pub enum Op {
    /// Elementwise `[x] -> same` (except [`UnaryFn::Not`]: Bool). F32, and integers where the function is exact there
    /// (Abs, Neg, Sign, Relu, Clip).
    Unary(UnaryFn),
    /// Elementwise `[a, b] -> y` with numpy broadcasting of both; a and b have one dtype, so has y, except comparisons
    /// (Bool).
    Binary(BinaryFn),
    /// Elementwise `[condition: Bool, a, b] -> y`: condition ? a : b, all three broadcast.
    Where,
    /// `[x] -> y` with the result's dtype. Float to integer truncates, to Bool tests for non-zero.
    Cast,
    /// `[x] -> y` with the same elements in the same order under the result's dims: Reshape, Flatten, Squeeze,
    /// Unsqueeze, Identity, Dropout.
    Reshape,
    /// `[x] -> y`: result dimension `i` is operand dimension `perm[i]`.
    Transpose {
        /// A permutation of `0..rank`.
        perm: Vec<usize>,
    },
    /// `[x] -> y`: along axis `i` the result takes elements `start + k * step`, `k` below the result's dimension.
    Slice {
        /// One for every axis.
        axes: Vec<SliceAxis>,
    },
    /// `[x0, x1, ...] -> y` along `axis`.
    Concat {
        /// Axis.
        axis: usize,
    },
    /// `[x] -> y0, y1, ...` along `axis`; the sizes are the results' dims there. A result may be `None`; then its size
    /// is only found in `sizes`.
    Split {
        /// Axis.
        axis: usize,
        /// Length of every result along it; they add up to the operand's.
        sizes: Vec<usize>,
    },
    /// `[x] -> y`, `before + dim + after` along every axis; negative counts crop, before anything is added.
    Pad {
        /// What the new elements are.
        mode: PadMode,
        /// `[before, after]` for every axis.
        pads: Vec<[i64; 2]>,
    },
    /// `[x] -> y` broadcast to the result's dims (numpy rules; the result is never smaller).
    Expand,
    /// `[x] -> y`, the operand repeated.
    Tile {
        /// Copies along every axis.
        repeats: Vec<usize>,
    },
    /// `[data, indices: I32 or I64] -> y` of dims `data[..axis] ++ indices ++ data[axis + 1..]`. An index may be negative
    /// (counted from the end); out of range is the caller's error.
    Gather {
        /// Axis of `data`.
        axis: usize,
    },
    /// `[x] -> y`, reduced over `axes`.
    Reduce {
        /// The reduction.
        kind: ReduceKind,
        /// Axes, ascending. None at all: nothing is reduced, yet the function is applied (L1 of one element is its
        /// absolute value).
        axes: Vec<usize>,
        /// Whether reduced axes stay as dimensions of 1.
        keepdims: bool,
    },
    /// `[x] -> y: I64`, index of the extreme element along `axis`.
    ArgReduce {
        /// Largest (true) or smallest.
        largest: bool,
        /// Axis.
        axis: usize,
        /// Whether `axis` stays as a dimension of 1.
        keepdims: bool,
        /// Of equal elements, the last one instead of the first.
        last: bool,
    },
    /// `[x] -> values, indices: I64`, the `k` extreme elements along `axis`; of equal ones the lower index first. `k` is
    /// the result's dimension.
    TopK {
        /// Axis.
        axis: usize,
        /// Largest (true) or smallest.
        largest: bool,
        /// Whether results must be sorted (best first); they may be in any case.
        sorted: bool,
    },
    /// `[x [N, C, spatial...], w [M, C / group, kernel...], bias [M]?] -> y [N, M, ...]`.
    Conv(Conv),
    /// `[x [N, C, spatial...], w [C, M / group, kernel...], bias [M]?] -> y [N, M, ...]`. The result along an axis has
    /// `stride * (in - 1) + output_padding + extent - pad_begin - pad_end`, `extent = dilation * (kernel - 1) + 1`.
    ConvTranspose {
        /// Window and groups, as of the convolution whose gradient this is.
        conv: Conv,
        /// Rows that the far end gets beyond what the window covers, for every spatial axis.
        output_padding: Vec<usize>,
    },
    /// `[a [..., m, k], b [..., k, n], bias [n]?] -> [..., m, n]` with numpy's rules (leading dims broadcast, vectors
    /// promoted). Only the passes add a bias, and only where b is a constant matrix.
    MatMul,
    /// `[a, b, c?] -> alpha * op(a) op(b) + beta * c`, matrices; `c` broadcasts to the result.
    Gemm {
        /// Factor of the product.
        alpha: f32,
        /// Factor of `c`.
        beta: f32,
        /// `a` is given as `[k, m]`.
        trans_a: bool,
        /// `b` is given as `[n, k]`.
        trans_b: bool,
    },
    /// `[x [N, C, ...], scale [C], bias [C], mean [C], variance [C]] -> same`:
    /// `(x - mean) / sqrt(variance + epsilon) * scale + bias`.
    BatchNorm {
        /// Added to the variance.
        epsilon: f32,
    },
    /// `[x [N, C, spatial...], scale [C], bias [C]] -> same`, normalised over the spatial axes.
    InstanceNorm {
        /// Added to the variance.
        epsilon: f32,
    },
    /// `[x, scale, bias?] -> same, mean?, inverse deviation?`: normalised over axes `axis..`; scale and bias broadcast to
    /// x. The optional results have x's dims with 1 in the normalised axes.
    LayerNorm {
        /// First normalised axis.
        axis: usize,
        /// Added to the variance.
        epsilon: f32,
    },
    /// `[x [N, C, ...]] -> same`: `x / (bias + alpha / size * sum of squares over size channels around)^beta`; the window
    /// spans channels `c - floor((size - 1) / 2) ..= c + ceil((size - 1) / 2)`.
    Lrn {
        /// Channels.
        size: usize,
        /// Factor.
        alpha: f32,
        /// Exponent.
        beta: f32,
        /// Term.
        bias: f32,
    },
    /// `[x] -> same` along one axis. (The flattening softmax of opsets before 13 has become Reshape, Softmax, Reshape
    /// where it differs.)
    Softmax {
        /// Axis.
        axis: usize,
        /// The logarithm of it.
        log: bool,
    },
    /// `[x [N, C, 1 to 3 spatial...]] -> y, indices: I64?`. The window may hang over the padded end (ceil_mode): the
    /// result's dims say how many positions there are. Elements outside x count nothing for Max; for Average they divide only as
    /// `count_include_pad` says, and never beyond the stated padding. Indices (Max only) count through the whole tensor x.
    Pool {
        /// Max or average.
        kind: PoolKind,
        /// Kernel, strides, padding.
        window: Vec<WindowAxis>,
        /// Average: padded zeros count in the divisor.
        count_include_pad: bool,
        /// Indices: the two last spatial axes count column-major.
        column_major: bool,
    },
    /// `[x [N, C, spatial...]] -> y [N, C, 1...]`.
    GlobalPool {
        /// Max or average.
        kind: PoolKind,
    },
    /// `[x] -> y`, resampled to the result's dims.
    Resize(Resize),
    /// `[x [N, C, H, W]] -> y [N, C / block^2, H * block, W * block]`.
    DepthToSpace {
        /// Side of a block.
        block: usize,
        /// Channel order: `[C', block, block]` (true, "CRD") or `[block, block, C']` ("DCR").
        crd: bool,
    },
    /// `[x [N, C, H, W]] -> y [N, C * block^2, H / block, W / block]`, channel order `[block, block, C]`.
    SpaceToDepth {
        /// Side of a block.
        block: usize,
    },
    /// `[x: F32 or I32, scale: F32, zero?] -> y: I8 or U8`: `saturate(round_half_even(x / scale) + zero)`. `zero` has y's
    /// dtype; absent means 0.
    QuantizeLinear {
        /// Axis along which scale and zero vary (1-D); `None`: they are one number.
        axis: Option<usize>,
    },
    /// `[x: I8, U8 or I32, scale: F32, zero?] -> y: F32`: `(x - zero) * scale`.
    DequantizeLinear {
        /// Axis along which scale and zero vary (1-D); `None`: they are one number.
        axis: Option<usize>,
    },
    /// `[x: F32] -> y: U8, scale: F32 scalar, zero: U8 scalar`, the range being x's own, widened to hold 0.
    DynamicQuantizeLinear,
    /// `[x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias: I32?] -> y`; w_scale and w_zero are scalars (or
    /// one element) or `[M]`.
    QLinearConv(Conv),
    /// `[a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero] -> y`; shapes as in MatMul. a's parameters are one number
    /// or one per row, b's one number or one per column.
    QLinearMatMul,
    /// `[x, w, x_zero?, w_zero?] -> y: I32`.
    ConvInteger(Conv),
    /// `[a, b, a_zero?, b_zero?] -> y: I32`; zeros as in QLinearMatMul.
    MatMulInteger,
}

/// Functions of one element.
#[derive(Clone, Copy, PartialEq, Debug)]
#[allow(missing_docs)] // the names say it; parameters are ONNX's
pub enum UnaryFn {
    Relu,
    /// `x < 0 ? alpha * x : x`.
    LeakyRelu {
        alpha: f32,
    },
    /// `min(max(x, min), max)`; infinite where there is no limit. `f64` so that every i32 limit is exact.
    Clip {
        min: f64,
        max: f64,
    },
    /// `x < 0 ? alpha * (exp(x) - 1) : x`.
    Elu {
        alpha: f32,
    },
    /// `gamma * (x > 0 ? x : alpha * (exp(x) - 1))`.
    Selu {
        alpha: f32,
        gamma: f32,
    },
    Sigmoid,
    /// `max(0, min(1, alpha * x + beta))`.
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    Tanh,
    /// `x * max(0, min(1, x / 6 + 0.5))`.
    HardSwish,
    /// `x / 2 * (1 + erf(x / sqrt 2))`.
    Gelu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))`.
    GeluTanh,
    /// `ln(1 + exp(x))`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// `x * tanh(softplus(x))`.
    Mish,
    Erf,
    Exp,
    Log,
    Sqrt,
    Abs,
    Neg,
    Reciprocal,
    Floor,
    Ceil,
    /// Half to even.
    Round,
    /// -1, 0 or 1.
    Sign,
    Sin,
    Cos,
    /// Bool to Bool.
    Not,
}

/// Functions of two elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names say it
pub enum BinaryFn {
    Add,
    Sub,
    Mul,
    /// Integers: truncated towards zero.
    Div,
    Pow,
    Min,
    Max,
    /// `a < 0 ? a * b : a`; b broadcasts to a.
    PRelu,
    /// To Bool, as the next four.
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// Of Bool, as the next two.
    And,
    Or,
    Xor,
}

impl BinaryFn {
    /// Whether the result is Bool whatever the operands are.
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Equal | Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual)
    }
}

/// What a reduction computes of the elements it meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names say it
pub enum ReduceKind {
    Mean,
    Sum,
    Max,
    Min,
    Prod,
    /// Sum of absolute values.
    L1,
    /// Root of the sum of squares.
    L2,
    SumSquare,
    /// Logarithm of the sum.
    LogSum,
    /// Logarithm of the sum of exponentials.
    LogSumExp,
}

/// What a pooling window computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names say it
pub enum PoolKind {
    Max,
    Average,
}

/// Elements taken along one axis of a slice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SliceAxis {
    /// First element.
    pub start: usize,
    /// Distance to the next, negative for backwards, never 0.
    pub step: i64,
}

/// What padding is filled with.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum PadMode {
    /// One value (exact for integers up to 2^53).
    Constant(f64),
    /// Mirrored without repeating the edge; a long pad mirrors again and again.
    Reflect,
    /// The edge repeated.
    Edge,
    /// The other end.
    Wrap,
}

/// A window that slides along one spatial axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowAxis {
    /// Taps.
    pub kernel: usize,
    /// Elements between two positions of the window.
    pub stride: usize,
    /// Elements between two taps.
    pub dilation: usize,
    /// Elements assumed before the first.
    pub pad_begin: usize,
    /// Elements assumed after the last.
    pub pad_end: usize,
}

impl WindowAxis {
    /// Elements from the first tap to the last, both included.
    pub fn extent(&self) -> usize {
        self.dilation * (self.kernel - 1) + 1
    }
}

/// A convolution's parameters; one window axis for each of the 1 or 2 spatial axes.
#[derive(Clone, PartialEq, Debug)]
pub struct Conv {
    /// Kernel, strides, dilations, padding.
    pub window: Vec<WindowAxis>,
    /// Groups that channels are cut into.
    pub group: usize,
}

/// A resampling's parameters. All lists have one entry for every axis of the operand; axes that ONNX left out have
/// scale 1 and region 0 to 1.
#[derive(Clone, PartialEq, Debug)]
pub struct Resize {
    /// How neighbours are combined.
    pub mode: ResizeMode,
    /// Where an element of the result lies in the operand.
    pub coordinates: CoordinateMode,
    /// Result size over operand size as the source states it, which need not be the ratio of the integer sizes; where
    /// the source states sizes, their ratio (or the one ratio its aspect policy chose).
    pub scales: Vec<f32>,
    /// `[start, end]` in units of the operand's size; used by [`CoordinateMode::TfCropAndResize`] only.
    pub roi: Vec<[f32; 2]>,
    /// What lies outside the region of interest, [`CoordinateMode::TfCropAndResize`] only.
    pub extrapolation_value: f32,
    /// Neighbours outside the operand get weight 0 and the others are renormalised (Cubic).
    pub exclude_outside: bool,
    /// The filter is stretched where an axis shrinks (Linear, Cubic).
    pub antialias: bool,
}

/// How a resampling combines neighbours.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ResizeMode {
    /// The nearest one.
    Nearest(NearestMode),
    /// Along every axis the two around.
    Linear,
    /// Along every axis the four around.
    Cubic {
        /// The cubic's coefficient, usually -0.75.
        a: f32,
    },
}

/// Which neighbour is the nearest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names say it
pub enum NearestMode {
    /// Rounded, halves down.
    RoundPreferFloor,
    /// Rounded, halves up.
    RoundPreferCeil,
    Floor,
    Ceil,
}

/// Where element `x` of the result lies in the operand, by ONNX's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CoordinateMode {
    /// `(x + 0.5) / scale - 0.5`.
    HalfPixel,
    /// As HalfPixel, around the centre that the exact (not rounded) size would have.
    HalfPixelSymmetric,
    /// As HalfPixel, but 0 where the result has one element.
    PytorchHalfPixel,
    /// `(x + 0.5) / scale` (opset 11 only).
    TfHalfPixelForNn,
    /// `x * (in - 1) / (out - 1)`.
    AlignCorners,
    /// `x / scale`.
    Asymmetric,
    /// `start * (in - 1) + x * (end - start) * (in - 1) / (out - 1)` inside the region of interest.
    TfCropAndResize,
}

impl Graph {
    /// Adds a value that a node will produce or the caller provides.
    pub fn add_value(&mut self, name: impl Into<String>, dtype: DType, dims: &[usize]) -> ValueId {
        self.push(Value { name: name.into(), dtype, dims: dims.to_vec(), data: None })
    }

    /// Adds a constant.
    pub fn add_const(&mut self, name: impl Into<String>, data: Tensor) -> ValueId {
        self.push(Value { name: name.into(), dtype: data.dtype(), dims: data.dims().to_vec(), data: Some(data) })
    }

    fn push(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        ValueId(u32::try_from(self.values.len() - 1).expect("fewer than 2^32 values"))
    }

    /// The value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// The value, to be changed.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.index()]
    }

    /// The constant's elements, `None` for a value that is computed.
    pub fn constant(&self, id: ValueId) -> Option<&Tensor> {
        self.value(id).data.as_ref()
    }

    /// For every value the index of the node that produces it.
    pub fn producers(&self) -> Vec<Option<usize>> {
        let mut producers = vec![None; self.values.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            for id in node.outputs.iter().flatten() {
                producers[id.index()] = Some(index);
            }
        }
        producers
    }

    /// For every value the indices of the nodes that read it (once per operand), ascending. Graph outputs do not count.
    pub fn users(&self) -> Vec<Vec<usize>> {
        let mut users = vec![Vec::new(); self.values.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            for id in node.inputs.iter().flatten() {
                users[id.index()].push(index);
            }
        }
        users
    }

    /// Lets every node that reads `from` read `to`. A graph output keeps its name: it moves to `to`, which takes the name
    /// over; where `to` is itself a graph input, output or constant, the output stays with `from` and so keeps its node.
    pub fn replace_uses(&mut self, from: ValueId, to: ValueId) {
        for id in self.nodes.iter_mut().flat_map(|node| node.inputs.iter_mut().flatten()) {
            if *id == from {
                *id = to;
            }
        }
        let pinned = self.value(to).data.is_some() || self.inputs.contains(&to) || self.outputs.contains(&to);
        if from != to && !pinned && self.outputs.contains(&from) {
            for id in self.outputs.iter_mut().filter(|id| **id == from) {
                *id = to;
            }
            let name = std::mem::take(&mut self.value_mut(from).name);
            let old = std::mem::replace(&mut self.value_mut(to).name, name);
            self.value_mut(from).name = old;
        }
    }

    /// Removes nodes whose results nobody reads, sets unread results but the first to `None`, and drops values that nothing
    /// mentions. Graph inputs stay. Ids change: none may be kept across this call.
    pub fn remove_dead(&mut self) {
        let mut live = vec![false; self.values.len()];
        for id in &self.outputs {
            live[id.index()] = true;
        }
        let mut keep = vec![false; self.nodes.len()];
        for (node, keep) in self.nodes.iter().zip(&mut keep).rev() {
            *keep = node.outputs.iter().flatten().any(|id| live[id.index()]);
            if *keep {
                node.inputs.iter().flatten().for_each(|id| live[id.index()] = true);
            }
        }
        let mut keep = keep.into_iter();
        self.nodes.retain(|_| keep.next().unwrap_or(true));
        for node in &mut self.nodes {
            // A node without its first result would be hard to name, and only Split can lose it.
            for output in node.outputs.iter_mut().skip(1) {
                *output = output.filter(|id| live[id.index()]);
            }
        }
        self.remove_unmentioned_values();
    }

    fn remove_unmentioned_values(&mut self) {
        let mut new_id = vec![None; self.values.len()];
        let mut kept = 0;
        let nodes = self.nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.outputs).flatten());
        for id in nodes.chain(&self.inputs).chain(&self.outputs) {
            new_id[id.index()] = Some(ValueId(0));
        }
        for id in new_id.iter_mut().flatten() {
            *id = ValueId(kept);
            kept += 1;
        }
        let mut mentioned = new_id.iter();
        self.values.retain(|_| mentioned.next().is_some_and(Option::is_some));
        let nodes = self.nodes.iter_mut().flat_map(|node| node.inputs.iter_mut().chain(&mut node.outputs).flatten());
        for id in nodes.chain(&mut self.inputs).chain(&mut self.outputs) {
            *id = new_id[id.index()].expect("every mentioned value was kept");
        }
    }

    /// Checks what every pass relies on: ids in range, every value named uniquely and defined once and before its use,
    /// constants of the size they claim, no size beyond a slice's. Says what is wrong.
    pub fn validate(&self) -> Result<(), String> {
        let mut defined = self.validate_values()?;
        for &id in &self.inputs {
            let slot = defined.get_mut(id.index()).ok_or_else(|| format!("graph input {} is no value", id.0))?;
            if std::mem::replace(slot, true) {
                return Err(format!("graph input '{}' is a constant or listed twice", self.value(id).name));
            }
        }
        for node in &self.nodes {
            for id in node.inputs.iter().flatten() {
                if !defined.get(id.index()).copied().unwrap_or(false) {
                    return Err(format!("node '{}' reads value {} before it is defined", node.name, id.0));
                }
            }
            if node.inputs.last().is_some_and(Option::is_none) {
                return Err(format!("node '{}' has a trailing absent operand", node.name));
            }
            for id in node.outputs.iter().flatten() {
                let slot = defined.get_mut(id.index());
                if slot.is_none_or(|slot| std::mem::replace(slot, true)) {
                    return Err(format!("node '{}' defines value {} that is defined already", node.name, id.0));
                }
            }
        }
        match self.outputs.iter().find(|id| !defined.get(id.index()).copied().unwrap_or(false)) {
            Some(id) => Err(format!("graph output {} is never defined", id.0)),
            None => Ok(()),
        }
    }

    /// Checks values by themselves; returns which ones are constants.
    fn validate_values(&self) -> Result<Vec<bool>, String> {
        let mut names = HashSet::new();
        for value in &self.values {
            if !names.insert(value.name.as_str()) {
                return Err(format!("two values are named '{}'", value.name));
            }
            if byte_count(value.dtype, &value.dims).is_none() {
                return Err(format!("value '{}' is too large: {:?}", value.name, value.dims));
            }
            if value.data.as_ref().is_some_and(|data| data.dtype != value.dtype || data.dims != value.dims) {
                return Err(format!("constant '{}' does not have the type and dims it claims", value.name));
            }
        }
        Ok(self.values.iter().map(|value| value.data.is_some()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relu(input: ValueId, output: ValueId) -> Node {
        Node {
            name: format!("Relu_{}", output.0),
            onnx_op: "Relu".into(),
            opset: 13,
            op: Op::Unary(UnaryFn::Relu),
            inputs: vec![Some(input)],
            outputs: vec![Some(output)],
        }
    }

    /// x -> a -> b -> y, and a side branch nobody reads.
    fn chain() -> (Graph, [ValueId; 5]) {
        let mut graph = Graph { name: "chain".into(), ..Graph::default() };
        let ids = ["x", "a", "b", "y", "side"].map(|name| graph.add_value(name, DType::F32, &[2, 3]));
        let [x, a, b, y, side] = ids;
        graph.nodes = vec![relu(x, a), relu(a, b), relu(a, side), relu(b, y)];
        graph.inputs = vec![x];
        graph.outputs = vec![y];
        (graph, ids)
    }

    #[test]
    fn tensors_check_their_size_and_type() {
        let tensor = Tensor::from_slice(&[2, 2], &[1.0f32, 2.0, 3.0, -4.0]).unwrap();
        assert_eq!(tensor.elements::<f32>().unwrap().as_ref(), [1.0, 2.0, 3.0, -4.0]);
        assert!(tensor.elements::<i32>().is_none());
        assert_eq!(tensor.to_f64(), [1.0, 2.0, 3.0, -4.0]);
        assert_eq!(tensor.to_i64(), None);
        assert_eq!(tensor.reshaped(&[4]).unwrap().dims(), [4]);
        assert!(tensor.reshaped(&[5]).is_none());
        assert!(Tensor::new(DType::F32, &[2], vec![0u8; 7]).is_none());
        assert_eq!(Tensor::from_slice(&[2], &[-1i8, 7]).unwrap().to_i64().unwrap(), [-1, 7]);
        assert_eq!(Tensor::scalar(5i64).dims(), [0usize; 0]);
        assert_eq!(byte_count(DType::F32, &[0, usize::MAX, 2]), None);
        assert_eq!(byte_count(DType::F32, &[0, 7]), Some(0));
    }

    #[test]
    fn dead_nodes_and_values_go_and_ids_stay_consistent() {
        let (mut graph, [_, a, b, ..]) = chain();
        graph.validate().unwrap();
        graph.replace_uses(b, a);
        graph.remove_dead();
        graph.validate().unwrap();
        let names: Vec<_> = graph.values.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(names, ["x", "a", "y"]);
        assert_eq!(graph.nodes.len(), 2);
        assert_eq!(graph.producers(), [None, Some(0), Some(1)]);
        assert_eq!(graph.users(), [vec![0], vec![1], vec![]]);
    }

    #[test]
    fn a_replaced_output_keeps_its_name() {
        let (mut graph, [x, _, b, y, _]) = chain();
        graph.replace_uses(y, b);
        assert_eq!(graph.outputs, [b]);
        assert_eq!(graph.value(b).name, "y");
        graph.replace_uses(b, x);
        assert_eq!(graph.outputs, [b], "an input cannot become the output under another name");
        graph.validate().unwrap();
    }

    #[test]
    fn validate_names_each_defect() {
        type Damage = fn(&mut Graph);
        let cases: [(&str, Damage); 7] = [
            ("before it is defined", |g| g.nodes.swap(0, 1)),
            ("defined already", |g| g.nodes[1].outputs = g.nodes[0].outputs.clone()),
            ("never defined", |g| g.outputs.push(ValueId(99))),
            ("named 'x'", |g| g.values[1].name = "x".into()),
            ("too large", |g| g.values[1].dims = vec![usize::MAX, 2]),
            ("listed twice", |g| g.inputs.push(ValueId(0))),
            ("trailing", |g| g.nodes[0].inputs.push(None)),
        ];
        for (message, damage) in cases {
            let (mut graph, _) = chain();
            damage(&mut graph);
            let error = graph.validate().unwrap_err();
            assert!(error.contains(message), "{error:?} should mention {message:?}");
        }
    }
}
