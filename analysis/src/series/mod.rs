//! Series of samples: one channel of a WAV file, or one column of a table in CSV.

mod csv;
mod wav;

use crate::foreign::foreign;
use crate::weights::{read_bounded, recognise};
use crate::{Error, Result};
use std::path::Path;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 256 << 20;
/// The longest series, in samples: six minutes at 44.1 kHz.
pub const MAX_SAMPLES: usize = 1 << 24;

/// One channel of samples at even distances. Every sample is finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name of the channel: a column's heading, `left`, `mono`.
    pub name: String,
    /// Samples a second; 1 where nobody knows.
    pub rate: f64,
    /// The samples: full scale of a WAV file is 1, a CSV file's are as written.
    pub samples: Vec<f32>,
}

/// What was wrong with the content of a file, and what helps.
struct Fault {
    what: String,
    remedy: &'static str,
}

impl Fault {
    fn new(what: impl Into<String>, remedy: &'static str) -> Self {
        Self { what: what.into(), remedy }
    }
}

impl Series {
    /// A series from its samples. Errors: a rate that is not a number above 0, a sample that is not finite, more than
    /// [`MAX_SAMPLES`].
    pub fn new(name: impl Into<String>, rate: f64, samples: Vec<f32>) -> Result<Self> {
        if !(rate.is_finite() && rate > 0.0) {
            return Err(Error::invalid(format!("{rate} samples a second: give a number above 0")));
        }
        if samples.len() > MAX_SAMPLES {
            return Err(Error::invalid(format!(
                "{} samples are more than {MAX_SAMPLES}; cut the series",
                samples.len()
            )));
        }
        if let Some(i) = samples.iter().position(|x| !x.is_finite()) {
            return Err(Error::invalid(format!("sample {i} is {}; fill such gaps or leave them out", samples[i])));
        }
        Ok(Self { name: name.into(), rate, samples })
    }

    /// Reads a WAV file, or a table whose columns are separated by commas, semicolons or tabs; which of the two, the
    /// content says.
    ///
    /// `column` is a channel's name or its number from 1; without one the first is taken that is not the time.
    /// `rate` in samples a second goes before what the file says; a table with a column of times in seconds says it.
    ///
    /// Errors name the file: damaged, too large, no such column, a cell that is not a finite number, uneven times.
    pub fn open(path: &Path, column: Option<&str>, rate: Option<f64>) -> Result<Self> {
        let bytes = read_bounded(path, MAX_FILE)?;
        let (name, found, samples) = if wav::is_wav(&bytes) {
            foreign("hound", || wav::channel(&bytes, column)).unwrap_or_else(crashed).map_err(|f| refused(path, f))?
        } else {
            csv::column(&bytes, column, rate.is_none()).map_err(|f| refused(path, f))?
        };
        Self::new(name, rate.unwrap_or(found), samples)
            .map_err(|e| Error::file(path, e.to_string(), "check the file or choose another column"))
    }

    /// Names of the channels of such a file, in order. Errors name the file: damaged, too large.
    pub fn columns(path: &Path) -> Result<Vec<String>> {
        let bytes = read_bounded(path, MAX_FILE)?;
        let names = match wav::is_wav(&bytes) {
            true => foreign("hound", || wav::names(&bytes)).unwrap_or_else(crashed),
            false => csv::names(&bytes),
        };
        names.map_err(|f| refused(path, f))
    }

    /// Its length in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / self.rate
    }
}

/// The error for a file that is read as no series.
fn refused(path: &Path, f: Fault) -> Error {
    recognise::strange(path).unwrap_or_else(|| Error::file(path, f.what, f.remedy))
}

/// A sound on which the crate that reads it failed.
fn crashed<T>(why: String) -> Result<T, Fault> {
    Err(Fault::new(format!("damaged sound: {why}"), "save it again as WAV with a sound program"))
}

/// The place in `names` that `wanted` names, by name, else by number from 1.
fn choose(names: &[String], wanted: &str) -> Result<usize, Fault> {
    let same = |n: &&String| n.as_str() == wanted;
    let alike = |n: &&String| n.eq_ignore_ascii_case(wanted);
    let by_name = names.iter().position(|n| same(&n)).or_else(|| names.iter().position(|n| alike(&n)));
    let by_number = || wanted.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).filter(|i| *i < names.len());
    by_name.or_else(by_number).ok_or_else(|| {
        let known: Vec<&str> = names.iter().take(20).map(String::as_str).collect();
        Fault::new(
            format!("there is no column {wanted}; there are {}", known.join(", ")),
            "choose one of them, or its number from 1",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(end: &str, bytes: &[u8]) -> tempfile::TempPath {
        let f = tempfile::Builder::new().suffix(end).tempfile().unwrap();
        std::fs::write(f.path(), bytes).unwrap();
        f.into_temp_path()
    }

    fn csv(text: &str, column: Option<&str>, rate: Option<f64>) -> Result<Series> {
        Series::open(&file(".csv", text.as_bytes()), column, rate)
    }

    fn wav(spec: hound::WavSpec, samples: &[i32]) -> Vec<u8> {
        let mut out = std::io::Cursor::new(Vec::new());
        let mut w = hound::WavWriter::new(&mut out, spec).unwrap();
        for &s in samples {
            match spec.sample_format {
                hound::SampleFormat::Int => w.write_sample(s).unwrap(),
                hound::SampleFormat::Float => w.write_sample(f32::from_bits(s as u32)).unwrap(),
            }
        }
        w.finalize().unwrap();
        out.into_inner()
    }

    const STEREO: hound::WavSpec =
        hound::WavSpec { channels: 2, sample_rate: 8000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };

    #[test]
    fn tables_are_read_with_their_times_and_the_wanted_column() {
        let text = "time,volt,current\n0.00,1,-1\n0.01,2,-2\n0.02,3,-3\n";
        let s = csv(text, None, None).unwrap();
        assert_eq!((s.name.as_str(), s.samples.as_slice()), ("volt", &[1.0, 2.0, 3.0][..]));
        assert!((s.rate - 100.0).abs() < 1e-9 && (s.seconds() - 0.03).abs() < 1e-9);
        assert_eq!(csv(text, Some("Current"), None).unwrap().samples, [-1.0, -2.0, -3.0]);
        let third = csv(text, Some("3"), Some(7.0)).unwrap();
        assert_eq!((third.name.as_str(), third.rate), ("current", 7.0));
        // Without headings, with semicolons, with Windows line ends and a mark of the byte order.
        let s = csv("\u{feff}1;10\r\n2;20\r\n", Some("2"), None).unwrap();
        assert_eq!((s.samples, s.rate, s.name), (vec![10.0, 20.0], 1.0, "2".into()));
        assert_eq!(csv("x\n", None, None).unwrap().samples, [0.0; 0]);
        assert_eq!(Series::columns(&file(".csv", text.as_bytes())).unwrap(), ["time", "volt", "current"]);
    }

    #[test]
    fn what_is_no_number_is_named_with_its_place() {
        for (text, words) in [
            ("a\n1\nNaN\n", "line 3, column a: NaN is not a finite number"),
            ("a\n1\ninf\n", "line 3, column a: inf is not a finite number"),
            ("a,b\n1,2\n,3\n", "line 3, column a: the cell is empty"),
            ("a\n1\nx\n", "line 3, column a: \"x\" is not a number"),
            ("a,b\n1,2\n3\n", "line 3"),
            ("a,b\nx,y\n", "no column of numbers"),
            ("", "the file is empty"),
            ("t,a\n0,1\n1,2\n5,3\n", "the times are not evenly spaced"),
            ("t,a\n0,1\n0,2\n", "the times do not grow"),
        ] {
            let why = csv(text, None, None).unwrap_err().to_string();
            assert!(why.contains(words) && why.contains(".csv"), "{text:?}: {why}");
        }
        assert!(csv("a\n1\n", Some("b"), None).unwrap_err().to_string().contains("there is no column b; there are a"));
        assert!(csv("a\n1\n", None, Some(0.0)).unwrap_err().to_string().contains("a number above 0"));
        // Uneven times are no matter to who gives the rate.
        assert_eq!(csv("t,a\n0,1\n1,2\n5,3\n", None, Some(2.0)).unwrap().rate, 2.0);
        let binary = Series::open(&file(".csv", &[0, 159, 146, 150]), None, None).unwrap_err().to_string();
        assert!(binary.contains("neither"), "{binary}");
        let gone = Series::open(Path::new("/nowhere.csv"), None, None).unwrap_err().to_string();
        assert!(gone.contains("check the path"), "{gone}");
    }

    #[test]
    fn sound_is_scaled_to_one_and_its_channels_are_told_apart() {
        let bytes = wav(STEREO, &[16384, -32768, 0, 32767]);
        let of = |column| Series::open(&file(".wav", &bytes), column, None);
        let left = of(None).unwrap();
        assert_eq!((left.name.as_str(), left.rate, left.samples.as_slice()), ("left", 8000.0, &[0.5, 0.0][..]));
        assert_eq!(of(Some("right")).unwrap().samples, [-1.0, 32767.0 / 32768.0]);
        assert!(of(Some("3")).unwrap_err().to_string().contains("left, right"));
        let float =
            hound::WavSpec { channels: 1, bits_per_sample: 32, sample_format: hound::SampleFormat::Float, ..STEREO };
        let bits = |x: f32| x.to_bits() as i32;
        let s = Series::open(&file(".wav", &wav(float, &[bits(0.25), bits(-3.0)])), None, None).unwrap();
        assert_eq!((s.name.as_str(), s.samples.as_slice()), ("mono", &[0.25, -3.0][..]));
        let nan = Series::open(&file(".wav", &wav(float, &[bits(f32::NAN)])), None, None).unwrap_err().to_string();
        assert!(nan.contains("sample 0 is NaN"), "{nan}");
    }

    #[test]
    fn damaged_sound_is_refused_and_never_panics() {
        let whole = wav(STEREO, &[1, 2, 3, 4]);
        for n in 0..whole.len() {
            let _ = Series::open(&file(".wav", &whole[..n]), None, None);
        }
        for i in 0..44 {
            for v in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[i] = v;
                let _ = Series::open(&file(".wav", &bytes), None, None);
            }
        }
        let cut = Series::open(&file(".wav", &whole[..whole.len() - 3]), None, None).unwrap_err().to_string();
        assert!(cut.contains(".wav"), "{cut}");
    }
}
