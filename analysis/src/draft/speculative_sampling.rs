//! Speculative sampling with a draft model: a chain of guesses, verified by one pass of the target.
//!
//! Source: Leviathan et al. 2023, arXiv 2211.17192; Chen et al. 2023, arXiv 2302.01318.
//! Takes: two models with one vocabulary. Gives: rounds with their chains. Departs: none known.
//! Lossless: at temperature 0 the output is the target's own greedy text, which is checked.

use super::reader::{NEW, Reader, SEED, TEMPERATURE, check_greedy, distribution, drafter, start};
use super::spec_sampling::{accept_probability, inverse_cdf, residual};
use super::{DraftInput, DraftNode, DraftRun, Method, NodeState, Round};
use crate::Result;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::run::argmax;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const GAMMA: Param = Param::count("gamma", "Tokens drafted per round", 1, 16, 4);

static INFO: Info = Info {
    id: "speculative_sampling",
    title: "Speculative sampling",
    summary: "Lets a small model guess a few tokens ahead and the large one verify them in one pass.",
    family: "speculative",
    paper: Some(Paper {
        title: "Fast Inference from Transformers via Speculative Decoding",
        authors: "Leviathan et al.",
        year: 2023,
        arxiv: "2211.17192",
    }),
    needs: &[Need::Logits, Need::DraftModel],
    params: &[GAMMA, NEW, TEMPERATURE, SEED],
    basis: Basis::OwnReading,
    budget: Some(&GAMMA),
    raw: &[super::spec_sampling::ADAPTER, super::spec_sampling::TRACE_ADAPTER],
    first: true,
    ..Info::of(Kind::Draft)
};

pub(super) struct SpeculativeSampling;

impl Method for SpeculativeSampling {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn run(
        &self,
        input: &DraftInput,
        params: &Params,
        ctx: &Ctx,
        partial: &mut dyn FnMut(&DraftRun),
    ) -> Result<DraftRun> {
        INFO.check(params)?;
        let draft = drafter(input, INFO.id)?;
        let (gamma, new) = (params.count(&GAMMA) as usize, params.count(&NEW) as usize);
        let temperature = params.number(&TEMPERATURE);
        let mut rng = ChaCha8Rng::seed_from_u64(params.seed(&SEED));
        let (mut run, mut root) = start(input)?;
        let (mut target, mut small) = (Reader::target(input, ctx)?, Reader::draft(draft, input, ctx)?);
        let mut emitted = 0;
        while emitted < new {
            ctx.step(emitted, new)?;
            let (kept, kept_small) = (target.cache.len(), small.cache.len());
            // The last emitted token is read only now: it is the root of this round's chain.
            let mut chain: Vec<u32> = Vec::new();
            let mut q: Vec<Vec<f64>> = Vec::new();
            let mut last = root;
            for _ in 0..gamma.min(new - emitted) {
                let logits = small.read(&[last], ctx)?;
                let dist = distribution(&logits[0], temperature);
                last =
                    if temperature == 0.0 { argmax(&logits[0]).unwrap_or(0) } else { inverse_cdf(&dist, rng.random()) }
                        as u32;
                chain.push(last);
                // What the view shows is the draft's confidence, also where it is greedy.
                q.push(distribution(&logits[0], if temperature == 0.0 { 1.0 } else { temperature }));
            }
            let read: Vec<u32> = std::iter::once(root).chain(chain.iter().copied()).collect();
            let logits = target.read(&read, ctx)?;
            let shown: Vec<Vec<f64>> =
                logits.iter().map(|l| distribution(l, if temperature == 0.0 { 1.0 } else { temperature })).collect();
            let p: Vec<Vec<f64>> = logits.iter().map(|l| distribution(l, temperature)).collect();
            let mut nodes = Vec::new();
            let mut accepted = 0;
            let mut refused = false;
            for (i, &token) in chain.iter().enumerate() {
                let x = token as usize;
                let greedy_q: Vec<f64>;
                let qi = if temperature == 0.0 {
                    greedy_q = (0..q[i].len()).map(|j| f64::from(u8::from(j == x))).collect();
                    &greedy_q
                } else {
                    &q[i]
                };
                let accept = accept_probability(&p[i], qi, x);
                let state = if refused {
                    NodeState::Unverified
                } else if rng.random::<f64>() < accept {
                    accepted += 1;
                    NodeState::Accepted
                } else {
                    refused = true;
                    NodeState::Rejected
                };
                nodes.push(DraftNode {
                    parent: i.checked_sub(1),
                    token,
                    depth: i + 1,
                    p_draft: Some(q[i][x] as f32),
                    p_target: Some(shown[i][x] as f32),
                    p_accept: Some(accept as f32),
                    state,
                });
            }
            let own = if refused && temperature > 0.0 {
                inverse_cdf(&residual(&p[accepted], &q[accepted]), rng.random())
            } else if temperature > 0.0 {
                inverse_cdf(&p[accepted], rng.random())
            } else {
                argmax(&logits[accepted]).unwrap_or(0)
            } as u32;
            let mut out: Vec<u32> = chain[..accepted].to_vec();
            out.push(own);
            out.truncate(new - emitted);
            emitted += out.len();
            run.rounds.push(Round { root, nodes, emitted: out, draft_passes: chain.len() });
            // Both caches go back to root and accepted drafts; the draft has not read its own last guess.
            target.cache.truncate(kept + 1 + accepted)?;
            small.cache.truncate(kept_small + 1 + accepted)?;
            if small.cache.len() < kept_small + 1 + accepted {
                small.read(&[chain[accepted - 1]], ctx)?;
            }
            root = own;
            partial(&run);
        }
        if temperature == 0.0 {
            check_greedy(&mut run, input, ctx)?;
        }
        Ok(run)
    }
}
