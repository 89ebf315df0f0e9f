//! The leaderboard: the methods of the retention curves on many pictures and questions, a row for each method and share,
//! which grows while it is measured.

use crate::board::{Board, COLUMNS, Contest, FULL, Figure, SLOT, Standing, share};
use crate::cx::Cx;
use crate::jobs::Status;
use crate::pane::{Leaderboard, MAX_QUESTIONS};
use crate::pictures::widgets::{self, named};
use crate::pictures::{self, plot};
use egui::{Align2, RichText, Sense, Ui, vec2};
use std::sync::Arc;

const TITLE: &str = "leaderboard: these methods on many pictures and questions";
const TIP: &str = "Every method of the curves at several shares, really carried out on each question and held against \
                   the full model, with chance as the floor";
/// What is set here, in words for the menu.
const SETS: &str = "leaderboard";
/// Rows of unusable questions that are named.
const NAMED: usize = 5;
/// The figures that can be plotted over the share kept.
const PLOTTED: [Figure; 4] = [Figure::Accuracy, Figure::Kl, Figure::Top1, Figure::FlopsShare];

/// The finished table, where one is shown.
pub(super) fn ready(cx: &Cx) -> Option<Arc<Board>> {
    let set = &cx.pane.shows.board;
    (set.open && set.runs).then(|| cx.ready(&Contest::of(cx.pane))).flatten()
}

pub(super) fn ui(cx: &Cx, ui: &mut Ui) {
    let set = &cx.pane.shows.board;
    if cx.figure && !(set.open && set.runs) {
        return;
    }
    if !cx.figure {
        ui.add_space(4.0);
        let text = format!("{} {TITLE}", if set.open { "▼" } else { "▶" });
        let button = egui::Button::new(RichText::new(text).small()).frame(false);
        let open = set.open;
        if ui.add(button).on_hover_text(TIP).clicked() {
            cx.set(SETS, move |p| {
                p.shows.board.open = !open;
                // What is folded away is not computed on.
                p.shows.board.runs &= !open;
            });
        }
    }
    if !set.open {
        return;
    }
    if !cx.figure {
        controls_ui(cx, ui, set);
    }
    let slot = ui.scope_id().with("leaderboard so far");
    let mut left: Option<Arc<Board>> = None;
    if set.runs {
        match cx.status("leaderboard", &Contest::of(cx.pane)) {
            Status::Ready(board) => left = Some(board),
            Status::Partly(done, board) => {
                progress_ui(
                    cx,
                    ui,
                    done,
                    &format!("question {} of {}", (board.done + 1).min(board.asked), board.asked),
                );
                left = Some(board);
            }
            Status::Running(done, _) => progress_ui(cx, ui, done, "the first question"),
            Status::Failed(why) => cx.failure_ui(ui, &why.to_string()),
        }
        if let Some(board) = left.as_ref().filter(|_| !cx.figure) {
            ui.data_mut(|d| {
                d.insert_temp(slot, Arc::clone(board));
            });
        }
    } else {
        // What was there when it was stopped stays to be read.
        left = ui.data(|d| d.get_temp(slot));
        if left.is_some() {
            ui.small("stopped; what was measured until then");
        }
    }
    if let Some(board) = left {
        board_ui(cx, ui, &board);
    }
}

/// The table and its plot as a figure of its own, by the settings of the pane.
pub fn figure_ui(cx: &Cx, ui: &mut Ui, contest: &Contest) {
    if let Some(board) = cx.need(ui, "leaderboard", contest) {
        ui.strong("Leaderboard");
        board_ui(cx, ui, &board);
    }
}

fn progress_ui(cx: &Cx, ui: &mut Ui, done: f32, words: &str) {
    if cx.figure {
        cx.waits.set(true);
        return;
    }
    ui.horizontal(|ui| {
        ui.add(egui::ProgressBar::new(done).desired_width(160.0).desired_height(3.0));
        ui.small(words);
    });
}

fn controls_ui(cx: &Cx, ui: &mut Ui, set: &Leaderboard) {
    // Another setting is another table, which is begun when it is asked for.
    let change = |f: &dyn Fn(&mut Leaderboard)| {
        let mut new = Leaderboard { runs: false, ..set.clone() };
        f(&mut new);
        cx.set(SETS, move |p| p.shows.board = new.clone());
    };
    ui.horizontal_wrapped(|ui| {
        match &set.data {
            None => drop(ui.small("the program's own questions, none of them used in training")),
            Some(path) => {
                let name = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into());
                let back = ui.small_button(format!("{name} ✖"));
                if back.on_hover_text(format!("{}\nBack to the program's own questions", path.display())).clicked() {
                    change(&|b| b.data = None);
                }
            }
        }
        let hint = "folder, .csv or .jsonl of your own";
        if let Some(path) = field_ui(ui, "path of questions", "", hint, 170.0) {
            change(&|b| b.data = Some(path.trim().into()));
        }
        if set.data.is_some()
            && let Some(prompt) = field_ui(ui, "prompt around a question", &set.prompt, SLOT, 150.0)
        {
            change(&|b| b.prompt.clone_from(&prompt));
        }
    });
    ui.horizontal_wrapped(|ui| {
        let label = ui.small("questions");
        let mut n = set.questions;
        let drag = ui.add(egui::DragValue::new(&mut n).range(1..=MAX_QUESTIONS).speed(0.2)).labelled_by(label.id);
        named(&drag, "questions");
        if drag.changed() {
            change(&|b| b.questions = n);
        }
        ui.small("kept");
        let words = set.shares.iter().map(|s| share(*s).to_string()).collect::<Vec<_>>().join(", ");
        let why = ui.scope_id().with("why not these shares");
        if let Some(text) = field_ui(ui, "shares kept", &words, "0.25, 0.5", 90.0) {
            match Leaderboard::read_shares(&text) {
                Ok(shares) => {
                    ui.data_mut(|d| d.remove::<String>(why));
                    change(&|b| b.shares.clone_from(&shares));
                }
                Err(e) => ui.data_mut(|d| {
                    d.insert_temp(why, e);
                }),
            }
        }
        if let Some(why) = ui.data(|d| d.get_temp::<String>(why)) {
            ui.colored_label(cx.theme.bad, why);
        }
        let mut areas = set.areas;
        let tip = "Measures deletion and insertion, too, which takes some forty passes for each question and row";
        if ui.checkbox(&mut areas, "areas").on_hover_text(tip).changed() {
            change(&|b| b.areas = areas);
        }
        let done = set.runs && cx.ready(&Contest::of(cx.pane)).is_some();
        let (words, tip) = match (set.runs, done) {
            (true, true) => ("Again", "Measures all of it anew"),
            (true, false) => ("Stop", "Stops it; what was measured stays"),
            _ => ("Run", "Asks every question of the full model and of each method at each share"),
        };
        let runs = !set.runs;
        if ui.button(words).on_hover_text(tip).clicked() {
            match done {
                true => cx.jobs.again::<Contest>(),
                false => cx.set("run of the leaderboard", move |p| p.shows.board.runs = runs),
            }
        }
    });
}

/// A field for a line of text; what is written is taken when it is left with Enter.
fn field_ui(ui: &mut Ui, name: &str, now: &str, hint: &str, width: f32) -> Option<String> {
    let slot = ui.scope_id().with(name);
    let mut text: String = ui.data(|d| d.get_temp(slot)).unwrap_or_else(|| now.to_string());
    let edit = egui::TextEdit::singleline(&mut text).id(slot.with("box")).hint_text(hint).desired_width(width);
    let edit = ui.add(edit).on_hover_text(format!("{name}; Enter takes it"));
    named(&edit, name);
    let entered = edit.lost_focus() && ui.input(|i| i.key_pressed(egui::Key::Enter));
    if edit.has_focus() {
        ui.data_mut(|d| d.insert_temp(slot, text));
        return None;
    }
    ui.data_mut(|d| d.remove::<String>(slot));
    (entered && text != now).then_some(text)
}

/// The table, sorted, and below it one figure over the share kept.
fn board_ui(cx: &Cx, ui: &mut Ui, board: &Arc<Board>) {
    let set = &cx.pane.shows.board;
    ui.small(format!("{} {}", board.asked, board.set));
    let columns = columns(cx, board);
    if cx.figure {
        grid_ui(cx, ui, board, &columns);
    } else {
        let area = egui::ScrollArea::horizontal().id_salt("leaderboard").auto_shrink([false, true]);
        area.show(ui, |ui| grid_ui(cx, ui, board, &columns));
    }
    for note in &board.notes {
        ui.small(note);
    }
    for why in board.bad.iter().take(NAMED) {
        ui.colored_label(cx.theme.bad, RichText::new(why).small());
    }
    if board.bad.len() > NAMED {
        let rest = board.bad.iter().skip(NAMED).take(100).cloned().collect::<Vec<_>>().join("\n");
        ui.small(format!("and {} more that could not be used", board.bad.len() - NAMED)).on_hover_text(rest);
    }
    let figure = PLOTTED.into_iter().find(|f| COLUMNS[*f as usize].key == set.plotted).unwrap_or(PLOTTED[0]);
    let held: pictures::Held = board.clone();
    let plot = pictures::kept(ui, "figure over the share kept", &held, figure, || board.plot(figure));
    let Some(plot) = &*plot else { return };
    if !cx.figure {
        ui.horizontal(|ui| {
            for f in PLOTTED {
                let column = &COLUMNS[f as usize];
                if ui.selectable_label(f == figure, words(f)).on_hover_text(column.meaning).clicked() {
                    cx.set(SETS, move |p| p.shows.board.plotted = COLUMNS[f as usize].key.into());
                }
            }
        });
    }
    plot::ui(cx, ui, plot);
}

/// What a figure is called by itself.
fn words(figure: Figure) -> &'static str {
    match figure {
        Figure::FlopsShare => "operations",
        f => COLUMNS[f as usize].title,
    }
}

/// The columns that are shown: what nobody asked for is left out, and so are times in a figure, which is the same
/// whenever it is made.
fn columns(cx: &Cx, board: &Board) -> Vec<Figure> {
    use Figure::{Accuracy, Deletion, Flops, Insertion, Kept, Kl, KvBytes, Milliseconds, PeakBytes, Top1};
    let all = [Accuracy, Kl, Top1, Kept, Flops, KvBytes, Milliseconds, PeakBytes, Deletion, Insertion];
    let there = |f: &Figure| board.rows.iter().any(|r| r.get(*f).is_some());
    let told = |f: &Figure| !(cx.figure && Figure::MEASURED.contains(f));
    all.into_iter().filter(|f| there(f) && told(f)).collect()
}

fn grid_ui(cx: &Cx, ui: &mut Ui, board: &Board, columns: &[Figure]) {
    let sort = cx.pane.shows.board.sorted();
    egui::Grid::new("leaderboard").striped(true).spacing([14.0, 2.0]).show(ui, |ui| {
        ui.small("method");
        ui.small("asked").on_hover_text("Share of the tokens that the method was to keep");
        ui.small("n").on_hover_text("Questions that it served");
        for f in columns {
            heading_ui(cx, ui, *f, sort);
        }
        ui.end_row();
        for row in board.sorted(sort) {
            method_ui(cx, ui, row);
            ui.monospace(row.share.map_or("–".into(), |s| format!("{:.0}%", share(s) * 100.0)));
            ui.monospace(row.n.to_string());
            for f in columns {
                right_ui(ui, &cell(row, *f));
            }
            ui.end_row();
        }
    });
}

fn method_ui(cx: &Cx, ui: &mut Ui, row: &Standing) {
    let title = match (row.method, row.floor) {
        (FULL, _) => RichText::new(row.title()).strong(),
        (_, true) => RichText::new(format!("{} (floor)", row.title())).color(cx.theme.weak),
        _ => RichText::new(row.title()),
    };
    if row.notes.is_empty() || cx.figure {
        ui.label(title);
    } else {
        let mark = ui.label(RichText::new(format!("{} *", title.text())));
        mark.on_hover_text(row.notes.join("\n"));
    }
}

/// A heading, which sorts by its column; again, the other way round.
fn heading_ui(cx: &Cx, ui: &mut Ui, figure: Figure, sort: Option<(usize, bool)>) {
    let column = &COLUMNS[figure as usize];
    let by = sort.filter(|s| s.0 == figure as usize);
    let arrow = by.map_or("", |s| if s.1 { " ▼" } else { " ▲" });
    let text = RichText::new(format!("{}{arrow}", column.title)).small();
    if cx.figure {
        ui.label(text);
        return;
    }
    let r = ui.add(egui::Button::new(text).frame(false)).on_hover_text(format!("{}; a click sorts", column.meaning));
    if r.clicked() {
        // The best first, then the other way round, then as they come.
        let better = Figure::rises(figure as usize);
        let next = match by {
            None => Some((column.key.to_string(), better)),
            Some((_, falling)) if falling == better => Some((column.key.to_string(), !better)),
            Some(_) => None,
        };
        cx.set("order of the leaderboard", move |p| p.shows.board.sort.clone_from(&next));
    }
}

/// A number, right-aligned in its column.
fn right_ui(ui: &mut Ui, words: &str) {
    let font = egui::TextStyle::Monospace.resolve(ui.style());
    let color = ui.visuals().text_color();
    let galley = ui.painter().layout_no_wrap(words.into(), font, color);
    let size = vec2(galley.size().x.max(ui.available_width().min(72.0)), galley.size().y);
    let (rect, r) = ui.allocate_exact_size(size, Sense::hover());
    let at = Align2::RIGHT_CENTER.anchor_size(rect.right_center(), galley.size());
    ui.painter().galley(at.min, galley, color);
    r.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, words));
}

/// A figure in words.
fn cell(row: &Standing, figure: Figure) -> String {
    let Some(v) = row.get(figure) else { return String::new() };
    let percent = |v: f64| format!("{:.0}%", v * 100.0);
    let of_full = |share: Figure| row.get(share).map_or(String::new(), |s| format!(" {:>4}", percent(s)));
    match figure {
        Figure::Accuracy => {
            let ends = [Figure::Low, Figure::High].map(|f| row.get(f).unwrap_or(v) * 100.0);
            format!("{:.0}% [{:.0}–{:.0}]", v * 100.0, ends[0], ends[1])
        }
        Figure::Top1 | Figure::Kept | Figure::FlopsShare | Figure::KvShare => percent(v),
        Figure::Flops => format!("{}{}", widgets::number((v / 1e9) as f32), of_full(Figure::FlopsShare)),
        Figure::KvBytes => format!("{:.1}{}", v / 1e3, of_full(Figure::KvShare)),
        Figure::PeakBytes => format!("{:.1}", v / 1e6),
        Figure::Milliseconds => format!("{v:.1}"),
        _ => format!("{v:.3}"),
    }
}
