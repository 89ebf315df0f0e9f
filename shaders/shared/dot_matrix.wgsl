// A matrix of dot products, one workgroup per 32 × 32 cells. The shader that this is joined with says where they go:
// store(left row, right row, dots) gets those of one row of left with right rows r, r + 8, r + 16, r + 24.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let id = params.first_group + group.x + group.y * groups.x;
    let across = (params.n_right + BLOCK - 1u) / BLOCK;
    let left0 = id / across * BLOCK;
    let right0 = id % across * BLOCK;
    if left0 >= params.n_left {
        return;
    }
    let dots = dot_block(local, left0, params.n_left, right0, params.n_right, params.width);
    let l = left0 + local / 8u;
    let r = right0 + local % 8u;
    store(l, r, dots[0]);
    store(l + 8u, r, dots[1]);
    store(l + 16u, r, dots[2]);
    store(l + 24u, r, dots[3]);
}
