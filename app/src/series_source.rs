//! Where a series comes from: a file and a channel of it, or a signal that the program makes itself.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use tokenscope_analysis::method::Real;
use tokenscope_analysis::series::Series;
use tokenscope_generate::signals::{RATE, Signal};

/// How a signal's name begins.
const SIGNAL: &str = "signal:";

/// Where a series comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeriesSource {
    /// A WAV file or a table in CSV.
    File {
        /// The file.
        path: PathBuf,
        /// Name or number of the channel; `None` is the first that is not the time.
        #[serde(default)]
        column: Option<String>,
        /// Samples a second, where the file does not say or says it wrong.
        #[serde(default, with = "rate")]
        rate: Option<Real>,
    },
    /// The signal of this seed.
    Signal(u64),
}

/// A rate as a plain number.
mod rate {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use tokenscope_analysis::method::Real;

    pub fn serialize<S: Serializer>(rate: &Option<Real>, s: S) -> Result<S::Ok, S::Error> {
        rate.map(Real::get).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Real>, D::Error> {
        Ok(Option::<f64>::deserialize(d)?.map(Real::new))
    }
}

impl SeriesSource {
    /// The first channel of a file.
    pub fn file(path: PathBuf) -> Self {
        Self::File { path, column: None, rate: None }
    }

    /// `signal:SEED`, else the path of a file; a file of such a name is written `./signal:…`.
    ///
    /// Errors: what follows `signal:` is no seed; a signal was given a column or a rate; a rate that is no number above 0.
    pub fn parse(text: OsString, column: Option<String>, rate: Option<f64>) -> anyhow::Result<Self> {
        let Some(seed) = text.to_str().and_then(|t| t.strip_prefix(SIGNAL)) else {
            if let Some(rate) = rate.filter(|r| !(r.is_finite() && *r > 0.0)) {
                anyhow::bail!("{rate} samples a second: give a number above 0");
            }
            return Ok(Self::File { path: text.into(), column, rate: rate.map(Real::new) });
        };
        if column.is_some() || rate.is_some() {
            anyhow::bail!("{SIGNAL}{seed} has one channel and its own rate; leave out --column and --rate");
        }
        let seed = seed.parse().ok().with_context(|| {
            format!("{SIGNAL}{seed}: write a seed as {SIGNAL}7; a file of that name as ./{SIGNAL}{seed}")
        })?;
        Ok(Self::Signal(seed))
    }

    /// A short name for titles.
    pub fn title(&self) -> String {
        match self {
            Self::File { path, column, .. } => {
                let name = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into());
                column.iter().fold(name, |name, c| format!("{name}, {c}"))
            }
            Self::Signal(_) => self.to_string(),
        }
    }

    /// Names of its channels.
    pub fn columns(&self) -> tokenscope_analysis::Result<Vec<String>> {
        match self {
            Self::File { path, .. } => Series::columns(path),
            Self::Signal(_) => Ok(vec!["signal".into()]),
        }
    }

    /// Opens the file or makes the signal.
    pub fn open(&self) -> tokenscope_analysis::Result<Series> {
        match self {
            Self::File { path, column, rate } => Series::open(path, column.as_deref(), rate.map(Real::get)),
            Self::Signal(seed) => Series::new("signal", RATE, Signal::new(*seed).samples),
        }
    }
}

impl fmt::Display for SeriesSource {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::File { path, .. } => write!(f, "{}", path.display()),
            Self::Signal(seed) => write!(f, "{SIGNAL}{seed}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_and_files_are_told_apart() {
        let parse = |t: &str| SeriesSource::parse(t.into(), None, None);
        assert_eq!(parse("signal:7").unwrap(), SeriesSource::Signal(7));
        assert_eq!(parse("./signal:7").unwrap(), SeriesSource::file("./signal:7".into()));
        let of = SeriesSource::parse("a/b.csv".into(), Some("volt".into()), Some(50.0)).unwrap();
        assert_eq!((of.title().as_str(), of.to_string().as_str()), ("b.csv, volt", "a/b.csv"));
        assert!(parse("signal:x").unwrap_err().to_string().contains("signal:7"));
        assert!(SeriesSource::parse("signal:7".into(), Some("1".into()), None).is_err());
        assert!(SeriesSource::parse("a.csv".into(), None, Some(-1.0)).is_err());
    }

    #[test]
    fn a_signal_is_the_generators_own_samples() {
        let s = parse_signal();
        assert_eq!((s.rate, s.samples), (RATE, Signal::new(5).samples));
    }

    fn parse_signal() -> Series {
        SeriesSource::Signal(5).open().unwrap()
    }
}
