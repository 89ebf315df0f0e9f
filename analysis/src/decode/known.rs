//! A model whose answers are remembered: many decodes of one text ask it the same things, and it computes each once.

use super::oracle::{Oracle, Reader};
use super::row::Row;
use crate::Result;
use crate::ctx::Ctx;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Bytes of remembered rows at most; what comes later is computed each time.
const MAX_BYTES: usize = 256 << 20;

/// What a model said after each way to go on from one text, as distributions at one temperature.
pub struct Memory {
    rows: RwLock<HashMap<Vec<u32>, Row>>,
    temperature: f64,
    /// The only ids that there are, for a look at every way in which chance can go.
    only: Option<Vec<usize>>,
    /// Tokens after which nothing is asked in earnest: what is said there is always the same id.
    deepest: usize,
}

impl Memory {
    /// Nothing is known yet. Rows become distributions at `temperature`, over the ids of `only` where they are given;
    /// behind more than `deepest` tokens they say nothing and cost nothing.
    pub fn new(temperature: f64, only: Option<Vec<usize>>, deepest: usize) -> Self {
        Self { rows: RwLock::default(), temperature, only, deepest }
    }

    fn get(&self, path: &[u32]) -> Option<Row> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    /// The row as it is remembered, kept where there is room.
    fn put(&self, path: Vec<u32>, row: &Row) -> Row {
        let mut p = row.distribution(self.temperature);
        if let Some(only) = &self.only {
            let mut few = vec![0.0; p.len()];
            only.iter().filter(|&&i| i < p.len()).for_each(|&i| few[i] = p[i]);
            let sum: f64 = few.iter().sum();
            if sum > 0.0 {
                few.iter_mut().for_each(|x| *x /= sum);
            } else {
                only.iter().filter(|&&i| i < p.len()).for_each(|&i| few[i] = 1.0 / only.len() as f64);
            }
            p = few;
        }
        let (row, bytes) = (Row::Chances(p), 8 * row.len());
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        if (rows.len() + 1) * bytes <= MAX_BYTES {
            rows.insert(path, row.clone());
        }
        row
    }
}

/// A model that has read a text and goes on from there; with a [`Memory`] of what it says, it computes only what is
/// not known. A clone has read the same.
#[derive(Clone)]
pub struct Known<O> {
    /// Without a memory it reads on itself, with one it stays where it is.
    model: O,
    memory: Option<Arc<Memory>>,
    /// What was read since.
    text: Vec<u32>,
}

/// The model behind a drafting policy.
pub type Partner<'a> = Known<Reader<'a>>;

impl<O: Oracle> Known<O> {
    /// Without a memory it is the model itself.
    pub fn new(model: O, memory: Option<Arc<Memory>>) -> Self {
        Self { model, memory, text: Vec::new() }
    }

    /// The model, which computes whatever it is asked; with a memory it stands where it began.
    pub fn model(&self) -> &O {
        &self.model
    }

    /// Rows after each of `paths`, ways to go on from the text; `compute` gives those of the wanted ones of them, by
    /// index and in their order.
    fn rows(
        &self,
        memory: &Memory,
        paths: Vec<Vec<u32>>,
        compute: impl FnOnce(&[usize]) -> Result<Vec<Row>>,
    ) -> Result<Vec<Row>> {
        let known = |p: &Vec<u32>| match p.len() > memory.deepest {
            true => {
                let mut same = vec![0.0; self.model.vocab()];
                let id = memory.only.as_ref().and_then(|o| o.first()).copied().unwrap_or(0);
                same.iter_mut().skip(id).take(1).for_each(|x| *x = 1.0);
                Some(Row::Chances(same))
            }
            false => memory.get(p),
        };
        let mut rows: Vec<Option<Row>> = paths.iter().map(known).collect();
        let wanted: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].is_none()).collect();
        if !wanted.is_empty() {
            let mut paths = paths;
            for (&i, row) in wanted.iter().zip(compute(&wanted)?) {
                rows[i] = Some(memory.put(std::mem::take(&mut paths[i]), &row));
            }
        }
        Ok(rows.into_iter().flatten().collect())
    }
}

impl<O: Oracle> Oracle for Known<O> {
    fn vocab(&self) -> usize {
        self.model.vocab()
    }

    fn len(&self) -> usize {
        self.model.len() + self.text.len()
    }

    fn read(&mut self, ids: &[u32], ctx: &Ctx) -> Result<Vec<Row>> {
        let Some(memory) = self.memory.clone() else { return self.model.read(ids, ctx) };
        let path = |i: usize| [&self.text[..], &ids[..=i]].concat();
        let rows = self.rows(&memory, (0..ids.len()).map(path).collect(), |wanted| {
            let (text, mut model) = (path(wanted.last().map_or(0, |i| *i)), self.model.clone());
            let rows = model.read(&text, ctx)?;
            Ok(wanted.iter().filter_map(|i| rows.get(self.text.len() + i).cloned()).collect())
        })?;
        self.text.extend(ids);
        Ok(rows)
    }

    fn read_tree(&mut self, ids: &[u32], parents: &[usize], ctx: &Ctx) -> Result<Vec<Row>> {
        let Some(memory) = self.memory.clone() else { return self.model.read_tree(ids, parents, ctx) };
        let mut paths: Vec<Vec<u32>> = Vec::with_capacity(ids.len());
        for (i, &id) in ids.iter().enumerate() {
            let mut path = if i == 0 { self.text.clone() } else { paths[parents[i]].clone() };
            path.push(id);
            paths.push(path);
        }
        let rows = self.rows(&memory, paths, |wanted| {
            // What is not known, with what stands above it.
            let mut needed = vec![false; ids.len()];
            for &i in wanted {
                let mut at = i;
                while !std::mem::replace(&mut needed[at], true) && at > 0 {
                    at = parents[at];
                }
            }
            let nodes: Vec<usize> = (0..ids.len()).filter(|&i| needed[i]).collect();
            let mut place = vec![0; ids.len()];
            nodes.iter().enumerate().for_each(|(k, &i)| place[i] = k);
            let few: Vec<u32> = nodes.iter().map(|&i| ids[i]).collect();
            let above: Vec<usize> = nodes.iter().map(|&i| place[parents[i]]).collect();
            let mut model = self.model.clone();
            if !self.text.is_empty() {
                model.read(&self.text, ctx)?;
            }
            let rows = match above.iter().enumerate().skip(1).all(|(k, &p)| p + 1 == k) {
                true => model.read(&few, ctx)?,
                false => model.read_tree(&few, &above, ctx)?,
            };
            Ok(wanted.iter().filter_map(|&i| rows.get(place[i]).cloned()).collect())
        })?;
        self.text.extend(ids);
        Ok(rows)
    }

    fn keep(&mut self, tokens: &[usize]) -> Result<()> {
        if self.memory.is_none() {
            return self.model.keep(tokens);
        }
        let before = self.model.len();
        self.text = tokens.iter().filter_map(|i| self.text.get(i.checked_sub(before)?).copied()).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::toy::Markov;

    #[test]
    fn what_is_remembered_is_what_the_model_says_and_is_asked_once() {
        let table = vec![vec![0.5, 0.25, 0.25], vec![0.1, 0.8, 0.1], vec![0.2, 0.2, 0.6]];
        let (toy, ctx) = (Markov::first_order(table, "T").unwrap(), Ctx::default());
        let memory = Arc::new(Memory::new(1.0, None, 3));
        let mut known = Known::new(toy.clone(), Some(memory.clone()));
        let mut plain = toy.clone();
        // A tree: 0, below it 1 and 2, below the second 0.
        let (ids, parents) = ([0, 1, 2, 0], [0, 0, 0, 2]);
        assert_eq!(
            known.read_tree(&ids, &parents, &ctx).unwrap(),
            plain.clone().read_tree(&ids, &parents, &ctx).unwrap()
        );
        assert_eq!(memory.rows.read().unwrap().len(), 4);
        known.keep(&[0, 2]).unwrap();
        plain.read(&[0, 2], &ctx).unwrap();
        assert_eq!((known.len(), known.text.clone()), (2, vec![0, 2]));
        // Known from the tree; what comes behind three tokens is always the first id.
        assert_eq!(known.read(&[0], &ctx).unwrap(), plain.read(&[0], &ctx).unwrap());
        assert_eq!(known.read(&[1], &ctx).unwrap(), [Row::Chances(vec![1.0, 0.0, 0.0])]);
        assert_eq!(memory.rows.read().unwrap().len(), 4);
        // Few ids, at half the temperature: 0.5² against 0.25².
        let mut few = Known::new(toy, Some(Arc::new(Memory::new(0.5, Some(vec![0, 2]), 9))));
        let Row::Chances(p) = few.read(&[0], &ctx).unwrap().remove(0) else { panic!("logits") };
        assert!((p[0] - 0.8).abs() < 1e-12 && p[1] == 0.0 && (p[2] - 0.2).abs() < 1e-12);
    }
}
