//! What leaves the program: SVG and PNG of views, CSV and JSON of the numbers behind them.

mod svg;
mod table;

pub use svg::{Textures, escape, to_svg};
pub use table::{to_csv, to_json};

use crate::request::Status;
use crate::state::State;
use crate::theme::Theme;
use crate::views::{Needs, View, ViewCx};
use anyhow::{Context as _, bail};
use std::cell::{Cell, RefCell};
use std::path::Path;

/// Formats that a view can be saved as.
pub const FORMATS: &[&str] = &["png", "svg", "csv", "json"];

/// Draws the view `id` without a window and writes it to `path`; the extension says how.
///
/// `size` is in points; a PNG has two pixels a point. Waits for every product the view asks for.
pub fn render_view(id: &str, state: &State, needs: &dyn Needs, size: egui::Vec2, path: &Path) -> anyhow::Result<()> {
    let mut views = crate::views::all();
    let known = views.iter().map(|v| v.info().id).collect::<Vec<_>>().join(", ");
    let Some(view) = views.iter_mut().find(|v| v.info().id == id) else {
        bail!("no view named {id}; known: {known}");
    };
    let bytes = match path.extension().and_then(|e| e.to_str()) {
        Some("svg") => draw(view.as_mut(), state, needs, size)?.into_bytes(),
        Some("png") => to_png(&draw(view.as_mut(), state, needs, size)?, 2.0)?,
        Some(format @ ("csv" | "json")) => {
            // One drawing first, so that everything the table reads has been asked for.
            draw(view.as_mut(), state, needs, size)?;
            let theme = Theme::new(state.doc.dark);
            let (commands, hover) = (RefCell::new(Vec::new()), RefCell::new(None));
            let cx = ViewCx { state, theme: &theme, needs, commands: &commands, hover: &hover };
            let table = view.table(&cx).context("the view has no numbers yet")?;
            if format == "csv" { to_csv(&table).into_bytes() } else { to_json(&table).into_bytes() }
        }
        _ => bail!("cannot tell the format from the name; end it in {}: {}", FORMATS.join(", "), path.display()),
    };
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Counts what is still under way and keeps the first failure, so that a half-finished figure is never saved.
struct Watch<'a> {
    inner: &'a dyn Needs,
    pending: Cell<usize>,
    failed: RefCell<Option<String>>,
}

impl Needs for Watch<'_> {
    fn need(&self, place: &'static str, request: crate::request::Request) -> Status {
        let status = self.inner.need(place, request);
        match &status {
            Status::Running { .. } => self.pending.set(self.pending.get() + 1),
            Status::Failed(why) => {
                self.failed.borrow_mut().get_or_insert_with(|| why.to_string());
            }
            Status::Ready(_) => {}
        }
        status
    }
}

/// Draws a view to SVG text, frame after frame until nothing is under way and the layout has settled.
pub fn draw(view: &mut dyn View, state: &State, needs: &dyn Needs, size: egui::Vec2) -> anyhow::Result<String> {
    let theme = Theme::new(state.doc.dark);
    let ctx = egui::Context::default();
    theme.install(&ctx);
    let watch = Watch { inner: needs, pending: Cell::new(0), failed: RefCell::new(None) };
    let mut textures = Textures::new();
    let mut settled = 0;
    // Settling takes a few frames (egui measures before it places); the rest is waiting for products.
    for frame in 0..6000 {
        watch.pending.set(0);
        watch.failed.borrow_mut().take();
        let (commands, hover) = (RefCell::new(Vec::new()), RefCell::new(None));
        let input = egui::RawInput {
            screen_rect: Some(egui::Rect::from_min_size(egui::Pos2::ZERO, size)),
            time: Some(frame as f64 / 60.0),
            ..Default::default()
        };
        let output = ctx.run_ui(input, |ui| {
            let frame = egui::Frame::central_panel(ui.style()).fill(theme.background).inner_margin(theme.gap * 2.0);
            egui::CentralPanel::default().frame(frame).show(ui, |ui| {
                let cx = ViewCx { state, theme: &theme, needs: &watch, commands: &commands, hover: &hover };
                view.ui(&cx, ui);
            });
        });
        for (id, deltas) in &output.textures_delta.set {
            for delta in deltas {
                let egui::ImageData::Color(image) = &delta.image;
                // The font atlas is id 0 and comes in patches; text stays text, so it is not needed.
                if *id != egui::TextureId::default() && delta.pos.is_none() {
                    textures.insert(*id, image.as_ref().clone());
                }
            }
        }
        if watch.pending.get() > 0 {
            settled = 0;
            std::thread::sleep(std::time::Duration::from_millis(10));
            continue;
        }
        settled += 1;
        if settled >= 3 {
            if let Some(why) = watch.failed.borrow_mut().take() {
                bail!("{why}");
            }
            return Ok(to_svg(&output.shapes, &textures, size, theme.background));
        }
    }
    bail!("the view did not finish within a minute")
}

/// Draws an SVG of ours with the fonts of the program; `scale` is pixels per point.
pub fn to_png(svg: &str, scale: f32) -> anyhow::Result<Vec<u8>> {
    use resvg::{tiny_skia, usvg};
    let mut fonts = usvg::fontdb::Database::new();
    for bytes in crate::theme::font_files() {
        fonts.load_font_data(bytes.to_vec());
    }
    // Scripts that the bundled fonts lack come from the system where it has them.
    fonts.load_system_fonts();
    let options = usvg::Options { fontdb: std::sync::Arc::new(fonts), ..Default::default() };
    let tree = usvg::Tree::from_str(svg, &options).context("the figure could not be read back")?;
    let size = tree.size();
    let (w, h) = ((size.width() * scale).ceil() as u32, (size.height() * scale).ceil() as u32);
    let mut map = tiny_skia::Pixmap::new(w, h).context("the figure is too large for a PNG; make it smaller")?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut map.as_mut());
    map.encode_png().context("the PNG could not be written")
}
