//! Linear maps, norms, MLPs, and the scope that finds their weights.

use super::activation::Activation;
use super::cpu::{self, Matrix};
use super::{from_file, frozen};
use crate::ctx::Ctx;
use crate::weights::{Table, Weights};
use crate::{Error, Result};
use candle_core::{D, Device, Tensor};
use rayon::prelude::*;

/// A prefix in a checkpoint, so that paths read like the checkpoint's own.
#[derive(Clone)]
pub struct Scope<'a> {
    weights: &'a Weights,
    prefix: String,
    device: Device,
}

impl<'a> Scope<'a> {
    /// The root of a checkpoint.
    pub fn root(weights: &'a Weights, device: &Device) -> Self {
        Self { weights, prefix: String::new(), device: device.clone() }
    }

    /// The scope below `name`; an empty name is this one.
    pub fn sub(&self, name: impl std::fmt::Display) -> Self {
        let name = name.to_string();
        let prefix = if name.is_empty() { self.prefix.clone() } else { format!("{}{name}.", self.prefix) };
        Self { weights: self.weights, prefix, device: self.device.clone() }
    }

    /// The first of `names` below which `probe` exists; the last one if none does, so that errors name it.
    pub fn first(&self, names: &[&str], probe: &str) -> Self {
        let found = names.iter().find(|n| self.sub(n).has(probe));
        self.sub(found.or(names.last()).copied().unwrap_or_default())
    }

    /// Whether there is a tensor `name` here.
    pub fn has(&self, name: &str) -> bool {
        self.weights.has(&format!("{}{name}", self.prefix))
    }

    /// The shape of the tensor `name`, if it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.weights.shape(&format!("{}{name}", self.prefix))
    }

    /// Whether the tensor `name` is stored as blocks of four bits with exponents beside them.
    pub fn is_packed(&self, name: &str) -> bool {
        self.weights.is_packed(&format!("{}{name}", self.prefix))
    }

    /// The tensor `name`, of exactly this shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.weights.get(&format!("{}{name}", self.prefix), shape, &self.device)
    }

    /// The tensor `name` as a matrix, which may stay in its file; its axes but the last are taken together as rows.
    pub fn table(&self, name: &str, shape: &[usize]) -> Result<Table> {
        self.weights.table(&format!("{}{name}", self.prefix), shape, &self.device)
    }

    /// The device that tensors go to.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

/// Weights up to this many are laid out by rows when they are loaded, so that products need not turn them each time.
/// Larger ones lie as in the file: turning them would take longer than reading it, and one row reads them faster so.
const SMALL: usize = 1 << 18;

/// `y = x W + b`, with `W` kept as `[in, out]`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Table,
    bias: Option<Tensor>,
}

impl Linear {
    /// From a PyTorch `Linear`, stored `[out, in]`.
    pub fn load(s: &Scope, input: usize, output: usize, bias: bool) -> Result<Self> {
        let table = s.table("weight", &[output, input])?;
        let mut map = Self::from_table(&table, bias.then(|| s.get("bias", &[output])).transpose()?)?;
        if let Table::Memory(weight) = &mut map.weight
            && weight.elem_count() <= SMALL
        {
            *weight = weight.contiguous()?;
        }
        Ok(map)
    }

    /// From a GPT-2 `Conv1D`, stored `[in, out]`.
    pub fn load_conv1d(s: &Scope, input: usize, output: usize) -> Result<Self> {
        Ok(Self { weight: s.table("weight", &[input, output])?, bias: Some(s.get("bias", &[output])?) })
    }

    /// From a matrix `[out, in]`.
    pub fn from_matrix(weight: &Tensor, bias: Option<Tensor>) -> Result<Self> {
        Self::from_table(&Table::Memory(weight.clone()), bias)
    }

    /// From a matrix `[out, in]` that may stay in its file.
    pub fn from_table(weight: &Table, bias: Option<Tensor>) -> Result<Self> {
        Ok(Self { weight: weight.turned()?, bias })
    }

    /// Columns `start..start + len` of the output, as a map of their own.
    pub fn slice(&self, start: usize, len: usize) -> Result<Self> {
        let bias = self.bias.as_ref().map(|b| b.narrow(0, start, len)).transpose()?;
        Ok(Self { weight: self.weight.columns(start..start + len)?, bias })
    }

    /// `[n, in]` → `[n, out]`.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.apply_in(x, &Ctx::default())
    }

    /// [`Linear::apply`] that looks at the job's cancel flag on its way, because a large map takes long.
    pub fn apply_in(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        if self.is_plain(x) {
            let shape = (x.dim(0)?, self.outputs()?);
            return Ok(Tensor::from_vec(self.values(x, ctx)?, shape, x.device())?);
        }
        ctx.check()?;
        if frozen::asks(x) && self.is_plain(&x.detach()) {
            let back = Self { weight: self.weight.turned()?, bias: None };
            let shape = (x.dim(0)?, self.outputs()?).into();
            let (y, ctx) = (self.values(&x.detach(), ctx)?, ctx.clone());
            return frozen::of_one("linear", x, (y, shape), move |_, grad| back.apply_in(grad, &ctx));
        }
        let weight = self.weight.tensor()?;
        let y = match cpu::is_here(x.device()) {
            true => x.matmul(&weight)?,
            // Products of other devices do not step over what lies between rows.
            false => x.contiguous()?.matmul(&weight)?,
        };
        Ok(match &self.bias {
            Some(b) => y.broadcast_add(b)?,
            None => y,
        })
    }

    /// Whether [`Linear::values`] serves: everything plain, and `x` a matrix.
    fn is_plain(&self, x: &Tensor) -> bool {
        let weight = match &self.weight {
            Table::Memory(w) => cpu::is_plain(w),
            Table::File { .. } => true,
        };
        x.rank() == 2 && cpu::is_plain(x) && weight && self.bias.as_ref().is_none_or(cpu::is_plain)
    }

    /// The map of a plain matrix, row by row.
    fn values(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<f32>> {
        let ((n, d), (d_own, out)) = (x.dims2()?, self.weight.dims2()?);
        if d != d_own {
            return Err(Error::shape("input of a linear map", format!("[{n}, {d_own}]"), x.dims()));
        }
        let mut y = match &self.bias {
            Some(b) => {
                cpu::read(&b.contiguous()?, |b, _| Ok(cpu::collect(n * out, out, |_| b[..out].iter().copied())))?
            }
            None => vec![0f32; n * out],
        };
        let add = self.bias.is_some();
        cpu::read(x, |x, at| {
            let x = Matrix { values: x, row: at[0], col: at[1] };
            match &self.weight {
                Table::Memory(w) => in_memory((n, d, out), &mut y, add, x, w, ctx),
                Table::File { matrix, turned: true } => from_file::by_rows(n, &mut y, add, x, matrix, ctx),
                Table::File { matrix, turned: false } => from_file::by_columns(n, &mut y, add, x, matrix, ctx),
            }
        })?;
        Ok(y)
    }

    /// The same map followed by a factor per output channel (layer scale).
    pub fn scaled(&self, factor: &Tensor) -> Result<Self> {
        let bias = self.bias.as_ref().map(|b| b * factor).transpose()?;
        Ok(Self { weight: self.weight.scaled(factor)?, bias })
    }

    /// The matrix `[in, out]` as f32.
    pub fn matrix(&self) -> Result<Tensor> {
        self.weight.tensor()
    }

    /// Values that a row has before the map.
    pub fn inputs(&self) -> Result<usize> {
        Ok(self.weight.dims2()?.0)
    }

    /// Values that a row has behind the map.
    pub fn outputs(&self) -> Result<usize> {
        Ok(self.weight.dims2()?.1)
    }

    /// Whether the matrix stays in its file.
    pub fn stays_in_file(&self) -> bool {
        matches!(self.weight, Table::File { .. })
    }

    /// Where the map is computed.
    pub fn device(&self) -> &Device {
        self.weight.device()
    }
}

/// `y += x · w` where `add`, else `y = x · w`, for `w` `[d, out]` in memory.
fn in_memory(
    (n, d, out): (usize, usize, usize),
    y: &mut [f32],
    add: bool,
    x: Matrix,
    w: &Tensor,
    ctx: &Ctx,
) -> Result<()> {
    cpu::read(w, |w, at| {
        let columns = |j: usize| Matrix { values: &w[(j * at[1]).min(w.len())..], row: at[0], col: at[1] };
        if n <= FEW && at[1] == 1 {
            return few((n, d, out), y, add, x, &columns, ctx);
        }
        for ([r, j], [high, wide]) in cpu::tiles((n, d, out)) {
            ctx.check()?;
            let x = Matrix { values: &x.values[r * x.row..], ..x };
            cpu::gemm([high, d, wide], (&mut y[r * out + j..], out), add, x, columns(j), true);
        }
        Ok(())
    })
}

/// Rows up to this many are bound by reading the weights, which every thread does for its own columns.
pub(super) const FEW: usize = 64;

/// The product of few rows with weights that lie by rows, on all threads where there is enough to do.
pub(super) fn few<'w>(
    (n, d, out): (usize, usize, usize),
    y: &mut [f32],
    add: bool,
    x: Matrix,
    columns: &(impl Fn(usize) -> Matrix<'w> + Sync),
    ctx: &Ctx,
) -> Result<()> {
    // Columns from `first` on, into a place with rows `stride` apart.
    let part = |first: usize, len: usize, y: &mut [f32], stride: usize| {
        if !ctx.cancelled() {
            cpu::gemm([n, d, len], (y, stride), add, x, columns(first), false);
        }
    };
    let len = cpu::share(out);
    if cpu::is_little([n, d, out]) || len >= out {
        part(0, out, y, out);
    } else if n == 1 {
        y.par_chunks_mut(len).enumerate().for_each(|(i, y)| part(i * len, y.len(), y, len));
    } else {
        let one = |i: usize| {
            let (first, len) = (i * len, len.min(out - i * len));
            let mut own: Vec<f32> = y.chunks(out).flat_map(|row| &row[first..first + len]).copied().collect();
            part(first, len, &mut own, len);
            own
        };
        let parts: Vec<Vec<f32>> = (0..out.div_ceil(len)).into_par_iter().map(one).collect();
        for (i, own) in parts.iter().enumerate() {
            let rows = y.chunks_mut(out).zip(own.chunks(own.len() / n));
            rows.for_each(|(y, own)| y[i * len..][..own.len()].copy_from_slice(own));
        }
    }
    ctx.check()
}

/// `x + y` of one shape. Plain values are added on rayon's threads like all else: those of the tensor library wait
/// for their next work without sleep, beside a matrix product that could use their core.
pub(super) fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if x.dims() != y.dims() || !cpu::is_plain(x) || !cpu::is_plain(y) {
        return Ok((x + y)?);
    }
    cpu::zip(x, y, |x, y| x + y)
}

/// Layer norm or RMS norm over the last axis.
#[derive(Debug, Clone)]
pub struct Norm {
    weight: Tensor,
    bias: Option<Tensor>,
    eps: f64,
    center: bool,
    idle: bool,
    /// Where it normalises parts of a row by themselves, how wide they are; the weight is as wide as all of them.
    part: Option<usize>,
}

impl Norm {
    /// A layer norm; old checkpoints call weight and bias `gamma` and `beta`.
    pub fn layer(s: &Scope, width: usize, eps: f64) -> Result<Self> {
        let (w, b) = if s.has("gamma") { ("gamma", "beta") } else { ("weight", "bias") };
        Ok(Self {
            weight: s.get(w, &[width])?,
            bias: Some(s.get(b, &[width])?),
            eps,
            center: true,
            idle: false,
            part: None,
        })
    }

    /// A layer norm with a bias where `bias` says so.
    pub fn layer_with(s: &Scope, width: usize, eps: f64, bias: bool) -> Result<Self> {
        if bias {
            return Self::layer(s, width, eps);
        }
        Ok(Self { weight: s.get("weight", &[width])?, bias: None, eps, center: true, idle: false, part: None })
    }

    /// What stands in the place of a norm and does nothing.
    pub fn none(width: usize, device: &Device) -> Result<Self> {
        Ok(Self { idle: true, ..Self::layer_without_weights(width, 0.0, device)? })
    }

    /// The same with a weight of 1 more than the one that is stored.
    pub fn around_one(self) -> Result<Self> {
        Ok(Self { weight: (self.weight + 1.0)?, ..self })
    }

    /// A layer norm without bias of each `part` values of a row by themselves, whose weight is as wide as the row.
    pub fn of_parts(weight: Tensor, part: usize, eps: f64) -> Self {
        Self { weight, bias: None, eps, center: true, idle: false, part: Some(part) }
    }

    /// A layer norm without weight and bias.
    pub fn layer_without_weights(width: usize, eps: f64, device: &Device) -> Result<Self> {
        Ok(Self {
            weight: Tensor::ones(width, candle_core::DType::F32, device)?,
            bias: None,
            eps,
            center: true,
            idle: false,
            part: None,
        })
    }

    /// An RMS norm whose weight is stored less 1 (Gemma).
    pub fn rms_around_one(s: &Scope, width: usize, eps: f64) -> Result<Self> {
        Self::rms(s, width, eps)?.around_one()
    }

    /// An RMS norm.
    pub fn rms(s: &Scope, width: usize, eps: f64) -> Result<Self> {
        Ok(Self { weight: s.get("weight", &[width])?, bias: None, eps, center: false, idle: false, part: None })
    }

    /// Components that it normalises together.
    pub fn width(&self) -> usize {
        self.weight.elem_count()
    }

    /// Normalises the last axis.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        if self.idle {
            return Ok(x.clone());
        }
        if let Some(part) = self.part {
            let plain = Self::layer_without_weights(part, self.eps, x.device())?;
            let rows = x.contiguous()?.reshape((x.elem_count() / part.max(1), part))?;
            return Ok(plain.apply(&rows)?.reshape(x.dims())?.broadcast_mul(&self.weight)?);
        }
        let fixed = cpu::is_plain(&self.weight) && self.bias.as_ref().is_none_or(cpu::is_plain);
        if fixed && cpu::is_plain(x) {
            return Ok(Tensor::from_vec(self.values(x)?, x.dims(), x.device())?);
        }
        if fixed && frozen::asks(x) {
            let (own, y) = (self.clone(), self.values(&x.detach())?);
            return frozen::of_one("norm", x, (y, x.dims().into()), move |x, grad| own.back(x, grad));
        }
        let x = if self.center { x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)? } else { x.clone() };
        let inv = (x.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?.recip()?;
        let y = x.broadcast_mul(&inv)?.broadcast_mul(&self.weight)?;
        Ok(match &self.bias {
            Some(b) => y.broadcast_add(b)?,
            None => y,
        })
    }

    /// The same in one go over plain values.
    fn values(&self, x: &Tensor) -> Result<Vec<f32>> {
        let d = self.weight.dim(0)?;
        if x.dims().last() != Some(&d) {
            return Err(Error::shape("input of a norm", format!("[…, {d}]"), x.dims()));
        }
        let row = |x: &[f32], y: &mut [f32], w: &[f32], b: Option<&[f32]>| {
            let mean = if self.center { cpu::sum(x, |x| x) / d as f32 } else { 0.0 };
            let square = cpu::sum(x, |x| (x - mean) * (x - mean)) / d as f32;
            let inv = (1.0 / (f64::from(square) + self.eps).sqrt()) as f32;
            let values = y.iter_mut().zip(x).zip(w);
            match b {
                Some(b) => values.zip(b).for_each(|(((y, x), w), b)| *y = (x - mean) * inv * w + b),
                None => values.for_each(|((y, x), w)| *y = (x - mean) * inv * w),
            }
        };
        let mut y = vec![0f32; x.elem_count()];
        let mut rows = |x: &[f32], w: &[f32], b: Option<&[f32]>| {
            let one = |i: usize, y: &mut [f32]| cpu::vectorised(|| row(&x[i * d..][..d], y, &w[..d], b));
            cpu::each(&mut y, d, &Ctx::default(), one);
            Ok(())
        };
        let (x_of, w) = (x.contiguous()?, self.weight.contiguous()?);
        let b = self.bias.as_ref().map(Tensor::contiguous).transpose()?;
        cpu::read(&x_of, |x, _| {
            cpu::read(&w, |w, _| match &b {
                Some(b) => cpu::read(b, |b, _| rows(x, w, Some(b))),
                None => rows(x, w, None),
            })
        })?;
        Ok(y)
    }

    /// The gradient of plain `x` from that of the result.
    fn back(&self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let d = self.weight.dim(0)?;
        let row = |x: &[f32], y: &mut [f32], w: &[f32]| {
            let per = 1.0 / d as f32;
            let mean = if self.center { cpu::sum(x, |x| x) * per } else { 0.0 };
            let square = cpu::sum(x, |x| (x - mean) * (x - mean)) * per;
            let inv = (1.0 / (f64::from(square) + self.eps).sqrt()) as f32;
            // `y` holds the gradient of the result and gets that of `x`.
            let (mut all, mut along) = (0f32, 0f32);
            for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                *y *= w;
                all += *y;
                along += *y * (x - mean) * inv;
            }
            let (all, along) = (if self.center { all * per } else { 0.0 }, along * per);
            y.iter_mut().zip(x).for_each(|(y, x)| *y = inv * (*y - all - (x - mean) * inv * along));
        };
        let (x_of, w) = (x.contiguous()?, self.weight.contiguous()?);
        let mut y = grad.flatten_all()?.to_vec1::<f32>()?;
        cpu::read(&x_of, |x, _| {
            cpu::read(&w, |w, _| {
                let one = |i: usize, y: &mut [f32]| cpu::vectorised(|| row(&x[i * d..][..d], y, &w[..d]));
                cpu::each(&mut y, d, &Ctx::default(), one);
                Ok(())
            })
        })?;
        Ok(Tensor::from_vec(y, x.dims(), x.device())?)
    }
}

/// The two-layer part of a block, plain or gated.
#[derive(Debug, Clone)]
pub struct Mlp {
    /// Gate, for gated MLPs.
    pub gate: Option<Linear>,
    /// First map.
    pub up: Linear,
    /// Second map.
    pub down: Linear,
    /// Between them.
    pub act: Activation,
}

/// Values that the wide middle of an MLP may hold at once; more rows are done part by part.
const MIDDLE: usize = 1 << 22;

/// Rows of `n` that an MLP does at once.
pub fn mlp_rows(n: usize, wide: usize) -> usize {
    (MIDDLE / wide.max(1)).max(128).min(n)
}

impl Mlp {
    /// Two maps of these names below `s` without a gate, from `d` values to `inner` and back.
    pub fn plain(
        s: &Scope,
        [up, down]: [&str; 2],
        (d, inner): (usize, usize),
        bias: bool,
        act: Activation,
    ) -> Result<Self> {
        let up = Linear::load(&s.sub(up), d, inner, bias)?;
        Ok(Self { gate: None, up, down: Linear::load(&s.sub(down), inner, d, bias)?, act })
    }

    /// `[n, d]` → `[n, d]`.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.apply_in(x, &Ctx::default())
    }

    /// [`Mlp::apply`] that looks at the job's cancel flag on its way.
    pub fn apply_in(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let (n, wide) = (x.dim(0)?, self.up.outputs()?);
        let rows = mlp_rows(usize::MAX, wide);
        let rows = n.div_ceil(n.div_ceil(rows).max(1));
        if n <= rows || !self.is_plain(x) {
            return self.down.apply_in(&self.hidden(x, ctx)?, ctx);
        }
        let part = |i: usize| self.down.apply_in(&self.hidden(&x.narrow(0, i, rows.min(n - i))?, ctx)?, ctx);
        let parts = (0..n).step_by(rows).map(part).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&parts, 0)?)
    }

    /// Whether the middle of `x` can be computed on slices.
    fn is_plain(&self, x: &Tensor) -> bool {
        self.up.is_plain(x) && self.gate.as_ref().is_none_or(|g| g.is_plain(x))
    }

    /// The wide middle `[n, m]`: `act(gate) · up`, or `act(up)` where there is no gate.
    pub fn hidden(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        if self.is_plain(x) {
            return self.hidden_plain(x, ctx);
        }
        ctx.check()?;
        let up = self.up.apply_in(x, ctx)?;
        Ok(match &self.gate {
            Some(gate) => (self.act.apply(&gate.apply_in(x, ctx)?)? * up)?,
            None => self.act.apply(&up)?,
        })
    }

    fn hidden_plain(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let mut h = self.gate.as_ref().unwrap_or(&self.up).values(x, ctx)?;
        self.act.apply_plain(&mut h, ctx);
        if self.gate.is_some() {
            let up = self.up.values(x, ctx)?;
            cpu::zip_in_place(&mut h, &up, ctx, |h, up| h * up);
        }
        ctx.check()?;
        let shape = (x.dim(0)?, self.up.outputs()?);
        Ok(Tensor::from_vec(h, shape, x.device())?)
    }
}

/// Rows `ids` of a table in memory. Errors on an id outside it.
pub fn embedding(table: &Tensor, ids: &[u32], what: &str) -> Result<Tensor> {
    look_up(&Table::Memory(table.clone()), ids, what)
}

/// Rows `ids` of a table that may stay in its file. Errors on an id outside it.
pub fn look_up(table: &Table, ids: &[u32], what: &str) -> Result<Tensor> {
    let (rows, _) = table.dims2()?;
    if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
        return Err(Error::invalid(format!(
            "{what} {id} is outside the model's table of {rows}; is the tokenizer this model's?"
        )));
    }
    table.look_up(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    /// Gradients of `x` through `f` of fixed and of learned weights.
    fn both(x: &Var, f: impl Fn(bool) -> Tensor) -> [Vec<f32>; 2] {
        [false, true].map(|learned| {
            let y = f(learned);
            let weight = Tensor::arange(0f32, y.elem_count() as f32, &Device::Cpu).unwrap();
            let weight = ((weight * 0.37).unwrap().sin().unwrap()).reshape(y.dims()).unwrap();
            let grads = (y * weight).unwrap().sum_all().unwrap().backward().unwrap();
            grads.get(x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        })
    }

    fn some(shape: &[usize], salt: usize) -> Tensor {
        let n = shape.iter().product::<usize>();
        let x: Vec<f32> = (0..n).map(|i| ((i * 7919 + salt * 104_729) % 997) as f32 / 400.0 - 1.2).collect();
        Tensor::from_vec(x, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn sums_are_those_of_the_tensor_library_however_values_lie() {
        let (x, y) = (some(&[300, 130], 1), some(&[130, 300], 2).t().unwrap());
        let list = |t: &Tensor| t.to_vec2::<f32>().unwrap();
        assert_eq!(list(&add(&x, &y).unwrap()), list(&(&x + &y).unwrap()));
        assert!(add(&x, &some(&[130, 300], 3)).is_err());
    }

    #[test]
    fn few_rows_are_multiplied_as_many_whichever_way_weights_lie() {
        for (n, d, out) in
            [(1, 40, 300), (5, 40, 300), (17, 40, 70), (3, 2048, 1500), (1, 2048, 1500), (35, 512, 700), (70, 40, 30)]
        {
            let (x, w, bias) = (some(&[n, d], 1), some(&[out, d], 2), some(&[out], 3));
            let list = |t: &Tensor| t.to_vec2::<f32>().unwrap();
            let (rows, columns, start) = (list(&x), list(&w), bias.to_vec1::<f32>().unwrap());
            for weight in [w.t().unwrap(), w.t().unwrap().contiguous().unwrap()] {
                let weight = Table::Memory(weight);
                let got = list(&Linear { weight, bias: Some(bias.clone()) }.apply(&x).unwrap());
                for (i, j) in (0..n).flat_map(|i| (0..out).map(move |j| (i, j))) {
                    let parts = rows[i].iter().zip(&columns[j]).map(|(a, b)| f64::from(*a) * f64::from(*b));
                    let (want, size) =
                        parts.fold((f64::from(start[j]), 1.0), |(sum, size), p| (sum + p, size + p.abs()));
                    let far = (f64::from(got[i][j]) - want).abs();
                    assert!(far < 2e-6 * size, "{n} × {d} × {out}, {i}, {j}: {far} from {want}");
                }
            }
        }
    }

    #[test]
    fn gradients_past_fixed_weights_are_those_past_learned_ones() {
        let x = Var::from_tensor(&some(&[5, 24], 1)).unwrap();
        let kind = |t: Tensor, learned: bool| match learned {
            true => Var::from_tensor(&t).unwrap().into_inner(),
            false => t,
        };
        let close = |[a, b]: [Vec<f32>; 2]| {
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5 * (1.0 + b.abs())), "{a:?} and {b:?}");
        };
        for center in [true, false] {
            close(both(&x, |learned| {
                let (weight, bias) = (kind(some(&[24], 2), learned), center.then(|| some(&[24], 3)));
                Norm { weight, bias, eps: 1e-3, center, idle: false, part: None }.apply(&x).unwrap()
            }));
        }
        for bias in [Some(some(&[7], 5)), None] {
            close(both(&x, |learned| {
                let weight = kind(some(&[7, 24], 4), learned).t().unwrap();
                Linear { weight: Table::Memory(weight), bias: bias.clone() }
                    .apply(&x.t().unwrap().t().unwrap())
                    .unwrap()
            }));
        }
    }

    #[test]
    fn parts_of_a_row_are_normalised_by_themselves() {
        let x = Tensor::new(&[[1f32, 3.0, 10.0, 30.0]], &Device::Cpu).unwrap();
        let weight = Tensor::new(&[1f32, 2.0, 3.0, 4.0], &Device::Cpu).unwrap();
        let got = Norm::of_parts(weight, 2, 0.0).apply(&x).unwrap().to_vec2::<f32>().unwrap();
        assert!(got[0].iter().zip([-1.0, 2.0, -3.0, 4.0]).all(|(a, b)| (a - b).abs() < 1e-5), "{got:?}");
    }

    #[test]
    fn products_of_large_layers_look_at_the_flag_between_tiles() {
        // Few rows have another way; the shapes of an 8B layer, texts that are long, and maps that are narrow.
        for (n, d, out) in [(200, 4096, 14336), (2000, 14336, 4096), (100_000, 4096, 128), (65, 8, 7), (70, 1, 0)] {
            let (mut cells, mut tiles) = (0, 0);
            for ([r, j], [high, wide]) in cpu::tiles((n, d, out)) {
                assert!(r + high <= n && j + wide <= out && high > 0 && wide > 0);
                let flops = 2 * high * d * wide;
                assert!(flops <= cpu::POLL_FLOPS, "{n} × {d} × {out}: {flops} at once");
                (cells, tiles) = (cells + high * wide, tiles + 1);
            }
            // Tiles that fill the product do not overlap.
            assert_eq!(cells, n * out);
            assert!(tiles >= 2 * n * d * out / cpu::POLL_FLOPS, "{n} × {d} × {out}: {tiles} tiles");
        }
        let (n, d, out) = (700, 1024, 2048);
        let (x, w) = (some(&[n, d], 1), Linear::from_matrix(&some(&[out, d], 2), None).unwrap());
        let ctx = Ctx::default();
        let y = w.apply_in(&x, &ctx).unwrap();
        let least = cpu::tiles((n, d, out)).count();
        assert!(least > 1 && ctx.looks() >= least, "{} looks in {least} tiles", ctx.looks());
        // Rows of every tile are those of a product of that row alone.
        for r in [0, 350, 699] {
            let row = w.apply(&x.narrow(0, r, 1).unwrap()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let got = y.get(r).unwrap().to_vec1::<f32>().unwrap();
            assert!(got.iter().zip(&row).all(|(a, b)| (a - b).abs() < 1e-2), "row {r}");
        }
        let stopped = Ctx::new(std::sync::Arc::new(true.into()), std::sync::Arc::new(|_| ()));
        assert!(matches!(w.apply_in(&x, &stopped), Err(Error::Cancelled)));
    }

    #[test]
    fn the_way_back_can_be_cancelled_and_says_so() {
        let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let ctx = Ctx::new(flag.clone(), std::sync::Arc::new(|_| ()));
        let x = Var::from_tensor(&some(&[5, 24], 1)).unwrap();
        let map = Linear { weight: Table::Memory(some(&[24, 7], 2)), bias: None };
        let y = map.apply_in(&x, &ctx).unwrap().sum_all().unwrap();
        assert!(crate::model::backward(&y, &ctx).unwrap().get(&x).is_some());
        flag.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(matches!(crate::model::backward(&y, &ctx), Err(Error::Cancelled)));
    }
}
