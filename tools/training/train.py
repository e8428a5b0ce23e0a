"""Trains the sample model: tokenizer, transformer, export, then the drafter. See tools/train --help.

Every scene, weight and step is a function of --seed; a run that was stopped goes on where it was.
"""
import argparse
import json
import math
import os
import sys

import numpy
import torch
from torch.nn import functional

import drafter
import latent_train
import models
import weights
from scenes import KINDS, Scenes
from stage import SHEET, Progress, Run, edges, learning_rate, make_bpe, psnr, save_sheet

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = {
    "model_type": "specular",
    "transformer": {"dim": 256, "layers": 6, "heads": 8, "kv_heads": 8, "head_dim": 32, "ffn_dim": 704,
                    "norm": "rms", "norm_eps": 1e-5, "qk_norm": "none", "rope": "2d", "rope_base": 10000.0,
                    "rope_pairs": "adjacent", "rope_prefix": "identity", "activation": "swiglu", "bias": False},
    "text": {"vocab": 1024, "length": 16, "pad_id": 0, "pad_side": "left", "learned_positions": True,
             "null": "all_pad"},
    "codes": {"count": 1024, "grid": [16, 16], "head": "linear"},
    "vq": {"channels": 32, "channel_mult": [1, 2, 4], "blocks_per_level": 1, "attention": "middle",
           "z_channels": 64, "codebook": [1024, 8], "l2_normalised": True, "group_norm_groups": 8,
           "group_norm_eps": 1e-6, "output_range": [-1, 1], "image_size": [64, 64]},
    "sampling": {"cfg_scale": 3.0, "temperature": 0.7, "top_k": 0, "top_p": 1.0},
}


def arguments():
    parser = argparse.ArgumentParser(prog="tools/train", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--icons", required=True, help="folder or .tar.xz of @iconify-json/noto 1.2.9")
    parser.add_argument("--output", required=True, help="folder for the checkpoint and the training state")
    parser.add_argument("--tokens", choices=("discrete", "continuous"), default="discrete", help="kind of model")
    parser.add_argument("--concepts", default=os.path.join(HERE, "concepts.txt"), help="names to learn, one a line")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tokenizer-steps", type=int, default=2600)
    parser.add_argument("--tokenizer-batch", type=int, default=16)
    parser.add_argument("--transformer-steps", type=int, default=4500)
    parser.add_argument("--transformer-batch", type=int, default=24)
    parser.add_argument("--drafter-pictures", type=int, default=6144)
    parser.add_argument("--drafter-steps", type=int, default=2600)
    parser.add_argument("--drafter-batch", type=int, default=8)
    parser.add_argument("--program", default="specular", help="specular, which draws the drafter's pictures")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto",
                        help="auto: bf16 where the processor has AMX and PyTorch is 2 or newer")
    parser.add_argument("--compile", action="store_true", help="torch.compile the transformer")
    parser.add_argument("--device", default="cpu", help="as PyTorch names it")
    latent_train.arguments(parser)
    return parser.parse_args()


def tokenizer_test(run, model):
    """PSNR on plain, unjittered concepts, none of them ever shown exactly so."""
    still = Scenes({}, {}, run.scenes.size, 0.0)
    pictures = [still.compose("plain", ((run.scenes.sprites[name],), "white"), 0) for name in run.scenes.names]
    total, used = [], set()
    for i in range(0, len(pictures), 32):
        x = run.pixels(numpy.stack(pictures[i:i + 32]))
        with torch.no_grad(), run.autocast():
            ids = model.encode(x)
            y = model.decode(ids, CONFIG["codes"]["grid"]).float().clamp(-1, 1)
        total += [psnr(a, b) for a, b in zip(x, y)]
        used |= set(ids.flatten().tolist())
    return sum(total) / len(total), len(used)


def train_tokenizer(run):
    args = run.args
    torch.manual_seed(args.seed)
    model = models.Tokenizer(CONFIG["vq"]).to(args.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, betas=(0.9, 0.99),
                                  weight_decay=1e-4)
    first = run.load_state("tokenizer.state", model, optimizer)
    progress = Progress("tokenizer", first, args.tokenizer_steps)
    for step in range(first, args.tokenizer_steps):
        source = run.variety if step % 3 == 2 else run.scenes
        _, pictures = source.batch(args.seed + 100, step * args.tokenizer_batch, args.tokenizer_batch)
        x = run.pixels(pictures)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.tokenizer_steps, 1e-3)
        with run.autocast():
            y, commit, z, ids = model(x)
        y = y.float()
        loss = ((y - x).abs().mean() + (y - x).square().mean()
                + 0.5 * (edges(y) - edges(x)).abs().mean() + 0.25 * commit)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step < 0.8 * args.tokenizer_steps:
            model.update_codebook(z, ids, torch.Generator().manual_seed(args.seed * 1000003 + step))
        if (step + 1) % 100 == 0:
            progress.report(step + 1, f"loss {loss.item():.4f} PSNR {psnr(y.detach(), x):.2f}")
        if (step + 1) % 500 == 0:
            run.save_state("tokenizer.state", step + 1, model, optimizer)
    quality, used = tokenizer_test(run, model)
    if first < args.tokenizer_steps:
        run.save_state("tokenizer.state", args.tokenizer_steps, model, optimizer)
    print(f"tokenizer: PSNR {quality:.2f} dB on {len(run.scenes.names)} still pictures, {used} codes used", flush=True)
    return model.eval(), {"psnr": quality, "codes_used": used}


def tokenised(run, tokenizer, bpe, seed, first, count, kind=None, held=False):
    captions, pictures = run.scenes.batch(seed, first, count, kind, held)
    with torch.no_grad(), run.autocast():
        ids = tokenizer.encode(run.pixels(pictures))
    prefix = torch.tensor([bpe.prefix(text, CONFIG["text"]["length"]) for text in captions])
    return prefix.to(run.args.device), ids


def transformer_loss(model, prefix, ids):
    logits = model(prefix, ids[:, :-1])
    return functional.cross_entropy(logits.float().flatten(0, 1), ids.flatten(), reduction="none")


def transformer_test(run, model, tokenizer, bpe):
    """Bits a token, entropy and maximum probability, by kind of prompt, on scenes never drawn in training."""
    report = {}
    for kind, held in [(kind, False) for kind in KINDS] + [("background", True), ("hue", True), ("pair", True)]:
        prefix, ids = tokenised(run, tokenizer, bpe, run.args.seed + 900, 0, 64, kind, held)
        with torch.no_grad(), run.autocast():
            logits = model(prefix, ids[:, :-1]).float()
        law = torch.log_softmax(logits, -1)
        bits = -law.gather(-1, ids.unsqueeze(-1)).mean() / math.log(2)
        entropy = -(law.exp() * law).sum(-1).mean() / math.log(2)
        report[kind + (" held out" if held else "")] = {
            "bits_per_token": round(bits.item(), 3), "entropy_bits": round(entropy.item(), 3),
            "mean_max_probability": round(law.exp().amax(-1).mean().item(), 3)}
    return report


def train_transformer(run, tokenizer, bpe):
    args = run.args
    torch.manual_seed(args.seed + 1)
    model = models.Transformer(CONFIG).to(args.device)
    decay = [p for p in model.parameters() if p.dim() == 2]
    plain = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
                                  lr=1.5e-3, betas=(0.9, 0.95))
    first = run.load_state("transformer.state", model, optimizer)
    forward = torch.compile(model) if args.compile else model
    progress, mean = Progress("transformer", first, args.transformer_steps), []
    for step in range(first, args.transformer_steps):
        batch = args.transformer_batch
        prefix, ids = tokenised(run, tokenizer, bpe, args.seed + 300, step * batch, batch)
        dropped = torch.rand(batch, generator=torch.Generator().manual_seed(args.seed * 1000003 + step)) < 0.1
        prefix[dropped.to(prefix.device)] = CONFIG["text"]["pad_id"]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.transformer_steps, 1.5e-3)
        with run.autocast():
            loss = transformer_loss(forward, prefix, ids).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean.append(loss.item() / math.log(2))
        if (step + 1) % 100 == 0:
            progress.report(step + 1, f"{sum(mean[-100:]) / len(mean[-100:]):.3f} bits a token")
        if (step + 1) % 500 == 0:
            run.save_state("transformer.state", step + 1, model, optimizer)
    if first < args.transformer_steps:
        run.save_state("transformer.state", args.transformer_steps, model, optimizer)
    return model.eval()


def export(run, tokenizer, model):
    weights.save(run.path("vq.safetensors"), dict(tokenizer.state_dict()))
    weights.save(run.path("model.safetensors"), dict(model.state_dict()))
    with open(run.path("config.json"), "w", encoding="utf-8") as file:
        json.dump(CONFIG, file, indent=1)
        file.write("\n")


def contact_sheet(run, tokenizer, model, bpe, path, columns=6):
    prefix = torch.tensor([bpe.prefix(text, CONFIG["text"]["length"]) for text in SHEET for _ in range(columns)])
    rows, columns_of = CONFIG["codes"]["grid"]
    generator = torch.Generator(run.args.device).manual_seed(run.args.seed)
    sampling = CONFIG["sampling"]
    ids = model.sample(prefix.to(run.args.device), rows * columns_of, sampling["cfg_scale"], sampling["temperature"],
                       generator)
    with torch.no_grad():
        y = tokenizer.decode(ids, CONFIG["codes"]["grid"])
    save_sheet(y, columns, path)


def main():
    args = arguments()
    run = Run(args, CONFIG["vq"]["image_size"][0])
    print(f"train: PyTorch {torch.__version__}, {args.threads} threads, {'bf16' if run.bf16 else 'fp32'}, "
          f"{len(run.scenes.names)} concepts, {len(run.variety.names)} pictures for the tokenizer", flush=True)
    if args.tokens == "continuous":
        latent_train.train(run)
        return
    tokenizer, report = train_tokenizer(run)
    bpe = make_bpe(run, CONFIG["text"]["vocab"])
    model = train_transformer(run, tokenizer, bpe)
    export(run, tokenizer, model)
    report["kinds"] = transformer_test(run, model, tokenizer, bpe)
    report["drafter"] = drafter.train(run, model, bpe, CONFIG, Progress, learning_rate)
    with open(run.path("report.json"), "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
        file.write("\n")
    print(json.dumps(report, indent=1))
    contact_sheet(run, tokenizer, model, bpe, run.path("contact-sheet.png"))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("train: interrupted; the same command goes on from the last saved step")
