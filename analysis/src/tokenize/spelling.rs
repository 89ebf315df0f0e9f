//! What tokens spell, in the alphabet of their vocabulary, and which tokens spell a given part of it.

use super::{Backend, Encodings, Lattice, Tokenizer};
use tokenizers::{Model as _, ModelWrapper};

/// Longest spelling whose encodings are counted, in bytes.
pub const MAX_SPELLING: usize = 96;

/// SentencePiece's letter for a space; its bytes, one by one, would be that letter and no space.
const SPACE: &[u8] = "▁".as_bytes();

/// How a vocabulary marks where in a word its pieces stand.
#[derive(Default)]
struct Marks {
    /// Before pieces that go on in a word: `##` of WordPiece.
    continuing: String,
    /// After the last piece of a word: `</w>` of CLIP.
    ending: String,
    /// Whether bytes without a piece of their own are spelled `<0x0A>`.
    bytes: bool,
}

impl Marks {
    fn of(model: &ModelWrapper) -> Self {
        match model {
            ModelWrapper::BPE(b) => Self {
                continuing: b.continuing_subword_prefix.clone().unwrap_or_default(),
                ending: b.end_of_word_suffix.clone().unwrap_or_default(),
                bytes: b.byte_fallback,
            },
            ModelWrapper::WordPiece(w) => Self { continuing: w.continuing_subword_prefix.clone(), ..Self::default() },
            ModelWrapper::Unigram(u) => Self { bytes: u.byte_fallback(), ..Self::default() },
            ModelWrapper::WordLevel(_) => Self::default(),
        }
    }
}

/// The byte that `<0x0A>` stands for.
fn fallback_byte(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() == 2 { u8::from_str_radix(hex, 16).ok() } else { None }
}

impl Tokenizer {
    /// What pieces begin with that go on in a word; empty where the vocabulary does not mark them.
    pub fn continuing(&self) -> String {
        match &self.backend {
            Backend::Tiktoken(_) => String::new(),
            Backend::Hf(t) => Marks::of(t.inner.get_model()).continuing,
        }
    }

    /// Every encoding that spells what `ids` spell one after the other, the shortest `keep` of them by their ids.
    /// `None` where there is nothing to compare: special or unknown tokens, several words of a vocabulary that marks
    /// where pieces go on, or a spelling over [`MAX_SPELLING`].
    pub fn encodings(&self, ids: &[u32], keep: usize) -> Option<Encodings> {
        match &self.backend {
            Backend::Tiktoken(t) => {
                let word = ids.iter().map(|id| t.bytes(*id)).collect::<Option<Vec<_>>>()?.concat();
                let fits = !word.is_empty() && word.len() <= MAX_SPELLING;
                let find = |start: usize, end: usize, out: &mut Vec<u32>| out.extend(t.id(&word[start..end]));
                fits.then(|| Encodings::of(&Lattice::new(word.len(), find), keep))
            }
            Backend::Hf(t) => {
                let model = t.inner.get_model();
                let marks = Marks::of(model);
                let (word, continued) = spelled(model, &marks, ids)?;
                let find = |start: usize, end: usize, out: &mut Vec<u32>| {
                    let part = &word[start..end];
                    // Where a character is cut there is no piece, but for single bytes.
                    if let Ok(text) = std::str::from_utf8(part) {
                        let goes_on = start > 0 || continued;
                        let inside = |at: usize| at < word.len() && at + marks.ending.len() > word.len();
                        let whole = marks.ending.is_empty() || !word.ends_with(marks.ending.as_bytes());
                        if whole || !(inside(start) || inside(end)) {
                            let mark = if goes_on { marks.continuing.as_str() } else { "" };
                            out.extend(model.token_to_id(&format!("{mark}{text}")));
                        }
                    }
                    let space = |at: usize| word[at..].starts_with(SPACE);
                    let in_space = (start.saturating_sub(SPACE.len() - 1)..=start).any(space);
                    if let (true, false, [byte]) = (marks.bytes, in_space, part) {
                        out.extend(model.token_to_id(&format!("<0x{byte:02X}>")));
                    }
                };
                let fits = !word.is_empty() && word.len() <= MAX_SPELLING;
                fits.then(|| Encodings::of(&Lattice::new(word.len(), find), keep))
            }
        }
    }
}

/// What `ids` spell together, and whether the first of them goes on in a word.
fn spelled(model: &ModelWrapper, marks: &Marks, ids: &[u32]) -> Option<(Vec<u8>, bool)> {
    let (mut word, mut continued) = (Vec::new(), false);
    let unknown = match model {
        ModelWrapper::BPE(b) => b.unk_token.clone(),
        ModelWrapper::WordPiece(w) => Some(w.unk_token.clone()),
        ModelWrapper::WordLevel(w) => Some(w.unk_token.clone()),
        // The model keeps its unknown id to itself, but gives it for what no vocabulary holds.
        ModelWrapper::Unigram(u) => u.tokenize("\u{10ffff}").ok().and_then(|t| model.id_to_token(t.first()?.id)),
    };
    for (i, id) in ids.iter().enumerate() {
        let token = model.id_to_token(*id).filter(|t| Some(t) != unknown.as_ref())?;
        if let Some(byte) = fallback_byte(&token).filter(|_| marks.bytes) {
            word.push(byte);
            continue;
        }
        let rest = token.strip_prefix(&marks.continuing).filter(|_| !marks.continuing.is_empty());
        continued |= i == 0 && rest.is_some();
        if i > 0 && rest.is_none() && !marks.continuing.is_empty() {
            return None;
        }
        word.extend_from_slice(rest.unwrap_or(&token).as_bytes());
    }
    Some((word, continued))
}
