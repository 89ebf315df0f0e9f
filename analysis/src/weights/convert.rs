//! Stored numbers to f32, straight from the mapped file into the array that the model keeps, on several threads.

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

/// Little-endian numbers of a plain type as f32; `None` if the type has no such conversion.
pub(super) fn plain(dtype: Dtype, bytes: &[u8], ctx: &Ctx) -> Option<Result<Vec<f32>>> {
    Some(match dtype {
        Dtype::F32 => numbers(bytes, f32::from_le_bytes, ctx),
        Dtype::F64 => numbers(bytes, |b| f64::from_le_bytes(b) as f32, ctx),
        Dtype::F16 => numbers(bytes, |b| f16::from_le_bytes(b).to_f32(), ctx),
        Dtype::BF16 => numbers(bytes, |b| bf16::from_le_bytes(b).to_f32(), ctx),
        _ => return None,
    })
}

fn numbers<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32 + Sync, ctx: &Ctx) -> Result<Vec<f32>> {
    let stored = bytes.as_chunks::<N>().0;
    let mut out = vec![0f32; stored.len()];
    out.par_chunks_mut(CHUNK).zip(stored.par_chunks(CHUNK)).for_each(|(out, stored)| {
        if !ctx.cancelled() {
            out.iter_mut().zip(stored).for_each(|(x, b)| *x = read(*b));
        }
    });
    ctx.check()?;
    Ok(out)
}

/// Blocks of llama.cpp as f32.
pub(super) fn ggml(dtype: GgmlDType, bytes: &[u8], ctx: &Ctx) -> Result<Vec<f32>> {
    let as_plain = match dtype {
        GgmlDType::F32 => plain(Dtype::F32, bytes, ctx),
        GgmlDType::F16 => plain(Dtype::F16, bytes, ctx),
        GgmlDType::BF16 => plain(Dtype::BF16, bytes, ctx),
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
        let read = |dtype, bytes: Vec<u8>| plain(dtype, &bytes, &ctx).unwrap().unwrap();
        assert_eq!(read(Dtype::F32, x.iter().flat_map(|v| v.to_le_bytes()).collect()), x);
        assert_eq!(read(Dtype::F64, x.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect()), x);
        assert_eq!(read(Dtype::F16, x.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()), x);
        // bf16 holds whole numbers up to 256.
        let small: Vec<f32> = x.iter().map(|v| v % 100.0).collect();
        assert_eq!(read(Dtype::BF16, small.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()), small);
        assert!(plain(Dtype::I64, &[0; 8], &ctx).is_none());
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
        assert!(matches!(plain(Dtype::F32, &[0; 8], &ctx), Some(Err(Error::Cancelled))));
        assert!(matches!(ggml(GgmlDType::Q8_0, &[0; 34], &ctx), Err(Error::Cancelled)));
    }
}
