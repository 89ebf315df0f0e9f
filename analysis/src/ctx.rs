//! What a long computation is given besides its input: progress, cancel, seed, notes and the GPU.

use crate::gpu::{Compute, Gpu, Side};
use crate::{Error, Result};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Called with the share done (0..=1).
pub type ProgressFn = Arc<dyn Fn(f32) + Send + Sync>;

/// Context of one computation. Cheap to clone; clones share cancel flag, notes and the count of passes.
#[derive(Clone, Default)]
pub struct Ctx {
    cancel: Arc<AtomicBool>,
    progress: Option<ProgressFn>,
    /// Where the progress of this part lies in that of the whole: start and length. `None` is the whole.
    part: Option<(f32, f32)>,
    notes: Arc<Mutex<Vec<String>>>,
    passes: Arc<AtomicUsize>,
    /// The graphics adapter, if there is one; [`Ctx::compute`] says whether passes use it.
    pub gpu: Option<Arc<Gpu>>,
    /// Where the user wants passes to compute.
    pub compute: Compute,
    /// Seed of everything random in this computation.
    pub seed: u64,
    /// Bytes of memory that can be had now. `None` is as much as is asked for.
    room: Option<fn() -> u64>,
    /// Where arrays go that memory has no room for. `None` refuses them.
    spill: Option<Arc<Path>>,
    /// How often the cancel flag was looked at.
    #[cfg(test)]
    looks: Arc<AtomicUsize>,
}

impl Ctx {
    /// A context that watches `cancel` and reports to `progress`.
    pub fn new(cancel: Arc<AtomicBool>, progress: ProgressFn) -> Self {
        Self { cancel, progress: Some(progress), ..Self::default() }
    }

    /// The same context with a graphics adapter and the user's wish where to compute.
    pub fn with_gpu(mut self, gpu: Option<Arc<Gpu>>, compute: Compute) -> Self {
        self.gpu = gpu;
        self.compute = compute;
        self
    }

    /// The same context, in which what needs more bytes than `room` gives is refused.
    pub fn with_room(mut self, room: fn() -> u64) -> Self {
        self.room = Some(room);
        self
    }

    /// The same context, in which what a run keeps goes into a file in `folder` where memory has no room for it.
    pub fn spilling_to(mut self, folder: &Path) -> Self {
        self.spill = Some(folder.into());
        self
    }

    /// Where arrays go that memory has no room for, if anywhere.
    pub fn spill(&self) -> Option<&Path> {
        self.spill.as_deref()
    }

    /// Bytes of memory that can be had now; `None` where that is not asked.
    pub fn room(&self) -> Option<u64> {
        self.room.map(|room| room())
    }

    /// Fails with [`Error::Memory`] where there is no room for `need` bytes; `remedy` says what would help.
    pub fn fits(&self, need: u64, remedy: &str) -> Result<()> {
        match self.room() {
            Some(there) if need > there => {
                Err(Error::Memory { need_mb: need >> 20, limit_mb: there >> 20, remedy: remedy.into() })
            }
            _ => Ok(()),
        }
    }

    /// A pass on the side that [`Compute::side`] chooses. Where the choice was left to the program and the device
    /// fails, the CPU computes instead and a note says so.
    pub fn compute<T>(&self, fast: impl FnOnce() -> Result<T>, gpu: impl FnOnce(&Gpu) -> Result<T>) -> Result<T> {
        self.passes.fetch_add(1, Ordering::Relaxed);
        match self.compute.side(self.gpu.as_deref())? {
            Side::Cpu | Side::Fast => fast(),
            Side::Gpu(device) => match gpu(device) {
                Err(Error::Gpu(why)) if self.compute == Compute::Auto => {
                    self.note(format!("computed on the CPU, because the GPU failed: {why}"));
                    fast()
                }
                done => done,
            },
        }
    }

    /// How many passes were dispatched so far, on whichever side. What dispatches none computes the same everywhere.
    pub fn passes(&self) -> usize {
        self.passes.load(Ordering::Relaxed)
    }

    /// Reports `done` of `of` and fails with [`Error::Cancelled`] if the job was asked to stop.
    /// One call for both, so that neither is forgotten.
    pub fn step(&self, done: usize, of: usize) -> Result<()> {
        self.check()?;
        if let Some(progress) = &self.progress {
            let share = done as f32 / of.max(1) as f32;
            progress(self.part.map_or(share, |(start, length)| start + share * length));
        }
        Ok(())
    }

    /// The context of part `done` of `of`: its progress moves the whole's by that part only.
    pub fn part(&self, done: usize, of: usize) -> Self {
        let (start, length) = self.part.unwrap_or((0.0, 1.0));
        let own = length / of.max(1) as f32;
        Self { part: Some((start + done as f32 * own, own)), ..self.clone() }
    }

    /// The same computation without progress, for parts too small to be worth a step of the bar.
    pub fn quiet(&self) -> Self {
        Self { progress: None, ..self.clone() }
    }

    /// The same computation with notes of its own, for a part whose notes are about that part alone.
    pub fn apart(&self) -> Self {
        Self { notes: Arc::default(), ..self.clone() }
    }

    /// Whether the job was asked to stop. A loop on several threads looks here and leaves its rest undone.
    pub fn cancelled(&self) -> bool {
        #[cfg(test)]
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.cancel.load(Ordering::Relaxed)
    }

    /// How often this and its clones looked at the cancel flag.
    #[cfg(test)]
    pub(crate) fn looks(&self) -> usize {
        self.looks.load(Ordering::Relaxed)
    }

    /// Fails with [`Error::Cancelled`] if the job was asked to stop; for places between two [`Ctx::step`]s.
    pub fn check(&self) -> Result<()> {
        if self.cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Says something the user should know about the result, e.g. that it is partial. The same words are kept once.
    pub fn note(&self, text: impl Into<String>) {
        let text = text.into();
        let mut notes = self.notes.lock().expect("no panic while the notes are held");
        if !notes.contains(&text) {
            notes.push(text);
        }
    }

    /// The notes so far.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().expect("no panic while the notes are held").clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_parts_move_the_progress_of_the_whole() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = seen.clone();
        let ctx = Ctx::new(Arc::default(), Arc::new(move |x| note.lock().unwrap().push(x)));
        ctx.step(1, 2).unwrap();
        ctx.part(1, 2).step(1, 2).unwrap();
        ctx.part(1, 2).part(0, 2).step(1, 2).unwrap();
        assert_eq!(*seen.lock().unwrap(), [0.5, 0.75, 0.625]);
    }

    #[test]
    fn a_quiet_part_notes_and_stops_with_the_whole_and_moves_no_progress() {
        let (cancel, moved) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let count = moved.clone();
        let progress = move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        let ctx = Ctx::new(cancel.clone(), Arc::new(progress));
        let quiet = ctx.quiet();
        quiet.step(1, 2).unwrap();
        ["cut", "cut", "tied"].into_iter().for_each(|n| quiet.note(n));
        assert_eq!((ctx.notes(), moved.load(Ordering::Relaxed)), (vec!["cut".to_string(), "tied".into()], 0));
        let apart = quiet.apart();
        apart.note("its own");
        assert_eq!((ctx.notes().len(), apart.notes()), (2, vec!["its own".to_string()]));
        cancel.store(true, Ordering::Relaxed);
        assert!(quiet.step(1, 2).is_err() && apart.step(1, 2).is_err());
    }

    #[test]
    fn passes_are_counted_by_all_clones_together() {
        let ctx = Ctx::default();
        let part = ctx.part(0, 2);
        part.compute(|| Ok(()), |_| Ok(())).unwrap();
        ctx.compute(|| Ok(()), |_| Ok(())).unwrap();
        part.step(1, 1).unwrap();
        assert_eq!((ctx.passes(), part.passes()), (2, 2));
    }
}
