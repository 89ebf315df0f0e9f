// entropy[r] = −Σ_c p ln p over a row of `rows` [_, n_cols], in nats; values that are not positive count 0.
// One workgroup per row.

struct Params {
    n_rows: u32,
    n_cols: u32,
    first_row: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<f32>;
@group(0) @binding(2) var<storage, read_write> entropy: array<f32>;

var<workgroup> parts: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = params.first_row + group.x + group.y * groups.x;
    if row >= params.n_rows {
        return;
    }
    var sum = 0.0;
    for (var c = local; c < params.n_cols; c += 64u) {
        let p = rows[row * params.n_cols + c];
        if p > 0.0 {
            sum -= p * log(p);
        }
    }
    parts[local] = sum;
    workgroupBarrier();
    for (var half = 32u; half > 0u; half /= 2u) {
        if local < half {
            parts[local] += parts[local + half];
        }
        workgroupBarrier();
    }
    if local == 0u {
        entropy[row] = parts[0];
    }
}
