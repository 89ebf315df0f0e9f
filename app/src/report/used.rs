//! The methods that a view shows, with their settings.

use crate::cx::Cx;
use crate::keys::Call;
use crate::views::View;
use serde::Serialize;
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::{Info, Kind};
use tokenscope_analysis::model::Writes;
use tokenscope_analysis::segment::Reads;

/// A method with its settings.
#[derive(Clone, Serialize)]
pub(super) struct Used {
    /// Name of its kind.
    pub kind: &'static str,
    /// Its id.
    pub id: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// What it was written from.
    pub basis: String,
    /// Where it departs from that.
    pub departs: &'static str,
    /// Parameters with their values.
    pub params: Vec<(&'static str, String)>,
    /// What it says about itself.
    #[serde(skip)]
    pub info: &'static Info,
    /// Whether the figure is about it, and not only compared with it.
    #[serde(skip)]
    main: bool,
}

impl PartialEq for Used {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, self.id, &self.params) == (other.kind, other.id, &other.params)
    }
}

impl Used {
    fn new(info: &'static Info, call: &Call, main: bool) -> Self {
        Self {
            kind: info.kind.name(),
            id: info.id,
            title: info.title,
            summary: info.summary,
            basis: info.basis.words(),
            departs: info.departs,
            params: info.params.iter().map(|p| (p.key, call.params.value(p).to_string())).collect(),
            info,
            main,
        }
    }

    /// For a caption; nothing where the figure is not about it.
    pub(super) fn words(&self) -> Option<String> {
        let set: Vec<String> = self.params.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        let set = if set.is_empty() { String::new() } else { format!(" ({})", set.join(", ")) };
        self.main.then(|| format!("{}{set}: {}", self.title, self.summary))
    }
}

/// The methods that a view shows of what the pane has, those of which it is about first.
pub(super) fn of(cx: &Cx, view: &View) -> Vec<Used> {
    let (shows, mut out) = (&cx.pane.shows, Vec::new());
    let fills = cx.ready_model().is_some_and(|m| m.model.info().writes == Writes::Fills);
    let mut put = |call: Call, main: bool| {
        out.extend(catalog::find(call.method).ok().map(|e| Used::new(e.info(), &call, main)));
    };
    for kind in view.shows.iter().copied() {
        let there = match kind {
            Kind::Score => shows.parts[0],
            Kind::Reduce => shows.parts[1],
            Kind::Draft => !fills,
            Kind::Reveal => fills,
            Kind::Segment => shows.cuts.shows != Reads::Text,
            kind => !Kind::FOUND.contains(&kind) || kind == shows.found,
        };
        // Where the run cannot serve the chosen method, another stands in.
        if there {
            put(if kind == Kind::Segment { cx.pane.call(kind) } else { cx.call(kind) }, true);
            cx.pane.beside.get(kind).into_iter().for_each(|c| put(c.clone(), true));
        }
        match kind {
            Kind::Segment if !there => {
                let rows = shows.cuts.named.iter().filter_map(|id| catalog::info(kind, id).ok());
                rows.for_each(|info| put(Call::of(info), false));
            }
            Kind::Reduce if shows.parts[2] => {
                let (curves, chosen) = (&shows.curves, cx.pane.call(kind));
                for info in catalog::of(kind).filter(|i| curves.contains(&i.id)) {
                    put(if chosen.method == info.id { chosen.clone() } else { Call::of(info) }, false);
                }
            }
            _ => {}
        }
    }
    out
}
