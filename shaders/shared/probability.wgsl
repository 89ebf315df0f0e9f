// Probabilities of one attention head from its scores and row statistics: p = exp(s − max − log_sum).
// The shader that this is pasted into has `scale` and `cap` in its parameters.

// Per query: max, log_sum, and two that are not used here.
@group(0) @binding(5) var<storage, read> stats: array<vec4<f32>>;

// Of one query with four keys; 0 where it does not see them, and past the ends.
fn probabilities(query: u32, query_end: u32, keys: vec4<u32>, key_end: u32, dots: vec4<f32>) -> vec4<f32> {
    if query >= query_end {
        return vec4<f32>(0.0);
    }
    let row = stats[query];
    let seen = sees(query, keys) & (keys < vec4<u32>(key_end));
    let exponent = shaped(dots, params.scale, params.cap) - row.x - row.y;
    // Rounding may push the largest share past 1 by a bit or two.
    return select(vec4<f32>(0.0), min(exp(exponent), vec4<f32>(1.0)), seen);
}
