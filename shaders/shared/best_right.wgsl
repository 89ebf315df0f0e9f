// For each row of `left` the row of `right` with the largest dot product, the first one on a tie: its product in `best`,
// its number in `label`. Pieces of `right` come one after the other; the first one begins.

struct Params {
    n_left: u32,
    n_right: u32,
    first_right: u32,
    width: u32,
    first_block: u32,
    begins: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read_write> best: array<f32>;
@group(0) @binding(4) var<storage, read_write> label: array<u32>;

const NOTHING = -3.0e38;
const NOBODY = 0xffffffffu;

struct Match {
    value: f32,
    index: u32,
}

fn better(a: Match, b: Match) -> Match {
    if b.value > a.value || (b.value == a.value && b.index < a.index) {
        return b;
    }
    return a;
}

fn among(found: Match, first: u32, dots: vec4<f32>) -> Match {
    var out = found;
    for (var c = 0u; c < 4u; c += 1u) {
        let j = first + 8u * c;
        if j < params.n_right {
            out = better(out, Match(dots[c], params.first_right + j));
        }
    }
    return out;
}

var<workgroup> values: array<f32, 256>;
var<workgroup> indices: array<u32, 256>;

// The best of the piece for row i0 + local; a workgroup of 64 threads walks over all of it for 32 rows from i0 on.
fn best_right(local: u32, i0: u32) -> Match {
    var a = Match(NOTHING, NOBODY);
    var b = a;
    var c = a;
    var d = a;
    for (var j0 = 0u; j0 < params.n_right; j0 += BLOCK) {
        let dots = dot_block(local, i0, params.n_left, j0, params.n_right, params.width);
        let j = j0 + local % 8u;
        a = among(a, j, dots[0]);
        b = among(b, j, dots[1]);
        c = among(c, j, dots[2]);
        d = among(d, j, dots[3]);
    }
    values[local] = a.value;
    values[local + 64u] = b.value;
    values[local + 128u] = c.value;
    values[local + 192u] = d.value;
    indices[local] = a.index;
    indices[local + 64u] = b.index;
    indices[local + 128u] = c.index;
    indices[local + 192u] = d.index;
    workgroupBarrier();
    var found = Match(NOTHING, NOBODY);
    if local < BLOCK {
        let start = (local / 8u) * 64u + (local % 8u) * 8u;
        for (var t = 0u; t < 8u; t += 1u) {
            found = better(found, Match(values[start + t], indices[start + t]));
        }
    }
    return found;
}

// Keeps what was found for row i0 + local, unless a piece before had it as good.
fn keep(local: u32, i0: u32, found: Match) {
    let i = i0 + local;
    if local >= BLOCK || i >= params.n_left {
        return;
    }
    var most = found;
    if params.begins == 0u {
        most = better(Match(best[i], label[i]), found);
    }
    best[i] = most.value;
    label[i] = most.index;
}
