//! The configuration of a GGUF file as a `config.json` would say it, by what its metadata say.

use super::{ARCHS, Factors, LLAMA_NAME, experts, find};
use crate::weights::gguf::{Header, Meta};
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;

/// A header that is read as a configuration.
pub(super) struct Read<'a> {
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

pub(super) fn rotary_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
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
pub(super) fn qwen_experts(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
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
pub(super) fn gemma_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
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

pub(super) fn phi3_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    common(r, config)?;
    // A length in training beside the dictionary counts before one inside, and has a default.
    if let Some(old) = r.header.own("rope.scaling.original_context_length").and_then(Meta::whole) {
        config.insert("original_max_position_embeddings".into(), json!(old));
    }
    Ok(())
}

/// The four factors of Granite.
pub(super) fn granite_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
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
pub(super) fn olmo_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    rotary_config(r, config)?;
    config.insert("clip_qkv".into(), json!(r.number("attention.clamp_kqv").filter(|by| *by > 0.0)));
    Ok(())
}

/// Which layers slide, where any do.
pub(super) fn exaone4_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
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
pub(super) fn layer_norms(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
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
pub(super) fn olmo2_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    if r.window().is_some() {
        return Err(r.bad("an OLMo with a sliding window (OLMo 3) is not supported".into()));
    }
    rotary_config(r, config)
}

/// Every other layer slides. Frequencies are stretched between exact bounds, as in the model's own configuration.
pub(super) fn gpt_oss_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
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
pub(super) fn deepseek_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
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

pub(super) fn phi2_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
    common(r, config)?;
    config.insert("layer_norm_eps".into(), json!(r.number("attention.layer_norm_epsilon").unwrap_or(1e-5)));
    if r.has("attn_qkv.weight") && config["num_key_value_heads"] != config["num_attention_heads"] {
        return Err(r.bad("queries, keys and values of different sizes in one tensor are not supported".into()));
    }
    Ok(())
}

pub(super) fn neox_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
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
pub(super) fn mamba_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
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

pub(super) fn gpt2_config(r: &Read, config: &mut Map<String, Value>) -> Result<()> {
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
