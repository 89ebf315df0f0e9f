//! How byte-pair encoding arrives at its pieces: the merges of one pre-token, in order.

use std::collections::HashMap;

/// One merge as it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Rank of the rule; lower is learned earlier.
    pub rank: usize,
    /// Index of the left piece at that moment.
    pub index: usize,
    /// Left piece.
    pub left: String,
    /// Right piece.
    pub right: String,
}

/// Merges of `word`, starting from its characters: always the lowest rank, leftmost first.
pub fn merge_history(word: &str, ranks: &HashMap<(&str, &str), usize>) -> Vec<Step> {
    let mut pieces: Vec<String> = word.chars().map(String::from).collect();
    let mut out = Vec::new();
    loop {
        let best = pieces
            .windows(2)
            .enumerate()
            .filter_map(|(i, w)| ranks.get(&(w[0].as_str(), w[1].as_str())).map(|&r| (r, i)))
            .min();
        let Some((rank, index)) = best else { return out };
        let right = pieces.remove(index + 1);
        let left = std::mem::take(&mut pieces[index]);
        pieces[index] = format!("{left}{right}");
        out.push(Step { rank, index, left, right });
    }
}

/// The same for vocabularies where a pair's rank is that of what it makes: merges of bytes into `word`.
/// `rank` gives the rank of a piece, `spell` how it is written.
pub fn byte_merge_history(
    word: &[u8],
    rank: &dyn Fn(&[u8]) -> Option<usize>,
    spell: &dyn Fn(&[u8]) -> String,
) -> Vec<Step> {
    let mut pieces: Vec<Vec<u8>> = word.iter().map(|b| vec![*b]).collect();
    let mut out = Vec::new();
    loop {
        let best = pieces.windows(2).enumerate().filter_map(|(i, w)| rank(&w.concat()).map(|r| (r, i))).min();
        let Some((rank, index)) = best else { return out };
        let right = pieces.remove(index + 1);
        out.push(Step { rank, index, left: spell(&pieces[index]), right: spell(&right) });
        pieces[index].extend(right);
    }
}

/// GPT-2's letter for every byte: printable ones stand for themselves, the rest are moved above U+0100.
pub fn byte_alphabet() -> [char; 256] {
    let mut out = ['\0'; 256];
    let mut next = 256;
    for (b, c) in out.iter_mut().enumerate() {
        let printable = matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = if printable { b as u32 } else { next };
        next += u32::from(!printable);
        *c = char::from_u32(code).unwrap_or('\u{fffd}');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_rank_merges_first() {
        let ranks = HashMap::from([(("a", "b"), 1), (("b", "c"), 0), (("a", "bc"), 2)]);
        let steps = merge_history("abc", &ranks);
        assert_eq!(steps.iter().map(|s| (s.rank, s.index)).collect::<Vec<_>>(), [(0, 1), (2, 0)]);
    }

    #[test]
    fn the_space_is_a_g_with_a_dot() {
        assert_eq!(byte_alphabet()[b' ' as usize], 'Ġ');
    }
}
