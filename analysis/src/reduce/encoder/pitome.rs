//! PiToMe: merges tokens that have many like them, and protects those that stand alone.
//!
//! Source: Tran et al. 2024, "Accelerating Transformers with Spectrum-Preserving Token Merging", arXiv 2405.16148.
//! Takes: a metric per token (keys, mean over heads) `[n, e]`. Gives: energies, groups and sizes. Departs: see
//! [`Info::departs`]. Cost: O(n² · e) per layer.

use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::{argmax, largest};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::cosine_matrix;
use crate::passes::pair_energy::{self, Pair};
use crate::raw::{Adapter, RawInput};
use crate::reduce::matching::by_size;
use crate::reduce::place::{Half, Place, image_cut};
use crate::reduce::seen::pick;
use crate::reduce::{Asked, Decide, Decision, Method, Seen, Table};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const RATIO: Param = Param::number(
    "ratio",
    "Share of the tokens left behind each layer, or between encoder and language model",
    0.5,
    1.0,
    0.9,
);
const MARGIN: Param =
    Param::number("margin", "Cosine from which a token adds to another's energy, in the first layer", -1.0, 1.0, 0.9);
const ALPHA: Param = Param::number("alpha", "How much less like tokens take from an energy", 0.0, 10.0, 1.0);
const SPLIT: Param = Param::choice(
    "split",
    "Which tokens merge: the upper part by energy, or of all those that are most alike",
    &["energy", "all"],
);
const PROPORTIONAL: Param = Param::toggle("proportional", "Attention counts a merged token by its size", true);

static INFO: Info = Info {
    id: "pitome",
    title: "PiToMe",
    summary: "Merges tokens that have many others like them, layer by layer, and protects those that stand alone.",
    family: "inside the encoder",
    basis: Basis::Authors { repo: "hchautran/PiToMe", commit: "550b5deed9" },
    paper: Some(Paper {
        title: "Accelerating Transformers with Spectrum-Preserving Token Merging",
        authors: "Tran et al.",
        year: 2024,
        arxiv: "2405.16148",
    }),
    departs: "register tokens are left alone like the class token; between encoder and language model the features \
              themselves are compared, once; at least half of the tokens stay, below which the authors' code breaks; as \
              in the code the energy of a picture's tokens is an ELU of the cosine",
    needs: &[Need::ImageTokens, Need::Attention],
    params: &[RATIO, MARGIN, ALPHA, SPLIT, PROPORTIONAL],
    budget: Some(&RATIO),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct PiToMe;

/// How tokens are judged and paired.
#[derive(Clone, Copy)]
struct Rule {
    pair: Pair,
    /// Split of a text's tokens: halves by energy, and not every other one.
    halves: bool,
    /// All take part in the matching.
    all: bool,
}

impl Method for PiToMe {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let (ratio, margin, alpha) = (params.number(&RATIO), params.number(&MARGIN), params.number(&ALPHA));
        let all = params.choice(&SPLIT) == "all";
        let n_layers = on.tower()?.n_layers;
        let (stops, proportional) = match image_cut(on, &Params::new(), &INFO)? {
            Place::Features => (vec![Place::Features], false),
            _ => {
                let stops = (0..n_layers).map(|l| Place::inside(on.tower, l, Half::Mid)).collect();
                (stops, params.toggle(&PROPORTIONAL))
            }
        };
        let decider = Asked::at(stops, move |seen, ctx| {
            // The margin falls to nothing over the layers.
            let depth = seen.place().layer().map_or(0.0, |l| l as f64 / n_layers as f64);
            let pair = Pair::Elu { margin: (margin * (1.0 - depth)) as f32, alpha: alpha as f32 };
            let n = seen.open().len();
            let r = (n as f64 - n as f64 * ratio).floor() as usize;
            Ok(decide(seen, r, Rule { pair, halves: false, all }, ctx)?.0)
        });
        Ok(Box::new(decider.proportional(proportional)))
    }
}

/// Merges `r` of the open rows, by the keys where there are such and else by the values; with the energies.
fn decide(seen: &dyn Seen, r: usize, rule: Rule, ctx: &Ctx) -> Result<(Decision, Vec<f32>)> {
    let open = seen.open();
    let metric = pick(&seen.keys()?.map_or_else(|| seen.values(), Ok)?, open)?;
    let cosines = cosine_matrix::of_itself(&metric, ctx)?;
    let energy = pair_energy::run(&cosines, rule.pair, ctx)?;
    let r = r.min(open.len() / 2);
    if r == 0 {
        return Ok((Decision::stay().scored(seen, &energy), energy));
    }
    let (protected, into) = matched(&cosines, &energy, r, rule);
    let old = |i: usize| open[i];
    let first = open.first().copied().unwrap_or(0);
    let mut groups: Vec<Vec<usize>> = (0..first).map(|i| vec![i]).collect();
    groups.extend(protected.into_iter().map(|i| vec![old(i)]));
    groups.extend(into.into_iter().map(|g| g.into_iter().map(old).collect()));
    groups.extend((0..seen.rows().len()).filter(|i| *i > first && open.binary_search(i).is_err()).map(|i| vec![i]));
    Ok((by_size(seen, groups).scored(seen, &energy), energy))
}

/// Tokens that stay as they are, in the order of the authors' code, and groups of those that take others in.
fn matched(cosines: &Array, energy: &[f32], r: usize, rule: Rule) -> (Vec<usize>, Vec<Vec<usize>>) {
    let order = largest(energy, energy.len());
    let some = if rule.all { &order[..] } else { &order[..2 * r] };
    let (from, to): (Vec<usize>, Vec<usize>) = if rule.halves && !rule.all {
        (some[..r].to_vec(), some[r..].to_vec())
    } else {
        (some.iter().step_by(2).copied().collect(), some.iter().skip(1).step_by(2).copied().collect())
    };
    let best = |&a: &usize| {
        let row: Vec<f32> = to.iter().map(|&b| cosines.row(a)[b]).collect();
        let j = argmax(&row).unwrap_or(0);
        (row[j], j)
    };
    let best: Vec<(f32, usize)> = from.iter().map(best).collect();
    let mut into: Vec<Vec<usize>> = to.iter().map(|&b| vec![b]).collect();
    let mut protected: Vec<usize> = if rule.all { Vec::new() } else { order[2 * r..].to_vec() };
    let by_alike = largest(&best.iter().map(|b| b.0).collect::<Vec<_>>(), best.len());
    let merges: std::collections::BTreeSet<usize> = match rule.all {
        true => by_alike[..r.min(best.len())].iter().copied().collect(),
        false => (0..from.len()).collect(),
    };
    if rule.all {
        protected.extend(by_alike.iter().skip(r).map(|&i| from[i]));
    }
    merges.iter().for_each(|&i| into[best[i].1].push(from[i]));
    (protected, into)
}

/// Raw entry: `x` and `metric` `[n, any]`; `ratio`, `margin`, `alpha`, `class_token`, `variant` (`vision` or `text`),
/// `use_bsm_pitome`.
const ADAPTER: Adapter = Adapter { name: "pitome", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, metric) = (input.array("x")?, input.array("metric")?);
    x.check_finite("x")?;
    metric.check_finite("metric")?;
    let ([n, d], [m, _]) = (x.dims("x")?, metric.dims("metric")?);
    let leading = usize::from(input.read_or("class_token", false)?);
    if m != n || n <= leading {
        return Err(Error::shape("metric", format!("[{n}, any], more than {leading} rows"), metric.shape()));
    }
    let (ratio, margin): (f64, f32) = (input.read("ratio")?, input.read_or("margin", 0.9)?);
    if !(0.5..=1.0).contains(&ratio) {
        return Err(Error::invalid(format!("ratio is {ratio}; from 0.5 to 1 of the tokens can stay")));
    }
    let variant: String = input.read_or("variant", "vision".into())?;
    let pair = match variant.as_str() {
        "vision" => Pair::Elu { margin, alpha: input.read_or("alpha", 1.0)? },
        "text" => Pair::Normal { sigma: 1.0 - margin },
        _ => return Err(Error::invalid(format!("variant is {variant}; it is vision or text"))),
    };
    let rule = Rule { pair, halves: variant == "text", all: input.read_or("use_bsm_pitome", false)? };
    let open = n - leading;
    let r = (open as f64 - open as f64 * ratio).floor() as usize;
    let seen = Table::new(Place::Encoder(0, Half::Mid), n, leading..n).with_values(x).with_keys(metric);
    let (decision, energy) = decide(&seen, r, rule, ctx)?;
    let left = seen.after(&decision)?;
    let rows = left.rows();
    Ok(json!({
        "energy": energy, "r": r, "groups": rows.tokens,
        "size": (0..rows.len()).map(|i| rows.size(i) as f64).collect::<Vec<_>>(),
        "merged": left.values()?.data().chunks(d.max(1)).collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_merges_and_the_one_that_stands_alone_is_protected() {
        let x = Array::new([4, 2], vec![0.0, 1.0, 1.0, 0.0, 1.0, 0.1, 1.0, 0.3]).unwrap();
        let seen = Table::new(Place::Encoder(0, Half::Mid), 4, 1..4).with_keys(&x).with_values(&x);
        let pair = Pair::Elu { margin: 0.5, alpha: 1.0 };
        let (decision, energy) = decide(&seen, 1, Rule { pair, halves: false, all: false }, &Ctx::default()).unwrap();
        assert!(energy[1] > energy[0] && energy[0] > energy[2], "{energy:?}");
        assert_eq!(seen.after(&decision).unwrap().rows().tokens, [vec![0], vec![3], vec![1, 2]]);
    }
}
