//! What shows where the keyboard is: a ring around what Tab has reached, and the caret of text boxes. It blinks while
//! somebody types and then stands still: each blink draws the whole window anew, which a processor that draws without a
//! graphics card would be busy with for as long as the box has the keys.

use crate::theme::Theme;
use egui::Event;
use tokenscope_analysis::gpu::Gpu;

/// Seconds after the last key or click in which it blinks.
const LIVELY: f64 = 5.0;

/// When the caret blinks.
#[derive(Debug, Default)]
pub struct Caret {
    /// Time of the last key or click, in the window's seconds.
    touched: f64,
    /// Whether a processor draws the window.
    slow: bool,
    /// Whether the keyboard was led to where it is by keys.
    keyed: bool,
}

impl Caret {
    /// Tells what draws the window; nothing is told of what draws no passes either.
    pub fn drawn_by(&mut self, gpu: Option<&Gpu>) {
        self.slow = gpu.is_none_or(|g| g.software);
    }

    /// Lets the caret blink, or not, in the frame that begins.
    pub(super) fn begin_frame(&mut self, ctx: &egui::Context) {
        let touched =
            |e: &Event| matches!(e, Event::Text(_) | Event::Key { pressed: true, .. } | Event::PointerButton { .. });
        ctx.input(|i| {
            self.keyed |= i.key_pressed(egui::Key::Tab);
            self.keyed &= !i.pointer.any_pressed();
        });
        let (now, any) = ctx.input(|i| (i.time, i.events.iter().any(touched)));
        if any {
            self.touched = now;
        }
        let blinks = !self.slow && now - self.touched < LIVELY;
        if ctx.global_style().visuals.text_cursor.blink != blinks {
            ctx.all_styles_mut(|s| s.visuals.text_cursor.blink = blinks);
        }
    }

    /// A ring around what has the keyboard, menus included, where keys have led there.
    pub(super) fn ring_ui(&self, ctx: &egui::Context, theme: &Theme) {
        let focused = ctx.memory(|m| m.focused()).filter(|_| self.keyed);
        let Some(response) = focused.and_then(|id| ctx.read_response(id)) else { return };
        let layer = egui::LayerId::new(egui::Order::Debug, egui::Id::unique("focus ring"));
        let ring = response.rect.intersect(response.interact_rect).expand(1.0);
        ctx.layer_painter(layer).rect_stroke(
            ring,
            3.0,
            egui::Stroke::new(2.0, theme.accent),
            egui::StrokeKind::Outside,
        );
    }
}
