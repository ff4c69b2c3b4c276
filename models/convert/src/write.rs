//! Writing the flat file: a planned program becomes the bytes that `docs/format.md` specifies.

use crate::plan::{Plan, plan};
use crate::program::{Place, Program, TensorId};
use bytemuck::{Zeroable, bytes_of, cast_slice};
use sparrow_runtime::format::*;
use sparrow_runtime::{header_hash, section_hash};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

/// The strings section: each text once.
struct Strings {
    bytes: Vec<u8>,
    known: HashMap<String, u32>,
}

impl Strings {
    fn new() -> Self {
        Self { bytes: vec![0, 0], known: HashMap::from([(String::new(), 0)]) }
    }

    fn add(&mut self, text: &str) -> u32 {
        if let Some(&at) = self.known.get(text) {
            return at;
        }
        // A longer name is cut where a character ends.
        let end =
            (0..=text.len().min(usize::from(u16::MAX))).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        let at = self.bytes.len() as u32;
        self.bytes.extend((end as u16).to_le_bytes());
        self.bytes.extend(&text.as_bytes()[..end]);
        self.known.insert(text.to_owned(), at);
        at
    }
}

/// Bytes to which tensors are added at multiples of 64.
#[derive(Default)]
struct Data(Vec<u8>);

impl Data {
    fn add(&mut self, bytes: &[u8]) -> u64 {
        self.0.resize(self.0.len().next_multiple_of(ALIGN), 0);
        let at = self.0.len();
        self.0.extend(bytes);
        at as u64
    }
}

/// The file's bytes. Tensors that no instruction touches are left out; an entry point per program is named as it is.
pub fn write(program: &Program) -> (Vec<u8>, Plan) {
    let plan = plan(program);
    let mut strings = Strings::new();
    let (mut weights, mut index) = (Data::default(), Data::default());
    let (numbers, tensors) = tensor_records(program, &plan, &mut strings, &mut weights, &mut index);
    let mut words: Vec<u8> = Vec::new();
    let ops: Vec<OpRecord> = program
        .instructions
        .iter()
        .map(|instruction| {
            let mut record = OpRecord::zeroed();
            record.op = instruction.op.number();
            record.name = strings.add(&instruction.name);
            record.params = words.len() as u32;
            record.params_size = instruction.params.len() as u32;
            words.extend(&instruction.params);
            for (i, id) in instruction.inputs.iter().enumerate().filter_map(|(i, id)| Some((i, (*id)?))) {
                record.inputs_present |= 1 << i;
                record.inputs[i] = numbers[&id];
            }
            for (i, id) in instruction.outputs.iter().enumerate().filter_map(|(i, id)| Some((i, (*id)?))) {
                record.outputs_present |= 1 << i;
                record.outputs[i] = numbers[&id];
            }
            record
        })
        .collect();
    let list = words.len() as u32;
    for id in program.inputs.iter().chain(&program.outputs) {
        words.extend(numbers[id].to_le_bytes());
    }
    let entry = EntryRecord {
        name: strings.add(&program.name),
        first_op: 0,
        op_count: ops.len() as u32,
        list,
        inputs: program.inputs.len() as u32,
        outputs: program.outputs.len() as u32,
        arena_size: plan.arena as u64,
    };
    let sections: [&[u8]; 7] =
        [&strings.bytes, cast_slice(&tensors), cast_slice(&ops), &words, bytes_of(&entry), &index.0, &weights.0];
    (assemble(sections), plan)
}

/// Tensor records in the order of the program, and the number of each tensor that is used.
fn tensor_records(
    program: &Program,
    plan: &Plan,
    strings: &mut Strings,
    weights: &mut Data,
    index: &mut Data,
) -> (HashMap<TensorId, u32>, Vec<TensorRecord>) {
    let operands = program.instructions.iter().flat_map(|i| i.inputs.iter().chain(&i.outputs).flatten());
    let mut used: Vec<TensorId> = operands.chain(&program.inputs).chain(&program.outputs).copied().collect();
    used.sort_unstable();
    used.dedup();
    let mut numbers = HashMap::new();
    let mut records = Vec::with_capacity(used.len());
    for id in used {
        let tensor = program.tensor(id);
        let (place, offset) = match &tensor.place {
            Place::Arena | Place::Alias { .. } => (IN_ARENA, plan.offsets[id.index()] as u64),
            Place::Weights(bytes) => (IN_WEIGHTS, weights.add(bytes)),
            Place::Index(bytes) => (IN_INDEX, index.add(bytes)),
        };
        let (scale, zero) = tensor.quantization.unwrap_or_default();
        let mut dims = [0; 8];
        dims[..tensor.dims.len()].copy_from_slice(&tensor.dims);
        numbers.insert(id, records.len() as u32);
        records.push(TensorRecord {
            name: strings.add(&tensor.name),
            dtype: tensor.dtype as u8,
            rank: tensor.dims.len() as u8,
            place,
            layout: tensor.layout.number(),
            dims,
            offset,
            size: tensor.size() as u64,
            scale,
            zero,
        });
    }
    (numbers, records)
}

/// Header, section table and sections, in the order of [`SECTIONS`].
fn assemble(contents: [&[u8]; 7]) -> Vec<u8> {
    let mut at = size_of::<Header>() + contents.len() * size_of::<Section>();
    let mut table = Vec::with_capacity(contents.len());
    for (tag, content) in SECTIONS.into_iter().zip(contents) {
        at = at.next_multiple_of(if tag == WGHT { WEIGHTS_ALIGN } else { ALIGN });
        table.push(Section {
            tag,
            flags: 0,
            offset: at as u64,
            size: content.len() as u64,
            hash: section_hash(content),
        });
        at += content.len();
    }
    let mut header = Header {
        magic: MAGIC,
        version: VERSION,
        header_size: size_of::<Header>() as u32,
        file_size: at as u64,
        section_count: table.len() as u32,
        section_size: size_of::<Section>() as u32,
        hash: 0,
        reserved: [0; 3],
    };
    header.hash = header_hash(&header, &table);
    let mut file = Vec::with_capacity(at);
    file.extend(bytes_of(&header));
    file.extend(cast_slice::<_, u8>(&table));
    for (section, content) in table.iter().zip(contents) {
        file.resize(section.offset as usize, 0);
        file.extend(content);
    }
    file
}

/// Writes a file through a temporary one beside it and a rename: whoever looks sees the old file or the whole new one.
///
/// # Errors
/// What the system says; the temporary file is gone then.
pub fn write_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".sparrow-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    // A temporary file is private; what replaces it has the mode any new file gets.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).map_or(0o644, |old| old.permissions().mode());
        file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    file.persist(path)?;
    Ok(())
}
