//! Named series over an axis, as lines, steps, bars or points: schedules, retention, Zipf, acceptance.

use super::measure::check_finite;
use super::{Measure, Picture, Table, Unit, difference};
use crate::{Error, Result};
use serde_json::json;
use std::borrow::Cow;

/// What runs along the horizontal axis.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Axis {
    /// A number.
    Number(Measure),
    /// Elements of a unit; x is their index.
    Unit(Unit),
}

impl Axis {
    /// Name for axis and table.
    pub fn words(&self) -> String {
        match self {
            Self::Number(m) => m.words(),
            Self::Unit(u) => u.name().to_string(),
        }
    }

    /// A place on the axis in words.
    pub fn label(&self, x: f64) -> String {
        match self {
            Self::Unit(u) if x >= 0.0 && x.fract() == 0.0 => u.label(x as usize),
            Self::Number(Measure { name: "", .. }) => format!("{x}"),
            Self::Number(m) => format!("{} {x}", m.name),
            Self::Unit(u) => format!("{} {x}", u.name()),
        }
    }
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Style {
    /// Points joined by straight lines.
    Line,
    /// A value that holds until the next one.
    Step,
    /// Bars from 0.
    Bars,
    /// Points alone.
    Points,
}

/// What a series is among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum SeriesRole {
    /// One of those that are compared.
    Main,
    /// What anything should be better than.
    Floor,
    /// What the others are measured by.
    Reference,
    /// The one that is looked at.
    Chosen,
}

/// One series.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Series {
    /// Name in the legend.
    pub name: Cow<'static, str>,
    /// How it is drawn.
    pub style: Style,
    /// What it is among the others.
    pub role: SeriesRole,
    /// Number that its colour and marker go by, so that it keeps them where others come and go; `None` is its place
    /// in the list.
    pub look: Option<usize>,
    /// x and y, with rising x unless they are points.
    pub points: Vec<[f64; 2]>,
    /// Standard error of each y; empty where there is none.
    pub errors: Vec<f64>,
}

impl Series {
    /// A series to compare, without errors.
    pub fn new(name: impl Into<Cow<'static, str>>, style: Style, points: Vec<[f64; 2]>) -> Self {
        Self { name: name.into(), style, role: SeriesRole::Main, look: None, points, errors: Vec::new() }
    }
}

/// A plot.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Plot {
    /// What is shown.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Measure,
    /// Whether each axis, x and y, is logarithmic.
    pub log: [bool; 2],
    /// The series.
    pub series: Vec<Series>,
    /// Places on the horizontal axis that stand out, by name.
    pub marks: Vec<(f64, Cow<'static, str>)>,
}

impl Plot {
    /// A plot with plain axes.
    pub fn new(title: impl Into<String>, x: Axis, y: Measure, series: Vec<Series>) -> Self {
        Self { title: title.into(), x, y, log: [false; 2], series, marks: Vec::new() }
    }

    /// A row per point.
    pub fn table(&self) -> Table {
        let errors = self.series.iter().any(|s| !s.errors.is_empty());
        let mut columns = vec!["series".to_string(), self.x.words(), self.y.words()];
        columns.extend(errors.then(|| "standard error".to_string()));
        let mut table = Table::new(&columns).titled(&self.title);
        for s in &self.series {
            for (i, [x, y]) in s.points.iter().enumerate() {
                let mut row = vec![json!(s.name), json!(x), json!(y)];
                row.extend(errors.then(|| json!(s.errors.get(i))));
                table.rows.push(row);
            }
        }
        table
    }

    /// Series of the same name, at the places that both have. Errors: another axis or unit, or no series in common.
    pub fn minus(&self, other: &Self) -> Result<Picture> {
        if self.x != other.x {
            return Err(Error::invalid(format!(
                "one is over {} and the other over {}",
                self.x.words(),
                other.x.words()
            )));
        }
        let mut series = Vec::new();
        for a in &self.series {
            let Some(b) = other.series.iter().find(|b| b.name == a.name) else { continue };
            let mut out = Series { points: Vec::new(), errors: Vec::new(), ..a.clone() };
            for (i, [x, y]) in a.points.iter().enumerate() {
                let Some(j) = b.points.iter().position(|p| p[0] == *x) else { continue };
                out.points.push([*x, y - b.points[j][1]]);
                out.errors.extend(a.errors.get(i).zip(b.errors.get(j)).map(|(a, b)| a.hypot(*b)));
            }
            series.push(out);
        }
        if series.is_empty() {
            return Err(Error::invalid("the two plots have no series of the same name"));
        }
        let title = difference(&self.title, &other.title);
        let out = Self::new(title, self.x.clone(), self.y.minus(&other.y)?, series);
        // A difference may be negative, so its axis cannot be logarithmic.
        Ok(Picture::Plot(Self { log: [self.log[0], false], ..out }))
    }

    /// Errors unless names differ, x rises, and every number is finite, and above 0 where its axis is logarithmic.
    pub fn check(&self) -> Result<()> {
        for (i, s) in self.series.iter().enumerate() {
            let bad = |why: &str| Err(Error::invalid(format!("series \"{}\" {why}", s.name)));
            if s.name.is_empty() || self.series[..i].iter().any(|t| t.name == s.name) {
                return bad("needs a name of its own");
            }
            check_finite("point", s.points.iter().flatten().copied())?;
            if s.style != Style::Points && !s.points.is_sorted_by(|a, b| a[0] < b[0]) {
                return bad("must have rising x");
            }
            if (0..2).any(|a| self.log[a] && s.points.iter().any(|p| p[a] <= 0.0)) {
                return bad("has a value that a logarithmic axis cannot show");
            }
            if !s.errors.is_empty()
                && (s.errors.len() != s.points.len() || s.errors.iter().any(|e| !e.is_finite() || *e < 0.0))
            {
                return bad("needs an error of at least 0 for each point");
            }
        }
        check_finite("mark", self.marks.iter().map(|m| m.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(series: &[(&'static str, &[[f64; 2]])]) -> Plot {
        let series = series.iter().map(|(name, p)| Series::new(*name, Style::Line, p.to_vec())).collect();
        Plot::new("p", Axis::Unit(Unit::Layers), Measure::new("rows", ""), series)
    }

    #[test]
    fn series_of_one_name_subtract_where_both_have_a_point() {
        let a = plot(&[("x", &[[0.0, 3.0], [1.0, 5.0]]), ("y", &[])]);
        let b = plot(&[("x", &[[1.0, 1.0], [2.0, 1.0]])]);
        let Picture::Plot(d) = a.minus(&b).unwrap() else { panic!() };
        assert_eq!((d.series.len(), d.series[0].points.clone()), (1, vec![[1.0, 4.0]]));
        assert!(b.minus(&plot(&[("z", &[])])).is_err());
    }

    #[test]
    fn the_table_lists_points_and_wrong_series_are_found() {
        let p = plot(&[("x", &[[0.0, 3.0]])]);
        assert_eq!(
            (p.table().columns, p.table().rows),
            (vec!["series".to_string(), "layer".into(), "rows".into()], vec![vec![json!("x"), json!(0.0), json!(3.0)]])
        );
        assert_eq!(p.x.label(2.0), "layer 2");
        assert!(p.check().is_ok() && Plot { log: [true, false], ..p }.check().is_err());
        assert!(plot(&[("x", &[[1.0, 0.0], [0.0, 0.0]])]).check().is_err());
        assert!(plot(&[("x", &[]), ("x", &[])]).check().is_err());
        let mut p = plot(&[("x", &[[0.0, 3.0]])]);
        p.series[0].errors = vec![f64::NAN];
        assert!(p.check().is_err());
    }
}
