//! A trace under the tensor names of `transformers`, so that Python users can compare.

use super::{Site, Tower, Trace};
use crate::Result;
use crate::array::Array;
use crate::passes::attention_map;

/// A named tensor for a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Named {
    /// f32 values.
    Float(Array),
    /// i64 values in one axis.
    Int(Vec<i64>),
}

/// `hidden_states_i`, `attentions_i` `[h, n, n]`, `q_i`, `k_i`, `v_i`, `last_layer_output`, `logits`,
/// `input_ids`, `greedy_ids`, `greedy_logits` and the run's extras, without a batch axis.
///
/// What was not captured is left out.
pub fn to_transformers(trace: &Trace) -> Result<Vec<(String, Named)>> {
    let mut out = Vec::new();
    for (&tower, run) in &trace.towers {
        // Two towers need a prefix each; one stands alone.
        let prefix = match (trace.towers.len(), tower) {
            (1, _) => "",
            (_, Tower::Text) => "text_",
            (_, Tower::Vision) => "vision_",
        };
        let n = run.n_layers;
        let mut put = |name: String, site: Site, layer: usize| {
            if let Ok(e) = trace.get(tower, layer, site) {
                out.push((format!("{prefix}{name}"), Named::Float(e.array.as_ref().clone())));
            }
        };
        for i in 0..n {
            put(format!("hidden_states_{i}"), Site::ResidPre, i);
            put(format!("q_{i}"), Site::Q, i);
            put(format!("k_{i}"), Site::K, i);
            put(format!("v_{i}"), Site::V, i);
        }
        put(format!("hidden_states_{n}"), Site::Final, n);
        put("last_layer_output".into(), Site::ResidPost, n.saturating_sub(1));
        put("logits".into(), Site::Logits, n);
        for i in 0..n {
            if trace.get(tower, i, Site::Q).is_err() || trace.get(tower, i, Site::K).is_err() {
                continue;
            }
            let heads = run.attention[i].n_heads;
            let mut data = Vec::new();
            let mut shape = vec![heads];
            for head in 0..heads {
                let map = attention_map::of_trace(trace, tower, 0, i, head)?;
                shape.truncate(1);
                shape.extend_from_slice(map.shape());
                data.extend(map.into_data());
            }
            out.push((format!("{prefix}attentions_{i}"), Named::Float(Array::new(shape, data)?)));
        }
        let ids: Vec<i64> = run.tokens.iter().filter_map(|t| t.id.map(i64::from)).collect();
        if tower == Tower::Text && !ids.is_empty() {
            out.push(("input_ids".into(), Named::Int(ids)));
        }
    }
    for (name, array) in &trace.extras {
        out.push((name.clone(), Named::Float(array.clone())));
    }
    if !trace.continuation.is_empty() {
        out.push(("greedy_ids".into(), Named::Int(trace.continuation.iter().map(|&i| i64::from(i)).collect())));
    }
    Ok(out)
}
