//! What a run would cost, said before it starts, and what would make it fit.

use crate::model::blocks::{mlp_rows, scratch_bytes};
use crate::model::{LogitRows, Model, TowerInfo};
use crate::trace::{CaptureSpec, Per, Site, Tower};

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

/// Estimates a run of `n` tokens, of which `logits` are computed, before anything is allocated.
pub fn estimate(model: &dyn Model, n: usize, logits: &LogitRows, spec: &CaptureSpec) -> Estimate {
    let mut out = Estimate { capture_bytes: 0, peak_bytes: 0, flops: 0 };
    let info = model.info();
    let rows = match logits {
        LogitRows::All => n,
        LogitRows::Last => n.min(1),
        LogitRows::These(rows) => rows.len(),
        LogitRows::None => 0,
    };
    for (&tower, t) in &info.towers {
        out.capture_bytes += captured(t, n, info.vocab, spec);
        let scratch = if stays_in_file(model, tower) { scratch_bytes(n, t.width, t.mlp_width) } else { 0 };
        out.peak_bytes = out.peak_bytes.max(working(t, n, spec) + scratch);
        let (n, d) = (n as u64, t.width as u64);
        let (h, g, e, w) = (t.n_heads as u64, t.n_kv_heads as u64, t.head_width as u64, t.value_width as u64);
        let mlps = t.experts.1.max(1) as u64;
        let per_token = 2 * (d * (h * e + g * (e + w)) + h * w * d + 3 * mlps * d * t.mlp_width as u64);
        out.flops += t.n_layers as u64 * (n * per_token + 2 * n * n * h * (e + w));
    }
    // What is met once has the width of the tower that views show first; only pictures in a text have features.
    if let Some(t) = info.towers.get(&Tower::Text).or(info.towers.values().next()) {
        let once = |s: &Site| {
            let there = *s != Site::Features || info.towers.len() > 1;
            s.per() == Per::Run && there && spec.keeps(*s, t.n_layers)
        };
        let kept = |s: Site| bytes(s, t, if s == Site::Logits { rows } else { n }, info.vocab);
        out.capture_bytes += Site::ALL.into_iter().filter(once).map(kept).sum::<u64>();
        // At the worst of the last layer its end is not kept yet; then come the stream, its norm and the logits.
        let end = Some(Site::Logits).filter(once).map_or(0, kept) + later(t, n, spec, &[Site::Final]);
        let last = 4 * (2 * n * t.width + rows * info.vocab) as u64;
        out.peak_bytes = out.peak_bytes.saturating_sub(end).max(last);
    }
    // What threads turn weights into to multiply fast.
    out.peak_bytes += (rayon::current_num_threads() as u64) << 20;
    out
}

fn bytes(site: Site, t: &TowerInfo, n: usize, vocab: usize) -> u64 {
    4 * site.shape(&t.sizes(n, vocab)).iter().map(|&s| s as u64).product::<u64>()
}

/// What a capture keeps of a tower.
fn captured(t: &TowerInfo, n: usize, vocab: usize, spec: &CaptureSpec) -> u64 {
    let mut out = 0;
    for site in Site::ALL {
        let times = match site.per() {
            Per::Layer => (0..t.n_layers).filter(|&layer| spec.keeps(site, layer)).count(),
            Per::Tower => usize::from(spec.keeps(site, t.n_layers)),
            Per::Run => 0,
        };
        out += times as u64 * bytes(site, t, n, vocab);
    }
    // What leaves a layer enters the next, and is kept once.
    let twice = |l: &usize| spec.keeps(Site::ResidPost, l - 1) && spec.keeps(Site::ResidPre, *l);
    out - (1..t.n_layers).filter(twice).count() as u64 * bytes(Site::ResidPre, t, n, vocab)
}

/// What is kept of these sites of one layer.
fn later(t: &TowerInfo, n: usize, spec: &CaptureSpec, sites: &[Site]) -> u64 {
    sites.iter().filter(|s| spec.keeps(**s, t.n_layers.saturating_sub(1))).map(|s| bytes(*s, t, n, 0)).sum()
}

/// What the last layer needs at its worst, less what is kept of it only after that.
fn working(t: &TowerInfo, n: usize, spec: &CaptureSpec) -> u64 {
    let (d, wide) = (t.width, t.mlp_width);
    let (q, kv) = (t.n_heads * t.head_width, t.n_kv_heads * t.head_width);
    let behind_mlp = [Site::MlpHidden, Site::MlpOut, Site::ResidPost];
    let behind_attention = [Site::Pattern, Site::Z, Site::AttnOut, Site::ResidMid];
    let after_mlp = later(t, n, spec, &behind_mlp);
    let after = after_mlp + later(t, n, spec, &behind_attention);
    // The stream, what the norm made of it, queries, keys and values with what was before they were turned, and what
    // attention gives, in two orders; and scores of each thread.
    let scores = rayon::current_num_threads() * (128 * n).min(1 << 21);
    let attention = n * (2 * d + 3 * q + 2 * kv) + scores;
    // Scores and the shares that they become, where somebody looks at them.
    let looked_at = spec.keeps(Site::Pattern, t.n_layers.saturating_sub(1));
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
pub fn advice(model: &dyn Model, n: usize, logits: &LogitRows, spec: &CaptureSpec, room: u64) -> String {
    let layers = model.info().towers.values().map(|t| t.n_layers).max().unwrap_or(0);
    let kept = spec.layers.as_ref().map_or(layers, |l| l.len());
    let of_layers = |k: usize| CaptureSpec { layers: Some((0..k).collect()), ..spec.clone() };
    let tokens = most(n, |n| estimate(model, n, logits, spec).bytes() <= room);
    let layers = most(kept, |k| estimate(model, n, logits, &of_layers(k)).bytes() <= room);
    let mut ways = Vec::new();
    if tokens > 0 {
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
        let need = |n: usize, spec: &CaptureSpec| estimate(model.as_ref(), n, &logits, spec).bytes();
        let said = advice(model.as_ref(), 100, &logits, &spec, need(60, &spec));
        assert!(said.contains("shorten the input to 60 tokens"), "{said}");
        let two = CaptureSpec { layers: Some([0, 1].into()), ..spec.clone() };
        let said = advice(model.as_ref(), 100, &logits, &spec, need(100, &two));
        assert!(said.contains("record 2 layers only (--layers 0-1)"), "{said}");
        let said = advice(model.as_ref(), 100, &logits, &spec, 10);
        assert_eq!(said, "close other programs, or choose a smaller model");
    }
}
