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
const LLAMA: &[Names] = &[MAPS, &[("ffn_norm", "post_attention_layernorm")]];
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

static ARCHS: [Arch; 9] = [
    rotary("llama", "llama", "LlamaForCausalLM", interleaved),
    rotary("mistral", "llama", "LlamaForCausalLM", interleaved),
    rotary("qwen2", "qwen2", "Qwen2ForCausalLM", unchanged),
    rotary("qwen3", "qwen3", "Qwen3ForCausalLM", unchanged),
    Arch { more: gemma_config, ..rotary("gemma", "gemma", "GemmaForCausalLM", around_one) },
    Arch { more: gemma_config, parts: GEMMA2, ..rotary("gemma2", "gemma2", "Gemma2ForCausalLM", around_one) },
    Arch { more: gemma_config, parts: GEMMA2, ..rotary("gemma3", "gemma3_text", "Gemma3ForCausalLM", around_one) },
    Arch { more: phi3_config, parts: PHI3, ..rotary("phi3", "phi3", "Phi3ForCausalLM", unchanged) },
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

/// Rows of q and k, whose pairs llama.cpp turns side by side.
fn interleaved(header: &Header, part: &str, _: &str) -> Change {
    let heads = |key: &str| {
        let v = header.own(key)?;
        v.whole().or_else(|| v.list()?.first()?.whole()).and_then(|n| usize::try_from(n).ok())
    };
    let n = match part {
        "attn_q" => heads("attention.head_count"),
        "attn_k" => heads("attention.head_count_kv").or_else(|| heads("attention.head_count")),
        _ => None,
    };
    n.map_or(Change::None, Change::Interleaved)
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
        let mut words = rest.splitn(3, '.');
        if let (Some(layer), Some(part), Some(end)) = (words.next(), words.next(), words.next())
            && let Some(own) = of(arch.parts, part)
        {
            return (format!("{}{layer}.{own}.{end}", arch.layers), (arch.change)(header, part, end));
        }
    } else if let Some((part, end)) = name.split_once('.')
        && let Some(own) = of(&[arch.whole], part)
    {
        return (format!("{own}.{end}"), (arch.change)(header, part, end));
    }
    (name.into(), Change::None)
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
        "num_attention_heads": r.size("attention.head_count")?,
        "intermediate_size": r.size("feed_forward_length")?,
        "vocab_size": vocab,
        "max_position_embeddings": r.size("context_length")?,
        "tie_word_embeddings": header.shape("output.weight").is_none(),
    });
    let mut config = config.as_object().cloned().unwrap_or_default();
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
    if turned < width && r.name == "phi3" {
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
        Some(Meta::List(slides)) => {
            let of = |m: &Meta| m.flag().or(m.whole().map(|n| n > 0)).unwrap_or(true);
            let name = |slides: bool| if slides { "sliding_attention" } else { "full_attention" };
            config.insert("layer_types".into(), slides.iter().map(|m| name(of(m))).collect());
        }
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
}
