//! Learning to answer: questions about a scene behind the tower and a projector, several questions to one image.

use crate::fit::{Task, cross_entropy};
use crate::params::Params;
use crate::shapes::{Clip, Llama, TOWER, llava_config};
use crate::tower::pixels;
use crate::words::{BEGIN, IMAGE, Words};
use candle_core::Tensor;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};
use std::sync::Arc;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::model::{Input, Model};
use tokenscope_analysis::trace::NoTap;
use tokenscope_generate::scenes::{Ask, Fullness, Question, Scene};

/// The task.
pub struct Answering<'a> {
    /// The tokenizer.
    pub words: &'a Words,
    /// The tower.
    pub clip: Clip,
    /// The language model.
    pub llama: Llama,
    /// Rate of the tower relative to the rest; 0 leaves it as it is.
    pub tower_rate: f64,
    /// Whether scenes start simple and fill up.
    pub curriculum: bool,
}

/// Most questions of a kind that one sample asks.
fn most(ask: Ask, rng: &mut impl Rng) -> usize {
    match ask {
        Ask::Color | Ask::Kind | Ask::Position | Ask::Count => 2,
        Ask::YesNo => 3,
        Ask::Word | Ask::Number => 1,
        Ask::Caption => usize::from(rng.random_bool(0.25)),
    }
}

/// What the language model reads before the first question: begin, image, line break.
pub fn prefix(words: &Words, n_patches: usize) -> anyhow::Result<Vec<u32>> {
    let mut ids = vec![BEGIN];
    ids.extend(std::iter::repeat_n(IMAGE, n_patches));
    ids.extend(words.cut("\n")?.ids);
    Ok(ids)
}

/// Questions behind one image that do not see each other: ids, positions, which rows each row sees, and the answers
/// as (row, next id, weight).
struct Pack {
    ids: Vec<u32>,
    positions: Vec<usize>,
    mask: Vec<Vec<usize>>,
    targets: Vec<(u32, u32, f32)>,
}

impl Pack {
    fn new(words: &Words, n_patches: usize, questions: &[Question]) -> anyhow::Result<Self> {
        let ids = prefix(words, n_patches)?;
        let base = ids.len();
        let mut out = Self {
            positions: (0..base).collect(),
            mask: (0..base).map(|i| (0..=i).collect()).collect(),
            targets: Vec::new(),
            ids,
        };
        for q in questions {
            let first = out.ids.len();
            let asked = words.cut(&q.text)?.ids;
            let mut answer = words.cut(&format!(" {}", q.answer))?.ids;
            answer.push(BEGIN);
            // Each answer counts as one, however long; a caption has many easy words and counts a little more.
            let weight = if q.ask == Ask::Caption { 2.0 } else { 1.0 } / answer.len() as f32;
            for (k, id) in answer.iter().enumerate() {
                out.targets.push(((first + asked.len() + k - 1) as u32, *id, weight));
            }
            for (k, id) in asked.iter().chain(&answer[..answer.len() - 1]).enumerate() {
                out.ids.push(*id);
                out.positions.push(base + k);
                out.mask.push((0..base).chain(first..=first + k).collect());
            }
        }
        Ok(out)
    }
}

impl Task for Answering<'_> {
    fn config(&self) -> Map<String, Value> {
        llava_config(&self.clip, &self.llama, self.words.len())
    }

    fn rate_of(&self, name: &str) -> f64 {
        match name {
            _ if name.starts_with("head.") => 0.0,
            _ if name.starts_with(TOWER) => self.tower_rate,
            _ => 1.0,
        }
    }

    fn loss(&self, model: &dyn Model, _params: &Params, sample: u64, gone: f64) -> anyhow::Result<Tensor> {
        let mut full = Fullness::FULL;
        if self.curriculum {
            full.max_shapes = 1 + ((gone * 12.0) as usize).min(3);
        }
        let scene = Scene::with(sample, full);
        let mut rng = ChaCha8Rng::seed_from_u64(sample);
        rng.set_stream(9);
        let mut left: Vec<(Ask, usize)> = Ask::ALL.iter().map(|a| (*a, most(*a, &mut rng))).collect();
        let mut questions = scene.questions();
        questions.shuffle(&mut rng);
        questions.retain(|q| {
            let slot = left.iter_mut().find(|(a, _)| *a == q.ask);
            slot.is_some_and(|(_, n)| std::mem::replace(n, n.saturating_sub(1)) > 0)
        });
        let pack = Pack::new(self.words, self.clip.n_patches(), &questions)?;
        let mut input = Input {
            ids: pack.ids,
            image: Some(pixels(&scene)?),
            positions: Some(pack.positions),
            mask: Some(Arc::new(pack.mask)),
            ..Input::default()
        };
        let out = model.forward(&mut input, &mut NoTap, &Ctx::default())?;
        let logits = out.logits.ok_or_else(|| anyhow::anyhow!("a vision-language model gave no logits"))?;
        cross_entropy(&logits, &pack.targets)
    }
}
