//! Pseudo-random numbers: xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016).

use alloc::vec::Vec;

/// A generator that gives the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.bits() as usize % limit
    }

    /// A number in `-1.0..1.0`.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    /// `count` numbers in `-scale..scale`.
    pub fn floats(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.unit() * scale).collect()
    }

    /// `count` int8 codes as numbers, one in eight of them an extreme.
    pub fn codes(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|_| match self.bits() {
                bits if bits % 16 == 0 => -128.0,
                bits if bits % 16 == 1 => 127.0,
                bits => f32::from((bits >> 24) as u8 as i8),
            })
            .collect()
    }
}
