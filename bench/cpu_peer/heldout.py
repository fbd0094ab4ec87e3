"""Text that the demo model was not trained on, as rows of token ids."""

import json
import pathlib
import re
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
# As models/training/evaluate.py: training uses other seeds.
SEED = 901_000
END, ASSISTANT, TURN_END = 0, "<|im_start|>assistant\n", "<|im_end|>"
# The tokenizer's split expression for ASCII, which is all that the generator writes.
SPLIT = re.compile(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]{1,3}"
                   r"| ?[^\sA-Za-z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
ALPHABET = str.maketrans({chr(byte): chr(256 + byte) for byte in range(33)})  # byte-level BPE's


class Tokenizer:
    """Byte-level BPE of ASCII text."""

    def __init__(self, path):
        described = json.loads(pathlib.Path(path).read_text())
        self.vocab = described["model"]["vocab"]
        self.ranks = {tuple(pair): i for i, pair in enumerate(described["model"]["merges"])}
        self.special = {token["content"]: token["id"] for token in described["added_tokens"]}
        self.special_split = re.compile("(" + "|".join(map(re.escape, self.special)) + ")")
        self.known = {}

    def encode(self, text):
        ids = []
        for part in self.special_split.split(text):
            if part in self.special:
                ids.append(self.special[part])
                continue
            for word in SPLIT.findall(part):
                if word not in self.known:
                    self.known[word] = self.merge(word.translate(ALPHABET))
                ids += self.known[word]
        return ids

    def merge(self, word):
        if word in self.vocab:
            return [self.vocab[word]]
        pieces = list(word)
        while len(pieces) > 1:
            pairs = list(zip(pieces, pieces[1:]))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best not in self.ranks:
                break
            at = pairs.index(best)
            pieces[at:at + 2] = ["".join(best)]
        return [self.vocab[piece] for piece in pieces]


def counted(tokenizer, kind, text):
    """(token ids, whether each counts in the loss): in a conversation the assistant's words alone,
    as in training."""
    if kind != "chat":
        ids = tokenizer.encode(text)
        return ids, [True] * len(ids)
    ids, counts = [], []
    for i, part in enumerate(re.split(f"({re.escape(ASSISTANT)})", text)):
        said, end, rest = part.partition(TURN_END) if i and i % 2 == 0 else ("", "", part)
        for words, count in ((said + end, True), (rest, False)):
            more = tokenizer.encode(words)
            ids += more
            counts += [count] * len(more)
    return ids, counts


def demo_rows(tokenizer_path, rows, length):
    """Tokens and whether each counts, both [rows, length + 1]; a row starts with a document."""
    sys.path.insert(0, str(ROOT / "models/training"))
    import generate_text
    tokenizer = Tokenizer(tokenizer_path)
    documents = generate_text.documents(SEED, rows * (length + 1))
    tokens, counts = [], []
    for _ in range(rows):
        row, row_counts = [END], [False]
        while len(row) <= length:
            ids, of_document = counted(tokenizer, *next(documents))
            row += [*ids, END]
            row_counts += [*of_document, True]
        tokens.append(row[:length + 1])
        counts.append(row_counts[:length + 1])
    return np.array(tokens), np.array(counts)
