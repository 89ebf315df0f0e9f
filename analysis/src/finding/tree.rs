//! Nodes below nodes, with values and states: drafts, searches, grammars, hierarchies.

use super::measure::{check_classes, check_finite};
use super::{Class, Look, Measure, Picture, Table, difference};
use crate::{Error, Result};
use serde_json::json;
use std::collections::BTreeMap;

/// A node.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TreeNode {
    /// Index of the parent; `None` for a root.
    pub parent: Option<usize>,
    /// What stands beside it.
    pub label: String,
    /// Vocabulary id, where it is a token.
    pub id: Option<u32>,
    /// Place in the text that is being written, where it has one.
    pub position: Option<usize>,
    /// A value for each of [`Tree::measures`]; `None` where the node has none.
    pub values: Vec<Option<f32>>,
    /// Index into [`Tree::states`].
    pub state: usize,
}

/// One or more trees.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Tree {
    /// What is shown.
    pub title: String,
    /// Nodes, parents before their children.
    pub nodes: Vec<TreeNode>,
    /// What the values of a node are.
    pub measures: Vec<Measure>,
    /// States a node can be in.
    pub states: Vec<Class>,
}

impl Tree {
    /// How deep each node lies; roots are at 0.
    pub fn depths(&self) -> Vec<usize> {
        let mut out: Vec<usize> = Vec::with_capacity(self.nodes.len());
        for n in &self.nodes {
            out.push(n.parent.and_then(|p| out.get(p)).map_or(0, |d| d + 1));
        }
        out
    }

    /// A row per node.
    pub fn table(&self) -> Table {
        let mut columns: Vec<String> = ["node", "parent", "depth", "id", "text"].map(String::from).to_vec();
        columns.extend(self.measures.iter().map(Measure::words));
        columns.push("state".into());
        let mut table = Table::new(&columns).titled(&self.title);
        for ((i, n), depth) in self.nodes.iter().enumerate().zip(self.depths()) {
            let mut row = vec![json!(i), json!(n.parent), json!(depth), json!(n.id), json!(n.label)];
            row.extend((0..self.measures.len()).map(|m| json!(n.values.get(m).copied().flatten())));
            row.push(json!(self.states.get(n.state).map(|s| s.name.as_ref())));
            table.rows.push(row);
        }
        table
    }

    /// Both trees laid over each other: nodes are the same where all labels above them are. Their values are
    /// subtracted; others are only in one. Errors: other measures.
    pub fn minus(&self, other: &Self) -> Result<Picture> {
        if self.measures.len() != other.measures.len() {
            return Err(Error::invalid("the nodes of the two trees carry different values"));
        }
        let pairs = self.measures.iter().zip(&other.measures);
        let measures = pairs.map(|(a, b)| a.minus(b)).collect::<Result<Vec<_>>>()?;
        let states = vec![
            Class::new("both", "in both trees", Look::Plain),
            Class::new("only the first", "in the first tree only", Look::Category(0)),
            Class::new("only the second", "in the second tree only", Look::Category(1)),
        ];
        let mut nodes: Vec<TreeNode> = Vec::new();
        // Of equal siblings the first is the one that is met again.
        let mut place: BTreeMap<(Option<usize>, String), usize> = BTreeMap::new();
        let mut own = Vec::with_capacity(self.nodes.len());
        for n in &self.nodes {
            let parent = n.parent.and_then(|p| own.get(p).copied());
            own.push(nodes.len());
            place.entry((parent, n.label.clone())).or_insert(nodes.len());
            nodes.push(TreeNode { parent, values: vec![None; measures.len()], state: 1, ..n.clone() });
        }
        let mut theirs: Vec<usize> = Vec::with_capacity(other.nodes.len());
        for n in &other.nodes {
            let parent = n.parent.and_then(|p| theirs.get(p).copied());
            let met = place.get(&(parent, n.label.clone())).copied().filter(|&i| nodes[i].state == 1);
            theirs.push(met.unwrap_or(nodes.len()));
            match met {
                Some(i) => {
                    let from = own.iter().position(|&o| o == i).map(|j| &self.nodes[j].values);
                    let minus = |m: usize| Some((*from?.get(m)?)? - (*n.values.get(m)?)?);
                    (nodes[i].values, nodes[i].state) = ((0..measures.len()).map(minus).collect(), 0);
                }
                None => nodes.push(TreeNode { parent, values: vec![None; measures.len()], state: 2, ..n.clone() }),
            }
        }
        let title = difference(&self.title, &other.title);
        Ok(Picture::Tree(Self { title, nodes, measures, states }))
    }

    /// Errors unless parents come before children, every state is known, and values are finite, one per measure.
    pub fn check(&self) -> Result<()> {
        check_classes(&self.states)?;
        for (i, n) in self.nodes.iter().enumerate() {
            let bad = |why: String| Err(Error::invalid(format!("node {i} {why}")));
            if n.parent.is_some_and(|p| p >= i) {
                return bad("comes before its parent".into());
            }
            if n.values.len() != self.measures.len() {
                return bad(format!("has {} values for {} measures", n.values.len(), self.measures.len()));
            }
            if n.state >= self.states.len() {
                return bad(format!("is in state {}, which is not known", n.state));
            }
        }
        check_finite("value", self.nodes.iter().flat_map(|n| n.values.iter().flatten()).map(|v| f64::from(*v)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(nodes: &[(Option<usize>, &str, f32)]) -> Tree {
        let node = |&(parent, label, v): &(Option<usize>, &str, f32)| TreeNode {
            parent,
            label: label.into(),
            id: None,
            position: None,
            values: vec![Some(v)],
            state: 0,
        };
        Tree {
            title: "t".into(),
            nodes: nodes.iter().map(node).collect(),
            measures: vec![Measure::new("probability", "share")],
            states: vec![Class::new("drafted", "", Look::Plain)],
        }
    }

    #[test]
    fn trees_laid_over_each_other_subtract_where_all_labels_above_agree() {
        let a = tree(&[(None, "a", 1.0), (Some(0), "b", 0.5), (Some(1), "c", 0.25)]);
        let b = tree(&[(None, "a", 1.0), (Some(0), "x", 0.5), (Some(0), "b", 0.125), (Some(1), "c", 0.5)]);
        let Picture::Tree(d) = a.minus(&b).unwrap() else { panic!() };
        let got: Vec<(&str, Option<usize>, usize)> =
            d.nodes.iter().map(|n| (n.label.as_str(), n.parent, n.state)).collect();
        // The c below x is another one than the c below b.
        let want = [("a", None, 0), ("b", Some(0), 0), ("c", Some(1), 1), ("x", Some(0), 2), ("c", Some(3), 2)];
        assert_eq!(got, want);
        assert_eq!((d.nodes[1].values[0], d.nodes[2].values[0]), (Some(0.375), None));
        assert!(d.check().is_ok());
    }

    #[test]
    fn depths_and_wrong_trees() {
        let t = tree(&[(None, "a", 1.0), (Some(0), "b", 0.5), (Some(1), "c", 0.5), (Some(0), "d", 0.5)]);
        assert_eq!(t.depths(), [0, 1, 2, 1]);
        assert_eq!(
            t.table().rows[2],
            [json!(2), json!(1), json!(2), json!(null), json!("c"), json!(0.5), json!("drafted")]
        );
        assert!(t.check().is_ok() && tree(&[(Some(0), "a", 1.0)]).check().is_err());
        assert!(tree(&[(None, "a", f32::NAN)]).check().is_err());
        assert!(Tree { states: vec![], ..t }.check().is_err());
    }
}
