//! Heatmaps drawn by the shader against the plain loops: the same pixels, from the host's cells and from the device's.

use egui::{Color32, Rect, pos2, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use egui_kittest::wgpu::{WgpuTestRenderer, create_render_state, default_wgpu_setup};
use std::sync::Arc;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::array::Array;
use tokenscope_analysis::gpu::{Compute, Gpu};
use tokenscope_analysis::passes::attention_tile::{self, Reduce, Window};
use tokenscope_analysis::passes::samples::OwnedHead;
use tokenscope_analysis::passes::value_counts;
use tokenscope_app::heatmap::{
    Curve, Fitted, Frame, Matrix, Painter, Palette, Scale, Screen, Source, Summary, Tile, pixels, version,
};
use tokenscope_app::pane::WHOLE;
use tokenscope_app::state::Doc;
use tokenscope_app::theme::{ColorMap, Theme};
use tokenscope_tests::gpu;

/// A screen to draw on, as a window has one; `None` without an adapter, where that is allowed.
pub fn screen(test: &str) -> Option<Screen> {
    gpu(test)?;
    Some(create_render_state(default_wgpu_setup(), egui_wgpu::RendererOptions::PREDICTABLE))
}

/// Everything of one heatmap, ready to draw as often as the harness likes.
struct Case {
    rows: usize,
    cols: usize,
    first_col: usize,
    values: Vec<f32>,
    summary: Arc<Summary>,
    scale: Scale,
    frame: Frame,
    version: u64,
}

/// A number from 0 to below `n`, of a small generator of its own.
fn random(state: &mut u64, n: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 33) % n as u64) as usize
}

fn case(state: &mut u64, rows: usize, cols: usize, scale: Scale) -> Case {
    let odd = [f32::NAN, -1.0, 0.0, f32::INFINITY, 1e-30];
    let values: Vec<f32> = (0..rows * cols)
        .map(|i| match random(state, 12) {
            0 => odd[random(state, odd.len())],
            // Causal zeros above the diagonal.
            _ if i % cols > i / cols + cols / 2 => 0.0,
            _ => (random(state, 1 << 20) as f32 / (1 << 20) as f32).powi(6),
        })
        .collect();
    let first_col = if random(state, 4) == 0 { 3 } else { 0 };
    let array = Array::new([rows, cols], values.clone()).unwrap();
    let summary = Arc::new(Summary::new(&value_counts::cpu(&array).unwrap(), first_col));
    let share = |state: &mut u64| (1 + random(state, 1000)) as f32 / 1000.0;
    let (w, h) = (share(state), share(state));
    let window = match random(state, 3) {
        0 => WHOLE,
        _ => [(1.0 - w) * share(state), (1.0 - h) * share(state), w, h],
    };
    let size = [1 + random(state, 180), 1 + random(state, 180)];
    let frame = Frame { at: [(5 + random(state, 9)) as f32, (3 + random(state, 9)) as f32], size, window };
    Case { rows, cols, first_col, values, summary, scale, frame, version: version() }
}

fn palette() -> Palette {
    Theme::new(false, ColorMap::default()).heat()
}

impl Case {
    fn want(&self) -> Vec<Color32> {
        let m = Matrix {
            rows: self.rows,
            cols: self.cols,
            first_col: self.first_col,
            values: &self.values,
            row_tops: self.summary.row_tops(),
        };
        pixels(&m, &self.frame, &Fitted::new(&self.summary, self.scale), &palette())
    }

    fn rect(&self) -> Rect {
        let [w, h] = self.frame.size.map(|v| v as f32);
        Rect::from_min_size(pos2(self.frame.at[0], self.frame.at[1]), vec2(w, h))
    }

    fn shape(&self, painter: &Painter, cells: Source) -> egui::Shape {
        let tile = Tile {
            version: self.version,
            rows: self.rows,
            cols: self.cols,
            first_col: self.first_col,
            cells,
            row_tops: &|| self.summary.row_tops().to_vec(),
            scale_version: self.version,
        };
        let fitted = Fitted::new(&self.summary, self.scale);
        painter.shape(self.rect(), &tile, &self.frame, &fitted, &palette()).expect("it can be drawn")
    }
}

/// The picture of what `ui` paints on a black page.
fn picture<'a>(screen: Screen, paint: impl FnMut(&egui::Painter) + 'a) -> image::RgbaImage {
    let mut paint = paint;
    let mut h = Harness::builder()
        .with_size(vec2(200.0, 200.0))
        .renderer(WgpuTestRenderer::from_render_state(screen))
        .build_ui(move |ui| paint(&ui.ctx().debug_painter()));
    h.run();
    h.render().expect("it can be rendered")
}

/// How many pixels of `got` in the case's frame differ from the plain loops by more than `near`, and the worst.
fn differences(case: &Case, got: &image::RgbaImage, near: u8) -> (usize, u8) {
    let want = case.want();
    assert_eq!(want.len(), case.frame.size[0] * case.frame.size[1]);
    let (mut n, mut worst) = (0, 0);
    for (i, c) in want.iter().enumerate() {
        let (x, y) = (i % case.frame.size[0], i / case.frame.size[0]);
        let (x, y) = (x + case.frame.at[0] as usize, y + case.frame.at[1] as usize);
        if x >= 200 || y >= 200 {
            continue;
        }
        let p = got.get_pixel(x as u32, y as u32).0;
        let off = (0..3).map(|k| p[k].abs_diff(c.to_array()[k])).max().unwrap_or(0);
        n += usize::from(off > near);
        worst = worst.max(off);
    }
    (n, worst)
}

#[test]
fn the_shader_and_the_plain_loops_give_the_same_pixels() {
    let test = "the_shader_and_the_plain_loops_give_the_same_pixels";
    let mut state = 7;
    let sizes = [(1, 1), (1, 70), (3, 2), (64, 64), (5, 300), (201, 199), (97, 1), (300, 431)];
    for curve in [Curve::Linear, Curve::Log, Curve::Rank, Curve::Row] {
        for (i, (rows, cols)) in sizes.into_iter().enumerate() {
            let Some(screen) = screen(test) else { return };
            let painter = Painter::new(&screen, None).expect("the adapter draws from storage buffers");
            let clip = if i % 2 == 0 { 100.0 } else { 80.0 };
            let case = case(&mut state, rows, cols, Scale { curve, clip, mask_sink: i % 3 == 1 });
            let got = picture(screen, |p| {
                p.add(case.shape(&painter, Source::Host(&case.values)));
            });
            // The logarithm of two languages may fall on two neighbouring colours.
            let (n, worst) = differences(&case, &got, u8::from(curve == Curve::Log) * 3);
            let all = case.frame.size[0] * case.frame.size[1];
            assert!(n == 0, "{curve:?} {rows} × {cols} in {:?}: {n} of {all} pixels, by {worst}", case.frame);
        }
    }
}

#[test]
fn another_scale_copies_only_what_ranks_need_and_a_new_matrix_is_never_taken_for_an_old_one() {
    let test = "another_scale_copies_only_what_ranks_need_and_a_new_matrix_is_never_taken_for_an_old_one";
    let Some(screen) = screen(test) else { return };
    let painter = Painter::new(&screen, None).unwrap();
    let mut state = 3;
    let mut case = case(&mut state, 40, 50, Scale::default());
    let draw = |case: &Case| {
        let _ = case.shape(&painter, Source::Host(&case.values));
        painter.uploaded_bytes()
    };
    let first = draw(&case);
    assert!(first >= 4 * 40 * 50);
    for scale in [
        Scale { curve: Curve::Log, ..Scale::default() },
        Scale { curve: Curve::Row, mask_sink: true, ..Scale::default() },
        Scale { clip: 70.0, ..Scale::default() },
    ] {
        case.scale = scale;
        assert_eq!(draw(&case), first, "{scale:?}");
    }
    case.scale.curve = Curve::Rank;
    let ranked = draw(&case);
    assert_eq!(ranked - first, 2 * 4 * value_counts::BINS as u64);
    case.scale.mask_sink = true;
    assert_eq!(draw(&case), ranked);
    // Values in the same place in memory, of another product.
    case.values.iter_mut().for_each(|v| *v = 0.25);
    case.version = version();
    assert!(draw(&case) > ranked);
    // What nobody draws is freed and comes back by another copy.
    let before = painter.uploaded_bytes();
    (0..10).for_each(|_| painter.begin_frame());
    assert!(draw(&case) > before);
}

#[test]
fn a_frame_keeps_the_buffers_it_draws_from() {
    let Some(screen) = screen("a_frame_keeps_the_buffers_it_draws_from") else { return };
    let painter = Painter::new(&screen, None).unwrap();
    let mut state = 11;
    let case = case(&mut state, 64, 64, Scale::default());
    let got = picture(screen, |p| {
        p.add(case.shape(&painter, Source::Host(&case.values)));
        // Everything is freed between the frame's layout and its drawing.
        (0..10).for_each(|_| painter.begin_frame());
    });
    assert_eq!(differences(&case, &got, 0).0, 0);
}

#[test]
fn a_map_computed_on_the_windows_device_is_drawn_from_where_it_lies() {
    let Some(screen) = screen("a_map_computed_on_the_windows_device_is_drawn_from_where_it_lies") else { return };
    let gpu = Gpu::from_parts(&screen.adapter, screen.device.clone(), screen.queue.clone()).expect("no GL adapter");
    let gpu = Arc::new(gpu);
    let painter = Painter::new(&screen, Some(&gpu)).unwrap();
    let (owned, ctx) = (OwnedHead::new(1, 1, 8, 90, 1), Ctx::default());
    let head = owned.head().unwrap();
    let window = Window::whole(&head, 64, Reduce::Max);
    let tile = attention_tile::on_device(&head, &gpu, &ctx).unwrap().tile(&window, &ctx).unwrap();
    assert!(painter.owns(&tile));
    let counts = value_counts::of_tile(&tile).unwrap();
    let cells = tile.read().unwrap();
    assert_eq!(counts, value_counts::cpu(&cells).unwrap());
    let case = Case {
        rows: tile.rows,
        cols: tile.cols,
        first_col: 0,
        values: cells.data().to_vec(),
        summary: Arc::new(Summary::new(&counts, 0)),
        scale: Scale { curve: Curve::Rank, ..Scale::default() },
        frame: Frame { at: [10.0, 10.0], size: [150, 130], window: WHOLE },
        version: version(),
    };
    let got = picture(screen, |p| {
        p.add(case.shape(&painter, Source::Device(&tile)));
    });
    assert_eq!(differences(&case, &got, 0), (0, 0));
    // Row tops, ranks and colours, but no cells.
    let tables = 8 * tile.rows + 8 * value_counts::BINS + 4 * palette().map.len();
    assert_eq!(painter.uploaded_bytes(), tables as u64);
    // Another device cannot draw it, and must not take it for its own.
    let other = self::screen("another device").unwrap();
    let gpu = Gpu::from_parts(&other.adapter, other.device.clone(), other.queue.clone());
    for gpu in [gpu.as_ref(), None] {
        assert!(!Painter::new(&other, gpu).unwrap().owns(&tile));
    }
}

#[test]
fn the_window_shows_the_same_picture_with_and_without_the_shader() {
    let test = "the_window_shows_the_same_picture_with_and_without_the_shader";
    let mut doc = Doc::default();
    let pane = doc.pane_mut();
    pane.shows.parts = [false, false, false, true];
    pane.shows.scale = Scale { curve: Curve::Log, clip: 99.0, mask_sink: true };
    pane.cursor.window = [0.1, 0.2, 0.55, 0.6];
    let mut pictures = Vec::new();
    for (shader, compute) in [(false, Compute::Cpu), (true, Compute::Cpu), (true, Compute::Gpu)] {
        let Some(screen) = screen(test) else { return };
        let mut h = super::window_on(doc.clone(), screen.clone(), |app| {
            let gpu = Gpu::from_parts(&screen.adapter, screen.device.clone(), screen.queue.clone()).map(Arc::new);
            app.painter = if shader { Painter::new(&screen, gpu.as_deref()) } else { None };
            app.jobs = app.jobs.clone().on(gpu, compute);
        });
        super::settle(&mut h);
        assert_eq!(h.state().painter.as_ref().map(|p| p.uploaded_bytes() > 0), shader.then_some(true));
        let rect = h.query_all_by_label_contains("attention map, ").next().expect("the map").rect();
        let all = h.render().expect("it can be rendered");
        let (x, y) = (rect.left().ceil() as u32, rect.top().ceil() as u32);
        let part = image::imageops::crop_imm(&all, x, y, rect.width() as u32 - 1, rect.height() as u32 - 1).to_image();
        pictures.push(part);
    }
    let colors: std::collections::BTreeSet<[u8; 4]> = pictures[0].pixels().map(|p| p.0).collect();
    assert!(colors.len() > 20, "the map is empty");
    for other in &pictures[1..] {
        assert_eq!(other.dimensions(), pictures[0].dimensions());
        let off = |(a, b): (&image::Rgba<u8>, &image::Rgba<u8>)| (0..3).map(|k| a.0[k].abs_diff(b.0[k])).max();
        let worst = other.pixels().zip(pictures[0].pixels()).filter_map(off).max();
        assert!(worst <= Some(3), "{worst:?}");
    }
}
