//! Undo and redo. One gesture is one step: what a press of the pointer drags along, or what a held key repeats.

use crate::state::{Command, Doc};
use std::mem;
use std::time::{Duration, Instant};

/// Steps kept.
const KEEP: usize = 100;
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

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
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
    fn a_hundred_steps_are_kept() {
        let (mut h, mut doc, now) = (History::default(), Doc::default(), Instant::now());
        for i in 0..130 {
            change(&mut h, &mut doc, Command::Prompt(i.to_string().into()), i, false, now);
        }
        assert_eq!(h.names(true).count(), KEEP);
    }
}
