//! Cases of all operators but convolutions: every function and type over sizes around vectors and blocks, with
//! broadcasting, views and empty tensors.

use crate::{Case, Random};
use alloc::string::String;
use alloc::vec::Vec;
use sparrow_kernels::{
    ArgReduceParams, BinaryFn, BinaryParams, ChannelParams, CopyParams, DType, FillParams, GatherParams, LrnParams,
    LutParams, MAX_RANK, MapFn, MapParams, MatMulParams, NormAffine, NormParams, Op, PadMode, PadParams, PoolFn,
    PoolParams, QBinaryParams, ReduceFn, ReduceParams, RequantizeParams, ResampleParams, SoftmaxParams, TopKParams,
    WhereParams,
};

use DType::{Bool, F16, F32, I8, I32, I64, U8};

/// Types of numbers.
const NUMBERS: [DType; 6] = [F32, F16, I8, U8, I32, I64];
/// Numbers of elements below, at and above vectors, unrolled loops and blocks.
const COUNTS: [usize; 14] = [0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 33, 64, 131, 4099];

/// Every case of this module.
pub fn cases() -> impl Iterator<Item = Case> {
    let families: [fn(&mut Vec<Case>); 19] = [
        maps,
        tables,
        binaries,
        comparisons,
        quantized,
        choices,
        copies,
        pads,
        gathers,
        resamples,
        reductions,
        extremes,
        pools,
        lrns,
        norms,
        softmaxes,
        codes,
        casts,
        matmuls,
    ];
    families.into_iter().flat_map(|family| {
        let mut cases = Vec::new();
        family(&mut cases);
        cases
    })
}

/// Values of a type: floats in -4..4 with halves among them, codes with extremes, small integers, bits.
fn values(random: &mut Random, dtype: DType, count: usize) -> Vec<f64> {
    let value = |random: &mut Random| match dtype {
        F32 | F16 if random.below(8) == 0 => (random.below(17) as f64 - 8.0) / 2.0,
        F32 | F16 => (random.unit() * 4.0).into(),
        I8 => random.codes(1)[0].into(),
        U8 => (random.codes(1)[0] + 128.0).into(),
        I32 | I64 if random.below(8) == 0 => (random.unit() * 30000.0) as i32 as f64,
        I32 | I64 => random.below(21) as f64 - 10.0,
        Bool => random.below(2) as f64,
    };
    (0..count).map(|_| value(random)).collect()
}

/// Dimensions padded at the end with 1.
fn dims(sizes: &[u32]) -> [u32; MAX_RANK] {
    let mut dims = [1; MAX_RANK];
    dims[..sizes.len()].copy_from_slice(sizes);
    dims
}

fn count(sizes: &[u32]) -> usize {
    sizes.iter().map(|&size| size as usize).product()
}

/// Row-major strides of dimensions; 0 where `repeated` says so.
fn strides(dims: &[u32; MAX_RANK], repeated: impl Fn(usize) -> bool) -> [u32; MAX_RANK] {
    let (mut strides, mut stride) = ([0; MAX_RANK], 1);
    for axis in (0..MAX_RANK).rev() {
        if !repeated(axis) && dims[axis] != 1 {
            strides[axis] = stride;
            stride *= dims[axis];
        }
    }
    strides
}

/// Elements that a walk reaches.
fn reach(dims: &[u32; MAX_RANK], strides: &[u32; MAX_RANK]) -> usize {
    let end =
        dims.iter().zip(strides).map(|(&dim, &stride)| (dim.max(1) - 1) as usize * stride as usize).sum::<usize>() + 1;
    if dims.contains(&0) { 0 } else { end }
}

/// Dimensions with the strides of two operands.
type Broadcast = ([u32; MAX_RANK], [u32; MAX_RANK], [u32; MAX_RANK]);

/// Equal shapes, scalars, vectors, planes, both repeated, views and nothing.
fn broadcasts() -> Vec<Broadcast> {
    let mut all = Vec::new();
    for n in COUNTS {
        let dims = dims(&[n as u32]);
        all.push((dims, strides(&dims, |_| false), strides(&dims, |_| false)));
    }
    for sizes in [[2, 3, 4, 5], [1, 3, 5, 33], [2, 1, 20, 16], [3, 2, 0, 4], [2, 150, 5, 3]] {
        let dims = dims(&sizes);
        let with = |a: u32, b: u32| {
            (dims, strides(&dims, |axis| a >> axis & 1 == 1), strides(&dims, |axis| b >> axis & 1 == 1))
        };
        // Bits name repeated axes: scalars, rows, channels, columns and rows at once.
        all.extend(
            [(0, 0), (0, 15), (15, 0), (0, 7), (7, 0), (0, 13), (5, 10), (0, 8), (15, 15)].map(|(a, b)| with(a, b)),
        );
    }
    // A transposed operand and one with gaps.
    all.push((dims(&[6, 5, 4]), dims(&[4, 24, 1]), dims(&[40, 8, 2])));
    all.iter_mut().for_each(|(dims, a, b)| {
        (0..MAX_RANK).filter(|&axis| dims[axis] == 1).for_each(|axis| (a[axis], b[axis]) = (0, 0))
    });
    all
}

fn name(op: Op, dtype: DType, rest: String) -> String {
    alloc::format!("{} {} {rest}", op.name(), dtype.name())
}

fn maps(cases: &mut Vec<Case>) {
    let mut random = Random::new(1);
    for &function in MapFn::ALL {
        let types: &[DType] = match function {
            MapFn::Not => &[Bool],
            MapFn::Clamp | MapFn::Abs | MapFn::Neg | MapFn::Sign => &NUMBERS,
            _ => &[F32, F16],
        };
        let (p, q) = match function {
            MapFn::Clamp => (-1.5, 6.0),
            MapFn::Selu => (1.673_263_2, 1.050_701),
            MapFn::HardSigmoid => (0.2, 0.5),
            MapFn::Affine => (0.75, -1.25),
            MapFn::Silu => (1.25, 0.0),
            _ => (0.1, 0.0),
        };
        for &dtype in types {
            for n in COUNTS {
                let params = MapParams { function: function.number(), count: n as u32, p, q };
                let mut x = values(&mut random, dtype, n);
                if dtype == F32 && n == 33 {
                    let special = [
                        f64::NAN,
                        f64::INFINITY,
                        f64::NEG_INFINITY,
                        80.0,
                        -80.0,
                        20.5,
                        -20.5,
                        0.0,
                        -0.0,
                        1e-30,
                        1e-40,
                        9e6,
                        -3e9,
                        2.5,
                        -0.5,
                    ];
                    x[..special.len()].copy_from_slice(&special);
                    // With relaxed operations the scalar kernels' bounds may lose a NaN.
                    if cfg!(target_feature = "relaxed-simd") {
                        x[0] = 1.0;
                    }
                }
                let name = name(Op::Map, dtype, alloc::format!("{} {n}", function.name()));
                cases.push(Case::new(name, Op::Map, &params).values(0, dtype, &x).output(0, dtype, n));
            }
        }
    }
}

fn tables(cases: &mut Vec<Case>) {
    let mut random = Random::new(2);
    for n in COUNTS {
        let (x, table) = (values(&mut random, I8, n), values(&mut random, U8, 256));
        let case = Case::new(name(Op::Lut, I8, alloc::format!("{n}")), Op::Lut, &LutParams { count: n as u32 });
        cases.push(case.values(0, I8, &x).values(1, U8, &table).output(0, U8, n));
    }
}

fn binary(
    random: &mut Random,
    function: BinaryFn,
    dtype: DType,
    y: DType,
    (dims, a, b): Broadcast,
    bounds: (f32, f32),
) -> Case {
    let params = BinaryParams { function: function.number(), dims, a, b, lo: bounds.0, hi: bounds.1 };
    let name = name(Op::Binary, dtype, alloc::format!("{} {dims:?} {a:?} {b:?} in {bounds:?}", function.name()));
    let mut operand = |strides, limit: f64| {
        let mut values = values(random, dtype, reach(&dims, strides));
        // Powers of integers stay exact in f64.
        if function == BinaryFn::Pow && !matches!(dtype, F32 | F16) {
            values.iter_mut().for_each(|v| *v %= limit);
        }
        // With relaxed operations the scalar kernels' bounds may lose a NaN.
        let extreme = matches!(function, BinaryFn::Min | BinaryFn::Max) && matches!(dtype, F32 | F16);
        if extreme && values.len() > 16 && !cfg!(target_feature = "relaxed-simd") {
            let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
            // Of one operand beside numbers and, in the last, beside the other's.
            values.iter_mut().skip(limit as usize % 4).step_by(2).zip(special).for_each(|(v, special)| *v = special);
            values.iter_mut().rev().zip(special).for_each(|(v, special)| *v = special);
        }
        values
    };
    let case =
        Case::new(name, Op::Binary, &params).values(0, dtype, &operand(&a, 11.0)).values(1, dtype, &operand(&b, 7.0));
    case.output(0, y, count(&dims))
}

fn binaries(cases: &mut Vec<Case>) {
    let mut random = Random::new(3);
    for &function in &BinaryFn::ALL[..10] {
        for dtype in NUMBERS {
            for (i, broadcast) in broadcasts().into_iter().enumerate() {
                let bounds = if i % 3 == 1 { (0.0, 6.0) } else { (f32::NEG_INFINITY, f32::INFINITY) };
                cases.push(binary(&mut random, function, dtype, dtype, broadcast, bounds));
            }
        }
    }
}

fn comparisons(cases: &mut Vec<Case>) {
    let mut random = Random::new(4);
    for &function in &BinaryFn::ALL[10..] {
        let types: &[DType] = match function {
            BinaryFn::And | BinaryFn::Or | BinaryFn::Xor => &[Bool],
            BinaryFn::Equal => &DType::ALL,
            _ => &NUMBERS,
        };
        for &dtype in types {
            for broadcast in broadcasts().into_iter().skip(8) {
                cases.push(binary(&mut random, function, dtype, Bool, broadcast, (0.0, 0.0)));
            }
        }
    }
}

fn quantized(cases: &mut Vec<Case>) {
    let mut random = Random::new(5);
    for &function in &BinaryFn::ALL[..3] {
        for (i, (dims, a, b)) in broadcasts().into_iter().enumerate() {
            let zero = |random: &mut Random| random.codes(1)[0] as i32;
            let (lo, hi) = if i % 2 == 0 { (-256.0, 256.0) } else { (0.0, 100.5) };
            // Powers of two among the scales put results on ties.
            let a_scale = if i % 3 == 0 { 0.5 } else { 0.37 };
            let params = QBinaryParams {
                function: function.number(),
                dims,
                a,
                b,
                a_zero: zero(&mut random),
                b_zero: zero(&mut random),
                y_zero: zero(&mut random),
                a_scale: if function == BinaryFn::Mul { a_scale / 128.0 } else { a_scale },
                b_scale: 0.25,
                lo,
                hi,
            };
            let name = name(Op::QBinary, I8, alloc::format!("{} {dims:?} {a:?} {b:?}", function.name()));
            let case = Case::new(name, Op::QBinary, &params).values(0, I8, &values(&mut random, I8, reach(&dims, &a)));
            cases.push(case.values(1, I8, &values(&mut random, I8, reach(&dims, &b))).output(0, I8, count(&dims)));
        }
    }
}

fn choices(cases: &mut Vec<Case>) {
    let mut random = Random::new(6);
    for dtype in DType::ALL {
        for (dims, a, b) in broadcasts() {
            let condition = strides(&dims, |axis| axis == 1);
            let params = WhereParams { dims, condition, a, b };
            let mut operand = |dtype, strides| values(&mut random, dtype, reach(&dims, strides));
            let case = Case::new(name(Op::Where, dtype, alloc::format!("{dims:?} {a:?} {b:?}")), Op::Where, &params)
                .values(0, Bool, &operand(Bool, &condition))
                .values(1, dtype, &operand(dtype, &a))
                .values(2, dtype, &operand(dtype, &b));
            cases.push(case.output(0, dtype, count(&dims)));
        }
    }
}

fn copies(cases: &mut Vec<Case>) {
    let mut random = Random::new(7);
    // dims, source strides, source offset, destination strides, destination offset
    type Copied = ([u32; 4], [i32; 4], u32, [i32; 4], u32);
    let shapes: &[Copied] = &[
        ([2, 3, 4, 5], [60, 20, 5, 1], 0, [60, 20, 5, 1], 0),
        ([2, 3, 4, 5], [60, 20, 5, 1], 0, [60, 1, 15, 3], 0),
        ([1, 3, 4, 16], [0, 64, 16, 1], 0, [0, 100, 20, 1], 7),
        ([2, 2, 2, 2], [0, 0, 0, 0], 3, [8, 4, 2, 1], 0),
        ([1, 1, 4, 5], [0, 0, -5, -1], 19, [0, 0, 5, 1], 0),
        ([3, 0, 4, 5], [1, 1, 1, 1], 0, [1, 1, 1, 1], 0),
        ([1, 1, 1, 1], [0; 4], 2, [0; 4], 5),
        ([2, 12, 2, 3], [98, 8, 1, 2], 0, [72, 6, 3, 1], 0),
        ([1, 1, 3, 70], [0, 0, 64, 1], 1, [0, 0, 90, 1], 3),
        // Pictures from planes to pixels and back.
        ([1, 2, 70, 3], [0, 80, 1, 170], 5, [0, 220, 3, 1], 2),
        ([1, 3, 37, 3], [0, 40, 1, 128], 0, [0, 111, 3, 1], 0),
        ([1, 2, 16, 3], [0, 16, 1, 33], 0, [0, 48, 3, 1], 1),
        ([1, 1, 9, 3], [0, 0, 1, 10], 0, [0, 0, 3, 1], 0),
        ([1, 1, 50, 2], [0, 0, 1, 50], 0, [0, 0, 2, 1], 0),
        ([1, 1, 50, 4], [0, 0, 1, 55], 0, [0, 0, 4, 1], 0),
        ([1, 1, 50, 3], [0, 0, 1, 50], 0, [0, 0, 4, 1], 0),
        ([1, 2, 3, 50], [0, 150, 1, 3], 0, [0, 150, 50, 1], 0),
        ([1, 2, 40, 5], [0, 200, 1, 40], 0, [0, 200, 5, 1], 0),
        ([1, 5, 5, 8], [0, 1, 40, 5], 0, [0, 40, 8, 1], 0),
    ];
    // Of eight axes the last four, as the converter has them, or the first ones.
    let wide = |first: usize, strides: [i32; 4]| {
        core::array::from_fn(|axis| strides.get(axis.wrapping_sub(first)).copied().unwrap_or(0))
    };
    for dtype in [U8, F16, F32, I64] {
        for ((sizes, src, src_offset, dst, dst_offset), first) in
            shapes.iter().flat_map(|shape| [(*shape, 4), (*shape, 0)])
        {
            let dims = core::array::from_fn(|axis| sizes.get(axis.wrapping_sub(first)).copied().unwrap_or(1));
            let params = CopyParams { dims, src_offset, src: wide(first, src), dst_offset, dst: wide(first, dst) };
            let words = alloc::format!("{first} {sizes:?} {src:?} {dst:?}");
            let case = Case::new(name(Op::Copy, dtype, words), Op::Copy, &params);
            let case = case.values(0, dtype, &values(&mut random, dtype, 500)).output(0, dtype, 500);
            if dtype == U8 {
                let table: Vec<f64> = (0..256).map(|x| f64::from((x * 167 + 13) % 256)).collect();
                cases.push(case.clone().values(1, U8, &table));
            }
            cases.push(case);
        }
        for n in COUNTS {
            let params = FillParams { count: n as u32, bits: [0x0102_0304, 5] };
            cases.push(Case::new(name(Op::Fill, dtype, alloc::format!("{n}")), Op::Fill, &params).output(
                0,
                dtype,
                n + 1,
            ));
        }
    }
}

fn pads(cases: &mut Vec<Case>) {
    let mut random = Random::new(8);
    let shapes: &[(&[u32], &[i32], &[i32])] = &[
        (&[5], &[2], &[3]),
        (&[1], &[2], &[1]),
        (&[3], &[7], &[11]),
        (&[2, 5, 6, 3], &[0, 1, 2, 0], &[0, 2, 1, 0]),
        (&[2, 3, 4, 16], &[1, 0, 3, 0], &[0, 0, 2, 0]),
        (&[4, 6], &[-1, 2], &[2, -3]),
        (&[2, 0], &[0, 0], &[1, 0]),
        (&[40, 130], &[3, 5], &[1, 0]),
    ];
    for dtype in [U8, F16, F32, I64] {
        for &mode in PadMode::ALL {
            for (sizes, low, high) in shapes {
                let in_dims = dims(sizes);
                let at = |pads: &[i32], axis: usize| pads.get(axis).copied().unwrap_or(0);
                let out_dims: [u32; MAX_RANK] =
                    core::array::from_fn(|axis| (in_dims[axis] as i32 + at(low, axis) + at(high, axis)) as u32);
                let params = PadParams {
                    mode: mode.number(),
                    in_dims,
                    out_dims,
                    before: core::array::from_fn(|axis| at(low, axis)),
                };
                let case = Case::new(
                    name(Op::Pad, dtype, alloc::format!("{} {sizes:?} {low:?} {high:?}", mode.name())),
                    Op::Pad,
                    &params,
                );
                cases.push(case.values(0, dtype, &values(&mut random, dtype, count(&in_dims))).output(
                    0,
                    dtype,
                    count(&out_dims),
                ));
            }
        }
    }
}

fn gathers(cases: &mut Vec<Case>) {
    let mut random = Random::new(9);
    for dtype in [U8, F16, F32, I64] {
        for index in [I32, I64] {
            for (outer, axis, inner, n) in [
                (1, 5, 1, 3),
                (2, 7, 3, 5),
                (3, 4, 16, 2),
                (1, 9, 130, 11),
                (2, 3, 0, 2),
                (2, 3, 4, 0),
                (0, 3, 4, 2),
                (1, 1, 5000, 2),
            ] {
                let params = GatherParams { outer, axis, inner, count: n };
                // A little beyond both ends too.
                let indices: Vec<f64> = (0..n)
                    .map(|_| random.below(3 * axis as usize) as f64 - 1.5 * f64::from(axis))
                    .map(|v| v as i32 as f64)
                    .collect();
                let case = Case::new(
                    name(Op::Gather, dtype, alloc::format!("{outer} {axis} {inner} {n} by {}", index.name())),
                    Op::Gather,
                    &params,
                );
                let case = case.values(0, dtype, &values(&mut random, dtype, count(&[outer, axis, inner])));
                cases.push(case.values(1, index, &indices).output(0, dtype, count(&[outer, n, inner])));
            }
        }
    }
}

fn resamples(cases: &mut Vec<Case>) {
    let mut random = Random::new(10);
    for dtype in [F32, F16, I8] {
        for taps in [0u32, 1, 2, 4, 7] {
            for (outer, in_len, out_len, inner) in
                [(1, 1, 3, 1), (2, 5, 8, 3), (1, 4, 7, 16), (3, 6, 4, 65), (1, 3, 2, 200), (2, 9, 5, 31), (2, 3, 4, 0)]
            {
                let params = ResampleParams { outer, in_len, out_len, inner, taps };
                let n = (out_len * taps) as usize;
                let positions: Vec<f64> = (0..n).map(|_| random.below(in_len as usize + 2) as f64 - 1.0).collect();
                // Powers of two put int8 results on ties.
                let weights: Vec<f32> =
                    (0..n).map(|i| if i % 3 == 0 { 0.5 } else { random.unit() / taps as f32 * 2.0 }).collect();
                let case = Case::new(
                    name(Op::Resample, dtype, alloc::format!("{outer} {in_len}->{out_len} {inner} taps {taps}")),
                    Op::Resample,
                    &params,
                );
                let case = case.values(0, dtype, &values(&mut random, dtype, count(&[outer, in_len, inner])));
                cases.push(case.values(1, I32, &positions).values(2, F32, &weights).output(
                    0,
                    dtype,
                    count(&[outer, out_len, inner]),
                ));
            }
        }
    }
}

fn reductions(cases: &mut Vec<Case>) {
    let mut random = Random::new(11);
    // Dimensions, and bits of the axes that are folded.
    let shapes: &[(&[u32], u32)] = &[
        (&[1], 1),
        (&[7], 1),
        (&[100], 0),
        (&[4100], 1),
        (&[3, 49, 17], 2),
        (&[2, 5, 130], 2),
        (&[2, 3, 64], 4),
        (&[2, 3, 65], 6),
        (&[4, 3, 5, 6], 0b1001),
        (&[4, 3, 5, 6], 0b0101),
        (&[4, 3, 5, 6], 0b1010),
        (&[4, 3, 5, 6], 0b1111),
        (&[2, 3, 2, 2, 3, 2, 2, 3], 0b0101_0101),
        (&[2, 3, 2, 2, 3, 2, 2, 3], 0b1010_1010),
        (&[2, 0, 3], 0b010),
        (&[2, 0, 3], 0b101),
        (&[70, 4], 2),
        (&[2, 9, 64], 0b100),
        (&[2, 7, 7, 200], 0b0110),
        (&[3, 21], 0b10),
    ];
    for &function in ReduceFn::ALL {
        let types: &[DType] = match function {
            ReduceFn::Max | ReduceFn::Min => &DType::ALL,
            ReduceFn::Mean | ReduceFn::Sum => &[F32, F16, I8, I32, I64],
            _ => &[F32, F16, I32, I64],
        };
        for &dtype in types {
            for (sizes, mask) in shapes {
                let dims = dims(sizes);
                let part = |folded: u32| {
                    (0..MAX_RANK).filter(|axis| mask >> axis & 1 == folded).map(|axis| dims[axis]).collect::<Vec<_>>()
                };
                let (written, n) = (count(&part(0)), count(&part(1)));
                let params = ReduceParams {
                    function: function.number(),
                    dims,
                    mask: *mask,
                    x_zero: 3,
                    y_zero: -5,
                    scale: 0.9 / n.max(1) as f32,
                };
                let mut x = values(&mut random, dtype, count(&dims));
                match (function, dtype) {
                    // Products stay small; logarithms get positive sums.
                    (ReduceFn::Prod, F32 | F16) => x.iter_mut().for_each(|v| *v = 1.0 + *v / 64.0),
                    (ReduceFn::Prod, _) => x
                        .iter_mut()
                        .enumerate()
                        .for_each(|(i, v)| *v = if i % 9 == 4 && i < 60 { 2.0 } else { v.signum() }),
                    (ReduceFn::LogSum, _) => x.iter_mut().for_each(|v| *v = v.abs() + 1.0),
                    (ReduceFn::L2 | ReduceFn::SumSquare | ReduceFn::LogSumExp, I32 | I64) => {
                        x.iter_mut().for_each(|v| *v %= 11.0)
                    }
                    // Columns with a NaN, an infinity, and neither.
                    (ReduceFn::Max | ReduceFn::Min, F32 | F16) if n > 0 && written > 2 => {
                        (x[0], x[written - 1]) = (f64::NAN, f64::INFINITY);
                        *x.last_mut().expect("an element") = f64::NEG_INFINITY;
                    }
                    _ => {}
                }
                let case = Case::new(
                    name(Op::Reduce, dtype, alloc::format!("{} {sizes:?} {mask:b}", function.name())),
                    Op::Reduce,
                    &params,
                );
                cases.push(case.scale(n as f32 / 8.0).values(0, dtype, &x).output(0, dtype, written));
            }
        }
    }
}

fn extremes(cases: &mut Vec<Case>) {
    let mut random = Random::new(12);
    let shapes = [(1, 1, 1), (1, 10, 1), (3, 7, 1), (2, 5, 66), (4, 3, 17), (1, 1000, 1), (0, 3, 2), (2, 3, 0)];
    for dtype in NUMBERS {
        for (outer, len, inner) in shapes {
            for flags in 0..4 {
                let (greatest, last) = (flags & 1, flags >> 1);
                let x = values(&mut random, dtype, count(&[outer, len, inner]));
                let words = alloc::format!("{outer} {len} {inner} {greatest} {last}");
                let params = ArgReduceParams { outer, len, inner, greatest, last };
                let case = Case::new(name(Op::ArgReduce, dtype, words.clone()), Op::ArgReduce, &params);
                cases.push(case.values(0, dtype, &x).output(0, I64, count(&[outer, inner])));
                let k = if last == 1 { len } else { len.div_ceil(3) };
                let params = TopKParams { outer, len, inner, k, greatest };
                let n = count(&[outer, k, inner]);
                cases.push(
                    Case::new(name(Op::TopK, dtype, words), Op::TopK, &params)
                        .values(0, dtype, &x)
                        .output(0, dtype, n)
                        .output(1, I64, n),
                );
            }
        }
    }
}

/// A window along one axis: input, kernel, stride, dilation, pads.
type Axis = (u32, u32, u32, u32, u32, u32);

fn pools(cases: &mut Vec<Case>) {
    const ONE: Axis = (1, 1, 1, 1, 0, 0);
    let mut random = Random::new(13);
    let windows: &[(u32, [Axis; 3])] = &[
        (1, [ONE, (4, 2, 2, 1, 0, 0), (6, 2, 2, 1, 0, 0)]),
        (2, [ONE, (7, 3, 2, 1, 1, 1), (8, 3, 2, 1, 1, 1)]),
        (1, [ONE, (7, 7, 1, 1, 0, 0), (7, 7, 1, 1, 0, 0)]),
        (1, [ONE, ONE, (9, 3, 1, 2, 2, 3)]),
        (1, [(4, 2, 1, 1, 1, 0), (5, 3, 2, 1, 0, 1), (6, 2, 3, 2, 1, 1)]),
        (1, [ONE, (5, 3, 2, 1, 0, 1), (5, 2, 2, 1, 0, 1)]),
        (3, [ONE, (3, 1, 1, 1, 0, 0), (4, 1, 2, 1, 0, 0)]),
        (1, [ONE, (2, 3, 1, 1, 4, 4), (2, 2, 1, 1, 3, 0)]),
    ];
    for &(batch, window) in windows {
        for channels in [1, 3, 4, 8, 15, 16, 17, 33, 64, 72] {
            for &function in PoolFn::ALL {
                let types: &[DType] = if function == PoolFn::Max { &[F32, F16, I8, U8] } else { &[F32, F16, I8] };
                for (&dtype, positions) in types.iter().flat_map(|t| (0..3).map(move |positions| (t, positions))) {
                    if positions == 0 || function == PoolFn::Max {
                        cases.push(pool(&mut random, function, dtype, (batch, channels), window, positions));
                    }
                }
            }
        }
    }
}

fn pool(
    random: &mut Random,
    function: PoolFn,
    dtype: DType,
    (batch, channels): (u32, u32),
    window: [Axis; 3],
    positions: u32,
) -> Case {
    let output = window.map(|(input, kernel, stride, dilation, before, after)| {
        (input + before + after - (kernel - 1) * dilation - 1) / stride + 1
    });
    let params = PoolParams {
        function: function.number(),
        batch,
        channels,
        input: window.map(|w| w.0),
        output,
        kernel: window.map(|w| w.1),
        stride: window.map(|w| w.2),
        dilation: window.map(|w| w.3),
        before: window.map(|w| w.4),
        after: window.map(|w| w.5),
        x_zero: random.codes(1)[0] as i32,
        y_zero: random.codes(1)[0] as i32,
        scale: 0.75,
        positions,
    };
    let n = (batch * channels) as usize * count(&output);
    let x = values(random, dtype, (batch * channels) as usize * count(&params.input));
    let name = name(
        Op::Pool,
        dtype,
        alloc::format!("{} {batch} {window:?} {channels} positions {positions}", function.name()),
    );
    let case = Case::new(name, Op::Pool, &params).values(0, dtype, &x).output(0, dtype, n);
    if positions > 0 { case.output(1, I64, n) } else { case }
}

fn lrns(cases: &mut Vec<Case>) {
    let mut random = Random::new(14);
    for size in [1, 2, 3, 5, 8] {
        for (outer, channels, inner) in [(1, 1, 1), (2, 7, 1), (6, 16, 1), (1, 9, 20), (2, 3, 0)] {
            let params = LrnParams { outer, channels, inner, size, alpha: 0.01, beta: 0.75, bias: 1.5 };
            let n = count(&[outer, channels, inner]);
            let case = Case::new(
                name(Op::Lrn, F32, alloc::format!("{outer} {channels} {inner} size {size}")),
                Op::Lrn,
                &params,
            );
            cases.push(case.values(0, F32, &values(&mut random, F32, n)).output(0, F32, n));
        }
    }
}

fn norms(cases: &mut Vec<Case>) {
    let mut random = Random::new(15);
    for &affine in NormAffine::ALL {
        for (i, (outer, len, inner)) in
            [(1, 1, 1), (3, 10, 1), (5, 65, 1), (2, 9, 16), (4, 6, 70), (1, 49, 130), (0, 3, 1)].into_iter().enumerate()
        {
            let channels = 2;
            let params = NormParams { outer, len, inner, affine: affine.number(), channels, epsilon: 1e-3 };
            let vector = match affine {
                NormAffine::Len => len,
                NormAffine::Inner => inner,
                NormAffine::Outer => channels,
            };
            let (n, columns) = (count(&[outer, len, inner]), count(&[outer, inner]));
            let mut case = Case::new(
                name(Op::Norm, F32, alloc::format!("{} {outer} {len} {inner}", affine.name())),
                Op::Norm,
                &params,
            )
            .scale(4.0)
            .values(0, F32, &values(&mut random, F32, n))
            .values(1, F32, &values(&mut random, F32, vector as usize))
            .output(0, F32, n);
            if i % 2 == 0 {
                case = case.values(2, F32, &values(&mut random, F32, vector as usize));
            }
            if i % 3 == 0 {
                case = case.output(1, F32, columns).output(2, F32, columns);
            }
            cases.push(case);
        }
    }
}

fn softmaxes(cases: &mut Vec<Case>) {
    let mut random = Random::new(16);
    for dtype in [F32, F16] {
        for (outer, len, inner) in [
            (1, 1, 1),
            (3, 10, 1),
            (1, 1000, 1),
            (5, 17, 1),
            (3, 16, 1),
            (2, 39, 1),
            (2, 9, 16),
            (2, 5, 70),
            (3, 33, 200),
            (2, 0, 3),
            (0, 3, 3),
        ] {
            for log in [0, 1] {
                let n = count(&[outer, len, inner]);
                let x: Vec<f64> = values(&mut random, dtype, n).iter().map(|v| v * 5.0).collect();
                let case = Case::new(
                    name(Op::Softmax, dtype, alloc::format!("{outer} {len} {inner} log {log}")),
                    Op::Softmax,
                    &SoftmaxParams { outer, len, inner, log },
                );
                cases.push(case.values(0, dtype, &x).output(0, dtype, n));
            }
        }
    }
}

fn codes(cases: &mut Vec<Case>) {
    let mut random = Random::new(17);
    let shapes = [
        (1, 1, 1),
        (1, 1, 33),
        (1, 1, 5000),
        (7, 3, 1),
        (4, 17, 1),
        (300, 16, 1),
        (2, 5, 9),
        (3, 2, 70),
        (0, 3, 4),
        (2, 3, 0),
    ];
    for (i, (outer, channels, inner)) in shapes.into_iter().enumerate() {
        let params = ChannelParams { outer, channels, inner };
        let (n, words) = (count(&[outer, channels, inner]), alloc::format!("{outer} {channels} {inner}"));
        let scale: Vec<f32> =
            (0..channels).map(|c| if c % 2 == 0 { 1.0 / 32.0 } else { random.unit().abs() / 16.0 + 0.001 }).collect();
        for code in [I8, U8, I32] {
            let zero = values(&mut random, code, channels as usize);
            let with = |case: Case| if i % 3 == 2 { case } else { case.values(2, code, &zero) };
            for real in [F32, F16] {
                let case = Case::new(
                    name(Op::Quantize, real, alloc::format!("{words} to {}", code.name())),
                    Op::Quantize,
                    &params,
                );
                cases.push(with(
                    case.values(0, real, &values(&mut random, real, n)).values(1, F32, &scale).output(0, code, n),
                ));
                let case = Case::new(
                    name(Op::Dequantize, code, alloc::format!("{words} to {}", real.name())),
                    Op::Dequantize,
                    &params,
                );
                cases.push(with(
                    case.values(0, code, &values(&mut random, code, n)).values(1, F32, &scale).output(0, real, n),
                ));
            }
        }
        for (x, y) in [(I8, I8), (I8, U8), (I32, I8), (I32, U8)] {
            let (lo, hi) = if i % 2 == 0 { (-256.0, 256.0) } else { (-20.0, 90.5) };
            let params = RequantizeParams { outer, channels, inner, x_zero: 7, y_zero: 100, lo, hi };
            let case =
                Case::new(name(Op::Requantize, x, alloc::format!("{words} to {}", y.name())), Op::Requantize, &params);
            cases.push(case.values(0, x, &values(&mut random, x, n)).values(1, F32, &scale).output(0, y, n));
        }
    }
    // Around the middles between integers, where a quotient must be exact for its code to be.
    for scale in [0.0123_f32, 0.003_921_569, 77.7, 1.0e-39, 3.0e38] {
        let params = ChannelParams { outer: 1, channels: 1, inner: 5003 };
        let x: Vec<f64> = (0..5003)
            .map(|n| {
                let middle = ((n % 300) as f32 - 150.5) * scale;
                f64::from(match n % 7 {
                    0 if n % 2 == 0 => f32::INFINITY.copysign(middle),
                    0..=2 => middle.next_up(),
                    3 | 4 => middle.next_down(),
                    _ => middle,
                })
            })
            .collect();
        for code in [I8, U8] {
            let case = Case::new(
                name(Op::Quantize, F32, alloc::format!("middles of {scale} to {}", code.name())),
                Op::Quantize,
                &params,
            );
            cases.push(case.values(0, F32, &x).values(1, F32, &[scale]).output(0, code, 5003));
        }
    }
    for (n, sign) in COUNTS.into_iter().flat_map(|n| [(n, 0.0), (n, 1.0), (n, -1.0)]) {
        // All of one sign, and both.
        let x: Vec<f64> =
            values(&mut random, F32, n).iter().map(|v| if sign == 0.0 { *v } else { v.abs() * sign }).collect();
        let case = Case::new(
            name(Op::DynQuantize, F32, alloc::format!("{n} {sign}")),
            Op::DynQuantize,
            &LutParams { count: n as u32 },
        );
        cases.push(case.values(0, F32, &x).output(0, U8, n).output(1, F32, 1).output(2, U8, 1));
    }
}

fn casts(cases: &mut Vec<Case>) {
    let mut random = Random::new(18);
    for from in DType::ALL {
        for to in DType::ALL {
            for n in [0, 1, 17, 5000] {
                let mut x = values(&mut random, from, n);
                if matches!(from, F32 | F16 | I32 | I64) {
                    x.iter_mut().step_by(5).for_each(|v| *v *= 97.0);
                }
                if matches!(from, F32 | F16) {
                    let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e9, -1e9, 65519.0, 0.1, -0.0];
                    x.iter_mut().zip(special).skip(1).for_each(|(v, special)| *v = special);
                }
                let case = Case::new(
                    name(Op::Cast, from, alloc::format!("{n} to {}", to.name())),
                    Op::Cast,
                    &LutParams { count: n as u32 },
                );
                cases.push(case.values(0, from, &x).output(0, to, n));
            }
        }
    }
}

fn matmuls(cases: &mut Vec<Case>) {
    let mut random = Random::new(19);
    let shapes = [
        (1, 1, 1),
        (1, 10, 64),
        (3, 5, 7),
        (4, 16, 4),
        (8, 17, 33),
        (9, 64, 16),
        (17, 65, 5),
        (2, 130, 70),
        (5, 3, 0),
        (0, 3, 4),
        (16, 16, 31),
        (12, 48, 129),
    ];
    // Whether a, b are transposed; batches; whether b is the same in all.
    let variants = [
        (false, false, [1, 1], false),
        (true, false, [1, 1], false),
        (false, true, [2, 3], false),
        (true, true, [2, 1], false),
        (false, false, [3, 2], true),
    ];
    for dtype in [F32, F16, I8] {
        for (m, n, k) in shapes {
            for (a_turned, b_turned, batch, shared) in variants {
                let pitch = |rows: u32, columns: u32, turned: bool| if turned { (1, rows) } else { (columns, 1) };
                let ((a_row, a_col), (b_row, b_col)) = (pitch(m, k, a_turned), pitch(k, n, b_turned));
                let batches = |size: u32| [0, 0, 0, 0, size * batch[1], size];
                let zero = |random: &mut Random| if dtype == I8 { random.codes(1)[0] as i32 } else { 0 };
                let params = MatMulParams {
                    batch: [1, 1, 1, 1, batch[0], batch[1]],
                    a_batch: batches(m * k),
                    b_batch: if shared { [0; 6] } else { batches(k * n) },
                    m,
                    n,
                    k,
                    a_row,
                    a_col,
                    b_row,
                    b_col,
                    a_zero: zero(&mut random),
                    b_zero: zero(&mut random),
                };
                let all = count(&batch);
                let scaled = |random: &mut Random, n: usize| {
                    let scale = if dtype == I8 { 1.0 } else { 0.25 };
                    values(random, dtype, n).iter().map(|v| v * scale).collect::<Vec<_>>()
                };
                let a = scaled(&mut random, all * count(&[m, k]));
                let b = scaled(&mut random, if shared { 1 } else { all } * count(&[k, n]));
                let words = alloc::format!("{m}x{k}x{n} {batch:?} turned {a_turned} {b_turned} shared {shared}");
                let case = Case::new(name(Op::MatMul, dtype, words), Op::MatMul, &params).scale(k as f32 / 8.0);
                let y = if dtype == I8 { I32 } else { dtype };
                cases.push(case.values(0, dtype, &a).values(1, dtype, &b).output(0, y, all * count(&[m, n])));
            }
        }
    }
}
