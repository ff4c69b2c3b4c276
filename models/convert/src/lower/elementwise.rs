//! Functions of single elements, of two with broadcasting, and choices between two.
//!
//! Broadcasting is a stride of 0. The result takes the order of the operand that has its size; the other is read with
//! the strides it has, or, if it is as large, brought to the same order once. On codes a function of one element is a
//! table of 256 bytes, computed here by the runtime's own kernels.

use super::pack::code;
use super::view::{Format, View, coalesce};
use super::{Lowerer, Result};
use crate::evaluate;
use crate::ir::{self, Graph, Node, UnaryFn, ValueId};
use crate::program::TensorId;
use crate::settings::Quantization;
use sparrow_kernels::{
    BinaryFn, BinaryParams, DType, Kernels, LutParams, MAX_RANK, MapFn, MapParams, Op, QBinaryParams, WhereParams,
};

/// Limits applied to a result.
#[derive(Clone, Copy, Debug)]
struct Limits {
    lo: f64,
    hi: f64,
}

impl Limits {
    const NONE: Self = Self { lo: f64::NEG_INFINITY, hi: f64::INFINITY };
}

/// Function and parameters of [`Op::Map`].
fn map_of(function: UnaryFn) -> (MapFn, f32, f32) {
    let plain = |function| (function, 0.0, 0.0);
    match function {
        UnaryFn::Relu => (MapFn::Clamp, 0.0, f32::INFINITY),
        UnaryFn::LeakyRelu { alpha } => (MapFn::LeakyRelu, alpha, 0.0),
        UnaryFn::Clip { min, max } => (MapFn::Clamp, min as f32, max as f32),
        UnaryFn::Elu { alpha } => (MapFn::Elu, alpha, 0.0),
        UnaryFn::Selu { alpha, gamma } => (MapFn::Selu, alpha, gamma),
        UnaryFn::HardSigmoid { alpha, beta } => (MapFn::HardSigmoid, alpha, beta),
        UnaryFn::Sigmoid => plain(MapFn::Sigmoid),
        UnaryFn::Tanh => plain(MapFn::Tanh),
        UnaryFn::HardSwish => plain(MapFn::HardSwish),
        UnaryFn::Gelu => plain(MapFn::Gelu),
        UnaryFn::GeluTanh => plain(MapFn::GeluTanh),
        UnaryFn::Softplus => plain(MapFn::Softplus),
        UnaryFn::Softsign => plain(MapFn::Softsign),
        UnaryFn::Mish => plain(MapFn::Mish),
        UnaryFn::Erf => plain(MapFn::Erf),
        UnaryFn::Exp => plain(MapFn::Exp),
        UnaryFn::Log => plain(MapFn::Log),
        UnaryFn::Sqrt => plain(MapFn::Sqrt),
        UnaryFn::Abs => plain(MapFn::Abs),
        UnaryFn::Neg => plain(MapFn::Neg),
        UnaryFn::Reciprocal => plain(MapFn::Reciprocal),
        UnaryFn::Floor => plain(MapFn::Floor),
        UnaryFn::Ceil => plain(MapFn::Ceil),
        UnaryFn::Round => plain(MapFn::Round),
        UnaryFn::Sign => plain(MapFn::Sign),
        UnaryFn::Sin => plain(MapFn::Sin),
        UnaryFn::Cos => plain(MapFn::Cos),
        UnaryFn::Not => plain(MapFn::Not),
    }
}

/// The runtime's function of two.
fn binary_of(function: ir::BinaryFn) -> BinaryFn {
    match function {
        ir::BinaryFn::Add => BinaryFn::Add,
        ir::BinaryFn::Sub => BinaryFn::Sub,
        ir::BinaryFn::Mul => BinaryFn::Mul,
        ir::BinaryFn::Div => BinaryFn::Div,
        ir::BinaryFn::Pow => BinaryFn::Pow,
        ir::BinaryFn::Min => BinaryFn::Min,
        ir::BinaryFn::Max => BinaryFn::Max,
        ir::BinaryFn::PRelu => BinaryFn::PRelu,
        ir::BinaryFn::Equal => BinaryFn::Equal,
        ir::BinaryFn::Less => BinaryFn::Less,
        ir::BinaryFn::LessOrEqual => BinaryFn::LessEqual,
        ir::BinaryFn::Greater => BinaryFn::Greater,
        ir::BinaryFn::GreaterOrEqual => BinaryFn::GreaterEqual,
        ir::BinaryFn::And => BinaryFn::And,
        ir::BinaryFn::Or => BinaryFn::Or,
        ir::BinaryFn::Xor => BinaryFn::Xor,
    }
}

/// Strides of an operand along the axes of the result it broadcasts to.
fn broadcast(view: &View, dims: &[usize], to: &[usize]) -> Vec<i64> {
    let lead = to.len() - dims.len();
    let stride = |axis: usize| match axis.checked_sub(lead) {
        Some(own) if dims[own] != 1 => view.strides[own] as i64,
        _ => 0,
    };
    (0..to.len()).map(stride).collect()
}

/// An index space in the order of memory, with the strides of each operand.
struct Loops<const N: usize> {
    dims: [u32; MAX_RANK],
    strides: [[u32; MAX_RANK]; N],
}

impl<const N: usize> Loops<N> {
    fn new(format: Format, dims: &[usize], operands: [Vec<i64>; N]) -> Self {
        let axes =
            format.order(dims.len()).into_iter().map(|axis| (dims[axis], std::array::from_fn(|i| operands[i][axis])));
        let mut loops = Self { dims: [1; MAX_RANK], strides: [[0; MAX_RANK]; N] };
        for (i, (dim, steps)) in coalesce::<N>(axes).into_iter().enumerate() {
            loops.dims[i] = dim as u32;
            steps.iter().enumerate().for_each(|(operand, &step)| loops.strides[operand][i] = step as u32);
        }
        loops
    }
}

impl Lowerer<'_> {
    /// [`ir::Op::Unary`].
    pub fn unary(&mut self, node: &Node, function: UnaryFn) -> Result {
        let (x, mut y) = (self.operand(node, 0)?, self.result(node, 0)?);
        let (mut map, p, q) = map_of(function);
        let mut nodes = vec![self.at];
        let mut p = p;
        if let Some(user) = Some(y).filter(|_| map == MapFn::Sigmoid).and_then(|gate| self.gated(x, gate)) {
            y = self.nodes[user].output(0).unwrap_or(y);
            self.done[user] = true;
            nodes.push(user);
            (map, p) = (MapFn::Silu, 1.0);
        }
        if self.quantization(x).is_some() && self.quantization(y).is_some() {
            return self.table(x, y, &nodes);
        }
        let integer = !matches!(self.dtype(x), DType::F32 | DType::Bool);
        if let UnaryFn::Clip { min, max } = function {
            let exact = |limit: f64| limit.is_infinite() || f64::from(limit as f32) == limit;
            if integer && !(exact(min) && exact(max)) {
                return self.clip_integers(x, y, (min, max));
            }
        }
        let dtype = self.home(x);
        let (view, format) = self.want_any(x, dtype)?;
        let out = self.output(y, format, dtype);
        let params = MapParams { function: map.number(), count: self.count(y), p, q };
        self.emit(Op::Map, &params, &[Some(view.tensor)], &[Some(out.tensor)]);
        Ok(())
    }

    /// Number of a value's elements.
    pub fn count(&self, id: ValueId) -> u32 {
        self.dims(id).iter().product::<usize>() as u32
    }

    /// Clips integers by limits that f32 does not hold.
    fn clip_integers(&mut self, x: ValueId, y: ValueId, (min, max): (f64, f64)) -> Result {
        let (dtype, dims) = (self.dtype(x), self.dims(x));
        let (view, format) = self.want_any(x, dtype)?;
        let limit = |this: &mut Self, limit: f64| {
            let bytes = super::view::element_bits(dtype, limit).to_le_bytes();
            let tensor = this.program.constant(dtype, &[], &bytes[..dtype.size()]);
            View { tensor, offset: 0, strides: Vec::new() }
        };
        let (min, max) = (limit(self, min), limit(self, max));
        let above = View::dense(self.temporary(dtype, &format.physical(dims)), format, dims);
        self.emit_pair(BinaryFn::Max, (format, dims), (&view, dims), (&min, &[]), (above.tensor, Limits::NONE));
        let out = self.output(y, format, dtype);
        self.emit_pair(BinaryFn::Min, (format, dims), (&above, dims), (&max, &[]), (out.tensor, Limits::NONE));
        Ok(())
    }

    /// [`ir::Op::Binary`].
    pub fn binary(&mut self, node: &Node, function: ir::BinaryFn) -> Result {
        let (a, b, y) = (self.operand(node, 0)?, self.operand(node, 1)?, self.result(node, 0)?);
        let function = binary_of(function);
        if self.binary_on_codes(function, (a, b), y)? {
            return Ok(());
        }
        if self.quantization(a).is_some() && self.quantization(y).is_some() {
            self.note(format!("runs in {}: no int8 kernel for it", self.float().name()));
        }
        let arithmetic = function.number() <= BinaryFn::Div.number() && self.dtype(y) == DType::F32;
        let (limits, last) = if arithmetic { self.limits(y) } else { (Limits::NONE, y) };
        let (dtype, dims) = (self.home(a), self.dims(y));
        let format = self.common_format(&[a, b], dims);
        let left = self.broadcast_operand(a, format, dtype, dims)?;
        let right = self.broadcast_operand(b, format, dtype, dims)?;
        let out = self.output(last, format, self.home(last));
        let (ad, bd) = (self.dims(a), self.dims(b));
        self.emit_pair(function, (format, dims), (&left, ad), (&right, bd), (out.tensor, limits));
        Ok(())
    }

    /// The order of a result: channels last if an operand of its size is computed in that order.
    fn common_format(&self, operands: &[ValueId], dims: &[usize]) -> Format {
        let mut large = operands.iter().filter(|&&id| self.dims(id) == dims && self.constant(id).is_none());
        if large.any(|&id| self.format_of(id) == Format::ChannelsLast) { Format::ChannelsLast } else { Format::Plain }
    }

    /// A view of an operand that broadcasts to `dims`; a large one in the result's order.
    fn broadcast_operand(&mut self, id: ValueId, format: Format, dtype: DType, dims: &[usize]) -> Result<View> {
        let own = self.dims(id);
        if own == dims || self.constant(id).is_some() {
            // Strided views (parts of a concatenation) serve as well as dense ones.
            let readable =
                |view: &View| format == Format::ChannelsLast && own.len() > 2 && view.has_runs(own) && view.offset == 0;
            return match self.find_view(id, dtype, readable) {
                Some(view) => Ok(view),
                None => self.want(id, if own.len() == dims.len() { format } else { Format::Plain }, dtype),
            };
        }
        match self.find_view(id, dtype, |view| view.offset == 0) {
            Some(view) => Ok(view),
            None => Ok(self.want_any(id, dtype)?.0),
        }
    }

    /// Swallows the limits that follow a value.
    fn limits(&mut self, y: ValueId) -> (Limits, ValueId) {
        let (mut limits, mut last) = (Limits::NONE, y);
        while let Some(user) = self.only_user(last) {
            let (lo, hi) = match self.nodes[user].op {
                ir::Op::Unary(UnaryFn::Relu) => (0.0, f64::INFINITY),
                ir::Op::Unary(UnaryFn::Clip { min, max }) if min <= max => (min, max),
                _ => break,
            };
            let Some(next) = self.nodes[user].output(0) else { break };
            limits = Limits { lo: limits.lo.clamp(lo, hi), hi: limits.hi.clamp(lo, hi) };
            self.done[user] = true;
            last = next;
        }
        (limits, last)
    }

    /// Adds a function of two; the result is dense in the given order.
    fn emit_pair(
        &mut self,
        function: BinaryFn,
        (format, dims): (Format, &[usize]),
        a: (&View, &[usize]),
        b: (&View, &[usize]),
        (y, limits): (TensorId, Limits),
    ) {
        let loops = Loops::new(format, dims, [broadcast(a.0, a.1, dims), broadcast(b.0, b.1, dims)]);
        let [left, right] = loops.strides;
        let params = BinaryParams {
            function: function.number(),
            dims: loops.dims,
            a: left,
            b: right,
            lo: limits.lo as f32,
            hi: limits.hi as f32,
        };
        self.emit(Op::Binary, &params, &[Some(a.0.tensor), Some(b.0.tensor)], &[Some(y)]);
    }

    /// Adds a function of two without limits.
    pub fn emit_binary(
        &mut self,
        function: BinaryFn,
        space: (Format, &[usize]),
        a: (&View, &[usize]),
        b: (&View, &[usize]),
        y: TensorId,
    ) {
        self.emit_pair(function, space, a, b, (y, Limits::NONE));
    }

    /// Computes a function of two on codes, if all of its tensors have them and there is a way.
    fn binary_on_codes(&mut self, function: BinaryFn, (a, b): (ValueId, ValueId), y: ValueId) -> Result<bool> {
        let single = |this: &Self, id: ValueId| this.constant(id).is_some_and(|data| data.len() == 1);
        for (x, other) in [(a, b), (b, a)] {
            let same = self.dims(x) == self.dims(y);
            if single(self, other) && same && self.quantization(x).is_some() && self.quantization(y).is_some() {
                let nodes = [self.at];
                self.table(x, y, &nodes)?;
                return Ok(true);
            }
        }
        let (Some(qa), Some(qb)) = (self.codes_of(a), self.codes_of(b)) else { return Ok(false) };
        if function.number() > BinaryFn::Mul.number() || self.constant(a).is_some() && self.constant(b).is_some() {
            return Ok(false);
        }
        if self.quantization(y).is_none()
            && self
                .only_user(y)
                .is_none_or(|user| !matches!(self.nodes[user].op, ir::Op::Unary(UnaryFn::Relu | UnaryFn::Clip { .. })))
        {
            return Ok(false);
        }
        let before = self.done.clone();
        let (limits, last) = self.limits(y);
        let Some(qy) = self.quantization(last) else {
            self.done = before;
            return Ok(false);
        };
        self.emit_qbinary(function, [(a, qa), (b, qb)], (last, qy), limits)?;
        Ok(true)
    }

    /// How an operand is stored as codes; constants without a scale of their own take one from their largest element.
    fn codes_of(&self, id: ValueId) -> Option<Quantization> {
        let constant = || {
            let data = self.constant(id).filter(|data| {
                data.dtype() == DType::F32 && self.settings.precision == crate::settings::Precision::I8
            })?;
            let most = data.to_f64().iter().fold(0f64, |most, x| most.max(x.abs()));
            Some(Quantization { scale: if most > 0.0 { (most / 127.0) as f32 } else { 1.0 }, zero: 0 })
        };
        self.quantization(id).or_else(constant)
    }

    fn emit_qbinary(
        &mut self,
        function: BinaryFn,
        operands: [(ValueId, Quantization); 2],
        (y, qy): (ValueId, Quantization),
        limits: Limits,
    ) -> Result {
        let dims = self.dims(y);
        let [(a, qa), (b, qb)] = operands;
        let format = self.common_format(&[a, b], dims);
        let mut views = Vec::with_capacity(2);
        for (id, q) in operands {
            views.push(match self.constant(id) {
                Some(data) if self.quantization(id).is_none() => {
                    let codes: Vec<i8> = data.to_f64().iter().map(|&x| code(q, x)).collect();
                    View::dense(self.program.constant(DType::I8, data.dims(), &codes), Format::Plain, data.dims())
                }
                _ => self.broadcast_operand(id, format, DType::I8, dims)?,
            });
        }
        let out = self.output(y, format, DType::I8);
        let loops = Loops::new(
            format,
            dims,
            [broadcast(&views[0], self.dims(a), dims), broadcast(&views[1], self.dims(b), dims)],
        );
        let [left, right] = loops.strides;
        let (least, most) = (f64::from(-128 - qy.zero), f64::from(127 - qy.zero));
        let limit = |real: f64| (real / f64::from(qy.scale)).clamp(least, most) as f32;
        let product = function == BinaryFn::Mul;
        let over = |scale: f32| (f64::from(scale) / f64::from(qy.scale)) as f32;
        let a_scale = if product {
            (f64::from(qa.scale) * f64::from(qb.scale) / f64::from(qy.scale)) as f32
        } else {
            over(qa.scale)
        };
        let params = QBinaryParams {
            function: function.number(),
            dims: loops.dims,
            a: left,
            b: right,
            a_zero: qa.zero,
            b_zero: qb.zero,
            y_zero: qy.zero,
            a_scale,
            b_scale: over(qb.scale),
            lo: limit(limits.lo),
            hi: limit(limits.hi),
        };
        self.emit(Op::QBinary, &params, &[Some(views[0].tensor), Some(views[1].tensor)], &[Some(out.tensor)]);
        Ok(())
    }

    /// `y` from `x`, both codes, by a table of what `nodes` (each reading the one before, or x, and constants) compute.
    fn table(&mut self, x: ValueId, y: ValueId, nodes: &[usize]) -> Result {
        let (Some(from), Some(to)) = (self.quantization(x), self.quantization(y)) else {
            return Err(self.unsupported("its tensors have no scales", "report this as a bug"));
        };
        let reals: Vec<f32> = (-128..=127).map(|code| from.scale * (code - from.zero) as f32).collect();
        let function = self.function_of(x, y, nodes, &reals);
        let reals = evaluate::constant(&function, &Kernels::scalar())
            .map_err(|error| self.unsupported(error.to_string(), "report this as a bug"))?;
        let codes: Vec<i8> = reals[0].to_f64().iter().map(|&real| code(to, real)).collect();
        let (view, format) = self.want_any(x, DType::I8)?;
        let out = self.output(y, format, DType::I8);
        self.emit_lut(&codes, self.count(x), view.tensor, out.tensor);
        Ok(())
    }

    /// A graph that computes `nodes` for these values of `x`.
    fn function_of(&self, x: ValueId, y: ValueId, nodes: &[usize], reals: &[f32]) -> Graph {
        let mut graph = Graph {
            name: "table".into(),
            nodes: nodes.iter().map(|&at| self.nodes[at].clone()).collect(),
            ..Graph::default()
        };
        let mut ids = Vec::new();
        for id in graph.nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.outputs)).flatten() {
            if !ids.contains(id) {
                ids.push(*id);
            }
        }
        for &id in &ids {
            let value = self.graph.value(id);
            match &value.data {
                _ if id == x => graph
                    .add_const("x", ir::Tensor::from_slice(&[reals.len()], reals).expect("as many elements as it has")),
                Some(data) => graph.add_const(
                    &value.name,
                    data.reshaped(&[1]).expect("constants beside a table's argument hold one element"),
                ),
                None => graph.add_value(&value.name, value.dtype, &[reals.len()]),
            };
        }
        let local = |id: ValueId| ValueId(ids.iter().position(|&other| other == id).unwrap_or_default() as u32);
        graph.outputs = vec![local(y)];
        for id in graph.nodes.iter_mut().flat_map(|node| node.inputs.iter_mut().chain(&mut node.outputs)).flatten() {
            *id = local(*id);
        }
        graph
    }

    /// The table of a look-up that has these codes for -128..=127.
    fn codes_table(&mut self, codes: &[i8]) -> TensorId {
        // It is indexed by the code's bits.
        let table: Vec<i8> = codes[128..].iter().chain(&codes[..128]).copied().collect();
        self.program.constant(DType::U8, &[256], &table)
    }

    /// Adds a look-up of codes -128..=127 in this order.
    fn emit_lut(&mut self, codes: &[i8], count: u32, x: TensorId, y: TensorId) {
        let table = self.codes_table(codes);
        self.emit(Op::Lut, &LutParams { count }, &[Some(x), Some(table)], &[Some(y)]);
    }

    /// The table that turns codes of one scale and zero point into those of another.
    pub fn requantization(&mut self, from: Quantization, to: Quantization) -> TensorId {
        self.codes_table(&recoded(from, to))
    }

    /// A dense view of the same numbers with another scale and zero point; not kept as one of the value's views.
    pub fn requantized(&mut self, id: ValueId, from: Quantization, to: Quantization) -> Result<View> {
        let codes = recoded(from, to);
        let (view, format) = self.want_any(id, DType::I8)?;
        let made = self.temporary(DType::I8, &format.physical(self.dims(id)));
        self.emit_lut(&codes, self.count(id), view.tensor, made);
        Ok(View { tensor: made, ..view })
    }

    /// [`ir::Op::Where`].
    pub fn choose(&mut self, node: &Node) -> Result {
        let (condition, a, b) = (self.operand(node, 0)?, self.operand(node, 1)?, self.operand(node, 2)?);
        let y = self.result(node, 0)?;
        let (dtype, dims) = (self.home(y), self.dims(y));
        let format = self.common_format(&[a, b, condition], dims);
        let chosen = self.broadcast_operand(condition, format, DType::Bool, dims)?;
        let (left, right) =
            (self.broadcast_operand(a, format, dtype, dims)?, self.broadcast_operand(b, format, dtype, dims)?);
        let out = self.output(y, format, dtype);
        let operands = [
            broadcast(&chosen, self.dims(condition), dims),
            broadcast(&left, self.dims(a), dims),
            broadcast(&right, self.dims(b), dims),
        ];
        let loops = Loops::new(format, dims, operands);
        let [condition, a, b] = loops.strides;
        let params = WhereParams { dims: loops.dims, condition, a, b };
        self.emit(
            Op::Where,
            &params,
            &[Some(chosen.tensor), Some(left.tensor), Some(right.tensor)],
            &[Some(out.tensor)],
        );
        Ok(())
    }

    /// [`ir::Op::Cast`].
    pub fn cast(&mut self, node: &Node) -> Result {
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        let (from, to) = (self.home(x), self.home(y));
        let (view, format) = self.want_any(x, from)?;
        if from == to {
            self.add_view(y, to, view);
            return Ok(());
        }
        let out = self.output(y, format, to);
        self.emit(Op::Cast, &LutParams { count: self.count(y) }, &[Some(view.tensor)], &[Some(out.tensor)]);
        Ok(())
    }
}

/// What the codes -128..=127 of one scale and zero point are in another.
fn recoded(from: Quantization, to: Quantization) -> Vec<i8> {
    (-128..=127).map(|c| code(to, f64::from(from.scale) * f64::from(c - from.zero))).collect()
}
