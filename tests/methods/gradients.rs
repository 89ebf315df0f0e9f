//! Scores that differentiate by attention, on a model that reads a picture.

use candle_core::Device;
use tokenscope_analysis::method::Params;
use tokenscope_analysis::model::load;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::token::TokenKind;
use tokenscope_analysis::trace::{CaptureSpec, Tower};
use tokenscope_analysis::{Ctx, Subject, score};
use tokenscope_tests::{golden, recorded_request};

#[test]
fn relevancy_of_an_answer_reaches_the_tokens_of_the_picture() {
    let dir = golden().join("models/llava");
    let model = load(&dir, &Device::Cpu).unwrap();
    let request = RunRequest { greedy: 0, ..recorded_request(&dir.join("expected.safetensors")) };
    let trace = run(model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).unwrap();
    let on = Subject::new(&trace).with_model(model.as_ref());
    let method = score::find("explain_gae").unwrap();
    let of = |answer: i64| {
        let params = Params::new().set("answer", answer);
        let values = method.score(&on, &params, &Ctx::default()).unwrap().values;
        values.into_iter().map(|v| v.expect("every token has a relevance")).collect::<Vec<f32>>()
    };
    let (one, two) = (of(1), of(2));
    let tokens = &trace.tower(Tower::Text).unwrap().tokens;
    let image: Vec<usize> = (0..tokens.len()).filter(|&i| tokens[i].kind == TokenKind::Image).collect();
    assert_eq!((one.len(), image.len()), (tokens.len(), 16));
    assert!(one.iter().all(|v| v.is_finite() && *v >= 0.0));
    assert!(image.iter().filter(|&&i| one[i] > 0.0).count() > 8);
    // The last token stands for itself, and the second answer's token is another.
    assert!(*one.last().unwrap() >= 1.0 && one != two);
}
