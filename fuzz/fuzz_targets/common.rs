//! What the targets share: aligned bytes, and hashes made right, so that the fuzzer meets validation and not only hashes.

use sparrow_runtime::format::{Header, Section};
use sparrow_runtime::{header_hash, section_hash};

/// Bytes at a multiple of 64.
pub struct Aligned {
    storage: Vec<u8>,
    at: usize,
    len: usize,
}

impl Aligned {
    pub fn new(bytes: &[u8]) -> Self {
        let storage = vec![0; bytes.len() + 64];
        let at = storage.as_ptr().align_offset(64);
        let mut aligned = Self { storage, at, len: bytes.len() };
        aligned.bytes().copy_from_slice(bytes);
        aligned
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.storage[self.at..self.at + self.len]
    }
}

/// Makes magic, size and every hash right.
pub fn mend(file: &mut [u8]) {
    let size = file.len() as u64;
    let Some(head) = file.get(..64) else { return };
    let mut header: Header = bytemuck::pod_read_unaligned(head);
    header.magic = sparrow_runtime::format::MAGIC;
    header.version = sparrow_runtime::format::VERSION;
    header.file_size = size;
    let count = (header.section_count as usize).min(64);
    let Some(table) = file.get(64..64 + count * size_of::<Section>()) else { return };
    let mut table: Vec<Section> = table.chunks_exact(size_of::<Section>()).map(bytemuck::pod_read_unaligned).collect();
    for section in &mut table {
        let end = section.offset.saturating_add(section.size);
        if let Some(content) = usize::try_from(end).ok().and_then(|end| file.get(section.offset as usize..end)) {
            section.hash = section_hash(content);
        }
    }
    header.hash = header_hash(&header, &table);
    file[..64].copy_from_slice(bytemuck::bytes_of(&header));
    file[64..64 + count * size_of::<Section>()].copy_from_slice(bytemuck::cast_slice(&table));
}
