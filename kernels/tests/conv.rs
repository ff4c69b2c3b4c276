//! The scalar convolutions against the definition, computed in f64 from unpacked numbers.

mod every;

use every::every;
use sparrow_kernels::{Activation, ConvParams, DType, Op, Strides};
use sparrow_testkit::conv::{ConvCase, cases};
use sparrow_testkit::{Order, decode, encode};

/// Of how many cases one is run: Miri, which finds what only it can see, is slow.
const EVERY: usize = if cfg!(miri) { 41 } else { 1 };

/// One output pixel's position: picture, row, column.
type Pixel = (usize, usize, usize);

/// `sum over (ky, kx, i) of w * x` of one output element: the formula of `ConvParams`, with no regard for speed.
fn sum(case: &ConvCase, (n, oy, ox): Pixel, channel: usize) -> f64 {
    let p = &case.params;
    let depthwise = case.op == Op::Depthwise;
    let (kc, group) = if depthwise { (1, 0) } else { (p.kc as usize, channel / p.oc as usize) };
    let taps = (p.kh * p.kw) as usize;
    let mut total = 0.0;
    for tap in 0..taps {
        let (ky, kx) = (tap as i64 / i64::from(p.kw), tap as i64 % i64::from(p.kw));
        let y = oy as i64 * i64::from(p.stride_h) + ky * i64::from(p.dil_h) - i64::from(p.pad_top);
        let x = ox as i64 * i64::from(p.stride_w) + kx * i64::from(p.dil_w) - i64::from(p.pad_left);
        let inside = (0..i64::from(p.in_h)).contains(&y) && (0..i64::from(p.in_w)).contains(&x);
        for i in 0..kc {
            let weight = case.weights[(channel * taps + tap) * kc + i];
            let element = if depthwise { channel } else { group * kc + i };
            let value = if inside { case.x[at(&p.x, (n, y as usize, x as usize)) + element] } else { case.pad };
            total += f64::from(weight) * f64::from(value);
        }
    }
    total
}

fn at(s: &Strides, (n, y, x): Pixel) -> usize {
    s.offset as usize + n * s.batch as usize + y * s.row as usize + x * s.pixel as usize
}

fn activate(v: f64, slope: f64, p: &ConvParams) -> f64 {
    match Activation::from_number(p.activation).unwrap() {
        Activation::Clamp => v.max(p.lo.into()).min(p.hi.into()),
        Activation::LeakyRelu => {
            if v < 0.0 {
                v * f64::from(p.lo)
            } else {
                v
            }
        }
        Activation::PRelu => {
            if v < 0.0 {
                v * slope
            } else {
                v
            }
        }
        Activation::HardSwish => v * (v + 3.0).clamp(0.0, 6.0) / 6.0,
    }
}

/// The value of one output element; int8 codes exactly as the contract rounds them, in f32.
fn expected(case: &ConvCase, pixel: Pixel, channel: usize) -> f64 {
    let p = &case.params;
    let oc = p.oc as usize;
    let vector = channel / oc * oc.next_multiple_of(16) + channel % oc;
    let total = sum(case, pixel, channel) + f64::from(case.bias[vector]);
    let slope = case.slopes.as_ref().map_or(0.0, |slopes| slopes[vector]);
    let residual = case.residual.as_ref().map(|residual| residual[at(&p.residual, pixel) + channel]);
    match (case.layout.spec().dtype, case.output) {
        (DType::I8, DType::I32) => total,
        (DType::I8, DType::I8) => {
            let mut v = total as f32 * case.scale.as_ref().unwrap()[vector];
            v += residual.map_or(0.0, |code| (code - p.residual_zero as f32) * p.residual_scale);
            if slope != 0.0 && v < 0.0 {
                v *= slope;
            }
            let code = v.max(p.lo).min(p.hi).round_ties_even() as i32 + p.y_zero;
            f64::from(code.clamp(-128, 127))
        }
        (DType::I8, _) => {
            let v = f64::from(total as f32 * case.scale.as_ref().unwrap()[vector]);
            activate(v + f64::from(residual.unwrap_or(0.0)), slope.into(), p)
        }
        _ => activate(total + f64::from(residual.unwrap_or(0.0)), slope.into(), p),
    }
}

/// Compares a scalar result with the definition; what lies between the output's pixels must be untouched.
fn verify(case: &ConvCase) -> Result<(), String> {
    let p = &case.params;
    let call = case.to_case();
    let kernel = sparrow_kernels::CATALOGUE
        .iter()
        .copied()
        .flatten()
        .find(|kernel| call.accepted_by(kernel))
        .ok_or("no kernel takes it")?;
    let result = call.run(kernel, Order::Together)?;
    let untouched = decode(case.output, &[0x7b; 8])[0];
    let mut want = vec![untouched; call.decoded(0, &result).len()];
    for n in 0..p.batch as usize {
        for oy in 0..p.out_h as usize {
            for ox in 0..p.out_w as usize {
                for channel in 0..(p.groups * p.oc) as usize {
                    want[at(&p.y, (n, oy, ox)) + channel] = expected(case, (n, oy, ox), channel);
                }
            }
        }
    }
    let want = [encode(case.output, &want), Vec::new(), Vec::new()];
    call.difference(&want, &result).map_or(Ok(()), Err)
}

#[test]
fn scalar_kernels_compute_the_definition() {
    let (every, mut ran) = (every(EVERY), 0);
    let failures: Vec<String> = cases()
        .step_by(every)
        .inspect(|_| ran += 1)
        .filter_map(|case| verify(&case).err().map(|error| format!("{}: {error}", case.name)))
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {ran} cases failed:\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n")
    );
    assert!(ran > 2000 / every, "{ran} cases");
}

#[test]
#[cfg(not(miri))]
fn the_cases_reach_every_kernel_and_every_variant() {
    let all: Vec<ConvCase> = cases().collect();
    for kernel in sparrow_kernels::CATALOGUE
        .iter()
        .copied()
        .flatten()
        .filter(|kernel| matches!(kernel.op, Op::Conv | Op::Depthwise))
    {
        let taken = all.iter().filter(|case| case.to_case().accepted_by(kernel)).count();
        assert!(taken >= 50, "{}: {taken} cases", kernel.name);
    }
    for (output, activation) in [
        (DType::I8, 0),
        (DType::I8, 2),
        (DType::I32, 0),
        (DType::F32, 0),
        (DType::F32, 1),
        (DType::F32, 2),
        (DType::F32, 3),
        (DType::F16, 3),
    ] {
        for residual in [false, true] {
            let there = all.iter().any(|case| {
                case.output == output && case.params.activation == activation && case.residual.is_some() == residual
            });
            assert!(there || output == DType::I32 && residual, "{output:?} {activation} {residual}");
        }
    }
}

/// A small call whose parameters and operands are then spoilt one at a time.
fn good() -> ConvCase {
    cases()
        .find(|case| {
            case.layout.name() == "dense_i8"
                && case.output == DType::I8
                && case.params.kh > 1
                && case.params.y.offset == 0
        })
        .unwrap()
}

#[test]
fn parameters_out_of_range_are_refused() {
    type Spoil = fn(&mut ConvParams);
    let spoils: &[(&str, Spoil)] = &[
        ("batch 0", |p| p.batch = 0),
        ("one picture more", |p| p.batch += 1),
        ("input higher", |p| p.in_h += 1),
        ("input wider", |p| p.in_w += 30),
        ("output higher", |p| p.out_h += 1),
        ("more channels", |p| p.oc += 16),
        ("more input channels", |p| p.kc += 4),
        ("more groups", |p| p.groups += 1),
        ("no groups", |p| p.groups = 0),
        ("more taps", |p| p.kh += 1),
        ("far too many taps", |p| p.kh = 1 << 20),
        ("stride 0", |p| p.stride_w = 0),
        ("huge stride", |p| p.stride_h = u32::MAX),
        ("huge dilation", |p| p.dil_h = u32::MAX),
        ("huge pad", |p| p.pad_left = i32::MIN),
        ("input offset", |p| p.x.offset = u32::MAX),
        ("input row", |p| p.x.row = u32::MAX),
        ("output pixels meet", |p| p.y.pixel -= 1),
        ("output rows meet", |p| p.y.row = 0),
        ("output offset", |p| p.y.offset += 1),
        ("activation", |p| p.activation = 4),
        ("bounds swapped", |p| (p.lo, p.hi) = (1.0, 0.0)),
        ("bound not a number", |p| p.lo = f32::NAN),
        ("bound too large", |p| p.hi = 257.0),
        ("zero point", |p| p.y_zero = 129),
    ];
    assert_eq!(good().to_case().check(), Ok(()));
    for (name, spoil) in spoils {
        let (good, mut bad) = (good().to_case(), good());
        spoil(&mut bad.params);
        assert!(good.with_params(&bad.params).check().is_err(), "{name}");
    }
}
