//! What two panes do not have in common, in words.

use crate::pane::Pane;
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::Kind;

/// What two panes do not have in common, each as what it is and how it stands on each side.
pub fn differs(a: &Pane, b: &Pane) -> Vec<[String; 3]> {
    let mut out: Vec<[String; 3]> = Vec::new();
    let mut held = |what: &str, a: String, b: String| {
        if a != b {
            out.push([what.into(), a, b]);
        }
    };
    held("model", a.run.model.title(), b.run.model.title());
    held("device", a.run.placement.chip.to_string(), b.run.placement.chip.to_string());
    let numbers = |p: &Pane| p.run.placement.numbers.name().to_string();
    held("numbers of the weights", numbers(a), numbers(b));
    if a.run.prompt != b.run.prompt {
        let [x, y] = around_change(&a.run.prompt, &b.run.prompt);
        held("prompt", x, y);
    }
    let picture = |p: &Pane| p.run.image.as_ref().map_or("none".into(), |i| i.title());
    held("picture", picture(a), picture(b));
    let series = |p: &Pane| p.series.as_ref().map_or("none".into(), |s| s.to_string());
    held("series", series(a), series(b));
    let stack = |p: &Pane| p.tower.map_or("main".into(), |t| format!("{t:?}").to_lowercase());
    held("stack of layers", stack(a), stack(b));
    let aim = |p: &Pane| match p.aim.tokens() {
        [] => "last".into(),
        all => all.iter().map(usize::to_string).collect::<Vec<_>>().join(" "),
    };
    held("selected tokens", aim(a), aim(b));
    let head = |p: &Pane| format!("layer {}, head {}", p.cursor.head.0, p.cursor.head.1);
    held("head", head(a), head(b));
    if a.reduced != b.reduced {
        held("what comes next", a.speaks(), b.speaks());
    }
    held("draft model", a.partner.title(), b.partner.title());
    // Panes are named in every frame, so what is the same is not put into words.
    for kind in Kind::ALL.into_iter().filter(|k| a.call(*k) != b.call(*k)) {
        let words = |p: &Pane| {
            let call = p.call(kind);
            let title = catalog::info(kind, call.method).map_or(call.method, |i| i.title);
            let params = call.params.to_json();
            let set: Vec<String> = params.iter().map(|(k, v)| format!("{k} {v}")).collect();
            if set.is_empty() { title.into() } else { format!("{title} ({})", set.join(", ")) }
        };
        held(kind.noun(), words(a), words(b));
    }
    out
}

/// Characters of a text that are shown.
const LONG: usize = 60;
/// Characters that are shown before those that differ.
const BEFORE: usize = 12;

/// Characters that are looked at for a difference: panes are named in every frame.
const SEARCHED: usize = 1 << 14;

/// Two texts from a little before the first character that differs.
fn around_change(a: &str, b: &str) -> [String; 2] {
    let same = a.chars().zip(b.chars()).take(SEARCHED).take_while(|(x, y)| x == y).count();
    let long = [a, b].iter().any(|t| t.chars().nth(LONG).is_some());
    let from = if long { same.saturating_sub(BEFORE) } else { 0 };
    [a, b].map(|text| {
        let mut rest = text.chars().skip(from);
        let words: String = rest.by_ref().take(LONG).collect();
        let (before, after) = (if from > 0 { "…" } else { "" }, if rest.next().is_some() { "…" } else { "" });
        format!("{before}{words}{after}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Call, ModelSource};
    use tokenscope_analysis::method::Params;

    fn pane(prompt: &str) -> Pane {
        let mut pane = Pane::default();
        pane.run.prompt = prompt.into();
        pane
    }

    #[test]
    fn what_differs_is_named_and_a_change_in_one_thing_is_one_line() {
        let a = pane("one");
        assert!(differs(&a, &a).is_empty());
        let mut other = a.clone();
        other.cursor.head = (2, 1);
        assert_eq!(differs(&a, &other), [["head", "layer 1, head 0", "layer 2, head 1"].map(String::from)]);
        let mut b = pane(&format!("{}b", "a".repeat(80)));
        let long = pane(&"a".repeat(80));
        let [_, x, y] = &differs(&long, &b)[0];
        assert_eq!((x.as_str(), y.as_str()), ("…aaaaaaaaaaaa", "…aaaaaaaaaaaab"));
        b.run.model = ModelSource::Sample("sample-draft");
        b.choose(Call { method: "divprune", params: Params::new() }).unwrap();
        let all: Vec<String> = differs(&long, &b).into_iter().map(|d| d[0].clone()).collect();
        assert_eq!(all[..2], ["model", "prompt"]);
        assert!(all.len() == 3 && all[2] == Kind::Reduce.noun());
    }
}
