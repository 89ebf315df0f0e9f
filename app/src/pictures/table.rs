//! Rows and columns.

use super::widgets;
use crate::cx::Cx;
use egui::Ui;
use serde_json::Value;
use tokenscope_analysis::finding::Table;

/// Rows drawn at most; the file has all.
const MAX_ROWS: usize = 100;

/// Draws `table`.
pub fn ui(cx: &Cx, ui: &mut Ui, table: &Table) {
    let area = egui::ScrollArea::horizontal().id_salt("table").auto_shrink([false, true]);
    let grid = |ui: &mut Ui| {
        egui::Grid::new("rows").striped(true).spacing([14.0, 2.0]).show(ui, |ui| {
            for c in &table.columns {
                ui.small(c);
            }
            ui.end_row();
            for row in table.rows.iter().take(MAX_ROWS) {
                for cell in row {
                    match cell {
                        Value::Null => drop(ui.label("")),
                        Value::String(s) => drop(ui.label(s)),
                        Value::Number(n) if n.is_f64() => {
                            drop(ui.monospace(widgets::number(n.as_f64().unwrap_or(0.0) as f32)))
                        }
                        Value::Bool(b) => drop(ui.label(if *b { "yes" } else { "no" })),
                        other => drop(ui.monospace(other.to_string())),
                    }
                }
                ui.end_row();
            }
        });
    };
    if cx.figure {
        grid(ui);
    } else {
        area.show(ui, grid);
    }
    if table.rows.is_empty() {
        ui.weak("No rows.");
    }
    if table.rows.len() > MAX_ROWS {
        ui.small(format!("the first {MAX_ROWS} of {} rows; CSV and JSON have all", table.rows.len()));
    }
}
