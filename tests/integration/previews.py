# SPDX-License-Identifier: Apache-2.0
"""Preview traffic through the real gateway: who may ask for which port of which sandbox, where it goes, and what goes with it."""
import hashlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import threading

from owners_lib import NEVER, UPGRADE, Later, expect_error, expect_not_found, headers_of, raw, read_all, run, subscribed
from preview_lib import SECRETS, Front, Gateway, accept_of, echo_socket
from tls_lib import DEADLINE, KEY, Authority, Proxy, Skip, Upstream, server_context, wait_for
from vm_lib import API, Server, status

OPEN = {"alice": ["isolation: none"]}


def started(rules=None, answer=None, **more):
    server, front = Server(), Front(answer)
    return server, front, Gateway(server, rules, front=front.url, **more)


def host_of(sandbox, port=3000, domain="localhost"):
    return f"{port}-{sandbox}.{domain}"


def test_x11_nothing_of_ours():
    """No key, no user id, no request id of ours; the program's own credentials and cookies pass, both ways."""
    def program(connection, request):
        connection.answer(b"hello", "Set-Cookie: s=1\r\nAccess-Control-Allow-Origin: *\r\nX-Request-ID: own\r\nServer: mine\r\n"
                          "Connection: X-Hop\r\nX-Hop: 1\r\nStacygate-Error: FORGED\r\n")
    server, front, gateway = started(answer=program)
    mine = server.add("alice")
    with gateway as g:
        sent = {**SECRETS, "Authorization": "Bearer b", "Cookie": "c=d", "Origin": "http://x", "X-Forwarded-For": "1.2.3.4",
                "Connection": "X-Mine, keep-alive", "X-Mine": "1", "Accept-Encoding": "br", "TE": "trailers"}
        answer = g.preview("alice", host_of(mine) + ":8080", headers=sent)
        assert answer.status == 200 and answer.body == b"hello", (answer, g.log())
        request, = front.requests
        front.clean()
        assert dict(request.headers) == {
            "host": host_of(mine) + ":8080", "connection": "close", "authorization": "Bearer b", "cookie": "c=d", "origin": "http://x",
            "x-forwarded-for": "1.2.3.4", "accept-encoding": "br"}, request.headers
        assert sorted(k.lower() for k, _ in answer.headers) == [
            "access-control-allow-origin", "content-length", "server", "set-cookie", "x-request-id"], answer.headers
        assert headers_of(answer, "x-request-id") == ["own"]
        g.preview("alice", host_of(mine), headers={"X-Request-ID": "theirs"})
        assert front.requests[-1].all("x-request-id") == ["theirs"]


def test_x12_no_other_hosts():
    """The domain is the record's or localhost, the port one that a sandbox could have, the sandbox one's own: else nothing is connected."""
    server, front, gateway = started()
    evil = Upstream()
    mine, others = server.add("alice", preview_domain="preview.example"), server.add("bob")
    with gateway as g:
        for domain in ("evil.test", f"127.0.0.1:{evil.port}", "preview.example.evil.test", "preview.example.", "localhost.evil.test",
                       "xpreview.example", "", "[::1]", "localhost:0", "localhost:99999", "preview.example:x"):
            expect_error(g.preview("alice", host_of(mine, 80, domain)), 421, "BAD_REQUEST")
        for port in ("0", "65536", "99999999999999999999", "080", "00080"):
            expect_error(g.preview("alice", host_of(mine, port)), 400, "BAD_REQUEST", "port")
        for sandbox in (others, NEVER, mine + "0"):
            for domain in ("localhost", "preview.example", "evil.test"):
                expect_not_found(g.preview("alice", host_of(sandbox, 80, domain)), sandbox)
        expect_error(g.preview("alice", "80-sb-" + "a" * 200 + ".localhost"), 404, "NOT_FOUND")
        # Absolute targets are for the Host they name.
        expect_error(g.preview("alice", host_of(mine), target=f"http://127.0.0.1:{evil.port}/"), 421, "BAD_REQUEST")
        expect_error(g.ask("alice", "GET", f"http://{host_of(mine)}/", headers={"Host": "localhost"}), 421, "BAD_REQUEST")
        assert front.connections == evil.connections == 0
        assert not server.since(method="POST") and not server.since(method="DELETE")
        for domain in ("localhost", "preview.example", "Preview.Example:7423", "LOCALHOST"):
            assert g.preview("alice", host_of(mine.upper(), 80, domain)).status == 200, g.log()
        assert [r.all("host")[0] for r in front.requests] == [
            f"80-{mine}.preview.example" + end for end in ("", "", ":7423", "")], [r.headers for r in front.requests]


def test_c10_anothers():
    """Of another's sandbox nothing is seen, whatever the method, and what a stranger sends reaches nobody."""
    server, front, gateway = started()
    mine = server.add("alice")
    with gateway as g:
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
            body = b"x" * 1000 if method in ("POST", "PUT") else None
            expect_not_found(g.preview("bob", host_of(mine), method, body=body), mine, method == "HEAD")
        expect_not_found(g.preview("bob", host_of(mine), headers=UPGRADE), mine)
        assert front.connections == 0
        assert g.preview("alice", host_of(mine)).status == 200
        expect_not_found(g.preview("bob", host_of(mine)), mine)
        # Destroyed, it is nobody's.
        assert g.api("alice", "DELETE", f"/sandboxes/{mine}").status == 200
        expect_not_found(g.preview("alice", host_of(mine)), mine)
        assert front.connections == 1


def test_without_isolation():
    """Where owners are not kept apart every sandbox that there is may be asked for."""
    server, front, gateway = started(OPEN)
    others = server.add("bob", preview_domain="preview.example")
    with gateway as g:
        assert g.preview("alice", host_of(others)).status == 200
        expect_error(g.preview("alice", host_of(others, 80, "evil.test")), 421, "BAD_REQUEST")
        expect_not_found(g.preview("alice", host_of(NEVER)), NEVER)
        assert front.requests[0].all("host") == [host_of(others, 3000, "preview.example")]
        assert front.connections == 1


def test_rules_and_limits():
    """The class preview is allowed or not, and a preview counts as a request of its owner."""
    server, front, gateway = started({"alice": ["allow: [sandboxes]"], "bob": ["limits: { concurrent_requests: 1 }"],
                                      "carol": ['deny: ["GET /api/v1/**"]']})
    his, hers = server.add("bob"), server.add("carol")
    with gateway as g:
        expect_error(g.preview("alice", host_of(his)), 403, "FORBIDDEN", "class preview", '"alice"')
        expect_error(g.url_of("alice", his, 80), 403, "FORBIDDEN", "class preview")
        gate = threading.Event()
        front.program = lambda c, r: gate.wait(DEADLINE) and front.say(c, r)
        sock = raw(g, "bob", f"GET / HTTP/1.1\r\nHost: {host_of(his)}\r\nConnection: close\r\n\r\n".encode())
        wait_for("it is under way", lambda: front.requests)
        expect_error(g.preview("bob", host_of(his)), 429, "RESOURCE_LIMIT", "concurrent_requests")
        gate.set()
        assert b" 200 OK\r\n" in read_all(sock)
        # A pattern speaks of the API's paths, not of the sandbox's own.
        assert g.preview("carol", host_of(hers), target="/api/v1/x").status == 200


def test_own_paths_and_methods():
    """Paths pass however they are spelt, and OPTIONS and preflights are the program's."""
    server, front, gateway = started()
    mine = server.add("alice")
    paths = ["/a/../b//c", "/%2e%2e/%2F;x=1?q=%00&x-user-id=root", "/gateway/v1/health", API + "/sandboxes", "//evil.test/", "/a\\b", "/?"]
    with gateway as g:
        for path in paths:
            answer = g.preview("alice", host_of(mine), target=path)
            assert answer.status == 200, (path, answer)
        assert [r.target for r in front.requests] == paths
        absolute = g.preview("alice", host_of(mine), target=f"http://{host_of(mine)}/x/../y")
        assert absolute.status == 200 and front.requests[-1].target == "/x/../y"
        for method in ("HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            preflight = {"Origin": "http://a", "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x"}
            answer = g.preview("alice", host_of(mine), method, headers=preflight)
            assert answer.status == 200 and not headers_of(answer, "allow", "access-control-allow-origin"), answer.headers
            assert front.requests[-1].method == method
            assert front.requests[-1].all("access-control-request-method") == ["PUT"]
        assert g.preview("alice", host_of(mine), "OPTIONS", "*").status == 200 and front.requests[-1].target == "*"
        expect_error(g.preview("alice", host_of(mine), target="x"), 400, "BAD_REQUEST")
        assert not server.since(path=API + "/sandboxes") and not server.since(path="/gateway.*")


def test_bodies():
    """Large ones pass both ways, with a length and in chunks; the first waits until it is known whose the sandbox is."""
    data = random.Random(6).randbytes(5 << 20)
    digest = hashlib.sha256(data).hexdigest()

    def program(connection, request):
        if request.method == "GET":
            connection.send(b"HTTP/1.1 200 OK\r\n" + (b"Connection: close\r\n\r\n" if "close" in request.target else
                                                      b"Content-Length: %d\r\n\r\n" % len(data)) + data)
            connection.close()
            return True
        connection.answer(hashlib.sha256(request.body).hexdigest().encode())
        return False
    server, front, gateway = started(answer=program)
    with gateway as g:
        pieces = (data[i:i + 70001] for i in range(0, len(data), 70001))
        for body, framing in ((data, "content-length"), (pieces, "transfer-encoding")):
            mine = server.add("alice")
            before = front.connections
            with server.hold("GET", f"/sandboxes/{mine}") as hold:
                later = Later(lambda: g.preview("alice", host_of(mine), "POST", "/up", body))  # noqa: B023
                hold.wait()
                assert front.connections == before, "it was connected before it was known whose it is"
                hold.release()
                answer = later.get()
            assert answer.body.decode() == digest, (answer, g.log()[-3000:])
            assert framing in dict(front.requests[-1].headers)
        for target in ("/length", "/close"):
            answer = g.preview("alice", host_of(mine), target=target)
            assert answer.whole and hashlib.sha256(answer.body).hexdigest() == digest
        assert all(r.all("connection") == ["close"] for r in front.requests)


def test_websocket():
    """The handshake and every byte behind it pass both ways."""
    server, front, gateway = started(answer=echo_socket)
    mine = server.add("alice")
    data = random.Random(7).randbytes(300000)
    with gateway as g:
        head = f"GET /socket HTTP/1.1\r\nHost: {host_of(mine)}\r\nOrigin: http://{host_of(mine)}\r\nX-API-Key: no\r\n" + "".join(
            f"{k}: {v}\r\n" for k, v in UPGRADE.items()) + "Sec-WebSocket-Protocol: chat\r\n\r\n"
        sock = raw(g, "alice", head.encode())
        got = b""
        while b"\r\n\r\n" not in got:
            got += sock.recv(65536)
        answer, _, rest = got.partition(b"\r\n\r\n")
        lines = answer.decode().split("\r\n")
        assert lines[0] == "HTTP/1.1 101 Switching Protocols", lines
        assert {"Connection: Upgrade", "Upgrade: websocket", "Set-Cookie: a=b",
                "Sec-WebSocket-Accept: " + accept_of(UPGRADE["Sec-WebSocket-Key"])} == set(lines[1:]), lines
        threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)), daemon=True).start()
        assert rest + read_all(sock) == data
        request, = front.requests
        front.clean()
        fields = dict(request.headers)
        assert fields["upgrade"] == "websocket" and fields["connection"] == "Upgrade" and fields["sec-websocket-protocol"] == "chat"
        assert fields["sec-websocket-key"] == UPGRADE["Sec-WebSocket-Key"] and fields["origin"] == f"http://{host_of(mine)}"


def test_c15_no_shared_connections():
    """A client that keeps its connection and goes from one sandbox to another: each request has a connection of its own, and what a
    program sends too much is nobody's answer."""
    def program(connection, request):
        front.say(connection, request)
        try:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        except OSError:
            pass
    server, front, gateway = started()
    front.program = program
    sandboxes = [server.add("alice") for _ in range(2)]
    with gateway as g:
        connection = g.connect("alice")
        for i in range(40):
            sandbox = sandboxes[i % 2]
            answer = connection.ask("GET", f"/{i}", headers={"Host": host_of(sandbox)})
            assert answer.body.decode().startswith(f"{host_of(sandbox)} 1 GET /{i} "), answer
        connection.close()
        assert front.connections == 40
        # And the API on the same connection as a preview.
        connection = g.connect("alice")
        assert connection.ask("GET", "/", headers={"Host": host_of(sandboxes[0])}).status == 200
        assert connection.ask("GET", API + f"/sandboxes/{sandboxes[0]}").json()["id"] == sandboxes[0]
        connection.close()


def test_trouble():
    """The front is down, breaks off, is silent, says nonsense: errors of the gateway's own shape, and the next request is served."""
    server, front, gateway = started(upstream=("timeouts: { response: 700ms }",))
    mine = server.add("alice")
    acts = {"closes": (lambda c, r: c.close() or True, 502), "nonsense": (lambda c, r: c.send(b"nonsense\r\n\r\n") or c.close() or True, 502),
            "silent": (lambda c, r: c.sock.recv(1) and False, 504)}
    with gateway as g:
        for name, (act, code) in acts.items():
            front.program = act
            expect_error(g.preview("alice", host_of(mine)), code, "CONNECTION_ERROR" if code == 502 else "UPSTREAM_TIMEOUT", "main preview")
            front.program = front.say
            assert g.preview("alice", host_of(mine)).status == 200, name
        expect_error(g.preview("alice", host_of(mine), headers={"Stacygate-Timeout": "soon"}), 400, "BAD_REQUEST", "Stacygate-Timeout")
        front.program = acts["silent"][0]
        expect_error(g.preview("alice", host_of(mine), headers={"Stacygate-Timeout": "50ms"}), 504, "UPSTREAM_TIMEOUT", "Stacygate-Timeout")
        front.close()
        for _ in range(8):
            expect_error(g.preview("alice", host_of(mine)), 502, "CONNECTION_ERROR", "main preview")


def test_server_away():
    """While the server does not answer, previews of what is known go on; of the unknown it is said that it cannot be known."""
    server, front, gateway = started()
    mine, unknown = server.add("alice"), server.add("alice")
    with gateway as g:
        subscribed(server, g, "alice")
        assert g.preview("alice", host_of(mine)).status == 200
        with server.fault("*", ".*", status(503)):
            assert g.preview("alice", host_of(mine)).status == 200
            expect_error(g.preview("alice", host_of(unknown)), 503, "UNAVAILABLE", "main")
        assert g.preview("alice", host_of(unknown)).status == 200


def test_by_the_servers_socket():
    """Without preview.url the previews of a server on a Unix socket are asked for there; nothing of the API's key is sent."""
    server = Server()
    directory = tempfile.mkdtemp(prefix="sg-preview.")
    path = os.path.join(directory, "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    behind = Front()
    seen = []

    def serve(sock):
        """Bytes of a connection to the API or, by its first Host, to the front."""
        data = sock.recv(65536)
        host = next(line for line in data.decode("latin-1").split("\r\n") if line.lower().startswith("host: "))
        seen.append(data)
        out = socket.create_connection(("127.0.0.1", behind.port if "-sb-" in host else server.port))
        out.sendall(data)
        threading.Thread(target=lambda: pump(out, sock), daemon=True).start()
        pump(sock, out)

    def pump(a, b):
        try:
            while piece := a.recv(65536):
                b.sendall(piece)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def accept():
        try:
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
        except OSError:
            pass
    threading.Thread(target=accept, daemon=True).start()
    mine = server.add("alice")
    with Gateway(server, url=f"unix://{path}") as g:
        answer = g.preview("alice", host_of(mine), headers=SECRETS)
        assert answer.status == 200 and answer.body.startswith(f"{host_of(mine)} 1 GET / ".encode()), (answer, g.log())
        behind.clean()
        previews = [data for data in seen if b"-sb-" in data.split(b"\r\n\r\n")[0].split(b"\r\n", 1)[1]]
        assert len(previews) == 1 and KEY.encode() not in previews[0]
    shutil.rmtree(directory)


def covered_hosts(lines):
    """Runs what follows with these lines as /etc/hosts."""
    path = os.path.join(tempfile.mkdtemp(prefix="sg-hosts."), "hosts")
    with open(path, "w", encoding="ascii") as file:
        file.write("127.0.0.1 localhost\n" + "".join(line + "\n" for line in lines))
    wrapper = ("unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', path)
    if subprocess.run([*wrapper, "true"], stderr=subprocess.DEVNULL).returncode != 0:
        raise Skip("/etc/hosts cannot be covered without root")
    return wrapper


def test_x12_names_that_point_here():
    """By DNS: where the server is another machine, a name that resolves to this one is 502, naming preview.url, and not connected;
    where the server is this machine it is dialled."""
    server, front = Server(), Front()
    near = {"lo.test": "127.0.0.1", "lo2.test": "127.3.2.1", "lo6.test": "::1", "mapped.test": "::ffff:127.0.0.1",
            "zero.test": "0.0.0.0", "zero6.test": "::", "link.test": "169.254.1.2", "link6.test": "fe80::1"}
    mine = {domain: server.add("alice", preview_domain=f"{domain}:{front.port}") for domain in [*near, "localhost"]}
    wrapper = covered_hosts([f"{address} 3000-{mine[domain]}.{domain}" for domain, address in near.items()] +
                            ["127.0.0.1 far.server"])
    with Gateway(server, url=f"http://far.server:{server.port}", upstream=("allow_plaintext: true",), wrapper=wrapper) as g:
        for domain, sandbox in mine.items():
            for _ in range(6):
                expect_error(g.preview("alice", host_of(sandbox, 3000, domain)), 502, "CONNECTION_ERROR", "preview.url")
        assert front.connections == 0
        nobody = server.add("alice", preview_domain="nobody.test")
        assert "preview.url" not in expect_error(g.preview("alice", host_of(nobody)), 502, "CONNECTION_ERROR", "main preview")
    with Gateway(server, wrapper=wrapper) as g:
        for domain in ("lo.test", "localhost"):
            answer = g.preview("alice", host_of(mine[domain], 3000, domain))
            assert answer.status == 200 and answer.body.startswith(f"{host_of(mine[domain], 3000, domain)} 1 ".encode()), (domain, answer)


def test_bounds():
    """An identity's tunnels do not take the connections of others, nor those to the API; a body has the usual bound; who leaves ends his
    request in the sandbox."""
    ended = threading.Event()

    def program(connection, request):
        if "hold" in request.target:
            while connection.sock.recv(4096):
                pass
            ended.set()
            connection.close()
            return True
        return front.say(connection, request)
    server, front, gateway = started(extra="bounds: { body: 1024 }\n", upstream=(
        "pool: { max_connections: 2, max_per_identity: 1, max_waiting: 4, wait_timeout: 300ms }",))
    front.program = program
    mine, his = server.add("alice"), server.add("bob")
    with gateway as g:
        sock = raw(g, "alice", f"GET /hold HTTP/1.1\r\nHost: {host_of(mine)}\r\n\r\n".encode())
        wait_for("it is under way", lambda: front.requests)
        expect_error(g.preview("alice", host_of(mine)), 503, "UNAVAILABLE", "main preview", "pool")
        assert g.preview("bob", host_of(his)).status == 200
        assert g.api("alice", "GET", f"/sandboxes/{mine}").status == 200
        sock.close()
        assert ended.wait(DEADLINE), "the program was not told that its client left"
        assert g.preview("alice", host_of(mine)).status == 200
        expect_error(g.preview("alice", host_of(mine), "POST", "/", b"x" * 1025), 413, "TOO_LARGE")
        assert g.preview("alice", host_of(mine), "POST", "/", b"x" * 1024).status == 200


def test_behind_a_proxy():
    """A server that is reached through a proxy has its previews there too; preview.url is always dialled directly."""
    server, front = Server(), Front()
    mine = server.add("alice", preview_domain=f"preview.test:{front.port}")
    name = host_of(mine, 3000, "preview.test")
    proxy = Proxy(hosts={"far.server": "127.0.0.1", name: "127.0.0.1"})
    way = {"url": f"http://far.server:{server.port}", "upstream": ("allow_plaintext: true", f"proxy: {proxy.url}")}
    with Gateway(server, **way) as g:
        answer = g.preview("alice", name)
        assert answer.status == 200 and answer.body.startswith(name.encode()), (answer, g.log()[-3000:])
        assert ("CONNECT", f"{name}:{front.port}") in proxy.targets, proxy.targets
        front.clean()
    seen = len(proxy.targets)
    with Gateway(server, front=front.url, **way) as g:
        assert g.preview("alice", name).status == 200
        assert all("preview" not in target for _, target in proxy.targets[seen:]), proxy.targets


def test_front_with_tls():
    """An https:// front is asked only when its certificate is good: one of nobody's gets no byte of HTTP, and the client hears why."""
    directory = tempfile.mkdtemp(prefix="sg-certs.")
    own = Authority(directory, "own")
    context = server_context(own.issue("good"))
    server, front = Server(), Front(context=context)
    mine = server.add("alice")
    url = f"https://localhost:{front.port}"
    with Gateway(server, front=url) as g:
        expect_error(g.preview("alice", host_of(mine)), 502, "CONNECTION_ERROR", "main preview", "certificate")
        assert not front.requests and front.plain == 0
    # Its authority among the system's.
    bundle = next((f for f in ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt") if os.path.exists(f)), None)
    wrapper = ("unshare", "-m", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', own.certificate, bundle or "")
    if not bundle or subprocess.run([*wrapper, "true"], stderr=subprocess.DEVNULL).returncode != 0:
        raise Skip("the system's authorities cannot be covered here")
    with Gateway(server, front=url, wrapper=wrapper) as g:
        for _ in range(3):
            assert g.preview("alice", host_of(mine), "POST", "/x", b"y" * 100000).status == 200, g.log()[-3000:]
        assert front.handshakes == len(front.requests) == 3
        front.clean()


def test_reload_ends_tunnels():
    """A WebSocket to a preview goes on over a reload that still allows it, and ends with one that does not."""
    server, front, gateway = started(answer=echo_socket)
    mine = server.add("alice")
    with gateway as g:
        head = f"GET / HTTP/1.1\r\nHost: {host_of(mine)}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in UPGRADE.items()) + "\r\n"
        sock = raw(g, "alice", head.encode())
        got = b""
        while b"\r\n\r\n" not in got:
            got += sock.recv(65536)
        g.reload()
        sock.sendall(b"still here")
        assert sock.recv(100) == b"still here"
        g.rules["alice"] = ["allow: [sandboxes]"]
        g.configure()
        g.reload()
        assert read_all(sock) == b""


if __name__ == "__main__":
    run(globals())
