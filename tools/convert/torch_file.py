"""Reads checkpoints that torch.save wrote (zip format), with the standard library and without running anything in them.

    with torch_file.open_checkpoint("model.pt") as checkpoint:
        weights = checkpoint.weights()                      # {name: Tensor}
        for chunk in checkpoint.chunks(weights["norm.weight"]): ...

A pickle is a program. This one may only call the constructors below; the classes that training scripts leave in a
checkpoint (options, optimizer state) become empty objects; any other name in it is refused.
"""
import contextlib
import math
import pickle
import zipfile
import zlib

PICKLE_LIMIT = 64 << 20  # bytes; the index of a checkpoint with 10,000 tensors has 3 MB
CHUNK = 1 << 20
WIDTH = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
STORAGES = {"FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16", "DoubleStorage": "F64",
            "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
            "ByteStorage": "U8", "BoolStorage": "BOOL"}
HARMLESS = ("argparse", "deepspeed", "numpy", "omegaconf", "pytorch_lightning", "torch")


class CheckpointError(Exception):
    """One line: what, found, expected, remedy."""


class Storage:
    def __init__(self, dtype, member, count):
        self.dtype, self.member, self.count = dtype, member, count


class Tensor:
    """count elements of dtype from element first of a storage, in row-major order."""

    def __init__(self, storage, first, shape, stride):
        self.storage, self.first, self.shape, self.stride = storage, first, shape, stride
        self.dtype, self.count = storage.dtype, math.prod(shape)


class Table(dict):
    """An OrderedDict without its attributes."""

    def __setstate__(self, state):
        pass


class Ignored:
    """Stands for an object that conversion does not need."""

    def __init__(self, *arguments, **named):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, value):
        pass

    def extend(self, values):
        pass


def integers(values):
    return isinstance(values, tuple) and all(type(value) is int and value >= 0 for value in values)


def rebuild_tensor(storage, first, shape, stride, *rest):
    if not isinstance(storage, Storage) or not integers((first,)) or not integers(shape) or not integers(stride):
        raise CheckpointError("a tensor has no storage or a negative size: expected a checkpoint by torch.save")
    return Tensor(storage, first, shape, stride)


def rebuild_parameter(tensor, *rest):
    return tensor


CONSTRUCTORS = {("collections", "OrderedDict"): Table,
                ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
                ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
                ("torch._utils", "_rebuild_parameter"): rebuild_parameter}


class Reader(pickle.Unpickler):
    def __init__(self, file, path, root):
        super().__init__(file)
        self.path, self.root = path, root

    def find_class(self, module, name):
        if (module, name) in CONSTRUCTORS:
            return CONSTRUCTORS[module, name]
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module.split(".")[0] in HARMLESS:
            return Ignored
        raise CheckpointError(f"{self.path}: calls {module}.{name}: expected tensors and options only; "
                              f"do not trust this file")

    def persistent_load(self, identity):
        kind, dtype, key, _, count = identity
        if kind != "storage" or dtype not in WIDTH or not str(key).isdigit() or not integers((count,)):
            raise CheckpointError(f"{self.path}: a storage of kind {kind!r}: expected a checkpoint by torch.save")
        return Storage(dtype, f"{self.root}/data/{key}", count)


class Checkpoint:
    def __init__(self, path, archive):
        self.path, self.archive = path, archive
        index = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(index) != 1:
            raise CheckpointError(f"{path}: {len(index)} files data.pkl in the archive: expected one, as by torch.save")
        self.root = index[0].split("/")[0]
        if archive.getinfo(index[0]).file_size > PICKLE_LIMIT:
            raise CheckpointError(f"{path}: data.pkl is above {PICKLE_LIMIT} bytes: not a checkpoint of weights")
        order = f"{self.root}/byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise CheckpointError(f"{path}: big-endian: save it again on a little-endian machine")
        with archive.open(index[0]) as file:
            try:
                self.content = Reader(file, path, self.root).load()
            except CheckpointError:
                raise
            except Exception as problem:  # the pickle machine raises whatever a malformed program provokes
                reason = " ".join(str(problem).split())[:200]
                raise CheckpointError(f"{path}: data.pkl is malformed ({reason}): copy the file again") from None

    def weights(self, *keys):
        """The table of tensors: under one of keys, "model", "module" or "state_dict", or the whole file."""
        table = self.content
        for key in (*keys, "model", "module", "state_dict"):
            if isinstance(table, dict) and isinstance(table.get(key), dict):
                table = table[key]
                break
        if not isinstance(table, dict) or not all(isinstance(name, str) for name in table):
            raise CheckpointError(f"{self.path}: no table of weights: expected one, or one under model, module or "
                                  f"state_dict")
        tensors = {name: value for name, value in table.items() if isinstance(value, Tensor)}
        for name, tensor in tensors.items():
            self.check(name, tensor)
        return tensors

    def check(self, name, tensor):
        storage, step = tensor.storage, 1
        for size, stride in zip(reversed(tensor.shape), reversed(tensor.stride)):
            if size > 1 and stride != step:
                raise CheckpointError(f"{self.path}: tensor '{name}' has strides {tensor.stride} for shape "
                                      f"{tensor.shape}: expected row-major; save a contiguous copy")
            step *= size
        if len(tensor.shape) != len(tensor.stride) or tensor.first + tensor.count > storage.count:
            raise CheckpointError(f"{self.path}: tensor '{name}' reaches beyond its storage of {storage.count}")
        try:
            entry = self.archive.getinfo(storage.member)
        except KeyError:
            raise CheckpointError(f"{self.path}: tensor '{name}': {storage.member} is missing from the archive: copy "
                                  f"the file again") from None
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != storage.count * WIDTH[storage.dtype]:
            raise CheckpointError(f"{self.path}: tensor '{name}': {entry.file_size} bytes in {storage.member}, "
                                  f"expected {storage.count * WIDTH[storage.dtype]}, not compressed")

    def chunks(self, tensor):
        """The bytes of a tensor, CHUNK at a time."""
        width = WIDTH[tensor.dtype]
        left = tensor.count * width
        try:
            with self.archive.open(tensor.storage.member) as file:
                file.seek(tensor.first * width)
                while left:
                    data = file.read(min(CHUNK, left))
                    if not data:
                        raise EOFError("it ends too early")
                    left -= len(data)
                    yield data
        except (EOFError, OSError, zipfile.BadZipFile, zlib.error) as problem:
            raise CheckpointError(f"{self.path}: {tensor.storage.member}: {problem}: copy the file again") from None


@contextlib.contextmanager
def open_checkpoint(path):
    try:
        archive = zipfile.ZipFile(path)
    except OSError as problem:
        raise CheckpointError(f"{path}: {problem.strerror}") from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise CheckpointError(f"{path}: not a zip archive: expected one by torch.save of PyTorch 1.6 or newer; "
                              f"open an older one in PyTorch and save it again") from None
    with archive:
        yield Checkpoint(path, archive)
