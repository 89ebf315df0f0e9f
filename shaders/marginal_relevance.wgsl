// Maximal marginal relevance among n tokens. Per token, `state` holds x = largest cosine with a chosen one and y = 1 once
// it is chosen itself; `gained` holds the value that each choice was made by.
// pick: the token of the largest value that is left becomes choice number `step`. approach: the cosines of that choice
// raise x of all.

struct Params {
    n: u32,
    // Tokens of the piece of cosines, and the number of its first one.
    n_rows: u32,
    first: u32,
    // Number of the choice.
    step: u32,
    // 1 while nothing was chosen before: the value is the importance alone.
    begins: u32,
    lambda: f32,
}

const LOW = -3.0e38;
const NONE = 0xffffffffu;

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> importance: array<f32>;
@group(0) @binding(2) var<storage, read_write> state: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> order: array<u32>;
@group(0) @binding(4) var<storage, read_write> gained: array<f32>;

var<workgroup> best_value: array<f32, 256>;
var<workgroup> best_index: array<u32, 256>;

@compute @workgroup_size(256)
fn pick(@builtin(local_invocation_index) local: u32) {
    var value = LOW;
    var index = NONE;
    for (var i = local; i < params.n; i += 256u) {
        if state[i].y == 0.0 {
            let rest = params.lambda * importance[i] - (1.0 - params.lambda) * state[i].x;
            let v = select(rest, importance[i], params.begins == 1u);
            if v > value || index == NONE {
                value = v;
                index = i;
            }
        }
    }
    best_value[local] = value;
    best_index[local] = index;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if local < half {
            let v = best_value[local + half];
            let j = best_index[local + half];
            let own = best_value[local];
            let lower = v == own && j < best_index[local];
            if j != NONE && (best_index[local] == NONE || v > own || lower) {
                best_value[local] = v;
                best_index[local] = j;
            }
        }
        workgroupBarrier();
    }
    if local == 0u {
        let chosen = best_index[0];
        order[params.step] = chosen;
        gained[params.step] = best_value[0];
        state[chosen].y = 1.0;
    }
}

@group(0) @binding(1) var<storage, read> cosines: array<f32>;
@group(0) @binding(2) var<storage, read_write> near: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> chosen: array<u32>;

@compute @workgroup_size(64)
fn approach(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = chosen[params.step];
    let i = (group.x + group.y * groups.x) * 64u + local;
    if i >= params.n || at < params.first || at - params.first >= params.n_rows {
        return;
    }
    near[i].x = max(near[i].x, cosines[(at - params.first) * params.n + i]);
}
