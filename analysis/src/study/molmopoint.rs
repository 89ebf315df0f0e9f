//! MolmoPoint: a point is a visual token, a patch in it, and one of nine places in that.
//!
//! Source: Clark et al. 2026, "MolmoPoint: Better Pointing for VLMs with Grounding Tokens"; allenai/molmo2 at f3cb1085fb,
//! `molmo_point_example_preprocessor.py`. Takes: attention of a token to the picture; or the three choices of each point.
//! Gives: points on the picture. Departs: see [`Info::departs`]. Cost: O(n · heads).

use super::Method;
use super::patches::Patches;
use crate::ctx::Ctx;
use crate::finding::{Class, Datum, Figure, Finding, Heat, Image, Look, Measure, Outline, Raster, Region, Table, Unit};
use crate::math::largest;
use crate::method::{Basis, Info, Kind, LayerPick, Need, Paper, Param, Params, Role};
use crate::passes::attention_map;
use crate::raw::{Adapter, RawInput};
use crate::token::{Source, TokenKind};
use crate::trace::{Site, Tower};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const POINTS: Param = Param::count("points", "Points", 1, 64, 3);
const WHERE: Param = Param::layer_of(
    "attention_layer",
    "Layer of the language model whose attention points",
    Tower::Text,
    LayerPick::At(-1),
);

static INFO: Info = Info {
    id: "molmopoint",
    title: "MolmoPoint",
    summary: "Points at the picture with a token: a visual token, a patch in it, and a place in that.",
    family: "image tokens",
    basis: Basis::Authors { repo: "allenai/molmo2", commit: "f3cb1085fb" },
    paper: Some(Paper {
        title: "MolmoPoint: Better Pointing for VLMs with Grounding Tokens",
        authors: "Clark et al.",
        year: 2026,
        arxiv: "",
    }),
    departs: "the heads that choose are trained there; here the attention of the chosen token, or the last, chooses visual \
              tokens, the longest of its patches is the patch, and where the attention of the neighbours has its middle is \
              the place in it, of nine, which stand as far apart as there: 0.33 and not a third",
    needs: &[Need::ReadsImage, Need::Attention, Need::Residual],
    params: &[POINTS, WHERE],
    role: Role::StandIn,
    raw: &[Adapter { name: "molmopoint", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct MolmoPoint;

impl Method for MolmoPoint {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let text = on.reader(&INFO)?;
        let vision = on.trace.towers.get(&Tower::Vision).ok_or_else(|| INFO.needs(Need::ImageTokens.words()))?;
        let inner = on.of(Tower::Vision);
        let tiles = Patches::of(&inner, &Params::new(), &INFO)?;
        let layer = params.one_layer(&WHERE, text.n_layers)?;
        let n = text.tokens.len();
        let own = on.target.filter(|_| on.tower == Tower::Text);
        let asks = own.unwrap_or(n - 1);
        let rows = &on.trace.get(Tower::Text, layer, Site::Q)?.rows;
        let row =
            rows.row_of(asks).ok_or_else(|| Error::invalid(format!("token {asks} is not in this run any more")))?;
        let heads = text.attention[layer].n_heads;
        let mut mean = vec![0f32; rows.len()];
        for h in 0..heads {
            ctx.step(h, heads)?;
            let one = attention_map::row_of_trace(on.trace, Tower::Text, 0, layer, h, row)?;
            mean.iter_mut().zip(one).for_each(|(m, v)| *m += v / heads as f32);
        }
        let by_token = rows.to_tokens(&mean, n);
        let visual = |t: usize| text.tokens[t].kind == TokenKind::Image;
        let values: Vec<Option<f32>> = (0..n).map(|t| by_token[t].filter(|_| visual(t))).collect();
        let found =
            largest(&values.iter().map(|v| v.unwrap_or(-1.0)).collect::<Vec<f32>>(), params.count(&POINTS) as usize);
        let mut table = Table::new(&["point", "token", "patch", "place", "x", "y"]).titled("points");
        let mut regions = Vec::new();
        for (i, &t) in found.iter().filter(|t| values[**t].is_some()).enumerate() {
            let Source::Rect { x, y, w, h } = text.tokens[t].source else { continue };
            // The longest of the encoder's patches whose middle the token shows.
            let mut best: Option<(usize, [f32; 4], f64)> = None;
            for tile in &tiles {
                for p in 0..tile.len() {
                    let Some(r) = tile.rect(vision, p) else { continue };
                    let inside = (x..x + w).contains(&(r[0] + r[2] / 2.0)) && (y..y + h).contains(&(r[1] + r[3] / 2.0));
                    let length: f64 = tile.x.row(p).iter().map(|v| f64::from(*v).powi(2)).sum();
                    if inside && best.is_none_or(|b| length > b.2) {
                        best = Some((tile.token(p), r, length));
                    }
                }
            }
            let (patch, rect) = best.map_or((None, [x, y, w, h]), |b| (Some(b.0), b.1));
            let place = place(text, &values, t);
            let at = [0, 1].map(|a| rect[a] + rect[a + 2] * offset([place / 3, place % 3][a]) as f32);
            table.rows.push(vec![json!(i + 1), json!(t), json!(patch), json!(place), json!(at[0]), json!(at[1])]);
            let label = (i + 1).to_string();
            regions.push(Region { outline: Outline::Point(at), label, class: Some(0), value: values[t] });
        }
        let count = Figure::new("points", Datum::Count(regions.len()), "Visual tokens that get most attention");
        let title = format!("what token {asks} looks at");
        let heat = Heat::new(title, Unit::Tokens(Tower::Text), Measure::new("attention", ""), values);
        let mut out = Finding::of(heat).with(table).figure(count);
        if let Some((w, h)) = on.trace.image_size.filter(|s| s.0 > 0 && s.1 > 0) {
            let image = Image {
                regions,
                classes: vec![Class::new("point", "where it points", Look::Category(0))],
                measure: Some(Measure::new("attention", "")),
                ..Image::new("points", [w as usize, h as usize], Raster::Input)
            };
            out.pictures.insert(0, image.into());
        }
        Ok(out)
    }
}

/// Which of nine places of a token the attention of the token and its neighbours in the grid leans to, by column · 3 + row.
fn place(text: &crate::trace::TowerTrace, values: &[Option<f32>], token: usize) -> usize {
    let of = |g: &&crate::token::Grid| (g.first..g.first + g.rows * (g.cols + g.gap)).contains(&token);
    let Some(g) = text.grids.iter().find(of) else { return 4 };
    let wide = g.cols + g.gap;
    let (y, x) = ((token - g.first) / wide, (token - g.first) % wide);
    let mut sums = [0f64; 3];
    for (dy, dx) in (0..3).flat_map(|a| (0..3).map(move |b| (a, b))) {
        let (r, c) = ((y + dy).wrapping_sub(1), (x + dx).wrapping_sub(1));
        if r < g.rows && c < g.cols {
            let v = f64::from(values.get(g.first + r * wide + c).copied().flatten().unwrap_or(0.0));
            [v, v * (dx as f64 - 1.0), v * (dy as f64 - 1.0)].iter().zip(&mut sums).for_each(|(v, s)| *s += v);
        }
    }
    let third = |lean: f64| if sums[0] > 0.0 { (((lean / sums[0] + 1.0) * 1.5) as usize).min(2) } else { 1 };
    third(sums[1]) * 3 + third(sums[2])
}

/// Where in a patch a place of three stands.
fn offset(third: usize) -> f64 {
    (third as f64 + 0.5) * 0.33
}

/// The sign for "no more points" in place of a token.
const NO_POINTS: usize = 1_000_000;

/// Raw entry: `targets` `[points, 2 or 3]` (token, patch in it, place in that), `token_pooling` `[tokens, patches]`,
/// `vit_patch_mapping` `[rows, columns]`, `image_size_wh`. Points of patches that the map has not exactly once are left out.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let names = ["targets", "token_pooling", "vit_patch_mapping"];
    let [targets, pooling, map] = [input.array(names[0])?, input.array(names[1])?, input.array(names[2])?];
    names.iter().zip([targets, pooling, map]).try_for_each(|(name, x)| x.check_finite(name))?;
    let ([n, parts], [tokens, inner], [rows, cols]) =
        (targets.dims("targets")?, pooling.dims("token_pooling")?, map.dims("vit_patch_mapping")?);
    let size: [f64; 2] = input.read("image_size_wh")?;
    if !(2..=3).contains(&parts) {
        return Err(Error::shape("targets", "[points, 2 or 3]", targets.shape()));
    }
    let places = input.read_or("with_location", parts == 3)? && parts == 3;
    let mut points = Vec::new();
    for i in 0..n {
        ctx.step(i, n)?;
        let whole = |c: usize, most: usize, what: &str| {
            let v = targets.row(i)[c];
            let fits = v >= 0.0 && v.fract() == 0.0 && (v as usize) < most;
            fits.then_some(v as usize).ok_or_else(|| Error::invalid(format!("point {i}: there is no {what} {v}")))
        };
        if targets.row(i)[0] == NO_POINTS as f32 {
            continue;
        }
        let patch = pooling.row(whole(0, tokens, "token")?)[whole(1, inner, "patch of a token")?];
        let at: Vec<usize> = (0..rows * cols).filter(|&k| map.data()[k] == patch).collect();
        let &[at] = at.as_slice() else { continue };
        let (dx, dy) = if places {
            let place = whole(2, 9, "place")?;
            (offset(place / 3), offset(place % 3))
        } else {
            (0.5, 0.5)
        };
        let (x, y) = ((at % cols) as f64 + dx, (at / cols) as f64 + dy);
        points.push([x / cols as f64 * size[0], y / rows as f64 * size[1]]);
    }
    Ok(json!({ "points": points }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;

    fn points(targets: &[f32], parts: usize) -> Value {
        let mut input = RawInput::default();
        let array = |shape: [usize; 2], v: &[f32]| Array::new(shape, v.to_vec()).unwrap();
        input.arrays.insert("targets".into(), array([targets.len() / parts, parts], targets));
        input.arrays.insert("token_pooling".into(), array([2, 2], &[0.0, 1.0, 2.0, 9.0]));
        input.arrays.insert("vit_patch_mapping".into(), array([1, 3], &[0.0, 1.0, 2.0]));
        input.params = json!({ "image_size_wh": [300, 100] }).as_object().unwrap().clone();
        raw(&input, &Ctx::default()).unwrap()["points"].clone()
    }

    #[test]
    fn a_point_is_found_from_token_to_patch_to_place() {
        // The second patch of token 0, right of its middle and low.
        let got = points(&[0.0, 1.0, 8.0], 3);
        let got: Vec<[f64; 2]> = serde_json::from_value(got).unwrap();
        assert!((got[0][0] - 182.5).abs() < 1e-9 && (got[0][1] - 82.5).abs() < 1e-9, "{got:?}");
        assert_eq!(points(&[1.0, 0.0], 2), json!([[250.0, 50.0]]));
        // A patch that is nowhere on the map, and the sign that there are no more.
        assert_eq!(points(&[1.0, 1.0, 0.0, 1e6, 0.0, 0.0], 3), json!([]));
    }
}
