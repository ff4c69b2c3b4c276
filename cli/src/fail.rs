//! What a command ends with when it fails: a sentence for the user.

use std::fmt::Display;
use std::path::Path;

/// A message that names the file, what is wrong and, where there is one, the remedy.
#[derive(Debug)]
pub struct Failure(pub String);

/// A command's result.
pub type Outcome<T = ()> = Result<T, Failure>;

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Fails with a message.
pub fn fail<T>(message: impl Into<String>) -> Outcome<T> {
    Err(Failure(message.into()))
}

/// Puts a file's name before an error.
pub fn at<E: Display>(path: &Path) -> impl Fn(E) -> Failure {
    move |error| Failure(format!("{}: {error}", path.display()))
}
