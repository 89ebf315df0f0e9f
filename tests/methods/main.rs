//! Methods on real models: what a reduction does inside a forward pass, and what a draft tree's verification gives.

mod cancel;
mod drafts;
mod flows;
mod lossless;
mod reductions;
