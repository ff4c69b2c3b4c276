//! Running networks inside the converter: constants, tables, references, calibration.
//!
//! Everything goes the way a user's model goes (lowered, planned, written, opened, run), on the scalar kernels unless
//! others are given, so that the converter never computes anything by other rules than the runtime.

use crate::import::Evaluate;
use crate::ir::{Graph, Tensor};
use crate::lower::{self, lower};
use crate::program::Program;
use crate::settings::Settings;
use crate::write::write;
use sparrow_kernels::{Kernels, Layout};
use sparrow_runtime::{AlignedBytes, Model, Session};
use std::collections::HashMap;

/// Why a network could not be run.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be lowered.
    #[error(transparent)]
    Lower(#[from] lower::Error),
    /// The runtime refuses what the converter made.
    #[error("the runtime refuses the converted network: {0}; report this as a bug")]
    Runtime(sparrow_runtime::Error),
    /// The inputs are not what the network takes.
    #[error("input '{name}' must be {wanted}, is {given}")]
    Input {
        /// The input, or its number where it has none.
        name: String,
        /// Type and dimensions it has.
        wanted: String,
        /// Type and dimensions that were given.
        given: String,
    },
}

impl From<sparrow_runtime::Error> for Error {
    fn from(error: sparrow_runtime::Error) -> Self {
        Self::Runtime(error)
    }
}

/// A program as a file in memory, ready to be run on these kernels.
#[derive(Clone, Debug)]
pub struct Runner<'k> {
    file: AlignedBytes,
    arena: usize,
    kernels: &'k Kernels,
}

impl<'k> Runner<'k> {
    /// Plans and writes the program.
    pub fn new(program: &Program, kernels: &'k Kernels) -> Self {
        let (bytes, plan) = write(program);
        Self { file: AlignedBytes::copy_of(&bytes), arena: plan.arena, kernels }
    }

    /// Runs it once on inputs in its order; `read` takes what it wants from the session then.
    ///
    /// # Errors
    /// [`Error::Input`], or [`Error::Runtime`] if the program is not sound.
    pub fn run<R>(&self, inputs: &[Tensor], read: impl FnOnce(&Session) -> R) -> Result<R, Error> {
        let model = Model::open(self.file.as_slice())?;
        let mut arena = AlignedBytes::zeroed(self.arena);
        let mut session = Session::new(model, 0, self.kernels, arena.as_mut_slice())?;
        for i in 0..session.entry().inputs.len().max(inputs.len()) {
            set_input(&mut session, i, inputs.get(i))?;
        }
        session.run()?;
        Ok(read(&session))
    }
}

/// Writes input `i`, unless it does not fit.
fn set_input(session: &mut Session, i: usize, given: Option<&Tensor>) -> Result<(), Error> {
    let tensor = session.input_tensor(i);
    let dims = |dims: &[u32]| dims.iter().map(|&d| d as usize).collect::<Vec<_>>();
    match (&tensor, given) {
        (Some(tensor), Some(given)) if tensor.dtype == given.dtype() && dims(tensor.dims) == given.dims() => {
            session.input_mut(i).copy_from_slice(given.bytes());
            Ok(())
        }
        _ => Err(Error::Input {
            name: tensor.as_ref().map_or(i.to_string(), |tensor| tensor.name.to_owned()),
            wanted: tensor.map_or("absent".into(), |tensor| format!("{} {:?}", tensor.dtype.name(), tensor.dims)),
            given: given.map_or("absent".into(), |given| format!("{} {:?}", given.dtype().name(), given.dims())),
        }),
    }
}

/// Runs a program on the scalar kernels; inputs and outputs in its order.
///
/// # Errors
/// As [`Runner::run`].
pub fn run(program: &Program, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    Runner::new(program, &Kernels::scalar()).run(inputs, outputs)
}

/// The outputs of a session that has run.
pub fn outputs(session: &Session) -> Vec<Tensor> {
    let output = |i: usize| {
        let tensor = session.output_tensor(i)?;
        let dims: Vec<usize> = tensor.dims.iter().map(|&d| d as usize).collect();
        Tensor::new(tensor.dtype, &dims, session.output(i))
    };
    (0..session.entry().outputs.len()).map_while(output).collect()
}

/// Every named arena tensor of a session that has run; of a program that keeps all, every value of its graph.
pub fn named(session: &Session) -> HashMap<String, Tensor> {
    let model = session.model();
    let tensors = (0..model.tensor_count()).map(|id| model.tensor(id));
    let named = tensors.filter(|tensor| {
        !tensor.name.is_empty() && tensor.layout == Layout::Plain && model.constant_bytes(tensor).is_none()
    });
    let read = |tensor: sparrow_runtime::Tensor| {
        let dims: Vec<usize> = tensor.dims.iter().map(|&d| d as usize).collect();
        Some((tensor.name.to_owned(), Tensor::new(tensor.dtype, &dims, session.bytes(&tensor))?))
    };
    named.filter_map(read).collect()
}

/// A network in f32, unfused, every value of which can be read.
#[derive(Clone, Debug)]
pub struct Reference<'k>(Runner<'k>);

impl<'k> Reference<'k> {
    /// Lowers the network.
    ///
    /// # Errors
    /// [`Error::Lower`].
    pub fn new(graph: &Graph, kernels: &'k Kernels) -> Result<Self, Error> {
        let lowered = lower(graph, &Settings { keep_all: true, ..Settings::default() })?;
        Ok(Self(Runner::new(&lowered.program, kernels)))
    }

    /// Every input and computed value by name, for inputs in the graph's order.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn run(&self, inputs: &[Tensor]) -> Result<HashMap<String, Tensor>, Error> {
        self.0.run(inputs, named)
    }
}

/// The outputs of a graph without inputs.
///
/// # Errors
/// Why it cannot be computed.
pub fn constant(graph: &Graph, kernels: &Kernels) -> Result<Vec<Tensor>, Error> {
    let lowered = lower(graph, &Settings::default())?;
    Runner::new(&lowered.program, kernels).run(&[], outputs)
}

/// Computes the importer's constants.
#[derive(Clone, Copy, Debug)]
pub struct Evaluator<'k> {
    kernels: &'k Kernels,
}

impl<'k> Evaluator<'k> {
    /// On these kernels.
    pub fn new(kernels: &'k Kernels) -> Self {
        Self { kernels }
    }
}

impl Evaluate for Evaluator<'_> {
    fn evaluate(&mut self, graph: &Graph) -> Result<Vec<Tensor>, String> {
        constant(graph, self.kernels).map_err(|error| error.to_string())
    }
}
