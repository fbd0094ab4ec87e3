"""A gRPC client with stubs made from our proto, against a real cluster."""

import grpc
import pytest
from cluster import wait_until
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase)
from grpc_status import rpc_status

PROMPT = "Once upon a time there was a"
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.grpc) as made:
        yield made


@pytest.fixture(scope="module")
def completion(channel, stubs):
    return stubs.services.CompletionStub(channel)


def make_request(stubs, max_tokens=12, **fields):
    pb = stubs.pb
    return pb.CompletionRequest(text=PROMPT, sampling=pb.Sampling(temperature=0),
                                stopping=pb.Stopping(max_tokens=max_tokens, ignore_eos=True),
                                **fields)


def test_health_and_reflection(channel):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "baton.v1.Completion"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert {"baton.v1.Completion", "baton.v1.Models", "baton.v1.Tokenizer", "baton.v1.Control",
            "grpc.health.v1.Health"} <= set(services)


def test_models(channel, stubs):
    models = stubs.services.ModelsStub(channel)
    listed = models.List(stubs.pb.ListModelsRequest(), timeout=TIMEOUT_S).models
    assert len(listed) == 1 and listed[0].max_model_len > 0
    assert models.Get(stubs.pb.GetModelRequest(id=listed[0].id), timeout=TIMEOUT_S) == listed[0]
    with pytest.raises(grpc.RpcError) as caught:
        models.Get(stubs.pb.GetModelRequest(id="other"), timeout=TIMEOUT_S)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_stream_is_prompt_deltas_finish_and_equals_the_whole(completion, stubs):
    output = stubs.pb.Output(return_token_ids=True, timings=True, logprobs=2)
    whole = completion.Complete(make_request(stubs, output=output), timeout=TIMEOUT_S)
    events = list(completion.CompleteStream(make_request(stubs, output=output, request_id="g-1"),
                                            timeout=TIMEOUT_S))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["prompt"] + ["delta"] * (len(events) - 2) + ["finish"]
    assert events[0].prompt.request_id == "g-1"
    assert events[0].prompt.prompt_tokens == len(events[0].prompt.token_ids)
    deltas = [event.delta for event in events[1:-1]]
    assert "".join(d.text for d in deltas) == whole.choices[0].text
    assert [t for d in deltas for t in d.token_ids] == list(whole.choices[0].token_ids)
    assert len(whole.choices[0].logprobs) == 12
    assert len(whole.choices[0].logprobs[0].top) == 2
    assert [d.finish_reason for d in deltas if d.finish_reason] == ["length"]
    assert events[-1].finish.usage.completion_tokens == 12
    assert events[-1].finish.timings.ttft_ms > 0


def test_samples_and_messages(completion, stubs):
    pb = stubs.pb
    request = pb.CompletionRequest(
        messages=pb.ChatMessages(messages=[pb.ChatMessage(role="user", content="Hello!")]),
        sampling=pb.Sampling(seed=3), stopping=pb.Stopping(max_tokens=8), n=3)
    first = completion.Complete(request, timeout=TIMEOUT_S)
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    again = completion.Complete(request, timeout=TIMEOUT_S)
    assert [c.text for c in first.choices] == [c.text for c in again.choices]


def test_tokenizer_round_trip(channel, stubs):
    tokenizer = stubs.services.TokenizerStub(channel)
    encoded = tokenizer.Encode(stubs.pb.EncodeRequest(text=PROMPT, add_special_tokens=False),
                               timeout=TIMEOUT_S)
    assert len(encoded.ids) == len(encoded.tokens) > 0
    decoded = tokenizer.Decode(stubs.pb.DecodeRequest(ids=encoded.ids), timeout=TIMEOUT_S)
    assert decoded.text == PROMPT


def test_bad_fields_are_invalid_argument_with_the_field(completion, stubs):
    request = make_request(stubs)
    request.sampling.temperature = 9
    with pytest.raises(grpc.RpcError) as caught:
        completion.Complete(request, timeout=TIMEOUT_S)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    detail = error_details_pb2.BadRequest()
    assert rpc_status.from_call(caught.value).details[0].Unpack(detail)
    assert detail.field_violations[0].field == "sampling.temperature"


def test_context_overflow_names_the_limit(completion, stubs):
    with pytest.raises(grpc.RpcError) as caught:
        completion.Complete(make_request(stubs, max_tokens=10**6), timeout=TIMEOUT_S)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "maximum context length is" in caught.value.details()


def test_the_deadline_is_the_requests(completion, stubs):
    with pytest.raises(grpc.RpcError) as caught:
        completion.Complete(make_request(stubs, max_tokens=180, n=64), timeout=0.05)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_cancelling_or_aborting_ends_the_request_everywhere(channel, completion, stubs):
    control = stubs.services.ControlStub(channel)
    running = lambda: control.GetLoad(stubs.pb.GetLoadRequest(), timeout=TIMEOUT_S).requests_running
    stream = completion.CompleteStream(make_request(stubs, max_tokens=180), timeout=TIMEOUT_S)
    assert next(stream).WhichOneof("event") == "prompt"
    next(stream)
    stream.cancel()
    wait_until(lambda: running() == 0, 5, "the cancelled request ended")

    request = make_request(stubs, max_tokens=180, request_id="abort-me")
    stream = completion.CompleteStream(request, timeout=TIMEOUT_S)
    next(stream)
    next(stream)
    assert control.Abort(stubs.pb.AbortRequest(request_id="abort-me"), timeout=TIMEOUT_S).found
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    assert caught.value.code() == grpc.StatusCode.CANCELLED
    wait_until(lambda: running() == 0, 5, "the aborted request ended")
    # Idempotent: an ended request is not an error.
    assert not control.Abort(stubs.pb.AbortRequest(request_id="abort-me"), timeout=TIMEOUT_S).found


def test_load_lists_the_workers(channel, stubs):
    load = stubs.services.ControlStub(channel).GetLoad(stubs.pb.GetLoadRequest(), timeout=TIMEOUT_S)
    assert {w.role for w in load.workers} >= {"prefill", "decode"} or \
        {w.role for w in load.workers} == {"both"}
    assert all(w.alive and 0 < w.free_blocks <= w.total_blocks for w in load.workers)
