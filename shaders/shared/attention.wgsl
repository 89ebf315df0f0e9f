// Scores of one attention head: s = cap(scale · q · k) where the query sees the key. `left` holds queries, `right` keys.
// What a query sees is a list of spans of key rows: spans[span_offsets[q] .. span_offsets[q + 1]], ascending.

@group(0) @binding(3) var<storage, read> span_offsets: array<u32>;
@group(0) @binding(4) var<storage, read> spans: array<vec2<u32>>;

// Stands for minus infinity, which shaders need not support.
const NOTHING = -3.0e38;

fn shaped(dots: vec4<f32>, scale: f32, cap: f32) -> vec4<f32> {
    let s = dots * scale;
    if cap > 0.0 {
        // Beyond 15 tanh is 1 in f32, and some drivers overflow there.
        return cap * tanh(clamp(s / cap, vec4<f32>(-15.0), vec4<f32>(15.0)));
    }
    return s;
}

fn sees(query: u32, keys: vec4<u32>) -> vec4<bool> {
    var out = vec4<bool>(false);
    for (var i = span_offsets[query]; i < span_offsets[query + 1u]; i += 1u) {
        let span = spans[i];
        out = out | ((keys >= vec4<u32>(span.x)) & (keys < vec4<u32>(span.y)));
    }
    return out;
}

var<workgroup> hulls: array<vec2<u32>, 32>;

// First key and one past the last key that any of the queries first..end (32 at most) sees.
fn hull(local: u32, first: u32, end: u32) -> vec2<u32> {
    if local < BLOCK {
        var own = vec2<u32>(0xffffffffu, 0u);
        let query = first + local;
        if query < end {
            let a = span_offsets[query];
            let b = span_offsets[query + 1u];
            if a < b {
                own = vec2<u32>(spans[a].x, spans[b - 1u].y);
            }
        }
        hulls[local] = own;
    }
    workgroupBarrier();
    var all = hulls[0];
    for (var i = 1u; i < BLOCK; i += 1u) {
        all = vec2<u32>(min(all.x, hulls[i].x), max(all.y, hulls[i].y));
    }
    workgroupBarrier();
    return all;
}
