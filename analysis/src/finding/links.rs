//! Weighted edges between nodes on levels: flow lattices, routes, matches between two inputs.

use super::{Measure, Picture, Table, Unit, difference};
use crate::{Error, Result};
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

/// A row of nodes.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Level {
    /// Name at the edge of the picture, e.g. `L3`; empty where it says nothing.
    pub name: String,
    /// What its nodes are.
    pub unit: Unit,
    /// How many there are.
    pub n: usize,
    /// How high it lies, 0 at the bottom, 1 for the next full level.
    pub height: f32,
    /// How far its nodes stand to the right of their column, in columns.
    pub aside: f32,
}

/// A node: level and index in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct LinkEnd {
    /// Index of the level.
    pub level: u32,
    /// Index in the level.
    pub at: u32,
}

/// An edge, pointing the way that information travels.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Link {
    /// From.
    pub from: LinkEnd,
    /// To.
    pub to: LinkEnd,
    /// Its weight.
    pub weight: f32,
}

/// A graph on levels.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Links {
    /// What is shown.
    pub title: String,
    /// The levels, from the bottom up.
    pub levels: Vec<Level>,
    /// Edges by falling size of their weight, so that a threshold is a prefix.
    pub links: Vec<Link>,
    /// What a weight is.
    pub measure: Measure,
    /// Edges below this weight were left out, because there would be too many; 0 where all are there.
    pub floor: f32,
}

impl Links {
    /// A graph of these edges, sorted.
    pub fn new(title: impl Into<String>, levels: Vec<Level>, measure: Measure, mut links: Vec<Link>) -> Self {
        let order = |a: &Link, b: &Link| {
            b.weight.abs().total_cmp(&a.weight.abs()).then(a.to.cmp(&b.to)).then(a.from.cmp(&b.from))
        };
        // No two edges have the same ends, so any sort gives the same order.
        links.par_sort_unstable_by(order);
        Self { title: title.into(), levels, links, measure, floor: 0.0 }
    }

    /// The same graph without its edges.
    pub fn bare(&self) -> Self {
        let (title, levels, measure) = (self.title.clone(), self.levels.clone(), self.measure);
        Self { title, levels, links: Vec::new(), measure, floor: self.floor }
    }

    /// Edges of at least `threshold`, the strongest first.
    pub fn above(&self, threshold: f32) -> &[Link] {
        &self.links[..self.links.partition_point(|l| l.weight.abs() >= threshold)]
    }

    /// A node in words.
    pub fn label(&self, end: LinkEnd) -> String {
        match self.levels.get(end.level as usize) {
            Some(l) if l.name.is_empty() => l.unit.label(end.at as usize),
            Some(l) => format!("{}, {}", l.name, l.unit.label(end.at as usize)),
            None => format!("level {}, {}", end.level, end.at),
        }
    }

    /// A row per edge.
    pub fn table(&self) -> Table {
        let columns = ["from level", "from", "to level", "to", &self.measure.words()];
        let mut table = Table::new(&columns).titled(&self.title);
        let level = |e: LinkEnd| match self.levels.get(e.level as usize).map(|l| l.name.as_str()) {
            Some("") | None => json!(e.level),
            Some(name) => json!(name),
        };
        let row = |l: &Link| vec![level(l.from), json!(l.from.at), level(l.to), json!(l.to.at), json!(l.weight)];
        table.rows.extend(self.links.iter().map(row));
        table
    }

    /// Edge by edge; one that is missing weighs 0. Errors: other levels, or another unit.
    pub fn minus(&self, other: &Self) -> Result<Picture> {
        if self.levels.len() != other.levels.len() {
            let (n, m) = (self.levels.len(), other.levels.len());
            return Err(Error::invalid(format!("one graph has {n} levels and the other {m}")));
        }
        for (a, b) in self.levels.iter().zip(&other.levels) {
            a.unit.matches(a.n, &b.unit, b.n)?;
        }
        let mut all: BTreeMap<(LinkEnd, LinkEnd), f32> = BTreeMap::new();
        self.links.iter().for_each(|l| *all.entry((l.from, l.to)).or_default() += l.weight);
        other.links.iter().for_each(|l| *all.entry((l.from, l.to)).or_default() -= l.weight);
        let links = all.into_iter().filter(|(_, w)| *w != 0.0);
        let links = links.map(|((from, to), weight)| Link { from, to, weight }).collect();
        let (title, measure) = (difference(&self.title, &other.title), self.measure.minus(&other.measure)?);
        let out = Self::new(title, self.levels.clone(), measure, links);
        Ok(Picture::Links(Self { floor: self.floor.max(other.floor), ..out }))
    }

    /// Errors unless every edge joins nodes that there are, by a finite weight, and they are sorted.
    pub fn check(&self) -> Result<()> {
        for level in &self.levels {
            level.unit.holds(level.n)?;
        }
        for (i, l) in self.links.iter().enumerate() {
            for end in [l.from, l.to] {
                if self.levels.get(end.level as usize).is_none_or(|level| end.at as usize >= level.n) {
                    return Err(Error::invalid(format!("edge {i} ends at a node that is not there: {end:?}")));
                }
            }
            if !l.weight.is_finite() {
                return Err(Error::invalid(format!("edge {i} weighs {}", l.weight)));
            }
        }
        match self.links.is_sorted_by(|a, b| a.weight.abs() >= b.weight.abs()) {
            true => Ok(()),
            false => Err(Error::invalid("edges must be sorted by falling weight")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(edges: &[(u32, u32, f32)]) -> Links {
        let level = |name: &str, height| Level { name: name.into(), unit: Unit::Positions, n: 3, height, aside: 0.0 };
        let link = |&(a, b, weight): &(u32, u32, f32)| Link {
            from: LinkEnd { level: 0, at: a },
            to: LinkEnd { level: 1, at: b },
            weight,
        };
        let levels = vec![level("in", 0.0), level("L0", 1.0)];
        Links::new("l", levels, Measure::new("flow", "share"), edges.iter().map(link).collect())
    }

    #[test]
    fn edges_are_sorted_and_a_threshold_is_a_prefix() {
        let l = links(&[(0, 1, 0.25), (1, 1, 0.5), (2, 2, 1.0)]);
        assert_eq!(l.above(0.5).len(), 2);
        assert_eq!(l.table().rows[0], [json!("in"), json!(2), json!("L0"), json!(2), json!(1.0)]);
        assert_eq!(l.label(LinkEnd { level: 1, at: 2 }), "L0, position 2");
        assert!(l.check().is_ok() && links(&[(0, 3, 0.5)]).check().is_err());
        assert!(links(&[(0, 0, f32::NAN)]).check().is_err());
    }

    #[test]
    fn edges_that_are_missing_weigh_nothing() {
        let (a, b) = (links(&[(0, 0, 0.5), (1, 1, 0.25)]), links(&[(0, 0, 0.5), (2, 2, 0.75)]));
        let Picture::Links(d) = a.minus(&b).unwrap() else { panic!() };
        let got: Vec<(u32, f32)> = d.links.iter().map(|l| (l.from.at, l.weight)).collect();
        assert_eq!(got, [(2, -0.75), (1, 0.25)]);
        assert!(d.check().is_ok() && d.measure.signed);
    }
}
