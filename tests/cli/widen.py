"""A copy of a tiny model of tests/golden whose weights are f32. Usage: widen.py FROM TO

The matrices that bf16 arithmetic rounds get numbers that round to those of the original, halves to even among them; the
others keep their values. So the original is what rounding makes of the copy."""
import array
import json
import os
import random
import re
import shutil
import struct
import sys

# Read in float whatever the arithmetic: tables, and what stands next to a state.
EXACT = re.compile(r"embedding|class_emb|pos_|time_embed|input_proj|proj_in|z_proj|final_layer\.linear|fake_latent")


def widened(values, moved, draw):
    for half in values:
        near = draw.choice((-0x7FFF, 0x7FFF, draw.randrange(-0x7FFF, 0x8000), 0x8000 if half % 2 == 0 else 0x7FFF))
        yield (half << 16) + (near if moved and half & 0x7FFF else 0)


def main(source, target):
    shutil.copytree(source, target)
    path = os.path.join(target, "model.safetensors")
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header, body, draw = json.loads(data[8 : 8 + size]), data[8 + size :], random.Random(1)
    out, moved = array.array("I"), 0
    for name in sorted(header):
        tensor = header[name]
        if name == "__metadata__":
            continue
        assert tensor["dtype"] == "BF16", name
        first, last = tensor["data_offsets"]
        inside = len(tensor["shape"]) == 2 and not EXACT.search(name)
        moved += inside
        values = array.array("H", body[first:last])
        tensor.update(dtype="F32", data_offsets=[4 * len(out), 4 * (len(out) + len(values))])
        out.extend(widened(values, inside, draw))
    assert moved > 10, moved
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + out.tobytes())


main(*sys.argv[1:])
