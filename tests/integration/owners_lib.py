# SPDX-License-Identifier: Apache-2.0
"""What the tests of owners and limits share: clients that ask, wait and leave, and what they expect of an answer."""
import contextlib
import json
import os
import re
import signal
import socket
import threading

from tls_lib import DEADLINE, main, wait_for
from vm_lib import API, Gateway, Server

NEVER = "sb-00000000"  # an id that the server has never given out
WITH_ROOT = {"alice": [], "bob": [], "root": ["admin: true", "isolation: none"]}  # who may see the whole status
UIDS = {"alice": 1234, "bob": 5678}
UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
           "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
# Where memory is measured: what the sanitizer keeps of what was freed, and from gcc 13 on of frames, is not the gateway's.
LEAN = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") +
        ":quarantine_size_mb=1:thread_local_quarantine_size_kb=16:detect_stack_use_after_return=0"}


def headers_of(answer, *names):
    return [value for key, value in answer.headers if key.lower() in names]


def looks(answer, sandbox):
    """All that a client sees, but for what is new in each answer."""
    kept = [(k, v) for k, v in answer.headers if k.lower() not in ("x-request-id", "date")]
    return answer.status, kept, answer.body.replace(sandbox.encode(), b"ID"), answer.whole


def expect_error(answer, code, word, *words):
    """An error of the gateway's own, in the API's shape."""
    assert answer.status == code, answer
    assert headers_of(answer, "stacygate-error") == [word], answer.headers
    value = answer.json()
    assert list(value) == ["code", "message"] and value["code"] == word, value
    for text_in_it in words:
        assert text_in_it in value["message"], (text_in_it, value)
    return value["message"]


def expect_not_found(answer, sandbox, head=False):
    assert answer.status == 404, answer
    assert headers_of(answer, "stacygate-error") == ["NOT_FOUND"], answer.headers
    if not head:
        assert answer.json() == {"code": "NOT_FOUND", "message": f"sandbox not found: {sandbox}"}, answer


def expect_lookups_only(server, mark, user):
    """Nothing but looks at a sandbox's record, in the caller's own name, has reached the server."""
    for r in server.since(mark):
        assert r.method == "GET" and re.fullmatch(API + "/(sandboxes/[A-Za-z0-9._-]+|pool/status)", r.target), (r.method, r.target)
        assert r.all("x-user-id") == [user], (r.target, r.headers)


def parallel(calls):
    """Results of the calls, all made at the same time."""
    results = [None] * len(calls)

    def run(i):
        try:
            results[i] = calls[i]()
        except Exception as fault:  # shown below
            results[i] = fault
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for t in threads:
        t.start()
    for t in threads:
        t.join(DEADLINE * 3)
    for r in results:
        if isinstance(r, Exception) or r is None:
            raise AssertionError(f"one of those at the same time: {r!r}")
    return results


class Later:
    """A request under way in a thread of its own."""

    def __init__(self, call):
        self.answer = None
        self.thread = threading.Thread(target=self.run, args=(call,), daemon=True)
        self.thread.start()

    def run(self, call):
        self.answer = call()

    def get(self):
        self.thread.join(DEADLINE * 2)
        assert self.answer is not None, "no answer"
        return self.answer


@contextlib.contextmanager
def started(rules=None, **more):
    server = Server()
    with Gateway(server, rules, **more) as g:
        yield server, g


def raw(g, name, data):
    """Sends bytes on a connection of the caller's; gives the socket."""
    c = g.connect(name)
    c.connect()
    if data:  # else it would fail already when the other side has closed
        c.sock.sendall(data)
    return c.sock


def read_all(sock):
    parts = []
    while piece := sock.recv(65536):
        parts.append(piece)
    sock.close()
    return b"".join(parts)


def read_until(sock, end):
    """What comes up to these bytes, and what came with them."""
    got = b""
    while end not in got:
        piece = sock.recv(65536)
        assert piece, got[-2000:]
        got += piece
    return got


def feed_of(g, upstream=0):
    """What the status says of the stream of events."""
    return g.ask("root", target="/gateway/v1/status").json()["upstreams"][upstream]["events"]


def subscribed(server, g, name):
    """Has the gateway remember something and subscribe for it, so that nothing is forgotten by the beginning of that any more."""
    assert g.api(name, "GET", f"/sandboxes/{server.add(name)}/logs").status == 200
    wait_for("the subscription stands", lambda: "connect -> open" in g.log())


class Events:
    """A client of the event stream."""

    def __init__(self, server, g, name):
        self.connection = g.connect(name)
        self.connection.request("GET", API + "/events")
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.status
        assert self.answer.headers["Content-Type"] == "text/event-stream"
        wait_for("the server has the subscriber", lambda: server.subscribers)

    def next(self):
        """The next event; comments and blank lines are none."""
        line = b"\n"
        while line == b"\n" or line.startswith(b":"):
            line = self.answer.readline()
        assert line.startswith(b"data: "), line
        assert self.answer.readline() == b"\n"
        return json.loads(line[6:])

    def close(self):
        self.answer.close()
        self.connection.close()

def run(names):
    """The tests among a script's names."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    socket.setdefaulttimeout(DEADLINE * 2)
    main([f for name, f in list(names.items()) if name.startswith("test_")])