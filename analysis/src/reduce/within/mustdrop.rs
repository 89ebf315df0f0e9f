//! MustDrop: alike windows of patches are merged in the encoder, patches that its class token looks at are never
//! dropped, others go in the language model where no text attends to them, and with them their keys and values.
//!
//! Source: Liu et al. 2024, "Multi-Stage Vision Token Dropping: Towards Efficient Multimodal Large Language Model",
//! arXiv 2411.10803. Takes: patches `[n, d]` behind the encoder's first layer, its last class row `[heads, patches]`,
//! attention `[heads, n, n]` in some layers of the language model. Gives: groups, a key set, what is kept by layer.
//! Departs: see [`Info::departs`]. Cost: O(n · window² · d), and O(text · n · width) per layer.

use super::layers_at;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::top_k;
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{Half, Place, one_tile};
use crate::reduce::{Asked, Decide, Decision, Method, Seen, Table};
use crate::token::TokenKind;
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const SIMILARITY: Param =
    Param::number("similarity", "Mean cosine from which a window of patches becomes one token", -1.0, 1.0, 0.8);
const WINDOW: Param = Param::count("window", "Patches a side of a window", 2, 8, 3);
const KEYS: Param = Param::share("keys", "Share of the patches that are never dropped", 0.08);
const THRESHOLD: Param = Param::number(
    "threshold",
    "Tokens below this part of an even share of the text's attention to the image may go",
    0.0,
    16.0,
    0.576,
);
const PEAK: Param =
    Param::number("peak", "They go if no text token gives them more than this part of the threshold", 0.0, 16.0, 1.0);
const DEPTHS: Param = Param::schedule(
    "depths",
    "Shares of the language model's layers that tokens are dropped behind",
    0.0,
    1.0,
    &[3.0 / 32.0, 7.0 / 32.0, 11.0 / 32.0, 15.0 / 32.0],
);
const FORGET: Param = Param::toggle("forget", "The answer does not read keys and values of dropped tokens", true);

static INFO: Info = Info {
    id: "mustdrop",
    title: "MustDrop",
    summary: "Merges windows of alike patches in the encoder, then drops image tokens in the language model that no text attends to, save a key set.",
    family: "inside the language model",
    basis: Basis::Authors { repo: "liuting20/MustDrop", commit: "909afa538b" },
    paper: Some(Paper {
        title: "Multi-Stage Vision Token Dropping: Towards Efficient Multimodal Large Language Model",
        authors: "Liu et al.",
        year: 2024,
        arxiv: "2411.10803",
    }),
    departs: "thresholds are parts of an even share of the attention, so that 0.576 is the authors' 0.001 for 576 tokens; \
              layers stand at shares of the depth, which are theirs where there are 32; the key set is read in the \
              encoder's last layer; a merged window stands at the place of its first patch and not before all others; \
              patches that fill no window stay alone",
    needs: &[Need::ReadsImage, Need::ClassToken, Need::Attention],
    params: &[SIMILARITY, WINDOW, KEYS, THRESHOLD, PEAK, DEPTHS, FORGET],
    budget: Some(&THRESHOLD),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct MustDrop;

impl Method for MustDrop {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let image = |t: Tower| {
            on.trace.towers.get(&t).map_or(0, |t| t.tokens.iter().filter(|t| t.kind == TokenKind::Image).count())
        };
        let (n, patches) = (image(Tower::Text), image(Tower::Vision));
        on.reader(&INFO)?;
        if on.trace.tower(Tower::Vision)?.class_token.is_none() {
            return Err(INFO.needs(Need::ClassToken.words()));
        }
        if n != patches {
            return Err(INFO.needs("a place in the text for each patch; this model merges them on their way"));
        }
        one_tile(on, Tower::Vision)?;
        let (encoder, text) = (on.trace.tower(Tower::Vision)?.n_layers, on.trace.tower(Tower::Text)?.n_layers);
        let mut layers = layers_at(&params.schedule(&DEPTHS), text, 0);
        layers.dedup();
        let global = params.number(&THRESHOLD) / n as f64;
        let mut state = State {
            similarity: params.number(&SIMILARITY),
            window: [params.count(&WINDOW) as usize; 2],
            keep: params.share(&KEYS),
            global,
            individual: global * params.number(&PEAK),
            ..State::default()
        };
        let mut stops = vec![Place::Encoder(0, Half::After), Place::Encoder(encoder - 1, Half::Mid)];
        stops.extend(layers.iter().map(|&l| Place::Decoder(l, Half::After)));
        if params.toggle(&FORGET) {
            state.forget = layers.first().copied().zip(layers.last().map(|l| l + 1));
            stops.push(Place::Step);
        }
        stops.sort();
        Ok(Box::new(Asked::at(stops, move |seen, ctx| state.decide(seen, ctx))))
    }
}

/// Thresholds, and what the encoder said of the image.
#[derive(Default)]
struct State {
    similarity: f64,
    window: [usize; 2],
    keep: f64,
    global: f64,
    individual: f64,
    forget: Option<(usize, usize)>,
    /// Patches that are never dropped, by their number in the image.
    keys: BTreeSet<usize>,
}

impl State {
    fn decide(&mut self, seen: &dyn Seen, ctx: &Ctx) -> Result<Decision> {
        match seen.place() {
            Place::Encoder(_, Half::After) => self.windows(seen),
            Place::Encoder(..) => {
                let (kept, scores) = self.key_set(seen, ctx)?;
                self.keys = kept.iter().flat_map(|&i| seen.patches(seen.open()[i])).collect();
                Ok(Decision::stay().scored(seen, &scores))
            }
            Place::Step => Ok(Decision { forget: self.forget.map(|(a, b)| a..b), ..Decision::stay() }),
            _ => self.filter(seen),
        }
    }

    /// Windows whose patches are alike, most alike first, then the other patches.
    fn windows(&self, seen: &dyn Seen) -> Result<Decision> {
        let (rows, cols) =
            seen.grid().ok_or_else(|| Error::invalid("windows need the whole grid of patches, one row each"))?;
        let ([h, w], open, x) = (self.window, seen.open(), seen.values()?);
        let mut alike: Vec<(f64, Vec<usize>)> = Vec::new();
        for (top, left) in (0..rows / h).flat_map(|r| (0..cols / w).map(move |c| (r * h, c * w))) {
            let cells = (top..top + h).flat_map(|r| (left..left + w).map(move |c| r * cols + c));
            let window: Vec<usize> = cells.map(|i| open[i]).collect();
            let mean = mean_cosine(&x, &window);
            if mean >= self.similarity {
                alike.push((mean, window));
            }
        }
        if alike.is_empty() {
            return Ok(Decision::stay());
        }
        alike.sort_by(|a, b| b.0.total_cmp(&a.0));
        let merged: BTreeSet<usize> = alike.iter().flat_map(|a| a.1.iter().copied()).collect();
        let (front, patches): (Vec<_>, Vec<_>) =
            (0..seen.rows().len()).filter(|r| !merged.contains(r)).partition(|r| open.binary_search(r).is_err());
        let alone = |r: usize| vec![(r, 1.0)];
        let mean = |(_, rows): (f64, Vec<usize>)| rows.iter().map(|&r| (r, 1.0 / rows.len() as f32)).collect();
        let groups =
            front.into_iter().map(alone).chain(alike.into_iter().map(mean)).chain(patches.into_iter().map(alone));
        Ok(Decision::rows(groups.collect()))
    }

    /// Which patches the class token looks at most, and how much at each.
    fn key_set(&self, seen: &dyn Seen, ctx: &Ctx) -> Result<(Vec<usize>, Vec<f32>)> {
        let scores: Vec<f32> = seen
            .class_row(seen.place().layer().unwrap_or(0))?
            .mean_over_first()
            .into_iter()
            .map(|x| x as f32)
            .collect();
        let k = (self.keep * scores.len() as f64).ceil() as usize;
        Ok((top_k::of_row(&scores, k, ctx)?, scores))
    }

    /// Drops what the text behind the image hardly attends to, taken together and one by one.
    fn filter(&self, seen: &dyn Seen) -> Result<Decision> {
        let (behind, open) = (seen.behind(), seen.open());
        if behind.is_empty() || open.is_empty() {
            return Ok(Decision::stay());
        }
        let mean = seen.pattern(&behind)?.mean_over_first();
        let (mut sum, mut most) = (vec![0f64; open.len()], vec![0f64; open.len()]);
        for row in mean.chunks_exact(seen.rows().len()) {
            for (i, &r) in open.iter().enumerate() {
                sum[i] += row[r];
                most[i] = most[i].max(row[r]);
            }
        }
        let all: f64 = sum.iter().sum();
        let key = |r: usize| seen.patches(r).iter().any(|p| self.keys.contains(p));
        let stays = |&i: &usize| sum[i] >= all * self.global || most[i] >= self.individual || key(open[i]);
        let kept: Vec<usize> = (0..open.len()).filter(stays).collect();
        let scores: Vec<f32> = sum.iter().map(|s| (s / all) as f32).collect();
        let decision = Decision::keep(seen, &kept).scored(seen, &scores).renumbered();
        Ok(Decision { threshold: Some(self.global as f32), ..decision })
    }
}

/// Mean cosine of these rows with each other.
fn mean_cosine(x: &Array, rows: &[usize]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let norms: Vec<f64> = rows.iter().map(|&r| dot(x.row(r), x.row(r)).sqrt().max(1e-8)).collect();
    let mut sum = 0.0;
    for i in 0..rows.len() {
        for j in 0..i {
            sum += 2.0 * dot(x.row(rows[i]), x.row(rows[j])) / (norms[i] * norms[j]);
        }
    }
    sum / (rows.len() * (rows.len() - 1)).max(1) as f64
}

/// Raw entry, by what is given. The encoder: `x` `[1 + n, d]` with the class token first, `grid`, `window`,
/// `threshold`; `cls_attn_last` `[heads, 1 + rows]` of what is left, `key_keep_rate`. The language model: `attn`
/// `[heads, n, n]`, `image_start`, `image_len`, `global_thr`, `individual_thr`.
const ADAPTER: Adapter = Adapter { name: "mustdrop", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let mut out = Map::new();
    let mut state = State { window: [3, 3], similarity: 0.8, keep: 0.08, ..State::default() };
    if input.arrays.contains_key("x") {
        let x = input.array("x")?;
        x.check_finite("x")?;
        let [n, d] = x.dims("x")?;
        let side = (n.saturating_sub(1) as f64).sqrt() as usize;
        let grid: (usize, usize) = input.read_or("grid", (side, side))?;
        state.window = input.read_or("window", state.window)?;
        state.similarity = input.read_or("threshold", state.similarity)?;
        if n == 0 || grid.0.checked_mul(grid.1) != Some(n - 1) || state.window.contains(&0) {
            return Err(Error::invalid(format!("a grid of {grid:?} in windows of {:?} for {n} rows", state.window)));
        }
        let seen = Table::new(Place::Encoder(0, Half::After), n, 1..n).with_grid(grid).with_values(x);
        let decision = state.decide(&seen, ctx)?;
        let left = seen.after(&decision)?;
        let rows = left.rows();
        out.insert("groups".into(), json!(rows.tokens));
        out.insert("size".into(), (0..rows.len()).map(|r| rows.size(r) as f64).collect());
        out.insert("merged".into(), json!(left.values()?.data().chunks(d.max(1)).collect::<Vec<_>>()));
    }
    if input.arrays.contains_key("cls_attn_last") {
        let a = input.array("cls_attn_last")?;
        a.check_finite("cls_attn_last")?;
        let [heads, n] = a.dims("cls_attn_last")?;
        state.keep = input.read_or("key_keep_rate", state.keep)?;
        let patches: Vec<f32> = (0..heads).flat_map(|h| a.row(h).iter().skip(1).copied()).collect();
        let class_row = Array::new([heads, n.saturating_sub(1)], patches)?;
        let seen = Table::new(Place::Encoder(1, Half::Mid), n, 1..n.max(1)).with_class_row(&class_row);
        out.insert("key_set".into(), json!(state.key_set(&seen, ctx)?.0));
    }
    if input.arrays.contains_key("attn") {
        let a = input.array("attn")?;
        a.check_finite("attn")?;
        let [heads, n, m] = a.dims("attn")?;
        if n != m {
            return Err(Error::shape("attn", format!("[{heads}, {n}, {n}]"), a.shape()));
        }
        let (first, len): (usize, usize) = (input.read("image_start")?, input.read("image_len")?);
        if first.saturating_add(len) > n {
            return Err(Error::invalid(format!("image tokens {first} to {first} + {len} of {n}")));
        }
        (state.global, state.individual) = (input.read("global_thr")?, input.read("individual_thr")?);
        let seen = Table::new(Place::Decoder(0, Half::After), n, first..first + len).with_pattern(a);
        out.insert("keep".into(), json!(state.decide(&seen, ctx)?.kept(&seen)));
    }
    if out.is_empty() {
        return Err(Error::invalid("give x, cls_attn_last or attn"));
    }
    Ok(Value::Object(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_alike_window_comes_first_and_the_rest_stays_in_order() {
        // 2 × 6 patches in windows of 2 × 2: the middle one alike, the right one exactly so.
        let mut x = Array::zeros([13, 2]);
        for i in 0..12 {
            let v = match i % 6 {
                0 | 1 => {
                    if i % 2 == 0 {
                        [1.0, 0.0]
                    } else {
                        [0.0, 1.0]
                    }
                }
                2 | 3 => [1.0, 0.1 * (i % 2) as f32],
                _ => [0.5, 0.5],
            };
            x.data_mut()[2 * (i + 1)..2 * (i + 2)].copy_from_slice(&v);
        }
        let state = State { similarity: 0.9, window: [2, 2], ..State::default() };
        let seen = Table::new(Place::Encoder(0, Half::After), 13, 1..13).with_grid((2, 6)).with_values(&x);
        let decision = state.windows(&seen).unwrap();
        let left = seen.after(&decision).unwrap();
        let want: [&[usize]; 7] = [&[0], &[5, 6, 11, 12], &[3, 4, 9, 10], &[1], &[2], &[7], &[8]];
        assert_eq!(left.rows().tokens, want);
    }

    #[test]
    fn a_token_goes_only_if_it_is_weak_for_all_and_for_each_and_is_no_key() {
        // Tokens 0 to 3 are the image's, 4 and 5 ask: token 1 is weak on the whole but strong for one of them.
        let mut a = Array::zeros([1, 6, 6]);
        a.data_mut()[24..28].copy_from_slice(&[0.5, 0.09, 0.01, 0.01]);
        a.data_mut()[30..34].copy_from_slice(&[0.5, 0.0, 0.01, 0.01]);
        let seen = Table::new(Place::Decoder(1, Half::After), 6, 0..4).with_pattern(&a);
        let mut state = State { global: 0.1, individual: 0.05, keys: [3].into(), ..State::default() };
        let decision = state.decide(&seen, &Ctx::default()).unwrap();
        assert_eq!(decision.kept(&seen), [0, 1, 3]);
        assert_eq!((decision.threshold, decision.scores[0]), (Some(0.1), (1.0f64 / 1.13) as f32));
        state.individual = 0.1;
        assert_eq!(state.decide(&seen, &Ctx::default()).unwrap().kept(&seen), [0, 3]);
    }
}
