//! Plain host arrays: row-major `f32` with a shape that is checked wherever one comes in.

use crate::cpu::vectorised;
use crate::{Error, Result};
use candle_core::{CpuStorage, Device, Layout, Storage, Tensor};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Values that one thread copies at a time.
const COPY: usize = 1 << 15;

/// A dense row-major array on the host.
#[derive(Debug, Clone, Default)]
pub struct Array {
    shape: Vec<usize>,
    data: Data,
}

/// Values that lie elsewhere than in memory of their own, as those of a mapped file.
pub type Elsewhere = Arc<dyn AsRef<[f32]> + Send + Sync>;

/// Where the values are.
#[derive(Clone)]
enum Data {
    Own(Vec<f32>),
    Elsewhere(Elsewhere),
    Late(Arc<Late>),
}

/// Values of a tensor that are copied when somebody first looks; most of what a run keeps is never looked at.
struct Late {
    /// Until then; its memory is given back with the copy made.
    tensor: Mutex<Option<Tensor>>,
    values: OnceLock<Vec<f32>>,
}

impl Late {
    fn values(&self) -> &[f32] {
        self.values.get_or_init(|| {
            let tensor = self.tensor.lock().unwrap_or_else(PoisonError::into_inner).take();
            // On this thread alone: one that waits for others may begin work that looks at the same values.
            tensor.as_ref().and_then(|t| copied(t, false)).unwrap_or_default()
        })
    }
}

impl Default for Data {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own(values) => values.fmt(f),
            Self::Elsewhere(values) => write!(f, "{} values elsewhere", (**values).as_ref().len()),
            Self::Late(late) => late.values().fmt(f),
        }
    }
}

impl PartialEq for Array {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape && self.data() == other.data()
    }
}

impl Array {
    /// An array of `shape` over `data`. Errors if the sizes do not fit.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Self> {
        let shape = shape.into();
        let size = shape.iter().try_fold(1usize, |a, &n| a.checked_mul(n));
        if size != Some(data.len()) {
            return Err(Error::shape("array", format!("{} values", data.len()), &shape));
        }
        Ok(Self { shape, data: Data::Own(data) })
    }

    /// An array of `shape` over values that lie elsewhere. Errors if the sizes do not fit.
    pub fn elsewhere(shape: impl Into<Vec<usize>>, values: Elsewhere) -> Result<Self> {
        let (shape, n) = (shape.into(), (*values).as_ref().len());
        if shape.iter().try_fold(1usize, |a, &n| a.checked_mul(n)) != Some(n) {
            return Err(Error::shape("array", format!("{n} values"), &shape));
        }
        Ok(Self { shape, data: Data::Elsewhere(values) })
    }

    /// Bytes of memory that are its own; none where its values lie elsewhere.
    pub fn own_bytes(&self) -> usize {
        match &self.data {
            Data::Own(values) => size_of_val(values.as_slice()),
            Data::Elsewhere(_) => 0,
            Data::Late(_) => self.all_bytes(),
        }
    }

    /// All zeros.
    pub fn zeros(shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        let size = shape.iter().product();
        Self { shape, data: Data::Own(vec![0.0; size]) }
    }

    /// Copies a tensor of any float type to the host.
    pub fn from_tensor(t: &Tensor) -> Result<Self> {
        let shape = t.dims().to_vec();
        if let Some(data) = copied(t, true) {
            return Ok(Self { shape, data: Data::Own(data) });
        }
        let data = t.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(Self { shape, data: Data::Own(data) })
    }

    /// [`Array::from_tensor`] of a tensor that nobody writes to any more: where its values lie in memory of their own, the
    /// copy is made when somebody first looks at it.
    pub fn of_tensor(t: &Tensor) -> Result<Self> {
        let (storage, layout) = t.storage_and_layout();
        let alone = match &*storage {
            Storage::Cpu(CpuStorage::F32(values)) => values.len() == t.elem_count(),
            _ => false,
        };
        if !alone || !in_rows(layout) {
            drop(storage);
            return Self::from_tensor(t);
        }
        let late = Late { tensor: Mutex::new(Some(t.detach())), values: OnceLock::new() };
        Ok(Self { shape: t.dims().to_vec(), data: Data::Late(Arc::new(late)) })
    }

    /// The same as a tensor on a device.
    pub fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        Ok(Tensor::from_slice(self.data(), self.shape.as_slice(), device)?)
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, row-major.
    pub fn data(&self) -> &[f32] {
        match &self.data {
            Data::Own(values) => values,
            Data::Elsewhere(values) => (**values).as_ref(),
            Data::Late(late) => late.values(),
        }
    }

    /// The values, to write; copied before where they lie elsewhere.
    pub fn data_mut(&mut self) -> &mut [f32] {
        if !matches!(self.data, Data::Own(_)) {
            self.data = Data::Own(self.data().to_vec());
        }
        match &mut self.data {
            Data::Own(values) => values,
            Data::Elsewhere(_) | Data::Late(_) => &mut [],
        }
    }

    /// The values, taken out.
    pub fn into_data(self) -> Vec<f32> {
        match self.data {
            Data::Own(values) => values,
            Data::Elsewhere(values) => (*values).as_ref().to_vec(),
            Data::Late(late) => match Arc::try_unwrap(late) {
                Ok(late) => {
                    late.values();
                    late.values.into_inner().unwrap_or_default()
                }
                Err(late) => late.values().to_vec(),
            },
        }
    }

    /// Bytes of all values, wherever they lie.
    pub fn all_bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * size_of::<f32>()
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The sizes, if there are exactly `N` axes.
    pub fn dims<const N: usize>(&self, what: &str) -> Result<[usize; N]> {
        self.shape.as_slice().try_into().map_err(|_| Error::shape(what, format!("{N} axes"), &self.shape))
    }

    /// Slice `i` along the first axis, as values. Panics if `i` is out of range, like indexing.
    pub fn row(&self, i: usize) -> &[f32] {
        let n = self.data().len() / self.shape[0].max(1);
        &self.data()[i * n..(i + 1) * n]
    }

    /// Slice `i` along the first axis, as an array.
    pub fn sub(&self, i: usize) -> Self {
        Self { shape: self.shape[1..].to_vec(), data: Data::Own(self.row(i).to_vec()) }
    }

    /// Mean over the first axis of `[k, …]` in f64, as a flat list; zeros if k is 0.
    pub fn mean_over_first(&self) -> Vec<f64> {
        let k = self.shape.first().copied().unwrap_or(0);
        let n = self.shape.iter().skip(1).product::<usize>();
        let mut out = vec![0f64; n];
        for part in self.data().chunks_exact(n.max(1)) {
            out.iter_mut().zip(part).for_each(|(o, v)| *o += f64::from(*v));
        }
        out.iter_mut().for_each(|o| *o /= k.max(1) as f64);
        out
    }

    /// Whether `bad` says so of some value; looks on all threads, and copies nothing that is to be copied late.
    pub fn any(&self, bad: impl Fn(f32) -> bool + Sync) -> bool {
        let any = |values: &[f32]| {
            let part = |part: &[f32]| vectorised(|| part.iter().fold(false, |any, &x| any | bad(x)));
            values.par_chunks(1 << 16).any(part)
        };
        let Some(tensor) = self.still_tensor() else { return any(self.data()) };
        let (storage, _) = tensor.storage_and_layout();
        match &*storage {
            Storage::Cpu(CpuStorage::F32(values)) => any(values),
            _ => any(self.data()),
        }
    }

    /// The tensor whose values, all of its memory, are this array's, where they were not copied yet.
    fn still_tensor(&self) -> Option<Tensor> {
        let Data::Late(late) = &self.data else { return None };
        late.tensor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Errors unless every value is finite.
    pub fn check_finite(&self, what: &str) -> Result<()> {
        match self.data().iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(i) => Err(Error::invalid(format!("{what}: value {i} is {}", self.data()[i]))),
        }
    }
}

/// Whether values along the last axis lie side by side.
fn in_rows(layout: &Layout) -> bool {
    layout.stride().last() == Some(&1)
}

/// A copy of f32 values on the host whose last axis lies side by side: in one go, row by row from wherever the rows lie, by
/// all threads where there are many and `threads` allows.
fn copied(t: &Tensor, threads: bool) -> Option<Vec<f32>> {
    let (storage, layout) = t.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(values)) = &*storage else { return None };
    let (len, outer) = t.dims().split_last().filter(|_| in_rows(layout))?;
    let mut data = vec![0f32; t.elem_count()];
    let copy = |(i, row): (usize, &mut [f32])| {
        let (mut rest, mut from) = (i, layout.start_offset());
        for (n, stride) in outer.iter().zip(layout.stride()).rev() {
            from += rest % n * stride;
            rest /= n;
        }
        row.copy_from_slice(&values[from..from + len]);
    };
    let len = (*len).max(1);
    match threads && data.len() > COPY {
        false => data.chunks_mut(len).enumerate().for_each(copy),
        true => data.par_chunks_mut(len).with_min_len(COPY.div_ceil(len)).enumerate().for_each(copy),
    }
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_lie_elsewhere_are_read_as_own_ones_and_copied_to_be_written() {
        let there: Elsewhere = Arc::new(vec![1.0, 2.0, 3.0, 4.0]);
        let mut a = Array::elsewhere([2, 2], there.clone()).unwrap();
        let own = Array::new([2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!((&a, a.row(1), a.own_bytes(), own.own_bytes()), (&own, &[3.0, 4.0][..], 0, 16));
        a.data_mut()[0] = 7.0;
        assert_eq!((a.data()[0], (*there).as_ref()[0], a.own_bytes()), (7.0, 1.0, 16));
        assert!(Array::elsewhere([3], there).is_err());
    }

    #[test]
    fn a_late_copy_is_the_early_one_and_gives_the_tensor_back() {
        let t = Tensor::arange(0f32, 60.0, &Device::Cpu).unwrap().reshape((3, 4, 5)).unwrap();
        let turned = t.transpose(0, 1).unwrap();
        for t in [t.clone(), turned, t.narrow(0, 1, 2).unwrap(), t.t().unwrap(), t.narrow(0, 3, 0).unwrap()] {
            let (late, early) = (Array::of_tensor(&t).unwrap(), Array::from_tensor(&t).unwrap());
            assert_eq!((late.own_bytes(), &late), (early.own_bytes(), &early));
            assert_eq!((late.clone().into_data(), late.into_data()), (early.data().to_vec(), early.into_data()));
        }
        let late = Array::of_tensor(&t).unwrap();
        let Data::Late(it) = &late.data else { panic!("a whole tensor is copied late") };
        assert!(it.tensor.lock().unwrap().is_some());
        assert_eq!(late.data()[59], 59.0);
        assert!(it.tensor.lock().unwrap().is_none());
        let mut other = late.clone();
        assert!(
            Array::of_tensor(&t).unwrap().any(|x| x == 59.0) && late.any(|x| x == 59.0) && !late.any(|x| x == 60.0)
        );
        other.data_mut()[0] = 7.0;
        assert_eq!((other.data()[0], late.data()[0]), (7.0, 0.0));
    }

    #[test]
    fn a_turned_and_cut_tensor_is_copied_as_it_reads() {
        let t = Tensor::arange(0f32, 60.0, &Device::Cpu).unwrap().reshape((3, 4, 5)).unwrap();
        for t in [t.transpose(0, 1).unwrap().narrow(0, 1, 2).unwrap(), t.narrow(2, 1, 3).unwrap(), t.t().unwrap()] {
            let want = t.contiguous().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let a = Array::from_tensor(&t).unwrap();
            assert_eq!((a.shape(), a.data()), (t.dims(), want.as_slice()));
        }
        assert_eq!(Array::from_tensor(&t.narrow(0, 3, 0).unwrap()).unwrap().shape(), [0, 4, 5]);
    }
}
