//! Whether a result out of a file holds together: views look up what its parts name, and must find it there.

use crate::work::{Drafted, Faithful, Reduced, Written};
use tokenscope_analysis::decode::DraftNode;
use tokenscope_analysis::finding::{Finding, Picture};
use tokenscope_analysis::reduce::Plan;
use tokenscope_analysis::reduce::budget::Retained;
use tokenscope_analysis::score::Scores;
use tokenscope_analysis::{Error, Result};

/// Tokens of a run that is believed: lists of that length are made of what a plan or a timeline says.
const MOST_TOKENS: usize = 1 << 24;

/// A result that a session keeps.
pub(super) trait Sound {
    /// Errors where parts of it name others that are not there. Sizes that do not fit the run are for the views, which
    /// look up tokens by what the run has.
    fn sound(&self) -> Result<()> {
        Ok(())
    }
}

impl Sound for Vec<String> {}

impl Sound for Vec<Retained> {}

impl Sound for Finding {
    fn sound(&self) -> Result<()> {
        self.check()
    }
}

impl Sound for Faithful {
    fn sound(&self) -> Result<()> {
        self.finding.check()
    }
}

impl Sound for Scores {
    fn sound(&self) -> Result<()> {
        let n = self.values.len();
        match self.layers.iter().find(|l| l.len() != n) {
            Some(layer) => Err(Error::invalid(format!("a layer has {} scores for {n} tokens", layer.len()))),
            None => self.also.check(),
        }
    }
}

impl Sound for Reduced {
    fn sound(&self) -> Result<()> {
        of_plan(&self.plan)
    }
}

/// Errors if a plan names tokens that it does not have.
fn of_plan(plan: &Plan) -> Result<()> {
    if let Some(n) = plan.tokens.values().find(|n| **n > MOST_TOKENS) {
        return Err(Error::invalid(format!("no run has {n} tokens")));
    }
    for step in &plan.steps {
        let n = plan.tokens.get(&step.place.tower()).copied().unwrap_or(0);
        let last = step.named().into_iter().chain(step.scores.iter().map(|s| s.0)).max();
        if let Some(t) = last.filter(|t| *t >= n) {
            return Err(Error::invalid(format!("there is no token {t} {}; there are {n}", step.place)));
        }
    }
    Ok(())
}

impl Sound for Drafted {
    fn sound(&self) -> Result<()> {
        if self.run.rounds.is_empty() {
            return Err(Error::invalid("it has no rounds"));
        }
        for round in &self.run.rounds {
            // Parents stand before their children, so that no guess lies deeper than those before it allow.
            let wrong =
                |(i, n): (usize, &DraftNode)| n.depth == 0 || n.depth > i + 1 || n.parent.is_some_and(|p| p >= i);
            if let Some(i) = round.nodes.iter().enumerate().position(wrong) {
                return Err(Error::invalid(format!("guess {i} of a round hangs below none that stands before it")));
            }
        }
        Ok(())
    }
}

impl Sound for Written {
    fn sound(&self) -> Result<()> {
        let t = &self.timeline;
        if t.length > MOST_TOKENS {
            return Err(Error::invalid(format!("no text of {} tokens was written", t.length)));
        }
        let n = t.prompt.len() + t.length;
        if let Some((_, r)) = t.revealed().find(|(_, r)| r.position >= n) {
            return Err(Error::invalid(format!("there is no position {}; there are {n}", r.position)));
        }
        if let Some(Picture::Timeline(p)) = self.finding.pictures.first()
            && (p.n_steps, p.n_places) != (t.steps.len(), t.length)
        {
            return Err(Error::invalid("its picture is of another decode"));
        }
        self.finding.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenscope_analysis::decode::{DraftRun, NodeState, Round};
    use tokenscope_analysis::reduce::{Place, Step};
    use tokenscope_analysis::trace::Tower;

    #[test]
    fn parts_that_name_what_is_not_there_are_refused() {
        let mut scores = Scores::new(vec![Some(1.0); 2], "share").with_layers(vec![vec![0.5; 2]]);
        assert!(scores.sound().is_ok());
        scores.layers.push(vec![0.5]);
        assert!(scores.sound().is_err());

        let plan = |n: usize, kept: &[usize]| Plan {
            tokens: [(Tower::Text, n)].into(),
            steps: vec![Step::keep(Place::Features, kept, &[])],
            ..Plan::default()
        };
        assert!(of_plan(&plan(2, &[0, 1])).is_ok());
        assert!(of_plan(&plan(2, &[0, 2])).is_err_and(|e| e.to_string().contains("no token 2")));
        assert!(of_plan(&plan(usize::MAX, &[0])).is_err());

        let node = |&(parent, depth): &(Option<usize>, usize)| DraftNode {
            parent,
            token: 0,
            depth,
            p_draft: None,
            p_target: None,
            p_accept: None,
            value: None,
            next: 0,
            state: NodeState::Rejected,
        };
        let drafted = |nodes: &[(Option<usize>, usize)]| Drafted {
            run: DraftRun {
                rounds: vec![Round {
                    root: 0,
                    next: 0,
                    nodes: nodes.iter().map(node).collect(),
                    emitted: vec![0],
                    own_from: Vec::new(),
                    draft_passes: 0,
                    learnt: Vec::new(),
                }],
                ..DraftRun::new(&[0])
            },
            text: Default::default(),
            rounds: vec![String::new()],
            whole: String::new(),
            n_prompt: 1,
            times: None,
        };
        assert!(drafted(&[(None, 1), (Some(0), 2), (None, 1)]).sound().is_ok());
        for nodes in [&[(Some(0), 1)][..], &[(Some(1), 1), (Some(0), 2)], &[(None, 0)], &[(None, usize::MAX)]] {
            assert!(drafted(nodes).sound().is_err(), "{nodes:?}");
        }
    }
}
