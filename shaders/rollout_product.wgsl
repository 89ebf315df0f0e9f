// One step of attention rollout, R' = B R, on transposes: next[j, i] = Σ_k R[k, j] B[i, k] is row j of Rᵀ (`left`)
// times row i of B (`right`). One workgroup per 32 × 32 cells.

struct Params {
    n_left: u32,
    n_right: u32,
    width: u32,
    first_column: u32,
    first_group: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read_write> next: array<f32>;

fn store(j: u32, i: u32, dots: vec4<f32>) {
    if j >= params.n_left {
        return;
    }
    for (var c = 0u; c < 4u; c += 1u) {
        if i + 8u * c < params.n_right {
            next[j * params.width + params.first_column + i + 8u * c] = dots[c];
        }
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let id = params.first_group + group.x + group.y * groups.x;
    let across = (params.n_right + BLOCK - 1u) / BLOCK;
    let j0 = id / across * BLOCK;
    let i0 = id % across * BLOCK;
    if j0 >= params.n_left {
        return;
    }
    let dots = dot_block(local, j0, params.n_left, i0, params.n_right, params.width);
    let j = j0 + local / 8u;
    let i = i0 + local % 8u;
    store(j, i, dots[0]);
    store(j + 8u, i, dots[1]);
    store(j + 16u, i, dots[2]);
    store(j + 24u, i, dots[3]);
}
