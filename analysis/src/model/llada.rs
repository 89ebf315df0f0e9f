//! LLaDA: a Llama block without causal mask that fills in masked tokens, named as its checkpoints name it.
//! Nie et al. 2025, arXiv 2502.09992.

use super::Model;
use super::blocks::{Activation, Attention, Block, Config, Linear, Mlp, Norm, Order, Part, Rope, Scope, Stack};
use super::decoder::{Decoder, End, Parts};
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::Device;

/// Loads a checkpoint. The logits of a row are about the token at that very row.
///
/// Errors: settings of the shared configuration class that no LLaDA uses (ALiBi, other norms or blocks).
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let other = |what: &str| Err(Error::invalid(format!("config.json: {what} is not supported for llada")));
    for (key, want) in [("block_type", "llama"), ("layer_norm_type", "rms")] {
        let has = c.word(&[key], want)?;
        if has != want {
            return other(&format!("{key} {has}"));
        }
    }
    if c.flag(&["alibi"], false)? || !c.flag(&["rope"], true)? {
        return other("a position encoding other than rope");
    }
    if c.flag(&["attention_layer_norm"], false)? || c.flag(&["input_emb_norm"], false)? {
        return other("a norm of queries, keys or embeddings");
    }
    let d = c.size(&["d_model", "hidden_size"])?;
    let h = c.size(&["n_heads", "num_attention_heads"])?;
    let g = c.size_opt(&["n_kv_heads", "num_key_value_heads"])?.unwrap_or(h);
    let n_layers = c.size(&["n_layers", "num_hidden_layers"])?;
    // The table may have more rows than the tokenizer has ids.
    let vocab = c.size(&["embedding_size", "vocab_size"])?;
    let inner = match c.size_opt(&["mlp_hidden_size"])? {
        Some(n) => n,
        None => d * c.size_opt(&["mlp_ratio"])?.unwrap_or(4),
    };
    let e = Config::split(d, h, "heads")?;
    Config::split(h, g, "groups of heads")?;
    let eps = c.eps(&["rms_norm_eps"], 1e-5)?;
    let act = Activation::parse(c.word(&["activation_type"], "silu")?)?;
    let bias = c.flag(&["include_bias"], false)?;
    let qkv_bias = c.flag(&["include_qkv_bias"], bias)?;
    let rope = Rope::load(&c, e, None, Part::Whole)?;
    let root = Scope::root(w, device);
    let s = root.first(&["model.transformer", "transformer"], "wte.weight");
    let mut blocks = Vec::new();
    for i in 0..n_layers {
        let b = s.sub(format!("blocks.{i}"));
        let rule = AttentionRule::new((h, g), e, MaskRule::Bidirectional);
        blocks.push(Block {
            norm1: Norm::rms(&b.sub("attn_norm"), d, eps)?,
            attention: Attention {
                rope: Some(rope.clone()),
                ..Attention::new(
                    [
                        Linear::load(&b.sub("q_proj"), d, h * e, qkv_bias)?,
                        Linear::load(&b.sub("k_proj"), d, g * e, qkv_bias)?,
                        Linear::load(&b.sub("v_proj"), d, g * e, qkv_bias)?,
                        Linear::load(&b.sub("attn_out"), h * e, d, bias)?,
                    ],
                    rule,
                    e,
                )
            },
            norm2: Norm::rms(&b.sub("ff_norm"), d, eps)?,
            mlp: Mlp {
                gate: Some(Linear::load(&b.sub("ff_proj"), d, inner, bias)?),
                up: Linear::load(&b.sub("up_proj"), d, inner, bias)?,
                down: Linear::load(&b.sub("ff_out"), inner, d, bias)?,
                act,
            }
            .into(),
            after1: None,
            after2: None,
        });
    }
    let mask = c.size_opt(&["mask_token_id"])?.and_then(|id| u32::try_from(id).ok());
    let embed = s.table("wte.weight", &[vocab, d])?;
    let tied = c.flag(&["weight_tying"], !s.has("ff_out.weight"))?;
    let head = if tied { embed.clone() } else { s.table("ff_out.weight", &[vocab, d])? };
    let parts = Parts {
        max: c.size_opt(&["max_sequence_length", "max_position_embeddings"])?,
        ..Parts::of(
            embed,
            Stack { blocks, order: Order::PreNorm, width: d },
            Norm::rms(&s.sub("ln_f"), d, eps)?,
            End::Head(Linear::from_table(&head, None)?),
        )
    };
    Ok(Box::new(Decoder::new(w, parts)?.that_fills_in(mask)))
}

#[cfg(test)]
mod tests {
    use crate::ctx::Ctx;
    use crate::model::{Input, Writes, from_weights};
    use crate::trace::NoTap;
    use crate::weights::Weights;
    use candle_core::{Device, Tensor};
    use serde_json::{Map, Value, json};

    /// A checkpoint with seeded values under the names of `shapes`.
    fn weights(config: Value, shapes: &[(&str, &[usize])]) -> Weights {
        let Value::Object(config) = config else { return Weights::from_tensors("", Map::new(), []).unwrap() };
        let tensors = shapes.iter().enumerate().map(|(k, (name, shape))| {
            let n: usize = shape.iter().product();
            let values: Vec<f32> = (0..n).map(|i| ((i * 37 + k * 101) % 97) as f32 / 97.0 - 0.45).collect();
            (name.to_string(), Tensor::from_vec(values, shape.to_vec(), &Device::Cpu).unwrap())
        });
        Weights::from_tensors("tiny", config, tensors.collect::<Vec<_>>()).unwrap()
    }

    const LLADA: [&str; 12] = [
        "model.transformer.wte.weight",
        "model.transformer.ln_f.weight",
        "model.transformer.ff_out.weight",
        "model.transformer.blocks.0.attn_norm.weight",
        "model.transformer.blocks.0.q_proj.weight",
        "model.transformer.blocks.0.k_proj.weight",
        "model.transformer.blocks.0.v_proj.weight",
        "model.transformer.blocks.0.attn_out.weight",
        "model.transformer.blocks.0.ff_norm.weight",
        "model.transformer.blocks.0.ff_proj.weight",
        "model.transformer.blocks.0.up_proj.weight",
        "model.transformer.blocks.0.ff_out.weight",
    ];
    const LLAMA: [&str; 12] = [
        "model.embed_tokens.weight",
        "model.norm.weight",
        "lm_head.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.self_attn.v_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.mlp.down_proj.weight",
    ];
    const SHAPES: [&[usize]; 12] =
        [&[9, 8], &[8], &[9, 8], &[8], &[8, 8], &[8, 8], &[8, 8], &[8, 8], &[8], &[12, 8], &[12, 8], &[8, 12]];

    fn logits(w: &Weights, mask: Option<Vec<Vec<usize>>>) -> Vec<Vec<f32>> {
        let model = from_weights(w, &Device::Cpu).unwrap();
        let mut input = Input { ids: vec![3, 1, 4, 1, 5], mask: mask.map(Into::into), ..Input::default() };
        let out = model.forward(&mut input, &mut NoTap, &Ctx::default()).unwrap();
        out.logits.unwrap().to_vec2().unwrap()
    }

    #[test]
    fn it_is_a_llama_that_sees_both_ways() {
        let llada = json!({"model_type": "llada", "d_model": 8, "n_heads": 2, "n_layers": 1, "mlp_hidden_size": 12,
            "vocab_size": 9, "embedding_size": 9, "weight_tying": false, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
            "block_type": "llama", "layer_norm_type": "rms", "rope": true});
        let llama = json!({"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1,
            "intermediate_size": 12, "vocab_size": 9, "tie_word_embeddings": false, "rms_norm_eps": 1e-5});
        let zip = |names: [&'static str; 12]| -> Vec<(&str, &[usize])> { names.into_iter().zip(SHAPES).collect() };
        let (a, b) = (weights(llada.clone(), &zip(LLADA)), weights(llama, &zip(LLAMA)));
        let all: Vec<Vec<usize>> = vec![(0..5).collect(); 5];
        assert_eq!(logits(&a, None), logits(&b, Some(all)));
        assert_ne!(logits(&a, None), logits(&b, None));
        assert_eq!(from_weights(&a, &Device::Cpu).unwrap().info().writes, Writes::Fills);

        let mut strange = llada;
        strange["alibi"] = json!(true);
        assert!(from_weights(&weights(strange, &zip(LLADA)), &Device::Cpu).is_err());
    }
}
