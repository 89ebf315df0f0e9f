//! Schedules that are drawn by hand are carried out to the token, over encoder, features and layers in one plan, and can
//! begin with that of any method.

use super::reductions::{Case, case, sample};
use std::collections::{BTreeMap, BTreeSet};
use tokenscope_analysis::method::{Params, Setting};
use tokenscope_analysis::reduce::{Fate, Plan, Schedule, all};
use tokenscope_analysis::trace::{Site, Tower};

fn drawn(c: &Case, tower: Tower, text: &str, order: &str) -> tokenscope_analysis::Result<Plan> {
    let params = Params::new().set(Schedule::KEY, Setting::Text(text.into()));
    c.plan("drawn_schedule", tower, &params.set("order", if order.is_empty() { "norm" } else { word(order) }))
}

fn word(order: &str) -> &'static str {
    ["attention", "spread", "norm", "uniform", "random"].into_iter().find(|o| *o == order).unwrap()
}

/// Rows of the residual stream that enters a layer, by the tokens behind each.
fn entering(c: &Case, plan: &Plan, tower: Tower, layer: usize) -> BTreeMap<Vec<usize>, Vec<f32>> {
    let run = c.reduced(plan);
    let pre = run.get(tower, layer, Site::ResidPre).unwrap();
    let sorted = |t: &Vec<usize>| {
        let mut t = t.clone();
        t.sort_unstable();
        t
    };
    pre.rows.tokens.iter().enumerate().map(|(i, t)| (sorted(t), pre.array.row(i).to_vec())).collect()
}

#[test]
fn a_merge_in_the_encoder_a_cut_of_features_and_one_in_a_layer_are_one_plan_exact_to_the_token() {
    let c = sample();
    let (text, first) = {
        let t = c.trace.tower(Tower::Text).unwrap();
        (t.tokens.len() - 144, t.grids[0].first)
    };
    for order in ["attention", "spread", "norm", "uniform", "random"] {
        let merged = drawn(&c, Tower::Text, "e2~100", order).unwrap();
        let both = drawn(&c, Tower::Text, "e2~100 f:72", order).unwrap();
        let plan = drawn(&c, Tower::Text, "e2~100 f:72 2:10", order).unwrap();
        let rows = |p: &Plan, t| p.rows_by_layer(t, 4).iter().map(|r| r.0).collect::<Vec<_>>();
        // The encoder has a class token.
        assert_eq!(rows(&plan, Tower::Vision), [145, 145, 101, 101], "{order}");
        assert_eq!(rows(&plan, Tower::Text), [72, 72, 10, 10].map(|n| n + text), "{order}");
        // What the language model is given are the merged rows, those patches and those values.
        let (all, cut) = (entering(&c, &merged, Tower::Text, 0), entering(&c, &both, Tower::Text, 0));
        assert_eq!((all.len(), cut.len()), (100 + text, 72 + text), "{order}");
        for (tokens, values) in &cut {
            let same = all.get(tokens).unwrap_or_else(|| panic!("{order}: a row of {tokens:?} comes from nowhere"));
            let off = same.iter().zip(values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-5, "{order}: {tokens:?} is off by {off}");
        }
        // A row of the encoder and the row of the language model that is made of it stand for the same patches.
        let patches = |t: &[usize], first: usize| t.iter().map(|t| t - first).collect::<BTreeSet<_>>();
        let vision: BTreeSet<BTreeSet<usize>> =
            entering(&c, &merged, Tower::Vision, 3).keys().filter(|t| t[0] > 0).map(|t| patches(t, 1)).collect();
        let image = |t: &&Vec<usize>| (first..first + 144).contains(&t[0]);
        let given: BTreeSet<BTreeSet<usize>> = all.keys().filter(image).map(|t| patches(t, first)).collect();
        assert_eq!(vision, given, "{order}");
        // Each patch has one fate: a row of its own, part of one, or gone.
        let end = entering(&c, &plan, Tower::Text, 3);
        let left: Vec<usize> = end.keys().filter(image).flatten().copied().collect();
        assert_eq!(left.iter().collect::<BTreeSet<_>>().len(), left.len(), "{order}");
        let fates = plan.fates(Tower::Text).pop().unwrap();
        let there = (first..first + 144).filter(|&t| fates[t].is_there()).collect::<BTreeSet<_>>();
        assert_eq!(left.into_iter().collect::<BTreeSet<_>>(), there, "{order}");
        assert!(c.judged(&plan, Tower::Text).kl.unwrap().is_finite());
    }
}

#[test]
fn tokens_that_wait_come_in_and_what_no_entry_lets_in_is_gone() {
    let c = sample();
    let n = c.trace.tower(Tower::Text).unwrap().tokens.len();
    let rows = |text: &str| {
        let plan = drawn(&c, Tower::Text, text, "").unwrap();
        let rows: Vec<usize> = plan.rows_by_layer(Tower::Text, 4).iter().map(|r| r.0).collect();
        let judged = c.judged(&plan, Tower::Text);
        assert_eq!(judged.rows_by_layer, rows, "{text}");
        (rows, plan.fates(Tower::Text).pop().unwrap_or_default())
    };
    let (late, fates) = rows("exit@0 inject@2 3:20");
    assert_eq!(late, [n - 144, n - 144, n, n - 124]);
    assert_eq!(fates.iter().filter(|f| matches!(f, Fate::Dropped(_))).count(), 124);
    // A number that rises lets in the best of what waits; the rest goes on waiting.
    let (some, fates) = rows("1:0% 2:30 3:44");
    assert_eq!(some, [n, n - 144, n - 114, n - 100]);
    assert_eq!(fates.iter().filter(|f| matches!(f, Fate::Aside(_))).count(), 100);
    // Those that are let in first are those with the longest vectors as they left.
    let plan = drawn(&c, Tower::Text, "1:0% 2:30", "").unwrap();
    let left = &plan.steps[0];
    let mut by_norm: Vec<(usize, f32)> = left.scores.clone();
    by_norm.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let best: BTreeSet<usize> = by_norm[..30].iter().map(|s| s.0).collect();
    let fates = plan.fates(Tower::Text).pop().unwrap();
    let first = c.trace.tower(Tower::Text).unwrap().grids[0].first;
    let there: BTreeSet<usize> = (first..first + 144).filter(|&t| fates[t].is_there()).collect();
    assert_eq!(there, best);
    // Without a later entry they are gone at once.
    let (_, fates) = rows("1:20 2:10");
    assert!(!fates.iter().any(|f| matches!(f, Fate::Aside(_))));
}

#[test]
fn a_plain_encoder_counts_its_own_layers_and_schedules_that_cannot_be_say_why() {
    let vit = case("vit");
    let image = |t: &tokenscope_analysis::trace::TowerTrace| {
        t.tokens.iter().filter(|t| t.kind == tokenscope_analysis::token::TokenKind::Image).count()
    };
    let t = vit.trace.tower(Tower::Vision).unwrap();
    let (lead, n) = (t.tokens.len() - image(t), image(t));
    let plan = drawn(&vit, Tower::Vision, "1~50%", "").unwrap();
    assert_eq!(plan.rows_by_layer(Tower::Vision, 2)[1].0, lead + n / 2);
    assert!(plan.proportional);
    let why = |c: &Case, tower, text: &str| drawn(c, tower, text, "").unwrap_err().to_string();
    assert!(why(&vit, Tower::Vision, "f:3").contains("no language model"));
    assert!(why(&vit, Tower::Vision, "99:3").contains("there are"));
    assert!(why(&vit, Tower::Vision, "1:").contains("no number of tokens"));
    assert!(why(&case("smolvlm"), Tower::Text, "e1:3").contains("no image encoder"));
    let llava = case("llava");
    assert!(why(&llava, Tower::Text, "inject@1").contains("no tokens wait"));
    assert!(why(&llava, Tower::Text, "1:99999").contains("tokens of the picture"));
}

#[test]
fn the_schedule_of_any_method_is_carried_out_with_as_many_rows_in_each_layer() {
    let c = sample();
    let on = c.on(Tower::Text);
    let mut tried = 0;
    for method in all() {
        let id = method.info().id;
        let Ok(plan) = c.plan(id, Tower::Text, &Params::new()) else { continue };
        let schedule = Schedule::of(&plan, &on).unwrap();
        let Ok(again) = drawn(&c, Tower::Text, &schedule.to_string(), "") else {
            panic!("{id}: {schedule} is refused: {}", drawn(&c, Tower::Text, &schedule.to_string(), "").unwrap_err());
        };
        let rows = |p: &Plan| p.rows_by_layer(Tower::Text, 4).iter().map(|r| r.0).collect::<Vec<_>>();
        assert_eq!(rows(&again), rows(&plan), "{id}: {schedule}");
        tried += 1;
    }
    assert!(tried > 25, "only {tried} methods serve the sample");
}
