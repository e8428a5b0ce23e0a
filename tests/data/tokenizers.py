#!/usr/bin/env python3
"""Makes tokenizer-*.json and tokenizer-cases.jsonl, the expected ids of test_tokenizer, with PyPI's `tokenizers`.

    pip install tokenizers==0.23.3 && python3 tests/data/tokenizers.py
"""
import json
import os
import random
import sys
import unicodedata

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path = [p for p in sys.path if os.path.abspath(p or ".") != HERE]  # this file has the package's name

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers  # noqa: E402

QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")
SYLLABLES = ("ka lo mi re tu san bel or in the ing red blue heart cat on a of sky don't it's we'll 12 2024 3.14 ( ) ! "
             "é 中").split()
ODD = ["", " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\x00", "I'LL", "'S", "\u212a", "İ", "ſ", "ẞ", "Σ", "é",
       "中文", "🙂", "👩‍👧", "❤️", "１２", "½", "٣", "ﬁ", "\u180e", "\u200b", "<s>", "<s>>", "SKY", "sky blue",
       "<sentinel:7>", "IMGIMGABZ"]


def byte_level(**options):
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, "use_regex": False, **options})


def make(normalizer, pre_tokenizer, added=()):
    draw = random.Random(5)
    text = [" ".join("".join(draw.choice(SYLLABLES) for _ in range(draw.randint(1, 3))) for _ in range(12))
            for _ in range(500)]
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text, trainer)
    for content, special, normalized in added:
        token = AddedToken(content, special=special, normalized=normalized)
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)([token])
    return tokenizer


def all_tokenizers():
    sequence = pre_tokenizers.Sequence
    split = pre_tokenizers.Split
    yield "gpt2", make(None, byte_level(add_prefix_space=True, use_regex=True), [("<s>", True, False)]), {}
    yield "qwen", make(normalizers.NFC(), sequence([split(Regex(QWEN), "removed", invert=True), byte_level()]),
                       [("<s>", True, False), ("<s>>", True, False), ("SKY", False, True)]), {"strings": True}
    steps = [split(Regex("<sentinel:[0-9]+>"), "isolated"), split(Regex("(IMGIMG)((A|B|C|D){1,4})Z"), "isolated"),
             split(Regex("([\\t\\n]|    |  )"), "isolated"), pre_tokenizers.Digits(individual_digits=True),
             pre_tokenizers.Punctuation(), split("lo", "removed"), byte_level(use_regex=True)]
    yield "pieces", make(None, sequence(steps), [("sky blue", False, False)]), {}
    clean = [normalizers.Lowercase(), normalizers.Replace(Regex("['’]"), ""), normalizers.Replace("ka", "KA!"),
             normalizers.Replace(Regex("[^a-z0-9#&+ ]+"), " "), normalizers.Replace(Regex(" +"), " "),
             normalizers.Strip(), normalizers.Prepend(" ")]
    yield "words", make(normalizers.Sequence(clean), sequence([split(Regex(" [^ ]+"), "isolated"), byte_level()]),
                        [("<s>", True, False), ("SKY", False, True)]), {}


def nfc_is_refused(text):
    marks = any(unicodedata.category(c)[0] == "M" and not 0xFE00 <= ord(c) <= 0xFE0F for c in text)
    return marks or unicodedata.normalize("NFC", text) != text


def cases(name, tokenizer):
    draw = random.Random(name)
    letters = [chr(c) for c in [*range(0x250), *range(0x400, 0x482), *range(0x3041, 0x3097)]]
    texts = ODD + ["a" * 300, " " * 100, "in the " * 40, "\x00\x01\x7f"]
    for _ in range(60):
        pool = draw.choice([ODD + SYLLABLES, SYLLABLES, letters, [chr(c) for c in range(128)]])
        texts.append(draw.choice(["", " "]).join(draw.choice(pool) for _ in range(draw.randint(1, 16))))
    for text in texts:
        if name == "qwen" and nfc_is_refused(text):
            continue
        yield {"tokenizer": name, "text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids}


def main():
    with open(os.path.join(HERE, "tokenizer-cases.jsonl"), "w", encoding="utf-8") as out:
        for name, tokenizer, options in all_tokenizers():
            data = json.loads(tokenizer.to_str())
            if options.get("strings"):
                data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
                data["model"]["ignore_merges"] = True
            path = os.path.join(HERE, f"tokenizer-{name}.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(data, file, ensure_ascii=False, separators=(",", ":"))
                file.write("\n")
            for case in cases(name, Tokenizer.from_file(path)):
                out.write(json.dumps(case, separators=(",", ":")) + "\n")


main()
