//! DART: a few pivots by the length of their keys; image tokens go on that repeat the pivots least.
//!
//! Source: Wen et al. 2025, "Stop Looking for Important Tokens in Multimodal Language Models: Duplication Matters More",
//! arXiv 2502.11494. Takes: keys `[heads, n, e]` of one layer of the language model and what it leaves behind the model's
//! last norm `[n, d]`. Gives: pivots, and what each of them picks. Departs: see [`Info::departs`]. Cost: O(pivots · n · d).

use crate::ctx::Ctx;
use crate::math::largest;
use crate::method::{Basis, Info, Kind, LayerPick, Need, Paper, Param, Params};
use crate::passes::cosine_matrix;
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{Half, Place};
use crate::reduce::seen::{Given, pick};
use crate::reduce::select::budget;
use crate::reduce::{Asked, Decide, Decision, Method, Seen, Table};
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const KEEP: Param = Param::share("keep", "Share of the image tokens that go on, pivots among them", 0.5);
const IMAGE_PIVOTS: Param = Param::count("image_pivots", "Pivots of the image", 0, 1024, 4);
const TEXT_PIVOTS: Param = Param::count("text_pivots", "Pivots of the text behind it", 0, 1024, 4);
const ORDER: Param = Param::choice(
    "order",
    "In which order pivots pick: by the length of their keys, or as a Python set of places would list them",
    &["length", "set"],
);
const LAYER: Param = Param::layer_of(
    "layer",
    "Layer of the language model whose keys are read and behind which the others go",
    Tower::Text,
    LayerPick::At(1),
);

static INFO: Info = Info {
    id: "dart",
    title: "DART",
    summary: "Keeps a few pivots by the length of their keys, and the image tokens that are least like these.",
    family: "inside the language model",
    basis: Basis::Authors { repo: "xqy1111111/DART", commit: "d6a5af6f24" },
    paper: Some(Paper {
        title: "Stop Looking for Important Tokens in Multimodal Language Models: Duplication Matters More",
        authors: "Wen et al.",
        year: 2025,
        arxiv: "2502.11494",
    }),
    departs: "read in a public copy of the authors' repository; the share counts the pivots; pivots pick in the order of \
              their keys' lengths unless the authors' accidental one is asked for, and a note says where these differ; \
              where tokens or text are fewer than asked for, there are fewer picks or pivots",
    needs: &[Need::ReadsImage, Need::Attention],
    params: &[KEEP, IMAGE_PIVOTS, TEXT_PIVOTS, ORDER, LAYER],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct Dart;

impl Method for Dart {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let layer = params.one_layer(&LAYER, on.reader(&INFO)?.n_layers)?;
        let share = params.share(&KEEP);
        let pivots = (params.count(&IMAGE_PIVOTS) as usize, params.count(&TEXT_PIVOTS) as usize);
        let as_set = params.choice(&ORDER) == "set";
        let behind = Place::Decoder(layer, Half::After);
        Ok(Box::new(Asked::at([behind], move |seen, ctx| {
            let pivots = Pivots::of(seen, pivots)?;
            let (by_length, by_set) = (pivots.by_length(), pivots.by_set());
            let wanted = budget(seen, share).max(pivots.image.len()) - pivots.image.len();
            let order = if as_set { &by_set } else { &by_length };
            let kept = pivots.picks(seen, wanted as f64, order, ctx)?.kept;
            if by_length != by_set
                && pivots.picks(seen, wanted as f64, if as_set { &by_length } else { &by_set }, ctx)?.kept != kept
            {
                ctx.note("in the order of the authors' Python set, pivots pick other tokens than by the length of their keys");
            }
            let scores: Vec<f32> = seen.open().iter().map(|&r| pivots.length[r]).collect();
            Ok(Decision::keep(seen, &kept).scored(seen, &scores))
        })))
    }
}

/// Rows that others are compared with, by falling length of their keys.
struct Pivots {
    /// L1 length over all heads, of every row.
    length: Vec<f32>,
    image: Vec<usize>,
    text: Vec<usize>,
}

/// What pivots pick.
struct Picked {
    each: usize,
    /// In the order of the pivots, by index among the image tokens, the least alike first.
    picks: Vec<Vec<usize>>,
    /// With the image's pivots, ascending.
    kept: Vec<usize>,
}

impl Pivots {
    fn of(seen: &dyn Seen, (image, text): (usize, usize)) -> Result<Self> {
        let keys = seen.head_keys()?;
        let [heads, n, e] = keys.dims("keys")?;
        let part = |h: usize, r: usize| keys.row(h)[r * e..(r + 1) * e].iter().map(|v| f64::from(v.abs())).sum::<f64>();
        let row = |r: usize| (0..heads).map(|h| part(h, r)).sum::<f64>();
        let length: Vec<f32> = (0..n).map(|r| row(r) as f32).collect();
        let longest = |rows: &[usize], k: usize| {
            let of: Vec<f32> = rows.iter().map(|&r| length[r]).collect();
            largest(&of, k).into_iter().map(|i| rows[i]).collect::<Vec<_>>()
        };
        Ok(Self { image: longest(seen.open(), image), text: longest(&seen.behind(), text), length })
    }

    /// The image's, then the text's, each by falling length.
    fn by_length(&self) -> Vec<usize> {
        self.image.iter().chain(&self.text).copied().collect()
    }

    /// As CPython's set of small whole numbers lists them, put in in that order.
    fn by_set(&self) -> Vec<usize> {
        let mut table: Vec<Option<usize>> = vec![None; 8];
        let mut used = 0;
        for at in self.by_length() {
            place(&mut table, at);
            used += 1;
            if 5 * used >= 3 * (table.len() - 1) {
                let old: Vec<usize> = table.iter().flatten().copied().collect();
                let mut size = 8;
                while size <= 4 * used {
                    size *= 2;
                }
                table = vec![None; size];
                old.into_iter().for_each(|at| place(&mut table, at));
            }
        }
        table.into_iter().flatten().collect()
    }

    /// Each pivot in `order` takes as many of the tokens that are left as its share of `wanted`, least alike first.
    fn picks(&self, seen: &dyn Seen, wanted: f64, order: &[usize], ctx: &Ctx) -> Result<Picked> {
        let each = (wanted / (self.image.len() + self.text.len()).max(1) as f64).floor() as usize;
        let x = seen.normed()?;
        let open = seen.open();
        let cosines = cosine_matrix::run(&pick(&x, order)?, &pick(&x, open)?, ctx)?;
        let mut taken: Vec<bool> = open.iter().map(|r| self.image.contains(r)).collect();
        let mut picks = Vec::new();
        for (i, _) in order.iter().enumerate() {
            ctx.step(i, order.len())?;
            let row = cosines.row(i);
            let mut pool: Vec<usize> = (0..open.len()).filter(|&j| !taken[j]).collect();
            pool.sort_by(|&a, &b| row[a].total_cmp(&row[b]).then(a.cmp(&b)));
            pool.truncate(each);
            pool.iter().for_each(|&j| taken[j] = true);
            picks.push(pool);
        }
        let kept = (0..open.len()).filter(|&j| taken[j]).collect();
        Ok(Picked { each, picks, kept })
    }
}

/// Puts a number where CPython's open addressing has it.
fn place(table: &mut [Option<usize>], number: usize) {
    let size = table.len();
    let (mut at, mut rest) = (number % size, number);
    loop {
        let near = if at + 9 < size { at..at + 10 } else { at..at + 1 };
        if let Some(free) = near.into_iter().find(|&i| table[i].is_none() || table[i] == Some(number)) {
            table[free] = Some(number);
            return;
        }
        rest >>= 5;
        at = (5 * at + 1 + rest) % size;
    }
}

/// Raw entry: `hidden` `[n, d]` behind the last norm, `keys` `[heads, n, e]`; `image_token_start_index`,
/// `image_token_length`, `pivot_image_token`, `pivot_text_token`, `max_num_trunction` or `reduction_ratio`; `pivot_order`
/// (places, in the order in which they pick) or else `order`.
const ADAPTER: Adapter = Adapter { name: "dart", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (hidden, keys) = (input.array("hidden")?, input.array("keys")?);
    hidden.check_finite("hidden")?;
    keys.check_finite("keys")?;
    let ([n, _], [_, m, _]) = (hidden.dims("hidden")?, keys.dims("keys")?);
    if m != n {
        return Err(Error::shape("keys", format!("[any, {n}, any]"), keys.shape()));
    }
    let (first, len): (usize, usize) = (input.read("image_token_start_index")?, input.read("image_token_length")?);
    if first.saturating_add(len) > n {
        return Err(Error::invalid(format!("image tokens {first} to {first} + {len} of {n}")));
    }
    let seen = Table::new(Place::Decoder(0, Half::After), n, first..first + len)
        .with(Given::Normed, hidden)
        .with(Given::HeadKeys, keys);
    let pivots = Pivots::of(&seen, (input.read_or("pivot_image_token", 4)?, input.read_or("pivot_text_token", 4)?))?;
    let limit: Option<f64> = input.read_or("max_num_trunction", None)?;
    let wanted = match limit {
        Some(limit) => limit,
        None => len as f64 * (1.0 - input.read_or("reduction_ratio", 0.5)?),
    };
    if !(0.0..=n as f64).contains(&wanted) {
        return Err(Error::invalid(format!("{wanted} of {len} tokens would be picked")));
    }
    let own: String = input.read_or("order", "length".into())?;
    if !matches!(own.as_str(), "length" | "set") {
        return Err(Error::invalid(format!("order is {own}; it is length or set")));
    }
    let default = if own == "set" { pivots.by_set() } else { pivots.by_length() };
    let order: Vec<usize> = input.read_or("pivot_order", default)?;
    if let Some(at) = order.iter().find(|at| **at >= n) {
        return Err(Error::invalid(format!("pivot_order names place {at} of {n}")));
    }
    let found = pivots.picks(&seen, wanted, &order, ctx)?;
    let absolute: Vec<usize> = (0..first).chain(found.kept.iter().map(|i| first + i)).chain(first + len..n).collect();
    Ok(json!({
        "key_l1": pivots.length,
        "image_pivots": pivots.image.iter().map(|p| p - first).collect::<Vec<_>>(),
        "text_pivots": pivots.text.iter().map(|p| p - first - len).collect::<Vec<_>>(),
        "per_pivot": found.each, "picks": found.picks, "keep": found.kept, "keep_absolute": absolute,
        "set_order": pivots.by_set(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;

    #[test]
    fn pivots_take_what_is_least_like_them_in_turn() {
        // Token 0 is the image's pivot and token 4 the text's; 1 is like both.
        let x = Array::new([5, 2], vec![1.0, 0.0, 0.9, 0.1, -1.0, 0.0, 0.0, 1.0, 1.0, 0.1]).unwrap();
        let k = Array::new([1, 5, 1], vec![9.0, 1.0, 1.0, 1.0, 5.0]).unwrap();
        let seen =
            Table::new(Place::Decoder(0, Half::After), 5, 0..4).with(Given::Normed, &x).with(Given::HeadKeys, &k);
        let pivots = Pivots::of(&seen, (1, 1)).unwrap();
        let found = pivots.picks(&seen, 2.0, &pivots.by_length(), &Ctx::default()).unwrap();
        assert_eq!((found.picks, found.kept), (vec![vec![2], vec![3]], vec![0, 2, 3]));
    }

    #[test]
    fn places_are_listed_as_python_lists_a_set_of_them() {
        // CPython 3.11.7: the list of a set that was filled one by one in this order.
        let order = |image: &[usize], text: &[usize]| {
            Pivots { length: Vec::new(), image: image.to_vec(), text: text.to_vec() }.by_set()
        };
        assert_eq!(order(&[12, 23, 4, 17], &[51, 52, 49, 44]), [4, 12, 44, 17, 49, 51, 52, 23]);
        assert_eq!(order(&[18, 32, 43], &[51, 50]), [32, 43, 18, 51, 50]);
    }
}
