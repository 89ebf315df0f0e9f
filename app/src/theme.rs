//! Colours and spacing: the only place that names a colour.

use crate::fonts;
use egui::{Color32, FontId, TextStyle, Visuals};
use serde::{Deserialize, Serialize};

/// Colours of magnitudes. Each grows steadily lighter or darker, so that readers who see few hues, and paper without
/// any, keep the order of the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColorMap {
    /// Blue to yellow, made for colour-blind readers.
    #[default]
    Cividis,
    /// Violet over green to yellow.
    Viridis,
    /// Black over red to pale yellow: the widest range of lightness.
    Magma,
    /// From the colour of the page to that of its text, for print without colour.
    Grey,
}

impl ColorMap {
    /// Every map.
    pub const ALL: [Self; 4] = [Self::Cividis, Self::Viridis, Self::Magma, Self::Grey];

    /// Its name, in settings and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cividis => "cividis",
            Self::Viridis => "viridis",
            Self::Magma => "magma",
            Self::Grey => "grey",
        }
    }

    /// The map of that name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }
}

/// The look, light or dark.
#[derive(Debug, Clone)]
pub struct Theme {
    /// Dark colours.
    pub dark: bool,
    /// Colours of magnitudes.
    pub map: ColorMap,
    /// Text of 7 to 9 pt, for figures on paper.
    pub print: bool,
    /// Behind views.
    pub background: Color32,
    /// Text.
    pub text: Color32,
    /// Less important text.
    pub weak: Color32,
    /// Lines and borders.
    pub line: Color32,
    /// Behind what can be typed into.
    pub field: Color32,
    /// What is selected or active.
    pub accent: Color32,
    /// What went well.
    pub good: Color32,
    /// What was refused or failed.
    pub bad: Color32,
    /// Laid over what was dropped.
    pub veil: Color32,
    /// Lies over what is not being talked about.
    pub dim: Color32,
    /// Backgrounds of token chips.
    pub chips: [Color32; 8],
}

impl Theme {
    /// The dark or the light look, with magnitudes in the colours of `map`.
    pub fn new(dark: bool, map: ColorMap) -> Self {
        let rgb = Color32::from_rgb;
        if dark {
            Self {
                dark,
                map,
                print: false,
                background: rgb(24, 26, 30),
                text: rgb(226, 228, 232),
                weak: rgb(150, 155, 165),
                line: rgb(60, 64, 72),
                field: rgb(12, 13, 16),
                accent: rgb(86, 180, 233),
                good: rgb(0, 158, 115),
                bad: rgb(230, 120, 50),
                veil: Color32::from_black_alpha(190),
                dim: Color32::from_black_alpha(150),
                chips: [
                    rgb(52, 66, 92),
                    rgb(78, 60, 50),
                    rgb(46, 76, 66),
                    rgb(76, 52, 78),
                    rgb(72, 70, 44),
                    rgb(46, 72, 84),
                    rgb(82, 54, 60),
                    rgb(58, 58, 88),
                ],
            }
        } else {
            Self {
                dark,
                map,
                print: false,
                background: rgb(252, 252, 253),
                text: rgb(28, 30, 34),
                weak: rgb(100, 105, 115),
                line: rgb(208, 211, 217),
                field: rgb(236, 239, 244),
                accent: rgb(0, 114, 178),
                good: rgb(0, 128, 96),
                bad: rgb(190, 80, 0),
                veil: Color32::from_white_alpha(205),
                dim: Color32::from_black_alpha(96),
                chips: [
                    rgb(214, 226, 246),
                    rgb(248, 226, 210),
                    rgb(208, 236, 224),
                    rgb(238, 216, 240),
                    rgb(240, 236, 202),
                    rgb(206, 232, 242),
                    rgb(246, 216, 220),
                    rgb(222, 220, 246),
                ],
            }
        }
    }

    /// The same for paper: text of 7 to 9 pt, and white behind dark text.
    pub fn on_paper(self) -> Self {
        let background = if self.dark { self.background } else { Color32::WHITE };
        Self { print: true, background, ..self }
    }

    /// Puts fonts, sizes and colours into `ctx`.
    pub fn install(&self, ctx: &egui::Context) {
        ctx.set_fonts(fonts::bundled());
        self.apply(ctx);
    }

    /// Puts sizes and colours into `ctx`; cheap enough for a switch between light and dark.
    pub fn apply(&self, ctx: &egui::Context) {
        let mut visuals = if self.dark { Visuals::dark() } else { Visuals::light() };
        visuals.panel_fill = self.background;
        visuals.text_edit_bg_color = Some(self.field);
        visuals.override_text_color = Some(self.text);
        visuals.selection.bg_fill = self.accent.gamma_multiply(0.4);
        visuals.hyperlink_color = self.accent;
        // What has the keyboard is drawn as active: it must be found at a glance.
        visuals.widgets.active.bg_stroke = egui::Stroke::new(2.0, self.accent);
        ctx.set_theme(if self.dark { egui::Theme::Dark } else { egui::Theme::Light });
        ctx.set_visuals(visuals);
        // A point of egui is 1/96 inch, so 12 of them are 9 pt and 10 are 7.5 pt.
        let [heading, body, small] = if self.print { [12.0, 12.0, 10.0] } else { [16.0, 13.0, 11.0] };
        ctx.all_styles_mut(|style| {
            style.text_styles = [
                (TextStyle::Heading, FontId::proportional(heading)),
                (TextStyle::Body, FontId::proportional(body)),
                (TextStyle::Button, FontId::proportional(body)),
                (TextStyle::Monospace, FontId::monospace(body)),
                (TextStyle::Small, FontId::proportional(small)),
            ]
            .into();
            style.spacing.item_spacing = egui::vec2(8.0, 4.0);
            // What is cut must show that it is.
            style.spacing.scroll = egui::style::ScrollStyle::thin();
            style.spacing.scroll.dormant_handle_opacity = 0.5;
        });
    }

    /// The colour of a magnitude, `t` in 0..=1.
    pub fn magnitude(&self, t: f32) -> Color32 {
        const CIVIDIS: [[f32; 3]; 6] = [
            [0., 34., 78.],
            [50., 66., 108.],
            [102., 105., 112.],
            [146., 140., 119.],
            [199., 180., 108.],
            [254., 232., 56.],
        ];
        const VIRIDIS: [[f32; 3]; 10] = [
            [68., 1., 84.],
            [72., 40., 120.],
            [62., 74., 137.],
            [49., 104., 142.],
            [38., 130., 142.],
            [31., 158., 137.],
            [53., 183., 121.],
            [109., 205., 89.],
            [180., 222., 44.],
            [253., 231., 37.],
        ];
        const MAGMA: [[f32; 3]; 11] = [
            [0., 0., 4.],
            [20., 14., 54.],
            [59., 15., 112.],
            [100., 26., 128.],
            [140., 41., 129.],
            [183., 55., 121.],
            [222., 73., 104.],
            [247., 112., 92.],
            [254., 159., 109.],
            [254., 207., 146.],
            [252., 253., 191.],
        ];
        let stop = |c: Color32| [c.r(), c.g(), c.b()].map(f32::from);
        match self.map {
            ColorMap::Cividis => mix(&CIVIDIS, t),
            ColorMap::Viridis => mix(&VIRIDIS, t),
            ColorMap::Magma => mix(&MAGMA, t),
            ColorMap::Grey => mix(&[stop(self.background), stop(self.text)], t),
        }
    }

    /// Colours of heatmaps.
    pub fn heat(&self) -> crate::heatmap::Palette {
        let last = (crate::heatmap::COLORS - 1) as f32;
        let map = (0..crate::heatmap::COLORS).map(|i| self.magnitude(i as f32 / last)).collect();
        crate::heatmap::Palette { map, hatch: self.weak, between: self.line, empty: self.background }
    }

    /// Blue, white, orange, `t` in -1..=1: for values with a sign.
    pub fn signed(&self, t: f32) -> Color32 {
        const STOPS: [[f32; 3]; 3] = [[33., 102., 172.], [247., 247., 247.], [224., 130., 20.]];
        mix(&STOPS, (t + 1.0) / 2.0)
    }

    /// The colour of group `i`: Okabe and Ito's, told apart by colour-blind readers too.
    pub fn group(&self, i: usize) -> Color32 {
        const COLORS: [[u8; 3]; 7] = [
            [230, 159, 0],
            [86, 180, 233],
            [0, 158, 115],
            [240, 228, 66],
            [0, 114, 178],
            [213, 94, 0],
            [204, 121, 167],
        ];
        let [r, g, b] = COLORS[i % COLORS.len()];
        Color32::from_rgb(r, g, b)
    }

    /// The colour of curve `i`: those of Okabe and Ito that stand out from this background as a thin line, then hues a
    /// golden section apart in three lightnesses, so that neighbours differ.
    pub fn curve(&self, i: usize) -> Color32 {
        const GOLDEN: f64 = 0.618_033_988_749_895;
        let few: &[usize] = if self.dark { &[1, 0, 2, 6, 3, 5] } else { &[4, 5, 2, 6] };
        if let Some(k) = few.get(i) {
            return self.group(*k);
        }
        let hue = (i as f64 * GOLDEN).fract() as f32;
        let values = if self.dark { [0.95, 0.8, 0.65] } else { [0.8, 0.65, 0.5] };
        egui::ecolor::Hsva::new(hue, 0.7, values[i % 3], 1.0).into()
    }

    /// The colour of entry `id` of a codebook, that of the curve about it.
    pub fn code(&self, id: u32) -> Color32 {
        self.curve(id as usize)
    }

    /// Black or white, whichever reads better on `c`.
    pub fn text_on(&self, c: Color32) -> Color32 {
        // At this luminance both have the same contrast, 4.6 to 1.
        if luminance(c) > 0.179 { Color32::BLACK } else { Color32::WHITE }
    }
}

/// Relative luminance of WCAG 2, 0..=1.
fn luminance(c: Color32) -> f32 {
    let light = |v: u8| {
        let v = f32::from(v) / 255.0;
        if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * light(c.r()) + 0.7152 * light(c.g()) + 0.0722 * light(c.b())
}

fn mix(stops: &[[f32; 3]], t: f32) -> Color32 {
    let t = if t.is_finite() { t.clamp(0.0, 1.0) } else { 0.0 } * (stops.len() - 1) as f32;
    let i = (t as usize).min(stops.len() - 2);
    let f = t - i as f32;
    let c = |k: usize| (stops[i][k] * (1.0 - f) + stops[i + 1][k] * f).round() as u8;
    Color32::from_rgb(c(0), c(1), c(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lightness_keeps_the_order_of_values_in_every_map() {
        for map in ColorMap::ALL {
            assert_eq!(ColorMap::find(map.name()), Some(map));
            for dark in [false, true] {
                let theme = Theme::new(dark, map);
                let light: Vec<f32> = (0..=64).map(|i| luminance(theme.magnitude(i as f32 / 64.0))).collect();
                let falls = map == ColorMap::Grey && !dark;
                let ordered = light.windows(2).all(|w| if falls { w[1] < w[0] } else { w[1] > w[0] });
                assert!(ordered, "{} dark {dark}: {light:?}", map.name());
                let (low, high) = (light[0].min(light[64]), light[0].max(light[64]));
                assert!((high + 0.05) / (low + 0.05) > 7.0, "{} spans too little", map.name());
            }
        }
    }

    #[test]
    fn words_can_be_read_on_every_colour() {
        for map in ColorMap::ALL {
            for theme in [Theme::new(false, map), Theme::new(true, map)] {
                for fill in (0..=64).map(|i| theme.magnitude(i as f32 / 64.0)).chain(theme.chips) {
                    let (a, b) = (luminance(fill), luminance(theme.text_on(fill)));
                    let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                    assert!(contrast > 4.5, "{} dark {}: {contrast:.2} on {fill:?}", map.name(), theme.dark);
                }
            }
        }
    }
}
