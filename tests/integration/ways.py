# SPDX-License-Identifier: Apache-2.0
"""The ways to an upstream through the real gateway: addresses, proxies, the environment, and a churn of connections."""
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time

from tls_lib import KEY, Authority, Gateway, Proxy, Skip, Upstream, echo, main, server_context, wait_for

CERTIFICATES = tempfile.mkdtemp(prefix="sg-certs.")
OWN = Authority(CERTIFICATES, "own")
GOOD = OWN.issue("good", hosts=("DNS:localhost", "DNS:stacyvm.internal", "IP:127.0.0.1", "IP:::1"))
SETTINGS = f"tls: {{ ca_file: {OWN.certificate}"


def tls_server(answer=echo, **more):
    return Upstream(server_context(GOOD), answer, **more)


def need_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as why:
        raise Skip(f"no IPv6 loopback here: {why}") from why


def test_ipv6_address():
    """[::1], plain and with TLS, with a name for the certificate and without."""
    need_ipv6()
    plain, tls, named = Upstream(host="::1"), tls_server(host="::1"), tls_server(host="::1")
    with Gateway({"plain": [f"url: http://[::1]:{plain.port}"],
                  "tls": [f"url: https://[::1]:{tls.port}", SETTINGS + " }"],
                  "named": [f"url: https://[::1]:{named.port}", SETTINGS + ", server_name: stacyvm.internal }"]}) as g:
        for name, server in (("plain", plain), ("tls", tls), ("named", named)):
            assert g.get(name).json()["user"] == [name + "-user"]
            assert server.requests[0].all("host") == [f"[::1]:{server.port}"]
        assert named.names == ["stacyvm.internal"]


def test_several_addresses():
    """`localhost` is ::1 and 127.0.0.1, and only one of them listens: it is found, whichever it is."""
    need_ipv6()
    wrapper = ()
    if not {"::1", "127.0.0.1"} <= {info[4][0] for info in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)}:
        hosts = tempfile.mkdtemp(prefix="sg-hosts.", dir=CERTIFICATES) + "/hosts"
        with open(hosts, "w", encoding="ascii") as file:
            file.write("::1 localhost\n127.0.0.1 localhost\n")
        wrapper = ("unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts)
        if subprocess.run([*wrapper, "true"], stderr=subprocess.DEVNULL).returncode != 0:
            raise Skip("localhost has one address here, and /etc/hosts cannot be covered without root")
    for host in ("127.0.0.1", "::1"):
        plain, tls = Upstream(host=host), tls_server(host=host)
        with Gateway({"plain": [f"url: http://localhost:{plain.port}"],
                      "tls": [f"url: https://localhost:{tls.port}", SETTINGS + " }"]}, wrapper=wrapper) as g:
            for name, server in (("plain", plain), ("tls", tls)):
                begin = time.monotonic()
                g.get(name)
                assert time.monotonic() - begin < 3, f"{name} on {host} took its time"
                assert server.connections == 1


def through_a_proxy(kind):
    """The name is known to the proxy alone; http goes by CONNECT as https does, and of https it sees no byte of HTTP."""
    plain, tls = Upstream(), tls_server()
    proxy = Proxy(kind, hosts={"stacyvm.internal": "127.0.0.1"})
    body = random.Random(4).randbytes(3 << 20)
    with Gateway({"plain": [f"url: http://stacyvm.internal:{plain.port}", "allow_plaintext: true", f"proxy: {proxy.url}"],
                  "tls": [f"url: https://stacyvm.internal:{tls.port}", f"proxy: {proxy.url}", SETTINGS + " }"]}) as g:
        for name, server in (("plain", plain), ("tls", tls)):
            proxy.seen = b""
            for n in range(5):
                assert g.get(name, f"/api/v1/{n}").json() == {"user": [name + "-user"], "target": f"/api/v1/{n}", "bytes": 0}
            assert g.ask(name, "POST", "/api/v1/x", body).json()["bytes"] == len(body)
            assert server.requests[-1].body == body and server.requests[-1].all("x-api-key") == [KEY]
            assert server.requests[0].all("host") == [f"stacyvm.internal:{server.port}"]
            assert server.connections == 1
            assert (b"HTTP/1.1" in proxy.seen) == (name == "plain")
        assert proxy.connections() == 2, "a kept connection was dialled again"
    if kind == "http":
        assert proxy.targets == [("CONNECT", f"stacyvm.internal:{s.port}") for s in (plain, tls)], proxy.targets
        assert not any(KEY in head or "user" in head.lower().replace("user-agent", "") for head in proxy.heads), proxy.heads
    else:
        assert proxy.targets == [(3, "stacyvm.internal")] * 2, proxy.targets  # 3: the name itself went to the proxy


def test_http_proxy():
    through_a_proxy("http")


def test_socks_proxy():
    through_a_proxy("socks")


def test_proxies_that_refuse():
    """502 with the reason for what they refuse, 504 for what they leave open; the key is not shown to them."""
    def silent(connection):
        while connection.sock.recv(4096):
            pass
    server, stalled = tls_server(), Upstream(raw=silent)
    forbidden = Proxy(refuse=b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    asks = Proxy(refuse=b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\n"
                        b"Content-Length: 0\r\n\r\n")
    closes = Proxy(refuse=b"\r\n")  # as good as no answer
    unwilling = Proxy("socks", refuse=b"\x02")
    target = [f"url: https://127.0.0.1:{server.port}", SETTINGS + " }", "timeouts: { connect: 700ms }"]
    cases = {"forbidden": (forbidden.url, 502, "403"), "asks": (asks.url, 502, "407"), "closes": (closes.url, 502, ""),
             "unwilling": (unwilling.url, 502, ""), "stalled": (f"http://127.0.0.1:{stalled.port}", 504, "")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: refused
        cases["nobody"] = (f"http://127.0.0.1:{free.getsockname()[1]}", 502, "")
        with Gateway({name: [*target, f"proxy: {url}"] for name, (url, _, _) in cases.items()}) as g:
            for name, (_, status, word) in cases.items():
                answer = g.ask(name, "POST", "/api/v1/x", b"{}")
                assert answer.status == status, (name, answer, g.log())
                message = answer.json()["message"]
                assert len(message) > len(f"upstream {name}: ") and word in message, message
                assert not g.health(name)["healthy"]
    assert server.connections == 0, "the proxy was gone round"
    for proxy in (forbidden, asks):
        assert proxy.heads and not any(KEY in head for head in proxy.heads), proxy.heads


def test_no_way_round_a_proxy():
    """A proxy that is written is used for loopback too, and whatever no_proxy says."""
    server, proxy = Upstream(), Proxy()
    with Gateway({"up": [f"url: http://127.0.0.1:{server.port}", f"proxy: {proxy.url}"]},
                 env={"no_proxy": "*", "NO_PROXY": "*"}) as g:
        g.get("up")
        assert proxy.connections() == 1


def test_x6_environment():
    """Proxies, credentials and settings of the environment are not used."""
    plain, tls, proxy = Upstream(), tls_server(), Proxy()
    env = {name: proxy.url for way in ("http_proxy", "https_proxy", "all_proxy") for name in (way, way.upper())}
    home = tempfile.mkdtemp(prefix="sg-home.", dir=CERTIFICATES)
    with open(home + "/.netrc", "w", encoding="ascii") as file:
        file.write("machine 127.0.0.1 login them password theirs\ndefault login them password theirs\n")
    env.update(HOME=home, NETRC=home + "/.netrc", CURL_HOME=home)
    with Gateway({"plain": [f"url: http://127.0.0.1:{plain.port}"],
                  "tls": [f"url: https://127.0.0.1:{tls.port}", SETTINGS + " }"]}, env=env) as g:
        for name, server in (("plain", plain), ("tls", tls)):
            g.get(name)
            assert server.requests[0].all("authorization") == []
        assert proxy.connections() == 0, "the environment's proxy was used"


# --- churn ------------------------------------------------------------------------------------------------------------

def careless(chance, serial=random.Random(5)):
    """Answers everything, and ends connections in every way at random."""
    def answer(connection, request):
        echo(connection, request)
        ways = ("finish", "close", "reset")
        if serial.random() < chance:
            getattr(connection, serial.choice(ways))()
            return True
        return False
    return answer


def churn(g, names, each, users):
    """Everybody's requests from one thread per name; gives how many were not 200, and fails for one wrong answer."""
    wrong, refused = [], []

    def client(name, thread):
        connection = None
        for n in range(each):
            target = f"/api/v1/{name}/{thread}/{n}"
            connection = connection or g.connect(name)
            try:
                answer = connection.ask("GET", target)
            except Exception as fault:
                wrong.append((target, repr(fault)))
                return
            if dict(answer.headers).get("Connection") == "close" or n % 50 == 49:
                connection.close()
                connection = None
            if answer.status != 200:
                refused.append(answer)
            elif answer.json() != {"user": [users[name]], "target": target, "bytes": 0}:
                wrong.append((target, answer))
        if connection:
            connection.close()
    threads = [threading.Thread(target=client, args=(name, n)) for name in names for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong, wrong[:3]
    return refused


def two_users(server, tls, **more):
    url = [f"url: https://127.0.0.1:{server.port}", SETTINGS + " }"] if tls else [f"url: http://127.0.0.1:{server.port}"]
    return Gateway({"alice": url}, users={"bob": ("alice", "bob-user")}, **more)


USERS = {"alice": "alice-user", "bob": "bob-user"}


def test_c14_churn_plain():
    """2,000 requests of two users while the server ends connections at random: every answer is the asker's own."""
    server = Upstream(answer=careless(0.3))
    with two_users(server, False) as g:
        refused = churn(g, USERS, 250, USERS)
        assert not refused, refused[:3]
        assert len(server.requests) >= 2000 and server.connections > 300, server.connections


def test_c14_churn_tls():
    server = tls_server(careless(0.3))
    with two_users(server, True) as g:
        refused = churn(g, USERS, 100, USERS)
        assert not refused, refused[:3]
        assert len(server.requests) >= 800 and server.connections > 100, server.connections


def test_closed_at_once():
    """A fifth of the connections end the moment they are made: 502 at worst, and never another's answer."""
    chance = random.Random(6)
    server = Upstream()

    def serve(connection):
        if chance.random() < 0.2:
            connection.reset() if chance.random() < 0.5 else connection.close()
            return
        while (request := connection.request()) is not None:
            server.requests.append(request)
            if careless(0.3)(connection, request):
                return
    server.raw = serve
    with two_users(server, False) as g:
        refused = churn(g, USERS, 100, USERS)
        assert all(answer.status == 502 for answer in refused), refused[:3]
        assert len(refused) < 400, f"{len(refused)} of 800 failed"
        wait_for("it is well again", lambda: g.ask("alice").status == 200)


def test_old_connections_stay():
    """libcurl thinks leased and idle connections too old (here after a second) and must close none of them."""
    begin = time.monotonic()

    def answer(connection, request):
        if "/stream" not in request.target:
            return careless(0.2)(connection, request)
        user, = request.all("x-user-id")
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
        while time.monotonic() - begin < 3:
            line = user.encode() + b"\n"
            connection.send(b"%x\r\n%s\r\n" % (len(line), line))
            time.sleep(0.02)  # the pace of a stream, not a wait for something
        connection.send(b"0\r\n\r\n")
        return False
    for tls in (False, True):
        begin = time.monotonic()
        server = tls_server(answer) if tls else Upstream(answer=answer)
        with two_users(server, tls, program="stacygated-maxage") as g:
            answers = {}

            def listen(name, n):
                answers[name, n] = g.ask(name, target=f"/api/v1/stream/{n}")
            listeners = [threading.Thread(target=listen, args=(name, n)) for name in USERS for n in range(3)]
            for t in listeners:
                t.start()
            asked = 0
            while time.monotonic() - begin < 2.8:
                refused = churn(g, USERS, 10, USERS)
                assert not refused, refused[:3]
                asked += 80
            for t in listeners:
                t.join()
            for (name, _), got in answers.items():
                assert got.status == 200 and got.whole, (tls, got)
                lines = got.body.decode().splitlines()
                assert len(lines) > 20 and set(lines) == {USERS[name]}, (tls, set(lines))
            assert asked >= 160 and len(answers) == 6
            assert server.connections > 30, server.connections


if __name__ == "__main__":
    try:
        main([test_ipv6_address, test_several_addresses, test_http_proxy, test_socks_proxy,
              test_proxies_that_refuse, test_no_way_round_a_proxy, test_x6_environment, test_c14_churn_plain,
              test_c14_churn_tls, test_closed_at_once, test_old_connections_stay])
    finally:
        shutil.rmtree(CERTIFICATES, ignore_errors=True)
