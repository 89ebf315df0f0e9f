//! The command line: every verb builds the same requests as the window and runs them one after another.
//!
//! Exit codes: 0 fine, 1 a check failed, 2 bad input.

mod common;
mod doctor;
mod draft;
mod flow;
mod image;
mod info;
mod method;
mod methods;
mod render;
mod run;
mod tokenize;
mod trace;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// A desktop microscope for tokens. Without a verb it opens the window.
#[derive(Debug, Parser)]
#[command(name = "tokenscope", version)]
pub struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Model folder, GGUF file, trace or image to open in the window
    #[arg(value_name = "PATH")]
    open: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the methods the program holds
    Methods(methods::Args),
    /// Run a model once and write what it left behind
    Trace(trace::Args),
    /// Cut a text with one tokenizer
    Tokenize(tokenize::Args),
    /// Write an image as decoded, with a model's token grid if one is given
    Image(image::Args),
    /// Run a score or pruning method on a model and an input
    Run(run::Args),
    /// Run a method on raw arrays
    Method(method::Args),
    /// Decode with a draft method, round by round
    Draft(draft::Args),
    /// Compute a flow graph
    Flow(flow::Args),
    /// Draw a view without a window, as PNG or SVG
    Render(render::Args),
    /// Say what a model folder or file holds and what a run would cost
    Info(info::Args),
    /// Check this machine: adapters, limits, fonts, versions
    Doctor(doctor::Args),
}

/// Reads the arguments, runs the verb or opens the window, and says how it went.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.verb {
        None => crate::app::open_window(&cli.open),
        Some(Verb::Methods(a)) => methods::run(a),
        Some(Verb::Trace(a)) => trace::run(a),
        Some(Verb::Tokenize(a)) => tokenize::run(a),
        Some(Verb::Image(a)) => image::run(a),
        Some(Verb::Run(a)) => run::run(a),
        Some(Verb::Method(a)) => method::run(a),
        Some(Verb::Draft(a)) => draft::run(a),
        Some(Verb::Flow(a)) => flow::run(a),
        Some(Verb::Render(a)) => render::run(a),
        Some(Verb::Info(a)) => info::run(a),
        Some(Verb::Doctor(a)) => doctor::run(a),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.is::<CheckFailed>() => {
            eprintln!("{e}");
            ExitCode::from(1)
        }
        Err(e) => {
            eprintln!("tokenscope: {e:#}");
            ExitCode::from(2)
        }
    }
}

/// A check that ran and did not hold: exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CheckFailed(pub String);
