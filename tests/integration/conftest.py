"""Fixtures that the client suites share: one cluster for all that run in one process.

BATON_URL (and BATON_GRPC, host:port) name a running server instead, to try clients against it.
"""

import contextlib
import os
import pathlib
import sys
import types

import pytest
from cluster import ROOT, Cluster


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: judges times, so that no other test runs beside it")


@pytest.fixture(scope="session")
def server():
    """`url` and `grpc` of a server on the demo model."""
    with contextlib.ExitStack() as stack:
        if "BATON_URL" in os.environ:
            yield types.SimpleNamespace(url=os.environ["BATON_URL"],
                                        grpc=os.environ.get("BATON_GRPC", ""))
            return
        cluster = stack.enter_context(Cluster())
        port = cluster.events("router started")[0]["grpc_port"]
        yield types.SimpleNamespace(url=cluster.url, grpc=f"127.0.0.1:{port}")


@pytest.fixture(scope="session")
def stubs(tmp_path_factory):
    """The modules that protoc makes of completion.proto, as any client would make them."""
    from grpc_tools import protoc

    out = tmp_path_factory.mktemp("stubs")
    status = protoc.main(["protoc", f"--proto_path={ROOT}", f"--python_out={out}",
                          f"--grpc_python_out={out}",
                          str(ROOT / "proto/baton/v1/completion.proto")])
    assert status == 0
    sys.path.insert(0, str(pathlib.Path(out)))
    from proto.baton.v1 import completion_pb2, completion_pb2_grpc

    return types.SimpleNamespace(pb=completion_pb2, services=completion_pb2_grpc)
