# SPDX-License-Identifier: Apache-2.0
"""Programs in real sandboxes, which have no network, reached by preview hosts over stacygate-local's socket."""
import base64
import hashlib
import json
import os
import random
import socket
import time

from local_lib import DEADLINE, Server, main, require_sandboxes, wait_for

server = None

# Serves what a test wants to see: /big is 8 MiB that can be told from others, /ws becomes a WebSocket that answers in
# upper case and ends with its client, /slow sends a byte at a time, anything else tells what came.
PROGRAM = r'''
import base64, hashlib, random, socket, struct, sys, threading
def receive(f, n):
    data = f.read(n)
    if len(data) < n: raise SystemExit
    return data
def websocket(sock, f, key):
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    sock.sendall(b"\x81\x05hello")
    while True:
        head = receive(f, 2)
        n = head[1] & 127
        if n == 126: n = struct.unpack(">H", receive(f, 2))[0]
        mask = receive(f, 4)
        data = bytes(b ^ mask[i % 4] for i, b in enumerate(receive(f, n))).upper()
        size = bytes([n]) if n < 126 else b"\x7e" + struct.pack(">H", n)
        sock.sendall(bytes([head[0]]) + size + data)
        if head[0] & 15 == 8: return
def serve(sock):
    f = sock.makefile("rb")
    while True:
        line = f.readline()
        if not line: break
        headers, lines = {}, [line]
        while lines[-1] not in (b"\r\n", b""):
            lines.append(f.readline())
            name, _, value = lines[-1].partition(b":")
            headers[name.strip().lower()] = value.strip()
        body = f.read(int(headers.get(b"content-length", 0)))
        path = line.split()[1]
        if path == b"/ws":
            websocket(sock, f, headers[b"sec-websocket-key"])
            break
        answer = random.Random(8).randbytes(8 << 20) if path == b"/big" else b"".join(lines) + body
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
    sock.close()
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family, backlog=100)
open("/tmp/ready-" + sys.argv[2], "w").close()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
'''


def serve(sandbox, port, address="127.0.0.1"):
    """Starts the program in the background and waits until it listens."""
    assert server.post(f"/sandboxes/{sandbox}/files", {"path": "/workspace/p.py", "content": PROGRAM}).status == 200
    server.run(sandbox, f"exec setsid python3 /workspace/p.py {address} {port} >/tmp/log-{port} 2>&1 &")
    wait_for("it listens", lambda: server.get(f"/sandboxes/{sandbox}/files?path=/tmp/ready-{port}").status == 200)


def connect(sandbox, port, path="/", extra="", body=b""):
    sock = server.raw()
    head = f"POST {path} HTTP/1.1\r\nHost: {port}-{sandbox}.localhost\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    sock.sendall(head.encode() + body)
    return sock, head.encode()


def read_answer(f):
    status = int(f.readline().split()[1])
    length = 0
    while (line := f.readline()) not in (b"\r\n", b""):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    body = f.read(length)
    assert len(body) == length, (len(body), length)
    return status, body


def no_network_but_loopback():
    """A sandbox has a loopback that is up, and nothing else."""
    sandbox = server.spawn()
    links = server.run(sandbox, "cat /proc/net/dev")["stdout"]
    assert [line.split(":")[0].strip() for line in links.splitlines()[2:]] == ["lo"], links
    up = ("import socket\nl = socket.create_server(('127.0.0.1', 0))\n"
          "socket.create_connection(l.getsockname(), 2)\nprint('up')\n")
    assert server.run(sandbox, "python3", args=["-c", up])["stdout"] == "up\n"
    assert server.get("/sandboxes/" + sandbox).json()["preview_domain"] == "localhost"
    assert [x["preview_domain"] for x in server.get("/sandboxes").json() if x["id"] == sandbox] == ["localhost"]
    server.delete("/sandboxes/" + sandbox)


def reached_as_it_was_asked():
    """Programs on 127.0.0.1, ::1 and all addresses are reached, several times on a connection, with what the client sent."""
    sandbox = server.spawn()
    for port, address in ((3000, "127.0.0.1"), (3001, "::1"), (3002, "0.0.0.0")):
        serve(sandbox, port, address)
        sock, head = connect(sandbox, port, "/a?b", "X-Odd:  v\r\nCookie: c=1\r\n", b"body")
        f = sock.makefile("rb")
        assert read_answer(f) == (200, head + b"body")
        sock.sendall(head + b"BODY")
        assert read_answer(f) == (200, head + b"BODY")
        sock.close()
    assert server.run(sandbox, "true")["exit_code"] == 0
    server.delete("/sandboxes/" + sandbox)


def nothing_listens():
    """A port without a program is 502, until one listens there; it is the sandbox's port, not the host's."""
    sandbox, other = server.spawn(), server.spawn()
    with socket.create_server(("127.0.0.1", 0)) as hosts:
        port = hosts.getsockname()[1]
        for name in (sandbox, other):
            status, body = read_answer(connect(name, port)[0].makefile("rb"))
            assert status == 502 and json.loads(body) == {
                "code": "PROVIDER_ERROR", "message": f"port {port} of sandbox {name}: nothing listens there"}, body
        serve(sandbox, port)
        assert read_answer(connect(sandbox, port)[0].makefile("rb"))[0] == 200
        assert read_answer(connect(other, port)[0].makefile("rb"))[0] == 502
    server.delete("/sandboxes/" + sandbox)
    server.delete("/sandboxes/" + other)


def big_download_slow_reader():
    """8 MiB reach a reader that takes them in small pieces, whole."""
    sandbox = server.spawn()
    serve(sandbox, 8080)
    sock, _ = connect(sandbox, 8080, "/big")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    data, pieces = bytearray(), 0
    while b"\r\n\r\n" not in data or len(data) - data.index(b"\r\n\r\n") - 4 < 8 << 20:
        piece = sock.recv(1000 + pieces % 3000)
        assert piece, len(data)
        data += piece
        pieces += 1
        if pieces % 100 == 0:
            assert server.get("/live").status == 200
    assert bytes(data).endswith(random.Random(8).randbytes(8 << 20)) and pieces > 1000
    server.delete("/sandboxes/" + sandbox)


def frame(data, opcode=1):
    mask = os.urandom(4)
    size = bytes([128 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return bytes([128 | opcode]) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data))


def websocket():
    """A WebSocket opens, speaks first, answers in turn and ends by its close."""
    sandbox = server.spawn()
    serve(sandbox, 9000)
    key = base64.b64encode(os.urandom(16))
    sock, _ = connect(sandbox, 9000, "/ws", f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                                            f"Sec-WebSocket-Key: {key.decode()}\r\n")
    f = sock.makefile("rb")
    assert f.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    assert b"Sec-WebSocket-Accept: " + accept + b"\r\n" in [f.readline() for _ in range(4)]
    assert f.read(7) == b"\x81\x05hello"
    for n in (1, 125, 126, 40000):
        text = b"ab" * (n // 2) + b"c" * (n % 2)
        sock.sendall(frame(text))
        head = f.read(2)
        size = int.from_bytes(f.read(2), "big") if head[1] == 126 else head[1]
        assert size == n and f.read(size) == text.upper(), n
    sock.sendall(frame(b"\x03\xe8", 8))
    assert f.read() == b"\x88\x02\x03\xe8"
    server.delete("/sandboxes/" + sandbox)


def many_connections():
    """Hundreds of connections in a row, and dozens at a time, leave no descriptor in server or init."""
    def counts():
        inits = [pid for pid in filter(str.isdigit, os.listdir("/proc"))
                 if sandbox.encode() in read_file(f"/proc/{pid}/cmdline").split(b"\0")[3:4]]
        try:
            return len(os.listdir(f"/proc/{server.process.pid}/fd")), sum(len(os.listdir(f"/proc/{p}/fd")) for p in inits)
        except PermissionError:
            return len(os.listdir(f"/proc/{server.process.pid}/fd")), 0

    sandbox = server.spawn()
    serve(sandbox, 8000)
    before = counts()
    for _ in range(300):
        sock, head = connect(sandbox, 8000)
        assert read_answer(sock.makefile("rb")) == (200, head)
        sock.close()
    socks = [connect(sandbox, 8000)[0] for _ in range(64)]
    for sock in socks:
        assert read_answer(sock.makefile("rb"))[0] == 200
    assert read_answer(connect(sandbox, 8000)[0].makefile("rb"))[0] == 503
    for sock in socks:
        sock.close()
    wait_for("all is given back", lambda: all(now <= then for now, then in zip(counts(), before)))
    server.delete("/sandboxes/" + sandbox)


def read_file(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def destroyed_under_a_connection():
    """The end of the sandbox ends its connections, and waits for nobody who does not read."""
    sandbox = server.spawn()
    serve(sandbox, 8000)
    idle, full = connect(sandbox, 8000)[0], connect(sandbox, 8000, "/big")[0]
    assert read_answer(idle.makefile("rb"))[0] == 200
    wait_for("some of it is there", lambda: full.recv(1))
    began = time.monotonic()
    assert server.delete("/sandboxes/" + sandbox).status == 200
    assert time.monotonic() - began < 5
    idle.settimeout(DEADLINE)
    assert idle.recv(1) == b""
    status, body = read_answer(connect(sandbox, 8000)[0].makefile("rb"))
    assert status == 404 and json.loads(body)["message"] == f"sandbox destroyed: {sandbox}", body


if __name__ == "__main__":
    require_sandboxes()
    server = Server()
    status = 1
    try:
        main([no_network_but_loopback, reached_as_it_was_asked, nothing_listens, big_download_slow_reader, websocket,
              many_connections, destroyed_under_a_connection])
    except SystemExit as end:
        status = end.code
    finally:
        server.stop(status=0 if status == 0 else None)
    raise SystemExit(status)
