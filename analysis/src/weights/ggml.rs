//! The types in which GGUF files store tensors: names, sizes, and those that candle does not read.
//!
//! Layouts: ggml, `ggml-common.h` and `ggml-quants.c`. Types that look values up in books are in [`super::codebook`].

use super::codebook;
use candle_core::quantized::GgmlDType;
use half::f16;

/// How a tensor of a GGUF file is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Ggml {
    /// A type that candle reads.
    Candle(GgmlDType),
    /// A type that is read here.
    Own(Own),
    /// A type that is known by name and size, and not read: name, values and bytes of a block.
    Named(&'static str, usize, usize),
    /// A code that no version of ggml known here uses.
    Unknown(u32),
}

/// Types that are read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    F64,
    I8,
    I16,
    I32,
    I64,
    Iq4Nl,
    Iq4Xs,
    Mxfp4,
    Tq1,
    Tq2,
    Q8_1,
    Q8K,
    Q1,
    Q2,
    Nvfp4,
    Iq1S,
    Iq1M,
    Iq2Xxs,
    Iq2Xs,
    Iq2S,
    Iq3Xxs,
    Iq3S,
}

impl Ggml {
    /// The type of a code in the tensor table.
    pub fn of(code: u32) -> Self {
        use GgmlDType as G;
        match code {
            0 => Self::Candle(G::F32),
            1 => Self::Candle(G::F16),
            2 => Self::Candle(G::Q4_0),
            3 => Self::Candle(G::Q4_1),
            6 => Self::Candle(G::Q5_0),
            7 => Self::Candle(G::Q5_1),
            8 => Self::Candle(G::Q8_0),
            9 => Self::Own(Own::Q8_1),
            10 => Self::Candle(G::Q2K),
            11 => Self::Candle(G::Q3K),
            12 => Self::Candle(G::Q4K),
            13 => Self::Candle(G::Q5K),
            14 => Self::Candle(G::Q6K),
            15 => Self::Own(Own::Q8K),
            16 => Self::Own(Own::Iq2Xxs),
            17 => Self::Own(Own::Iq2Xs),
            18 => Self::Own(Own::Iq3Xxs),
            19 => Self::Own(Own::Iq1S),
            20 => Self::Own(Own::Iq4Nl),
            21 => Self::Own(Own::Iq3S),
            22 => Self::Own(Own::Iq2S),
            23 => Self::Own(Own::Iq4Xs),
            24 => Self::Own(Own::I8),
            25 => Self::Own(Own::I16),
            26 => Self::Own(Own::I32),
            27 => Self::Own(Own::I64),
            28 => Self::Own(Own::F64),
            29 => Self::Own(Own::Iq1M),
            30 => Self::Candle(G::BF16),
            34 => Self::Own(Own::Tq1),
            35 => Self::Own(Own::Tq2),
            39 => Self::Own(Own::Mxfp4),
            40 => Self::Own(Own::Nvfp4),
            41 => Self::Own(Own::Q1),
            42 => Self::Own(Own::Q2),
            // Withdrawn layouts of Q4_0 and IQ4_NL for some processors: as many bytes as the plain ones.
            31 => Self::Named("Q4_0_4_4", 32, 18),
            32 => Self::Named("Q4_0_4_8", 32, 18),
            33 => Self::Named("Q4_0_8_8", 32, 18),
            36 => Self::Named("IQ4_NL_4_4", 32, 18),
            37 => Self::Named("IQ4_NL_4_8", 32, 18),
            38 => Self::Named("IQ4_NL_8_8", 32, 18),
            other => Self::Unknown(other),
        }
    }

    /// The name in ggml, e.g. `Q4_K`.
    pub fn name(self) -> String {
        match self {
            // candle writes Q4K where everybody says Q4_K.
            Self::Candle(d) => {
                let name = format!("{d:?}");
                if name.ends_with('K') { format!("{}_K", name.trim_end_matches('K')) } else { name }
            }
            Self::Own(own) => match own {
                Own::F64 => "F64",
                Own::I8 => "I8",
                Own::I16 => "I16",
                Own::I32 => "I32",
                Own::I64 => "I64",
                Own::Iq4Nl => "IQ4_NL",
                Own::Iq4Xs => "IQ4_XS",
                Own::Mxfp4 => "MXFP4",
                Own::Tq1 => "TQ1_0",
                Own::Tq2 => "TQ2_0",
                Own::Q8_1 => "Q8_1",
                Own::Q8K => "Q8_K",
                Own::Q1 => "Q1_0",
                Own::Q2 => "Q2_0",
                Own::Nvfp4 => "NVFP4",
                Own::Iq1S => "IQ1_S",
                Own::Iq1M => "IQ1_M",
                Own::Iq2Xxs => "IQ2_XXS",
                Own::Iq2Xs => "IQ2_XS",
                Own::Iq2S => "IQ2_S",
                Own::Iq3Xxs => "IQ3_XXS",
                Own::Iq3S => "IQ3_S",
            }
            .into(),
            Self::Named(name, ..) => name.into(),
            Self::Unknown(code) => format!("type number {code}"),
        }
    }

    /// Whether tensors of the type are read.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Candle(_) | Self::Own(_))
    }

    /// Values and bytes of a block, where they are known.
    pub fn block(self) -> Option<(usize, usize)> {
        match self {
            Self::Candle(d) => Some((d.block_size(), d.type_size())),
            Self::Own(own) => Some(own.block()),
            Self::Named(_, values, bytes) => Some((values, bytes)),
            Self::Unknown(_) => None,
        }
    }
}

/// Values of the sixteen codes of IQ4_NL and IQ4_XS.
const IQ4: [f32; 16] = [-127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89., 113.];
/// Values of the sixteen codes of MXFP4, doubled.
const E2M1: [f32; 16] = [0., 1., 2., 3., 4., 6., 8., 12., 0., -1., -2., -3., -4., -6., -8., -12.];

impl Own {
    /// Values and bytes of a block.
    pub fn block(self) -> (usize, usize) {
        match self {
            Own::F64 | Own::I64 => (1, 8),
            Own::I8 => (1, 1),
            Own::I16 => (1, 2),
            Own::I32 => (1, 4),
            Own::Iq4Nl => (32, 18),
            Own::Iq4Xs => (256, 136),
            Own::Mxfp4 => (32, 17),
            Own::Tq1 => (256, 54),
            Own::Tq2 => (256, 66),
            Own::Q8_1 => (32, 36),
            Own::Q8K => (256, 292),
            Own::Q1 => (128, 18),
            Own::Q2 => (64, 18),
            Own::Nvfp4 => (64, 36),
            Own::Iq1S => (256, 50),
            Own::Iq1M => (256, 56),
            Own::Iq2Xxs => (256, 66),
            Own::Iq2Xs => (256, 74),
            Own::Iq2S => (256, 82),
            Own::Iq3Xxs => (256, 98),
            Own::Iq3S => (256, 110),
        }
    }

    /// The values of whole blocks.
    pub fn read(self, bytes: &[u8], out: &mut [f32]) {
        let (values, size) = self.block();
        for (b, out) in bytes.chunks_exact(size).zip(out.chunks_exact_mut(values)) {
            match self {
                Own::F64 => out[0] = f64::from_le_bytes(array(b)) as f32,
                Own::I8 => out[0] = f32::from(b[0] as i8),
                Own::I16 => out[0] = f32::from(i16::from_le_bytes(array(b))),
                Own::I32 => out[0] = i32::from_le_bytes(array(b)) as f32,
                Own::I64 => out[0] = i64::from_le_bytes(array(b)) as f32,
                Own::Iq4Nl => nibbles(&b[2..], half(b), &IQ4, out),
                Own::Iq4Xs => {
                    let high = u16::from_le_bytes([b[2], b[3]]);
                    for (i, out) in out.chunks_exact_mut(32).enumerate() {
                        let low = (b[4 + i / 2] >> (4 * (i % 2))) & 15;
                        let scale = i32::from(low) | i32::from((high >> (2 * i)) & 3) << 4;
                        nibbles(&b[8 + 16 * i..], half(b) * (scale - 32) as f32, &IQ4, out);
                    }
                }
                Own::Mxfp4 => {
                    // The values are doubled, so the scale is halved; two exponents are too small for a usual f32.
                    let e = u32::from(b[0]);
                    let bits = if e < 2 { 0x0020_0000 << e } else { (e - 1) << 23 };
                    nibbles(&b[1..], f32::from_bits(bits), &E2M1, out);
                }
                Own::Tq1 => {
                    let d = half(&b[52..]);
                    let three = |byte: u8, power: u8| {
                        let q = byte.wrapping_mul(3u8.pow(power.into()));
                        d * (f32::from(((u16::from(q) * 3) >> 8) as u8) - 1.0)
                    };
                    let mut at = 0;
                    for (part, powers) in [(&b[..32], 5u8), (&b[32..48], 5), (&b[48..52], 4)] {
                        for power in 0..powers {
                            for byte in part {
                                out[at] = three(*byte, power);
                                at += 1;
                            }
                        }
                    }
                }
                Own::Tq2 => {
                    let d = half(&b[64..]);
                    for (part, out) in b[..64].chunks_exact(32).zip(out.chunks_exact_mut(128)) {
                        for (i, out) in out.iter_mut().enumerate() {
                            *out = d * (f32::from((part[i % 32] >> (2 * (i / 32))) & 3) - 1.0);
                        }
                    }
                }
                // What stands before and behind the bytes besides is a sum of theirs, for products.
                Own::Q8_1 => whole(&b[4..], half(b), out),
                Own::Q8K => whole(&b[4..], f32::from_le_bytes(array(b)), out),
                Own::Q1 => {
                    let d = half(b);
                    out.iter_mut()
                        .enumerate()
                        .for_each(|(i, x)| *x = if b[2 + i / 8] >> (i % 8) & 1 == 1 { d } else { -d });
                }
                Own::Q2 => {
                    let d = half(b);
                    let code = |i: usize| f32::from(b[2 + i / 4] >> (2 * (i % 4)) & 3);
                    out.iter_mut().enumerate().for_each(|(i, x)| *x = d * (code(i) - 1.0));
                }
                Own::Nvfp4 => {
                    for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                        let d = unsigned_e4m3(b[i]) * 0.5;
                        for (k, code) in b[4 + 8 * i..][..8].iter().enumerate() {
                            out[k] = d * E2M1[usize::from(code & 15)];
                            out[k + 8] = d * E2M1[usize::from(code >> 4)];
                        }
                    }
                }
                Own::Iq1S => codebook::iq1_s(b, out),
                Own::Iq1M => codebook::iq1_m(b, out),
                Own::Iq2Xxs => codebook::iq2_xxs(b, out),
                Own::Iq2Xs => codebook::iq2_xs(b, out),
                Own::Iq2S => codebook::iq2_s(b, out),
                Own::Iq3Xxs => codebook::iq3_xxs(b, out),
                Own::Iq3S => codebook::iq3_s(b, out),
            }
        }
    }
}

pub(super) fn array<const N: usize>(b: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&b[..N]);
    out
}

pub(super) fn half(b: &[u8]) -> f32 {
    f16::from_le_bytes([b[0], b[1]]).to_f32()
}

/// Bytes with a sign, each times `d`.
fn whole(codes: &[u8], d: f32, out: &mut [f32]) {
    out.iter_mut().zip(codes).for_each(|(x, code)| *x = d * f32::from(*code as i8));
}

/// The value of an 8-bit float whose sign is passed over: four bits of exponent, three of mantissa. What would be NaN
/// is 0, as ggml has it.
fn unsigned_e4m3(code: u8) -> f32 {
    let (e, m) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    match (code, e) {
        (0x7f, _) => 0.0,
        (_, 0) => m * 2f32.powi(-9),
        _ => (1.0 + m / 8.0) * 2f32.powi(e - 7),
    }
}

/// Thirty-two values out of sixteen bytes: the low halves first.
fn nibbles(codes: &[u8], d: f32, values: &[f32; 16], out: &mut [f32]) {
    for (i, code) in codes[..16].iter().enumerate() {
        out[i] = d * values[usize::from(code & 15)];
        out[i + 16] = d * values[usize::from(code >> 4)];
    }
}

/// The value of each byte of a float with this many bits of mantissa; `finite` if the largest exponent holds numbers
/// (E4M3), not infinity and NaN (E5M2).
pub(super) fn eighth_table(mantissa: u32, finite: bool) -> [f32; 256] {
    let bias = (1 << (6 - mantissa)) - 1;
    std::array::from_fn(|code| {
        let (code, ones) = (code as u32, (1 << mantissa) - 1);
        let (e, m) = ((code & 127) >> mantissa, code & ones);
        let largest = 127 >> mantissa;
        let part = m as f32 / (1 << mantissa) as f32;
        let value = match e {
            0 => part * 2f32.powi(1 - bias),
            e if e == largest && finite && m == ones => f32::NAN,
            e if e == largest && !finite && m == 0 => f32::INFINITY,
            e if e == largest && !finite => f32::NAN,
            e => (1.0 + part) * 2f32.powi(e as i32 - bias),
        };
        if code & 128 == 0 { value } else { -value }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_by_hand() {
        let one = f16::from_f32(2.0).to_le_bytes();
        let mut out = [0.0; 32];
        let mut b = one.to_vec();
        b.extend([0xf0; 16]);
        Own::Iq4Nl.read(&b, &mut out);
        assert_eq!((out[0], out[15], out[16], out[31]), (-254.0, -254.0, 226.0, 226.0));
        // Exponent 127 and half of it for doubled values: code 2 is 1, code 7 is 6.
        let mut b = vec![127];
        b.extend([0x72; 16]);
        Own::Mxfp4.read(&b, &mut out);
        assert_eq!((out[0], out[16]), (1.0, 6.0));
        let mut out = [0.0; 256];
        let mut b = one.to_vec();
        // Scales 33 - 32 for the first group of 32, -32 for the others.
        b.extend([0b10, 0, 1, 0, 0, 0]);
        b.extend([0x88; 128]);
        Own::Iq4Xs.read(&b, &mut out);
        assert_eq!((out[0], out[31], out[32], out[255]), (2.0, 2.0, -64.0, -64.0));
        let mut b = vec![0b10_01_00_10; 64];
        b.extend(one);
        Own::Tq2.read(&b, &mut out);
        assert_eq!((out[0], out[32], out[64], out[96], out[128]), (2.0, -2.0, 0.0, 2.0, 2.0));
        // Digits base three of 0.b: 255 is nearly one, so every digit is 2; 0 is all zeros.
        let mut b = vec![255; 48];
        b.extend([0; 4]);
        b.extend(one);
        Own::Tq1.read(&b, &mut out);
        assert_eq!((out[0], out[239], out[240], out[255]), (2.0, 2.0, -2.0, -2.0));
    }

    #[test]
    fn blocks_that_the_python_package_does_not_read_by_hand() {
        let one = f16::from_f32(2.0).to_le_bytes();
        let mut out = [0.0; 32];
        // A sum that no value takes part in.
        let b = [one.as_slice(), &[0x11, 0x22], &[0xff; 16], &[3; 16]].concat();
        Own::Q8_1.read(&b, &mut out);
        assert_eq!((out[0], out[15], out[16], out[31]), (-2.0, -2.0, 6.0, 6.0));
        let mut out = [0.0; 256];
        let b = [0.5f32.to_le_bytes().as_slice(), &[0x80; 255], &[127], &[0x33; 32]].concat();
        Own::Q8K.read(&b, &mut out);
        assert_eq!((out[0], out[254], out[255]), (-64.0, -64.0, 63.5));
        let mut out = [0.0; 128];
        let b = [one.as_slice(), &[0b10; 15], &[0x80]].concat();
        Own::Q1.read(&b, &mut out);
        assert_eq!((out[0], out[1], out[2], out[127], out[120]), (-2.0, 2.0, -2.0, 2.0, -2.0));
        let mut out = [0.0; 64];
        let b = [one.as_slice(), &[0b11_10_01_00; 16]].concat();
        Own::Q2.read(&b, &mut out);
        assert_eq!(out[60..], [-2.0, 0.0, 2.0, 4.0]);
    }

    #[test]
    fn eight_bit_floats_by_hand() {
        let (e4m3, e5m2) = (eighth_table(3, true), eighth_table(2, false));
        assert_eq!((e4m3[0x38], e4m3[0xb8], e4m3[0x7e], e4m3[1]), (1.0, -1.0, 448.0, 2f32.powi(-9)));
        assert_eq!((e5m2[0x3c], e5m2[0x7b], e5m2[1]), (1.0, 57344.0, 2f32.powi(-16)));
        assert!(e4m3[0x7f].is_nan() && e5m2[0x7c].is_infinite() && e5m2[0x7d].is_nan());
    }
}
