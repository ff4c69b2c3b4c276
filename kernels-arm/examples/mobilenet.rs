//! MobileNet-v1 1.0/224's layers, kernel by kernel, without a runtime: what a cost model prices.
//!
//! `mobilenet TYPE KEEP BLOCK ROUNDS [MASK]`: TYPE f32, f16 or i8; KEEP the percentage of 1x1 units kept (100: dense);
//! BLOCK channels of a sparse block; ROUNDS of the network; MASK features not to use, comma separated, or with a + those
//! to use though `detect` does not name them (SVE at 128 bits). It prints the kernel each layer took and a sum of the last
//! output.

use sparrow_kernels::conv::weight_shape;
use sparrow_kernels::{
    Call, ConvParams, DType, Family, Features, Index, Input, Kernels, Layout, MAX_INPUTS, MAX_OUTPUTS, Op, Output,
    Strides, conv_input,
};

/// Bytes at a multiple of 64.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn new(len: usize) -> Self {
        let bytes = vec![0; len + 64];
        let start = bytes.as_ptr().align_offset(64);
        Self { bytes, start }
    }
    fn of(from: &[u8]) -> Self {
        let mut buffer = Self::new(from.len());
        buffer.all().copy_from_slice(from);
        buffer
    }
    fn all(&mut self) -> &mut [u8] {
        let end = self.bytes.len() - 64 + self.start;
        &mut self.bytes[self.start..end]
    }
    fn get(&self) -> &[u8] {
        &self.bytes[self.start..self.bytes.len() - 64 + self.start]
    }
}

/// A layer, ready to run.
struct Layer {
    op: Op,
    params: ConvParams,
    layout: Layout,
    weights: Buffer,
    index: Option<Buffer>,
    bias: Buffer,
    scale: Buffer,
    pad: Buffer,
}

/// A shape: picture sides, channels in and out, kernel and stride.
struct Shape {
    op: Op,
    side: u32,
    ic: u32,
    oc: u32,
    kernel: (u32, u32),
    stride: u32,
}

fn strides(side: u32, channels: u32) -> Strides {
    Strides { offset: 0, pixel: channels, row: side * channels, batch: side * side * channels }
}

/// Every unit whose turn it is when `keep` of 100 are kept, evenly spread.
fn index(layout: Layout, shape: sparrow_kernels::WeightShape, keep: usize) -> Vec<u8> {
    let (blocks, taps, units) = layout.index_shape(shape).unwrap();
    let (mut starts, mut counts, mut positions) = (vec![0u32], vec![], vec![]);
    for block in 0..blocks {
        for _ in 0..taps {
            let before = positions.len();
            positions.extend((0..units as u16).filter(|&u| (usize::from(u) * 37 + block * 11) % 100 < keep));
            counts.push((positions.len() - before) as u16);
        }
        starts.push(positions.len() as u32);
    }
    let mut bytes: Vec<u8> = starts.iter().flat_map(|v| v.to_le_bytes()).collect();
    bytes.extend(counts.iter().chain(&positions).flat_map(|v| v.to_le_bytes()));
    bytes
}

fn fill(dtype: DType, bytes: &mut [u8]) {
    let mut state = 12345u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    match dtype {
        DType::F32 => {
            bytes.chunks_exact_mut(4).for_each(|b| b.copy_from_slice(&(next() as f32 / 2048.0 - 0.0625).to_le_bytes()))
        }
        // 2^-5 to 2^-4, either sign.
        DType::F16 => bytes
            .chunks_exact_mut(2)
            .for_each(|b| b.copy_from_slice(&(((next() as u16 & 1) << 15) | 0x2800 | (next() as u16)).to_le_bytes())),
        _ => bytes.iter_mut().for_each(|b| *b = next() as u8),
    }
}

impl Layer {
    fn new(shape: &Shape, dtype: DType, keep: usize, block: usize) -> Self {
        let Shape { op, side, ic, oc, kernel: (kh, kw), stride } = *shape;
        let depthwise = op == Op::Depthwise;
        let out = side / stride;
        // The first layer's picture is padded beforehand, and its three columns are one run.
        let first = ic == 3;
        let params = ConvParams {
            batch: 1,
            in_h: if first { side + 1 } else { side },
            in_w: if first { side + 1 } else { side },
            out_h: out,
            out_w: out,
            groups: 1,
            oc,
            kc: if depthwise {
                1
            } else if first {
                9
            } else {
                ic
            },
            kh,
            kw: if first { 1 } else { kw },
            stride_h: stride,
            stride_w: stride,
            dil_h: 1,
            dil_w: 1,
            pad_top: i32::from(depthwise && stride == 1),
            pad_left: i32::from(depthwise && stride == 1),
            x: if first { strides(side + 2, 3) } else { strides(side, ic) },
            y: strides(out, oc),
            // ReLU6; int8 as it is quantized: 6 is code 255 above the zero point.
            lo: 0.0,
            hi: if dtype == DType::I8 { 255.0 } else { 6.0 },
            y_zero: if dtype == DType::I8 { -128 } else { 0 },
            ..ConvParams::default()
        };
        let weight_shape = weight_shape(op, &params);
        let sparse = keep < 100 && !depthwise && !first;
        let family = match (depthwise, sparse) {
            (true, _) => Family::Depthwise,
            (_, true) => Family::Sparse,
            _ => Family::Dense,
        };
        let layout = Layout::find(family, dtype, if sparse { block } else { 16 }).unwrap();
        let index = sparse.then(|| Buffer::of(&index(layout, weight_shape, keep)));
        let kept = index.as_ref().map_or(0, |bytes| {
            let (blocks, taps, _) = layout.index_shape(weight_shape).unwrap();
            Index::view(bytes.get(), blocks, taps).unwrap().positions.len()
        });
        let mut weights = Buffer::new(layout.size(weight_shape, kept).unwrap());
        fill(dtype, weights.all());
        let channels = oc.next_multiple_of(16) as usize;
        let mut scale = Buffer::new(channels * 4);
        scale
            .all()
            .chunks_exact_mut(4)
            .for_each(|b| b.copy_from_slice(&(0.0135 / ((params.kc * kh * kw) as f32).sqrt()).to_le_bytes()));
        let pad = Buffer::new(16.max(params.kc as usize + 4).max(channels) * dtype.size());
        Self { op, params, layout, weights, index, bias: Buffer::new(channels * 4), scale, pad }
    }

    fn call<'a>(&'a self, dtype: DType, x: &'a [u8], y: &'a mut [u8], check: bool) -> Call<'a> {
        let plain = |dtype, bytes| Some(Input { dtype, layout: Layout::Plain, bytes });
        let mut inputs = [None; MAX_INPUTS];
        inputs[conv_input::X] = plain(dtype, x);
        inputs[conv_input::WEIGHTS] = Some(Input { dtype, layout: self.layout, bytes: self.weights.get() });
        let int8 = dtype == DType::I8;
        inputs[conv_input::BIAS] = plain(if int8 { DType::I32 } else { DType::F32 }, self.bias.get());
        inputs[conv_input::SCALE] = if int8 { plain(DType::F32, self.scale.get()) } else { None };
        inputs[conv_input::INDEX] = self.index.as_ref().and_then(|index| plain(DType::I32, index.get()));
        inputs[conv_input::PAD] = plain(dtype, self.pad.get());
        let mut outputs = [None; MAX_OUTPUTS];
        outputs[0] = Some(Output::new(dtype, y));
        let params = bytemuck::bytes_of(&self.params);
        if check {
            return Call::checked(self.op, params, inputs, outputs).expect("a valid call");
        }
        // SAFETY: the same call has been checked.
        unsafe { Call::new(self.op, params, inputs, outputs) }
    }
}

fn network() -> Vec<Shape> {
    let mut shapes = vec![Shape { op: Op::Conv, side: 224, ic: 3, oc: 32, kernel: (3, 3), stride: 2 }];
    let mut side = 112;
    for (ic, oc, stride) in [(32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
        .into_iter()
        .chain([(512, 512, 1); 5])
        .chain([(512, 1024, 2), (1024, 1024, 1)])
    {
        shapes.push(Shape { op: Op::Depthwise, side, ic, oc: ic, kernel: (3, 3), stride });
        side /= stride;
        shapes.push(Shape { op: Op::Conv, side, ic, oc, kernel: (1, 1), stride: 1 });
    }
    shapes.push(Shape { op: Op::Conv, side: 1, ic: 1024, oc: 1000, kernel: (1, 1), stride: 1 });
    shapes
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dtype, keep, block, rounds] = [0, 1, 2, 3].map(|i| args.get(i).map_or("", String::as_str));
    let dtype = match dtype {
        "f16" => DType::F16,
        "i8" => DType::I8,
        _ => DType::F32,
    };
    let number = |text: &str, default: usize| text.parse().unwrap_or(default);
    let (keep, block, rounds) = (number(keep, 100), number(block, 16), number(rounds, 1));
    let features =
        args.get(4).map_or("", String::as_str).split(',').fold(sparrow_kernels_arm::detect(), |all, name| {
            let feature = |name| Features::by_name(name).unwrap_or(Features::NONE);
            name.strip_prefix('+').map_or_else(|| all.without(feature(name)), |name| all.union(feature(name)))
        });
    let kernels = Kernels::new(&[sparrow_kernels_arm::CATALOGUE], features);
    let layers: Vec<Layer> = network().iter().map(|shape| Layer::new(shape, dtype, keep, block)).collect();
    let mut pictures = [Buffer::new(4 << 20), Buffer::new(4 << 20)];
    fill(dtype, pictures[0].all());
    let mut chosen = Vec::new();
    for round in 0..rounds {
        for (i, layer) in layers.iter().enumerate() {
            let [a, b] = &mut pictures;
            let (x, y) = if i % 2 == 0 { (a, b) } else { (b, a) };
            // Checked once, as a session does when it loads a model.
            let call = layer.call(dtype, x.get(), y.all(), round == 0);
            if round == 0 {
                chosen.push(kernels.select(&call).expect("a kernel"));
                println!("{i:2} {} x {} {}", layer.params.kc, layer.params.oc, chosen[i].name);
            }
            let kernel = chosen[i];
            // SAFETY: `select` chose a kernel this CPU runs and that accepts the call; the units are all of them, once.
            unsafe { (kernel.run)(&call, 0..(kernel.units)(&call)) };
        }
    }
    println!("{}", pictures[layers.len() % 2].get()[..1000 * dtype.size()].iter().map(|&b| u64::from(b)).sum::<u64>());
}
