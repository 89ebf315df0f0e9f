"""The configurations of the fixtures that `make_fixture.py` makes. The first of a family has the family's name."""

ENC = "A train, 12 boats: x += 1"
DEC = "The train: 12 boats, x += 1;"
SPECS = {}


def text(name, config, model, tokenizer="mixtral", **set_):
    spec = {"config": config, "model": model, "tokenizer": tokenizer, "set": set_}
    spec["text"] = DEC if model.endswith("CausalLM") else ENC
    spec["greedy"] = model.endswith("CausalLM")
    if "num_experts_per_tok" in set_:
        spec["chosen"] = set_["num_experts_per_tok"]
    SPECS[name] = spec
    return spec


# Decoders.
DECODER = dict(vocab_size=136, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
               num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-4, bos_token_id=1, eos_token_id=2,
               pad_token_id=None)


def plain(theta=50000.0, **more):
    return {"rope_type": "default", "rope_theta": theta, **more}


def decoder(name, config, model, **set_):
    return text(name, config, model, **{**DECODER, "rope_parameters": plain(), **set_})


decoder("granite", "GraniteConfig", "GraniteForCausalLM", embedding_multiplier=3.0, logits_scaling=2.5,
        residual_multiplier=0.7, attention_multiplier=0.2, attention_bias=True, mlp_bias=True)
decoder("granite_tied", "GraniteConfig", "GraniteForCausalLM", embedding_multiplier=2, residual_multiplier=0.3,
        attention_multiplier=1.0, tie_word_embeddings=True, num_key_value_heads=None, hidden_act="gelu",
        rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 20000.0})
decoder("olmo2", "Olmo2Config", "Olmo2ForCausalLM")
decoder("olmo2_bias_tied", "Olmo2Config", "Olmo2ForCausalLM", attention_bias=True, tie_word_embeddings=True,
        num_key_value_heads=1, rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0,
                                                 "original_max_position_embeddings": 32})
MOE = dict(num_experts=6, num_experts_per_tok=3, moe_intermediate_size=12)
decoder("qwen2_moe", "Qwen2MoeConfig", "Qwen2MoeForCausalLM", **MOE, shared_expert_intermediate_size=20,
        num_hidden_layers=3, mlp_only_layers=[1], use_sliding_window=True, sliding_window=6, max_window_layers=1)
decoder("qwen2_moe_norm", "Qwen2MoeConfig", "Qwen2MoeForCausalLM", **MOE, shared_expert_intermediate_size=20,
        num_hidden_layers=4, decoder_sparse_step=2, norm_topk_prob=True, qkv_bias=False, tie_word_embeddings=True)
decoder("qwen3_moe", "Qwen3MoeConfig", "Qwen3MoeForCausalLM", **MOE, head_dim=12, norm_topk_prob=True)
decoder("qwen3_moe_slides", "Qwen3MoeConfig", "Qwen3MoeForCausalLM", **MOE, head_dim=8, num_hidden_layers=3,
        decoder_sparse_step=2, attention_bias=True, use_sliding_window=True, sliding_window=5,
        tie_word_embeddings=True, hidden_act="gelu")
OSS = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=3, head_dim=12, sliding_window=5,
           num_local_experts=5, num_experts_per_tok=2)
decoder("gpt_oss", "GptOssConfig", "GptOssForCausalLM", **OSS, rope_parameters=None)["packed"] = True
decoder("gpt_oss_odd", "GptOssConfig", "GptOssForCausalLM", **{**OSS, "intermediate_size": 20, "head_dim": 8},
        attention_bias=False, tie_word_embeddings=True, num_key_value_heads=4, swiglu_limit=0.8, swiglu_alpha=1.1,
        rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0},
        layer_types=["full_attention", "sliding_attention", "sliding_attention"])
decoder("gpt_oss_wide", "GptOssConfig", "GptOssForCausalLM", **{**OSS, "num_hidden_layers": 2, "hidden_size": 64},
        num_key_value_heads=1, rope_parameters={"rope_type": "yarn", "factor": 8.0, "rope_theta": 3000.0,
                                                "original_max_position_embeddings": 16, "truncate": True})
MLA = dict(num_key_value_heads=4, q_lora_rank=12, kv_lora_rank=10, qk_nope_head_dim=6, qk_rope_head_dim=4,
           v_head_dim=9, num_hidden_layers=3, num_experts_per_tok=3, moe_intermediate_size=12)


def stretched(**more):
    return {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 32, **more}


decoder("deepseek_v2", "DeepseekV2Config", "DeepseekV2ForCausalLM", **{**MLA, "q_lora_rank": None},
        n_routed_experts=6, n_shared_experts=2, first_k_dense_replace=1, routed_scaling_factor=1.7)
decoder("deepseek_v2_groups", "DeepseekV2Config", "DeepseekV2ForCausalLM", **MLA, n_routed_experts=9,
        n_shared_experts=1, first_k_dense_replace=1, topk_method="group_limited_greedy", n_group=3, topk_group=2,
        attention_bias=True, mlp_bias=True, tie_word_embeddings=True, hidden_act="gelu",
        rope_parameters=stretched(mscale=0.7, mscale_all_dim=0.9))
decoder("deepseek_v3", "DeepseekV3Config", "DeepseekV3ForCausalLM", **MLA, n_routed_experts=8, n_group=4,
        topk_group=2, first_k_dense_replace=1, routed_scaling_factor=2.5,
        rope_parameters=stretched(mscale=1.0, mscale_all_dim=1.0))
decoder("deepseek_v3_apart", "DeepseekV3Config", "DeepseekV3ForCausalLM", **{**MLA, "q_lora_rank": None,
        "v_head_dim": 12}, n_routed_experts=6, n_group=2, topk_group=2, first_k_dense_replace=0, n_shared_experts=2,
        norm_topk_prob=False, rope_interleave=False, attention_bias=True, tie_word_embeddings=True)
decoder("deepseek_v3_part", "DeepseekV3Config", "DeepseekV3ForCausalLM", **{**MLA, "qk_rope_head_dim": 6},
        n_routed_experts=6, n_group=1, topk_group=1, first_k_dense_replace=2, routed_scaling_factor=1.0,
        rope_parameters=stretched(mscale_all_dim=0.5))

# Encoders.
ENCODER = dict(vocab_size=136, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
               max_position_embeddings=64, layer_norm_eps=1e-4)


def encoder(name, config, model, tokenizer="deberta_v2", **set_):
    return text(name, config, model, tokenizer, **{**ENCODER, **set_})


encoder("albert", "AlbertConfig", "AlbertForMaskedLM", embedding_size=20, num_hidden_layers=3)
encoder("albert_groups", "AlbertConfig", "AlbertForPreTraining", embedding_size=16, num_hidden_layers=4,
        num_hidden_groups=2, inner_group_num=2, hidden_act="gelu")
encoder("albert_model", "AlbertConfig", "AlbertModel", embedding_size=16, type_vocab_size=3)
encoder("albert_labels", "AlbertConfig", "AlbertForSequenceClassification", embedding_size=16, num_labels=3)
encoder("electra", "ElectraConfig", "ElectraForPreTraining", embedding_size=20)
encoder("electra_mlm", "ElectraConfig", "ElectraForMaskedLM", embedding_size=20, hidden_act="gelu_new")
encoder("electra_same", "ElectraConfig", "ElectraForSequenceClassification", embedding_size=32, hidden_act="relu",
        num_labels=3)
encoder("electra_model", "ElectraConfig", "ElectraModel", embedding_size=16)
MODERN = dict(vocab_size=136, hidden_size=32, intermediate_size=40, num_attention_heads=4, max_position_embeddings=64,
              norm_eps=1e-4, pad_token_id=0, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2)
text("modernbert", "ModernBertConfig", "ModernBertForMaskedLM", "deberta_v2", **MODERN, num_hidden_layers=4,
     local_attention=8)
text("modernbert_bias", "ModernBertConfig", "ModernBertForMaskedLM", "deberta_v2", **MODERN, num_hidden_layers=3,
     local_attention=6, norm_bias=True, attention_bias=True, mlp_bias=True, decoder_bias=False, classifier_bias=True,
     layer_types=["sliding_attention", "full_attention", "sliding_attention"], hidden_activation="silu",
     classifier_activation="relu", tie_word_embeddings=False)
text("modernbert_mean", "ModernBertConfig", "ModernBertForSequenceClassification", "deberta_v2", **MODERN,
     num_hidden_layers=3, local_attention=5, classifier_pooling="mean", num_labels=3,
     rope_parameters={"full_attention": plain(30000.0), "sliding_attention": plain(500.0)})
text("modernbert_model", "ModernBertConfig", "ModernBertModel", "deberta_v2", **MODERN, num_hidden_layers=3,
     local_attention=8)
MP = dict(vocab_size=512, bos_token_id=0, eos_token_id=2, pad_token_id=1)
encoder("mpnet", "MPNetConfig", "MPNetForMaskedLM", "roberta", **MP)
encoder("mpnet_model", "MPNetConfig", "MPNetModel", "roberta", **MP, relative_attention_num_buckets=40,
        hidden_act="relu")
encoder("mpnet_labels", "MPNetConfig", "MPNetForSequenceClassification", "roberta", **MP, num_labels=3)
T5 = dict(vocab_size=136, d_model=32, d_kv=8, d_ff=40, num_layers=2, num_heads=3, layer_norm_epsilon=1e-4,
          relative_attention_num_buckets=8, relative_attention_max_distance=12)
text("t5", "T5Config", "T5EncoderModel", "deberta_v2", **T5)
text("t5_gated", "T5Config", "T5EncoderModel", "deberta_v2", **{**T5, "num_layers": 3,
     "feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 32, "relative_attention_max_distance": 20})
text("t5_silu", "T5Config", "T5EncoderModel", "deberta_v2", **{**T5, "feed_forward_proj": "gated-silu"})

# Pictures.
MEANS = dict(image_mean=[0.5, 0.4, 0.45], image_std=[0.25, 0.3, 0.28])


def image(name, config, model, processor, picture, processor_set, **set_):
    SPECS[name] = {"config": config, "model": model, "processor": (processor, None), "picture": picture,
                   "processor_set": {**MEANS, **processor_set}, "set": set_}
    return SPECS[name]


TOWER = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
BEIT = dict(TOWER, image_size=24, patch_size=6, layer_norm_eps=1e-4)
BEIT_IN = dict(size={"height": 24, "width": 24}, do_center_crop=False, crop_size={"height": 24, "width": 24})
image("beit", "BeitConfig", "BeitForImageClassification", "BeitImageProcessorPil", (37, 29), BEIT_IN, **BEIT,
      use_relative_position_bias=True, num_labels=4)
image("beit_shared", "BeitConfig", "BeitForImageClassification", "BeitImageProcessorPil", (20, 33), BEIT_IN, **BEIT,
      use_shared_relative_position_bias=True, use_absolute_position_embeddings=True, use_mean_pooling=False,
      num_labels=3, layer_scale_init_value=0.0)
image("beit_model", "BeitConfig", "BeitModel", "BeitImageProcessorPil", (24, 24), BEIT_IN, **BEIT,
      use_absolute_position_embeddings=True, hidden_act="relu", use_mask_token=True)


# Where something is added to scores, the program's queries and keys hold it, too, and are not written out.
for name in ("beit", "beit_shared", "t5", "t5_gated", "t5_silu"):
    SPECS[name]["drop"] = [r"[qk]_\d+"]


def vlm(name, config, model, processor, picture, processor_set, text, tokenizer, **more):
    SPECS[name] = {"config": config, "model": model, "processor": processor, "picture": picture, "text": text,
                   "processor_set": {**MEANS, **processor_set}, "tokenizer": tokenizer, "greedy": True, **more}
    return SPECS[name]


GEMMA = dict(DECODER, head_dim=8, intermediate_size=40, query_pre_attn_scalar=6)
SIG = dict(TOWER, image_size=24, patch_size=6, layer_norm_eps=1e-4)


def gemma3(text_set, vision_set, **more):
    return lambda t: t.Gemma3Config(text_config=t.Gemma3TextConfig(**{**GEMMA, "vocab_size": 139, **text_set}),
                                    vision_config=t.SiglipVisionConfig(**{**SIG, **vision_set, "vision_use_head": False}),
                                    mm_tokens_per_image=4, boi_token_index=136, eoi_token_index=137,
                                    image_token_index=138, image_token_id=138, **more)


G3 = dict(tokenizer="mixtral", add=["<start_of_image>", "<end_of_image>", "<image_soft_token>"],
          tokenizer_set=dict(boi_token="<start_of_image>", eoi_token="<end_of_image>",
                             image_token="<image_soft_token>"),
          processor_config={"image_seq_length": 4})
G3P = ("Gemma3ImageProcessorPil", lambda t, i, tok: t.Gemma3Processor(i, tok, image_seq_length=4))
vlm("gemma3", gemma3(dict(num_hidden_layers=3, sliding_window=7, rope_parameters={
        "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 60000.0},
        "sliding_attention": plain(900.0)},
        layer_types=["sliding_attention", "full_attention", "sliding_attention"]), {}),
    "Gemma3ForConditionalGeneration", G3P, (37, 29), dict(size={"height": 24, "width": 24}),
    "Look: <start_of_image> a train?", **G3)
vlm("gemma3_caps", gemma3(dict(num_hidden_layers=2, sliding_window=4, attention_bias=True,
        final_logit_softcapping=3.0, attn_logit_softcapping=5.0, hidden_activation="gelu"),
        dict(hidden_act="quick_gelu", image_size=36)), "Gemma3ForConditionalGeneration", G3P, (20, 50),
    dict(size={"height": 36, "width": 36}), "<start_of_image>x", **G3)


def pali(text, vision_set, **more):
    return lambda t: t.PaliGemmaConfig(text_config=text(t), vision_config=t.SiglipVisionConfig(
        **{**SIG, "projection_dim": 16, "vision_use_head": False, **vision_set}), image_token_index=136,
        image_token_id=136, projection_dim=16, hidden_size=16, **more)


PALI = dict(tokenizer="mixtral", add=["<image>"], tokenizer_set=dict(image_token="<image>"))
PP = ("SiglipImageProcessorPil", lambda t, i, tok: t.PaliGemmaProcessor(i, tok))
PV = 136 + 1 + 1024 + 128
GEM = {**DECODER, "hidden_size": 16, "intermediate_size": 24, "head_dim": 8, "vocab_size": PV,
       "rope_parameters": plain()}
vlm("paligemma", pali(lambda t: t.GemmaConfig(**GEM), {}), "PaliGemmaForConditionalGeneration", PP, (37, 29),
    dict(size={"height": 24, "width": 24}), "<image>caption it", processor_attributes={"image_seq_length": 16}, **PALI)
vlm("paligemma_2", pali(lambda t: t.Gemma2Config(**GEM, query_pre_attn_scalar=6, sliding_window=6), {}),
    "PaliGemmaForConditionalGeneration", PP, (20, 31), dict(size={"height": 24, "width": 24}), "<image>x, y",
    processor_attributes={"image_seq_length": 16}, **PALI)

Q3T = dict(vocab_size=136, hidden_size=32, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4,
           num_key_value_heads=2, head_dim=16, max_position_embeddings=128, rms_norm_eps=1e-4, bos_token_id=128,
           eos_token_id=130, rope_parameters={"rope_type": "default", "rope_theta": 50000.0,
                                              "mrope_section": [3, 3, 2], "mrope_interleaved": True})
Q3V = dict(depth=3, hidden_size=16, intermediate_size=24, num_heads=2, patch_size=5, spatial_merge_size=2,
           temporal_patch_size=2, out_hidden_size=32, num_position_embeddings=16, deepstack_visual_indexes=[0, 2])
Q3IDS = dict(image_token_id=134, video_token_id=135, vision_start_token_id=131, vision_end_token_id=132)
Q3P = ("Qwen2VLImageProcessorPil", lambda t, i, tok: t.Qwen3VLProcessor(
    i, tok, video_processor=t.Qwen3VLVideoProcessor(patch_size=5)))
Q3IN = dict(patch_size=5, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 400, "longest_edge": 3000})
Q3TEXT = "<|im_start|>user\nA train?<|vision_start|><|image_pad|><|vision_end|><|im_end|>\n"
vlm("qwen3_vl", lambda t: t.Qwen3VLConfig(text_config=Q3T, vision_config=Q3V, **Q3IDS),
    "Qwen3VLForConditionalGeneration", Q3P, (41, 22), Q3IN, Q3TEXT, "qwen2_5_vl")
vlm("qwen3_vl_bias", lambda t: t.Qwen3VLConfig(text_config={**Q3T, "attention_bias": True, "num_hidden_layers": 2,
    "rope_parameters": {**Q3T["rope_parameters"], "mrope_section": [4, 2, 2]}},
    vision_config={**Q3V, "deepstack_visual_indexes": [1], "hidden_act": "gelu", "num_position_embeddings": 25},
    tie_word_embeddings=True, **Q3IDS), "Qwen3VLForConditionalGeneration", Q3P, (31, 64), Q3IN, Q3TEXT, "qwen2_5_vl")
vlm("qwen3_vl_moe", lambda t: t.Qwen3VLMoeConfig(text_config={**Q3T, "num_experts": 6, "num_experts_per_tok": 2,
    "moe_intermediate_size": 12, "decoder_sparse_step": 1, "mlp_only_layers": [1]}, vision_config=Q3V, **Q3IDS),
    "Qwen3VLMoeForConditionalGeneration", Q3P, (41, 22), Q3IN, Q3TEXT, "qwen2_5_vl", chosen=2)

OVT = dict(DECODER, vocab_size=137, rope_parameters=plain())
OVIN = dict(size={"height": 20, "width": 20}, image_grid_pinpoints=[[20, 40], [40, 20], [40, 40]])


def onevision(text_set, vision_set, **more):
    return lambda t: t.LlavaOnevisionConfig(text_config=t.Qwen2Config(**{**OVT, **text_set}),
        vision_config=t.SiglipVisionConfig(**{**SIG, "image_size": 20, "patch_size": 5, "vision_use_head": False,
                                             **vision_set}),
        image_token_id=134, image_token_index=134, video_token_id=135, video_token_index=135,
        vision_feature_layer=-1, image_grid_pinpoints=[[20, 40], [40, 20], [40, 40]], **more)


def ovp(aspect):
    return ("LlavaOnevisionImageProcessorPil", lambda t, i, tok: t.LlavaOnevisionProcessor(
        i, tok, video_processor=t.LlavaOnevisionVideoProcessor(), num_image_tokens=16,
        vision_feature_select_strategy="full", image_token="<|image_pad|>", video_token="<|video_pad|>",
        vision_aspect_ratio=aspect))


OVCFG = {"num_image_tokens": 16, "vision_feature_select_strategy": "full", "image_token": "<|image_pad|>",
         "video_token": "<|video_pad|>"}
vlm("llava_onevision", onevision({}, {}, vision_aspect_ratio="anyres_max_9"), "LlavaOnevisionForConditionalGeneration",
    ovp("anyres_max_9"), (50, 36), OVIN, "<|im_start|>user <|image_pad|>\nA train?<|im_end|>\n", "qwen2_5_vl",
    processor_config={**OVCFG, "vision_aspect_ratio": "anyres_max_9"})
vlm("llava_onevision_max", onevision({"tie_word_embeddings": True}, {"hidden_act": "gelu"},
    vision_aspect_ratio="anyres_max_2", vision_feature_select_strategy="full", projector_hidden_act="relu",
    tie_word_embeddings=True), "LlavaOnevisionForConditionalGeneration", ovp("anyres_max_2"), (45, 40), OVIN,
    "<|im_start|>user <|image_pad|>\nA train?<|im_end|>\n", "qwen2_5_vl",
    processor_config={**OVCFG, "vision_aspect_ratio": "anyres_max_2"})

DINO3 = dict(TOWER, image_size=24, patch_size=6, layer_norm_eps=1e-4)
DINO3_IN = dict(size={"height": 24, "width": 30})
image("dinov3_vit", "DINOv3ViTConfig", "DINOv3ViTModel", "DINOv3ViTImageProcessor", (37, 29), DINO3_IN, **DINO3,
      num_register_tokens=2, use_gated_mlp=True, hidden_act="silu", key_bias=True)
image("dinov3_vit_plain", "DINOv3ViTConfig", "DINOv3ViTModel", "DINOv3ViTImageProcessor", (20, 31),
      dict(size={"height": 37, "width": 24}), **{**DINO3, "patch_size": 5, "num_hidden_layers": 3}, rope_theta=30.0,
      query_bias=False, value_bias=False, proj_bias=False, mlp_bias=False)

# Windows that shift, patches that merge: grids that no window divides and odd ones, pixels that no patch divides.
SWIN = dict(embed_dim=8, num_channels=3, layer_norm_eps=1e-4)
SWIN_IN = dict(size={"height": 18, "width": 18})
image("swin", "SwinConfig", "SwinForImageClassification", "ViTImageProcessorPil", (37, 29), SWIN_IN, **SWIN,
      image_size=18, patch_size=2, depths=[2, 3], num_heads=[2, 4], window_size=3, num_labels=4)
image("swin_odd", "SwinConfig", "SwinModel", "ViTImageProcessorPil", (20, 33),
      dict(size={"height": 21, "width": 27}), **SWIN, image_size=24, patch_size=3, depths=[2, 2, 1],
      num_heads=[2, 1, 4], window_size=2, mlp_ratio=1.5, hidden_act="relu", qkv_bias=False)
image("swin_pads", "SwinConfig", "SwinForImageClassification", "ViTImageProcessorPil", (31, 20),
      dict(size={"height": 22, "width": 33}), **{**SWIN, "embed_dim": 12}, image_size=24, patch_size=3, depths=[2, 2],
      num_heads=[3, 2], window_size=4, num_labels=3, mlp_ratio=2.0)
image("swin_codes", "SwinConfig", "SwinForMaskedImageModeling", "ViTImageProcessorPil", (24, 24),
      dict(size={"height": 16, "width": 16}), **SWIN, image_size=16, patch_size=2, depths=[1, 2], num_heads=[2, 2], window_size=3, encoder_stride=4,
      use_absolute_embeddings=True)
image("swinv2", "Swinv2Config", "Swinv2ForImageClassification", "ViTImageProcessorPil", (37, 29), SWIN_IN, **SWIN,
      image_size=18, patch_size=2, depths=[2, 3], num_heads=[2, 4], window_size=3, num_labels=4)
image("swinv2_pads", "Swinv2Config", "Swinv2Model", "ViTImageProcessorPil", (31, 20),
      dict(size={"height": 22, "width": 33}), **SWIN, image_size=24, patch_size=3, depths=[2, 2, 2], num_heads=[2, 2, 4],
      window_size=3, pretrained_window_sizes=[2, 2, 3], use_absolute_embeddings=False, qkv_bias=False)
# What is added to scores stands in the program's queries and keys.
for name in ("swin", "swin_odd", "swin_pads", "swin_codes", "swinv2", "swinv2_pads"):
    SPECS[name]["drop"] = [r"[qkv]_\d+"]

# Pictures in their own shape, as lists that are filled up.
S2V = dict(TOWER, num_patches=16, patch_size=4, layer_norm_eps=1e-4)
S2T = dict(vocab_size=136, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
           max_position_embeddings=12, layer_norm_eps=1e-4, bos_token_id=1, eos_token_id=2, pad_token_id=0)


def naflex(name, model, picture, config, processor_set, **more):
    SPECS[name] = {"config": config, "model": model, "picture": picture, "processor_set": {**MEANS, **processor_set},
                   "processor": ("Siglip2ImageProcessorPil", None), **more}
    return SPECS[name]


def siglip2(text_set, vision_set):
    return lambda t: t.Siglip2Config(text_config={**S2T, **text_set}, vision_config={**S2V, **vision_set})


naflex("siglip2", "Siglip2Model", (41, 22), siglip2({}, {}), dict(patch_size=4, max_num_patches=20),
       processor=("Siglip2ImageProcessorPil", lambda t, i, tok: t.Siglip2Processor(i, tok)), text="a train",
       tokenizer="deberta_v2", fill=12, call=dict(patch_size=4, max_num_patches=20))
naflex("siglip2_tall", "Siglip2VisionModel", (19, 50),
       lambda t: t.Siglip2VisionConfig(**{**S2V, "num_patches": 25, "patch_size": 3, "hidden_act": "relu"}),
       dict(patch_size=3, max_num_patches=11, resample=3))
naflex("siglip2_labels", "Siglip2ForImageClassification", (30, 30), lambda t: t.Siglip2Config(text_config=S2T,
       vision_config={**S2V, "vision_use_head": False}, num_labels=3), dict(patch_size=4, max_num_patches=16))
naflex("siglip2_large", "Siglip2VisionModel", (60, 33), lambda t: t.Siglip2VisionConfig(**{**S2V,
       "vision_use_head": False, "num_patches": 4}), dict(patch_size=4, max_num_patches=40))

# Selective state spaces.
MAMBA = dict(vocab_size=136, hidden_size=24, state_size=5, num_hidden_layers=3, layer_norm_epsilon=1e-4)
text("mamba", "MambaConfig", "MambaForCausalLM", **MAMBA)
text("mamba_odd", "MambaConfig", "MambaForCausalLM", **{**MAMBA, "hidden_size": 20, "num_hidden_layers": 2}, expand=3,
     conv_kernel=3, use_bias=True, use_conv_bias=False, time_step_rank=4, tie_word_embeddings=False,
     residual_in_fp32=False, hidden_act="gelu")
text("mamba_model", "MambaConfig", "MambaModel", **{**MAMBA, "state_size": 1}, conv_kernel=2)
MAMBA2 = dict(MAMBA, num_heads=6, head_dim=8, n_groups=2, chunk_size=8)
text("mamba2", "Mamba2Config", "Mamba2ForCausalLM", **MAMBA2)
text("mamba2_odd", "Mamba2Config", "Mamba2ForCausalLM", **{**MAMBA2, "num_heads": 3, "head_dim": 20, "n_groups": 3,
     "hidden_size": 20}, expand=3, conv_kernel=3, use_bias=True, use_conv_bias=False, tie_word_embeddings=True,
     time_step_limit=[0.2, 0.9])["greedy"] = False  # The library's own steps with a cache know no limit.

# Settings that a mistake was found with.
decoder("llama_partial", "LlamaConfig", "LlamaForCausalLM", rope_parameters=plain(10000.0, partial_rotary_factor=0.5))
decoder("gemma3_both", "Gemma3TextConfig", "Gemma3TextModel", head_dim=8, query_pre_attn_scalar=5, sliding_window=16,
        num_hidden_layers=3, use_bidirectional_attention=True,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={"full_attention": plain(5000.0), "sliding_attention": plain(300.0)})
vlm("internvl_tied", lambda t: t.InternVLConfig(
    text_config=t.Qwen2Config(**{**DECODER, "bos_token_id": 128, "eos_token_id": 130, "rope_parameters": plain()}),
    vision_config={**TOWER, "image_size": [20, 20], "patch_size": [5, 5], "layer_norm_eps": 1e-4, "attention_bias": True,
                   "norm_type": "layer_norm", "use_qk_norm": False, "use_mean_pooling": False,
                   "use_absolute_position_embeddings": True},
    image_token_id=134, image_seq_length=4, projector_hidden_act="relu"), "InternVLForConditionalGeneration",
    ("GotOcr2ImageProcessorPil", lambda t, i, tok: t.InternVLProcessor(
        i, tok, video_processor=t.InternVLVideoProcessor(), image_seq_length=4)), (41, 20),
    dict(size={"height": 20, "width": 20}, crop_to_patches=True, min_patches=1, max_patches=2),
    "<|im_start|>user\n<IMG_CONTEXT>\nA train?<|im_end|>\n", "internvl", processor_config={"image_seq_length": 4})

# Heads.
text("modernbert_qa", "ModernBertConfig", "ModernBertForQuestionAnswering", "deberta_v2", **MODERN, num_hidden_layers=3,
     local_attention=1)
encoder("electra_decoder", "ElectraConfig", "ElectraForCausalLM", embedding_size=16, is_decoder=True)
decoder("llama_qa", "LlamaConfig", "LlamaForQuestionAnswering")
decoder("qwen2_tokens", "Qwen2Config", "Qwen2ForTokenClassification", num_labels=3)
image("beit_codes", "BeitConfig", "BeitForMaskedImageModeling", "BeitImageProcessorPil", (30, 24), BEIT_IN, **BEIT,
      use_shared_relative_position_bias=True, use_mask_token=True, vocab_size=20)["drop"] = [r"[qk]_\d+"]


# Several pictures in one prompt. The tower's rows of all of them are one list or one batch in transformers.
TOWERS = dict(drop=[r"vision_.*"])


def several(name, of, pictures, text, **more):
    SPECS[name] = {**SPECS[of], "pictures": pictures, "text": text, **TOWERS, **more}


several("several_gemma3", "gemma3", [(37, 29), (20, 44)], "<start_of_image> and <start_of_image>: a train?", nested=True)
several("several_qwen3_vl", "qwen3_vl", [(41, 22), (20, 52)],
        "<|im_start|>user\n1:<|vision_start|><|image_pad|><|vision_end|>2:<|vision_start|><|image_pad|><|vision_end|>A "
        "train?<|im_end|>\n")
several("several_llava_onevision", "llava_onevision", [(50, 36), (24, 20)],
        "<|im_start|>user <|image_pad|>\n<|image_pad|>\nA train?<|im_end|>\n", nested=True)
several("several_internvl", "internvl_tied", [(41, 20), (20, 20), (20, 39)],
        "<|im_start|>user\n<IMG_CONTEXT>\n<IMG_CONTEXT> and <IMG_CONTEXT>\nA train?<|im_end|>\n")
several("several_paligemma", "paligemma", [(37, 29), (24, 24)], "<image><image>caption both", nested=True)
Q25T = dict(vocab_size=136, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-4, bos_token_id=128, eos_token_id=130,
            rope_parameters={"rope_type": "default", "rope_theta": 50000.0, "mrope_section": [2, 1, 1]})
Q25V = dict(depth=3, hidden_size=16, intermediate_size=24, num_heads=2, patch_size=5, spatial_merge_size=2,
            temporal_patch_size=2, out_hidden_size=32, window_size=20, fullatt_block_indexes=[1])
vlm("several_qwen2_5_vl", lambda t: t.Qwen2_5_VLConfig(text_config=Q25T, vision_config=Q25V, **Q3IDS),
    "Qwen2_5_VLForConditionalGeneration", ("Qwen2VLImageProcessorPil", lambda t, i, tok: t.Qwen2_5_VLProcessor(
        i, tok, video_processor=t.Qwen2VLVideoProcessor(patch_size=5))), (41, 22), Q3IN,
    SPECS["several_qwen3_vl"]["text"], "qwen2_5_vl", pictures=[(62, 22), (30, 41)], **TOWERS)
NEXT = dict(size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20},
            image_grid_pinpoints=[[20, 40], [40, 20], [40, 40]])
vlm("several_llava_next", lambda t: t.LlavaNextConfig(text_config=t.Qwen2Config(**OVT),
    vision_config=t.CLIPVisionConfig(**{**TOWER, "image_size": 20, "patch_size": 5, "layer_norm_eps": 1e-4}),
    image_token_index=134, image_token_id=134, image_grid_pinpoints=NEXT["image_grid_pinpoints"]),
    "LlavaNextForConditionalGeneration", ("LlavaNextImageProcessorPil", lambda t, i, tok: t.LlavaNextProcessor(
        i, tok, patch_size=5, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        image_token="<|image_pad|>")), (50, 36), NEXT, "<|im_start|>user <|image_pad|>\n<|image_pad|> A train?<|im_end|>\n",
    "qwen2_5_vl", pictures=[(50, 36), (21, 47)], **TOWERS, processor_config={
        "patch_size": 5, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1,
        "image_token": "<|image_pad|>"})
SMOLT = {**DECODER, "vocab_size": 600, "pad_token_id": 2, "max_position_embeddings": 256, "rope_parameters": plain()}
SMOLV = dict(TOWER, image_size=20, patch_size=5, layer_norm_eps=1e-4)


def idefics(kind, **more):
    """SmolVLM or Idefics3 with tiles of 20 pixels, each of which becomes four tokens."""
    return dict(
        config=lambda t: getattr(t, kind + "Config")(text_config=t.LlamaConfig(**SMOLT), vision_config=SMOLV, scale_factor=2,
                                                     image_token_id=590, pad_token_id=2, **more),
        model=kind + "ForConditionalGeneration", tokenizer="smolvlm", nested=True, processor_config={"image_seq_len": 4})


def smol_processor(t, images, tok):
    import transformers.models.smolvlm.processing_smolvlm as own
    # Only videos are counted in words.
    own.num2words = own.num2words or str
    return own.SmolVLMProcessor(images, tok, t.SmolVLMVideoProcessor(), image_seq_len=4)


SMOL_IN = dict(size={"longest_edge": 40}, max_image_size={"longest_edge": 20})
vlm("several_smolvlm", processor=("SmolVLMImageProcessorPil", smol_processor), picture=(50, 33), processor_set=SMOL_IN,
    text="<|im_start|>User:<image>and<image>, or <image>?<end_of_utterance>\nAssistant:",
    pictures=[(50, 33), (17, 17), (20, 64)], **idefics("SmolVLM"), **TOWERS)
vlm("several_idefics3", processor=("Idefics3ImageProcessorPil", lambda t, i, tok: t.Idefics3Processor(
        i, tok, image_seq_len=4)), picture=(64, 20), processor_set=SMOL_IN,
    text="<|im_start|>User:<image><image>Which one?<end_of_utterance>\nAssistant:", pictures=[(64, 20), (25, 41)],
    **idefics("Idefics3", tie_word_embeddings=True), **TOWERS)
vlm("several_llava", lambda t: t.LlavaConfig(
    text_config=t.LlamaConfig(**{**DECODER, "vocab_size": 600, "rope_parameters": plain()}),
    vision_config=t.CLIPVisionConfig(**{**TOWER, "num_hidden_layers": 3, "image_size": 20, "patch_size": 5,
                                        "layer_norm_eps": 1e-4}), image_token_index=598, image_token_id=598),
    "LlavaForConditionalGeneration", ("CLIPImageProcessorPil", lambda t, i, tok: t.LlavaProcessor(
        i, tok, patch_size=5, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        image_token="<image>")), (50, 36), dict(size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20}),
    "USER: <image>\nand <image> or<image>: which train? ASSISTANT:", "llava", pictures=[(50, 36), (20, 20), (21, 47)],
    **TOWERS, processor_config={"patch_size": 5, "vision_feature_select_strategy": "default",
                                "num_additional_image_tokens": 1, "image_token": "<image>"})

# A list of layers that is in no order, with layers that are not there and one twice.
LITTLE = [r"(vision_)?[qkv]_\d+", r"vision_attentions_\d+"]
Q3T2 = {**Q3T, "hidden_size": 16, "intermediate_size": 20, "num_attention_heads": 2, "num_key_value_heads": 1}
Q3V2 = {**Q3V, "hidden_size": 8, "intermediate_size": 12, "out_hidden_size": 16, "num_heads": 1}
vlm("qwen3_vl_order", lambda t: t.Qwen3VLConfig(text_config=Q3T2, vision_config={**Q3V2,
    "deepstack_visual_indexes": [2, 0, 7, 0]}, **Q3IDS), "Qwen3VLForConditionalGeneration", Q3P, (30, 22), Q3IN, Q3TEXT,
    "qwen2_5_vl", drop=LITTLE, greedy=False)
vlm("qwen3_vl_moe_order", lambda t: t.Qwen3VLMoeConfig(text_config={**Q3T2, "num_hidden_layers": 2, "num_experts": 4,
    "num_experts_per_tok": 2, "moe_intermediate_size": 8}, vision_config={**Q3V2, "deepstack_visual_indexes": [1, 0]},
    **Q3IDS), "Qwen3VLMoeForConditionalGeneration", Q3P, (30, 22), Q3IN, Q3TEXT, "qwen2_5_vl", chosen=2, drop=LITTLE,
    greedy=False)
# A window that is shorter than the picture's tokens.
GEM2 = dict(hidden_size=16, intermediate_size=20, num_attention_heads=2, num_key_value_heads=1)
vlm("gemma3_short", gemma3(dict(GEM2, num_hidden_layers=2, sliding_window=3,
        layer_types=["sliding_attention", "full_attention"]), dict(hidden_size=8, num_hidden_layers=1)),
    "Gemma3ForConditionalGeneration", G3P, (37, 29), dict(size={"height": 24, "width": 24}),
    "Look: <start_of_image> a train?", drop=LITTLE, **G3)
# Causal models that see both ways, decoders of encoders, activations.
SMALL = dict(hidden_size=16, intermediate_size=20, num_attention_heads=2, num_key_value_heads=1)


def small(name, config, model, **set_):
    spec = decoder(name, config, model, **{**SMALL, **set_})
    spec.update(drop=[r"[qkv]_\d+"], greedy=False)
    return spec


small("gemma3_both_head", "Gemma3TextConfig", "Gemma3ForCausalLM", head_dim=8, query_pre_attn_scalar=5,
      sliding_window=6, use_bidirectional_attention=True, layer_types=["sliding_attention", "full_attention"],
      rope_parameters={"full_attention": plain(5000.0), "sliding_attention": plain(300.0)})
small("mistral_both", "MistralConfig", "MistralForCausalLM", sliding_window=3, is_causal=False, hidden_act="laplace")
ROBERTA = dict(vocab_size=512, bos_token_id=0, eos_token_id=2, pad_token_id=1, is_decoder=True, hidden_size=12,
               intermediate_size=16, num_attention_heads=2, hidden_act="hardswish")
text("roberta_decoder", "RobertaConfig", "RobertaForCausalLM", "roberta", **{**ENCODER, **ROBERTA})[
    "greedy"] = False
text("camembert_decoder", "CamembertConfig", "CamembertForCausalLM", "roberta", **{**ENCODER, **ROBERTA,
     "num_hidden_layers": 1, "tie_word_embeddings": False})["greedy"] = False
image("beit_both", "BeitConfig", "BeitForImageClassification", "BeitImageProcessorPil", (20, 33), BEIT_IN,
      **{**BEIT, "hidden_size": 8, "patch_size": 8}, use_shared_relative_position_bias=True,
      use_relative_position_bias=True, num_labels=3)["drop"] = [r"[qk]_\d+"]


# Decoders of further families, with their own settings set.
NAMES = ["sliding_attention", "full_attention"]
small("arcee", "ArceeConfig", "ArceeForCausalLM", mlp_bias=True)
small("cohere", "CohereConfig", "CohereForCausalLM", layer_norm_eps=1e-4, logit_scale=0.4, use_qk_norm=True,
      attention_bias=True, num_key_value_heads=2, tie_word_embeddings=True, pad_token_id=0)
small("cohere2", "Cohere2Config", "Cohere2ForCausalLM", layer_norm_eps=1e-4, logit_scale=0.3, sliding_window=4,
      layer_types=NAMES, tie_word_embeddings=False, pad_token_id=0)
small("exaone4", "Exaone4Config", "Exaone4ForCausalLM", sliding_window=4, sliding_window_pattern=2)
small("glm", "GlmConfig", "GlmForCausalLM", head_dim=8, rope_parameters=plain(3000.0, partial_rotary_factor=0.5))
small("glm4", "Glm4Config", "Glm4ForCausalLM", head_dim=8, attention_bias=False,
      rope_parameters=plain(3000.0, partial_rotary_factor=0.5))
small("helium", "HeliumConfig", "HeliumForCausalLM", head_dim=8, mlp_bias=False)
small("ministral", "MinistralConfig", "MinistralForCausalLM", head_dim=10, sliding_window=4, layer_types=NAMES)
small("nemotron", "NemotronConfig", "NemotronForCausalLM", norm_eps=1e-4, mlp_bias=True,
      rope_parameters=plain(3000.0, partial_rotary_factor=0.5))
small("olmo", "OlmoConfig", "OlmoForCausalLM", clip_qkv=0.9, pad_token_id=1)
small("olmo3", "Olmo3Config", "Olmo3ForCausalLM", sliding_window=4, layer_types=NAMES, rope_parameters={
    "full_attention": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 3000.0, "original_max_position_embeddings": 16},
    "sliding_attention": plain(500000.0)})
small("seed_oss", "SeedOssConfig", "SeedOssForCausalLM", head_dim=10, attention_out_bias=True)
small("smollm3", "SmolLM3Config", "SmolLM3ForCausalLM", no_rope_layer_interval=2, use_sliding_window=True,
      sliding_window=4, pad_token_id=0)
small("stablelm", "StableLmConfig", "StableLmForCausalLM", layer_norm_eps=1e-4, qk_layernorm=True, use_qkv_bias=True,
      use_parallel_residual=True, num_key_value_heads=2, rope_parameters=plain(3000.0, partial_rotary_factor=0.25))
small("starcoder2", "Starcoder2Config", "Starcoder2ForCausalLM", norm_epsilon=1e-4, sliding_window=4)


def old(name, config, model, **set_):
    """One that has names of its own for its sizes."""
    spec = text(name, config, model, **{"vocab_size": 136, "bos_token_id": 1, "eos_token_id": 2, **set_})
    spec.update(drop=[r"[qkv]_\d+"], greedy=False)


FALCON = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=6, layer_norm_epsilon=1e-4, ffn_hidden_size=20,
              max_position_embeddings=64)
old("falcon", "FalconConfig", "FalconForCausalLM", **FALCON, new_decoder_architecture=True, num_kv_heads=2, bias=True)
old("falcon_alibi", "FalconConfig", "FalconForCausalLM", **FALCON, alibi=True, multi_query=True, parallel_attn=False)
old("falcon_one", "FalconConfig", "FalconForCausalLM", **FALCON, multi_query=False, tie_word_embeddings=False)
BLOOM = dict(hidden_size=24, n_layer=2, n_head=6, layer_norm_epsilon=1e-4)
old("bloom", "BloomConfig", "BloomForCausalLM", **BLOOM)
old("bloom_on_norms", "BloomConfig", "BloomModel", **BLOOM, apply_residual_connection_post_layernorm=True)
GPTJ = dict(n_positions=64, n_embd=16, n_layer=2, n_head=2, rotary_dim=4, n_inner=20, layer_norm_epsilon=1e-4)
old("gptj", "GPTJConfig", "GPTJForCausalLM", **GPTJ)
old("codegen", "CodeGenConfig", "CodeGenForCausalLM", **{**GPTJ, "n_head": 4})
old("mpt", "MptConfig", "MptForCausalLM", d_model=24, n_heads=3, n_layers=2, max_seq_len=64, layer_norm_epsilon=1e-4,
    attn_config=dict(clip_qkv=0.9, softmax_scale=0.5))
old("gpt_neo", "GPTNeoConfig", "GPTNeoForCausalLM", hidden_size=16, num_layers=3, num_heads=2, intermediate_size=20,
    window_size=4, attention_types=[[["global", "local"], 1], [["local"], 1]], max_position_embeddings=64,
    layer_norm_epsilon=1e-4)
old("gpt_bigcode", "GPTBigCodeConfig", "GPTBigCodeForCausalLM", n_embd=16, n_layer=2, n_head=4, n_inner=20,
    n_positions=64, layer_norm_epsilon=1e-4)
old("gpt_bigcode_heads", "GPTBigCodeConfig", "GPTBigCodeForCausalLM", n_embd=16, n_layer=1, n_head=2, n_inner=20,
    n_positions=64, layer_norm_epsilon=1e-4, multi_query=False, scale_attn_weights=False, tie_word_embeddings=False)
text("t5_tokens", "T5Config", "T5ForTokenClassification", "deberta_v2", **{**T5, "d_model": 16, "num_labels": 3})["drop"] = [
    r"[qk]_\d+"]
small("phi3_odd", "Phi3Config", "Phi3ForCausalLM", hidden_size=12, original_max_position_embeddings=128, pad_token_id=0,
      rope_parameters=plain(3000.0, partial_rotary_factor=0.5))
small("olmoe", "OlmoeConfig", "OlmoeForCausalLM", num_experts=4, num_experts_per_tok=2, intermediate_size=8, pad_token_id=0,
      num_attention_heads=4, num_key_value_heads=2)

# Further image towers.
SEEN = dict(TOWER, hidden_size=8, image_size=24, patch_size=8, layer_norm_eps=1e-4)
VIT_IN = dict(size={"height": 24, "width": 24})
image("ijepa", "IJepaConfig", "IJepaForImageClassification", "ViTImageProcessorPil", (37, 29), VIT_IN, **SEEN, num_labels=3)
image("vit_msn", "ViTMSNConfig", "ViTMSNForImageClassification", "ViTImageProcessorPil", (37, 29), VIT_IN, **SEEN,
      num_labels=3)
image("vit_pixels", "ViTConfig", "ViTForMaskedImageModeling", "ViTImageProcessorPil", (37, 29), VIT_IN, **SEEN,
      encoder_stride=8)
image("data2vec_vision", "Data2VecVisionConfig", "Data2VecVisionForImageClassification", "BeitImageProcessorPil",
      (37, 29), BEIT_IN, **SEEN, use_relative_position_bias=True, num_labels=3)["drop"] = [r"[qk]_\d+"]

# What a picture's features are multiplied by, and what the logits are not divided by.
vlm("llava_granite", lambda t: t.LlavaConfig(
    text_config=t.GraniteConfig(**{**DECODER, **SMALL, "vocab_size": 600, "rope_parameters": plain()},
                                embedding_multiplier=3.0, logits_scaling=2.5, residual_multiplier=0.7,
                                attention_multiplier=0.3),
    vision_config=t.CLIPVisionConfig(**{**TOWER, "hidden_size": 8, "image_size": 20, "patch_size": 10,
                                        "layer_norm_eps": 1e-4}), image_token_index=598, image_token_id=598,
    tie_word_embeddings=True), "LlavaForConditionalGeneration",
    ("CLIPImageProcessorPil", lambda t, i, tok: t.LlavaProcessor(
        i, tok, patch_size=10, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        image_token="<image>")), (50, 36), dict(size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20}),
    "USER: <image>\nwhich train? ASSISTANT:", "llava", greedy=False, drop=LITTLE)
vlm("llava_gemma", lambda t: t.LlavaConfig(
    text_config=t.Gemma2Config(**{**DECODER, **SMALL, "vocab_size": 600, "rope_parameters": plain()}, head_dim=8,
                               query_pre_attn_scalar=6, sliding_window=5, final_logit_softcapping=2.0),
    vision_config=t.CLIPVisionConfig(**{**TOWER, "hidden_size": 8, "image_size": 20, "patch_size": 10,
                                        "layer_norm_eps": 1e-4}), image_token_index=598, image_token_id=598,
    tie_word_embeddings=True), "LlavaForConditionalGeneration",
    ("CLIPImageProcessorPil", lambda t, i, tok: t.LlavaProcessor(
        i, tok, patch_size=10, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        image_token="<image>")), (50, 36), dict(size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20}),
    "USER: <image>\nwhich train? ASSISTANT:", "llava", greedy=False, drop=LITTLE)

# Models that choose among answers, of which they are given one.
CHOICE = dict(hidden_size=8, intermediate_size=12, num_attention_heads=2, num_hidden_layers=1)
encoder("bert_choice", "BertConfig", "BertForMultipleChoice", **CHOICE).update(choices=True, drop=[r"[qkv]_\d+"])
encoder("electra_choice", "ElectraConfig", "ElectraForMultipleChoice", **CHOICE, embedding_size=8, summary_type="mean",
        summary_activation="tanh").update(choices=True, drop=[r"[qkv]_\d+"])
