//! What is shown beside a score: options of the verbs that run or draw one.

use crate::pane::{Gather, Pane, Per};
use anyhow::{Context as _, bail};
use tokenscope_analysis::aggregate::MAX_CELLS;
use tokenscope_analysis::method::Kind;

/// What scores are gathered into, and whether it is measured how faithful they are.
#[derive(Debug, Default, clap::Args)]
pub struct Beside {
    /// Gather scores per word, sentence or line of the text, own segment (--segments), or region of the picture
    /// (--regions); a token that lies in several counts in each by its bytes or its area
    #[arg(long, value_parser = Per::ALL.map(Per::name))]
    per: Option<String>,
    /// How values of several tokens become one, of scores that are gathered [default: sum, or that of the session]
    #[arg(long, value_parser = Gather::ALL.map(Gather::name))]
    by: Option<String>,
    /// Own segments as first and last tokens: 3-7,10,12-15
    #[arg(long, value_name = "RANGES")]
    segments: Option<String>,
    /// Regions of the picture in a row, and rows of them
    #[arg(long, value_name = "N")]
    regions: Option<usize>,
    /// Measure how faithful the score is: the model's answer without the tokens that it puts first (deletion) and with
    /// them alone (insertion), against random order
    #[arg(long)]
    faithful: bool,
}

impl Beside {
    /// Whether anything is asked for.
    fn any(&self) -> bool {
        self.per.is_some() || self.by.is_some() || self.segments.is_some() || self.regions.is_some() || self.faithful
    }

    /// Errors if something is asked for that only scores have, of a method of another kind.
    pub fn fits(&self, kind: Kind) -> anyhow::Result<()> {
        if self.any() && kind != Kind::Score {
            bail!("--per, --by, --segments, --regions and --faithful are about scores, and this is a {}", kind.noun());
        }
        Ok(())
    }

    /// Says it in the pane. Errors: ranges or numbers that are none, options that contradict each other.
    pub fn put(&self, pane: &mut Pane) -> anyhow::Result<()> {
        let implied = match (&self.segments, self.regions) {
            (Some(_), Some(_)) => bail!("--segments and --regions: take one of them"),
            (Some(_), None) => Some(Per::Segment),
            (None, Some(_)) => Some(Per::Region),
            (None, None) => None,
        };
        let named = self.per.as_deref().and_then(|n| Per::ALL.into_iter().find(|p| p.name() == n));
        if let (Some(named), Some(implied)) = (named, implied)
            && named != implied
        {
            bail!("--per {}: this goes with --per {}", named.name(), implied.name());
        }
        let aggregate = &mut pane.shows.aggregate;
        if let Some(per) = named.or(implied) {
            aggregate.per = per;
        }
        if let Some(by) = &self.by {
            if aggregate.per == Per::Token {
                bail!("--by {by}: say with --per, --segments or --regions what scores are gathered into");
            }
            aggregate.by = Gather::ALL.into_iter().find(|b| b.name() == by).unwrap_or(aggregate.by);
        }
        if let Some(text) = &self.segments {
            aggregate.segments = ranges(text)?;
        }
        if let Some(n) = self.regions {
            if !(1..=MAX_CELLS).contains(&n) {
                bail!("--regions {n}: from 1 to {MAX_CELLS}");
            }
            aggregate.cells = n;
        }
        if aggregate.per == Per::Segment && aggregate.segments.is_empty() {
            bail!("--per segment needs --segments, e.g. 3-7,10-12");
        }
        pane.shows.faithful |= self.faithful;
        Ok(())
    }
}

fn ranges(text: &str) -> anyhow::Result<Vec<(usize, usize)>> {
    let wrong =
        || format!("--segments {text}: write ranges of tokens as 3-7,10,12-15, each from its first to its last");
    let one = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let pair = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (pair.0 <= pair.1).then_some(pair)
    };
    let mut all: Vec<(usize, usize)> = text.split(',').map(one).collect::<Option<_>>().with_context(wrong)?;
    all.sort_unstable();
    if let Some(w) = all.windows(2).find(|w| w[1].0 <= w[0].1) {
        bail!("--segments {text}: token {} is in two segments", w[1].0);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_in_any_order_and_may_not_overlap() {
        assert_eq!(ranges("10-12,3-7, 1").unwrap(), [(1, 1), (3, 7), (10, 12)]);
        for bad in ["", "a", "7-3", "1-", "1-3,3-4", "-2"] {
            assert!(ranges(bad).is_err(), "{bad}");
        }
    }
}
