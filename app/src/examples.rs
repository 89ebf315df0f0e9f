//! The gallery: named inputs with the methods and the place in the model at which they are worth a look.

use crate::keys::{Call, ModelSource, RunKey};
use crate::pane::Pane;
use crate::picture_source::PictureSource;
use crate::samples;
use crate::series_source::SeriesSource;
use crate::truth::Truth;
use std::fmt;
use std::sync::OnceLock;
use tokenscope_analysis::method::Params;
use tokenscope_generate::HELD_OUT;
use tokenscope_generate::scenes::{Ask, Scene};
use tokenscope_generate::stories::{Story, Theme};

/// What the model reads. Seeds count from the first that no training used.
enum Input {
    /// A text of which nothing is known.
    Text(&'static str),
    /// A story up to the answer of one of its links; negative ones count from the last.
    Story(Theme, u64, isize),
    /// A fact this many sentences before it is asked for.
    Needle(usize, u64),
    /// A look-up among this many names.
    Lookup(usize, u64),
    /// A text that is gone on from by filling in masks.
    Opening(&'static str),
    /// A scene and its first question of this kind.
    Scene(u64, Ask),
}

/// A named example.
pub struct Example {
    /// Name on the command line.
    pub id: &'static str,
    /// Name in the window.
    pub title: &'static str,
    /// What to look at, one sentence.
    pub look: &'static str,
    input: Input,
    /// Sets what differs from a fresh pane besides model and input.
    set: fn(&mut Pane),
    /// What the model reads, made when it is first asked for.
    prompt: OnceLock<String>,
}

const fn example(
    id: &'static str,
    title: &'static str,
    look: &'static str,
    input: Input,
    set: fn(&mut Pane),
) -> Example {
    Example { id, title, look, input, set, prompt: OnceLock::new() }
}

impl PartialEq for Example {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl fmt::Debug for Example {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_tuple("Example").field(&self.id).finish()
    }
}

/// The example that the first start shows: in each view it has something to tell.
pub const FIRST: &str = "recall";

/// Every example in the order of the gallery.
pub static ALL: [Example; 22] = [
    example(
        "recall",
        "A fact to recall",
        "The score finds the place that decides; the draft model guesses the other one and the target corrects it.",
        Input::Story(Theme::Places, 1, -1),
        |p| choose(p, "attention_rollout", Params::new()),
    ),
    example(
        "list",
        "A list twice",
        "The second list copies the first: see where the scores point, and step through the drafts.",
        Input::Story(Theme::List, 3, -1),
        |_| (),
    ),
    example(
        "needle",
        "A long needle",
        "Six sentences lie between the fact and its recall: drop tokens until the answer changes.",
        Input::Needle(6, 4),
        |p| p.shows.parts = [true, true, true, false],
    ),
    example(
        "lookup",
        "A number to look up",
        "Four names have ages and one is asked for: look for the head that goes from the name to its age.",
        Input::Lookup(4, 4),
        |p| choose(p, "value_weighted_attention", Params::new()),
    ),
    example(
        "colors",
        "Two colors",
        "The color that is asked for must win over the other one: compare the scores of both.",
        Input::Story(Theme::Colors, 2, -1),
        |_| (),
    ),
    example(
        "sum",
        "A small sum",
        "Digits are tokens of their own, and both of them and the sign decide the sum.",
        Input::Story(Theme::Arithmetic, 4, -1),
        |_| (),
    ),
    example(
        "reference",
        "Who is who",
        "The answer names the animal that did not ask: the flow shows which of the two it comes from.",
        Input::Story(Theme::Reference, 1, -1),
        |p| p.shows.threshold = 0.05,
    ),
    example(
        "brackets",
        "Brackets that close",
        "The last open bracket decides which one closes, however many were closed between.",
        Input::Story(Theme::Brackets, 3, -2),
        |p| choose(p, "received_attention", Params::new()),
    ),
    example(
        "refrain",
        "A refrain to draft",
        "The second verse is the first again: step through the rounds and see how many guesses are accepted at once.",
        Input::Story(Theme::Refrain, 2, 0),
        |p| choose(p, "token_recycling", Params::new()),
    ),
    example(
        "masks",
        "A text out of masks",
        "Play the steps of the drafts view: what the model is sure of comes first, wherever it stands.",
        Input::Opening("In the library live the owl, the crow and the duck. Every evening"),
        |p| choose(p, "localleap", Params::new()),
    ),
    example(
        "scripts",
        "Many scripts",
        "Compare where the tokenizers cut: one Chinese character, an emoji or an accent may cost several tokens.",
        Input::Text("naïve 漢字 かな 한국어 Ελληνικά русский 🚂 über die Brücke"),
        |p| choose(p, "logit_lens_surprise", Params::new()),
    ),
    example(
        "code",
        "A piece of code",
        "Indentation and operators: the larger vocabularies hold runs of spaces in one token.",
        Input::Text("def gcd(a, b):\n    while b != 0:\n        a, b = b, a % b\n    return a\n"),
        |p| choose(p, "logit_lens_surprise", Params::new()),
    ),
    example(
        "numbers",
        "Numbers",
        "The sample cuts digit by digit, the others in groups of up to three: the groups do not follow the value.",
        Input::Text("1234567 + 89 = 1234656; 3.14159; 2026-11-25; 1,000,000; 0x1F; 6.02e23"),
        |p| choose(p, "logit_lens_surprise", Params::new()),
    ),
    example(
        "scene-color",
        "Scene: a color",
        "The outline is the thing that is asked about: does the score find it?",
        Input::Scene(23, Ask::Color),
        |p| {
            choose(p, "attention_rollout", Params::new());
            p.shows.scale.mask_sink = true;
        },
    ),
    example(
        "scene-kind",
        "Scene: a shape",
        "Drop image tokens until the answer changes: uniform choice against one that looks at the picture.",
        Input::Scene(32, Ask::Kind),
        |p| {
            choose(p, "received_attention", Params::new());
            p.shows.scale.mask_sink = true;
            choose(p, "fastervlm", Params::new());
            p.shows.parts = [true, true, true, false];
        },
    ),
    example(
        "scene-count",
        "Scene: how many",
        "Every one of the counted things decides: does the score find all of them?",
        Input::Scene(12, Ask::Count),
        |p| {
            choose(p, "attention_rollout", Params::new());
            p.shows.scale.mask_sink = true;
        },
    ),
    example(
        "scene-position",
        "Scene: left, right, above, below",
        "Two things decide: keep fewer tokens and see whether both survive.",
        Input::Scene(24, Ask::Position),
        |p| {
            choose(p, "received_attention", Params::new());
            p.shows.scale.mask_sink = true;
            choose(p, "divprune", Params::new());
        },
    ),
    example(
        "scene-yes-no",
        "Scene: yes or no",
        "Is it there: merge alike tokens and see whether the answer stays.",
        Input::Scene(28, Ask::YesNo),
        |p| {
            choose(p, "value_weighted_attention", Params::new());
            p.shows.scale.mask_sink = true;
            choose(p, "tome", Params::new().set("r", 48));
        },
    ),
    example(
        "scene-number",
        "Scene: read a number",
        "Thin strokes lie in a few patches: keep fewer tokens and watch when a digit changes.",
        Input::Scene(14, Ask::Number),
        |p| {
            choose(p, "attention_rollout", Params::new());
            p.shows.scale.mask_sink = true;
        },
    ),
    example(
        "tiles",
        "Scene: a code for each tile",
        "Five numbers a tile are rounded to a few levels: see which tiles share a code, and what the codes give back.",
        Input::Scene(23, Ask::Color),
        |p| choose(p, "fsq", Params::new()),
    ),
    example(
        "voices",
        "A signal of four voices",
        "Windows of sound become tokens by their spectrum: each voice has a token of its own.",
        Input::Text("No model reads the signal; the text is cut as ever."),
        |p| {
            p.cut_series(Some(SeriesSource::Signal(7)));
            choose(p, "lipcot", Params::new().set("tokens", 4).set("features", "cepstrum"));
        },
    ),
    example(
        "scene-encoder",
        "Scene: inside the image encoder",
        "Stack of the image encoder: the class token's attention before any question was asked.",
        Input::Scene(9, Ask::Color),
        |p| {
            p.tower = Some(tokenscope_analysis::trace::Tower::Vision);
            choose(p, "cls_score", Params::new());
            choose(p, "tome", Params::new().set("r", 12));
        },
    ),
];

/// Chooses a method; a test walks the gallery, so that every name is one of the catalog.
fn choose(pane: &mut Pane, method: &'static str, params: Params) {
    let known = pane.choose(Call { method, params });
    debug_assert!(known.is_ok(), "{known:?}");
}

/// The examples whose model is part of the program.
pub fn shown() -> impl Iterator<Item = &'static Example> {
    ALL.iter().filter(|e| samples::find(e.model()).is_some())
}

/// The example of that name. The error lists the known ones.
pub fn find(id: &str) -> anyhow::Result<&'static Example> {
    ALL.iter().find(|e| e.id == id).ok_or_else(|| {
        let known: Vec<&str> = shown().map(|e| e.id).collect();
        anyhow::anyhow!("no example named {id}; known: {}", known.join(", "))
    })
}

impl Example {
    /// Name of the sample model that it is for.
    pub fn model(&self) -> &'static str {
        match self.input {
            Input::Scene(..) => "sample-vlm",
            Input::Opening(_) => samples::FILLER,
            _ => "sample-lm",
        }
    }

    /// The picture, where it has one.
    pub fn picture(&self) -> Option<PictureSource> {
        match self.input {
            Input::Scene(n, _) => Some(PictureSource::test_scene(n)),
            _ => None,
        }
    }

    /// The truth about its story; `None` for scenes and free texts.
    pub fn story_truth(&self) -> Option<Truth> {
        let (story, link) = match self.input {
            Input::Story(theme, n, link) => (Story::of(theme, HELD_OUT + n), link),
            Input::Needle(sentences, n) => (Story::needle(sentences, HELD_OUT + n), -1),
            Input::Lookup(names, n) => (Story::key_value(names, HELD_OUT + n), -1),
            Input::Text(_) | Input::Opening(_) | Input::Scene(..) => return None,
        };
        let at = if link < 0 { story.links.len().checked_add_signed(link)? } else { link.unsigned_abs() };
        story.links.get(at).map(|l| Truth::of_story(&story, l))
    }

    /// What the model reads, up to the answer.
    pub fn prompt(&self) -> &str {
        self.prompt.get_or_init(|| match self.input {
            Input::Text(text) | Input::Opening(text) => text.into(),
            Input::Scene(n, ask) => {
                let scene = Scene::new(HELD_OUT + n);
                let question = scene.questions().into_iter().find(|q| q.ask == ask);
                question.map_or_else(String::new, |q| Truth::of_question(&scene, &q).map_or(q.text, |t| t.prompt))
            }
            _ => self.story_truth().map_or_else(String::new, |t| t.prompt),
        })
    }

    /// The pane that shows it; the user's files stay as in `before`.
    pub fn pane(&self, before: &Pane) -> Pane {
        let (model, prompt) = (ModelSource::Sample(self.model()), self.prompt().into());
        let mut pane = Pane {
            run: RunKey { model, prompt, image: self.picture(), placement: before.run.placement },
            ..Pane::default()
        };
        (self.set)(&mut pane);
        pane.shows.cuts.files.clone_from(&before.shows.cuts.files);
        pane
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::TruthOf;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_everything_says_something() {
        let ids: BTreeSet<&str> = ALL.iter().map(|e| e.id).collect();
        assert_eq!(ids.len(), ALL.len());
        let titles: BTreeSet<&str> = ALL.iter().map(|e| e.title).collect();
        assert_eq!(titles.len(), ALL.len());
        assert!(shown().count() >= 12);
        for e in &ALL {
            assert!(!e.prompt().is_empty() && e.look.ends_with(['.', '?']), "{}", e.id);
            // One sentence.
            assert_eq!(e.look.matches(['.', '?', '!']).count(), 1, "{}", e.id);
        }
        assert!(find(FIRST).is_ok() && find("nonsense").is_err_and(|e| e.to_string().contains(FIRST)));
    }

    #[test]
    fn stories_and_scenes_have_their_truth_and_free_texts_have_none() {
        for e in &ALL {
            let t = TruthOf(e.pane(&Pane::default()).run).find();
            let free = matches!(e.input, Input::Text(_) | Input::Opening(_));
            assert_eq!(t.is_none(), free, "{}", e.id);
            assert!(t.is_none_or(|t| t.prompt == e.prompt() && !t.answer.is_empty()), "{}", e.id);
        }
    }

    #[test]
    fn a_prompt_ends_where_the_answer_s_first_token_begins() {
        let open = crate::work::open(
            &ModelSource::Sample("sample-lm"),
            Default::default(),
            Default::default(),
            &Default::default(),
        )
        .unwrap();
        let tokenizer = open.tokenizer.unwrap();
        for t in ALL.iter().filter_map(Example::story_truth) {
            let ids = |text: &str| tokenizer.encode(text, None, true).unwrap().ids;
            let (before, all) = (ids(&t.prompt), ids(&format!("{}{}", t.prompt, t.continuation)));
            assert!(all.len() > before.len() && all.starts_with(&before), "{} | {}", t.prompt, t.continuation);
        }
    }
}
