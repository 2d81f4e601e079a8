# SPDX-License-Identifier: Apache-2.0
"""What the tests of templates share: a stand-in that stores them as the server does, and a gateway with a section `cache`."""
import contextlib
import re
import socket
import urllib.parse

from owners_lib import headers_of
from vm_lib import Gateway, Refused, Server, folded

STORED = ("name", "version", "image", "description", "memory_mb", "cpu_cores", "ttl_seconds", "pool_size", "setup")
NUMBERS = ("version", "memory_mb", "cpu_cores", "ttl_seconds", "pool_size")
NEVER_SET = "0001-01-01T00:00:00Z"


class TemplateServer(Server):
    """Knows cpu_cores and ttl_seconds, and nothing of vcpus, ttl, provider and metadata (api-contract.md 1.6)."""

    def __init__(self):
        self.writes = 0
        super().__init__()

    def fields(self, request):
        value = folded(self.body(request), *STORED, "created_at")
        for key in NUMBERS:
            if not isinstance(value.get(key, 0), int):
                raise Refused(400, "BAD_REQUEST", "invalid request body")
        return value

    def stored(self, fields, created):
        self.writes += 1
        value = {key: fields.get(key, 0 if key in NUMBERS else "") for key in STORED}
        shown = {key: v for key, v in value.items() if v != "" or key in ("name", "image")}
        return {**shown, "created_at": created, "updated_at": f"2026-02-01T00:00:00.{self.writes:06d}Z"}

    def save_one(self, request):
        fields = self.fields(request)
        for key in ("name", "image"):
            if not fields.get(key):
                raise Refused(500, "INTERNAL_ERROR", f"template {key} is required")
        if fields["name"] in self.templates:
            raise Refused(409, "CONFLICT", "conflict: template already exists")
        for key, value in (("version", 1), ("memory_mb", 512), ("cpu_cores", 1), ("ttl_seconds", 300)):
            fields[key] = fields.get(key) or value
        self.templates[fields["name"]] = self.stored(fields, "2026-01-01T00:00:00Z")
        return self.templates[fields["name"]]

    def replace_one(self, request, name):
        old = self.template(name)
        fields = {**self.fields(request), "name": old["name"]}
        self.templates[old["name"]] = self.stored(fields, old["created_at"])
        return {**self.templates[old["name"]], "created_at": fields.get("created_at", NEVER_SET)}

    def answer(self, connection, request):
        match = re.fullmatch("/templates(?:/([^/]+))?/?", request.path)
        if not match or request.method not in ("GET", "POST", "PUT", "DELETE"):
            return super().answer(connection, request)
        name = match.group(1)
        try:
            with self.state:
                if request.method == "POST":
                    code, value = 201, self.save_one(request)
                elif request.method == "PUT":
                    code, value = 200, self.replace_one(request, name)
                elif request.method == "DELETE":
                    del self.templates[self.template(name)["name"]]
                    code, value = 200, {"status": "deleted"}
                elif name:
                    code, value = 200, self.template(name)
                else:
                    code, value = 200, [self.templates[n] for n in sorted(self.templates)]
        except Refused as refused:
            code, value = refused.status, refused.value
        self.send_json(connection, request, code, value)
        return False

    def put(self, name, **fields):
        """One that the server has without the gateway having seen it."""
        with self.state:
            self.templates[name] = self.stored({"name": name, "version": 1, "image": "node:20", "memory_mb": 512,
                                                "cpu_cores": 1, "ttl_seconds": 300, **fields}, "2026-01-01T00:00:00Z")

    def stop(self):
        """As if its process had ended."""
        self.close()
        with self.lock:
            live = list(self.live)
        for connection in live:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def reads(self, mark=0, user=None, target=None):
        """GETs of templates that have reached it."""
        found = [r for r in self.since(mark, "GET", user=user) if r.target.startswith("/api/v1/templates")]
        return [r for r in found if target in (None, r.target)]


class CacheGateway(Gateway):
    """`cache` is the value of the section, as YAML; `api_key` where the key comes from, with {key} for the file that has it."""

    def __init__(self, server, rules=None, cache=None, api_key=None, **more):
        self.cache, self.api_key = cache, api_key
        super().__init__(server, rules, **more)

    def configure(self, upstreams=None):
        super().configure(upstreams)
        if self.api_key:
            with open(self.config, encoding="utf-8") as file:
                text = file.read()
            with open(self.config, "w", encoding="utf-8") as file:
                file.write(text.replace(f"{{ file: {self.path('key')} }}", self.api_key.format(key=self.path("key"))))
        if self.cache:
            with open(self.config, "a", encoding="utf-8") as file:
                file.write(f"cache: {self.cache}\n")

    def read(self, name="alice", path="/templates", headers=None, method="GET"):
        answer = self.api(name, method, path, headers=headers)
        assert answer.whole, answer
        return answer

    def pool_of(self, upstream, name="admin"):
        status = self.ask(name, target="/gateway/v1/status").json()
        return next(u for u in status["upstreams"] if u["name"] == upstream)["pool"]

    def counters(self, name="admin"):
        return self.ask(name, target="/gateway/v1/status").json()["cache"]


RULES = {"alice": ["allow: [all]"], "bob": ["allow: [all]"], "admin": ["admin: true"]}


@contextlib.contextmanager
def cached(rules=None, **more):
    server = TemplateServer()
    with CacheGateway(server, rules or RULES, **more) as g:
        yield server, g


def said(answer):
    """The one Cache-Status, taken apart: {"hit": True, "ttl": -5} and such; empty without one."""
    values = headers_of(answer, "cache-status")
    if not values:
        return {}
    assert len(values) == 1, values
    cache, *parameters = [part.strip() for part in values[0].split(";")]
    assert cache == "stacygate", values
    pairs = [p.partition("=") for p in parameters]
    return {key: (int(value) if re.fullmatch("-?[0-9]+", value) else value or True) for key, _, value in pairs}


def age(answer):
    values = headers_of(answer, "age")
    return int(values[0]) if values else None


def quoted(name):
    return urllib.parse.quote(name, safe="")
