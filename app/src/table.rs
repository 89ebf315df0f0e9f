//! Tables → CSV (RFC 4180) and JSON.

use serde_json::Value;

/// Numbers behind a view.
pub struct Table {
    /// Names of the columns, with units where they have one.
    pub columns: Vec<String>,
    /// Cells by row.
    pub rows: Vec<Vec<Value>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|c| c.to_string()).collect(), rows: Vec::new() }
    }
}

/// Header line and one line per row; fields with separators, quotes or newlines are quoted.
pub fn to_csv(table: &Table) -> String {
    let field = |s: String| {
        if s.contains([',', '"', '\n', '\r']) { format!("\"{}\"", s.replace('"', "\"\"")) } else { s }
    };
    let mut out = table.columns.iter().cloned().map(field).collect::<Vec<_>>().join(",") + "\r\n";
    for row in &table.rows {
        let cells = row.iter().map(|v| match v {
            Value::Null => String::new(),
            Value::String(s) => field(s.clone()),
            v => field(v.to_string()),
        });
        out += &(cells.collect::<Vec<_>>().join(",") + "\r\n");
    }
    out
}

/// An array of objects, one per row, keys in the order of the columns.
pub fn to_json(table: &Table) -> String {
    let rows: Vec<Value> = table
        .rows
        .iter()
        .map(|r| Value::Object(table.columns.iter().cloned().zip(r.iter().cloned()).collect()))
        .collect();
    let mut text = serde_json::to_string_pretty(&rows).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table() -> Table {
        Table {
            columns: vec!["token".into(), "p".into()],
            rows: vec![vec![json!("a,\"b\""), json!(0.5)], vec![json!("é"), Value::Null]],
        }
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        assert_eq!(to_csv(&table()), "token,p\r\n\"a,\"\"b\"\"\",0.5\r\né,\r\n");
    }

    #[test]
    fn json_keeps_the_order_of_columns() {
        assert!(to_json(&table()).replace([' ', '\n'], "").starts_with(r#"[{"token":"a,\"b\"","p":0.5}"#));
    }
}
