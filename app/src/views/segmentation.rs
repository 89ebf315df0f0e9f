//! How tokenizers cut the prompt, one row each, with what each cut costs.

use super::{Cx, View, widgets};
use crate::request::{Product, Request};

pub(super) const VIEW: View = View {
    title: "Segmentation",
    help: "One row per tokenizer. Neighbouring chips differ in colour; dots are spaces. Hover a chip for its id and bytes.",
    ui,
};

fn ui(cx: &Cx, ui: &mut egui::Ui) {
    let Some(Product::Segment(rows)) = cx.need(ui, "segmentation", Request::Segment(cx.doc.run())) else { return };
    let text = &cx.doc.prompt;
    egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        for row in rows.iter() {
            let words = text.split_whitespace().count().max(1);
            ui.horizontal(|ui| {
                ui.strong(&row.name);
                let n = row.pieces.len();
                ui.small(format!(
                    "{n} tokens · {:.2} bytes per token · {:.2} tokens per word",
                    text.len() as f32 / n.max(1) as f32,
                    n as f32 / words as f32
                ));
            });
            ui.horizontal_wrapped(|ui| {
                ui.spacing_mut().item_spacing = egui::vec2(1.0, 2.0);
                for (i, p) in row.pieces.iter().enumerate() {
                    // Text where the piece is text; a part of a character shows the vocabulary's spelling.
                    let shown = text.get(p.start..p.end).unwrap_or(&p.token);
                    // Only the model's own row has the tokens that the other views show; <s> comes first there.
                    let token = (row.name == "this model").then_some(i + 1);
                    let r = widgets::chip(cx, ui, shown, cx.theme.chips[i % 8], false, token);
                    let id = p.id.map_or(String::new(), |id| format!("id {id} · "));
                    r.on_hover_text(format!("{id}bytes {}..{} · {}", p.start, p.end, p.token));
                }
            });
            ui.add_space(4.0);
        }
    });
}
