//! Cuts of a text by several tokenizers, their lines, and what a tokenizer knows about its own tokens.

use super::{ModelOf, TokenizerOf};
use crate::jobs::{Ask, Store};
use crate::keys::{CutKey, ModelSource, RowSource};
use crate::text::Text;
use std::path::Path;
use std::sync::Arc;
use tokenscope_analysis::segment::Piece;
use tokenscope_analysis::segment::text::{Metrics, Row, Strip, rows as cut_rows};
use tokenscope_analysis::token::Token;
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::tokenize::bpe::Step;
use tokenscope_analysis::trace::{Tower, read_outline};
use tokenscope_analysis::{Ctx, Error, Result};

/// Name of the row of the model's own tokenizer.
pub const OWN: &str = "this model";

/// Folder and file, because most tokenizers are called `tokenizer.json`.
pub fn row_name(file: &Path) -> String {
    let folder = file.parent().and_then(Path::file_name).map(|p| format!("{}/", p.to_string_lossy()));
    format!("{}{}", folder.unwrap_or_default(), ModelSource::Path(file.to_path_buf()).title())
}

/// Cut a text by several tokenizers and rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CutsOf(pub CutKey);

/// Rows of cuts of one text; the lists of rows, sources and metrics are equally long.
pub struct Rows {
    /// The text.
    pub text: Text,
    /// The cuts.
    pub rows: Vec<Row>,
    /// Where each comes from.
    pub sources: Vec<RowSource>,
    /// What each costs.
    pub metrics: Vec<Metrics>,
    /// Why tokenizer files that were asked for have no row.
    pub broken: Vec<String>,
}

impl Ask for CutsOf {
    type Out = Rows;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Rows> {
        let key = &self.0;
        let (open, recorded) = match &key.model {
            ModelSource::Recorded(path) => (None, recorded_row(path, &key.text)?),
            _ => (Some(store.get(&ModelOf(key.model.clone(), key.placement), ctx)?), None),
        };
        // A broken file must not take the other rows along.
        let (mut loaded, mut broken) = (Vec::new(), Vec::new());
        for file in &key.files {
            match store.get(&TokenizerOf(file.clone()), ctx) {
                Ok(t) => loaded.push((file, t)),
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(why) => broken.push(why.to_string()),
            }
        }
        let own = open.as_ref().and_then(|o| o.tokenizer.as_ref()).map(|t| (OWN.to_string(), t));
        let n = usize::from(own.is_some() || recorded.is_some());
        let mut sources = vec![RowSource::Model(key.model.clone(), key.placement); n];
        sources.extend(loaded.iter().map(|(file, _)| RowSource::File(file.to_path_buf())));
        sources.extend(key.named.iter().map(|n| RowSource::Named(n)));
        let others = loaded.iter().map(|(file, t)| (row_name(file), t.as_ref()));
        let mut rows = cut_rows(&own.into_iter().chain(others).collect::<Vec<_>>(), &key.named, &key.text, ctx)?;
        if let Some(row) = recorded {
            rows.insert(0, row);
        }
        let metrics = rows.iter().map(|r| Metrics::of(r, &key.text)).collect();
        Ok(Rows { text: key.text.clone(), rows, sources, metrics, broken })
    }

    fn bytes(rows: &Rows) -> u64 {
        rows.rows.iter().map(|r| 96 * r.pieces.len() as u64).sum()
    }
}

/// The tokens of a recording as a row, where they come from this text.
fn recorded_row(path: &Path, text: &str) -> Result<Option<Row>> {
    let trace = read_outline(path)?;
    if trace.text != text {
        return Ok(None);
    }
    let tokens = trace.towers.get(&Tower::Text).map_or(&[][..], |t| &t.tokens);
    let piece = |t: &Token| {
        let bytes = t.bytes()?;
        Some(Piece { id: t.id, token: t.text.clone(), start: bytes.start, end: bytes.end, special: false })
    };
    let pieces: Vec<Piece> = tokens.iter().filter_map(piece).collect();
    Ok((!pieces.is_empty()).then(|| Row { name: OWN.into(), pieces, vocab: None, continuing: String::new() }))
}

/// The same in lines of so many columns, which all rows share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StripOf(pub CutKey, pub usize);

/// Rows in shared lines.
pub struct TextStrip {
    /// The rows.
    pub rows: Arc<Rows>,
    /// Their lines.
    pub strip: Strip,
}

impl Ask for StripOf {
    type Out = TextStrip;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<TextStrip> {
        let rows = store.get(&CutsOf(self.0.clone()), ctx)?;
        let strip = Strip::new(&rows.text, &rows.rows, self.1, ctx)?;
        Ok(TextStrip { rows, strip })
    }

    fn bytes(s: &TextStrip) -> u64 {
        s.strip.bytes_held() as u64
    }
}

/// How a tokenizer merged its way to the token of this id; `None` comes back for vocabularies of another kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MergesOf(pub RowSource, pub u32);

impl Ask for MergesOf {
    type Out = Option<Vec<Step>>;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Self::Out> {
        Ok(with_tokenizer(&self.0, store, ctx, |t| t.merges(self.1))?.flatten())
    }
}

/// Which other sequences of tokens spell the same as these, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EncodingsOf(pub RowSource, pub Vec<u32>);

/// Sequences of tokens that spell one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherEncodings {
    /// How many there are; `None` where it passes 2^64.
    pub count: Option<u64>,
    /// The shortest, each as ids and their spellings.
    pub shortest: Vec<Vec<(u32, String)>>,
}

/// Shortest encodings that are shown of a word.
const SHORTEST: usize = 8;

impl Ask for EncodingsOf {
    type Out = Option<OtherEncodings>;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Self::Out> {
        let all = |t: &Tokenizer| {
            let all = t.encodings(&self.1, SHORTEST)?;
            let spelled = |ids: Vec<u32>| ids.into_iter().map(|id| (id, t.token(id).unwrap_or_default())).collect();
            Some(OtherEncodings { count: all.count, shortest: all.shortest.into_iter().map(spelled).collect() })
        };
        Ok(with_tokenizer(&self.0, store, ctx, all)?.flatten())
    }
}

/// What `f` says of the tokenizer of a row; `None` for models without one and for rows that follow a rule.
fn with_tokenizer<T>(
    source: &RowSource,
    store: &Store,
    ctx: &Ctx,
    f: impl FnOnce(&Tokenizer) -> T,
) -> Result<Option<T>> {
    Ok(match source {
        RowSource::Model(ModelSource::Recorded(_), _) => None,
        RowSource::Model(m, how) => store.get(&ModelOf(m.clone(), *how), ctx)?.tokenizer.as_ref().map(f),
        RowSource::File(file) => Some(f(store.get(&TokenizerOf(file.clone()), ctx)?.as_ref())),
        RowSource::Named(name) => Tokenizer::named(name).ok().as_ref().map(f),
    })
}
