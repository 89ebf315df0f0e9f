//! Methods on real models: what a reduction does inside a forward pass, what a draft tree's verification gives, and how
//! masks are filled in.

mod cancel;
mod cuts;
mod drafts;
mod flows;
mod gradients;
mod lossless;
mod masks;
mod reductions;
mod schedules;
