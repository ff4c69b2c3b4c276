//! Errors of the API.

use sparrow_kernels::DType;
use std::path::PathBuf;

/// Why something failed. [`Error::number`] is what bindings pass on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not a valid model.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: sparrow_runtime::Error,
    },
    /// The runtime refused.
    #[error(transparent)]
    Runtime(#[from] sparrow_runtime::Error),
    /// There is no input or output with this number.
    #[error("there is no {role} {index}: the model has {count}")]
    NoTensor {
        /// "input" or "output".
        role: &'static str,
        /// The number asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// A tensor holds elements of another type.
    #[error("{role} {index} ('{name}') holds {found}, not {asked}")]
    Type {
        /// "input" or "output".
        role: &'static str,
        /// Its number.
        index: usize,
        /// Its name.
        name: String,
        /// Its type.
        found: &'static str,
        /// The type asked for.
        asked: &'static str,
    },
    /// The system refused a thread.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    /// More threads than [`crate::MAX_THREADS`] were asked for.
    #[error("{0} threads were asked for; the most is {max}", max = crate::MAX_THREADS)]
    Threads(usize),
}

impl Error {
    /// Whether a run was stopped by a [`Canceller`](crate::Canceller) or its observer.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Runtime(sparrow_runtime::Error::Cancelled))
    }

    /// A number that never changes: the runtime's own below 100, this crate's below 200; bindings add theirs from 200.
    pub fn number(&self) -> u32 {
        match self {
            Self::Runtime(error) | Self::File { source: error, .. } => error.number(),
            Self::Io { .. } => 100,
            Self::NoTensor { .. } => 101,
            Self::Type { .. } => 102,
            Self::Thread(_) => 103,
            Self::Threads(_) => 104,
        }
    }
}

/// A Rust type that is the element of a tensor.
pub trait Element: bytemuck::Pod {
    /// Its name.
    const NAME: &'static str;
    /// Whether a tensor of this type holds such elements.
    fn is(dtype: DType) -> bool;
}

macro_rules! elements {
    ($($rust:ty, $($dtype:ident)|+;)*) => {$(
        impl Element for $rust {
            const NAME: &'static str = stringify!($rust);
            fn is(dtype: DType) -> bool {
                matches!(dtype, $(DType::$dtype)|+)
            }
        }
    )*};
}

elements! {
    f32, F32;
    i8, I8;
    u8, U8 | Bool;
    u16, F16;
    i32, I32;
    i64, I64;
}
