//! What a method finds, as pictures in one of eleven shapes, figures and notes. Methods return typed results that
//! compose, and each kind says once how its result becomes a [`Finding`]; whoever draws, exports or compares knows
//! shapes only.
//!
//! | shape | what it shows |
//! |---|---|
//! | [`Heat`] | values over a unit, whole and per layer or step: scores, surprisal, orders |
//! | [`Classes`] | a unit in named classes: sink, dead, alive; codes; experts; roles |
//! | [`Fates`] | kept, merged, dropped per stage, with groups, scores and thresholds |
//! | [`Cuts`] | spans with ids over bytes, samples or rectangles |
//! | [`Matrix`] | rows by columns of any two units: maps, masks, step by key |
//! | [`Links`] | weighted edges between nodes on levels: lattices, routes, matches |
//! | [`Tree`] | nodes with values and states: drafts, searches, hierarchies |
//! | [`Timeline`] | what stands at each place after each step |
//! | [`Plot`] | series over an axis: schedules, retention, Zipf |
//! | [`Image`] | pixels of their own, or regions on the input's picture |
//! | [`Table`] | rows and columns of anything else |

mod classes;
mod cuts;
mod fates;
mod heat;
mod image;
mod incoming;
mod links;
mod matrix;
mod measure;
mod minus;
mod name;
mod paired;
mod pairing;
mod picture;
mod plot;
mod table;
mod timeline;
mod tree;
mod unit;

pub use classes::Classes;
pub use cuts::{Cuts, Piece, Span};
pub use fates::{Fate, FateStage, Fates};
pub use heat::Heat;
pub use image::{Image, Outline, Raster, Region};
pub use incoming::Incoming;
pub use links::{Level, Link, LinkEnd, Links};
pub use matrix::{Matrix, MatrixCells, Window};
pub use measure::{Class, Datum, Figure, Look, Measure, Proof, count};
pub use name::{Name, read_name};
pub use paired::Fold;
pub use pairing::{Pair, Pairing, Pairings};
pub use picture::Picture;
pub use plot::{Axis, Plot, Series, SeriesRole, Style};
pub use table::Table;
pub use timeline::{TimeCell, Timeline};
pub use tree::{Tree, TreeNode};
pub use unit::{CellGrid, Stages, Unit};

use crate::Result;
use serde_json::{Value, json};

/// Everything a method has found on one input.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Finding {
    /// The pictures, the most telling first.
    pub pictures: Vec<Picture>,
    /// Numbers and words beside them, with their definitions.
    pub figures: Vec<Figure>,
    /// What the user should know about the result, e.g. that it is partial.
    pub notes: Vec<String>,
    /// A claim of the method, checked on this run.
    pub proof: Option<Proof>,
}

impl Finding {
    /// One picture and nothing else.
    pub fn of(picture: impl Into<Picture>) -> Self {
        Self { pictures: vec![picture.into()], ..Self::default() }
    }

    /// The same with one picture more.
    pub fn with(mut self, picture: impl Into<Picture>) -> Self {
        self.pictures.push(picture.into());
        self
    }

    /// The same with one figure more.
    pub fn figure(mut self, figure: Figure) -> Self {
        self.figures.push(figure);
        self
    }

    /// Checks every picture and figure.
    pub fn check(&self) -> Result<()> {
        self.pictures.iter().try_for_each(Picture::check)?;
        self.figures.iter().try_for_each(Figure::check)
    }

    /// The whole for scripts: each picture as shape, title and rows, figures by name, notes, proof.
    pub fn json(&self) -> Value {
        self.json_beside(None)
    }

    /// The same where the first picture's rows stand beside it, in the field of this name, and are not written twice:
    /// `rows_in` has the name instead.
    pub fn json_beside(&self, rows_in: Option<&str>) -> Value {
        let picture = |(i, p): (usize, &Picture)| match rows_in.filter(|_| i == 0) {
            Some(field) => json!({ "shape": p.name(), "title": p.title(), "rows_in": field }),
            None => json!({ "shape": p.name(), "title": p.title(), "rows": p.table().json() }),
        };
        let figure = |f: &Figure| json!({ "name": f.name, "value": f.json(), "unit": f.unit, "meaning": f.meaning });
        let proof = |p: &Proof| json!({ "claim": p.claim, "holds": p.holds, "words": p.words });
        json!({
            "pictures": self.pictures.iter().enumerate().map(picture).collect::<Vec<_>>(),
            "figures": self.figures.iter().map(figure).collect::<Vec<_>>(),
            "notes": self.notes,
            "proof": self.proof.as_ref().map(proof),
        })
    }
}

/// The title of a difference.
fn difference(a: &str, b: &str) -> String {
    match (a == b, a.is_empty()) {
        (true, true) => "difference".into(),
        (true, false) => format!("{a}, difference"),
        _ => format!("{a} minus {b}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_checked_and_written_as_a_whole() {
        let heat = Heat::new("h", Unit::Layers, Measure::new("entropy", "nats"), vec![Some(0.5)]);
        let figure = Figure::new("mean", Datum::Number(0.5), "mean over layers").unit("nats");
        let mut f = Finding::of(heat).with(Table::new(&["a"]).titled("t")).figure(figure);
        assert!(f.check().is_ok());
        let value = f.json();
        assert_eq!(value["pictures"][0]["rows"][0], json!({ "layer": 0, "entropy (nats)": 0.5 }));
        assert_eq!((&value["figures"][0]["value"], &value["pictures"][1]["title"]), (&json!(0.5), &json!("t")));
        assert_eq!(value["proof"], Value::Null);
        let beside = f.json_beside(Some("layers"));
        assert_eq!(beside["pictures"][0], json!({ "shape": "heat", "title": "h", "rows_in": "layers" }));
        assert_eq!(beside["pictures"][1], value["pictures"][1]);
        let Picture::Heat(h) = &mut f.pictures[0] else { panic!() };
        h.values = vec![Some(f32::NAN)];
        assert_eq!(f.check().unwrap_err().to_string(), "heat \"h\": value 0 is NaN");
    }

    #[test]
    fn only_pictures_of_one_shape_subtract() {
        let heat = Picture::from(Heat::new("a", Unit::Layers, Measure::new("x", ""), vec![Some(2.0)]));
        assert_eq!(heat.minus(&heat).unwrap().title(), "a, difference");
        let table = Picture::from(Table::new(&["a"]));
        assert_eq!(heat.minus(&table).unwrap_err().to_string(), "one is a picture of heat and the other of table");
    }
}
