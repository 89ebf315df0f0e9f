//! A tree of guesses below the last token of the text. A chain is a tree without branches.

/// One guess. Node 0 of a tree is its root, which is no guess but the last token of the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Index of the parent; the root is its own.
    pub parent: usize,
    /// Vocabulary id.
    pub token: u32,
    /// 0 for the root.
    pub depth: usize,
    /// The draft's probability when it was drawn; `None` where the draft has none.
    pub p_draft: Option<f64>,
    /// What the policy that grew it takes for the probability that it will be accepted.
    pub value: Option<f64>,
}

/// Guesses of one round, parents before children.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    nodes: Vec<Node>,
    /// Per node: the distribution `[vocab]` that its children were drawn from, one after another without
    /// replacement. `None` where children were put there rather than drawn.
    drawn_from: Vec<Option<Vec<f64>>>,
    /// Passes of the draft model that it took.
    pub passes: usize,
}

impl Tree {
    /// No guesses yet below `root`.
    pub fn new(root: u32) -> Self {
        let root = Node { parent: 0, token: root, depth: 0, p_draft: None, value: None };
        Self { nodes: vec![root], drawn_from: vec![None], passes: 0 }
    }

    /// Adds a guess below `parent` and gives its index.
    pub fn push(&mut self, parent: usize, token: u32, p_draft: Option<f64>, value: Option<f64>) -> usize {
        let depth = self.nodes[parent].depth + 1;
        self.nodes.push(Node { parent, token, depth, p_draft, value });
        self.drawn_from.push(None);
        self.nodes.len() - 1
    }

    /// Says which distribution the children of `node` are drawn from.
    pub fn draws_from(&mut self, node: usize, p: Vec<f64>) {
        self.drawn_from[node] = Some(p);
    }

    /// The distribution that the children of `node` were drawn from.
    pub fn drawn_from(&self, node: usize) -> Option<&[f64]> {
        self.drawn_from[node].as_deref()
    }

    /// All nodes, the root first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Nodes with the root.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True where nothing was guessed.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// Children of a node in the order in which they were added.
    pub fn children(&self, of: usize) -> impl Iterator<Item = usize> + '_ {
        (1..self.nodes.len()).filter(move |&i| self.nodes[i].parent == of)
    }

    /// Nodes from the root, left out, down to `node`.
    pub fn path(&self, mut node: usize) -> Vec<usize> {
        let mut out = Vec::with_capacity(self.nodes[node].depth);
        while node != 0 {
            out.push(node);
            node = self.nodes[node].parent;
        }
        out.reverse();
        out
    }

    /// Tokens below the root on the way to `node`.
    pub fn words(&self, node: usize) -> Vec<u32> {
        self.path(node).into_iter().map(|i| self.nodes[i].token).collect()
    }

    /// Nodes without children, in order.
    pub fn leaves(&self) -> Vec<usize> {
        let mut leaf = vec![true; self.nodes.len()];
        self.nodes.iter().skip(1).for_each(|n| leaf[n.parent] = false);
        (0..leaf.len()).filter(|&i| leaf[i]).collect()
    }

    /// Whether each node has the one before it as its parent, so that it reads like a text.
    pub fn is_chain(&self) -> bool {
        self.nodes.iter().enumerate().skip(1).all(|(i, n)| n.parent + 1 == i)
    }

    /// Token of every node.
    pub fn tokens(&self) -> Vec<u32> {
        self.nodes.iter().map(|n| n.token).collect()
    }

    /// Parent of every node.
    pub fn parents(&self) -> Vec<usize> {
        self.nodes.iter().map(|n| n.parent).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_leaves_and_chains_by_hand() {
        let mut t = Tree::new(9);
        let a = t.push(0, 5, None, None);
        assert!(t.is_chain() && !t.is_empty());
        let b = t.push(0, 6, Some(0.5), None);
        let c = t.push(b, 7, None, None);
        assert!(!t.is_chain());
        assert_eq!((t.path(c), t.words(c), t.leaves()), (vec![b, c], vec![6, 7], vec![a, c]));
        assert_eq!((t.tokens(), t.parents()), (vec![9, 5, 6, 7], vec![0, 0, 0, 2]));
        assert_eq!((t.children(0).collect::<Vec<_>>(), t.nodes()[c].depth), (vec![a, b], 2));
    }
}
