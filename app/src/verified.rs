//! What is remembered of comparisons with a reference: of which model, with what, when, and what came out.

use crate::recents::{folder, read_small};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tokenscope_analysis::parity::Parity;
use tokenscope_analysis::save::save_bytes;

const FILE: &str = "verified.json";
/// Entries kept.
const KEEP: usize = 100;

/// One comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The model.
    pub model: PathBuf,
    /// Says which weights it had.
    pub fingerprint: String,
    /// What it was compared with.
    pub reference: PathBuf,
    /// Type that this was computed in.
    pub dtype: String,
    /// Seconds since 1970, UTC.
    pub at: u64,
    /// What was compared: kinds, and how many tensors of each.
    pub kinds: Vec<(String, usize)>,
    /// The tensor that is farthest off.
    pub worst: String,
    /// Its largest error as a share of its largest value, and the share that counts as equal; `None` where a shape
    /// differs or a value is not finite.
    pub share: Option<f64>,
    /// The share that counts as equal.
    pub tolerance: f64,
    /// Whether everything counts as equal.
    pub holds: bool,
}

impl Entry {
    /// What `found` says of the model at `path`, now.
    pub fn of(path: &Path, fingerprint: &str, reference: &Path, found: &Parity) -> Self {
        let worst = found.worst();
        Self {
            model: whole(path),
            fingerprint: fingerprint.into(),
            reference: whole(reference),
            dtype: found.dtype.clone(),
            at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            kinds: found.kinds.iter().map(|w| (w.kind.clone(), w.tensors)).collect(),
            worst: worst.map(|w| w.at.clone()).unwrap_or_default(),
            share: worst.map(|w| w.share()).filter(|s| s.is_finite()),
            tolerance: worst.map_or(0.0, |w| w.tolerance),
            holds: found.holds(),
        }
    }

    /// In one short word or number.
    pub fn short(&self) -> String {
        match self.share {
            Some(share) if self.holds => format!("= {}", figure(share)),
            Some(share) => format!("≠ {}", figure(share)),
            None => "≠".into(),
        }
    }

    /// In full.
    pub fn words(&self) -> String {
        let kinds: Vec<String> = self.kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        let what = match self.share {
            Some(share) => {
                let share = figure(share);
                format!(
                    "Largest error {share} of the largest value ({}); up to {:.0e} counts as equal",
                    self.worst, self.tolerance
                )
            }
            None if self.kinds.is_empty() => "Nothing in it could be compared".into(),
            None => format!("Not the same shape or not finite: {}", self.worst),
        };
        let (reference, dtype, day) = (self.reference.display(), &self.dtype, day(self.at));
        format!("Compared on {day} with {reference}, computed in {dtype}: {}.\n{what}.", kinds.join(", "))
    }
}

/// A share with two figures.
fn figure(share: f64) -> String {
    if share == 0.0 { "0".into() } else { format!("{share:.1e}") }
}

/// The path as others would write it, too.
fn whole(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// Year, month and day of a time in seconds since 1970, UTC.
fn day(seconds: u64) -> String {
    let (mut days, mut year) = (seconds / 86_400, 1970);
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    while year < 9999 && days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while month < 11 && days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, days + 1)
}

/// Comparisons, the last one first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Verified {
    entries: Vec<Entry>,
}

impl Verified {
    /// What is stored; nothing if it cannot be read.
    pub fn load() -> Self {
        folder().map_or_else(Self::default, |dir| Self::load_from(&dir))
    }

    fn load_from(dir: &Path) -> Self {
        let read = || serde_json::from_str(&read_small(&dir.join(FILE)).ok()??).ok();
        read().unwrap_or_default()
    }

    /// The last comparison of the model at `path` with weights of this fingerprint.
    pub fn of(&self, path: &Path, fingerprint: &str) -> Option<&Entry> {
        let path = whole(path);
        self.entries.iter().find(|e| e.model == path && e.fingerprint == fingerprint)
    }

    /// Puts one at the front and stores all. That it cannot be stored must not disturb the work, so failure is silent.
    pub fn add(&mut self, entry: Entry) {
        self.entries.retain(|e| e.model != entry.model);
        self.entries.insert(0, entry);
        self.entries.truncate(KEEP);
        let _ = self.store();
    }

    fn store(&self) -> Option<()> {
        let dir = folder()?;
        std::fs::create_dir_all(&dir).ok()?;
        save_bytes(&dir.join(FILE), &serde_json::to_vec_pretty(self).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_through_leap_years() {
        let at = |s| day(s);
        assert_eq!([at(0), at(951_782_400), at(951_868_800)], ["1970-01-01", "2000-02-29", "2000-03-01"]);
        assert_eq!([at(1_735_689_599), at(4_107_542_400)], ["2024-12-31", "2100-03-01"]);
    }

    #[test]
    fn an_entry_says_what_was_compared_and_other_weights_have_none() {
        let entry = Entry {
            model: "/m".into(),
            fingerprint: "a".into(),
            reference: "/m/reference.trace".into(),
            dtype: "float32".into(),
            at: 0,
            kinds: vec![("attentions".into(), 3), ("logits".into(), 1)],
            worst: "logits".into(),
            share: Some(2.3e-6),
            tolerance: 1e-4,
            holds: true,
        };
        assert_eq!(entry.short(), "= 2.3e-6");
        let words = entry.words();
        for part in ["1970-01-01", "3 attentions, 1 logits", "2.3e-6", "1e-4", "float32", "/m/reference.trace"] {
            assert!(words.contains(part), "{part}: {words}");
        }
        assert_eq!(Entry { holds: false, ..entry.clone() }.short(), "≠ 2.3e-6");
        assert_eq!(Entry { holds: false, share: None, ..entry.clone() }.short(), "≠");
        let all = Verified { entries: vec![entry.clone()] };
        assert_eq!((all.of(Path::new("/m"), "a"), all.of(Path::new("/m"), "b")), (Some(&entry), None));
    }
}
