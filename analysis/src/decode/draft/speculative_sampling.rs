//! Speculative sampling with a draft model: a chain of guesses, verified by one pass of the target.
//!
//! Source: Leviathan et al. 2023, arXiv 2211.17192; Chen et al. 2023, arXiv 2302.01318.
//! Takes: two models with one vocabulary. Gives: a chain per round. Departs: none known.
//! Lossless: at temperature 0 the output is the target's own greedy text, which is checked.

use crate::ctx::Ctx;
use crate::decode::chance::{Chance, Drawn, Recorded, every};
use crate::decode::cut::{TOP_K, TOP_P};
use crate::decode::engine::{Decode, Draft, NEW, Rules, TEMPERATURE, Turn, Verified};
use crate::decode::oracle::Oracle;
use crate::decode::row::Row;
use crate::decode::toy::{Markov, Sheet};
use crate::decode::tree::Tree;
use crate::decode::verify::recursive_rejection::{RecursiveRejection, accept_probability, residual};
use crate::decode::verify::{self, Verify};
use crate::decode::{DraftRun, Method, SEED, With};
use crate::math::softmax;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};

const GAMMA: Param = Param::count("gamma", "Tokens drafted per round", 1, 16, 4);

static INFO: Info = Info {
    id: "speculative_sampling",
    title: "Speculative sampling",
    summary: "Lets a small model guess a few tokens ahead and the large one verify them in one pass.",
    family: "speculative",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "Fast Inference from Transformers via Speculative Decoding",
        authors: "Leviathan et al.",
        year: 2023,
        arxiv: "2211.17192",
    }),
    needs: &[Need::Writes, Need::DraftModel],
    params: &[GAMMA, NEW, verify::DRAWN, TEMPERATURE, TOP_K, TOP_P, SEED],
    budget: Some(&GAMMA),
    first: true,
    raw: &[Adapter { name: "spec_sampling", run: raw }, Adapter { name: "spec_sampling_trace", run: raw_trace }],
    ..Info::of(Kind::Draft)
};

pub(super) struct SpeculativeSampling;

impl Method for SpeculativeSampling {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn draft<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Draft + 'a>> {
        Ok(Box::new(Chain { small: with.partner(ctx)?, gamma: params.count(&GAMMA) as usize }))
    }

    fn verify<'a>(&self, _: &With<'a>, params: &Params, _: &Ctx) -> Result<Box<dyn Verify + 'a>> {
        Ok(verify::chosen(params, &verify::DRAWN))
    }
}

/// A small model that guesses one token after another.
struct Chain<O> {
    small: O,
    gamma: usize,
}

impl<O: Oracle> Draft for Chain<O> {
    fn grow(&mut self, turn: &Turn, chance: &mut dyn Chance, ctx: &Ctx) -> Result<Tree> {
        let mut tree = Tree::new(turn.root());
        let mut last = turn.root();
        for at in 0..self.gamma.min(turn.room) {
            let row = self.small.read(&[last], ctx)?.pop().ok_or_else(|| Error::invalid("the model gave no logits"))?;
            let (x, p) = turn.draw(&row, chance);
            last = x as u32;
            tree.push(at, last, Some(p[x]), None);
            tree.draws_from(at, p);
            tree.passes += 1;
        }
        Ok(tree)
    }

    fn learn(&mut self, round: &Verified, ctx: &Ctx) -> Result<()> {
        // Of root and guesses the small model has read all but the last one.
        let n = self.small.len() + 1 - round.tree.len() + 1;
        let want = n + round.path.len();
        self.small.keep_first(want)?;
        if self.small.len() < want {
            let last = round.path.last().map_or(0, |&i| round.tree.nodes()[i].token);
            self.small.read(&[last], ctx)?;
        }
        Ok(())
    }
}

/// More ways than this in which one round can go are not enumerated.
const MAX_WAYS: usize = 2_000_000;

/// Raw entry `spec_sampling`: order-1 Markov `P[prev][next]`, `Q[prev][next]`, `ctx`, `gamma` → the exact distribution
/// of one round.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (p, q): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (input.read("P")?, input.read("Q")?);
    let (start, gamma): (usize, usize) = (input.read("ctx")?, input.read("gamma")?);
    let (target, small) = (Markov::first_order(p.clone(), "P")?, Markov::first_order(q.clone(), "Q")?);
    let v = target.vocab();
    let ways = (v as f64).powi(gamma.min(64) as i32 + 1) * (gamma as f64 + 1.0);
    if small.vocab() != v || start >= v || gamma == 0 || ways > MAX_WAYS as f64 {
        return Err(Error::invalid("P and Q must be of one size, ctx inside it, and gamma small enough to enumerate"));
    }
    let rules = Rules { new: gamma + 1, rounds: 1, temperature: 1.0, end: Vec::new() };
    let all = every(MAX_WAYS, |chance| {
        let mut draft = Chain { small: small.clone(), gamma };
        let prompt = &[start as u32];
        let verify = &RecursiveRejection;
        let one = Decode { target: target.clone(), prompt, draft: &mut draft, verify, rules: rules.clone() };
        Ok(one.run(chance, ctx, &mut |_| ())?.output())
    })?;
    let (mut first, mut accepted) = (vec![0.0; v], vec![0.0; gamma + 1]);
    let mut emitted = std::collections::BTreeMap::<Vec<u32>, f64>::new();
    for (text, weight) in all {
        first[text[0] as usize] += weight;
        accepted[text.len() - 1] += weight;
        *emitted.entry(text).or_default() += weight;
    }
    let beta: Vec<f64> = (0..v).map(|c| p[c].iter().zip(&q[c]).map(|(a, b)| a.min(*b)).sum()).collect();
    let mean: f64 = accepted.iter().enumerate().map(|(i, x)| i as f64 * x).sum();
    let (alpha, g) = (beta[start], gamma as f64);
    let expected = if alpha >= 1.0 { g + 1.0 } else { (1.0 - alpha.powf(g + 1.0)) / (1.0 - alpha) };
    Ok(json!({
        "first_token_marginal": first,
        "accept_prob_given_token": (0..v).map(|x| accept_probability(&p[start], &q[start], x)).collect::<Vec<_>>(),
        "residual_at_ctx": residual(&p[start], &q[start]),
        "alpha_ctx": alpha,
        "beta_per_context": beta,
        "prob_num_accepted": accepted,
        "mean_accepted": mean,
        "mean_tokens_per_round": mean + 1.0,
        "emitted_sequence_probs": emitted.into_iter().collect::<Vec<_>>(),
        "iid_formula_at_alpha_ctx": {
            "expected_tokens": expected,
            "speedup_c0.1": expected / (g * 0.1 + 1.0),
            "ops_increase_c_hat0.1": (g * 0.1 + g + 1.0) / expected,
        },
    }))
}

#[derive(serde::Deserialize)]
struct RawTrace {
    draft: Vec<usize>,
    uniforms: Vec<f64>,
}

/// Raw entry `spec_sampling_trace`: logits and recorded uniforms → what each trace accepts and emits.
fn raw_trace(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let rows = |name: &str| -> Result<Vec<Row>> {
        let m: Vec<Vec<f64>> = input.read(name)?;
        Ok(m.iter().map(|r| Row::Chances(softmax(r, 1.0))).collect())
    };
    let (q, p) = (rows("draft_logits")?, rows("target_logits")?);
    let traces: Vec<RawTrace> = input.read("traces")?;
    let (v, gamma) = (p.first().map_or(0, Row::len), q.len());
    if v == 0 || p.len() != gamma + 1 || p.iter().chain(&q).any(|r| r.len() != v) {
        return Err(Error::invalid("target_logits needs one row more than draft_logits, all of one width"));
    }
    let mut results = Vec::new();
    for t in traces {
        if t.draft.len() != gamma || t.uniforms.len() <= gamma || t.draft.iter().any(|&x| x >= v) {
            return Err(Error::invalid("a trace needs a draft token per draft row and one uniform more"));
        }
        let draws = t.draft.iter().map(|&x| Drawn::Index(x)).chain([Drawn::Uniform(t.uniforms[gamma])]);
        let mut chance = Recorded::new(t.uniforms[..gamma].iter().copied(), draws);
        let mut draft = Chain { small: Sheet::new(q.clone()), gamma };
        let rules = Rules { new: gamma + 1, rounds: 1, temperature: 1.0, end: Vec::new() };
        let target = Sheet::new(p.clone());
        let one = Decode { target, prompt: &[0], draft: &mut draft, verify: &RecursiveRejection, rules };
        let tokens = one.run(&mut chance, ctx, &mut |_: &DraftRun| ())?.output();
        chance.check()?;
        results.push(json!({ "accepted": tokens.len() - 1, "tokens": tokens }));
    }
    Ok(json!({ "results": results }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::chance::Seeded;
    use crate::decode::verify::exact_match::ExactMatch;

    /// Chi-square test of the first emitted token against the target, 3 degrees of freedom: a right program
    /// fails with probability 0.001 over seeds; the seeds are fixed.
    #[test]
    fn the_first_token_is_distributed_as_the_targets_with_either_verifier() {
        let p = vec![vec![0.1, 0.2, 0.3, 0.4]; 4];
        let (target, small) =
            (Markov::first_order(p.clone(), "P"), Markov::first_order(vec![vec![0.4, 0.3, 0.2, 0.1]; 4], "Q"));
        let (target, small) = (target.unwrap(), small.unwrap());
        let rules = Rules { new: 2, rounds: 1, temperature: 1.0, end: Vec::new() };
        for verify in [&RecursiveRejection as &dyn Verify, &ExactMatch] {
            let (mut counts, n) = ([0f64; 4], 40_000);
            let mut chance = Seeded::new(7);
            for _ in 0..n {
                let mut draft = Chain { small: small.clone(), gamma: 1 };
                let one =
                    Decode { target: target.clone(), prompt: &[0], draft: &mut draft, verify, rules: rules.clone() };
                let run = one.run(&mut chance, &Ctx::default(), &mut |_| ()).unwrap();
                counts[run.output()[0] as usize] += 1.0;
            }
            let cell = |(c, p): (&f64, &f64)| (c - p * f64::from(n)).powi(2) / (p * f64::from(n));
            let chi: f64 = counts.iter().zip(&p[0]).map(cell).sum();
            assert!(chi < 16.27, "chi-square is {chi}");
        }
    }

    #[test]
    fn a_chain_goes_on_where_the_text_does() {
        // The small model counts up from 0 to 3 and begins again; the target does the same but says 0 after 1.
        let count = |target: bool| {
            let next = |i: usize| if target && i == 1 { 0 } else { (i + 1) % 4 };
            let row = |i: usize| (0..4).map(|j| f64::from(u8::from(j == next(i)))).collect();
            Markov::first_order((0..4).map(row).collect(), "table").unwrap()
        };
        let mut draft = Chain { small: count(false), gamma: 2 };
        let rules = Rules { new: 6, rounds: usize::MAX, temperature: 0.0, end: Vec::new() };
        let verify = &RecursiveRejection;
        let all = Decode { target: count(true), prompt: &[2], draft: &mut draft, verify, rules };
        let run = all.run(&mut Seeded::new(0), &Ctx::default(), &mut |_| ()).unwrap();
        let emitted: Vec<Vec<u32>> = run.rounds.iter().map(|r| r.emitted.clone()).collect();
        // 3 and 0 are right, then the target says 1; of 2 and 3 none is, and so on.
        assert_eq!(emitted, [vec![3, 0, 1], vec![0], vec![1, 0]]);
        assert!(run.lossless.unwrap().0);
    }
}
