//! Recoverable compression: what the class token looks at stays, what fits the text comes back, and the rest becomes a few
//! tokens around those that are looked at most.
//!
//! Source: Chen et al. 2024, "Recoverable Compression: A Multimodal Vision Token Recovery Mechanism Guided by Text
//! Information", arXiv 2409.01179. Takes: queries and keys `[1 + n, c]` of the encoder's last layer, all heads as one,
//! patches `[1 + n, d]`, and how well each fits the text. Gives: what stays and comes back, and groups of the rest.
//! Departs: see [`Info::departs`]. Cost: O(n log n + centres · n · c).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::{dot, largest, length};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::passes::cosine_matrix;
use crate::passes::host::outliers::local_factors;
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::{asked, both_per_feature, noted, question, wide};
use crate::reduce::place::{Half, Place, encoded};
use crate::reduce::seen::pick;
use crate::reduce::{Decide, Decision, Method, Seen, Table};
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const NEIGHBOURS: Param = Param::count("neighbours", "Neighbours that an outlier stands apart from", 1, 256, 10);
const GROUP: Param = Param::count("group", "Tokens that are poured into each centre", 0, 4096, 32);
const TEXT: Param = Param::number("text", "Weight of the text where tokens look for their centre", 0.0, 1000.0, 50.0);
const ALIGNED: Param = Param::toggle("aligned", "Tokens of the rest are compared by their own keys", false);

static INFO: Info = Info {
    id: "recoverable_compression",
    title: "Recoverable compression",
    summary: "Keeps what the class token looks at, brings back what fits the text, and makes a few tokens of the rest.",
    family: "image features",
    basis: Basis::Authors { repo: "banjiuyufen/Recoverable-Compression", commit: "d927594467" },
    paper: Some(Paper {
        title: "Recoverable Compression: A Multimodal Vision Token Recovery Mechanism Guided by Text Information",
        authors: "Chen et al.",
        year: 2024,
        arxiv: "2409.01179",
    }),
    departs: "the text is that of a CLIP encoder there; the mean embedding of the text behind the image, against the \
              projected patches, stands in for it; tokens of the rest are compared by the keys of the first patches, as in \
              the authors' code, unless they are to be aligned; with few patches groups are smaller, and at least one token \
              stays; without a class token all patches ask together",
    needs: &[Need::ReadsImage, Need::Attention],
    params: &[NEIGHBOURS, GROUP, TEXT, ALIGNED],
    role: Role::StandIn,
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct RecoverableCompression;

/// Numbers of the method.
#[derive(Clone, Copy)]
struct Rule {
    neighbours: usize,
    group: usize,
    text: f64,
    aligned: bool,
}

impl Method for RecoverableCompression {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let on = on.of(Tower::Text);
        let cut = encoded(&on, &Params::new(), &INFO)?;
        let vision = on.trace.tower(Tower::Vision)?.n_layers;
        let layer = match cut {
            Place::Encoder(l, _) => l,
            _ => vision - 1,
        };
        let rule = Rule {
            neighbours: params.count(&NEIGHBOURS) as usize,
            group: params.count(&GROUP) as usize,
            text: params.number(&TEXT),
            aligned: params.toggle(&ALIGNED),
        };
        let text = question(&on, &INFO)?;
        let note = move |seen: &dyn Seen, _: usize, ctx: &Ctx| {
            let (q, k) = match layer + 1 < vision {
                true => seen.next_queries_keys()?,
                false => (seen.head_queries()?, seen.head_keys()?),
            };
            let (q, k) = (wide(&q)?, wide(&k)?);
            let first = seen.open().first().copied().unwrap_or(0);
            Ok((asked(&q, &k, first, ctx)?, pick(&k, seen.open())?))
        };
        Ok(noted(vec![layer], cut, note, move |seen, notes, ctx| {
            let (a, keys) = both_per_feature(&on, seen, notes.of(0))?;
            let x = pick(&seen.values()?, seen.open())?;
            let features = if seen.place() == Place::Features { x } else { seen.project(&x)? };
            let found = Parts::of(&a, &fits(&features, &text), &keys, rule, ctx)?;
            Ok(found.decide(seen, &a).scored(seen, &a))
        }))
    }
}

/// Cosine of each row with the text, over √d.
fn fits(x: &Array, text: &[f32]) -> Vec<f32> {
    let theirs = length(text);
    let of = |i: usize| {
        let row = x.row(i);
        let whole = length(row) * theirs * (text.len() as f64).sqrt();
        if whole > 0.0 { (dot(row, text) / whole) as f32 } else { 0.0 }
    };
    (0..x.shape()[0]).map(of).collect()
}

/// What becomes of the patches.
struct Parts {
    ratio: [f64; 2],
    looked_at: Vec<usize>,
    fitting: Vec<usize>,
    main: Vec<usize>,
    rest: Vec<usize>,
    /// By falling attention, each with what is poured into it.
    centres: Vec<(usize, Vec<usize>)>,
}

/// Share of the values that stand apart from their neighbours.
fn apart(values: &[f32], neighbours: usize, ctx: &Ctx) -> Result<f64> {
    let n = local_factors(values, neighbours, ctx)?.into_iter().filter(|f| *f > 1.5).count();
    Ok(if values.is_empty() { 0.0 } else { n as f64 / values.len() as f64 })
}

impl Parts {
    fn of(a: &[f32], text: &[f32], keys: &Array, rule: Rule, ctx: &Ctx) -> Result<Self> {
        let n = a.len();
        let ratio = [apart(a, rule.neighbours, ctx)?, apart(text, rule.neighbours, ctx)?];
        let best = |v: &[f32], ratio: f64| {
            let mut best = largest(v, (n as f64 * ratio) as usize);
            best.sort_unstable();
            best
        };
        let (looked_at, fitting) = (best(a, ratio[0]), best(text, ratio[1]));
        let mut main: BTreeSet<usize> = looked_at.iter().chain(&fitting).copied().collect();
        if main.is_empty() {
            main.extend(largest(a, 1));
        }
        let rest: Vec<usize> = (0..n).filter(|i| !main.contains(i)).collect();
        let of_rest: Vec<f32> = rest.iter().map(|&i| a[i]).collect();
        let centres = largest(&of_rest, (n as f64 * apart(&of_rest, rule.neighbours, ctx)?) as usize);
        // The j-th of the rest has the j-th key of all.
        let of = |j: usize| if rule.aligned { rest[j] } else { j };
        let rows = |some: &[usize]| some.iter().map(|&j| of(j)).collect::<Vec<_>>();
        let all: Vec<usize> = (0..rest.len()).collect();
        let cosines = cosine_matrix::run(&pick(keys, &rows(&centres))?, &pick(keys, &rows(&all))?, ctx)?;
        let group = |(i, &c): (usize, &usize)| {
            let mut score: Vec<f64> =
                (0..rest.len()).map(|j| f64::from(cosines.row(i)[j]) + rule.text * f64::from(text[rest[j]])).collect();
            score[c] = f64::NEG_INFINITY;
            let near = largest(&score, rule.group.min(rest.len() - 1));
            (rest[c], near.into_iter().map(|j| rest[j]).collect())
        };
        let centres = centres.iter().enumerate().map(group).collect();
        Ok(Self { ratio, looked_at, fitting, main: main.into_iter().collect(), rest, centres })
    }

    /// The main ones, each centre with its group weighted by attention, and one row of the rest.
    fn decide(&self, seen: &dyn Seen, a: &[f32]) -> Decision {
        let weighted = |some: &[usize]| some.iter().map(|&j| (j, f64::from(a[j]))).collect::<Vec<_>>();
        let mut made: Vec<Vec<(usize, f64)>> = self.main.iter().map(|&i| vec![(i, 1.0)]).collect();
        let mut lent = vec![Vec::new(); made.len()];
        for (c, group) in &self.centres {
            made.push(vec![(*c, 1.0)]);
            lent.push(weighted(group));
        }
        let left: Vec<usize> = self.rest.iter().copied().filter(|i| self.centres.iter().all(|c| c.0 != *i)).collect();
        if !left.is_empty() {
            made.push(weighted(&left));
            lent.push(Vec::new());
        }
        Decision::remade(seen, made, lent)
    }
}

/// Raw entry: `q`, `k` and `hidden` `[1 + n, any]` with the class token first, `text_similarity` `[n]`; `lof_neighbors`,
/// `cluster_k`, `text_weight`, `aligned`.
const ADAPTER: Adapter = Adapter { name: "recoverable_compression", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let names = ["q", "k", "hidden", "text_similarity"];
    for name in names {
        input.array(name)?.check_finite(name)?;
    }
    let [q, k, hidden, text] = names.map(|n| &input.arrays[n]);
    let ([n], [rows, d], [keys, _]) = (text.dims("text_similarity")?, hidden.dims("hidden")?, k.dims("k")?);
    if rows != n + 1 || keys != rows || n == 0 {
        return Err(Error::shape("hidden", format!("[{}, any], as q and k", n + 1), hidden.shape()));
    }
    let rule = Rule {
        neighbours: input.read_or("lof_neighbors", 10)?,
        group: input.read_or("cluster_k", 32)?,
        text: input.read_or("text_weight", 50.0)?,
        aligned: input.read_or("aligned", false)?,
    };
    if rule.neighbours == 0 {
        return Err(Error::invalid("lof_neighbors is 0; an outlier stands apart from at least one"));
    }
    let a = asked(q, k, 1, ctx)?;
    let patches: Vec<usize> = (1..rows).collect();
    let found = Parts::of(&a, text.data(), &pick(k, &patches)?, rule, ctx)?;
    let seen = Table::new(Place::Encoder(0, Half::After), n, 0..n).with_values(&pick(hidden, &patches)?);
    let decision = found.decide(&seen, &a);
    let made = seen.after(&decision)?.values()?;
    let mut output: Vec<Vec<f32>> = (0..made.shape()[0]).map(|i| made.row(i).to_vec()).collect();
    if output.len() == found.main.len() + found.centres.len() {
        // Of nothing.
        output.push(vec![0.0; d]);
    }
    let recovered: Vec<_> = found.fitting.iter().filter(|i| found.looked_at.binary_search(i).is_err()).collect();
    Ok(json!({
        "cls_attn": a, "ratio_vision": found.ratio[0], "ratio_text": found.ratio[1], "visual_keep": found.looked_at,
        "text_recovered": found.fitting, "recovered": recovered, "keep": found.main,
        "groups": found.centres, "n_out": output.len(), "output_tokens": output,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_at_stays_what_fits_comes_back_and_the_rest_is_summed() {
        // Token 5 is looked at, token 0 fits the text; of the rest nothing stands apart.
        let a = [0.10, 0.11, 0.12, 0.13, 0.14, 0.9];
        let text = [0.9, 0.10, 0.11, 0.12, 0.13, 0.14];
        let keys = Array::new([6, 1], vec![1.0; 6]).unwrap();
        let rule = Rule { neighbours: 2, group: 1, text: 50.0, aligned: false };
        let found = Parts::of(&a, &text, &keys, rule, &Ctx::default()).unwrap();
        assert_eq!((found.looked_at.as_slice(), found.fitting.as_slice()), (&[5][..], &[0][..]));
        assert_eq!((found.main.as_slice(), found.centres.len()), (&[0, 5][..], 0));
        let x = Array::new([6, 1], vec![1.0; 6]).unwrap();
        let seen = Table::new(Place::Encoder(0, Half::After), 6, 0..6).with_values(&x);
        let decision = found.decide(&seen, &a);
        let left = seen.after(&decision).unwrap();
        assert!((left.values().unwrap().data()[2] - 0.5).abs() < 1e-6);
    }
}
