//! Whether what a method emits is the target's own text: greedily id by id, exactly over every way in which chance can
//! go where there are few ids, and by a chi-square test over many decodes of one prompt.
//!
//! Whatever follows the same text is the same each time, so models say it once ([`Known`]) and chance alone repeats.

use super::chance::{Chance, Seeded, every};
use super::cut::Cut;
use super::engine::{Decode, NEW, Rules, TEMPERATURE, decode};
use super::known::{Known, Memory};
use super::oracle::{Oracle, Reader};
use super::verify::Claim;
use super::{Method, SEED, Shared, With};
use crate::ctx::Ctx;
use crate::math::{chi_square_tail, largest};
use crate::method::Params;
use crate::subject::Subject;
use crate::{Error, Result};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

/// Below this probability a test rejects.
pub const LEVEL: f64 = 1e-4;
/// Decodes that are counted unless somebody asks for another number.
pub const ROUNDS: usize = 20_000;
/// New tokens of each decode.
const TOKENS: usize = 2;
/// Texts that are expected less often share a cell.
const LEAST: f64 = 5.0;
/// Decodes between two looks at the counts.
const BLOCK: usize = 500;
/// Ids of a vocabulary that is small enough to be gone through, and those that are taken of a larger one.
const SMALL: usize = 8;
const FEW: usize = 4;
/// Ways in which chance can go that are gone through at most.
const WAYS: usize = 30_000;
/// Arithmetic in f64 is off by less.
const ROUNDING: f64 = 1e-9;
/// Tokens of the greedy decode at most.
const GREEDY: i64 = 32;

/// One decode: what it emits, for what chance says.
pub type Trial<'a> = dyn Fn(&mut dyn Chance) -> Result<Vec<u32>> + Sync + 'a;

/// What the target itself writes: the first new token, and the second one after those that come often enough.
pub struct Own {
    first: Vec<f64>,
    second: BTreeMap<u32, Vec<f64>>,
}

/// Tokens whose successors are asked for in one pass.
const TOGETHER: usize = 64;

impl Own {
    /// What `target`, which has read all but `root`, writes at `temperature`; second tokens after those that `rounds`
    /// decodes are expected to begin with at all often.
    pub fn of<O: Oracle>(target: &O, root: u32, temperature: f64, rounds: usize, ctx: &Ctx) -> Result<Self> {
        let row = target.clone().read(&[root], ctx)?.pop();
        let first = row.ok_or_else(|| Error::invalid("the model gave no logits"))?.distribution(temperature);
        let often = |&i: &usize| first[i] * rounds as f64 >= LEAST;
        let often: Vec<u32> = (0..first.len()).filter(often).map(|i| i as u32).collect();
        let mut second = BTreeMap::new();
        for some in often.chunks(TOGETHER) {
            ctx.check()?;
            let ids = [&[root], some].concat();
            let rows = match some.len() {
                1 => target.clone().read(&ids, ctx)?,
                n => target.clone().read_tree(&ids, &vec![0; n + 1], ctx)?,
            };
            second.extend(some.iter().zip(&rows[1..]).map(|(&id, row)| (id, row.distribution(temperature))));
        }
        Ok(Self { first, second })
    }

    /// Probability of each text of `length` tokens, 1 or 2, that is expected often enough in `rounds` decodes.
    fn texts(&self, length: usize, rounds: f64) -> BTreeMap<Vec<u32>, f64> {
        let often = |p: f64| p > 0.0 && p * rounds >= LEAST;
        if length == 1 {
            let all = self.first.iter().enumerate().filter(|(_, p)| often(**p));
            return all.map(|(i, &p)| (vec![i as u32], p)).collect();
        }
        let mut out = BTreeMap::new();
        for (&a, after) in &self.second {
            let p = self.first[a as usize];
            let all = after.iter().enumerate().filter(|(_, q)| often(p * **q));
            out.extend(all.map(|(b, q)| (vec![a, b as u32], p * q)));
        }
        out
    }

    /// Probability of a text; `None` where it is not known, after a token that hardly comes.
    fn of_text(&self, text: &[u32]) -> Option<f64> {
        let first = self.first.get(*text.first()? as usize).copied().unwrap_or(0.0);
        match text {
            [_] => Some(first),
            [a, b, ..] => Some(first * self.second.get(a)?.get(*b as usize).copied().unwrap_or(0.0)),
            [] => None,
        }
    }
}

/// How counts of texts fit what the target writes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fit {
    /// What was counted.
    pub of: &'static str,
    /// `Σ (seen − expected)² / expected` over texts expected at least five times; all others share a cell.
    pub statistic: f64,
    /// Cells less one.
    pub degrees_of_freedom: usize,
    /// How probable so large a statistic is where the counts are the target's own; `None` with a single cell.
    pub p: Option<f64>,
    /// Decodes that gave a text that the target never writes.
    pub impossible: usize,
    /// Total-variation distance of the shares seen from those expected, cell by cell.
    pub total_variation: f64,
    /// What chance alone makes of that distance, on average.
    pub by_chance: f64,
}

impl Fit {
    fn of(of: &'static str, length: usize, seen: &HashMap<Vec<u32>, usize>, own: &Own, rounds: usize) -> Self {
        let n = rounds as f64;
        let want = own.texts(length, n);
        let mut counts = HashMap::<&[u32], usize>::new();
        let mut impossible = 0;
        for (text, &count) in seen {
            let text = &text[..length.min(text.len())];
            *counts.entry(text).or_default() += count;
            impossible += if own.of_text(text) == Some(0.0) { count } else { 0 };
        }
        let mut cells: Vec<(f64, f64)> =
            want.iter().map(|(t, p)| (counts.get(&t[..]).copied().unwrap_or(0) as f64, p * n)).collect();
        let rest = (n - cells.iter().map(|c| c.0).sum::<f64>(), (n - cells.iter().map(|c| c.1).sum::<f64>()).max(0.0));
        if rest.1 >= LEAST || cells.is_empty() {
            cells.push(rest);
        } else if let Some(least) = cells.iter_mut().min_by(|a, b| a.1.total_cmp(&b.1)) {
            *least = (least.0 + rest.0, least.1 + rest.1);
        }
        let statistic = cells.iter().map(|(seen, want)| (seen - want).powi(2) / want).sum();
        let degrees_of_freedom = cells.len() - 1;
        let chance = |p: f64| (2.0 * p * (1.0 - p).max(0.0) / (std::f64::consts::PI * n)).sqrt();
        Self {
            of,
            statistic,
            degrees_of_freedom,
            p: (degrees_of_freedom > 0).then(|| chi_square_tail(statistic, degrees_of_freedom as f64)),
            impossible,
            total_variation: cells.iter().map(|(seen, want)| (seen - want).abs()).sum::<f64>() / (2.0 * n),
            by_chance: cells.iter().map(|c| chance(c.1 / n)).sum::<f64>() / 2.0,
        }
    }

    /// Whether the counts are not the target's own.
    pub fn rejects(&self) -> bool {
        self.impossible > 0 || self.p.is_some_and(|p| p < LEVEL)
    }
}

/// Decodes `rounds` times, each with a chance of its own that hangs on `seed` and its number alone, and compares what
/// comes first with `own`. `partial` sees the fits so far.
///
/// Errors: whatever a decode fails with, cancelled.
pub fn sampled(
    trial: &Trial,
    own: &Own,
    (rounds, seed): (usize, u64),
    ctx: &Ctx,
    partial: &mut dyn FnMut(usize, &[Fit]),
) -> Result<Vec<Fit>> {
    let mut seen = HashMap::<Vec<u32>, usize>::new();
    let mut fits = Vec::new();
    let mut done = 0;
    while done < rounds {
        ctx.step(done, rounds)?;
        // The first one by itself: what all share is made once.
        let next = if done == 0 { 1 } else { (done + BLOCK).min(rounds) };
        let one = |i: usize| trial(&mut Seeded::one_of(seed, i as u64));
        let texts: Vec<Vec<u32>> = (done..next).into_par_iter().map(one).collect::<Result<_>>()?;
        for mut text in texts {
            text.truncate(TOKENS);
            *seen.entry(text).or_default() += 1;
        }
        done = next;
        let fit = |(of, length)| Fit::of(of, length, &seen, own, done);
        fits = [("the first token", 1), ("the first two tokens", 2)].map(fit).to_vec();
        partial(done, &fits);
    }
    Ok(fits)
}

/// What going through every way in which chance can go gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exact {
    /// All ways were gone through.
    Done {
        /// Ids that there were.
        ids: usize,
        /// Ways.
        ways: usize,
        /// By how much the probability of a text is off at most.
        off: f64,
    },
    /// They were not, for this reason.
    Not(String),
}

impl Exact {
    /// Every way in which `trial` can go, against `own` over the same ids.
    ///
    /// Errors: cancelled.
    pub fn of(trial: &Trial, own: &Own, ids: usize, ctx: &Ctx) -> Result<Self> {
        let all = every(WAYS, |chance| {
            ctx.check()?;
            trial(chance)
        });
        ctx.check()?;
        let all = match all {
            Ok(all) => all,
            Err(why) => return Ok(Self::Not(why.to_string())),
        };
        let ways = all.len();
        let mut seen = BTreeMap::<Vec<u32>, f64>::new();
        for (mut text, weight) in all {
            text.truncate(TOKENS);
            *seen.entry(text).or_default() += weight;
        }
        let want = own.texts(TOKENS, f64::INFINITY);
        let off = want.iter().map(|(t, p)| (seen.remove(t).unwrap_or(0.0) - p).abs()).fold(0.0, f64::max);
        Ok(Self::Done { ids, ways, off: seen.into_values().fold(off, f64::max) })
    }

    fn rejects(&self) -> bool {
        matches!(self, Self::Done { off, .. } if *off > ROUNDING)
    }
}

/// What is to be said in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Not all decodes are counted.
    Going,
    /// Nothing speaks against what the method claims.
    Holds,
    /// What it emits is not the target's own.
    Broken,
    /// It claims nothing; how far it strays is measured.
    Claimless,
    /// There was nothing to compare: the target always writes the same.
    Nothing,
}

/// All of it for one prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proof {
    /// What the method claims.
    pub claim: Claim,
    /// At which temperature was sampled: that of the decode, or 1 where that is greedy.
    pub temperature: f64,
    /// Where chance began.
    pub seed: u64,
    /// Decodes so far.
    pub rounds: usize,
    /// Decodes that there are to be.
    pub asked: usize,
    /// Whether a greedy decode is the target's own greedy text, and what it says; `None` where nothing is claimed.
    pub greedy: Option<(bool, String)>,
    /// Every way in which chance can go, over few ids.
    pub exact: Option<Exact>,
    /// The chi-square tests.
    pub fits: Vec<Fit>,
}

impl Proof {
    /// What is to be said so far.
    pub fn verdict(&self) -> Verdict {
        let broken = self.greedy.as_ref().is_some_and(|g| !g.0)
            || self.exact.as_ref().is_some_and(Exact::rejects)
            || self.fits.iter().any(Fit::rejects);
        match self.claim {
            Claim::Approximate if self.rounds < self.asked => Verdict::Going,
            Claim::Approximate => Verdict::Claimless,
            // A test that looks again and again rejects too often, so it speaks at its end.
            Claim::Lossless if self.rounds < self.asked => Verdict::Going,
            Claim::Lossless if broken => Verdict::Broken,
            Claim::Lossless if self.fits.iter().all(|f| f.p.is_none()) => Verdict::Nothing,
            Claim::Lossless => Verdict::Holds,
        }
    }

    /// The verdict in words.
    pub fn words(&self) -> String {
        let strays = self.fits.first().map_or(String::new(), |f| {
            format!("{:.4} from the target's first token ({:.4} by chance alone)", f.total_variation, f.by_chance)
        });
        match self.verdict() {
            Verdict::Going => format!("{} of {} decodes", self.rounds, self.asked),
            Verdict::Holds => "lossless: nothing speaks against it".into(),
            Verdict::Broken => "NOT lossless, though it should be: what it emits is not the target's own".into(),
            Verdict::Claimless => format!("not lossless by design: total-variation distance {strays}"),
            Verdict::Nothing => "the target always writes the same here; raise the temperature".into(),
        }
    }

    /// How often a right method is refused.
    pub fn error_level(&self) -> String {
        format!(
            "each chi-square test refuses a right method with probability {LEVEL:e}, over seeds; a difference that is too \
             small for {} decodes is not seen",
            self.asked
        )
    }

    /// All of it in lines, the verdict first.
    pub fn lines(&self) -> Vec<String> {
        let mut out = vec![self.words()];
        out.extend(self.greedy.as_ref().map(|(_, words)| format!("greedy: {words}")));
        out.extend(self.exact.as_ref().map(|exact| match exact {
            Exact::Done { ids, ways, off } => {
                format!("exactly, over {ids} ids in {ways} ways: no text is off by more than {off:.0e}")
            }
            Exact::Not(why) => format!("not exactly: {why}"),
        }));
        for f in &self.fits {
            let p = f.p.map_or("no p: a single cell".to_string(), |p| format!("p = {p:.4}"));
            let sure = match (self.claim, f.rejects(), self.verdict()) {
                (Claim::Approximate, ..) | (_, _, Verdict::Going) => "",
                (_, true, _) => ", rejected",
                (_, false, _) => ", not rejected",
            };
            out.push(format!(
                "{}: chi-square {:.2}, {} degrees of freedom, {p}{sure}; total variation {:.4}, by chance {:.4}",
                f.of, f.statistic, f.degrees_of_freedom, f.total_variation, f.by_chance
            ));
        }
        out.push(format!("{} decodes, temperature {}, seed {}", self.rounds, self.temperature, self.seed));
        out.push(self.error_level());
        out
    }

    /// As scripts read it.
    pub fn json(&self) -> Value {
        let mut out = json!(self);
        out["verdict"] = json!(self.verdict());
        out["words"] = json!(self.words());
        out["error_level"] = json!(self.error_level());
        out
    }
}

/// Proves a method on the prompt of a run, with its own parameters, seed and temperature; `partial` sees what there is
/// so far.
///
/// Errors: those of a decode, no rounds at all, cancelled.
pub fn prove<'a>(
    method: &'static dyn Method,
    on: &'a Subject<'a>,
    params: &Params,
    rounds: usize,
    ctx: &Ctx,
    partial: &mut dyn FnMut(&Proof),
) -> Result<Proof> {
    let info = method.info();
    if rounds == 0 {
        return Err(Error::invalid("a proof needs at least one decode"));
    }
    let quiet = ctx.quiet();
    let new = params.count(&NEW).min(GREEDY);
    let plain = params.clone().set(TEMPERATURE.key, 0.0).set(NEW.key, new);
    let greedy = decode(method, on, &plain, &quiet, &mut |_| ())?.lossless;
    let (warm, seed) = (params.number(&TEMPERATURE), params.seed(&SEED));
    let temperature = if warm == 0.0 { 1.0 } else { warm };
    let cut = Cut::of(params, temperature);
    let claim = method.verify(&With { on, info, cut, shared: None }, params, &quiet)?.lossless();
    let input = on.again();
    let Some((&root, before)) = input.ids.split_last() else {
        return Err(Error::invalid("the prompt has no tokens"));
    };
    let mut target = Reader::new(on.weights(info)?).cut(cut);
    target.begin(before, input.image.clone(), &quiet)?;
    // What is emitted first hangs on nothing behind it, unless a method looks for the longest path.
    let deepest = if claim == Claim::Lossless { TOKENS } else { usize::MAX };
    let known = |only: Option<Vec<usize>>| {
        let memory = Memory::new(temperature, only.clone(), deepest);
        let shared = Shared::new(move || Memory::new(temperature, only.clone(), usize::MAX));
        let with = With { on, info, cut, shared: Some(Arc::new(shared)) };
        (Known::new(target.clone(), Some(Arc::new(memory))), with)
    };
    let rules = Rules { new: TOKENS, rounds: usize::MAX, temperature: 1.0, end: Vec::new() };
    let (prompt, rules, quiet) = (&input.ids[..], &rules, &quiet);
    let trial = |(target, with): &(Known<Reader<'a>>, With<'a>), chance: &mut dyn Chance| {
        let mut draft = method.draft(with, params, quiet)?;
        let verify = method.verify(with, params, quiet)?;
        let (target, rules) = (target.clone(), rules.clone());
        let one = Decode { target, prompt, draft: draft.as_mut(), verify: verify.as_ref(), rules };
        Ok(one.run(chance, quiet, &mut |_| ())?.output())
    };
    let whole = known(None);
    let own = Own::of(&whole.0, root, 1.0, rounds, quiet)?;
    let ids = largest(&own.first, if own.first.len() <= SMALL { SMALL } else { FEW });
    let (n, narrow) = (ids.len(), known(Some(ids)));
    let mut proof = Proof { claim, temperature, seed, rounds: 0, asked: rounds, greedy, exact: None, fits: Vec::new() };
    if claim == Claim::Lossless {
        // Every one of the few ids comes often enough to be asked about.
        let own = Own::of(&narrow.0, root, 1.0, usize::MAX, quiet)?;
        proof.exact = Some(Exact::of(&|chance| trial(&narrow, chance), &own, n, quiet)?);
    }
    let fits = sampled(&|chance| trial(&whole, chance), &own, (rounds, seed), ctx, &mut |done, fits| {
        (proof.rounds, proof.fits) = (done, fits.to_vec());
        partial(&proof);
    })?;
    (proof.rounds, proof.fits) = (rounds, fits);
    Ok(proof)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::engine::{Draft, Turn};
    use crate::decode::toy::Markov;
    use crate::decode::tree::Tree;
    use crate::decode::verify::recursive_rejection::{RecursiveRejection, accept_probability, residual, without};
    use crate::decode::verify::walk::{Siblings, walk};
    use crate::decode::verify::{self, Offer, Verify};

    /// What is done wrong.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Fault {
        /// Accepts with min(1, q/p).
        TurnedRound,
        /// The residual is not renormalised.
        Raw,
        /// After a refusal the target's own distribution is drawn from.
        NoResidual,
        /// What siblings were refused is not taken out of the draft.
        Forgetful,
        /// Accepts a little too often.
        Generous,
        /// Nothing.
        None,
    }

    struct Broken(Fault);

    impl Siblings for Broken {
        fn offer(&self, offer: &Offer, node: usize, accepted: &mut dyn FnMut(usize, f64) -> bool) -> Vec<f64> {
            let mut p = offer.target(node);
            let Some(mut q) = offer.tree.drawn_from(node).map(<[f64]>::to_vec) else { return p };
            for child in offer.tree.children(node) {
                let x = offer.tree.nodes()[child].token as usize;
                let share = match self.0 {
                    Fault::TurnedRound => (q[x] / p[x]).min(1.0),
                    Fault::Generous => (accept_probability(&p, &q, x) * 1.1).min(1.0),
                    _ => accept_probability(&p, &q, x),
                };
                if accepted(child, share) {
                    break;
                }
                p = match self.0 {
                    Fault::NoResidual => p,
                    Fault::Raw => p.iter().zip(&q).map(|(p, q)| (p - q).max(0.0)).collect(),
                    _ => residual(&p, &q),
                };
                match without(&q, x) {
                    Some(left) if self.0 != Fault::Forgetful => q = left,
                    Some(_) => {}
                    None => break,
                }
            }
            p
        }
    }

    impl Verify for Broken {
        fn verify(&self, offer: &Offer, chance: &mut dyn Chance) -> verify::Verdict {
            walk(self, offer, chance)
        }

        fn lossless(&self) -> Claim {
            Claim::Lossless
        }
    }

    /// Draws two siblings, without replacement, and one more token below the first.
    struct Twice(Vec<Vec<f64>>);

    impl Draft for Twice {
        fn grow(&mut self, turn: &Turn, chance: &mut dyn Chance, _: &Ctx) -> Result<Tree> {
            let mut tree = Tree::new(turn.root());
            let after = |id: u32| self.0[id as usize].clone();
            let q = after(turn.root());
            let both = chance.draw_some(&q, 2);
            for &x in &both {
                tree.push(0, x as u32, Some(q[x]), None);
            }
            tree.draws_from(0, q);
            if turn.room > 1 {
                let q = after(both[0] as u32);
                let x = chance.draw(&q);
                tree.push(1, x as u32, Some(q[x]), None);
                tree.draws_from(1, q);
            }
            Ok(tree)
        }
    }

    fn tables() -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let p = vec![vec![0.4, 0.3, 0.2, 0.1], vec![0.1, 0.3, 0.2, 0.4], vec![0.25; 4], vec![0.05, 0.05, 0.8, 0.1]];
        let q = vec![vec![0.1, 0.2, 0.5, 0.2], vec![0.3, 0.1, 0.4, 0.2], vec![0.1, 0.2, 0.3, 0.4], vec![0.25; 4]];
        (p, q)
    }

    /// The proofs of a verifier on a toy.
    fn proven(verify: &(dyn Verify + Sync), rounds: usize, seed: u64) -> (Exact, Vec<Fit>) {
        let ((p, q), ctx) = (tables(), Ctx::default());
        let target = Markov::first_order(p, "P").unwrap();
        let rules = Rules { new: TOKENS, rounds: usize::MAX, temperature: 1.0, end: Vec::new() };
        let trial = |chance: &mut dyn Chance| {
            let (mut draft, target) = (Twice(q.clone()), target.clone());
            let one = Decode { target, prompt: &[0], draft: &mut draft, verify, rules: rules.clone() };
            Ok(one.run(chance, &ctx, &mut |_| ())?.output())
        };
        let own = Own::of(&target, 0, 1.0, rounds, &ctx).unwrap();
        let exact = Exact::of(&trial, &own, 4, &ctx).unwrap();
        let mut seen = 0;
        let fits = sampled(&trial, &own, (rounds, seed), &ctx, &mut |done, fits| {
            assert!(done > seen && fits.len() == 2);
            seen = done;
        });
        assert_eq!(seen, rounds);
        (exact, fits.unwrap())
    }

    /// A right one is refused by one of its two tests with probability 2e-4 over seeds; the seed is fixed.
    #[test]
    fn a_right_verifier_passes_and_every_wrong_one_is_caught_by_both_proofs() {
        let faults =
            [Fault::TurnedRound, Fault::Raw, Fault::NoResidual, Fault::Forgetful, Fault::Generous, Fault::None];
        for fault in faults {
            let (exact, fits) = proven(&Broken(fault), ROUNDS, 3);
            let right = fault == Fault::None;
            assert_eq!(fits.iter().any(Fit::rejects), !right, "{fault:?}: {fits:?}");
            match &exact {
                // What is drawn from shares that do not sum to 1 goes through ways whose probabilities do not either.
                Exact::Done { off, ways, .. } => {
                    assert!(*ways > 50 && (*off < 1e-12) == right, "{fault:?}: {exact:?}");
                }
                Exact::Not(why) => panic!("{fault:?}: {why}"),
            }
        }
        let (exact, fits) = proven(&RecursiveRejection, ROUNDS, 3);
        assert!(matches!(exact, Exact::Done { off, .. } if off < 1e-12) && !fits.iter().any(Fit::rejects));
        // The counts of the same seed are the same.
        assert_eq!(fits, proven(&RecursiveRejection, ROUNDS, 3).1);
        assert_ne!(fits, proven(&RecursiveRejection, ROUNDS, 4).1);
    }

    #[test]
    fn counts_are_compared_cell_by_cell() {
        // 60, 30 and 10 are expected of 100; (66 - 60)²/60 + (30 - 30)²/30 + (4 - 10)²/10 = 4.2.
        let own = Own { first: vec![0.6, 0.3, 0.1, 0.0], second: BTreeMap::new() };
        let seen = |d: usize| HashMap::from([(vec![0], 66), (vec![1], 30), (vec![2], 4 - d), (vec![3], d)]);
        let fit = Fit::of("", 1, &seen(0), &own, 100);
        assert!((fit.statistic - 4.2).abs() < 1e-12 && fit.degrees_of_freedom == 2 && !fit.rejects());
        assert!((fit.p.unwrap() - (-2.1f64).exp()).abs() < 1e-12, "with two degrees it is exp(-x/2)");
        assert!((fit.total_variation - 0.06).abs() < 1e-12);
        // What the target never writes is refused however rare it is.
        let fit = Fit::of("", 1, &seen(1), &own, 100);
        assert!(fit.impossible == 1 && fit.rejects());
        // 0.04 of 100 is too rare for a cell of its own and shares that of 0.06, which is the smallest.
        let own = Own { first: vec![0.9, 0.06, 0.04], second: BTreeMap::new() };
        let seen = HashMap::from([(vec![0], 90), (vec![1], 4), (vec![2], 6)]);
        let fit = Fit::of("", 1, &seen, &own, 100);
        assert_eq!((fit.degrees_of_freedom, fit.statistic), (1, 0.0));
        // One cell says nothing.
        let own = Own { first: vec![1.0], second: BTreeMap::new() };
        assert_eq!(Fit::of("", 1, &HashMap::from([(vec![0], 9)]), &own, 9).p, None);
    }

    #[test]
    fn rows_by_a_model_without_branches_are_read_one_by_one() {
        let target = Markov::first_order(vec![vec![0.0, 1.0], vec![0.5, 0.5]], "P").unwrap();
        let own = Own::of(&target, 0, 1.0, 100, &Ctx::default()).unwrap();
        assert_eq!(own.second.keys().copied().collect::<Vec<_>>(), [1]);
        assert_eq!((own.of_text(&[1, 0]), own.of_text(&[0, 0]), own.of_text(&[0])), (Some(0.5), None, Some(0.0)));
        assert_eq!(own.first, [0.0, 1.0]);
    }
}
