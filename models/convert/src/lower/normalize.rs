//! Normalizations. Their kernels compute in f32.

use super::reduce::Along;
use super::view::{Format, View};
use super::{Lowerer, Result};
use crate::ir::{self, Node, ValueId};
use sparrow_kernels::{BinaryFn, DType, LrnParams, NormAffine, NormParams, Op};

impl Lowerer<'_> {
    /// [`ir::Op::BatchNorm`] that no pass has folded into a convolution: a product and a sum per channel.
    pub fn batch_norm(&mut self, node: &Node, epsilon: f32) -> Result {
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        let mut numbers = Vec::with_capacity(4);
        for index in 1..5 {
            numbers.push(self.known(self.operand(node, index)?)?.to_f64());
        }
        self.runs_in_floats(x);
        let [scale, bias, mean, variance] = &numbers[..] else { return Ok(()) };
        let channels = 0..scale.len();
        let factors: Vec<f64> =
            channels.clone().map(|c| scale[c] / (variance[c] + f64::from(epsilon)).sqrt()).collect();
        let terms: Vec<f64> = channels.map(|c| bias[c] - mean[c] * factors[c]).collect();
        let (dims, float) = (self.dims(x), self.float());
        let (view, format) = self.want_any(x, float)?;
        let shape: Vec<usize> = (0..dims.len()).map(|axis| if axis == 1 { dims[1] } else { 1 }).collect();
        let (factors, terms) = (self.float_constant(&factors, &shape), self.float_constant(&terms, &shape));
        let scaled = View::dense(self.temporary(float, &format.physical(dims)), format, dims);
        let out = self.output(y, format, float);
        self.emit_binary(BinaryFn::Mul, (format, dims), (&view, dims), (&factors, &shape), scaled.tensor);
        self.emit_binary(BinaryFn::Add, (format, dims), (&scaled, dims), (&terms, &shape), out.tensor);
        Ok(())
    }

    /// Numbers as a plain constant of the network's float type.
    fn float_constant(&mut self, numbers: &[f64], dims: &[usize]) -> View {
        let tensor = if self.float() == DType::F16 {
            let halves: Vec<half::f16> = numbers.iter().map(|&x| half::f16::from_f64(x)).collect();
            self.program.constant(DType::F16, dims, &halves)
        } else {
            let floats: Vec<f32> = numbers.iter().map(|&x| x as f32).collect();
            self.program.constant(DType::F32, dims, &floats)
        };
        View::dense(tensor, Format::Plain, dims)
    }

    /// [`ir::Op::InstanceNorm`].
    pub fn instance_norm(&mut self, node: &Node, epsilon: f32) -> Result {
        let (x, scale, bias, y) =
            (self.operand(node, 0)?, self.operand(node, 1)?, self.operand(node, 2)?, self.result(node, 0)?);
        self.f32_only(x);
        let (view, format) = self.want_any(x, DType::F32)?;
        let scale = self.want(scale, Format::Plain, DType::F32)?;
        let bias = self.want(bias, Format::Plain, DType::F32)?;
        let out = self.output(y, format, DType::F32);
        let dims = self.dims(x);
        let (batch, channels, spatial) = (dims[0] as u32, dims[1] as u32, dims[2..].iter().product::<usize>() as u32);
        let params = match format {
            Format::ChannelsLast => NormParams {
                outer: batch,
                len: spatial,
                inner: channels,
                affine: NormAffine::Inner.number(),
                channels,
                epsilon,
            },
            Format::Plain => NormParams {
                outer: batch * channels,
                len: spatial,
                inner: 1,
                affine: NormAffine::Outer.number(),
                channels,
                epsilon,
            },
        };
        self.emit(Op::Norm, &params, &[Some(view.tensor), Some(scale.tensor), Some(bias.tensor)], &[Some(out.tensor)]);
        Ok(())
    }

    /// [`ir::Op::LayerNorm`].
    pub fn layer_norm(&mut self, node: &Node, axis: usize, epsilon: f32) -> Result {
        let (x, scale, y) = (self.operand(node, 0)?, self.operand(node, 1)?, self.result(node, 0)?);
        self.f32_only(x);
        let dims = self.dims(x);
        let view = self.want(x, Format::Plain, DType::F32)?;
        let scale = self.normalized_operand(scale, &dims[axis..])?;
        let bias = node.input(2).map(|bias| self.normalized_operand(bias, &dims[axis..])).transpose()?;
        let out = self.output(y, Format::Plain, DType::F32).tensor;
        let wanted =
            [node.output(1), node.output(2)].map(|id| id.map(|id| self.output(id, Format::Plain, DType::F32).tensor));
        let outer = dims[..axis].iter().product::<usize>() as u32;
        let len = dims[axis..].iter().product::<usize>() as u32;
        let params = NormParams { outer, len, inner: 1, affine: NormAffine::Len.number(), channels: len, epsilon };
        self.emit(
            Op::Norm,
            &params,
            &[Some(view.tensor), Some(scale.tensor), bias.map(|b| b.tensor)],
            &[Some(out), wanted[0], wanted[1]],
        );
        Ok(())
    }

    /// Scale or bias of a layer normalization, one number for every normalized element.
    fn normalized_operand(&mut self, id: ValueId, normalized: &[usize]) -> Result<View> {
        let view = self.want(id, Format::Plain, DType::F32)?;
        let dims = self.dims(id);
        let own: Vec<usize> = dims.iter().skip_while(|&&dim| dim == 1).copied().collect();
        if own.iter().product::<usize>() == normalized.iter().product() {
            return Ok(view);
        }
        if own.len() > normalized.len() {
            return Err(self.unsupported(
                "its scale varies along axes that are not normalized",
                "multiply by the scale in a node of its own",
            ));
        }
        let lead = dims.len().saturating_sub(normalized.len());
        let mut strides = vec![0; normalized.len().saturating_sub(dims.len())];
        strides.extend((lead..dims.len()).map(|axis| if dims[axis] == 1 { 0 } else { view.strides[axis] }));
        let whole = View::dense(self.temporary(DType::F32, normalized), Format::Plain, normalized);
        self.copy(normalized, &View { strides, ..view }, &whole)?;
        Ok(whole)
    }

    /// [`ir::Op::Lrn`].
    pub fn lrn(&mut self, node: &Node) -> Result {
        let ir::Op::Lrn { size, alpha, beta, bias } = node.op else { return Ok(()) };
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        self.f32_only(x);
        let (view, format) = self.want_any(x, DType::F32)?;
        let out = self.output(y, format, DType::F32);
        let Along { outer, len, inner } = Along::new(format, self.dims(x), 1);
        let params = LrnParams { outer, channels: len, inner, size: size as u32, alpha, beta, bias };
        self.emit(Op::Lrn, &params, &[Some(view.tensor)], &[Some(out.tensor)]);
        Ok(())
    }

    /// Notes that an operator computes in f32 though its operand is stored otherwise.
    fn f32_only(&mut self, x: ValueId) {
        let operator = self.nodes[self.at].onnx_op.clone();
        if self.home(x) != DType::F32 {
            self.note(format!("runs in f32: no f16 kernel for {operator}"));
        }
        if self.quantization(x).is_some() {
            self.note(format!("runs in f32: no int8 kernel for {operator}"));
        }
    }
}
