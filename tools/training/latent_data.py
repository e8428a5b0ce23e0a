"""Scenes as latents for the continuous-token transformer: each is drawn and encoded once, by a second process a little
ahead of the training, and kept on disk as float16."""
import multiprocessing
import os
import signal
import time

import numpy
import torch

import latent_models
from bpe import Bpe
from stage import Run

CHUNK, AHEAD = 128, 8192


def encoded(run, autoencoder, bpe, config, seed, first, count, kind=None, held=False):
    """(prefix [count, P], latents [count, N, dim]) of scenes first .. first + count - 1."""
    captions, pictures = run.scenes.batch(seed, first, count, kind, held)
    with torch.no_grad(), run.autocast():
        latents = autoencoder.encode(run.pixels(pictures), config["latents"]["scale"])
    prefix = torch.tensor([bpe.prefix(text, config["text"]["length"]) for text in captions])
    return prefix.to(run.args.device), latents


def arrays(folder, config, total):
    """(prefix [total, P], latents [total, N, dim], [how many are there, how many are
    wanted]): files in folder, made if need be."""
    def array(name, dtype, shape):
        path = os.path.join(folder, name)
        return numpy.memmap(path, dtype, "r+" if os.path.exists(path) else "w+", shape=shape)
    rows, columns = config["latents"]["grid"]
    return (array("latents.prefix", numpy.int16, (total, config["text"]["length"])),
            array("latents.values", numpy.float16, (total, rows * columns, config["latents"]["dim"])),
            array("latents.count", numpy.int64, (2,)))


def fill(args, config, total):
    """What the second process does: encodes the scenes that are not there yet."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run = Run(args, config["kl"]["image_size"][0])
    torch.set_num_threads(1)
    autoencoder = latent_models.Autoencoder(config["kl"]).to(args.device, memory_format=torch.channels_last)
    state = torch.load(run.path("autoencoder.state"), map_location=args.device)
    autoencoder.load_state_dict(state["module"])
    bpe = Bpe.load(run.path("tokenizer.json"))
    prefix, values, count = arrays(args.output, config, total)
    for first in range(int(count[0]), total, CHUNK):
        while first > count[1] + AHEAD and multiprocessing.parent_process().is_alive():
            time.sleep(0.2)
        if not multiprocessing.parent_process().is_alive():
            return
        size = min(CHUNK, total - first)
        ids, latents = encoded(run, autoencoder.eval(), bpe, config, args.seed + 300, first, size)
        prefix[first:first + size], values[first:first + size] = ids.cpu().numpy(), latents.cpu().numpy()
        prefix.flush()
        values.flush()
        count[0] = first + size
        count.flush()


class Latents:
    """Batches in order, from the first scene again after the last."""

    def __init__(self, run, config, total):
        self.device, self.total = run.args.device, total
        self.prefix, self.values, self.count = arrays(run.args.output, config, total)
        self.maker = multiprocessing.get_context("spawn").Process(target=fill, args=(run.args, config, total),
                                                                  daemon=True)
        if self.count[0] < total:
            self.maker.start()

    def batch(self, step, size):
        """(prefix [size, P], latents [size, N, dim]) of a step; waits until they are there."""
        chosen = numpy.arange(step * size, (step + 1) * size) % self.total
        wanted = self.count[1] = chosen.max() + 1
        while self.count[0] < wanted:
            if not self.maker.is_alive():
                raise SystemExit("train: the process that encodes scenes has ended")
            time.sleep(0.05)
        prefix = torch.from_numpy(self.prefix[chosen].astype(numpy.int64))
        return prefix.to(self.device), torch.from_numpy(self.values[chosen].astype(numpy.float32)).to(self.device)
