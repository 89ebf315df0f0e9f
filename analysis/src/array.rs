//! Plain host arrays: row-major `f32` with a shape that is checked wherever one comes in.

use crate::{Error, Result};
use candle_core::{CpuStorage, Device, Storage, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

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
        let (storage, layout) = t.storage_and_layout();
        if let Storage::Cpu(CpuStorage::F32(values)) = &*storage
            && layout.stride().last() == Some(&1)
        {
            // The usual case in one go, row by row from wherever the rows lie.
            let (len, outer) = (shape[shape.len() - 1], &shape[..shape.len() - 1]);
            let mut data = vec![0f32; t.elem_count()];
            let copy = |(i, row): (usize, &mut [f32])| {
                let (mut rest, mut from) = (i, layout.start_offset());
                for (n, stride) in outer.iter().zip(layout.stride()).rev() {
                    from += rest % n * stride;
                    rest /= n;
                }
                row.copy_from_slice(&values[from..from + len]);
            };
            let len = len.max(1);
            match data.len() <= COPY {
                true => data.chunks_mut(len).enumerate().for_each(copy),
                false => data.par_chunks_mut(len).with_min_len(COPY.div_ceil(len)).enumerate().for_each(copy),
            }
            return Ok(Self { shape, data: Data::Own(data) });
        }
        drop(storage);
        let data = t.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(Self { shape, data: Data::Own(data) })
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
        }
    }

    /// The values, to write; copied before where they lie elsewhere.
    pub fn data_mut(&mut self) -> &mut [f32] {
        if let Data::Elsewhere(values) = &self.data {
            self.data = Data::Own((**values).as_ref().to_vec());
        }
        match &mut self.data {
            Data::Own(values) => values,
            Data::Elsewhere(_) => &mut [],
        }
    }

    /// The values, taken out.
    pub fn into_data(self) -> Vec<f32> {
        match self.data {
            Data::Own(values) => values,
            Data::Elsewhere(values) => (*values).as_ref().to_vec(),
        }
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

    /// Errors unless every value is finite.
    pub fn check_finite(&self, what: &str) -> Result<()> {
        match self.data().iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(i) => Err(Error::invalid(format!("{what}: value {i} is {}", self.data()[i]))),
        }
    }
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
