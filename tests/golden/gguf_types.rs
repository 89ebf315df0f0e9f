//! Types of GGUF files: the values of blocks of every type, bit by bit, against the Python package `gguf`.

use candle_core::Device;
use std::path::Path;
use tokenscope_analysis::weights::Weights;
use tokenscope_tests::{golden, json};

/// Writes a GGUF file with one tensor `t` of this type and a header that a Llama could have.
fn write(to: &Path, code: u32, values: usize, bytes: &[u8]) {
    let text = |out: &mut Vec<u8>, s: &str| {
        out.extend((s.len() as u64).to_le_bytes());
        out.extend(s.as_bytes());
    };
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend(2u64.to_le_bytes());
    let sizes = ["embedding_length", "block_count", "attention.head_count", "feed_forward_length", "context_length"];
    out.extend((sizes.len() as u64 + 1).to_le_bytes());
    text(&mut out, "general.architecture");
    out.extend(8u32.to_le_bytes());
    text(&mut out, "llama");
    for key in sizes {
        text(&mut out, &format!("llama.{key}"));
        out.extend(4u32.to_le_bytes());
        out.extend(2u32.to_le_bytes());
    }
    // The vocabulary is two rows of one value; behind it stands what is looked at.
    for (name, shape, code, offset) in
        [("token_embd.weight", vec![1u64, 2], 0, 0u64), ("t", vec![values as u64], code, 32)]
    {
        text(&mut out, name);
        out.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|n| out.extend(n.to_le_bytes()));
        out.extend(code.to_le_bytes());
        out.extend(offset.to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(32) + 32, 0);
    out.extend(bytes);
    std::fs::write(to, out).unwrap();
}

#[test]
fn blocks_of_every_type_have_the_values_that_the_python_package_reads() {
    let about = json(&golden().join("models/gguf/types.json"));
    let (dir, blocks) = (tempfile::tempdir().unwrap(), about["blocks"].as_u64().unwrap() as usize);
    let types = about["types"].as_array().unwrap();
    for t in types {
        let (whole, name) = (|key: &str| t[key].as_u64().unwrap() as usize, t["name"].as_str().unwrap());
        let (code, size) = (whole("code"), whole("bytes"));
        let small: Vec<usize> = t["small"].as_array().unwrap().iter().map(|i| i.as_u64().unwrap() as usize).collect();
        let mut state = code as u64;
        let bytes: Vec<u8> = (0..blocks * size)
            .map(|i| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8 & if small.contains(&(i % size)) { 63 } else { 255 }
            })
            .collect();
        let (file, n) = (dir.path().join(format!("{name}.gguf")), blocks * whole("values"));
        write(&file, code as u32, n, &bytes);
        let weights = Weights::open(&file).unwrap();
        assert_eq!(weights.dtype(), name.to_lowercase());
        let got = weights.get("t", &[n], &Device::Cpu).unwrap().to_vec1::<f32>().unwrap();
        let first: Vec<f32> = t["first"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        assert_eq!(got[..4], first, "{name}");
        let hash = got
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .fold(0xcbf29ce484222325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100000001b3));
        assert_eq!(format!("{hash:016x}"), t["hash"].as_str().unwrap(), "{name}");
    }
    assert_eq!(types.len(), 23);
}
