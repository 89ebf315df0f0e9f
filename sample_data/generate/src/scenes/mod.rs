//! Drawn scenes: shapes and writing on a background, with questions whose answers lie in known pixels.

mod draw;
mod glyphs;
mod questions;

pub use questions::{Ask, Question};

use draw::Canvas;
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

/// Side of a scene in pixels.
pub const SIDE: usize = 96;

/// What a shape is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Shape {
    Circle,
    Square,
    Triangle,
    Star,
    Cross,
    Ring,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Shape; 6] = [Shape::Circle, Shape::Square, Shape::Triangle, Shape::Star, Shape::Cross, Shape::Ring];

    /// The word for it.
    pub fn name(self) -> &'static str {
        ["circle", "square", "triangle", "star", "cross", "ring"][self as usize]
    }

    /// The word for several.
    pub fn plural(self) -> &'static str {
        ["circles", "squares", "triangles", "stars", "crosses", "rings"][self as usize]
    }
}

/// The colour of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Color {
    Red,
    Orange,
    Yellow,
    Green,
    Blue,
    Purple,
    White,
    Black,
}

impl Color {
    /// Every colour.
    pub const ALL: [Color; 8] = [
        Color::Red,
        Color::Orange,
        Color::Yellow,
        Color::Green,
        Color::Blue,
        Color::Purple,
        Color::White,
        Color::Black,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        ["red", "orange", "yellow", "green", "blue", "purple", "white", "black"][self as usize]
    }

    /// Its sRGB channels, 0..=255.
    pub fn rgb(self) -> [f32; 3] {
        [
            [214.0, 40.0, 40.0],
            [245.0, 130.0, 20.0],
            [250.0, 225.0, 50.0],
            [40.0, 160.0, 60.0],
            [40.0, 90.0, 225.0],
            [140.0, 50.0, 180.0],
            [245.0, 245.0, 245.0],
            [22.0, 22.0, 22.0],
        ][self as usize]
    }
}

/// How a shape is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Texture {
    Plain,
    Striped,
    Dotted,
}

/// A printed word or number.
#[derive(Debug, Clone, PartialEq)]
pub struct Writing {
    /// Capital letters or digits.
    pub text: String,
    /// Side of a glyph's cell in pixels; a glyph is 5 cells wide and 7 high, and one cell apart from the next.
    pub cell: f32,
}

impl Writing {
    /// Left, top, width and height of the box around it when its middle lies at `center`, half a cell of margin
    /// included.
    pub fn bounds(&self, center: (f32, f32)) -> [f32; 4] {
        let n = self.text.chars().count() as f32;
        let (w, h) = (self.cell * (6.0 * n - 1.0 + 1.0), self.cell * 8.0);
        [center.0 - w / 2.0, center.1 - h / 2.0, w, h]
    }

    /// Left, top, width and height of its `k`-th glyph.
    pub fn glyph(&self, center: (f32, f32), k: usize) -> [f32; 4] {
        let [x, y, ..] = self.bounds(center);
        let (w, h) = (glyphs::COLUMNS as f32 * self.cell, glyphs::ROWS as f32 * self.cell);
        [x + self.cell * (0.5 + 6.0 * k as f32), y + self.cell * 0.5, w, h]
    }

    /// The middle nearest to `center` with which the first glyph begins on the raster.
    fn on_raster(&self, center: (f32, f32)) -> (f32, f32) {
        let [x, y, ..] = self.glyph(center, 0);
        let step = |v: f32| (v / RASTER).round() * RASTER - v;
        (center.0 + step(x), center.1 + step(y))
    }

    /// Whether it is a number.
    pub fn is_number(&self) -> bool {
        self.text.chars().all(|c| c.is_ascii_digit())
    }
}

/// What an item is.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    Shape(Shape),
    Writing(Writing),
}

/// One thing in a scene.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Its colour.
    pub color: Color,
    /// How it is filled; writing is plain.
    pub texture: Texture,
    /// Its middle in pixels from the top left corner.
    pub center: (f32, f32),
    /// Distance from the middle to the outline, about; for writing half its width.
    pub radius: f32,
    /// Rotation in radians.
    pub turn: f32,
}

impl Item {
    /// The shape, unless it is writing.
    pub fn shape(&self) -> Option<Shape> {
        match self.kind {
            Kind::Shape(s) => Some(s),
            Kind::Writing(_) => None,
        }
    }

    /// The writing, unless it is a shape.
    pub fn writing(&self) -> Option<&Writing> {
        match &self.kind {
            Kind::Writing(w) => Some(w),
            Kind::Shape(_) => None,
        }
    }

    /// The word for it: a shape's name, `word` or `number`.
    pub fn noun(&self) -> &'static str {
        match &self.kind {
            Kind::Shape(s) => s.name(),
            Kind::Writing(w) if w.is_number() => "number",
            Kind::Writing(_) => "word",
        }
    }
}

/// How full a scene may be; training goes from few items to many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fullness {
    /// The most shapes, 1 to 4.
    pub max_shapes: usize,
    /// How often there is writing, 0 to 1.
    pub writing: f64,
    /// How often shapes may overlap, 0 to 1.
    pub overlap: f64,
}

impl Fullness {
    /// What models are judged on.
    pub const FULL: Fullness = Fullness { max_shapes: 4, writing: 0.5, overlap: 0.25 };
}

/// A drawn scene.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// The seed that it came from.
    pub seed: u64,
    /// Pixels row by row, red, green, blue: `3 · SIDE · SIDE` bytes.
    pub rgb: Vec<u8>,
    /// What is in it, from back to front.
    pub items: Vec<Item>,
    /// Per pixel 0 for the background, otherwise one more than the index of the visible item.
    pub owner: Vec<u8>,
}

/// Words that are printed.
pub const WORDS: [&str; 16] = [
    "CAT", "DOG", "SUN", "MAP", "KEY", "BUS", "CUP", "HAT", "BOX", "PEN", "FOX", "OWL", "TREE", "FISH", "MOON", "LAMP",
];

/// Sizes in which writing is printed; glyphs follow each other at 12 or 16 pixels.
const CELLS: [f32; 2] = [2.0, 8.0 / 3.0];
/// Writing begins at multiples of so many pixels, as a printer's does. A small tower with patches of 8 pixels would
/// need far more scenes to read glyphs at any offset.
const RASTER: f32 = 4.0;

/// Colours this close to the background are not used, as distance of the channels.
const CONTRAST: f32 = 105.0;

impl Scene {
    /// The scene of this seed, as full as models are judged on.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, Fullness::FULL)
    }

    /// The scene of this seed, at most this full.
    pub fn with(seed: u64, full: Fullness) -> Self {
        let mut rng = crate::rng(1, seed);
        let rng = &mut rng;
        let (near, far) = backdrop(rng);
        let apart = |c: Color| {
            let far_from = |b: [f32; 3]| c.rgb().iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f32>().sqrt();
            far_from(near) > CONTRAST && far_from(far) > CONTRAST
        };
        let mut colors: Vec<Color> = Color::ALL.into_iter().filter(|c| apart(*c)).collect();
        colors.shuffle(rng);
        let mut shapes = Shape::ALL.to_vec();
        shapes.shuffle(rng);
        // Few kinds and colours to choose from make counts above one, many make names unique.
        let (n_shapes, n_colors) = if rng.random_bool(0.45) { (2, 2) } else { (6, 8) };
        shapes.truncate(n_shapes);
        colors.truncate(n_colors);

        let mut items: Vec<Item> = Vec::new();
        if rng.random_bool(full.writing) {
            let text = if rng.random_bool(0.5) {
                rng.random_range(10..100u32).to_string()
            } else {
                WORDS.choose(rng).map_or(String::new(), |w| (*w).to_string())
            };
            let cell = if rng.random_bool(0.5) { CELLS[0] } else { CELLS[1] };
            let writing = Writing { text, cell };
            let [.., w, h] = writing.bounds((0.0, 0.0));
            let center = writing.on_raster(inside(w / 2.0 + 2.0, h / 2.0 + 2.0, rng));
            let color = colors.choose(rng).copied().unwrap_or(Color::White);
            let kind = Kind::Writing(writing);
            items.push(Item { kind, color, texture: Texture::Plain, center, radius: w / 2.0, turn: 0.0 });
        }
        let n = rng.random_range(1..=full.max_shapes);
        let gap = if rng.random_bool(full.overlap) { 0.72 } else { 1.08 };
        let mut placed = 0;
        for _ in 0..200 {
            if placed == n {
                break;
            }
            let radius = rng.random_range(8.0..14.5f32);
            let center = inside(radius + 1.0, radius + 1.0, rng);
            if !items.iter().all(|i| is_clear(i, center, radius, gap)) {
                continue;
            }
            let (shape, color) = (shapes.choose(rng), colors.choose(rng));
            let texture = match rng.random_range(0..4) {
                0 => Texture::Striped,
                1 => Texture::Dotted,
                _ => Texture::Plain,
            };
            items.push(Item {
                kind: Kind::Shape(shape.copied().unwrap_or(Shape::Circle)),
                color: color.copied().unwrap_or(Color::White),
                texture,
                center,
                radius,
                turn: rng.random_range(-0.28..0.28),
            });
            placed += 1;
        }
        let clutter = rng.random_range(0..14);
        let grain = rng.random_range(0.0..9.0);
        let mut canvas = Canvas::background(near, far, clutter, grain, rng);
        for (i, item) in items.iter().enumerate() {
            canvas.item(i, item);
        }
        Self { seed, rgb: canvas.bytes(), items, owner: canvas.owner }
    }

    /// The pixels where one of `items` is visible, row by row.
    pub fn mask(&self, items: &[usize]) -> Vec<bool> {
        self.owner.iter().map(|&o| o > 0 && items.contains(&(usize::from(o) - 1))).collect()
    }

    /// How much of each square patch of `side` pixels shows one of `items`, 0 to 1, row by row of the grid.
    pub fn patch_shares(&self, items: &[usize], side: usize) -> Vec<f32> {
        let mask = self.mask(items);
        let n = SIDE / side;
        let mut out = vec![0f32; n * n];
        for (y, x) in (0..n * side).flat_map(|y| (0..n * side).map(move |x| (y, x))) {
            if mask[y * SIDE + x] {
                out[(y / side) * n + x / side] += 1.0 / (side * side) as f32;
            }
        }
        out
    }

    /// The questions that have one right answer here.
    pub fn questions(&self) -> Vec<Question> {
        questions::all(self)
    }
}

/// Two ends of a background gradient that resemble each other: muted, at times dark, at times light.
fn backdrop(rng: &mut impl Rng) -> ([f32; 3], [f32; 3]) {
    let level: f32 = if rng.random_bool(0.6) { rng.random_range(30.0..105.0) } else { rng.random_range(150.0..225.0) };
    let tint: [f32; 3] = std::array::from_fn(|_| rng.random_range(-22.0..22.0));
    let slope: [f32; 3] = {
        let all = rng.random_range(-26.0..26.0);
        std::array::from_fn(|_| all + rng.random_range(-10.0..10.0))
    };
    (std::array::from_fn(|c| level + tint[c] - slope[c]), std::array::from_fn(|c| level + tint[c] + slope[c]))
}

/// A place at least this far from the left and right, and the upper and lower edge.
fn inside(mx: f32, my: f32, rng: &mut impl Rng) -> (f32, f32) {
    let side = SIDE as f32;
    let mut along = |m: f32| if 2.0 * m < side { rng.random_range(m..side - m) } else { side / 2.0 };
    (along(mx), along(my))
}

/// Whether a shape at `center` keeps clear of an item; shapes may touch as `gap` says, writing is never covered.
fn is_clear(item: &Item, center: (f32, f32), radius: f32, gap: f32) -> bool {
    match &item.kind {
        Kind::Shape(_) => {
            let (dx, dy) = (item.center.0 - center.0, item.center.1 - center.1);
            dx.hypot(dy) > gap * (item.radius + radius)
        }
        Kind::Writing(w) => {
            let [x, y, bw, bh] = w.bounds(item.center);
            let dx = center.0 - center.0.clamp(x, x + bw);
            let dy = center.1 - center.1.clamp(y, y + bh);
            dx.hypot(dy) > radius * 1.15 + 1.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_bytes() {
        for seed in 0..20 {
            assert_eq!(Scene::new(seed), Scene::new(seed));
        }
        assert_ne!(Scene::new(1).rgb, Scene::new(2).rgb);
    }

    #[test]
    fn every_item_is_visible_and_its_pixels_have_its_colour() {
        for seed in 0..300 {
            let s = Scene::new(seed);
            for (i, item) in s.items.iter().enumerate() {
                let mask = s.mask(&[i]);
                let area = mask.iter().filter(|m| **m).count();
                assert!(area > 40, "seed {seed}: {area} pixels of {item:?} are visible");
                let near = |p: usize| {
                    let want = item.color.rgb();
                    (0..3).map(|c| (f32::from(s.rgb[3 * p + c]) - want[c]).powi(2)).sum::<f32>().sqrt() < 10.0
                };
                let same = (0..SIDE * SIDE).filter(|&p| mask[p] && near(p)).count();
                assert!(same * 20 > area, "seed {seed}: {same} of {area} pixels of {item:?} have its colour");
            }
        }
    }

    #[test]
    fn writing_begins_on_the_raster_and_inside() {
        let mut seen = 0;
        for seed in 0..300 {
            for item in Scene::new(seed).items {
                let Some(w) = item.writing() else { continue };
                let [x, y, ..] = w.glyph(item.center, 0);
                let [lx, ly, lw, lh] = w.glyph(item.center, w.text.len() - 1);
                assert!(
                    ((x / RASTER).round() * RASTER - x).abs() < 1e-3
                        && ((y / RASTER).round() * RASTER - y).abs() < 1e-3
                );
                assert!(x >= 0.0 && y >= 0.0 && lx + lw <= SIDE as f32 && ly + lh <= SIDE as f32, "seed {seed}");
                seen += 1;
            }
        }
        assert!(seen > 100);
    }

    #[test]
    fn patch_shares_add_up_to_the_mask() {
        let s = Scene::new(5);
        let all: Vec<usize> = (0..s.items.len()).collect();
        let area = s.mask(&all).iter().filter(|m| **m).count() as f32;
        let shares = s.patch_shares(&all, 8);
        assert_eq!(shares.len(), 144);
        assert!((shares.iter().sum::<f32>() * 64.0 - area).abs() < 0.01);
        assert!(s.patch_shares(&[], 8).iter().all(|v| *v == 0.0));
    }

    #[test]
    fn a_simple_scene_has_one_shape_and_no_writing() {
        let simple = Fullness { max_shapes: 1, writing: 0.0, overlap: 0.0 };
        for seed in 0..50 {
            let s = Scene::with(seed, simple);
            assert!(s.items.len() == 1 && s.items[0].shape().is_some());
        }
    }
}
