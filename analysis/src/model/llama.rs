//! Llama, Mistral and Mixtral, Qwen2 and Qwen3 with their mixtures of experts, Phi-3, OLMo 2, OLMoE and Granite: rotary positions, RMS norm, gated MLP, grouped keys; the differences are fields.
//! Touvron et al. 2023, arXiv 2302.13971; Jiang et al. 2023, arXiv 2310.06825; Qwen 2024, arXiv 2407.10671; 2025, arXiv 2505.09388;
//! Abdin et al. 2024, arXiv 2404.14219; OLMo Team 2024, arXiv 2501.00656; Muennighoff et al. 2024, arXiv 2409.02060; Granite Team 2024,
//! <https://github.com/ibm-granite/granite-3.0-language-models>.

use super::blocks::{
    Activation, Attention, Block, Config, Defaults, FeedForward, Linear, Mlp, Norm, Order, Part, Rope, Scope, Stack,
};
use super::decoder::{Decoder, End, Parts};
use super::{Model, moe};
use crate::trace::{AttentionRule, MaskRule};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

const LLAMA: Defaults = &[
    ("vocab_size", 32000.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 11008.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("max_position_embeddings", 2048.0),
];
const MISTRAL: Defaults = &[
    ("vocab_size", 32000.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 14336.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("num_key_value_heads", 8.0),
    ("max_position_embeddings", 131_072.0),
    ("sliding_window", 4096.0),
];
const QWEN2: Defaults = &[
    ("vocab_size", 151_936.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 22016.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("num_key_value_heads", 32.0),
    ("max_position_embeddings", 32768.0),
    ("sliding_window", 4096.0),
];
const QWEN3: Defaults = &[
    ("vocab_size", 151_936.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 22016.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("num_key_value_heads", 32.0),
    ("head_dim", 128.0),
    ("max_position_embeddings", 32768.0),
    ("sliding_window", 4096.0),
];

const PHI3: Defaults = &[
    ("vocab_size", 32064.0),
    ("hidden_size", 3072.0),
    ("intermediate_size", 8192.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("max_position_embeddings", 4096.0),
    ("original_max_position_embeddings", 4096.0),
    ("rms_norm_eps", 1e-5),
];

/// The text models of Qwen2-VL and Qwen2.5-VL.
const QWEN2_VL: Defaults = &[
    ("vocab_size", 152_064.0),
    ("hidden_size", 8192.0),
    ("intermediate_size", 29568.0),
    ("num_hidden_layers", 80.0),
    ("num_attention_heads", 64.0),
    ("num_key_value_heads", 8.0),
    ("max_position_embeddings", 32768.0),
    ("sliding_window", 4096.0),
    ("max_window_layers", 80.0),
    ("rms_norm_eps", 1e-5),
    ("rope_theta", 1e6),
];
/// The text model of Qwen3-VL.
const QWEN3_VL: Defaults = &[
    ("vocab_size", 151_936.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 22016.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("num_key_value_heads", 32.0),
    ("head_dim", 128.0),
    ("max_position_embeddings", 128_000.0),
    ("mrope_interleaved", 1.0),
    ("rope_theta", 5e6),
];
const OLMO2: Defaults = &[
    ("vocab_size", 50304.0),
    ("hidden_size", 4096.0),
    ("intermediate_size", 11008.0),
    ("num_hidden_layers", 32.0),
    ("num_attention_heads", 32.0),
    ("max_position_embeddings", 2048.0),
    ("rms_norm_eps", 1e-5),
];

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let root = Scope::root(w, device);
    Ok(Box::new(decoder(w, &c, &root, ("model", "lm_head"), false)?))
}

/// The language model below `base`, with its head at `head`; also the text half of vision-language models.
/// `tied` says that the token table serves as head, whatever the configuration of the text says.
pub(super) fn decoder(
    w: &Weights,
    c: &Config,
    root: &Scope,
    (base, head): (&str, &str),
    tied: bool,
) -> Result<Decoder> {
    let kind = match c.word(&["model_type"], "llama")? {
        "qwen2_vl_text" | "qwen2_5_vl" | "qwen2_5_vl_text" => "qwen2_vl",
        "qwen3_vl_text" => "qwen3_vl",
        "qwen3_vl_moe_text" => "qwen3_vl_moe",
        kind => kind,
    };
    let c = &c.with(match kind {
        "llama" | "granite" => LLAMA,
        "qwen2_vl" => QWEN2_VL,
        "qwen3_vl" => QWEN3_VL,
        "olmo2" => OLMO2,
        "olmoe" => moe::OLMOE,
        "mixtral" => moe::MIXTRAL,
        "qwen2_moe" => moe::QWEN2,
        "qwen3_moe" | "qwen3_vl_moe" => moe::QWEN3,
        "mistral" => MISTRAL,
        "qwen2" => QWEN2,
        "qwen3" => QWEN3,
        "phi3" => PHI3,
        other => return Err(Error::invalid(format!("config.json: language model {other} is not supported"))),
    });
    let d = c.size(&["hidden_size"])?;
    let h = c.size(&["num_attention_heads"])?;
    let g = c.size_opt(&["num_key_value_heads"])?.unwrap_or(h);
    let n_layers = c.size(&["num_hidden_layers"])?;
    let vocab = c.size(&["vocab_size"])?;
    let inner = c.size(&["intermediate_size"])?;
    let e = match c.size_opt(&["head_dim"])? {
        Some(e) => e,
        None => Config::split(d, h, "heads")?,
    };
    Config::split(h, g, "groups of heads")?;
    let eps = c.eps(&["rms_norm_eps"], 1e-6)?;
    let act = Activation::parse(c.word(&["hidden_act"], "silu")?)?;
    // Llama's files for answers call the model otherwise.
    let s = root.first(&[base, if base == "model" { "transformer" } else { "" }, ""], "embed_tokens.weight");
    // Qwen2 has biases on q, k and v whatever its configuration says, Mistral none; elsewhere a flag says so. GGUF
    // files may have them on some maps only.
    let qwen3 = matches!(kind, "qwen3" | "qwen3_moe" | "qwen3_vl" | "qwen3_vl_moe");
    let flagged =
        (qwen3 || matches!(kind, "llama" | "olmo2" | "olmoe" | "granite")) && c.flag(&["attention_bias"], false)?;
    let qkv_bias = match kind {
        "qwen2" | "qwen2_vl" => true,
        "qwen2_moe" => c.flag(&["qkv_bias"], true)?,
        _ => flagged,
    };
    let o_bias = c.flag(&["attention_output_bias"], flagged)?;
    let mlp_bias = matches!(kind, "llama" | "granite") && c.flag(&["mlp_bias"], false)?;
    if kind == "olmoe" && c.value(&["clip_qkv"]).is_some() {
        return Err(Error::invalid("config.json: clip_qkv behind the norms of OLMoE is not supported"));
    }
    let granite = Granite::read(c, kind == "granite")?;
    // Of these families only Phi-3 leaves a part of the heads as it is, whatever a file says.
    let rope = Rope::load(c, e, None, if kind == "phi3" { Part::Of(1.0) } else { Part::Whole })?;
    let mut blocks = Vec::new();
    for i in 0..n_layers {
        let b = s.sub(format!("layers.{i}"));
        let a = b.sub("self_attn");
        let m = b.sub("mlp");
        // OLMo 2 and OLMoE normalise all heads together.
        let together = matches!(kind, "olmo2" | "olmoe");
        let heads = |n: usize| if together { n * e } else { e };
        let norm = |name: &str, n: usize| -> Result<Option<Norm>> {
            a.has(&format!("{name}.weight")).then(|| Norm::rms(&a.sub(name), heads(n), eps)).transpose()
        };
        let (q_norm, k_norm) = (norm("q_norm", h)?, norm("k_norm", g)?);
        if (qwen3 || together) && (q_norm.is_none() || k_norm.is_none()) {
            return Err(Error::Weight {
                name: format!("layers.{i}.self_attn.q_norm.weight"),
                what: "missing; this family needs it".into(),
            });
        }
        let rule = AttentionRule {
            n_heads: h,
            n_kv_heads: g,
            scale: granite.scale.unwrap_or((e as f32).powf(-0.5)),
            mask: mask(c, kind, i)?,
            soft_cap: None,
            sinks: None,
        };
        // Phi-3 stores the maps that read the same input as one.
        let (q, k, v) = if kind == "phi3" {
            let all = Linear::load(&a.sub("qkv_proj"), d, (h + 2 * g) * e, false)?;
            (all.slice(0, h * e)?, all.slice(h * e, g * e)?, all.slice((h + g) * e, g * e)?)
        } else {
            let load = |name: &str, heads: usize| Linear::load(&a.sub(name), d, heads * e, qkv_bias);
            (load("q_proj", h)?, load("k_proj", g)?, load("v_proj", g)?)
        };
        let mlp = match moe::experts(c, kind, &b, i, (d, act))? {
            Some(experts) => FeedForward::Experts(experts),
            None => {
                let (gate, up) = if kind == "phi3" {
                    let both = Linear::load(&m.sub("gate_up_proj"), d, 2 * inner, false)?;
                    (both.slice(0, inner)?, both.slice(inner, inner)?)
                } else {
                    let load = |name: &str| Linear::load(&m.sub(name), d, inner, mlp_bias);
                    (load("gate_proj")?, load("up_proj")?)
                };
                let down = granite.adds(Linear::load(&m.sub("down_proj"), inner, d, mlp_bias)?)?;
                Mlp { gate: Some(gate), up, down, act }.into()
            }
        };
        let [norm1, norm2] = match kind {
            "olmo2" => ["post_attention_layernorm", "post_feedforward_layernorm"],
            _ => ["input_layernorm", "post_attention_layernorm"],
        };
        blocks.push(Block {
            norm1: Norm::rms(&b.sub(norm1), d, eps)?,
            attention: Attention {
                q_norm,
                k_norm,
                rope: Some(rope.clone()),
                ..Attention::new([q, k, v, granite.adds(Linear::load(&a.sub("o_proj"), h * e, d, o_bias)?)?], rule, e)
            },
            norm2: Norm::rms(&b.sub(norm2), d, eps)?,
            mlp,
            after1: None,
            after2: None,
        });
    }
    let embed = s.table("embed_tokens.weight", &[vocab, d])?;
    // Beside a picture, either of the two configurations may say it.
    let tied = tied || c.flag(&["tie_word_embeddings"], false)?;
    let end = End::load(c, root, &root.first(&[head, "lm_head"], "weight"), &embed, tied)?;
    // A model around it has a head of its own, whose logits nothing divides.
    let alone = Config::new(w.config()).sub("text_config").is_none();
    let end = match end {
        End::Head(head) if alone => End::Head(granite.logits(head)?),
        other => other,
    };
    let order = if kind == "olmo2" { Order::OfParts } else { Order::PreNorm };
    let parts = Parts {
        embed_factor: granite.embed,
        max: c.size_opt(&["max_position_embeddings"])?,
        ..Parts::of(embed, Stack { blocks, order, width: d }, Norm::rms(&s.sub("norm"), d, eps)?, end)
    };
    Ok(Decoder::new(w, parts)?.that_scales_features(granite.embed))
}

/// Factors of Granite; nothing for the others.
struct Granite {
    embed: Option<f64>,
    /// On the dot products, in the place of the root of the head's width.
    scale: Option<f32>,
    /// On what each part adds to the stream.
    adds: Option<f32>,
    /// What logits are divided by.
    logits: Option<f32>,
}

impl Granite {
    fn read(c: &Config, granite: bool) -> Result<Self> {
        let number = |key: &str| -> Result<Option<f64>> {
            Ok(if granite { Some(c.number(&[key], 1.0)?).filter(|v| *v != 1.0) } else { None })
        };
        if granite && c.number(&["logits_scaling"], 1.0)? == 0.0 {
            return Err(Error::invalid("config.json: logits_scaling is 0"));
        }
        Ok(Self {
            embed: number("embedding_multiplier")?,
            scale: if granite { Some(c.number(&["attention_multiplier"], 1.0)? as f32) } else { None },
            adds: number("residual_multiplier")?.map(|v| v as f32),
            logits: number("logits_scaling")?.map(|v| v as f32),
        })
    }

    /// A map whose result joins the stream.
    fn adds(&self, map: Linear) -> Result<Linear> {
        times(map, self.adds)
    }

    /// The map to the logits.
    fn logits(&self, head: Linear) -> Result<Linear> {
        times(head, self.logits.map(|by| 1.0 / by))
    }
}

fn times(map: Linear, by: Option<f32>) -> Result<Linear> {
    match by {
        Some(by) => map.scaled(&Tensor::full(by, map.outputs()?, map.device())?),
        None => Ok(map),
    }
}

/// Mistral, Mixtral, Phi-3 and Qwen3-MoE slide on every layer; Qwen otherwise only where `use_sliding_window` says so, by layer.
fn mask(c: &Config, kind: &str, layer: usize) -> Result<MaskRule> {
    let qwen = matches!(kind, "qwen2" | "qwen3" | "qwen2_vl" | "qwen2_moe");
    let always = matches!(kind, "mistral" | "mixtral" | "phi3" | "qwen3_moe");
    let window = match kind {
        "qwen3_moe" if !c.flag(&["use_sliding_window"], false)? => None,
        _ if always => c.size_opt(&["sliding_window"])?,
        _ if qwen && c.flag(&["use_sliding_window"], false)? => c.size_opt(&["sliding_window"])?,
        _ => None,
    };
    let slides = match c.value(&["layer_types"]).filter(|_| qwen) {
        Some(types) => match types.get(layer).and_then(|t| t.as_str()) {
            Some("full_attention") => false,
            Some("sliding_attention") if window.is_some() => true,
            other => {
                let e = format!("config.json: the type {other:?} of layer {layer} is not usable here");
                return Err(Error::invalid(e));
            }
        },
        None => {
            always
                || layer >= c.count(&["max_window_layers"], c.default("max_window_layers").unwrap_or(28.0) as usize)?
        }
    };
    Ok(match window {
        Some(w) if slides => MaskRule::SlidingWindow(w),
        _ => MaskRule::Causal,
    })
}
