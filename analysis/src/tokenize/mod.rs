//! Tokenizers of models: `tokenizer.json`, the files that stand beside or instead of it, vocabularies in GGUF files and
//! those of tiktoken, with exact byte offsets.

mod apply;
pub mod bpe;
mod byte_level;
mod bytes;
mod encoding;
mod encodings;
mod folder;
mod gguf;
mod gguf_words;
mod hf;
mod parts;
mod recipe;
mod same;
mod sentence_piece;
mod spelling;
mod tiktoken;

pub use encoding::{Encoding, Spellings};
pub(crate) use encodings::ADAPTER as ENCODINGS;
pub use encodings::{Encodings, Lattice};
pub use same::Shared;
pub use spelling::MAX_SPELLING;
pub use tiktoken::NAMES as TIKTOKEN_NAMES;

use crate::ctx::Ctx;
use crate::weights::gguf::{Header, Meta};
use crate::{Error, Result};
use bpe::Step;
use folder::{Beside, Source};
use std::path::Path;
use std::sync::{Mutex, OnceLock};

enum Backend {
    Hf(Box<hf::Hf>),
    Tiktoken(Box<tiktoken::Tiktoken>),
}

/// A loaded tokenizer.
pub struct Tokenizer {
    name: String,
    backend: Backend,
    notes: Vec<String>,
    padding: Option<(usize, u32)>,
    /// Whether what fills a text up stands before it.
    pads_before: bool,
    /// What tells this vocabulary from others, and what it had in common with some of them.
    print: OnceLock<u64>,
    compared: Mutex<Vec<(u64, Shared)>>,
}

impl Tokenizer {
    fn new(name: String, backend: Backend, notes: Vec<String>) -> Self {
        Self {
            name,
            backend,
            notes,
            padding: None,
            pads_before: false,
            print: OnceLock::new(),
            compared: Mutex::default(),
        }
    }

    /// Loads the tokenizer at `path`: a model folder or an entry of the Hugging Face cache, with what lies there
    /// (`tokenizer.json`, `vocab.json` with `merges.txt`, `vocab.txt`, a SentencePiece model) and what
    /// `tokenizer_config.json` says of it; one of these files itself, a `tokenizer.json` then as it stands; or the
    /// vocabulary in a GGUF file.
    ///
    /// Errors name the file and what is wrong.
    pub fn load(path: &Path) -> Result<Self> {
        let (source, dir) = folder::find(path)?;
        Self::read(path, &source, dir.as_deref())
    }

    /// Whether what fills a text up stands before it.
    pub fn pads_before(&self) -> bool {
        self.pads_before
    }

    /// The longest text in tokens and the id of the padding that `tokenizer_config.json` names, where it names both.
    pub fn padding(&self) -> Option<(usize, u32)> {
        self.padding
    }

    /// The tokenizer in a model's folder; `None` where there is none.
    pub fn beside(dir: &Path) -> Result<Option<Self>> {
        folder::inside(dir).map(|source| Self::read(dir, &source, Some(dir))).transpose()
    }

    /// The `tokenizer.json` beside a GGUF file whose own vocabulary cannot be cut with for sure, where it has the same
    /// tokens.
    fn instead(file: &Path, header: &Header) -> Option<Self> {
        let json = file.with_file_name("tokenizer.json");
        let mut t = Self::read(&json, &Source::Json(json.clone()), json.parent()).ok()?;
        let own = header.meta.get("tokenizer.ggml.tokens").and_then(Meta::list)?;
        // Files fill up to the rows of their embedding.
        let same = |i: usize| t.token(i as u32).is_none_or(|word| own[i].text() == Some(word.as_str()));
        let n = t.vocab_size().min(own.len());
        if n == 0 || !(0..n).step_by((n / 256).max(1)).all(same) {
            return None;
        }
        t.notes
            .push("tokenizer.json beside the GGUF file cuts the text: the file's own way to cut is not known".into());
        Some(t)
    }

    fn read(path: &Path, source: &Source, dir: Option<&Path>) -> Result<Self> {
        let mut notes = Vec::new();
        let of = |t, notes| Self::new(title(path), Backend::Hf(Box::new(hf::Hf::new(t))), notes);
        if let Source::Gguf(file) = source {
            let (name, header) = crate::weights::read_gguf(file)?;
            let own = gguf::load(file, &header, &mut notes);
            if (own.is_err() || !notes.is_empty())
                && let Some(other) = Self::instead(file, &header)
            {
                return Ok(Self { name, ..other });
            }
            return Ok(Self { name, ..of(own?, notes) });
        }
        let beside = dir.map(Beside::read).transpose()?.unwrap_or_default();
        let (file, mut t, built) = match source {
            Source::Json(file) => {
                let t = hf::from_bytes(&hf::bytes(file)?).map_err(|what| hf::refused(file, what))?;
                (file, t, false)
            }
            Source::Merges(file, _) | Source::Words(file) | Source::Pieces(file) | Source::Gguf(file) => {
                let json = folder::build(source, &beside)?.to_string();
                let failed = |what| Error::file(file, what, "get the model's tokenizer.json");
                (file, hf::from_bytes(json.as_bytes()).map_err(failed)?, true)
            }
        };
        if !built && let Some(changes) = apply::changes(&t, &beside) {
            // Words that are found in normalised texts hang on the normalizer, so all is read again.
            let mut json: serde_json::Value =
                serde_json::from_slice(&hf::bytes(file)?).map_err(|e| hf::refused(file, e.to_string()))?;
            for (part, value) in changes {
                json[part] = value;
            }
            t = hf::from_bytes(json.to_string().as_bytes()).map_err(|what| hf::refused(file, what))?;
        }
        if built {
            apply::silence(source, &beside, &mut notes);
        }
        apply::add_tokens(&mut t, &beside, &mut notes)
            .map_err(|why| Error::file(file, format!("cannot add tokens: {why}"), "check tokenizer_config.json"))?;
        if beside.flag("split_special_tokens") == Some(true) {
            t.set_encode_special_tokens(true);
        }
        if !built {
            apply::contradictions(&t, &beside, &mut notes);
        }
        let padding = beside.padding().and_then(|(to, token)| Some((to, t.token_to_id(&token)?)));
        Ok(Self { padding, pads_before: beside.pads_before(), ..of(t, notes) })
    }

    /// A tokenizer that is part of the program: one of [`TIKTOKEN_NAMES`].
    pub fn named(name: &str) -> Result<Self> {
        let backend = Backend::Tiktoken(Box::new(tiktoken::Tiktoken::named(name)?));
        Ok(Self::new(name.to_string(), backend, Vec::new()))
    }

    /// What was decided where the files of the tokenizer disagree or are silent, in whole phrases.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Folder name or name of the vocabulary, for titles.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same under another name.
    pub fn called(self, name: &str) -> Self {
        Self { name: name.to_string(), ..self }
    }

    /// Cuts `text` (and `pair`, for tokenizers that join two texts). With `special`, adds what the tokenizer
    /// puts around a text.
    pub fn encode(&self, text: &str, pair: Option<&str>, special: bool) -> Result<Encoding> {
        self.encode_in(text, pair, special, &Ctx::default())
    }

    /// [`Tokenizer::encode`] that looks at the job's cancel flag on its way, for long texts.
    pub fn encode_in(&self, text: &str, pair: Option<&str>, special: bool, ctx: &Ctx) -> Result<Encoding> {
        match (pair, &self.backend) {
            (None, _) => Encoding::of_parts(|each| self.encode_each(text, special, ctx, each)),
            (Some(pair), Backend::Hf(t)) => t.encode_pair(text, pair, special, ctx),
            (Some(_), Backend::Tiktoken(_)) => Err(Error::invalid(format!("{} cannot join two texts", self.name))),
        }
    }

    /// Cuts `text` as [`Tokenizer::encode_in`] does and hands its tokens over in order, some at a time: what holds none
    /// of them for long needs memory for a part of the text only. A few tokenizers have to see all of it at once.
    pub fn encode_each(
        &self,
        text: &str,
        special: bool,
        ctx: &Ctx,
        each: &mut dyn FnMut(Encoding) -> Result<()>,
    ) -> Result<()> {
        match &self.backend {
            Backend::Hf(t) => t.encode_each(text, special, ctx, each),
            Backend::Tiktoken(t) => t.encode_each(text, ctx, each),
        }
    }

    /// The text that `ids` add behind `before`. A decoder may treat the first token of a text otherwise than the same
    /// token in its middle.
    pub fn decode_after(&self, before: &[u32], ids: &[u32]) -> Result<String> {
        let (all, start) = (self.decode(&[before, ids].concat(), false)?, self.decode(before, false)?);
        match all.strip_prefix(&start) {
            Some(rest) if !before.is_empty() => Ok(rest.to_string()),
            _ => self.decode(ids, false),
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

/// Name of the folder that a tokenizer lies in, or of the file.
fn title(path: &Path) -> String {
    let dir = if path.is_dir() { Some(path) } else { path.parent() };
    dir.and_then(Path::file_name).unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
