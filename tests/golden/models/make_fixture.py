#!/usr/bin/env python3
"""Makes fixture folders in the form that README.md beside this file describes.

    make_fixture.py OUT [NAME...]        # every name of specs.py without names; OUT/NAME/ is written

Needs torch, transformers and safetensors. Each model is tiny, has the configuration that `specs.py` names, and weights
from a seed in which every parameter matters: biases that are not zero, norm weights away from one, queries and keys
wide enough that attention is far from uniform. Nothing is downloaded; tokenizers are those of fixtures beside this
file. What is recorded is what the library computes with eager attention, in float32, on one thread of the CPU.

Queries, keys, values and maps are taken where the library hands them to its attention function; where a model has no
such function (MPNet, Swin and their like) only maps are. Tolerances are 20 times the distance to the same model in
float64, at least 2e-6 of the largest value.

A seed is taken only if the first two logits of each step of the greedy continuation, and the last chosen and the first
left expert of each row, are far enough apart; another is tried otherwise.
"""
import argparse
import copy
import importlib.util
import json
import math
import os
import re
import shutil
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
OUTPUTS = ("logits", "last_hidden_state", "pooler_output", "prediction_logits", "sop_logits", "start_logits",
           "end_logits", "image_embeds", "text_embeds", "cls_logits", "distillation_logits",
           "logits_per_image", "logits_per_text", "reconstruction")
TILING = ("SmolVLM", "Idefics3", "LlavaNext", "LlavaOnevision", "InternVL")
STEPS = 16


def draw(model, seed):
    """Weights in which each parameter matters."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=rng)
            tail = name.split(".")[-1]
            norm = re.search(r"norm|ln_|layernorm|LayerNorm", name)
            if norm and tail == "weight" and p.dim() == 1:
                # Some norms multiply by one more than their weight.
                p.copy_((0.0 if adds_one(model, name) else 1.0) + 0.25 * noise)
            elif tail in ("e_score_correction_bias",):
                p.copy_(0.3 * noise)
            elif tail == "sinks":
                p.copy_(0.5 + noise)
            elif tail == "A_log":
                p.copy_(0.5 * noise - 0.3)
            elif tail == "logit_scale" and p.dim() == 3:
                p.copy_(1.0 + 0.5 * noise)
            elif tail == "relative_position_bias_table":
                p.copy_(noise)
            elif re.search(r"lambda_|layer_scale|gamma", name):
                p.copy_(0.6 + 0.2 * noise)
            elif p.dim() <= 1 or tail.endswith("bias"):
                p.copy_(0.2 * noise)
            elif re.search(r"embed|position|cls_token|register|mask_token|relative_attention_bias|wte|shared", name) \
                    and not re.search(r"proj|patch_embed", name):
                p.copy_(0.7 * noise)
            else:
                wide = math.prod(p.shape[1:]) if p.dim() != 3 else p.shape[-1]
                gain = 1.6 if re.search(r"(^|[._])(q|k|query|key|qkv|Wqkv|in_proj)(_proj)?(\.|_|$)", name) else 1.1
                p.copy_(noise * gain / math.sqrt(wide))
        for name, b in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                b.copy_(0.2 * torch.randn(b.shape, generator=rng))


FOURTH = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def packed(weight):
    """Weights `[experts, in, out]` as blocks `[experts, out, in / 32, 16]` of 4-bit floats and their exponents, and what
    these are worth."""
    w = weight.transpose(1, 2).contiguous()
    w = w.reshape(*w.shape[:2], -1, 32)
    exponents = (w.abs().amax(-1, keepdim=True) / 6.0).log2().ceil().clamp(-127, 127)
    exact = w / exponents.exp2()
    code = (exact.abs()[..., None] - FOURTH).abs().argmin(-1)
    worth = FOURTH[code] * torch.where(exact < 0, -1.0, 1.0) * exponents.exp2()
    code = (code + 8 * (exact < 0)).to(torch.uint8)
    blocks = code[..., 0::2] | (code[..., 1::2] << 4)
    scales = (exponents[..., 0] + 127).to(torch.uint8)
    return blocks.contiguous(), scales, worth.flatten(2).transpose(1, 2).contiguous()


def pack(model):
    """Gives the experts weights that four bits hold; what they are stored as, by name."""
    parts = {}
    with torch.no_grad():
        for name, p in model.named_parameters():
            if re.search(r"experts\.(gate_up|down)_proj$", name):
                blocks, scales, worth = packed(p)
                parts[name + "_blocks"], parts[name + "_scales"] = blocks, scales
                p.copy_(worth)
    return parts


def adds_one(model, name):
    """Whether the norm that holds this weight multiplies by 1 + weight."""
    kind = type(model.get_submodule(name.rsplit(".", 1)[0])).__name__
    return kind.startswith(("Gemma2RMS", "Gemma3RMS", "GemmaRMS"))


class Recorder:
    """What the layers and the attention functions of a model see in one pass."""

    def __init__(self, model):
        self.model, self.towers, self.hooks, self.routers = model, {}, [], []
        self.current = None
        names = {m: n for n, m in model.named_modules()}
        layers = []
        for name, m in model.named_modules():
            kind = type(m).__name__
            if not re.search(r"(Layer|Block)$", kind) or any(name.startswith(other + ".") for other in layers):
                continue
            if any(re.search(r"Attention|Mixer", type(c).__name__) for c in m.modules() if c is not m):
                layers.append(name)
        self.layers = layers
        for name in layers:
            m = model.get_submodule(name)
            tower = "vision" if re.search(r"vision|visual|image|^(swinv?2?\.)?encoder\.layers\.\d+\.blocks", name) else "text"
            self.hooks.append(m.register_forward_pre_hook(self._before(tower), with_kwargs=True))
            self.hooks.append(m.register_forward_hook(self._after(tower)))
        for name, m in model.named_modules():
            if re.search(r"Router$", type(m).__name__) or (re.search(r"(mlp|moe)\.gate$", name)):
                self.hooks.append(m.register_forward_hook(self._router))
            if re.search(r"multi_modal_projector$|visual\.merger$|connector$|projector$", name):
                self.hooks.append(m.register_forward_hook(self._features))
            if re.search(r"^Swin(v2Self)?Attention$", type(m).__name__):
                self.hooks.append(m.register_forward_hook(self._windows))
        self.features = self.packed = None
        inner = getattr(model, "model", None)
        if hasattr(inner, "get_image_features"):
            self._pack(inner)
        self.patched = []
        for name, module in list(sys.modules.items()):
            if name.startswith("transformers.models.") and hasattr(module, "eager_attention_forward"):
                own = module.eager_attention_forward
                module.eager_attention_forward = self._attention(own)
                self.patched.append((module, own))

    def close(self):
        for h in self.hooks:
            h.remove()
        self.model.model.__dict__.pop("get_image_features", None) if hasattr(self.model, "model") else None
        for module, own in self.patched:
            module.eager_attention_forward = own

    def _pack(self, inner):
        own = inner.get_image_features

        def call(*args, **kwargs):
            out = own(*args, **kwargs)
            rows = getattr(out, "pooler_output", out)
            rows = torch.cat([x.reshape(-1, x.shape[-1]) for x in rows]) if isinstance(rows, (list, tuple)) else rows
            self.packed = rows.detach().clone().reshape(-1, rows.shape[-1])
            return out
        inner.get_image_features = call

    def _before(self, tower):
        def hook(_m, args, kwargs):
            x = args[0] if args else kwargs["hidden_states"]
            self.current = {"in": x.detach().clone(), "calls": [], "layer": _m, "args": args}
            self.towers.setdefault(tower, []).append(self.current)
        return hook

    def _after(self, tower):
        def hook(_m, _args, out):
            out = out[0] if isinstance(out, tuple) else out
            self.towers[tower][-1]["out"] = out.detach().clone()
        return hook

    def _attention(self, own):
        def call(module, query, key, value, *args, **kwargs):
            out, weights = own(module, query, key, value, *args, **kwargs)
            # What is behind the keys (a sink) is no key.
            if self.current is not None and weights is not None:
                w = weights.detach().clone()[..., :key.shape[-2]]
                self.current["calls"].append([t.detach().clone() for t in (query, key, value)] + [w])
            return out, weights
        return call

    def _router(self, m, args, out):
        x = args[0].reshape(-1, args[0].shape[-1])
        if not hasattr(m, "weight"):
            return
        bias = getattr(m, "bias", None)
        logits = torch.nn.functional.linear(x.to(m.weight.dtype), m.weight, bias).detach()
        chosen = out[-1].detach() if isinstance(out, tuple) else None
        if chosen is not None and type(m).__name__.startswith("Deepseek"):
            # In no order; the best comes first here.
            added = getattr(m, "e_score_correction_bias", None)
            by = logits if added is None else logits.sigmoid() + added
            chosen = chosen.gather(-1, by.gather(-1, chosen).argsort(dim=-1, descending=True, stable=True))
        self.routers.append((logits, chosen))

    def _windows(self, _m, _args, out):
        self.current["windows"] = out[1].detach().clone()

    def _features(self, _m, _args, out):
        self.features = (out[0] if isinstance(out, tuple) else out).detach().clone()


def together(calls):
    """Several calls of one layer's attention are windows: queries behind each other, maps as blocks."""
    if len(calls) == 1:
        return calls[0]
    q, k, v = (torch.cat([c[i] for c in calls], 2) for i in range(3))
    n = q.shape[2]
    w = torch.zeros(1, q.shape[1], n, n, dtype=q.dtype)
    at = 0
    for c in calls:
        m = c[3].shape[-1]
        w[:, :, at:at + m, at:at + m] = c[3]
        at += m
    return [q, k, v, w]


def in_rows(layer):
    """Maps `[windows, heads, side², side²]` of shifted windows as one `[1, heads, n, n]` in the order of the rows; what
    fills windows up is left out."""
    (high, wide), w = layer["args"][1], layer["windows"]
    side, shift = layer["layer"].window_size, layer["layer"].shift_size
    full = [-(-n // side) * side for n in (high, wide)]
    place = torch.full(full, -1)
    place[:high, :wide] = torch.arange(high * wide).reshape(high, wide)
    place = torch.roll(place, (-shift, -shift), (0, 1))
    place = place.reshape(full[0] // side, side, full[1] // side, side).transpose(1, 2).reshape(-1, side * side)
    out = torch.zeros(w.shape[1], high * wide, high * wide, dtype=w.dtype)
    for own, own_map in zip(place, w):
        kept = (own >= 0).nonzero().flatten()
        at = own[kept]
        out[:, at[:, None], at[None, :]] = own_map[:, kept][:, :, kept]
    return out[None]


def record(model, inputs, spec):
    """Name → tensor of one pass."""
    r = Recorder(model)
    kwargs = {}
    if spec.get("choices"):
        # One answer to choose.
        inputs = {k: v[:, None] for k, v in inputs.items()}
    try:
        with torch.no_grad():
            out = model(**inputs, output_attentions=True, output_hidden_states=True, **kwargs)
    finally:
        r.close()
    got = {}
    tiled = type(model).__name__.startswith(TILING)
    both = len(r.towers) > 1
    for tower, layers in r.towers.items():
        dual = both and type(model).__name__ in ("CLIPModel", "SiglipModel", "Siglip2Model")
        prefix = "vision_" if tower == "vision" and both else "text_" if dual else ""

        def put(name, t):
            if t.dim() and t.shape[0] == 1 and not (tiled and tower == "vision"):
                t = t[0]
            got[prefix + name] = t.contiguous()
        for i, layer in enumerate(layers):
            put(f"hidden_states_{i}", layer["in"])
            if "windows" in layer:
                put(f"attentions_{i}", in_rows(layer))
            elif layer["calls"]:
                q, k, v, w = together(layer["calls"])
                # What attends to several values of another width is written as it is.
                for name, t in (("q", q), ("k", k), ("v", v)):
                    put(f"{name}_{i}", t)
                put(f"attentions_{i}", w)
        put("last_layer_output", layers[-1]["out"])
        if tower == "vision" or dual:
            put(f"hidden_states_{len(layers)}", layers[-1]["out"])
        else:
            states = getattr(out, "hidden_states", None) or getattr(out, "encoder_hidden_states", None)
            put(f"hidden_states_{len(layers)}", states[-1])
        attentions = getattr(out, "attentions", None)
        if not layers[0]["calls"] and "windows" not in layers[0] and attentions and (tower == "text" or not both):
            for i, w in enumerate(attentions):
                put(f"attentions_{i}", w)
    for name in OUTPUTS:
        t = getattr(out, name, None)
        if t is not None and not (name in ("last_hidden_state", "pooler_output") and both):
            got[name] = t[0].contiguous() if "per" not in name else t.reshape(-1)
    if r.features is not None:
        got["image_features"] = r.features.reshape(-1, r.features.shape[-1])
    if r.packed is not None:
        got["image_features"] = r.packed
    for i, (logits, chosen) in enumerate(r.routers):
        got[f"router_logits_{i}"] = logits
        k = spec["chosen"]
        got[f"selected_experts_{i}"] = logits.topk(k, -1).indices if chosen is None or spec.get("top") else chosen
    for drop in spec.get("drop", []):
        for name in [n for n in got if re.fullmatch(drop, n)]:
            del got[name]
    return got


def margin(logits):
    best = logits.double().topk(2, -1).values
    return float((best[..., 0] - best[..., 1]).min())


def greedy(model, inputs):
    """The continuation with the cache; no token ends it."""
    config = transformers.GenerationConfig(max_new_tokens=STEPS, min_new_tokens=STEPS, do_sample=False,
                                           pad_token_id=0, eos_token_id=None)
    model.generation_config.eos_token_id = None
    with torch.no_grad():
        out = model.generate(**inputs, generation_config=config, output_logits=True, return_dict_in_generate=True)
    n = inputs["input_ids"].shape[1]
    return out.sequences[0, n:].contiguous(), torch.cat(out.logits, 0).contiguous()


def group(name):
    name = re.sub(r"^(vision|text)_", "", name)
    if name.startswith("attentions_"):
        return "attentions"
    if name.startswith(("hidden_states_", "last_layer_output", "image_features")):
        return "hidden_states"
    return "qkv" if re.fullmatch(r"[qkv]_\d+", name) else "outputs"


def distances(a, b):
    out = {}
    for name, t in a.items():
        if t.dtype.is_floating_point and name in b:
            out[group(name)] = max(out.get(group(name), 0.0), float((t.double() - b[name].double()).abs().max()))
    return out


def legacy(config):
    """The configuration as transformers 4 wrote it."""
    def turn(c):
        c = {k: turn(v) if isinstance(v, dict) and k.endswith("_config") else v for k, v in c.items()}
        rope = c.pop("rope_parameters", None)
        if isinstance(rope, dict) and "rope_theta" in rope:
            rope = dict(rope)
            c["rope_theta"] = rope.pop("rope_theta")
            part = rope.pop("partial_rotary_factor", None)
            if part is not None:
                c["partial_rotary_factor"] = part
            if rope.get("rope_type", "default") == "default" and "mrope_section" not in rope:
                rope = None
            c["rope_scaling"] = rope
        elif isinstance(rope, dict):
            c["rope_parameters"] = rope
        if "dtype" in c:
            c["torch_dtype"] = c.pop("dtype")
        return c
    def theta(c):
        kinds = c.get("rope_parameters") or {}
        if not {"full_attention", "sliding_attention"} <= set(kinds):
            return c
        c = dict(c)
        far, near = (dict(c["rope_parameters"][k]) for k in ("full_attention", "sliding_attention"))
        del c["rope_parameters"]
        if c["model_type"] == "modernbert":
            c["global_rope_theta"], c["local_rope_theta"] = far["rope_theta"], near["rope_theta"]
        else:
            c["rope_theta"], c["rope_local_base_freq"] = far.pop("rope_theta"), near["rope_theta"]
            c["rope_scaling"] = far if far.get("rope_type") != "default" else None
        return c

    config = {k: theta(v) if isinstance(v, dict) and k.endswith("_config") else v for k, v in config.items()}
    return turn(theta(config))


def drawn(w, h, seed):
    """A smooth picture of many colours."""
    from PIL import Image
    coarse = (torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(seed)) * 255)
    pixels = torch.nn.functional.interpolate(coarse, (h, w), mode="bicubic")[0].clamp(0, 255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def processed(spec, out):
    """Inputs of the model, and what `meta.json` says about them."""
    meta, tok = {}, None
    if "tokenizer" in spec:
        source = os.path.join(HERE, spec["tokenizer"])
        tok = transformers.PreTrainedTokenizerFast.from_pretrained(source, **spec.get("tokenizer_set", {}))
        if "add" in spec:
            tok.add_special_tokens({"additional_special_tokens": spec["add"]})
        meta["tokenizer"] = spec["tokenizer"]
    if "processor" not in spec:
        encoded = tok(spec["text"], spec.get("pair"), return_tensors="pt")
        keys = [k for k in ("input_ids", "attention_mask") + (("token_type_ids",) if spec.get("types") else ())
                if k in encoded]
        inputs = {k: encoded[k] for k in keys}
        tok.save_pretrained(out)
        return inputs, dict(meta, input_text=spec["text"], **({"input_pair": spec["pair"]} if "pair" in spec else {}))
    pictures = []
    for i, (w, h) in enumerate(spec.get("pictures") or [spec["picture"]]):
        picture, name = drawn(w, h, 7 + i), f"image_{i}.png" if i else "image.png"
        picture.save(os.path.join(out, name))
        pictures.append(picture)
    w, h = pictures[0].size
    meta["image"] = {"file": "image.png", "width": w, "height": h}
    images, make = spec["processor"]
    image_processor = getattr(transformers, images)(**spec.get("processor_set", {}))
    for key, value in spec.get("processor_attributes", {}).items():
        setattr(image_processor, key, value)
    if make is None:
        inputs = dict(image_processor(pictures[0], return_tensors="pt"))
        image_processor.save_pretrained(out)
    else:
        processor = make(transformers, image_processor, tok)
        images = [pictures] if spec.get("nested") else pictures
        fill = {"padding": "max_length", "max_length": spec["fill"]} if "fill" in spec else {}
        if fill:
            # The model was trained on texts that are filled up, without a mask.
            tok.model_max_length, tok.model_input_names = spec["fill"], ["input_ids"]
        inputs = dict(processor(images=images, text=[spec["text"]], return_tensors="pt", **fill, **spec.get("call", {})))
        tok.save_pretrained(out)
        image_processor.save_pretrained(out)
        own = {"processor_class": type(processor).__name__}
        own.update(spec.get("processor_config", {}))
        with open(os.path.join(out, "processor_config.json"), "w") as f:
            json.dump(own, f, indent=1)
        meta["input_text"] = spec["text"]
        meta["expanded_text"] = tok.decode(inputs["input_ids"][0])
    path = os.path.join(out, "preprocessor_config.json")
    if os.path.exists(path):
        with open(path) as f:
            own = json.load(f)
        own["image_processor_type"] = own.get("image_processor_type", images).removesuffix("Pil")
        with open(path, "w") as f:
            json.dump(own, f, indent=1, sort_keys=True)
    inputs = {k: v for k, v in inputs.items() if isinstance(v, torch.Tensor) and k != "labels"}
    return inputs, meta


def make(name, spec, out):
    os.makedirs(out, exist_ok=True)
    inputs, meta = processed(spec, out)
    config = spec["config"](transformers) if callable(spec["config"]) else \
        getattr(transformers, spec["config"])(**spec["set"])
    for seed in range(spec.get("seed", 1), spec.get("seed", 1) + 60):
        torch.manual_seed(seed)
        config_now = copy.deepcopy(config)
        config_now._attn_implementation = "eager"
        # The grouped product of experts knows no float64.
        config_now._experts_implementation = "eager"
        model = getattr(transformers, spec["model"])(config_now).eval()
        model.set_attn_implementation("eager")
        if hasattr(model, "set_experts_implementation"):
            model.set_experts_implementation("eager")
        draw(model, seed)
        parts = pack(model) if spec.get("packed") else {}
        inputs_now = {k: v.clone() for k, v in inputs.items()}
        want = record(model, inputs_now, spec)
        if any(not t.isfinite().all() for t in want.values() if t.dtype.is_floating_point):
            continue
        gaps = [float((s[:, -2] - s[:, -1]).min()) for s in
                (t.sort(-1, True).values[:, spec["chosen"] - 1:spec["chosen"] + 1]
                 for n, t in want.items() if n.startswith("router_logits_"))]
        if gaps and min(gaps) < 1e-3:
            continue
        if spec.get("greedy"):
            ids, logits = greedy(model, inputs_now)
            assert float((logits[0] - want["logits"][-1]).abs().max()) < 1e-3, "generate saw another prompt"
            if margin(logits) < 0.01:
                continue
            want["greedy_ids"], want["greedy_logits"] = ids, logits
        break
    else:
        raise ValueError("no seed has clear choices")
    exact = copy.deepcopy(model).double()
    double = {k: v.double() if v.dtype.is_floating_point else v for k, v in inputs_now.items()}
    torch.set_default_dtype(torch.float64)
    try:
        noise = distances(want, record(exact, double, spec))
    finally:
        torch.set_default_dtype(torch.float32)
    tolerances = {}
    for g in sorted(set(group(n) for n in want)):
        largest = max(float(t.abs().max()) for n, t in want.items() if group(n) == g and t.dtype.is_floating_point)
        atol = max(20 * noise.get(g, 0.0), 2e-6 * largest, 1e-6)
        tolerances[g] = {"atol_f32_cpu": float(f"{atol:.2g}"), "atol_f32_gpu": float(f"{10 * atol:.2g}"),
                         "max_abs": float(f"{largest:.3g}")}
    tolerances.setdefault("outputs", tolerances["hidden_states"])
    model.save_pretrained(out)
    with open(os.path.join(out, "config.json")) as f:
        saved = json.load(f)
    with open(os.path.join(out, "config.legacy.json"), "w") as f:
        json.dump(legacy(saved), f, indent=1)
    # As stored: what the library reads back must give the same.
    again = getattr(transformers, spec["model"]).from_pretrained(out, attn_implementation="eager",
                                                                  dtype=torch.float32).eval()
    apart = distances(want, record(again, inputs_now, spec))
    assert all(v <= 1e-4 for v in apart.values()), (name, apart)
    with tempfile.TemporaryDirectory() as old:
        shutil.copy(os.path.join(out, "config.legacy.json"), os.path.join(old, "config.json"))
        shutil.copy(os.path.join(out, "model.safetensors"), old)
        again = getattr(transformers, spec["model"]).from_pretrained(old, attn_implementation="eager",
                                                                      dtype=torch.float32).eval()
        apart = distances(want, record(again, inputs_now, spec))
        assert all(v <= 1e-4 for v in apart.values()), (name, "legacy", apart)
    if parts:
        from safetensors.torch import load_file
        from transformers.integrations.mxfp4 import convert_moe_packed_tensors
        hub, plain = os.path.join(out, "hub_layout"), load_file(os.path.join(out, "model.safetensors"))
        os.makedirs(hub, exist_ok=True)
        for n in [n.removesuffix("_blocks") for n in parts if n.endswith("_blocks")]:
            theirs = convert_moe_packed_tensors(parts[n + "_blocks"], parts[n + "_scales"], dtype=torch.float32)
            assert torch.equal(theirs, plain.pop(n)), n
        save_file({**plain, **parts}, os.path.join(hub, "model.safetensors"), metadata={"format": "pt"})
        with open(os.path.join(hub, "config.json"), "w") as f:
            json.dump({**legacy(saved), "quantization_config": {"quant_method": "mxfp4"}}, f, indent=1)
    stored = {k: v[0] if (k in ("input_ids", "token_type_ids", "image_grid_thw", "mm_token_type_ids",
                                "spatial_shapes", "pixel_attention_mask")
                          and v.shape[0] == 1) or
              (k == "pixel_values" and not type(model).__name__.startswith(TILING) and v.shape[0] == 1) else v
              for k, v in inputs_now.items() if k not in ("attention_mask", "num_crops", "batch_num_images")}
    if spec.get("pictures"):
        # What the pictures become is the program's to find.
        stored = {k: v for k, v in stored.items() if k == "input_ids"}
    if type(model).__name__.startswith(TILING) and "pixel_values" in stored and stored["pixel_values"].dim() == 5:
        stored["pixel_values"] = stored["pixel_values"][0]
    entropy = attention_entropy(want)
    save_file({k: v.contiguous().clone() for k, v in {**stored, **want}.items()},
              os.path.join(out, "expected.safetensors"))
    meta = {"name": name, "architecture": spec["model"], "model_type": saved["model_type"], "seed": seed,
            "versions": {m.__name__: m.__version__ for m in (transformers, torch)},
            "attn_implementation": "eager", "dtype": "float32",
            "parameters": sum(p.numel() for p in model.parameters()), **meta,
            "notes": spec.get("notes", []), "attention_entropy_over_uniform": entropy,
            "tolerances": tolerances, "noise": {"float64": {k: float(f"{v:.2g}") for k, v in noise.items()}}}
    with open(os.path.join(out, "meta.json"), "w") as f:
        json.dump(meta, f, indent=1)
    size = sum(os.path.getsize(os.path.join(out, f)) for f in os.listdir(out))
    print(f"{name}: seed {seed}, {meta['parameters']} parameters, {size // 1024} kB, entropy {entropy}")


def attention_entropy(want):
    """How even the maps are, 1 for uniform; a fixture in which it is near 1 would not notice a wrong map."""
    out = []
    for name, t in want.items():
        if "attentions_" in name and not name.startswith("cross"):
            p = t.double().clamp_min(1e-30)
            seen = (t > 1e-7).sum(-1).clamp_min(2)
            out.append(float((-(p * p.log()).sum(-1) / seen.double().log()).mean()))
    return [round(x, 2) for x in out]


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("out")
    ap.add_argument("names", nargs="*")
    ap.add_argument("--specs", default=os.path.join(HERE, "specs.py"))
    args = ap.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    found = importlib.util.spec_from_file_location("specs", args.specs)
    specs = importlib.util.module_from_spec(found)
    found.loader.exec_module(specs)
    failed = 0
    for name, spec in specs.SPECS.items():
        if not args.names or name in args.names:
            try:
                make(name, spec, os.path.join(args.out, name))
            except Exception as e:
                if args.names and len(args.names) == 1:
                    raise
                failed += 1
                print(f"FAIL {name}: {type(e).__name__}: {str(e)[:300]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
