// out[s, c] = Σ w · x[i, c] (sum), the same over Σ w (mean), or the largest x[i, c], over the members (i, w) of segment
// s: members[offsets[s] .. offsets[s + 1]]. One thread per cell.

struct Params {
    n_segments: u32,
    width: u32,
    first_cell: u32,
    how: u32,
}

const SUM = 0u;
const MEAN = 1u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> offsets: array<u32>;
@group(0) @binding(3) var<storage, read> members: array<u32>;
@group(0) @binding(4) var<storage, read> weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let cell = params.first_cell + (group.x + group.y * groups.x) * 64u + local;
    let segment = cell / params.width;
    if segment >= params.n_segments {
        return;
    }
    let column = cell % params.width;
    var sum = 0.0;
    var total = 0.0;
    var largest = -3.0e38;
    for (var i = offsets[segment]; i < offsets[segment + 1u]; i += 1u) {
        let value = x[members[i] * params.width + column];
        sum += weights[i] * value;
        total += weights[i];
        largest = max(largest, value);
    }
    if params.how == SUM {
        out[cell] = sum;
    } else if params.how == MEAN {
        out[cell] = sum / total;
    } else {
        out[cell] = largest;
    }
}
