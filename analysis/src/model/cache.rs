//! Keys and values of earlier tokens. Layers, and the heads of a layer, may hold different rows: reductions leave layers
//! with fewer, cache policies leave every head with its own.

use super::Model;
use crate::trace::{Held, PerHead, Tower};
use crate::{Error, Result};
use candle_core::Tensor;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What one layer holds.
#[derive(Debug, Default)]
pub struct LayerCache {
    /// One entry where all key-value heads hold the same rows, else one for each. Empty before the first token.
    ///
    /// Keys and values may lie where there is room for more. What stands in rows that are dropped from the end is
    /// written over by the next ones, so who keeps these tensors for longer than the rows are held copies them.
    pub held: Vec<Held>,
    /// What a recurrence holds beside what its rows are computed from, and are again where some were taken back.
    pub recurrent: Option<Recurrent>,
    /// Where the rows of the only entry lie.
    room: Option<Room>,
}

/// The state of a recurrence after some rows.
#[derive(Debug, Clone)]
pub struct Recurrent {
    /// How many rows it has read.
    pub rows: usize,
    /// Values, shaped as the model wants them.
    pub state: Tensor,
}

/// Keys and values `[g, rows, e]` with rows to spare behind those that are held, so that new ones are written there
/// and the old ones are not copied for each of them.
#[derive(Debug)]
struct Room {
    k: Tensor,
    v: Tensor,
    rows: usize,
    /// Rows before this one were seen by a clone, which goes on reading them.
    shared: AtomicUsize,
}

/// Rows to spare are one for so many that are held: a decode copies a row a few times, and holds little more.
const SPARE: usize = 8;

impl Room {
    /// The rows held and the new ones, with room for more.
    fn new(held: &Held, k: &Tensor, v: &Tensor) -> Result<Self> {
        let n = held.positions.len() + k.dim(1)?;
        let rows = n + (n / SPARE).max(SPARE);
        let wide = |old: &Tensor, new: &Tensor| -> Result<Tensor> {
            let (g, _, e) = new.dims3()?;
            let all = Tensor::zeros((g, rows, e), new.dtype(), new.device())?;
            all.slice_set(&old.contiguous()?, 1, 0)?;
            all.slice_set(new, 1, held.positions.len())?;
            Ok(all)
        };
        Ok(Self { k: wide(&held.k, k)?, v: wide(&held.v, v)?, rows, shared: AtomicUsize::new(0) })
    }

    /// Writes rows from `at` on. False where that would change what somebody else reads, or does not fit.
    fn write(&self, at: usize, k: &Tensor, v: &Tensor) -> Result<bool> {
        if at < self.shared.load(Ordering::Relaxed) || at + k.dim(1)? > self.rows {
            return Ok(false);
        }
        self.k.slice_set(k, 1, at)?;
        self.v.slice_set(v, 1, at)?;
        Ok(true)
    }

    /// What is held when the first rows are, at these positions.
    fn first(&self, positions: Vec<usize>) -> Result<Held> {
        let n = positions.len();
        Ok(Held { k: self.k.narrow(1, 0, n)?, v: self.v.narrow(1, 0, n)?, positions })
    }
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

    /// Adds rows behind those of the only entry, in their room where there is some.
    fn grow(&mut self, k: &Tensor, v: &Tensor, positions: &[usize]) -> Result<()> {
        let held = &self.held[0];
        let n = held.positions.len();
        let fits = match &self.room {
            Some(room) => room.write(n, k, v)?,
            None => false,
        };
        if !fits {
            self.room = Some(Room::new(held, k, v)?);
        }
        let all = [&held.positions, positions].concat();
        if let Some(room) = &self.room {
            self.held[0] = room.first(all)?;
        }
        Ok(())
    }

    /// Keeps exactly these rows of the only entry, in this order. Those that stay where they are are not copied.
    fn keep(&mut self, rows: &[usize]) -> Result<()> {
        let held = &self.held[0];
        let stay = rows.iter().enumerate().take_while(|&(i, &r)| i == r).count();
        let (positions, moved) = (pick_positions(held, rows)?, &rows[stay..]);
        let in_place = match &self.room {
            Some(room) if moved.is_empty() => Some(room),
            Some(room) => {
                let few = |t: &Tensor| -> Result<Tensor> {
                    let rows = moved.iter().map(|&r| t.narrow(1, r, 1)).collect::<candle_core::Result<Vec<_>>>()?;
                    Ok(Tensor::cat(&rows, 1)?.force_contiguous()?)
                };
                room.write(stay, &few(&held.k)?, &few(&held.v)?)?.then_some(room)
            }
            None => None,
        };
        let kept = match in_place {
            Some(room) => room.first(positions)?,
            None => {
                let kept = pick(held, rows)?;
                self.room = None;
                kept
            }
        };
        self.held[0] = kept;
        Ok(())
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

impl Clone for LayerCache {
    /// Both go on reading the same rows; the first to add one copies them, unless it is the one that had the room.
    fn clone(&self) -> Self {
        if let Some(room) = &self.room {
            room.shared.fetch_max(self.len(), Ordering::Relaxed);
        }
        Self { held: self.held.clone(), recurrent: self.recurrent.clone(), room: None }
    }
}

/// Rows of `held`, copied, so that what is left out is freed.
fn pick(held: &Held, rows: &[usize]) -> Result<Held> {
    let positions = pick_positions(held, rows)?;
    let index: Vec<u32> = rows.iter().map(|&r| r as u32).collect();
    let index = Tensor::new(index, held.k.device())?;
    let of = |t: &Tensor| -> Result<Tensor> { Ok(t.contiguous()?.index_select(&index, 1)?) };
    Ok(Held { k: of(&held.k)?, v: of(&held.v)?, positions })
}

/// Positions of rows of `held`. Errors on a row that is not there.
fn pick_positions(held: &Held, rows: &[usize]) -> Result<Vec<usize>> {
    let one = |&r: &usize| held.positions.get(r).copied().ok_or(r);
    rows.iter()
        .map(one)
        .collect::<std::result::Result<_, _>>()
        .map_err(|r| Error::invalid(format!("row {r} is not in the cache")))
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
        // Rows of the cache are picked and joined later, which needs them in order.
        let (k, v) = (k.contiguous()?, v.contiguous()?);
        let layer = &mut self.layers[layer];
        if layer.held.len() == 1 && !k.track_op() && !v.track_op() {
            layer.grow(&k, &v, positions)?;
            return Ok(layer.held.clone());
        }
        layer.room = None;
        let slot = &mut layer.held;
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
            if !l.held.is_empty() {
                l.keep(rows)?;
            }
        }
        let first = self.layers.first().and_then(|l| l.held.first());
        self.next_position = first.and_then(|h| h.positions.iter().max()).map_or(0, |p| p + 1);
        self.turn_ahead = self.turn_ahead.filter(|_| self.next_position > 0);
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
        let layers = self.layers.get_mut(layer);
        let LayerCache { held: slot, room, recurrent } =
            layers.ok_or_else(|| Error::invalid(format!("the cache holds no layer {layer}")))?;
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
        (*room, *recurrent) = (None, None);
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
            slot.room = None;
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

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Rows `[2, n, 3]` whose values say which row they are.
    fn rows(ids: &[usize]) -> Tensor {
        let row = |g: usize, id: usize| (0..3).map(move |c| (1000 * g + 10 * id + c) as f32);
        let all: Vec<f32> = (0..2).flat_map(|g| ids.iter().flat_map(move |&id| row(g, id))).collect();
        Tensor::from_vec(all, (2, ids.len(), 3), &Device::Cpu).unwrap()
    }

    fn add(cache: &mut KvCache, ids: &[usize]) {
        cache.extend(0, &rows(ids), &(rows(ids) * 2.0).unwrap(), ids).unwrap();
    }

    #[track_caller]
    fn holds(cache: &KvCache, ids: &[usize]) {
        let held = &cache.layers[0].held[0];
        let list = |t: &Tensor| t.to_vec3::<f32>().unwrap();
        assert_eq!(held.positions, ids);
        assert_eq!(list(&held.k), list(&rows(ids)));
        assert_eq!(list(&held.v), list(&(rows(ids) * 2.0).unwrap()));
    }

    #[test]
    fn rows_are_added_and_taken_away_however_much_room_there_is() {
        let (mut cache, mut want) = (KvCache::default(), Vec::new());
        for i in 0..40 {
            add(&mut cache, &[i, 100 + i]);
            want.extend([i, 100 + i]);
            holds(&cache, &want);
            if i % 7 == 3 {
                // An accepted path: all that was read before, and two of the last rows.
                let keep: Vec<usize> = (0..want.len() - 3).chain([want.len() - 1]).collect();
                cache.select(&keep).unwrap();
                want = keep.iter().map(|&k| want[k]).collect();
                holds(&cache, &want);
            }
            if i % 7 == 5 {
                cache.truncate(want.len() - 1).unwrap();
                want.pop();
            }
        }
        cache.select(&[5, 0, 2]).unwrap();
        holds(&cache, &[want[5], want[0], want[2]]);
        assert!(cache.select(&[3]).is_err());
    }

    #[test]
    fn clones_go_their_own_ways() {
        let mut a = KvCache::default();
        (0..5).for_each(|i| add(&mut a, &[i]));
        let mut b = a.clone();
        add(&mut a, &[7]);
        add(&mut b, &[8]);
        let c = a.clone();
        a.truncate(3).unwrap();
        add(&mut a, &[9, 10, 11]);
        a.select(&[0, 1, 4]).unwrap();
        holds(&a, &[0, 1, 10]);
        holds(&b, &[0, 1, 2, 3, 4, 8]);
        holds(&c, &[0, 1, 2, 3, 4, 7]);
        // What a clone reads is not written over, so the rows move out, and go on where they moved to.
        let mut d = KvCache::default();
        (0..5).for_each(|i| add(&mut d, &[i]));
        let before = d.clone();
        d.select(&[0, 3, 4]).unwrap();
        add(&mut d, &[6]);
        holds(&d, &[0, 3, 4, 6]);
        holds(&before, &[0, 1, 2, 3, 4]);
    }
}
