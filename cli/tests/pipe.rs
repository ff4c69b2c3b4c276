//! What the program does when the reader of its output goes away.
#![cfg(unix)]

use std::process::{Command, Stdio};

#[test]
fn a_closed_pipe_ends_the_program_without_a_panic() {
    let program = env!("CARGO_BIN_EXE_sparrow");
    let mut child = Command::new(program).arg("demo").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked"), "{errors}");
    assert_eq!(output.status.code(), Some(141), "{errors}");
}
