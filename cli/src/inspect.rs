//! `sparrow inspect`.

use crate::fail::Outcome;
use crate::table::{bytes, shape, table};
use serde_json::{Value, json};
use sparrow::runtime::{self, Operator, Tensor, format};
use sparrow::{Model, Options, Session};
use sparrow_kernels::{Index, Layout, WeightShape, conv_input};
use std::path::PathBuf;

/// Shows what a Sparrow file holds.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The Sparrow file.
    pub model: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Compare every section with its hash, weights included.
    #[arg(long)]
    pub check: bool,
}

/// A layer with packed weights.
struct Weights {
    name: String,
    layout: Layout,
    shape: WeightShape,
    kept: f64,
    bytes: usize,
    bits: f64,
}

fn weights(model: &runtime::Model, operator: &Operator) -> Option<Weights> {
    let tensor = model.tensor(operator.inputs[conv_input::WEIGHTS]?);
    let [groups, oc, taps, kc] = tensor.dims.iter().map(|&d| d as usize).collect::<Vec<_>>()[..] else { return None };
    if tensor.layout == Layout::Plain {
        return None;
    }
    let shape = WeightShape { groups, oc, taps, kc };
    let metadata = [conv_input::WEIGHTS, conv_input::BIAS, conv_input::SCALE, conv_input::INDEX, conv_input::SLOPES];
    let bytes: usize =
        metadata.iter().filter_map(|&i| operator.inputs[i]).map(|id| model.tensor(id).record.size as usize).sum();
    let (blocks, index_taps, units) = tensor.layout.index_shape(shape)?;
    let kept = operator.inputs[conv_input::INDEX].and_then(|id| {
        let index = Index::view(model.constant_bytes(&model.tensor(id))?, blocks, index_taps)?;
        Some(index.positions.len() as f64 / (blocks * index_taps * units).max(1) as f64)
    });
    let count = (groups * oc * taps * kc).max(1);
    Some(Weights {
        name: operator.name.to_owned(),
        layout: tensor.layout,
        shape,
        kept: kept.unwrap_or(1.0),
        bytes,
        bits: bytes as f64 * 8.0 / count as f64,
    })
}

pub fn run(args: &Args) -> Outcome {
    let model = Model::open(&args.model)?;
    if args.check {
        model.view().verify()?;
    }
    let session = Session::new(&model, &Options::default()).ok();
    if args.json {
        println!("{}", to_json(&model.view(), session));
    } else {
        print(&model.view(), session, args);
    }
    Ok(())
}

fn place(tensor: &Tensor) -> &'static str {
    match tensor.record.place {
        format::IN_ARENA => "arena",
        format::IN_WEIGHTS => "weights",
        _ => "index",
    }
}

fn operators<'a>(model: &runtime::Model<'a>) -> Vec<Operator<'a>> {
    (0..model.operator_count()).filter_map(|i| model.operator(i)).collect()
}

fn tag(tag: &[u8; 4]) -> String {
    String::from_utf8_lossy(tag).into_owned()
}

fn to_json(model: &runtime::Model, session: Option<Session>) -> Value {
    let sections: Vec<_> = model
        .sections()
        .iter()
        .map(|s| json!({ "tag": tag(&s.tag), "offset": s.offset, "size": s.size, "hash": format!("{:016x}", s.hash) }))
        .collect();
    let tensor = |i: u32| {
        let t = model.tensor(i);
        json!({ "name": t.name, "dtype": t.dtype.name(), "layout": t.layout.name(), "dims": t.dims, "place": place(&t), "offset": t.record.offset,
            "size": t.record.size, "scale": t.quantization.map(|q| q.0), "zero": t.quantization.map(|q| q.1) })
    };
    let kernels: Vec<_> = session.map(|mut s| s.op_kernels()).unwrap_or_default();
    let operators: Vec<_> = operators(model)
        .iter()
        .enumerate()
        .map(|(i, o)| {
            let w = weights(model, o).map(|w| json!({ "layout": w.layout.name(), "shape": [w.shape.groups, w.shape.oc, w.shape.taps, w.shape.kc], "kept": w.kept, "bytes": w.bytes, "bits_per_weight": w.bits }));
            json!({ "name": o.name, "op": o.op.name(), "inputs": o.inputs, "outputs": o.outputs, "kernel": kernels.get(i).map(|k| k.name), "weights": w })
        })
        .collect();
    let entry = |i: u32| {
        model.entry(i).map(|e| json!({ "name": e.name, "inputs": e.inputs, "outputs": e.outputs, "operators": [e.ops.0, e.ops.1], "arena_bytes": e.arena_size }))
    };
    json!({ "version": format::VERSION, "file_bytes": model.bytes().len(), "sections": sections, "entries": (0..model.entry_count()).map(entry).collect::<Vec<_>>(),
        "tensors": (0..model.tensor_count()).map(tensor).collect::<Vec<_>>(), "operators": operators })
}

fn print(model: &runtime::Model, session: Option<Session>, args: &Args) {
    println!(
        "{}: format version {}, {}{}",
        args.model.display(),
        format::VERSION,
        bytes(model.bytes().len()),
        if args.check { ", every hash right" } else { "" }
    );
    let mut sections = table(&["section", "offset", "size", "hash"], 1);
    for s in model.sections() {
        sections.add_row([tag(&s.tag), s.offset.to_string(), bytes(s.size as usize), format!("{:016x}", s.hash)]);
    }
    println!("{sections}");
    for entry in (0..model.entry_count()).filter_map(|i| model.entry(i)) {
        println!(
            "entry point '{}': {} operators, arena {}",
            entry.name,
            entry.ops.1 - entry.ops.0,
            bytes(entry.arena_size)
        );
        for (role, ids) in [("input", entry.inputs), ("output", entry.outputs)] {
            for t in ids.iter().map(|&id| model.tensor(id)) {
                println!("  {role:6} {} {} {}", t.name, t.dtype.name(), shape(t.dims));
            }
        }
    }
    print_operators(model, session);
    print_arena(model);
}

fn print_operators(model: &runtime::Model, session: Option<Session>) {
    let kernels: Vec<_> = session.map(|mut s| s.op_kernels()).unwrap_or_default();
    let mut rows = table(&["", "operator", "of", "output", "kernel here", "layout", "kept", "bytes", "bits/weight"], 6);
    let (mut all, mut count) = (0, 0);
    for (i, o) in operators(model).iter().enumerate() {
        let output = o.outputs[0]
            .map(|id| model.tensor(id))
            .map_or(String::new(), |t| format!("{} {}", t.dtype.name(), shape(t.dims)));
        let kernel = kernels.get(i).map_or("none", |k| k.name);
        let w = weights(model, o);
        let cells = w.map_or([String::new(), String::new(), String::new(), String::new()], |w| {
            all += w.bytes;
            count += w.shape.groups * w.shape.oc * w.shape.taps * w.shape.kc;
            debug_assert_eq!(w.name, o.name);
            [w.layout.name().into(), format!("{:.0} %", w.kept * 100.0), bytes(w.bytes), format!("{:.2}", w.bits)]
        });
        let [layout, kept, size, bits] = cells;
        rows.add_row([
            i.to_string(),
            o.op.name().into(),
            o.name.into(),
            output,
            kernel.into(),
            layout,
            kept,
            size,
            bits,
        ]);
    }
    println!("{rows}");
    if count > 0 {
        let file = model.bytes().len() as f64 * 8.0 / count as f64;
        println!(
            "{count} weights: {:.2} bits each with index, scales and bias, {file:.2} with the whole file",
            all as f64 * 8.0 / count as f64
        );
    }
}

/// Which bytes of the arena are in use at each operator: a row an operator, a column a part of the arena.
fn print_arena(model: &runtime::Model) {
    const COLUMNS: usize = 64;
    let Some(entry) = model.entry(0) else { return };
    let ops = operators(model);
    let mut lives: Vec<Option<(usize, usize)>> = vec![None; model.tensor_count() as usize];
    let mut touch = |id: u32, at: usize| {
        let life = lives[id as usize].get_or_insert((at, at));
        *life = (life.0.min(at), life.1.max(at));
    };
    entry.inputs.iter().for_each(|&id| touch(id, 0));
    for (at, op) in ops.iter().enumerate() {
        op.inputs.iter().chain(&op.outputs).flatten().for_each(|&id| touch(id, at));
    }
    entry.outputs.iter().for_each(|&id| touch(id, ops.len().saturating_sub(1)));
    println!(
        "arena, {} a column ('#' read, 'O' written, '.' kept for later):",
        bytes(entry.arena_size.div_ceil(COLUMNS))
    );
    for (at, op) in ops.iter().enumerate() {
        let mut line = [b' '; COLUMNS];
        for (id, life) in lives.iter().enumerate() {
            let tensor = model.tensor(id as u32);
            let live = life.is_some_and(|(first, last)| first <= at && at <= last);
            if live && tensor.record.place == format::IN_ARENA && tensor.record.size > 0 {
                let (from, to) = (tensor.record.offset as usize, (tensor.record.offset + tensor.record.size) as usize);
                let written = op.outputs.contains(&Some(id as u32));
                let read = op.inputs.contains(&Some(id as u32));
                let mark = if written {
                    b'O'
                } else if read {
                    b'#'
                } else {
                    b'.'
                };
                let column = |byte: usize| byte * COLUMNS / entry.arena_size.max(1);
                line[column(from)..=column(to - 1).min(COLUMNS - 1)].fill(mark);
            }
        }
        println!("  {at:4} |{}| {}", String::from_utf8_lossy(&line), op.name);
    }
}
