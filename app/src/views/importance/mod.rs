//! Which tokens matter, what a reduction drops, what the reduced model then says, and the maps of every head.

mod axes;
mod faithful;
mod gather;
pub(super) mod leaderboard;
mod maps;
mod reduction;
mod retention;
pub(super) mod schedule;
mod scores;
mod several;
mod thumbnails;
mod truth;

use super::{View, heat};
use crate::cx::Cx;
use crate::pictures::On;
use crate::state::Command;
use egui::Ui;
use serde_json::json;
use tokenscope_analysis::finding::Table;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::reduce::Fate;
use tokenscope_analysis::token::Source;
use tokenscope_analysis::trace::{Tower, TowerTrace};

pub(super) const VIEW: View = View {
    id: "importance",
    title: "Importance",
    shows: &[Kind::Score, Kind::Reduce],
    help: "Colour says how much a token matters for the prediction at the selected token: click one, Shift+click a range, Esc goes back to the last.\n\
           Where the input is an example whose answer is known, brackets and outlines mark what decides it, and below the legend stands how well the score finds it.\n\
           Per: the score of each word, sentence, line, own segment of selected tokens, or region of the picture, as sum, mean or maximum.\n\
           Faithfulness: what the model still says when the tokens that the score puts first are taken away, or are all that is there, against random order.\n\
           Reduction: which tokens a method keeps, drops and merges, on the text and on the picture, layer by layer, and what the model says then.\n\
           Schedule: drag its points, click beside one to add another, right button for what happens there; or write it, as 2:288 inject@8 exit@20; any method's own can be edited so.\n\
           Retention: how close the reduced model stays at every budget, with random and uniform choice as the floor; below, the chosen methods side by side at one budget, and how far they agree.\n\
           Leaderboard: the same methods on many pictures and questions, the program's or your own (a CSV or lines of JSON with image, question and answer), each really carried out: answers right with their 95% interval, KL, top-1, operations, keys and values, time, memory. A click on a heading sorts.\n\
           Attention maps: queries down, keys across.\n\
           Ctrl+wheel zooms, a drag pans, a double click shows the whole; with the map in focus the arrow keys pan, + and - zoom; close up, rows and columns carry their tokens and cells their numbers.\n\
           Click a thumbnail to choose a head.\n\
           Per row, each query's largest share has the last colour; masking the sink hatches the first token and leaves it out of the scale.",
    hint: "Click a token to explain the prediction there; Shift+click for a range.",
    ui,
    own_height: true,
    table,
};

fn ui(cx: &Cx, ui: &mut Ui) {
    cx.long(ui, |ui| {
        let Some(trace) = cx.trace(ui) else { return };
        if !cx.figure && trace.towers.len() > 1 {
            ui.horizontal(|ui| {
                for (tower, name) in [(Tower::Text, "text"), (Tower::Vision, "image encoder")] {
                    let on = cx.pane.tower.unwrap_or(trace.main_tower()) == tower;
                    if trace.towers.contains_key(&tower) && ui.selectable_label(on, name).clicked() && !on {
                        cx.send(Command::Tower(Some(tower)));
                    }
                }
            });
        }
        let Some((name, tower)) = cx.tower(&trace) else { return };
        let picture = if tower.has_image() { cx.picture(ui, "picture", &trace) } else { None };
        let on = On { tower: Some((name, tower)), picture: picture.as_ref(), text: &trace.text };
        let parts_ui = |ui: &mut Ui, parts: &[usize]| {
            for &i in parts {
                if i != parts[0] && !cx.figure {
                    ui.separator();
                }
                if !part_ui(cx, ui, i, tower) {
                    continue;
                }
                cx.steady(ui, PARTS[i], |ui| match i {
                    0 => scores::ui(cx, ui, tower, &on),
                    1 => reduction::ui(cx, ui, tower, &on),
                    2 => retention::ui(cx, ui, &on),
                    _ => maps::ui(cx, ui, tower),
                });
            }
        };
        // Where there is room, what the model looks at stands beside what a reduction does.
        if !cx.figure && ui.available_width() >= BESIDE {
            ui.columns(2, |sides| {
                for (ui, parts) in sides.iter_mut().zip([[0, 3], [1, 2]]) {
                    ui.vertical(|ui| parts_ui(ui, &parts));
                }
            });
        } else {
            parts_ui(ui, &[0, 1, 2, 3]);
        }
    });
}

/// Width from which the parts stand in two columns, in points.
const BESIDE: f32 = 860.0;

/// The parts of the view, top to bottom.
pub const PARTS: [&str; 4] = ["scores", "reduction", "retention", "attention"];

/// The heading of a part, which opens and closes it. Gives whether it is open.
fn part_ui(cx: &Cx, ui: &mut Ui, i: usize, tower: &TowerTrace) -> bool {
    let (name, open) = (PARTS[i], cx.pane.shows.parts[i]);
    if cx.figure {
        if open && cx.pane.shows.parts[..i].contains(&true) {
            ui.separator();
        }
        return open;
    }
    let title = ["Scores", "Reduction", "Retention curves", "Attention maps"][i];
    let text = format!("{} {title}", if open { "▼" } else { "▶" });
    let button = egui::Button::new(egui::RichText::new(text).strong()).frame(false);
    ui.horizontal_wrapped(|ui| {
        if ui.add(button).on_hover_text(format!("Opens and closes the {name}")).clicked() {
            let mut parts = cx.pane.shows.parts;
            parts[i] = !open;
            cx.set_look("open parts", move |p| p.shows.parts = parts);
        }
        if i == 1 && open {
            reduction::heading_ui(cx, ui, tower);
        }
    });
    open
}

/// The numbers of the one part that is open, where there is only one; else those of the tokens.
fn table(cx: &Cx) -> Option<Table> {
    let trace = cx.ready_trace()?;
    let (_, tower) = cx.tower(&trace)?;
    match cx.pane.shows.parts {
        [false, false, true, false] => return retention_table(cx),
        [false, false, false, true] => return map_table(cx, tower),
        _ => {}
    }
    let scores = cx.ready(&scores::asked(cx))?;
    if let Some(gathered) = gather::ready(cx).filter(|_| cx.pane.shows.parts[0]) {
        return Some(gathered.table(&format!("{} ({})", cx.call(Kind::Score).method, scores.unit)));
    }
    let reduced = cx.ready(&reduction::asked(cx));
    // Where the run cannot serve the chosen method, another stands in.
    let score = format!("{} ({})", cx.call(Kind::Score).method, scores.unit);
    let prune = cx.call(Kind::Reduce).method;
    let mut columns = vec!["index", "id", "text", "kind", &score, "x", "y", "width", "height", &prune];
    // What is known about the run; the three figures are about the whole of it and stand in every row.
    let known = truth::known(cx, tower);
    if known.is_some() {
        columns.extend(["true_share", "pointing_game_hit", "precision_at_true_size", "rank_correlation"]);
    }
    let agreement = known.as_ref().and_then(|k| k.agreement(&scores));
    let mut table = Table::new(&columns);
    for (i, t) in tower.tokens.iter().enumerate() {
        let fate = reduced.as_ref().and_then(|p| p.fates.get(i)).map(|f| match f {
            Fate::Kept => "kept".to_string(),
            Fate::Merged(row) => format!("merged {row}"),
            Fate::Aside(_) => "set aside".to_string(),
            Fate::Dropped(_) => "dropped".to_string(),
        });
        let rect = match t.source {
            Source::Rect { x, y, w, h } => [Some(x), Some(y), Some(w), Some(h)],
            _ => [None; 4],
        };
        let value = scores.values.get(i).copied().flatten();
        let mut row = vec![json!(i), json!(t.id), json!(t.text), json!(t.kind), json!(value)];
        row.extend(rect.map(|v| json!(v)));
        row.push(json!(fate));
        if let Some(k) = &known {
            row.push(json!(k.shares.get(i).copied().flatten()));
            let figures = [agreement.map(|a| a.hit), agreement.map(|a| a.precision), agreement.and_then(|a| a.rank)];
            row.extend(figures.map(|v| json!(v)));
        }
        table.rows.push(row);
    }
    Some(table)
}

fn retention_table(cx: &Cx) -> Option<Table> {
    if let Some(board) = leaderboard::ready(cx) {
        return Some(board.table());
    }
    let points = retention::points(cx);
    let mut table = Table::new(&["method", "kept_share", "kl_nats", "top1_same", "cosine"]);
    for (id, p) in &points {
        table.rows.push(vec![json!(id), json!(p.kept), json!(p.kl), json!(p.top1), json!(p.cosine)]);
    }
    (!points.is_empty()).then_some(table)
}

fn map_table(cx: &Cx, tower: &TowerTrace) -> Option<Table> {
    let asked = maps::asked(cx, tower);
    let map = cx.ready(&asked)?;
    let cells = heat::host(cx, &map, &asked)?;
    let (rows, cols) = (map.window.query_edges(), map.window.key_edges());
    let exact = map.window.is_exact();
    // Of a long input a cell covers several pairs, from its first query and key up to before its last.
    let names = ["query", "key", "query end", "key end", "share of attention"];
    let mut table = if exact { Table::new(&[names[0], names[1], names[4]]) } else { Table::new(&names) };
    for (q, line) in rows.windows(2).zip(cells.data().chunks_exact(map.window.cols.max(1))) {
        for (k, v) in cols.windows(2).zip(line) {
            let pair = vec![json!(q[0]), json!(k[0])];
            let ends = if exact { vec![] } else { vec![json!(q[1]), json!(k[1])] };
            table.rows.push(pair.into_iter().chain(ends).chain([json!(v)]).collect());
        }
    }
    Some(table)
}
