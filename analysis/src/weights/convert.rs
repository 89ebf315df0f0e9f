//! Stored numbers to f32: a few, or straight from the file into the array that the model keeps, on several threads.

use super::ggml::{Ggml, Own, eighth_table};
use super::shard::Shard;
use crate::cpu::vectorised;
use crate::ctx::Ctx;
use crate::{Error, Result};
use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use candle_core::{CpuStorage, Device, Storage};
use rayon::prelude::*;
use safetensors::Dtype;
use std::sync::LazyLock;

/// Values that one thread converts between two looks at the cancel flag.
const CHUNK: usize = 1 << 16;

/// The bytes of a tensor: `len` of a file from `start` on.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub shard: &'a Shard,
    pub start: u64,
    pub len: usize,
}

/// How numbers are stored that are read here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    F32,
    F64,
    F16,
    Bf16,
    /// 8-bit floats, by their values.
    Eight(&'static [f32; 256]),
    /// Two 4-bit floats in a byte, the lower half first, as they are before their exponent (OCP Microscaling Formats
    /// 1.0, 2023).
    Pairs,
    /// Blocks of llama.cpp that candle reads.
    Blocks(GgmlDType),
    /// Blocks of llama.cpp that candle does not read.
    Own(Own),
}

/// The values of 4-bit floats with two bits of exponent and one of mantissa.
const FOURTH: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

static E4M3: LazyLock<[f32; 256]> = LazyLock::new(|| eighth_table(3, true));
static E5M2: LazyLock<[f32; 256]> = LazyLock::new(|| eighth_table(2, false));

impl Form {
    /// A plain type, if it has values that are read.
    pub fn plain(dtype: Dtype) -> Option<Self> {
        Some(match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F64 => Self::F64,
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::Bf16,
            Dtype::F8_E4M3 => Self::Eight(&E4M3),
            Dtype::F8_E5M2 => Self::Eight(&E5M2),
            _ => return None,
        })
    }

    /// A type of llama.cpp, if it is read.
    pub fn ggml(dtype: Ggml) -> Option<Self> {
        Some(match dtype {
            Ggml::Candle(GgmlDType::F32) => Self::F32,
            Ggml::Candle(GgmlDType::F16) => Self::F16,
            Ggml::Candle(GgmlDType::BF16) => Self::Bf16,
            Ggml::Candle(d) => Self::Blocks(d),
            Ggml::Own(own) => Self::Own(own),
            Ggml::Named(..) | Ggml::Unknown(_) => return None,
        })
    }

    /// Values and bytes of a block.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F64 => (1, 8),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Eight(_) => (1, 1),
            Self::Pairs => (2, 1),
            Self::Blocks(d) => (d.block_size(), d.type_size()),
            Self::Own(own) => own.block(),
        }
    }

    /// The values of whole blocks.
    pub fn read(self, stored: &[u8], out: &mut [f32]) -> Result<()> {
        match self {
            Self::F32 => each(stored, out, f32::from_le_bytes),
            Self::F64 => each(stored, out, |b| f64::from_le_bytes(b) as f32),
            Self::F16 => each(stored, out, |b| of_half(u16::from_le_bytes(b))),
            Self::Bf16 => each(stored, out, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
            Self::Eight(table) => each(stored, out, |[b]| table[usize::from(b)]),
            Self::Pairs => vectorised(|| {
                for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(stored) {
                    *pair = [FOURTH[usize::from(byte & 15)], FOURTH[usize::from(byte >> 4)]];
                }
            }),
            Self::Blocks(d) => {
                let t = qtensor_from_ggml(d, stored, vec![out.len()], &Device::Cpu)?.dequantize(&Device::Cpu)?;
                let (storage, _) = t.storage_and_layout();
                let Storage::Cpu(CpuStorage::F32(values)) = &*storage else {
                    return Err(Error::invalid("dequantized blocks are not f32"));
                };
                out.copy_from_slice(&values[..out.len()]);
            }
            Self::Own(own) => own.read(stored, out),
        }
        Ok(())
    }

    /// All values of a tensor. Errors: the file ends before, cancelled.
    pub fn values(self, from: Source, ctx: &Ctx) -> Result<Vec<f32>> {
        let (block, size) = self.block();
        let some = (CHUNK / block).max(1);
        let mut out = vec![0f32; from.len / size * block];
        ctx.check()?;
        out.par_chunks_mut(some * block).enumerate().try_for_each_init(Vec::new, |held, (i, out)| {
            ctx.check()?;
            held.resize(out.len() / block * size, 0);
            from.shard.read(from.start + (i * some * size) as u64, held)?;
            self.read(held, out)
        })?;
        Ok(out)
    }
}

fn each<const N: usize>(stored: &[u8], out: &mut [f32], read: impl Fn([u8; N]) -> f32) {
    vectorised(|| out.iter_mut().zip(stored.as_chunks::<N>().0).for_each(|(x, b)| *x = read(*b)));
}

/// The value of an f16, in steps that vectors have: the exponent is moved by a product, which is exact.
#[inline(always)]
fn of_half(h: u16) -> f32 {
    let h = u32::from(h);
    let size = f32::from_bits((h & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    // Infinity and NaN.
    let top = if h & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(size.to_bits() | top | (h & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;
    use candle_core::quantized::QTensor;
    use half::{bf16, f16};

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
            let (shard, form) = (stored(&bytes), Form::plain(dtype).unwrap());
            assert!(form.values(source(&shard, bytes.len() + 8), &ctx).is_err(), "the file ends before");
            form.values(source(&shard, bytes.len()), &ctx).unwrap()
        };
        assert_eq!(read(Dtype::F32, x.iter().flat_map(|v| v.to_le_bytes()).collect()), x);
        assert_eq!(read(Dtype::F64, x.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect()), x);
        assert_eq!(read(Dtype::F16, x.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()), x);
        // bf16 holds whole numbers up to 256.
        let small: Vec<f32> = x.iter().map(|v| v % 100.0).collect();
        assert_eq!(read(Dtype::BF16, small.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()), small);
        assert_eq!(read(Dtype::F8_E4M3, vec![0x38, 0xc0]), [1.0, -2.0]);
        assert!(Form::plain(Dtype::I64).is_none());
    }

    #[test]
    fn every_half_is_what_it_is() {
        for bits in 0..=u16::MAX {
            let (got, want) = (of_half(bits), f16::from_bits(bits).to_f32());
            assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{bits:x}: {got}, not {want}");
        }
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
            let form = Form::ggml(Ggml::Candle(dtype)).unwrap();
            assert_eq!(form.values(source(&shard, bytes.len()), &Ctx::default()).unwrap(), whole);
        }
    }

    #[test]
    fn a_cancelled_read_says_so() {
        let ctx = Ctx::new(std::sync::Arc::new(true.into()), std::sync::Arc::new(|_| ()));
        let shard = stored(&[0; 34]);
        assert!(matches!(Form::F32.values(source(&shard, 8), &ctx), Err(Error::Cancelled)));
        let q8 = Form::Blocks(GgmlDType::Q8_0);
        assert!(matches!(q8.values(source(&shard, 34), &ctx), Err(Error::Cancelled)));
    }
}
