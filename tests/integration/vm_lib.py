# SPDX-License-Identifier: Apache-2.0
"""
A stand-in for a StacyVM server that says what api-contract.md says, records every request and fails where it is told to;
and a real gateway in front of it whose callers are told apart by listener or by uid.
"""
import base64
import contextlib
import email.utils
import hashlib
import json
import os
import queue
import re
import select
import socket
import threading
import time
import urllib.parse
from datetime import datetime, timedelta, timezone

import tls_lib
from tls_lib import DEADLINE, UnixConnection, Upstream, wait_for

API = "/api/v1"
LOCAL_ZONE = timezone(timedelta(hours=5, minutes=30))  # the server's: get and spawn speak it, lists speak UTC
UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}


def seconds(text):
    """A Go duration."""
    match = re.fullmatch(r"([-+]?)((?:\d*\.?\d+(?:ns|us|µs|ms|s|m|h))+|0)", text)
    if not match:
        raise ValueError(f"invalid duration {text!r}")
    parts = re.findall(r"(\d*\.?\d+)(ns|us|µs|ms|s|m|h)", match.group(2))
    return (-1 if match.group(1) == "-" else 1) * sum(float(n) * UNITS[unit] for n, unit in parts)


def folded(body, *names):
    """What Go's decoder makes of an object: the last of the keys that are equal without case, K and s of Unicode folded."""
    fold = {"\u017f": "s", "\u212a": "k"}
    found = {}
    for key, value in body:
        plain = "".join(fold.get(c, c) for c in key).lower()
        if plain in names and value is not None:
            found[plain] = value
    return found


class Refused(Exception):
    """An error of the API's shape."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.value = status, {"code": code, "message": message}


class Recorder:
    """Takes what would be sent."""

    def __init__(self):
        self.raw = b""

    def send(self, data):
        self.raw += data


# --- faults -----------------------------------------------------------------------------------------------------------

def status(code, headers=(), value=None):
    """Answers with an error of the API's."""
    value = value or {"code": "RESOURCE_LIMIT" if code == 429 else "INTERNAL_ERROR", "message": f"made up {code}"}

    def act(server, connection, request):
        server.send_json(connection, request, code, value, headers)
        return "answered"
    return act


def text(code, body, kind="text/plain; charset=utf-8"):
    """Answers with what is not the API's own."""
    def act(server, connection, request):
        server.send(connection, request, code, body, kind)
        return "answered"
    return act


def garbage(_, connection, __):
    connection.send(b"\x00\x01 no HTTP at all \xff\xfe\r\n\r\n")
    connection.close()
    return "closed"


def cut(where):
    """Closes before the answer, in its head, behind its head, or in the middle of its body."""
    def act(server, connection, request):
        recorder = Recorder()
        server.answer(recorder, request)
        end = recorder.raw.index(b"\r\n\r\n") + 4
        connection.send(recorder.raw[:{"before": 0, "head": end // 2, "behind head": end,
                                       "body": end + (len(recorder.raw) - end) // 2}[where]])
        connection.close()
        return "closed"
    return act


class Fault:
    """What happens to requests of a route; counts them. `act` gives "answered", "closed", or nothing to go on as usual."""

    def __init__(self, method, pattern, act):
        self.method, self.pattern, self.act = method, re.compile(pattern), act
        self.lock = threading.Lock()
        self.seen = 0  # requests that arrived
        self.done = 0  # and were let go on

    def fits(self, request):
        return self.method in ("*", request.method) and self.pattern.fullmatch(request.path)

    def __call__(self, server, connection, request):
        with self.lock:
            self.seen += 1
        result = self.act(server, connection, request)
        with self.lock:
            self.done += 1
        return result

    def wait(self, n=1):
        wait_for(f"{n} requests arrive at the server", lambda: self.seen >= n)


class Hold(Fault):
    """Lets requests wait until they are released."""

    def __init__(self, method, pattern):
        super().__init__(method, pattern, self.hold)
        self.gate = threading.Event()

    def hold(self, *_):
        assert self.gate.wait(DEADLINE * 3), "never released"

    def release(self):
        self.gate.set()


class Lost(Fault):
    """
    Spawns whose answer nobody gets: the connection is closed at once, or with `silent` when the gateway closes it. The records are
    stored when a test says so, which is what a server does that is slow.
    """

    def __init__(self, silent=False):
        super().__init__("POST", "/sandboxes", self.lose)
        self.silent = silent
        self.kept = []  # what is not stored yet

    def lose(self, server, connection, request):
        with self.lock:
            self.kept.append((server, request))
        if self.silent:
            try:
                while connection.sock.recv(4096):
                    pass
            except ConnectionError:
                pass
        connection.close()
        return "closed"

    def store(self):
        """From now on they are in the list; gives their ids."""
        with self.lock:
            kept, self.kept = self.kept, []
        return [server.spawn(Recorder(), request) for server, request in kept]


class Steps(Fault):
    """Lets each request wait until its own turn has come; they are numbered as they arrive."""

    def __init__(self, method, pattern):
        super().__init__(method, pattern, self.step)
        self.users, self.gates = [], []

    def step(self, _, __, request):
        gate = threading.Event()
        with self.lock:
            self.users.append(request.user)
            self.gates.append(gate)
        assert gate.wait(DEADLINE * 3), "never let on"

    def go(self, n):
        self.gates[n].set()

    def release(self):
        with self.lock:
            for gate in self.gates:
                gate.set()


# --- the server -------------------------------------------------------------------------------------------------------

class Subscriber:
    """One reader of the event stream."""

    def __init__(self):
        self.queue = queue.Queue()
        self.wake, self.woken = socket.socketpair()

    def put(self, data):
        self.queue.put(data)
        self.wake.send(b"!")


class Server(Upstream):
    """The fields may be changed by a test at any time."""

    def __init__(self):
        self.state = threading.RLock()
        self.records = {}       # id: the sandbox object, times as seconds
        self.templates = {}
        self.specs = []         # environments
        self.quotas = {}
        self.files = {}         # (id, path): bytes
        self.pool = {"enabled": False}
        self.offset = 0.0       # of the server's clock
        self.tunnels = False    # whether exec/ws works
        self.bulk, self.bulk_owner = 0, lambda i: "nobody"  # so many more in the list
        self.buckets = None     # user id: requests that are left to him, when the server limits
        self.burst = 0
        self.subscribers = []
        self.events = 0
        self.peak = {}          # owner: the most live sandboxes at a time
        self.destroyed = []     # ids, each time
        self.active_faults = []
        super().__init__(answer=self.on_any_request)

    # --- what tests ask ---

    def mark(self):
        with self.lock:
            return len(self.requests)

    def since(self, mark=0, method=None, path=None, user=None):
        """Requests from the mark on; `path` is a pattern. The gateway's own subscription to events is there when it is asked for."""
        with self.lock:
            chosen = [r for r in self.requests[mark:] if path or r.target != API + "/events"]
        return [r for r in chosen if (method in (None, r.method)) and (path is None or re.fullmatch(path, r.target.split("?")[0]))
                and (user is None or r.all("x-user-id") == [user])]

    @contextlib.contextmanager
    def fault(self, method, pattern, act):
        """While it lasts, requests whose path below /api/v1 is the pattern are treated so. `act` may be a Hold."""
        fault = act if isinstance(act, Fault) else Fault(method, pattern, act)
        with self.state:
            self.active_faults.append(fault)
        try:
            yield fault
        finally:
            with self.state:
                self.active_faults.remove(fault)
            if isinstance(fault, (Hold, Steps)):
                fault.release()

    def hold(self, method, pattern):
        return self.fault(method, pattern, Hold(method, pattern))

    def alive(self, owner=None):
        with self.state:
            return [r["id"] for r in self.records.values() if r["state"] != "destroyed"
                    and (owner is None or r.get("metadata", {}).get("stacygate.owner") == owner)]

    def now(self):
        return time.time() + self.offset

    def expire(self, sandbox, ago=60):
        with self.state:
            self.records[sandbox]["expires_at"] = self.now() - ago

    # --- answering ---

    def send(self, connection, request, code, body, kind, headers=()):
        reason = {200: "OK", 201: "Created", 404: "Not Found"}.get(code, "Status")
        lines = [f"HTTP/1.1 {code} {reason}", f"Content-Type: {kind}",
                 "X-Request-Id: " + (request.all("x-request-id") or ["made-up"])[0],
                 "Date: " + email.utils.formatdate(self.now(), usegmt=True), *(f"{n}: {v}" for n, v in headers)]
        short = len(body) < 2048
        lines.append(f"Content-Length: {len(body)}" if short else "Transfer-Encoding: chunked")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if request.method == "HEAD":
            connection.send(head)
        elif short:
            connection.send(head + body)
        else:
            chunks = [b"%x\r\n%b\r\n" % (len(body[i:i + 4096]), body[i:i + 4096]) for i in range(0, len(body), 4096)]
            connection.send(head + b"".join(chunks) + b"0\r\n\r\n")

    def send_json(self, connection, request, code, value, headers=()):
        body = json.dumps(value, separators=(",", ":"))
        for plain, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
            body = body.replace(plain, escaped)
        self.send(connection, request, code, body.encode() + b"\n", "application/json", headers)

    def on_any_request(self, connection, request):
        request.path, _, query = request.target.partition("?")
        request.path = request.path.removeprefix(API)
        pairs = "&".join(pair for pair in query.split("&") if ";" not in pair)
        request.query = dict(reversed(urllib.parse.parse_qsl(pairs, keep_blank_values=True)))  # the first one wins
        request.user = (request.all("x-user-id") or [""])[0].strip()
        with self.state:
            faults = [f for f in self.active_faults if f.fits(request)]
        for fault in faults:
            result = fault(self, connection, request)
            if result:
                return result == "closed"
        return self.answer(connection, request)

    def answer(self, connection, request):
        """Returns true when the connection is at its end."""
        try:
            if self.limited(connection, request):
                return False
            if request.path == "/events":
                return self.serve_events(connection)
            if request.path == "/sandboxes" and request.method == "GET" and self.bulk:
                return self.send_bulk(connection)
            if request.path.endswith("/exec/ws"):
                return self.serve_tunnel(connection, request)
            for method, pattern, handler in ROUTES:
                match = re.fullmatch(pattern, request.path)
                if match and request.method in (method, "HEAD" if method == "GET" else method):
                    handler(self, connection, request, *match.groups())
                    return False
            self.send(connection, request, 404, b"404 page not found\n", "text/plain; charset=utf-8")
        except Refused as refused:
            self.send_json(connection, request, refused.status, refused.value)
        return False

    def limited(self, connection, request):
        if self.buckets is None:
            return False
        with self.state:
            left = self.buckets.setdefault(request.user, self.burst)
            self.buckets[request.user] = max(left - 1, 0)
        if left == 0:
            self.send_json(connection, request, 429,
                           {"code": "RESOURCE_LIMIT", "message": "rate limit exceeded; retry after 1s"}, [("Retry-After", "1")])
        return left == 0

    # --- sandboxes ---

    def shown(self, record, zone):
        out = {k: v for k, v in record.items() if v not in ("", {}) or k == "worker_id"}
        for key in ("created_at", "expires_at"):
            out[key] = datetime.fromtimestamp(record[key], zone).isoformat().replace("+00:00", "Z")
        return out

    def found(self, sandbox):
        with self.state:
            record = self.records.get(sandbox)
            if record is None:
                raise Refused(404, "NOT_FOUND", f"sandbox not found: {sandbox}")
            if record["state"] == "destroyed":
                raise Refused(404, "NOT_FOUND", f"sandbox destroyed: {sandbox}")
            return record

    def body(self, request):
        """Members of the object, in order, as Go reads them."""
        try:
            value, _ = json.JSONDecoder(object_pairs_hook=list).raw_decode(request.body.decode("utf-8", "replace").lstrip())
        except ValueError:
            raise Refused(400, "BAD_REQUEST", "invalid request body") from None
        if value is None:
            return []
        if not isinstance(value, list) or any(not isinstance(m, tuple) for m in value):
            raise Refused(400, "BAD_REQUEST", "invalid request body")
        return value

    def add(self, owner="", ttl=1800.0, metadata=None, image="alpine:latest", **more):
        """A sandbox of the server's own making; with `owner` as a gateway would have stamped it."""
        with self.state:
            metadata = dict(metadata or {})
            if owner:
                metadata["stacygate.owner"] = owner
            now = self.now()
            record = {"id": "sb-" + os.urandom(4).hex(), "state": "running", "provider": "docker", "image": image,
                      "memory_mb": 1024, "vcpus": 1, "owner_id": owner, "worker_id": "local", "created_at": now,
                      "expires_at": now + ttl, "metadata": metadata, "preview_domain": "localhost", **more}
            self.records[record["id"]] = record
            key = metadata.get("stacygate.owner", "")
            self.peak[key] = max(self.peak.get(key, 0), len(self.alive(key)))
        for kind in ("sandbox.created", "sandbox.running"):
            self.publish(kind, record["id"])
        return record["id"]

    def spawn(self, connection, request):
        fields = folded(self.body(request), "image", "provider", "memory_mb", "vcpus", "ttl", "owner_id", "metadata")
        try:
            ttl = seconds(fields.get("ttl") or "30m")
        except (TypeError, ValueError):
            raise Refused(500, "INTERNAL_ERROR", "parsing TTL") from None
        sandbox = self.add("", ttl, dict(fields.get("metadata") or []), fields.get("image") or "alpine:latest",
                           owner_id=request.user or fields.get("owner_id", ""), provider=fields.get("provider") or "docker",
                           memory_mb=fields.get("memory_mb") or 1024, vcpus=fields.get("vcpus") or 1)
        self.send_json(connection, request, 201, self.shown(self.records[sandbox], LOCAL_ZONE))
        return sandbox

    def admission(self, connection, request):
        self.body(request)
        self.send_json(connection, request, 200, {"allowed": True, "queueable": False, "active_sandboxes": 0, "max_sandboxes": 0})

    def list(self, connection, request):
        with self.state:
            value = [self.shown(r, timezone.utc) for r in reversed(self.records.values()) if r["state"] != "destroyed"]
        self.send_json(connection, request, 200, value)

    def send_bulk(self, connection):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"["
        for i in range(self.bulk):
            record = {"id": f"sb-{i:08x}", "state": "running", "provider": "docker", "image": "python:3.12", "memory_mb": 1024,
                      "vcpus": 1, "owner_id": self.bulk_owner(i), "worker_id": "local", "created_at": "2026-01-01T00:00:00Z",
                      "expires_at": "2026-01-01T00:30:00Z", "metadata": {"stacygate.owner": self.bulk_owner(i), "n": str(i)}}
            piece += (b"," if i else b"") + json.dumps(record).encode()
            if len(piece) > 16384:
                connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                piece = b""
        piece += b"]\n"
        connection.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(piece), piece))
        return False

    def prune(self, connection, request):
        """Everybody's, as the server does it."""
        with self.state:
            expired = [r for r in self.records.values() if r["state"] != "destroyed" and r["expires_at"] < self.now()]
        for record in expired:
            self.kill(record["id"])
        self.send_json(connection, request, 200, {"pruned": len(expired)})

    def get(self, connection, request, sandbox):
        self.send_json(connection, request, 200, self.shown(self.found(sandbox), LOCAL_ZONE))

    def kill(self, sandbox):
        with self.state:
            known = self.records.get(sandbox)
            if known:
                known["state"] = "destroyed"
            self.destroyed.append(sandbox)
        if known:
            self.publish("sandbox.destroyed", sandbox)

    def destroy(self, connection, request, sandbox):
        self.kill(sandbox)
        self.send_json(connection, request, 200, {"status": "destroyed"})

    def extend(self, connection, request, sandbox):
        ttl = folded(self.body(request), "ttl").get("ttl")
        if not ttl:
            raise Refused(400, "BAD_REQUEST", "ttl is required")
        with self.state:
            record = self.found(sandbox)
            record["expires_at"] = self.now() + seconds(ttl)
            value = self.shown(record, LOCAL_ZONE)
        self.send_json(connection, request, 200, value)

    def exec(self, connection, request, sandbox):
        fields = folded(self.body(request), "command", "stream")
        self.found(sandbox)
        said = f"{sandbox} ran {fields.get('command')}\n"
        if not fields.get("stream"):
            self.publish("exec.started", sandbox)
            self.publish("exec.completed", sandbox)
            self.send_json(connection, request, 200, {"exit_code": 0, "stdout": said, "stderr": "", "duration": "1ms"})
            return
        line = json.dumps({"stream": "stdout", "data": said}).encode() + b"\n"
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nCache-Control: no-cache\r\n"
                        b"Transfer-Encoding: chunked\r\n\r\n" + (b"%x\r\n%b\r\n" % (len(line), line)) * 2 + b"0\r\n\r\n")

    def serve_tunnel(self, connection, request):
        if not self.tunnels:
            self.send(connection, request, 501, b"Not Implemented\n", "text/plain; charset=utf-8")
            return False
        digest = hashlib.sha1((request.all("sec-websocket-key")[0] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        done = b'{"type":"done"}\n'
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n" +
                        bytes([0x81, len(done)]) + done + b"\x88\x02\x03\xe8")
        connection.close()
        return True

    def write_file(self, connection, request, sandbox):
        fields = folded(self.body(request), "path", "content")
        self.found(sandbox)
        self.files[sandbox, fields["path"]] = fields.get("content", "").encode()
        self.publish("file.written", sandbox)
        self.send_json(connection, request, 200, {"status": "written"})

    def read_file(self, connection, request, sandbox):
        if "path" not in request.query:
            raise Refused(400, "BAD_REQUEST", "path query parameter required")
        self.found(sandbox)
        self.send(connection, request, 200, self.files.get((sandbox, request.query["path"]), b"a file"),
                  "application/octet-stream")

    # --- templates, environments, quotas ---

    def save_template(self, connection, request):
        fields = dict(self.body(request))
        with self.state:
            if fields["name"] in self.templates:
                raise Refused(409, "CONFLICT", "conflict: template already exists")
            self.templates[fields["name"]] = {"version": 1, "memory_mb": 512, "cpu_cores": 1, "ttl_seconds": 300, **fields}
        self.send_json(connection, request, 201, self.templates[fields["name"]])

    def list_templates(self, connection, request):
        self.send_json(connection, request, 200, [self.templates[n] for n in sorted(self.templates)])

    def template(self, name):
        name = urllib.parse.unquote(name)
        if name not in self.templates:
            raise Refused(404, "NOT_FOUND", f'not found: template "{name}"')
        return self.templates[name]

    def get_template(self, connection, request, name):
        self.send_json(connection, request, 200, self.template(name))

    def delete_template(self, connection, request, name):
        self.template(name)
        del self.templates[name]
        self.send_json(connection, request, 200, {"status": "deleted"})

    def spawn_template(self, connection, request, name):
        template = self.template(name)
        sandbox = self.add("", float(template["ttl_seconds"]), {"template": name}, template["image"])
        self.send_json(connection, request, 201, self.shown(self.records[sandbox], LOCAL_ZONE))

    def add_spec(self, connection, request):
        fields = folded(self.body(request), "owner_id", "name", "base_image")
        if "owner_id" not in fields:
            raise Refused(400, "BAD_REQUEST", "invalid input: owner_id is required")
        spec = {"id": f"spec-{len(self.specs)}", **fields}
        self.specs.append(spec)
        self.send_json(connection, request, 201, spec)

    def list_specs(self, connection, request):
        if not request.query.get("owner_id"):
            raise Refused(400, "BAD_REQUEST", "owner_id query parameter required")
        self.send_json(connection, request, 200, [s for s in self.specs if s["owner_id"] == request.query["owner_id"]])

    def get_quota(self, connection, request, owner):
        self.send_json(connection, request, 200, {"owner_id": owner, "max_sandboxes": 0})

    # --- the server as a whole ---

    def pool_status(self, connection, request):
        self.send_json(connection, request, 200, self.pool)

    def publish(self, kind, sandbox=None, data=None, raw=None):
        """Tells every reader of the stream."""
        with self.state:
            self.events += 1
            event = {"id": f"evt-{self.events}", "type": kind, **({"sandbox_id": sandbox} if sandbox else {}),
                     "timestamp": datetime.fromtimestamp(self.now(), LOCAL_ZONE).isoformat(), **({"data": data} if data else {})}
            for subscriber in self.subscribers:
                subscriber.put(raw if raw is not None else b"data: " + json.dumps(event).encode() + b"\n\n")
        return event["id"]

    def end_events(self):
        """Breaks every stream off."""
        with self.state:
            for subscriber in self.subscribers:
                subscriber.put(None)

    def serve_events(self, connection):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
                        b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n")
        me = Subscriber()
        with self.state:
            self.subscribers.append(me)
        try:
            while True:
                ready, _, _ = select.select([connection.sock, me.woken], [], [], DEADLINE * 3)
                if me.woken in ready:
                    me.woken.recv(1)
                    data = me.queue.get()
                    if data is None:
                        connection.close()
                        return True
                    connection.send(b"%x\r\n%b\r\n" % (len(data), data))
                elif not ready or not connection.sock.recv(4096):
                    connection.close()
                    return True
        finally:
            with self.state:
                self.subscribers.remove(me)
            me.wake.close()
            me.woken.close()


def plain(value):
    return lambda server, connection, request: server.send_json(connection, request, 200, value)


def of_sandbox(value):
    def handler(server, connection, request, sandbox):
        server.found(sandbox)
        server.send_json(connection, request, 200, value)
    return handler


ID = "/sandboxes/([^/]+)"
ROUTES = [
    ("POST", "/sandboxes/?", Server.spawn), ("POST", "/sandboxes/admission", Server.admission),
    ("GET", "/sandboxes/?", Server.list), ("DELETE", "/sandboxes/?", Server.prune),
    ("GET", ID + "/?", Server.get), ("DELETE", ID + "/?", Server.destroy), ("POST", ID + "/extend", Server.extend),
    ("POST", ID + "/exec", Server.exec), ("POST", ID + "/files", Server.write_file), ("GET", ID + "/files", Server.read_file),
    ("DELETE", ID + "/files", of_sandbox({"status": "deleted"})),
    ("GET", ID + "/files/list", of_sandbox([])), ("GET", ID + "/files/glob", of_sandbox([])),
    ("GET", ID + "/files/stat", of_sandbox({"path": "x", "size": 1, "mode": "644", "is_dir": False})),
    ("POST", ID + "/files/move", of_sandbox({"status": "moved"})),
    ("POST", ID + "/files/chmod", of_sandbox({"status": "chmod applied"})),
    ("GET", ID + "/logs", of_sandbox(["a line"])), ("GET", ID + "/stats", of_sandbox({"supported": False})),
    ("POST", "/templates/?", Server.save_template), ("GET", "/templates/?", Server.list_templates),
    ("GET", "/templates/([^/]+)/?", Server.get_template), ("DELETE", "/templates/([^/]+)/?", Server.delete_template),
    ("POST", "/templates/([^/]+)/spawn", Server.spawn_template),
    ("POST", "/environments/specs", Server.add_spec), ("GET", "/environments/specs", Server.list_specs),
    ("GET", "/quotas/([^/]+)/?", Server.get_quota), ("GET", "/pool/status", Server.pool_status),
    ("GET", "/health", plain({"status": "ok", "uptime": "1s", "version": "0.15.0"})),
]


# --- the gateway ------------------------------------------------------------------------------------------------------

AS_USER = threading.Lock()  # the effective uid is the whole process's


class UserConnection(UnixConnection):
    """Connects as another user, which only root can; the kernel keeps who connected."""

    def __init__(self, path, uid):
        super().__init__(path)
        self.uid = uid

    def connect(self):
        with AS_USER:
            os.seteuid(self.uid)
            try:
                super().connect()
            finally:
                os.seteuid(0)


class Gateway(tls_lib.Gateway):
    """
    A real stacygated in front of the server. `rules`: name of a caller to YAML lines of his rule, whose user id is his
    name unless written; each has a listener of his name. With `uids` (name to uid) all share one listener.
    """

    def __init__(self, server, rules=None, upstream=(), uids=None, **more):
        self.server, self.uids = server, uids
        self.rules = {"alice": [], "bob": []} if rules is None else dict(rules)
        self.upstream_lines = list(upstream)
        super().__init__({}, **more)

    def configure(self, upstreams=None):
        names = ["all"] if self.uids else list(self.rules)
        self.users = {name: None for name in names}
        os.chmod(self.directory, 0o755 if self.uids else 0o700)
        lines = [f"drain_timeout: {self.drain}", "listen:"]
        lines += [f"  - {{ path: {self.socket_of(n)}, name: {n}" + (', mode: "0666" }' if self.uids else " }") for n in names]
        lines += ["upstreams:", "  main:", f"    url: http://127.0.0.1:{self.server.port}"]
        lines += ["    " + line for line in self.upstream_lines]
        lines += ["credentials:", f"  team: {{ api_key: {{ file: {self.path('key')} }} }}", "clients:"]
        for name, rule in self.rules.items():
            match = f"uid: {self.uids[name]}" if self.uids else f"listener: {name}"
            lines += [f"  - name: {name}", f"    match: {{ {match} }}", "    upstream: main", "    credential: team"]
            if not any(line.startswith("user_id:") for line in rule):
                lines.append(f"    user_id: {name}")
            lines += ["    " + line for line in rule]
        lines.append(f"log: {{ level: debug, access: stderr, audit: {self.path('audit.log')} }}")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    def connect(self, name):
        if self.uids and name in self.uids:
            return UserConnection(self.socket_of("all"), self.uids[name])
        return super().connect(name)

    def api(self, name, method, path, body=None, headers=None):
        """A request below /api/v1; what is no bytes is sent as JSON."""
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        return self.ask(name, method, API + path, body, headers)

    def spawn(self, name, **fields):
        answer = self.api(name, "POST", "/sandboxes", {"image": "python:3.12", **fields})
        assert answer.status == 201, (answer, self.log()[-3000:])
        return answer.json()["id"]

    def listed(self, name):
        answer = self.api(name, "GET", "/sandboxes")
        assert answer.status == 200 and answer.whole, answer
        return [s["id"] for s in answer.json()]

    def resident_kib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii", errors="replace") as file:
            return int(re.search(r"VmRSS:\s*(\d+)", file.read()).group(1))

    def crash(self):
        """kill -9, and a new start."""
        self.process.kill()
        self.process.wait()
        self.log_file.close()
        self.start()

    def restart(self):
        code = self.stop()
        assert code == 0, (code, self.log()[-3000:])
        self.start()
