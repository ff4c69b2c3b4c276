//! What pruning and rounding take away, the weights that stay make up for, as far as they can.
//!
//! With samples of a layer's input, its rows X (one an output pixel, with a column of ones for the bias), dropping
//! positions is a least-squares problem: all channels of a block keep the same positions S, so `min |X W - X_S V|` has
//! one matrix for the whole block, `V = (X_S' X_S)^-1 X_S' X W`. Which units go is decided by what their loss would cost
//! after that correction: `w' (H^-1)^-1 w` with H = X'X (Optimal Brain Surgeon, Hassibi and Stork 1993; for blocks: Frantar
//! and Alistarh, "Optimal Brain Compression", 2022, section 4), in a few rounds, since every loss changes the others' cost.

use nalgebra::{Cholesky, DMatrix};
use std::sync::OnceLock;

/// A dense matrix.
pub type Mat = DMatrix<f64>;

/// Added to H's diagonal, relative to its mean: samples do not span every direction.
const DAMPING: f64 = 1e-3;
/// Rounds in which a block loses its units.
const ROUNDS: usize = 4;

/// Second moments of a layer's input, group by group.
#[derive(Clone, Debug)]
pub struct Moments {
    /// `X' X` of `[positions + 1]` columns, the last of ones.
    grams: Vec<Mat>,
    /// Inverse of the first, once it has been asked for.
    inverse: OnceLock<Option<Mat>>,
}

impl Moments {
    /// Of no rows yet.
    pub fn new(groups: usize, positions: usize) -> Self {
        Self { grams: vec![Mat::zeros(positions + 1, positions + 1); groups], inverse: OnceLock::new() }
    }

    /// Adds rows of `[taps][groups][kc]` elements each, one after another.
    pub fn add(&mut self, rows: &[f32], taps: usize) {
        let (groups, positions) = (self.grams.len(), self.positions());
        let (kc, row) = (positions / taps.max(1), positions * groups);
        let count = rows.len() / row.max(1);
        for (group, gram) in self.grams.iter_mut().enumerate() {
            let at = |r: usize, p: usize| r * row + (p / kc * groups + group) * kc + p % kc;
            let element = |r, p| if p < positions { f64::from(rows[at(r, p)]) } else { 1.0 };
            let x = Mat::from_fn(count, positions + 1, element);
            gram.gemm_tr(1.0, &x, &x, 1.0);
        }
    }

    /// Makes every direction count a little: samples do not span them all. Call it once, when all rows are there.
    pub fn damp(&mut self) {
        let positions = self.positions();
        for gram in &mut self.grams {
            let mean = (0..positions).map(|i| gram[(i, i)]).sum::<f64>() / positions.max(1) as f64;
            for i in 0..=positions {
                gram[(i, i)] += DAMPING * mean.max(1e-12);
            }
        }
    }

    /// Inverse of the first group's moments; `None` if there is none.
    fn inverse(&self) -> Option<&Mat> {
        self.inverse.get_or_init(|| Some(Cholesky::new(self.grams[0].clone())?.inverse())).as_ref()
    }

    /// Number of positions of a group.
    pub fn positions(&self) -> usize {
        self.grams[0].nrows() - 1
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.grams.len()
    }
}

/// A block of output channels that keeps or drops positions together.
#[derive(Clone, Debug)]
pub struct Block {
    /// `[positions + 1][channels]`: weights, and in the last row the bias.
    pub weights: Mat,
    /// Which units are dropped.
    pub dropped: Vec<bool>,
    /// Share of the output's energy that is lost.
    pub lost: f64,
}

/// Drops `count` of the units of a block and corrects the weights that stay. `unit_of` gives each position's unit.
/// `None` if the moments are not those of a regular problem.
///
/// What goes is taken out of H^-1 and of the solution by one Schur complement a round, so that only the layer's first
/// inverse costs as much as an inverse.
pub fn prune_block(moments: &Moments, weights: &Mat, unit_of: &[usize], units: usize, count: usize) -> Option<Block> {
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); units];
    for (position, &unit) in unit_of.iter().enumerate() {
        members[unit].push(position);
    }
    let mut inverse = moments.inverse()?.clone();
    let mut corrected = weights.clone();
    let mut dropped = vec![false; units];
    let mut gone = 0;
    for round in 0..ROUNDS {
        let until = count * (round + 1) / ROUNDS;
        if until == gone {
            continue;
        }
        let stays = (0..units).filter(|&unit| !dropped[unit]);
        let mut costs =
            stays.map(|unit| Some((cost(&inverse, &corrected, &members[unit])?, unit))).collect::<Option<Vec<_>>>()?;
        costs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let leaves: Vec<usize> = costs[..until - gone].iter().map(|&(_, unit)| unit).collect();
        let positions: Vec<usize> = leaves.iter().flat_map(|&unit| members[unit].iter().copied()).collect();
        take_out(&mut inverse, &mut corrected, &positions)?;
        leaves.iter().for_each(|&unit| dropped[unit] = true);
        gone = until;
    }
    let difference = &corrected - weights;
    let energy = |w: &Mat| (&moments.grams[0] * w).dot(w);
    let lost = energy(&difference) / energy(weights).max(f64::MIN_POSITIVE);
    Some(Block { weights: corrected, dropped, lost })
}

/// What the loss of the positions of one unit would cost.
fn cost(inverse: &Mat, weights: &Mat, positions: &[usize]) -> Option<f64> {
    if positions.is_empty() {
        return Some(f64::INFINITY);
    }
    let w = weights.select_rows(positions);
    let metric = Cholesky::new(inverse.select_rows(positions).select_columns(positions))?;
    Some(w.dot(&metric.solve(&w)))
}

/// Makes the weights of some positions 0, and the others the solution without them; likewise the inverse.
fn take_out(inverse: &mut Mat, weights: &mut Mat, positions: &[usize]) -> Option<()> {
    let columns = inverse.select_columns(positions);
    let metric = Cholesky::new(columns.select_rows(positions))?;
    weights.gemm(-1.0, &columns, &metric.solve(&weights.select_rows(positions)), 1.0);
    inverse.gemm(-1.0, &columns, &metric.solve(&columns.transpose()), 1.0);
    for &position in positions {
        weights.row_mut(position).fill(0.0);
    }
    Some(())
}

/// Rounds the weights of a group's channels, `[positions + 1][channels]` with the bias last, to multiples of each
/// channel's scale: position by position, what one loses to rounding those behind it make up for, and the bias, which
/// stays as it is, for what is left (Frantar et al., "GPTQ", 2022, section 3). Zeros stay zeros. `None` if the moments
/// are not those of a regular problem.
pub fn round(moments: &Moments, group: usize, weights: &mut Mat, scales: &[f32]) -> Option<()> {
    let inverse = Cholesky::new(moments.grams[group].clone())?.inverse();
    let factor = Cholesky::new(inverse)?.unpack();
    let positions = moments.positions();
    for (channel, &scale) in scales.iter().enumerate() {
        let scale = f64::from(scale);
        let kept: Vec<bool> = (0..positions).map(|i| weights[(i, channel)] != 0.0).collect();
        for i in 0..positions {
            let old = weights[(i, channel)];
            let code = if kept[i] { (old / scale).round_ties_even().clamp(-127.0, 127.0) } else { 0.0 };
            weights[(i, channel)] = code * scale;
            let error = (old - code * scale) / factor[(i, i)];
            if error != 0.0 {
                for j in i + 1..=positions {
                    weights[(j, channel)] -= error * factor[(j, i)];
                }
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs around `mean`, of which position 3 repeats position 0: one of them can go for nothing.
    fn moments(mean: f32) -> Moments {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let rows: Vec<f32> = (0..200)
            .flat_map(|_| {
                let [a, b, c] = [mean + next(), mean + next(), mean + next()];
                [a, b, c, a]
            })
            .collect();
        let mut moments = Moments::new(1, 4);
        moments.add(&rows, 1);
        moments.damp();
        moments
    }

    #[test]
    fn a_position_that_repeats_another_goes_and_is_made_up_for() {
        let weights = Mat::from_fn(5, 2, |r, c| if r == 4 { 0.1 } else { 1.0 + r as f64 * 0.1 + c as f64 });
        let block = prune_block(&moments(0.0), &weights, &[0, 1, 2, 3], 4, 1).unwrap();
        assert_eq!(block.dropped.iter().filter(|&&d| d).count(), 1);
        assert!(block.dropped[0] || block.dropped[3], "{:?}", block.dropped);
        assert!(block.lost < 1e-3, "{}", block.lost);
        let stays = if block.dropped[0] { 3 } else { 0 };
        assert!((block.weights[(stays, 0)] - (weights[(0, 0)] + weights[(3, 0)])).abs() < 0.02);
    }

    #[test]
    fn rounding_is_made_up_for_and_zeros_stay() {
        // Inputs that hardly vary: rounding moves the result by its error times their mean, unless made up for.
        let moments = moments(3.0);
        let exact = Mat::from_fn(5, 1, |r, _| [0.33, 0.0, -0.71, 0.52, 0.1][r]);
        let error = |w: &Mat| ((w - &exact).transpose() * (&moments.grams[0] * (w - &exact)))[(0, 0)];
        let scale = 0.25f32;
        let nearest = Mat::from_fn(5, 1, |r, _| if r < 4 { (exact[r] / 0.25).round() * 0.25 } else { exact[r] });
        let mut rounded = exact.clone();
        round(&moments, 0, &mut rounded, &[scale]).unwrap();
        assert_eq!(rounded[1], 0.0);
        assert!((0..4).all(|i| (rounded[i] / 0.25).fract() == 0.0), "{rounded}");
        assert!(error(&rounded) < 0.1 * error(&nearest), "{} {}", error(&rounded), error(&nearest));
    }

    #[test]
    fn nothing_dropped_changes_nothing() {
        let weights = Mat::from_fn(5, 1, |r, _| r as f64);
        let block = prune_block(&moments(0.0), &weights, &[0, 0, 1, 1], 2, 0).unwrap();
        assert_eq!(block.weights, weights);
        assert_eq!(block.lost, 0.0);
    }
}
