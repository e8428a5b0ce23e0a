"""The drafter of the eagle and lantern methods (docs/rules/eagle.md): one layer in EAGLE-1 form, trained against the
frozen transformer on pictures that the transformer drew, with the tensor names of the LANTERN repository."""
import json
import os
import shutil
import subprocess

import numpy
import torch
from torch import nn
from torch.nn import functional

import models
import weights

FEATURE_NOISE = 0.1  # half width of the uniform noise on input features, in units of their deviation
LAW_WEIGHT = 0.3     # of the cross entropy beside the smooth L1 distance of features


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.heads, width = shape["heads"], shape["heads"] * shape["head_dim"]
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(shape["dim"], width, bias=False) for _ in range(3))
        self.o_proj = nn.Linear(width, shape["dim"], bias=False)

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        q, k, v = (layer(x).view(batch, length, self.heads, -1).transpose(1, 2)
                   for layer in (self.q_proj, self.k_proj, self.v_proj))
        q, k = models.rotate(q, cos, sin).to(v.dtype), models.rotate(k, cos, sin).to(v.dtype)
        h = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(h.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(shape["dim"], shape["ffn_dim"], bias=False) for _ in range(2))
        self.down_proj = nn.Linear(shape["ffn_dim"], shape["dim"], bias=False)

    def forward(self, x):
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """No norm before the attention: what comes in is already normalised."""

    def __init__(self, shape):
        super().__init__()
        self.self_attn, self.mlp = Attention(shape), FeedForward(shape)
        self.post_attention_layernorm = models.RmsNorm(shape["dim"], shape["norm_eps"])

    def forward(self, x, cos, sin):
        x = x + self.self_attn(x, cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Drafter(nn.Module):
    """The feature h_t of the token at position t from that token and the feature before it."""

    def __init__(self, config):
        super().__init__()
        shape = config["transformer"]
        self.embed_tokens = nn.Embedding(config["codes"]["count"], shape["dim"])
        self.fc = nn.Linear(2 * shape["dim"], shape["dim"])
        self.layers = nn.ModuleList([Layer(shape)])
        cos, sin = models.rope_table(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=0.005 if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02)
        with torch.no_grad():
            self.fc.bias.zero_()
            self.fc.weight[:, shape["dim"]:] = torch.eye(shape["dim"])

    def forward(self, tokens, features):
        """tokens [B, n] of positions 1 .. n, features [B, n, dim] of positions 0 .. n - 1 -> those of 1 .. n."""
        n = tokens.shape[1]
        x = self.fc(torch.cat([self.embed_tokens(tokens), features], -1))
        return self.layers[0](x, self.cos[1:n + 1], self.sin[1:n + 1])


def features_of(model, prefix, tokens):
    """What the head reads, [B, P + n, dim]."""
    x = torch.cat([model.text.embedding(prefix) + model.text.position, model.codes.embedding(tokens)], 1)
    for layer in model.layers:
        x = layer(x, model.cos[:x.shape[1]], model.sin[:x.shape[1]])
    return model.norm(x)


def draw(run, first, captions):
    """Token ids [n, N] of captions by the program, with the default sampling of the checkpoint just exported."""
    folder = run.path("drafter-pictures")
    os.makedirs(folder, exist_ok=True)
    lines = [{"id": f"{first + i:06d}", "prompt": text, "seed": run.args.seed * 1000003 + first + i}
             for i, text in enumerate(captions)]
    prompts = os.path.join(folder, f"{first:06d}.jsonl")
    with open(prompts, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    tokens = os.path.join(folder, "tokens")
    subprocess.run([run.args.program, "render", "-m", run.args.output, "-f", prompts, "--output-dir", folder,
                    "--tokens", tokens, "--threads", str(run.args.threads), "--force", "-q"], check=True)
    drawn = []
    for line in lines:
        with open(os.path.join(tokens, line["id"] + ".json"), encoding="utf-8") as file:
            drawn.append(json.load(file))
    shutil.rmtree(folder)
    return numpy.array(drawn, dtype=numpy.int16)


def pictures(run, bpe, config, total, batch=256):
    """(prefix [total, P], tokens [total, N]) of pictures that the transformer drew; kept on disk."""
    path, length = run.path("drafter.npz"), config["text"]["length"]
    prefix = numpy.empty((0, length), numpy.int16)
    tokens = numpy.empty((0, config["codes"]["grid"][0] * config["codes"]["grid"][1]), numpy.int16)
    if os.path.exists(path):
        with numpy.load(path) as stored:
            prefix, tokens = stored["prefix"], stored["tokens"]
    while len(prefix) < total:
        captions = [run.scenes.scene(run.args.seed + 400, len(prefix) + i)[0] for i in range(batch)]
        tokens = numpy.concatenate([tokens, draw(run, len(prefix), captions)])
        prefix = numpy.concatenate([prefix, numpy.array([bpe.prefix(text, length) for text in captions], numpy.int16)])
        with open(path + ".part", "wb") as file:
            numpy.savez(file, prefix=prefix, tokens=tokens)
        os.replace(path + ".part", path)
        print(f"drafter: {len(prefix)} of {total} pictures drawn", flush=True)
    return (torch.from_numpy(part[:total].astype(numpy.int64)).to(run.args.device) for part in (prefix, tokens))


class Features:
    """What the head reads on each picture, the conditional stream first; computed once and kept as bf16."""

    def __init__(self, model, prefix, tokens, config):
        self.model, self.prefix, self.tokens = model, prefix, tokens
        self.pads = torch.full_like(prefix[:1], config["text"]["pad_id"])
        rows = prefix.shape[1] + tokens.shape[1] - 1
        self.kept = torch.empty(2, len(prefix), rows, config["transformer"]["dim"], dtype=torch.bfloat16,
                                device=prefix.device)
        self.known = torch.zeros(len(prefix), dtype=torch.bool, device=prefix.device)

    @torch.no_grad()
    def __getitem__(self, chosen):
        missing = chosen[~self.known[chosen]].unique()
        if len(missing):
            both = torch.cat([self.prefix[missing], self.pads.expand(len(missing), -1)])
            tokens = self.tokens[missing][:, :-1]
            found = features_of(self.model, both, torch.cat([tokens, tokens]))
            self.kept[:, missing] = found.to(torch.bfloat16).view(2, len(missing), *found.shape[1:])
            self.known[missing] = True
        return self.kept[:, chosen].flatten(0, 1)


def guided_scores(model, features, sampling):
    conditional, free = model.head(features).float().chunk(2)
    return (free + sampling["cfg_scale"] * (conditional - free)) / sampling["temperature"]


def loss_of(model, drafter, features, tokens, config, generator=None):
    """(smooth L1 of features, cross entropy of guided laws, chance that a draft is accepted) over image positions.
    features [2 B, P + N - 1, dim], tokens [B, N]."""
    image = features.shape[1] - tokens.shape[1]
    fed = functional.pad(tokens[:, :-1], (image, 0))
    inputs = features[:, :-1]
    if generator is not None:
        noise = torch.rand(inputs.shape, generator=generator).to(inputs.device) * 2 - 1
        inputs = inputs + (FEATURE_NOISE * features.std() * noise).to(inputs.dtype)
    guess = drafter(torch.cat([fed, fed]), inputs)[:, image:]
    wanted = features[:, image + 1:]
    distance = functional.smooth_l1_loss(guess.float(), wanted.float())
    law = torch.softmax(guided_scores(model, wanted, config["sampling"]), -1)
    drafted = torch.log_softmax(guided_scores(model, guess, config["sampling"]), -1)
    accepted = torch.minimum(law, drafted.exp()).sum(-1).mean()
    return distance, -(law * drafted).sum(-1).mean(), accepted


def train(run, model, bpe, config, report_progress, learning_rate):
    """A trained drafter; as the other stages, it goes on where a run was stopped."""
    args, batch, held = run.args, run.args.drafter_batch, 64
    model.requires_grad_(False)
    shutil.rmtree(run.path("drafter"), ignore_errors=True)
    prefix, tokens = pictures(run, bpe, config, args.drafter_pictures)
    features = Features(model, prefix, tokens, config)
    torch.manual_seed(args.seed + 2)
    drafter = Drafter(config).to(args.device)
    with torch.no_grad():
        drafter.embed_tokens.weight.copy_(model.codes.embedding.weight)
    optimizer = torch.optim.AdamW(drafter.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.01)
    first = run.load_state("drafter.state", drafter, optimizer)
    progress, mean = report_progress("drafter", first, args.drafter_steps), []
    for step in range(first, args.drafter_steps):
        generator = torch.Generator().manual_seed(args.seed * 1000003 + step)
        chosen = torch.randint(held, len(prefix), (batch,), generator=generator).to(prefix.device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.drafter_steps, 1e-3)
        with run.autocast():
            distance, entropy, accepted = loss_of(model, drafter, features[chosen], tokens[chosen], config,
                                                  generator)
        optimizer.zero_grad(set_to_none=True)
        (distance + LAW_WEIGHT * entropy).backward()
        torch.nn.utils.clip_grad_norm_(drafter.parameters(), 0.5)
        optimizer.step()
        mean.append((distance.item(), entropy.item(), accepted.item()))
        if (step + 1) % 50 == 0:
            shown = [sum(row[i] for row in mean[-50:]) / len(mean[-50:]) for i in range(3)]
            progress.report(step + 1, f"distance {shown[0]:.4f} entropy {shown[1]:.3f} accepted {shown[2]:.3f}")
        if (step + 1) % 250 == 0 or step + 1 == args.drafter_steps:
            run.save_state("drafter.state", step + 1, drafter, optimizer)
    drafter.eval()
    with torch.no_grad(), run.autocast():
        kept_apart = features[torch.arange(held, device=prefix.device)]
        accepted = loss_of(model, drafter, kept_apart, tokens[:held], config)[2].item()
    print(f"drafter: {accepted:.3f} of drafts one token ahead are accepted on {held} pictures kept apart", flush=True)
    export(run, drafter, config)
    return {"accepted_one_ahead": round(accepted, 3)}


def fingerprint(run):
    described = subprocess.run([run.args.program, "info", "-m", run.args.output, "--json"], check=True,
                               capture_output=True, text=True)
    return json.loads(described.stdout)["model_fingerprint"]


def export(run, drafter, config):
    folder, shape = run.path("drafter"), config["transformer"]
    shutil.rmtree(folder, ignore_errors=True)
    target = fingerprint(run)
    os.makedirs(folder)
    weights.save(os.path.join(folder, "model.safetensors"), dict(drafter.state_dict()))
    described = {"model_type": "llama", "hidden_size": shape["dim"], "intermediate_size": shape["ffn_dim"],
                 "num_attention_heads": shape["heads"], "num_key_value_heads": shape["kv_heads"],
                 "num_hidden_layers": 1, "vocab_size": config["codes"]["count"], "rms_norm_eps": shape["norm_eps"],
                 "bias": True, "target_fingerprint": target}
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(described, file, indent=1)
        file.write("\n")
