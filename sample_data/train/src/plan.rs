//! Which models there are, how large, and how long each learns.

use crate::diffusion::Filling;
use crate::fit::{Place, Report, Stage, Task, fit};
use crate::folder::{self, Card};
use crate::lm::Stories;
use crate::params::Params;
use crate::quality::{self, Line, Open};
use crate::shapes::{Clip, Llama, llava_specs};
use crate::tower::Seeing;
use crate::vlm::Answering;
use crate::words::Words;
use std::path::Path;
use tokenscope_generate::HELD_OUT;
use tokenscope_generate::scenes::SIDE;

/// Names of the models in the order in which they can be made.
pub const MODELS: [&str; 4] = ["sample-lm", "sample-draft", "sample-vlm", "sample-diffusion"];

const LM: Llama = Llama { width: 128, layers: 4, heads: 4, kv_heads: 4, inner: 512, context: 128, look: true };
const DRAFT: Llama = Llama { width: 48, layers: 2, heads: 2, kv_heads: 2, inner: 128, context: 128, look: true };
const DIFFUSION: Llama = Llama { width: 128, layers: 4, heads: 4, kv_heads: 4, inner: 352, context: 64, look: false };
const ANSWERS: Llama = Llama { width: 128, layers: 4, heads: 4, kv_heads: 4, inner: 352, context: 256, look: false };
const CLIP: Clip = Clip { width: 96, layers: 4, heads: 4, inner: 384, patch: 8, side: SIDE };

/// Seed of all first values.
const SEED: u64 = 1;

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Stories that the tokenizer is trained on.
    pub tokenizer: u64,
    /// Every stage's steps are divided by this, down to one.
    pub fewer: usize,
    /// Samples a step at most.
    pub batch: usize,
    /// Held-out samples per figure.
    pub judged: u64,
}

impl Scale {
    /// To make models worth keeping.
    pub const FULL: Scale = Scale { tokenizer: 20_000, fewer: 1, batch: 64, judged: 200 };
    /// In seconds, to prove that the program works.
    pub const SMOKE: Scale = Scale { tokenizer: 400, fewer: 2000, batch: 2, judged: 4 };

    fn stage(&self, name: &str, steps: usize, batch: usize, rate: f64, first: u64) -> Stage {
        let (steps, batch) = ((steps / self.fewer).max(1), batch.min(self.batch));
        Stage { name: name.into(), steps, batch, rate, first }
    }
}

/// Makes one model: trains it, writes its folder below `out`, judges what was written, writes the card.
pub fn make(name: &str, words: &Words, scale: &Scale, place: &Place, out: &Path) -> anyhow::Result<Vec<Line>> {
    let dir = out.join(name);
    let n = words.len();
    let all = |_: &str| true;
    let stories =
        "stories of `sample_data/generate`, packed into rows; the words that earlier ones decide weigh eight times.";
    let (stages, n_params, about, data, weaknesses): (Vec<(String, Report)>, usize, &str, &str, &str) = match name {
        "sample-lm" | "sample-draft" => {
            let (shape, stage) = if name == "sample-lm" {
                (LM, scale.stage(name, 2000, 16, 3e-3, 0))
            } else {
                (DRAFT, scale.stage(name, 3000, 16, 4e-3, 0))
            };
            let task = Stories { words, shape };
            let params = Params::new(&shape.specs("model.", n), SEED)?;
            let report = fit(&task, &params, &stage, place)?;
            let n_params = folder::write(&dir, &task.config(), &params, words, false, &all)?;
            let (about, weaknesses) = if name == "sample-lm" {
                (
                    "A Llama-shaped language model that tells short stories, looks up numbers by name and recalls facts.",
                    "It knows nine kinds of stories and nothing else. Texts longer than 128 tokens are outside what it \
                     was trained on. Which name, colour or number comes up first is chance, and it is sure of none.",
                )
            } else {
                (
                    "A tenth of `sample-lm`, for guessing ahead of it: same tokenizer, same stories, two layers.",
                    "It guesses what `sample-lm` knows in two places: who left what where, and who is who. Texts longer than \
                     128 tokens are outside what it was trained on.",
                )
            };
            (vec![(stage.name, report)], n_params, about, stories, weaknesses)
        }
        "sample-diffusion" => {
            let shape = DIFFUSION;
            let task = Filling { words, shape };
            let params = Params::new(&shape.llada_specs(n), SEED)?;
            let stage = scale.stage(name, 3000, 16, 3e-3, 1 << 22);
            let report = fit(&task, &params, &stage, place)?;
            let n_params = folder::write(&dir, &task.config(), &params, words, false, &all)?;
            (
                vec![(stage.name, report)],
                n_params,
                "A masked-diffusion language model in the shape of LLaDA: it sees both ways and fills in `<mask>`.",
                "stories of `sample_data/generate`, 64 tokens a row, each token masked with one chance for the row.",
                "It knows nine kinds of stories, at most 64 tokens at once. Written from nothing, names and numbers \
                 may not agree with each other, since several are filled in at once.",
            )
        }
        "sample-vlm" => {
            let seeing = Seeing { shape: CLIP };
            let tower = Params::new(&seeing.specs(), SEED)?;
            let stage = scale.stage("sample-vlm tower", 6000, 8, 3e-3, 0);
            let report = fit(&seeing, &tower, &stage, place)?;
            let mut stages = vec![(stage.name, report)];
            let [kind, color, glyph, whole] = seeing.accuracy(&tower, HELD_OUT, scale.judged)?;
            println!("patches: kind {kind:.3}, color {color:.3}, glyph {glyph:.3}; scenes: largest item {whole:.3}");
            let params = Params::new(&llava_specs(&CLIP, &ANSWERS, n), SEED)?;
            params.load(&tower.iter().map(|(k, v)| (k.clone(), v.as_detached_tensor())).collect())?;
            let mut task = Answering { words, clip: CLIP, llama: ANSWERS, tower_rate: 0.0, curriculum: true };
            let stage = scale.stage("sample-vlm answers", 3000, 8, 2e-3, 1 << 20);
            let report = fit(&task, &params, &stage, place)?;
            stages.push((stage.name, report));
            (task.tower_rate, task.curriculum) = (0.5, false);
            let stage = scale.stage("sample-vlm whole", 1000, 8, 8e-4, 1 << 21);
            let report = fit(&task, &params, &stage, place)?;
            stages.push((stage.name, report));
            task.tower_rate = 0.7;
            let stage = scale.stage("sample-vlm again", 2200, 8, 1.5e-3, 3 << 20);
            let report = fit(&task, &params, &stage, place)?;
            stages.push((stage.name, report));
            let n_params = folder::write(&dir, &task.config(), &params, words, true, &all)?;
            (
                stages,
                n_params,
                "A LLaVA-shaped vision-language model: a CLIP-style tower of 12 x 12 patches with class token, a \
                 two-layer projector, a Llama-shaped decoder. It answers questions about drawn scenes.",
                "scenes of `sample_data/generate`: first the tower learns to name what each patch shows (kind, \
                 colour, glyph, texture, middle), then projector and decoder learn to answer with the tower fixed, \
                 from one shape to four, then all of it together, twice: slowly, and once more at a higher rate.",
                "It knows six shapes, eight colours, sixteen words and two-digit numbers on drawn backgrounds, and \
                 the wording of `scenes/questions.rs`. Photographs and other questions give nonsense.",
            )
        }
        other => anyhow::bail!("there is no model {other}; there are {}", MODELS.join(", ")),
    };
    let figures = judge(name, out, scale.judged)?;
    let card = Card { name, about, data, weaknesses, stages };
    folder::card(&dir, &card, n_params, &figures)?;
    Ok(figures)
}

/// The figures of a model folder below `models`; the draft's need the language model beside it.
pub fn judge(name: &str, models: &Path, n: u64) -> anyhow::Result<Vec<Line>> {
    let open = Open::new(&models.join(name))?;
    Ok(match name {
        "sample-lm" => [quality::lm(&open, LM.context, n)?, quality::continuations(&open)?].concat(),
        "sample-draft" => {
            let target = Open::new(&models.join("sample-lm"))?;
            [quality::draft(&target, &open, n)?, quality::lm(&open, DRAFT.context, n)?].concat()
        }
        "sample-vlm" => quality::vlm(&open, n)?,
        "sample-diffusion" => quality::diffusion(&open, DIFFUSION.context, n)?,
        other => anyhow::bail!("there is no model {other}; there are {}", MODELS.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenscope_analysis::trace::Tower;

    #[test]
    fn a_smoke_run_makes_every_model_and_the_library_opens_it() {
        let dir = std::env::temp_dir().join(format!("tokenscope-plan-{}", std::process::id()));
        let words = Words::train(Scale::SMOKE.tokenizer).unwrap();
        let place = Place { dir: dir.join("runs"), every: 100 };
        for name in MODELS {
            let figures = make(name, &words, &Scale::SMOKE, &place, &dir).unwrap();
            assert!(!figures.is_empty(), "{name}");
            let open = Open::new(&dir.join(name)).unwrap();
            let info = open.model.info();
            assert_eq!(info.vocab, words.len(), "{name}");
            let sees = name == "sample-vlm";
            assert_eq!((info.towers.contains_key(&Tower::Vision), open.processor.is_some()), (sees, sees), "{name}");
            let card = std::fs::read_to_string(dir.join(name).join("README.md")).unwrap();
            assert!(figures.iter().all(|l| card.contains(&l.what.replace('|', "/"))), "{name}");
            // Training moved what it started from.
            let log = std::fs::read_dir(dir.join("runs")).unwrap().count();
            assert!(log > 0, "{name} left no log");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
