//! Status numbers, and the text of a thread's last error.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// 0, or why a call failed. Numbers never change.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SparrowStatus {
    /// It worked.
    Ok = 0,
    /// The bytes are not a Sparrow file.
    NotSparrow = 1,
    /// The file has a format version this build does not read.
    Version = 2,
    /// The file is shorter or longer than its header says.
    Size = 3,
    /// The file's header contradicts itself.
    Header = 4,
    /// Bytes in memory do not begin at a multiple of 64.
    Alignment = 5,
    /// A section of the file is missing.
    SectionMissing = 6,
    /// A section of the file lies where it must not.
    Section = 7,
    /// A section of the file is not known to this build.
    SectionUnknown = 8,
    /// A part of the file has been altered.
    Hash = 9,
    /// A tensor of the file is invalid.
    Tensor = 10,
    /// A weight encoding is not known to this build.
    Layout = 11,
    /// An operator is not known to this build.
    Operator = 12,
    /// An operator of the file is invalid.
    Op = 13,
    /// An operator's parameters do not fit its operands.
    Refused = 14,
    /// An entry point of the file is invalid.
    Entry = 15,
    /// There is no entry point with this number.
    NoEntry = 16,
    /// The arena is too small or does not begin at a multiple of 64.
    Arena = 17,
    /// The run was cancelled.
    Cancelled = 18,
    /// No kernel takes an operator.
    NoKernel = 19,
    /// The file cannot be read.
    Io = 100,
    /// There is no input or output with this number.
    NoTensor = 101,
    /// A tensor holds elements of another type.
    Type = 102,
    /// The system refused a thread.
    Thread = 103,
    /// Too many threads were asked for.
    Threads = 104,
    /// An argument that must not be null is.
    Null = 200,
    /// An argument has no meaning.
    Argument = 201,
    /// Another thread is using the session.
    Busy = 202,
    /// A fault inside Sparrow; the session, if one was given, must not be used again but freed.
    Panic = 203,
}

impl SparrowStatus {
    const ALL: [Self; 29] = [
        Self::Ok,
        Self::NotSparrow,
        Self::Version,
        Self::Size,
        Self::Header,
        Self::Alignment,
        Self::SectionMissing,
        Self::Section,
        Self::SectionUnknown,
        Self::Hash,
        Self::Tensor,
        Self::Layout,
        Self::Operator,
        Self::Op,
        Self::Refused,
        Self::Entry,
        Self::NoEntry,
        Self::Arena,
        Self::Cancelled,
        Self::NoKernel,
        Self::Io,
        Self::NoTensor,
        Self::Type,
        Self::Thread,
        Self::Threads,
        Self::Null,
        Self::Argument,
        Self::Busy,
        Self::Panic,
    ];

    fn of(error: &sparrow::Error) -> Self {
        let number = error.number() as i32;
        Self::ALL.into_iter().find(|status| *status as i32 == number).unwrap_or(Self::Panic)
    }
}

/// Why a call failed, before it is split into number and text.
pub(crate) struct Failure {
    status: SparrowStatus,
    text: String,
}

impl Failure {
    pub fn new(status: SparrowStatus, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// A null argument.
    pub fn null(argument: &str) -> Self {
        Self::new(SparrowStatus::Null, format!("'{argument}' is null"))
    }
}

impl From<sparrow::Error> for Failure {
    fn from(error: sparrow::Error) -> Self {
        Self::new(SparrowStatus::of(&error), error.to_string())
    }
}

thread_local! {
    static LAST: RefCell<Option<CString>> = const { RefCell::new(None) };
}

fn remember(text: String) {
    let text = text.replace('\0', " ");
    // A thread that is ending has nowhere to keep it, and nobody to ask for it.
    let _ = LAST.try_with(|last| last.replace(CString::new(text).ok()));
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown")
}

/// Runs the body of an exported function: keeps its error's text, stops its panics.
pub(crate) fn guard(body: impl FnOnce() -> Result<(), Failure>) -> SparrowStatus {
    // What a panic leaves behind is not looked at: a session's lock is poisoned, and says so from then on.
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return SparrowStatus::Ok,
        Ok(Err(failure)) => failure,
        Err(panic) => Failure::new(SparrowStatus::Panic, format!("a fault inside Sparrow: {}", panic_text(&*panic))),
    };
    remember(failure.text);
    failure.status
}

/// Borrows what a pointer points to.
///
/// # Safety
/// It is null, or points to a `T` that nobody changes while the result lives.
pub(crate) unsafe fn shared<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| Failure::null(name))
}

/// Writes a result.
///
/// # Safety
/// The pointer is null or valid for writing a `T`.
pub(crate) unsafe fn give<T>(pointer: *mut T, name: &str, value: T) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::null(name));
    }
    // SAFETY: not null, and so valid by the caller's promise.
    unsafe { pointer.write(value) };
    Ok(())
}

/// Borrows a string.
///
/// # Safety
/// It is null, or ends in NUL and lives as long as the result.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a CStr, Failure> {
    if pointer.is_null() {
        return Err(Failure::null(name));
    }
    // SAFETY: not null, and so a string by the caller's promise.
    Ok(unsafe { CStr::from_ptr(pointer) })
}

/// What failed last on this thread, in words; empty if nothing has. Valid until this thread's next failing call.
#[unsafe(no_mangle)]
pub extern "C" fn sparrow_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ref().map_or(c"".as_ptr(), |text| text.as_ptr())).unwrap_or(c"".as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> String {
        // SAFETY: a string that lives until the next error of this thread.
        unsafe { CStr::from_ptr(sparrow_last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn panics_become_a_status_and_a_text() {
        assert_eq!(guard(|| panic!("at {}", 7)), SparrowStatus::Panic);
        assert_eq!(last(), "a fault inside Sparrow: at 7");
        assert_eq!(guard(|| Err(Failure::null("model"))), SparrowStatus::Null);
        assert_eq!(last(), "'model' is null");
        assert_eq!(guard(|| Ok(())), SparrowStatus::Ok);
    }

    #[test]
    fn every_number_of_the_api_has_its_status() {
        use sparrow::runtime::{Error as Runtime, Fault};
        let fault = Fault::Name;
        let runtime = [
            Runtime::NotSparrow,
            Runtime::Version(0),
            Runtime::Size { expected: 0, found: 0 },
            Runtime::Header,
            Runtime::Alignment,
            Runtime::SectionMissing(*b"TENS"),
            Runtime::Section(*b"TENS"),
            Runtime::SectionUnknown(*b"TENS"),
            Runtime::Hash(*b"TENS"),
            Runtime::Tensor { index: 0, fault },
            Runtime::Layout { index: 0, layout: 0 },
            Runtime::Operator { index: 0, op: 0 },
            Runtime::Op { index: 0, fault },
            Runtime::Entry { index: 0, fault },
            Runtime::NoEntry(0),
            Runtime::Arena { needed: 0, given: 0 },
            Runtime::Cancelled,
            Runtime::NoKernel(0),
        ];
        let io = || std::io::Error::other("test");
        let own = [
            sparrow::Error::Io { path: "x".into(), source: io() },
            sparrow::Error::NoTensor { role: "input", index: 0, count: 0 },
            sparrow::Error::Type { role: "input", index: 0, name: String::new(), found: "f32", asked: "i8" },
            sparrow::Error::Thread(io()),
            sparrow::Error::Threads(300),
        ];
        for error in runtime.map(sparrow::Error::Runtime).into_iter().chain(own) {
            let status = SparrowStatus::of(&error);
            assert_eq!(status as u32, error.number(), "{error}");
            assert_ne!(status, SparrowStatus::Panic, "{error}");
        }
    }
}
