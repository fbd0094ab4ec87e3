"""compose.yaml as docker-compose reads it: what the services promise, and that the files that name each
other agree. test_compose_up.py starts it for real where there is a container engine."""

import functools
import os
import re
import subprocess

import pytest
import yaml
from cluster import BATON, DEMO, ROOT
from prometheus_server import need

DEPLOY = ROOT / "deploy"
DRAIN_TIMEOUT_S = 60  # the default of --drain-timeout
SHARED = {"grafana"}
CPU = {"router", "prefill-0", "prefill-1", "decode-0", "decode-1", "prometheus"} | SHARED
GPU = {"gpu-router", "gpu-prefill-0", "gpu-decode-0", "gpu-prometheus", "dcgm-exporter"} | SHARED


@functools.cache
def config(profile, *files):
    """{service: settings} of one profile, as docker-compose understands the files."""
    words = [need("docker-compose")]
    for name in ("compose.yaml", *files):
        words += ["-f", str(DEPLOY / name)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BATON_")}
    result = subprocess.run([*words, "--profile", profile, "config"], capture_output=True, text=True,
                            timeout=60, env=environment)
    assert result.returncode == 0, result.stderr
    # docker-compose 1.29 prints the services of all profiles.
    return {name: service for name, service in yaml.safe_load(result.stdout)["services"].items()
            if profile in service["profiles"]}


def baton_services(profile):
    return {name: service for name, service in config(profile).items()
            if service["image"] in ("baton:dev", "baton-cuda:dev")}


def flag(service, name):
    """The value of --name in the command; None without it."""
    for word in service["command"]:
        if word.startswith(f"--{name}="):
            return word.split("=", 1)[1]
    return None


def workers(profile):
    return {name: service for name, service in baton_services(profile).items()
            if service["command"][0] == "worker"}


def routers(profile):
    return {name: service for name, service in baton_services(profile).items()
            if service["command"][0] == "router"}


def seconds(text):
    minutes, rest = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text).groups()
    return 60 * int(minutes or 0) + int(rest or 0)


@pytest.mark.parametrize("profile, names", [("cpu", CPU), ("gpu", GPU)])
def test_profile_has_its_services(profile, names):
    assert set(config(profile)) == names


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_baton_accepts_every_command(profile):
    services = baton_services(profile)
    assert len(services) >= 3
    for name, service in services.items():
        words = [re.sub(r"^--model=.*", f"--model={DEMO}", word) for word in service["command"]]
        result = subprocess.run([str(BATON), *words, "--check-config"], capture_output=True,
                                text=True, timeout=60)
        assert result.returncode == 0, f"{name}: {result.stderr}"


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_baton_has_no_rights_that_it_does_not_need_and_time_to_drain(profile):
    for name, service in baton_services(profile).items():
        assert service["cap_drop"] == ["ALL"] and "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges"], name
        assert service["read_only"] and "privileged" not in service and "user" not in service, name
        assert seconds(service["stop_grace_period"]) > DRAIN_TIMEOUT_S, name


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_only_loopback_is_published(profile):
    published = 0
    for name, service in config(profile).items():
        for port in service.get("ports", []):
            assert str(port).startswith("127.0.0.1:"), f"{name}: {port}"
            published += 1
    assert published == 4  # HTTP, gRPC, Prometheus, Grafana


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_health_checks_ask_the_port_that_answers(profile):
    for name, service in baton_services(profile).items():
        port = flag(service, "admin-port") or flag(service, "port")
        assert service["healthcheck"]["test"] == ["CMD", "baton", "health", "--url",
                                                  f"http://127.0.0.1:{port}"], name


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_router_and_prometheus_know_every_process(profile):
    targets = DEPLOY / "prometheus/targets" / f"compose-{profile}"
    prometheus = config(profile)["prometheus" if profile == "cpu" else "gpu-prometheus"]
    assert f"{targets}:/etc/baton/targets:ro" in prometheus["volumes"]
    (name, router), = routers(profile).items()
    assert yaml.safe_load((targets / "router.yml").read_text()) == [
        {"targets": [f"{name}:{flag(router, 'port')}"]}]
    pool = workers(profile)
    assert set(flag(router, "workers").split(",")) == {
        f"{worker}:{flag(service, 'control-port')}" for worker, service in pool.items()}
    scraped = {(address, group["labels"]["role"])
               for group in yaml.safe_load((targets / "workers.yml").read_text())
               for address in group["targets"]}
    assert scraped == {(f"{worker}:{flag(service, 'admin-port')}", flag(service, "role"))
                       for worker, service in pool.items()}


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_prefill_workers_find_decode_workers_by_name(profile):
    for name, service in workers(profile).items():
        assert flag(service, "id") == name
        if flag(service, "role") == "decode":
            assert flag(service, "kv-host") == name and flag(service, "kv-port") == "9150"


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_what_is_mounted_exists(profile):
    volumes = [volume for service in config(profile).values() for volume in service.get("volumes", [])]
    paths = [volume.split(":")[0] for volume in volumes if volume.startswith("/")]
    assert len(paths) >= 5
    for path in paths:
        assert os.path.exists(path), path


def test_gpu_workers_have_a_gpu_each_see_all_and_share_the_host_s_namespaces():
    pool = workers("gpu")
    assert {flag(service, "role") for service in pool.values()} == {"prefill", "decode"}
    own = []
    for name, service in pool.items():
        assert service["pid"] == "host" and service["ipc"] == "host", name
        assert service["ulimits"]["memlock"] == -1, name
        assert service["deploy"]["resources"]["reservations"]["devices"] == [
            {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}], name
        seen = service["environment"]["CUDA_VISIBLE_DEVICES"].split(",")
        assert sorted(seen) == [str(gpu) for gpu in range(len(pool))], name
        assert service["image"] == "baton-cuda:dev" and flag(service, "device") == "cuda", name
        own.append(seen[0])
    assert len(set(own)) == len(pool)


def test_rdma_file_gives_the_devices_to_every_gpu_worker_and_to_nothing_else():
    pool = set(workers("gpu"))
    for name, service in config("gpu", "compose.rdma.yaml").items():
        if name in pool:
            assert service["devices"] == ["/dev/infiniband:/dev/infiniband"], name
            assert service["cap_add"] == ["IPC_LOCK"] and service["cap_drop"] == ["ALL"], name
            assert service["ulimits"]["memlock"] == -1, name
            # UCX with InfiniBand and without CUDA; the GPUs stay as they were.
            assert service["environment"]["LD_LIBRARY_PATH"] == "", name
            assert len(service["environment"]["CUDA_VISIBLE_DEVICES"].split(",")) == len(pool), name
        else:
            assert "devices" not in service, name


def test_image_runs_without_rights_checks_itself_and_drains():
    build, run = re.split(r"^FROM ", (DEPLOY / "Dockerfile").read_text(), flags=re.M)[1:]
    assert build.startswith("debian:bookworm-slim AS build\n")
    assert run.startswith("debian:bookworm-slim\n")
    user, = re.findall(r"^USER (\d+):\d+$", run, re.M)
    assert int(user) >= 10000
    assert "STOPSIGNAL SIGTERM\n" in run
    assert re.search(r'^HEALTHCHECK .*\\\n +CMD \["baton", "health",', run, re.M)
    assert 'LABEL org.opencontainers.image.title="Baton"' in run
    # Debian's packages and nothing else: no registry beyond the base image, no download.
    assert not re.search(r"curl|wget|pip install|git clone|^ADD ", build + run, re.M)


def test_image_for_gpus_is_the_other_one_with_kernels_and_pinned_libraries():
    build, run = re.split(r"^FROM ", (DEPLOY / "Dockerfile.cuda").read_text(), flags=re.M)[1:]
    assert run.startswith("${BASE}\n")
    assert re.findall(r"^USER (\d+)", run, re.M)[-1] == re.findall(
        r"^USER (\d+)", (DEPLOY / "Dockerfile").read_text(), re.M)[-1]
    packages = re.search(r"pip install (.*?)&&", build, re.S).group(1)
    packages = [word for word in packages.replace("\\", " ").replace("'", " ").split()
                if not word.startswith("-")]
    assert len(packages) >= 3 and all("==" in package for package in packages)
    # Without a CUDA compiler Baton builds too: not this image.
    assert "grep -q '^CUDA_cublasLt_LIBRARY:FILEPATH=/' build/release/CMakeCache.txt" in build
