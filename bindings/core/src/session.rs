//! A session: an entry point of a model with its arena, kernels and threads.

use crate::error::Element;
use crate::{AlignedBytes, DType, Error, Features, Kernel, Kernels, Model, Pool, kernels};
use self_cell::{MutBorrow, self_cell};
use sparrow_runtime::{self as runtime, OneThread, Step, Threads};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How a session runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Threads, the caller's included.
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
    fn of(tensor: &runtime::Tensor) -> Self {
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
    /// Its name in the source network.
    pub name: String,
    /// What it computes.
    pub op: &'static str,
    /// The kernel that ran.
    pub kernel: &'static str,
    /// How long it took.
    pub time: Duration,
}

struct Owner {
    model: Model,
    kernels: Kernels,
    arena: MutBorrow<AlignedBytes>,
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
    /// [`runtime::Error::NoEntry`] and the like, or [`Error::Io`] if a thread cannot be started.
    pub fn new(model: &Model, options: &Options) -> Result<Self, Error> {
        let entry = model.view().entry(options.entry).ok_or(runtime::Error::NoEntry(options.entry))?;
        let arena = MutBorrow::new(AlignedBytes::zeroed(entry.arena_size));
        let owner = Owner { model: model.clone(), kernels: kernels(options.features), arena };
        let cell = Cell::try_new(owner, |owner| {
            runtime::Session::new(
                owner.model.view(),
                options.entry,
                &owner.kernels,
                owner.arena.borrow_mut().as_mut_slice(),
            )
        })?;
        let pool = match options.threads {
            0 | 1 => None,
            threads => Some(Pool::new(threads).map_err(|source| Error::Io { path: "a thread".into(), source })?),
        };
        Ok(Self { cell, pool })
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

    /// The elements of input `i`, row-major, for writing. A run may reuse their memory: write every input before each run.
    ///
    /// # Errors
    /// [`Error::NoTensor`], [`Error::Type`].
    pub fn input_mut<T: Element>(&mut self, index: usize) -> Result<&mut [T], Error> {
        let count = self.cell.with_dependent(|_, s| s.entry().inputs.len());
        let tensor = self.cell.with_dependent(|_, s| s.input_tensor(index).map(|t| TensorInfo::of(&t)));
        check::<T>("input", index, count, tensor)?;
        Ok(self.cell.with_dependent_mut(|_, session| bytemuck::cast_slice_mut(session.input_mut(index))))
    }

    /// The bytes of input `i`, whatever its type.
    ///
    /// # Errors
    /// [`Error::NoTensor`].
    pub fn input_bytes_mut(&mut self, index: usize) -> Result<&mut [u8], Error> {
        let count = self.cell.with_dependent(|_, s| s.entry().inputs.len());
        if index >= count {
            return Err(Error::NoTensor { role: "input", index, count });
        }
        Ok(self.cell.with_dependent_mut(|_, session| session.input_mut(index)))
    }

    /// The elements of output `i` after a run, row-major.
    ///
    /// # Errors
    /// [`Error::NoTensor`], [`Error::Type`].
    pub fn output<T: Element>(&self, index: usize) -> Result<&[T], Error> {
        let count = self.cell.with_dependent(|_, s| s.entry().outputs.len());
        let tensor = self.cell.with_dependent(|_, s| s.output_tensor(index).map(|t| TensorInfo::of(&t)));
        check::<T>("output", index, count, tensor)?;
        Ok(self.cell.with_dependent(|_, session| bytemuck::cast_slice(session.output(index))))
    }

    /// The bytes of output `i`, whatever its type.
    ///
    /// # Errors
    /// [`Error::NoTensor`].
    pub fn output_bytes(&self, index: usize) -> Result<&[u8], Error> {
        let count = self.cell.with_dependent(|_, s| s.entry().outputs.len());
        if index >= count {
            return Err(Error::NoTensor { role: "output", index, count });
        }
        Ok(self.cell.with_dependent(|_, session| session.output(index)))
    }

    /// Runs the entry point.
    ///
    /// # Errors
    /// None for a session that could be made.
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
        Ok(self
            .cell
            .with_dependent_mut(|_, session| session.run_with(threads, &mut |session, step| observe(session, step)))?)
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
                Step::Begin(..) => begun = Instant::now(),
                Step::End(index, kernel) => {
                    let time = begun.elapsed();
                    if let Some(operator) = session.model().operator(index) {
                        profile.ops.push(ProfiledOp {
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

fn check<T: Element>(role: &'static str, index: usize, count: usize, tensor: Option<TensorInfo>) -> Result<(), Error> {
    match tensor {
        None => Err(Error::NoTensor { role, index, count }),
        Some(info) if !T::is(info.dtype) => {
            Err(Error::Type { role, index, name: info.name, found: info.dtype.name(), asked: T::NAME })
        }
        Some(_) => Ok(()),
    }
}
