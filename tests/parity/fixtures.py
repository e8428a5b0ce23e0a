"""Checkpoints as torch.save writes them, made without PyTorch, and what a converter makes of them."""
import collections
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import types
import unittest
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STORAGE = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage", "I64": "LongStorage"}
PACK = {"F32": "f", "F16": "e", "I64": "q"}


def fake_torch():
    """Modules with the names that a checkpoint's pickle calls; pickle checks that they can be imported."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGE.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*arguments):
        raise AssertionError("only written, never called")
    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch._utils = utils
    sys.modules["torch"], sys.modules["torch._utils"] = torch, utils
    return torch


TORCH = fake_torch()


class StorageId:
    def __init__(self, dtype, key, count):
        self.identity = ("storage", getattr(TORCH, STORAGE[dtype]), key, "cpu", count)


class Fixture:
    """A tensor to write: values are packed as dtype; first skips elements of a storage that is longer."""

    def __init__(self, shape, values, dtype="F32", first=0, stride=None):
        self.shape, self.dtype, self.first = tuple(shape), dtype, first
        self.values = values
        step, strides = 1, []
        for size in reversed(self.shape):
            strides.insert(0, step)
            step *= size
        self.stride = stride or tuple(strides)

    def bytes(self):
        if self.dtype == "BF16":
            return b"".join(struct.pack("<f", value)[2:] for value in self.values)
        return struct.pack(f"<{len(self.values)}{PACK[self.dtype]}", *self.values)

    def __reduce__(self):
        storage = StorageId(self.dtype, self.key, len(self.values))
        return TORCH._utils._rebuild_tensor_v2, (storage, self.first, self.shape, self.stride, False,
                                                 collections.OrderedDict())


class Writer(pickle.Pickler):
    def persistent_id(self, value):
        return value.identity if isinstance(value, StorageId) else None


def save(path, content, tensors, compression=zipfile.ZIP_STORED, raw=None, order=b"little"):
    for key, tensor in enumerate(tensors):
        tensor.key = str(key)
    text = io.BytesIO()
    Writer(text, 2).dump(content)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", text.getvalue() if raw is None else raw)
        archive.writestr("archive/byteorder", order)
        for tensor in tensors:
            archive.writestr(f"archive/data/{tensor.key}", tensor.bytes())


class Values:
    """Numbers that float16 and bfloat16 hold exactly, all different along a tensor of moderate size."""

    def __init__(self):
        self.n = 0

    def take(self, count):
        self.n += count
        return [((self.n * 7 + i * 13) % 255 - 127) / 64 for i in range(count)]


def product(shape):
    out = 1
    for size in shape:
        out *= size
    return out


def tensors_of(shapes, dtype="F32"):
    values = Values()
    return collections.OrderedDict((name, Fixture(shape, values.take(product(shape)), dtype))
                                   for name, shape in shapes.items())


def read_safetensors(path):
    with open(path, "rb") as file:
        data = file.read()
    length, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__")
    return {name: (entry["dtype"], entry["shape"], data[8 + length + entry["data_offsets"][0]:
                                                         8 + length + entry["data_offsets"][1]])
            for name, entry in header.items()}


def shapes_of(*path):
    """Of every tensor of a safetensors file under tests/golden."""
    tensors = read_safetensors(os.path.join(ROOT, "tests", "golden", *path))
    return {name: shape for name, (_, shape, _) in tensors.items()}


class Conversion(unittest.TestCase):
    """Runs of a converter in a folder of their own: files, which the test writes, to output."""
    tool, names, options = None, (), ()  # a program of tools, files it reads, what it is always told

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder, self.output = folder.name, os.path.join(folder.name, "out")
        self.files = [os.path.join(self.folder, name) for name in self.names]

    def run_tool(self, *options):
        return subprocess.run([sys.executable, os.path.join(ROOT, "tools", self.tool), *self.files, *self.options,
                               "--output", self.output, *options], capture_output=True, text=True, timeout=60)

    def succeeds(self, *options):
        """Its config.json."""
        result = self.run_tool(*options)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        with open(os.path.join(self.output, "config.json"), encoding="utf-8") as file:
            return json.load(file)

    def refused(self, *parts, options=()):
        result = self.run_tool(*options)
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertTrue(result.stderr.startswith(self.tool + ": "), result.stderr)
        for part in parts:
            self.assertIn(part, result.stderr)
        left = os.listdir(self.output) if os.path.exists(self.output) else []
        self.assertNotIn("config.json", left)
        self.assertFalse([name for name in left if name.endswith(".part")])

    def refuses_shapes(self, *shapes):
        """(name, shape): each tensor of self.weights in a shape that is not its own."""
        for name, shape in shapes:
            kept = self.weights[name]
            self.weights[name] = Fixture(shape, Values().take(product(shape)))
            self.save_model()
            self.refused(f"'{name}' is")
            self.weights[name] = kept

    def made(self, name):
        return read_safetensors(os.path.join(self.output, name))

    def assert_same(self, name, tensors):
        found = self.made(name)
        self.assertEqual(set(found), set(tensors))
        for key, tensor in tensors.items():
            self.assertEqual(found[key], (tensor.dtype, list(tensor.shape), tensor.bytes()), key)
