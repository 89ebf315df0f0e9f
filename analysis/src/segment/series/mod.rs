//! Cutting series: windows of samples, each with the token that a codebook has for it.

mod burg;
mod lipcot;

use super::Method;
use crate::finding::{Figure, Picture};
use serde::Serialize;
use std::ops::Range;

/// One piece of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Entry of the codebook, where there is one.
    pub id: Option<u32>,
    /// First sample.
    pub start: usize,
    /// One past the last sample.
    pub end: usize,
}

/// A series cut into windows, which overlap where the hop is shorter than a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    /// Name of the cut.
    pub name: String,
    /// The windows in order.
    pub windows: Vec<Window>,
    /// The samples at the end that fill no window.
    pub rest: Range<usize>,
    /// Entries of the codebook; `None` where the cut follows a rule.
    pub vocab: Option<usize>,
    /// Numbers of this cut beside those that all cuts have.
    pub figures: Vec<Figure>,
    /// What the method has to show of its codebook.
    pub pictures: Vec<Picture>,
}

/// Windows of `length` samples that begin `hop` samples apart, both at least 1, and the samples left over at the end.
pub fn windows(samples: usize, length: usize, hop: usize) -> (Vec<Range<usize>>, Range<usize>) {
    let (length, hop) = (length.max(1), hop.max(1));
    let n = samples.checked_sub(length).map_or(0, |last| last / hop + 1);
    let all: Vec<Range<usize>> = (0..n).map(|i| i * hop..i * hop + length).collect();
    let end = all.last().map_or(0, |w| w.end);
    (all, end..samples)
}

/// Every way to cut a series.
pub static ALL: &[&dyn Method] = &[&lipcot::Lipcot];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_by_hand() {
        assert_eq!(windows(10, 4, 4), (vec![0..4, 4..8], 8..10));
        assert_eq!(windows(10, 4, 3), (vec![0..4, 3..7, 6..10], 10..10));
        assert_eq!(windows(3, 4, 4), (vec![], 0..3));
        assert_eq!(windows(0, 4, 4), (vec![], 0..0));
    }
}
