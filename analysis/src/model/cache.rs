//! Keys and values of earlier tokens. Layers, and the heads of a layer, may hold different rows: reductions leave layers
//! with fewer, cache policies leave every head with its own.

use super::Model;
use crate::trace::{Held, PerHead, Tower};
use crate::{Error, Result};
use candle_core::Tensor;

/// What one layer holds.
#[derive(Debug, Clone, Default)]
pub struct LayerCache {
    /// One entry where all key-value heads hold the same rows, else one for each. Empty before the first token.
    pub held: Vec<Held>,
}

impl LayerCache {
    /// Position ids of the rows that a key-value head holds.
    pub fn positions(&self, head: usize, n_kv_heads: usize) -> &[usize] {
        let i = head * self.held.len() / n_kv_heads.max(1);
        self.held.get(i).map_or(&[], |h| &h.positions)
    }

    /// Rows of the head that holds most.
    pub fn len(&self) -> usize {
        self.held.iter().map(|h| h.positions.len()).max().unwrap_or(0)
    }

    /// True before the first token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of keys and values.
    pub fn size_bytes(&self) -> u64 {
        let of = |t: &Tensor| (t.elem_count() * t.dtype().size_in_bytes()) as u64;
        self.held.iter().map(|h| of(&h.k) + of(&h.v)).sum()
    }
}

/// Keys and values of earlier tokens.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    /// Per layer.
    pub layers: Vec<LayerCache>,
    /// Position id of the next token.
    pub next_position: usize,
    /// By how much what a new token is turned by is ahead of its position: a picture in the text takes as many
    /// positions as it has tokens, and turns by its rows and columns only. `None` where both are the same.
    pub turn_ahead: Option<isize>,
}

/// Rows of `held`, copied, so that what is left out is freed.
fn pick(held: &Held, rows: &[usize]) -> Result<Held> {
    if let Some(&r) = rows.iter().find(|&&r| r >= held.positions.len()) {
        return Err(Error::invalid(format!("row {r} is not in the cache")));
    }
    let index: Vec<u32> = rows.iter().map(|&r| r as u32).collect();
    let index = Tensor::new(index, held.k.device())?;
    Ok(Held {
        k: held.k.index_select(&index, 1)?,
        v: held.v.index_select(&index, 1)?,
        positions: rows.iter().map(|&r| held.positions[r]).collect(),
    })
}

impl KvCache {
    /// Number of rows cached in the first layer.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, LayerCache::len)
    }

    /// True before the first token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of keys and values.
    pub fn size_bytes(&self) -> u64 {
        self.layers.iter().map(LayerCache::size_bytes).sum()
    }

    /// Adds new rows `[g, n, e]` to a layer and gives all that it holds then.
    pub(super) fn extend(&mut self, layer: usize, k: &Tensor, v: &Tensor, positions: &[usize]) -> Result<Vec<Held>> {
        if self.layers.len() <= layer {
            self.layers.resize_with(layer + 1, Default::default);
        }
        // Counted in every layer: one may number its rows anew, and the next token must stand behind all of them.
        let next = positions.iter().max().map_or(0, |p| p + 1);
        self.next_position = self.next_position.max(next);
        let slot = &mut self.layers[layer].held;
        // Rows of the cache are picked and joined later, which needs them in order.
        let (k, v) = (k.contiguous()?, v.contiguous()?);
        if slot.is_empty() {
            slot.push(Held { k, v, positions: positions.to_vec() });
            return Ok(slot.clone());
        }
        let (g, n) = (k.dim(0)?, slot.len());
        for (i, held) in slot.iter_mut().enumerate() {
            let part = |t: &Tensor| if n == 1 { Ok(t.clone()) } else { t.narrow(0, i * g / n, g / n) };
            held.k = Tensor::cat(&[&held.k, &part(&k)?], 1)?;
            held.v = Tensor::cat(&[&held.v, &part(&v)?], 1)?;
            held.positions.extend_from_slice(positions);
        }
        Ok(slot.clone())
    }

    /// Keeps exactly these rows of every layer, in this order, e.g. the accepted path of a draft tree.
    ///
    /// Errors: a row that is not there, heads that hold different rows.
    pub fn select(&mut self, rows: &[usize]) -> Result<()> {
        for l in &mut self.layers {
            if l.held.len() > 1 {
                return Err(Error::invalid(
                    "heads hold different rows; drafts need a cache that nothing was dropped from",
                ));
            }
            for held in &mut l.held {
                *held = pick(held, rows)?;
            }
        }
        let first = self.layers.first().and_then(|l| l.held.first());
        self.next_position = first.and_then(|h| h.positions.iter().max()).map_or(0, |p| p + 1);
        Ok(())
    }

    /// Keeps the first `n` rows, e.g. after rejected drafts.
    pub fn truncate(&mut self, n: usize) -> Result<()> {
        let rows: Vec<usize> = (0..n.min(self.len())).collect();
        self.select(&rows)
    }

    /// Drops all rows of a layer but these, in this order: the same of every key-value head, or those of each. The
    /// memory of the others is freed. The text goes on at the position where it was.
    ///
    /// Errors: no such layer or row, lists that are not one per key-value head.
    pub fn evict(&mut self, layer: usize, keep: &PerHead<Vec<usize>>) -> Result<()> {
        let slot = self.layers.get_mut(layer).map(|l| &mut l.held);
        let slot = slot.ok_or_else(|| Error::invalid(format!("the cache holds no layer {layer}")))?;
        let g: usize = slot.iter().map(|h| h.k.dim(0)).sum::<candle_core::Result<usize>>()?;
        *slot = match keep {
            PerHead::Same(rows) => slot.iter().map(|h| pick(h, rows)).collect::<Result<_>>()?,
            PerHead::Each(all) if all.len() == g => {
                let each = slot.len();
                let one = |head: usize| -> Result<Held> {
                    let held = &slot[head * each / g];
                    let own = head % (g / each);
                    let part = Held {
                        k: held.k.narrow(0, own, 1)?,
                        v: held.v.narrow(0, own, 1)?,
                        positions: held.positions.clone(),
                    };
                    pick(&part, &all[head])
                };
                (0..g).map(one).collect::<Result<_>>()?
            }
            PerHead::Each(all) => {
                return Err(Error::invalid(format!("{} lists of rows for {g} key-value heads", all.len())));
            }
        };
        Ok(())
    }

    /// Numbers the rows of every head from 0 on, in the order in which they are held, and turns keys to their new
    /// positions. The text goes on behind the longest list.
    ///
    /// Errors: a model whose positions cannot be turned.
    pub fn renumber(&mut self, model: &dyn Model) -> Result<()> {
        let stack = model.stack(Tower::Text)?;
        let mut next = 0;
        for (layer, slot) in self.layers.iter_mut().enumerate() {
            let attention = &stack.layer(layer)?.attention;
            for held in &mut slot.held {
                let to: Vec<usize> = (0..held.positions.len()).collect();
                held.k = attention.moved(&held.k, &held.positions, &to)?;
                next = next.max(to.len());
                held.positions = to;
            }
        }
        self.next_position = next;
        Ok(())
    }
}
