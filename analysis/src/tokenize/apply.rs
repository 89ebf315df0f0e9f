//! What `tokenizer_config.json` and its fellows say of a `tokenizer.json` that is there, too: followed as
//! `AutoTokenizer` does, or said not to be.

use super::folder::{Beside, Source, spelled};
use super::recipe;
use crate::foreign::foreign;
use serde_json::{Value, json};
use std::collections::HashMap;
use tokenizers::{AddedToken, Tokenizer};

/// Classes whose SentencePiece models take letters as they come and begin a text with a token.
pub(super) const LLAMA: &[&str] =
    &["llama", "codellama", "mistral", "phi3", "mixtral", "gemma", "gemma2", "gemma3text"];

/// Classes whose tokenizers take letter case and accents from the configuration.
const BERT: [&str; 12] = [
    "bert",
    "distilbert",
    "electra",
    "mobilebert",
    "funnel",
    "lxmert",
    "layoutlm",
    "layoutlmv2",
    "squeezebert",
    "convbert",
    "splinter",
    "dpr",
];

/// What a `tokenizer.json` has to say otherwise, as changes of its parts; `None` where it agrees already.
pub(super) fn changes(t: &Tokenizer, beside: &Beside) -> Option<Vec<(&'static str, Value)>> {
    let part = |v: serde_json::Result<Value>| v.unwrap_or(Value::Null);
    let mut out = Vec::new();
    let mut normalizer = part(serde_json::to_value(t.get_normalizer()));
    if beside.is(&BERT) {
        let said = [
            ("lowercase", beside.flag("do_lower_case")),
            ("strip_accents", beside.flag("strip_accents")),
            ("handle_chinese_chars", beside.flag("tokenize_chinese_chars")),
        ];
        let mut own = Vec::new();
        berts(&mut normalizer, &mut |n| {
            for (key, said) in said.iter().filter_map(|(k, s)| Some((*k, (*s)?))) {
                if n[key] != json!(said) {
                    n[key] = json!(said);
                    own.push(key);
                }
            }
        });
        if !own.is_empty() {
            out.push(("normalizer", normalizer));
        }
    }
    let mut pre = part(serde_json::to_value(t.get_pre_tokenizer()));
    if let Some(prefix) = beside.flag("add_prefix_space")
        && pre["type"] == "ByteLevel"
        && pre["add_prefix_space"] != json!(prefix)
    {
        pre["add_prefix_space"] = json!(prefix);
        out.push(("pre_tokenizer", pre));
    }
    let post = part(serde_json::to_value(t.get_post_processor()));
    if post.is_null() {
        let with = |flag: &str, key: &str| {
            let token = beside.token(key).filter(|_| beside.flag(flag) == Some(true))?;
            Some((token.to_string(), t.token_to_id(token)?))
        };
        let post = recipe::around(with("add_bos_token", "bos_token"), with("add_eos_token", "eos_token"));
        if !post.is_null() {
            out.push(("post_processor", post));
        }
    }
    (!out.is_empty()).then_some(out)
}

/// Calls `each` with every BERT normalizer in `n`.
fn berts(n: &mut Value, each: &mut dyn FnMut(&mut Value)) {
    if n["type"] == "BertNormalizer" {
        each(n);
    } else if let Some(list) = n.get_mut("normalizers").and_then(Value::as_array_mut) {
        list.iter_mut().for_each(|n| berts(n, each));
    }
}

/// Adds the tokens that the configuration names to `t`; what contradicts it goes to `notes`.
///
/// Errors: the crate failed on a token.
pub(super) fn add_tokens(t: &mut Tokenizer, beside: &Beside, notes: &mut Vec<String>) -> Result<(), String> {
    let there: HashMap<String, AddedToken> =
        t.get_added_tokens_decoder().into_values().map(|own| (own.content.clone(), own)).collect();
    let mut new = Vec::new();
    let mut said = Vec::new();
    for (id, token) in beside.added() {
        let Some(text) = spelled(&token).filter(|s| !s.is_empty()) else { continue };
        let flag = |key: &str, default: bool| token[key].as_bool().unwrap_or(default);
        let special = flag("special", false);
        let own = AddedToken {
            content: text.to_string(),
            single_word: flag("single_word", false),
            lstrip: flag("lstrip", false),
            rstrip: flag("rstrip", false),
            normalized: flag("normalized", !special),
            special,
        };
        let known = there.get(&own.content);
        // A token that is only named keeps the flags that it has.
        if known.is_some_and(|k| id.is_none() || *k == own) {
            continue;
        }
        said.push((own.content.clone(), id));
        new.push(own);
    }
    if new.is_empty() {
        return Ok(());
    }
    foreign("tokenizers", || t.add_tokens(new).map_err(|e| e.to_string())).and_then(|r| r)?;
    for (token, id) in said {
        if let (Some(id), Some(own)) = (id, t.token_to_id(&token))
            && id != own
        {
            notes.push(format!("tokenizer_config.json gives {token} the id {id}; after the vocabulary it has {own}"));
        }
    }
    Ok(())
}

/// Notes what is assumed where a vocabulary without a `tokenizer.json` is not said to begin a text with a token.
pub(super) fn silence(source: &Source, beside: &Beside, notes: &mut Vec<String>) {
    let starts = beside.is(LLAMA);
    if matches!(source, Source::Pieces(_)) && starts && beside.flag("add_bos_token").is_none() {
        let what = "tokenizer_config.json does not say add_bos_token, so no start token is put before a text";
        notes.push(what.into());
    }
}

/// Notes where the flags for tokens around a text are not those that `tokenizer.json` follows.
pub(super) fn contradictions(t: &Tokenizer, beside: &Beside, notes: &mut Vec<String>) {
    let Ok(e) = foreign("tokenizers", || t.encode("a", true)) else { return };
    let Ok(e) = e else { return };
    let tokens = e.get_tokens();
    let ends: [(&str, &str, Option<&String>); 2] =
        [("add_bos_token", "bos_token", tokens.first()), ("add_eos_token", "eos_token", tokens.last())];
    for (flag, key, at) in ends {
        let (Some(said), Some(token)) = (beside.flag(flag), beside.token(key)) else { continue };
        let there = at.is_some_and(|a| a == token);
        if said != there {
            let does = if there { "adds" } else { "does not add" };
            notes.push(format!(
                "tokenizer_config.json says {flag} {said}, but tokenizer.json {does} {token}; tokenizer.json is followed"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hf::from_bytes;
    use super::*;

    fn beside(config: Value) -> (tempfile::TempDir, Beside) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let b = Beside::read(dir.path()).unwrap();
        (dir, b)
    }

    fn tokenizer(parts: &[(&str, Value)]) -> Tokenizer {
        let mut t = json!({ "version": "1.0", "added_tokens": [recipe::added(2, "<s>", true)], "model":
            { "type": "BPE", "vocab": { "a": 0, "b": 1, "<s>": 2 }, "merges": [] } });
        parts.iter().for_each(|(key, part)| t[*key] = part.clone());
        from_bytes(t.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn letter_case_is_the_configurations_for_bert_and_for_no_other_class() {
        let bert = json!({ "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true });
        let t = tokenizer(&[("normalizer", json!({ "type": "Sequence", "normalizers": [bert] }))]);
        let said = |class: &str| {
            let (_dir, b) = beside(json!({ "tokenizer_class": class, "do_lower_case": false, "strip_accents": false }));
            changes(&t, &b)
        };
        let own = said("BertTokenizerFast").unwrap();
        let n = &own[0].1["normalizers"][0];
        assert_eq!((own.len(), &n["lowercase"], &n["strip_accents"]), (1, &json!(false), &json!(false)));
        assert!(said("PreTrainedTokenizerFast").is_none());
    }

    #[test]
    fn what_stands_around_a_text_is_tokenizer_jsons_where_it_says_so() {
        let (_dir, b) = beside(json!({ "bos_token": "<s>", "add_bos_token": true }));
        let silent = tokenizer(&[]);
        let own = changes(&silent, &b).unwrap();
        assert_eq!(own[0].0, "post_processor");
        let (_dir, never) = beside(json!({ "bos_token": "<s>", "add_bos_token": false }));
        let t = tokenizer(&[("post_processor", own[0].1.clone())]);
        assert!(changes(&t, &never).is_none());
        let mut notes = Vec::new();
        contradictions(&t, &b, &mut notes);
        assert!(notes.is_empty());
        contradictions(&t, &never, &mut notes);
        assert!(notes[0].contains("add_bos_token false") && notes[0].contains("tokenizer.json adds <s>"), "{notes:?}");
    }

    #[test]
    fn tokens_of_the_configuration_are_found_in_texts() {
        let (_dir, b) = beside(json!({ "eos_token": "<e>", "added_tokens_decoder":
            { "2": { "content": "<s>", "special": true, "normalized": false }, "9": { "content": "<u>" } } }));
        let (mut t, mut notes) = (tokenizer(&[]), Vec::new());
        add_tokens(&mut t, &b, &mut notes).unwrap();
        assert_eq!(t.encode("a<s><u>b<e>", false).unwrap().get_ids(), [0, 2, 3, 1, 4]);
        assert_eq!(notes, ["tokenizer_config.json gives <u> the id 9; after the vocabulary it has 3"]);
    }
}
