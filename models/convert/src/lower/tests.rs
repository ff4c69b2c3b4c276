//! The lowering against plain definitions, and every way to lower a network against every other.

use super::*;
use crate::evaluate::{self, Reference, Runner};
use crate::ir::{BinaryFn, Conv, PadMode, PoolKind, ReduceKind, SliceAxis, Tensor, UnaryFn, WindowAxis};
use crate::passes::simplify;
use sparrow_kernels::{Kernels, Op as KernelOp};

/// Numbers that look random and are the same in every run (a linear congruential generator).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % limit
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn real(&mut self) -> f32 {
        self.below(2001) as f32 / 1000.0 - 1.0
    }

    fn tensor(&mut self, dims: &[usize]) -> Tensor {
        let elements: Vec<f32> = (0..dims.iter().product()).map(|_| self.real()).collect();
        Tensor::from_slice(dims, &elements).unwrap()
    }
}

/// A graph under construction.
struct Maker {
    graph: Graph,
    random: Random,
}

impl Maker {
    fn new(seed: u64) -> Self {
        Self { graph: Graph { name: "test".into(), ..Graph::default() }, random: Random(seed) }
    }

    fn input(&mut self, dims: &[usize]) -> ValueId {
        let id = self.graph.add_value(format!("v{}", self.graph.values.len()), DType::F32, dims);
        self.graph.inputs.push(id);
        id
    }

    fn constant(&mut self, dims: &[usize]) -> ValueId {
        let data = self.random.tensor(dims);
        self.graph.add_const(format!("v{}", self.graph.values.len()), data)
    }

    fn typed(&mut self, op: Op, inputs: &[ValueId], dtype: DType, dims: &[usize]) -> ValueId {
        let y = self.graph.add_value(format!("v{}", self.graph.values.len()), dtype, dims);
        self.push(op, inputs, &[y]);
        y
    }

    fn push(&mut self, op: Op, inputs: &[ValueId], outputs: &[ValueId]) {
        let name = format!("n{}", self.graph.nodes.len());
        let inputs = inputs.iter().map(|&id| Some(id)).collect();
        let outputs = outputs.iter().map(|&id| Some(id)).collect();
        self.graph.nodes.push(Node { name, onnx_op: "Test".into(), opset: 13, op, inputs, outputs });
    }

    fn node(&mut self, op: Op, inputs: &[ValueId], dims: &[usize]) -> ValueId {
        self.typed(op, inputs, DType::F32, dims)
    }

    fn dims(&self, id: ValueId) -> Vec<usize> {
        self.graph.value(id).dims.clone()
    }

    /// A convolution with random weights, a zero in `zeros` in ten.
    fn conv(&mut self, x: ValueId, channels: usize, geometry: Geometry, zeros: usize) -> ValueId {
        let (dims, Geometry { kernel, stride, dilation, pad, group }) = (self.dims(x), geometry);
        let spatial = dims.len() - 2;
        let axis = WindowAxis { kernel, stride, dilation, pad_begin: pad, pad_end: pad };
        let mut wd = vec![channels, dims[1] / group];
        wd.extend(vec![kernel; spatial]);
        let mut weights = self.random.tensor(&wd).elements::<f32>().unwrap().to_vec();
        weights.iter_mut().for_each(|w| *w *= if self.random.below(10) < zeros { 0.0 } else { 0.3 });
        let w = Tensor::from_slice(&wd, &weights).unwrap();
        let w = self.graph.add_const(format!("v{}", self.graph.values.len()), w);
        let bias = self.constant(&[channels]);
        let mut to = vec![dims[0], channels];
        to.extend(dims[2..].iter().map(|d| (d + 2 * pad - axis.extent()) / stride + 1));
        self.node(Op::Conv(Conv { window: vec![axis; spatial], group }), &[x, w, bias], &to)
    }

    fn relu(&mut self, x: ValueId) -> ValueId {
        let dims = self.dims(x);
        self.node(Op::Unary(UnaryFn::Relu), &[x], &dims)
    }

    fn inputs(&mut self) -> Vec<Tensor> {
        let dims: Vec<Vec<usize>> = self.graph.inputs.iter().map(|&id| self.dims(id)).collect();
        dims.iter().map(|dims| self.random.tensor(dims)).collect()
    }
}

#[derive(Clone, Copy, Debug)]
struct Geometry {
    kernel: usize,
    stride: usize,
    dilation: usize,
    pad: usize,
    group: usize,
}

const SAME: Geometry = Geometry { kernel: 3, stride: 1, dilation: 1, pad: 1, group: 1 };
const POINT: Geometry = Geometry { kernel: 1, stride: 1, dilation: 1, pad: 0, group: 1 };

fn run(graph: &Graph, settings: &Settings, inputs: &[Tensor]) -> Vec<Tensor> {
    let lowered = lower(graph, settings).unwrap();
    evaluate::run(&lowered.program, inputs).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.elements::<f32>().unwrap().into_owned()
}

/// Noise over signal, as a ratio of amplitudes; signals below a hundredth count as one.
fn noise(result: &[f32], expected: &[f32]) -> f64 {
    let power = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>();
    let error = power(&mut result.iter().zip(expected).map(|(a, b)| f64::from(a - b)));
    (error / power(&mut expected.iter().map(|&b| f64::from(b))).max(1e-4 * expected.len() as f64)).sqrt()
}

/// Scales from what a run without fusion yields.
fn calibrated(graph: &Graph, inputs: &[Tensor]) -> Settings {
    let kernels = Kernels::scalar();
    let values = Reference::new(graph, &kernels).unwrap().run(inputs).unwrap();
    let mut settings = Settings { precision: Precision::I8, ..Settings::default() };
    for (index, value) in graph.values.iter().enumerate().filter(|(_, value)| value.dtype == DType::F32) {
        let Some(elements) = values.get(&value.name).and_then(|tensor| tensor.elements::<f32>()) else { continue };
        let (lo, hi) = elements.iter().fold((0f32, 0f32), |(lo, hi), &x| (lo.min(x), hi.max(x)));
        let scale = ((hi - lo) / 255.0).max(1e-6);
        let zero = (-128.0 - lo / scale).round() as i32;
        settings.activations.insert(ValueId(index as u32), Quantization { scale, zero });
    }
    settings
}

/// Instructions by operator.
fn operators(program: &Program) -> Vec<KernelOp> {
    program.instructions.iter().map(|instruction| instruction.op).collect()
}

/// Convolution by its definition.
fn naive(x: &Tensor, w: &Tensor, bias: &[f32], g: Geometry, out: &[usize]) -> Vec<f32> {
    let (xd, wd, xs, ws) = (x.dims(), w.dims(), floats(x), floats(w));
    let mut y = Vec::new();
    for n in 0..out[0] {
        for m in 0..out[1] {
            for (oy, ox) in (0..out[2]).flat_map(|oy| (0..out[3]).map(move |ox| (oy, ox))) {
                let mut sum = bias[m];
                for (c, (ky, kx)) in
                    (0..wd[1]).flat_map(|c| (0..wd[2]).flat_map(move |ky| (0..wd[3]).map(move |kx| (c, (ky, kx)))))
                {
                    let (iy, ix) = ((oy * g.stride + ky * g.dilation) as i64, (ox * g.stride + kx * g.dilation) as i64);
                    let (iy, ix) = (iy - g.pad as i64, ix - g.pad as i64);
                    if (0..xd[2] as i64).contains(&iy) && (0..xd[3] as i64).contains(&ix) {
                        let channel = m / (wd[0] / g.group) * wd[1] + c;
                        let at = ((n * xd[1] + channel) * xd[2] + iy as usize) * xd[3] + ix as usize;
                        sum += xs[at] * ws[((m * wd[1] + c) * wd[2] + ky) * wd[3] + kx];
                    }
                }
                y.push(sum);
            }
        }
    }
    y
}

#[test]
fn convolutions_match_their_definition_in_every_precision_and_layout() {
    let g = |kernel, stride, dilation, pad, group| Geometry { kernel, stride, dilation, pad, group };
    let cases = [
        ([1, 3, 7, 6], 17, g(3, 2, 1, 1, 1)),
        ([2, 1, 5, 5], 4, g(3, 1, 1, 0, 1)),
        ([2, 16, 4, 5], 33, POINT),
        ([1, 20, 6, 6], 20, g(3, 1, 2, 2, 20)),
        ([1, 6, 6, 6], 8, g(3, 1, 1, 1, 2)),
        ([2, 4, 6, 5], 8, g(3, 2, 1, 1, 4)),
        ([1, 5, 9, 9], 6, g(5, 2, 1, 2, 1)),
        ([1, 19, 5, 4], 16, SAME),
        ([1, 1, 1, 9], 3, POINT),
    ];
    for (dims, channels, geometry) in cases {
        let mut maker = Maker::new(7);
        let x = maker.input(&dims);
        let y = maker.conv(x, channels, geometry, 6);
        maker.graph.outputs = vec![y];
        let inputs = maker.inputs();
        let constants: Vec<Tensor> = maker.graph.values.iter().filter_map(|value| value.data.clone()).collect();
        let expected = naive(&inputs[0], &constants[0], &floats(&constants[1]), geometry, &maker.dims(y));
        let int8 = calibrated(&maker.graph, &inputs);
        for block in [None, Some(16), Some(8), Some(4)] {
            let blocks: HashMap<usize, usize> = block.map(|block| (0, block)).into_iter().collect();
            let f16 = Settings { precision: Precision::F16, ..Settings::default() };
            for (settings, tolerance) in [(Settings::default(), 1e-6), (f16, 2e-3), (int8.clone(), 2e-2)] {
                let precision = settings.precision;
                let settings = Settings { blocks: blocks.clone(), ..settings };
                let error = noise(&floats(&run(&maker.graph, &settings, &inputs)[0]), &expected);
                assert!(error < tolerance, "{dims:?} {geometry:?} {precision:?} {block:?}: {error}");
            }
        }
    }
}

#[test]
fn a_sparse_layer_stores_what_is_not_zero() {
    let mut maker = Maker::new(3);
    let x = maker.input(&[1, 64, 4, 4]);
    let y = maker.conv(x, 64, POINT, 0);
    maker.graph.outputs = vec![y];
    let w = maker.graph.nodes[0].input(1).unwrap();
    let mut weights = floats(maker.graph.constant(w).unwrap());
    // Every second input of each block of 16 outputs is left out.
    weights.iter_mut().enumerate().filter(|(i, _)| (i % 64 + i / 64 / 16) % 2 == 0).for_each(|(_, w)| *w = 0.0);
    maker.graph.value_mut(w).data = Tensor::from_slice(&[64, 64, 1, 1], &weights);
    let settings = Settings { blocks: HashMap::from([(0, 16)]), ..Settings::default() };
    let sparse = lower(&maker.graph, &settings).unwrap().layers.remove(0);
    let dense = lower(&maker.graph, &Settings::default()).unwrap().layers.remove(0);
    assert_eq!((sparse.layout, sparse.kept), (Layout::SparseF32B16, 0.5));
    assert_eq!((dense.layout, dense.kept, dense.bytes), (Layout::DenseF32, 1.0, 64 * 64 * 4 + 64 * 4));
    // Index: 5 starts of 4 bytes, 4 counts and 128 positions of 2.
    assert_eq!(sparse.bytes, 64 * 64 * 2 + 64 * 4 + 5 * 4 + 4 * 2 + 128 * 2);
}

#[test]
fn chains_become_one_operator() {
    use KernelOp::{Conv, Copy, Fill};
    let mut maker = Maker::new(1);
    let x = maker.input(&[1, 3, 8, 8]);
    let first = maker.conv(x, 8, SAME, 0);
    let first = maker.relu(first);
    let second = maker.conv(first, 8, SAME, 0);
    let dims = maker.dims(second);
    let sum = maker.node(Op::Binary(BinaryFn::Add), &[first, second], &dims);
    let clipped = maker.node(Op::Unary(UnaryFn::Clip { min: -0.5, max: 6.0 }), &[sum], &dims);
    let slope = maker.constant(&[1, 1, 1]);
    let third = maker.conv(clipped, 8, POINT, 0);
    let third = maker.node(Op::Binary(BinaryFn::PRelu), &[third, slope], &dims);
    maker.graph.outputs = vec![third];
    let lowered = lower(&maker.graph, &Settings::default()).unwrap();
    assert_eq!(operators(&lowered.program), [Fill, Copy, Conv, Conv, Conv, Copy]);
    let inputs = maker.inputs();
    let kernels = Kernels::scalar();
    let reference = Reference::new(&maker.graph, &kernels).unwrap().run(&inputs).unwrap();
    let expected = floats(&reference[&maker.graph.value(third).name]);
    assert!(noise(&floats(&evaluate::run(&lowered.program, &inputs).unwrap()[0]), &expected) < 1e-6);
    assert!(noise(&floats(&run(&maker.graph, &calibrated(&maker.graph, &inputs), &inputs)[0]), &expected) < 0.05);
}

#[test]
fn a_value_that_others_read_is_not_swallowed() {
    let mut maker = Maker::new(1);
    let x = maker.input(&[1, 4, 3, 3]);
    let conv = maker.conv(x, 4, SAME, 0);
    let relu = maker.relu(conv);
    maker.graph.outputs = vec![relu, conv];
    let inputs = maker.inputs();
    let results = run(&maker.graph, &Settings::default(), &inputs);
    let (relu, conv) = (floats(&results[0]), floats(&results[1]));
    assert!(conv.iter().any(|&x| x < 0.0));
    assert!(relu.iter().zip(&conv).all(|(a, b)| *a == b.max(0.0)));
}

#[test]
fn parts_of_a_concatenation_are_written_in_place() {
    let mut maker = Maker::new(2);
    let x = maker.input(&[1, 16, 5, 5]);
    let a = maker.conv(x, 8, POINT, 0);
    let b = maker.conv(x, 5, SAME, 0);
    let both = maker.node(Op::Concat { axis: 1 }, &[a, b], &[1, 13, 5, 5]);
    let last = maker.conv(both, 4, POINT, 0);
    maker.graph.outputs = vec![last];
    let lowered = lower(&maker.graph, &Settings::default()).unwrap();
    use KernelOp::{Conv, Copy};
    assert_eq!(operators(&lowered.program), [Copy, Conv, Conv, Conv, Copy]);
}

#[test]
fn parts_of_another_scale_enter_a_concatenation_by_one_copy() {
    let mut maker = Maker::new(3);
    let x = maker.input(&[1, 16, 5, 5]);
    let a = maker.conv(x, 8, POINT, 0);
    let halved = maker.node(Op::Unary(UnaryFn::Clip { min: -0.25, max: 0.25 }), &[a], &[1, 8, 5, 5]);
    let b = maker.conv(x, 5, SAME, 0);
    let both = maker.node(Op::Concat { axis: 1 }, &[halved, b], &[1, 13, 5, 5]);
    let last = maker.conv(both, 4, POINT, 0);
    maker.graph.outputs = vec![last];
    let inputs = maker.inputs();
    let settings = calibrated(&maker.graph, &inputs);
    let lowered = lower(&maker.graph, &settings).unwrap();
    let exact = floats(&run(&maker.graph, &Settings::default(), &inputs)[0]);
    assert!(noise(&floats(&run(&maker.graph, &settings, &inputs)[0]), &exact) < 0.05);
    let instructions = &lowered.program.instructions;
    let through = instructions.iter().filter(|one| one.op == KernelOp::Copy && one.inputs[1].is_some());
    assert_eq!(through.count(), 1);
    assert!(!operators(&lowered.program).contains(&KernelOp::Lut));
}

#[test]
fn outputs_are_memory_of_their_own() {
    let mut maker = Maker::new(2);
    let x = maker.input(&[2, 3]);
    let flat = maker.node(Op::Reshape, &[x], &[6]);
    let constant = maker.constant(&[4]);
    let negative = maker.node(Op::Unary(UnaryFn::Neg), &[x], &[2, 3]);
    maker.graph.outputs = vec![x, flat, constant, negative, negative];
    let inputs = maker.inputs();
    let results = run(&maker.graph, &Settings::default(), &inputs);
    let x = floats(&inputs[0]);
    assert_eq!(
        results.iter().map(|t| t.dims().to_vec()).collect::<Vec<_>>(),
        [vec![2, 3], vec![6], vec![4], vec![2, 3], vec![2, 3]]
    );
    assert_eq!((floats(&results[0]), floats(&results[1])), (x.clone(), x.clone()));
    assert_eq!(floats(&results[2]), floats(maker.graph.constant(constant).unwrap()));
    assert_eq!(results[3], results[4]);
    let lowered = lower(&maker.graph, &Settings::default()).unwrap();
    let names: Vec<_> = lowered.program.outputs.iter().map(|&id| lowered.program.tensor(id).name.as_str()).collect();
    assert_eq!(names, ["v0", "v1", "v2", "v3", "v3"]);
}

#[test]
fn empty_tensors_are_no_error() {
    let mut maker = Maker::new(2);
    let x = maker.input(&[2, 0, 3]);
    let y = maker.relu(x);
    let sum = maker.node(Op::Reduce { kind: ReduceKind::Sum, axes: vec![1], keepdims: false }, &[y], &[2, 3]);
    let other = maker.input(&[2, 1, 3]);
    let joined = maker.node(Op::Concat { axis: 1 }, &[x, other], &[2, 1, 3]);
    maker.graph.outputs = vec![y, sum, joined];
    let inputs = maker.inputs();
    let results = run(&maker.graph, &Settings::default(), &inputs);
    assert_eq!(results[0].dims(), [2, 0, 3]);
    assert_eq!(floats(&results[1]), [0.0; 6]);
    assert_eq!(results[2], inputs[1]);
}

#[test]
fn refusals_say_what_to_do() {
    let mut maker = Maker::new(2);
    let x = maker.input(&[1, 8, 40, 40]);
    let y = maker.conv(x, 8, Geometry { kernel: 33, stride: 1, dilation: 1, pad: 0, group: 1 }, 0);
    maker.graph.outputs = vec![y];
    let error = lower(&maker.graph, &Settings::default()).unwrap_err().to_string();
    assert_eq!(error, "node 'n0' (Test): its kernel has 1089 taps, at most 256 are supported; use a smaller kernel");
    let weights = maker.graph.nodes[0].input(1).unwrap();
    maker.graph.value_mut(weights).data = None;
    maker.graph.inputs.push(weights);
    let error = lower(&maker.graph, &Settings::default()).unwrap_err();
    assert_eq!(error, Error::NotConstant { node: "n0".into(), operator: "Test".into(), value: "v1".into() });
}

/// A network of random operators on pictures; what it yields must not depend on how it is lowered.
fn random_network(seed: u64) -> Maker {
    let mut maker = Maker::new(seed);
    let channels = maker.random.pick(&[1, 3, 8]);
    let batch = maker.random.below(2) + 1;
    let x = maker.input(&[batch, channels, 6, 8]);
    let mut values = vec![x];
    for _ in 0..maker.random.below(9) + 3 {
        let at = values.len() - 1 - maker.random.below(values.len().min(3));
        let added = random_node(&mut maker, values[at], &values);
        values.extend(added);
    }
    if maker.random.below(3) == 0 {
        values.push(head(&mut maker, *values.last().unwrap()));
    }
    let last = *values.last().unwrap();
    let other = values[maker.random.below(values.len())];
    maker.graph.outputs = if other == last { vec![last] } else { vec![last, other] };
    maker
}

/// A classifier on top: everything flattened, a product, a bias, an activation.
fn head(maker: &mut Maker, x: ValueId) -> ValueId {
    let dims = maker.dims(x);
    let inner = dims[1..].iter().product();
    let flat = maker.node(Op::Reshape, &[x], &[dims[0], inner]);
    let (weights, bias) = (maker.constant(&[inner, 5]), maker.constant(&[1, 5]));
    let product = maker.node(Op::MatMul, &[flat, weights], &[dims[0], 5]);
    let sum = maker.node(Op::Binary(BinaryFn::Add), &[product, bias], &[dims[0], 5]);
    maker.relu(sum)
}

fn random_node(maker: &mut Maker, x: ValueId, values: &[ValueId]) -> Option<ValueId> {
    let dims = maker.dims(x);
    let [n, c, h, w] = dims[..] else { return None };
    let twin = values.iter().copied().rfind(|&v| maker.dims(v) == dims)?;
    let unary = [
        UnaryFn::Relu,
        UnaryFn::Clip { min: -0.4, max: 0.9 },
        UnaryFn::LeakyRelu { alpha: 0.2 },
        UnaryFn::HardSwish,
        UnaryFn::Tanh,
    ];
    Some(match maker.random.below(17) {
        0 | 1 => {
            let channels = maker.random.pick(&[4, 8, 17]);
            maker.conv(x, channels, if h > 2 && w > 2 { SAME } else { POINT }, 0)
        }
        2 => maker.conv(x, c, POINT, 0),
        3 => maker.conv(x, c, Geometry { group: c, ..SAME }, 0),
        4 | 5 => {
            let function = maker.random.pick(&unary);
            maker.node(Op::Unary(function), &[x], &dims)
        }
        6 | 7 => {
            let function = maker.random.pick(&[BinaryFn::Add, BinaryFn::Add, BinaryFn::Sub, BinaryFn::Mul]);
            maker.node(Op::Binary(function), &[x, twin], &dims)
        }
        8 => {
            let shape = maker.random.pick(&[[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 0]]);
            let shape: Vec<usize> =
                shape.iter().zip(&dims).map(|(&one, &dim)| if one == 0 { dim } else { 1 }).collect();
            let other = maker.constant(&shape);
            maker.node(Op::Binary(BinaryFn::Add), &[x, other], &dims)
        }
        9 => {
            let fits =
                |&v: &ValueId| maker.dims(v).len() == 4 && [0, 2, 3].iter().all(|&i| maker.dims(v)[i] == dims[i]);
            let other = values.iter().copied().rfind(fits)?;
            let channels = c + maker.dims(other)[1];
            maker.node(Op::Concat { axis: 1 }, &[x, other], &[n, channels, h, w])
        }
        10 if h > 1 && w > 1 => {
            let kind = maker.random.pick(&[PoolKind::Max, PoolKind::Average]);
            let axis = WindowAxis { kernel: 2, stride: 2, dilation: 1, pad_begin: 0, pad_end: 0 };
            let op = Op::Pool { kind, window: vec![axis; 2], count_include_pad: false, column_major: false };
            maker.node(op, &[x], &[n, c, (h - 2) / 2 + 1, (w - 2) / 2 + 1])
        }
        11 if c > 1 => {
            let axes =
                (0..4).map(|axis| SliceAxis { start: usize::from(axis == 1), step: if axis == 3 { -1 } else { 1 } });
            let mut axes: Vec<SliceAxis> = axes.collect();
            if maker.random.below(2) == 0 {
                axes[3].step = 1;
            } else {
                axes[3].start = w - 1;
            }
            maker.node(Op::Slice { axes }, &[x], &[n, c - 1, h, w])
        }
        12 if c % 2 == 0 => {
            let sizes = vec![c / 2; 2];
            let first = maker.graph.add_value(format!("v{}", maker.graph.values.len()), DType::F32, &[n, c / 2, h, w]);
            let second = maker.graph.add_value(format!("v{}", maker.graph.values.len()), DType::F32, &[n, c / 2, h, w]);
            maker.push(Op::Split { axis: 1, sizes }, &[x], &[first, second]);
            maker.node(Op::Binary(BinaryFn::Add), &[first, second], &[n, c / 2, h, w])
        }
        13 => {
            let mode = maker.random.pick(&[PadMode::Constant(0.0), PadMode::Edge]);
            maker.node(Op::Pad { mode, pads: vec![[0, 0], [0, 1], [1, 0], [0, 1]] }, &[x], &[n, c + 1, h + 1, w + 1])
        }
        14 => maker.node(Op::Transpose { perm: vec![0, 1, 3, 2] }, &[x], &[n, c, w, h]),
        15 => {
            let last = maker.node(Op::Transpose { perm: vec![0, 2, 3, 1] }, &[x], &[n, h, w, c]);
            let flat = maker.node(Op::Reshape, &[last], &[n, h * w, c]);
            maker.node(Op::Reshape, &[flat], &[n, h, w, c])
        }
        16 => maker.node(Op::Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keepdims: true }, &[x], &[n, c, 1, 1]),
        _ => maker.relu(x),
    })
}

#[test]
fn random_networks_yield_the_same_however_they_are_lowered() {
    let kernels = Kernels::scalar();
    for seed in 0..300 {
        let mut maker = random_network(seed);
        maker.graph.validate().unwrap();
        let inputs = maker.inputs();
        let reference = Reference::new(&maker.graph, &kernels).unwrap().run(&inputs).unwrap();
        let f16 = Settings { precision: Precision::F16, ..Settings::default() };
        let int8 = calibrated(&maker.graph, &inputs);
        let mut simple = maker.graph.clone();
        simplify(&mut simple);
        let ways = [
            (&maker.graph, Settings::default(), 1e-5),
            (&simple, Settings::default(), 1e-5),
            (&maker.graph, f16, 2e-2),
            (&maker.graph, int8, 0.25),
        ];
        for (graph, settings, tolerance) in ways {
            let lowered = lower(graph, &settings).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let results = Runner::new(&lowered.program, &kernels).run(&inputs, evaluate::outputs);
            let results = results.unwrap_or_else(|error| panic!("seed {seed}, {:?}: {error}", settings.precision));
            for (result, &id) in results.iter().zip(&maker.graph.outputs) {
                let error = noise(&floats(result), &floats(&reference[&maker.graph.value(id).name]));
                assert!(
                    error < tolerance,
                    "seed {seed}, {:?}, {}: {error}",
                    settings.precision,
                    maker.graph.value(id).name
                );
            }
        }
    }
}
