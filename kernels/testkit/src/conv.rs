//! Cases of convolutions and depthwise convolutions: every layout, activation, output type and view over shapes around
//! the tiles.
//!
//! A [`ConvCase`] keeps its numbers unpacked, so that a test can compute the convolution from the definition;
//! [`ConvCase::to_case`] packs them. All values are held as f32, which is exact for int8 codes and for f16.

use crate::{Case, Random, encode};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use half::f16;
use sparrow_kernels::{Activation, ConvParams, DType, Index, Layout, Op, Strides, WeightShape, conv, conv_input};

/// A convolution with its operands' values.
#[derive(Clone)]
pub struct ConvCase {
    /// Shape and variant in words.
    pub name: String,
    /// `Conv` or `Depthwise`.
    pub op: Op,
    /// The parameter block.
    pub params: ConvParams,
    /// Of the weights.
    pub layout: Layout,
    /// Type of the output.
    pub output: DType,
    /// The input operand, gaps between pixels included.
    pub x: Vec<f32>,
    /// `[groups][oc][taps][kc]`, 0 where dropped.
    pub weights: Vec<f32>,
    /// By channel, each group padded to a multiple of 16; slopes and scale too.
    pub bias: Vec<f32>,
    /// int8: factors.
    pub scale: Option<Vec<f32>>,
    /// The residual operand, in the output's type.
    pub residual: Option<Vec<f32>>,
    /// Slopes of PRelu.
    pub slopes: Option<Vec<f32>>,
    /// What is read outside the picture.
    pub pad: f32,
    /// Bytes of the index of a sparse layout.
    pub index: Option<Vec<u8>>,
}

/// Sizes of a convolution.
#[derive(Clone, Copy)]
struct Shape {
    batch: u32,
    input: [u32; 2],
    groups: u32,
    oc: u32,
    kc: u32,
    kernel: [u32; 2],
    stride: [u32; 2],
    dilation: [u32; 2],
    /// top, left, bottom, right
    pads: [i32; 4],
    /// Elements between pixels of the input where that is not all channels: taps read as one run.
    pixel: Option<u32>,
}

const PLAIN: Shape = Shape {
    batch: 1,
    input: [1, 1],
    groups: 1,
    oc: 16,
    kc: 16,
    kernel: [1, 1],
    stride: [1, 1],
    dilation: [1, 1],
    pads: [0; 4],
    pixel: None,
};

/// `kc` and `oc` around the panels, pixels around the tiles, then kernels, strides, dilations, pads and groups.
const CONVOLUTIONS: &[Shape] = &[
    Shape { oc: 1, kc: 1, ..PLAIN },
    Shape { oc: 10, kc: 64, ..PLAIN },
    Shape { oc: 100, kc: 129, ..PLAIN },
    Shape { input: [1, 2], oc: 3, kc: 3, ..PLAIN },
    Shape { input: [1, 3], oc: 4, kc: 4, ..PLAIN },
    Shape { input: [2, 2], oc: 15, kc: 5, ..PLAIN },
    Shape { input: [1, 5], oc: 16, kc: 8, ..PLAIN },
    Shape { input: [2, 3], oc: 17, kc: 15, ..PLAIN },
    Shape { input: [1, 7], oc: 24, kc: 16, ..PLAIN },
    Shape { input: [2, 4], oc: 31, kc: 17, ..PLAIN },
    Shape { input: [3, 4], oc: 32, kc: 31, ..PLAIN },
    Shape { input: [1, 15], oc: 33, kc: 32, ..PLAIN },
    Shape { input: [4, 4], oc: 48, kc: 33, ..PLAIN },
    Shape { input: [1, 17], oc: 64, kc: 63, ..PLAIN },
    Shape { input: [4, 8], oc: 65, kc: 64, ..PLAIN },
    Shape { input: [7, 9], oc: 20, kc: 20, ..PLAIN },
    Shape { input: [8, 8], oc: 36, kc: 12, ..PLAIN },
    Shape { batch: 2, input: [9, 11], oc: 40, kc: 24, ..PLAIN },
    Shape { batch: 3, input: [3, 3], oc: 18, kc: 7, ..PLAIN },
    Shape { input: [16, 17], oc: 8, kc: 2, ..PLAIN },
    Shape { input: [5, 5], oc: 12, kc: 6, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { input: [9, 8], oc: 16, kc: 4, kernel: [3, 3], stride: [2, 2], pads: [0, 0, 1, 1], ..PLAIN },
    Shape { batch: 2, input: [7, 6], oc: 21, kc: 3, kernel: [3, 2], stride: [1, 2], pads: [2, 1, 0, 0], ..PLAIN },
    Shape { input: [11, 10], oc: 9, kc: 5, kernel: [3, 3], dilation: [2, 3], pads: [2, 3, 2, 3], ..PLAIN },
    Shape { input: [1, 20], oc: 16, kc: 8, kernel: [1, 5], pads: [0, 2, 0, 2], ..PLAIN },
    Shape { input: [6, 6], groups: 3, oc: 5, kc: 7, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { input: [4, 5], groups: 2, oc: 20, kc: 16, ..PLAIN },
    Shape { input: [3, 3], oc: 4, kc: 4, kernel: [5, 5], pads: [4; 4], ..PLAIN },
    Shape {
        input: [8, 14],
        oc: 16,
        kc: 9,
        kernel: [3, 1],
        stride: [2, 2],
        pads: [1, 0, 1, -2],
        pixel: Some(3),
        ..PLAIN
    },
    // The same in a frame: windows inside, odd and even counts of them, and rows of one pixel.
    Shape {
        batch: 2,
        input: [7, 33],
        oc: 36,
        kc: 9,
        kernel: [3, 1],
        stride: [2, 2],
        pads: [0, 0, 0, -2],
        pixel: Some(3),
        ..PLAIN
    },
    Shape {
        input: [5, 19],
        oc: 16,
        kc: 9,
        kernel: [3, 1],
        stride: [1, 2],
        pads: [0, 0, 0, -2],
        pixel: Some(3),
        ..PLAIN
    },
    Shape {
        input: [9, 4],
        oc: 16,
        kc: 9,
        kernel: [3, 1],
        stride: [1, 2],
        pads: [0, 0, 0, -2],
        pixel: Some(3),
        ..PLAIN
    },
    Shape { input: [9, 30], oc: 16, kc: 9, kernel: [3, 1], pads: [0, 0, 0, -2], pixel: Some(3), ..PLAIN },
    Shape {
        batch: 2,
        input: [9, 67],
        oc: 33,
        kc: 9,
        kernel: [3, 1],
        stride: [2, 2],
        pads: [1, 0, 1, -2],
        pixel: Some(3),
        ..PLAIN
    },
    Shape { input: [5, 40], oc: 20, kc: 15, kernel: [5, 1], pads: [2, 0, 2, -4], pixel: Some(3), ..PLAIN },
    Shape { input: [4, 40], oc: 20, kc: 2, kernel: [2, 1], pads: [1, 2, 1, 3], pixel: Some(3), ..PLAIN },
    Shape { input: [9, 30], oc: 32, kc: 8, kernel: [3, 1], stride: [2, 2], dilation: [2, 1], ..PLAIN },
    Shape { input: [13, 13], oc: 16, kc: 4, kernel: [11, 11], stride: [4, 4], pads: [2; 4], ..PLAIN },
    Shape { input: [6, 7], oc: 7, kc: 3, kernel: [2, 2], pads: [-1, -2, -1, 0], ..PLAIN },
    // Tiles within a row, whose windows overlap.
    Shape { input: [2, 31], oc: 20, kc: 64, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { input: [3, 33], oc: 12, kc: 13, kernel: [3, 5], dilation: [2, 1], pads: [2; 4], ..PLAIN },
    Shape {
        batch: 2,
        input: [3, 18],
        groups: 2,
        oc: 17,
        kc: 16,
        kernel: [3, 3],
        stride: [2, 1],
        pads: [1; 4],
        ..PLAIN
    },
    Shape { input: [2, 16], oc: 33, kc: 128, kernel: [2, 3], pads: [1, 1, 0, 1], ..PLAIN },
    // Units that fill no vector.
    Shape { input: [5, 6], oc: 36, kc: 21, ..PLAIN },
    // Reductions longer than what a kernel stages at once: within a tap, of whole taps, and for a single row.
    Shape { input: [1, 20], oc: 20, kc: 1501, ..PLAIN },
    Shape { input: [4, 5], oc: 17, kc: 180, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { oc: 33, kc: 4700, ..PLAIN },
    Shape { input: [2, 9], oc: 20, kc: 1100, kernel: [1, 2], ..PLAIN },
];

/// More channels than a tile has, or only a few.
const WIDE: &[Shape] = &[
    Shape { input: [1, 17], oc: 277, kc: 6, kernel: [1, 3], pads: [0, 1, 0, 1], ..PLAIN },
    Shape { input: [2, 40], oc: 3, kc: 12, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { input: [2, 5], oc: 2, kc: 100, kernel: [5, 5], pads: [2; 4], ..PLAIN },
    Shape { input: [2, 37], oc: 4, kc: 20, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { input: [3, 34], oc: 11, kc: 16, kernel: [3, 3], dilation: [2, 1], pads: [1; 4], ..PLAIN },
];

/// More kept units and pixels than a vector or a chunk.
const LONG: &[Shape] = &[
    Shape { input: [7, 9], oc: 20, kc: 150, ..PLAIN },
    Shape { input: [5, 10], oc: 17, kc: 40, kernel: [2, 2], pads: [1, 0, 0, 1], ..PLAIN },
];

/// As Winograd's kernels take them: whole patches, parts of patches, one chunk of channels and several, more than a unit.
const WINOGRAD: &[Shape] = &[
    Shape { input: [16, 16], oc: 16, kc: 16, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { batch: 2, input: [15, 21], oc: 20, kc: 33, kernel: [3, 3], pads: [1, 0, 0, 2], ..PLAIN },
    Shape { input: [18, 17], groups: 2, oc: 17, kc: 70, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { input: [13, 15], oc: 32, kc: 40, kernel: [5, 5], pads: [2; 4], ..PLAIN },
    Shape { input: [30, 75], oc: 3, kc: 16, kernel: [5, 5], pads: [2, 2, 1, 2], ..PLAIN },
];

/// `oc` channels around the blocks of 16, rows around the vectors.
const DEPTHWISE: &[Shape] = &[
    Shape { oc: 1, kc: 1, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    // Rows that share columns or input rows: odd and even counts, strides of either axis, many blocks.
    Shape { batch: 2, input: [5, 19], oc: 32, kc: 1, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { input: [9, 13], oc: 16, kc: 1, kernel: [3, 3], stride: [2, 2], pads: [0, 0, 1, 1], ..PLAIN },
    Shape {
        input: [4, 9],
        oc: 48,
        kc: 1,
        kernel: [3, 3],
        stride: [1, 2],
        dilation: [2, 1],
        pads: [2, 1, 2, 1],
        ..PLAIN
    },
    Shape { input: [2, 3], oc: 1056, kc: 1, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { input: [3, 3], oc: 3, kc: 1, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { input: [5, 4], oc: 8, kc: 1, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { batch: 2, input: [4, 9], oc: 15, kc: 1, kernel: [3, 3], stride: [2, 2], pads: [0, 0, 1, 1], ..PLAIN },
    Shape { input: [7, 8], oc: 16, kc: 1, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { input: [8, 17], oc: 17, kc: 1, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { input: [9, 16], oc: 24, kc: 1, kernel: [3, 3], stride: [2, 2], pads: [1; 4], ..PLAIN },
    Shape { input: [6, 6], oc: 31, kc: 1, kernel: [5, 5], pads: [2; 4], ..PLAIN },
    Shape { input: [5, 11], oc: 32, kc: 1, kernel: [5, 5], stride: [2, 2], pads: [2; 4], ..PLAIN },
    Shape { batch: 3, input: [4, 5], oc: 33, kc: 1, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { input: [12, 12], oc: 48, kc: 1, kernel: [3, 3], dilation: [2, 3], pads: [2, 3, 2, 3], ..PLAIN },
    Shape { input: [4, 4], oc: 64, kc: 1, kernel: [7, 7], pads: [3; 4], ..PLAIN },
    Shape { input: [3, 20], oc: 20, kc: 1, kernel: [1, 5], pads: [0, 4, 0, 1], ..PLAIN },
    Shape { input: [9, 3], oc: 16, kc: 1, kernel: [4, 1], pads: [3, 0, 0, 0], ..PLAIN },
    Shape { input: [6, 7], oc: 72, kc: 1, kernel: [2, 2], stride: [3, 1], pads: [-1, -2, 1, 0], ..PLAIN },
    Shape { input: [2, 3], oc: 40, kc: 1, kernel: [1, 1], ..PLAIN },
    Shape { input: [2, 2], oc: 16, kc: 1, kernel: [3, 3], pads: [3; 4], ..PLAIN },
];

/// As kernels for 3x3 alone take them, with the usual last step: rows shorter and longer than what is computed at once, and
/// borders at every side.
const SQUARE: &[Shape] = &[
    Shape { input: [5, 7], oc: 16, kc: 1, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { input: [3, 130], oc: 20, kc: 1, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { input: [7, 9], oc: 32, kc: 1, kernel: [3, 3], stride: [2, 2], pads: [0, 0, 1, 1], ..PLAIN },
    Shape { input: [4, 127], oc: 36, kc: 1, kernel: [3, 3], stride: [2, 2], pads: [1; 4], ..PLAIN },
    Shape { batch: 2, input: [4, 5], oc: 7, kc: 1, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { input: [3, 3], oc: 5, kc: 1, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape {
        input: [5, 12],
        oc: 24,
        kc: 1,
        kernel: [3, 3],
        stride: [2, 1],
        dilation: [2, 1],
        pads: [2, 1, 2, 1],
        ..PLAIN
    },
    Shape { input: [4, 6], oc: 48, kc: 1, kernel: [3, 3], pads: [3; 4], ..PLAIN },
    Shape { input: [2, 2], oc: 16, kc: 1, kernel: [3, 3], stride: [1, 2], pads: [3, 5, 3, 4], ..PLAIN },
    Shape { input: [6, 11], oc: 12, kc: 1, kernel: [3, 3], pads: [0, -1, 1, -2], ..PLAIN },
    // Whole cache lines of channels, one pixel's or two neighbours'.
    Shape { input: [4, 11], oc: 80, kc: 1, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { input: [4, 20], oc: 32, kc: 1, kernel: [3, 3], pads: [0; 4], ..PLAIN },
    Shape { input: [5, 29], oc: 32, kc: 1, kernel: [3, 3], pads: [1; 4], ..PLAIN },
    Shape { input: [7, 12], oc: 144, kc: 1, kernel: [3, 3], stride: [2, 2], pads: [0, 0, 1, 1], ..PLAIN },
];

/// int8: sums of almost 2^23, and of more.
const GREAT: &[Shape] =
    &[Shape { input: [3, 7], oc: 32, kc: 484, ..PLAIN }, Shape { input: [3, 7], oc: 32, kc: 700, ..PLAIN }];

/// What varies besides shape and layout.
#[derive(Clone, Copy)]
struct Variant {
    activation: Activation,
    bounded: bool,
    residual: bool,
    output: DType,
    view: bool,
    extreme: bool,
}

impl Variant {
    /// The `n`-th variant of a layout's type: every field chosen by itself.
    fn nth(n: usize, dtype: DType) -> Self {
        let mut random = Random::new(n as u64 + 1000);
        let mut pick = |limit: usize| random.below(limit);
        let (activations, outputs): (&[Activation], &[DType]) = match dtype {
            DType::I8 => (&[Activation::Clamp, Activation::PRelu], &[DType::I8, DType::I8, DType::I32, DType::F32]),
            DType::F16 => (Activation::ALL, &[DType::F16]),
            _ => (Activation::ALL, &[DType::F32]),
        };
        let output = outputs[pick(outputs.len())];
        Self {
            activation: activations[pick(activations.len())],
            bounded: pick(2) == 0,
            residual: pick(2) == 0 && output != DType::I32,
            output,
            view: pick(3) == 0,
            extreme: pick(8) == 0,
        }
    }

    /// The `n`-th of the usual last step: bounds, the type's own output, nothing added.
    fn usual(n: usize, dtype: DType) -> Self {
        let (bounded, view, extreme) = (n.is_multiple_of(2), n % 4 < 2, n % 8 == 7);
        Self { activation: Activation::Clamp, bounded, residual: false, output: dtype, view, extreme }
    }

    fn name(&self) -> String {
        let flag = |yes: bool, name: &'static str| if yes { name } else { "" };
        alloc::format!(
            "{}{}{}{}{} to {}",
            self.activation.name(),
            flag(self.bounded, " bounded"),
            flag(self.residual, " +residual"),
            flag(self.view, " view"),
            flag(self.extreme, " extreme"),
            self.output.name()
        )
    }
}

/// Every shape in every layout at sparsity 0, 0.5 and 1, the variants taking turns; and some shapes in every variant.
pub fn cases() -> Box<dyn Iterator<Item = ConvCase>> {
    let layouts = Layout::ALL.iter().copied().filter(|&layout| layout != Layout::Plain);
    Box::new(layouts.flat_map(|layout| {
        let (op, shapes) = family(layout);
        let sparsities: &[f32] = if layout.is_sparse() { &[0.5, 0.0, 1.0] } else { &[0.0] };
        let each = shapes.iter().enumerate().flat_map(move |(i, shape)| {
            sparsities
                .iter()
                .enumerate()
                .map(move |(j, &sparsity)| (i * 3 + j + layout.number() as usize, shape, sparsity))
        });
        let sampled = [5, 11, 13]
            .into_iter()
            .flat_map(move |at| (0..48).map(move |n| (n, &shapes[at], if layout.is_sparse() { 0.4 } else { 0.0 })));
        // First layers, whose kernels have loops of their own where the last step is a plain one.
        let joined = shapes.iter().filter(|shape| shape.kernel == [3, 1]);
        let joined =
            joined.flat_map(move |shape| (0..32).map(move |n| (n, shape, if layout.is_sparse() { 0.4 } else { 0.0 })));
        let kept = layout.is_sparse() && layout.spec().block == 16;
        let wide = WIDE.iter().chain(LONG.iter().filter(move |_| kept)).filter(move |_| op == Op::Conv).enumerate();
        let sparsity = if layout.is_sparse() { 0.3 } else { 0.0 };
        let wide = wide.flat_map(move |(i, shape)| (0..4).map(move |n| (4 * i + n, shape, sparsity)));
        let dense_depthwise = layout.spec().family == sparrow_kernels::Family::Depthwise;
        let square = SQUARE.iter().filter(move |_| dense_depthwise).enumerate();
        let square = square.flat_map(|(i, shape)| [i, i + 3].map(|n| (n, shape)));
        let dtype = layout.spec().dtype;
        let great = GREAT.iter().filter(move |_| dtype == DType::I8 && op == Op::Conv);
        let relu = |extreme| Variant { extreme, bounded: true, ..Variant::usual(0, DType::I8) };
        let great = great.flat_map(move |shape| [true, false].map(|extreme| (0, shape, 0.0, relu(extreme))));
        each.chain(sampled)
            .chain(joined)
            .chain(wide)
            .map(move |(n, shape, sparsity)| (n, shape, sparsity, Variant::nth(n, dtype)))
            .chain(square.map(move |(n, shape)| (n, shape, 0.0, Variant::usual(n, dtype))))
            .chain(great)
            .map(move |(n, shape, sparsity, variant)| make(op, layout, *shape, sparsity, variant, n as u64))
    }))
}

/// Shapes that Winograd's kernels take, in some variants of each, enough for every activation, with and without residuals.
pub fn winograd() -> impl Iterator<Item = ConvCase> {
    let variants = WINOGRAD.iter().flat_map(|shape| (0..6).map(move |n| (n, shape)));
    variants.map(|(n, shape)| {
        let variant = Variant::nth(n, DType::F32);
        make(Op::Conv, Layout::DenseF32, *shape, 0.0, variant, n as u64)
    })
}

fn family(layout: Layout) -> (Op, &'static [Shape]) {
    match layout.spec().family {
        sparrow_kernels::Family::Depthwise | sparrow_kernels::Family::SparseDepthwise => (Op::Depthwise, DEPTHWISE),
        _ => (Op::Conv, CONVOLUTIONS),
    }
}

/// Strides of a picture of `height` by `width` pixels of `channels` elements; a view has gaps everywhere.
fn strides(height: u32, width: u32, channels: u32, view: bool) -> Strides {
    let gap = u32::from(view);
    let pixel = channels + 5 * gap;
    let row = width * pixel + 3 * gap;
    Strides { offset: 7 * gap, pixel, row, batch: height * row + 11 * gap }
}

/// Elements from the operand's start to the end of the last pixel's run of `run` elements.
fn extent(s: &Strides, [batch, height, width]: [u32; 3], run: u32) -> usize {
    (s.offset + (batch - 1) * s.batch + (height - 1) * s.row + (width - 1) * s.pixel + run) as usize
}

fn make(op: Op, layout: Layout, shape: Shape, sparsity: f32, variant: Variant, seed: u64) -> ConvCase {
    let spec = layout.spec();
    let mut random = Random::new(seed + 1);
    let params = params(op, &shape, &variant, spec.dtype, &mut random);
    let matrix = conv::weight_shape(op, &params);
    let channels = shape.groups * shape.oc;
    let read = if op == Op::Depthwise { channels } else { shape.groups * shape.kc };
    let slack = if op == Op::Depthwise { 0 } else { shape.kc.next_multiple_of(spec.step as u32) - shape.kc };
    let x_len = extent(&params.x, [shape.batch, shape.input[0], shape.input[1]], read) + slack as usize;
    let y_pixels = [shape.batch, params.out_h, params.out_w];
    let value = |random: &mut Random, dtype: DType, count: usize| match (dtype, variant.extreme) {
        (DType::I8, true) => vec![-128.0; count],
        (DType::I8, false) => random.codes(count),
        (DType::F16, _) => random.floats(count, 1.0).into_iter().map(|v| f16::from_f32(v).to_f32()).collect(),
        _ => random.floats(count, 1.0),
    };
    let x = value(&mut random, spec.dtype, x_len);
    let mut weights = value(&mut random, spec.dtype, matrix.groups * matrix.oc * matrix.taps * matrix.kc);
    if spec.dtype == DType::I8 && !variant.extreme && seed % 2 == 1 {
        // Few are great, as of trained weights.
        weights.iter_mut().for_each(|weight| *weight = (*weight * random.unit() * random.unit()) as i32 as f32);
    }
    let index = layout.is_sparse().then(|| index(layout, matrix, sparsity, &mut random));
    if let Some(bytes) = &index {
        drop_weights(layout, matrix, bytes, &mut weights);
    }
    let vector = (shape.groups * shape.oc.next_multiple_of(16)) as usize;
    let int8 = spec.dtype == DType::I8;
    let bias = if int8 {
        random.floats(vector, 3000.0).iter().map(|v| *v as i32 as f32).collect()
    } else {
        random.floats(vector, 1.0)
    };
    // Results of the greatest sums leave the codes, but for long reductions.
    let products = (matrix.taps * matrix.kc).max(1) as f32;
    let sums = match variant.extreme {
        true => 16384.0 * if products > 300.0 { products } else { 1.0 },
        false => 128.0 * products,
    };
    // Every fourth channel a power of two: its results lie on ties. Now and then one whose results leave even 24 or 32 bits.
    let factor = |(i, v): (usize, f32)| match i % 32 {
        13 if seed % 3 == 1 => 3000.0,
        22 if seed % 3 == 1 => 3e6,
        _ if i % 4 == 0 => 1.0 / 512.0,
        _ => (v.abs() + 0.1) * 127.0 / sums,
    };
    let scale = (int8 && variant.output != DType::I32)
        .then(|| random.floats(vector, 1.0).into_iter().enumerate().map(factor).collect());
    let residual_len = extent(&params.residual, y_pixels, channels);
    ConvCase {
        name: alloc::format!(
            "{} {}x{}x{} {}x({}->{}) {}x{} /{:?} *{:?} {:?} sparsity {sparsity} {}",
            layout.name(),
            shape.batch,
            shape.input[0],
            shape.input[1],
            shape.groups,
            shape.kc,
            shape.oc,
            shape.kernel[0],
            shape.kernel[1],
            shape.stride,
            shape.dilation,
            shape.pads,
            variant.name()
        ),
        op,
        params,
        layout,
        output: variant.output,
        x,
        weights,
        bias,
        scale,
        residual: variant.residual.then(|| value(&mut random, variant.output, residual_len)),
        slopes: (variant.activation == Activation::PRelu).then(|| random.floats(vector, 0.5)),
        pad: if int8 { random.codes(1)[0] } else { 0.0 },
        index,
    }
}

fn params(op: Op, shape: &Shape, variant: &Variant, dtype: DType, random: &mut Random) -> ConvParams {
    let out = |axis: usize| {
        let padded = shape.input[axis] as i32 + shape.pads[axis] + shape.pads[axis + 2];
        let reach = (shape.kernel[axis] as i32 - 1) * shape.dilation[axis] as i32;
        // The last windows of a first layer whose taps are one run are cut off by a negative pad.
        ((padded - reach - 1) / shape.stride[axis] as i32 + 1) as u32
    };
    let (out_h, out_w) = (out(0), out(1));
    let channels = shape.groups * shape.oc;
    let read = if op == Op::Depthwise { channels } else { shape.groups * shape.kc };
    let mut x = strides(shape.input[0], shape.input[1], read, variant.view);
    if let Some(pixel) = shape.pixel {
        x = Strides { offset: 0, pixel, row: shape.input[1] * pixel, batch: shape.input[0] * shape.input[1] * pixel };
    }
    let to_codes = variant.output == DType::I8;
    let (lo, hi) = match (variant.activation, to_codes, variant.bounded) {
        (Activation::LeakyRelu, ..) => (0.1, 0.0),
        // As after a ReLU, every other time.
        (Activation::Clamp, true, true) if shape.oc.is_multiple_of(2) => (0.0, 255.0),
        (_, true, true) => (-90.5, 70.0),
        (_, true, false) => (-256.0, 256.0),
        (_, false, true) => (-0.5, 6.0),
        (_, false, false) => (f32::NEG_INFINITY, f32::INFINITY),
    };
    let code = |random: &mut Random| if dtype == DType::I8 { random.codes(1)[0] as i32 } else { 0 };
    ConvParams {
        batch: shape.batch,
        in_h: shape.input[0],
        in_w: shape.input[1],
        out_h,
        out_w,
        groups: shape.groups,
        oc: shape.oc,
        kc: shape.kc,
        kh: shape.kernel[0],
        kw: shape.kernel[1],
        stride_h: shape.stride[0],
        stride_w: shape.stride[1],
        dil_h: shape.dilation[0],
        dil_w: shape.dilation[1],
        pad_top: shape.pads[0],
        pad_left: shape.pads[1],
        x,
        y: strides(out_h, out_w, channels, variant.view),
        residual: strides(out_h, out_w, channels + 1, variant.view),
        activation: variant.activation.number(),
        lo,
        hi,
        y_zero: code(random),
        residual_zero: code(random),
        residual_scale: 0.75,
    }
}

/// An index that keeps each unit with probability `1 - sparsity`.
fn index(layout: Layout, shape: WeightShape, sparsity: f32, random: &mut Random) -> Vec<u8> {
    let (blocks, taps, units) = layout.index_shape(shape).expect("small shapes");
    let (mut starts, mut counts, mut positions) = (vec![0u32], Vec::new(), Vec::<u16>::new());
    for _ in 0..blocks {
        for _ in 0..taps {
            let before = positions.len();
            positions.extend((0..units as u16).filter(|_| (random.unit() + 1.0) / 2.0 >= sparsity));
            counts.push((positions.len() - before) as u16);
        }
        starts.push(positions.len() as u32);
    }
    let mut bytes = bytemuck::cast_slice(&starts).to_vec();
    bytes.extend_from_slice(bytemuck::cast_slice(&counts));
    bytes.extend_from_slice(bytemuck::cast_slice(&positions));
    bytes
}

/// Aligned words for [`Index::view`].
fn words(bytes: &[u8]) -> Vec<u32> {
    let mut words = vec![0u32; bytes.len().div_ceil(4)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    words
}

/// Sets to 0 what the index leaves out.
fn drop_weights(layout: Layout, shape: WeightShape, bytes: &[u8], weights: &mut [f32]) {
    let (blocks, taps, units) = layout.index_shape(shape).expect("small shapes");
    let words = words(bytes);
    let index = Index::view(bytemuck::cast_slice(&words), blocks, taps).expect("own index");
    let spec = layout.spec();
    let mut kept = vec![false; blocks * taps * units];
    let mut at = 0;
    for (run, &count) in index.counts.iter().enumerate() {
        for &unit in &index.positions[at..at + count as usize] {
            kept[run * units + unit as usize] = true;
        }
        at += count as usize;
    }
    let row = shape.taps * shape.kc;
    for (i, weight) in weights.iter_mut().enumerate() {
        let (channel, k) = (i / row, i % row);
        let block = channel / shape.oc * shape.oc.div_ceil(spec.block) + channel % shape.oc / spec.block;
        // A depthwise index has one tap, whose units are the taps.
        let (tap, unit) = if taps == 1 && units == shape.taps && shape.kc == 1 {
            (0, k)
        } else {
            (k / shape.kc, k % shape.kc / spec.step)
        };
        if !kept[(block * taps + tap) * units + unit] {
            *weight = 0.0;
        }
    }
}

impl ConvCase {
    /// The weights as the layout orders them.
    pub fn packed(&self) -> Vec<u8> {
        let shape = conv::weight_shape(self.op, &self.params);
        let words = self.index.as_deref().map(words);
        let (blocks, taps, _) = self.layout.index_shape(shape).expect("small shapes");
        let index =
            words.as_ref().map(|words| Index::view(bytemuck::cast_slice(words), blocks, taps).expect("own index"));
        let size = self.layout.size(shape, index.map_or(0, |index| index.positions.len())).expect("small shapes");
        let mut packed = vec![0u8; size];
        match self.layout.spec().dtype {
            DType::F32 => self.layout.pack_into::<[u8; 4]>(
                shape,
                &elements(DType::F32, &self.weights),
                index.as_ref(),
                bytemuck::cast_slice_mut(&mut packed),
            ),
            DType::F16 => self.layout.pack_into::<[u8; 2]>(
                shape,
                &elements(DType::F16, &self.weights),
                index.as_ref(),
                bytemuck::cast_slice_mut(&mut packed),
            ),
            _ => self.layout.pack_into::<[u8; 1]>(
                shape,
                &elements(DType::I8, &self.weights),
                index.as_ref(),
                bytemuck::cast_slice_mut(&mut packed),
            ),
        }
        packed
    }

    /// The call.
    pub fn to_case(&self) -> Case {
        let p = &self.params;
        let spec = self.layout.spec();
        let int8 = spec.dtype == DType::I8;
        let channels = p.groups * p.oc;
        let pad =
            if self.op == Op::Depthwise { p.oc.next_multiple_of(16) } else { p.kc.next_multiple_of(spec.step as u32) };
        let mut case = Case::new(self.name.clone(), self.op, p)
            .scale((p.kh * p.kw * p.kc) as f32 / 8.0)
            .values(conv_input::X, spec.dtype, &self.x)
            .packed(conv_input::WEIGHTS, spec.dtype, self.layout, &self.packed())
            .values(conv_input::BIAS, if int8 { DType::I32 } else { DType::F32 }, &self.bias)
            .values(conv_input::PAD, spec.dtype, &vec![self.pad; pad as usize])
            .output(0, self.output, extent(&p.y, [p.batch, p.out_h, p.out_w], channels));
        if let Some(scale) = &self.scale {
            case = case.values(conv_input::SCALE, DType::F32, scale);
        }
        if let Some(residual) = &self.residual {
            case = case.values(conv_input::RESIDUAL, self.output, residual);
        }
        if let Some(slopes) = &self.slopes {
            case = case.values(conv_input::SLOPES, DType::F32, slopes);
        }
        if let Some(index) = &self.index {
            case = case.input(conv_input::INDEX, DType::U8, index);
        }
        case
    }
}

/// Encoded values, as many bytes an element as `N`.
fn elements<const N: usize>(dtype: DType, values: &[f32]) -> Vec<[u8; N]> {
    encode(dtype, values).chunks_exact(N).map(|bytes| bytes.try_into().expect("exact chunks")).collect()
}
