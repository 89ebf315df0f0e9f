//! A trace under the tensor names of `transformers`, so that Python users can compare.

use crate::Result;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::passes::attention_map;
use crate::trace::{Site, Tower, TowerTrace, Trace};
use std::sync::Arc;

/// A named tensor for a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Named {
    /// f32 values.
    Float(Arc<Array>),
    /// i64 values in one axis.
    Int(Vec<i64>),
    /// i64 values `[rows, columns]`, with the number of columns.
    Table(Vec<i64>, usize),
}

/// `hidden_states_i`, `attentions_i` `[h, n, n]`, `q_i`, `k_i`, `v_i`, `last_layer_output`, `logits`,
/// `router_logits_i` and `selected_experts_i` counted over layers with experts,
/// `input_ids`, `greedy_ids`, `greedy_logits` and the run's extras, without a batch axis.
///
/// What was not captured is left out. Errors: a map of a layer that does not fit the memory, cancelled.
pub fn to_transformers(trace: &Trace, ctx: &Ctx) -> Result<Vec<(String, Named)>> {
    let mut out = Vec::new();
    for (&tower, run) in &trace.towers {
        put_tower(trace, tower, run, &mut out, ctx)?;
    }
    if let Ok(e) = trace.get(Tower::Text, 0, Site::Features) {
        out.push(("image_features".into(), Named::Float(e.array.clone())));
    }
    for (name, array) in &trace.extras {
        out.push((name.clone(), Named::Float(Arc::new(array.clone()))));
    }
    if !trace.continuation.is_empty() {
        out.push(("greedy_ids".into(), Named::Int(trace.continuation.iter().map(|&i| i64::from(i)).collect())));
    }
    Ok(out)
}

/// The arrays of one tower.
///
/// Prefixes: none where a tower stands alone, and for the language model of a vision-language model. Models
/// that cut an image into tiles have the tile axis first.
/// Whether keys `[g, m, e]` end with a component for each key, of which they have their own, for what is added to
/// scores.
fn holds_additions(k: &Array) -> bool {
    let &[_, m, e] = k.shape() else { return false };
    let own = |row: usize| &k.data()[row * e + (e - m)..(row + 1) * e];
    m > 0 && e > m && (0..m).all(|row| own(row).iter().enumerate().all(|(i, x)| *x == f32::from(i == row)))
}

fn put_tower(trace: &Trace, tower: Tower, run: &TowerTrace, out: &mut Vec<(String, Named)>, ctx: &Ctx) -> Result<()> {
    let dual = ["CLIP", "Siglip"].iter().any(|a| trace.architecture.starts_with(a));
    let prefix = match (trace.towers.len(), tower) {
        (1, _) => "",
        (_, Tower::Text) if dual => "text_",
        (_, Tower::Text) => "",
        (_, Tower::Vision) => "vision_",
    };
    // Models that cut a picture into tiles have their axis even where there is one.
    let tiling = ["SmolVLM", "Idefics3", "LlavaNext", "LlavaOnevision", "InternVL"];
    let tiling = tiling.iter().any(|a| trace.architecture.starts_with(a));
    let tiled = tower == Tower::Vision && (run.n_tiles > 1 || tiling);
    let n = run.n_layers;
    let mut put = |name: String, site: Site, layer: usize| -> Result<()> {
        let tiles: Vec<Arc<Array>> = (0..if tiled { run.n_tiles } else { 1 })
            .map_while(|t| trace.get_tile(tower, t, layer, site).ok().map(|e| e.array.clone()))
            .collect();
        if let Some(a) = stack(tiles, tiled)? {
            out.push((format!("{prefix}{name}"), Named::Float(a)));
        }
        Ok(())
    };
    for i in 0..n {
        put(format!("hidden_states_{i}"), Site::ResidPre, i)?;
        // Where something is added to scores, queries and keys hold it behind what they are in transformers.
        if trace.get(tower, i, Site::K).is_ok_and(|e| !holds_additions(&e.array)) {
            put(format!("q_{i}"), Site::Q, i)?;
            put(format!("k_{i}"), Site::K, i)?;
        }
        put(format!("v_{i}"), Site::V, i)?;
    }
    // Encoders of images, and CLIP's of texts, give their last hidden state without the final norm.
    if tower == Tower::Vision || dual {
        put(format!("hidden_states_{n}"), Site::ResidPost, n.saturating_sub(1))?;
    } else {
        put(format!("hidden_states_{n}"), Site::Final, n)?;
    }
    put("last_layer_output".into(), Site::ResidPost, n.saturating_sub(1))?;
    let base = trace.architecture.ends_with("Model") && !trace.architecture.ends_with("LMHeadModel");
    if tower == Tower::Text && base && !trace.extras.contains_key("last_hidden_state") && !dual {
        put("last_hidden_state".into(), Site::Final, n)?;
    }
    if tower == Tower::Text {
        put("logits".into(), Site::Logits, n)?;
        if trace.architecture.ends_with("ForPreTraining") {
            put("prediction_logits".into(), Site::Logits, n)?;
        }
    } else if let Ok(e) = trace.get(tower, n, Site::Logits) {
        // A classifier has one row of logits, and transformers has no axis for it.
        let values = e.array.data().to_vec();
        out.push(("logits".into(), Named::Float(Arc::new(Array::new([values.len()], values)?))));
    }
    for i in 0..n {
        let mut maps = Vec::new();
        for tile in 0..if tiled { run.n_tiles } else { 1 } {
            if trace.get_tile(tower, tile, i, Site::Q).is_err() || trace.get_tile(tower, tile, i, Site::K).is_err() {
                break;
            }
            maps.push(Arc::new(attention_map::of_layer(trace, tower, tile, i, &ctx.part(i, n))?));
        }
        if let Some(a) = stack(maps, tiled)? {
            out.push((format!("{prefix}attentions_{i}"), Named::Float(a)));
        }
    }
    let mut routed = 0;
    for i in 0..n {
        let (Ok(router), Ok(chosen)) = (trace.get(tower, i, Site::Router), trace.get(tower, i, Site::Experts)) else {
            continue;
        };
        let columns = chosen.array.shape()[1];
        out.push((format!("{prefix}router_logits_{routed}"), Named::Float(router.array.clone())));
        let chosen = chosen.array.data().iter().map(|&e| e as i64).collect();
        out.push((format!("{prefix}selected_experts_{routed}"), Named::Table(chosen, columns)));
        routed += 1;
    }
    let ids: Vec<i64> = run.tokens.iter().filter_map(|t| t.id.map(i64::from)).collect();
    if tower == Tower::Text && !ids.is_empty() {
        out.push(("input_ids".into(), Named::Int(ids)));
    }
    Ok(())
}

/// Arrays of one shape along a new first axis, or the only one as it is; `None` if there are none or they differ.
fn stack(arrays: Vec<Arc<Array>>, axis: bool) -> Result<Option<Arc<Array>>> {
    let Some(first) = arrays.first() else { return Ok(None) };
    if !axis {
        return Ok(arrays.into_iter().next());
    }
    let shape: Vec<usize> = std::iter::once(arrays.len()).chain(first.shape().iter().copied()).collect();
    if arrays.iter().any(|a| a.shape() != &shape[1..]) {
        return Ok(None);
    }
    let mut data = Vec::with_capacity(shape.iter().product());
    arrays.iter().for_each(|a| data.extend_from_slice(a.data()));
    Ok(Some(Arc::new(Array::new(shape, data)?)))
}
