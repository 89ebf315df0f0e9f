//! A unit in named classes: sink, dead and alive tokens; codes; experts; roles.

use super::measure::{check_classes, count};
use super::{Class, Look, Picture, Stages, Table, Unit, difference};
use crate::{Error, Result};
use serde_json::{Value, json};

/// At most one class per element.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Classes {
    /// What is shown.
    pub title: String,
    /// What is classed.
    pub unit: Unit,
    /// The classes, in the order of the legend.
    pub classes: Vec<Class>,
    /// Index into `classes` for each element; `None` for what belongs to none.
    pub of: Vec<Option<usize>>,
    /// A few words on each element, e.g. its nearest words; empty where there are none.
    pub labels: Vec<String>,
    /// The classes of each layer or step, where there are any.
    pub stages: Option<Stages<Option<usize>>>,
}

/// Changes that are told apart in a difference; of more, only that there is one.
const MAX_CHANGES: usize = 8;

impl Classes {
    /// Classes without labels and stages.
    pub fn new(title: impl Into<String>, unit: Unit, classes: Vec<Class>, of: Vec<Option<usize>>) -> Self {
        Self { title: title.into(), unit, classes, of, labels: Vec::new(), stages: None }
    }

    /// The classes of `stage`, or whole; whole, too, where there is no such stage.
    pub fn at(&self, stage: Option<usize>) -> &[Option<usize>] {
        let of = |i: usize| self.stages.as_ref()?.values.get(i);
        stage.and_then(of).unwrap_or(&self.of)
    }

    /// How many elements each class has at `stage`, or on the whole.
    pub fn counts(&self, stage: Option<usize>) -> Vec<usize> {
        count(self.classes.len(), self.at(stage).iter().flatten().copied())
    }

    fn name(&self, class: Option<usize>) -> Option<&str> {
        class.and_then(|c| self.classes.get(c)).map(|c| c.name.as_ref())
    }

    /// A row per element: its name, its class, its words, and its class at each stage.
    pub fn table(&self) -> Table {
        let stages = self.stages.as_ref();
        let mut columns: Vec<String> = self.unit.columns().iter().map(|c| c.to_string()).collect();
        columns.push("class".into());
        columns.extend((!self.labels.is_empty()).then(|| "words".to_string()));
        columns.extend(stages.into_iter().flat_map(|s| (0..s.values.len()).map(|i| s.unit.label(i))));
        let mut table = Table::new(&columns).titled(&self.title);
        for (i, &c) in self.of.iter().enumerate() {
            let mut row = self.unit.cells(i);
            row.push(json!(self.name(c)));
            row.extend(self.labels.get(i).map(|l| json!(l)));
            let of = |s: &Vec<Option<usize>>| s.get(i).map_or(Value::Null, |&c| json!(self.name(c)));
            row.extend(stages.into_iter().flat_map(|s| s.values.iter().map(of)));
            table.rows.push(row);
        }
        table
    }

    /// What is the same in both, and what has become what. Errors: other elements.
    pub fn minus(&self, other: &Self) -> Result<Picture> {
        self.unit.matches(self.of.len(), &other.unit, other.of.len())?;
        let names = |i: usize| [other.name(other.of[i]), self.name(self.of[i])].map(|n| n.unwrap_or("none"));
        let mut changes: Vec<[&str; 2]> = (0..self.of.len()).map(names).filter(|[a, b]| a != b).collect();
        changes.sort_unstable();
        changes.dedup();
        let each = changes.len() <= MAX_CHANGES;
        let mut classes = vec![Class::new("same", "the same class in both", Look::Quiet)];
        match each {
            true => classes.extend(Class::categories(changes.iter().map(|[a, b]| format!("{a} → {b}")))),
            false => classes.push(Class::new("changed", "another class in each", Look::Category(0))),
        }
        let class = |i: usize| match changes.binary_search(&names(i)) {
            Ok(at) => Some(if each { at + 1 } else { 1 }),
            Err(_) => Some(0),
        };
        let title = difference(&self.title, &other.title);
        let of = (0..self.of.len()).map(class).collect();
        Ok(Picture::Classes(Self::new(title, self.unit.clone(), classes, of)))
    }

    /// Errors unless all lengths agree and every index names a class.
    pub fn check(&self) -> Result<()> {
        let n = self.of.len();
        self.unit.holds(n)?;
        check_classes(&self.classes)?;
        if !self.labels.is_empty() && self.labels.len() != n {
            return Err(Error::invalid(format!("{} labels for {n} elements", self.labels.len())));
        }
        if let Some(stages) = &self.stages {
            stages.check(n)?;
        }
        let all = self.stages.iter().flat_map(|s| s.values.iter().flatten()).chain(&self.of).flatten();
        match all.copied().find(|&c| c >= self.classes.len()) {
            Some(c) => Err(Error::invalid(format!("there is no class {c}"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(of: &[Option<usize>]) -> Classes {
        Classes::new("c", Unit::Positions, Class::categories(["sink", "dead", "alive"]), of.to_vec())
    }

    #[test]
    fn a_difference_says_what_has_become_what() {
        let (a, b) = (classes(&[Some(0), Some(2), None, Some(2)]), classes(&[Some(0), Some(1), Some(1), Some(1)]));
        let Picture::Classes(d) = a.minus(&b).unwrap() else { panic!() };
        let names: Vec<&str> = d.classes.iter().map(|c| c.name.as_ref()).collect();
        assert_eq!(names, ["same", "dead → alive", "dead → none"]);
        assert_eq!(d.of, [Some(0), Some(1), Some(2), Some(1)]);
        assert_eq!(d.counts(None), [1, 2, 1]);
        assert!(d.check().is_ok());
    }

    #[test]
    fn the_table_names_the_classes_and_wrong_ones_are_found() {
        let c = Classes { labels: vec!["cat".into(), String::new()], ..classes(&[Some(2), None]) };
        assert_eq!(
            c.table().rows,
            [vec![json!(0), json!("alive"), json!("cat")], vec![json!(1), Value::Null, json!("")]]
        );
        assert!(c.check().is_ok() && classes(&[Some(3)]).check().is_err());
        let stages = Some(Stages { unit: Unit::Layers, values: vec![vec![Some(9)]] });
        assert!(Classes { stages, ..classes(&[None]) }.check().is_err());
    }
}
