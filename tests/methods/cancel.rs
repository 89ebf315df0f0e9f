//! Cancelling: every long computation looks at the flag between its steps, and there are enough of them. Counted, not
//! timed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokenscope_analysis::decode;
use tokenscope_analysis::method::Params;
use tokenscope_analysis::model::load;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::trace::{CaptureSpec, Tower};
use tokenscope_analysis::{Ctx, Error, Result, Subject, flow, reduce, score};
use tokenscope_tests::{golden, read, root};

/// How many steps `work` reports, and how it ends, if it is cancelled at step `at` (from 1).
fn steps(at: usize, work: &(dyn Fn(&Ctx) -> Result<()> + Sync)) -> (usize, Result<()>) {
    let (cancel, n) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (flag, count) = (cancel.clone(), n.clone());
    let progress = move |_| {
        if count.fetch_add(1, Ordering::SeqCst) + 1 == at {
            flag.store(true, Ordering::SeqCst);
        }
    };
    // On one thread: of several, another may be past its look at the flag when it is raised, and report one step more.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let ctx = Ctx::new(cancel, Arc::new(progress));
    let end = pool.install(|| work(&ctx));
    (n.load(Ordering::SeqCst), end)
}

/// `work` reports at least `least` steps, and ends before the next one wherever it is cancelled.
fn check(name: &str, least: usize, work: &(dyn Fn(&Ctx) -> Result<()> + Sync)) {
    let (all, end) = steps(usize::MAX, work);
    end.unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(all >= least, "{name}: {all} steps");
    // Of very many steps some will do.
    for at in (1..all).step_by(all.div_ceil(12)) {
        let (n, end) = steps(at, work);
        assert!(matches!(end, Err(Error::Cancelled)), "{name}: cancelled at {at} of {all} and {end:?}");
        assert_eq!(n, at, "{name}: went on after it was cancelled");
    }
}

#[test]
fn what_does_not_fit_the_memory_is_refused_before_it_is_computed() {
    let model = load(&golden().join("models/gpt2"), &candle_core::Device::Cpu).unwrap();
    let request = RunRequest { ids: Some((0..24).collect()), ..RunRequest::default() };
    let trace = run(model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).unwrap();
    let input = Subject::new(&trace).with_model(model.as_ref()).of(Tower::Text);
    for id in ["attention_rollout", "attention_flow", "gradient_input"] {
        let method = score::find(id).unwrap();
        let of = |room: fn() -> u64| method.score(&input, &Params::new(), &Ctx::default().with_room(room));
        let why = of(|| 1000).err().unwrap_or_else(|| panic!("{id} was computed"));
        assert!(matches!(why, Error::Memory { .. }) && why.to_string().contains("shorten the prompt"), "{id}: {why}");
        assert!(of(|| 1 << 30).is_ok(), "{id}");
    }
    let graph = Subject::new(&trace).with_model(model.as_ref()).of(Tower::Text);
    for method in flow::ALL {
        let of = |room: fn() -> u64| method.graph(&graph, &Params::new(), &Ctx::default().with_room(room));
        assert!(matches!(of(|| 1000), Err(Error::Memory { .. })), "{} was computed", method.info().id);
        assert!(of(|| 1 << 30).is_ok(), "{}", method.info().id);
    }
}

#[test]
fn every_long_computation_ends_at_the_step_where_it_is_cancelled() {
    let model = load(&golden().join("models/gpt2"), &candle_core::Device::Cpu).unwrap();
    let ids: Vec<u32> = (0..24).map(|i| i * 7 % 50).collect();
    let request = RunRequest { ids: Some(ids.clone()), ..RunRequest::default() };
    let trace = run(model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).unwrap();
    let layers = trace.towers[&Tower::Text].n_layers;
    assert!(layers > 1);
    check("a run", layers, &|ctx| run(model.as_ref(), None, &request, &CaptureSpec::views(), ctx).map(drop));
    let greedy = RunRequest { greedy: 6, ..request.clone() };
    check("a continuation", 6, &|ctx| run(model.as_ref(), None, &greedy, &CaptureSpec::views(), ctx).map(drop));
    let input = Subject::new(&trace).with_model(model.as_ref()).of(Tower::Text);
    for id in ["attention_rollout", "gradient_input", "received_attention"] {
        let method = score::find(id).unwrap();
        check(id, layers, &|ctx| method.score(&input, &Params::new(), ctx).map(drop));
    }
    let graph = Subject::new(&trace).with_model(model.as_ref()).of(Tower::Text);
    for method in flow::ALL {
        check(method.info().id, layers, &|ctx| method.graph(&graph, &Params::new(), ctx).map(drop));
    }
    for method in reduce::floor::ALL {
        check(method.info().id, layers, &|ctx| reduce::plan(*method, &input, &Params::new(), ctx).map(drop));
    }
    let pair = Subject { partner: Some(model.as_ref()), ..input };
    for method in decode::draft::ALL {
        let params = Params::new().set("new_tokens", 6);
        check(method.info().id, 6 / 4, &|ctx| decode::decode(*method, &pair, &params, ctx, &mut |_| ()).map(drop));
    }
    let filler = load(&root().join("sample_data/models/sample-diffusion"), &candle_core::Device::Cpu).unwrap();
    let trace = read(filler.as_ref(), &[0, 40, 41]);
    let gaps = Subject::new(&trace).with_model(filler.as_ref());
    for method in decode::reveal::ALL {
        let params = Params::new().set("gen_length", 8);
        let write = |ctx: &Ctx| decode::mask::decode(*method, &gaps, &params, ctx, &mut |_| ()).map(drop);
        check(method.info().id, 2, &write);
    }
}
