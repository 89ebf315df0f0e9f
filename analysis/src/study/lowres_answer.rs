//! VisionThink's two readings, carried out: the question is answered on the picture at half its sides, and on the whole
//! picture only where the model is not sure of that answer.
//!
//! Source: Yang et al. 2025, "VisionThink: Smart and Efficient Vision Language Model via Reinforcement Learning",
//! arXiv 2507.13348. Takes: the picture, the model's processor and the prompt. Gives: the answers, how sure the model is of
//! each, and the image tokens that were paid. Departs: see [`Info::departs`]. Cost: one or two passes and their answers.

use super::Method;
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure, Finding, Table};
use crate::image::{Filter, Picture, resize};
use crate::math::log_softmax;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::run::{RunRequest, run};
use crate::token::TokenKind;
use crate::trace::{CaptureSpec, Tower, TowerTrace, Trace};
use crate::{Error, Result, Subject};
use serde_json::json;

const SURE: Param = Param::share(
    "sure",
    "Geometric mean of the probabilities of the answer's tokens below which the whole picture is asked for",
    0.9,
);
const TOKENS: Param = Param::count("new_tokens", "Tokens of an answer", 1, 64, 4);

static INFO: Info = Info {
    id: "lowres_answer",
    title: "Low resolution first, carried out",
    summary: "Answers on the picture at half its sides, and reads the whole only where the model is not sure.",
    family: "image tokens",
    basis: Basis::Text,
    role: Role::StandIn,
    paper: Some(Paper {
        title: "VisionThink: Smart and Efficient Vision Language Model via Reinforcement Learning",
        authors: "Yang et al.",
        year: 2025,
        arxiv: "2507.13348",
    }),
    departs: "there a trained model asks for the whole picture in words; here how sure it is of its answer stands in. Models \
              that read every picture at one size pay as much for the half, which is said",
    needs: &[Need::ReadsImage, Need::Writes, Need::Tokenizer],
    params: &[SURE, TOKENS],
    ..Info::of(Kind::Study)
};

pub(super) struct LowResAnswer;

/// One reading of the picture.
struct Pass {
    name: &'static str,
    size: [usize; 2],
    tokens: usize,
    answer: String,
    sure: f64,
}

impl Method for LowResAnswer {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let text = on.reader(&INFO)?;
        let (Some((picture, _)), Some(_), Some(_)) = (on.picture, on.model, on.tokenizer) else {
            return Err(INFO.needs("the picture itself, the model's weights and its tokenizer"));
        };
        if !picture.parts.is_empty() {
            return Err(Error::invalid("this is about one picture; give it one"));
        }
        let (limit, n) = (params.share(&SURE), params.count(&TOKENS) as usize);
        let [w, h] = [picture.width, picture.height].map(|s| (s / 2).max(1));
        let half = resize(picture, w, h, Filter::Bicubic, None)?;
        let low = pass("half the sides", &half, n, on, &ctx.part(0, 2))?;
        let asks = low.sure < limit;
        let whole = asks.then(|| pass("the whole", picture, n, on, &ctx.part(1, 2))).transpose()?;
        let high = whole.as_ref().map_or_else(|| image_tokens(text), |p| p.tokens);
        let paid = low.tokens + whole.as_ref().map_or(0, |p| p.tokens);
        let saved = if high == 0 { 0.0 } else { 1.0 - paid as f64 / high as f64 };
        let said = whole.as_ref().unwrap_or(&low).answer.trim().to_string();
        let same = low.tokens == high;
        let mut columns = Table::new(&["reading", "pixels", "image tokens", "answer", "sure"]).titled("readings");
        for p in std::iter::once(&low).chain(&whole) {
            let size = format!("{} × {}", p.size[0], p.size[1]);
            columns.rows.push(vec![json!(p.name), json!(size), json!(p.tokens), json!(p.answer), json!(p.sure)]);
        }
        let figures = vec![
            Figure::new("answer", Datum::Text(said), "Of the last reading"),
            Figure::new("asks for the whole", Datum::Flag(asks), "Whether the model was less sure than the limit"),
            Figure::new("sure at half", Datum::Share(low.sure), "Geometric mean of its answer's probabilities"),
            Figure::new("tokens paid", Datum::Count(paid), "Image tokens of all readings"),
            Figure::new("tokens of the whole", Datum::Count(high), "What one reading of the whole takes"),
            Figure::new("saved", Datum::Number(saved), "Share of those; below 0 where both were paid for"),
        ];
        let mut out = Finding { figures, ..Finding::default() }.with(columns);
        if same {
            out.notes
                .push("This model reads every picture with as many tokens, so that half the sides save none.".into());
        }
        Ok(out)
    }
}

fn image_tokens(t: &TowerTrace) -> usize {
    t.tokens.iter().filter(|t| t.kind == TokenKind::Image).count()
}

/// Runs the prompt with this picture and continues it.
fn pass(name: &'static str, picture: &Picture, n: usize, on: &Subject, ctx: &Ctx) -> Result<Pass> {
    let (Some((_, processor)), Some(model)) = (on.picture, on.model) else {
        return Err(INFO.needs("the picture itself and the model's weights"));
    };
    ctx.check()?;
    let mut request = RunRequest { prompt: Some(on.trace.text.clone()), greedy: n, ..RunRequest::default() };
    request.add_picture(processor, picture)?;
    let trace = run(model, on.tokenizer, &request, &CaptureSpec::sites(&[]), ctx)?;
    Ok(Pass {
        name,
        size: [picture.width, picture.height],
        tokens: image_tokens(trace.tower(Tower::Text)?),
        sure: sure(&trace)?,
        answer: trace.continuation_text,
    })
}

/// Geometric mean of the probabilities of the tokens that were written.
fn sure(trace: &Trace) -> Result<f64> {
    let logits = trace.extras.get("greedy_logits").ok_or_else(|| INFO.needs(Need::Logits.words()))?;
    let n = trace.continuation.len().max(1) as f64;
    let each = trace.continuation.iter().enumerate();
    let sum: f64 = each.map(|(i, id)| log_softmax(logits.row(i)).get(*id as usize).copied().unwrap_or(0.0)).sum();
    let sure = (sum / n).exp();
    if sure.is_finite() { Ok(sure) } else { Err(Error::invalid("the model's numbers are none")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;

    #[test]
    fn how_sure_an_answer_is_is_the_root_of_its_probabilities() {
        // Two of two tokens: 3/4 of (0, ln 3), then 1/2 of two that are equal.
        let logits = Array::new([2, 2], vec![0.0, 3f32.ln(), 1.0, 1.0]).unwrap();
        let mut trace = Trace { continuation: vec![1, 0], ..Trace::default() };
        assert!(sure(&trace).is_err());
        trace.extras.insert("greedy_logits".into(), logits);
        assert!((sure(&trace).unwrap() - (0.75f64 * 0.5).sqrt()).abs() < 1e-6);
    }
}
