#!/usr/bin/env python3
"""Makes test_kl.json: what PyTorch draws and reads with the weights that test_kl.c makes by formula. "levels" is by
MAR's own code, "order" by that of the sample models' training.

    git clone https://github.com/LTH14/mar
    python3 tests/unit/test_kl.py mar > tests/unit/test_kl.json
"""
import contextlib
import importlib.util
import json
import os
import pathlib
import sys
import textwrap

import torch
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools" / "training"))
import codec_weights  # noqa: E402
import models  # noqa: E402

GRID, SCALE = (4, 5), 0.2325
ORDER = {"channels": 16, "channel_mult": [1, 3], "blocks_per_level": 1, "attention": "middle", "z_channels": 6,
         "group_norm_groups": 8}


class Autoencoder(nn.Module):
    def __init__(self, encoder, decoder, z):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.quant_conv, self.post_quant_conv = nn.Conv2d(2 * z, 2 * z, 1), nn.Conv2d(z, z, 1)

    def decode(self, latents):
        return self.decoder(self.post_quant_conv(latents))

    def encode(self, pixels):
        return self.quant_conv(self.encoder(pixels)).chunk(2, 1)[0]


def levels(folder):
    """Attention where the picture is 16 wide, which of three levels of 64 is the last."""
    path = os.path.join(folder, "models", "vae.py")
    spec = importlib.util.spec_from_file_location("vae", path)
    vae = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(vae)
    shape = {"ch": 32, "ch_mult": (1, 1, 2), "z_channels": 4, "resolution": 64}
    with contextlib.redirect_stdout(sys.stderr):
        return Autoencoder(vae.Encoder(**shape), vae.Decoder(**shape), 4), 4


def order():
    z = ORDER["z_channels"]
    return Autoencoder(models.Stack(dict(ORDER, z_channels=2 * z), False), models.Stack(ORDER, True), z), z


def numbers(x):
    return [round(float(v), 6) for v in x[0].permute(1, 2, 0).flatten()]


def main():
    out = {}
    for label, (model, width) in (("levels", levels(sys.argv[1])), ("order", order())):
        codec_weights.fill(model)
        model.eval()
        tokens = codec_weights.philox(77, codec_weights.numpy.arange(GRID[0] * GRID[1] * width)) / 2147483648.0 - 1.0
        tokens = torch.from_numpy(tokens.astype("float32")).reshape(1, *GRID, width).permute(0, 3, 1, 2)
        with torch.no_grad():
            exact = model.double()
            pixels = exact.decode(tokens.double() / SCALE)
            grey = torch.round((pixels + 1) * 127.5).clamp(0, 255)
            latents = SCALE * exact.encode(grey / 127.5 - 1)
            features = exact.encoder(grey / 127.5 - 1).mean((2, 3), keepdim=True)
            single = model.float()
            error = [float((single.decode(tokens / SCALE) - pixels).abs().max()),
                     float((SCALE * single.encode(grey.float() / 127.5 - 1) - latents).abs().max())]
        out[label] = {"pixels": numbers(pixels), "latents": numbers(latents), "features": numbers(features),
                      "pixel_error": error[0], "latent_error": error[1]}
        print(label, error, float(pixels.std()), float(latents.std()), file=sys.stderr)
    print(textwrap.fill(json.dumps(out), 118, break_long_words=False))


main()
