//! Networks built in code, as ONNX models with seeded weights: for benches and tests that need no download.
//!
//! The architectures are the papers' (each in [`networks`] with its source); the weights are random with He's variance,
//! so activations stay in a sensible range from the first layer to the last. The same options give the same bytes on
//! every machine.

mod builder;
mod networks;
mod weights;

use sparrow_convert::onnx::proto::ModelProto;

/// A network of the zoo.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// MobileNet-v1: image to 1000 classes, depthwise separable convolutions.
    MobileNetV1,
    /// MobileNet-v2: image to 1000 classes, inverted residuals.
    MobileNetV2,
    /// ResNet-50: image to 1000 classes, bottleneck residuals with batch normalisation.
    ResNet50,
    /// U-Net: image to 2 classes per pixel.
    UNet,
    /// RLFN, an image twice as large.
    RlfnX2,
    /// RLFN, an image four times as large.
    RlfnX4,
}

impl Network {
    /// Every network.
    pub const ALL: [Self; 6] =
        [Self::MobileNetV1, Self::MobileNetV2, Self::ResNet50, Self::UNet, Self::RlfnX2, Self::RlfnX4];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::MobileNetV1 => "mobilenet-v1",
            Self::MobileNetV2 => "mobilenet-v2",
            Self::ResNet50 => "resnet-50",
            Self::UNet => "unet",
            Self::RlfnX2 => "rlfn-x2",
            Self::RlfnX4 => "rlfn-x4",
        }
    }

    /// The network of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|network| network.name() == name)
    }

    /// Height and width of the input where the options do not say: the papers' own, for super-resolution a tile.
    pub fn default_resolution(self) -> usize {
        match self {
            Self::MobileNetV1 | Self::MobileNetV2 | Self::ResNet50 => 224,
            Self::UNet => 256,
            Self::RlfnX2 | Self::RlfnX4 => 128,
        }
    }

    /// Resolutions must be a multiple of the first number and at least the second.
    fn resolution_step(self) -> (usize, usize) {
        match self {
            Self::MobileNetV1 | Self::MobileNetV2 | Self::ResNet50 => (1, 32),
            // Halved four times and doubled again.
            Self::UNet => (16, 16),
            // The attention block's pooling window is 7 after one halving.
            Self::RlfnX2 | Self::RlfnX4 => (1, 15),
        }
    }
}

/// How a network is built.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// Multiplies every channel count; changed counts are rounded to multiples of 8.
    pub width: f32,
    /// Height and width of the input; `None`: the network's default.
    pub resolution: Option<usize>,
    /// Images per run.
    pub batch: usize,
    /// Share of the weight blocks set to zero in every ungrouped convolution but the first, 0 to 1. A block is 16
    /// consecutive output channels at one input channel and tap; those of least magnitude go.
    pub sparsity: f32,
    /// Of the weights.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { width: 1.0, resolution: None, batch: 1, sparsity: 0.0, seed: 0 }
    }
}

/// Options that no network can be built with.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum OptionError {
    #[error("width is {0}, must be above 0 and at most 8")]
    Width(f32),
    #[error("sparsity is {0}, must be from 0 to 1")]
    Sparsity(f32),
    #[error("batch is {0}, must be from 1 to 1024")]
    Batch(usize),
    #[error("resolution is {given}, must be a multiple of {multiple} from {least} to 8192 for {network}")]
    Resolution { given: usize, multiple: usize, least: usize, network: &'static str },
}

/// Builds a network. Its input is `input`, `[batch, 3, resolution, resolution]`; its output is `output`.
pub fn build(network: Network, options: &Options) -> Result<ModelProto, OptionError> {
    let resolution = options.resolution.unwrap_or_else(|| network.default_resolution());
    let (multiple, least) = network.resolution_step();
    if !(options.width > 0.0 && options.width <= 8.0) {
        return Err(OptionError::Width(options.width));
    }
    if !(0.0..=1.0).contains(&options.sparsity) {
        return Err(OptionError::Sparsity(options.sparsity));
    }
    if !(1..=1024).contains(&options.batch) {
        return Err(OptionError::Batch(options.batch));
    }
    if !(least..=8192).contains(&resolution) || !resolution.is_multiple_of(multiple) {
        return Err(OptionError::Resolution { given: resolution, multiple, least, network: network.name() });
    }
    Ok(networks::build(network, builder::Builder::new(network.name(), options, resolution)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparrow_convert::import::{ImportOptions, import};
    use sparrow_convert::ir::{Graph, Tensor};
    use sparrow_convert::onnx::Model;

    fn imported(network: Network, options: &Options) -> Graph {
        let model = Model::from(build(network, options).unwrap());
        let mut evaluate = |_: &Graph| Err::<Vec<Tensor>, _>("nothing to fold".to_owned());
        let imported = import(&model, &ImportOptions::default(), &mut evaluate).unwrap_or_else(|e| panic!("{e}"));
        assert!(imported.notes.is_empty(), "{:?}", imported.notes);
        imported.graph
    }

    fn small() -> Options {
        Options { width: 0.25, batch: 2, ..Options::default() }
    }

    #[test]
    fn networks_import_with_the_expected_shapes() {
        for (network, resolution, expected) in [
            (Network::MobileNetV1, 64, vec![2, 1000]),
            (Network::MobileNetV2, 96, vec![2, 1000]),
            (Network::ResNet50, 33, vec![2, 1000]),
            (Network::UNet, 48, vec![2, 2, 48, 48]),
            (Network::RlfnX2, 24, vec![2, 3, 48, 48]),
            (Network::RlfnX4, 15, vec![2, 3, 60, 60]),
        ] {
            let graph = imported(network, &Options { resolution: Some(resolution), ..small() });
            assert_eq!(graph.value(graph.inputs[0]).dims, [2, 3, resolution, resolution], "{network:?}");
            assert_eq!(graph.value(graph.outputs[0]).dims, expected, "{network:?}");
            assert_eq!((graph.inputs.len(), graph.outputs.len()), (1, 1));
            assert_eq!(Network::from_name(network.name()), Some(network));
        }
    }

    /// The published numbers of parameters. Where a bias stands for a folded batch normalisation there is one parameter
    /// per channel instead of two.
    #[test]
    fn full_size_networks_have_the_published_parameters() {
        for (network, published) in [
            (Network::MobileNetV1, 4_231_976 - 10_944),
            (Network::MobileNetV2, 3_504_872 - 17_056),
            // With the statistics, which are not counted as parameters.
            (Network::ResNet50, 25_557_032 + 53_120),
        ] {
            let graph = imported(network, &Options::default());
            let parameters: usize = graph.values.iter().filter_map(|value| value.data.as_ref()).map(Tensor::len).sum();
            assert_eq!(parameters, published, "{network:?}");
        }
        // The papers give RLFN's in thousands.
        for (network, published) in [(Network::RlfnX2, 527), (Network::RlfnX4, 543)] {
            let graph = imported(network, &Options::default());
            let parameters: usize = graph.values.iter().filter_map(|value| value.data.as_ref()).map(Tensor::len).sum();
            assert!(parameters.abs_diff(published * 1000) < 1000, "{network:?}: {parameters}");
        }
    }

    #[test]
    fn weights_follow_seed_and_sparsity() {
        let weights = |options: &Options| {
            let graph = build(Network::MobileNetV2, options).unwrap().graph.unwrap();
            let floats = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect::<Vec<_>>();
            graph.initializer.iter().map(|t| (t.dims.clone(), floats(&t.raw_data))).collect::<Vec<_>>()
        };
        let base = weights(&small());
        assert_eq!(base, weights(&small()));
        assert_ne!(base, weights(&Options { seed: 1, ..small() }));
        let sparse = weights(&Options { sparsity: 0.5, ..small() });
        let mut pruned_layers = 0;
        for ((dims, dense), (_, sparse)) in base.iter().zip(&sparse) {
            let zeros = sparse.iter().filter(|&&w| w == 0.0).count();
            let pointwise = dims.len() == 4 && dims[1] > 3 && dims[2] == 1;
            if !pointwise {
                assert_eq!(dense, sparse, "{dims:?} stays dense");
                continue;
            }
            pruned_layers += 1;
            let (rows, columns) = (dims[0] as usize, dims[1] as usize);
            // Blocks at the end are smaller when the channels are no multiple of 16.
            if rows.is_multiple_of(16) {
                assert_eq!(zeros, rows / 16 * columns / 2 * 16, "{dims:?}");
            }
            let zero_block = |block: usize, column: usize| {
                let rows = block * 16..rows.min(block * 16 + 16);
                rows.map(|row| sparse[row * columns + column] == 0.0).collect::<Vec<_>>()
            };
            for block in 0..rows.div_ceil(16) {
                for column in 0..columns {
                    let zero = zero_block(block, column);
                    assert!(zero.iter().all(|&z| z == zero[0]), "blocks are zero together");
                }
            }
        }
        assert_eq!(pruned_layers, 34);
    }

    #[test]
    fn impossible_options_are_refused() {
        let base = Options::default();
        for options in [
            Options { width: 0.0, ..base.clone() },
            Options { width: f32::NAN, ..base.clone() },
            Options { sparsity: 1.5, ..base.clone() },
            Options { batch: 0, ..base.clone() },
            Options { resolution: Some(40), ..base.clone() },
            Options { resolution: Some(1 << 40), ..base.clone() },
        ] {
            assert!(build(Network::UNet, &options).is_err(), "{options:?}");
        }
    }
}
