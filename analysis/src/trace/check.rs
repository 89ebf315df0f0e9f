//! What must hold in a trace that was read, so that views may rely on it, whoever wrote the file.

use super::{Per, Site, Tower, TowerTrace, Trace};
use crate::token::Source;
use std::collections::BTreeMap;

/// Layers and tiles beyond this are taken for damage: whoever draws them makes lists as long.
const MOST: usize = 1 << 16;

/// Errors with what contradicts itself.
pub(super) fn check(trace: &Trace) -> Result<(), String> {
    for (tower, t) in &trace.towers {
        of_tower(t, &trace.text).map_err(|what| format!("{what} (of the {tower:?} tower)").to_lowercase())?;
    }
    let mut widths = BTreeMap::new();
    let every = trace.arrays.iter().map(|a| (true, a));
    for (prompt, (key, entry)) in every.chain(trace.steps.iter().flatten().map(|a| (false, a))) {
        let t = trace
            .towers
            .get(&key.tower)
            .ok_or_else(|| format!("arrays of a {:?} tower that is not there", key.tower))?;
        let name = key.site.name();
        let layers = t.n_layers + usize::from(key.site.per() != Per::Layer);
        if key.layer >= layers || key.tile >= t.n_tiles.max(1) {
            return Err(format!("{name} of layer {}, tile {}, which are not there", key.layer, key.tile));
        }
        let n = t.tokens.len();
        // What a step reads is written on behind the tokens of the prompt.
        let n = if prompt { n } else { n.saturating_add(trace.continuation.len()) };
        if n > 0 && entry.rows.tokens.iter().flatten().any(|&token| token >= n) {
            return Err(format!("{name} of layer {} has rows of tokens that are not there", key.layer));
        }
        let wide = matches!(key.site, Site::ResidPre | Site::AttnOut | Site::ResidMid | Site::MlpOut | Site::ResidPost);
        // The stages of an image encoder may be of several widths; the arrays of a layer are of one.
        let own = entry.array.shape().last().copied().unwrap_or(0);
        let stages = key.tower == Tower::Vision && wide;
        let width = if stages { *widths.entry((key.tile, key.layer)).or_insert(own) } else { t.width };
        if wide && (own != width || own == 0) {
            return Err(format!("{name} of layer {} is not {width} wide", key.layer));
        }
        if prompt && key.site == Site::Logits && !trace.logit_rows.is_empty() {
            let rows = entry.array.shape().first().copied().unwrap_or(0);
            if rows != trace.logit_rows.len() || trace.logit_rows.iter().any(|&r| r >= n.max(1)) {
                return Err(format!("{rows} rows of logits for {} tokens", trace.logit_rows.len()));
            }
        }
    }
    Ok(())
}

fn of_tower(t: &TowerTrace, text: &str) -> Result<(), String> {
    let n = t.tokens.len();
    if t.n_layers > MOST || t.n_tiles > MOST {
        return Err(format!("{} layers and {} tiles", t.n_layers, t.n_tiles));
    }
    if t.attention.len() > t.n_layers {
        return Err(format!("{} rules of attention for {} layers", t.attention.len(), t.n_layers));
    }
    for rule in &t.attention {
        let groups = rule.n_heads == 0 || (rule.n_kv_heads > 0 && rule.n_heads.is_multiple_of(rule.n_kv_heads));
        if !groups || rule.n_heads > MOST {
            return Err(format!("{} heads over {} key-value heads", rule.n_heads, rule.n_kv_heads));
        }
        if !rule.scale.is_finite() || rule.soft_cap.is_some_and(|c| !c.is_finite() || c <= 0.0) {
            return Err("a scale or cap of scores that is no number".into());
        }
        if rule.sinks.as_ref().is_some_and(|s| s.len() != rule.n_heads || s.iter().any(|x| !x.is_finite())) {
            return Err(format!("sinks that are not a number for each of {} heads", rule.n_heads));
        }
    }
    for g in &t.grids {
        let step = g.cols.checked_add(g.gap);
        let end = step.and_then(|s| s.checked_mul(g.rows.saturating_sub(1))?.checked_add(g.cols)?.checked_add(g.first));
        if g.rows > 0 && g.cols > 0 && end.is_none_or(|end| end > n) {
            return Err(format!("a grid of {} × {} tokens from token {} on, of {n}", g.rows, g.cols, g.first));
        }
    }
    if t.class_token.is_some_and(|c| c >= n) {
        return Err(format!("a class token {:?} of {n}", t.class_token));
    }
    for token in &t.tokens {
        match token.source {
            Source::Bytes { start, end } if start > end || end > text.len() => {
                return Err(format!("bytes {start}..{end} of a text of {}", text.len()));
            }
            Source::Rect { x, y, w, h } if [x, y, w, h].iter().any(|v| !v.is_finite()) => {
                return Err("a rectangle that is no number".into());
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::token::{Grid, Token, TokenKind};
    use crate::trace::{AttentionRule, Entry, Key, MaskRule, Rows};
    use std::sync::Arc;

    /// Two tokens, one layer, width 2.
    fn small() -> Trace {
        let rule = AttentionRule {
            n_heads: 2,
            n_kv_heads: 1,
            scale: 1.0,
            mask: MaskRule::Causal,
            soft_cap: None,
            sinks: None,
        };
        let token = |start, end| Token {
            id: Some(1),
            text: "a".into(),
            kind: TokenKind::Text,
            source: Source::Bytes { start, end },
        };
        let tower = TowerTrace {
            tokens: vec![token(0, 1), token(1, 2)],
            n_layers: 1,
            width: 2,
            attention: vec![rule],
            grids: vec![Grid { rows: 1, cols: 2, first: 0, tile: 0, gap: 0 }],
            n_tiles: 1,
            class_token: Some(1),
        };
        let mut out = Trace { text: "ab".into(), logit_rows: vec![1], ..Trace::default() };
        out.towers.insert(Tower::Text, tower);
        for (site, layer, shape) in [(Site::ResidPre, 0, [2, 2]), (Site::Final, 1, [2, 2]), (Site::Logits, 1, [1, 3])] {
            let key = Key { tower: Tower::Text, tile: 0, layer, site };
            let entry = Entry { array: Arc::new(Array::zeros(shape)), rows: Arc::new(Rows::identity(2)) };
            out.arrays.insert(key, entry);
        }
        out
    }

    /// What one decode step left at a layer, so wide.
    fn step(layer: usize, width: usize) -> BTreeMap<Key, Entry> {
        let key = Key { tower: Tower::Text, tile: 0, layer, site: Site::ResidPre };
        let array = Arc::new(Array::zeros([1, width]));
        [(key, Entry { array, rows: Arc::new(Rows::span(2, 1)) })].into()
    }

    #[test]
    fn what_contradicts_itself_is_named() {
        assert_eq!(check(&small()), Ok(()));
        assert_eq!(check(&Trace { steps: vec![step(0, 2)], continuation: vec![5], ..small() }), Ok(()));
        type Change = fn(&mut Trace, &mut TowerTrace);
        let changes: &[(&str, Change)] = &[
            ("heads", |_, t| t.attention[0].n_kv_heads = 0),
            ("scale", |_, t| t.attention[0].scale = f32::NAN),
            ("sinks", |_, t| t.attention[0].sinks = Some(vec![0.5])),
            ("rules", |_, t| t.attention.push(t.attention[0].clone())),
            ("layers", |_, t| t.n_layers = usize::MAX),
            ("grid", |_, t| t.grids[0].first = 1),
            ("grid", |_, t| t.grids[0].gap = usize::MAX),
            ("class token", |_, t| t.class_token = Some(2)),
            ("bytes 1..2", |trace, _| trace.text = "a".into()),
            ("rectangle", |_, t| t.tokens[0].source = Source::Rect { x: 0.0, y: 0.0, w: f32::INFINITY, h: 1.0 }),
            ("wide", |_, t| t.width = 3),
            ("not there", |_, t| (t.n_layers, t.attention) = (0, Vec::new())),
            ("tokens that are not there", |_, t| {
                t.tokens.pop();
                (t.grids, t.class_token) = (Vec::new(), None);
            }),
            ("rows of logits", |trace, _| trace.logit_rows = vec![0, 1]),
            ("layer 7", |trace, _| trace.steps = vec![step(7, 2)]),
            ("tokens that are not there", |trace, _| trace.steps = vec![step(0, 2)]),
            ("not 2 wide", |trace, _| (trace.steps, trace.continuation) = (vec![step(0, 3)], vec![5])),
        ];
        for (want, change) in changes {
            let mut trace = small();
            let mut tower = trace.towers[&Tower::Text].clone();
            change(&mut trace, &mut tower);
            trace.towers.insert(Tower::Text, tower);
            let what = check(&trace).expect_err(want);
            assert!(what.contains(want), "{want}: {what}");
        }
    }
}
