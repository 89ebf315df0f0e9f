//! What a person does at the window, drawn by a seed.

use egui::{Event, Key, Modifiers, MouseWheelSource, MouseWheelUnit, Pos2, TouchPhase, pos2, vec2};
use egui_kittest::Harness;
use rand::seq::IndexedRandom as _;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokenscope_app::app::App;
use tokenscope_tests::{Dropped, golden};

/// One thing done.
#[derive(Debug, Clone)]
pub enum Deed {
    /// The pointer goes there.
    Move(Pos2),
    /// A click.
    Click(Pos2),
    /// Press, move, release.
    Drag(Pos2, Pos2),
    /// The wheel, in points.
    Scroll(Pos2, f32),
    /// Letters for what has the keyboard.
    Type(&'static str),
    /// A key.
    Press(Modifiers, Key),
    /// A file falls on the window.
    Drop(PathBuf),
    /// The window gets another size.
    Resize(f32, f32),
}

impl Deed {
    /// How long work that it starts is waited for, before the next deed comes in its middle.
    pub fn rest(&self) -> Duration {
        match self {
            Self::Drop(_) => Duration::from_millis(1500),
            Self::Type(_) | Self::Press(..) | Self::Click(_) => Duration::from_millis(300),
            _ => Duration::from_millis(50),
        }
    }
}

/// Draws deeds.
pub struct Hands {
    random: ChaCha8Rng,
    files: Vec<PathBuf>,
    size: (f32, f32),
}

/// Copies of a model, each another one to the program.
const COPIES: usize = 20;

impl Hands {
    /// Hands of a seed. Files of their own go into `scratch`.
    pub fn new(seed: u64, scratch: &Path) -> Self {
        let models = golden().join("models");
        let mut files: Vec<PathBuf> = [
            "gpt2",
            "llama",
            "qwen2",
            "bert",
            "vit",
            "clip",
            "llava",
            "smolvlm",
            "smolvlm/image.png",
            "llava/image.png",
        ]
        .map(|name| models.join(name))
        .into();
        for i in 0..COPIES {
            let to = scratch.join(format!("model-{i}"));
            std::fs::create_dir(&to).expect("a folder");
            for entry in std::fs::read_dir(models.join("llama")).expect("the model").flatten() {
                if entry.path().is_file() {
                    std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
                }
            }
            files.push(to);
        }
        for (name, bytes) in
            [("damaged.png", &b"\x89PNG\r\n\x1a\nno"[..]), ("empty.safetensors", b""), ("text.txt", b"hi")]
        {
            let path = scratch.join(name);
            std::fs::write(&path, bytes).expect("a file");
            files.push(path);
        }
        files.push(scratch.join("nowhere"));
        Self { random: ChaCha8Rng::seed_from_u64(seed), files, size: (1280.0, 800.0) }
    }

    /// The next deed.
    pub fn next(&mut self) -> Deed {
        let (w, h) = self.size;
        let r = &mut self.random;
        let at = |r: &mut ChaCha8Rng| pos2(r.random_range(0.0..w), r.random_range(0.0..h));
        match r.random_range(0..100) {
            0..20 => Deed::Move(at(r)),
            20..48 => Deed::Click(at(r)),
            48..54 => Deed::Drag(at(r), at(r)),
            54..68 => Deed::Scroll(at(r), r.random_range(-400.0..400.0)),
            68..78 => Deed::Type([" The", " hen", "42", "…", "日本", "\u{301}", " <image>"].choose(r).unwrap_or(&"a")),
            78..92 => {
                let keys = [
                    (Modifiers::NONE, Key::Escape),
                    (Modifiers::NONE, Key::Escape),
                    (Modifiers::NONE, Key::Tab),
                    (Modifiers::NONE, Key::Enter),
                    (Modifiers::NONE, Key::ArrowDown),
                    (Modifiers::NONE, Key::ArrowRight),
                    (Modifiers::NONE, Key::Backspace),
                    (Modifiers::COMMAND, Key::K),
                    (Modifiers::COMMAND, Key::Z),
                    (Modifiers::COMMAND | Modifiers::SHIFT, Key::Z),
                    (Modifiers::COMMAND, Key::A),
                ];
                let &(modifiers, key) = keys.choose(r).unwrap_or(&keys[0]);
                Deed::Press(modifiers, key)
            }
            92..99 => match self.files.choose(r) {
                Some(file) => Deed::Drop(file.clone()),
                None => Deed::Move(at(r)),
            },
            _ => {
                self.size = *[(1280.0, 800.0), (800.0, 600.0), (1920.0, 1080.0)].choose(r).unwrap_or(&self.size);
                Deed::Resize(self.size.0, self.size.1)
            }
        }
    }
}

/// Gives the window what the deed is made of; `frame` draws one in between.
pub fn carry_out(window: &mut Harness<'static, App>, deed: &Deed, frame: &mut dyn FnMut(&mut Harness<'static, App>)) {
    match deed {
        Deed::Move(at) => window.hover_at(*at),
        Deed::Click(at) => {
            window.hover_at(*at);
            frame(window);
            window.drag_at(*at);
            frame(window);
            window.drop_at(*at);
        }
        Deed::Drag(from, to) => {
            window.hover_at(*from);
            frame(window);
            window.drag_at(*from);
            for share in [0.3, 0.6, 1.0] {
                window.hover_at(from.lerp(*to, share));
                frame(window);
            }
            window.drop_at(*to);
        }
        Deed::Scroll(at, by) => {
            window.hover_at(*at);
            let (unit, delta) = (MouseWheelUnit::Point, vec2(0.0, *by));
            let (phase, modifiers, source) = (TouchPhase::Move, Modifiers::NONE, MouseWheelSource::Unknown);
            window.event(Event::MouseWheel { unit, source, delta, phase, modifiers });
        }
        Deed::Type(text) => window.event(Event::Text((*text).into())),
        Deed::Press(modifiers, key) => window.key_press_modifiers(*modifiers, *key),
        Deed::Drop(file) => window.input_mut().dropped_files.push(Arc::new(Dropped(file.clone()))),
        Deed::Resize(w, h) => {
            window.set_size(vec2(*w, *h));
        }
    }
    frame(window);
}
