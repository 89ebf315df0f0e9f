//! The command that makes a figure again, byte for byte: options for what there are options for, and the rest of the
//! pane as JSON.

use super::Page;
use crate::heatmap::Curve;
use crate::keys::{Call, ModelSource};
use crate::pane::{Choices, Pane};
use crate::patch;
use crate::picture_source::PictureSource;
use crate::selection::Selection;
use crate::series_source::SeriesSource;
use crate::state::{Doc, Look};
use crate::views::{PARTS, View};
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::{Info, Kind, Params};
use tokenscope_analysis::segment::Reads;
use tokenscope_analysis::trace::Tower;

/// Parts of a pane that one view alone looks at, by the view's id.
const OWN: [(&str, &str); 20] = [
    ("compare", "/shows/against"),
    ("compare", "/shows/compared"),
    ("compare", "/shows/fold"),
    ("importance", "/shows/aggregate"),
    ("importance", "/shows/board"),
    ("importance", "/shows/faithful"),
    ("importance", "/contrast"),
    ("importance", "/shows/parts"),
    ("importance", "/shows/curves"),
    ("importance", "/shows/measure"),
    ("importance", "/shows/sort"),
    ("importance", "/shows/truth"),
    ("importance", "/cursor/window"),
    ("importance", "/cursor/head"),
    ("flow", "/shows/threshold"),
    ("flow", "/shows/column"),
    ("flow", "/cursor/drill"),
    ("segmentation", "/shows/cuts"),
    ("drafts", "/cursor/round"),
    ("drafts", "/partner"),
];

/// How the command line names the method of a kind; cuts of a text stand side by side and have options of their own.
pub(super) fn option(kind: Kind) -> Option<String> {
    (kind != Kind::Segment).then(|| format!("--{}", kind.name()))
}

/// Where the command line finds a model.
pub fn source(model: &ModelSource) -> String {
    match model {
        ModelSource::Sample(name) => (*name).into(),
        ModelSource::Path(p) | ModelSource::Recorded(p) => p.display().to_string(),
    }
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Whether a word can stand behind an option: nothing in it is lost on the way, and it is no option itself.
fn sayable(word: &str) -> bool {
    patch::is_plain(word) && !word.starts_with('-')
}

/// Kinds of methods that the figure shows; of findings there is one at a time. Without a view, all.
pub(super) fn shown(view: Option<&View>, pane: &Pane) -> Vec<Kind> {
    let kinds = view.filter(|v| !v.compares()).map_or(&Kind::ALL[..], |v| v.shows);
    kinds.iter().copied().filter(|k| !Kind::FOUND.contains(k) || *k == pane.shows.found).collect()
}

/// The call without parameters that have their defaults.
fn short(call: &Call) -> Call {
    let Ok(entry) = catalog::find(call.method) else { return call.clone() };
    let set = entry.info().params.iter().filter(|p| call.params.value(p) != p.default());
    let params = set.fold(Params::new(), |params, p| params.set(p.key, call.params.value(p)));
    Call { method: call.method, params }
}

/// Options so far, and the pane that they make.
struct Said {
    words: Vec<String>,
    pane: Pane,
}

impl Said {
    fn say(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.words.extend([name.into(), value.into()]);
    }

    /// What is run, as far as the command line reads back what it would be given.
    fn run(&mut self, want: &Pane) {
        let model = source(&want.run.model);
        if sayable(&model) && ModelSource::parse(&model) == want.run.model {
            self.pane.run.model = want.run.model.clone();
            self.say("--model", model);
        }
        let chip = want.run.placement.chip;
        if chip != self.pane.run.placement.chip {
            self.pane.run.placement.chip = chip;
            self.say("--device", chip.to_string());
        }
        let numbers = want.run.placement.numbers;
        if numbers != self.pane.run.placement.numbers {
            self.pane.run.placement.numbers = numbers;
            self.say("--dtype", numbers.name());
        }
        // What was recorded has read what it has read. A prompt may begin with a dash.
        let recorded = matches!(self.pane.run.model, ModelSource::Recorded(_));
        if !recorded && patch::is_plain(&want.run.prompt) {
            self.pane.run.prompt = want.run.prompt.clone();
            self.say("--prompt", want.run.prompt.to_string());
        }
        if let Some(image) = want.run.image.as_ref().filter(|_| !recorded) {
            let texts: Vec<String> = image.each().map(PictureSource::to_string).collect();
            let words: Vec<_> = texts.iter().map(Into::into).collect();
            let back = PictureSource::parse_all(&words, None);
            if texts.iter().all(|t| sayable(t)) && back.is_ok_and(|b| b.as_ref() == Some(image)) {
                self.pane.run.image = Some(image.clone());
                texts.into_iter().for_each(|t| self.say("--image", t));
            }
        }
        if let Some(tower) = want.tower {
            // Another stack has other heads.
            (self.pane.tower, self.pane.cursor.head) = (Some(tower), (0, 0));
            self.say("--tower", if tower == Tower::Vision { "vision" } else { "text" });
        }
        if let [token] = want.aim.tokens()
            && want.aim == Selection::one(*token)
        {
            self.pane.aim = want.aim.clone();
            self.say("--target", token.to_string());
        }
    }

    fn series(&mut self, want: &Pane) {
        let Some(series) = &want.series else { return };
        let (text, (column, rate)) = match series {
            SeriesSource::File { column, rate, .. } => (series.to_string(), (column.clone(), rate.map(|r| r.get()))),
            SeriesSource::Signal(_) => (series.to_string(), (None, None)),
        };
        let back = SeriesSource::parse(text.clone().into(), column.clone(), rate);
        if sayable(&text) && column.as_deref().is_none_or(patch::is_plain) && back.is_ok_and(|s| s == *series) {
            self.pane.cut_series(Some(series.clone()));
            self.say("--series", text);
            column.into_iter().for_each(|c| self.say("--column", c));
            rate.into_iter().for_each(|r| self.say("--rate", r.to_string()));
        }
    }

    /// A method with the parameters that are not its defaults.
    fn method(&mut self, option: &str, info: &Info, call: &Call) {
        // None fails: the method is of the catalog.
        drop(self.pane.choose(Call::of(info)));
        self.say(option, info.id);
        for p in info.params {
            let value = call.params.value(p);
            let text = value.to_string();
            if value != p.default() && patch::is_plain(&text) && p.parse(&text).is_ok_and(|v| v == value) {
                let Call { method, params } = self.pane.call(info.kind);
                drop(self.pane.keep(Call { method, params: params.set(p.key, value) }));
                self.say("--set", format!("{}.{}={text}", info.kind.name(), p.key));
            }
        }
    }

    /// What one view has options for.
    fn own(&mut self, id: &str, want: &Pane) {
        match id {
            "importance" => {
                let open: Vec<&str> = PARTS.iter().zip(want.shows.parts).filter(|p| p.1).map(|p| *p.0).collect();
                // No part at all cannot be said so.
                if !open.is_empty() {
                    self.pane.shows.parts = want.shows.parts;
                    self.say("--parts", open.join(","));
                }
                if !want.shows.truth {
                    self.pane.shows.truth = false;
                    self.words.push("--no-truth".into());
                }
            }
            "flow" if (0.0..=1.0).contains(&want.shows.threshold) => {
                self.pane.shows.threshold = want.shows.threshold;
                self.say("--threshold", want.shows.threshold.to_string());
            }
            "drafts" => {
                let text = source(&want.partner);
                if sayable(&text) && ModelSource::parse(&text) == want.partner {
                    self.pane.partner = want.partner.clone();
                    self.say("--draft-model", text);
                }
            }
            "segmentation" => self.cuts(want),
            _ => {}
        }
    }

    fn cuts(&mut self, want: &Pane) {
        let cuts = &want.shows.cuts;
        if !cuts.named.is_empty() {
            self.pane.shows.cuts.named = cuts.named.clone();
            self.say("--rows", cuts.named.join(","));
        }
        let files: Vec<&str> = cuts.files.iter().filter_map(|f| f.to_str()).filter(|f| sayable(f)).collect();
        if files.len() == cuts.files.len() {
            self.pane.shows.cuts.files = cuts.files.clone();
            files.into_iter().for_each(|f| self.say("--tokenizer", f));
        }
        if cuts.surprisal {
            self.pane.shows.cuts.surprisal = true;
            self.words.push("--surprisal".into());
        }
    }
}

/// The pane with nothing chosen that no method of these kinds looks at, and without what has its default.
fn plain(pane: &Pane, kinds: &[Kind]) -> Pane {
    let mut out = pane.clone();
    let (mut choices, mut beside) = (Choices::default(), Choices::default());
    for kind in kinds.iter().filter(|k| **k != Kind::Segment) {
        drop(choices.choose(short(&pane.call(*kind))));
        pane.beside.get(*kind).into_iter().for_each(|c| drop(beside.choose(short(c))));
    }
    (out.choices, out.beside) = (choices, beside);
    let cuts = &mut out.shows.cuts;
    cuts.calls.retain(|reads, _| *reads == cuts.shows);
    cuts.calls.values_mut().for_each(|c| *c = short(c));
    out
}

/// How a figure is made again.
pub(super) struct Again {
    /// The command.
    pub words: String,
    /// The document that the command makes: what the figure looks at as it is, everything else as it is at first.
    pub doc: Doc,
}

/// The command that makes the figure of `view`, or of the window where there is none, again; it writes to `out` in the
/// folder where it runs.
///
/// `None` where a file it needs has a name that is no Unicode.
pub(super) fn again(view: Option<&View>, doc: &Doc, page: &Page, out: &str) -> Option<Again> {
    let words = ["tokenscope", "render", "--view", view.map_or("window", |v| v.id)].map(String::from).to_vec();
    let pair = view.is_none_or(View::compares);
    let kinds = shown(view, doc.pane());
    let of = if pair { doc.clone() } else { doc.figured(false) };
    let wants: Vec<Pane> = of.panes().iter().map(|p| plain(p, &kinds)).collect();
    let want = &wants[of.active()];
    // What the command line starts from.
    let mut pane = Pane::default();
    pane.shows.parts = [true; 4];
    let mut said = Said { words, pane };
    said.run(want);
    let ids = match view {
        Some(v) if !pair => vec![v.id],
        _ => crate::views::ALL.iter().map(|v| v.id).collect(),
    };
    if ids.contains(&"segmentation") {
        said.series(want);
    }
    for kind in &kinds {
        let call = want.call(*kind);
        let Ok(info) = catalog::info(*kind, call.method) else { continue };
        match option(*kind) {
            Some(name) => said.method(&name, info, &call),
            None if want.shows.cuts.shows != Reads::Text => said.method("--cut", info, &call),
            None => {}
        }
    }
    ids.iter().for_each(|id| said.own(id, want));
    if ids.contains(&"importance") || want.shows.scale.curve != Curve::Linear {
        said.pane.shows.scale.curve = want.shows.scale.curve;
        let curve = match want.shows.scale.curve {
            Curve::Linear => "linear",
            Curve::Log => "log",
            Curve::Rank => "rank",
            Curve::Row => "row",
        };
        said.say("--scale", curve);
    }
    let others: Vec<&str> = OWN.iter().filter(|o| !ids.contains(&o.0)).map(|o| o.1).collect();
    let mut pane = said.pane.clone();
    if let Some(rest) = patch::between(&said.pane, want, &others).ok()? {
        pane = patch::onto(&pane, &rest).ok()?;
        said.say("--pane", patch::text(&rest));
    }
    // Further panes by what is another in them; the window of several begins with the one that is worked in.
    let mut panes = vec![pane];
    for (_, other) in wants.iter().enumerate().filter(|(i, _)| *i != of.active()) {
        let rest = patch::between(&panes[0], other, &[]).ok()?;
        let made = rest.as_ref().map_or(Ok(panes[0].clone()), |rest| patch::onto(&panes[0], rest)).ok()?;
        let words = rest.map_or(String::new(), |rest| format!("--pane {}", quoted(&patch::text(&rest))));
        said.say("--with", words);
        panes.push(made);
    }
    let made = Doc::of_parts(panes, 0, Look { apart: false, ..doc.look }, Vec::new());
    said.words.extend(doc.look.dark.then(|| "--dark".into()));
    said.say("--colors", doc.look.map.name());
    match page.mm() {
        Some([w, h]) => {
            said.say("--width-mm", w.to_string());
            said.say("--height-mm", h.to_string());
        }
        None => said.say("--size", format!("{}x{}", page.size.x, page.size.y)),
    }
    said.say("--pixels", page.scale.to_string());
    said.say("--out", if sayable(out) { out } else { "figure.svg" });
    let words = said.words.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" ");
    Some(Again { words, doc: made })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenscope_analysis::method::{Domain, LayerPick, Param, Setting};

    /// A value that is not the default, and takes all of the room that numbers have.
    fn other(p: &Param) -> Setting {
        match p.domain {
            Domain::Share { default } => (if default == 0.1 + 0.2 { 0.7 } else { 0.1 + 0.2 }).into(),
            Domain::Number { min, max, default } => (if default == min { min + (max - min) / 3.0 } else { min }).into(),
            Domain::Count { min, max, default } => (if default == max { min } else { max }).into(),
            Domain::Seed => i64::MAX.into(),
            Domain::Toggle { default } => (!default).into(),
            Domain::Choice { options } => p.parse(options[options.len() - 1]).unwrap(),
            Domain::Text { .. } => Setting::Text("two \"words\" = of 'text'".into()),
            Domain::Layer { .. } => Setting::Layer(LayerPick::At(2)),
            Domain::Schedule { .. } => p.parse("[0.5, 0.25]").unwrap_or_else(|_| p.default()),
        }
    }

    #[test]
    fn every_parameter_of_every_method_is_said_by_an_option() {
        for info in catalog::all().map(|e| e.info()).filter(|i| i.kind != Kind::Segment) {
            let params = info.params.iter().fold(Params::new(), |all, p| all.set(p.key, other(p)));
            let call = short(&Call { method: info.id, params });
            let mut said = Said { words: Vec::new(), pane: Pane::default() };
            said.method("--method", info, &call);
            assert_eq!(said.pane.call(info.kind), call, "{}", info.id);
            for p in info.params.iter().filter(|p| call.params.has(p.key)) {
                let begins = format!("{}.{}=", info.kind.name(), p.key);
                let word = said.words.iter().find_map(|w| w.strip_prefix(&begins)).expect(&begins);
                assert_eq!(p.parse(word).unwrap(), call.params.value(p), "{} {}", info.id, p.key);
            }
        }
    }

    #[test]
    fn words_are_quoted_as_a_shell_reads_them() {
        assert_eq!(quoted("a/b.c=1,2"), "a/b.c=1,2");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("it's $x `y` \\"), r"'it'\''s $x `y` \'");
        assert!(sayable("naïve") && !sayable("-x") && !sayable("a\nb"));
    }
}
