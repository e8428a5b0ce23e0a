"""Endless captioned scenes from sprites, a pure function of (seed, index).

Kinds: plain (jittered), background ("X on COLOUR background"), hue ("COLOUR X", hue-rotated), pair ("X and Y"),
keyword (a plain scene under one of its keywords). A combination is held out when its hash says so, so held-out
captions are made of parts that were all seen.
"""
import hashlib

import numpy
from PIL import Image

BACKGROUNDS = {
    "white": (255, 255, 255), "black": (24, 24, 24), "red": (226, 62, 55), "orange": (245, 145, 40),
    "yellow": (252, 216, 70), "green": (76, 170, 80), "blue": (52, 120, 220), "purple": (142, 72, 190),
    "pink": (246, 160, 195), "grey": (150, 150, 150), "brown": (130, 88, 62), "sky blue": (150, 208, 245),
}
HUES = {"red": 0, "orange": 28, "yellow": 50, "green": 120, "blue": 215, "purple": 280, "pink": 330}
KINDS = ("plain", "background", "hue", "pair", "keyword")
WEIGHTS = (0.62, 0.16, 0.07, 0.10, 0.05)


def held_out(*parts):
    """One combination in 32 is never trained on."""
    return hashlib.sha256("|".join(parts).encode()).digest()[0] < 8


def dominant_hue(sprite):
    """Degrees of the one hue that covers a sprite, or None."""
    hsv = numpy.asarray(Image.fromarray(sprite[..., :3]).convert("HSV"))
    hue = hsv[..., 0].astype(float) * 360 / 255
    weight = (sprite[..., 3] > 128) * (hsv[..., 1] > 70) * (hsv[..., 2] > 60)
    if weight.sum() < 0.5 * (sprite[..., 3] > 128).sum():
        return None
    angle = numpy.deg2rad(hue[weight > 0])
    mean = numpy.exp(1j * angle).mean()
    return float(numpy.rad2deg(numpy.angle(mean)) % 360) if abs(mean) > 0.9 else None


def rotate_hue(sprite, degrees):
    hsv = numpy.asarray(Image.fromarray(sprite[..., :3]).convert("HSV")).copy()
    hsv[..., 0] = (hsv[..., 0].astype(int) + int(degrees * 255 / 360)) % 256
    return numpy.dstack([numpy.asarray(Image.fromarray(hsv, "HSV").convert("RGB")), sprite[..., 3]])


class Scenes:
    def __init__(self, sprites, keywords, size, jitter=1.0):
        self.size, self.jitter = size, jitter
        self.names = sorted(sprites)
        self.sprites = {name: Image.fromarray(sprites[name], "RGBA") for name in self.names}
        self.keywords = {name: [word for word in keywords[name] if word != name] for name in self.names}
        coloured = [(name, dominant_hue(sprites[name])) for name in self.names]
        plain = [(name, hue) for name, hue in coloured
                 if hue is not None and not any(word in name.split() for word in (*HUES, "brown"))]
        self.hued = {(name, word): Image.fromarray(rotate_hue(sprites[name], target - hue), "RGBA")
                     for name, hue in plain for word, target in HUES.items()
                     if abs((target - hue + 180) % 360 - 180) > 20}
        self.hued_keys = sorted(self.hued)

    def place(self, canvas, sprite, rng, centre, width):
        """Adds a jittered sprite; centre and width in units of the canvas."""
        jitter = self.jitter
        scale = sprite.width / (self.size * width * (1 + jitter * rng.uniform(-0.10, 0.10)))
        angle = numpy.deg2rad(jitter * rng.uniform(-8, 8))
        x, y = (numpy.array(centre) + jitter * rng.uniform(-0.05, 0.05, 2)) * self.size
        cos, sin = numpy.cos(angle) * scale, numpy.sin(angle) * scale
        half = sprite.width / 2
        box = (cos, sin, half - cos * x - sin * y, -sin, cos, half + sin * x - cos * y)
        if scale > 1.6:
            sprite = sprite.reduce(2)
            box = tuple(value / 2 for value in box)
        layer = sprite.transform((self.size, self.size), Image.Transform.AFFINE, box,
                                 Image.Resampling.BILINEAR)
        layer = numpy.asarray(layer, dtype=numpy.float32)
        alpha = layer[..., 3:] / 255
        return canvas * (1 - alpha) + layer[..., :3] * alpha

    def compose(self, kind, parts, seed):
        """One picture [size, size, 3] uint8. parts: ((sprite, ...), background word)."""
        rng = numpy.random.default_rng(seed)
        sprites, background = parts
        colour = numpy.array(BACKGROUNDS[background], dtype=numpy.float32)
        if background != "white":
            colour = numpy.clip(colour + self.jitter * rng.uniform(-12, 12, 3), 0, 255).astype(numpy.float32)
        canvas = numpy.broadcast_to(colour, (self.size, self.size, 3))
        if len(sprites) == 1:
            width = 0.9 if kind != "background" else 0.72
            canvas = self.place(canvas, sprites[0], rng, (0.5, 0.5), width)
        else:
            for sprite, x in zip(sprites, (0.27, 0.73)):
                canvas = self.place(canvas, sprite, rng, (x, 0.5), 0.46)
        return canvas.round().clip(0, 255).astype(numpy.uint8)

    def draw(self, kind, rng):
        """(caption, combination, (sprites, background)) of a random scene of a kind."""
        name = self.names[rng.integers(len(self.names))]
        sprite = self.sprites[name]
        if kind == "background":
            colour = sorted(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))]
            return f"{name} on {colour} background", (kind, name, colour), ((sprite,), colour)
        if kind == "hue" and self.hued_keys:
            name, colour = self.hued_keys[rng.integers(len(self.hued_keys))]
            return f"{colour} {name}", (kind, name, colour), ((self.hued[name, colour],), "white")
        if kind == "pair":
            other = self.names[rng.integers(len(self.names))]
            return f"{name} and {other}", (kind, name, other), ((sprite, self.sprites[other]), "white")
        if kind == "keyword" and self.keywords[name]:
            words = self.keywords[name]
            return words[rng.integers(len(words))], (kind, name), ((sprite,), "white")
        return name, ("plain", name), ((sprite,), "white")

    def scene(self, seed, index, kind=None, held=False):
        """(caption, picture): held selects only held-out combinations, else only the others."""
        rng = numpy.random.default_rng([seed, index])
        while True:
            chosen = kind or KINDS[rng.choice(len(KINDS), p=WEIGHTS)]
            caption, combination, parts = self.draw(chosen, rng)
            if combination[0] in ("plain", "keyword") or held_out(*combination) == held:
                return caption, self.compose(chosen, parts, [seed, index, 1])

    def batch(self, seed, first, count, kind=None, held=False):
        pairs = [self.scene(seed, first + i, kind, held) for i in range(count)]
        return [caption for caption, _ in pairs], numpy.stack([picture for _, picture in pairs])
