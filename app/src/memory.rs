//! How much memory the machine has, so that a run that does not fit is refused before it starts.

/// What is taken to be there where the system does not say, in bytes.
const UNKNOWN: u64 = 8 << 30;

/// Memory of the machine, or of the container the program runs in, in bytes.
pub fn total() -> u64 {
    let machine = meminfo("MemTotal").unwrap_or(UNKNOWN);
    limit().map_or(machine, |(max, _)| max.min(machine))
}

/// Memory that can still be had without swapping, in bytes.
pub fn available() -> u64 {
    let machine = meminfo("MemAvailable").unwrap_or(UNKNOWN);
    limit().map_or(machine, |(max, used)| max.saturating_sub(used).min(machine))
}

/// An entry of `/proc/meminfo`, in bytes.
fn meminfo(entry: &str) -> Option<u64> {
    parse_meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?, entry)
}

fn parse_meminfo(text: &str, entry: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(entry)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
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

    #[test]
    fn entries_are_read_in_kibibytes_and_by_whole_name() {
        let text =
            "MemTotal:       24689764 kB\nMemFree:  1 kB\nMemAvailable:   22000000 kB\nHugePages_Total:       0\n";
        assert_eq!(parse_meminfo(text, "MemAvailable"), Some(22_000_000 * 1024));
        assert_eq!(parse_meminfo(text, "MemTotal"), Some(24_689_764 * 1024));
        assert_eq!(parse_meminfo(text, "Mem"), None);
        assert_eq!(parse_meminfo(text, "HugePages_Total"), None);
    }

    #[test]
    fn there_is_some_and_not_more_than_in_all() {
        assert!(available() > 0 && available() <= total());
    }
}
