//! VisPruner: patches that the class token looks at most stay, and of the others those that repeat each other go, round by
//! round.
//!
//! Source: Zhang et al. 2025, "Beyond Text-Visual Attention: Exploiting Visual Cues for Effective Token Pruning in VLMs",
//! arXiv 2412.01818 v2. Takes: the class row `[heads, n]` and patches `[n, d]` of one encoder layer. Gives: important and
//! diverse tokens. Departs: see [`Info::departs`]. Cost: O(n² · d), and O(n²) per round, n falling.

use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::largest;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::cosine_matrix;
use crate::passes::host::greedy;
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::{both_per_feature, head_mean, looked_at, noted};
use crate::reduce::place::{KEEP, LAYER, READ_LAYER, image_cut, read_layer};
use crate::reduce::seen::pick;
use crate::reduce::select::budget;
use crate::reduce::{Decide, Decision, Method, Seen};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const IMPORTANT: Param = Param::share("important", "Share of what stays that is chosen by attention", 0.5);
const AT_ONCE: Param = Param::count("at_once", "Tokens that go in a round", 1, 1024, 8);

static INFO: Info = Info {
    id: "vispruner",
    title: "VisPruner",
    summary: "Keeps what the class token looks at most and, of the rest, what repeats nothing else.",
    family: "image features",
    basis: Basis::Authors { repo: "Theia-4869/VisPruner", commit: "aefa01adc7" },
    paper: Some(Paper {
        title: "Beyond Text-Visual Attention: Exploiting Visual Cues for Effective Token Pruning in VLMs",
        authors: "Zhang et al.",
        year: 2025,
        arxiv: "2412.01818",
    }),
    departs: "lists of odd length, at which the authors' code stops, are cut with one more in the first half; a round \
              takes no more than that half; the share is of all tiles together; without a class token what all patches \
              look at stands in",
    needs: &[Need::ImageTokens, Need::Attention],
    params: &[KEEP, IMPORTANT, AT_ONCE, READ_LAYER, LAYER],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct VisPruner;

impl Method for VisPruner {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let cut = image_cut(on, params, &INFO)?;
        let layer = read_layer(on, params, &READ_LAYER, &INFO)?;
        let (keep, important, on) = (params.share(&KEEP), params.share(&IMPORTANT), *on);
        let at_once = params.count(&AT_ONCE) as usize;
        let note = |seen: &dyn Seen, _: usize, ctx: &Ctx| {
            Ok((head_mean(&looked_at(seen, ctx)?), pick(&seen.values()?, seen.open())?))
        };
        Ok(noted(vec![layer], cut, note, move |seen, notes, ctx| {
            let (scores, x) = both_per_feature(&on, seen, notes.of(0))?;
            let found = Chosen::of(&scores, &x, budget(seen, keep), important, at_once, ctx)?;
            Ok(Decision::keep(seen, &found.kept()).scored(seen, &scores))
        }))
    }
}

struct Chosen {
    /// By falling score.
    important: Vec<usize>,
    removed: Vec<Vec<usize>>,
    /// In the order in which the rounds left them.
    diverse: Vec<usize>,
}

impl Chosen {
    fn of(scores: &[f32], x: &Array, k: usize, share: f64, at_once: usize, ctx: &Ctx) -> Result<Self> {
        let k = k.min(scores.len());
        let order = largest(scores, scores.len());
        let (important, list) = order.split_at((k as f64 * share) as usize);
        let (important, mut list) = (important.to_vec(), list.to_vec());
        let wanted = k - important.len();
        let mut removed = Vec::new();
        if wanted == 0 {
            return Ok(Self { important, removed, diverse: Vec::new() });
        }
        let total = list.len();
        // Of all pairs once: rounds ask for most of them again and again.
        let cosines = cosine_matrix::of_itself(x, ctx)?;
        while list.len() > wanted {
            ctx.step(total - list.len(), total - wanted)?;
            let a: Vec<usize> = list.iter().step_by(2).copied().collect();
            let b: Vec<usize> = list.iter().skip(1).step_by(2).copied().collect();
            let n = at_once.min(list.len() - wanted).min(a.len());
            // What the first half is most like goes first. Alone, a token is like nothing.
            let alike = greedy::most_alike(&cosines, &a, &b)?;
            let by_alike = largest(&alike, a.len());
            removed.push(by_alike[..n].iter().map(|&i| a[i]).collect());
            list = by_alike[n..].iter().map(|&i| a[i]).chain(b).collect();
        }
        Ok(Self { important, removed, diverse: list })
    }

    fn kept(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.important.iter().chain(&self.diverse).copied().collect();
        all.sort_unstable();
        all
    }
}

/// Raw entry: `cls_attn` `[heads, n]`, `features` `[n, d]`, `visual_token_num`, `important_ratio`, `batch_removed`.
const ADAPTER: Adapter = Adapter { name: "vispruner", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (a, x) = (input.array("cls_attn")?, input.array("features")?);
    a.check_finite("cls_attn")?;
    x.check_finite("features")?;
    let ([_, n], [rows, _]) = (a.dims("cls_attn")?, x.dims("features")?);
    if rows != n {
        return Err(Error::shape("features", format!("[{n}, any]"), x.shape()));
    }
    let k: usize = input.read("visual_token_num")?;
    let share: f64 = input.read_or("important_ratio", 0.5)?;
    let at_once: usize = input.read_or("batch_removed", 8)?;
    if k > n || !(0.0..=1.0).contains(&share) || at_once == 0 {
        let e = format!("{k} of {n} tokens, {share} of them by attention, {at_once} a round");
        return Err(Error::invalid(e));
    }
    let scores = head_mean(a);
    let found = Chosen::of(&scores, x, k, share, at_once, ctx)?;
    Ok(json!({
        "score": scores, "important": found.important, "removed_rounds": found.removed, "diverse": found.diverse,
        "keep": found.kept(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_rest_what_is_like_the_other_half_goes_first() {
        // By score: 0 stays; the list is 1, 2, 3. Token 1 is like 2, token 3 is not.
        let x = Array::new([4, 2], vec![1.0, 1.0, 1.0, 0.1, 1.0, 0.0, 0.0, 1.0]).unwrap();
        let found = Chosen::of(&[0.9, 0.5, 0.4, 0.3], &x, 3, 0.4, 8, &Ctx::default()).unwrap();
        assert_eq!((found.important.as_slice(), found.removed.as_slice()), (&[0][..], &[vec![1]][..]));
        assert_eq!((found.diverse.as_slice(), found.kept().as_slice()), (&[3, 2][..], &[0, 2, 3][..]));
    }
}
