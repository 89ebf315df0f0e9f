//! The tokenizer that all sample models share: a byte-level BPE, digits one by one with the space before, trained on stories and questions.

use std::ops::Range;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer, TokenizerBuilder};
use tokenscope_generate::scenes::Scene;
use tokenscope_generate::stories::Story;

/// Begins and ends every text.
pub const BEGIN: u32 = 0;
/// Stands for one patch of an image.
pub const IMAGE: u32 = 1;
/// Stands for a token that is to be found.
pub const MASK: u32 = 2;

const NAMES: [&str; 3] = ["<s>", "<image>", "<mask>"];
/// Ids below this stand for no text.
pub const SPECIAL: u32 = NAMES.len() as u32;
/// Vocabulary asked for; the texts may need less.
const VOCAB: usize = 1024;

/// Ids of a text and the bytes that each stands for.
#[derive(Debug, Clone, Default)]
pub struct Cut {
    /// Ids.
    pub ids: Vec<u32>,
    /// Bytes.
    pub bytes: Vec<Range<usize>>,
}

/// The tokenizer.
pub struct Words(Tokenizer);

impl Words {
    /// Trains it on the first `n` stories and the questions of the first `n` scenes.
    pub fn train(n: u64) -> anyhow::Result<Self> {
        let mut texts: Vec<String> = (0..n).map(|s| Story::new(s).text).collect();
        for seed in 0..n / 4 {
            texts.extend(Scene::new(seed).questions().iter().map(|q| format!("{} {}", q.text, q.answer)));
        }
        let fail = |e: tokenizers::Error| anyhow::anyhow!("the tokenizer does not train: {e}");
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let mut trainer = BpeTrainer::builder()
            .vocab_size(VOCAB)
            .show_progress(false)
            .special_tokens(NAMES.map(|s| AddedToken::from(s, true)).to_vec())
            .initial_alphabet(alphabet.into_iter().collect())
            .build();
        let digits = SplitPattern::Regex(r" ?\d".into());
        let digits = Split::new(digits, SplitDelimiterBehavior::Isolated, false).map_err(fail)?;
        let cuts = Sequence::new(vec![
            PreTokenizerWrapper::Split(digits),
            PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, true)),
        ]);
        let mut t = TokenizerBuilder::<BPE, tokenizers::NormalizerWrapper, Sequence, ByteLevel, ByteLevel>::new()
            .with_model(BPE::default())
            .with_normalizer(None)
            .with_pre_tokenizer(Some(cuts))
            .with_post_processor(Some(ByteLevel::new(false, false, true)))
            .with_decoder(Some(ByteLevel::new(false, false, true)))
            .build()
            .map_err(fail)?;
        t.train(&mut trainer, texts.iter()).map_err(fail)?;
        // The post-processor that adds <s> is easier said in the file's own form.
        let mut file: serde_json::Value = serde_json::from_str(&t.to_string(false).map_err(fail)?)?;
        let begin = serde_json::json!({ "SpecialToken": { "id": NAMES[0], "type_id": 0 } });
        let part = |id: &str, kind: u32| serde_json::json!({ "Sequence": { "id": id, "type_id": kind } });
        file["post_processor"] = serde_json::json!({
            "type": "TemplateProcessing",
            "single": [begin.clone(), part("A", 0)],
            "pair": [begin, part("A", 0), part("B", 1)],
            "special_tokens": { NAMES[0]: { "id": NAMES[0], "ids": [BEGIN], "tokens": [NAMES[0]] } },
        });
        Ok(Self(Tokenizer::from_bytes(file.to_string()).map_err(fail)?))
    }

    /// The tokenizer of a model folder.
    pub fn open(dir: &std::path::Path) -> anyhow::Result<Self> {
        let file = dir.join("tokenizer.json");
        Tokenizer::from_file(&file).map(Self).map_err(|e| anyhow::anyhow!("cannot read {}: {e}", file.display()))
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.0.get_vocab_size(true)
    }

    /// The file `tokenizer.json`.
    pub fn json(&self) -> anyhow::Result<String> {
        self.0.to_string(false).map_err(|e| anyhow::anyhow!("the tokenizer cannot be written: {e}"))
    }

    /// Cuts `text`, without `<s>`.
    pub fn cut(&self, text: &str) -> anyhow::Result<Cut> {
        let e = self.0.encode(text, false).map_err(|e| anyhow::anyhow!("cannot cut {text:?}: {e}"))?;
        Ok(Cut { ids: e.get_ids().to_vec(), bytes: e.get_offsets().iter().map(|&(a, b)| a..b).collect() })
    }

    /// Text of `ids`.
    pub fn text(&self, ids: &[u32]) -> anyhow::Result<String> {
        self.0.decode(ids, true).map_err(|e| anyhow::anyhow!("cannot write out {ids:?}: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_alone_and_special_tokens_have_their_ids() {
        let w = Words::train(300).unwrap();
        // The space before a number goes with its first digit.
        assert_eq!(w.cut(" 47").unwrap().bytes, [0..2, 2..3]);
        assert_eq!(w.cut("<s><image><mask>").unwrap().ids, [BEGIN, IMAGE, MASK]);
        let text = "Ada left the key (42) in the garden.";
        let cut = w.cut(text).unwrap();
        assert_eq!(w.text(&cut.ids).unwrap(), text);
        // The pieces cover the text without gaps.
        assert_eq!((cut.bytes[0].start, cut.bytes[cut.bytes.len() - 1].end), (0, text.len()));
        assert!(cut.bytes.windows(2).all(|p| p[0].end == p[1].start));
    }
}
