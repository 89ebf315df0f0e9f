//! Small seeded inputs that the passes are tried on: ragged, tiny and odd on purpose.

use super::attention::Head;
use crate::Result;
use crate::array::Array;
use crate::trace::{AttentionRule, MaskRule};
use rand::{Rng, SeedableRng};

/// Random numbers between −1 and 1, the same for the same seed.
pub fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Queries, keys and rule of a layer, and which head is meant.
#[derive(Debug, Clone)]
pub struct OwnedHead {
    /// Queries `[h, n, e]`.
    pub q: Array,
    /// Keys `[g, m, e]`.
    pub k: Array,
    /// Heads, scale, mask.
    pub rule: AttentionRule,
    /// Position ids of queries.
    pub q_positions: Vec<usize>,
    /// Position ids of keys.
    pub k_positions: Vec<usize>,
    /// The head.
    pub head: usize,
}

impl OwnedHead {
    /// Heads, key heads, width and number of rows; causal, head 0, values such that scores reach a few units.
    pub fn new(h: usize, g: usize, width: usize, n: usize, seed: u64) -> Self {
        let array = |heads: usize, seed| {
            let v = values(heads * n * width, seed).into_iter().map(|x| 2.0 * x).collect();
            Array::new([heads, n, width], v).expect("the values fill the shape")
        };
        let scale = 1.0 / (width.max(1) as f32).sqrt();
        Self {
            q: array(h, 2 * seed),
            k: array(g, 2 * seed + 1),
            rule: AttentionRule {
                n_heads: h,
                n_kv_heads: g,
                scale,
                mask: MaskRule::Causal,
                soft_cap: None,
                sinks: None,
            },
            q_positions: (0..n).collect(),
            k_positions: (0..n).collect(),
            head: 0,
        }
    }

    /// As the passes take it.
    pub fn head(&self) -> Result<Head<'_>> {
        Head::new(&self.q, &self.k, &self.rule, &self.q_positions, &self.k_positions, self.head)
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Matrices without rows, of one row, one column, and of sizes around the workgroup's, with values between
/// −1 and 1.
pub fn matrices() -> Vec<(String, Array)> {
    let sizes = [(0, 5), (1, 1), (1, 70), (2, 3), (5, 64), (31, 16), (33, 17), (64, 1), (65, 33), (130, 80)];
    let matrix = |(n, m): (usize, usize)| {
        let values = values(n * m, (n * 1000 + m) as u64);
        (format!("{n} × {m}"), Array::new([n, m], values).expect("as many values as cells"))
    };
    sizes.into_iter().map(matrix).collect()
}

/// Cosines of tokens with each other, of none, one, two, and numbers around the workgroup's and beyond it.
pub fn cosines() -> Vec<(String, Array)> {
    let of = |n: usize| {
        let x = Array::new([n, 24], values(n * 24, n as u64 + 11)).expect("as many values as cells");
        (format!("{n} tokens"), super::cosine_matrix::cpu(&x, &x).expect("rows of one width"))
    };
    [0, 1, 2, 31, 64, 65, 130, 300].map(of).into()
}

/// Heads of every mask rule, with grouped keys, gaps in the positions, rows that see nothing, soft caps, no rows, one
/// row, and sizes around the workgroup's.
pub fn heads() -> Vec<(String, OwnedHead)> {
    let causal = |n, width| OwnedHead::new(1, 1, width, n, (n + width) as u64);
    let masked = |n, mask: MaskRule| causal(n, 16).with(|h| h.rule.mask = mask);
    let gaps = |h: &mut OwnedHead| {
        h.q_positions = (0..h.q_positions.len()).map(|i| i * 3 / 2).collect();
        h.k_positions.clone_from(&h.q_positions);
    };
    let table: Vec<Vec<usize>> = (0..40)
        .map(|q: usize| if q % 7 == 3 { vec![] } else { (0..40).filter(|k| (k * 5 + q).is_multiple_of(3)).collect() })
        .collect();
    let prefix: Vec<Vec<usize>> = (0..35).map(|q: usize| (0..(q + 1).max(10)).collect()).collect();
    vec![
        ("no rows".into(), causal(0, 4)),
        ("one row".into(), causal(1, 4)),
        ("two rows of one component".into(), causal(2, 1)),
        ("one less than a block".into(), causal(31, 8)),
        ("one more than a block".into(), causal(33, 7)),
        ("more than a block of the fast path".into(), causal(65, 33)),
        ("both ways".into(), masked(45, MaskRule::Bidirectional)),
        ("sliding window".into(), masked(70, MaskRule::SlidingWindow(5))),
        ("window of nothing".into(), masked(5, MaskRule::SlidingWindow(0))),
        ("prefix".into(), masked(35, MaskRule::Table(prefix.into()))),
        ("table with rows that see nothing".into(), masked(40, MaskRule::Table(table.into()))),
        ("grouped keys".into(), OwnedHead::new(6, 2, 12, 50, 3).with(|h| h.head = 4)),
        ("gaps in the positions".into(), masked(50, MaskRule::SlidingWindow(9)).with(gaps)),
        (
            "positions out of order".into(),
            causal(37, 5).with(|h| {
                h.q_positions = (0..37).map(|i| i * 11 % 37).collect();
                h.k_positions.clone_from(&h.q_positions);
            }),
        ),
        (
            "more keys than queries".into(),
            causal(60, 6).with(|h| {
                h.q = Array::new([1, 7, 6], values(42, 9)).expect("7 · 6 values");
                h.q_positions = (53..60).collect();
            }),
        ),
        (
            "soft cap".into(),
            causal(40, 16).with(|h| {
                h.rule.scale = 3.0;
                h.rule.soft_cap = Some(5.0);
            }),
        ),
        (
            "sink".into(),
            OwnedHead::new(4, 2, 12, 50, 5).with(|h| {
                h.head = 3;
                h.rule.sinks = Some(vec![0.0, -9.0, 40.0, 1.5]);
            }),
        ),
        (
            "large sink and rows that see nothing".into(),
            masked(12, MaskRule::SlidingWindow(0)).with(|h| h.rule.sinks = Some(vec![3.0])),
        ),
        ("one key takes all".into(), causal(40, 16).with(|h| h.rule.scale = 12.0)),
        ("more than a small binding".into(), causal(300, 80)),
    ]
}
