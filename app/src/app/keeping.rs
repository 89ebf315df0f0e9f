//! Keeps the session while the window runs, and offers what is left of a window that ended without a word.

use super::App;
use super::sessions::Next;
use crate::session::{Autosaver, Orphan, Snapshot, orphans};
use crate::state::Doc;
use std::path::Path;
use std::time::{Duration, Instant};

/// A change is written after this time, with what else changed until then: well within the five seconds that may be
/// lost, and seldom enough for a slow disk.
const AFTER: Duration = Duration::from_secs(2);

/// What keeps a session.
#[derive(Default)]
pub(super) struct Keeping {
    saver: Option<Autosaver>,
    /// The document that was handed over last; `None` while nothing is kept.
    kept: Option<Doc>,
    /// When what changed is written.
    due: Option<Instant>,
    /// What earlier windows left, and is offered.
    left: Vec<Orphan>,
    /// What was restored: it goes when this window keeps it itself.
    adopted: Option<Orphan>,
    /// Whether a failure was said.
    said: bool,
}

impl Keeping {
    /// Goes on with what an earlier window left.
    pub fn adopt(&mut self, orphan: Orphan) {
        (self.adopted, self.kept) = (Some(orphan), None);
    }

    /// Offers once more what could not be restored, or was not in the end.
    pub fn offer_again(&mut self, orphan: Option<Orphan>) {
        self.left.extend(orphan);
    }

    /// Ends as it should: nothing is left. What nobody decided about is offered at the next start.
    pub fn end(&mut self) {
        if let Some(saver) = self.saver.take() {
            saver.end();
        }
        if let Some(orphan) = self.adopted.take() {
            orphan.discard();
        }
    }
}

impl App {
    /// Keeps the session below the folder `dir` from now on, where the locks of open sessions are, too, and offers what
    /// earlier windows left there.
    pub fn keep_in(&mut self, ctx: &egui::Context, dir: &Path) {
        let (waker, own) = (ctx.clone(), dir.join("autosave"));
        self.session.folder = Some(dir.into());
        self.session.keeping.left = orphans(&own);
        self.session.keeping.saver = Autosaver::start(&own, move || waker.request_repaint());
        if self.session.keeping.saver.is_none() {
            let words = format!("what is not saved is not kept meanwhile: no file can be locked in {}", own.display());
            self.notices.say(words, false, None);
        }
    }

    /// The window ends as it should.
    pub fn end(&mut self) {
        if let Some(settings) = self.unsaved.take() {
            settings.store();
        }
        self.session.keeping.end();
    }

    /// Hands over what changed, when it is time.
    pub(super) fn keep(&mut self, ctx: &egui::Context) {
        // What a lesson shows is nobody's work; what was before it is.
        let clean = self.session.holds(self.own_doc());
        let kept = !clean && self.session.keeping.kept.as_ref() == Some(self.own_doc());
        let k = &mut self.session.keeping;
        let Some(saver) = &k.saver else { return };
        match saver.ended() {
            Some(Ok(())) => {
                if let Some(orphan) = k.adopted.take() {
                    orphan.discard();
                }
            }
            Some(Err(why)) if !k.said => {
                k.said = true;
                self.notices.say(format!("what is not saved is not kept meanwhile: {why}"), false, None);
            }
            _ => {}
        }
        if clean {
            // The file holds it, or there is nothing yet to be kept.
            if k.kept.take().is_some() {
                saver.forget();
            }
            if let Some(orphan) = k.adopted.take() {
                orphan.discard();
            }
            k.due = None;
            return;
        }
        if kept {
            k.due = None;
            return;
        }
        let due = *k.due.get_or_insert_with(|| Instant::now() + AFTER);
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            ctx.request_repaint_after(left);
            return;
        }
        let mut snapshot: Snapshot = self.snapshot(false, false);
        snapshot.window.file = self.session.path.clone();
        let k = &mut self.session.keeping;
        (k.kept, k.due) = (Some(snapshot.doc.clone()), None);
        if let Some(saver) = &k.saver {
            saver.keep(snapshot);
        }
    }

    /// What an earlier window left, with what can be done about it.
    pub(super) fn left_ui(&mut self, ui: &mut egui::Ui) {
        let Some(first) = self.session.keeping.left.first() else { return };
        let n = self.session.keeping.left.len();
        let age = first.at.and_then(|at| at.elapsed().ok()).map_or_else(String::new, |a| format!(" {}", ago(a)));
        let more = if n > 1 { format!(" (1 of {n})") } else { String::new() };
        let words = format!("Tokenscope ended{age} without saving a session{more}.");
        let (mut restore, mut discard) = (false, false);
        egui::Panel::top("left behind").show(ui, |ui| {
            ui.horizontal_wrapped(|ui| {
                ui.colored_label(self.theme.accent, "Restore?");
                ui.label(words);
                restore = ui.small_button("Restore").clicked();
                discard = ui.small_button("Discard").clicked();
            });
        });
        if restore || discard {
            let orphan = self.session.keeping.left.remove(0);
            if discard {
                orphan.discard();
            } else {
                self.want(ui.ctx(), Next::Restore(orphan));
            }
            ui.ctx().request_discard("a row is gone");
        }
    }
}

/// How long ago, in words.
fn ago(age: Duration) -> String {
    let (n, unit) = match age.as_secs() {
        0..120 => return "a moment ago".into(),
        s @ 120..7200 => (s / 60, "minutes"),
        s @ 7200..172_800 => (s / 3600, "hours"),
        s => (s / 86_400, "days"),
    };
    format!("{n} {unit} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_the_unit_that_fits() {
        let told = |s| ago(Duration::from_secs(s));
        assert_eq!([told(3), told(121), told(7199)], ["a moment ago", "2 minutes ago", "119 minutes ago"]);
        assert_eq!([told(7200), told(172_799), told(172_800)], ["2 hours ago", "47 hours ago", "2 days ago"]);
    }
}
