// How often values of each size occur in `values` [n_rows, n_cols], and per row its largest value beyond the first
// column and the value in it. Values are read as bits: for positive floats the order of the bits is theirs.
// One workgroup per row.

struct Params {
    n_rows: u32,
    n_cols: u32,
    first_bin: u32,
    n_bins: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> values: array<u32>;
@group(0) @binding(2) var<storage, read_write> counts: array<atomic<u32>>;
// Two per row: the largest value, 0 where none is positive, and the first one.
@group(0) @binding(3) var<storage, read_write> rows: array<u32>;

var<workgroup> largest: atomic<u32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = group.x + group.y * groups.x;
    if row >= params.n_rows {
        return;
    }
    var best = 0u;
    for (var c = local; c < params.n_cols; c += 64u) {
        let bits = values[row * params.n_cols + c];
        // Positive and finite.
        if bits - 1u < 0x7f7fffffu {
            let bin = min(max(bits >> 16u, params.first_bin) - params.first_bin, params.n_bins - 1u);
            atomicAdd(&counts[bin], 1u);
            if c > 0u {
                best = max(best, bits);
            }
        }
    }
    atomicMax(&largest, best);
    workgroupBarrier();
    if local == 0u {
        rows[2u * row] = atomicLoad(&largest);
        rows[2u * row + 1u] = values[row * params.n_cols];
    }
}
