"""What every stage of training shares: data, precision, checkpoints on disk, progress, learning rate, distances."""
import contextlib
import math
import os
import time

import torch
from PIL import Image

import icons
from bpe import Bpe
from scenes import Scenes

SHEET = ["red heart", "cat face", "rocket", "strawberry", "pizza", "penguin", "grinning face", "Christmas tree",
         "house", "sunflower", "robot", "star on blue background", "blue fox", "red apple and banana"]


def chosen_precision(args):
    if args.precision != "auto":
        return args.precision
    if args.device != "cpu":
        return "bf16"
    with open("/proc/cpuinfo", encoding="ascii") as file:
        amx = "amx_bf16" in file.read()
    return "bf16" if amx and int(torch.__version__.split(".")[0]) >= 2 else "fp32"


class Run:
    """Shared by all stages: data, precision, checkpoints on disk, progress."""

    def __init__(self, args, size):
        self.args = args
        os.makedirs(args.output, exist_ok=True)
        torch.set_num_threads(args.threads)
        self.bf16 = chosen_precision(args) == "bf16"
        with open(args.concepts, encoding="utf-8") as file:
            wanted = {line.strip() for line in file if line.strip() and not line.startswith("#")}
        sprites, keywords = icons.load(args.icons, self.path("concepts.npz"), wanted)
        self.scenes = Scenes(sprites, keywords, size, jitter=0.6)
        everything, words = icons.load(args.icons, self.path("everything.npz"))
        self.variety = Scenes(everything, words, size)

    def path(self, name):
        return os.path.join(self.args.output, name)

    def autocast(self):
        if not self.bf16:
            return contextlib.nullcontext()
        return torch.autocast(self.args.device.split(":")[0], dtype=torch.bfloat16)

    def pixels(self, pictures):
        batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
        return batch.to(self.args.device).contiguous(memory_format=torch.channels_last)

    def save_state(self, name, step, module, optimizer, average=None):
        part = self.path(name + ".part")
        torch.save({"step": step, "module": module.state_dict(), "optimizer": optimizer.state_dict(),
                    "usage": getattr(module, "usage", None), "average": average and average.state_dict()}, part)
        os.replace(part, self.path(name))

    def load_state(self, name, module, optimizer, average=None):
        if not os.path.exists(self.path(name)):
            return 0
        state = torch.load(self.path(name), map_location=self.args.device)
        module.load_state_dict(state["module"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        if state["usage"] is not None:
            module.usage.copy_(state["usage"])
        if average is not None:
            average.load_state_dict(state["average"], strict=False)
        return state["step"]


class Progress:
    def __init__(self, label, first, total):
        self.label, self.first, self.total, self.start = label, first, total, time.time()

    def report(self, step, text):
        rate = (time.time() - self.start) / max(step - self.first, 1)
        left = int(rate * (self.total - step))
        print(f"{self.label} {step}/{self.total}  {text}  {rate * 1000:.0f} ms/step  "
              f"{left // 60}:{left % 60:02d} left", flush=True)


def learning_rate(step, total, peak, warm=200):
    if step < warm:
        return peak * (step + 1) / warm
    done = (step - warm) / max(total - warm, 1)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def psnr(a, b):
    return -10 * math.log10(((a - b) / 2).square().mean().item())


def edges(x):
    return torch.cat([(x[..., 1:, :] - x[..., :-1, :]).flatten(1), (x[..., 1:] - x[..., :-1]).flatten(1)], 1)


def make_bpe(run, vocabulary):
    path = run.path("tokenizer.json")
    if not os.path.exists(path):
        captions = [run.scenes.scene(run.args.seed + 200, i)[0] for i in range(6000)]
        Bpe.train(captions, vocabulary).save(path)
    return Bpe.load(path)


def save_sheet(pictures, columns, path):
    """pictures [n, 3, H, W] in [-1, 1], a row of the sheet after another."""
    y = pictures.float().clamp(-1, 1).cpu()
    size = y.shape[-1]
    sheet = ((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    sheet = sheet.reshape(-1, columns, size, size, 3).transpose(0, 2, 1, 3, 4)
    Image.fromarray(sheet.reshape(-1, columns * size, 3)).save(path)
