//! Two processes that open the same file share its pages.
#![cfg(target_os = "linux")]

mod common;

use sparrow::{Model, Options, Session};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

const CHILD: &str = "SPARROW_SHARED_PAGES_OF";

/// Opens and runs the file, so that its pages are in this process.
fn use_file(path: &Path) -> Session {
    let mut session = Session::new(&Model::open(path).unwrap(), &Options::default()).unwrap();
    session.run().unwrap();
    session
}

/// What the system says of this process's mapping of the file, in kB.
fn mapping(path: &Path) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let lines = text.lines().skip_while(|line| !line.ends_with(path.to_str().unwrap())).skip(1);
    let fields = lines.map_while(|line| {
        let (name, rest) = line.split_once(':')?;
        Some((name.to_owned(), rest.trim().strip_suffix(" kB")?.parse().ok()?))
    });
    fields.collect()
}

#[test]
fn two_processes_share_the_pages_of_a_file() {
    if let Some(path) = std::env::var_os(CHILD) {
        let _session = use_file(Path::new(&path));
        println!("\nready");
        // Until the other process has looked.
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    let (_folder, path) = common::stored();
    let _session = use_file(&path);
    let alone = mapping(&path);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--nocapture", "two_processes_share_the_pages_of_a_file"])
        .env(CHILD, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"));
    let both = mapping(&path);
    drop(child.stdin.take());
    // What the child prints last must have somewhere to go.
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    println!("alone {alone:?}\nboth  {both:?}");
    let rss = both["Rss"];
    assert!(rss >= 100, "the weights are in memory: {both:?}");
    assert_eq!(both["Anonymous"], 0, "nobody has a copy of a page");
    // A page that the disk has not yet got counts as dirty; it is shared all the same.
    let shared = both["Shared_Clean"] + both["Shared_Dirty"];
    assert!(shared * 10 >= rss * 9, "nine tenths are shared: {both:?}");
    assert!(both["Pss"] * 10 <= alone["Pss"] * 6, "each process is charged half: {alone:?}, {both:?}");
}
