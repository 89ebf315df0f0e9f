//! What opening and running a model takes of memory, measured by an allocator that counts, against bounds and against
//! what is said beforehand. One test, because what runs beside it would be counted, too.

mod pictures;

use candle_core::Device;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokenscope_analysis::array::Array;
use tokenscope_analysis::image::ImageInput;
use tokenscope_analysis::model::{LogitRows, Model, from_weights};
use tokenscope_analysis::run::{RunRequest, estimate, run};
use tokenscope_analysis::trace::{CaptureSpec, Site, Tower, Trace};
use tokenscope_analysis::weights::{Hold, Weights};
use tokenscope_analysis::{Ctx, Error};
use tokenscope_generate::sized::{Size, Stored};

#[global_allocator]
static HEAP: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

/// 13 million weights with a wide vocabulary.
const SIZE: Size =
    Size { name: "test", width: 512, layers: 4, heads: (8, 2), head_width: 64, middle: 1536, vocab: 2048, tied: false };

fn open(path: &Path, hold: Hold) -> Box<dyn Model> {
    let weights = Weights::open(path).expect("the model").holding(hold);
    let need = weights.need_bytes();
    let model = from_weights(&weights, &Device::Cpu).expect("the model");
    assert_eq!(weights.held_bytes(), need);
    model
}

fn ids(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * 7919) % SIZE.vocab as u32).collect()
}

fn trace(model: &dyn Model, n: usize, spec: &CaptureSpec, logits: &LogitRows) -> Trace {
    let request = RunRequest { ids: Some(ids(n)), logits: Some(logits.clone()), ..RunRequest::default() };
    run(model, None, &request, spec, &Ctx::default()).expect("a run")
}

#[test]
fn memory_is_what_is_said_beforehand_and_small_where_weights_stay_in_their_file() {
    let dirs = Stored::ALL.map(|stored| {
        let dir = tempfile::tempdir().expect("a folder");
        SIZE.write(stored, 7, dir.path()).expect("a model");
        (stored, dir)
    });
    // Weights in their file take no memory, whatever they are stored as.
    let all = 4 * SIZE.n_params();
    for (stored, dir) in &dirs {
        let before = HEAP.allocated();
        let model = open(dir.path(), Hold::File);
        let held = HEAP.allocated() - before;
        assert!(held < 1 << 20, "{}: {held} bytes of {all}", stored.name());
        drop(model);
    }
    assert!(HEAP.max_allocated() < all / 2, "opening brought weights into memory");
    // What a run takes is what is said, within a quarter. Each takes more than all before it.
    let everything = CaptureSpec::sites(&Site::ALL);
    let (bf16, mut shares) = (dirs[1].1.path(), Vec::new());
    for (hold, n, spec, logits) in [
        (Hold::File, 300, CaptureSpec::views(), LogitRows::Last),
        (Hold::File, 1500, CaptureSpec::views(), LogitRows::Last),
        (Hold::Memory, 1500, CaptureSpec::views(), LogitRows::All),
        (Hold::Memory, 1300, everything, LogitRows::All),
    ] {
        let model = open(bf16, hold);
        let said = estimate(model.as_ref(), n, &[], &logits, &spec);
        let (before, most) = (HEAP.allocated(), HEAP.max_allocated());
        let run = trace(model.as_ref(), n, &spec, &logits);
        let peak = HEAP.max_allocated();
        assert!(peak > most, "{n} tokens take less than what was before");
        let share = said.bytes() as f64 / (peak - before) as f64;
        shares.push((hold.name(), n, said, peak - before, share));
        assert_eq!(said.capture_bytes as usize, run.size_bytes(), "{n} tokens, weights {}", hold.name());
    }
    assert!(shares.iter().all(|s| (0.8..=1.25).contains(&s.4)), "{shares:#?}");
    pictures_take_what_is_said();
    values_are_the_same_wherever_weights_are(&dirs);
    a_product_of_a_large_text_is_stopped_soon(bf16);
}

/// A picture is what its patches are, and not as many rows as a text has.
fn pictures_take_what_is_said() {
    let everything = CaptureSpec::sites(&Site::ALL);
    let mut shares = Vec::new();
    /// Writes a model for pictures with sides of so many pixels to a folder.
    type Write = fn(&Path, usize);
    let models: [(&str, Write, usize); 2] = [("vit", pictures::vit, 448), ("swin", pictures::swin, 320)];
    for (name, write, side) in models {
        let dir = tempfile::tempdir().expect("a folder");
        write(dir.path(), side);
        let model = open(dir.path(), Hold::Memory);
        let tiles = model.info().towers[&Tower::Vision].tiles(None);
        let said = estimate(model.as_ref(), 0, &tiles, &LogitRows::Last, &everything);
        let pixels = Array::new(vec![3, side, side], vec![0.0; 3 * side * side]).expect("pixels");
        let image = ImageInput::of_arrays(&pixels, |_| None).expect("a picture");
        let (before, most) = (HEAP.allocated(), HEAP.max_allocated());
        let request = RunRequest { image: Some(image), ..RunRequest::default() };
        let run = run(model.as_ref(), None, &request, &everything, &Ctx::default()).expect("a run");
        let peak = HEAP.max_allocated();
        assert!(peak > most, "{name} takes less than what was before: {} of {most}", peak - before);
        // Windows that are filled up have a component more.
        let kept = said.capture_bytes as f64 / run.size_bytes() as f64;
        assert!((0.999..=1.001).contains(&kept), "{name}: {kept}");
        shares.push((name, tiles, said, peak - before, said.bytes() as f64 / (peak - before) as f64));
    }
    assert!(shares.iter().all(|s| (0.8..=1.25).contains(&s.4)), "{shares:#?}");
}

fn values_are_the_same_wherever_weights_are(dirs: &[(Stored, tempfile::TempDir)]) {
    for (stored, dir) in dirs {
        let run = |hold| trace(open(dir.path(), hold).as_ref(), 90, &CaptureSpec::views(), &LogitRows::All);
        let (file, memory) = (run(Hold::File), run(Hold::Memory));
        assert_eq!(file.arrays.len(), memory.arrays.len());
        for (key, a) in &file.arrays {
            let (a, b) = (a.array.data(), memory.arrays[key].array.data());
            let scale = b.iter().fold(0f32, |m, x| m.max(x.abs()));
            let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(scale > 0.0 && worst <= 3e-6 * scale, "{}, {key:?}: {worst} of {scale}", stored.name());
        }
    }
}

fn a_product_of_a_large_text_is_stopped_soon(path: &Path) {
    let model = open(path, Hold::File);
    let flag = Arc::new(AtomicBool::new(false));
    let ctx = Ctx::new(flag.clone(), Arc::new(|_| ()));
    let request = RunRequest { ids: Some(ids(6000)), ..RunRequest::default() };
    let stopped = |after: u64| {
        std::thread::scope(|s| {
            flag.store(false, Ordering::Relaxed);
            let job = s.spawn(|| {
                let result = run(model.as_ref(), None, &request, &CaptureSpec::views(), &ctx);
                (result.err(), Instant::now())
            });
            std::thread::sleep(Duration::from_millis(after));
            let asked = Instant::now();
            flag.store(true, Ordering::Relaxed);
            let (error, ended) = job.join().expect("no panic");
            assert!(matches!(error, Some(Error::Cancelled)), "the run ended before it was stopped: {error:?}");
            ended - asked
        })
    };
    // In products, in attention and between them; one may meet a moment in which the machine does something else.
    let mut all: Vec<Duration> = [100, 200, 350, 500, 700].map(stopped).into();
    all.sort_unstable();
    assert!(all[2] < Duration::from_millis(200) && all[4] < Duration::from_millis(1000), "stopped after {all:?}");
}
