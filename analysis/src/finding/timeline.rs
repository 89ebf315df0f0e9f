//! What stands at each place after each step: masked diffusion, any order, insertion, exits, routing, zones.

use super::measure::{check_classes, check_finite};
use super::{Class, Matrix, Measure, Picture, Table, Unit, difference};
use crate::array::Array;
use crate::{Error, Result};
use serde_json::json;
use std::borrow::Cow;

/// One place at one step.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TimeCell {
    /// Step, from 0.
    pub step: usize,
    /// Place, from 0.
    pub position: usize,
    /// Vocabulary id that stands there, where one does.
    pub id: Option<u32>,
    /// What to print.
    pub text: Cow<'static, str>,
    /// How sure the model is, as [`Timeline::measure`] says.
    pub confidence: Option<f32>,
    /// Why it was done, e.g. `above the threshold`; empty where nothing was done.
    pub why: Cow<'static, str>,
    /// Index into [`Timeline::states`].
    pub state: usize,
}

/// A grid of steps by places.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Timeline {
    /// What is shown.
    pub title: String,
    /// What the steps count: steps, or layers.
    pub steps: Unit,
    /// Number of steps.
    pub n_steps: usize,
    /// What the places are: positions, or tokens.
    pub places: Unit,
    /// Number of places.
    pub n_places: usize,
    /// What the confidence is.
    pub measure: Measure,
    /// States a cell can be in.
    pub states: Vec<Class>,
    /// The cells that there are, by step and place; at most one for each pair.
    pub cells: Vec<TimeCell>,
}

impl Timeline {
    /// The cells of `step`, by place.
    pub fn step(&self, step: usize) -> &[TimeCell] {
        let first = self.cells.partition_point(|c| c.step < step);
        let end = self.cells.partition_point(|c| c.step <= step);
        &self.cells[first..end]
    }

    /// The cell at `step` and `position`.
    pub fn at(&self, step: usize, position: usize) -> Option<&TimeCell> {
        let i = self.cells.binary_search_by(|c| (c.step, c.position).cmp(&(step, position))).ok()?;
        self.cells.get(i)
    }

    /// A row per cell.
    pub fn table(&self) -> Table {
        let confidence = self.measure.words();
        let columns = [self.steps.name(), self.places.name(), "id", "text", &confidence, "state", "why"];
        let mut table = Table::new(&columns).titled(&self.title);
        for c in &self.cells {
            let state = self.states.get(c.state).map(|s| s.name.as_ref());
            table.rows.push(vec![
                json!(c.step),
                json!(c.position),
                json!(c.id),
                json!(c.text),
                json!(c.confidence),
                json!(state),
                json!(c.why),
            ]);
        }
        table
    }

    /// The confidence of both, cell by cell, as a matrix of steps by places. Errors: other steps or places.
    pub fn minus(&self, other: &Self) -> Result<Picture> {
        self.steps.matches(self.n_steps, &other.steps, other.n_steps)?;
        self.places.matches(self.n_places, &other.places, other.n_places)?;
        let mut cells = vec![f32::NAN; self.n_steps * self.n_places];
        for c in &self.cells {
            let theirs = other.at(c.step, c.position).and_then(|o| o.confidence);
            if let (Some(a), Some(b)) = (c.confidence, theirs) {
                cells[c.step * self.n_places + c.position] = a - b;
            }
        }
        let title = difference(&self.title, &other.title);
        let measure = self.measure.minus(&other.measure)?;
        let cells = Array::new([self.n_steps, self.n_places], cells)?;
        Ok(Picture::Matrix(Matrix::dense(title, self.steps.clone(), self.places.clone(), measure, cells)?))
    }

    /// Errors unless cells are sorted, none twice, all inside, in known states, and finite.
    pub fn check(&self) -> Result<()> {
        check_classes(&self.states)?;
        self.steps.holds(self.n_steps)?;
        self.places.holds(self.n_places)?;
        for c in &self.cells {
            let bad = |why: &str| Err(Error::invalid(format!("step {}, position {} {why}", c.step, c.position)));
            if c.step >= self.n_steps || c.position >= self.n_places {
                return bad("is not there");
            }
            if c.state >= self.states.len() {
                return bad("is in a state that is not known");
            }
        }
        if !self.cells.is_sorted_by(|a, b| (a.step, a.position) < (b.step, b.position)) {
            return Err(Error::invalid("cells must be sorted by step and position, none twice"));
        }
        check_finite("confidence", self.cells.iter().filter_map(|c| c.confidence).map(f64::from))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Look;
    use super::*;

    fn timeline(cells: &[(usize, usize, f32)]) -> Timeline {
        let cell = |&(step, position, c): &(usize, usize, f32)| TimeCell {
            step,
            position,
            id: Some(7),
            text: "a".into(),
            confidence: Some(c),
            why: "".into(),
            state: 0,
        };
        Timeline {
            title: "t".into(),
            steps: Unit::Steps,
            n_steps: 2,
            places: Unit::Positions,
            n_places: 3,
            measure: Measure::new("confidence", "probability"),
            states: vec![Class::new("written", "", Look::Good)],
            cells: cells.iter().map(cell).collect(),
        }
    }

    #[test]
    fn cells_are_found_by_step_and_place() {
        let t = timeline(&[(0, 1, 0.5), (1, 0, 0.25), (1, 2, 0.75)]);
        assert_eq!((t.step(0).len(), t.step(1).len(), t.step(5).len()), (1, 2, 0));
        assert_eq!((t.at(1, 2).unwrap().confidence, t.at(0, 0)), (Some(0.75), None));
        assert_eq!(t.table().columns[4], "confidence (probability)");
        let Picture::Matrix(d) = t.minus(&timeline(&[(0, 1, 0.25), (1, 1, 0.5)])).unwrap() else { panic!() };
        assert_eq!((d.at(0, 1), d.at(1, 1), d.at(1, 2)), (Some(0.25), None, None));
    }

    #[test]
    fn cells_twice_outside_or_unknown_are_found() {
        assert!(timeline(&[(0, 1, 0.5), (1, 0, 0.25)]).check().is_ok());
        assert!(timeline(&[(0, 1, 0.5), (0, 1, 0.25)]).check().is_err());
        assert!(timeline(&[(1, 1, 0.5), (0, 1, 0.25)]).check().is_err());
        assert!(timeline(&[(0, 3, 0.5)]).check().is_err() && timeline(&[(0, 0, f32::NAN)]).check().is_err());
        assert!(Timeline { states: vec![], ..timeline(&[(0, 0, 0.5)]) }.check().is_err());
    }
}
