//! The one error type of the library: what was wrong, with which file, and what to do about it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Messages are whole phrases without a final period; a path comes last. Cheap to clone, so that a
/// failure keeps its kind on its way from job to job.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The job was asked to stop; nothing is wrong.
    #[error("cancelled")]
    Cancelled,
    /// A file could not be opened or read.
    #[error("cannot read the file: {why}; {}: {path}", remedy(why))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said; part of the message, and so no source to be told once more.
        why: Arc<std::io::Error>,
    },
    /// A file was read, but its content is damaged, unsafe or of the wrong form.
    #[error("{what}; {remedy}: {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What the user can do.
        remedy: String,
    },
    /// The model's architecture has no implementation here.
    #[error("unsupported architecture {name}; supported: {supported}: {path}")]
    Architecture {
        /// The file that says so.
        path: PathBuf,
        /// What `config.json` or the GGUF header calls it.
        name: String,
        /// The architectures that load.
        supported: String,
    },
    /// A weight is missing from the checkpoint or has another shape than the configuration says.
    #[error("weight {name}: {what}; the configuration and the weights are of different models, or one is damaged")]
    Weight {
        /// Name of the tensor in the checkpoint.
        name: String,
        /// What was expected and what came.
        what: String,
    },
    /// An array does not have the shape that is needed.
    #[error("{what}: expected shape {expected}, got {got:?}")]
    Shape {
        /// Which array.
        what: String,
        /// The shape needed, in words or numbers.
        expected: String,
        /// The shape that came.
        got: Vec<usize>,
    },
    /// A value is not usable: outside its range, not finite, empty.
    #[error("{0}")]
    Invalid(String),
    /// The method needs something that this run does not have.
    #[error("{method} needs {need}, which this run does not have; choose another model, input or method")]
    Need {
        /// Method id.
        method: String,
        /// What is missing, in words.
        need: String,
    },
    /// No method, score, view… of that name.
    #[error("no {kind} named {name}; known: {known}")]
    Unknown {
        /// The kind of thing looked up.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The run would need more memory than it may use.
    #[error("this needs about {need_mb} MB and the limit is {limit_mb} MB; {remedy}")]
    Memory {
        /// Estimated need, in MB.
        need_mb: u64,
        /// The limit, in MB.
        limit_mb: u64,
        /// What would make it fit.
        remedy: String,
    },
    /// The graphics device failed, was lost, or refused the work.
    #[error("GPU: {0}; TOKENSCOPE_COMPUTE=cpu computes without it")]
    Gpu(String),
    /// Tensor arithmetic failed; the message comes from candle.
    #[error("tensor: {0}; check that the model and what it is given belong together")]
    Tensor(Arc<candle_core::Error>),
}

impl From<candle_core::Error> for Error {
    fn from(e: candle_core::Error) -> Self {
        Self::Tensor(Arc::new(e))
    }
}

/// What helps where the system could not read a file.
fn remedy(e: &std::io::Error) -> &'static str {
    match e.kind() {
        std::io::ErrorKind::NotFound => "check the path",
        std::io::ErrorKind::PermissionDenied => "allow this user to read it",
        _ => "try again, or copy it once more from where it came",
    }
}

impl Error {
    /// A damaged or unusable file: what is wrong with it and what the user can do.
    pub fn file(path: impl AsRef<Path>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::File { path: path.as_ref().to_path_buf(), what: what.into(), remedy: remedy.into() }
    }

    /// A file that could not be read at all.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_path_buf(), why: Arc::new(source) }
    }

    /// A value that cannot be used.
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid(what.into())
    }

    /// An array of the wrong shape.
    pub fn shape(what: impl Into<String>, expected: impl Into<String>, got: &[usize]) -> Self {
        Self::Shape { what: what.into(), expected: expected.into(), got: got.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_failure_says_what_and_what_to_do() {
        let words = |e: Error, parts: &[&str]| {
            let said = e.to_string();
            parts.iter().for_each(|p| assert!(said.contains(p), "{p:?} is not in {said:?}"));
        };
        let unknown = Error::Unknown { kind: "score", name: "x".into(), known: "a, b".into() };
        words(unknown, &["no score named x", "known: a, b"]);
        let weight = Error::Weight { name: "wte".into(), what: "is missing".into() };
        words(weight, &["wte", "is missing", "of different models"]);
        words(Error::shape("q", "[2, any]", &[3]), &["q", "expected shape [2, any]", "got [3]"]);
        words(Error::Gpu("lost".into()), &["lost", "TOKENSCOPE_COMPUTE=cpu"]);
        words(candle_core::Error::Msg("no".into()).into(), &["no", "check that"]);
        words(Error::Need { method: "m".into(), need: "an image".into() }, &["m needs an image", "choose another"]);
        let memory = Error::Memory { need_mb: 9, limit_mb: 8, remedy: "shorten it".into() };
        words(memory, &["9 MB", "8 MB", "shorten it"]);
        words(Error::file("a.json", "no JSON", "write JSON"), &["no JSON; write JSON: a.json"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_what_helps() {
        let of = |kind: std::io::ErrorKind| Error::io("weights/a.safetensors", kind.into()).to_string();
        for (kind, helps) in [
            (std::io::ErrorKind::NotFound, "check the path"),
            (std::io::ErrorKind::PermissionDenied, "allow this user to read it"),
            (std::io::ErrorKind::UnexpectedEof, "try again"),
        ] {
            let words = of(kind);
            assert!(words.contains(helps) && words.ends_with(": weights/a.safetensors"), "{words}");
        }
    }
}
