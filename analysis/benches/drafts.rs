//! What the draft methods gain on the sample pair, by method: the time of a plain decode over that of a draft, and the
//! same as it follows from how much was accepted and from what passes cost when they do nothing else: a round is the
//! passes of the draft model and one pass of the target over as many rows as the tree has. What a decode takes beyond
//! its passes is shown as its share of a round.

use candle_core::Device;
use std::cell::Cell;
use std::path::Path;
use std::time::Instant;
use tokenscope_analysis::decode::chance::{Chance, Seeded};
use tokenscope_analysis::decode::cut::Cut;
use tokenscope_analysis::decode::engine::{Decode, Draft, Rules, Turn, Verified};
use tokenscope_analysis::decode::oracle::{Oracle, Reader};
use tokenscope_analysis::decode::row::Row;
use tokenscope_analysis::decode::tree::Tree;
use tokenscope_analysis::decode::{DraftRun, With, draft};
use tokenscope_analysis::method::Params;
use tokenscope_analysis::model::{Model, load};
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::threads::alone;
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{CaptureSpec, Trace};
use tokenscope_analysis::{Ctx, Result, Subject};

/// The first example of the gallery.
const PROMPT: &str = "Max left the drum in the forest. Vera left the shell in the harbour. Later Vera looked for the \
    shell and found it in the";
const NEW: usize = 32;
/// Decodes of each kind, in turns.
const TURNS: usize = 41;

/// Seconds of a decode by what they went to.
#[derive(Debug, Default, Clone, Copy)]
struct Split {
    /// Guessing and learning, the draft model's passes included.
    draft: f64,
    /// Passes of the target.
    verify: f64,
    all: f64,
}

/// Adds what `f` takes to `to`.
fn timed<T>(to: &Cell<f64>, f: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let out = f();
    to.set(to.get() + start.elapsed().as_secs_f64());
    out
}

#[derive(Clone)]
struct TimedOracle<'a> {
    own: Reader<'a>,
    time: &'a Cell<f64>,
}

impl Oracle for TimedOracle<'_> {
    fn vocab(&self) -> usize {
        self.own.vocab()
    }
    fn len(&self) -> usize {
        self.own.len()
    }
    fn read(&mut self, ids: &[u32], ctx: &Ctx) -> Result<Vec<Row>> {
        timed(self.time, || self.own.read(ids, ctx))
    }
    fn read_tree(&mut self, ids: &[u32], parents: &[usize], ctx: &Ctx) -> Result<Vec<Row>> {
        timed(self.time, || self.own.read_tree(ids, parents, ctx))
    }
    fn keep(&mut self, tokens: &[usize]) -> Result<()> {
        self.own.keep(tokens)
    }
}

struct TimedDraft<'a> {
    own: Box<dyn Draft + 'a>,
    time: &'a Cell<f64>,
}

impl Draft for TimedDraft<'_> {
    fn grow(&mut self, turn: &Turn, chance: &mut dyn Chance, ctx: &Ctx) -> Result<Tree> {
        timed(self.time, || self.own.grow(turn, chance, ctx))
    }
    fn learn(&mut self, round: &Verified, ctx: &Ctx) -> Result<()> {
        timed(self.time, || self.own.learn(round, ctx))
    }
}

struct Pair {
    target: Box<dyn Model>,
    small: Box<dyn Model>,
    trace: Trace,
    ids: Vec<u32>,
}

impl Pair {
    fn open() -> Self {
        let folder = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample_data/models").join(name);
        let open = |name: &str| load(&folder(name), &Device::Cpu).expect("the sample model loads");
        let (target, small) = (open("sample-lm"), open("sample-draft"));
        let tokenizer = Tokenizer::load(&folder("sample-lm").join("tokenizer.json")).expect("its tokenizer loads");
        let ids = tokenizer.encode(PROMPT, None, true).expect("the prompt is cut").ids;
        let request = RunRequest { ids: Some(ids.clone()), ..RunRequest::default() };
        let trace = run(target.as_ref(), None, &request, &CaptureSpec::sites(&[]), &Ctx::default()).expect("it runs");
        Self { target, small, trace, ids }
    }

    fn before<'a>(&self, model: &'a dyn Model) -> Reader<'a> {
        let mut reader = Reader::new(model);
        reader.begin(&self.ids[..self.ids.len() - 1], None, &Ctx::default()).expect("the prompt is read");
        reader
    }

    /// A decode with `method`, its own check left out.
    fn decode(&self, method: &str) -> (DraftRun, Split) {
        let ctx = Ctx::default();
        let method = draft::find(method).expect("a method of the library");
        let on = Subject {
            partner: Some(self.small.as_ref()),
            ..Subject::new(&self.trace).with_model(self.target.as_ref())
        };
        let (drafting, verifying) = (Cell::default(), Cell::default());
        let target = TimedOracle { own: self.before(self.target.as_ref()), time: &verifying };
        let with = With { on: &on, info: method.info(), cut: Cut::NONE, shared: None };
        let own = method.draft(&with, &Params::new(), &ctx).expect("it begins");
        let mut draft = TimedDraft { own, time: &drafting };
        let verify = method.verify(&with, &Params::new(), &ctx).expect("it begins");
        let rules = Rules { new: NEW, rounds: usize::MAX, temperature: 0.0, end: Vec::new() };
        let whole = Decode { target, prompt: &self.ids, draft: &mut draft, verify: verify.as_ref(), rules };
        let start = Instant::now();
        let mut split = Split::default();
        let mut round = |_: &DraftRun| {
            split = Split { all: start.elapsed().as_secs_f64(), draft: drafting.get(), verify: verifying.get() }
        };
        let run = whole.run(&mut Seeded::new(0), &ctx, &mut round).expect("it decodes");
        assert!(run.lossless.as_ref().is_none_or(|l| l.0), "the text is the target's own");
        (run, split)
    }

    /// As many tokens one by one.
    fn plain(&self, model: &dyn Model) -> f64 {
        let (mut reader, mut last) = (self.before(model), self.ids[self.ids.len() - 1]);
        let start = Instant::now();
        for _ in 0..NEW {
            last = reader.read(&[last], &Ctx::default()).expect("it reads")[0].best() as u32;
        }
        start.elapsed().as_secs_f64()
    }

    /// A pass of the target over each round's tree, behind a text of that length.
    fn passes(&self, run: &DraftRun) -> f64 {
        let (mut reader, mut read) = (self.before(self.target.as_ref()), self.ids.len() - 1);
        let mut secs = 0.0;
        for r in &run.rounds {
            let tokens: Vec<u32> = std::iter::once(r.root).chain(r.nodes.iter().map(|n| n.token)).collect();
            let parents: Vec<usize> =
                std::iter::once(0).chain(r.nodes.iter().map(|n| n.parent.map_or(0, |p| p + 1))).collect();
            let chain = parents.iter().enumerate().skip(1).all(|(i, p)| p + 1 == i);
            let start = Instant::now();
            match chain {
                true => reader.read(&tokens, &Ctx::default()),
                false => reader.read_tree(&tokens, &parents, &Ctx::default()),
            }
            .expect("it reads");
            secs += start.elapsed().as_secs_f64();
            read += 1 + r.accepted().len();
            reader = self.before(self.target.as_ref());
            let text: Vec<u32> = self.ids.iter().copied().chain(run.output()).take(read).collect();
            reader.read(&text[self.ids.len() - 1..], &Ctx::default()).expect("it reads");
        }
        secs
    }
}

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_unstable_by(f64::total_cmp);
    x[x.len() / 2]
}

fn main() {
    alone(all);
}

fn all() {
    // Under `cargo test` a bench only has to run.
    let turns = if std::env::args().any(|a| a == "--bench") { TURNS } else { 1 };
    let pair = Pair::open();
    println!("{NEW} tokens of the sample pair; medians of {turns} decodes in turns\n");
    println!(
        "method                  measured  follows  of it   plain ms  decode ms  draft  verify  rest   one-pass theory"
    );
    for method in draft::ALL {
        let id = method.info().id;
        let (run, _) = pair.decode(id);
        let (mut plain, mut small, mut passes, mut splits) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..turns {
            plain.push(pair.plain(pair.target.as_ref()));
            small.push(pair.plain(pair.small.as_ref()));
            splits.push(pair.decode(id).1);
            passes.push(pair.passes(&run));
        }
        let of = |f: fn(&Split) -> f64| median(splits.iter().map(f).collect());
        let (plain, small, passes, all) = (median(plain), median(small), median(passes), of(|s| s.all));
        let guesses = run.draft_passes_per_round() * run.rounds.len() as f64 * small / NEW as f64;
        let (measured, follows) = (plain / all, plain / (passes + guesses));
        let share = |f: fn(&Split) -> f64| 100.0 * of(f) / all;
        println!(
            "{id:<24}{measured:7.2}{follows:9.2}{:8.2}{:10.2}{:11.2}{:7.0}%{:7.0}%{:5.0}%{:12.2}",
            measured / follows,
            plain * 1e3,
            all * 1e3,
            share(|s| s.draft),
            share(|s| s.verify),
            share(|s| s.all - s.draft - s.verify),
            run.tokens_per_round() / (1.0 + run.draft_passes_per_round() * small / plain),
        );
    }
}
