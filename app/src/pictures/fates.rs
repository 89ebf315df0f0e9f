//! What becomes of each element, stage by stage: kept as it is, merged in the colour of its group, dropped under a veil.

use super::marks;
use super::overlay::{self, Over};
use super::tokens::{self, Look, More};
use super::{On, widgets};
use crate::cx::Cx;
use egui::Ui;
use std::borrow::Cow;
use tokenscope_analysis::finding::{self, Fate, FateStage, Fates, Unit};

/// The stage that is seen when `layer` begins; `None` where nothing has happened yet. Without a layer, the last one.
fn stage_at(fates: &Fates, layer: Option<usize>) -> Option<&FateStage> {
    match layer {
        None => fates.stages.last(),
        Some(l) => fates.stages.iter().rev().find(|s| s.layer.is_some_and(|first| first <= l)),
    }
}

/// What is the matter with each of `n` elements when `layer` begins.
pub fn at(fates: &Fates, layer: Option<usize>) -> Cow<'_, [Fate]> {
    match stage_at(fates, layer) {
        Some(stage) => Cow::Borrowed(&stage.fates),
        None => Cow::Owned(vec![Fate::Kept; fates.at(None).len()]),
    }
}

/// Draws `fates` as they are at the layer that the document chooses, with a slider and a legend.
pub fn ui(cx: &Cx, ui: &mut Ui, on: &On, fates: &Fates) {
    let n = fates.stages.iter().filter_map(|s| s.layer).max();
    if let Some(n) = n {
        super::stage::ui(cx, ui, &Unit::Layers, n + 1, "after all layers");
    }
    ui.horizontal_wrapped(|ui| keys_ui(cx, ui, &at(fates, cx.pane.cursor.at_layer)));
    with(cx, ui, on, fates, &mut |_, _| {});
}

/// Draws the elements alone; `more` may draw over tokens and pictures.
pub fn with(cx: &Cx, ui: &mut Ui, on: &On, fates: &Fates, more: &mut dyn FnMut(&Ui, More)) {
    let (now, stage) = (at(fates, cx.pane.cursor.at_layer), stage_at(fates, cx.pane.cursor.at_layer));
    let fate = |i: usize| now.get(i).copied().unwrap_or(Fate::Kept);
    // By what it was chosen, at the last stage so far that scored it.
    let so_far = match stage {
        Some(stage) => fates.stages.iter().position(|s| std::ptr::eq(s, stage)).map_or(0, |i| i + 1),
        None => 0,
    };
    let score = |i: usize| {
        let scored = |s: &FateStage| Some((s.scores.get(i).copied().flatten()?, s.threshold));
        let (v, threshold) = fates.stages[..so_far].iter().rev().find_map(scored)?;
        let name = fates.measure.map_or("score", |m| m.name);
        let cut = threshold.map_or(String::new(), |t| format!(", goes below {}", widgets::number(t)));
        Some(format!("\n{name} {}{cut}", widgets::number(v)))
    };
    let say = |i: usize| {
        let what = match fate(i) {
            Fate::Merged(group) => format!("merged into row {group}"),
            Fate::Dropped => match fates.dropped_at(i).and_then(|s| fates.stages.get(s)) {
                Some(s) => format!("dropped {}", s.name),
                None => "dropped, comes back later".into(),
            },
            other => other.name().to_string(),
        };
        format!("{}: {what}{}", fates.unit.label(i), score(i).unwrap_or_default())
    };
    let over = |i: usize| match fate(i) {
        Fate::Kept => Over::default(),
        Fate::Merged(group) => {
            let color = cx.theme.group(group);
            Over { fill: color.gamma_multiply(0.4), outline: Some(color), ..Over::default() }
        }
        Fate::Dropped => Over { fill: cx.theme.veil, crossed: true, ..Over::default() },
        Fate::Masked | Fate::Away => {
            let (color, mark) = marks::of(cx.theme, finding::Look::Quiet);
            Over { fill: cx.theme.veil, mark: Some((mark, color)), ..Over::default() }
        }
    };
    let look = |i: usize| {
        let (chip, struck) = match fate(i) {
            Fate::Kept => (cx.theme.chips[0], false),
            Fate::Merged(group) => (cx.theme.group(group), false),
            Fate::Dropped => (cx.theme.background, true),
            Fate::Masked | Fate::Away => (cx.theme.line, false),
        };
        Look { chip, struck, over: over(i) }
    };
    match (&fates.unit, on.picture) {
        (Unit::Cells(grid), Some(picture)) => {
            let (height, places) = (tokens::picture_height(ui), overlay::of_cells(grid, picture));
            overlay::ui(cx, ui, picture, on, &fates.unit, &places, height, &over, &say);
        }
        _ if on.tokens(&fates.unit).is_some() => tokens::ui(cx, ui, on, &fates.unit, &look, &say, more),
        _ => {
            ui.horizontal_wrapped(|ui| {
                ui.spacing_mut().item_spacing = egui::vec2(1.0, 2.0);
                for i in 0..now.len() {
                    let l = look(i);
                    let words = on.short(&fates.unit, i);
                    let chip = widgets::chip(cx, ui, &words, l.chip, l.struck, widgets::Link::None);
                    chip.on_hover_ui(|ui| drop(ui.label(say(i))));
                }
            });
        }
    }
}

/// What the colours mean, with how many elements each is of.
pub fn keys_ui(cx: &Cx, ui: &mut Ui, fates: &[Fate]) {
    let count = |f: fn(&Fate) -> bool| fates.iter().filter(|x| f(x)).count();
    let kept = count(|f| *f == Fate::Kept);
    ui.spacing_mut().item_spacing.x = 4.0;
    widgets::key(cx, ui, cx.theme.chips[0], cx.theme.line, &format!("{kept} kept"));
    let mut groups: Vec<usize> =
        fates.iter().filter_map(|f| if let Fate::Merged(r) = f { Some(*r) } else { None }).collect();
    if !groups.is_empty() {
        let merged = groups.len();
        groups.sort_unstable();
        groups.dedup();
        let words = format!("{merged} merged into {}, one colour a group", groups.len());
        widgets::key(cx, ui, cx.theme.group(1), cx.theme.line, &words);
    }
    for (n, words) in [
        (count(|f| *f == Fate::Masked), "masked: there, but not looked at"),
        (count(|f| *f == Fate::Away), "away at this layer"),
    ] {
        if n > 0 {
            widgets::key(cx, ui, cx.theme.line, cx.theme.weak, &format!("{n} {words}"));
        }
    }
    let dropped = count(|f| *f == Fate::Dropped);
    let words = format!("{dropped} dropped, crossed out");
    marks::entry(cx.theme, ui, &words, "", 12.0, &|painter, rect| {
        let square = egui::Rect::from_center_size(rect.center(), egui::vec2(11.0, 11.0));
        painter.rect(square, 2.0, cx.theme.background, egui::Stroke::new(1.0, cx.theme.weak), egui::StrokeKind::Inside);
        overlay::cross(cx, painter, square);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_shows_from_the_layer_that_first_sees_it() {
        let cut = vec![Fate::Kept, Fate::Dropped];
        let stages = vec![FateStage::new("after layer 0", Some(1), cut.clone())];
        let fates = Fates { title: "f".into(), unit: Unit::Positions, measure: None, stages };
        assert_eq!(*at(&fates, Some(0)), [Fate::Kept, Fate::Kept]);
        assert_eq!(*at(&fates, Some(1)), *cut);
        assert_eq!(*at(&fates, None), *cut);
    }
}
