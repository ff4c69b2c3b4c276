//! Any bytes, hashes mended: what opens must run inside its memory.
#![no_main]

mod common;

use libfuzzer_sys::fuzz_target;
use sparrow_kernels::Kernels;
use sparrow_runtime::{AlignedBytes, Model, OneThread, Session};
use std::ops::ControlFlow;

fuzz_target!(|data: &[u8]| {
    let mut file = AlignedBytes::copy_of(data);
    common::mend(file.as_mut_slice());
    let Ok(model) = Model::open(file.as_slice()) else { return };
    let Some(entry) = model.entry(0) else { return };
    if entry.arena_size > 1 << 20 {
        return;
    }
    let kernels = Kernels::scalar();
    let mut arena = AlignedBytes::zeroed(entry.arena_size);
    arena.as_mut_slice().fill(0x3d);
    let Ok(mut session) = Session::new(model, 0, &kernels, arena.as_mut_slice()) else { return };
    let mut steps = 0;
    let _ = session.run_with(&OneThread, &mut |_, _| {
        steps += 1;
        if steps > 200 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
});
