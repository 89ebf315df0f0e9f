//! Stored numbers to f32, straight from the file into the array that the model keeps, on several threads.

use super::ggml::{Ggml, eighth_table};
use super::shard::Shard;
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

/// The bytes of a tensor: `len` of a file from `start` on.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub shard: &'a Shard,
    pub start: u64,
    pub len: usize,
}

impl Source<'_> {
    /// The `len` bytes from `from` on, in `held`.
    fn read(self, from: usize, len: usize, held: &mut Vec<u8>) -> Result<&[u8]> {
        held.resize(len, 0);
        self.shard.read(self.start + from as u64, held)?;
        Ok(held)
    }
}

/// Little-endian numbers of a plain type as f32; `None` if the type has no such conversion.
pub(super) fn plain(dtype: Dtype, bytes: Source, ctx: &Ctx) -> Option<Result<Vec<f32>>> {
    Some(match dtype {
        Dtype::F32 => numbers(bytes, f32::from_le_bytes, ctx),
        Dtype::F64 => numbers(bytes, |b| f64::from_le_bytes(b) as f32, ctx),
        Dtype::F16 => numbers(bytes, |b| f16::from_le_bytes(b).to_f32(), ctx),
        Dtype::BF16 => numbers(bytes, |b| bf16::from_le_bytes(b).to_f32(), ctx),
        Dtype::F8_E4M3 => numbers(bytes, of_eight(3, true), ctx),
        Dtype::F8_E5M2 => numbers(bytes, of_eight(2, false), ctx),
        _ => return None,
    })
}

fn of_eight(mantissa: u32, finite: bool) -> impl Fn([u8; 1]) -> f32 + Sync {
    let table = eighth_table(mantissa, finite);
    move |b| table[usize::from(b[0])]
}

fn numbers<const N: usize>(bytes: Source, read: impl Fn([u8; N]) -> f32 + Sync, ctx: &Ctx) -> Result<Vec<f32>> {
    let mut out = vec![0f32; bytes.len / N];
    ctx.check()?;
    out.par_chunks_mut(CHUNK).enumerate().try_for_each_init(Vec::new, |held, (i, out)| {
        ctx.check()?;
        let stored = bytes.read(i * CHUNK * N, out.len() * N, held)?;
        out.iter_mut().zip(stored.as_chunks::<N>().0).for_each(|(x, b)| *x = read(*b));
        Ok::<_, Error>(())
    })?;
    Ok(out)
}

/// Blocks of llama.cpp as f32; `None` if the type is not read.
pub(super) fn ggml(dtype: Ggml, bytes: Source, ctx: &Ctx) -> Option<Result<Vec<f32>>> {
    match dtype {
        Ggml::Candle(GgmlDType::F32) => plain(Dtype::F32, bytes, ctx),
        Ggml::Candle(GgmlDType::F16) => plain(Dtype::F16, bytes, ctx),
        Ggml::Candle(GgmlDType::BF16) => plain(Dtype::BF16, bytes, ctx),
        Ggml::Candle(d) => Some(blocks(d.block_size(), d.type_size(), bytes, ctx, &|stored, out| {
            let t = qtensor_from_ggml(d, stored, vec![out.len()], &Device::Cpu)?.dequantize(&Device::Cpu)?;
            out.copy_from_slice(&t.to_vec1::<f32>()?);
            Ok(())
        })),
        Ggml::Own(own) => {
            let (block, size) = own.block();
            Some(blocks(block, size, bytes, ctx, &|stored, out| {
                own.read(stored, out);
                Ok(())
            }))
        }
        Ggml::Named(..) | Ggml::Unknown(_) => None,
    }
}

/// Fills values from whole blocks.
type ReadBlocks<'a> = dyn Fn(&[u8], &mut [f32]) -> Result<()> + Sync + 'a;

/// Reads whole blocks, some thousand values at a time.
fn blocks(block: usize, size: usize, bytes: Source, ctx: &Ctx, read: &ReadBlocks) -> Result<Vec<f32>> {
    let some = (CHUNK / block).max(1);
    let mut out = vec![0f32; bytes.len / size * block];
    ctx.check()?;
    out.par_chunks_mut(some * block).enumerate().try_for_each_init(Vec::new, |held, (i, out)| {
        ctx.check()?;
        read(bytes.read(i * some * size, out.len() / block * size, held)?, out)
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;
    use candle_core::quantized::QTensor;

    /// `bytes` in a file, behind seven bytes of something else.
    fn stored(bytes: &[u8]) -> Shard {
        let f = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(f.path(), [&[1; 7], bytes].concat()).unwrap();
        Shard::open(f.path()).unwrap()
    }

    fn source(shard: &Shard, len: usize) -> Source<'_> {
        Source { shard, start: 7, len }
    }

    #[test]
    fn every_plain_type_reads_back() {
        let x: Vec<f32> = (0..3 * CHUNK + 5).map(|i| (i % 1000) as f32 - 500.0).collect();
        let ctx = Ctx::default();
        let read = |dtype, bytes: Vec<u8>| {
            let shard = stored(&bytes);
            assert!(plain(dtype, source(&shard, bytes.len() + 8), &ctx).unwrap().is_err(), "the file ends before");
            plain(dtype, source(&shard, bytes.len()), &ctx).unwrap().unwrap()
        };
        assert_eq!(read(Dtype::F32, x.iter().flat_map(|v| v.to_le_bytes()).collect()), x);
        assert_eq!(read(Dtype::F64, x.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect()), x);
        assert_eq!(read(Dtype::F16, x.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()), x);
        // bf16 holds whole numbers up to 256.
        let small: Vec<f32> = x.iter().map(|v| v % 100.0).collect();
        assert_eq!(read(Dtype::BF16, small.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()), small);
        assert_eq!(read(Dtype::F8_E4M3, vec![0x38, 0xc0]), [1.0, -2.0]);
        assert!(plain(Dtype::I64, source(&stored(&[0; 8]), 8), &ctx).is_none());
    }

    #[test]
    fn blocks_read_part_by_part_are_those_read_at_once() {
        let n = 2 * CHUNK + 512;
        let x: Vec<f32> = (0..n).map(|i| ((i * 7919) % 1009) as f32 / 500.0 - 1.0).collect();
        let x = Tensor::from_vec(x, n, &Device::Cpu).unwrap();
        for dtype in [GgmlDType::Q8_0, GgmlDType::Q4K] {
            let q = QTensor::quantize(&x, dtype).unwrap();
            let whole = q.dequantize(&Device::Cpu).unwrap().to_vec1::<f32>().unwrap();
            let bytes = q.data().unwrap();
            let shard = stored(&bytes);
            let read = ggml(Ggml::Candle(dtype), source(&shard, bytes.len()), &Ctx::default());
            assert_eq!(read.unwrap().unwrap(), whole);
        }
    }

    #[test]
    fn a_cancelled_read_says_so() {
        let ctx = Ctx::new(std::sync::Arc::new(true.into()), std::sync::Arc::new(|_| ()));
        let shard = stored(&[0; 34]);
        assert!(matches!(plain(Dtype::F32, source(&shard, 8), &ctx), Some(Err(Error::Cancelled))));
        let q8 = Ggml::Candle(GgmlDType::Q8_0);
        assert!(matches!(ggml(q8, source(&shard, 34), &ctx), Some(Err(Error::Cancelled))));
    }
}
