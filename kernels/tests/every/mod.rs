//! How many of the cases are run on an emulated CPU.

/// Of how many cases one is run: on an emulated CPU, which is ten times as slow as this one, what `SPARROW_EVERY` says, else
/// `otherwise`.
pub fn every(otherwise: usize) -> usize {
    std::env::var("SPARROW_EVERY").map_or(otherwise, |every| every.parse().expect("a number"))
}
