// For each row of `left`, the row of `right` (unit length both, or as they are) with the largest dot product, the first on
// a tie: `best` and its number in `label`. Pieces of `right` come one after the other; the first one begins.

struct Params {
    n_left: u32,
    n_right: u32,
    first_right: u32,
    width: u32,
    first_block: u32,
    begins: u32,
}

const LOW = -3.0e38;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read_write> best: array<f32>;
@group(0) @binding(4) var<storage, read_write> label: array<u32>;

// Value and number of the best right row so far, as x and y; numbers up to 2²⁴ are exact.
fn among(found: vec2<f32>, first: u32, dots: vec4<f32>) -> vec2<f32> {
    var out = found;
    for (var c = 0u; c < 4u; c += 1u) {
        let j = first + 8u * c;
        if j < params.n_right && dots[c] > out.x {
            out = vec2<f32>(dots[c], f32(j));
        }
    }
    return out;
}

var<workgroup> pairs: array<vec2<f32>, 256>;

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
    var a = vec2<f32>(LOW, 0.0);
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
    pairs[local] = a;
    pairs[local + 64u] = b;
    pairs[local + 128u] = c;
    pairs[local + 192u] = d;
    workgroupBarrier();
    let i = i0 + local;
    if local >= BLOCK || i >= params.n_left {
        return;
    }
    let start = (local / 8u) * 64u + (local % 8u) * 8u;
    var found = pairs[start];
    for (var t = 1u; t < 8u; t += 1u) {
        let other = pairs[start + t];
        if other.x > found.x || (other.x == found.x && other.y < found.y) {
            found = other;
        }
    }
    // Pieces come in order, so an equal one that was there before stays.
    if params.begins == 1u || found.x > best[i] {
        best[i] = found.x;
        label[i] = params.first_right + u32(found.y);
    }
}
