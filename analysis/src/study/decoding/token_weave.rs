//! TokenWeave: a batch is split in two so that one half computes while the other communicates.
//!
//! Source: Gond et al. 2025, "TokenWeave: Efficient Compute-Communication Overlap for Distributed LLM Inference",
//! arXiv 2505.11329; the split of microsoft/tokenweave llama_overlap_fused.py. Takes: tokens, tiles, times of waves. Gives: the
//! split, extra waves, a timeline. Departs: the split is the authors'; the timeline is a model of ours.

use super::super::Method;
use crate::ctx::Ctx;
use crate::finding::{Axis, Datum, Figure, Finding, Measure, Plot, Series, Style, Table};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const TOKENS: Param = Param::count("tokens", "Tokens of the batch", 1, 65_536, 2048);
const TILE: Param = Param::count("tile_m", "Tokens of a tile", 1, 1024, 128);
const ACROSS: Param = Param::count("tiles_n", "Tiles side by side", 1, 256, 16);
const SMS: Param = Param::count("sms", "Multiprocessors: tiles that run at once", 1, 1024, 132);
const LAYERS: Param = Param::count("layers", "Layers shown", 1, 8, 2);
const COMM: Param = Param::number("t_comm", "Time to communicate a token, in waves of attention", 0.0, 1.0, 0.002);

static INFO: Info = Info {
    id: "token_weave",
    title: "TokenWeave",
    summary: "Shows how a batch split in two lets one half compute while the other communicates, in a model of ours.",
    family: "routing and systems",
    basis: Basis::Text,
    paper: Some(Paper {
        title: "TokenWeave: Efficient Compute-Communication Overlap for Distributed LLM Inference",
        authors: "Gond et al.",
        year: 2025,
        arxiv: "2505.11329",
    }),
    departs: "the split rule is read in the authors' code; the timeline is our model: two lanes, an MLP wave of 1.5 attention \
              waves where it is shown live",
    params: &[TOKENS, TILE, ACROSS, SMS, LAYERS, COMM],
    budget: Some(&TOKENS),
    raw: &[Adapter { name: "token_weave", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct TokenWeave;

#[derive(Debug, Clone, Copy)]
struct Rules {
    tokens: usize,
    offset: i64,
    tile: usize,
    across: usize,
    sms: usize,
    layers: usize,
    wave: [f64; 2],
    comm: f64,
}

impl Rules {
    fn waves(&self, tokens: usize) -> usize {
        (tokens.div_ceil(self.tile) * self.across).div_ceil(self.sms)
    }

    /// Tokens of the first half where the authors split.
    fn split(&self) -> Option<usize> {
        let first = (self.tokens.div_ceil(256) * 256 / 2) as i64 + self.offset;
        (self.tokens >= 1024 && first > 0 && (first as usize) < self.tokens).then_some(first as usize)
    }

    /// The multiple of a tile that costs fewest waves, of those the nearest to the middle, the lower on a tie.
    fn smart(&self) -> Option<usize> {
        let n = self.tokens;
        let cost = |&a: &usize| (self.waves(a) + self.waves(n - a), (2 * a).abs_diff(n), a);
        (1..).map(|k| k * self.tile).take_while(|a| *a < n).min_by_key(cost)
    }
}

/// Lane (0 computes, 1 communicates), part, layer, operation (0 attention, 1 MLP), start and end.
type Event = (usize, usize, usize, usize, f64, f64);

/// The events of a batch in these parts, in order of issue.
fn timeline(rules: &Rules, parts: &[usize]) -> Vec<Event> {
    let (mut out, mut free, mut done) = (Vec::new(), [0.0f64; 2], vec![0.0f64; parts.len()]);
    for layer in 0..rules.layers {
        for op in 0..2 {
            for (part, &tokens) in parts.iter().enumerate() {
                let start = free[0].max(done[part]);
                let end = start + rules.waves(tokens) as f64 * rules.wave[op];
                // Alone, nothing overlaps: the next operation waits for it anyway.
                let talk = free[1].max(end);
                free = [end, talk + tokens as f64 * rules.comm];
                done[part] = free[1];
                out.push((0, part, layer, op, start, end));
                out.push((1, part, layer, op, talk, free[1]));
            }
        }
    }
    out
}

fn end(events: &[Event]) -> f64 {
    events.iter().map(|e| e.5).fold(0.0, f64::max)
}

/// Split, its parts, the events, and the time without a split.
fn woven(rules: &Rules) -> (Option<usize>, Vec<usize>, Vec<Event>, f64) {
    let split = rules.split();
    let parts = split.map_or(vec![rules.tokens], |a| vec![a, rules.tokens - a]);
    let serial = end(&timeline(rules, &[rules.tokens]));
    let events = timeline(rules, &parts);
    (split, parts, events, serial)
}

const LANES: [&str; 2] = ["compute", "comm"];

impl Method for TokenWeave {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, _: &Subject, params: &Params, _: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let of = |p| params.count(p) as usize;
        let rules = Rules {
            tokens: of(&TOKENS),
            offset: 0,
            tile: of(&TILE),
            across: of(&ACROSS),
            sms: of(&SMS),
            layers: of(&LAYERS),
            wave: [1.0, 1.5],
            comm: params.number(&COMM),
        };
        let (split, parts, events, serial) = woven(&rules);
        let axis = || Axis::Number(Measure::new("time", "waves"));
        let mut series = Vec::new();
        for part in 0..parts.len() {
            for (lane, name) in LANES.iter().enumerate() {
                let own = events.iter().filter(|e| (e.0, e.1) == (lane, part));
                let level = (parts.len() * lane + part) as f64;
                let points = own.flat_map(|e| [[e.4, level], [e.5, level]]).collect();
                series.push(Series::new(format!("{name}, part {}", part + 1), Style::Points, points));
            }
        }
        let lanes = Plot::new("begin and end of what each lane does", axis(), Measure::new("lane", ""), series);
        let mut table = Table::new(&["lane", "part", "layer", "operation", "start", "end"]).titled("events");
        for e in &events {
            let op = ["attention", "MLP"][e.3];
            table.rows.push(vec![json!(LANES[e.0]), json!(e.1), json!(e.2), json!(op), json!(e.4), json!(e.5)]);
        }
        let extra =
            |a: usize| (rules.waves(a) + rules.waves(rules.tokens - a)) as f64 - rules.waves(rules.tokens) as f64;
        let mut out = Finding::of(lanes).with(table);
        if let Some(a) = split {
            out = out.figure(Figure::new(
                "extra waves",
                Datum::Number(extra(a)),
                "waves of both halves less those of the whole",
            ));
        } else {
            out.notes.push("fewer than 1024 tokens are not split".into());
        }
        if let Some(a) = rules.smart() {
            out = out.figure(Figure::new(
                "best split",
                Datum::Count(a),
                "tokens of the first half that cost fewest waves",
            ));
        }
        let made = end(&events);
        let speed = if made > 0.0 { serial / made } else { 1.0 };
        Ok(out.figure(Figure::new(
            "speed-up",
            Datum::Number(speed),
            "time without a split by time with it, in our model",
        )))
    }
}

/// Raw entry: tokens, tiles, times → split, waves, events.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let rules = Rules {
        tokens: input.within("tokens", 1..=1 << 22)?,
        offset: input.read_or("offset", 0)?,
        tile: input.within("tile_m", 1..=1 << 20)?,
        across: input.within("tiles_n", 1..=1 << 20)?,
        sms: input.within("sms", 1..=1 << 20)?,
        layers: input.within("layers", 0..=10_000)?,
        wave: input.read("t_wave")?,
        comm: input.read("t_comm")?,
    };
    if rules.offset.unsigned_abs() > 1 << 22
        || rules.wave.iter().chain([&rules.comm]).any(|t| !t.is_finite() || *t < 0.0)
    {
        return Err(Error::invalid("t_wave and t_comm must be times from 0 on, and offset not too large"));
    }
    let (split, parts, events, serial) = woven(&rules);
    let (smart, n) = (rules.smart(), rules.tokens);
    let extra = |a: usize| (rules.waves(a) + rules.waves(n - a)) as i64 - rules.waves(n) as i64;
    let mut waves = vec![rules.waves(n)];
    waves.extend(split.iter().flat_map(|_| parts.iter().map(|t| rules.waves(*t))));
    let event = |e: &Event| json!([LANES[e.0], e.1, e.2, e.3, e.4, e.5]);
    let made = end(&events);
    let bare = rules.layers as f64 * rules.waves(n) as f64 * (rules.wave[0] + rules.wave[1]);
    Ok(json!({
        "split": split,
        "smart": smart,
        "waves": waves,
        "extra_waves": split.map(extra),
        "smart_extra_waves": smart.map(extra),
        "events": events.iter().map(event).collect::<Vec<_>>(),
        "makespan": made,
        "serial": serial,
        "speed_up": if made > 0.0 { serial / made } else { 1.0 },
        "no_comm": bare,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_overlap_by_hand() {
        let rules = Rules { tokens: 4, offset: 0, tile: 1, across: 1, sms: 4, layers: 1, wave: [1.0, 1.0], comm: 0.5 };
        // Alone: 1 + 2 for each of two operations.
        assert_eq!(end(&timeline(&rules, &[4])), 6.0);
        // Two halves: compute 0–1, 1–2; talk 1–2, 2–3; MLP 2–3, 3–4; talk 3–4, 4–5.
        assert_eq!(end(&timeline(&rules, &[2, 2])), 5.0);
        assert_eq!((rules.split(), rules.smart(), rules.waves(5)), (None, Some(2), 2));
        assert_eq!(Rules { tokens: 1500, ..rules }.split(), Some(768));
    }
}
