//! Transposed convolutions, as one ordinary convolution for every phase of the stride.
//!
//! Output row `oy` gets input row `iy` through tap `ky` where `oy = iy * stride + ky * dilation - pad`. Rows with the same
//! `oy mod stride` (a phase) use the same taps, and among them each tap moves by one input row per output row: an
//! ordinary convolution of stride 1, written with a row stride of `stride` into the same tensor. Nothing is added up in
//! memory and no zero is multiplied.
//!
//! ```text
//! stride 2, 3 taps:   phase 0: rows 0 2 4 ...  taps 2 0      phase 1: rows 1 3 5 ...  tap 1
//! ```
//!
//! Source: Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016.

use super::conv::{Job, Picture, geometry, two_axes};
use super::{Lowerer, Result};
use crate::ir::{self, Node, WindowAxis};
use sparrow_kernels::{DType, Strides, WeightShape};

/// One axis of one phase.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Phase {
    /// First output element.
    first: usize,
    /// Output elements.
    count: usize,
    /// Taps, in the order in which their inputs ascend.
    taps: Vec<usize>,
    /// Input elements from a tap's to the next tap's.
    dilation: usize,
    /// Input elements before the first that the first tap reads.
    pad: i32,
}

/// The phases of an axis that yields `out` elements.
fn phases(axis: WindowAxis, out: usize) -> Vec<Phase> {
    let phase = |first: usize| {
        // Input element of tap k for the phase's first output: (first + pad - k * dilation) / stride, where whole.
        let from = |tap: usize| (first + axis.pad_begin) as i64 - (tap * axis.dilation) as i64;
        let stride = axis.stride as i64;
        let taps: Vec<usize> = (0..axis.kernel).rev().filter(|&tap| from(tap).rem_euclid(stride) == 0).collect();
        let inputs: Vec<i64> = taps.iter().map(|&tap| from(tap) / stride).collect();
        let dilation = inputs.get(1).map_or(1, |next| (next - inputs[0]) as usize);
        let pad = -inputs.first().copied().unwrap_or(0) as i32;
        Phase { first, count: (out - first).div_ceil(axis.stride), taps, dilation, pad }
    };
    (0..axis.stride.min(out)).map(phase).collect()
}

impl Lowerer<'_> {
    /// [`ir::Op::ConvTranspose`].
    pub fn conv_transpose(&mut self, node: &Node, conv: &ir::Conv) -> Result {
        let (x, w, first) = (self.operand(node, 0)?, self.operand(node, 1)?, self.result(node, 0)?);
        let (xd, wd, group) = (self.dims(x), self.dims(w), conv.group);
        let [height, width] = two_axes(&conv.window);
        let (kc, oc) = (xd[1] / group, wd[1]);
        let taps = height.kernel * width.kernel;
        let given = self.real(w)?;
        // [C][M / group][taps] as [M][taps][C / group].
        let weight = |m: usize, tap: usize, c: usize| given[((m / oc * kc + c) * oc + m % oc) * taps + tap];
        let rows = oc * group;
        let whole: Vec<f32> = (0..rows)
            .flat_map(|m| (0..taps * kc).map(move |i| (m, i)))
            .map(|(m, i)| weight(m, i / kc, i % kc))
            .collect();
        let bias = self.bias(node.input(2), rows)?;
        let arithmetic = self.arithmetic((x, w), first, 1, (&whole, bias))?;
        let dtype = if arithmetic.x.is_some() { DType::I8 } else { self.float() };
        let input = Picture::new(&self.want_runs(x, dtype)?, xd);
        let residual = self.residual_picture(&arithmetic)?;
        let output = self.output_picture(&arithmetic, &[Some(input.tensor), residual.map(|r| r.tensor)]);
        for v in phases(height, output.height) {
            for h in phases(width, output.width) {
                let own = v.taps.len() * h.taps.len();
                let picked = v.taps.iter().flat_map(|ky| h.taps.iter().map(move |kx| ky * width.kernel + kx));
                let picked: Vec<usize> = picked.collect();
                let depthwise = own > 0 && group > 1 && kc == 1 && oc == 1;
                let shape = match (own, depthwise) {
                    // Nothing reaches these rows: their bias alone, whatever the groups.
                    (0, _) => WeightShape { groups: 1, oc: rows, taps: 0, kc: 1 },
                    (_, true) => WeightShape { groups: 1, oc: rows, taps: own, kc: 1 },
                    _ => WeightShape { groups: group, oc, taps: own, kc },
                };
                let at = |m: usize, tap: usize, c: usize| whole[(m * taps + tap) * kc + c];
                let weights: Vec<f32> = (0..rows)
                    .flat_map(|m| picked.iter().map(move |&tap| (m, tap)))
                    .flat_map(|(m, tap)| (0..kc).map(move |c| (m, tap, c)))
                    .map(|(m, tap, c)| at(m, tap, c))
                    .collect();
                let window = |phase: &Phase| WindowAxis {
                    kernel: phase.taps.len(),
                    stride: 1,
                    dilation: phase.dilation,
                    pad_begin: 0,
                    pad_end: 0,
                };
                let thinned = |picture: &Picture| Picture {
                    height: v.count,
                    width: h.count,
                    strides: Strides {
                        offset: picture.strides.offset
                            + v.first as u32 * picture.strides.row
                            + h.first as u32 * picture.strides.pixel,
                        row: picture.strides.row * height.stride as u32,
                        pixel: picture.strides.pixel * width.stride as u32,
                        ..picture.strides
                    },
                    ..*picture
                };
                let mut params = geometry(&input, &thinned(&output), &[window(&v), window(&h)], shape);
                (params.pad_top, params.pad_left) = (v.pad, h.pad);
                params.residual = residual.map_or(Strides::default(), |r| thinned(&r).strides);
                let job = Job {
                    params,
                    shape,
                    depthwise,
                    x: input.tensor,
                    y: output.tensor,
                    residual: residual.map(|r| r.tensor),
                };
                self.emit_job(job, &weights, &arithmetic)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every (input, tap, output) triple of the definition is met by exactly one phase.
    #[test]
    fn phases_cover_the_definition() {
        for (kernel, stride, dilation, pad_begin) in
            [(3, 2, 1, 0), (2, 2, 1, 0), (4, 2, 1, 1), (3, 1, 2, 1), (3, 3, 2, 1), (1, 3, 1, 0), (5, 2, 3, 2)]
        {
            let axis = WindowAxis { kernel, stride, dilation, pad_begin, pad_end: 0 };
            let (len, out) = (5usize, stride * 4 + axis.extent() - pad_begin);
            let mut expected = Vec::new();
            for (input, tap) in (0..len).flat_map(|i| (0..kernel).map(move |k| (i, k))) {
                let at = (input * stride + tap * dilation) as i64 - pad_begin as i64;
                if (0..out as i64).contains(&at) {
                    expected.push((at as usize, tap, input));
                }
            }
            let mut found = Vec::new();
            for phase in phases(axis, out) {
                for (q, (t, &tap)) in
                    (0..phase.count).flat_map(|q| phase.taps.iter().enumerate().map(move |tap| (q, tap)))
                {
                    let input = q as i64 + (t * phase.dilation) as i64 - i64::from(phase.pad);
                    if (0..len as i64).contains(&input) {
                        found.push((phase.first + q * stride, tap, input as usize));
                    }
                }
            }
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, expected, "{axis:?}");
        }
    }
}
