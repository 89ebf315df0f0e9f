// One step of attention rollout, R' = B R, on transposes: next[j, i] = Σ_k R[k, j] B[i, k] is row j of Rᵀ (`left`)
// times row i of B (`right`).

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
