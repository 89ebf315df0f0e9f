// Dot products of 32 rows of `left` [_, width] with 32 rows of `right` [_, width], by a workgroup of 64 threads.
// Thread (x, y) = (local % 8, local / 8) gets rows y, y + 8, y + 16, y + 24 of left (columns of the matrix that comes
// back) against rows x, x + 8, x + 16, x + 24 of right (components). Rows past the ends count as zeros.

@group(0) @binding(1) var<storage, read> left: array<f32>;
@group(0) @binding(2) var<storage, read> right: array<f32>;

const BLOCK = 32u;
const SLICE = 16u;
// One more than a slice, so that threads of a column do not meet in one memory bank.
const PITCH = 17u;

var<workgroup> left_part: array<f32, 544>;
var<workgroup> right_part: array<f32, 544>;

fn dot_block(local: u32, left_first: u32, left_end: u32, right_first: u32, right_end: u32, width: u32) -> mat4x4<f32> {
    let x = (local % 8u) * PITCH;
    let y = (local / 8u) * PITCH;
    var sums = mat4x4<f32>();
    for (var c = 0u; c < width; c += SLICE) {
        for (var t = local; t < BLOCK * SLICE; t += 64u) {
            let row = t / SLICE;
            let column = c + t % SLICE;
            var l = 0.0;
            var r = 0.0;
            if column < width {
                if left_first + row < left_end {
                    l = left[(left_first + row) * width + column];
                }
                if right_first + row < right_end {
                    r = right[(right_first + row) * width + column];
                }
            }
            left_part[row * PITCH + t % SLICE] = l;
            right_part[row * PITCH + t % SLICE] = r;
        }
        workgroupBarrier();
        for (var e = 0u; e < SLICE; e += 1u) {
            let r = vec4<f32>(
                right_part[x + e],
                right_part[x + e + 8u * PITCH],
                right_part[x + e + 16u * PITCH],
                right_part[x + e + 24u * PITCH],
            );
            sums[0] += left_part[y + e] * r;
            sums[1] += left_part[y + e + 8u * PITCH] * r;
            sums[2] += left_part[y + e + 16u * PITCH] * r;
            sums[3] += left_part[y + e + 24u * PITCH] * r;
        }
        workgroupBarrier();
    }
    return sums;
}
