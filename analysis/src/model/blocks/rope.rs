//! Rotary position embedding, half-split pairs (i, i + e/2) as in Llama, with the published ways to stretch it.
//! Su et al. 2021, arXiv 2104.09864; YaRN: Peng et al. 2023, 2309.00071; LongRoPE: Ding et al. 2024, 2402.13753.

use super::{Config, cpu};
use crate::ctx::Ctx;
use crate::trace::Rows;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::borrow::Cow;

/// Cosines and sines `[n, width]` of the turned part of a head.
pub type Tables = (Tensor, Tensor);

/// Frequencies of a rotary embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Angle per position of each turned pair.
    inv_freq: Vec<f64>,
    /// Factor on cosines and sines, by which YaRN and LongRoPE sharpen attention.
    scale: f64,
    longer: Longer,
    /// Which of time, row and column each pair is turned by; empty where all are turned by the position.
    axes: Vec<u8>,
    /// Width of a head.
    head_width: usize,
    /// Whether rows are turned by where the centre of a patch lies in the picture, not by counts (DINOv3).
    centred: bool,
    /// Whether the pairs that are turned lie beside each other, and not half the width apart (GPT-J).
    beside: bool,
}

/// A [`Rope::of_centres`] reads coordinates of -1..=1 from turns in steps of this, counted from -1.
const STEPS: u32 = 1 << 24;

/// Turns for a [`Rope::of_centres`]: `leading` tokens that are not turned, then patches row by row.
pub fn centres(leading: usize, (rows, cols): (usize, usize)) -> Vec<[u32; 3]> {
    let at = |i: usize, n: usize| ((2 * i + 1) as f64 / n as f64 * f64::from(STEPS)).round() as u32;
    let patches = (0..rows).flat_map(|r| (0..cols).map(move |c| [STEPS, at(r, rows), at(c, cols)]));
    std::iter::repeat_n([STEPS; 3], leading).chain(patches).collect()
}

/// How much of a head is turned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Part {
    /// All of it: the family does not read `partial_rotary_factor`, which some of its files have all the same.
    Whole,
    /// The share that the file says, or this one.
    Of(f64),
}

/// Where rows stand, for a rotary embedding.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// Position ids.
    pub positions: &'a [usize],
    /// Time, row and column of each; where empty, all three are the position.
    pub turns: &'a [[u32; 3]],
}

impl<'a> From<&'a Rows> for Places<'a> {
    fn from(rows: &'a Rows) -> Self {
        Self { positions: &rows.positions, turns: &rows.turns }
    }
}

/// What changes once a text is longer than the model was trained for.
#[derive(Debug, Clone, PartialEq)]
enum Longer {
    /// Nothing.
    Same,
    /// The base grows with the length (dynamic NTK).
    Ntk { base: f64, factor: f64, max: f64 },
    /// Other frequencies from this length on (LongRoPE).
    Other { inv_freq: Vec<f64>, max: usize },
}

impl Rope {
    /// Reads base and scaling from both spellings of `config.json` (`rope_parameters`, or `rope_theta` with
    /// `rope_scaling`). Scaling types: default, linear, dynamic, yarn, longrope, llama3; others are refused.
    ///
    /// `layer_type` names the entry where each type of layer has parameters of its own. `part` says how much of the
    /// head is turned.
    pub fn load(config: &Config, head_width: usize, layer_type: Option<&str>, part: Part) -> Result<Self> {
        let given = config.sub("rope_scaling").filter(|s| !s.is_empty()).or(config.sub("rope_parameters"));
        let given = match (given, layer_type) {
            (Some(g), Some(t)) => g.sub(t).or(Some(g)),
            (g, _) => g,
        };
        // The second names are those of GPT-NeoX.
        let number = |keys: &[&str], default: f64| match given {
            Some(g) if g.value(keys).is_some() => g.number(keys, default),
            _ => config.number(keys, default),
        };
        let base = config.default("rope_theta").unwrap_or(10_000.0);
        let base = positive(number(&["rope_theta", "rotary_emb_base"], base)?, "rope_theta")?;
        let said = |default: f64| number(&["partial_rotary_factor", "rotary_pct"], default);
        let part = match part {
            Part::Of(default) => said(default)?,
            Part::Whole => {
                let stretch = given.map_or(Ok("default"), |s| s.word(&["rope_type", "type"], "default"))?;
                let said = said(1.0)?;
                if said != 1.0 && stretch != "default" {
                    let e = format!(
                        "config.json: this model turns whole heads; partial_rotary_factor {said} cannot be met"
                    );
                    return Err(Error::invalid(e));
                }
                1.0
            }
        };
        if !(part > 0.0 && part <= 1.0) {
            return Err(Error::invalid(format!("config.json: partial_rotary_factor {part} is not in 0..=1")));
        }
        let width = (head_width as f64 * part) as usize;
        // Of an odd number of components as many pairs are turned as begin in it (Phi-3).
        let pairs = width.div_ceil(2);
        if 2 * pairs > head_width || width == 0 {
            return Err(Error::invalid(format!("config.json: rotary embedding needs an even width, not {width}")));
        }
        let mut out = Self {
            inv_freq: powers(base, width),
            scale: 1.0,
            longer: Longer::Same,
            axes: Vec::new(),
            head_width,
            centred: false,
            beside: false,
        };
        let Some(s) = given else { return Ok(out) };
        if let Some(sections) = s.numbers("mrope_section")? {
            out.axes = sections_of(&sections, pairs, config.default("mrope_interleaved").is_some())?;
        }
        let max = || config.size(&["max_position_embeddings"]).map(|n| n as f64);
        // The length in training; a value beside the dictionary counts before one inside.
        let old = || match config.size_opt(&["original_max_position_embeddings"])? {
            Some(n) => Ok(n as f64),
            None => match s.size_opt(&["original_max_position_embeddings"])? {
                Some(n) => Ok(n as f64),
                None => max(),
            },
        };
        match s.word(&["rope_type", "type"], "default")? {
            "default" | "mrope" => {}
            "linear" => {
                let factor = factor(&s)?;
                out.inv_freq.iter_mut().for_each(|f| *f /= factor);
            }
            kind @ ("dynamic" | "yarn") if !width.is_multiple_of(2) => {
                let e = format!("config.json: rope scaling {kind} of an odd width, {width}, is not supported");
                return Err(Error::invalid(e));
            }
            "dynamic" => out.longer = Longer::Ntk { base, factor: factor(&s)?, max: max()? },
            "llama3" => llama3(&mut out.inv_freq, &s, old()?)?,
            // Early Phi-3 files call LongRoPE by other names.
            "longrope" | "su" => long(&mut out, &s, old()?, max)?,
            "yarn" if s.speaks_of("short_factor") => long(&mut out, &s, old()?, max)?,
            "yarn" => out.scale = yarn(&mut out.inv_freq, &s, base, old()?, max)?,
            "factors" => divide(&mut out.inv_freq, &s, "factors")?,
            other => {
                let known = "default, linear, dynamic, yarn, longrope and llama3 are";
                let e = format!("config.json: rope scaling {other} is not supported ({known})");
                return Err(Error::invalid(e));
            }
        }
        if out.inv_freq.iter().any(|f| !f.is_finite()) {
            return Err(Error::invalid("config.json: the rope parameters give no finite frequencies"));
        }
        Ok(out)
    }

    /// Frequencies of a whole head that nothing stretches.
    ///
    /// Errors: an odd width or a base that is not positive.
    pub fn plain(base: f64, head_width: usize) -> Result<Self> {
        positive(base, "base")?;
        if !head_width.is_multiple_of(2) || head_width == 0 {
            return Err(Error::invalid(format!("config.json: rotary embedding needs an even width, not {head_width}")));
        }
        Ok(Self {
            inv_freq: powers(base, head_width),
            scale: 1.0,
            longer: Longer::Same,
            axes: Vec::new(),
            head_width,
            centred: false,
            beside: false,
        })
    }

    /// Frequencies of the first `turned` components of a head.
    ///
    /// Errors: those of [`Rope::plain`], and more components than the head has.
    pub fn of_part(base: f64, turned: usize, head_width: usize) -> Result<Self> {
        if turned > head_width {
            let e = format!("config.json: {turned} components are to be turned of heads of {head_width}");
            return Err(Error::invalid(e));
        }
        Ok(Self { head_width, ..Self::plain(base, turned)? })
    }

    /// The embedding of an image encoder: the first half of the pairs is turned by a patch's row, the second one by its
    /// column, both with the same frequencies.
    ///
    /// Errors: a width that does not divide by 4 or a base that is not positive.
    pub fn of_grid(base: f64, head_width: usize) -> Result<Self> {
        positive(base, "base")?;
        if !head_width.is_multiple_of(4) || head_width == 0 {
            let e = format!("config.json: a rotary embedding of rows and columns needs heads of 4n, not {head_width}");
            return Err(Error::invalid(e));
        }
        let inv_freq = powers(base, head_width / 2).repeat(2);
        let axes = [vec![1; head_width / 4], vec![2; head_width / 4]].concat();
        Ok(Self { inv_freq, scale: 1.0, longer: Longer::Same, axes, head_width, centred: false, beside: false })
    }

    /// [`Rope::of_grid`] by where the centres of patches lie between the edges of the picture, -1 and 1, a whole turn
    /// for the fastest pair from the middle to an edge; the places are those of [`centres`] (DINOv3).
    ///
    /// Errors: as [`Rope::of_grid`].
    pub fn of_centres(base: f64, head_width: usize) -> Result<Self> {
        let mut out = Self::of_grid(base, head_width)?;
        out.inv_freq.iter_mut().for_each(|f| *f *= std::f64::consts::TAU);
        Ok(Self { centred: true, ..out })
    }

    /// The same with pairs (2i, 2i + 1) in the place of (i, i + e/2).
    pub fn of_neighbours(self) -> Self {
        Self { beside: true, ..self }
    }

    /// Whether places are those of [`centres`].
    pub fn is_centred(&self) -> bool {
        self.centred
    }

    /// Whether rows are turned by time, row and column.
    pub fn has_axes(&self) -> bool {
        !self.axes.is_empty()
    }

    /// Angle per position of each turned pair, in a text of `length` tokens.
    fn frequencies(&self, length: usize) -> Cow<'_, [f64]> {
        match &self.longer {
            Longer::Ntk { base, factor, max } if length as f64 > *max => {
                let width = 2 * self.inv_freq.len();
                let stretch = factor * length as f64 / max - (factor - 1.0);
                Cow::Owned(powers(base * stretch.powf(width as f64 / (width as f64 - 2.0)), width))
            }
            Longer::Other { inv_freq, max } if length > *max => Cow::Borrowed(inv_freq),
            _ => Cow::Borrowed(&self.inv_freq),
        }
    }

    /// What turns rows at these places.
    pub fn tables(&self, places: Places, device: &Device) -> Result<Tables> {
        let Places { positions, turns } = places;
        if self.has_axes() && !turns.is_empty() {
            let length = turns.iter().flatten().max().map_or(0, |p| *p as usize + 1);
            let at = |row: usize, pair: usize| {
                let turn = turns[row][usize::from(self.axes[pair])];
                if self.centred { (f64::from(turn) / f64::from(STEPS) - 1.0) as f32 } else { turn as f32 }
            };
            return self.angles((turns.len(), &at), &self.frequencies(length), self.scale, device);
        }
        if self.centred {
            return Err(Error::invalid("this model turns patches by their places in the picture; none were given"));
        }
        let length = positions.iter().max().map_or(0, |p| p + 1);
        let at = |row: usize, _: usize| positions[row] as f32;
        self.angles((positions.len(), &at), &self.frequencies(length), self.scale, device)
    }

    /// Tables that turn what was turned to the positions `from` on to the positions `to`.
    ///
    /// Errors: the frequencies differ between the two lengths, or as many positions are not given.
    pub fn between(&self, from: &[usize], to: &[usize], device: &Device) -> Result<Tables> {
        let [a, b] = [from, to].map(|p| self.frequencies(p.iter().max().map_or(0, |p| p + 1)));
        if self.has_axes() {
            return Err(Error::invalid(
                "keys cannot be renumbered: this model turns them by the rows and columns of the picture",
            ));
        }
        if a != b || from.len() != to.len() {
            return Err(Error::invalid(
                "keys cannot be renumbered: this model's rotary embedding depends on the length of the text",
            ));
        }
        // The factor on cosines and sines is in them already.
        let by = |row: usize, _: usize| to[row] as f32 - from[row] as f32;
        self.angles((from.len(), &by), &a, 1.0, device)
    }

    fn angles(
        &self,
        // Rows, and by what each pair of a row is turned.
        (n, at): (usize, &dyn Fn(usize, usize) -> f32),
        inv_freq: &[f64],
        scale: f64,
        device: &Device,
    ) -> Result<Tables> {
        let half = inv_freq.len();
        let mut cos = Vec::with_capacity(n * half * 2);
        let mut sin = Vec::with_capacity(n * half * 2);
        for row in 0..n {
            let first = cos.len();
            for (pair, f) in inv_freq.iter().enumerate() {
                // transformers forms the angle in f32, and far positions feel it.
                let (s, c) = (at(row, pair) * *f as f32).sin_cos();
                cos.push(c * scale as f32);
                sin.push(s * scale as f32);
            }
            // Both halves turn alike.
            cos.extend_from_within(first..);
            sin.extend_from_within(first..);
        }
        let shape = (n, half * 2);
        Ok((Tensor::from_vec(cos, shape, device)?, Tensor::from_vec(sin, shape, device)?))
    }

    /// Turns `[heads, n, e]` by tables of `[n, width]`; what lies beyond `width` stays.
    pub fn turn(&self, x: &Tensor, (cos, sin): &Tables) -> Result<Tensor> {
        let width = cos.dim(1)?;
        if cpu::is_plain(x) && cpu::is_plain(cos) && x.stride().last() == Some(&1) {
            return turn_plain(x, (width / 2, self.beside), (cos, sin));
        }
        let part = if width == self.head_width { x.clone() } else { x.narrow(2, 0, width)? };
        let y = if self.beside {
            let (h, n, _) = part.dims3()?;
            let pairs = part.contiguous()?.reshape((h, n, width / 2, 2))?;
            let (a, b) = (pairs.narrow(3, 0, 1)?.squeeze(3)?, pairs.narrow(3, 1, 1)?.squeeze(3)?);
            let (cos, sin) = (cos.narrow(1, 0, width / 2)?, sin.narrow(1, 0, width / 2)?);
            let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
            let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
            Tensor::stack(&[first, second], 3)?.reshape((h, n, width))?
        } else {
            let (a, b) = (part.narrow(2, 0, width / 2)?, part.narrow(2, width / 2, width / 2)?);
            let turned = Tensor::cat(&[&b.neg()?, &a], 2)?;
            (part.broadcast_mul(cos)? + turned.broadcast_mul(sin)?)?
        };
        if width == self.head_width {
            return Ok(y);
        }
        Ok(Tensor::cat(&[y, x.narrow(2, width, self.head_width - width)?], 2)?)
    }
}

/// [`Rope::turn`] of plain values in one go: `half` pairs, which lie that far apart, or beside each other.
fn turn_plain(x: &Tensor, (half, beside): (usize, bool), (cos, sin): (&Tensor, &Tensor)) -> Result<Tensor> {
    let (h, n, e) = x.dims3()?;
    if cos.dim(0)? != n || e < 2 * half {
        return Err(Error::shape("heads to turn", format!("[…, {}, at least {}]", cos.dim(0)?, 2 * half), x.dims()));
    }
    let mut y = vec![0f32; h * n * e];
    cpu::read_all([x, cos, sin], |[(x, at), (cos, _), (sin, _)]| {
        cpu::each(&mut y, e.max(1), &Ctx::default(), |i, y| {
            let (head, row) = (i / n, i % n);
            let x = &x[head * at[0] + row * at[1]..][..e];
            let (cos, sin) = (&cos[2 * half * row..][..half], &sin[2 * half * row..][..half]);
            y[2 * half..].copy_from_slice(&x[2 * half..]);
            if beside {
                for j in 0..half {
                    let (a, b) = (x[2 * j], x[2 * j + 1]);
                    y[2 * j] = a * cos[j] - b * sin[j];
                    y[2 * j + 1] = b * cos[j] + a * sin[j];
                }
                return;
            }
            let (a, b) = (&x[..half], &x[half..2 * half]);
            let (first, second) = y[..2 * half].split_at_mut(half);
            for j in 0..half {
                first[j] = a[j] * cos[j] - b[j] * sin[j];
                second[j] = b[j] * cos[j] + a[j] * sin[j];
            }
        });
        Ok(())
    })?;
    Ok(Tensor::from_vec(y, (h, n, e), x.device())?)
}

fn powers(base: f64, width: usize) -> Vec<f64> {
    (0..width.div_ceil(2)).map(|i| base.powf(-2.0 * i as f64 / width as f64)).collect()
}

/// The axis of each of `pairs` pairs from the lengths of the sections of time, rows and columns: one section after the
/// other, or (Qwen3-VL) rows and columns at every third pair within three times their length, and time elsewhere.
fn sections_of(sections: &[f64], pairs: usize, interleaved: bool) -> Result<Vec<u8>> {
    let wrong = || Error::invalid(format!("config.json: mrope_section {sections:?} does not fill {pairs} pairs"));
    let lengths: Vec<usize> = sections.iter().map(|&s| if s >= 0.0 { s as usize } else { usize::MAX }).collect();
    let total = lengths.iter().try_fold(0usize, |a, &b| a.checked_add(b));
    if lengths.len() != 3 || total != Some(pairs) {
        return Err(wrong());
    }
    if !interleaved {
        return Ok((0..3u8).flat_map(|axis| std::iter::repeat_n(axis, lengths[usize::from(axis)])).collect());
    }
    let axis = |pair: usize| match pair % 3 {
        a @ (1 | 2) if pair < 3 * lengths[a] => a as u8,
        _ => 0,
    };
    Ok((0..pairs).map(axis).collect())
}

fn positive(v: f64, what: &str) -> Result<f64> {
    if v > 0.0 { Ok(v) } else { Err(Error::invalid(format!("config.json: rope {what} is {v}, not positive"))) }
}

/// A positive number that must be there.
fn need(s: &Config, key: &str) -> Result<f64> {
    match s.value(&[key]) {
        Some(_) => positive(s.number(&[key], 0.0)?, key),
        None => Err(Error::invalid(format!("config.json: the rope scaling has no {key}"))),
    }
}

fn factor(s: &Config) -> Result<f64> {
    need(s, "factor")
}

/// A divisor per frequency.
fn divide(inv_freq: &mut [f64], s: &Config, key: &str) -> Result<()> {
    let factors = s.numbers(key)?.unwrap_or_default();
    if factors.len() != inv_freq.len() || factors.iter().any(|f| *f <= 0.0) {
        let (have, want) = (factors.len(), inv_freq.len());
        return Err(Error::invalid(format!("rope {key}: {have} usable factors, the heads need {want}")));
    }
    inv_freq.iter_mut().zip(factors).for_each(|(f, by)| *f /= by);
    Ok(())
}

/// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between blended.
fn llama3(inv_freq: &mut [f64], s: &Config, old: f64) -> Result<()> {
    let (factor, low, high) = (factor(s)?, need(s, "low_freq_factor")?, need(s, "high_freq_factor")?);
    if high == low {
        return Err(Error::invalid("config.json: rope low_freq_factor and high_freq_factor must differ"));
    }
    for f in inv_freq {
        let wavelength = std::f64::consts::TAU / *f;
        if wavelength > old / low {
            *f /= factor;
        } else if wavelength >= old / high {
            let smooth = (old / wavelength - low) / (high - low);
            *f = (1.0 - smooth) * *f / factor + smooth * *f;
        }
    }
    Ok(())
}

/// YaRN: frequencies that turn often over the training length are kept, those that hardly turn are stretched,
/// with a ramp between. Returns the factor on cosines and sines.
fn yarn(inv_freq: &mut [f64], s: &Config, base: f64, old: f64, max: impl Fn() -> Result<f64>) -> Result<f64> {
    let factor = match s.value(&["factor"]) {
        None if s.speaks_of("factor") => max()? / old,
        _ => factor(s)?,
    };
    let width = 2 * inv_freq.len();
    // 0 counts as not given, as in the original.
    let or = |key: &str, default: f64| s.number(&[key], default).map(|v| if v == 0.0 { default } else { v });
    let turns = |n: f64| width as f64 * (old / (n * std::f64::consts::TAU)).ln() / (2.0 * base.ln());
    let (mut first, mut last) = (turns(or("beta_fast", 32.0)?), turns(or("beta_slow", 1.0)?));
    if s.flag(&["truncate"], true)? {
        (first, last) = (first.floor(), last.ceil());
    }
    let (first, mut last) = (first.max(0.0), last.min(width as f64 - 1.0));
    if first == last {
        last += 0.001;
    }
    for (i, f) in inv_freq.iter_mut().enumerate() {
        let stretched = ((i as f64 - first) / (last - first)).clamp(0.0, 1.0);
        *f = *f / factor * stretched + *f * (1.0 - stretched);
    }
    let sharpen = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
    let (over, under) = (s.number(&["mscale"], 0.0)?, s.number(&["mscale_all_dim"], 0.0)?);
    let own = if over != 0.0 && under != 0.0 { sharpen(over) / sharpen(under) } else { sharpen(1.0) };
    s.number(&["attention_factor"], own)
}

/// LongRoPE: one searched divisor per frequency, others for texts longer than in training.
fn long(rope: &mut Rope, s: &Config, old: f64, max: impl Fn() -> Result<f64>) -> Result<()> {
    let factor = match s.value(&["factor"]) {
        None => max()? / old,
        Some(_) => factor(s)?,
    };
    let own = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / old.ln()).sqrt() };
    rope.scale = s.number(&["attention_factor"], own)?;
    let mut longer = rope.inv_freq.clone();
    divide(&mut rope.inv_freq, s, "short_factor")?;
    divide(&mut longer, s, "long_factor")?;
    rope.longer = Longer::Other { inv_freq: longer, max: old as usize };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(positions: &[usize]) -> Places<'_> {
        Places { positions, turns: &[] }
    }
    use serde_json::{Map, Value, json};

    fn load(v: Value, width: usize) -> Result<Rope> {
        let map: Map<String, Value> = v.as_object().cloned().unwrap_or_default();
        Rope::load(&Config::new(&map), width, None, Part::Of(1.0))
    }

    #[test]
    fn turns_a_unit_vector_by_its_position() {
        let rope = load(json!({}), 2).unwrap();
        let x = Tensor::new(&[[[1f32, 0.0]]], &Device::Cpu).unwrap();
        let t = rope.tables(at(&[1]), &Device::Cpu).unwrap();
        let y = rope.turn(&x, &t).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!((y[0] - 1f32.cos()).abs() < 1e-6 && (y[1] - 1f32.sin()).abs() < 1e-6);
    }

    #[test]
    fn an_odd_part_of_a_head_is_turned_with_one_component_more() {
        let rope = load(json!({ "partial_rotary_factor": 0.5, "rope_theta": 1000.0 }), 6).unwrap();
        assert!(rope.inv_freq.iter().zip([1.0, 0.01]).all(|(a, b)| (a - b).abs() < 1e-12), "{:?}", rope.inv_freq);
        assert!(load(json!({ "partial_rotary_factor": 1.0 }), 5).is_err());
    }

    #[test]
    fn neighbours_are_turned_as_what_lies_apart_is_with_and_without_gradients() {
        let rope = load(json!({ "partial_rotary_factor": 0.8 }), 5).unwrap();
        let apart = Tensor::new(&[[[1f32, 0.3, -0.5, 2.0, 7.0]]], &Device::Cpu).unwrap();
        let next = Tensor::new(&[[[1f32, -0.5, 0.3, 2.0, 7.0]]], &Device::Cpu).unwrap();
        let flat = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let want = flat(rope.turn(&apart, &rope.tables(at(&[3]), &Device::Cpu).unwrap()).unwrap());
        let rope = rope.of_neighbours();
        let tables = rope.tables(at(&[3]), &Device::Cpu).unwrap();
        let learned = candle_core::Var::from_tensor(&next).unwrap();
        for x in [&next, learned.as_tensor()] {
            let got = flat(rope.turn(x, &tables).unwrap());
            let pairs = [got[0], got[2], got[1], got[3], got[4]];
            assert!(pairs.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}, not {want:?}");
        }
    }

    #[test]
    fn a_key_that_is_moved_is_as_if_it_had_stood_there() {
        let rope = load(json!({ "partial_rotary_factor": 0.5 }), 8).unwrap();
        let x = Tensor::new(&[[[1f32, 0.3, -0.5, 2.0, 7.0, 8.0, 9.0, 1.0]]], &Device::Cpu).unwrap();
        let turned = |p: usize| rope.turn(&x, &rope.tables(at(&[p]), &Device::Cpu).unwrap()).unwrap();
        let moved = rope.turn(&turned(40), &rope.between(&[40], &[3], &Device::Cpu).unwrap()).unwrap();
        let flat = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(flat(moved).iter().zip(flat(turned(3))).all(|(a, b)| (a - b).abs() < 1e-5));
        // Where the base grows with the length, what was turned in a long text cannot be turned back.
        let scaling = json!({ "rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0 });
        let rope = load(json!({ "max_position_embeddings": 8, "rope_parameters": scaling }), 4).unwrap();
        assert!(rope.between(&[20], &[3], &Device::Cpu).is_err() && rope.between(&[6], &[3], &Device::Cpu).is_ok());
    }

    #[test]
    fn patches_are_turned_by_their_centres_and_leading_tokens_are_not() {
        // One row of two patches: centres at row 0 and columns -1/2 and 1/2, half a turn each; heads of one pair an axis.
        let rope = Rope::of_centres(100.0, 4).unwrap();
        let turns = centres(1, (1, 2));
        let places = Places { positions: &[0, 1, 2], turns: &turns };
        let (cos, sin) = rope.tables(places, &Device::Cpu).unwrap();
        let near = |t: Tensor, want: [[f32; 4]; 3]| {
            let got = t.to_vec2::<f32>().unwrap();
            assert!(got.iter().flatten().zip(want.as_flattened()).all(|(a, b)| (a - b).abs() < 1e-5), "{got:?}");
        };
        near(cos, [[1.0; 4], [1.0, -1.0, 1.0, -1.0], [1.0, -1.0, 1.0, -1.0]]);
        near(sin, [[0.0; 4]; 3]);
        // A quarter of a turn: four columns, the third one's centre at 1/4.
        let turns = centres(0, (1, 4));
        let (_, sin) = rope.tables(Places { positions: &[0, 1, 2, 3], turns: &turns }, &Device::Cpu).unwrap();
        assert!((sin.to_vec2::<f32>().unwrap()[2][1] - 1.0).abs() < 1e-5);
        assert!(rope.tables(at(&[1]), &Device::Cpu).is_err());
    }

    #[test]
    fn families_that_turn_whole_heads_do_not_read_the_share() {
        let load = |s: serde_json::Value| {
            let map = json!({ "rope_parameters": s }).as_object().unwrap().clone();
            Rope::load(&Config::new(&map), 8, None, Part::Whole)
        };
        assert_eq!(load(json!({ "partial_rotary_factor": 0.5 })).unwrap(), Rope::plain(10_000.0, 8).unwrap());
        assert!(load(json!({ "rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5 })).is_err());
    }

    #[test]
    fn a_part_of_the_head_is_turned_and_the_rest_stays() {
        let rope = load(json!({ "partial_rotary_factor": 0.5 }), 4).unwrap();
        let x = Tensor::new(&[[[1f32, 0.0, 7.0, 8.0]]], &Device::Cpu).unwrap();
        let t = rope.tables(at(&[1]), &Device::Cpu).unwrap();
        let y = rope.turn(&x, &t).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!((y[0] - 1f32.cos()).abs() < 1e-6 && y[2..] == [7.0, 8.0], "{y:?}");
    }

    #[test]
    fn a_text_longer_than_in_training_grows_the_base() {
        // Factor 2 at twice the length: base · (2 · 2 - 1)^(4 / 2) = 9 · base.
        let scaling = json!({ "rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0 });
        let rope = load(json!({ "max_position_embeddings": 8, "rope_parameters": scaling }), 4).unwrap();
        let angle = |length: usize| {
            let (_, sin) = rope.tables(at(&[1, length - 1]), &Device::Cpu).unwrap();
            sin.get(0).unwrap().get(1).unwrap().to_scalar::<f32>().unwrap().asin()
        };
        assert!((angle(8) - 0.1).abs() < 1e-6 && (angle(16) - 900f32.powf(-0.5)).abs() < 1e-6);
    }

    #[test]
    fn yarn_keeps_fast_pairs_and_stretches_slow_ones() {
        let scaling = json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64,
            "rope_theta": 10000.0, "beta_fast": 32.0, "beta_slow": 1.0 });
        let rope = load(json!({ "max_position_embeddings": 256, "rope_parameters": scaling }), 8).unwrap();
        // 8 ln(64 / 2πn) / 2 ln 10000 is below 0 for 32 turns and 1.008 for one, rounded up to 2.
        let want = [1.0, 0.1 * (0.5 / 4.0 + 0.5), 0.01 / 4.0, 0.001 / 4.0];
        assert!(rope.inv_freq.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{:?}", rope.inv_freq);
        assert!((rope.scale - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-12);
    }

    #[test]
    fn what_is_not_known_or_incomplete_is_refused() {
        for s in [
            json!({ "rope_type": "spiral" }),
            json!({ "rope_type": "linear" }),
            json!({ "rope_type": "linear", "factor": "2" }),
            json!({ "rope_type": "llama3", "factor": 8.0 }),
            json!({ "rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0, 2.0], "factor": 2.0 }),
            json!({ "rope_type": 3 }),
            json!({ "rope_theta": -1.0 }),
            json!({ "partial_rotary_factor": 7.0 }),
        ] {
            let error = load(json!({ "max_position_embeddings": 8, "rope_parameters": s.clone() }), 4);
            assert!(error.is_err(), "{s}");
        }
    }
}
