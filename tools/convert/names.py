"""The tensors that a converter expects in a checkpoint, and how they are written."""
import json
import os

import safetensors
from torch_file import CheckpointError


class Names:
    """The tensors of a file; every one of them has to be asked for."""

    def __init__(self, path, tensors, whose, ignored=()):
        self.path, self.whose = path, whose
        self.tensors = {name: tensor for name, tensor in tensors.items() if name not in ignored}
        self.unused = set(self.tensors)

    def shape(self, name, *expected):
        """The shape of a tensor that must be there; None in expected is any size."""
        if name not in self.tensors:
            raise CheckpointError(f"{self.path}: no tensor '{name}': expected {self.whose}'s; is this the other file?")
        found = self.tensors[name].shape
        if len(found) != len(expected) or any(e not in (None, f) for e, f in zip(expected, found)):
            wanted = " x ".join("any" if size is None else str(size) for size in expected)
            raise CheckpointError(f"{self.path}: tensor '{name}' is {' x '.join(map(str, found)) or 'a scalar'}, "
                                  f"expected {wanted}")
        self.unused.discard(name)
        return found

    def count(self, pattern):
        n = 0
        while pattern.format(n) in self.tensors:
            n += 1
        return n

    def finish(self):
        if self.unused:
            raise CheckpointError(f"{self.path}: tensor '{min(self.unused)}' is not of a class-conditional "
                                  f"{self.whose}")

    def drop_unused(self):
        """Forgets tensors that were not asked for."""
        self.tensors = {name: tensor for name, tensor in self.tensors.items() if name not in self.unused}


def data(checkpoint, name, tensor, dtype):
    """Chunks of a tensor in dtype; a value that is not finite is refused here rather than at every load."""
    for chunk in checkpoint.chunks(tensor):
        wide = safetensors.widen(chunk) if tensor.dtype == "F16" else chunk
        if tensor.dtype != "BF16" and not safetensors.finite(wide):
            raise CheckpointError(f"{checkpoint.path}: tensor '{name}' has a NaN or an infinity: copy the file again")
        yield safetensors.round_to_bf16(wide) if dtype == "BF16" and tensor.dtype != "BF16" else chunk


def write(path, checkpoint, names, bf16, family):
    """All tensors of names, as safetensors."""
    tensors = {}
    for name, tensor in names.tensors.items():
        if tensor.dtype not in safetensors.WIDTH:
            raise CheckpointError(f"{names.path}: tensor '{name}' is {tensor.dtype}, expected F32, F16 or BF16")
        dtype = "BF16" if bf16 else tensor.dtype
        tensors[name] = (dtype, tensor.shape, data(checkpoint, name, tensor, dtype))
    safetensors.write(path, tensors, {"format": "specular", "family": family})


def write_config(folder, config):
    """config.json, last of all: a folder without it is not a checkpoint."""
    path = os.path.join(folder, "config.json")
    with open(path + ".part", "w", encoding="utf-8") as file:
        file.write(json.dumps(config, indent=1) + "\n")
    os.replace(path + ".part", path)
