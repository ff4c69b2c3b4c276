//! The unit between runtime and kernels: a [`Call`] (one operator with its operands) and a [`Kernel`] that runs it.
//!
//! A call is made from [`Signature`]s, which hold all that can be known before memory exists. [`check`] proves once, when
//! a model is opened, that parameters and operands fit together and that every address a kernel forms lies inside its
//! operands. After that kernels trust the call. One catalogue slice (`&[Kernel]`) per instruction set feeds dispatch,
//! tests and benchmarks; [`Kernels`] overlays the catalogues a CPU can run on the scalar one.

use crate::{DType, Features, Layout, MAX_INPUTS, MAX_OUTPUTS, Op, ops};
use bytemuck::Pod;
use core::marker::PhantomData;
use core::ops::Range;

/// What is known of an operand before it has a place in memory.
#[derive(Clone, Copy, Debug)]
pub struct Signature<'a> {
    /// Type of its elements.
    pub dtype: DType,
    /// How its bytes are ordered; [`Layout::Plain`] for all but packed weights.
    pub layout: Layout,
    /// Bytes a kernel may touch: the tensor's own and the slack behind it.
    pub len: usize,
    /// The bytes of an operand that is validated by content (the index of a sparse layout), else empty.
    pub content: &'a [u8],
}

/// Why a call was refused. The numbers never change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Refusal {
    /// The parameter block has another size than the operator's.
    ParameterSize = 1,
    /// A parameter is outside its range.
    Parameter = 2,
    /// An operand that must be there is missing, or one too many is there.
    OperandCount = 3,
    /// An operand has an element type the operator does not take.
    OperandType = 4,
    /// An operand has a layout the operator does not take.
    OperandLayout = 5,
    /// The operator would read or write outside an operand.
    OutOfBounds = 6,
    /// The index of a sparse layout is not strictly increasing, or points outside.
    Index = 7,
    /// A product of sizes overflows.
    Overflow = 8,
}

/// One operator with the signatures of its operands.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// The operator.
    pub op: Op,
    /// Its parameter block.
    pub params: &'a [u8],
    /// Its inputs; absent optional ones are `None`.
    pub inputs: [Option<Signature<'a>>; MAX_INPUTS],
    /// Its outputs.
    pub outputs: [Option<Signature<'a>>; MAX_OUTPUTS],
}

impl<'a> Draft<'a> {
    /// The parameter block as the operator's struct.
    pub fn params<P: Pod>(&self) -> Result<&'a P, Refusal> {
        bytemuck::try_from_bytes(self.params).map_err(|_| Refusal::ParameterSize)
    }

    /// Input `i`, which must be there.
    pub fn input(&self, i: usize) -> Result<&Signature<'a>, Refusal> {
        self.inputs[i].as_ref().ok_or(Refusal::OperandCount)
    }

    /// Output `i`, which must be there.
    pub fn output(&self, i: usize) -> Result<&Signature<'a>, Refusal> {
        self.outputs[i].as_ref().ok_or(Refusal::OperandCount)
    }

    /// Refuses operands other than the first `inputs` and `outputs`.
    pub fn at_most(&self, inputs: usize, outputs: usize) -> Result<(), Refusal> {
        let extra =
            self.inputs[inputs..].iter().any(Option::is_some) || self.outputs[outputs..].iter().any(Option::is_some);
        if extra { Err(Refusal::OperandCount) } else { Ok(()) }
    }
}

impl Signature<'_> {
    /// Refuses an operand that is not plain, not of one of these types, or holds fewer than `count` elements.
    pub fn expect(&self, dtypes: &[DType], count: usize) -> Result<(), Refusal> {
        if self.layout != Layout::Plain {
            return Err(Refusal::OperandLayout);
        }
        if !dtypes.contains(&self.dtype) {
            return Err(Refusal::OperandType);
        }
        let bytes = count.checked_mul(self.dtype.size()).ok_or(Refusal::Overflow)?;
        if bytes > self.len { Err(Refusal::OutOfBounds) } else { Ok(()) }
    }
}

/// Product of sizes, refused when it overflows or exceeds `isize::MAX`.
pub fn product(sizes: &[u32]) -> Result<usize, Refusal> {
    let total = sizes.iter().try_fold(1usize, |total, &size| total.checked_mul(size as usize));
    total.filter(|&total| total <= isize::MAX as usize / 8).ok_or(Refusal::Overflow)
}

/// Proves that a kernel of this operator may run with these parameters and operands: types and layouts are ones it
/// takes, sizes do not overflow, and every element it reads or writes lies inside an operand.
pub fn check(draft: &Draft) -> Result<(), Refusal> {
    ops::check(draft)
}

/// Bytes read by a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Type of the elements.
    pub dtype: DType,
    /// How the bytes are ordered.
    pub layout: Layout,
    /// The bytes; 64-byte aligned.
    pub bytes: &'a [u8],
}

impl<'a> Input<'a> {
    /// The bytes as elements; those of a last partial element are left out.
    pub fn as_slice<T: Pod>(&self) -> &'a [T] {
        let size = size_of::<T>();
        bytemuck::cast_slice(&self.bytes[..self.bytes.len() / size * size])
    }
}

/// Bytes written by a kernel. Several threads may hold the same output; each writes only its units' part.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// Type of the elements.
    pub dtype: DType,
    ptr: *mut u8,
    len: usize,
    life: PhantomData<&'a mut [u8]>,
}

// SAFETY: an `Output` is a mutable borrow whose parts are handed out by `Kernel::run`, whose contract is that calls that
// run at the same time have disjoint units, and so write disjoint parts.
unsafe impl Send for Output<'_> {}
// SAFETY: as above.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// An output over `bytes`, which are 64-byte aligned.
    pub fn new(dtype: DType, bytes: &'a mut [u8]) -> Self {
        Self { dtype, ptr: bytes.as_mut_ptr(), len: bytes.len(), life: PhantomData }
    }

    /// First byte.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.ptr
    }

    /// Number of bytes.
    pub fn byte_len(&self) -> usize {
        self.len
    }

    /// Elements `range` for writing. Panics if they lie outside.
    ///
    /// # Safety
    /// No other reference to these elements lives as long as the result: the caller's units own them.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice<T: Pod>(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len / size_of::<T>(), "output range");
        assert!(self.ptr.cast::<T>().is_aligned(), "output alignment");
        // SAFETY: inside the borrowed bytes and aligned, as asserted; unaliased by the caller's promise; `T: Pod`
        // accepts any bits.
        unsafe { core::slice::from_raw_parts_mut(self.ptr.cast::<T>().add(range.start), range.end - range.start) }
    }
}

/// One operator with its operands in memory; made from a checked [`Draft`].
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The operator.
    pub op: Op,
    params: &'a [u8],
    /// Its inputs.
    pub inputs: [Option<Input<'a>>; MAX_INPUTS],
    /// Its outputs.
    pub outputs: [Option<Output<'a>>; MAX_OUTPUTS],
}

impl<'a> Call<'a> {
    /// A call of a draft that [`check`] accepted, on operands that match its signatures.
    ///
    /// # Safety
    /// `check` accepted a draft with this operator, these parameters and these operands' types, layouts and lengths
    /// (and, for an index, this content).
    pub unsafe fn new(
        op: Op,
        params: &'a [u8],
        inputs: [Option<Input<'a>>; MAX_INPUTS],
        outputs: [Option<Output<'a>>; MAX_OUTPUTS],
    ) -> Self {
        Self { op, params, inputs, outputs }
    }

    /// Checks and makes a call in one step.
    pub fn checked(
        op: Op,
        params: &'a [u8],
        inputs: [Option<Input<'a>>; MAX_INPUTS],
        outputs: [Option<Output<'a>>; MAX_OUTPUTS],
    ) -> Result<Self, Refusal> {
        let signature = |input: Input<'a>| Signature {
            dtype: input.dtype,
            layout: input.layout,
            len: input.bytes.len(),
            content: input.bytes,
        };
        let written = |output: Output<'a>| Signature {
            dtype: output.dtype,
            layout: Layout::Plain,
            len: output.len,
            content: &[],
        };
        check(&Draft {
            op,
            params,
            inputs: inputs.map(|i| i.map(signature)),
            outputs: outputs.map(|o| o.map(written)),
        })?;
        Ok(Self { op, params, inputs, outputs })
    }

    /// The parameter block. Panics if `P` is another operator's.
    pub fn params<P: Pod>(&self) -> &'a P {
        bytemuck::from_bytes(self.params)
    }

    /// Input `i`, which the check has found.
    pub fn input(&self, i: usize) -> Input<'a> {
        self.inputs[i].expect("checked operand")
    }

    /// Output `i`, which the check has found.
    pub fn output(&self, i: usize) -> Output<'a> {
        self.outputs[i].expect("checked operand")
    }
}

/// A way to run an operator.
#[derive(Debug)]
pub struct Kernel {
    /// `operation_type[_block]_isa`, as in `spconv_i8_b16_neon_dotprod`.
    pub name: &'static str,
    /// The operator it runs.
    pub op: Op,
    /// What the CPU must have.
    pub requires: Features,
    /// Whether it takes a call of its operator: types, layouts, sizes. Every run asks, so it takes no longer than a microsecond.
    pub accepts: fn(&Call) -> bool,
    /// Number of independent parts of the work; at least 1, the same for equal calls.
    pub units: fn(&Call) -> usize,
    /// Runs some of the units.
    ///
    /// # Safety
    /// The CPU has what `requires` names; `accepts` said yes; the units lie below `units`; no two runs at the same time
    /// share a unit of the same call.
    pub run: unsafe fn(&Call, Range<usize>),
}

/// The kernels of one instruction set, family by family, best first.
pub type Catalogue = &'static [&'static [Kernel]];

/// Most kernels of one operator that a machine can have ready.
const PER_OP: usize = 48;

/// The kernels a machine runs, by operator, best first; the scalar ones last.
#[derive(Clone, Debug)]
pub struct Kernels {
    by_op: [[Option<&'static Kernel>; PER_OP]; Op::ALL.len() + 1],
    features: Features,
}

impl Kernels {
    /// The scalar kernels alone, which define every result.
    pub fn scalar() -> Self {
        Self::new(&[], Features::NONE)
    }

    /// The kernels of `catalogues` that `features` can run, in that order of preference, and the scalar ones below them.
    pub fn new(catalogues: &[Catalogue], features: Features) -> Self {
        let mut by_op = [[None; PER_OP]; Op::ALL.len() + 1];
        let mut counts = [0; Op::ALL.len() + 1];
        for kernel in catalogues.iter().chain([&crate::CATALOGUE]).copied().flatten().copied().flatten() {
            if features.contains(kernel.requires) {
                let op = kernel.op.number() as usize;
                by_op[op][counts[op]] = Some(kernel);
                counts[op] += 1;
            }
        }
        Self { by_op, features }
    }

    /// What was given to [`Kernels::new`].
    pub fn features(&self) -> Features {
        self.features
    }

    /// The kernel that runs this call. Every checked call has one: the scalar catalogue is complete.
    pub fn select(&self, call: &Call) -> Option<&'static Kernel> {
        self.by_op[call.op.number() as usize].iter().map_while(|k| *k).find(|kernel| (kernel.accepts)(call))
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::ParameterSize => "its parameter block has the wrong size",
            Self::Parameter => "a parameter is outside its range",
            Self::OperandCount => "an operand is missing or one too many is there",
            Self::OperandType => "an operand has an element type it does not take",
            Self::OperandLayout => "an operand has a layout it does not take",
            Self::OutOfBounds => "it would read or write outside an operand",
            Self::Index => "the index of its sparse weights is not increasing or points outside",
            Self::Overflow => "its sizes overflow",
        })
    }
}
