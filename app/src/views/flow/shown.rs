//! The edges on screen and the routes among them, found once per place, threshold and explained tokens, and kept with
//! their lines from frame to frame: a still picture costs no more than being painted.

use super::super::Cx;
use super::super::strokes::Strokes;
use super::lattice::Frame;
use egui::{Color32, Mesh, Painter, Pos2, Shape, Ui, Vec2};
use std::ops::Range;
use std::sync::Arc;
use tokenscope_analysis::flow::{Edge, FlowGraph, Incoming, Node, Part};

/// Edges drawn at most, the strongest first; a caption says when some are left out.
pub(super) const MAX_EDGES: usize = 20_000;

/// What is drawn of a graph.
pub(super) struct Shown {
    graph: Arc<FlowGraph>,
    incoming: Arc<Incoming>,
    /// Edges on screen, as ascending indices into the graph's.
    pub edges: Arc<Vec<u32>>,
    /// Those of them on a route to an explained token.
    routes: Arc<Vec<u32>>,
}

/// What `make` gave for this graph and key, made anew where one of them changed.
fn kept<K, V>(ui: &Ui, name: &'static str, graph: &Arc<FlowGraph>, key: K, make: impl FnOnce() -> V) -> Arc<V>
where
    K: Clone + PartialEq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let slot = ui.scope_id().with(name);
    // The graph is kept as well, so that no other one can take its address.
    if let Some((of, k, value)) = ui.data(|d| d.get_temp::<(Arc<FlowGraph>, K, Arc<V>)>(slot))
        && Arc::ptr_eq(&of, graph)
        && k == key
    {
        return value;
    }
    let value = Arc::new(make());
    ui.data_mut(|d| d.insert_temp(slot, (graph.clone(), key, value.clone())));
    value
}

/// Edges above the threshold with an end in these columns, or across them.
fn visible(graph: &FlowGraph, threshold: f32, columns: &Range<usize>) -> Vec<u32> {
    let touches = |e: &Edge| {
        let (a, b) = (e.from.token.min(e.to.token) as usize, e.from.token.max(e.to.token) as usize);
        a < columns.end && b >= columns.start
    };
    let all = graph.above(threshold).iter().enumerate().filter(|(_, e)| touches(e));
    all.map(|(i, _)| i as u32).take(MAX_EDGES).collect()
}

/// Numbers that are in both ascending lists.
fn common(a: &[u32], b: &[u32]) -> Vec<u32> {
    a.iter().copied().filter(|i| b.binary_search(i).is_ok()).collect()
}

/// What the lines on screen depend on besides the edges.
#[derive(Clone, PartialEq)]
struct Look {
    origin: Pos2,
    step: Vec2,
    scale: f32,
    color: Color32,
}

impl Shown {
    /// What is drawn of `graph` in these columns, with routes to the top nodes of `targets`, which ascend.
    pub fn new(cx: &Cx, ui: &Ui, graph: &Arc<FlowGraph>, targets: &[usize], columns: Range<usize>) -> Self {
        let threshold = cx.doc.threshold;
        let bits = threshold.to_bits();
        let incoming = kept(ui, "incoming edges", graph, bits, || Incoming::new(graph, threshold));
        let place = (bits, columns.start, columns.end);
        let edges = kept(ui, "visible edges", graph, place, || visible(graph, threshold, &columns));
        let routes = kept(ui, "routes", graph, (place, targets.to_vec()), || {
            let goal = |&t: &usize| Node { level: graph.n_layers as u32, part: Part::Resid, token: t as u32 };
            common(&edges, &incoming.routes(graph, &targets.iter().map(goal).collect::<Vec<_>>()))
        });
        Self { graph: graph.clone(), incoming, edges, routes }
    }

    /// Edges above the threshold that come into a token's nodes of a level from elsewhere, the strongest first.
    pub fn into(&self, level: usize, token: usize) -> impl Iterator<Item = &Edge> {
        let here = move |n: Node| (n.level as usize, n.token as usize) == (level, token);
        let own =
            [Part::Resid, Part::Attn, Part::Mlp].map(|part| Node { level: level as u32, part, token: token as u32 });
        let mut all: Vec<u32> = own.iter().flat_map(|&n| self.incoming.of(n)).copied().collect();
        all.sort_unstable();
        all.into_iter().map(|i| &self.graph.edges[i as usize]).filter(move |e| !here(e.from))
    }

    fn strokes(&self, cx: &Cx, ui: &Ui, f: &Frame, edges: impl Iterator<Item = u32>, color: Color32) -> Strokes {
        let mut strokes = Strokes::new(cx, ui);
        for e in edges.map(|i| &self.graph.edges[i as usize]) {
            strokes.add(f.at(e.from), f.at(e.to), (e.weight * 5.0).clamp(0.5, 5.0), color);
        }
        strokes
    }

    /// Paints the edges, those of the routes above the others.
    pub fn paint(&self, cx: &Cx, ui: &Ui, painter: &Painter, f: &Frame) {
        let [all, mine] = [cx.theme.line, cx.theme.accent];
        if cx.figure {
            // Every edge is one line of the file.
            let others = self.edges.iter().copied().filter(|i| self.routes.binary_search(i).is_err());
            self.strokes(cx, ui, f, others, all).paint(painter);
            self.strokes(cx, ui, f, self.routes.iter().copied(), mine).paint(painter);
            return;
        }
        let scale = ui.ctx().pixels_per_point();
        for (name, edges, color) in [("lines", &self.edges, all), ("lines of routes", &self.routes, mine)] {
            let key = (Arc::as_ptr(edges) as usize, Look { origin: f.origin, step: f.step, scale, color });
            let mesh = kept(ui, name, &self.graph, key, || {
                // The list is kept with its lines, so that no other one can take its address.
                (self.strokes(cx, ui, f, edges.iter().copied(), color).into_mesh().into(), edges.clone())
            });
            let mesh: &(Arc<Mesh>, Arc<Vec<u32>>) = &mesh;
            painter.add(Shape::Mesh(mesh.0.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(u32, u32, f32)]) -> FlowGraph {
        let node = |level, token| Node { level, part: Part::Resid, token };
        let edge = |&(from, to, weight): &(u32, u32, f32)| Edge { from: node(0, from), to: node(1, to), weight };
        FlowGraph { n_layers: 1, n_tokens: 9, edges: edges.iter().map(edge).collect(), unit: "share", floor: 0.0 }
    }

    #[test]
    fn edges_on_screen_end_there_or_go_across() {
        let g = graph(&[(0, 8, 0.9), (0, 2, 0.8), (4, 4, 0.7), (1, 3, 0.6), (7, 8, 0.5), (3, 5, 0.1)]);
        assert_eq!(visible(&g, 0.2, &(3..6)), [0, 2, 3]);
        assert_eq!(visible(&g, 0.0, &(3..6)), [0, 2, 3, 5]);
        assert_eq!(common(&[0, 2, 3, 5], &[1, 2, 5, 9]), [2, 5]);
    }
}
