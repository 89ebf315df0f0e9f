//! Weighted edges between nodes on levels: a lattice with its strongest edges, and the routes to chosen nodes.
//!
//! The edges on screen and the routes among them are found once per place, threshold and targets, and kept with their
//! lines from frame to frame: a still picture costs no more than being painted.

use super::strokes::Strokes;
use super::{Held, On, kept, widgets};
use crate::cx::{Cx, Standing};
use egui::{Align2, Color32, FontId, Mesh, Painter, Pos2, Rect, Sense, Shape, Stroke, Ui, Vec2, pos2, vec2};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokenscope_analysis::finding::{Incoming, Link, LinkEnd, Links};

/// Edges drawn at most, the strongest first; a caption says when some are left out.
const MAX_EDGES: usize = 20_000;
/// Room for the names of the levels, in points.
const GUTTER: f32 = 34.0;
/// Room above, for the caption and what stands over the highest nodes.
const ABOVE: f32 = 34.0;
/// Width of a letter of a name, in points.
const LETTER: f32 = 6.2;
/// Narrowest column that has a name; where names are longer than columns are wide, they stand upright.
const NAMED: f32 = 9.0;

/// Height of a level that has room for words.
const TALL: f32 = 26.0;
/// Room for a word at a node, and for the name of a piece of a picture.
const WORDED: f32 = 42.0;
const PIECE: f32 = 34.0;

/// What is said at a node, with a share that it is the paler for the less of it there is.
pub type Guess<'a> = dyn Fn(LinkEnd) -> Option<(&'a str, f32)> + 'a;

/// What is drawn besides the edges.
pub struct Options<'a> {
    /// Edges below this weight are hidden.
    pub threshold: f32,
    /// Width of a column in points; 0 is all columns at once.
    pub column: f32,
    /// Height in points.
    pub height: f32,
    /// Nodes of the highest level whose routes are drawn strong, ascending.
    pub targets: Vec<usize>,
    /// A node that is looked into.
    pub chosen: Option<LinkEnd>,
    /// What is said at nodes.
    pub guess: Option<&'a Guess<'a>>,
}

/// What was done to the picture.
#[derive(Default)]
pub struct Done {
    /// A node or an edge was clicked.
    pub clicked: Option<Hit>,
    /// Another width of the columns is wanted.
    pub column: Option<f32>,
    /// It has the keyboard, under this id.
    pub focus: Option<egui::Id>,
}

/// What lies under the pointer.
#[derive(Clone, Copy)]
pub enum Hit {
    /// A node.
    Node(LinkEnd),
    /// An edge.
    Edge(Link),
}

/// Draws a finding's graph with a slider for the threshold.
pub fn ui(cx: &Cx, ui: &mut Ui, on: &On, links: &Links, held: &Held) {
    let slot = ui.scope_id().with("threshold");
    let most = links.links.first().map_or(1.0, |l| l.weight.abs()).max(1e-6);
    // At first as many edges as can be told apart.
    let first = links.links.get(links.links.len().min(400).saturating_sub(1)).map_or(0.0, |l| l.weight.abs());
    let mut threshold = ui.data(|d| d.get_temp::<f32>(slot)).unwrap_or(first);
    if cx.figure {
        ui.small(format!("edges from {} on", widgets::number(threshold)));
    } else {
        ui.horizontal(|ui| {
            let label = ui.label("threshold");
            let slider = egui::Slider::new(&mut threshold, 0.001 * most..=most).logarithmic(true);
            let slider = ui.add(slider).labelled_by(label.id);
            if slider.on_hover_text("Edges below this weight are hidden").changed() {
                ui.data_mut(|d| d.insert_temp(slot, threshold));
            }
        });
    }
    let height = (80.0 * links.levels.len() as f32).clamp(160.0, 420.0);
    let top = links.levels.last().map_or(0, |l| l.n);
    let options = Options { threshold, column: 0.0, height, targets: cx.explained(top), chosen: None, guess: None };
    with(cx, ui, on, links, held, &options);
}

/// Draws `links`, which `held` keeps alive.
pub fn with(cx: &Cx, ui: &mut Ui, on: &On, links: &Links, held: &Held, options: &Options) -> Done {
    let n = links.levels.iter().map(|l| l.n).max().unwrap_or(0);
    if n == 0 {
        ui.weak("No nodes.");
        return Done::default();
    }
    let high = links.levels.iter().map(|l| l.height).fold(0.0, f32::max);
    let area = egui::ScrollArea::horizontal().auto_shrink(false).stick_to_right(true).max_height(options.height);
    let shown = area.show(ui, |ui| {
        let room = ui.available_width();
        let fit = cx.figure || options.column == 0.0;
        let width = if fit { room } else { room.max(n as f32 * options.column + GUTTER) };
        let (rect, response) = ui.allocate_exact_size(vec2(width, options.height - 12.0), Sense::click());
        let left = rect.left() + GUTTER;
        let step = (rect.right() - left) / n as f32;
        let upright = step < longest(on, links) as f32 * LETTER + 2.0;
        let below = if upright { 62.0 } else { 30.0 };
        let frame = Frame {
            rect,
            origin: pos2(left, rect.bottom() - below),
            step: vec2(step, (rect.height() - below - ABOVE) / high.max(1.0)),
            n,
            upright,
        };
        let painter = ui.painter_at(rect);
        let clip = ui.clip_rect().intersect(rect);
        let shown = Shown::new(ui, links, held, options, frame.columns(clip.left(), clip.right()));
        shown.paint(cx, ui, &painter, links, held, &frame);
        nodes_ui(cx, &painter, on, links, &frame, clip, options);
        if !cx.figure {
            reach(cx, ui, &frame, options);
            beyond_ui(cx, &painter, on, links, &frame, clip, options);
        }
        pieces_ui(cx, &painter, on, links, &frame, clip);
        gutter_ui(cx, &painter, links, &frame, clip);
        caption_ui(cx, &painter, links, options.threshold, shown.edges.len(), clip);
        match cx.figure {
            true => Done::default(),
            false => pointer_ui(cx, ui, on, links, &frame, &shown, options, response),
        }
    });
    shown.inner
}

/// Where things lie.
struct Frame {
    rect: Rect,
    /// Left edge of the first column and height of the lowest level.
    origin: Pos2,
    step: Vec2,
    n: usize,
    /// Whether the names of columns stand upright.
    upright: bool,
}

/// Letters of a name that stands upright, and of the longest one that lies.
const LETTERS: (usize, usize) = (9, 7);

/// Letters of the longest name among the first hundreds of the lowest level, as far as names are written out.
fn longest(on: &On, links: &Links) -> usize {
    let Some((_, l)) = named(links).next() else { return 0 };
    let all = (0..l.n.min(512)).map(|i| on.short(&l.unit, i).chars().count());
    all.max().unwrap_or(0).min(LETTERS.1)
}

impl Frame {
    fn at(&self, links: &Links, end: LinkEnd) -> Pos2 {
        let (height, aside) = links.levels.get(end.level as usize).map_or((0.0, 0.0), |l| (l.height, l.aside));
        self.origin + vec2((end.at as f32 + 0.5 + aside) * self.step.x, -height * self.step.y)
    }

    /// Columns that a horizontal range touches.
    fn columns(&self, from: f32, to: f32) -> Range<usize> {
        let at = |x: f32| ((x - self.origin.x) / self.step.x).floor().max(0.0) as usize;
        at(from).min(self.n)..(at(to) + 1).min(self.n)
    }
}

/// Levels whose nodes are drawn; through those without a name edges only pass.
fn named(links: &Links) -> impl DoubleEndedIterator<Item = (u32, &tokenscope_analysis::finding::Level)> {
    links.levels.iter().enumerate().filter(|(_, l)| !l.name.is_empty()).map(|(i, l)| (i as u32, l))
}

/// A node and those that edges pass through on their way into it.
fn own(links: &Links, end: LinkEnd) -> impl Iterator<Item = LinkEnd> {
    let nameless = (0..end.level).rev().take_while(|l| links.levels[*l as usize].name.is_empty());
    std::iter::once(end.level).chain(nameless).map(move |level| LinkEnd { level, ..end })
}

/// What is drawn of a graph.
struct Shown {
    incoming: Arc<Mutex<Incoming>>,
    /// Edges from the threshold on.
    strongest: usize,
    /// Edges on screen, as ascending indices into the graph's.
    edges: Arc<Vec<u32>>,
    /// Those of them on a route to a target.
    routes: Arc<Vec<u32>>,
}

/// Edges with an end in some columns, or across them, the strongest first; found as far down as somebody asked.
#[derive(Default)]
struct Touching {
    /// Edges that were looked at.
    seen: usize,
    found: Vec<u32>,
}

impl Touching {
    /// Those of the `strongest` edges of `links` that touch `columns`, [`MAX_EDGES`] at most.
    fn among(&mut self, links: &Links, strongest: usize, columns: &Range<usize>) -> Vec<u32> {
        while self.seen < strongest.min(links.links.len()) && self.found.len() < MAX_EDGES {
            let l = &links.links[self.seen];
            let (a, b) = (l.from.at.min(l.to.at) as usize, l.from.at.max(l.to.at) as usize);
            if a < columns.end && b >= columns.start {
                self.found.push(self.seen as u32);
            }
            self.seen += 1;
        }
        self.found[..self.found.partition_point(|i| (*i as usize) < strongest)].to_vec()
    }
}

/// What a lock holds; a panic of another frame left it whole.
fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn new(ui: &Ui, links: &Links, held: &Held, options: &Options, columns: Range<usize>) -> Self {
        // A threshold that moves changes what lies between the two places; nothing is found twice.
        let strongest = links.above(options.threshold).len();
        let incoming = kept(ui, "incoming edges", held, (), || Mutex::new(Incoming::new(links)));
        let touching = kept(ui, "touching edges", held, (columns.start, columns.end), Mutex::<Touching>::default);
        let place = (strongest, columns.start, columns.end);
        let edges = kept(ui, "visible edges", held, place, || locked(&touching).among(links, strongest, &columns));
        let routes = kept(ui, "routes", held, (place, options.targets.clone()), || {
            let top = links.levels.len().saturating_sub(1) as u32;
            let goals: Vec<LinkEnd> = options.targets.iter().map(|&t| LinkEnd { level: top, at: t as u32 }).collect();
            let mut incoming = locked(&incoming);
            incoming.grow(links, strongest);
            incoming.routes(links, strongest, &goals, &edges)
        });
        Self { incoming, strongest, edges, routes }
    }

    /// Edges above the threshold that come into a node from elsewhere, the strongest first.
    fn into<'l>(&self, links: &'l Links, end: LinkEnd) -> impl Iterator<Item = &'l Link> {
        let own: Vec<LinkEnd> = own(links, end).collect();
        let mut incoming = locked(&self.incoming);
        incoming.grow(links, self.strongest);
        let mut all: Vec<u32> = own.iter().flat_map(|&n| incoming.of(n, self.strongest)).collect();
        drop(incoming);
        all.sort_unstable();
        all.into_iter().map(|i| &links.links[i as usize]).filter(move |l| !own.contains(&l.from))
    }

    fn strokes(
        cx: &Cx,
        ui: &Ui,
        links: &Links,
        f: &Frame,
        edges: impl Iterator<Item = u32>,
        color: Color32,
    ) -> Strokes {
        let mut strokes = Strokes::new(cx, ui);
        for l in edges.map(|i| &links.links[i as usize]) {
            // A difference has two signs, and each its end of the scale.
            let color = match links.measure.signed {
                true => cx.theme.signed(if l.weight > 0.0 { 0.9 } else { -0.9 }),
                false => color,
            };
            strokes.add(f.at(links, l.from), f.at(links, l.to), (l.weight.abs() * 5.0).clamp(0.5, 5.0), color);
        }
        strokes
    }

    /// Paints the edges, those of the routes above the others.
    fn paint(&self, cx: &Cx, ui: &Ui, painter: &Painter, links: &Links, held: &Held, f: &Frame) {
        let [all, mine] = [cx.theme.line, cx.theme.accent];
        if cx.figure {
            // Every edge is one line of the file.
            let others = self.edges.iter().copied().filter(|i| self.routes.binary_search(i).is_err());
            Self::strokes(cx, ui, links, f, others, all).paint(painter);
            Self::strokes(cx, ui, links, f, self.routes.iter().copied(), mine).paint(painter);
            return;
        }
        let scale = ui.ctx().pixels_per_point();
        for (name, edges, color) in [("lines", &self.edges, all), ("lines of routes", &self.routes, mine)] {
            let key = (Arc::as_ptr(edges) as usize, Look { origin: f.origin, step: f.step, scale, color });
            let mesh = kept(ui, name, held, key, || {
                // The list is kept with its lines, so that no other one can take its address.
                let lines = Self::strokes(cx, ui, links, f, edges.iter().copied(), color);
                (lines.into_mesh().into(), edges.clone())
            });
            let mesh: &(Arc<Mesh>, Arc<Vec<u32>>) = &mesh;
            painter.add(Shape::Mesh(mesh.0.clone()));
        }
    }
}

fn nodes_ui(cx: &Cx, painter: &Painter, on: &On, links: &Links, f: &Frame, clip: Rect, options: &Options) {
    let letters = ((f.step.x - 2.0) / LETTER).floor().clamp(0.0, 40.0) as usize;
    // Words need room: every second, third … column has them, that of the last target among these.
    let looked = cx.hovered.token().or(options.targets.last().copied()).unwrap_or(0);
    let every = |room: f32| (room / f.step.x.max(0.01)).ceil().max(1.0) as usize;
    let worded = |column: usize, room: f32| column % every(room) == looked % every(room);
    let guessed = ((f.step.x * every(WORDED) as f32 - 4.0) / LETTER).floor().clamp(0.0, 12.0) as usize;
    let small = FontId::monospace(10.0);
    if f.step.x < 3.0 {
        // Nodes closer than pixels are a line.
        for (level, _) in named(links) {
            let y = f.at(links, LinkEnd { level, at: 0 }).y;
            painter.hline(clip.x_range(), y, Stroke::new(1.0, cx.theme.line));
        }
    }
    let lowest = named(links).next().map_or(0, |l| l.0);
    for column in f.columns(clip.left() - 40.0, clip.right() + 40.0) {
        let target = options.targets.binary_search(&column).is_ok();
        let mut first = Standing::Plain;
        for (level, l) in named(links).filter(|(_, l)| column < l.n) {
            let end = LinkEnd { level, at: column as u32 };
            let standing = on.standing(cx, &l.unit, column);
            if level == lowest {
                first = standing;
            }
            let color = match standing {
                Standing::Hovered => cx.theme.text,
                _ if target => cx.theme.accent,
                Standing::Twin => cx.theme.accent.gamma_multiply(0.6),
                _ => cx.theme.weak,
            };
            let p = f.at(links, end);
            if f.step.x < 3.0 {
                continue;
            }
            painter.circle_filled(p, 3.0f32.min(f.step.x * 0.4), color);
            if options.chosen == Some(end) {
                painter.circle_stroke(p, 6.0, Stroke::new(2.0, cx.theme.accent));
            }
            // Words only where they have room.
            if let Some((text, share)) =
                options.guess.filter(|_| f.step.y >= TALL && worded(column, WORDED)).and_then(|g| g(end))
            {
                let color = cx.theme.text.gamma_multiply(0.35 + 0.65 * share);
                let galley = painter.layout_no_wrap(cut(&widgets::visible(text), guessed), small.clone(), color);
                let at = Align2::CENTER_BOTTOM.anchor_size(p + vec2(0.0, -5.0), galley.size());
                // The last ones have room to one side only.
                let beyond = if column + 1 == l.n { at.right() - clip.right() } else { 0.0 };
                let at = at.translate(vec2(-beyond.max(0.0), 0.0));
                // Edges pass behind words, not through them.
                painter.rect_filled(at.shrink2(vec2(0.0, 2.0)), 2.0, cx.theme.background.gamma_multiply(0.8));
                painter.galley(at.min, galley, color);
            }
        }
        if f.step.x < 3.0 {
            let color = if first == Standing::Hovered { cx.theme.text } else { cx.theme.accent };
            if target || first == Standing::Hovered {
                let x = f.origin.x + (column as f32 + 0.5) * f.step.x;
                painter.vline(x, f.rect.y_range(), Stroke::new(1.0, color));
            }
            continue;
        }
        let Some(l) = links.levels.get(lowest as usize).filter(|l| column < l.n) else { continue };
        let marked = target || first != Standing::Plain;
        // Columns too narrow for a word each name some, and the ones that are looked at.
        let near = marked || !(looked.saturating_sub(every(NAMED))..=looked + every(NAMED)).contains(&column);
        if f.step.x < NAMED && !marked && !(worded(column, NAMED) && near) {
            continue;
        }
        // Pieces of a picture are many and say little one by one.
        if on.is_piece(&l.unit, column) && f.step.x < PIECE && !marked {
            continue;
        }
        let color = match first {
            Standing::Plain | Standing::Twin if target => cx.theme.accent,
            Standing::Selected => cx.theme.accent,
            _ => cx.theme.text,
        };
        let place = f.at(links, LinkEnd { level: lowest, at: column as u32 }) + vec2(0.0, 8.0);
        // A single name between columns without any has room to both sides.
        let room = if f.step.x < NAMED { LETTERS.0 } else { letters };
        let words = cut(&on.short(&l.unit, column), if f.upright { LETTERS.0 } else { room });
        let drawn = name_ui(painter, place, words, &small, color, f.upright);
        if let Some(stroke) = widgets::outline(cx, first) {
            painter.rect_stroke(drawn.expand(2.0), 2.0, stroke, egui::StrokeKind::Inside);
        }
    }
}

/// A line below each run of pieces of a picture with what they are.
fn pieces_ui(cx: &Cx, painter: &Painter, on: &On, links: &Links, f: &Frame, clip: Rect) {
    let Some((level, l)) = named(links).next() else { return };
    if f.step.x >= PIECE {
        return;
    }
    let (seen, mut from) = (f.columns(clip.left(), clip.right()), None);
    for column in 0..=l.n {
        let piece = column < l.n && on.is_piece(&l.unit, column);
        match (piece, from) {
            (true, None) => from = Some(column),
            (false, Some(first)) => {
                from = None;
                let (a, b) = (first.max(seen.start), column.min(seen.end));
                if a + 1 < b {
                    let x = |c: usize| f.at(links, LinkEnd { level, at: c as u32 }).x;
                    let y = f.origin.y + 9.0;
                    painter.hline(x(a)..=x(b - 1), y, Stroke::new(1.5, cx.theme.weak));
                    let words = format!("image tokens {first}–{}", column - 1);
                    let font = FontId::proportional(11.0);
                    painter.text(
                        pos2((x(a) + x(b - 1)) / 2.0, y + 3.0),
                        Align2::CENTER_TOP,
                        words,
                        font,
                        cx.theme.weak,
                    );
                }
            }
            _ => {}
        }
    }
}

/// Scrolls to what was selected elsewhere, once for each selection.
fn reach(cx: &Cx, ui: &mut Ui, f: &Frame, options: &Options) {
    let slot = ui.scope_id().with("reached");
    let now = cx.pane.aim.tokens().to_vec();
    let before = ui.data(|d| d.get_temp::<Vec<usize>>(slot));
    if before.as_ref() == Some(&now) {
        return;
    }
    ui.data_mut(|d| d.insert_temp(slot, now.clone()));
    let Some(&last) = now.last().filter(|t| before.is_some() && **t < f.n && options.column > 0.0) else { return };
    let left = f.origin.x + last as f32 * f.step.x;
    if left < ui.clip_rect().left() + GUTTER || left + f.step.x > ui.clip_rect().right() {
        let column = Rect::from_min_max(pos2(left, f.rect.top()), pos2(left + f.step.x, f.rect.bottom()));
        ui.scroll_to_rect(column, Some(egui::Align::Center));
    }
}

/// At the edges, an arrow with the name of what is looked at and lies beyond them.
fn beyond_ui(cx: &Cx, painter: &Painter, on: &On, links: &Links, f: &Frame, clip: Rect, options: &Options) {
    let Some((_, l)) = named(links).next() else { return };
    let looked = cx.hovered.token().or(options.targets.last().copied()).filter(|c| *c < l.n);
    let Some(column) = looked else { return };
    let x = f.origin.x + (column as f32 + 0.5) * f.step.x;
    let (place, align, words) = match x {
        x if x < clip.left() + GUTTER => (
            pos2(clip.left() + GUTTER, f.origin.y - 12.0),
            Align2::LEFT_CENTER,
            format!("◀ {}", on.short(&l.unit, column)),
        ),
        x if x > clip.right() => (
            pos2(clip.right() - 4.0, f.origin.y - 12.0),
            Align2::RIGHT_CENTER,
            format!("{} ▶", on.short(&l.unit, column)),
        ),
        _ => return,
    };
    let galley = painter.layout_no_wrap(words, FontId::monospace(11.0), cx.theme.text_on(cx.theme.accent));
    let at = align.anchor_size(place, galley.size());
    painter.rect_filled(at.expand2(vec2(5.0, 2.0)), 3.0, cx.theme.accent);
    painter.galley(at.min, galley, cx.theme.text);
}

/// The first `n` letters, with a mark where some are missing.
fn cut(words: &str, n: usize) -> String {
    if words.chars().count() <= n {
        return words.to_string();
    }
    let mut out: String = words.chars().take(n.saturating_sub(1)).collect();
    out.push('…');
    out
}

/// A name below `place`, lying or standing upright.
fn name_ui(painter: &Painter, place: Pos2, words: String, font: &FontId, color: Color32, upright: bool) -> Rect {
    if !upright {
        return painter.text(place, Align2::CENTER_TOP, words, font.clone(), color);
    }
    let galley = painter.layout_no_wrap(words, font.clone(), color);
    let size = galley.size();
    // Turned to the left it reads from below and ends at the node.
    let corner = pos2(place.x - size.y / 2.0, place.y + size.x);
    let mut shape = egui::epaint::TextShape::new(corner, galley, color);
    shape.angle = -std::f32::consts::FRAC_PI_2;
    painter.add(shape);
    Rect::from_min_size(pos2(corner.x, place.y), vec2(size.y, size.x))
}

/// The names of the levels stay in view while the nodes scroll below them.
fn gutter_ui(cx: &Cx, painter: &Painter, links: &Links, f: &Frame, clip: Rect) {
    let gutter = clip.left();
    let strip = Rect::from_min_max(pos2(gutter, f.rect.top()), pos2(gutter + 26.0, f.rect.bottom()));
    painter.rect_filled(strip, 0.0, cx.theme.background);
    let n = named(links).count();
    // Every name has 12 points of room.
    let every = (12.0 / f.step.y.max(0.1)).ceil().max(1.0) as usize;
    for (_, (level, l)) in named(links).enumerate().filter(|(i, _)| i % every == 0 || i + 1 == n) {
        let place = pos2(gutter + 2.0, f.at(links, LinkEnd { level, at: 0 }).y);
        painter.text(place, Align2::LEFT_CENTER, cut(&l.name, 6), FontId::proportional(11.0), cx.theme.weak);
    }
}

fn caption_ui(cx: &Cx, painter: &Painter, links: &Links, threshold: f32, drawn: usize, clip: Rect) {
    let above = links.above(threshold).len();
    let cut = if drawn == MAX_EDGES { format!(" (strongest {MAX_EDGES} drawn)") } else { String::new() };
    let none = if above == 0 { " · lower the threshold to see some" } else { "" };
    let all = match links.floor {
        0.0 => links.links.len().to_string(),
        floor => format!("{} of at least {floor}", links.links.len()),
    };
    let width = if links.measure.unit.is_empty() { links.measure.name } else { links.measure.unit };
    let words = format!("{above} of {all} edges{cut} · width: {width}{none}");
    let place = clip.left_top() + vec2(2.0, 0.0);
    let galley = painter.layout_no_wrap(words, FontId::proportional(11.0), cx.theme.weak);
    painter.rect_filled(Rect::from_min_size(place, galley.size()), 0.0, cx.theme.background);
    painter.galley(place, galley, cx.theme.weak);
}

#[expect(clippy::too_many_arguments, reason = "what lies under the pointer hangs on all of it")]
fn pointer_ui(
    cx: &Cx,
    ui: &Ui,
    on: &On,
    links: &Links,
    f: &Frame,
    shown: &Shown,
    options: &Options,
    response: egui::Response,
) -> Done {
    let mut done = Done::default();
    let under = response.hover_pos().and_then(|p| {
        let column = ((p.x - f.origin.x) / f.step.x).floor();
        (0.0..f.n as f32).contains(&column).then_some(())?;
        let height = (f.origin.y - p.y) / f.step.y;
        let near = |l: &(u32, &tokenscope_analysis::finding::Level)| (l.1.height - height).abs();
        let level = named(links).filter(|l| (column as usize) < l.1.n).min_by(|a, b| near(a).total_cmp(&near(b)))?.0;
        Some((p, LinkEnd { level, at: column as u32 }))
    });
    let spoken = match under.map(|u| u.1).or(options.chosen) {
        Some(end) => format!("flow lattice, {}", words(on, links, shown, options, end).replace('\n', ", ")),
        None => format!("flow lattice, {} columns by {} levels", f.n, named(links).count()),
    };
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &spoken));
    if response.has_focus() {
        let outline = f.rect.intersect(ui.clip_rect()).shrink(1.0);
        ui.painter().rect_stroke(outline, 0.0, Stroke::new(1.0, cx.theme.accent), egui::StrokeKind::Inside);
        done.focus = Some(response.id);
    }
    let Some((p, end)) = under else { return done };
    // Ctrl+scroll and pinching widen the columns.
    let zoom = ui.input(|i| i.zoom_delta());
    if (zoom - 1.0).abs() > 1e-3 {
        let wide = (f.step.x * zoom).clamp(0.5, 120.0);
        let all = f.step.x * f.n as f32 <= ui.clip_rect().width() && zoom < 1.0;
        done.column = Some(if all { 0.0 } else { wide });
    }
    let on_node = f.at(links, end).distance(p) < 7.0;
    let on_edge = (!on_node).then(|| nearest(links, f, &shown.edges, p)).flatten();
    if response.clicked() {
        response.request_focus();
        done.clicked = match on_edge {
            _ if on_node && end.level > 0 => Some(Hit::Node(end)),
            Some(l) => Some(Hit::Edge(*l)),
            None => None,
        };
    }
    if let Some(level) = links.levels.get(end.level as usize) {
        match done.clicked {
            // A click that opens a node or an edge selects no token.
            Some(_) => on.hover(cx, &level.unit, end.at as usize),
            None => on.follow(cx, ui, &response, &level.unit, end.at as usize),
        }
    }
    response.on_hover_text_at_pointer(match on_edge {
        Some(l) => edge_words(on, links, l),
        None => words(on, links, shown, options, end),
    });
    done
}

/// The edge within a few points of `p`.
fn nearest<'l>(links: &'l Links, f: &Frame, edges: &[u32], p: Pos2) -> Option<&'l Link> {
    const NEAR: f32 = 4.0;
    let distance = |l: &Link| {
        let (a, b) = (f.at(links, l.from), f.at(links, l.to));
        // Most edges lie far away, and that is told sooner.
        let beside = p.x < a.x.min(b.x) - NEAR || p.x > a.x.max(b.x) + NEAR;
        if beside || p.y < a.y.min(b.y) - NEAR || p.y > a.y.max(b.y) + NEAR {
            return f32::INFINITY;
        }
        let along = b - a;
        let t = ((p - a).dot(along) / along.length_sq().max(1e-6)).clamp(0.0, 1.0);
        (a + along * t).distance(p)
    };
    let near = edges.iter().map(|&i| &links.links[i as usize]).map(|l| (distance(l), l)).filter(|d| d.0 < NEAR);
    near.min_by(|a, b| a.0.total_cmp(&b.0)).map(|d| d.1)
}

/// A node in words; one that edges only pass through is named by the level above it.
fn name(on: &On, links: &Links, end: LinkEnd) -> String {
    let Some(level) = links.levels.get(end.level as usize) else { return String::new() };
    let own = on.name(&level.unit, end.at as usize);
    if !level.name.is_empty() {
        return format!("{}, {own}", level.name);
    }
    let into = links.levels[end.level as usize..].iter().find(|l| !l.name.is_empty());
    into.map_or(own.clone(), |l| format!("inside {}, {own}", l.name))
}

fn weight(links: &Links, w: f32) -> String {
    if links.measure.unit.starts_with("share") { format!("{:.1}%", w * 100.0) } else { widgets::number(w) }
}

/// What a node is told about: what is said there, and the strongest edges into it.
fn words(on: &On, links: &Links, shown: &Shown, options: &Options, end: LinkEnd) -> String {
    let mut out = name(on, links, end);
    if let Some((text, p)) = options.guess.and_then(|g| g(end)) {
        out += &format!("\nwould predict {} ({:.1}%)", widgets::visible(text), p * 100.0);
    }
    for l in shown.into(links, end).take(5) {
        out += &format!("\n{} from {}", weight(links, l.weight), name(on, links, l.from));
    }
    out
}

fn edge_words(on: &On, links: &Links, l: &Link) -> String {
    let what = if links.measure.unit.is_empty() { links.measure.name } else { links.measure.unit };
    format!("{} {what}\nfrom {}\nto {}", weight(links, l.weight), name(on, links, l.from), name(on, links, l.to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenscope_analysis::finding::{Level, Measure, Unit};

    fn links(n: usize, edges: &[(u32, u32, f32)]) -> Links {
        let level = |name: &str, height| Level { name: name.into(), unit: Unit::Positions, n, height, aside: 0.0 };
        let link = |&(from, to, weight): &(u32, u32, f32)| Link {
            from: LinkEnd { level: 0, at: from },
            to: LinkEnd { level: 1, at: to },
            weight,
        };
        let levels = vec![level("in", 0.0), level("L0", 1.0)];
        Links::new("l", levels, Measure::new("flow", "share"), edges.iter().map(link).collect())
    }

    #[test]
    fn edges_on_screen_end_there_or_go_across() {
        let g = links(9, &[(0, 8, 0.9), (0, 2, 0.8), (4, 4, 0.7), (1, 3, 0.6), (7, 8, 0.5), (3, 5, 0.1)]);
        let mut touching = Touching::default();
        assert_eq!(touching.among(&g, 5, &(3..6)), [0, 2, 3]);
        assert_eq!(touching.among(&g, 6, &(3..6)), [0, 2, 3, 5]);
        // What was found further down is left out again.
        assert_eq!(touching.among(&g, 3, &(3..6)), [0, 2]);
    }

    #[test]
    fn the_nearest_edge_is_found_and_nothing_far_away() {
        let g = links(3, &[(0, 0, 0.9), (0, 2, 0.5)]);
        let f =
            Frame { rect: Rect::EVERYTHING, origin: pos2(0.0, 100.0), step: vec2(20.0, 100.0), n: 3, upright: false };
        // The first edge is the vertical at x = 10; the second goes from (10, 100) to (50, 0).
        assert_eq!(nearest(&g, &f, &[0, 1], pos2(11.0, 50.0)).unwrap().to.at, 0);
        assert_eq!(nearest(&g, &f, &[0, 1], pos2(30.0, 51.0)).unwrap().to.at, 2);
        assert!(nearest(&g, &f, &[0, 1], pos2(60.0, 90.0)).is_none());
        assert_eq!(f.columns(15.0, 25.0), 0..2);
        assert_eq!((cut("abc", 3), cut("abcd", 3)), ("abc".into(), "ab…".into()));
    }
}
