//! Prompt lookup: the end of the text is looked up in the text before, and what followed there is the guess.
//!
//! Source: Saxena 2023, "Prompt Lookup Decoding", apoorvumang/prompt-lookup-decoding, as transformers has it
//! (`PromptLookupCandidateGenerator`). Takes: the text so far. Gives: a chain per round, empty where the end is new. Departs:
//! with more than one place, what follows each branches off in a tree; with one it is the authors' chain. Lossless.

use crate::Result;
use crate::ctx::Ctx;
use crate::decode::chance::Chance;
use crate::decode::cut::{TOP_K, TOP_P};
use crate::decode::engine::{Draft, NEW, TEMPERATURE, Turn};
use crate::decode::tree::Tree;
use crate::decode::verify::{self, Verify};
use crate::decode::{Method, SEED, With};
use crate::method::{Basis, Info, Kind, Need, Param, Params};

const SIZE: Param = Param::count("tree_size", "Tokens drafted per round, at most", 1, 256, 10);
const WORDS: Param =
    Param::count("ngram", "Last tokens of the text that are looked up, at most; fewer where so many are new", 1, 16, 3);
const PLACES: Param = Param::count("places", "Places in the text that may be gone on from; 1 drafts a chain", 1, 16, 1);
const LENGTH: Param = Param::count("length", "Tokens taken from each place, at most", 1, 64, 10);

static INFO: Info = Info {
    id: "prompt_lookup",
    title: "Prompt lookup",
    summary: "Drafts what followed the same words earlier in the text, without a model.",
    family: "speculative",
    basis: Basis::Baseline,
    departs: "Saxena's prompt lookup decoding, of which there is no paper; more places than one branch off in a tree",
    needs: &[Need::Writes],
    params: &[SIZE, WORDS, PLACES, LENGTH, NEW, verify::PUT, TEMPERATURE, TOP_K, TOP_P, SEED],
    budget: Some(&SIZE),
    ..Info::of(Kind::Draft)
};

pub(super) struct PromptLookup;

impl Method for PromptLookup {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn draft<'a>(&self, _: &With<'a>, params: &Params, _: &Ctx) -> Result<Box<dyn Draft + 'a>> {
        let of = |p| params.count(p) as usize;
        Ok(Box::new(Lookup { size: of(&SIZE), words: of(&WORDS), places: of(&PLACES), length: of(&LENGTH) }))
    }

    fn verify<'a>(&self, _: &With<'a>, params: &Params, _: &Ctx) -> Result<Box<dyn Verify + 'a>> {
        Ok(verify::chosen(params, &verify::PUT))
    }
}

struct Lookup {
    size: usize,
    words: usize,
    places: usize,
    length: usize,
}

impl Lookup {
    /// Places behind which the longest end of `text` that was there before stood, the first one first.
    fn found(&self, text: &[u32]) -> Vec<usize> {
        for n in (1..=self.words.min(text.len().saturating_sub(1))).rev() {
            let end = &text[text.len() - n..];
            let same = (n..text.len()).filter(|&at| &text[at - n..at] == end);
            let found: Vec<usize> = same.take(self.places).collect();
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }
}

impl Draft for Lookup {
    fn grow(&mut self, turn: &Turn, _: &mut dyn Chance, ctx: &Ctx) -> Result<Tree> {
        ctx.check()?;
        let (text, mut tree) = (turn.text, Tree::new(turn.root()));
        for place in self.found(text) {
            let mut at = 0;
            for &id in text[place..].iter().take(self.length.min(turn.room)) {
                let known = tree.children(at).find(|&c| tree.nodes()[c].token == id);
                at = match known {
                    Some(child) => child,
                    None if tree.len() > self.size => break,
                    None => tree.push(at, id, None, None),
                };
            }
        }
        Ok(tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::chance::Seeded;

    #[test]
    fn what_followed_the_same_words_is_drafted() {
        let grow = |text: &[u32], words, places, length, size| {
            let turn = Turn { text, room: 9, temperature: 0.0 };
            let mut lookup = Lookup { size, words, places, length };
            let tree = lookup.grow(&turn, &mut Seeded::new(0), &Ctx::default()).unwrap();
            (tree.tokens()[1..].to_vec(), tree.parents()[1..].to_vec())
        };
        // 1 2 stood at the start and was followed by 3 1 2 up to the end of the text.
        assert_eq!(grow(&[1, 2, 3, 1, 2], 3, 1, 9, 9), (vec![3, 1, 2], vec![0, 1, 2]));
        assert_eq!(grow(&[1, 2, 3, 1, 2], 3, 1, 2, 9).0, [3, 1]);
        assert_eq!(grow(&[1, 2, 3, 1, 2], 3, 1, 9, 1).0, [3]);
        // 7 stood at two places before; both go on with 8 and part behind it.
        let text = [7, 8, 1, 7, 8, 2, 7];
        assert_eq!(grow(&text, 1, 1, 2, 9).0, [8, 1]);
        assert_eq!(grow(&text, 1, 2, 2, 9), (vec![8, 1, 2], vec![0, 1, 1]));
        // Nothing of it is new, or all.
        assert!(grow(&[1, 2, 3], 3, 1, 9, 9).0.is_empty() && grow(&[1], 3, 1, 9, 9).0.is_empty());
    }
}
