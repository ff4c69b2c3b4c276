//! ONNX's operators on integers: convolutions and matrix products of codes with explicit zero points.
//!
//! The kernels multiply i8 by i8. Unsigned codes become signed by flipping their top bit, their zero point falling by 128.
//! Constant weights lose their zero point here; where what remains does not fit i8 it is the difference of two parts that
//! do, and so is the layer: two convolutions to i32, one subtraction.

use super::conv::{Job, Numbers, Picture, geometry, taps_first, two_axes};
use super::matmul::{Matrices, transpose};
use super::pack::Values;
use super::view::{Format, View};
use super::{Lowerer, Result};
use crate::ir::{self, Node, ValueId};
use crate::program::TensorId;
use sparrow_kernels::{Activation, BinaryFn, ConvParams, DType, Op, RequantizeParams, WeightShape};

/// What becomes of the i32 sums.
struct Requantization {
    /// Added to the sums.
    bias: Vec<i32>,
    /// Real value of a sum over the result's scale, for each output channel.
    factors: Vec<f32>,
    /// The result's zero point as a signed code.
    zero: i32,
}

/// A layer on codes: geometry of its operator, and weights less their zero point, `[groups][oc][taps][kc]`.
struct CodeLayer {
    params: ConvParams,
    shape: WeightShape,
    depthwise: bool,
    x: TensorId,
    x_zero: i32,
    weights: Vec<i32>,
}

impl Lowerer<'_> {
    /// A constant's elements as integers.
    fn integers(&self, id: ValueId) -> Result<Vec<i32>> {
        let data = self.known(id)?;
        data.to_i64()
            .map(|list| list.into_iter().map(|i| i as i32).collect())
            .ok_or_else(|| self.unsupported("an integer operand is float", "repair the model"))
    }

    /// A zero point as the signed code it becomes; absent means 0.
    fn zero_of(&self, zero: Option<ValueId>, of: ValueId) -> Result<i32> {
        let zeros = zero.map_or(Ok(vec![0]), |zero| self.integers(zero))?;
        if zeros.iter().any(|zero| *zero != zeros[0]) {
            return Err(self
                .unsupported("a computed operand has several zero points", "use one zero point for the whole tensor"));
        }
        let shift = if self.dtype(of) == DType::U8 { 128 } else { 0 };
        Ok(zeros.first().copied().unwrap_or(0) - shift)
    }

    /// Constant weights less their zero point, which is one number or one for each of `rows` rows.
    fn centred(&self, w: ValueId, zero: Option<ValueId>, row_of: impl Fn(usize) -> usize) -> Result<Vec<i32>> {
        let zeros = zero.map_or(Ok(vec![0]), |zero| self.integers(zero))?;
        let zero_at = |i: usize| if zeros.len() == 1 { zeros[0] } else { zeros.get(row_of(i)).copied().unwrap_or(0) };
        Ok(self.integers(w)?.into_iter().enumerate().map(|(i, w)| w - zero_at(i)).collect())
    }

    /// Scales of the operands at these positions: x, w (one for each of `rows`) and y, as one factor per row.
    fn factors(&self, node: &Node, [x, w, y]: [usize; 3], rows: usize) -> Result<Vec<f32>> {
        let scale = |index: usize| Ok(self.known(self.operand(node, index)?)?.to_f64());
        let (x, w, y) = (scale(x)?, scale(w)?, scale(y)?);
        let at = |scales: &[f64], i: usize| {
            if scales.len() == 1 { scales[0] } else { scales.get(i).copied().unwrap_or(1.0) }
        };
        Ok((0..rows).map(|i| (at(&x, 0) * at(&w, i) / at(&y, 0)) as f32).collect())
    }

    /// The geometry and weights of a convolution of codes.
    fn code_conv(
        &mut self,
        (x, x_zero): (ValueId, i32),
        (w, w_zero): (ValueId, Option<ValueId>),
        conv: &ir::Conv,
    ) -> Result<(CodeLayer, [ir::WindowAxis; 2], Picture)> {
        let (xd, wd) = (self.dims(x), self.dims(w));
        let window = two_axes(&conv.window);
        let taps = window[0].kernel * window[1].kernel;
        let per_row = wd[1] * taps;
        let weights = taps_first(&self.centred(w, w_zero, |i| i / per_row)?, wd[1], taps);
        let depthwise = conv.group > 1 && conv.group == xd[1] && conv.group == wd[0];
        let groups = if depthwise { 1 } else { conv.group };
        let shape = WeightShape { groups, oc: wd[0] / groups, taps, kc: if depthwise { 1 } else { wd[1] } };
        let input = Picture::new(&self.want_runs(x, DType::I8)?, xd);
        Ok((
            CodeLayer { params: ConvParams::default(), shape, depthwise, x: input.tensor, x_zero, weights },
            window,
            input,
        ))
    }

    /// [`ir::Op::ConvInteger`].
    pub fn conv_integer(&mut self, node: &Node, conv: &ir::Conv) -> Result {
        let (x, w, y) = (self.operand(node, 0)?, self.operand(node, 1)?, self.result(node, 0)?);
        let x_zero = self.zero_of(node.input(2), x)?;
        let (mut layer, window, input) = self.code_conv((x, x_zero), (w, node.input(3)), conv)?;
        let out = self.output(y, Format::ChannelsLast, DType::I32);
        layer.params = geometry(&input, &Picture::new(&out, self.dims(y)), &window, layer.shape);
        let channels = layer.shape.oc * layer.shape.groups;
        self.code_sums(&layer, &vec![0; channels], out.tensor)
    }

    /// [`ir::Op::QLinearConv`].
    pub fn qlinear_conv(&mut self, node: &Node, conv: &ir::Conv) -> Result {
        let (x, w, y) = (self.operand(node, 0)?, self.operand(node, 3)?, self.result(node, 0)?);
        let x_zero = self.zero_of(node.input(2), x)?;
        let channels = self.dims(w)[0];
        let bias = node.input(8).map_or(Ok(vec![0; channels]), |bias| self.integers(bias))?;
        let ending = Requantization {
            bias,
            factors: self.factors(node, [1, 4, 6], channels)?,
            zero: self.zero_of(node.input(7), y)?,
        };
        let (mut layer, window, input) = self.code_conv((x, x_zero), (w, node.input(5)), conv)?;
        let out = self.output(y, Format::ChannelsLast, DType::I8);
        layer.params = geometry(&input, &Picture::new(&out, self.dims(y)), &window, layer.shape);
        self.code_layer(&layer, &ending, &out)
    }

    /// A layer whose sums are requantized.
    fn code_layer(&mut self, layer: &CodeLayer, ending: &Requantization, out: &View) -> Result {
        let (lo, hi) = ((-128 - ending.zero) as f32, (127 - ending.zero) as f32);
        if fits(&layer.weights) {
            let params =
                ConvParams { lo, hi, y_zero: ending.zero, activation: Activation::Clamp.number(), ..layer.params };
            let scale = Some(self.channel_vector(DType::F32, &ending.factors, layer.shape.oc));
            return self.code_part(
                &CodeLayer { params, weights: layer.weights.clone(), ..*layer },
                &ending.bias,
                scale,
                out.tensor,
            );
        }
        // Dense in the same order as the result.
        let dims: Vec<usize> = self.program.tensor(out.tensor).dims.iter().map(|&d| d as usize).collect();
        let sums = self.temporary(DType::I32, &dims);
        self.code_sums(layer, &ending.bias, sums)?;
        let channels = ending.factors.len();
        let outer = dims.iter().product::<usize>() / channels.max(1);
        self.requantize((sums, out.tensor), [outer, channels, 1], ending)
    }

    /// Adds the step from sums `[outer][channels][inner]` to signed codes.
    fn requantize(
        &mut self,
        (x, y): (TensorId, TensorId),
        [outer, channels, inner]: [usize; 3],
        ending: &Requantization,
    ) -> Result {
        let factors = self.program.constant(DType::F32, &[ending.factors.len()], &ending.factors);
        let (lo, hi) = ((-128 - ending.zero) as f32, (127 - ending.zero) as f32);
        let params = RequantizeParams {
            outer: outer as u32,
            channels: channels as u32,
            inner: inner as u32,
            x_zero: 0,
            y_zero: ending.zero,
            lo,
            hi,
        };
        self.emit(Op::Requantize, &params, &[Some(x), Some(factors)], &[Some(y)]);
        Ok(())
    }

    /// The i32 sums of a layer, in one operator or in two and a difference.
    fn code_sums(&mut self, layer: &CodeLayer, bias: &[i32], y: TensorId) -> Result {
        if fits(&layer.weights) {
            return self.code_part(&CodeLayer { weights: layer.weights.clone(), ..*layer }, bias, None, y);
        }
        // Differences of two bytes lie in -255..=255, so both parts of floor(w / 2) - (floor(w / 2) - w) fit a byte.
        let parts_of = |part: fn(i32) -> i32| layer.weights.iter().map(|&w| part(w)).collect::<Vec<i32>>();
        let dims: Vec<usize> = self.program.tensor(y).dims.iter().map(|&d| d as usize).collect();
        let parts = [self.temporary(DType::I32, &dims), self.temporary(DType::I32, &dims)];
        let none = vec![0; bias.len()];
        self.code_part(&CodeLayer { weights: parts_of(|w| w >> 1), ..*layer }, bias, None, parts[0])?;
        self.code_part(&CodeLayer { weights: parts_of(|w| (w >> 1) - w), ..*layer }, &none, None, parts[1])?;
        let [a, b] = parts.map(|tensor| View::dense(tensor, Format::Plain, &dims));
        self.emit_binary(BinaryFn::Sub, (Format::Plain, &dims), (&a, &dims), (&b, &dims), y);
        Ok(())
    }

    /// One operator of a layer on codes.
    fn code_part(&mut self, layer: &CodeLayer, bias: &[i32], scale: Option<TensorId>, y: TensorId) -> Result {
        let per_channel = (layer.shape.taps * layer.shape.kc).max(1);
        let codes: Vec<i8> = layer.weights.iter().map(|&w| w as i8).collect();
        let sums = codes.chunks(per_channel).map(|row| row.iter().map(|&w| i32::from(w)).sum::<i32>());
        let folded: Vec<i32> =
            bias.iter().zip(sums).map(|(bias, sum)| bias.wrapping_sub(layer.x_zero.wrapping_mul(sum))).collect();
        let bias = self.channel_vector(DType::I32, &folded, layer.shape.oc);
        let job =
            Job { params: layer.params, shape: layer.shape, depthwise: layer.depthwise, x: layer.x, y, residual: None };
        self.emit_conv(&job, Numbers { weights: Values::Codes(codes), bias, scale, slopes: None, x_zero: layer.x_zero })
    }

    /// A product with constant `[k, n]` codes, as a layer.
    fn code_product(
        &mut self,
        (a, a_zero): (ValueId, i32),
        (b, b_zero): (ValueId, Option<ValueId>),
        y: TensorId,
    ) -> Result<CodeLayer> {
        let bd = self.dims(b);
        let weights = transpose(&self.centred(b, b_zero, |i| i % bd[1])?, bd[0], bd[1]);
        let view = self.want(a, Format::Plain, DType::I8)?;
        let rows = self.dims(a).iter().product::<usize>() / bd[0];
        let shape = WeightShape { groups: 1, oc: bd[1], taps: 1, kc: bd[0] };
        let (input, output) = (Picture::matrix(view.tensor, rows, bd[0]), Picture::matrix(y, rows, bd[1]));
        let params = geometry(&input, &output, &two_axes(&[]), shape);
        Ok(CodeLayer { params, shape, depthwise: false, x: view.tensor, x_zero: a_zero, weights })
    }

    /// Whether a right operand can be packed.
    fn is_matrix_constant(&self, b: ValueId) -> bool {
        self.constant(b).is_some() && self.dims(b).len() == 2 && !self.dims(b).contains(&0)
    }

    /// The i32 product of two computed operands.
    fn computed_codes(
        &mut self,
        (a, a_zero): (ValueId, i32),
        (b, b_zero): (ValueId, Option<ValueId>),
        y: TensorId,
    ) -> Result {
        let b_zero = self.zero_of(b_zero, b)?;
        let left = Matrices::new(&self.want(a, Format::Plain, DType::I8)?, self.dims(a), true);
        let right = Matrices::new(&self.want(b, Format::Plain, DType::I8)?, self.dims(b), false);
        self.emit_matmul(&left, &right, (a_zero, b_zero), y)
    }

    /// [`ir::Op::MatMulInteger`].
    pub fn matmul_integer(&mut self, node: &Node) -> Result {
        let (a, b, y) = (self.operand(node, 0)?, self.operand(node, 1)?, self.result(node, 0)?);
        let a_zero = self.zero_of(node.input(2), a)?;
        let out = self.output(y, Format::Plain, DType::I32).tensor;
        if !self.is_matrix_constant(b) {
            return self.computed_codes((a, a_zero), (b, node.input(3)), out);
        }
        let layer = self.code_product((a, a_zero), (b, node.input(3)), out)?;
        self.code_sums(&layer, &vec![0; layer.shape.oc], out)
    }

    /// [`ir::Op::QLinearMatMul`].
    pub fn qlinear_matmul(&mut self, node: &Node) -> Result {
        let (a, b, y) = (self.operand(node, 0)?, self.operand(node, 3)?, self.result(node, 0)?);
        let a_zero = self.zero_of(node.input(2), a)?;
        let n = if self.dims(b).len() == 1 { 1 } else { self.dims(b)[self.dims(b).len() - 1] };
        if self.known(self.operand(node, 1)?)?.len() != 1 {
            return Err(
                self.unsupported("its left operand has a scale for each row", "use one scale for the whole tensor")
            );
        }
        let ending = Requantization {
            bias: vec![0; n],
            factors: self.factors(node, [1, 4, 6], n)?,
            zero: self.zero_of(node.input(7), y)?,
        };
        let out = self.output(y, Format::Plain, DType::I8);
        if self.is_matrix_constant(b) {
            let layer = self.code_product((a, a_zero), (b, node.input(5)), out.tensor)?;
            return self.code_layer(&layer, &ending, &out);
        }
        let sums = self.temporary(DType::I32, self.dims(y));
        self.computed_codes((a, a_zero), (b, node.input(5)), sums)?;
        self.requantize((sums, out.tensor), [self.count(y) as usize / n.max(1), n, 1], &ending)
    }
}

/// Whether all are signed bytes.
fn fits(weights: &[i32]) -> bool {
    weights.iter().all(|w| i8::try_from(*w).is_ok())
}
