//! How much memory the machine has, so that a run that does not fit is refused before it starts.

mod peak;

pub use peak::{Counting, peak};

use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};
use sysinfo::{MemoryRefreshKind, System};

/// What is taken to be there where the system does not say, in bytes.
const UNKNOWN: u64 = 8 << 30;

/// The variable that says how many MB of memory may be taken for granted, and the one that names a folder.
const LIMIT: &str = "TOKENSCOPE_MEMORY";
const SPILL: &str = "TOKENSCOPE_SPILL";

/// The folder for files that hold what memory has no room for: what `TOKENSCOPE_SPILL` or `TMPDIR` names, or a folder for
/// temporary files that is on a disk, which the usual one may not be.
pub fn folder() -> PathBuf {
    let named = [SPILL, "TMPDIR"].into_iter().find_map(|name| std::env::var_os(name).filter(|v| !v.is_empty()));
    let disk = || Some(PathBuf::from("/var/tmp")).filter(|p| p.is_dir());
    named.map(PathBuf::from).or_else(disk).unwrap_or_else(std::env::temp_dir)
}

/// Memory of the machine, or of the container the program runs in, in bytes.
pub fn total() -> u64 {
    let machine = of_machine(System::total_memory);
    limit().map_or(machine, |(max, _)| max.min(machine))
}

/// Memory that can still be had without swapping, in bytes.
pub fn available() -> u64 {
    let said = std::env::var(LIMIT).ok().and_then(|mb| mb.trim().parse::<u64>().ok());
    let machine = of_machine(System::available_memory).min(said.map_or(u64::MAX, |mb| mb.saturating_mul(1 << 20)));
    limit().map_or(machine, |(max, used)| max.saturating_sub(used).min(machine))
}

/// What the system says now. Nothing but its memory is asked for: microseconds, on every system.
fn of_machine(what: fn(&System) -> u64) -> u64 {
    static MACHINE: LazyLock<Option<Mutex<System>>> = LazyLock::new(|| System::new().ok().map(Mutex::new));
    let Some(machine) = &*MACHINE else { return UNKNOWN };
    let mut machine = machine.lock().unwrap_or_else(PoisonError::into_inner);
    machine.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    if machine.total_memory() == 0 { UNKNOWN } else { what(&machine) }
}

/// Limit of the control group, where there is one, and what is used of it and cannot be given back, in bytes.
fn limit() -> Option<(u64, u64)> {
    let file = |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    let number = |name: &str| file(name)?.trim().parse::<u64>().ok();
    // Files that were read count as used, too, but go when memory is needed.
    let stat = file("memory.stat")?;
    let cached = stat.lines().find_map(|l| l.strip_prefix("inactive_file ")?.trim().parse().ok()).unwrap_or(0);
    Some((number("memory.max")?, number("memory.current")?.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn there_is_some_and_not_more_than_in_all() {
        assert!(available() > 0 && available() <= total());
    }

    #[test]
    fn the_machine_says_how_much_it_has() {
        let machine = of_machine(System::total_memory);
        // A guess is a round number; a machine keeps some of its memory to itself.
        assert!(machine > 256 << 20 && machine != UNKNOWN, "{machine} bytes");
        if let Ok(text) = std::fs::read_to_string("/proc/meminfo") {
            let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:")).expect("a line of the total");
            let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
            assert_eq!(machine, kib << 10);
        }
    }

    #[test]
    fn asking_often_costs_little() {
        available();
        // The best of several, because tests beside this one use the same processor.
        let once = || {
            let start = Instant::now();
            (0..100).for_each(|_| assert!(available() > 0));
            start.elapsed() / 100
        };
        let best = (0..5).map(|_| once()).min().expect("five");
        assert!(best < Duration::from_millis(1), "{best:?} each");
    }
}
