//! Which tokens of the run a range of bytes touches, found without looking at all of them.

use crate::cx::Cx;
use crate::text::Text;
use std::sync::Arc;
use tokenscope_analysis::segment::Piece;
use tokenscope_analysis::token::Token;
use tokenscope_analysis::trace::{Tower, Trace};

/// Tokens of the run by the bytes they cover.
#[derive(Clone, Default)]
pub(super) struct Links(Option<Arc<Index>>);

struct Index {
    /// Keeps the run alive, so that its address stays its own.
    trace: Arc<Trace>,
    /// First byte, one past the last, token; by first byte.
    spans: Vec<(usize, usize, usize)>,
    /// Tokens that come from the text, in its order: the pieces of the model's own row.
    own: Vec<usize>,
}

impl Index {
    fn new(trace: Arc<Trace>) -> Self {
        let tokens = trace.towers.get(&Tower::Text).map_or(&[][..], |t| &t.tokens);
        let own = tokens.iter().enumerate().filter(|t| t.1.bytes().is_some()).map(|t| t.0).collect();
        Self { spans: spans(tokens), own, trace }
    }
}

fn spans(tokens: &[Token]) -> Vec<(usize, usize, usize)> {
    let span = |(i, t): (usize, &Token)| t.bytes().filter(|b| !b.is_empty()).map(|b| (b.start, b.end, i));
    let mut out: Vec<_> = tokens.iter().enumerate().filter_map(span).collect();
    out.sort_unstable();
    out
}

fn touched(spans: &[(usize, usize, usize)], start: usize, end: usize) -> Option<(usize, usize)> {
    let end = end.max(start + 1);
    // Tokens that share bytes are few and stand together, so a short look back finds all that reach here.
    let from = spans.partition_point(|s| s.0 < start).saturating_sub(8);
    let mut touching = spans[from..].iter().take_while(|s| s.0 < end).filter(|s| start < s.1).map(|s| s.2);
    let first = touching.next()?;
    Some(touching.fold((first, first), |(a, b), t| (a.min(t), b.max(t))))
}

impl Links {
    /// Those of a run; none without one.
    pub(super) fn new(trace: Option<Arc<Trace>>) -> Self {
        Self(trace.map(|t| Arc::new(Index::new(t))))
    }

    /// Those of the shown run, if it is one of `text` and its text is what the views show.
    pub(super) fn of(cx: &Cx, ui: &egui::Ui, text: &Text) -> Self {
        let ahead = cx.typed.as_ref().is_some_and(|t| *t != cx.pane.run.prompt);
        if ahead || *text != cx.text(ui) || !cx.shows_text() {
            return Self::default();
        }
        let Some(trace) = cx.ready_trace() else { return Self::default() };
        let id = egui::Id::unique("tokens by bytes").with(cx.at);
        let kept: Option<Links> = ui.data(|d| d.get_temp(id));
        match kept {
            Some(Links(Some(index))) if Arc::ptr_eq(&index.trace, &trace) => Links(Some(index)),
            _ => {
                let links = Links::new(Some(trace));
                ui.data_mut(|d| d.insert_temp(id, links.clone()));
                links
            }
        }
    }

    /// The first and last token that `start..end` touches.
    pub(super) fn tokens(&self, start: usize, end: usize) -> Option<(usize, usize)> {
        touched(&self.0.as_ref()?.spans, start, end)
    }

    /// The token that is piece `index` of the model's own row.
    pub(super) fn token(&self, index: usize, piece: &Piece) -> Option<usize> {
        let all = self.0.as_ref()?;
        let token = *all.own.get(index)?;
        // A text that the processor of pictures has changed has other tokens, which share no numbering with the row.
        let same = all.trace.towers.get(&Tower::Text)?.tokens.get(token)?.id == piece.id;
        same.then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_touch_tokens_that_share_one_with_them() {
        // Token 0 is a mark without bytes and has no span; 2 and 3 are parts of one character.
        let spans = [(0, 3, 1), (3, 6, 2), (3, 6, 3), (6, 9, 4)];
        assert_eq!(touched(&spans, 0, 3), Some((1, 1)));
        assert_eq!(touched(&spans, 4, 5), Some((2, 3)));
        assert_eq!(touched(&spans, 2, 7), Some((1, 4)));
        assert_eq!(touched(&spans, 9, 9), None);
        assert_eq!(touched(&spans, 3, 3), Some((2, 3)));
    }
}
