"""Tokenizer training, tokenised corpora and packing."""

import json
import multiprocessing
import pathlib
import random

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import generate_text

EOT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
# The split expression of the Llama 3 tokenizer.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
# Chunks of documents per seed: corpus i of a seed is written by generate_text with seed * 1000 + i.
CHUNK = 5000


def train_tokenizer(path, seed, vocab_size):
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[EOT, IM_START, IM_END], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    texts = (text.replace(IM_START, "").replace(IM_END, "") for _, text in generate_text.documents(seed, 20000))
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(path))


def _targets_kept(ids, im_start, im_end, assistant):
    """In a conversation only what the assistant says (and its end token) is learned."""
    keep = np.zeros(len(ids), dtype=bool)
    i = 0
    while i < len(ids):
        if ids[i] == im_start and ids[i + 1:i + 1 + len(assistant)] == assistant:
            j = ids.index(im_end, i)
            keep[i + 1 + len(assistant):j + 1] = True
            i = j
        i += 1
    return keep


def _tokenise_chunk(args):
    """-> one int32 array: token ids, negative (-id - 1) where the token is not to be learned; EOT ends a document."""
    tokenizer_path, seed, count = args
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    eot, im_start, im_end = (tokenizer.token_to_id(t) for t in (EOT, IM_START, IM_END))
    assistant = tokenizer.encode("assistant\n").ids
    out = []
    for kind, text in generate_text.documents(seed, count):
        ids = tokenizer.encode(text).ids
        row = np.array(ids, dtype=np.int32)
        if kind == "chat":
            keep = _targets_kept(ids, im_start, im_end, assistant)
            row[~keep] = -row[~keep] - 1
        out += [row, np.array([eot], dtype=np.int32)]
    return np.concatenate(out)


def corpus(tokenizer_path, seed, chunks, workers=2):
    """The documents of `chunks` chunks, kept beside the tokenizer, as a list of arrays (see _tokenise_chunk), each ending in EOT."""
    kept = pathlib.Path(tokenizer_path).with_name(f"tokens-{seed}-{chunks}.npy")
    if not kept.exists():
        jobs = [(tokenizer_path, seed * 1000 + i, CHUNK) for i in range(chunks)]
        with multiprocessing.Pool(workers) as pool:
            np.save(kept, np.concatenate(pool.map(_tokenise_chunk, jobs)))
    flat = np.load(kept)
    eot = Tokenizer.from_file(str(tokenizer_path)).token_to_id(EOT)
    return np.split(flat, np.flatnonzero(flat == eot)[:-1] + 1)


class Packer:
    """Endless batches of packed documents. Every row starts with a document, half of them behind an EOT."""

    def __init__(self, docs, eot, seed):
        self.docs, self.eot = docs, eot
        self.rng = random.Random(seed)
        self.order = []

    def _next(self):
        if not self.order:
            self.order = list(range(len(self.docs)))
            self.rng.shuffle(self.order)
        return self.docs[self.order.pop()]

    def row(self, length):
        parts = [np.array([-self.eot - 1], dtype=np.int32)] if self.rng.random() < 0.5 else []
        size = len(parts)
        while size <= length:
            parts.append(self._next())
            size += len(parts[-1])
        return np.concatenate(parts)[:length + 1]

    def batch(self, rows, length):
        """-> inputs and targets, both [rows, length] int64; targets are -100 where nothing is learned."""
        raw = np.stack([self.row(length) for _ in range(rows)]).astype(np.int64)
        ids = np.where(raw < 0, -raw - 1, raw)
        return ids[:, :-1], np.where(raw[:, 1:] < 0, -100, raw[:, 1:])


def write_tokenizer_files(directory):
    """tokenizer_config.json and chat_template.jinja beside tokenizer.json."""
    config = {"add_bos_token": False, "add_prefix_space": False, "bos_token": EOT, "eos_token": EOT, "pad_token": EOT,
              "clean_up_tokenization_spaces": False, "model_max_length": 2048, "unk_token": None,
              "tokenizer_class": "PreTrainedTokenizerFast",
              "added_tokens_decoder": {str(i): {"content": t, "lstrip": False, "normalized": False, "rstrip": False,
                                                "single_word": False, "special": True}
                                       for i, t in enumerate((EOT, IM_START, IM_END))}}
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (directory / "chat_template.jinja").write_text(
        "{%- for message in messages %}\n"
        "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n"
        "{{- '<|im_start|>assistant\\n' }}\n"
        "{%- endif -%}\n")
