// Farthest-first selection among unit rows by cosine distance 1 − a · b. Per point, `near` holds x = distance to the
// nearest chosen point and y = second smallest distance to any point, itself included.
// lonely: y for 32 points against all of `right`. pick: the point of largest y (first step) or x goes to `order`.
// fetch: its row goes to `current`. approach: x becomes the smaller of x and the distance to `current`.

struct Params {
    n: u32,
    n_right: u32,
    first: u32,
    width: u32,
    step: u32,
    first_block: u32,
    begins: u32,
    given: u32,
    repeats: u32,
}

const FAR = 3.0e38;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read_write> lonely_near: array<vec2<f32>>;

fn two_smallest(found: vec2<f32>, d: f32) -> vec2<f32> {
    return vec2<f32>(min(found.x, d), min(found.y, max(found.x, d)));
}

fn among(found: vec2<f32>, first: u32, dots: vec4<f32>) -> vec2<f32> {
    var out = found;
    for (var c = 0u; c < 4u; c += 1u) {
        if first + 8u * c < params.n_right {
            out = two_smallest(out, 1.0 - dots[c]);
        }
    }
    return out;
}

var<workgroup> pairs: array<vec2<f32>, 256>;

@compute @workgroup_size(64)
fn lonely(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i0 = (params.first_block + group.x + group.y * groups.x) * BLOCK;
    if i0 >= params.n {
        return;
    }
    var a = vec2<f32>(FAR);
    var b = a;
    var c = a;
    var d = a;
    for (var j0 = 0u; j0 < params.n_right; j0 += BLOCK) {
        let dots = dot_block(local, i0, params.n, j0, params.n_right, params.width);
        let j = j0 + local % 8u;
        a = among(a, j, dots[0]);
        b = among(b, j, dots[1]);
        c = among(c, j, dots[2]);
        d = among(d, j, dots[3]);
    }
    pairs[local] = a;
    pairs[local + 64u] = b;
    pairs[local + 128u] = c;
    pairs[local + 192u] = d;
    workgroupBarrier();
    let i = i0 + local;
    if local >= BLOCK || i >= params.n {
        return;
    }
    var found = vec2<f32>(FAR);
    if params.begins == 0u {
        found = lonely_near[params.first + i];
    }
    let start = (local / 8u) * 64u + (local % 8u) * 8u;
    for (var t = 0u; t < 8u; t += 1u) {
        let other = pairs[start + t];
        found = two_smallest(two_smallest(found, other.x), other.y);
    }
    lonely_near[params.first + i] = found;
}

@group(0) @binding(1) var<storage, read_write> near: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> order: array<u32>;

var<workgroup> best_value: array<f32, 64>;
var<workgroup> best_index: array<u32, 64>;

@compute @workgroup_size(64)
fn pick(@builtin(local_invocation_index) local: u32) {
    var value = -FAR;
    var index = 0xffffffffu;
    for (var i = local; i < params.n; i += 64u) {
        let v = select(near[i].x, near[i].y, params.step == 0u);
        if v > value {
            value = v;
            index = i;
        }
    }
    best_value[local] = value;
    best_index[local] = index;
    workgroupBarrier();
    if local > 0u {
        return;
    }
    for (var t = 1u; t < 64u; t += 1u) {
        let v = best_value[t];
        if v > value || (v == value && best_index[t] < index) {
            value = v;
            index = best_index[t];
        }
    }
    if params.step == 0u && params.given != 0xffffffffu {
        index = params.given;
    }
    order[params.step] = index;
}

@group(0) @binding(2) var<storage, read> chosen: array<u32>;
@group(0) @binding(3) var<storage, read_write> row: array<f32>;

@compute @workgroup_size(64)
fn fetch(@builtin(local_invocation_index) local: u32) {
    let at = chosen[params.step];
    if at < params.first || at - params.first >= params.n {
        return;
    }
    for (var c = local; c < params.width; c += 64u) {
        row[c] = left[(at - params.first) * params.width + c];
    }
}

@group(0) @binding(2) var<storage, read> current: array<f32>;
@group(0) @binding(3) var<storage, read_write> nearest: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> chosen_here: array<u32>;

@compute @workgroup_size(64)
fn approach(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.x + group.y * groups.x) * 64u + local;
    if i >= params.n {
        return;
    }
    var dot = 0.0;
    for (var c = 0u; c < params.width; c += 1u) {
        dot += left[i * params.width + c] * current[c];
    }
    let at = params.first + i;
    var x = 1.0 - dot;
    if params.step > 0u {
        x = min(x, nearest[at].x);
    }
    if params.repeats == 0u && chosen_here[params.step] == at {
        x = -FAR;
    }
    nearest[at].x = x;
}
