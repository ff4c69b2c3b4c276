//! A run allocates nothing: an allocator that aborts proves it, for every precision and operator of the test network.

mod common;

use sparrow_kernels::Kernels;
use sparrow_runtime::{AlignedBytes, Model, Session};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Forbidding;

thread_local! {
    static FORBIDDEN: Cell<bool> = const { Cell::new(false) };
}

fn check() {
    // A thread that is ending has no flag any more, and runs nothing of ours.
    if FORBIDDEN.try_with(Cell::get).unwrap_or(false) {
        std::process::abort();
    }
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Forbidding {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        check();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Forbidding = Forbidding;

#[test]
fn opening_making_a_session_and_running_allocate_nothing() {
    let kernels = Kernels::scalar();
    for (name, file) in common::networks() {
        let file = AlignedBytes::copy_of(&file);
        let arena = Model::open(file.as_slice()).expect("opens").entry(0).expect("has an entry point").arena_size;
        let mut arena = AlignedBytes::zeroed(arena);
        FORBIDDEN.set(true);
        let model = Model::open(file.as_slice()).expect("opens");
        let mut session = Session::new(model, 0, &kernels, arena.as_mut_slice()).expect("fits");
        session.input_mut(0).fill(0x3d);
        let result = session.run();
        let sum: u32 = session.output(0).iter().map(|&b| u32::from(b)).sum();
        FORBIDDEN.set(false);
        result.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(sum > 0, "{name}");
    }
}
