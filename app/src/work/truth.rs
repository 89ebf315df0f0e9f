//! What decides the answer of a run, where the program made the input itself.

use crate::examples;
use crate::jobs::{Ask, Store};
use crate::keys::RunKey;
use crate::picture_source::PictureSource;
use crate::truth::Truth;
use std::sync::Arc;
use tokenscope_analysis::{Ctx, Result};
use tokenscope_generate::scenes::Scene;

/// What decides the answer of a run; `None` comes back where nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TruthOf(pub RunKey);

impl Ask for TruthOf {
    type Out = Option<Arc<Truth>>;

    fn carry_out(&self, _: &Store, _: &Ctx) -> Result<Self::Out> {
        Ok(self.find().map(Arc::new))
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.0)
    }
}

impl TruthOf {
    /// The truth about the last token's prediction in this run: of a drawn scene with one of its own questions, or of
    /// a story in the gallery.
    pub fn find(&self) -> Option<Truth> {
        let run = &self.0;
        if let Some(PictureSource::Scene(seed)) = run.image {
            let scene = Scene::new(seed);
            let question = scene.questions().into_iter().find(|q| *q.text == *run.prompt)?;
            return Truth::of_question(&scene, &question);
        }
        examples::ALL.iter().find_map(|e| e.story_truth().filter(|t| *t.prompt == *run.prompt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::ModelSource;
    use tokenscope_analysis::token::{Source, Token, TokenKind};
    use tokenscope_analysis::trace::TowerTrace;
    use tokenscope_generate::HELD_OUT;
    use tokenscope_generate::scenes::{self, SIDE};

    fn of(run: &RunKey) -> Option<Truth> {
        TruthOf(run.clone()).find()
    }

    fn tower(tokens: Vec<Token>) -> TowerTrace {
        let (attention, grids) = (Vec::new(), Vec::new());
        TowerTrace { tokens, n_layers: 0, width: 0, attention, grids, n_tiles: 1, class_token: None }
    }

    #[test]
    fn a_scene_asked_in_its_own_words_is_known_and_its_patches_are_those_of_the_generator() {
        let scene = Scene::new(HELD_OUT + 23);
        let question = scene.questions().into_iter().find(|q| q.ask == scenes::Ask::Color).unwrap();
        let image = Some(PictureSource::test_scene(23));
        let run = RunKey {
            model: ModelSource::Sample("sample-lm"),
            prompt: question.text.as_str().into(),
            image,
            placement: Default::default(),
        };
        let t = of(&run).unwrap();
        assert_eq!((&t.prompt, &t.answer), (&question.text, &question.answer));
        let n = SIDE / 8;
        let patch = |i: usize| Token {
            id: None,
            text: String::new(),
            kind: TokenKind::Image,
            source: Source::Rect { x: (i % n * 8) as f32, y: (i / n * 8) as f32, w: 8.0, h: 8.0 },
        };
        let shares = t.shares(&tower((0..n * n).map(patch).collect())).unwrap();
        let want = scene.patch_shares(&question.items, 8);
        assert!(want.iter().any(|w| *w > 0.5));
        for (got, want) in shares.iter().zip(want) {
            assert!((got.unwrap() - want).abs() < 1e-5, "{got:?} {want}");
        }
        assert_eq!(t.shares(&tower(Vec::new())), None);
        let other = RunKey { prompt: "What is this?".into(), ..run.clone() };
        assert_eq!(of(&other), None);
        assert_eq!(of(&RunKey { image: None, ..run }), None);
    }
}
