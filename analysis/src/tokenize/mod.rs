//! Tokenizers of models: `tokenizer.json`, vocabularies in GGUF files and those of tiktoken, with exact byte offsets.

pub mod bpe;
mod byte_level;
mod encodings;
mod gguf;
mod hf;
mod spelling;
mod tiktoken;

pub(crate) use encodings::ADAPTER as ENCODINGS;
pub use encodings::{Encodings, Lattice};
pub use spelling::MAX_SPELLING;
pub use tiktoken::NAMES as TIKTOKEN_NAMES;

use crate::ctx::Ctx;
use crate::{Error, Result};
use bpe::Step;
use std::path::Path;

/// A text as tokens; all lists are equally long.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Encoding {
    /// Vocabulary ids.
    pub ids: Vec<u32>,
    /// The vocabulary's own spelling.
    pub tokens: Vec<String>,
    /// Bytes `start..end` of the text that the token covers; for the second text of a pair, of that text.
    pub offsets_byte: Vec<(usize, usize)>,
    /// True for tokens that the tokenizer added.
    pub special_mask: Vec<bool>,
    /// Segment ids (0, or 1 for the second text).
    pub type_ids: Vec<u32>,
}

enum Backend {
    Hf(Box<hf::Hf>),
    Tiktoken(Box<tiktoken::Tiktoken>),
}

/// A loaded tokenizer.
pub struct Tokenizer {
    name: String,
    backend: Backend,
}

impl Tokenizer {
    /// Loads a `tokenizer.json`, the one in a model folder, or the vocabulary in a GGUF file. Errors name the
    /// file and what is wrong.
    pub fn load(path: &Path) -> Result<Self> {
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) && !path.is_dir() {
            let (name, header) = crate::weights::read_gguf(path)?;
            return Ok(Self { name, backend: Backend::Hf(Box::new(hf::Hf::new(gguf::load(path, &header)?))) });
        }
        let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_path_buf() };
        let stem = file.parent().and_then(Path::file_name).unwrap_or(file.as_os_str());
        Ok(Self {
            name: stem.to_string_lossy().into_owned(),
            backend: Backend::Hf(Box::new(hf::Hf::new(hf::load(&file)?))),
        })
    }

    /// A tokenizer that is part of the program: one of [`TIKTOKEN_NAMES`].
    pub fn named(name: &str) -> Result<Self> {
        Ok(Self { name: name.to_string(), backend: Backend::Tiktoken(Box::new(tiktoken::Tiktoken::named(name)?)) })
    }

    /// Folder name or name of the vocabulary, for titles.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Cuts `text` (and `pair`, for tokenizers that join two texts). With `special`, adds what the tokenizer
    /// puts around a text.
    pub fn encode(&self, text: &str, pair: Option<&str>, special: bool) -> Result<Encoding> {
        self.encode_in(text, pair, special, &Ctx::default())
    }

    /// [`Tokenizer::encode`] that looks at the job's cancel flag on its way, for long texts.
    pub fn encode_in(&self, text: &str, pair: Option<&str>, special: bool, ctx: &Ctx) -> Result<Encoding> {
        match &self.backend {
            Backend::Hf(t) => t.encode(text, pair, special, ctx),
            Backend::Tiktoken(t) if pair.is_none() => t.encode(text, ctx),
            Backend::Tiktoken(_) => Err(Error::invalid(format!("{} cannot join two texts", self.name))),
        }
    }

    /// Text of `ids`; invalid UTF-8 becomes U+FFFD.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        match &self.backend {
            Backend::Hf(t) => t
                .decode(ids, skip_special)
                .map_err(|e| Error::invalid(format!("cannot decode with {}: {e}", self.name))),
            Backend::Tiktoken(t) => Ok(t.decode(ids)),
        }
    }

    /// The vocabulary's spelling of `id`.
    pub fn token(&self, id: u32) -> Option<String> {
        match &self.backend {
            Backend::Hf(t) => t.inner.id_to_token(id),
            Backend::Tiktoken(t) => t.token(id),
        }
    }

    /// What `id` prints as, standing alone: byte-level and SentencePiece spellings are undone.
    pub fn token_text(&self, id: u32) -> String {
        let Some(raw) = self.token(id) else { return format!("<{id}>") };
        match self.decode(&[id], false) {
            // SentencePiece decoders strip a leading space; the spelling still has it.
            Ok(s) if !s.contains('\u{fffd}') && !s.is_empty() => {
                if raw.starts_with('▁') && !s.starts_with(' ') {
                    format!(" {s}")
                } else {
                    s
                }
            }
            _ => raw,
        }
    }

    /// The merges that make the token `id` of single characters or bytes, in order; `None` for vocabularies that
    /// are not of byte-pair kind.
    pub fn merges(&self, id: u32) -> Option<Vec<Step>> {
        match &self.backend {
            Backend::Hf(t) => hf::merges(&t.inner, &t.inner.id_to_token(id)?),
            Backend::Tiktoken(t) => Some(t.merges(id)),
        }
    }

    /// Id of a spelling.
    pub fn id(&self, token: &str) -> Option<u32> {
        match &self.backend {
            Backend::Hf(t) => t.inner.token_to_id(token),
            Backend::Tiktoken(_) => None,
        }
    }

    /// Number of ids, added tokens included.
    pub fn vocab_size(&self) -> usize {
        match &self.backend {
            Backend::Hf(t) => t.inner.get_vocab_size(true),
            Backend::Tiktoken(t) => t.vocab_size(),
        }
    }
}
