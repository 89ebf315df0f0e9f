//! Models of real sizes with random weights, to measure with: nothing they write means anything.
//!
//! A [`pair`] is a target and a drafter that agree often, to measure what drafts gain.
//!
//! Weights go to disk as they are drawn, so a model needs no more memory than its largest tensor needs at a time.

pub mod pair;

use crate::rng;
use rand::RngCore as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// The set of random numbers that weights take.
const STREAM: u64 = 50;

/// Standard deviation of the weights.
const SPREAD: f32 = 0.02;

/// A Llama of some size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// What it is called.
    pub name: &'static str,
    /// Width of the residual stream.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads, and key-value heads.
    pub heads: (usize, usize),
    /// Width of a head.
    pub head_width: usize,
    /// Width of the MLP.
    pub middle: usize,
    /// Tokens.
    pub vocab: usize,
    /// Whether the token table is the head, too.
    pub tied: bool,
}

/// The sizes that can be made: those of Llama 3, and one for tests.
pub const SIZES: [Size; 3] = [
    Size {
        name: "llama-8b",
        width: 4096,
        layers: 32,
        heads: (32, 8),
        head_width: 128,
        middle: 14336,
        vocab: 128_256,
        tied: false,
    },
    Size {
        name: "llama-1b",
        width: 2048,
        layers: 16,
        heads: (32, 8),
        head_width: 64,
        middle: 8192,
        vocab: 128_256,
        tied: true,
    },
    Size {
        name: "llama-small",
        width: 512,
        layers: 4,
        heads: (8, 2),
        head_width: 64,
        middle: 1536,
        vocab: 4096,
        tied: false,
    },
];

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Four bytes.
    F32,
    /// Two bytes with the range of f32.
    Bf16,
    /// Blocks of 32 eight-bit numbers with a scale, in a GGUF file.
    Q8_0,
    /// Blocks of 256 four-bit numbers with scales, in a GGUF file.
    Q4K,
}

impl Stored {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::F32, Self::Bf16, Self::Q8_0, Self::Q4K];

    /// The name, e.g. `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4K => "q4_k",
        }
    }

    /// Values and bytes of a block.
    fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (256, 144),
        }
    }

    /// The number of the type in a GGUF file.
    fn ggml(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::Bf16 => 30,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
        }
    }

    /// Makes random bytes blocks of weights.
    fn shape(self, block: &mut [u8]) {
        match self {
            Self::F32 => block
                .as_chunks_mut()
                .0
                .iter_mut()
                .for_each(|b| *b = uniform(u32::from_le_bytes(*b) >> 16).to_le_bytes()),
            Self::Bf16 => {
                let own = |b: [u8; 2]| ((uniform(u16::from_le_bytes(b).into()).to_bits() >> 16) as u16).to_le_bytes();
                block.as_chunks_mut().0.iter_mut().for_each(|b| *b = own(*b));
            }
            // Numbers up to 127 are spread by 74.
            Self::Q8_0 => block[..2].copy_from_slice(&half(SPREAD / 74.0)),
            Self::Q4K => {
                // Numbers up to 15 are spread by 4.6; all parts of a block have the scale 32 and the offset 32.
                let d = SPREAD / 4.6 / 32.0;
                block[..2].copy_from_slice(&half(d));
                block[2..4].copy_from_slice(&half(7.5 * d));
                block[4..12].fill(0b1010_0000);
                block[12..16].fill(0);
            }
        }
    }
}

/// A weight from 16 random bits.
fn uniform(bits: u32) -> f32 {
    (bits as f32 / 32768.0 - 1.0) * SPREAD * 3f32.sqrt()
}

/// A small positive number as an f16, cut to its precision.
fn half(x: f32) -> [u8; 2] {
    (((x / f32::from_bits(0x7780_0000)).to_bits() >> 13) as u16).to_le_bytes()
}

/// Writes the values of a tensor, told its number, name and shape.
type Values<'w, W> = dyn FnMut(usize, &str, &[usize], &mut W) -> io::Result<()> + 'w;

impl Size {
    /// The size of that name.
    pub fn named(name: &str) -> Option<Self> {
        SIZES.into_iter().find(|s| s.name == name)
    }

    /// Number of weights.
    pub fn n_params(&self) -> usize {
        self.tensors(false).iter().map(|t| t.1.iter().product::<usize>()).sum()
    }

    /// Names and shapes of all tensors, those of a folder or of a GGUF file.
    fn tensors(&self, gguf: bool) -> Vec<(String, Vec<usize>)> {
        let (d, e) = (self.width, self.head_width);
        let parts = [
            ("input_layernorm", "attn_norm", vec![d]),
            ("self_attn.q_proj", "attn_q", vec![self.heads.0 * e, d]),
            ("self_attn.k_proj", "attn_k", vec![self.heads.1 * e, d]),
            ("self_attn.v_proj", "attn_v", vec![self.heads.1 * e, d]),
            ("self_attn.o_proj", "attn_output", vec![d, self.heads.0 * e]),
            ("post_attention_layernorm", "ffn_norm", vec![d]),
            ("mlp.gate_proj", "ffn_gate", vec![self.middle, d]),
            ("mlp.up_proj", "ffn_up", vec![self.middle, d]),
            ("mlp.down_proj", "ffn_down", vec![d, self.middle]),
        ];
        let pick = |folder: &str, file: &str| if gguf { file.to_string() } else { folder.to_string() };
        let mut out = vec![(pick("model.embed_tokens.weight", "token_embd.weight"), vec![self.vocab, d])];
        for i in 0..self.layers {
            for (folder, file, shape) in &parts {
                let name = pick(&format!("model.layers.{i}.{folder}.weight"), &format!("blk.{i}.{file}.weight"));
                out.push((name, shape.clone()));
            }
        }
        out.push((pick("model.norm.weight", "output_norm.weight"), vec![d]));
        if !self.tied {
            out.push((pick("lm_head.weight", "output.weight"), vec![self.vocab, d]));
        }
        out
    }

    /// `config.json`.
    fn config(&self) -> String {
        format!(
            r#"{{
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
  "hidden_size": {}, "num_hidden_layers": {}, "num_attention_heads": {}, "num_key_value_heads": {}, "head_dim": {},
  "intermediate_size": {}, "vocab_size": {}, "tie_word_embeddings": {}, "max_position_embeddings": 131072,
  "rms_norm_eps": 1e-05, "rope_theta": 500000.0
}}
"#,
            self.width, self.layers, self.heads.0, self.heads.1, self.head_width, self.middle, self.vocab, self.tied
        )
    }

    /// Writes the model into the folder `dir`, which is made: `model.gguf` for the types of such files, else
    /// `config.json`, `model.safetensors` and a tokenizer that reads each byte as a token.
    ///
    /// Errors: those of writing.
    pub fn write(&self, stored: Stored, seed: u64, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        if matches!(stored, Stored::Q8_0 | Stored::Q4K) {
            return self.write_gguf(stored, seed, &mut file(&dir.join("model.gguf"))?);
        }
        std::fs::write(dir.join("config.json"), self.config())?;
        std::fs::write(dir.join("tokenizer.json"), tokenizer())?;
        self.write_safetensors(stored, seed, &mut file(&dir.join("model.safetensors"))?)
    }

    fn write_safetensors(&self, stored: Stored, seed: u64, out: &mut impl Write) -> io::Result<()> {
        self.write_tensors(stored, out, &mut |i, _, shape, out| values(stored, shape, seed, i as u64, out))
    }

    /// Writes a file of tensors as `write` gives their values, told number, name and shape of each.
    fn write_tensors<W: Write>(&self, stored: Stored, out: &mut W, write: &mut Values<W>) -> io::Result<()> {
        let (tensors, mut at) = (self.tensors(false), 0);
        let dtype = stored.name().to_uppercase();
        let entry = |(name, shape): &(String, Vec<usize>)| {
            let end = at + shape.iter().product::<usize>() * stored.block().1;
            let text = format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{at},{end}]}}"#);
            at = end;
            text
        };
        let mut header = format!("{{{}}}", tensors.iter().map(entry).collect::<Vec<_>>().join(","));
        header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        for (i, (name, shape)) in tensors.iter().enumerate() {
            write(i, name, shape, out)?;
        }
        out.flush()
    }

    fn write_gguf(&self, stored: Stored, seed: u64, out: &mut impl Write) -> io::Result<()> {
        let tensors = self.tensors(true);
        let mut header = b"GGUF".to_vec();
        header.extend(3u32.to_le_bytes());
        header.extend((tensors.len() as u64).to_le_bytes());
        let text = |to: &mut Vec<u8>, text: &str| {
            to.extend((text.len() as u64).to_le_bytes());
            to.extend(text.as_bytes());
        };
        let sizes = [
            ("block_count", self.layers),
            ("embedding_length", self.width),
            ("feed_forward_length", self.middle),
            ("context_length", 131_072),
            ("attention.head_count", self.heads.0),
            ("attention.head_count_kv", self.heads.1),
            ("attention.key_length", self.head_width),
            ("attention.value_length", self.head_width),
            ("rope.dimension_count", self.head_width),
        ];
        header.extend((sizes.len() as u64 + 3).to_le_bytes());
        text(&mut header, "general.architecture");
        header.extend(8u32.to_le_bytes());
        text(&mut header, "llama");
        for (key, x) in [("attention.layer_norm_rms_epsilon", 1e-5f32), ("rope.freq_base", 5e5)] {
            text(&mut header, &format!("llama.{key}"));
            header.extend(6u32.to_le_bytes());
            header.extend(x.to_le_bytes());
        }
        for (key, n) in sizes {
            text(&mut header, &format!("llama.{key}"));
            header.extend(4u32.to_le_bytes());
            header.extend((n as u32).to_le_bytes());
        }
        let bytes = |shape: &[usize]| {
            let (block, size) = of(stored, shape).block();
            shape.iter().product::<usize>() / block * size
        };
        let mut at = 0;
        for (name, shape) in &tensors {
            text(&mut header, name);
            header.extend((shape.len() as u32).to_le_bytes());
            shape.iter().rev().for_each(|&n| header.extend((n as u64).to_le_bytes()));
            header.extend(of(stored, shape).ggml().to_le_bytes());
            header.extend((at as u64).to_le_bytes());
            at += bytes(shape).next_multiple_of(ALIGNMENT);
        }
        let fill = |n: usize| vec![0; n.next_multiple_of(ALIGNMENT) - n];
        out.write_all(&header)?;
        out.write_all(&fill(header.len()))?;
        for (i, (_, shape)) in tensors.iter().enumerate() {
            values(of(stored, shape), shape, seed, i as u64, out)?;
            out.write_all(&fill(bytes(shape)))?;
        }
        out.flush()
    }
}

/// Where tensors of a GGUF file begin.
const ALIGNMENT: usize = 32;

/// Norms are f32 in GGUF files.
fn of(stored: Stored, shape: &[usize]) -> Stored {
    if shape.len() == 1 { Stored::F32 } else { stored }
}

fn file(path: &Path) -> io::Result<BufWriter<File>> {
    Ok(BufWriter::with_capacity(1 << 20, File::create(path)?))
}

/// The values of a tensor; those of norms are 1.
fn values(stored: Stored, shape: &[usize], seed: u64, tensor: u64, out: &mut impl Write) -> io::Result<()> {
    let n: usize = shape.iter().product();
    if shape.len() == 1 {
        let one = 1f32.to_le_bytes();
        let one = if stored == Stored::F32 { &one[..] } else { &one[2..] };
        return (0..n).try_for_each(|_| out.write_all(one));
    }
    let mut rng = rng(STREAM + tensor, seed);
    let (block, size) = stored.block();
    let mut bytes = vec![0; size * 4096];
    let mut left = n / block * size;
    while left > 0 {
        let len = left.min(bytes.len());
        rng.fill_bytes(&mut bytes[..len]);
        bytes[..len].chunks_exact_mut(size).for_each(|b| stored.shape(b));
        out.write_all(&bytes[..len])?;
        left -= len;
    }
    Ok(())
}

/// `tokenizer.json` of a vocabulary of bytes.
fn tokenizer() -> String {
    // The characters that stand for bytes in such vocabularies: themselves where they can be seen.
    let mut next = 256;
    let letter = |b: u32| match b {
        33..=126 | 161..=172 | 174..=255 => b,
        _ => {
            next += 1;
            next - 1
        }
    };
    let letters = (0..256).map(letter).map(|c| char::from_u32(c).unwrap_or(' '));
    let quoted = |c: char| if matches!(c, '"' | '\\') { format!("\\{c}") } else { c.to_string() };
    let vocab: Vec<String> = letters.enumerate().map(|(i, c)| format!(r#""{}":{i}"#, quoted(c))).collect();
    let level = r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}"#;
    format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":{level},"post_processor":null,"decoder":{level},"model":{{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"vocab":{{{}}},"merges":[]}}}}
"#,
        vocab.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_drawn_by_a_seed_and_spread_as_said() {
        let draw = |seed| {
            let mut out = Vec::new();
            values(Stored::F32, &[100, 300], seed, 3, &mut out).unwrap();
            out.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<f32>>()
        };
        let x = draw(1);
        assert_eq!(x, draw(1));
        assert_ne!(x, draw(2));
        let spread = (x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32).sqrt();
        assert!((spread / SPREAD - 1.0).abs() < 0.02, "{spread}");
    }

    #[test]
    fn sizes_are_those_that_their_names_say() {
        let n = |name: &str| Size::named(name).unwrap().n_params();
        assert_eq!((n("llama-8b"), n("llama-1b")), (8_030_261_248, 1_235_814_400));
        assert_eq!(Size::named("llama"), None);
    }
}
