//! The log: a file of what a window did that a report of a fault should hold, its starts, failures and faults of ours.
//! Prompts and pictures do not stand in it, and the user's home is written `~`.

use crate::recents::folder;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// From this length on, in bytes, it begins anew; the one before is kept beside it.
const LONG: u64 = 1 << 20;
/// Letters of one line.
const WIDE: usize = 600;

/// Where lines go; `None` where nobody writes any.
static OPEN: Mutex<Option<File>> = Mutex::new(None);

/// The file, whether or not it is there.
pub fn path() -> Option<PathBuf> {
    folder().map(|dir| dir.join("tokenscope.log"))
}

/// Writes lines from now on. Where that cannot be, the program works as well without.
pub fn start() {
    let file = path().and_then(|path| open(&path).ok());
    *OPEN.lock().unwrap_or_else(PoisonError::into_inner) = file;
}

/// The file to write behind what is there, after the one before was put aside where it is long.
fn open(path: &Path) -> std::io::Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    if std::fs::metadata(path).is_ok_and(|m| m.len() > LONG) {
        std::fs::rename(path, path.with_extension("log.old"))?;
    }
    OpenOptions::new().append(true).create(true).open(path)
}

/// Notes a line with its time and the process, if a log is written.
pub fn line(words: &str) {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(file) = open.as_mut() else { return };
    let text = format!("{} {} {}\n", time(SystemTime::now()), std::process::id(), plain(words));
    // In one piece, since several windows write. That it cannot be written helps nobody to know.
    let _ = file.write_all(text.as_bytes());
}

/// Words on one line, not too long, without the user's home.
pub fn plain(words: &str) -> String {
    let home = directories::BaseDirs::new().map(|d| d.home_dir().display().to_string());
    let mut out: String = words.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(home) = home.filter(|h| h.len() > 1) {
        out = out.replace(&home, "~");
    }
    match out.char_indices().nth(WIDE) {
        Some((cut, _)) => format!("{}…", &out[..cut]),
        None => out,
    }
}

/// The last `n` lines of the log, the oldest first; none where there is none.
pub fn tail(n: usize) -> Vec<String> {
    let read = |path: PathBuf| -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub((n * WIDE) as u64)))?;
        let mut bytes = Vec::new();
        file.take((n * WIDE) as u64).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = path().and_then(|p| read(p).ok()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(n)..].iter().map(|l| (*l).to_string()).collect()
}

/// A time as `2024-02-29 23:59:58Z`.
fn time(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let [year, month, day] = date(days);
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}Z")
}

/// Year, month and day of a day counted from 1970-01-01.
fn date(days: u64) -> [u64; 3] {
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 0;
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while left >= lengths[month] {
        left -= lengths[month];
        month += 1;
    }
    [year, month as u64 + 1, left + 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_told_as_clocks_without_a_zone_tell_them() {
        let at = |s| time(UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(at(0), "1970-01-01 00:00:00Z");
        assert_eq!(at(951_868_799), "2000-02-29 23:59:59Z");
        assert_eq!(at(951_868_800), "2000-03-01 00:00:00Z");
        assert_eq!(at(1_735_689_599), "2024-12-31 23:59:59Z");
    }

    #[test]
    fn a_long_file_is_put_aside_and_lines_stay_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/tokenscope.log");
        open(&path).unwrap().write_all(b"one\n").unwrap();
        open(&path).unwrap().write_all(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        std::fs::write(&path, vec![b'x'; LONG as usize + 1]).unwrap();
        open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        assert!(path.with_extension("log.old").exists());
        assert_eq!(plain("a\nb\t c"), "a b c");
        assert_eq!(plain(&"é".repeat(WIDE + 1)).chars().count(), WIDE + 1);
    }
}
