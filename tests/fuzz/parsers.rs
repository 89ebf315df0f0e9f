//! The parsers of the program, each with inputs to begin with and what reads one.

use crate::driver::Parser;
use crate::entries::{copy_into, copy_of, open_and_run, process};
use crate::mutate::Form;
use serde_json::{Map, Value, json as value};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokenscope_analysis::array::Array;
use tokenscope_analysis::image::Picture;
use tokenscope_analysis::model::load;
use tokenscope_analysis::raw::RawInput;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::series::Series;
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{CaptureSpec, read_trace, write_trace};
use tokenscope_analysis::weights::Weights;
use tokenscope_analysis::{Ctx, catalog};
use tokenscope_app::picture_source::PictureSource;
use tokenscope_app::recents::Recents;
use tokenscope_app::session::{Session, Snapshot, Window, Writer};
use tokenscope_app::settings::Settings;
use tokenscope_app::state::{Command, Doc, Pin};
use tokenscope_tests::{golden, json, root, tensors};

/// Every parser, alphabetical.
pub const ALL: &[Parser] = &[
    CONFIG, GGUF, PICTURE, PIECES, PROCESSOR, RAW, SERIES, SESSION, SETTINGS, SHARDS, SIDECAR, TOKENIZER, TRACE,
    WEIGHTS,
];

fn words_of(e: impl std::fmt::Display) -> String {
    e.to_string()
}

fn models(name: &str) -> PathBuf {
    golden().join("models").join(name)
}

fn field(name: &str) -> PathBuf {
    golden().join("../field").join(name)
}

fn bytes(path: PathBuf) -> Vec<u8> {
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn parsed(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(words_of)
}

/// `config.json` of each family, with the family's own weights beside it.
const CONFIG: Parser = Parser {
    name: "config",
    form: Form::Json,
    words: &["rope_scaling", "rope_parameters", "factor", "yarn", "layer_types", "vision_config", "text_config"],
    seeds: || {
        let families = ["bert", "gpt2", "llama_rope_scaled", "qwen3", "vit", "clip", "dinov2", "llava"];
        let further = ["settings/gemma3_ropes", "settings/phi3_longrope", "settings/opt_after"];
        let of = |f: &&str| value!({"folder": f, "config": json(&models(f).join("config.json"))}).to_string().into();
        families.iter().chain(&further).map(of).collect()
    },
    open: |_| {
        let mut folders: HashMap<String, tempfile::TempDir> = HashMap::new();
        let request = RunRequest { ids: Some(vec![1, 5, 2, 5]), ..RunRequest::default() };
        Box::new(move |bytes| {
            let v = parsed(bytes)?;
            let name = v["folder"].as_str().filter(|f| models(f).join("config.json").is_file()).unwrap_or("llama");
            let folder = folders.entry(name.into()).or_insert_with(|| copy_of(&models(name)));
            std::fs::write(folder.path().join("config.json"), v["config"].to_string()).map_err(words_of)?;
            open_and_run(folder.path(), &request)
        })
    },
};

/// Header, metadata, vocabulary and tensors of a GGUF file.
const GGUF: Parser = Parser {
    name: "gguf",
    form: Form::Bytes,
    words: &["GGUF", "general.architecture", "tokenizer.ggml.model", "llama.rope.dimension_count", "gpt2", "qwen2"],
    seeds: || vec![bytes(models("gguf/llama_spm").join("model-q8_0.gguf"))],
    open: |folder| {
        let file = folder.join("m.gguf");
        Box::new(move |bytes| {
            std::fs::write(&file, bytes).map_err(words_of)?;
            let weights = Weights::open(&file).map_err(words_of)?;
            let tokens = Tokenizer::load(&file).and_then(|t| t.encode("12 trains, über", None, true));
            let tokens = tokens.map_or_else(words_of, |e| format!("{} tokens", e.ids.len()));
            Ok(format!("{} entries, {tokens}", weights.config().len()))
        })
    },
};

/// Files of pictures: what the decoder hands over is checked by the program.
const PICTURE: Parser = Parser {
    name: "picture",
    form: Form::Bytes,
    words: &["IHDR", "IDAT", "PLTE", "tRNS", "iCCP", "VP8 ", "VP8L", "RIFF", "GIF89a", "BM"],
    seeds: || {
        let entries = std::fs::read_dir(models("bad_inputs/images")).unwrap().map(|e| e.unwrap().path());
        let mut files: Vec<PathBuf> = entries.filter(|p| p.is_file()).collect();
        files.sort();
        files.into_iter().map(bytes).filter(|b| b.len() < 60_000).collect()
    },
    open: |_| Box::new(|bytes| Picture::decode(bytes).map(|p| format!("{} x {}", p.width, p.height))),
};

/// `preprocessor_config.json` and `processor_config.json`, applied to a small picture and a prompt.
const PROCESSOR: Parser = Parser {
    name: "processor",
    form: Form::Json,
    words: &["size", "shortest_edge", "longest_edge", "crop_size", "do_resize", "resample", "image_mean", "do_pad"],
    seeds: || {
        let of = |family: &str| {
            let file = |name: &str| {
                let path = models(family).join(name);
                if path.exists() { json(&path) } else { Value::Null }
            };
            let (own, whole) = (file("preprocessor_config.json"), file("processor_config.json"));
            value!({"folder": family, "preprocessor": own, "processor": whole}).to_string().into_bytes()
        };
        ["vit", "clip", "siglip_vision", "dinov2", "llava", "smolvlm"].map(of).to_vec()
    },
    open: |folder| {
        let mut now = String::new();
        let folder = folder.to_path_buf();
        Box::new(move |bytes| {
            let v = parsed(bytes)?;
            let family = v["folder"].as_str().filter(|f| models(f).join("config.json").is_file()).unwrap_or("smolvlm");
            if now != family {
                copy_into(&models(family), &folder);
                now = family.into();
            }
            for (key, name) in [("preprocessor", "preprocessor_config.json"), ("processor", "processor_config.json")] {
                let path = folder.join(name);
                match &v[key] {
                    Value::Null => drop(std::fs::remove_file(path)),
                    settings => std::fs::write(path, settings.to_string()).map_err(words_of)?,
                }
            }
            process(&folder)
        })
    },
};

/// Raw entries of methods: arrays of any shape, ties and numbers that are none among them.
const RAW: Parser = Parser {
    name: "raw",
    form: Form::Json,
    words: &["equal", "zeros", "nan", "huge", "steps", "normal"],
    seeds: raw_seeds,
    open: |_| {
        Box::new(|bytes| {
            let v = parsed(bytes)?;
            let map = |key: &str| v[key].as_object().cloned().unwrap_or_default();
            let mut input = RawInput::default();
            (input.json, input.params) = (map("json"), map("params"));
            for (name, about) in map("arrays") {
                input.arrays.insert(name, array(&about)?);
            }
            let entry = v["entry"].as_str().unwrap_or_default();
            let adapter = catalog::raw(entry).map_err(|_| "no such entry")?;
            (adapter.run)(&input, &stopping()).map(|_| entry.to_string()).map_err(|e| format!("{entry}: {e}"))
        })
    },
};

/// A context that cancels what goes on for very long, as a user would.
fn stopping() -> Ctx {
    let (cancel, steps) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0));
    let flag = cancel.clone();
    let progress = move |_| {
        if steps.fetch_add(1, Ordering::Relaxed) > 20_000 {
            flag.store(true, Ordering::Relaxed);
        }
    };
    Ctx::new(cancel, Arc::new(progress)).with_room(|| 1 << 30)
}

/// Values of an array that are not worth writing out.
const MOST: usize = 1 << 16;

/// `{"shape": [2, 3], "kind": "normal"}`.
fn array(about: &Value) -> Result<Array, String> {
    let shape: Vec<usize> = serde_json::from_value(about["shape"].clone()).map_err(words_of)?;
    let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MOST).ok_or("too large")?;
    let of = |i: usize| match about["kind"].as_str() {
        Some("equal") => 0.5,
        Some("zeros") => 0.0,
        Some("nan") => f32::NAN,
        Some("huge") => f32::MAX,
        Some("steps") => (i % 3) as f32,
        // Spread by a multiplication, positive and negative.
        _ => (i.wrapping_mul(0x9E37_79B1) % 1000) as f32 / 500.0 - 1.0,
    };
    Array::new(shape, (0..n).map(of).collect()).map_err(words_of)
}

/// One input per golden case: its parameters, its JSON, the shapes of its arrays.
fn raw_seeds() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let folders = |dir: &Path| {
        let mut all: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        all.sort();
        all
    };
    for entry in folders(&golden().join("methods")).iter().flat_map(|family| folders(family)) {
        for case in folders(&entry) {
            let object = |name: &str| match case.join(name) {
                path if path.is_file() => json(&path).as_object().cloned().unwrap_or_default(),
                _ => Map::new(),
            };
            let mut params = object("params.json");
            for key in ["scalar_inputs", "params"] {
                params.extend(params.get(key).and_then(Value::as_object).cloned().unwrap_or_default());
            }
            let mut arrays = Map::new();
            if case.join("input.safetensors").is_file() {
                for (name, v) in tensors(&case.join("input.safetensors")) {
                    let kind = if v.whole { "steps" } else { "normal" };
                    arrays.insert(name, value!({"shape": v.shape, "kind": kind}));
                }
            }
            let name = entry.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let seed = value!({"entry": name, "params": params, "json": object("input.json"), "arrays": arrays});
            out.push(seed.to_string().into_bytes());
        }
    }
    out.retain(|seed| seed.len() < 64 << 10);
    out
}

/// An error of a table up to the name of the column, which is any text, so that it is of one kind.
fn of_no_column(e: impl std::fmt::Display) -> String {
    let words = e.to_string();
    let name = words.find(", column ").unwrap_or(words.len());
    let ends = [" is not a number", " is not a finite number"].map(|end| words[name..].contains(end));
    format!("{} {ends:?}", &words[..name])
}

/// Series from WAV files and tables.
const SERIES: Parser = Parser {
    name: "series",
    form: Form::Bytes,
    words: &["RIFF", "WAVE", "fmt ", "data", ";", "\t", "\"", "time", "1e999", "nan", "-0", "\r\n"],
    seeds: || {
        let head: &[u8] =
            b"RIFF\x34\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x40\x1f\0\0\0\x7d\0\0\x04\0\x10\0data\x10\0\0\0";
        let wave = [head, &[0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8]].concat();
        let tables = ["time,left,right\n0,1,2\n0.5,3,4\n1,5,6\n", "a;b\r\n1,5;\"2\"\r\n", "1\n2\n3\n", "x\ty\n1\t2\n"];
        std::iter::once(wave).chain(tables.map(|t| t.as_bytes().to_vec())).collect()
    },
    open: |folder| {
        let file = folder.join("series.csv");
        Box::new(move |bytes| {
            std::fs::write(&file, bytes).map_err(words_of)?;
            let names = Series::columns(&file).map_err(of_no_column)?;
            let last = Series::open(&file, names.last().map(String::as_str), None).map(|s| s.samples.len().min(3));
            let s = Series::open(&file, None, None).map_err(of_no_column)?;
            assert!(s.rate.is_finite() && s.samples.iter().all(|x| x.is_finite()), "{s:?}");
            Ok(format!("{} columns, {:?}, the last {:?}", names.len().min(4), s.samples.len().min(3), last.ok()))
        })
    },
};

/// Session files: lines that are damaged, cut off, of other kinds, of too much.
const SESSION: Parser = Parser {
    name: "session",
    form: Form::Bytes,
    words: &[
        "section", "pane", "pin", "window", "model", "input", "trace", "end", "data\":", "base64", "\n{", "cursor",
    ],
    seeds: || {
        let mut doc = Doc::default();
        doc.apply(Command::Image(Some(PictureSource::File(models("llava/image.png")))));
        doc.split();
        doc.pins = vec![Pin { name: "a".into(), pane: doc.pane().clone() }];
        let window = Window { alone: Some("flow".into()), ..Window::default() };
        let snapshot = Snapshot { doc, window, placed: Arc::default(), traces: Vec::new(), results: Vec::new() };
        let mut out = Vec::new();
        Writer::default().write(&snapshot, &mut out).unwrap();
        vec![bytes(root().join("tests/sessions/version1.tokenscope")), out]
    },
    open: |_| {
        Box::new(|bytes| {
            let session = Session::read(bytes).ok_or("no session")?;
            let window = session.window.layout.clone().map(|l| l.tree().is_some());
            let doc = serde_json::to_string(&session.doc).map_err(words_of)?;
            let again: Doc = serde_json::from_str(&doc).map_err(words_of)?;
            assert_eq!(again, session.doc, "what was read does not come back");
            let lost = session.lost.words().next().unwrap_or_default();
            Ok(format!("{} panes, {} pins, {window:?}, {lost}", session.doc.panes().len(), session.doc.pins.len()))
        })
    },
};

/// Settings and recent files of the window.
const SETTINGS: Parser = Parser {
    name: "settings",
    form: Form::Json,
    words: &["layout", "tree", "views", "zoom", "size", "models", "pictures"],
    seeds: || {
        let settings = serde_json::to_value(Settings { size: Some([900.0, 700.0]), ..Settings::default() }).unwrap();
        let recents = value!({"models": ["/a", "/b"], "pictures": ["/c.png"]});
        vec![value!({"settings": settings, "recents": recents}).to_string().into_bytes()]
    },
    open: |folder| {
        let folder = folder.to_path_buf();
        Box::new(move |bytes| {
            let v = parsed(bytes).unwrap_or_default();
            let text = |key: &str| v.get(key).map_or_else(|| bytes.to_vec(), |v| v.to_string().into_bytes());
            std::fs::write(folder.join("settings.json"), text("settings")).map_err(words_of)?;
            std::fs::write(folder.join("recent.json"), text("recents")).map_err(words_of)?;
            let (settings, why) = Settings::load_from(&folder);
            let tree = settings.layout.clone().map(|l| l.tree().is_some());
            let recents = Recents::load_from(&folder);
            let fits = settings.zoom.is_finite() && settings.size.is_none_or(|s| s.iter().all(|x| x.is_finite()));
            assert!(fits, "settings that no window can have: {settings:?}");
            why.map_or_else(|| Ok(format!("{tree:?}, {} models", recents.models.len().min(2))), Err)
        })
    },
};

/// The index of a checkpoint in several files.
const SHARDS: Parser = Parser {
    name: "shards",
    form: Form::Json,
    words: &["weight_map", "a.safetensors", "../a.safetensors", "/etc/passwd", "model.bin", "b\\a.safetensors"],
    seeds: || vec![br#"{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}"#.to_vec()],
    open: |folder| {
        let folder = folder.to_path_buf();
        std::fs::write(folder.join("config.json"), r#"{"model_type": "llama"}"#).unwrap();
        for (file, tensor) in [("a.safetensors", "x"), ("b.safetensors", "y")] {
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap();
            safetensors::serialize_to_file([(tensor, view)], None, &folder.join(file)).unwrap();
        }
        Box::new(move |bytes| {
            std::fs::write(folder.join("model.safetensors.index.json"), bytes).map_err(words_of)?;
            Weights::open(&folder).map(|w| format!("{} entries", w.config().len())).map_err(words_of)
        })
    },
};

/// `tokenizer.json`: the crate reads it, the program adds spellings, merges and offsets.
const TOKENIZER: Parser = Parser {
    name: "tokenizer",
    form: Form::Json,
    words: &["ByteLevel", "Metaspace", "BPE", "Unigram", "WordPiece", "added_tokens", "merges", "vocab", "decoder"],
    seeds: || ["bert", "gpt2", "llama", "smolvlm"].map(|f| bytes(models(f).join("tokenizer.json"))).to_vec(),
    open: |folder| {
        let file = folder.join("tokenizer.json");
        Box::new(move |bytes| {
            std::fs::write(&file, bytes).map_err(words_of)?;
            let t = Tokenizer::load(&file).map_err(words_of)?;
            let e = t.encode("A train, über 12 Brücken. 🚂 e\u{301}", None, true).map_err(words_of)?;
            let merges = t.merges(300).is_some();
            let _ = (t.token_text(3), t.decode(&[1, 2, 900], true));
            Ok(format!("{} ids, merges {merges}", e.ids.len().min(9)))
        })
    },
};

/// SentencePiece models.
const PIECES: Parser = Parser {
    name: "pieces",
    form: Form::Bytes,
    words: &["<unk>", "<s>", "<0x0A>"],
    seeds: || ["bpe", "unigram"].map(|k| bytes(field("sentencepiece-only").join(k).join("tokenizer.model"))).to_vec(),
    open: |folder| {
        let file = folder.join("tokenizer.model");
        Box::new(move |bytes| {
            std::fs::write(&file, bytes).map_err(words_of)?;
            let e = Tokenizer::load(&file).map_err(words_of)?.encode("A  train ü.", None, true).map_err(words_of)?;
            Ok(format!("{} ids", e.ids.len().min(9)))
        })
    },
};

/// `tokenizer_config.json` beside a `tokenizer.json`.
const SIDECAR: Parser = Parser {
    name: "sidecar",
    form: Form::Json,
    words: &[
        "add_bos_token",
        "do_lower_case",
        "added_tokens_decoder",
        "content",
        "add_prefix_space",
        "split_special_tokens",
    ],
    seeds: || {
        let cases = ["added-tokens-decoder/model", "lowercase-config/model", "bos-config/no-bos"];
        cases.map(|c| bytes(field(c).join("tokenizer_config.json"))).to_vec()
    },
    open: |folder| {
        let whole = std::fs::copy(field("added-tokens-decoder/model/tokenizer.json"), folder.join("tokenizer.json"));
        let (file, folder) = (folder.join("tokenizer_config.json"), folder.to_path_buf());
        Box::new(move |bytes| {
            whole.as_ref().map_err(words_of)?;
            std::fs::write(&file, bytes).map_err(words_of)?;
            let e = Tokenizer::load(&folder).map_err(words_of)?.encode("a <s>[MASK]", None, true).map_err(words_of)?;
            Ok(format!("{} ids", e.ids.len().min(9)))
        })
    },
};

/// Recorded runs.
const TRACE: Parser = Parser {
    name: "trace",
    form: Form::Safetensors,
    words: &["tokenscope_trace", "__metadata__", "data_offsets", "shape", "rows", "towers", "grids", "F32"],
    seeds: || {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.safetensors");
        let model = load(&models("qwen3"), &candle_core::Device::Cpu).unwrap();
        let request = RunRequest { ids: Some((1..5).collect()), greedy: 2, ..RunRequest::default() };
        let trace = run(model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).unwrap();
        write_trace(&trace, &file).unwrap();
        vec![bytes(file)]
    },
    open: |folder| {
        let file = folder.join("t.safetensors");
        Box::new(move |bytes| {
            std::fs::write(&file, bytes).map_err(words_of)?;
            let trace = read_trace(&file, &tokenscope_analysis::Ctx::default()).map_err(words_of)?;
            Ok(format!("{} towers, {} arrays", trace.towers.len(), trace.arrays.len()))
        })
    },
};

/// Weights: what the crate lets through is read, converted and run.
const WEIGHTS: Parser = Parser {
    name: "weights",
    form: Form::Safetensors,
    words: &["F16", "BF16", "F64", "I64", "U8", "F8_E4M3", "data_offsets", "shape", "dtype"],
    seeds: || vec![bytes(models("settings/llama_yarn_opts").join("model.safetensors"))],
    open: |folder| {
        copy_into(&models("settings/llama_yarn_opts"), folder);
        let folder = folder.to_path_buf();
        let request = RunRequest { ids: Some(vec![1, 5, 2, 5]), ..RunRequest::default() };
        Box::new(move |bytes| {
            std::fs::write(folder.join("model.safetensors"), bytes).map_err(words_of)?;
            open_and_run(&folder, &request)
        })
    },
};
