//! CATP: tokens of each picture that cover it and fit its text go on, and inside the language model those of the context
//! that the question comes to look at, and of the question's own picture what fits that context.
//!
//! Source: Li et al. 2026, "CATP: Contextually Adaptive Token Pruning for Efficient and Enhanced Multimodal In-Context
//! Learning", equations 5 to 10. Takes: image and text tokens `[n, d]` of each example, attention and outputs of two layers.
//! Gives: what stays by picture and stage. Departs: see [`Info::departs`]. Cost: O(n² · d).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::cosine;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::passes::host::greedy::{self, Combined};
use crate::passes::{cosine_matrix, top_k};
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{Half, Place};
use crate::reduce::seen::pick;
use crate::reduce::{Asked, Decide, Decision, Method};
use crate::token::TokenKind;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const REMOVED: Param = Param::share("removed", "Share of the image tokens that goes in all", 0.667);
const FIT: Param = Param::number("fit", "Weight of fitting the text against covering the picture", 0.0, 10.0, 0.7);
const DEPTH: Param =
    Param::share("depth", "Share of the language model's layers behind which the second stage stands", 7.0 / 32.0);

static INFO: Info = Info {
    id: "catp",
    title: "CATP",
    summary: "Keeps image tokens that cover the picture and fit the text, then those that fit what is asked inside the language model.",
    family: "inside the language model",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "CATP: Contextually Adaptive Token Pruning for Efficient and Enhanced Multimodal In-Context Learning",
        authors: "Li et al.",
        year: 2026,
        arxiv: "",
    }),
    departs: "no code of the authors is known, and rounding is ours; the method is for several pictures with texts before the \
              one that is asked about; a run of one picture has no context, so the text stands in for it, and the layers \
              that compare a context's attention have nothing to do (the raw entry does all of it)",
    needs: &[Need::ReadsImage],
    params: &[REMOVED, FIT, DEPTH],
    role: Role::StandIn,
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct Catp;

impl Method for Catp {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let text = on.reader(&INFO)?;
        let (removed, fit) = (params.share(&REMOVED), params.number(&FIT));
        let layer = ((params.share(&DEPTH) * text.n_layers as f64).round() as usize).clamp(1, text.n_layers) - 1;
        let words = text.tokens.iter().filter(|t| t.kind == TokenKind::Text);
        let ids: Vec<u32> = words.filter_map(|t| t.id).collect();
        if ids.is_empty() {
            return Err(INFO.needs("a text beside the image"));
        }
        let question = mean(&Array::from_tensor(&on.weights(&INFO)?.embed(&ids)?)?);
        let mut came = None;
        Ok(Box::new(Asked::at([Place::Features, Place::Decoder(layer, Half::After)], move |seen, ctx| {
            let n = *came.get_or_insert(seen.open().len());
            let x = seen.values()?;
            if seen.place() == Place::Features {
                let kept = covering(&pick(&x, seen.open())?, &question, fit, share(n, removed / 2.0).max(1), ctx)?;
                return Ok(Decision::keep(seen, &kept));
            }
            let text: Vec<usize> = (0..seen.rows().len()).filter(|r| seen.open().binary_search(r).is_err()).collect();
            let scores = like(&pick(&x, seen.open())?, &mean(&pick(&x, &text)?));
            let kept = top_k::of_row(&scores, share(n, removed), ctx)?;
            Ok(Decision::keep(seen, &kept).scored(seen, &scores))
        })))
    }
}

/// How many of `n` are left when a share goes.
fn share(n: usize, removed: f64) -> usize {
    (n as f64 * (1.0 - removed)) as usize
}

fn mean(x: &Array) -> Vec<f64> {
    x.mean_over_first()
}

/// Cosine of each row with a vector; 0 where one has no direction.
fn like(x: &Array, to: &[f64]) -> Vec<f32> {
    (0..x.shape()[0]).map(|i| cosine(x.row(i), to) as f32).collect()
}

/// The `k` rows of `x` that together are most like all of them and each like the text, chosen one by one; ascending.
fn covering(x: &Array, text: &[f64], fit: f64, k: usize, ctx: &Ctx) -> Result<Vec<usize>> {
    // Likeness from 0 to 1.
    let shifted = |c: f32| (1.0 + c) / 2.0;
    let mut cosines = cosine_matrix::of_itself(x, ctx)?;
    cosines.data_mut().iter_mut().for_each(|c| *c = shifted(*c));
    let weights: Vec<f32> = like(x, text).into_iter().map(|c| fit as f32 * shifted(c).max(0.0)).collect();
    let mut kept: Vec<usize> =
        greedy::coverage(&cosines, &weights, Combined::Sum, k, ctx)?.into_iter().map(|c| c.token).collect();
    kept.sort_unstable();
    Ok(kept)
}

/// Raw entry: `image_tokens` and `text_tokens` `[examples, n, d]`, the last one asked about; of the layers K − 1, K and
/// K + 1, about what the first stage left: `ctx_attn_Km1`, `ctx_attn_K` `[context]`, `ctx_hidden_K`, `ctx_hidden_K1`
/// `[context, d]`, `query_hidden_K`, `query_img_hidden_K1` `[any, d]`; `R`, `lambda1`, `lambda2`.
const ADAPTER: Adapter = Adapter { name: "catp", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let names = [
        "image_tokens",
        "text_tokens",
        "ctx_attn_Km1",
        "ctx_attn_K",
        "ctx_hidden_K",
        "ctx_hidden_K1",
        "query_hidden_K",
        "query_img_hidden_K1",
    ];
    for name in names {
        input.array(name)?.check_finite(name)?;
    }
    let [images, texts, before, now, hidden, next, asks, own] = names.map(|n| &input.arrays[n]);
    let ([examples, n, d], [m, words, e]) = (images.dims("image_tokens")?, texts.dims("text_tokens")?);
    let ([c], [rows, width]) = (now.dims("ctx_attn_K")?, hidden.dims("ctx_hidden_K")?);
    let [asked, _] = own.dims("query_img_hidden_K1")?;
    let alike = [hidden, next].iter().all(|x| x.shape() == [c, width]);
    let wide = [asks, own].iter().all(|x| x.rank() == 2 && x.shape()[1] == width);
    if m != examples || e != d || examples == 0 || words == 0 || before.shape() != [c] || rows != c || !alike || !wide {
        let e = format!("{examples} examples of one width, and a context of {c} tokens of one width");
        return Err(Error::invalid(format!("the arrays do not fit: they hold {e}")));
    }
    let removed: f64 = input.read("R")?;
    let (fit, likes): (f64, f64) = (input.read_or("lambda1", 0.7)?, input.read_or("lambda2", 0.6)?);
    if !(0.0..=1.0).contains(&removed) || !(0.0..=1e6).contains(&fit) {
        return Err(Error::invalid(format!("R is {removed}, not a share from 0 to 1, or lambda1 {fit}")));
    }
    let first = |i: usize| {
        let text = mean(&texts.sub(i));
        covering(&images.sub(i), &text, fit, share(n, removed / 2.0), ctx)
    };
    let kept = (0..examples).map(first).collect::<Result<Vec<_>>>()?;
    let question = mean(asks);
    let gains = now.data().iter().zip(before.data()).map(|(a, b)| f64::from(a - b).max(0.0));
    let scores: Vec<f32> = gains.zip(like(hidden, &question)).map(|(g, l)| (g + likes * f64::from(l)) as f32).collect();
    let context = top_k::of_row(&scores, share((examples - 1) * n, removed).min(c), ctx)?;
    let distilled = mean(&pick(next, &context)?);
    let fits = like(own, &distilled);
    let query = top_k::of_row(&fits, share(n, removed).min(asked), ctx)?;
    Ok(json!({
        "stage1_keep_per_image": kept, "context_score": scores, "context_keep": context, "query_score": fits,
        "query_keep": query,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_covers_and_one_that_fits_the_text_stay() {
        let x = Array::new([3, 2], vec![1.0, 0.0, 1.0, 0.1, -1.0, 0.0]).unwrap();
        assert_eq!(covering(&x, &[-1.0, 0.0], 0.0, 2, &Ctx::default()).unwrap(), [1, 2]);
        assert_eq!(covering(&x, &[-1.0, 0.0], 9.0, 1, &Ctx::default()).unwrap(), [2]);
        assert_eq!(share(9, 0.7), 2);
    }
}
