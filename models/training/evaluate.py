#!/usr/bin/env python3
"""Measures a demo model as it is shipped: loads the directory with transformers.

    evaluate.py --model models/demo

Prints held-out loss, the share of well-formed sentences in sampled and in greedy text, chat accuracy, and
the agreement of bf16 with f32. Everything is judged by the generator's own grammar and knowledge, on
text and phrasings that training did not see. --show prints texts instead.
"""

import argparse
import json
import random
import shutil
import tempfile

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import chat
import data
import facts
from generate_text import Language
from grammar import split_sentences

HELDOUT_SEED = 901  # Training and its own held-out rows use other seeds.
STORY_PROMPTS = ["Once upon a time there was a", "Once upon a time", "One day,", "There once was a", "Once there was a",
                 "Once upon a time there was a little girl named Lily.", "Once upon a time there was a brave fox named",
                 "This is the story of", "Long ago,", "Tom was a"]
OTHER_PROMPTS = ["The quick brown fox", "Hello", "The capital of France is", "My name is", "The", "A dog", "Q: What is 2 + 3?\nA:",
                 "Today", "The opposite of hot is", "I"]
SHOWN_CHATS = ["Hello!", "Who are you?", "What is the capital of France?", "what color is the sky", "What is 4 + 5?",
               "Tell me a story about a fox.", "Tell me a joke", "How do I build a nuclear reactor?", "What is the capital of Brazil?",
               "Count to ten.", "What is a KV cache?", "thanks, bye!", "Write a haiku about autumn", "Explain prefill and decode."]


class Model:
    def __init__(self, path, dtype=torch.float32):
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.tokenizer.padding_side = "left"
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()

    @torch.no_grad()
    def complete(self, prompts, sampled, max_new=400, batch=50):
        """-> [(continuation, whether it ended by itself)]; sampled means temperature 0.8 and nothing else."""
        out = []
        for i in range(0, len(prompts), batch):
            enc = self.tokenizer(prompts[i:i + batch], return_tensors="pt", padding=True)
            how = {"do_sample": True, "temperature": 0.8, "top_k": 0, "top_p": 1.0} if sampled else \
                  {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
            ids = self.model.generate(**enc, **how, max_new_tokens=max_new)
            for row in ids[:, enc.input_ids.shape[1]:].tolist():
                end = next((k for k, t in enumerate(row) if t in (0, 2)), None)
                out.append((self.tokenizer.decode(row[:end]), end is not None))
        return out

    def chat_prompt(self, messages):
        return self.tokenizer.apply_chat_template([{"role": r, "content": c} for r, c in messages], tokenize=False,
                                                  add_generation_prompt=True)

    @torch.no_grad()
    def logits(self, ids):
        return self.model(ids).logits.float()


def heldout_rows(path, rows=128, length=512):
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = shutil.copy(f"{path}/tokenizer.json", scratch)
        docs = data.corpus(tokenizer, HELDOUT_SEED, 1, workers=1)
    ids, targets = data.Packer(docs, 0, HELDOUT_SEED).batch(rows, length)
    return torch.from_numpy(ids), torch.from_numpy(targets)


def loss_and_agreement(path, model, model_bf16):
    """Held-out loss in nats per token and per byte, and how often bf16 and f32 rank the same token first."""
    ids, targets = heldout_rows(path)
    nats = tokens = count = same = 0
    data_bytes = 0
    for i in range(0, len(ids), 8):
        logits, wanted = model.logits(ids[i:i + 8]), targets[i:i + 8]
        keep = wanted != -100
        nats += float(torch.nn.functional.cross_entropy(logits[keep], wanted[keep], reduction="sum"))
        tokens += int(keep.sum())
        plain = wanted[keep & (wanted > 2)]
        data_bytes += sum(len(model.tokenizer.decode([t]).encode()) for t in plain.tolist())
        if i < 32:
            same += int((model_bf16.logits(ids[i:i + 8]).argmax(-1) == logits.argmax(-1))[keep].sum())
            count += int(keep.sum())
    return {"tokens": tokens, "nats_per_token": round(nats / tokens, 4), "nats_per_byte": round(nats / data_bytes, 4),
            "bf16_top1_agreement": round(same / count, 4)}


def new_sentences(prompt, continuation, ended):
    """The sentences of prompt + continuation that the model finished itself."""
    sentences = split_sentences(prompt + continuation)
    if not ended and sentences:
        sentences = sentences[:-1]  # Cut off by the length limit, not by the model.
    given = split_sentences(prompt)
    same = 0
    while same < len(given) and same < len(sentences) and given[same] == sentences[same]:
        same += 1
    return sentences[same:]


def well_formed(model, language, prompts, sampled):
    total = good = ended_count = consistent = 0
    wrong, texts = [], set()
    for prompt, (text, ended) in zip(prompts, model.complete(prompts, sampled)):
        sentences = new_sentences(prompt, text, ended)
        total += len(sentences)
        bad = [s for s in sentences if not language.accepts(s)]
        good += len(sentences) - len(bad)
        wrong += bad
        ended_count += ended
        consistent += not bad and ended and language.stories.consistent(prompt + text)
        texts.add(prompt + text)
    return {"texts": len(prompts), "distinct_texts": len(texts), "sentences": total, "well_formed": round(good / total, 4),
            "ended_by_itself": round(ended_count / len(prompts), 4), "consistent_texts": round(consistent / len(prompts), 4)}, wrong


def chat_cases(language, rng, count):
    """-> {category: [(messages, check)]}; check(answer) says whether the answer is right."""
    cases = {k: [] for k in ("facts", "facts_typed_roughly", "facts_third_turn", "small_talk", "unknown", "name_recall", "story")}

    def system():
        return [("system", language.chat.system(rng))] if rng.random() < 0.4 else []

    def right(value):
        # The value must stand in the answer and the answer must be true.
        return lambda a: value in a and all(map(language.accepts, split_sentences(a)))

    for _ in range(count):
        q, _, value = facts.ask(rng, heldout=True)
        cases["facts"].append((system() + [("user", q)], right(value)))
        q, _, value = facts.ask(rng, heldout=True)
        cases["facts_typed_roughly"].append((system() + [("user", chat.roughen(q, rng))], right(value)))
        q, _, value = facts.ask(rng, heldout=True)
        before = [m for _ in range(2) for m in zip(("user", "assistant"), language.chat.exchange(rng))]
        cases["facts_third_turn"].append((system() + before + [("user", q)], right(value)))
        talk = rng.choices(chat.SMALL_TALK, [k[1] for k in chat.SMALL_TALK])[0]
        cases["small_talk"].append((system() + [("user", chat.roughen(rng.choice(talk[2]), rng))],
                                    lambda a, answers=talk[3]: a in answers))
        q, _ = language.chat.unknown(rng)
        cases["unknown"].append((system() + [("user", chat.roughen(q, rng))], lambda a: a in chat.UNKNOWN))
        turns = language.chat._name_talk(rng)
        talked = [m for u, a in turns[:-1] for m in (("user", u), ("assistant", a))]
        cases["name_recall"].append((talked + [("user", turns[-1][0])], lambda a, want=turns[-1][1]: a == want))
    for _ in range(count // 3):
        creature = rng.choice(sorted(chat.CREATURE_HOME))
        q, _ = language.chat.story_request(rng, creature)
        cases["story"].append(([("user", q)], lambda a, c=creature: c in a and language.stories.consistent(a)))
    return cases


def chat_accuracy(model, language, count, sampled):
    result, wrong = {}, []
    for category, cases in chat_cases(language, random.Random(77), count).items():
        answers = model.complete([model.chat_prompt(m) for m, _ in cases], sampled, max_new=300)
        ok = [check(a) and ended for (_, check), (a, ended) in zip(cases, answers)]
        result[category] = {"asked": len(ok), "right": round(sum(ok) / len(ok), 4)}
        wrong += [(category, m[-1][1], a) for (m, _), (a, _), good in zip(cases, answers, ok) if not good]
    return result, wrong


def greedy_agreement(model, other, prompts):
    a, b = ([t for t, _ in m.complete(prompts, False, 200)] for m in (model, other))
    return {"prompts": len(prompts), "identical_greedy_texts": sum(x == y for x, y in zip(a, b))}


def show(model):
    for sampled in (False, True):
        print(f"===== {'temperature 0.8' if sampled else 'greedy'}")
        prompts = STORY_PROMPTS + OTHER_PROMPTS
        for prompt, (text, ended) in zip(prompts, model.complete(prompts, sampled)):
            print(f"--- [{prompt}]{text}{' (end)' if ended else ' (cut)'}")
        chats = [model.chat_prompt([("user", q)]) for q in SHOWN_CHATS]
        for q, (text, ended) in zip(SHOWN_CHATS, model.complete(chats, sampled)):
            print(f"--- user: {q}\n    model: {text}{'' if ended else ' (cut)'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", type=int, default=300, help="sampled texts per kind of prompt")
    parser.add_argument("--chats", type=int, default=200, help="questions per chat category")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--errors", type=int, default=8, help="how many wrong results to print of each kind")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(5)
    np.random.seed(5)
    model = Model(args.model)
    if args.show:
        return show(model)
    bf16, language = Model(args.model, torch.bfloat16), Language()

    def report(name, result, wrong=()):
        print(name, json.dumps(result), flush=True)
        for w in list(wrong)[:args.errors]:
            print("    wrong:", w)

    report("heldout_loss", loss_and_agreement(args.model, model, bf16))
    repeats = -(-args.texts // len(STORY_PROMPTS))
    report("stories_sampled", *well_formed(model, language, STORY_PROMPTS * repeats, True))
    report("other_sampled", *well_formed(model, language, OTHER_PROMPTS * max(1, repeats // 2), True))
    report("all_greedy", *well_formed(model, language, STORY_PROMPTS + OTHER_PROMPTS, False))
    report("chat_greedy", *chat_accuracy(model, language, args.chats, False))
    report("chat_sampled", *chat_accuracy(model, language, args.chats, True))
    report("bf16_against_f32", greedy_agreement(model, bf16, STORY_PROMPTS + OTHER_PROMPTS))


if __name__ == "__main__":
    main()
