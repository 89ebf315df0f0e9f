//! Learning to parallel decode, its oracle: how few steps would do if one knew which guesses are final.
//!
//! Source: Bao et al. 2025, "Learning to Parallel: Accelerating Diffusion Large Language Models via Adaptive Parallel
//! Decoding", arXiv 2509.25188; ims-kdks/Learning-to-Parallel-Decoding llada/generate_training_data.py. Takes: a model that
//! fills in. Gives: its text written token by token, and the same text with every guess kept that is already right.
//! Departs: none known; the filter that has to do without the oracle is trained.

use super::super::Method;
use super::show;
use crate::ctx::Ctx;
use crate::decode::chance::Seeded;
use crate::decode::mask::{self, BLOCK, Commit, LENGTH, Masked, Reveal, Rules};
use crate::decode::oracle::{Fill, Filler};
use crate::decode::row::Row;
use crate::decode::toy::Neighbours;
use crate::finding::{Class, Datum, Figure, Finding, Look, Measure, TimeCell, Timeline, Unit};
use crate::math::largest;
use crate::method::{Basis, Info, Kind, Need, Paper, Params, Role};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

static INFO: Info = Info {
    id: "learn2pd_oracle",
    title: "Learn2PD oracle",
    summary: "Writes a text with every guess kept that is already final, which nobody can know beforehand.",
    family: "masked diffusion",
    basis: Basis::Authors { repo: "ims-kdks/Learning-to-Parallel-Decoding", commit: "342293c" },
    role: Role::Oracle,
    paper: Some(Paper {
        title: "Learning to Parallel: Accelerating Diffusion Large Language Models via Adaptive Parallel Decoding",
        authors: "Bao et al.",
        year: 2025,
        arxiv: "2509.25188",
    }),
    departs: "the oracle only; the learned filter and the rule that cuts the text at its end are left out",
    needs: &[Need::Fills],
    params: &[LENGTH, BLOCK],
    raw: &[Adapter { name: "learn2pd_oracle", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct Learn2Pd;

/// One pass: its block, the guess at each place of it with its probability, what was kept, and whether the rest was
/// copied because the same was guessed twice.
struct Call {
    block: usize,
    guesses: Vec<(u32, f64)>,
    /// Position and probability of the kept token.
    kept: Vec<(usize, f64)>,
    copied: bool,
}

/// The single most probable guess per step: the text that the oracle knows.
struct OneByOne;

impl Reveal for OneByOne {
    fn reveal(&mut self, now: &Masked) -> Vec<Commit> {
        let sure: Vec<f32> = now.guesses.iter().map(|g| g.row.confidence_f32(g.id)).collect();
        largest(&sure, 1).into_iter().map(|guess| Commit { guess, why: "the surest" }).collect()
    }
}

/// The passes in which a text is written that is known already, block after block.
fn oracle(model: &mut dyn Fill, text: &[u32], prompt: usize, block: usize, ctx: &Ctx) -> Result<Vec<Call>> {
    let (mask, mut now, mut calls) = (model.mask(), text.to_vec(), Vec::new());
    // What stays a mask would be waited for without end.
    if text[prompt..].contains(&mask) {
        return Err(Error::invalid("the model writes its mask, so that no text of it is ever done"));
    }
    now[prompt..].fill(mask);
    for (b, start) in (prompt..text.len()).step_by(block).enumerate() {
        let places: Vec<usize> = (start..text.len().min(start + block)).collect();
        let mut before: Option<Vec<u32>> = None;
        while places.iter().any(|&i| now[i] == mask) {
            ctx.step(start - prompt, text.len() - prompt)?;
            let rows = model.fill(&now, &places, ctx)?;
            let best = |row: &Row| row.best_but(mask);
            let ids: Vec<u32> = rows.iter().map(best).collect();
            let copied = before.as_ref() == Some(&ids);
            let mut kept = Vec::new();
            for ((&i, row), &id) in places.iter().zip(&rows).zip(&ids) {
                if now[i] == mask && (copied || id == text[i]) {
                    now[i] = text[i];
                    kept.push((i, row.probabilities([text[i]], 1.0)[0]));
                }
            }
            let sure = |(row, &id): (&Row, &u32)| (id, row.probabilities([id], 1.0)[0]);
            calls.push(Call { block: b, guesses: rows.iter().zip(&ids).map(sure).collect(), kept, copied });
            before = Some(ids);
        }
    }
    Ok(calls)
}

/// Both texts: the reference token by token, and the oracle's passes.
fn both(
    model: &mut dyn Fill,
    prompt: &[u32],
    length: usize,
    block: usize,
    ctx: &Ctx,
) -> Result<(mask::Timeline, Vec<Call>)> {
    let rules = Rules { length, block, temperature: 0.0, guidance: 0.0 };
    let reference = mask::write(model, prompt, &mut OneByOne, rules, &mut Seeded::new(0), ctx, &mut |_| ())?;
    let calls = oracle(model, &reference.output(), prompt.len(), block.min(length), ctx)?;
    Ok((reference, calls))
}

impl Method for Learn2Pd {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        show::ready(on, &INFO, params)?;
        let model = on.weights(&INFO)?;
        let prompt = on.again().ids;
        let (length, block) = (params.count(&LENGTH) as usize, params.count(&BLOCK) as usize);
        let (reference, calls) = both(&mut Filler::new(model, on.tokenizer)?, &prompt, length, block, ctx)?;
        let text = reference.output();
        let mut cells = Vec::new();
        for (step, call) in calls.iter().enumerate() {
            let first = call.block * block.min(length);
            for (i, &(id, sure)) in call.guesses.iter().enumerate() {
                let position = first + i;
                let kept = call.kept.iter().any(|k| k.0 == prompt.len() + position);
                let right = id == text[prompt.len() + position];
                let state = if kept { 2 } else { usize::from(right) };
                let why = if kept && call.copied { "copied: the same was guessed twice" } else { "" };
                let confidence = Some(sure as f32);
                cells.push(TimeCell {
                    step,
                    position,
                    id: Some(id),
                    text: on.word(id).into(),
                    confidence,
                    why: why.into(),
                    state,
                });
            }
        }
        let states = vec![
            Class::new("wrong", "the guess is not what will stand there", Look::Bad),
            Class::new("right", "the guess is what stands there already", Look::Plain),
            Class::new("kept", "stays from this step on", Look::Good),
        ];
        let timeline = Timeline {
            title: "guesses of the oracle's passes".into(),
            steps: Unit::Steps,
            n_steps: calls.len(),
            places: Unit::Positions,
            n_places: length,
            measure: Measure::new("confidence", "probability"),
            states,
            cells,
        };
        let per_step = calls.iter().map(|c| c.kept.len() as f64);
        let speed = reference.forwards as f64 / calls.len().max(1) as f64;
        let held = reference.steps_held_back();
        Ok(Finding::of(timeline)
            .with(show::bars("tokens kept", "pass", Measure::new("tokens", ""), per_step))
            .figure(Figure::new(
                "passes",
                Datum::Count(calls.len()),
                "of the oracle, which keeps what is already right",
            ))
            .figure(Figure::new("token by token", Datum::Count(reference.forwards), "passes of the text that it knows"))
            .figure(Figure::new("times fewer passes", Datum::Number(speed), "the most that a filter could reach"))
            .figure(Figure::new("held back", Datum::Count(held), "steps that right guesses waited, token by token"))
            .figure(Figure::new("text", Datum::Text(on.text(&text[prompt.len()..])), "what is written")))
    }
}

/// Raw entry: the stub of the golden, written token by token and by the oracle.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (prompt, length): (Vec<u32>, usize) = (input.read("prompt")?, input.within("gen_length", 1..=1 << 16)?);
    let block: usize = input.read_or("block_length", length)?;
    if block == 0 {
        return Err(Error::invalid("block_length must be at least 1"));
    }
    let (reference, calls) = both(&mut Neighbours::of(input)?, &prompt, length, block, ctx)?;
    let text = reference.output();
    let (mut records, mut timeline, mut forced) = (Vec::new(), Vec::new(), Vec::new());
    let mut in_block = 0;
    for (i, call) in calls.iter().enumerate() {
        in_block = if i > 0 && calls[i - 1].block == call.block { in_block + 1 } else { 0 };
        let first = prompt.len() + call.block * block.min(length);
        let right: Vec<u8> = call.guesses.iter().enumerate().map(|(k, g)| u8::from(g.0 == text[first + k])).collect();
        let sure: Vec<f64> = call.guesses.iter().map(|g| g.1).collect();
        records.push(json!({ "block": call.block, "step": in_block, "confidence": sure, "is_correct": right }));
        timeline.extend(call.kept.iter().map(|&(at, sure)| json!([i, at, text[at], sure])));
        forced.extend(call.copied.then(|| json!([call.block, i])));
    }
    Ok(json!({
        "reference": text,
        "records": records,
        "forced_fill_events(block,call)": forced,
        "oracle_nfe": calls.len(),
        "baseline_nfe": reference.forwards,
        "oracle_speedup": reference.forwards as f64 / calls.len().max(1) as f64,
        "timeline": timeline,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At place `i` it says `i % 3`, but 0 as long as the place before is a mask.
    struct Toy;

    impl Fill for Toy {
        fn mask(&self) -> u32 {
            3
        }
        fn longest(&self) -> Option<usize> {
            None
        }
        fn fill(&mut self, ids: &[u32], positions: &[usize], _: &Ctx) -> Result<Vec<Row>> {
            let row = |&i: &usize| {
                let says = if i > 0 && ids[i - 1] == 3 { 0 } else { i % 3 };
                Row::Logits((0..4).map(|id| if id == says { 2.0 } else { 0.0 }).collect())
            };
            Ok(positions.iter().map(row).collect())
        }
    }

    #[test]
    fn what_is_right_is_kept_at_once_and_the_rest_is_copied_where_nothing_changes() {
        // The text is 1 2 0 after the 0: places 1 and 3 are right at once, then place 2.
        let calls = oracle(&mut Toy, &[0, 1, 2, 0], 1, 3, &Ctx::default()).unwrap();
        let kept: Vec<Vec<usize>> = calls.iter().map(|c| c.kept.iter().map(|k| k.0).collect()).collect();
        assert_eq!(kept, [vec![1, 3], vec![2]]);
        // A text that it never says: nothing changes from the first pass to the second, and the rest is copied.
        let calls = oracle(&mut Toy, &[0, 2, 1], 1, 1, &Ctx::default()).unwrap();
        assert_eq!(calls.iter().map(|c| c.copied).collect::<Vec<_>>(), [false, true, false, true]);
    }
}
