//! Time of each convolution of MobileNet-v1 1.0/224 on one thread, run one after another as the network does.
//!
//! `layers [f32|f16|i8] [percent of 1x1 weight units dropped] [block] [feature to mask]...`; the least time of many
//! passes counts.

use sparrow_bench::{Kind, Packed, Precision, catalogue, mobilenet_v1};
use sparrow_kernels::{DType, Features, Kernels};
use std::time::{Duration, Instant};

/// How long passes are repeated.
const BUDGET: Duration = Duration::from_secs(4);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |n: usize, default: &'static str| arguments.get(n).map_or(default, |text| text.as_str());
    let dtype = DType::ALL.into_iter().find(|dtype| dtype.name() == argument(0, "f32")).expect("f32, f16 or i8");
    let sparsity = argument(1, "0").parse::<f32>().expect("percent") / 100.0;
    let block = argument(2, "16").parse().expect("16, 8 or 4");
    let masked = arguments.iter().skip(3).map(|name| Features::by_name(name).expect("feature"));
    let (catalogue, features) = catalogue();
    let kernels = Kernels::new(&[catalogue], masked.fold(features, |features, masked| features.without(masked)));

    let layers = mobilenet_v1();
    let precision = |kind| Precision { dtype, sparsity: if kind == Kind::Pointwise { sparsity } else { 0.0 }, block };
    let packed: Vec<Packed> = layers.iter().map(|layer| Packed::new(layer, precision(layer.kind))).collect();
    let len = packed.iter().map(|packed| packed.x_len.max(packed.y_len)).max().expect("layers");
    let mut buffers = [Packed::activations(dtype, len), Packed::activations(dtype, len)];
    let mut least = vec![Duration::MAX; layers.len()];
    let mut chosen = Vec::new();
    let (start, mut total) = (Instant::now(), Duration::MAX);
    while start.elapsed() < BUDGET {
        let pass = Instant::now();
        for (n, packed) in packed.iter().enumerate() {
            let [a, b] = &mut buffers;
            let (x, y) = if n % 2 == 0 { (a, b) } else { (b, a) };
            if n == chosen.len() {
                // Checked once, as a session does when it loads a model.
                let call = packed.call(x.bytes(), y.bytes_mut()).expect("call");
                chosen.push(kernels.select(&call).expect("kernel"));
            }
            let kernel = chosen[n];
            // SAFETY: checked with the same buffers.
            let call = unsafe { packed.call_again(x.bytes(), y.bytes_mut()) };
            let begun = Instant::now();
            // SAFETY: the catalogue was filtered by the CPU's features, `select` asked `accepts`, and all units run once.
            unsafe { (kernel.run)(&call, 0..(kernel.units)(&call)) };
            least[n] = least[n].min(begun.elapsed());
        }
        total = total.min(pass.elapsed());
    }
    let report = |name: &str, macs: usize, time: Duration, kernel: &str| {
        println!(
            "{name:<24} {:>8.1} Mmac {:>9.1} us {:>7.1} Gmac/s  {kernel}",
            macs as f64 / 1e6,
            time.as_secs_f64() * 1e6,
            macs as f64 / time.as_secs_f64() / 1e9
        );
    };
    for ((layer, time), kernel) in layers.iter().zip(&least).zip(chosen) {
        report(&layer.to_string(), layer.macs(), *time, kernel.name);
    }
    for (name, kind) in [("first", Kind::First), ("1x1", Kind::Pointwise), ("depthwise", Kind::Depthwise)] {
        let some = || layers.iter().zip(&least).filter(|(layer, _)| layer.kind == kind);
        report(name, some().map(|(layer, _)| layer.macs()).sum(), some().map(|(_, time)| *time).sum(), "");
    }
    let macs = layers.iter().map(|layer| layer.macs()).sum();
    report("sum of layers", macs, least.iter().sum(), "");
    report("network", macs, total, "");
}
