//! Sampling with drafts gives texts that are distributed as the target's own: the proof that the window and the command
//! line run, on the sample pair.
//!
//! Error level: with other seeds a correct method would be refused once in five thousand runs.

use candle_core::Device;
use tokenscope_analysis::decode::draft::{ALL, find};
use tokenscope_analysis::decode::oracle::{Oracle as _, Reader};
use tokenscope_analysis::decode::proof::{Exact, Fit, Own, Proof, ROUNDS, Verdict, prove, sampled};
use tokenscope_analysis::decode::verify::Claim;
use tokenscope_analysis::method::Params;
use tokenscope_analysis::model::{Model, load};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::{Ctx, Error, Subject};
use tokenscope_tests::{read, root};

const TEMPERATURE: f64 = 0.9;
/// Decodes of each method, to see that it can be proven at all.
const ROUNDS_OF_EACH: usize = 60;

/// The sample pair, and a prompt after which much is open.
fn pair() -> (Box<dyn Model>, Box<dyn Model>, Vec<u32>) {
    let sample = root().join("sample_data/models");
    let open = |name: &str| load(&sample.join(name), &Device::Cpu).unwrap();
    let words = Tokenizer::load(&sample.join("sample-lm/tokenizer.json")).unwrap();
    let prompt = words.encode("Ada and Ben are in the garden. Ada", None, true).unwrap().ids;
    (open("sample-lm"), open("sample-draft"), prompt)
}

fn proven(method: &str, rounds: usize, set: impl Fn(Params) -> Params) -> Proof {
    let (target, draft, prompt) = pair();
    let trace = read(target.as_ref(), &prompt);
    let on = Subject { partner: Some(draft.as_ref()), ..Subject::new(&trace).with_model(target.as_ref()) };
    let params = set(Params::new().set("temperature", TEMPERATURE).set("seed", 5i64).set("new_tokens", 8i64));
    let mut seen = 0;
    let proof = prove(find(method).unwrap(), &on, &params, rounds, &Ctx::default(), &mut |p| {
        assert!(p.rounds > seen && p.asked == rounds && p.fits.len() == 2);
        assert!(p.rounds == rounds || p.verdict() == Verdict::Going);
        seen = p.rounds;
    });
    let proof = proof.unwrap_or_else(|e| panic!("{method}: {e}"));
    assert_eq!(seen, rounds);
    proof
}

#[test]
fn sampled_texts_are_distributed_as_the_targets_own() {
    for (method, key, value) in [
        ("speculative_sampling", "gamma", 3i64),
        ("dyspec", "tree_size", 5),
        ("spectr", "drafts", 2),
        ("rsd_sbs", "beam", 2),
        ("multidraft_verify", "first_width", 2),
    ] {
        let proof = proven(method, ROUNDS, |p| p.set(key, value));
        assert_eq!(proof.verdict(), Verdict::Holds, "{method}: {:#?}", proof.lines());
        // Many texts are likely enough to be counted.
        assert!(proof.fits[1].degrees_of_freedom >= 12, "{method}: {:#?}", proof.lines());
        let exactly = matches!(proof.exact, Some(Exact::Done { off, ways, .. }) if off < 1e-9 && ways > 100);
        assert!(exactly || method != "speculative_sampling", "{:?}", proof.exact);
    }
}

#[test]
fn every_method_can_be_proven_and_what_claims_nothing_is_measured() {
    for method in ALL {
        let id = method.info().id;
        let proof = proven(id, ROUNDS_OF_EACH, |p| p);
        let want = if proof.claim == Claim::Lossless { Verdict::Holds } else { Verdict::Claimless };
        assert_eq!(proof.verdict(), want, "{id}: {:#?}", proof.lines());
        assert!(proof.json()["words"].as_str().is_some_and(|w| !w.is_empty()));
    }
    // A tree whose size follows what passes cost gives the same texts, whatever they cost.
    let sized = proven("sequoia_dp", ROUNDS_OF_EACH, |p| p.set("sized_by", "costs").set("tree_size", 3i64));
    let wrong = matches!(sized.exact, Some(Exact::Done { off, .. }) if off > 1e-9);
    assert!(!wrong && sized.fits.iter().all(|f| f.impossible == 0), "{:#?}", sized.lines());
    // Borrowed probability shows: what is far from the target's own by design is found to be.
    let far = proven("lantern", 500, |p| p.set("lantern_delta", 1.0));
    assert!(far.fits[0].total_variation > 3.0 * far.fits[0].by_chance, "{:#?}", far.lines());
}

#[test]
fn what_another_model_writes_is_refused_by_far() {
    let (target, draft, prompt) = pair();
    let ((&last, before), ctx) = (prompt.split_last().unwrap(), Ctx::default());
    let begun = |model| {
        let mut reader = Reader::new(model);
        reader.begin(before, None, &ctx).unwrap();
        reader
    };
    let own = Own::of(&begun(target.as_ref()), last, TEMPERATURE, 4000, &ctx).unwrap();
    let other = begun(draft.as_ref());
    let fits = sampled(
        &|chance| {
            let (mut model, mut text) = (other.clone(), vec![last]);
            while text.len() < 3 {
                let row = model.read(&text[text.len() - 1..], &ctx)?.remove(0);
                text.push(chance.draw(&row.distribution(TEMPERATURE)) as u32);
            }
            Ok(text[1..].to_vec())
        },
        &own,
        (4000, 1),
        &ctx,
        &mut |_, _| (),
    );
    let fits = fits.unwrap();
    assert!(fits.iter().all(Fit::rejects) && fits[0].total_variation > 0.05, "{fits:?}");
}

#[test]
fn a_proof_can_be_stopped_and_needs_decodes() {
    let (target, draft, prompt) = pair();
    let trace = read(target.as_ref(), &prompt);
    let on = Subject { partner: Some(draft.as_ref()), ..Subject::new(&trace).with_model(target.as_ref()) };
    let method = find("speculative_sampling").unwrap();
    assert!(prove(method, &on, &Params::new(), 0, &Ctx::default(), &mut |_| ()).is_err());
    let cancel = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let ctx = Ctx::new(cancel.clone(), std::sync::Arc::new(|_| ()));
    let mut looks = 0;
    let stopped = prove(method, &on, &Params::new(), ROUNDS, &ctx, &mut |_| {
        looks += 1;
        cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(matches!(stopped, Err(Error::Cancelled)) && looks == 1, "{looks}");
}
