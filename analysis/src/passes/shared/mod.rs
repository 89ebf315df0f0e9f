//! What several passes share of how they ask the GPU, one file for each of the shaders in `shaders/shared` that has more
//! than a function.

pub(super) mod best_right;
