//! The network: layers with their operands, each a kernel call.

use bytemuck::{Pod, Zeroable, bytes_of, cast_slice, cast_slice_mut};
use sparrow_kernels::{
    BinaryFn, BinaryParams, Call, ChannelParams, ConvParams, DType, Index, Input, Kernels, Layout, LutParams,
    MAX_INPUTS, MAX_OUTPUTS, MapFn, MapParams, Op, Output, PoolFn, PoolParams, QBinaryParams, ReduceFn, ReduceParams,
    RequantizeParams, SoftmaxParams, Strides, WeightShape, conv_input,
};
use std::ops::Range;

/// A cache line, so that operands are aligned as the runtime's are.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Aligned bytes.
struct Bytes(Vec<Line>);

impl Bytes {
    fn new(len: usize) -> Self {
        Self(vec![Line::zeroed(); len.div_ceil(64) + 1])
    }

    fn of<T: Pod>(elements: &[T]) -> Self {
        let bytes: &[u8] = cast_slice(elements);
        let mut new = Self::new(bytes.len());
        new.get_mut()[..bytes.len()].copy_from_slice(bytes);
        new
    }

    fn get(&self) -> &[u8] {
        cast_slice(&self.0)
    }

    fn get_mut(&mut self) -> &mut [u8] {
        cast_slice_mut(&mut self.0)
    }
}

/// Numbers of a 64-bit linear congruential generator.
struct Random(u64);

impl Random {
    /// Uniform in `0..n`.
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (((self.0 >> 32) * u64::from(n)) >> 32) as u32
    }

    /// Uniform in -1..1.
    fn unit(&mut self) -> f32 {
        self.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// One call: its parameters and constants. Input 0, if it is not among them, is the layer's before.
struct Layer {
    name: String,
    op: Op,
    params: Vec<u32>,
    layout: Layout,
    constants: Vec<(usize, DType, Layout, Bytes)>,
    /// Type and bytes of the output.
    output: (DType, usize),
    work: usize,
}

/// The layers, the activations between them, and the kernels that run them.
pub struct Net {
    layers: Vec<Layer>,
    activations: Vec<Bytes>,
    dtype: DType,
    kernels: Kernels,
}

/// What a network is made with.
struct Builder {
    random: Random,
    dtype: DType,
    sparsity: u32,
    block: usize,
    layers: Vec<Layer>,
}

/// Rows by columns by channels of a dense picture.
type Shape = (usize, usize, usize);

fn strides((h, w, c): Shape) -> Strides {
    Strides { offset: 0, pixel: c as u32, row: (w * c) as u32, batch: (h * w * c) as u32 }
}

impl Builder {
    fn convolution(&self, x: Shape, y: Shape, stride: usize) -> ConvParams {
        ConvParams {
            batch: 1,
            in_h: x.0 as u32,
            in_w: x.1 as u32,
            out_h: y.0 as u32,
            out_w: y.1 as u32,
            groups: 1,
            oc: y.2 as u32,
            kc: x.2 as u32,
            kh: 1,
            kw: 1,
            stride_h: stride as u32,
            stride_w: stride as u32,
            dil_h: 1,
            dil_w: 1,
            x: strides(x),
            y: strides(y),
            residual: strides(y),
            // ReLU6; as int8 with a zero point of -128 every code from there up.
            lo: 0.0,
            hi: if self.dtype == DType::I8 { 255.0 } else { 6.0 },
            y_zero: -128,
            ..Default::default()
        }
    }

    /// Adds a layer with random weights of `fan_in` products a sum.
    fn add(&mut self, name: String, op: Op, params: ConvParams, sparse: bool, fan_in: usize) {
        let integer = self.dtype == DType::I8;
        let shape = sparrow_kernels::conv::weight_shape(op, &params);
        let family = match (op, sparse) {
            (Op::Depthwise, _) => sparrow_kernels::Family::Depthwise,
            (_, true) => sparrow_kernels::Family::Sparse,
            _ => sparrow_kernels::Family::Dense,
        };
        let layout = Layout::find(family, self.dtype, if sparse { self.block } else { 16 }).expect("a layout");
        let count = shape.groups * shape.oc * shape.taps * shape.kc;
        let size = (2.0 / (fan_in as f32 * (100 - if sparse { self.sparsity } else { 0 }) as f32 / 100.0)).sqrt() * 1.7;
        let values: Vec<f32> = (0..count).map(|_| self.random.unit()).collect();
        let index = sparse.then(|| self.index(layout, shape));
        let view = index.as_ref().map(|index| index.view(layout, shape));
        let kept = view.map_or(0, |view| view.positions.len());
        let mut packed = Bytes::new(layout.size(shape, kept).expect("fits"));
        let len = layout.size(shape, kept).expect("fits");
        if integer {
            let codes: Vec<i8> = values.iter().map(|v| (v * 127.0).round() as i8).collect();
            layout.pack_into(shape, &codes, view.as_ref(), cast_slice_mut(&mut packed.get_mut()[..len]));
        } else {
            let weights: Vec<f32> = values.iter().map(|v| v * size).collect();
            layout.pack_into(shape, &weights, view.as_ref(), cast_slice_mut(&mut packed.get_mut()[..len]));
        }
        let padded = shape.oc.next_multiple_of(16);
        let per_step = size / 127.0;
        let mut constants = vec![(conv_input::WEIGHTS, self.dtype, layout, packed)];
        if integer {
            let sums = self.row_sums(layout, shape, &constants[0].3, view.as_ref());
            let bias: Vec<i32> = (0..padded).map(|c| sums.get(c).map_or(0, |sum| 128 * sum + 600)).collect();
            constants.push((conv_input::BIAS, DType::I32, Layout::Plain, Bytes::of(&bias)));
            constants.push((conv_input::SCALE, DType::F32, Layout::Plain, Bytes::of(&vec![per_step; padded])));
            constants.push((conv_input::PAD, DType::I8, Layout::Plain, Bytes::of(&vec![-128i8; padded.max(1024)])));
        } else {
            let bias: Vec<f32> = (0..padded).map(|_| self.random.unit() * 0.2 + 0.1).collect();
            constants.push((conv_input::BIAS, DType::F32, Layout::Plain, Bytes::of(&bias)));
            constants.push((conv_input::PAD, DType::F32, Layout::Plain, Bytes::of(&vec![0f32; padded.max(1024)])));
        }
        if let Some(index) = index {
            constants.push((conv_input::INDEX, DType::U8, Layout::Plain, index.0));
        }
        let pixels = params.out_h as usize * params.out_w as usize;
        let output = (self.dtype, params.y.batch as usize * self.dtype.size());
        self.layers.push(Layer {
            name,
            op,
            params: cast_slice(bytes_of(&params)).to_vec(),
            layout,
            constants,
            output,
            work: pixels * count,
        });
    }

    /// Sums of each channel's kept weights: what a zero point of -128 adds.
    fn row_sums(&self, layout: Layout, shape: WeightShape, packed: &Bytes, index: Option<&Index>) -> Vec<i32> {
        let (spec, mut sums) = (layout.spec(), vec![0i32; shape.oc.next_multiple_of(16)]);
        let (blocks, taps, units) = layout.index_shape(shape).expect("fits");
        let mut at = packed.get().iter().map(|&byte| i32::from(byte as i8));
        for block in 0..blocks {
            let count = index.map_or(taps * units, |i| (i.starts[block + 1] - i.starts[block]) as usize);
            for _ in 0..count {
                for n in 0..spec.block * spec.step {
                    sums[block * spec.block + n / spec.step] += at.next().expect("packed weights");
                }
            }
        }
        sums
    }

    /// A random choice of kept units.
    fn index(&mut self, layout: Layout, shape: WeightShape) -> OwnIndex {
        let (blocks, taps, units) = layout.index_shape(shape).expect("fits");
        let keep = (units * (100 - self.sparsity as usize)).div_ceil(100).max(1);
        let (mut starts, mut counts, mut positions) = (vec![0u32], Vec::new(), Vec::new());
        for _ in 0..blocks {
            for _ in 0..taps {
                let mut pool: Vec<u16> = (0..units as u16).collect();
                for n in 0..keep {
                    pool.swap(n, n + self.random.below((units - n) as u32) as usize);
                }
                pool.truncate(keep);
                pool.sort_unstable();
                positions.extend(pool);
                counts.push(keep as u16);
            }
            starts.push(positions.len() as u32);
        }
        let mut bytes: Vec<u8> = cast_slice(&starts).to_vec();
        bytes.extend(cast_slice::<u16, u8>(&counts));
        bytes.extend(cast_slice::<u16, u8>(&positions));
        OwnIndex(Bytes::of(&bytes))
    }

    fn mean(&mut self, (h, w, c): Shape) {
        let integer = self.dtype == DType::I8;
        let params = ReduceParams {
            function: ReduceFn::Mean.number(),
            dims: [(h * w) as u32, c as u32, 1, 1, 1, 1, 1, 1],
            mask: 1,
            x_zero: if integer { -128 } else { 0 },
            y_zero: if integer { -128 } else { 0 },
            scale: 1.0 / (h * w) as f32,
        };
        let params = cast_slice(bytes_of(&params)).to_vec();
        let (name, output) = (format!("mean {h}x{w}x{c}"), (self.dtype, c * self.dtype.size()));
        self.layers.push(Layer {
            name,
            op: Op::Reduce,
            params,
            layout: Layout::Plain,
            constants: vec![],
            output,
            work: h * w * c,
        });
    }

    /// Adds an operator on plain inputs of these types, with random elements in place of empty ones.
    fn operator<P: Pod>(
        &mut self,
        name: String,
        (op, params): (Op, P),
        inputs: &[(DType, &[u8])],
        output: (DType, usize),
    ) {
        let mut constants = Vec::new();
        for (i, &(dtype, bytes)) in inputs.iter().enumerate() {
            let random: Vec<u8> = match dtype {
                DType::F32 => (0..COUNT).flat_map(|_| (4.0 * self.random.unit()).to_ne_bytes()).collect(),
                _ => (0..COUNT).map(|_| self.random.below(256) as u8).collect(),
            };
            constants.push((i, dtype, Layout::Plain, Bytes::of(if bytes.is_empty() { &random } else { bytes })));
        }
        let (params, output) = (cast_slice(bytes_of(&params)).to_vec(), (output.0, output.1 * output.0.size()));
        self.layers.push(Layer { name, op, params, layout: Layout::Plain, constants, output, work: COUNT });
    }

    fn operators(&mut self) {
        use DType::{F32, I8};
        let n = COUNT as u32;
        for &function in MapFn::ALL.iter().filter(|&&function| function != MapFn::Not) {
            let params = MapParams { function: function.number(), count: n, p: 0.5, q: 1.5 };
            self.operator(format!("map {}", function.name()), (Op::Map, params), &[(F32, &[])], (F32, COUNT));
        }
        let dims = |shape: &[u32]| core::array::from_fn(|axis| shape.get(axis).copied().unwrap_or(1));
        let whole = [1, 0, 0, 0, 0, 0, 0, 0];
        for function in [BinaryFn::Add, BinaryFn::Mul] {
            let params =
                BinaryParams { function: function.number(), dims: dims(&[n]), a: whole, b: whole, lo: -9.0, hi: 9.0 };
            self.operator(
                format!("binary {}", function.name()),
                (Op::Binary, params),
                &[(F32, &[]), (F32, &[])],
                (F32, COUNT),
            );
            let params = QBinaryParams {
                function: function.number(),
                dims: dims(&[n]),
                a: whole,
                b: whole,
                a_zero: 3,
                b_zero: -5,
                y_zero: 1,
                a_scale: 0.4,
                b_scale: 0.3,
                lo: -129.0,
                hi: 126.0,
            };
            self.operator(
                format!("qbinary {}", function.name()),
                (Op::QBinary, params),
                &[(I8, &[]), (I8, &[])],
                (I8, COUNT),
            );
        }
        let row = [64, 1, 0, 0, 0, 0, 0, 0];
        let column = [0, 1, 0, 0, 0, 0, 0, 0];
        let params = BinaryParams {
            function: BinaryFn::Mul.number(),
            dims: dims(&[n / 64, 64]),
            a: row,
            b: column,
            lo: -9.0,
            hi: 9.0,
        };
        self.operator("binary mul by channel".into(), (Op::Binary, params), &[(F32, &[]), (F32, &[])], (F32, COUNT));
        let one = 0.02f32.to_ne_bytes();
        let params = ChannelParams { outer: 1, channels: 1, inner: n };
        self.operator("quantize".into(), (Op::Quantize, params), &[(F32, &[]), (F32, &one), (I8, &[0])], (I8, COUNT));
        self.operator(
            "dequantize".into(),
            (Op::Dequantize, params),
            &[(I8, &[]), (F32, &one), (I8, &[0])],
            (F32, COUNT),
        );
        let params = RequantizeParams { outer: 1, channels: 1, inner: n, x_zero: 3, y_zero: 4, lo: -100.0, hi: 99.0 };
        self.operator("requantize".into(), (Op::Requantize, params), &[(I8, &[]), (F32, &one)], (I8, COUNT));
        self.operator("lut".into(), (Op::Lut, LutParams { count: n }), &[(I8, &[]), (I8, &[7; 256])], (I8, COUNT));
        for dtype in [F32, I8] {
            let params = ReduceParams {
                function: ReduceFn::Mean.number(),
                dims: dims(&[64, 1024]),
                mask: 1,
                scale: 1.0 / 64.0,
                x_zero: 0,
                y_zero: 0,
            };
            self.operator(
                format!("mean 64x1024 {}", dtype.name()),
                (Op::Reduce, params),
                &[(dtype, &[])],
                (dtype, 1024),
            );
            for function in PoolFn::ALL {
                let params = PoolParams {
                    function: function.number(),
                    batch: 1,
                    channels: 64,
                    input: [1, 32, 32],
                    output: [1, 16, 16],
                    kernel: [1, 3, 3],
                    stride: [1, 2, 2],
                    dilation: [1; 3],
                    before: [0; 3],
                    after: [0, 1, 1],
                    scale: 1.0,
                    ..Zeroable::zeroed()
                };
                self.operator(
                    format!("pool 3x3 s2 {} {}", function.name(), dtype.name()),
                    (Op::Pool, params),
                    &[(dtype, &[])],
                    (dtype, COUNT / 4),
                );
            }
        }
        let params = SoftmaxParams { outer: 64, len: 1024, inner: 1, log: 0 };
        self.operator("softmax 64x1024".into(), (Op::Softmax, params), &[(F32, &[])], (F32, COUNT));
    }

    fn build(&mut self) {
        // The picture is padded right and below, as the importer does it, and taps of a row are one run.
        let picture = (225, 225, 3);
        let mut first = self.convolution(picture, (112, 112, 32), 2);
        (first.kh, first.kc) = (3, 9);
        self.add("first 3x3 s2 224x224x3 -> 32".into(), Op::Conv, first, false, 27);
        let (mut size, mut channels) = (112, 32);
        for (stride, out) in STAGES {
            let half = size / stride;
            let (x, y) = ((size, size, channels), (half, half, channels));
            let mut dw = self.convolution(x, y, stride);
            (dw.kh, dw.kw, dw.kc) = (3, 3, 1);
            (dw.pad_top, dw.pad_left) = if stride == 1 { (1, 1) } else { (0, 0) };
            self.add(format!("dw 3x3 s{stride} {size}x{size}x{channels}"), Op::Depthwise, dw, false, 9);
            size = half;
            let pw = self.convolution((size, size, channels), (size, size, out), 1);
            self.add(format!("1x1 {size}x{size}x{channels} -> {out}"), Op::Conv, pw, self.sparsity > 0, channels);
            channels = out;
        }
        self.mean((size, size, channels));
        let fc = ConvParams { lo: -256.0, hi: 256.0, y_zero: 0, ..self.convolution((1, 1, 1024), (1, 1, 1000), 1) };
        self.add("fc 1024 -> 1000".into(), Op::Conv, fc, self.sparsity > 0, 1024);
    }
}

/// Stride and output channels of MobileNet-v1's 13 pairs of depthwise and 1x1 layers.
const STAGES: [(usize, usize); 13] = [
    (1, 64),
    (2, 128),
    (1, 128),
    (2, 256),
    (1, 256),
    (2, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (2, 1024),
    (1, 1024),
];

/// Elements of an operator by itself.
const COUNT: usize = 1 << 16;

/// The bytes of an index.
struct OwnIndex(Bytes);

impl OwnIndex {
    fn view(&self, layout: Layout, shape: WeightShape) -> Index<'_> {
        let (blocks, taps, _) = layout.index_shape(shape).expect("fits");
        Index::view(self.0.get(), blocks, taps).expect("own index")
    }
}

impl Net {
    /// The network; see `build` of the crate.
    pub fn mobilenet(integer: bool, sparsity: u32, block: usize, kernels: Kernels) -> Self {
        let dtype = if integer { DType::I8 } else { DType::F32 };
        let mut builder = Builder { random: Random(7), dtype, sparsity, block, layers: Vec::new() };
        builder.build();
        let mut picture = Bytes::new((225 * 225 * 3 + 64) * dtype.size());
        for y in 0..224 {
            for x in 0..224 * 3 {
                let at = y * 675 + x;
                if integer {
                    picture.get_mut()[at] = builder.random.below(256) as u8;
                } else {
                    cast_slice_mut::<u8, f32>(picture.get_mut())[at] = builder.random.unit();
                }
            }
        }
        let mut activations = vec![picture];
        activations.extend(builder.layers.iter().map(|layer| Bytes::new(layer.output.1)));
        Self { layers: builder.layers, activations, dtype, kernels }
    }

    /// Operators by themselves, each on 2^16 elements of its own.
    pub fn operators(kernels: Kernels) -> Self {
        let mut builder = Builder { random: Random(7), dtype: DType::F32, sparsity: 0, block: 16, layers: Vec::new() };
        builder.operators();
        let activations =
            core::iter::once(Bytes::new(0)).chain(builder.layers.iter().map(|layer| Bytes::new(layer.output.1)));
        Self { activations: activations.collect(), layers: builder.layers, dtype: DType::F32, kernels }
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// The call of layer `i`. The network is borrowed but for the output, which `&self` leaves to the kernel alone.
    fn with_call<R>(&self, i: usize, body: impl FnOnce(&Call) -> R) -> R {
        let layer = &self.layers[i];
        let mut inputs = [None; MAX_INPUTS];
        inputs[0] = Some(Input { dtype: self.dtype, layout: Layout::Plain, bytes: self.activations[i].get() });
        for (at, dtype, layout, bytes) in &layer.constants {
            let bytes = if layer.layout.is_sparse() && *at == conv_input::INDEX {
                index_bytes(layer, bytes)
            } else {
                bytes.get()
            };
            inputs[*at] = Some(Input { dtype: *dtype, layout: *layout, bytes });
        }
        let target = self.activations[i + 1].get();
        // SAFETY: the module has one thread, and nothing reads an activation while the kernel that makes it runs.
        let target = unsafe { std::slice::from_raw_parts_mut(target.as_ptr().cast_mut(), target.len()) };
        let mut outputs = [None; MAX_OUTPUTS];
        outputs[0] = Some(Output::new(layer.output.0, target));
        let call = Call::checked(layer.op, cast_slice(&layer.params), inputs, outputs);
        body(&call.unwrap_or_else(|refusal| panic!("{}: {refusal:?}", layer.name)))
    }

    /// Runs these layers.
    pub fn run(&self, layers: Range<usize>) {
        self.run_with(&self.kernels, layers);
    }

    fn run_with(&self, kernels: &Kernels, layers: Range<usize>) {
        for i in layers {
            self.with_call(i, |call| {
                let kernel = kernels.select(call).expect("every call has a kernel");
                let units = (kernel.units)(call);
                // SAFETY: the kernel accepted the checked call, the engine has its features, these are all its units.
                unsafe { (kernel.run)(call, 0..units) };
            });
        }
    }

    /// Greatest difference between the last output of these kernels and of the scalar ones, over the greatest magnitude.
    pub fn verify(&mut self) -> f32 {
        self.run(0..self.layers());
        let ours = self.last();
        self.run_with(&Kernels::scalar(), 0..self.layers());
        let want = self.last();
        let greatest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
        ours.iter().zip(&want).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / greatest
    }

    fn last(&self) -> Vec<f32> {
        let bytes = &self.activations[self.layers()].get()[..1000 * self.dtype.size()];
        match self.dtype {
            DType::I8 => bytes.iter().map(|&b| f32::from(b as i8)).collect(),
            _ => cast_slice(bytes).to_vec(),
        }
    }

    /// Name, kernel and multiply-adds of a dense layer like it, tab-separated.
    pub fn describe(&self, i: usize) -> String {
        let kernel = self.with_call(i, |call| self.kernels.select(call).expect("every call has a kernel").name);
        format!("{}\t{kernel}\t{}", self.layers[i].name, self.layers[i].work)
    }
}

/// The index without the padding of its last line: the check wants its exact length.
fn index_bytes<'a>(layer: &Layer, bytes: &'a Bytes) -> &'a [u8] {
    let shape = sparrow_kernels::conv::weight_shape(layer.op, bytemuck::from_bytes(cast_slice(&layer.params)));
    let (blocks, taps, _) = layer.layout.index_shape(shape).expect("fits");
    let index = Index::view(bytes.get(), blocks, taps).expect("own index");
    &bytes.get()[..(blocks + 1) * 4 + (blocks * taps + index.positions.len()) * 2]
}
