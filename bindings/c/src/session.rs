//! Sessions: inputs, runs, outputs.

use crate::error::{Failure, SparrowStatus, give, guard, shared};
use crate::model::{SparrowModel, SparrowText};
use sparrow::runtime::Tensor;
use sparrow::{Canceller, DType, Features, Options, Profile, Session};
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, TryLockError};

/// An entry point ready to run.
pub struct SparrowSession {
    session: Mutex<Session>,
    canceller: Canceller,
}

/// How a session runs. All zeros: one thread, every CPU feature, the first entry point.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SparrowOptions {
    /// Threads, the caller's included; 0 is 1, 256 the most.
    pub threads: u32,
    /// CPU features not to use: bits of sparrow_feature().
    pub without_features: u32,
    /// Number of the entry point.
    pub entry: u32,
    /// Memory to run on: at least the entry point's arena_size bytes at a multiple of 64, the session's alone until it is
    /// freed. Null: the session allocates it.
    pub arena: *mut c_void,
    /// Bytes of the arena.
    pub arena_size: usize,
}

/// The type of a tensor's elements, numbered as in the file.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SparrowType {
    /// 32-bit float.
    F32 = 0,
    /// 16-bit float.
    F16 = 1,
    /// Signed byte.
    I8 = 2,
    /// Unsigned byte.
    U8 = 3,
    /// 32-bit signed integer.
    I32 = 4,
    /// 64-bit signed integer.
    I64 = 5,
    /// One byte, 0 or 1.
    Bool = 6,
}

/// An input or output with its place in memory.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SparrowTensor {
    /// Its elements, row-major, inside the session's arena: written before each run (inputs: a run may reuse their memory)
    /// or read after it (outputs). The address stays the same until the session is freed.
    pub data: *mut c_void,
    /// Bytes of its elements.
    pub size: usize,
    /// Its name in the source network; lives as long as the session.
    pub name: SparrowText,
    /// Its dimensions; those beyond `rank` are 0.
    pub dims: [u32; 8],
    /// Number of dimensions.
    pub rank: u32,
    /// Type of its elements.
    pub element: SparrowType,
    /// Of a quantized tensor, `real = scale * (code - zero)`; 0 for another.
    pub scale: f32,
    /// The code of 0.
    pub zero: i32,
}

/// Time of one operator of a run. The texts live as long as the session.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SparrowOpTime {
    /// Its name in the source network.
    pub name: SparrowText,
    /// What it computes.
    pub op: SparrowText,
    /// The kernel that ran.
    pub kernel: SparrowText,
    /// How long it took.
    pub nanoseconds: u64,
}

/// Memory the host has lent.
struct Lent(*mut u8, usize);

// SAFETY: the memory is the session's alone until it is freed, as `SparrowOptions::arena` demands.
unsafe impl Send for Lent {}

impl AsMut<[u8]> for Lent {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; not null and of this length by the same promise, checked as far as it can be.
        unsafe { std::slice::from_raw_parts_mut(self.0, self.1) }
    }
}

fn make(model: &SparrowModel, options: &SparrowOptions) -> Result<Session, Failure> {
    let how = Options {
        threads: options.threads as usize,
        features: Features(!options.without_features),
        entry: options.entry,
    };
    if options.arena.is_null() {
        return Ok(Session::new(&model.0, &how)?);
    }
    if options.arena_size > isize::MAX as usize {
        return Err(Failure::new(SparrowStatus::Argument, "'arena_size' is more than memory can hold"));
    }
    let arena = Lent(options.arena.cast(), options.arena_size);
    Ok(Session::with_arena(&model.0, &how, Box::new(arena))?)
}

/// Makes a session; `options` null means all zeros. Starts its threads and, unless it is given one, allocates its arena.
///
/// # Safety
/// `model` is null or a model; `options` is null or valid, its arena what it says; `session` is null or valid for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_session_new(
    model: *const SparrowModel,
    options: *const SparrowOptions,
    session: *mut *mut SparrowSession,
) -> SparrowStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { give(session, "session", std::ptr::null_mut()) }?;
        // SAFETY: the caller's promise.
        let model = unsafe { shared(model, "model") }?;
        // SAFETY: the caller's promise.
        let options = unsafe { options.as_ref() }.copied().unwrap_or_default();
        let made = make(model, &options)?;
        let canceller = made.canceller();
        let made = Box::new(SparrowSession { session: Mutex::new(made), canceller });
        // SAFETY: as above.
        unsafe { give(session, "session", Box::into_raw(made)) }
    })
}

fn lock(session: &SparrowSession) -> Result<MutexGuard<'_, Session>, Failure> {
    session.session.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => Failure::new(SparrowStatus::Busy, "another thread is using the session"),
        TryLockError::Poisoned(_) => {
            Failure::new(SparrowStatus::Panic, "an earlier call ended in a fault inside Sparrow: free the session")
        }
    })
}

fn describe(tensor: &Tensor, data: *mut u8, size: usize) -> SparrowTensor {
    let mut dims = [0; 8];
    dims[..tensor.dims.len()].copy_from_slice(tensor.dims);
    let (scale, zero) = tensor.quantization.unwrap_or_default();
    let element = match tensor.dtype {
        DType::F32 => SparrowType::F32,
        DType::F16 => SparrowType::F16,
        DType::I8 => SparrowType::I8,
        DType::U8 => SparrowType::U8,
        DType::I32 => SparrowType::I32,
        DType::I64 => SparrowType::I64,
        DType::Bool => SparrowType::Bool,
    };
    let (name, rank) = (SparrowText::of(tensor.name), tensor.dims.len() as u32);
    SparrowTensor { data: data.cast(), size, name, dims, rank, element, scale, zero }
}

/// Number of inputs; 0 for null or while another thread uses the session.
///
/// # Safety
/// `session` is null or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_session_input_count(session: *const SparrowSession) -> u32 {
    // SAFETY: the caller's promise.
    let count = unsafe { session.as_ref() }.and_then(|s| lock(s).ok()).map_or(0, |s| s.input_count());
    count as u32
}

/// Number of outputs; 0 for null or while another thread uses the session.
///
/// # Safety
/// `session` is null or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_session_output_count(session: *const SparrowSession) -> u32 {
    // SAFETY: the caller's promise.
    let count = unsafe { session.as_ref() }.and_then(|s| lock(s).ok()).map_or(0, |s| s.output_count());
    count as u32
}

/// Input `index`: what it is, and where to write it. No copy is made.
///
/// # Safety
/// `session` is null or a session; `tensor` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_session_input(
    session: *const SparrowSession,
    index: usize,
    tensor: *mut SparrowTensor,
) -> SparrowStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        let mut session = lock(unsafe { shared(session, "session") }?)?;
        let bytes = session.input_bytes_mut(index)?;
        let (data, size) = (bytes.as_mut_ptr(), bytes.len());
        let info = describe(&session.input_tensor(index)?, data, size);
        // SAFETY: the caller's promise.
        unsafe { give(tensor, "tensor", info) }
    })
}

/// Output `index`: what it is, and where to read it after a run. No copy is made.
///
/// # Safety
/// `session` is null or a session; `tensor` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_session_output(
    session: *const SparrowSession,
    index: usize,
    tensor: *mut SparrowTensor,
) -> SparrowStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        let session = lock(unsafe { shared(session, "session") }?)?;
        let bytes = session.output_bytes(index)?;
        let info = describe(&session.output_tensor(index)?, bytes.as_ptr().cast_mut(), bytes.len());
        // SAFETY: the caller's promise.
        unsafe { give(tensor, "tensor", info) }
    })
}

/// Runs the entry point. Allocates nothing.
///
/// # Safety
/// `session` is null or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_session_run(session: *const SparrowSession) -> SparrowStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        let session = unsafe { shared(session, "session") }?;
        Ok(lock(session)?.run()?)
    })
}

/// Stops the run under way before its next operator, or else the next run at once: that run returns SPARROW_STATUS_CANCELLED.
/// May be called from any thread while the session lives.
///
/// # Safety
/// `session` is null or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_session_cancel(session: *const SparrowSession) -> SparrowStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { shared(session, "session") }?.canceller.cancel();
        Ok(())
    })
}

/// Runs the entry point and times its operators: writes the first `capacity` of them to `ops`, which may be null if that
/// is 0, and their number to `count`. Allocates.
///
/// # Safety
/// `session` is null or a session; `ops` is null or has room for `capacity`; `count` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_session_profile(
    session: *const SparrowSession,
    ops: *mut SparrowOpTime,
    capacity: usize,
    count: *mut usize,
) -> SparrowStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        let mut session = lock(unsafe { shared(session, "session") }?)?;
        if ops.is_null() && capacity > 0 {
            return Err(Failure::null("ops"));
        }
        let profile: Profile = session.profile()?;
        let view = session.model().view();
        for (i, op) in profile.ops.iter().enumerate().take(capacity) {
            let name = view.operator(op.index).map_or("", |operator| operator.name);
            let time = SparrowOpTime {
                name: SparrowText::of(name),
                op: SparrowText::of(op.op),
                kernel: SparrowText::of(op.kernel),
                nanoseconds: op.time.as_nanos() as u64,
            };
            // SAFETY: `i` is below `capacity`; the rest is the caller's promise.
            unsafe { ops.add(i).write(time) };
        }
        // SAFETY: the caller's promise.
        unsafe { give(count, "count", profile.ops.len()) }
    })
}

/// Ends a session. Null is let pass.
///
/// # Safety
/// `session` is null, or a session that has not been freed and that no thread is using.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sparrow_session_free(session: *mut SparrowSession) {
    if !session.is_null() {
        guard(|| {
            // SAFETY: made by `sparrow_session_new`; the caller frees it once.
            drop(unsafe { Box::from_raw(session) });
            Ok(())
        });
    }
}
