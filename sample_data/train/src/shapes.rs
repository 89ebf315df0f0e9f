//! Sizes of the sample models: `config.json` in the field's own words, and the variables that go with it.

use crate::params::{Spec, Start};
use crate::words::{BEGIN, IMAGE, MASK};
use serde_json::{Map, Value, json};

/// A Llama-shaped language model.
#[derive(Debug, Clone, Copy)]
pub struct Llama {
    /// Residual stream.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// MLP.
    pub inner: usize,
    /// Longest text in tokens.
    pub context: usize,
    /// Whether attention has biases and starts as a look-up: the first layer's heads look one or two tokens
    /// back, all heads look at what is like the query and pass on what they look at. Chance alone takes many times
    /// as long to find that.
    pub look: bool,
}

/// A CLIP-style image tower.
#[derive(Debug, Clone, Copy)]
pub struct Clip {
    /// Residual stream.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Heads.
    pub heads: usize,
    /// MLP.
    pub inner: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Side of the image in pixels.
    pub side: usize,
}

/// First deviation of embeddings.
const EMBED: f64 = 0.05;
/// Length of the first biases that make a head look some tokens back, per pair of values that turn together.
const BACK: f64 = 5.0;
const THETA: f64 = 10_000.0;
const EPS: f64 = 1e-5;

/// A JSON object as a map.
pub fn object(v: Value) -> Map<String, Value> {
    match v {
        Value::Object(m) => m,
        _ => Map::new(),
    }
}

impl Llama {
    /// `config.json`.
    pub fn config(&self, vocab: usize) -> Map<String, Value> {
        object(json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float16",
            "vocab_size": vocab, "hidden_size": self.width, "intermediate_size": self.inner,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "head_dim": self.width / self.heads, "hidden_act": "silu",
            "rms_norm_eps": EPS, "rope_theta": THETA, "max_position_embeddings": self.context,
            "attention_bias": self.look, "mlp_bias": false, "tie_word_embeddings": true,
            "bos_token_id": BEGIN, "eos_token_id": BEGIN,
        }))
    }

    /// Its variables below `prefix` (`model.`); the head is the embedding.
    pub fn specs(&self, prefix: &str, vocab: usize) -> Vec<Spec> {
        let (d, e) = (self.width, self.width / self.heads);
        let (q, kv) = (self.heads * e, self.kv_heads * e);
        // What is added to the residual stream starts small, so that depth does not add up.
        let small = 0.7 / (2.0 * self.layers as f64).sqrt();
        let ones = |name: String| Spec::new(name + ".weight", &[d], Start::Value(1.0));
        let embed = Start::Normal(if self.look { 2.0 * EMBED } else { EMBED });
        let mut out = vec![Spec::new(format!("{prefix}embed_tokens.weight"), &[vocab, d], embed)];
        for i in 0..self.layers {
            let l = format!("{prefix}layers.{i}.");
            let linear = |name: &str, a, b, gain| Spec::linear(format!("{l}{name}"), a, b, gain);
            out.push(ones(format!("{l}input_layernorm")));
            if self.look {
                out.extend(self.look_up(&l, i == 0));
            } else {
                out.push(linear("self_attn.q_proj", d, q, 0.9));
                out.push(linear("self_attn.k_proj", d, kv, 0.9));
                out.push(linear("self_attn.v_proj", d, kv, 0.7));
                out.push(linear("self_attn.o_proj", q, d, small));
            }
            out.push(ones(format!("{l}post_attention_layernorm")));
            out.push(linear("mlp.gate_proj", d, self.inner, 0.7));
            out.push(linear("mlp.up_proj", d, self.inner, 0.7));
            out.push(linear("mlp.down_proj", self.inner, d, small));
        }
        out.push(ones(format!("{prefix}norm")));
        out
    }

    /// Attention that starts as a look-up, after Trockman and Kolter 2023, arXiv 2305.09828: queries as keys, what is
    /// put out as what is read in. Every head has keys of its own.
    fn look_up(&self, l: &str, first: bool) -> Vec<Spec> {
        let (d, e) = (self.width, self.width / self.heads);
        let n = self.heads * e;
        let name = |part: &str| format!("{l}self_attn.{part}");
        // In the first layer positions count and not tokens.
        let key = Spec::linear(name("k_proj"), d, n, if first { 0.18 } else { 0.9 });
        let value = Spec::linear(name("v_proj"), d, n, 0.7);
        let mut out = vec![
            Spec::new(name("q_proj.weight"), &[n, d], Start::As(key.name.clone())),
            Spec::new(name("o_proj.weight"), &[d, n], Start::Turned(value.name.clone(), 1.5)),
            key,
            value,
        ];
        let (mut q, mut k) = (vec![0f32; n], vec![0f32; n]);
        for head in 0..self.heads {
            // The fastest turning pairs tell neighbours apart; a query turned back by as many tokens meets its key.
            for pair in 0..4.min(e / 2) {
                let angle = -((head % 2 + 1) as f64) * THETA.powf(-2.0 * pair as f64 / e as f64);
                k[head * e + pair] = BACK as f32;
                q[head * e + pair] = (BACK * angle.cos()) as f32;
                q[head * e + pair + e / 2] = (BACK * angle.sin()) as f32;
            }
        }
        for (part, values) in [("q", q), ("k", k)] {
            let start = if first { Start::These(values) } else { Start::Normal(0.5) };
            out.push(Spec::new(name(&format!("{part}_proj.bias")), &[n], start));
        }
        out.push(Spec::new(name("v_proj.bias"), &[n], Start::Value(0.0)));
        out.push(Spec::new(name("o_proj.bias"), &[d], Start::Value(0.0)));
        out
    }

    /// `config.json` of the same shape as LLaDA: no mask, and a token that stands for what is to be found.
    pub fn llada_config(&self, vocab: usize) -> Map<String, Value> {
        object(json!({
            "architectures": ["LLaDAModelLM"], "model_type": "llada", "torch_dtype": "float16",
            "vocab_size": vocab, "embedding_size": vocab, "d_model": self.width, "n_layers": self.layers,
            "n_heads": self.heads, "n_kv_heads": self.kv_heads, "mlp_hidden_size": self.inner,
            "max_sequence_length": self.context, "rope": true, "rope_theta": THETA, "rms_norm_eps": EPS,
            "layer_norm_type": "rms", "activation_type": "silu", "block_type": "llama", "include_bias": false,
            "include_qkv_bias": false, "weight_tying": true, "mask_token_id": MASK, "eos_token_id": BEGIN,
        }))
    }

    /// LLaDA's names for the same variables.
    pub fn llada_specs(&self, vocab: usize) -> Vec<Spec> {
        const NAMES: [(&str, &str); 9] = [
            ("input_layernorm", "attn_norm"),
            ("self_attn.q_proj", "q_proj"),
            ("self_attn.k_proj", "k_proj"),
            ("self_attn.v_proj", "v_proj"),
            ("self_attn.o_proj", "attn_out"),
            ("post_attention_layernorm", "ff_norm"),
            ("mlp.gate_proj", "ff_proj"),
            ("mlp.up_proj", "up_proj"),
            ("mlp.down_proj", "ff_out"),
        ];
        let rename = |name: &str| {
            let (a, b) = ("model.transformer.wte.weight", "model.transformer.ln_f.weight");
            match name {
                "embed_tokens.weight" => a.to_string(),
                "norm.weight" => b.to_string(),
                other => {
                    let other = other.replace("layers.", "model.transformer.blocks.");
                    NAMES.iter().fold(other, |n, (from, to)| n.replace(from, to))
                }
            }
        };
        self.specs("", vocab).into_iter().map(|s| Spec { name: rename(&s.name), ..s }).collect()
    }
}

impl Clip {
    /// Patches.
    pub fn n_patches(&self) -> usize {
        (self.side / self.patch).pow(2)
    }

    /// `config.json` of the tower alone, also `vision_config` of a vision-language model.
    pub fn config(&self) -> Map<String, Value> {
        object(json!({
            "architectures": ["CLIPVisionModel"], "model_type": "clip_vision_model", "torch_dtype": "float16",
            "hidden_size": self.width, "intermediate_size": self.inner, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "image_size": self.side, "patch_size": self.patch, "num_channels": 3,
            "hidden_act": "quick_gelu", "layer_norm_eps": EPS, "projection_dim": self.width,
        }))
    }

    /// Its variables below `prefix` (`vision_model.`).
    pub fn specs(&self, prefix: &str) -> Vec<Spec> {
        let (d, pixels) = (self.width, 3 * self.patch * self.patch);
        let small = 0.7 / (2.0 * self.layers as f64).sqrt();
        let mut out = Vec::new();
        let norm = |name: String, out: &mut Vec<Spec>| {
            out.push(Spec::new(format!("{name}.weight"), &[d], Start::Value(1.0)));
            out.push(Spec::new(format!("{name}.bias"), &[d], Start::Value(0.0)));
        };
        let linear = |name: String, a: usize, b: usize, gain: f64, out: &mut Vec<Spec>| {
            out.push(Spec::linear(name.clone(), a, b, gain));
            out.push(Spec::new(name + ".bias", &[b], Start::Value(0.0)));
        };
        let em = format!("{prefix}embeddings.");
        out.push(Spec::new(format!("{em}class_embedding"), &[d], Start::Normal(EMBED)));
        let deviation = 1.0 / (pixels as f64).sqrt();
        let kernel = [d, 3, self.patch, self.patch];
        out.push(Spec::new(format!("{em}patch_embedding.weight"), &kernel, Start::Normal(deviation)));
        let places = [self.n_patches() + 1, d];
        out.push(Spec::new(format!("{em}position_embedding.weight"), &places, Start::Normal(0.3)));
        norm(format!("{prefix}pre_layrnorm"), &mut out);
        for i in 0..self.layers {
            let l = format!("{prefix}encoder.layers.{i}.");
            norm(format!("{l}layer_norm1"), &mut out);
            linear(format!("{l}self_attn.q_proj"), d, d, 0.9, &mut out);
            linear(format!("{l}self_attn.k_proj"), d, d, 0.9, &mut out);
            linear(format!("{l}self_attn.v_proj"), d, d, 0.7, &mut out);
            linear(format!("{l}self_attn.out_proj"), d, d, small, &mut out);
            norm(format!("{l}layer_norm2"), &mut out);
            linear(format!("{l}mlp.fc1"), d, self.inner, 0.9, &mut out);
            linear(format!("{l}mlp.fc2"), self.inner, d, small, &mut out);
        }
        norm(format!("{prefix}post_layernorm"), &mut out);
        out
    }
}

/// `config.json` of a LLaVA whose projector reads the last layer of the tower.
pub fn llava_config(clip: &Clip, llama: &Llama, vocab: usize) -> Map<String, Value> {
    object(json!({
        "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "torch_dtype": "float16",
        "image_token_index": IMAGE, "image_seq_length": clip.n_patches(), "projector_hidden_act": "gelu",
        "multimodal_projector_bias": true, "vision_feature_layer": -1, "vision_feature_select_strategy": "default",
        "tie_word_embeddings": true, "bos_token_id": BEGIN, "eos_token_id": BEGIN,
        "vision_config": clip.config(), "text_config": llama.config(vocab),
    }))
}

/// Prefix of the tower in a LLaVA.
pub const TOWER: &str = "vision_tower.vision_model.";

/// The variables of a LLaVA.
pub fn llava_specs(clip: &Clip, llama: &Llama, vocab: usize) -> Vec<Spec> {
    let mut out = clip.specs(TOWER);
    let p = "multi_modal_projector.linear_";
    for (i, input) in [(1, clip.width), (2, llama.width)] {
        out.push(Spec::linear(format!("{p}{i}"), input, llama.width, 0.8));
        out.push(Spec::new(format!("{p}{i}.bias"), &[llama.width], Start::Value(0.0)));
    }
    out.extend(llama.specs("language_model.model.", vocab));
    out
}
