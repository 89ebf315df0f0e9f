//! NegToMe: tokens of one picture are pushed away from the tokens of another that they are most like.
//!
//! Source: Singh et al. 2024, "Negative Token Merging: Image-based Adversarial Feature Guidance", arXiv 2412.01339;
//! 1jsingh/negtome at 9011ed424f, `pipeline_negtome_flux.py`. Takes: features of several pictures, `[n, d]` each, the first
//! being the reference. Gives: which token each is most like, how much, and what it becomes. Departs: see
//! [`Info::departs`]. Cost: O(pictures · n² · d).

use super::Method;
use super::patches::{self, LAYER, Patches};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::finding::{Class, Classes, Datum, Figure, Finding, Look, Measure, Unit};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::cosine_matrix;
use crate::raw::{Adapter, RawInput, number};
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const ALPHA: Param = Param::number("alpha", "How far a token is pushed away", 0.0, 10.0, 0.9);
const LEAST: Param = Param::number("threshold", "Cosine above which it is", -1.0, 1.0, 0.65);
const RULE: Param = Param::choice(
    "rule",
    "Whether, as in the authors' code, each token of the reference looks for its like, or as in the paper each other token",
    &["code", "paper"],
);

static INFO: Info = Info {
    id: "negtome",
    title: "NegToMe",
    summary: "Shows which tokens of other tiles would be pushed away from the first tile, and how far.",
    family: "image tokens",
    basis: Basis::Authors { repo: "1jsingh/negtome", commit: "9011ed424f" },
    paper: Some(Paper {
        title: "Negative Token Merging: Image-based Adversarial Feature Guidance",
        authors: "Singh et al.",
        year: 2024,
        arxiv: "2412.01339",
    }),
    departs: "there it acts while pictures are drawn, in the first tenth of the steps; here tiles of one picture are the \
              pictures, the first of them the reference, and it is shown what would become of their features; as in the \
              authors' code, not in the paper, a token at one place may be pushed by what was found for another",
    needs: &[Need::ImageTokens, Need::Residual],
    params: &[ALPHA, LEAST, RULE, LAYER],
    raw: &[Adapter { name: "negtome", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct NegToMe;

impl Method for NegToMe {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let vision = patches::encoder(on, &INFO)?;
        let (tiles, left_out) = patches::alike(Patches::of(on, params, &INFO)?);
        if tiles.len() < 2 {
            return Err(INFO.needs("a picture that is read in several tiles, the first of which is the reference"));
        }
        let rule = Rule {
            alpha: params.number(&ALPHA),
            least: params.number(&LEAST),
            of_reference: params.choice(&RULE) == "code",
        };
        let reference = &tiles[0].x;
        let mut found = Vec::new();
        for (i, tile) in tiles.iter().enumerate() {
            ctx.step(i, tiles.len())?;
            let cosines = cosine_matrix::run(&tile.x, reference, ctx)?;
            found.push(rule.pushed(&tile.x, reference, &cosines, None)?);
        }
        let measure = Measure::signed("cosine", "");
        let like: Vec<Vec<f32>> = found.iter().map(|f| f.most.clone()).collect();
        let far: Vec<Vec<f32>> = tiles.iter().zip(&found).map(|(t, f)| patches::moved(&t.x, &f.x)).collect();
        let mut of = vec![None; vision.tokens.len()];
        let mut labels = vec![String::new(); vision.tokens.len()];
        for (number, (tile, f)) in tiles.iter().zip(&found).enumerate() {
            for i in 0..tile.len() {
                let at = tile.token(i);
                of[at] = Some(if number == 0 { 2 } else { usize::from(!f.applied[i]) });
                labels[at] = format!("like patch {} of the first tile, {:.2}", f.best[i], f.most[i]);
            }
        }
        let kinds = vec![
            Class::new("pushed away", "like a token of the first tile", Look::Category(0)),
            Class::new("unchanged", "like none of them", Look::Quiet),
            Class::new("reference", "a token of the first tile", Look::Plain),
        ];
        let n: usize = found.iter().skip(1).map(|f| f.applied.iter().filter(|a| **a).count()).sum();
        let all: usize = tiles.iter().skip(1).map(Patches::len).sum();
        let classes = Classes { labels, ..Classes::new("pushed away", Unit::Tokens(Tower::Vision), kinds, of) };
        let mut out = Finding::of(classes)
            .with(patches::heat(on, "like the first tile", measure, vision, &tiles, &like))
            .with(patches::heat(
                on,
                "how far it moves",
                Measure::new("distance", "lengths of the token"),
                vision,
                &tiles,
                &far,
            ))
            .figure(Figure::new(
                "pushed away",
                Datum::Share(n as f64 / all.max(1) as f64),
                "Tokens of the other tiles",
            ));
        out.notes.extend(left_out);
        Ok(out)
    }
}

/// When and how far a token is pushed.
struct Rule {
    alpha: f64,
    least: f64,
    /// Whether tokens of the reference look for their like.
    of_reference: bool,
}

/// What becomes of a picture's tokens.
struct Pushed {
    /// The largest cosine found for each place; -∞ where there was nothing to look at.
    most: Vec<f32>,
    /// The token of the reference that each place is pushed from.
    best: Vec<usize>,
    applied: Vec<bool>,
    /// `[n, d]`.
    x: Array,
}

impl Rule {
    /// Tokens `x` `[n, d]` against a reference `[n, d]` by their cosines `[n, n]`; only pairs that `mask` `[n, n]` allows.
    fn pushed(&self, x: &Array, reference: &Array, cosines: &Array, mask: Option<&[f32]>) -> Result<Pushed> {
        let [n, d] = x.dims("tokens")?;
        if reference.shape() != [n, d] {
            return Err(Error::shape("reference", format!("[{n}, {d}]"), reference.shape()));
        }
        let cosine = |i: usize, j: usize| {
            let allowed = mask.is_none_or(|m| m[i * n + j] != 0.0);
            if allowed { cosines.row(i)[j] } else { f32::NEG_INFINITY }
        };
        let best_of = |at: usize| {
            let one = |k: usize| if self.of_reference { cosine(k, at) } else { cosine(at, k) };
            (1..n).fold((0, one(0)), |best, k| if one(k) > best.1 { (k, one(k)) } else { best })
        };
        let found: Vec<(usize, f32)> = (0..n).map(best_of).collect();
        let applied: Vec<bool> = found.iter().map(|f| f.1 > self.least as f32).collect();
        let mut out = x.data().to_vec();
        for (i, row) in out.chunks_mut(d.max(1)).enumerate().filter(|(i, _)| applied[*i]) {
            let away = reference.row(found[i].0);
            row.iter_mut().zip(away).for_each(|(v, r)| {
                *v = ((1.0 + self.alpha) * f64::from(*v) - self.alpha * f64::from(*r)) as f32;
            });
        }
        let (best, most) = found.into_iter().unzip();
        Ok(Pushed { most, best, applied, x: Array::new([n, d], out)? })
    }
}

/// Raw entry: `hidden` `[pictures, n, d]`, the first being the reference, which is treated, too; `alpha`, `threshold`,
/// `rule`; where `masked`, `mask` `[pictures, n, n]`, whose zeros forbid a pair.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, [pictures, n, d]) = input.finite("hidden")?;
    let word: String = input.read_or("rule", "code".to_string())?;
    let rule = Rule {
        alpha: input.read_or("alpha", 0.9)?,
        least: input.read_or("threshold", 0.65)?,
        of_reference: match word.as_str() {
            "code" => true,
            "paper" => false,
            other => return Err(Error::invalid(format!("field rule is {other}; it is code or paper"))),
        },
    };
    let mask = if input.read_or("masked", false)? { Some(input.array("mask")?) } else { None };
    if n == 0 || pictures == 0 {
        return Err(Error::shape("hidden", "[pictures, n, d], at least one token of one picture", x.shape()));
    }
    if let Some(mask) = mask.filter(|m| m.shape() != [pictures, n, n]) {
        return Err(Error::shape("mask", format!("[{pictures}, {n}, {n}]"), mask.shape()));
    }
    ctx.fits(4 * (n as u64).saturating_mul(n as u64), "take fewer tokens")?;
    let reference = x.sub(0);
    let mut found = Vec::new();
    for p in 0..pictures {
        ctx.step(p, pictures)?;
        let own = x.sub(p);
        let cosines = cosine_matrix::run(&own, &reference, ctx)?;
        found.push(rule.pushed(&own, &reference, &cosines, mask.map(|m| m.row(p)))?);
    }
    let rows = |a: &Array| a.data().chunks(d.max(1)).map(<[f32]>::to_vec).collect::<Vec<_>>();
    let of = |f: &dyn Fn(&Pushed) -> Value| found.iter().map(f).collect::<Vec<_>>();
    Ok(json!({
        "max_similarity": of(&|f| json!(f.most.iter().map(|v| number(f64::from(*v))).collect::<Vec<_>>())),
        "match_index": of(&|f| json!(f.best)),
        "applied": of(&|f| json!(f.applied.iter().map(|a| u8::from(*a)).collect::<Vec<_>>())),
        "output": of(&|f| json!(rows(&f.x))),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_and_the_paper_look_from_either_side() {
        let reference = Array::new([2, 2], vec![1.0, 0.0, 0.0, 1.0]).unwrap();
        // Both tokens are like the first of the reference, the second one less so.
        let x = Array::new([2, 2], vec![2.0, 0.0, 0.8, 0.6]).unwrap();
        let cosines = cosine_matrix::run(&x, &reference, &Ctx::default()).unwrap();
        let rule = Rule { alpha: 1.0, least: 0.7, of_reference: false };
        let paper = rule.pushed(&x, &reference, &cosines, None).unwrap();
        assert_eq!((paper.best.as_slice(), paper.applied.as_slice()), (&[0, 0][..], &[true, true][..]));
        assert_eq!(paper.x.row(0), [3.0, 0.0]);
        // The second of the reference is most like the second token, 0.6, which is not enough.
        let code = Rule { of_reference: true, ..rule }.pushed(&x, &reference, &cosines, None).unwrap();
        assert_eq!((code.best.as_slice(), code.applied.as_slice()), (&[0, 1][..], &[true, false][..]));
        assert_eq!(code.x.row(1), x.row(1));
        let far = patches::moved(&x, &code.x);
        assert!((far[0] - 0.5).abs() < 1e-6 && far[1] == 0.0, "{far:?}");
        // Nothing to look at: nothing is changed.
        let none = Rule { of_reference: true, alpha: 1.0, least: 0.7 };
        let none = none.pushed(&x, &reference, &cosines, Some(&[0.0, 1.0, 0.0, 1.0])).unwrap();
        assert_eq!((none.most[0], none.best[0], none.applied[0]), (f32::NEG_INFINITY, 0, false));
    }
}
