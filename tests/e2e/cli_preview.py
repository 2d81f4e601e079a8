# SPDX-License-Identifier: Apache-2.0
"""`stacygate preview --open-port`: a loopback port that leads through the gateway's socket to one port of one sandbox, for its
own user alone. The gateway is a scripted one that shows every byte it gets."""
import base64
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import browser  # noqa: E402
import chromium  # noqa: E402
import sg  # noqa: E402

PREVIEW = "3000-sb-1.localhost"
SMALL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def read_head(connection, data=b""):
    """The bytes of one head, and what came behind it; empty at the end."""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            assert not data, data
            return b"", b""
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def read_all(connection):
    data = b""
    while more := connection.recv(65536):
        data += more
    return data


class Gateway:
    """Answers the question for the URL; every other connection is `serve`'s, which gets it after its first head."""

    def __init__(self, path):
        self.url = f"http://{PREVIEW}"
        self.heads = []         # of preview traffic, in the order in which they came
        self.connections = 0    # that carried preview traffic
        self.serve = self.answer_each
        self.faults = []
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(path)
        self.listening.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection):
        try:
            with connection:
                connection.settimeout(60)
                head, rest = read_head(connection)
                if head.startswith(b"GET /gateway/v1/sandboxes/sb-1/preview/3000 HTTP/1.1\r\n"):
                    url = self.url.encode()
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(url), url))
                elif head:
                    self.connections += 1
                    self.heads.append(head)
                    self.serve(connection, head, rest)
        except OSError:
            pass
        except Exception as fault:  # told by the test's own thread
            self.faults.append(fault)

    def answer_each(self, connection, _head, rest):
        """Requests without bodies, one after the other."""
        while True:
            connection.sendall(SMALL)
            head, rest = read_head(connection, rest)
            if not head:
                return
            self.heads.append(head)


class Door:
    """A scripted gateway, and the client serving on a free port."""

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="sg-door.", dir="/tmp")
        self.socket = os.path.join(self.dir, "s.sock")
        self.gateway = Gateway(self.socket)
        self.env = {**os.environ, "STACYGATE_SOCKET": self.socket}
        self.process = self.start("--open-port", "0")
        line = self.process.stdout.readline().decode()
        assert line.startswith("http://localhost:") and line.endswith("/\n"), (line, self.process.poll())
        self.port = int(line[len("http://localhost:"):-2])
        return self

    def start(self, *words):
        return subprocess.Popen([sg.program("stacygate"), "preview", "sb-1", "3000", *words], env=self.env, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __exit__(self, kind, *_):
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=60)
        self.gateway.listening.close()
        shutil.rmtree(self.dir)
        sg.check_clean(err.decode(), "stacygate")
        if kind is None:
            assert (self.process.returncode, out, err) == (-signal.SIGINT, b"", b""), (self.process.returncode, out, err)
            assert not self.gateway.faults, self.gateway.faults

    def connect(self, address="127.0.0.1"):
        return socket.create_connection((address, self.port), timeout=60)

    def ask(self, request, address="127.0.0.1"):
        """Sends all of it and reads to the end."""
        with self.connect(address) as c:
            c.sendall(request)
            return read_all(c)

    def get(self, *lines, host=None, method="GET", target="/"):
        head = [f"{method} {target} HTTP/1.1", f"Host: {host or f'localhost:{self.port}'}", *lines, "Connection: close", "", ""]
        return self.ask("\r\n".join(head).encode())


def passes(door, *lines, **options):
    before = len(door.gateway.heads)
    door.gateway.serve = lambda connection, *_: connection.sendall(SMALL)
    got = door.get(*lines, **options)
    assert got == SMALL and len(door.gateway.heads) == before + 1, (lines, options, got)
    return door.gateway.heads[-1].decode()


def refused(door, status, code, *lines, **options):
    before = len(door.gateway.heads)
    got = door.get(*lines, **options).decode()
    head, _, body = got.partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ") and json.loads(body)["code"] == code, (lines, options, got)
    assert "X-Content-Type-Options: nosniff" in head and "Content-Security-Policy: sandbox" in head, head
    assert len(door.gateway.heads) == before, "something went to the gateway"


# ---- requests ---------------------------------------------------------------

def test_a_request_goes_on_with_the_previews_host():
    with Door() as d:
        d.gateway.serve = lambda connection, *_: connection.sendall(SMALL)
        request = (f"GET /a/../b?q=%20 HTTP/1.1\r\nX-First:  1 \r\nHOST: localhost:{d.port}\r\nCookie: a=b\r\nAuthorization: Basic eA==\r\n"
                   "x-dup: 1\r\nx-dup: 2\r\nConnection: close\r\n\r\n")
        for address in ("127.0.0.1", *(["::1"] if sg.has_ipv6() else [])):
            assert d.ask(request.encode(), address) == SMALL
            assert d.gateway.heads[-1].decode() == request.replace(f"localhost:{d.port}", PREVIEW), d.gateway.heads[-1]


def test_every_head_of_a_kept_connection_is_judged_and_rewritten():
    with Door() as d, d.connect() as c:
        for i in range(3):
            c.sendall(f"GET /{i} HTTP/1.1\r\nHost: 127.0.0.1:{d.port}\r\n\r\n".encode())
            head, rest = read_head(c)
            while len(rest) < 2:
                rest += c.recv(100)
            assert head + rest == SMALL, head + rest
        assert d.gateway.heads == [f"GET /{i} HTTP/1.1\r\nHost: {PREVIEW}\r\n\r\n".encode() for i in range(3)]
        c.sendall(b"GET /evil HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        assert read_all(c).startswith(b"HTTP/1.1 421 ")
        assert len(d.gateway.heads) == 3 and d.gateway.connections == 1


def test_requests_sent_ahead_wait_for_their_turn():
    with Door() as d:
        host = f"localhost:{d.port}"
        got = d.ask("".join(f"GET /{i} HTTP/1.1\r\nHost: {host}\r\n\r\n" for i in range(20)).encode() +
                    b"GET /evil HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        assert got.startswith(SMALL * 20 + b"HTTP/1.1 421 "), got
        assert d.gateway.heads == [f"GET /{i} HTTP/1.1\r\nHost: {PREVIEW}\r\n\r\n".encode() for i in range(20)]
        assert d.gateway.connections == 1


def test_what_is_no_http_is_refused():
    with Door() as d:
        host = f"Host: localhost:{d.port}\r\n"
        cases = {f"GET / HTTP/1.1\r\n{host}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": 400,
                 f"GET / HTTP/1.1\r\n{host}{host}\r\n": 400, "GET / HTTP/1.1\r\n\r\n": 400, f"GET / HTTP/1.1\n{host}\r\n": 400,
                 f"FROB / HTTP/1.1\r\n{host}\r\n": 405, f"GET / HTTP/2.0\r\n{host}\r\n": 505, f"GET / HTTP/1.1\r\n X: y\r\n{host}\r\n": 400,
                 f"GET http://evil.test/ HTTP/1.1\r\n{host}\r\n": 421, "GET / HTTP/1.0\r\n\r\n": 421,
                 f"GET / HTTP/1.1\r\n{host}X: {'y' * 40000}\r\n\r\n": 431}
        for request, status in cases.items():
            got = d.ask(request.encode())
            assert got.startswith(b"HTTP/1.1 %d " % status), (request[:80], got)
        assert not d.gateway.heads
        got = d.get(method="HEAD", host="evil.test")
        assert got.startswith(b"HTTP/1.1 421 ") and got.endswith(b"\r\n\r\n"), "an answer to HEAD has no body"


def test_bodies_keep_their_framing():
    with Door() as d:
        bodies = []

        def serve(connection, head, rest):
            data = rest
            while not data.endswith(b"END" if b"Content-Length" in head else b"0\r\nT: 1\r\n\r\n"):
                data += connection.recv(65536)
            bodies.append(data)
            connection.sendall(SMALL)
        d.gateway.serve = serve
        start = f"POST / HTTP/1.1\r\nHost: localhost:{d.port}\r\nConnection: close\r\n"
        chunked = b"3;x=y\r\nabc\r\n00a\r\n0123456789\r\n0\r\nT: 1\r\n\r\n"
        plain = os.urandom(5 << 20) + b"END"
        assert d.ask(start.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunked) == SMALL
        assert d.ask(start.encode() + b"Content-Length: %d\r\n\r\n" % len(plain) + plain) == SMALL
        assert bodies == [chunked, plain]
        # Byte by byte it is the same message.
        with d.connect() as c:
            for byte in start.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunked:
                c.sendall(bytes([byte]))
            assert read_all(c) == SMALL and bodies[2] == chunked


def test_answers_of_every_framing():
    big = os.urandom(3 << 20)
    answers = {"length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX: y\r\n\r\n" % len(big) + big,
               "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n%x\r\n%s\r\n0\r\nT: 1\r\n\r\n" % (len(big), big),
               "to the end": b"HTTP/1.1 200 OK\r\n\r\n" + big, "none": b"HTTP/1.1 204 No Content\r\n\r\n",
               "interim": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + SMALL}
    with Door() as d:
        for name, answer in answers.items():
            d.gateway.serve = lambda connection, *_, a=answer: connection.sendall(a)
            got = d.get()
            assert got == answer, (name, got[:200], len(got), len(answer))

        def in_single_bytes(connection, *_):
            for byte in small:
                connection.sendall(bytes([byte]))
        small = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: 1\r\n\r\n"
        d.gateway.serve = in_single_bytes
        assert d.get() == small
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
        d.gateway.serve = lambda connection, *_: connection.sendall(head)
        assert d.get(method="HEAD") == head


def test_a_reader_that_is_slow_gets_everything():
    with Door() as d:
        big = os.urandom(8 << 20)
        sent = threading.Event()

        def serve(connection, *_):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(big) + big[:1000])
            sent.set()
            connection.sendall(big[1000:])
        d.gateway.serve = serve
        with socket.socket() as c:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            c.settimeout(60)
            c.connect(("127.0.0.1", d.port))
            c.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{d.port}\r\nConnection: close\r\n\r\n".encode())
            assert sent.wait(60)
            assert read_all(c).endswith(big)


def test_expect_continue_and_early_answers():
    with Door() as d:
        def serve(connection, _head, rest):
            assert rest == b""
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert connection.recv(100) == b"body"
            connection.sendall(SMALL)
        d.gateway.serve = serve
        with d.connect() as c:
            c.sendall(f"POST / HTTP/1.1\r\nHost: localhost:{d.port}\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
                      .encode())
            assert read_head(c)[0] == b"HTTP/1.1 100 Continue\r\n\r\n"
            c.sendall(b"body")
            assert read_all(c) == SMALL
        early = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        d.gateway.serve = lambda connection, *_: connection.sendall(early)
        with d.connect() as c:
            c.sendall(f"POST / HTTP/1.1\r\nHost: localhost:{d.port}\r\nContent-Length: 100000000\r\n\r\n".encode())
            got, _ = read_head(c)
            assert got == early, got


def test_a_cut_answer_is_seen_to_be_cut():
    with Door() as d:
        for cut in (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"):
            d.gateway.serve = lambda connection, *_, c=cut: connection.sendall(c)
            assert d.get() == cut
        for nothing in (b"", b"HTTP/1.1 20", b"junk\r\n\r\n"):
            d.gateway.serve = lambda connection, *_, n=nothing: connection.sendall(n)
            got = d.get()
            assert got.startswith(b"HTTP/1.1 502 ") and b"CONNECTION_ERROR" in got, (nothing, got)
        # An upgrade that nobody asked for is no way to the raw connection.
        d.gateway.serve = lambda connection, *_: connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\nraw")
        assert d.get().startswith(b"HTTP/1.1 502 ")


def test_a_cut_request_is_seen_to_be_cut():
    with Door() as d:
        got, ended = [], threading.Event()

        def serve(connection, _head, rest):
            got.append(rest + read_all(connection))
            ended.set()
        d.gateway.serve = serve
        for framing, part in (("Content-Length: 100", b"part"), ("Transfer-Encoding: chunked", b"5\r\npar")):
            ended.clear()
            with d.connect() as c:
                c.sendall(f"POST / HTTP/1.1\r\nHost: localhost:{d.port}\r\n{framing}\r\n\r\n".encode())
                sg.wait_until(lambda: d.gateway.connections == len(got) + 1, "the request has begun")
                c.sendall(part)
                c.shutdown(socket.SHUT_WR)
                assert ended.wait(60) and got[-1] == part, got
                assert read_all(c) == b""


def test_interim_answers_without_end_are_bounded():
    with Door() as d:
        stuck = threading.Event()

        def serve(connection, *_):
            connection.settimeout(2)
            piece = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 30000 + b"\r\n\r\n"
            try:
                for _ in range(4000):
                    connection.sendall(piece)
            except TimeoutError:
                stuck.set()
        d.gateway.serve = serve
        with d.connect() as c:
            c.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{d.port}\r\n\r\n".encode())
            assert stuck.wait(60), "it takes more than its buffers hold"


def test_no_gateway_is_502():
    with Door() as d:
        os.unlink(d.socket)
        assert d.get().startswith(b"HTTP/1.1 502 ")


def test_a_web_socket_is_a_tunnel():
    with Door() as d:
        upgraded = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        ends = []

        def serve(connection, _head, rest):
            connection.sendall(upgraded + b"first")
            data = rest
            while not data.endswith(b"\0\r\n\xff"):
                data += connection.recv(100)
            connection.sendall(data[::-1])
            ends.append(connection.recv(100))
            connection.sendall(b"after the end")
        d.gateway.serve = serve
        request = (f"GET /ws HTTP/1.1\r\nHost: localhost:{d.port}\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
                   f"Sec-WebSocket-Key: dGhl\r\nSec-WebSocket-Version: 13\r\nOrigin: http://localhost:{d.port}\r\n\r\n")
        with d.connect() as c:
            c.sendall(request.encode() + b"GET / \0\r\n\xff")
            head, rest = read_head(c)
            assert head == upgraded, head
            while len(rest) < 5 + 10:
                rest += c.recv(100)
            assert rest == b"first" + b"GET / \0\r\n\xff"[::-1], rest
            c.shutdown(socket.SHUT_WR)
            assert read_all(c) == b"after the end" and ends == [b""]
        assert d.gateway.heads[-1].decode() == request.replace(f"localhost:{d.port}", PREVIEW)


def test_a_client_that_ended_its_side_still_gets_its_answer():
    with Door() as d:
        reached = threading.Event()

        def serve(connection, _head, rest):
            connection.sendall(SMALL)
            read_head(connection, rest)
            assert reached.wait(60)
            connection.sendall(SMALL)
        d.gateway.serve = serve
        request = f"GET / HTTP/1.1\r\nHost: localhost:{d.port}\r\n\r\n".encode()
        with d.connect() as c:
            # The first is there so that it has been let in: one who has left before that is nobody.
            c.sendall(request)
            head, rest = read_head(c)
            while len(rest) < 2:
                rest += c.recv(100)
            assert head + rest == SMALL
            c.sendall(request)
            c.shutdown(socket.SHUT_WR)
            reached.set()
            assert read_all(c) == SMALL


def test_more_connections_than_are_served_at_once_wait():
    with Door() as d:
        idle = [d.connect() for _ in range(140)]
        for c in idle[:20]:
            c.close()
        passes(d)
        for c in idle:
            c.close()


# ---- who may come in --------------------------------------------------------

def test_ID10_hosts():
    with Door() as d:
        port = d.port
        for host in (f"localhost:{port}", f"LocalHost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", PREVIEW, f"{PREVIEW}:{port}"):
            assert f"Host: {PREVIEW}\r\n" in passes(d, host=host)
        for host in ("evil.test", f"evil.test:{port}", "localhost", "127.0.0.1", "[::1]", f"localhost:{port + 1}", f"127.0.0.2:{port}",
                     f"localhost.evil.test:{port}", f"3001-sb-1.localhost:{port}", f"3000-sb-2.localhost:{port}", "x" + PREVIEW,
                     PREVIEW + ".evil.test", f"{PREVIEW}:{port - 1}", f"localhost:{port}:80", f"localhost:{port}x", "localhost:"):
            refused(d, 421, "BAD_REQUEST", host=host)


def test_ID10_pages_of_other_sites():
    with Door() as d:
        port = d.port
        for origin in (f"http://localhost:{port}", f"http://127.0.0.1:{port}", f"http://[::1]:{port}", f"http://{PREVIEW}:{port}", f"http://{PREVIEW}"):
            head = passes(d, f"Origin: {origin}", "Sec-Fetch-Site: same-site", method="POST")
            assert f"Origin: http://{PREVIEW}\r\n" in head, head
        for origin in ("http://evil.test", "null", f"https://localhost:{port}", "http://localhost", f"http://localhost:{port}/",
                       f"http://localhost:{port + 1}", f"http://evil.test:{port}", f"http://3001-sb-1.localhost:{port}", ""):
            refused(d, 403, "FORBIDDEN", f"Origin: {origin}")
        refused(d, 403, "FORBIDDEN", f"Origin: http://localhost:{port}", "Origin: http://evil.test")
        for site in ("cross-site", "same-site", "CROSS-SITE", ""):
            refused(d, 403, "FORBIDDEN", f"Sec-Fetch-Site: {site}")
        refused(d, 403, "FORBIDDEN", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site")
        for site in ("none", "same-origin"):
            passes(d, f"Sec-Fetch-Site: {site}")
        # Node's fetch.
        passes(d, "Sec-Fetch-Mode: cors")
        # A link that somebody follows, and no more than that.
        link = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")
        passes(d, *link)
        refused(d, 403, "FORBIDDEN", *link, method="POST")
        refused(d, 403, "FORBIDDEN", *link[:2], "Sec-Fetch-Dest: iframe")
        refused(d, 403, "FORBIDDEN", link[0], "Sec-Fetch-Mode: no-cors", link[2])


OTHER = """
import socket, sys
c = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30)
try:
    c.sendall(b"GET / HTTP/1.1\\r\\nHost: localhost:%s\\r\\nConnection: close\\r\\n\\r\\n" % sys.argv[1].encode())
    print(c.recv(100))
except ConnectionError:
    print(b"")
"""


def test_ID9_another_user_is_closed_unread():
    if os.getuid() != 0 or not shutil.which("setpriv"):
        raise sg.Skip("only root (with setpriv) can become another user")
    with Door() as d:
        def ask_as(*who):
            done = subprocess.run([*who, shutil.which("python3", path="/usr/bin:/bin") or sys.executable, "-c", OTHER, str(d.port)],
                                  capture_output=True, text=True, timeout=60, check=True, cwd="/")
            return done.stdout
        assert ask_as("setpriv", "--reuid", "65533", "--regid", "65533", "--clear-groups") == "b''\n"
        assert not d.gateway.heads
        # The same program as this user is served.
        assert "200 OK" in ask_as()
        assert len(d.gateway.heads) == 1


def test_ID3_a_uid_that_may_be_anybodys_opens_no_door():
    unshare = [shutil.which("unshare") or "unshare", "--user"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        raise sg.Skip("no user namespace can be made")
    with Door() as d:
        done = subprocess.run([*unshare, sg.program("stacygate"), "preview", "sb-1", "3000", "--open-port", "0"], env=d.env, capture_output=True,
                              timeout=60, check=False)
        assert done.returncode == 1 and done.stdout == b"" and b"nobody could be kept out" in done.stderr, done
        # One that is mapped is told from all others, and is served.
        p = subprocess.Popen([*unshare, "--map-root-user", sg.program("stacygate"), "preview", "sb-1", "3000", "--open-port", "0"], env=d.env,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        port = int(p.stdout.readline().decode().rsplit(":", 1)[1].rstrip("/\n"))
        with socket.create_connection(("127.0.0.1", port), timeout=60) as c:
            c.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n".encode())
            assert read_head(c)[0].startswith(b"HTTP/1.1 200 ")
        p.send_signal(signal.SIGTERM)
        assert p.communicate(timeout=60) == (b"", b"")


def test_ID17_ID20_nobody_is_let_in_who_has_gone_before_he_was_looked_at():
    with Door() as d:
        request = f"GET /gone HTTP/1.1\r\nHost: localhost:{d.port}\r\n\r\n".encode()
        d.process.send_signal(signal.SIGSTOP)
        try:
            sg.wait_until(lambda: sg.processes()[d.process.pid][1] == "T", "the client stands still")
            for reset in (False, True):
                c = d.connect()
                c.sendall(request)
                if reset:
                    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                c.close()
        finally:
            d.process.send_signal(signal.SIGCONT)
        # Whoever comes later is accepted later.
        passes(d)
        assert len(d.gateway.heads) == 1, d.gateway.heads


# ---- a real browser ---------------------------------------------------------

# A page of the sandbox's own, as any program's: it must work as if the browser had come by the preview's host.
OWN_PAGE = b"""<!doctype html><meta charset="utf-8"><script>
(async () => {
	const results = {};
	results.get = await (await fetch("/get")).text();
	results.post = await (await fetch("/post", {method: "POST", body: "x".repeat(200000), headers: {"X-Own": "1"}})).text();
	results.ws = await new Promise(done => {
		const s = new WebSocket("ws://" + location.host + "/ws");
		s.onopen = () => done("open");
		s.onerror = () => done("error");
	});
	await fetch("/done", {method: "POST", body: JSON.stringify(results)});
})();
</script>"""


def test_ID10_a_page_of_another_site_in_a_browser():
    if not chromium.PROGRAM:
        raise sg.Skip("Chromium is not installed")
    pages = browser.Server()
    with Door() as d:
        bases = [f"http://{host}:{d.port}" for host in ("127.0.0.1", "localhost", *(["[::1]"] if sg.has_ipv6() else []))]
        # By an address, and by a name of the attacker's that leads to the door itself.
        for origin, targets in ((f"http://127.0.0.1:{pages.port}", bases), (f"http://evil.test:{pages.port}", [f"http://evil.test:{d.port}", *bases])):
            pages.page = (browser.PAGE % {"bases": json.dumps(targets)}).encode()
            pages.done.clear()
            chromium.visit(f"{origin}/page", pages.done)
            assert not d.gateway.heads, d.gateway.heads
            for n in range(len(targets)):
                for kind in ("get", "json", "delete", "ws", "events"):
                    assert pages.results[f"{n}-{kind}"] == "refused", (origin, n, kind, pages.results)
    pages.shutdown()
    pages.server_close()


def test_the_sandboxes_own_page_in_a_browser():
    if not chromium.PROGRAM:
        raise sg.Skip("Chromium is not installed")
    results, done = {}, threading.Event()

    def body_of(connection, head, rest):
        size = re.search(rb"(?i)\r\ncontent-length: *(\d+)\r\n", head)
        while size and len(rest) < int(size[1]):
            rest += connection.recv(65536)
        return rest

    def serve(connection, head, rest):
        while head:
            path = head.split(b" ")[1]
            body = body_of(connection, head, rest)
            assert f"\r\nHost: {PREVIEW}\r\n".encode() in head, head
            if path == b"/ws":
                key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)[1]
                accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
                # What a program compares that lets in its own pages only.
                assert f"\r\nOrigin: http://{PREVIEW}\r\n".encode() in head, head
                connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                   b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
                read_all(connection)
                return
            answer = OWN_PAGE if path == b"/page" else str(len(body)).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
            if path == b"/done":
                results.update(json.loads(body))
                done.set()
            head, rest = read_head(connection)
    with Door() as d:
        d.gateway.serve = serve
        chromium.visit(f"http://localhost:{d.port}/page", done)
        assert results == {"get": "0", "post": "200000", "ws": "open"}, results


# ---- the command ------------------------------------------------------------

def test_ID22_both_addresses_or_nothing():
    families = [(socket.AF_INET, "127.0.0.1")] + ([(socket.AF_INET6, "::1")] if sg.has_ipv6() else [])
    with Door() as d:
        for family, address in families:
            with socket.socket(family) as taken:
                taken.bind((address, 0))
                taken.listen(1)
                p = d.start("--open-port", str(taken.getsockname()[1]))
                out, err = p.communicate(timeout=60)
                assert p.returncode == 1 and out == b"" and b"both loopback addresses must be free" in err, (out, err)


def test_a_port_of_ones_own_choice():
    with Door() as d:
        port = sg.free_ports(1)[0]
        p = d.start("--open-port", str(port), "--json")
        assert json.loads(p.stdout.readline()) == {"url": f"http://localhost:{port}/"}
        with socket.create_connection(("127.0.0.1", port), timeout=60) as c:
            c.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n".encode())
            assert read_head(c)[0].startswith(b"HTTP/1.1 200 ")
        p.send_signal(signal.SIGTERM)
        assert p.communicate(timeout=60) == (b"", b"") and p.returncode == -signal.SIGTERM, p.returncode


def test_only_the_url_of_that_port_of_that_sandbox_is_served():
    with Door() as d:
        for url in ("http://3001-sb-1.localhost", "http://3000-sb-2.localhost", "http://evil.test", "http://3000-sb-1.a@evil.test"):
            d.gateway.url = url
            p = d.start("--open-port", "0")
            out, err = p.communicate(timeout=60)
            assert p.returncode == 1 and out == b"" and b"BAD_ANSWER" in err, (url, out, err)


if __name__ == "__main__":
    sys.exit(sg.main(dict(globals())))
