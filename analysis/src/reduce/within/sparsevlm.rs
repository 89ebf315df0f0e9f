//! SparseVLM: words of the question that mean the image vote on its tokens; of those that go, the best are clustered and
//! go on as few.
//!
//! Source: Zhang et al. 2024, "SparseVLM: Visual Token Sparsification for Efficient Vision-Language Model Inference",
//! arXiv 2410.04417. Takes: the rows `[n, d]` that the language model begins with, and attention `[heads, n, n]` and output
//! `[n, d]` of some of its layers. Gives: raters, scores, what is kept, clusters. Departs: see [`Info::departs`].
//! Cost: O(raters · n · width) and O(recycled² · d) per layer.

use super::layers_at;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::{largest, softmax};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::host::cluster;
use crate::passes::top_k;
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::attended;
use crate::reduce::place::{Half, Place};
use crate::reduce::seen::pick;
use crate::reduce::select::round_half_even;
use crate::reduce::{Asked, Decide, Decision, Method, Seen, Table};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const KEEP: Param = Param::share("keep", "Share of the image tokens that layers work on, on average", 1.0 / 3.0);
const DEPTHS: Param = Param::schedule(
    "depths",
    "Shares of the language model's layers that the three stages stand behind",
    0.0,
    1.0,
    &[3.0 / 32.0, 7.0 / 32.0, 16.0 / 32.0],
);
const RECYCLE: Param = Param::share("recycle", "Share of what goes that is clustered", 0.3);
const PER_CLUSTER: Param = Param::count("per_cluster", "Tokens that become one", 1, 1024, 10);

/// What the authors keep of 576 tokens behind the three stages, for an average of so many.
const BUDGETS: [(f64, [f64; 3]); 4] = [
    (64.0, [66.0, 30.0, 17.0]),
    (96.0, [238.0, 48.0, 26.0]),
    (128.0, [303.0, 110.0, 36.0]),
    (192.0, [300.0, 200.0, 110.0]),
];

static INFO: Info = Info {
    id: "sparsevlm",
    title: "SparseVLM",
    summary: "Lets the words that mean the image vote on its tokens in three layers, and clusters the best of those that go.",
    family: "inside the language model",
    basis: Basis::Authors { repo: "Gumpest/SparseVLMs", commit: "26a5f48813" },
    paper: Some(Paper {
        title: "SparseVLM: Visual Token Sparsification for Efficient Vision-Language Model Inference",
        authors: "Zhang et al.",
        year: 2024,
        arxiv: "2410.04417",
    }),
    departs: "version 1.0 of the authors' code, whose budgets are a table for averages of 64, 96, 128 and 192 of 576 \
              tokens and not the paper's rank of the attention; shares between these are interpolated, others in \
              proportion; layers stand at shares of the depth, which are theirs where there are 32; where random noise \
              decides between equally dense tokens there, the first one counts as denser here; clusters stand at the \
              place of their first token; where no word says more than the others, all of them vote",
    needs: &[Need::ReadsImage, Need::Attention],
    params: &[KEEP, DEPTHS, RECYCLE, PER_CLUSTER],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct SparseVlm;

impl Method for SparseVlm {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let text = on.reader(&INFO)?;
        let (depths, budgets) = (params.schedule(&DEPTHS), budgets(params.share(&KEEP)));
        if depths.len() != budgets.len() {
            return Err(Error::invalid(format!("{} depths for three stages; give three", depths.len())));
        }
        // Where two stages share a layer, what the later one leaves is left.
        let stages: BTreeMap<usize, f64> = layers_at(&depths, text.n_layers, 0).into_iter().zip(budgets).collect();
        let stops: Vec<Place> = [Place::Decoder(0, Half::Before)]
            .into_iter()
            .chain(stages.keys().map(|&l| Place::Decoder(l, Half::After)))
            .collect();
        let (recycle, per_cluster) = (params.share(&RECYCLE), params.count(&PER_CLUSTER) as usize);
        // Raters by their token, and how many tokens the image had.
        let (mut raters, mut n): (Vec<usize>, usize) = (Vec::new(), 0);
        Ok(Box::new(Asked::at(stops, move |seen, ctx| {
            let Some(share) =
                seen.place().layer().and_then(|l| stages.get(&l)).filter(|_| seen.place() != stops_before())
            else {
                let (found, _) = rate(&seen.values()?, seen.open(), &seen.behind());
                raters = found.iter().filter_map(|&r| seen.rows().tokens[r].first().copied()).collect();
                n = seen.open().len();
                return Ok(Decision::stay());
            };
            let voters: Vec<usize> = raters.iter().filter_map(|&t| seen.rows().row_of(t)).collect();
            if voters.is_empty() {
                ctx.note("no text follows the image, so nobody votes on its tokens");
                return Ok(Decision::stay());
            }
            let scores = vote(seen, &voters)?;
            let budget = round_half_even(share * n as f64) as usize;
            let stage = Stage::of(seen, &scores, budget, (recycle, per_cluster), None, ctx)?;
            Ok(stage.decide(seen).scored(seen, &scores).renumbered())
        })))
    }
}

fn stops_before() -> Place {
    Place::Decoder(0, Half::Before)
}

/// Shares left behind each stage, for an average share.
fn budgets(share: f64) -> [f64; 3] {
    let wanted = share * 576.0;
    let scaled = |(average, all): (f64, [f64; 3])| all.map(|b| (b * wanted / average / 576.0).min(1.0));
    let at = BUDGETS.iter().position(|b| b.0 >= wanted);
    match at {
        Some(0) => scaled(BUDGETS[0]),
        None => scaled(BUDGETS[BUDGETS.len() - 1]),
        Some(i) => {
            let ((low, a), (high, b)) = (BUDGETS[i - 1], BUDGETS[i]);
            let t = (wanted - low) / (high - low);
            std::array::from_fn(|k| (a[k] + t * (b[k] - a[k])) / 576.0)
        }
    }
}

/// The rows of the text that mean the image more than others do on average, and what each means it.
fn rate(x: &Array, image: &[usize], text: &[usize]) -> (Vec<usize>, Vec<f64>) {
    let dot =
        |i: usize, j: usize| x.row(i).iter().zip(x.row(j)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let mut mean = vec![0f64; text.len()];
    if text.is_empty() || image.is_empty() {
        return (text.to_vec(), mean);
    }
    for &i in image {
        let logits: Vec<f64> = text.iter().map(|&t| dot(i, t)).collect();
        mean.iter_mut().zip(softmax(&logits, 1.0)).for_each(|(m, p)| *m += p / image.len() as f64);
    }
    let bound = mean.iter().sum::<f64>() / mean.len() as f64;
    let above: Vec<usize> = text.iter().zip(&mean).filter(|(_, m)| **m > bound).map(|(t, _)| *t).collect();
    (if above.is_empty() { text.to_vec() } else { above }, mean)
}

/// Mean attention of these rows to each open one.
fn vote(seen: &dyn Seen, voters: &[usize]) -> Result<Vec<f32>> {
    Ok(attended(seen, voters)?.into_iter().map(|v| v as f32).collect())
}

/// What a stage does, by index among the open rows.
struct Stage {
    kept: Vec<usize>,
    /// By falling score.
    recycled: Vec<usize>,
    clusters: cluster::Peaks,
}

impl Stage {
    fn of(
        seen: &dyn Seen,
        scores: &[f32],
        budget: usize,
        (recycle, per_cluster): (f64, usize),
        noise: Option<&[f32]>,
        ctx: &Ctx,
    ) -> Result<Self> {
        let n = scores.len();
        let kept = top_k::of_row(scores, budget.min(n.saturating_sub(1)), ctx)?;
        let gone: Vec<usize> = (0..n).filter(|i| kept.binary_search(i).is_err()).collect();
        let of_gone: Vec<f32> = gone.iter().map(|&i| scores[i]).collect();
        let some = (recycle * gone.len() as f64) as usize + 1;
        let recycled: Vec<usize> = largest(&of_gone, some).into_iter().map(|i| gone[i]).collect();
        let none = cluster::Peaks { centres: Vec::new(), labels: Vec::new() };
        if recycled.is_empty() || recycle == 0.0 {
            return Ok(Self { kept, recycled: Vec::new(), clusters: none });
        }
        let rows: Vec<usize> = recycled.iter().map(|&i| seen.open()[i]).collect();
        let noise: Vec<f64> = match noise {
            Some(noise) if noise.len() == rows.len() => noise.iter().map(|v| f64::from(*v) * 1e-6).collect(),
            Some(noise) => return Err(Error::shape("noise", format!("[{}]", rows.len()), &[noise.len()])),
            None => vec![0.0; rows.len()],
        };
        let c = (rows.len() / per_cluster + 1).min(rows.len());
        let clusters = cluster::density_peaks(&pick(&seen.values()?, &rows)?, c, &noise, ctx)?;
        Ok(Self { kept, recycled, clusters })
    }

    /// The rows kept, then the mean of each cluster.
    fn decide(&self, seen: &dyn Seen) -> Decision {
        let mut made: Vec<Vec<(usize, f64)>> = self.kept.iter().map(|&i| vec![(i, 1.0)]).collect();
        for c in 0..self.clusters.centres.len() {
            let members = self.recycled.iter().zip(&self.clusters.labels).filter(|(_, l)| **l == c);
            let members: Vec<usize> = members.map(|(&i, _)| i).collect();
            let share = 1.0 / (members.len() as f64 + 1e-6);
            made.push(members.into_iter().map(|i| (i, share)).collect());
        }
        Decision::remade(seen, made, Vec::new())
    }
}

/// Raw entry: `embeds` and `hidden` `[n, d]`, `attn` `[heads, n, n]`, `noise` where density is to be told apart by it;
/// `v_token_start`, `v_token_num`; `layer_idx` (2, 6 or 15) and `retain_tokens` (192, 128, 96 or 64), or `budget`.
const ADAPTER: Adapter = Adapter { name: "sparsevlm", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (embeds, hidden, attn) = (input.array("embeds")?, input.array("hidden")?, input.array("attn")?);
    for (name, x) in [("embeds", embeds), ("hidden", hidden), ("attn", attn)] {
        x.check_finite(name)?;
    }
    let ([n, _], [m, d], [heads, _, _]) = (embeds.dims("embeds")?, hidden.dims("hidden")?, attn.dims("attn")?);
    if m != n || attn.shape() != [heads, n, n] {
        return Err(Error::shape("attn", format!("[any, {n}, {n}], and hidden [{n}, any]"), attn.shape()));
    }
    let (first, len): (usize, usize) = (input.read("v_token_start")?, input.read("v_token_num")?);
    if first.saturating_add(len) >= n || len == 0 {
        return Err(Error::invalid(format!("image tokens {first} to {first} + {len} of {n}, with text behind them")));
    }
    let layer: usize = input.read_or("layer_idx", 2)?;
    let retain: usize = input.read_or("retain_tokens", 192)?;
    let known = BUDGETS.iter().find(|b| b.0 == retain as f64).zip([2, 6, 15].iter().position(|l| *l == layer));
    let budget: usize = match (known, input.read_or("budget", None)?) {
        (_, Some(budget)) => budget,
        (Some((budgets, stage)), None) => budgets.1[stage] as usize,
        _ => {
            return Err(Error::invalid(format!(
                "no budget is known for layer {layer} and {retain} tokens; give budget"
            )));
        }
    };
    let (image, text): (Vec<usize>, Vec<usize>) = ((first..first + len).collect(), (first + len..n).collect());
    let (raters, mean) = rate(embeds, &image, &text);
    let seen =
        Table::new(Place::Decoder(layer, Half::After), n, first..first + len).with_values(hidden).with_pattern(attn);
    let scores = vote(&seen, &raters)?;
    let noise = if input.arrays.contains_key("noise") { Some(input.array("noise")?.data()) } else { None };
    let stage = Stage::of(&seen, &scores, budget, (0.3, 10), noise, ctx)?;
    let decision = stage.decide(&seen);
    let left = seen.after(&decision)?;
    let values = left.values()?;
    let merged =
        &values.data()[(first + stage.kept.len()) * d..(first + stage.kept.len() + stage.clusters.centres.len()) * d];
    Ok(json!({
        "raters": raters.iter().map(|r| r - first - len).collect::<Vec<_>>(), "rater_score": mean, "score": scores,
        "keep": stage.kept, "recycled": stage.recycled, "cluster_num": stage.clusters.centres.len(),
        "assignment": stage.clusters.labels,
        "centres": stage.clusters.centres.iter().map(|&c| stage.recycled[c]).collect::<Vec<_>>(),
        "merged": merged.chunks(d.max(1)).collect::<Vec<_>>(),
        "n_visual_after": stage.kept.len() + stage.clusters.centres.len(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_the_authors_and_lie_between_them() {
        assert_eq!(budgets(1.0 / 3.0).map(|b| (b * 576.0).round()), [300.0, 200.0, 110.0]);
        assert_eq!(budgets(64.0 / 576.0).map(|b| (b * 576.0).round()), [66.0, 30.0, 17.0]);
        assert_eq!(budgets(160.0 / 576.0).map(|b| (b * 576.0).round()), [302.0, 155.0, 73.0]);
        assert_eq!(budgets(32.0 / 576.0).map(|b| (b * 576.0).round()), [33.0, 15.0, 9.0]);
        assert!(budgets(1.0)[0] == 1.0);
    }

    #[test]
    fn words_that_mean_the_image_vote_and_the_best_of_what_goes_is_recycled() {
        // Two image tokens, then two words of which the second is like the image.
        let x = Array::new([4, 1], vec![1.0, 2.0, 0.0, 1.0]).unwrap();
        let (raters, mean) = rate(&x, &[0, 1], &[2, 3]);
        assert_eq!(raters, [3]);
        assert!((mean.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let a =
            Array::new([1, 4, 4], [[0.0; 4], [0.0; 4], [0.9, 0.1, 0.0, 0.0], [0.1, 0.3, 0.0, 0.6]].concat()).unwrap();
        let seen = Table::new(Place::Decoder(0, Half::After), 4, 0..2).with_values(&x).with_pattern(&a);
        let scores = vote(&seen, &raters).unwrap();
        let stage = Stage::of(&seen, &scores, 1, (0.3, 10), None, &Ctx::default()).unwrap();
        assert_eq!((stage.kept.as_slice(), stage.recycled.as_slice()), (&[1][..], &[0][..]));
        let decision = stage.decide(&seen);
        assert_eq!(seen.after(&decision).unwrap().rows().tokens, [vec![1], vec![0], vec![2], vec![3]]);
    }
}
