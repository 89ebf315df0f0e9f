//! The verb `tokenize`: cut a text with one tokenizer, or compare several by what their cuts cost.

use super::common;
use super::terminal::{data, harmless, pieces, say};
use anyhow::{Context as _, bail};
use std::ffi::OsString;
use std::io::{self, BufWriter, ErrorKind, Read as _, Seek as _, Write};
use std::path::PathBuf;
use tempfile::SpooledTempFile;
use tokenscope_analysis::segment::text::{Metrics, by_tokenizer, word_of};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::{Ctx, Error};

/// Arguments of `tokenize`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Built-in name (gpt2, r50k_base, p50k_base, cl100k_base, o200k_base), sample model, model folder, GGUF file, or a
    /// file: tokenizer.json, vocab.json beside merges.txt, vocab.txt, a SentencePiece .model; several are compared. In a
    /// folder, tokenizer_config.json is followed for added tokens, letter case and accents, as AutoTokenizer does; its
    /// add_bos_token and add_eos_token only where tokenizer.json does not say itself what stands around a text. A
    /// tokenizer.json that is given itself is read as it stands
    #[arg(long, required = true)]
    tokenizer: Vec<OsString>,
    /// The text
    #[arg(long)]
    text: Option<String>,
    /// File with the text, - for standard input: UTF-8, or what a byte order mark says
    #[arg(long, conflicts_with = "text")]
    file: Option<PathBuf>,
    /// Print what the cuts cost, relative to the first tokenizer, instead of the tokens
    #[arg(long)]
    metrics: bool,
    /// For each word, how many sequences of the vocabulary's tokens spell it, and the shortest N of them
    #[arg(long, value_name = "N", conflicts_with = "metrics", value_parser = clap::value_parser!(u16).range(1..=1000))]
    encodings: Option<u16>,
    /// Print JSON: ids, tokens, offsets_byte, special_mask; for several tokenizers or --metrics, the numbers of each
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    let text = match (args.text, &args.file) {
        (Some(t), _) => t,
        (None, Some(f)) => common::text(f)?,
        (None, None) => bail!("give --text or --file"),
    };
    if args.encodings.is_some() && args.tokenizer.len() > 1 {
        bail!("--encodings is about one tokenizer: give one --tokenizer");
    }
    if args.metrics || args.tokenizer.len() > 1 {
        return compare(&args.tokenizer, &text, args.json);
    }
    let tokenizer = common::tokenizer(&args.tokenizer[0])?;
    if let Some(keep) = args.encodings {
        return encodings(&tokenizer, &text, usize::from(keep), args.json);
    }
    match args.json {
        true => columns(&tokenizer, &text),
        false => lines(&tokenizer, &text),
    }
}

/// Bytes of a list that stay in memory; more of it waits in a file for its turn.
const IN_MEMORY: usize = 1 << 20;

/// What is written before its turn comes: a long text has many times its length of it.
struct Waiting(BufWriter<SpooledTempFile>);

impl Waiting {
    fn new() -> Self {
        Self(BufWriter::new(SpooledTempFile::new(IN_MEMORY)))
    }

    /// Writes something, and says what helps where that fails.
    fn put(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
        write(&mut self.0).context("cannot keep a part of the result in a temporary file; check the free space")
    }

    /// What was written, from its beginning.
    fn read(self) -> anyhow::Result<SpooledTempFile> {
        let mut file = self.0.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(file)
    }
}

/// Prints the cut as JSON, list by list, of which only pieces are in memory.
fn columns(t: &Tokenizer, text: &str) -> anyhow::Result<()> {
    const NAMES: [&str; 4] = ["ids", "tokens", "offsets_byte", "special_mask"];
    let mut lists = NAMES.map(|_| Waiting::new());
    let mut failed = Ok(());
    t.encode_each(text, true, &Ctx::default(), &mut |e| {
        let [ids, tokens, offsets, special] = &mut lists;
        let mut put = || -> anyhow::Result<()> {
            elements(ids, e.ids.iter())?;
            elements(tokens, e.tokens.iter())?;
            elements(offsets, e.offsets_byte.iter())?;
            elements(special, e.special_mask.iter())
        };
        keep(put(), &mut failed)
    })
    .or_else(|e| failed.and(Err(e.into())))?;
    let lists = lists.into_iter().map(Waiting::read).collect::<anyhow::Result<Vec<_>>>()?;
    pieces(|out| {
        for (i, (name, mut list)) in NAMES.iter().zip(lists).enumerate() {
            write!(out, "{}\"{name}\":[", if i == 0 { '{' } else { ',' })?;
            // The comma before the first element goes.
            list.read_exact(&mut [0])
                .or_else(|e| if e.kind() == ErrorKind::UnexpectedEof { Ok(()) } else { Err(e) })?;
            io::copy(&mut list, out)?;
            write!(out, "]")?;
        }
        writeln!(out, "}}")
    })
}

/// Adds elements of a list in JSON, each behind a comma.
fn elements<T: serde::Serialize>(list: &mut Waiting, values: impl Iterator<Item = T>) -> anyhow::Result<()> {
    list.put(|out| {
        for value in values {
            out.write_all(b",")?;
            serde_json::to_writer(&mut *out, &value)?;
        }
        Ok(())
    })
}

/// Keeps the error of the program where the library has room for its own only, and stops it.
fn keep(done: anyhow::Result<()>, failed: &mut anyhow::Result<()>) -> Result<(), Error> {
    done.map_err(|e| {
        *failed = Err(e);
        Error::Cancelled
    })
}

/// Prints a line for each token, behind one that says how many there are.
fn lines(t: &Tokenizer, text: &str) -> anyhow::Result<()> {
    let (mut rows, mut count, mut failed) = (Waiting::new(), 0, Ok(()));
    t.encode_each(text, true, &Ctx::default(), &mut |e| {
        count += e.ids.len();
        let put = rows.put(|out| {
            for ((id, (a, b)), token) in e.ids.iter().zip(&e.offsets_byte).zip(e.tokens.iter()) {
                let row = format!("{id:>8}  {a:>6}..{b:<6}  {}", token.escape_debug());
                writeln!(out, "{}", harmless(&row))?;
            }
            Ok(())
        });
        keep(put, &mut failed)
    })
    .or_else(|e| failed.and(Err(e.into())))?;
    let mut rows = rows.read()?;
    say!("{count} tokens for {} bytes ({})", text.len(), t.name());
    pieces(|out| io::copy(&mut rows, out).map(drop))
}

/// Prints the other encodings of each word.
fn encodings(t: &Tokenizer, text: &str, keep: usize, json: bool) -> anyhow::Result<()> {
    let row = by_tokenizer(t.name(), t, text, &Ctx::default())?;
    let mut words = Vec::new();
    let mut at = 0;
    while at < row.pieces.len() {
        let range = word_of(&row, text, at);
        at = range.end;
        let pieces = &row.pieces[range];
        let own: Vec<u32> = pieces.iter().filter_map(|p| p.id).collect();
        let (start, end) = (pieces[0].start, pieces[pieces.len() - 1].end);
        let Some(all) = t.encodings(&own, keep) else { continue };
        let spell = |ids: &[u32]| ids.iter().map(|id| t.token(*id).unwrap_or_default()).collect::<Vec<_>>().join(" | ");
        if json {
            words.push(serde_json::json!({
                "start": start, "end": end, "own": own, "count": all.count, "shortest": all.shortest,
            }));
            continue;
        }
        let count = all.count.map_or("more than 2^64".to_string(), |n| n.to_string());
        say!("{start:>6}..{end:<6}  {count} encodings; own: {}", spell(&own).escape_debug());
        for ids in all.shortest.iter().filter(|ids| **ids != own) {
            say!("                  {}", spell(ids).escape_debug());
        }
    }
    if json {
        data(&serde_json::json!({ "tokenizer": t.name(), "words": words }).to_string())?;
    }
    Ok(())
}

/// Prints the numbers of each tokenizer's cut.
fn compare(given: &[OsString], text: &str, json: bool) -> anyhow::Result<()> {
    let names: Vec<String> = given.iter().map(|n| n.to_string_lossy().into_owned()).collect();
    let row = |(given, name): (&OsString, &String)| {
        let cut = by_tokenizer(name, &common::tokenizer(given)?, text, &Ctx::default())?;
        Ok((cut.vocab, Metrics::of(&cut, text)))
    };
    let rows: Vec<_> = given.iter().zip(&names).map(row).collect::<anyhow::Result<_>>()?;
    let reference = rows[0].1;
    if json {
        let rows: Vec<_> = rows
            .iter()
            .zip(&names)
            .map(|((vocab, m), name)| {
                serde_json::json!({
                    "tokenizer": name, "vocabulary": vocab, "tokens": m.tokens, "distinct": m.distinct,
                    "bytes_per_token": m.bytes_per_token, "tokens_per_word": m.fertility,
                    "entropy_bits": m.entropy_bits, "renyi_efficiency": m.renyi_efficiency,
                    "premium": m.premium(&reference),
                })
            })
            .collect();
        data(&serde_json::json!({ "bytes": text.len(), "premium_relative_to": names[0], "rows": rows }).to_string())?;
        return Ok(());
    }
    let number = |v: Option<f64>| v.map_or_else(|| "-".to_string(), |v| format!("{v:.3}"));
    let width = names.iter().map(|n| n.chars().count()).max().unwrap_or(0);
    say!("{:width$}  tokens  bytes/token  tokens/word  entropy/bits  renyi-eff.  premium", "");
    for ((_, m), name) in rows.iter().zip(&names) {
        say!(
            "{name:width$}  {:>6}  {:>11}  {:>11}  {:>12}  {:>10}  {:>7}",
            m.tokens,
            number(m.bytes_per_token),
            number(m.fertility),
            number(m.entropy_bits),
            number(m.renyi_efficiency),
            number(m.premium(&reference))
        );
    }
    Ok(())
}
