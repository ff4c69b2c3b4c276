//! Models, and what the machine offers.

use crate::error::{Failure, SparrowStatus, give, guard, shared, text};
use sparrow::{Features, Model};
use std::ffi::{c_char, c_void};

/// A model: a mapped file, or bytes in memory, validated once.
pub struct SparrowModel(pub(crate) Model);

/// A run of UTF-8 text. It does not end in NUL.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SparrowText {
    /// First byte.
    pub data: *const c_char,
    /// Number of bytes.
    pub len: usize,
}

impl SparrowText {
    pub(crate) fn of(text: &str) -> Self {
        Self { data: text.as_ptr().cast(), len: text.len() }
    }
}

/// An entry point of a model.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SparrowEntry {
    /// Its name; lives as long as the model and its sessions.
    pub name: SparrowText,
    /// Number of inputs.
    pub inputs: u32,
    /// Number of outputs.
    pub outputs: u32,
    /// Bytes of memory a session of it runs on.
    pub arena_size: usize,
}

/// Sparrow's version, as in "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn sparrow_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// The CPU features kernels may use here, one a bit.
#[unsafe(no_mangle)]
pub extern "C" fn sparrow_cpu_features() -> u32 {
    sparrow::detect().0
}

/// The bit of the CPU feature called `name`, as in "avx2" or "dotprod"; 0 if there is none of this name.
///
/// # Safety
/// `name` is null or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_feature(name: *const c_char) -> u32 {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name, "name") }.ok().and_then(|name| name.to_str().ok());
    name.and_then(Features::by_name).map_or(0, |feature| feature.0)
}

/// Maps and validates a file; no weight is read. The file must not be changed in place while the model is open.
///
/// # Safety
/// `path` is null or a string; `model` is null or valid for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_model_open(path: *const c_char, model: *mut *mut SparrowModel) -> SparrowStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        let path = unsafe { text(path, "path") }?;
        #[cfg(unix)]
        let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(path.to_bytes());
        #[cfg(not(unix))]
        let path = path.to_str().map_err(|_| Failure::new(SparrowStatus::Argument, "'path' is not UTF-8"))?;
        // SAFETY: the caller's promise.
        unsafe { give_model(model, || Ok(Model::open(path)?)) }
    })
}

/// Validates a copy of a model in memory.
///
/// # Safety
/// `bytes` is null or points to `len` bytes; `model` is null or valid for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_model_from_bytes(
    bytes: *const c_void,
    len: usize,
    model: *mut *mut SparrowModel,
) -> SparrowStatus {
    guard(|| {
        if bytes.is_null() {
            return Err(Failure::null("bytes"));
        }
        if len > isize::MAX as usize {
            return Err(Failure::new(SparrowStatus::Argument, format!("'len' is {len}, more than memory can hold")));
        }
        // SAFETY: not null, no longer than a slice may be; the rest is the caller's promise.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.cast(), len) };
        // SAFETY: the caller's promise.
        unsafe { give_model(model, || Ok(Model::from_bytes(bytes)?)) }
    })
}

/// Sets `model` to null, and then to what `open` gives.
///
/// # Safety
/// `model` is null or valid for a pointer.
unsafe fn give_model(
    model: *mut *mut SparrowModel,
    open: impl FnOnce() -> Result<Model, Failure>,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    unsafe { give(model, "model", std::ptr::null_mut()) }?;
    let opened = Box::new(SparrowModel(open()?));
    // SAFETY: as above.
    unsafe { give(model, "model", Box::into_raw(opened)) }
}

/// Compares the hash of every part of the file, weights included: reads all of it.
///
/// # Safety
/// `model` is null or a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_model_verify(model: *const SparrowModel) -> SparrowStatus {
    // SAFETY: the caller's promise.
    guard(|| Ok(unsafe { shared(model, "model") }?.0.verify()?))
}

/// Number of entry points; 0 for null.
///
/// # Safety
/// `model` is null or a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_model_entry_count(model: *const SparrowModel) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { model.as_ref() }.map_or(0, |model| model.0.view().entry_count())
}

/// Entry point `index`.
///
/// # Safety
/// `model` is null or a model; `entry` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_model_entry(
    model: *const SparrowModel,
    index: u32,
    entry: *mut SparrowEntry,
) -> SparrowStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        let view = unsafe { shared(model, "model") }?.0.view();
        let found = view.entry(index).ok_or(sparrow::Error::Runtime(sparrow::runtime::Error::NoEntry(index)))?;
        let info = SparrowEntry {
            name: SparrowText::of(found.name),
            inputs: found.inputs.len() as u32,
            outputs: found.outputs.len() as u32,
            arena_size: found.arena_size,
        };
        // SAFETY: the caller's promise.
        unsafe { give(entry, "entry", info) }
    })
}

/// Lets go of a model; its sessions keep what they need of it. Null is let pass.
///
/// # Safety
/// `model` is null, or a model that has not been freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_model_free(model: *mut SparrowModel) {
    if !model.is_null() {
        guard(|| {
            // SAFETY: made by `give_model`; the caller frees it once.
            drop(unsafe { Box::from_raw(model) });
            Ok(())
        });
    }
}
