//! Methods on real models: what a reduction does inside a forward pass, and what a draft tree's verification gives.

mod drafts;
mod lossless;
mod reductions;
