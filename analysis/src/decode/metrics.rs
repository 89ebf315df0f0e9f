//! What a whole decode looked like round by round, and the figures that follow from it.

use serde::Serialize;

/// What became of a drafted token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// On the accepted path.
    Accepted,
    /// Looked at by the verifier and refused.
    Rejected,
    /// Drafted but never looked at, because an ancestor was refused or a sibling was taken.
    Unverified,
}

/// One drafted token.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct DraftNode {
    /// Index of the parent in the round's list; `None` hangs below the last accepted token (the root).
    pub parent: Option<usize>,
    /// Vocabulary id.
    pub token: u32,
    /// 1 for children of the root.
    pub depth: usize,
    /// The draft's probability of this token given its ancestors; `None` where the draft has none.
    pub p_draft: Option<f32>,
    /// The target model's probability given its ancestors.
    pub p_target: Option<f32>,
    /// Probability with which the verifier accepts this node once it looks at it.
    pub p_accept: Option<f32>,
    /// What the policy that grew the tree took for the probability that it is accepted; `None` where it does not ask.
    pub value: Option<f32>,
    /// The target's most probable token after this one.
    pub next: u32,
    /// What happened.
    pub state: NodeState,
}

/// What a policy drafts behind a token from a round on.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct Learnt {
    /// The token.
    pub token: u32,
    /// What it drafted behind it before, the most probable first; empty where it knew nothing.
    pub before: Vec<u32>,
    /// What it drafts from now on.
    pub after: Vec<u32>,
}

/// One round: a tree, its verification, and the tokens it gave.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct Round {
    /// Token the tree hangs below.
    pub root: u32,
    /// The target's most probable token after the root.
    pub next: u32,
    /// Drafted tokens, parents before children.
    pub nodes: Vec<DraftNode>,
    /// Tokens this round added to the text, the verifier's own last one included.
    pub emitted: Vec<u32>,
    /// What the last of them was drawn from where it is the target's own: the most probable ids with their probabilities.
    /// Where guesses were refused before it, that is the residual that they left; else the target's distribution.
    pub own_from: Vec<(u32, f32)>,
    /// Forward passes of the draft model in this round.
    pub draft_passes: usize,
    /// What a policy that remembers what follows which token has changed of it after the round.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learnt: Vec<Learnt>,
}

impl Round {
    /// Drafted tokens that were accepted, in the order of the text.
    pub fn accepted(&self) -> Vec<u32> {
        self.nodes.iter().filter(|n| n.state == NodeState::Accepted).map(|n| n.token).collect()
    }

    /// The last accepted node, behind which the round was decided; `None` is the root.
    pub fn deciding(&self) -> Option<usize> {
        let accepted = (0..self.nodes.len()).filter(|&i| self.nodes[i].state == NodeState::Accepted);
        accepted.max_by_key(|&i| self.nodes[i].depth)
    }

    /// A round of two draft passes and `n` new tokens, whose nodes have these depths and states.
    #[cfg(test)]
    pub(super) fn sample(nodes: &[(usize, NodeState)], n: usize) -> Self {
        let node = |&(depth, state): &(usize, NodeState)| DraftNode {
            parent: None,
            token: 0,
            depth,
            p_draft: None,
            p_target: None,
            p_accept: None,
            value: None,
            next: 0,
            state,
        };
        Self {
            root: 0,
            next: 0,
            nodes: nodes.iter().map(node).collect(),
            emitted: vec![0; n],
            own_from: Vec::new(),
            draft_passes: 2,
            learnt: Vec::new(),
        }
    }
}

/// Why a decode ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It has not; there is more to come.
    Not,
    /// As many tokens are there as were asked for.
    Length,
    /// A token that ends the text was accepted.
    End,
    /// A token that ends the text is the target's own last one.
    OwnEnd,
    /// As many rounds were done as were allowed.
    Rounds,
}

/// A whole decode.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct DraftRun {
    /// The prompt.
    pub prompt: Vec<u32>,
    /// Rounds in order.
    pub rounds: Vec<Round>,
    /// The target's own greedy continuation of the same length, where the method claims to equal it.
    pub reference: Option<Vec<u32>>,
    /// Result of the lossless check in words and whether it passed; `None` if the method makes no such claim.
    pub lossless: Option<(bool, String)>,
    /// By round, of methods that are not lossless: how far its first token is from the target's own, as a
    /// total-variation distance.
    pub strayed: Vec<f64>,
    /// Why it ended.
    pub ended: Ended,
    /// Where its time went. It differs from run to run, so that scripts are told of it apart.
    #[serde(skip)]
    pub spent: Spent,
}

/// Where the time of a decode went, in seconds; what the prompt and the checks take is no part of it, nor how far a
/// method that is not lossless strays.
#[derive(Clone, Copy, PartialEq, Default, Serialize, serde::Deserialize)]
pub struct Spent {
    /// Guessing and learning, the draft model's passes included.
    pub draft: f64,
    /// Passes of the target.
    pub verify: f64,
    /// Everything else: deciding, keeping count of the rounds.
    pub rest: f64,
}

/// Decodes are compared by what is printed of them, and times differ from run to run.
impl std::fmt::Debug for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("Spent")
    }
}

impl Spent {
    /// All of it.
    pub fn all(&self) -> f64 {
        self.draft + self.verify + self.rest
    }
}

impl DraftRun {
    /// A decode without rounds.
    pub fn new(prompt: &[u32]) -> Self {
        Self {
            prompt: prompt.to_vec(),
            rounds: Vec::new(),
            reference: None,
            lossless: None,
            strayed: Vec::new(),
            ended: Ended::Not,
            spent: Spent::default(),
        }
    }

    /// All emitted tokens.
    pub fn output(&self) -> Vec<u32> {
        self.rounds.iter().flat_map(|r| r.emitted.iter().copied()).collect()
    }

    /// Emitted tokens per round (per target pass).
    pub fn tokens_per_round(&self) -> f64 {
        let (tokens, passes) = self.written();
        tokens as f64 / passes.max(1) as f64
    }

    /// Drafted tokens, and those of them that were accepted.
    pub fn drafted(&self) -> (usize, usize) {
        let accepted = self.rounds.iter().flat_map(|r| &r.nodes).filter(|n| n.state == NodeState::Accepted);
        (self.rounds.iter().map(|r| r.nodes.len()).sum(), accepted.count())
    }

    /// Passes of the draft model per round.
    pub fn draft_passes_per_round(&self) -> f64 {
        let n: usize = self.rounds.iter().map(|r| r.draft_passes).sum();
        n as f64 / self.rounds.len().max(1) as f64
    }

    /// Per depth from 1: rounds in which a token of this depth was accepted, and rounds that drafted so deep.
    pub fn accepted_by_depth(&self) -> Vec<(usize, usize)> {
        let mut out: Vec<(usize, usize)> = Vec::new();
        for round in &self.rounds {
            // Whoever is there has everything above it, and so has whoever is accepted.
            let deepest = |hit: bool| {
                let nodes = round.nodes.iter().filter(|n| !hit || n.state == NodeState::Accepted);
                nodes.map(|n| n.depth).max().unwrap_or(0)
            };
            let (hit, deep) = (deepest(true), deepest(false));
            out.resize(out.len().max(deep), (0, 0));
            out[..hit].iter_mut().for_each(|d| d.0 += 1);
            out[..deep].iter_mut().for_each(|d| d.1 += 1);
        }
        out
    }

    /// Emitted tokens and passes of the target.
    pub fn written(&self) -> (usize, usize) {
        (self.rounds.iter().map(|r| r.emitted.len()).sum(), self.rounds.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_and_shares_by_hand() {
        let mut run = DraftRun::new(&[0]);
        run.rounds = vec![
            Round::sample(&[(1, NodeState::Accepted), (2, NodeState::Accepted)], 3),
            Round::sample(&[(1, NodeState::Rejected)], 1),
        ];
        assert_eq!((run.accepted_by_depth(), run.drafted()), (vec![(1, 2), (1, 1)], (3, 2)));
        assert_eq!((run.written(), run.tokens_per_round()), ((4, 2), 2.0));
    }
}
