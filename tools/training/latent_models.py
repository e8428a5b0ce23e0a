"""The continuous-token networks in PyTorch, with the names and arithmetic of docs/models/specular.md and kl.md."""
import copy
import math

import torch
from torch import nn
from torch.nn import functional

import models


class Autoencoder(nn.Module):
    """KL autoencoder: the encoder gives mean and log-variance, the decoder reads means with noise on them."""

    def __init__(self, kl):
        super().__init__()
        width = kl["z_channels"]
        self.encoder = models.Stack(dict(kl, z_channels=2 * width), False)
        self.decoder = models.Stack(kl, True)
        self.quant_conv = nn.Conv2d(2 * width, 2 * width, 1)
        self.post_quant_conv = nn.Conv2d(width, width, 1)
        self.register_buffer("deviation", torch.ones(()), persistent=True)

    def moments(self, pixels):
        """[B, 3, H, W] in [-1, 1] -> mean, log-variance, each [B, z_channels, H/f, W/f]."""
        mean, log_variance = self.quant_conv(self.encoder(pixels)).float().chunk(2, 1)
        return mean, log_variance.clamp(-30, 20)

    def encode(self, pixels, scale):
        """Latents [B, rows * columns, z_channels] in raster order: means times scale."""
        return self.moments(pixels)[0].flatten(2).transpose(1, 2) * scale

    def decode(self, latents, scale, grid):
        z = (latents / scale).transpose(1, 2).reshape(latents.shape[0], -1, *grid)
        return self.decoder(self.post_quant_conv(z))

    def forward(self, pixels, level):
        """(reconstruction, divergence from N(0, 1) a number). level [B]: added noise in units of the means'
        deviation, whose moving average is kept in .deviation."""
        mean, log_variance = self.moments(pixels)
        with torch.no_grad():
            self.deviation.lerp_(mean.std(), 0.01)
        added = (level * self.deviation).square().reshape(-1, 1, 1, 1)
        z = mean + (log_variance.exp() + added).sqrt() * torch.randn_like(mean)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return self.decoder(self.post_quant_conv(z)), divergence


def time_embedding(time, width):
    """Cosines then sines of 1000 t 10000^(-k / half), k = 0 .. half - 1; [...] -> [..., width]."""
    half = width // 2
    frequency = torch.exp(-math.log(10000.0) / half * torch.arange(half, device=time.device, dtype=time.dtype))
    angle = 1000 * time.unsqueeze(-1) * frequency
    return torch.cat([angle.cos(), angle.sin()], -1)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up = nn.Linear(width, 3 * width)
        self.down = nn.Linear(3 * width // 2, width)

    def forward(self, h, scale, shift, gate):
        a, b = self.up(self.norm(h) * (1 + scale) + shift).chunk(2, -1)
        return h + gate * self.down(functional.silu(a) * b)


class Final(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        self.modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, out)

    def forward(self, h, s):
        scale, shift = self.modulation(s).chunk(2, -1)
        return self.output(functional.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift)


class Head(nn.Module):
    """Velocity of a noisy token: SphereAR's MLP, modulated by time and condition in groups of blocks."""

    def __init__(self, head, latent, dim):
        super().__init__()
        width, self.time_width = head["width"], head["time_width"]
        self.share = head["blocks"] // head["groups"]
        self.time = nn.Sequential(nn.Linear(self.time_width, width), nn.SiLU(), nn.Linear(width, width))
        self.condition = nn.Linear(dim, width)
        self.input = nn.Linear(latent, width)
        self.modulation = nn.ModuleList([nn.Linear(width, 3 * width) for _ in range(head["groups"])])
        self.blocks = nn.ModuleList([Block(width) for _ in range(head["blocks"])])
        self.final = Final(width, latent)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                nn.init.xavier_uniform_(weight)
            elif not name.endswith("norm.weight"):
                nn.init.zeros_(weight)
        for layer in (*self.modulation, self.final.modulation, self.final.output):
            nn.init.zeros_(layer.weight)

    def forward(self, y, time, condition):
        """y [..., latent] at time [...] in [0, 1], 1 is data; condition [..., dim] -> velocity [..., latent]."""
        embedded = time_embedding(time, self.time_width).to(self.input.weight.dtype)
        s = functional.silu(self.time(embedded) + self.condition(condition))
        groups = [layer(s).chunk(3, -1) for layer in self.modulation]
        h = self.input(y)
        for i, block in enumerate(self.blocks):
            h = block(h, *groups[i // self.share])
        return self.final(h, s)


class Inputs(nn.Module):
    def __init__(self, latent, dim):
        super().__init__()
        self.input = nn.Linear(latent, dim)


class LatentTransformer(nn.Module):
    """Text prefix and latents in, conditions out; the head turns a condition into a token."""

    def __init__(self, config):
        super().__init__()
        shape, text, latents = config["transformer"], config["text"], config["latents"]
        self.prefix = text["length"]
        self.text = models.Text(text["vocab"], text["length"], shape["dim"])
        self.latents = Inputs(latents["dim"], shape["dim"])
        self.layers = nn.ModuleList([models.Layer(shape) for _ in range(shape["layers"])])
        self.norm = models.RmsNorm(shape["dim"], shape["norm_eps"])
        cos, sin = models.rope_table({**config, "codes": {"grid": latents["grid"]}})
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        models.initialise(self, shape["layers"])
        nn.init.normal_(self.latents.input.weight, std=1 / math.sqrt(latents["dim"]) * 0.1)
        nn.init.zeros_(self.latents.input.bias)
        self.head = Head(config["head"], latents["dim"], shape["dim"])

    def conditions(self, prefix, latents):
        """Conditions [B, n + 1, dim] of every token after prefix [B, P] and latents [B, n, latent]."""
        x = torch.cat([self.text.embedding(prefix) + self.text.position, self.latents.input(latents)], 1)
        cos, sin = self.cos[:x.shape[1]], self.sin[:x.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x[:, self.prefix - 1:])

    def forward(self, prefix, latents, y, time):
        """Velocities [B, N, R, latent] of R draws of (y, time [B, N, R]) a token, latents [B, N - 1, latent]."""
        return self.head(y, time, self.conditions(prefix, latents).unsqueeze(2))


def schedule(head):
    """[(time, factor of y, factor of v, deviation)] of the sampler's steps at temperature 1: mean = a y + b v."""
    count, stop = head["steps"], head["stop"]
    dt, out = stop / (count - 1), []
    for k in range(count - 1):
        t = k * dt
        out.append((t, 1 - dt, dt * (1 + t), math.sqrt(2 * (1 - t) * dt)))
    return out + [(stop, 1.0, 1 - stop, head["terminal_noise"])]


class Average:
    """Moving average of a module's weights, the copy that is exported."""

    def __init__(self, module, decay=0.999):
        self.module, self.decay = copy.deepcopy(module).eval().requires_grad_(False), decay

    @torch.no_grad()
    def update(self, module, step):
        keep = min(self.decay, (step + 1) / (step + 10))
        for mine, other in zip(self.module.parameters(), module.parameters()):
            mine.lerp_(other, 1 - keep)


@torch.no_grad()
def sample(model, prefix, config, scale, temperature, generator=None):
    """Latents [B, N, latent] with guidance; prefix [B, P]."""
    batch, latent = prefix.shape[0], config["latents"]["dim"]
    total = config["latents"]["grid"][0] * config["latents"]["grid"][1]
    caches = [[] for _ in model.layers]
    ids = torch.cat([prefix, torch.full_like(prefix, config["text"]["pad_id"])])
    x, first, out = model.text.embedding(ids) + model.text.position, 0, []
    for _ in range(total):
        last = first + x.shape[1]
        for layer, cache in zip(model.layers, caches):
            x = layer(x, model.cos[first:last], model.sin[first:last], cache)
        condition = model.norm(x[:, -1])
        y = torch.randn(batch, latent, generator=generator, device=prefix.device)
        for t, a, b, deviation in schedule(config["head"]):
            time = torch.full((2 * batch,), t, device=prefix.device)
            conditional, free = model.head(torch.cat([y, y]), time, condition).float().chunk(2)
            noise = torch.randn(y.shape, generator=generator, device=prefix.device)
            y = a * y + b * (free + scale * (conditional - free)) + temperature * deviation * noise
        out.append(y)
        first, x = last, model.latents.input(torch.cat([y, y])).unsqueeze(1)
    return torch.stack(out, 1)
