"""A server of OpenAI's API that misbehaves as told, for tests of the load generator."""

import json
import socket
import socketserver
import threading

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
MODELS = {"object": "list", "data": [{"id": "liar", "vocab_size": 1000, "max_model_len": 100000}]}


def token(count):
    event = {"choices": [{"index": 0, "text": " a"}],
             "usage": {"prompt_tokens": 4, "completion_tokens": count}}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def status(code, message):
    body = json.dumps({"error": {"message": message}}).encode()
    return (f"HTTP/1.1 {code} Why\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


DONE = b"data: [DONE]\n\n"
# What is answered to a completion of two tokens. A connection ends where the bytes do.
GOOD = HEAD + token(1) + token(2) + DONE
LIES = {
    "no_done": HEAD + token(1) + token(2),
    "bad_json": HEAD + token(1) + b'data: {"choices": [{"text\n\n' + DONE,
    "cut": HEAD.replace(b"Connection: close", b"Transfer-Encoding: chunked")
           + b"1000\r\n" + token(1) + b"data: {",
    "http_500": status(500, "the engine fell over"),
    "http_429": status(429, "full"),
    "not_http": b"220 mail.example.org ESMTP\r\n",
    "nothing": b"",
}


class LyingServer(socketserver.ThreadingTCPServer):
    """`answer(n)` gives the bytes for the n-th completion, or None to stay silent until closed."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.completions = []  # (headers, body)
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *_):
        self.closing.set()
        self.shutdown()
        self.server_close()


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        try:
            self.exchange()
        except OSError:
            pass  # the client went away, as it may

    def exchange(self):
        request = self.rfile.readline().decode()
        headers = {}
        while line := self.rfile.readline().strip().decode():
            name, value = line.split(": ", 1)
            headers[name.lower()] = value
        if request.startswith("GET"):
            found = b"/v1/models" in request.encode()
            body = json.dumps(MODELS if found else {}).encode()
            self.wfile.write(f"HTTP/1.1 {200 if found else 404} Yes\r\nConnection: close\r\n"
                             f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            return
        body = json.loads(self.rfile.read(int(headers["content-length"])))
        with self.server.lock:
            self.server.completions.append((headers, body))
            reply = self.server.answer(len(self.server.completions) - 1)
        if reply is None:
            self.server.closing.wait()
        else:
            self.wfile.write(reply)
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
