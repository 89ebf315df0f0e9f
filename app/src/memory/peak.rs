//! The most memory that a piece of work takes, counted by the allocator while somebody asks and not otherwise.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// The system's allocator, which counts while [`peak`] is under way. A program that has it as its global allocator can
/// say how much memory work takes; elsewhere [`peak`] knows nothing.
pub struct Counting;

/// Whether anything is counted. Nobody who only allocates writes to it, so that it costs a look.
static ON: AtomicBool = AtomicBool::new(false);
/// Bytes taken and not given back since counting began; less than none where older memory was given back.
static HELD: AtomicI64 = AtomicI64::new(0);
/// The most of it.
static MOST: AtomicI64 = AtomicI64::new(0);
/// One counts at a time.
static TURN: Mutex<()> = Mutex::new(());

fn count(bytes: i64) {
    let held = HELD.fetch_add(bytes, Relaxed) + bytes;
    if bytes > 0 {
        MOST.fetch_max(held, Relaxed);
    }
}

#[expect(unsafe_code, reason = "every call goes on to the system's allocator as it came")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if ON.load(Relaxed) {
            count(layout.size() as i64);
        }
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if ON.load(Relaxed) {
            count(layout.size() as i64);
        }
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if ON.load(Relaxed) {
            count(-(layout.size() as i64));
        }
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if ON.load(Relaxed) {
            count(size as i64 - layout.size() as i64);
        }
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Does `work`; with the most memory in bytes that the program took meanwhile beyond what it had before, on all its
/// threads. `None` where nothing counts. Who comes while another counts waits.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, Option<u64>) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    HELD.store(0, Relaxed);
    MOST.store(0, Relaxed);
    ON.store(true, Relaxed);
    /// Counting ends, even where the work panics.
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            ON.store(false, Relaxed);
        }
    }
    let off = Off;
    let out = work();
    drop(off);
    let most = MOST.load(Relaxed);
    // Any work allocates something.
    (out, (most > 0).then_some(most as u64))
}
