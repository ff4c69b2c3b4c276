//! The C interface for machines without an operating system: no std, no heap, no threads.
//!
//! The caller brings the file's bytes, at a multiple of 64 and alive as long as the session, and one run of memory:
//!
//! ```text
//! memory, from its first multiple of 64:  [ session: kernel table, tables of the model ][ arena ]
//! ```
//!
//! The scalar kernels run, which define every result. `include/sparrow_bare.h` is made from this file and committed.
#![no_std]

use core::ffi::c_void;
use core::ptr::null_mut;
use core::slice;
use sparrow_kernels::Kernels;
use sparrow_runtime::{Error, Model, Session};

const NO_TENSOR: i32 = 101;
const NULL: i32 = 200;
const ALIGN: usize = 64;

/// An entry point with the memory it runs on.
pub struct SparrowBareSession {
    kernels: Kernels,
    session: Option<Session<'static>>,
}

/// Bytes of the session before its arena.
const HEAD: usize = size_of::<SparrowBareSession>().next_multiple_of(ALIGN);

fn status(result: Result<(), i32>) -> i32 {
    result.err().unwrap_or(0)
}

fn number(error: Error) -> i32 {
    error.number() as i32
}

/// Validates the file.
///
/// # Safety
/// `bytes` is null or points to `len` bytes that nobody changes during `'a`.
unsafe fn model<'a>(bytes: *const c_void, len: usize) -> Result<Model<'a>, i32> {
    if bytes.is_null() {
        return Err(NULL);
    }
    if len > isize::MAX as usize {
        return Err(number(Error::NotSparrow));
    }
    // SAFETY: not null and no longer than a slice may be; the rest is the caller's promise.
    Model::open(unsafe { slice::from_raw_parts(bytes.cast(), len) }).map_err(number)
}

/// Bytes of memory that a session of the model's entry point needs, wherever the memory begins.
///
/// # Safety
/// `bytes` is null or points to `len` bytes; `needed` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_bare_memory(bytes: *const c_void, len: usize, entry: u32, needed: *mut usize) -> i32 {
    let body = || {
        // SAFETY: the caller's promise.
        let model = unsafe { model(bytes, len) }?;
        let entry = model.entry(entry).ok_or(number(Error::NoEntry(entry)))?;
        if needed.is_null() {
            return Err(NULL);
        }
        // SAFETY: not null, and so valid by the caller's promise.
        unsafe { needed.write(HEAD + entry.arena_size + ALIGN - 1) };
        Ok(())
    };
    status(body())
}

/// Makes a session in `memory`, which is its own from then on; forgetting it ends it. `bytes` begin at a multiple of 64
/// and stay unchanged while it is used.
///
/// # Safety
/// `bytes` and `memory` are null or point to as many bytes as said; `session` is null or valid for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_bare_session(
    bytes: *const c_void,
    len: usize,
    entry: u32,
    memory: *mut c_void,
    memory_len: usize,
    session: *mut *mut SparrowBareSession,
) -> i32 {
    let body = || {
        if memory.is_null() || session.is_null() {
            return Err(NULL);
        }
        // SAFETY: not null, and so valid by the caller's promise.
        unsafe { session.write(null_mut()) };
        // SAFETY: the caller's promise; the bytes stay as long as the session is used.
        let model = unsafe { model(bytes, len) }?;
        let start = memory.cast::<u8>();
        let skipped = start.align_offset(ALIGN);
        let arena_len = memory_len.checked_sub(skipped.saturating_add(HEAD));
        let needed = model.entry(entry).map_or(0, |entry| HEAD + entry.arena_size + ALIGN - 1) as u64;
        let too_small = Error::Arena { needed, given: memory_len as u64 };
        let arena_len = arena_len.filter(|&len| len <= isize::MAX as usize).ok_or(number(too_small))?;
        // SAFETY: `skipped` and `HEAD` lie inside the memory, as `checked_sub` has shown.
        let (state, arena) = unsafe { (start.add(skipped).cast::<SparrowBareSession>(), start.add(skipped + HEAD)) };
        // SAFETY: aligned to 64, with room for a session; the memory is the session's by the caller's promise.
        unsafe { state.write(SparrowBareSession { kernels: Kernels::scalar(), session: None }) };
        // SAFETY: written above; nothing writes it again.
        let kernels: &'static Kernels = unsafe { &(*state).kernels };
        // SAFETY: the rest of the memory, which nothing else uses.
        let arena = unsafe { slice::from_raw_parts_mut(arena, arena_len) };
        let made = Session::new(model, entry, kernels, arena).map_err(number)?;
        // SAFETY: inside the session's memory, apart from the kernel table that `made` borrows.
        unsafe { (&raw mut (*state).session).write(Some(made)) };
        // SAFETY: as above.
        unsafe { session.write(state) };
        Ok(())
    };
    status(body())
}

/// The session behind a pointer.
///
/// # Safety
/// It is null, or a session that nobody else uses during `'a`.
unsafe fn running<'a>(session: *mut SparrowBareSession) -> Result<&'a mut Session<'static>, i32> {
    if session.is_null() {
        return Err(NULL);
    }
    // SAFETY: not null, and so made by `sparrow_bare_session`; only the one field is borrowed.
    unsafe { &mut (*session).session }.as_mut().ok_or(NULL)
}

/// Writes address and size.
///
/// # Safety
/// `data` and `size` are null or valid for writing.
unsafe fn place(data: *mut *mut c_void, size: *mut usize, start: *mut u8, len: usize) -> Result<(), i32> {
    if data.is_null() || size.is_null() {
        return Err(NULL);
    }
    // SAFETY: not null, and so valid by the caller's promise.
    unsafe {
        data.write(start.cast());
        size.write(len);
    }
    Ok(())
}

/// Where input `index` is written before each run, and its bytes.
///
/// # Safety
/// `session` is null or a session; `data` and `size` are null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_bare_input(
    session: *mut SparrowBareSession,
    index: usize,
    data: *mut *mut c_void,
    size: *mut usize,
) -> i32 {
    let body = || {
        // SAFETY: the caller's promise.
        let session = unsafe { running(session) }?;
        session.input_tensor(index).ok_or(NO_TENSOR)?;
        let bytes = session.input_mut(index);
        // SAFETY: the caller's promise.
        unsafe { place(data, size, bytes.as_mut_ptr(), bytes.len()) }
    };
    status(body())
}

/// Where output `index` is read after a run, and its bytes.
///
/// # Safety
/// `session` is null or a session; `data` and `size` are null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_bare_output(
    session: *mut SparrowBareSession,
    index: usize,
    data: *mut *mut c_void,
    size: *mut usize,
) -> i32 {
    let body = || {
        // SAFETY: the caller's promise.
        let session = unsafe { running(session) }?;
        session.output_tensor(index).ok_or(NO_TENSOR)?;
        let bytes = session.output(index);
        // SAFETY: the caller's promise.
        unsafe { place(data, size, bytes.as_ptr().cast_mut(), bytes.len()) }
    };
    status(body())
}

/// Runs the entry point.
///
/// # Safety
/// `session` is null or a session that nobody else uses meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_bare_run(session: *mut SparrowBareSession) -> i32 {
    // SAFETY: the caller's promise.
    status(unsafe { running(session) }.and_then(|session| session.run().map_err(number)))
}

#[cfg(feature = "fault-handler")]
mod fault {
    unsafe extern "C" {
        safe fn sparrow_bare_fault() -> !;
    }

    #[panic_handler]
    fn panicked(_: &core::panic::PanicInfo) -> ! {
        sparrow_bare_fault()
    }
}
