//! The one loop of masked-diffusion decoding: the text to be written is masks at first; each step the model says what
//! it would put at each of them, and a policy says which of these stay. Blocks go left to right.
//!
//! Source: Nie et al. 2025, "Large Language Diffusion Models", arXiv 2502.09992, and the loop of ML-GSAI/LLaDA
//! generate.py. Departs: a mask is never a guess itself, where the authors' loop would leave it for later; a block is
//! done when nothing in it is masked, so that steps without a reveal are not spent; the last block may be shorter.

use super::chance::{Chance, Seeded};
use super::oracle::{Fill, Filler};
use super::row::Row;
use crate::ctx::Ctx;
use crate::method::{Need, Param, Params};
use crate::model::Writes;
use crate::subject::Subject;
use crate::{Error, Result};
use serde::Serialize;
use std::ops::Range;

/// Length of the text to write.
pub const LENGTH: Param = Param::count("gen_length", "Tokens to write", 1, 1024, 32);
/// How much of it is written at a time.
pub const BLOCK: Param =
    Param::count("block_length", "Tokens of a block; a block is full before the next one begins", 1, 1024, 16);
/// How far from greedy the guesses are drawn.
pub const TEMPERATURE: Param =
    Param::number("temperature", "0 guesses the most probable token, else each is drawn", 0.0, 4.0, 0.0);
/// Classifier-free guidance.
pub const GUIDANCE: Param = Param::number(
    "cfg_scale",
    "Guidance w: logits u + (w + 1)(c − u), u without the prompt; costs a second pass",
    0.0,
    10.0,
    0.0,
);

/// Other tokens that are noted for each one revealed.
const ALTERNATIVES: usize = 4;

/// What the model would put at a masked position.
pub struct Guess<'a> {
    /// Position in the whole text.
    pub position: usize,
    /// The token.
    pub id: u32,
    /// Its probability, in f64.
    pub confidence: f64,
    /// All of what the model says there.
    pub row: &'a Row,
}

/// What a policy may look at in a step.
pub struct Masked<'a> {
    /// Guesses at the positions that are masked up to the end of the block, left to right; at least one.
    pub guesses: &'a [Guess<'a>],
    /// Steps done before.
    pub step: usize,
    /// Steps done before in this block.
    pub step_in_block: usize,
    /// Positions that were masked when the block began.
    pub block_masks: usize,
    /// Blocks of the whole text.
    pub n_blocks: usize,
}

impl Masked<'_> {
    /// The first of the surest guesses.
    pub fn surest(&self) -> usize {
        let g = self.guesses;
        (0..g.len()).fold(0, |b, i| if g[i].confidence > g[b].confidence { i } else { b })
    }
}

/// A guess that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Index among the guesses.
    pub guess: usize,
    /// Why, in a few words; a policy uses few different ones.
    pub why: &'static str,
}

/// One way to choose what is revealed in a step.
pub trait Reveal {
    /// The guesses that stay: at least one, none twice.
    fn reveal(&mut self, now: &Masked) -> Vec<Commit>;
}

/// A token that was revealed.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct Revealed {
    /// Position in the whole text.
    pub position: usize,
    /// Vocabulary id.
    pub id: u32,
    /// Its probability in this step.
    pub confidence: f64,
    /// Why now.
    #[serde(deserialize_with = "crate::finding::read_name")]
    pub why: crate::finding::Name,
    /// What else could have stood there: ids and probabilities, the most probable first.
    pub alternatives: Vec<(u32, f64)>,
}

/// What was thought of a position in a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, serde::Deserialize)]
pub struct Seen {
    /// Position in the whole text.
    pub position: usize,
    /// The token that was guessed.
    pub id: u32,
    /// Its probability.
    pub confidence: f64,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct Step {
    /// Its block.
    pub block: usize,
    /// Guesses at every position that was masked up to the end of the block.
    pub seen: Vec<Seen>,
    /// Those that stay, left to right.
    pub revealed: Vec<Revealed>,
}

/// A whole decode: which position became what in which step.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct Timeline {
    /// The prompt.
    pub prompt: Vec<u32>,
    /// The id of a mask.
    pub mask: u32,
    /// Tokens to write after the prompt.
    pub length: usize,
    /// Tokens of a block.
    pub block_length: usize,
    /// Steps in order.
    pub steps: Vec<Step>,
    /// Passes of the model.
    pub forwards: usize,
}

impl Timeline {
    /// The whole text after the first `steps` steps, masks where nothing is revealed.
    pub fn text_after(&self, steps: usize) -> Vec<u32> {
        let mut text = self.prompt.clone();
        text.resize(self.prompt.len() + self.length, self.mask);
        for r in self.steps.iter().take(steps).flat_map(|s| &s.revealed) {
            text[r.position] = r.id;
        }
        text
    }

    /// The whole text.
    pub fn output(&self) -> Vec<u32> {
        self.text_after(usize::MAX)
    }

    /// Revealed tokens with their steps, in the order in which they came.
    pub fn revealed(&self) -> impl Iterator<Item = (usize, &Revealed)> {
        self.steps.iter().enumerate().flat_map(|(i, s)| s.revealed.iter().map(move |r| (i, r)))
    }

    /// Tokens written per pass of the model.
    pub fn tokens_per_forward(&self) -> f64 {
        self.revealed().count() as f64 / self.forwards.max(1) as f64
    }

    /// Tokens whose guess was already what was revealed later, in steps waited: how long right guesses were held
    /// back, summed over the positions.
    pub fn steps_held_back(&self) -> usize {
        let held = |(step, r): (usize, &Revealed)| {
            let right = |s: &&Step| s.seen.iter().any(|g| g.position == r.position && g.id == r.id);
            self.steps[..step].iter().rev().take_while(right).count()
        };
        self.revealed().map(held).sum()
    }
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Tokens to write.
    pub length: usize,
    /// Tokens of a block.
    pub block: usize,
    /// 0 guesses the most probable token.
    pub temperature: f64,
    /// Weight of classifier-free guidance; 0 is none.
    pub guidance: f64,
}

impl Rules {
    /// The rules that parameters set: [`LENGTH`], [`BLOCK`], [`TEMPERATURE`], [`GUIDANCE`].
    pub fn of(params: &Params) -> Self {
        Self {
            length: params.count(&LENGTH) as usize,
            block: params.count(&BLOCK) as usize,
            temperature: params.number(&TEMPERATURE),
            guidance: params.number(&GUIDANCE),
        }
    }
}

/// Tokens that are written at most, whatever the model says of itself.
const MOST: usize = 1 << 20;

/// Writes a text; `partial` is called after each step with what there is so far.
///
/// Errors: nothing to write, a text longer than the model reads, a policy that reveals nothing or what is not there,
/// whatever the model fails with, cancelled.
pub fn write(
    model: &mut dyn Fill,
    prompt: &[u32],
    policy: &mut dyn Reveal,
    rules: Rules,
    chance: &mut dyn Chance,
    ctx: &Ctx,
    partial: &mut dyn FnMut(&Timeline),
) -> Result<Timeline> {
    if rules.length == 0 || rules.block == 0 {
        return Err(Error::invalid("there is nothing to write; gen_length and block_length must be at least 1"));
    }
    if rules.length > MOST {
        return Err(Error::invalid(format!("gen_length is {}, more than {MOST}", rules.length)));
    }
    let (start, whole) = (prompt.len(), prompt.len() + rules.length);
    let size = rules.block.min(rules.length);
    if let Some(most) = model.longest().filter(|&most| whole > most) {
        return Err(Error::invalid(format!(
            "a prompt of {start} tokens and {} to write are more than the {most} that the model reads; shorten the prompt or \
             gen_length",
            rules.length
        )));
    }
    let mask = model.mask();
    let mut text = prompt.to_vec();
    text.resize(whole, mask);
    let mut out = Timeline {
        prompt: prompt.to_vec(),
        mask,
        length: rules.length,
        block_length: size,
        steps: Vec::new(),
        forwards: 0,
    };
    let n_blocks = rules.length.div_ceil(size);
    for block in 0..n_blocks {
        let open = start + block * size..whole.min(start + (block + 1) * size);
        let block_masks = open.len();
        for step_in_block in 0.. {
            // What a policy reveals stays, so everything before the block is full.
            let masked: Vec<usize> = open.clone().filter(|&i| text[i] == mask).collect();
            if masked.is_empty() {
                break;
            }
            ctx.step(out.revealed().count(), rules.length)?;
            let rows = read(model, &text, &masked, 0..start, rules.guidance, &mut out.forwards, ctx)?;
            let guesses: Vec<Guess> =
                masked.iter().zip(&rows).map(|(&i, row)| guess(i, row, mask, rules.temperature, chance)).collect();
            let step = out.steps.len();
            let now = Masked { guesses: &guesses, step, step_in_block, block_masks, n_blocks };
            let mut chosen = policy.reveal(&now);
            chosen.sort_by_key(|c| c.guess);
            chosen.dedup_by_key(|c| c.guess);
            if chosen.last().is_none_or(|c| c.guess >= guesses.len()) {
                return Err(Error::invalid("the policy revealed nothing, or a position that is not masked"));
            }
            let revealed: Vec<Revealed> = chosen.iter().map(|c| revealed(&guesses[c.guess], c.why)).collect();
            revealed.iter().for_each(|r| text[r.position] = r.id);
            let seen = guesses.iter().map(|g| Seen { position: g.position, id: g.id, confidence: g.confidence });
            out.steps.push(Step { block, seen: seen.collect(), revealed });
            partial(&out);
        }
    }
    Ok(out)
}

/// What the model says at the masked positions, with guidance away from what it would say without the prompt.
fn read(
    model: &mut dyn Fill,
    text: &[u32],
    masked: &[usize],
    prompt: Range<usize>,
    guidance: f64,
    forwards: &mut usize,
    ctx: &Ctx,
) -> Result<Vec<Row>> {
    let with = model.fill(text, masked, ctx)?;
    *forwards += 1;
    if guidance == 0.0 || prompt.is_empty() {
        return Ok(with);
    }
    let mut bare = text.to_vec();
    bare[prompt].fill(model.mask());
    let without = model.fill(&bare, masked, ctx)?;
    *forwards += 1;
    let w = guidance as f32 + 1.0;
    let both = with.into_iter().zip(without).map(|(c, u)| match (c, u) {
        (Row::Logits(c), Row::Logits(u)) => Row::Logits(c.iter().zip(&u).map(|(c, u)| u + w * (c - u)).collect()),
        (c, _) => c,
    });
    Ok(both.collect())
}

/// The most probable token that is no mask, or one drawn by the probabilities of all that are none.
fn guess<'a>(position: usize, row: &'a Row, mask: u32, temperature: f64, chance: &mut dyn Chance) -> Guess<'a> {
    let id = if temperature == 0.0 {
        row.best_but(mask) as usize
    } else {
        let mut p = row.distribution(temperature);
        let left = 1.0 - p.get(mask as usize).copied().unwrap_or(0.0);
        if left > 0.0 {
            p.iter_mut().for_each(|x| *x /= left);
            p.iter_mut().skip(mask as usize).take(1).for_each(|x| *x = 0.0);
        }
        chance.draw(&p)
    } as u32;
    Guess { position, id, confidence: row.probabilities([id], 1.0)[0], row }
}

fn revealed(g: &Guess, why: &'static str) -> Revealed {
    let others: Vec<u32> = g.row.top(ALTERNATIVES + 1).into_iter().map(|i| i as u32).filter(|&i| i != g.id).collect();
    let p = g.row.probabilities(others.iter().copied(), 1.0);
    let alternatives = others.into_iter().zip(p).take(ALTERNATIVES).collect();
    Revealed { position: g.position, id: g.id, confidence: g.confidence, why, alternatives }
}

/// Writes after the prompt of a run with a policy of [`super::reveal`] and its parameters.
///
/// Errors: a run without weights or text, a model that does not fill in, see [`fn@write`].
pub fn decode(
    method: &dyn super::reveal::Method,
    on: &Subject,
    params: &Params,
    ctx: &Ctx,
    partial: &mut dyn FnMut(&Timeline),
) -> Result<Timeline> {
    let info = method.info();
    info.check(params)?;
    let model = on.weights(info)?;
    if model.info().writes != Writes::Fills {
        return Err(info.needs(Need::Fills.words()));
    }
    let mut policy = method.policy(params);
    let mut chance = Seeded::new(params.seed(&super::SEED));
    let prompt = on.again().ids;
    write(
        &mut Filler::new(model, on.tokenizer)?,
        &prompt,
        policy.as_mut(),
        Rules::of(params),
        &mut chance,
        ctx,
        partial,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids 0 to 2, mask 3; at position `i` it is the surer of token `i % 3` the further right. The mask is always the
    /// most probable.
    struct Toy {
        asked: Vec<Vec<u32>>,
    }

    impl Fill for Toy {
        fn mask(&self) -> u32 {
            3
        }
        fn longest(&self) -> Option<usize> {
            Some(8)
        }
        fn fill(&mut self, ids: &[u32], positions: &[usize], _: &Ctx) -> Result<Vec<Row>> {
            self.asked.push(ids.to_vec());
            let row = |i: usize| {
                (0..4).map(move |id| {
                    if id == 3 {
                        9.0
                    } else if id == i % 3 {
                        i as f32
                    } else {
                        0.0
                    }
                })
            };
            Ok(positions.iter().map(|&i| Row::Logits(row(i).collect())).collect())
        }
    }

    /// The first guess of each step.
    struct First;

    impl Reveal for First {
        fn reveal(&mut self, now: &Masked) -> Vec<Commit> {
            assert_eq!(now.guesses.len(), now.block_masks - now.step_in_block);
            vec![Commit { guess: 0, why: "first" }]
        }
    }

    fn go(rules: Rules, policy: &mut dyn Reveal) -> (Result<Timeline>, Toy) {
        let mut toy = Toy { asked: Vec::new() };
        let mut parts = 0;
        let out = write(&mut toy, &[1, 2], policy, rules, &mut Seeded::new(1), &Ctx::default(), &mut |t| {
            parts += 1;
            assert_eq!(t.steps.len(), parts);
        });
        (out, toy)
    }

    const RULES: Rules = Rules { length: 3, block: 2, temperature: 0.0, guidance: 0.0 };

    #[test]
    fn blocks_are_full_before_the_next_and_masks_are_no_guesses() {
        let (out, toy) = go(RULES, &mut First);
        let out = out.unwrap();
        assert_eq!(toy.asked, [[1, 2, 3, 3, 3], [1, 2, 2, 3, 3], [1, 2, 2, 0, 3]]);
        assert_eq!((out.output(), out.text_after(1)), (vec![1, 2, 2, 0, 1], vec![1, 2, 2, 3, 3]));
        assert_eq!(out.steps.iter().map(|s| (s.block, s.seen.len())).collect::<Vec<_>>(), [(0, 2), (0, 1), (1, 1)]);
        assert_eq!((out.forwards, out.tokens_per_forward(), out.steps_held_back()), (3, 1.0, 1));
        // e^2 of e^2, e^9 and twice 1; the mask is the best of the others.
        let r = &out.steps[0].revealed[0];
        let sum = 2f64.exp() + 9f64.exp() + 2.0;
        assert!((r.confidence - 2f64.exp() / sum).abs() < 1e-6 && r.alternatives[0].0 == 3, "{r:?}");
    }

    #[test]
    fn guidance_reads_the_text_without_its_prompt_too() {
        let (out, toy) = go(Rules { guidance: 1.0, ..RULES }, &mut First);
        assert_eq!(toy.asked[..2], [[1, 2, 3, 3, 3], [3, 3, 3, 3, 3]]);
        assert_eq!(out.unwrap().forwards, 6);
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        assert!(go(Rules { length: 7, ..RULES }, &mut First).0.unwrap_err().to_string().contains("more than the 8"));
        struct Nothing;
        impl Reveal for Nothing {
            fn reveal(&mut self, _: &Masked) -> Vec<Commit> {
                Vec::new()
            }
        }
        assert!(go(RULES, &mut Nothing).0.is_err() && go(Rules { length: 0, ..RULES }, &mut First).0.is_err());
    }

    #[test]
    fn drawn_guesses_follow_the_probabilities_without_the_mask() {
        let row = Row::Logits(vec![0.0, 3f32.ln(), f32::NEG_INFINITY, 5.0]);
        let mut chance = Seeded::new(3);
        let n = (0..4000).filter(|_| guess(0, &row, 3, 1.0, &mut chance).id == 1).count();
        // Three of four; 5 standard deviations are 137.
        assert!((2863..=3137).contains(&n), "{n}");
    }
}
