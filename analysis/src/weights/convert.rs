//! Stored numbers to f32, straight from the file into the array that the model keeps, on several threads.

use crate::ctx::Ctx;
use crate::{Error, Result};
use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

/// Values that one thread converts between two looks at the cancel flag.
const CHUNK: usize = 1 << 16;

/// Where the bytes of a tensor are read.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// In memory, or in a mapped file, whose pages then count as the program's memory beside the copy.
    Bytes(&'a [u8]),
    /// `len` bytes of a file from `start` on.
    #[cfg(unix)]
    File { file: &'a std::fs::File, path: &'a std::path::Path, start: u64, len: usize },
}

impl<'a> Source<'a> {
    fn len(self) -> usize {
        match self {
            Source::Bytes(bytes) => bytes.len(),
            #[cfg(unix)]
            Source::File { len, .. } => len,
        }
    }

    /// The `len` bytes from `from` on, in `held` if they have to be read.
    fn read<'h>(self, from: usize, len: usize, held: &'h mut Vec<u8>) -> Result<&'h [u8]>
    where
        'a: 'h,
    {
        match self {
            Source::Bytes(bytes) => Ok(&bytes[from..from + len]),
            #[cfg(unix)]
            Source::File { file, path, start, .. } => {
                use std::os::unix::fs::FileExt;
                held.resize(len, 0);
                file.read_exact_at(held, start + from as u64).map_err(|e| Error::io(path, e))?;
                Ok(held)
            }
        }
    }
}

/// Little-endian numbers of a plain type as f32; `None` if the type has no such conversion.
pub(super) fn plain(dtype: Dtype, bytes: Source, ctx: &Ctx) -> Option<Result<Vec<f32>>> {
    Some(match dtype {
        Dtype::F32 => numbers(bytes, f32::from_le_bytes, ctx),
        Dtype::F64 => numbers(bytes, |b| f64::from_le_bytes(b) as f32, ctx),
        Dtype::F16 => numbers(bytes, |b| f16::from_le_bytes(b).to_f32(), ctx),
        Dtype::BF16 => numbers(bytes, |b| bf16::from_le_bytes(b).to_f32(), ctx),
        _ => return None,
    })
}

fn numbers<const N: usize>(bytes: Source, read: impl Fn([u8; N]) -> f32 + Sync, ctx: &Ctx) -> Result<Vec<f32>> {
    let mut out = vec![0f32; bytes.len() / N];
    ctx.check()?;
    out.par_chunks_mut(CHUNK).enumerate().try_for_each_init(Vec::new, |held, (i, out)| {
        ctx.check()?;
        let stored = bytes.read(i * CHUNK * N, out.len() * N, held)?;
        out.iter_mut().zip(stored.as_chunks::<N>().0).for_each(|(x, b)| *x = read(*b));
        Ok::<_, Error>(())
    })?;
    Ok(out)
}

/// Blocks of llama.cpp as f32.
pub(super) fn ggml(dtype: GgmlDType, bytes: &[u8], ctx: &Ctx) -> Result<Vec<f32>> {
    let as_plain = match dtype {
        GgmlDType::F32 => plain(Dtype::F32, Source::Bytes(bytes), ctx),
        GgmlDType::F16 => plain(Dtype::F16, Source::Bytes(bytes), ctx),
        GgmlDType::BF16 => plain(Dtype::BF16, Source::Bytes(bytes), ctx),
        _ => None,
    };
    if let Some(done) = as_plain {
        return done;
    }
    let (block, size) = (dtype.block_size(), dtype.type_size());
    let blocks = (CHUNK / block).max(1);
    let mut out = vec![0f32; bytes.len() / size * block];
    out.par_chunks_mut(blocks * block).zip(bytes.par_chunks(blocks * size)).try_for_each(|(out, bytes)| {
        ctx.check()?;
        let t = qtensor_from_ggml(dtype, bytes, vec![out.len()], &Device::Cpu)?.dequantize(&Device::Cpu)?;
        out.copy_from_slice(&t.to_vec1::<f32>()?);
        Ok::<_, Error>(())
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;
    use candle_core::quantized::QTensor;

    #[test]
    fn every_plain_type_reads_back() {
        let x: Vec<f32> = (0..3 * CHUNK + 5).map(|i| (i % 1000) as f32 - 500.0).collect();
        let ctx = Ctx::default();
        let dir = tempfile::tempdir().unwrap();
        let read = |dtype, bytes: Vec<u8>| {
            let mapped = plain(dtype, Source::Bytes(&bytes), &ctx).unwrap().unwrap();
            #[cfg(unix)]
            {
                // The same from a file, behind seven bytes of something else.
                let path = dir.path().join("weights");
                std::fs::write(&path, [&[1; 7], bytes.as_slice()].concat()).unwrap();
                let file = std::fs::File::open(&path).unwrap();
                let source = |len| Source::File { file: &file, path: &path, start: 7, len };
                assert_eq!(plain(dtype, source(bytes.len()), &ctx).unwrap().unwrap(), mapped);
                assert!(plain(dtype, source(bytes.len() + 8), &ctx).unwrap().is_err(), "the file ends before");
            }
            mapped
        };
        assert_eq!(read(Dtype::F32, x.iter().flat_map(|v| v.to_le_bytes()).collect()), x);
        assert_eq!(read(Dtype::F64, x.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect()), x);
        assert_eq!(read(Dtype::F16, x.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()), x);
        // bf16 holds whole numbers up to 256.
        let small: Vec<f32> = x.iter().map(|v| v % 100.0).collect();
        assert_eq!(read(Dtype::BF16, small.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()), small);
        assert!(plain(Dtype::I64, Source::Bytes(&[0; 8]), &ctx).is_none());
    }

    #[test]
    fn blocks_read_part_by_part_are_those_read_at_once() {
        let n = 2 * CHUNK + 512;
        let x: Vec<f32> = (0..n).map(|i| ((i * 7919) % 1009) as f32 / 500.0 - 1.0).collect();
        let x = Tensor::from_vec(x, n, &Device::Cpu).unwrap();
        for dtype in [GgmlDType::Q8_0, GgmlDType::Q4K] {
            let q = QTensor::quantize(&x, dtype).unwrap();
            let whole = q.dequantize(&Device::Cpu).unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(ggml(dtype, &q.data().unwrap(), &Ctx::default()).unwrap(), whole);
        }
    }

    #[test]
    fn a_cancelled_read_says_so() {
        let ctx = Ctx::new(std::sync::Arc::new(true.into()), std::sync::Arc::new(|_| ()));
        assert!(matches!(plain(Dtype::F32, Source::Bytes(&[0; 8]), &ctx), Some(Err(Error::Cancelled))));
        assert!(matches!(ggml(GgmlDType::Q8_0, &[0; 34], &ctx), Err(Error::Cancelled)));
    }
}
