//! What is known of every computation: under way, ready or failed; and what is forgotten when.

use super::PATIENCE;
use super::ask::{AnyAsk, Key, Product, Spot};
use std::any::TypeId;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tokenscope_analysis::Error;
use tokenscope_analysis::weights::Hold;

/// Finished products kept beyond those in use, however small they are.
const KEEP: usize = 512;

#[derive(Clone, Default)]
pub(super) struct Running {
    pub cancel: Arc<AtomicBool>,
    /// Thousandths done.
    pub progress: Arc<AtomicU32>,
    /// Whether a thread has taken it up; before, it waits in line.
    pub started: bool,
    /// Jobs that wait for it.
    pub asked_by: HashSet<Key>,
    /// What is there of it so far.
    pub so_far: Option<Product>,
}

impl Running {
    /// The share done, 0..=1.
    pub fn done(&self) -> f32 {
        self.progress.load(Ordering::Relaxed) as f32 / 1000.0
    }
}

pub(super) enum Slot {
    Running(Running),
    Ready(Product),
    Failed(Arc<Error>),
}

impl Slot {
    fn bytes(&self) -> u64 {
        if let Slot::Ready(p) = self { p.bytes } else { 0 }
    }
}

/// A computation, and the frame in which it was last asked for.
pub(super) struct Known {
    /// The key of its slot, once more, so that it is at hand where only a borrowed one is known.
    pub key: Key,
    pub slot: Slot,
    pub asked: u64,
}

#[derive(Default)]
pub(super) struct Inner {
    pub slots: HashMap<Key, Known>,
    /// What each spot showed last, and what had asked for it.
    pub latest: HashMap<Spot, (Key, Product)>,
    pub frame: u64,
    /// Jobs that no thread has taken up.
    pub line: VecDeque<Key>,
    /// Threads that compute; those that wait for another job do not count.
    pub busy: isize,
    /// How the weights of models are held.
    pub hold: Hold,
}

impl Inner {
    /// The slot of `ask`, asked for now.
    pub fn asked(&mut self, ask: &(dyn AnyAsk + 'static)) -> Option<&mut Known> {
        let frame = self.frame;
        let known = self.slots.get_mut(ask)?;
        known.asked = frame;
        Some(known)
    }

    /// Fills the slot of `key`.
    pub fn fill(&mut self, key: &Key, slot: Slot) {
        self.slots.insert(key.clone(), Known { key: key.clone(), slot, asked: self.frame });
    }

    /// The next job in line that is still wanted, now started.
    pub fn next(&mut self) -> Option<Key> {
        while let Some(key) = self.line.pop_front() {
            if let Some(Known { slot: Slot::Running(r), .. }) = self.slots.get_mut(&key)
                && !r.started
            {
                r.started = true;
                return Some(key);
            }
        }
        None
    }

    /// Cancels jobs that neither a view asked for lately nor a wanted job waits for. True if there were any.
    pub fn cancel_unwanted(&mut self) -> bool {
        let frame = self.frame;
        let running = || {
            self.slots
                .values()
                .filter_map(|k| if let Slot::Running(r) = &k.slot { Some((&k.key, r, k.asked)) } else { None })
        };
        let mut wanted: HashSet<Key> =
            running().filter(|(.., asked)| asked + PATIENCE >= frame).map(|(key, ..)| key.clone()).collect();
        loop {
            let more: Vec<Key> = running()
                .filter(|(key, r, _)| !wanted.contains(*key) && r.asked_by.iter().any(|by| wanted.contains(by)))
                .map(|(key, ..)| key.clone())
                .collect();
            if more.is_empty() {
                break;
            }
            wanted.extend(more);
        }
        let before = self.slots.len();
        self.slots.retain(|key, known| match &known.slot {
            Slot::Running(r) if !wanted.contains(key) => {
                r.cancel.store(true, Ordering::Relaxed);
                false
            }
            _ => true,
        });
        self.slots.len() < before
    }

    /// Takes out products that were last asked for before the frame `until`: those that are too many of their kind,
    /// and the oldest until the others fit `keep` bytes.
    pub fn forget(&mut self, keep: u64, until: u64) -> Vec<Product> {
        let mut gone = self.forget_kinds(until);
        let mut total: u64 = self.slots.values().map(|k| k.slot.bytes()).sum();
        if total <= keep && self.slots.len() <= KEEP {
            return gone;
        }
        let mut old: Vec<(u64, Key)> = self
            .slots
            .values()
            .filter(|k| !matches!(k.slot, Slot::Running(_)) && k.asked < until)
            .map(|k| (k.asked, k.key.clone()))
            .collect();
        old.sort_by_key(|o| o.0);
        for (_, key) in old {
            if total <= keep && self.slots.len() <= KEEP {
                break;
            }
            if let Some(known) = self.slots.remove(&key) {
                total -= known.slot.bytes();
                gone.extend(product(known.slot));
            }
        }
        gone
    }

    /// Takes out every product of this kind of ask, what spots show of it included; stops what is under way of it, and
    /// forgets failures, which may have hung on it.
    pub fn forget_all(&mut self, of: TypeId) -> Vec<Product> {
        let mut gone = Vec::new();
        let out: Vec<Key> = self.slots.keys().filter(|key| key.kind().0 == of).cloned().collect();
        for known in out.iter().filter_map(|key| self.slots.remove(key)) {
            match known.slot {
                Slot::Running(r) => r.cancel.store(true, Ordering::Relaxed),
                slot => gone.extend(product(slot)),
            }
        }
        self.slots.retain(|_, k| !matches!(k.slot, Slot::Failed(_)));
        self.line.retain(|key| key.kind().0 != of);
        self.latest.retain(|_, (key, _)| key.kind().0 != of);
        gone
    }

    /// Takes out what is too much of its kind, the oldest first.
    fn forget_kinds(&mut self, until: u64) -> Vec<Product> {
        let mut few: HashMap<TypeId, (usize, Vec<(u64, Key)>)> = HashMap::new();
        for k in self.slots.values() {
            let (kind, kept) = k.key.kind();
            if kept < usize::MAX && matches!(k.slot, Slot::Ready(_)) && k.asked < until {
                few.entry(kind).or_insert((kept, Vec::new())).1.push((k.asked, k.key.clone()));
            }
        }
        let mut gone = Vec::new();
        for (kept, mut old) in few.into_values().filter(|(kept, old)| old.len() > *kept) {
            old.sort_by_key(|o| std::cmp::Reverse(o.0));
            let out = old.drain(kept..).filter_map(|(_, key)| self.slots.remove(&key));
            gone.extend(out.filter_map(|known| product(known.slot)));
        }
        gone
    }
}

fn product(slot: Slot) -> Option<Product> {
    if let Slot::Ready(p) = slot { Some(p) } else { None }
}
