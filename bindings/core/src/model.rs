//! A model: a mapped file or bytes in memory, validated once.

use crate::{AlignedBytes, Error, TensorInfo};
use self_cell::self_cell;
use sparrow_runtime as runtime;
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;
use std::sync::Arc;

/// Where the file's bytes are.
#[derive(Debug)]
enum Storage {
    Bytes(AlignedBytes),
    #[cfg(not(target_arch = "wasm32"))]
    Mapped(memmap2::Mmap),
}

impl Storage {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.as_slice(),
            #[cfg(not(target_arch = "wasm32"))]
            Self::Mapped(map) => map,
        }
    }
}

type View<'a> = runtime::Model<'a>;

self_cell!(
    struct Opened {
        owner: Storage,
        #[covariant]
        dependent: View,
    }
    impl {Debug}
);

/// An entry point of a model: what a session runs. Entry points share their weights.
#[derive(Clone, PartialEq, Debug)]
pub struct EntryInfo {
    /// Its name.
    pub name: String,
    /// What is written before a run.
    pub inputs: Vec<TensorInfo>,
    /// What is read after it.
    pub outputs: Vec<TensorInfo>,
    /// Bytes of arena a session of it needs.
    pub arena_size: usize,
}

/// A validated model. Cloning shares it; it may be used from any thread.
#[derive(Clone, Debug)]
pub struct Model(Arc<Opened>);

impl Model {
    /// Maps and validates a file. No weight is read: pages come in when a run first touches them.
    ///
    /// The file must not be changed in place while the model is open (`sparrow convert` never does: it writes a new file
    /// and renames it).
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::File`] with what is wrong with the file.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let io = |source| Error::Io { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(io(std::io::Error::other("not a file")));
        }
        // SAFETY: the mapping is private and read-only. That nobody changes the file in place meanwhile is the
        // documented condition of this function, as of every mapped file.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(io)?;
        Self::from_storage(Storage::Mapped(map)).map_err(|source| Error::File { path: path.to_owned(), source })
    }

    /// Validates a model held in memory; the bytes are copied, to where they are aligned.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::from_aligned(AlignedBytes::copy_of(bytes))
    }

    /// Validates a model held in memory, without a copy.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn from_aligned(bytes: AlignedBytes) -> Result<Self, Error> {
        Ok(Self::from_storage(Storage::Bytes(bytes))?)
    }

    fn from_storage(storage: Storage) -> Result<Self, runtime::Error> {
        Ok(Self(Arc::new(Opened::try_new(storage, |storage| runtime::Model::open(storage.bytes()))?)))
    }

    /// The entry points. [`Options::entry`](crate::Options) is a position in this list.
    pub fn entries(&self) -> Vec<EntryInfo> {
        let view = self.view();
        let tensors = |ids: &[u32]| ids.iter().map(|&id| TensorInfo::of(&view.tensor(id))).collect();
        let info = |entry: runtime::Entry| EntryInfo {
            name: entry.name.to_owned(),
            inputs: tensors(entry.inputs),
            outputs: tensors(entry.outputs),
            arena_size: entry.arena_size,
        };
        (0..view.entry_count()).filter_map(|index| view.entry(index)).map(info).collect()
    }

    /// Compares the hash of every section, weights included. Opening a model does not, since that reads the whole file.
    ///
    /// # Errors
    /// [`runtime::Error::Hash`] with the first section that has been altered.
    pub fn verify(&self) -> Result<(), Error> {
        Ok(self.view().verify()?)
    }

    /// The runtime's view of it: tensors, operators, entry points, sections.
    pub fn view(&self) -> runtime::Model<'_> {
        *self.0.borrow_dependent()
    }
}
