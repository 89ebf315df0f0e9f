#!/usr/bin/env python3
"""Writes backbones/NAME/ beside this file: image towers as classes of `transformers` that give feature maps, tiny, with
random weights. `feature_map` is that of the last stage, one row per place.

The tolerance is 20 times the distance to the same model in float64.
"""
import json
import os
import warnings

warnings.filterwarnings("ignore")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers as t
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
COMMON = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=16, patch_size=4)
SWIN = dict(image_size=32, patch_size=4, embed_dim=8, depths=[1, 2], num_heads=[1, 2], window_size=4, mlp_ratio=2.0)
SETS = [("swin", t.SwinConfig, "SwinBackbone", SWIN), ("swinv2", t.Swinv2Config, "Swinv2Backbone", SWIN),
        ("beit", t.BeitConfig, "BeitBackbone", dict(COMMON, use_relative_position_bias=True)),
        ("dinov2", t.Dinov2Config, "Dinov2Backbone", dict(COMMON, mlp_ratio=2)),
        ("dinov3_vit", t.DINOv3ViTConfig, "DINOv3ViTBackbone", dict(COMMON, num_register_tokens=2))]

for name, config, cls, sizes in SETS:
    torch.manual_seed(5)
    model = getattr(t, cls)(config(**sizes, attn_implementation="eager")).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            p.copy_((1.0 if "norm" in key and key.endswith("weight") else 0.0) + 0.3 * torch.randn(p.shape))
    pixels = torch.randn(1, 3, sizes["image_size"], sizes["image_size"])
    out = os.path.join(HERE, "backbones", name)
    model.save_pretrained(out)
    if name == "swin":
        # Checkpoints from before have no norm of the model beside those of the feature maps.
        kept = load_file(os.path.join(out, "model.safetensors"))
        save_file({k: v for k, v in kept.items() if not k.startswith("swin.layernorm")},
                  os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    rows = lambda maps: maps[-1][0].flatten(1).T.contiguous()
    with torch.no_grad():
        single = rows(model(pixels).feature_maps)
        double = rows(model.double()(pixels.double()).feature_maps)
    most = float(single.abs().max())
    atol = max(20 * float((single - double).abs().max()), 2e-6 * most)
    save_file({"pixel_values": pixels[0].contiguous(), "feature_map": single}, os.path.join(out, "expected.safetensors"))
    about = {"class": cls, "versions": {"transformers": t.__version__, "torch": torch.__version__},
             "feature_map": {"atol_f32_cpu": float(f"{atol:.2g}"), "max_abs": round(most, 3)}}
    with open(os.path.join(out, "meta.json"), "w") as f:
        f.write(json.dumps(about, indent=1) + "\n")
