//! Sparrow for JavaScript hosts: what `sparrow.js` calls.
//!
//! An instance of this module holds one model and one session of it, so no handles are passed and none can be wrong:
//! closing a model means dropping its instance, which gives all of its memory back. The host has the file written straight
//! into the instance's memory, and everything a run or a description needs is made when the model is opened: from then on
//! the memory does not grow, and views of inputs and outputs stay valid.
//!
//! ```text
//! reserve(size) -> address      the host writes the file there
//! open(entry) -> error          0, or `sparrow::Error::number`; text() and text_len() say it in words
//! tensor_count(role)            0 inputs, 1 outputs
//! tensor(role, index) -> address of a `Described`
//! run() -> error                profile() the same, with the time of every operator at times()
//! operators()                   their number; text() then has a line each: operation, kernel, name
//! ```
#![cfg(target_arch = "wasm32")]

use sparrow::runtime::Step;
use sparrow::{AlignedBytes, Error, Model, Options, Session, TensorInfo};
use std::cell::RefCell;
use std::ops::ControlFlow;

/// Number of the error "there is not enough memory", beside those of [`Error::number`].
const NO_MEMORY: u32 = 200;
/// Number of the error "no model is open", which `sparrow.js` never brings about.
const NOT_OPEN: u32 = 201;

#[link(wasm_import_module = "host")]
unsafe extern "C" {
    /// Milliseconds of a clock that never goes back.
    safe fn now() -> f64;
}

/// A tensor as the host reads it: 32-bit words, addresses and lengths in bytes.
#[repr(C)]
pub struct Described {
    name: *const u8,
    name_len: usize,
    /// A `DType` number.
    dtype: u32,
    dims: *const usize,
    rank: usize,
    data: *const u8,
    data_len: usize,
    quantized: bool,
    scale: f32,
    zero: i32,
}

/// An open model.
struct Open {
    session: Session,
    /// Inputs and outputs. The first of a pair owns what the second points to.
    tensors: [Vec<(TensorInfo, Described)>; 2],
    /// Milliseconds of every operator in the last profiled run.
    times: Vec<f64>,
    operators: String,
}

#[derive(Default)]
struct State {
    file: AlignedBytes,
    open: Option<Open>,
    text: String,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// Whether so many bytes can be had. What is then allocated aborts where they cannot, and a file may ask for anything.
fn available(bytes: usize) -> bool {
    Vec::<u8>::new().try_reserve_exact(bytes.saturating_add(128)).is_ok()
}

fn describe(info: TensorInfo, data: &[u8]) -> (TensorInfo, Described) {
    let (scale, zero) = info.quantization.unwrap_or_default();
    let described = Described {
        name: info.name.as_ptr(),
        name_len: info.name.len(),
        dtype: info.dtype as u32,
        dims: info.dims.as_ptr(),
        rank: info.dims.len(),
        data: data.as_ptr(),
        data_len: data.len(),
        quantized: info.quantization.is_some(),
        scale,
        zero,
    };
    (info, described)
}

impl Open {
    fn new(file: AlignedBytes, entry: u32) -> Result<Self, Failure> {
        let model = Model::from_aligned(file)?;
        model.view().verify().map_err(Error::from)?;
        let arena = model.view().entry(entry).map_or(0, |entry| entry.arena_size);
        if !available(arena) {
            return Err(Failure::Memory(arena));
        }
        let mut session = Session::new(&model, &Options { entry, ..Options::default() })?;
        let mut tensors = [Vec::new(), Vec::new()];
        for (index, info) in session.inputs().into_iter().enumerate() {
            tensors[0].push(describe(info, session.input_bytes_mut(index)?));
        }
        for (index, info) in session.outputs().into_iter().enumerate() {
            tensors[1].push(describe(info, session.output_bytes(index)?));
        }
        let kernels = session.op_kernels();
        let range = model.view().entry(entry).map_or(0..0, |entry| entry.op_range());
        let mut operators = String::new();
        for operator in range.zip(&kernels).filter_map(|(op, kernel)| Some((model.view().operator(op)?, kernel))) {
            let (operator, kernel) = operator;
            operators += operator.op.name();
            operators.push('\t');
            operators += kernel.name;
            operators.push('\t');
            operators += &operator.name.replace('\n', " ");
            operators.push('\n');
        }
        Ok(Self { session, tensors, times: vec![0.0; kernels.len()], operators })
    }

    fn profile(&mut self) -> Result<(), Error> {
        let (mut begun, mut times) = (0.0, self.times.iter_mut());
        self.session.run_with(|_, step| {
            match step {
                Step::Begin(_) => begun = now(),
                Step::End(..) => times.next().into_iter().for_each(|time| *time = now() - begun),
            }
            ControlFlow::Continue(())
        })
    }
}

enum Failure {
    Sparrow(Error),
    Memory(usize),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Sparrow(error)
    }
}

/// Puts a result into words and a number.
fn told(text: &mut String, result: Result<(), Failure>) -> u32 {
    match result {
        Ok(()) => 0,
        Err(Failure::Sparrow(error)) => {
            *text = error.to_string();
            error.number()
        }
        Err(Failure::Memory(bytes)) => {
            *text = format!("there is no memory for the {bytes} bytes that a run needs");
            NO_MEMORY
        }
    }
}

/// Memory for a file of `size` bytes; null if there is not as much.
#[unsafe(no_mangle)]
pub extern "C" fn reserve(size: usize) -> *const u8 {
    if !available(size) {
        return std::ptr::null();
    }
    STATE.with_borrow_mut(|state| {
        state.file = AlignedBytes::zeroed(size);
        state.file.as_mut_slice().as_ptr()
    })
}

/// Opens the file written to [`reserve`]'s memory, checks every section's hash, and makes a session of `entry`.
#[unsafe(no_mangle)]
pub extern "C" fn open(entry: u32) -> u32 {
    STATE.with_borrow_mut(|state| {
        let opened = Open::new(std::mem::take(&mut state.file), entry);
        let result = opened.map(|opened| state.open = Some(opened));
        told(&mut state.text, result)
    })
}

/// The number of inputs (`role` 0) or outputs (1).
#[unsafe(no_mangle)]
pub extern "C" fn tensor_count(role: usize) -> usize {
    STATE.with_borrow(|state| state.open.as_ref().map_or(0, |open| open.tensors[role & 1].len()))
}

/// One of them; null if there is none with this number.
#[unsafe(no_mangle)]
pub extern "C" fn tensor(role: usize, index: usize) -> *const Described {
    STATE.with_borrow(|state| {
        let tensor = state.open.as_ref().and_then(|open| open.tensors[role & 1].get(index));
        tensor.map_or(std::ptr::null(), |(_, described)| described)
    })
}

/// Runs the session.
#[unsafe(no_mangle)]
pub extern "C" fn run() -> u32 {
    with_open(|open| open.session.run())
}

/// Runs the session and takes the time of every operator.
#[unsafe(no_mangle)]
pub extern "C" fn profile() -> u32 {
    with_open(Open::profile)
}

fn with_open(job: impl FnOnce(&mut Open) -> Result<(), Error>) -> u32 {
    STATE.with_borrow_mut(|state| match &mut state.open {
        Some(open) => told(&mut state.text, job(open).map_err(Failure::from)),
        None => NOT_OPEN,
    })
}

/// Milliseconds of every operator of the last profiled run.
#[unsafe(no_mangle)]
pub extern "C" fn times() -> *const f64 {
    STATE.with_borrow(|state| state.open.as_ref().map_or(std::ptr::null(), |open| open.times.as_ptr()))
}

/// The number of operators; [`text`] has a line each afterwards.
#[unsafe(no_mangle)]
pub extern "C" fn operators() -> usize {
    STATE.with_borrow_mut(|state| {
        let State { open: Some(open), text, .. } = state else { return 0 };
        *text = std::mem::take(&mut open.operators);
        open.times.len()
    })
}

/// The first byte of the text.
#[unsafe(no_mangle)]
pub extern "C" fn text() -> *const u8 {
    STATE.with_borrow(|state| state.text.as_ptr())
}

/// Its length in bytes.
#[unsafe(no_mangle)]
pub extern "C" fn text_len() -> usize {
    STATE.with_borrow(|state| state.text.len())
}
