#!/usr/bin/env python3
"""Makes a checkpoint of MAR with random weights, as its authors would save it, and golden.json: what their own code
makes of it, in double precision.

    git clone https://github.com/LTH14/mar
    pip install torch timm==0.9.12 scipy tqdm torchvision
    python3 tests/golden/make_mar.py mar tiny work
    tools/convert-mar work/checkpoint-last.pth work/kl16.ckpt --dtype bf16 --steps 8 --passes 6 --groups 4 \\
        --output tests/golden/mar-tiny
    cp work/golden.json tests/golden/mar-tiny
"""
import contextlib
import json
import math
import os
import pathlib
import sys
import textwrap

import numpy
import torch

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit"))
sys.path.insert(0, sys.argv[1])

import codec_weights  # noqa: E402
from models import mar, vae  # noqa: E402

# Only now: MAR's models is a bare folder, over which models.py of tools/training would win.
sys.path.append(str(ROOT / "tools" / "training"))

from precision import replaced, significant  # noqa: E402

SIZES = {
    "tiny": {"model": {"img_size": 32, "vae_stride": 8, "vae_embed_dim": 4, "encoder_embed_dim": 32, "encoder_depth": 2,
                       "encoder_num_heads": 2, "decoder_embed_dim": 32, "decoder_depth": 3, "decoder_num_heads": 2,
                       "mlp_ratio": 4, "buffer_size": 6, "class_num": 5, "diffloss_d": 2, "diffloss_w": 48,
                       "num_sampling_steps": "8"},
             "vae": {"ch": 8, "ch_mult": (1, 1, 2, 2), "resolution": 128}, "groups": 4, "passes": 6, "columns": 32},
    "base": {"model": {"encoder_embed_dim": 768, "encoder_depth": 12, "encoder_num_heads": 12,
                       "decoder_embed_dim": 768, "decoder_depth": 12, "decoder_num_heads": 12, "mlp_ratio": 4,
                       "diffloss_d": 6, "diffloss_w": 1024, "num_sampling_steps": "25"},
             "vae": {}, "groups": 32, "passes": 4, "columns": 16},
}
CLASS, SCALE, CFG, TEMPERATURE, PROBED = 3, 0.2325, 2.5, 0.875, 3


class Autoencoder(torch.nn.Module):
    """As MAR's, whose own class fixes the width."""

    def __init__(self, width, shape):
        super().__init__()
        with contextlib.redirect_stdout(sys.stderr):
            self.encoder, self.decoder = vae.Encoder(z_channels=width, **shape), vae.Decoder(z_channels=width, **shape)
        self.quant_conv = torch.nn.Conv2d(2 * width, 2 * width, 1)
        self.post_quant_conv = torch.nn.Conv2d(width, width, 1)

    def decode(self, z):
        return self.decoder(self.post_quant_conv(z))


def randomise(model):
    """N(0, 1 / inputs) for matrices, gains 1 + N(0, 0.04), tables N(0, 0.25), all rounded to bfloat16."""
    for name, p in model.named_parameters():
        wide = p.dim() > 1 and not any(word in name for word in ("pos_embed", "class_emb", "latent", "mask_token"))
        if wide:
            p.normal_(0, (p[0].numel()) ** -0.5)
        elif p.dim() > 1:
            p.normal_(0, 0.5)
        elif name.endswith("weight"):
            p.normal_(1, 0.2)
        else:
            p.normal_(0, 0.1)
        p.copy_(p.bfloat16().float())


def noise(position, step, width):
    """Of unit variance, as test_mar.c has it: numbers of a stream a position, row 0 the start."""
    values = codec_weights.philox(1000 + position, numpy.arange((step + 1) * width)) / 2147483648.0 - 1.0
    values = values.astype(numpy.float32).astype(numpy.float64)[step * width:] * math.sqrt(3.0)
    return torch.from_numpy(values.astype(numpy.float32).astype(numpy.float64))


def schedule(total, passes):
    """Tokens that are left before each pass, and after the last."""
    left = [total]
    for step in range(passes):
        left.append(max(1, min(left[-1] - 1, math.floor(total * math.cos(math.pi / 2 * (step + 1) / passes)))))
    return left[:-1] + [0]


def draw(model, order, passes, width):
    """Its own sample_tokens with a given order and noise; and the positions of each pass."""
    taken, scales, calls, left = [], [], [0], schedule(len(order), passes)
    decoder, drawer, dtype = model.forward_mae_decoder, model.diffloss.sample, model.mask_token.dtype

    def conditions(x, mask):
        step = len(taken)
        assert mask[0].nonzero().flatten().tolist() == sorted(order[:left[step]])
        taken.append(sorted(order[left[step + 1]:left[step]]))
        return decoder(x, mask)

    def of_step(step):
        return torch.stack([noise(p, step, width) for p in taken[-1]]).to(dtype)

    def start(n, _):
        calls[0] = 0
        return of_step(0)[:n]

    def each(x):
        calls[0] += 1
        return torch.cat([of_step(calls[0])] * 2)

    def sample(z, temperature, cfg):
        assert len(z) == 2 * len(taken[-1])
        scales.append(float(cfg))
        return drawer(z, temperature, cfg)

    with replaced(model, "sample_orders", lambda _: torch.tensor([order])), \
            replaced(model, "forward_mae_decoder", conditions), replaced(model.diffloss, "sample", sample), \
            replaced(torch, "randn", start), replaced(torch, "randn_like", each):
        tokens = model.sample_tokens(1, passes, CFG, "linear", torch.tensor([CLASS]), TEMPERATURE)
    return tokens[0].permute(1, 2, 0).reshape(len(order), width).double(), taken, scales


def features(model, order, left, positions, width):
    """Conditions of some positions, of the class and without, when `left` tokens are: known ones are those of noise."""
    tokens = torch.stack([noise(p, 0, width) for p in range(len(order))]).to(model.mask_token.dtype)
    mask = torch.zeros(2, len(order), dtype=tokens.dtype)
    mask[:, order[:left]] = 1
    classes = torch.cat([model.class_emb(torch.tensor([CLASS])), model.fake_latent])
    x = model.forward_mae_encoder(tokens.repeat(2, 1, 1), mask, classes)
    return model.forward_mae_decoder(x, mask)[:, positions].flatten(0, 1)


def steps(model, z, positions, cfg, width):
    """Mean and deviation of three steps under conditions z, from given states."""
    diffusion, out = model.diffloss.gen_diffusion, []
    n, count = len(positions), diffusion.num_timesteps
    for k in (0, count // 2, count - 1):
        state = torch.stack([noise(p, 500 + k, width) for p in positions]).to(z.dtype)
        law = diffusion.p_mean_variance(model.diffloss.net.forward_with_cfg, torch.cat([state, state]),
                                        torch.full((2 * n,), count - 1 - k), clip_denoised=False,
                                        model_kwargs={"c": z, "cfg_scale": cfg})
        deviation = TEMPERATURE * torch.exp(0.5 * law["log_variance"][:n]) * (k < count - 1)
        out.append((k, law["mean"][:n].double(), deviation.double()))
    return out


def everything(model, order, passes, width):
    tokens, taken, scales = draw(model, order, passes, width)
    z = features(model, order, schedule(len(order), passes)[PROBED], taken[PROBED], width)
    return {"tokens": tokens, "passes": taken, "scales": scales, "features": z.double(),
            "head": steps(model, z, taken[PROBED], scales[PROBED], width)}


def digits(x):
    return significant(x.flatten().tolist())


def main():
    config, folder = SIZES[sys.argv[2]], sys.argv[3]
    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(11)
    torch.Tensor.cuda = lambda self, *_, **__: self
    vae.Normalize = lambda channels, num_groups=32: torch.nn.GroupNorm(config["groups"], channels, eps=1e-6)
    norm = lambda width: torch.nn.LayerNorm(width, eps=1e-6)  # noqa: E731
    model = mar.MAR(norm_layer=norm, **config["model"]).eval()
    width = config["model"].get("vae_embed_dim", 16)
    coder = Autoencoder(width, config["vae"]).eval()
    with torch.no_grad():
        randomise(model)
        randomise(coder)
        torch.save({"model": {}, "model_ema": model.state_dict(), "epoch": 1}, f"{folder}/checkpoint-last.pth")
        torch.save({"model": coder.state_dict()}, f"{folder}/kl16.ckpt")
        order = torch.randperm(model.seq_len).tolist()
        single = everything(model, order, config["passes"], width)
        with replaced(torch.Tensor, "float", torch.Tensor.double), replaced(torch, "float32", torch.float64):
            torch.set_default_dtype(torch.float64)
            exact = everything(model.double(), order, config["passes"], width)
            torch.set_default_dtype(torch.float32)
        z = exact["tokens"].reshape(1, model.seq_h, model.seq_w, width).permute(0, 3, 1, 2)
        pixels = coder.double().decode(z / z.std() / SCALE)
    out = {"class": CLASS, "cfg_scale": CFG, "temperature": TEMPERATURE, "order": order, "passes": exact["passes"],
           "scales": exact["scales"], "probed": PROBED, "features": digits(exact["features"][:, :config["columns"]]),
           "shown": config["columns"], "tokens": digits(exact["tokens"]), "token_scale": float(z.std()), "head": [],
           "pixels": [round(float(v), 6) for v in pixels[0].permute(1, 2, 0).reshape(-1)[:768]]}
    for name in ("features", "tokens"):
        out[name + "_error"] = float((single[name] - exact[name]).abs().max())
        out[name + "_largest"] = float(exact[name].abs().max())
    for (k, mean, deviation), (_, mean1, deviation1) in zip(exact["head"], single["head"]):
        out["head"].append({"step": k, "mean": digits(mean), "deviation": digits(deviation),
                            "mean_error": float((mean - mean1).abs().max()),
                            "deviation_error": float((deviation - deviation1).abs().max())})
    print({k: v for k, v in out.items() if k.endswith("error") or k.endswith("largest")},
          [(h["step"], h["mean_error"], h["deviation_error"], max(map(abs, h["mean"]))) for h in out["head"]])
    with open(f"{folder}/golden.json", "w", encoding="utf-8") as file:
        file.write(textwrap.fill(json.dumps(out), 118, break_long_words=False) + "\n")


main()
