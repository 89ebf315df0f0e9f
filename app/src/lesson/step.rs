//! A step of a lesson: what is shown, what is pointed at, what is said and claimed.

use super::claim::Claim;
use super::fields::{Fields, Wrong};
use super::token::TokenAt;
use crate::examples;
use crate::heatmap::Curve;
use crate::keys::{Call, ModelSource};
use crate::pane::{Drill, Measure, Pane};
use crate::picture_source::PictureSource;
use crate::selection::{Pick, Selection};
use crate::series_source::SeriesSource;
use crate::state::{Command, Doc};
use crate::views::{self, PARTS};
use serde_json::{Map, Value};
use std::path::Path;
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::{Kind, Need, Params, Role};
use tokenscope_analysis::segment::{self, Reads};
use tokenscope_analysis::trace::{Tower, Trace};

/// A step.
#[derive(Debug, Clone)]
pub struct Step {
    /// The caption.
    pub says: String,
    /// What is shown, without what hangs on the run's tokens.
    pane: Pane,
    select: Vec<TokenAt>,
    drill: Option<DrillAt>,
    /// The view that has the window to itself, by its number; `None` shows all.
    pub view: Option<usize>,
    /// Whether the panel of sources is open.
    pub sources: bool,
    /// What is pointed at: all that lies between these places.
    pub at: Vec<Place>,
    /// What the run must offer besides what the chosen methods need.
    pub needs: Vec<Need>,
    /// What the caption claims.
    pub claims: Vec<Claim>,
}

/// How far the flow is drilled, with tokens as a lesson names them.
#[derive(Debug, Clone)]
struct DrillAt {
    level: usize,
    token: TokenAt,
    from: Option<TokenAt>,
    head: Option<usize>,
}

/// A place in the window.
#[derive(Debug, Clone)]
pub struct Place {
    /// The view that it is in, by its number; `None` is anywhere.
    pub view: Option<usize>,
    /// The part of the importance view that it is in.
    pub part: Option<usize>,
    /// What of it.
    pub what: What,
}

/// What a place is.
#[derive(Debug, Clone)]
pub enum What {
    /// All of the view, or of its part.
    Whole,
    /// A token of the run.
    Token(TokenAt),
    /// What has this name for a screen reader, and the `nth` of those from 1.
    Control(String, usize),
}

/// What a step may need, by name.
const NEEDS: [(&str, Need); 12] = [
    ("tokenizer", Need::Tokenizer),
    ("attention", Need::Attention),
    ("values", Need::Values),
    ("residual", Need::Residual),
    ("logits", Need::Logits),
    ("image_tokens", Need::ImageTokens),
    ("reads_image", Need::ReadsImage),
    ("class_token", Need::ClassToken),
    ("head_parts", Need::HeadParts),
    ("gradients", Need::Gradients),
    ("writes", Need::Writes),
    ("fills", Need::Fills),
];

impl Step {
    /// What is shown: on the user's own model, if that is given, else on the lesson's.
    pub fn pane(&self, own: Option<&ModelSource>) -> Pane {
        let mut pane = self.pane.clone();
        if let Some(own) = own {
            pane.run.model = own.clone();
        }
        pane
    }

    /// Selects and drills to the tokens that the step names. Errors: what the step needs and the run does not have, in
    /// words.
    pub fn aim(&self, pane: &mut Pane, trace: &Trace) -> Result<(), String> {
        self.aim_at(pane, trace).map_err(|why| format!("needs a token that is not there: {why}"))
    }

    fn aim_at(&self, pane: &mut Pane, trace: &Trace) -> Result<(), String> {
        let Some(tower) = trace.towers.get(&pane.tower_of(trace)) else { return Ok(()) };
        let mut aim = Selection::default();
        for at in &self.select {
            let i = at.find(&tower.tokens)?;
            if !aim.contains(i) {
                aim = aim.picked(i, i, Pick::Toggle);
            }
        }
        pane.aim = aim;
        if let Some(d) = &self.drill {
            let from = d.from.as_ref().map(|f| f.find(&tower.tokens)).transpose()?;
            let token = d.token.find(&tower.tokens)?;
            pane.cursor.drill = Some(Drill { level: d.level, token, from, head: d.head });
        }
        Ok(())
    }

    /// Whether something of what is shown hangs on the run's tokens.
    pub fn aims(&self) -> bool {
        !self.select.is_empty() || self.drill.is_some()
    }

    /// Reads step `i` of a lesson in `folder`, which goes on from `before`.
    pub(super) fn read(file: &str, folder: Option<&Path>, i: usize, v: Value, before: &Step) -> Result<Self, Wrong> {
        let mut f = Fields::new(file, format!("step {i}"), v)?;
        let says = f.words("says", "what the step says")?;
        let mut doc = Doc::of(before.pane.clone());
        run(&mut f, folder, &mut doc)?;
        methods(&mut f, &mut doc)?;
        shows(&mut f, doc.pane_mut())?;
        let mut step = Step {
            says,
            pane: doc.pane().clone(),
            select: Vec::new(),
            drill: None,
            view: before.view,
            sources: f.get("sources", "true or false")?.unwrap_or(before.sources),
            at: Vec::new(),
            needs: Vec::new(),
            claims: Vec::new(),
        };
        if let Some(view) = f.get::<String>("view", "the name of a view, or all")? {
            step.view = if view == "all" { None } else { Some(view_of(&f, "view", &view)?) };
        }
        for (place, v) in f.list("select")?.unwrap_or_default() {
            step.select.push(TokenAt::read(&v).map_err(|why| wrong_at(&f, place, why))?);
        }
        step.drill = f.object("drill")?.map(drill).transpose()?;
        for (at, v) in f.one_or_more("at")? {
            step.at.push(place(Fields::new(file, at, v)?, step.view)?);
        }
        for name in f.get::<Vec<String>>("needs", "a list of names")?.unwrap_or_default() {
            let known = || NEEDS.map(|n| n.0).join(", ");
            let need = NEEDS.iter().find(|n| n.0 == name);
            step.needs.push(need.ok_or_else(|| f.wrong("needs", format!("{name} is unknown; known: {}", known())))?.1);
        }
        for (place, v) in f.list("claims")?.unwrap_or_default() {
            step.claims.push(Claim::read(file, place, v)?);
        }
        f.end()?;
        Ok(step)
    }

    /// What the first step goes on from.
    pub(super) fn start() -> Self {
        Self {
            says: String::new(),
            pane: Pane::default(),
            select: Vec::new(),
            drill: None,
            view: None,
            sources: false,
            at: Vec::new(),
            needs: Vec::new(),
            claims: Vec::new(),
        }
    }
}

fn wrong_at(f: &Fields, place: String, what: String) -> Wrong {
    Wrong { place, ..f.wrong("", what) }
}

/// Model and input.
fn run(f: &mut Fields, folder: Option<&Path>, doc: &mut Doc) -> Result<(), Wrong> {
    // Files lie where the lesson lies.
    let beside = |path: &str| match folder {
        Some(dir) => dir.join(path),
        None => path.into(),
    };
    if let Some(name) = f.get::<String>("example", "the name of an example")? {
        let example = examples::find(&name).map_err(|why| f.wrong("example", why))?;
        *doc = Doc::of(example.pane(doc.pane()));
    }
    let model = |name: &str| match crate::samples::find(name) {
        Some(sample) => ModelSource::Sample(sample),
        None => ModelSource::of_path(beside(name)),
    };
    if let Some(name) = f.get::<String>("model", "the name of a sample, or a path")? {
        doc.apply(Command::Model(model(&name)));
    }
    if let Some(name) = f.get::<String>("draft_model", "the name of a sample, or a path")? {
        doc.pane_mut().partner = model(&name);
    }
    if let Some(text) = f.get::<String>("prompt", "a text")? {
        doc.apply(Command::Prompt(text.into()));
    }
    if let Some(image) = f.get::<String>("image", "scene:SEED, a file, or none")? {
        let image = match image.as_str() {
            "none" => None,
            drawn if drawn.starts_with("scene:") => {
                Some(PictureSource::parse(drawn.into()).map_err(|why| f.wrong("image", why))?)
            }
            path => Some(PictureSource::File(beside(path))),
        };
        doc.apply(Command::Image(image));
    }
    if let Some(series) = f.get::<String>("series", "signal:SEED, a file, or none")? {
        let series = match series.as_str() {
            "none" => None,
            made if made.starts_with("signal:") => {
                Some(SeriesSource::parse(made.into(), None, None).map_err(|why| f.wrong("series", why))?)
            }
            path => Some(SeriesSource::file(beside(path))),
        };
        doc.apply(Command::Series(series));
    }
    if let Some(name) = f.get::<String>("tower", "text, vision, or main")? {
        let tower = match name.as_str() {
            "text" => Some(Tower::Text),
            "vision" => Some(Tower::Vision),
            "main" => None,
            _ => return Err(f.wrong("tower", "write text, vision, or main")),
        };
        doc.apply(Command::Tower(tower));
    }
    Ok(())
}

/// Methods of any kind with their parameters.
fn methods(f: &mut Fields, doc: &mut Doc) -> Result<(), Wrong> {
    for key in ["methods", "beside"] {
        for (at, v) in f.list(key)?.unwrap_or_default() {
            let v = match v {
                Value::String(id) => Value::Object(Map::from_iter([("method".to_string(), id.into())])),
                v => v,
            };
            let call: Call = serde_json::from_value(v).map_err(|why| wrong_at(f, at.clone(), why.to_string()))?;
            let cuts_text = segment::find(call.method).is_ok_and(|m| m.reads() == Reads::Text);
            if cuts_text {
                return Err(wrong_at(f, at, format!("{} is a row of the segmentation; name it in rows", call.method)));
            }
            let pane = doc.pane_mut();
            let chosen = if key == "beside" { pane.beside.choose(call) } else { pane.choose(call) };
            chosen.map_err(|why| wrong_at(f, at, why.to_string()))?;
        }
    }
    // Parameters of what is chosen already, of any kind.
    for (at, v) in f.list("params")?.unwrap_or_default() {
        let call: Call = serde_json::from_value(v).map_err(|why| wrong_at(f, at.clone(), why.to_string()))?;
        let pane = doc.pane_mut();
        let kind = catalog::find(call.method).map_err(|why| wrong_at(f, at.clone(), why.to_string()))?.info().kind;
        let shown = pane.call(kind);
        if shown.method != call.method {
            return Err(wrong_at(f, at, format!("{} is shown, not {}", shown.method, call.method)));
        }
        let params = call.params.iter().fold(shown.params, |all: Params, (key, value)| all.set(key, value.clone()));
        pane.keep(Call { method: call.method, params }).map_err(|why| wrong_at(f, at, why.to_string()))?;
    }
    Ok(())
}

/// What of it is seen, and how.
fn shows(f: &mut Fields, pane: &mut Pane) -> Result<(), Wrong> {
    let (cursor, shows) = (&mut pane.cursor, &mut pane.shows);
    if let Some(head) = f.get("head", "layer and head, as [1, 0]")? {
        cursor.head = head;
    }
    if let Some(layer) = f.value("layer") {
        let wrong = || f.wrong("layer", "write a layer from 0, or \"end\" for after all cuts");
        cursor.at_layer = match &layer {
            Value::String(word) if word == "end" => None,
            layer => Some(layer.as_u64().and_then(|l| usize::try_from(l).ok()).ok_or_else(wrong)?),
        };
    }
    if let Some(round) = f.get::<usize>("round", "a round from 1")? {
        cursor.round = round.checked_sub(1).ok_or_else(|| f.wrong("round", "rounds count from 1"))?;
    }
    if let Some(parts) = f.get::<Vec<String>>("parts", "a list of parts of the importance view")? {
        if let Some(bad) = parts.iter().find(|p| !PARTS.contains(&p.as_str())) {
            return Err(f.wrong("parts", format!("no part is named {bad}; known: {}", PARTS.join(", "))));
        }
        shows.parts = PARTS.map(|p| parts.iter().any(|x| x == p));
    }
    if let Some(curve) = f.get::<Curve>("scale", "linear, log, rank or row")? {
        shows.scale.curve = curve;
    }
    if let Some(mask) = f.get("mask_sink", "true or false")? {
        shows.scale.mask_sink = mask;
    }
    if let Some(rows) = f.get::<Vec<String>>("rows", "a list of rows of the segmentation")? {
        let known = || segment::text::names().collect::<Vec<_>>().join(", ");
        if let Some(bad) = rows.iter().find(|r| !segment::text::names().any(|n| n == **r)) {
            return Err(f.wrong("rows", format!("no row is named {bad}; known: {}", known())));
        }
        shows.cuts.named = segment::text::names().filter(|n| rows.iter().any(|r| r == n)).collect();
    }
    if let Some(cut) = f.get::<String>("cut", "text, image or series")? {
        shows.cuts.shows = match cut.as_str() {
            "text" => Reads::Text,
            "image" => Reads::Image,
            "series" => Reads::Series,
            _ => return Err(f.wrong("cut", "write text, image or series")),
        };
    }
    if let Some(surprisal) = f.get("surprisal", "true or false")? {
        shows.cuts.surprisal = surprisal;
    }
    if let Some(ids) = f.get::<Vec<String>>("curves", "a list of reductions")? {
        let found: Result<Vec<_>, _> = ids.iter().map(|id| catalog::info(Kind::Reduce, id)).collect();
        let mut curves: Vec<&'static str> = found.map_err(|why| f.wrong("curves", why))?.iter().map(|i| i.id).collect();
        let floors = catalog::of(Kind::Reduce).filter(|i| i.role == Role::Floor).map(|i| i.id);
        floors.for_each(|id| {
            if !curves.contains(&id) {
                curves.push(id)
            }
        });
        shows.curves = curves;
    }
    if let Some(measure) = f.get::<Measure>("measure", "kl or top1")? {
        shows.measure = measure;
    }
    if let Some(share) = f.get::<f32>("threshold", "a share from 0 to 1")? {
        if !(0.0..=1.0).contains(&share) {
            return Err(f.wrong("threshold", format!("{share} is no share from 0 to 1")));
        }
        shows.threshold = share;
    }
    if let Some(truth) = f.get("truth", "true or false")? {
        shows.truth = truth;
    }
    Ok(())
}

fn drill(mut f: Fields) -> Result<DrillAt, Wrong> {
    let read = |f: &mut Fields, key| -> Result<Option<TokenAt>, Wrong> {
        let Some(v) = f.value(key) else { return Ok(None) };
        TokenAt::read(&v).map(Some).map_err(|why| f.wrong(key, why))
    };
    let token = read(&mut f, "token")?.ok_or_else(|| f.wrong("token", "it is missing, write a token"))?;
    let level = f.must("level", "a level from 0: 0 is the inputs, 1 the output of layer 0")?;
    let (from, head) = (read(&mut f, "from")?, f.get("head", "a head from 0")?);
    if head.is_some() && from.is_none() {
        return Err(f.wrong("head", "a head is of an edge; say which token it comes from"));
    }
    f.end()?;
    Ok(DrillAt { level, token, from, head })
}

fn place(mut f: Fields, shown: Option<usize>) -> Result<Place, Wrong> {
    let view = match f.get::<String>("view", "the name of a view")? {
        Some(name) => Some(view_of(&f, "view", &name)?),
        None => None,
    };
    let (mut what, mut part_of) = (What::Whole, None);
    if let Some(part) = f.get::<String>("part", "a part of the importance view")? {
        let known = || f.wrong("part", format!("no part is named {part}; known: {}", PARTS.join(", ")));
        part_of = Some(PARTS.iter().position(|p| *p == part).ok_or_else(known)?);
    }
    if let Some(v) = f.value("token") {
        what = What::Token(TokenAt::read(&v).map_err(|why| f.wrong("token", why))?);
    }
    if let Some(name) = f.get::<String>("control", "the name of a control, as a screen reader says it")? {
        let nth = f.get("nth", "a number from 1")?.unwrap_or(1);
        if nth == 0 {
            return Err(f.wrong("nth", "it counts from 1"));
        }
        what = What::Control(name, nth);
    }
    let importance = || views::ALL.iter().position(|v| v.id == "importance");
    let view = if part_of.is_some() { importance() } else { view };
    if matches!((&what, view), (What::Whole, None)) {
        return Err(f.wrong("", "say which place: a view, a part, a token or a control"));
    }
    if let (Some(view), Some(alone)) = (view, shown)
        && view != alone
    {
        return Err(f.wrong("view", format!("only {} is shown", views::ALL[alone].id)));
    }
    f.end()?;
    Ok(Place { view: view.or(shown.filter(|_| !matches!(what, What::Control(..)))), part: part_of, what })
}

fn view_of(f: &Fields, key: &str, name: &str) -> Result<usize, Wrong> {
    let known = || views::ALL.iter().map(|v| v.id).collect::<Vec<_>>().join(", ");
    let found = views::ALL.iter().position(|v| v.id == name);
    found.ok_or_else(|| f.wrong(key, format!("no view is named {name}; known: {}", known())))
}
