//! How words are found before they are cut, by the names that GGUF files have for it (`tokenizer.ggml.pre`).
//!
//! Names and patterns: llama.cpp, `llama-vocab.cpp`, where each pattern cuts what the one before has left; patterns that
//! it had to write around its own engine stand here as the models' own files have them.

use super::recipe;

/// How GPT-2 finds words.
pub(super) const GPT2: &str = recipe::GPT2;

/// What a name means.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    /// What is cut out, one after the other.
    pub patterns: &'static [&'static str],
    /// Whether a word that is in the vocabulary is a token whatever the merges say.
    pub whole: bool,
    /// Whether a text begins with the start token where the file does not say.
    pub bos: bool,
    /// Whether letters and their accents are put together first.
    pub composed: bool,
    /// Whether the name is not known, so that this is a guess.
    pub guessed: bool,
}

/// Upper-case runs, lower-case runs, single digits (Mistral's Tekken).
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with contractions and numbers of up to three digits (GPT-4o).
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 3.5: marks belong to letters.
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const SEED: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const EXAONE_MOE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
/// Chinese and Japanese of DeepSeek's later models.
pub(super) const CJK: &str = r"[一-龥぀-ゟ゠-ヿ]+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
/// Letters with upper and lower case of DeepSeek's first models.
const DEEPSEEK_LETTERS: &str = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝ\x{1F5F}-\x{1F7D}ᾀ-ᾴᾶ-ᾼ\x{1FBE}ῂ-ῄῆ-ῌῐ-\x{1FD3}ῖ-\x{1FDB}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

/// Patterns that find words, and of which no alternative goes on from a letter or a number to white space, or looks at what follows it.
pub(super) const PARTED: &[&str] =
    &[GPT2, recipe::LLAMA3, recipe::QWEN2, TEKKEN, GPT4O, QWEN35, BAILING, SEED, DEEPSEEK3];

/// What the name `pre` means; a guess where it is not known.
pub(super) fn of(pre: &str) -> Words {
    let plain = |patterns: &'static [&'static str]| Words {
        patterns,
        whole: false,
        bos: false,
        composed: false,
        guessed: false,
    };
    match pre {
        "gpt-2" | "gpt2" | "phi-2" | "jina-es" | "jina-de" | "jina-v1-en" | "jina-v2-es" | "jina-v2-de"
        | "jina-v2-code" | "roberta-bpe" | "gigachat" | "a.x-4.0" | "mellum" | "modern-bert" | "mpt" | "olmo"
        | "jais" | "trillion" | "granite-docling" | "exaone4" => plain(&[GPT2]),
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
        | "jina-v5-nano" => Words { whole: true, bos: true, ..plain(&[recipe::LLAMA3]) },
        "dbrx" | "smaug-bpe" | "glm4" | "chatglm-bpe" => plain(&[recipe::LLAMA3]),
        "qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "megrez" => {
            Words { composed: true, ..plain(&[recipe::QWEN2]) }
        }
        "stablelm2" | "hunyuan" | "solar-open" | "grok-2" => plain(&[recipe::QWEN2]),
        "qwen35" => Words { composed: true, ..plain(&[QWEN35]) },
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => {
            plain(&[r"\p{N}", GPT2])
        }
        "tekken" => Words { whole: true, bos: true, ..plain(&[TEKKEN]) },
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => plain(&[GPT4O]),
        "tiny_aya" | "cohere2moe" => plain(&[r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O]),
        "deepseek-llm" => plain(&[
            r"[\r\n]",
            DEEPSEEK_LETTERS,
            r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
            r"\s+$",
            "[一-龥ࠀ-一가-퟿]+",
            r"\p{N}+",
        ]),
        "deepseek-coder" => plain(&[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"]),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => plain(&[r"\p{N}{1,3}", CJK, DEEPSEEK3]),
        "falcon" => plain(&[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
        "poro-chat" | "bloom" | "gpt3-finnish" => plain(&[BLOOM]),
        "viking" => plain(&[BLOOM, r"\p{N}"]),
        "bailingmoe" | "bailingmoe2" | "llada-moe" => plain(&[BAILING]),
        "seed-coder" => plain(&[SEED]),
        "exaone-moe" => plain(&[EXAONE_MOE]),
        "superbpe" => plain(&[r"\p{N}+", r"(?=(\d{3})+(?!\d))"]),
        "chameleon" => Words {
            bos: true,
            ..plain(&[
                "<sentinel:[0-9]+>",
                "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
                r"([\t\n]|    |  )",
                r"\p{N}",
                r"[\p{P}!-/:-@\[-`{-~]",
                GPT2,
            ])
        },
        // Files of before the names, and "default", mean what llama.cpp does without one.
        name => Words {
            guessed: !matches!(name, "" | "default"),
            ..plain(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"])
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::utils::SysRegex;

    #[test]
    fn every_pattern_is_read_and_unknown_names_are_guesses() {
        let names = "gpt-2 llama-bpe dbrx qwen2 stablelm2 qwen35 smollm tekken gpt-4o tiny_aya deepseek-llm \
            deepseek-coder deepseek-v3 falcon bloom viking bailingmoe seed-coder exaone-moe superbpe chameleon default";
        for name in names.split_whitespace() {
            let words = of(name);
            assert!(!words.guessed, "{name}");
            for p in words.patterns {
                assert!(SysRegex::new(p).is_ok(), "{name}: {p}");
            }
        }
        assert!(of("magic").guessed && !of("").guessed);
    }

    #[test]
    fn upper_and_lower_case_runs_are_apart_in_tekken() {
        let text = "It's PANIC McDonald 2024";
        let found = SysRegex::new(TEKKEN).unwrap();
        let parts: Vec<&str> = found.find_iter(text).map(|(a, b)| &text[a..b]).collect();
        assert_eq!(parts, ["It", "'s", " PANIC", " Mc", "Donald", " ", "2", "0", "2", "4"]);
    }
}
