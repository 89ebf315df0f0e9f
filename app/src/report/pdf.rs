//! The report as a PDF on A4 pages, set by egui's own layout of text and drawn by the back end of figures.

use super::{Cell, Drawn, PAPER, Report, Run};
use crate::export::{Link, Sheets, settle};
use crate::fonts::SystemFonts;
use crate::theme::{ColorMap, Theme};
use egui::epaint::TextShape;
use egui::text::{LayoutJob, TextFormat, TextWrapping};
use egui::{Color32, FontId, Galley, Pos2, Rect, Shape, Stroke, Ui, Vec2, pos2, vec2};
use std::sync::Arc;

/// Points of 1/96 inch to a millimetre.
const MM: f32 = 96.0 / 25.4;
/// A4.
const PAGE: Vec2 = vec2(210.0 * MM, 297.0 * MM);
/// Around what is set.
const MARGIN: f32 = (210.0 - PAPER[0]) / 2.0 * MM;
/// Width of what is set.
const WIDTH: f32 = PAPER[0] * MM;
/// Where the lines of a page end.
const BOTTOM: f32 = PAGE.y - MARGIN;
/// Widest column of a table.
const COLUMN: f32 = 60.0 * MM;
/// Columns of a table that have room beside each other.
const COLUMNS: usize = 10;

/// What stands on a page.
#[derive(Default)]
struct Sheet<'a> {
    shapes: Vec<Shape>,
    figures: Vec<(&'a Drawn, Pos2, f32)>,
    pictures: Vec<(&'a [u8], Rect)>,
    links: Vec<(Rect, String)>,
}

/// The page that is set, those before it, and how far down it is filled.
struct Setter<'a, 'u> {
    ui: &'u Ui,
    theme: &'u Theme,
    before: Vec<Sheet<'a>>,
    page: Sheet<'a>,
    y: f32,
}

/// The PDF.
pub(super) fn pages(report: &Report) -> anyhow::Result<Vec<u8>> {
    let theme = Theme::new(false, ColorMap::default()).on_paper();
    let ctx = egui::Context::default();
    theme.install(&ctx);
    SystemFonts::at_once(&ctx);
    let mut pages = Vec::new();
    // The first frames may lack fonts that are looked for when a character asks for them.
    settle(ctx.clone(), PAGE, 1.0, theme.background, &|| 0, |ui| {
        let mut setter = Setter { ui, theme: &theme, before: Vec::new(), page: Sheet::default(), y: MARGIN };
        setter.report(report);
        pages = setter.numbered(&report.title);
    })?;
    let mut sheets = Sheets::new();
    for page in pages {
        sheets.add(PAGE, |sheet| {
            page.figures.iter().for_each(|(f, at, scale)| sheet.figure(&f.figure, *at, *scale));
            page.pictures.iter().for_each(|(png, place)| sheet.picture(png, *place));
            sheet.shapes(&page.shapes, &ctx);
            page.links.into_iter().for_each(|(place, url)| sheet.link(Link { place, url }));
        });
    }
    sheets.finish(&vec![("title", report.title.clone())])
}

impl<'a> Setter<'a, '_> {
    fn break_page(&mut self) {
        self.before.push(std::mem::take(&mut self.page));
        self.y = MARGIN;
    }

    /// Makes sure that so much fits below what is there.
    fn room(&mut self, height: f32) {
        if self.y + height > BOTTOM && self.y > MARGIN {
            self.break_page();
        }
    }

    fn gap(&mut self, height: f32) {
        if self.y > MARGIN {
            self.y += height;
        }
    }

    /// Words in one line, cut where they are too long.
    fn line(&self, words: &str, font: &FontId, color: Color32, width: f32) -> Arc<Galley> {
        let format = TextFormat::simple(font.clone(), color);
        let mut job = LayoutJob::single_section(words.replace('\n', " "), format);
        job.wrap = TextWrapping::truncate_at_width(width);
        self.ui.painter().layout_job(job)
    }

    fn galley(&mut self, galley: Arc<Galley>, at: Pos2) {
        let color = self.theme.text;
        self.page.shapes.push(Shape::Text(TextShape::new(at, galley, color)));
    }

    /// A paragraph, broken into lines and over pages, `indent` from the left edge.
    fn words(&mut self, words: &str, font: FontId, color: Color32, indent: f32) {
        let job = LayoutJob::simple(words.into(), font.clone(), color, WIDTH - indent);
        let whole = self.ui.painter().layout_job(job);
        for row in &whole.rows {
            let text = row.row.text();
            let line = self.line(&text, &font, color, f32::INFINITY);
            let height = row.row.height();
            self.room(height);
            let at = pos2(MARGIN + indent, self.y);
            self.galley(line, at);
            self.y += height;
        }
    }

    fn body(&mut self, words: &str) {
        self.words(words, FontId::proportional(12.0), self.theme.text, 0.0);
    }

    fn small(&mut self, words: &str) {
        self.words(words, FontId::proportional(10.5), self.theme.weak, 0.0);
    }

    /// Words of a machine on a ground of their own.
    fn code(&mut self, words: &str) {
        self.gap(3.0);
        self.words(words, FontId::monospace(10.0), self.theme.text, 8.0);
        self.gap(5.0);
    }

    /// A heading that is not left alone at the foot of a page.
    fn heading(&mut self, words: &str, size: f32) {
        self.gap(size);
        self.room(size * 5.0);
        self.words(words, FontId::proportional(size), self.theme.text, 0.0);
        if size >= 16.0 {
            let (y, line) = (self.y + 2.0, Stroke::new(1.0, self.theme.line));
            self.page.shapes.push(Shape::line_segment([pos2(MARGIN, y), pos2(MARGIN + WIDTH, y)], line));
            self.y += 4.0;
        }
        self.y += 4.0;
    }

    fn report(&mut self, report: &'a Report) {
        self.words(&report.title, FontId::proportional(22.0), self.theme.text, 0.0);
        self.small(&format!("Made by {}.", report.software));
        for run in &report.runs {
            self.run(run);
        }
        if !report.comparisons.is_empty() {
            self.heading("Comparison", 16.0);
            report.comparisons.iter().for_each(|f| self.figure(f, "two runs"));
        }
        self.heading("Methods", 16.0);
        for m in &report.methods {
            self.room(40.0);
            let set: Vec<String> = m.params.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            self.body(&format!("{} ({}, {}): {}", m.title, m.id, m.kind, m.summary));
            if !set.is_empty() {
                self.words(&set.join(", "), FontId::monospace(10.0), self.theme.text, 0.0);
            }
            self.small(&format!("Written from: {}. Departs: {}.", m.basis, m.departs));
            self.gap(5.0);
        }
        if report.papers.is_empty() {
            return;
        }
        self.heading("Papers", 16.0);
        for p in &report.papers {
            self.room(30.0);
            self.body(&format!("{}: {} ({}), for {}", p.authors, p.title, p.year, p.methods.join(", ")));
            if !p.url.is_empty() {
                let (font, color) = (FontId::proportional(10.5), self.theme.accent);
                let line = self.line(&p.url, &font, color, WIDTH);
                let place = Rect::from_min_size(pos2(MARGIN, self.y), line.size());
                self.y += line.size().y;
                self.galley(line, place.min);
                self.page.links.push((place, p.url.clone()));
            }
            self.gap(5.0);
        }
        self.heading("BibTeX", 14.0);
        self.code(&report.bibtex);
    }

    fn run(&mut self, run: &'a Run) {
        self.heading(if run.name.is_empty() { "The run" } else { &run.name }, 16.0);
        let font = FontId::proportional(12.0);
        for (name, value) in &run.facts {
            let (y, pages) = (self.y, self.before.len());
            self.words(value, font.clone(), self.theme.text, 46.0 * MM);
            let label = self.line(name, &font, self.theme.weak, 44.0 * MM);
            // Beside the first line, wherever that came to stand.
            let first = if self.before.len() > pages { MARGIN } else { y };
            self.galley(label, pos2(MARGIN, first));
        }
        run.notes.iter().for_each(|n| self.small(n));
        if !run.prompt.is_empty() {
            self.heading("Prompt", 14.0);
            self.code(&run.prompt);
            if run.more_prompt > 0 {
                self.small(&format!("{} further characters are not shown.", run.more_prompt));
            }
        }
        if let Some(p) = &run.picture {
            self.heading("Picture", 14.0);
            let side = vec2(p.width.max(1) as f32, p.height.max(1) as f32);
            let size = side * (70.0 * MM / side.max_elem());
            self.room(size.y + 16.0);
            let place = Rect::from_min_size(pos2(MARGIN, self.y), size);
            self.page.pictures.push((&p.png, place));
            self.y += size.y + 3.0;
            self.small(&format!("{}, {} × {} pixels", p.name, p.width, p.height));
        }
        if !run.digests.is_empty() {
            self.heading("What it was made from", 14.0);
            for d in &run.digests {
                self.room(28.0);
                self.body(&format!("{}, {} bytes; SHA-256 of: {}", d.name, d.bytes, d.covers));
                self.words(&d.sha256, FontId::monospace(10.0), self.theme.weak, 0.0);
            }
        }
        run.figures.iter().for_each(|f| self.figure(f, &run.model));
        if !run.left_out.is_empty() {
            self.heading("Without a figure", 14.0);
            run.left_out.iter().for_each(|(view, why)| self.body(&format!("{view}: {why}")));
        }
    }

    fn figure(&mut self, f: &'a Drawn, model: &str) {
        let size = f.figure.size;
        // Whole on one page, with its title.
        let scale = (WIDTH / size.x).min((BOTTOM - MARGIN - 60.0) / size.y).min(1.0);
        self.gap(14.0);
        self.room(size.y * scale + 44.0);
        let at = pos2(MARGIN, self.y);
        self.page.figures.push((f, at, scale));
        self.y += size.y * scale + 4.0;
        self.words(
            &format!("Figure {}. {} of {model}", f.number, f.title),
            FontId::proportional(13.0),
            self.theme.text,
            0.0,
        );
        f.caption.iter().for_each(|c| self.body(c));
        if let Some(command) = &f.command {
            self.small("This command makes the figure again:");
            self.code(command);
        }
        let Some(t) = &f.table else { return };
        self.heading(&format!("Numbers of figure {}", f.number), 14.0);
        let shown = t.columns.len().min(COLUMNS);
        self.table(&t.columns[..shown], &t.rows);
        let mut more = Vec::new();
        if t.all > t.rows.len() {
            more.push(format!("{} of {} rows", t.rows.len(), t.all));
        }
        if t.columns.len() > shown {
            more.push(format!("{shown} of {} columns", t.columns.len()));
        }
        if !more.is_empty() {
            self.small(&format!("{}.{}", more.join(", "), if t.command.is_some() { " All of them:" } else { "" }));
            t.command.iter().for_each(|c| self.code(c));
        }
    }

    fn table(&mut self, columns: &[String], rows: &[Vec<Cell>]) {
        let (font, gap) = (FontId::monospace(9.0), 8.0);
        let width = |s: &Self, words: &str| s.line(words, &font, s.theme.text, COLUMN).size().x;
        let mut widths: Vec<f32> = columns.iter().map(|c| width(self, c)).collect();
        for row in rows {
            for (w, cell) in widths.iter_mut().zip(row) {
                *w = w.max(width(self, &cell.words));
            }
        }
        let (all, room) = (widths.iter().sum::<f32>(), WIDTH - gap * columns.len().saturating_sub(1) as f32);
        if all > room {
            // The wide ones give way first.
            let mut cap = COLUMN;
            while widths.iter().map(|w| w.min(cap)).sum::<f32>() > room && cap > 8.0 {
                cap *= 0.97;
            }
            widths.iter_mut().for_each(|w| *w = w.min(cap));
        }
        let numbers: Vec<bool> = (0..columns.len()).map(|i| rows[0].get(i).is_some_and(|c| c.number)).collect();
        let head: Vec<&str> = columns.iter().map(String::as_str).collect();
        self.room(40.0);
        self.cells(&head, &widths, &numbers, gap, self.theme.weak);
        for row in rows {
            if self.y + 13.0 > BOTTOM {
                self.break_page();
                self.cells(&head, &widths, &numbers, gap, self.theme.weak);
            }
            let words: Vec<&str> = row.iter().map(|c| c.words.as_str()).collect();
            self.cells(&words, &widths, &numbers, gap, self.theme.text);
        }
        self.gap(4.0);
    }

    fn cells(&mut self, words: &[&str], widths: &[f32], numbers: &[bool], gap: f32, color: Color32) {
        let font = FontId::monospace(9.0);
        let mut x = MARGIN;
        for ((words, w), number) in words.iter().zip(widths).zip(numbers) {
            let line = self.line(words, &font, color, *w + 0.5);
            let left = if *number { x + w - line.size().x } else { x };
            let at = pos2(left, self.y);
            self.galley(line, at);
            x += w + gap;
        }
        let (y, line) = (self.y + 12.5, Stroke::new(0.5, self.theme.line));
        self.page.shapes.push(Shape::line_segment([pos2(MARGIN, y), pos2(x - gap, y)], line));
        self.y += 13.5;
    }

    /// All pages, each with its number and what it belongs to.
    fn numbered(mut self, title: &str) -> Vec<Sheet<'a>> {
        let last = std::mem::take(&mut self.page);
        let mut pages: Vec<Sheet> = std::mem::take(&mut self.before).into_iter().chain([last]).collect();
        let (font, n) = (FontId::proportional(10.0), pages.len());
        for (i, page) in pages.iter_mut().enumerate() {
            let y = BOTTOM + 14.0;
            let left = self.line(title, &font, self.theme.weak, WIDTH * 0.8);
            let right = self.line(&format!("{} of {n}", i + 1), &font, self.theme.weak, WIDTH);
            let x = MARGIN + WIDTH - right.size().x;
            for (galley, x) in [(left, MARGIN), (right, x)] {
                page.shapes.push(Shape::Text(TextShape::new(pos2(x, y), galley, self.theme.weak)));
            }
        }
        pages
    }
}
