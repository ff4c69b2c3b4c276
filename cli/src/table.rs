//! Tables, sizes and times as people read them.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A table with a header; columns from `right` on are aligned to the right.
pub fn table(header: &[&str], right: usize) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.to_vec());
    for column in right..header.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Bytes in the unit people think in.
pub fn bytes(count: usize) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}

/// Milliseconds with three significant digits or so.
pub fn millis(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{ms:.3} ms"),
        ms if ms < 100.0 => format!("{ms:.2} ms"),
        ms => format!("{ms:.0} ms"),
    }
}

/// Dimensions, as `1x3x224x224`.
pub fn shape<T: ToString>(dims: &[T]) -> String {
    match dims {
        [] => "scalar".into(),
        dims => dims.iter().map(T::to_string).collect::<Vec<_>>().join("x"),
    }
}
