//! Sessions in the window: saved and opened by hand, what is asked before something is lost, what is left of a window
//! that was killed, pins.

use super::{press, settle, type_text, window};
use egui::{Key, Modifiers, ViewportCommand};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokenscope_app::app::App;
use tokenscope_app::session::{Held, Session};
use tokenscope_app::state::{Command, Doc};
use tokenscope_tests::Dropped;

/// Steps until `done`.
fn until(h: &mut Harness<'static, App>, what: &str, done: impl Fn(&Harness<'static, App>) -> bool) {
    let start = Instant::now();
    while !done(h) {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        h.step();
        std::thread::sleep(Duration::from_millis(5));
    }
    settle(h);
}

fn said(h: &Harness<'static, App>, words: &str) -> bool {
    h.state().notices.list().iter().any(|n| n.words.contains(words))
}

fn change(h: &mut Harness<'static, App>, command: Command) {
    let mut doc = h.state().doc.clone();
    doc.apply(command);
    h.state_mut().doc = doc;
    settle(h);
}

/// Saves by key and the form.
fn save_as(h: &mut Harness<'static, App>, path: &Path) {
    press(h, Modifiers::COMMAND | Modifiers::SHIFT, Key::S);
    into_form(h, path);
}

/// Types a path into the form and presses Enter.
fn into_form(h: &mut Harness<'static, App>, path: &Path) {
    assert!(h.query_by_label("session file").is_some(), "no form");
    press(h, Modifiers::COMMAND, Key::A);
    type_text(h, &path.display().to_string());
    h.key_press(Key::Enter);
    h.step();
}

fn open(h: &mut Harness<'static, App>, path: &Path) {
    h.input_mut().dropped_files.push(Arc::new(Dropped(path.into())));
    h.step();
}

/// The user asks the window to close. Gives whether it goes on to.
fn close(h: &mut Harness<'static, App>) -> bool {
    h.input_mut().viewports.entry(egui::ViewportId::ROOT).or_default().events.push(egui::ViewportEvent::Close);
    h.step();
    let kept = sent(h, |c| matches!(c, ViewportCommand::CancelClose));
    h.run_steps(2);
    !kept
}

fn sent(h: &Harness<'static, App>, which: impl Fn(&ViewportCommand) -> bool) -> bool {
    h.output().viewport_output[&egui::ViewportId::ROOT].commands.iter().any(which)
}

fn titled(h: &Harness<'static, App>, title: &str) -> bool {
    h.query_all_by_label(title).next().is_some()
}

#[test]
fn a_session_is_saved_by_key_and_form_and_comes_back_when_it_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut h = window();
    change(&mut h, Command::Prompt("The red fox met a hen".into()));
    press(&mut h, Modifiers::COMMAND | Modifiers::SHIFT, Key::P);
    press(&mut h, Modifiers::COMMAND, Key::T);
    change(&mut h, Command::Prompt("Two zebras".into()));
    press(&mut h, Modifiers::ALT, Key::Num3);
    assert!(titled(&h, "• not saved"));
    // The ending is added.
    save_as(&mut h, &dir.path().join("a"));
    let file = dir.path().join("a.tokenscope");
    until(&mut h, "nothing was saved", |h| said(h, "a.tokenscope"));
    assert!(titled(&h, "a.tokenscope") && h.query_by_label("session file").is_none());
    let kept = h.state().doc.clone();
    assert_eq!((kept.panes().len(), kept.pins.len()), (2, 1));
    // A change marks it; taken back, it is as it was saved.
    press(&mut h, Modifiers::ALT, Key::ArrowRight);
    assert!(titled(&h, "• a.tokenscope"));
    press(&mut h, Modifiers::COMMAND, Key::Z);
    assert!(titled(&h, "a.tokenscope"));
    drop(h);
    let mut h = window();
    open(&mut h, &file);
    until(&mut h, "it does not open", |h| h.state().doc == kept);
    assert_eq!(h.query_all_by_label("save Flow").count(), 1, "Flow is not there");
    assert_eq!(h.query_all_by_label("save Importance").count(), 0, "Flow is not alone");
    assert!(titled(&h, "a.tokenscope"));
    // Saved again by the key alone.
    change(&mut h, Command::Prompt("Three zebras".into()));
    press(&mut h, Modifiers::COMMAND | Modifiers::SHIFT, Key::S);
    until(&mut h, "the change was not saved", |h| titled(h, "a.tokenscope"));
    assert_eq!(Session::open(&file).unwrap().doc, h.state().doc);
}

#[test]
fn the_window_asks_before_something_is_lost_and_not_when_nothing_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.tokenscope");
    let mut h = window();
    // Whoever looked around is not asked.
    press(&mut h, Modifiers::ALT, Key::ArrowRight);
    assert!(close(&mut h), "asked about nothing");
    change(&mut h, Command::Prompt("My own words".into()));
    assert!(!close(&mut h), "closed without a question");
    assert!(h.query_all_by_label("Save this session?").next().is_some());
    // Keys do nothing behind it, and Escape takes it away.
    let doc = h.state().doc.clone();
    press(&mut h, Modifiers::COMMAND, Key::T);
    assert_eq!(h.state().doc, doc);
    press(&mut h, Modifiers::NONE, Key::Escape);
    assert!(h.query_all_by_label("Save this session?").next().is_none());
    assert_eq!(h.state().doc, doc);
    // Enter saves: where, is asked, and then the window closes.
    assert!(!close(&mut h));
    h.key_press(Key::Enter);
    h.run_steps(3);
    into_form(&mut h, &file);
    let start = Instant::now();
    while !sent(&h, |c| matches!(c, ViewportCommand::Close)) {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not close after the save");
        h.step();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(Session::open(&file).unwrap().doc, doc);
    drop(h);
    // The same before another session is opened.
    let mut h = window();
    change(&mut h, Command::Prompt("Other words".into()));
    open(&mut h, &file);
    h.run_steps(3);
    assert!(h.query_all_by_label("Save this session?").next().is_some());
    h.get_by_label("Cancel").click();
    h.run_steps(3);
    assert_eq!(&*h.state().doc.pane().run.prompt, "Other words");
    open(&mut h, &file);
    h.run_steps(3);
    h.get_by_label("Don’t save").click();
    until(&mut h, "it does not open", |h| h.state().doc == doc);
}

#[test]
fn a_file_that_others_changed_is_replaced_only_after_a_question_and_a_copy_of_an_open_one_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let (file, other) = (dir.path().join("a.tokenscope"), dir.path().join("b.tokenscope"));
    let keeping = || {
        let mut h = window();
        let ctx = h.ctx.clone();
        h.state_mut().keep_in(&ctx, dir.path());
        h
    };
    let mut h = keeping();
    change(&mut h, Command::Prompt("First".into()));
    save_as(&mut h, &file);
    until(&mut h, "nothing was saved", |h| titled(h, "a.tokenscope"));
    std::fs::write(&file, "somebody's").unwrap();
    change(&mut h, Command::Prompt("Second".into()));
    press(&mut h, Modifiers::COMMAND | Modifiers::SHIFT, Key::S);
    assert!(h.query_all_by_label("Replace a.tokenscope?").next().is_some());
    assert!(h.query_all_by_label_contains("was changed by others").next().is_some());
    h.get_by_label("Cancel").click();
    settle(&mut h);
    assert_eq!(std::fs::read(&file).unwrap(), b"somebody's");
    press(&mut h, Modifiers::COMMAND | Modifiers::SHIFT, Key::S);
    h.get_by_label("Replace").click();
    until(&mut h, "nothing was saved", |h| titled(h, "a.tokenscope"));
    assert_eq!(&*Session::open(&file).unwrap().doc.pane().run.prompt, "Second");
    // Another window has it: a copy without a file, which saves under another name.
    let kept = h.state().doc.clone();
    let mut second = keeping();
    open(&mut second, &file);
    until(&mut second, "it does not open", |h| h.state().doc == kept);
    assert!(said(&second, "another window has it open"), "{:?}", second.state().notices.list());
    assert_eq!(second.state().session_file(), None);
    press(&mut second, Modifiers::COMMAND | Modifiers::SHIFT, Key::S);
    let suggested = second.get_by_label("session file").value().unwrap_or_default();
    assert!(suggested.ends_with("a (copy).tokenscope"), "{suggested}");
    // Not over the one that is open, whatever is typed.
    into_form(&mut second, &file);
    second.run_steps(3);
    second.get_by_label("Replace").click();
    until(&mut second, "nothing is said", |h| h.query_all_by_label_contains("choose another name").next().is_some());
    into_form(&mut second, &other);
    until(&mut second, "the copy was not saved", |h| titled(h, "b.tokenscope"));
    drop(h);
    let free = |path: &Path| Held::take(Some(dir.path()), path).is_some();
    assert!(free(&file) && !free(&other));
}

#[test]
fn a_damaged_session_opens_and_says_what_is_lost_and_what_is_none_leaves_the_picture() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.tokenscope");
    let mut h = window();
    press(&mut h, Modifiers::COMMAND, Key::T);
    change(&mut h, Command::Prompt("Second".into()));
    save_as(&mut h, &file);
    until(&mut h, "nothing was saved", |h| titled(h, "a.tokenscope"));
    drop(h);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("Second", "\u{1}")).unwrap();
    let mut h = window();
    open(&mut h, &file);
    until(&mut h, "nothing is said", |h| said(h, "pane 2 is lost"));
    assert_eq!(h.state().doc.panes().len(), 1);
    // What is left is not written over the file without a word.
    press(&mut h, Modifiers::COMMAND | Modifiers::SHIFT, Key::S);
    assert!(h.query_all_by_label("Replace a.tokenscope?").next().is_some());
    press(&mut h, Modifiers::NONE, Key::Escape);
    let before = h.state().doc.clone();
    std::fs::write(&file, "hello").unwrap();
    open(&mut h, &file);
    until(&mut h, "nothing is said", |h| said(h, "no session of Tokenscope"));
    assert_eq!(h.state().doc, before);
}

/// What is kept in `dir` by a window that changed something, once it is written.
fn kept_by(h: &mut Harness<'static, App>, dir: &Path) -> PathBuf {
    let found = || {
        let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
        files.into_iter().find(|p| p.extension().is_some_and(|e| e == "tokenscope"))
    };
    let start = Instant::now();
    loop {
        h.step();
        if let Some(path) = found() {
            return path;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "nothing is kept five seconds after a change");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_a_killed_window_showed_is_offered_restored_on_a_click_and_gone_when_it_is_discarded() {
    let (dir, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut h = window();
    let ctx = h.ctx.clone();
    h.state_mut().keep_in(&ctx, dir.path());
    h.run_steps(3);
    let (dir, left) = (dir.path().join("autosave"), left.path().to_path_buf());
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "something is kept of a window that shows nothing new");
    change(&mut h, Command::Prompt("Nearly lost".into()));
    let file = kept_by(&mut h, &dir);
    // As after kill -9: the session stays, and nobody holds its lock.
    for name in ["1-1", "1-2"] {
        std::fs::create_dir_all(left.join("autosave")).unwrap();
        std::fs::copy(&file, left.join(format!("autosave/{name}.tokenscope"))).unwrap();
    }
    let doc = h.state().doc.clone();
    // Taken back, nothing is left to be kept.
    change(&mut h, Command::Prompt(Doc::default().pane().run.prompt.clone()));
    let mut doc_of_start = h.state().doc.clone();
    doc_of_start = Doc::of_parts(vec![Doc::default().pane().clone()], 0, doc_of_start.look, Vec::new());
    h.state_mut().doc = doc_of_start;
    let start = Instant::now();
    while file.exists() {
        assert!(start.elapsed() < Duration::from_secs(5), "it is kept although nothing is changed");
        h.step();
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(h);
    let mut h = window();
    let ctx = h.ctx.clone();
    h.state_mut().keep_in(&ctx, &left);
    let left = left.join("autosave");
    h.run_steps(3);
    assert_ne!(h.state().doc, doc, "restored without being asked");
    assert!(h.query_all_by_label_contains("ended a moment ago without saving a session (1 of 2)").next().is_some());
    // One can work meanwhile.
    press(&mut h, Modifiers::ALT, Key::ArrowRight);
    h.get_by_label("Discard").click();
    h.run_steps(3);
    h.get_by_label("Restore").click();
    until(&mut h, "it was not restored", |h| h.state().doc == doc);
    assert!(h.query_all_by_label("Restore").next().is_none());
    // It is nowhere but here: it is kept again, and closing asks.
    assert!(titled(&h, "• not saved") && !close(&mut h));
    press(&mut h, Modifiers::NONE, Key::Escape);
    let start = Instant::now();
    while left.join("1-1.tokenscope").exists() || left.join("1-2.tokenscope").exists() {
        assert!(start.elapsed() < Duration::from_secs(8), "what was restored and discarded is still there");
        h.step();
        std::thread::sleep(Duration::from_millis(20));
    }
    let own = kept_by(&mut h, &left);
    assert_eq!(Session::open(&own).unwrap().doc, doc);
    // A clean exit leaves nothing.
    h.state_mut().end();
    assert_eq!(std::fs::read_dir(&left).unwrap().count(), 0);
}

#[test]
fn a_run_is_pinned_renamed_recalled_opened_beside_and_removed() {
    let mut h = window();
    change(&mut h, Command::Prompt("The red fox".into()));
    let fox = h.state().doc.pane().clone();
    h.get_by_label("Pin this").click();
    settle(&mut h);
    assert_eq!(h.state().doc.pins[0].name, "The red fox · sample-lm");
    change(&mut h, Command::Prompt("A hen".into()));
    h.get_by_label("The red fox · sample-lm").click();
    settle(&mut h);
    assert_eq!(h.state().doc.pane(), &fox);
    assert_eq!(h.get_by_label("prompt").value().as_deref(), Some("The red fox"));
    press(&mut h, Modifiers::COMMAND, Key::Z);
    assert_eq!(&*h.state().doc.pane().run.prompt, "A hen");
    let menu = |h: &mut Harness<'static, App>, pin: &str, entry: &str| {
        h.get_by_label(&format!("menu of pin {pin}")).click();
        settle(h);
        h.get_by_label(entry).click();
        settle(h);
    };
    menu(&mut h, "The red fox · sample-lm", "Rename");
    press(&mut h, Modifiers::COMMAND, Key::A);
    type_text(&mut h, "before");
    press(&mut h, Modifiers::NONE, Key::Enter);
    assert_eq!(h.state().doc.pins[0].name, "before");
    menu(&mut h, "before", "Open beside");
    let doc = &h.state().doc;
    assert_eq!((doc.panes().len(), doc.pane(), &*doc.panes()[0].run.prompt), (2, &fox, "A hen"));
    // The palette knows it, too.
    press(&mut h, Modifiers::ALT, Key::P);
    press(&mut h, Modifiers::COMMAND, Key::K);
    type_text(&mut h, "pin: before");
    press(&mut h, Modifiers::NONE, Key::Enter);
    assert_eq!((h.state().doc.active(), h.state().doc.pane()), (0, &fox));
    menu(&mut h, "before", "Remove");
    assert!(h.state().doc.pins.is_empty());
    press(&mut h, Modifiers::COMMAND, Key::Z);
    assert_eq!(h.state().doc.pins.len(), 1);
}
