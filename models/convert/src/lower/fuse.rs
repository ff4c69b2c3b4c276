//! Chains of single readers that become the last step of an operator.
//!
//! Behind a convolution or a matrix product with constant weights the runtime adds a bias, then another tensor, then
//! applies an activation, all while the sums are in registers. [`Lowerer::tail`] finds how much of that the graph asks
//! for. An addition of two products is given to the one lowered last: by then the other is in memory.

use super::Lowerer;
use crate::ir::{BinaryFn, Op, UnaryFn, ValueId};
use sparrow_kernels::{Activation, DType};

/// What an operator does to its sums before they are stored.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    /// Added per channel.
    pub bias: Option<Vec<f64>>,
    /// Added as it is.
    pub residual: Option<ValueId>,
    /// Applied at last.
    pub activation: Activation,
    /// Lower limit, or the slope.
    pub lo: f64,
    /// Upper limit.
    pub hi: f64,
    /// One per channel, for [`Activation::PRelu`].
    pub slopes: Vec<f32>,
    /// The value that results.
    pub last: ValueId,
}

/// What an operator's last step can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Abilities {
    /// The result's axis along which bias and slopes vary.
    pub channel_axis: usize,
    /// Integer kernels know no other activation than limits and slopes.
    pub int8: bool,
}

impl Tail {
    fn new(last: ValueId) -> Self {
        let (lo, hi) = (f64::NEG_INFINITY, f64::INFINITY);
        Self { bias: None, residual: None, activation: Activation::Clamp, lo, hi, slopes: Vec::new(), last }
    }

    /// Whether nothing has been applied after the sum.
    fn is_linear(&self) -> bool {
        self.activation == Activation::Clamp && self.lo == f64::NEG_INFINITY && self.hi == f64::INFINITY
    }

    fn clamp(&mut self, lo: f64, hi: f64) -> bool {
        let clamps = self.activation == Activation::Clamp && lo <= hi;
        if clamps {
            (self.lo, self.hi) = (self.lo.clamp(lo, hi), self.hi.clamp(lo, hi));
        }
        clamps
    }

    fn activate(&mut self, activation: Activation, slope: f32) -> bool {
        let free = self.is_linear();
        if free {
            (self.activation, self.lo, self.hi) = (activation, f64::from(slope), f64::INFINITY);
        }
        free
    }
}

impl Lowerer<'_> {
    /// The only node that reads a value, unless the caller reads it, too.
    pub fn only_user(&self, id: ValueId) -> Option<usize> {
        match self.users[id.index()][..] {
            [user] if !self.settings.keep_all && !self.done[user] && !self.graph.outputs.contains(&id) => Some(user),
            _ => None,
        }
    }

    /// The chain behind `first` that the operator computing it can swallow; its nodes count as lowered from now on.
    pub fn tail(&mut self, first: ValueId, abilities: Abilities) -> Tail {
        let mut tail = Tail::new(first);
        while let Some(user) = self.only_user(tail.last) {
            let Some(next) = self.nodes[user].output(0) else { break };
            if !self.swallow(user, &mut tail, abilities) {
                break;
            }
            self.done[user] = true;
            tail.last = next;
        }
        tail
    }

    /// Adds a node to a chain, if that is possible.
    fn swallow(&self, user: usize, tail: &mut Tail, abilities: Abilities) -> bool {
        let node = &self.nodes[user];
        match node.op {
            Op::Unary(UnaryFn::Relu) => tail.clamp(0.0, f64::INFINITY),
            Op::Unary(UnaryFn::Clip { min, max }) => tail.clamp(min, max),
            Op::Unary(UnaryFn::LeakyRelu { alpha }) if abilities.int8 => {
                let channels = self.dims(tail.last)[abilities.channel_axis];
                let free = tail.activate(Activation::PRelu, alpha);
                tail.slopes = if free { vec![alpha; channels] } else { std::mem::take(&mut tail.slopes) };
                free
            }
            Op::Unary(UnaryFn::LeakyRelu { alpha }) => tail.activate(Activation::LeakyRelu, alpha),
            Op::Unary(UnaryFn::HardSwish) => !abilities.int8 && tail.activate(Activation::HardSwish, 0.0),
            Op::Binary(BinaryFn::PRelu) if node.input(0) == Some(tail.last) => {
                let slopes =
                    node.input(1).and_then(|slopes| self.per_channel(slopes, tail.last, abilities.channel_axis));
                let Some(slopes) = slopes.filter(|_| tail.is_linear()) else { return false };
                tail.slopes = slopes.into_iter().map(|slope| slope as f32).collect();
                tail.activate(Activation::PRelu, 0.0)
            }
            Op::Binary(BinaryFn::Add) if tail.is_linear() && tail.residual.is_none() => {
                self.swallow_sum(user, tail, abilities)
            }
            _ => false,
        }
    }

    fn swallow_sum(&self, user: usize, tail: &mut Tail, abilities: Abilities) -> bool {
        let node = &self.nodes[user];
        let (Some(a), Some(b), Some(sum)) = (node.input(0), node.input(1), node.output(0)) else { return false };
        let other = if a == tail.last { b } else { a };
        if other == tail.last || self.dims(sum) != self.dims(tail.last) {
            return false;
        }
        if let Some(bias) = self.per_channel(other, tail.last, abilities.channel_axis) {
            let so_far = tail.bias.take().unwrap_or_else(|| vec![0.0; bias.len()]);
            tail.bias = Some(so_far.iter().zip(bias).map(|(a, b)| a + b).collect());
            return true;
        }
        let fits = self.dims(other) == self.dims(sum)
            && self.available(other)
            && (!abilities.int8 || self.quantization(other).is_some());
        if fits {
            tail.residual = Some(other);
        }
        fits
    }

    /// A constant that broadcasts to `to` and varies along `axis` alone, as one number for every index there.
    pub fn per_channel(&self, id: ValueId, to: ValueId, axis: usize) -> Option<Vec<f64>> {
        let data = self.constant(id).filter(|data| data.dtype() == DType::F32)?;
        let (dims, rank) = (data.dims(), self.dims(to).len());
        let lead = rank.checked_sub(dims.len())?;
        let varies = |i: &usize| dims[*i] != 1;
        if (0..dims.len()).filter(varies).any(|i| lead + i != axis) {
            return None;
        }
        let numbers = data.to_f64();
        let channels = self.dims(to)[axis];
        match numbers.len() {
            n if n == channels => Some(numbers),
            1 => Some(vec![numbers[0]; channels]),
            _ => None,
        }
    }

    /// Replaces what exporters spell out by the operator it stands for: `x * hardsigmoid(x)`.
    pub fn rewrite(&mut self) {
        for index in 0..self.nodes.len() {
            let Op::Unary(UnaryFn::HardSigmoid { alpha, beta }) = self.nodes[index].op else { continue };
            let sixth = (alpha - 1.0 / 6.0).abs() < 1e-6 && beta == 0.5;
            let (Some(x), Some(gate)) = (self.nodes[index].input(0), self.nodes[index].output(0)) else { continue };
            let Some(user) = self.gated(x, gate).filter(|_| sixth) else { continue };
            self.nodes[index].op = Op::Unary(UnaryFn::HardSwish);
            self.nodes[index].outputs = self.nodes[user].outputs.clone();
            self.done[user] = true;
            self.users[x.index()].retain(|&reader| reader != user);
        }
    }

    /// The node that computes `x * gate` and is the gate's only reader.
    pub fn gated(&self, x: ValueId, gate: ValueId) -> Option<usize> {
        let user = self.only_user(gate)?;
        let inputs = &self.nodes[user].inputs;
        let product = self.nodes[user].op == Op::Binary(BinaryFn::Mul)
            && inputs.contains(&Some(x))
            && inputs.contains(&Some(gate));
        product.then_some(user)
    }
}
