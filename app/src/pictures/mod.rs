//! How findings look: one file draws one shape, on screen and in figures alike, with a legend, what is said under the
//! pointer, and words for screen readers. Selection and hover go by unit, in every picture alike.

pub mod classes;
pub mod controls;
pub mod cuts;
pub mod fates;
pub mod fold;
pub mod heat;
pub mod image;
pub mod links;
pub mod marks;
pub mod matrix;
mod on;
pub mod overlay;
pub mod plot;
pub mod scale;
pub mod stage;
pub mod strip;
mod strokes;
pub mod table;
pub mod timeline;
pub mod tokens;
pub mod tree;
pub mod widgets;

pub use on::On;
pub use strokes::Strokes;

use crate::cx::Cx;
use egui::Ui;
use std::any::Any;
use std::sync::Arc;
use tokenscope_analysis::finding::{Figure, Finding, Picture, Table, Unit};

/// What keeps a picture alive while what was made of it is kept from frame to frame.
pub type Held = Arc<dyn Any + Send + Sync>;

/// What `make` gave for what `held` holds and for this key, made anew where one of them changed.
pub fn kept<K, V>(ui: &Ui, name: &'static str, held: &Held, key: K, make: impl FnOnce() -> V) -> Arc<V>
where
    K: Clone + PartialEq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let slot = ui.scope_id().with(name);
    // It is kept as well, so that nothing else can take its address.
    if let Some((of, k, value)) = ui.data(|d| d.get_temp::<(Held, K, Arc<V>)>(slot))
        && Arc::ptr_eq(&of, held)
        && k == key
    {
        return value;
    }
    let value = Arc::new(make());
    ui.data_mut(|d| d.insert_temp(slot, (held.clone(), key, value.clone())));
    value
}

/// Draws one picture, which `held` keeps alive.
pub fn ui(cx: &Cx, ui: &mut Ui, on: &On, picture: &Picture, held: &Held) {
    match picture {
        Picture::Heat(p) => heat::ui(cx, ui, on, p),
        Picture::Classes(p) => classes::ui(cx, ui, on, p),
        Picture::Fates(p) => fates::ui(cx, ui, on, p),
        Picture::Cuts(p) => cuts::ui(cx, ui, on, p),
        Picture::Matrix(p) => matrix::ui(cx, ui, on, p),
        Picture::Links(p) => links::ui(cx, ui, on, p, held),
        Picture::Tree(p) => tree::ui(cx, ui, p, held),
        Picture::Timeline(p) => timeline::ui(cx, ui, on, p),
        Picture::Plot(p) => drop(plot::ui(cx, ui, p)),
        Picture::Image(p) => image::ui(cx, ui, on, p),
        Picture::Table(p) => table::ui(cx, ui, p),
    }
}

/// The numbers behind a picture; where it counts tokens of the shown stack of layers, with their text.
pub fn table_of(on: &On, picture: &Picture) -> Table {
    let mut table = picture.table();
    let unit = match picture {
        Picture::Heat(p) => &p.unit,
        Picture::Classes(p) => &p.unit,
        Picture::Fates(p) => &p.unit,
        _ => return table,
    };
    if let Some(tower) = on.tokens(unit) {
        table.columns.insert(1, "text".into());
        for row in &mut table.rows {
            let token = row.first().and_then(|v| v.as_u64()).and_then(|i| tower.tokens.get(i as usize));
            row.insert(1, token.map(|t| t.text.clone()).into());
        }
    }
    table
}

/// Draws a whole finding, which `held` keeps alive: figures, pictures under their titles, what was proven, notes.
pub fn finding_ui(cx: &Cx, ui: &mut Ui, on: &On, finding: &Finding, held: &Held) {
    figures_ui(ui, &finding.figures);
    if let Some(proof) = &finding.proof {
        let (mark, color) = if proof.holds { ("✔", cx.theme.good) } else { ("✖ not", cx.theme.bad) };
        ui.colored_label(color, format!("{mark} {}: {}", proof.claim, proof.words));
    }
    let mut rest = &finding.pictures[..];
    while !rest.is_empty() {
        // Pictures that need little room stand side by side.
        let n = rest.iter().take_while(|p| is_small(p)).count().max(1);
        let (row, later) = rest.split_at(n);
        ui.push_id(("pictures", finding.pictures.len() - rest.len()), |ui| {
            columns(ui, row.len(), NARROW, |ui, i, _| {
                if !row[i].title().is_empty() {
                    ui.strong(capital(row[i].title()));
                }
                self::ui(cx, ui, on, &row[i], held);
                ui.add_space(8.0);
            });
        });
        rest = later;
    }
    for note in &finding.notes {
        ui.small(note);
    }
}

/// Width that a small picture has at least, in points.
const NARROW: f32 = 300.0;

/// Whether a picture needs no more room than a column: heads, plots, pictures of their own, small matrices.
fn is_small(picture: &Picture) -> bool {
    match picture {
        Picture::Heat(h) => !matches!(h.unit, Unit::Tokens(_) | Unit::Cells(_)) && h.values.len() <= 64,
        Picture::Matrix(m) => m.size[1] <= 12,
        Picture::Plot(_) | Picture::Image(_) => true,
        _ => false,
    }
}

/// `n` things side by side, as many in a row as have `narrow` points each; `add` is told which, and its width.
pub fn columns(ui: &mut Ui, n: usize, narrow: f32, mut add: impl FnMut(&mut Ui, usize, f32)) {
    let gap = ui.spacing().item_spacing.x;
    let across = (((ui.available_width() + gap) / (narrow + gap)) as usize).clamp(1, n.max(1));
    let width = ((ui.available_width() + gap) / across as f32 - gap).max(16.0);
    for row in (0..n).step_by(across) {
        ui.horizontal_top(|ui| {
            for i in row..(row + across).min(n) {
                ui.push_id(i, |ui| {
                    ui.vertical(|ui| {
                        ui.set_width(width);
                        add(ui, i, width);
                    })
                });
            }
        });
    }
}

/// Figures side by side, each with its definition under the pointer.
pub fn figures_ui(ui: &mut Ui, figures: &[Figure]) {
    if figures.is_empty() {
        return;
    }
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = egui::vec2(16.0, 2.0);
        for f in figures {
            let words = format!("{} {}", f.name, f.words());
            let mut job = egui::text::LayoutJob::default();
            let (body, weak) = (egui::TextStyle::Body.resolve(ui.style()), ui.visuals().weak_text_color());
            let plain = |color| egui::TextFormat::simple(body.clone(), color);
            job.append(&f.name, 0.0, plain(weak));
            job.append(&f.words(), 5.0, plain(ui.visuals().text_color()));
            // A name and its number stay together; only long words are broken.
            let label = egui::Label::new(job);
            let response = ui.add(if words.chars().count() < 44 { label.extend() } else { label });
            response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, &words));
            if !f.meaning.is_empty() {
                response.on_hover_text(f.meaning.as_ref());
            }
        }
    });
}

/// With a capital letter first.
fn capital(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map_or(String::new(), |c| c.to_uppercase().chain(chars).collect())
}
