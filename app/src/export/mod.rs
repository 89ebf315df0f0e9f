//! What leaves the program: views as PNG, SVG and PDF, the numbers behind them as CSV and JSON.
//!
//! A figure is drawn by the view itself, in an egui of its own without a window; its shapes then go to one of
//! three back ends. So a saved figure and the screen cannot drift apart.

mod about;
mod command;
mod outline;
mod pdf;
mod png;
mod runs;
mod shape;
mod svg;

pub use about::{About, SOFTWARE, about, command_of};
pub use command::source;
pub use pdf::{Link, Sheets};
pub use svg::escape;

use crate::cx::{Cx, Sheet};
use crate::fonts::SystemFonts;
use crate::jobs::Jobs;
use crate::state::Doc;
use crate::theme::Theme;
use crate::views::View;
use anyhow::{Context as _, bail};
use egui::epaint::ClippedShape;
use egui::{Color32, ColorImage, TextureFilter, TextureId};
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tokenscope_analysis::finding::Table;
use tokenscope_analysis::save::save_bytes;

/// Formats that a view can be saved as, by the end of the file's name.
pub const FORMATS: &[&str] = &["png", "svg", "pdf", "csv", "json"];
/// How many of them, from the first on, are pictures; the others are numbers.
pub const PICTURES: usize = 3;
/// Around the content, in points.
const MARGIN: f32 = 12.0;
/// The longest figure, in points.
const MAX_HEIGHT: f32 = 4096.0;
/// A figure that is not ready after this time is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// Pixels of a texture and whether they are drawn as hard squares.
pub struct Texture {
    /// The pixels.
    pub image: ColorImage,
    /// Whether pixels are enlarged without smoothing.
    pub nearest: bool,
}

/// A drawn view.
pub struct Figure {
    /// What was painted, back to front.
    pub shapes: Vec<ClippedShape>,
    /// Textures that the shapes refer to, the font atlas among them.
    pub textures: HashMap<TextureId, Texture>,
    /// Size in points.
    pub size: egui::Vec2,
    /// Colour of the page.
    pub background: Color32,
    /// Whether it is for paper; then its size is told in millimetres.
    pub print: bool,
    /// What it says about itself in its file.
    pub about: About,
    ctx: egui::Context,
}

/// How large a figure is and what for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Page {
    /// Width and height in points of 1/96 inch; views with a height of their own take only its width.
    pub size: egui::Vec2,
    /// Whether it is for paper: text of 7 to 9 pt, white behind dark text.
    pub print: bool,
    /// Pixels a point of a PNG.
    pub scale: f32,
}

impl Page {
    /// A figure for the screen.
    pub fn screen(size: egui::Vec2, scale: f32) -> Self {
        Self { size, print: false, scale }
    }

    /// A figure of so many millimetres for paper.
    pub fn paper(width_mm: f32, height_mm: f32, scale: f32) -> Self {
        Self { size: egui::vec2(points(width_mm), points(height_mm)), print: true, scale }
    }

    /// Width and height in millimetres, if it is for paper; [`Page::paper`] makes the same page of them.
    pub fn mm(&self) -> Option<[f32; 2]> {
        self.print.then(|| [self.size.x, self.size.y].map(millimetres))
    }
}

fn points(mm: f32) -> f32 {
    mm / 25.4 * 96.0
}

/// Millimetres that make these points, in few digits where such are exact.
fn millimetres(of: f32) -> f32 {
    let near = of / 96.0 * 25.4;
    let short = [1.0, 10.0, 100.0, 1000.0].map(|m| (near * m).round() / m);
    // Rounding on the way back may need a neighbour.
    let bits = near.to_bits();
    let about = (0..8).flat_map(|i| [bits.saturating_add(i), bits.saturating_sub(i)]).map(f32::from_bits);
    short.into_iter().chain(about).find(|mm| points(*mm) == of).unwrap_or(near)
}

/// Pixels a point that make 300 dots an inch.
pub const PRINT_SCALE: f32 = 300.0 / 96.0;

/// Draws `view` without a window and writes it to `path`; the end of the name says how.
///
/// `size` is in points; views with a height of their own take only its width. A PNG has `scale` pixels a point. Waits for every product the view asks for.
///
/// Errors: an unknown format, a product that failed, a file that cannot be written.
pub fn save(view: &View, doc: &Doc, jobs: &Jobs, size: egui::Vec2, scale: f32, path: &Path) -> anyhow::Result<()> {
    save_page(view, doc, jobs, &Page::screen(size, scale), path)
}

/// The same as `page` says, for the screen or for paper.
pub fn save_page(view: &View, doc: &Doc, jobs: &Jobs, page: &Page, path: &Path) -> anyhow::Result<()> {
    let format = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    if !FORMATS.contains(&format.as_str()) {
        bail!("cannot tell the format from the name; end it in {}: {}", FORMATS.join(", "), path.display());
    }
    let doc = &doc.figured(view.compares());
    let mut figure = draw(view, doc, jobs, page)?;
    figure.about = about(Some(view), doc, page, path);
    let bytes = match format.as_str() {
        "svg" => figure.svg().into_bytes(),
        "png" => figure.png(page.scale)?,
        "pdf" => figure.pdf()?,
        _ => {
            let table = numbers(view, doc, jobs)?;
            if format == "csv" { table.csv().into_bytes() } else { json(&table).into_bytes() }
        }
    };
    Ok(save_bytes(path, &bytes)?)
}

/// The numbers of a view of which everything is there. Errors: it has none.
fn numbers(view: &View, doc: &Doc, jobs: &Jobs) -> anyhow::Result<Table> {
    let theme = Theme::new(doc.look.dark, doc.look.map);
    let table = (view.table)(&Sheet::default().cx(doc, jobs, &theme));
    table.with_context(|| format!("the view {} has no numbers for this run", view.title))
}

/// The numbers of a view, waited for. Errors: a product that failed; a view without numbers.
pub fn table(view: &View, doc: &Doc, jobs: &Jobs, page: &Page) -> anyhow::Result<Table> {
    let doc = &doc.figured(view.compares());
    // What it shows is what it has numbers of.
    draw(view, doc, jobs, page)?;
    numbers(view, doc, jobs)
}

/// A view as pixels, waited for. Errors: a product that failed, too large a page.
pub fn image(view: &View, doc: &Doc, jobs: &Jobs, page: &Page) -> anyhow::Result<ColorImage> {
    let png = draw(view, &doc.figured(view.compares()), jobs, page)?.png(page.scale)?;
    let pixels = ::image::load_from_memory(&png).context("the picture cannot be read back")?.to_rgba8();
    let size = [pixels.width() as usize, pixels.height() as usize];
    Ok(ColorImage::from_rgba_unmultiplied(size, pixels.as_raw()))
}

/// The rows of a table as a JSON file.
pub fn json(table: &Table) -> String {
    format!("{:#}\n", table.json())
}

/// Draws a view frame after frame until nothing is under way and the layout has settled.
pub fn draw(view: &View, doc: &Doc, jobs: &Jobs, page: &Page) -> anyhow::Result<Figure> {
    draw_with(&|cx, ui| (view.ui)(cx, ui), view.own_height, &doc.figured(view.compares()), jobs, page)
}

/// The same for anything that is drawn; `own_height` as of [`View::own_height`].
pub fn draw_with(
    content: &dyn Fn(&Cx, &mut egui::Ui),
    own_height: bool,
    doc: &Doc,
    jobs: &Jobs,
    page: &Page,
) -> anyhow::Result<Figure> {
    // What an egui keeps from frame to frame hangs on what was there when; a figure must not. So everything is waited for
    // first, and drawn by another that finds it there.
    let (figure, waited) = drawn(content, own_height, doc, jobs, page)?;
    if waited { drawn(content, own_height, doc, jobs, page).map(|f| f.0) } else { Ok(figure) }
}

/// Draws with an egui of its own; says whether anything had to be waited for.
fn drawn(
    content: &dyn Fn(&Cx, &mut egui::Ui),
    own_height: bool,
    doc: &Doc,
    jobs: &Jobs,
    page: &Page,
) -> anyhow::Result<(Figure, bool)> {
    let (size, scale) = (page.size, page.scale);
    let theme = Theme::new(doc.look.dark, doc.look.map);
    let theme = if page.print { theme.on_paper() } else { theme };
    let ctx = egui::Context::default();
    theme.install(&ctx);
    SystemFonts::at_once(&ctx);
    let room = if own_height { egui::vec2(size.x, MAX_HEIGHT) } else { size };
    let mut used = size;
    let mut failed = None;
    let own = !jobs.has_window();
    let waited = std::cell::Cell::new(false);
    let running = || {
        let n = jobs.running().0;
        waited.set(waited.get() || n > 0);
        n
    };
    let mut figure = settle(ctx, room, scale, theme.background, &running, |ui| {
        // Beside a window its frames are those that count.
        if own {
            jobs.begin_frame();
        }
        let sheet = Sheet::default();
        let frame = egui::Frame::new().fill(theme.background).inner_margin(MARGIN);
        egui::CentralPanel::default().frame(frame).show(ui, |ui| {
            content(&sheet.cx(doc, jobs, &theme), ui);
            if own_height {
                used.y = (ui.cursor().top() + MARGIN).ceil().min(MAX_HEIGHT);
            }
        });
        failed = sheet.failed.into_inner();
    })?;
    if let Some(why) = failed {
        bail!("{why}");
    }
    (figure.size, figure.print) = (used, page.print);
    Ok((figure, waited.get()))
}

/// Runs frames of `ui` on a page of `room` points until `running` says that nothing is under way.
///
/// Errors: ten minutes were not enough.
pub fn settle(
    ctx: egui::Context,
    room: egui::Vec2,
    scale: f32,
    background: Color32,
    running: &dyn Fn() -> usize,
    mut ui: impl FnMut(&mut egui::Ui),
) -> anyhow::Result<Figure> {
    let mut textures: HashMap<TextureId, Texture> = HashMap::new();
    let (mut settled, mut frame, start) = (0, 0u32, Instant::now());
    loop {
        let mut input = egui::RawInput {
            screen_rect: Some(egui::Rect::from_min_size(egui::Pos2::ZERO, room)),
            time: Some(f64::from(frame) / 60.0),
            ..Default::default()
        };
        if let Some(viewport) = input.viewports.get_mut(&egui::ViewportId::ROOT) {
            viewport.native_pixels_per_point = Some(scale);
        }
        frame += 1;
        let mut output = ctx.run_ui(input, &mut ui);
        for (&id, deltas) in &output.textures_delta.set {
            for delta in deltas {
                let egui::ImageData::Color(image) = &delta.image;
                let nearest = delta.options.magnification == TextureFilter::Nearest;
                match (delta.pos, textures.get_mut(&id)) {
                    (Some([x, y]), Some(old)) => patch(&mut old.image, image, x, y),
                    _ => {
                        textures.insert(id, Texture { image: image.as_ref().clone(), nearest });
                    }
                }
            }
        }
        output.textures_delta.clear();
        if running() > 0 {
            settled = 0;
            if start.elapsed() > PATIENCE {
                bail!("the view did not finish within {} minutes", PATIENCE.as_secs() / 60);
            }
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        // egui measures before it places, so the first frames may differ.
        settled += 1;
        if settled >= 4 {
            return Ok(Figure {
                shapes: output.shapes,
                textures,
                size: room,
                background,
                print: false,
                about: About::new(),
                ctx,
            });
        }
    }
}

fn patch(old: &mut ColorImage, new: &ColorImage, x: usize, y: usize) {
    let [w, h] = new.size;
    for r in 0..h {
        let at = (y + r) * old.size[0] + x;
        old.pixels[at..at + w].copy_from_slice(&new.pixels[r * w..(r + 1) * w]);
    }
}

impl Figure {
    /// The figure as standalone SVG that looks the same in every program: letters are outlines, with the text itself
    /// unseen above them, to be found, copied and read aloud.
    pub fn svg(&self) -> String {
        svg::to_svg(self, Some(outline::Outliner::new(&self.ctx)), "")
    }

    /// The same with letters as text in named fonts.
    pub fn svg_text(&self) -> String {
        svg::to_svg(self, None, "")
    }

    /// The same with ids that begin with `prefix`, so that several can stand in one page.
    pub fn svg_in(&self, prefix: &str) -> String {
        svg::to_svg(self, None, prefix)
    }

    /// The figure as a PDF of one page of its size, with the fonts of its letters.
    ///
    /// Errors: a font that cannot be embedded.
    pub fn pdf(&self) -> anyhow::Result<Vec<u8>> {
        let mut sheets = Sheets::new();
        sheets.add(self.size, |sheet| sheet.figure(self, egui::Pos2::ZERO, 1.0));
        sheets.finish(&self.about)
    }

    /// The figure as PNG, `scale` pixels a point.
    pub fn png(&self, scale: f32) -> anyhow::Result<Vec<u8>> {
        let primitives = self.ctx.tessellate(self.shapes.clone(), scale);
        let png = png::to_png(&primitives, &self.textures, self.size, scale, self.background)?;
        Ok(png::with_about(png, &self.about))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_made_again_from_its_millimetres() {
        for i in 0..2000 {
            let (w, h) = (30.0 + i as f32 * 0.2341, 17.0 + i as f32 * 0.0713);
            let page = Page::paper(w, h, 2.0);
            let [w, h] = page.mm().unwrap();
            assert_eq!(Page::paper(w, h, 2.0), page);
        }
        assert_eq!(Page::paper(85.0, 80.0, 1.0).mm(), Some([85.0, 80.0]));
        assert_eq!(Page::screen(egui::vec2(85.0, 80.0), 1.0).mm(), None);
    }
}
