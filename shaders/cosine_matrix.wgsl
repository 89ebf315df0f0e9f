// cosines[i, j] = (left[i] · right[j]) · left_inverse[i] · right_inverse[j], with inverse lengths of the rows.
// One workgroup per 32 × 32 cells.

struct Params {
    n_left: u32,
    n_right: u32,
    width: u32,
    first_group: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> left_inverse: array<f32>;
@group(0) @binding(4) var<storage, read> right_inverse: array<f32>;
@group(0) @binding(5) var<storage, read_write> cosines: array<f32>;

fn store(i: u32, j: u32, dots: vec4<f32>) {
    if i >= params.n_left {
        return;
    }
    for (var c = 0u; c < 4u; c += 1u) {
        let column = j + 8u * c;
        if column < params.n_right {
            cosines[i * params.n_right + column] = dots[c] * left_inverse[i] * right_inverse[column];
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
    let i0 = id / across * BLOCK;
    let j0 = id % across * BLOCK;
    if i0 >= params.n_left {
        return;
    }
    let dots = dot_block(local, i0, params.n_left, j0, params.n_right, params.width);
    let i = i0 + local / 8u;
    let j = j0 + local % 8u;
    store(i, j, dots[0]);
    store(i + 8u, j, dots[1]);
    store(i + 16u, j, dots[2]);
    store(i + 24u, j, dots[3]);
}
