//! Matrices of weights: in memory as f32, or in their file as it has them, or in memory as bf16, of which rows are made
//! f32 where they are needed.

use super::convert::Form;
use super::scales::Scales;
use super::shard::Shard;
use crate::ctx::Ctx;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use half::bf16;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// A matrix of weights `[rows, columns]`. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Table {
    /// f32 in memory, or f32 or bf16 on another device.
    Memory(Tensor),
    /// As its file has it, or packed in memory; `turned` where the file's rows are the columns.
    File {
        /// What the file or the package has.
        matrix: Arc<FileMatrix>,
        /// Whether rows and columns are exchanged.
        turned: bool,
    },
}

impl Table {
    /// What the file has, turned or as it is.
    pub(super) fn file(matrix: FileMatrix, turned: bool) -> Self {
        Self::File { matrix: Arc::new(matrix), turned }
    }

    /// Rows and columns.
    pub fn dims2(&self) -> Result<(usize, usize)> {
        Ok(match self {
            Self::Memory(t) => t.dims2()?,
            Self::File { matrix, turned: false } => (matrix.n_rows(), matrix.n_columns()),
            Self::File { matrix, turned: true } => (matrix.n_columns(), matrix.n_rows()),
        })
    }

    /// Where its products are computed.
    pub fn device(&self) -> &Device {
        match self {
            Self::Memory(t) => t.device(),
            Self::File { .. } => &Device::Cpu,
        }
    }

    /// Rows and columns exchanged.
    pub fn turned(&self) -> Result<Self> {
        Ok(match self {
            Self::Memory(t) => Self::Memory(t.t()?),
            Self::File { matrix, turned } => Self::File { matrix: matrix.clone(), turned: !turned },
        })
    }

    /// Some rows next to each other. Errors unless they are there.
    pub fn rows(&self, range: Range<usize>) -> Result<Self> {
        Ok(match self {
            Self::Memory(t) => Self::Memory(t.narrow(0, range.start, range.len())?.contiguous()?),
            Self::File { matrix, turned: false } => Self::file(matrix.rows(range)?, false),
            Self::File { matrix, turned: true } => Self::file(matrix.columns(range)?, true),
        })
    }

    /// Some columns next to each other. Errors unless they are there.
    pub fn columns(&self, range: Range<usize>) -> Result<Self> {
        Ok(match self {
            Self::Memory(t) => Self::Memory(t.narrow(1, range.start, range.len())?.contiguous()?),
            Self::File { matrix, turned: false } => Self::file(matrix.columns(range)?, false),
            Self::File { matrix, turned: true } => Self::file(matrix.rows(range)?, true),
        })
    }

    /// These rows in this order, as a table of their own. Errors on one that is not there.
    pub fn pick(&self, ids: &[u32]) -> Result<Self> {
        Ok(match self {
            Self::File { matrix, turned: false } => Self::file(matrix.pick(ids)?, false),
            other => Self::Memory(other.look_up(ids)?),
        })
    }

    /// The values of these rows, `[ids, columns]`. Errors on one that is not there.
    pub fn look_up(&self, ids: &[u32]) -> Result<Tensor> {
        match self {
            Self::Memory(t) => Ok(t.index_select(&Tensor::new(ids, t.device())?, 0)?.to_dtype(DType::F32)?),
            Self::File { matrix, turned: false } => matrix.pick(ids)?.values(),
            Self::File { .. } => Ok(self.tensor()?.index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?),
        }
    }

    /// All values as f32, `[rows, columns]`.
    pub fn tensor(&self) -> Result<Tensor> {
        Ok(match self {
            Self::Memory(t) => t.to_dtype(DType::F32)?,
            Self::File { matrix, turned: false } => matrix.values()?,
            Self::File { matrix, turned: true } => matrix.values()?.t()?,
        })
    }

    /// Each column multiplied by its factor. What has to be in memory for that is brought there.
    ///
    /// Errors: another number of factors.
    pub fn scaled(&self, factors: &Tensor) -> Result<Self> {
        Ok(match self {
            Self::File { matrix, turned: true } => {
                Self::file(matrix.scaled(&factors.flatten_all()?.to_vec1::<f32>()?)?, true)
            }
            other => Self::Memory(other.tensor()?.broadcast_mul(factors)?),
        })
    }
}

/// Which rows of the file a matrix has.
#[derive(Debug, Clone)]
enum Order {
    Run(Range<usize>),
    These(Arc<[u32]>),
}

/// Where the bytes of a matrix are.
#[derive(Debug, Clone)]
enum Bytes {
    File(Arc<Shard>),
    Memory(Arc<Vec<u8>>),
}

impl Bytes {
    /// Fills `out` with those from `at` on. Errors: the file ends before or cannot be read.
    fn read(&self, at: u64, out: &mut [u8]) -> Result<()> {
        match self {
            Self::File(shard) => shard.read(at, out),
            Self::Memory(all) => {
                let own = usize::try_from(at).ok().and_then(|at| all.get(at..)?.get(..out.len()));
                out.copy_from_slice(own.ok_or_else(|| Error::invalid("a packed matrix is shorter than its rows"))?);
                Ok(())
            }
        }
    }
}

/// A matrix whose values stay as they are stored, in their file or packed in memory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FileMatrix {
    bytes: Bytes,
    /// Where its first row would stand.
    start: u64,
    form: Form,
    /// Values of a whole row of the file.
    width: usize,
    order: Order,
    columns: Range<usize>,
    scales: Option<Arc<Scales>>,
    /// Whether values are rounded to bf16.
    rounds: bool,
    /// What each row is multiplied by.
    factors: Option<Arc<[f32]>>,
}

/// Values that are made f32 at once: what was read for them stays in the processor's cache until then.
const AT_ONCE: usize = 1 << 15;

impl FileMatrix {
    /// `rows` of `width` values each, from `start` on.
    pub(super) fn new(
        shard: Arc<Shard>,
        start: u64,
        form: Form,
        (rows, width): (usize, usize),
        scales: Option<Scales>,
    ) -> Self {
        let (order, columns) = (Order::Run(0..rows), 0..width);
        let (bytes, scales) = (Bytes::File(shard), scales.map(Arc::new));
        Self { bytes, start, form, width, order, columns, scales, rounds: false, factors: None }
    }

    /// The same with every value rounded to bf16, before rows are multiplied by their factors.
    pub(super) fn rounded(self) -> Self {
        Self { rounds: !matches!(self.form, Form::Bf16) || self.scales.is_some(), ..self }
    }

    /// The same in memory as bf16, which takes two bytes a value.
    ///
    /// Errors: those of [`FileMatrix::read`], cancelled.
    pub(super) fn packed(&self, ctx: &Ctx) -> Result<Self> {
        let plain = Self { factors: None, ..self.clone() };
        plain.is_unchanged()?;
        let (n, wide) = (plain.n_rows(), plain.n_columns());
        let some = (AT_ONCE / wide.max(1)).max(1);
        let mut out = vec![0u8; 2 * n * wide];
        let parts = out.par_chunks_mut((2 * some * wide).max(1)).enumerate();
        parts.try_for_each_init(<(Vec<f32>, Vec<u8>)>::default, |(values, held), (i, out)| {
            ctx.check()?;
            values.resize(out.len() / 2, 0.0);
            plain.read(i * some, values, held)?;
            let pairs = out.as_chunks_mut::<2>().0.iter_mut().zip(&*values);
            pairs.for_each(|(out, x)| *out = bf16::from_f32(*x).to_le_bytes());
            Ok::<_, Error>(())
        })?;
        let (bytes, order) = (Bytes::Memory(Arc::new(out)), Order::Run(0..n));
        let (form, scales, factors) = (Form::Bf16, None, self.factors.clone());
        Ok(Self { bytes, start: 0, form, width: wide, order, columns: 0..wide, scales, rounds: false, factors })
    }

    /// Rows.
    pub fn n_rows(&self) -> usize {
        match &self.order {
            Order::Run(run) => run.len(),
            Order::These(ids) => ids.len(),
        }
    }

    /// Columns.
    pub fn n_columns(&self) -> usize {
        self.columns.len()
    }

    /// The row of the file that is row `i`.
    fn place(&self, i: usize) -> usize {
        match &self.order {
            Order::Run(run) => run.start + i,
            Order::These(ids) => ids[i] as usize,
        }
    }

    fn rows(&self, range: Range<usize>) -> Result<Self> {
        if range.start > range.end || range.end > self.n_rows() {
            return Err(Error::invalid(format!("rows {range:?} of a matrix with {}", self.n_rows())));
        }
        let order = match &self.order {
            Order::Run(run) => Order::Run(run.start + range.start..run.start + range.end),
            Order::These(ids) => Order::These(ids[range.clone()].into()),
        };
        Ok(Self { order, factors: self.factors.as_ref().map(|f| f[range].into()), ..self.clone() })
    }

    fn columns(&self, range: Range<usize>) -> Result<Self> {
        if range.start > range.end || range.end > self.n_columns() {
            return Err(Error::invalid(format!("columns {range:?} of a matrix with {}", self.n_columns())));
        }
        let from = self.columns.start;
        Ok(Self { columns: from + range.start..from + range.end, ..self.clone() })
    }

    pub(super) fn pick(&self, ids: &[u32]) -> Result<Self> {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.n_rows()) {
            return Err(Error::invalid(format!("row {id} of a matrix with {}", self.n_rows())));
        }
        let place = |&id: &u32| {
            u32::try_from(self.place(id as usize)).map_err(|_| Error::invalid("a matrix has too many rows to choose"))
        };
        let order = Order::These(ids.iter().map(place).collect::<Result<_>>()?);
        let factors = self.factors.as_ref().map(|f| ids.iter().map(|&id| f[id as usize]).collect());
        Ok(Self { order, factors, ..self.clone() })
    }

    fn scaled(&self, factors: &[f32]) -> Result<Self> {
        if factors.len() != self.n_rows() {
            return Err(Error::shape("factors of a matrix", format!("[{}]", self.n_rows()), &[factors.len()]));
        }
        let before = |i: usize| self.factors.as_ref().map_or(1.0, |f| f[i]);
        let factors = factors.iter().enumerate().map(|(i, f)| before(i) * f).collect();
        Ok(Self { factors: Some(factors), ..self.clone() })
    }

    /// Errors if the file was written to since it was opened.
    pub(crate) fn is_unchanged(&self) -> Result<()> {
        match &self.bytes {
            Bytes::File(shard) => shard.is_unchanged(),
            Bytes::Memory(_) => Ok(()),
        }
    }

    /// The rows from `first` on, as many as fill `out`. `held` is a place for bytes.
    ///
    /// Errors: the file ends before or cannot be read.
    pub(crate) fn read(&self, first: usize, out: &mut [f32], held: &mut Vec<u8>) -> Result<()> {
        let wide = self.n_columns();
        if wide == 0 {
            return Ok(());
        }
        let (n, most) = (out.len() / wide, (AT_ONCE / self.width).max(1));
        let mut i = 0;
        while i < n {
            let at = self.place(first + i);
            let run = (1..most.min(n - i)).take_while(|k| self.place(first + i + k) == at + k).count() + 1;
            let out = &mut out[i * wide..][..run * wide];
            if wide == self.width {
                self.read_run(at, run, out, held)?;
            } else {
                out.chunks_exact_mut(wide).enumerate().try_for_each(|(k, out)| self.read_part(at + k, out, held))?;
            }
            if let Some(scales) = &self.scales {
                scales.apply(at, self.columns.start, wide, out, held)?;
            }
            if self.rounds {
                out.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32());
            }
            if let Some(factors) = &self.factors {
                for (out, factor) in out.chunks_exact_mut(wide).zip(&factors[first + i..]) {
                    out.iter_mut().for_each(|x| *x *= factor);
                }
            }
            i += run;
        }
        Ok(())
    }

    /// Bytes of a row of the file.
    fn row_bytes(&self) -> usize {
        let (block, size) = self.form.block();
        self.width / block * size
    }

    /// Whole rows of the file.
    fn read_run(&self, at: usize, n: usize, out: &mut [f32], held: &mut Vec<u8>) -> Result<()> {
        let bytes = self.row_bytes();
        held.resize(n * bytes, 0);
        self.bytes.read(self.start + at as u64 * bytes as u64, held)?;
        self.form.read(held, out)
    }

    /// The own columns of a row of the file.
    fn read_part(&self, at: usize, out: &mut [f32], held: &mut Vec<u8>) -> Result<()> {
        let (block, size) = self.form.block();
        let (from, to) = (self.columns.start / block, self.columns.end.div_ceil(block));
        held.resize((to - from) * size, 0);
        self.bytes.read(self.start + at as u64 * self.row_bytes() as u64 + (from * size) as u64, held)?;
        if block == 1 {
            return self.form.read(held, out);
        }
        let mut whole = vec![0f32; (to - from) * block];
        self.form.read(held, &mut whole)?;
        out.copy_from_slice(&whole[self.columns.start - from * block..][..out.len()]);
        Ok(())
    }

    /// All values as f32, `[rows, columns]`.
    fn values(&self) -> Result<Tensor> {
        self.is_unchanged()?;
        let (n, wide) = (self.n_rows(), self.n_columns());
        let mut out = vec![0f32; n * wide];
        let some = (AT_ONCE / wide.max(1)).max(1);
        let part = |held: &mut Vec<u8>, (i, out): (usize, &mut [f32])| self.read(i * some, out, held);
        out.par_chunks_mut((some * wide).max(1)).enumerate().try_for_each_init(Vec::new, part)?;
        Ok(Tensor::from_vec(out, (n, wide), &Device::Cpu)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::convert::Source;
    use super::super::ggml::Ggml;
    use super::*;
    use crate::ctx::Ctx;

    /// `rows` of `width` values of any bytes, some bytes into a file.
    fn some(form: Form, rows: usize, width: usize) -> (FileMatrix, Vec<f32>) {
        let (block, size) = form.block();
        let n = rows * width / block * size;
        // Bytes of 64 and less make no infinities of scales.
        let bytes: Vec<u8> = (0..n + 3).map(|i| ((i * 7919 + i * i % 131) % 61) as u8).collect();
        let f = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(f.path(), bytes).unwrap();
        let shard = Arc::new(Shard::open(f.path()).unwrap());
        let all = form.values(Source { shard: &shard, start: 3, len: n }, &Ctx::default()).unwrap();
        assert!(all.iter().all(|x| x.is_finite()) && all.iter().any(|x| *x != all[0]));
        (FileMatrix::new(shard, 3, form, (rows, width), None), all)
    }

    fn flat(t: &Table) -> Vec<f32> {
        t.tensor().unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn parts_of_every_type_are_those_of_the_whole() {
        // Every type that a file may have, by its number in GGUF, and the 8-bit floats.
        let ggml = (0..43).filter_map(|code| Form::ggml(Ggml::of(code)));
        let eight = [safetensors::Dtype::F8_E4M3, safetensors::Dtype::F8_E5M2].map(|d| Form::plain(d).unwrap());
        let mut seen = 0;
        for form in ggml.chain(eight) {
            let width = 3 * form.block().0.max(5);
            let (m, all) = some(form, 7, width);
            let row = |r: usize, columns: Range<usize>| &all[r * width + columns.start..r * width + columns.end];
            let table = Table::file(m, false);
            assert_eq!(flat(&table), all, "{form:?}");
            // Columns that cut blocks, of rows in another order, of which one comes twice.
            let part = table.pick(&[6, 0, 1, 1, 4]).unwrap().rows(1..5).unwrap().columns(3..width - 2).unwrap();
            let want: Vec<f32> = [0, 1, 1, 4].iter().flat_map(|&r| row(r, 3..width - 2)).copied().collect();
            assert_eq!(flat(&part), want, "{form:?}");
            let turned = table.turned().unwrap();
            assert_eq!(turned.dims2().unwrap(), (width, 7));
            let want: Vec<f32> =
                (2..4).flat_map(|c| (1..6).map(move |r| (r, c))).map(|(r, c)| all[r * width + c]).collect();
            assert_eq!(flat(&turned.columns(1..6).unwrap().rows(2..4).unwrap()), want, "{form:?}");
            seen += 1;
        }
        assert!(seen > 36, "{seen} types");
    }

    /// Every type that a file may have: rounded where they are read, and packed in memory, values are the nearest bf16.
    #[test]
    fn rounded_values_are_the_nearest_bf16_wherever_they_are() {
        let mut changed = 0;
        for form in (0..42).filter_map(|code| Form::ggml(Ggml::of(code))) {
            let width = 3 * form.block().0.max(5);
            let (m, all) = some(form, 7, width);
            let want: Vec<f32> = all.iter().map(|x| bf16::from_f32(*x).to_f32()).collect();
            changed += usize::from(want != all);
            let packed = m.packed(&Ctx::default()).unwrap();
            assert_eq!(flat(&Table::file(m.clone().rounded(), false)), want, "{form:?}");
            assert_eq!(flat(&Table::file(packed, false)), want, "{form:?}");
            // Of rows in another order, some columns, multiplied.
            let part = m.pick(&[5, 0, 3]).unwrap().columns(2..width - 1).unwrap().scaled(&[0.3, 1.0, 7.0]).unwrap();
            let row = |r: usize, f: f32| (2..width - 1).map(move |c| (r * width + c, f));
            let want: Vec<f32> =
                [(5, 0.3), (0, 1.0), (3, 7.0)].iter().flat_map(|&(r, f)| row(r, f)).map(|(i, f)| want[i] * f).collect();
            let packed = part.packed(&Ctx::default()).unwrap();
            assert_eq!(flat(&Table::file(part.clone().rounded(), false)), want, "{form:?}");
            assert_eq!(flat(&Table::file(packed.clone(), false)), want, "{form:?}");
            let turned = Table::file(packed, true).rows(1..3).unwrap();
            assert_eq!(turned.dims2().unwrap(), (2, 3));
            let n = width - 3;
            let want: Vec<f32> = (1..3).flat_map(|c| (0..3).map(move |r| r * n + c)).map(|i| want[i]).collect();
            assert_eq!(flat(&turned), want, "{form:?}");
        }
        assert!(changed > 10, "{changed} types have values that are no bf16");
        let stop = Ctx::new(Arc::new(true.into()), Arc::new(|_| ()));
        assert!(matches!(some(Form::F32, 3, 5).0.packed(&stop), Err(Error::Cancelled)));
    }

    #[test]
    fn factors_go_with_their_rows() {
        let (m, all) = some(Form::F32, 4, 3);
        let by = |f: &[f32]| Tensor::new(f, &Device::Cpu).unwrap();
        let table = Table::file(m, true);
        let table = table.scaled(&by(&[1., 2., 3., 4.])).unwrap().columns(1..4).unwrap();
        let table = table.scaled(&by(&[10., 100., 1000.])).unwrap().turned().unwrap().pick(&[2, 0]).unwrap();
        let want: Vec<f32> =
            [(3, 4000.0), (1, 20.0)].iter().flat_map(|&(r, f)| all[r * 3..][..3].iter().map(move |x| x * f)).collect();
        assert_eq!(flat(&table), want);
        assert!(table.turned().unwrap().scaled(&by(&[1.0])).is_err());
    }

    #[test]
    fn what_is_not_there_is_an_error_and_so_is_a_file_that_changed() {
        let f = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(f.path(), [1; 48]).unwrap();
        let shard = Arc::new(Shard::open(f.path()).unwrap());
        let t = Table::file(FileMatrix::new(shard, 0, Form::F32, (4, 3), None), false);
        assert!(t.rows(3..5).is_err() && t.columns(2..4).is_err() && t.pick(&[4]).is_err() && t.look_up(&[9]).is_err());
        assert!(t.tensor().is_ok());
        std::fs::write(f.path(), [1; 47]).unwrap();
        let said = t.tensor().unwrap_err().to_string();
        assert!(said.contains("was changed while the model is open"), "{said}");
    }
}
