#!/usr/bin/env python3
"""Writes gguf/converted.json beside this file: of fixtures of this folder, what their tensors and metadata are called in
a GGUF file, as the Python package `gguf` says it (TensorNameMap, Keys). Values are those of their configurations.

Tensors that llama.cpp's converter renames or cuts by itself before it asks the package are named here by hand.
"""
import json
import os
import re
import struct

import gguf
from gguf.constants import MODEL_ARCH, MODEL_ARCH_NAMES, Keys

HERE = os.path.dirname(os.path.abspath(__file__))
L, A, R, S = Keys.LLM, Keys.Attention, Keys.Rope, Keys.SSM
# Folder and architectures that its weights could be of.
SETS = [("granite", "GRANITE"), ("olmo2", "OLMO2"), ("gpt_oss", "GPT_OSS"), ("settings/gpt_neox_pythia", "GPTNEOX"),
        ("settings/gpt_neox_serial", "GPTNEOX"), ("settings/phi_grouped", "PHI2"), ("mamba", "MAMBA"),
        ("mamba2", "MAMBA2"), ("deepseek_v2", "DEEPSEEK2"), ("deepseek_v3", "DEEPSEEK2"), ("qwen2", "QWEN2VL"),
        ("qwen3", "QWEN3VL"), ("qwen3_moe", "QWEN3VLMOE"), ("llama", "INTERNLM2"), ("llama", "EXAONE"),
        ("llama_rope_scaled", "EXAONE"), ("settings/starcoder2", "STARCODER2"), ("settings/stablelm", "STABLELM"),
        ("settings/nemotron", "NEMOTRON"), ("settings/smollm3", "SMOLLM3"), ("settings/olmo", "OLMO"),
        ("settings/cohere", "COMMAND_R"), ("settings/exaone4", "EXAONE4")]


def own(arch, folder, name):
    """What is not in the package's map by the name in the checkpoint."""
    if arch == "GPT_OSS":
        name = re.sub(r"experts\.(down_proj)$", r"experts.\1.weight", name)
        name = re.sub(r"experts\.(down_proj)_bias$", r"experts.\1.bias", name)
        name = re.sub(r"sinks$", "sinks.weight", name)
        # The first map is cut into the rows of the gate and those of the value.
        gate = re.fullmatch(r"(.*experts)\.gate_up_proj(_bias)?", name)
        if gate:
            end = "bias" if gate[2] else "weight"
            return [f"{gate[1]}.gate_proj.{end}", f"{gate[1]}.up_proj.{end}"]
    if arch == "DEEPSEEK2":
        name = name.replace("e_score_correction_bias", "e_score_correction.bias")
        # Cut in present files, and one in old ones, which the second version is written as here.
        if "kv_b_proj" in name and folder == "deepseek_v3":
            return [name.replace("kv_b_proj", "k_b_proj"), name.replace("kv_b_proj", "v_b_proj")]
    if arch == "MAMBA2":
        name = name.replace("dt_bias", "dt_proj.bias")
    # Experts are put into one tensor.
    return [re.sub(r"experts\.\d+\.", "experts.", name)]


def meta(arch, c):
    """Keys and values beside those that each file has."""
    n = lambda *keys: next((c[k] for k in keys if c.get(k) is not None), None)
    d, heads = n("hidden_size", "n_embd"), n("num_attention_heads") or 0
    out = {L.CONTEXT_LENGTH: n("max_position_embeddings") or 1 << 20, L.EMBEDDING_LENGTH: d,
           L.BLOCK_COUNT: n("num_hidden_layers"), L.FEED_FORWARD_LENGTH: n("intermediate_size"), A.HEAD_COUNT: heads,
           L.VOCAB_SIZE: n("vocab_size")}
    if arch.startswith("MAMBA"):
        inner = int(c["expand"] * d)
        rank = c.get("time_step_rank")
        out |= {L.FEED_FORWARD_LENGTH: 0, A.LAYERNORM_RMS_EPS: c["layer_norm_epsilon"], S.INNER_SIZE: inner,
                S.CONV_KERNEL: c["conv_kernel"], S.STATE_SIZE: c["state_size"],
                S.TIME_STEP_RANK: -(-d // 16) if rank == "auto" else rank}
        if arch == "MAMBA2":
            out |= {S.TIME_STEP_RANK: inner // c["head_dim"], S.GROUP_COUNT: c["n_groups"]}
        return out
    if arch == "DEEPSEEK2":
        turned, rope, third = c["qk_rope_head_dim"], c["rope_parameters"], c["model_type"] == "deepseek_v3"
        out |= {A.HEAD_COUNT_KV: 1 if third else heads, R.FREQ_BASE: float(rope["rope_theta"]),
                A.LAYERNORM_RMS_EPS: c["rms_norm_eps"], A.KV_LORA_RANK: c["kv_lora_rank"],
                L.LEADING_DENSE_BLOCK_COUNT: c["first_k_dense_replace"], R.DIMENSION_COUNT: turned,
                L.EXPERT_COUNT: c["n_routed_experts"], L.EXPERT_USED_COUNT: c["num_experts_per_tok"],
                L.EXPERT_FEED_FORWARD_LENGTH: c["moe_intermediate_size"], L.EXPERT_SHARED_COUNT: c["n_shared_experts"],
                L.EXPERT_WEIGHTS_SCALE: c["routed_scaling_factor"], L.EXPERT_WEIGHTS_NORM: c["norm_topk_prob"],
                L.EXPERT_GATING_FUNC: 2 if third else 1}
        keys = c["qk_nope_head_dim"] + turned
        if third:
            out |= {A.Q_LORA_RANK: c["q_lora_rank"], A.KEY_LENGTH: c["kv_lora_rank"] + turned,
                    A.VALUE_LENGTH: c["kv_lora_rank"], A.KEY_LENGTH_MLA: keys, A.VALUE_LENGTH_MLA: c["v_head_dim"],
                    L.EXPERT_GROUP_COUNT: c["n_group"], L.EXPERT_GROUP_USED_COUNT: c["topk_group"],
                    R.SCALING_TYPE: "yarn", R.SCALING_FACTOR: rope["factor"],
                    R.SCALING_ORIG_CTX_LEN: rope["original_max_position_embeddings"],
                    R.SCALING_YARN_LOG_MUL: 0.1 * rope["mscale_all_dim"]}
        else:
            out |= {A.KEY_LENGTH: keys, A.VALUE_LENGTH: c["v_head_dim"]}
        return out
    width = n("head_dim") or d // heads
    rope = c["rope_parameters"]
    out |= {A.HEAD_COUNT_KV: n("num_key_value_heads") or heads, A.KEY_LENGTH: width, A.VALUE_LENGTH: width,
            R.FREQ_BASE: float(rope["rope_theta"])}
    if n("rms_norm_eps"):
        out[A.LAYERNORM_RMS_EPS] = c["rms_norm_eps"]
    if n("layer_norm_eps", "norm_eps", "norm_epsilon"):
        out[A.LAYERNORM_EPS] = n("layer_norm_eps", "norm_eps", "norm_epsilon")
    share = rope.get("partial_rotary_factor")
    if share:
        out[R.DIMENSION_COUNT] = int(share * width)
    if rope["rope_type"] == "yarn":
        out |= {R.SCALING_TYPE: "yarn", R.SCALING_FACTOR: float(rope["factor"]),
                R.SCALING_ORIG_CTX_LEN: rope["original_max_position_embeddings"],
                R.SCALING_YARN_BETA_FAST: rope["beta_fast"], R.SCALING_YARN_BETA_SLOW: rope["beta_slow"]}
    if rope["rope_type"] == "linear":
        out |= {R.SCALING_TYPE: "linear", R.SCALING_FACTOR: float(rope["factor"])}
    experts = n("num_local_experts", "num_experts")
    if experts:
        out |= {L.EXPERT_COUNT: experts, L.EXPERT_USED_COUNT: c["num_experts_per_tok"],
                L.EXPERT_FEED_FORWARD_LENGTH: n("moe_intermediate_size", "intermediate_size")}
    if arch in ("GPT_OSS", "STARCODER2", "EXAONE4"):
        out[A.SLIDING_WINDOW] = c["sliding_window"]
    if arch == "EXAONE4":
        out[A.SLIDING_WINDOW_PATTERN] = [kind == "sliding_attention" for kind in c["layer_types"]]
    if arch == "COMMAND_R":
        out[L.LOGIT_SCALE] = c["logit_scale"]
    if arch == "OLMO" and c.get("clip_qkv"):
        out[A.CLAMP_KQV] = c["clip_qkv"]
    if arch in ("GPTNEOX", "STABLELM"):
        out[L.USE_PARALLEL_RESIDUAL] = c["use_parallel_residual"]
    if arch == "GRANITE":
        out |= {A.SCALE: c["attention_multiplier"], L.EMBEDDING_SCALE: c["embedding_multiplier"],
                L.RESIDUAL_SCALE: c["residual_multiplier"], L.LOGIT_SCALE: c["logits_scaling"]}
    if arch in ("QWEN2VL", "QWEN3VL", "QWEN3VLMOE"):
        out[R.DIMENSION_SECTIONS] = [width // 8, width // 4 - width // 8, width // 4, 0]
    if arch in ("QWEN3VL", "QWEN3VLMOE"):
        out[L.NUM_DEEPSTACK_LAYERS] = 3
    return out


found = []
for folder, arch in SETS:
    with open(os.path.join(HERE, folder, "config.json")) as f:
        c = json.load(f)
    with open(os.path.join(HERE, folder, "model.safetensors"), "rb") as f:
        tensors = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    kind = MODEL_ARCH[arch]
    names = gguf.get_tensor_name_map(kind, c["num_hidden_layers"])
    of = {}
    for name in sorted(tensors.keys() - {"__metadata__"}):
        # Those of the first layer stand for all, and those of the first expert.
        name = re.sub(r"(layers|experts)\.\d+", r"\1.0", name)
        if name in of or "k_layernorm" in name or "q_layernorm" in name:
            continue
        theirs = [names.get_name(n, try_suffixes=(".weight", ".bias")) for n in own(arch, folder, name)]
        assert all(theirs), (folder, name)
        of[name] = theirs[0] if len(theirs) == 1 else theirs
    arch_name = MODEL_ARCH_NAMES[kind]
    keys = {k.format(arch=arch_name): v for k, v in meta(arch, c).items()}
    found.append({"folder": folder, "arch": arch_name, "meta": keys, "names": of})
lines = ",\n".join(json.dumps(f) for f in found)
with open(os.path.join(HERE, "gguf", "converted.json"), "w") as f:
    f.write(f'{{"gguf_package": "0.19.0", "files": [\n{lines}\n]}}\n')
