//! LLaVA-PruMerge: patches that the class token looks at far more than at others go on, with their nearest neighbours
//! poured into them; PruMerge+ adds evenly spaced ones.
//!
//! Source: Shang et al. 2024, "LLaVA-PruMerge: Adaptive Token Reduction for Efficient Large Multimodal Models",
//! arXiv 2403.15388. Takes: queries and keys `[1 + n, c]` of the encoder's last layer, all heads as one, and patches
//! `[n, d]` of the layer before. Gives: how many stay, which, and what is added to each. Departs: see [`Info::departs`].
//! Cost: O(n² · c).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::{argmax, largest};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::cosine_matrix;
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::{asked, both_per_feature, noted, wide};
use crate::reduce::place::{Half, LAYER, Place, encoded};
use crate::reduce::seen::pick;
use crate::reduce::{Decide, Decision, Method, Seen, Table};
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use serde_json::{Map, Value, json};

const ADAPTIVE: Param = Param::toggle("adaptive", "The share left is that of the outliers, and not fixed", true);
const KEEP: Param = Param::share("keep", "Share of the patches left where it is fixed", 0.125);
const PLUS: Param = Param::toggle("plus", "Evenly spaced patches stay, too (PruMerge+)", false);
const NEIGHBOURS: Param = Param::count("neighbours", "Patches that are poured into each that stays", 0, 4096, 32);

static INFO: Info = Info {
    id: "prumerge",
    title: "LLaVA-PruMerge",
    summary: "Keeps the patches whose class attention is an outlier and pours their nearest neighbours into them.",
    family: "image features",
    basis: Basis::Authors { repo: "42Shawn/LLaVA-PruMerge", commit: "097c04116a" },
    paper: Some(Paper {
        title: "LLaVA-PruMerge: Adaptive Token Reduction for Efficient Large Multimodal Models",
        authors: "Shang et al.",
        year: 2024,
        arxiv: "2403.15388",
    }),
    departs: "with other numbers of patches than 576 the last one takes the place of index 575, which evenly spaced ones \
              stop before; these are at least one apart, and there are none without an outlier; images of fewer than 33 \
              patches have fewer neighbours; at least one patch stays; where the encoder ends behind the cut its own \
              queries and keys are read; without a class token all patches ask together",
    needs: &[Need::ImageTokens, Need::Attention],
    params: &[ADAPTIVE, KEEP, PLUS, NEIGHBOURS, LAYER],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct PruMerge;

/// What is left and what is poured into it.
#[derive(Clone, Copy)]
struct Rule {
    adaptive: bool,
    ratio: f64,
    plus: bool,
    neighbours: usize,
    /// Evenly spaced patches stop before this one.
    limit: usize,
}

impl Method for PruMerge {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let cut = encoded(on, params, &INFO)?;
        let vision = on.trace.tower(Tower::Vision)?.n_layers;
        let layer = match cut {
            Place::Encoder(l, _) => l,
            _ => vision - 1,
        };
        let adaptive = params.toggle(&ADAPTIVE) && !params.has(KEEP.key);
        let (ratio, plus) = (params.share(&KEEP), params.toggle(&PLUS));
        let neighbours = params.count(&NEIGHBOURS) as usize;
        let on = *on;
        let note = move |seen: &dyn Seen, _: usize, ctx: &Ctx| {
            let (q, k) =
                if layer + 1 < vision { seen.next_queries_keys()? } else { (seen.head_queries()?, seen.head_keys()?) };
            let (q, k) = (wide(&q)?, wide(&k)?);
            let first = seen.open().first().copied().unwrap_or(0);
            Ok((asked(&q, &k, first, ctx)?, pick(&k, seen.open())?))
        };
        Ok(noted(vec![layer], cut, note, move |seen, notes, ctx| {
            let (scores, keys) = both_per_feature(&on, seen, notes.of(0))?;
            let rule = Rule { adaptive, ratio, plus, neighbours, limit: scores.len().saturating_sub(1) };
            let mut merge = Merge::of(&scores, &keys, rule, ctx)?;
            if merge.top.is_empty() && merge.spaced.is_empty() {
                merge.top.extend(argmax(&scores));
                merge.near(&keys, rule.neighbours, ctx)?;
            }
            Ok(merge.decide(seen, &scores).scored(seen, &scores))
        }))
    }
}

/// Share of the values that are outliers: above the third quartile by more than 1.5 times what lies between the first
/// and the third.
fn outliers(values: &[f32]) -> f64 {
    let mut sorted: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
    sorted.sort_by(f64::total_cmp);
    let quantile = |q: f64| {
        let at = q * (sorted.len() - 1) as f64;
        let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
        low + (high - low) * at.fract()
    };
    if sorted.is_empty() {
        return 0.0;
    }
    let (first, third) = (quantile(0.25), quantile(0.75));
    let bound = third + 1.5 * (third - first);
    sorted.iter().filter(|v| **v > bound).count() as f64 / sorted.len() as f64
}

/// What stays, and what is poured into each.
struct Merge {
    ratio: f64,
    /// By falling attention.
    top: Vec<usize>,
    spaced: Vec<usize>,
    /// For each that stays, ascending.
    neighbours: Vec<Vec<usize>>,
}

impl Merge {
    fn of(a: &[f32], keys: &Array, rule: Rule, ctx: &Ctx) -> Result<Self> {
        let ratio = if rule.adaptive { outliers(a) } else { rule.ratio };
        let top = largest(a, (a.len() as f64 * ratio) as usize);
        let mut spaced = Vec::new();
        if rule.plus && ratio > 0.0 {
            let step = (((1.0 / ratio) as usize as f64 / 3.0) as usize).max(1);
            spaced = (0..rule.limit.min(a.len())).step_by(step).filter(|i| !top.contains(i)).collect();
        }
        let mut out = Self { ratio, top, spaced, neighbours: Vec::new() };
        out.near(keys, rule.neighbours, ctx)?;
        Ok(out)
    }

    fn kept(&self) -> Vec<usize> {
        self.top.iter().chain(&self.spaced).copied().collect()
    }

    /// The neighbours of each that stays, among all others.
    fn near(&mut self, keys: &Array, n: usize, ctx: &Ctx) -> Result<()> {
        let kept = self.kept();
        let cosines = cosine_matrix::run(&pick(keys, &kept)?, keys, ctx)?;
        let of = |(i, &c): (usize, &usize)| {
            let mut row = cosines.row(i).to_vec();
            row[c] = f32::NEG_INFINITY;
            let mut near = largest(&row, n.min(row.len() - 1));
            near.sort_unstable();
            near
        };
        self.neighbours = kept.iter().enumerate().map(of).collect();
        Ok(())
    }

    /// Each that stays plus its neighbours, weighted by attention; then one row of all that do not stay, weighted so.
    fn decide(&self, seen: &dyn Seen, a: &[f32]) -> Decision {
        let kept = self.kept();
        let weighted = |some: Vec<usize>| some.into_iter().map(|j| (j, f64::from(a[j]))).collect::<Vec<_>>();
        let mut made: Vec<Vec<(usize, f64)>> = kept.iter().map(|&c| vec![(c, 1.0)]).collect();
        let mut lent: Vec<Vec<(usize, f64)>> = self.neighbours.iter().map(|n| weighted(n.clone())).collect();
        let rest = (0..a.len()).filter(|i| !kept.contains(i)).collect::<Vec<_>>();
        if !rest.is_empty() {
            made.push(weighted(rest));
            lent.push(Vec::new());
        }
        Decision::remade(seen, made, lent)
    }
}

/// Raw entry: `q` and `k` `[1 + n, c]` with the class token first, `features` `[n, d]`; `variant` (`prumerge` or
/// `prumerge+`), `adaptive`, `reduction_ratio`, `neighbours`, `grid_step_limit`.
const ADAPTER: Adapter = Adapter { name: "prumerge", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (q, k, x) = (input.array("q")?, input.array("k")?, input.array("features")?);
    for (name, x) in [("q", q), ("k", k), ("features", x)] {
        x.check_finite(name)?;
    }
    let ([n, d], [rows, _]) = (x.dims("features")?, k.dims("k")?);
    if rows != n + 1 || n == 0 {
        return Err(Error::shape("k", format!("[{}, any]", n + 1), k.shape()));
    }
    let variant: String = input.read_or("variant", "prumerge".into())?;
    if !["prumerge", "prumerge+"].contains(&variant.as_str()) {
        return Err(Error::invalid(format!("variant is {variant}; it is prumerge or prumerge+")));
    }
    let limit = if n == 576 { 575 } else { n - 1 };
    let rule = Rule {
        adaptive: input.read_or("adaptive", true)?,
        ratio: input.read_or("reduction_ratio", 0.125)?,
        plus: variant.ends_with('+'),
        neighbours: input.read_or("neighbours", 32)?,
        limit: input.read_or("grid_step_limit", limit)?,
    };
    if !(0.0..=1.0).contains(&rule.ratio) {
        return Err(Error::invalid(format!("reduction_ratio is {}, not a share from 0 to 1", rule.ratio)));
    }
    let a = asked(q, k, 1, ctx)?;
    let merge = Merge::of(&a, &pick(k, &(1..=n).collect::<Vec<_>>())?, rule, ctx)?;
    let seen = Table::new(Place::Encoder(0, Half::After), n, 0..n).with_values(x);
    let decision = merge.decide(&seen, &a);
    let made = seen.after(&decision)?.values()?;
    let mut output: Vec<Vec<f32>> = (0..made.shape()[0]).map(|i| made.row(i).to_vec()).collect();
    if output.len() == merge.kept().len() {
        // Of nothing.
        output.push(vec![0.0; d]);
    }
    let mut out = Map::new();
    out.insert("cls_attn".into(), json!(a));
    out.insert("ratio".into(), json!(merge.ratio));
    out.insert("top".into(), json!(merge.top));
    out.insert("spaced".into(), json!(merge.spaced));
    out.insert("neighbours".into(), json!(merge.neighbours));
    out.insert("n_out".into(), json!(output.len()));
    out.insert("output".into(), json!(output));
    Ok(Value::Object(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_stays_takes_its_neighbour_in_and_the_rest_becomes_one_row() {
        let a = [0.1, 0.1, 0.1, 0.1, 0.6];
        let keys = Array::new([5, 2], vec![1.0, 0.0, 0.9, 0.2, 0.0, 1.0, -1.0, 0.0, 0.8, 0.1]).unwrap();
        let x = Array::new([5, 1], vec![1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let rule = Rule { adaptive: true, ratio: 0.0, plus: false, neighbours: 1, limit: 4 };
        let merge = Merge::of(&a, &keys, rule, &Ctx::default()).unwrap();
        assert_eq!((merge.ratio, merge.top.as_slice(), merge.neighbours.as_slice()), (0.2, &[4][..], &[vec![1]][..]));
        let seen = Table::new(Place::Encoder(0, Half::After), 5, 0..5).with_values(&x);
        let decision = merge.decide(&seen, &a);
        let left = seen.after(&decision).unwrap();
        // 5 + 0.1 · 2, and 0.1 of 1 to 4, though 2 is lent, too.
        assert!(left.values().unwrap().data().iter().zip([5.2, 1.0]).all(|(a, b)| (a - b).abs() < 1e-6));
        assert_eq!(left.rows().tokens, [vec![4], vec![0, 1, 2, 3]]);
        let plus = Merge::of(&a, &keys, Rule { plus: true, ..rule }, &Ctx::default()).unwrap();
        assert_eq!(plus.spaced, [0, 1, 2, 3]);
    }
}
