#!/usr/bin/env python3
"""Records tiny models with random weights, and writes beside each trace what `transformers` itself returned:

    runs.py RECORDER FOLDER [NAME...]

FOLDER/NAME.trace is the recorder's, FOLDER/NAME.safetensors holds `attentions_i` and `hidden_states_i` of the layers
that are shown and `logits`, all of the eager attention in float32. Of each model it is checked that recording changes
no bit of what is returned, leaves no hook behind, and that fused attention records the same.
"""
import copy
import importlib.util
import os
import sys

import torch
import transformers as hf
from safetensors.numpy import load_file, save_file

torch.set_num_threads(1)

SMALL = dict(vocab_size=96, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
             max_position_embeddings=64)
EYE = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48, image_size=32, patch_size=8)
IDS = torch.tensor([[3, 14, 15, 92, 65, 35, 89, 79, 32, 38, 46]])
PIXELS = torch.linspace(-1.5, 1.5, 3 * 32 * 32).sin().mul(1.2).reshape(1, 3, 32, 32)


def small(**other):
    return {**SMALL, **other}


def llava():
    eye = hf.CLIPVisionConfig(**EYE)
    text = hf.LlamaConfig(**small(num_key_value_heads=2))
    return hf.LlavaConfig(vision_config=eye, text_config=text, image_token_index=95)


def qwen_vl():
    eye = dict(depth=2, embed_dim=32, hidden_size=32, num_heads=4, patch_size=4, mlp_ratio=2, in_channels=3)
    text = small(num_key_value_heads=2, rope_parameters=dict(rope_type="default", mrope_section=[1, 1, 2], rope_theta=1e4))
    return hf.Qwen2VLConfig(vision_config=eye, text_config=text, image_token_id=95, vision_start_token_id=93,
                            vision_end_token_id=94)


PICTURE = torch.tensor([[3] + [95] * 16 + [15, 92, 65]])
PADDED = dict(input_ids=torch.tensor([[14, 15, 92, 65, 0, 0, 0]]), attention_mask=torch.tensor([[1, 1, 1, 1, 0, 0, 0]]))
PAIR = dict(input_ids=IDS, decoder_input_ids=IDS[:, :7])
GRID = dict(input_ids=torch.tensor([[3, 93] + [95] * 6 + [94, 65]]), mm_token_type_ids=torch.tensor([[0, 0] + [1] * 6 + [0, 0]]), image_grid_thw=torch.tensor([[1, 4, 6]]),
            pixel_values=torch.linspace(-1, 1, 24 * 3 * 2 * 16).sin().reshape(24, 96))
# Name: class, configuration, inputs, where the maps of the shown layers stand in what is returned.
RUNS = {
    "gpt2": ("GPT2LMHeadModel", hf.GPT2Config(vocab_size=96, n_embd=32, n_layer=3, n_head=4, n_positions=64,
                                              scale_attn_by_inverse_layer_idx=True), {}),
    "gptj": ("GPTJForCausalLM", hf.GPTJConfig(vocab_size=96, n_embd=32, n_layer=3, n_head=4, n_positions=64, rotary_dim=4), {}),
    "bloom": ("BloomForCausalLM", hf.BloomConfig(vocab_size=96, hidden_size=32, n_layer=3, n_head=4), {}),
    "falcon": ("FalconForCausalLM", hf.FalconConfig(**small(new_decoder_architecture=True, num_kv_heads=2)), {}),
    "falcon_alibi": ("FalconForCausalLM", hf.FalconConfig(**small(alibi=True, multi_query=True, parallel_attn=False,
                                                                   new_decoder_architecture=False)), {}),
    "mpt": ("MptForCausalLM", hf.MptConfig(vocab_size=96, d_model=32, n_layers=3, n_heads=4, max_seq_len=64), {}),
    "persimmon": ("PersimmonForCausalLM", hf.PersimmonConfig(**SMALL), {}),
    "cohere": ("CohereForCausalLM", hf.CohereConfig(**small(num_key_value_heads=2)), {}),
    "gemma2": ("Gemma2ForCausalLM", hf.Gemma2Config(**small(num_key_value_heads=2, head_dim=8, sliding_window=4,
                                                            attn_logit_softcapping=5.0)), {}),
    "llama": ("LlamaForCausalLM", hf.LlamaConfig(**small(num_key_value_heads=2)), {}),
    "llama_padded": ("LlamaForCausalLM", hf.LlamaConfig(**SMALL), PADDED),
    "mixtral": ("MixtralForCausalLM", hf.MixtralConfig(**small(num_key_value_heads=2, num_local_experts=4)), {}),
    "gpt_oss": ("GptOssForCausalLM", hf.GptOssConfig(**small(num_key_value_heads=2, head_dim=8, num_local_experts=4,
                                                             num_experts_per_tok=2, sliding_window=4)), {}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", hf.Qwen3MoeConfig(**small(num_key_value_heads=2, head_dim=8, num_experts=6,
                  num_experts_per_tok=3, moe_intermediate_size=12, mlp_only_layers=[1])), {}),
    "deepseek_v3": ("DeepseekV3ForCausalLM", hf.DeepseekV3Config(**small(
        num_key_value_heads=4, q_lora_rank=12, kv_lora_rank=10, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=10,
        n_routed_experts=8, num_experts_per_tok=3, n_group=2, topk_group=1, first_k_dense_replace=1,
        moe_intermediate_size=12)), {}),
    "codegen": ("CodeGenForCausalLM", hf.CodeGenConfig(vocab_size=96, n_embd=32, n_layer=3, n_head=4, n_positions=64,
                                                       rotary_dim=4), {}),
    "bert": ("BertForMaskedLM", hf.BertConfig(**SMALL), {}),
    "xlm_roberta": ("XLMRobertaForMaskedLM", hf.XLMRobertaConfig(**SMALL), {}),
    "albert": ("AlbertForMaskedLM", hf.AlbertConfig(**small(embedding_size=16)), {}),
    "deberta": ("DebertaV2ForMaskedLM", hf.DebertaV2Config(**small(relative_attention=True, pos_att_type=["c2p", "p2c"],
                                                                   position_buckets=4)), {}),
    "mpnet": ("MPNetForMaskedLM", hf.MPNetConfig(**SMALL), {}),
    "modernbert": ("ModernBertForMaskedLM", hf.ModernBertConfig(**small(global_attn_every_n_layers=2, local_attention=6,
                                                                       pad_token_id=0)), {}),
    "xlnet": ("XLNetLMHeadModel", hf.XLNetConfig(vocab_size=96, d_model=32, n_layer=3, n_head=4, d_inner=48), {}),
    "t5": ("T5ForConditionalGeneration", hf.T5Config(vocab_size=96, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4), PAIR),
    "whisper": ("WhisperForConditionalGeneration", hf.WhisperConfig(
        vocab_size=96, d_model=32, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=48, decoder_ffn_dim=48, num_mel_bins=8, max_source_positions=10, max_target_positions=32,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, suppress_tokens=[], begin_suppress_tokens=[]),
        dict(input_features=torch.linspace(-1, 1, 8 * 20).sin().reshape(1, 8, 20), decoder_input_ids=IDS)),
    "vit": ("ViTForImageClassification", hf.ViTConfig(**EYE), dict(pixel_values=PIXELS)),
    "llava": ("LlavaForConditionalGeneration", llava(), dict(input_ids=PICTURE, pixel_values=PIXELS)),
    "qwen2_vl": ("Qwen2VLForConditionalGeneration", qwen_vl(), GRID),
}
# What some returns are called.
MAPS = ("decoder_attentions", "attentions")
STATES = ("decoder_hidden_states", "hidden_states")


def hooks(model):
    return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]


def made(name, config, how="eager"):
    """The model with weights that matter: random ones, norms away from one, no zeros."""
    torch.manual_seed(7)
    config = copy.deepcopy(config)
    config._attn_implementation = how
    model = getattr(hf, name)(config).eval()
    torch.manual_seed(8)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() < 2:
                p.add_(torch.randn_like(p) * 0.1)
            else:
                p.copy_(torch.randn_like(p) * (0.9 / p.shape[-1] ** 0.5))
    return model


def flat(out):
    if isinstance(out, torch.Tensor):
        return [out]
    if hasattr(out, "values"):
        out = list(out.values())
    return [t for x in out for t in flat(x)] if isinstance(out, (tuple, list)) else []


def write(module, name, folder):
    kind, config, given = RUNS[name]
    inputs = {} if "pixel_values" in given and "input_ids" not in given else {"input_ids": IDS}
    inputs = {**inputs, **given}
    if "input_features" in inputs:
        inputs.pop("input_ids")
    rest = {} if "pixel_values" in inputs and "input_ids" not in inputs else {"use_cache": False}
    rest = {} if kind.endswith("MaskedLM") or name == "xlnet" else rest
    model = made(kind, config)
    path = os.path.join(folder, name + ".trace")
    record = lambda to, **how: module.record(model, None, to, **how)
    with torch.no_grad():
        routers = []
        kept = [m.register_forward_hook(lambda m, a, _: routers.append(torch.nn.functional.linear(
                    a[0].reshape(-1, a[0].shape[-1]), m.weight, getattr(m, "bias", None))))
                for m in model.modules() if type(m).__name__.endswith("Router")]
        want = model(**inputs, **rest, output_attentions=True, output_hidden_states=True)
        for handle in kept:
            handle.remove()
        plain, before = model(**inputs, **rest), hooks(model)
        with record(path):
            seen = model(**inputs, **rest)
        assert hooks(model) == before, f"{name}: hooks are left behind"
        assert all(torch.equal(a, b) for a, b in zip(flat(plain), flat(seen), strict=True)), f"{name}: not the same"
        own = load_file(path)
        try:
            model = made(kind, config, "sdpa")
        except ValueError:
            model = None
        other = path + ".sdpa"
        fused = own
        if model is not None:
            with record(other):
                same = model(**inputs, **rest)
            # Some models have their own two ways of attention that do not agree.
            if all(torch.allclose(a, b, atol=1e-3) for a, b in zip(flat(plain), flat(same))):
                fused = load_file(other)
            else:
                print(f"{name}: eager and fused attention of this model differ by themselves")
            os.remove(other)
        assert own.keys() == fused.keys(), f"{name}: {own.keys() ^ fused.keys()}"
        for key in own:
            assert abs(own[key].astype(float) - fused[key]).max() < 2e-4, f"{name}: {key} differs under sdpa"
    tensors = {}
    pick = lambda names: next(getattr(want, n) for n in names if getattr(want, n, None) is not None)
    for i, t in enumerate(pick(MAPS)):
        tensors[f"attentions_{i}"] = t[0]
    for i, t in enumerate(getattr(want, "cross_attentions", None) or ()):
        tensors[f"cross_attentions_{i}"] = t[0]
    for i, t in enumerate(routers):
        tensors[f"router_logits_{i}"] = t
    states = pick(STATES)
    for i, t in enumerate(states[:-1]):
        tensors[f"hidden_states_{i}"] = t[:, 0] if name == "xlnet" and t.shape[0] > 1 else t[0]
    if getattr(want, "logits", None) is not None:
        tensors["logits"] = want.logits[0]
    if name == "llava":
        with torch.no_grad():
            eye = made(kind, config).model.vision_tower(PIXELS, output_attentions=True, output_hidden_states=True)
        for i, t in enumerate(eye.attentions):
            tensors[f"vision_attentions_{i}"], tensors[f"vision_hidden_states_{i}"] = t[0], eye.hidden_states[i][0]
    save_file({k: t.float().contiguous().numpy() for k, t in tensors.items()}, os.path.join(folder, name + ".safetensors"))


def raises(module, folder):
    """An exception inside the block comes through, leaves no hook and no file, and the model works as before."""
    model, path = made("LlamaForCausalLM", hf.LlamaConfig(**SMALL)), os.path.join(folder, "none.trace")
    before, registry = hooks(model), dict(hf.modeling_utils.ALL_ATTENTION_FUNCTIONS._global_mapping)
    try:
        with module.record(model, None, path):
            model(input_ids=IDS)
            raise KeyError("mine")
    except KeyError:
        pass
    assert hooks(model) == before and not os.path.exists(path)
    assert registry == dict(hf.modeling_utils.ALL_ATTENTION_FUNCTIONS._global_mapping)
    assert torch.overrides._get_current_function_mode_stack() == []


def odd(module, folder):
    """Batches, padding, other types, generation, gradients, and attention functions that torch does not see inside."""
    path = os.path.join(folder, "odd.part")
    model = made("MistralForCausalLM", hf.MistralConfig(**small(num_key_value_heads=2, sliding_window=4)))

    def recorded(**inputs):
        with torch.no_grad(), module.record(model, None, path, item=inputs.pop("item", 0)):
            model(**inputs, use_cache=False)
        return load_file(path)

    def same(a, b, atol):
        off = {k: float(abs(a[k] - b[k]).max()) for k in a.keys() & b.keys()}
        shapes = all(a[k].shape == b[k].shape for k in off)
        assert a.keys() == b.keys() and shapes and max(off.values()) <= atol, (a.keys() ^ b.keys(), off)

    alone = recorded(input_ids=IDS)
    same(recorded(input_ids=torch.cat([IDS.flip(1), IDS]), item=1), alone, 1e-5)

    def hidden(mod, query, key, value, mask, scaling=None, sliding_window=None, **rest):
        with torch._C.DisableTorchFunction():
            k, v = (t.repeat_interleave(query.shape[1] // t.shape[1], 1) for t in (key, value))
            i = torch.arange(query.shape[2])
            seen = (i[:, None] >= i) & (i[:, None] - i < sliding_window)
            scores = (query @ k.transpose(2, 3) * scaling).masked_fill(~seen, float("-inf"))
            return (scores.softmax(-1) @ v).transpose(1, 2).contiguous(), None

    hf.modeling_utils.ALL_ATTENTION_FUNCTIONS.register("hidden", hidden)
    model.set_attn_implementation("hidden")
    same(recorded(input_ids=IDS), alone, 1e-5)
    model.set_attn_implementation("eager")
    with module.record(model, None, path):
        model.generate(IDS, max_new_tokens=3, do_sample=False, pad_token_id=0)
    # A model that writes makes the last row's logits only.
    written, last = load_file(path), {**alone, "text.0.3.logits": alone["text.0.3.logits"][-1:]}
    same(written, last, 1e-5)
    with module.record(model, None, path):
        model(input_ids=IDS, labels=IDS).loss.backward()
    assert model.model.layers[0].mlp.up_proj.weight.grad is not None
    same(load_file(path), alone, 1e-5)
    model.to(torch.bfloat16)
    half = recorded(input_ids=IDS)
    assert half.keys() == alone.keys() and all(t.dtype == "float32" for t in half.values())
    os.remove(path)


def forms(module, folder):
    """Streams of other forms: several side by side, a grid, stages between which rows merge; and none at all."""
    path = os.path.join(folder, "forms.part")

    def recorded(name, config, **inputs):
        model = made(name, config)
        with torch.no_grad(), module.record(model, None, path) as kept:
            out = model(**inputs, output_attentions=True, output_hidden_states=True)
        assert kept.written == os.path.exists(path)
        return out, load_file(path) if kept.written else {}, kept.notes

    def same(a, b, what):
        assert a.shape == tuple(b.shape) and abs(a - b.numpy()).max() < 1e-5, what

    text = hf.Gemma3nTextConfig(**small(
        num_hidden_layers=2, num_key_value_heads=2, head_dim=8, hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=96, laurel_rank=4, num_kv_shared_layers=0, activation_sparsity_pattern=[0.0] * 2,
        intermediate_size=[48] * 2, altup_active_idx=1, layer_types=["sliding_attention", "full_attention"]))
    out, own, _ = recorded("Gemma3nForCausalLM", text, input_ids=IDS)
    for layer in range(2):
        q, k = own[f"text.0.{layer}.q"], own[f"text.0.{layer}.k"].repeat(2, 0)
        p = torch.tensor(q @ k.swapaxes(1, 2)).masked_fill(~torch.ones(11, 11).tril().bool(), float("-inf")).softmax(-1)
        same(p.numpy(), out.attentions[layer][0], "Gemma 3n: maps")
    same(own["text.0.2.logits"], out.logits[0], "Gemma 3n: logits")
    sees = hf.SamVisionConfig(hidden_size=32, output_channels=16, num_hidden_layers=2, num_attention_heads=2, image_size=32,
                              patch_size=8, window_size=2, global_attn_indexes=[1], num_pos_feats=8, mlp_dim=48)
    out, own, _ = recorded("SamVisionModel", sees, pixel_values=PIXELS)
    for layer in range(2):
        same(own[f"vision.0.{layer}.resid_pre"], out.hidden_states[layer][0].flatten(0, 1), "SAM: streams")
    stages = hf.SwinConfig(embed_dim=16, image_size=32, patch_size=4, depths=[2, 1], num_heads=[2, 4], window_size=4)
    out, own, notes = recorded("SwinModel", stages, pixel_values=PIXELS)
    same(own["vision.0.0.resid_pre"], out.hidden_states[0][0], "Swin: streams")
    assert any("layers.1.blocks" in n for n in notes), notes
    os.remove(path)
    # Nothing of a form that is known: this is said, and the program goes on.
    with module.record(Unknown(), None, path) as kept:
        pass_through = kept.model(input_ids=IDS)
    assert pass_through.shape == (1, 11, 1, 1, 32) and not kept.written and not os.path.exists(path)


class Unknown(torch.nn.Module):
    """Layers whose stream has five axes."""

    def __init__(self):
        super().__init__()
        self.config = hf.LlamaConfig(**SMALL)
        layer = torch.nn.Module()
        layer.attention = torch.nn.Linear(32, 32)
        layer.forward = lambda hidden_states: layer.attention(hidden_states)
        self.layers = torch.nn.ModuleList([layer])

    def forward(self, input_ids):
        return self.layers[0](torch.ones(*input_ids.shape, 1, 1, 32))


def main():
    spec = importlib.util.spec_from_file_location("tokenscope_record", sys.argv[1])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    hf.logging.set_verbosity_error()
    raises(module, sys.argv[2])
    odd(module, sys.argv[2])
    forms(module, sys.argv[2])
    for name in sys.argv[3:] or RUNS:
        print("recording", name, flush=True)
        write(module, name, sys.argv[2])


if __name__ == "__main__":
    main()
