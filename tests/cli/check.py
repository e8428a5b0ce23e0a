"""Checks of files that the command line wrote. Usage: check.py CHECK ARGUMENT..."""
import ast
import base64
import collections
import csv
import html.parser
import json
import os
import pty
import re
import struct
import sys
import zipfile
import zlib

import onnx


def chunks(path):
    data = open(path, "rb").read()
    assert data[:8] == b"\x89PNG\r\n\x1a\n", f"{path}: no PNG"
    position, found = 8, []
    while position < len(data):
        size, kind = struct.unpack(">I4s", data[position : position + 8])
        found.append((kind, data[position + 8 : position + 8 + size]))
        position += 12 + size
    return found


def write(path, found):
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, body in found:
            file.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))


def pixels(path):
    """Rows of (r, g, b) of an 8-bit RGB PNG."""
    found = chunks(path)
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", found[0][1])
    assert (depth, colour, interlaced) == (8, 2, 0), path
    data = zlib.decompress(b"".join(body for kind, body in found if kind == b"IDAT"))
    stride, rows, above = 3 * width, [], bytes(3 * width)
    for y in range(height):
        kind, line = data[y * (stride + 1)], bytearray(data[y * (stride + 1) + 1 : (y + 1) * (stride + 1)])
        for x in range(stride):
            left, up, corner = line[x - 3] if x > 2 else 0, above[x], above[x - 3] if x > 2 else 0
            estimate = left + up - corner
            near = min((abs(estimate - value), order, value) for order, value in enumerate((left, up, corner)))[2]
            line[x] = (line[x] + (0, left, up, (left + up) // 2, near)[kind]) & 255
        rows.append([tuple(line[3 * x : 3 * x + 3]) for x in range(width)])
        above = line
    return rows


def strip(source, target):
    write(target, [chunk for chunk in chunks(source) if chunk[0] not in (b"tEXt", b"iTXt")])


def retext(source, target, text):
    strip(source, target)
    found = chunks(target)
    write(target, found[:1] + [(b"tEXt", b"specular\0" + text.encode())] + found[1:])


def other_pixels(one, two):
    assert pixels(one) != pixels(two), "the same pixels"


def parameters(path, prompt):
    texts = dict(body.split(b"\0", 1) for kind, body in chunks(path) if kind == b"tEXt")
    text = texts[b"parameters"].decode()
    assert text.startswith(prompt + "\n"), text
    pairs = dict(pair.split(": ", 1) for pair in text.splitlines()[-1].split(", "))
    assert pairs["Seed"] == "18446744073709551615" and pairs["CFG scale"] == "2.25", pairs
    assert re.fullmatch(r"\d+x\d+", pairs["Size"]) and "Sampler" in pairs and "Model hash" in pairs, pairs


def report(path, tokens_path):
    r, tokens = json.load(open(path)), json.load(open(tokens_path))
    assert r["method"] == "pathwise" and r["exactness"] == "identical" and r["seed"] == 3, r
    assert r["prompt"] == "red heart" and r["model"] and len(r["model_fingerprint"]) == 16, r
    assert r["num_tokens"] == len(tokens) and all(isinstance(token, int) and token >= 0 for token in tokens), r
    histogram = r["acceptance_histogram"]
    assert sum(histogram) == r["nfe"] and sum(n * count for n, count in enumerate(histogram)) == r["num_tokens"], r
    assert abs(r["step_compression"] - r["num_tokens"] / r["nfe"]) < 1e-3, r
    assert abs(r["mean_acceptance_length"] - 1 - r["num_accepted_draft_tokens"] / r["nfe"]) < 1e-3, r
    assert abs(r["draft_acceptance_rate"] - r["num_accepted_draft_tokens"] / r["num_draft_tokens"]) < 1e-3, r
    assert 0 < r["num_accepted_draft_tokens"] <= r["num_draft_tokens"], r
    latency = r["latency_ms"]
    parts = latency["prefill"] + latency["decode"] + latency["vq"]
    assert latency["total"] >= parts - 0.01 and min(latency.values()) > 0, r
    assert abs(r["tokens_per_second"] - 1000 * r["num_tokens"] / latency["decode"]) < 1e-2 * r["tokens_per_second"], r
    assert r["peak_bytes"] > 0 and r["peak_resident_bytes"] > 0, r


def map(path, report_path):
    """Tokens are settled in raster order: squares never get darker, from the first colour of the legend to its last."""
    rows, r = pixels(path), json.load(open(report_path))
    side = int(r["num_tokens"] ** 0.5)
    cell = len(rows[0]) // side
    assert len(rows[0]) >= 256 and len(rows) > side * cell, (len(rows), len(rows[0]))
    squares = [rows[y * cell + cell // 2][x * cell + cell // 2] for y in range(side) for x in range(side)]
    light = [299 * c[0] + 587 * c[1] + 114 * c[2] for c in squares]
    assert light == sorted(light), "a square is darker than one before it"
    assert len(set(squares)) > min(r["nfe"], 100) * 0.8, (len(set(squares)), r["nfe"])
    strip_row = rows[side * cell + 8 + 6]
    assert squares[0] == strip_row[4] and squares[-1] == strip_row[-6] or light[-1] >= max(light), squares[-1]


def same_image(data, path):
    with open("shown.png", "wb") as file:
        file.write(data)
    assert pixels("shown.png") == pixels(path), "another picture was shown"


def kitty(path, picture):
    parts = re.findall(rb"\033_G([^;]*);([^\033]*)\033\\", open(path, "rb").read())
    assert len(parts) > 1 and all(0 < len(text) <= 4096 for _, text in parts), [len(text) for _, text in parts]
    assert b"a=T" in parts[0][0] and b"f=100" in parts[0][0] and re.search(rb"c=\d+,r=\d+", parts[0][0]), parts[0][0]
    assert [keys[-3:] for keys, _ in parts] == [b"m=1"] * (len(parts) - 1) + [b"m=0"]
    same_image(base64.b64decode(b"".join(text for _, text in parts), validate=True), picture)


def iterm(path, picture):
    shape = rb"\033\]1337;File=inline=1;size=(\d+);width=\d+;height=\d+:([^\a]*)\a\n"
    match = re.fullmatch(shape, open(path, "rb").read())
    assert match, "no inline image"
    data = base64.b64decode(match[2], validate=True)
    assert len(data) == int(match[1]), (len(data), match[1])
    same_image(data, picture)


def sixel(path, picture):
    """Decodes the sixels and compares means over areas of 32 x 32: diffusion keeps them, up to a step at the edges."""
    text = open(path, encoding="ascii").read()
    match = re.fullmatch(r'\033Pq"1;1;(\d+);(\d+)((?:#\d+;2;\d+;\d+;\d+)+)(.*)\033\\\n', text, re.S)
    width, height = int(match[1]), int(match[2])
    palette = {int(i): (int(r), int(g), int(b)) for i, r, g, b in re.findall(r"#(\d+);2;(\d+);(\d+);(\d+)", match[3])}
    image, x, band, colour = {}, 0, 0, None
    for token in re.findall(r"#\d+|!\d+.|[$-]|[?-~]", match[4]):
        if token[0] == "#":
            colour = palette[int(token[1:])]
        elif token == "$":
            x = 0
        elif token == "-":
            x, band = 0, band + 6
        else:
            for _ in range(int(token[1:-1]) if token[0] == "!" else 1):
                for bit in range(6):
                    if (ord(token[-1]) - 63) >> bit & 1:
                        assert (x, band + bit) not in image, "a pixel twice"
                        image[x, band + bit] = colour
                x += 1
    assert len(image) == width * height, (len(image), width, height)
    rows = pixels(picture)
    zoom = width // len(rows[0])
    assert width >= 256 and zoom * len(rows[0]) == width and zoom * len(rows) == height
    for top in range(0, height - 31, 32):
        for left in range(0, width - 31, 32):
            area = [(left + i, top + j) for i in range(32) for j in range(32)]
            for c in range(3):
                shown = sum(image[at][c] for at in area) / len(area) * 2.55
                meant = sum(rows[y // zoom][x // zoom][c] for x, y in area) / len(area)
                assert abs(shown - meant) < 51 / 8, (left, top, c, shown, meant)


def blocks(path, picture):
    lines = open(path, encoding="utf-8").read().splitlines()
    cells = [re.findall(r"\033\[38;2;(\d+);(\d+);(\d+)m\033\[48;2;(\d+);(\d+);(\d+)m▀", line) for line in lines]
    assert len({len(line) for line in cells}) == 1 and cells[0] and all(line.endswith("\033[0m") for line in lines)
    rows = pixels(picture)
    mean = [sum(pixel[c] for row in rows for pixel in row) / len(rows) / len(rows[0]) for c in range(3)]
    shown = [[int(cell[c]) + int(cell[c + 3]) for line in cells for cell in line] for c in range(3)]
    assert all(abs(sum(values) / len(values) / 2 - value) < 3 for values, value in zip(shown, mean)), "other colours"


def on_terminal(command, variables):
    """Standard output and error of a command on a new terminal of 24 x 80."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(pair.split("=", 1) for pair in variables)
        os.execvp(command[0], command)
    output = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        output += part
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0, output
    return output


def terminal(wanted, *variables):
    command = ["specular", "generate", "-q", "-p", "x", "-s", "1", "-o", "t.png", "--force", "--show"]
    output = on_terminal(command, variables)
    marks = {"kitty": b"\033_G", "iterm": b"\033]1337;", "sixel": b"\033Pq", "blocks": "▀".encode()}
    assert [name for name, mark in marks.items() if mark in output] == [wanted], (wanted, output[:80])


def bar():
    """A bar with colour on a terminal, none under NO_COLOR, taken away at the end. Slow enough to be drawn."""
    slowly = ["-b", "3", "--method", "ar", "--dtype", "f32", "-t", "1"]
    command = ["specular", "generate", "-p", "x", "-s", "1", "-o", "t.png", "--force", *slowly]
    output = on_terminal(command, ["TERM=xterm"])
    shape = rb"\r\033\[K[1-3]/3 \[\033\[32m#+-+\033\[0m\] \d+/\d+ tokens, [\d.]+ a pass, \d+ s left"
    assert re.search(shape, output), output
    assert b"\r\033[Kspecular: t.png: seed 1" in output, output
    plain = on_terminal(command, ["TERM=xterm", "NO_COLOR=1"])
    assert b"tokens, " in plain and b"\033[3" not in plain, plain
    assert b"left" not in on_terminal(command, ["TERM=dumb"])


def journal(path):
    """Whole lines are records of pictures that are there; at most the last line is torn."""
    if not os.path.exists(path):
        return
    for line in open(path, "rb").read().split(b"\n")[:-1]:
        record = json.loads(line)
        file = os.path.join(os.path.dirname(path), record["file"])
        assert os.path.getsize(file) == record["bytes"], record


def groups(folder):
    """Records of the journal, the last of each group; each is whole and its pictures are there."""
    found = {}
    for line in open(os.path.join(folder, "journal.jsonl")):
        record = json.loads(line)
        found[record["prompt"], record["image"]] = record["settings"]
        for element in record["settings"]:
            assert os.path.getsize(os.path.join(folder, element["file"])) == element["bytes"], element["file"]
            assert sum(element["histogram"]) == element["nfe"], element
    assert found, "no groups"
    return found


def evaluation(folder):
    """results.csv and results.json say the same, agree with the journal, and report.html stands alone."""
    records = list(groups(folder).values())
    with open(os.path.join(folder, "results.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    results = json.load(open(os.path.join(folder, "results.json")))
    settings = [setting["name"] for setting in results["settings"]]
    assert settings[0] == "ar" and [row["setting"] for row in rows] == settings, settings
    for number, (row, result) in enumerate(zip(rows, results["results"])):
        elements = [record[number] for record in records]
        for key, value in result.items():
            if isinstance(value, dict):
                assert abs(float(row[key]) - value["value"]) <= 1e-6 * abs(value["value"]), (key, row, value)
                if value["low"] is not None:
                    assert value["low"] <= value["value"] <= value["high"], (key, value)
                    assert abs(float(row[key + "_low"]) - value["low"]) <= 1e-6 * abs(value["low"]), (key, row)
            elif value is None:
                assert row[key] == "", (key, row)
        figure = lambda name: result[name]["value"]
        passes, tokens = sum(e["nfe"] for e in elements), sum(len(e["tokens"]) for e in elements)
        assert abs(figure("nfe") - passes / len(elements)) < 1e-6 * passes
        assert abs(figure("step_compression") - tokens / passes) < 1e-6 * tokens
        assert abs(figure("nll") + sum(e["log_p"] for e in elements) / tokens) < 1e-6
        seconds = [sorted(record[i]["latency_ms"]["total"] / 1000 for record in records) for i in (0, number)]
        middle = [(x[(len(x) - 1) // 2] + x[len(x) // 2]) / 2 for x in seconds]
        assert abs(figure("image_seconds") - middle[1]) < 1e-6 * middle[1]
        if result["option"] != "temperature":
            assert abs(figure("speedup") - middle[0] / middle[1]) < 1e-5 * figure("speedup")
        # Every setting of these tests is identical to plain decoding under the same law.
        assert row["exactness"] == "identical" and figure("token_identity") == 1, row
        assert figure("total_variation_at_most") == figure("code_divergence") == figure("nll_excess") == 0, row
        assert abs(figure("frechet")) < 1e-6 and figure("precision") == figure("recall") == 1, row
        shares = [share["value"] for share in result["acceptance_histogram"]]
        assert abs(sum(shares) - 1) < 1e-6, shares
        if result["reference_frechet"] is not None and row["option"] != "temperature":
            assert abs(figure("reference_frechet")) < 1e-6 and figure("reference_recall") == 1, row
    page = open(os.path.join(folder, "report.html"), encoding="utf-8").read()
    parser = Page()
    parser.feed(page)
    assert parser.tags["script"] == parser.tags["link"] == parser.tags["iframe"] == 0, parser.tags
    assert parser.tags["title"] > 1 and parser.tags["svg"] > 2 and parser.tags["html"] == 1, parser.tags
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; car" in page
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources) and parser.sources
    shown = [base64.b64decode(source.split(",")[1], validate=True) for source in parser.sources]
    assert open(os.path.join(folder, "ar", os.path.basename(records[0][0]["file"])), "rb").read() in shown


def scaled(line, count):
    """A line of numbers at another length: weights fall linearly to 0 at a distance of one of the larger pixels."""
    ratio, out = len(line) / count, []
    for i in range(count):
        weights = [max(0, 1 - abs(x + 0.5 - (i + 0.5) * ratio) / max(ratio, 1)) for x in range(len(line))]
        out.append(sum(weight * value for weight, value in zip(weights, line)) / sum(weights))
    return out


def seen(path, network, width, height, mean, deviation):
    """What a model of onnx.py makes of a picture."""
    planes, rows = [], pixels(path)
    for c in range(3):
        lines = [scaled([(pixel[c] / 255 - mean[c]) / deviation[c] for pixel in row], width) for row in rows]
        columns = [scaled(column, height) for column in zip(*lines)]
        planes += [value for row in zip(*columns) for value in row]
    if network == "mean":
        return [sum(planes[c * width * height : (c + 1) * width * height]) / width / height for c in range(3)]
    weights, n = onnx.weights(4 * len(planes)), len(planes)
    return [sum(weight * value for weight, value in zip(weights[i * n :], planes)) for i in range(4)]


def covariance(vectors):
    means = [sum(column) / len(vectors) for column in zip(*vectors)]
    moved = [[x - m for x, m in zip(vector, means)] for vector in vectors]
    columns = list(zip(*moved))
    return means, [[sum(x * y for x, y in zip(a, b)) / (len(vectors) - 1) for b in columns] for a in columns]


def inverse(matrix):
    """Gauss and Jordan, with the largest pivot."""
    n = len(matrix)
    rows = [list(row) + [float(i == j) for j in range(n)] for i, row in enumerate(matrix)]
    for k in range(n):
        best = max(range(k, n), key=lambda i: abs(rows[i][k]))
        rows[k], rows[best] = rows[best], rows[k]
        rows[k] = [x / rows[k][k] for x in rows[k]]
        for i in range(n):
            if i != k:
                rows[i] = [x - rows[i][k] * y for x, y in zip(rows[i], rows[k])]
    return [row[n:] for row in rows]


def distance(a, b):
    """Frechet distance, with the root of the product by the iteration of Denman and Beavers."""
    (mean_a, cov_a), (mean_b, cov_b) = covariance(a), covariance(b)
    root = [[sum(x * y for x, y in zip(row, column)) for column in zip(*cov_b)] for row in cov_a]
    other = [[float(i == j) for j in range(len(root))] for i in range(len(root))]
    for _ in range(60):
        halves = inverse(other), inverse(root)
        root = [[(x + y) / 2 for x, y in zip(p, q)] for p, q in zip(root, halves[0])]
        other = [[(x + y) / 2 for x, y in zip(p, q)] for p, q in zip(other, halves[1])]
    traces = [sum(matrix[i][i] for i in range(len(root))) for matrix in (cov_a, cov_b, root)]
    return sum((x - y) ** 2 for x, y in zip(mean_a, mean_b)) + traces[0] + traces[1] - 2 * traces[2]


def covered(points, members):
    """Share of points in a ball around a member that reaches its third neighbour."""
    gap = lambda x, y: sum((p - q) ** 2 for p, q in zip(x, y))
    radii = [sorted(gap(x, y) for y in members)[3] for x in members]
    return sum(any(gap(p, x) <= r for x, r in zip(members, radii)) for p in points) / len(points)


def without_encoder(source, target):
    """A safetensors file less the tensors of the encoder."""
    data = open(source, "rb").read()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    head, body = {}, b""
    for name, tensor in json.loads(data[8:start]).items():
        if name.startswith("encoder.") or name == "__metadata__":
            continue
        first, last = tensor["data_offsets"]
        tensor["data_offsets"] = [len(body), len(body) + last - first]
        head[name], body = tensor, body + data[start + first : start + last]
    text = json.dumps(head).encode()
    with open(target, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + body)


def features(folder, reference, network, width, height, mean, deviation):
    """Figures of --features are those of a model known beforehand, computed here."""
    given = int(width), int(height), *([float(x) for x in list.split(",")] for list in (mean, deviation))
    results = json.load(open(os.path.join(folder, "results.json")))
    sets = {}
    for path in [os.path.join(folder, s["name"]) for s in results["settings"]] + [reference]:
        files = sorted(name for name in os.listdir(path) if name.endswith(".png"))
        sets[os.path.basename(path)] = [seen(os.path.join(path, name), network, *given) for name in files]
    head = results["features"]
    assert (head["width"], head["height"], head["mean"], head["deviation"]) == given, head
    assert head["count"] == len(sets["ar"][0]), head
    for result in results["results"]:
        own = sets[result["setting"]]
        scale = sum(x * x for vector in own for x in vector) / len(own)
        for prefix, real in ("network_", sets["ar"]), ("network_reference_", sets[os.path.basename(reference)]):
            found = [result[prefix + name]["value"] for name in ("frechet", "precision", "recall")]
            expected = [distance(real, own), covered(own, real), covered(real, own)]
            assert abs(found[0] - expected[0]) < 1e-5 * scale, (result["setting"], prefix, found, expected, scale)
            assert max(abs(x - y) for x, y in zip(found[1:], expected[1:])) < 1e-8, (prefix, found, expected)
    page = open(os.path.join(folder, "report.html"), encoding="utf-8").read()
    assert f"Features: {head['count']} of pictures of {width} x {height}, by {head['model']}" in page
    assert "by the features of --features" in page and "network reference recall" in page


class Page(html.parser.HTMLParser):
    """Counts the tags of a page, its images and what refers to another file."""

    def __init__(self):
        super().__init__()
        self.tags, self.sources, self.open = collections.Counter(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        values = dict(attrs)
        assert not {"href", "onclick", "onload", "onerror"} & set(values), attrs
        if tag == "img":
            assert values["alt"], attrs
            self.sources.append(values["src"])
        if tag not in ("img", "meta", "br", "line", "path", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags[tag] += 1

    def handle_endtag(self, tag):
        if tag not in ("line", "path", "rect"):
            assert self.open and self.open.pop() == tag, (tag, self.getpos())


def layouts(folder, metadata):
    """Read as their tools do: the npz by Python's own zip reader, GenEval's line byte for byte."""
    files = [os.path.join(folder, "ar", f"heart-{i}.png") for i in range(4)]
    drawn = [pixels(path) for path in files]
    with zipfile.ZipFile(os.path.join(folder, "layouts/adm/ar/samples.npz")) as file:
        assert file.testzip() is None and file.namelist() == ["arr_0.npy"]
        data = file.read("arr_0.npy")
        assert file.infolist()[0].create_version >= 45, "no ZIP64"
    assert data[:8] == b"\x93NUMPY\x01\x00"
    length = struct.unpack("<H", data[8:10])[0]
    assert (10 + length) % 64 == 0, length
    head = ast.literal_eval(data[10 : 10 + length].decode())
    height, width = len(drawn[0]), len(drawn[0][0])
    assert head == {"descr": "|u1", "fortran_order": False, "shape": (4, height, width, 3)}, head
    flat = b"".join(bytes(pixel) for picture in drawn for row in picture for pixel in row)
    assert data[10 + length :] == flat, "other pixels"
    geneval = os.path.join(folder, "layouts/geneval/ar/00000")
    line = open(metadata, "rb").read().split(b"\n")[0]
    assert open(os.path.join(geneval, "metadata.jsonl"), "rb").read() == line
    for i in range(4):
        copy = os.path.join(geneval, f"samples/{i:04}.png")
        assert open(copy, "rb").read() == open(files[i], "rb").read(), copy
    grid = pixels(os.path.join(folder, "layouts/dpg-bench/ar/heart.png"))
    assert [row[:width] for row in grid[:height]] == drawn[0] and [row[width:] for row in grid[:height]] == drawn[1]
    assert [row[:width] for row in grid[height:]] == drawn[2] and [row[width:] for row in grid[height:]] == drawn[3]


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
