//! Architectures of GGUF files: what their metadata and tensors are called in Hugging Face's configurations and
//! checkpoints, and what llama.cpp's converter did to the values. An architecture is a line of [`ARCHS`].

mod config;

pub(crate) use config::config;

use super::gguf::{Header, Meta};
use crate::Result;
use config::{
    Read, deepseek_config, exaone4_config, gemma_config, gpt_oss_config, gpt2_config, granite_config, layer_norms,
    mamba_config, neox_config, olmo_config, olmo2_config, phi2_config, phi3_config, qwen_experts, rotary_config,
};
use serde_json::{Map, Value};

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
