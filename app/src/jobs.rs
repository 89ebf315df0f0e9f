//! Background jobs: what a view needs now is computed once, off the window's thread.
//!
//! Duplicates share one job; a few run at a time and the rest wait in line; what nobody asked for in the last frames
//! is cancelled, with what only it had asked for; a failure is not tried again until something changes; the previous
//! picture of a place stays until the new one is there. A panic in a job is that job's failure.

use crate::memory;
use crate::request::{Product, Request, Status};
use crate::work::{Store, carry_out};
use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokenscope_analysis::gpu::{Compute, Gpu};
use tokenscope_analysis::{Ctx, Error, Result};

/// Frames after which a job that nobody asks for is cancelled.
const PATIENCE: u64 = 2;
/// Finished products kept beyond those in use, however small they are.
const KEEP: usize = 512;

#[derive(Clone, Default)]
struct Running {
    cancel: Arc<AtomicBool>,
    /// Thousandths done.
    progress: Arc<AtomicU32>,
    /// Whether a thread has taken it up; before, it waits in line.
    started: bool,
    /// Jobs that wait for it.
    asked_by: HashSet<Request>,
}

enum Slot {
    Running(Running),
    Ready(Product),
    Failed(Arc<str>),
}

#[derive(Default)]
struct Inner {
    slots: HashMap<Request, (Slot, u64)>,
    /// What each spot showed last, and what had asked for it.
    latest: HashMap<&'static str, (Request, Product)>,
    frame: u64,
    /// Jobs that no thread has taken up.
    line: VecDeque<Request>,
    /// Threads that compute; those that wait for another job do not count.
    busy: isize,
}

type Carry = dyn Fn(&Request, &dyn Store, &Ctx) -> Result<Product> + Send + Sync;

/// All jobs of the window.
#[derive(Clone)]
pub struct Jobs {
    inner: Arc<Mutex<Inner>>,
    /// Signalled when a job ends or is cancelled.
    changed: Arc<Condvar>,
    wake: Arc<dyn Fn() + Send + Sync>,
    carry: Arc<Carry>,
    /// Threads that compute at once.
    threads: usize,
    /// Bytes of finished products kept beyond those in use.
    keep: u64,
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
        Self::with(wake, carry_out, threads, memory::total() / 4)
    }

    fn with(
        wake: impl Fn() + Send + Sync + 'static,
        carry: impl Fn(&Request, &dyn Store, &Ctx) -> Result<Product> + Send + Sync + 'static,
        threads: usize,
        keep: u64,
    ) -> Self {
        let compute = Compute::default();
        Self {
            inner: Arc::default(),
            changed: Arc::default(),
            wake: Arc::new(wake),
            carry: Arc::new(carry),
            threads,
            keep,
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
        let gone = inner.forget(self.keep, PATIENCE);
        drop(inner);
        drop_aside(gone);
    }

    /// Asks for a product for the spot `place`; called every frame, computed once.
    pub fn need(&self, place: &'static str, request: &Request) -> Status {
        let mut inner = self.lock();
        let frame = inner.frame;
        if let Some((slot, asked)) = inner.slots.get_mut(request) {
            *asked = frame;
            let status = match slot {
                Slot::Ready(p) => Status::Ready(p.clone()),
                Slot::Failed(why) => Status::Failed(why.clone()),
                Slot::Running(r) => Status::Running(r.progress.load(Ordering::Relaxed) as f32 / 1000.0, None),
            };
            return match status {
                Status::Ready(p) => {
                    inner.latest.insert(place, (request.clone(), p.clone()));
                    Status::Ready(p)
                }
                Status::Running(done, _) => Status::Running(done, inner.previous(place)),
                failed => failed,
            };
        }
        inner.slots.insert(request.clone(), (Slot::Running(Running::default()), frame));
        inner.line.push_back(request.clone());
        self.staff(&mut inner);
        Status::Running(0.0, inner.previous(place))
    }

    /// Starts threads for jobs in line, up to the number that may compute at once.
    fn staff(&self, inner: &mut Inner) {
        while inner.busy < self.threads as isize
            && let Some(request) = inner.next()
        {
            inner.busy += 1;
            let (jobs, first) = (self.clone(), request.clone());
            let started = std::thread::Builder::new().name("job".into()).spawn(move || jobs.work(first));
            if let Err(e) = started {
                inner.busy -= 1;
                let why = format!("no thread for the work: {e}").into();
                inner.slots.insert(request, (Slot::Failed(why), inner.frame));
            }
        }
    }

    /// A thread's life: one job, then those in line, until there are none.
    fn work(&self, mut request: Request) {
        loop {
            self.carry_out(&request);
            let mut inner = self.lock();
            let next = if inner.busy > self.threads as isize { None } else { inner.next() };
            match next {
                Some(next) => request = next,
                None => {
                    inner.busy -= 1;
                    return;
                }
            }
        }
    }

    /// Computes a job that was taken out of the line, and fills its slot.
    fn carry_out(&self, request: &Request) {
        let running = match self.lock().slots.get(request) {
            Some((Slot::Running(r), _)) => r.clone(),
            _ => return,
        };
        let progress = running.progress;
        // Threads of one job report in any order; progress never runs backwards.
        let report = Arc::new(move |share: f32| {
            progress.fetch_max((share * 1000.0) as u32, Ordering::Relaxed);
        });
        let ctx = Ctx::new(running.cancel.clone(), report)
            .with_gpu(self.gpu.clone(), self.compute)
            .with_room(memory::available);
        let store = Asker { jobs: self, by: request };
        let result = catch_unwind(AssertUnwindSafe(|| (self.carry)(request, &store, &ctx))).unwrap_or_else(|panic| {
            let words = panic.downcast_ref::<&str>().map(ToString::to_string);
            let words = words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Err(Error::invalid(format!(
                "this failed by a fault of Tokenscope, not of yours; please report it: {words}"
            )))
        });
        let mut inner = self.lock();
        let frame = inner.frame;
        // A cancelled job has lost its place, perhaps to a newer one for the same request.
        if !running.cancel.load(Ordering::Relaxed) {
            let slot = match result {
                Ok(p) => Slot::Ready(p),
                Err(e) => Slot::Failed(e.to_string().into()),
            };
            inner.slots.insert(request.clone(), (slot, frame));
        }
        drop(inner);
        self.changed.notify_all();
        (self.wake)();
    }

    /// The product of `request`, waited for on behalf of the job `by`, or of a caller outside the jobs.
    fn wait_for(&self, request: &Request, by: Option<&Request>, ctx: &Ctx) -> Result<Product> {
        let mut inner = self.lock();
        loop {
            ctx.check()?;
            let frame = inner.frame;
            let (slot, asked) =
                inner.slots.entry(request.clone()).or_insert_with(|| (Slot::Running(Running::default()), frame));
            *asked = frame;
            let r = match slot {
                Slot::Ready(p) => return Ok(p.clone()),
                Slot::Failed(why) => return Err(Error::invalid(why.to_string())),
                Slot::Running(r) => r,
            };
            r.asked_by.extend(by.cloned());
            if !std::mem::replace(&mut r.started, true) {
                // Nobody is at it: this thread would only wait, so it does the work itself.
                inner.line.retain(|waiting| waiting != request);
                drop(inner);
                self.carry_out(request);
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

    /// Waits until a job ends, at most for `pause`.
    pub fn wait(&self, pause: Duration) {
        let inner = self.lock();
        // Whether it was the time or a job that ended the wait is for the caller to see.
        let _ = self.changed.wait_timeout(inner, pause);
    }

    /// What computes, for the status line.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The product of `request` if it is there; starts nothing.
    pub fn ready(&self, request: &Request) -> Option<Product> {
        match self.lock().slots.get(request) {
            Some((Slot::Ready(p), _)) => Some(p.clone()),
            _ => None,
        }
    }

    /// Whether `request` was asked for and not forgotten since, ready or not.
    pub fn knows(&self, request: &Request) -> bool {
        self.lock().slots.contains_key(request)
    }

    /// The last product that the spot `place` showed.
    pub fn previous(&self, place: &'static str) -> Option<Product> {
        self.lock().previous(place)
    }

    /// What asked for the last product that the spot `place` showed.
    pub fn asked(&self, place: &'static str) -> Option<Request> {
        self.lock().latest.get(place).map(|l| l.0.clone())
    }

    /// Stops everything that runs.
    pub fn cancel_all(&self) {
        let mut inner = self.lock();
        for (slot, _) in inner.slots.values_mut() {
            if let Slot::Running(r) = slot {
                r.cancel.store(true, Ordering::Relaxed);
                *slot = Slot::Failed("stopped; change something or choose Retry".into());
            }
        }
        inner.line.clear();
        drop(inner);
        self.changed.notify_all();
    }

    /// Forgets failures, so that they are tried again.
    pub fn retry(&self) {
        self.lock().slots.retain(|_, (slot, _)| !matches!(slot, Slot::Failed(_)));
    }

    /// Number of jobs under way and the share done of the one that is least far.
    pub fn running(&self) -> (usize, f32) {
        let inner = self.lock();
        let shares: Vec<f32> = inner
            .slots
            .values()
            .filter_map(|(s, _)| {
                if let Slot::Running(r) = s { Some(r.progress.load(Ordering::Relaxed) as f32 / 1000.0) } else { None }
            })
            .collect();
        (shares.len(), shares.into_iter().fold(1.0, f32::min))
    }
}

impl Inner {
    fn previous(&self, place: &'static str) -> Option<Product> {
        self.latest.get(place).map(|l| l.1.clone())
    }

    /// The next job in line that is still wanted, now started.
    fn next(&mut self) -> Option<Request> {
        while let Some(request) = self.line.pop_front() {
            if let Some((Slot::Running(r), _)) = self.slots.get_mut(&request)
                && !r.started
            {
                r.started = true;
                return Some(request);
            }
        }
        None
    }

    /// Cancels jobs that neither a view asked for lately nor a wanted job waits for. True if there were any.
    fn cancel_unwanted(&mut self) -> bool {
        let frame = self.frame;
        let running = || {
            self.slots.iter().filter_map(|(q, (s, at))| if let Slot::Running(r) = s { Some((q, r, *at)) } else { None })
        };
        let mut wanted: HashSet<Request> =
            running().filter(|(.., asked)| asked + PATIENCE >= frame).map(|(q, ..)| q.clone()).collect();
        loop {
            let more: Vec<Request> = running()
                .filter(|(q, r, _)| !wanted.contains(*q) && r.asked_by.iter().any(|by| wanted.contains(by)))
                .map(|(q, ..)| q.clone())
                .collect();
            if more.is_empty() {
                break;
            }
            wanted.extend(more);
        }
        let before = self.slots.len();
        self.slots.retain(|q, (slot, _)| match slot {
            Slot::Running(r) if !wanted.contains(q) => {
                r.cancel.store(true, Ordering::Relaxed);
                false
            }
            _ => true,
        });
        self.slots.len() < before
    }

    /// Takes out the products that were not asked for longest until the others fit `keep` bytes; those of the last
    /// `patience` frames stay in any case.
    fn forget(&mut self, keep: u64, patience: u64) -> Vec<Product> {
        let of = |slot: &Slot| if let Slot::Ready(p) = slot { p.bytes() } else { 0 };
        let mut total: u64 = self.slots.values().map(|(slot, _)| of(slot)).sum();
        if total <= keep && self.slots.len() <= KEEP {
            return Vec::new();
        }
        let mut old: Vec<(u64, Request)> = self
            .slots
            .iter()
            .filter(|(_, (slot, asked))| !matches!(slot, Slot::Running(_)) && asked + patience < self.frame)
            .map(|(q, (_, asked))| (*asked, q.clone()))
            .collect();
        old.sort_by_key(|o| o.0);
        let mut gone = Vec::new();
        for (_, request) in old {
            if total <= keep && self.slots.len() <= KEEP {
                break;
            }
            if let Some((slot, _)) = self.slots.remove(&request) {
                total -= of(&slot);
                if let Slot::Ready(p) = slot {
                    gone.push(p);
                }
            }
        }
        gone
    }
}

/// Frees products on a thread of their own where they are large: giving back gigabytes takes longer than a frame.
fn drop_aside(gone: Vec<Product>) {
    if gone.iter().map(Product::bytes).sum::<u64>() > 64 << 20 {
        // Without a thread they are freed here, when the closure is dropped.
        let _ = std::thread::Builder::new().name("free".into()).spawn(move || drop(gone));
    }
}

/// The products as the job `by` asks for them.
struct Asker<'a> {
    jobs: &'a Jobs,
    by: &'a Request,
}

impl Store for Asker<'_> {
    fn get(&self, request: &Request, ctx: &Ctx) -> Result<Product> {
        self.jobs.wait_for(request, Some(self.by), ctx)
    }

    fn make_room(&self) {
        let mut inner = self.jobs.lock();
        let gone = inner.forget(0, PATIENCE);
        drop(inner);
        drop(gone);
    }

    fn others(&self) -> usize {
        // This job's own thread is one of the busy ones.
        (self.jobs.lock().busy - 1).max(0) as usize
    }
}

impl Store for Jobs {
    fn get(&self, request: &Request, ctx: &Ctx) -> Result<Product> {
        self.wait_for(request, None, ctx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{ModelSource, RunKey};
    use std::sync::atomic::AtomicUsize;
    use std::time::Instant;
    use tokenscope_analysis::image::Picture;

    fn key(prompt: &str) -> RunKey {
        RunKey { model: ModelSource::Sample("sample-lm"), prompt: prompt.into(), image: None }
    }

    /// Frames in which `needed` is asked for, until `done` or a minute is over.
    fn frames(jobs: &Jobs, needed: &[Request], done: impl Fn() -> bool) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) {
            jobs.begin_frame();
            needed.iter().for_each(|r| drop(jobs.need("test", r)));
            if done() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }

    fn wait(jobs: &Jobs, request: &Request) -> Status {
        let running = || matches!(jobs.need("test", request), Status::Running(..));
        assert!(frames(jobs, std::slice::from_ref(request), || !running()), "{request:?} did not end");
        jobs.need("test", request)
    }

    /// A carrier that counts how many of its calls are under way and were ever at once, and ends when cancelled.
    #[derive(Default)]
    struct Endless {
        now: AtomicUsize,
        most: AtomicUsize,
        ended: AtomicUsize,
    }

    impl Endless {
        fn run(&self, ctx: &Ctx) -> Result<Product> {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            while ctx.check().is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.now.fetch_sub(1, Ordering::SeqCst);
            self.ended.fetch_add(1, Ordering::SeqCst);
            Err(Error::Cancelled)
        }
    }

    #[test]
    fn a_trace_of_the_sample_arrives_with_the_model_it_needs() {
        let jobs = Jobs::new(|| ());
        let request = Request::Trace(key("The fox met a cat."));
        assert!(matches!(wait(&jobs, &request), Status::Ready(Product::Trace(_))));
    }

    #[test]
    fn a_job_knows_how_many_others_compute() {
        let both = std::sync::Barrier::new(2);
        let carry = move |request: &Request, store: &dyn Store, _: &Ctx| {
            let pair = !matches!(request, Request::Lens(_));
            if pair {
                both.wait();
            }
            let others = store.others();
            if pair {
                both.wait();
            }
            Err(Error::invalid(format!("{others} others")))
        };
        let jobs = Jobs::with(|| (), carry, 2, 1 << 20);
        let (a, b) = (Request::Trace(key("a")), Request::Trace(key("b")));
        // Both are asked for all the time, or the one that is not waited for would be cancelled.
        let ended = |r: &Request| !matches!(jobs.need("test", r), Status::Running(..));
        assert!(frames(&jobs, &[a.clone(), b.clone()], || ended(&a) && ended(&b)));
        for request in [&a, &b] {
            assert!(matches!(wait(&jobs, request), Status::Failed(why) if why.contains("1 others")));
        }
        let alone = Request::Lens(key("c"));
        assert!(matches!(wait(&jobs, &alone), Status::Failed(why) if why.contains("0 others")));
        assert!(jobs.knows(&alone) && !jobs.knows(&Request::Lens(key("d"))));
    }

    #[test]
    fn a_failure_names_the_file_and_is_not_tried_again() {
        let jobs = Jobs::new(|| ());
        let request = Request::Model(ModelSource::Path("/nowhere".into()));
        let Status::Failed(why) = wait(&jobs, &request) else { panic!("it must fail") };
        assert!(why.contains("/nowhere"), "{why}");
        assert!(matches!(jobs.need("test", &request), Status::Failed(_)));
        jobs.retry();
        assert!(matches!(jobs.need("test", &request), Status::Running(..)));
    }

    #[test]
    fn jobs_say_what_computes() {
        assert!(Jobs::new(|| ()).device().starts_with("computing on the CPU; there is no graphics adapter"));
        let forced = Jobs::new(|| ()).on(None, Compute::Cpu);
        assert_eq!(forced.device(), "computing on the CPU, because TOKENSCOPE_COMPUTE says so");
        let lacking = Jobs::new(|| ()).on(None, Compute::Gpu);
        let map = Request::Map(crate::request::Scope { run: key("The fox"), tower: None }, 0, 0, None);
        let Status::Failed(why) = wait(&lacking, &map) else { panic!("there is nothing to compute on") };
        assert!(why.contains("asks for a graphics adapter"), "{why}");
    }

    #[test]
    fn a_panic_is_a_failure_with_words_and_later_jobs_still_run() {
        let carry = |request: &Request, _: &dyn Store, _: &Ctx| match request {
            Request::Lens(_) => panic!("index 7 is out of range"),
            _ => Ok(Product::Merges(Arc::default())),
        };
        let jobs = Jobs::with(|| (), carry, 1, 1 << 20);
        let Status::Failed(why) = wait(&jobs, &Request::Lens(key("a"))) else { panic!("it must fail") };
        assert!(why.contains("index 7 is out of range") && why.contains("report"), "{why}");
        assert!(matches!(wait(&jobs, &Request::Trace(key("a"))), Status::Ready(_)));
    }

    #[test]
    fn a_burst_of_changes_runs_a_few_jobs_at_a_time_and_drops_the_stale_ones() {
        let count = Arc::new(Endless::default());
        let own = count.clone();
        let jobs = Jobs::with(|| (), move |_, _, ctx| own.run(ctx), 3, 1 << 20);
        for i in 0..200 {
            jobs.begin_frame();
            jobs.need("test", &Request::Lens(key(&i.to_string())));
        }
        assert!(frames(&jobs, &[], || count.now.load(Ordering::SeqCst) == 0 && jobs.running().0 == 0));
        assert!((1..=3).contains(&count.most.load(Ordering::SeqCst)));
        // Those that were never started left the line with the frames that wanted them.
        assert!(count.ended.load(Ordering::SeqCst) < 200);
        assert!(frames(&jobs, &[], || jobs.lock().busy == 0), "threads that nobody needs end");
    }

    #[test]
    fn what_only_a_cancelled_job_asked_for_is_cancelled_with_it() {
        let count = Arc::new(Endless::default());
        let own = count.clone();
        let carry = move |request: &Request, store: &dyn Store, ctx: &Ctx| match request {
            Request::Trace(_) => own.run(ctx),
            _ => store.get(&Request::Trace(key("a")), ctx),
        };
        let jobs = Jobs::with(|| (), carry, 2, 1 << 20);
        let (first, second) =
            (Request::Lens(key("a")), Request::Thumbnails(crate::request::Scope { run: key("a"), tower: None }));
        let both_wait = || match jobs.lock().slots.get(&Request::Trace(key("a"))) {
            Some((Slot::Running(r), _)) => r.asked_by.len() == 2 && count.now.load(Ordering::SeqCst) == 1,
            _ => false,
        };
        assert!(frames(&jobs, &[first.clone(), second.clone()], both_wait));
        // One of two that wait goes, perhaps the one whose thread computes: the trace goes on for the other.
        for _ in 0..20 {
            jobs.begin_frame();
            jobs.need("test", &second);
        }
        assert_eq!((jobs.running().0, count.now.load(Ordering::SeqCst)), (2, 1));
        assert!(frames(&jobs, &[], || count.now.load(Ordering::SeqCst) == 0 && jobs.lock().busy == 0));
        assert_eq!(jobs.running().0, 0);
    }

    #[test]
    fn jobs_that_wait_for_others_leave_their_place_to_those() {
        // A chain as long as there are threads, and a second job for each link.
        let carry = |request: &Request, store: &dyn Store, ctx: &Ctx| match request {
            Request::Lens(k) | Request::Trace(k) if k.prompt.len() < 6 => {
                std::thread::sleep(Duration::from_millis(3));
                store.get(&Request::Trace(key(&format!("{}a", k.prompt))), ctx)
            }
            _ => Ok(Product::Merges(Arc::default())),
        };
        let jobs = Jobs::with(|| (), carry, 1, 1 << 20);
        let all: Vec<Request> = (0..6).map(|i| Request::Lens(key(&"a".repeat(i)))).collect();
        let ready = || all.iter().all(|r| jobs.ready(r).is_some());
        assert!(frames(&jobs, &all, ready));
        assert!(frames(&jobs, &[], || jobs.lock().busy == 0));
    }

    #[test]
    fn products_are_kept_by_their_size_and_those_in_use_stay() {
        let picture = Picture { width: 1, height: 1, rgb: vec![0; 1 << 20] };
        let carry = move |_: &Request, _: &dyn Store, _: &Ctx| Ok(Product::Picture(Arc::new(picture.clone())));
        // Room for three of a megabyte.
        let jobs = Jobs::with(|| (), carry, 2, 7 << 19);
        let all: Vec<Request> = (0..6).map(|i| Request::Lens(key(&i.to_string()))).collect();
        let ready = |list: &[Request]| list.iter().filter(|r| jobs.ready(r).is_some()).count();
        assert!(frames(&jobs, &all, || ready(&all) == 6), "all six are asked for, so all six are kept");
        // The first stays in use; of the others, the latest two fit beside it.
        for r in &all[1..] {
            assert!(frames(&jobs, &[all[0].clone(), r.clone()], || jobs.ready(r).is_some()));
        }
        assert!(frames(&jobs, &all[..1], || ready(&all) == 3));
        assert_eq!(
            all.iter().map(|r| jobs.ready(r).is_some()).collect::<Vec<_>>(),
            [true, false, false, false, true, true]
        );
        for _ in 0..=PATIENCE {
            assert!(frames(&jobs, &all[..1], || true));
        }
        Asker { jobs: &jobs, by: &all[0] }.make_room();
        assert_eq!(ready(&all), 1);
    }

    #[test]
    fn a_stop_ends_what_runs_and_what_waits_in_line() {
        let count = Arc::new(Endless::default());
        let own = count.clone();
        let jobs = Jobs::with(|| (), move |_, _, ctx| own.run(ctx), 1, 1 << 20);
        let all: Vec<Request> = (0..3).map(|i| Request::Lens(key(&i.to_string()))).collect();
        assert!(frames(&jobs, &all, || count.now.load(Ordering::SeqCst) == 1));
        jobs.cancel_all();
        assert!(frames(&jobs, &[], || jobs.lock().busy == 0));
        assert_eq!(count.ended.load(Ordering::SeqCst), 1);
        assert!(matches!(jobs.need("test", &all[2]), Status::Failed(_)));
    }
}
