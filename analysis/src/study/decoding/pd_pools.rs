//! Pools for prefill, cache and decode: a model of ours of how requests pass through them.
//!
//! Source: Zuo et al. 2025, "Serving Large Language Models on Huawei CloudMatrix384", arXiv 2506.12708. Takes: requests, numbers
//! and rates of instances. Gives: when each request gets its first and its last token. Departs: the architecture is the
//! paper's, the events are ours; micro-batches that overlap are not modelled.

use super::super::Method;
use crate::ctx::Ctx;
use crate::decode::SEED;
use crate::decode::chance::{Chance, Seeded};
use crate::finding::{Datum, Figure, Finding, Table};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const REQUESTS: Param = Param::count("requests", "Requests that arrive", 1, 200, 24);
const EVERY: Param = Param::number("every", "Seconds from one request to the next", 0.0, 10.0, 0.2);
const PREFILL: Param = Param::count("prefill_instances", "Instances that read prompts", 1, 16, 2);
const DECODE: Param = Param::count("decode_instances", "Instances that write", 1, 16, 2);
const SLOTS: Param = Param::count("slots", "Requests that one of them writes for at a time", 1, 64, 4);
const RATE: Param = Param::number("prefill_rate", "Tokens read per second", 1.0, 1e6, 4096.0);
const TPOT: Param = Param::number("tpot", "Seconds per token written", 0.001, 1.0, 0.05);

static INFO: Info = Info {
    id: "pd_pools",
    title: "Prefill and decode pools",
    summary: "Follows drawn requests through instances that read prompts and instances that write, in a model of ours.",
    family: "routing and systems",
    basis: Basis::Text,
    paper: Some(Paper {
        title: "Serving Large Language Models on Huawei CloudMatrix384",
        authors: "Zuo et al.",
        year: 2025,
        arxiv: "2506.12708",
    }),
    departs: "our model of the paper's architecture: one step time for each instance, no micro-batches; requests are drawn",
    params: &[REQUESTS, EVERY, PREFILL, DECODE, SLOTS, RATE, TPOT, SEED],
    budget: Some(&PREFILL),
    raw: &[Adapter { name: "pd_pools", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct PdPools;

#[derive(Debug, Clone, Copy)]
struct Request {
    arrive: f64,
    prompt: f64,
    reuse: f64,
    output: f64,
}

#[derive(Debug, Clone, Copy)]
struct Pools {
    prefill: usize,
    decode: usize,
    slots: usize,
    prefill_rate: f64,
    cache_rate: f64,
    transfer_rate: f64,
    tpot: f64,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Served {
    prefill: usize,
    first: f64,
    /// Instance and slot, ready, start; `None` where nothing is left to write.
    decode: Option<([usize; 2], f64, f64)>,
    finish: f64,
    busy: f64,
}

/// The earliest of these, the lowest on a tie.
fn earliest(free: &[f64]) -> usize {
    (0..free.len()).fold(0, |b, i| if free[i] < free[b] { i } else { b })
}

/// Indices by a time, the lower index first on a tie.
fn by(n: usize, time: impl Fn(usize) -> f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| time(a).total_cmp(&time(b)));
    order
}

fn serve(requests: &[Request], pools: Pools, ctx: &Ctx) -> Result<Vec<Served>> {
    let mut out = vec![Served::default(); requests.len()];
    let mut free = vec![0.0f64; pools.prefill];
    for i in by(requests.len(), |i| requests[i].arrive) {
        ctx.check()?;
        let (r, at) = (requests[i], earliest(&free));
        let busy = r.reuse / pools.cache_rate + (r.prompt - r.reuse).max(1.0) / pools.prefill_rate;
        let end = r.arrive.max(free[at]) + busy;
        free[at] = end;
        out[i] = Served { prefill: at, first: end, decode: None, finish: end, busy };
    }
    let ready = |i: usize| out[i].first + requests[i].prompt / pools.transfer_rate;
    let ready: Vec<f64> = (0..requests.len()).map(ready).collect();
    let mut slots = vec![0.0f64; pools.decode * pools.slots];
    for i in by(requests.len(), |i| ready[i]).into_iter().filter(|&i| requests[i].output > 1.0) {
        ctx.check()?;
        // Slots are in order of instance, then slot.
        let at = earliest(&slots);
        let start = ready[i].max(slots[at]);
        let finish = start + (requests[i].output - 1.0) * pools.tpot;
        slots[at] = finish;
        out[i].decode = Some(([at / pools.slots, at % pools.slots], ready[i], start));
        out[i].finish = finish;
    }
    Ok(out)
}

/// Figures of a run: makespan, mean time to the first token, share of time that instances and slots are busy, tokens per
/// second.
fn figures(requests: &[Request], served: &[Served], pools: Pools) -> [f64; 5] {
    let makespan = served.iter().map(|s| s.finish).fold(0.0, f64::max);
    let n = served.len().max(1) as f64;
    let ttft = served.iter().zip(requests).map(|(s, r)| s.first - r.arrive).sum::<f64>() / n;
    let share = |busy: f64, n: usize| if makespan > 0.0 { busy / (makespan * n as f64) } else { 0.0 };
    let read: f64 = served.iter().map(|s| s.busy).sum();
    let written: f64 = served.iter().filter_map(|s| s.decode.map(|d| s.finish - d.2)).sum();
    let tokens: f64 = requests.iter().map(|r| r.output).sum();
    let per_second = if makespan > 0.0 { tokens / makespan } else { 0.0 };
    [makespan, ttft, share(read, pools.prefill), share(written, pools.decode * pools.slots), per_second]
}

impl Method for PdPools {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, _: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let of = |p| params.count(p) as usize;
        let mut chance = Seeded::new(params.seed(&SEED));
        let mut draw = |most: f64| (1.0 + chance.uniform() * most).floor();
        let request = |i: usize| {
            let prompt = draw(2048.0);
            let reuse = (draw(2.0) - 1.0) * (prompt / 2.0).floor();
            Request { arrive: i as f64 * params.number(&EVERY), prompt, reuse, output: draw(128.0) }
        };
        let requests: Vec<Request> = (0..of(&REQUESTS)).map(request).collect();
        let rate = params.number(&RATE);
        let pools = Pools {
            prefill: of(&PREFILL),
            decode: of(&DECODE),
            slots: of(&SLOTS),
            prefill_rate: rate,
            cache_rate: rate * 8.0,
            transfer_rate: rate * 4.0,
            tpot: params.number(&TPOT),
        };
        let served = serve(&requests, pools, ctx)?;
        let columns = [
            "request",
            "arrives",
            "prompt",
            "cached",
            "output",
            "reads",
            "first token",
            "writes",
            "starts",
            "finishes",
        ];
        let mut table = Table::new(&columns).titled("requests, times in seconds");
        for (i, (r, s)) in requests.iter().zip(&served).enumerate() {
            let writes = s.decode.map(|d| format!("{}.{}", d.0[0], d.0[1]));
            let (start, row) = (s.decode.map(|d| d.2), [r.arrive, r.prompt, r.reuse, r.output]);
            let mut cells = vec![json!(i)];
            cells.extend(row.iter().map(|x| json!(x)));
            cells.extend([json!(s.prefill), json!(s.first), json!(writes), json!(start), json!(s.finish)]);
            table.rows.push(cells);
        }
        let [makespan, ttft, read, written, rate] = figures(&requests, &served, pools);
        Ok(Finding::of(table)
            .figure(Figure::new("all done", Datum::Number(makespan), "when the last request finishes").unit("s"))
            .figure(Figure::new("first token", Datum::Number(ttft), "mean time from arrival to it").unit("s"))
            .figure(Figure::new("readers busy", Datum::Share(read.clamp(0.0, 1.0)), "time that instances read, of all"))
            .figure(Figure::new("writers busy", Datum::Share(written.clamp(0.0, 1.0)), "time that slots write, of all"))
            .figure(
                Figure::new("tokens written", Datum::Number(rate), "of all requests, by the time that they take")
                    .unit("1/s"),
            ))
    }
}

/// Raw entry: `requests` and pools → every request, and the figures.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let given: Vec<Value> = input.read("requests")?;
    let of = |v: &Value, key: &str| v.get(key).and_then(Value::as_f64).filter(|x| *x >= 0.0 && x.is_finite());
    let request = |v: &Value| {
        let (arrive, prompt) = (of(v, "arrive")?, of(v, "prompt")?);
        let reuse = if v.get("reuse").is_none_or(Value::is_null) { 0.0 } else { of(v, "reuse")? };
        Some(Request { arrive, prompt, reuse, output: of(v, "output")? })
    };
    let Some(requests) = given.iter().map(request).collect::<Option<Vec<Request>>>() else {
        return Err(Error::invalid("requests need arrive, prompt, reuse and output, numbers from 0 on"));
    };
    let rate = |name: &str| -> Result<f64> {
        let x: f64 = input.read(name)?;
        if x > 0.0 && x.is_finite() { Ok(x) } else { Err(Error::invalid(format!("field {name}: {x} is not above 0"))) }
    };
    let pools = Pools {
        prefill: input.within("prefill_instances", 1..=4096)?,
        decode: input.within("decode_instances", 1..=4096)?,
        slots: input.within("slots", 1..=4096)?,
        prefill_rate: rate("prefill_rate")?,
        cache_rate: rate("cache_rate")?,
        transfer_rate: rate("transfer_rate")?,
        tpot: rate("tpot")?,
    };
    let served = serve(&requests, pools, ctx)?;
    let [makespan, ttft, read, written, per_second] = figures(&requests, &served, pools);
    let one = |(s, r): (&Served, &Request)| {
        json!({ "prefill": s.prefill, "ttft": s.first - r.arrive, "decode": s.decode.map(|d| d.0),
            "ready": s.decode.map(|d| d.1), "dstart": s.decode.map(|d| d.2), "finish": s.finish })
    };
    Ok(json!({
        "requests": served.iter().zip(&requests).map(one).collect::<Vec<_>>(),
        "makespan": makespan,
        "mean_ttft": if requests.is_empty() { Value::Null } else { json!(ttft) },
        "prefill_busy": read,
        "decode_busy": written,
        "tokens_per_s": per_second,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_requests_queue_for_one_reader_and_one_slot() {
        let r = |arrive, output| Request { arrive, prompt: 10.0, reuse: 0.0, output };
        let pools = Pools {
            prefill: 1,
            decode: 1,
            slots: 1,
            prefill_rate: 10.0,
            cache_rate: 10.0,
            transfer_rate: 10.0,
            tpot: 1.0,
        };
        let s = serve(&[r(0.0, 4.0), r(0.0, 2.0)], pools, &Ctx::default()).unwrap();
        // First tokens after 1 and 2 seconds, ready after 2 and 3; the second waits until 5.
        assert_eq!((s[0].first, s[0].decode, s[0].finish), (1.0, Some(([0, 0], 2.0, 2.0)), 5.0));
        assert_eq!((s[1].first, s[1].decode, s[1].finish), (2.0, Some(([0, 0], 3.0, 5.0)), 6.0));
    }
}
