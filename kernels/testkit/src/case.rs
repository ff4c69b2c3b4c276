//! A call with its operands, ready to be run by any kernel as often as wanted.

use crate::Buffer;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use bytemuck::Pod;
use half::f16;
use sparrow_kernels::{Call, DType, Input, Kernel, Layout, MAX_INPUTS, MAX_OUTPUTS, Op, Output, Refusal};

/// What is in outputs before a kernel writes them: as f32 and f16 far from every result.
const FILL: u8 = 0x7b;
/// What lies around operands: in the first run bits that are NaN as f32 and f16, so that even a product with 0 shows.
const GUARDS: [u8; 2] = [0xff, 0x3c];

/// A constant or computed operand.
#[derive(Clone)]
struct Operand {
    dtype: DType,
    layout: Layout,
    bytes: Vec<u8>,
}

/// A call: operator, parameters, inputs, and the sizes of its outputs.
#[derive(Clone)]
pub struct Case {
    /// What it is about.
    pub name: String,
    /// The operator.
    pub op: Op,
    /// Bound on the difference of float results, in units of 1e-5 (f32) or 4e-3 (f16); at least 1.
    pub scale: f32,
    params: Vec<u32>,
    inputs: [Option<Operand>; MAX_INPUTS],
    outputs: [Option<(DType, usize)>; MAX_OUTPUTS],
}

impl Case {
    /// A call with no operands yet.
    pub fn new<P: Pod>(name: impl Into<String>, op: Op, params: &P) -> Self {
        let params = bytemuck::cast_slice(bytemuck::bytes_of(params)).to_owned();
        Self { name: name.into(), op, scale: 1.0, params, inputs: Default::default(), outputs: Default::default() }
    }

    /// The same operands with other parameters.
    pub fn with_params<P: Pod>(mut self, params: &P) -> Self {
        self.params = bytemuck::cast_slice(bytemuck::bytes_of(params)).to_owned();
        self
    }

    /// The parameter block as words.
    pub fn words(&self) -> &[u32] {
        &self.params
    }

    /// The same operands with other parameters, as words.
    pub fn with_words(mut self, words: &[u32]) -> Self {
        self.params = words.to_owned();
        self
    }

    /// The same call without input `i`.
    pub fn without_input(mut self, i: usize) -> Self {
        self.inputs[i] = None;
        self
    }

    /// The same call without output `i`.
    pub fn without_output(mut self, i: usize) -> Self {
        self.outputs[i] = None;
        self
    }

    /// Number of units `kernel` cuts a checked call into; 0 if it does not take it.
    pub fn units(&self, kernel: &Kernel) -> usize {
        let units = |call: &Call| if (kernel.accepts)(call) { (kernel.units)(call) } else { 0 };
        self.with_call(GUARDS[0], units).map_or(0, |(units, _)| units)
    }

    /// Sets the bound on differences.
    pub fn scale(mut self, scale: f32) -> Self {
        self.scale = scale.max(1.0);
        self
    }

    /// Sets input `i` to bytes in some layout.
    pub fn packed(mut self, i: usize, dtype: DType, layout: Layout, bytes: &[u8]) -> Self {
        self.inputs[i] = Some(Operand { dtype, layout, bytes: bytes.to_owned() });
        self
    }

    /// Sets input `i` to plain elements.
    pub fn input<T: Pod>(self, i: usize, dtype: DType, elements: &[T]) -> Self {
        self.packed(i, dtype, Layout::Plain, bytemuck::cast_slice(elements))
    }

    /// Sets input `i` to plain elements of type `dtype` with these values.
    pub fn values<V: Copy + Into<f64>>(self, i: usize, dtype: DType, values: &[V]) -> Self {
        self.packed(i, dtype, Layout::Plain, &encode(dtype, values))
    }

    /// Sets output `i` to `count` elements.
    pub fn output(mut self, i: usize, dtype: DType, count: usize) -> Self {
        self.outputs[i] = Some((dtype, count * dtype.size()));
        self
    }

    /// The parameter block. Panics if `P` is another operator's.
    pub fn params<P: Pod>(&self) -> P {
        bytemuck::pod_read_unaligned(bytemuck::cast_slice(&self.params))
    }

    /// Type and values of input `i`, if it is there.
    pub fn given(&self, i: usize) -> Option<(DType, Vec<f64>)> {
        self.inputs[i].as_ref().map(|input| (input.dtype, decode(input.dtype, &input.bytes)))
    }

    /// Type of output `i` and its values before a kernel runs, if it is there.
    pub fn untouched(&self, i: usize) -> Option<(DType, Vec<f64>)> {
        self.outputs[i].map(|(dtype, len)| (dtype, decode(dtype, &alloc::vec![FILL; len])))
    }

    /// Cuts the last byte off input `i`, as a hostile file might.
    pub fn shorten_input(mut self, i: usize) -> Self {
        self.inputs[i].as_mut().and_then(|input| input.bytes.pop());
        self
    }

    /// Cuts the last byte off output `i`.
    pub fn shorten_output(mut self, i: usize) -> Self {
        self.outputs[i] = self.outputs[i].map(|(dtype, len)| (dtype, len.saturating_sub(1)));
        self
    }

    /// Whether the contract's check takes the call.
    pub fn check(&self) -> Result<(), Refusal> {
        self.with_call(GUARDS[0], |_| ()).map(|_| ())
    }

    /// Number of elements of output 0.
    pub fn results(&self) -> usize {
        self.outputs[0].map_or(0, |(dtype, len)| len / dtype.size())
    }

    /// Hands the call, its operands in memory, to `body`.
    ///
    /// # Errors
    /// The contract's check refuses the call.
    pub fn on_call<R>(&self, body: impl FnOnce(&Call) -> R) -> Result<R, Refusal> {
        self.with_call(GUARDS[0], body).map(|(result, _)| result)
    }

    /// Whether `kernel` takes the call. The call must be a checked one.
    pub fn accepted_by(&self, kernel: &Kernel) -> bool {
        self.op == kernel.op && self.with_call(GUARDS[0], |call| (kernel.accepts)(call)).is_ok_and(|(yes, _)| yes)
    }

    /// Runs `kernel`, all units at once or one by one from the last; returns the outputs' bytes.
    ///
    /// # Errors
    /// The call was refused or not accepted, or a guard was overwritten.
    pub fn run(&self, kernel: &Kernel, order: Order) -> Result<[Vec<u8>; MAX_OUTPUTS], String> {
        let guard = GUARDS[order as usize];
        let ran = self.with_call(guard, |call| {
            let accepted = self.op == kernel.op && (kernel.accepts)(call);
            if accepted {
                let units = (kernel.units)(call);
                match order {
                    // SAFETY: accepted; all of its units; whoever hands over a kernel vouches for the CPU (see `compare`).
                    Order::Together => unsafe { (kernel.run)(call, 0..units) },
                    // SAFETY: as above, each unit once.
                    Order::Backwards => (0..units).rev().for_each(|unit| unsafe { (kernel.run)(call, unit..unit + 1) }),
                }
            }
            accepted
        });
        let (accepted, outputs) = ran.map_err(|refusal| alloc::format!("refused: {refusal:?}"))?;
        if !accepted {
            return Err("not accepted".to_owned());
        }
        if !outputs.iter().flatten().all(Buffer::intact) {
            return Err("wrote outside its output".to_owned());
        }
        Ok(outputs.map(|output| output.map_or(Vec::new(), |buffer| buffer.bytes().to_owned())))
    }

    /// Puts the operands between guards, checks the call and hands it to `body`; returns its result and the outputs.
    fn with_call<R>(
        &self,
        guard: u8,
        body: impl FnOnce(&Call) -> R,
    ) -> Result<(R, [Option<Buffer>; MAX_OUTPUTS]), Refusal> {
        let inputs = self.inputs.each_ref().map(|i| i.as_ref().map(|i| Buffer::from_bytes(&i.bytes, guard)));
        let mut outputs = self.outputs.map(|o| o.map(|(_, len)| Buffer::new(len, FILL, guard)));
        let mut given = [None; MAX_INPUTS];
        for ((given, buffer), operand) in given.iter_mut().zip(&inputs).zip(&self.inputs) {
            *given = buffer.as_ref().zip(operand.as_ref()).map(|(buffer, o)| Input {
                dtype: o.dtype,
                layout: o.layout,
                bytes: buffer.bytes(),
            });
        }
        let mut taken = [None; MAX_OUTPUTS];
        for ((taken, buffer), output) in taken.iter_mut().zip(&mut outputs).zip(&self.outputs) {
            *taken = buffer.as_mut().zip(*output).map(|(buffer, (dtype, _))| Output::new(dtype, buffer.bytes_mut()));
        }
        let call = Call::checked(self.op, bytemuck::cast_slice(&self.params), given, taken)?;
        let result = body(&call);
        Ok((result, outputs))
    }

    /// The first difference between two results of this case that is not within bounds: integers exactly, floats within
    /// `1e-5 * scale` (f16: `4e-3 * scale`), times the value's own size if that is above 1.
    pub fn difference(&self, want: &[Vec<u8>; MAX_OUTPUTS], got: &[Vec<u8>; MAX_OUTPUTS]) -> Option<String> {
        for (i, output) in self.outputs.iter().enumerate() {
            let Some((dtype, _)) = *output else { continue };
            let bound = match dtype {
                DType::F32 => 1e-5 * f64::from(self.scale),
                DType::F16 => 4e-3 * f64::from(self.scale),
                _ => 0.0,
            };
            if bound == 0.0 {
                if let Some(at) = want[i].iter().zip(&got[i]).position(|(want, got)| want != got) {
                    let (want, got) = (decode(dtype, &want[i]), decode(dtype, &got[i]));
                    let at = at / dtype.size();
                    return Some(alloc::format!("output {i}[{at}]: want {}, got {}", want[at], got[at]));
                }
                continue;
            }
            for (at, (want, got)) in decode(dtype, &want[i]).into_iter().zip(decode(dtype, &got[i])).enumerate() {
                let near = (want - got).abs() <= bound * want.abs().max(1.0);
                if !near && want != got && !(want.is_nan() && got.is_nan()) {
                    return Some(alloc::format!("output {i}[{at}]: want {want}, got {got}, bound {bound:e}"));
                }
            }
        }
        None
    }

    /// Values of output `i` in a result.
    pub fn decoded(&self, i: usize, result: &[Vec<u8>; MAX_OUTPUTS]) -> Vec<f64> {
        self.outputs[i].map_or(Vec::new(), |(dtype, _)| decode(dtype, &result[i]))
    }
}

/// In which order the units of a call run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// All in one go.
    Together,
    /// One by one, the last first.
    Backwards,
}

/// The bytes of elements with these values.
pub fn encode<V: Copy + Into<f64>>(dtype: DType, values: &[V]) -> Vec<u8> {
    fn each<V: Copy + Into<f64>, const N: usize>(values: &[V], element: impl Fn(f64) -> [u8; N]) -> Vec<u8> {
        values.iter().flat_map(|&v| element(v.into())).collect()
    }
    match dtype {
        DType::F32 => each(values, |v| (v as f32).to_ne_bytes()),
        DType::F16 => each(values, |v| f16::from_f64(v).to_ne_bytes()),
        DType::I8 => each(values, |v| (v as i8).to_ne_bytes()),
        DType::U8 | DType::Bool => each(values, |v| [v as u8]),
        DType::I32 => each(values, |v| (v as i32).to_ne_bytes()),
        DType::I64 => each(values, |v| (v as i64).to_ne_bytes()),
    }
}

/// The values of elements (of i64, rounded).
pub fn decode(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    fn each<T: Pod>(bytes: &[u8], value: impl Fn(T) -> f64) -> Vec<f64> {
        bytes.chunks_exact(size_of::<T>()).map(|chunk| value(bytemuck::pod_read_unaligned(chunk))).collect()
    }
    match dtype {
        DType::F32 => each(bytes, |v: f32| v.into()),
        DType::F16 => each(bytes, |v: f16| v.to_f64()),
        DType::I8 => each(bytes, |v: i8| v.into()),
        DType::U8 | DType::Bool => each(bytes, |v: u8| v.into()),
        DType::I32 => each(bytes, |v: i32| v.into()),
        DType::I64 => each(bytes, |v: i64| v as f64),
    }
}
