// A heatmap straight from a storage buffer of cells [rows, cols]: each pixel takes the largest of the cells that it
// covers, finds its place on the scale and looks its colour up. Cells are read as bits: for floats that are not
// negative the order of the bits is theirs, and NaN is told apart without arithmetic on it.
// The twin on the CPU is `pixel` in app/src/heatmap/mod.rs.

struct Params {
    left: f32,
    top: f32,
    screen_width: f32,
    screen_height: f32,
    width: u32,
    height: u32,
    rows: u32,
    cols: u32,
    first_col: u32,
    // Places on the map are whole numbers of 2^-bits cells.
    bits: u32,
    x: u32,
    dx: u32,
    y: u32,
    dy: u32,
    curve: u32,
    mask_sink: u32,
    high: f32,
    rank_end: u32,
    n_bins: u32,
    first_bin: u32,
    hatch: u32,
    between: u32,
    empty: u32,
    linear_target: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> cells: array<u32>;
// Two per row: its largest value without the first column of the map, and with it.
@group(0) @binding(2) var<storage, read> row_tops: array<f32>;
// Per bin of values, how many lie in it or below: once without the first column, once with it.
@group(0) @binding(3) var<storage, read> ranks: array<u32>;
@group(0) @binding(4) var<storage, read> colors: array<u32>;

const LOG: u32 = 1u;
const RANK: u32 = 2u;
const ROW: u32 = 3u;
// Bits of infinity; above them lies NaN.
const INFINITE: u32 = 0x7f800000u;

@vertex
fn corner(@builtin(vertex_index) i: u32) -> @builtin(position) vec4<f32> {
    let at = vec2<f32>(f32(i & 1u), f32(i >> 1u));
    let pixel = vec2<f32>(params.left, params.top) + at * vec2<f32>(f32(params.width), f32(params.height));
    let x = pixel.x / params.screen_width * 2.0 - 1.0;
    let y = 1.0 - pixel.y / params.screen_height * 2.0;
    return vec4<f32>(x, y, 0.0, 1.0);
}

// First and one past the last of the n cells that pixel i covers; the one under its middle where cells are larger.
fn span(i: u32, start: u32, step: u32, n: u32) -> vec2<u32> {
    let one = 1u << params.bits;
    let at = start + i * step;
    if step < one {
        let a = min((at + step / 2u) >> params.bits, n - 1u);
        return vec2<u32>(a, a + 1u);
    }
    let a = min(at >> params.bits, n - 1u);
    return vec2<u32>(a, clamp((at + step) >> params.bits, a + 1u, n));
}

// Where a value lies on the colour map, 0 to 1.
fn place(bits: u32, row: u32) -> f32 {
    if bits == 0u || bits > INFINITE {
        return 0.0;
    }
    if bits == INFINITE {
        return 1.0;
    }
    let v = bitcast<f32>(bits);
    switch params.curve {
        case LOG: {
            return clamp(1.0 + log2(v / params.high) * 0.30102999566 / 4.0, 0.0, 1.0);
        }
        case RANK: {
            let bin = min(max(bits >> 16u, params.first_bin) - params.first_bin, params.n_bins - 1u);
            let below = ranks[select(bin + params.n_bins, bin, params.mask_sink != 0u)];
            return min(f32(below) / f32(params.rank_end), 1.0);
        }
        case ROW: {
            let top = row_tops[2u * row + select(1u, 0u, params.mask_sink != 0u)];
            return select(0.0, min(v / top, 1.0), top > 0.0);
        }
        default: {
            return min(v / params.high, 1.0);
        }
    }
}

// sRGB to light, for targets that turn it back.
fn light(c: vec3<f32>) -> vec3<f32> {
    let low = c / 12.92;
    let high = pow((c + 0.055) / 1.055, vec3<f32>(2.4));
    return select(high, low, c <= vec3<f32>(0.04045));
}

@fragment
fn color(@builtin(position) position: vec4<f32>) -> @location(0) vec4<f32> {
    let px = u32(position.x - params.left);
    let py = u32(position.y - params.top);
    let xs = span(px, params.x, params.dx, params.cols);
    let ys = span(py, params.y, params.dy, params.rows);
    var packed = 0u;
    if params.mask_sink != 0u && params.first_col + xs.x == 0u {
        packed = select(params.between, params.hatch, (px + py) % 6u < 2u);
    } else {
        var t = 0.0;
        var best = 0u;
        var seen = false;
        for (var y = ys.x; y < ys.y; y += 1u) {
            for (var x = xs.x; x < xs.y; x += 1u) {
                let bits = cells[y * params.cols + x];
                if (bits & 0x7fffffffu) <= INFINITE {
                    seen = true;
                    // What is negative lies at the lower end.
                    best = max(best, select(bits, 0u, bits > INFINITE));
                }
            }
            if params.curve == ROW {
                t = max(t, place(best, y));
                best = 0u;
            }
        }
        if params.curve != ROW {
            t = place(best, ys.x);
        }
        packed = select(params.empty, colors[u32(t * 255.0 + 0.5)], seen);
    }
    let c = unpack4x8unorm(packed);
    return vec4<f32>(select(c.rgb, light(c.rgb), params.linear_target != 0u), 1.0);
}
