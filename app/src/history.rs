//! Undo and redo. One gesture is one step: what a press of the pointer drags along, or what a held key repeats.

use crate::differs::differs;
use crate::state::{Command, Doc};
use std::mem;
use std::time::{Duration, Instant};

/// Steps kept.
const KEEP: usize = 100;
/// Letters of a value in the words of a step.
const SHORT: usize = 32;
/// Keys that follow each other within this time are one gesture.
const PAUSE: Duration = Duration::from_millis(700);

struct Step {
    what: &'static str,
    doc: Doc,
}

/// The documents before and after the present one, each with what was done.
#[derive(Default)]
pub struct History {
    undo: Vec<Step>,
    redo: Vec<Step>,
    /// The last change: what it set, in which press of the pointer, and when.
    last: Option<(Option<String>, u64, Instant)>,
}

impl History {
    /// Notes that `command` changed `before`. `press` counts the presses of the pointer; `held` says that it is
    /// down. Changes of one thing within one press, or by keys without a pause, are one step.
    pub fn record(&mut self, before: Doc, command: &Command, press: u64, held: bool, now: Instant) {
        let thing = command.thing();
        let same = self.last.as_ref().is_some_and(|(t, p, at)| {
            t.is_some() && *t == thing && *p == press && (held || now.duration_since(*at) < PAUSE)
        });
        if !(same && self.redo.is_empty() && !self.undo.is_empty()) {
            self.undo.push(Step { what: command.what(), doc: before });
            if self.undo.len() > KEEP {
                self.undo.remove(0);
            }
        }
        self.redo.clear();
        self.last = Some((thing, press, now));
    }

    /// Goes back (or forward) one step; gives what was undone (or made again).
    pub fn step(&mut self, doc: &mut Doc, back: bool) -> Option<&'static str> {
        let (from, to) = if back { (&mut self.undo, &mut self.redo) } else { (&mut self.redo, &mut self.undo) };
        let step = from.pop()?;
        let now = mem::replace(doc, step.doc);
        to.push(Step { what: step.what, doc: now });
        self.last = None;
        Some(step.what)
    }

    /// What can be undone (or redone), the next one first.
    pub fn names(&self, back: bool) -> impl Iterator<Item = &'static str> + '_ {
        let steps = if back { &self.undo } else { &self.redo };
        steps.iter().rev().map(|s| s.what)
    }

    /// What can be undone (or redone) from `now`, the next one first, each in words that say what became of what.
    pub fn steps(&self, now: &Doc, back: bool) -> Vec<String> {
        let steps = if back { &self.undo } else { &self.redo };
        let mut at = now;
        let words = steps.iter().rev().map(|s| {
            let (before, after) = if back { (&s.doc, at) } else { (at, &s.doc) };
            at = &s.doc;
            said(s.what, before, after)
        });
        words.collect()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A step in words: what was set, and what it is after it.
fn said(what: &str, before: &Doc, after: &Doc) -> String {
    let (a, b) = (before.panes().len(), after.panes().len());
    if a != b {
        return format!("{what}: {b} pane{}", if b == 1 { "" } else { "s" });
    }
    let place = (0..a).find(|&i| before.panes()[i] != after.panes()[i]);
    let lines = place.map_or_else(Vec::new, |i| differs(&before.panes()[i], &after.panes()[i]));
    let pane = place.filter(|_| a > 1).map_or_else(String::new, |i| format!(", pane {}", i + 1));
    match &lines[..] {
        [] => format!("{what}{pane}"),
        // Where several things go with one, as with an example, the first says which.
        [[_, old, new], ..] => format!("{what}{pane}: {} → {}", short(old), short(new)),
    }
}

/// The beginning of words, on one line.
fn short(words: &str) -> String {
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHORT) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenscope_analysis::method::Kind;

    fn change(h: &mut History, doc: &mut Doc, command: Command, press: u64, held: bool, now: Instant) {
        let before = doc.clone();
        doc.apply(command.clone());
        if *doc != before {
            h.record(before, &command, press, held, now);
        }
    }

    fn threshold(value: f32) -> Command {
        Command::set("threshold", move |p| p.shows.threshold = value)
    }

    fn round(round: usize) -> Command {
        Command::set("round", move |p| p.cursor.round = round)
    }

    #[test]
    fn a_drag_is_one_step_and_two_drags_are_two() {
        let (mut h, mut doc, now) = (History::default(), Doc::default(), Instant::now());
        let start = doc.pane().shows.threshold;
        for i in 1..=5 {
            change(&mut h, &mut doc, threshold(0.1 * i as f32), 1, true, now);
        }
        change(&mut h, &mut doc, threshold(0.9), 2, true, now);
        assert_eq!(h.step(&mut doc, true), Some("threshold"));
        assert_eq!(doc.pane().shows.threshold, 0.5);
        h.step(&mut doc, true);
        assert_eq!(doc.pane().shows.threshold, start);
        assert_eq!(h.step(&mut doc, true), None);
        h.step(&mut doc, false);
        assert_eq!(doc.pane().shows.threshold, 0.5);
    }

    #[test]
    fn different_parameters_of_one_drag_do_not_merge() {
        let (mut h, mut doc, now) = (History::default(), Doc::default(), Instant::now());
        change(&mut h, &mut doc, Command::Param(Kind::Reduce, "keep", 0.1.into()), 1, true, now);
        change(&mut h, &mut doc, Command::Param(Kind::Reduce, "layer", 1.into()), 1, true, now);
        assert_eq!(h.names(true).count(), 2);
    }

    #[test]
    fn keys_merge_until_a_pause_and_prompts_never() {
        let (mut h, mut doc, now) = (History::default(), Doc::default(), Instant::now());
        let late = now + Duration::from_secs(2);
        change(&mut h, &mut doc, round(1), 0, false, now);
        change(&mut h, &mut doc, round(2), 0, false, now);
        change(&mut h, &mut doc, round(3), 0, false, late);
        assert_eq!(h.names(true).count(), 2);
        change(&mut h, &mut doc, Command::Prompt("a".into()), 0, false, late);
        change(&mut h, &mut doc, Command::Prompt("ab".into()), 0, false, late);
        assert_eq!(h.names(true).next(), Some("prompt"));
        assert_eq!(h.names(true).count(), 4);
    }

    #[test]
    fn the_steps_say_what_became_of_what_and_are_counted_from_the_next_one() {
        let (mut h, mut doc, now) = (History::default(), Doc::default(), Instant::now());
        doc.apply(Command::Prompt("one".into()));
        change(&mut h, &mut doc, Command::Prompt("two  words".into()), 0, false, now);
        change(&mut h, &mut doc, Command::whole("another pane", Doc::split), 0, false, now);
        change(&mut h, &mut doc, Command::head(2, 1), 0, false, now);
        let all = h.steps(&doc, true);
        assert_eq!(
            all,
            ["head, pane 2: layer 1, head 0 → layer 2, head 1", "another pane: 2 panes", "prompt: one → two words"]
        );
        h.step(&mut doc, true);
        h.step(&mut doc, true);
        assert_eq!(h.steps(&doc, true), ["prompt: one → two words"]);
        assert_eq!(h.steps(&doc, false), ["another pane: 2 panes", "head, pane 2: layer 1, head 0 → layer 2, head 1"]);
    }

    #[test]
    fn a_hundred_steps_are_kept() {
        let (mut h, mut doc, now) = (History::default(), Doc::default(), Instant::now());
        for i in 0..130 {
            change(&mut h, &mut doc, Command::Prompt(i.to_string().into()), i, false, now);
        }
        assert_eq!(h.names(true).count(), KEEP);
    }
}
