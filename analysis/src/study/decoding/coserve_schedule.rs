//! Co-serving: what inference leaves of an iteration is filled with tokens of finetuning, as far as latency allows.
//!
//! Source: Oliaro et al. 2024, "FlexLLM: A System for Co-Serving Large Language Model Inference and Parameter-Efficient
//! Finetuning", arXiv 2402.18789. Takes: requests, sequences to learn from, a latency model. Gives: what each iteration does.
//! Departs: the idea is the paper's, the scheduler a model of ours; its compiler is not modelled.

use super::super::Method;
use crate::ctx::Ctx;
use crate::decode::SEED;
use crate::decode::chance::{Chance, Seeded};
use crate::finding::{Axis, Datum, Figure, Finding, Measure, Plot, Series, Style, Table, Unit};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const REQUESTS: Param = Param::count("requests", "Requests, one in each second iteration", 0, 64, 8);
const LEARN: Param = Param::count("finetune", "Sequences to learn from", 0, 64, 6);
const SLO: Param = Param::number("slo", "Latency that an iteration may have, in milliseconds", 1.0, 1000.0, 16.0);
const TOKENS: Param = Param::count("max_tokens", "Tokens of an iteration at most", 1, 4096, 64);
const CHUNK: Param = Param::count("prefill_cap", "Tokens of a prompt that an iteration reads at most", 1, 4096, 32);

static INFO: Info = Info {
    id: "coserve_schedule",
    title: "Co-serving",
    summary: "Fills what requests leave of each iteration with finetuning, as far as latency allows, in a model of ours.",
    family: "routing and systems",
    basis: Basis::Text,
    paper: Some(Paper {
        title: "FlexLLM: A System for Co-Serving Large Language Model Inference and Parameter-Efficient Finetuning",
        authors: "Oliaro et al.",
        year: 2024,
        arxiv: "2402.18789",
    }),
    departs: "our model of the paper's idea; its compiler, which saves memory, is not modelled; requests are drawn",
    params: &[REQUESTS, LEARN, SLO, TOKENS, CHUNK, SEED],
    budget: Some(&SLO),
    raw: &[Adapter { name: "coserve_schedule", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct Coserve;

/// Latency of an iteration of `c` tokens: `t0 + t1 · max(0, c − knee)`.
#[derive(Debug, Clone, Copy)]
struct Rules {
    t0: f64,
    t1: f64,
    knee: f64,
    slo: f64,
    tokens: usize,
    chunk: usize,
    iterations: usize,
}

impl Rules {
    fn latency(&self, cost: usize) -> f64 {
        self.t0 + self.t1 * (cost as f64 - self.knee).max(0.0)
    }
}

/// When a request arrives, its prompt and output in tokens.
type Request = [usize; 3];

/// One iteration: tokens written, read, learnt forward and backward, and its latency.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Iteration {
    decode: usize,
    prefill: usize,
    forward: usize,
    backward: usize,
    latency: f64,
}

struct Schedule {
    iterations: Vec<Iteration>,
    /// Iteration of the first and the last token of each request.
    first: Vec<Option<usize>>,
    finish: Vec<Option<usize>>,
}

fn schedule(requests: &[Request], finetune: &[usize], rules: Rules, ctx: &Ctx) -> Result<Schedule> {
    let n = requests.len();
    let mut out = Schedule { iterations: Vec::new(), first: vec![None; n], finish: vec![None; n] };
    let (mut left, mut written): (Vec<usize>, Vec<usize>) = (requests.iter().map(|r| r[1]).collect(), vec![0; n]);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&i| requests[i][0]);
    // The sequence, the tokens of its phase that are done, and whether it goes backward.
    let (mut sequence, mut done, mut backward) = (0, 0, false);
    for at in 0..rules.iterations {
        ctx.step(at, rules.iterations)?;
        let learns = finetune[sequence.min(finetune.len())..].iter().any(|l| *l > 0);
        if out.finish.iter().all(Option::is_some) && !learns {
            break;
        }
        let mut now = Iteration { decode: 0, prefill: 0, forward: 0, backward: 0, latency: 0.0 };
        for (i, written) in written.iter_mut().enumerate() {
            if out.first[i].is_some() && out.finish[i].is_none() {
                now.decode += 1;
                *written += 1;
            }
        }
        let mut used = now.decode;
        for &i in &order {
            if requests[i][0] > at || out.first[i].is_some() {
                continue;
            }
            let own = left[i].min(rules.chunk).min(rules.tokens.saturating_sub(used));
            // A prompt that is not there is read at once.
            if own == 0 && left[i] > 0 {
                continue;
            }
            (left[i], used, now.prefill) = (left[i] - own, used + own, now.prefill + own);
            if left[i] == 0 {
                out.first[i] = Some(at);
                written[i] += 1;
            }
        }
        for (i, written) in written.iter().enumerate() {
            if out.first[i].is_some() && out.finish[i].is_none() && *written >= requests[i][2].max(1) {
                out.finish[i] = Some(at);
            }
        }
        while let Some(&length) = finetune.get(sequence) {
            if done == length {
                (done, backward, sequence) = (0, !backward, sequence + usize::from(backward));
                continue;
            }
            let cost = if backward { 2 } else { 1 };
            if used + cost > rules.tokens || rules.latency(used + cost) > rules.slo {
                break;
            }
            (used, done) = (used + cost, done + 1);
            *(if backward { &mut now.backward } else { &mut now.forward }) += 1;
        }
        now.latency = rules.latency(used);
        out.iterations.push(now);
    }
    Ok(out)
}

/// The largest cost of an iteration that keeps its latency; 0 where none does.
fn peak(rules: &Rules) -> usize {
    (1..=rules.tokens).rev().find(|&c| rules.latency(c) <= rules.slo).unwrap_or(0)
}

impl Method for Coserve {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, _: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let of = |p| params.count(p) as usize;
        let mut chance = Seeded::new(params.seed(&SEED));
        let mut draw = |most: f64| 1 + (chance.uniform() * most) as usize;
        let requests: Vec<Request> = (0..of(&REQUESTS)).map(|i| [2 * i, draw(96.0), draw(12.0)]).collect();
        let finetune: Vec<usize> = (0..of(&LEARN)).map(|_| draw(48.0)).collect();
        let rules = Rules {
            t0: 8.0,
            t1: 0.25,
            knee: 16.0,
            slo: params.number(&SLO),
            tokens: of(&TOKENS),
            chunk: of(&CHUNK),
            iterations: 2000,
        };
        let s = schedule(&requests, &finetune, rules, ctx)?;
        let line = |name: &'static str, of: fn(&Iteration) -> f64| {
            Series::new(name, Style::Step, s.iterations.iter().enumerate().map(|(i, x)| [i as f64, of(x)]).collect())
        };
        let tokens = vec![
            line("written", |i| i.decode as f64),
            line("read", |i| i.prefill as f64),
            line("learnt forward", |i| i.forward as f64),
            line("learnt backward", |i| i.backward as f64),
        ];
        let plot = Plot::new("tokens of each iteration", Axis::Unit(Unit::Steps), Measure::new("tokens", ""), tokens);
        let latency = vec![line("latency", |i| i.latency)];
        let late = s.iterations.iter().filter(|i| i.latency > rules.slo).count();
        let learnt: usize = s.iterations.iter().map(|i| i.forward + 2 * i.backward).sum();
        let room = peak(&rules) * s.iterations.len();
        let mut table =
            Table::new(&["request", "arrives", "prompt", "output", "first", "last"]).titled("iterations of requests");
        for (i, r) in requests.iter().enumerate() {
            let cells = [json!(i), json!(r[0]), json!(r[1]), json!(r[2]), json!(s.first[i]), json!(s.finish[i])];
            table.rows.push(cells.to_vec());
        }
        Ok(Finding::of(plot)
            .with(Plot::new("latency", Axis::Unit(Unit::Steps), Measure::new("latency", "ms"), latency))
            .with(table)
            .figure(Figure::new("iterations", Datum::Count(s.iterations.len()), "until all is done"))
            .figure(Figure::new("late", Datum::Count(late), "iterations above the latency allowed"))
            .figure(Figure::new(
                "learning",
                Datum::Share(if room > 0 { (learnt as f64 / room as f64).min(1.0) } else { 0.0 }),
                "cost of finetuning tokens, of what all iterations could take within the latency",
            )))
    }
}

/// Raw entry: `requests`, `finetune` lengths, the latency model → the schedule.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let given: Vec<Value> = input.read("requests")?;
    let of = |v: &Value, key: &str| v.get(key).and_then(Value::as_u64).filter(|x| *x < 1 << 32).map(|x| x as usize);
    let request = |v: &Value| Some([of(v, "arrive")?, of(v, "prompt")?, of(v, "output")?]);
    let Some(requests) = given.iter().map(request).collect::<Option<Vec<Request>>>() else {
        return Err(Error::invalid("requests need arrive, prompt and output, whole numbers"));
    };
    let finetune: Vec<usize> = input.read("finetune")?;
    let rules = Rules {
        t0: input.read("t0")?,
        t1: input.read("t1")?,
        knee: input.read("knee")?,
        slo: input.read("slo")?,
        tokens: input.within("max_tokens", 0..=1 << 20)?,
        chunk: input.within("prefill_cap", 0..=1 << 20)?,
        iterations: input.within("max_iter", 0..=1 << 20)?,
    };
    if finetune.iter().any(|l| *l > 1 << 24)
        || ![rules.t0, rules.t1, rules.knee, rules.slo].iter().all(|x| x.is_finite())
    {
        return Err(Error::invalid("finetune must be lengths that are not too large, and t0, t1, knee, slo numbers"));
    }
    let s = schedule(&requests, &finetune, rules, ctx)?;
    let row = |i: &Iteration| json!([i.decode, i.prefill, i.forward, i.backward, i.latency, i.latency > rules.slo]);
    let tokens: usize = s.iterations.iter().map(|i| i.forward + i.backward).sum();
    let cost: usize = s.iterations.iter().map(|i| i.forward + 2 * i.backward).sum();
    let (peak, n) = (peak(&rules), s.iterations.len());
    Ok(json!({
        "iterations": s.iterations.iter().map(row).collect::<Vec<_>>(),
        "first": s.first,
        "finish": s.finish,
        "finetune_tokens": tokens,
        "finetune_cost": cost,
        "peak_cost": peak,
        "share_of_peak": if peak * n > 0 { cost as f64 / (peak * n) as f64 } else { 0.0 },
        "over_slo": s.iterations.iter().filter(|i| i.latency > rules.slo).count(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_and_one_sequence_by_hand() {
        let rules = Rules { t0: 1.0, t1: 1.0, knee: 2.0, slo: 2.0, tokens: 8, chunk: 2, iterations: 9 };
        let s = schedule(&[[0, 3, 2]], &[2], rules, &Ctx::default()).unwrap();
        // Three tokens keep the latency. Two read and one forward; one read (the first token) and one forward, a backward one
        // would be too much; one written and one backward; the other backward one.
        let rows: Vec<_> = s.iterations.iter().map(|i| (i.decode, i.prefill, i.forward, i.backward)).collect();
        assert_eq!(rows, [(0, 2, 1, 0), (0, 1, 1, 0), (1, 0, 0, 1), (0, 0, 0, 1)]);
        assert_eq!((s.first, s.finish, peak(&rules)), (vec![Some(1)], vec![Some(2)], 3));
    }
}
