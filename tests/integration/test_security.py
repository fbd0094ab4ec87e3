"""A cluster that is closed: TLS on both fronts, mutual TLS to the workers, API keys."""

import http.client
import json
import os
import ssl
import subprocess
import time

import certificates
import grpc
import pytest
from cluster import BATON, DEMO, Cluster, in_parallel, wait_until

BODY = {"prompt": "Once upon a time there was a", "max_tokens": 12, "temperature": 0,
        "ignore_eos": True}


class SecureCluster(Cluster):
    """Talks HTTPS, with a key."""

    authority = None
    key = None

    def connect(self, timeout=120):
        context = ssl.create_default_context(cafile=self.authority)
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=context)

    def request(self, method, path, body=None, headers=None, timeout=120):
        headers = {"authorization": f"Bearer {self.key}", **(headers or {})}
        return super().request(method, path, body, headers, timeout)


def baton(*words, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BATON_")}
    return subprocess.run([str(BATON), *words], capture_output=True, text=True, timeout=60,
                          env={**clean, **environment}, check=False)


def new_key(file, name, *words):
    made = baton("keys", "new", "--file", str(file), "--name", name, *words)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def control_tls(files, who):
    return [f"--control-tls-ca={files}/ca.pem", f"--control-tls-cert={files}/{who}.pem",
            f"--control-tls-key={files}/{who}.key"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("files")
    certificates.make(directory, "front", "node")
    return directory


@pytest.fixture(scope="module")
def keys(files):
    path = files / "keys.yaml"
    return {"path": path, "user": new_key(path, "alice"),
            "few": new_key(path, "bob", "--requests-per-minute", "2"),
            "admin": new_key(path, "ops", "--admin")}


@pytest.fixture(scope="module")
def secure(files, keys):
    SecureCluster.authority, SecureCluster.key = str(files / "ca.pem"), keys["admin"]
    with SecureCluster(f"--tls-cert={files}/front.pem", f"--tls-key={files}/front.key",
                       f"--api-keys={keys['path']}", *control_tls(files, "node")) as made:
        yield made


def status(cluster, path, key=None, body=None):
    connection = cluster.connect()
    headers = {"authorization": f"Bearer {key}"} if key else {}
    connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_the_same_tokens_as_an_open_cluster(secure):
    with Cluster() as plain:
        expected = plain.complete(BODY)["choices"]
    assert secure.url.startswith("https://")
    answers = in_parallel(lambda _: secure.complete(BODY)["choices"], range(16), 8)
    assert all(answer == expected for answer in answers)


def test_keys_decide_over_each_route(secure, keys):
    assert status(secure, "/readyz") == 200
    for path in ("/v1/models", "/version", "/metrics", "/cluster"):
        assert status(secure, path) == 401
        assert status(secure, path, "bt-guess") == 401
        assert status(secure, path, keys["admin"]) == 200
    assert status(secure, "/v1/models", keys["user"]) == 200
    assert status(secure, "/metrics", keys["user"]) == 403
    assert status(secure, "/v1/completions", None, BODY) == 401
    assert status(secure, "/v1/completions", keys["user"], BODY) == 200
    assert [status(secure, "/v1/models", keys["few"]) for _ in range(3)] == [200, 200, 429]


def test_a_key_that_is_taken_out_of_the_file_ends(secure, keys):
    path = keys["path"]
    text = path.read_text()
    late = new_key(path, "late")
    wait_until(lambda: status(secure, "/v1/models", late) == 200, 10, "the new key is known")
    path.write_text(text)
    wait_until(lambda: status(secure, "/v1/models", late) == 401, 10, "the key is forgotten")
    path.write_text("keys: nonsense")
    wait_until(lambda: secure.metrics()["baton_api_keys_reload_failures_total"] == 1, 10,
               "the broken file is noticed")
    assert status(secure, "/v1/models", keys["user"]) == 200
    path.write_text(text)


def test_grpc_is_closed_in_the_same_way(secure, files, keys, stubs):
    port = int(secure.events("router started")[0]["grpc_port"])
    roots = grpc.ssl_channel_credentials((files / "ca.pem").read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{port}", roots) as channel:
        completion = stubs.services.CompletionStub(channel)
        pb = stubs.pb
        request = pb.CompletionRequest(text=BODY["prompt"], sampling=pb.Sampling(temperature=0),
                                       stopping=pb.Stopping(max_tokens=12, ignore_eos=True))

        def code(key, call=completion.Complete, message=request):
            try:
                call(message, timeout=30, metadata=[("authorization", f"Bearer {key}")])
                return grpc.StatusCode.OK
            except grpc.RpcError as error:
                return error.code()
        assert code("bt-guess") == grpc.StatusCode.UNAUTHENTICATED
        assert code(keys["user"]) == grpc.StatusCode.OK
        load = stubs.services.ControlStub(channel).GetLoad
        assert code(keys["user"], load, pb.GetLoadRequest()) == grpc.StatusCode.PERMISSION_DENIED
        assert code(keys["admin"], load, pb.GetLoadRequest()) == grpc.StatusCode.OK
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError) as refused:
            stubs.services.CompletionStub(channel).Complete(request, timeout=10)
        assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE,
                                        grpc.StatusCode.DEADLINE_EXCEEDED)


def test_the_commands_speak_https_and_send_keys(secure, files, keys):
    where = ["--url", secure.url, "--tls-ca", str(files / "ca.pem")]
    asked = baton("ask", *where, "--max-tokens", "5", "Once", BATON_API_KEY=keys["user"])
    assert asked.returncode == 0 and asked.stdout.strip(), asked.stderr
    assert "An API key is needed" in baton("ask", *where, "Once").stderr
    assert baton("top", "--once", *where, BATON_API_KEY=keys["admin"]).returncode == 0
    assert "administrator" in baton("top", "--once", *where, BATON_API_KEY=keys["user"]).stderr
    assert baton("health", *where).returncode == 0
    untrusted = baton("health", "--url", secure.url)
    assert untrusted.returncode == 1 and "no TLS with" in untrusted.stderr
    shown = baton("ask", *where, "--print-config", "Once", BATON_API_KEY=keys["user"])
    assert "(set)" in shown.stdout and keys["user"] not in shown.stdout


def test_workers_refuse_who_has_no_certificate_of_their_authority(secure, files, tmp_path):
    strangers = tmp_path / "strangers"
    strangers.mkdir()
    certificates.make(strangers, "node")
    workers = secure.workers()
    ports = ",".join(f"127.0.0.1:{worker['control_port']}" for worker in workers.values())
    for tls in ([], control_tls(strangers, "node")):
        stranger = subprocess.Popen(
            [str(BATON), "router", "--model", str(DEMO), "--workers", ports, "--port", "0",
             "--log-json", *tls], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            line = next(json.loads(line) for line in stranger.stderr if '"listening"' in line)
            port = int(line["http"].rsplit(":", 1)[1])
            give_up = time.monotonic() + 3
            while time.monotonic() < give_up:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                connection.request("GET", "/readyz")
                assert connection.getresponse().status == 503
                connection.close()
        finally:
            stranger.kill()
            stranger.communicate()
    assert len(secure.complete(BODY)["choices"]) == 1


def test_no_secret_is_written_anywhere(secure, keys):
    for key in ("bt-guess", keys["user"], keys["admin"]):
        status(secure, "/v1/models", key)
    written = "".join(secure.stderr) + secure.request("GET", "/metrics")[2].decode()
    written += secure.request("GET", "/cluster")[2].decode() + keys["path"].read_text()
    for name in ("user", "few", "admin"):
        assert keys[name] not in written
    assert secure.metrics()['baton_auth_refusals_total{reason="wrong_key"}'] > 0


def test_a_new_key_leaves_the_file_to_its_owner(tmp_path):
    path = tmp_path / "keys.yaml"
    new_key(path, "alice")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 10001, 10001)
    before = path.stat()
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    new_key(link, "bob")
    after = path.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid,
                                                           before.st_mode)
    assert link.is_symlink() and path.read_text().count("sha256") == 2
    again = baton("keys", "new", "--file", str(path), "--name", "bob")
    assert again.returncode != 0 and "there twice" in again.stderr


def test_addresses_other_than_loopback_need_tls_or_a_word(files):
    router = ["router", "--model", str(DEMO), "--workers", "127.0.0.1:1", "--check-config",
              "--host", "0.0.0.0"]
    worker = ["worker", "--model", str(DEMO), "--check-config"]
    front = [f"--tls-cert={files}/front.pem", f"--tls-key={files}/front.key"]
    assert baton(*router).returncode == 2
    assert baton(*router, *front).returncode == 0
    assert baton(*router, "--insecure").returncode == 0
    assert baton(*router, front[0]).returncode == 2
    control = control_tls(files, "node")
    assert "control-tls" in baton(*worker, "--host", "0.0.0.0").stderr
    assert "admin_host" in baton(*worker, "--host", "0.0.0.0", *control).stderr
    assert baton(*worker, "--host", "0.0.0.0", "--admin-host", "127.0.0.1",
                 *control).returncode == 0
    assert "trusted-network" in baton(*worker, "--kv-host", "10.0.0.1").stderr
    assert baton(*worker, "--kv-host", "10.0.0.1", "--trusted-network").returncode == 0


def test_the_live_page_asks_for_a_key_and_shows_nothing(secure, tmp_path):
    page = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors",
         f"--user-data-dir={tmp_path}", "--virtual-time-budget=3000", "--dump-dom", secure.url + "/"],
        capture_output=True, text=True, timeout=60, check=False).stdout
    assert 'id="key" style="display: block;"' in page
    assert "prefill-0" not in page
