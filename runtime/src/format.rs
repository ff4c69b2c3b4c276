//! The records of the file, byte for byte. `docs/format.md` specifies them for another implementer.
//!
//! ```text
//! 0       header, 64 bytes
//! 64      section table, 32 bytes a section
//! ...     STRS names   TENS tensors   OPER operators   PARM parameter words   ENTR entry points   INDX sparse indices
//! n*16384 WGHT weights
//! ```
//!
//! Everything is little-endian; sections and tensors begin at multiples of 64, the weights at a multiple of 16 KiB, the
//! largest page of the systems we run on, so that they alone can be mapped, shared and paged.

use bytemuck::{Pod, Zeroable};

/// First bytes of every file.
pub const MAGIC: [u8; 8] = *b"SPARROW\x1a";
/// Version of the format this build reads and writes.
pub const VERSION: u32 = 1;
/// Alignment of sections, tensors and of the file in memory.
pub const ALIGN: usize = 64;
/// Alignment of the weights in the file.
pub const WEIGHTS_ALIGN: usize = 16 << 10;
/// Greatest numbers of sections, tensors, operators and entry points.
pub const MAX_SECTIONS: u32 = 64;
/// See [`MAX_SECTIONS`].
pub const MAX_RECORDS: usize = 1 << 20;

/// The file's first 64 bytes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// 64: where the section table begins.
    pub header_size: u32,
    /// Bytes of the whole file.
    pub file_size: u64,
    /// Sections in the table.
    pub section_count: u32,
    /// 32: bytes of a section's entry.
    pub section_size: u32,
    /// XXH3-64 of the header, this field as 0, followed by the section table.
    pub hash: u64,
    /// 0.
    pub reserved: [u64; 3],
}

/// An entry of the section table.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Section {
    /// Four letters.
    pub tag: [u8; 4],
    /// Bit 0: a reader that does not know the tag may pass over the section.
    pub flags: u32,
    /// First byte, counted from the file's first.
    pub offset: u64,
    /// Number of bytes.
    pub size: u64,
    /// XXH3-64 of the bytes.
    pub hash: u64,
}

/// [`Section::flags`]: a reader may pass over it.
pub const OPTIONAL: u32 = 1;

/// Names: each a u16 length and as many bytes of UTF-8. Offset 0 is the empty name.
pub const STRS: [u8; 4] = *b"STRS";
/// [`TensorRecord`]s.
pub const TENS: [u8; 4] = *b"TENS";
/// [`OpRecord`]s.
pub const OPER: [u8; 4] = *b"OPER";
/// 32-bit words: parameter blocks, and the tensor lists of entry points.
pub const PARM: [u8; 4] = *b"PARM";
/// [`EntryRecord`]s.
pub const ENTR: [u8; 4] = *b"ENTR";
/// Indices of sparse layouts, which are validated when the file is opened.
pub const INDX: [u8; 4] = *b"INDX";
/// Packed weights, biases, tables: bytes that cannot lead a kernel astray, read only by kernels.
pub const WGHT: [u8; 4] = *b"WGHT";

/// Every section of this version, in the order of the file.
pub const SECTIONS: [[u8; 4]; 7] = [STRS, TENS, OPER, PARM, ENTR, INDX, WGHT];

/// [`TensorRecord::place`]: in the arena.
pub const IN_ARENA: u8 = 0;
/// [`TensorRecord::place`]: in WGHT.
pub const IN_WEIGHTS: u8 = 1;
/// [`TensorRecord::place`]: in INDX.
pub const IN_INDEX: u8 = 2;

/// A tensor.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct TensorRecord {
    /// Its name in STRS.
    pub name: u32,
    /// Number of a `DType`.
    pub dtype: u8,
    /// Number of dimensions, at most 8.
    pub rank: u8,
    /// [`IN_ARENA`], [`IN_WEIGHTS`] or [`IN_INDEX`].
    pub place: u8,
    /// Number of a `Layout`.
    pub layout: u8,
    /// The dimensions; 0 past `rank`. Packed weights: (groups, channels of a group, taps, elements of a tap).
    pub dims: [u32; 8],
    /// First byte in its place; a multiple of 64.
    pub offset: u64,
    /// Bytes it owns: its elements and the slack a kernel may read behind them.
    pub size: u64,
    /// Quantized tensors: `real = scale * (code - zero)`; others 0.
    pub scale: f32,
    /// See `scale`.
    pub zero: i32,
}

/// An operator with its operands.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct OpRecord {
    /// Number of an `Op`.
    pub op: u16,
    /// Bit i: input i is there.
    pub inputs_present: u8,
    /// Bit i: output i is there.
    pub outputs_present: u8,
    /// Tensors read; 0 where absent.
    pub inputs: [u32; 8],
    /// Tensors written; 0 where absent.
    pub outputs: [u32; 3],
    /// First byte of the parameter block in PARM; a multiple of 4.
    pub params: u32,
    /// Bytes of the parameter block.
    pub params_size: u32,
    /// Its name in STRS.
    pub name: u32,
    /// 0.
    pub reserved: u32,
}

/// An entry point: operators run in order on one arena.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct EntryRecord {
    /// Its name in STRS.
    pub name: u32,
    /// First operator.
    pub first_op: u32,
    /// Number of operators.
    pub op_count: u32,
    /// First byte in PARM of its tensor list: inputs, then outputs; a multiple of 4.
    pub list: u32,
    /// Number of inputs.
    pub inputs: u32,
    /// Number of outputs.
    pub outputs: u32,
    /// Bytes of arena it needs.
    pub arena_size: u64,
}
