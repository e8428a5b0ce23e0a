#!/usr/bin/env python3
"""Makes test_vqgan.json: what PyTorch draws and reads with the weights that test_vqgan.c makes by formula.

    python3 tests/unit/test_vqgan.py > tests/unit/test_vqgan.json
"""
import json
import pathlib
import sys
import textwrap

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools" / "training"))
import codec_weights  # noqa: E402
import models  # noqa: E402

SHAPES = {
    "middle": {"channels": 8, "channel_mult": [1, 2], "blocks_per_level": 1, "attention": "middle", "z_channels": 6,
               "codebook": [40, 4], "group_norm_groups": 4},
    "lowest": {"channels": 16, "channel_mult": [1, 1, 3], "blocks_per_level": 2, "attention": "lowest",
               "z_channels": 12, "codebook": [64, 8], "group_norm_groups": 8},
}
GRID = (4, 5)


def main():
    out = {}
    for label, vq in SHAPES.items():
        model = models.Tokenizer(vq).eval()
        codec_weights.fill(model)
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
