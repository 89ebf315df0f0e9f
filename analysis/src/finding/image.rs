//! A picture of its own, or marks on the input's: reconstructions, error maps, glyphs, regions, points.

use super::measure::{check_classes, check_finite};
use super::{Class, Measure, Picture, Table, difference};
use crate::{Error, Result};
use serde_json::json;
use std::sync::Arc;

/// What is drawn below the regions.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Raster {
    /// The input's own picture.
    Input,
    /// Red, green, blue, row by row: `3 · width · height` bytes.
    Rgb(#[serde(with = "super::name::shared")] Arc<[u8]>),
    /// One number per pixel, row by row, in the colours of a measure.
    Values(#[serde(with = "super::name::shared")] Arc<[f32]>, Measure),
}

/// The form of a region, in pixels of the picture.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Outline {
    /// Left, top, width, height.
    Rect([f32; 4]),
    /// A point.
    Point([f32; 2]),
    /// Middle, half axes, and the angle of the first axis to the right, clockwise in radians.
    Ellipse {
        /// Middle.
        at: [f32; 2],
        /// Half the length of the first and second axis.
        radii: [f32; 2],
        /// Angle of the first axis.
        turn: f32,
    },
    /// Corners in order, closed.
    Polygon(Vec<[f32; 2]>),
}

impl Outline {
    fn numbers(&self) -> Vec<f32> {
        match self {
            Self::Rect(r) => r.to_vec(),
            Self::Point(p) => p.to_vec(),
            Self::Ellipse { at, radii, turn } => [at.as_slice(), radii, &[*turn]].concat(),
            Self::Polygon(points) => points.concat(),
        }
    }

    /// The box around it: left, top, width, height.
    pub fn bounds(&self) -> [f32; 4] {
        let around = |xs: &mut dyn Iterator<Item = [f32; 2]>| {
            let first = [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
            let [a, b, c, d] = xs.fold(first, |r, [x, y]| [r[0].min(x), r[1].min(y), r[2].max(x), r[3].max(y)]);
            [a, b, c - a, d - b]
        };
        match self {
            Self::Rect(r) => *r,
            Self::Point([x, y]) => [*x, *y, 0.0, 0.0],
            Self::Ellipse { at: [x, y], radii: [a, b], turn } => {
                // Half the width is the length of the row (a cos, b sin), half the height that of (a sin, b cos).
                let (w, h) = ((a * turn.cos()).hypot(b * turn.sin()), (a * turn.sin()).hypot(b * turn.cos()));
                [x - w, y - h, 2.0 * w, 2.0 * h]
            }
            Self::Polygon(points) => around(&mut points.iter().copied()),
        }
    }
}

/// A part of the picture that stands out.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Region {
    /// Where.
    pub outline: Outline,
    /// A word or two; may be empty.
    pub label: String,
    /// Index into [`Image::classes`].
    pub class: Option<usize>,
    /// A number of the region, as [`Image::measure`] says.
    pub value: Option<f32>,
}

/// A picture.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Image {
    /// What is shown.
    pub title: String,
    /// Width and height in pixels; of [`Raster::Input`], those of the original.
    pub size: [usize; 2],
    /// What is drawn below.
    pub raster: Raster,
    /// What stands out, drawn in this order.
    pub regions: Vec<Region>,
    /// Kinds of regions.
    pub classes: Vec<Class>,
    /// What the value of a region is.
    pub measure: Option<Measure>,
}

impl Image {
    /// A picture without regions.
    pub fn new(title: impl Into<String>, size: [usize; 2], raster: Raster) -> Self {
        Self { title: title.into(), size, raster, regions: Vec::new(), classes: Vec::new(), measure: None }
    }

    /// A row per region; without regions, a row per pixel of a raster of numbers.
    pub fn table(&self) -> Table {
        if let (true, Raster::Values(values, measure)) = (self.regions.is_empty(), &self.raster) {
            let mut table = Table::new(&["x", "y", &measure.words()]).titled(&self.title);
            let w = self.size[0].max(1);
            table.rows.extend(values.iter().enumerate().map(|(i, v)| vec![json!(i % w), json!(i / w), json!(v)]));
            return table;
        }
        let value = self.measure.map_or("value".to_string(), |m| m.words());
        let columns = ["region", "form", "x", "y", "width", "height", "label", "kind", &value];
        let mut table = Table::new(&columns).titled(&self.title);
        for (i, r) in self.regions.iter().enumerate() {
            let form = match r.outline {
                Outline::Rect(_) => "rectangle",
                Outline::Point(_) => "point",
                Outline::Ellipse { .. } => "ellipse",
                Outline::Polygon(_) => "polygon",
            };
            let mut row = vec![json!(i), json!(form)];
            row.extend(r.outline.bounds().map(|v| json!(v)));
            let kind = r.class.and_then(|c| self.classes.get(c)).map(|c| c.name.as_ref());
            row.extend([json!(r.label), json!(kind), json!(r.value)]);
            table.rows.push(row);
        }
        table
    }

    /// Pixel by pixel; of colours, the mean of the three, in steps of 255. Errors: another size, or no pixels of its
    /// own.
    pub fn minus(&self, other: &Self) -> Result<Picture> {
        if self.size != other.size {
            let ([a, b], [c, d]) = (self.size, other.size);
            return Err(Error::invalid(format!("one picture has {a} x {b} pixels and the other {c} x {d}")));
        }
        let (values, measure): (Vec<f32>, _) = match (&self.raster, &other.raster) {
            (Raster::Rgb(a), Raster::Rgb(b)) => {
                let minus = |(a, b): (&[u8], &[u8])| {
                    a.iter().zip(b).map(|(a, b)| f32::from(*a) - f32::from(*b)).sum::<f32>() / 3.0
                };
                let pixels = a.as_chunks::<3>().0.iter().zip(b.as_chunks::<3>().0);
                (pixels.map(|(a, b)| minus((a, b))).collect(), Measure::signed("difference", "of 255"))
            }
            (Raster::Values(a, m), Raster::Values(b, n)) => {
                (a.iter().zip(b.iter()).map(|(a, b)| a - b).collect(), m.minus(n)?)
            }
            _ => return Err(Error::invalid("these are marks on the input, not pictures to subtract")),
        };
        let title = difference(&self.title, &other.title);
        Ok(Picture::Image(Self::new(title, self.size, Raster::Values(values.into(), measure))))
    }

    /// Errors unless the raster fills the size, numbers are finite, sizes positive and kinds known.
    pub fn check(&self) -> Result<()> {
        check_classes(&self.classes)?;
        let n = self.size[0].saturating_mul(self.size[1]);
        match &self.raster {
            Raster::Rgb(b) if b.len() != n.saturating_mul(3) => {
                return Err(Error::shape("picture", format!("{n} pixels of 3 bytes"), &[b.len()]));
            }
            Raster::Values(v, _) if v.len() != n => {
                return Err(Error::shape("picture", format!("{n} values"), &[v.len()]));
            }
            Raster::Values(v, _) => check_finite("pixel", v.iter().map(|v| f64::from(*v)))?,
            _ => {}
        }
        for (i, r) in self.regions.iter().enumerate() {
            let [_, _, w, h] = r.outline.bounds();
            let point = matches!(r.outline, Outline::Point(_));
            let fine = r.outline.numbers().iter().all(|v| v.is_finite()) && (point || (w > 0.0 && h > 0.0));
            if !fine || r.class.is_some_and(|c| c >= self.classes.len()) {
                return Err(Error::invalid(format!("region {i} has no size, or is of no known kind")));
            }
        }
        check_finite("value", self.regions.iter().filter_map(|r| r.value).map(f64::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rgb(bytes: &[u8]) -> Image {
        Image::new("i", [bytes.len() / 3, 1], Raster::Rgb(bytes.into()))
    }

    #[test]
    fn pixels_subtract_by_their_mean() {
        let Picture::Image(d) = rgb(&[9, 3, 0, 1, 1, 1]).minus(&rgb(&[0, 0, 0, 1, 1, 4])).unwrap() else { panic!() };
        let Raster::Values(v, m) = &d.raster else { panic!() };
        assert_eq!((v.to_vec(), m.signed), (vec![4.0, -1.0], true));
        assert_eq!(d.table().rows[1], [json!(1), json!(0), json!(-1.0)]);
        assert!(d.check().is_ok() && rgb(&[0; 3]).minus(&rgb(&[0; 6])).is_err());
    }

    #[test]
    fn regions_have_boxes_and_wrong_ones_are_found() {
        let turned = Outline::Ellipse { at: [5.0, 5.0], radii: [2.0, 1.0], turn: std::f32::consts::FRAC_PI_2 };
        let [x, y, w, h] = turned.bounds();
        assert!((x - 4.0).abs() < 1e-5 && (y - 3.0).abs() < 1e-5 && (w - 2.0).abs() < 1e-5 && (h - 4.0).abs() < 1e-5);
        let region = |outline| Region { outline, label: "r".into(), class: None, value: None };
        let with = |outline| Image { regions: vec![region(outline)], ..Image::new("i", [9, 9], Raster::Input) };
        assert!(with(turned).check().is_ok() && with(Outline::Point([1.0, 1.0])).check().is_ok());
        assert!(with(Outline::Rect([0.0, 0.0, 0.0, 1.0])).check().is_err());
        assert!(with(Outline::Polygon(vec![])).check().is_err());
        let t = with(Outline::Polygon(vec![[0.0, 1.0], [4.0, 1.0], [2.0, 3.0]])).table();
        assert_eq!(t.rows[0][1..6], [json!("polygon"), json!(0.0), json!(1.0), json!(4.0), json!(2.0)]);
        assert!(Image::new("i", [2, 1], Raster::Rgb([0; 3].as_slice().into())).check().is_err());
    }
}
