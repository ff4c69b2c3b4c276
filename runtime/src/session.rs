//! Running an entry point: a flat loop over operators, on memory the caller brings.
//!
//! A session borrows the model, the kernels and the arena. Making one and running it allocates nothing, and a run of a
//! validated model cannot fail but by being cancelled.

use crate::error::Error;
use crate::format::{ALIGN, IN_ARENA, TensorRecord};
use crate::model::{Entry, Model, Operator, Tensor};
use core::ops::{ControlFlow, Range};
use sparrow_kernels::{Call, DType, Input, Kernel, Kernels, Layout, Output};

/// Threads a host brings to share the work of one operator.
///
/// # Safety
/// Kernels write where their units say, unchecked: an implementation does what [`Threads::run`] says.
pub unsafe trait Threads {
    /// Calls `job` with ranges that together cover `0..units` exactly once, and returns when all have ended.
    fn run(&self, units: usize, job: &(dyn Fn(Range<usize>) + Sync));
}

/// No threads: the caller does all the work.
#[derive(Clone, Copy, Debug)]
pub struct OneThread;

// SAFETY: one range, which is all units.
unsafe impl Threads for OneThread {
    fn run(&self, units: usize, job: &(dyn Fn(Range<usize>) + Sync)) {
        job(0..units);
    }
}

/// What [`Session::run_with`] tells its observer.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// The operator that runs next.
    Begin(u32),
    /// The operator has ended, run by this kernel; its outputs can be read until a later one reuses their memory.
    End(u32, &'static Kernel),
}

/// An entry point with the memory it runs on.
#[derive(Debug)]
pub struct Session<'a> {
    model: Model<'a>,
    entry: Entry<'a>,
    kernels: &'a Kernels,
    arena: &'a mut [u8],
}

impl<'a> Session<'a> {
    /// A session of entry point `entry`, on an arena of at least [`Entry::arena_size`] bytes at a multiple of 64.
    ///
    /// # Errors
    /// [`Error::NoEntry`], [`Error::Arena`], or [`Error::NoKernel`] if the kernels do not cover an operator.
    pub fn new(model: Model<'a>, entry: u32, kernels: &'a Kernels, arena: &'a mut [u8]) -> Result<Self, Error> {
        let index = entry;
        let entry = model.entry(index).ok_or(Error::NoEntry(index))?;
        if arena.len() < entry.arena_size || !(arena.as_ptr() as usize).is_multiple_of(ALIGN) {
            return Err(Error::Arena { needed: entry.arena_size as u64, given: arena.len() as u64 });
        }
        let mut session = Self { model, entry, kernels, arena };
        for op in session.entry.op_range() {
            session.kernel(op).ok_or(Error::NoKernel(op))?;
        }
        Ok(session)
    }

    /// The model.
    pub fn model(&self) -> Model<'a> {
        self.model
    }

    /// The entry point.
    pub fn entry(&self) -> Entry<'a> {
        self.entry
    }

    /// The kernel that runs operator `op` of this entry point.
    pub fn kernel(&mut self, op: u32) -> Option<&'static Kernel> {
        let operator = self.model.operator(op)?;
        let kernels = self.kernels;
        kernels.select(&self.call(&operator))
    }

    /// Input tensor `i`. A run may reuse its memory: write every input before each run.
    pub fn input_tensor(&self, i: usize) -> Option<Tensor<'a>> {
        Some(self.model.tensor(*self.entry.inputs.get(i)?))
    }

    /// Output tensor `i`.
    pub fn output_tensor(&self, i: usize) -> Option<Tensor<'a>> {
        Some(self.model.tensor(*self.entry.outputs.get(i)?))
    }

    /// Where the elements of input `i` are written, in row-major order; empty if there is no such input.
    pub fn input_mut(&mut self, i: usize) -> &mut [u8] {
        let Some(tensor) = self.input_tensor(i) else { return &mut [] };
        let at = tensor.record.offset as usize;
        &mut self.arena[at..at + tensor.byte_len()]
    }

    /// The elements of output `i` after a run, in row-major order; empty if there is no such output.
    pub fn output(&self, i: usize) -> &[u8] {
        self.output_tensor(i).map_or(&[], |tensor| self.bytes(&tensor))
    }

    /// The elements of any tensor: inside an observer's [`Step::End`], those of the operator that ended.
    pub fn bytes(&self, tensor: &Tensor<'a>) -> &[u8] {
        match self.model.constant_bytes(tensor) {
            Some(bytes) => &bytes[..tensor.byte_len()],
            None => self
                .arena
                .get(tensor.record.offset as usize..)
                .and_then(|rest| rest.get(..tensor.byte_len()))
                .unwrap_or_default(),
        }
    }

    /// Runs the entry point on one thread.
    ///
    /// # Errors
    /// None for a session that could be made.
    pub fn run(&mut self) -> Result<(), Error> {
        self.run_with(&OneThread, &mut |_, _| ControlFlow::Continue(()))
    }

    /// Runs the entry point on `threads`; `observe` is told of every operator before and after it runs, and may stop
    /// the run there.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if the observer stopped it.
    pub fn run_with(
        &mut self,
        threads: &dyn Threads,
        observe: &mut dyn FnMut(&Self, Step) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let (entry, kernels) = (self.entry, self.kernels);
        for index in entry.op_range() {
            if observe(self, Step::Begin(index)).is_break() {
                return Err(Error::Cancelled);
            }
            let operator = self.model.operator(index).ok_or(Error::NoKernel(index))?;
            let call = self.call(&operator);
            let kernel = kernels.select(&call).ok_or(Error::NoKernel(index))?;
            threads.run((kernel.units)(&call), &|units| {
                // SAFETY: `Kernels` holds only kernels whose features the CPU has, `select` asked `accepts`, and
                // `Threads::run` hands out units below `units`, each once.
                unsafe { (kernel.run)(&call, units) }
            });
            if observe(self, Step::End(index, kernel)).is_break() {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    }

    /// The operator on this session's memory.
    fn call<'s>(&'s mut self, operator: &Operator<'s>) -> Call<'s> {
        let arena = self.arena.as_mut_ptr();
        let inputs = operator.inputs.map(|id| id.map(|id| self.input_at(arena, id)));
        let outputs = operator.outputs.map(|id| id.map(|id| self.output_at(arena, id)));
        // SAFETY: `Model::open` has checked a draft of this operator with these operands.
        unsafe { Call::new(operator.op, operator.params, inputs, outputs) }
    }

    fn input_at<'s>(&self, arena: *mut u8, id: u32) -> Input<'s>
    where
        'a: 's,
    {
        let tensor = self.model.tensor(id);
        let record: &TensorRecord = tensor.record;
        let bytes = match record.place {
            // SAFETY: the range lies inside the arena (`Model::open` compared it with the arena's size), and no output
            // of the same operator meets it. The borrow of `self` in `call` keeps the arena from being used otherwise.
            IN_ARENA => unsafe { core::slice::from_raw_parts(arena.add(record.offset as usize), record.size as usize) },
            _ => self.model.constant(record),
        };
        Input { dtype: tensor.dtype, layout: tensor.layout, bytes }
    }

    fn output_at<'s>(&self, arena: *mut u8, id: u32) -> Output<'s> {
        let tensor = self.model.tensor(id);
        let (offset, size) = (tensor.record.offset as usize, tensor.record.size as usize);
        debug_assert!(tensor.layout == Layout::Plain && DType::ALL.contains(&tensor.dtype));
        // SAFETY: as above; no other operand of the same operator meets the range.
        Output::new(tensor.dtype, unsafe { core::slice::from_raw_parts_mut(arena.add(offset), size) })
    }
}
