//! URaG: after a few layers the pages of a long document that have least to do with the question leave.
//!
//! Source: Shi et al. 2025, "URaG: Unified Retrieval and Generation in Multimodal LLMs for Efficient Long Document
//! Understanding", arXiv 2511.10552; shi-yx/URaG at 44d9803, `modeling_urag.py`. Takes: rows behind the last norm, of the
//! question and of each page. Gives: how well each page answers each word, and the pages that stay. Departs: see
//! [`Info::departs`]. Cost: O(question · n · d).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{Half, Place};
use crate::reduce::seen::pick;
use crate::reduce::within::layers_at;
use crate::reduce::{Asked, Decide, Decision, Method};
use crate::{Error, Result, Subject};
use candle_core::{D, DType, Device};
use serde_json::{Value, json};

const DEPTH: Param = Param::share("depth", "Share of the layers after which pages leave", 6.0 / 28.0);
const REMAIN: Param = Param::count("remain", "Pages that stay; more where they are equally good", 1, 64, 2);

static INFO: Info = Info {
    id: "urag_pages",
    title: "URaG's pages",
    summary: "Drops the pages that fit the question least, after a few layers of the language model.",
    family: "inside the language model",
    basis: Basis::Authors { repo: "shi-yx/URaG", commit: "44d9803" },
    paper: Some(Paper {
        title: "URaG: Unified Retrieval and Generation in Multimodal LLMs for Efficient Long Document Understanding",
        authors: "Shi et al.",
        year: 2025,
        arxiv: "2511.10552",
    }),
    departs: "tiles of one picture are the pages; a trained projection is left out, so rows are compared behind the last norm \
              as they are; the published model keeps five pages after layer 6 of 28 or 36",
    needs: &[Need::ReadsImage],
    params: &[DEPTH, REMAIN],
    role: Role::StandIn,
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct UragPages;

impl Method for UragPages {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let n_layers = on.reader(&INFO)?.n_layers;
        let remain = params.count(&REMAIN) as usize;
        let stops: Vec<Place> = layers_at(&[params.share(&DEPTH)], n_layers, 0)
            .into_iter()
            .map(|l| Place::Decoder(l, Half::After))
            .collect();
        Ok(Box::new(Asked::at(stops, move |seen, ctx| {
            let (behind, tiles) = (seen.behind(), seen.tiles());
            if behind.is_empty() || tiles.is_empty() {
                ctx.note("there is no question behind the picture, or its pages are no longer whole; all stay");
                return Ok(Decision::stay());
            }
            let normed = seen.normed()?;
            let pages: Vec<Array> = tiles
                .iter()
                .map(|&(first, rows, cols)| pick(&normed, &seen.open()[first..first + rows * cols]))
                .collect::<Result<_>>()?;
            let found = Late::of(&pick(&normed, &behind)?, &pages, ctx)?;
            let (scores, kept) = (found.scores(), found.kept(remain));
            let mut each = vec![0f32; seen.open().len()];
            let mut open = Vec::new();
            for (p, &(first, rows, cols)) in tiles.iter().enumerate() {
                each[first..first + rows * cols].fill(scores[p] as f32);
                open.extend((first..first + rows * cols).filter(|_| kept.contains(&p)));
            }
            Ok(Decision::keep(seen, &open).scored(seen, &each))
        })))
    }
}

/// How well each page answers each token of a question: its best row, and that one's product with the token.
struct Late {
    /// By token, then by page.
    best: Vec<Vec<(usize, f64)>>,
    pages: usize,
}

impl Late {
    /// From rows `[m, d]` of a question and `[n, d]` of each page.
    fn of(question: &Array, pages: &[Array], ctx: &Ctx) -> Result<Self> {
        let unit = |x: &Array| {
            let x = x.to_tensor(&Device::Cpu)?.to_dtype(DType::F64)?;
            let length = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12)?;
            Ok::<_, Error>(x.broadcast_div(&length)?)
        };
        let [m, _] = question.dims("question")?;
        let question = unit(question)?;
        let mut best = vec![Vec::with_capacity(pages.len()); m];
        for (p, page) in pages.iter().enumerate() {
            ctx.step(p, pages.len())?;
            if page.dims::<2>("page")?[0] == 0 {
                return Err(Error::invalid(format!("page {p} has no tokens")));
            }
            let products: Vec<Vec<f64>> = question.matmul(&unit(page)?.t()?)?.to_vec2()?;
            for (row, best) in products.iter().zip(&mut best) {
                let first = |b: (usize, f64), (i, &v): (usize, &f64)| if v > b.1 { (i, v) } else { b };
                best.push(row.iter().enumerate().skip(1).fold((0, row[0]), first));
            }
        }
        Ok(Self { best, pages: pages.len() })
    }

    fn scores(&self) -> Vec<f64> {
        (0..self.pages).map(|p| self.best.iter().map(|b| b[p].1).sum()).collect()
    }

    /// The pages that stay: all that are not below the `remain`-th best.
    fn kept(&self, remain: usize) -> Vec<usize> {
        let scores = self.scores();
        let mut order = scores.clone();
        order.sort_by(|a, b| b.total_cmp(a));
        let least = remain.checked_sub(1).and_then(|r| order.get(r)).filter(|_| scores.len() > remain);
        (0..scores.len()).filter(|&p| least.is_none_or(|l| scores[p] >= *l)).collect()
    }
}

/// Marks around a page in the authors' prompt.
const DELIMITERS: usize = 2;

/// Raw entry: `question` `[m, d]`, `features` `[n, d]` of all pages, `page_lengths`, `remain`.
const ADAPTER: Adapter = Adapter { name: "urag_pages", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (question, features) = (input.array("question")?, input.array("features")?);
    question.check_finite("question")?;
    features.check_finite("features")?;
    let ([_, d], [n, e]) = (question.dims("question")?, features.dims("features")?);
    let lengths: Vec<usize> = input.read("page_lengths")?;
    let remain: usize = input.read_or("remain", 5)?;
    let all = lengths.iter().try_fold(0usize, |a, l| a.checked_add(*l));
    if d != e || all != Some(n) || remain == 0 {
        return Err(Error::shape("features", format!("[{all:?} tokens of all pages, {d}]"), features.shape()));
    }
    let mut first = 0;
    let mut pages = Vec::new();
    for &length in &lengths {
        pages.push(Array::new([length, d], features.data()[first * d..(first + length) * d].to_vec())?);
        first += length;
    }
    let found = Late::of(question, &pages, ctx)?;
    let kept = found.kept(remain);
    let by_token = |f: fn(&(usize, f64)) -> Value| -> Vec<Vec<Value>> {
        found.best.iter().map(|b| b.iter().map(f).collect()).collect()
    };
    Ok(json!({
        "scores": found.scores(),
        "best": by_token(|b| json!(b.0)),
        "contribution": by_token(|b| json!(b.1)),
        "kept_tokens": kept.iter().map(|&p| lengths[p] + DELIMITERS).sum::<usize>(),
        "total_tokens": n + DELIMITERS * lengths.len(),
        "kept": kept,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_counts_by_its_best_row_for_each_word_and_equal_pages_stay_together() {
        let row = |v: &[f32]| Array::new([v.len() / 2, 2], v.to_vec()).unwrap();
        let pages = [row(&[1.0, 0.0, 0.0, 3.0]), row(&[-1.0, 0.0]), row(&[0.0, 1.0, 2.0, 0.0])];
        let found = Late::of(&row(&[5.0, 0.0, 0.0, 1.0]), &pages, &Ctx::default()).unwrap();
        assert_eq!(found.scores(), [2.0, -1.0, 2.0]);
        assert_eq!(found.best[1].iter().map(|b| b.0).collect::<Vec<_>>(), [1, 0, 0]);
        assert_eq!((found.kept(1), found.kept(2), found.kept(3)), (vec![0, 2], vec![0, 2], vec![0, 1, 2]));
    }
}
