// energy[r] = mean over the n_cols cosines of row r of what each pair adds: ELU of cosine − margin (normal = 0), or a
// normal density of 1 − cosine of width sigma (normal = 1). One workgroup per row.

struct Params {
    n_rows: u32,
    n_cols: u32,
    first_row: u32,
    normal: u32,
    margin: f32,
    alpha: f32,
    sigma: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> cosines: array<f32>;
@group(0) @binding(2) var<storage, read_write> energy: array<f32>;

const ROOT_OF_TWO_PI = 2.5066282746;

var<workgroup> parts: array<f32, 64>;

fn added(cosine: f32) -> f32 {
    if params.normal == 1u {
        let z = (1.0 - cosine) / params.sigma;
        return exp(-0.5 * z * z) / (params.sigma * ROOT_OF_TWO_PI);
    }
    let x = cosine - params.margin;
    return select(params.alpha * (exp(x) - 1.0), x, x > 0.0);
}

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
        sum += added(cosines[row * params.n_cols + c]);
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
        energy[row] = parts[0] / f32(params.n_cols);
    }
}
