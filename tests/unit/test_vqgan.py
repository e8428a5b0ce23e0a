#!/usr/bin/env python3
"""Makes test_vqgan.json: what PyTorch draws and reads with the weights that test_vqgan.c makes by formula.

    python3 tests/unit/test_vqgan.py > tests/unit/test_vqgan.json
"""
import json
import pathlib
import sys
import textwrap

import numpy
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools" / "training"))
import models  # noqa: E402

SHAPES = {
    "middle": {"channels": 8, "channel_mult": [1, 2], "blocks_per_level": 1, "attention": "middle", "z_channels": 6,
               "codebook": [40, 4], "group_norm_groups": 4},
    "lowest": {"channels": 16, "channel_mult": [1, 1, 3], "blocks_per_level": 2, "attention": "lowest",
               "z_channels": 12, "codebook": [64, 8], "group_norm_groups": 8},
}
GRID = (4, 5)


def philox(key, counters):
    """First words of Philox4x32-10 for counters {i, 0, 99, 7}."""
    c = [counters.astype(numpy.uint64)] + [numpy.full(counters.shape, n, numpy.uint64) for n in (0, 99, 7)]
    k0, k1, mask = key, 0, numpy.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = numpy.uint64(0xD2511F53) * c[0], numpy.uint64(0xCD9E8D57) * c[2]
        c = [(b >> numpy.uint64(32)) ^ c[1] ^ numpy.uint64(k0), b & mask,
             (a >> numpy.uint64(32)) ^ c[3] ^ numpy.uint64(k1), a & mask]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c[0]


def weight(name, index, shape):
    """The tensor that is index-th by name, as bfloat16 values."""
    v = philox(index, numpy.arange(numpy.prod(shape))) / 2147483648.0 - 1.0
    v = v.astype(numpy.float32).astype(numpy.float64)
    if len(shape) == 4:
        v *= numpy.sqrt(3.0 / numpy.prod(shape[1:]))
    elif len(shape) == 1:
        v = 1.0 + 0.25 * v if "norm" in name and name.endswith("weight") else 0.125 * v
    return torch.from_numpy(v.astype(numpy.float32)).reshape(shape).bfloat16().float()


def main():
    out = {}
    for label, vq in SHAPES.items():
        model = models.Tokenizer(vq).eval()
        state = model.state_dict()
        model.load_state_dict({n: weight(n, i, tuple(state[n].shape)) for i, n in enumerate(sorted(state))})
        tokens = [(7 * i + 3) % vq["codebook"][0] for i in range(GRID[0] * GRID[1])]
        with torch.no_grad():
            pixels = model.decode(torch.tensor([tokens]), GRID)[0]
            grey = torch.round((pixels + 1) * 127.5).clamp(0, 255)
            scores = model.latents(grey[None] / 127.5 - 1) @ model.codes().t()
            best = scores.topk(2, -1)
            margin = float((best.values[..., 0] - best.values[..., 1]).min())
        assert margin > 1e-4, f"{label}: margin {margin} is too small for float32"
        out[label] = {"pixels": [round(float(x), 5) for x in pixels.permute(1, 2, 0).flatten()],
                      "codes": best.indices[..., 0].flatten().tolist(), "margin": margin}
        print(label, margin, float(pixels.std()), float(pixels.min()), float(pixels.max()), file=sys.stderr)
    print(textwrap.fill(json.dumps(out), 118, break_long_words=False))


main()
