//! ToMe: merges the most similar pairs of an alternating split of the tokens.
//!
//! Source: Bolya et al. 2023, "Token Merging: Your ViT But Faster", arXiv 2210.09461.
//! Takes: a metric per token (keys, mean over heads) `[t, c]`. Gives: groups and sizes. Departs: none known.
//! Cost: O(t² · c) per layer.

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::reduce::matching::{bipartite_soft_matching, by_size};
use crate::reduce::place::{Half, Place, image_cut};
use crate::reduce::{Asked, Decide, Decision, Method, Seen, Table};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const R: Param =
    Param::count("r", "Tokens merged away per layer, or per step between encoder and language model", 0, 1024, 2);
const STEPS: Param = Param::count("steps", "Steps between encoder and language model", 1, 16, 1);
const PROPORTIONAL: Param = Param::toggle("proportional", "Attention counts a merged token by its size", true);

static INFO: Info = Info {
    id: "tome",
    title: "ToMe",
    summary: "Merges the most similar tokens of an alternating split into their size-weighted mean, layer by layer.",
    family: "inside the encoder",
    basis: Basis::Authors { repo: "facebookresearch/ToMe", commit: "af95e4b1be" },
    paper: Some(Paper {
        title: "Token Merging: Your ViT But Faster",
        authors: "Bolya et al.",
        year: 2023,
        arxiv: "2210.09461",
    }),
    departs: "register tokens are left alone like the class token; between encoder and language model the features \
              themselves are compared, for which the paper has no rule, and sizes do not weigh the attention",
    needs: &[Need::ImageTokens, Need::Attention],
    params: &[R, STEPS, PROPORTIONAL],
    budget: Some(&R),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct ToMe;

impl Method for ToMe {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let r = params.count(&R) as usize;
        let (stops, proportional) = match image_cut(on, &Params::new(), &INFO)? {
            // Each step on the features that the step before left.
            Place::Features => (vec![Place::Features; params.count(&STEPS) as usize], false),
            _ => {
                let layers = 0..on.tower()?.n_layers;
                let stops = layers.map(|l| Place::inside(on.tower, l, Half::Mid)).collect();
                (stops, params.toggle(&PROPORTIONAL))
            }
        };
        Ok(Box::new(Asked::at(stops, move |seen, ctx| decide(seen, r, ctx)).proportional(proportional)))
    }
}

/// Merges once, by the keys where there are such and else by the values, weighted by the tokens behind each row.
fn decide(seen: &dyn Seen, r: usize, ctx: &Ctx) -> Result<Decision> {
    if r == 0 {
        return Ok(Decision::stay());
    }
    let metric = seen.keys()?.map_or_else(|| seen.values(), Ok)?;
    let leading = seen.open().first().copied().unwrap_or(0);
    let groups = bipartite_soft_matching(&metric, r, leading, ctx)?;
    if groups.len() == seen.rows().len() {
        return Ok(Decision::stay());
    }
    Ok(by_size(seen, groups))
}

/// Raw entry: `x`, `metric`, `r`, `class_token`, `distill_token`, `steps`; from the second step on the merged features
/// are the metric.
const ADAPTER: Adapter = Adapter { name: "tome", run: raw };

/// Steps of the raw entry at most: more than any encoder has layers.
const MAX_STEPS: usize = 1000;

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, metric) = (input.array("x")?, input.array("metric")?);
    x.check_finite("x")?;
    metric.check_finite("metric")?;
    let [t, d] = x.dims("x")?;
    if metric.dims::<2>("metric")?[0] != t {
        return Err(Error::shape("metric", format!("[{t}, any]"), metric.shape()));
    }
    let r: usize = input.read("r")?;
    let leading = match (input.read_or("class_token", false)?, input.read_or("distill_token", false)?) {
        (false, true) => {
            return Err(Error::invalid("a distillation token stands after a class token; set class_token"));
        }
        (class, distill) => usize::from(class) + usize::from(distill),
    };
    let n_steps: usize = input.read_or("steps", 1)?;
    if n_steps > MAX_STEPS {
        return Err(Error::invalid(format!("steps is {n_steps}; at most {MAX_STEPS} are done")));
    }
    let nested = |a: &Array| -> Vec<Vec<f32>> { a.data().chunks(d.max(1)).map(<[f32]>::to_vec).collect() };
    let mut seen = Table::new(Place::Encoder(0, Half::Mid), t, leading.min(t)..t).with_values(x).with_keys(metric);
    let (mut steps, mut first) = (Vec::new(), Value::Null);
    for step in 0..n_steps {
        ctx.step(step, n_steps)?;
        let decision = decide(&seen, r, ctx)?;
        seen = seen.after(&decision)?;
        if step == 0 {
            first = json!(nested(&seen.values()?));
        }
        let rows = seen.rows();
        let size: Vec<f64> = (0..rows.len()).map(|r| rows.size(r) as f64).collect();
        steps.push(json!({ "tokens": rows.len(), "size": size, "groups": rows.tokens }));
    }
    Ok(json!({ "merged_after_step1": first, "steps": steps, "merged": nested(&seen.values()?) }))
}
