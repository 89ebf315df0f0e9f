// What keys receive: sums[g, k] = Σ p[q, k] over the queries of segment g, p = exp(s − max − log_sum).
// One workgroup per 32 keys of one segment.

struct Params {
    n_queries: u32,
    n_keys: u32,
    first_key: u32,
    width: u32,
    scale: f32,
    cap: f32,
    n_segments: u32,
    first_group: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(6) var<storage, read> segments: array<vec2<u32>>;
@group(0) @binding(7) var<storage, read_write> sums: array<f32>;

var<workgroup> parts: array<vec4<f32>, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let id = params.first_group + group.x + group.y * groups.x;
    let blocks = (params.n_keys + BLOCK - 1u) / BLOCK;
    let segment = id / blocks;
    if segment >= params.n_segments {
        return;
    }
    let k0 = id % blocks * BLOCK;
    let keys = params.first_key + k0 + local % 8u + vec4<u32>(0u, 8u, 16u, 24u);
    let key_end = params.first_key + min(k0 + BLOCK, params.n_keys);
    let y = local / 8u;
    let queries = segments[segment];
    var sum = vec4<f32>(0.0);
    for (var q0 = queries.x; q0 < queries.y; q0 += BLOCK) {
        let end = min(q0 + BLOCK, queries.y);
        let around = hull(local, q0, end);
        if around.x >= key_end || around.y <= params.first_key + k0 {
            continue;
        }
        let dots = dot_block(local, q0, end, k0, params.n_keys, params.width);
        sum += probabilities(q0 + y, end, keys, key_end, dots[0]);
        sum += probabilities(q0 + y + 8u, end, keys, key_end, dots[1]);
        sum += probabilities(q0 + y + 16u, end, keys, key_end, dots[2]);
        sum += probabilities(q0 + y + 24u, end, keys, key_end, dots[3]);
    }
    parts[local] = sum;
    workgroupBarrier();
    if local >= BLOCK || k0 + local >= params.n_keys {
        return;
    }
    // Key `local` of the block is component local / 8 of the threads x = local % 8.
    var total = 0.0;
    for (var i = 0u; i < 8u; i += 1u) {
        total += parts[i * 8u + local % 8u][local / 8u];
    }
    sums[segment * params.n_keys + k0 + local] = total;
}
