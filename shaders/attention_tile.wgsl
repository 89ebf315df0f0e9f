// A window of one head's map at any down-sampling: cell (r, c) = mean or max of p[q, k] over query_edges[r] ..
// query_edges[r + 1] × key_edges[c] .. key_edges[c + 1], p = exp(s − max − log_sum), 0 where the query does not see.
// A workgroup owns cells_down × cells_across cells, walks over their scores in blocks of 32 × 32, and adds to `cells`.

struct Params {
    n_queries: u32,
    first_query: u32,
    n_keys: u32,
    first_key: u32,
    width: u32,
    scale: f32,
    cap: f32,
    rows: u32,
    cols: u32,
    cells_down: u32,
    cells_across: u32,
    first_group: u32,
    takes_max: u32,
    weight: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(6) var<storage, read> query_edges: array<u32>;
@group(0) @binding(7) var<storage, read> key_edges: array<u32>;
@group(0) @binding(8) var<storage, read_write> cells: array<f32>;

// Probabilities of the present block, one more per row than it holds.
var<workgroup> block: array<f32, 1056>;
// What the owned cells have so far, in the order of their rows.
var<workgroup> own: array<f32, 1024>;

fn store(row: u32, x: u32, p: vec4<f32>) {
    block[row * 33u + x] = p.x;
    block[row * 33u + x + 8u] = p.y;
    block[row * 33u + x + 16u] = p.z;
    block[row * 33u + x + 24u] = p.w;
}

fn joined(a: f32, b: f32) -> f32 {
    return select(a + b, max(a, b), params.takes_max != 0u);
}

fn fold(p: vec4<f32>) -> f32 {
    return joined(joined(p.x, p.y), joined(p.z, p.w));
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let id = params.first_group + group.x + group.y * groups.x;
    let across = (params.cols + params.cells_across - 1u) / params.cells_across;
    let r0 = id / across * params.cells_down;
    let c0 = id % across * params.cells_across;
    if r0 >= params.rows {
        return;
    }
    let r1 = min(r0 + params.cells_down, params.rows);
    let c1 = min(c0 + params.cells_across, params.cols);
    let n_own = (r1 - r0) * (c1 - c0);
    // This piece's part of the owned rectangle, in rows of the whole map.
    let qa = max(query_edges[r0], params.first_query);
    let qb = min(query_edges[r1], params.first_query + params.n_queries);
    let ka = max(key_edges[c0], params.first_key);
    let kb = min(key_edges[c1], params.first_key + params.n_keys);
    for (var i = local; i < n_own; i += 64u) {
        own[i] = 0.0;
    }
    var single = 0.0;
    let x = local % 8u;
    let y = local / 8u;
    for (var q0 = qa; q0 < qb; q0 += BLOCK) {
        let first = q0 - params.first_query;
        let end = min(first + BLOCK, qb - params.first_query);
        let around = hull(local, first, end);
        let key_end = min(kb, around.y);
        for (var k0 = max(ka, around.x); k0 < key_end; k0 += BLOCK) {
            let dots = dot_block(local, first, end, k0 - params.first_key, key_end - params.first_key, params.width);
            let keys = k0 + x + vec4<u32>(0u, 8u, 16u, 24u);
            let p0 = probabilities(first + y, end, keys, key_end, dots[0]);
            let p1 = probabilities(first + y + 8u, end, keys, key_end, dots[1]);
            let p2 = probabilities(first + y + 16u, end, keys, key_end, dots[2]);
            let p3 = probabilities(first + y + 24u, end, keys, key_end, dots[3]);
            if n_own == 1u {
                single = joined(single, joined(joined(fold(p0), fold(p1)), joined(fold(p2), fold(p3))));
                continue;
            }
            store(y, x, p0);
            store(y + 8u, x, p1);
            store(y + 16u, x, p2);
            store(y + 24u, x, p3);
            workgroupBarrier();
            for (var i = local; i < n_own; i += 64u) {
                let r = r0 + i / (c1 - c0);
                let c = c0 + i % (c1 - c0);
                let from_q = max(query_edges[r], q0);
                let to_q = min(query_edges[r + 1u], q0 + BLOCK);
                let from_k = max(key_edges[c], k0);
                let to_k = min(key_edges[c + 1u], k0 + BLOCK);
                var sum = own[i];
                for (var q = from_q; q < to_q; q += 1u) {
                    for (var k = from_k; k < to_k; k += 1u) {
                        sum = joined(sum, block[(q - q0) * 33u + k - k0]);
                    }
                }
                own[i] = sum;
            }
            workgroupBarrier();
        }
    }
    if n_own == 1u {
        workgroupBarrier();
        block[local] = single;
        workgroupBarrier();
        if local == 0u {
            var all = 0.0;
            for (var i = 0u; i < 64u; i += 1u) {
                all = joined(all, block[i]);
            }
            own[0] = all;
        }
    }
    workgroupBarrier();
    for (var i = local; i < n_own; i += 64u) {
        let r = r0 + i / (c1 - c0);
        let c = c0 + i % (c1 - c0);
        let at = r * params.cols + c;
        if params.takes_max != 0u {
            cells[at] = max(cells[at], own[i]);
        } else {
            let pairs = f32(query_edges[r + 1u] - query_edges[r]) * f32(key_edges[c + 1u] - key_edges[c]);
            cells[at] += own[i] * params.weight / pairs;
        }
    }
}
