//! The window of the desktop, and what a program begins with that opens one.

use super::App;
use crate::examples;
use crate::fonts::SystemFonts;
use crate::heatmap::Painter;
use crate::keys::ModelSource;
use crate::lesson::Lesson;
use crate::log;
use crate::opening::is_session;
use crate::picture_source::PictureSource;
use crate::recents::{self, Recents};
use crate::settings::Settings;
use crate::state::Command;
use std::path::Path;
use std::sync::Arc;
use tokenscope_analysis::gpu::{Compute, Gpu};
use tokenscope_analysis::weights::{Hold, Placement};

/// Opens the window, with this model or trace loaded if one is named, this picture, and this lesson; weights are held and
/// numbers computed as `given` says for this time, or as they were when the window was open last.
pub fn open_window(
    model: Option<&Path>,
    image: Option<PictureSource>,
    lesson: Option<Arc<Lesson>>,
    given: (Option<Hold>, Option<Placement>),
) -> anyhow::Result<()> {
    let size = std::env::var("TOKENSCOPE_SIZE").ok().and_then(|s| {
        let (w, h) = s.split_once('x')?;
        Some([w.parse().ok()?, h.parse().ok()?])
    });
    let (settings, broken) = Settings::load();
    let viewport = egui::ViewportBuilder::default()
        .with_title("Tokenscope")
        // By this a desktop finds the icon and name of its entry.
        .with_app_id("tokenscope")
        .with_inner_size(size.or(settings.size).unwrap_or(FIRST))
        .with_min_inner_size([720.0, 480.0]);
    let options = eframe::NativeOptions { viewport, ..Default::default() };
    let model = model.map(Path::to_path_buf);
    let compute = Compute::from_env()?;
    eframe::run_native(
        "tokenscope",
        options,
        Box::new(move |cc| {
            let mut app = App::new(&cc.egui_ctx);
            log::start();
            log::line(&format!("start of {} on {} {}", crate::VERSION, std::env::consts::OS, std::env::consts::ARCH));
            SystemFonts::follow(&cc.egui_ctx);
            // Passes share the device that draws, so that a map can be drawn from where it was computed.
            let gpu = cc
                .wgpu_render_state
                .as_ref()
                .and_then(|s| Gpu::from_parts(&s.adapter, s.device.clone(), s.queue.clone()))
                .map(Arc::new);
            let (lessons, wrong) = crate::lesson::all();
            app.lessons = lessons;
            wrong.iter().for_each(|why| app.notices.say(why.to_string(), false, None));
            app.caret.drawn_by(gpu.as_deref());
            app.painter = cc.wgpu_render_state.as_ref().and_then(|s| Painter::new(s, gpu.as_deref()));
            app.jobs = app.jobs.clone().on(gpu, compute);
            log::line(app.jobs.device());
            app.recents = Recents::load();
            app.set_up(&cc.egui_ctx, settings);
            let (hold, placement) = given;
            if let Some(hold) = hold {
                app.holds_for_now(hold);
            }
            if let Some(placement) = placement {
                app.doc.pane_mut().run.placement = placement;
            }
            if let Some(why) = broken {
                app.notices.say(why, false, None);
            }
            app.stores = true;
            if let Some(dir) = recents::folder() {
                app.keep_in(&cc.egui_ctx, &dir);
            }
            let (session, model) = match model {
                Some(path) if is_session(&path) => (Some(path), None),
                model => (None, model),
            };
            let given = match model {
                Some(m) => Some(Command::Model(ModelSource::of_path(m))),
                None => examples::find(examples::FIRST).ok().map(|e| Command::Show(e.pane(app.doc.pane()).into())),
            };
            let image = image.map(|i| Command::Image(Some(i)));
            // What the session shows comes when it is read; until then there is what a start without one shows.
            let (now, behind) = if session.is_some() { (None, image) } else { (image, None) };
            app.apply(&cc.egui_ctx, given.into_iter().chain(now).collect());
            app.history.clear();
            let doc = app.doc.clone();
            app.session.begin(&doc);
            if let Some(path) = session {
                app.open_first(&cc.egui_ctx, &path, behind.into_iter().collect());
            }
            if let Some(lesson) = lesson {
                app.start_lesson(&cc.egui_ctx, lesson);
            }
            Ok(Box::new(app))
        }),
    )
    .map_err(|e| anyhow::anyhow!("the window cannot open: {e}; is there a display, and a Vulkan or GL driver?"))
}

/// Size of the first window in points: with its frame and a bar of the desktop it fits on 1280 × 800.
const FIRST: [f32; 2] = [1232.0, 712.0];
