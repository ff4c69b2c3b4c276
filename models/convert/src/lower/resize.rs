//! Resampling: every mode of ONNX's Resize as tables made here.
//!
//! Along one axis each element of the result is a weighted sum of a few elements of the operand; where they are and what
//! they weigh depends on the mode alone. The axes are done one after the other, those that shrink first. Nearest
//! neighbours are a gather, and repetition by whole factors is one copy.
//!
//! Source: ONNX's reference implementation of Resize (onnx/reference/ops/op_resize.py), whose positions are followed.

use super::pack::code;
use super::reduce::Along;
use super::view::{CopyAxis, Format, View, element_bits};
use super::{Lowerer, Result};
use crate::ir::{CoordinateMode, NearestMode, Node, Resize, ResizeMode, ValueId};
use crate::program::TensorId;
use sparrow_kernels::{DType, GatherParams, MAX_RANK, Op, ResampleParams, WhereParams};

/// What one axis of the result is made of.
#[derive(Clone, PartialEq, Debug)]
struct Table {
    axis: usize,
    taps: usize,
    /// `[out][taps]`, inside the operand.
    positions: Vec<i32>,
    /// `[out][taps]`.
    weights: Vec<f32>,
    /// For each element of the result whether it lies outside the region of interest.
    outside: Vec<bool>,
}

impl Table {
    fn len(&self) -> usize {
        self.outside.len()
    }

    /// Whether the result is the operand.
    fn is_identity(&self, len: usize) -> bool {
        self.len() == len && self.repeats(len) == Some(1)
    }

    /// The whole factor by which elements are repeated, if that is all that happens.
    fn repeats(&self, len: usize) -> Option<usize> {
        let factor = self.len() / len.max(1);
        let plain = factor > 0 && self.len() == factor * len && !self.outside.contains(&true);
        let at = |o: usize| {
            let row = o * self.taps..(o + 1) * self.taps;
            let mut parts =
                self.positions[row.clone()].iter().zip(&self.weights[row]).filter(|(_, weight)| **weight != 0.0);
            parts.next() == Some((&((o / factor) as i32), &1.0)) && parts.next().is_none()
        };
        (plain && (0..self.len()).all(at)).then_some(factor)
    }
}

/// Where element `o` of the result lies in the operand.
fn coordinate(resize: &Resize, axis: usize, len: usize, out: usize, o: usize) -> f32 {
    let (scale, o) = (resize.scales[axis], o as f32);
    let (len_f, exact) = (len as f32, scale * len as f32);
    let half_pixel = (o + 0.5) / scale - 0.5;
    match resize.coordinates {
        CoordinateMode::HalfPixel => half_pixel,
        CoordinateMode::HalfPixelSymmetric => len_f / 2.0 * (1.0 - out as f32 / exact) + half_pixel,
        CoordinateMode::PytorchHalfPixel if exact == 1.0 => 0.0,
        CoordinateMode::PytorchHalfPixel => half_pixel,
        CoordinateMode::TfHalfPixelForNn => (o + 0.5) / scale,
        CoordinateMode::AlignCorners if exact == 1.0 => 0.0,
        CoordinateMode::AlignCorners => o * (len_f - 1.0) / (exact - 1.0),
        CoordinateMode::Asymmetric => o / scale,
        CoordinateMode::TfCropAndResize => {
            let [start, end] = resize.roi[axis];
            let inside = if exact == 1.0 {
                (end - start) * (len_f - 1.0) / 2.0
            } else {
                o * (end - start) * (len_f - 1.0) / (exact - 1.0)
            };
            start * (len_f - 1.0) + inside
        }
    }
}

/// The cubic convolution kernel (Keys, 1981).
fn cubic(a: f32, x: f32) -> f32 {
    let x = x.abs();
    match x {
        x if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        x if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
        _ => 0.0,
    }
}

/// First neighbour relative to the left one, and the weights, for a point `ratio` (above 0, at most 1) past the left one.
fn neighbours(resize: &Resize, scale: f32, ratio: f32) -> (i64, Vec<f32>) {
    let reach = |radius: f32, kernel: &dyn Fn(f32) -> f32| {
        let stretch = if resize.antialias { scale.min(1.0) } else { 1.0 };
        let start = (-radius / stretch).floor() as i64 + 1;
        let weights: Vec<f32> = (start..2 - start).map(|i| kernel((i as f32 - ratio) * stretch)).collect();
        let sum: f32 = weights.iter().sum();
        let norm = if resize.antialias { sum } else { 1.0 };
        (start, weights.into_iter().map(|w| w / norm).collect())
    };
    match resize.mode {
        ResizeMode::Linear => reach(1.0, &|x| (1.0 - x.abs()).max(0.0)),
        ResizeMode::Cubic { a } => reach(2.0, &|x| cubic(a, x)),
        ResizeMode::Nearest(mode) => {
            let right = match mode {
                _ if ratio == 1.0 => true,
                NearestMode::RoundPreferFloor => ratio > 0.5,
                NearestMode::RoundPreferCeil => ratio >= 0.5,
                NearestMode::Floor => false,
                NearestMode::Ceil => true,
            };
            (i64::from(right), vec![1.0])
        }
    }
}

/// The table of one axis.
fn table(resize: &Resize, axis: usize, len: usize, out: usize) -> Table {
    let mut table = Table { axis, taps: 0, positions: Vec::new(), weights: Vec::new(), outside: Vec::new() };
    let crop = resize.coordinates == CoordinateMode::TfCropAndResize;
    for o in 0..out {
        let x = coordinate(resize, axis, len, out, o);
        table.outside.push(crop && (x < 0.0 || x > len as f32 - 1.0));
        // The left one of two neighbours is preferred, so a whole coordinate is 1 past its left neighbour.
        let left = x.ceil() - 1.0;
        let (first, mut weights) = neighbours(resize, resize.scales[axis], x - left);
        table.taps = weights.len();
        let positions: Vec<i64> = (0..weights.len() as i64).map(|i| left as i64 + first + i).collect();
        if resize.exclude_outside {
            let inside = |at: i64| (0..len as i64).contains(&at);
            weights.iter_mut().zip(&positions).filter(|(_, at)| !inside(**at)).for_each(|(weight, _)| *weight = 0.0);
            let sum: f32 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        table.positions.extend(positions.iter().map(|&at| at.clamp(0, len as i64 - 1) as i32));
        table.weights.extend(weights);
    }
    table
}

impl Lowerer<'_> {
    /// [`crate::ir::Op::Resize`].
    pub fn resize(&mut self, node: &Node, resize: &Resize) -> Result {
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        let (from, to) = (self.dims(x), self.dims(y));
        let mut tables: Vec<Table> = (0..from.len()).map(|axis| table(resize, axis, from[axis], to[axis])).collect();
        tables.retain(|table| !table.is_identity(from[table.axis]));
        let (view, format, dtype) = self.carried_dense(x, y)?;
        if tables.is_empty() {
            self.add_view(y, dtype, view);
            return Ok(());
        }
        let repeats: Option<Vec<_>> =
            tables.iter().map(|table| Some((table.axis, table.repeats(from[table.axis])?))).collect();
        if let Some(repeats) = repeats {
            return self.repeat(y, (&view, format, dtype), from, &repeats);
        }
        let nearest = matches!(resize.mode, ResizeMode::Nearest(_));
        if !nearest && !matches!(dtype, DType::F32 | DType::F16 | DType::I8) {
            return Err(self.unsupported(format!("it interpolates {}", dtype.name()), "cast its operand to float32"));
        }
        tables.sort_by(|a, b| {
            let growth = |table: &Table| table.len() as f64 / from[table.axis] as f64;
            growth(a).total_cmp(&growth(b))
        });
        let (mut dims, mut tensor) = (from.to_vec(), view.tensor);
        let mut masks: Vec<&Table> = tables.iter().filter(|table| table.outside.contains(&true)).collect();
        let last = tables.len() - 1;
        for (i, table) in tables.iter().enumerate() {
            let along = Along::new(format, &dims, table.axis);
            dims[table.axis] = table.len();
            let made = if i == last && masks.is_empty() {
                self.output(y, format, dtype).tensor
            } else {
                self.temporary(dtype, &format.physical(&dims))
            };
            self.resample(table, along, nearest, (tensor, made));
            tensor = made;
        }
        let bits = match self.quantization(y).filter(|_| dtype == DType::I8) {
            Some(q) => u64::from(code(q, f64::from(resize.extrapolation_value)) as u8),
            None => element_bits(dtype, f64::from(resize.extrapolation_value)),
        };
        while let Some(table) = masks.pop() {
            let made = if masks.is_empty() {
                self.output(y, format, dtype).tensor
            } else {
                self.temporary(dtype, &format.physical(&dims))
            };
            self.extrapolate(table, (format, &dims), (dtype, bits), (tensor, made));
            tensor = made;
        }
        Ok(())
    }

    /// Whole factors along some axes: one copy.
    fn repeat(
        &mut self,
        y: ValueId,
        (view, format, dtype): (&View, Format, DType),
        from: &[usize],
        repeats: &[(usize, usize)],
    ) -> Result {
        let out = self.output(y, format, dtype);
        let mut axes = Vec::new();
        for (axis, &dim) in from.iter().enumerate() {
            let factor = repeats.iter().find(|(at, _)| *at == axis).map_or(1, |(_, factor)| *factor);
            let (src, dst) = (view.strides[axis] as i64, out.strides[axis] as i64);
            axes.push(CopyAxis { dim, src, dst: dst * factor as i64 });
            axes.push(CopyAxis { dim: factor, src: 0, dst });
        }
        self.copy_axes(axes, (view.tensor, view.offset), (out.tensor, out.offset))
    }

    /// One axis.
    fn resample(
        &mut self,
        table: &Table,
        Along { outer, len, inner }: Along,
        nearest: bool,
        (x, y): (TensorId, TensorId),
    ) {
        let dims = [table.len(), table.taps];
        let positions = self.program.constant(DType::I32, &dims, &table.positions);
        let out_len = table.len() as u32;
        if nearest {
            let params = GatherParams { outer, axis: len, inner, count: out_len };
            self.emit(Op::Gather, &params, &[Some(x), Some(positions)], &[Some(y)]);
        } else {
            let weights = self.program.constant(DType::F32, &dims, &table.weights);
            let params = ResampleParams { outer, in_len: len, out_len, inner, taps: table.taps as u32 };
            self.emit(Op::Resample, &params, &[Some(x), Some(positions), Some(weights)], &[Some(y)]);
        }
    }

    /// Puts a value where an axis lies outside the region of interest.
    fn extrapolate(
        &mut self,
        table: &Table,
        (format, dims): (Format, &[usize]),
        (dtype, bits): (DType, u64),
        (x, y): (TensorId, TensorId),
    ) {
        let mask: Vec<u8> = table.outside.iter().map(|&outside| u8::from(outside)).collect();
        let mask = self.program.constant(DType::Bool, &[mask.len()], &mask);
        let value = self.program.constant(dtype, &[], &bits.to_le_bytes()[..dtype.size()]);
        let along = Along::new(format, dims, table.axis);
        let mut params = WhereParams { dims: [1; MAX_RANK], ..Default::default() };
        params.dims[..3].copy_from_slice(&[along.outer, along.len, along.inner]);
        params.condition[1] = 1;
        params.b[..3].copy_from_slice(&[along.len * along.inner, along.inner, 1]);
        self.emit(Op::Where, &params, &[Some(mask), Some(value), Some(x)], &[Some(y)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resize(mode: ResizeMode, coordinates: CoordinateMode, scale: f32) -> Resize {
        Resize {
            mode,
            coordinates,
            scales: vec![scale],
            roi: vec![[0.0, 1.0]],
            extrapolation_value: 0.0,
            exclude_outside: false,
            antialias: false,
        }
    }

    #[test]
    fn doubling_by_nearest_is_repetition() {
        let mode = ResizeMode::Nearest(NearestMode::RoundPreferFloor);
        for coordinates in [CoordinateMode::Asymmetric, CoordinateMode::HalfPixel] {
            let floor = ResizeMode::Nearest(NearestMode::Floor);
            let mode = if coordinates == CoordinateMode::Asymmetric { floor } else { mode };
            let table = table(&resize(mode, coordinates, 2.0), 0, 3, 6);
            assert_eq!(table.positions, [0, 0, 1, 1, 2, 2], "{coordinates:?}");
            assert_eq!(table.repeats(3), Some(2));
        }
    }

    #[test]
    fn weights_of_every_mode_sum_to_one() {
        let modes = [ResizeMode::Linear, ResizeMode::Cubic { a: -0.75 }];
        for (mode, scale, out) in modes.into_iter().flat_map(|mode| [(mode, 2.5, 20), (mode, 0.4, 3), (mode, 1.0, 8)]) {
            for (antialias, exclude_outside) in [(false, false), (true, false), (false, true)] {
                let resize = Resize { antialias, exclude_outside, ..resize(mode, CoordinateMode::HalfPixel, scale) };
                let table = table(&resize, 0, 8, out);
                for row in table.weights.chunks(table.taps) {
                    assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{resize:?} {row:?}");
                }
                assert_eq!(table.is_identity(8), scale == 1.0, "{resize:?}");
            }
        }
    }
}
