//! What a run would cost, said before it starts, and what would make it fit.

use crate::model::blocks::{mlp_rows, scratch_bytes};
use crate::model::{LogitRows, Model, Patches, TowerInfo};
use crate::trace::{CaptureSpec, Per, Site, Tower};
use std::ops::Range;

/// What a run would cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Bytes that the captured arrays will hold.
    pub capture_bytes: u64,
    /// Bytes that the pass needs on top, at its worst.
    pub peak_bytes: u64,
    /// Floating-point operations of the pass.
    pub flops: u64,
}

impl Estimate {
    /// All bytes at its worst.
    pub fn bytes(&self) -> u64 {
        self.capture_bytes + self.peak_bytes
    }
}

/// Estimates a run before anything is allocated: of `n` tokens, of which `logits` are computed, and of a picture whose
/// tiles have these patches ([`TowerInfo::tiles`]); without a picture there are none.
pub fn estimate(model: &dyn Model, n: usize, tiles: &[Patches], logits: &LogitRows, spec: &CaptureSpec) -> Estimate {
    let mut out = Estimate { capture_bytes: 0, peak_bytes: 0, flops: 0 };
    let info = model.info();
    let texts = info.towers.contains_key(&Tower::Text);
    // The rows that what is met once is about: tokens, or those of a picture that is all there is.
    let rows = match info.towers.get(&Tower::Vision) {
        Some(t) if !texts => tiles.iter().flat_map(|n| t.by_stage(*n)).map(|s| s.2).next_back().unwrap_or(0),
        _ => n,
    };
    let of_logits = match logits {
        LogitRows::All => rows,
        LogitRows::Last => rows.min(1),
        LogitRows::These(rows) => rows.len(),
        LogitRows::None => 0,
    };
    // Pictures come before texts, tile by tile; what is kept of them stays.
    let mut whole = 0;
    for (tower, parts) in [(Tower::Vision, tiles), (Tower::Text, &[Patches::of_text(n)][..])] {
        let Some(t) = info.towers.get(&tower) else { continue };
        for &n in parts {
            let stages = t.by_stage(n);
            out.capture_bytes += captured(t, &stages, info.vocab, spec);
            let file = stays_in_file(model, tower);
            for (s, layers, n) in &stages {
                let scratch = if file { scratch_bytes(*n, s.width, s.mlp_width) } else { 0 };
                whole = whole.max(out.capture_bytes + working(s, *n, layers.end, spec) + scratch);
                out.flops += layers.len() as u64 * flops(s, *n as u64);
            }
        }
    }
    // What is met once has the width of the tower that views show first; only pictures in a text have features.
    if let Some(t) = info.towers.get(&Tower::Text).or(info.towers.values().next()) {
        let once = |s: &Site| {
            let there = *s != Site::Features || texts && !tiles.is_empty();
            s.per() == Per::Run && there && spec.keeps(*s, t.n_layers)
        };
        let kept = |s: Site| bytes(s, t, if s == Site::Logits { of_logits } else { rows }, info.vocab);
        let once_bytes = Site::ALL.into_iter().filter(once).map(kept).sum::<u64>();
        out.capture_bytes += once_bytes;
        // At the worst of the last layer its end is not kept yet; then come the stream, its norm and the logits.
        let end = Some(Site::Logits).filter(once).map_or(0, kept) + later(t, rows, t.n_layers, spec, &[Site::Final]);
        let last = 4 * (2 * rows * t.width + of_logits * info.vocab) as u64;
        whole = (whole + once_bytes).saturating_sub(end).max(out.capture_bytes + last);
    }
    // What threads turn weights into to multiply fast.
    out.peak_bytes = whole.saturating_sub(out.capture_bytes) + ((rayon::current_num_threads() as u64) << 20);
    out
}

/// Operations of a layer of `n` rows.
fn flops(t: &TowerInfo, n: u64) -> u64 {
    let d = t.width as u64;
    let (h, g, e, w) = (t.n_heads as u64, t.n_kv_heads as u64, t.head_width as u64, t.value_width as u64);
    let mlps = t.experts.1.max(1) as u64;
    n * 2 * (d * (h * e + g * (e + w)) + h * w * d + 3 * mlps * d * t.mlp_width as u64) + 2 * n * n * h * (e + w)
}

fn bytes(site: Site, t: &TowerInfo, n: usize, vocab: usize) -> u64 {
    4 * site.shape(&t.sizes(n, vocab)).iter().map(|&s| s as u64).product::<u64>()
}

/// Whether what is read where norms come after is the stream that is kept anyway.
fn is_stream(site: Site, spec: &CaptureSpec) -> bool {
    let of = match site {
        Site::AttnIn => Site::ResidPre,
        Site::MlpIn => Site::ResidMid,
        _ => return false,
    };
    spec.sites.contains(&of)
}

/// A stage, its layers and its rows.
type Stage = (TowerInfo, Range<usize>, usize);

/// What a capture keeps of a tile or a text.
fn captured(t: &TowerInfo, stages: &[Stage], vocab: usize, spec: &CaptureSpec) -> u64 {
    let mut out = 0;
    for (s, layers, n) in stages {
        for site in Site::ALL {
            let times = match site.per() {
                // A recurrence is the whole layer.
                Per::Layer if t.mixers > 0 && matches!(site, Site::ResidMid | Site::MlpIn | Site::MlpOut) => 0,
                Per::Layer if s.reads_stream && is_stream(site, spec) => 0,
                Per::Layer => layers.clone().filter(|&layer| spec.keeps(site, layer)).count(),
                Per::Tower => usize::from(layers.end == t.n_layers && spec.keeps(site, t.n_layers)),
                Per::Run => 0,
            };
            out += times as u64 * bytes(site, s, *n, vocab);
        }
        // What leaves a layer enters the next of its stage, and is kept once.
        let twice = |l: &usize| spec.keeps(Site::ResidPost, l - 1) && spec.keeps(Site::ResidPre, *l);
        out -= layers.clone().skip(1).filter(twice).count() as u64 * bytes(Site::ResidPre, s, *n, vocab);
    }
    out
}

/// What is kept of these sites of the last of `layers` layers.
fn later(t: &TowerInfo, n: usize, layers: usize, spec: &CaptureSpec, sites: &[Site]) -> u64 {
    sites.iter().filter(|s| spec.keeps(**s, layers.saturating_sub(1))).map(|s| bytes(*s, t, n, 0)).sum()
}

/// What the last of `layers` layers needs at its worst, less what is kept of it only after that.
fn working(t: &TowerInfo, n: usize, layers: usize, spec: &CaptureSpec) -> u64 {
    let (d, wide) = (t.width, t.mlp_width);
    let (q, kv) = (t.n_heads * t.head_width, t.n_kv_heads * t.head_width);
    let behind_mlp = [Site::MlpHidden, Site::MlpOut, Site::ResidPost];
    let behind_attention = [Site::Pattern, Site::Z, Site::AttnOut, Site::ResidMid];
    let after_mlp = later(t, n, layers, spec, &behind_mlp);
    let after = after_mlp + later(t, n, layers, spec, &behind_attention);
    // The stream, what the norm made of it, queries, keys and values with what was before they were turned, keys by
    // component, and what attention gives, in two orders; and scores of each thread.
    let scores = rayon::current_num_threads() * (128 * n).min(1 << 21);
    let attention = n * (2 * d + 3 * q + 3 * kv) + scores;
    // Scores and the shares that they become, where somebody looks at them.
    let looked_at = spec.keeps(Site::Pattern, layers.saturating_sub(1));
    let map = if looked_at { n * (2 * d + q + 2 * kv) + 2 * t.n_heads * n * n } else { 0 };
    // The stream, what the norm made of it, and the middle twice, or once with what leaves it.
    let rows = if spec.sites.contains(&Site::MlpHidden) { n } else { mlp_rows(n, wide) };
    let mlp = (n * 2 * d + 2 * rows * wide).max(n * 4 * d + rows * wide);
    let bytes = |values: usize| 4 * values as u64;
    bytes(attention.max(map)).saturating_sub(after).max(bytes(mlp).saturating_sub(after_mlp))
}

/// Whether a tower's matrices stay in their file.
fn stays_in_file(model: &dyn Model, tower: Tower) -> bool {
    model.stack(tower).is_ok_and(|s| s.blocks.first().is_some_and(|b| b.attention.q.stays_in_file()))
}

/// What would make a run fit that needs more than `room` bytes: fewer tokens, or fewer layers that are kept.
pub fn advice(
    model: &dyn Model,
    n: usize,
    tiles: &[Patches],
    logits: &LogitRows,
    spec: &CaptureSpec,
    room: u64,
) -> String {
    let layers = model.info().towers.values().map(|t| t.n_layers).max().unwrap_or(0);
    let kept = spec.layers.as_ref().map_or(layers, |l| l.len());
    let of_layers = |k: usize| CaptureSpec { layers: Some((0..k).collect()), ..spec.clone() };
    let tokens = most(n, |n| estimate(model, n, tiles, logits, spec).bytes() <= room);
    let layers = most(kept, |k| estimate(model, n, tiles, logits, &of_layers(k)).bytes() <= room);
    let mut ways = Vec::new();
    if tokens > 0 && model.info().towers.contains_key(&Tower::Text) {
        ways.push(format!("shorten the input to {tokens} tokens"));
    }
    match layers {
        0 => {}
        1 => ways.push("record one layer only (--layers 0)".to_string()),
        k => ways.push(format!("record {k} layers only (--layers 0-{})", k - 1)),
    }
    if ways.is_empty() {
        ways.push("close other programs, or choose a smaller model".into());
    }
    ways.join(", or ")
}

/// The largest number below `all` that fits; 0 if none does.
fn most(all: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, all);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::tiny;

    #[test]
    fn advice_names_the_most_that_fits() {
        let (model, spec, logits) = (tiny(), CaptureSpec::views(), LogitRows::Last);
        let need = |n: usize, spec: &CaptureSpec| estimate(model.as_ref(), n, &[], &logits, spec).bytes();
        let said = advice(model.as_ref(), 100, &[], &logits, &spec, need(60, &spec));
        assert!(said.contains("shorten the input to 60 tokens"), "{said}");
        let two = CaptureSpec { layers: Some([0, 1].into()), ..spec.clone() };
        let said = advice(model.as_ref(), 100, &[], &logits, &spec, need(100, &two));
        assert!(said.contains("record 2 layers only (--layers 0-1)"), "{said}");
        let said = advice(model.as_ref(), 100, &[], &logits, &spec, 10);
        assert_eq!(said, "close other programs, or choose a smaller model");
    }
}
