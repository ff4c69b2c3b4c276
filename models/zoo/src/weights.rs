//! Random weights that are the same on every machine, and their pruning.
//!
//! Every tensor has its own generator, seeded with the network's seed and the tensor's name, so a tensor does not depend
//! on what was built before it. A number is the sum of four 16-bit uniform ones (Irwin and Hall's approximation of the
//! normal distribution): integer arithmetic and one multiplication, nothing that mathematical libraries disagree on.

/// Output channels of a pruning block.
const BLOCK: usize = 16;

/// Generator of one tensor's elements.
pub struct Random(u64);

impl Random {
    /// The generator of the tensor of this name.
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Self(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of mean 0 and deviation 1.
    fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum = (0..4).map(|i| (bits >> (16 * i)) & 0xffff).sum::<u64>() as f32;
        // Four uniform numbers over 65536 steps have mean 131070 and deviation 65536 / sqrt 3.
        (sum - 131_070.0) * (1.732_050_8 / 65_536.0)
    }

    /// Numbers of this mean and deviation.
    pub fn normals(&mut self, count: usize, mean: f32, deviation: f32) -> Vec<f32> {
        (0..count).map(|_| mean + deviation * self.normal()).collect()
    }
}

/// Sets a share of a convolution's weights `[rows, positions]` to zero: for every block of 16 rows and every position the
/// sum of magnitudes is taken, and the blocks with the smallest ones go, floor(share * blocks) of them.
pub fn prune(weights: &mut [f32], rows: usize, share: f32) {
    let positions = weights.len() / rows;
    let block_rows = |block: usize| block * BLOCK..rows.min((block + 1) * BLOCK);
    let mut blocks: Vec<(f32, usize, usize)> = Vec::with_capacity(rows.div_ceil(BLOCK) * positions);
    for block in 0..rows.div_ceil(BLOCK) {
        for position in 0..positions {
            let magnitude = |row: usize| weights[row * positions + position].abs();
            // The mean, so that a short block at the end is not taken for a weak one.
            let sum: f32 = block_rows(block).map(magnitude).sum();
            blocks.push((sum / block_rows(block).len() as f32, block, position));
        }
    }
    blocks.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let count = (share * blocks.len() as f32) as usize;
    for &(_, block, position) in &blocks[..count] {
        block_rows(block).for_each(|row| weights[row * positions + position] = 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_wanted_moments() {
        let x = Random::new(7, "w").normals(100_000, 1.0, 0.5);
        let mean = x.iter().sum::<f32>() / x.len() as f32;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / x.len() as f32;
        assert!((mean - 1.0).abs() < 0.01 && (variance - 0.25).abs() < 0.005, "{mean} {variance}");
        assert_ne!(Random::new(7, "v").normals(1, 0.0, 1.0), Random::new(7, "w").normals(1, 0.0, 1.0));
    }

    #[test]
    fn the_weakest_blocks_go() {
        // 18 rows, 2 positions: blocks of 16 and of 2 rows. Magnitudes 4 and 1 in the first, 2 and 3 in the second.
        let mut weights: Vec<f32> = [[4.0, 1.0]; 16].into_iter().chain([[2.0, -3.0]; 2]).flatten().collect();
        let mut all = weights.clone();
        prune(&mut weights, 18, 0.5);
        assert_eq!(weights[..2], [4.0, 0.0]);
        assert_eq!(weights[34..], [0.0, -3.0]);
        prune(&mut all, 18, 1.0);
        assert!(all.iter().all(|&w| w == 0.0));
    }
}
