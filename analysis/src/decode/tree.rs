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
    /// Per node: its first child, its last one, and the next child of its parent; 0 where there is none.
    links: Vec<[usize; 3]>,
    /// Passes of the draft model that it took.
    pub passes: usize,
}

impl Tree {
    /// No guesses yet below `root`.
    pub fn new(root: u32) -> Self {
        let root = Node { parent: 0, token: root, depth: 0, p_draft: None, value: None };
        Self { nodes: vec![root], drawn_from: vec![None], links: vec![[0; 3]], passes: 0 }
    }

    /// Adds a guess below `parent` and gives its index.
    pub fn push(&mut self, parent: usize, token: u32, p_draft: Option<f64>, value: Option<f64>) -> usize {
        let depth = self.nodes[parent].depth + 1;
        self.nodes.push(Node { parent, token, depth, p_draft, value });
        self.drawn_from.push(None);
        self.links.push([0; 3]);
        let id = self.nodes.len() - 1;
        match self.links[parent] {
            [0, ..] => self.links[parent][0] = id,
            [_, last, _] => self.links[last][2] = id,
        }
        self.links[parent][1] = id;
        id
    }

    /// A tree of paths that begin with the same token, its root; ids below 0 end a path. Gives the nodes of each path,
    /// too. `None` where they begin with different tokens.
    pub fn of_paths(paths: &[Vec<i64>]) -> Option<(Self, Vec<Vec<usize>>)> {
        let root = u32::try_from(*paths.first()?.first()?).ok()?;
        let (mut tree, mut all) = (Self::new(root), Vec::new());
        for path in paths {
            let (mut at, mut nodes) = (0, vec![0]);
            for id in path.iter().map_while(|&id| u32::try_from(id).ok()).skip(1) {
                let known = tree.children(at).find(|&c| tree.nodes[c].token == id);
                at = known.unwrap_or_else(|| tree.push(at, id, None, None));
                nodes.push(at);
            }
            if path.first() != Some(&i64::from(root)) {
                return None;
            }
            all.push(nodes);
        }
        Some((tree, all))
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
        let some = |i: usize| (i > 0).then_some(i);
        std::iter::successors(some(self.links[of][0]), move |&i| some(self.links[i][2]))
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
        let (t2, nodes) = Tree::of_paths(&[vec![9, 5, -1], vec![9, 6, 7], vec![9, 6, 8]]).unwrap();
        assert_eq!((t2.tokens(), t2.parents()), (vec![9, 5, 6, 7, 8], vec![0, 0, 0, 2, 2]));
        assert_eq!((nodes[0].clone(), nodes[2].clone()), (vec![0, 1], vec![0, 2, 4]));
        assert!(Tree::of_paths(&[vec![1], vec![2]]).is_none() && Tree::of_paths(&[]).is_none());
        assert_eq!((t.children(0).collect::<Vec<_>>(), t.nodes()[c].depth), (vec![a, b], 2));
    }
}
