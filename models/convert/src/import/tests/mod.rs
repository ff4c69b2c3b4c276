//! Whole models through the importer: folding, refusals, and the same operator written for different opsets.

mod evaluator;

use std::path::Path;

use prost::Message;

use super::*;
use crate::ir::*;
use crate::onnx::proto::*;

/// A model under construction.
struct Sketch {
    opset: i64,
    graph: GraphProto,
}

fn sketch(opset: i64) -> Sketch {
    Sketch { opset, graph: GraphProto { name: "test".into(), ..GraphProto::default() } }
}

impl Sketch {
    fn input_of(mut self, name: &str, data_type: DataType, dims: &[Dim]) -> Self {
        self.graph.input.push(ValueInfoProto::tensor(name, data_type, dims));
        self
    }

    fn input(self, name: &str, dims: &[i64]) -> Self {
        let dims: Vec<_> = dims.iter().map(|&dim| Dim::Value(dim)).collect();
        self.input_of(name, DataType::Float, &dims)
    }

    fn floats(mut self, name: &str, dims: &[usize], elements: &[f32]) -> Self {
        self.graph.initializer.push(TensorProto::from_f32(name, dims, elements));
        self
    }

    /// Weights of any size.
    fn zeros(self, name: &str, dims: &[usize]) -> Self {
        let elements = vec![0.0; dims.iter().product()];
        self.floats(name, dims, &elements)
    }

    fn ints(mut self, name: &str, elements: &[i64]) -> Self {
        self.graph.initializer.push(TensorProto::from_i64(name, &[elements.len()], elements));
        self
    }

    fn bytes(mut self, name: &str, data_type: DataType, dims: &[usize], bytes: &[u8]) -> Self {
        self.graph.initializer.push(TensorProto::raw(name, data_type, dims, bytes.to_vec()));
        self
    }

    fn node(mut self, op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> Self {
        self.graph.node.push(NodeProto { attribute: attributes, ..NodeProto::new(op, "", inputs, outputs) });
        self
    }

    fn output(mut self, name: &str) -> Self {
        self.graph.output.push(ValueInfoProto { name: name.into(), r#type: None });
        self
    }

    fn model(&self) -> Model {
        ModelProto::new(self.graph.clone(), self.opset).into()
    }

    fn import_with(&self, options: &ImportOptions) -> Result<Imported, ImportError> {
        import(&self.model(), options, &mut evaluator::evaluate)
    }

    fn import(&self) -> Result<Imported, ImportError> {
        self.import_with(&ImportOptions::default())
    }

    /// The network, which must import.
    fn graph(&self) -> Graph {
        self.import().unwrap_or_else(|error| panic!("{error}")).graph
    }

    fn refusals(&self) -> Vec<Refusal> {
        match self.import() {
            Err(ImportError::Refused(refusals)) => refusals,
            other => panic!("expected refusals, not {other:?}"),
        }
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto::int(name, value)
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto::ints(name, values)
}

fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto::string(name, value)
}

fn ops(graph: &Graph) -> Vec<&Op> {
    graph.nodes.iter().map(|node| &node.op).collect()
}

fn output_dims(graph: &Graph) -> Vec<&[usize]> {
    graph.outputs.iter().map(|&id| graph.value(id).dims.as_slice()).collect()
}

fn shapes(pairs: &[(&str, &[usize])]) -> ImportOptions {
    let input_shapes = pairs.iter().map(|&(name, dims)| (name.to_owned(), dims.to_vec())).collect();
    ImportOptions { input_shapes, ..ImportOptions::default() }
}

/// `x.view(x.size(0), -1)` as PyTorch exports it, with a batch left open.
fn flatten_idiom() -> Sketch {
    sketch(13)
        .input_of("x", DataType::Float, &[Dim::Param("N".into()), Dim::Value(3), Dim::Value(4)])
        .ints("axis", &[0])
        .ints("rest", &[-1])
        .node("Shape", &["x"], &["shape"], vec![])
        .node("Constant", &[], &["zero"], vec![AttributeProto::tensor("value", TensorProto::from_i64("", &[], &[0]))])
        .node("Gather", &["shape", "zero"], &["batch"], vec![int("axis", 0)])
        .node("Unsqueeze", &["batch", "axis"], &["batch_1d"], vec![])
        .node("Concat", &["batch_1d", "rest"], &["target"], vec![int("axis", 0)])
        .node("Reshape", &["x", "target"], &["y"], vec![])
        .output("y")
}

#[test]
fn shape_arithmetic_folds_away() {
    let imported = flatten_idiom().import_with(&shapes(&[("x", &[5, 3, 4])])).unwrap();
    assert_eq!(ops(&imported.graph), [&Op::Reshape]);
    assert_eq!(output_dims(&imported.graph), [[5, 12]]);
    assert_eq!(imported.graph.values.len(), 2, "constants that nobody reads any more are gone");
    assert_eq!(imported.graph.nodes[0].name, "Reshape_5");
    assert_eq!(imported.notes, [""; 0]);
}

#[test]
fn open_shapes_are_reported_with_the_remedy() {
    let error = flatten_idiom().import().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("--input-shape x=1x3x4") && text.contains("x: [N, 3, 4]"), "{text}");
    let pair = |options: &ImportOptions| {
        let n = || Dim::Param("N".into());
        let sketch =
            sketch(13).input_of("a", DataType::Float, &[n(), Dim::Value(2)]).input_of("b", DataType::Float, &[n()]);
        sketch
            .node("Transpose", &["a"], &["t"], vec![])
            .node("Add", &["t", "b"], &["y"], vec![])
            .output("y")
            .import_with(options)
    };
    assert_eq!(output_dims(&pair(&shapes(&[("a", &[3, 2])])).unwrap().graph), [[2, 3]], "b's N is a's");
    type Case = (&'static [(&'static str, &'static [usize])], &'static str);
    let cases: [Case; 4] = [
        (&[], "--input-shape b=1"),
        (&[("c", &[1])], "no input 'c'; its inputs are 'a', 'b'"),
        (&[("a", &[1])], "has 1 dimensions, the model declares 2"),
        (&[("a", &[1 << 40, 2])], "too large"),
    ];
    for (given, message) in cases {
        let text = pair(&shapes(given)).unwrap_err().to_string();
        assert!(text.contains(message), "{text:?} should mention {message:?}");
    }
}

#[test]
fn inputs_that_must_be_constant_are_named() {
    let sketch = sketch(13)
        .input("x", &[2, 6])
        .input_of("target", DataType::Int64, &[Dim::Value(2)])
        .input_of("k", DataType::Int64, &[Dim::Value(1)])
        .ints("one", &[1])
        .node("Add", &["k", "one"], &["k1"], vec![])
        .node("TopK", &["x", "k1"], &["values", "indices"], vec![])
        .node("Reshape", &["x", "target"], &["y"], vec![])
        .output("values")
        .output("y");
    let error = sketch.import().unwrap_err();
    assert_eq!(error.needs_constant(), ["k", "target"]);
    assert!(error.to_string().contains("operand 'k1' must be a constant, but is computed from input 'k'"), "{error}");
    let mut options = ImportOptions::default();
    options.input_values.insert("k".into(), Tensor::from_slice(&[1], &[2i64]).unwrap());
    options.input_values.insert("target".into(), Tensor::from_slice(&[2], &[4i64, 3]).unwrap());
    let graph = sketch.import_with(&options).unwrap().graph;
    assert_eq!(output_dims(&graph), [[2, 3], [4, 3]]);
    assert_eq!(graph.inputs.len(), 1);
    assert_eq!(graph.nodes[0].outputs.len(), 2);
    assert_eq!(graph.nodes[0].output(1), None, "nobody reads the indices");
    options.input_values.insert("k".into(), Tensor::scalar(2f32));
    assert!(matches!(sketch.import_with(&options), Err(ImportError::Input { .. })));
}

#[test]
fn everything_unsupported_is_refused_at_once() {
    let refusals = sketch(13)
        .input("x", &[1, 3, 8, 8])
        .zeros("w", &[4, 2, 3, 3])
        .node("If", &["x"], &["a"], vec![])
        .node("Relu", &["a"], &["b"], vec![])
        .node("Einsum", &["b"], &["c"], vec![])
        .node("Conv", &["x", "w"], &["d"], vec![])
        .node("Relu", &["x"], &["e"], vec![int("alpha", 1)])
        .node("Squeeze", &["x"], &["f"], vec![ints("axes", &[0])])
        .node("Mish", &["x"], &["g"], vec![])
        .node("Upsample", &["x"], &["h"], vec![])
        .node("Relu", &["x", "x"], &["i"], vec![])
        .node("MaxPool", &["x"], &["j"], vec![AttributeProto::float("kernel_shape", 2.0)])
        .node("Not", &["x"], &["k"], vec![])
        .node("LRN", &["x"], &["l", "m"], vec![int("size", 1)])
        .output("c")
        .output("m")
        .refusals();
    let expected = [
        ("If_0", "not supported"),
        ("Einsum_2", "not supported"),
        ("Conv_3", "weights [4, 2, 3, 3] do not fit operand [1, 3, 8, 8] with 1 groups"),
        ("Relu_4", "'alpha' is not known in opset 13"),
        ("Squeeze_5", "'axes' is not known in opset 13"),
        ("Mish_6", "from opset 18"),
        ("Upsample_7", "up to opset 9"),
        ("Relu_8", "operand 1 is one too many"),
        ("MaxPool_9", "must be of type Ints"),
        ("Not_10", "operand 'x' is f32, supported: bool"),
        ("LRN_11", "result 1 ('m') is not supported"),
    ];
    let names: Vec<_> = refusals.iter().map(|refusal| refusal.node.as_str()).collect();
    assert_eq!(names, expected.map(|(name, _)| name));
    for (refusal, (_, message)) in refusals.iter().zip(expected) {
        let text = refusal.to_string();
        assert!(text.contains(message) && text.contains("opset 13"), "{text:?} should mention {message:?}");
    }
}

#[test]
fn other_domains_and_malformed_graphs_are_refused() {
    let mut custom = sketch(13).input("x", &[1]).node("Relu", &["x"], &["y"], vec![]).output("y");
    custom.graph.node[0].domain = "com.example".into();
    assert!(custom.import().unwrap_err().to_string().contains("com.example.Relu"));
    type Damage = fn(&mut Sketch);
    let cases: [(&str, Damage); 8] = [
        ("before anything defines it", |s| s.graph.node.swap(0, 1)),
        ("'h' is defined twice", |s| s.graph.node[1].output[0] = "h".into()),
        ("'h' is defined twice", |s| s.graph.input[0].name = "h".into()),
        ("output 'z' is never computed", |s| s.graph.output[0].name = "z".into()),
        ("opset 28", |s| s.opset = 28),
        ("opset -1", |s| s.opset = -1),
        ("not a tensor", |s| s.graph.input[0].r#type = None),
        ("sparse", |s| s.graph.sparse_initializer.push(Default::default())),
    ];
    for (message, damage) in cases {
        let relu = |s: Sketch, from: &str, to: &str| s.node("Relu", &[from], &[to], vec![]);
        let mut sketch = relu(relu(sketch(13).input("x", &[1]), "x", "h"), "h", "y").output("y");
        sketch.graph();
        damage(&mut sketch);
        let text = sketch.import().unwrap_err().to_string();
        assert!(text.contains(message), "{text:?} should mention {message:?}");
    }
}

/// Two spellings of one thing, for different opsets.
#[test]
fn versions_are_normalised() {
    let x = |opset| sketch(opset).input("x", &[1, 4, 6]);
    let one = |s: Sketch, op: &str, inputs: &[&str], attributes| s.node(op, inputs, &["y"], attributes).output("y");
    let split = |s: Sketch, inputs: &[&str], attributes| {
        s.node("Split", inputs, &["y", "z"], attributes).output("y").output("z")
    };
    let value = |v: f32| AttributeProto::float("value", v);
    let pairs = [
        (
            one(x(11), "Squeeze", &["x"], vec![ints("axes", &[-3])]),
            one(x(13).ints("a", &[0]), "Squeeze", &["x", "a"], vec![]),
        ),
        (
            one(x(11), "Unsqueeze", &["x"], vec![ints("axes", &[-1])]),
            one(x(13).ints("a", &[3]), "Unsqueeze", &["x", "a"], vec![]),
        ),
        (
            one(x(7), "Clip", &["x"], vec![AttributeProto::float("max", 6.0)]),
            one(x(11).floats("m", &[], &[6.0]), "Clip", &["x", "", "m"], vec![]),
        ),
        (
            one(x(9), "Slice", &["x"], vec![ints("starts", &[-2]), ints("ends", &[9]), ints("axes", &[1])]),
            one(
                x(10).ints("s", &[2]).ints("e", &[4]).ints("a", &[-2]).ints("t", &[1]),
                "Slice",
                &["x", "s", "e", "a", "t"],
                vec![],
            ),
        ),
        (
            one(x(10), "Pad", &["x"], vec![ints("pads", &[0, 0, 1, 0, 0, -2]), value(2.0)]),
            one(
                x(18).ints("p", &[1, -2]).floats("v", &[], &[2.0]).ints("a", &[-1]),
                "Pad",
                &["x", "p", "v", "a"],
                vec![],
            ),
        ),
        (
            split(x(11), &["x"], vec![int("axis", -1), ints("split", &[2, 4])]),
            split(x(13).ints("s", &[2, 4]), &["x", "s"], vec![int("axis", 2)]),
        ),
        (split(x(11), &["x"], vec![int("axis", 1)]), split(x(18), &["x"], vec![int("axis", 1), int("num_outputs", 2)])),
        (
            one(x(9), "TopK", &["x"], vec![int("k", 2)]),
            one(x(11).ints("k", &[2]), "TopK", &["x", "k"], vec![int("largest", 1), int("sorted", 1)]),
        ),
        (
            one(x(11), "ReduceSum", &["x"], vec![ints("axes", &[-1, 0])]),
            one(x(13).ints("a", &[0, 2]), "ReduceSum", &["x", "a"], vec![]),
        ),
        (
            one(x(17), "ReduceMax", &["x"], vec![int("keepdims", 0)]),
            one(x(18), "ReduceMax", &["x"], vec![int("keepdims", 0), int("noop_with_empty_axes", 0)]),
        ),
        (
            one(x(7), "Dropout", &["x"], vec![AttributeProto::float("ratio", 0.3)]),
            one(x(13).floats("r", &[], &[0.3]), "Dropout", &["x", "r"], vec![int("seed", 1)]),
        ),
        (one(x(12), "Softmax", &["x"], vec![int("axis", 2)]), one(x(13), "Softmax", &["x"], vec![])),
        (
            one(x(7), "Upsample", &["x"], vec![AttributeProto::floats("scales", &[1.0, 1.0, 2.0])]),
            one(
                x(13).floats("s", &[3], &[1.0, 1.0, 2.0]),
                "Resize",
                &["x", "", "s"],
                vec![string("coordinate_transformation_mode", "asymmetric"), string("nearest_mode", "floor")],
            ),
        ),
        (
            one(x(11).floats("r", &[0], &[]).floats("s", &[3], &[1.0, 1.0, 2.0]), "Resize", &["x", "r", "s"], vec![]),
            one(x(18).floats("s", &[1], &[2.0]), "Resize", &["x", "", "s"], vec![ints("axes", &[-1])]),
        ),
    ];
    for (old, new) in pairs {
        let (a, b) = (old.graph(), new.graph());
        assert_eq!(ops(&a), ops(&b));
        assert_eq!(output_dims(&a), output_dims(&b), "{:?}", ops(&a));
    }
}

/// Kernel 3, x of 7; `[pad_begin, pad_end]` and positions by ONNX's formulas.
#[test]
fn windows_resolve_their_padding() {
    let pool = |opset, attributes: Vec<AttributeProto>| {
        let attributes = [vec![ints("kernel_shape", &[3])], attributes].concat();
        sketch(opset).input("x", &[1, 1, 7]).node("MaxPool", &["x"], &["y"], attributes).output("y").graph()
    };
    let strides = |n| ints("strides", &[n]);
    let cases = [
        (vec![], [0, 0], 5),
        (vec![strides(2), ints("pads", &[1, 1])], [1, 1], 4),
        (vec![strides(3)], [0, 0], 2),
        (vec![strides(3), int("ceil_mode", 1)], [0, 0], 3),
        // The third window would begin at 8, beyond the 7 elements and the padding before them.
        (vec![strides(4), ints("pads", &[0, 2]), int("ceil_mode", 1)], [0, 2], 2),
        (vec![strides(2), string("auto_pad", "SAME_UPPER")], [1, 1], 4),
        (vec![strides(3), string("auto_pad", "SAME_UPPER")], [1, 1], 3),
        (vec![ints("dilations", &[2]), string("auto_pad", "SAME_LOWER")], [2, 2], 7),
        (vec![strides(5), string("auto_pad", "SAME_LOWER")], [1, 0], 2),
        (vec![strides(5), string("auto_pad", "SAME_UPPER")], [0, 1], 2),
        (vec![strides(2), string("auto_pad", "VALID")], [0, 0], 3),
    ];
    for (attributes, pads, count) in cases {
        let graph = pool(13, attributes);
        let Op::Pool { window, .. } = &graph.nodes[0].op else { panic!() };
        assert_eq!(([window[0].pad_begin, window[0].pad_end], output_dims(&graph)[0][2]), (pads, count), "{window:?}");
    }
}

/// x of 3, kernel 3, stride 2: seven elements are covered.
#[test]
fn transposed_convolutions_resolve_their_output() {
    let cases = [
        (vec![], ([0, 0], 0), 7),
        (vec![ints("pads", &[1, 1]), ints("output_padding", &[1])], ([1, 1], 1), 6),
        (vec![ints("output_shape", &[6])], ([1, 0], 0), 6),
        (vec![ints("output_shape", &[9])], ([0, 0], 2), 9),
        (vec![string("auto_pad", "SAME_UPPER")], ([0, 1], 0), 6),
        (vec![string("auto_pad", "SAME_LOWER")], ([1, 0], 0), 6),
        (vec![ints("dilations", &[2])], ([0, 0], 0), 9),
    ];
    for (attributes, expected, length) in cases {
        let attributes = [vec![ints("strides", &[2])], attributes].concat();
        let sketch = sketch(13).input("x", &[1, 4, 3]).zeros("w", &[4, 5, 3]).zeros("b", &[10]);
        let attributes = [vec![int("group", 2)], attributes].concat();
        let graph = sketch.node("ConvTranspose", &["x", "w", "b"], &["y"], attributes).output("y").graph();
        let Op::ConvTranspose { conv, output_padding } = &graph.nodes[0].op else { panic!() };
        let axis = conv.window[0];
        assert_eq!(([axis.pad_begin, axis.pad_end], output_padding[0]), expected);
        assert_eq!(output_dims(&graph), [[1, 10, length]]);
    }
}

#[test]
fn resize_says_where_elements_lie() {
    let crop = [string("coordinate_transformation_mode", "tf_crop_and_resize"), string("mode", "linear")];
    let sketch = sketch(13).input("x", &[1, 1, 4]).floats("roi", &[6], &[0.0, 0.0, 0.25, 1.0, 1.0, 0.75]);
    let sketch = sketch.ints("sizes", &[1, 1, 3]).node("Resize", &["x", "roi", "", "sizes"], &["y"], crop.to_vec());
    let graph = sketch.output("y").graph();
    let expected = Resize {
        mode: ResizeMode::Linear,
        coordinates: CoordinateMode::TfCropAndResize,
        scales: vec![1.0, 1.0, 0.75],
        roi: vec![[0.0, 1.0], [0.0, 1.0], [0.25, 0.75]],
        extrapolation_value: 0.0,
        exclude_outside: false,
        antialias: false,
    };
    assert_eq!(ops(&graph), [&Op::Resize(expected)]);
    assert_eq!(output_dims(&graph), [[1, 1, 3]]);
}

#[test]
fn chains_casts_and_flattening_softmax() {
    let old_softmax = sketch(11).input("x", &[2, 3, 4]).node("Softmax", &["x"], &["y"], vec![]).output("y").graph();
    assert_eq!(ops(&old_softmax), [&Op::Reshape, &Op::Softmax { axis: 1, log: false }, &Op::Reshape]);
    assert_eq!(old_softmax.value(old_softmax.nodes[1].output(0).unwrap()).dims, [2, 12]);

    let mean = sketch(13).input("a", &[2, 1]).input("b", &[3]).input("c", &[]);
    let mean = mean.node("Mean", &["a", "b", "c"], &["y"], vec![]).output("y").graph();
    let add = Op::Binary(BinaryFn::Add);
    assert_eq!(ops(&mean), [&add, &add, &Op::Binary(BinaryFn::Div)]);
    assert_eq!(output_dims(&mean), [[2, 3]]);

    let clip = sketch(13).input("x", &[2]).input("min", &[]).floats("max", &[], &[1.0]);
    let clip = clip.node("Clip", &["x", "min", "max"], &["y"], vec![]).output("y").graph();
    assert_eq!(ops(&clip), [&Op::Binary(BinaryFn::Max), &Op::Binary(BinaryFn::Min)]);

    let pow = sketch(13).input_of("x", DataType::Int32, &[Dim::Value(2)]).input("e", &[2]);
    let pow = pow.node("Pow", &["x", "e"], &["y"], vec![]).output("y").graph();
    assert_eq!(ops(&pow), [&Op::Cast, &Op::Binary(BinaryFn::Pow), &Op::Cast]);
    assert_eq!(pow.value(pow.outputs[0]).dtype, DType::I32);
}

#[test]
fn half_precision_becomes_f32_with_a_note() {
    let imported = sketch(13)
        .input_of("x", DataType::Float16, &[Dim::Value(2)])
        .bytes("w", DataType::Bfloat16, &[2], &[0x80, 0x3f, 0x00, 0xc0])
        .node("Cast", &["w"], &["h"], vec![int("to", DataType::Float16 as i64)])
        .node("Mul", &["x", "h"], &["y"], vec![])
        .output("y")
        .import()
        .unwrap();
    assert_eq!(ops(&imported.graph), [&Op::Binary(BinaryFn::Mul)]);
    let weights = imported.graph.nodes[0].input(1).unwrap();
    assert_eq!(imported.graph.constant(weights).unwrap().to_f64(), [1.0, -2.0]);
    assert_eq!(imported.notes.len(), 3, "{:?}", imported.notes);
}

/// Folding would turn int8 weights into four times as many bytes of floats.
#[test]
fn quantized_weights_stay_quantized() {
    let graph = sketch(13)
        .input("x", &[1, 2])
        .bytes("w", DataType::Int8, &[2, 2], &[1, 2, 3, 4])
        .bytes("zero", DataType::Int8, &[2], &[0, 0])
        .floats("scale", &[2], &[0.5, 0.25])
        .node("DequantizeLinear", &["w", "scale", "zero"], &["wf"], vec![int("axis", -1)])
        .node("MatMul", &["x", "wf"], &["y"], vec![])
        .output("y")
        .graph();
    assert_eq!(ops(&graph), [&Op::DequantizeLinear { axis: Some(1) }, &Op::MatMul]);
}

#[test]
fn constants_are_made() {
    let graph = sketch(15)
        .input("x", &[2, 3, 4])
        .ints("dims", &[2, 1])
        .floats("start", &[], &[1.0])
        .floats("limit", &[], &[2.6])
        .floats("delta", &[], &[0.5])
        .node("Shape", &["x"], &["shape"], vec![int("start", -2), int("end", 9)])
        .node("Size", &["x"], &["size"], vec![])
        .node(
            "ConstantOfShape",
            &["dims"],
            &["filled"],
            vec![AttributeProto::tensor("value", TensorProto::from_i64("", &[1], &[7]))],
        )
        .node("Range", &["start", "limit", "delta"], &["range"], vec![])
        .node("Constant", &[], &["list"], vec![AttributeProto::floats("value_floats", &[1.5, 2.5])])
        .output("shape")
        .output("size")
        .output("filled")
        .output("range")
        .output("list")
        .graph();
    let constants: Vec<_> = graph.outputs.iter().map(|&id| graph.constant(id).unwrap().to_f64()).collect();
    let expected: [&[f64]; 5] = [&[3.0, 4.0], &[24.0], &[7.0, 7.0], &[1.0, 1.5, 2.0, 2.5], &[1.5, 2.5]];
    assert_eq!(constants, expected);
    let endless = sketch(13).ints("d", &[1 << 30, 1 << 30]).node("ConstantOfShape", &["d"], &["y"], vec![]).output("y");
    assert!(endless.refusals()[0].to_string().contains("would exceed 1024 MiB"));
}

/// A model with many operators, for damaging.
fn busy() -> Sketch {
    let mut sketch = flatten_idiom()
        .zeros("w", &[2, 3, 3])
        .zeros("k", &[12, 4])
        .floats("scales", &[2], &[1.0, 2.0])
        .ints("starts", &[1])
        .ints("ends", &[9])
        .node("Conv", &["x", "w"], &["c"], vec![int("group", 1), ints("pads", &[1, 1])])
        .node("Gemm", &["y", "k"], &["g"], vec![AttributeProto::float("alpha", 0.5)])
        .node("Resize", &["g", "", "scales"], &["r"], vec![string("mode", "linear")])
        .node("Slice", &["r", "starts", "ends"], &["s"], vec![])
        .node("MaxPool", &["c"], &["p"], vec![ints("kernel_shape", &[2]), int("ceil_mode", 1)])
        .output("s")
        .output("p");
    let dims = [2, 3, 4].map(Dim::Value);
    sketch.graph.input[0] = ValueInfoProto::tensor("x", DataType::Float, &dims);
    sketch
}

/// Bytes changed at random: an error or a valid graph, never a panic.
#[test]
fn damaged_models_do_no_harm() {
    assert_eq!(output_dims(&busy().graph()), [vec![2, 12], vec![1, 8], vec![2, 2, 3]]);
    let bytes = busy().model().proto.encode_to_vec();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let (mut imported, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut bytes = bytes.clone();
        for _ in 0..1 + random(3) {
            let place = random(bytes.len());
            bytes[place] = random(256) as u8;
        }
        let Ok(model) = Model::decode(bytes, Path::new("damaged")) else { continue };
        match import(&model, &ImportOptions::default(), &mut evaluator::evaluate) {
            Ok(result) => {
                result.graph.validate().unwrap();
                imported += 1;
            }
            Err(error) => {
                error.to_string();
                refused += 1;
            }
        }
    }
    assert!(imported > 1000 && refused > 1000, "{imported} imported, {refused} refused");
}
