//! What every operator computes, element by element, in f64, straight from the words of its definition.

use sparrow_kernels::*;
use sparrow_testkit::Case;

type Values = Vec<f64>;

/// Index of every element of `dims`, in row-major order.
fn indices(dims: &[u32]) -> impl Iterator<Item = Vec<usize>> + use<'_> {
    let count: usize = dims.iter().map(|&dim| dim as usize).product();
    (0..count).map(|at| {
        let (mut rest, mut index) = (at, vec![0; dims.len()]);
        for axis in (0..dims.len()).rev() {
            index[axis] = rest % dims[axis] as usize;
            rest /= dims[axis] as usize;
        }
        index
    })
}

fn offset(index: &[usize], strides: &[u32]) -> usize {
    index.iter().zip(strides).map(|(&i, &stride)| i * stride as usize).sum()
}

/// Wraps an integer to the bits of its type.
fn wrap(dtype: DType, v: f64) -> f64 {
    match dtype {
        DType::I8 => f64::from(v as i64 as i8),
        DType::U8 => f64::from(v as i64 as u8),
        DType::I32 => f64::from(v as i64 as i32),
        _ => v,
    }
}

/// The greater; NaN if either is.
fn greatest(a: f64, b: f64) -> f64 {
    if a > b || a.is_nan() { a } else { b }
}

fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16)
}

/// `clamp(round(v), lo, hi) + zero` as the contract says it, in f32.
fn code(v: f32, lo: f32, hi: f32, zero: i32, dtype: DType) -> f64 {
    let (min, max) = if dtype == DType::U8 { (0, 255) } else { (-128, 127) };
    f64::from((v.max(lo).min(hi).round_ties_even() as i32 + zero).clamp(min, max))
}

fn round_even(v: f64) -> f64 {
    v.round_ties_even()
}

/// The outputs of a case before they are rounded to their types.
pub fn outputs(case: &Case) -> [Values; 3] {
    let one = |values: Values| [values, Vec::new(), Vec::new()];
    match case.op {
        Op::Map => one(map(case)),
        Op::Lut => one(lut(case)),
        Op::Binary => one(binary(case)),
        Op::QBinary => one(qbinary(case)),
        Op::Where => one(choose(case)),
        Op::Copy => one(copy(case)),
        Op::Fill => one(fill(case)),
        Op::Pad => one(pad(case)),
        Op::Gather => one(gather(case)),
        Op::Resample => one(resample(case)),
        Op::Reduce => one(reduce(case)),
        Op::ArgReduce => one(argreduce(case)),
        Op::TopK => topk(case),
        Op::Pool => pool(case),
        Op::Lrn => one(lrn(case)),
        Op::Norm => norm(case),
        Op::Softmax => one(softmax(case)),
        Op::Quantize => one(quantize(case)),
        Op::Dequantize => one(dequantize(case)),
        Op::DynQuantize => dynquantize(case),
        Op::Requantize => one(requantize(case)),
        Op::Cast => one(cast(case)),
        Op::MatMul => one(matmul(case)),
        Op::Conv | Op::Depthwise => unreachable!("tests/conv.rs"),
    }
}

fn given(case: &Case, i: usize) -> Values {
    case.given(i).expect("input").1
}

fn output_type(case: &Case) -> DType {
    case.untouched(0).expect("output").0
}

fn map(case: &Case) -> Values {
    let p: MapParams = case.params();
    let (a, b) = (f64::from(p.p), f64::from(p.q));
    let dtype = output_type(case);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let elu = |x: f64| if x < 0.0 { a * x.exp_m1() } else { x };
    let softplus = |x: f64| x.exp().ln_1p();
    let f = |x: f64| match MapFn::from_number(p.function).unwrap() {
        MapFn::Clamp if is_float(dtype) => {
            if x.is_nan() {
                x
            } else {
                x.max(a).min(b)
            }
        }
        // Integers: those between the bounds that the type has.
        MapFn::Clamp => x.max(a.ceil().max(if dtype == DType::U8 { 0.0 } else { a })).min(b.floor()),
        MapFn::LeakyRelu => {
            if x < 0.0 {
                a * x
            } else {
                x
            }
        }
        MapFn::Elu => elu(x),
        MapFn::Selu => b * elu(x),
        MapFn::Sigmoid => sigmoid(x),
        MapFn::HardSigmoid => (a * x + b).clamp(0.0, 1.0),
        MapFn::Tanh => x.tanh(),
        MapFn::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        MapFn::Gelu => x / 2.0 * (1.0 + libm::erf(x / 2f64.sqrt())),
        MapFn::GeluTanh => x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
        MapFn::Softplus => softplus(x),
        MapFn::Softsign => x / (1.0 + x.abs()),
        MapFn::Mish => x * softplus(x).tanh(),
        MapFn::Erf => libm::erf(x),
        MapFn::Exp => x.exp(),
        MapFn::Log => x.ln(),
        MapFn::Sqrt => x.sqrt(),
        MapFn::Abs => wrap(dtype, x.abs()),
        MapFn::Neg => wrap(dtype, -x),
        MapFn::Reciprocal => 1.0 / x,
        MapFn::Floor => x.floor(),
        MapFn::Ceil => x.ceil(),
        MapFn::Round => round_even(x),
        MapFn::Sign => {
            if x == 0.0 {
                0.0
            } else {
                x.signum()
            }
        }
        MapFn::Sin => x.sin(),
        MapFn::Cos => x.cos(),
        MapFn::Not => 1.0 - x,
        MapFn::Silu => x * sigmoid(a * x),
        MapFn::Affine => a * x + b,
    };
    given(case, 0).into_iter().map(f).collect()
}

fn lut(case: &Case) -> Values {
    let table = given(case, 1);
    given(case, 0).into_iter().map(|x| table[usize::from(x as i8 as u8)]).collect()
}

fn binary(case: &Case) -> Values {
    let p: BinaryParams = case.params();
    let (dtype, a) = case.given(0).unwrap();
    let b = given(case, 1);
    let function = BinaryFn::from_number(p.function).unwrap();
    let modulo = |a: f64, b: f64| {
        if b == 0.0 {
            0.0
        } else {
            let r = a % b;
            if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
        }
    };
    let f = |a: f64, b: f64| match (function, is_float(dtype)) {
        (BinaryFn::Add, _) => a + b,
        (BinaryFn::Sub, _) => a - b,
        (BinaryFn::Mul, _) => a * b,
        (BinaryFn::Div, true) => a / b,
        (BinaryFn::Div, false) => {
            if b == 0.0 {
                0.0
            } else {
                (a / b).trunc()
            }
        }
        (BinaryFn::Pow, true) => a.powf(b),
        (BinaryFn::Pow, false) if b >= 0.0 => a.powi(b as i32),
        (BinaryFn::Pow, false) => {
            if a == 0.0 {
                0.0
            } else {
                a.powf(b).trunc()
            }
        }
        (BinaryFn::Min, _) => -greatest(-a, -b),
        (BinaryFn::Max, _) => greatest(a, b),
        (BinaryFn::PRelu, _) => {
            if a < 0.0 {
                a * b
            } else {
                a
            }
        }
        (BinaryFn::Mod, _) => modulo(a, b),
        (BinaryFn::Fmod, true) => a % b,
        (BinaryFn::Fmod, false) => {
            if b == 0.0 {
                0.0
            } else {
                a % b
            }
        }
        (BinaryFn::Equal, _) => f64::from(a == b),
        (BinaryFn::Less, _) => f64::from(a < b),
        (BinaryFn::LessEqual, _) => f64::from(a <= b),
        (BinaryFn::Greater, _) => f64::from(a > b),
        (BinaryFn::GreaterEqual, _) => f64::from(a >= b),
        (BinaryFn::And, _) => f64::from(a != 0.0 && b != 0.0),
        (BinaryFn::Or, _) => f64::from(a != 0.0 || b != 0.0),
        (BinaryFn::Xor, _) => f64::from((a != 0.0) != (b != 0.0)),
    };
    let bound = |v: f64| match output_type(case) {
        DType::F32 | DType::F16 if v.is_nan() => v,
        DType::F32 | DType::F16 => v.max(p.lo.into()).min(p.hi.into()),
        dtype => wrap(dtype, v),
    };
    indices(&p.dims).map(|index| bound(f(a[offset(&index, &p.a)], b[offset(&index, &p.b)]))).collect()
}

fn qbinary(case: &Case) -> Values {
    let p: QBinaryParams = case.params();
    let (a, b) = (given(case, 0), given(case, 1));
    let at = |index: Vec<usize>| {
        let (a, b) = (a[offset(&index, &p.a)] as i32 - p.a_zero, b[offset(&index, &p.b)] as i32 - p.b_zero);
        let v = match p.function {
            0 => a as f32 * p.a_scale + b as f32 * p.b_scale,
            1 => a as f32 * p.a_scale - b as f32 * p.b_scale,
            _ => (a * b) as f32 * p.a_scale,
        };
        code(v, p.lo, p.hi, p.y_zero, DType::I8)
    };
    indices(&p.dims).map(at).collect()
}

fn choose(case: &Case) -> Values {
    let p: WhereParams = case.params();
    let (condition, a, b) = (given(case, 0), given(case, 1), given(case, 2));
    let at = |index: Vec<usize>| {
        if condition[offset(&index, &p.condition)] != 0.0 { a[offset(&index, &p.a)] } else { b[offset(&index, &p.b)] }
    };
    indices(&p.dims).map(at).collect()
}

fn copy(case: &Case) -> Values {
    let p: CopyParams = case.params();
    let (x, mut y) = (given(case, 0), case.untouched(0).unwrap().1);
    let at = |first: u32, index: &[usize], strides: &[i32]| {
        (i64::from(first) + index.iter().zip(strides).map(|(&i, &stride)| i as i64 * i64::from(stride)).sum::<i64>())
            as usize
    };
    let table = case.given(1).map(|(_, table)| table);
    let through = |v: f64| table.as_ref().map_or(v, |table| table[v as usize]);
    indices(&p.dims)
        .for_each(|index| y[at(p.dst_offset, &index, &p.dst)] = through(x[at(p.src_offset, &index, &p.src)]));
    y
}

fn fill(case: &Case) -> Values {
    let p: FillParams = case.params();
    let (dtype, mut y) = case.untouched(0).unwrap();
    let bytes: Vec<u8> = p.bits.iter().flat_map(|word| word.to_ne_bytes()).take(dtype.size()).collect();
    y[..p.count as usize].fill(sparrow_testkit::decode(dtype, &bytes)[0]);
    y
}

fn pad(case: &Case) -> Values {
    let p: PadParams = case.params();
    let x = given(case, 0);
    let inside = |at: i64, len: i64| -> i64 {
        if (0..len).contains(&at) {
            return at;
        }
        match PadMode::from_number(p.mode).unwrap() {
            PadMode::Edge => {
                if at < 0 {
                    0
                } else {
                    len - 1
                }
            }
            PadMode::Wrap => ((at % len) + len) % len,
            PadMode::Reflect if len == 1 => 0,
            // Walk to and fro.
            PadMode::Reflect => {
                let (mut position, mut step) = (0i64, at.signum());
                for _ in 0..at.abs() {
                    if position + step < 0 || position + step >= len {
                        step = -step;
                    }
                    position += step;
                }
                position
            }
        }
    };
    let at = |index: Vec<usize>| {
        let mut from = 0;
        for (axis, &i) in index.iter().enumerate() {
            let len = i64::from(p.in_dims[axis]);
            from = from * len + inside(i as i64 - i64::from(p.before[axis]), len);
        }
        x[from as usize]
    };
    indices(&p.out_dims).map(at).collect()
}

fn gather(case: &Case) -> Values {
    let p: GatherParams = case.params();
    let (x, index) = (given(case, 0), given(case, 1));
    let at = |i: Vec<usize>| {
        let wanted = index[i[1]] as i64;
        let wanted = if wanted < 0 { wanted + i64::from(p.axis) } else { wanted };
        let wanted = wanted.clamp(0, i64::from(p.axis) - 1) as usize;
        x[(i[0] * p.axis as usize + wanted) * p.inner as usize + i[2]]
    };
    indices(&[p.outer, p.count, p.inner]).map(at).collect()
}

fn resample(case: &Case) -> Values {
    let p: ResampleParams = case.params();
    let (x, positions, weights) = (given(case, 0), given(case, 1), given(case, 2));
    let codes = output_type(case) == DType::I8;
    let at = |i: Vec<usize>| {
        let (mut sum, mut sum32) = (0.0, 0f32);
        for tap in i[1] * p.taps as usize..(i[1] + 1) * p.taps as usize {
            let from = (positions[tap] as i64).clamp(0, i64::from(p.in_len) - 1) as usize;
            let v = x[(i[0] * p.in_len as usize + from) * p.inner as usize + i[2]];
            sum += weights[tap] * v;
            sum32 += weights[tap] as f32 * v as f32;
        }
        if codes { code(sum32, -128.0, 127.0, 0, DType::I8) } else { sum }
    };
    indices(&[p.outer, p.out_len, p.inner]).map(at).collect()
}

fn reduce(case: &Case) -> Values {
    let p: ReduceParams = case.params();
    let (dtype, x) = case.given(0).unwrap();
    let folded = |axis: usize| p.mask >> axis & 1 == 1;
    let kept: Vec<u32> = (0..MAX_RANK).map(|axis| if folded(axis) { 1 } else { p.dims[axis] }).collect();
    let mut sets: Vec<Values> = indices(&kept).map(|_| Vec::new()).collect();
    for (index, &x) in indices(&p.dims).zip(&x) {
        let set =
            (0..MAX_RANK).fold(0, |at, axis| at * kept[axis] as usize + if folded(axis) { 0 } else { index[axis] });
        sets[set].push(x);
    }
    let limits = match dtype {
        DType::I8 => (-128.0, 127.0),
        DType::U8 => (0.0, 255.0),
        DType::Bool => (0.0, 1.0),
        DType::I32 => (i32::MIN.into(), i32::MAX.into()),
        DType::I64 => (i64::MIN as f64, i64::MAX as f64),
        _ => (f64::NEG_INFINITY, f64::INFINITY),
    };
    let f = |set: &Values| {
        let n = set.len() as f64;
        let sum: f64 = set.iter().sum();
        match ReduceFn::from_number(p.function).unwrap() {
            ReduceFn::Sum | ReduceFn::Mean if dtype == DType::I8 => {
                code((sum - f64::from(p.x_zero) * n) as f32 * p.scale, -256.0, 256.0, p.y_zero, dtype)
            }
            ReduceFn::Sum => sum,
            ReduceFn::Mean if is_float(dtype) => sum / n,
            ReduceFn::Mean => {
                if n == 0.0 {
                    0.0
                } else {
                    (sum / n).trunc()
                }
            }
            ReduceFn::Max => set.iter().copied().fold(limits.0, greatest),
            ReduceFn::Min => -set.iter().map(|x| -x).fold(-limits.1, greatest),
            ReduceFn::Prod => set.iter().product(),
            ReduceFn::L1 => set.iter().map(|x| x.abs()).sum(),
            ReduceFn::L2 => set.iter().map(|x| x * x).sum::<f64>().sqrt(),
            ReduceFn::SumSquare => set.iter().map(|x| x * x).sum(),
            ReduceFn::LogSum => sum.ln(),
            ReduceFn::LogSumExp => set.iter().map(|x| x.exp()).sum::<f64>().ln(),
        }
    };
    sets.iter().map(f).collect()
}

/// Elements of one column of `[outer][len][inner]`.
fn column(x: &Values, len: u32, inner: u32, outer: usize, column: usize) -> Values {
    (0..len as usize).map(|i| x[(outer * len as usize + i) * inner as usize + column]).collect()
}

fn argreduce(case: &Case) -> Values {
    let p: ArgReduceParams = case.params();
    let x = given(case, 0);
    let at = |i: Vec<usize>| {
        let column = column(&x, p.len, p.inner, i[0], i[1]);
        let best = column.iter().copied().reduce(if p.greatest == 1 { f64::max } else { f64::min }).unwrap();
        let equal = |x: &f64| *x == best;
        (if p.last == 1 { column.iter().rposition(equal) } else { column.iter().position(equal) }).unwrap() as f64
    };
    indices(&[p.outer, p.inner]).map(at).collect()
}

fn topk(case: &Case) -> [Values; 3] {
    let p: TopKParams = case.params();
    let x = given(case, 0);
    let count = (p.outer * p.k * p.inner) as usize;
    let (mut values, mut positions) = (vec![0.0; count], vec![0.0; count]);
    for i in indices(&[p.outer, p.inner]) {
        let mut sorted: Vec<(usize, f64)> = column(&x, p.len, p.inner, i[0], i[1]).into_iter().enumerate().collect();
        sorted.sort_by(|a, b| if p.greatest == 1 { b.1.total_cmp(&a.1) } else { a.1.total_cmp(&b.1) });
        for (place, (position, value)) in sorted.into_iter().take(p.k as usize).enumerate() {
            let at = (i[0] * p.k as usize + place) * p.inner as usize + i[1];
            (values[at], positions[at]) = (value, position as f64);
        }
    }
    [values, positions, Vec::new()]
}

fn pool(case: &Case) -> [Values; 3] {
    let p: PoolParams = case.params();
    let (dtype, x) = case.given(0).unwrap();
    let [d0, d1, d2] = p.input.map(|len| len as usize);
    let (mut y, mut positions) = (Vec::new(), Vec::new());
    let least = if is_float(dtype) {
        f64::NEG_INFINITY
    } else if dtype == DType::U8 {
        0.0
    } else {
        -128.0
    };
    for i in indices(&[p.batch, p.output[0], p.output[1], p.output[2], p.channels]) {
        let (mut inside, mut padded, mut sum, mut best, mut position) = (0, 0, 0.0, least, None);
        for k in indices(&p.kernel) {
            let at: [i64; 3] = std::array::from_fn(|axis| {
                i[axis + 1] as i64 * i64::from(p.stride[axis]) + k[axis] as i64 * i64::from(p.dilation[axis])
                    - i64::from(p.before[axis])
            });
            padded += usize::from((0..3).all(|axis| at[axis] < i64::from(p.input[axis] + p.after[axis])));
            if (0..3).all(|axis| (0..i64::from(p.input[axis])).contains(&at[axis])) {
                let at = at.map(|at| at as usize);
                let v = x[(((i[0] * d0 + at[0]) * d1 + at[1]) * d2 + at[2]) * p.channels as usize + i[4]];
                inside += 1;
                sum += v;
                if position.is_none() || v > best {
                    best = v;
                    let within = if p.positions == 2 {
                        at[0] + d0 * (at[1] + d1 * at[2])
                    } else {
                        (at[0] * d1 + at[1]) * d2 + at[2]
                    };
                    position = Some((i[0] * p.channels as usize + i[4]) * d0 * d1 * d2 + within);
                }
            }
        }
        let n = (if p.function == 2 { padded } else { inside }).max(1);
        let mean = match dtype {
            DType::I8 => code(
                (sum as i32 - p.x_zero * inside as i32) as f32 / n as f32 * p.scale,
                -256.0,
                256.0,
                p.y_zero,
                dtype,
            ),
            _ => sum / n as f64,
        };
        y.push(if p.function == 0 { best } else { mean });
        positions.push(position.unwrap_or(0) as f64);
    }
    [y, if p.positions > 0 { positions } else { Vec::new() }, Vec::new()]
}

fn lrn(case: &Case) -> Values {
    let p: LrnParams = case.params();
    let x = given(case, 0);
    let at = |i: Vec<usize>| {
        let element = |channel: usize| x[(i[0] * p.channels as usize + channel) * p.inner as usize + i[2]];
        // ONNX: from floor((size - 1) / 2) before to ceil((size - 1) / 2) after.
        let (before, after) = ((p.size as i64 - 1) / 2, (p.size as i64) / 2);
        let around =
            (0..p.channels as i64).filter(|other| (i[1] as i64 - before..=i[1] as i64 + after).contains(other));
        let squares: f64 = around.map(|other| element(other as usize).powi(2)).sum();
        element(i[1]) / (f64::from(p.bias) + f64::from(p.alpha) / f64::from(p.size) * squares).powf(p.beta.into())
    };
    indices(&[p.outer, p.channels, p.inner]).map(at).collect()
}

fn norm(case: &Case) -> [Values; 3] {
    let p: NormParams = case.params();
    let (x, scale, bias) = (given(case, 0), given(case, 1), case.given(2).map(|(_, bias)| bias));
    let mut y = vec![0.0; x.len()];
    let (mut means, mut factors) = (Vec::new(), Vec::new());
    for i in indices(&[p.outer, p.inner]) {
        let column = column(&x, p.len, p.inner, i[0], i[1]);
        let mean = column.iter().sum::<f64>() / f64::from(p.len);
        let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(p.len);
        let factor = 1.0 / (variance + f64::from(p.epsilon)).sqrt();
        for (at, x) in column.into_iter().enumerate() {
            let affine = [at, i[1], i[0] % p.channels as usize][p.affine as usize];
            y[(i[0] * p.len as usize + at) * p.inner as usize + i[1]] =
                (x - mean) * factor * scale[affine] + bias.as_ref().map_or(0.0, |bias| bias[affine]);
        }
        means.push(mean);
        factors.push(factor);
    }
    if case.untouched(1).is_some() { [y, means, factors] } else { [y, Vec::new(), Vec::new()] }
}

fn softmax(case: &Case) -> Values {
    let p: SoftmaxParams = case.params();
    let x = given(case, 0);
    let at = |i: Vec<usize>| {
        let column = column(&x, p.len, p.inner, i[0], i[2]);
        let sum: f64 = column.iter().map(|x| (x - column[i[1]]).exp()).sum();
        if p.log == 1 { -sum.ln() } else { 1.0 / sum }
    };
    indices(&[p.outer, p.len, p.inner]).map(at).collect()
}

fn quantize(case: &Case) -> Values {
    let p: ChannelParams = case.params();
    let (x, scale, zero) = (given(case, 0), given(case, 1), case.given(2).map(|(_, zero)| zero));
    let (low, high) = match output_type(case) {
        DType::I8 => (-128.0, 127.0),
        DType::U8 => (0.0, 255.0),
        _ => (i32::MIN.into(), i32::MAX.into()),
    };
    let at = |(i, x): (Vec<usize>, f64)| {
        let v = f64::from((x as f32 / scale[i[1]] as f32).round_ties_even());
        (v + zero.as_ref().map_or(0.0, |zero| zero[i[1]])).clamp(low, high)
    };
    indices(&[p.outer, p.channels, p.inner]).zip(x).map(at).collect()
}

fn dequantize(case: &Case) -> Values {
    let p: ChannelParams = case.params();
    let (x, scale, zero) = (given(case, 0), given(case, 1), case.given(2).map(|(_, zero)| zero));
    let at = |(i, x): (Vec<usize>, f64)| (x - zero.as_ref().map_or(0.0, |zero| zero[i[1]])) * scale[i[1]];
    indices(&[p.outer, p.channels, p.inner]).zip(x).map(at).collect()
}

fn requantize(case: &Case) -> Values {
    let p: RequantizeParams = case.params();
    let (x, factor) = (given(case, 0), given(case, 1));
    let at = |(i, x): (Vec<usize>, f64)| {
        code((x as i32 - p.x_zero) as f32 * factor[i[1]] as f32, p.lo, p.hi, p.y_zero, output_type(case))
    };
    indices(&[p.outer, p.channels, p.inner]).zip(x).map(at).collect()
}

fn dynquantize(case: &Case) -> [Values; 3] {
    let x = given(case, 0);
    let (low, high) = x.iter().fold((0f32, 0f32), |(low, high), &x| (low.min(x as f32), high.max(x as f32)));
    let scale = if low == high { 1.0 } else { (high - low) / 255.0 };
    let zero = (-low / scale).round_ties_even().clamp(0.0, 255.0);
    let y = x.iter().map(|&x| f64::from(((x as f32 / scale).round_ties_even() + zero).clamp(0.0, 255.0))).collect();
    [y, vec![scale.into()], vec![zero.into()]]
}

fn cast(case: &Case) -> Values {
    let (from, x) = case.given(0).unwrap();
    let to = output_type(case);
    let f = |x: f64| match (to, is_float(from)) {
        (DType::F32 | DType::F16, _) => x,
        (DType::Bool, _) => f64::from(x != 0.0),
        // Encoding saturates, and makes 0 of NaN.
        (_, true) => x.trunc(),
        (_, false) => wrap(to, x),
    };
    x.into_iter().map(f).collect()
}

fn matmul(case: &Case) -> Values {
    let p: MatMulParams = case.params();
    let (a, b) = (given(case, 0), given(case, 1));
    let [b0, b1, b2, b3, b4, b5] = p.batch;
    let at = |i: Vec<usize>| {
        let (a_at, b_at) = (
            offset(&i[..6], &p.a_batch) + i[6] * p.a_row as usize,
            offset(&i[..6], &p.b_batch) + i[7] * p.b_col as usize,
        );
        let product = |k: usize| {
            (a[a_at + k * p.a_col as usize] - f64::from(p.a_zero))
                * (b[b_at + k * p.b_row as usize] - f64::from(p.b_zero))
        };
        (0..p.k as usize).map(product).sum()
    };
    indices(&[b0, b1, b2, b3, b4, b5, p.m, p.n]).map(at).collect()
}
