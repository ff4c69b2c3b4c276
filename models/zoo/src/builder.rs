//! Puts an ONNX graph together node by node. A [`Feature`] is an activation on its way: its name and channels.

use sparrow_convert::onnx::proto::{
    AttributeProto, DataType, Dim, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};

use crate::Options;
use crate::weights::{Random, prune};

/// Operator set of the models: old enough for every reader, new enough for what is used here.
const OPSET: i64 = 13;

/// An activation.
#[derive(Clone, Debug)]
pub struct Feature {
    pub name: String,
    pub channels: usize,
}

/// A convolution; biased, with 'same' padding, unless said otherwise.
#[derive(Clone, Copy)]
pub struct Conv {
    pub channels: usize,
    pub kernel: usize,
    pub stride: usize,
    /// Zeros around the image.
    pub padding: usize,
    pub depthwise: bool,
    pub bias: bool,
}

impl Conv {
    /// Stride 1, padding that keeps the image's size.
    pub fn new(channels: usize, kernel: usize) -> Self {
        Self { channels, kernel, stride: 1, padding: kernel / 2, depthwise: false, bias: true }
    }

    /// With this stride.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// 3x3, one filter per channel.
    pub fn depthwise(channels: usize, stride: usize) -> Self {
        Self { depthwise: true, ..Self::new(channels, 3).stride(stride) }
    }
}

/// A graph under construction.
pub struct Builder<'a> {
    options: &'a Options,
    graph: GraphProto,
    pub resolution: usize,
    convolutions: usize,
}

impl<'a> Builder<'a> {
    /// An empty graph.
    pub fn new(name: &str, options: &'a Options, resolution: usize) -> Self {
        let graph = GraphProto { name: name.into(), ..GraphProto::default() };
        Self { options, graph, resolution, convolutions: 0 }
    }

    /// A channel count times the width; a changed one is a multiple of 8 and not more than a tenth below.
    pub fn scaled(&self, channels: usize) -> usize {
        if self.options.width == 1.0 {
            return channels;
        }
        let exact = channels as f32 * self.options.width;
        let rounded = ((exact + 4.0) as usize / 8 * 8).max(8);
        if (rounded as f32) < 0.9 * exact { rounded + 8 } else { rounded }
    }

    /// The image.
    pub fn input(&mut self) -> Feature {
        let dims = [self.options.batch, 3, self.resolution, self.resolution].map(|dim| Dim::Value(dim as i64));
        self.graph.input.push(ValueInfoProto::tensor("input", DataType::Float, &dims));
        Feature { name: "input".into(), channels: 3 }
    }

    /// The finished model, whose result is this.
    pub fn finish(mut self, result: &Feature, dims: &[usize]) -> ModelProto {
        let dims: Vec<_> = [self.options.batch].iter().chain(dims).map(|&dim| Dim::Value(dim as i64)).collect();
        self.graph.output.push(ValueInfoProto::tensor("output", DataType::Float, &dims));
        let last = self.graph.node.iter_mut().find(|node| node.output[0] == result.name);
        if let Some(node) = last {
            node.output[0] = "output".into();
        }
        ModelProto::new(self.graph, OPSET)
    }

    fn random(&mut self, name: &str, dims: &[usize], mean: f32, deviation: f32) -> String {
        let count = dims.iter().product();
        let elements = Random::new(self.options.seed, name).normals(count, mean, deviation);
        self.graph.initializer.push(TensorProto::from_f32(name, dims, &elements));
        name.into()
    }

    /// A node with one result; `channels` is the result's.
    pub fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        channels: usize,
        attributes: Vec<AttributeProto>,
    ) -> Feature {
        let node = NodeProto { attribute: attributes, ..NodeProto::new(op, name, inputs, &[name]) };
        self.graph.node.push(node);
        Feature { name: name.into(), channels }
    }

    /// A node without attributes that keeps the channels.
    pub fn apply(&mut self, op: &str, name: &str, x: &Feature) -> Feature {
        self.node(op, name, &[&x.name], x.channels, vec![])
    }

    /// A node of two activations that keeps the channels.
    pub fn pair(&mut self, op: &str, name: &str, a: &Feature, b: &Feature) -> Feature {
        self.node(op, name, &[&a.name, &b.name], a.channels, vec![])
    }

    /// A convolution with He's variance; pruned if the options say so.
    pub fn conv(&mut self, name: &str, x: &Feature, conv: Conv) -> Feature {
        let group = if conv.depthwise { x.channels } else { 1 };
        let taps = conv.kernel * conv.kernel;
        let positions = x.channels / group * taps;
        let weight = format!("{name}.weight");
        let mut elements = Random::new(self.options.seed, &weight).normals(
            conv.channels * positions,
            0.0,
            (2.0 / positions as f32).sqrt(),
        );
        if group == 1 && self.convolutions > 0 {
            prune(&mut elements, conv.channels, self.options.sparsity);
        }
        self.convolutions += 1;
        let dims = [conv.channels, x.channels / group, conv.kernel, conv.kernel];
        self.graph.initializer.push(TensorProto::from_f32(&weight, &dims, &elements));
        let bias = conv.bias.then(|| self.random(&format!("{name}.bias"), &[conv.channels], 0.0, 0.05));
        let inputs: Vec<&str> = [x.name.as_str(), &weight].into_iter().chain(bias.as_deref()).collect();
        let attributes = vec![
            AttributeProto::ints("kernel_shape", &[conv.kernel as i64; 2]),
            AttributeProto::ints("strides", &[conv.stride as i64; 2]),
            AttributeProto::ints("pads", &[conv.padding as i64; 4]),
            AttributeProto::int("group", group as i64),
        ];
        self.node("Conv", name, &inputs, conv.channels, attributes)
    }

    /// A 2x2 transposed convolution of stride 2: an image twice as large.
    pub fn upsample(&mut self, name: &str, x: &Feature, channels: usize) -> Feature {
        let deviation = (2.0 / x.channels as f32).sqrt();
        let weight = self.random(&format!("{name}.weight"), &[x.channels, channels, 2, 2], 0.0, deviation);
        let bias = self.random(&format!("{name}.bias"), &[channels], 0.0, 0.05);
        let attributes = vec![AttributeProto::ints("kernel_shape", &[2, 2]), AttributeProto::ints("strides", &[2, 2])];
        self.node("ConvTranspose", name, &[&x.name, &weight, &bias], channels, attributes)
    }

    /// Batch normalisation with this mean of its scales.
    pub fn batch_norm(&mut self, name: &str, x: &Feature, scale: f32) -> Feature {
        let dims = [x.channels];
        let parameters = [
            self.random(&format!("{name}.scale"), &dims, scale, 0.1 * scale),
            self.random(&format!("{name}.bias"), &dims, 0.0, 0.1),
            self.random(&format!("{name}.mean"), &dims, 0.0, 0.1),
            // Irwin and Hall's numbers end at sqrt 12 deviations, so a variance is positive.
            self.random(&format!("{name}.variance"), &dims, 1.0, 0.1),
        ];
        let inputs: Vec<&str> = [x.name.as_str()].into_iter().chain(parameters.iter().map(String::as_str)).collect();
        self.node("BatchNormalization", name, &inputs, x.channels, vec![AttributeProto::float("epsilon", 1e-5)])
    }

    /// Max pooling without padding unless said.
    pub fn max_pool(&mut self, name: &str, x: &Feature, [kernel, stride, padding]: [i64; 3]) -> Feature {
        let attributes = vec![
            AttributeProto::ints("kernel_shape", &[kernel; 2]),
            AttributeProto::ints("strides", &[stride; 2]),
            AttributeProto::ints("pads", &[padding; 4]),
        ];
        self.node("MaxPool", name, &[&x.name], x.channels, attributes)
    }

    /// `min(max(x, 0), 6)`.
    pub fn relu6(&mut self, name: &str, x: &Feature) -> Feature {
        for (limit, value) in [("zero", 0.0), ("six", 6.0)] {
            if !self.graph.initializer.iter().any(|tensor| tensor.name == limit) {
                self.graph.initializer.push(TensorProto::from_f32(limit, &[], &[value]));
            }
        }
        self.node("Clip", name, &[&x.name, "zero", "six"], x.channels, vec![])
    }

    /// The activation resized by linear interpolation to a square image of this size.
    pub fn resize(&mut self, name: &str, x: &Feature, size: usize) -> Feature {
        let sizes = [self.options.batch, x.channels, size, size].map(|dim| dim as i64);
        let tensor = format!("{name}.sizes");
        self.graph.initializer.push(TensorProto::from_i64(&tensor, &[4], &sizes));
        let attributes = vec![
            AttributeProto::string("mode", "linear"),
            AttributeProto::string("coordinate_transformation_mode", "pytorch_half_pixel"),
        ];
        self.node("Resize", name, &[&x.name, "", "", &tensor], x.channels, attributes)
    }

    /// Global pooling and a fully connected layer.
    pub fn classifier(&mut self, x: &Feature, classes: usize) -> Feature {
        let pooled = self.apply("GlobalAveragePool", "pool", x);
        let flat = self.node("Flatten", "flatten", &[&pooled.name], x.channels, vec![AttributeProto::int("axis", 1)]);
        let deviation = (1.0 / x.channels as f32).sqrt();
        let weight = self.random("classifier.weight", &[classes, x.channels], 0.0, deviation);
        let bias = self.random("classifier.bias", &[classes], 0.0, 0.05);
        let attributes = vec![AttributeProto::int("transB", 1)];
        self.node("Gemm", "classifier", &[&flat.name, &weight, &bias], classes, attributes)
    }
}
