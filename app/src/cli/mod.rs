//! The command line: every verb builds the same requests as the window and runs them one after another.
//!
//! Exit codes: 0 fine, 1 a check failed, 2 bad input.

mod atlas;
mod beside;
mod common;
mod compare;
mod decode;
mod doctor;
mod draft;
mod examples;
mod figure;
mod gather;
mod image;
mod info;
mod input;
mod judge;
mod leaderboard;
mod lesson;
mod licences;
mod method;
mod methods;
mod recorder;
mod render;
mod report;
mod run;
mod session;
mod terminal;
mod tokenize;
mod trace;
mod verify;

use anyhow::bail;
use clap::builder::ValueParser;
use clap::{Arg, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::process::ExitCode;
use tokenscope_analysis::threads::alone;

const ENVIRONMENT: &str = "Environment:
  TOKENSCOPE_COMPUTE=auto|cpu|gpu  where attention maps and other passes are computed: auto takes a hardware graphics
                                   adapter where there is one, gpu takes a software one, too; `tokenscope doctor`
                                   says what that means here
  TOKENSCOPE_WEIGHTS=auto|f32|stored
                                   where weights are: f32 brings them into memory, stored leaves them in their file and
                                   makes parts of them f32 when they are needed; auto brings up to 4 GB into memory,
                                   if that is at most half of what is free; --weights counts before it
  TOKENSCOPE_DTYPE=f32|bf16        numbers that weight matrices are in: bf16 rounds them, in half of the memory; all else
                                   is computed in f32; --dtype counts before it, and what a session says
  TOKENSCOPE_DEVICE=cpu|cuda|cuda:N|metal|auto
                                   what computes models, in builds that can on more than the processor; --device counts
                                   before it, and what a session says
  TOKENSCOPE_MEMORY=MB             takes no more than so much memory for granted, if less is free
  TOKENSCOPE_SPILL=FOLDER          where a run keeps what memory has no room for, as /var/tmp";

/// A microscope for tokens. Without a verb it opens the window
#[derive(Debug, Parser)]
#[command(name = "tokenscope", version = crate::VERSION, after_help = ENVIRONMENT)]
pub struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Session, model folder, GGUF file or trace to open in the window
    #[arg(value_name = "FILE", conflicts_with = "open")]
    file: Option<std::path::PathBuf>,
    /// The same, whatever its name
    #[arg(long, visible_alias = "trace", value_name = "PATH")]
    open: Option<std::path::PathBuf>,
    #[command(flatten)]
    image: common::Images,
    #[command(flatten)]
    weights: common::Numbered,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the methods the program holds
    Methods(methods::Args),
    /// List the papers the program is to show and what it does of each
    Atlas(atlas::Args),
    /// Run a model once and write what it left behind
    Trace(trace::Args),
    /// Print a Python file that records runs of any transformers model: tokenscope recorder > tokenscope_record.py
    Recorder(recorder::Args),
    /// Cut a text with a tokenizer, or compare several
    Tokenize(tokenize::Args),
    /// Decode a picture, or draw a model's token grid on it
    Image(image::Args),
    /// List the examples of the gallery, for --example
    Examples(examples::Args),
    /// List the lessons: guided walks through the window
    Lessons(lesson::ListArgs),
    /// Open the window on a lesson, or check what it claims
    Lesson(lesson::Args),
    /// Run a method on a model and an input
    Run(run::RunArgs),
    /// Judge scores or reductions by the truth of many inputs that no training used
    Judge(judge::Args),
    /// Hold reductions against the full model on many pictures and questions, the program's or your own
    Leaderboard(Box<leaderboard::Args>),
    /// Decode speculatively and write every round; prove that it is lossless, or compare several methods
    Draft(draft::Args),
    /// Write by filling in masks, and which position was revealed when
    Decode(decode::Args),
    /// Compute a flow graph and write its edges
    Flow(run::FlowArgs),
    /// Say what a session file holds
    Session(session::Args),
    /// Say what one run has minus what another has: two prompts, models, heads, methods
    Compare(Box<compare::Args>),
    /// Draw a view without a window
    Render(Box<render::Args>),
    /// Write a report: settings, figures with their commands, numbers and papers, as HTML or PDF
    Report(Box<report::Args>),
    /// Run a method on raw arrays
    Method(method::Args),
    /// Say what this machine offers and whether the program works on it
    Doctor(doctor::Args),
    /// Compare what a model computes with a stored reference; exit code 1 where it differs
    Verify(verify::Args),
    /// Say what a model folder or file holds and what a run would cost
    Info(info::Args),
    /// Say whose work is in the program, and on what terms
    Licences(licences::Args),
}

/// Reads the arguments, runs the verb or opens the window, and says how it went.
pub fn main() -> ExitCode {
    let cli = parse();
    settle_libraries(cli.verb.is_none());
    terminal::guarded(|| carry_out(cli))
}

fn carry_out(cli: Cli) -> anyhow::Result<()> {
    if let Some(verb) = cli.verb {
        return alone(|| carry_out_verb(verb));
    }
    // A verb that was mistyped is no file.
    if let Some(file) = cli.file.as_ref().filter(|f| !f.exists()) {
        bail!("no verb and no file named {}; tokenscope --help lists the verbs", file.display());
    }
    let image = cli.image.source()?;
    crate::app::open_window(
        cli.open.or(cli.file).as_deref(),
        image,
        None,
        (cli.weights.given()?, cli.weights.given_placement()?),
    )
}

fn carry_out_verb(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Methods(a) => methods::run(a),
        Verb::Atlas(a) => atlas::run(a),
        Verb::Trace(a) => trace::run(a),
        Verb::Recorder(a) => recorder::run(a),
        Verb::Tokenize(a) => tokenize::run(a),
        Verb::Image(a) => image::run(a),
        Verb::Examples(a) => examples::run(a),
        Verb::Lessons(a) => lesson::list(a),
        Verb::Lesson(a) => lesson::run(a),
        Verb::Run(a) => run::run(a),
        Verb::Judge(a) => judge::run(a),
        Verb::Leaderboard(a) => leaderboard::run(*a),
        Verb::Draft(a) => draft::run(a),
        Verb::Decode(a) => decode::run(a),
        Verb::Flow(a) => run::flow(a),
        Verb::Session(a) => session::run(a),
        Verb::Compare(a) => compare::run(*a),
        Verb::Render(a) => render::run(*a),
        Verb::Report(a) => report::run(*a),
        Verb::Method(a) => method::run(a),
        Verb::Doctor(a) => doctor::run(a),
        Verb::Verify(a) => verify::run(a),
        Verb::Info(a) => info::run(a),
        Verb::Licences(a) => licences::run(a),
    }
}

/// Reads the arguments. A text or a number that begins with a dash is the value of the option before it.
fn parse() -> Cli {
    let dashes = |arg: Arg| {
        let own = |p: ValueParser| p.type_id() == arg.get_value_parser().type_id();
        let words = own(clap::value_parser!(String))
            || own(clap::value_parser!(f32).into())
            || own(clap::value_parser!(f64).into());
        let option = arg.get_long().is_some() && arg.get_action().takes_values();
        if option && words { arg.allow_hyphen_values(true) } else { arg }
    };
    let command = Cli::command().mut_subcommands(|verb| verb.mut_args(dashes));
    Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|e| e.exit())
}

/// Settings of libraries that are read from the environment; what stands there already is kept.
fn settle_libraries(window: bool) {
    let set = |name: &str, value: &str| {
        if std::env::var_os(name).is_none() {
            #[expect(unsafe_code, reason = "no other thread runs yet that could read the environment")]
            unsafe {
                std::env::set_var(name, value);
            }
        }
    };
    // Threads of the tensor library would wait for their next sum without sleep, on a core that our products need.
    set("CANDLE_BARRIER_POOL_SPIN_LIMIT", "1");
    // Mesa's layer that chooses between graphics cards asks for a desktop and complains on standard error where there is
    // none. Verbs ask for the fastest card themselves.
    let desktop = std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|d| std::path::Path::new(&d).is_dir());
    if !window && !desktop {
        set("NODEVICE_SELECT", "1");
    }
}
