//! Small models of every kind that methods run on, opened as a user's are. All but one are fixtures of the goldens; the
//! one that fills in words is written with seeded weights.

use crate::golden;
use candle_core::Device;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;
use std::path::{Path, PathBuf};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::image::{Picture, Processor};
use tokenscope_analysis::model::{Model, load};
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{CaptureSpec, Trace};
use tokenscope_analysis::weights::Weights;

/// A small model with what goes with it.
pub struct Tiny {
    /// Name of the kind, for messages.
    pub name: &'static str,
    /// The model.
    pub model: Box<dyn Model>,
    /// Its tokenizer, if it reads text.
    pub tokenizer: Option<Tokenizer>,
    /// What prepares pictures for it, if it reads some.
    pub processor: Option<Processor>,
}

/// A causal language model: three layers, four heads in two groups, 600 ids.
pub fn lm() -> Tiny {
    fixture("lm", "llama")
}

/// A masked-diffusion model that fills in words: two layers, four heads, the ids of the sample model.
pub fn fills() -> Tiny {
    let dir = tempfile::tempdir().expect("a folder for the model");
    write_llada(dir.path());
    open("fills", dir.path())
}

/// A causal language model with experts.
pub fn moe() -> Tiny {
    fixture("moe", "mixtral")
}

/// An encoder of pictures with a class token: three layers, 25 patches.
pub fn vit() -> Tiny {
    fixture("vit", "vit")
}

/// A vision-language model: a tower of three layers, 16 image tokens in a language model of two.
pub fn vlm() -> Tiny {
    fixture("vlm", "llava")
}

/// A vision-language model that cuts pictures into tiles and merges patches.
pub fn tiled() -> Tiny {
    fixture("tiled", "smolvlm")
}

/// A text encoder that predicts masked words: three layers.
pub fn bert() -> Tiny {
    fixture("bert", "bert")
}

/// One of each kind.
pub fn all() -> Vec<Tiny> {
    vec![lm(), fills(), moe(), vit(), vlm(), tiled(), bert()]
}

impl Tiny {
    /// What to run: a text of `n` tokens that differ (as far as there are so many), or the same one `n` times, and a
    /// picture of that size where the model reads pictures.
    pub fn request(&self, n: usize, same: bool, picture: (usize, usize)) -> RunRequest {
        let mut request = RunRequest::default();
        let vocab = self.model.info().vocab.max(1);
        // Special ids stand in front.
        let ids: Vec<u32> = (0..n).map(|i| ((if same { 7 } else { 7 + i * 31 }) % vocab) as u32).collect();
        match (&self.processor, &self.tokenizer) {
            (Some(processor), tokenizer) => {
                if let Some(t) = tokenizer {
                    request.prompt = Some(t.decode(&ids, true).expect("ids of the vocabulary"));
                }
                let image = picture_of(picture.0, picture.1, same);
                request.add_picture(processor, &image).expect("a picture that the model takes");
            }
            (None, _) => request.ids = Some(ids),
        }
        request
    }

    /// A run of that request, with everything kept that methods read.
    pub fn trace(&self, request: &RunRequest) -> Trace {
        run(self.model.as_ref(), self.tokenizer.as_ref(), request, &CaptureSpec::views(), &Ctx::default())
            .unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }
}

/// A picture whose patches differ, or one that is the same everywhere.
pub fn picture_of(width: usize, height: usize, same: bool) -> Picture {
    let value = |i: usize| if same { 90 } else { ((i / 3 % width) * 5 + (i / 3 / width) * 11 + i % 3 * 60) as u8 };
    Picture::new(width, height, (0..width * height * 3).map(value).collect()).expect("as many bytes as pixels")
}

fn fixture(name: &'static str, folder: &str) -> Tiny {
    open(name, &golden().join("models").join(folder))
}

fn open(name: &'static str, dir: &Path) -> Tiny {
    let tokens: PathBuf = dir.join("tokenizer.json");
    Tiny {
        name,
        model: load(dir, &Device::Cpu).unwrap_or_else(|e| panic!("{name}: {e}")),
        tokenizer: tokens.exists().then(|| Tokenizer::load(&tokens).unwrap_or_else(|e| panic!("{name}: {e}"))),
        processor: Weights::open(dir).and_then(|w| Processor::load(&w)).unwrap_or_else(|e| panic!("{name}: {e}")),
    }
}

/// A LLaDA checkpoint of two layers with seeded weights, and the tokenizer of the sample model of its kind.
fn write_llada(dir: &Path) {
    let sample = crate::root().join("sample_data/models/sample-diffusion");
    let of_sample = crate::json(&sample.join("config.json"));
    let vocab = of_sample["vocab_size"].as_u64().expect("a size") as usize;
    let (width, inner) = (32, 48);
    let config = json!({"model_type": "llada", "architectures": ["LLaDAModelLM"], "d_model": width, "n_layers": 2,
        "n_heads": 4, "n_kv_heads": 4, "mlp_hidden_size": inner, "vocab_size": vocab, "embedding_size": vocab,
        "weight_tying": true, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "max_sequence_length": 64,
        "block_type": "llama", "layer_norm_type": "rms", "rope": true,
        "mask_token_id": of_sample["mask_token_id"], "eos_token_id": of_sample["eos_token_id"]});
    let mut shapes = vec![("wte".to_string(), vec![vocab, width]), ("ln_f".into(), vec![width])];
    for layer in 0..2 {
        let square = ["q_proj", "k_proj", "v_proj", "attn_out"].map(|name| (name, vec![width, width]));
        let norms = ["attn_norm", "ff_norm"].map(|name| (name, vec![width]));
        let mlp = [("ff_proj", vec![inner, width]), ("up_proj", vec![inner, width]), ("ff_out", vec![width, inner])];
        let all = square.into_iter().chain(norms).chain(mlp);
        shapes.extend(all.map(|(name, shape)| (format!("blocks.{layer}.{name}"), shape)));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            // Norms near 1, matrices around 0.
            let (middle, spread) = if shape.len() == 1 { (1.0, 0.1) } else { (0.0, 0.4) };
            let mut value = || -> f32 { middle + spread * rng.random_range(-1.0..1.0) };
            let bytes = (0..shape.iter().product()).flat_map(|_| value().to_le_bytes()).collect();
            (format!("model.transformer.{name}.weight"), shape, bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("as many bytes as the shape says"))
    });
    std::fs::write(dir.join("config.json"), config.to_string()).expect("written");
    safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).expect("written");
    std::fs::copy(sample.join("tokenizer.json"), dir.join("tokenizer.json")).expect("copied");
}
