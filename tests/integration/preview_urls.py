# SPDX-License-Identifier: Apache-2.0
"""The URL of a preview, as JSON and as text, from memory and from the server; and previews in a browser, on the loopback TCP listener."""
import os
import threading

from owners_lib import NEVER, UPGRADE, expect_error, expect_not_found, headers_of, parallel, run, subscribed
from preview_lib import Front, Gateway
from tls_lib import wait_for
from vm_lib import API, Server, status

PLAIN = {"Accept": "text/plain"}
NO_CACHE = {"Cache-Control": "no-cache"}


def looks(server, sandbox, mark=0):
    return len(server.since(mark, "GET", f"{API}/sandboxes/{sandbox}"))


def cache_status(answer):
    assert answer.status == 200, answer
    return ", ".join(headers_of(answer, "cache-status"))


def expect_hit(answer, detail=""):
    """From memory, with an age that fits what is left of its time."""
    begin, _, ttl = cache_status(answer).partition("; ttl=")
    ttl, _, rest = ttl.partition("; ")
    age, = headers_of(answer, "age")
    assert begin == "stacygate; hit" and rest == detail and int(ttl) + int(age) == 300 and 0 <= int(age) < 60, answer.headers


def test_forms():
    """JSON, or the bare URL and a newline; the port in the path is the one in the URL, and nothing is added."""
    server = Server()
    mine, named = server.add("alice"), server.add("alice", preview_domain="preview.example")
    without = server.add("alice", preview_domain="")
    with Gateway(server) as g:
        answer = g.url_of("alice", mine, 3000)
        assert answer.status == 200 and answer.body == f'{{"url":"http://3000-{mine}.localhost"}}\n'.encode(), answer
        assert headers_of(answer, "content-type") == ["application/json"]
        assert g.url_of("alice", named, 65535).json() == {"url": f"http://65535-{named}.preview.example"}
        assert g.url_of("alice", without, 1).json() == {"url": f"http://1-{without}.localhost"}
        for accept in ("text/plain", "text/plain; charset=utf-8, */*", "text/html, text/*;q=0.5"):
            answer = g.url_of("alice", mine, 80, {"Accept": accept})
            assert answer.body == f"http://80-{mine}.localhost\n".encode(), (accept, answer)
            assert headers_of(answer, "content-type") == ["text/plain; charset=utf-8"]
        for accept in ("*/*", "application/json, text/plain, */*", "image/png", "text/plain;q=0", ""):
            assert g.url_of("alice", mine, 80, {"Accept": accept}).json()["url"], accept
        head = g.ask("alice", "HEAD", f"/gateway/v1/sandboxes/{mine}/preview/80")
        assert head.status == 200 and head.body == b""


def test_https_front():
    """Where the front speaks TLS, so does the URL."""
    server = Server()
    mine = server.add("alice")
    with Gateway(server, front="https://front.example:8443") as g:
        assert g.url_of("alice", mine, 3000, PLAIN).body == f"https://3000-{mine}.localhost\n".encode()


def test_bad_ports_and_strangers():
    """A port that no program can have is 400; another's sandbox is not found, as one that never was."""
    server = Server()
    mine, others = server.add("alice"), server.add("bob")
    with Gateway(server) as g:
        for port in ("0", "65536", "x", "080", "-1", "+80", "80.0", "%38%30", "99999999999999999999"):
            answer = g.url_of("alice", mine, port)
            expect_error(answer, 400, "BAD_REQUEST")
        for sandbox in (others, NEVER):
            expect_not_found(g.url_of("alice", sandbox, 80), sandbox)
            expect_not_found(g.url_of("alice", sandbox, 0), sandbox)
        assert g.url_of("bob", others, 80).status == 200
    with Gateway(server, {"alice": ["isolation: none"]}) as g:
        assert g.url_of("alice", others, 80).status == 200
        expect_not_found(g.url_of("alice", NEVER, 80), NEVER)


def test_from_memory():
    """Asked for once, at most: a spawn's answer teaches it, so does any look, and the preview traffic uses it as well."""
    server, front = Server(), Front()
    for rule in ([], ["isolation: none"]):
        with Gateway(server, {"alice": rule}, front=front.url) as g:
            if rule:
                g.url_of("alice", server.add("alice"), 3000)
                wait_for("the subscription stands", lambda: "connect -> open" in g.log())  # noqa: B023
            else:
                subscribed(server, g, "alice")
            mine = server.add("alice")
            mark = server.mark()
            first = g.url_of("alice", mine, 3000)
            assert cache_status(first) == "stacygate; fwd=miss; stored" and not headers_of(first, "age"), first.headers
            for port in (3000, 3001):
                expect_hit(g.url_of("alice", mine, port))
            assert g.preview("alice", f"3000-{mine}.localhost").status == 200
            assert looks(server, mine, mark) == 1
            spawned = g.spawn("alice")
            expect_hit(g.url_of("alice", spawned, 80))
            assert g.preview("alice", f"80-{spawned}.localhost").status == 200
            assert looks(server, spawned, mark) == 0
            # Those who ask at the same time share the look.
            many = server.add("alice")
            with server.hold("GET", f"/sandboxes/{many}") as hold:
                timer = threading.Thread(target=lambda: (hold.wait(), hold.release()), daemon=True)
                timer.start()
                answers = parallel([lambda: g.url_of("alice", many, 80)] * 8)  # noqa: B023
            assert all(a.status == 200 for a in answers) and looks(server, many, mark) <= 8


def test_no_cache():
    """The client may want the server to be asked; then only the server's answer will do."""
    server = Server()
    mine = server.add("alice")
    with Gateway(server) as g:
        subscribed(server, g, "alice")
        g.url_of("alice", mine, 80)
        server.records[mine]["preview_domain"] = "moved.example"
        assert g.url_of("alice", mine, 80).json()["url"].endswith(".localhost")
        answer = g.url_of("alice", mine, 80, NO_CACHE)
        assert cache_status(answer) == "stacygate; fwd=request; stored" and answer.json()["url"].endswith(".moved.example")
        expect_hit(g.url_of("alice", mine, 80))
        with server.fault("*", ".*", status(503)):
            expect_error(g.url_of("alice", mine, 80, NO_CACHE), 503, "UNAVAILABLE", "main")
            expect_hit(g.url_of("alice", mine, 80))
        # Seen with another owner, it is his.
        server.records[mine]["metadata"]["stacygate.owner"] = "bob"
        expect_not_found(g.url_of("alice", mine, 80, NO_CACHE), mine)
        expect_not_found(g.url_of("alice", mine, 80), mine)
        assert g.url_of("bob", mine, 80).status == 200


def test_stopped_server():
    """What is remembered is answered with the server gone; nothing is made up of what is not."""
    server = Server()
    mine, unknown = server.add("alice"), server.add("alice")
    with Gateway(server) as g:
        subscribed(server, g, "alice")
        assert g.url_of("alice", mine, 80).status == 200
        server.close()
        for connection in list(server.live):
            connection.sock.shutdown(2)
        expect_hit(g.url_of("alice", mine, 80))
        expect_error(g.url_of("alice", unknown, 80), 502, "CONNECTION_ERROR", "main")


def test_bad_domains():
    """A record that names what is no domain makes no URL and no Host."""
    server, front = Server(), Front()
    with Gateway(server, front=front.url) as g:
        for domain in ("a b", "x/y", "user@host", "a\r\nX-Injected: 1", "ä.example", "x:0", "x:99999", ":80", "a" * 254):
            mine = server.add("alice", preview_domain=domain)
            answer = g.url_of("alice", mine, 80)
            # One that is too long is not read at all (sandbox_doc.h), so it is as if there were none.
            if len(domain) > 253:
                assert answer.json()["url"] == f"http://80-{mine}.localhost"
                continue
            expect_error(answer, 502, "CONNECTION_ERROR", "preview domain")
            expect_error(g.preview("alice", f"80-{mine}.localhost"), 502, "CONNECTION_ERROR", "preview domain")
        assert front.connections == 0
        ported = server.add("alice", preview_domain="dev.example:8080")
        assert g.url_of("alice", ported, 80).json()["url"] == f"http://80-{ported}.dev.example:8080"


def test_id10_browsers():
    """On loopback TCP: a sandbox's own pages and top-level navigation pass, other pages do not; the preview is the program's own."""
    def program(connection, request):
        connection.answer(b"page", "Access-Control-Allow-Origin: http://mine\r\n")
    server, front = Server(), Front(program)
    mine, other = server.add("alice"), server.add("alice")
    navigation = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    with Gateway(server, front=front.url, tcp=True) as g:
        host = f"3000-{mine}.localhost:{g.port}"
        good = [{}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Mode": "cors"}, navigation,
                {"Origin": f"http://{host}"}, {"Origin": f"http://3000-{mine}.localhost:{g.port}", "Sec-Fetch-Site": "same-origin"},
                {"Origin": f"http://8080-{mine}.localhost", "Sec-Fetch-Site": "cross-site"}, {"Origin": "http://app.test"}]
        bad = [{"Origin": "http://evil"}, {"Origin": "null"}, {"Origin": f"http://3000-{other}.localhost:{g.port}"},
               {"Origin": f"https://{host}"}, {"Origin": f"http://0-{mine}.localhost"}, {"Origin": f"http://localhost:{g.port}"},
               {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {**navigation, "Sec-Fetch-Dest": "iframe"},
               {**navigation, "Sec-Fetch-Mode": "no-cors"}, {**navigation, "Origin": "http://evil"}]
        for headers in good:
            answer = g.web(host, headers=headers)
            assert answer.status == 200 and answer.body == b"page", (headers, answer, g.log()[-2000:])
            # Nothing of the guard's on what is the sandbox's own.
            assert sorted(k.lower() for k, _ in answer.headers) == ["access-control-allow-origin", "content-length"], answer.headers
        assert len(front.requests) == len(good)
        for headers in bad:
            answer = g.web(host, headers=headers)
            expect_error(answer, 403, "FORBIDDEN", "web page")
            assert headers_of(answer, "x-content-type-options") == ["nosniff"], answer.headers
        expect_error(g.web(host, "POST", headers=navigation), 403, "FORBIDDEN")
        preflight = {"Origin": f"http://8080-{mine}.localhost", "Access-Control-Request-Method": "PUT"}
        assert g.web(host, "OPTIONS", "/x", preflight).body == b"page"
        preflight["Origin"] = "http://evil"
        assert g.web(host, "OPTIONS", "/x", preflight).status == 403
        assert g.web(host, headers={**UPGRADE, "Origin": "http://evil"}).status == 403
        # A name of somebody else's that resolves to loopback.
        expect_error(g.web(f"3000-{mine}.evil.test"), 421, "BAD_REQUEST")
        expect_not_found(g.web(f"3000-{NEVER}.localhost"), NEVER)
        assert len(front.requests) == len(good) + 1
        # And the API on the same connection has its lines again.
        answer = g.web(f"localhost:{g.port}", target="/gateway/v1/health")
        assert answer.status == 200 and headers_of(answer, "x-content-type-options") == ["nosniff"]
        expect_error(g.web(f"localhost:{g.port}", headers={"Origin": f"http://{host}"}, target=API + "/sandboxes"), 403, "FORBIDDEN")


def test_bounded():
    """Previews by name are remembered for a few hundred sandboxes at a time; memory does not grow with those asked for."""
    server = Server()
    ids = [server.add("alice", preview_domain=f"nobody{i}.localhost:1") for i in range(600)]
    with Gateway(server, {"alice": []}) as g:
        def ask(some):
            for i, sandbox in some:
                answer = g.preview("alice", f"80-{sandbox}.nobody{i}.localhost")
                assert answer.status == 502, answer
        numbered = list(enumerate(ids))
        ask(numbered[:300])
        before = len(os.listdir(f"/proc/{g.process.pid}/fd"))
        ask(numbered[300:])
        assert len(os.listdir(f"/proc/{g.process.pid}/fd")) <= before + 2
        assert g.url_of("alice", ids[-1], 80).status == 200


if __name__ == "__main__":
    run(globals())
