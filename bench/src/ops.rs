//! Calls of the operators other than convolutions, at the sizes networks have them.

use sparrow_kernels::{
    BinaryFn, BinaryParams, ChannelParams, CopyParams, DType, LutParams, MAX_RANK, MapFn, MapParams, NormAffine,
    NormParams, Op, PoolFn, PoolParams, QBinaryParams, ReduceFn, ReduceParams, RequantizeParams, ResampleParams,
    SoftmaxParams,
};
use sparrow_testkit::{Case, Random};

use DType::{F16, F32, I8, I32, U8};

/// Elements of a picture of 56 x 56 pixels with 64 channels.
const PICTURE: u32 = 56 * 56 * 64;

/// The calls, each named for what it is about.
pub fn calls() -> Vec<Case> {
    let families = [maps, binaries, conversions, pools, reductions, resamples, normalizations, copies];
    families.into_iter().flat_map(|family| family()).collect()
}

/// A call with `count` results in its output.
fn call<P: bytemuck::Pod>(name: String, op: Op, params: &P, y: DType, count: u32) -> Case {
    Case::new(name, op, params).output(0, y, count as usize)
}

/// Random elements.
trait Filled {
    fn random(self, i: usize, dtype: DType, count: u32) -> Self;
}

impl Filled for Case {
    fn random(self, i: usize, dtype: DType, count: u32) -> Self {
        let (mut random, count) = (Random::new(i as u64 + 3), count as usize);
        let values = match dtype {
            F32 | F16 => random.floats(count, 4.0),
            U8 => random.codes(count).into_iter().map(|code| code + 128.0).collect(),
            _ => random.codes(count),
        };
        self.values(i, dtype, &values)
    }
}

/// Dimensions or strides, the unused leading ones 1 or 0.
fn shape(first: u32, last: &[u32]) -> [u32; MAX_RANK] {
    let mut all = [first; MAX_RANK];
    all[MAX_RANK - last.len()..].copy_from_slice(last);
    all
}

fn maps() -> Vec<Case> {
    let functions = [
        (F32, MapFn::Clamp),
        (F32, MapFn::HardSwish),
        (F32, MapFn::Exp),
        (F32, MapFn::Sigmoid),
        (F32, MapFn::Silu),
        (F32, MapFn::Tanh),
        (F32, MapFn::Gelu),
        (F32, MapFn::Softplus),
        (F32, MapFn::Erf),
        (F32, MapFn::Log),
        (F32, MapFn::Sqrt),
        (F32, MapFn::Floor),
        (F16, MapFn::HardSwish),
        (F16, MapFn::Silu),
    ];
    let mut all: Vec<_> = functions
        .into_iter()
        .map(|(dtype, function)| {
            let params = MapParams { function: function.number(), count: PICTURE, p: 1.0, q: 6.0 };
            call(format!("{}_56x56x64", function.name()), Op::Map, &params, dtype, PICTURE).random(0, dtype, PICTURE)
        })
        .collect();
    let table = call("56x56x64".into(), Op::Lut, &LutParams { count: PICTURE }, I8, PICTURE);
    all.push(table.random(0, I8, PICTURE).random(1, I8, 256));
    all
}

fn binaries() -> Vec<Case> {
    use BinaryFn::{Add, Max, Mul};
    let (full, dense) = (shape(1, &[56, 56, 64]), shape(0, &[56 * 64, 64, 1]));
    let (three, channel) = (shape(1, &[56, 1176, 3]), shape(0, &[0, 0, 1]));
    let operands = [
        ("equal_56x56x64", full, dense, dense, PICTURE, &[Add, Mul, Max][..]),
        ("channel_56x56x64", full, dense, channel, 64, &[Add, Mul]),
        ("scalar_56x56x64", full, dense, shape(0, &[0, 0, 0]), 1, &[Add, Mul]),
        ("channel_56x1176x3", three, shape(0, &[1176 * 3, 3, 1]), channel, 3, &[Add]),
        ("turned_56x56x64", full, dense, shape(0, &[1, 56, 56 * 56]), PICTURE, &[Add]),
    ];
    let mut all = Vec::new();
    for (name, dims, a, b, count, functions) in operands {
        let results: u32 = dims.iter().product();
        for &function in functions {
            let name = format!("{}_{name}", function.name());
            let (lo, hi) = (f32::NEG_INFINITY, f32::INFINITY);
            let params = BinaryParams { function: function.number(), dims, a, b, lo, hi };
            for dtype in [F32, F16] {
                let case = call(name.clone(), Op::Binary, &params, dtype, results);
                all.push(case.random(0, dtype, results).random(1, dtype, count));
            }
            if function == Max {
                continue;
            }
            let params = QBinaryParams {
                function: function.number(),
                dims,
                a,
                b,
                a_zero: 3,
                b_zero: -4,
                y_zero: 5,
                a_scale: 0.37,
                b_scale: 0.25,
                lo: -256.0,
                hi: 256.0,
            };
            let case = call(name, Op::QBinary, &params, I8, results);
            all.push(case.random(0, I8, results).random(1, I8, count));
        }
    }
    all
}

fn conversions() -> Vec<Case> {
    let params = ChannelParams { outer: 1, channels: 1, inner: PICTURE };
    let with = |op, from: DType, to: DType| {
        let case = call(format!("{}_to_{}_56x56x64", from.name(), to.name()), op, &params, to, PICTURE);
        case.random(0, from, PICTURE).values(1, F32, &[0.03f32])
    };
    let requantized = |from: DType| {
        let p = RequantizeParams { outer: 1, channels: 1, inner: PICTURE, x_zero: 3, y_zero: 4, lo: -256.0, hi: 256.0 };
        let case = call(format!("{}_to_i8_56x56x64", from.name()), Op::Requantize, &p, I8, PICTURE);
        case.random(0, from, PICTURE).values(1, F32, &[0.7f32])
    };
    vec![
        with(Op::Quantize, F32, I8),
        with(Op::Quantize, F32, U8),
        with(Op::Dequantize, I8, F32),
        with(Op::Dequantize, U8, F32),
        requantized(I8),
        requantized(I32),
    ]
}

fn pools() -> Vec<Case> {
    let mut all = Vec::new();
    let windows = [
        ("max3x3_s2_112x112x64", PoolFn::Max, 112, 64, 3, 2, 1),
        ("average2x2_56x56x64", PoolFn::Average, 56, 64, 2, 2, 0),
        ("average7x7_7x7x1024", PoolFn::Average, 7, 1024, 7, 7, 0),
    ];
    for (name, function, size, channels, kernel, stride, pad) in windows {
        let out = (size + 2 * pad - kernel) / stride + 1;
        let params = PoolParams {
            function: function.number(),
            batch: 1,
            channels,
            input: [1, size, size],
            output: [1, out, out],
            kernel: [1, kernel, kernel],
            stride: [1, stride, stride],
            dilation: [1; 3],
            before: [0, pad, pad],
            after: [0, pad, pad],
            x_zero: 3,
            y_zero: -4,
            scale: 0.8,
            positions: 0,
        };
        for dtype in [F32, F16, I8] {
            let case = call(name.into(), Op::Pool, &params, dtype, out * out * channels);
            all.push(case.random(0, dtype, size * size * channels));
        }
    }
    all
}

fn reductions() -> Vec<Case> {
    let mut all = Vec::new();
    for (function, name, last, mask, results) in [
        (ReduceFn::Mean, "picture_7x7x1024", [7, 7, 1024], 0b0110_0000u32, 1024),
        (ReduceFn::Max, "picture_7x7x1024", [7, 7, 1024], 0b0110_0000, 1024),
        (ReduceFn::Mean, "last_56x56x64", [56, 56, 64], 0b1000_0000, 56 * 56),
        (ReduceFn::Max, "last_56x56x64", [56, 56, 64], 0b1000_0000, 56 * 56),
    ] {
        let (name, count) = (format!("{}_{name}", function.name()), last.iter().product());
        let params = ReduceParams {
            function: function.number(),
            dims: shape(1, &last),
            mask,
            x_zero: 3,
            y_zero: -4,
            scale: results as f32 / count as f32,
        };
        for dtype in [F32, F16, I8] {
            all.push(call(name.clone(), Op::Reduce, &params, dtype, results).random(0, dtype, count));
        }
    }
    all
}

/// Each axis of a picture of 32 x 32 x 64, doubled bilinearly: rows first, then columns.
fn resamples() -> Vec<Case> {
    let mut all = Vec::new();
    for (name, outer, inner) in [("rows_32x32x64", 1, 32 * 64), ("columns_64x32x64", 64, 64)] {
        let params = ResampleParams { outer, in_len: 32, out_len: 64, inner, taps: 2 };
        let positions: Vec<f64> = (0..64).flat_map(|o| [f64::from((o - 1) / 2), f64::from((o + 1) / 2)]).collect();
        let weights: Vec<f32> = (0..64).flat_map(|o| if o % 2 == 0 { [0.25, 0.75] } else { [0.75, 0.25] }).collect();
        for dtype in [F32, F16, I8] {
            let case = call(name.into(), Op::Resample, &params, dtype, outer * 64 * inner);
            let case = case.random(0, dtype, outer * 32 * inner);
            all.push(case.values(1, I32, &positions).values(2, F32, &weights));
        }
    }
    all
}

fn normalizations() -> Vec<Case> {
    let mut all = Vec::new();
    for (name, outer, len, inner, affine) in
        [("layer_196x768", 196, 768, 1, NormAffine::Len), ("instance_56x56x64", 1, 56 * 56, 64, NormAffine::Inner)]
    {
        let params = NormParams { outer, len, inner, affine: affine.number(), channels: 1, epsilon: 1e-5 };
        let (count, scales) = (outer * len * inner, if inner == 1 { len } else { inner });
        let case = call(name.into(), Op::Norm, &params, F32, count).random(0, F32, count);
        all.push(case.random(1, F32, scales).random(2, F32, scales));
    }
    for (name, outer, len, inner, log) in [
        ("1x1000", 1, 1000, 1, 0),
        ("196x196", 196, 196, 1, 0),
        ("log_196x196", 196, 196, 1, 1),
        ("columns_4x16x2100", 4, 16, 2100, 0),
    ] {
        let params = SoftmaxParams { outer, len, inner, log };
        for dtype in [F32, F16] {
            let case = call(name.into(), Op::Softmax, &params, dtype, outer * len * inner);
            all.push(case.random(0, dtype, outer * len * inner));
        }
    }
    all
}

/// Pictures between channels first and channels last.
fn copies() -> Vec<Case> {
    let mut all = Vec::new();
    let strided = |values: [i32; 3]| core::array::from_fn(|axis| if axis < 5 { 0 } else { values[axis - 5] });
    for (name, pixels, channels) in [("224x224x3", 224 * 224, 3), ("56x56x64", 56 * 56, 64)] {
        let (first, last) = (strided([0, 1, pixels]), strided([0, channels, 1]));
        let dims = shape(1, &[pixels as u32, channels as u32]);
        for (direction, src, dst) in [("to_last", first, last), ("to_first", last, first)] {
            let params = CopyParams { dims, src_offset: 0, src, dst_offset: 0, dst };
            let count = (pixels * channels) as u32;
            for dtype in [F32, I8] {
                all.push(call(format!("{direction}_{name}"), Op::Copy, &params, dtype, count).random(0, dtype, count));
            }
        }
    }
    all
}
