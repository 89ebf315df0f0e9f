//! Lessons: guided walks through the window, as files that a teacher edits.
//!
//! # A lesson's file
//!
//! A lesson is an object of JSON in a file of its own; its name is that of the file. `assets/lessons` has those that are
//! part of the program, and their `README.md` says for teachers what stands here for programmers. Those of the user lie
//! in the folder `lessons` of the configuration.
//!
//! ```json
//! {
//!   "title": "Bytes and tokens",
//!   "about": "One sentence for the list of lessons.",
//!   "steps": [
//!     {
//!       "says": "Two sentences.",
//!       "prompt": "naïve cat",
//!       "view": "segmentation",
//!       "at": { "token": "n" },
//!       "claims": [{ "bytes": { "text": "ï" }, "is": 2 }]
//!     }
//!   ]
//! }
//! ```
//!
//! What a step sets of model, input, methods and looks ([`Step`]) stays for the steps after it; selection, drill, the
//! place that is pointed at and the claims are the step's own. So a step looks the same from whichever side one comes.
//!
//! A lesson is written on a sample model. Where the user has a model of their own open, the lesson runs on that: every
//! step says what it cannot show there, and every claim ([`Claim`]) that does not hold.

mod check;
mod claim;
mod fields;
mod step;
mod token;

pub use check::{Checked, Checks, ChecksOf};
pub use claim::{Claim, Quantity, Test};
pub use fields::Wrong;
pub use step::{Place, Step, What};
pub use token::TokenAt;

use crate::recents::{folder, read_small};
use crate::text::Text;
use fields::Fields;
use serde_json::Value;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

include!(concat!(env!("OUT_DIR"), "/lessons.rs"));

/// A lesson.
#[derive(Debug)]
pub struct Lesson {
    /// Its name: that of its file, without the end.
    pub id: String,
    /// Its title.
    pub title: String,
    /// What it is about, one sentence.
    pub about: String,
    /// The steps, at least one.
    pub steps: Vec<Step>,
    /// The file that it was read from; of one that is part of the program its name there.
    pub file: PathBuf,
    /// The file's text, which is what tells lessons apart.
    text: Text,
}

impl PartialEq for Lesson {
    fn eq(&self, other: &Self) -> bool {
        (&self.file, &self.text) == (&other.file, &other.text)
    }
}

impl Eq for Lesson {}

impl Hash for Lesson {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.file.hash(state);
        self.text.hash(state);
    }
}

impl Lesson {
    /// Reads the text of a file. Files that it names lie in `folder`. Errors: what is wrong, in which step and field.
    pub fn parse(file: &Path, folder: Option<&Path>, text: &str) -> Result<Self, Wrong> {
        let name = file.display().to_string();
        let wrong = |what: String| Wrong { what, place: "the whole file".into(), file: name.clone() };
        let value: Value = serde_json::from_str(text).map_err(|why| wrong(format!("this is no JSON ({why})")))?;
        let mut f = Fields::new(&name, "", value)?;
        let title = f.words("title", "the lesson's title")?;
        let about = f.words("about", "one sentence on what it is about")?;
        let list = f.list("steps")?.unwrap_or_default();
        if list.is_empty() || list.len() > MOST_STEPS {
            return Err(f.wrong("steps", format!("a lesson has 1 to {MOST_STEPS} steps, this has {}", list.len())));
        }
        f.end()?;
        let mut steps: Vec<Step> = Vec::with_capacity(list.len());
        let start = Step::start();
        for (i, (_, value)) in list.into_iter().enumerate() {
            let step = Step::read(&name, folder, i + 1, value, steps.last().unwrap_or(&start))?;
            steps.push(step);
        }
        let id = file.file_stem().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        Ok(Self { id, title, about, steps, file: file.into(), text: text.into() })
    }

    /// Whether it is part of the program.
    pub fn is_own(&self) -> bool {
        FILES.iter().any(|f| *self.text == *f.1 && self.file == Path::new(f.0))
    }

    /// Reads a file. Errors: not readable, longer than 1 MB, or what is wrong in which step and field.
    pub fn open(file: &Path) -> Result<Self, Wrong> {
        let wrong = |what: String| Wrong { what, place: "the whole file".into(), file: file.display().to_string() };
        let text = read_small(file).map_err(|why| wrong(format!("it cannot be read ({why})")))?;
        let text = text.ok_or_else(|| wrong("there is no such file".into()))?;
        Self::parse(file, Some(file.parent().unwrap_or(Path::new(""))), &text)
    }
}

/// Steps of a lesson at most.
const MOST_STEPS: usize = 200;

/// The lessons that are part of the program, the first ones first.
pub fn own() -> Vec<Arc<Lesson>> {
    // A test reads each of them.
    FILES.iter().filter_map(|(name, text)| Lesson::parse(Path::new(name), None, text).ok()).map(Arc::new).collect()
}

/// Those that are part of the program and those in the user's folder, and what is wrong with files there.
pub fn all() -> (Vec<Arc<Lesson>>, Vec<Wrong>) {
    let mut lessons = own();
    let wrong = folder().map_or_else(Vec::new, |dir| add_from(&dir.join("lessons"), &mut lessons));
    (lessons, wrong)
}

/// Adds the lessons of a folder, by name; one of the same name as one before takes its place. Gives what is wrong.
fn add_from(dir: &Path, lessons: &mut Vec<Arc<Lesson>>) -> Vec<Wrong> {
    // Most have no such folder.
    let Ok(files) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = files.filter_map(|f| Some(f.ok()?.path())).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "json"));
    files.sort();
    let mut wrong = Vec::new();
    for file in files.iter().take(MOST_FILES) {
        match Lesson::open(file) {
            Ok(lesson) => match lessons.iter_mut().find(|l| l.id == lesson.id) {
                Some(same) => *same = Arc::new(lesson),
                None => lessons.push(Arc::new(lesson)),
            },
            Err(why) => wrong.push(why),
        }
    }
    wrong
}

/// Files of the user's folder that are read at most.
const MOST_FILES: usize = 200;

/// The lesson of that name, or the one in the file at that path. Errors: there is none; what is wrong with it.
pub fn find(name: &str) -> anyhow::Result<Arc<Lesson>> {
    let (lessons, wrong) = all();
    if let Some(found) = lessons.iter().find(|l| l.id == name) {
        return Ok(found.clone());
    }
    let path = Path::new(name);
    if path.is_file() || name.ends_with(".json") {
        return Ok(Arc::new(Lesson::open(path)?));
    }
    // One of the user's that does not open has a name, too.
    if let Some(why) = wrong.into_iter().find(|w| Path::new(&w.file).file_stem().is_some_and(|s| s == name)) {
        return Err(why.into());
    }
    let known: Vec<&str> = lessons.iter().map(|l| l.id.as_str()).collect();
    anyhow::bail!("no lesson named {name}; known: {}; or give the path of a file", known.join(", "))
}

/// Whether the file at `path` is a lesson and nothing else of its kind, such as a tokenizer.
pub fn is_lesson(path: &Path) -> bool {
    if path.extension().is_none_or(|e| !e.eq_ignore_ascii_case("json")) {
        return false;
    }
    let Ok(Some(text)) = read_small(path) else { return false };
    // A broken one is still one, so that what is wrong with it can be said.
    match serde_json::from_str::<Value>(&text) {
        Ok(value) => value.get("steps").is_some_and(Value::is_array) && value.get("model").is_none(),
        Err(_) => text.contains("\"steps\"") && text.contains("\"says\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::Jobs;
    use crate::keys::ModelSource;
    use serde_json::json;
    use std::collections::BTreeSet;
    use tokenscope_analysis::Ctx;
    use tokenscope_analysis::method::Kind;

    fn lesson(steps: Value) -> Result<Lesson, Wrong> {
        let text = json!({ "title": "T", "about": "A.", "steps": steps }).to_string();
        Lesson::parse(Path::new("t.json"), None, &text)
    }

    fn checks(lesson: &Arc<Lesson>, step: usize, own: Option<ModelSource>) -> Arc<Checks> {
        let jobs = Jobs::new(|| ());
        jobs.get(&ChecksOf { lesson: lesson.clone(), step, own }, &Ctx::default()).unwrap()
    }

    /// Whether one claim on the sample holds, and what was found.
    fn claim(of: Value) -> (bool, String) {
        let lesson = lesson(json!([{ "says": "s", "example": "refrain", "claims": [of] }])).unwrap();
        let checked = checks(&Arc::new(lesson), 0, None).claims[0].clone();
        (checked.holds, checked.words)
    }

    #[test]
    fn every_lesson_of_the_program_is_read_and_says_something_in_every_step() {
        let own = own();
        assert_eq!(own.len(), FILES.len(), "one of them is not read");
        let ids: BTreeSet<&str> = own.iter().map(|l| l.id.as_str()).collect();
        for wanted in ["tokens", "attention", "recall", "heatmap", "pruning", "drafts", "masks", "cache"] {
            assert!(ids.contains(wanted), "{wanted}");
        }
        for l in &own {
            assert!(l.is_own() && l.steps.len() >= 4 && l.about.ends_with('.'), "{}", l.id);
            for (i, s) in l.steps.iter().enumerate() {
                let (words, what) = (s.says.split_whitespace().count(), format!("{}, step {}", l.id, i + 1));
                assert!(!s.claims.is_empty() && !s.at.is_empty(), "{what} claims or shows nothing");
                assert!((8..=60).contains(&words) && s.says.ends_with('.'), "{what}: {words} words");
                // A sample serves each of them, so that whoever has nothing else can follow.
                assert!(matches!(s.pane(None).run.model, ModelSource::Sample(_)), "{what}");
            }
        }
    }

    #[test]
    fn what_the_lessons_of_the_program_claim_holds() {
        let jobs = Jobs::new(|| ());
        for lesson in own() {
            for step in 0..lesson.steps.len() {
                let asked = ChecksOf { lesson: lesson.clone(), step, own: None };
                let c = jobs.get(&asked, &Ctx::default()).unwrap();
                assert_eq!(c.claims.len(), lesson.steps[step].claims.len());
                let wrong: Vec<String> = c.failures().map(|f| format!("{}: {}", f.place, f.words)).collect();
                assert!(wrong.is_empty() && c.lacks.is_none(), "{}: {wrong:?} {:?}", lesson.id, c.lacks);
            }
        }
    }

    #[test]
    fn a_wrong_claim_is_caught_whatever_it_is_about() {
        for (right, wrong) in [
            (json!({ "tokens": {}, "is": 14 }), json!({ "tokens": {}, "is": 13 })),
            (
                json!({ "tokens": { "row": "bytes", "text": "ab" }, "is": 2 }),
                json!({ "tokens": { "row": "bytes" }, "is": 2 }),
            ),
            (json!({ "bytes": { "text": "é" }, "is": 2 }), json!({ "bytes": { "text": "é" }, "is": 1 })),
            (json!({ "characters": { "text": "é" }, "is": 1 }), json!({ "characters": { "text": "é" }, "is": 2 })),
            (json!({ "token": 3, "is": ":" }), json!({ "token": 3, "is": " sings" })),
            (json!({ "token": ":", "is": 3 }), json!({ "token": ":", "is": 14 })),
            (json!({ "count": {}, "is": 15 }), json!({ "count": { "of": "image" }, "is": 15 })),
            (json!({ "predicts": { "at": -1 }, "is": " purple" }), json!({ "predicts": { "at": 3 }, "is": " purple" })),
            (
                json!({ "predicts": { "at": -1 }, "begins": " pur" }),
                json!({ "predicts": { "at": -1 }, "begins": "pur" }),
            ),
            (
                json!({ "chance": { "of": " purple", "at": -1 }, "above": 0.9 }),
                json!({ "chance": { "of": " purple", "at": -1 }, "below": 0.9 }),
            ),
            (
                json!({ "largest": { "method": "received_attention" }, "is": 3 }),
                json!({ "largest": { "method": "received_attention", "besides": [3] }, "is": 3 }),
            ),
            (
                json!({ "score": { "method": "uniform_score", "at": 2 }, "is": 1 }),
                json!({ "score": { "method": "uniform_score", "at": 2 }, "is_not": 1 }),
            ),
            (
                json!({ "attention": { "head": [0, 0], "from": 0, "to": 0 }, "is": 1, "within": 1e-6 }),
                json!({ "attention": { "head": [0, 0], "from": 2, "to": 0 }, "above": 0.9 }),
            ),
            (
                json!({ "attention": { "head": [0, 0], "back": 1 }, "above": 0.8 }),
                json!({ "attention": { "head": [0, 0], "back": 2 }, "above": 0.8 }),
            ),
            (json!({ "answer": {}, "begins": "purple white" }), json!({ "answer": {}, "is": "purple" })),
            (
                json!({ "same_answer": { "method": "uniform", "params": { "keep": 1.0 } }, "is": true }),
                json!({ "same_answer": { "method": "uniform", "params": { "keep": 0.2 } }, "is": true }),
            ),
            (
                json!({ "kept": { "method": "uniform", "params": { "keep": 1.0 } }, "is": 15 }),
                json!({ "kept": { "method": "uniform", "params": { "keep": 0.2 } }, "is": 15 }),
            ),
            (json!({ "surprisal": " white", "above": 1 }), json!({ "surprisal": " white", "below": 1 })),
            (
                json!({ "lossless": { "method": "speculative_sampling", "params": { "new_tokens": 4 } }, "is": true }),
                json!({ "lossless": { "method": "speculative_sampling", "params": { "new_tokens": 4 } }, "is": false }),
            ),
            (
                json!({ "found": { "method": "snapkv", "figure": "same text for" }, "is": 16 }),
                json!({ "found": { "method": "h2o", "figure": "same text for" }, "is": 16 }),
            ),
        ] {
            let (holds, words) = claim(right.clone());
            assert!(holds, "{right}: {words}");
            let (holds, words) = claim(wrong.clone());
            assert!(!holds, "{wrong}: {words}");
        }
    }

    #[test]
    fn what_cannot_be_checked_does_not_hold_and_says_why() {
        for (of, why) in [
            (json!({ "token": " dragon", "is": 1 }), "dragon"),
            (json!({ "found": { "method": "h2o", "figure": "luck" }, "is": 1 }), "bytes left"),
            (json!({ "hit": { "method": "cls_score" }, "is": true }), "image tokens"),
            (json!({ "tokens": {}, "is": "many" }), "cannot be compared"),
            (json!({ "answer": {}, "above": 1 }), "no number"),
            (json!({ "round": { "method": "dyspec", "number": 99 }, "is": 1 }), "round 99"),
            (json!({ "attention": { "head": [99, 0], "to": 0 }, "is": 1 }), "99"),
        ] {
            let (holds, words) = claim(of.clone());
            assert!(!holds && words.contains(why), "{of}: {words}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_file_step_and_field() {
        let ok = json!({ "says": "s" });
        let with = |key: &str, v: Value| {
            let mut step = ok.clone();
            step[key] = v;
            lesson(json!([ok, step])).map(|_| ()).unwrap_err().to_string()
        };
        for (key, value, place, words) in [
            ("says", json!(3), "step 2, says", "a number"),
            ("says", json!(" "), "step 2, says", "empty"),
            ("sayz", json!("s"), "step 2, sayz", "known: says"),
            ("example", json!("dragon"), "step 2, example", "dragon"),
            ("image", json!("scene:x"), "step 2, image", "scene:7"),
            ("tower", json!("eiffel"), "step 2, tower", "vision"),
            ("methods", json!(["dragon"]), "step 2, methods[1]", "dragon"),
            ("methods", json!([{ "method": "tome", "params": { "r": "x" } }]), "step 2, methods[1]", "r"),
            ("methods", json!(["words"]), "step 2, methods[1]", "rows"),
            ("params", json!([{ "method": "tome", "params": {} }]), "step 2, params[1]", "not tome"),
            ("view", json!("rear"), "step 2, view", "importance"),
            ("parts", json!(["spare"]), "step 2, parts", "retention"),
            ("rows", json!(["oars"]), "step 2, rows", "words"),
            ("head", json!([1]), "step 2, head", "layer and head"),
            ("layer", json!("all"), "step 2, layer", "end"),
            ("round", json!(0), "step 2, round", "from 1"),
            ("threshold", json!(2), "step 2, threshold", "0 to 1"),
            ("scale", json!("cubic"), "step 2, scale", "rank"),
            ("select", json!([""]), "step 2, select[1]", "token"),
            ("drill", json!({ "level": 1 }), "step 2, drill.token", "missing"),
            ("drill", json!({ "level": 1, "token": 0, "head": 1 }), "step 2, drill.head", "edge"),
            ("at", json!({}), "step 2, at", "which place"),
            ("at", json!({ "view": "rear" }), "step 2, at.view", "importance"),
            ("at", json!([{ "part": "spare" }]), "step 2, at[1].part", "retention"),
            ("at", json!({ "control": "x", "nth": 0 }), "step 2, at.nth", "from 1"),
            ("needs", json!(["luck"]), "step 2, needs", "reads_image"),
            ("claims", json!([{ "luck": {}, "is": 1 }]), "step 2, claims[1].luck", "predicts"),
            ("claims", json!([{ "tokens": {} }]), "step 2, claims[1]", "above"),
            ("claims", json!([{ "is": 3 }]), "step 2, claims[1]", "tokens"),
            ("claims", json!([{ "tokens": {}, "bytes": {}, "is": 1 }]), "step 2, claims[1]", "known"),
            ("claims", json!([{ "predicts": {}, "is": "x" }]), "step 2, claims[1].predicts.at", "missing"),
            ("claims", json!([{ "predicts": { "at": 0, "rank": 9 }, "is": "x" }]), "claims[1].predicts.rank", "1 to 8"),
            ("claims", json!([{ "hit": { "method": "tome" }, "is": true }]), "claims[1].hit.method", "tome"),
            ("claims", json!([{ "hit": { "params": {} }, "is": true }]), "claims[1].hit.params", "name the method"),
            ("claims", json!([{ "attention": { "head": [0, 0] }, "is": 1 }]), "claims[1].attention.to", "back"),
        ] {
            let why = with(key, value.clone());
            assert!(why.contains(place) && why.contains(words) && why.ends_with("t.json"), "{key} {value}: {why}");
        }
        let parse = |text: &str| Lesson::parse(Path::new("t.json"), None, text).unwrap_err().to_string();
        for (text, words) in [
            ("", "no JSON"),
            ("[]", "a list"),
            (r#"{ "title": "T", "about": "A." }"#, "steps"),
            (r#"{ "title": "T", "about": "A.", "steps": [] }"#, "1 to"),
            (r#"{ "about": "A.", "steps": [{ "says": "s" }] }"#, "title"),
            (r#"{ "title": "T", "about": "A.", "steps": [{ "says": "s" }], "luck": 1 }"#, "luck"),
        ] {
            assert!(parse(text).contains(words), "{text}: {}", parse(text));
        }
        // A view that only one step shows is no place of another.
        let alone = json!([{ "says": "s", "view": "flow", "at": { "view": "drafts" } }]);
        assert!(lesson(alone).unwrap_err().to_string().contains("only flow is shown"));
    }

    #[test]
    fn what_a_step_sets_stays_for_the_next_and_what_is_its_own_does_not() {
        let l = lesson(json!([
        { "says": "a", "example": "refrain", "methods": [{ "method": "tome", "params": { "r": 3 } }], "view": "flow",
          "head": [1, 2], "select": [1], "needs": ["writes"], "at": { "view": "flow" } },
        { "says": "b", "prompt": "x", "params": [{ "method": "tome", "params": { "r": 5 } }] },
        { "says": "c", "view": "all", "image": "scene:3" },
        { "says": "d", "example": "recall" },
    ]))
    .unwrap();
        let pane = |i: usize| l.steps[i].pane(None);
        assert_eq!(pane(0).cursor.head, (1, 2));
        let r = |i: usize| pane(i).call(Kind::Reduce).params.to_json()["r"].clone();
        assert_eq!((r(0), r(1), r(2)), (json!(3), json!(5), json!(5)));
        assert_eq!((&*pane(1).run.prompt, &*pane(2).run.prompt), ("x", "x"));
        assert_eq!((l.steps[1].view, l.steps[2].view), (l.steps[0].view, None));
        assert!(l.steps[0].aims() && !l.steps[1].aims() && l.steps[1].at.is_empty() && l.steps[1].needs.is_empty());
        assert!(pane(2).run.image.is_some() && pane(3).run.image.is_none());
        assert_ne!(pane(3).call(Kind::Reduce).method, "tome");
        // On a model of the user's all else stays.
        let own = ModelSource::Path("/m".into());
        assert_eq!(l.steps[0].pane(Some(&own)).run.model, own);
        assert_eq!(l.steps[0].pane(Some(&own)).run.prompt, pane(0).run.prompt);
    }

    #[test]
    fn a_step_says_what_a_model_lacks() {
        let l = Arc::new(lesson(json!([{ "says": "a", "model": "sample-vlm", "needs": ["reads_image"] }])).unwrap());
        let why = checks(&l, 0, Some(ModelSource::Sample("sample-lm"))).lacks.clone();
        assert!(why.is_some_and(|w| w.contains("reads an image")));
    }

    #[test]
    fn lessons_of_a_folder_are_found_and_broken_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let good = r#"{ "title": "Mine", "about": "A.", "steps": [{ "says": "s", "image": "a.png" }] }"#;
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("mine.json", good);
        write("tokens.json", good);
        write("bad.json", r#"{ "title": "Mine", "about": "A.", "steps": [{ "say": "s" }] }"#);
        write("note.txt", "no lesson");
        let mut all = own();
        let n = all.len();
        let wrong = add_from(dir.path(), &mut all);
        assert_eq!((all.len(), wrong.len()), (n + 1, 1));
        assert!(wrong[0].to_string().contains("step 1") && wrong[0].file.ends_with("bad.json"));
        assert_eq!(all.iter().find(|l| l.id == "tokens").map(|l| l.title.as_str()), Some("Mine"));
        // Files that it names lie beside it.
        let mine = all.iter().find(|l| l.id == "mine").unwrap();
        let image = mine.steps[0].pane(None).run.image;
        assert_eq!(image, Some(crate::picture_source::PictureSource::File(dir.path().join("a.png"))));
        assert!(!mine.is_own());
        assert!(is_lesson(&dir.path().join("mine.json")) && is_lesson(&dir.path().join("bad.json")));
        write("tokenizer.json", r#"{ "model": { "vocab": { "steps": 1, "says": 2 } } }"#);
        write("half.json", &good[..40]);
        for other in ["tokenizer.json", "half.json", "note.txt", "nowhere.json"] {
            assert!(!is_lesson(&dir.path().join(other)), "{other}");
        }
        assert!(Lesson::open(&dir.path().join("nowhere.json")).is_err_and(|w| w.to_string().contains("no such file")));
    }
}
