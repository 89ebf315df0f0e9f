//! Everything that was found on one run minus what was found on another.

use super::{Classes, Datum, Figure, Finding, Fold, Pairings, Picture, Table};
use serde_json::{Value, json};

impl Finding {
    /// Picture by picture the difference of two findings, those of one shape and title first, then those of one shape in
    /// their order; the figures of both side by side; and in notes what has no difference, and why.
    pub fn minus(&self, other: &Self, pairings: &Pairings, fold: Fold) -> Self {
        let mut out = Self::default();
        let mut left: Vec<&Picture> = other.pictures.iter().collect();
        let mut paired: Vec<(&Picture, Option<&Picture>)> = Vec::new();
        for titles in [true, false] {
            for own in &self.pictures {
                if paired.iter().any(|(p, _)| std::ptr::eq(*p, own)) {
                    continue;
                }
                let fits = |p: &&Picture| p.name() == own.name() && (!titles || p.title() == own.title());
                match left.iter().position(fits) {
                    Some(i) => paired.push((own, Some(left.remove(i)))),
                    None if !titles => paired.push((own, None)),
                    None => {}
                }
            }
        }
        let place = |p: &Picture| self.pictures.iter().position(|q| std::ptr::eq(p, q));
        paired.sort_by_key(|(p, _)| place(p));
        for (own, theirs) in paired {
            let name = || if own.title().is_empty() { own.name().to_string() } else { own.title().to_string() };
            match theirs.map(|t| (own.minus_of(t, pairings, fold), t)) {
                Some((Ok(picture), t)) => {
                    if let (Picture::Fates(_), Picture::Fates(_), Picture::Classes(both)) = (own, t, &picture) {
                        out.figures.extend(overlap(both));
                    }
                    out.pictures.push(picture);
                }
                Some((Err(why), _)) => out.notes.push(format!("{}: {why}", name())),
                None => out.notes.push(format!("{}: found on the first side only", name())),
            }
        }
        for p in left {
            let name = if p.title().is_empty() { p.name() } else { p.title() };
            out.notes.push(format!("{name}: found on the second side only"));
        }
        out.pictures.extend(figures(&self.figures, &other.figures).map(Picture::Table));
        out
    }

    /// Whether one of its pictures counts tokens of a run, so that they have to be paired with those of another.
    pub fn counts_tokens(&self) -> bool {
        self.pictures.iter().any(|p| p.tower().is_some())
    }
}

/// How far two selections agree: what both leave as a share of what one of them leaves.
fn overlap(both: &Classes) -> Option<Figure> {
    let n = both.counts(None);
    let any: usize = n.iter().take(3).sum();
    let share = *n.first()? as f64 / any as f64;
    let meaning = "tokens that both leave, as a share of those that at least one leaves (intersection over union)";
    (any > 0).then(|| Figure::new("overlap", Datum::Share(share), meaning))
}

/// Figures of both sides by name, with the difference of numbers.
fn figures(first: &[Figure], second: &[Figure]) -> Option<Table> {
    let number = |f: &Figure| match f.value {
        Datum::Number(v) | Datum::Share(v) => Some(v),
        Datum::Count(n) => Some(n as f64),
        Datum::Flag(_) | Datum::Text(_) => None,
    };
    let mut table = Table::new(&["figure", "first", "second", "difference", "unit"]).titled("figures");
    for a in first {
        let b = second.iter().find(|b| b.name == a.name && b.unit == a.unit);
        let minus = b.and_then(|b| Some(number(a)? - number(b)?));
        let theirs = b.map_or(Value::Null, Figure::json);
        table.rows.push(vec![json!(a.name), a.json(), theirs, json!(minus), json!(a.unit)]);
    }
    for b in second.iter().filter(|b| !first.iter().any(|a| a.name == b.name && a.unit == b.unit)) {
        table.rows.push(vec![json!(b.name), Value::Null, b.json(), Value::Null, json!(b.unit)]);
    }
    (!table.rows.is_empty()).then_some(table)
}

#[cfg(test)]
mod tests {
    use super::super::{Fate, FateStage, Fates, Heat, Measure, Unit};
    use super::*;

    #[test]
    fn pictures_of_one_title_meet_first_and_what_has_no_partner_is_named() {
        let heat = |title: &str, v: f32| Heat::new(title, Unit::Layers, Measure::new("x", ""), vec![Some(v)]);
        let a = Finding::of(heat("one", 1.0)).with(heat("two", 2.0)).with(Table::new(&["t"]).titled("rows"));
        let b = Finding::of(heat("two", 0.5)).with(heat("other", 4.0));
        let d = a.minus(&b, &Pairings::default(), Fold::Sum);
        let titles: Vec<&str> = d.pictures.iter().map(Picture::title).collect();
        assert_eq!(titles, ["one minus other", "two, difference"]);
        let Picture::Heat(two) = &d.pictures[1] else { panic!() };
        assert_eq!(two.values, [Some(1.5)]);
        assert_eq!(d.notes, ["rows: found on the first side only"]);
        let back = b.minus(&Finding::default(), &Pairings::default(), Fold::Sum);
        assert_eq!(back.notes.len(), 2);
    }

    #[test]
    fn figures_stand_side_by_side_and_selections_say_how_far_they_agree() {
        let count = |n| Figure::new("kept", Datum::Count(n), "");
        let fates = |f: [Fate; 4]| {
            let stages = vec![FateStage::new("s", None, f.to_vec())];
            Finding::of(Fates { title: "f".into(), unit: Unit::Positions, measure: None, stages })
        };
        use Fate::{Dropped, Kept};
        let a =
            fates([Kept, Kept, Dropped, Dropped]).figure(count(2)).figure(Figure::new("own", Datum::Flag(true), ""));
        let b = fates([Kept, Dropped, Kept, Dropped]).figure(count(3));
        let d = a.minus(&b, &Pairings::default(), Fold::Sum);
        assert_eq!(d.figures[0].value, Datum::Share(1.0 / 3.0));
        let Picture::Table(t) = &d.pictures[1] else { panic!() };
        assert_eq!(t.rows[0], [json!("kept"), json!(2), json!(3), json!(-1.0), json!("")]);
        assert_eq!(t.rows[1], [json!("own"), json!(true), Value::Null, Value::Null, json!("")]);
    }

    #[test]
    fn units_that_differ_are_named() {
        let heat = |unit| Heat::new("h", Unit::Layers, Measure::new("x", unit), vec![Some(1.0)]);
        let d = Finding::of(heat("nats")).minus(&Finding::of(heat("bits")), &Pairings::default(), Fold::Sum);
        assert_eq!(d.notes, ["h: one is in nats and the other in bits"]);
    }
}
