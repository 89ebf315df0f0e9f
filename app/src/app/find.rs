//! What can be found in the run: its tokens, layers and heads, what may come next, and the methods that can be shown on it.

use super::App;
use crate::branch;
use crate::palette::{self, Choice, Entry};
use crate::pictures::widgets::visible;
use crate::selection::Selection;
use crate::state::Command;
use crate::work::{NodeLensOf, TraceOf};
use tokenscope_analysis::catalog;
use tokenscope_analysis::token::Source;
use tokenscope_analysis::trace::Tower;

/// Tokens, and heads, that are listed at most: typing must not wait for them.
const MOST: usize = 20_000;

impl App {
    /// The tokens of the shown stack with their places, its layers and heads, and the methods.
    pub(super) fn in_run(&self) -> Vec<Entry> {
        let pane = self.doc.pane();
        let mut out = Vec::new();
        if let Some(trace) = self.jobs.ready(&TraceOf(pane.run.clone()))
            && let Some(tower) = trace.towers.get(&pane.tower_of(&trace))
        {
            out.extend(tower.tokens.iter().take(MOST).enumerate().map(|(i, t)| Entry {
                text: format!("token {i}: {}", visible(&t.text)),
                note: match t.source {
                    Source::Bytes { start, end } => format!("bytes {start}..{end}"),
                    Source::Rect { x, y, .. } => format!("pixels {x:.0}, {y:.0}"),
                    Source::None => "added".into(),
                },
                choice: Choice::Command(Command::Select(Selection::one(i))),
            }));
            let shown = pane.cursor.head.1;
            for (layer, rule) in tower.attention.iter().enumerate() {
                let entry = |text: String, head: usize| Entry {
                    text,
                    note: "attention map".into(),
                    choice: Choice::Command(Command::head(layer, head)),
                };
                out.push(entry(format!("layer {layer}"), shown.min(rule.n_heads.saturating_sub(1))));
                let room = (2 * MOST).saturating_sub(out.len());
                out.extend((0..rule.n_heads).take(room).map(|head| entry(format!("layer {layer}, head {head}"), head)));
            }
        }
        out.extend(self.next_tokens());
        out.extend(catalog::all().map(|e| palette::method(e.info())));
        out
    }

    /// What may come behind the explained token, to go on from; what is not known yet is not waited for.
    pub(super) fn next_tokens(&self) -> Vec<Entry> {
        let pane = self.doc.pane();
        let Some(trace) = self.jobs.ready(&TraceOf(pane.run.clone())) else { return Vec::new() };
        let Some(tower) = trace.towers.get(&Tower::Text).filter(|_| pane.tower_of(&trace) == Tower::Text) else {
            return Vec::new();
        };
        let at = pane.aim.tokens().last().copied().or(tower.tokens.len().checked_sub(1));
        let Some(at) = at.filter(|at| *at < tower.tokens.len()) else { return Vec::new() };
        let asked = NodeLensOf { run: pane.run.clone(), level: tower.n_layers, token: at };
        let Some(top) = self.jobs.ready(&asked) else { return Vec::new() };
        let both = top.iter().flat_map(|g| [(g, false), (g, true)]);
        both.map(|(g, beside)| Entry {
            text: format!("Go on from {}{}", visible(&g.text), if beside { ", in a pane beside" } else { "" }),
            note: format!("{:.1}% after token {at}", g.p * 100.0),
            choice: Choice::GoOn { at, id: g.id, beside },
        })
        .collect()
    }

    /// Goes on from another token behind token `at`.
    pub(super) fn go_on(&mut self, at: usize, id: u32, beside: bool, commands: &mut Vec<Command>) {
        match branch::way_after(&self.jobs, &self.doc.pane().run, at, id) {
            Ok(way) => {
                way.otherwise.into_iter().for_each(|why| self.notices.say(why, false, None));
                commands.push(branch::command(way.text, beside));
            }
            Err(why) => self.notices.say(format!("no text can go on from there: {why}"), false, None),
        }
    }
}
