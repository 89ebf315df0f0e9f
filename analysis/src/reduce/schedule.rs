//! Schedules: how many of a picture's tokens there are from where on, as a text that can be written by hand.
//!
//! A schedule is entries with white space or commas between them, in any order:
//!
//! - `2:288` – entering layer 2 of the language model, 288 of the picture's tokens go on; `2:50%` half of all there are.
//! - `2~288` – the same, but those that do not go on are merged into the most similar ones that do.
//! - `inject@8` – entering layer 8, what waits comes in; `inject@8:100` until there are 100.
//! - `exit@20` – entering layer 20, all of them leave; the same as `20:0`.
//! - `e3:100`, `e3~100` – the same in the image encoder; `f:144`, `f~144` between encoder and language model.
//!
//! Layers count from 0, and layer 0 is the first; the number of the last plus one is behind all layers. In a plain image
//! encoder numbers are its own layers. Tokens that leave by `:` inside a stack of layers wait where a later entry of it
//! lets more of them in, as `inject@` does and any larger number, and are gone where none does.

use super::place::{Half, Place};
use super::plan::Plan;
use super::step::Step;
use crate::token::TokenKind;
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where an entry of a schedule stands, ordered as a pass meets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entering {
    /// This layer of the image encoder.
    Encoder(usize),
    /// The language model, as the encoder's features.
    Features,
    /// This layer of the language model, or of the stack that is looked at.
    Layer(usize),
}

/// What happens to the tokens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// The others leave.
    Keep,
    /// The others are merged into those.
    Merge,
    /// What waits comes in.
    Inject,
}

/// How many tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// So many.
    Count(usize),
    /// This share of all there are, 0..=1.
    Share(f64),
}

impl Amount {
    /// Of `n` tokens.
    pub fn of(self, n: usize) -> usize {
        match self {
            Self::Count(k) => k.min(n),
            Self::Share(s) => ((s * n as f64).round_ties_even() as usize).min(n),
        }
    }
}

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// Where.
    pub at: Entering,
    /// What happens.
    pub how: How,
    /// How many tokens there are then.
    pub amount: Amount,
}

/// A schedule, in the order of a pass.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Schedule {
    entries: Vec<Entry>,
}

/// The stacks that a schedule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Layers of the image encoder in front of the language model, and its patches; `None` where there is none, or it
    /// reads tiles one by one.
    pub encoder: Option<(usize, usize)>,
    /// Layers of the stack that numbers count, and its tokens of a picture.
    pub layers: (usize, usize),
    /// Whether it is a language model, which has a place in front of it and may be left without any of them.
    pub writes: bool,
}

/// How many tokens an entry finds and leaves, as far as that is known before a pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// The entry, with what it amounts to: a number that rises is an injection.
    pub entry: Entry,
    /// Tokens before it.
    pub before: usize,
    /// Tokens behind it.
    pub left: usize,
    /// Whether those that leave wait.
    pub waits: bool,
}

/// The most entries.
const MAX: usize = 1024;

impl Room {
    /// The stacks of a run that a schedule can be about.
    ///
    /// Errors: the run has no tokens of a picture.
    pub fn of(on: &Subject) -> Result<Self> {
        let count = |tower: Tower| {
            let t = on.trace.towers.get(&tower)?;
            let n = t.tokens.iter().filter(|t| t.kind == TokenKind::Image).count();
            Some((t.n_layers, n, t.n_tiles))
        };
        let (layers, n, _) = count(on.tower).filter(|c| c.1 > 0).ok_or_else(|| {
            Error::invalid("a schedule is about the tokens of an image, which this run does not have in this stack")
        })?;
        let text = on.tower == Tower::Text;
        let encoder = count(Tower::Vision).filter(|c| text && c.2 <= 1 && c.1 > 0).map(|(l, n, _)| (l, n));
        Ok(Self { encoder, layers: (layers, n), writes: text })
    }
}

impl Schedule {
    /// Key of the parameter that holds one as a text.
    pub const KEY: &str = "schedule";

    /// A schedule of entries, each at a place of its own.
    ///
    /// Errors: two at one place, too many.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self> {
        if entries.len() > MAX {
            return Err(Error::invalid(format!("a schedule has at most {MAX} entries")));
        }
        entries.sort_by_key(|e| e.at);
        match entries.windows(2).find(|w| w[0].at == w[1].at) {
            Some(w) => Err(Error::invalid(format!("the schedule has two entries {}", w[0].at.words()))),
            None => Ok(Self { entries }),
        }
    }

    /// Reads the text of a schedule. Errors say which entry is wrong, and how entries are written.
    pub fn parse(text: &str) -> Result<Self> {
        let parts = text.split(|c: char| c.is_whitespace() || c == ',' || c == ';').filter(|p| !p.is_empty());
        Self::new(parts.take(MAX + 1).map(entry).collect::<Result<_>>()?)
    }

    /// The entries, in the order of a pass.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at a place.
    pub fn at(&self, at: Entering) -> Option<&Entry> {
        self.entries.iter().find(|e| e.at == at)
    }

    /// The same with this entry in place of what stands there; with `None` without one.
    pub fn with(&self, at: Entering, entry: Option<Entry>) -> Result<Self> {
        let others = self.entries.iter().filter(|e| e.at != at).copied();
        Self::new(others.chain(entry).collect())
    }

    /// What each entry finds and leaves in these stacks.
    ///
    /// Errors: no such layer or place; more tokens than there are where none wait; nothing left where something has to
    /// be; waiting where nothing can wait.
    pub fn known(&self, room: &Room) -> Result<Vec<Known>> {
        let mut out: Vec<Known> = Vec::new();
        let (mut patches, mut now) = (room.encoder.map_or(0, |e| e.1), room.layers.1);
        // As many features as patches are the same tokens: what the encoder leaves is what the language model is given.
        let same = room.encoder.is_some_and(|e| e.1 == now);
        // In the encoder, and in the stack that numbers count.
        let mut waiting = [0usize; 2];
        for (i, &e) in self.entries.iter().enumerate() {
            let refuse = |why: String| Error::invalid(format!("entry {e} of the schedule: {why}"));
            let (all, here) = match e.at {
                Entering::Encoder(l) => {
                    let (n, all) = room.encoder.ok_or_else(|| {
                        refuse("there is no image encoder before this stack whose rows can change".into())
                    })?;
                    if l > n {
                        return Err(refuse(format!("the image encoder has {n} layers, counted from 0")));
                    }
                    (all, &mut patches)
                }
                Entering::Features if !room.writes => {
                    return Err(refuse("there is no language model behind the encoder".into()));
                }
                Entering::Layer(l) if l > room.layers.0 => {
                    return Err(refuse(format!("there are {} layers, counted from 0", room.layers.0)));
                }
                _ => (room.layers.1, &mut now),
            };
            let inside = e.at != Entering::Features;
            let waiting = &mut waiting[usize::from(!matches!(e.at, Entering::Encoder(_)))];
            let (before, mut entry) = (*here, e);
            let mut left = e.amount.of(all);
            if let Amount::Count(k) = e.amount
                && k > all
            {
                return Err(refuse(format!("there are {all} tokens of the picture")));
            }
            // A number that rises lets in what waits.
            if left > before && e.how == How::Keep && *waiting > 0 && inside {
                entry.how = How::Inject;
            }
            if entry.how == How::Inject {
                if !inside {
                    return Err(refuse("tokens come in inside a stack of layers, not between two".into()));
                }
                if *waiting == 0 {
                    return Err(refuse("no tokens wait; let some leave in a layer before it, as 0:0 does".into()));
                }
                if left < before {
                    return Err(refuse(format!("{before} tokens are there already")));
                }
                left = left.min(before + *waiting);
                *waiting -= left - before;
            } else if left > before && matches!(e.amount, Amount::Count(_)) {
                return Err(refuse(format!("only {before} tokens are there, and none wait")));
            }
            let left = if entry.how == How::Inject { left } else { left.min(before) };
            let may_be_none = matches!(e.at, Entering::Layer(_)) && room.writes && entry.how != How::Merge;
            if left == 0 && !may_be_none {
                return Err(refuse("at least one token has to be left there".into()));
            }
            let waits = inside && entry.how == How::Keep && left < before && self.lets_in(i, left, all);
            if waits {
                *waiting += before - left;
            }
            *here = left;
            out.push(Known { entry, before, left, waits });
            if matches!(e.at, Entering::Encoder(_)) && same {
                now = patches;
            }
        }
        Ok(out)
    }

    /// Whether an entry behind the `i`-th lets in more than the `left` tokens, or fewer that are then there.
    fn lets_in(&self, i: usize, left: usize, all: usize) -> bool {
        let mut now = left;
        let stack = |e: &Entry| std::mem::discriminant(&e.at);
        let own = stack(&self.entries[i]);
        for e in self.entries[i + 1..].iter().filter(|e| stack(e) == own) {
            let n = e.amount.of(all);
            if e.how == How::Inject || (e.how == How::Keep && n > now) {
                return true;
            }
            now = now.min(n);
        }
        false
    }

    /// The schedule by which a plan went about a run's tokens of a picture, as a text to begin with: how many there are
    /// entering each layer. What happens in the middle of a layer is said of the next one.
    pub fn of(plan: &Plan, on: &Subject) -> Result<Self> {
        let room = Room::of(on)?;
        let mut entries: BTreeMap<Entering, Entry> = BTreeMap::new();
        let towers = [(Tower::Vision, room.encoder.is_some()), (on.tower, true)];
        for (tower, _) in towers.into_iter().filter(|t| t.1) {
            let t = on.trace.tower(tower)?;
            let image: Vec<usize> = (0..t.tokens.len()).filter(|&i| t.tokens[i].kind == TokenKind::Image).collect();
            let mut before = image.len();
            // Features that are fewer since the encoder left fewer are no entry of their own.
            let encoded = !entries.is_empty();
            for (step, fates) in plan.of(tower).zip(plan.fates(tower)) {
                let Some(at) = entering(step.place, on.tower) else { continue };
                let mut merged = BTreeSet::new();
                let left = image
                    .iter()
                    .filter(|&&i| match fates[i] {
                        super::Fate::Kept => true,
                        super::Fate::Merged(row) => merged.insert(row),
                        _ => false,
                    })
                    .count();
                let how = match () {
                    () if left > before => How::Inject,
                    () if merges(step) => How::Merge,
                    () => How::Keep,
                };
                let follows = at == Entering::Features
                    && encoded
                    && entries.last_key_value().is_some_and(|e| e.1.amount == Amount::Count(left));
                if left != before && !follows {
                    entries.insert(at, Entry { at, how, amount: Amount::Count(left) });
                }
                before = left;
            }
        }
        Self::new(entries.into_values().collect())
    }

    /// How many tokens enter each place, as a share of all that the stack has of the picture: the corners of a plot of
    /// steps, for places of the encoder, then between both, then of the language model.
    pub fn profile(&self, room: &Room) -> Result<Vec<(Entering, usize, usize)>> {
        let known = self.known(room)?;
        let places = Entering::all(room);
        let (mut patches, mut now) = (room.encoder.map_or(0, |e| e.1), room.layers.1);
        let same = room.encoder.is_some_and(|e| e.1 == room.layers.1);
        let step = |at: Entering| {
            let found = known.iter().find(|k| k.entry.at == at);
            match at {
                Entering::Encoder(_) => {
                    patches = found.map_or(patches, |k| k.left);
                    if same {
                        now = patches;
                    }
                    (at, patches, room.encoder.map_or(0, |e| e.1))
                }
                _ => {
                    now = found.map_or(now, |k| k.left);
                    (at, now, room.layers.1)
                }
            }
        };
        Ok(places.into_iter().map(step).collect())
    }
}

/// Whether a step makes rows of several tokens out of rows that were apart.
fn merges(step: &Step) -> bool {
    step.rows.iter().any(|r| r.len() > 1)
}

fn entering(place: Place, shown: Tower) -> Option<Entering> {
    let next = |l: usize, half: Half| if half == Half::Before { l } else { l + 1 };
    match place {
        Place::Encoder(l, half) if shown == Tower::Vision => Some(Entering::Layer(next(l, half))),
        Place::Encoder(l, half) => Some(Entering::Encoder(next(l, half))),
        Place::Features => Some(Entering::Features),
        Place::Decoder(l, half) => Some(Entering::Layer(next(l, half))),
        Place::Step => None,
    }
}

impl Entering {
    /// Every place of these stacks, in the order of a pass.
    pub fn all(room: &Room) -> Vec<Self> {
        let encoder = room.encoder.map_or(0..0, |e| 0..e.0 + 1).map(Self::Encoder);
        let features = room.writes.then_some(Self::Features);
        encoder.chain(features).chain((0..=room.layers.0).map(Self::Layer)).collect()
    }

    /// Where rows change for it, in the stack `shown` that numbers count.
    pub fn place(self, shown: Tower) -> Place {
        let (tower, layer) = match self {
            Self::Features => return Place::Features,
            Self::Encoder(l) => (Tower::Vision, l),
            Self::Layer(l) => (shown, l),
        };
        match layer.checked_sub(1) {
            Some(l) => Place::inside(tower, l, Half::After),
            None => Place::inside(tower, 0, Half::Before),
        }
    }

    /// In words: "entering layer 3".
    pub fn words(self) -> String {
        match self {
            Self::Encoder(l) => format!("entering encoder layer {l}"),
            Self::Features => "between encoder and language model".into(),
            Self::Layer(l) => format!("entering layer {l}"),
        }
    }
}

impl fmt::Display for Entering {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Encoder(l) => write!(f, "e{l}"),
            Self::Features => f.write_str("f"),
            Self::Layer(l) => write!(f, "{l}"),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Count(k) => write!(f, "{k}"),
            Self::Share(s) => write!(f, "{}%", (s * 1e6).round() / 1e4),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { at, how, amount } = self;
        match (how, amount) {
            (How::Keep, Amount::Count(0)) => write!(f, "exit@{at}"),
            (How::Keep, _) => write!(f, "{at}:{amount}"),
            (How::Merge, _) => write!(f, "{at}~{amount}"),
            (How::Inject, Amount::Share(1.0)) => write!(f, "inject@{at}"),
            (How::Inject, _) => write!(f, "inject@{at}:{amount}"),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let all: Vec<String> = self.entries.iter().map(Entry::to_string).collect();
        f.write_str(&all.join(" "))
    }
}

/// Reads one entry.
fn entry(text: &str) -> Result<Entry> {
    let refuse = |why: &str| {
        let how = "write entries as 2:288, 2:50%, 2~288, inject@8, exit@20, e3~100 or f:144";
        Error::invalid(format!("{text:?} is no entry of a schedule: {why}; {how}"))
    };
    let lower = text.to_lowercase();
    let at = |name: &str| {
        let (kind, digits): (fn(usize) -> Entering, &str) = match name.strip_prefix('e') {
            _ if name == "f" => return Ok(Entering::Features),
            Some(digits) => (Entering::Encoder, digits),
            None => (Entering::Layer, name),
        };
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let layer = digits.parse::<usize>().ok().filter(|l| plain && *l < 1 << 20);
        layer.map(kind).ok_or_else(|| refuse("its place is no layer"))
    };
    let amount = |text: &str| {
        if let Some(percent) = text.strip_suffix('%') {
            let share = percent.parse::<f64>().ok().map(|p| p / 100.0).filter(|s| (0.0..=1.0).contains(s));
            return share.map(Amount::Share).ok_or_else(|| refuse("it has no share from 0% to 100%"));
        }
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let count = text.parse::<usize>().ok().filter(|_| plain);
        count.map(Amount::Count).ok_or_else(|| refuse("it has no number of tokens"))
    };
    if let Some(rest) = lower.strip_prefix("exit@") {
        return Ok(Entry { at: at(rest)?, how: How::Keep, amount: Amount::Count(0) });
    }
    if let Some(rest) = lower.strip_prefix("inject@") {
        let (place, n) = rest.split_once(':').map_or((rest, Ok(Amount::Share(1.0))), |(p, n)| (p, amount(n)));
        return Ok(Entry { at: at(place)?, how: How::Inject, amount: n? });
    }
    let (place, how, n) = match (lower.split_once(':'), lower.split_once('~')) {
        (Some((place, n)), None) => (place, How::Keep, n),
        (None, Some((place, n))) => (place, How::Merge, n),
        _ => return Err(refuse("it has neither : nor ~ between place and number")),
    };
    Ok(Entry { at: at(place)?, how, amount: amount(n)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An encoder of 12 layers and 144 patches, and a language model of 6 layers.
    const ROOM: Room = Room { encoder: Some((12, 144)), layers: (6, 144), writes: true };

    #[test]
    fn a_schedule_is_written_as_it_is_read_in_the_order_of_a_pass() {
        let text = "e3~100 f:90 0:0 inject@2:45 inject@3 4:25% 5~7 exit@6";
        let s = Schedule::parse("exit@6, 5~7\n4:25% inject@3 inject@2:45 0:0 F:90;E3~100").unwrap();
        assert_eq!(s.to_string(), text.replace("0:0", "exit@0"));
        assert_eq!(Schedule::parse(&s.to_string()).unwrap(), s);
        assert_eq!(Schedule::parse(" ").unwrap(), Schedule::default());
        for (bad, why) in [
            ("2", "neither : nor ~"),
            ("2:", "number of tokens"),
            ("2:-1", "number of tokens"),
            ("2:120%", "0% to 100%"),
            ("x:3", "no layer"),
            ("e:3", "no layer"),
            ("exit@", "no layer"),
            ("2:3~4", "neither : nor ~"),
            ("2:3 2~5", "two entries entering layer 2"),
            ("99999999999999999999:3", "no layer"),
        ] {
            let error = Schedule::parse(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn what_each_entry_finds_and_leaves_is_known_before_a_pass() {
        let known = |text: &str| Schedule::parse(text).unwrap().known(&ROOM);
        let sums = |text: &str| known(text).unwrap().iter().map(|k| (k.before, k.left, k.waits)).collect::<Vec<_>>();
        assert_eq!(sums("2:72 4:36"), [(144, 72, false), (72, 36, false)]);
        // What a later entry lets in waits; the same is said by a number that rises.
        let late = [(144, 0, true), (0, 144, false), (144, 50, false)];
        assert_eq!(sums("0:0 inject@2 4:50"), late);
        assert_eq!(sums("0:0 2:144 4:50"), late);
        // In the encoder, too, where those that wait are other ones than in the language model.
        assert_eq!(sums("e1:36 inject@e3 2:10"), [(144, 36, true), (36, 144, false), (144, 10, false)]);
        assert_eq!(sums("1:40 3:60 4:100%"), [(144, 40, true), (40, 60, false), (60, 144, false)]);
        // The encoder's tokens are the language model's.
        assert_eq!(sums("e3~100 f:50% 2:10"), [(144, 100, false), (100, 72, false), (72, 10, false)]);
        // No more come in than wait.
        assert_eq!(sums("e1:50 0:20 2:60"), [(144, 50, false), (50, 20, true), (20, 50, false)]);
        for (bad, why) in [
            ("7:1", "there are 6 layers"),
            ("e13:1", "has 12 layers"),
            ("2:200", "there are 144 tokens"),
            ("2:50 3:6~0", "neither"),
            ("2~50 3:60", "only 50 tokens are there"),
            ("inject@2", "no tokens wait"),
            ("2:50 inject@3:20", "50 tokens are there already"),
            ("f:0", "at least one"),
            ("e2:0", "at least one"),
            ("3~0", "at least one"),
            ("f:10 2:5 inject@f", "two entries"),
            ("inject@f", "not between two"),
        ] {
            let error = Schedule::parse(bad).and_then(|s| s.known(&ROOM)).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
        let plain = Room { encoder: None, writes: false, ..ROOM };
        let of = |text: &str| Schedule::parse(text).unwrap().known(&plain);
        assert!(of("2:20 3~10").is_ok());
        assert_eq!(of("2:5 inject@3").unwrap()[1].left, 144);
        for (bad, why) in
            [("f:2", "no language model"), ("e1:2", "no image encoder"), ("exit@2 inject@3", "at least one")]
        {
            let error = of(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn a_profile_has_every_place_and_holds_between_entries() {
        let s = Schedule::parse("e2~100 2:10").unwrap();
        let profile = s.profile(&ROOM).unwrap();
        assert_eq!(profile.len(), 13 + 1 + 7);
        let at = |at: Entering| profile.iter().find(|p| p.0 == at).unwrap().1;
        assert_eq!([0, 1, 2, 12].map(|l| at(Entering::Encoder(l))), [144, 144, 100, 100]);
        assert_eq!(at(Entering::Features), 100);
        assert_eq!([0, 1, 2, 6].map(|l| at(Entering::Layer(l))), [100, 100, 10, 10]);
        let moved = s.with(Entering::Layer(2), None).unwrap();
        assert_eq!(moved.to_string(), "e2~100");
    }
}
