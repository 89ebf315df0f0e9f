//! Columns of a table in CSV.

use super::{Fault, MAX_SAMPLES, choose};

/// How a column of times in seconds is called.
const TIMES: [&str; 7] = ["time", "t", "s", "sec", "second", "seconds", "time (s)"];
/// How far a step between two times may be from their mean, as a share of it.
const UNEVEN: f64 = 0.01;

const CHOOSE: &str = "give a table of numbers with one sample a line, or a WAV file";
const FILL: &str = "fill such cells or remove their lines";

/// A table of text with its headings.
struct Sheet {
    names: Vec<String>,
    /// Line of the file and cells, without the headings.
    rows: Vec<(u64, ::csv::StringRecord)>,
}

impl Sheet {
    fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let neither = |why: String| Fault::new(format!("this is neither a WAV file nor a table: {why}"), CHOOSE);
        let text = crate::utf::text(bytes.to_vec()).map_err(neither)?;
        if text.contains('\0') {
            return Err(neither("it holds zeros".into()));
        }
        let text = text.as_str();
        let Some(first) = text.lines().find(|l| !l.trim().is_empty()) else {
            return Err(Fault::new("the file is empty", CHOOSE));
        };
        let count = |d: u8| first.bytes().filter(|b| *b == d).count();
        // The last of the largest, so that the comma wins where none stands out.
        let delimiter = [b'\t', b';', b','].into_iter().max_by_key(|d| count(*d)).unwrap_or(b',');
        let mut reader = ::csv::ReaderBuilder::new()
            .has_headers(false)
            .delimiter(delimiter)
            .trim(::csv::Trim::All)
            .from_reader(text.as_bytes());
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|e| Fault::new(line_of(&e), "give every line as many cells as the first"))?;
            rows.push((record.position().map_or(0, ::csv::Position::line), record));
            if rows.len() > MAX_SAMPLES + 1 {
                return Err(Fault::new(format!("more than {MAX_SAMPLES} lines"), "cut the table"));
            }
        }
        let Some((_, head)) = rows.first() else { return Err(Fault::new("the file is empty", CHOOSE)) };
        let headed = head.iter().any(|cell| cell.parse::<f64>().is_err());
        let names = if headed {
            head.iter().map(str::to_string).collect()
        } else {
            (1..=head.len()).map(|i| i.to_string()).collect()
        };
        if headed {
            rows.remove(0);
        }
        Ok(Self { names, rows })
    }

    fn times(&self) -> Option<usize> {
        let times = |n: &String| TIMES.contains(&n.to_lowercase().as_str());
        self.names.iter().position(times).filter(|_| self.names.len() > 1)
    }

    /// The first column that begins with a number and is not the time; of a table without lines the first.
    fn first(&self) -> Result<usize, Fault> {
        let number = |i: &usize| {
            self.rows
                .first()
                .is_none_or(|(_, cells)| cells.get(*i).is_some_and(|c| c.is_empty() || c.parse::<f64>().is_ok()))
        };
        let mut columns = (0..self.names.len()).filter(|i| Some(*i) != self.times());
        columns.find(number).ok_or_else(|| Fault::new("there is no column of numbers", CHOOSE))
    }

    fn numbers(&self, at: usize) -> Result<Vec<f64>, Fault> {
        let number = |(line, cells): &(u64, ::csv::StringRecord)| {
            let cell = cells.get(at).unwrap_or_default();
            let why = match cell.parse::<f64>() {
                // What f64 can hold may still be too large for a sample.
                Ok(x) if (x as f32).is_finite() => return Ok(x),
                Ok(_) => format!("{cell} is not a finite number"),
                Err(_) if cell.is_empty() => "the cell is empty".into(),
                Err(_) => format!("{cell:?} is not a number"),
            };
            Err(Fault::new(format!("line {line}, column {}: {why}", self.names[at]), FILL))
        };
        self.rows.iter().map(number).collect()
    }

    /// Samples a second by the column of times.
    fn rate(&self) -> Result<Option<f64>, Fault> {
        let Some(at) = self.times().filter(|_| self.rows.len() > 1) else { return Ok(None) };
        let times = self.numbers(at)?;
        let step = (times[times.len() - 1] - times[0]) / (times.len() - 1) as f64;
        let remedy = "give the number of samples a second, or resample the table";
        if step.is_nan() || step <= 0.0 {
            return Err(Fault::new("the times do not grow", remedy));
        }
        match times.windows(2).position(|w| ((w[1] - w[0]) / step - 1.0).abs() > UNEVEN) {
            Some(i) => Err(Fault::new(
                format!("the times are not evenly spaced, first at line {}", self.rows[i + 1].0),
                remedy,
            )),
            None => Ok(Some(1.0 / step)),
        }
    }
}

fn line_of(e: &::csv::Error) -> String {
    match e.kind() {
        ::csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = pos.as_ref().map_or(0, ::csv::Position::line);
            format!("line {line} has {len} cells and the first {expected_len}")
        }
        _ => e.to_string(),
    }
}

/// The headings, or numbers from 1 where there are none.
pub(super) fn names(bytes: &[u8]) -> Result<Vec<String>, Fault> {
    Ok(Sheet::read(bytes)?.names)
}

/// Name, rate and samples of a column; 1 sample a second where the table does not say, or is not `timed`.
pub(super) fn column(bytes: &[u8], wanted: Option<&str>, timed: bool) -> Result<(String, f64, Vec<f32>), Fault> {
    let sheet = Sheet::read(bytes)?;
    let at = wanted.map_or_else(|| sheet.first(), |w| choose(&sheet.names, w))?;
    let samples = sheet.numbers(at)?.into_iter().map(|x| x as f32).collect();
    let rate = if timed { sheet.rate()? } else { None };
    Ok((sheet.names[at].clone(), rate.unwrap_or(1.0), samples))
}
