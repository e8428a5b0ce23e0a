"""safetensors in and out: an 8-byte header length, a JSON header, raw little-endian data."""
import json
import struct

import numpy
import torch


def save(path, tensors):
    """Writes tensors {name: tensor} as bfloat16, sorted by name, header padded to 8 bytes."""
    header, blobs, offset = {"__metadata__": {"format": "specular"}}, [], 0
    for name in sorted(tensors):
        bits = tensors[name].detach().float().contiguous().numpy().view(numpy.uint32)
        rounded = ((bits.astype(numpy.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
        blob = rounded.tobytes()
        header[name] = {"dtype": "BF16", "shape": list(tensors[name].shape), "data_offsets": [offset,
                                                                                              offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def load(path):
    """{name: float32 tensor} of a file with BF16 or F32 tensors."""
    with open(path, "rb") as file:
        data = file.read()
    length, = struct.unpack("<Q", data[:8])
    out = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        raw = numpy.frombuffer(data[8 + length + begin:8 + length + end],
                               dtype="<u2" if entry["dtype"] == "BF16" else "<f4")
        if entry["dtype"] == "BF16":
            raw = (raw.astype(numpy.uint32) << 16).view(numpy.float32)
        out[name] = torch.from_numpy(raw.copy()).reshape(entry["shape"])
    return out
