"""The official `openai` client, unmodified, against a real cluster."""

import json
import urllib.request

import openai
import pytest
from cluster import wait_until

PROMPT = "Once upon a time there was a"
CHAT = [{"role": "user", "content": "Hello!"}]


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="unused", max_retries=0,
                       timeout=60) as made:
        yield made


@pytest.fixture(scope="module")
def model(client):
    return client.models.list().data[0].id


def gauge(server, name):
    text = urllib.request.urlopen(server.url + "/metrics", timeout=10).read().decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def test_models_are_listed_and_retrieved(client, model):
    entry = client.models.retrieve(model)
    assert entry.object == "model"
    assert entry.owned_by
    assert entry.root
    assert entry.max_model_len > 0
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_completion(client, model):
    answer = client.completions.create(model=model, prompt=PROMPT, max_tokens=12, temperature=0)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.choices[0].finish_reason == "length"
    assert len(answer.choices[0].text.split()) >= 6
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def test_streamed_completion_says_the_same(client, model):
    asked = dict(model=model, prompt=PROMPT, max_tokens=24, temperature=0)
    whole = client.completions.create(**asked)
    chunks = list(client.completions.create(**asked, stream=True))
    assert "".join(c.choices[0].text for c in chunks) == whole.choices[0].text
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["length"]
    assert all(c.usage is None for c in chunks)
    assert len({c.id for c in chunks}) == 1


def test_chat(client, model):
    answer = client.chat.completions.create(model=model, messages=CHAT, max_completion_tokens=30,
                                            temperature=0)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content.strip()
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_streamed_chat_starts_with_the_role_and_ends_with_usage(client, model):
    asked = dict(model=model, messages=CHAT, max_completion_tokens=30, temperature=0)
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True,
                                                 stream_options={"include_usage": True}))
    assert chunks[0].object == "chat.completion.chunk"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content is not None
    assert all(c.choices[0].delta.role is None for c in chunks[1:-1])
    text = "".join(c.choices[0].delta.content or "" for c in chunks[:-1])
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_text_parts_are_a_message(client, model):
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hel"},
                                          {"type": "text", "text": "lo!"}]}]
    asked = dict(model=model, max_completion_tokens=16, temperature=0)
    assert (client.chat.completions.create(messages=parts, **asked).choices[0].message.content ==
            client.chat.completions.create(messages=CHAT, **asked).choices[0].message.content)


def test_several_choices_are_distinct_and_repeatable(client, model):
    asked = dict(model=model, prompt=PROMPT, max_tokens=16, n=4, seed=11, temperature=1.5)
    first = [c.text for c in client.completions.create(**asked).choices]
    again = [c.text for c in client.completions.create(**asked).choices]
    assert first == again
    assert len(set(first)) > 1
    streamed = [""] * 4
    for chunk in client.completions.create(**asked, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == first
    asked["seed"] = 12
    assert [c.text for c in client.completions.create(**asked).choices] != first


def test_batched_prompts_keep_their_order(client, model):
    prompts = [PROMPT, "The dog", "Sam liked to"]
    asked = dict(model=model, max_tokens=8, temperature=0)
    batch = client.completions.create(prompt=prompts, **asked)
    assert [c.index for c in batch.choices] == [0, 1, 2]
    alone = [client.completions.create(prompt=p, **asked).choices[0].text for p in prompts]
    assert [c.text for c in batch.choices] == alone


def test_completion_logprobs_and_echo(client, model):
    answer = client.completions.create(model=model, prompt=PROMPT, max_tokens=5, temperature=0,
                                       logprobs=3, echo=True)
    choice = answer.choices[0]
    assert choice.text.startswith(PROMPT)
    assert "".join(choice.logprobs.tokens) == choice.text
    count = answer.usage.prompt_tokens + 5
    assert len(choice.logprobs.token_logprobs) == count
    assert choice.logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in choice.logprobs.token_logprobs[1:])
    assert all(3 <= len(top) <= 4 for top in choice.logprobs.top_logprobs[1:])
    offsets = choice.logprobs.text_offset
    assert [choice.text[a:b] for a, b in zip(offsets, offsets[1:])] == choice.logprobs.tokens[:-1]


def test_chat_logprobs(client, model):
    answer = client.chat.completions.create(model=model, messages=CHAT, max_completion_tokens=4,
                                            temperature=0, logprobs=True, top_logprobs=2)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    for entry in content:
        assert entry.logprob == pytest.approx(entry.top_logprobs[0].logprob)
        assert len(entry.top_logprobs) == 2
        assert bytes(entry.bytes).decode() == entry.token


def test_stop_strings_end_the_text_before_them(client, model):
    asked = dict(model=model, prompt=PROMPT, max_tokens=40, temperature=0)
    whole = client.completions.create(**asked).choices[0].text
    stop = whole[len(whole) // 2:][:4]
    for stream in (False, True):
        answer = client.completions.create(**asked, stop=[stop, "never said"], stream=stream)
        if stream:
            chunks = list(answer)
            text, last = "".join(c.choices[0].text for c in chunks), chunks[-1].choices[0]
        else:
            text, last = answer.choices[0].text, answer.choices[0]
        assert text == whole[:whole.index(stop)]
        assert last.finish_reason == "stop"
        assert last.stop_reason == stop


def test_extensions_travel_in_extra_body(client, model):
    answer = client.completions.create(
        model=model, prompt=PROMPT, max_tokens=6, temperature=0,
        extra_body={"timings": True, "return_token_ids": True, "ignore_eos": True,
                    "min_tokens": 6, "top_k": 5, "request_id": "ext-1"},
        extra_headers={"x-slo-class": "default"})
    assert answer.id == "cmpl-ext-1"
    assert answer.timings["ttft_ms"] > 0
    assert len(answer.choices[0].token_ids) == 6
    assert len(answer.choices[0].prompt_token_ids) == answer.usage.prompt_tokens


@pytest.mark.parametrize("change, param", [
    ({"max_tokens": 0}, "max_tokens"),
    ({"temperature": 3}, "temperature"),
    ({"n": 1000}, "n"),
    ({"logprobs": 50}, "logprobs"),
    ({"stop": ["a"] * 17}, "stop"),
    ({"suffix": "end"}, "suffix"),
    ({"max_tokens": 10**6}, "max_tokens"),
    ({"logit_bias": {"99999999": 1}}, "logit_bias"),
])
def test_bad_requests_name_the_field(client, model, change, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{"model": model, "prompt": PROMPT, **change})
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_context_overflow_names_the_limit(client, model):
    with pytest.raises(openai.BadRequestError, match="maximum context length is [0-9]+ tokens"):
        client.completions.create(model=model, prompt="word " * 20000, max_tokens=1)


def test_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-nothing", messages=CHAT)
    assert caught.value.code == "model_not_found"


def test_oversized_body_is_413(client, model):
    with pytest.raises(openai.APIStatusError) as caught:
        client.completions.create(model=model, prompt="x" * (20 << 20))
    assert caught.value.status_code == 413


def test_request_ids_are_echoed(client, model):
    raw = client.completions.with_raw_response.create(
        model=model, prompt=PROMPT, max_tokens=1, extra_headers={"x-request-id": "mine-7"})
    assert raw.headers["x-request-id"] == "mine-7"


def test_closing_a_stream_aborts_the_request(client, model, server):
    stream = client.completions.create(model=model, prompt=PROMPT, max_tokens=180, stream=True,
                                       extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()
    wait_until(lambda: gauge(server, "baton_requests_running") == 0, 5, "the request ended")


def test_tokenize_round_trip(server):
    def post(path, body):
        request = urllib.request.Request(server.url + path, json.dumps(body).encode())
        return json.load(urllib.request.urlopen(request, timeout=10))

    encoded = post("/tokenize", {"prompt": PROMPT, "add_special_tokens": False})
    assert encoded["count"] == len(encoded["tokens"]) == len(encoded["token_strs"])
    assert post("/detokenize", {"tokens": encoded["tokens"]}) == {"prompt": PROMPT}
