#!/usr/bin/env python3
"""Makes the tokenizer goldens: tiny tokenizers of each supported kind, and what `tokenizers` does.

Pinned: Python 3.11, tokenizers 0.23.3. Run from anywhere:  python3 make_goldens.py
Writes <kind>/tokenizer.json, <kind>/tokenizer_config.json and <kind>/cases.json next to itself.
Every text and every training corpus is made here, from fixed seeds.
"""

import json
import pathlib
import random

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

from hard_texts import TEXTS, INVALID_UTF8

assert tokenizers.__version__ == "0.23.3", tokenizers.__version__
HERE = pathlib.Path(__file__).resolve().parent
SEED = 20240607

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")


def corpus(seed):
    """Plain sentences, numbers, code and a little of many scripts, in a fixed random order."""
    rng = random.Random(seed)
    nouns = "river stone teacher window garden engine letter winter market signal baton".split()
    verbs = "carries opens watches returns builds follows finds sends keeps measures".split()
    places = "under the bridge|near the sea|after lunch|in the morning|with great care".split("|")
    scripts = ["北京的天气很好。", "東京タワーは高いです。", "안녕하세요 세계", "Привет, мир!",
               "Γειά σου Κόσμε", "مرحبا بالعالم", "שלום עולם", "नमस्ते दुनिया", "สวัสดีชาวโลก",
               "café naïve façade", "Ünïcödé strîngs", "😀😃👍🏽", "Việt Nam"]
    lines = []
    for _ in range(900):
        line = (f"The {rng.choice(nouns)} {rng.choice(verbs)} the {rng.choice(nouns)} "
                f"{rng.choice(places)}, and it's {rng.randint(0, 99999)} times.")
        if rng.random() < 0.25:
            line += " " + rng.choice(scripts)
        if rng.random() < 0.15:
            line += f"\n    if ({rng.choice(nouns)} == {rng.randint(0, 9)}) {{ return; }}\n\n"
        lines.append(line)
    return lines


def train_byte_level(pre_tokenizer, vocab_size, special_tokens=(), normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, show_progress=False, special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus(SEED), trainer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def split_then_bytes(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def make_llama3():
    tokenizer = train_byte_level(split_then_bytes(LLAMA3_PATTERN), 700)
    document = json.loads(tokenizer.to_str())
    model = document["model"]
    model["ignore_merges"] = True
    # Whole words that no merge leads to: only ignore_merges finds them.
    for word in ("Ġunreachable", "Zebra", "ĠQuixotic", "ĠÐ¼Ð¸ÑĢ"):
        model["vocab"].setdefault(word, len(model["vocab"]))
    tokenizer = Tokenizer.from_str(json.dumps(document))
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
             "<|eot_id|>", "<|python_tag|>"]
    tokenizer.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in names])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(
            single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|> $B",
            special_tokens=[("<|begin_of_text|>",
                             tokenizer.token_to_id("<|begin_of_text|>"))])])
    return tokenizer, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}


def make_qwen2():
    tokenizer = train_byte_level(split_then_bytes(QWEN2_PATTERN), 640,
                                 normalizer=normalizers.NFC())
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in specials])
    tokenizer.add_tokens([AddedToken(n, special=False, normalized=False)
                          for n in ("<think>", "</think>", "<tool_call>", "</tool_call>")])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer, {"bos_token": None, "eos_token": {"content": "<|im_end|>"}}


def make_gpt2():
    tokenizer = train_byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), 900,
                                 ["<|endoftext|>"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}


def make_digits():
    """StarCoder-like steps, a prefix space, and added tokens with every flag."""
    tokenizer = train_byte_level(
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                 pre_tokenizers.ByteLevel(add_prefix_space=True)]), 520)
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    tokenizer.add_tokens([
        AddedToken("[left]", lstrip=True, normalized=False),
        AddedToken("[right]", rstrip=True, normalized=False),
        AddedToken("[both]", lstrip=True, rstrip=True, normalized=True),
        AddedToken("cat", single_word=True, normalized=False),
        AddedToken("dog", single_word=True, normalized=True),
        AddedToken("  ", normalized=False), AddedToken("   ", normalized=False),
        AddedToken("[le", normalized=False), AddedToken("é", normalized=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", pair="$A $B",
        special_tokens=[("<|endoftext|>", tokenizer.token_to_id("<|endoftext|>"))])
    return tokenizer, {"bos_token": None, "eos_token": "<|endoftext|>"}


def make_split_behaviours():
    """Split with each behaviour in one pipeline; a pattern of literal text; invert."""
    tokenizer = train_byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\r\n|\n"), "merged_with_previous"),
        pre_tokenizers.Split(",", "merged_with_next"),
        pre_tokenizers.Split(Regex(r"[0-9]+"), "contiguous"),
        pre_tokenizers.Split(Regex(r"[^#]+"), "removed", invert=True),
        pre_tokenizers.Split(Regex(r"(?i:the)|\p{Han}+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]), 480)
    return tokenizer, {}


def sentence_piece(split, normalizer, pre_tokenizer, decoder, byte_fallback=True, fuse_unk=True):
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=split)
    trained.train_from_iterator(
        corpus(SEED + 1),
        trainers.BpeTrainer(vocab_size=700, show_progress=False, special_tokens=["<unk>"],
                            limit_alphabet=90))
    model = json.loads(trained.to_str())["model"]
    names = ["<unk>", "<s>", "</s>"]
    if byte_fallback:
        names += [f"<0x{byte:02X}>" for byte in range(256)]
    # Runs of spaces, as SentencePiece vocabularies have them.
    runs = ["▁▁", "▁▁▁▁"]
    names += [n for n in model["vocab"] if n not in names] + runs
    model["vocab"] = {name: i for i, name in enumerate(dict.fromkeys(names))}
    model["merges"] += [["▁", "▁"], ["▁▁", "▁▁"]]
    model.update(byte_fallback=byte_fallback, fuse_unk=fuse_unk, unk_token="<unk>")
    document = json.loads(trained.to_str())
    document.update(model=model, added_tokens=[])
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.normalizer = normalizer
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens(
        [AddedToken(n, special=True, normalized=False) for n in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tokenizer, {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "unk_token": "<unk>"}


def legacy_decoder():
    return decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                              decoders.Strip(" ", 1, 0)])


def make_llama2():
    return sentence_piece(
        True, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        None, legacy_decoder())


def make_mistral():
    """Metaspace at the start only; merges that cross words."""
    tokenizer, config = sentence_piece(
        False, None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
        legacy_decoder())
    tokenizer.add_special_tokens([AddedToken(n, special=True, normalized=False)
                                  for n in ("[INST]", "[/INST]", "[AVAILABLE_TOOLS]")])
    return tokenizer, config


def make_metaspace():
    """Split at each space, Metaspace decoder, no byte fallback: unknown characters are one <unk>."""
    return sentence_piece(True, None, pre_tokenizers.Metaspace(prepend_scheme="always"),
                          decoders.Metaspace(prepend_scheme="always"), byte_fallback=False)


def make_metaspace_never():
    """No prefix, and each unknown character is an <unk> of its own."""
    return sentence_piece(True, None, pre_tokenizers.Metaspace(prepend_scheme="never"),
                          decoders.Metaspace(prepend_scheme="never"), byte_fallback=False,
                          fuse_unk=False)


def random_decodes(tokenizer, rng, count):
    """Random id sequences. `tokenizers` replaces a whole run of byte-fallback tokens when it is
    not UTF-8; Baton keeps the run's good characters (tokenizer.h says why), so runs that mix both
    are left out here."""
    def comparable(ids):
        pieces = [tokenizer.id_to_token(i) for i in ids] + [None]
        run = b""
        for piece in pieces:
            if piece is not None and len(piece) == 6 and piece.startswith("<0x"):
                run += bytes([int(piece[3:5], 16)])
                continue
            text = run.decode("utf-8", "replace")
            if "\ufffd" in text and text.strip("\ufffd"):
                return False
            run = b""
        return True

    special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    size = tokenizer.get_vocab_size()
    out = []
    while len(out) < count:
        length = rng.randint(1, 24)
        low = rng.random() < 0.4  # bytes and specials are among the low ids
        ids = [rng.randrange(300 if low else size) for _ in range(length)]
        if (all(tokenizer.id_to_token(i) is not None for i in ids) and comparable(ids)
                and comparable([i for i in ids if i not in special])):
            out.append(ids)
    return out


def write(kind, tokenizer, config):
    folder = HERE / kind
    folder.mkdir(exist_ok=True)
    document = json.loads(tokenizer.to_str())
    tokenizer = Tokenizer.from_str(json.dumps(document))
    dump = lambda path, value: path.write_text(
        json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    dump(folder / "tokenizer.json", document)
    dump(folder / "tokenizer_config.json", config)
    encodes = []
    inputs = [text.encode("utf-8") for text in TEXTS] + INVALID_UTF8
    for data in inputs:
        text = data.decode("utf-8", "replace")
        tokenizer.encode_special_tokens = False
        case = {"with_special": tokenizer.encode(text, add_special_tokens=True).ids}
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = True
        raw = tokenizer.encode(text, add_special_tokens=False).ids
        if raw != plain:
            case["special_as_text"] = raw
        case["ids"] = plain
        # Left out where it is the input's own text.
        for name, skip in (("decoded", False), ("decoded_skip", True)):
            decoded = tokenizer.decode(case["with_special"], skip_special_tokens=skip)
            if decoded != text:
                case[name] = decoded
        encodes.append(case)
    decodes = []
    for ids in random_decodes(tokenizer, random.Random(SEED), 60):
        decodes.append({"ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=False),
                        "skip": tokenizer.decode(ids, skip_special_tokens=True)})
    dump(folder / "cases.json", {"encode": encodes, "decode": decodes})


def main():
    # The inputs are the same for all kinds: written once, as hexadecimal bytes.
    inputs = [text.encode("utf-8").hex() for text in TEXTS] + [data.hex() for data in INVALID_UTF8]
    (HERE / "inputs.json").write_text(json.dumps(inputs, indent=0) + "\n")
    for kind, make in (("llama3", make_llama3), ("qwen2", make_qwen2), ("gpt2", make_gpt2),
                       ("digits", make_digits), ("split", make_split_behaviours),
                       ("llama2", make_llama2), ("mistral", make_mistral),
                       ("metaspace", make_metaspace), ("metaspace_never", make_metaspace_never)):
        write(kind, *make())


if __name__ == "__main__":
    main()
