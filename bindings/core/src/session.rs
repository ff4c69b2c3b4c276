//! A session: an entry point of a model with its arena, kernels and threads.

use crate::error::Element;
use crate::{AlignedBytes, DType, Error, Features, Kernel, Kernels, Model, Pool, kernels};
use self_cell::{MutBorrow, self_cell};
use sparrow_runtime::{self as runtime, OneThread, Step, Threads};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Most threads a session takes.
pub const MAX_THREADS: usize = 256;

/// How a session runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Threads, the caller's included; 0 is 1, [`MAX_THREADS`] the most.
    pub threads: usize,
    /// CPU features that may be used, as far as the CPU has them.
    pub features: Features,
    /// Number of the entry point.
    pub entry: u32,
}

impl Default for Options {
    /// One thread, every feature, the first entry point.
    fn default() -> Self {
        Self { threads: 1, features: Features(u32::MAX), entry: 0 }
    }
}

/// An input or output of a session.
#[derive(Clone, PartialEq, Debug)]
pub struct TensorInfo {
    /// Its name in the source network.
    pub name: String,
    /// Type of its elements.
    pub dtype: DType,
    /// Its dimensions.
    pub dims: Vec<usize>,
    /// Scale and zero point of a quantized one.
    pub quantization: Option<(f32, i32)>,
}

impl TensorInfo {
    pub(crate) fn of(tensor: &runtime::Tensor) -> Self {
        let dims = tensor.dims.iter().map(|&d| d as usize).collect();
        Self { name: tensor.name.to_owned(), dtype: tensor.dtype, dims, quantization: tensor.quantization }
    }
}

/// Time of every operator of one run.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// In the order they ran.
    pub ops: Vec<ProfiledOp>,
}

/// Time of one operator.
#[derive(Clone, Debug)]
pub struct ProfiledOp {
    /// Its number in the model.
    pub index: u32,
    /// Its name in the source network.
    pub name: String,
    /// What it computes.
    pub op: &'static str,
    /// The kernel that ran.
    pub kernel: &'static str,
    /// How long it took.
    pub time: Duration,
}

/// Memory a host brings for a session to run on.
pub type Arena = Box<dyn AsMut<[u8]> + Send>;

/// Stops a session's run from another thread.
///
/// A run under way ends before its next operator with [`runtime::Error::Cancelled`]; if none is under way, the next one
/// does so at once. One call stops one run.
///
/// ```
/// # fn example(mut session: sparrow::Session) -> Result<(), sparrow::Error> {
/// let canceller = session.canceller();
/// std::thread::spawn(move || {
///     std::thread::sleep(std::time::Duration::from_millis(50));
///     canceller.cancel();
/// });
/// match session.run() {
///     Err(error) if error.is_cancelled() => println!("took too long"),
///     other => other?,
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Canceller(Arc<AtomicBool>);

impl Canceller {
    /// Asks the run to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether to stop; asking takes the request back.
    fn take(&self) -> bool {
        // A load alone on the way that is taken every time.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

struct Owner {
    model: Model,
    kernels: Kernels,
    arena: MutBorrow<Arena>,
}

type Running<'a> = runtime::Session<'a>;

self_cell!(
    struct Cell {
        owner: Owner,
        #[not_covariant]
        dependent: Running,
    }
);

/// An entry point ready to run. One thread uses it at a time; threads of their own make sessions of their own.
pub struct Session {
    cell: Cell,
    pool: Option<Pool>,
    canceller: Canceller,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl Session {
    /// A session of `model`; allocates its arena and starts its threads.
    ///
    /// # Errors
    /// [`runtime::Error::NoEntry`] and the like, [`Error::Threads`], or [`Error::Thread`] if one cannot be started.
    pub fn new(model: &Model, options: &Options) -> Result<Self, Error> {
        let entry = model.view().entry(options.entry).ok_or(runtime::Error::NoEntry(options.entry))?;
        Self::with_arena(model, options, Box::new(AlignedBytes::zeroed(entry.arena_size)))
    }

    /// A session that runs on memory of the host's: at least [`EntryInfo::arena_size`](crate::EntryInfo) bytes that begin
    /// at a multiple of 64.
    ///
    /// # Errors
    /// As [`Session::new`], and [`runtime::Error::Arena`].
    pub fn with_arena(model: &Model, options: &Options, arena: Arena) -> Result<Self, Error> {
        if options.threads > MAX_THREADS {
            return Err(Error::Threads(options.threads));
        }
        let arena = MutBorrow::new(arena);
        let owner = Owner { model: model.clone(), kernels: kernels(options.features), arena };
        let cell = Cell::try_new(owner, |owner| {
            runtime::Session::new(
                owner.model.view(),
                options.entry,
                &owner.kernels,
                owner.arena.borrow_mut().as_mut().as_mut(),
            )
        })?;
        let pool = match options.threads {
            0 | 1 => None,
            threads => Some(Pool::new(threads).map_err(Error::Thread)?),
        };
        Ok(Self { cell, pool, canceller: Canceller::default() })
    }

    /// What stops this session's runs from another thread.
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.cell.borrow_owner().model
    }

    /// Bytes of its arena.
    pub fn arena_size(&self) -> usize {
        self.cell.with_dependent(|_, session| session.entry().arena_size)
    }

    /// The inputs.
    pub fn inputs(&self) -> Vec<TensorInfo> {
        self.cell.with_dependent(|_, s| {
            (0..s.entry().inputs.len()).filter_map(|i| s.input_tensor(i)).map(|t| TensorInfo::of(&t)).collect()
        })
    }

    /// The outputs.
    pub fn outputs(&self) -> Vec<TensorInfo> {
        self.cell.with_dependent(|_, s| {
            (0..s.entry().outputs.len()).filter_map(|i| s.output_tensor(i)).map(|t| TensorInfo::of(&t)).collect()
        })
    }

    /// The kernel of every operator, in the order they run.
    pub fn op_kernels(&mut self) -> Vec<&'static Kernel> {
        self.cell.with_dependent_mut(|_, s| s.entry().op_range().filter_map(|op| s.kernel(op)).collect())
    }

    /// Number of inputs.
    pub fn input_count(&self) -> usize {
        self.cell.with_dependent(|_, s| s.entry().inputs.len())
    }

    /// Number of outputs.
    pub fn output_count(&self) -> usize {
        self.cell.with_dependent(|_, s| s.entry().outputs.len())
    }

    /// Input `i` as it stands in the model.
    ///
    /// # Errors
    /// [`Error::NoTensor`].
    pub fn input_tensor(&self, index: usize) -> Result<runtime::Tensor<'_>, Error> {
        let count = self.input_count();
        let tensor = self.cell.with_dependent(|_, s| s.input_tensor(index));
        tensor.ok_or(Error::NoTensor { role: "input", index, count })
    }

    /// Output `i` as it stands in the model.
    ///
    /// # Errors
    /// [`Error::NoTensor`].
    pub fn output_tensor(&self, index: usize) -> Result<runtime::Tensor<'_>, Error> {
        let count = self.output_count();
        let tensor = self.cell.with_dependent(|_, s| s.output_tensor(index));
        tensor.ok_or(Error::NoTensor { role: "output", index, count })
    }

    /// The elements of input `i`, row-major, for writing: a view of the arena. A run may reuse their memory: write every
    /// input before each run.
    ///
    /// # Errors
    /// [`Error::NoTensor`], [`Error::Type`].
    pub fn input_mut<T: Element>(&mut self, index: usize) -> Result<&mut [T], Error> {
        check::<T>("input", index, &self.input_tensor(index)?)?;
        Ok(bytemuck::cast_slice_mut(self.input_bytes_mut(index)?))
    }

    /// The bytes of input `i`, whatever its type.
    ///
    /// # Errors
    /// [`Error::NoTensor`].
    pub fn input_bytes_mut(&mut self, index: usize) -> Result<&mut [u8], Error> {
        self.input_tensor(index)?;
        Ok(self.cell.with_dependent_mut(|_, session| session.input_mut(index)))
    }

    /// The elements of output `i` after a run, row-major: a view of the arena.
    ///
    /// # Errors
    /// [`Error::NoTensor`], [`Error::Type`].
    pub fn output<T: Element>(&self, index: usize) -> Result<&[T], Error> {
        check::<T>("output", index, &self.output_tensor(index)?)?;
        Ok(bytemuck::cast_slice(self.output_bytes(index)?))
    }

    /// The bytes of output `i`, whatever its type.
    ///
    /// # Errors
    /// [`Error::NoTensor`].
    pub fn output_bytes(&self, index: usize) -> Result<&[u8], Error> {
        self.output_tensor(index)?;
        Ok(self.cell.with_dependent(|_, session| session.output(index)))
    }

    /// Runs the entry point. Allocates nothing.
    ///
    /// # Errors
    /// [`runtime::Error::Cancelled`] if a [`Canceller`] stopped it.
    pub fn run(&mut self) -> Result<(), Error> {
        self.run_with(|_, _| ControlFlow::Continue(()))
    }

    /// Runs the entry point; `observe` is told of every operator before and after it, and may stop the run there.
    ///
    /// # Errors
    /// [`runtime::Error::Cancelled`] if it did.
    pub fn run_with(
        &mut self,
        mut observe: impl FnMut(&runtime::Session, Step) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let threads: &dyn Threads = self.pool.as_ref().map_or(&OneThread, |pool| pool);
        let canceller = &self.canceller;
        let mut step = |session: &runtime::Session, step| {
            if canceller.take() { ControlFlow::Break(()) } else { observe(session, step) }
        };
        Ok(self.cell.with_dependent_mut(|_, session| session.run_with(threads, &mut step))?)
    }

    /// Runs the entry point and times every operator.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn profile(&mut self) -> Result<Profile, Error> {
        let mut profile = Profile::default();
        let mut begun = Instant::now();
        self.run_with(|session, step| {
            match step {
                Step::Begin(_) => begun = Instant::now(),
                Step::End(index, kernel) => {
                    let time = begun.elapsed();
                    if let Some(operator) = session.model().operator(index) {
                        profile.ops.push(ProfiledOp {
                            index,
                            name: operator.name.to_owned(),
                            op: operator.op.name(),
                            kernel: kernel.name,
                            time,
                        });
                    }
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(profile)
    }
}

fn check<T: Element>(role: &'static str, index: usize, tensor: &runtime::Tensor) -> Result<(), Error> {
    if T::is(tensor.dtype) {
        return Ok(());
    }
    Err(Error::Type { role, index, name: tensor.name.to_owned(), found: tensor.dtype.name(), asked: T::NAME })
}
