//! The ground truth over a score, where the program made the input itself: what decides the answer, and how well the
//! score finds it.

use crate::cx::Cx;
use crate::jobs::Status;
use crate::pictures::tokens::More;
use crate::pictures::widgets;
use crate::truth::Truth;
use crate::work::TruthOf;
use egui::{Pos2, Rect, Shape, Stroke, Ui, pos2, vec2};
use std::sync::Arc;
use tokenscope_analysis::finding::Fate;
use tokenscope_analysis::score::Scores;
use tokenscope_analysis::trace::TowerTrace;
use tokenscope_analysis::truth::{Agreement, Mask, TRUE_SHARE, true_tokens};

/// The truth of the shown run, by token.
pub(super) struct Known {
    truth: Arc<Truth>,
    /// Per token the share of it that decides; `None` for tokens that do not compete.
    pub shares: Vec<Option<f32>>,
    /// The true tokens.
    tokens: Vec<usize>,
}

/// The truth of the shown run, where there is one and the prediction at the last token is explained: that is the one
/// it is about.
pub(super) fn known(cx: &Cx, tower: &TowerTrace) -> Option<Known> {
    let last = tower.tokens.len().checked_sub(1)?;
    let explained = cx.pane.aim.tokens();
    if !explained.is_empty() && explained != [last] {
        return None;
    }
    let run = cx.shown_run().unwrap_or_else(|| cx.pane.run.clone());
    let Status::Ready(truth) = cx.status("truth", &TruthOf(run)) else { return None };
    let truth = truth.as_ref().clone()?;
    let shares = truth.shares(tower)?;
    let tokens = true_tokens(&shares);
    Some(Known { truth, shares, tokens })
}

/// Marks what is known to be true on a chip or on the picture.
pub(super) fn mark(cx: &Cx, ui: &Ui, known: Option<&Known>, more: &More) {
    match (known, more) {
        (Some(k), More::Chip(i, chip)) => k.mark_chip(cx, ui, *i, *chip),
        (Some(k), More::Picture(rect)) => k.mark_picture(cx, ui, *rect),
        (None, _) => {}
    }
}

impl Known {
    /// Whether token `i` is a true one.
    pub fn is_true(&self, i: usize) -> bool {
        self.tokens.binary_search(&i).is_ok()
    }

    /// How well `scores` agree with it.
    pub fn agreement(&self, scores: &Scores) -> Option<Agreement> {
        Agreement::new(&scores.values, scores.signed, &self.shares)
    }

    /// How many of the true tokens are not dropped, and how many there are.
    pub fn left(&self, fates: &[Fate]) -> (usize, usize) {
        let gone = |i: &&usize| matches!(fates.get(**i), Some(Fate::Dropped));
        (self.tokens.len() - self.tokens.iter().filter(gone).count(), self.tokens.len())
    }

    /// Marks a chip of a true token: a bracket below the word.
    fn mark_chip(&self, cx: &Cx, ui: &Ui, i: usize, chip: Rect) {
        if !cx.pane.shows.truth || !self.is_true(i) {
            return;
        }
        let r = chip.shrink2(vec2(1.5, 1.5));
        let path =
            [r.left_bottom() - vec2(0.0, 5.0), r.left_bottom(), r.right_bottom(), r.right_bottom() - vec2(0.0, 5.0)];
        strokes(cx, ui, vec![path.to_vec()]);
    }

    /// Outlines the true region on a picture that was drawn into `rect`.
    fn mark_picture(&self, cx: &Cx, ui: &Ui, rect: Rect) {
        let Some(mask) = self.truth.mask().filter(|_| cx.pane.shows.truth) else { return };
        let f = vec2(rect.width() / mask.width as f32, rect.height() / mask.height().max(1) as f32);
        let at = |(x, y): (usize, usize)| rect.min + vec2(x as f32 * f.x, y as f32 * f.y);
        let lines: Vec<Vec<Pos2>> = outline(mask).into_iter().map(|(a, b)| vec![at(a), at(b)]).collect();
        strokes(cx, ui, lines);
    }

    /// The switch, the answer, and the figures of the score.
    pub fn ui(&self, cx: &Cx, ui: &mut Ui, scores: &Scores) {
        let what = if self.truth.mask().is_some() { "true region" } else { "deciding words" };
        ui.horizontal_wrapped(|ui| {
            if cx.figure {
                if cx.pane.shows.truth {
                    key(cx, ui);
                    ui.small(what);
                }
            } else {
                let mut on = cx.pane.shows.truth;
                let tip = "Outlines on text and picture what decides the answer; it is known because the program made the input itself";
                if ui.checkbox(&mut on, what).on_hover_text(tip).changed() {
                    cx.set_look("ground truth", move |p| p.shows.truth = on);
                }
                key(cx, ui);
            }
            ui.small(format!("right answer {}", widgets::visible(&self.truth.answer)));
            match self.agreement(scores) {
                None => drop(ui.small("This score says nothing about the tokens that could be true.")),
                Some(a) => figures(&a).into_iter().for_each(|(words, tip)| drop(ui.small(words).on_hover_text(tip))),
            }
        });
    }
}

/// The figures in words, each with its definition.
fn figures(a: &Agreement) -> [(String, String); 3] {
    let hit = match a.hit {
        1.0 => "yes".to_string(),
        0.0 => "no".to_string(),
        part => format!("{part:.2} (equal scores)"),
    };
    let rank = a.rank.map_or("none".into(), |r| format!("{r:.2}"));
    let signs = "a score with a sign counts by its size";
    [
        (
            format!("pointing game: {hit}"),
            format!(
                "Whether the largest score among the {} competing tokens is at a true one. True is a token of which \
                 at least {:.0}% decides the answer; {signs}.",
                a.n,
                TRUE_SHARE * 100.0
            ),
        ),
        (
            format!("precision at the true size: {:.0}% of {}", a.precision * 100.0, a.n_true),
            format!(
                "Share of true tokens among the {0} largest scores, as there are {0} true tokens; by chance {1:.0}%. \
                 Of equal scores at the cut their mean counts.",
                a.n_true,
                100.0 * a.n_true as f64 / a.n.max(1) as f64
            ),
        ),
        (
            format!("rank correlation: {rank}"),
            format!(
                "Spearman's, between the score and the share of each token that decides, equal values sharing their \
                 rank: 1 is the same order, 0 none; {signs}."
            ),
        ),
    ]
}

/// The mark in small, for the legend.
fn key(cx: &Cx, ui: &mut Ui) {
    let (rect, _) = ui.allocate_exact_size(vec2(14.0, 12.0), egui::Sense::hover());
    let r = rect.shrink(2.0);
    let corner = |p: Pos2| pos2(p.x, p.y - 5.0);
    strokes(cx, ui, vec![vec![corner(r.left_bottom()), r.left_bottom(), r.right_bottom(), corner(r.right_bottom())]]);
}

/// Lines that show on every colour: dark on light in the light window, the other way round in the dark one.
fn strokes(cx: &Cx, ui: &Ui, paths: Vec<Vec<Pos2>>) {
    // All of the halo first, so that it covers none of the lines.
    for stroke in [Stroke::new(4.0, cx.theme.background), Stroke::new(2.0, cx.theme.text)] {
        ui.painter().extend(paths.iter().map(|p| Shape::line(p.clone(), stroke)));
    }
}

/// Corners at both ends of a line, in pixels from the top left.
type Segment = ((usize, usize), (usize, usize));

/// The lines between the pixels inside and those outside of a mask, as long as they go.
fn outline(mask: &Mask) -> Vec<Segment> {
    let (w, h) = (mask.width, mask.height());
    let inside = |x: Option<usize>, y: Option<usize>| matches!((x, y), (Some(x), Some(y)) if mask.at(x, y));
    let mut out = Vec::new();
    let mut runs = |along: usize, across: usize, edge: &dyn Fn(usize, usize) -> bool, flip: bool| {
        for j in 0..=across {
            let mut i = 0;
            while i < along {
                let from = i;
                while i < along && edge(i, j) {
                    i += 1;
                }
                if i > from {
                    out.push(if flip { ((j, from), (j, i)) } else { ((from, j), (i, j)) });
                }
                i += 1;
            }
        }
    };
    runs(w, h, &|x, y| inside(Some(x), y.checked_sub(1)) != inside(Some(x), Some(y)), false);
    runs(h, w, &|y, x| inside(x.checked_sub(1), Some(y)) != inside(Some(x), Some(y)), true);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outline_goes_around_and_along_the_edge_of_the_picture() {
        // An L of three pixels in the lower left corner of 3 x 3.
        let inside = [0, 0, 0, 1, 0, 0, 1, 1, 0].map(|i| i == 1).to_vec();
        let mut lines = outline(&Mask { width: 3, inside });
        lines.sort_unstable();
        let want = [
            ((0, 1), (0, 3)),
            ((0, 1), (1, 1)),
            ((0, 3), (2, 3)),
            ((1, 1), (1, 2)),
            ((1, 2), (2, 2)),
            ((2, 2), (2, 3)),
        ];
        assert_eq!(lines, want);
        assert!(outline(&Mask { width: 2, inside: vec![false; 4] }).is_empty());
    }

    #[test]
    fn figures_are_said_with_their_chance() {
        let a = Agreement { hit: 0.5, precision: 0.25, rank: None, n_true: 4, n: 16 };
        let [hit, precision, rank] = figures(&a);
        assert_eq!(hit.0, "pointing game: 0.50 (equal scores)");
        assert_eq!(precision.0, "precision at the true size: 25% of 4");
        assert!(precision.1.contains("by chance 25%"));
        assert_eq!(rank.0, "rank correlation: none");
    }
}
