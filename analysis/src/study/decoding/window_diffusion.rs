//! Window-Diffusion: between full passes only the first masked places are computed, and they look at a window.
//!
//! Source: "Window-Diffusion: Accelerating Diffusion Language Model Inference with Windowed Token Pruning and Caching";
//! vhicrgit/Window-Diffusion llada/model/modeling_llada.py. Takes: a model that fills in. Gives: its text with the zones of
//! every pass. Departs: live, pruned passes see what the authors' see, but are computed in full: what they would save is
//! counted, not saved.

use super::super::Method;
use super::show;
use crate::ctx::Ctx;
use crate::decode::mask::LENGTH;
use crate::decode::oracle::{Fill, Filler};
use crate::decode::toy::Neighbours;
use crate::finding::{Class, Datum, Figure, Finding, Look, Measure, TimeCell, Timeline, Unit};
use crate::math::largest;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const STEPS: Param = Param::count("steps", "Steps for the whole text", 1, 1024, 32);
const REFRESH: Param = Param::count("refresh_cycle", "Steps from one full pass to the next", 1, 64, 5);
const WINDOW: Param = Param::count("window_tokens", "Masked places that a pruned pass sees", 1, 512, 16);
const ACTIVE: Param = Param::count("active_tokens", "Masked places that a pruned pass computes", 1, 512, 8);

static INFO: Info = Info {
    id: "window_diffusion",
    title: "Window-Diffusion",
    summary: "Writes a text with passes that compute few places and see a window, and a full pass now and then.",
    family: "masked diffusion",
    basis: Basis::Authors { repo: "vhicrgit/Window-Diffusion", commit: "d8bb349" },
    paper: Some(Paper {
        title: "Window-Diffusion: Accelerating Diffusion Language Model Inference with Windowed Token Pruning and Caching",
        authors: "vhicrgit",
        year: 2026,
        arxiv: "",
    }),
    departs: "pruned passes see what the authors' see, without their cache of keys and values: what is saved is counted only",
    needs: &[Need::Fills],
    params: &[STEPS, REFRESH, WINDOW, ACTIVE, LENGTH],
    budget: Some(&ACTIVE),
    raw: &[Adapter { name: "window_diffusion", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct WindowDiffusion;

#[derive(Debug, Clone, Copy)]
struct Rules {
    length: usize,
    steps: usize,
    refresh: usize,
    window: usize,
    active: usize,
}

/// One pass.
#[derive(Debug, Clone, PartialEq)]
struct Pass {
    /// Places that it computes and those that it sees, both ascending; `None` for a full pass.
    zones: Option<(Vec<usize>, Vec<usize>)>,
    /// What it reveals: place, id, probability.
    revealed: Vec<(usize, u32, f64)>,
}

impl Pass {
    /// How many places it computes of a text of `whole`.
    fn computed(&self, whole: usize) -> usize {
        self.zones.as_ref().map_or(whole, |z| z.0.len())
    }
}

/// Writes a text after `prompt`.
fn write(model: &mut dyn Fill, prompt: &[u32], rules: Rules, ctx: &Ctx) -> Result<(Vec<u32>, Vec<Pass>)> {
    let whole = prompt.len() + rules.length;
    if let Some(most) = model.longest().filter(|&most| whole > most) {
        return Err(Error::invalid(format!(
            "prompt and gen_length are {whole} tokens, more than the {most} that the model reads; shorten one of them"
        )));
    }
    let mask = model.mask();
    let mut text = prompt.to_vec();
    text.resize(whole, mask);
    let (mut passes, mut window, mut fresh): (Vec<Pass>, Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..rules.steps {
        ctx.step(step, rules.steps)?;
        let masked: Vec<usize> = (0..whole).filter(|&i| text[i] == mask).collect();
        if masked.is_empty() {
            break;
        }
        let in_phase = step % rules.refresh;
        let zones = (in_phase > 0).then(|| {
            if in_phase == 1 {
                window =
                    (0..whole).filter(|&i| text[i] != mask).chain(masked.iter().copied().take(rules.window)).collect();
                window.sort_unstable();
            }
            let mut active: Vec<usize> = fresh.iter().chain(masked.iter().take(rules.active)).copied().collect();
            active.sort_unstable();
            active.dedup();
            (active, window.clone())
        });
        let open: Vec<usize> = match &zones {
            Some((active, _)) => active.iter().copied().filter(|&i| text[i] == mask).collect(),
            None => masked,
        };
        let rows = match &zones {
            Some((_, window)) => model.fill_seeing(&text, &open, window, ctx)?,
            None => model.fill(&text, &open, ctx)?,
        };
        let best = |row: &crate::decode::row::Row| {
            let id = row.best_but(mask);
            (id, row.probabilities([id], 1.0)[0])
        };
        let guesses: Vec<(u32, f64)> = rows.iter().map(best).collect();
        let k = rules.length / rules.steps + usize::from(step < rules.length % rules.steps);
        let mut chosen = largest(&guesses.iter().map(|g| g.1).collect::<Vec<_>>(), k);
        chosen.sort_unstable();
        let revealed: Vec<(usize, u32, f64)> =
            chosen.into_iter().map(|i| (open[i], guesses[i].0, guesses[i].1)).collect();
        revealed.iter().for_each(|r| text[r.0] = r.1);
        // What a full pass revealed is computed once more; what pruned passes reveal, until the next full one.
        if in_phase < 2 {
            fresh.clear();
        }
        fresh.extend(revealed.iter().map(|r| r.0));
        passes.push(Pass { zones, revealed });
    }
    Ok((text, passes))
}

/// Places computed by all passes, and by as many full ones.
fn computed(passes: &[Pass], whole: usize) -> (usize, usize) {
    (passes.iter().map(|p| p.computed(whole)).sum(), passes.len() * whole)
}

impl Method for WindowDiffusion {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        show::ready(on, &INFO, params)?;
        let model = on.weights(&INFO)?;
        let (prompt, of) = (on.again().ids, |p| params.count(p) as usize);
        let length = of(&LENGTH);
        let (steps, refresh) = (of(&STEPS).min(length), of(&REFRESH));
        let rules = Rules { length, steps, refresh, window: of(&WINDOW), active: of(&ACTIVE) };
        let (text, passes) = write(&mut Filler::new(model, on.tokenizer)?, &prompt, rules, ctx)?;
        let whole = text.len();
        let mut cells = Vec::new();
        let mut there: Vec<bool> = (0..whole).map(|i| i < prompt.len()).collect();
        for (step, pass) in passes.iter().enumerate() {
            for (i, there) in there.iter().enumerate().skip(prompt.len()) {
                let revealed = pass.revealed.iter().find(|r| r.0 == i);
                let state = match (&pass.zones, revealed) {
                    (_, Some(_)) => 4,
                    _ if *there => 3,
                    (None, _) => 2,
                    (Some((active, _)), _) if active.contains(&i) => 2,
                    (Some((_, window)), _) if window.contains(&i) => 1,
                    _ => 0,
                };
                let (id, confidence) = (revealed.map(|r| r.1), revealed.map(|r| r.2 as f32));
                let word = id.map_or(String::new(), |id| on.word(id));
                let position = i - prompt.len();
                cells.push(TimeCell { step, position, id, text: word.into(), confidence, why: "".into(), state });
            }
            pass.revealed.iter().for_each(|r| there[r.0] = true);
        }
        let states = vec![
            Class::new("pruned", "neither computed nor seen", Look::Quiet),
            Class::new("window", "masked, seen as it was in the last full pass", Look::Category(1)),
            Class::new("active", "masked and computed", Look::Category(5)),
            Class::new("written", "revealed before", Look::Plain),
            Class::new("revealed", "stays from this step on", Look::Good),
        ];
        let (own, full) = computed(&passes, whole);
        let timeline = Timeline {
            title: "zones of every pass".into(),
            steps: Unit::Steps,
            n_steps: passes.len(),
            places: Unit::Positions,
            n_places: length,
            measure: Measure::new("confidence", "probability"),
            states,
            cells,
        };
        let per_pass = passes.iter().map(|p| p.computed(whole) as f64);
        Ok(Finding::of(timeline)
            .with(show::bars("places computed", "pass", Measure::new("places", ""), per_pass))
            .figure(Figure::new(
                "computed",
                Datum::Share(own as f64 / full.max(1) as f64),
                "places that the passes compute, of those that full passes would; our passes do not save the rest",
            ))
            .figure(Figure::new("text", Datum::Text(on.text(&text[prompt.len()..])), "what is written")))
    }
}

/// Raw entry: the stub of the golden.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let prompt: Vec<u32> = input.read("prompt")?;
    let rules = Rules {
        length: input.within("gen_length", 1..=1 << 16)?,
        steps: input.within("steps", 1..=1 << 16)?,
        refresh: input.within("refresh_cycle", 1..=1 << 16)?,
        window: input.read("window_tokens")?,
        active: input.read("active_tokens")?,
    };
    let (text, passes) = write(&mut Neighbours::of(input)?, &prompt, rules, ctx)?;
    let (own, full) = computed(&passes, text.len());
    let call = |p: &Pass| match &p.zones {
        None => json!({ "kind": "full" }),
        Some((active, window)) => json!({ "kind": "pruned", "active": active, "window": window }),
    };
    Ok(json!({
        "output": text,
        "calls": passes.iter().map(call).collect::<Vec<_>>(),
        "token_forwards": own,
        "token_forwards_full": full,
        "compute_ratio": own as f64 / full.max(1) as f64,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::row::Row;

    /// Surer the further left; id 2 is the mask.
    struct Toy;

    impl Fill for Toy {
        fn mask(&self) -> u32 {
            2
        }
        fn longest(&self) -> Option<usize> {
            Some(9)
        }
        fn fill(&mut self, _: &[u32], positions: &[usize], _: &Ctx) -> Result<Vec<Row>> {
            Ok(positions.iter().map(|&i| Row::Logits(vec![9.0 - i as f32, 0.0, 0.0])).collect())
        }
    }

    #[test]
    fn zones_by_hand() {
        let rules = Rules { length: 5, steps: 5, refresh: 3, window: 3, active: 2 };
        let (text, passes) = write(&mut Toy, &[1], rules, &Ctx::default()).unwrap();
        assert_eq!(text, [1, 0, 0, 0, 0, 0]);
        let zones: Vec<_> = passes.iter().map(|p| p.zones.clone()).collect();
        assert_eq!(zones[0], None);
        // Place 1 was just revealed and is computed once more; the window stays until the next full pass.
        assert_eq!(zones[1], Some((vec![1, 2, 3], vec![0, 1, 2, 3, 4])));
        assert_eq!(zones[2], Some((vec![2, 3, 4], vec![0, 1, 2, 3, 4])));
        assert_eq!((zones[3].clone(), computed(&passes, 6)), (None, (20, 30)));
        assert!(write(&mut Toy, &[1], Rules { length: 9, ..rules }, &Ctx::default()).is_err());
    }
}
