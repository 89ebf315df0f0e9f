//! Where a reduction happens and which rows it may touch; one answer for every method.

use super::{Cut, Plan, Stage};
use crate::array::Array;
use crate::method::{LayerPick, Need, Param, Params};
use crate::token::TokenKind;
use crate::trace::{Regroup, Site, Tower};
use crate::{Error, Result, Subject};

/// Share of the rows that stay.
pub(super) const KEEP: Param =
    Param::share("keep", "Share of the image tokens kept; of all tokens where there is no image", 0.5);
/// Layer of a cut inside a stack.
pub(super) const LAYER: Param = Param::layer(
    "layer",
    "Layer after which the others are dropped; not used between encoder and language model",
    LayerPick::At(0),
);

/// The rows that a reduction may touch.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    tower: Tower,
    /// Between encoder and language model, or inside a stack.
    pub between: bool,
    /// Rows at that place, touchable or not.
    n_rows: usize,
    /// The touchable ones, ascending: image tokens where there are such, else all text tokens but the first and
    /// the last.
    pub rows: Vec<usize>,
}

impl Place {
    /// For the language model of a vision-language model: its image features before the first layer. Inside an
    /// image encoder: its patches. For a text: the tokens.
    pub fn of(input: &Subject) -> Result<Self> {
        let tower = input.trace.tower(input.tower)?;
        let image: Vec<usize> = (0..tower.tokens.len()).filter(|&i| tower.tokens[i].kind == TokenKind::Image).collect();
        if input.tower == Tower::Text && !image.is_empty() {
            let n = image.len();
            return Ok(Self { tower: Tower::Text, between: true, n_rows: n, rows: (0..n).collect() });
        }
        if tower.n_tiles > 1 {
            return Err(Error::invalid(
                "the image is cut into tiles that the encoder reads one by one; reduce the language model's tokens instead",
            ));
        }
        let n = tower.tokens.len();
        let rows = if image.is_empty() { (1..n.saturating_sub(1)).collect() } else { image };
        Ok(Self { tower: input.tower, between: false, n_rows: n, rows })
    }

    /// The same for methods about images. Errors if the tower has no image tokens.
    pub fn of_image(input: &Subject, method: &str) -> Result<Self> {
        let tokens = &input.trace.tower(input.tower)?.tokens;
        if !tokens.iter().any(|t| t.kind == TokenKind::Image) {
            return Err(Error::Need { method: method.into(), need: Need::ImageTokens.words().into() });
        }
        Self::of(input)
    }

    /// What the touchable rows hold: image features, or the output of the layer that [`LAYER`] says, `[rows, d]`.
    pub fn values(&self, input: &Subject, params: &Params) -> Result<Array> {
        if self.between {
            return Ok(input.trace.get(Tower::Text, 0, Site::Features)?.array.as_ref().clone());
        }
        let layer = params.one_layer(&LAYER, input.trace.tower(self.tower)?.n_layers)?;
        let e = input.trace.get(self.tower, layer, Site::ResidPost)?;
        let [_, d] = e.array.dims("residual stream")?;
        let values = self.rows.iter().flat_map(|&r| e.array.row(r).iter().copied()).collect();
        Array::new([self.rows.len(), d], values)
    }

    /// The stage of a cut after the layer that [`LAYER`] says. Errors if there is no such layer.
    fn stage(&self, input: &Subject, params: &Params) -> Result<Stage> {
        if self.between {
            return Ok(Stage::Features);
        }
        Ok(Stage::After(params.one_layer(&LAYER, input.trace.tower(self.tower)?.n_layers)?))
    }

    /// A plan that keeps the untouchable rows and, of the touchable ones, those listed by index into `rows`.
    pub fn keep(&self, input: &Subject, params: &Params, kept: &[usize], scores: Vec<f32>) -> Result<Plan> {
        self.merge(input, params, &kept.iter().map(|&i| vec![(i, 1.0)]).collect::<Vec<_>>(), scores)
    }

    /// A plan that keeps the untouchable rows and makes these groups of the touchable ones: (index, weight).
    pub fn merge(
        &self,
        input: &Subject,
        params: &Params,
        groups: &[Vec<(usize, f32)>],
        scores: Vec<f32>,
    ) -> Result<Plan> {
        let stage = self.stage(input, params)?;
        let mut touchable = vec![false; self.n_rows];
        self.rows.iter().for_each(|&r| touchable[r] = true);
        let mut all: Vec<Vec<(usize, f32)>> =
            (0..self.n_rows).filter(|&r| !touchable[r]).map(|r| vec![(r, 1.0)]).collect();
        all.extend(groups.iter().map(|g| g.iter().map(|&(i, w)| (self.rows[i], w)).collect()));
        // In the order of the first token, so that a causal model reads on from left to right.
        all.sort_by_key(|g| g.iter().map(|m| m.0).min());
        if all.is_empty() {
            return Err(Error::invalid("nothing would be left; keep at least one token"));
        }
        let mut by_row = vec![f32::NAN; self.n_rows];
        self.rows.iter().zip(&scores).for_each(|(&r, &s)| by_row[r] = s);
        let plan = Plan {
            tower: self.tower,
            n_rows: self.n_rows,
            cuts: vec![Cut { stage, regroup: Regroup::of(all) }],
            proportional_attention: false,
            scores: if scores.is_empty() { Vec::new() } else { by_row },
        };
        plan.outcome()?;
        Ok(plan)
    }

    /// Number of touchable rows kept at a share; an image keeps at least one.
    pub fn budget(&self, share: f64) -> usize {
        let n = self.rows.len();
        (super::select::round_half_even(share * n as f64) as usize).clamp(usize::from(self.between).min(n), n)
    }
}
