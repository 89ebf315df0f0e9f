//! Tokenizer training, and models in Hugging Face format with their cards.

use crate::Trained;
use crate::net::{EPS, Shape, THETA};
use anyhow::Context as _;
use candle_core::DType;
use serde_json::json;
use std::collections::HashMap;
use std::path::Path;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer, TokenizerBuilder};

/// Begins every story.
const BEGIN: &str = "<s>";
/// Vocabulary asked for; the stories may need less.
const VOCAB: usize = 640;

/// A byte-level BPE tokenizer that puts `<s>` before a text.
pub fn train_tokenizer(texts: &[String]) -> anyhow::Result<Tokenizer> {
    let fail = |e: tokenizers::Error| anyhow::anyhow!("the tokenizer does not train: {e}");
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut trainer = BpeTrainer::builder()
        .vocab_size(VOCAB)
        .show_progress(false)
        .special_tokens(vec![AddedToken::from(BEGIN, true)])
        .initial_alphabet(alphabet.into_iter().collect())
        .build();
    let mut t = TokenizerBuilder::<BPE, tokenizers::NormalizerWrapper, ByteLevel, ByteLevel, ByteLevel>::new()
        .with_model(BPE::default())
        .with_normalizer(None)
        .with_pre_tokenizer(Some(ByteLevel::new(false, false, true)))
        .with_post_processor(Some(ByteLevel::new(false, false, true)))
        .with_decoder(Some(ByteLevel::new(false, false, true)))
        .build()
        .map_err(fail)?;
    t.train(&mut trainer, texts.iter()).map_err(fail)?;
    // The post-processor that adds <s> is easier said in the file's own form.
    let mut file: serde_json::Value = serde_json::from_str(&t.to_string(false).map_err(fail)?)?;
    let piece =
        |p: &str| json!([{ "SpecialToken": { "id": BEGIN, "type_id": 0 } }, { "Sequence": { "id": p, "type_id": 0 } }]);
    file["post_processor"] = json!({
        "type": "TemplateProcessing", "single": piece("A"),
        "pair": [{ "SpecialToken": { "id": BEGIN, "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
        "special_tokens": { BEGIN: { "id": BEGIN, "ids": [0], "tokens": [BEGIN] } },
    });
    Tokenizer::from_bytes(file.to_string()).map_err(fail)
}

/// Writes configuration, weights (f16), tokenizer and card into `dir`.
pub fn model(
    dir: &Path,
    name: &str,
    s: &Shape,
    trained: &Trained,
    tokenizer: &Tokenizer,
    context: usize,
) -> anyhow::Result<()> {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float16",
        "vocab_size": s.vocab, "hidden_size": s.width, "intermediate_size": s.inner, "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads, "num_key_value_heads": s.kv_heads, "head_dim": s.width / s.heads,
        "hidden_act": "silu", "rms_norm_eps": EPS, "rope_theta": THETA, "max_position_embeddings": context,
        "attention_bias": false, "mlp_bias": false, "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": 0,
    });
    let put = |file: &str, text: String| {
        std::fs::write(dir.join(file), text).with_context(|| format!("cannot write {}", dir.join(file).display()))
    };
    put("config.json", serde_json::to_string_pretty(&config)? + "\n")?;
    put("tokenizer.json", tokenizer.to_string(false).map_err(|e| anyhow::anyhow!("{e}"))?)?;
    let vars = trained.vars.data().lock().map_err(|_| anyhow::anyhow!("training broke off"))?;
    let mut tensors = HashMap::new();
    let mut n_params = 0;
    for (key, var) in vars.iter() {
        n_params += var.elem_count();
        tensors.insert(key.clone(), var.as_tensor().to_dtype(DType::F16)?);
    }
    candle_core::safetensors::save(&tensors, dir.join("model.safetensors"))?;
    let card = format!(
        "# {name}\n\nA Llama-shaped language model of {n_params} parameters, trained by `sample_data/train` on stories that the \
         same program generates.\n\n| | |\n|---|---|\n| layers, width, heads, key-value heads, MLP | {}, {}, {}, {}, {} |\n\
         | vocabulary | {} (byte-level BPE trained on the stories) |\n| training | {} steps of 16 rows of {context} tokens, seed 20, AdamW |\n\
         | time | {:.0} s on CPU |\n| held-out loss | {:.3} nats per token |\n| next token right, held out | {:.1}% |\n\n\
         It knows six kinds of short stories and nothing else; longer texts than {context} tokens are outside what it was trained on.\n",
        s.layers,
        s.width,
        s.heads,
        s.kv_heads,
        s.inner,
        s.vocab,
        trained.steps,
        trained.seconds,
        trained.held_out_loss,
        trained.held_out_accuracy * 100.0
    );
    put("README.md", card)
}
