#!/usr/bin/env python3
"""Writes gguf/types.json beside this file: what the Python package `gguf` reads out of blocks of every type it knows.

The bytes are not stored: both sides make them, as `bytes_of` does. Of the values there is a hash of their bits, and a
few of them to look at.
"""
import json
import os

import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

HERE = os.path.dirname(os.path.abspath(__file__))
BLOCKS = 64
# Bytes that hold exponents of scales: without their upper two bits no value is infinite, and none is NaN.
SMALL = {"Q4_0": [1], "Q4_1": [1, 3], "Q5_0": [1], "Q5_1": [1, 3], "Q8_0": [1], "Q2_K": [81, 83], "Q3_K": [109],
         "Q4_K": [1, 3], "Q5_K": [1, 3], "Q6_K": [209], "TQ1_0": [53], "TQ2_0": [65], "MXFP4": [0], "NVFP4": [],
         "IQ2_XXS": [1], "IQ2_XS": [1], "IQ2_S": [1], "IQ3_XXS": [1], "IQ3_S": [1], "IQ1_S": [1], "IQ1_M": [55],
         "IQ4_NL": [1], "IQ4_XS": [1]}


def bytes_of(seed, size, small):
    state, out = seed, bytearray(BLOCKS * size)
    for i in range(len(out)):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out[i] = (state >> 56) & (63 if i % size in small else 255)
    return bytes(out)


def hash_of(data):
    """FNV-1a, 64 bits."""
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 % 2**64
    return f"{h:016x}"


types = []
for name, small in sorted(SMALL.items(), key=lambda t: int(GGMLQuantizationType[t[0]])):
    kind = GGMLQuantizationType[name]
    values, size = GGML_QUANT_SIZES[kind]
    stored = np.frombuffer(bytes_of(int(kind), size, small), dtype=np.uint8)
    got = quants.dequantize(stored.reshape(1, -1), kind).astype(np.float32).ravel()
    assert np.isfinite(got).all() and len(got) == BLOCKS * values, name
    types.append({"code": int(kind), "name": name, "values": values, "bytes": size, "small": small,
                  "hash": hash_of(got.astype("<f4").tobytes()), "first": [float(x) for x in got[:4]]})
missing = [k.__name__ for k in quants._type_traits.values() if k.__name__ not in SMALL and k.__name__ != "BF16"]
assert not missing, missing
with open(os.path.join(HERE, "gguf", "types.json"), "w") as f:
    about = {"gguf_package": "0.19.0", "blocks": BLOCKS, "types": types}
    f.write(json.dumps(about, indent=1) + "\n")
