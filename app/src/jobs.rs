//! Background jobs: what a view needs now is computed once, off the window's thread.
//!
//! Duplicates share one job; what nobody asked for in the last frames is cancelled; a failure is not tried
//! again until something changes; the previous picture of a place stays until the new one is there.

use crate::request::{Product, Request, Status};
use crate::work::{Store, carry_out};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokenscope_analysis::gpu::{Compute, Gpu};
use tokenscope_analysis::{Ctx, Error, Result};

/// Frames after which a job that nobody asks for is cancelled.
const PATIENCE: u64 = 3;
/// Finished products kept beyond those in use.
const KEEP: usize = 64;

struct Running {
    cancel: Arc<AtomicBool>,
    /// Thousandths done.
    progress: Arc<AtomicU32>,
}

enum Slot {
    Running(Running),
    Ready(Product),
    Failed(Arc<str>),
}

#[derive(Default)]
struct Inner {
    slots: HashMap<Request, (Slot, u64)>,
    latest: HashMap<&'static str, Product>,
    frame: u64,
}

/// All jobs of the window.
#[derive(Clone)]
pub struct Jobs {
    inner: Arc<Mutex<Inner>>,
    wake: Arc<dyn Fn() + Send + Sync>,
    gpu: Option<Arc<Gpu>>,
    compute: Compute,
    /// What computes, in words.
    device: Arc<str>,
}

impl Jobs {
    /// Jobs that call `wake` when something new can be drawn.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        let compute = Compute::default();
        let device = compute.words(None).into();
        Self { inner: Arc::default(), wake: Arc::new(wake), gpu: None, compute, device }
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
        let frame = inner.frame;
        inner.slots.retain(|_, (slot, asked)| match slot {
            Slot::Running(r) if *asked + PATIENCE < frame => {
                r.cancel.store(true, Ordering::Relaxed);
                false
            }
            _ => true,
        });
        if inner.slots.len() > KEEP {
            let mut ages: Vec<u64> = inner.slots.values().map(|s| s.1).collect();
            ages.sort_unstable();
            let oldest = ages[inner.slots.len() - KEEP];
            inner.slots.retain(|_, (slot, asked)| *asked >= oldest || matches!(slot, Slot::Running(_)));
        }
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
                    inner.latest.insert(place, p.clone());
                    Status::Ready(p)
                }
                Status::Running(done, _) => Status::Running(done, inner.latest.get(place).cloned()),
                failed => failed,
            };
        }
        let running = Running { cancel: Arc::default(), progress: Arc::default() };
        let (cancel, progress) = (running.cancel.clone(), running.progress.clone());
        inner.slots.insert(request.clone(), (Slot::Running(running), frame));
        let previous = inner.latest.get(place).cloned();
        drop(inner);
        let (jobs, request) = (self.clone(), request.clone());
        // Threads of one job report in any order; progress never runs backwards.
        let report = Arc::new(move |share: f32| {
            progress.fetch_max((share * 1000.0) as u32, Ordering::Relaxed);
        });
        let (gpu, compute) = (self.gpu.clone(), self.compute);
        let started = std::thread::Builder::new().name("job".into()).spawn(move || {
            let ctx = Ctx::new(cancel.clone(), report).with_gpu(gpu, compute);
            let result = carry_out(&request, &jobs, &ctx);
            jobs.finish(request, result, &cancel);
        });
        match started {
            Ok(_) => Status::Running(0.0, previous),
            Err(e) => Status::Failed(format!("no thread for the work: {e}").into()),
        }
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

    /// The last product that the spot `place` showed.
    pub fn previous(&self, place: &'static str) -> Option<Product> {
        self.lock().latest.get(place).cloned()
    }

    fn finish(&self, request: Request, result: Result<Product>, cancel: &AtomicBool) {
        let mut inner = self.lock();
        let frame = inner.frame;
        // A cancelled job has lost its place, perhaps to a newer one for the same request.
        if !cancel.load(Ordering::Relaxed) {
            let slot = match result {
                Ok(p) => Slot::Ready(p),
                Err(e) => Slot::Failed(e.to_string().into()),
            };
            inner.slots.insert(request, (slot, frame));
        }
        drop(inner);
        (self.wake)();
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

impl Store for Jobs {
    fn get(&self, request: &Request, ctx: &Ctx) -> Result<Product> {
        // What several jobs build on is worth waiting for: whoever comes second sees the first one's slot.
        loop {
            {
                let mut inner = self.lock();
                let frame = inner.frame;
                match inner.slots.get_mut(request) {
                    Some((Slot::Ready(p), asked)) => {
                        *asked = frame;
                        return Ok(p.clone());
                    }
                    Some((Slot::Failed(why), _)) => return Err(Error::invalid(why.to_string())),
                    Some((Slot::Running(_), asked)) => *asked = frame,
                    None => {
                        drop(inner);
                        self.need("", request);
                    }
                }
            }
            ctx.step(0, 1)?;
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{ModelSource, RunKey};
    use std::time::{Duration, Instant};

    fn wait(jobs: &Jobs, request: &Request) -> Status {
        let start = Instant::now();
        loop {
            jobs.begin_frame();
            match jobs.need("test", request) {
                Status::Running(..) if start.elapsed() < Duration::from_secs(60) => {
                    std::thread::sleep(Duration::from_millis(5))
                }
                done => return done,
            }
        }
    }

    #[test]
    fn a_trace_of_the_sample_arrives_with_the_model_it_needs() {
        let jobs = Jobs::new(|| ());
        let key = RunKey { model: ModelSource::Sample("sample-lm"), prompt: "The fox met a cat.".into(), image: None };
        assert!(matches!(wait(&jobs, &Request::Trace(key)), Status::Ready(Product::Trace(_))));
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
        let key = RunKey { model: ModelSource::Sample("sample-lm"), prompt: "The fox".into(), image: None };
        let map = Request::Map(crate::request::Scope { run: key, tower: None }, 0, 0, None);
        let Status::Failed(why) = wait(&lacking, &map) else { panic!("there is nothing to compute on") };
        assert!(why.contains("asks for a graphics adapter"), "{why}");
    }

    #[test]
    fn what_nobody_asks_for_is_cancelled() {
        let jobs = Jobs::new(|| ());
        jobs.begin_frame();
        let key = RunKey { model: ModelSource::Sample("sample-lm"), prompt: "The fox".into(), image: None };
        jobs.need("test", &Request::Lens(key));
        for _ in 0..=PATIENCE {
            jobs.begin_frame();
        }
        jobs.begin_frame();
        assert_eq!(jobs.running().0, 0);
    }
}
