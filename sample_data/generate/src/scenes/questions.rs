//! Questions about a scene that have exactly one right answer, and the items that the answer lies in.

use super::{Color, Item, Scene, Shape};
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Ask {
    Color,
    Kind,
    Count,
    Position,
    YesNo,
    Word,
    Number,
    Caption,
}

impl Ask {
    /// Everything that can be asked for.
    pub const ALL: [Ask; 8] =
        [Ask::Color, Ask::Kind, Ask::Count, Ask::Position, Ask::YesNo, Ask::Word, Ask::Number, Ask::Caption];

    /// The word for it.
    pub fn name(self) -> &'static str {
        ["color", "kind", "count", "position", "yes/no", "word", "number", "caption"][self as usize]
    }
}

/// A question, its answer, and where the answer lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What is asked for.
    pub ask: Ask,
    /// The question as put to a model.
    pub text: String,
    /// The only right answer.
    pub answer: String,
    /// Indices of the items that decide it; empty where nothing in the picture does (a thing that is not there).
    pub items: Vec<usize>,
}

/// A scene's items with what makes them nameable.
struct Names<'a> {
    items: &'a [Item],
}

impl Names<'_> {
    fn with(&self, test: impl Fn(&Item) -> bool) -> Vec<usize> {
        (0..self.items.len()).filter(|&i| test(&self.items[i])).collect()
    }

    fn shapes(&self) -> Vec<usize> {
        self.with(|i| i.shape().is_some())
    }

    fn both(&self, color: Color, noun: &str) -> Vec<usize> {
        self.with(|i| i.color == color && i.noun() == noun)
    }

    /// The shortest name that means item `i` alone: `circle`, else `red circle`.
    fn name(&self, i: usize) -> Option<String> {
        let item = &self.items[i];
        let noun = item.noun();
        if self.with(|o| o.noun() == noun).len() == 1 {
            return Some(noun.to_string());
        }
        (self.both(item.color, noun).len() == 1).then(|| format!("{} {noun}", item.color.name()))
    }
}

/// All of them, in an order and wording that the scene's seed decides.
pub(super) fn all(scene: &Scene) -> Vec<Question> {
    let mut rng = crate::rng(2, scene.seed);
    let rng = &mut rng;
    let names = Names { items: &scene.items };
    let mut out = Vec::new();
    colors(&names, rng, &mut out);
    kinds(&names, rng, &mut out);
    counts(&names, rng, &mut out);
    positions(&names, &mut out);
    yes_or_no(&names, rng, &mut out);
    readings(&names, rng, &mut out);
    out.push(caption(&names));
    out.shuffle(rng);
    out
}

fn ask(ask: Ask, text: String, answer: impl Into<String>, items: Vec<usize>) -> Question {
    Question { ask, text, answer: answer.into(), items }
}

fn colors(names: &Names, rng: &mut impl Rng, out: &mut Vec<Question>) {
    for (i, item) in names.items.iter().enumerate() {
        let noun = item.noun();
        if names.with(|o| o.noun() == noun).len() == 1 {
            let text = if rng.random_bool(0.5) {
                format!("What color is the {noun}?")
            } else {
                format!("Which color has the {noun}?")
            };
            out.push(ask(Ask::Color, text, item.color.name(), vec![i]));
        }
    }
}

fn kinds(names: &Names, rng: &mut impl Rng, out: &mut Vec<Question>) {
    for i in names.shapes() {
        let item = &names.items[i];
        let color = item.color.name();
        if names.with(|o| o.shape().is_some() && o.color == item.color).len() == 1 {
            let text = if rng.random_bool(0.5) {
                format!("What shape is {color}?")
            } else {
                format!("What is the {color} shape?")
            };
            out.push(ask(Ask::Kind, text, item.noun(), vec![i]));
        }
    }
}

/// Every count above one, and one of the many that are one.
fn counts(names: &Names, rng: &mut impl Rng, out: &mut Vec<Question>) {
    let all = names.shapes();
    let mut asked = vec![ask(Ask::Count, "How many shapes are there?".into(), all.len().to_string(), all)];
    for shape in Shape::ALL {
        let found = names.with(|i| i.shape() == Some(shape));
        if !found.is_empty() {
            let text = format!("How many {} are there?", shape.plural());
            asked.push(ask(Ask::Count, text, found.len().to_string(), found));
        }
    }
    for color in Color::ALL {
        let found = names.with(|i| i.shape().is_some() && i.color == color);
        if !found.is_empty() {
            let text = format!("How many {} shapes are there?", color.name());
            asked.push(ask(Ask::Count, text, found.len().to_string(), found));
        }
    }
    let (one, more): (Vec<_>, Vec<_>) = asked.into_iter().partition(|q| q.answer == "1");
    out.extend(more);
    out.extend(one.choose(rng).cloned());
}

/// One direction must be at least this many times the other, and this many pixels, to be asked about.
const CLEARLY: (f32, f32) = (1.6, 12.0);

fn positions(names: &Names, out: &mut Vec<Question>) {
    for (a, b) in (0..names.items.len()).flat_map(|a| (0..names.items.len()).map(move |b| (a, b))) {
        let (Some(first), Some(second)) = (names.name(a), names.name(b)) else { continue };
        let (pa, pb) = (names.items[a].center, names.items[b].center);
        let (dx, dy) = (pa.0 - pb.0, pa.1 - pb.1);
        let (wide, high) = (dx.abs(), dy.abs());
        if a == b || wide.max(high) < CLEARLY.0 * wide.min(high) || wide.max(high) < CLEARLY.1 {
            continue;
        }
        let answer = match (wide > high, dx > 0.0, dy > 0.0) {
            (true, false, _) => "left",
            (true, true, _) => "right",
            (false, _, false) => "above",
            (false, _, true) => "below",
        };
        let text = format!("Where is the {first} from the {second}?");
        out.push(ask(Ask::Position, text, answer, vec![a, b]));
    }
}

/// Two questions whose answer is yes and two whose answer is no.
fn yes_or_no(names: &Names, rng: &mut impl Rng, out: &mut Vec<Question>) {
    let shapes = names.shapes();
    let there = |color: Color, shape: Shape| names.both(color, shape.name());
    if let Some(&i) = shapes.choose(rng)
        && let Some(shape) = names.items[i].shape()
    {
        let color = names.items[i].color;
        let text = format!("Is there a {} {}?", color.name(), shape.name());
        out.push(ask(Ask::YesNo, text, "yes", there(color, shape)));
        // What is not there shares its kind or its colour with something that is, so that both must be looked at.
        let other_color = Color::ALL.choose(rng).copied().unwrap_or(color);
        let other_shape = Shape::ALL.choose(rng).copied().unwrap_or(shape);
        let (c, s) = if rng.random_bool(0.5) { (other_color, shape) } else { (color, other_shape) };
        if there(c, s).is_empty() {
            let near = names.with(|o| o.shape().is_some_and(|x| x == s || o.color == c));
            out.push(ask(Ask::YesNo, format!("Is there a {} {}?", c.name(), s.name()), "no", near));
        }
    }
    if let Some(&i) = shapes.choose(rng)
        && names.with(|o| o.noun() == names.items[i].noun()).len() == 1
    {
        let item = &names.items[i];
        let mut color = item.color;
        if rng.random_bool(0.5) {
            color = Color::ALL.choose(rng).copied().unwrap_or(color);
        }
        let answer = if color == item.color { "yes" } else { "no" };
        out.push(ask(Ask::YesNo, format!("Is the {} {}?", item.noun(), color.name()), answer, vec![i]));
    }
    let shape = Shape::ALL.choose(rng).copied().unwrap_or(Shape::Circle);
    let found = names.with(|o| o.shape() == Some(shape));
    let answer = if found.is_empty() { "no" } else { "yes" };
    out.push(ask(Ask::YesNo, format!("Is there a {}?", shape.name()), answer, found));
}

fn readings(names: &Names, rng: &mut impl Rng, out: &mut Vec<Question>) {
    for (i, item) in names.items.iter().enumerate() {
        let Some(w) = item.writing() else { continue };
        let noun = item.noun();
        let text = if rng.random_bool(0.5) { format!("What {noun} is written?") } else { format!("Read the {noun}.") };
        out.push(ask(if w.is_number() { Ask::Number } else { Ask::Word }, text, w.text.clone(), vec![i]));
    }
}

/// Everything from left to right.
fn caption(names: &Names) -> Question {
    let mut order: Vec<usize> = (0..names.items.len()).collect();
    order.sort_by(|&a, &b| names.items[a].center.0.total_cmp(&names.items[b].center.0));
    let say = |&i: &usize| {
        let item = &names.items[i];
        match item.writing() {
            Some(w) => format!("the {} {} {}", item.color.name(), item.noun(), w.text),
            None => {
                let color = item.color.name();
                format!("{} {color} {}", if color == "orange" { "an" } else { "a" }, item.noun())
            }
        }
    };
    let parts: Vec<String> = order.iter().map(say).collect();
    let answer = match parts.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => parts.concat(),
    };
    ask(Ask::Caption, "Describe the picture.".into(), answer, order)
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Texture, Writing};
    use super::*;

    fn item(kind: Kind, color: Color, x: f32, y: f32) -> Item {
        Item { kind, color, texture: Texture::Plain, center: (x, y), radius: 9.0, turn: 0.0 }
    }

    #[test]
    fn questions_of_a_scene_by_hand() {
        let items = vec![
            item(Kind::Shape(Shape::Circle), Color::Red, 20.0, 20.0),
            item(Kind::Shape(Shape::Star), Color::Blue, 60.0, 24.0),
            item(Kind::Shape(Shape::Star), Color::Red, 22.0, 70.0),
            item(Kind::Writing(Writing { text: "47".into(), cell: 2.0 }), Color::White, 70.0, 75.0),
        ];
        let scene = Scene { seed: 1, rgb: vec![], items, owner: vec![] };
        let all = scene.questions();
        let find = |ask: Ask, words: &str| {
            let hit = all.iter().find(|q| q.ask == ask && q.text.contains(words));
            hit.map(|q| (q.answer.as_str(), q.items.clone()))
        };
        assert_eq!(find(Ask::Color, "circle?"), Some(("red", vec![0])));
        assert_eq!(find(Ask::Color, "number?"), Some(("white", vec![3])));
        // Two stars: a star's colour has no one answer, but the shape that is blue has.
        assert_eq!(find(Ask::Color, "star"), None);
        assert_eq!(find(Ask::Kind, "blue"), Some(("star", vec![1])));
        assert_eq!(find(Ask::Kind, "red"), None);
        assert_eq!(find(Ask::Count, "many shapes are"), Some(("3", vec![0, 1, 2])));
        assert_eq!(find(Ask::Count, "many red shapes"), Some(("2", vec![0, 2])));
        assert_eq!(find(Ask::Position, "the circle from the blue star"), Some(("left", vec![0, 1])));
        assert_eq!(find(Ask::Position, "the red star from the circle"), Some(("below", vec![2, 0])));
        // The blue star and the red star lie diagonally.
        assert_eq!(find(Ask::Position, "the blue star from the red star"), None);
        assert_eq!(find(Ask::Number, ""), Some(("47", vec![3])));
        assert_eq!(find(Ask::Word, ""), None);
        let caption = "a red circle, a red star, a blue star and the white number 47";
        assert_eq!(find(Ask::Caption, ""), Some((caption, vec![0, 2, 1, 3])));
    }

    #[test]
    fn yes_and_no_are_right_and_about_as_frequent() {
        let (mut yes, mut no) = (0, 0);
        for seed in 0..400 {
            let s = Scene::new(seed);
            for q in s.questions().iter().filter(|q| q.ask == Ask::YesNo) {
                let said = |w: &str| q.text.trim_end_matches('?').split(' ').any(|x| x == w);
                let fits = |i: &Item| {
                    let color = Color::ALL.iter().all(|c| !said(c.name()) || i.color == *c);
                    i.shape().is_some_and(|s| said(s.name())) && color
                };
                let truth = s.items.iter().any(fits);
                assert_eq!(q.answer == "yes", truth, "seed {seed}: {}", q.text);
                if truth { yes += 1 } else { no += 1 }
            }
        }
        assert!(yes * 2 > no && no * 2 > yes, "{yes} yes, {no} no");
    }

    #[test]
    fn every_kind_is_asked_and_every_count_occurs() {
        let questions: Vec<Question> = (0..300).flat_map(|seed| Scene::new(seed).questions()).collect();
        for ask in Ask::ALL {
            assert!(questions.iter().filter(|q| q.ask == ask).count() > 30, "{}", ask.name());
        }
        for n in ["1", "2", "3", "4"] {
            assert!(questions.iter().any(|q| q.ask == Ask::Count && q.answer == n), "{n}");
        }
        for d in ["left", "right", "above", "below"] {
            assert!(questions.iter().any(|q| q.ask == Ask::Position && q.answer == d), "{d}");
        }
    }
}
