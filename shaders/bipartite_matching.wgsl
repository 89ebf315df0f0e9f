// For each row of `left` the row of `right` with the largest dot product, the first one on a tie.
// One workgroup per 32 rows of left walks over all of right.

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
@group(0) @binding(4) var<storage, read_write> partner: array<u32>;

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

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i0 = (params.first_block + group.x + group.y * groups.x) * BLOCK;
    if i0 >= params.n_left {
        return;
    }
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
    let i = i0 + local;
    if local >= BLOCK || i >= params.n_left {
        return;
    }
    var found = Match(NOTHING, NOBODY);
    if params.begins == 0u {
        found = Match(best[i], partner[i]);
    }
    let start = (local / 8u) * 64u + (local % 8u) * 8u;
    for (var t = 0u; t < 8u; t += 1u) {
        found = better(found, Match(values[start + t], indices[start + t]));
    }
    best[i] = found.value;
    partner[i] = found.index;
}
