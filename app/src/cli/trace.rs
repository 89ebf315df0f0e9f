//! The verb `trace`: run a model once and write what it left behind.

use super::common;
use crate::picture_source::PictureSource;
use anyhow::{Context as _, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::array::Array;
use tokenscope_analysis::image::ImageInput;
use tokenscope_analysis::model::LogitRows;
use tokenscope_analysis::names::{Named, to_transformers};
use tokenscope_analysis::run::{RunRequest, run as run_model};
use tokenscope_analysis::save::spares;
use tokenscope_analysis::trace::{CaptureSpec, Site, write_tensors, write_trace};

/// Arguments of `trace`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model folder
    #[arg(long)]
    model: PathBuf,
    /// Text for the model
    #[arg(long)]
    prompt: Option<String>,
    /// Second text, for models that read pairs
    #[arg(long, requires = "prompt")]
    pair: Option<String>,
    /// JSON file {"input_ids": [...], "token_type_ids": [...]} instead of a text
    #[arg(long, conflicts_with = "prompt")]
    ids: Option<PathBuf>,
    /// Picture (PNG, JPEG, WebP, BMP, GIF, or a drawn scene as scene:SEED) for models that read images
    #[arg(long, conflicts_with = "pixel_values")]
    image: Option<OsString>,
    /// Safetensors file whose `pixel_values` ([3, h, w] or [tiles, 3, h, w]) are the image, already processed
    #[arg(long)]
    pixel_values: Option<PathBuf>,
    /// Sites to keep, comma-separated (resid_pre,q,k,v,z,attn_out,resid_mid,mlp_out,resid_post,final,logits); default: what the views need
    #[arg(long, value_delimiter = ',')]
    sites: Vec<String>,
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
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    let pictures = args.image.as_ref().map(Path::new);
    let inputs = [Some(args.model.as_path()), args.ids.as_deref(), args.pixel_values.as_deref(), pictures];
    spares(&args.out, &inputs.into_iter().flatten().collect::<Vec<_>>())?;
    let open = common::open(&args.model)?;
    let mut request = RunRequest { prompt: args.prompt, pair: args.pair, greedy: args.greedy, ..RunRequest::default() };
    if let Some(path) = &args.ids {
        let json = tokenscope_analysis::weights::read_json(path)?;
        let list = |key: &str| -> anyhow::Result<Option<Vec<u32>>> {
            let Some(v) = json.get(key) else { return Ok(None) };
            let ids = serde_json::from_value(v.clone())
                .with_context(|| format!("{key} is not a list of ids: {}", path.display()))?;
            Ok(Some(ids))
        };
        request.ids = list("input_ids")?;
        request.token_types = list("token_type_ids")?;
        if request.ids.is_none() {
            bail!("the file has no input_ids: {}", path.display());
        }
    }
    if let Some(path) = &args.pixel_values {
        request.image = Some(ImageInput::from_pixel_values(path)?);
    }
    if let Some(source) = PictureSource::parse_some(args.image)? {
        common::add_picture(&open, &mut request, &source)?;
    }
    let spec = spec(&args.sites)?;
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
    let run = |ctx: &Ctx| run_model(open.model.as_ref(), open.tokenizer.as_ref(), &request, &spec, ctx);
    let trace = common::working(run)??;
    if args.names.is_none() {
        return Ok(write_trace(&trace, &args.out)?);
    }
    let mut named = to_transformers(&trace)?;
    if let (Some(image), Some(processor)) = (&request.image, &open.processor) {
        let pixels = candle_core::Tensor::stack(&image.tiles, 0)?;
        let pixels = if processor.has_tiles() { pixels } else { pixels.squeeze(0)? };
        named.push(("pixel_values".into(), Named::Float(Array::from_tensor(&pixels)?.into())));
    }
    let tensors: Vec<_> = named
        .iter()
        .map(|(name, t)| {
            let (dtype, shape, bytes) = match t {
                Named::Float(a) => (safetensors::Dtype::F32, a.shape().to_vec(), bytemuck::cast_slice(a.data())),
                Named::Int(v) => (safetensors::Dtype::I64, vec![v.len()], bytemuck::cast_slice(v)),
            };
            (name.clone(), dtype, shape, bytes)
        })
        .collect();
    Ok(write_tensors(&args.out, &tensors, None)?)
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
