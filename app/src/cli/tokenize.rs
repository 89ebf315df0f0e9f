//! The verb `tokenize`: cut a text with one tokenizer, or compare several by what their cuts cost.

use super::common;
use super::terminal::{data, json as print_json, say};
use anyhow::bail;
use std::ffi::OsString;
use std::path::PathBuf;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::segment::text::{Metrics, by_tokenizer, word_of};
use tokenscope_analysis::tokenize::{Spellings, Tokenizer};

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
    let e = tokenizer.encode(&text, None, true)?;
    if args.json {
        return print_json(&Cut {
            ids: &e.ids,
            tokens: &e.tokens,
            offsets_byte: &e.offsets_byte,
            special_mask: &e.special_mask,
        });
    }
    say!("{} tokens for {} bytes ({})", e.ids.len(), text.len(), tokenizer.name());
    for (i, id) in e.ids.iter().enumerate() {
        let (a, b) = e.offsets_byte[i];
        say!("{id:>8}  {a:>6}..{b:<6}  {}", e.tokens.get(i).unwrap_or_default().escape_debug());
    }
    Ok(())
}

/// A cut as JSON, written as it is.
#[derive(serde::Serialize)]
struct Cut<'a> {
    ids: &'a [u32],
    tokens: &'a Spellings,
    offsets_byte: &'a [(usize, usize)],
    special_mask: &'a [bool],
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
