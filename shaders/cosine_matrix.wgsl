// cosines[i, j] = (left[i] · right[j]) · left_inverse[i] · right_inverse[j], with inverse lengths of the rows.

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
