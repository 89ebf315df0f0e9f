//! What the models can do, on seeds that no training used. Each function gives lines that the card repeats.

use crate::diffusion;
use crate::lm::Row;
use crate::tower::processed;
use crate::vlm::prefix;
use crate::words::{BEGIN, SPECIAL, Words};
use anyhow::Context as _;
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::path::Path;
use tokenscope_analysis::decode::chance::Seeded;
use tokenscope_analysis::decode::mask::{Rules, write};
use tokenscope_analysis::decode::oracle::Filler;
use tokenscope_analysis::decode::{NodeState, decode, draft, reveal};
use tokenscope_analysis::image::Processor;
use tokenscope_analysis::math::argmax;
use tokenscope_analysis::math::log_sum_exp;
use tokenscope_analysis::method::Params;
use tokenscope_analysis::model::{Input, KvCache, LogitRows, Model, from_weights};
use tokenscope_analysis::passes::attention_map;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::trace::{CaptureSpec, NoTap, Tower};
use tokenscope_analysis::weights::Weights;
use tokenscope_analysis::{Ctx, Subject};
use tokenscope_generate::HELD_OUT;
use tokenscope_generate::scenes::{Ask, Question, SIDE, Scene};
use tokenscope_generate::stories::{Story, Theme};

/// A measured figure in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// How it came out.
    pub value: String,
}

fn line(what: impl Into<String>, value: impl Into<String>) -> Line {
    Line { what: what.into(), value: value.into() }
}

fn percent(right: usize, of: usize) -> String {
    format!("{:.1}% of {of}", 100.0 * right as f64 / of.max(1) as f64)
}

/// A model folder, opened as the program opens it.
pub struct Open {
    /// The model.
    pub model: Box<dyn Model>,
    /// Its tokenizer.
    pub words: Words,
    /// Its image processor.
    pub processor: Option<Processor>,
}

impl Open {
    /// Opens `dir`.
    pub fn new(dir: &Path) -> anyhow::Result<Self> {
        let weights = Weights::open(dir)?;
        let processor = Processor::load(&weights)?;
        let model = from_weights(&weights, &candle_core::Device::Cpu)?;
        Ok(Self { model, words: Words::open(dir)?, processor })
    }
}

/// Most probable next ids after each row of a text, by one pass.
fn next_ids(model: &dyn Model, ids: &[u32]) -> anyhow::Result<Vec<u32>> {
    Ok(diffusion::logits(model, ids)?.argmax(1)?.to_vec1()?)
}

/// The language model by itself: loss, recall by theme, distance and number of keys, induction heads.
pub fn lm(open: &Open, context: usize, n: u64) -> anyhow::Result<Vec<Line>> {
    let model = open.model.as_ref();
    let mut out = Vec::new();
    let (mut loss, mut right, mut of) = (0f64, 0, 0);
    for k in 0..n / 4 {
        let row = Row::new(&open.words, HELD_OUT + k, context)?;
        let rows = diffusion::logits(model, &row.ids[..row.ids.len() - 1])?.to_vec2::<f32>()?;
        for (logits, &id) in rows.iter().zip(&row.ids[1..]) {
            let best = argmax(logits).context("the logits are not finite")?;
            loss += log_sum_exp(logits) - f64::from(logits[id as usize]);
            right += usize::from(best == id as usize);
            of += 1;
        }
    }
    out.push(line("held-out loss", format!("{:.3} nats per token", loss / of.max(1) as f64)));
    out.push(line("next token", percent(right, of)));
    for theme in Theme::ALL {
        let (right, of) = links(open, (0..n).map(|k| Story::of(theme, HELD_OUT + k)), false)?;
        out.push(line(format!("decided words, {}", theme.name()), percent(right, of)));
    }
    for sentences in [0, 2, 4, 6] {
        let (right, of) = links(open, (0..n).map(|k| Story::needle(sentences, HELD_OUT + k)), true)?;
        out.push(line(format!("needle, up to {sentences} sentences back"), percent(right, of)));
    }
    for keys in [2, 4, 8] {
        let (right, of) = links(open, (0..n).map(|k| Story::key_value(keys, HELD_OUT + k)), true)?;
        out.push(line(format!("look-up among {keys} names"), percent(right, of)));
    }
    let Induction { layer, head, after, share } = induction(open)?;
    let share = share * 100.0;
    out.push(line(
        "strongest induction head",
        format!(
            "layer {layer}, head {head}: {share:.0}% of its attention {after} behind the earlier twin of the token"
        ),
    ));
    Ok(out)
}

/// How many links' answers are predicted whole, the text before them given; only the last link of each story if so asked.
fn links(open: &Open, stories: impl Iterator<Item = Story>, only_last: bool) -> anyhow::Result<(usize, usize)> {
    let (mut right, mut of) = (0, 0);
    for story in stories {
        let cut = open.words.cut(&story.text)?;
        let mut ids = vec![BEGIN];
        ids.extend(&cut.ids);
        let said = next_ids(open.model.as_ref(), &ids)?;
        let asked = if only_last { &story.links[story.links.len() - 1..] } else { &story.links[..] };
        for l in asked {
            let inside = |b: &std::ops::Range<usize>| b.start < l.answer.end && b.end > l.answer.start;
            // Row k of the ids with <s> in front predicts piece k of the text.
            right += usize::from((0..cut.ids.len()).filter(|&k| inside(&cut.bytes[k])).all(|k| said[k] == cut.ids[k]));
            of += 1;
        }
    }
    Ok((right, of))
}

/// A head that looks up what followed last time.
struct Induction {
    layer: usize,
    head: usize,
    /// Tokens from the earlier twin to where it looks.
    after: usize,
    share: f32,
}

/// On tokens of stories in random order that come twice: the head that most attends to a fixed place, at most three
/// tokens, behind the earlier twin of its own. The first layer says at each place which tokens came before, so what
/// followed the twin can be read off any of them.
fn induction(open: &Open) -> anyhow::Result<Induction> {
    let model = open.model.as_ref();
    let tower = model.info().towers.get(&Tower::Text).context("the model has no text tower")?.clone();
    let mut rng = ChaCha8Rng::seed_from_u64(HELD_OUT);
    let (n, runs) = (24, 8);
    let mut known = Vec::new();
    for k in 0..20 {
        known.extend(Row::new(&open.words, HELD_OUT + k, 128)?.ids.into_iter().filter(|&id| id >= SPECIAL));
    }
    known.sort_unstable();
    known.dedup();
    let mut sums = BTreeMap::new();
    for _ in 0..runs {
        let half: Vec<u32> = known.choose_multiple(&mut rng, n).copied().collect();
        let ids = [vec![BEGIN], half.clone(), half].concat();
        let request = RunRequest { ids: Some(ids), ..RunRequest::default() };
        let trace = run(model, None, &request, &CaptureSpec::views(), &Ctx::default())?;
        for (layer, head) in (0..tower.n_layers).flat_map(|l| (0..tower.n_heads).map(move |h| (l, h))) {
            let map = attention_map::of_trace(&trace, Tower::Text, 0, layer, head, &Ctx::default())?;
            for after in 1..=3 {
                let share: f32 = (n + 1..2 * n - 2).map(|q| map.row(q)[q - n + after]).sum();
                *sums.entry((layer, head, after)).or_insert(0f32) += share / (n - 3) as f32 / runs as f32;
            }
        }
    }
    let best = sums.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).context("the model has no heads")?;
    let ((layer, head, after), share) = best;
    Ok(Induction { layer, head, after, share })
}

/// The draft for the language model: how often its first guess is the target's own token.
pub fn draft(target: &Open, small: &Open, n: u64) -> anyhow::Result<Vec<Line>> {
    let (mut first, mut rounds, mut tokens) = (0, 0, 0);
    for k in 0..n {
        let story = Story::new(HELD_OUT + (1 << 20) + k);
        let ids = target.words.cut(&story.text)?.ids;
        let mut prompt = vec![BEGIN];
        prompt.extend(&ids[..(ids.len() / 3).max(1)]);
        let request = RunRequest { ids: Some(prompt), ..RunRequest::default() };
        let trace = run(target.model.as_ref(), None, &request, &CaptureSpec::sites(&[]), &Ctx::default())?;
        let on = Subject::new(&trace).with_model(target.model.as_ref());
        let on = Subject { partner: Some(small.model.as_ref()), ..on };
        let params = Params::new().set("new_tokens", (ids.len() - ids.len() / 3).clamp(4, 48) as i64);
        let run = decode(draft::find("speculative_sampling")?, &on, &params, &Ctx::default(), &mut |_| ())?;
        for r in &run.rounds {
            let drafted = r.nodes.iter().filter(|d| d.depth == 1);
            first += drafted.clone().filter(|d| d.state == NodeState::Accepted).count();
            rounds += drafted.count();
        }
        tokens += run.output().len() * 1000 / run.rounds.len().max(1);
    }
    Ok(vec![
        line("greedy drafts accepted at depth 1", percent(first, rounds)),
        line("tokens per round of speculative sampling", format!("{:.2}", tokens as f64 / 1000.0 / n.max(1) as f64)),
    ])
}

/// Answers of a vision-language model to questions about scenes, and to the same with another scene before its eyes.
pub fn vlm(open: &Open, n: u64) -> anyhow::Result<Vec<Line>> {
    #[derive(Default)]
    struct Count {
        of: usize,
        right: usize,
        swapped: usize,
        answers: BTreeMap<String, usize>,
    }
    let processor = open.processor.as_ref().context("the model reads no images")?;
    let mut counts: BTreeMap<Ask, Count> = BTreeMap::new();
    let seen = |seed: u64| -> anyhow::Result<KvCache> {
        let image = processed(processor, &Scene::new(seed))?;
        let n_patches = (SIDE / 8) * (SIDE / 8);
        let mut cache = KvCache::default();
        let ids = prefix(&open.words, n_patches)?;
        let mut input = Input {
            ids,
            image: Some(image),
            cache: Some(&mut cache),
            logits: Some(LogitRows::None),
            ..Input::default()
        };
        open.model.forward(&mut input, &mut NoTap, &Ctx::default())?;
        Ok(cache)
    };
    let mut before = seen(HELD_OUT + n)?;
    for k in 0..n {
        let own = seen(HELD_OUT + k)?;
        let mut asked: Vec<Question> = Vec::new();
        for q in Scene::new(HELD_OUT + k).questions() {
            if !asked.iter().any(|a| a.ask == q.ask) {
                asked.push(q);
            }
        }
        for q in asked {
            let c = counts.entry(q.ask).or_default();
            c.of += 1;
            c.right += usize::from(answer(open, &own, &q.text)? == q.answer);
            c.swapped += usize::from(answer(open, &before, &q.text)? == q.answer);
            *c.answers.entry(q.answer).or_default() += 1;
        }
        before = own;
    }
    Ok(counts
        .into_iter()
        .map(|(ask, c)| {
            let usual = c.answers.values().max().copied().unwrap_or(0);
            let share = |k: usize| 100.0 * k as f64 / c.of as f64;
            let value = format!(
                "{}; with another image {:.1}%; always the commonest answer {:.1}%",
                percent(c.right, c.of),
                share(c.swapped),
                share(usual)
            );
            line(ask.name(), value)
        })
        .collect())
}

/// The greedy answer to a question behind what is cached, without its leading space.
pub fn answer(open: &Open, seen: &KvCache, question: &str) -> anyhow::Result<String> {
    let mut cache = seen.clone();
    let mut ids = open.words.cut(question)?.ids;
    let mut said = Vec::new();
    // No right answer is longer.
    while said.len() < 48 {
        let mut input = Input { ids, cache: Some(&mut cache), logits: Some(LogitRows::Last), ..Input::default() };
        let out = open.model.forward(&mut input, &mut NoTap, &Ctx::default())?;
        let row = out.logits.context("the model gave no logits")?.squeeze(0)?.to_vec1::<f32>()?;
        let best = argmax(&row).context("the logits are not finite")? as u32;
        if best == BEGIN {
            break;
        }
        said.push(best);
        ids = vec![best];
    }
    Ok(open.words.text(&said)?.trim_start().to_string())
}

/// Masked words of stories filled in, against always saying the commonest token, and a text written from nothing.
pub fn diffusion(open: &Open, context: usize, n: u64) -> anyhow::Result<Vec<Line>> {
    let mut out = Vec::new();
    let mut counts = vec![0usize; open.words.len()];
    for k in 0..4 * n {
        Row::new(&open.words, k, context)?.ids.iter().skip(1).for_each(|&id| counts[id as usize] += 1);
    }
    let commonest = (0..counts.len()).max_by_key(|&i| counts[i]).unwrap_or(0) as u32;
    for share in [0.15, 0.5] {
        let (mut right, mut unigram, mut of) = (0, 0, 0);
        for k in 0..n {
            let mut ids = Row::new(&open.words, HELD_OUT + k, context)?.ids;
            let hidden = diffusion::mask(&mut ids, share, &mut ChaCha8Rng::seed_from_u64(k));
            let said = next_ids(open.model.as_ref(), &ids)?;
            for (i, id) in hidden {
                right += usize::from(said[i] == id);
                unigram += usize::from(id == commonest);
                of += 1;
            }
        }
        let value =
            format!("{}; always the commonest token {:.1}%", percent(right, of), 100.0 * unigram as f64 / of as f64);
        out.push(line(format!("filled in right, {:.0}% masked", share * 100.0), value));
    }
    let text = written(open, &[], 63, 32)?;
    out.push(line("63 tokens written in 32 steps from nothing", format!("\"{}\"", text.trim())));
    let start = open.words.cut("Ages: Ada is 47, Ben is 13, Cleo is 82.")?.ids;
    let text = written(open, &start, 40, 40)?;
    out.push(line("a look-up continued", format!("\"{}\"", text.trim())));
    Ok(out)
}

/// `start` and `n` tokens behind it, written in one block of `steps` steps by low-confidence remasking.
fn written(open: &Open, start: &[u32], n: usize, steps: i64) -> anyhow::Result<String> {
    let prompt: Vec<u32> = [BEGIN].iter().chain(start).copied().collect();
    let mut policy = reveal::find("llada_low_confidence")?.policy(&Params::new().set("steps", steps));
    let rules = Rules { length: n, block: n, temperature: 0.0, guidance: 0.0 };
    let (mut model, mut chance) = (Filler::new(open.model.as_ref(), None)?, Seeded::new(0));
    let text = write(&mut model, &prompt, policy.as_mut(), rules, &mut chance, &Ctx::default(), &mut |_| ())?;
    open.words.text(&text.output()[1..])
}

/// Greedy continuations of the openings of stories.
pub fn continuations(open: &Open) -> anyhow::Result<Vec<Line>> {
    [
        "Ada left the key in the garden. Ben left the map in the tower. Later Ada",
        "Remember: \"The code of the attic is 52.\" It rains in the forest. The code",
        "Ages: Ada is 47, Ben is 13, Cleo is 82. So Ben is",
        "7 + 8 =",
    ]
    .iter()
    .map(|start| {
        let mut ids = vec![BEGIN];
        ids.extend(open.words.cut(start)?.ids);
        let n = ids.len();
        while ids.len() < n + 24 {
            let next = *next_ids(open.model.as_ref(), &ids)?.last().context("an empty text")?;
            if next == BEGIN {
                break;
            }
            ids.push(next);
        }
        Ok(line(format!("\"{start}\""), format!("\"{}\"", open.words.text(&ids[n..])?)))
    })
    .collect()
}
