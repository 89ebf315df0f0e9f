//! Data of our own making, with the truth about it: drawn [`scenes`] with questions, [`signals`] of changing voices, and
//! [`stories`] whose later words are decided by earlier ones; and models of real sizes ([`sized`]), with random weights,
//! to measure with.
//!
//! Everything is a pure function of a seed, so a sample is named by a number and a set by a range of numbers.
//! Training uses seeds below [`HELD_OUT`]; whatever is judged uses seeds from there on.

pub mod scenes;
pub mod signals;
pub mod sized;
pub mod stories;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The first seed that no training run may use.
pub const HELD_OUT: u64 = 1 << 40;

/// The generator of random numbers of sample `seed` in the set `stream`.
fn rng(stream: u64, seed: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}
