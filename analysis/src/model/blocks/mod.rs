//! The parts that every family is put together from; each taps its own sites.

mod activation;
mod attention;
mod basic;
mod bias;
mod config;
mod cpu;
mod experts;
mod from_file;
mod frozen;
mod heads;
mod heads_back;
mod latent;
mod rope;
mod scan;
mod stack;

pub use activation::Activation;
pub use attention::{Attention, AttentionMask, Slopes};
pub use basic::{Linear, Mlp, Norm, Scope, embedding, look_up, mlp_rows};
pub use bias::{Bias, Buckets};
pub use config::{Config, Defaults};
pub use experts::{Clamped, Experts, FeedForward, Groups, Names, Shares};
pub use from_file::scratch_bytes;
pub use latent::{Latent, Pairs};
pub use rope::{Part, Places, Rope, centres};
pub use scan::{Recurrence, Steps};
pub use stack::{Block, Deep, Joins, Order, Pass, Stack, apply_regroup};
