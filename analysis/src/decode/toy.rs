//! Toys of the goldens and tests: tables in the place of models, so that goldens run the engines that models run.

use super::oracle::{Fill, Oracle};
use super::row::Row;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::raw::RawInput;
use crate::{Error, Result};
use std::sync::Arc;

/// What comes next after the token before and the present one.
type Next = Arc<dyn Fn(Option<u32>, u32) -> Result<Row> + Send + Sync>;

/// A Markov chain of first or second order.
#[derive(Clone)]
pub struct Markov {
    vocab: usize,
    text: Vec<u32>,
    next: Next,
}

impl Markov {
    /// First order: row `i` holds the probabilities of what follows token `i`.
    ///
    /// Errors: no square matrix, values that are no probabilities.
    pub fn first_order(table: Vec<Vec<f64>>, name: &str) -> Result<Self> {
        let n = table.len();
        let proper = |r: &Vec<f64>| r.len() == n && r.iter().all(|x| x.is_finite() && *x >= 0.0);
        if n == 0 || !table.iter().all(proper) {
            return Err(Error::invalid(format!("{name} is not a square matrix of probabilities")));
        }
        let next = move |_: Option<u32>, id: u32| match table.get(id as usize) {
            Some(row) => Ok(Row::Chances(row.clone())),
            None => Err(out_of_vocabulary(id)),
        };
        Ok(Self { vocab: n, text: Vec::new(), next: Arc::new(next) })
    }

    /// Second order: logits `[vocab, vocab, vocab]` of what follows the pair (before, present). The first token of a
    /// text has itself before it.
    ///
    /// Errors: another shape, values that are not finite.
    pub fn second_order(table: Array, name: &str) -> Result<Self> {
        table.check_finite(name)?;
        let [n, b, c] = table.dims(name)?;
        if b != n || c != n {
            return Err(Error::shape(name, "[vocab, vocab, vocab]", table.shape()));
        }
        let next = move |before: Option<u32>, id: u32| {
            let at = before.unwrap_or(id) as usize * n + id as usize;
            match table.data().get(at * n..(at + 1) * n) {
                Some(row) if (id as usize) < n => Ok(Row::Logits(row.to_vec())),
                _ => Err(out_of_vocabulary(id)),
            }
        };
        Ok(Self { vocab: n, text: Vec::new(), next: Arc::new(next) })
    }
}

fn out_of_vocabulary(id: u32) -> Error {
    Error::invalid(format!("token {id} is not in the vocabulary"))
}

impl Oracle for Markov {
    fn vocab(&self) -> usize {
        self.vocab
    }

    fn len(&self) -> usize {
        self.text.len()
    }

    fn read(&mut self, ids: &[u32], _: &Ctx) -> Result<Vec<Row>> {
        let read = |&id: &u32| {
            let row = (self.next)(self.text.last().copied(), id)?;
            self.text.push(id);
            Ok(row)
        };
        ids.iter().map(read).collect()
    }

    fn read_tree(&mut self, ids: &[u32], parents: &[usize], _: &Ctx) -> Result<Vec<Row>> {
        let above = self.text.last().copied();
        let read = |i: usize| (self.next)(if i == 0 { above } else { Some(ids[parents[i]]) }, ids[i]);
        let rows = (0..ids.len()).map(read).collect();
        self.text.extend(ids);
        rows
    }

    fn keep(&mut self, tokens: &[usize]) -> Result<()> {
        self.text = tokens.iter().map(|&i| self.text[i]).collect();
        Ok(())
    }
}

/// What comes next after a token at a place, places counted round: logits `[period, vocab, vocab]`.
#[derive(Clone)]
pub struct Clock {
    table: Arc<Array>,
    at: usize,
}

impl Clock {
    /// From such a table.
    ///
    /// Errors: another shape, values that are not finite.
    pub fn new(table: Array, name: &str) -> Result<Self> {
        table.check_finite(name)?;
        let [period, v, columns] = table.dims(name)?;
        if period == 0 || v == 0 || columns != v {
            return Err(Error::shape(name, "[period, vocab, vocab]", table.shape()));
        }
        Ok(Self { table: Arc::new(table), at: 0 })
    }

    fn row(&self, at: usize, id: u32) -> Result<Row> {
        let [period, v] = [self.table.shape()[0], self.table.shape()[1]];
        let start = ((at % period) * v + id as usize) * v;
        if (id as usize) < v {
            Ok(Row::Logits(self.table.data()[start..start + v].to_vec()))
        } else {
            Err(out_of_vocabulary(id))
        }
    }
}

impl Oracle for Clock {
    fn vocab(&self) -> usize {
        self.table.shape()[1]
    }

    fn len(&self) -> usize {
        self.at
    }

    fn read(&mut self, ids: &[u32], _: &Ctx) -> Result<Vec<Row>> {
        let rows = ids.iter().enumerate().map(|(i, &id)| self.row(self.at + i, id)).collect();
        self.at += ids.len();
        rows
    }

    fn read_tree(&mut self, ids: &[u32], parents: &[usize], _: &Ctx) -> Result<Vec<Row>> {
        let mut depth = vec![0; ids.len()];
        (1..ids.len()).for_each(|i| depth[i] = depth[parents[i]] + 1);
        let rows = ids.iter().zip(&depth).map(|(&id, d)| self.row(self.at + d, id)).collect();
        self.at += ids.len();
        rows
    }

    fn keep(&mut self, tokens: &[usize]) -> Result<()> {
        self.at = tokens.len();
        Ok(())
    }
}

/// Rows by position, whatever the tokens are: what was recorded of one round.
#[derive(Clone)]
pub struct Sheet {
    rows: Vec<Row>,
    at: usize,
}

impl Sheet {
    /// Row `i` follows the `i`-th token.
    pub fn new(rows: Vec<Row>) -> Self {
        Self { rows, at: 0 }
    }
}

impl Oracle for Sheet {
    fn vocab(&self) -> usize {
        self.rows.first().map_or(0, Row::len)
    }

    fn len(&self) -> usize {
        self.at
    }

    fn read(&mut self, ids: &[u32], _: &Ctx) -> Result<Vec<Row>> {
        let rows = self.rows.get(self.at..self.at + ids.len());
        self.at += ids.len();
        Ok(rows.ok_or_else(|| Error::invalid("more tokens were read than rows recorded"))?.to_vec())
    }

    fn read_tree(&mut self, ids: &[u32], parents: &[usize], _: &Ctx) -> Result<Vec<Row>> {
        let mut depth = vec![0; ids.len()];
        (1..ids.len()).for_each(|i| depth[i] = depth[parents[i]] + 1);
        let row = |d: &usize| self.rows.get(self.at + d).cloned();
        let rows: Option<Vec<Row>> = depth.iter().map(row).collect();
        self.at += ids.len();
        rows.ok_or_else(|| Error::invalid("the tree is deeper than rows were recorded"))
    }

    fn keep(&mut self, tokens: &[usize]) -> Result<()> {
        self.at = tokens.len();
        Ok(())
    }
}

/// A stub that fills in: `base[i] + Σ_{d=1..3} C[0, x[i−d]] / d + C[1, x[i+d]] / d` over revealed neighbours, in f32;
/// the mask itself has logit −30.
pub struct Neighbours {
    base: Array,
    pull: Array,
    mask: u32,
    vocab: usize,
}

impl Neighbours {
    /// From the fields `base` `[n, vocab]`, `C` `[2, vocab, vocab]` and `mask_id` of a golden.
    ///
    /// Errors: other shapes, values that are not finite, a mask outside the vocabulary.
    pub fn of(input: &RawInput) -> Result<Self> {
        let (base, pull) = (input.array("base")?.clone(), input.array("C")?.clone());
        base.check_finite("base")?;
        pull.check_finite("C")?;
        let ([_, vocab], mask) = (base.dims("base")?, input.read::<u32>("mask_id")?);
        if pull.shape() != [2, vocab, vocab] {
            return Err(Error::shape("C", "[2, vocab, vocab]", pull.shape()));
        }
        if mask as usize >= vocab {
            return Err(Error::invalid(format!("mask_id {mask} is not in the vocabulary of {vocab}")));
        }
        Ok(Self { base, pull, mask, vocab })
    }

    fn row(&self, ids: &[u32], i: usize) -> Vec<f32> {
        let mut out = self.base.row(i).to_vec();
        for d in 1..=3usize {
            for (side, at) in [(0, i.checked_sub(d)), (1, Some(i + d))] {
                let Some(&x) = at.and_then(|at| ids.get(at)).filter(|&&x| x != self.mask) else { continue };
                let pull = &self.pull.data()[(side * self.vocab + x as usize) * self.vocab..][..self.vocab];
                out.iter_mut().zip(pull).for_each(|(y, c)| *y += c / d as f32);
            }
        }
        out[self.mask as usize] = -30.0;
        out
    }
}

impl Fill for Neighbours {
    fn mask(&self) -> u32 {
        self.mask
    }

    fn longest(&self) -> Option<usize> {
        Some(self.base.shape()[0])
    }

    fn fill(&mut self, ids: &[u32], positions: &[usize], _: &Ctx) -> Result<Vec<Row>> {
        if let Some(&x) = ids.iter().find(|&&x| x as usize >= self.vocab) {
            return Err(out_of_vocabulary(x));
        }
        Ok(positions.iter().map(|&i| Row::Logits(self.row(ids, i))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_and_a_tree_without_branches_read_the_same() {
        let data = (0..27).map(|i| ((i * 7) % 11) as f32).collect();
        let toy = Markov::second_order(Array::new([3, 3, 3], data).unwrap(), "T").unwrap();
        let (mut a, mut b) = (toy.clone(), toy);
        let ctx = Ctx::default();
        a.read(&[2], &ctx).unwrap();
        b.read(&[2], &ctx).unwrap();
        let rows = a.read(&[0, 1, 1], &ctx).unwrap();
        assert_eq!(rows, b.read_tree(&[0, 1, 1], &[0, 0, 1], &ctx).unwrap());
        // After 2 and 0 comes row (2, 0), which begins at 18.
        assert_eq!(rows[0], Row::Logits(vec![(18 * 7 % 11) as f32, (19 * 7 % 11) as f32, (20 * 7 % 11) as f32]));
        b.keep(&[0, 1]).unwrap();
        a.keep_first(2).unwrap();
        assert_eq!((a.len(), a.read(&[1], &ctx).unwrap()), (2, b.read(&[1], &ctx).unwrap()));
    }
}
