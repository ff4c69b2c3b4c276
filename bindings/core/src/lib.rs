#![doc = include_str!("../README.md")]

mod error;
mod model;
mod pool;
mod session;

pub use error::{Element, Error};
pub use model::{EntryInfo, Model};
pub use pool::Pool;
pub use session::{Arena, Canceller, MAX_THREADS, Options, Profile, ProfiledOp, Session, TensorInfo};
pub use sparrow_kernels::{DType, Features, Kernel, Kernels};
pub use sparrow_runtime::{self as runtime, AlignedBytes};

/// The features of the CPU this runs on.
pub fn detect() -> Features {
    #[cfg(target_arch = "x86_64")]
    return sparrow_kernels_x86::detect();
    #[cfg(target_arch = "aarch64")]
    return sparrow_kernels_arm::detect();
    #[cfg(target_arch = "wasm32")]
    return sparrow_kernels_wasm::detect();
    #[allow(unreachable_code)] // reached where none of the above is compiled
    Features::NONE
}

/// The kernels this CPU can run with these of its features, best first.
pub fn kernels(features: Features) -> Kernels {
    let features = Features(features.0 & detect().0);
    #[cfg(target_arch = "x86_64")]
    return Kernels::new(&[sparrow_kernels_x86::CATALOGUE], features);
    #[cfg(target_arch = "aarch64")]
    return Kernels::new(&[sparrow_kernels_arm::CATALOGUE], features);
    #[cfg(target_arch = "wasm32")]
    return Kernels::new(&[sparrow_kernels_wasm::CATALOGUE], features);
    #[allow(unreachable_code)] // reached where none of the above is compiled
    Kernels::new(&[], features)
}
