// Indices of the k largest of each row of `keys` [n_rows, n], ascending; among equals the lower indices.
// Keys are floats as whole numbers of the same order. A workgroup per row finds the k-th largest key digit by digit
// (four counts of 256), then writes the indices of what lies above, and of as many equals as are wanted, in order.

struct Params {
    n_rows: u32,
    n: u32,
    k: u32,
    first_row: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read_write> indices: array<u32>;

var<workgroup> counts: array<atomic<u32>, 256>;
var<workgroup> digit: u32;
var<workgroup> above: u32;
var<workgroup> scan: array<u32, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = params.first_row + group.x + group.y * groups.x;
    if row >= params.n_rows {
        return;
    }
    let base = row * params.n;
    var known = 0u;
    var mask = 0u;
    var want = params.k;
    for (var step = 0u; step < 4u; step += 1u) {
        let shift = 24u - 8u * step;
        atomicStore(&counts[local], 0u);
        workgroupBarrier();
        for (var i = local; i < params.n; i += 256u) {
            let key = keys[base + i];
            if (key & mask) == known {
                atomicAdd(&counts[(key >> shift) & 255u], 1u);
            }
        }
        workgroupBarrier();
        if local == 0u {
            var sum = 0u;
            var d = 255u;
            loop {
                let here = atomicLoad(&counts[d]);
                if sum + here >= want || d == 0u {
                    break;
                }
                sum += here;
                d -= 1u;
            }
            digit = d;
            above = sum;
        }
        workgroupBarrier();
        want -= above;
        known |= digit << shift;
        mask |= 255u << shift;
        workgroupBarrier();
    }
    // Above the k-th key all are taken; of those equal to it the first `want`.
    var greater_before = 0u;
    var equal_before = 0u;
    for (var first = 0u; first < params.n; first += 256u) {
        let i = first + local;
        var greater = 0u;
        var equal = 0u;
        if i < params.n {
            greater = u32(keys[base + i] > known);
            equal = u32(keys[base + i] == known);
        }
        // Both counts in one word: at most 256 each.
        let own = greater | (equal << 16u);
        scan[local] = own;
        workgroupBarrier();
        for (var back = 1u; back < 256u; back *= 2u) {
            var sum = scan[local];
            if local >= back {
                sum += scan[local - back];
            }
            workgroupBarrier();
            scan[local] = sum;
            workgroupBarrier();
        }
        let before = scan[local] - own;
        let equals = equal_before + (before >> 16u);
        if greater == 1u || (equal == 1u && equals < want) {
            indices[row * params.k + greater_before + (before & 0xffffu) + min(equals, want)] = i;
        }
        let all = scan[255];
        greater_before += all & 0xffffu;
        equal_before += all >> 16u;
        workgroupBarrier();
    }
}
