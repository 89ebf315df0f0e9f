//! Learning to see: the image tower names what each patch shows before a language model is put behind it.

use crate::fit::{Task, cross_entropy};
use crate::params::{Params, Spec, Start};
use crate::shapes::{Clip, TOWER};
use anyhow::Context as _;
use candle_core::{Device, Tensor};
use serde_json::{Map, Value};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::image::ImageInput;
use tokenscope_analysis::image::{Picture, Processor};
use tokenscope_analysis::model::{Input, Model};
use tokenscope_analysis::trace::NoTap;
use tokenscope_generate::scenes::{Fullness, Kind, SIDE, Scene, Texture};

/// What is told about a patch, and how many answers each has: kind, colour, glyph, place of the glyph in its word,
/// texture, whether the middle of an item lies here.
const ASPECTS: [usize; 6] = [9, 9, 37, 5, 4, 2];
/// What is told by the class token: kind of the largest item, number of shapes.
const WHOLE: [usize; 2] = [8, 5];
/// Weight of what a patch of background is, against 1 for a patch of an item.
const BACKGROUND: f32 = 0.15;

/// Weight of which glyph a patch shows: glyphs are many and cover little of a scene.
const GLYPH: f32 = 3.0;

/// The task: the tower's variables below [`TOWER`], the heads beside them.
pub struct Seeing {
    /// The tower.
    pub shape: Clip,
}

/// What the processor of all sample models does: nothing but a step to -1..=1.
pub fn preprocessor() -> Value {
    serde_json::json!({
        "image_processor_type": "CLIPImageProcessor", "do_resize": true, "size": { "height": SIDE, "width": SIDE },
        "do_center_crop": false, "do_rescale": true, "rescale_factor": 1.0 / 255.0, "do_normalize": true,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 3, "do_convert_rgb": true,
    })
}

/// A scene as a model gets it, by the same arithmetic as [`Processor`] with [`preprocessor`].
pub fn pixels(scene: &Scene) -> anyhow::Result<ImageInput> {
    let n = SIDE * SIDE;
    let mut out = vec![0f32; 3 * n];
    for c in 0..3 {
        let column = out[c * n..(c + 1) * n].iter_mut();
        column.zip(scene.rgb[c..].iter().step_by(3)).for_each(|(o, v)| {
            *o = ((f64::from(*v) * (1.0 / 255.0) - 0.5) / 0.5) as f32;
        });
    }
    let side = SIDE as f32;
    Ok(ImageInput {
        tiles: vec![Tensor::from_vec(out, (3, SIDE, SIDE), &Device::Cpu)?],
        rects: vec![[0.0, 0.0, side, side]],
        layout: (1, 1),
        original: (SIDE as u32, SIDE as u32),
        grid: None,
        at: [0.0; 2],
        rest: Vec::new(),
    })
}

/// A scene as a picture.
pub fn picture(scene: &Scene) -> anyhow::Result<Picture> {
    Ok(Picture::new(SIDE, SIDE, scene.rgb.clone())?)
}

/// A scene through a model's own processor.
pub fn processed(processor: &Processor, scene: &Scene) -> anyhow::Result<ImageInput> {
    Ok(processor.process(&picture(scene)?)?)
}

/// What each patch shows, as the answer to each aspect, and where its item's middle is, in -1..=1.
struct Patch {
    answers: [u32; 6],
    middle: Option<(f32, f32)>,
}

/// The index of a kind among the answers: shapes, then number and word, then nothing.
fn kind(k: &Kind) -> u32 {
    match k {
        Kind::Shape(s) => *s as u32,
        Kind::Writing(w) if w.is_number() => 6,
        Kind::Writing(_) => 7,
    }
}

fn patches(scene: &Scene, side: usize) -> Vec<Patch> {
    let n = SIDE / side;
    let mut out = Vec::with_capacity(n * n);
    for (r, c) in (0..n).flat_map(|r| (0..n).map(move |c| (r, c))) {
        let mut counts = vec![0usize; scene.items.len()];
        for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
            let o = scene.owner[(r * side + y) * SIDE + c * side + x];
            if o > 0 {
                counts[usize::from(o) - 1] += 1;
            }
        }
        let most = counts.iter().enumerate().max_by_key(|(_, n)| **n).filter(|(_, n)| **n * 8 >= side * side);
        let Some((i, _)) = most else {
            out.push(Patch { answers: [8, 8, 36, 4, 3, 0], middle: None });
            continue;
        };
        let item = &scene.items[i];
        let (x, y) = ((c * side) as f32, (r * side) as f32);
        let (mut glyph, mut place) = (36, 4);
        if let Some(w) = item.writing() {
            // The glyph that covers most of the patch.
            let mut best = 0.0;
            for (k, ch) in w.text.chars().enumerate() {
                let [gx, gy, gw, gh] = w.glyph(item.center, k);
                let wide = (gx + gw).min(x + side as f32) - gx.max(x);
                let high = (gy + gh).min(y + side as f32) - gy.max(y);
                if wide > 0.0 && high > 0.0 && wide * high > best {
                    best = wide * high;
                    glyph = ch.to_digit(36).unwrap_or(36);
                    place = (k as u32).min(3);
                }
            }
        }
        let (cx, cy) = item.center;
        let here = (x..x + side as f32).contains(&cx) && (y..y + side as f32).contains(&cy);
        let texture = match (&item.kind, item.texture) {
            (Kind::Writing(_), _) => 3,
            (_, Texture::Plain) => 0,
            (_, Texture::Striped) => 1,
            (_, Texture::Dotted) => 2,
        };
        let half = SIDE as f32 / 2.0;
        out.push(Patch {
            answers: [kind(&item.kind), item.color as u32, glyph, place, texture, u32::from(here)],
            middle: Some((cx / half - 1.0, cy / half - 1.0)),
        });
    }
    out
}

/// Kind of the item with the most visible pixels, and number of shapes.
fn whole(scene: &Scene) -> [u32; 2] {
    let area = |i: &usize| scene.mask(&[*i]).iter().filter(|m| **m).count();
    let largest = (0..scene.items.len()).max_by_key(area).map_or(0, |i| kind(&scene.items[i].kind));
    [largest, scene.items.iter().filter(|i| i.shape().is_some()).count() as u32]
}

impl Seeing {
    /// The tower's variables and the heads'.
    pub fn specs(&self) -> Vec<Spec> {
        let d = self.shape.width;
        let mut out = self.shape.specs(TOWER);
        for (name, n) in [("patch", ASPECTS.iter().sum::<usize>() + 2), ("class", WHOLE.iter().sum())] {
            out.push(Spec::linear(format!("head.{name}"), d, n, 0.5));
            out.push(Spec::new(format!("head.{name}.bias"), &[n], Start::Value(0.0)));
        }
        out
    }

    fn head(&self, params: &Params, name: &str, x: &Tensor) -> anyhow::Result<Tensor> {
        let w = params.get(&format!("head.{name}.weight"))?.as_tensor().t()?;
        let b = params.get(&format!("head.{name}.bias"))?.as_tensor();
        // The residual stream grows with depth; heads read its direction.
        let scale = (x.sqr()?.mean_keepdim(1)? + 1e-5)?.sqrt()?;
        Ok(x.broadcast_div(&scale)?.matmul(&w)?.broadcast_add(b)?)
    }

    /// What the heads say: `[patches, answers]` and `[1, answers]`.
    fn look(&self, model: &dyn Model, params: &Params, scene: &Scene) -> anyhow::Result<(Tensor, Tensor)> {
        let mut input = Input { image: Some(pixels(scene)?), ..Input::default() };
        let out = model.forward(&mut input, &mut NoTap, &Ctx::default())?;
        let x = out.extras.get("last_hidden_state").context("an image tower gave no hidden state")?;
        let n = self.shape.n_patches();
        let patch = self.head(params, "patch", &x.narrow(0, 1, n)?)?;
        let class = self.head(params, "class", &x.narrow(0, 0, 1)?)?;
        Ok((patch, class))
    }

    /// Share of patches of items whose kind, colour and glyph are right, and of scenes whose largest item is, on
    /// `n` scenes from `first`.
    pub fn accuracy(&self, params: &Params, first: u64, n: u64) -> anyhow::Result<[f64; 4]> {
        let model = params.model(&self.config(), self.prefix(), &|_| false)?;
        let (mut right, mut of) = ([0usize; 4], [0usize; 4]);
        for seed in first..first + n {
            let scene = Scene::new(seed);
            let (patch, class) = self.look(model.as_ref(), params, &scene)?;
            let truth = patches(&scene, self.shape.patch);
            let mut start = 0;
            for (a, size) in ASPECTS.iter().enumerate().take(3) {
                let best = patch.narrow(1, start, *size)?.argmax(1)?.to_vec1::<u32>()?;
                for (t, b) in truth.iter().zip(best) {
                    if t.middle.is_some() && (a != 2 || t.answers[2] < 36) {
                        of[a] += 1;
                        right[a] += usize::from(t.answers[a] == b);
                    }
                }
                start += size;
            }
            of[3] += 1;
            let best = class.narrow(1, 0, WHOLE[0])?.argmax(1)?.to_vec1::<u32>()?;
            right[3] += usize::from(best[0] == whole(&scene)[0]);
        }
        Ok(std::array::from_fn(|i| right[i] as f64 / of[i].max(1) as f64))
    }
}

impl Task for Seeing {
    fn config(&self) -> Map<String, Value> {
        self.shape.config()
    }

    fn prefix(&self) -> &str {
        "vision_tower."
    }

    fn loss(&self, model: &dyn Model, params: &Params, sample: u64, gone: f64) -> anyhow::Result<Tensor> {
        let full = Fullness { max_shapes: if gone < 0.1 { 2 } else { 4 }, writing: 0.9, ..Fullness::FULL };
        let scene = Scene::with(sample, full);
        let (patch, class) = self.look(model, params, &scene)?;
        let truth = patches(&scene, self.shape.patch);
        let mut start = 0;
        let mut total: Option<Tensor> = None;
        let mut add = |loss: Tensor| -> anyhow::Result<()> {
            total = Some(match total.take() {
                Some(t) => (t + loss)?,
                None => loss,
            });
            Ok(())
        };
        for (a, size) in ASPECTS.iter().enumerate() {
            let targets: Vec<(u32, u32, f32)> = (truth.iter().enumerate())
                .map(|(i, t)| {
                    let weight = match t.middle {
                        None => BACKGROUND,
                        Some(_) if (a == 2 || a == 3) && t.answers[2] < 36 => GLYPH,
                        Some(_) => 1.0,
                    };
                    (i as u32, t.answers[a], weight)
                })
                .collect();
            add(cross_entropy(&patch.narrow(1, start, *size)?.contiguous()?, &targets)?)?;
            start += size;
        }
        // Where the middle is: squared error over the patches of items.
        let with: Vec<(u32, f32, f32)> =
            truth.iter().enumerate().filter_map(|(i, t)| t.middle.map(|(x, y)| (i as u32, x, y))).collect();
        let rows: Vec<u32> = with.iter().map(|w| w.0).collect();
        let want: Vec<f32> = with.iter().flat_map(|w| [w.1, w.2]).collect();
        let said = patch.narrow(1, start, 2)?.contiguous()?.index_select(&Tensor::new(rows, &Device::Cpu)?, 0)?;
        let want = Tensor::from_vec(want, (with.len(), 2), &Device::Cpu)?;
        add((said - want)?.sqr()?.mean_all()?)?;
        let mut start = 0;
        for (size, answer) in WHOLE.iter().zip(whole(&scene)) {
            let loss = cross_entropy(&class.narrow(1, start, *size)?.contiguous()?, &[(0, answer, 1.0)])?;
            add((loss * 0.3)?)?;
            start += size;
        }
        total.context("there is nothing to learn")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenscope_generate::scenes::{Color, Shape};

    #[test]
    fn training_pixels_are_those_of_the_models_own_processor() {
        let dir = std::env::temp_dir().join(format!("tokenscope-tower-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let clip = Clip { width: 8, layers: 1, heads: 2, inner: 8, patch: 8, side: SIDE };
        std::fs::write(dir.join("config.json"), Value::Object(clip.config()).to_string()).unwrap();
        std::fs::write(dir.join("preprocessor_config.json"), preprocessor().to_string()).unwrap();
        let one: std::collections::HashMap<String, Tensor> =
            [("a".to_string(), Tensor::new(&[0f32], &Device::Cpu).unwrap())].into();
        candle_core::safetensors::save(&one, dir.join("model.safetensors")).unwrap();
        let weights = tokenscope_analysis::weights::Weights::open(&dir).unwrap();
        let processor = Processor::load(&weights).unwrap().unwrap();
        let scene = Scene::new(3);
        let (a, b) = (pixels(&scene).unwrap(), processed(&processor, &scene).unwrap());
        assert_eq!(a.rects, b.rects);
        let flat = |i: &ImageInput| i.tiles[0].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(flat(&a), flat(&b));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn patches_say_what_they_show() {
        for seed in 0..20 {
            let scene = Scene::new(seed);
            let all = patches(&scene, 8);
            // The patch of each item's middle belongs to it, unless the middle is hidden or a hole.
            for (i, item) in scene.items.iter().enumerate() {
                let (x, y) = (item.center.0 as usize, item.center.1 as usize);
                let p = &all[(y / 8) * 12 + x / 8];
                if scene.patch_shares(&[i], 8)[(y / 8) * 12 + x / 8] > 0.6 {
                    assert_eq!((p.answers[0], p.answers[1], p.answers[5]), (kind(&item.kind), item.color as u32, 1));
                }
            }
            assert!(all.iter().any(|p| p.middle.is_none() && p.answers[0] == 8));
        }
        assert_eq!(Shape::ALL.len() + 2, 8);
        assert_eq!(Color::ALL.len(), 8);
    }
}
