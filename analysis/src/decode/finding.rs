//! Decodes as findings: a tree per round with what became of it, or a timeline of steps by positions.

use super::mask::{Revealed, Timeline};
use super::metrics::{DraftRun, NodeState};
use super::pace::Pace;
use crate::finding::{
    Axis, Class, Datum, Figure, Finding, Look, Measure, Plot, Proof, Series, Style, TimeCell, Tree, TreeNode, Unit,
};

/// What a token is printed as.
pub type Words<'a> = &'a dyn Fn(u32) -> String;

/// States of a node in [`DraftRun::tree`], by index.
fn states() -> Vec<Class> {
    vec![
        Class::new("accepted", "on the accepted path", Look::Good),
        Class::new("rejected", "looked at by the target and refused", Look::Bad),
        Class::new("never looked at", "an ancestor was refused or a sibling was taken", Look::Quiet),
        Class::new("the target's own", "what the target adds itself after the accepted path", Look::Given),
        Class::new("start", "the last token of the text, where the round starts", Look::Plain),
    ]
}

impl DraftRun {
    /// The tree of a round: its root, the drafted tokens in their order, and the target's own token last. `None` where
    /// there is no such round.
    pub fn tree(&self, round: usize, words: Words) -> Option<Tree> {
        let r = self.rounds.get(round)?;
        let before: usize = self.rounds[..round].iter().map(|r| r.emitted.len()).sum();
        let start = self.prompt.len() + before;
        let node = |parent: Option<usize>, id: u32, position: usize, values: [Option<f32>; 3], state: usize| TreeNode {
            parent,
            label: words(id),
            id: Some(id),
            position: Some(position),
            values: values.to_vec(),
            state,
        };
        let mut nodes = vec![node(None, r.root, start.saturating_sub(1), [None; 3], 4)];
        for n in &r.nodes {
            let state = match n.state {
                NodeState::Accepted => 0,
                NodeState::Rejected => 1,
                NodeState::Unverified => 2,
            };
            let parent = Some(n.parent.map_or(0, |p| p + 1));
            nodes.push(node(parent, n.token, start + n.depth - 1, [n.p_draft, n.p_target, n.p_accept], state));
        }
        let accepted = r.accepted().len();
        if let Some(&own) = r.emitted.get(accepted) {
            let parent = r.deciding().map_or(0, |i| i + 1);
            nodes.push(node(Some(parent), own, start + accepted, [None; 3], 3));
        }
        let measures = ["draft", "target", "accept"].map(|name| Measure::new(name, "probability")).to_vec();
        Some(Tree { title: format!("round {}", round + 1), nodes, measures, states: states() })
    }

    /// Share of the rounds with a draft of each depth in which one was accepted.
    pub fn depths(&self) -> Plot {
        let share = |(i, (hit, deep)): (usize, (usize, usize))| [(i + 1) as f64, hit as f64 / deep.max(1) as f64];
        let points = self.accepted_by_depth().into_iter().enumerate().map(share).collect();
        let axis = Axis::Number(Measure::new("depth", ""));
        let series = vec![Series::new("accepted", Style::Bars, points)];
        Plot::new("accepted by depth", axis, Measure::new("accepted", "share of rounds"), series)
    }

    /// Trees of all rounds, acceptance by depth, and the figures; those of time where `pace` is known.
    pub fn finding(&self, words: Words, pace: Option<&Pace>) -> Finding {
        let trees = (0..self.rounds.len()).filter_map(|i| self.tree(i, words)).map(Into::into);
        let mut figures = self.figures(pace);
        let mut notes = Vec::new();
        if !self.strayed.is_empty() {
            let mean = self.strayed.iter().sum::<f64>() / self.strayed.len() as f64;
            figures.push(Figure::new(
                "strays",
                Datum::Share(mean.clamp(0.0, 1.0)),
                "total-variation distance between the first token of a round and the target's own, mean over rounds",
            ));
            notes.push(
                "not lossless: above temperature 0 the text is near the target's own and not distributed as it".into(),
            );
        }
        let proof = self.lossless.as_ref().map(|(holds, words)| Proof {
            claim: "lossless".into(),
            holds: *holds,
            words: words.clone(),
        });
        let mut pictures: Vec<_> = trees.collect();
        pictures.push(self.depths().into());
        Finding { pictures, figures, notes, proof }
    }
}

/// Cells of [`Timeline::picture`] by state; reasons follow.
const GUESSED: usize = 0;
const WRITTEN: usize = 1;
const REVEALED: usize = 2;

/// Looks of the reasons: far apart from each other, and from the colours of confidence.
const REASONS: [Look; 4] = [Look::Good, Look::Category(1), Look::Category(5), Look::Category(4)];

impl Timeline {
    /// Steps by positions of what was written: at each step what was guessed where it was masked, with how sure, what
    /// was revealed then and why, and what was revealed before. Blocks to come have no cells.
    pub fn picture(&self, words: Words) -> crate::finding::Timeline {
        let mut reasons: Vec<&'static str> = self.revealed().map(|(_, r)| r.why).collect();
        reasons.sort_unstable();
        reasons.dedup();
        let mut states = vec![
            Class::new("guessed", "still masked: the most probable token so far", Look::Quiet),
            Class::new("written", "revealed in an earlier step", Look::Plain),
        ];
        states.extend(reasons.iter().enumerate().map(|(i, why)| {
            Class::new(format!("revealed: {why}"), "stays from this step on", REASONS[i % REASONS.len()])
        }));
        let first = self.prompt.len();
        let mut cells = Vec::new();
        let mut written: Vec<Option<(u32, f64)>> = vec![None; self.length];
        for (step, s) in self.steps.iter().enumerate() {
            let (mut seen, mut revealed) = (s.seen.iter().peekable(), s.revealed.iter().peekable());
            for (position, written) in written.iter_mut().enumerate() {
                let at = first + position;
                let guess = seen.next_if(|g| g.position == at);
                let (id, confidence, state, why) = match (revealed.next_if(|r| r.position == at), guess) {
                    (Some(r), _) => {
                        *written = Some((r.id, r.confidence));
                        let reason = reasons.binary_search(&r.why).unwrap_or(0);
                        (r.id, r.confidence, REVEALED + reason, r.why_words(words).into())
                    }
                    (None, Some(g)) => (g.id, g.confidence, GUESSED, "".into()),
                    (None, None) => match *written {
                        Some((id, confidence)) => (id, confidence, WRITTEN, "".into()),
                        None => continue,
                    },
                };
                let (text, confidence) = (words(id).into(), Some(confidence as f32));
                cells.push(TimeCell { step, position, id: Some(id), text, confidence, why, state });
            }
        }
        crate::finding::Timeline {
            title: "what was revealed when".into(),
            steps: Unit::Steps,
            n_steps: self.steps.len(),
            places: Unit::Positions,
            n_places: self.length,
            measure: Measure::new("confidence", "probability"),
            states,
            cells,
        }
    }

    /// The timeline, tokens per step, and the figures.
    pub fn finding(&self, words: Words) -> Finding {
        let count = |(i, s): (usize, &super::mask::Step)| [i as f64, s.revealed.len() as f64];
        let points = self.steps.iter().enumerate().map(count).collect();
        let series = vec![Series::new("revealed", Style::Bars, points)];
        let plot = Plot::new("tokens per step", Axis::Unit(Unit::Steps), Measure::new("tokens", ""), series);
        Finding::of(self.picture(words))
            .with(plot)
            .figure(Figure::new(
                "tokens per forward",
                Datum::Number(self.tokens_per_forward()),
                "tokens written divided by passes of the model",
            ))
            .figure(Figure::new("forwards", Datum::Count(self.forwards), "passes of the model"))
            .figure(Figure::new("steps", Datum::Count(self.steps.len()), "steps that revealed something"))
            .figure(Figure::new(
                "steps held back",
                Datum::Count(self.steps_held_back()),
                "steps in which a position already guessed what it was to become, summed over the positions: what a \
                 policy could have saved",
            ))
    }
}

impl Revealed {
    /// Why it was revealed, and what else could have stood there.
    fn why_words(&self, words: Words) -> String {
        let other = |(id, p): &(u32, f64)| format!("\"{}\" {:.1}%", words(*id).trim(), p * 100.0);
        let others: Vec<String> = self.alternatives.iter().map(other).collect();
        if others.is_empty() { self.why.into() } else { format!("{}; else {}", self.why, others.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::mask::{Seen, Step};
    use crate::decode::metrics::{DraftNode, Ended, Round};

    fn words(id: u32) -> String {
        format!("w{id}")
    }

    #[test]
    fn a_round_is_a_tree_with_its_root_first_and_the_targets_token_last() {
        let node = |parent, token, depth, state| DraftNode {
            parent,
            token,
            depth,
            p_draft: Some(0.5),
            p_target: Some(0.25),
            p_accept: Some(0.5),
            value: None,
            next: 0,
            state,
        };
        let nodes = vec![
            node(None, 7, 1, NodeState::Accepted),
            node(None, 8, 1, NodeState::Unverified),
            node(Some(0), 9, 2, NodeState::Rejected),
        ];
        let round = Round {
            root: 5,
            next: 7,
            nodes,
            emitted: vec![7, 6],
            own_from: Vec::new(),
            draft_passes: 2,
            learnt: Vec::new(),
        };
        let mut run = DraftRun::new(&[4, 5]);
        (run.rounds, run.ended) = (vec![round], Ended::Length);
        let tree = run.tree(0, &words).unwrap();
        let got: Vec<_> =
            tree.nodes.iter().map(|n| (n.parent, n.label.as_str(), n.position.unwrap(), n.state)).collect();
        let want = [
            (None, "w5", 1, 4),
            (Some(0), "w7", 2, 0),
            (Some(0), "w8", 2, 2),
            (Some(1), "w9", 3, 1),
            (Some(1), "w6", 3, 3),
        ];
        assert_eq!(got, want);
        let finding = run.finding(&words, None);
        assert!(finding.check().is_ok() && finding.pictures.len() == 2 && run.tree(1, &words).is_none());
    }

    #[test]
    fn a_timeline_has_a_cell_for_every_guess_and_says_why_it_stays() {
        let seen = |position, id, confidence| Seen { position, id, confidence };
        let stays = |position, id, why| Revealed { position, id, confidence: 0.5, why, alternatives: vec![(3, 0.25)] };
        let step = |seen, revealed| Step { block: 0, seen, revealed };
        let timeline = Timeline {
            prompt: vec![1],
            mask: 0,
            length: 2,
            block_length: 2,
            steps: vec![
                step(vec![seen(1, 7, 0.25), seen(2, 8, 0.75)], vec![stays(2, 8, "sure")]),
                step(vec![seen(1, 7, 0.5)], vec![stays(1, 7, "last")]),
            ],
            forwards: 2,
        };
        let picture = timeline.picture(&words);
        let got: Vec<_> = picture
            .cells
            .iter()
            .map(|c| (c.step, c.position, c.text.as_ref(), picture.states[c.state].name.as_ref()))
            .collect();
        let want = [
            (0, 0, "w7", "guessed"),
            (0, 1, "w8", "revealed: sure"),
            (1, 0, "w7", "revealed: last"),
            (1, 1, "w8", "written"),
        ];
        assert_eq!(got, want);
        assert_eq!(picture.cells[1].why, "sure; else \"w3\" 25.0%");
        assert!(timeline.finding(&words).check().is_ok());
    }
}
