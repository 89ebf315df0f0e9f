//! The report as one HTML page that needs nothing else: no script, no font, no address but those of papers.

use super::Report;
use anyhow::Context as _;
use minijinja::{Environment, UndefinedBehavior};
use serde_json::Value;

/// Escapes whatever it is given but the markup of figures.
const TEMPLATE: &str = include_str!("../../../assets/report.html");

/// The page.
pub(super) fn page(report: &Report) -> anyhow::Result<String> {
    let mut all = serde_json::to_value(report).context("the report cannot be told")?;
    clean(&mut all);
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // The end of the name makes it escape for HTML.
    environment.add_template("report.html", TEMPLATE).context("the template of reports")?;
    environment.get_template("report.html")?.render(minijinja::value::Serde(&all)).context("the template of reports")
}

/// Replaces what a page may not hold, however it is escaped.
fn clean(value: &mut Value) {
    match value {
        Value::String(s) if s.chars().any(is_barred) => {
            *s = s.replace("\r\n", "\n").replace('\r', "\n").replace(is_barred, "\u{fffd}");
        }
        Value::Array(all) => all.iter_mut().for_each(clean),
        Value::Object(all) => all.values_mut().for_each(clean),
        _ => {}
    }
}

fn is_barred(c: char) -> bool {
    let noncharacter = (c as u32) & 0xfffe == 0xfffe || matches!(c, '\u{fdd0}'..='\u{fdef}');
    c.is_control() && !matches!(c, '\n' | '\t') || noncharacter
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_no_page_may_hold_is_replaced_wherever_it_stands() {
        let mut v = json!({"a": ["x\u{0}y\r\nz\u{85}", {"b": "\u{ffff}\u{1fffe}ok\t"}], "n": 1});
        clean(&mut v);
        assert_eq!(v, json!({"a": ["x\u{fffd}y\nz\u{fffd}", {"b": "\u{fffd}\u{fffd}ok\t"}], "n": 1}));
    }
}
