//! A round of a decode as a tree: where it starts, what was drafted, and the token that the target adds itself.

use crate::work::Drafted;
use tokenscope_analysis::decode::{NodeState, Round};
use tokenscope_analysis::finding::{Class, Look, Measure, Tree, TreeNode};

/// The tree of `round`; `before` tokens were decoded in earlier rounds.
pub(super) fn of(d: &Drafted, round: &Round, before: usize) -> Tree {
    let text = |id: &u32| d.text.get(id).cloned().unwrap_or_default();
    let node = |parent, id: u32, position, values, state| TreeNode {
        parent,
        label: text(&id),
        id: Some(id),
        position,
        values,
        state: state as usize,
    };
    let mut nodes = vec![node(None, round.root, before.checked_sub(1), vec![None; 4], State::Start)];
    nodes.extend(round.nodes.iter().map(|n| {
        let state = match n.state {
            NodeState::Accepted => State::Accepted,
            NodeState::Rejected => State::Rejected,
            NodeState::Unverified => State::Unverified,
        };
        let values = vec![n.p_draft, n.p_target, n.p_accept, n.value];
        node(Some(n.parent.map_or(0, |p| p + 1)), n.token, Some(before + n.depth - 1), values, state)
    }));
    let end = round.deciding();
    let depth = end.map_or(0, |i| round.nodes[i].depth);
    // The target's own token is one more child of the last accepted node.
    if let Some(&own) = round.emitted.get(depth) {
        nodes.push(node(Some(end.map_or(0, |i| i + 1)), own, Some(before + depth), vec![None; 4], State::Own));
    }
    let share = |name| Measure::new(name, "probability");
    Tree {
        title: "draft tree".into(),
        nodes,
        measures: vec![share("draft"), share("target"), share("accept"), share("expected")],
        states: vec![
            Class::new("where the round starts", "", Look::Plain),
            Class::new("accepted", "on the path that the target accepts", Look::Good),
            Class::new("rejected", "looked at by the target and refused", Look::Bad),
            Class::new("never looked at", "below a rejected one, or beside an accepted one", Look::Quiet),
            Class::new("the target's own token", "added by the target without a draft", Look::Given),
        ],
    }
}

/// Places of the states in the list above.
#[derive(Clone, Copy)]
enum State {
    Start,
    Accepted,
    Rejected,
    Unverified,
    Own,
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenscope_analysis::decode::{DraftNode, DraftRun};

    #[test]
    fn the_targets_own_token_hangs_below_the_last_accepted_one() {
        let node = |parent, token, depth, state| DraftNode {
            parent,
            token,
            depth,
            p_draft: Some(0.5),
            p_target: None,
            p_accept: None,
            value: None,
            next: 0,
            state,
        };
        let round = Round {
            root: 7,
            next: 1,
            nodes: vec![
                node(None, 1, 1, NodeState::Accepted),
                node(None, 2, 1, NodeState::Unverified),
                node(Some(0), 3, 2, NodeState::Rejected),
            ],
            emitted: vec![1, 9],
            own_from: vec![(9, 1.0)],
            draft_passes: 2,
            learnt: Vec::new(),
        };
        let run = DraftRun { rounds: vec![round.clone()], ..DraftRun::new(&[7]) };
        let text = [(9, "own".to_string())].into_iter().collect();
        let (rounds, whole) = (Vec::new(), String::new());
        let tree = of(&Drafted { run, text, rounds, whole, n_prompt: 1, times: None }, &round, 4);
        assert!(tree.check().is_ok());
        let parents: Vec<Option<usize>> = tree.nodes.iter().map(|n| n.parent).collect();
        assert_eq!(parents, [None, Some(0), Some(0), Some(1), Some(1)]);
        let own = &tree.nodes[4];
        assert_eq!((own.label.as_str(), own.position, tree.states[own.state].look), ("own", Some(5), Look::Given));
        assert_eq!((tree.nodes[0].position, tree.nodes[3].position), (Some(3), Some(5)));
    }
}
