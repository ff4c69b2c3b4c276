//! Throughput of every kernel of this machine's catalogue, by name: `cargo bench -p sparrow-bench -- i8_b16`.
//! Elements are multiply-adds of a convolution, dropped ones included, so that dense and sparse kernels compare directly,
//! and results of other operators.

#![allow(missing_docs)] // of what criterion's macros make

use core::time::Duration;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use sparrow_bench::{Kind, Layer, Packed, Precision, catalogue};
use sparrow_kernels::{CATALOGUE, DType, Kernel};

/// Shapes that stand for the layers of a mobile network.
const LAYERS: &[Layer] = &[
    Layer { kind: Kind::First, size: 224, ic: 3, oc: 32, stride: 2 },
    Layer::pointwise(56, 128, 128),
    Layer::pointwise(14, 512, 512),
    Layer::pointwise(7, 1024, 1024),
    Layer::pointwise(1, 1024, 1000),
    Layer { kind: Kind::Spatial, size: 28, ic: 64, oc: 64, stride: 1 },
    Layer::depthwise(56, 128, 1),
    Layer::depthwise(56, 128, 2),
    Layer::depthwise(7, 1024, 1),
];

fn kernels(criterion: &mut Criterion) {
    let (catalogue, features) = catalogue();
    let cases = sparrow_bench::ops::calls();
    let kernels = [catalogue, CATALOGUE].into_iter().flatten().copied().flatten();
    for kernel in kernels.filter(|kernel| features.contains(kernel.requires)) {
        let mut group = criterion.benchmark_group(kernel.name);
        group.sampling_mode(SamplingMode::Flat);
        for layer in LAYERS {
            for precision in precisions() {
                bench(&mut group, kernel, layer, precision);
            }
        }
        for case in cases.iter().filter(|case| case.accepted_by(kernel)) {
            group.throughput(Throughput::Elements(case.results() as u64));
            group.bench_function(&case.name, |bencher| {
                // SAFETY: the CPU has the kernel's features, `accepts` said yes, and each run has all units once.
                case.on_call(|call| bencher.iter(|| unsafe { (kernel.run)(call, 0..(kernel.units)(call)) }))
                    .expect("call");
            });
        }
        group.finish();
    }
}

/// Dense, and sparse at 50 and 80 %, in each type.
fn precisions() -> impl Iterator<Item = Precision> {
    let sparse = |dtype| {
        [0.5, 0.8].into_iter().flat_map(move |sparsity| [16, 8, 4].map(|block| Precision { dtype, sparsity, block }))
    };
    [DType::F32, DType::F16, DType::I8]
        .into_iter()
        .flat_map(move |dtype| [Precision { dtype, sparsity: 0.0, block: 16 }].into_iter().chain(sparse(dtype)))
}

/// Measures the kernel on the layer, if it takes it.
fn bench(
    group: &mut criterion::BenchmarkGroup<criterion::measurement::WallTime>,
    kernel: &Kernel,
    layer: &Layer,
    precision: Precision,
) {
    // A depthwise index has one kind of block.
    if layer.kind == Kind::Depthwise && precision.block != 16 {
        return;
    }
    let packed = Packed::new(layer, precision);
    let x = Packed::activations(precision.dtype, packed.x_len);
    let mut y = Packed::activations(precision.dtype, packed.y_len);
    let call = packed.call(x.bytes(), y.bytes_mut()).expect("call");
    if call.op != kernel.op || !(kernel.accepts)(&call) {
        return;
    }
    let name = if precision.sparsity > 0.0 {
        format!("{layer}_{:.0}%", precision.sparsity * 100.0)
    } else {
        layer.to_string()
    };
    group.throughput(Throughput::Elements(layer.macs() as u64));
    group.bench_function(name, |bencher| {
        // SAFETY: the CPU has the kernel's features, `accepts` said yes, and each run has all units once.
        bencher.iter(|| unsafe { (kernel.run)(&call, 0..(kernel.units)(&call)) });
    });
}

criterion_group! {
    name = benches;
    // Short, so that a thousand measurements take minutes.
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .sample_size(10);
    targets = kernels
}
criterion_main!(benches);
