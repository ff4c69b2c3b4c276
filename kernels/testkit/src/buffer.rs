//! A buffer between guards: 64-byte aligned as the runtime's tensors are, with a full line of known bytes before it and
//! at least a line behind it.
//!
//! ```text
//! | guard, 64 | bytes ... | guard, 64..127 |
//! ```

use alloc::vec;
use alloc::vec::Vec;
use bytemuck::{Pod, Zeroable};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

const LINE: usize = size_of::<Line>();

/// Bytes with guards around them.
#[derive(Clone)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
    guard: u8,
}

impl Buffer {
    /// `len` bytes of `value`, between guards made of `guard`.
    pub fn new(len: usize, value: u8, guard: u8) -> Self {
        let mut buffer = Self { lines: vec![Line([guard; LINE]); len.div_ceil(LINE) + 2], len, guard };
        buffer.bytes_mut().fill(value);
        buffer
    }

    /// A copy of `bytes`, between guards made of `guard`.
    pub fn from_bytes(bytes: &[u8], guard: u8) -> Self {
        let mut buffer = Self::new(bytes.len(), 0, guard);
        buffer.bytes_mut().copy_from_slice(bytes);
        buffer
    }

    /// The bytes between the guards.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[LINE..LINE + self.len]
    }

    /// The bytes between the guards, for writing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[LINE..LINE + self.len]
    }

    /// Whether nobody has written into the guards.
    pub fn intact(&self) -> bool {
        let all: &[u8] = bytemuck::cast_slice(&self.lines);
        all[..LINE].iter().chain(&all[LINE + self.len..]).all(|&byte| byte == self.guard)
    }
}
