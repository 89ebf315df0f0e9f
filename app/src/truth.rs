//! What is known about inputs that the program makes itself: the answer, and the pixels or words that decide it.

use std::ops::Range;
use tokenscope_analysis::trace::TowerTrace;
use tokenscope_analysis::truth::{Mask, of_bytes, of_mask};
use tokenscope_generate::scenes::{Question, SIDE, Scene};
use tokenscope_generate::stories::{Link, Story};

/// Where what decides an answer lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Region {
    /// Bytes of the prompt.
    Bytes(Vec<Range<usize>>),
    /// Pixels of the picture.
    Pixels(Mask),
}

/// The right answer after the last token of a prompt, and what decides it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truth {
    /// The prompt.
    pub prompt: String,
    /// The answer, without the space before it.
    pub answer: String,
    /// What follows the prompt up to the answer's end: the answer with its space. Tokenizers hold the space before a
    /// word or number in one token with it, so it is no part of the prompt.
    pub continuation: String,
    /// What decides it.
    pub region: Region,
}

impl Truth {
    /// The truth about a story's link. The prompt is the story up to the answer.
    pub fn of_story(story: &Story, link: &Link) -> Self {
        let (before, until) = (&story.text[..link.answer.start], &story.text[..link.answer.end]);
        let prompt = before.trim_end().to_string();
        let continuation = until[prompt.len()..].trim_end().to_string();
        let answer = continuation.trim_start().to_string();
        Self { prompt, answer, continuation, region: Region::Bytes(link.deciders.clone()) }
    }

    /// The truth about a question; `None` where nothing in the picture decides its answer, as with a thing that is
    /// not there.
    pub fn of_question(scene: &Scene, question: &Question) -> Option<Self> {
        let mask = Mask { width: SIDE, inside: scene.mask(&question.items) };
        let there = mask.inside.contains(&true);
        there.then(|| Self {
            prompt: question.text.clone(),
            answer: question.answer.clone(),
            continuation: format!(" {}", question.answer),
            region: Region::Pixels(mask),
        })
    }

    /// Per token the share of it that decides the answer; `None` for tokens that do not compete. `None` altogether
    /// where the tower holds nothing that could be true, e.g. the tower of a text model for a picture.
    pub fn shares(&self, tower: &TowerTrace) -> Option<Vec<Option<f32>>> {
        let shares = match &self.region {
            Region::Bytes(deciders) => of_bytes(&tower.tokens, deciders, &self.prompt),
            Region::Pixels(mask) if tower.has_image() => of_mask(&tower.tokens, mask),
            Region::Pixels(_) => return None,
        };
        shares.iter().flatten().any(|s| *s > 0.0).then_some(shares)
    }

    /// The pixels, where it is about a picture.
    pub fn mask(&self) -> Option<&Mask> {
        match &self.region {
            Region::Pixels(mask) => Some(mask),
            Region::Bytes(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenscope_analysis::token::{Source, Token, TokenKind};
    use tokenscope_generate::HELD_OUT;
    use tokenscope_generate::stories::Theme;

    fn tower(tokens: Vec<Token>) -> TowerTrace {
        let (attention, grids) = (Vec::new(), Vec::new());
        TowerTrace { tokens, n_layers: 0, width: 0, attention, grids, n_tiles: 1, class_token: None }
    }

    #[test]
    fn a_story_by_hand() {
        let text = "Ada: 47; Ben: 13. The number of Ben is 13.".to_string();
        let at = |word: &str, from: usize| {
            let start = from + text[from..].find(word).unwrap();
            start..start + word.len()
        };
        let link = Link { answer: at("13", 20), deciders: vec![at("13", 0), at("Ben", 0), at("Ben", 20)] };
        let story = Story { theme: Theme::KeyValue, text: text.clone(), links: vec![link] };
        let t = Truth::of_story(&story, &story.links[0]);
        assert_eq!((t.prompt.as_str(), t.answer.as_str()), ("Ada: 47; Ben: 13. The number of Ben is", "13"));
        assert_eq!(t.continuation, " 13");
        // Words with their spaces, the space before a number and its digits alone.
        let cuts = [0, 3, 4, 5, 6, 7, 8, 12, 13, 14, 15, 16, 17, 21, 28, 31, 35, 38];
        let token = |w: &[usize]| Token {
            id: None,
            text: text[w[0]..w[1]].into(),
            kind: TokenKind::Text,
            source: Source::Bytes { start: w[0], end: w[1] },
        };
        let tower = tower(cuts.windows(2).map(token).collect());
        let shares = t.shares(&tower).unwrap();
        let deciding: Vec<&str> =
            shares.iter().zip(&tower.tokens).filter(|(s, _)| **s == Some(1.0)).map(|(_, t)| t.text.as_str()).collect();
        assert_eq!(deciding, [" Ben", "1", "3", " Ben"]);
        assert!(shares.iter().all(|s| matches!(s, Some(v) if *v == 0.0 || *v == 1.0)));
    }

    #[test]
    fn what_is_not_there_decides_nothing() {
        let scene = Scene::new(HELD_OUT);
        let mut question = scene.questions().remove(0);
        question.items.clear();
        assert_eq!(Truth::of_question(&scene, &question), None);
    }
}
