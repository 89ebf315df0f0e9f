//! Arithmetic that several methods share and that no shader does: greedy choices over a matrix of cosines, clusters,
//! outliers, pooling and interpolation of grids, eigenvalues. The quadratic part of these is a pass.

pub mod cluster;
pub mod eigenvalues;
pub mod greedy;
pub mod outliers;
pub mod resample;
