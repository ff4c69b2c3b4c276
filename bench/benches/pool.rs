//! What sharing an operator between threads gains: of 28 or 64 units, each a chain of multiplications, which another thread's
//! work on the same core does not slow down.

use criterion::Criterion;
use sparrow::{Pool, runtime::Threads};
use std::hint::black_box;

fn unit(multiplications: usize) {
    black_box((0..multiplications).fold(black_box(1_u64), |x, _| x.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (x >> 7)));
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for all in [28, 64] {
        for multiplications in [5_000, 20_000] {
            for threads in [1, 2] {
                let pool = Pool::new(threads).expect("the system refused a thread");
                let name = format!("{multiplications} multiplications, {all} units, {threads} threads");
                criterion.bench_function(&name, |b| {
                    b.iter(|| pool.run(all, &|units| units.for_each(|_| unit(multiplications / all))));
                });
            }
        }
    }
    criterion.final_summary();
}
