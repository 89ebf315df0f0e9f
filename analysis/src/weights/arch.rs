//! Architectures of GGUF files: what their metadata and tensors are called in Hugging Face's configurations and
//! checkpoints, and what llama.cpp's converter did to the values. An architecture is a line of [`ARCHS`].

use super::gguf::{Header, Meta};
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;

/// How the values of a tensor were changed on their way into the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Change {
    /// Not at all.
    #[default]
    None,
    /// The halves of each of so many heads were interleaved.
    Interleaved(usize),
    /// 1 was added.
    PlusOne,
    /// Rows and columns were exchanged.
    Turned,
    /// Queries, keys and values of each of so many heads in turn became all queries, all keys, all values.
    ByKind(usize),
    /// An axis of length 1 in this place was left out.
    Without(usize),
    /// A vector was cut into rows.
    Cut,
    /// Logarithms `x` became `-exp(x)`, and where they were a vector, this became a column.
    Fade {
        /// Whether they were a vector.
        vector: bool,
    },
}

/// Names in the file and what Hugging Face calls them.
type Names = &'static [(&'static str, &'static str)];

/// An architecture of llama.cpp.
struct Arch {
    /// `general.architecture`.
    name: &'static str,
    /// `model_type` and class of the configuration that it comes from.
    kind: &'static str,
    class: &'static str,
    /// Tensors outside of layers, without their ends.
    whole: Names,
    /// What stands before the number of a layer.
    layers: &'static str,
    /// Tensors of a layer, without their ends.
    parts: &'static [Names],
    /// What the converter changes of the tensor `part` (of a layer, or whole) that ends in `end`.
    change: fn(&Header, part: &str, end: &str) -> Change,
    /// What the configuration says beside what is common to all.
    more: fn(&Read, &mut Map<String, Value>) -> Result<()>,
}

const WHOLE: Names = &[("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];
const MAPS: Names = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];
const LLAMA: &[Names] = &[MAPS, BEHIND];
const BEHIND: Names = &[("ffn_norm", "post_attention_layernorm")];
/// Where a stacked tensor has a number for each of its experts.
pub(crate) const EACH: &str = ".*.";
/// Mixtral's, which llama.cpp takes for a Llama.
const MIXTRAL: &[Names] = &[
    &[
        ("ffn_gate_inp", "block_sparse_moe.gate"),
        ("ffn_gate_exps", "block_sparse_moe.experts.*.w1"),
        ("ffn_up_exps", "block_sparse_moe.experts.*.w3"),
        ("ffn_down_exps", "block_sparse_moe.experts.*.w2"),
    ],
    MAPS,
    BEHIND,
];
const QWEN_EXPERTS: &[Names] = &[
    &[
        ("ffn_gate_inp", "mlp.gate"),
        ("ffn_gate_exps", "mlp.experts.*.gate_proj"),
        ("ffn_up_exps", "mlp.experts.*.up_proj"),
        ("ffn_down_exps", "mlp.experts.*.down_proj"),
        (SHARE, "mlp.shared_expert_gate"),
        ("ffn_gate_shexp", "mlp.shared_expert.gate_proj"),
        ("ffn_up_shexp", "mlp.shared_expert.up_proj"),
        ("ffn_down_shexp", "mlp.shared_expert.down_proj"),
    ],
    MAPS,
    BEHIND,
];
/// The map to the share of the expert that reads every row: of its one row the file keeps a vector.
const SHARE: &str = "ffn_gate_inp_shexp";
/// From the second Gemma on there are norms behind the parts, too.
const GEMMA2: &[Names] = &[
    MAPS,
    &[
        ("post_attention_norm", "post_attention_layernorm"),
        ("ffn_norm", "pre_feedforward_layernorm"),
        ("post_ffw_norm", "post_feedforward_layernorm"),
    ],
];
const PHI3: &[Names] = &[&[
    ("attn_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("attn_qkv", "self_attn.qkv_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_up", "mlp.gate_up_proj"),
    ("ffn_down", "mlp.down_proj"),
]];
/// Parts of a layer whose norms stand behind them.
const BEHIND_PARTS: Names =
    &[("post_attention_norm", "post_attention_layernorm"), ("post_ffw_norm", "post_feedforward_layernorm")];
const OLMO2: &[Names] = &[MAPS, BEHIND_PARTS];
const STARCODER2: &[Names] = &[&[("ffn_up", "mlp.c_fc"), ("ffn_down", "mlp.c_proj")], MAPS, BEHIND];
const NEOX_WHOLE: Names =
    &[("token_embd", "gpt_neox.embed_in"), ("output_norm", "gpt_neox.final_layer_norm"), ("output", "embed_out")];
const NEOX: &[Names] = &[&[
    ("attn_norm", "input_layernorm"),
    ("attn_qkv", "attention.query_key_value"),
    ("attn_output", "attention.dense"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_up", "mlp.dense_h_to_4h"),
    ("ffn_down", "mlp.dense_4h_to_h"),
]];
const PHI2_WHOLE: Names =
    &[("token_embd", "model.embed_tokens"), ("output_norm", "model.final_layernorm"), ("output", "lm_head")];
const PHI2: &[Names] = &[&[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    // Old files have the three as one.
    ("attn_qkv", "self_attn.q_proj|self_attn.k_proj|self_attn.v_proj"),
    ("attn_output", "self_attn.dense"),
    ("ffn_up", "mlp.fc1"),
    ("ffn_down", "mlp.fc2"),
]];
/// Between the names of tensors of equal size that a file has as one.
pub(crate) const JOINED: char = '|';
const GPT_OSS: &[Names] = &[
    &[
        ("post_attention_norm", "post_attention_layernorm"),
        ("attn_sinks.weight", "self_attn.sinks"),
        ("ffn_gate_inp", "mlp.router"),
        ("ffn_gate_exps.weight", "mlp.experts.gate_proj"),
        ("ffn_gate_exps.bias", "mlp.experts.gate_proj_bias"),
        ("ffn_up_exps.weight", "mlp.experts.up_proj"),
        ("ffn_up_exps.bias", "mlp.experts.up_proj_bias"),
        ("ffn_down_exps.weight", "mlp.experts.down_proj"),
        ("ffn_down_exps.bias", "mlp.experts.down_proj_bias"),
    ],
    MAPS,
];
const DEEPSEEK2: &[Names] = &[
    &[
        ("attn_q_a", "self_attn.q_a_proj"),
        ("attn_q_a_norm", "self_attn.q_a_layernorm"),
        ("attn_q_b", "self_attn.q_b_proj"),
        ("attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"),
        ("attn_kv_a_norm", "self_attn.kv_a_layernorm"),
        // As one in old files; in new ones cut into what gives keys, turned, and what gives values.
        ("attn_kv_b", "self_attn.kv_b_proj"),
        ("attn_k_b", "self_attn.k_b_proj"),
        ("attn_v_b", "self_attn.v_b_proj"),
        ("exp_probs_b.bias", "mlp.gate.e_score_correction_bias"),
        ("ffn_gate_shexp", "mlp.shared_experts.gate_proj"),
        ("ffn_up_shexp", "mlp.shared_experts.up_proj"),
        ("ffn_down_shexp", "mlp.shared_experts.down_proj"),
    ],
    QWEN_EXPERTS[0],
    MAPS,
    BEHIND,
];
const MAMBA_WHOLE: Names =
    &[("token_embd", "backbone.embeddings"), ("output_norm", "backbone.norm_f"), ("output", "lm_head")];
const MAMBA: &[Names] = &[&[
    ("attn_norm", "norm"),
    ("ssm_in", "mixer.in_proj"),
    ("ssm_conv1d", "mixer.conv1d"),
    ("ssm_x", "mixer.x_proj"),
    ("ssm_dt", "mixer.dt_proj"),
    ("ssm_a", "mixer.A_log"),
    ("ssm_d", "mixer.D"),
    ("ssm_norm", "mixer.norm"),
    ("ssm_out", "mixer.out_proj"),
]];
const MAMBA2: &[Names] = &[&[("ssm_dt.bias", "mixer.dt_bias")], MAMBA[0]];
const GPT2: &[Names] = &[&[
    ("attn_norm", "ln_1"),
    ("attn_qkv", "attn.c_attn"),
    ("attn_output", "attn.c_proj"),
    ("ffn_norm", "ln_2"),
    ("ffn_up", "mlp.c_fc"),
    ("ffn_down", "mlp.c_proj"),
]];
const GPT2_WHOLE: Names =
    &[("token_embd", "wte"), ("position_embd", "wpe"), ("output_norm", "ln_f"), ("output", "lm_head")];

const fn rotary(
    name: &'static str,
    kind: &'static str,
    class: &'static str,
    change: fn(&Header, &str, &str) -> Change,
) -> Arch {
    Arch { name, kind, class, whole: WHOLE, layers: "model.layers.", parts: LLAMA, change, more: rotary_config }
}

static ARCHS: [Arch; 31] = [
    rotary(LLAMA_NAME, "llama", "LlamaForCausalLM", interleaved),
    rotary("mistral", "llama", "LlamaForCausalLM", interleaved),
    rotary("qwen2", "qwen2", "Qwen2ForCausalLM", unchanged),
    rotary("qwen3", "qwen3", "Qwen3ForCausalLM", unchanged),
    Arch { parts: QWEN_EXPERTS, more: qwen_experts, ..rotary("qwen2moe", "qwen2_moe", "Qwen2MoeForCausalLM", vector) },
    Arch { parts: QWEN_EXPERTS, more: qwen_experts, ..rotary("qwen3moe", "qwen3_moe", "Qwen3MoeForCausalLM", vector) },
    // Of models for pictures the file has the half that reads text.
    rotary("qwen2vl", "qwen2", "Qwen2ForCausalLM", unchanged),
    rotary("qwen3vl", "qwen3", "Qwen3ForCausalLM", unchanged),
    Arch {
        parts: QWEN_EXPERTS,
        more: qwen_experts,
        ..rotary("qwen3vlmoe", "qwen3_moe", "Qwen3MoeForCausalLM", vector)
    },
    rotary("internlm2", "llama", "LlamaForCausalLM", interleaved),
    rotary("exaone", "llama", "LlamaForCausalLM", unchanged),
    rotary("smollm3", "smollm3", "SmolLM3ForCausalLM", interleaved),
    Arch { more: exaone4_config, parts: OLMO2, ..rotary("exaone4", "exaone4", "Exaone4ForCausalLM", unchanged) },
    Arch { more: olmo_config, ..rotary("olmo", "olmo", "OlmoForCausalLM", interleaved) },
    Arch { more: layer_norms, ..rotary("command-r", "cohere", "CohereForCausalLM", unchanged) },
    Arch { more: layer_norms, ..rotary("stablelm", "stablelm", "StableLmForCausalLM", unchanged) },
    Arch { more: layer_norms, ..rotary("nemotron", "nemotron", "NemotronForCausalLM", around_one) },
    Arch {
        more: layer_norms,
        parts: STARCODER2,
        ..rotary("starcoder2", "starcoder2", "Starcoder2ForCausalLM", unchanged)
    },
    Arch { more: granite_config, ..rotary("granite", "granite", "GraniteForCausalLM", interleaved) },
    Arch { more: olmo2_config, parts: OLMO2, ..rotary("olmo2", "olmo2", "Olmo2ForCausalLM", unchanged) },
    Arch { more: gpt_oss_config, parts: GPT_OSS, ..rotary("gpt-oss", "gpt_oss", "GptOssForCausalLM", unchanged) },
    Arch {
        more: deepseek_config,
        parts: DEEPSEEK2,
        ..rotary("deepseek2", "deepseek_v2", "DeepseekV2ForCausalLM", unchanged)
    },
    Arch { more: gemma_config, ..rotary("gemma", "gemma", "GemmaForCausalLM", around_one) },
    Arch { more: gemma_config, parts: GEMMA2, ..rotary("gemma2", "gemma2", "Gemma2ForCausalLM", around_one) },
    Arch { more: gemma_config, parts: GEMMA2, ..rotary("gemma3", "gemma3_text", "Gemma3ForCausalLM", around_one) },
    Arch { more: phi3_config, parts: PHI3, ..rotary("phi3", "phi3", "Phi3ForCausalLM", unchanged) },
    Arch { more: phi2_config, whole: PHI2_WHOLE, parts: PHI2, ..rotary("phi2", "phi", "PhiForCausalLM", unchanged) },
    Arch {
        whole: NEOX_WHOLE,
        layers: "gpt_neox.layers.",
        parts: NEOX,
        more: neox_config,
        ..rotary("gptneox", "gpt_neox", "GPTNeoXForCausalLM", |header, part, _| match part {
            "attn_qkv" => heads(header, "attention.head_count").map_or(Change::None, Change::ByKind),
            _ => Change::None,
        })
    },
    Arch {
        whole: MAMBA_WHOLE,
        layers: "backbone.layers.",
        parts: MAMBA,
        more: mamba_config,
        ..rotary("mamba", "mamba", "MambaForCausalLM", |_, part, end| match (part, end) {
            ("ssm_conv1d", "weight") => Change::Without(1),
            ("ssm_a", _) => Change::Fade { vector: false },
            _ => Change::None,
        })
    },
    Arch {
        whole: MAMBA_WHOLE,
        layers: "backbone.layers.",
        parts: MAMBA2,
        more: mamba_config,
        ..rotary("mamba2", "mamba2", "Mamba2ForCausalLM", |_, part, end| match (part, end) {
            ("ssm_conv1d", "weight") => Change::Without(1),
            ("ssm_a", _) => Change::Fade { vector: true },
            ("ssm_d" | "ssm_norm", _) => Change::Cut,
            _ => Change::None,
        })
    },
    Arch {
        name: "gpt2",
        kind: "gpt2",
        class: "GPT2LMHeadModel",
        whole: GPT2_WHOLE,
        layers: "h.",
        parts: GPT2,
        change: |_, part, end| {
            let turned = matches!(part, "attn_qkv" | "attn_output" | "ffn_up" | "ffn_down") && end == "weight";
            if turned { Change::Turned } else { Change::None }
        },
        more: gpt2_config,
    },
];

fn unchanged(_: &Header, _: &str, _: &str) -> Change {
    Change::None
}

fn vector(_: &Header, part: &str, _: &str) -> Change {
    if part == SHARE { Change::Without(0) } else { Change::None }
}

/// Rows of q and k, whose pairs llama.cpp turns side by side.
fn interleaved(header: &Header, part: &str, _: &str) -> Change {
    let n = match part {
        "attn_q" => heads(header, "attention.head_count"),
        "attn_k" => heads(header, "attention.head_count_kv").or_else(|| heads(header, "attention.head_count")),
        _ => None,
    };
    n.map_or(Change::None, Change::Interleaved)
}

fn heads(header: &Header, key: &str) -> Option<usize> {
    let v = header.own(key)?;
    v.whole().or_else(|| v.list()?.first()?.whole()).and_then(|n| usize::try_from(n).ok())
}

/// Norms whose checkpoints hold the weight less 1.
fn around_one(_: &Header, part: &str, end: &str) -> Change {
    if part.ends_with("norm") && end == "weight" { Change::PlusOne } else { Change::None }
}

fn find(name: &str) -> Option<&'static Arch> {
    ARCHS.iter().find(|a| a.name == name)
}

/// Hugging Face's name of a tensor, and what the converter changed; names that the architecture does not know stay.
pub(crate) fn tensor(header: &Header, name: &str) -> (String, Change) {
    let Some(arch) = header.architecture().and_then(find) else { return (name.into(), Change::None) };
    let of = |lists: &[Names], part: &str| lists.iter().copied().flatten().find(|p| p.0 == part).map(|p| p.1);
    if let Some(rest) = name.strip_prefix("blk.") {
        // Some have no end, and of some the end is a part of the name.
        if let Some((layer, whole)) = rest.split_once('.') {
            let (part, end) = whole.split_once('.').unwrap_or((whole, ""));
            let parts = if experts(header).is_some() && arch.name == LLAMA_NAME { MIXTRAL } else { arch.parts };
            // Old files hold experts one by one.
            let one = end.split_once('.').filter(|(n, _)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
            if let Some((number, end)) = one
                && let Some(own) = of(parts, &format!("{part}_exps"))
            {
                return (format!("{}{layer}.{}.{end}", arch.layers, own.replace('*', number)), Change::None);
            }
            if let Some(own) = of(parts, whole) {
                return (format!("{}{layer}.{own}", arch.layers), (arch.change)(header, part, end));
            }
            if let Some(own) = of(parts, part) {
                let own: Vec<String> =
                    own.split(JOINED).map(|own| format!("{}{layer}.{own}.{end}", arch.layers)).collect();
                return (own.join("|"), (arch.change)(header, part, end));
            }
        }
    } else if let Some((part, end)) = name.split_once('.')
        && let Some(own) = of(&[arch.whole], part)
    {
        return (format!("{own}.{end}"), (arch.change)(header, part, end));
    }
    (name.into(), Change::None)
}

const LLAMA_NAME: &str = "llama";

/// How many experts a layer has, where there are several.
fn experts(header: &Header) -> Option<u64> {
    header.own("expert_count").and_then(Meta::whole).filter(|n| *n > 0)
}

/// Values of tensors that belong to the configuration, by their names in the file: divisors of rotary frequencies.
pub(crate) type Factors = Map<String, Value>;

/// Whether a tensor belongs to the configuration.
pub(crate) fn is_factor(name: &str) -> bool {
    matches!(name, "rope_freqs.weight" | "rope_factors_long.weight" | "rope_factors_short.weight")
}

/// A header that is read as a configuration.
struct Read<'a> {
    header: &'a Header,
    path: &'a Path,
    factors: &'a Factors,
    name: &'static str,
}

impl Read<'_> {
    fn bad(&self, what: String) -> Error {
        Error::file(self.path, what, "open the model's original folder, or another conversion of it")
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.header.own(key).and_then(Meta::number)
    }

    /// A size that must be there.
    fn size(&self, key: &str) -> Result<u64> {
        let arch = self.name;
        let v = self.header.own(key).ok_or_else(|| self.bad(format!("the metadata has no {arch}.{key}")))?;
        // Some sizes may be lists with one number per layer; only equal ones are one model here.
        let n = match v {
            Meta::List(l) if l.windows(2).all(|w| w[0] == w[1]) => l.first().and_then(Meta::whole),
            v => v.whole(),
        };
        n.filter(|n| (1..=1 << 24).contains(n)).ok_or_else(|| self.bad(format!("{arch}.{key} is not a usable size")))
    }

    fn size_or(&self, key: &str, other: u64) -> Result<u64> {
        if self.header.own(key).is_some() { self.size(key) } else { Ok(other) }
    }

    fn has(&self, part: &str) -> bool {
        self.header.shape(&format!("blk.0.{part}")).is_some()
    }

    /// The window of layers that have one.
    fn window(&self) -> Option<u64> {
        self.header.own("attention.sliding_window").and_then(Meta::whole).filter(|w| *w > 0)
    }
}

/// The configuration as a `config.json` would say it.
///
/// Errors: an architecture that is not read, missing or contradictory sizes.
pub(crate) fn config(header: &Header, path: &Path, factors: &Factors) -> Result<Map<String, Value>> {
    let name = header.architecture().unwrap_or("(the file names none)");
    let Some(arch) = find(name) else {
        let supported = ARCHS.iter().map(|a| a.name).collect::<Vec<_>>().join(", ") + " (as GGUF)";
        return Err(Error::Architecture { path: path.to_path_buf(), name: name.into(), supported });
    };
    let r = Read { header, path, factors, name: arch.name };
    let vocab = header.shape("token_embd.weight").and_then(|s| s.first());
    let vocab = vocab.ok_or_else(|| r.bad("the file has no token_embd.weight".into()))?;
    let config = json!({
        "architectures": [arch.class],
        "model_type": arch.kind,
        "hidden_size": r.size("embedding_length")?,
        "num_hidden_layers": r.size("block_count")?,
        "vocab_size": vocab,
        "max_position_embeddings": r.size("context_length")?,
        "tie_word_embeddings": header.shape("output.weight").is_none(),
    });
    let mut config = config.as_object().cloned().unwrap_or_default();
    // Of what has neither heads nor MLPs the file says that they are none.
    if header.own("ssm.state_size").is_none() {
        config.insert("num_attention_heads".into(), json!(r.size("attention.head_count")?));
        config.insert("intermediate_size".into(), json!(r.size("feed_forward_length")?));
    }
    (arch.more)(&r, &mut config)?;
    Ok(config)
}

/// Groups of keys, the width of heads, rotary positions, the norm: what all but the first GPTs have.
fn common(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    let (d, heads) = (r.size("embedding_length")?, r.size("attention.head_count")?);
    let width = r.size_or("attention.key_length", d / heads)?;
    if r.size_or("attention.value_length", width)? != width {
        let arch = r.name;
        return Err(r.bad(format!(
            "{arch}.attention.value_length differs from the head width {width}, which is not supported"
        )));
    }
    let turned = r.size_or("rope.dimension_count", width)?;
    let mut rope = rope(r)?;
    if turned < width && matches!(r.name, "phi2" | "phi3" | "gptneox" | "stablelm" | "nemotron") {
        rope["partial_rotary_factor"] = json!(turned as f64 / width as f64);
    } else if turned != width {
        let arch = r.name;
        return Err(
            r.bad(format!("{arch}.rope.dimension_count differs from the head width {width}, which is not supported"))
        );
    }
    let eps = r.number("attention.layer_norm_rms_epsilon").unwrap_or(1e-5);
    for (key, v) in [
        ("num_key_value_heads", json!(r.size_or("attention.head_count_kv", heads)?)),
        ("head_dim", json!(width)),
        ("rms_norm_eps", json!(eps)),
        ("rope_parameters", rope),
        ("sliding_window", json!(r.window())),
    ] {
        config.insert(key.into(), v);
    }
    Ok(())
}

/// How positions turn queries and keys.
fn rope(r: &Read) -> Result<Value> {
    let base = r.number("rope.freq_base").unwrap_or(10_000.0);
    let mut rope = json!({ "rope_type": "default", "rope_theta": base });
    let kind = r.header.own("rope.scaling.type").and_then(Meta::text).filter(|n| *n != "none");
    let old = r.header.own("rope.scaling.original_context_length").and_then(Meta::whole);
    let sharper = r.number("rope.scaling.attn_factor");
    if let (Some(long), Some(short)) =
        (r.factors.get("rope_factors_long.weight"), r.factors.get("rope_factors_short.weight"))
    {
        rope["rope_type"] = json!("longrope");
        (rope["long_factor"], rope["short_factor"]) = (long.clone(), short.clone());
        if let Some(old) = old {
            rope["original_max_position_embeddings"] = json!(old);
        }
        if let Some(factor) = sharper {
            rope["attention_factor"] = json!(factor);
        }
        return Ok(rope);
    }
    if let Some(factors) = r.factors.get("rope_freqs.weight") {
        rope["rope_type"] = json!("factors");
        rope["factors"] = factors.clone();
    } else if let Some(name) = kind {
        if !matches!(name, "linear" | "yarn") {
            return Err(r.bad(format!("rope scaling {name} is not supported in GGUF files (linear and yarn are)")));
        }
        rope["rope_type"] = json!(name);
        rope["factor"] = json!(r.number("rope.scaling.factor").unwrap_or(1.0));
        if name == "yarn" {
            rope["original_max_position_embeddings"] = old.map_or(Value::Null, |n| json!(n));
            for (theirs, ours) in [("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")] {
                if let Some(v) = r.number(&format!("rope.scaling.{theirs}")) {
                    rope[ours] = json!(v);
                }
            }
        }
        if sharper.is_some_and(|f| f != 1.0) {
            return Err(r.bad("rope.scaling.attn_factor is not supported".into()));
        }
    } else if let Some(factor) = r.number("rope.scale_linear").filter(|f| *f != 1.0) {
        rope["rope_type"] = json!("linear");
        rope["factor"] = json!(factor);
    }
    Ok(rope)
}

fn rotary_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    common(r, config)?;
    if r.name == LLAMA_NAME && experts(r.header).is_some() {
        return mixtral_config(r, config);
    }
    let bias = |part: &str| r.has(&format!("{part}.bias"));
    if bias("attn_q") != bias("attn_k") || bias("attn_q") != bias("attn_v") || bias("ffn_up") != bias("ffn_down") {
        return Err(r.bad("biases on some maps of a layer only are not supported".into()));
    }
    for (key, part) in [("attention_bias", "attn_q"), ("attention_output_bias", "attn_output"), ("mlp_bias", "ffn_up")]
    {
        config.insert(key.into(), json!(bias(part)));
    }
    // A llama with a window is a Mistral.
    if r.window().is_some() && config["model_type"] == "llama" {
        if bias("attn_q") {
            return Err(r.bad("a sliding window beside attention biases is not supported".into()));
        }
        config.insert("model_type".into(), json!("mistral"));
        config.insert("architectures".into(), json!(["MistralForCausalLM"]));
    }
    Ok(())
}

/// How many experts there are and read a row. Errors: shares that are multiplied by something.
fn expert_counts(r: &Read) -> Result<(u64, u64)> {
    if let Some(by) = r.number("expert_weights_scale").filter(|by| *by != 0.0 && *by != 1.0) {
        return Err(r.bad(format!("shares of experts multiplied by {by} are not supported")));
    }
    // 1 is the softmax; 0 says nothing.
    if let Some(n) = r.header.own("expert_gating_func").and_then(Meta::whole).filter(|n| *n > 1) {
        return Err(r.bad(format!("experts chosen by the function {n} are not supported (1, the softmax, is)")));
    }
    Ok((r.size("expert_count")?, r.size("expert_used_count")?))
}

/// A llama with experts is a Mixtral.
fn mixtral_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    if r.has("attn_q.bias") || r.has("attn_output.bias") {
        return Err(r.bad("attention biases beside experts are not supported".into()));
    }
    let (all, chosen) = expert_counts(r)?;
    for (key, v) in [
        ("model_type", json!("mixtral")),
        ("architectures", json!(["MixtralForCausalLM"])),
        ("num_local_experts", json!(all)),
        ("num_experts_per_tok", json!(chosen)),
    ] {
        config.insert(key.into(), v);
    }
    Ok(())
}

/// Widths that Qwen's files may leave to their tensors, and layers without experts.
fn qwen_experts(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    common(r, config)?;
    let (all, chosen) = expert_counts(r)?;
    // A layer has tensors, whatever number a damaged file says.
    let layers = r.size("block_count")?.min(r.header.tensors.len() as u64);
    let shape = |part: &str| (0..layers).find_map(|i| r.header.shape(&format!("blk.{i}.{part}.weight")));
    let wide = |key: &str, part: &str, axis: usize| {
        let own = shape(part).and_then(|s| s.get(axis)).map(|n| *n as u64);
        own.map_or_else(|| r.size(key), Ok)
    };
    let dense: Vec<u64> =
        (0..layers).filter(|i| r.header.shape(&format!("blk.{i}.ffn_gate_inp.weight")).is_none()).collect();
    let inner = match shape("ffn_gate_exps") {
        Some(s) => s.get(1).map(|n| *n as u64).ok_or_else(|| r.bad("the experts are not stacked matrices".into()))?,
        None => wide("expert_feed_forward_length", "ffn_gate.0", 0)?,
    };
    let qwen3 = r.name != "qwen2moe";
    for (key, v) in [
        ("num_experts", json!(all)),
        ("num_experts_per_tok", json!(chosen)),
        ("moe_intermediate_size", json!(inner)),
        ("mlp_only_layers", json!(dense)),
        ("decoder_sparse_step", json!(1)),
        ("norm_topk_prob", json!(r.header.own("expert_weights_norm").and_then(Meta::flag).unwrap_or(qwen3))),
        ("qkv_bias", json!(r.has("attn_q.bias"))),
        ("attention_bias", json!(r.has("attn_q.bias"))),
    ] {
        config.insert(key.into(), v);
    }
    if !qwen3 {
        let shared = wide("expert_shared_feed_forward_length", "ffn_gate_shexp", 0)?;
        config.insert("shared_expert_intermediate_size".into(), json!(shared));
    }
    Ok(())
}

/// Windows, bounds and the width that scores are divided by. The file does not hold the last: llama.cpp takes the width
/// of a head, and of the models of 27 billion parameters, told by their depth, that which heads would have if they
/// shared the model's width.
fn gemma_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    common(r, config)?;
    let (d, heads, layers) = (r.size("embedding_length")?, r.size("attention.head_count")?, r.size("block_count")?);
    let largest = matches!((r.name, layers), ("gemma2", 46) | ("gemma3", 62));
    let width = if largest { json!(d / heads) } else { config["head_dim"].clone() };
    config.insert("query_pre_attn_scalar".into(), width);
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        config.insert(key.into(), json!(r.number(key)));
    }
    if r.name != "gemma3" {
        return Ok(());
    }
    // One in six layers sees everything, with a base of its own; the file says so only where it is otherwise.
    let near = r.number("rope.freq_base_swa").unwrap_or(10_000.0);
    let far = config["rope_parameters"].clone();
    let ropes = json!({ "full_attention": far, "sliding_attention": { "rope_type": "default", "rope_theta": near } });
    config.insert("rope_parameters".into(), ropes);
    match r.header.own("attention.sliding_window_pattern") {
        Some(Meta::List(slides)) => drop(config.insert("layer_types".into(), layer_types(slides))),
        Some(n) => drop(config.insert("sliding_window_pattern".into(), json!(n.whole()))),
        None => {}
    }
    Ok(())
}

fn phi3_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    common(r, config)?;
    // A length in training beside the dictionary counts before one inside, and has a default.
    if let Some(old) = r.header.own("rope.scaling.original_context_length").and_then(Meta::whole) {
        config.insert("original_max_position_embeddings".into(), json!(old));
    }
    Ok(())
}

/// The four factors of Granite.
fn granite_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    rotary_config(r, config)?;
    let width = config["head_dim"].as_f64().unwrap_or(1.0);
    for (key, own, other) in [
        ("attention_multiplier", "attention.scale", width.powf(-0.5)),
        ("embedding_multiplier", "embedding_scale", 1.0),
        ("residual_multiplier", "residual_scale", 1.0),
        ("logits_scaling", "logit_scale", 1.0),
    ] {
        // 0 says nothing.
        config.insert(key.into(), json!(r.number(own).filter(|v| *v != 0.0).unwrap_or(other)));
    }
    Ok(())
}

/// Bounds of queries, keys and values.
fn olmo_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    rotary_config(r, config)?;
    config.insert("clip_qkv".into(), json!(r.number("attention.clamp_kqv").filter(|by| *by > 0.0)));
    Ok(())
}

/// Which layers slide, where any do.
fn exaone4_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    common(r, config)?;
    if let Some(Meta::List(slides)) = r.header.own("attention.sliding_window_pattern") {
        config.insert("layer_types".into(), layer_types(slides));
    }
    Ok(())
}

/// Names of layers that slide or see everything.
fn layer_types(slides: &[Meta]) -> Value {
    let of = |m: &Meta| m.flag().or(m.whole().map(|n| n > 0)).unwrap_or(true);
    slides.iter().map(|m| if of(m) { "sliding_attention" } else { "full_attention" }).collect()
}

/// Decoders with norms around a mean, whose configurations call the same by different names.
fn layer_norms(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    common(r, config)?;
    let (bias, normed) = (r.has("attn_q.bias"), r.has("attn_q_norm.weight"));
    if normed && r.name == "stablelm" {
        return Err(r.bad("a StableLM with norms of queries and keys is not supported".into()));
    }
    let eps = json!(r.number("attention.layer_norm_epsilon").unwrap_or(1e-5));
    for key in ["layer_norm_eps", "norm_eps", "norm_epsilon"] {
        config.insert(key.into(), eps.clone());
    }
    for key in ["attention_bias", "use_qkv_bias", "use_bias"] {
        config.insert(key.into(), json!(bias));
    }
    config.insert("mlp_bias".into(), json!(r.has("ffn_up.bias")));
    config.insert("use_qk_norm".into(), json!(normed));
    let parallel = r.header.own("use_parallel_residual").and_then(Meta::flag);
    config.insert("use_parallel_residual".into(), json!(parallel.unwrap_or(!r.has("ffn_norm.weight"))));
    if let Some(by) = r.number("logit_scale").filter(|by| *by != 0.0) {
        config.insert("logit_scale".into(), json!(by));
    }
    Ok(())
}

/// The third OLMo, which has windows, is called so, too.
fn olmo2_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    if r.window().is_some() {
        return Err(r.bad("an OLMo with a sliding window (OLMo 3) is not supported".into()));
    }
    rotary_config(r, config)
}

/// Every other layer slides. Frequencies are stretched between exact bounds, as in the model's own configuration.
fn gpt_oss_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    common(r, config)?;
    let (all, chosen) = expert_counts(r)?;
    let inner = r.size_or("expert_feed_forward_length", r.size("feed_forward_length")?)?;
    let yarn = config["rope_parameters"]["rope_type"] == "yarn";
    if yarn && let Some(rope) = config.get_mut("rope_parameters") {
        rope["truncate"] = json!(false);
    }
    for (key, v) in [("num_local_experts", all), ("num_experts_per_tok", chosen), ("intermediate_size", inner)] {
        config.insert(key.into(), json!(v));
    }
    Ok(())
}

/// Widths of the latents and experts. The third version is told by its sigmoids.
fn deepseek_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    let heads = r.size("attention.head_count")?;
    // Where keys and values are read off the latent, their own widths have names of their own.
    let own = |key: &str| r.size_or(&format!("{key}_mla"), r.size(key)?);
    let (keys, values) = (own("attention.key_length")?, own("attention.value_length")?);
    let turned = r.size("rope.dimension_count")?;
    let plain = keys.checked_sub(turned).filter(|n| *n > 0);
    let plain = plain.ok_or_else(|| r.bad(format!("of {keys} components of keys {turned} cannot be turned")))?;
    let mut rope = rope(r)?;
    if let Some(by) = r.number("rope.scaling.yarn_log_multiplier").filter(|by| *by != 0.0) {
        (rope["mscale"], rope["mscale_all_dim"]) = (json!(by / 0.1), json!(by / 0.1));
    }
    let third = match r.header.own("expert_gating_func").and_then(Meta::whole) {
        None | Some(0 | 1) => false,
        Some(2) => true,
        Some(n) => return Err(r.bad(format!("experts chosen by the function {n} are not supported"))),
    };
    if third {
        config.insert("model_type".into(), json!("deepseek_v3"));
        config.insert("architectures".into(), json!(["DeepseekV3ForCausalLM"]));
    }
    // Layers behind the last that foretell more tokens.
    let more = r.header.own("nextn_predict_layers").and_then(Meta::whole).unwrap_or(0);
    let layers = r.size("block_count")?;
    let (groups, open) = (r.size_or("expert_group_count", 1)?, r.size_or("expert_group_used_count", 1)?);
    let rank = r.header.own("attention.q_lora_rank").and_then(Meta::whole).filter(|n| *n > 0);
    for (key, v) in [
        ("num_hidden_layers", json!(layers.saturating_sub(more).max(1))),
        ("num_key_value_heads", json!(heads)),
        ("q_lora_rank", json!(rank)),
        ("kv_lora_rank", json!(r.size("attention.kv_lora_rank")?)),
        ("qk_nope_head_dim", json!(plain)),
        ("qk_rope_head_dim", json!(turned)),
        ("v_head_dim", json!(values)),
        ("rope_parameters", rope),
        ("rms_norm_eps", json!(r.number("attention.layer_norm_rms_epsilon").unwrap_or(1e-6))),
        ("first_k_dense_replace", json!(r.header.own("leading_dense_block_count").and_then(Meta::whole).unwrap_or(0))),
        ("n_routed_experts", json!(r.size("expert_count")?)),
        ("num_experts_per_tok", json!(r.size("expert_used_count")?)),
        ("moe_intermediate_size", json!(r.size("expert_feed_forward_length")?)),
        ("n_shared_experts", json!(r.size_or("expert_shared_count", 1)?)),
        ("routed_scaling_factor", json!(r.number("expert_weights_scale").filter(|by| *by != 0.0).unwrap_or(1.0))),
        ("norm_topk_prob", json!(r.header.own("expert_weights_norm").and_then(Meta::flag).unwrap_or(third))),
        ("topk_method", json!(if groups > 1 { "group_limited_greedy" } else { "greedy" })),
        ("n_group", json!(groups)),
        ("topk_group", json!(open)),
    ] {
        config.insert(key.into(), v);
    }
    Ok(())
}

fn phi2_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    common(r, config)?;
    config.insert("layer_norm_eps".into(), json!(r.number("attention.layer_norm_epsilon").unwrap_or(1e-5)));
    if r.has("attn_qkv.weight") && config["num_key_value_heads"] != config["num_attention_heads"] {
        return Err(r.bad("queries, keys and values of different sizes in one tensor are not supported".into()));
    }
    Ok(())
}

fn neox_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    common(r, config)?;
    let parallel = r.header.own("use_parallel_residual").and_then(Meta::flag).unwrap_or(true);
    for (key, v) in [
        ("layer_norm_eps", json!(r.number("attention.layer_norm_epsilon").unwrap_or(1e-5))),
        ("use_parallel_residual", json!(parallel)),
        ("attention_bias", json!(r.has("attn_qkv.bias"))),
    ] {
        config.insert(key.into(), v);
    }
    Ok(())
}

/// Sizes of the recurrence; the second version has a step for each head, which is how many heads there are.
fn mamba_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    let (inner, steps) = (r.size("ssm.inner_size")?, r.size("ssm.time_step_rank")?);
    for (key, v) in [
        ("layer_norm_epsilon", json!(r.number("attention.layer_norm_rms_epsilon").unwrap_or(1e-5))),
        ("state_size", json!(r.size("ssm.state_size")?)),
        ("conv_kernel", json!(r.size("ssm.conv_kernel")?)),
        ("expand", json!(inner as f64 / r.size("embedding_length")? as f64)),
        ("use_conv_bias", json!(r.has("ssm_conv1d.bias"))),
        ("use_bias", json!(r.has("ssm_in.bias"))),
    ] {
        config.insert(key.into(), v);
    }
    if r.name == "mamba" {
        config.insert("time_step_rank".into(), json!(steps));
        return Ok(());
    }
    if !inner.is_multiple_of(steps) {
        return Err(r.bad(format!("{inner} channels do not divide into {steps} heads")));
    }
    for (key, v) in [("num_heads", steps), ("head_dim", inner / steps), ("n_groups", r.size_or("ssm.group_count", 1)?)]
    {
        config.insert(key.into(), json!(v));
    }
    Ok(())
}

fn gpt2_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    for (own, theirs) in [
        ("n_embd", "hidden_size"),
        ("n_layer", "num_hidden_layers"),
        ("n_head", "num_attention_heads"),
        ("n_inner", "intermediate_size"),
        ("n_positions", "max_position_embeddings"),
    ] {
        let v = config[theirs].clone();
        config.insert(own.into(), v);
    }
    config.insert("layer_norm_epsilon".into(), json!(r.number("attention.layer_norm_epsilon").unwrap_or(1e-5)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn header(arch: &str) -> Header {
        let mut meta = BTreeMap::from([("general.architecture".to_string(), Meta::Text(arch.into()))]);
        meta.insert(format!("{arch}.attention.head_count"), Meta::Unsigned(8));
        meta.insert(format!("{arch}.attention.head_count_kv"), Meta::Unsigned(2));
        Header { meta, tensors: Vec::new() }
    }

    #[test]
    fn names_become_those_of_hugging_face_and_changes_are_known() {
        let of = |arch: &str, name: &str| {
            let (name, change) = tensor(&header(arch), name);
            (name, change)
        };
        let q = ("model.layers.11.self_attn.q_proj.weight".to_string(), Change::Interleaved(8));
        assert_eq!(of("llama", "blk.11.attn_q.weight"), q);
        assert_eq!(of("llama", "blk.0.attn_k.bias").1, Change::Interleaved(2));
        assert_eq!(of("qwen2", "blk.11.attn_q.weight").1, Change::None);
        assert_eq!(of("qwen2", "token_embd.weight").0, "model.embed_tokens.weight");
        assert_eq!(of("gemma3", "output_norm.weight"), ("model.norm.weight".into(), Change::PlusOne));
        let norm = ("model.layers.3.post_feedforward_layernorm.weight".into(), Change::PlusOne);
        assert_eq!(of("gemma2", "blk.3.post_ffw_norm.weight"), norm);
        assert_eq!(of("gpt2", "blk.0.attn_qkv.weight"), ("h.0.attn.c_attn.weight".into(), Change::Turned));
        assert_eq!(of("gpt2", "blk.0.attn_qkv.bias").1, Change::None);
        assert_eq!(of("gpt2", "blk.0.new.weight").0, "blk.0.new.weight");
        assert_eq!(of("other", "blk.0.attn_q.weight").0, "blk.0.attn_q.weight");
    }

    #[test]
    fn experts_are_named_one_by_one_and_a_llama_with_some_is_a_mixtral() {
        let of = |arch: &str, name: &str| {
            let mut header = header(arch);
            header.meta.insert(format!("{arch}.expert_count"), Meta::Unsigned(4));
            tensor(&header, name)
        };
        let name = |arch: &str, name: &str| of(arch, name).0;
        assert_eq!(name("llama", "blk.2.ffn_up_exps.weight"), "model.layers.2.block_sparse_moe.experts.*.w3.weight");
        assert_eq!(name("llama", "blk.2.ffn_down.3.weight"), "model.layers.2.block_sparse_moe.experts.3.w2.weight");
        assert_eq!(name("llama", "blk.2.ffn_gate_inp.weight"), "model.layers.2.block_sparse_moe.gate.weight");
        assert_eq!(of("llama", "blk.2.attn_q.weight").1, Change::Interleaved(8));
        assert_eq!(tensor(&header("llama"), "blk.2.ffn_up.weight").0, "model.layers.2.mlp.up_proj.weight");
        assert_eq!(name("qwen3moe", "blk.0.ffn_gate_exps.weight"), "model.layers.0.mlp.experts.*.gate_proj.weight");
        assert_eq!(name("qwen3moe", "blk.1.ffn_up.weight"), "model.layers.1.mlp.up_proj.weight");
        let share = ("model.layers.0.mlp.shared_expert_gate.weight".into(), Change::Without(0));
        assert_eq!(of("qwen2moe", "blk.0.ffn_gate_inp_shexp.weight"), share);
    }
}
