#!/usr/bin/env python3
"""tools/convert-spherear on files as torch.save writes them, in the names and shapes of tests/golden/spherear-tiny."""
import json
import os
import unittest

from fixtures import ROOT, Conversion, Fixture, save, shapes_of, tensors_of

TINY = os.path.join(ROOT, "tests", "golden", "spherear-tiny")
SHAPES = shapes_of("spherear-tiny", "model.safetensors")


class ConvertSphereAr(Conversion):
    tool, names, options = "convert-spherear", ("m.pt",), ("--heads", "2")

    def setUp(self):
        super().setUp()
        self.weights = tensors_of(SHAPES)
        self.save_model()

    def save_model(self):
        other = {"proj_in.weight": Fixture((1,), [9.0])}
        vae = {"vae.encoder.output.weight": Fixture((2, 2), [1.0, 2.0, 3.0, 4.0])}
        average = dict(self.weights, **vae)
        save(self.files[0], {"model": other, "ema": average}, list(average.values()) + list(other.values()))

    def test_bytes_and_config(self):
        with open(os.path.join(TINY, "config.json"), encoding="utf-8") as file:
            tiny = json.load(file)
        self.assertEqual(self.succeeds("--steps", "8"), tiny)
        self.assert_same("model.safetensors", self.weights)

    def test_options(self):
        config = self.succeeds("--dtype", "bf16", "--terminal-noise", "0.05")
        self.assertEqual((config["head"]["steps"], config["head"]["terminal_noise"]), (101, 0.05))
        self.assert_same("model.safetensors", tensors_of(SHAPES, "BF16"))

    def test_missing_tensors(self):
        for name in ("emb_norm.weight", "layers.1.attention.wo.weight", "pos_for_diff.weight", "proj_in.bias",
                     "head.net.res_blocks.3.w1.bias", "head.net.final_layer.linear.weight",
                     "head.net.ada_ln_blocks.1.bias"):
            kept = self.weights.pop(name)
            self.save_model()
            self.refused(f"no tensor '{name}'")
            self.weights[name] = kept

    def test_shapes(self):
        self.refuses_shapes(("layers.0.feed_forward.w1.weight", (500, 32)), ("head.net.cond_embed.weight", (32, 33)),
                            ("norm.weight", (31,)), ("head.net.res_blocks.0.norm.bias", (33,)))

    def test_others(self):
        self.weights["extra"] = Fixture((1,), [1.0])
        self.save_model()
        self.refused("'extra' is not of a class-conditional SphereAR")
        del self.weights["extra"]
        for options, part in ((("--steps", "0"), "--steps 0"), (("--steps", "1000"), "--steps 1000"),
                              (("--terminal-noise", "2"), "--terminal-noise 2"), (("--heads", "3"), "with 3 heads")):
            self.save_model()
            self.refused(part, options=options)

    def test_not_finite(self):
        self.weights["proj_in.weight"].values[5] = float("nan")
        self.save_model()
        self.refused("'proj_in.weight' has a NaN or an infinity")


if __name__ == "__main__":
    unittest.main()
