//! Rasteriser: distance functions of the shapes, smooth edges, textures, backgrounds, and which item owns a pixel.

use super::glyphs;
use super::{Color, Item, Kind, SIDE, Shape, Texture, Writing};
use rand::Rng;

/// Distance in pixels from the outline of a shape of radius `r`, negative inside; `x` and `y` from its centre.
fn distance(shape: Shape, r: f32, x: f32, y: f32) -> f32 {
    match shape {
        Shape::Circle => x.hypot(y) - r,
        Shape::Ring => (x.hypot(y) - 0.74 * r).abs() - 0.26 * r,
        Shape::Square => polygon(&[(-0.84, -0.84), (0.84, -0.84), (0.84, 0.84), (-0.84, 0.84)], r, x, y),
        Shape::Triangle => polygon(&[(0.0, -1.05), (1.0, 0.75), (-1.0, 0.75)], r, x, y),
        Shape::Cross => {
            const A: f32 = 0.34;
            let corners = [
                (-A, -1.0),
                (A, -1.0),
                (A, -A),
                (1.0, -A),
                (1.0, A),
                (A, A),
                (A, 1.0),
                (-A, 1.0),
                (-A, A),
                (-1.0, A),
                (-1.0, -A),
                (-A, -A),
            ];
            polygon(&corners, r, x, y)
        }
        Shape::Star => {
            let mut corners = [(0.0, 0.0); 10];
            for (i, c) in corners.iter_mut().enumerate() {
                let (angle, far) = (i as f32 * std::f32::consts::PI / 5.0, if i % 2 == 0 { 1.1 } else { 0.46 });
                *c = (far * angle.sin(), -far * angle.cos());
            }
            polygon(&corners, r, x, y)
        }
    }
}

/// Signed distance from a polygon whose corners are given for radius 1.
fn polygon(corners: &[(f32, f32)], r: f32, x: f32, y: f32) -> f32 {
    let mut nearest = f32::INFINITY;
    let mut inside = false;
    for (i, &(ax, ay)) in corners.iter().enumerate() {
        let (bx, by) = corners[(i + 1) % corners.len()];
        let (ax, ay, bx, by) = (ax * r, ay * r, bx * r, by * r);
        let (ex, ey) = (bx - ax, by - ay);
        let t = (((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0);
        nearest = nearest.min((x - ax - t * ex).hypot(y - ay - t * ey));
        // A ray to the right crosses this edge.
        if (ay > y) != (by > y) && x < ax + (y - ay) / (by - ay) * (bx - ax) {
            inside = !inside;
        }
    }
    if inside { -nearest } else { nearest }
}

/// Colour channels in 0..=255 as numbers, and the item that owns each pixel.
pub(super) struct Canvas {
    pub rgb: Vec<[f32; 3]>,
    /// 0 for the background, otherwise one more than the item's index.
    pub owner: Vec<u8>,
}

impl Canvas {
    /// A background: a gradient from `a` to `b`, faint marks, grain.
    pub fn background(a: [f32; 3], b: [f32; 3], clutter: usize, grain: f32, rng: &mut impl Rng) -> Self {
        let angle = rng.random_range(0.0..std::f32::consts::TAU);
        let (dx, dy) = (angle.cos(), angle.sin());
        let half = SIDE as f32 / 2.0;
        let mut rgb = Vec::with_capacity(SIDE * SIDE);
        for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
            let t = 0.5 + ((x as f32 - half) * dx + (y as f32 - half) * dy) / (2.9 * half);
            rgb.push(std::array::from_fn(|c| a[c] + t.clamp(0.0, 1.0) * (b[c] - a[c])));
        }
        let mut out = Self { rgb, owner: vec![0; SIDE * SIDE] };
        for _ in 0..clutter {
            let at: [f32; 4] = std::array::from_fn(|_| rng.random_range(0.0..SIDE as f32));
            let width = rng.random_range(0.4..1.2);
            let length: f32 = rng.random_range(1.0..14.0);
            let shade = rng.random_range(-34.0..34.0);
            let (ex, ey) = (at[2] - at[0], at[3] - at[1]);
            let scale = length / ex.hypot(ey).max(1.0);
            out.line((at[0], at[1]), (at[0] + ex * scale, at[1] + ey * scale), width, shade);
        }
        if grain > 0.0 {
            for p in &mut out.rgb {
                let n = rng.random_range(-grain..grain);
                p.iter_mut().for_each(|v| *v += n);
            }
        }
        out
    }

    /// A faint stroke that lightens or darkens what is there.
    fn line(&mut self, (ax, ay): (f32, f32), (bx, by): (f32, f32), width: f32, shade: f32) {
        let (ex, ey) = (bx - ax, by - ay);
        let len2 = (ex * ex + ey * ey).max(1e-6);
        let (x0, x1, y0, y1) = bounds(ax.min(bx), ax.max(bx), ay.min(by), ay.max(by), width + 1.0);
        for (y, x) in (y0..y1).flat_map(|y| (x0..x1).map(move |x| (y, x))) {
            let (px, py) = (x as f32 + 0.5, y as f32 + 0.5);
            let t = (((px - ax) * ex + (py - ay) * ey) / len2).clamp(0.0, 1.0);
            let cover = (0.5 - ((px - ax - t * ex).hypot(py - ay - t * ey) - width)).clamp(0.0, 1.0);
            self.rgb[y * SIDE + x].iter_mut().for_each(|v| *v += cover * shade);
        }
    }

    /// Draws an item over what is there; pixels that it covers at least half are its own from now on.
    pub fn item(&mut self, index: usize, item: &Item) {
        match &item.kind {
            Kind::Shape(shape) => self.shape(index, item, *shape),
            Kind::Writing(w) => self.writing(index, item, w),
        }
    }

    fn shape(&mut self, index: usize, item: &Item, shape: Shape) {
        let (cx, cy) = item.center;
        let (sin, cos) = item.turn.sin_cos();
        let reach = 1.15 * item.radius + 1.5;
        let (x0, x1, y0, y1) = bounds(cx, cx, cy, cy, reach);
        for (y, x) in (y0..y1).flat_map(|y| (x0..x1).map(move |x| (y, x))) {
            let (dx, dy) = (x as f32 + 0.5 - cx, y as f32 + 0.5 - cy);
            let (u, v) = (dx * cos + dy * sin, dy * cos - dx * sin);
            let cover = (0.5 - distance(shape, item.radius, u, v)).clamp(0.0, 1.0);
            if cover > 0.0 {
                self.paint(y * SIDE + x, index, textured(item.color, item.texture, u, v), cover);
            }
        }
    }

    fn writing(&mut self, index: usize, item: &Item, w: &Writing) {
        let [bx, by, bw, bh] = w.bounds(item.center);
        let (x0, x1, y0, y1) = bounds(bx, bx + bw, by, by + bh, 0.0);
        for (y, x) in (y0..y1).flat_map(|y| (x0..x1).map(move |x| (y, x))) {
            let (px, py) = (x as f32 + 0.5, y as f32 + 0.5);
            let i = y * SIDE + x;
            let ink = (w.text.chars().enumerate())
                .map(|(k, c)| {
                    let [gx, gy, ..] = w.glyph(item.center, k);
                    glyphs::ink(c, (px - gx) / w.cell, (py - gy) / w.cell)
                })
                .fold(0f32, f32::max);
            self.paint(i, index, item.color.rgb(), ink);
            // The whole box belongs to the writing: what is read lies in the gaps as well.
            self.owner[i] = index as u8 + 1;
        }
    }

    fn paint(&mut self, i: usize, index: usize, color: [f32; 3], cover: f32) {
        for (v, c) in self.rgb[i].iter_mut().zip(color) {
            *v += cover * (c - *v);
        }
        if cover >= 0.5 {
            self.owner[i] = index as u8 + 1;
        }
    }

    /// The pixels in 8 bits, row by row.
    pub fn bytes(&self) -> Vec<u8> {
        self.rgb.iter().flatten().map(|v| v.round().clamp(0.0, 255.0) as u8).collect()
    }
}

/// Pixel ranges of a box with a margin, inside the picture.
fn bounds(x0: f32, x1: f32, y0: f32, y1: f32, margin: f32) -> (usize, usize, usize, usize) {
    let low = |v: f32| (v - margin).floor().clamp(0.0, SIDE as f32) as usize;
    let high = |v: f32| (v + margin).ceil().clamp(0.0, SIDE as f32) as usize;
    (low(x0), high(x1), low(y0), high(y1))
}

/// The colour of a point of a shape: stripes and dots are darker (lighter on black).
fn textured(color: Color, texture: Texture, u: f32, v: f32) -> [f32; 3] {
    let base = color.rgb();
    let other = match texture {
        Texture::Plain => false,
        Texture::Striped => (v / 2.0).rem_euclid(2.0) < 0.8,
        Texture::Dotted => (u.rem_euclid(4.5) - 2.25).hypot(v.rem_euclid(4.5) - 2.25) < 1.2,
    };
    if !other {
        return base;
    }
    if color == Color::Black { base.map(|v| v + 62.0) } else { base.map(|v| v * 0.72) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_by_hand() {
        assert_eq!(distance(Shape::Circle, 10.0, 3.0, 4.0), -5.0);
        // The ring's hole: its inner edge lies at 0.48 r.
        assert!((distance(Shape::Ring, 10.0, 0.0, 0.0) - 4.8).abs() < 1e-5);
        // The square's right edge lies at 8.4.
        assert!((distance(Shape::Square, 10.0, 10.4, 0.0) - 2.0).abs() < 1e-5);
        // The corner of a cross is empty, its arms are full.
        assert!(distance(Shape::Cross, 10.0, 8.0, 8.0) > 0.0 && distance(Shape::Cross, 10.0, 9.0, 0.0) < 0.0);
        assert!(distance(Shape::Star, 10.0, 0.0, -10.0) < 0.0 && distance(Shape::Star, 10.0, 0.0, 10.0) > 0.0);
    }
}
