//! Values over a unit, whole and per layer or step: scores, surprisal, orders.

use super::measure::check_finite;
use super::{Measure, Picture, Stages, Table, Unit, difference};
use crate::{Error, Result};
use serde_json::{Value, json};

/// One value per element.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Heat {
    /// What is shown.
    pub title: String,
    /// What the values are over.
    pub unit: Unit,
    /// What a value is.
    pub measure: Measure,
    /// One per element; `None` where the method says nothing.
    pub values: Vec<Option<f32>>,
    /// Standard error of each value, where it was estimated; empty otherwise.
    pub errors: Vec<f32>,
    /// The values of each layer or step, where there are any.
    pub stages: Option<Stages<Option<f32>>>,
}

impl Heat {
    /// Values without errors and stages.
    pub fn new(title: impl Into<String>, unit: Unit, measure: Measure, values: Vec<Option<f32>>) -> Self {
        Self { title: title.into(), unit, measure, values, errors: Vec::new(), stages: None }
    }

    /// Smallest and largest value, of `stage` or whole; `None` where there is none.
    pub fn range(&self, stage: Option<usize>) -> Option<(f32, f32)> {
        let values = self.at(stage).iter().flatten();
        values.fold(None, |r, &v| Some(r.map_or((v, v), |(a, b): (f32, f32)| (a.min(v), b.max(v)))))
    }

    /// The values of `stage`, or whole; whole, too, where there is no such stage.
    pub fn at(&self, stage: Option<usize>) -> &[Option<f32>] {
        let of = |i: usize| self.stages.as_ref()?.values.get(i);
        stage.and_then(of).unwrap_or(&self.values)
    }

    /// A row per element: its name, value, error, and the value of each stage.
    pub fn table(&self) -> Table {
        let stages = self.stages.as_ref();
        let mut columns: Vec<String> = self.unit.columns().iter().map(|c| c.to_string()).collect();
        columns.push(self.measure.words());
        columns.extend((!self.errors.is_empty()).then(|| "standard error".to_string()));
        columns.extend(stages.into_iter().flat_map(|s| (0..s.values.len()).map(|i| s.unit.label(i))));
        let mut table = Table::new(&columns).titled(&self.title);
        for (i, v) in self.values.iter().enumerate() {
            let mut row = self.unit.cells(i);
            row.push(json!(v));
            row.extend(self.errors.get(i).map(|e| json!(e)));
            let of = |s: &Vec<Option<f32>>| s.get(i).map_or(Value::Null, |v| json!(v));
            row.extend(stages.into_iter().flat_map(|s| s.values.iter().map(of)));
            table.rows.push(row);
        }
        table
    }

    /// Value by value, where both have one; errors add as those of independent estimates do. Errors: other elements,
    /// or another unit.
    pub fn minus(&self, other: &Self) -> Result<Picture> {
        self.unit.matches(self.values.len(), &other.unit, other.values.len())?;
        let minus = |a: &[Option<f32>], b: &[Option<f32>]| -> Vec<Option<f32>> {
            a.iter().zip(b).map(|(a, b)| Some((*a)? - (*b)?)).collect()
        };
        let stages = match (&self.stages, &other.stages) {
            (Some(a), Some(b)) if a.unit == b.unit && a.values.len() == b.values.len() => {
                let values = a.values.iter().zip(&b.values).map(|(a, b)| minus(a, b)).collect();
                Some(Stages { unit: a.unit.clone(), values })
            }
            _ => None,
        };
        Ok(Picture::Heat(Self {
            title: difference(&self.title, &other.title),
            unit: self.unit.clone(),
            measure: self.measure.minus(&other.measure)?,
            values: minus(&self.values, &other.values),
            errors: self.errors.iter().zip(&other.errors).map(|(a, b)| a.hypot(*b)).collect(),
            stages,
        }))
    }

    /// Errors unless all lengths agree and every value is finite.
    pub fn check(&self) -> Result<()> {
        let n = self.values.len();
        self.unit.holds(n)?;
        if !self.errors.is_empty() && self.errors.len() != n {
            return Err(Error::invalid(format!("{} errors for {n} values", self.errors.len())));
        }
        if self.errors.iter().any(|e| !e.is_finite() || *e < 0.0) {
            return Err(Error::invalid("a standard error is negative or not a number"));
        }
        check_finite("value", self.values.iter().flatten().map(|v| f64::from(*v)))?;
        let Some(stages) = &self.stages else { return Ok(()) };
        stages.check(n)?;
        check_finite("value by stage", stages.values.iter().flatten().flatten().map(|v| f64::from(*v)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Tower;

    fn heat(values: &[Option<f32>]) -> Heat {
        Heat::new("h", Unit::Tokens(Tower::Text), Measure::new("surprisal", "nats"), values.to_vec())
    }

    #[test]
    fn a_difference_is_signed_and_says_nothing_where_one_does_not() {
        let a = Heat { errors: vec![3.0, 0.0, 0.0], ..heat(&[Some(1.0), Some(2.0), None]) };
        let b = Heat { errors: vec![4.0, 0.0, 0.0], ..heat(&[Some(3.0), None, Some(1.0)]) };
        let Picture::Heat(d) = a.minus(&b).unwrap() else { panic!() };
        assert_eq!((d.values, d.errors[0], d.measure.signed), (vec![Some(-2.0), None, None], 5.0, true));
        assert!(a.minus(&heat(&[Some(1.0)])).is_err());
    }

    #[test]
    fn the_table_has_a_column_for_each_layer() {
        let stages = Some(Stages { unit: Unit::Layers, values: vec![vec![Some(0.5), None]] });
        let h = Heat { stages, ..heat(&[Some(1.0), Some(2.0)]) };
        let t = h.table();
        assert_eq!(t.columns, ["token", "surprisal (nats)", "layer 0"]);
        assert_eq!(t.rows, [vec![json!(0), json!(1.0), json!(0.5)], vec![json!(1), json!(2.0), Value::Null]]);
        assert_eq!(
            (h.range(None), h.range(Some(0)), heat(&[None]).range(None)),
            (Some((1.0, 2.0)), Some((0.5, 0.5)), None)
        );
        assert!(h.check().is_ok() && t.check().is_ok());
    }

    #[test]
    fn wrong_lengths_and_numbers_are_found() {
        assert!(heat(&[Some(f32::NAN)]).check().is_err());
        assert!(Heat { errors: vec![0.0, 0.0], ..heat(&[None]) }.check().is_err());
        assert!(Heat { errors: vec![-1.0], ..heat(&[None]) }.check().is_err());
        let stages = Some(Stages { unit: Unit::Layers, values: vec![vec![]] });
        assert!(Heat { stages, ..heat(&[None]) }.check().is_err());
    }
}
