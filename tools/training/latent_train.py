"""The continuous-token sample: autoencoder, transformer with its diffusion head, a small draft model of the same kind.

tools/train --tokens continuous; docs/TRAINING.md says what is learned and what comes out.
"""
import json
import os

import numpy
import torch

import latent_models
import weights
from latent_data import Latents, encoded
from scenes import KINDS, Scenes
from stage import SHEET, Progress, edges, learning_rate, make_bpe, psnr, save_sheet

TRANSFORMER = {"dim": 512, "layers": 4, "heads": 8, "kv_heads": 8, "head_dim": 64, "ffn_dim": 1408,
               "norm": "rms", "norm_eps": 1e-5, "qk_norm": "none", "rope": "2d", "rope_base": 10000.0,
               "rope_pairs": "adjacent", "rope_prefix": "identity", "activation": "swiglu", "bias": False}
CONFIG = {
    "model_type": "specular",
    "transformer": TRANSFORMER,
    "text": {"vocab": 1024, "length": 16, "pad_id": 0, "pad_side": "left", "learned_positions": True,
             "null": "all_pad"},
    "latents": {"dim": 16, "grid": [8, 8], "scale": 1.0},
    "head": {"width": 192, "blocks": 3, "groups": 3, "time_width": 256, "sampler": "velocity", "steps": 12,
             "stop": 0.96, "terminal_noise": 0.1, "project": "none"},
    "kl": {"channels": 32, "channel_mult": [1, 2, 2, 4], "blocks_per_level": 1, "attention": "middle",
           "z_channels": 16, "group_norm_groups": 8, "group_norm_eps": 1e-6, "output_range": [-1, 1],
           "image_size": [64, 64]},
    "sampling": {"cfg_scale": 2.0, "guidance": "constant", "temperature": 1.0},
}
KL_WEIGHT = 5e-4     # of the divergence, a mean over latent numbers
DRAFT_TRANSFORMER = {"dim": 128, "layers": 3, "heads": 4, "kv_heads": 4, "head_dim": 32, "ffn_dim": 352}
DRAFT_HEAD = {"width": 128, "blocks": 2, "groups": 2, "time_width": 128}
LARGEST_NOISE = 0.2  # of the noise on the decoder's latents, in units of their deviation: uniform from 0
TIME_SPREAD = 1.2     # of the logit of the time
RATES = {"latent": 1e-3, "draft": 1.5e-3}  # of learning, at its highest


def arguments(parser):
    group = parser.add_argument_group("continuous tokens")
    group.add_argument("--autoencoder-steps", type=int, default=3300)
    group.add_argument("--autoencoder-batch", type=int, default=16)
    group.add_argument("--latent-pictures", type=int, default=98304, help="scenes to learn from")
    group.add_argument("--latent-steps", type=int, default=4000)
    group.add_argument("--latent-batch", type=int, default=48)
    group.add_argument("--latent-draws", type=int, default=2, help="draws of time and noise a token and step")
    group.add_argument("--draft-steps", type=int, default=1600)
    group.add_argument("--export-only", action="store_true", help="write the checkpoint of what is trained so far")


def still_pictures(run):
    still = Scenes({}, {}, run.scenes.size, 0.0)
    return [still.compose("plain", ((run.scenes.sprites[name],), "white"), 0) for name in run.scenes.names]


def autoencoder_test(run, model, noise):
    """PSNR on plain, unjittered concepts, none of them ever shown exactly so, with noise on the latents."""
    grid, pictures, total = CONFIG["latents"]["grid"], still_pictures(run), []
    generator = torch.Generator(run.args.device).manual_seed(run.args.seed)
    for i in range(0, len(pictures), 32):
        x = run.pixels(numpy.stack(pictures[i:i + 32]))
        with torch.no_grad(), run.autocast():
            latents = model.encode(x, 1.0 / model.deviation)
            latents = latents + noise * torch.randn(latents.shape, generator=generator, device=x.device)
            y = model.decode(latents, 1.0 / model.deviation, grid).float().clamp(-1, 1)
        total += [psnr(a, b) for a, b in zip(x, y)]
    return round(sum(total) / len(total), 2)


def train_autoencoder(run):
    args, total = run.args, run.args.autoencoder_steps
    torch.manual_seed(args.seed)
    model = latent_models.Autoencoder(CONFIG["kl"]).to(args.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    first = run.load_state("autoencoder.state", model, optimizer)
    forward = torch.compile(model) if args.compile else model
    progress = Progress("autoencoder", first, total)
    for step in range(first, 0 if args.export_only else total):
        source = run.variety if step % 6 == 5 else run.scenes
        _, pictures = source.batch(args.seed + 100, step * args.autoencoder_batch, args.autoencoder_batch)
        x = run.pixels(pictures)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, total, 1e-3)
        torch.manual_seed(args.seed * 1000003 + step)
        level = LARGEST_NOISE * torch.rand(len(x), device=x.device)
        with run.autocast():
            y, divergence = forward(x, level)
        y = y.float()
        loss = ((y - x).abs().mean() + (y - x).square().mean() + 0.5 * (edges(y) - edges(x)).abs().mean()
                + KL_WEIGHT * divergence)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0:
            progress.report(step + 1, f"loss {loss.item():.4f} PSNR {psnr(y.detach(), x):.2f} "
                                      f"divergence {divergence.item():.2f}")
        if (step + 1) % 200 == 0 or step + 1 == total:
            run.save_state("autoencoder.state", step + 1, model, optimizer)
    model.eval()
    report = {"psnr": autoencoder_test(run, model, 0.0),
              "psnr_terminal_noise": autoencoder_test(run, model, CONFIG["head"]["terminal_noise"])}
    print(f"autoencoder: PSNR {report['psnr']} dB on {len(run.scenes.names)} still pictures, "
          f"{report['psnr_terminal_noise']} dB with terminal noise", flush=True)
    return model, report


def latent_scale(run, model, scenes=512):
    """1 / deviation of the means over scenes that no stage learns from."""
    parts = []
    for first in range(0, scenes, 32):
        _, pictures = run.scenes.batch(run.args.seed + 800, first, 32)
        with torch.no_grad(), run.autocast():
            parts.append(model.encode(run.pixels(pictures), 1.0))
    return round(1 / torch.cat(parts).std().item(), 4)


def velocity_loss(forward, prefix, latents, noise, draws, generator=None):
    """Mean squared error of the velocity. Contexts carry the terminal noise, what is predicted does not; each
    condition serves several draws of time and noise, logit-normal and normal."""
    def normal(*shape):
        return torch.randn(shape, generator=generator).to(latents.device)
    batch, count, dim = latents.shape
    seen = latents + noise * normal(*latents.shape)
    time, start = torch.sigmoid(TIME_SPREAD * normal(batch, count, draws)), normal(batch, count, draws, dim)
    data, at = latents.unsqueeze(2), time.unsqueeze(-1)
    velocity = forward(prefix, seen[:, :-1], at * data + (1 - at) * start, time)
    return (velocity.float() - (data - start)).square().mean()


def transformer_test(run, model, autoencoder, bpe, config):
    """Velocity loss by kind of prompt, with and without the text, on scenes never drawn in training."""
    report, noise = {}, config["head"]["terminal_noise"]
    for kind, held in [(kind, False) for kind in KINDS] + [("background", True), ("hue", True), ("pair", True)]:
        prefix, latents = encoded(run, autoencoder, bpe, config, run.args.seed + 900, 0, 64, kind, held)
        losses = []
        for ids in (prefix, torch.full_like(prefix, config["text"]["pad_id"])):
            generator = torch.Generator().manual_seed(run.args.seed)
            with torch.no_grad(), run.autocast():
                losses.append(velocity_loss(model, ids, latents, noise, 8, generator).item())
        report[kind + (" held out" if held else "")] = {"velocity_loss": round(losses[0], 4),
                                                        "without_text": round(losses[1], 4)}
    return report


def train_transformer(run, config, label, total, data):
    """The transformer and its head, jointly; the moving average of the weights is what comes back."""
    args, seed = run.args, run.args.seed + sum(label.encode())
    torch.manual_seed(seed)
    model = latent_models.LatentTransformer(config).to(args.device)
    average = latent_models.Average(model)
    decay = [p for p in model.parameters() if p.dim() == 2]
    plain = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
                                  lr=RATES[label], betas=(0.9, 0.95))
    state = f"{label}.state"
    first = run.load_state(state, model, optimizer, average.module)
    forward = torch.compile(model) if args.compile else model
    progress, mean = Progress(label, first, total), []
    for step in range(first, 0 if args.export_only else total):
        prefix, latents = data.batch(step, args.latent_batch)
        torch.manual_seed(seed * 1000003 + step)
        dropped = torch.rand(len(prefix)) < 0.1
        prefix[dropped.to(prefix.device)] = config["text"]["pad_id"]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, total, RATES[label])
        with run.autocast():
            loss = velocity_loss(forward, prefix, latents, config["head"]["terminal_noise"], args.latent_draws)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model, step)
        mean.append(loss.item())
        if (step + 1) % 50 == 0:
            progress.report(step + 1, f"velocity loss {sum(mean[-50:]) / len(mean[-50:]):.4f}")
        if (step + 1) % 200 == 0 or step + 1 == total:
            run.save_state(state, step + 1, model, optimizer, average.module)
    return average.module


def export(folder, config, model, autoencoder=None):
    os.makedirs(folder, exist_ok=True)
    weights.save(os.path.join(folder, "model.safetensors"), dict(model.state_dict()))
    if autoencoder is not None:
        tensors = {name: value for name, value in autoencoder.state_dict().items() if name != "deviation"}
        weights.save(os.path.join(folder, "kl.safetensors"), tensors)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=1)
        file.write("\n")


def contact_sheet(run, config, model, autoencoder, bpe, path, columns=6):
    prefix = torch.tensor([bpe.prefix(text, config["text"]["length"]) for text in SHEET for _ in range(columns)])
    generator = torch.Generator(run.args.device).manual_seed(run.args.seed)
    sampling, latents = config["sampling"], config["latents"]
    drawn = latent_models.sample(model, prefix.to(run.args.device), config, sampling["cfg_scale"],
                                 sampling["temperature"], generator)
    with torch.no_grad():
        y = autoencoder.decode(drawn, latents["scale"], latents["grid"])
    save_sheet(y, columns, path)


def train(run):
    args = run.args
    autoencoder, report = train_autoencoder(run)
    config = dict(CONFIG, latents=dict(CONFIG["latents"], scale=latent_scale(run, autoencoder)))
    draft_config = {key: value for key, value in config.items() if key != "kl"}
    draft_config.update(transformer=dict(TRANSFORMER, **DRAFT_TRANSFORMER), head=dict(CONFIG["head"], **DRAFT_HEAD))
    bpe = make_bpe(run, CONFIG["text"]["vocab"])
    data = None if args.export_only else Latents(run, config, args.latent_pictures)
    model = train_transformer(run, config, "latent", args.latent_steps, data)
    draft = train_transformer(run, draft_config, "draft", args.draft_steps, data)
    export(run.args.output, config, model, autoencoder)
    export(run.path("draft"), draft_config, draft)
    report["kinds"] = transformer_test(run, model, autoencoder, bpe, config)
    report["draft_kinds"] = transformer_test(run, draft, autoencoder, bpe, draft_config)
    with open(run.path("report.json"), "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
        file.write("\n")
    print(json.dumps(report, indent=1))
    contact_sheet(run, config, model, autoencoder, bpe, run.path("contact-sheet.png"))
