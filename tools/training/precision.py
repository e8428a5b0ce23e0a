"""What float arithmetic costs: the networks in double precision, and with sums in one chain of float additions."""
import contextlib

import torch


@contextlib.contextmanager
def replaced(owner, name, value):
    old = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, old)


@contextlib.contextmanager
def double_precision():
    """The models in double: they widen with .float(), which therefore has to give double."""
    with replaced(torch.Tensor, "float", torch.Tensor.double):
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)


def naive_linear(x, weight, bias=None):
    """x W^T with each sum run in one chain of float additions, as a row-invariant kernel does."""
    columns, rows = x.reshape(-1, x.shape[-1]).t().contiguous(), weight.t().contiguous()
    total = torch.zeros(columns.shape[1], rows.shape[1])
    for column, row in zip(columns, rows):
        total += column[:, None] * row
    total = total.reshape(*x.shape[:-1], -1)
    return total if bias is None else total + bias


def significant(values):
    return [float(f"{value:.9g}") for value in values]


def largest(a, b):
    return (a.double() - b.double()).abs().max().item()
