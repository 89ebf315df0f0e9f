//! Background jobs: what a view needs now is computed once, off the window's thread.
//!
//! Duplicates share one job; a few run at a time and the rest wait in line; what nobody asked for in the last frames
//! is cancelled, with what only it had asked for; a failure is not tried again until something changes; the previous
//! picture of a spot stays until the new one is there, or what is there of it so far. A job that finds no room for its
//! result is tried once more after everything that nobody shows was forgotten. A panic in a job is that job's failure.

mod ask;
mod slots;
#[cfg(test)]
mod tests;

pub use ask::{Ask, Spot, Status};

use crate::keys::RunKey;
use crate::memory;
use ask::{AnyAsk, Key, Product};
use slots::{Inner, Known, Running, Slot};
use std::any::TypeId;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokenscope_analysis::foreign::fault;
use tokenscope_analysis::gpu::{Compute, Gpu};
use tokenscope_analysis::threads::alone;
use tokenscope_analysis::weights::Hold;
use tokenscope_analysis::{Ctx, Error, Result};

/// Frames after which a job that nobody asks for is cancelled.
const PATIENCE: u64 = 2;
/// A window that draws no frame for so long shows nothing that must be kept.
const A_FRAME: Duration = Duration::from_millis(300);

/// All jobs of the window.
#[derive(Clone)]
pub struct Jobs {
    inner: Arc<Mutex<Inner>>,
    /// Signalled when a job ends or is cancelled.
    changed: Arc<Condvar>,
    wake: Arc<dyn Fn() + Send + Sync>,
    /// Threads that compute at once.
    threads: usize,
    /// Bytes of finished products kept beyond those in use.
    keep: u64,
    /// Bytes of memory that can be had now.
    room: fn() -> u64,
    gpu: Option<Arc<Gpu>>,
    compute: Compute,
    /// What computes, in words.
    device: Arc<str>,
}

impl Jobs {
    /// Jobs that call `wake` when something new can be drawn.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        // Most jobs use every core for their heavy part; more at once only keeps short ones from waiting for long ones.
        let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(4, 8);
        Self::with(wake, threads, memory::total() / 4)
    }

    fn with(wake: impl Fn() + Send + Sync + 'static, threads: usize, keep: u64) -> Self {
        let compute = Compute::default();
        Self {
            inner: Arc::default(),
            changed: Arc::default(),
            wake: Arc::new(wake),
            threads,
            keep,
            room: memory::available,
            gpu: None,
            compute,
            device: compute.words(None).into(),
        }
    }

    /// The same with a graphics adapter and the user's wish where passes compute.
    pub fn on(self, gpu: Option<Arc<Gpu>>, compute: Compute) -> Self {
        let device = compute.words(gpu.as_deref()).into();
        Self { gpu, compute, device, ..self }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a frame: cancels what nobody asked for lately and forgets the oldest products.
    pub fn begin_frame(&self) {
        let mut inner = self.lock();
        inner.frame += 1;
        if inner.cancel_unwanted() {
            self.changed.notify_all();
        }
        let until = inner.frame.saturating_sub(PATIENCE);
        let gone = inner.forget(self.keep, until);
        drop(inner);
        drop_aside(gone);
    }

    /// Asks for a product for a spot; called every frame, computed once.
    pub fn need<A: Ask>(&self, spot: impl Into<Spot>, ask: &A) -> Status<A::Out> {
        let spot = spot.into();
        let mut inner = self.lock();
        let Some(Known { key, slot, .. }) = inner.asked(ask) else {
            let key = Key::new(ask);
            inner.fill(&key, Slot::Running(Running::default()));
            inner.line.push_back(key);
            self.staff(&mut inner);
            return Status::Running(0.0, previous(&inner, spot));
        };
        match slot {
            Slot::Failed(why) => Status::Failed(why.clone()),
            Slot::Ready(p) => {
                let (key, product) = (key.clone(), p.clone());
                let out = own::<A>(&product);
                inner.latest.insert(spot, (key, product));
                Status::Ready(out)
            }
            Slot::Running(r) => match (r.done(), &r.so_far) {
                (done, Some(p)) => Status::Partly(done, own::<A>(p)),
                (done, None) => Status::Running(done, previous(&inner, spot)),
            },
        }
    }

    /// Starts threads for jobs in line, up to the number that may compute at once.
    fn staff(&self, inner: &mut Inner) {
        while inner.busy < self.threads as isize
            && let Some(key) = inner.next()
        {
            inner.busy += 1;
            let (jobs, first) = (self.clone(), key.clone());
            let started = std::thread::Builder::new().name("job".into()).spawn(move || alone(|| jobs.work(first)));
            if let Err(e) = started {
                inner.busy -= 1;
                let why = Error::invalid(format!("no thread for the work: {e}"));
                inner.fill(&key, Slot::Failed(Arc::new(why)));
            }
        }
    }

    /// A thread's life: one job, then those in line, until there are none.
    fn work(&self, mut key: Key) {
        loop {
            self.carry_out(&key);
            let mut inner = self.lock();
            let next = if inner.busy > self.threads as isize { None } else { inner.next() };
            match next {
                Some(next) => key = next,
                None => {
                    inner.busy -= 1;
                    return;
                }
            }
        }
    }

    /// Computes a job that was taken out of the line, and fills its slot.
    fn carry_out(&self, key: &Key) {
        let running = match self.lock().slots.get(key) {
            Some(Known { slot: Slot::Running(r), .. }) => r.clone(),
            _ => return,
        };
        let full = |result: &Result<Product>| matches!(result, Err(Error::Memory { .. }));
        let mut result = self.attempt(key, &running, false);
        if full(&result) && self.make_room() {
            result = self.attempt(key, &running, false);
        }
        // Files are slower than memory, so they come last.
        if full(&result) {
            result = self.attempt(key, &running, true);
        }
        if let Err(e) = &result
            && !matches!(e, Error::Cancelled)
        {
            crate::log::line(&format!("failed: {e}"));
        }
        let mut inner = self.lock();
        // A cancelled job has lost its place, perhaps to a newer one for the same ask.
        if !running.cancel.load(Ordering::Relaxed) {
            inner.fill(key, result.map_or_else(|e| Slot::Failed(Arc::new(e)), Slot::Ready));
        }
        drop(inner);
        self.changed.notify_all();
        (self.wake)();
    }

    /// Computes a job once; `spills` says whether what a run keeps may go into a file.
    fn attempt(&self, key: &Key, running: &Running, spills: bool) -> Result<Product> {
        let progress = running.progress.clone();
        // Threads of one job report in any order; progress never runs backwards.
        let report = Arc::new(move |share: f32| {
            progress.fetch_max((share * 1000.0) as u32, Ordering::Relaxed);
        });
        let ctx =
            Ctx::new(running.cancel.clone(), report).with_gpu(self.gpu.clone(), self.compute).with_room(self.room);
        let ctx = if spills { ctx.spilling_to(&memory::folder()) } else { ctx };
        let store = Store { jobs: self, by: key, cancel: &running.cancel };
        catch_unwind(AssertUnwindSafe(|| key.product(&store, &ctx)))
            .unwrap_or_else(|panic| Err(fault(panic.as_ref(), "")))
    }

    /// The product of `ask`, computed now if it is not there, for callers that can wait. What the user should know
    /// about it becomes notes of `ctx`.
    pub fn get<A: Ask>(&self, ask: &A, ctx: &Ctx) -> Result<Arc<A::Out>> {
        self.wait_for(ask, None, ctx)
    }

    /// The product of `ask`, waited for on behalf of the job `by`, or of a caller outside the jobs.
    fn wait_for<A: Ask>(&self, ask: &A, by: Option<&Key>, ctx: &Ctx) -> Result<Arc<A::Out>> {
        let product = self.wait_for_any(&Key::new(ask), by, ctx)?;
        let known = ctx.notes();
        product.notes.iter().filter(|n| !known.contains(n)).for_each(|n| ctx.note(n));
        Ok(own::<A>(&product))
    }

    fn wait_for_any(&self, key: &Key, by: Option<&Key>, ctx: &Ctx) -> Result<Product> {
        let mut inner = self.lock();
        loop {
            ctx.check()?;
            if inner.asked(&**key).is_none() {
                inner.fill(key, Slot::Running(Running::default()));
            }
            let r = match inner.slots.get_mut(key).map(|k| &mut k.slot) {
                Some(Slot::Ready(p)) => return Ok(p.clone()),
                Some(Slot::Failed(why)) => return Err(why.as_ref().clone()),
                Some(Slot::Running(r)) => r,
                None => continue,
            };
            r.asked_by.extend(by.cloned());
            if !std::mem::replace(&mut r.started, true) {
                // Nobody is at it: this thread would only wait, so it does the work itself.
                inner.line.retain(|waiting| waiting != key);
                drop(inner);
                self.carry_out(key);
                inner = self.lock();
                continue;
            }
            if by.is_some() {
                inner.busy -= 1;
                self.staff(&mut inner);
            }
            // The pause is for callers whose cancel flag nobody signals.
            let waited = self.changed.wait_timeout(inner, Duration::from_millis(50));
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
            if by.is_some() {
                inner.busy += 1;
            }
        }
    }

    /// Forgets everything that nobody shows, the last picture of each spot included, because memory is needed. True
    /// if there was anything; then jobs that found no room may be tried again.
    fn make_room(&self) -> bool {
        self.see_a_frame();
        let mut inner = self.lock();
        // Without a window nobody asks twice.
        let until = inner.frame.checked_sub(1).unwrap_or(u64::MAX);
        let mut gone = inner.forget(0, until);
        let shown: Vec<Product> = inner.latest.drain().map(|(_, (_, product))| product).collect();
        gone.extend(shown.into_iter().filter(Product::is_last));
        if gone.is_empty() {
            return false;
        }
        inner.slots.retain(|_, k| !matches!(&k.slot, Slot::Failed(why) if matches!(**why, Error::Memory { .. })));
        drop(inner);
        drop(gone);
        true
    }

    /// Waits until a whole frame was drawn, so that everything that is shown was asked for; or for a while, where
    /// there is no window, or none that draws.
    fn see_a_frame(&self) {
        let mut inner = self.lock();
        // The frame that is being drawn, and one after it from its beginning to its end.
        let (seen, start) = (inner.frame + 2, Instant::now());
        while (1..seen).contains(&inner.frame) && start.elapsed() < A_FRAME {
            drop(inner);
            (self.wake)();
            std::thread::sleep(Duration::from_millis(5));
            inner = self.lock();
        }
    }

    /// Whether frames were drawn with these jobs.
    pub fn has_window(&self) -> bool {
        self.lock().frame > 0
    }

    /// Waits until a job ends, at most for `pause`.
    pub fn wait(&self, pause: Duration) {
        let inner = self.lock();
        // Whether it was the time or a job that ended the wait is for the caller to see.
        let _ = self.changed.wait_timeout(inner, pause);
    }

    /// Holds the weights of models that are opened from now on so. Whether that is another way than before.
    pub fn hold(&self, hold: Hold) -> bool {
        std::mem::replace(&mut self.lock().hold, hold) != hold
    }

    /// How weights are held.
    pub fn held(&self) -> Hold {
        self.lock().hold
    }

    /// Forgets every product of this kind, what is under way of it, and all failures, so that whoever asks has them
    /// made anew. The old ones go first, as far as nobody works with them.
    pub fn again<A: Ask>(&self) {
        let gone = self.lock().forget_all(TypeId::of::<A>());
        drop(gone);
        self.changed.notify_all();
        (self.wake)();
    }

    /// What computes, for the status line.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The product of `ask` if it is there; starts nothing.
    pub fn ready<A: Ask>(&self, ask: &A) -> Option<Arc<A::Out>> {
        match self.lock().slots.get(ask as &dyn AnyAsk) {
            Some(Known { slot: Slot::Ready(p), .. }) => Some(own::<A>(p)),
            _ => None,
        }
    }

    /// Whether `ask` was asked for and not forgotten since, ready or not.
    pub fn knows<A: Ask>(&self, ask: &A) -> bool {
        self.lock().slots.contains_key(ask as &dyn AnyAsk)
    }

    /// Whether `ask` is under way, or waits in line.
    pub fn is_running<A: Ask>(&self, ask: &A) -> bool {
        matches!(self.lock().slots.get(ask as &dyn AnyAsk), Some(Known { slot: Slot::Running(_), .. }))
    }

    /// Whether `ask` was tried and failed.
    pub fn has_failed<A: Ask>(&self, ask: &A) -> bool {
        matches!(self.lock().slots.get(ask as &dyn AnyAsk), Some(Known { slot: Slot::Failed(_), .. }))
    }

    /// Every product of a kind that is there, and what asked for it.
    pub fn products<A: Ask>(&self) -> Vec<(A, Arc<A::Out>)> {
        let inner = self.lock();
        let of = |k: &Known| match &k.slot {
            Slot::Ready(p) => k.key.as_any().downcast_ref::<A>().map(|ask| (ask.clone(), own::<A>(p))),
            _ => None,
        };
        inner.slots.values().filter_map(of).collect()
    }

    /// Takes a product that was made elsewhere, with what the user should know about it; one that is known, or under way,
    /// stays as it is.
    pub fn put<A: Ask>(&self, ask: &A, out: A::Out, notes: Vec<String>) {
        let mut inner = self.lock();
        if inner.asked(ask).is_none() {
            inner.fill(&Key::new(ask), Slot::Ready(Product::new::<A>(out, notes)));
        }
    }

    /// The last product that a spot showed, if it is of this kind.
    pub fn previous<T: Send + Sync + 'static>(&self, spot: impl Into<Spot>) -> Option<Arc<T>> {
        previous(&self.lock(), spot.into())
    }

    /// The run of the last product that a spot showed; `None` inside where it hangs on no run.
    pub fn run_of(&self, spot: impl Into<Spot>) -> Option<Option<RunKey>> {
        self.lock().latest.get(&spot.into()).map(|l| l.0.run_key().cloned())
    }

    /// What the user should know about the last product that a spot showed.
    pub fn notes(&self, spot: impl Into<Spot>) -> Arc<[String]> {
        self.lock().latest.get(&spot.into()).map(|l| l.1.notes.clone()).unwrap_or_default()
    }

    /// Stops everything that runs.
    pub fn cancel_all(&self) {
        let mut inner = self.lock();
        let stopped = Arc::new(Error::invalid("stopped; change something or choose Retry"));
        for known in inner.slots.values_mut() {
            if let Slot::Running(r) = &known.slot {
                r.cancel.store(true, Ordering::Relaxed);
                known.slot = Slot::Failed(stopped.clone());
            }
        }
        inner.line.clear();
        drop(inner);
        self.changed.notify_all();
    }

    /// Forgets failures, so that they are tried again.
    pub fn retry(&self) {
        self.lock().slots.retain(|_, k| !matches!(k.slot, Slot::Failed(_)));
    }

    /// Number of jobs under way and the share done of the one that is least far.
    pub fn running(&self) -> (usize, f32) {
        let inner = self.lock();
        let running = |k: &Known| if let Slot::Running(r) = &k.slot { Some(r.done()) } else { None };
        let shares: Vec<f32> = inner.slots.values().filter_map(running).collect();
        (shares.len(), shares.into_iter().fold(1.0, f32::min))
    }
}

/// The products as a job asks for them.
pub struct Store<'a> {
    jobs: &'a Jobs,
    by: &'a Key,
    cancel: &'a Arc<AtomicBool>,
}

impl Store<'_> {
    /// The product of `ask`, made now if it is not there. What the user should know about it becomes notes of `ctx`.
    pub fn get<A: Ask>(&self, ask: &A, ctx: &Ctx) -> Result<Arc<A::Out>> {
        self.jobs.wait_for(ask, Some(self.by), ctx)
    }

    /// Shows what is there so far of the product that this job, one for `A`, will give.
    pub fn show<A: Ask>(&self, so_far: A::Out) {
        debug_assert!(self.by.as_any().is::<A>(), "{:?} shows what it does not give", self.by);
        let mut inner = self.jobs.lock();
        if let Some(Known { slot: Slot::Running(r), .. }) = inner.slots.get_mut(self.by)
            && Arc::ptr_eq(&r.cancel, self.cancel)
        {
            r.so_far = Some(Product::new::<A>(so_far, Vec::new()));
            drop(inner);
            (self.jobs.wake)();
        }
    }

    /// How weights are held.
    pub fn hold(&self) -> Hold {
        self.jobs.held()
    }

    /// Other jobs that compute at this moment.
    pub fn others(&self) -> usize {
        // This job's own thread is one of the busy ones.
        (self.jobs.lock().busy - 1).max(0) as usize
    }
}

/// The product of an `A`.
fn own<A: Ask>(product: &Product) -> Arc<A::Out> {
    product.of().expect("a slot holds what its ask gives")
}

fn previous<T: Send + Sync + 'static>(inner: &Inner, spot: Spot) -> Option<Arc<T>> {
    inner.latest.get(&spot).and_then(|l| l.1.of())
}

/// Frees products on a thread of their own where they are large: giving back gigabytes takes longer than a frame.
fn drop_aside(gone: Vec<Product>) {
    if gone.iter().map(|p| p.bytes).sum::<u64>() > 64 << 20 {
        // Without a thread they are freed here, when the closure is dropped.
        let _ = std::thread::Builder::new().name("free".into()).spawn(move || drop(gone));
    }
}
