//! A file in memory: one validation pass, then views that trust it.
//!
//! [`Model::open`] reads header and tables, never a weight: only `WGHT` is left untouched, since nothing in it can lead a
//! kernel astray. Everything that could (shapes, strides, offsets, sparse indices) lies in the tables and is proved to
//! stay inside its memory. [`Model::verify`] compares the hash of every section, weights included.

use crate::error::{Error, Fault};
use crate::format::*;
use bytemuck::Pod;
use core::ops::Range;
use sparrow_kernels::{DType, Draft, Layout, MAX_INPUTS, MAX_OUTPUTS, Op, Signature, check};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// A validated file.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    bytes: &'a [u8],
    sections: &'a [Section],
    strings: &'a [u8],
    tensors: &'a [TensorRecord],
    ops: &'a [OpRecord],
    params: &'a [u8],
    entries: &'a [EntryRecord],
    index: &'a [u8],
    weights: &'a [u8],
}

/// A tensor of a model.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Its name; may be empty.
    pub name: &'a str,
    /// Type of its elements.
    pub dtype: DType,
    /// How its bytes are ordered.
    pub layout: Layout,
    /// Its dimensions. Packed weights: (groups, channels of a group, taps, elements of a tap).
    pub dims: &'a [u32],
    /// Scale and zero point, if it is quantized: `real = scale * (code - zero)`.
    pub quantization: Option<(f32, i32)>,
    /// Its record.
    pub record: &'a TensorRecord,
}

impl Tensor<'_> {
    /// Bytes of its elements (plain tensors), without the slack behind them.
    pub fn byte_len(&self) -> usize {
        match self.layout {
            Layout::Plain => self.dims.iter().map(|&d| d as usize).product::<usize>() * self.dtype.size(),
            _ => self.record.size as usize,
        }
    }
}

/// An operator of a model.
#[derive(Clone, Copy, Debug)]
pub struct Operator<'a> {
    /// Its name in the source network.
    pub name: &'a str,
    /// What it computes.
    pub op: Op,
    /// Its parameter block.
    pub params: &'a [u8],
    /// Numbers of the tensors it reads.
    pub inputs: [Option<u32>; MAX_INPUTS],
    /// Numbers of the tensors it writes.
    pub outputs: [Option<u32>; MAX_OUTPUTS],
}

/// An entry point of a model.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its name.
    pub name: &'a str,
    /// Numbers of its operators.
    pub ops: (u32, u32),
    /// Numbers of its input tensors.
    pub inputs: &'a [u32],
    /// Numbers of its output tensors.
    pub outputs: &'a [u32],
    /// Bytes of arena it needs.
    pub arena_size: usize,
}

impl Entry<'_> {
    /// Numbers of its operators.
    pub fn op_range(&self) -> Range<u32> {
        self.ops.0..self.ops.1
    }
}

fn records<T: Pod>(bytes: &[u8], tag: [u8; 4]) -> Result<&[T], Error> {
    let records: &[T] = bytemuck::try_cast_slice(bytes).map_err(|_| Error::Section(tag))?;
    if records.len() > MAX_RECORDS { Err(Error::Section(tag)) } else { Ok(records) }
}

fn string(strings: &[u8], at: u32) -> Option<&str> {
    let at = at as usize;
    let len = u16::from_le_bytes(strings.get(at..at.checked_add(2)?)?.try_into().ok()?);
    core::str::from_utf8(strings.get(at + 2..(at + 2).checked_add(usize::from(len))?)?).ok()
}

fn hash_head(header: &Header, table: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(bytemuck::bytes_of(&Header { hash: 0, ..*header }));
    hasher.update(table);
    hasher.digest()
}

/// The hash a header must carry over its own fields and the section table that follows it.
pub fn header_hash(header: &Header, table: &[Section]) -> u64 {
    hash_head(header, bytemuck::cast_slice(table))
}

/// The hash of a section's bytes.
pub fn section_hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// Reads header and section table.
fn head(bytes: &[u8]) -> Result<&[Section], Error> {
    if bytes.get(..8) != Some(&MAGIC) {
        return Err(Error::NotSparrow);
    }
    if !(bytes.as_ptr() as usize).is_multiple_of(ALIGN) {
        return Err(Error::Alignment);
    }
    let found = bytes.len() as u64;
    let header = bytes.get(..64).ok_or(Error::Size { expected: 64, found })?;
    let header: &Header = bytemuck::from_bytes(header);
    if header.version != VERSION {
        return Err(Error::Version(header.version));
    }
    if header.file_size != found {
        return Err(Error::Size { expected: header.file_size, found });
    }
    let sizes =
        header.header_size as usize == size_of::<Header>() && header.section_size as usize == size_of::<Section>();
    if !sizes || header.section_count > MAX_SECTIONS || header.reserved != [0; 3] {
        return Err(Error::Header);
    }
    let table = bytes.get(64..64 + header.section_count as usize * size_of::<Section>()).ok_or(Error::Header)?;
    if hash_head(header, table) != header.hash {
        return Err(Error::Hash(*b"HEAD"));
    }
    Ok(bytemuck::cast_slice(table))
}

/// The bytes of one section, in order: `end` is where the one before it ended.
fn section<'a>(bytes: &'a [u8], section: &Section, end: &mut u64) -> Result<&'a [u8], Error> {
    let past = section.offset.checked_add(section.size).ok_or(Error::Section(section.tag))?;
    let align = if section.tag == WGHT { WEIGHTS_ALIGN } else { ALIGN } as u64;
    if section.offset < *end || past > bytes.len() as u64 || !section.offset.is_multiple_of(align) {
        return Err(Error::Section(section.tag));
    }
    *end = past;
    Ok(&bytes[section.offset as usize..past as usize])
}

impl<'a> Model<'a> {
    /// Validates a file. Reads every table and no weight.
    ///
    /// # Errors
    /// The first thing found wrong; see [`Error`].
    pub fn open(bytes: &'a [u8]) -> Result<Self, Error> {
        let sections = head(bytes)?;
        let mut found: [Option<&[u8]>; SECTIONS.len()] = [None; SECTIONS.len()];
        let mut end = 64 + size_of_val(sections) as u64;
        for entry in sections {
            let content = section(bytes, entry, &mut end)?;
            match SECTIONS.iter().position(|tag| *tag == entry.tag) {
                Some(i) if found[i].is_some() => return Err(Error::Section(entry.tag)),
                Some(i) => found[i] = Some(content),
                None if entry.flags & OPTIONAL != 0 => continue,
                None => return Err(Error::SectionUnknown(entry.tag)),
            }
            if entry.tag != WGHT && section_hash(content) != entry.hash {
                return Err(Error::Hash(entry.tag));
            }
        }
        let get = |i: usize| found[i].ok_or(Error::SectionMissing(SECTIONS[i]));
        let model = Self {
            bytes,
            sections,
            strings: get(0)?,
            tensors: records(get(1)?, TENS)?,
            ops: records(get(2)?, OPER)?,
            params: get(3)?,
            entries: records(get(4)?, ENTR)?,
            index: get(5)?,
            weights: get(6)?,
        };
        model.check_tensors()?;
        for index in 0..model.entries.len() {
            model.check_entry(index as u32)?;
        }
        Ok(model)
    }

    /// Compares the hash of every section, weights included: reads the whole file.
    ///
    /// # Errors
    /// [`Error::Hash`] with the first section that has been altered.
    pub fn verify(&self) -> Result<(), Error> {
        for section in self.sections {
            let content = &self.bytes[section.offset as usize..(section.offset + section.size) as usize];
            if section_hash(content) != section.hash {
                return Err(Error::Hash(section.tag));
            }
        }
        Ok(())
    }

    fn check_tensors(&self) -> Result<(), Error> {
        let mut ends = [0u64; 3];
        for (index, record) in self.tensors.iter().enumerate() {
            let index = index as u32;
            let fail = |fault| Err(Error::Tensor { index, fault });
            if string(self.strings, record.name).is_none() {
                return fail(Fault::Name);
            }
            let Some(dtype) = DType::from_u8(record.dtype) else { return fail(Fault::Type) };
            let Some(layout) = Layout::from_number(record.layout) else {
                return Err(Error::Layout { index, layout: record.layout });
            };
            let rank = usize::from(record.rank);
            if rank > 8 || record.dims[rank.min(8)..].iter().any(|&d| d != 0) {
                return fail(Fault::Shape);
            }
            let elements =
                record.dims[..rank].iter().try_fold(dtype.size() as u64, |n, &d| n.checked_mul(u64::from(d)));
            let Some(needed) = elements else { return fail(Fault::Shape) };
            let Some(past) = record.offset.checked_add(record.size) else { return fail(Fault::Range) };
            let limit = match record.place {
                IN_ARENA => isize::MAX as u64 / 2,
                IN_WEIGHTS => self.weights.len() as u64,
                IN_INDEX => self.index.len() as u64,
                _ => return fail(Fault::Place),
            };
            if past > limit
                || !record.offset.is_multiple_of(ALIGN as u64)
                || layout == Layout::Plain && needed > record.size
            {
                return fail(Fault::Range);
            }
            if record.place == IN_ARENA {
                if layout != Layout::Plain {
                    return fail(Fault::Role);
                }
            } else {
                let end = &mut ends[usize::from(record.place)];
                if record.offset < *end {
                    return fail(Fault::Overlap);
                }
                *end = past;
            }
        }
        Ok(())
    }

    fn check_entry(&self, index: u32) -> Result<(), Error> {
        let record = &self.entries[index as usize];
        let fail = |fault| Err(Error::Entry { index, fault });
        if string(self.strings, record.name).is_none() {
            return fail(Fault::Name);
        }
        let past = u64::from(record.first_op) + u64::from(record.op_count);
        if past > self.ops.len() as u64 {
            return fail(Fault::Reference);
        }
        if record.arena_size > isize::MAX as u64 / 2 {
            return fail(Fault::Range);
        }
        let Some(list) = self.words(record.list, u64::from(record.inputs) + u64::from(record.outputs)) else {
            return fail(Fault::Range);
        };
        for &tensor in list {
            let Some(record_of) = self.tensors.get(tensor as usize) else { return fail(Fault::Reference) };
            if record_of.place != IN_ARENA {
                return fail(Fault::Role);
            }
            if record_of.offset + record_of.size > record.arena_size {
                return fail(Fault::Range);
            }
        }
        for op in record.first_op..past as u32 {
            self.check_op(op, record.arena_size)?;
        }
        Ok(())
    }

    /// Words of PARM from byte `at`.
    fn words(&self, at: u32, count: u64) -> Option<&'a [u32]> {
        let past = u64::from(at).checked_add(count.checked_mul(4)?)?;
        bytemuck::try_cast_slice(self.params.get(at as usize..usize::try_from(past).ok()?)?).ok()
    }

    fn check_op(&self, index: u32, arena_size: u64) -> Result<(), Error> {
        let record = &self.ops[index as usize];
        let fail = |fault| Err(Error::Op { index, fault });
        if string(self.strings, record.name).is_none() {
            return fail(Fault::Name);
        }
        let Some(op) = Op::from_number(record.op) else { return Err(Error::Operator { index, op: record.op }) };
        let absent = |present: u8, ids: &[u32]| ids.iter().enumerate().any(|(i, &id)| present >> i & 1 == 0 && id != 0);
        if record.reserved != 0
            || record.outputs_present >> MAX_OUTPUTS != 0
            || absent(record.inputs_present, &record.inputs)
            || absent(record.outputs_present, &record.outputs)
        {
            return fail(Fault::Reserved);
        }
        if !record.params_size.is_multiple_of(4) {
            return fail(Fault::Range);
        }
        let Some(params) = self.words(record.params, u64::from(record.params_size / 4)) else {
            return fail(Fault::Range);
        };
        let mut draft = Draft {
            op,
            params: bytemuck::cast_slice(params),
            inputs: [None; MAX_INPUTS],
            outputs: [None; MAX_OUTPUTS],
        };
        let operator = self.operator_unchecked(index, op);
        let ids = operator.inputs.iter().chain(&operator.outputs).flatten();
        for &id in ids {
            let Some(tensor) = self.tensors.get(id as usize) else { return fail(Fault::Reference) };
            if tensor.place == IN_ARENA && tensor.offset + tensor.size > arena_size {
                return fail(Fault::Range);
            }
        }
        for (slot, id) in draft.inputs.iter_mut().zip(operator.inputs) {
            *slot = id.map(|id| self.signature(id));
        }
        for (slot, id) in draft.outputs.iter_mut().zip(operator.outputs) {
            *slot = id.map(|id| self.signature(id));
        }
        self.check_aliases(index, &operator)?;
        check(&draft).map_err(|refusal| Error::Refused { index, refusal })
    }

    /// Refuses outputs outside the arena, or on an input or another output.
    fn check_aliases(&self, index: u32, operator: &Operator) -> Result<(), Error> {
        let range = |id: u32| {
            let t = &self.tensors[id as usize];
            (t.place == IN_ARENA && t.size > 0).then_some(t.offset..t.offset + t.size)
        };
        let meet = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
        for (i, output) in operator.outputs.iter().enumerate() {
            let Some(output) = *output else { continue };
            if self.tensors[output as usize].place != IN_ARENA {
                return Err(Error::Op { index, fault: Fault::Role });
            }
            let Some(written) = range(output) else { continue };
            let others = operator.inputs.iter().chain(&operator.outputs[..i]).flatten();
            if others.filter_map(|&id| range(id)).any(|other| meet(&written, &other)) {
                return Err(Error::Op { index, fault: Fault::Alias });
            }
        }
        Ok(())
    }

    fn signature(&self, id: u32) -> Signature<'a> {
        let record = &self.tensors[id as usize];
        let content = if record.place == IN_INDEX { self.constant(record) } else { &[] };
        Signature { dtype: dtype(record), layout: layout(record), len: record.size as usize, content }
    }

    /// The bytes of a tensor that is not in the arena.
    pub(crate) fn constant(&self, record: &TensorRecord) -> &'a [u8] {
        let section = if record.place == IN_INDEX { self.index } else { self.weights };
        &section[record.offset as usize..(record.offset + record.size) as usize]
    }

    /// The bytes of a constant tensor; `None` for one in the arena.
    pub fn constant_bytes(&self, tensor: &Tensor) -> Option<&'a [u8]> {
        (tensor.record.place != IN_ARENA).then(|| self.constant(tensor.record))
    }

    /// The whole file.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The section table.
    pub fn sections(&self) -> &'a [Section] {
        self.sections
    }

    /// Number of tensors.
    pub fn tensor_count(&self) -> u32 {
        self.tensors.len() as u32
    }

    /// Tensor `id`. Panics if there is none.
    pub fn tensor(&self, id: u32) -> Tensor<'a> {
        let record = &self.tensors[id as usize];
        Tensor {
            name: string(self.strings, record.name).unwrap_or_default(),
            dtype: dtype(record),
            layout: layout(record),
            dims: &record.dims[..usize::from(record.rank)],
            quantization: (record.scale != 0.0).then_some((record.scale, record.zero)),
            record,
        }
    }

    /// Number of operators.
    pub fn operator_count(&self) -> u32 {
        self.ops.len() as u32
    }

    /// Operator `index`, `None` if there is none or no entry point runs it and this build does not know it.
    pub fn operator(&self, index: u32) -> Option<Operator<'a>> {
        let record = self.ops.get(index as usize)?;
        Some(self.operator_unchecked(index, Op::from_number(record.op)?))
    }

    fn operator_unchecked(&self, index: u32, op: Op) -> Operator<'a> {
        let record = &self.ops[index as usize];
        let at = record.params as usize;
        Operator {
            name: string(self.strings, record.name).unwrap_or_default(),
            op,
            params: self.params.get(at..at.saturating_add(record.params_size as usize)).unwrap_or_default(),
            inputs: core::array::from_fn(|i| (record.inputs_present >> i & 1 == 1).then_some(record.inputs[i])),
            outputs: core::array::from_fn(|i| (record.outputs_present >> i & 1 == 1).then_some(record.outputs[i])),
        }
    }

    /// Number of entry points.
    pub fn entry_count(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Entry point `index`, `None` if there is none.
    pub fn entry(&self, index: u32) -> Option<Entry<'a>> {
        let record = self.entries.get(index as usize)?;
        let list = self.words(record.list, u64::from(record.inputs) + u64::from(record.outputs))?;
        let (inputs, outputs) = list.split_at(record.inputs as usize);
        let name = string(self.strings, record.name).unwrap_or_default();
        let ops = (record.first_op, record.first_op + record.op_count);
        Some(Entry { name, ops, inputs, outputs, arena_size: record.arena_size as usize })
    }
}

fn dtype(record: &TensorRecord) -> DType {
    DType::from_u8(record.dtype).expect("validated")
}

fn layout(record: &TensorRecord) -> Layout {
    Layout::from_number(record.layout).expect("validated")
}
