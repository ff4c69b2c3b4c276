//! One module per family of operators: its check and its scalar kernels. The whole scalar catalogue is put together here.

use crate::{Catalogue, Draft, Op, Refusal, conv};

mod binary;
mod cast;
mod copy;
mod gather;
pub mod lanes;
mod map;
mod matmul;
mod norm;
mod pool;
mod quantize;
mod reduce;
mod select;
mod shared;

pub use copy::{copy_pixels, copy_through, copy_units, makes_pixels};
pub use map::{LookUp, lut_through, lut_units};

/// Refuses a call that does not fit its operands.
pub(crate) fn check(draft: &Draft) -> Result<(), Refusal> {
    match draft.op {
        Op::Conv | Op::Depthwise => conv::check(draft),
        Op::MatMul => matmul::check(draft),
        Op::Map => map::check_map(draft),
        Op::Lut => map::check_lut(draft),
        Op::Binary => binary::check_binary(draft),
        Op::QBinary => binary::check_qbinary(draft),
        Op::Where => binary::check_where(draft),
        Op::Copy => copy::check_copy(draft),
        Op::Fill => copy::check_fill(draft),
        Op::Pad => gather::check_pad(draft),
        Op::Gather => gather::check_gather(draft),
        Op::Resample => gather::check_resample(draft),
        Op::Reduce => reduce::check(draft),
        Op::ArgReduce => select::check_argreduce(draft),
        Op::TopK => select::check_topk(draft),
        Op::Pool => pool::check(draft),
        Op::Lrn => norm::check_lrn(draft),
        Op::Norm => norm::check_norm(draft),
        Op::Softmax => norm::check_softmax(draft),
        Op::Quantize => quantize::check_quantize(draft),
        Op::Dequantize => quantize::check_dequantize(draft),
        Op::DynQuantize => quantize::check_dynquantize(draft),
        Op::Requantize => quantize::check_requantize(draft),
        Op::Cast => cast::check(draft),
    }
}

/// The scalar kernels of every operator, which define every result.
pub static CATALOGUE: Catalogue = &[
    conv::CATALOGUE,
    crate::depthwise::CATALOGUE,
    matmul::CATALOGUE,
    map::CATALOGUE,
    binary::CATALOGUE,
    copy::CATALOGUE,
    gather::CATALOGUE,
    reduce::CATALOGUE,
    select::CATALOGUE,
    pool::CATALOGUE,
    norm::CATALOGUE,
    quantize::CATALOGUE,
    cast::CATALOGUE,
];
