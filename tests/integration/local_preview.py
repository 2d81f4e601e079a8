# SPDX-License-Identifier: Apache-2.0
"""Preview traffic of stacygate-local, byte for byte. The sandboxes exist only in memory; their ports are this script's own."""
import os
import random
import resource
import select
import socket
import struct
import threading

from local_lib import DEADLINE, Server, main, wait_for

FAKE = "stacygate-local-fake"
NEVER = 14       # the fake's port on which nobody ever accepts
BIG = 64 << 20   # more than all buffers on the way


def fake(**more):
    return Server(program=FAKE, **more)


def receive(sock, n=None, until=None):
    """n bytes, or up to `until`, or to the end."""
    data = bytearray()
    sock.settimeout(DEADLINE)
    while (n is None or len(data) < n) and (until is None or until not in data):
        piece = sock.recv(min(1 << 20, n - len(data)) if n else 1 << 20)
        if not piece:
            break
        data += piece
    return bytes(data)


def is_cut(sock):
    """Whether the other side ends it, cleanly or not."""
    try:
        return receive(sock) is not None
    except ConnectionError:
        return True


class Program:
    """What listens on a port."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=600)
        self.listener.settimeout(DEADLINE)
        self.port = self.listener.getsockname()[1]

    def accept(self):
        sock = self.listener.accept()[0]
        sock.settimeout(DEADLINE)
        return sock

    def meet(self, server, sandbox, more=b""):
        """A client's connection and the program's, both behind the request's head."""
        client = server.raw()
        head = self.head(sandbox)
        client.sendall(head + more)
        program = self.accept()
        assert receive(program, len(head)) == head
        return client, program

    def head(self, sandbox, path="/", extra=""):
        return f"GET {path} HTTP/1.1\r\nHost: {self.port}-{sandbox}.localhost\r\n{extra}\r\n".encode()


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def rss(server):
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:
        return int(status.read().split("VmRSS:")[1].split()[0]) << 10


# --- what passes ---------------------------------------------------------------------------------------------------------

def bytes_as_they_come():
    """The head and all behind it reach the program unchanged, keys and odd spellings too; its bytes come back the same."""
    with fake() as s:
        p, sandbox = Program(), s.spawn()
        head = (f"PATCH /a%2Fb//c?x=;y HTTP/1.1\r\nhOST:  {p.port}-{sandbox.upper()}.LocalHost:8080 \r\nX-API-Key: wrong\r\n"
                "X-Odd:\tv \r\nContent-Length: 3\r\nConnection: Upgrade, x\r\nUpgrade: odd\r\nX-Odd: again\r\n\r\n").encode()
        behind = b"abcGET /not-parsed HTTP/1.1\r\n\0\xff\r\n"
        sock = s.raw()
        sock.sendall(head[:40])
        sock.sendall(head[40:] + behind[:5])
        program = p.accept()
        assert receive(program, len(head) + 5) == head + behind[:5]
        sock.sendall(behind[5:])
        assert receive(program, len(behind) - 5) == behind[5:]
        answer = b"ICE/1.0 200 whatever\n\0\xff\r\n\r\n"
        program.sendall(answer)
        assert receive(sock, len(answer)) == answer
        # The connection stays the program's, whatever host is named.
        sock.sendall(b"GET /api/v1/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"/api/v1/live" in receive(program, until=b"\r\n\r\n")
        program.close()
        assert receive(sock) == b""
        sock.close()
        wait_for("its end is logged", lambda: f"preview {sandbox} port {p.port}" in s.log())
        assert "not-parsed" not in s.log() and "X-Odd" not in s.log(), "no byte of it is logged"


def behind_another_answer():
    """On a connection of the API the answers before come first; chunked and expected bodies are the program's."""
    with fake() as s:
        p, sandbox = Program(), s.spawn()
        sock = s.raw()
        head = p.head(sandbox, "/x", "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n")
        sock.sendall(s.head("GET", "/live") + head + b"5\r\nhel")
        program = p.accept()
        assert receive(program, len(head) + 6) == head + b"5\r\nhel"
        program.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        data = receive(sock, until=b"100 Continue\r\n\r\n")
        assert data.index(b"alive") < data.index(b"100 Continue"), data
        sock.close()
        assert receive(program) == b""


def half_closes():
    """An end of one direction is passed on and the other goes on, whichever side ends first."""
    with fake() as s:
        p, sandbox = Program(), s.spawn()
        client, program = p.meet(s, sandbox, b"last")
        client.shutdown(socket.SHUT_WR)
        assert receive(program) == b"last"
        for piece in (b"one", b"two"):
            program.sendall(piece)
            assert receive(client, 3) == piece
        program.close()
        assert receive(client) == b""
        client, program = p.meet(s, sandbox)
        program.sendall(b"bye")
        program.shutdown(socket.SHUT_WR)
        assert receive(client) == b"bye"
        for piece in (b"one", b"two"):
            client.sendall(piece)
            assert receive(program, 3) == piece
        client.close()
        assert receive(program) == b""
        # A client that has closed its sending side with the request itself.
        sock = s.raw()
        sock.sendall(p.head(sandbox))
        sock.shutdown(socket.SHUT_WR)
        program = p.accept()
        receive(program)
        program.sendall(b"answer")
        program.close()
        assert receive(sock) == b"answer"


def both_ways_at_once():
    """A conversation in pieces of all sizes, both ways at the same time, arrives whole: as a WebSocket's would."""
    def talk(sock, bytes_, sizes):
        at = 0
        while at < len(bytes_):
            n = sizes.choice((1, 2, 7, 125, 4096, 70000))
            sock.sendall(bytes_[at:at + n])
            at += n

    with fake() as s:
        p, sandbox = Program(), s.spawn()
        client, program = p.meet(s, sandbox)
        ours, theirs = random.Random(1).randbytes(6 << 20), random.Random(2).randbytes(6 << 20)
        talkers = [threading.Thread(target=talk, args=(client, ours, random.Random(3))),
                   threading.Thread(target=talk, args=(program, theirs, random.Random(4)))]
        heard = {}
        listeners = [threading.Thread(target=lambda: heard.update(program=receive(program, len(ours)))),
                     threading.Thread(target=lambda: heard.update(client=receive(client, len(theirs))))]
        for thread in talkers + listeners:
            thread.start()
        for thread in talkers + listeners:
            thread.join()
        assert heard == {"program": ours, "client": theirs}, {k: len(v) for k, v in heard.items()}
        client.sendall(b"still open")
        assert receive(program, 10) == b"still open"


def push(sock, data):
    """Sends until the other side takes no more; how much that was."""
    view, sent = memoryview(data), 0
    sock.setblocking(False)
    while sent < len(data) and select.select([], [sock], [], 0.5)[1]:
        try:
            sent += sock.send(view[sent:sent + (1 << 20)])
        except BrokenPipeError:
            break
    sock.settimeout(DEADLINE)
    return sent


def back_pressure():
    """Who does not read stops the other side, not the server, which keeps little; then everything arrives."""
    with fake() as s:
        p, sandbox = Program(), s.spawn()
        data = random.Random(5).randbytes(1 << 20) * (BIG >> 20)
        for direction in ("down", "up"):
            client, program = p.meet(s, sandbox)
            before = rss(s)
            sender, reader = (program, client) if direction == "down" else (client, program)
            sent = push(sender, data)
            assert sent < BIG, "nothing was held back"
            assert rss(s) - before < 8 << 20, (before, rss(s))
            assert s.get("/live").status == 200
            rest = threading.Thread(target=lambda: (sender.sendall(memoryview(data)[sent:]), sender.shutdown(socket.SHUT_WR)))
            rest.start()
            assert receive(reader) == data, direction
            rest.join()


# --- ends ----------------------------------------------------------------------------------------------------------------

def client_leaves():
    """When the client has gone so is the program's connection, silent or not, also with bytes that nobody takes."""
    with fake() as s:
        p, sandbox = Program(), s.spawn()
        base = descriptors(s)
        client, program = p.meet(s, sandbox)
        client.close()
        assert receive(program) == b""
        client, program = p.meet(s, sandbox)
        client.shutdown(socket.SHUT_WR)
        assert receive(program) == b""
        client.close()
        wait_for("one that was half-closed is let go", lambda: descriptors(s) <= base)
        client, program = p.meet(s, sandbox)
        push(client, b"x" * BIG)
        client.close()
        wait_for("one that was held back is let go", lambda: descriptors(s) <= base)
        client, program = p.meet(s, sandbox)
        push(program, b"x" * BIG)
        client.close()
        assert is_cut(program)
        wait_for("one that did not read is let go", lambda: descriptors(s) <= base)


def program_leaves():
    """A program that ends or resets ends the client's connection, behind what it sent."""
    with fake() as s:
        p, sandbox = Program(), s.spawn()
        base = descriptors(s)
        client, program = p.meet(s, sandbox)
        program.sendall(b"y" * 300000)
        program.close()
        assert receive(client) == b"y" * 300000
        client.close()
        client, program = p.meet(s, sandbox)
        program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        program.close()
        assert is_cut(client)
        # An early answer to an upload that is not read reaches the client.
        client, program = p.meet(s, sandbox)
        upload = threading.Thread(target=lambda: push(client, b"z" * (8 << 20)))
        upload.start()
        program.sendall(b"too much")
        program.shutdown(socket.SHUT_WR)
        assert receive(client, 8) == b"too much"
        program.close()
        upload.join()
        client.close()
        wait_for("all are let go", lambda: descriptors(s) <= base)


def sandbox_ends():
    """The end of a sandbox cuts its connections, and answers those that wait for a program."""
    with fake() as s:
        p, sandbox, other = Program(), s.spawn(), s.spawn()
        client, program = p.meet(s, sandbox)
        spared = p.meet(s, other)
        waiting = s.raw()
        waiting.sendall(f"GET / HTTP/1.1\r\nHost: {NEVER}-{sandbox}.localhost\r\n\r\n".encode())
        idle = s.raw()
        idle.sendall(s.head("GET", "/live"))
        receive(idle, until=b"alive")
        assert s.delete(f"/sandboxes/{sandbox}").status == 200
        assert is_cut(client) and is_cut(program)
        data = receive(waiting)
        assert b"404 Not Found" in data and f"sandbox destroyed: {sandbox}".encode() in data, data
        spared[0].sendall(b"x")
        assert receive(spared[1], 1) == b"x"
        s.process.terminate()
        assert is_cut(spared[0]) and is_cut(spared[1])
        s.process.wait(DEADLINE)


# --- what is refused -----------------------------------------------------------------------------------------------------

def ask(server, host, path="/", sock=None):
    own = sock or server.raw()
    own.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    data = receive(own)
    own.close()
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), head, body


def refusals():
    """No such port, no such sandbox, nobody there: each has its answer, and the API's is not touched."""
    with fake() as s:
        sandbox, gone = s.spawn(), s.spawn()
        s.delete(f"/sandboxes/{gone}")
        for port in ("0", "65536", "99999999999999999999", "080", "00"):
            status, head, body = ask(s, f"{port}-{sandbox}.localhost")
            assert status == 400 and b'"code":"BAD_REQUEST"' in body and b"application/json" in head, (port, body)
        status, _, body = ask(s, "80-sb-00000000.localhost")
        assert status == 404 and body == b'{"code":"NOT_FOUND","message":"sandbox not found: sb-00000000"}\n', body
        status, _, body = ask(s, f"80-{gone}.localhost:1234")
        assert status == 404 and body == f'{{"code":"NOT_FOUND","message":"sandbox destroyed: {gone}"}}\n'.encode(), body
        closed = Program()
        closed.listener.close()
        status, _, body = ask(s, f"{closed.port}-{sandbox}.localhost")
        assert status == 502 and body == (f'{{"code":"PROVIDER_ERROR","message":"port {closed.port} of sandbox {sandbox}: '
                                          'nothing listens there"}\n').encode(), body
        # Not the form, or not the domain: the API, which wants its key.
        p = Program()
        for host in (f"{p.port}-{sandbox}.evil.test", f"{p.port}-{sandbox}", f"{p.port}-{sandbox}.localhost.evil.test",
                     f"x{p.port}-{sandbox}.localhost", f"-{sandbox}.localhost", f"{p.port}-{sandbox[3:]}.localhost",
                     f"+{p.port}-{sandbox}.localhost", f"a.{p.port}-{sandbox}.localhost", f"{p.port}-{sandbox}.localhost:x",
                     "localhost"):
            assert ask(s, host, "/api/v1/live")[0] in (400, 401), host
        p.listener.settimeout(0)
        try:
            p.listener.accept()
            raise AssertionError("somebody was connected")
        except BlockingIOError:
            pass
        # A refused request leaves its connection usable when its end is known.
        sock = s.raw()
        sock.sendall(b"POST / HTTP/1.1\r\nHost: 80-sb-00000000.localhost\r\nContent-Length: 3\r\n\r\nabc" + s.head("GET", "/live"))
        assert b"alive" in receive(sock, until=b"alive")


def not_over_tcp():
    """A TCP port, which every local user and web page reaches, has no previews."""
    with fake(args=["--listen", "127.0.0.1:0"]) as s:
        p, sandbox = Program(), s.spawn()
        port = int(wait_for("the port", lambda: open(os.path.join(s.directory, "out"), encoding="ascii").read()
                            .strip().rpartition(":")[2]))
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as sock:
            assert ask(s, f"{p.port}-{sandbox}.localhost", sock=sock)[0] == 401
    with fake(key=False, args=["--listen", "127.0.0.1:0"]) as s:
        p, sandbox = Program(), s.spawn()
        port = int(wait_for("the port", lambda: open(os.path.join(s.directory, "out"), encoding="ascii").read()
                            .strip().rpartition(":")[2]))
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as sock:
            assert ask(s, f"{p.port}-{sandbox}.localhost", sock=sock)[0] == 403


def bounds():
    """64 connections to a sandbox and 512 in all, then 503; the API is served, and all is given back."""
    with fake() as s:
        # After its start: the server raises its own.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        p = Program()
        boxes = [s.spawn() for _ in range(9)]
        base = descriptors(s)
        pairs = []
        for sandbox in boxes[:8]:
            pairs += [p.meet(s, sandbox) for _ in range(64)]
            status, head, body = ask(s, f"{p.port}-{sandbox}.localhost")
            if sandbox != boxes[7]:
                assert status == 503 and b"Retry-After: 1" in head and b"to this sandbox" in body, body
        status, _, body = ask(s, f"{p.port}-{boxes[8]}.localhost")
        assert status == 503 and b'"message":"too many preview connections"' in body, body
        assert descriptors(s) <= base + 2 * 512 + 4
        assert s.get("/live").status == 200
        for client, program in pairs[::7]:
            client.sendall(b"x")
            assert receive(program, 1) == b"x"
        for client, program in pairs:
            client.close()
            program.close()
        wait_for("descriptors are given back", lambda: descriptors(s) <= base)
        client, program = p.meet(s, boxes[8])
        client.close()


def leaves_while_connecting():
    """A client that leaves before the program accepts leaves nothing behind."""
    with fake() as s:
        sandbox = s.spawn()
        base = descriptors(s)
        socks = [s.raw() for _ in range(64)]
        for sock in socks:
            sock.sendall(f"GET / HTTP/1.1\r\nHost: {NEVER}-{sandbox}.localhost\r\n\r\n".encode() + b"x" * 1000)
        wait_for("all are under way", lambda: ask(s, f"80-{sandbox}.localhost")[0] == 503)
        for sock in socks:
            sock.close()
        wait_for("all are let go", lambda: descriptors(s) <= base)
        assert ask(s, f"{NEVER}-sb-00000000.localhost")[0] == 404


if __name__ == "__main__":
    main([bytes_as_they_come, behind_another_answer, half_closes, both_ways_at_once, back_pressure, client_leaves,
          program_leaves, sandbox_ends, refusals, not_over_tcp, bounds, leaves_while_connecting])
