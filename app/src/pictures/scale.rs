//! Values as colours: the scale that a picture is drawn in, and its legend.

use super::widgets;
use crate::cx::Cx;
use egui::{Color32, Ui};
use tokenscope_analysis::finding::Measure;

/// A linear scale over the values of a picture.
pub struct Scale {
    /// Value of the first colour.
    pub low: f32,
    /// Value of the last colour.
    pub high: f32,
    signed: bool,
    words: String,
}

impl Scale {
    /// A scale that the finite ones of `values` fit: from 0, or around 0 where they have a sign; from the smallest
    /// where all lie far from 0.
    pub fn new(measure: &Measure, values: impl Iterator<Item = f32>) -> Self {
        let (mut least, mut most) = (f32::INFINITY, f32::NEG_INFINITY);
        for v in values.filter(|v| v.is_finite()) {
            (least, most) = (least.min(v), most.max(v));
        }
        if least > most {
            (least, most) = (0.0, 0.0);
        }
        let signed = measure.signed || least < 0.0;
        let high = if signed { most.abs().max(least.abs()) } else { most };
        let low = match signed {
            true => -high,
            // What lies between 0.8 and 0.9 would all look alike on a scale from 0; shares are read from nothing on.
            false if least > 0.5 * most && !measure.unit.starts_with("share") => least,
            false => 0.0,
        };
        Self { low, high, signed, words: measure.words() }
    }

    /// Where a value lies, 0..=1, and around 0 where it has a sign -1..=1.
    pub fn color(&self, cx: &Cx, v: f32) -> Color32 {
        if self.signed {
            return cx.theme.signed(v / self.high.max(f32::MIN_POSITIVE));
        }
        cx.theme.magnitude((v - self.low) / (self.high - self.low).max(f32::MIN_POSITIVE))
    }

    /// The colours with the values at their ends.
    pub fn legend_ui(&self, cx: &Cx, ui: &mut Ui) {
        widgets::legend(cx, ui, self.low, self.high, &self.words, self.signed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_begins_at_zero_unless_all_lie_far_from_it() {
        let ends = |signed, values: &[f32]| {
            let s = Scale::new(&Measure { name: "x", unit: "", signed }, values.iter().copied());
            (s.low, s.high)
        };
        assert_eq!(ends(false, &[0.1, 0.9, f32::NAN]), (0.0, 0.9));
        assert_eq!(ends(false, &[0.8, 0.9]), (0.8, 0.9));
        assert_eq!(ends(true, &[0.5, -2.0]), (-2.0, 2.0));
        assert_eq!(ends(false, &[-1.0, 0.5]), (-1.0, 1.0));
        assert_eq!(ends(false, &[]), (0.0, 0.0));
    }
}
