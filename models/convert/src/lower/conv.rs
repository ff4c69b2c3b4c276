//! Convolutions and products with constant weights.
//!
//! All of them become [`Op::Conv`] or [`Op::Depthwise`] through one [`Job`]: geometry, weights ordered
//! `[groups][oc][taps][kc]`, and the [`Arithmetic`] that turns real numbers into what the kernel of the chosen precision
//! reads.
//!
//! A layer with few input channels (a network's first) reads a row of taps as one run, for then the run is long enough to
//! be worth a vector loop. Runs may not leave the picture, so it is first copied into a frame of padding; that copy is
//! at the same time the one from the caller's order to channels last.
//!
//! ```text
//! 3x3, 3 channels:  tap (ky, kx) reads [c c c]              9 runs of 3
//!                   tap  ky      reads [c c c c c c c c c]  3 runs of 9, the next pixel's 3 elements on
//! ```

use super::fuse::{Abilities, Tail};
use super::pack::{self, Values, Weights};
use super::view::{Format, View};
use super::{Lowerer, Result};
use crate::ir::{self, Node, ValueId, WindowAxis};
use crate::program::TensorId;
use crate::quantize::weight_scales;
use crate::settings::{Precision, Quantization};
use sparrow_kernels::{Activation, ConvParams, DType, Op, Strides, WeightShape, conv_input};

/// Most taps a kernel takes.
const MAX_TAPS: usize = 256;
/// Longest run that a row of taps is joined into.
const MAX_JOINED_RUN: usize = 64;
/// Channels from which a tap's run is long enough by itself.
const MANY_CHANNELS: usize = 16;
/// Channels below which joining a row pays even if the picture must be copied for it.
const FEW_CHANNELS: usize = 8;

/// The numbers of a layer, apart from its weights and its geometry.
#[derive(Clone, Debug)]
pub(super) struct Arithmetic {
    /// How the input is quantized, if the layer runs in int8.
    pub x: Option<Quantization>,
    /// int8: scale of each output channel's weights.
    pub scales: Vec<f32>,
    /// Added to each output channel, before the tail's own.
    pub bias: Vec<f64>,
    /// What follows the sum.
    pub tail: Tail,
}

impl Arithmetic {
    /// The layer's bias and the tail's.
    fn whole_bias(&self) -> Vec<f64> {
        let tail = self.tail.bias.iter().flatten().copied().chain(std::iter::repeat(0.0));
        self.bias.iter().zip(tail).map(|(a, b)| a + b).collect()
    }
}

/// One operator of a layer: a whole convolution, or one phase of a transposed one.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Geometry, with the strides of x, y and residual.
    pub params: ConvParams,
    /// Shape of the weights.
    pub shape: WeightShape,
    /// Whether each channel is convolved by itself.
    pub depthwise: bool,
    pub x: TensorId,
    pub y: TensorId,
    pub residual: Option<TensorId>,
}

/// The operands that hold a layer's numbers.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    /// `[groups][oc][taps][kc]`.
    pub weights: Values,
    pub bias: TensorId,
    /// int8.
    pub scale: Option<TensorId>,
    pub slopes: Option<TensorId>,
    /// The code of 0 of an int8 input.
    pub x_zero: i32,
}

/// A picture as a convolution reads or writes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picture {
    pub tensor: TensorId,
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub strides: Strides,
}

impl Picture {
    /// A view of an activation, `[N, C, H, W]` or `[N, C, W]`.
    pub fn new(view: &View, dims: &[usize]) -> Self {
        let two = dims.len() == 4;
        let strides = Strides {
            offset: view.offset as u32,
            pixel: view.strides[dims.len() - 1] as u32,
            row: if two { view.strides[2] as u32 } else { 0 },
            batch: view.strides[0] as u32,
        };
        Self {
            tensor: view.tensor,
            batch: dims[0],
            height: if two { dims[2] } else { 1 },
            width: dims[dims.len() - 1],
            strides,
        }
    }
}

impl Picture {
    /// A dense matrix: a picture one row high whose pixels are the matrix's rows.
    pub fn matrix(tensor: TensorId, rows: usize, columns: usize) -> Self {
        let strides = Strides { offset: 0, pixel: columns as u32, row: 0, batch: 0 };
        Self { tensor, batch: 1, height: 1, width: rows, strides }
    }
}

/// The window along height and width; a one-dimensional convolution has height 1.
pub(super) fn two_axes(window: &[WindowAxis]) -> [WindowAxis; 2] {
    let flat = WindowAxis { kernel: 1, stride: 1, dilation: 1, pad_begin: 0, pad_end: 0 };
    match window {
        [h, w] => [*h, *w],
        _ => [flat, window.first().copied().unwrap_or(flat)],
    }
}

/// Weights `[rows][inner][taps]` as `[rows][taps][inner]`.
pub(super) fn taps_first<T: Copy>(weights: &[T], inner: usize, taps: usize) -> Vec<T> {
    let mut ordered = Vec::with_capacity(weights.len());
    for row in weights.chunks_exact((inner * taps).max(1)) {
        for tap in 0..taps {
            ordered.extend((0..inner).map(|i| row[i * taps + tap]));
        }
    }
    ordered
}

impl Lowerer<'_> {
    /// [`ir::Op::Conv`].
    pub fn conv(&mut self, node: &Node, conv: &ir::Conv) -> Result {
        let (x, w) = (self.operand(node, 0)?, self.operand(node, 1)?);
        let first = self.result(node, 0)?;
        let weights = self.real(w)?;
        let (xd, wd) = (self.dims(x), self.dims(w));
        let window = two_axes(&conv.window);
        let taps = window[0].kernel * window[1].kernel;
        let bias = self.bias(node.input(2), wd[0])?;
        let arithmetic = self.arithmetic((x, w), first, 1, (&weights, bias))?;
        let depthwise = conv.group > 1 && conv.group == xd[1] && conv.group == wd[0];
        let ordered = taps_first(&weights, wd[1], taps);
        let picture = Joined { x, window, group: conv.group };
        let (input, window, joined) = self.input_picture(&picture, arithmetic.x)?;
        let residual = self.residual_picture(&arithmetic)?;
        let reads = [Some(input.tensor), residual.map(|r| r.tensor)];
        let output = self.output_picture(&arithmetic, &reads);
        let kc = if depthwise { 1 } else { wd[1] * joined };
        let groups = if depthwise { 1 } else { conv.group };
        let shape = WeightShape { groups, oc: wd[0] / groups, taps: taps / joined, kc };
        let mut params = geometry(&input, &output, &window, shape);
        params.residual = residual.map_or(Strides::default(), |r| r.strides);
        let residual = residual.map(|r| r.tensor);
        self.emit_job(
            Job { params, shape, depthwise, x: input.tensor, y: output.tensor, residual },
            &ordered,
            &arithmetic,
        )
    }

    /// A constant's elements as real numbers.
    pub fn real(&self, id: ValueId) -> Result<Vec<f32>> {
        Ok(self.known(id)?.to_f64().iter().map(|&w| w as f32).collect())
    }

    /// The bias operand, zeros if there is none.
    pub fn bias(&self, id: Option<ValueId>, channels: usize) -> Result<Vec<f64>> {
        id.map_or(Ok(vec![0.0; channels]), |id| Ok(self.known(id)?.to_f64()))
    }

    /// Decides in what numbers a layer of these operands runs, and swallows the chain behind it.
    /// `weights` are ordered by output channel.
    pub fn arithmetic(
        &mut self,
        (x, w): (ValueId, ValueId),
        first: ValueId,
        channel_axis: usize,
        (weights, bias): (&[f32], Vec<f64>),
    ) -> Result<Arithmetic> {
        let codes = self.quantization(x);
        if codes.is_none() && self.settings.precision == Precision::I8 {
            self.note("runs in f32: its input has no scale");
        }
        let tail = self.tail(first, Abilities { channel_axis, int8: codes.is_some() });
        let mut arithmetic = Arithmetic { x: codes, scales: Vec::new(), bias, tail };
        if let Some(x) = codes {
            arithmetic.scales = match self.settings.weights.get(&w) {
                Some(scales) if scales.len() == arithmetic.bias.len() => scales.clone(),
                _ => weight_scales(weights, &arithmetic.whole_bias(), x.scale),
            };
        }
        Ok(arithmetic)
    }

    /// Type of a layer's result.
    pub fn result_type(&self, arithmetic: &Arithmetic) -> DType {
        match (arithmetic.x, self.quantization(arithmetic.tail.last)) {
            (Some(_), Some(_)) => DType::I8,
            (Some(_), None) => DType::F32,
            _ => self.float(),
        }
    }

    /// Where the result of a layer that reads these tensors goes.
    pub fn output_picture(&mut self, arithmetic: &Arithmetic, reads: &[Option<TensorId>]) -> Picture {
        let last = arithmetic.tail.last;
        let view = self.output_runs(last, self.result_type(arithmetic), reads);
        Picture::new(&view, self.dims(last))
    }

    /// What is added to a layer's result.
    pub fn residual_picture(&mut self, arithmetic: &Arithmetic) -> Result<Option<Picture>> {
        let Some(residual) = arithmetic.tail.residual else { return Ok(None) };
        let view = self.want_runs(residual, self.result_type(arithmetic))?;
        Ok(Some(Picture::new(&view, self.dims(residual))))
    }

    /// The picture a convolution reads, its window, and how many taps of a row are joined into one run.
    fn input_picture(
        &mut self,
        conv: &Joined,
        codes: Option<Quantization>,
    ) -> Result<(Picture, [WindowAxis; 2], usize)> {
        let dims = self.dims(conv.x);
        let dtype = if codes.is_some() { DType::I8 } else { self.float() };
        let channels = dims[1];
        let [h, w] = conv.window;
        let pads = [h.pad_begin, h.pad_end, w.pad_begin, w.pad_end];
        let short = conv.group == 1 && channels < MANY_CHANNELS && channels * w.kernel <= MAX_JOINED_RUN;
        let ready = self.find_view(conv.x, dtype, |view| view.has_runs(dims));
        let gapless =
            ready.as_ref().is_some_and(|view| view.strides[dims.len() - 1] == channels || dims[dims.len() - 1] == 1);
        let pays = ready.is_none() || channels < FEW_CHANNELS || pads == [0; 4] && gapless;
        if !(short && pays && w.kernel > 1 && w.dilation == 1) {
            let view = self.want_runs(conv.x, dtype)?;
            return Ok((Picture::new(&view, dims), conv.window, 1));
        }
        let mut picture = match ready {
            Some(view) if pads == [0; 4] && gapless => Picture::new(&view, dims),
            _ => self.framed(conv, dtype, codes.map_or(0, |q| q.zero))?,
        };
        picture.width = picture.width + 1 - w.kernel;
        let still = |axis: WindowAxis| WindowAxis { pad_begin: 0, pad_end: 0, ..axis };
        Ok((picture, [still(h), WindowAxis { kernel: 1, ..still(w) }], w.kernel))
    }

    /// A copy of a picture, channels last, in a frame of padding.
    fn framed(&mut self, conv: &Joined, dtype: DType, zero: i32) -> Result<Picture> {
        let dims = self.dims(conv.x);
        let [h, w] = conv.window;
        let (channels, two) = (dims[1], dims.len() == 4);
        let height = if two { dims[2] } else { 1 } + h.pad_begin + h.pad_end;
        let width = dims[dims.len() - 1] + w.pad_begin + w.pad_end;
        let (from, _) = self.want_any(conv.x, dtype)?;
        let frame = self.temporary(dtype, &[dims[0], height, width, channels]);
        if (height - if two { dims[2] } else { 1 }) + (width - dims[dims.len() - 1]) > 0 {
            self.fill(frame, u64::from(zero as i8 as u8));
        }
        let mut strides = vec![height * width * channels, 1, width * channels, channels];
        if !two {
            strides.remove(2);
        }
        let inside = View { tensor: frame, offset: (h.pad_begin * width + w.pad_begin) * channels, strides };
        self.copy(dims, &from, &inside)?;
        let strides = Strides {
            offset: 0,
            pixel: channels as u32,
            row: (width * channels) as u32,
            batch: (height * width * channels) as u32,
        };
        Ok(Picture { tensor: frame, batch: dims[0], height, width, strides })
    }

    /// Adds one operator of a layer; `weights` are ordered `[groups][oc][taps][kc]`.
    pub fn emit_job(&mut self, mut job: Job, weights: &[f32], arithmetic: &Arithmetic) -> Result {
        let out = self.program.tensor(job.y).dtype;
        self.activate(&mut job.params, arithmetic, out);
        let numbers = self.numbers(&job, weights, arithmetic, out);
        self.emit_conv(&job, numbers)
    }

    /// Packs the weights of one operator and adds it to the program.
    pub fn emit_conv(&mut self, job: &Job, numbers: Numbers) -> Result {
        if job.shape.taps > MAX_TAPS {
            return Err(self.unsupported(
                format!("its kernel has {} taps, at most {MAX_TAPS} are supported", job.shape.taps),
                "use a smaller kernel",
            ));
        }
        let pad = self.pad_row(job, numbers.x_zero);
        let block = self.settings.blocks.get(&self.at).copied();
        let packed = self.pack(Weights { shape: job.shape, depthwise: job.depthwise, values: numbers.weights, block });
        let mut inputs = [None; sparrow_kernels::MAX_INPUTS];
        inputs[conv_input::X] = Some(job.x);
        inputs[conv_input::WEIGHTS] = Some(packed.weights);
        inputs[conv_input::BIAS] = Some(numbers.bias);
        inputs[conv_input::SCALE] = numbers.scale;
        inputs[conv_input::RESIDUAL] = job.residual;
        inputs[conv_input::INDEX] = packed.index;
        inputs[conv_input::PAD] = Some(pad);
        inputs[conv_input::SLOPES] = numbers.slopes;
        let op = if job.depthwise { Op::Depthwise } else { Op::Conv };
        self.emit(op, &job.params, &inputs, &[Some(job.y)]);
        Ok(())
    }

    /// Weights, bias and scale of a job in the numbers its kernel reads.
    fn numbers(&mut self, job: &Job, weights: &[f32], arithmetic: &Arithmetic, out: DType) -> Numbers {
        let oc = job.shape.oc;
        let slopes =
            (!arithmetic.tail.slopes.is_empty()).then(|| self.channel_vector(DType::F32, &arithmetic.tail.slopes, oc));
        let bias = arithmetic.whole_bias();
        let Some(x) = arithmetic.x else {
            let bias: Vec<f32> = bias.iter().map(|&b| b as f32).collect();
            let bias = self.channel_vector(DType::F32, &bias, oc);
            return Numbers { weights: Values::Float(weights.to_vec()), bias, scale: None, slopes, x_zero: 0 };
        };
        let per_channel = job.shape.taps * job.shape.kc;
        let codes = pack::codes(weights, per_channel, &arithmetic.scales);
        let sums = (0..bias.len())
            .map(|m| codes[m * per_channel..(m + 1) * per_channel].iter().map(|&w| i64::from(w)).sum::<i64>());
        let folded = bias.iter().zip(&arithmetic.scales).zip(sums).map(|((b, sw), sum)| {
            let units = (b / (f64::from(x.scale) * f64::from(*sw))).round_ties_even();
            // Kernels wrap, so only the whole sum must fit.
            (units as i64 - i64::from(x.zero) * sum) as i32
        });
        let folded: Vec<i32> = folded.collect();
        let y_scale =
            if out == DType::I8 { self.quantization(arithmetic.tail.last).map_or(1.0, |q| q.scale) } else { 1.0 };
        let factors: Vec<f32> = arithmetic
            .scales
            .iter()
            .map(|sw| (f64::from(x.scale) * f64::from(*sw) / f64::from(y_scale)) as f32)
            .collect();
        let bias = self.channel_vector(DType::I32, &folded, oc);
        let scale = Some(self.channel_vector(DType::F32, &factors, oc));
        Numbers { weights: Values::Codes(codes), bias, scale, slopes, x_zero: x.zero }
    }

    /// Sets activation, limits and zero points.
    fn activate(&self, params: &mut ConvParams, arithmetic: &Arithmetic, out: DType) {
        let tail = &arithmetic.tail;
        params.activation = tail.activation.number();
        (params.lo, params.hi) = (tail.lo as f32, tail.hi as f32);
        let Some(y) = self.quantization(tail.last).filter(|_| out == DType::I8) else { return };
        // The limits of the codes hold beside those of the activation; slopes leave them alone.
        let (least, most) = (f64::from(-128 - y.zero), f64::from(127 - y.zero));
        let clamps = tail.activation == Activation::Clamp;
        let limit =
            |real: f64, without: f64| if clamps { (real / f64::from(y.scale)).clamp(least, most) } else { without };
        (params.lo, params.hi) = (limit(tail.lo, least) as f32, limit(tail.hi, most) as f32);
        params.y_zero = y.zero;
        if let Some(residual) = tail.residual.and_then(|residual| self.quantization(residual)) {
            params.residual_zero = residual.zero;
            params.residual_scale = residual.scale / y.scale;
        }
    }

    /// What is read outside the picture; gives int8 inputs the slack their kernels read.
    fn pad_row(&mut self, job: &Job, x_zero: i32) -> TensorId {
        let dtype = self.program.tensor(job.x).dtype;
        let step = if dtype == DType::I8 { 4 } else { 1 };
        let len = if job.depthwise { job.shape.oc.next_multiple_of(16) } else { job.shape.kc.next_multiple_of(step) };
        if !job.depthwise && len != job.shape.kc {
            self.add_slack(job.x);
        }
        self.program.constant(dtype, &[len], &vec![x_zero as u8; len * dtype.size()])
    }

    /// A rank-2 product with constant weights `[n][k]`, as a convolution of pictures one row high.
    pub fn product(&mut self, (x, k): (ValueId, usize), weights: &[f32], arithmetic: &Arithmetic) -> Result {
        let rows = self.dims(x).iter().product::<usize>() / k.max(1);
        let n = arithmetic.bias.len();
        let dtype = if arithmetic.x.is_some() { DType::I8 } else { self.float() };
        let matrix = |view: &View, width| Picture::matrix(view.tensor, rows, width);
        let input = matrix(&self.want(x, Format::Plain, dtype)?, k);
        let out = self.result_type(arithmetic);
        let output = matrix(&self.output(arithmetic.tail.last, Format::Plain, out), n);
        let residual = arithmetic
            .tail
            .residual
            .map(|residual| self.want(residual, Format::Plain, out))
            .transpose()?
            .map(|view| matrix(&view, n));
        let shape = WeightShape { groups: 1, oc: n, taps: 1, kc: k };
        let mut params = geometry(&input, &output, &two_axes(&[]), shape);
        params.residual = residual.map_or(Strides::default(), |r| r.strides);
        let residual = residual.map(|r| r.tensor);
        self.emit_job(
            Job { params, shape, depthwise: false, x: input.tensor, y: output.tensor, residual },
            weights,
            arithmetic,
        )
    }
}

/// A convolution that may join the taps of a row.
struct Joined {
    x: ValueId,
    window: [WindowAxis; 2],
    group: usize,
}

/// The geometry of a convolution with these pictures and window.
pub(super) fn geometry(x: &Picture, y: &Picture, [h, w]: &[WindowAxis; 2], shape: WeightShape) -> ConvParams {
    ConvParams {
        batch: y.batch as u32,
        in_h: x.height as u32,
        in_w: x.width as u32,
        out_h: y.height as u32,
        out_w: y.width as u32,
        groups: shape.groups as u32,
        oc: shape.oc as u32,
        kc: shape.kc as u32,
        kh: h.kernel as u32,
        kw: w.kernel as u32,
        stride_h: h.stride as u32,
        stride_w: w.stride as u32,
        dil_h: h.dilation as u32,
        dil_w: w.dilation as u32,
        pad_top: h.pad_begin as i32,
        pad_left: w.pad_begin as i32,
        x: x.strides,
        y: y.strides,
        residual_scale: 1.0,
        ..Default::default()
    }
}
