//! Every operator that can be imported, with the versions of it that its parser understands.

use super::context::NodeContext;
use super::error::Reason;
use super::{constants, elementwise, layout, linear, normalization, quantization, reduction, resize, views, window};

/// One operator.
pub(super) struct Operator {
    /// ONNX's name.
    pub name: &'static str,
    /// First opset whose form of it the parser reads.
    pub since: u32,
    /// Last one, for operators that ONNX has dropped.
    pub until: u32,
    /// Reads the node and adds its typed form to the graph.
    pub import: Parser,
}

/// Reads one node.
pub(super) type Parser = fn(&mut NodeContext) -> Result<(), Reason>;

/// An operator that still exists.
pub(super) const fn since(version: u32, name: &'static str, import: Parser) -> Operator {
    Operator { name, since: version, until: u32::MAX, import }
}

const FAMILIES: [&[Operator]; 10] = [
    constants::OPERATORS,
    elementwise::OPERATORS,
    layout::OPERATORS,
    linear::OPERATORS,
    normalization::OPERATORS,
    quantization::OPERATORS,
    reduction::OPERATORS,
    resize::OPERATORS,
    views::OPERATORS,
    window::OPERATORS,
];

/// The operator of this name.
pub(super) fn find(name: &str) -> Option<&'static Operator> {
    FAMILIES.into_iter().flatten().find(|operator| operator.name == name)
}

impl Operator {
    /// Refuses versions of the operator that the parser does not read.
    pub fn check_version(&self, opset: u32) -> Result<(), Reason> {
        match opset {
            _ if opset < self.since => Err(Reason::Version(format!("from opset {}", self.since))),
            _ if opset > self.until => Err(Reason::Version(format!("up to opset {}", self.until))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_complete() {
        let mut names: Vec<_> = FAMILIES.into_iter().flatten().map(|operator| operator.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for name in "Conv ConvTranspose Gemm MatMul BatchNormalization InstanceNormalization LayerNormalization Relu LeakyRelu \
            PRelu Clip Elu Selu Sigmoid HardSigmoid Tanh HardSwish Gelu Softplus Softsign Mish Erf Exp Log Sqrt Abs Neg \
            Reciprocal Floor Ceil Round Sign Sin Cos Add Sub Mul Div Pow Min Max Mean Sum Equal Less LessOrEqual Greater \
            GreaterOrEqual Where Not And Or Xor Concat Split Slice Pad Transpose Reshape Flatten Squeeze Unsqueeze Expand Tile \
            Gather Cast Identity Dropout Constant ConstantOfShape Shape Size Range ReduceMean ReduceSum ReduceMax ReduceMin \
            ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp ArgMax ArgMin TopK MaxPool AveragePool \
            GlobalAveragePool GlobalMaxPool LRN Resize Upsample DepthToSpace SpaceToDepth Softmax LogSoftmax QuantizeLinear \
            DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul ConvInteger MatMulInteger"
            .split_whitespace()
        {
            assert!(find(name).is_some(), "{name}");
        }
    }
}
