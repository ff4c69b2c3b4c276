//! The architectures.

use sparrow_convert::onnx::proto::{AttributeProto, ModelProto};

use crate::Network;
use crate::builder::{Builder, Conv, Feature};

const CLASSES: usize = 1000;

/// Builds the network into the empty builder.
pub fn build(network: Network, builder: Builder) -> ModelProto {
    match network {
        Network::MobileNetV1 => mobilenet_v1(builder),
        Network::MobileNetV2 => mobilenet_v2(builder),
        Network::ResNet50 => resnet_50(builder),
        Network::UNet => unet(builder),
        Network::RlfnX2 => rlfn(builder, 2),
        Network::RlfnX4 => rlfn(builder, 4),
    }
}

/// Howard et al. 2017, "MobileNets", table 1. Batch normalisation is folded into biases.
fn mobilenet_v1(mut b: Builder) -> ModelProto {
    const BLOCKS: [(usize, usize); 13] = [
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        (512, 1),
        (512, 1),
        (512, 1),
        (512, 1),
        (512, 1),
        (1024, 2),
        (1024, 1),
    ];
    let input = b.input();
    let channels = b.scaled(32);
    let stem = b.conv("stem", &input, Conv::new(channels, 3).stride(2));
    let mut x = b.apply("Relu", "stem.relu", &stem);
    for (i, (channels, stride)) in BLOCKS.into_iter().enumerate() {
        let name = |part: &str| format!("block{}.{part}", i + 1);
        let depthwise = b.conv(&name("depthwise"), &x, Conv::depthwise(x.channels, stride));
        let depthwise = b.apply("Relu", &name("depthwise.relu"), &depthwise);
        let pointwise = b.conv(&name("pointwise"), &depthwise, Conv::new(b.scaled(channels), 1));
        x = b.apply("Relu", &name("pointwise.relu"), &pointwise);
    }
    let logits = b.classifier(&x, CLASSES);
    b.finish(&logits, &[CLASSES])
}

/// Sandler et al. 2018, "MobileNetV2", table 2. Batch normalisation is folded into biases.
fn mobilenet_v2(mut b: Builder) -> ModelProto {
    // Expansion, channels, repetitions, stride of the first.
    const STAGES: [(usize, usize, usize, usize); 7] =
        [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];
    let input = b.input();
    let channels = b.scaled(32);
    let stem = b.conv("stem", &input, Conv::new(channels, 3).stride(2));
    let mut x = b.relu6("stem.relu6", &stem);
    for (stage, (expansion, channels, repetitions, stride)) in STAGES.into_iter().enumerate() {
        for repetition in 0..repetitions {
            let name = format!("stage{}.{repetition}", stage + 1);
            let stride = if repetition == 0 { stride } else { 1 };
            let channels = b.scaled(channels);
            x = inverted_residual(&mut b, &name, &x, Inverted { expansion, channels, stride });
        }
    }
    // Narrow networks keep the last layer's width (section 4 of the paper).
    let last = b.conv("last", &x, Conv::new(b.scaled(1280).max(1280), 1));
    let last = b.relu6("last.relu6", &last);
    let logits = b.classifier(&last, CLASSES);
    b.finish(&logits, &[CLASSES])
}

struct Inverted {
    expansion: usize,
    channels: usize,
    stride: usize,
}

fn inverted_residual(b: &mut Builder, name: &str, x: &Feature, block: Inverted) -> Feature {
    let mut inner = x.clone();
    if block.expansion > 1 {
        inner = b.conv(&format!("{name}.expand"), x, Conv::new(x.channels * block.expansion, 1));
        inner = b.relu6(&format!("{name}.expand.relu6"), &inner);
    }
    inner = b.conv(&format!("{name}.depthwise"), &inner, Conv::depthwise(inner.channels, block.stride));
    inner = b.relu6(&format!("{name}.depthwise.relu6"), &inner);
    let projected = b.conv(&format!("{name}.project"), &inner, Conv::new(block.channels, 1));
    if block.stride == 1 && x.channels == block.channels {
        return b.pair("Add", &format!("{name}.add"), x, &projected);
    }
    projected
}

/// He et al. 2016, "Deep residual learning", table 1, with the stride in the 3x3 convolution as everyone has it now.
/// Batch normalisation is kept, for a converter to fold.
fn resnet_50(mut b: Builder) -> ModelProto {
    const STAGES: [(usize, usize); 4] = [(64, 3), (128, 4), (256, 6), (512, 3)];
    let input = b.input();
    let stem = Conv { bias: false, ..Conv::new(b.scaled(64), 7).stride(2) };
    let stem = normalised(&mut b, "stem", &input, stem, 1.0);
    let stem = b.apply("Relu", "stem.relu", &stem);
    let mut x = b.max_pool("stem.pool", &stem, [3, 2, 1]);
    for (stage, (channels, repetitions)) in STAGES.into_iter().enumerate() {
        for repetition in 0..repetitions {
            let name = format!("stage{}.{repetition}", stage + 1);
            let stride = if stage > 0 && repetition == 0 { 2 } else { 1 };
            let inner = b.scaled(channels);
            x = bottleneck(&mut b, &name, &x, inner, stride);
        }
    }
    let logits = b.classifier(&x, CLASSES);
    b.finish(&logits, &[CLASSES])
}

fn normalised(b: &mut Builder, name: &str, x: &Feature, conv: Conv, scale: f32) -> Feature {
    let x = b.conv(name, x, conv);
    b.batch_norm(&format!("{name}.norm"), &x, scale)
}

/// `inner` channels inside, four times as many outside.
fn bottleneck(b: &mut Builder, name: &str, x: &Feature, inner: usize, stride: usize) -> Feature {
    let conv = |channels, kernel| Conv { bias: false, ..Conv::new(channels, kernel) };
    let part = |part: &str| format!("{name}.{part}");
    let a = normalised(b, &part("reduce"), x, conv(inner, 1), 1.0);
    let a = b.apply("Relu", &part("reduce.relu"), &a);
    let a = normalised(b, &part("conv"), &a, conv(inner, 3).stride(stride), 1.0);
    let a = b.apply("Relu", &part("conv.relu"), &a);
    // A small scale keeps the sum of sixteen branches from growing.
    let a = normalised(b, &part("expand"), &a, conv(4 * inner, 1), 0.25);
    let shortcut = if x.channels == 4 * inner && stride == 1 {
        x.clone()
    } else {
        normalised(b, &part("shortcut"), x, conv(4 * inner, 1).stride(stride), 1.0)
    };
    let sum = b.pair("Add", &part("add"), &a, &shortcut);
    b.apply("Relu", &part("relu"), &sum)
}

/// Ronneberger et al. 2015, "U-Net", figure 1, with padded convolutions so that the result is as large as the image.
fn unet(mut b: Builder) -> ModelProto {
    let input = b.input();
    let mut x = input;
    let mut skips = Vec::new();
    for level in 0..4 {
        let skip = double_conv(&mut b, &format!("down{level}"), &x, 64 << level);
        x = b.max_pool(&format!("down{level}.pool"), &skip, [2, 2, 0]);
        skips.push(skip);
    }
    x = double_conv(&mut b, "bottom", &x, 1024);
    for (level, skip) in skips.iter().enumerate().rev() {
        let up = b.upsample(&format!("up{level}.upsample"), &x, skip.channels);
        let channels = skip.channels + up.channels;
        let axis = vec![AttributeProto::int("axis", 1)];
        let joined = b.node("Concat", &format!("up{level}.concat"), &[&skip.name, &up.name], channels, axis);
        x = double_conv(&mut b, &format!("up{level}"), &joined, 64 << level);
    }
    let classes = b.conv("classes", &x, Conv::new(2, 1));
    let resolution = b.resolution;
    b.finish(&classes, &[2, resolution, resolution])
}

fn double_conv(b: &mut Builder, name: &str, x: &Feature, channels: usize) -> Feature {
    let mut x = x.clone();
    for i in 0..2 {
        let conv = b.conv(&format!("{name}.conv{i}"), &x, Conv::new(b.scaled(channels), 3));
        x = b.apply("Relu", &format!("{name}.relu{i}"), &conv);
    }
    x
}

/// Kong et al. 2022, "Residual Local Feature Network for Efficient Super-Resolution", figure 2.
fn rlfn(mut b: Builder, scale: usize) -> ModelProto {
    let input = b.input();
    let first = b.conv("first", &input, Conv::new(b.scaled(52), 3));
    let mut x = first.clone();
    for i in 0..6 {
        x = residual_local_feature_block(&mut b, &format!("block{i}"), &x);
    }
    let smoothed = b.conv("smooth", &x, Conv::new(first.channels, 3));
    let sum = b.pair("Add", "add", &smoothed, &first);
    let pixels = b.conv("pixels", &sum, Conv::new(3 * scale * scale, 3));
    let attributes = vec![AttributeProto::int("blocksize", scale as i64), AttributeProto::string("mode", "CRD")];
    let image = b.node("DepthToSpace", "shuffle", &[&pixels.name], 3, attributes);
    let size = b.resolution * scale;
    b.finish(&image, &[3, size, size])
}

fn residual_local_feature_block(b: &mut Builder, name: &str, x: &Feature) -> Feature {
    let mut inner = x.clone();
    for i in 0..3 {
        let conv = b.conv(&format!("{name}.conv{i}"), &inner, Conv::new(x.channels, 3));
        let alpha = vec![AttributeProto::float("alpha", 0.05)];
        inner = b.node("LeakyRelu", &format!("{name}.act{i}"), &[&conv.name], conv.channels, alpha);
    }
    let sum = b.pair("Add", &format!("{name}.add"), &inner, x);
    let mixed = b.conv(&format!("{name}.mix"), &sum, Conv::new(x.channels, 1));
    spatial_attention(b, &format!("{name}.esa"), &mixed)
}

/// Enhanced spatial attention: a mask from a much smaller image, laid over the features.
fn spatial_attention(b: &mut Builder, name: &str, x: &Feature) -> Feature {
    const CHANNELS: usize = 16;
    let part = |part: &str| format!("{name}.{part}");
    let reduced = b.conv(&part("reduce"), x, Conv::new(CHANNELS, 1));
    let small = b.conv(&part("stride"), &reduced, Conv { padding: 0, ..Conv::new(CHANNELS, 3).stride(2) });
    let small = b.max_pool(&part("pool"), &small, [7, 3, 0]);
    let small = b.conv(&part("conv"), &small, Conv::new(CHANNELS, 3));
    let resolution = b.resolution;
    let large = b.resize(&part("resize"), &small, resolution);
    let direct = b.conv(&part("direct"), &reduced, Conv::new(CHANNELS, 1));
    let sum = b.pair("Add", &part("add"), &large, &direct);
    let mask = b.conv(&part("expand"), &sum, Conv::new(x.channels, 1));
    let mask = b.apply("Sigmoid", &part("sigmoid"), &mask);
    b.pair("Mul", &part("mul"), x, &mask)
}
