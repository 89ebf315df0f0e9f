//! KARL: how many tokens a picture needs is part of what is computed; a token halts where it has nothing to add.
//!
//! Source: Duggal et al. 2025, "Single-pass Adaptive Image Tokenization for Minimum Program Search", arXiv 2507.07995;
//! ShivamDuggal4/karl at 5c1a5693ed, `karl_vqgan.py`. Takes: how likely each token halts. Gives: the tokens that go on,
//! whose number is the picture's complexity, and who may look at whom. Departs: see [`Info::departs`]. Cost: O(n² · d).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::passes::cosine_matrix;
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{LAYER, image_cut};
use crate::reduce::seen::pick;
use crate::reduce::{Asked, Decide, Decision, Method};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const HALT: Param = Param::number("halting_prob", "Probability above which a token halts", 0.0, 1.0, 0.75);

static INFO: Info = Info {
    id: "karl",
    title: "KARL's count",
    summary: "Keeps as many tokens as a picture has that say something new.",
    family: "image features",
    basis: Basis::Authors { repo: "ShivamDuggal4/karl", commit: "5c1a5693ed" },
    paper: Some(Paper {
        title: "Single-pass Adaptive Image Tokenization for Minimum Program Search",
        authors: "Duggal et al.",
        year: 2025,
        arxiv: "2507.07995",
    }),
    departs: "who halts is trained there; here a token's largest cosine with one before it that goes on stands in, in the \
              order of the raster, nothing below 0; the raw entry takes the network's logits",
    needs: &[Need::ImageTokens],
    params: &[HALT, LAYER],
    role: Role::StandIn,
    budget: Some(&HALT),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct Karl;

impl Method for Karl {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let halt = params.number(&HALT);
        Ok(Box::new(Asked::at([image_cut(on, params, &INFO)?], move |seen, ctx| {
            let cosines = cosine_matrix::of_itself(&pick(&seen.values()?, seen.open())?, ctx)?;
            let p = told(&cosines, halt);
            Ok(Decision { threshold: Some(halt as f32), ..Decision::keep(seen, &active(&p, halt)).scored(seen, &p) })
        })))
    }
}

/// How much of each token one before it that goes on has said already, by cosines `[n, n]`.
fn told(cosines: &Array, halt: f64) -> Vec<f32> {
    let n = cosines.shape().first().copied().unwrap_or(0);
    let mut p = Vec::with_capacity(n);
    let mut goes_on: Vec<usize> = Vec::new();
    for i in 0..n {
        let most = goes_on.iter().map(|&j| cosines.row(i)[j]).fold(0.0, f32::max).min(1.0);
        p.push(most);
        if f64::from(most) <= halt {
            goes_on.push(i);
        }
    }
    p
}

/// The tokens that do not halt.
fn active(p: &[f32], halt: f64) -> Vec<usize> {
    (0..p.len()).filter(|&i| f64::from(p[i]) <= halt).collect()
}

/// Raw entry: `halt_logits` `[n]`, `halting_prob`, `num_img_tokens` before them, of which the first, the condition, is
/// left out of the mask. Gives, too, how many of the others each one may not look at.
const ADAPTER: Adapter = Adapter { name: "karl", run: raw };

fn raw(input: &RawInput, _ctx: &Ctx) -> Result<Value> {
    let (logits, [n]) = input.finite("halt_logits")?;
    let halt: f64 = input.read_or("halting_prob", 0.75)?;
    let image: usize = input.read("num_img_tokens")?;
    if image > 1 << 24 {
        return Err(Error::invalid(format!("field num_img_tokens: {image} tokens are too many")));
    }
    let sigmoid = |v: &f32| (1.0 / (1.0 + (-f64::from(*v)).exp())) as f32;
    let p: Vec<f32> = logits.data().iter().map(sigmoid).collect();
    let active = active(&p, halt);
    let halted: Vec<bool> = (1..image + n).map(|i| i >= image && active.binary_search(&(i - image)).is_err()).collect();
    let gone = halted.iter().filter(|h| **h).count();
    // One that halted looks at nobody else, and nobody at it.
    let sums: Vec<usize> = halted.iter().map(|h| if *h { halted.len() - 1 } else { gone }).collect();
    Ok(json!({
        "halt_prob": p,
        "kolmogorov_estimate": active.len(),
        "active": active,
        "masked_entries": sums.iter().sum::<usize>(),
        "attn_mask_row_sums": sums,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_before_halts_unless_that_halted_itself() {
        let rows = [[1.0, 0.9, 0.7], [0.9, 1.0, 0.9], [0.7, 0.9, 1.0]];
        let p = told(&Array::new([3, 3], rows.concat()).unwrap(), 0.75);
        // The third is like the second, which is gone, and not so like the first.
        assert_eq!((p.as_slice(), active(&p, 0.75)), (&[0.0, 0.9, 0.7][..], vec![0, 2]));
        // At the threshold itself nobody halts.
        assert_eq!(active(&[0.75, 0.76], 0.75), [0]);
    }
}
