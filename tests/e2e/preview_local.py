# SPDX-License-Identifier: Apache-2.0
"""A program that listens in a sandbox without a network is reached through the gateway: by curl, a WebSocket, the client's open port
and the loopback TCP listener, by its owner alone, and without anything that the gateway knows."""
import hashlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import owners_local  # noqa: E402
import sg  # noqa: E402

# Tells what it was asked, measures what it was sent, sends what is wanted, and echoes what follows a switch of protocols.
PROGRAM = """
const crypto = require('crypto');
const port = Number(process.argv[2]);
const server = require('http').createServer((q, s) => {
	const sum = crypto.createHash('sha256');
	q.on('data', d => sum.update(d)).on('end', () => {
		const size = Number(new URL(q.url, 'http://x').searchParams.get('size') || 0);
		if (size)
			s.end(Buffer.alloc(size, 'sixteen bytes... '));
		else
			s.setHeader('Set-Cookie', 'a=b').end(JSON.stringify({port, method: q.method, url: q.url, headers: q.rawHeaders, sum: sum.digest('hex')}));
	});
});
server.on('upgrade', (q, s, head) => {
	const accept = crypto.createHash('sha1').update(q.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
	s.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: ' + accept + '\\r\\n\\r\\n');
	s.write(head);
	s.pipe(s);
});
server.listen(port, '127.0.0.1', () => console.log('listening'));
"""
UPGRADE = ("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")

owners = None   # owners_local.Owners
web = 0         # the port of the TCP listener
sandboxes = {}  # owner: a sandbox in which the program listens on 3000 and 3001


def config(directory, port):
    text = owners_local.config(directory)
    text = text.replace("allow: [sandboxes, templates:read, templates:write, system, events, prune]", "allow: [sandboxes, system, preview]")
    text = text.replace("listen:\n", f'listen:\n  - {{ tcp: "127.0.0.1:{port}", name: web }}\n', 1)
    return text.replace("match: { listener: alice }", "match: { listener: [alice, web] }")


def host_of(name, port=3000):
    return f"{port}-{sandboxes[name]}.localhost"


def curl(*words, name="alice"):
    done = subprocess.run(["curl", "-sS", "--noproxy", "*", "--max-time", "60", *words] if name is None else
                          ["curl", "-sS", "--max-time", "60", "--unix-socket", owners_local.socket_of(owners.dir, name), *words],
                          capture_output=True, timeout=90)
    assert done.returncode == 0, (words, done)
    return done.stdout


def start_programs():
    for name in ("alice", "bob"):
        sandbox = sandboxes[name] = owners.make(name, image="node:20", ttl="10m")
        assert owners.ask(name, "POST", f"/sandboxes/{sandbox}/files", {"path": "/workspace/server.js", "content": PROGRAM}).status == 200
        for port in (3000, 3001):
            owners.run(name, sandbox, f"node /workspace/server.js {port} >/workspace/log{port} 2>&1 &")
            sg.wait_until(lambda: "listening" in owners.run(name, sandbox, f"cat /workspace/log{port}")["stdout"],  # noqa: B023
                          "the program listens", 60)
        assert owners.run(name, sandbox, "tail -n +3 /proc/net/dev | cut -d: -f1")["stdout"].split() == ["lo"], "it has a network"


def test_curl():
    """curl over the gateway's socket; what the program is shown is what curl said and nothing more."""
    url = sg.request(owners.socket, "GET", f"/gateway/v1/sandboxes/{sandboxes['alice']}/preview/3000", None, {"Accept": "text/plain"})
    url = url.body.decode()
    assert url == f"http://{host_of('alice')}\n", url
    said = json.loads(curl("-H", "X-API-Key: k", "-H", "Cookie: c=d", "-A", "me", url.strip() + "/a/%2e%2e//b?c", "-d", "hello", "--path-as-is"))
    headers = dict(zip(said["headers"][::2], said["headers"][1::2]))
    assert headers == {"Host": host_of("alice"), "User-Agent": "me", "Accept": "*/*", "Cookie": "c=d", "Content-Length": "5",
                       "Content-Type": "application/x-www-form-urlencoded", "Connection": "close"}, headers
    assert (said["method"], said["url"], said["port"]) == ("POST", "/a/%2e%2e//b?c", 3000), said
    assert said["sum"] == hashlib.sha256(b"hello").hexdigest()
    assert json.loads(curl(f"http://{host_of('alice', 3001)}/"))["port"] == 3001
    head = curl("-i", f"http://{host_of('alice')}/").decode().partition("\r\n\r\n")[0]
    assert "Set-Cookie: a=b" in head and "x-request-id" not in head.lower() and "stacygate" not in head.lower(), head


def test_bytes():
    """Large bodies both ways, with a length and in chunks."""
    data = random.Random(3).randbytes(3 << 20)
    path = os.path.join(owners.dir, "data")
    with open(path, "wb") as file:
        file.write(data)
    for words in (["-T", path], ["-T", path, "-H", "Transfer-Encoding: chunked"]):
        assert hashlib.sha256(data).hexdigest().encode() in curl(*words, f"http://{host_of('alice')}/")
    got = curl(f"http://{host_of('alice')}/?size=5000000")
    assert got == (b"sixteen bytes... " * 300000)[:5000000]


def test_strangers():
    """Another's program is not found, whatever one asks; and nobody's port is an error of the server's."""
    for words in ((), ("-X", "POST"), ("-X", "DELETE"), ("-H", f"Host: {host_of('alice').upper()}")):
        assert b"sandbox not found" in curl(*words, f"http://{host_of('alice')}/", name="bob")
    assert b'"port":3000' in curl(f"http://{host_of('bob')}/", name="bob")
    code = curl("-o", "/dev/null", "-w", "%{http_code}", f"http://{host_of('alice', 9)}/")
    assert code in (b"502", b"500"), code
    assert curl("-o", "/dev/null", "-w", "%{http_code}", f"http://{host_of('alice', 70000)}/") == b"400"
    assert curl("-o", "/dev/null", "-w", "%{http_code}", "-H", f"Host: {host_of('alice')}.evil.test", "http://x/") == b"421"


def test_websocket():
    """Bytes pass both ways after the handshake, until the client has said all."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(60)
    sock.connect(owners.socket)
    sock.sendall(f"GET /ws HTTP/1.1\r\nHost: {host_of('alice')}\r\n{UPGRADE}\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got:
        got += sock.recv(65536)
    assert got.startswith(b"HTTP/1.1 101 "), got
    rest = got.partition(b"\r\n\r\n")[2]
    data = random.Random(4).randbytes(1 << 20)
    threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)), daemon=True).start()
    while piece := sock.recv(65536):
        rest += piece
    assert rest == data, (len(rest), len(data))


def test_many_at_once():
    """Requests to two sandboxes and two ports at the same time are each answered by their own."""
    faults = []

    def ask(name, port):
        for i in range(10):
            said = json.loads(curl(f"http://{host_of(name, port)}/{name}/{port}/{i}", name=name))
            if (said["port"], said["url"]) != (port, f"/{name}/{port}/{i}") or said["headers"][1] != host_of(name, port):
                faults.append(said)
    threads = [threading.Thread(target=ask, args=(n, p)) for n in ("alice", "bob") for p in (3000, 3001)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    assert not faults and not any(t.is_alive() for t in threads), faults


def test_tcp():
    """A name below localhost leads any program, and a browser, to the TCP listener."""
    assert b'"port":3000' in curl(f"http://{host_of('alice')}:{web}/", name=None)
    assert b"FORBIDDEN" in curl("-H", "Origin: http://evil", f"http://{host_of('alice')}:{web}/", name=None)
    assert b"sandbox not found" in curl(f"http://{host_of('bob')}:{web}/", name=None)


def test_open_port():
    """The client's own port for a program."""
    done = owners.cli("preview", sandboxes["alice"], "3000")
    assert done.returncode == 0 and done.stdout == f"http://{host_of('alice')}\n", done
    serving = subprocess.Popen([sg.program("stacygate"), "preview", "--open-port", "0", sandboxes["alice"], "3000"], env=owners.env,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = serving.stdout.readline()
        port = int(re.search(r":(\d+)", line.partition("//")[2]).group(1))
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        c.request("GET", "/through")
        assert b'"url":"/through"' in c.getresponse().read()
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.communicate(timeout=60)


def test_ends_with_the_sandbox():
    """Destroyed, it is not found, and what was under way ends."""
    sandbox = sandboxes["bob"]
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(60)
    sock.connect(owners_local.socket_of(owners.dir, "bob"))
    sock.sendall(f"GET /ws HTTP/1.1\r\nHost: {host_of('bob')}\r\n{UPGRADE}\r\n".encode())
    assert sock.recv(65536).startswith(b"HTTP/1.1 101 ")
    assert owners.ask("bob", "DELETE", f"/sandboxes/{sandbox}").status == 200
    while sock.recv(65536):
        pass
    assert b"sandbox not found" in curl(f"http://{host_of('bob')}/", name="bob")


def stop_leaves_nothing():
    left = owners.stop()
    assert not left, left


if __name__ == "__main__":
    sg.need_user_namespaces()
    for needed in ("curl", "node"):
        if not shutil.which(needed):
            sg.skip(f"{needed} is not installed")
    directory = tempfile.mkdtemp(prefix="sg-e2e.", dir="/tmp")
    web, = sg.free_ports(1)
    owners = owners_local.Owners(directory)
    with open(os.path.join(directory, "stacygate.yaml"), "w", encoding="utf-8") as conf:
        conf.write(config(directory, web))
    try:
        owners.start()
        start_programs()
        status = sg.main(dict(globals()), stop_leaves_nothing)
    finally:
        owners.remove()
    sys.exit(status)
