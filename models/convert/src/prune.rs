//! Pruning with fine-grained kernel-sparsity patterns: which blocks of weights of a layer are dropped.
//!
//! A unit is what the index of a sparse layout names: `block` output channels (16, 8 or 4) by `step` positions of the
//! reduction axis (1 for floats, 4 for int8; see [`sparrow_kernels::Layout`]). The units with the smallest sum of squares
//! go, until the wanted share is gone; every block of channels keeps as many as its neighbours, so that the work of
//! threads and tiles stays even (SparseByteNN, section 3.1; the norm is that of magnitude pruning, Han et al. 2015).
//!
//! Where samples of the network's input are given, the choice is by what a unit's loss costs the layer's output, and the
//! weights that stay are corrected for it ([`crate::compensate`]).
//!
//! A larger block is faster, since a loaded activation serves more channels; a smaller one loses less. `auto` measures
//! what each would lose and takes the largest block that loses little more than the smallest, among those that are predicted
//! to be faster than dense.

use crate::compensate::{Mat, Moments, prune_block};
use crate::ir::Graph;
use crate::settings::Precision;
use crate::weights::{Matrix, bias, has_weights, matrix, set_bias, set_weights};
use std::collections::HashMap;

/// Output channels of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// Chosen for every layer.
    Auto,
    /// 16, 8 or 4.
    Block(usize),
}

/// What to prune.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Options {
    /// Share of a layer's units to drop, 0..1.
    pub sparsity: f32,
    /// Block size.
    pub pattern: Pattern,
    /// Decides the positions of a unit.
    pub precision: Precision,
}

/// What was decided for a layer.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision {
    /// Index of the node.
    pub node: usize,
    /// Channels of a block; `None`: dense.
    pub block: Option<usize>,
    /// Share of units dropped.
    pub dropped: f32,
    /// Share of the weights' sum of squares that is kept.
    pub energy: f32,
    /// Why, in words.
    pub reason: String,
}

/// Layers with fewer weights than this gain less than their index and their loops cost.
const LEAST_WEIGHTS: usize = 2048;
/// Time of a sparse layer over that of the same layer stored dense, when it keeps this share of its units: measured on
/// the 1x1 layers of MobileNet-v1 at 30, 50 and 80 % sparsity with the AVX2 kernels (docs/sparsity.md has the figures),
/// one line through them for each block size. Other instruction sets differ; `sparrow bench` tells.
fn predicted_time(precision: Precision, block: usize, kept: f64) -> f64 {
    let (slope, constant) = match (precision, block) {
        (Precision::I8, 16) => (0.95, 0.095),
        (Precision::I8, 8) => (0.95, 0.085),
        (Precision::I8, _) => (1.19, 0.265),
        (_, 16) => (1.01, 0.025),
        (_, 8) => (1.24, 0.1),
        _ => (2.73, 0.095),
    };
    slope * kept + constant
}

/// A smaller block must lose less energy by this factor at least, and by the square of what it is slower.
const LEAST_BETTER: f64 = 1.25;

/// Time of one block size over that of another.
fn slowdown(options: &Options, from: usize, to: usize) -> f64 {
    let time = |block| predicted_time(options.precision, block, 1.0 - f64::from(options.sparsity));
    time(to) / time(from)
}

/// What [`predicted_time`] gains, in words.
fn prediction(precision: Precision, block: usize, dropped: f64) -> String {
    format!("predicted {:.2} x the speed of dense", 1.0 / predicted_time(precision, block, 1.0 - dropped))
}

/// A layer that came with at least this share of zero units is stored sparse.
const LEAST_FOUND: f32 = 0.2;

/// Decides for every layer with weights, and zeroes what is dropped; where `moments` has those of a layer's input, the
/// weights that stay are corrected.
pub fn prune(graph: &mut Graph, options: &Options, moments: &HashMap<usize, Moments>) -> Vec<Decision> {
    let layers: Vec<usize> = (0..graph.nodes.len()).filter(|&i| has_weights(&graph.nodes[i])).collect();
    let first = layers.first().copied();
    layers.iter().map(|&node| layer(graph, node, first == Some(node), options, moments.get(&node))).collect()
}

fn layer(graph: &mut Graph, node: usize, first: bool, options: &Options, moments: Option<&Moments>) -> Decision {
    let dense = |reason: String| Decision { node, block: None, dropped: 0.0, energy: 1.0, reason };
    let matrix = match matrix(graph, &graph.nodes[node]) {
        Ok(matrix) => matrix,
        Err(reason) => return dense(reason),
    };
    let depthwise = matrix.kc == 1 && matrix.oc == 1 && matrix.groups > 1;
    let count = matrix.groups * matrix.oc * matrix.taps * matrix.kc;
    if depthwise {
        return dense("depthwise: its few taps are most of its accuracy and little of the time".into());
    }
    if first && matrix.kc < 16 {
        return dense("first layer: few input channels, every later layer depends on it".into());
    }
    if matrix.groups > 1 {
        return dense(format!(
            "{} groups of {} channels are too small to leave positions out",
            matrix.groups, matrix.oc
        ));
    }
    if count < LEAST_WEIGHTS {
        return dense(format!("only {count} weights: the index would cost what it saves"));
    }
    let weights =
        graph.constant(matrix.weights).and_then(|t| t.elements::<f32>()).expect("constant floats").into_owned();
    let step = step(options.precision);
    let candidates: Vec<usize> = match options.pattern {
        Pattern::Auto => vec![16, 8, 4],
        Pattern::Block(block) => vec![block],
    };
    if options.sparsity == 0.0 {
        return found(&matrix, &weights, &candidates, options.precision, node);
    }
    let gains = |block: &usize| {
        options.pattern != Pattern::Auto
            || predicted_time(options.precision, *block, 1.0 - f64::from(options.sparsity)) < 1.0
    };
    let candidates: Vec<usize> = candidates.into_iter().filter(gains).collect();
    if candidates.is_empty() {
        let best = prediction(options.precision, 16, f64::from(options.sparsity));
        return dense(format!("so little dropped would not pay: {best}"));
    }
    let plans: Vec<(usize, Vec<bool>, f64)> = candidates
        .into_iter()
        .map(|block| {
            let (dropped, energy) = select(&matrix, &weights, block, step, options.sparsity);
            (block, dropped, energy)
        })
        .collect();
    let mut best = 0;
    for i in 1..plans.len() {
        let slower = slowdown(options, plans[best].0, plans[i].0);
        if (1.0 - plans[best].2) > (1.0 - plans[i].2) * slower.powi(2).max(LEAST_BETTER) {
            best = i;
        }
    }
    let why = match options.pattern {
        Pattern::Block(_) => String::new(),
        Pattern::Auto => {
            plans.iter().map(|(b, _, e)| format!("{b}: {:.1} %", (1.0 - e) * 100.0)).collect::<Vec<_>>().join(", ")
        }
    };
    let (block, dropped, energy) = plans.into_iter().nth(best).expect("a candidate");
    let share = dropped.iter().filter(|&&d| d).count() as f32 / dropped.len().max(1) as f32;
    if share == 0.0 {
        return dense("too few positions to drop one".into());
    }
    let how = if moments.is_some() { ", the others corrected on the samples" } else { "" };
    let corrected =
        moments.and_then(|moments| correct(graph, node, &matrix, &weights, (block, step), options.sparsity, moments));
    let (dropped, energy, weights) = match corrected {
        Some((dropped, energy, weights, bias)) => {
            set_bias(graph, node, &bias);
            (dropped, energy, weights)
        }
        None => (dropped, energy, weights),
    };
    apply(graph, node, &matrix, weights, (block, step), &dropped);
    let lost = if why.is_empty() { String::new() } else { format!(" (energy lost by block size {why})") };
    let (s, gain) = (if step == 1 { "" } else { "s" }, prediction(options.precision, block, f64::from(share)));
    let reason = format!("blocks of {block} channels by {step} position{s}: {gain}{how}{lost}");
    Decision { node, block: Some(block), dropped: share, energy: energy as f32, reason }
}

/// Positions of a unit.
fn step(precision: Precision) -> usize {
    if precision == Precision::I8 { 4 } else { 1 }
}

/// A layer that is not to be pruned is stored sparse if it came with enough units of zeros.
fn found(m: &Matrix, weights: &[f32], candidates: &[usize], precision: Precision, node: usize) -> Decision {
    let step = step(precision);
    let zeros = weights.iter().filter(|&&w| w == 0.0).count() as f32 / weights.len().max(1) as f32;
    let share = |block: usize| {
        let all = units(m, weights, block, step);
        all.iter().flatten().filter(|&&energy| energy == 0.0).count() as f32
            / all.iter().map(Vec::len).sum::<usize>().max(1) as f32
    };
    let shares: Vec<(usize, f32)> = candidates.iter().map(|&block| (block, share(block))).collect();
    // The first is the largest block; a smaller one must find clearly more to make up for its slower kernel.
    let best = shares.iter().copied().reduce(|a, b| if b.1 > a.1 + 0.1 { b } else { a });
    match best {
        Some((block, dropped)) if dropped >= LEAST_FOUND => {
            let gain = prediction(precision, block, f64::from(dropped));
            let reason = format!("came with {:.0} % of its blocks of {block} channels zero: {gain}", dropped * 100.0);
            Decision { node, block: Some(block), dropped, energy: 1.0, reason }
        }
        _ if zeros >= LEAST_FOUND => {
            let reason =
                format!("{:.0} % of its weights are zero, but not in blocks: prune with --sparsity", zeros * 100.0);
            Decision { node, block: None, dropped: 0.0, energy: 1.0, reason }
        }
        _ => Decision {
            node,
            block: None,
            dropped: 0.0,
            energy: 1.0,
            reason: "no --sparsity asked, and it came without zeros".into(),
        },
    }
}

/// Sum of squares of every unit, block by block, `[tap][unit]` inside.
fn units(m: &Matrix, weights: &[f32], block: usize, step: usize) -> Vec<Vec<f64>> {
    let units = m.kc.div_ceil(step);
    let mut all = Vec::new();
    for group in 0..m.groups {
        for first in (0..m.oc).step_by(block) {
            let mut energies = vec![0f64; m.taps * units];
            for o in first..(first + block).min(m.oc) {
                for tap in 0..m.taps {
                    for k in 0..m.kc {
                        let w = f64::from(weights[(m.at)(m, group, o, tap, k)]);
                        energies[tap * units + k / step] += w * w;
                    }
                }
            }
            all.push(energies);
        }
    }
    all
}

/// Which units to drop, `[group][block][tap][unit]`, and the share of the energy that stays.
fn select(m: &Matrix, weights: &[f32], block: usize, step: usize, sparsity: f32) -> (Vec<bool>, f64) {
    let mut dropped = Vec::new();
    let (mut lost, mut all) = (0.0, 0.0);
    for energies in units(m, weights, block, step) {
        let count = ((energies.len() as f32) * sparsity).round() as usize;
        let mut order: Vec<usize> = (0..energies.len()).collect();
        order.sort_by(|&a, &b| energies[a].total_cmp(&energies[b]));
        let mut gone = vec![false; energies.len()];
        for &unit in &order[..count.min(energies.len().saturating_sub(1))] {
            gone[unit] = true;
            lost += energies[unit];
        }
        all += energies.iter().sum::<f64>();
        dropped.extend(gone);
    }
    (dropped, if all > 0.0 { 1.0 - lost / all } else { 1.0 })
}

/// Units to drop, share of the output's energy kept, corrected weights and bias.
type Corrected = (Vec<bool>, f64, Vec<f32>, Vec<f32>);

/// Chooses and corrects block by block on the moments of the layer's input.
fn correct(
    graph: &Graph,
    node: usize,
    m: &Matrix,
    weights: &[f32],
    (block, step): (usize, usize),
    sparsity: f32,
    moments: &Moments,
) -> Option<Corrected> {
    let positions = m.taps * m.kc;
    if m.groups != 1 || moments.positions() != positions {
        return None;
    }
    let mut bias = bias(graph, node, m.oc)?;
    let per_tap = m.kc.div_ceil(step);
    let unit_of: Vec<usize> = (0..positions).map(|p| p / m.kc * per_tap + p % m.kc / step).collect();
    let units = m.taps * per_tap;
    let count = ((units as f32 * sparsity).round() as usize).min(units.saturating_sub(1));
    let mut corrected = weights.to_vec();
    let (mut dropped, mut lost, mut blocks) = (Vec::new(), 0.0, 0);
    for first in (0..m.oc).step_by(block) {
        let channels = block.min(m.oc - first);
        let at = |p: usize, c: usize| (m.at)(m, 0, first + c, p / m.kc, p % m.kc);
        let old = Mat::from_fn(positions + 1, channels, |p, c| {
            f64::from(if p < positions { weights[at(p, c)] } else { bias[first + c] })
        });
        let new = prune_block(moments, &old, &unit_of, units, count)?;
        for c in 0..channels {
            for p in 0..positions {
                corrected[at(p, c)] = new.weights[(p, c)] as f32;
            }
            bias[first + c] = new.weights[(positions, c)] as f32;
        }
        dropped.extend(new.dropped);
        lost += new.lost;
        blocks += 1;
    }
    Some((dropped, 1.0 - lost / f64::from(blocks), corrected, bias))
}

/// Zeroes the dropped units.
fn apply(
    graph: &mut Graph,
    node: usize,
    m: &Matrix,
    mut weights: Vec<f32>,
    (block, step): (usize, usize),
    dropped: &[bool],
) {
    let units = m.kc.div_ceil(step);
    let blocks = m.oc.div_ceil(block);
    for group in 0..m.groups {
        for o in 0..m.oc {
            for tap in 0..m.taps {
                for k in 0..m.kc {
                    if dropped[((group * blocks + o / block) * m.taps + tap) * units + k / step] {
                        weights[(m.at)(m, group, o, tap, k)] = 0.0;
                    }
                }
            }
        }
    }
    set_weights(graph, node, m, &weights, "pruned");
}
