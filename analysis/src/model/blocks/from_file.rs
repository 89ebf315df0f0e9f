//! Products with matrices that stay in their file: some rows at a time become f32 and are multiplied. What a product
//! needs on top is a few megabytes a thread, whatever the size of the matrix.

use super::basic::{FEW, few};
use super::cpu::{self, Matrix, SOME};
use crate::Result;
use crate::ctx::Ctx;
use crate::weights::FileMatrix;
use rayon::prelude::*;
use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

/// Multiplications and additions of a thread between two looks at the cancel flag, and on one panel where a panel is not
/// too narrow by then.
const PANEL_FLOPS: usize = cpu::POLL_FLOPS / 2;

/// Rows of many that are multiplied at once at least: a panel is turned for them each time.
const ROWS: usize = 256;

/// Weights that a thread holds as f32 at once.
const PANEL: usize = 1 << 20;

/// The same for few rows, whose products are fastest while the weights are in the processor's cache.
const SMALL_PANEL: usize = 1 << 16;

/// Rows of the tiles that a product of few rows, and one of many, is made of.
const TILE: (usize, usize) = (16, 64);

/// What a thread works with, kept from product to product.
#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    panel: Vec<f32>,
    own: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Calls `f` with the scratch of this thread.
fn with_scratch<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    // Taken out, because a thread that waits may begin another piece of work.
    let mut scratch = SCRATCH.take();
    let out = f(&mut scratch);
    SCRATCH.set(scratch);
    out
}

/// Bytes of all scratch for `n` rows and maps between `d` and `wide` values: of each thread a panel and its part of the
/// result. What of a panel is turned is no more than products in memory turn.
pub fn scratch_bytes(n: usize, d: usize, wide: usize) -> u64 {
    let of = |columns: usize, all: usize| {
        let rows = panel_rows(n.max(1), columns, all);
        4 * (rows * columns + n * rows)
    };
    (rayon::current_num_threads() * of(d, wide).max(of(wide, d))) as u64
}

/// The first `len` values of `held`.
fn place(held: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if held.len() < len {
        held.resize(len, 0.0);
    }
    &mut held[..len]
}

/// Whole tiles of rows, where there are as many, that a thread takes of `all` at once.
fn panel_rows(n: usize, wide: usize, all: usize) -> usize {
    let most = if n <= SOME { SMALL_PANEL } else { PANEL } / wide.max(1);
    let each = all.div_ceil(2 * rayon::current_num_threads());
    // The own part of the result is as small as the panel, and ready soon enough to be stopped.
    let rows = most.min(each).min(PANEL / n).min(PANEL_FLOPS / (2 * n * wide).max(1));
    let (tile, least) = if n <= SOME { (TILE.0, 1) } else { (TILE.1, TILE.1.min(all.max(1))) };
    let rows = rows.max(least);
    if rows < tile { rows } else { rows / tile * tile }
}

/// `y += x · mᵀ` where `add`, else `y = x · mᵀ`, for `x` `[n, columns]` and `y` `[n, rows]`. Every thread makes its own
/// columns of `y`.
///
/// Errors: those of reading the file, cancelled.
pub(super) fn by_rows(n: usize, y: &mut [f32], add: bool, x: Matrix, m: &FileMatrix, ctx: &Ctx) -> Result<()> {
    let (out, d) = (m.n_rows(), m.n_columns());
    m.is_unchanged()?;
    if n == 0 || out == 0 {
        return Ok(());
    }
    let rows = panel_rows(n, d, out);
    let y = Mutex::new(y);
    (0..out.div_ceil(rows)).into_par_iter().with_max_len(1).try_for_each(|i| {
        let (first, len) = (i * rows, rows.min(out - i * rows));
        with_scratch(|Scratch { bytes, panel, own }| {
            ctx.check()?;
            let (panel, own) = (place(panel, len * d), place(own, n * len));
            m.read(first, panel, bytes)?;
            let w = Matrix { values: panel, row: 1, col: d };
            // Many rows are multiplied some at a time to be stopped in between.
            let some = (PANEL_FLOPS / (2 * len * d).max(1)).max(ROWS);
            for r in (0..n).step_by(some) {
                ctx.check()?;
                let (x, n) = (Matrix { values: &x.values[r * x.row..], ..x }, some.min(n - r));
                cpu::gemm([n, d, len], (&mut own[r * len..], len), false, x, w, false);
            }
            let mut y = y.lock().unwrap_or_else(PoisonError::into_inner);
            for (own, y) in own.chunks_exact(len).zip(y.chunks_exact_mut(out)) {
                let y = &mut y[first..first + len];
                match add {
                    true => y.iter_mut().zip(own).for_each(|(y, own)| *y += own),
                    false => y.copy_from_slice(own),
                }
            }
            Ok(())
        })
    })
}

/// `y += x · m` where `add`, else `y = x · m`, for `x` `[n, rows]` and `y` `[n, columns]`. All threads make some rows of
/// `m` f32, and then multiply by them.
///
/// Errors: those of reading the file, cancelled.
pub(super) fn by_columns(n: usize, y: &mut [f32], add: bool, x: Matrix, m: &FileMatrix, ctx: &Ctx) -> Result<()> {
    let (d, out) = (m.n_rows(), m.n_columns());
    m.is_unchanged()?;
    if n == 0 || out == 0 {
        return Ok(());
    }
    if d == 0 && !add {
        y.fill(0.0);
    }
    let threads = rayon::current_num_threads();
    let some = (PANEL / out).clamp(1, d.max(1));
    let mut panel = vec![0f32; (some * threads).min(d) * out];
    for first in (0..d).step_by(some * threads) {
        let len = (some * threads).min(d - first);
        ctx.check()?;
        panel[..len * out].par_chunks_mut(some * out).enumerate().try_for_each(|(i, part)| {
            with_scratch(|Scratch { bytes, .. }| {
                ctx.check()?;
                m.read(first + i * some, part, bytes)
            })
        })?;
        let add = add || first > 0;
        let x = Matrix { values: &x.values[first * x.col..], ..x };
        let columns = |j: usize| Matrix { values: &panel[j..], row: out, col: 1 };
        if n <= FEW {
            few((n, len, out), y, add, x, &columns, ctx)?;
            continue;
        }
        for ([r, j], [high, wide]) in cpu::tiles((n, len, out)) {
            ctx.check()?;
            let x = Matrix { values: &x.values[r * x.row..], ..x };
            cpu::gemm([high, len, wide], (&mut y[r * out + j..], out), add, x, columns(j), true);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Linear, Scope};
    use super::*;
    use crate::Error;
    use crate::weights::{Hold, Weights};
    use candle_core::{Device, Tensor, Var};
    use half::{bf16, f16};
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    /// A folder with one matrix `w.weight` and a bias.
    fn folder(dtype: Dtype, rows: usize, columns: usize) -> tempfile::TempDir {
        let x = |i: usize| ((i * 7919 + i * i % 31) % 997) as f32 / 500.0 - 1.0;
        let n = rows * columns;
        let bytes: Vec<u8> = match dtype {
            Dtype::BF16 => (0..n).flat_map(|i| bf16::from_f32(x(i)).to_le_bytes()).collect(),
            Dtype::F16 => (0..n).flat_map(|i| f16::from_f32(x(i)).to_le_bytes()).collect(),
            _ => (0..n).flat_map(|i| x(i).to_le_bytes()).collect(),
        };
        let longer = rows.max(columns);
        let bias: Vec<u8> = (0..longer).flat_map(|i| x(i + 7).to_le_bytes()).collect();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), "{}").unwrap();
        let views = [
            ("w.weight", TensorView::new(dtype, vec![rows, columns], &bytes).unwrap()),
            ("w.bias", TensorView::new(Dtype::F32, vec![rows], &bias[..4 * rows]).unwrap()),
            ("t.weight", TensorView::new(dtype, vec![rows, columns], &bytes).unwrap()),
            ("t.bias", TensorView::new(Dtype::F32, vec![columns], &bias[..4 * columns]).unwrap()),
        ];
        std::fs::write(dir.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
        dir
    }

    fn some(n: usize, d: usize) -> Tensor {
        let x: Vec<f32> = (0..n * d).map(|i| ((i * 104_729) % 991) as f32 / 600.0 - 0.8).collect();
        Tensor::from_vec(x, (n, d), &Device::Cpu).unwrap()
    }

    fn close(a: &Tensor, b: &Tensor, what: &str) {
        assert_eq!(a.dims(), b.dims(), "{what}");
        let list = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (a, b) = (list(a), list(b));
        let scale = b.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
        let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs() / scale).fold(0f32, f32::max);
        // Long sums are added in another order.
        assert!(worst < 3e-6, "{what}: {worst}");
    }

    #[test]
    fn products_from_a_file_are_those_in_memory() {
        for (dtype, rows, columns) in
            [(Dtype::BF16, 301, 77), (Dtype::F16, 1030, 130), (Dtype::F32, 5, 3000), (Dtype::BF16, 1, 9)]
        {
            let dir = folder(dtype, rows, columns);
            let open = |hold| Weights::open(dir.path()).unwrap().holding(hold);
            let (file, memory) = (open(Hold::File), open(Hold::Memory));
            let maps = |w: &Weights| {
                let s = Scope::root(w, &Device::Cpu);
                let own = Linear::load(&s.sub("w"), columns, rows, true).unwrap();
                let turned = Linear::load_conv1d(&s.sub("t"), rows, columns).unwrap();
                let factor = some(1, rows).squeeze(0).unwrap();
                let half = own.slice(rows / 2, rows - rows / 2).unwrap();
                let part = turned.slice(columns / 3, columns - columns / 3).unwrap();
                let factor_of = some(1, columns).squeeze(0).unwrap();
                let all =
                    vec![own.scaled(&factor).unwrap(), turned.scaled(&factor_of).unwrap(), own, turned, half, part];
                all.into_iter().map(|m| (m.inputs().unwrap(), m)).collect::<Vec<_>>()
            };
            for (i, ((d, a), (_, b))) in maps(&file).iter().zip(maps(&memory)).enumerate() {
                close(&a.matrix().unwrap(), &b.matrix().unwrap(), "matrix");
                for n in [1, 2, 5, 40, 65, 200] {
                    let (x, what) = (some(n, *d), format!("{dtype:?} [{rows}, {columns}], map {i}, {n} rows"));
                    close(&a.apply(&x).unwrap(), &b.apply(&x).unwrap(), &what);
                    // Rows that lie by columns.
                    let turned = some(*d, n).t().unwrap();
                    close(&a.apply(&turned).unwrap(), &b.apply(&turned).unwrap(), &what);
                    let x = Var::from_tensor(&x).unwrap();
                    let back = |m: &Linear| {
                        let grads = m.apply(&x).unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();
                        grads.get(&x).unwrap().clone()
                    };
                    close(&back(a), &back(&b), &format!("gradient of {what}"));
                }
            }
            assert!(file.held_bytes() < memory.held_bytes() || rows == 1);
        }
    }

    #[test]
    fn a_product_is_stopped_on_its_way() {
        let dir = folder(Dtype::BF16, 600, 40);
        let w = Weights::open(dir.path()).unwrap().holding(Hold::File);
        let s = Scope::root(&w, &Device::Cpu);
        let stopped = Ctx::new(std::sync::Arc::new(true.into()), std::sync::Arc::new(|_| ()));
        let maps = [Linear::load(&s.sub("w"), 40, 600, true), Linear::load_conv1d(&s.sub("t"), 600, 40)];
        for map in maps.map(Result::unwrap) {
            let x = some(70, map.inputs().unwrap());
            assert!(matches!(map.apply_in(&x, &stopped), Err(Error::Cancelled)));
        }
    }
}
