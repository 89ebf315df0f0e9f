//! The cut by hand against that of the crate, whole and in parts.

use super::*;

impl Tiktoken {
    fn encode(&self, text: &str, ctx: &Ctx) -> Result<Encoding> {
        Encoding::of_parts(|each| self.encode_each(text, ctx, each))
    }
}

/// Every vocabulary once, without its other name.
const VOCABULARIES: &[&str] = NAMES.split_at(1).1;

fn reference(name: &str) -> &'static tiktoken_rs::CoreBPE {
    match name {
        "p50k_base" => tiktoken_rs::p50k_base_singleton(),
        "cl100k_base" => tiktoken_rs::cl100k_base_singleton(),
        "o200k_base" => tiktoken_rs::o200k_base_singleton(),
        _ => tiktoken_rs::r50k_base_singleton(),
    }
}

/// Numbers below `n`, the same ones every time.
fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |n| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    }
}

/// Texts in which every alternative of every expression meets every other: pieces at random, and any characters.
fn texts(count: usize) -> impl Iterator<Item = String> {
    let pieces = [
        "a",
        "B",
        "The",
        "ABC",
        "abcDEF",
        " fox",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\r",
        "\t",
        "\u{a0}",
        "\u{3000}",
        "\u{85}",
        "\u{2028}",
        "1",
        "12",
        "3456",
        "²",
        "Ⅷ",
        "½",
        "٣",
        "'",
        "'s",
        "'S",
        "'ſ",
        "'t",
        "'ll",
        "'LL",
        "'l",
        "'Ve",
        "'re",
        "'d",
        "’s",
        "!",
        "?!",
        "/",
        "//",
        "…",
        "_",
        "-",
        "漢",
        "字",
        "あ",
        "ー",
        "é",
        "e\u{301}",
        "\u{301}",
        "\u{300}\u{301}",
        "ǅ",
        "ʰ",
        "ª",
        "ß",
        "Ω",
        "ω",
        "ﬁ",
        "नमस्ते",
        "שלום",
        "👩\u{200d}👧",
        "🚂",
        "\u{200b}",
        "\u{feff}",
        "\u{0}",
        "\u{10ffff}",
        "<|endoftext|>",
        "\u{e000}",
        "ſ",
        "K",
    ];
    let mut next = numbers(1);
    (0..count).map(move |i| {
        let any =
            |next: &mut dyn FnMut(usize) -> usize| char::from_u32(next(0x3_0000) as u32).unwrap_or('x').to_string();
        (0..i % 28)
            .map(|_| if next(8) == 0 { any(&mut next) } else { pieces[next(pieces.len())].to_string() })
            .collect()
    })
}

#[test]
fn every_text_is_cut_as_the_crate_cuts_it() {
    for name in VOCABULARIES {
        let (t, bare) = (Tiktoken::named(name).unwrap(), reference(name));
        for text in texts(8_000) {
            let e = t.encode(&text, &Ctx::default()).unwrap();
            assert_eq!(e.ids, bare.encode_ordinary(&text), "{name}: {text:?}");
            let spelled: Vec<u8> = e.ids.iter().flat_map(|id| bare.decode_bytes(&[*id]).unwrap()).collect();
            assert_eq!(spelled, text.as_bytes());
            let mut at = 0;
            for (id, (start, end)) in e.ids.iter().zip(&e.offsets_byte) {
                assert_eq!((*start, t.bytes(*id)), (at, text.as_bytes().get(*start..*end)), "{name}: {text:?}");
                at = *end;
            }
            assert_eq!(at, text.len());
        }
    }
}

#[test]
fn every_id_spells_what_the_crate_says() {
    for name in VOCABULARIES {
        let (t, bare) = (Tiktoken::named(name).unwrap(), reference(name));
        for id in 0..t.vocab_size() as u32 + 10 {
            assert_eq!(
                t.bytes(id).map(<[u8]>::to_vec),
                bare.decode_bytes(&[id]).ok().filter(|_| (id as usize) < t.vocab_size())
            );
        }
        assert!((0..=255).all(|b| t.id(&[b]).is_some()), "{name}: every byte is a token");
    }
}

#[test]
fn parts_of_a_text_are_cut_as_the_whole() {
    for name in VOCABULARIES {
        let t = Tiktoken::named(name).unwrap();
        let ctx = Ctx::default();
        let (mut parted, mut next) = (0, numbers(7));
        for text in texts(4_000) {
            let whole = t.cut(0, &text, &ctx).unwrap();
            let mut parts = Encoding::default();
            for part in words::parts(&text, next(9)) {
                assert!(text[part.0..].starts_with(part.1));
                parts.append(t.cut(part.0, part.1, &ctx).unwrap());
                parted += 1;
            }
            assert_eq!(parts, whole, "{name}: {text:?}");
        }
        assert!(parted > 10_000, "{name}: {parted} parts");
    }
}

#[test]
fn a_long_text_is_cut_in_parts_and_can_be_cancelled() {
    let line = "The naïve fox (aged 12) didn't jump!\n\n  Over 3 words…\r\n\tNEXT line. 漢字。\n";
    let text = line.repeat(3 * PART / line.len());
    assert_eq!(words::parts(&text, PART).count(), 3);
    let stop = Ctx::new(std::sync::Arc::new(true.into()), std::sync::Arc::new(|_| ()));
    for name in VOCABULARIES {
        let t = Tiktoken::named(name).unwrap();
        let e = t.encode(&text, &Ctx::default()).unwrap();
        assert_eq!(e.ids, reference(name).encode_ordinary(&text), "{name}");
        assert_eq!(e.offsets_byte.last().map(|o| o.1), Some(text.len()));
        assert!(t.encode(&text, &stop).is_err());
    }
}

#[test]
fn long_words_without_end_are_cut_in_time() {
    let t = Tiktoken::named("cl100k_base").unwrap();
    let mut next = numbers(3);
    for n in [60, 70, 300, 3_000] {
        let word: String = (0..n).map(|_| char::from(b'a' + next(4) as u8)).collect();
        assert_eq!(t.encode(&word, &Ctx::default()).unwrap().ids, reference("cl100k_base").encode_ordinary(&word));
    }
    let e = t.encode(&"abcab".repeat(400_000), &Ctx::default()).unwrap();
    assert_eq!(e.offsets_byte.last().map(|o| o.1), Some(2_000_000));
}
