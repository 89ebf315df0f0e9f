//! Which tokens are selected and which are hovered: one of each for the whole window.

use serde::{Deserialize, Deserializer, Serialize};

/// Selected tokens of the shown stack of layers. The anchor is the one that was clicked; shift extends from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Selection {
    /// Ascending, without doubles.
    #[serde(deserialize_with = "ascending")]
    tokens: Vec<usize>,
    anchor: Option<usize>,
}

/// Numbers of a file, in the order that the code relies on.
fn ascending<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<usize>, D::Error> {
    let mut tokens = Vec::<usize>::deserialize(d)?;
    tokens.sort_unstable();
    tokens.dedup();
    Ok(tokens)
}

/// How a click changes the selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// This and nothing else; a second click on it releases it.
    Only,
    /// Everything from the anchor to here (shift).
    Extend,
    /// This one more, or no longer (Ctrl).
    Toggle,
}

impl Pick {
    /// What the held keys ask for.
    pub fn of(modifiers: egui::Modifiers) -> Self {
        match (modifiers.shift, modifiers.command) {
            (true, _) => Pick::Extend,
            (_, true) => Pick::Toggle,
            _ => Pick::Only,
        }
    }
}

impl Selection {
    /// One token.
    pub fn one(token: usize) -> Self {
        Self { tokens: vec![token], anchor: Some(token) }
    }

    /// The same of tokens below `n`.
    pub fn within(mut self, n: usize) -> Self {
        self.tokens.retain(|t| *t < n);
        self.anchor = self.anchor.filter(|a| *a < n && !self.tokens.is_empty());
        self
    }

    /// The tokens, ascending.
    pub fn tokens(&self) -> &[usize] {
        &self.tokens
    }

    /// The tokens as ranges, first and last of each.
    pub fn ranges(&self) -> Vec<(usize, usize)> {
        let each = self.tokens.chunk_by(|a, b| a + 1 == *b);
        each.filter_map(|run| Some((*run.first()?, *run.last()?))).collect()
    }

    /// Whether nothing is selected.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whether `token` is selected.
    pub fn contains(&self, token: usize) -> bool {
        self.tokens.binary_search(&token).is_ok()
    }

    /// The token that was clicked last without shift.
    pub fn anchor(&self) -> Option<usize> {
        self.anchor
    }

    /// The selection after a click on `first..=last` (one token, or those that a chip of another tokenizer covers).
    pub fn picked(&self, first: usize, last: usize, pick: Pick) -> Self {
        let here = || (first..=last).collect::<Vec<_>>();
        match (pick, self.anchor) {
            (Pick::Extend, Some(anchor)) => {
                let tokens = (anchor.min(first)..=anchor.max(last)).collect();
                Self { tokens, anchor: Some(anchor) }
            }
            (Pick::Toggle, Some(_)) => {
                let all = here().iter().all(|t| self.contains(*t));
                let mut tokens = self.tokens.clone();
                tokens.retain(|t| !(first..=last).contains(t));
                if !all {
                    tokens.extend(first..=last);
                    tokens.sort_unstable();
                }
                let anchor = if all { tokens.first().copied() } else { Some(first) };
                Self { tokens, anchor }
            }
            (Pick::Only, _) if self.tokens == here() => Self::default(),
            _ => Self { tokens: here(), anchor: Some(first) },
        }
    }

    /// The selection moved by one token within `0..n`, or grown by one where `extend` is set. Starts at the last
    /// token where nothing is selected.
    pub fn stepped(&self, n: usize, forward: bool, extend: bool) -> Self {
        let Some(last) = n.checked_sub(1) else { return Self::default() };
        let (Some(anchor), Some(&low), Some(&high)) = (self.anchor, self.tokens.first(), self.tokens.last()) else {
            return Self::one(last);
        };
        // The end that moves is the one away from the anchor.
        let end = if low < anchor { low } else { high };
        let to = if forward { (end + 1).min(last) } else { end.saturating_sub(1).min(last) };
        if extend { self.picked(to, to, Pick::Extend) } else { Self::one(to) }
    }
}

/// What the pointer is on, in the coordinates that views share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hover {
    /// First and last token of the shown stack of layers.
    pub tokens: Option<(usize, usize)>,
    /// Bytes of the prompt.
    pub bytes: Option<(usize, usize)>,
    /// Vocabulary id, which marks its other occurrences.
    pub id: Option<u32>,
    /// Place in the decoded text, counted from the first new token.
    pub decoded: Option<usize>,
}

impl Hover {
    /// Whether `token` is under the pointer.
    pub fn has(&self, token: usize) -> bool {
        self.tokens.is_some_and(|(a, b)| (a..=b).contains(&token))
    }

    /// The first hovered token.
    pub fn token(&self) -> Option<usize> {
        self.tokens.map(|t| t.0)
    }

    /// Whether the bytes `start..end` touch those under the pointer.
    pub fn touches(&self, start: usize, end: usize) -> bool {
        self.bytes.is_some_and(|(a, b)| start < b && a < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shift_extends_from_the_anchor_to_either_side() {
        let s = Selection::one(4).picked(6, 6, Pick::Extend);
        assert_eq!(s.tokens(), [4, 5, 6]);
        let s = s.picked(2, 2, Pick::Extend);
        assert_eq!((s.tokens(), s.anchor()), ([2, 3, 4].as_slice(), Some(4)));
    }

    #[test]
    fn a_second_click_releases_and_control_takes_out_one() {
        assert!(Selection::one(3).picked(3, 3, Pick::Only).is_empty());
        let s = Selection::one(3).picked(7, 8, Pick::Toggle);
        assert_eq!(s.tokens(), [3, 7, 8]);
        let s = s.picked(3, 3, Pick::Toggle);
        assert_eq!((s.tokens(), s.anchor()), ([7, 8].as_slice(), Some(7)));
        assert_eq!(Selection::default().picked(1, 2, Pick::Extend).tokens(), [1, 2]);
    }

    #[test]
    fn steps_stay_inside_and_grow_the_far_end() {
        assert_eq!(Selection::default().stepped(5, false, false).tokens(), [4]);
        assert_eq!(Selection::one(4).stepped(5, true, false).tokens(), [4]);
        assert_eq!(Selection::one(0).stepped(5, false, false).tokens(), [0]);
        let s = Selection::one(2).stepped(5, false, true).stepped(5, false, true);
        assert_eq!(s.tokens(), [0, 1, 2]);
        assert_eq!(s.stepped(5, true, true).tokens(), [1, 2]);
        assert!(Selection::one(2).stepped(0, true, false).is_empty());
    }

    #[test]
    fn hovering_bytes_touches_pieces_that_share_one() {
        let h = Hover { bytes: Some((3, 5)), tokens: Some((1, 2)), ..Hover::default() };
        assert!(h.touches(4, 9) && h.touches(0, 4) && !h.touches(5, 6) && !h.touches(0, 3));
        assert!(h.has(2) && !h.has(3));
    }
}
