//! Large trees with their unlikely branches folded: what has most mass stays, the rest is one node for each parent.

use tokenscope_analysis::finding::{Class, Look, Tree, TreeNode};

/// A tree with branches folded.
pub struct Folded {
    /// What is drawn.
    pub tree: Tree,
    /// Per node of it: the node of the whole tree, or none for what stands for several.
    pub of: Vec<Option<usize>>,
    /// Nodes that are not drawn.
    pub hidden: usize,
}

/// How probable each node is from its root on: the product of what the first measure that is a probability says of its
/// path. Nodes without such a value share what their parent has.
fn masses(tree: &Tree) -> Vec<f32> {
    // The target's own say counts more than the guess.
    let named = |name: &str| tree.measures.iter().position(|m| m.name == name);
    let measure = named("target").or_else(|| tree.measures.iter().position(|m| m.unit == "probability"));
    let mut children = vec![0f32; tree.nodes.len()];
    tree.nodes.iter().filter_map(|n| n.parent).for_each(|p| children[p] += 1.0);
    let mut out: Vec<f32> = Vec::with_capacity(tree.nodes.len());
    for n in &tree.nodes {
        let (above, among) = n.parent.map_or((1.0, 1.0), |p| (out[p], children[p]));
        let own = measure.and_then(|m| n.values.get(m).copied().flatten()).filter(|v| (0.0..=1.0).contains(v));
        out.push(above * own.unwrap_or(1.0 / among));
    }
    out
}

/// Folds the least probable branches of `tree` so that it has at most about `lines` leaves; `None` where it has no more.
/// What was accepted, refused or given always stays.
pub fn folded(tree: &Tree, lines: usize) -> Option<Folded> {
    let n = tree.nodes.len();
    let mut leaf = vec![true; n];
    tree.nodes.iter().filter_map(|x| x.parent).for_each(|p| leaf[p] = false);
    if leaf.iter().filter(|l| **l).count() <= lines {
        return None;
    }
    let look = |i: usize| tree.states.get(tree.nodes[i].state).map_or(Look::Plain, |s| s.look);
    let mass = masses(tree);
    let mut kept = vec![false; n];
    for i in 0..n {
        if tree.nodes[i].parent.is_none() || matches!(look(i), Look::Good | Look::Given | Look::Bad) {
            let mut at = Some(i);
            while let Some(k) = at.filter(|k| !kept[*k]) {
                kept[k] = true;
                at = tree.nodes[k].parent;
            }
        }
    }
    // Lines are kept nodes without children, and one for each kept node of whose children some are folded.
    let (mut all, mut below) = (vec![0usize; n], vec![0usize; n]);
    for (i, p) in tree.nodes.iter().enumerate().filter_map(|(i, x)| Some((i, x.parent?))) {
        all[p] += 1;
        below[p] += usize::from(kept[i]);
    }
    let mut count = (0..n).filter(|&i| kept[i] && (all[i] == 0 || below[i] < all[i])).count();
    let mut order: Vec<usize> = (0..n).filter(|&i| !kept[i]).collect();
    order.sort_by(|&a, &b| mass[b].total_cmp(&mass[a]).then(a.cmp(&b)));
    for i in order {
        if count >= lines {
            break;
        }
        if let Some(p) = tree.nodes[i].parent.filter(|p| kept[*p]) {
            kept[i] = true;
            below[p] += 1;
            count += usize::from(below[p] < all[p]);
        }
    }
    let mut out = Folded { tree: Tree { nodes: Vec::new(), ..tree.clone() }, of: Vec::new(), hidden: 0 };
    let folded = out.tree.states.len();
    out.tree.states.push(Class::new("folded", "several nodes with little mass, not drawn one by one", Look::Quiet));
    let mut place = vec![usize::MAX; n];
    // Hidden nodes below each kept one, and their mass from the root on.
    let mut hidden = vec![(0usize, 0f32); n];
    for i in 0..n {
        if kept[i] {
            place[i] = out.tree.nodes.len();
            let node = &tree.nodes[i];
            out.tree.nodes.push(TreeNode { parent: node.parent.map(|p| place[p]), ..node.clone() });
            out.of.push(Some(i));
            continue;
        }
        let (mut at, mut direct) = (tree.nodes[i].parent, true);
        while let Some(p) = at.filter(|p| !kept[*p]) {
            (at, direct) = (tree.nodes[p].parent, false);
        }
        if let Some(p) = at {
            hidden[p].0 += 1;
            hidden[p].1 += if direct { mass[i] } else { 0.0 };
        }
    }
    for (p, (count, mass)) in hidden.into_iter().enumerate().filter(|h| h.1.0 > 0) {
        out.hidden += count;
        out.of.push(None);
        out.tree.nodes.push(TreeNode {
            parent: Some(place[p]),
            label: format!("+{count} ({:.1}%)", 100.0 * mass),
            id: None,
            position: None,
            values: vec![None; tree.measures.len()],
            state: folded,
        });
    }
    (out.hidden > 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenscope_analysis::finding::Measure;

    fn tree(nodes: &[(Option<usize>, f32, usize)]) -> Tree {
        let node = |&(parent, p, state): &(Option<usize>, f32, usize)| TreeNode {
            parent,
            label: "x".into(),
            id: None,
            position: None,
            values: vec![Some(p)],
            state,
        };
        Tree {
            title: String::new(),
            nodes: nodes.iter().map(node).collect(),
            measures: vec![Measure::new("target", "probability")],
            states: vec![Class::new("quiet", "", Look::Quiet), Class::new("good", "", Look::Good)],
        }
    }

    #[test]
    fn what_has_least_mass_is_folded_and_what_was_accepted_stays() {
        let all = tree(&[
            (None, 1.0, 0),
            (Some(0), 0.5, 0),
            (Some(0), 0.3, 0),
            (Some(0), 0.1, 0),
            (Some(0), 0.05, 1),
            (Some(3), 0.5, 0),
            (Some(1), 0.2, 0),
        ]);
        assert!(folded(&all, 4).is_none());
        let few = folded(&all, 3).unwrap();
        // The accepted one and the most probable one; its child, and 0.3 and 0.1 with a child, are folded.
        assert_eq!(few.of, [Some(0), Some(1), Some(4), None, None]);
        let labels: Vec<&str> = few.tree.nodes[3..].iter().map(|n| n.label.as_str()).collect();
        assert_eq!((few.hidden, labels), (4, vec!["+3 (40.0%)", "+1 (10.0%)"]));
        assert!(few.tree.check().is_ok());
    }

    #[test]
    fn hundreds_of_nodes_become_few_lines() {
        let nodes: Vec<_> = (0..256usize).map(|i| (i.checked_sub(1).map(|j| j / 3), 0.3, 0)).collect();
        let few = folded(&tree(&nodes), 20).unwrap();
        let drawn = few.tree.nodes.len();
        assert_eq!(few.of.iter().flatten().count() + few.hidden, 256);
        assert!(drawn < 60, "{drawn}");
    }
}
