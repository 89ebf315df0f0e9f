//! A Llama-shaped network with a batch axis, for training. The result is loaded and run by the library's own
//! Llama; a test checks that both give the same logits.

use candle_core::{D, Result, Tensor};
use candle_nn::{Embedding, Linear, Module, VarBuilder};

/// Sizes of a network.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Vocabulary.
    pub vocab: usize,
    /// Residual stream.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Layers.
    pub layers: usize,
    /// MLP.
    pub inner: usize,
}

/// Added to mean squares before the root.
pub const EPS: f64 = 1e-5;
/// Base of the rotary frequencies.
pub const THETA: f64 = 10_000.0;

struct Layer {
    norm1: Tensor,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    norm2: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// The network; its embedding table is its head as well.
pub struct Net {
    shape: Shape,
    embed: Embedding,
    layers: Vec<Layer>,
    norm: Tensor,
    cos: Tensor,
    sin: Tensor,
    mask: Tensor,
}

impl Net {
    /// A network over `vb`, for rows of `n` tokens.
    pub fn new(shape: &Shape, vb: VarBuilder, n: usize) -> Result<Self> {
        let s = *shape;
        let e = s.width / s.heads;
        let m = vb.pp("model");
        let linear = |a: usize, b: usize, vb: VarBuilder| -> Result<Linear> {
            let init = candle_nn::Init::Randn { mean: 0.0, stdev: 0.6 / (a as f64).sqrt() };
            Ok(Linear::new(vb.get_with_hints((b, a), "weight", init)?, None))
        };
        let ones = |vb: VarBuilder| vb.get_with_hints(s.width, "weight", candle_nn::Init::Const(1.0));
        let mut layers = Vec::new();
        for i in 0..s.layers {
            let l = m.pp(format!("layers.{i}"));
            let (a, p) = (l.pp("self_attn"), l.pp("mlp"));
            layers.push(Layer {
                norm1: ones(l.pp("input_layernorm"))?,
                q: linear(s.width, s.heads * e, a.pp("q_proj"))?,
                k: linear(s.width, s.kv_heads * e, a.pp("k_proj"))?,
                v: linear(s.width, s.kv_heads * e, a.pp("v_proj"))?,
                o: linear(s.heads * e, s.width, a.pp("o_proj"))?,
                norm2: ones(l.pp("post_attention_layernorm"))?,
                gate: linear(s.width, s.inner, p.pp("gate_proj"))?,
                up: linear(s.width, s.inner, p.pp("up_proj"))?,
                down: linear(s.inner, s.width, p.pp("down_proj"))?,
            });
        }
        let init = candle_nn::Init::Randn { mean: 0.0, stdev: 0.05 };
        let embed = m.pp("embed_tokens").get_with_hints((s.vocab, s.width), "weight", init)?;
        let device = vb.device();
        let mut angles = Vec::new();
        for p in 0..n {
            for _ in 0..2 {
                angles.extend((0..e / 2).map(|i| p as f32 * THETA.powf(-2.0 * i as f64 / e as f64) as f32));
            }
        }
        let angles = Tensor::from_vec(angles, (n, e), device)?;
        let mask: Vec<f32> = (0..n * n).map(|i| if i % n > i / n { f32::NEG_INFINITY } else { 0.0 }).collect();
        Ok(Self {
            shape: s,
            embed: Embedding::new(embed, s.width),
            layers,
            norm: ones(m.pp("norm"))?,
            cos: angles.cos()?,
            sin: angles.sin()?,
            mask: Tensor::from_vec(mask, (n, n), device)?,
        })
    }

    fn turn(&self, x: &Tensor) -> Result<Tensor> {
        let half = x.dim(D::Minus1)? / 2;
        let (a, b) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
        let turned = Tensor::cat(&[&b.neg()?, &a], D::Minus1)?;
        x.broadcast_mul(&self.cos)? + turned.broadcast_mul(&self.sin)?
    }

    /// `[batch, n]` ids → `[batch, n, vocab]`.
    pub fn logits(&self, ids: &Tensor) -> Result<Tensor> {
        let (b, n) = ids.dims2()?;
        let s = &self.shape;
        let e = s.width / s.heads;
        let rep = s.heads / s.kv_heads;
        let rms = |x: &Tensor, w: &Tensor| {
            x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + EPS)?.sqrt()?)?.broadcast_mul(w)
        };
        let mut x = self.embed.forward(ids)?;
        for l in &self.layers {
            let h = rms(&x, &l.norm1)?;
            let heads = |t: Tensor, count: usize| t.reshape((b, n, count, e))?.transpose(1, 2)?.contiguous();
            let q = self.turn(&heads(l.q.forward(&h)?, s.heads)?)?;
            let k = self.turn(&heads(l.k.forward(&h)?, s.kv_heads)?)?;
            let v = heads(l.v.forward(&h)?, s.kv_heads)?;
            let q = q.reshape((b, s.kv_heads, rep * n, e))?;
            let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? * (e as f64).powf(-0.5))?;
            let scores = scores.reshape((b, s.heads, n, n))?.broadcast_add(&self.mask)?;
            let p = candle_nn::ops::softmax(&scores, D::Minus1)?;
            let z = p.reshape((b, s.kv_heads, rep * n, n))?.matmul(&v)?.reshape((b, s.heads, n, e))?;
            x = (x + l.o.forward(&z.transpose(1, 2)?.reshape((b, n, s.heads * e))?)?)?;
            let h = rms(&x, &l.norm2)?;
            x = (x + l.down.forward(&(l.gate.forward(&h)?.silu()? * l.up.forward(&h)?)?)?)?;
        }
        let x = rms(&x, &self.norm)?.reshape((b * n, s.width))?;
        x.matmul(&self.embed.embeddings().t()?)?.reshape((b, n, s.vocab))
    }

    /// Mean cross-entropy of the next tokens `[batch, n]`, in nats.
    pub fn loss(&self, ids: &Tensor, next: &Tensor) -> Result<Tensor> {
        candle_nn::loss::cross_entropy(&self.logits(ids)?.flatten_to(1)?, &next.flatten_all()?)
    }
}
