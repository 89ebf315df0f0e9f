//! Makes the sample models of Tokenscope: generates stories, trains a tokenizer on them, then two small
//! language models, and writes them in Hugging Face format.
//!
//! `cargo run --release -p tokenscope-train -- --out sample_data/models` reproduces them;
//! `--smoke` does it all in seconds to prove that the program works.

mod net;
mod stories;
mod write;

use anyhow::Context as _;
use candle_core::{D, DType, Device, Tensor};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use candle_nn::{VarBuilder, VarMap};
use clap::Parser;
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::path::PathBuf;
use std::time::Instant;

/// Generates the stories and trains the sample language models.
#[derive(Debug, Parser)]
struct Args {
    /// Folder to write `sample-lm` and `sample-draft` into
    #[arg(long)]
    out: PathBuf,
    /// Training steps per model
    #[arg(long, default_value_t = 3000)]
    steps: usize,
    /// Stop each model's training after this many seconds
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// A few steps only
    #[arg(long)]
    smoke: bool,
    /// Train only the model of this name
    #[arg(long)]
    only: Option<String>,
}

/// Seed of everything random.
const SEED: u64 = 20;
/// Tokens per training row.
const CONTEXT: usize = 96;
/// Rows per step.
const BATCH: usize = 16;
/// Largest learning rate.
const RATE: f64 = 3e-3;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let (n_train, steps) = if args.smoke { (300, 5) } else { (20_000, args.steps) };
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let train = stories::many(n_train, &mut rng);
    let held_out = stories::many(200, &mut ChaCha8Rng::seed_from_u64(SEED + 1));
    let tokenizer = write::train_tokenizer(&train)?;
    let encode = |texts: &[String]| -> anyhow::Result<Vec<u32>> {
        let mut out = Vec::new();
        for t in texts {
            let e = tokenizer.encode(t.as_str(), true).map_err(|e| anyhow::anyhow!("{e}"))?;
            out.extend_from_slice(e.get_ids());
        }
        Ok(out)
    };
    let (train, held_out) = (encode(&train)?, encode(&held_out)?);
    println!(
        "{} training tokens, {} held out, vocabulary {}",
        train.len(),
        held_out.len(),
        tokenizer.get_vocab_size(true)
    );
    let vocab = tokenizer.get_vocab_size(true);
    let shapes = [
        ("sample-lm", net::Shape { vocab, width: 128, heads: 4, kv_heads: 2, layers: 4, inner: 320 }),
        ("sample-draft", net::Shape { vocab, width: 48, heads: 2, kv_heads: 1, layers: 1, inner: 128 }),
    ];
    for (name, shape) in shapes {
        if args.only.as_deref().is_some_and(|o| o != name) {
            continue;
        }
        let result = train_one(name, &shape, &train, &held_out, steps, args.seconds)?;
        let dir = args.out.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        write::model(&dir, name, &shape, &result, &tokenizer, CONTEXT)?;
        println!("wrote {}", dir.display());
    }
    Ok(())
}

/// A trained model and the figures for its card.
struct Trained {
    vars: VarMap,
    steps: usize,
    seconds: f64,
    held_out_loss: f32,
    held_out_accuracy: f32,
}

fn train_one(
    name: &str,
    shape: &net::Shape,
    train: &[u32],
    held_out: &[u32],
    steps: usize,
    seconds: u64,
) -> anyhow::Result<Trained> {
    let device = Device::Cpu;
    let vars = VarMap::new();
    let net = net::Net::new(shape, VarBuilder::from_varmap(&vars, DType::F32, &device), CONTEXT)?;
    let mut optimizer =
        AdamW::new(vars.all_vars(), ParamsAdamW { lr: RATE, weight_decay: 0.05, ..Default::default() })?;
    let mut rng = ChaCha8Rng::seed_from_u64(SEED + 2);
    let start = Instant::now();
    let mut done = 0;
    for step in 0..steps {
        // The shares of time and steps that are gone decide the rate, so that it always ends near zero.
        let gone = (step as f64 / steps as f64).max(start.elapsed().as_secs_f64() / seconds as f64);
        if gone >= 1.0 {
            break;
        }
        let warm = ((step + 1) as f64 / 50.0).min(1.0);
        optimizer.set_learning_rate(RATE * warm * (0.02 + 0.98 * 0.5 * (1.0 + (std::f64::consts::PI * gone).cos())));
        let starts: Vec<usize> = (0..BATCH).map(|_| rng.random_range(0..train.len() - CONTEXT - 1)).collect();
        let (x, y) = rows(train, &starts, &device)?;
        let loss = net.loss(&x, &y)?;
        optimizer.backward_step(&loss)?;
        done = step + 1;
        if step % 50 == 0 {
            println!(
                "{name} step {step} loss {:.3} after {:.0} s",
                loss.to_scalar::<f32>()?,
                start.elapsed().as_secs_f64()
            );
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let n = 8.min((held_out.len() - 1) / CONTEXT);
    let (x, y) = rows(held_out, &(0..n).map(|i| i * CONTEXT).collect::<Vec<_>>(), &device)?;
    let held_out_loss = net.loss(&x, &y)?.to_scalar::<f32>()?;
    let right = net.logits(&x)?.argmax(D::Minus1)?.eq(&y)?.to_dtype(DType::F32)?.mean_all()?.to_scalar::<f32>()?;
    println!("{name}: held-out loss {held_out_loss:.3} nats, next token right {:.1}%", right * 100.0);
    Ok(Trained { vars, steps: done, seconds, held_out_loss, held_out_accuracy: right })
}

/// Inputs and next tokens, `[rows, CONTEXT]`.
fn rows(tokens: &[u32], starts: &[usize], device: &Device) -> anyhow::Result<(Tensor, Tensor)> {
    let take = |shift: usize| -> anyhow::Result<Tensor> {
        let flat: Vec<u32> =
            starts.iter().flat_map(|&s| tokens[s + shift..s + shift + CONTEXT].iter().copied()).collect();
        Ok(Tensor::from_vec(flat, (starts.len(), CONTEXT), device)?)
    };
    Ok((take(0)?, take(1)?))
}
