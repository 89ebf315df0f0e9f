//! ToDRE: image tokens that are together least alike go on, and deep in the language model all of them go once the text
//! looks at them no more.
//!
//! Source: Li et al. 2025, "ToDRE: Visual Token Pruning via Diversity and Task Awareness for Efficient Large
//! Vision-Language Models", arXiv 2505.18757 (v2, sections 4.1 and 4.2). Takes: a class row `[heads, n]`, image features
//! `[n, d]`, the attention of one late layer. Gives: the order of choice, and whether the rest goes. Departs: see
//! [`Info::departs`]. Cost: O(n² · d).

use crate::ctx::Ctx;
use crate::math::argmax;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::cosine_matrix;
use crate::passes::farthest_first::{self, Selection, Start};
use crate::passes::host::greedy;
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::{ROWS, head_mean, looked_at, noted, per_feature};
use crate::reduce::place::{Half, KEEP, LAYER, Place, READ_LAYER, image_cut, read_layer};
use crate::reduce::seen::pick;
use crate::reduce::select::budget;
use crate::reduce::{Decide, Decision, Method, Seen, Table};
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const RULE: Param = Param::choice(
    "rule",
    "Which token comes next: that of the largest sum of distances, or of the largest distance to its nearest",
    &["sum", "nearest"],
);
const DEPTH: Param = Param::share("depth", "Share of the language model's layers behind which the rest may go", 0.875);
const TAU: Param = Param::share(
    "tau",
    "The rest goes where text and image give each other less than this share of their attention",
    0.1,
);

static INFO: Info = Info {
    id: "todre",
    title: "ToDRE",
    summary: "Keeps the image tokens that are together least alike, and drops them all late in the language model once text ignores them.",
    family: "image features",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "ToDRE: Visual Token Pruning via Diversity and Task Awareness for Efficient Large Vision-Language Models",
        authors: "Li et al.",
        year: 2025,
        arxiv: "2505.18757",
    }),
    departs: "no code of the authors is known; the first token is the one looked at most in the layer chosen, over all \
              tiles; without a class token what all patches look at stands in, where the paper begins by chance; a plain \
              encoder has the first stage only",
    needs: &[Need::ImageTokens, Need::Attention],
    params: &[KEEP, RULE, READ_LAYER, DEPTH, TAU, LAYER],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct ToDre;

/// Asks both stages, each at its own places.
struct Stages<'a> {
    stops: Vec<Place>,
    first: Box<dyn Decide + 'a>,
    late: Option<(Place, f64)>,
}

impl Decide for Stages<'_> {
    fn stops(&self) -> &[Place] {
        &self.stops
    }

    fn decide(&mut self, seen: &dyn Seen, ctx: &Ctx) -> Result<Decision> {
        match self.late {
            Some((place, tau)) if seen.place() == place => {
                let open = seen.open();
                let drops = !open.is_empty() && ignored(alphas(seen)?, tau);
                Ok(if drops { Decision::keep(seen, &[]) } else { Decision::stay() })
            }
            _ => self.first.decide(seen, ctx),
        }
    }
}

impl Method for ToDre {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let cut = image_cut(on, params, &INFO)?;
        let layer = read_layer(on, params, &READ_LAYER, &INFO)?;
        let (keep, sum, subject) = (params.share(&KEEP), params.choice(&RULE) == "sum", *on);
        let note = |seen: &dyn Seen, _: usize, ctx: &Ctx| Ok(head_mean(&looked_at(seen, ctx)?));
        let first = noted(vec![layer], cut, note, move |seen, notes, ctx| {
            let looked = per_feature(&subject, seen, &notes.of(0).concat())?;
            let order = choose(seen, &looked, sum, budget(seen, keep).max(1), ctx)?;
            Ok(Decision::keep(seen, &order).scored(seen, &looked))
        });
        let mut stops = first.stops().to_vec();
        let mut late = None;
        if cut == Place::Features {
            let n = on.trace.tower(Tower::Text)?.n_layers;
            let layer = ((n as f64 * params.share(&DEPTH)) as usize).clamp(1, n) - 1;
            late = Some((Place::Decoder(layer, Half::After), params.share(&TAU)));
            stops.extend(late.map(|l| l.0));
        }
        Ok(Box::new(Stages { stops, first, late }))
    }
}

/// The open rows in the order in which they are taken.
fn choose(seen: &dyn Seen, looked_at: &[f32], sum: bool, k: usize, ctx: &Ctx) -> Result<Vec<usize>> {
    let x = pick(&seen.values()?, seen.open())?;
    let Some(first) = argmax(looked_at) else { return Ok((0..k.min(looked_at.len())).collect()) };
    match sum {
        true => greedy::least_alike(&cosine_matrix::of_itself(&x, ctx)?, first, k, ctx),
        false => farthest_first::run(&x, &Selection { k, start: Start::At(first), repeats: false }, ctx),
    }
}

/// Which share of the attention of the text behind the image goes to the image, and of the image's to that text.
fn alphas(seen: &dyn Seen) -> Result<[f64; 2]> {
    let behind = seen.behind();
    let share = |queries: &[usize], to: &[usize]| -> Result<f64> {
        if queries.is_empty() {
            return Ok(0.0);
        }
        let (mut part, mut all) = (0.0, 0.0);
        // Some rows at a time: those of a whole picture, of every head, may be gigabytes.
        for some in queries.chunks(ROWS) {
            for row in seen.pattern(some)?.mean_over_first().chunks_exact(seen.rows().len().max(1)) {
                part += to.iter().map(|&r| row[r]).sum::<f64>();
                all += row.iter().sum::<f64>();
            }
        }
        Ok(if all > 0.0 { part / all } else { 0.0 })
    };
    Ok([share(&behind, seen.open())?, share(seen.open(), &behind)?])
}

fn ignored(alphas: [f64; 2], tau: f64) -> bool {
    alphas.iter().all(|a| *a < tau)
}

/// Raw entry: `visual_tokens` `[n, d]`, `cls_attn` `[n]`, `k`; `layer_attn` `[heads, m, m]` over `n_system` tokens, the `k`
/// image tokens and `n_text` of text, `tau`.
const ADAPTER: Adapter = Adapter { name: "todre", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, a, late) = (input.array("visual_tokens")?, input.array("cls_attn")?, input.array("layer_attn")?);
    for (name, x) in [("visual_tokens", x), ("cls_attn", a), ("layer_attn", late)] {
        x.check_finite(name)?;
    }
    let [n, _] = x.dims("visual_tokens")?;
    let k: usize = input.read("k")?;
    if a.shape() != [n] || k > n {
        return Err(Error::shape("cls_attn", format!("[{n}], and k at most that"), a.shape()));
    }
    let [heads, m, _] = late.dims("layer_attn")?;
    let (system, text): (usize, usize) = (input.read("n_system")?, input.read("n_text")?);
    if late.shape() != [heads, m, m] || system.saturating_add(k).checked_add(text) != Some(m) {
        let e = format!(
            "[any, {0}, {0}] with {0} = {system} + {k} + {text}",
            system.saturating_add(k).saturating_add(text)
        );
        return Err(Error::shape("layer_attn", e, late.shape()));
    }
    let rule: String = input.read_or("rule", "sum".into())?;
    if !matches!(rule.as_str(), "sum" | "nearest") {
        return Err(Error::invalid(format!("rule is {rule}; it is sum or nearest")));
    }
    let seen = Table::new(Place::Features, n, 0..n).with_values(x);
    let order = choose(&seen, a.data(), rule != "nearest", k, ctx)?;
    let deep = Table::new(Place::Decoder(0, Half::After), m, system..system + k).with_pattern(late);
    let found = alphas(&deep)?;
    Ok(json!({
        "keep": Decision::keep(&seen, &order).kept(&seen), "selection_order": order,
        "alpha_text_to_visual": found[0], "alpha_visual_to_text": found[1],
        "drop_all_visual": ignored(found, input.read_or("tau", 0.1)?),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;

    #[test]
    fn the_two_rules_differ_where_one_stands_between_two() {
        let x = Array::new([4, 2], vec![1.0, 0.0, -1.0, 0.1, 0.0, 1.0, -1.0, -0.2]).unwrap();
        let seen = Table::new(Place::Features, 4, 0..4).with_values(&x);
        let order = |sum| choose(&seen, &[0.4, 0.3, 0.2, 0.1], sum, 3, &Ctx::default()).unwrap();
        assert_eq!(order(true)[..2], [0, 1]);
        // Token 3 is farther from 0 and 1 together, token 2 from the nearer of them.
        assert_eq!((order(true)[2], order(false)[2]), (3, 2));
    }

    #[test]
    fn the_image_goes_only_if_both_ignore_each_other() {
        // Token 0 is the image's; token 1 gives it 0.2.
        let a = Array::new([1, 2, 2], vec![1.0, 0.0, 0.2, 0.8]).unwrap();
        let seen = Table::new(Place::Decoder(0, Half::After), 2, 0..1).with_pattern(&a);
        let found = alphas(&seen).unwrap();
        assert!((found[0] - 0.2).abs() < 1e-6 && found[1] == 0.0);
        assert!(ignored(found, 0.3) && !ignored(found, 0.1) && !ignored([0.0, 0.5], 0.3));
    }
}
