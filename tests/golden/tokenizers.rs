//! Tokenizers against the Python packages: ids, spellings, byte offsets, special mask, decoded text.

use tokenscope_analysis::Ctx;
use tokenscope_analysis::segment::text::{by_tokenizer, word_of};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_tests::{golden, json};

#[test]
fn every_tokenizer_json_cuts_as_recorded() {
    let root = golden().join("models/tokenizers");
    let mut cases = 0;
    for entry in std::fs::read_dir(&root).unwrap() {
        let dir = entry.unwrap().path();
        let want = json(&dir.join("golden.json"));
        let t = Tokenizer::load(&dir).unwrap();
        for case in want["cases"].as_array().unwrap() {
            let at = format!("{} / {}", dir.display(), case["name"]);
            let text = case["text"].as_str().unwrap();
            let e = t.encode(text, None, true).unwrap();
            assert_eq!(serde_json::json!(e.ids), case["ids"], "{at}: ids");
            assert_eq!(serde_json::json!(e.tokens), case["tokens"], "{at}: tokens");
            assert_eq!(serde_json::json!(e.offsets_byte), case["offsets_byte"], "{at}: offsets");
            let mask: Vec<u8> = e.special_mask.iter().map(|&m| m.into()).collect();
            assert_eq!(serde_json::json!(mask), case["special_mask"], "{at}: special mask");
            let plain = t.encode(text, None, false).unwrap();
            assert_eq!(serde_json::json!(plain.ids), case["ids_without_specials"], "{at}: without specials");
            assert_eq!(t.decode(&e.ids, false).unwrap(), case["decoded"].as_str().unwrap(), "{at}: decoded");
            cases += 1;
        }
        for case in want["pairs"].as_array().into_iter().flatten() {
            let e = t.encode(case["text"].as_str().unwrap(), case["pair"].as_str(), true).unwrap();
            assert_eq!(serde_json::json!(e.ids), case["ids"], "{}: pair", dir.display());
        }
    }
    assert!(cases > 100, "only {cases} cases were found");
}

#[test]
fn tiktoken_vocabularies_give_the_published_ids() {
    for (name, file) in [("gpt2", "gpt2"), ("cl100k_base", "cl100k_base"), ("o200k_base", "o200k_base")] {
        let want = json(&golden().join(format!("models/tiktoken/{file}.json")));
        let t = Tokenizer::named(name).unwrap();
        let cases = want["cases"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let e = t.encode(text, None, true).unwrap();
            assert_eq!(serde_json::json!(e.ids), case["ids"], "{name}: {text:?}");
            assert_eq!(t.decode(&e.ids, false).unwrap(), text, "{name}");
            assert_eq!(e.offsets_byte.last().map_or(0, |o| o.1), text.len(), "{name}: bytes covered");
        }
    }
}

#[test]
fn merges_lead_from_the_alphabet_to_the_token() {
    let named = Tokenizer::named("cl100k_base").unwrap();
    let gpt2 = Tokenizer::load(&golden().join("models/gpt2")).unwrap();
    let bert = Tokenizer::load(&golden().join("models/bert")).unwrap();
    for t in [&named, &gpt2] {
        let e = t.encode("The harbour lights, again", None, false).unwrap();
        let mut merged = 0;
        for (&id, token) in e.ids.iter().zip(e.tokens.iter()) {
            let steps = t.merges(id).unwrap();
            // n pieces need n - 1 merges to become one, and the last one makes the token.
            assert_eq!(steps.len() + 1, token.chars().count(), "{token}");
            if let Some(last) = steps.last() {
                assert_eq!(format!("{}{}", last.left, last.right), token);
                merged += 1;
            }
        }
        assert!(merged > 1);
    }
    assert_eq!(bert.merges(5), None);
}

#[test]
fn other_encodings_decode_to_the_same_text_and_the_tokenizers_own_is_one_of_them() {
    let root = golden().join("models/tokenizers");
    let files = std::fs::read_dir(&root).unwrap().map(|e| Tokenizer::load(&e.unwrap().path()).unwrap());
    let named = ["gpt2", "cl100k_base"].map(|n| Tokenizer::named(n).unwrap());
    let text = "Rethinking  unaffable harbours, naïve 日本 🦊s in 12345 towns";
    let (mut words, mut others) = (0, 0);
    for t in files.chain(named) {
        let row = by_tokenizer(t.name(), &t, text, &Ctx::default()).unwrap();
        let mut at = 0;
        while at < row.pieces.len() {
            let range = word_of(&row, text, at);
            assert!(range.contains(&at) && range.end > at, "{}: {range:?} at {at}", t.name());
            at = range.end;
            let own: Vec<u32> = row.pieces[range].iter().map(|p| p.id.unwrap()).collect();
            let Some(all) = t.encodings(&own, 4000) else { continue };
            let same = t.decode(&own, false).unwrap();
            for ids in &all.shortest {
                assert_eq!(t.decode(ids, false).unwrap(), same, "{}: {ids:?} for {own:?}", t.name());
            }
            if all.count.is_some_and(|n| n < 4000) {
                assert_eq!(all.shortest.len() as u64, all.count.unwrap(), "{}", t.name());
                assert!(all.shortest.contains(&own), "{}: {own:?} is not in {:?}", t.name(), all.shortest);
            }
            words += 1;
            others += all.shortest.len() - 1;
        }
    }
    assert!(words > 60 && others > 400, "only {others} other encodings of {words} words");
}
