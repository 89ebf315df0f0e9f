//! The largest values in the order in which torch's `topk` on the CPU gives them. Where values are equal, which ones are
//! taken, and in which order, hangs on its algorithm: published code that pools votes has such ties all the time, and its
//! results are reproduced only so.
//!
//! Source: ATen's `topk_impl_loop` (a partial sort of few among many, else a selection and a sort of what is before it)
//! over the algorithms of libstdc++. Where no reference is to be met, [`crate::math::largest`] is the plain way.

type Pair = (f32, usize);

/// Largest first, and what is no number before all others.
fn before(x: Pair, y: Pair) -> bool {
    (x.0.is_nan() && !y.0.is_nan()) || x.0 > y.0
}

/// Indices of the `k` largest values, the largest first; all of them where there are fewer.
pub fn topk(values: &[f32], k: usize) -> Vec<usize> {
    let mut q: Vec<Pair> = values.iter().copied().zip(0..).collect();
    let (n, k) = (q.len(), k.min(q.len()));
    if k == 0 {
        return Vec::new();
    }
    if k.saturating_mul(64) <= n {
        heap_select(&mut q, k);
        sort_heap(&mut q[..k]);
    } else {
        select(&mut q, k - 1);
        sort(&mut q[..k - 1]);
    }
    q[..k].iter().map(|p| p.1).collect()
}

/// Splits before a pivot may go wrong this often.
fn depth(n: usize) -> usize {
    2 * n.checked_ilog2().unwrap_or(0) as usize
}

/// Puts at `nth` what stands there once all is sorted, with nothing smaller before it.
fn select(q: &mut [Pair], nth: usize) {
    let (mut first, mut last, mut left) = (0, q.len(), depth(q.len()));
    while last - first > 3 {
        if left == 0 {
            heap_select(&mut q[first..last], nth + 1 - first);
            q.swap(first, nth);
            return;
        }
        left -= 1;
        let cut = first + partition(&mut q[first..last]);
        if cut <= nth {
            first = cut;
        } else {
            last = cut;
        }
    }
    insertion_sort(&mut q[first..last]);
}

/// Shorter runs are sorted by insertion.
const SHORT: usize = 16;

fn sort(q: &mut [Pair]) {
    let left = depth(q.len());
    split(q, left);
    let short = q.len().min(SHORT);
    insertion_sort(&mut q[..short]);
    (short..q.len()).for_each(|i| insert(q, i));
}

/// Splits until every part is short.
fn split(q: &mut [Pair], mut left: usize) {
    let mut last = q.len();
    while last > SHORT {
        if left == 0 {
            heap_select(&mut q[..last], last);
            sort_heap(&mut q[..last]);
            return;
        }
        left -= 1;
        let cut = partition(&mut q[..last]);
        split(&mut q[cut..last], left);
        last = cut;
    }
}

/// Moves what goes before a median of three to the front; gives where the rest begins.
fn partition(q: &mut [Pair]) -> usize {
    let (a, b, c) = (1, q.len() / 2, q.len() - 1);
    let median = if before(q[a], q[b]) {
        match (before(q[b], q[c]), before(q[a], q[c])) {
            (true, _) => b,
            (false, true) => c,
            (false, false) => a,
        }
    } else {
        match (before(q[a], q[c]), before(q[b], q[c])) {
            (true, _) => a,
            (false, true) => c,
            (false, false) => b,
        }
    };
    q.swap(0, median);
    let (mut first, mut last) = (1, q.len());
    loop {
        while before(q[first], q[0]) {
            first += 1;
        }
        last -= 1;
        while before(q[0], q[last]) {
            last -= 1;
        }
        if first >= last {
            return first;
        }
        q.swap(first, last);
        first += 1;
    }
}

fn insertion_sort(q: &mut [Pair]) {
    for i in 1..q.len() {
        if before(q[i], q[0]) {
            q[..=i].rotate_right(1);
        } else {
            insert(q, i);
        }
    }
}

/// Moves element `i` back to where it belongs among those before it, one of which stays before it.
fn insert(q: &mut [Pair], i: usize) {
    let to = (0..i).rev().find(|&j| !before(q[i], q[j])).map_or(0, |j| j + 1);
    q[to..=i].rotate_right(1);
}

/// The `k` that go first, as a heap at the front whose root goes last of them.
fn heap_select(q: &mut [Pair], k: usize) {
    (0..k / 2).rev().for_each(|parent| {
        let value = q[parent];
        sift(&mut q[..k], parent, value);
    });
    for i in k..q.len() {
        if before(q[i], q[0]) {
            let value = q[i];
            q[i] = q[0];
            sift(&mut q[..k], 0, value);
        }
    }
}

fn sort_heap(q: &mut [Pair]) {
    for last in (1..q.len()).rev() {
        let value = q[last];
        q[last] = q[0];
        sift(&mut q[..last], 0, value);
    }
}

/// Fills a hole: the later of two children moves up until the bottom, then `value` rises to its place.
fn sift(q: &mut [Pair], top: usize, value: Pair) {
    let (n, mut hole) = (q.len(), top);
    while 2 * hole + 2 < n {
        let right = 2 * hole + 2;
        let child = if before(q[right], q[right - 1]) { right - 1 } else { right };
        q[hole] = q[child];
        hole = child;
    }
    if 2 * hole + 2 == n {
        q[hole] = q[n - 1];
        hole = n - 1;
    }
    while hole > top && before(q[(hole - 1) / 2], value) {
        q[hole] = q[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    q[hole] = value;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::largest;

    /// Seeded values, `kinds` different ones.
    fn values(n: usize, kinds: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + i * i % 37) % kinds) as f32).collect()
    }

    #[test]
    fn without_ties_it_is_the_plain_order() {
        for (n, k) in [(1, 1), (5, 0), (5, 9), (40, 12), (300, 200), (300, 4), (2000, 31)] {
            let v: Vec<f32> = values(n, 1_000_003).iter().enumerate().map(|(i, x)| x * 4096.0 + i as f32).collect();
            assert_eq!(topk(&v, k), largest(&v, k), "{k} of {n}");
        }
    }

    #[test]
    fn with_ties_the_values_are_the_same_and_no_index_comes_twice() {
        for (n, k, kinds) in [(48, 16, 5), (64, 63, 1), (500, 300, 3), (3000, 40, 7), (3000, 40, 1)] {
            let v = values(n, kinds);
            let (got, plain) = (topk(&v, k), largest(&v, k));
            let of = |rows: &[usize]| rows.iter().map(|&i| v[i]).collect::<Vec<_>>();
            assert_eq!(of(&got), of(&plain), "{k} of {n}");
            let mut once = got.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), k);
        }
    }
}
