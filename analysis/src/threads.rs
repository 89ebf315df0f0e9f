//! Threads that compute.

use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::{Mutex, PoisonError};

/// Groups of threads that wait for the next work, with the memory that they work with.
static IDLE: Mutex<Vec<ThreadPool>> = Mutex::new(Vec::new());

/// Groups that are kept: a window mostly computes one or two things at a time.
const KEPT: usize = 2;

/// Bytes of a thread's stack, as many as the first thread of a program has.
const STACK: usize = 8 << 20;

/// Calls `f` as one of some threads that compute for nobody else, as many as `RAYON_NUM_THREADS` says or as there are
/// processors. Work that `f` shares out begins without a call from outside, which takes longer than many a part of it;
/// and while `f` waits for a part, its thread takes up no other work than its own. Where there are no threads to be had,
/// `f` is just called.
pub fn alone<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let held = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let made = || ThreadPoolBuilder::new().stack_size(STACK).thread_name(|i| format!("compute {i}")).build().ok();
    let Some(pool) = held.or_else(made) else { return f() };
    let out = pool.install(f);
    let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    if idle.len() < KEPT {
        idle.push(pool);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;
    use std::collections::HashSet;
    use std::thread::current;

    /// Names of the threads that share something out, and whether one of them did it.
    fn at_work() -> (HashSet<std::thread::ThreadId>, bool) {
        let seen: HashSet<_> = (0..64).into_par_iter().map(|_| current().id()).collect();
        let own = rayon::current_thread_index().is_some();
        (seen, own)
    }

    #[test]
    fn work_is_shared_among_the_threads_that_do_it() {
        let ((first, own), (other, _)) = alone(|| (at_work(), alone(at_work)));
        assert!(own, "who shares out is one of them");
        assert!(first.is_disjoint(&other), "others' threads do not help");
        assert!(!first.contains(&current().id()));
    }

    #[test]
    fn a_fault_comes_back_and_threads_are_there_again() {
        let fault = std::panic::catch_unwind(|| alone(|| -> usize { panic!("as it should") }));
        assert!(fault.is_err());
        assert_eq!(alone(|| (0..100usize).into_par_iter().sum::<usize>()), 4950);
    }
}
