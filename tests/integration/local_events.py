# SPDX-License-Identifier: Apache-2.0
"""GET /events of stacygate-local, on sandboxes that exist only in memory: what is told, to whom, and its bounds."""
import json
import os
import re
import socket

from local_lib import Server, main, wait_for

FAKE = "stacygate-local-fake"
NOTHING = object()


class Events:
    """A subscription that takes the chunked stream apart."""

    def __init__(self, server):
        self.sock = server.raw()
        self.sock.sendall(server.head("GET", "/events"))
        self.raw = b""
        self.text = b""
        self.over = False
        while b"\r\n\r\n" not in self.raw:
            piece = self.sock.recv(65536)
            assert piece, self.raw
            self.raw += piece
        head, _, self.raw = self.raw.partition(b"\r\n\r\n")
        self.head = head.decode()

    def chunk(self):
        """Moves one chunk into the text; False when there is no whole one."""
        size, found, rest = self.raw.partition(b"\r\n")
        if not found:
            return False
        n = int(size, 16)
        if len(rest) < n + 2:
            return False
        assert rest[n:n + 2] == b"\r\n", self.raw
        self.text += rest[:n]
        self.raw = rest[n + 2:]
        self.over = n == 0
        return True

    def next(self):
        """The next event; None at the end of the stream."""
        while b"\n\n" not in self.text:
            if self.over:
                return None
            if not self.chunk():
                piece = self.sock.recv(65536)
                if not piece:
                    return None
                self.raw += piece
        event, _, self.text = self.text.partition(b"\n\n")
        assert event.startswith(b"data: ") and b"\n" not in event, event
        return json.loads(event[6:])

    def take(self, *types):
        """The next events, which must be of these types; their sandboxes and data."""
        got = [self.next() for _ in types]
        assert [e["type"] for e in got] == list(types), got
        return got


def fake(**more):
    return Server(program=FAKE, **more)


def a_life_is_told():
    """The head comes at once; then every event of the contract's example, in its form, numbered from 1."""
    with fake() as s:
        e = Events(s)
        assert e.head.startswith("HTTP/1.1 200 OK\r\n"), e.head
        assert "Content-Type: text/event-stream" in e.head and "Cache-Control: no-cache" in e.head, e.head
        sandbox = s.spawn()
        s.run(sandbox, "out a; exit 3")
        s.post(f"/sandboxes/{sandbox}/files", {"path": "/x", "content": "y"})
        assert len(s.get(f"/sandboxes/{sandbox}/files?path=/size/10").body) == 10
        s.get(f"/sandboxes/{sandbox}/files?path=/size/0")
        s.delete(f"/sandboxes/{sandbox}")
        s.delete(f"/sandboxes/{sandbox}")
        got = e.take("sandbox.created", "sandbox.running", "exec.started", "exec.completed", "file.written", "file.read",
                     "file.read", "sandbox.destroyed", "sandbox.destroyed")
        for n, event in enumerate(got):
            assert list(event) == ["id", "type", "sandbox_id", "timestamp"], event
            assert event["id"] == f"evt-{n + 1}" and event["sandbox_id"] == sandbox, event
            assert re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$", event["timestamp"]), event


def quiet_routes_tell_nothing():
    """A streamed exec, the quiet file routes, an unknown sandbox and malformed requests are not told."""
    with fake() as s:
        sandbox = s.spawn()
        e = Events(s)
        s.post(f"/sandboxes/{sandbox}/exec", {"command": "out a", "stream": True})
        s.get(f"/sandboxes/{sandbox}/files/list?path=/dir")
        s.post(f"/sandboxes/{sandbox}/files/move", {"old_path": "/a", "new_path": "/b"})
        s.post(f"/sandboxes/{sandbox}/files/chmod", {"path": "/a", "mode": "644"})
        s.post(f"/sandboxes/{sandbox}/extend", {"ttl": "1m"})
        s.delete("/sandboxes/sb-00000000")
        s.get("/sandboxes/sb-00000000")
        s.post("/sandboxes", "{bad")
        s.post("/sandboxes", {"ttl": "abc"})
        s.delete(f"/sandboxes/{sandbox}")
        e.take("sandbox.destroyed")


def faults_are_told():
    """What failed says what was done, why and where; its event comes before its answer."""
    with fake() as s:
        sandbox = s.spawn()
        e = Events(s)

        def told(kind, error, operation, of=sandbox):
            event = e.next()
            assert event["type"] == kind and event.get("sandbox_id", NOTHING) == of, event
            assert event["data"] == {"error": error, "operation": operation, "provider": "local"}, event

        s.post(f"/sandboxes/{sandbox}/exec", {"command": "fail"})
        e.take("exec.started")
        told("exec.failed", "exec: refused", "exec")
        s.post(f"/sandboxes/{sandbox}/exec", {"command": "hang", "timeout": "50ms"})
        e.take("exec.started")
        told("exec.timeout", f"exec timeout: {sandbox}", "exec")
        s.post(f"/sandboxes/{sandbox}/exec", {"command": "flood 17000"})
        e.take("exec.started")
        told("exec.failed", 'exec: the output is larger than 16 MiB; use "stream": true', "exec")
        s.post(f"/sandboxes/{sandbox}/exec", {"command": "fail", "stream": True})
        told("operation.failed", "exec: refused", "exec")
        s.post(f"/sandboxes/{sandbox}/exec", {"command": "out a", "timeout": "11m"})
        told("resource.limit", "resource limit exceeded: exec timeout 11m0s exceeds max exec timeout 10m0s", "exec")
        s.get(f"/sandboxes/{sandbox}/files?path=/none")
        told("operation.failed", "reading file: no such file", "read_file")
        s.post("/sandboxes", {"memory_mb": 13})
        told("operation.failed", "spawning sandbox: it was told to fail", "spawn", NOTHING)
        s.post("/sandboxes", {"ttl": "25h"})
        told("resource.limit", "resource limit exceeded: ttl exceeds max ttl 24h0m0s", "spawn", NOTHING)
        s.post("/sandboxes", {"provider": "<x>"})
        told("operation.failed", "getting provider: provider not found: <x>", "spawn", NOTHING)
        os.mkdir(s.state)
        s.post("/templates", {"name": "t", "image": "i", "memory_mb": 13})
        s.post("/templates/t/spawn")
        told("operation.failed", "spawning sandbox: it was told to fail", "spawn", NOTHING)


def an_exec_given_up_is_told():
    """A plain exec whose client leaves has an end for those who saw its start."""
    with fake() as s:
        sandbox = s.spawn()
        e = Events(s)
        sock = s.raw()
        sock.sendall(s.head("POST", f"/sandboxes/{sandbox}/exec", b'{"command":"hang"}'))
        e.take("exec.started")
        sock.close()
        assert e.take("exec.failed")[0]["data"]["operation"] == "exec"


def every_end_is_told_once():
    """A prune, an expiry and the destruction of one that ended by itself are each told once; an abandoned spawn never."""
    with fake() as s:
        e = Events(s)
        pruned = s.spawn(ttl="0")
        e.take("sandbox.created", "sandbox.running")
        assert s.delete("/sandboxes").json() == {"pruned": 1}
        assert e.take("sandbox.destroyed")[0]["sandbox_id"] == pruned
        expired = s.spawn(ttl="0")
        e.take("sandbox.created", "sandbox.running")
        assert e.take("sandbox.destroyed")[0]["sandbox_id"] == expired
        dead = s.spawn()
        s.post(f"/sandboxes/{dead}/exec", {"command": "die"})
        s.delete(f"/sandboxes/{dead}")
        e.take("sandbox.created", "sandbox.running", "exec.started", "exec.failed")
        assert e.take("sandbox.destroyed")[0]["sandbox_id"] == dead
        sock = s.raw()
        sock.sendall(s.head("POST", "/sandboxes", b'{"memory_mb":14}'))
        wait_for("it is being created", lambda: s.get("/sandboxes").json())
        sock.close()
        wait_for("it is gone", lambda: s.get("/sandboxes").json() == [])
        last = s.spawn()
        assert [x["sandbox_id"] for x in e.take("sandbox.created", "sandbox.running")] == [last, last]


def slow_listener_loses():
    """Who does not read loses events, not the server its memory, and hears of new ones once he reads again."""
    with fake() as s:
        sandbox = s.spawn()
        slow, quick = Events(s), Events(s)
        name = "x" * 5000
        faults = 400  # of more than 5 kB each, so more than the buffers of a listener hold
        for n in range(faults):
            s.post(f"/sandboxes/{sandbox}/exec", {"command": "fail", "stream": True, "env": {"N": str(n)}})
            s.post("/sandboxes", {"provider": name})
            quick.take("operation.failed", "operation.failed")
        seen = [slow.next()["id"]]
        s.delete(f"/sandboxes/{sandbox}")
        while True:
            event = slow.next()
            seen.append(event["id"])
            if event["type"] == "sandbox.destroyed":
                break
            if len(seen) % 50 == 0:
                s.delete(f"/sandboxes/{sandbox}")
        numbers = [int(x.partition("-")[2]) for x in seen]
        assert numbers == sorted(set(numbers)), "in order, each once"
        assert len(numbers) < 2 * faults, "nothing was lost"
        assert quick.next()["type"] == "sandbox.destroyed"


def listeners_are_bounded():
    """Beyond the greatest number of listeners there is a 503, until one leaves; each gets everything meanwhile."""
    with fake() as s:
        listeners = [Events(s) for _ in range(64)]
        answer = s.get("/events")
        assert answer.status == 503 and answer.json()["message"] == "too many event streams", answer
        sandbox = s.spawn()
        for e in listeners:
            assert e.take("sandbox.created", "sandbox.running")[0]["sandbox_id"] == sandbox
        listeners.pop().sock.close()
        wait_for("there is room again", lambda: "200 OK" in Events(s).head)


def half_close_ends_it():
    """A listener that closes its sending side gets the end of the stream."""
    with fake() as s:
        e = Events(s)
        e.sock.shutdown(socket.SHUT_WR)
        assert e.next() is None and e.over
        assert s.request("POST", "/events").status == 405


def stops_with_the_server():
    """A stream does not keep the server from stopping; it is cut, after the ends of the sandboxes."""
    s = fake()
    e = Events(s)
    s.spawn()
    e.take("sandbox.created", "sandbox.running")
    s.stop()
    e.take("sandbox.destroyed")
    assert e.next() is None and not e.over


if __name__ == "__main__":
    main([a_life_is_told, quiet_routes_tell_nothing, faults_are_told, an_exec_given_up_is_told, every_end_is_told_once,
          slow_listener_loses, listeners_are_bounded, half_close_ends_it, stops_with_the_server])
