//! Makes the sample models of Tokenscope on the data of `tokenscope-generate`, through the program's own
//! instrumented models: their variables are handed to the library's loaders, so what is trained is what is run.

mod adam;
mod diffusion;
mod fit;
mod folder;
mod lm;
mod params;
mod plan;
mod quality;
mod shapes;
mod tower;
mod vlm;
mod words;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use fit::Place;
use plan::{MODELS, Scale};
use quality::Line;
use std::path::PathBuf;
use tokenscope_generate::scenes::Scene;
use tokenscope_generate::sized::{SIZES, Size, Stored, pair};

/// Makes and judges the sample models of Tokenscope.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Train models and write their folders; goes on from checkpoints
    Train {
        /// Models to make; all of them if none is named
        names: Vec<String>,
        /// Folder to write the model folders into
        #[arg(long, default_value = "sample_data/models")]
        out: PathBuf,
        /// Folder for checkpoints and loss logs
        #[arg(long, default_value = "target/train")]
        runs: PathBuf,
        /// A few steps only, in a temporary folder that is removed again
        #[arg(long)]
        smoke: bool,
    },
    /// Print what the models can do on held-out data
    Quality {
        /// Models to judge; those that are there if none is named
        names: Vec<String>,
        /// Folder of the model folders
        #[arg(long, default_value = "sample_data/models")]
        models: PathBuf,
        /// Held-out samples per figure
        #[arg(long, default_value_t = Scale::FULL.judged)]
        samples: u64,
    },
    /// Write scenes as PNG files with their questions beside them
    Scenes {
        /// Folder to write into
        #[arg(long)]
        out: PathBuf,
        /// First seed
        #[arg(long, default_value_t = tokenscope_generate::HELD_OUT)]
        first: u64,
        /// How many
        #[arg(long, default_value_t = 24)]
        count: u64,
    },
    /// Write a model of a real size with random weights, to measure with
    Sized {
        /// Its size
        #[arg(value_parser = SIZES.map(|s| s.name))]
        name: String,
        /// How weights are stored; q8_0 and q4_k make a GGUF file
        #[arg(long, default_value = "bf16", value_parser = Stored::ALL.map(Stored::name))]
        dtype: String,
        /// Seed of the weights
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Folder to write into
        #[arg(long)]
        out: PathBuf,
    },
    /// Write a target of 200 million random weights and a drafter that often agrees with it, to measure drafts with
    Pair {
        /// How weights are stored
        #[arg(long, default_value = "bf16", value_parser = ["bf16", "f32"])]
        dtype: String,
        /// Seed of the weights
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Folder to write the folders target and draft into
        #[arg(long)]
        out: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Args::parse().verb {
        Verb::Train { names, out, runs, smoke } => {
            let scale = if smoke { Scale::SMOKE } else { Scale::FULL };
            // A smoke run shares no checkpoints with anything and leaves the models of the repository alone.
            let temporary = std::env::temp_dir().join(format!("tokenscope-smoke-{}", std::process::id()));
            let (out, runs) = if smoke { (temporary.join("models"), temporary.join("runs")) } else { (out, runs) };
            let words = words::Words::train(scale.tokenizer)?;
            println!("vocabulary {}", words.len());
            let place = Place { dir: runs, every: 100 };
            for name in chosen(&names)? {
                let figures = plan::make(name, &words, &scale, &place, &out)?;
                print(name, &figures);
            }
            if smoke {
                std::fs::remove_dir_all(&temporary)
                    .with_context(|| format!("cannot remove {}", temporary.display()))?;
            }
        }
        Verb::Quality { names, models, samples } => {
            for name in chosen(&names)? {
                if !names.is_empty() || models.join(name).exists() {
                    print(name, &plan::judge(name, &models, samples)?);
                }
            }
        }
        Verb::Sized { name, dtype, seed, out } => {
            let size = Size::named(&name).context("a size of that name")?;
            let stored = Stored::ALL.into_iter().find(|s| s.name() == dtype).context("a type of that name")?;
            size.write(stored, seed, &out).with_context(|| format!("cannot write the model: {}", out.display()))?;
            println!("{name} in {dtype}, {} parameters: {}", size.n_params(), out.display());
        }
        Verb::Pair { dtype, seed, out } => {
            let stored = Stored::ALL.into_iter().find(|s| s.name() == dtype).context("a type of that name")?;
            pair::write(stored, seed, &out).with_context(|| format!("cannot write the pair: {}", out.display()))?;
            let (target, draft) = (pair::TARGET.n_params(), pair::DRAFT.n_params());
            println!("target of {target} and draft of {draft} parameters in {dtype}: {}", out.display());
        }
        Verb::Scenes { out, first, count } => {
            std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
            for seed in first..first + count {
                let scene = Scene::new(seed);
                let put = |end: &str, bytes: &[u8]| {
                    let file = out.join(format!("{seed}.{end}"));
                    std::fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))
                };
                put("png", &tower::picture(&scene)?.to_png()?)?;
                let lines: String =
                    scene.questions().iter().map(|q| format!("{}\t{}\t{}\n", q.ask.name(), q.text, q.answer)).collect();
                put("txt", lines.as_bytes())?;
            }
        }
    }
    Ok(())
}

/// The named models, or all.
fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static str>> {
    if names.is_empty() {
        return Ok(MODELS.to_vec());
    }
    let find = |n: &String| MODELS.iter().copied().find(|m| m == n);
    names
        .iter()
        .map(|n| find(n).with_context(|| format!("there is no model {n}; there are {}", MODELS.join(", "))))
        .collect()
}

fn print(name: &str, figures: &[Line]) {
    println!("\n{name}");
    for l in figures {
        println!("  {:<44} {}", l.what, l.value);
    }
}
