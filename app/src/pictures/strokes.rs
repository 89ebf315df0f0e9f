//! Thousands of lines as one mesh, with soft edges, because thousands of shapes a frame are slow.

use crate::cx::Cx;
use egui::{Color32, Mesh, Painter, Pos2, Shape, Stroke};

/// Lines that are painted together. In a figure each stays a line of its own, for the file.
pub struct Strokes {
    mesh: Mesh,
    lines: Vec<(Pos2, Pos2, Stroke)>,
    figure: bool,
    /// Half of a pixel in points: how far the soft edge reaches.
    feather: f32,
}

impl Strokes {
    /// No lines yet.
    pub fn new(cx: &Cx, ui: &egui::Ui) -> Self {
        let feather = 0.5 / ui.ctx().pixels_per_point();
        Self { mesh: Mesh::default(), lines: Vec::new(), figure: cx.figure, feather }
    }

    /// Adds a line of `width` points from `a` to `b`.
    pub fn add(&mut self, a: Pos2, b: Pos2, width: f32, color: Color32) {
        if self.figure {
            self.lines.push((a, b, Stroke::new(width, color)));
            return;
        }
        let along = b - a;
        let length = along.length();
        if length <= 0.0 || !length.is_finite() {
            return;
        }
        let side = along.rot90() / length;
        // A line thinner than a pixel is a paler line of one pixel.
        let half = width / 2.0;
        let (inner, outer) = ((half - self.feather).max(0.0), half.max(self.feather) + self.feather);
        let color = color.gamma_multiply((half / self.feather).min(1.0));
        let first = self.mesh.vertices.len() as u32;
        // Across a line: clear, its colour from edge to edge, clear. A thin one has no width between its edges.
        let across = [(outer, Color32::TRANSPARENT), (inner, color), (-inner, color), (-outer, Color32::TRANSPARENT)];
        let skip = usize::from(inner == 0.0);
        let n = (across.len() - skip) as u32;
        for end in [a, b] {
            for (offset, c) in across[..2].iter().chain(&across[2 + skip..]) {
                self.mesh.colored_vertex(end + side * *offset, *c);
            }
        }
        for i in first..first + n - 1 {
            self.mesh.add_triangle(i, i + 1, i + n);
            self.mesh.add_triangle(i + 1, i + n + 1, i + n);
        }
    }

    /// The lines of a window as one mesh, to be kept and painted again.
    pub fn into_mesh(self) -> Mesh {
        self.mesh
    }

    /// Paints all of them.
    pub fn paint(self, painter: &Painter) {
        if self.figure {
            painter.extend(self.lines.into_iter().map(|(a, b, s)| Shape::line_segment([a, b], s)));
        } else {
            painter.add(Shape::mesh(self.mesh));
        }
    }
}
