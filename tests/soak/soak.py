# SPDX-License-Identifier: Apache-2.0
"""Many mixed requests through one gateway; its memory and descriptors must not grow.

SG_SOAK_REQUESTS says how many (default 2000; `make check-long` runs a million), SG_SOAK_WRAP what the gateway is run by
(valgrind). The mix: plain GETs and POSTs, pipelined and half-closed ones, uploads with a length and chunked, streams read to
the end, WebSocket tunnels that either side ends first, malformed requests, clients that leave before the answer, in a
stream and in an upload, and an upstream that breaks off before and in its answer. Every answer is judged, and belongs to
its request.
"""
import json
import multiprocessing
import os
import random
import shlex
import socket
import sys
import threading
import time
import zlib

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import sg  # noqa: E402

CLIENTS = 8
POOL = 8
STEPS = 10
UPGRADE = (b"GET /api/v1/soak/%s HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
RECORD = b"20\r\n" + b'{"chunk":"abcdefghijklmnopqrst"}' + b"\r\n"
GARBAGE = (b"GET /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
           b"GET  /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET /api/v1/../x HTTP/1.1\r\nHost: h\r\n\r\n")


class Wire:
    """Reads HTTP from a socket; None where the other side has closed."""

    def __init__(self, sock):
        self.sock, self.rest = sock, b""

    def more(self):
        got = self.sock.recv(1 << 16)
        self.rest += got
        return bool(got)

    def take(self, n):
        while len(self.rest) < n:
            if not self.more():
                return None
        out, self.rest = self.rest[:n], self.rest[n:]
        return out

    def line(self, end=b"\r\n"):
        while end not in self.rest:
            if not self.more():
                return None
        out, _, self.rest = self.rest.partition(end)
        return out

    def head(self):
        text = self.line(b"\r\n\r\n")
        if text is None:
            return None, {}
        first, *lines = text.decode("latin-1").split("\r\n")
        return first, {k.lower(): v.strip() for k, _, v in (x.partition(":") for x in lines)}

    def body(self, fields):
        if "chunked" not in fields.get("transfer-encoding", ""):
            return self.take(int(fields.get("content-length", 0)))
        out = []
        while True:
            size = self.line()
            piece = self.take(int(size, 16)) if size is not None else None
            if piece is None or self.line() is None:
                return None
            if not piece:
                return b"".join(out)
            out.append(piece)


# --- the upstream ----------------------------------------------------------------------------------------------

def serve(sock):
    wire = Wire(sock)
    while True:
        first, fields = wire.head()
        if first is None:
            return
        what = first.split(" ")[1].removeprefix("/api/v1/soak/").partition("?")[0]
        if what in ("ws", "ws-ends-first"):
            sock.sendall(SWITCH)
            while wire.rest or wire.more():
                sock.sendall(wire.take(len(wire.rest)))
                if what == "ws-ends-first":
                    sock.shutdown(socket.SHUT_WR)
                    while wire.more():
                        pass
                    return
            return
        if what == "endless":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                sock.sendall(RECORD)
                time.sleep(0.002)
        body = wire.body(fields)
        if body is None or what == "cut-before":
            return
        if what == "cut-within":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 100)
            return
        if what == "stream":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(20):
                sock.sendall(RECORD)
            sock.sendall(b"0\r\n\r\n")
            continue
        text = json.dumps({"target": first.split(" ")[1], "user": fields.get("x-user-id"), "size": len(body),
                           "crc": zlib.crc32(body)}).encode()
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text) + text)


def serve_quietly(sock):
    with sock:
        try:
            serve(sock)
        except OSError:
            pass


def upstream(listener):
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve_quietly, args=(sock,), daemon=True).start()


# --- the clients -------------------------------------------------------------------------------------------------

class Client:
    def __init__(self, path, seed):
        self.path, self.random, self.n, self.wire = path, random.Random(seed), seed << 32, None
        self.noise = self.random.randbytes(1 << 17)

    def kept(self):
        """The connection that is kept between requests."""
        if not self.wire:
            self.wire = Wire(self.fresh())
        return self.wire

    def fresh(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(30)
        sock.connect(self.path)
        return sock

    def echo(self, method, head, body, send):
        self.n += 1
        target = f"/api/v1/soak/echo?n={self.n}"
        wire = self.kept()
        wire.sock.sendall(f"{method} {target} HTTP/1.1\r\nHost: h\r\nX-User-ID: evil\r\n{head}\r\n".encode() + send)
        first, fields = wire.head()
        assert first == "HTTP/1.1 200 OK", first
        got = json.loads(wire.body(fields))
        assert got == {"target": target, "user": "me", "size": len(body), "crc": zlib.crc32(body)}, got

    def get(self):
        self.echo("GET", "", b"", b"")

    def post(self):
        at = self.random.randrange(1 << 16)
        body = self.noise[at:at + self.random.randrange(1000)]
        self.echo("POST", f"Content-Length: {len(body)}\r\n", body, body)

    def upload(self):
        body = self.noise[:self.random.randrange(1 << 17)]
        self.echo("POST", f"Content-Length: {len(body)}\r\n", body, body)

    def upload_chunked(self):
        body = self.noise[:self.random.randrange(1, 1 << 15)]
        pieces = [body[i:i + 4000] for i in range(0, len(body), 4000)]
        self.echo("POST", "Transfer-Encoding: chunked\r\n", body, b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n")

    def stream(self):
        wire = self.kept()
        wire.sock.sendall(b"GET /api/v1/soak/stream HTTP/1.1\r\nHost: h\r\n\r\n")
        first, fields = wire.head()
        assert first == "HTTP/1.1 200 OK" and len(wire.body(fields)) == 20 * 32, first

    def upgraded(self, what, sock):
        wire = Wire(sock)
        sock.sendall(UPGRADE % what)
        first, _ = wire.head()
        assert first == "HTTP/1.1 101 Switching Protocols", first
        return wire

    def tunnel(self):
        with self.fresh() as sock:
            wire = self.upgraded(b"ws", sock)
            for _ in range(4):
                piece = self.noise[:self.random.randrange(1, 5000)]
                sock.sendall(piece)
                assert wire.take(len(piece)) == piece
            if self.random.random() < 0.5:
                sock.shutdown(socket.SHUT_WR)
                assert wire.take(1) is None

    def tunnel_ended_above(self):
        with self.fresh() as sock:
            wire = self.upgraded(b"ws-ends-first", sock)
            sock.sendall(b"x")
            assert wire.take(1) == b"x" and wire.take(1) is None
            sock.sendall(self.noise[:self.random.randrange(1, 5000)])

    def half_closed(self):
        with self.fresh() as sock:
            sock.sendall(b"GET /api/v1/soak/echo HTTP/1.1\r\nHost: h\r\n\r\n")
            sock.shutdown(socket.SHUT_WR)
            wire = Wire(sock)
            first, fields = wire.head()
            assert first == "HTTP/1.1 200 OK" and wire.body(fields) and wire.take(1) is None, first

    def pipelined(self):
        with self.fresh() as sock:
            targets = [f"/api/v1/soak/echo?n={self.n}-{i}" for i in range(5)]
            sock.sendall("".join(f"GET {t} HTTP/1.1\r\nHost: h\r\n\r\n" for t in targets).encode())
            wire = Wire(sock)
            for target in targets:
                first, fields = wire.head()
                assert first == "HTTP/1.1 200 OK" and json.loads(wire.body(fields))["target"] == target, first

    def malformed(self):
        with self.fresh() as sock:
            sock.sendall(self.random.choice(GARBAGE))
            first, _ = Wire(sock).head()
            assert first and first.split(" ")[1] in ("400", "403"), first

    def leaves_at_once(self):
        with self.fresh() as sock:
            sock.sendall(b"GET /api/v1/soak/echo HTTP/1.1\r\nHost: h\r\n\r\n")

    def leaves_in_a_stream(self):
        with self.fresh() as sock:
            sock.sendall(b"GET /api/v1/soak/endless HTTP/1.1\r\nHost: h\r\n\r\n")
            assert Wire(sock).take(300)

    def leaves_in_an_upload(self):
        with self.fresh() as sock:
            sock.sendall(b"POST /api/v1/soak/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\n" + self.noise[:5000])

    def cut_before(self):
        with self.fresh() as sock:
            sock.sendall(b"POST /api/v1/soak/cut-before HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
            first, _ = Wire(sock).head()
            assert first and first.startswith("HTTP/1.1 502 "), first

    def cut_within(self):
        with self.fresh() as sock:
            sock.sendall(b"GET /api/v1/soak/cut-within HTTP/1.1\r\nHost: h\r\n\r\n")
            wire = Wire(sock)
            first, fields = wire.head()
            # Never a whole answer: cut where the upstream cut it.
            assert first and (first.startswith("HTTP/1.1 502 ") or wire.body(fields) is None), first

    MIX = ((get, 57), (post, 12), (upload, 3), (upload_chunked, 4), (stream, 5), (tunnel, 3), (tunnel_ended_above, 1),
           (half_closed, 1), (pipelined, 1), (malformed, 3), (leaves_at_once, 2), (leaves_in_a_stream, 2),
           (leaves_in_an_upload, 2), (cut_before, 2), (cut_within, 2))

    def run(self, n):
        acts, weights = zip(*self.MIX)
        for act in self.random.choices(acts, weights, k=n):
            try:
                act(self)
            except (AssertionError, OSError, TypeError, ValueError) as e:
                raise AssertionError(f"{act.__name__}: {e!r}") from e


def client_process(path, seed, n, faults):
    try:
        Client(path, seed).run(n)
    except AssertionError as e:
        faults.put(str(e))


# --- the gateway -------------------------------------------------------------------------------------------------

def start(directory):
    """The gateway and its upstream."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.join(directory, "up.sock"))
    listener.listen(1024)
    process = multiprocessing.Process(target=upstream, args=(listener,), daemon=True)
    process.start()
    listener.close()
    key = os.path.join(directory, "key")
    with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as f:
        f.write("SEKRET-soak\n")
    return process, f"""
upstreams:
  main: {{ url: "unix://{directory}/up.sock", pool: {{ max_connections: {POOL}, max_per_identity: {POOL} }} }}
credentials:
  team: {{ api_key: {{ file: {key} }} }}
clients:
  - {{ name: me, match: {{ uid: {os.getuid()} }}, upstream: main, credential: team, user_id: "me", admin: true }}
log: {{ level: error }}
"""


def figures(g):
    """Resident KiB, and the descriptors that are not the pool's; None where they may not be counted."""
    def at_rest():
        status = g.request("GET", "/gateway/v1/status").json
        pool = status["upstreams"][0]["pool"]
        return pool if pool["leased"] == 0 and pool["waiting"] == 0 else None
    pool = sg.wait_until(at_rest, "nothing is under way")
    with open(f"/proc/{g.process.pid}/status", encoding="ascii") as f:
        resident = next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))
    try:
        descriptors = len(os.listdir(f"/proc/{g.process.pid}/fd")) - pool["connections"]
    except PermissionError:
        descriptors = None
    return resident, descriptors


def batch(g, n, seed):
    faults = multiprocessing.Queue()
    clients = [multiprocessing.Process(target=client_process, args=(g.socket, seed + i, n // CLIENTS, faults)) for i in range(CLIENTS)]
    for c in clients:
        c.start()
    for c in clients:
        c.join(1800)
    assert all(c.exitcode == 0 for c in clients), [c.exitcode for c in clients]
    assert faults.empty(), faults.get()


def test_m1_memory_and_descriptors_do_not_grow():
    n = int(os.environ.get("SG_SOAK_REQUESTS", "2000"))
    # AddressSanitizer keeps what was freed and tells stacks apart; that grows for a while by itself.
    slack = 16 << 10 if os.environ.get("SG_SANITIZE") else 512
    wrap = shlex.split(os.environ.get("SG_SOAK_WRAP", ""))
    g = sg.Gateway("")
    process, config = start(g.dir)
    try:
        with open(g.argv[-1], "w", encoding="utf-8") as f:
            f.write(config)
        g.argv = [*wrap, *g.argv]
        g.env["ASAN_OPTIONS"] = "quarantine_size_mb=1:detect_stack_use_after_return=0:" + os.environ.get("ASAN_OPTIONS", "")
        g.start()
        batch(g, max(n // STEPS, CLIENTS * 50), 0)
        resident, descriptors = figures(g)
        seen = [resident]
        began = time.monotonic()
        for step in range(1, STEPS):
            batch(g, n // STEPS, step * CLIENTS)
            now = sg.wait_until(lambda: (f := figures(g)) and (descriptors is None or f[1] <= descriptors) and f,
                                f"no more than {descriptors} descriptors beside the pool's")
            seen.append(now[0])
        rate = n * (STEPS - 1) // STEPS / (time.monotonic() - began)
        print(f"figures: {n} requests, {rate:.0f}/s; resident {seen[0]} KiB after a tenth, {seen[-1]} KiB at the end; "
              f"descriptors beside the pool's {descriptors}")
        # Valgrind's own memory grows; it judges for itself, by its exit status.
        assert wrap or seen[-1] - seen[0] <= slack, seen
        left = g.stop()
        assert left == [os.path.join(g.dir, "up.sock")], left
        assert "SEKRET" not in g.log()
    finally:
        process.terminate()
        g.remove()


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    sys.exit(sg.main(dict(globals())))
