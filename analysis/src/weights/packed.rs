//! Tensors that safetensors hold in two parts: blocks of 4-bit floats and their exponents (MXFP4, as GPT-OSS has it).

use super::scales::SHARED;
use super::{Slot, Stored};
use safetensors::Dtype;
use std::collections::BTreeMap;

/// What the names of the two parts end with.
const ENDS: [&str; 2] = ["_blocks", "_scales"];

/// Makes one tensor `NAME` `[…, rows, 32 · blocks]` of each pair `NAME_blocks` `[…, rows, blocks, 16]` and `NAME_scales`
/// `[…, rows, blocks]` of bytes. What does not fit together stays as it is.
pub(super) fn unpack(slots: &mut BTreeMap<String, Slot>) {
    let names: Vec<String> = slots.keys().filter_map(|n| n.strip_suffix(ENDS[0])).map(str::to_string).collect();
    for name in names {
        let [blocks, scales] = ENDS.map(|end| format!("{name}{end}"));
        if let Some(whole) = slots.get(&blocks).zip(slots.get(&scales)).and_then(|(b, s)| joined(b, s))
            && !slots.contains_key(&name)
        {
            slots.remove(&blocks);
            slots.remove(&scales);
            slots.insert(name, whole);
        }
    }
}

fn joined(blocks: &Slot, scales: &Slot) -> Option<Slot> {
    let bytes = |s: &Slot| matches!(s.dtype, Stored::Plain(Dtype::U8));
    let [rows @ .., n, size] = blocks.shape.as_slice() else { return None };
    let fits = 2 * size == SHARED && scales.shape.split_last() == Some((n, rows)) && !rows.is_empty();
    if !fits || !bytes(blocks) || !bytes(scales) {
        return None;
    }
    let shape = rows.iter().copied().chain([n.checked_mul(SHARED)?]).collect();
    Some(Slot { dtype: Stored::Pairs { shard: scales.shard, start: scales.start }, shape, ..blocks.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_that_fit_become_one_tensor_and_others_stay() {
        let slot = |shape: &[usize], start: u64| {
            let end = start + shape.iter().product::<usize>() as u64;
            Slot { shard: 0, dtype: Stored::Plain(Dtype::U8), shape: shape.to_vec(), start, end }
        };
        let of = |scales: &[usize]| {
            let parts = [("a.w_blocks".into(), slot(&[2, 3, 4, 16], 0)), ("a.w_scales".into(), slot(scales, 384))];
            let mut slots: BTreeMap<String, Slot> = parts.into();
            unpack(&mut slots);
            slots
        };
        let one = of(&[2, 3, 4]);
        let w = &one["a.w"];
        assert_eq!((one.len(), &w.shape[..], w.start, w.end), (1, &[2, 3, 128][..], 0, 384));
        assert!(matches!(w.dtype, Stored::Pairs { shard: 0, start: 384 }));
        assert_eq!(of(&[2, 3, 5]).len(), 2);
    }
}
