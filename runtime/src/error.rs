//! Errors of the runtime: a `Copy` enum with numbers that never change; bindings map them.

use core::fmt;
use sparrow_kernels::{Refusal, reserved_layout};

/// What is wrong with a record of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A name lies outside the names, or is not UTF-8.
    Name,
    /// An element type this build does not know.
    Type,
    /// More dimensions than 8, or sizes whose product overflows.
    Shape,
    /// A place this build does not know.
    Place,
    /// A range outside its section or arena, or not aligned.
    Range,
    /// Two constants share bytes.
    Overlap,
    /// The number of a tensor or operator that does not exist.
    Reference,
    /// A tensor where this one may not stand: an output among the weights, an input that is packed.
    Role,
    /// An output shares bytes with an input or another output.
    Alias,
    /// A reserved field is not 0.
    Reserved,
}

impl Fault {
    const fn text(self) -> &'static str {
        match self {
            Self::Name => "its name lies outside the names or is not UTF-8",
            Self::Type => "its element type is not known to this build",
            Self::Shape => "it has more than 8 dimensions or too many elements",
            Self::Place => "its place is not known to this build",
            Self::Range => "it lies outside its section or arena, or is not aligned",
            Self::Overlap => "it shares bytes with another constant",
            Self::Reference => "it names a tensor or operator that does not exist",
            Self::Role => "it uses a tensor in a role that tensor cannot have",
            Self::Alias => "its output shares bytes with another operand",
            Self::Reserved => "a reserved field is not 0",
        }
    }
}

/// Why a file was refused, or a session could not be made or run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The bytes are not a Sparrow file.
    NotSparrow,
    /// The file has a format version this build does not read.
    Version(u32),
    /// The file is shorter or longer than its header says.
    Size {
        /// Bytes the header promises.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The header contradicts itself.
    Header,
    /// The bytes in memory do not begin at a multiple of 64.
    Alignment,
    /// A section this build needs is missing.
    SectionMissing([u8; 4]),
    /// A section lies outside the file, on another one, or misaligned, or stands twice.
    Section([u8; 4]),
    /// A section this build does not know and must not pass over.
    SectionUnknown([u8; 4]),
    /// The bytes of a section (or, as `HEAD`, of header and section table) do not have its hash.
    Hash([u8; 4]),
    /// A tensor is invalid.
    Tensor {
        /// Its number.
        index: u32,
        /// What is wrong.
        fault: Fault,
    },
    /// A tensor has a layout this build does not know.
    Layout {
        /// The tensor's number.
        index: u32,
        /// The layout's number.
        layout: u8,
    },
    /// An operator this build does not know.
    Operator {
        /// Its number.
        index: u32,
        /// The operator's number.
        op: u16,
    },
    /// An operator's record is invalid.
    Op {
        /// Its number.
        index: u32,
        /// What is wrong.
        fault: Fault,
    },
    /// An operator's parameters do not fit its operands.
    Refused {
        /// The operator's number.
        index: u32,
        /// Why.
        refusal: Refusal,
    },
    /// An entry point is invalid.
    Entry {
        /// Its number.
        index: u32,
        /// What is wrong.
        fault: Fault,
    },
    /// There is no entry point with this number.
    NoEntry(u32),
    /// The arena is too small or does not begin at a multiple of 64.
    Arena {
        /// Bytes needed.
        needed: u64,
        /// Bytes given.
        given: u64,
    },
    /// The host stopped the run between two operators.
    Cancelled,
    /// No kernel takes this operator.
    NoKernel(u32),
}

impl Error {
    /// Its number, which never changes.
    pub const fn number(self) -> u32 {
        match self {
            Self::NotSparrow => 1,
            Self::Version(_) => 2,
            Self::Size { .. } => 3,
            Self::Header => 4,
            Self::Alignment => 5,
            Self::SectionMissing(_) => 6,
            Self::Section(_) => 7,
            Self::SectionUnknown(_) => 8,
            Self::Hash(_) => 9,
            Self::Tensor { .. } => 10,
            Self::Layout { .. } => 11,
            Self::Operator { .. } => 12,
            Self::Op { .. } => 13,
            Self::Refused { .. } => 14,
            Self::Entry { .. } => 15,
            Self::NoEntry(_) => 16,
            Self::Arena { .. } => 17,
            Self::Cancelled => 18,
            Self::NoKernel(_) => 19,
        }
    }
}

fn tag(tag: &[u8; 4]) -> &str {
    core::str::from_utf8(tag).unwrap_or("?")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSparrow => write!(f, "not a Sparrow file; make one with `sparrow convert`"),
            Self::Version(version) => {
                write!(
                    f,
                    "format version {version}, this build reads version {}; convert the network again",
                    crate::format::VERSION
                )
            }
            Self::Size { expected, found } => {
                write!(f, "{found} bytes, the header promises {expected}: the file is truncated or has been altered")
            }
            Self::Header => write!(f, "the header contradicts itself: the file has been altered"),
            Self::Alignment => write!(f, "the model's bytes must begin at a multiple of 64 in memory"),
            Self::SectionMissing(t) => write!(f, "section {} is missing", tag(t)),
            Self::Section(t) => {
                write!(f, "section {} lies outside the file, on another section, or stands twice", tag(t))
            }
            Self::SectionUnknown(t) => {
                write!(f, "section {} is not known to this build, and must be: use a newer Sparrow", tag(t))
            }
            Self::Hash(t) => write!(f, "section {} does not have its hash: the file has been altered", tag(t)),
            Self::Tensor { index, fault } => write!(f, "tensor {index}: {}", fault.text()),
            Self::Layout { index, layout } => {
                write!(
                    f,
                    "tensor {index}: weight encoding {layout} ({}) is not known to this build: use a newer Sparrow",
                    reserved_layout(*layout)
                )
            }
            Self::Operator { index, op } => {
                write!(f, "operator {index} has number {op}, which this build does not know: use a newer Sparrow")
            }
            Self::Op { index, fault } => write!(f, "operator {index}: {}", fault.text()),
            Self::Refused { index, refusal } => write!(f, "operator {index} does not fit its operands: {refusal}"),
            Self::Entry { index, fault } => write!(f, "entry point {index}: {}", fault.text()),
            Self::NoEntry(index) => write!(f, "there is no entry point {index}"),
            Self::Arena { needed, given } => {
                write!(f, "the arena has {given} bytes, {needed} are needed, beginning at a multiple of 64")
            }
            Self::Cancelled => write!(f, "cancelled"),
            Self::NoKernel(index) => write!(f, "operator {index}: no kernel takes it"),
        }
    }
}

impl core::error::Error for Error {}
