//! Jobs of made-up computations, each a name and what it does.

use super::*;
use crate::keys::{ModelSource, Scope};
use crate::work::{MapOf, ModelOf, TraceOf};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize};

type Does = dyn Fn(&Work, &Store, &Ctx) -> Result<Vec<u8>> + Send + Sync;

/// A computation of some bytes.
#[derive(Clone)]
struct Work {
    name: String,
    does: Arc<Does>,
}

impl PartialEq for Work {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Work {}

impl Hash for Work {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Ask for Work {
    type Out = Vec<u8>;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Vec<u8>> {
        (self.does)(self, store, ctx)
    }

    fn bytes(out: &Vec<u8>) -> u64 {
        out.len() as u64
    }
}

fn work(name: impl ToString, does: impl Fn(&Work, &Store, &Ctx) -> Result<Vec<u8>> + Send + Sync + 'static) -> Work {
    Work { name: name.to_string(), does: Arc::new(does) }
}

/// One that is done at once.
fn nothing(name: &str) -> Work {
    work(name, |_, _, _| Ok(Vec::new()))
}

fn key(prompt: &str) -> RunKey {
    RunKey {
        model: ModelSource::Sample("sample-lm"),
        prompt: prompt.into(),
        image: None,
        placement: Default::default(),
    }
}

/// Frames in which all of `needed` is asked for, until `done` or a minute is over.
fn frames<A: Ask>(jobs: &Jobs, needed: &[A], done: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        jobs.begin_frame();
        needed.iter().for_each(|r| drop(jobs.need("test", r)));
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// Frames in which nothing is asked for.
fn idle(jobs: &Jobs, done: impl Fn() -> bool) -> bool {
    frames::<Work>(jobs, &[], done)
}

fn ended<A: Ask>(jobs: &Jobs, ask: &A) -> bool {
    !matches!(jobs.need("test", ask), Status::Running(..) | Status::Partly(..))
}

fn wait<A: Ask>(jobs: &Jobs, ask: &A) -> Status<A::Out> {
    assert!(frames(jobs, std::slice::from_ref(ask), || ended(jobs, ask)), "{ask:?} did not end");
    jobs.need("test", ask)
}

fn failure<A: Ask>(jobs: &Jobs, ask: &A) -> Arc<Error> {
    match wait(jobs, ask) {
        Status::Failed(why) => why,
        _ => panic!("{ask:?} must fail"),
    }
}

/// Counts how many of its calls are under way and were ever at once; they end when cancelled.
#[derive(Default)]
struct Endless {
    now: AtomicUsize,
    most: AtomicUsize,
    ended: AtomicUsize,
}

impl Endless {
    fn run(&self, ctx: &Ctx) -> Result<Vec<u8>> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        while ctx.check().is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.ended.fetch_add(1, Ordering::SeqCst);
        Err(Error::Cancelled)
    }

    fn work(self: &Arc<Self>, name: impl ToString) -> Work {
        let own = self.clone();
        work(name, move |_, _, ctx| own.run(ctx))
    }

    fn now(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }
}

#[test]
fn a_trace_of_the_sample_arrives_with_the_model_it_needs() {
    let jobs = Jobs::new(|| ());
    let Status::Ready(trace) = wait(&jobs, &TraceOf(key("The fox met a cat."))) else { panic!("no trace") };
    assert!(!trace.towers.is_empty());
    assert!(jobs.ready(&ModelOf(ModelSource::Sample("sample-lm"), Default::default())).is_some());
}

#[test]
fn equal_values_of_different_kinds_are_different_asks() {
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct A(u8);
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct B(u8);
    impl Ask for A {
        type Out = &'static str;
        fn carry_out(&self, _: &Store, _: &Ctx) -> Result<&'static str> {
            Ok("a")
        }
    }
    impl Ask for B {
        type Out = u64;
        fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<u64> {
            Ok(store.get(&A(self.0), ctx)?.len() as u64)
        }
    }
    let jobs = Jobs::new(|| ());
    assert!(matches!(wait(&jobs, &B(1)), Status::Ready(n) if *n == 1));
    assert!(jobs.ready(&A(1)).is_some_and(|a| *a == "a") && jobs.ready(&A(2)).is_none());
    // A spot that showed something of another kind has no picture from before of this one.
    assert_eq!(jobs.previous::<u64>("test").as_deref(), Some(&1));
    assert!(jobs.previous::<&'static str>("test").is_none());
    assert!(matches!(jobs.need("test", &A(3)), Status::Running(_, None)));
}

#[test]
fn spots_of_a_name_are_told_apart_by_part_and_pane() {
    let jobs = Jobs::new(|| ());
    let all = [Spot::from("trace"), Spot::part("retention", "trace"), Spot::from("trace").of_pane(1)];
    for (i, spot) in all.iter().enumerate() {
        let own = work(i, move |_, _, _| Ok(vec![i as u8]));
        while !matches!(jobs.need(*spot, &own), Status::Ready(_)) {
            jobs.wait(Duration::from_millis(5));
        }
    }
    let shown: Vec<u8> = all.iter().map(|s| jobs.previous::<Vec<u8>>(*s).unwrap()[0]).collect();
    assert_eq!(shown, [0, 1, 2]);
}

#[test]
fn a_job_knows_how_many_others_compute() {
    let both = Arc::new(std::sync::Barrier::new(2));
    let others = |pair: bool| {
        let both = both.clone();
        move |_: &Work, store: &Store, _: &Ctx| {
            if pair {
                both.wait();
            }
            let others = store.others();
            if pair {
                both.wait();
            }
            Ok(vec![others as u8])
        }
    };
    let jobs = Jobs::with(|| (), 2, 1 << 20);
    let pair = [work("a", others(true)), work("b", others(true))];
    // Both are asked for all the time, or the one that is not waited for would be cancelled.
    assert!(frames(&jobs, &pair, || pair.iter().all(|w| ended(&jobs, w))));
    assert!(pair.iter().all(|w| matches!(wait(&jobs, w), Status::Ready(n) if *n == [1])));
    let alone = work("c", others(false));
    assert!(matches!(wait(&jobs, &alone), Status::Ready(n) if *n == [0]));
    assert!(jobs.knows(&alone) && !jobs.knows(&nothing("d")));
}

#[test]
fn a_failure_names_the_file_and_is_not_tried_again() {
    let jobs = Jobs::new(|| ());
    let ask = ModelOf(ModelSource::Path("/nowhere".into()), Default::default());
    let why = failure(&jobs, &ask).to_string();
    assert!(why.contains("/nowhere"), "{why}");
    assert!(matches!(jobs.need("test", &ask), Status::Failed(_)));
    jobs.retry();
    assert!(matches!(jobs.need("test", &ask), Status::Running(..)));
}

#[test]
fn a_failure_keeps_its_kind_on_its_way_through_jobs() {
    let jobs = Jobs::new(|| ());
    let all = [
        Error::Gpu("lost".into()),
        Error::io("a", std::io::ErrorKind::NotFound.into()),
        Error::Memory { need_mb: 3, limit_mb: 2, remedy: "buy some".into() },
    ];
    for error in all {
        let (name, kind) = (error.to_string(), std::mem::discriminant(&error));
        let inner = work(format!("inner {name}"), move |_, _, _| Err(error.clone()));
        let outer = work(format!("outer {name}"), move |_, store, ctx| Ok(store.get(&inner, ctx)?.to_vec()));
        let why = failure(&jobs, &outer);
        assert_eq!((std::mem::discriminant(&*why), why.to_string()), (kind, name.clone()));
        let why = jobs.get(&outer, &Ctx::default()).unwrap_err();
        assert_eq!(std::mem::discriminant(&why), kind, "{name}");
    }
}

#[test]
fn jobs_say_what_computes() {
    assert!(Jobs::new(|| ()).device().starts_with("computing on the CPU; there is no graphics adapter"));
    let forced = Jobs::new(|| ()).on(None, Compute::Cpu);
    assert_eq!(forced.device(), "computing on the CPU, because TOKENSCOPE_COMPUTE says so");
    let lacking = Jobs::new(|| ()).on(None, Compute::Gpu);
    let scope = Scope { run: key("The fox"), tower: None };
    let why = failure(&lacking, &MapOf { scope, layer: 0, head: 0, part: None });
    assert!(matches!(&*why, Error::Gpu(why) if why.contains("asks for a graphics adapter")), "{why}");
}

#[test]
fn notes_of_a_job_and_of_those_it_builds_on_reach_the_spot_and_the_caller() {
    let jobs = Jobs::new(|| ());
    let inner = work("inner", |_, _, ctx| {
        ctx.note("computed on the CPU");
        Ok(Vec::new())
    });
    let outer = work("outer", move |_, store, ctx| {
        ctx.note("partial");
        store.get(&inner, ctx)?;
        Ok(store.get(&inner, ctx)?.to_vec())
    });
    assert!(matches!(wait(&jobs, &outer), Status::Ready(_)));
    assert_eq!(*jobs.notes("test"), ["partial", "computed on the CPU"]);
    assert!(jobs.notes("elsewhere").is_empty());
    let ctx = Ctx::default();
    jobs.get(&outer, &ctx).unwrap();
    assert_eq!(ctx.notes(), ["partial", "computed on the CPU"]);
}

#[test]
fn what_is_there_so_far_is_shown_until_the_whole_is() {
    let jobs = Jobs::new(|| ());
    let go = Arc::new(AtomicBool::new(false));
    let own = go.clone();
    let growing = work("growing", move |_, store, ctx| {
        store.show::<Work>(vec![1]);
        store.show::<Work>(vec![1, 2]);
        while !own.load(Ordering::SeqCst) {
            ctx.check()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(vec![1, 2, 3])
    });
    let so_far = || matches!(jobs.need("test", &growing), Status::Partly(_, v) if *v == [1, 2]);
    assert!(frames(&jobs, std::slice::from_ref(&growing), so_far));
    assert!(jobs.ready(&growing).is_none(), "a part is not the whole");
    go.store(true, Ordering::SeqCst);
    assert!(matches!(wait(&jobs, &growing), Status::Ready(v) if *v == [1, 2, 3]));
}

#[test]
fn a_panic_is_a_failure_with_words_and_later_jobs_still_run() {
    let jobs = Jobs::with(|| (), 1, 1 << 20);
    let why = failure(&jobs, &work("a", |_, _, _| panic!("index 7 is out of range"))).to_string();
    assert!(why.contains("index 7 is out of range") && why.contains("report"), "{why}");
    assert!(matches!(wait(&jobs, &nothing("b")), Status::Ready(_)));
}

#[test]
fn a_burst_of_changes_runs_a_few_jobs_at_a_time_and_drops_the_stale_ones() {
    let count = Arc::new(Endless::default());
    let jobs = Jobs::with(|| (), 3, 1 << 20);
    for i in 0..200 {
        jobs.begin_frame();
        jobs.need("test", &count.work(i));
    }
    assert!(idle(&jobs, || count.now() == 0 && jobs.running().0 == 0));
    assert!((1..=3).contains(&count.most.load(Ordering::SeqCst)));
    // Those that were never started left the line with the frames that wanted them.
    assert!(count.ended.load(Ordering::SeqCst) < 200);
    assert!(idle(&jobs, || jobs.lock().busy == 0), "threads that nobody needs end");
}

#[test]
fn what_only_a_cancelled_job_asked_for_is_cancelled_with_it() {
    let count = Arc::new(Endless::default());
    let shared = count.work("shared");
    let waiting = |name: &str| {
        let shared = shared.clone();
        work(name, move |_, store, ctx| Ok(store.get(&shared, ctx)?.to_vec()))
    };
    let jobs = Jobs::with(|| (), 2, 1 << 20);
    let (first, second) = (waiting("first"), waiting("second"));
    let both_wait = || match jobs.lock().slots.get(&shared as &dyn AnyAsk) {
        Some(Known { slot: Slot::Running(r), .. }) => r.asked_by.len() == 2 && count.now() == 1,
        _ => false,
    };
    assert!(frames(&jobs, &[first, second.clone()], both_wait));
    // One of two that wait goes, perhaps the one whose thread computes: the shared one goes on for the other.
    for _ in 0..20 {
        jobs.begin_frame();
        jobs.need("test", &second);
    }
    assert_eq!((jobs.running().0, count.now()), (2, 1));
    assert!(idle(&jobs, || count.now() == 0 && jobs.lock().busy == 0));
    assert_eq!(jobs.running().0, 0);
}

#[test]
fn jobs_that_wait_for_others_leave_their_place_to_those() {
    // A chain as long as there are threads, and a second job for each link.
    fn link(name: &str, n: usize) -> Work {
        work(format!("{name} {n}"), move |_, store, ctx| {
            if n < 6 {
                std::thread::sleep(Duration::from_millis(3));
                store.get(&link("below", n + 1), ctx)?;
            }
            Ok(Vec::new())
        })
    }
    let jobs = Jobs::with(|| (), 1, 1 << 20);
    let all: Vec<Work> = (0..6).map(|n| link("top", n)).collect();
    assert!(frames(&jobs, &all, || all.iter().all(|w| jobs.ready(w).is_some())));
    assert!(idle(&jobs, || jobs.lock().busy == 0));
}

#[test]
fn products_are_kept_by_their_size_and_those_in_use_stay() {
    // Room for three of a megabyte.
    let jobs = Jobs::with(|| (), 2, 7 << 19);
    let all: Vec<Work> = (0..6).map(|i| work(i, |_, _, _| Ok(vec![0; 1 << 20]))).collect();
    let there = || all.iter().map(|w| jobs.ready(w).is_some()).collect::<Vec<_>>();
    assert!(frames(&jobs, &all, || there() == [true; 6]), "all six are asked for, so all six are kept");
    // The first stays in use; of the others, the latest two fit beside it.
    for w in &all[1..] {
        assert!(frames(&jobs, &[all[0].clone(), w.clone()], || jobs.ready(w).is_some()));
    }
    assert!(frames(&jobs, &all[..1], || there() == [true, false, false, false, true, true]));
    // What is shown is what is asked for while room is made.
    let done = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| done.store(jobs.make_room(), Ordering::SeqCst));
        assert!(frames(&jobs, &all[..1], || done.load(Ordering::SeqCst)));
    });
    assert_eq!(there(), [true, false, false, false, false, false]);
    assert!(!jobs.clone().make_room() || there()[0], "nothing more is to be had");
}

#[test]
fn a_stop_ends_what_runs_and_what_waits_in_line() {
    let count = Arc::new(Endless::default());
    let jobs = Jobs::with(|| (), 1, 1 << 20);
    let all: Vec<Work> = (0..3).map(|i| count.work(i)).collect();
    assert!(frames(&jobs, &all, || count.now() == 1));
    jobs.cancel_all();
    assert!(idle(&jobs, || jobs.lock().busy == 0));
    assert_eq!(count.ended.load(Ordering::SeqCst), 1);
    assert!(matches!(jobs.need("test", &all[2]), Status::Failed(_)));
}

/// A large product that counts how many of it live.
struct Live(&'static AtomicU64);

impl Live {
    fn new(count: &'static AtomicU64) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn a_second_large_product_has_the_room_of_the_one_that_the_same_spot_showed() {
    static LIVE: AtomicU64 = AtomicU64::new(0);
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct Large(u8);
    impl Ask for Large {
        type Out = Live;
        fn carry_out(&self, _: &Store, ctx: &Ctx) -> Result<Live> {
            ctx.fits(60, "let the other one go")?;
            Ok(Live::new(&LIVE))
        }
    }
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct OnTop(Large);
    impl Ask for OnTop {
        type Out = ();
        fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<()> {
            store.get(&self.0, ctx).map(|_| ())
        }
    }
    // Room for one of them.
    let room = || 100 - 60 * LIVE.load(Ordering::SeqCst).min(1);
    let jobs = Jobs { room, ..Jobs::with(|| (), 2, 1 << 30) };
    for i in 1..4 {
        assert!(matches!(wait(&jobs, &Large(i)), Status::Ready(_)), "{i}");
        assert_eq!(LIVE.load(Ordering::SeqCst), 1);
    }
    // Also where another job asks for it, and where there is no window.
    assert!(matches!(wait(&jobs, &OnTop(Large(4))), Status::Ready(_)));
    let alone = Jobs { room, ..Jobs::with(|| (), 2, 1 << 30) };
    drop(jobs);
    for i in 1..4 {
        alone.get(&OnTop(Large(i)), &Ctx::default()).unwrap();
    }
    assert_eq!(LIVE.load(Ordering::SeqCst), 1);
}

#[test]
fn of_twenty_that_were_opened_one_after_the_other_two_live() {
    static LIVE: AtomicU64 = AtomicU64::new(0);
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct Opened(u8);
    impl Ask for Opened {
        type Out = Live;
        const KEPT: usize = 1;
        fn carry_out(&self, _: &Store, _: &Ctx) -> Result<Live> {
            Ok(Live::new(&LIVE))
        }
    }
    assert_eq!(<ModelOf as Ask>::KEPT, Opened::KEPT);
    let jobs = Jobs::with(|| (), 2, 1 << 30);
    for i in 0..20 {
        assert!(matches!(wait(&jobs, &Opened(i)), Status::Ready(_)));
        for _ in 0..=PATIENCE + 1 {
            assert!(frames(&jobs, &[Opened(i)], || true));
        }
        assert!(LIVE.load(Ordering::SeqCst) <= 2, "{i}");
    }
    assert!(jobs.ready(&Opened(18)).is_some() && jobs.ready(&Opened(17)).is_none(), "undo has the one before");
}

/// A product of the old kind is gone before the new one is made, and what does not hang on it stays.
#[test]
fn weights_that_are_held_elsewhere_are_opened_again() {
    use crate::work::hold_weights;
    use tokenscope_analysis::weights::Hold;
    let (jobs, ctx) = (Jobs::new(|| ()), Ctx::default());
    let (model, missing) = (
        ModelOf(ModelSource::Sample("sample-lm"), Default::default()),
        ModelOf(ModelSource::Path("/nowhere".into()), Default::default()),
    );
    jobs.hold(Hold::Memory);
    let first = jobs.get(&model, &ctx).unwrap();
    assert!(jobs.get(&missing, &ctx).is_err() && !first.weights.in_file);
    let weak = Arc::downgrade(&first);
    drop(first);
    hold_weights(&jobs, Hold::Memory);
    assert!(jobs.ready(&model).is_some() && jobs.has_failed(&missing), "nothing changed");
    hold_weights(&jobs, Hold::File);
    assert!(weak.upgrade().is_none() && !jobs.knows(&model) && !jobs.has_failed(&missing));
    assert!(jobs.get(&model, &ctx).unwrap().weights.in_file);
}
