//! How slices are computed on: loops compiled for the widest vectors that the processor has, and matrix products.

mod product;
mod weights;

pub(crate) use product::{ALONE, Matrix, SOME, gemm, is_little, share, turn};
pub(crate) use weights::{Scores, cap, exp, tanh};

use candle_core::Device;
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Whether what lies on `device` can be computed on as slices, and not by whole tensors alone.
pub(crate) fn is_here(device: &Device) -> bool {
    device.is_cpu() && !elsewhere()
}

#[cfg(not(test))]
fn elsewhere() -> bool {
    false
}

#[cfg(test)]
thread_local! {
    /// Whether this thread's tensors are computed on as on another device, so that this can be tested without one.
    pub(crate) static ELSEWHERE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[cfg(test)]
fn elsewhere() -> bool {
    ELSEWHERE.get()
}

/// Runs `f` compiled for the widest vectors that the processor has. What `f` calls must be inlined into it, and `f`
/// itself, which the compiler does where it is short; loops over long arithmetic are [`wide!`] functions.
pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// A function compiled for the widest vectors that the processor has; what it calls must be inlined into it. Lifetimes
/// are written out.
macro_rules! wide {
    (
        $(#[$about:meta])*
        $see:vis fn $name:ident $(<$($life:lifetime),+>)? ($($arg:ident: $of:ty),+ $(,)?) $(-> $out:ty)? $body:block
    ) => {
        $(#[$about])*
        $see fn $name $(<$($life),+>)? ($($arg: $of),+) $(-> $out)? {
            struct Own $(<$($life),+>)? {
                $($arg: $of),+
            }

            impl $(<$($life),+>)? pulp::WithSimd for Own $(<$($life),+>)? {
                type Output = crate::cpu::wide!(@ $($out)?);

                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) -> Self::Output {
                    let Self { $($arg),+ } = self;
                    $body
                }
            }

            pulp::Arch::new().dispatch(Own { $($arg),+ })
        }
    };
    (@) => { () };
    (@ $out:ty) => { $out };
}
pub(crate) use wide;

/// Sums and the like are kept in this many lanes, which the compiler can do at once and which round less than one.
pub(crate) const LANES: usize = 16;

/// Sum of `f` over the values, in lanes.
#[inline(always)]
pub(crate) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0f32; LANES];
    for c in chunks {
        for (lane, &x) in lanes.iter_mut().zip(c) {
            *lane += f(x);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|&x| f(x)).sum::<f32>()
}

/// The largest value; −∞ of none.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for c in chunks {
        for (lane, &x) in lanes.iter_mut().zip(c) {
            *lane = larger(*lane, x);
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
}

/// Fewer values than this are not worth waking other threads for.
pub(crate) const PARALLEL: usize = 1 << 17;

/// `n` values in parts of `len`: the first ones that `f` gives for the number of each part, by all threads where there
/// are many. Nothing is written before them, and the pages of a new array come to whoever writes them first.
///
/// Panics if `f` gives too few.
pub(crate) fn collect<I: Iterator<Item = f32>>(n: usize, len: usize, f: impl Fn(usize) -> I + Sync) -> Vec<f32> {
    let mut out = Vec::with_capacity(n);
    let part = |(i, part): (usize, &mut [MaybeUninit<f32>])| {
        let written = vectorised(|| {
            part.iter_mut().zip(f(i)).fold(0, |written, (place, value)| {
                place.write(value);
                written + 1
            })
        });
        assert_eq!(written, part.len(), "values of a part");
    };
    let places = &mut out.spare_capacity_mut()[..n];
    if n < PARALLEL {
        places.chunks_mut(len.max(1)).enumerate().for_each(part);
    } else {
        let some = (PARALLEL / 4).div_ceil(len.max(1));
        places.par_chunks_mut(len.max(1)).with_min_len(some).enumerate().for_each(part);
    }
    #[expect(unsafe_code, reason = "values are written once, and not as zeros before")]
    // SAFETY: there is room for `n` values, and each part was found to be written to its end.
    unsafe {
        out.set_len(n);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reductions_see_every_value() {
        let x: Vec<f32> = (0..37).map(|i| i as f32).collect();
        assert_eq!((sum(&x, |x| x), max(&x), max(&[])), (666.0, 36.0, f32::NEG_INFINITY));
    }

    #[test]
    fn parts_are_collected_in_their_order() {
        // On one thread and on several, with a last part that is short.
        for n in [0, 5, 1000, PARALLEL + 77] {
            let x = collect(n, 64, |i| (i * 64..).map(|v| v as f32));
            assert!(x.len() == n && x.iter().enumerate().all(|(i, x)| *x == i as f32), "{n} values");
        }
    }

    #[test]
    #[should_panic(expected = "values of a part")]
    fn a_part_that_ends_early_is_no_array() {
        collect(10, 4, |i| vec![0.0; 4 - i].into_iter());
    }
}
