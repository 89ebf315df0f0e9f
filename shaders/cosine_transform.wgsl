// out[o, a, c] = Σ_i map[a, i] · x[o, i, c], with x [outer, n, inner] and out [outer, k, inner]: a transform along one axis
// of a grid. A workgroup takes 16 × 16 cells of one o: 16 of a, 16 of c, with slices of both in shared memory.

struct Params {
    // Length of the axis before and behind.
    n: u32,
    k: u32,
    inner: u32,
    outer: u32,
    first_group: u32,
}

const SIDE = 16u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> map: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

var<workgroup> weights: array<f32, 256>;
var<workgroup> values: array<f32, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let id = params.first_group + group.x + group.y * groups.x;
    let across = (params.inner + SIDE - 1u) / SIDE;
    let down = (params.k + SIDE - 1u) / SIDE;
    let o = id / (across * down);
    if o >= params.outer {
        return;
    }
    let rest = id % (across * down);
    let a0 = rest / across * SIDE;
    let c0 = rest % across * SIDE;
    let row = local / SIDE;
    let col = local % SIDE;
    let a = a0 + row;
    let c = c0 + col;
    var sum = 0.0;
    for (var i0 = 0u; i0 < params.n; i0 += SIDE) {
        var w = 0.0;
        if a < params.k && i0 + col < params.n {
            w = map[a * params.n + i0 + col];
        }
        var v = 0.0;
        if c < params.inner && i0 + row < params.n {
            v = x[(o * params.n + i0 + row) * params.inner + c];
        }
        weights[local] = w;
        values[local] = v;
        workgroupBarrier();
        for (var e = 0u; e < SIDE; e += 1u) {
            sum += weights[row * SIDE + e] * values[e * SIDE + col];
        }
        workgroupBarrier();
    }
    if a < params.k && c < params.inner {
        out[(o * params.k + a) * params.inner + c] = sum;
    }
}
