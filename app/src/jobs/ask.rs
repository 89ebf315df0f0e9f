//! What can be asked for: a value that names a computation and everything that its result depends on.

use super::Store;
use crate::keys::RunKey;
use std::any::{Any, TypeId};
use std::borrow::Borrow;
use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use tokenscope_analysis::{Ctx, Error, Result};

/// A computation as a value. Equal values share one job and one product.
pub trait Ask: Clone + Eq + Hash + Debug + Send + Sync + 'static {
    /// What comes back.
    type Out: Send + Sync + 'static;

    /// How many products of this kind stay though nobody asked for them lately. Few for what is large and soon made
    /// again; all others stay as long as they have room.
    const KEPT: usize = usize::MAX;

    /// Computes it, on a thread of its own; what it builds on it gets from `store`.
    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Self::Out>;

    /// The run whose outcome it is; none for what hangs on no run, as cuts of a text that is being typed.
    fn run(&self) -> Option<&RunKey> {
        None
    }

    /// About how much memory a product holds, in bytes; what holds a few short lists says nothing.
    fn bytes(_out: &Self::Out) -> u64 {
        0
    }
}

/// Where something asked for stands.
pub enum Status<T> {
    /// Done.
    Ready(Arc<T>),
    /// Under way, with the share done and the picture from before.
    Running(f32, Option<Arc<T>>),
    /// Under way, with the share done and what is there of it so far.
    Partly(f32, Arc<T>),
    /// Failed; not tried again until something changes.
    Failed(Arc<Error>),
}

/// A product of any kind, with what the user should know about it.
#[derive(Clone)]
pub(super) struct Product {
    value: Arc<dyn Any + Send + Sync>,
    /// About how much memory it holds, in bytes.
    pub bytes: u64,
    /// E.g. that it was computed on the CPU, and why.
    pub notes: Arc<[String]>,
}

impl Product {
    pub fn new<A: Ask>(out: A::Out, notes: Vec<String>) -> Self {
        // The smallest ones hold a few short lists.
        let bytes = A::bytes(&out) + 4096;
        Self { value: Arc::new(out), bytes, notes: notes.into() }
    }

    /// Whether nothing else holds it, so that it goes with this one.
    pub fn is_last(&self) -> bool {
        Arc::strong_count(&self.value) == 1
    }

    /// The product, if it is of this kind.
    pub fn of<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.value.clone().downcast().ok()
    }
}

/// An ask of any kind.
pub(super) trait AnyAsk: Debug + Send + Sync {
    fn product(&self, store: &Store, ctx: &Ctx) -> Result<Product>;
    fn run_key(&self) -> Option<&RunKey>;
    /// Its kind, and [`Ask::KEPT`] of it.
    fn kind(&self) -> (TypeId, usize);
    fn as_any(&self) -> &dyn Any;
    fn equals(&self, other: &dyn AnyAsk) -> bool;
    fn hash_into(&self, state: &mut dyn Hasher);
}

impl<A: Ask> AnyAsk for A {
    fn product(&self, store: &Store, ctx: &Ctx) -> Result<Product> {
        let out = self.carry_out(store, ctx)?;
        Ok(Product::new::<A>(out, ctx.notes()))
    }

    fn run_key(&self) -> Option<&RunKey> {
        self.run()
    }

    fn kind(&self) -> (TypeId, usize) {
        (TypeId::of::<A>(), A::KEPT)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn equals(&self, other: &dyn AnyAsk) -> bool {
        other.as_any().downcast_ref::<A>() == Some(self)
    }

    fn hash_into(&self, mut state: &mut dyn Hasher) {
        TypeId::of::<A>().hash(&mut state);
        self.hash(&mut state);
    }
}

impl PartialEq for dyn AnyAsk {
    fn eq(&self, other: &Self) -> bool {
        self.equals(other)
    }
}

impl Eq for dyn AnyAsk {}

impl Hash for dyn AnyAsk {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash_into(state);
    }
}

/// An ask of any kind, owned; its clones share it.
#[derive(Clone, Eq)]
pub(super) struct Key(Arc<dyn AnyAsk>);

impl Key {
    pub fn new<A: Ask>(ask: &A) -> Self {
        Self(Arc::new(ask.clone()))
    }
}

impl std::ops::Deref for Key {
    type Target = dyn AnyAsk;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.equals(&*other.0)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash_into(state);
    }
}

impl Borrow<dyn AnyAsk> for Key {
    fn borrow(&self) -> &(dyn AnyAsk + 'static) {
        &*self.0
    }
}

impl Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where something is shown; what was there last stays until what is asked for now is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Spot {
    /// The pane, by its number.
    pub pane: usize,
    /// The place in it, as the code of a view names it.
    pub place: &'static str,
    /// Which one of several of that place, e.g. the id of a method; empty where there is one.
    pub part: &'static str,
}

impl Spot {
    /// One of several spots of that place.
    pub fn part(place: &'static str, part: &'static str) -> Self {
        Self { place, part, ..Self::default() }
    }

    /// The same spot in that pane.
    pub fn of_pane(self, pane: usize) -> Self {
        Self { pane, ..self }
    }
}

impl From<&'static str> for Spot {
    fn from(place: &'static str) -> Self {
        Self { place, ..Self::default() }
    }
}
