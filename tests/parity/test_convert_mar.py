#!/usr/bin/env python3
"""tools/convert-mar on files as torch.save writes them, with the names and shapes of tests/golden/mar-tiny."""
import collections
import json
import os
import unittest

from fixtures import ROOT, Conversion, Fixture, save, shapes_of, tensors_of

TINY = os.path.join(ROOT, "tests", "golden", "mar-tiny")
SHAPES, CODEC_SHAPES = shapes_of("mar-tiny", "model.safetensors"), shapes_of("mar-tiny", "kl.safetensors")


class ConvertMar(Conversion):
    tool, names, options = "convert-mar", ("m.pth", "k.ckpt"), ("--heads", "2", "--groups", "4")

    def setUp(self):
        super().setUp()
        self.model, self.kl = self.files
        self.weights, self.codec = tensors_of(SHAPES), tensors_of(CODEC_SHAPES)
        self.save_model()
        save(self.kl, {"model": self.codec}, list(self.codec.values()))

    def save_model(self, **more):
        other = {"class_emb.weight": Fixture((1,), [9.0])}
        save(self.model, {"model": other, "model_ema": self.weights, "epoch": 3, **more},
             list(self.weights.values()) + list(other.values()))

    def test_bytes_and_config(self):
        with open(os.path.join(TINY, "config.json"), encoding="utf-8") as file:
            tiny = json.load(file)
        self.assertEqual(self.succeeds("--steps", "8", "--passes", "6"), tiny)
        self.assert_same("model.safetensors", self.weights)
        self.assert_same("kl.safetensors", self.codec)

    def test_defaults(self):
        config = self.succeeds()
        self.assertEqual((config["head"]["steps"], config["sampling"]["passes"]), (100, 16))

    def test_bf16(self):
        self.succeeds("--dtype", "bf16")
        self.assert_same("model.safetensors", tensors_of(SHAPES, "BF16"))
        self.assert_same("kl.safetensors", tensors_of(CODEC_SHAPES, "BF16"))

    def test_a_drafter_has_no_autoencoder(self):
        self.files = [self.model]
        self.assertNotIn("kl", self.succeeds())
        self.assertEqual(sorted(os.listdir(self.output)), ["config.json", "model.safetensors"])

    def test_extra_tensors_of_the_autoencoder_are_left_out(self):
        extra = dict(self.codec, **{"loss.logvar": Fixture((1,), [0.0])})
        save(self.kl, {"model": extra}, list(extra.values()))
        self.succeeds()
        self.assert_same("kl.safetensors", self.codec)

    def test_an_autoencoder_may_have_no_encoder(self):
        codec = {name: tensor for name, tensor in self.codec.items() if not name.startswith(("encoder.", "quant_conv"))}
        save(self.kl, {"model": codec}, list(codec.values()))
        self.assertEqual(self.succeeds()["kl"]["attention"], "middle")
        self.assert_same("kl.safetensors", codec)

    def test_missing_tensors(self):
        for name in ("fake_latent", "encoder_blocks.1.attn.qkv.bias", "decoder_norm.weight", "z_proj_ln.bias",
                     "diffloss.net.res_blocks.1.adaLN_modulation.1.weight", "diffloss.net.final_layer.linear.bias"):
            kept = self.weights.pop(name)
            self.save_model()
            self.refused(f"no tensor '{name}'")
            self.weights[name] = kept
        for name in ("decoder.mid.attn_1.q.bias", "decoder.up.3.upsample.conv.weight", "encoder.norm_out.weight",
                     "encoder.down.3.attn.1.k.weight", "post_quant_conv.bias", "quant_conv.weight"):
            codec = collections.OrderedDict((n, t) for n, t in self.codec.items() if n != name)
            save(self.kl, {"model": codec}, list(codec.values()))
            self.save_model()
            self.refused(f"no tensor '{name}'")

    def test_shapes(self):
        self.refuses_shapes(("decoder_embed.weight", (32, 16)), ("mask_token", (1, 32)),
                            ("decoder_pos_embed_learned", (1, 21, 32)), ("diffloss.net.cond_embed.weight", (48, 33)))

    def test_others(self):
        self.weights["extra"] = Fixture((1,), [1.0])
        self.save_model()
        self.refused("'extra' is not of a class-conditional MAR")
        del self.weights["extra"]
        for options, part in ((("--steps", "0"), "--steps 0"), (("--steps", "1001"), "--steps 1001"),
                              (("--passes", "0"), "--passes 0"), (("--passes", "17"), "--passes 17"),
                              (("--heads", "3"), "width 32 with 3 heads"), (("--groups", "3"), "in 3 groups")):
            self.save_model()
            self.refused(part, options=options)
        self.files.reverse()
        self.refused("no tensor 'class_emb.weight'", "is this the other file?")

    def test_not_finite(self):
        self.weights["z_proj.weight"].values[5] = float("nan")
        self.save_model()
        self.refused("'z_proj.weight' has a NaN or an infinity")


if __name__ == "__main__":
    unittest.main()
