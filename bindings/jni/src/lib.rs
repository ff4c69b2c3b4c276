//! The native half of the Java API: the methods of `dev.sparrow.Native`.
//!
//! The Java classes keep the promises on which handles rest: a handle is passed on only between its making and its
//! freeing, and a session is used by one thread at a time (`Session.java` holds a lock). [`guard`] turns errors and panics
//! into Java exceptions. A session runs on a direct `ByteBuffer` that Java allocates, and holds a reference to it; the
//! views users write and read are slices of it, so even one that outlives its session is memory that exists.

mod objects;

use jni::JNIEnv;
use jni::objects::{GlobalRef, JByteBuffer, JClass, JObject, JObjectArray, JString, JThrowable, JValue};
use jni::sys::{jboolean, jint, jlong};
use sparrow::{Canceller, Features, Model, Options, Session};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

/// A failure as Java is to see it.
enum Failure {
    /// An exception is already on its way.
    Pending,
    Sparrow(sparrow::Error),
    Panic,
}

impl From<sparrow::Error> for Failure {
    fn from(error: sparrow::Error) -> Self {
        Self::Sparrow(error)
    }
}

impl From<jni::errors::Error> for Failure {
    /// What the JVM refuses comes with an exception of its own, but for faults that a correct class does not make.
    fn from(error: jni::errors::Error) -> Self {
        match error {
            jni::errors::Error::JavaException => Self::Pending,
            _ => Self::Panic,
        }
    }
}

/// Number of [`Failure::Panic`], as in the C interface.
const PANIC: i32 = 203;

fn throw(env: &mut JNIEnv, failure: &Failure) -> jni::errors::Result<()> {
    let (text, number) = match failure {
        Failure::Pending => return Ok(()),
        Failure::Sparrow(error) => (error.to_string(), error.number() as i32),
        Failure::Panic => ("a fault inside Sparrow; close the session".to_owned(), PANIC),
    };
    match number {
        16 | 104 => return env.throw_new("java/lang/IllegalArgumentException", text),
        100 => return env.throw_new("java/io/IOException", text),
        101 => return env.throw_new("java/lang/IndexOutOfBoundsException", text),
        _ => {}
    }
    let class = match number {
        1..=15 => "dev/sparrow/ModelException",
        18 => "dev/sparrow/CancelledException",
        _ => "dev/sparrow/SparrowException",
    };
    let text = env.new_string(text)?;
    let exception = env.new_object(class, "(Ljava/lang/String;I)V", &[JValue::from(&text), JValue::Int(number)])?;
    env.throw(JThrowable::from(exception))
}

/// Runs a method's body; what fails becomes an exception, and `otherwise` the result that Java does not see.
fn guard<'local, R>(
    env: &mut JNIEnv<'local>,
    otherwise: R,
    body: impl FnOnce(&mut JNIEnv<'local>) -> Result<R, Failure>,
) -> R {
    let failure = match catch_unwind(AssertUnwindSafe(|| body(env))) {
        Ok(Ok(result)) => return result,
        Ok(Err(failure)) => failure,
        Err(_) => Failure::Panic,
    };
    if throw(env, &failure).is_err() {
        // Not even the exception's class can be loaded; the JVM has an error of its own pending that says so.
        let _ = env.exception_check();
    }
    otherwise
}

/// A session with what it needs of Java.
struct Running {
    session: Mutex<Session>,
    canceller: Canceller,
    /// First byte of the arena's buffer, from which Java counts.
    base: usize,
}

/// The arena: memory of a direct buffer, which the reference keeps alive.
struct Lent {
    start: *mut u8,
    len: usize,
    _buffer: GlobalRef,
}

// SAFETY: the memory belongs to the one session that holds this; the reference may be dropped on any thread.
unsafe impl Send for Lent {}

impl AsMut<[u8]> for Lent {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: inside the buffer, which lives as long as `_buffer`. Java writes into it between runs only, while no
        // slice of it is in use.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl Lent {
    /// The part of the buffer that begins at a multiple of 64.
    fn new(env: &JNIEnv, buffer: &JByteBuffer) -> Result<(Self, usize), Failure> {
        let base = env.get_direct_buffer_address(buffer)?;
        let size = env.get_direct_buffer_capacity(buffer)?;
        let skipped = base.align_offset(64).min(size);
        let buffer = env.new_global_ref(buffer)?;
        // SAFETY: `skipped` is at most the buffer's size.
        let start = unsafe { base.add(skipped) };
        Ok((Self { start, len: size - skipped, _buffer: buffer }, base as usize))
    }
}

fn to_handle<T>(value: T) -> jlong {
    Box::into_raw(Box::new(value)) as jlong
}

/// What a handle stands for.
///
/// # Safety
/// It was made by `to_handle::<T>` and has not been freed, nor will be during `'a`.
unsafe fn at<'a, T>(handle: jlong) -> &'a T {
    // SAFETY: the caller's promise.
    unsafe { &*(handle as *const T) }
}

/// Ends what a handle stands for.
///
/// # Safety
/// It was made by `to_handle::<T>` and has not been freed; nobody uses it.
unsafe fn free<T>(env: &mut JNIEnv, handle: jlong) {
    guard(env, (), |_| {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(handle as *mut T) });
        Ok(())
    });
}

fn running(handle: jlong) -> &'static Running {
    // SAFETY: `Session.java` passes a handle only between making and freeing it.
    unsafe { at(handle) }
}

fn with<R>(handle: jlong, body: impl FnOnce(&mut Session, usize) -> Result<R, Failure>) -> Result<R, Failure> {
    let running = running(handle);
    // Java's lock admits one thread; a poisoned lock is a session that has panicked.
    let mut session = running.session.try_lock().map_err(|_| Failure::Panic)?;
    body(&mut session, running.base)
}

/// `long modelOpen(String path) throws IOException`
#[unsafe(no_mangle)]
extern "system" fn Java_dev_sparrow_Native_modelOpen(mut env: JNIEnv, _: JClass, path: JString) -> jlong {
    guard(&mut env, 0, |env| {
        let path: String = env.get_string(&path)?.into();
        Ok(to_handle(Model::open(path)?))
    })
}

/// `long modelFromBuffer(ByteBuffer bytes, int offset, int size)`: a direct buffer, and which part of it.
#[unsafe(no_mangle)]
extern "system" fn Java_dev_sparrow_Native_modelFromBuffer(
    mut env: JNIEnv,
    _: JClass,
    bytes: JByteBuffer,
    offset: jint,
    size: jint,
) -> jlong {
    guard(&mut env, 0, |env| {
        let start = env.get_direct_buffer_address(&bytes)?;
        // SAFETY: the buffer is as long as it says, and the caller keeps it unchanged during this call.
        let all = unsafe { std::slice::from_raw_parts(start, env.get_direct_buffer_capacity(&bytes)?) };
        let part = all.get(offset as usize..).and_then(|rest| rest.get(..size as usize)).ok_or(Failure::Panic)?;
        Ok(to_handle(Model::from_bytes(part)?))
    })
}

/// `void modelVerify(long model)`
#[unsafe(no_mangle)]
extern "system" fn Java_dev_sparrow_Native_modelVerify(mut env: JNIEnv, _: JClass, model: jlong) {
    // SAFETY: `Model.java` passes a handle only between making and freeing it.
    guard(&mut env, (), |_| Ok(unsafe { at::<Model>(model) }.verify()?));
}

/// `Entry[] modelEntries(long model)`
#[unsafe(no_mangle)]
extern "system" fn Java_dev_sparrow_Native_modelEntries<'local>(
    mut env: JNIEnv<'local>,
    _: JClass<'local>,
    model: jlong,
) -> JObjectArray<'local> {
    guard(&mut env, JObjectArray::from(JObject::null()), |env| {
        // SAFETY: as above.
        objects::entries(env, &unsafe { at::<Model>(model) }.entries())
    })
}

/// `void modelFree(long model)`
#[unsafe(no_mangle)]
extern "system" fn Java_dev_sparrow_Native_modelFree(mut env: JNIEnv, _: JClass, model: jlong) {
    // SAFETY: `Model.java` frees a handle once.
    unsafe { free::<Model>(&mut env, model) };
}

/// `long sessionNew(long model, int threads, int withoutFeatures, int entry, ByteBuffer arena)`
#[unsafe(no_mangle)]
extern "system" fn Java_dev_sparrow_Native_sessionNew(
    mut env: JNIEnv,
    _: JClass,
    model: jlong,
    threads: jint,
    without: jint,
    entry: jint,
    arena: JByteBuffer,
) -> jlong {
    guard(&mut env, 0, |env| {
        // SAFETY: as above.
        let model = unsafe { at::<Model>(model) };
        let (lent, base) = Lent::new(env, &arena)?;
        // A negative number is more than any limit.
        let threads = usize::try_from(threads).unwrap_or(usize::MAX);
        let options = Options { threads, features: Features(!(without as u32)), entry: entry as u32 };
        let session = Session::with_arena(model, &options, Box::new(lent))?;
        let canceller = session.canceller();
        Ok(to_handle(Running { session: Mutex::new(session), canceller, base }))
    })
}

/// `long sessionOffset(long session, boolean output, int index)`: where in the arena's buffer the tensor begins.
#[unsafe(no_mangle)]
extern "system" fn Java_dev_sparrow_Native_sessionOffset(
    mut env: JNIEnv,
    _: JClass,
    session: jlong,
    output: jboolean,
    index: jint,
) -> jlong {
    guard(&mut env, 0, |_| {
        with(session, |session, base| {
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            let bytes = if output == 0 { &*session.input_bytes_mut(index)? } else { session.output_bytes(index)? };
            Ok((bytes.as_ptr() as usize - base) as jlong)
        })
    })
}

/// `void sessionRun(long session)`
#[unsafe(no_mangle)]
extern "system" fn Java_dev_sparrow_Native_sessionRun(mut env: JNIEnv, _: JClass, session: jlong) {
    guard(&mut env, (), |_| with(session, |session, _| Ok(session.run()?)));
}

/// `void sessionCancel(long session)`
#[unsafe(no_mangle)]
extern "system" fn Java_dev_sparrow_Native_sessionCancel(_: JNIEnv, _: JClass, session: jlong) {
    running(session).canceller.cancel();
}

/// `OpTime[] sessionProfile(long session)`
#[unsafe(no_mangle)]
extern "system" fn Java_dev_sparrow_Native_sessionProfile<'local>(
    mut env: JNIEnv<'local>,
    _: JClass<'local>,
    session: jlong,
) -> JObjectArray<'local> {
    guard(&mut env, JObjectArray::from(JObject::null()), |env| {
        let profile = with(session, |session, _| Ok(session.profile()?))?;
        objects::times(env, &profile.ops)
    })
}

/// `void sessionFree(long session)`
#[unsafe(no_mangle)]
extern "system" fn Java_dev_sparrow_Native_sessionFree(mut env: JNIEnv, _: JClass, session: jlong) {
    // SAFETY: `Session.java` frees a handle once, while it holds the session's lock.
    unsafe { free::<Running>(&mut env, session) };
}

/// `int cpuFeatures()`
#[unsafe(no_mangle)]
extern "system" fn Java_dev_sparrow_Native_cpuFeatures(_: JNIEnv, _: JClass) -> jint {
    sparrow::detect().0 as jint
}

/// `int feature(String name)`: its bit, 0 if there is none of this name.
#[unsafe(no_mangle)]
extern "system" fn Java_dev_sparrow_Native_feature(mut env: JNIEnv, _: JClass, name: JString) -> jint {
    guard(&mut env, 0, |env| {
        let name: String = env.get_string(&name)?.into();
        Ok(Features::by_name(&name).map_or(0, |feature| feature.0) as jint)
    })
}
