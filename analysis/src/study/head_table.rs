//! What kind of head each one is: how spread its attention is, how much of it the first token gets, how far it looks.
//!
//! Source: plain statistics of attention maps. Takes: queries and keys of every layer. Gives: three numbers per head.
//! Departs: none known. Cost: O(layers · heads · n² · width), memory O(n).

use super::Method;
use crate::ctx::Ctx;
use crate::finding::{Axis, Datum, Figure, Finding, Heat, Measure, Plot, Series, Style, Unit};
use crate::heads::{self, Glance};
use crate::method::{Info, Kind, Need, Param, Params};
use crate::passes::attention::Head;
use crate::{Result, Subject};

const SINK: Param = Param::share("sink", "A head counts as a sink where the first token gets this share", 0.5);

static INFO: Info = Info {
    id: "head_table",
    title: "Head table",
    summary: "Measures for every head how spread its attention is, what the first token gets of it, and how far it looks.",
    family: "attention",
    needs: &[Need::Attention],
    params: &[SINK],
    first: true,
    ..Info::of(Kind::Study)
};

pub(super) struct HeadTable;

impl Method for HeadTable {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let rules = &on.tower()?.attention;
        let counts: Vec<usize> = rules.iter().map(|r| r.n_heads).collect();
        let all = counts.iter().sum();
        let mut glances: Vec<Glance> = Vec::with_capacity(all);
        for (layer, &n) in counts.iter().enumerate() {
            for head in 0..n {
                ctx.step(glances.len(), all)?;
                let map = Head::of_trace(on.trace, on.tower, 0, layer, head)?;
                glances.push(heads::glance(&map, 1, &ctx.part(glances.len(), all))?);
            }
        }
        Ok(finding(&counts, &glances, params.share(&SINK) as f32))
    }
}

/// Title, measure, and how it is read.
type Column = (&'static str, Measure, fn(&Glance) -> f32);

/// Three pictures of the heads, and how the means change over the layers. `counts` are the heads of each layer.
fn finding(counts: &[usize], glances: &[Glance], sink: f32) -> Finding {
    // Layers with as many heads each are a grid; others are listed by name.
    let unit = match counts.first() {
        Some(&n) if counts.iter().all(|c| *c == n) && n > 0 => Unit::Heads { per_layer: n },
        _ => Unit::named(
            counts.iter().enumerate().flat_map(|(l, n)| (0..*n).map(move |h| format!("layer {l}, head {h}"))),
        ),
    };
    let measures: [Column; 3] = [
        ("entropy of the rows", Measure::new("entropy", "share of its largest"), |g| g.entropy),
        ("attention on the first token", Measure::new("attention", "share of the first token"), |g| g.sink),
        ("distance looked at", Measure::new("distance", "tokens"), |g| g.distance),
    ];
    let mut out = Finding::default();
    for (title, measure, of) in measures {
        let values = glances.iter().map(|g| Some(of(g))).collect();
        out = out.with(Heat::new(title, unit.clone(), measure, values));
    }
    let mut first = 0;
    let mut means = [Vec::new(), Vec::new()];
    for (layer, n) in counts.iter().enumerate() {
        let own = &glances[first..first + n];
        first += n;
        for (mean, of) in means.iter_mut().zip([measures[0].2, measures[1].2]) {
            let sum: f64 = own.iter().map(|g| f64::from(of(g))).sum();
            mean.push([layer as f64, sum / (*n).max(1) as f64]);
        }
    }
    let [entropy, sinks] = means;
    let series = vec![
        Series::new("entropy of the rows", Style::Line, entropy),
        Series::new("attention on the first token", Style::Line, sinks),
    ];
    let n = glances.iter().filter(|g| g.sink >= sink).count();
    out.with(Plot::new("means by layer", Axis::Unit(Unit::Layers), Measure::new("mean over heads", "share"), series))
        .figure(Figure::new("heads", Datum::Count(glances.len()), "heads of all layers"))
        .figure(Figure::new(
            "sinks",
            Datum::Count(n),
            format!("heads whose first token gets at least {sink} of the attention"),
        ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::finding::Picture;
    use crate::passes::value_counts;

    fn glance(entropy: f32, sink: f32) -> Glance {
        let cells = Array::zeros([1, 1]);
        Glance { counts: value_counts::cpu(&cells).unwrap(), cells, entropy, sink, distance: 2.0 }
    }

    #[test]
    fn heads_are_counted_and_averaged_by_layer() {
        let glances = [glance(0.5, 0.75), glance(1.0, 0.25), glance(0.0, 0.5)];
        let f = finding(&[2, 1], &glances, 0.5);
        f.check().unwrap();
        assert_eq!(f.figures[1].words(), "2");
        let Picture::Plot(p) = &f.pictures[3] else { panic!() };
        assert_eq!(p.series[0].points, [[0.0, 0.75], [1.0, 0.0]]);
        assert_eq!(p.series[1].points, [[0.0, 0.5], [1.0, 0.5]]);
        let Picture::Heat(h) = &f.pictures[0] else { panic!() };
        assert_eq!(h.unit.label(2), "layer 1, head 0");
        // As many heads in every layer are a grid.
        let f = finding(&[1, 1, 1], &glances, 0.5);
        let Picture::Heat(h) = &f.pictures[1] else { panic!() };
        assert_eq!((&h.unit, h.values[0]), (&Unit::Heads { per_layer: 1 }, Some(0.75)));
    }
}
