//! Ground truth: how much each token shows of what decides an answer, and how well a score agrees with that.
//!
//! Where the input was made by a program, it is known which pixels or bytes decide the answer. [`of_bytes`] and
//! [`of_mask`] carry that to the tokens of a run; [`Agreement`] compares a score with it:
//! - *pointing game* (Zhang et al. 2016, arXiv 1608.00507): whether the token with the largest score is a true one;
//! - *precision at the true size*: with k true tokens, the share of true ones among the k largest scores;
//! - *rank correlation* (Spearman 1904): of the score with the true shares, equal values sharing their mean rank.
//!
//! A token is true if at least [`TRUE_SHARE`] of it shows what decides. Among equal scores every order is as likely
//! as any other, and the figures are the means over the orders; so a constant score is exactly at chance.

use crate::token::{Source, Token, TokenKind};
use std::ops::Range;

/// A token of which at least this share shows what decides the answer is a true token.
pub const TRUE_SHARE: f32 = 0.1;

/// Pixels that decide an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Width in pixels of the original picture.
    pub width: usize,
    /// Row by row: whether the pixel is one of them.
    pub inside: Vec<bool>,
}

impl Mask {
    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.inside.len() / self.width.max(1)
    }

    /// Whether the pixel at column `x` and row `y` is inside; what lies beyond the picture is not.
    pub fn at(&self, x: usize, y: usize) -> bool {
        x < self.width && self.inside.get(y * self.width + x).is_some_and(|b| *b)
    }

    /// The share of a rectangle that is inside; pixels that it cuts count by their part. 0 for an empty rectangle.
    fn share(&self, [x, y, w, h]: [f32; 4]) -> f32 {
        let area = f64::from(w) * f64::from(h);
        if area.is_nan() || area <= 0.0 {
            return 0.0;
        }
        let span = |from: f32, long: f32, most: usize| {
            let end = ((from + long).ceil().max(0.0) as usize).min(most);
            (from.floor().max(0.0) as usize).min(end)..end
        };
        let part = |i: usize, from: f32, long: f32| {
            f64::from((from + long).min(i as f32 + 1.0)) - f64::from(from.max(i as f32))
        };
        let (columns, rows) = (span(x, w, self.width), span(y, h, self.height()));
        let all = rows.flat_map(|r| columns.clone().map(move |c| (r, c)));
        let sum: f64 = all.filter(|&(r, c)| self.at(c, r)).map(|(r, c)| part(c, x, w) * part(r, y, h)).sum();
        (sum / area) as f32
    }
}

/// Per token the share of it that shows pixels of `mask`, 0..=1. `None` for what is no image token: only image tokens
/// compete for a picture's truth.
pub fn of_mask(tokens: &[Token], mask: &Mask) -> Vec<Option<f32>> {
    let share = |t: &Token| match t.source {
        Source::Rect { x, y, w, h } if t.kind == TokenKind::Image => Some(mask.share([x, y, w, h])),
        _ => None,
    };
    tokens.iter().map(share).collect()
}

/// Per token the share of its bytes that lie in one of `deciders`, 0..=1; white space counts for nothing. `None` for
/// what is no token of the text, such as a begin token. `text` is what the byte ranges count in.
pub fn of_bytes(tokens: &[Token], deciders: &[Range<usize>], text: &str) -> Vec<Option<f32>> {
    let solid = |i: usize| text.as_bytes().get(i).is_some_and(|b| !b.is_ascii_whitespace());
    let share = |t: &Token| {
        let bytes = t.bytes().filter(|_| t.kind == TokenKind::Text)?;
        let all = bytes.clone().filter(|i| solid(*i)).count();
        let inside = bytes.filter(|i| solid(*i) && deciders.iter().any(|d| d.contains(i))).count();
        Some(inside as f32 / all.max(1) as f32)
    };
    tokens.iter().map(share).collect()
}

/// The true tokens: those of which at least [`TRUE_SHARE`] is true, or where there is no such token, those with the
/// largest share. Empty where nothing is true.
pub fn true_tokens(shares: &[Option<f32>]) -> Vec<usize> {
    let most = shares.iter().flatten().copied().fold(0.0, f32::max);
    if most <= 0.0 {
        return Vec::new();
    }
    (0..shares.len()).filter(|&i| shares[i].is_some_and(|s| s >= TRUE_SHARE.min(most))).collect()
}

/// How well a score agrees with the truth of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// Whether the largest score is at a true token, 0 or 1; between them where several tokens share the largest.
    pub hit: f64,
    /// Share of true tokens among the [`Agreement::n_true`] largest scores.
    pub precision: f64,
    /// Spearman's rank correlation with the true shares; `None` where score or truth is the same everywhere.
    pub rank: Option<f64>,
    /// True tokens.
    pub n_true: usize,
    /// Tokens that compete.
    pub n: usize,
}

impl Agreement {
    /// Compares `values`, one per token, with the true `shares`. A score with a sign counts by its size. Tokens that
    /// the score says nothing about (`None` or not finite) rank below all others.
    ///
    /// `None` where nothing is true, or where the score says nothing about any token that competes.
    pub fn new(values: &[Option<f32>], signed: bool, shares: &[Option<f32>]) -> Option<Self> {
        let truth = true_tokens(shares);
        let competing: Vec<usize> = (0..shares.len()).filter(|&i| shares[i].is_some()).collect();
        let value = |i: usize| {
            let v = values.get(i).copied().flatten().filter(|v| v.is_finite())?;
            Some(f64::from(if signed { v.abs() } else { v }))
        };
        if truth.is_empty() || !competing.iter().any(|&i| value(i).is_some()) {
            return None;
        }
        let score: Vec<f64> = competing.iter().map(|&i| value(i).unwrap_or(f64::NEG_INFINITY)).collect();
        let is_true: Vec<bool> = competing.iter().map(|i| truth.binary_search(i).is_ok()).collect();
        let share: Vec<f64> = competing.iter().map(|&i| f64::from(shares[i].unwrap_or(0.0))).collect();
        let k = truth.len();
        Some(Self {
            hit: among_largest(&score, &is_true, 1),
            precision: among_largest(&score, &is_true, k) / k as f64,
            rank: spearman(&score, &share),
            n_true: k,
            n: competing.len(),
        })
    }
}

/// How many of the `k` largest scores are true; where equal scores stand on both sides of the cut, on average over
/// their orders.
fn among_largest(score: &[f64], is_true: &[bool], k: usize) -> f64 {
    let mut sorted = score.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let Some(&cut) = k.checked_sub(1).and_then(|i| sorted.get(i)) else { return 0.0 };
    let count = |test: &dyn Fn(usize) -> bool| (0..score.len()).filter(|&i| test(i)).count() as f64;
    let (above, tied) = (count(&|i| score[i] > cut), count(&|i| score[i] == cut));
    let true_above = count(&|i| score[i] > cut && is_true[i]);
    true_above + (k as f64 - above) / tied * count(&|i| score[i] == cut && is_true[i])
}

/// Spearman's rank correlation: Pearson's correlation of the ranks, equal values sharing their mean rank. `None`
/// where one side is the same everywhere or the lengths differ.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() != b.len() {
        return None;
    }
    let (a, b) = (mean_ranks(a), mean_ranks(b));
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let size = (dot(&a, &a) * dot(&b, &b)).sqrt();
    (size > 0.0).then(|| dot(&a, &b) / size)
}

/// Ranks from 1; equal values share the mean of theirs.
fn mean_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut out = vec![0.0; values.len()];
    for tied in order.chunk_by(|&i, &j| values[i] == values[j]) {
        // The chunk's ranks run from one past what stands before it.
        let before = order.partition_point(|&i| values[i].total_cmp(&values[tied[0]]).is_lt());
        let rank = before as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|&i| out[i] = rank);
    }
    out
}

/// Mean of the values and its standard error (of a sample: n − 1); the error is `None` below two values. `None` where
/// there are none.
pub fn mean_and_error(values: &[f64]) -> Option<(f64, Option<f64>)> {
    let n = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let error = || (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt();
    Some((mean, (values.len() > 1).then(error)))
}

/// How often something happens that did `hits` times of `n`, with a confidence of 95%: the interval of Wilson 1927,
/// "Probable Inference, the Law of Succession, and Statistical Inference". It lies within 0 and 1 and has a width even
/// where all or none hit. `None` for no tries.
pub fn wilson(hits: usize, n: usize) -> Option<[f64; 2]> {
    /// The normal distribution has 95% within so many standard deviations.
    const Z: f64 = 1.959_963_984_540_054;
    if n == 0 {
        return None;
    }
    let (p, n) = (hits as f64 / n as f64, n as f64);
    let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    Some([(middle - half).max(0.0), (middle + half).min(1.0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str, kind: TokenKind, source: Source) -> Token {
        Token { id: None, text: text.into(), kind, source }
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn pixels_come_to_the_tokens_by_the_share_that_is_covered() {
        // 4 x 2 pixels; the left column and the upper pixel beside it are inside.
        let mask = Mask { width: 4, inside: vec![true, true, false, false, true, false, false, false] };
        let rect = |x, y, w, h| token("", TokenKind::Image, Source::Rect { x, y, w, h });
        let tokens = [
            token("<s>", TokenKind::Special, Source::None),
            rect(0.0, 0.0, 2.0, 2.0),
            rect(2.0, 0.0, 2.0, 2.0),
            // Half of the first and half of the second pixel of the upper row.
            rect(0.5, 0.0, 1.0, 1.0),
            // Three quarters of the lower left pixel lie inside, the rest of the token beside it or below the picture.
            rect(0.25, 1.0, 1.0, 2.0),
            rect(1.0, 1.0, 0.0, 1.0),
        ];
        let shares = of_mask(&tokens, &mask);
        assert_eq!(shares, [None, Some(0.75), Some(0.0), Some(1.0), Some(0.375), Some(0.0)]);
        assert_eq!(true_tokens(&shares), [1, 3, 4]);
    }

    #[test]
    fn bytes_come_to_the_tokens_and_white_space_decides_nothing() {
        let text = "a cat + 7 é";
        let bytes = |start, end| token("", TokenKind::Text, Source::Bytes { start, end });
        let tokens = [
            token("<s>", TokenKind::Special, Source::None),
            bytes(0, 1),
            bytes(1, 5),
            bytes(5, 6),
            bytes(6, 7),
            bytes(7, 9),
            bytes(9, 12),
        ];
        // "cat" without its space, " + " with both, and one of the two bytes of é.
        let shares = of_bytes(&tokens, &[2..5, 5..8, 10..11], text);
        assert_eq!(shares, [None, Some(0.0), Some(1.0), Some(0.0), Some(1.0), Some(0.0), Some(0.5)]);
    }

    #[test]
    fn the_largest_share_is_true_where_none_is_large_and_nothing_where_all_are_zero() {
        assert_eq!(true_tokens(&[Some(0.02), None, Some(0.05), Some(0.05)]), [2, 3]);
        assert_eq!(true_tokens(&[Some(0.1), Some(0.0999)]), [0]);
        assert!(true_tokens(&[Some(0.0), None]).is_empty() && true_tokens(&[]).is_empty());
        assert_eq!(Agreement::new(&[Some(1.0)], false, &[Some(0.0)]), None);
    }

    #[test]
    fn a_score_against_a_truth_by_hand() {
        let shares = [None, Some(1.0), Some(0.0), Some(0.5), Some(0.0)];
        // The first token scores highest but does not compete; true are 1 and 3.
        let values = [Some(9.0), Some(4.0), Some(3.0), Some(1.0), Some(2.0)];
        let a = Agreement::new(&values, false, &shares).unwrap();
        assert_eq!((a.hit, a.precision, a.n_true, a.n), (1.0, 0.5, 2, 4));
        // Ranks of the score 4 3 1 2, of the truth 4 1.5 3 1.5: covariance 1.5, variances 5 and 4.5.
        close(a.rank.unwrap(), 1.5 / (5.0f64 * 4.5).sqrt());
    }

    #[test]
    fn equal_scores_count_by_the_mean_of_their_orders() {
        let shares = [Some(1.0), Some(1.0), Some(0.0), Some(0.0), Some(0.0)];
        let flat = Agreement::new(&[Some(2.0); 5], false, &shares).unwrap();
        close(flat.hit, 0.4);
        close(flat.precision, 0.4);
        assert_eq!(flat.rank, None);
        // One stands above; three share the next place, one of them true: 1 + 1/3 of the two largest.
        let values = [Some(3.0), Some(2.0), Some(2.0), Some(2.0), Some(0.0)];
        let a = Agreement::new(&values, false, &shares).unwrap();
        close(a.hit, 1.0);
        close(a.precision, (1.0 + 1.0 / 3.0) / 2.0);
    }

    #[test]
    fn missing_and_unusable_values_rank_last_and_a_sign_counts_by_size() {
        let shares = [Some(1.0), Some(0.0), Some(0.0)];
        let a = Agreement::new(&[Some(f32::NAN), Some(-1.0), None], false, &shares).unwrap();
        // The true token shares the last place with the missing one.
        assert_eq!((a.hit, a.precision), (0.0, 0.0));
        // Ranks 1.5 3 1.5 against 3 1.5 1.5.
        close(a.rank.unwrap(), -0.5);
        let signed = [Some(-5.0), Some(1.0), Some(2.0)];
        assert_eq!(Agreement::new(&signed, true, &shares).unwrap().hit, 1.0);
        assert_eq!(Agreement::new(&signed, false, &shares).unwrap().hit, 0.0);
        assert_eq!(Agreement::new(&[None, Some(f32::INFINITY), None], false, &shares), None);
        assert_eq!(Agreement::new(&[], false, &shares), None);
    }

    #[test]
    fn rank_correlation_mean_and_error_by_hand() {
        close(spearman(&[1.0, 5.0, 20.0], &[2.0, 3.0, 4.0]).unwrap(), 1.0);
        close(spearman(&[1.0, 5.0, 20.0], &[9.0, 3.0, -4.0]).unwrap(), -1.0);
        // Ranks 1.5 1.5 3 and 1 2 3.
        close(spearman(&[7.0, 7.0, 8.0], &[1.0, 2.0, 3.0]).unwrap(), 0.75f64.sqrt());
        assert_eq!(spearman(&[1.0, 2.0], &[1.0]), None);
        assert_eq!(spearman(&[], &[]), None);
        // Deviations -2 0 2: variance 4, over three values.
        let (mean, error) = mean_and_error(&[1.0, 3.0, 5.0]).unwrap();
        close(mean, 3.0);
        close(error.unwrap(), (4.0f64 / 3.0).sqrt());
        assert_eq!(mean_and_error(&[2.0]), Some((2.0, None)));
        assert_eq!(mean_and_error(&[]), None);
    }

    #[test]
    fn the_interval_of_wilson_by_hand() {
        // z² = 3.841459; 8 of 10: middle (0.8 + 0.1920729) / 1.3841459, half 1.959964 / 1.3841459 · √(0.016 + 0.00960365).
        let [low, high] = wilson(8, 10).unwrap();
        assert!((low - 0.490_162).abs() < 1e-5 && (high - 0.943_318).abs() < 1e-5, "{low} {high}");
        // Of four, none: 0 to z² / (n + z²).
        let [low, high] = wilson(0, 4).unwrap();
        assert!(low.abs() < 1e-12 && (high - 3.841_459 / 7.841_459).abs() < 1e-6, "{low} {high}");
        let all = wilson(4, 4).unwrap();
        assert!((all[0] - 4.0 / 7.841_459).abs() < 1e-6 && (all[1] - 1.0).abs() < 1e-12);
        assert_eq!(wilson(0, 0), None);
    }
}
