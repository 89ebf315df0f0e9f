//! Cutting by files of the crate: the fast way, parts and offsets are those of the crate itself.

use super::super::gguf_words::PARTED;
use super::super::recipe::{by_patterns, byte_level};
use super::*;
use serde_json::json;

fn load(key: &str, value: Value) -> std::result::Result<Tokenizer, String> {
    let mut t = json!({ "version": "1.0", "added_tokens": [], "model":
        { "type": "BPE", "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": [["a", "b"]] } });
    t[key] = value;
    from_bytes(t.to_string().as_bytes())
}

#[test]
fn a_normalizer_that_blows_texts_up_is_refused() {
    let replace = |pattern: Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
    let tenfold = replace(json!({ "Regex": "." }), "123456789");
    let some = |n: usize| json!({ "type": "Sequence", "normalizers": vec![tenfold.clone(); n] });
    assert!(load("normalizer", some(3)).is_ok());
    assert!(load("normalizer", some(4)).unwrap_err().contains("10000 times longer"));
    assert!(load("normalizer", replace(json!({ "String": " " }), "▁")).is_ok());
    assert!(load("normalizer", replace(json!({ "String": "" }), &"x".repeat(1000))).is_err());
    // 200 times 60 bytes; 10 bytes that two replacements make 10,000.
    let prepend = |bytes: usize| json!({ "type": "Prepend", "prepend": "y".repeat(bytes) });
    let sequence = |list: Vec<Value>| load("normalizer", json!({ "type": "Sequence", "normalizers": list }));
    assert!(sequence(vec![prepend(60); 166]).is_ok());
    assert!(sequence(vec![prepend(60); 200]).unwrap_err().contains("12000 bytes before a text"));
    let longer = replace(json!({ "String": "y" }), &"z".repeat(100));
    assert!(sequence(vec![prepend(101), longer]).unwrap_err().contains("10100 bytes before a text"));
}

#[test]
fn tables_longer_than_they_are_take_no_memory() {
    let map = |said: u32| {
        let bytes = [said.to_le_bytes().as_slice(), &[0; 8], b"a\0"].concat();
        json!({ "type": "Precompiled", "precompiled_charsmap": BASE64_STANDARD.encode(bytes) })
    };
    assert!(load("normalizer", map(8)).is_ok());
    let inside = json!({ "type": "Sequence", "normalizers": [map(8), map(4_000_000_000)] });
    assert!(load("normalizer", inside).unwrap_err().contains("4000000000 bytes; there are 10"));
}

#[test]
fn spaces_are_taken_off_by_bytes_and_put_ones_have_none() {
    let of = |text: &str, tokens: &[&str], at: &[(usize, usize)], prefix: bool| {
        let mut out = at.to_vec();
        trim(text, tokens.iter().copied(), &mut out, prefix);
        out
    };
    assert_eq!(of("漢 字", &["Ġ", "漢", "Ġ字"], &[(0, 3), (0, 3), (3, 7)], true), [(0, 0), (0, 3), (4, 7)]);
    // A word after an added token has a space put before it that is not in the text.
    assert_eq!(of("<m>fox", &["<m>", "Ġfox"], &[(0, 3), (3, 6)], true), [(0, 3), (3, 6)]);
    assert_eq!(of("\u{3000}a  ", &["Ġa", "ĠĠ"], &[(0, 4), (4, 6)], false), [(3, 4), (6, 6)]);
    assert_eq!(of(" dog", &["Ġdog"], &[(0, 4)], true), [(0, 4)]);
    assert_eq!(of(" dog", &["Ġdog"], &[(0, 4)], false), [(1, 4)]);
}

#[test]
fn patterns_that_are_not_read_or_find_nothing_are_named() {
    let split =
        |p: &str| json!({ "type": "Split", "pattern": { "Regex": p }, "behavior": "Isolated", "invert": false });
    let why = load("pre_tokenizer", split("(a")).unwrap_err();
    assert!(why.contains("regular expression \"(a\"") && !why.contains("damaged"), "{why}");
    let t = load("normalizer", json!({ "type": "Replace", "pattern": { "Regex": "" }, "content": "z" })).unwrap();
    assert_eq!(empty_pattern(&t).as_deref(), Some(""));
    assert_eq!(empty_pattern(&load("pre_tokenizer", split("b*")).unwrap()).as_deref(), Some("b*"));
    assert_eq!(empty_pattern(&load("pre_tokenizer", split("b+")).unwrap()), None);
}

#[test]
fn dropout_is_off() {
    let dropout =
        json!({ "type": "BPE", "dropout": 0.5, "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": [["a", "b"]] });
    let t = load("model", dropout).unwrap();
    assert!((0..64).all(|_| t.encode("ab", false).unwrap().get_ids() == [2]));
}

#[test]
fn a_template_that_explains_its_tokens_is_needed() {
    let template = |known: Value| {
        json!({ "type": "TemplateProcessing", "single":
        [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
        "special_tokens": known })
    };
    let known = template(json!({ "<s>": { "id": "<s>", "ids": [0], "tokens": ["<s>"] } }));
    let t = load("post_processor", known).unwrap();
    assert_eq!(t.encode("ab", true).unwrap().get_ids(), [0, 2]);
    let unknown = template(json!({}));
    assert!(load("post_processor", unknown.clone()).unwrap_err().contains("<s>"));
    assert!(load("post_processor", json!({ "type": "Sequence", "processors": [unknown] })).is_err());
}

#[test]
fn what_is_cut_out_before_words_is_merged_with_nothing() {
    let level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true });
    let split = json!({ "type": "Split", "pattern": { "Regex": "b" }, "behavior": "Isolated", "invert": false });
    let both = json!({ "type": "Sequence", "pretokenizers": [split, level] });
    for (pre, ids) in [(level, vec![2, 2, 0]), (both, vec![0, 1, 0, 1, 0])] {
        let t = Hf::new(load("pre_tokenizer", pre).unwrap());
        assert!(t.fast.is_some());
        assert_eq!(encode(&t, "ababa", WHOLE, false).ids, ids);
    }
}

/// Texts of pieces that pre-tokenizers treat differently, put together at random.
fn texts() -> impl Iterator<Item = String> {
    let pieces = [
        "a",
        "The",
        " fox",
        "  ",
        "\n",
        "\n\n ",
        "\t",
        "12",
        " 7",
        "345",
        "'s",
        "'LL",
        "!?",
        " …",
        "漢字",
        "é",
        "e\u{301}",
        "👩\u{200d}👧",
        "<s>",
        "<image>",
        "\r\n",
        "_",
        "x'y",
        "ﬁ",
        "\u{a0}",
        "नमस्ते",
        " שלום",
        "ABCdef",
        "0",
    ];
    let mut state = 1u64;
    let mut next = move |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    (0..400).map(move |i| (0..i % 24).map(|_| pieces[next(pieces.len())]).collect())
}

/// The tokenizers of files of this project.
fn files() -> Vec<std::path::PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = vec![root.join("sample_data/models/sample-lm/tokenizer.json")];
    for folder in ["tests/golden/models", "tests/golden/models/tokenizers"] {
        let entries = std::fs::read_dir(root.join(folder)).unwrap();
        files.extend(entries.map(|e| e.unwrap().path().join("tokenizer.json")).filter(|f| f.exists()));
    }
    files.sort();
    files
}

/// A part that no text here is longer than.
const WHOLE: usize = 1 << 20;

fn encode(t: &Hf, text: &str, size: usize, special: bool) -> Encoding {
    Encoding::of_parts(|each| t.in_parts(text, size, special, &Ctx::default(), each)).unwrap()
}

#[test]
fn a_text_is_cut_as_the_crate_does() {
    let (mut fast, mut parted) = (0, 0);
    for file in files() {
        let t = Hf::new(super::load(&file).unwrap());
        (fast, parted) = (fast + usize::from(t.fast.is_some()), parted + usize::from(t.seams.is_some()));
        for text in texts() {
            for special in [false, true] {
                let own = encode(&t, &text, WHOLE, special);
                let cut = cut(&t.inner, &text, 0, &Ctx::default()).unwrap();
                let mut offsets = cut.get_offsets().to_vec();
                let tokens = cut.get_tokens().to_vec();
                t.trim.iter().for_each(|p| trim(&text, tokens.iter().map(String::as_str), &mut offsets, *p));
                let want = t.inner.post_process(cut, None, special).unwrap();
                let at = format!("{} {text:?} {special}", file.display());
                assert_eq!(own.ids, want.get_ids(), "{at}");
                assert_eq!(own.tokens.iter().collect::<Vec<_>>(), want.get_tokens(), "{at}");
                let mask: Vec<u32> = own.special_mask.iter().map(|m| (*m).into()).collect();
                let of_text = |i: &usize| want.get_special_tokens_mask()[*i] == 0;
                let cut: Vec<_> = (0..mask.len()).filter(of_text).map(|i| own.offsets_byte[i]).collect();
                assert_eq!(cut, offsets, "{at}");
                assert_eq!(own.type_ids, want.get_type_ids(), "{at}");
                assert_eq!(mask, want.get_special_tokens_mask(), "{at}");
            }
        }
    }
    assert!(fast > 3 && parted > 5, "{fast} fast, {parted} in parts");
}

#[test]
fn parts_of_a_text_are_cut_as_the_whole() {
    let mut seen = Vec::new();
    for file in files() {
        let t = Hf::new(super::load(&file).unwrap());
        let Some(seams) = &t.seams else { continue };
        let mut parted = 0;
        for (i, text) in texts().enumerate() {
            let (size, special) = (1 + i % 7, i % 2 == 0);
            parted += seams.parts(&t.inner, &text, size).count();
            let (parts, whole) = (encode(&t, &text, size, special), encode(&t, &text, WHOLE, special));
            assert_eq!(parts, whole, "{} {text:?} {size}", file.display());
        }
        seen.push((file, parted));
    }
    assert!(seen.len() > 5 && seen.iter().all(|(_, n)| *n > 500), "{seen:?}");
}

#[test]
fn a_text_that_is_one_word_is_parted_where_no_token_goes_on_over_a_space() {
    let pairs = [("▁", "▁"), ("▁▁", "a"), ("▁", "a"), ("a", "b"), ("▁a", "b"), ("!", "▁"), ("1", "2"), ("▁", "1")];
    let letters = ["▁", "a", "b", "!", "1", "2", "f", "o", "x", "<unk>", "<0xC3>", "<0xA9>"].map(String::from);
    let spelt = pairs.iter().map(|(a, b)| format!("{a}{b}"));
    let vocab: Vec<String> = letters.into_iter().chain(spelt).collect();
    let added = json!([
        { "id": 400, "content": "<s>", "single_word": false, "lstrip": true, "rstrip": true, "normalized": false, "special": true },
    ]);
    let write = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    let put = json!({ "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "▁" }, write] });
    let meta =
        |scheme: &str| json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false });
    let split =
        json!({ "type": "Split", "pattern": { "String": " " }, "behavior": "MergedWithPrevious", "invert": false });
    let steps =
        [(put, json!(null)), (write.clone(), split), (json!(null), meta("first")), (json!(null), meta("never"))];
    let of = |(normal, pre): &(Value, Value), more: &[&str], bytes: bool| {
        let all = vocab.iter().map(String::as_str).chain(more.iter().copied());
        let ids: serde_json::Map<String, Value> = all.enumerate().map(|(i, t)| (t.into(), i.into())).collect();
        let model = json!({ "type": "BPE", "vocab": ids, "merges": pairs, "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": bytes });
        let t = json!({ "version": "1.0", "added_tokens": added, "normalizer": normal, "pre_tokenizer": pre, "model": model });
        Hf::new(from_bytes(t.to_string().as_bytes()).unwrap())
    };
    let more = ["ab  ab a  1 é 12 ab! ab é", "  ab ab <s> ab ab  <s>ab ab", "ab   a 1"].map(|t| t.repeat(9));
    for (step, bytes) in steps.iter().flat_map(|s| [(s, false), (s, true)]) {
        let t = of(step, &[], bytes);
        let seams = t.seams.as_ref().unwrap_or_else(|| panic!("no seams for {step:?}"));
        let mut parted = 0;
        for (i, text) in texts().chain(more.clone()).enumerate() {
            parted += seams.parts(&t.inner, &text, 1 + i % 5).count();
            let (parts, whole) = (encode(&t, &text, 1 + i % 5, false), encode(&t, &text, WHOLE, false));
            assert_eq!(parts, whole, "{step:?} {text:?}");
        }
        assert!(parted > 450, "{step:?}: {parted}");
        assert!(of(step, &["b▁a"], bytes).seams.is_none(), "a token goes on over a space");
    }
}

#[test]
fn parts_by_every_step_that_ends_words_are_cut_as_the_whole() {
    let mut vocab: serde_json::Map<String, Value> =
        crate::tokenize::bpe::byte_alphabet().iter().enumerate().map(|(i, c)| (c.to_string(), i.into())).collect();
    let pairs =
        [("Ġ", "Ġ"), ("Ġ", "a"), ("a", "Ġ"), ("Ċ", "Ċ"), ("1", "2"), ("x", "Ġ"), ("!", "?"), ("!", "Ċ"), ("Ċ", "Ġ")];
    for (a, b) in pairs {
        vocab.insert(format!("{a}{b}"), vocab.len().into());
    }
    vocab.extend([("▁".to_string(), vocab.len().into()), ("<unk>".to_string(), (vocab.len() + 1).into())]);
    let model = json!({ "type": "BPE", "vocab": vocab, "merges": pairs, "unk_token": "<unk>", "fuse_unk": false });
    let meta =
        |scheme: &str| json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true });
    let mut steps: Vec<Value> = PARTED.iter().map(|p| by_patterns(&[r"\p{N}{1,3}", p])).collect();
    steps.extend([true, false].map(|prefix| byte_level(true, prefix)));
    steps.extend(["first", "always", "never"].map(meta));
    steps.extend(["BertPreTokenizer", "Whitespace", "WhitespaceSplit"].map(|t| json!({ "type": t })));
    let normals = [json!(null), json!({ "type": "NFC" }), json!({ "type": "NFKD" }), json!({ "type": "Lowercase" })];
    let added = json!([
        { "id": 400, "content": "<s>", "single_word": false, "lstrip": true, "rstrip": true, "normalized": false, "special": true },
        { "id": 401, "content": "fox", "single_word": true, "lstrip": false, "rstrip": true, "normalized": true, "special": false },
    ]);
    for pre in &steps {
        for normal in &normals {
            let t = json!({ "version": "1.0", "added_tokens": added, "normalizer": normal, "pre_tokenizer": pre, "model": model });
            let t = Hf::new(from_bytes(t.to_string().as_bytes()).unwrap());
            let seams = t.seams.as_ref().unwrap_or_else(|| panic!("no seams for {pre}"));
            let mut parted = 0;
            for (i, text) in texts().enumerate() {
                parted += seams.parts(&t.inner, &text, 1 + i % 5).count();
                let (parts, whole) = (encode(&t, &text, 1 + i % 5, false), encode(&t, &text, WHOLE, false));
                assert_eq!(parts, whole, "{pre} {normal} {text:?}");
            }
            assert!(parted > 450, "{pre}: {parted}");
        }
    }
}
