//! Lines of a session file, each of which can be read without the others.

use crate::hash::sha256;
use std::io::{self, Write};

/// Digits of a line's checksum: enough against accidents, which is all that it is for.
const DIGITS: usize = 16;

/// A line as it stands in the file.
#[derive(Debug, PartialEq)]
pub(super) struct Line<'a> {
    /// Name of the section.
    pub section: &'a str,
    /// JSON of the section.
    pub data: &'a str,
    /// Whether the checksum is that of the data.
    pub intact: bool,
}

/// Writes a section.
pub(super) fn write(out: &mut dyn Write, section: &str, data: &str) -> io::Result<()> {
    let sum = sum(data);
    writeln!(out, r#"{{"section":"{section}","sum":"{sum}","data":{data}}}"#)
}

fn sum(data: &str) -> String {
    let mut sum = sha256(data.as_bytes());
    sum.truncate(DIGITS);
    sum
}

/// Reads a line; `None` where there is no section in it. What is around the data may be damaged, too: as long as the
/// name of the section and the data can be told, they are.
pub(super) fn read(line: &str) -> Option<Line<'_>> {
    let line = line.trim();
    let (head, data) = line.split_once(r#""data":"#)?;
    let value = |key: &str| head.split_once(key)?.1.split_once('"').map(|v| v.0);
    let section = value(r#""section":""#)?;
    let told = value(r#""sum":""#);
    let own = |data: &str| told.is_some_and(|t| t == sum(data));
    // A line that is cut off may have lost no more than its last brace.
    let inner = data.strip_suffix('}').unwrap_or(data);
    let found = [inner, data].into_iter().find(|d| own(d));
    Some(Line { section, data: found.unwrap_or(inner), intact: found.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_and_damage_around_and_in_the_data_is_told_apart() {
        let mut out = Vec::new();
        write(&mut out, "pane", r#"{"a":"x}\n"}"#).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let whole = Line { section: "pane", data: r#"{"a":"x}\n"}"#, intact: true };
        assert_eq!(read(&text), Some(whole));
        // The last brace is gone, as at the end of a file that was cut.
        assert!(read(text.trim().strip_suffix('}').unwrap()).is_some_and(|l| l.intact));
        let damaged = text.replace(r#""sum":""#, r#""sun":""#);
        assert!(read(&damaged).is_some_and(|l| !l.intact && l.data == r#"{"a":"x}\n"}"# && l.section == "pane"));
        assert!(read(&text.replace('x', "y")).is_some_and(|l| !l.intact && l.data.contains('y')));
        assert!(read("{}").is_none() && read("").is_none() && read(r#""data":"#).is_none());
    }
}
