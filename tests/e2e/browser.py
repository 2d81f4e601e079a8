#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ID10: a web page in a real browser spends no credential: whatever it sends to the loopback listener, by address, by name or by a
name of its own that leads there, is refused before anything goes upstream. A configured origin, and Node's fetch, pass."""
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading

import chromium
import sg

# Every way in which a page can make its browser send something; each is told apart by its path.
PAGE = """<!doctype html><meta charset="utf-8"><body><script>
const bases = %(bases)s;
const results = {};
const settle = (name, promise) => promise.then(v => { results[name] = "" + v; }, e => { results[name] = "refused"; });
const tag = (name, kind, set) => new Promise(done => {
	const e = document.createElement(kind);
	e.onload = () => done("load");
	e.onerror = () => done("error");
	set(e);
	document.body.append(e);
});
const form = (base, method, path) => new Promise(done => {
	const frame = document.createElement("iframe");
	frame.name = "f" + Math.random();
	document.body.append(frame);
	const f = document.createElement("form");
	f.action = base + path;
	f.method = method;
	f.target = frame.name;
	f.enctype = "text/plain";
	f.innerHTML = '<input name=\\'{"image":"x","a":"\\' value=\\'"}\\'>';
	document.body.append(f);
	frame.onload = () => done("load");
	f.submit();
});
const web_socket = (base, path) => new Promise((done, fail) => {
	const s = new WebSocket(base.replace("http", "ws") + path);
	s.onopen = () => done("open");
	s.onerror = fail;
});
const events = (base, path) => new Promise((done, fail) => {
	const s = new EventSource(base + path);
	s.onopen = () => { s.close(); done("open"); };
	s.onerror = () => { s.close(); fail(); };
});
const body = '{"image":"x"}';
(async () => {
	const all = [];
	for (const [n, base] of bases.entries()) {
		const at = kind => "/api/v1/" + n + "-" + kind;
		const go = (kind, promise) => all.push(settle(n + "-" + kind, promise));
		go("get", fetch(base + at("get")).then(r => r.text()));
		go("opaque", fetch(base + at("opaque"), {mode: "no-cors"}).then(r => r.type));
		go("simple", fetch(base + at("simple"), {method: "POST", body, mode: "no-cors", headers: {"Content-Type": "text/plain"}}).then(r => r.type));
		go("json", fetch(base + at("json"), {method: "POST", body, headers: {"Content-Type": "application/json"}}).then(r => r.text()));
		go("delete", fetch(base + at("delete"), {method: "DELETE"}).then(r => r.text()));
		go("img", tag(n, "img", e => { e.src = base + at("img"); }));
		go("script", tag(n, "script", e => { e.src = base + at("script"); }));
		go("css", tag(n, "link", e => { e.rel = "stylesheet"; e.href = base + at("css"); }));
		go("iframe", tag(n, "iframe", e => { e.src = base + at("iframe"); }));
		go("form-post", form(base, "post", at("form-post")));
		go("form-get", form(base, "get", at("form-get")));
		go("ws", web_socket(base, at("ws")));
		go("events", events(base, at("events")));
		go("beacon", Promise.resolve(navigator.sendBeacon(base + at("beacon"), body)));
	}
	await Promise.race([Promise.all(all), new Promise(done => setTimeout(done, 20000))]);
	await fetch("/done", {method: "POST", body: JSON.stringify(results)});
})();
</script>"""
KINDS = ["get", "opaque", "simple", "json", "delete", "img", "script", "css", "iframe", "form-post", "form-get", "ws", "events", "beacon"]


class Server(http.server.ThreadingHTTPServer):
    """Answers everything with 200 and remembers what was asked."""
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen = []
        self.page = b""
        self.results = None
        self.done = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A browser that is killed resets its connections."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def port(self):
        return self.server_address[1]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append(f"{self.command} {self.path}")
        if self.path == "/done":
            self.server.results = json.loads(body)
            self.server.done.set()
        page = self.path.startswith("/page")
        text = self.server.page if page else b'{"secret":"upstream"}'
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if page else "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = do_OPTIONS = answer

    def log_message(self, *_):
        pass


class Setting:
    """Upstream, page, and a gateway with a listener for programs only and one for the page's origin."""

    def __init__(self):
        self.upstream, self.pages = Server(), Server()
        self.closed, self.open = sg.free_ports(2)
        self.gateway = sg.Gateway(config="")
        key = os.path.join(self.gateway.dir, "key")
        with open(os.open(key, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as f:
            f.write("a-key\n")
        with open(self.gateway.argv[2], "w", encoding="ascii") as f:
            f.write(f"""listen:
  - path: {self.gateway.socket}
  - {{ tcp: "127.0.0.1:{self.closed}", name: closed }}
  - {{ tcp: "127.0.0.1:{self.open}", name: open, origins: ["http://127.0.0.1:{self.pages.port}"] }}
upstreams: {{ main: {{ url: "http://127.0.0.1:{self.upstream.port}" }} }}
credentials: {{ team: {{ api_key: {{ file: {key} }} }} }}
clients:
  - {{ name: all, match: {{ listener: [closed, open, "{self.gateway.socket}"] }}, upstream: main, credential: team, user_id: "{{uid}}",
      allow: [all], isolation: none }}
log: {{ level: info, access: stderr }}
""")
        self.gateway.start()

    def visit(self, origin, bases):
        """Opens the page in a browser of its own and waits until it has tried everything."""
        self.pages.page = (PAGE % {"bases": json.dumps(bases)}).encode()
        self.pages.done.clear()
        self.pages.results = None
        chromium.visit(f"{origin}/page", self.pages.done)
        return self.pages.results

    def close(self):
        try:
            left = self.gateway.stop()
            assert not left, left
        finally:
            self.gateway.remove()


SETTING = None


def reached(paths):
    """Which of them stand in the gateway's log with a refusal."""
    log = SETTING.gateway.log()
    return [p for p in paths if any(p in line and ("status=403" in line or "status=421" in line) for line in log.splitlines())]


def test_id10_page_of_another_origin():
    """fetch, forms, pictures, scripts, frames, WebSocket, events and beacons of a page: refused, and nothing goes upstream."""
    bases = [f"http://{host}:{SETTING.closed}" for host in ("127.0.0.1", "localhost", *(["[::1]"] if sg.has_ipv6() else []))]
    before = len(SETTING.upstream.seen)
    results = SETTING.visit(f"http://127.0.0.1:{SETTING.pages.port}", bases)
    assert SETTING.upstream.seen[before:] == [], SETTING.upstream.seen
    for name in ("get", "json", "delete", "ws", "events"):
        for n in range(len(bases)):
            assert results.get(f"{n}-{name}") == "refused", f"{n}-{name}: {results}"
    assert "secret" not in json.dumps(results)
    # All of it was really sent: with a preflight first where the browser asks before it sends.
    paths = [f"/api/v1/{n}-{kind}" for n in range(len(bases)) for kind in KINDS]
    missing = set(paths) - set(reached(paths))
    assert not missing, f"never reached the gateway: {sorted(missing)}"


def test_id10_rebinding():
    """A name of the attacker's that leads to this machine makes the listener the page's own origin: its Host gives it away."""
    before = len(SETTING.upstream.seen)
    results = SETTING.visit(f"http://evil.test:{SETTING.pages.port}", [f"http://evil.test:{SETTING.closed}"])
    assert SETTING.upstream.seen[before:] == [], SETTING.upstream.seen
    assert results["0-get"] == "refused" and results["0-ws"] == "refused", results
    paths = [f"/api/v1/0-{kind}" for kind in KINDS]
    log = SETTING.gateway.log()
    for path in paths:
        assert any(path in line and "status=421" in line for line in log.splitlines()), f"{path} was not answered with 421"


def test_configured_origin():
    """The same page on a listener that names its origin: its requests pass and it reads the answers."""
    before = len(SETTING.upstream.seen)
    results = SETTING.visit(f"http://127.0.0.1:{SETTING.pages.port}", [f"http://localhost:{SETTING.open}"])
    seen = SETTING.upstream.seen[before:]
    assert "secret" in results["0-get"] and "secret" in results["0-json"] and "secret" in results["0-delete"], results
    for wanted in ("GET /api/v1/0-get", "POST /api/v1/0-json", "DELETE /api/v1/0-delete"):
        assert wanted in seen, seen
    # What carries no Origin shows no page that may: pictures, frames and scripts stay outside.
    for kind in ("img", "script", "iframe", "form-get"):
        assert f"GET /api/v1/0-{kind}" not in seen, seen


def test_node_fetch():
    """Node's own fetch, which sends Sec-Fetch-Mode, is a program."""
    if not shutil.which("node"):
        raise sg.Skip("node is not installed")
    script = f"fetch('http://localhost:{SETTING.closed}/api/v1/node').then(r => r.text()).then(t => console.log(t))"
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, timeout=60)
    assert "secret" in done.stdout, done.stdout + done.stderr
    assert "GET /api/v1/node" in SETTING.upstream.seen


def main():
    global SETTING
    if not chromium.PROGRAM:
        sg.skip("chromium is not installed: no page was tried against the listener")
    SETTING = Setting()
    stopped = []

    def stop_leaves_nothing():
        stopped.append(True)
        SETTING.close()
    try:
        return sg.main(globals(), stop_leaves_nothing)
    finally:
        if not stopped:
            SETTING.gateway.remove()


if __name__ == "__main__":
    sys.exit(main())
