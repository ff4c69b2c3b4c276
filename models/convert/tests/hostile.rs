//! Damaged and hostile files: an error or a run that stays inside its memory, never a panic or worse.
//!
//! Every test mutates real files, once as they are (hashes catch the damage: an error, or the same result where nothing
//! that counts was hit) and once with the hashes made right again, as an attacker would, so that validation itself is what
//! stands between the file and the kernels. `cargo xtask test hostile` runs this under AddressSanitizer.

mod common;
#[path = "common/rehash.rs"]
mod rehash;

use common::networks;
use rehash::rehash;
use sparrow_kernels::Kernels;
use sparrow_runtime::format::{Header, Section, WGHT};
use sparrow_runtime::{AlignedBytes, Error, Model, Session};
use std::ops::ControlFlow;

/// More arena than any file here needs: a file that asks for more is turned away by whoever brings the memory.
const MOST_ARENA: usize = 8 << 20;
/// Operators run per mutated file: enough for every one of the small networks.
const MOST_OPS: usize = 200;

/// Opens a file and, if it is valid, runs it on constant input. The first output's bytes, or the error.
fn open_and_run(file: &[u8]) -> Result<Vec<u8>, Error> {
    let file = AlignedBytes::copy_of(file);
    let model = Model::open(file.as_slice())?;
    let Some(entry) = model.entry(0) else { return Ok(Vec::new()) };
    if entry.arena_size > MOST_ARENA {
        return Ok(Vec::new());
    }
    let kernels = Kernels::scalar();
    let mut arena = AlignedBytes::zeroed(entry.arena_size);
    let mut session = Session::new(model, 0, &kernels, arena.as_mut_slice())?;
    for i in 0..entry.inputs.len() {
        session.input_mut(i).fill(0x3d);
    }
    let mut ops = 0;
    session.run_with(&sparrow_runtime::OneThread, &mut |_, _| {
        ops += 1;
        if ops > 2 * MOST_OPS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(session.output(0).to_vec())
}

/// Where the weights begin: everything before is header and tables.
fn tables_end(file: &[u8]) -> usize {
    let header: Header = bytemuck::pod_read_unaligned(&file[..64]);
    let table = &file[64..64 + header.section_count as usize * size_of::<Section>()];
    let sections = table.chunks_exact(size_of::<Section>()).map(bytemuck::pod_read_unaligned::<Section>);
    sections.filter(|s| s.tag != WGHT).map(|s| (s.offset + s.size) as usize).max().expect("has sections")
}

#[test]
fn a_network_converts_to_a_file_that_runs() {
    for (name, file) in networks() {
        let output = open_and_run(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(output.iter().any(|&b| b != 0), "{name}: an output of zeros shows nothing");
    }
}

#[test]
fn every_truncation_is_refused() {
    for (name, file) in networks() {
        for len in (0..tables_end(&file)).chain((tables_end(&file)..file.len()).step_by(97)) {
            assert!(open_and_run(&file[..len]).is_err(), "{name} cut to {len} bytes");
            let mut cut = file[..len].to_vec();
            if len >= 64 {
                // The attacker's version: the header says the file is that short.
                let mut header: Header = bytemuck::pod_read_unaligned(&cut[..64]);
                header.file_size = len as u64;
                cut[..64].copy_from_slice(bytemuck::bytes_of(&header));
            }
            rehash(&mut cut);
            assert!(open_and_run(&cut).is_err(), "{name} cut to {len} bytes, hashes mended");
        }
    }
}

#[test]
fn every_flipped_bit_of_the_tables_is_an_error_or_changes_nothing() {
    let (name, file) = networks().swap_remove(4);
    let expected = open_and_run(&file).expect("runs");
    for bit in 0..tables_end(&file) * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // Opening alone tells: a flip that hashes do not see lies between sections.
        if let Ok(output) = open_and_run_if_opened(&flipped) {
            assert_eq!(output, expected, "{name}: bit {bit}");
        }
    }
}

fn open_and_run_if_opened(file: &[u8]) -> Result<Vec<u8>, Error> {
    Model::open(AlignedBytes::copy_of(file).as_slice()).map(drop)?;
    open_and_run(file)
}

#[test]
fn every_flipped_bit_of_the_tables_with_mended_hashes_stays_inside_its_memory() {
    let (_, file) = networks().swap_remove(4);
    let mut opened = 0;
    for bit in 0..tables_end(&file) * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        rehash(&mut flipped);
        opened += usize::from(open_and_run_if_opened(&flipped).is_ok());
    }
    assert!(opened > 0, "some flips (of a name, of a bound) leave a valid file: the others were refused one by one");
}

#[test]
fn ten_thousand_mutations_stay_inside_their_memory() {
    let files = networks();
    let outputs: Vec<_> = files.iter().map(|(_, file)| open_and_run(file).expect("runs")).collect();
    let mut random = Random(7);
    for round in 0..10_000 {
        let which = random.below(files.len());
        let (name, file) = &files[which];
        let mut mutated = file.clone();
        let tables = tables_end(file);
        for _ in 0..1 + random.below(4) {
            mutate(&mut mutated, tables, &mut random);
        }
        if round % 2 == 0 {
            rehash(&mut mutated);
            let _ = open_and_run_if_opened(&mutated);
        } else if Model::open(AlignedBytes::copy_of(&mutated).as_slice()).is_ok_and(|m| m.verify().is_ok()) {
            assert_eq!(open_and_run(&mutated).as_ref(), Ok(&outputs[which]), "{name}, round {round}");
        } else {
            let _ = open_and_run(&mutated);
        }
    }
}

/// Changes a byte, a word or a run, mostly in the tables.
fn mutate(file: &mut [u8], tables: usize, random: &mut Random) {
    let limit = if random.below(8) == 0 { file.len() } else { tables };
    let at = random.below(limit);
    match random.below(6) {
        0 => file[at] ^= 1 << random.below(8),
        1 => file[at] = random.below(256) as u8,
        2 | 3 => {
            let interesting = [
                0,
                1,
                2,
                16,
                63,
                64,
                127,
                128,
                255,
                256,
                65_535,
                1 << 20,
                1 << 31,
                u32::MAX,
                u32::MAX - 1,
                random.below(1 << 16) as u32,
            ];
            let at = at / 4 * 4;
            let value = interesting[random.below(interesting.len())];
            if let Some(word) = file.get_mut(at..at + 4) {
                word.copy_from_slice(&value.to_le_bytes());
            }
        }
        4 => {
            // A neighbour's word: plausible, and wrong.
            let (from, to) = (random.below(limit) / 4 * 4, at / 4 * 4);
            if from.max(to) + 4 <= file.len() {
                file.copy_within(from..from + 4, to);
            }
        }
        _ => {
            let end = (at + random.below(32)).min(file.len());
            file[at..end].fill(random.below(256) as u8);
        }
    }
}

/// A small generator, the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit.max(1)
    }
}
