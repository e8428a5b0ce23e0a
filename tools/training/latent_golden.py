"""golden.json of a checkpoint with continuous tokens: what PyTorch gives for fixed latents. tests/golden/README.md says
what is in it."""
import json
import os

import numpy
import torch
from torch.nn import functional

import latent_models
import weights
from bpe import Bpe
from precision import double_precision, largest, naive_linear, replaced, significant

PIXELS = 256


def load(folder, config):
    model, autoencoder = latent_models.LatentTransformer(config).eval(), None
    parts = [(model, "model.safetensors")]
    if "kl" in config:
        autoencoder = latent_models.Autoencoder(config["kl"]).eval()
        parts.append((autoencoder, "kl.safetensors"))
    dtype = torch.get_default_dtype()
    for module, name in parts:
        tensors = {key: value.to(dtype) for key, value in weights.load(os.path.join(folder, name)).items()}
        module.load_state_dict(tensors, strict=name != "kl.safetensors")
        module.to(dtype)
    return model, autoencoder


def rounded(tensor):
    """Values that nine digits hold, so that the file and PyTorch have the same floats."""
    return torch.tensor(significant(tensor.flatten().tolist()), dtype=torch.float32).reshape(tensor.shape)


def both_conditions(model, ids, latents):
    """Conditional and unconditional features [2, N, dim] along latents [N, latent]."""
    return model.conditions(torch.stack([ids, torch.zeros_like(ids)]), latents[None, :-1].expand(2, -1, -1))


def asked_steps(steps):
    return sorted({0, 1, steps // 2, steps - 2, steps - 1})


def head_cases(config, latents, positions, generator):
    """[(position, k, y)]: states as the chain meets them, between noise and the token."""
    plan = latent_models.schedule(config["head"])
    cases = []
    for position in positions:
        for k in asked_steps(len(plan)):
            noise = torch.randn(latents.shape[1], generator=generator)
            cases.append((position, k, rounded(plan[k][0] * latents[position] + (1 - plan[k][0]) * noise)))
    return cases


def velocities(model, conditions, cases, plan):
    """[2, cases, latent]"""
    positions = torch.tensor([position for position, _, _ in cases])
    y = torch.stack([state for _, _, state in cases]).to(conditions.dtype)
    time = torch.tensor([plan[k][0] for _, k, _ in cases], dtype=conditions.dtype)
    return torch.stack([model.head(y, time, condition[positions]) for condition in conditions])


def means(v, cases, plan, scale):
    y = torch.stack([state for _, _, state in cases]).to(v.dtype)
    a = torch.tensor([plan[k][1] for _, k, _ in cases], dtype=v.dtype).unsqueeze(1)
    b = torch.tensor([plan[k][2] for _, k, _ in cases], dtype=v.dtype).unsqueeze(1)
    return a * y + b * (v[1] + scale * (v[0] - v[1]))


def transformer_part(models_of, ids, latents, config, scale, positions):
    """Conditions, velocities and means, and how far float is from double."""
    plan = latent_models.schedule(config["head"])
    cases = head_cases(config, latents, positions, torch.Generator().manual_seed(2))

    def computed(model, values):
        conditions = both_conditions(model, ids, values)
        v = velocities(model, conditions, cases, plan)
        return conditions, v, means(v, cases, plan, scale)

    found = computed(models_of[0], latents)
    with double_precision():
        exact = computed(models_of[1], latents.double())
    with replaced(functional, "linear", naive_linear):
        naive = computed(models_of[0], latents)
    errors = [max(largest(a, c), largest(b, c)) for a, b, c in zip(found, naive, exact)]
    conditions, v, mean = found
    return {
        "condition_error": errors[0], "velocity_error": errors[1], "mean_error": errors[2],
        "conditions": {str(at): {"cond": significant(conditions[0, at].tolist()),
                                 "uncond": significant(conditions[1, at].tolist())} for at in positions},
        "steps": [{"position": at, "k": k, "time": plan[k][0], "deviation": plan[k][3],
                   "y": significant(y.tolist()), "v_cond": significant(v[0, i].tolist()),
                   "v_uncond": significant(v[1, i].tolist()), "mean": significant(mean[i].tolist())}
                  for i, (at, k, y) in enumerate(cases)]}


def codec_part(codecs, latents, picture, config):
    """Sampled pixels of the latents, and latents of a picture [H, W, 3] of bytes."""
    scale, grid = config["latents"]["scale"], config["latents"]["grid"]

    def computed(codec, dtype):
        x = torch.from_numpy(picture.astype(numpy.float32)).permute(2, 0, 1)[None].to(dtype) / 127.5 - 1
        return codec.decode(latents[None].to(dtype), scale, grid)[0], codec.encode(x, scale)[0]

    pixels, encoded = computed(codecs[0], torch.float32)
    with double_precision():
        exact_pixels, exact_encoded = computed(codecs[1], torch.float64)
    chosen = torch.randperm(pixels.numel(), generator=torch.Generator().manual_seed(3))[:PIXELS].sort().values
    return {"pixel_error": largest(pixels, exact_pixels), "latent_error": largest(encoded, exact_encoded),
            "pixel_index": chosen.tolist(), "pixels": significant(pixels.flatten()[chosen].tolist()),
            "picture_rgb_0_255": picture.flatten().tolist(),
            "encoded": [significant(row) for row in encoded.tolist()]}


def write(folder, config, prompt, scale, path):
    words = Bpe.load(os.path.join(folder, "tokenizer.json"))
    ids = torch.tensor(words.prefix(prompt, config["text"]["length"]))
    model, codec = load(folder, config)
    with double_precision():
        exact_model, exact_codec = load(folder, config)
    latents = rounded(latent_models.sample(model, ids[None], config, scale, config["sampling"]["temperature"],
                                           torch.Generator().manual_seed(1))[0])
    count = len(latents)
    out = {"cfg_scale": scale, "prompt": prompt, "ids": ids.tolist(),
           "latents": [significant(row) for row in latents.tolist()]}
    out.update(transformer_part((model, exact_model), ids, latents, config, scale,
                                sorted({0, 1, count // 4 + 1, 5 * count // 8, count - 1})))
    if codec is not None:
        picture = codec.decode(latents[None], config["latents"]["scale"], config["latents"]["grid"])[0]
        picture = ((picture.clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).byte().numpy()
        out.update(codec_part((codec, exact_codec), latents, picture, config))
    print(f"{prompt}: from double: " + ", ".join(f"{key[:-6]} {out[key]:.2g}" for key in out if key.endswith("_error")))
    with open(path, "w", encoding="utf-8") as file:
        json.dump(out, file, separators=(",", ":"))
        file.write("\n")
