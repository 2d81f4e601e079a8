# SPDX-License-Identifier: Apache-2.0
"""
M4: each allocation of a request's path fails once, wherever in the process it is made: the one exchange is answered 502, 503
or 504, or its connection is closed, or it did not matter; nothing crashes, leaks or waits; the next request is served, and
never does a request go up without its identity.

STACYGATE_SWEEP=all fails every allocation, and runs of several lengths from each on; else there are fewer runs, and a part of
the allocations of TLS and of a reload.
"""
import array
import fcntl
import http.client
import json
import mmap
import os
import shutil
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

from tls_lib import BUILD, KEY, Authority, Gateway, Skip, Upstream, main, server_context, wait_for

FULL = os.environ.get("STACYGATE_SWEEP") == "all"
CERTIFICATES = tempfile.mkdtemp(prefix="sg-certs.")
OWN = Authority(CERTIFICATES, "own")
GOOD = OWN.issue("good")
NEVER = 1 << 62
PROMPT = 5.0  # an exchange that takes longer waits for what will not come
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
LINE = b"3\r\n{}\n\r\n"
BIG = bytes(range(256)) * 4096
UPGRADE = (b"GET /api/v1/ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")


class Plan:
    """Which allocation of the gateway fails (see failing_malloc.c)."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "plan")
        with open(self.path, "w+b") as file:
            file.write(struct.pack("=qqq", NEVER, 1, 0))
            file.flush()
            self.memory = mmap.mmap(file.fileno(), 24)

    def arm(self, n, failing=1):
        self.memory[8:24] = struct.pack("=qq", failing, 0)
        self.memory[0:8] = struct.pack("=q", n)

    def disarm(self):
        """Nothing fails any more; how many did."""
        self.memory[0:8] = struct.pack("=q", NEVER)
        return self.failed()

    def failed(self):
        return struct.unpack("=q", self.memory[16:24])[0]


def answer(connection, request):
    """What each target is answered; every request must carry who it is for."""
    what = request.target.removeprefix("/api/v1/")
    if what == "ws":
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        connection.send(connection.take(5)[::-1])
        connection.finish()
        return True
    if what == "stream":
        connection.send(STREAM + LINE)
        connection.send(LINE + b"0\r\n\r\n")
    elif what == "silent":
        connection.send(STREAM + LINE)
        connection.take(1)  # it is closed when the client leaves
    elif what == "big":
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BIG) + BIG)
    elif what == "sandboxes" and request.method == "GET":
        connection.answer(json.dumps([{"id": "sb-1", "metadata": {"stacygate.token": t}} for t in connection.server.tokens]).encode())
    elif what == "sandboxes":
        connection.server.tokens = [json.loads(request.body)["metadata"]["stacygate.token"]]
        assert connection.server.may_answer.wait(20)
        connection.send(b'HTTP/1.1 201 Created\r\nContent-Length: 13\r\n\r\n{"id":"sb-1"}')
    else:
        connection.answer(json.dumps({"target": request.target, "bytes": len(request.body)}).encode())
    return False


class Sweep:
    """A gateway whose allocations can be made to fail, with a plain upstream, one that keeps nothing, and one with TLS."""

    def __enter__(self):
        assert os.path.exists(os.path.join(BUILD, "failing-malloc.so")), "failing-malloc.so is not built"
        self.unread = (0, 0.0)
        self.directory = tempfile.mkdtemp(prefix="sg-plan.")
        self.plan = Plan(self.directory)
        self.plain, self.tls = Upstream(answer=answer), Upstream(server_context(GOOD), answer)
        for server in (self.plain, self.tls):
            server.may_answer = threading.Event()
            server.may_answer.set()
        url = f"url: http://127.0.0.1:{self.plain.port}"
        options = os.environ.get("ASAN_OPTIONS", "")
        self.gateway = Gateway({
            "kept": [url, "timeouts: { spawn: 400ms }"],  # a spawn whose answer is lost waits for memory as long as that
            "fresh": [url, "pool: { max_idle: 0 }"],
            "tls": [f"url: https://127.0.0.1:{self.tls.port}", f"tls: {{ ca_file: {OWN.certificate} }}", "pool: { max_idle: 0 }",
                    "timeouts: { connect: 1s }"],  # OpenSSL may wait in vain for what it had no memory to say
        }, rule="heartbeat: 100ms", level="info", env={
            "LD_PRELOAD": os.path.join(BUILD, "failing-malloc.so"), "SG_ALLOC_PLAN": self.plan.path,
            # libyaml loses a piece of a document for which it had no memory.
            "LSAN_OPTIONS": f"suppressions={self.leaks()}:print_suppressions=0",
            "ASAN_OPTIONS": "verify_asan_link_order=0:allocator_may_return_null=1" + (":" + options if options else "")})
        self.gateway.__enter__()
        return self

    def leaks(self):
        path = os.path.join(self.directory, "leaks")
        with open(path, "w", encoding="ascii") as file:
            file.write("leak:yaml_parser_load\n")
        return path

    def __exit__(self, *what):
        self.plan.disarm()
        self.gateway.__exit__(*what)
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- exchanges: each gives True when the answer was whole and right -------------------------------------------------

    def outcome(self, ask):
        """Runs an exchange and judges how it ended."""
        begin = time.monotonic()
        try:
            status = ask()
        except (http.client.RemoteDisconnected, http.client.IncompleteRead, ConnectionError):
            status = None  # closed, and seen to be
        took = time.monotonic() - begin
        assert took < PROMPT, f"it took {took:.1f} s"
        assert status in (None, 200, 201, 101, 502, 503, 504), f"status {status}"
        return status in (200, 201, 101)

    def ask(self, name, method="GET", target="/api/v1/x", body=None, expect=None):
        got = self.gateway.ask(name, method, target, body)
        assert got.whole or got.status < 300, got
        if got.status < 300 and got.whole:
            # A spawn whose answer found no memory is found by its token, so that the record stands for the answer.
            assert (got.body == expect or got.json()["id"] == json.loads(expect)["id"]) if isinstance(expect, bytes) else (
                got.json() == expect or {"target": target, "bytes": expect or 0}), got
        return got.status if got.whole else None

    def stream(self):
        connection = self.gateway.connect("kept")
        try:
            connection.request("GET", "/api/v1/stream")
            got = connection.getresponse()
            if got.status != 200:
                return got.status
            lines = [line for line in got.read().split(b"\n") if line]
            assert lines == [b"{}", b"{}"], lines
            return 200
        finally:
            connection.close()

    def silent_stream(self):
        """A heartbeat is sent while the server is silent."""
        connection = self.gateway.connect("kept")
        try:
            connection.request("GET", "/api/v1/silent")
            got = connection.getresponse()
            if got.status != 200:
                return got.status
            first, second = got.readline(), got.readline()
            assert (first, second) in ((b"{}\n", b"\n"), (b"{}\n", b""), (b"", b"")), (first, second)
            return 200 if second else None
        finally:
            connection.close()

    def tunnel(self):
        connection = self.gateway.connect("kept")
        try:
            connection.connect()
            connection.sock.sendall(UPGRADE + b"hello")
            got = b""
            while piece := connection.sock.recv(4096):
                got += piece
                # Refused, the five bytes are the beginning of another request.
                if b"\r\n\r\n" in got and not got.startswith(b"HTTP/1.1 101 "):
                    return int(got.split(b" ")[1])
            rest = got.partition(b"\r\n\r\n")[2]
            assert b"olleh".startswith(rest), got
            return 101 if rest == b"olleh" else None
        finally:
            connection.close()

    def slow_reader(self):
        """An answer that does not fit into the socket is kept in part."""
        connection = self.gateway.connect("kept")
        try:
            connection.request("GET", "/api/v1/big")
            connection.sock.settimeout(20)
            wait_for("the gateway is done or stuck", lambda: self.stuck(connection.sock))
            got = connection.getresponse()
            body = got.read()
            assert got.status != 200 or body == BIG, len(body)
            return got.status
        finally:
            connection.close()

    def stuck(self, sock):
        """Whether what lies unread has not become more for a moment, or the gateway has closed."""
        n = array.array("i", [0])
        if select.select([sock], [], [], 0)[0] and not sock.recv(1, socket.MSG_PEEK):
            return True
        fcntl.ioctl(sock.fileno(), termios.FIONREAD, n)
        now = time.monotonic()
        if n[0] != self.unread[0] or now - self.unread[1] > 1:
            self.unread = (n[0], now)
        return now - self.unread[1] > 0.03 and n[0] > 0

    def pipelined(self):
        connection = self.gateway.connect("kept")
        try:
            connection.connect()
            connection.sock.sendall(b"".join(b"GET /api/v1/%d HTTP/1.1\r\nHost: h\r\n%s\r\n" %
                                             (n, b"Connection: close\r\n" if n == 3 else b"") for n in range(4)))
            got = b""
            while piece := connection.sock.recv(65536):
                got += piece
            whole = [b'"/api/v1/%d"' % n in got for n in range(4)]
            assert b"HTTP/1.1 4" not in got, got
            return 200 if all(whole) else None
        finally:
            connection.close()

    def leave_a_spawn(self):
        """The client is gone before the answer: the gateway goes on by itself, until it is at rest again."""
        self.plain.may_answer.clear()
        connection = self.gateway.connect("fresh")
        connection.connect()
        try:
            connection.sock.sendall(b"POST /api/v1/sandboxes HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
        except ConnectionError:
            pass
        wait_for("the server has it", lambda: self.plan.failed() or self.plain.requests)
        left = self.gateway.log().count("client of a spawn has left")
        connection.close()
        wait_for("it is known", lambda: self.plan.failed() or self.gateway.log().count("client of a spawn has left") > left)
        self.plain.may_answer.set()
        wait_for("its connections are closed", lambda: self.descriptors() <= self.base)

    def descriptors(self):
        """How many the gateway has: that tells without its help whether something is under way."""
        try:
            return len(os.listdir(f"/proc/{self.gateway.process.pid}/fd"))
        except PermissionError as why:
            raise Skip(f"its descriptors may not be counted: {why}") from why

    def settled(self):
        """Descriptors when their number has not changed for a while."""
        seen = [self.descriptors()] * 2

        def stable():
            seen[:] = [seen[1], self.descriptors()]
            return len(set(seen)) == 1 and time.monotonic() > begin + 0.1
        begin = time.monotonic()
        wait_for("it is at rest", stable)
        return seen[1]

    def reload(self):
        done = self.count_reloads()
        self.gateway.process.send_signal(signal.SIGHUP)
        wait_for("the reload ends", lambda: self.count_reloads() > done)
        return 200

    def count_reloads(self):
        return self.gateway.log().count("reloaded: ") + self.gateway.log().count("reload failed")

    # --- the sweep ------------------------------------------------------------------------------------------------------

    def good(self, name="kept"):
        assert self.gateway.process.poll() is None, f"it ended with {self.gateway.process.returncode}: {self.gateway.log()[-3000:]}"
        # libcurl's reserve is whole again when what was taken of it has been freed, at the latest with the end of a thread.
        wait_for("it has memory again", lambda: self.gateway.ask(name, "GET", "/api/v1/x").status != 503, 5)
        self.gateway.get(name)

    def judge_upstream(self):
        for server in (self.plain, self.tls):
            with server.lock:
                requests, server.requests[:] = list(server.requests), []
            for request in requests:
                assert request.all("x-api-key") == [KEY], request.headers
                user, = request.all("x-user-id")
                assert user in ("kept-user", "fresh-user", "tls-user"), user

    def run(self, exchange, name="kept", failing=1, step=None):
        """Fails the first, second, ... allocation of one exchange until there are no more."""
        self.good(name)
        assert self.outcome(exchange), "it does not work with memory"
        step = 1 if FULL else step or 1
        n, good, bad = 1, 0, 0
        while True:
            self.plan.arm(n, failing)
            try:
                whole = self.outcome(exchange)
            except Exception as fault:
                raise AssertionError(f"allocation {n} fails, {failing} in a row: {fault!r}\n{self.gateway.log()[-2000:]}") from fault
            failed = self.plan.disarm()
            good, bad = good + whole, bad + (not whole)
            try:
                self.good(name)
            except Exception as fault:
                raise AssertionError(f"after allocation {n} failed, {failing} in a row: {fault!r}\n{self.gateway.log()[-2000:]}") from fault
            self.judge_upstream()
            if not failed:
                break
            n += step
        print(f"  {n - 1} allocations{'' if step == 1 else f' in steps of {step}'}, {failing} fail in a row: "
              f"{good} whole, {bad} not", flush=True)
        assert n > 2 and bad, "nothing failed"
        

def sweep(exchange, name="kept", steps=(1, NEVER), step=None):
    """The sweep over one kind of exchange, with runs of failures of these lengths."""
    with Sweep() as s:
        for failing in ((1, 2, 5, NEVER) if FULL else steps):
            s.run(lambda: exchange(s), name, failing, step)


def test_m4_small_request():
    """A client of its own, and a connection upstream that is kept."""
    sweep(lambda s: s.ask("kept"), steps=(1, 3, NEVER))


def test_m4_dial():
    """regress: a dial that libcurl had no memory for never ended, and the next one ended the daemon."""
    sweep(lambda s: s.ask("fresh"), "fresh")


def test_m4_tls_dial():
    sweep(lambda s: s.ask("tls"), "tls", steps=(1,), step=61)


def test_m4_upload():
    """In chunks, more than the buffers between hold. regress: without memory for a part of the body nobody ended anything."""
    sweep(lambda s: s.ask("fresh", "POST", body=iter([BIG[:300000], BIG[:100], BIG[:200000]]), expect=500100), "fresh")


def test_m4_gathered_upload():
    sweep(lambda s: s.ask("kept", "POST", "/api/v1/sandboxes/sb-1/exec", iter([b"{", b"}"]), expect=2))


def test_m4_spawn():
    sweep(lambda s: s.ask("kept", "POST", "/api/v1/sandboxes", b"{}", expect=b'{"id":"sb-1"}'))


def test_m4_spawn_whose_client_leaves():
    with Sweep() as s:
        s.good("fresh")
        s.base = s.settled()
        for n in range(1, 400):
            s.plan.arm(n)
            s.leave_a_spawn()
            failed = s.plan.disarm()
            s.good("fresh")
            s.judge_upstream()
            if not failed:
                break
        print(f"  {n} allocations", flush=True)
        assert n > 20, n


def test_m4_stream():
    """regress: chunks that were lost for want of memory were followed by the end of a whole answer."""
    sweep(Sweep.stream)


def test_m4_heartbeat():
    sweep(Sweep.silent_stream, steps=(1,))


def test_m4_tunnel():
    sweep(Sweep.tunnel)


def test_m4_slow_reader():
    sweep(Sweep.slow_reader, steps=(1,))


def test_m4_pipelined():
    sweep(Sweep.pipelined)


def test_m4_own_answers():
    sweep(lambda s: s.gateway.ask("kept", target="/gateway/v1/status").status)
    sweep(lambda s: s.gateway.ask("kept", target="/gateway/v1/health").status)
    sweep(lambda s: s.gateway.ask("kept", target="/gateway/v1/metrics").status)
    sweep(lambda s: s.gateway.ask("kept", "PUT", "/gateway/v1/log", '{"level":"debug"}').status)


def test_m4_reload():
    """The old configuration stays in force, or the new one is; both serve."""
    with Sweep() as s:
        s.good()
        step = 1 if FULL else 17
        for n in range(1, 1 << 20, step):
            s.plan.arm(n)
            s.reload()
            failed = s.plan.disarm()
            for name in ("kept", "tls"):
                s.good(name)
            s.judge_upstream()
            if not failed:
                break
        print(f"  {n - 1} allocations in steps of {step}", flush=True)
        assert n > 100 and s.gateway.log().count("reload failed") > 5


def test_m4_reload_by_http():
    """The same, and who asked is told which of them it is, or nothing."""
    with Sweep() as s:
        s.good()
        step, told = 1 if FULL else 17, []
        for n in range(1, 1 << 20, step):
            generation = s.gateway.ask("kept", target="/gateway/v1/status").json()["config"]["generation"]
            s.plan.arm(n)
            try:
                answer = s.gateway.ask("kept", "POST", "/gateway/v1/reload")
                told.append(answer.status)
            except (OSError, http.client.HTTPException):
                answer = None
            failed = s.plan.disarm()
            for name in ("kept", "tls"):
                s.good(name)
            s.judge_upstream()
            now = s.gateway.ask("kept", target="/gateway/v1/status").json()["config"]["generation"]
            if answer and answer.whole:
                assert answer.status in (200, 400, 503) and (answer.status == 200) == (now > generation), (n, answer, generation, now)
            if not failed:
                break
        print(f"  {n - 1} allocations in steps of {step}", flush=True)
        assert n > 100 and told[-1] == 200 and len(told) - told.count(200) > 5, told


def test_m4_check_and_dump():
    """regress: a check or a dump that found no memory said that all was well. Only what is whole ends with 0."""
    with Sweep() as s:
        step = 1 if FULL else 7

        def ask(word):
            done = subprocess.run([os.path.join(BUILD, "stacygated"), word, "-c", s.gateway.config], env=s.gateway.environment,
                                  capture_output=True, timeout=60)
            return done.returncode, done.stdout
        for word in ("-t", "-T"):
            good = ask(word)
            assert good[0] == 0 and bool(good[1]) == (word == "-T"), good
            for n in range(1, 20000, step):
                s.plan.arm(n)
                got = ask(word)
                failed = s.plan.disarm()
                assert got[0] in (0, 1, 2, 3) and (got[0] or got == good), (word, n, got)
                if not failed:
                    break
            print(f"  {word}: {n} allocations in steps of {step}", flush=True)
            assert n > 100, n


if __name__ == "__main__":
    if "clang" in os.environ.get("SG_CC", "") and os.environ.get("SG_SANITIZE"):
        print("clang's sanitizers are part of the program, and nothing preloaded comes before them")
        sys.exit(77)
    try:
        main([f for name, f in sorted(globals().items()) if name.startswith("test_")])
    finally:
        shutil.rmtree(CERTIFICATES, ignore_errors=True)
