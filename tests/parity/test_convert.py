#!/usr/bin/env python3
"""tools/convert-llamagen on files as torch.save writes them (made here, without PyTorch) and on hostile ones."""
import collections
import os
import struct
import sys
import unittest
import zipfile

from fixtures import ROOT, Conversion, Fixture, Values, save, shapes_of, tensors_of

sys.path.insert(0, os.path.join(ROOT, "tools", "convert"))

import safetensors  # noqa: E402

# The names of the official code.
VQ_SHAPES = shapes_of("llamagen-tiny", "vq.safetensors")


def transformer_shapes(dim=8, ffn=12, layers=2, codes=6, classes=4, qkv=24):
    shapes = {"cls_embedding.embedding_table.weight": (classes + 1, dim), "tok_embeddings.weight": (codes, dim)}
    for i in range(layers):
        shapes.update({f"layers.{i}.attention.wqkv.weight": (qkv, dim), f"layers.{i}.attention.wo.weight": (dim, dim),
                       f"layers.{i}.feed_forward.w1.weight": (ffn, dim),
                       f"layers.{i}.feed_forward.w3.weight": (ffn, dim),
                       f"layers.{i}.feed_forward.w2.weight": (dim, ffn),
                       f"layers.{i}.attention_norm.weight": (dim,), f"layers.{i}.ffn_norm.weight": (dim,)})
    shapes.update({"norm.weight": (dim,), "output.weight": (codes, dim)})
    return shapes


class Convert(Conversion):
    tool, names, options = "convert-llamagen", ("m.pt", "v.pt"), ("--image-size", "32", "--heads", "2")

    def setUp(self):
        super().setUp()
        self.model, self.vq = self.files
        self.weights, self.codec = tensors_of(transformer_shapes()), tensors_of(VQ_SHAPES)
        self.codec["quantize.embedding.weight"] = Fixture((6, 8), Values().take(48))
        self.save_model({"model": self.weights})
        save(self.vq, {"model": self.codec}, list(self.codec.values()))

    def save_model(self, content, **options):
        save(self.model, content, list(self.weights.values()), **options)

    def test_bytes_and_config(self):
        config = self.succeeds()
        self.assert_same("model.safetensors", self.weights)
        self.assert_same("vq.safetensors", self.codec)
        self.assertEqual(config["transformer"], {
            "dim": 8, "layers": 2, "heads": 2, "kv_heads": 2, "head_dim": 4, "ffn_dim": 12, "norm": "rms",
            "norm_eps": 1e-5, "qk_norm": "none", "rope": "2d", "rope_base": 10000.0, "rope_pairs": "adjacent",
            "rope_prefix": "zero", "activation": "swiglu", "bias": False})
        self.assertEqual(config["classes"], {"count": 4, "null": 4})
        self.assertEqual(config["codes"], {"count": 6, "grid": [8, 8], "head": "linear"})
        self.assertEqual(config["vq"], {
            "channels": 8, "channel_mult": [1, 2, 2], "blocks_per_level": 1, "attention": "lowest", "z_channels": 16,
            "codebook": [6, 8], "l2_normalised": True, "group_norm_groups": 32, "group_norm_eps": 1e-6,
            "output_range": [-1, 1], "image_size": [32, 32]})

    def test_grouped_heads(self):
        self.weights = tensors_of(transformer_shapes(qkv=16))
        self.save_model({"model": self.weights})
        self.assertEqual(self.succeeds()["transformer"]["kv_heads"], 1)

    def test_places_of_the_table(self):
        for content in ({"module": self.weights, "epoch": 3}, {"state_dict": self.weights}, self.weights,
                        {"optimizer": {"model": 1}, "model": self.weights}):
            self.save_model(content)
            self.succeeds()
            self.assert_same("model.safetensors", self.weights)

    def test_ignored(self):
        extra = dict(self.weights, freqs_cis=Fixture((2, 2), [1.0, 2.0, 3.0, 4.0]))
        save(self.model, {"model": extra, "args": __import__("argparse").Namespace(lr=1e-4, betas=(0.9, 0.95)),
                          "steps": 7}, list(extra.values()))
        self.codec["quantize.codebook_used"] = Fixture((3,), [0.0, 1.0, 2.0])
        save(self.vq, {"model": self.codec}, list(self.codec.values()))
        self.succeeds()
        self.assert_same("model.safetensors", self.weights)
        self.assertNotIn("quantize.codebook_used", self.made("vq.safetensors"))

    def test_part_of_a_storage(self):
        tensor = self.weights["norm.weight"]
        self.weights["norm.weight"] = Fixture((8,), [9.0] * 5 + tensor.values + [9.0], first=5)
        self.save_model({"model": self.weights})
        self.succeeds()
        self.assertEqual(self.made("model.safetensors")["norm.weight"][2], tensor.bytes())

    def test_dtypes(self):
        for dtype in ("F32", "F16", "BF16"):
            self.weights = tensors_of(transformer_shapes(), dtype)
            self.save_model({"model": self.weights})
            self.succeeds()
            self.assert_same("model.safetensors", self.weights)
            exact = tensors_of(transformer_shapes(), "BF16")
            self.succeeds("--dtype", "bf16")
            self.assert_same("model.safetensors", exact)

    def test_rounding(self):
        """To nearest, ties to even, across the lanes of a long integer and at its ends."""
        bits = [0, 0x80000000, 0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0xBF818000, 0x7F7F7FFF, 1,
                0x80000001, 0x00008000, 0x0000FFFF, 0xFF7F0000]
        bits += [(i * 2654435761) & 0x7F7FFFFF | (i & 1) << 31 for i in range(3 * safetensors.LANES)]
        bits = [b if b & 0x7F800000 != 0x7F800000 else b & 0xFF7FFFFF for b in bits]
        expected = []
        for value in bits:
            low, half = value & 0xFFFF, value >> 16
            expected.append(half + (low > 0x8000 or (low == 0x8000 and half & 1)))
        found = safetensors.round_to_bf16(struct.pack(f"<{len(bits)}I", *bits))
        self.assertEqual(struct.unpack(f"<{len(bits)}H", found), tuple(expected))

    def test_not_finite(self):
        for value in (float("nan"), float("inf"), float("-inf")):
            for place in (0, 47):
                self.weights["output.weight"].values[place] = value
                self.save_model({"model": self.weights})
                self.refused("'output.weight' has a NaN or an infinity")
                self.weights["output.weight"].values[place] = 0.0

    def test_hostile_calls(self):
        """Nothing that a pickle names is called: the file that it would make does not appear."""
        mark = os.path.join(self.folder, "called")
        for module, name, argument in (("os", "system", f"touch {mark}"), ("posix", "system", f"touch {mark}"),
                                       ("builtins", "eval", f"open({mark!r}, 'w')"), ("builtins", "getattr", "x"),
                                       ("collections", "namedtuple", "x"), ("subprocess", "call", "true")):
            raw = f"c{module}\n{name}\n(V{argument}\ntR.".encode()
            self.save_model({}, raw=raw)
            self.refused(f"calls {module}.{name}", "do not trust this file")
            self.save_model({}, raw=b"\x80\x04\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" +
                            bytes([len(name)]) + name.encode() + b"\x93\x8c\x01x\x85R.")
            self.refused(f"calls {module}.{name}")
        self.assertFalse(os.path.exists(mark))

    def test_harmless_names_stay_inert(self):
        mark = os.path.join(self.folder, "called")
        for raw in (f"cnumpy.testing\nmeasure\n(Vopen({mark!r},'w')\ntR.".encode(),
                    f"ctorch\nload\n(V{mark}\ntR.".encode()):
            self.save_model({}, raw=raw)
            self.refused("no table of weights")
        self.assertFalse(os.path.exists(mark))

    def test_malformed_pickles(self):
        for raw in (b"", b".", b"garbage", b"\x80\x02}", b"(" * 1000, b"\x80\x02ccollections\nOrderedDict\n)R)R.",
                    b"ctorch._utils\n_rebuild_tensor_v2\n(tR."):
            self.save_model({}, raw=raw)
            self.refused("data.pkl is malformed")
        for raw in (b"N.", b"]."):
            self.save_model({}, raw=raw)
            self.refused("no table of weights")

    def test_tensor_geometry(self):
        good = self.weights["norm.weight"]
        for bad, message in ((Fixture((8,), good.values, first=1), "reaches beyond its storage"),
                             (Fixture((8,), good.values, stride=(2,)), "strides"),
                             (Fixture((8,), good.values, stride=(1, 1)), "reaches beyond its storage"),
                             (Fixture((8,), good.values, first=-1), "negative size"),
                             (Fixture((-8,), good.values), "negative size"),
                             (Fixture((1 << 62,), good.values), "reaches beyond its storage"),
                             (Fixture((8,), list(range(8)), "I64"), "I64, expected F32"),
                             (Fixture((2, 4), good.values), "is 2 x 4, expected 8"),
                             (Fixture((), [1.0]), "is a scalar, expected 8")):
            self.weights["norm.weight"] = bad
            self.save_model({"model": self.weights})
            self.refused("'norm.weight'" if "negative" not in message else "", message)

    def test_storages(self):
        content = {"model": self.weights}
        self.save_model(content, compression=zipfile.ZIP_DEFLATED)
        self.refused("not compressed")
        self.save_model(content, order=b"big")
        self.refused("big-endian")
        self.save_model(content)
        short = self.model + ".short"
        with zipfile.ZipFile(self.model) as old, zipfile.ZipFile(short, "w") as new:
            for entry in old.infolist():
                if entry.filename != "archive/data/3":
                    new.writestr(entry.filename, old.read(entry))
        os.replace(short, self.model)
        self.refused("archive/data/3 is missing")

    def test_damaged_file(self):
        with open(self.model, "rb") as file:
            data = bytearray(file.read())
        at = data.index(self.weights["output.weight"].bytes())
        data[at] ^= 1
        with open(self.model, "wb") as file:
            file.write(data)
        self.refused("Bad CRC-32", "copy the file again")
        for cut in (0, 1, len(data) // 2, len(data) - 1):
            with open(self.model, "wb") as file:
                file.write(data[:cut])
            self.refused("not a zip archive")
        os.remove(self.model)
        self.refused("No such file")

    def test_names(self):
        for name in ("norm.weight", "layers.1.attention.wo.weight", "output.weight"):
            self.save_model({"model": collections.OrderedDict((n, t) for n, t in self.weights.items() if n != name)})
            self.refused(f"no tensor '{name}'")
        self.weights["layers.5.extra"] = Fixture((1,), [1.0])
        self.save_model({"model": self.weights})
        self.refused("'layers.5.extra' is not of a class-conditional LlamaGen")
        del self.weights["layers.5.extra"]
        self.weights["cls_embedding.cap_proj.fc1.weight"] = Fixture((1,), [1.0])
        self.save_model({"model": self.weights})
        self.refused("text-conditional")

    def test_vq_names(self):
        for name in ("decoder.mid.1.q.bias", "decoder.conv_blocks.1.res.1.conv2.weight", "encoder.norm_out.weight",
                     "quant_conv.weight", "decoder.conv_blocks.0.upsample.conv.weight"):
            codec = collections.OrderedDict((n, t) for n, t in self.codec.items() if n != name)
            save(self.vq, {"model": codec}, list(codec.values()))
            self.refused(f"no tensor '{name}'")

    def test_swapped_files(self):
        self.files.reverse()
        self.refused("no tensor 'tok_embeddings.weight'", "is this the other file?")

    def test_options(self):
        self.refused("--image-size 30", "multiple of 4", options=("--image-size", "30"))
        self.refused("width 8 with 3 heads", options=("--heads", "3"))

    def test_text_file(self):
        with open(self.model, "w", encoding="utf-8") as file:
            file.write("version https://git-lfs.github.com/spec/v1\n")
        self.refused("not a zip archive")


if __name__ == "__main__":
    unittest.main()
