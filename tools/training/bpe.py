"""Byte-level BPE: training, encoding, and the tokenizer.json that specular (and Hugging Face tokenizers) reads.

Ids: 0 is <pad>, 1 to 256 are the bytes, then merges in the order they were found.
"""
import collections
import json
import re


def byte_letters():
    """GPT-2's byte -> printable letter map."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, spare = {}, 256
    for byte in range(256):
        letters[byte] = chr(byte) if byte in visible else chr(spare)
        spare += byte not in visible
    return letters


def normalise(text):
    text = re.sub("['\u2019]", "", text.lower())
    text = re.sub("[^a-z0-9#&+ ]+", " ", text)
    return " " + re.sub(" +", " ", text).strip(" ")


class Bpe:
    def __init__(self, merges):
        self.merges = [tuple(pair) for pair in merges]
        self.rank = {pair: rank for rank, pair in enumerate(self.merges)}
        self.words = {}

    @classmethod
    def train(cls, captions, vocabulary):
        counts = collections.Counter(word for text in captions for word in re.findall(" [^ ]+", normalise(text)))
        words = {word: [byte + 1 for byte in word.encode()] for word in counts}
        merges = []
        while 257 + len(merges) < vocabulary:
            pairs = collections.Counter()
            for word, ids in words.items():
                for pair in zip(ids, ids[1:]):
                    pairs[pair] += counts[word]
            if not pairs:
                break
            best = min(pairs, key=lambda pair: (-pairs[pair], pair))
            for word, ids in words.items():
                words[word] = cls.join(ids, best, 257 + len(merges))
            merges.append(best)
        return cls(merges)

    @staticmethod
    def join(ids, pair, merged):
        out, i = [], 0
        while i < len(ids):
            if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
                out.append(merged)
                i += 2
            else:
                out.append(ids[i])
                i += 1
        return out

    def encode(self, text):
        out = []
        for word in re.findall(" [^ ]+", normalise(text)):
            if word not in self.words:
                ids = [byte + 1 for byte in word.encode()]
                while len(ids) > 1:
                    best = min(zip(ids, ids[1:]), key=lambda pair: self.rank.get(pair, 1 << 30))
                    if best not in self.rank:
                        break
                    ids = self.join(ids, best, 257 + self.rank[best])
                self.words[word] = ids
            out.extend(self.words[word])
        return out

    def prefix(self, text, length):
        """Left-padded ids; a caption too long keeps its beginning."""
        ids = self.encode(text)[:length]
        return [0] * (length - len(ids)) + ids

    def save(self, path):
        letters = byte_letters()
        spelled = {0: "<pad>", **{byte + 1: letter for byte, letter in letters.items()}}
        for rank, (left, right) in enumerate(self.merges):
            spelled[257 + rank] = spelled[left] + spelled[right]

        def replace(pattern, content):
            return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}
        pad = {"id": 0, "content": "<pad>", "single_word": False, "lstrip": False, "rstrip": False,
               "normalized": False, "special": True}
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        with open(path, "w", encoding="utf-8") as file:
            json.dump({
                "version": "1.0", "truncation": None, "padding": None, "added_tokens": [pad],
                "normalizer": {"type": "Sequence", "normalizers": [
                    {"type": "Lowercase"}, replace("['\u2019]", ""), replace("[^a-z0-9#&+ ]+", " "),
                    replace(" +", " "), {"type": "Strip", "strip_left": True, "strip_right": True},
                    {"type": "Prepend", "prepend": " "}]},
                "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": " [^ ]+"}, "behavior": "Isolated", "invert": False},
                    level]},
                "post_processor": None, "decoder": level,
                "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                          "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                          "ignore_merges": False, "vocab": {text: id for id, text in spelled.items()},
                          "merges": [[spelled[left], spelled[right]] for left, right in self.merges]},
            }, file, ensure_ascii=False, indent=0)

    @classmethod
    def load(cls, path):
        with open(path, encoding="utf-8") as file:
            model = json.load(file)["model"]
        vocab = model["vocab"]
        return cls([tuple(vocab[part] for part in (pair if isinstance(pair, list) else pair.split(" ")))
                    for pair in model["merges"]])
