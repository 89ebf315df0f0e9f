//! Gradients through parts whose weights are fixed: they go to the input only, what a part computes is computed as
//! where nobody asks for gradients, and nothing between its input and its output is kept.

use super::cpu;
use crate::Result;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Shape, Tensor};
use std::sync::Mutex;

/// Values of a result that were computed beforehand, row-major, and their shape.
pub(super) type Plain = (Vec<f32>, Shape);

/// Values that were computed beforehand, and the way back.
struct Known<F> {
    name: &'static str,
    values: Mutex<Option<Vec<f32>>>,
    shape: Shape,
    back: F,
}

impl<F> Known<F> {
    fn new(name: &'static str, (values, shape): Plain, back: F) -> Self {
        Self { name, values: Mutex::new(Some(values)), shape, back }
    }

    fn take(&self) -> candle_core::Result<(CpuStorage, Shape)> {
        match self.values.lock().ok().and_then(|mut v| v.take()) {
            Some(values) => Ok((CpuStorage::F32(values), self.shape.clone())),
            None => candle_core::bail!("{}: the values were taken before", self.name),
        }
    }
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + Sync> CustomOp1 for Known<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.take()
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        (self.back)(&x.detach(), &grad.detach()).map(Some).map_err(candle_core::Error::wrap)
    }
}

/// `y`, which was computed from `x`; `back` gives the gradient of `x` from `x` and the gradient of `y`.
pub(super) fn of_one(
    name: &'static str,
    x: &Tensor,
    y: Plain,
    back: impl Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    Ok(x.apply_op1(Known::new(name, y, back))?)
}

impl<F: Fn([&Tensor; 3], &Tensor, &Tensor) -> Result<[Tensor; 3]> + Send + Sync> CustomOp3 for Known<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.take()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let inputs = [&a.detach(), &b.detach(), &c.detach()];
        let back = (self.back)(inputs, &y.detach(), &grad.detach()).map_err(candle_core::Error::wrap)?;
        let [a, b, c] = back.map(Some);
        Ok((a, b, c))
    }
}

/// `y`, which was computed from three tensors; `back` gives their gradients from them, `y` and the gradient of `y`.
pub(super) fn of_three(
    name: &'static str,
    inputs: [&Tensor; 3],
    y: Plain,
    back: impl Fn([&Tensor; 3], &Tensor, &Tensor) -> Result<[Tensor; 3]> + Send + Sync + 'static,
) -> Result<Tensor> {
    Ok(inputs[0].apply_op3(inputs[1], inputs[2], Known::new(name, y, back))?)
}

/// Whether gradients are asked for and `x` is otherwise plain.
pub(super) fn asks(x: &Tensor) -> bool {
    x.track_op() && cpu::is_plain(&x.detach())
}
