"""Vector icon sets to sprites: {name: [H, W, 4] uint8, straight alpha}.

An icon set is the folder (or .tar.xz of it) of an npm package @iconify-json/<set>: icons.json holds the
SVG bodies, chars.json maps a code point to an icon. English names and keywords come from Unicode CLDR.
"""
import concurrent.futures
import io
import json
import os
import subprocess
import tarfile
import xml.etree.ElementTree as ElementTree

import numpy
from PIL import Image

SPRITE = 128
CLDR = "/usr/share/unicode/cldr/common"


def cldr_names(folder=CLDR):
    """code points without variation selectors -> (name, [keywords])."""
    names, keywords = {}, {}
    for part in ("annotations", "annotationsDerived"):
        for node in ElementTree.parse(os.path.join(folder, part, "en.xml")).iter("annotation"):
            points = node.get("cp").replace("\ufe0f", "")
            if node.get("type") == "tts":
                names[points] = node.text
            else:
                keywords[points] = [word.strip() for word in node.text.split("|")]
    return {points: (name, keywords.get(points, [])) for points, name in names.items()}


def read_set(path):
    """The two JSON objects of an icon set, from a folder or an archive."""
    wanted = {"icons.json": None, "chars.json": None}
    if os.path.isdir(path):
        for name in wanted:
            with open(os.path.join(path, name), encoding="utf-8") as file:
                wanted[name] = json.load(file)
    else:
        with tarfile.open(path) as archive:
            for member in archive.getmembers():
                name = os.path.basename(member.name)
                if name in wanted:
                    wanted[name] = json.load(archive.extractfile(member))
    missing = [name for name, value in wanted.items() if value is None]
    if missing:
        raise SystemExit(f"train: {path}: no {missing[0]}: expected an @iconify-json package")
    return wanted["icons.json"], wanted["chars.json"]


def render(icons, name):
    icon = icons["icons"][name]
    left, top = icon.get("left", 0), icon.get("top", 0)
    width = icon.get("width", icons.get("width", 16))
    height = icon.get("height", icons.get("height", 16))
    svg = (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
           f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>')
    done = subprocess.run(["rsvg-convert", "-w", str(SPRITE), "-h", str(SPRITE)], input=svg.encode(),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"train: rsvg-convert: icon '{name}': {done.stderr.decode().strip()}")
    return numpy.asarray(Image.open(io.BytesIO(done.stdout)).convert("RGBA"))


def load(path, cache, wanted=None):
    """Sprites of a set and their keywords. wanted: names to keep (all but skin tones and flags if None)."""
    icons, chars = read_set(path)
    names = cldr_names()
    chosen, keywords = {}, {}
    for points, icon in chars.items():
        text = "".join(chr(int(point, 16)) for point in points.split("-")).replace("\ufe0f", "")
        if icon not in icons["icons"] or any(0x1F3FB <= ord(letter) <= 0x1F3FF for letter in text):
            continue
        name, words = names.get(text, (icon.replace("-", " "), []))
        if name.startswith("flag") or name in chosen or (wanted is not None and name not in wanted):
            continue
        chosen[name], keywords[name] = icon, words
    if wanted is not None and wanted - set(chosen):
        raise SystemExit(f"train: {path}: no icon named {sorted(wanted - set(chosen))}")
    order = sorted(chosen)
    if os.path.exists(cache):
        held = numpy.load(cache)
        if list(held["names"]) == order:
            return dict(zip(order, held["sprites"])), keywords
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        sprites = list(pool.map(lambda name: render(icons, chosen[name]), order))
    numpy.savez_compressed(cache, names=numpy.array(order), sprites=numpy.stack(sprites))
    return dict(zip(order, sprites)), keywords
