//! Passes: the heavy loops over traces, each a plain f64 loop, a fast CPU path and a shader of the same name.
//!
//! A pass `x` is `shaders/x.wgsl`, `x.rs` with `cpu`, `fast` (where it matters), `gpu` and `run` (the side that
//! [`crate::Ctx`] chooses), and a line in [`ALL`]. Tests walk the list: they compare the parameter structs of both
//! languages, validate the shaders, and run every sample of every pass on all sides. Arithmetic without a shader that
//! methods share lies in [`host`].

pub mod attention;
pub mod attention_map;
pub mod attention_received;
pub mod attention_row_stats;
pub mod attention_tile;
pub mod bipartite_matching;
pub mod cosine_matrix;
pub mod cosine_transform;
pub mod farthest_first;
pub mod host;
pub mod marginal_relevance;
pub mod nearest_centre;
pub mod pair_energy;
pub mod rollout_product;
pub mod row_entropy;
pub mod samples;
pub mod segment_reduce;
mod shared;
mod single;
pub mod top_k;
pub mod value_counts;

use crate::array::Array;
use crate::ctx::Ctx;
use crate::gpu::{Kernel, Layout, Side};
use crate::{Error, Result};

/// What every pass says about itself, for the tests and for `tokenscope doctor`.
pub trait Pass: Sync {
    /// Name of the pass, of its file and of its shader.
    fn name(&self) -> &'static str;
    /// Its kernels, each with the struct that Rust fills and WGSL reads as parameters.
    fn kernels(&self) -> Vec<(Kernel, Layout)>;
    /// Small inputs of awkward sizes, to run on any side.
    fn samples(&self) -> Vec<Sample>;
}

type RunSample = Box<dyn Fn(Side, &Ctx) -> Result<Vec<f64>> + Send + Sync>;

/// One input of a pass, ready to run on any side.
pub struct Sample {
    /// What is special about it.
    pub name: String,
    /// Largest difference to the f64 loop that f32 arithmetic explains, in units of 1 + |value|.
    pub tolerance: f64,
    run: RunSample,
}

impl Sample {
    fn new(
        name: impl Into<String>,
        tolerance: f64,
        run: impl Fn(Side, &Ctx) -> Result<Vec<f64>> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), tolerance, run: Box::new(run) }
    }

    /// Largest difference of `side` to the plain f64 loop in units of 1 + |value|, and how many values there are.
    /// Results of different lengths, and NaN where the loop has a number, differ infinitely.
    pub fn difference(&self, side: Side, ctx: &Ctx) -> Result<(f64, usize)> {
        let (want, got) = (self.run(Side::Cpu, ctx)?, self.run(side, ctx)?);
        if got.len() != want.len() {
            return Ok((f64::INFINITY, want.len()));
        }
        let off = |(g, w): (&f64, &f64)| {
            let d = (g - w).abs() / (1.0 + w.abs());
            if d.is_nan() { f64::INFINITY } else { d }
        };
        Ok((got.iter().zip(&want).map(off).fold(0.0, f64::max), want.len()))
    }

    /// The result on one side as a flat list.
    pub fn run(&self, side: Side, ctx: &Ctx) -> Result<Vec<f64>> {
        (self.run)(side, ctx)
    }
}

/// Number of the tokens whose cosines with each other these are. Errors: they are no square.
fn tokens_of(cosines: &Array) -> Result<usize> {
    let [n, m] = cosines.dims("cosines")?;
    if n != m {
        return Err(Error::shape("cosines", format!("[{n}, {n}]"), cosines.shape()));
    }
    Ok(n)
}

/// Every pass, alphabetical.
pub static ALL: &[&dyn Pass] = &[
    &attention_received::AttentionReceived,
    &attention_row_stats::AttentionRowStats,
    &attention_tile::AttentionTile,
    &bipartite_matching::BipartiteMatching,
    &cosine_matrix::CosineMatrix,
    &cosine_transform::CosineTransform,
    &farthest_first::FarthestFirst,
    &marginal_relevance::MarginalRelevance,
    &nearest_centre::NearestCentre,
    &pair_energy::PairEnergy,
    &rollout_product::RolloutProduct,
    &row_entropy::RowEntropy,
    &segment_reduce::SegmentReduce,
    &top_k::TopK,
    &value_counts::CountsOfValues,
];
