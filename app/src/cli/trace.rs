//! The verb `trace`: run a model once and write what it left behind.

use super::common;
use anyhow::{Context as _, bail};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::array::Array;
use tokenscope_analysis::image::{ImageInput, Processor};
use tokenscope_analysis::model::LogitRows;
use tokenscope_analysis::names::{Named, to_transformers};
use tokenscope_analysis::run::{NO_TOKENIZER, RunRequest, run as run_model};
use tokenscope_analysis::save::spares;
use tokenscope_analysis::trace::{CaptureSpec, Site, Tower, write_tensors, write_trace};

/// Arguments of `trace`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model folder, GGUF file, or the name of a sample model
    #[arg(long)]
    model: OsString,
    /// Tokenizer to cut the text with instead of the model's own: a file, a folder, or a built-in vocabulary
    #[arg(long, value_name = "NAME")]
    tokenizer: Option<OsString>,
    /// Text for the model
    #[arg(long)]
    prompt: Option<String>,
    /// Second text, for models that read pairs
    #[arg(long, requires = "prompt")]
    pair: Option<String>,
    /// JSON file {"input_ids": [...], "token_type_ids": [...]} or [...] instead of a text, - for standard input; a batch
    /// of one is taken, too
    #[arg(long, conflicts_with = "prompt")]
    ids: Option<PathBuf>,
    #[command(flatten)]
    image: common::Images,
    /// Safetensors file whose `pixel_values` ([3, h, w] or [tiles, 3, h, w]) are the image, already processed
    #[arg(long, conflicts_with = "image")]
    pixel_values: Option<PathBuf>,
    /// Sites to keep, comma-separated (resid_pre,q,k,v,z,attn_out,resid_mid,mlp_out,resid_post,final,logits); default: what the views need
    #[arg(long, value_delimiter = ',')]
    sites: Vec<String>,
    /// Layers to keep, counted from 0, as 0,2,10-15; default: all
    #[arg(long, value_delimiter = ',')]
    layers: Vec<String>,
    /// Tokens whose logits are kept: all, last, none, or indices as 0,4,7; default: the last one, and all of them
    /// under the names of transformers
    #[arg(long)]
    logits: Option<String>,
    /// Continue with this many most probable tokens
    #[arg(long, default_value_t = 0)]
    greedy: usize,
    /// Write tensors under the names of Hugging Face transformers instead of a trace file
    #[arg(long, value_parser = ["transformers"])]
    names: Option<String>,
    /// File to write (safetensors)
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    weights: common::Numbered,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    let inputs = [Some(Path::new(&args.model)), args.ids.as_deref(), args.pixel_values.as_deref()];
    spares(&args.out, &inputs.into_iter().flatten().chain(args.image.paths()).collect::<Vec<_>>())?;
    let mut open = common::open(&args.model, args.weights)?;
    if let Some(name) = &args.tokenizer {
        open.tokenizer = Some(common::tokenizer(name)?);
    }
    let mut request = RunRequest { prompt: args.prompt, pair: args.pair, greedy: args.greedy, ..RunRequest::default() };
    if let Some(path) = &args.ids {
        if !args.image.is_none() {
            bail!(
                "--ids beside --image: give the text as --prompt, in which the picture gets its place, or the picture as --pixel-values"
            );
        }
        let json: serde_json::Value = match path.as_os_str() == "-" {
            true => serde_json::from_str(&common::text(path)?).context("standard input is no JSON")?,
            false => tokenscope_analysis::weights::read_json(path)?,
        };
        request.ids = list_of(json.get("input_ids").or_else(|| json.is_array().then_some(&json)), "input_ids", path)?;
        request.token_types = list_of(json.get("token_type_ids"), "token_type_ids", path)?;
        if request.ids.is_none() {
            bail!("the file has no input_ids: {}", path.display());
        }
    }
    let info = open.model.info();
    if !info.towers.contains_key(&Tower::Text) {
        let of_text = [("--prompt", request.prompt.is_some()), ("--ids", request.ids.is_some())];
        let given = of_text.into_iter().chain([("--tokenizer", args.tokenizer.is_some())]).find(|(_, given)| *given);
        if let Some((option, _)) = given {
            bail!(
                "{option}: {} reads pictures and no text; leave it out, or choose another --model",
                info.architecture
            );
        }
    }
    // Beside a picture they say which tokens are its own, which is known.
    let segments = request.token_types.as_ref().is_some_and(|t| t.iter().any(|t| *t != 0));
    if segments && !open.model.reads_segments() && open.model.image_token().is_none() {
        bail!("{} tells no texts apart; leave token_type_ids out of the file of --ids", info.architecture);
    }
    if args.logits.is_some() && info.vocab == 0 {
        bail!("--logits: {} gives no logits over a vocabulary; leave it out", info.architecture);
    }
    if request.prompt.is_some() && info.towers.contains_key(&Tower::Text) && open.tokenizer.is_none() {
        match open.unread {
            Some(why) => return Err(why.into()),
            None => bail!("{NO_TOKENIZER}, or give token ids with --ids: {}", args.model.display()),
        }
    }
    if let Some(path) = &args.pixel_values {
        if !info.towers.contains_key(&Tower::Vision) {
            bail!("--pixel-values: {} reads no images; choose another --model", info.architecture);
        }
        request.image = Some(ImageInput::from_pixel_values(path)?);
    }
    let picture = args.image.source()?;
    let picture = picture.map(|source| common::add_picture(&open, &mut request, &source)).transpose()?;
    let most = info.towers.values().map(|t| t.n_layers).max().unwrap_or(0);
    let spec = CaptureSpec { layers: layers(&args.layers, most)?, ..spec(&args.sites)? };
    request.logits = Some(match args.logits.as_deref() {
        Some("all") => LogitRows::All,
        Some("last") => LogitRows::Last,
        Some("none") => LogitRows::None,
        Some(list) => LogitRows::These(
            list.split(',')
                .map(|i| i.trim().parse().with_context(|| format!("--logits {list}: all, last, none, or indices")))
                .collect::<anyhow::Result<_>>()?,
        ),
        None if args.names.is_some() => LogitRows::All,
        None => LogitRows::Last,
    });
    let run = |ctx: &Ctx| {
        open.notes().for_each(|n| ctx.note(n.clone()));
        run_model(open.model.as_ref(), open.tokenizer.as_ref(), &request, &spec, ctx)
    };
    // What has no room in memory waits where the file is to be.
    let folder = args.out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut trace = common::on_processor(|ctx| match folder.is_dir() {
        true => run(&ctx.clone().spilling_to(folder)),
        false => run(ctx),
    })?;
    trace.picture = picture.map(Into::into);
    trace.dtype = Some(open.model.info().numbers.computed().into());
    common::notes(&trace.notes);
    if args.names.is_none() {
        return Ok(write_trace(&trace, &args.out)?);
    }
    let mut named = common::on_processor(|ctx| to_transformers(&trace, ctx))?;
    if let Some(image) = &request.image
        && let Some((mut pixels, beside)) = image.to_arrays()?
    {
        // Only models that cut pictures into tiles, or read several, have an axis for them.
        let many = image.tiles.len() > 1 || !image.rest.is_empty();
        let tiled = many || open.processor.as_ref().is_some_and(Processor::has_tiles);
        if !tiled && image.grid.is_none() {
            let shape = pixels.shape()[1..].to_vec();
            pixels = Array::new(shape, pixels.into_data())?;
        }
        named.push(("pixel_values".into(), Named::Float(pixels.into())));
        named.extend(beside.into_iter().map(|(name, values)| (name.into(), Named::Int(values))));
    }
    let tensors: Vec<_> = named
        .iter()
        .map(|(name, t)| {
            let (dtype, shape, bytes) = match t {
                Named::Float(a) => (safetensors::Dtype::F32, a.shape().to_vec(), bytemuck::cast_slice(a.data())),
                Named::Int(v) => (safetensors::Dtype::I64, vec![v.len()], bytemuck::cast_slice(v)),
                Named::Table(v, n) => (safetensors::Dtype::I64, vec![v.len() / n.max(&1), *n], bytemuck::cast_slice(v)),
            };
            (name.clone(), dtype, shape, bytes)
        })
        .collect();
    Ok(write_tensors(&args.out, &tensors, None)?)
}

/// A list of ids, or a batch of one such list, as transformers writes it.
fn list_of(v: Option<&serde_json::Value>, key: &str, path: &Path) -> anyhow::Result<Option<Vec<u32>>> {
    let Some(v) = v else { return Ok(None) };
    let batch = v.as_array().filter(|l| l.first().is_some_and(serde_json::Value::is_array));
    let one = match batch {
        Some(many) if many.len() > 1 => {
            bail!("{key} is a batch of {}; a run reads one text: {}", many.len(), path.display())
        }
        Some(one) => &one[0],
        None => v,
    };
    let ids = serde_json::from_value(one.clone());
    ids.map(Some).with_context(|| format!("{key} is not a list of ids: {}", path.display()))
}

/// The layers that a list names, all of which must be there; `None` for no list.
fn layers(list: &[String], most: usize) -> anyhow::Result<Option<BTreeSet<usize>>> {
    if list.is_empty() {
        return Ok(None);
    }
    let mut out = BTreeSet::new();
    for part in list {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number =
            |text: &str| text.trim().parse::<usize>().with_context(|| format!("--layers {part}: as 0,2,10-15"));
        let (first, last) = (number(first)?, number(last)?);
        if last >= most || first > last {
            bail!("--layers {part}: the model has the layers 0 to {}", most.saturating_sub(1));
        }
        out.extend(first..=last);
    }
    Ok(Some(out))
}

fn spec(sites: &[String]) -> anyhow::Result<CaptureSpec> {
    if sites.is_empty() {
        return Ok(CaptureSpec::views());
    }
    let mut keep = Vec::new();
    for name in sites {
        let known = || Site::ALL.map(Site::name).join(", ");
        keep.push(Site::parse(name).with_context(|| format!("no site named {name}; known: {}", known()))?);
    }
    Ok(CaptureSpec::sites(&keep))
}
