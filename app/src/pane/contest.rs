//! What a leaderboard is set to: its questions and shares, how it is looked at, and whether it runs.

use crate::board::{COLUMNS, Contest, Figure};
use crate::keys::Call;
use crate::pane::Pane;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::Kind;

/// What a leaderboard is set to. Its methods are those of the retention curves.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Leaderboard {
    /// Whether it is unfolded.
    pub open: bool,
    /// Whether it is computed.
    pub runs: bool,
    /// File or folder of questions; without one they are the program's.
    pub data: Option<PathBuf>,
    /// Questions at most.
    pub questions: usize,
    /// Shares that are kept, in thousandths.
    pub shares: Vec<u16>,
    /// The prompt around a question of one's own; empty is the question alone.
    pub prompt: String,
    /// Whether deletion and insertion are measured.
    pub areas: bool,
    /// The figure that rows are sorted by, by its key, and whether the largest comes first.
    pub sort: Option<(String, bool)>,
    /// The figure that is plotted over the share kept, by its key.
    pub plotted: String,
}

/// The most questions that are asked.
pub const MAX_QUESTIONS: usize = 100_000;
/// The most shares.
pub const MAX_SHARES: usize = 16;
/// Warm passes whose median is the time of a pass.
pub const REPEATS: u8 = 3;

impl Default for Leaderboard {
    fn default() -> Self {
        Self {
            open: false,
            runs: false,
            data: None,
            questions: 20,
            shares: vec![250, 500],
            prompt: String::new(),
            areas: false,
            sort: None,
            plotted: COLUMNS[0].key.into(),
        }
    }
}

impl Leaderboard {
    /// Held to what there can be.
    pub(super) fn held(mut self) -> Self {
        self.questions = self.questions.clamp(1, MAX_QUESTIONS);
        self.shares.retain(|s| *s <= 1000);
        self.shares.truncate(MAX_SHARES);
        if self.shares.is_empty() {
            self.shares = Self::default().shares;
        }
        self
    }

    /// The column that rows are sorted by, and whether the largest comes first.
    pub fn sorted(&self) -> Option<(usize, bool)> {
        self.sort.as_ref().and_then(|(key, falling)| Some((Figure::find(key)?, *falling)))
    }

    /// Shares as a user writes them, `0.25, 0.5` or `25%`, as thousandths; in rising order and each once.
    ///
    /// Errors in words: no share from 0 to 1, too many, none.
    pub fn read_shares(text: &str) -> Result<Vec<u16>, String> {
        let parts = text.split([',', ' ', ';']).map(str::trim).filter(|p| !p.is_empty());
        let read = |p: &str| {
            let (digits, unit) = p.strip_suffix('%').map_or((p, 1.0), |d| (d, 100.0));
            let share = digits.parse::<f64>().ok().map(|v| v / unit).filter(|v| (0.0..=1.0).contains(v));
            share.map(|v| (v * 1000.0).round() as u16).ok_or_else(|| format!("{p} is no share from 0 to 1"))
        };
        let mut all = parts.map(read).collect::<Result<Vec<_>, _>>()?;
        all.sort_unstable();
        all.dedup();
        match all.len() {
            0 => Err("name a share from 0 to 1".into()),
            n if n > MAX_SHARES => Err(format!("{n} shares are more than {MAX_SHARES}")),
            _ => Ok(all),
        }
    }
}

impl Contest {
    /// The leaderboard of a pane: the methods of its retention curves, the chosen one with its parameters.
    pub fn of(pane: &Pane) -> Self {
        let set = &pane.shows.board;
        let chosen = pane.call(Kind::Reduce);
        let call = |id: &&'static str| {
            if chosen.method == *id {
                return Some(chosen.clone());
            }
            catalog::info(Kind::Reduce, id).ok().map(Call::of)
        };
        Self {
            model: pane.run.model.clone(),
            placement: pane.run.placement,
            data: set.data.clone(),
            questions: set.questions,
            calls: pane.shows.curves.iter().filter_map(call).collect(),
            shares: set.shares.clone(),
            prompt: set.prompt.clone(),
            areas: set.areas,
            repeats: REPEATS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_as_people_write_them() {
        assert_eq!(Leaderboard::read_shares("0.5, 25%;0.25 1"), Ok(vec![250, 500, 1000]));
        for (bad, word) in [("", "name a share"), ("1.5", "1.5"), ("-1%", "-1%"), ("half", "half"), ("nan", "nan")] {
            assert!(Leaderboard::read_shares(bad).unwrap_err().contains(word), "{bad}");
        }
        let held = Leaderboard { questions: 0, shares: vec![2000], ..Leaderboard::default() }.held();
        assert_eq!((held.questions, held.shares), (1, vec![250, 500]));
    }
}
