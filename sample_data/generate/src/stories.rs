//! Short stories in which earlier words decide later ones, and which words those are.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use std::ops::Range;

/// What a story is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Theme {
    /// Two people leave things in places; one looks for hers.
    Places,
    /// Things have colours; one is asked for.
    Colors,
    /// Small additions and subtractions, told and written.
    Arithmetic,
    /// A list that comes again.
    List,
    /// Names and ages; some are looked up.
    KeyValue,
    /// A fact, other sentences, the fact again.
    Needle,
    /// Somebody answers; who they are was said before.
    Reference,
    /// Brackets that close in the right order.
    Brackets,
    /// A refrain, word by word.
    Refrain,
}

impl Theme {
    /// Every theme.
    pub const ALL: [Theme; 9] = [
        Theme::Places,
        Theme::Colors,
        Theme::Arithmetic,
        Theme::List,
        Theme::KeyValue,
        Theme::Needle,
        Theme::Reference,
        Theme::Brackets,
        Theme::Refrain,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        ["places", "colors", "arithmetic", "list", "key-value", "needle", "reference", "brackets", "refrain"]
            [self as usize]
    }
}

/// A part of a text that earlier parts decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Bytes of what is decided.
    pub answer: Range<usize>,
    /// Bytes of what decides it: the value where it stood first, and the words that tell which value is meant.
    pub deciders: Vec<Range<usize>>,
}

/// A story and its links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// What it is about.
    pub theme: Theme,
    /// The text.
    pub text: String,
    /// What is decided by what, in the order of the text.
    pub links: Vec<Link>,
}

/// First names.
pub const NAMES: [&str; 24] = [
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "June", "Kai", "Lea", "Max", "Nora", "Otto",
    "Pia", "Quinn", "Rosa", "Sam", "Tess", "Uma", "Vera", "Will", "Zoe",
];
const THINGS: [&str; 16] = [
    "key", "book", "lamp", "apple", "drum", "kite", "map", "ring", "boat", "coin", "shell", "clock", "hat", "cup",
    "pen", "box",
];
const COLORS: [&str; 8] = ["red", "blue", "green", "yellow", "white", "black", "purple", "orange"];
const PLACES: [&str; 12] = [
    "garden", "kitchen", "library", "station", "harbour", "market", "attic", "school", "forest", "tower", "cellar",
    "bakery",
];
const ANIMALS: [&str; 12] =
    ["cat", "dog", "fox", "owl", "hen", "goat", "crow", "hare", "bear", "wolf", "mouse", "duck"];
const MOODS: [&str; 8] = ["old", "young", "quiet", "happy", "tired", "clever", "brave", "small"];

/// Writes a text and remembers where its parts stand.
#[derive(Default)]
struct Pen {
    text: String,
    links: Vec<Link>,
}

impl Pen {
    /// Writes `s` and says where it stands.
    fn put(&mut self, s: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(s);
        start..self.text.len()
    }

    /// Writes `s`, which `deciders` decide.
    fn decided(&mut self, s: &str, deciders: &[Range<usize>]) -> Range<usize> {
        let answer = self.put(s);
        self.links.push(Link { answer: answer.clone(), deciders: deciders.to_vec() });
        answer
    }

    fn story(self, theme: Theme) -> Story {
        Story { theme, text: self.text, links: self.links }
    }
}

fn pick<'a>(list: &[&'a str], rng: &mut impl Rng) -> &'a str {
    list.choose(rng).copied().unwrap_or_default()
}

/// `n` different entries of a list in random order.
fn some<'a>(list: &[&'a str], n: usize, rng: &mut impl Rng) -> Vec<&'a str> {
    let mut out: Vec<&str> = list.choose_multiple(rng, n).copied().collect();
    out.shuffle(rng);
    out
}

impl Story {
    /// The story of this seed; its theme is drawn, look-ups and needles more often than the others.
    pub fn new(seed: u64) -> Self {
        let mut rng = crate::rng(3, seed);
        const WEIGHTS: [usize; 9] = [2, 2, 3, 2, 4, 3, 2, 1, 2];
        let mut at = rng.random_range(0..WEIGHTS.iter().sum());
        let mut theme = Theme::Places;
        for (t, w) in Theme::ALL.into_iter().zip(WEIGHTS) {
            if at < w {
                theme = t;
                break;
            }
            at -= w;
        }
        Self::of(theme, seed)
    }

    /// The story of this seed about `theme`.
    pub fn of(theme: Theme, seed: u64) -> Self {
        let mut rng = crate::rng(4 + theme as u64, seed);
        let rng = &mut rng;
        let mut p = Pen::default();
        match theme {
            Theme::Places => places(&mut p, rng),
            Theme::Colors => colors(&mut p, rng),
            Theme::Arithmetic => arithmetic(&mut p, rng),
            Theme::List => list(&mut p, rng),
            Theme::KeyValue => key_value(&mut p, rng),
            Theme::Needle => {
                let sentences = rng.random_range(1..=7);
                needle(&mut p, sentences, rng);
            }
            Theme::Reference => reference(&mut p, rng),
            Theme::Brackets => brackets(&mut p, rng),
            Theme::Refrain => refrain(&mut p, rng),
        }
        p.story(theme)
    }

    /// A needle with this many sentences between the fact and its recall.
    pub fn needle(sentences: usize, seed: u64) -> Self {
        let mut p = Pen::default();
        needle(&mut p, sentences, &mut crate::rng(20, seed));
        p.story(Theme::Needle)
    }

    /// A look-up among this many names.
    pub fn key_value(n_keys: usize, seed: u64) -> Self {
        let mut p = Pen::default();
        table(&mut p, n_keys.clamp(1, NAMES.len()), &mut crate::rng(21, seed));
        p.story(Theme::KeyValue)
    }
}

fn places(p: &mut Pen, rng: &mut impl Rng) {
    let n = rng.random_range(2..=3);
    let (who, what, place) = (some(&NAMES, n, rng), some(&THINGS, n, rng), some(&PLACES, n, rng));
    let mut at = Vec::new();
    for i in 0..n {
        let w = p.put(who[i]);
        p.put(" left the ");
        let t = p.put(what[i]);
        p.put(" in the ");
        let l = p.put(place[i]);
        p.put(". ");
        at.push((w, t, l));
    }
    let i = rng.random_range(0..n);
    p.put("Later ");
    let again = p.put(who[i]);
    p.put(" looked for the ");
    let (w, t, l) = at[i].clone();
    let thing = p.decided(what[i], &[t.clone(), w.clone(), again]);
    p.put(" and found it in the ");
    p.decided(place[i], &[l, w, t, thing]);
    p.put(".");
}

fn colors(p: &mut Pen, rng: &mut impl Rng) {
    let n = rng.random_range(2..=3);
    let (things, shades) = (some(&THINGS, n, rng), some(&COLORS, n, rng));
    let mut at = Vec::new();
    for i in 0..n {
        p.put(if i == 0 { "The " } else { "the " });
        let t = p.put(things[i]);
        p.put(" is ");
        let c = p.put(shades[i]);
        p.put(if i + 2 < n {
            ", "
        } else if i + 2 == n {
            " and "
        } else {
            ". "
        });
        at.push((t, c));
    }
    let i = rng.random_range(0..n);
    let (t, c) = at[i].clone();
    p.put("What color is the ");
    let asked = p.put(things[i]);
    p.put("? The ");
    p.decided(things[i], std::slice::from_ref(&asked));
    p.put(" is ");
    p.decided(shades[i], &[c, t, asked]);
    p.put(".");
}

fn arithmetic(p: &mut Pen, rng: &mut impl Rng) {
    let plus = rng.random_bool(0.6);
    let a: u32 = rng.random_range(1..10);
    let b: u32 = if plus { rng.random_range(1..10) } else { rng.random_range(1..=a) };
    let c = if plus { a + b } else { a - b };
    let (name, thing) = (pick(&NAMES, rng), pick(&THINGS, rng));
    let (a, b, c) = (a.to_string(), b.to_string(), c.to_string());
    if rng.random_bool(0.5) {
        let x = p.put(&a);
        let op = p.put(if plus { " + " } else { " - " });
        let y = p.put(&b);
        p.put(" = ");
        p.decided(&c, &[x, op, y]);
        p.put(".");
        return;
    }
    p.put(name);
    p.put(" has ");
    let x = p.put(&a);
    p.put(&format!(" {thing}s and "));
    let op = p.put(if plus { "finds" } else { "loses" });
    p.put(" ");
    let y = p.put(&b);
    p.put(". ");
    let x2 = p.decided(&a, &[x]);
    let op2 = p.decided(if plus { " + " } else { " - " }, &[op]);
    let y2 = p.decided(&b, &[y]);
    p.put(" = ");
    let sum = p.decided(&c, &[x2, op2, y2]);
    p.put(&format!(". Now {name} has "));
    p.decided(&c, &[sum]);
    p.put(&format!(" {thing}s."));
}

fn list(p: &mut Pen, rng: &mut impl Rng) {
    let n = rng.random_range(3..=5);
    let animals = some(&ANIMALS, n, rng);
    p.put(&format!("In the {} live ", pick(&PLACES, rng)));
    let write = |p: &mut Pen, before: Option<&[Range<usize>]>| -> Vec<Range<usize>> {
        let mut at: Vec<Range<usize>> = Vec::new();
        for (i, a) in animals.iter().enumerate() {
            p.put(if i == 0 {
                "the "
            } else if i + 1 == n {
                " and the "
            } else {
                ", the "
            });
            at.push(match before {
                None => p.put(a),
                // The place in the list is known by the one before.
                Some(b) if i > 0 => p.decided(a, &[b[i].clone(), b[i - 1].clone(), at[i - 1].clone()]),
                Some(b) => p.decided(a, &[b[0].clone()]),
            });
        }
        at
    };
    let first = write(p, None);
    p.put(". Every evening ");
    write(p, Some(&first));
    p.put(&format!(" {}.", pick(&["sing", "dance", "sleep", "play"], rng)));
}

fn key_value(p: &mut Pen, rng: &mut impl Rng) {
    let n = rng.random_range(2..=8);
    table(p, n, rng);
}

/// Names and ages, and one to three of them looked up.
fn table(p: &mut Pen, n: usize, rng: &mut impl Rng) {
    let keys = some(&NAMES, n, rng);
    let mut at = Vec::new();
    let mut numbers = Vec::new();
    p.put("Ages: ");
    for (i, key) in keys.iter().enumerate() {
        let number = rng.random_range(10..100u32).to_string();
        let k = p.put(key);
        p.put(" is ");
        let v = p.put(&number);
        p.put(if i + 1 < n { ", " } else { "." });
        at.push((k, v));
        numbers.push(number);
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(rng);
    let asked = rng.random_range(1..=3usize).min(n);
    for &i in &order[..asked] {
        p.put(" So ");
        let again = p.put(keys[i]);
        p.put(" is ");
        let (k, v) = at[i].clone();
        p.decided(&numbers[i], &[v, k, again]);
        p.put(".");
    }
}

fn needle(p: &mut Pen, sentences: usize, rng: &mut impl Rng) {
    let before = rng.random_range(0..=sentences.min(2));
    for _ in 0..before {
        filler(p, rng);
    }
    let place = pick(&PLACES, rng);
    if rng.random_bool(0.5) {
        let code = rng.random_range(10..100u32).to_string();
        p.put("Remember: \"The code of the ");
        let which = p.put(place);
        p.put(" is ");
        let value = p.put(&code);
        p.put(".\" ");
        for _ in before..sentences {
            filler(p, rng);
        }
        p.put("The code of the ");
        let again = p.decided(place, std::slice::from_ref(&which));
        p.put(" is ");
        p.decided(&code, &[value, which, again]);
    } else {
        let (word, name) = (pick(&THINGS, rng), pick(&NAMES, rng));
        p.put("Remember: \"The secret of ");
        let which = p.put(name);
        p.put(" is the ");
        let value = p.put(word);
        p.put(".\" ");
        for _ in before..sentences {
            filler(p, rng);
        }
        p.put("The secret of ");
        let again = p.decided(name, std::slice::from_ref(&which));
        p.put(" is the ");
        p.decided(word, &[value, which, again]);
    }
    p.put(".");
}

/// A sentence that decides nothing.
fn filler(p: &mut Pen, rng: &mut impl Rng) {
    let text = match rng.random_range(0..4) {
        0 => format!("The {} {} walks to the {}. ", pick(&MOODS, rng), pick(&ANIMALS, rng), pick(&PLACES, rng)),
        1 => format!("{} sees a {} {}. ", pick(&NAMES, rng), pick(&COLORS, rng), pick(&THINGS, rng)),
        2 => format!("It rains in the {}. ", pick(&PLACES, rng)),
        _ => format!("{} and {} are {}. ", pick(&NAMES, rng), pick(&NAMES, rng), pick(&MOODS, rng)),
    };
    p.put(&text);
}

fn reference(p: &mut Pen, rng: &mut impl Rng) {
    let animals = some(&ANIMALS, 2, rng);
    let (color, mood) = (pick(&COLORS, rng), pick(&MOODS, rng));
    p.put("The ");
    let c = p.put(color);
    p.put(" ");
    let a = p.put(animals[0]);
    p.put(" met a ");
    let m = p.put(mood);
    p.put(" ");
    let b = p.put(animals[1]);
    p.put(". \"Who are you?\" said the ");
    let asker = p.put(if rng.random_bool(0.5) { animals[0] } else { animals[1] });
    let asker_is_first = &p.text[asker.clone()] == animals[0];
    p.put(". \"I am the ");
    let (trait_at, who_at, adjective, who) =
        if asker_is_first { (m, b, mood, animals[1]) } else { (c, a, color, animals[0]) };
    let said = p.decided(adjective, &[trait_at, asker.clone()]);
    p.put(" ");
    p.decided(who, &[who_at.clone(), said, asker.clone()]);
    p.put(",\" said the ");
    p.decided(who, &[who_at, asker]);
    p.put(".");
}

fn brackets(p: &mut Pen, rng: &mut impl Rng) {
    const PAIRS: [(&str, &str); 3] = [("(", ")"), ("[", "]"), ("{", "}")];
    let n = rng.random_range(3..=6);
    let mut open: Vec<(Range<usize>, &str)> = Vec::new();
    let mut opened = 0;
    p.put("Close: ");
    while opened < n || !open.is_empty() {
        if opened < n && (open.is_empty() || open.len() < 4 && rng.random_bool(0.6)) {
            let (left, right) = PAIRS[rng.random_range(0..3)];
            let at = p.put(left);
            p.put(" ");
            open.push((at, right));
            opened += 1;
        } else if let Some((at, right)) = open.pop() {
            p.decided(right, &[at]);
            p.put(if opened < n || !open.is_empty() { " " } else { "." });
        }
    }
}

fn refrain(p: &mut Pen, rng: &mut impl Rng) {
    let name = pick(&NAMES, rng);
    let n = rng.random_range(3..=6);
    let pool: Vec<&str> = COLORS.iter().chain(&ANIMALS).chain(&MOODS).chain(&THINGS).copied().collect();
    let words = some(&pool, n, rng);
    p.put(&format!("{name} sings: "));
    let mut first = Vec::new();
    for w in &words {
        first.push(p.put(w));
        p.put(" ");
    }
    p.text.pop();
    p.put(&format!(". {name} sings again: "));
    let mut before = None;
    for (w, at) in words.iter().zip(first) {
        let mut deciders = vec![at];
        deciders.extend(before.take());
        before = Some(p.decided(w, &deciders));
        p.put(" ");
    }
    p.text.pop();
    p.put(".");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_tells_the_same_story() {
        for theme in Theme::ALL {
            assert_eq!(Story::of(theme, 3), Story::of(theme, 3));
            assert!((0..20).any(|s| Story::of(theme, s) != Story::of(theme, 3)), "{}", theme.name());
        }
        assert_eq!(Story::new(9), Story::new(9));
    }

    #[test]
    fn what_decides_comes_before_what_is_decided_and_both_are_words_of_the_text() {
        for seed in 0..400 {
            let s = Story::new(seed);
            assert!(!s.links.is_empty(), "{}", s.text);
            for l in &s.links {
                assert!(!l.deciders.is_empty() && !s.text[l.answer.clone()].is_empty());
                for d in &l.deciders {
                    assert!(d.end <= l.answer.start && !d.is_empty(), "{}: {l:?}", s.text);
                    assert!(s.text.is_char_boundary(d.start) && s.text.is_char_boundary(d.end));
                }
            }
        }
    }

    #[test]
    fn the_first_decider_holds_the_answer_where_it_is_copied() {
        for seed in 0..200 {
            for theme in [Theme::Places, Theme::Colors, Theme::KeyValue, Theme::Needle, Theme::List, Theme::Refrain] {
                let s = Story::of(theme, seed);
                for l in &s.links {
                    assert_eq!(s.text[l.answer.clone()], s.text[l.deciders[0].clone()], "{}", s.text);
                }
            }
        }
    }

    #[test]
    fn sums_are_right_and_brackets_close() {
        for seed in 0..200 {
            let s = Story::of(Theme::Arithmetic, seed);
            let l = s.links.iter().find(|l| l.deciders.len() == 3).unwrap();
            let part = |i: usize| s.text[l.deciders[i].clone()].trim();
            let (a, b): (i32, i32) = (part(0).parse().unwrap(), part(2).parse().unwrap());
            let want = if part(1) == "+" { a + b } else { a - b };
            assert_eq!(s.text[l.answer.clone()].parse::<i32>().unwrap(), want, "{}", s.text);

            let text = Story::of(Theme::Brackets, seed).text;
            let mut open = Vec::new();
            for c in text.chars() {
                match c {
                    '(' | '[' | '{' => open.push(c),
                    ')' => assert_eq!(open.pop(), Some('('), "{text}"),
                    ']' => assert_eq!(open.pop(), Some('['), "{text}"),
                    '}' => assert_eq!(open.pop(), Some('{'), "{text}"),
                    _ => {}
                }
            }
            assert!(open.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_needle_is_as_far_from_its_recall_as_asked() {
        for n in [0, 1, 5] {
            let s = Story::needle(n, 4);
            let periods = s.text.matches(". ").count() + s.text.matches(".\" ").count();
            assert_eq!(periods, n + 1, "{}", s.text);
        }
        assert_eq!(Story::key_value(5, 1).text.matches(',').count(), 4);
    }
}
