//! Signs for characters that cannot be seen.

use std::borrow::Cow;
use unicode_segmentation::UnicodeSegmentation;

/// The sign of a character, as readers count them, that would leave an empty place: white space, controls, marks of
/// direction, joiners that join nothing. `None` for one that is seen.
pub fn sign(character: &str) -> Option<Cow<'static, str>> {
    let known = match character {
        " " => "·",
        "\n" => "⏎",
        "\t" => "→",
        "\r" => "←",
        "\r\n" => "←⏎",
        other => {
            let unseen = !other.is_empty() && other.chars().all(unseen);
            let code = |c: char| format!("U+{:04X}", u32::from(c));
            return unseen.then(|| other.chars().map(code).collect::<Vec<_>>().join(" ").into());
        }
    };
    Some(known.into())
}

/// `text` with signs for what cannot be seen.
pub fn seen(text: &str) -> String {
    text.graphemes(true).map(|g| sign(g).unwrap_or(Cow::Borrowed(g))).collect()
}

/// Characters without a shape of their own; most of them Unicode calls ignorable by default.
fn unseen(c: char) -> bool {
    c.is_control()
        || c.is_whitespace()
        || matches!(u32::from(c),
            0xAD | 0x34F | 0x61C | 0x115F | 0x1160 | 0x17B4 | 0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F
            | 0x202A..=0x202E | 0x2060..=0x206F | 0x2800 | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0
            | 0xFFF0..=0xFFFB | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A | 0xE0000..=0xE0FFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_has_a_sign_and_the_rest_stays() {
        assert_eq!(seen("a b\t\r\n"), "a·b→←⏎");
        assert_eq!(seen("\u{200b}x\u{feff}"), "U+200BxU+FEFF");
        assert_eq!(seen("\u{202e}\u{85}\u{a0}\u{3000}"), "U+202EU+0085U+00A0U+3000");
        // A joiner between two figures, and an accent on a letter, belong to what is seen.
        for own in ["👩\u{200d}👧", "e\u{301}", "❤\u{fe0f}", "漢字"] {
            assert_eq!(seen(own), own);
        }
        assert_eq!(sign("a"), None);
    }
}
