//! Where things are on screen, by the names that a screen reader says.

use egui::accesskit::{self, NodeId, Role};
use egui::{Rect, pos2};

/// Something with a name.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub name: String,
    /// In points.
    pub rect: Rect,
    id: NodeId,
}

/// What had a name in the last frame. A plugin, because names are complete only after everything was drawn.
#[derive(Default)]
pub(super) struct Places {
    list: Vec<Named>,
    /// Whether a lesson asks for them.
    asked: bool,
    /// Whether they were there in a frame in which none asked: then a screen reader listens. `None` before any frame.
    heard: Option<bool>,
}

impl egui::Plugin for Places {
    fn debug_name(&self) -> &'static str {
        "places"
    }

    fn output_hook(&mut self, _: &egui::Context, output: &mut egui::FullOutput) {
        self.list.clear();
        let update = &output.platform_output.accesskit_update;
        if !self.asked {
            self.heard = Some(update.is_some());
            return;
        }
        let Some(update) = update else { return };
        self.list.extend(update.nodes.iter().filter_map(|(id, node)| {
            // What a label says is its value.
            let words = node.label().or_else(|| node.value().filter(|_| node.role() == Role::Label))?;
            let b = node.bounds()?;
            let rect = Rect::from_min_max(pos2(b.x0 as f32, b.y0 as f32), pos2(b.x1 as f32, b.y1 as f32));
            Some(Named { name: words.into(), rect, id: *id })
        }));
        // Nodes come in no order; people read line by line.
        self.list.sort_by(|a, b| {
            let of = |n: &Named| [n.rect.top().round(), n.rect.left(), n.rect.right()];
            let pairs = of(a).into_iter().zip(of(b));
            pairs.map(|(a, b)| a.total_cmp(&b)).find(|o| o.is_ne()).unwrap_or_else(|| a.id.0.cmp(&b.id.0))
        });
    }
}

/// Watches whether a screen reader listens.
pub(super) fn watch(ctx: &egui::Context) {
    drop(ctx.plugin_or_default::<Places>());
}

/// Asks for names in every frame from now on.
pub(super) fn listen(ctx: &egui::Context) {
    ctx.plugin_or_default::<Places>().lock().asked = true;
    ctx.enable_accesskit();
}

/// Asks for them no longer, unless a screen reader does.
pub(super) fn leave(ctx: &egui::Context) {
    let heard = ctx.with_plugin::<Places, _>(|p| {
        p.list.clear();
        p.asked = false;
        p.heard
    });
    if heard == Some(Some(false)) {
        ctx.disable_accesskit();
    }
}

/// The `nth` from 1 of what is called so, or begins with it, inside a rectangle.
pub(super) fn find(ctx: &egui::Context, name: &str, nth: usize, inside: Rect) -> Option<Named> {
    let whole = |n: &&Named| n.name == name;
    let begins = |n: &&Named| {
        n.name.strip_prefix(name).is_some_and(|rest| rest.chars().next().is_some_and(|c| !c.is_alphanumeric()))
    };
    ctx.with_plugin::<Places, _>(|p| {
        // What is scrolled out of sight above or below is in the view all the same.
        let here = |n: &&Named| inside.x_range().contains(n.rect.center().x);
        let all = |test: &dyn Fn(&&Named) -> bool| p.list.iter().filter(here).filter(|n| test(n)).nth(nth - 1).cloned();
        all(&whole).or_else(|| all(&begins))
    })?
}

/// Asks the scroll areas around something to bring it into sight in the coming frame.
pub(super) fn scroll_to(ctx: &egui::Context, id: NodeId) {
    let request = accesskit::ActionRequest {
        action: accesskit::Action::ScrollIntoView,
        target_tree: accesskit::TreeId::ROOT,
        target_node: id,
        data: None,
    };
    ctx.input_mut(|i| i.events.push(egui::Event::AccessKitActionRequest(request)));
}

impl Named {
    /// What a scroll area knows it by.
    pub fn id(&self) -> NodeId {
        self.id
    }
}
