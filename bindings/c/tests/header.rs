//! The committed headers are what cbindgen makes of the sources.

use std::path::Path;

/// Set to write the headers anew.
const WRITE: &str = "SPARROW_WRITE_HEADERS";

fn check(folder: &str, sources: &[&str], header: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).expect("cbindgen.toml is valid");
    let builder = sources.iter().fold(cbindgen::Builder::new().with_config(config), |b, s| b.with_src(folder.join(s)));
    let mut made = Vec::new();
    builder.generate().expect("the sources can be read").write(&mut made);
    let path = folder.join(header);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &made).expect("the header can be written");
    }
    let committed = std::fs::read(&path).unwrap_or_default();
    assert!(committed == made, "{header} is not what the sources say: {WRITE}=1 cargo test -p sparrow-c --test header");
}

#[test]
fn the_header_is_up_to_date() {
    check(".", &["src/error.rs", "src/model.rs", "src/session.rs"], "include/sparrow.h");
}

#[test]
fn the_bare_header_is_up_to_date() {
    check("bare", &["src/lib.rs"], "../include/sparrow_bare.h");
}
