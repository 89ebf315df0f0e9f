//! Methods on real models: what a reduction does inside a forward pass, and what a draft tree's verification gives.

mod cancel;
mod cuts;
mod drafts;
mod flows;
mod gradients;
mod lossless;
mod reductions;
