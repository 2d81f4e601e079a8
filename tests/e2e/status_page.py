#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The status page in a real browser: it lives, shows clients, sandboxes by owner, pools, rates and errors, and runs nobody's markup
(X14)."""
import os
import sys
import threading

import chromium
import sg

EVIL = "<img src=x onerror='window.pwned=1'>"
RULES = """listen:
  - {{ path: {socket}, name: host }}
  - {{ path: {socket}.alice, name: alice }}
  - {{ tcp: "127.0.0.1:{port}", name: web }}
  - {{ tcp: "127.0.0.1:{other}", name: other }}
upstreams:
  main: {{ url: local }}
  gone: {{ url: "http://127.0.0.1:{dead}", {more} }}
credentials: {{ team: {{ api_key: {{ file: {key} }} }} }}
clients:
  - {{ name: operators, match: {{ uid: {uid}, listener: [host, web] }}, upstream: main, user_id: operator, {admin} }}
  - {{ name: "alice", match: {{ uid: {uid}, listener: alice }}, upstream: main, user_id: "alice<b>&amp;" }}
  - {{ name: lost, match: {{ uid: {uid}, listener: other }}, upstream: gone, credential: team, user_id: lost, allow: [all], isolation: none }}
log: {{ level: info }}
"""
G = PAGE = BROWSER = PORTS = None


def configure(admin="admin: true", more="timeouts: { connect: 1s }"):
    port, other, dead = PORTS
    key = os.path.join(G.dir, "key")
    with open(os.open(key, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as f:
        f.write("a-key\n")
    with open(G.argv[2], "w", encoding="utf-8") as f:
        f.write(RULES.format(socket=G.socket, port=port, other=other, dead=dead, uid=os.getuid(), key=key, admin=admin, more=more))


def shows(selector, *texts, seconds=30):
    """Waits until the element shows all of the texts; what it shows then."""
    def seen():
        text = BROWSER.text(selector)
        return text if all(t in text for t in texts) else None
    try:
        return sg.wait_until(seen, f"{selector} shows {texts}", seconds)
    except AssertionError as e:
        raise AssertionError(f"{e}; it shows {BROWSER.text(selector)!r}") from None


def row(selector, first):
    """The cells of the table's row that begins with that text."""
    rows = BROWSER.value(f"[...document.querySelectorAll('{selector} tbody tr')].map(r => [...r.cells].map(c => c.textContent))")
    found = [r for r in rows if first in r]
    assert len(found) == 1, (first, rows)
    return found[0]


def alice(method, target, body=None):
    return sg.request(G.socket + ".alice", method, target, body)


def test_it_opens():
    BROWSER.open(PAGE)
    shows("#state", "ok")
    shows("#about", "configuration 1")
    shows("#upstreams", "main", "closed")
    shows("#rules", "operators", "lost")
    shows("#owners", "operator")
    shows("#active", "GET /gateway/v1/status")
    tiles = shows("#tiles", "requests/s", "pool in use", "waiting", "cache hits", "leases")
    assert "/128" in tiles, tiles


def test_sandboxes_by_owner_and_markup():
    """Two owners' sandboxes, whose image and metadata are markup: text, and no script runs."""
    ids = []
    for image in (EVIL, "python:3.12"):
        answer = alice("POST", "/api/v1/sandboxes", {"image": image, "metadata": {EVIL: EVIL}})
        assert answer.status == 201, answer.body
        ids.append(answer.json["id"])
    G.request("POST", "/api/v1/sandboxes", {"image": "mine"})
    shows("#sandboxes", "alice<b>&amp;", "operator", EVIL, "python:3.12")
    assert row("#sandboxes", "alice<b>&amp;")[1:3] == ["2", "2"], row("#sandboxes", "alice<b>&amp;")
    for one in ids:
        assert alice("DELETE", f"/api/v1/sandboxes/{one}").status == 200
    sg.wait_until(lambda: "alice" not in BROWSER.text("#sandboxes"), "alice's are gone")


def test_clients_and_what_is_under_way():
    """A command that runs is listed with its owner and sandbox, and leaves the list with its end."""
    box = alice("POST", "/api/v1/sandboxes", {"image": "x"}).json["id"]
    runs = threading.Thread(target=alice, args=("POST", f"/api/v1/sandboxes/{box}/exec", {"command": "while ! test -e stop; do sleep 0.1; done"}))
    runs.start()
    shows("#active", "POST /api/v1/sandboxes/{id}/exec", box, "alice<b>&amp;")
    shows("#owners", "alice<b>&amp;")
    assert G.request("POST", f"/api/v1/sandboxes/{box}/files", {"path": "stop", "content": ""}).status < 300
    runs.join()
    sg.wait_until(lambda: "/exec" not in BROWSER.text("#active"), "it has ended")
    alice("DELETE", f"/api/v1/sandboxes/{box}")


def test_errors_and_a_server_that_is_gone():
    answer = sg.http.client.HTTPConnection("127.0.0.1", PORTS[1], timeout=30)
    answer.request("GET", "/api/v1/health")
    assert answer.getresponse().status == 502
    answer.close()
    shows("#errors", "lost (rule lost): GET /api/v1/health was answered 502 CONNECTION_ERROR")
    shows("#state", "degraded")
    assert "connect" in row("#upstreams", "gone")[1], row("#upstreams", "gone")


def test_rates_move():
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            alice("GET", "/gateway/v1/whoami")
    asks = threading.Thread(target=ask)
    asks.start()
    rate = "Number(document.querySelector('#tiles b').textContent)"
    sg.wait_until(lambda: BROWSER.value(rate) > 5, "requests/s moves")
    stop.set()
    asks.join()
    sg.wait_until(lambda: BROWSER.value(rate) < 5, "and goes down again")
    assert len(BROWSER.value("document.querySelector('#graph polyline').getAttribute('points')").split()) > 3


def test_reload_and_restart():
    """The page says when nobody answers, and goes on by itself when somebody does."""
    generation = G.request("GET", "/gateway/v1/status").json["config"]["generation"]
    G.request("POST", "/gateway/v1/reload")
    shows("#about", f"configuration {generation + 1}")
    G.stop()
    shows("#state", "not connected")
    G.start()
    shows("#state", "ok")
    shows("#about", "configuration 1")


def test_nothing_ran_and_nobody_else_was_asked():
    assert BROWSER.value("window.pwned === undefined && document.querySelector('main img, main b:not(.tile b)') === null")
    origin = PAGE[:PAGE.index("/", 8)]
    others = [u for u in BROWSER.asked() if not u.startswith((origin + "/gateway/v1/", origin + "/api/v1/sandboxes", "data:,"))]
    assert not others, others
    # While nobody answered, the browser says so of each try.
    bad = [c for c in BROWSER.complaints() if "Failed to load resource" not in str(c) and "Failed to fetch" not in str(c)]
    assert not bad, bad


def test_only_own_part_without_admin():
    """A rule that is no operator's any more: the stream that shows all of it ends, and the page says why."""
    configure(admin="allow: [all], isolation: none")
    G.request("POST", "/gateway/v1/reload")
    shows("#errors", "admin: true")
    refused = sg.http.client.HTTPConnection("127.0.0.1", PORTS[0], timeout=30)
    refused.request("GET", "/gateway/v1/")
    assert refused.getresponse().status == 403
    refused.close()


def main():
    global G, PAGE, BROWSER, PORTS
    sg.need_user_namespaces()
    if not chromium.PROGRAM:
        sg.skip("chromium is not installed: the status page was not opened")
    PORTS = sg.free_ports(3)
    PAGE = f"http://localhost:{PORTS[0]}/gateway/v1/"
    G = sg.Gateway(config="")
    configure()
    stopped = []

    def stop_leaves_nothing():
        stopped.append(True)
        left = G.stop()
        assert not left, left

    try:
        G.start()
        BROWSER = chromium.Chromium()
        return sg.main(globals(), stop_leaves_nothing)
    finally:
        if BROWSER:
            BROWSER.close()
        if not stopped:
            G.stop()
        G.remove()


if __name__ == "__main__":
    sys.exit(main())
