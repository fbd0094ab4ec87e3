"""A deterministic mix of requests that stresses what must not change the answer."""

import random

STORIES = [
    "Once upon a time there was a",
    "One day a little fox went to the river and",
    "The capital of France is",
    "Tom had a red ball. He",
    "A cow says",
]


def mixed_requests(seed, count):
    """[request body]: greedy and seeded, short and long prompts, shared prefixes, n > 1."""
    rng = random.Random(seed)
    words = " ".join(STORIES).split()
    shared = " ".join(rng.choice(words) for _ in range(150))  # a prefix that many requests share
    requests = []
    for index in range(count):
        prompt = rng.choice(STORIES)
        kind = rng.random()
        if kind < 0.35:
            prompt = shared + " " + " ".join(rng.choice(words) for _ in range(rng.randrange(1, 60)))
        elif kind < 0.55:
            prompt = " ".join(rng.choice(words) for _ in range(rng.randrange(5, 400)))
        body = {"prompt": prompt, "max_tokens": rng.choice([rng.randrange(1, 48), rng.randrange(48, 200)]), "return_token_ids": True,
                "ignore_eos": rng.random() < 0.5}
        if rng.random() < 0.5:
            body["temperature"] = 0
        else:
            body.update(temperature=rng.choice([0.5, 0.8, 1.2]), seed=rng.randrange(1 << 30))
            if rng.random() < 0.5:
                body["top_p"] = 0.9
            if rng.random() < 0.3:
                body["top_k"] = 20
            if rng.random() < 0.3:
                body.update(presence_penalty=0.5, frequency_penalty=0.3)
            if rng.random() < 0.3:
                body["n"] = rng.randrange(2, 5)
        if rng.random() < 0.2:
            body["logprobs"] = 3
        if rng.random() < 0.2:
            body["stop"] = [". ", "and"]
        requests.append(body)
    return requests


def answer(response):
    """What must be identical: each choice's text, tokens, logprobs and ending."""
    return [(choice["index"], choice["text"], choice.get("token_ids"), choice["finish_reason"],
             (choice.get("logprobs") or {}).get("token_logprobs"))
            for choice in sorted(response["choices"], key=lambda choice: choice["index"])]
