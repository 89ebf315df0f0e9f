//! What becomes of each element, stage by stage: kept, merged, dropped, with groups, scores and thresholds.

use super::measure::check_finite;
use super::{Class, Classes, Look, Measure, Picture, Table, Unit, difference};
use crate::{Error, Result};
use serde_json::json;

/// What is the matter with an element at a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Fate {
    /// There, as itself.
    Kept,
    /// Part of the group of this number.
    Merged(usize),
    /// There, but no other element may look at it.
    Masked,
    /// Not there at this stage, though not gone: it comes in later, or comes back.
    Away,
    /// Gone.
    Dropped,
}

impl Fate {
    /// The fate in a word.
    pub fn name(self) -> &'static str {
        match self {
            Fate::Kept => "kept",
            Fate::Merged(_) => "merged",
            Fate::Masked => "masked",
            Fate::Away => "away",
            Fate::Dropped => "dropped",
        }
    }

    /// Whether what the element carried can still be read at this stage.
    pub fn is_there(self) -> bool {
        matches!(self, Fate::Kept | Fate::Merged(_))
    }
}

/// One stage of a reduction.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FateStage {
    /// Where, in words, e.g. `after layer 2`.
    pub name: String,
    /// The first layer that sees it so, where that is a layer.
    pub layer: Option<usize>,
    /// One per element.
    pub fates: Vec<Fate>,
    /// What was decided by, one per element; empty where the method has no score, `None` where an element had none.
    pub scores: Vec<Option<f32>>,
    /// The score at which it was cut, where there is one.
    pub threshold: Option<f32>,
}

impl FateStage {
    /// A stage without scores.
    pub fn new(name: impl Into<String>, layer: Option<usize>, fates: Vec<Fate>) -> Self {
        Self { name: name.into(), layer, fates, scores: Vec::new(), threshold: None }
    }
}

/// What becomes of each element.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Fates {
    /// What is shown.
    pub title: String,
    /// What is reduced.
    pub unit: Unit,
    /// What the scores are, where there are any.
    pub measure: Option<Measure>,
    /// The stages in order; what comes before the first is whole.
    pub stages: Vec<FateStage>,
}

impl Fates {
    /// The fates after `stage`, or after all; empty where there is no stage.
    pub fn at(&self, stage: Option<usize>) -> &[Fate] {
        let stage = stage.and_then(|s| self.stages.get(s)).or(self.stages.last());
        stage.map_or(&[], |s| &s.fates)
    }

    /// The first stage at which element `i` is dropped for good.
    pub fn dropped_at(&self, i: usize) -> Option<usize> {
        let gone = |s: &FateStage| s.fates.get(i) == Some(&Fate::Dropped);
        let back = self.stages.iter().rposition(|s| !gone(s)).map_or(0, |s| s + 1);
        (back < self.stages.len()).then_some(back)
    }

    /// A row per element and stage: its name, stage, fate, group, score and the stage's threshold.
    pub fn table(&self) -> Table {
        let mut columns: Vec<String> = self.unit.columns().iter().map(|c| c.to_string()).collect();
        let score = self.measure.map_or("score".to_string(), |m| m.words());
        columns.extend(["stage".into(), "fate".into(), "group".into(), score, "threshold".into()]);
        let mut table = Table::new(&columns).titled(&self.title);
        for stage in &self.stages {
            for (i, &fate) in stage.fates.iter().enumerate() {
                let group = if let Fate::Merged(g) = fate { Some(g) } else { None };
                let score = stage.scores.get(i).copied().flatten();
                let mut row = self.unit.cells(i);
                row.extend([json!(stage.name), json!(fate.name()), json!(group), json!(score), json!(stage.threshold)]);
                table.rows.push(row);
            }
        }
        table
    }

    /// What both leave, what only one does, and what neither. Errors: other elements.
    pub fn minus(&self, other: &Self) -> Result<Picture> {
        let (a, b) = (self.at(None), other.at(None));
        self.unit.matches(a.len(), &other.unit, b.len())?;
        let classes = vec![
            Class::new("both", "kept or merged in both", Look::Good),
            Class::new("only the first", "kept or merged in the first only", Look::Category(0)),
            Class::new("only the second", "kept or merged in the second only", Look::Category(1)),
            Class::new("neither", "gone from both", Look::Quiet),
        ];
        let class = |(a, b): (&Fate, &Fate)| match (a.is_there(), b.is_there()) {
            (true, true) => Some(0),
            (true, false) => Some(1),
            (false, true) => Some(2),
            (false, false) => Some(3),
        };
        let title = difference(&self.title, &other.title);
        let of = a.iter().zip(b).map(class).collect();
        Ok(Picture::Classes(Classes::new(title, self.unit.clone(), classes, of)))
    }

    /// Errors unless every stage has as many fates and scores, finite ones, and stages at layers ascend.
    pub fn check(&self) -> Result<()> {
        let n = self.at(None).len();
        self.unit.holds(n)?;
        let mut last = None;
        for stage in &self.stages {
            let bad = |why: String| Err(Error::invalid(format!("stage \"{}\": {why}", stage.name)));
            if stage.fates.len() != n {
                return bad(format!("{} fates for {n} {}", stage.fates.len(), self.unit.plural()));
            }
            if !stage.scores.is_empty() && stage.scores.len() != n {
                return bad(format!("{} scores for {n} {}", stage.scores.len(), self.unit.plural()));
            }
            let numbers = stage.scores.iter().flatten().chain(&stage.threshold);
            check_finite("score", numbers.map(|v| f64::from(*v)))?;
            if stage.layer.is_some() && stage.layer < last {
                return bad("its layer lies before that of the stage before".into());
            }
            last = stage.layer.or(last);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(stages: &[&[Fate]]) -> Fates {
        let stage = |(i, f): (usize, &&[Fate])| FateStage::new(format!("after layer {i}"), Some(i + 1), f.to_vec());
        let stages = stages.iter().enumerate().map(stage).collect();
        Fates { title: "f".into(), unit: Unit::Positions, measure: None, stages }
    }

    #[test]
    fn an_element_that_comes_back_is_not_dropped_for_good() {
        use Fate::*;
        let f = fates(&[&[Kept, Dropped, Dropped], &[Dropped, Kept, Dropped], &[Dropped, Dropped, Dropped]]);
        assert_eq!([0, 1, 2].map(|i| f.dropped_at(i)), [Some(1), Some(2), Some(0)]);
        assert_eq!(fates(&[&[Kept]]).dropped_at(0), None);
        assert_eq!(f.at(Some(0))[0], Kept);
    }

    #[test]
    fn two_reductions_differ_by_what_is_left() {
        use Fate::*;
        let (a, b) = (fates(&[&[Kept, Merged(0), Dropped, Masked]]), fates(&[&[Kept, Dropped, Kept, Away]]));
        let Picture::Classes(d) = a.minus(&b).unwrap() else { panic!() };
        assert_eq!(d.of, [Some(0), Some(1), Some(2), Some(3)]);
        assert!(d.check().is_ok() && a.minus(&fates(&[&[Kept]])).is_err());
    }

    #[test]
    fn the_table_has_groups_and_what_is_wrong_is_found() {
        let mut f = fates(&[&[Fate::Kept, Fate::Merged(3)]]);
        f.stages[0].scores = vec![Some(0.5), None];
        f.stages[0].threshold = Some(0.25);
        assert_eq!(
            f.table().rows[1],
            [json!(1), json!("after layer 0"), json!("merged"), json!(3), json!(null), json!(0.25)]
        );
        assert!(f.check().is_ok() && f.table().check().is_ok());
        f.stages[0].threshold = Some(f32::NAN);
        assert!(f.check().is_err());
        assert!(fates(&[&[Fate::Kept], &[]]).check().is_err());
        let mut f = fates(&[&[Fate::Kept], &[Fate::Kept]]);
        f.stages[1].layer = Some(0);
        assert!(f.check().is_err());
    }
}
