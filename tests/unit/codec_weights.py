"""Weights by the formula of codec_checkpoint.h, in PyTorch."""
import numpy
import torch


def philox(key, counters):
    """First words of Philox4x32-10 for counters {i, 0, 99, 7}."""
    c = [counters.astype(numpy.uint64)] + [numpy.full(counters.shape, n, numpy.uint64) for n in (0, 99, 7)]
    k0, k1, mask = key, 0, numpy.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = numpy.uint64(0xD2511F53) * c[0], numpy.uint64(0xCD9E8D57) * c[2]
        c = [(b >> numpy.uint64(32)) ^ c[1] ^ numpy.uint64(k0), b & mask,
             (a >> numpy.uint64(32)) ^ c[3] ^ numpy.uint64(k1), a & mask]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c[0]


def weight(name, index, shape):
    """The tensor that is index-th by name, as bfloat16 values."""
    v = philox(index, numpy.arange(numpy.prod(shape))) / 2147483648.0 - 1.0
    v = v.astype(numpy.float32).astype(numpy.float64)
    if len(shape) == 4:
        v *= numpy.sqrt(3.0 / numpy.prod(shape[1:]))
    elif len(shape) == 1:
        v = 1.0 + 0.25 * v if "norm" in name and name.endswith("weight") else 0.125 * v
    return torch.from_numpy(v.astype(numpy.float32)).reshape(shape).bfloat16().float()


def fill(model):
    """Every tensor of a module, numbered in the order of their names."""
    state = model.state_dict()
    model.load_state_dict({n: weight(n, i, tuple(state[n].shape)) for i, n in enumerate(sorted(state))})
