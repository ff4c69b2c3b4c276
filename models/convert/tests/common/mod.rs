//! What the integration tests share: a small network of most operator families, in every precision.

use sparrow_convert::onnx;
use sparrow_convert::pipeline::{Options, Sample, convert, load, noise};
use sparrow_convert::settings::Precision;
use sparrow_kernels::Kernels;

/// A small network with most kinds of operators, in one precision.
fn network(precision: Precision, sparsity: f32) -> Vec<u8> {
    let proto = small::network();
    let model = onnx::Model { proto, directory: None };
    let kernels = Kernels::scalar();
    let (graph, _) = load(&model, &Default::default(), &kernels).expect("imports");
    let samples: Vec<Sample> = noise(&graph, 2);
    let options = Options { precision, sparsity, samples, ..Options::default() };
    convert(&model, &options, &mut |_, _, _| {}).expect("converts").file
}

/// The network in every precision.
pub fn networks() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("f32", network(Precision::F32, 0.0)),
        ("sparse f32", network(Precision::F32, 0.5)),
        ("f16", network(Precision::F16, 0.0)),
        ("int8", network(Precision::I8, 0.0)),
        ("sparse int8", network(Precision::I8, 0.5)),
    ]
}

/// A network of most operator families, small enough to be mutated ten thousand times.
mod small {
    use sparrow_convert::onnx::proto::{
        AttributeProto, DataType, Dim, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
    };

    fn weights(name: &str, dims: &[usize], seed: u32) -> TensorProto {
        let count = dims.iter().product::<usize>() as u32;
        let value = |i: u32| ((i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 16) as f32 / 65_536.0 - 0.5) * 0.8;
        TensorProto::from_f32(name, dims, &(0..count).map(value).collect::<Vec<_>>())
    }

    pub fn network() -> ModelProto {
        let conv = |name: &str, x: &str, w: &str, y: &str, pads: &[i64], stride: i64, group: i64| {
            NodeProto::new("Conv", name, &[x, w], &[y])
                .with(AttributeProto::ints("pads", pads))
                .with(AttributeProto::ints("strides", &[stride, stride]))
                .with(AttributeProto::int("group", group))
        };
        let node = vec![
            conv("first", "x", "w0", "c0", &[1, 1, 1, 1], 2, 1),
            NodeProto::new("Relu", "relu", &["c0"], &["r0"]),
            conv("depthwise", "r0", "w1", "c1", &[1, 1, 1, 1], 1, 16),
            NodeProto::new("HardSwish", "hardswish", &["c1"], &["r1"]),
            conv("pointwise", "r1", "w2", "c2", &[0, 0, 0, 0], 1, 1),
            NodeProto::new("Sigmoid", "sigmoid", &["c2"], &["s2"]),
            NodeProto::new("Mul", "mul", &["c2", "s2"], &["m2"]),
            conv("wide", "m2", "w3", "c3", &[1, 1, 1, 1], 1, 1),
            NodeProto::new("Add", "residual", &["c3", "m2"], &["a3"]),
            NodeProto::new("MaxPool", "pool", &["a3"], &["p3"])
                .with(AttributeProto::ints("kernel_shape", &[2, 2]))
                .with(AttributeProto::ints("strides", &[2, 2])),
            NodeProto::new("Concat", "concat", &["p3", "p3"], &["k3"]).with(AttributeProto::int("axis", 1)),
            NodeProto::new("Softplus", "softplus", &["k3"], &["e3"]),
            NodeProto::new("GlobalAveragePool", "average", &["e3"], &["g3"]),
            NodeProto::new("Flatten", "flatten", &["g3"], &["f3"]),
            NodeProto::new("Gemm", "classes", &["f3", "w4"], &["l4"]),
            NodeProto::new("Softmax", "softmax", &["l4"], &["y"]),
        ];
        let initializer = vec![
            weights("w0", &[16, 3, 3, 3], 1),
            weights("w1", &[16, 1, 3, 3], 2),
            weights("w2", &[32, 16, 1, 1], 3),
            weights("w3", &[32, 32, 3, 3], 4),
            weights("w4", &[64, 40], 5),
        ];
        let fixed = |dims: &[i64]| dims.iter().map(|&d| Dim::Value(d)).collect::<Vec<_>>();
        let graph = GraphProto {
            node,
            name: "small".into(),
            initializer,
            input: vec![ValueInfoProto::tensor("x", DataType::Float, &fixed(&[1, 3, 9, 9]))],
            output: vec![ValueInfoProto::tensor("y", DataType::Float, &fixed(&[1, 40]))],
            ..GraphProto::default()
        };
        ModelProto::new(graph, 17)
    }
}
