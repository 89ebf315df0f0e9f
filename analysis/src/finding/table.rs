//! The numbers behind a picture as rows and columns, written as CSV (RFC 4180) and JSON.

use super::Picture;
use crate::{Error, Result};
use serde_json::{Value, json};

/// Rows and columns.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Table {
    /// What it lists; empty where what it belongs to says so.
    pub title: String,
    /// Names of the columns, with units where they have one.
    pub columns: Vec<String>,
    /// Cells by row, one for each column.
    pub rows: Vec<Vec<Value>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new<S: AsRef<str>>(columns: &[S]) -> Self {
        let columns = columns.iter().map(|c| c.as_ref().to_string()).collect();
        Self { title: String::new(), columns, rows: Vec::new() }
    }

    /// The same under a title.
    pub fn titled(self, title: impl Into<String>) -> Self {
        Self { title: title.into(), ..self }
    }

    /// Header line and one line per row; fields with separators, quotes or line ends are quoted. Words that a
    /// spreadsheet would take for a formula get an apostrophe in front.
    pub fn csv(&self) -> String {
        let line = |cells: Vec<String>| cells.join(",") + "\r\n";
        let mut out = line(self.columns.iter().map(|c| field(c)).collect());
        for row in &self.rows {
            out += &line(row.iter().map(cell).collect());
        }
        out
    }

    /// The same parted by tabs, as spreadsheets paste it: tabs and line ends in words become spaces.
    pub fn tabbed(&self) -> String {
        let flat = |words: String| words.replace(['\t', '\n', '\r'], " ");
        let line = |cells: Vec<String>| cells.join("\t") + "\n";
        let mut out = line(self.columns.iter().map(|c| flat(harmless(c))).collect());
        for row in &self.rows {
            out += &line(row.iter().map(|v| flat(harmless(&plain(v)))).collect());
        }
        out
    }

    /// An array of objects, one per row, keys in the order of the columns.
    pub fn json(&self) -> Value {
        let object = |r: &Vec<Value>| Value::Object(self.columns.iter().cloned().zip(r.iter().cloned()).collect());
        Value::Array(self.rows.iter().map(object).collect())
    }

    /// Cell by cell: numbers are subtracted, equal cells stay, of others both are shown. Errors: other columns, or
    /// another number of rows.
    pub fn minus(&self, other: &Self) -> Result<Picture> {
        if self.columns != other.columns {
            return Err(Error::invalid("the tables have different columns"));
        }
        if self.rows.len() != other.rows.len() {
            let (n, m) = (self.rows.len(), other.rows.len());
            return Err(Error::invalid(format!("one table has {n} rows and the other {m}")));
        }
        let minus = |(a, b): (&Value, &Value)| match (a.as_f64(), b.as_f64()) {
            _ if a == b && !(a.is_f64() || a.is_i64() || a.is_u64()) => a.clone(),
            (Some(x), Some(y)) => json!(x - y),
            _ => json!(format!("{} → {}", plain(b), plain(a))),
        };
        let rows = self.rows.iter().zip(&other.rows).map(|(a, b)| a.iter().zip(b).map(minus).collect()).collect();
        let title = super::difference(&self.title, &other.title);
        Ok(Picture::Table(Self { title, columns: self.columns.clone(), rows }))
    }

    /// Errors unless there are columns, each with a name of its own, and every row fills them.
    pub fn check(&self) -> Result<()> {
        let twice = self.columns.iter().enumerate().find(|(i, c)| c.is_empty() || self.columns[..*i].contains(c));
        if self.columns.is_empty() || twice.is_some() {
            return Err(Error::invalid(format!("columns need names of their own: {}", self.columns.join(", "))));
        }
        match self.rows.iter().position(|r| r.len() != self.columns.len()) {
            Some(i) => {
                let (got, want) = (self.rows[i].len(), self.columns.len());
                Err(Error::invalid(format!("row {i} has {got} cells for {want} columns")))
            }
            None => Ok(()),
        }
    }
}

/// A cell without the quotes of JSON.
fn plain(v: &Value) -> String {
    match v {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        v => v.to_string(),
    }
}

fn cell(v: &Value) -> String {
    field(&plain(v))
}

/// Words that no spreadsheet runs: what begins like a formula and is no number is taken as words by every one of them
/// once an apostrophe stands in front.
fn harmless(s: &str) -> String {
    let live = s.starts_with(['=', '+', '-', '@', '\t', '\r']) && s.parse::<f64>().is_err();
    if live { format!("'{s}") } else { s.to_string() }
}

/// A field, quoted where it must be.
fn field(s: &str) -> String {
    let s = harmless(s);
    if s.contains([',', '"', '\n', '\r']) { format!("\"{}\"", s.replace('"', "\"\"")) } else { s }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: Vec<Vec<Value>>) -> Table {
        Table { rows, ..Table::new(&["token", "p"]) }
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let t = table(vec![vec![json!("a,\"b\""), json!(0.5)], vec![json!("é"), Value::Null]]);
        assert_eq!(t.csv(), "token,p\r\n\"a,\"\"b\"\"\",0.5\r\né,\r\n");
    }

    #[test]
    fn csv_holds_no_live_formula() {
        let words = ["=1+2", "+x", "-x", "@SUM(A1)", "\tx", "\r=x", "-1.5", "+2", "a=b"];
        let t = Table { rows: words.iter().map(|w| vec![json!(w)]).collect(), ..Table::new(&["=column"]) };
        let want = ["'=1+2", "'+x", "'-x", "'@SUM(A1)", "'\tx", "\"'\r=x\"", "-1.5", "+2", "a=b"];
        assert_eq!(t.csv(), format!("'=column\r\n{}\r\n", want.join("\r\n")));
        assert_eq!(table(vec![vec![json!(-0.5), json!(-1e-9)]]).csv(), "token,p\r\n-0.5,-1e-9\r\n");
    }

    #[test]
    fn a_table_to_paste_has_a_cell_between_two_tabs() {
        let t = table(vec![vec![json!("a\tb\n\"c\""), json!(0.5)], vec![json!("=x"), Value::Null]]);
        assert_eq!(t.tabbed(), "token\tp\na b \"c\"\t0.5\n'=x\t\n");
    }

    #[test]
    fn json_keeps_the_order_of_columns() {
        let t = table(vec![vec![json!("a"), json!(0.5)]]);
        assert_eq!(t.json().to_string(), r#"[{"token":"a","p":0.5}]"#);
    }

    #[test]
    fn tables_subtract_cell_by_cell() {
        let a = table(vec![vec![json!("a"), json!(0.5)], vec![json!("b"), json!(2)]]);
        let b = table(vec![vec![json!("a"), json!(0.25)], vec![json!("c"), json!(2)]]);
        let Picture::Table(d) = a.minus(&b).unwrap() else { panic!() };
        assert_eq!(d.rows, [vec![json!("a"), json!(0.25)], vec![json!("c → b"), json!(0.0)]]);
        assert!(a.minus(&table(vec![])).is_err());
        assert!(Table::new(&["a", "a"]).check().is_err() && table(vec![vec![json!(1)]]).check().is_err());
    }
}
