//! Writing inputs, running and reading outputs allocate nothing, on one thread or several.

mod common;

use sparrow::{Model, Options, Session};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The one test of this program: any other would allocate meanwhile.
#[test]
fn a_run_through_the_api_allocates_nothing() {
    let model = Model::from_bytes(common::file()).unwrap();
    let picture = &common::pictures()[0].0;
    for threads in [1, 3] {
        let mut session = Session::new(&model, &Options { threads, ..Options::default() }).unwrap();
        // The first lock of a thread may allocate in the standard library.
        session.run().unwrap();
        // Workers start at their own pace, and allocate while they do.
        std::thread::sleep(std::time::Duration::from_millis(200));
        let before = CALLS.load(Ordering::Relaxed);
        let mut sum = 0.0;
        for _ in 0..100 {
            session.input_mut::<f32>(0).unwrap().copy_from_slice(picture);
            session.run().unwrap();
            sum += session.output::<f32>(0).unwrap()[0];
        }
        assert_eq!(CALLS.load(Ordering::Relaxed) - before, 0, "{threads} threads");
        assert!(sum != 0.0);
    }
}
