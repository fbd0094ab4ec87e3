"""Many raw HTTP connections in one thread, for clients that do what no HTTP library does."""

import json
import resource
import selectors
import socket
import time


def raise_file_limit(needed):
    """Raises the soft limit of this process's files; False where the hard one is below `needed`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard == resource.RLIM_INFINITY or hard >= needed
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return enough


def post(path, body, stream=False):
    """The bytes of a request."""
    data = json.dumps({**body, "stream": True} if stream else body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n").encode() + data


class RawClient:
    def __init__(self, host, port, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(30)
        self.socket.connect((host, port))
        self.socket.setblocking(False)
        self.received = b""
        self.closed = False  # by the server
        self.reset = False   # so, and not in order

    def send(self, data):
        """False: the server has closed, or takes no more."""
        try:
            return self.socket.send(data) == len(data)
        except OSError:
            return False

    def read(self):
        """What has arrived; notices the end."""
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            self.closed = self.reset = True
            return
        self.closed = not data
        self.received += data

    @property
    def status(self):
        """Of the first answer; 0: none came."""
        return int(self.received[9:12]) if len(self.received) >= 12 else 0

    def header(self, name):
        for line in self.received.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
            key, _, value = line.decode().partition(": ")
            if key.lower() == name:
                return value
        return None

    def answered(self):
        """Whole: a stream or an answer with a length."""
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return False
        if b"Transfer-Encoding: chunked" in head:
            return body.endswith(b"0\r\n\r\n")
        return len(body) >= int(self.header("content-length") or 0)

    def events(self):
        """The parsed events of a stream; None behind the last: [DONE] came."""
        return [None if line == b"data: [DONE]" else json.loads(line[6:])
                for line in self.received.split(b"\n") if line.startswith(b"data: ")]

    def close(self):
        self.socket.close()


def read_until(clients, done, timeout_s, what):
    """Reads what comes to all of them until `done(client)` or closed; returns the times of that."""
    deadline = time.monotonic() + timeout_s
    times = {}
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        while len(times) < len(clients):
            for key, _ in selector.select(max(0, deadline - time.monotonic())):
                client = key.data
                client.read()
                if client.closed or done(client):
                    times[client] = time.monotonic()
                    selector.unregister(client.socket)
            assert time.monotonic() < deadline or len(times) == len(clients), (
                f"{len(clients) - len(times)} of {len(clients)} not within {timeout_s} s: {what}")
    return times
