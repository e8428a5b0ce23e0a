"""The two networks in PyTorch, with the tensor names and arithmetic of docs/models/specular.md."""
import math

import torch
from torch import nn
from torch.nn import functional


def group_norm(channels, groups):
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ResBlock(nn.Module):
    def __init__(self, before, after, groups):
        super().__init__()
        self.norm1, self.norm2 = group_norm(before, groups), group_norm(after, groups)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        if before != after:
            self.nin_shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x):
        h = self.conv1(functional.silu(self.norm1(x)))
        h = self.conv2(functional.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttnBlock(nn.Module):
    def __init__(self, channels, groups):
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        batch, channels, height, width = x.shape
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v))
        score = torch.softmax(q.float() @ k.float().transpose(1, 2) / math.sqrt(channels), -1)
        h = (score @ v.float()).transpose(1, 2).reshape(batch, channels, height, width)
        return x + self.proj_out(h.to(x.dtype))


class Sampler(nn.Module):
    """Resampling conv: nearest x2 then 3x3, or right/bottom pad then 3x3 stride 2."""

    def __init__(self, channels, up):
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, channels, 3, stride=1 if up else 2, padding=1 if up else 0)

    def forward(self, x):
        if self.up:
            return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv(functional.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    def __init__(self, before, after, blocks, attention, groups, sampler):
        super().__init__()
        self.res = nn.ModuleList([ResBlock(before if i == 0 else after, after, groups) for i in range(blocks)])
        if attention:
            self.attn = nn.ModuleList([AttnBlock(after, groups) for _ in range(blocks)])
        if sampler:
            setattr(self, sampler, Sampler(after, sampler == "upsample"))

    def forward(self, x):
        for i, block in enumerate(self.res):
            x = block(x)
            if hasattr(self, "attn"):
                x = self.attn[i](x)
        for name in ("upsample", "downsample"):
            if hasattr(self, name):
                x = getattr(self, name)(x)
        return x


class Stack(nn.Module):
    """Encoder or decoder: conv_in, levels and mid in the order of their direction, norm_out, conv_out."""

    def __init__(self, vq, decoder):
        super().__init__()
        ch, mult, groups = vq["channels"], vq["channel_mult"], vq["group_norm_groups"]
        widths = [ch * m for m in mult]
        self.decoder = decoder
        deepest = widths[-1]
        levels, last = [], len(mult) - 1
        if decoder:
            before = deepest
            for level in range(last, -1, -1):
                attend = vq["attention"] == "lowest" and level == last
                levels.append(Level(before, widths[level], vq["blocks_per_level"] + 1, attend, groups,
                                    "upsample" if level else None))
                before = widths[level]
            first, final = (vq["z_channels"], deepest), (before, 3)
        else:
            before = ch
            for level in range(last + 1):
                attend = vq["attention"] == "lowest" and level == last
                levels.append(Level(before, widths[level], vq["blocks_per_level"], attend, groups,
                                    "downsample" if level < last else None))
                before = widths[level]
            first, final = (3, ch), (deepest, vq["z_channels"])
        self.conv_in = nn.Conv2d(*first, 3, padding=1)
        self.conv_blocks = nn.ModuleList(levels)
        self.mid = nn.ModuleList([ResBlock(deepest, deepest, groups), AttnBlock(deepest, groups),
                                  ResBlock(deepest, deepest, groups)])
        self.norm_out = group_norm(final[0], groups)
        self.conv_out = nn.Conv2d(*final, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for block in [*self.mid, *self.conv_blocks] if self.decoder else [*self.conv_blocks, *self.mid]:
            x = block(x)
        return self.conv_out(functional.silu(self.norm_out(x)))


class Codebook(nn.Module):
    def __init__(self, count, width):
        super().__init__()
        self.embedding = nn.Embedding(count, width)


class Tokenizer(nn.Module):
    """LlamaGen's VQGAN. The codebook is learnt by exponential moving averages, dead codes are revived."""

    def __init__(self, vq):
        super().__init__()
        count, width = vq["codebook"]
        self.encoder, self.decoder = Stack(vq, False), Stack(vq, True)
        self.quant_conv = nn.Conv2d(vq["z_channels"], width, 1)
        self.post_quant_conv = nn.Conv2d(width, vq["z_channels"], 1)
        self.quantize = Codebook(count, width)
        self.quantize.embedding.weight.requires_grad_(False)
        nn.init.normal_(self.quantize.embedding.weight)
        self.register_buffer("usage", torch.ones(count), persistent=False)

    def codes(self):
        return functional.normalize(self.quantize.embedding.weight, dim=-1)

    def latents(self, pixels):
        z = self.quant_conv(self.encoder(pixels)).float()
        return functional.normalize(z.permute(0, 2, 3, 1), dim=-1)

    def encode(self, pixels):
        """[B, 3, H, W] in [-1, 1] -> [B, H/f * W/f] ids."""
        return (self.latents(pixels) @ self.codes().t()).argmax(-1).flatten(1)

    def decode(self, ids, grid):
        z = self.codes()[ids].reshape(ids.shape[0], *grid, -1).permute(0, 3, 1, 2)
        return self.decoder(self.post_quant_conv(z))

    def forward(self, pixels):
        """(reconstruction, commitment loss, latents, ids) with the straight-through gradient."""
        z = self.latents(pixels)
        ids = (z @ self.codes().t()).argmax(-1)
        q = self.codes()[ids]
        commit = (z - q.detach()).square().sum(-1).mean()
        through = (z + (q - z).detach()).permute(0, 3, 1, 2)
        return self.decoder(self.post_quant_conv(through)), commit, z.detach(), ids

    @torch.no_grad()
    def update_codebook(self, z, ids, generator, decay=0.98, dead=0.02):
        """Moves every code to the mean of its latents; a code unused for long jumps onto a random latent."""
        z, ids = z.reshape(-1, z.shape[-1]), ids.reshape(-1)
        weight = self.quantize.embedding.weight
        count = torch.bincount(ids, minlength=len(weight)).float()
        total = torch.zeros_like(weight).index_add_(0, ids, z)
        self.usage.mul_(decay).add_(count, alpha=1 - decay)
        mean = functional.normalize(total, dim=-1)
        seen = (count > 0).unsqueeze(1)
        moved = functional.normalize(functional.normalize(weight, dim=-1).lerp(mean, 1 - decay), dim=-1)
        weight.copy_(torch.where(seen, moved, weight))
        lost = (self.usage < dead).nonzero().flatten()
        if len(lost):
            picks = torch.randint(len(z), (len(lost),), generator=generator)
            weight[lost] = z[picks]
            self.usage[lost] = 1.0
        return len(lost)


def rms_norm(x, weight, eps):
    x32 = x.float()
    return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


class RmsNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        return rms_norm(x, self.weight, self.eps)


def rope_table(config):
    """(cos, sin) [prefix + tokens, head_dim / 2]. Image token t sits at (row, column); prefix rows do not rotate
    (rope_prefix "identity") or are all zero, so that their scores are too ("zero", LlamaGen)."""
    shape, (rows, columns) = config["transformer"], config["codes"]["grid"]
    quarter = shape["head_dim"] // 4
    frequency = shape["rope_base"] ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    cell = torch.arange(rows * columns, dtype=torch.float64)
    image = torch.cat([torch.outer(cell // columns, frequency), torch.outer(cell % columns, frequency)], 1)
    length, seen = config["text"]["length"], {"identity": 1.0, "zero": 0.0}[shape["rope_prefix"]]
    prefix = torch.zeros(length, 2 * quarter, dtype=torch.float64)
    return (torch.cat([prefix + seen, image.cos()]).float(), torch.cat([prefix, image.sin()]).float())


def rotate(x, cos, sin):
    """Adjacent pairs (2j, 2j+1) of x [B, H, T, D] by the angles of cos, sin [T, D/2]."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2)


SHORT = 128  # rows below which the fused attention loses to two products: its backward is slow on a CPU


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.heads, width = shape["heads"], shape["heads"] * shape["head_dim"]
        self.q, self.k, self.v = (nn.Linear(shape["dim"], width, bias=False) for _ in range(3))
        self.o = nn.Linear(width, shape["dim"], bias=False)

    def forward(self, x, cos, sin, cache=None):
        batch, length, _ = x.shape
        q, k, v = (layer(x).view(batch, length, self.heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v))
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        if cache is not None:
            if cache:
                k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
            cache[:] = [k, v]
        elif length > SHORT and hasattr(functional, "scaled_dot_product_attention"):
            h = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.o(h.transpose(1, 2).reshape(batch, length, -1))
        score = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        seen = k.shape[2]
        mask = torch.full((length, seen), -torch.inf, device=x.device).triu(seen - length + 1)
        score = torch.softmax(score.float() + mask, -1).to(v.dtype)
        return self.o((score @ v).transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.gate, self.up = (nn.Linear(shape["dim"], shape["ffn_dim"], bias=False) for _ in range(2))
        self.down = nn.Linear(shape["ffn_dim"], shape["dim"], bias=False)

    def forward(self, x):
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Layer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.attention_norm = RmsNorm(shape["dim"], shape["norm_eps"])
        self.ffn_norm = RmsNorm(shape["dim"], shape["norm_eps"])
        self.attention, self.ffn = Attention(shape), FeedForward(shape)

    def forward(self, x, cos, sin, cache=None):
        x = x + self.attention(self.attention_norm(x), cos, sin, cache)
        return x + self.ffn(self.ffn_norm(x))


class Text(nn.Module):
    def __init__(self, vocab, length, dim):
        super().__init__()
        self.embedding = nn.Embedding(vocab, dim)
        self.position = nn.Parameter(torch.zeros(length, dim))


class Codes(nn.Module):
    def __init__(self, count, dim):
        super().__init__()
        self.embedding = nn.Embedding(count, dim)


def initialise(module, layers):
    """Random matrices; those that add to the sum of the layers are smaller the more there are."""
    for name, weight in module.named_parameters():
        if weight.dim() == 2:
            scale = 0.02 / math.sqrt(2 * layers) if name.endswith(("o.weight", "down.weight")) else 0.02
            nn.init.normal_(weight, std=scale)


class Transformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        shape, text, codes = config["transformer"], config["text"], config["codes"]
        self.prefix = text["length"]
        self.text = Text(text["vocab"], text["length"], shape["dim"])
        self.codes = Codes(codes["count"], shape["dim"])
        self.layers = nn.ModuleList([Layer(shape) for _ in range(shape["layers"])])
        self.norm = RmsNorm(shape["dim"], shape["norm_eps"])
        self.head = nn.Linear(shape["dim"], codes["count"], bias=False)
        cos, sin = rope_table(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        initialise(self, shape["layers"])

    def forward(self, prefix, tokens):
        """Logits [B, n + 1, codes] of every image token after prefix [B, P] and tokens [B, n]."""
        x = torch.cat([self.text.embedding(prefix) + self.text.position, self.codes.embedding(tokens)], 1)
        cos, sin = self.cos[:x.shape[1]], self.sin[:x.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.head(self.norm(x[:, self.prefix - 1:]))

    @torch.no_grad()
    def sample(self, prefix, total, scale, temperature, generator=None):
        """total tokens a row with guidance batched; temperature 0 is greedy. prefix [B, P] -> [B, total]."""
        batch = prefix.shape[0]
        caches = [[] for _ in self.layers]
        ids = torch.cat([prefix, torch.zeros_like(prefix)])
        x, first, out = self.text.embedding(ids) + self.text.position, 0, []
        for position in range(total):
            last = first + x.shape[1]
            for layer, cache in zip(self.layers, caches):
                x = layer(x, self.cos[first:last], self.sin[first:last], cache)
            logits = self.head(self.norm(x[:, -1])).float()
            conditional, free = logits[:batch], logits[batch:]
            logits = free + scale * (conditional - free)
            if temperature == 0:
                token = logits.argmax(-1)
            else:
                token = torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator)[:, 0]
            out.append(token)
            first, x = last, self.codes.embedding(torch.cat([token, token])).unsqueeze(1)
        return torch.stack(out, 1)
