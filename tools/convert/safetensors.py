"""Writes safetensors files piece by piece: header length, JSON header, raw little-endian data."""
import array
import json
import math
import os
import struct
import sys

WIDTH = {"F32": 4, "F16": 2, "BF16": 2}
LANES = 1 << 14  # values rounded at a time


def lanes(value, count):
    """count copies of a 32-bit value, side by side in one integer."""
    return int.from_bytes(struct.pack("<I", value) * count, "little")


MASKS = {}


def masks(count):
    if count not in MASKS:
        MASKS[count] = [lanes(value, count) for value in (0x7F800000, 0x00800000, 0x80000000, 1, 0x7FFF)]
    return MASKS[count]


def finite(data):
    """Whether float32 data has neither NaN nor infinity: adding one to an exponent of all ones sets the sign bit."""
    for first in range(0, len(data), 4 * LANES):
        part = data[first:first + 4 * LANES]
        exponent, step, sign, _, _ = masks(len(part) // 4)
        if ((int.from_bytes(part, "little") & exponent) + step) & sign:
            return False
    return True


def round_to_bf16(data):
    """Finite float32 bytes to bfloat16 bytes, to nearest even: bits + 0x7FFF + (bits >> 16 & 1), upper half. All values
    are added at once in one long integer; finite values leave no carry between them."""
    out = bytearray(len(data) // 2)
    for first in range(0, len(data), 4 * LANES):
        part = data[first:first + 4 * LANES]
        _, _, _, odd, half = masks(len(part) // 4)
        bits = int.from_bytes(part, "little")
        rounded = (bits + (bits >> 16 & odd) + half).to_bytes(len(part), "little")
        target = slice(first // 2, (first + len(part)) // 2)
        pairs = bytearray(len(part) // 2)
        pairs[0::2], pairs[1::2] = rounded[2::4], rounded[3::4]
        out[target] = pairs
    return bytes(out)


def widen(data):
    """float16 bytes to float32 bytes."""
    values = array.array("f", struct.unpack(f"<{len(data) // 2}e", data))
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def write(path, tensors, metadata):
    """tensors {name: (dtype, shape, iterator of bytes)}. The file appears whole or not at all."""
    header, offset = {"__metadata__": metadata}, 0
    for name in sorted(tensors):
        dtype, shape, _ = tensors[name]
        end = offset + math.prod(shape) * WIDTH[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    part = path + ".part"
    try:
        with open(part, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for name in sorted(tensors):
                for data in tensors[name][2]:
                    file.write(data)
            if file.tell() != 8 + len(text) + offset:
                raise AssertionError("the data does not fill its header")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.remove(part)
        raise
