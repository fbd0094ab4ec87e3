"""The executable as an operator meets it: help, configuration errors, missing things."""

import os
import pathlib
import socket
import subprocess

import pytest
from cluster import BATON, DEMO, ROOT, Cluster, wait_until


def baton(*arguments, env=None):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BATON_")}
    return subprocess.run([str(BATON), *arguments], capture_output=True, text=True, timeout=60,
                          env={**environment, **(env or {})}, cwd=ROOT)


def test_help_names_every_command():
    result = baton("--help")
    assert result.returncode == 0
    for command in ("up", "router", "worker", "ask", "top", "doctor"):
        assert f"\n  {command} " in result.stdout


@pytest.mark.parametrize("command", ["up", "router", "worker", "ask", "top", "doctor"])
def test_each_command_has_help(command):
    result = baton(command, "--help")
    assert result.returncode == 0
    assert "--" in result.stdout


def test_version():
    assert baton("--version").stdout.startswith("baton 0.")


@pytest.mark.parametrize("arguments, message", [
    (["worker", "--modle", "x"], 'unknown argument "--modle"; did you mean "--model"?'),
    (["wroker"], 'unknown argument "wroker"; did you mean "worker"?'),
    (["up", "--prefill"], "--prefill needs a value"),
])
def test_a_wrong_command_line_is_one_clear_line(arguments, message):
    result = baton(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "--help` lists" in result.stderr


def one_line(result):
    assert result.returncode != 0
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_missing_model_says_what_to_do():
    assert "give --model" in one_line(baton("worker"))
    assert "does not exist" in one_line(baton("worker", "--model", "/nowhere"))


def test_unknown_key_in_the_file_names_line_and_nearest_key(tmp_path):
    config = tmp_path / "baton.yaml"
    config.write_text("model: models/demo\nbatch:\n  max_tokns: 64\n")
    line = one_line(baton("worker", "--config", str(config), "--check-config"))
    assert f"{config}:3" in line and "batch.max_tokens" in line


@pytest.mark.parametrize("value", ["12", "some", "-64", "64 tokens", "9999999"])
def test_chunked_prefill_is_auto_off_or_a_sane_number(value):
    line = one_line(baton("worker", "--model", str(DEMO), f"--chunked-prefill={value}"))
    assert f'chunked_prefill: "{value}" must be auto, off or a number from 16 to 1048576' in line
    for good in ("auto", "off", "64"):
        assert baton("worker", "--model", str(DEMO), f"--chunked-prefill={good}",
                     "--check-config").returncode == 0


@pytest.mark.parametrize("arguments, message", [
    (["--device=cuda:x"], 'device: "cuda:x" must be cpu, cuda or cuda:N'),
    (["--device=cpu,cuda"], 'device: "cpu,cuda": several are for GPUs only'),
    (["--device=cuda", "--isa=avx2"], "isa: avx2 is for CPUs; device is cuda:0"),
    (["--device=cuda", "--decode-tensor-parallel=2", "--tensor-parallel-split=columns"],
     "tensor_parallel_split: columns is for CPUs"),
    (["--device=cuda", "--batch-invariant", "--weights=fp8"],
     "batch_invariant with weights: fp8, whose products are computed in another order"),
    (["--device=cuda", "--batch-invariant", "--decode-tensor-parallel=2"],
     "batch_invariant with prefill workers of 1 GPUs and decode workers of 2"),
    (["--weights=fp8"], "weights: fp8 is for GPUs; device is cpu"),
    (["--kv-buffer-device=cuda"], "kv.buffer_device: cuda is for GPUs; device is cpu"),
])
def test_what_a_device_does_not_do_is_refused_before_anything_starts(arguments, message):
    assert message in one_line(baton("up", "--model", str(DEMO), "--check-config", *arguments))
    assert baton("up", "--model", str(DEMO), "--check-config", "--device=cuda,cuda:1",
                 "--device-memory=0.4").returncode == 0
    for device in ("cpu", "cuda"):
        assert baton("up", "--model", str(DEMO), "--check-config", "--batch-invariant",
                     "--tensor-parallel=4", f"--device={device}").returncode == 0


def test_a_worker_says_how_long_its_steps_take_unless_told_not_to():
    with Cluster(colocated=True) as cluster:
        assert any("step times" in line and "for 512 tokens" in line for line in cluster.stderr)
    with Cluster("--calibrate=off", colocated=True) as cluster:
        assert not any("step times" in line for line in cluster.stderr)
        assert cluster.complete({"prompt": "Once", "max_tokens": 4})["choices"]


def test_value_out_of_range_names_the_range():
    line = one_line(baton("worker", "--model", str(DEMO), "--threads", "0"))
    assert "threads" in line and "from 1 to 256" in line


@pytest.mark.parametrize("arguments, message", [
    (["--cpus", "0-"], 'cpus: "0-" is not a list; expected numbers and ranges'),
    (["--cpus", "0,0"], 'names 0 twice'),
    (["--cpus", "1023"], "cpus: this process may not run on CPU 1023; allowed: "),
    (["--cpus", "0", "--threads", "2"], "cpus: 0 are 1 CPUs for 2 threads; name one for each"),
    (["--numa-node", "1000"], "numa_node: 1000 is not a node of this machine; there are "),
    (["--numa-node", "1024"], "from -1 to 1023"),
    (["--tensor-parallel", "2", "--cpus", "0-"], 'cpus: "0-" is not a list'),
    (["--tensor-parallel", "2", "--cpus", "0"],
     "cpus: 1 CPUs for 2 processes; give as many to each"),
    (["--tensor-parallel", "65"], "from 1 to 64"),
])
def test_a_placement_that_cannot_be_is_an_error_before_the_start(arguments, message):
    assert message in one_line(baton("worker", "--model", str(DEMO), "--check-config", *arguments))


def test_a_worker_says_where_its_threads_and_memory_are():
    cpus = sorted(os.sched_getaffinity(0))
    with Cluster(colocated=True) as cluster:
        assert any("placement" in line and "threads on any CPU; memory from any node" in line
                   for line in cluster.stderr)
    listed = ",".join(map(str, cpus))
    assert baton("worker", "--model", str(DEMO), "--cpus", listed,
                 "--check-config").returncode == 0
    for choice in ("off", "auto"):
        assert baton("up", "--model", str(DEMO), "--numa", choice,
                     "--check-config").returncode == 0


def test_a_worker_keeps_to_its_node():
    if not os.path.exists("/sys/devices/system/node/node0/cpulist"):
        pytest.skip("the kernel shows no NUMA nodes")
    with subprocess.Popen([str(BATON), "worker", "--model", str(DEMO), "--numa-node", "0",
                           "--calibrate=off"], stderr=subprocess.PIPE, text=True) as worker:
        try:
            line = ""
            for line in worker.stderr:  # to its end where the worker does not start
                if line.startswith("  placement"):
                    break
            if "refuses" in line:
                pytest.skip(line)
            assert "memory from NUMA node 0" in line
            maps = pathlib.Path(f"/proc/{worker.pid}/numa_maps").read_text().splitlines()
            assert {entry.split()[1] for entry in maps} == {"bind:0"}
        finally:
            worker.kill()


def test_doctor_lists_the_nodes():
    nodes = sorted(path.name for path in pathlib.Path("/sys/devices/system/node").glob("node[0-9]*"))
    shown = baton("doctor").stdout
    for node in nodes:
        assert node.replace("node", "NUMA node ") + " " in shown
    assert nodes or "the kernel shows no nodes" in shown


def test_unknown_environment_variable_is_an_error():
    line = one_line(baton("worker", "--model", str(DEMO), "--check-config",
                          env={"BATON_THREDS": "2"}))
    assert "BATON_THREADS" in line


def test_print_config_shows_the_source_of_each_value(tmp_path):
    config = tmp_path / "baton.yaml"
    config.write_text("threads: 2\n")
    result = baton("worker", "--config", str(config), "--model", str(DEMO), "--print-config",
                   env={"BATON_BATCH_MAX_TOKENS": "128"})
    assert result.returncode == 0
    assert f"threads: 2  # {config}:1" in result.stdout
    assert "max_tokens: 128  # environment BATON_BATCH_MAX_TOKENS" in result.stdout
    assert f"model: {DEMO}  # flag --model" in result.stdout
    assert "# default" in result.stdout


def test_packed_weights_are_kept_between_starts(tmp_path):
    kept = tmp_path / "packed"
    prompt = {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
    texts = []
    for event in ("packed weights written", "packed weights used"):
        with Cluster("--packed-cache", str(kept), "--weights", "int8", colocated=True) as cluster:
            wait_until(lambda wanted=event: cluster.events(wanted), 10, event)
            texts.append(cluster.complete(prompt)["choices"][0]["text"])
    assert texts[0] == texts[1]
    assert [file.suffix for file in kept.iterdir()] == [".packed"]


def test_check_config_starts_nothing():
    result = baton("up", "--model", str(DEMO), "--check-config")
    assert (result.returncode, result.stdout) == (0, "configuration OK\n")


def test_open_address_needs_insecure():
    line = one_line(baton("router", "--model", str(DEMO), "--workers", "127.0.0.1:1", "--host",
                          "0.0.0.0", "--check-config"))
    assert "--insecure" in line


@pytest.mark.parametrize("protocol, flags", [("HTTP", ["--port"]),
                                             ("gRPC", ["--port=0", "--grpc-port"])])
def test_port_in_use_is_one_clear_line_before_anything_is_loaded(protocol, flags):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = one_line(baton("up", "--model", str(DEMO), *flags, str(port)))
        assert f"cannot listen for {protocol} on 127.0.0.1:{port}: Address already in use" in line


def test_a_host_that_is_a_name_is_told_before_anything_is_loaded():
    line = one_line(baton("up", "--model", str(DEMO), "--port=0", "--host", "localhost"))
    assert "host 'localhost' is not an IP address, such as 127.0.0.1" in line


def test_corrupt_weights_are_a_load_error_that_names_the_file(tmp_path):
    for name in os.listdir(DEMO):
        if os.path.isfile(DEMO / name):
            (tmp_path / name).write_bytes((DEMO / name).read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    result = baton("worker", "--model", str(tmp_path))
    assert result.returncode == 1
    assert "model.safetensors" in result.stderr


def test_ask_without_a_server_is_one_line():
    assert "cannot connect" in one_line(baton("ask", "--url", "http://127.0.0.1:1", "hello"))


def test_ask_prints_text_and_cost():
    with Cluster("--conditional-disaggregation=off") as cluster:
        result = baton("ask", "--url", cluster.url, "--max-tokens", "12", "Once upon a time")
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith("Once upon a time")
        assert "TTFT" in result.stdout and "TPOT" in result.stdout
        assert "bytes of KV over UCX" in result.stdout


def test_dummy_model_of_a_config_serves(tmp_path):
    config = tmp_path / "tiny.json"
    config.write_text("""{"architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512,
        "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "eos_token_id": 2}""")
    with Cluster(model=f"dummy:{config}") as cluster:
        response = cluster.complete({"prompt": "hello", "max_tokens": 5, "ignore_eos": True})
        assert response["usage"]["completion_tokens"] == 5
        assert response["model"] == "tiny"
