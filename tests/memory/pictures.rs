//! Models of pictures, written as folders: as large as the measurements need them, with weights of zero.

use std::path::Path;
use tokenscope_analysis::trace::write_tensors;

fn folder(dir: &Path, config: &serde_json::Value, shapes: &[(String, Vec<usize>)]) {
    std::fs::write(dir.join("config.json"), config.to_string()).expect("a configuration");
    let most = shapes.iter().map(|(_, s)| s.iter().product::<usize>()).max().unwrap_or(0);
    let zeros = vec![0u8; 4 * most];
    let tensors: Vec<_> = shapes
        .iter()
        .map(|(name, s)| (name.clone(), safetensors::Dtype::F32, s.clone(), &zeros[..4 * s.iter().product::<usize>()]))
        .collect();
    write_tensors(&dir.join("model.safetensors"), &tensors, None).expect("weights");
}

/// A map with a bias.
fn map(out: &mut Vec<(String, Vec<usize>)>, name: String, shape: &[usize]) {
    out.push((format!("{name}.weight"), shape.to_vec()));
    out.push((format!("{name}.bias"), shape[..1].to_vec()));
}

/// A block of a ViT or a Swin below `at`, whose attention maps lie in `own`.
fn block(out: &mut Vec<(String, Vec<usize>)>, at: &str, own: &str, d: usize, inner: usize) {
    for name in ["query", "key", "value"] {
        map(out, format!("{at}.attention.{own}.{name}"), &[d, d]);
    }
    map(out, format!("{at}.attention.output.dense"), &[d, d]);
    map(out, format!("{at}.intermediate.dense"), &[inner, d]);
    map(out, format!("{at}.output.dense"), &[d, inner]);
    map(out, format!("{at}.layernorm_before"), &[d]);
    map(out, format!("{at}.layernorm_after"), &[d]);
}

/// A ViT of two layers and three heads for pictures of `side` pixels in patches of 8.
pub fn vit(dir: &Path, side: usize) {
    let (d, inner, mut shapes) = (192, 768, Vec::new());
    let patches = (side / 8) * (side / 8);
    shapes.push(("embeddings.cls_token".to_string(), vec![1, 1, d]));
    shapes.push(("embeddings.position_embeddings".into(), vec![1, patches + 1, d]));
    map(&mut shapes, "embeddings.patch_embeddings.projection".into(), &[d, 3, 8, 8]);
    (0..2).for_each(|i| block(&mut shapes, &format!("encoder.layer.{i}"), "attention", d, inner));
    map(&mut shapes, "layernorm".into(), &[d]);
    let config = serde_json::json!({
        "architectures": ["ViTModel"], "model_type": "vit", "hidden_size": d, "num_hidden_layers": 2,
        "num_attention_heads": 3, "intermediate_size": inner, "image_size": side, "patch_size": 8,
    });
    folder(dir, &config, &shapes);
}

/// A Swin of two stages for pictures of `side` pixels in patches of 4.
pub fn swin(dir: &Path, side: usize) {
    let (d, window, mut shapes) = (96, 7, Vec::new());
    map(&mut shapes, "embeddings.patch_embeddings.projection".into(), &[d, 3, 4, 4]);
    map(&mut shapes, "embeddings.norm".into(), &[d]);
    for (stage, (layers, heads)) in [(1, 3), (2, 6)].into_iter().enumerate() {
        let d = d << stage;
        for i in 0..layers {
            let at = format!("encoder.layers.{stage}.blocks.{i}");
            block(&mut shapes, &at, "self", d, 4 * d);
            let table = format!("{at}.attention.self.relative_position_bias_table");
            shapes.push((table, vec![(2 * window - 1) * (2 * window - 1), heads]));
        }
    }
    map(&mut shapes, "encoder.layers.0.downsample.norm".into(), &[4 * d]);
    shapes.push(("encoder.layers.0.downsample.reduction.weight".into(), vec![2 * d, 4 * d]));
    map(&mut shapes, "layernorm".into(), &[2 * d]);
    let config = serde_json::json!({
        "architectures": ["SwinModel"], "model_type": "swin", "embed_dim": d, "depths": [1, 2], "num_heads": [3, 6],
        "window_size": window, "image_size": side, "patch_size": 4,
    });
    folder(dir, &config, &shapes);
}
