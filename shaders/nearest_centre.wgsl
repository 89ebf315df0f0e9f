// For each row (`left`, of unit length) the centre (`right`, likewise) of largest cosine, the first one on a tie.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i0 = (params.first_block + group.x + group.y * groups.x) * BLOCK;
    if i0 >= params.n_left {
        return;
    }
    keep(local, i0, best_right(local, i0));
}
