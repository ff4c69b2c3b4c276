//! The operators a program is made of, and their parameters.
//!
//! Each operator has one parameter block: a `#[repr(C)]` struct of 32-bit words that the converter writes, the file
//! stores and the kernels read, so there is one definition of each. Operands are plain runs of memory; everything a
//! kernel must know of shapes is in the block. Unless a field says otherwise, sizes and strides count elements.
//! Tensors are dense in row-major order unless the block carries strides. `dims` arrays are padded at the end with 1
//! and strides with 0.
//!
//! Quantized values follow `real = scale * (code - zero)`. Every rounding is to nearest, ties to even; every
//! requantization is `round(f32(accumulator) * factor)` clamped to `lo..=hi` (code units relative to the output's zero
//! point), plus the zero point, with no fused multiply-add, so that integer results are the same on every machine.

use bytemuck::{Pod, Zeroable};

/// Greatest number of dimensions of a tensor.
pub const MAX_RANK: usize = 8;
/// Greatest number of inputs of an operator.
pub const MAX_INPUTS: usize = 8;
/// Greatest number of outputs of an operator.
pub const MAX_OUTPUTS: usize = 3;

macro_rules! numbered {
    ($(#[$doc:meta])* pub enum $name:ident: $raw:ty { $($(#[$vdoc:meta])* $variant:ident = $number:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr($raw)]
        pub enum $name { $($(#[$vdoc])* $variant = $number,)* }

        impl $name {
            /// Every variant, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The variant with this number, `None` for a number this build does not know.
            pub const fn from_number(number: $raw) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }

            /// Its number in the file.
            pub const fn number(self) -> $raw {
                self as $raw
            }

            /// Its name, as the program prints it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}
pub(crate) use numbered;

numbered! {
    /// An operator of the runtime. Numbers are part of the file format and never change.
    pub enum Op: u16 {
        /// Convolution, fully connected layer or matrix product with constant weights ([`ConvParams`]).
        /// Inputs: x, packed weights, bias, scale, residual, index, pad row, slopes (see [`conv_input`]). Output: y.
        Conv = 1, "conv";
        /// Convolution of each channel by itself ([`ConvParams`] with `groups` 1, `oc` channels, `kc` 1). Operands as `Conv`.
        Depthwise = 2, "depthwise";
        /// Product of two computed matrices ([`MatMulParams`]). Inputs: a, b (f32, f16, or i8). Output: f32, f16, or i32.
        MatMul = 3, "matmul";
        /// One function of each element ([`MapParams`]). Input: x. Output: y, of the same type.
        Map = 4, "map";
        /// Table look-up of each byte ([`LutParams`]). Inputs: x (1-byte type), 256 bytes indexed by x's bits as u8. Output: 1-byte type.
        Lut = 5, "lut";
        /// A function of two elements, with broadcasting ([`BinaryParams`]). Inputs: a, b of one type. Output: that type, or bool.
        Binary = 6, "binary";
        /// Sum, difference or product of quantized tensors, with broadcasting ([`QBinaryParams`]). i8 throughout.
        QBinary = 7, "qbinary";
        /// Choice between two tensors, with broadcasting ([`WhereParams`]). Inputs: condition (bool), a, b. Output: y.
        Where = 8, "where";
        /// Strided copy: transpose, slice, concatenate, split, expand, tile, depth to space ([`CopyParams`]). Inputs: x, and
        /// for 1-byte types optionally 256 bytes, indexed by x's bits as u8, that are written instead.
        Copy = 9, "copy";
        /// Sets every element of the output ([`FillParams`]). No input.
        Fill = 10, "fill";
        /// Padding with the tensor's own elements ([`PadParams`]); constant padding is `Fill` and `Copy`.
        Pad = 11, "pad";
        /// Picks slices along one axis ([`GatherParams`]). Inputs: x, indices (i32 or i64; negative ones count from the end). Output: y.
        Gather = 12, "gather";
        /// Weighted sum of a few positions along one axis, which is what every resize is ([`ResampleParams`]).
        /// Inputs: x (f32, f16, or i8), positions (i32, `[out_len][taps]`), weights (f32, `[out_len][taps]`). Output: y, of x's type.
        Resample = 13, "resample";
        /// Reduction over any axes ([`ReduceParams`]). Input: x. Output: y.
        Reduce = 14, "reduce";
        /// Position of the greatest or least element along one axis ([`ArgReduceParams`]). Output: i64.
        ArgReduce = 15, "argreduce";
        /// The k greatest or least elements along one axis ([`TopKParams`]). Outputs: values, positions (i64).
        TopK = 16, "topk";
        /// Maximum or average over a window, channels last ([`PoolParams`]). Outputs: y, and for a maximum its position (i64) if asked.
        Pool = 17, "pool";
        /// Local response normalization across channels ([`LrnParams`]). f32.
        Lrn = 18, "lrn";
        /// Layer and instance normalization ([`NormParams`]). Inputs: x, scale, bias. Outputs: y, and mean and 1/deviation if asked. f32.
        Norm = 19, "norm";
        /// Softmax or its logarithm along one axis ([`SoftmaxParams`]). f32 or f16.
        Softmax = 20, "softmax";
        /// `clamp(round(x / scale) + zero)` ([`ChannelParams`]). Inputs: x (f32, f16), scale (f32), zero (output's type; absent: 0). Output: i8, u8 or i32.
        Quantize = 21, "quantize";
        /// `(x - zero) * scale` ([`ChannelParams`]). Inputs: x (i8, u8, i32), scale (f32), zero (x's type; absent: 0). Output: f32 or f16.
        Dequantize = 22, "dequantize";
        /// ONNX DynamicQuantizeLinear ([`LutParams`]). Input: x (f32). Outputs: y (u8), scale (f32), zero (u8).
        DynQuantize = 23, "dynquantize";
        /// `clamp(round(f32(x - x_zero) * factor))+ y_zero` ([`RequantizeParams`]). Inputs: x (i8 or i32), factor (f32). Output: i8 or u8.
        Requantize = 24, "requantize";
        /// Conversion between element types, as ONNX Cast ([`LutParams`]).
        Cast = 25, "cast";
    }
}

/// Positions of `Conv`'s and `Depthwise`'s inputs.
pub mod conv_input {
    /// Activations, channels last.
    pub const X: usize = 0;
    /// Packed weights.
    pub const WEIGHTS: usize = 1;
    /// f32 (float kernels) or i32 (int8 kernels) per output channel, padded to a multiple of 16 per group.
    pub const BIAS: usize = 2;
    /// int8 kernels: f32 factor per output channel, padded as the bias.
    pub const SCALE: usize = 3;
    /// A tensor added before the activation, of the output's type.
    pub const RESIDUAL: usize = 4;
    /// Kept positions of a sparse layout, u16 words.
    pub const INDEX: usize = 5;
    /// What is read outside the picture: `kc` (rounded up to 4; depthwise: `oc` rounded up to 16) elements of zero, or of the zero point.
    pub const PAD: usize = 6;
    /// Per-channel slopes of `Activation::PRelu`, f32, padded as the bias.
    pub const SLOPES: usize = 7;
}

numbered! {
    /// What a convolution's last step applies after bias and residual.
    pub enum Activation: u32 {
        /// `min(max(v, lo), hi)`: none, ReLU, ReLU6 and every Clip.
        Clamp = 0, "clamp";
        /// `v < 0 ? lo * v : v`.
        LeakyRelu = 1, "leakyrelu";
        /// `v < 0 ? slope[channel] * v : v`.
        PRelu = 2, "prelu";
        /// `v * min(max(v + 3, 0), 6) / 6`.
        HardSwish = 3, "hardswish";
    }
}

/// Distances between neighbours of a channels-last picture, in elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Strides {
    /// First element.
    pub offset: u32,
    /// From a pixel to its right neighbour.
    pub pixel: u32,
    /// From a row to the next.
    pub row: u32,
    /// From a picture to the next.
    pub batch: u32,
}

/// [`Op::Conv`] and [`Op::Depthwise`].
///
/// `y[n][oy][ox][g*oc + o] = act(bias + residual + sum over (ky, kx, i) of w[g][o][ky][kx][i] * x[n][oy*stride_h +
/// ky*dil_h - pad_top][ox*stride_w + kx*dil_w - pad_left][g*kc + i])`.
/// One group's `kc` input elements of a tap lie together; `kc` may exceed the pixel stride when neighbouring taps of a
/// row are read as one run (a first layer with few channels).
#[derive(Clone, Copy, PartialEq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)] // named as in ONNX Conv
pub struct ConvParams {
    pub batch: u32,
    pub in_h: u32,
    pub in_w: u32,
    pub out_h: u32,
    pub out_w: u32,
    pub groups: u32,
    /// Output channels of one group.
    pub oc: u32,
    /// Elements read at one tap by one group.
    pub kc: u32,
    pub kh: u32,
    pub kw: u32,
    pub stride_h: u32,
    pub stride_w: u32,
    pub dil_h: u32,
    pub dil_w: u32,
    pub pad_top: i32,
    pub pad_left: i32,
    pub x: Strides,
    pub y: Strides,
    pub residual: Strides,
    /// An [`Activation`].
    pub activation: u32,
    pub lo: f32,
    pub hi: f32,
    /// int8 output: its zero point.
    pub y_zero: i32,
    /// int8 residual: its zero point and its scale divided by the output's.
    pub residual_zero: i32,
    pub residual_scale: f32,
}

/// [`Op::MatMul`]: for every batch position `y[b][m][n] = sum over k of (a[..] - a_zero) * (b[..] - b_zero)`; y is dense.
#[derive(Clone, Copy, PartialEq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct MatMulParams {
    pub batch: [u32; 6],
    pub a_batch: [u32; 6],
    pub b_batch: [u32; 6],
    pub m: u32,
    pub n: u32,
    pub k: u32,
    pub a_row: u32,
    pub a_col: u32,
    pub b_row: u32,
    pub b_col: u32,
    pub a_zero: i32,
    pub b_zero: i32,
}

numbered! {
    /// Functions of [`Op::Map`]; `p`, `q` are the block's parameters.
    pub enum MapFn: u32 {
        /// `min(max(x, p), q)`; integers too.
        Clamp = 0, "clamp";
        /// `x < 0 ? p * x : x`.
        LeakyRelu = 1, "leakyrelu";
        /// `x < 0 ? p * (exp(x) - 1) : x`.
        Elu = 2, "elu";
        /// `q * (x < 0 ? p * (exp(x) - 1) : x)`.
        Selu = 3, "selu";
        /// `1 / (1 + exp(-x))`.
        Sigmoid = 4, "sigmoid";
        /// `max(0, min(1, p * x + q))`.
        HardSigmoid = 5, "hardsigmoid";
        /// Hyperbolic tangent.
        Tanh = 6, "tanh";
        /// `x * max(0, min(1, x / 6 + 0.5))`.
        HardSwish = 7, "hardswish";
        /// `x / 2 * (1 + erf(x / sqrt 2))`.
        Gelu = 8, "gelu";
        /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
        GeluTanh = 9, "gelutanh";
        /// `log(1 + exp(x))`.
        Softplus = 10, "softplus";
        /// `x / (1 + |x|)`.
        Softsign = 11, "softsign";
        /// `x * tanh(softplus(x))`.
        Mish = 12, "mish";
        /// Error function.
        Erf = 13, "erf";
        /// Exponential.
        Exp = 14, "exp";
        /// Natural logarithm.
        Log = 15, "log";
        /// Square root.
        Sqrt = 16, "sqrt";
        /// Absolute value; integers too (wrapping).
        Abs = 17, "abs";
        /// Negation; integers too (wrapping).
        Neg = 18, "neg";
        /// `1 / x`.
        Reciprocal = 19, "reciprocal";
        /// Greatest integer not above x.
        Floor = 20, "floor";
        /// Least integer not below x.
        Ceil = 21, "ceil";
        /// To nearest, ties to even.
        Round = 22, "round";
        /// -1, 0 or 1; integers too.
        Sign = 23, "sign";
        /// Sine.
        Sin = 24, "sin";
        /// Cosine.
        Cos = 25, "cos";
        /// Logical negation; bool only.
        Not = 26, "not";
        /// `x * sigmoid(p * x)`: SiLU, Swish.
        Silu = 27, "silu";
        /// `p * x + q`.
        Affine = 28, "affine";
    }
}

/// [`Op::Map`].
#[derive(Clone, Copy, PartialEq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct MapParams {
    /// A [`MapFn`].
    pub function: u32,
    /// Number of elements.
    pub count: u32,
    pub p: f32,
    pub q: f32,
}

/// [`Op::Lut`], [`Op::DynQuantize`] and [`Op::Cast`]: nothing but a number of elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct LutParams {
    /// Number of elements.
    pub count: u32,
}

numbered! {
    /// Functions of [`Op::Binary`] and, the first three, of [`Op::QBinary`].
    pub enum BinaryFn: u32 {
        /// a + b, wrapping for integers.
        Add = 0, "add";
        /// a - b, wrapping for integers.
        Sub = 1, "sub";
        /// a * b, wrapping for integers.
        Mul = 2, "mul";
        /// a / b; integers truncate, and give 0 where b is 0.
        Div = 3, "div";
        /// a to the power b.
        Pow = 4, "pow";
        /// The lesser; NaN if either is.
        Min = 5, "min";
        /// The greater; NaN if either is.
        Max = 6, "max";
        /// `a < 0 ? a * b : a`.
        PRelu = 7, "prelu";
        /// Remainder with the sign of b (ONNX Mod, fmod = 0); 0 where b is 0.
        Mod = 8, "mod";
        /// Remainder with the sign of a (fmod = 1); integers give 0 where b is 0.
        Fmod = 9, "fmod";
        /// a == b; output bool, as all below.
        Equal = 10, "equal";
        /// a < b.
        Less = 11, "less";
        /// a <= b.
        LessEqual = 12, "lessequal";
        /// a > b.
        Greater = 13, "greater";
        /// a >= b.
        GreaterEqual = 14, "greaterequal";
        /// Both; bool only.
        And = 15, "and";
        /// Either; bool only.
        Or = 16, "or";
        /// One of them; bool only.
        Xor = 17, "xor";
    }
}

/// [`Op::Binary`]: the output is dense over `dims`; a stride of 0 repeats the operand. Float results of the arithmetic
/// functions are clamped to `lo..=hi` (a fused activation; minus and plus infinity when there is none).
#[derive(Clone, Copy, PartialEq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct BinaryParams {
    /// A [`BinaryFn`].
    pub function: u32,
    pub dims: [u32; MAX_RANK],
    pub a: [u32; MAX_RANK],
    pub b: [u32; MAX_RANK],
    pub lo: f32,
    pub hi: f32,
}

/// [`Op::QBinary`]: Add and Sub: `round(f32(a - a_zero) * a_scale ± f32(b - b_zero) * b_scale)`;
/// Mul: `round(f32((a - a_zero) * (b - b_zero)) * a_scale)`; clamped to `lo..=hi`, plus `y_zero`.
/// Scales are already divided by the output's.
#[derive(Clone, Copy, PartialEq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct QBinaryParams {
    /// A [`BinaryFn`].
    pub function: u32,
    pub dims: [u32; MAX_RANK],
    pub a: [u32; MAX_RANK],
    pub b: [u32; MAX_RANK],
    pub a_zero: i32,
    pub b_zero: i32,
    pub y_zero: i32,
    pub a_scale: f32,
    pub b_scale: f32,
    pub lo: f32,
    pub hi: f32,
}

/// [`Op::Where`]: the output is dense over `dims`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct WhereParams {
    pub dims: [u32; MAX_RANK],
    pub condition: [u32; MAX_RANK],
    pub a: [u32; MAX_RANK],
    pub b: [u32; MAX_RANK],
}

/// [`Op::Copy`]: `dst[dst_offset + sum i_d * dst[d]] = src[src_offset + sum i_d * src[d]]` for every index below `dims`.
/// Source strides may be 0 or negative; no destination element is written twice (the dst strides, sorted, must nest).
/// Elements of the destination that no index reaches keep their value: several copies fill one concatenation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct CopyParams {
    pub dims: [u32; MAX_RANK],
    pub src_offset: u32,
    pub src: [i32; MAX_RANK],
    pub dst_offset: u32,
    pub dst: [i32; MAX_RANK],
}

/// [`Op::Fill`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct FillParams {
    /// Number of elements.
    pub count: u32,
    /// The element's bits, low half first; as many as the output's type has.
    pub bits: [u32; 2],
}

numbered! {
    /// Where [`Op::Pad`] takes the elements from.
    pub enum PadMode: u32 {
        /// Mirrored, the border not repeated.
        Reflect = 0, "reflect";
        /// The border repeated.
        Edge = 1, "edge";
        /// From the other end.
        Wrap = 2, "wrap";
    }
}

/// [`Op::Pad`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct PadParams {
    /// A [`PadMode`].
    pub mode: u32,
    pub in_dims: [u32; MAX_RANK],
    pub out_dims: [u32; MAX_RANK],
    /// Elements before the first, by axis; negative ones cut.
    pub before: [i32; MAX_RANK],
}

/// [`Op::Gather`]: `y[outer][count][inner] = x[outer][index[count]][inner]`. An index out of range reads as the nearest valid one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct GatherParams {
    pub outer: u32,
    pub axis: u32,
    pub inner: u32,
    pub count: u32,
}

/// [`Op::Resample`]: `y[outer][o][inner] = sum over t of weight[o][t] * x[outer][position[o][t]][inner]`.
/// A position out of range reads as the nearest valid one. Products are added in f32 in the order of the taps; i8 rounds and
/// saturates; its weights sum to 1, so scale and zero point pass through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct ResampleParams {
    pub outer: u32,
    pub in_len: u32,
    pub out_len: u32,
    pub inner: u32,
    pub taps: u32,
}

numbered! {
    /// Functions of [`Op::Reduce`].
    pub enum ReduceFn: u32 {
        /// Sum.
        Sum = 0, "sum";
        /// Arithmetic mean.
        Mean = 1, "mean";
        /// Maximum.
        Max = 2, "max";
        /// Minimum.
        Min = 3, "min";
        /// Product.
        Prod = 4, "prod";
        /// Sum of absolute values.
        L1 = 5, "l1";
        /// Square root of the sum of squares.
        L2 = 6, "l2";
        /// Sum of squares.
        SumSquare = 7, "sumsquare";
        /// Logarithm of the sum.
        LogSum = 8, "logsum";
        /// Logarithm of the sum of exponentials.
        LogSumExp = 9, "logsumexp";
    }
}

/// [`Op::Reduce`]: x is dense over `dims`; axes whose bit is set in `mask` are reduced; y is dense over the others.
/// f32, f16, i32, i64; Max and Min also i8, u8 and bool. i8 with Mean or Sum: `clamp(round(f32(sum of (x - x_zero)) * scale)) + y_zero`, the scale holding 1/n.
#[derive(Clone, Copy, PartialEq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct ReduceParams {
    /// A [`ReduceFn`].
    pub function: u32,
    pub dims: [u32; MAX_RANK],
    pub mask: u32,
    pub x_zero: i32,
    pub y_zero: i32,
    pub scale: f32,
}

/// [`Op::ArgReduce`]: x is `[outer][len][inner]`, y `[outer][inner]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct ArgReduceParams {
    pub outer: u32,
    pub len: u32,
    pub inner: u32,
    /// 1: greatest, 0: least.
    pub greatest: u32,
    /// 1: the last of equals, 0: the first.
    pub last: u32,
}

/// [`Op::TopK`]: x is `[outer][len][inner]`, outputs `[outer][k][inner]`. Equal elements keep their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct TopKParams {
    pub outer: u32,
    pub len: u32,
    pub inner: u32,
    pub k: u32,
    /// 1: greatest, 0: least.
    pub greatest: u32,
}

numbered! {
    /// Functions of [`Op::Pool`].
    pub enum PoolFn: u32 {
        /// Maximum; padding never wins.
        Max = 0, "max";
        /// Mean over the window's elements inside the picture.
        Average = 1, "average";
        /// Mean over the window's elements inside the padded picture.
        AverageIncludePad = 2, "averageincludepad";
    }
}

/// [`Op::Pool`]: x is `[batch][in0][in1][in2][channels]`, y `[batch][out0][out1][out2][channels]`; unused leading
/// spatial axes are 1. f32, f16, i8 (averages: `clamp(round(f32(sum of (x - x_zero)) / n * scale)) + y_zero`), u8 (maximum only).
/// A window that lies wholly outside the picture has the least value as its maximum and 0 as its average.
#[derive(Clone, Copy, PartialEq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct PoolParams {
    /// A [`PoolFn`].
    pub function: u32,
    pub batch: u32,
    pub channels: u32,
    pub input: [u32; 3],
    pub output: [u32; 3],
    pub kernel: [u32; 3],
    pub stride: [u32; 3],
    pub dilation: [u32; 3],
    pub before: [u32; 3],
    pub after: [u32; 3],
    pub x_zero: i32,
    pub y_zero: i32,
    pub scale: f32,
    /// Second output: 1: positions as ONNX counts them in `[batch][channels][in0][in1][in2]`; 2: the same with storage_order 1 (column major).
    pub positions: u32,
}

/// [`Op::Lrn`]: x and y are `[outer][channels][inner]`;
/// `y = x / (bias + alpha / size * sum of squares over the size channels around)^beta`.
#[derive(Clone, Copy, PartialEq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct LrnParams {
    pub outer: u32,
    pub channels: u32,
    pub inner: u32,
    pub size: u32,
    pub alpha: f32,
    pub beta: f32,
    pub bias: f32,
}

numbered! {
    /// Which index selects scale and bias of [`Op::Norm`].
    pub enum NormAffine: u32 {
        /// The position along the normalized axis (layer normalization).
        Len = 0, "len";
        /// The position along `inner` (instance normalization, channels last).
        Inner = 1, "inner";
        /// `outer` modulo `channels` (instance normalization, channels first).
        Outer = 2, "outer";
    }
}

/// [`Op::Norm`]: x is `[outer][len][inner]`; for every (outer, inner) `y = (x - mean) / sqrt(variance + epsilon) * scale + bias`.
/// Outputs 1 and 2, if there, are the mean and `1 / sqrt(variance + epsilon)`, `[outer][inner]`. The bias may be absent.
#[derive(Clone, Copy, PartialEq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct NormParams {
    pub outer: u32,
    pub len: u32,
    pub inner: u32,
    /// A [`NormAffine`].
    pub affine: u32,
    pub channels: u32,
    pub epsilon: f32,
}

/// [`Op::Softmax`]: x and y are `[outer][len][inner]`, normalized along `len`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct SoftmaxParams {
    pub outer: u32,
    pub len: u32,
    pub inner: u32,
    /// 1: the logarithm.
    pub log: u32,
}

/// [`Op::Quantize`], [`Op::Dequantize`]: x and y are `[outer][channels][inner]`, scale and zero have `channels` elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct ChannelParams {
    pub outer: u32,
    pub channels: u32,
    pub inner: u32,
}

/// [`Op::Requantize`]: x and y are `[outer][channels][inner]`, the factor has `channels` elements.
#[derive(Clone, Copy, PartialEq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct RequantizeParams {
    pub outer: u32,
    pub channels: u32,
    pub inner: u32,
    pub x_zero: i32,
    pub y_zero: i32,
    pub lo: f32,
    pub hi: f32,
}
