// Per query: max_k s, ln Σ_k exp(s − max), entropy −Σ p ln p, and Σ p |position_q − position_k|; p = softmax(s).
// One workgroup per 32 queries walks over the keys that they see; nothing of the size queries × keys is stored.

struct Params {
    n_queries: u32,
    n_keys: u32,
    first_key: u32,
    first_block: u32,
    width: u32,
    scale: f32,
    cap: f32,
    sink: f32,
    has_sink: u32,
    begins: u32,
    ends: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(5) var<storage, read> query_positions: array<u32>;
@group(0) @binding(6) var<storage, read> key_positions: array<u32>;
@group(0) @binding(7) var<storage, read_write> stats: array<vec4<f32>>;

// A part of a row: x = max, y = Σ exp(s − max), z = Σ exp(s − max)(s − max), w = Σ exp(s − max) · distance.
fn merge(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    let top = max(a.x, b.x);
    let fa = exp(a.x - top);
    let fb = exp(b.x - top);
    return vec4<f32>(
        top,
        fa * a.y + fb * b.y,
        fa * (a.z + (a.x - top) * a.y) + fb * (b.z + (b.x - top) * b.y),
        fa * a.w + fb * b.w,
    );
}

fn add(part: vec4<f32>, scores: vec4<f32>, seen: vec4<bool>, distance: vec4<f32>) -> vec4<f32> {
    let s = select(vec4<f32>(NOTHING), scores, seen);
    let top = max(max(s.x, s.y), max(s.z, s.w));
    let shift = select(vec4<f32>(0.0), s - top, seen);
    let weight = select(vec4<f32>(0.0), exp(shift), seen);
    return merge(part, vec4<f32>(top, dot(weight, vec4<f32>(1.0)), dot(weight, shift), dot(weight, distance)));
}

fn add_row(part: vec4<f32>, query: u32, keys: vec4<u32>, dots: vec4<f32>) -> vec4<f32> {
    if query >= params.n_queries {
        return part;
    }
    let at = keys - params.first_key;
    let last = params.n_keys - 1u;
    let own = query_positions[query];
    let there = vec4<u32>(
        key_positions[min(at.x, last)],
        key_positions[min(at.y, last)],
        key_positions[min(at.z, last)],
        key_positions[min(at.w, last)],
    );
    let distance = vec4<f32>(max(there, vec4<u32>(own)) - min(there, vec4<u32>(own)));
    // Keys past this piece are not here, whatever the mask says.
    let seen = sees(query, keys) & (at <= vec4<u32>(last));
    return add(part, shaped(dots, params.scale, params.cap), seen, distance);
}

var<workgroup> parts: array<vec4<f32>, 256>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let q0 = (params.first_block + group.x + group.y * groups.x) * BLOCK;
    if q0 >= params.n_queries {
        return;
    }
    let q = q0 + local / 8u;
    let around = hull(local, q0, params.n_queries);
    let end = min(around.y, params.first_key + params.n_keys);
    var a = vec4<f32>(NOTHING, 0.0, 0.0, 0.0);
    var b = a;
    var c = a;
    var d = a;
    for (var k0 = max(around.x, params.first_key); k0 < end; k0 += BLOCK) {
        let dots = dot_block(local, q0, params.n_queries, k0 - params.first_key, params.n_keys, params.width);
        let keys = k0 + local % 8u + vec4<u32>(0u, 8u, 16u, 24u);
        a = add_row(a, q, keys, dots[0]);
        b = add_row(b, q + 8u, keys, dots[1]);
        c = add_row(c, q + 16u, keys, dots[2]);
        d = add_row(d, q + 24u, keys, dots[3]);
    }
    parts[local] = a;
    parts[local + 64u] = b;
    parts[local + 128u] = c;
    parts[local + 192u] = d;
    workgroupBarrier();
    let query = q0 + local;
    if local >= BLOCK || query >= params.n_queries {
        return;
    }
    // Row `local` of the block lies at threads y = local % 8 of register local / 8.
    let start = (local / 8u) * 64u + (local % 8u) * 8u;
    var row = vec4<f32>(NOTHING, 0.0, 0.0, 0.0);
    if params.begins == 0u {
        row = stats[query];
    } else if params.has_sink != 0u {
        row = vec4<f32>(params.sink, 1.0, 0.0, 0.0);
    }
    for (var i = 0u; i < 8u; i += 1u) {
        row = merge(row, parts[start + i]);
    }
    if params.ends != 0u {
        if row.y > 0.0 {
            let l = log(row.y);
            row = vec4<f32>(row.x, l, l - row.z / row.y, row.w / row.y);
        } else {
            row = vec4<f32>(NOTHING, 0.0, 0.0, 0.0);
        }
    }
    stats[query] = row;
}
