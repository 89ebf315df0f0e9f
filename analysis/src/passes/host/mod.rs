//! Arithmetic that several methods share and that no shader does: greedy choices over a matrix of cosines, clusters,
//! outliers, cosine transforms, pooling and interpolation of grids, eigenvalues. The quadratic part of these is a pass.

pub mod cluster;
pub mod cosine_transform;
pub mod eigenvalues;
pub mod energy;
pub mod greedy;
pub mod outliers;
pub mod resample;
