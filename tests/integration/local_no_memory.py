# SPDX-License-Identifier: Apache-2.0
"""
M4 for stacygate-local: each allocation of a preview, of a stream of events and of a stream that tells its exit code fails
once. The one exchange is answered 503 or cut, or it did not matter; a sandbox may end, the server does not, nothing leaks,
and the next exchange is as always.
"""
import json
import mmap
import os
import socket
import struct
import tempfile

from local_lib import BUILD, Server, main, require_sandboxes, wait_for
from local_ports import PROGRAM

PROMPT = 5.0  # what takes longer waits for what will not come
MOST = 2000   # allocations of an exchange, by far


NEVER = 1 << 62


class Plan:
    """Which allocation of the server fails (see failing_malloc.c)."""

    def __init__(self):
        self.file = tempfile.NamedTemporaryFile(prefix="sg-plan.")
        self.path = self.file.name
        self.file.write(struct.pack("=qqq", NEVER, 1, 0))
        self.file.flush()
        self.memory = mmap.mmap(self.file.fileno(), 24)

    def arm(self, n):
        self.memory[8:24] = struct.pack("=qq", 1, 0)
        self.memory[0:8] = struct.pack("=q", n)

    def disarm(self):
        """Nothing fails any more; how many did since it was armed."""
        self.memory[0:8] = struct.pack("=q", NEVER)
        return struct.unpack("=q", self.memory[16:24])[0]


class Swept:
    """A server whose allocations fail on demand, with a sandbox that is made anew when it ended for want of memory."""

    def __init__(self):
        self.plan = Plan()
        options = os.environ.get("ASAN_OPTIONS", "")
        self.server = Server(wrapper=[
            "env", "LD_PRELOAD=" + os.path.join(BUILD, "failing-malloc.so"), "SG_ALLOC_PLAN=" + self.plan.path,
            "ASAN_OPTIONS=" + (options + ":" if options else "") + "verify_asan_link_order=0:allocator_may_return_null=1:"
            # What the loader allocates for itself is told by the whole stack.
            "fast_unwind_on_malloc=0"])
        self.sandbox = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.server.__exit__(kind, value, trace)
        self.plan.file.close()

    def box(self):
        s = self.server
        if self.sandbox and s.get("/sandboxes/" + self.sandbox).json().get("state") == "running":
            return self.sandbox
        self.sandbox = s.spawn()
        s.post(f"/sandboxes/{self.sandbox}/files", {"path": "/workspace/p.py", "content": PROGRAM})
        s.run(self.sandbox, "exec setsid python3 /workspace/p.py 127.0.0.1 8000 >/tmp/log 2>&1 &")
        wait_for("it listens", lambda: s.get(f"/sandboxes/{self.sandbox}/files?path=/tmp/ready-8000").status == 200)
        return self.sandbox

    def sweep(self, exchange):
        """The exchange with its first allocation failing, its second, and so on, until none is left that fails."""
        box = self.box()
        whole = exchange(self.server, box)
        assert whole[0] == "whole", whole
        for n in range(1, MOST):
            box = self.box()
            self.plan.arm(n)
            got = exchange(self.server, box)
            failed = self.plan.disarm()
            assert got[0] in ("whole", "refused", "cut"), (n, got)
            if not failed:
                assert got[0] == "whole", (n, got)
                break
        else:
            raise AssertionError("no end of allocations")
        assert n > 5, "hardly any allocation failed"
        assert exchange(self.server, self.box())[0] == "whole"
        print(f"note: {n - 1} allocations", flush=True)


def talk(server, request, is_whole):
    """Sends it and judges all that comes, to the end."""
    data = b""
    with server.raw() as sock:
        sock.settimeout(PROMPT)
        try:
            sock.sendall(request)
            while not is_whole(data):
                piece = sock.recv(65536)
                if not piece:
                    break
                data += piece
        except socket.timeout:
            return "late", data[:500]
        except ConnectionError:
            pass
    status = data[9:12]
    if is_whole(data):
        return "whole", data[:500]
    # A sandbox that ended for want of memory is not found.
    return ("refused" if status in (b"404", b"500", b"502", b"503") else "cut"), data[-500:]


def preview():
    """A preview, from its head to the program's answer and back."""
    body = b"x" * 300000

    def exchange(server, box):
        head = f"POST /x HTTP/1.1\r\nHost: 8000-{box}.localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        return talk(server, head + body, lambda data: data.startswith(b"HTTP/1.1 200") and data.endswith(head + body))

    with Swept() as swept:
        swept.sweep(exchange)


def exit_record():
    """A stream with its exit record."""
    def exchange(server, box):
        request = server.head("POST", f"/sandboxes/{box}/exec", json.dumps(
            {"command": "echo out; echo err >&2; exit 3", "stream": True}).encode(),
            [("Accept", "application/x-ndjson; exit=1"), ("Connection", "close")])
        return talk(server, request, lambda data: b'{"exit_code":3,' in data and data.endswith(b"0\r\n\r\n"))

    with Swept() as swept:
        swept.sweep(exchange)


def events():
    """A listener's beginning, and what is told to him; a single event may be lost, the next one is not."""
    def read_until(sock, data, needle):
        while needle not in data:
            piece = sock.recv(65536)
            if not piece:
                raise ConnectionResetError
            data += piece
        return data

    with Swept() as swept:
        def exchange(server, box):
            data = b""
            with server.raw() as sock:
                sock.settimeout(PROMPT)
                try:
                    sock.sendall(server.head("GET", "/events"))
                    data = read_until(sock, data, b"\r\n\r\n")
                    if b" 200 OK" not in data:
                        return ("refused" if data[9:12] == b"503" else "wrong"), data
                    told = talk(server, server.head("POST", f"/sandboxes/{box}/exec", b'{"command":"true"}',
                                                     [("Connection", "close")]),
                                lambda answer: b'"duration"' in answer)
                    swept.plan.disarm()
                    if told[0] == "late":
                        return told
                    server.post(f"/sandboxes/{swept.box()}/files", {"path": "/tmp/x", "content": "x"})
                    return "whole", read_until(sock, data, b"file.written")[-500:]
                except socket.timeout:
                    return "late", data[-500:]
                except ConnectionError:
                    return "cut", data[-500:]

        swept.sweep(exchange)


if __name__ == "__main__":
    require_sandboxes()
    if "clang" in os.environ.get("SG_CC", "") and os.environ.get("SG_SANITIZE"):
        print("SKIPPED: clang's sanitizers are part of the program, and nothing preloaded comes before them")
        raise SystemExit(77)
    if not os.path.exists(os.path.join(BUILD, "failing-malloc.so")):
        print("SKIPPED: failing-malloc.so is not built")
        raise SystemExit(77)
    main([preview, exit_record, events])
