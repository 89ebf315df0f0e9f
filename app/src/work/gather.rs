//! Scores of tokens gathered into words, sentences, lines, own segments and regions.

use super::{ScoreOf, subject, trace_of};
use crate::jobs::{Ask, Store};
use crate::keys::RunKey;
use crate::pane::{Aggregate, Per};
use serde_json::{Value, json};
use tokenscope_analysis::aggregate::{Extent, Group, Grouping, gathered, group_of, groups};
use tokenscope_analysis::finding::Table;
use tokenscope_analysis::trace::Trace;
use tokenscope_analysis::{Ctx, Error, Result};

/// A score, gathered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GatheredOf {
    /// The score.
    pub score: ScoreOf,
    /// Into what, and how.
    pub aggregate: Aggregate,
}

/// Groups with their values.
pub struct Gathered {
    /// The groups.
    pub groups: Vec<Group>,
    /// Their names.
    pub names: Vec<String>,
    /// The value of each.
    pub values: Vec<Option<f32>>,
    /// For each token the group that has most of it.
    pub of: Vec<Option<usize>>,
}

/// Letters of a group's name.
const NAME: usize = 60;

impl Ask for GatheredOf {
    type Out = Gathered;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Gathered> {
        let trace = trace_of(&self.score.scope.run, store, ctx)?;
        let scores = store.get(&self.score, ctx)?;
        let tokens = &subject(&trace, &self.score.scope, None).tower()?.tokens;
        let Aggregate { per, by, segments, cells } = &self.aggregate;
        let grouping = match per {
            Per::Token => return Err(Error::invalid("tokens are not gathered")),
            Per::Word => Grouping::Words,
            Per::Sentence => Grouping::Sentences,
            Per::Line => Grouping::Lines,
            Per::Segment => Grouping::Segments(segments),
            Per::Region => Grouping::Regions { cells: *cells, size: size(&trace)? },
        };
        let groups = groups(tokens, &trace.text, grouping)?;
        let name = |(i, g): (usize, &Group)| match &g.extent {
            Extent::Bytes(range) => trace.text.get(range.clone()).unwrap_or_default().to_string(),
            Extent::Tokens(first, last) => tokens[*first..=*last].iter().map(|t| t.text.as_str()).collect(),
            Extent::Rect(_) => format!("row {}, column {}", i / cells, i % cells),
        };
        let short = |name: String| match name.char_indices().nth(NAME) {
            Some((end, _)) => format!("{}…", &name[..end]),
            None => name,
        };
        Ok(Gathered {
            names: groups.iter().enumerate().map(|g| short(name(g))).collect(),
            values: gathered(&groups, &scores.values, (*by).into()),
            of: group_of(&groups, tokens.len()),
            groups,
        })
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.score.scope.run)
    }
}

/// Width and height of the picture of a run. Errors: there is none.
fn size(trace: &Trace) -> Result<(usize, usize)> {
    let own = trace.picture.as_ref().map(|p| (p.width, p.height));
    let (w, h) = trace.image_size.map(|(w, h)| (w as usize, h as usize)).or(own).ok_or_else(|| {
        Error::invalid("regions are of a picture, and this run has none; gather by word, sentence, line or segment")
    })?;
    Ok((w, h))
}

impl Gathered {
    /// A row per group; `value` heads the column of the values.
    pub fn table(&self, per: Per, value: &str) -> Table {
        let mut table = Table::new(&[per.name(), "text", "from", "to", "x", "y", "width", "height", "tokens", value]);
        for (i, g) in self.groups.iter().enumerate() {
            let (ends, rect) = match &g.extent {
                Extent::Bytes(r) => ([Some(r.start), Some(r.end)], [None; 4]),
                Extent::Tokens(first, last) => ([Some(*first), Some(*last)], [None; 4]),
                Extent::Rect(r) => ([None; 2], r.map(Some)),
            };
            let mut row = vec![json!(i), json!(self.names[i])];
            row.extend(ends.map(|v| json!(v)));
            row.extend(rect.map(|v| json!(v)));
            let tokens: Vec<String> = g.shares.iter().map(|s| s.0.to_string()).collect();
            row.extend([json!(tokens.join(" ")), json!(self.values[i])]);
            table.rows.push(row);
        }
        table
    }

    /// What scripts are told.
    pub fn json(&self, aggregate: &Aggregate) -> Value {
        let group = |i: usize| {
            let g = &self.groups[i];
            let extent = match &g.extent {
                Extent::Bytes(r) => json!({ "bytes": [r.start, r.end] }),
                Extent::Tokens(first, last) => json!({ "tokens": [first, last] }),
                Extent::Rect(r) => json!({ "rect": r }),
            };
            json!({ "name": self.names[i], "extent": extent, "shares": g.shares, "value": self.values[i] })
        };
        let all: Vec<Value> = (0..self.groups.len()).map(group).collect();
        json!({ "per": aggregate.per.name(), "by": aggregate.by.name(), "groups": all })
    }
}
