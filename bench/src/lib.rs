//! Layers to measure kernels on: shapes of a real network, with weights and activations of any precision and sparsity.

pub mod ops;

use sparrow_kernels::{
    Activation, Call, Catalogue, ConvParams, DType, Family, Features, Index, Input, Layout, Op, Output, Refusal,
    Strides, WeightShape, conv_input,
};
use sparrow_testkit::{Buffer, Random, encode};

/// Bytes around every operand, which a benchmark does not check.
const GUARD: u8 = 0;

/// A convolution of a network, square in every respect.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// What it is.
    pub kind: Kind,
    /// Width and height of the input.
    pub size: usize,
    /// Input channels.
    pub ic: usize,
    /// Output channels.
    pub oc: usize,
    /// Distance of windows.
    pub stride: usize,
}

/// Kinds of layers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// 3x3 on a padded picture, the three taps of a row read as one run.
    First,
    /// 1x1, or a fully connected layer where the picture is one pixel.
    Pointwise,
    /// 3x3.
    Spatial,
    /// 3x3 depthwise.
    Depthwise,
}

impl Layer {
    /// A 1x1 layer.
    pub const fn pointwise(size: usize, ic: usize, oc: usize) -> Self {
        Self { kind: Kind::Pointwise, size, ic, oc, stride: 1 }
    }

    /// A depthwise layer.
    pub const fn depthwise(size: usize, channels: usize, stride: usize) -> Self {
        Self { kind: Kind::Depthwise, size, ic: channels, oc: channels, stride }
    }

    /// Width and height of the output.
    pub fn out(&self) -> usize {
        self.size.div_ceil(self.stride)
    }

    /// Multiply-adds, those with dropped weights included.
    pub fn macs(&self) -> usize {
        let taps = if self.kind == Kind::Pointwise { 1 } else { 9 };
        let inputs = if self.kind == Kind::Depthwise { 1 } else { self.ic };
        self.out() * self.out() * self.oc * taps * inputs
    }
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let kind = match self.kind {
            Kind::First => "first",
            Kind::Pointwise => "1x1",
            Kind::Spatial => "3x3",
            Kind::Depthwise => "dw3x3",
        };
        write!(f, "{kind}_{0}x{0}_{1}_{2}", self.size, self.ic, self.oc)?;
        if self.stride > 1 { write!(f, "_s{}", self.stride) } else { Ok(()) }
    }
}

/// The convolutions of MobileNet-v1 1.0/224.
pub fn mobilenet_v1() -> Vec<Layer> {
    let mut layers = vec![Layer { kind: Kind::First, size: 224, ic: 3, oc: 32, stride: 2 }];
    let blocks = [
        (112, 32, 64, 1),
        (112, 64, 128, 2),
        (56, 128, 128, 1),
        (56, 128, 256, 2),
        (28, 256, 256, 1),
        (28, 256, 512, 2),
        (14, 512, 512, 1),
        (14, 512, 512, 1),
        (14, 512, 512, 1),
        (14, 512, 512, 1),
        (14, 512, 512, 1),
        (14, 512, 1024, 2),
        (7, 1024, 1024, 1),
    ];
    for (size, ic, oc, stride) in blocks {
        layers.push(Layer::depthwise(size, ic, stride));
        layers.push(Layer::pointwise(size / stride, ic, oc));
    }
    layers.push(Layer::pointwise(1, 1024, 1000));
    layers
}

/// How a layer's weights are stored.
#[derive(Clone, Copy, Debug)]
pub struct Precision {
    /// Type of weights and activations.
    pub dtype: DType,
    /// Share of weight units dropped; 0 for a dense layout.
    pub sparsity: f32,
    /// Output channels of a sparse block.
    pub block: usize,
}

/// A layer with its constants.
pub struct Packed {
    op: Op,
    params: ConvParams,
    layout: Layout,
    dtype: DType,
    weights: Buffer,
    bias: Buffer,
    scale: Buffer,
    index: Option<Buffer>,
    pad: Buffer,
    /// Bytes of the input.
    pub x_len: usize,
    /// Bytes of the output.
    pub y_len: usize,
}

impl Packed {
    /// The layer with random weights.
    pub fn new(layer: &Layer, precision: Precision) -> Self {
        let Precision { dtype, sparsity, block } = precision;
        let mut random = Random::new(7);
        let depthwise = layer.kind == Kind::Depthwise;
        let family = match (depthwise, sparsity > 0.0) {
            (false, false) => Family::Dense,
            (false, true) => Family::Sparse,
            (true, false) => Family::Depthwise,
            (true, true) => Family::SparseDepthwise,
        };
        let layout =
            Layout::find(family, dtype, if sparsity > 0.0 && !depthwise { block } else { 16 }).expect("layout");
        let params = params(layer);
        let shape =
            WeightShape { groups: 1, oc: layer.oc, taps: (params.kh * params.kw) as usize, kc: params.kc as usize };
        let index = layout.is_sparse().then(|| index(layout, shape, sparsity, &mut random));
        let channels = layer.oc.next_multiple_of(16);
        let element = dtype.size();
        Self {
            op: if depthwise { Op::Depthwise } else { Op::Conv },
            params,
            layout,
            dtype,
            weights: weights(layout, shape, index.as_ref(), &mut random),
            bias: Buffer::new(channels * 4, 0, GUARD),
            scale: Buffer::from_bytes(&encode(DType::F32, &vec![0.001f32; channels]), GUARD),
            index,
            pad: Buffer::new((params.kc as usize).max(layer.oc).next_multiple_of(16) * element, 0, GUARD),
            x_len: ((layer.size + 2) * (layer.size + 2) * layer.ic + 16) * element,
            y_len: layer.out() * layer.out() * layer.oc * element,
        }
    }

    /// Random activations for `len` bytes of input.
    pub fn activations(dtype: DType, len: usize) -> Buffer {
        let mut random = Random::new(11);
        let count = len / dtype.size();
        let values = if dtype == DType::I8 { random.codes(count) } else { random.floats(count, 1.0) };
        Buffer::from_bytes(&encode(dtype, &values), GUARD)
    }

    /// The call from `x` to `y`, which are at least `x_len` and `y_len` bytes.
    ///
    /// # Errors
    /// The contract refuses the call.
    pub fn call<'a>(&'a self, x: &'a [u8], y: &'a mut [u8]) -> Result<Call<'a>, Refusal> {
        let (inputs, output) = self.operands(x, y);
        Call::checked(self.op, bytemuck::bytes_of(&self.params), inputs, [Some(output), None, None])
    }

    /// A call that is not checked again.
    ///
    /// # Safety
    /// [`Self::call`] has accepted operands of these lengths.
    pub unsafe fn call_again<'a>(&'a self, x: &'a [u8], y: &'a mut [u8]) -> Call<'a> {
        let (inputs, output) = self.operands(x, y);
        // SAFETY: the caller's promise; everything else is this layer's.
        unsafe { Call::new(self.op, bytemuck::bytes_of(&self.params), inputs, [Some(output), None, None]) }
    }

    fn operands<'a>(
        &'a self,
        x: &'a [u8],
        y: &'a mut [u8],
    ) -> ([Option<Input<'a>>; sparrow_kernels::MAX_INPUTS], Output<'a>) {
        let plain = |dtype, bytes| Some(Input { dtype, layout: Layout::Plain, bytes });
        let integer = self.dtype == DType::I8;
        let mut inputs = [None; sparrow_kernels::MAX_INPUTS];
        inputs[conv_input::X] = plain(self.dtype, x);
        inputs[conv_input::WEIGHTS] =
            Some(Input { dtype: self.dtype, layout: self.layout, bytes: self.weights.bytes() });
        inputs[conv_input::BIAS] = plain(if integer { DType::I32 } else { DType::F32 }, self.bias.bytes());
        inputs[conv_input::SCALE] = if integer { plain(DType::F32, self.scale.bytes()) } else { None };
        inputs[conv_input::INDEX] = self.index.as_ref().and_then(|index| plain(DType::I32, index.bytes()));
        inputs[conv_input::PAD] = plain(self.dtype, self.pad.bytes());
        (inputs, Output::new(self.dtype, y))
    }
}

fn params(layer: &Layer) -> ConvParams {
    let (size, out, stride) = (layer.size as u32, layer.out() as u32, layer.stride as u32);
    let (ic, oc) = (layer.ic as u32, layer.oc as u32);
    let depthwise = layer.kind == Kind::Depthwise;
    let (kh, kw, pad) = match layer.kind {
        Kind::Pointwise => (1, 1, 0),
        Kind::First => (3, 1, 0),
        Kind::Spatial | Kind::Depthwise => (3, 3, 1),
    };
    let (kc, row) = match layer.kind {
        Kind::First => (9, (size + 2) * ic),
        Kind::Depthwise => (1, size * ic),
        _ => (ic, size * ic),
    };
    ConvParams {
        batch: 1,
        in_h: if layer.kind == Kind::First { size + 2 } else { size },
        in_w: size,
        out_h: out,
        out_w: out,
        groups: 1,
        oc: if depthwise { ic } else { oc },
        kc,
        kh,
        kw,
        stride_h: stride,
        stride_w: stride,
        dil_h: 1,
        dil_w: 1,
        pad_top: pad,
        pad_left: pad,
        x: Strides { offset: 0, pixel: ic, row, batch: row * size },
        y: Strides { offset: 0, pixel: oc, row: oc * out, batch: oc * out * out },
        activation: Activation::Clamp as u32,
        lo: 0.0,
        // In int8 a code of 28: 156 above the least, as the greatest of a tile is in the middle of MobileNet-v1.
        hi: 28.0,
        ..ConvParams::default()
    }
}

/// An index that keeps the same number of units in every block and tap, at random places.
fn index(layout: Layout, shape: WeightShape, sparsity: f32, random: &mut Random) -> Buffer {
    let (blocks, taps, units) = layout.index_shape(shape).expect("sizes fit");
    let keep = (units as f32 * (1.0 - sparsity)).round() as usize;
    let (mut starts, mut counts, mut positions) = (vec![0u32], Vec::<u16>::new(), Vec::<u16>::new());
    for _ in 0..blocks {
        for _ in 0..taps {
            let mut order: Vec<u16> = (0..units as u16).collect();
            for n in 0..keep {
                order.swap(n, n + random.below(units - n));
            }
            order.truncate(keep);
            order.sort_unstable();
            counts.push(keep as u16);
            positions.extend(order);
        }
        starts.push(positions.len() as u32);
    }
    let bytes =
        [bytemuck::cast_slice(&starts), bytemuck::cast_slice(&counts), bytemuck::cast_slice::<u16, u8>(&positions)]
            .concat();
    Buffer::from_bytes(&bytes, GUARD)
}

fn weights(layout: Layout, shape: WeightShape, index: Option<&Buffer>, random: &mut Random) -> Buffer {
    let (blocks, taps, _) = layout.index_shape(shape).expect("sizes fit");
    let index = index.map(|index| Index::view(index.bytes(), blocks, taps).expect("own index"));
    let count = shape.groups * shape.oc * shape.taps * shape.kc;
    let dtype = layout.spec().dtype;
    let values = if dtype == DType::I8 { normal_codes(random, count) } else { random.floats(count, 0.1) };
    let plain = Buffer::from_bytes(&encode(dtype, &values), GUARD);
    let plain = plain.bytes();
    let size = layout.size(shape, index.map_or(0, |index| index.positions.len())).expect("sizes fit");
    let mut packed = Buffer::new(size, 0, GUARD);
    match dtype.size() {
        1 => layout.pack_into::<u8>(shape, plain, index.as_ref(), packed.bytes_mut()),
        2 => layout.pack_into::<u16>(
            shape,
            bytemuck::cast_slice(plain),
            index.as_ref(),
            bytemuck::cast_slice_mut(packed.bytes_mut()),
        ),
        _ => layout.pack_into::<u32>(
            shape,
            bytemuck::cast_slice(plain),
            index.as_ref(),
            bytemuck::cast_slice_mut(packed.bytes_mut()),
        ),
    }
    packed
}

/// `count` codes of weights of a normal distribution, a third of whose greatest is its deviation: time may depend on how many are
/// great.
fn normal_codes(random: &mut Random, count: usize) -> Vec<f32> {
    let code = |_| {
        let sum: f32 = (0..4).map(|_| random.unit()).sum();
        (sum * 36.0).round().clamp(-127.0, 127.0)
    };
    (0..count).map(code).collect()
}

/// The catalogue of this machine's instruction set, and what its CPU can do.
pub fn catalogue() -> (Catalogue, Features) {
    #[cfg(target_arch = "x86_64")]
    return (sparrow_kernels_x86::CATALOGUE, sparrow_kernels_x86::detect());
    #[cfg(target_arch = "aarch64")]
    return (sparrow_kernels_arm::CATALOGUE, sparrow_kernels_arm::detect());
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return (&[], Features::NONE);
}
