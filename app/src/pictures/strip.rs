//! The tokens in reading order as chips in lines. Where they lie is worked out once and kept; only lines on screen are
//! drawn, so that a long input costs no more than a short one.

use crate::cx::Cx;
use crate::pictures::widgets::{self, Link};
use egui::{Color32, Rect, Response, Sense, Ui, pos2, vec2};
use std::ops::Range;
use std::sync::{Arc, Weak};
use tokenscope_analysis::token::TokenKind;
use tokenscope_analysis::trace::{Tower, TowerTrace, Trace};

/// Between chips and between lines, in points.
const GAP: egui::Vec2 = vec2(1.0, 2.0);

/// A chip and where it begins on its line.
struct Place {
    /// First token.
    token: usize,
    /// Tokens it stands for; more than one only for tokens of a picture.
    n: usize,
    left: f32,
    width: f32,
}

impl Place {
    fn words(&self, tower: &TowerTrace) -> String {
        match self.n {
            1 => widgets::chip_words(&tower.tokens[self.token].text),
            n => widgets::chip_words(&format!("{n} image tokens")),
        }
    }
}

/// What the places depend on.
#[derive(Clone)]
struct Key {
    /// Not kept alive; but while this is held no other run can come to lie at the same address.
    trace: Weak<Trace>,
    tower: Tower,
    picture: bool,
    width: f32,
    font: egui::FontId,
    scale: f32,
    /// Fonts that were found on this machine so far.
    fonts: usize,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let rest = |k: &Self| (k.tower, k.picture, k.width, k.scale, k.fonts);
        self.trace.ptr_eq(&other.trace) && rest(self) == rest(other) && self.font == other.font
    }
}

struct Lines {
    places: Vec<Place>,
    /// First place of each line, and their number.
    starts: Vec<usize>,
    /// Height of a chip.
    height: f32,
}

impl Lines {
    /// Chips of these sizes side by side, a new line wherever one would reach beyond `width`.
    fn new(chips: impl Iterator<Item = (usize, usize, egui::Vec2)>, width: f32) -> Self {
        let mut out = Self { places: Vec::new(), starts: Vec::new(), height: 0.0 };
        let mut left = 0.0;
        for (token, n, size) in chips {
            if out.places.is_empty() || left + size.x > width {
                out.starts.push(out.places.len());
                left = 0.0;
            }
            out.places.push(Place { token, n, left, width: size.x });
            out.height = out.height.max(size.y);
            left += size.x + GAP.x;
        }
        out.starts.push(out.places.len());
        out
    }

    fn n(&self) -> usize {
        self.starts.len() - 1
    }

    /// From line to line.
    fn pitch(&self) -> f32 {
        self.height + GAP.y
    }

    /// Lines that reach into `top..bottom`, points below the top of the first.
    fn within(&self, top: f32, bottom: f32) -> Range<usize> {
        let first = (top / self.pitch()).floor().max(0.0) as usize;
        let end = (bottom / self.pitch()).ceil().max(0.0) as usize;
        first.min(self.n())..end.min(self.n())
    }

    fn line(&self, i: usize) -> &[Place] {
        &self.places[self.starts[i]..self.starts[i + 1]]
    }
}

/// Tokens of a strip, one by one; with a picture beside it, a run of image tokens is one.
fn runs(tower: &TowerTrace, picture: bool) -> impl Iterator<Item = (usize, usize)> {
    let mut i = 0;
    std::iter::from_fn(move || {
        let rest = tower.tokens.get(i..).filter(|r| !r.is_empty())?;
        let image = if picture { rest.iter().take_while(|t| t.kind == TokenKind::Image).count() } else { 0 };
        let (first, n) = (i, image.max(1));
        i += n;
        Some((first, n))
    })
}

/// Where the chips lie, worked out anew only when something it depends on changed.
fn lines(cx: &Cx, ui: &Ui, tower: &TowerTrace, picture: bool) -> Arc<Lines> {
    let font = widgets::chip_font(ui);
    let sized = |(token, n): (usize, usize)| {
        let words = Place { token, n, left: 0.0, width: 0.0 }.words(tower);
        let size = ui.painter().layout_no_wrap(words, font.clone(), Color32::PLACEHOLDER).size();
        (token, n, size + widgets::CHIP_MARGIN)
    };
    let width = ui.available_width();
    let make = || Arc::new(Lines::new(runs(tower, picture).map(sized), width));
    // Without the run there is nothing to tell by whether these are the same tokens.
    let Some((trace, name)) = cx.ready_trace().and_then(|t| cx.tower(&t).map(|own| own.0).map(|name| (t, name))) else {
        return make();
    };
    if trace.towers.get(&name).is_none_or(|own| !std::ptr::eq(own, tower)) {
        return make();
    }
    let key = Key {
        trace: Arc::downgrade(&trace),
        tower: name,
        picture,
        width,
        font: font.clone(),
        scale: ui.ctx().pixels_per_point(),
        fonts: ui.fonts(|f| f.discovered_fonts().len()),
    };
    let slot = ui.scope_id().with("lines");
    if let Some((of, lines)) = ui.data(|d| d.get_temp::<(Key, Arc<Lines>)>(slot))
        && of == key
    {
        return lines;
    }
    let lines = make();
    ui.data_mut(|d| d.insert_temp(slot, (key, lines.clone())));
    lines
}

/// Draws the tokens. `look` gives a token's colour and whether it is struck out, `drawn` what else there is to its chip.
pub(super) fn ui(
    cx: &Cx,
    ui: &mut Ui,
    tower: &TowerTrace,
    picture: bool,
    look: impl Fn(usize) -> (Color32, bool),
    mut drawn: impl FnMut(&mut Ui, usize, Response),
) {
    let lines = lines(cx, ui, tower, picture);
    let size = vec2(ui.available_width(), (lines.n() as f32 * lines.pitch() - GAP.y).max(0.0));
    let (rect, _) = ui.allocate_exact_size(size, Sense::empty());
    let clip = ui.clip_rect();
    let shown = match cx.figure {
        true => 0..lines.n(),
        false => lines.within(clip.top() - rect.top(), clip.bottom() - rect.top()),
    };
    let scope = ui.scope_id();
    for i in shown {
        for place in lines.line(i) {
            let corner = pos2(rect.left() + place.left, rect.top() + i as f32 * lines.pitch());
            let chip = Rect::from_min_size(corner, vec2(place.width, lines.height));
            let response = ui.interact(chip, scope.with(("token", place.token)), widgets::CHIP_SENSE);
            let words = place.words(tower);
            if place.n > 1 {
                widgets::chip_in(cx, ui, &response, words, cx.theme.line, false, Link::None);
                continue;
            }
            let (fill, struck) = look(place.token);
            let link = Link::Token(place.token, &tower.tokens[place.token]);
            widgets::chip_in(cx, ui, &response, words, fill, struck, link);
            drawn(ui, place.token, response);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chips_fill_lines_and_those_on_screen_are_found() {
        let widths = [40.0, 50.0, 30.0, 120.0, 10.0];
        let chips = widths.iter().enumerate().map(|(i, w)| (i, 1, vec2(*w, 16.0)));
        let lines = Lines::new(chips, 100.0);
        // 40 + 1 + 50 fit; the fourth is wider than a line and gets one of its own.
        let tokens = |i: usize| lines.line(i).iter().map(|p| p.token).collect::<Vec<_>>();
        assert_eq!((lines.n(), lines.pitch()), (4, 18.0));
        assert_eq!([tokens(0), tokens(1), tokens(2), tokens(3)], [vec![0, 1], vec![2], vec![3], vec![4]]);
        assert_eq!(lines.line(0)[1].left, 41.0);
        assert_eq!(lines.within(-100.0, 1000.0), 0..4);
        assert_eq!(lines.within(18.0, 36.0), 1..2);
        assert_eq!(lines.within(17.0, 37.0), 0..3);
        assert_eq!(lines.within(500.0, 600.0), 4..4);
        assert_eq!(Lines::new(std::iter::empty(), 100.0).n(), 0);
    }
}
