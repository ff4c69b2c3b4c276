//! The scalar operators against their definitions, computed element by element in f64; hostile parameters refused.

mod every;
mod reference;

use every::every;
use sparrow_kernels::{
    ArgReduceParams, BinaryParams, Call, DType, GatherParams, Kernel, LrnParams, MapParams, MatMulParams, NormParams,
    Op, PadParams, PoolParams, QBinaryParams, ReduceParams, RequantizeParams, ResampleParams, SoftmaxParams,
    TopKParams,
};
use sparrow_testkit::{Case, Order, compare_cases, decode, encode, ops};

/// Of how many cases one is run: Miri, which finds what only it can see, is slow.
const EVERY: usize = if cfg!(miri) { 61 } else { 1 };

/// Every scalar kernel.
fn kernels() -> impl Iterator<Item = &'static Kernel> {
    sparrow_kernels::CATALOGUE.iter().copied().flatten()
}

fn verify(case: &Case) -> Result<(), String> {
    let kernel = kernels()
        .find(|kernel| case.accepted_by(kernel))
        .ok_or_else(|| format!("no kernel takes it: {:?}", case.check()))?;
    let mut got = case.run(kernel, Order::Together)?;
    let want = reference::outputs(case);
    let mut bytes = [Vec::new(), Vec::new(), Vec::new()];
    for (i, bytes) in bytes.iter_mut().enumerate() {
        if let Some((dtype, values)) = case.untouched(i) {
            assert_eq!(values.len(), want[i].len(), "{}: the reference's size", case.name);
            *bytes = encode(dtype, &want[i]);
            // As the reference holds them: i64 that nobody wrote is not exact in f64.
            got[i] = encode(dtype, &decode(dtype, &got[i]));
        }
    }
    case.difference(&bytes, &got).map_or(Ok(()), Err)
}

#[test]
fn scalar_kernels_compute_the_definition() {
    let (every, mut ran) = (every(EVERY), 0);
    let failures: Vec<String> = ops::cases()
        .step_by(every)
        .inspect(|_| ran += 1)
        .filter_map(|case| verify(&case).err().map(|error| format!("{}: {error}", case.name)))
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {ran} cases failed:\n{}",
        failures.len(),
        failures[..failures.len().min(30)].join("\n")
    );
    assert!(ran > 9000 / every, "{ran} cases");
}

#[test]
fn units_may_run_one_by_one_and_every_kernel_is_reached() {
    let report = compare_cases(
        sparrow_kernels::CATALOGUE,
        sparrow_kernels::Features::NONE,
        sparrow_testkit::cases().step_by(every(EVERY)),
    );
    // Some of the cases need not reach every kernel.
    assert!(report.ok() || every(EVERY) > 1 && report.kernels.iter().all(|kernel| kernel.failed == 0), "{report}");
}

#[test]
fn every_operator_has_kernels_with_proper_names() {
    let types: Vec<&str> = DType::ALL.iter().map(|dtype| dtype.name()).chain(["x8", "x16", "x32", "x64"]).collect();
    let mut names: Vec<&str> = kernels().map(|kernel| kernel.name).collect();
    for kernel in kernels() {
        let parts: Vec<&str> = kernel.name.split('_').collect();
        let block =
            parts.get(2).is_some_and(|part| part.strip_prefix('b').is_some_and(|digits| digits.parse::<u32>().is_ok()));
        assert!(parts.len() == 3 + usize::from(block), "{}: operation_type[_block]_isa", kernel.name);
        assert!(
            !parts[0].is_empty() && parts[0].bytes().all(|byte| byte.is_ascii_lowercase()),
            "{}: operation",
            kernel.name
        );
        assert!(types.contains(&parts[1]), "{}: type", kernel.name);
        assert_eq!(parts.last(), Some(&"scalar"), "{}: instruction set", kernel.name);
        assert_eq!(kernel.requires, sparrow_kernels::Features::NONE, "{}", kernel.name);
    }
    for op in Op::ALL {
        assert!(kernels().any(|kernel| kernel.op == *op), "no kernel for {}", op.name());
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "names are unique");
}

#[test]
fn operands_one_byte_short_are_refused() {
    let mut cut = 0;
    for case in ops::cases().step_by(EVERY).filter(|case| case.op != Op::Copy && case.op != Op::Fill) {
        for i in 0..sparrow_kernels::MAX_INPUTS {
            // Operands that are not read to their end, or empty, may be any length.
            let Some((_, values)) = case.given(i) else { continue };
            let unread = values.is_empty() || case.op == Op::MatMul && case.untouched(0).unwrap().1.is_empty();
            if !unread {
                assert!(case.clone().shorten_input(i).check().is_err(), "{}: input {i}", case.name);
                cut += 1;
            }
        }
        for i in 0..sparrow_kernels::MAX_OUTPUTS {
            if case.untouched(i).is_some_and(|(_, values)| !values.is_empty()) {
                assert!(case.clone().shorten_output(i).check().is_err(), "{}: output {i}", case.name);
                cut += 1;
            }
        }
    }
    assert!(cut > 5000 / EVERY, "{cut}");
}

/// A way to make parameters wrong, with its name.
type Spoil<P> = (&'static str, fn(&mut P));

/// Changes the parameters of a case of `op` in every way of `spoils`; each must be refused.
fn refuses<P: bytemuck::Pod>(op: Op, fits: impl Fn(&P) -> bool, spoils: &[Spoil<P>]) {
    let case = ops::cases().find(|case| case.op == op && fits(&case.params())).expect("a case");
    assert_eq!(case.check(), Ok(()), "{}", case.name);
    for (name, spoil) in spoils {
        let mut params: P = case.params();
        spoil(&mut params);
        assert!(case.clone().with_params(&params).check().is_err(), "{}: {name}", case.name);
    }
}

#[test]
fn parameters_out_of_range_are_refused() {
    refuses::<MapParams>(
        Op::Map,
        |p| p.count > 1 && p.function == 1,
        &[
            ("function", |p| p.function = 29),
            ("function of bool", |p| p.function = 26),
            ("one more", |p| p.count += 1),
            ("far more", |p| p.count = u32::MAX),
            ("not a number", |p| p.p = f32::NAN),
        ],
    );
    refuses::<BinaryParams>(
        Op::Binary,
        |p| p.dims[..4] == [2, 3, 4, 5],
        &[
            ("function", |p| p.function = 18),
            ("function of bool", |p| p.function = 15),
            ("comparison", |p| p.function = 10),
            ("longer", |p| p.dims[0] += 1),
            ("overflow", |p| p.dims = [u32::MAX; 8]),
            ("stride", |p| p.a[0] += 1),
            ("huge strides", |p| (p.a, p.b) = ([u32::MAX; 8], [u32::MAX; 8])),
            ("bounds swapped", |p| (p.lo, p.hi) = (1.0, 0.0)),
            ("bound not a number", |p| p.hi = f32::NAN),
        ],
    );
    refuses::<QBinaryParams>(
        Op::QBinary,
        |p| p.dims[0] == 17,
        &[
            ("function", |p| p.function = 3),
            ("bound", |p| p.lo = -257.0),
            ("zero point", |p| p.y_zero = 256),
            ("zero point of a", |p| p.a_zero = i32::MIN),
            ("not a number", |p| p.hi = f32::NAN),
        ],
    );
    refuses::<PadParams>(
        Op::Pad,
        |p| p.in_dims[..2] == [2, 5],
        &[
            ("mode", |p| p.mode = 3),
            ("more read", |p| p.in_dims[0] += 1),
            ("more written", |p| p.out_dims[3] += 1),
            ("nothing to read", |p| p.in_dims[1] = 0),
        ],
    );
    refuses::<GatherParams>(
        Op::Gather,
        |p| p.outer == 2 && p.axis == 7,
        &[
            ("nothing to read", |p| p.axis = 0),
            ("longer axis", |p| p.axis += 1),
            ("more indices", |p| p.count += 1),
            ("overflow", |p| (p.outer, p.inner) = (u32::MAX, u32::MAX)),
        ],
    );
    refuses::<ResampleParams>(
        Op::Resample,
        |p| p.taps == 2 && p.inner == 3,
        &[("nothing to read", |p| p.in_len = 0), ("more taps", |p| p.taps += 1), ("more written", |p| p.out_len += 1)],
    );
    refuses::<ReduceParams>(
        Op::Reduce,
        |p| p.mask == 2 && p.dims[2] == 17,
        &[
            ("function", |p| p.function = 10),
            ("axis", |p| p.mask = 1 << 8),
            ("fewer folded", |p| p.mask = 0),
            ("longer", |p| p.dims[1] += 1),
            ("beyond 32 bits", |p| p.dims = [0, 1 << 20, 1 << 20, 1, 1, 1, 1, 1]),
            ("zero point", |p| p.x_zero = -256),
        ],
    );
    refuses::<ArgReduceParams>(
        Op::ArgReduce,
        |p| p.inner == 66,
        &[
            ("nothing to read", |p| p.len = 0),
            ("flag", |p| p.greatest = 2),
            ("flag", |p| p.last = 2),
            ("longer", |p| p.len += 1),
        ],
    );
    refuses::<TopKParams>(
        Op::TopK,
        |p| p.inner == 66,
        &[("more than there are", |p| p.k = p.len + 1), ("more written", |p| p.k += 1)],
    );
    refuses::<PoolParams>(
        Op::Pool,
        |p| p.batch == 2 && p.positions == 0,
        &[
            ("function", |p| p.function = 3),
            ("kernel of nothing", |p| p.kernel[1] = 0),
            ("stride 0", |p| p.stride[2] = 0),
            ("dilation 0", |p| p.dilation[0] = 0),
            ("huge pad", |p| p.before[1] = u32::MAX),
            ("more read", |p| p.input[0] += 1),
            ("more written", |p| p.output[2] += 1),
            ("positions without a place", |p| p.positions = 1),
            ("positions", |p| p.positions = 3),
            ("zero point", |p| p.x_zero = 256),
            ("overflow", |p| (p.input, p.channels) = ([1 << 24; 3], u32::MAX)),
        ],
    );
    refuses::<LrnParams>(
        Op::Lrn,
        |p| p.channels == 7,
        &[("size 0", |p| p.size = 0), ("not finite", |p| p.alpha = f32::NAN), ("longer", |p| p.inner += 1)],
    );
    refuses::<NormParams>(
        Op::Norm,
        |p| p.affine == 2 && p.outer == 3,
        &[
            ("affine", |p| p.affine = 3),
            ("no channels", |p| p.channels = 0),
            ("more channels", |p| p.channels += 1),
            ("epsilon", |p| p.epsilon = -1.0),
            ("longer", |p| p.len += 1),
        ],
    );
    refuses::<SoftmaxParams>(Op::Softmax, |p| p.len == 17, &[("flag", |p| p.log = 2), ("longer", |p| p.len += 1)]);
    refuses::<RequantizeParams>(
        Op::Requantize,
        |p| p.inner == 33,
        &[
            ("bound", |p| p.hi = 300.0),
            ("zero point", |p| p.y_zero = 256),
            ("channels", |p| p.channels = 2),
            ("longer", |p| p.inner += 1),
        ],
    );
    refuses::<MatMulParams>(
        Op::MatMul,
        |p| p.k == 33 && p.a_row == 33,
        &[
            ("zero point", |p| p.a_zero = 256),
            ("deeper", |p| p.k += 1),
            ("more rows", |p| p.m += 1),
            ("stride", |p| p.b_row += 1),
            ("batch", |p| p.batch[0] += 1),
            ("overflow", |p| p.batch = [u32::MAX; 6]),
        ],
    );
}

#[test]
fn missing_and_surplus_operands_are_refused() {
    for case in
        ops::cases().step_by(EVERY).filter(|case| case.op != Op::Fill && !case.untouched(0).unwrap().1.is_empty())
    {
        assert!(case.clone().without_input(0).check().is_err(), "{}: no input", case.name);
        assert!(case.clone().without_output(0).check().is_err(), "{}: no output", case.name);
        assert!(case.clone().values(7, DType::F32, &[0f32; 4]).check().is_err(), "{}: one input too many", case.name);
    }
}

/// An extreme call must not take the kernels out of their operands: run what the check lets through of random blocks.
#[test]
fn random_parameters_are_refused_or_run() {
    let mut random = sparrow_testkit::Random::new(77);
    let seeds: Vec<Case> = ops::cases().step_by(7).collect();
    let (every, mut taken) = (every(EVERY), 0);
    for round in 0..20_000 / every {
        let case = &seeds[random.below(seeds.len())];
        let mut words = case.words().to_vec();
        for _ in 0..1 + round % 3 {
            let at = random.below(words.len());
            words[at] = match random.below(6) {
                0 => random.bits(),
                1 => 0,
                2 => 1 << random.below(32),
                3 => words[at].wrapping_sub(1),
                4 => words[at].wrapping_add(1),
                _ => words[random.below(words.len())],
            };
        }
        let case = case.clone().with_words(&words);
        if case.check().is_ok() {
            let kernel = kernels().find(|kernel| case.accepted_by(kernel)).expect("a kernel for every checked call");
            if case.units(kernel) < 1 << 16 {
                case.run(kernel, Order::Together).unwrap_or_else(|error| panic!("{} {words:?}: {error}", case.name));
                taken += 1;
            }
        }
    }
    assert!(taken > 3000 / every, "{taken}");
}

/// `Call` is what the runtime shares between threads.
#[test]
fn calls_may_be_shared() {
    fn shared<T: Send + Sync>() {}
    shared::<Call>();
}
