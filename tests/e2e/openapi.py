# SPDX-License-Identifier: Apache-2.0
"""The description that the gateway serves: sound by OpenAPI's rules, and true of what each operation really answers, asked of
the embedded server by an ordinary caller, one with limits and an operator, of a server that answers as the documentation of
the API says, and where no server is."""
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.parse

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import environment  # noqa: E402
import openapi_check  # noqa: E402
import openapi_server  # noqa: E402
import sg  # noqa: E402

VALIDATOR = ["openapi-spec-validator==0.7.1"]
API = "/api/v1"
OWN = "/gateway/v1"
NEVER = "sb-00000000"
# The socket that sg.Gateway asks whether it is ready is alice's.
RULES = {
    "alice": {"user_id": "alice", "allow": ["sandboxes", "templates:read", "templates:write", "system", "events", "prune", "preview", "run"]},
    "bob": {"user_id": "bob", "limits": {"sandboxes": 1, "max_ttl": "10m", "max_memory_mb": 512}},
    "operator": {"user_id": "operator", "admin": True},
    "watcher": {"user_id": "watcher", "allow": ["metrics"]},
    "other": {"user_id": "other", "upstream": "documented", "credential": "team", "admin": True},
    "dead": {"user_id": "dead", "upstream": "dead", "credential": "team", "admin": True},
}
G = None
CALLERS = {}  # rule -> openapi_check.Checker


def socket_of(name):
    return os.path.join(G.runtime, "stacygate.sock" if name == "alice" else name + ".sock")


def config():
    key = os.path.join(G.dir, "key")
    with open(os.open(key, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as f:
        f.write("SEKRET-openapi-key\n")
    credential = {"api_key": {"file": key}, "admin_api_key": {"file": key}}
    return json.dumps({  # YAML as well
        "listen": [{"path": socket_of(n), "name": n} for n in RULES],
        "upstreams": {"here": {"url": "local"}, "dead": {"url": f"unix://{G.dir}/nobody.sock"},
                      "documented": {"url": f"http://127.0.0.1:{openapi_server.start()}"}},
        "credentials": {"team": credential},
        "clients": [{"name": n, "match": {"listener": n}, "upstream": "here", **rule} for n, rule in RULES.items()]}, indent=1)


def caller(name):
    if name not in CALLERS:
        CALLERS[name] = openapi_check.Checker(lambda method, target, body, headers: sg.request(socket_of(name), method, target, body, headers))
    return CALLERS[name]


def ask(method, path, body=None, status=200, name="alice", headers=None, sound=True):
    return caller(name).ask(method, path, body, headers, status, sound)


def refused(method, path, body=None, status=400, name="alice", headers=None):
    """A request that is meant to be wrong; its answer must be described all the same."""
    fault = ask(method, path, body, status, name, headers, sound=False).json
    assert set(fault) == {"code", "message"}, fault
    return fault


def operations():
    return caller("alice").document.operations


class Sandbox:
    def __init__(self, name="alice", **fields):
        self.name, self.fields = name, fields

    def __enter__(self):
        self.id = ask("POST", API + "/sandboxes", self.fields, 201, self.name).json["id"]
        return f"{API}/sandboxes/{self.id}"

    def __exit__(self, *_):
        ask("DELETE", f"{API}/sandboxes/{self.id}", name=self.name)


# --- the description itself -----------------------------------------------------------------------------------------------


def test_it_is_sound():
    faults = caller("alice").document.faults()
    assert not faults, "\n".join(faults)


def test_unsound_ones_are_found():
    """The same check refuses the description with any one of these faults in it."""
    text = json.dumps(caller("alice").document.doc)
    health = '"operationId": "gatewayHealth"'
    for old, new in ((health, '"operationId": "whoami"'), (health, '"operationid": "x"'), ('"openapi": "3.1', '"openapi": "3.0'),
                     ("#/components/schemas/Health", "#/components/schemas/None"), ('"in": "query"', '"in": "body"'),
                     ('"/gateway/v1/health": {', '"/gateway/v1/health/{x}": {'), ('"type": "boolean"', '"type": "bool"'),
                     ('"tags": ["gateway"]', '"tags": ["nobody\'s"]'), ('"description": "Also when', '"descripton": "Also when')):
        assert old in text, old
        assert openapi_check.Document(text.replace(old, new, 1)).faults(), (old, new)


def test_the_validator_of_the_specification_takes_it():
    try:
        python = environment.python_with("openapi-python", VALIDATOR, "openapi_spec_validator")
    except environment.Missing as why:
        raise sg.Skip(str(why)) from None
    program = "import json, sys, openapi_spec_validator as v; v.validate(json.load(sys.stdin), cls=v.OpenAPIV31SpecValidator); print('sound')"
    doc = caller("alice").document.doc
    done = subprocess.run([python, "-W", "ignore", "-c", program], input=json.dumps(doc), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "sound\n"), done.stderr[-3000:]
    done = subprocess.run([python, "-W", "ignore", "-c", program], input=json.dumps({**doc, "paths": {"/x": {"get": {}}}, "info": {}}),
                          capture_output=True, text=True)
    assert done.returncode != 0, "that one is not sound"


def test_everybody_admitted_may_read_it():
    texts = {name: sg.request(socket_of(name), "GET", OWN + "/openapi.json").body for name in RULES}
    assert len(set(texts.values())) == 1, {name: len(text) for name, text in texts.items()}
    version = subprocess.run([sg.program("stacygated"), "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    assert json.loads(texts["alice"])["info"]["version"] == version, version
    head = sg.request(socket_of("bob"), "HEAD", OWN + "/openapi.json")
    assert head.status == 200 and head.body == b"" and int(head.headers["Content-Length"]) == len(texts["bob"]), head.headers
    answer = sg.request(socket_of("alice"), "POST", OWN + "/openapi.json", {})
    assert answer.status == 405 and answer.headers["Stacygate-Error"] == "BAD_REQUEST", answer.body


# --- what an ordinary caller asks --------------------------------------------------------------------------------------------


def test_own_routes():
    for name in RULES:
        for path in ("/health", "/whoami", "/status"):
            ask("GET", OWN + path, name=name)
    refused("GET", OWN + "/ready", status=503)  # one of the servers is not there
    assert ask("GET", OWN + "/whoami").json["user_id"] == "alice"


def test_sandboxes():
    with Sandbox(image="node:20", memory_mb=256, vcpus=2, ttl="5m", metadata={"k": "v"}) as s:
        assert ask("GET", s).json["metadata"]["k"] == "v"
        assert len(ask("GET", API + "/sandboxes").json) == 1
        assert ask("POST", s + "/extend", {"ttl": "1h"}).json["id"]
        assert ask("GET", s + "/logs").json and len(ask("GET", s + "/logs?lines=1").json) == 1
        ask("GET", s + "/stats")
        assert ask("POST", API + "/sandboxes/admission", {"ttl": "1h"}).json["allowed"]
        assert not ask("POST", API + "/sandboxes/admission", {"ttl": "1000h"}).json["allowed"]
        assert ask("DELETE", API + "/sandboxes").json == {"pruned": 0}
        for body in ({}, {"ttl": "-1s"}, {"ttl": 1}):
            refused("POST", s + "/extend", body)
        for method, rest, body in (("GET", "", None), ("GET", "/logs", None), ("POST", "/exec", {"command": "true"}), ("DELETE", "", None)):
            assert refused(method, s + rest, body, 404, "bob")["code"] == "NOT_FOUND"
    ask("DELETE", s)
    refused("GET", s, status=404)
    refused("GET", f"{API}/sandboxes/{NEVER}", status=404)


def test_spawns_refused():
    for body in ({"memory_mb": "x"}, [], {"metadata": {"stacygate.owner": "bob"}}):
        refused("POST", API + "/sandboxes", body)
    answer = sg.request(socket_of("alice"), "POST", API + "/sandboxes", b"{bad")
    caller("alice").note("POST", API + "/sandboxes", answer)
    assert answer.status == 400, answer.body
    refused("POST", API + "/sandboxes", {"provider": "nope"}, 404)
    refused("POST", API + "/sandboxes", {"ttl": "1000h"}, 429)
    refused("POST", API + "/sandboxes", {"ttl": "soon"}, 500)
    refused("POST", API + "/sandboxes", {}, 400, headers={"Stacygate-Timeout": "soon"})
    refused("POST", API + "/sandboxes", {"image": "x" * (3 << 20)}, 413)


def test_limits():
    with Sandbox("bob", ttl="1h", memory_mb=4096, image="x") as s:
        answer = caller("bob").ask("POST", s + "/extend", {"ttl": "2h"}, status=200)
        assert answer.headers["Stacygate-Clamped"] == "ttl", answer.headers
        fault = refused("POST", API + "/sandboxes", {}, 429, "bob")
        assert fault["code"] == "RESOURCE_LIMIT", fault


def test_exec():
    with Sandbox() as s:
        done = ask("POST", s + "/exec", {"command": "echo hi; echo err >&2; exit 3", "args": [], "mode": "shell", "env": {"A": "b"},
                                         "workdir": "/tmp", "timeout": "20s", "stream": False}).json
        assert (done["exit_code"], done["stdout"], done["stderr"]) == (3, "hi\n", "err\n"), done
        answer = ask("POST", s + "/exec", {"command": "echo one; echo two >&2", "stream": True}, headers={"Stacygate-Timeout": "50s"})
        assert answer.headers["Content-Type"] == "application/x-ndjson" and b'"stderr"' in answer.body, answer.body
        ask("POST", s + "/exec", {"command": "true", "stream": True})
        refused("POST", s + "/exec", {"command": "x", "mode": "raw"})
        refused("POST", s + "/exec", {"command": "sleep 60", "timeout": "100ms"}, 408)
        refused("POST", s + "/exec", {"command": "true", "timeout": "11m"}, 429)
        refused("POST", s + "/exec", {"command": "true", "workdir": "/none"}, 500)
        refused("POST", s + "/exec", {"command": "sleep 60"}, 504, headers={"Stacygate-Timeout": "200ms"})


def test_exec_over_a_websocket():
    with Sandbox() as s:
        ask("GET", s + "/exec/ws", status=426)
        connection = sg.UnixConnection(socket_of("alice"))
        connection.request("GET", s + "/exec/ws", headers={"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                                                            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
        r = connection.getresponse()
        caller("alice").note("GET", s + "/exec/ws", sg.Answer(r.status, r.headers, b"" if r.status == 101 else r.read()))
        connection.close()


def test_files():
    with Sandbox() as s:
        f = s + "/files"
        path = "?" + urllib.parse.urlencode({"path": "/workspace/d/a b.txt"})
        ask("POST", f, {"path": "/workspace/d/a b.txt", "content": "h\u00e9llo", "mode": "600"})
        answer = ask("GET", f + path)
        assert answer.body == "h\u00e9llo".encode() and answer.headers["Content-Type"] == "application/octet-stream"
        assert ask("GET", f + "/stat" + path).json["size"] == 6
        assert len(ask("GET", f + "/list?path=/workspace/d").json) == 1 and ask("GET", f + "/list").json
        assert ask("GET", f + "/glob?pattern=/workspace/**/*.txt").json == ["/workspace/d/a b.txt"]
        assert ask("GET", f + "/glob?pattern=/workspace/*.none").json in ([], None)
        ask("POST", f + "/chmod", {"path": "/workspace/d/a b.txt", "mode": "755"})
        ask("POST", f + "/move", {"old_path": "/workspace/d/a b.txt", "new_path": "/workspace/e/b"})
        ask("DELETE", f + "?path=/workspace/e/b")
        ask("DELETE", f + "?path=/workspace/e&recursive=true")
        for rest in ("", "/stat", "/glob"):
            refused("GET", f + rest)
            refused("GET", f + rest + ("?pattern=[" if rest == "/glob" else "?path=/none"), status=500)
        refused("POST", f, {"content": "x"})
        refused("POST", f + "/chmod", {"path": "/workspace", "mode": "u+x"}, 500)
        refused("POST", f + "/move", {"old_path": "/none", "new_path": "/x"}, 500)
        refused("DELETE", f + "?path=/none", status=500)


def test_templates():
    t = API + "/templates"
    whole = {"name": "t", "version": 2, "image": "node:20", "description": "d", "setup": ["true"], "allowed_hosts": ["a.example"], "memory_mb": 256,
             "vcpus": 2, "ttl": "1h", "env": {"A": "b"}, "secrets": [{"name": "n", "inject_at": "/x"}], "provider": "local", "metadata": {"k": "v"},
             "pool_size": 0}
    saved = ask("POST", t, whole, 201).json
    assert (saved["cpu_cores"], saved["vcpus"], saved["ttl_seconds"], saved["ttl"]) == (2, 2, 3600, "1h0m0s"), saved
    again = ask("POST", t, whole, status=None)
    assert again.status in (200, 409), (again.status, again.body)  # replaced, or refused by the server
    ask("GET", t)
    ask("GET", t + "/t", headers={"Cache-Control": "no-cache"})
    ask("PUT", t + "/t", {"image": "node:22", "cpu_cores": 1, "ttl_seconds": 600})
    for body in (None, {"ttl": "10m"}):
        made = ask("POST", t + "/t/spawn", body, 201).json
        ask("DELETE", f"{API}/sandboxes/{made['id']}")
    ask("DELETE", t + "/t")
    for method, rest, body in (("GET", "", None), ("DELETE", "", None), ("PUT", "", {"image": "i"}), ("POST", "/spawn", {})):
        refused(method, t + "/t" + rest, body, 404)
    refused("POST", t, {"image": "i"}, 500)
    refused("POST", t, {"name": "x", "image": 1})


def test_system():
    for path in ("/health", "/live", "/ready", "/pool/status", "/providers", "/snapshots", "/system/stats", "/quotas/summary"):
        ask("GET", API + path)
    for path in ("/quotas/alice", "/quotas/alice/usage"):  # the embedded server keeps no quotas
        ask("GET", API + path, status=404)


def note_events(name, cause):
    """The first events of a stream, as far as they came."""
    connection = sg.UnixConnection(socket_of(name))
    connection.request("GET", API + "/events")
    r = connection.getresponse()
    text = b""
    with cause:
        while b"data:" not in text or not text.endswith(b"\n\n"):
            text += r.readline()
    caller(name).note("GET", API + "/events", sg.Answer(r.status, r.headers, text))
    connection.close()


def test_events():
    """The embedded server's, of a sandbox that is made."""
    note_events("alice", Sandbox())


# --- what the gateway adds; a build without one of these says so loudly ---------------------------------------------------------


def need(method, path):
    """Ends the test as skipped in a build whose gateway has no such route."""
    answer = sg.request(socket_of("operator"), method, OWN + path, {} if method == "POST" else None)
    if answer.status == 404 and openapi_check.NO_ROUTE.encode() in answer.body:
        raise sg.Skip(f"{method} {OWN}{path} is described and not served by this build")


def test_run():
    need("POST", "/run")
    body = {"image": "node:20", "command": "cat /workspace/in; exit 3", "files": [{"path": "/workspace/in", "content": "aGk=", "encoding": "base64"}]}
    done = ask("POST", OWN + "/run", body).json
    assert (done["exit_code"], done["stdout"]) == (3, "hi"), done
    answer = ask("POST", OWN + "/run", {**body, "stream": True})
    assert answer.headers["Content-Type"] == "application/x-ndjson", answer.headers
    last = json.loads(answer.body.strip().split(b"\n")[-1])
    assert last["exit_code"] == 3 and "duration" in last, answer.body
    refused("POST", OWN + "/run", {"command": 1})
    refused("POST", OWN + "/run", {"command": "true"}, 502, "dead")
    assert ask("GET", API + "/sandboxes").json == []


def test_preview():
    need("GET", f"/sandboxes/{NEVER}/preview/3000")
    with Sandbox() as s:
        url = OWN + "/sandboxes/" + s.rpartition("/")[2] + "/preview/3000"
        assert re.match("http://3000-sb-[0-9a-f]{8}\\.", ask("GET", url).json["url"])
        text = ask("GET", url, headers={"Accept": "text/plain", "Cache-Control": "no-cache"})
        assert text.headers["Content-Type"].startswith("text/plain"), text.headers
        refused("GET", url, status=404, name="bob")
        refused("GET", url.replace("3000", "70000"))


def test_leases():
    need("GET", "/leases")
    made = ask("POST", API + "/sandboxes", {}, 201, headers={"Stacygate-Lease": "90s"}).json
    lease = f"{OWN}/leases/{made['id']}"
    assert [entry["sandbox"] for entry in ask("GET", OWN + "/leases").json] == [made["id"]]
    assert ask("PUT", lease, {"lease": "120s"}).json["kind"] == "clock"
    ask("PUT", lease)
    refused("PUT", lease, {"lease": "soon"})
    ask("DELETE", lease)
    refused("PUT", f"{OWN}/leases/{NEVER}", status=404)
    ask("DELETE", f"{API}/sandboxes/{made['id']}")


def test_cache():
    need("DELETE", "/cache")
    ask("DELETE", OWN + "/cache", name="operator")
    refused("DELETE", OWN + "/cache", status=403)


def test_operating():
    assert ask("GET", OWN + "/", name="operator").body.startswith(b"<!DOCTYPE html>")
    refused("GET", OWN + "/", status=403)
    text = ask("GET", OWN + "/metrics", name="watcher")
    assert text.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8", text.headers
    assert b"\nstacygate_requests_total{" in text.body and text.body.endswith(b"\n")
    refused("GET", OWN + "/metrics", status=403)
    before = ask("POST", OWN + "/reload", name="operator").json["generation"]
    assert ask("POST", OWN + "/reload", name="operator").json["generation"] == before + 1
    refused("POST", OWN + "/reload", status=403)
    path = G.argv[-1]
    with open(path, encoding="utf-8") as f:
        good = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write(good.rstrip("}\n") + ',\n "oops": 1}\n')
    assert f"{path}:" in refused("POST", OWN + "/reload", status=400, name="operator")["message"]
    with open(path, "w", encoding="utf-8") as f:
        f.write(good)
    assert ask("PUT", OWN + "/log", {"level": "debug"}, name="operator").json == {"level": "debug"}
    refused("PUT", OWN + "/log", {"level": "loud"}, name="operator")
    refused("PUT", OWN + "/log", {"level": "info"}, 403)
    refused("PUT", OWN + "/log", {"level": "x" * (3 << 20)}, 413, "operator")


# --- all operations at once -----------------------------------------------------------------------------------------------------


# A sound value for each parameter of a path, and a sound body for each operation that needs one.
VALUES = {"id": NEVER, "name": "none", "owner": "nobody", "worker": "w", "lease": "r", "tenant": "t", "user": "u", "policy": "p", "port": "3000"}
BODIES = {"spawn": {}, "admission": {}, "extend": {"ttl": "1m"}, "exec": {"command": "true"}, "run": {"command": "true"}, "writeFile": {"path": "/x", "content": ""},
          "moveFile": {"old_path": "/x", "new_path": "/y"}, "chmodFile": {"path": "/x", "mode": "644"}, "saveTemplate": {"name": "n", "image": "i"},
          "replaceTemplate": {"image": "i"}, "putQuota": {"max_sandboxes": 1}, "adminPutQuota": {"max_sandboxes": 1}, "patchConfig": {},
          "createEnvironmentSpec": {"owner_id": "o", "name": "n", "base_image": "i"}, "createEnvironmentBuild": {"spec_id": "s", "targets": ["local"]},
          "createRegistryConnection": {"owner_id": "o", "provider": "ghcr", "username": "u", "secret_ref": "r"}, "adminWorkerHeartbeat": {"hostname": "h"},
          "adminRenewWorkerLease": {"ttl": "30s"}, "createTenant": {"name": "n"}, "putTenant": {"name": "n"}, "putMember": {"role": "viewer"},
          "createPolicy": {"resource_type": "image", "effect": "deny", "pattern": "x"}, "createWorkerToken": {"worker_id": "w"}, "putLogLevel": {"level": "info"}}


def sample(method, path):
    """A sound request for an operation: target and body."""
    document = caller("alice").document
    target = re.sub(r"{(\w+)}", lambda m: VALUES[m.group(1)], path)
    needed = {name: "/x" for (where, name), p in document.parameters(method, path).items() if where == "query" and p.get("required")}
    op = operations()[method, path]
    body = BODIES[op["operationId"]] if op.get("requestBody", {}).get("required") else None
    return target + ("?" + urllib.parse.urlencode(needed) if needed else ""), body


def fitting(method, path):
    """The target of the documented server's example for an operation; None without one."""
    return next((API + p for m, p in openapi_server.EXAMPLES if m == method and "?" not in p and caller("other").document.find(m, API + p) == path), None)


def test_a_server_as_it_is_documented():
    """Each example of the API's documentation is as described; so is the refusal of a server that does not take the key."""
    tried = set()
    for method, path in operations():
        if not path.startswith(API):
            continue
        target, body = sample(method, path)
        example = fitting(method, path)
        query = target.partition("?")[2]
        if path == API + "/events":  # it has no end
            note_events("other", contextlib.nullcontext())
            tried.add((method, "/events"))
            continue
        status = openapi_server.EXAMPLES[method, example[len(API):]][0] if example else 401
        ask(method, (example or target) + (f"?{query}" if query else ""), body, status, "other")
        tried.add((method, example and example[len(API):]))
    assert ask("GET", API + "/admin/audit?format=csv", name="other").headers["Content-Type"].startswith("text/csv")
    assert set(openapi_server.EXAMPLES) - tried == {("GET", "/admin/audit?format=csv")}


def test_answers_otherwise_than_described_are_found():
    """The check itself: a field of another type, a missing one, one more, an unknown status, content type or header."""
    document, target = caller("alice").document, f"{API}/sandboxes/sb-0000000a"
    good = openapi_server.SANDBOX
    kind = {"Content-Type": "application/json"}
    document.check_answer("GET", target, 200, kind, json.dumps(good).encode())
    for status, headers, value in ((200, kind, {**good, "vcpus": "1"}), (200, kind, {k: v for k, v in good.items() if k != "id"}), (200, kind, {**good, "x": 1}),
                                   (202, kind, good), (200, {"Content-Type": "text/html"}, good), (200, {**kind, "Stacygate-Error": "X"}, good),
                                   (200, kind, {**good, "created_at": "yesterday"}), (404, kind, good)):
        try:
            document.check_answer("GET", target, status, headers, json.dumps(value).encode())
        except AssertionError:
            continue
        raise RuntimeError(f"was taken: {status} {headers} {value}")
    for target, body, headers in ((target + "?x=1", None, {}), (target, {}, {}), (target, None, {"Stacygate-Lease": "90s"}), (API + "/nothing", None, {})):
        try:
            document.check_request("GET", target, body, headers)
        except AssertionError:
            continue
        raise RuntimeError(f"was taken: {target} {body} {headers}")


def test_regress_a_post_without_a_body():
    """Content-Length: 0, as many clients say it, is no JSON that could be malformed."""
    for path in ("/environments/builds/b/cancel", "/providers/test"):
        answer = sg.request(socket_of("other"), "POST", API + path, b"")
        assert answer.status == openapi_server.EXAMPLES["POST", path][0] and "Stacygate-Error" not in answer.headers, (path, answer.status, answer.body)


def test_what_is_not_allowed_is_refused_as_described():
    """Every operation whose class alice's rule does not have is 403 to her, and the message names that class."""
    allowed = {*RULES["alice"]["allow"], "own"}
    tried = 0
    for (method, path), op in operations().items():
        wanted = op["x-stacygate-class"]
        if wanted in allowed:
            continue
        target, body = sample(method, path)
        fault = caller("alice").ask(method, target, body, status=403)
        text = fault.json["message"]
        assert wanted in text or wanted == "operate" and "admin" in text, (method, path, text)
        tried += 1
    assert tried > 50, tried


def test_a_server_that_is_not_there():
    """Every operation that needs the server is 502 or, after some failures in a row, still that, as described."""
    for method, path in operations():
        if path.startswith(API):
            target, body = sample(method, path)
            fault = caller("dead").ask(method, target, body)
            assert fault.status == 502 and fault.headers["Stacygate-Error"] == "CONNECTION_ERROR", (method, path, fault.status, fault.body)
    ask("GET", OWN + "/ready", status=503)
    assert ask("GET", OWN + "/health").json["status"] == "degraded"


def test_an_operator_asks_everything():
    """Every operation answers as described also where the embedded server has no such route, or no such thing."""
    document = caller("operator").document
    for (method, path), op in document.operations.items():
        if path.startswith(API) and op["operationId"] not in ("events", "spawn", "saveTemplate"):  # those have tests of their own
            target, body = sample(method, path)
            caller("operator").ask(method, target, body)


# What the embedded server does not have, or only for who upgrades; and one of the servers here is away.
NOT_EMBEDDED = {"events", "execWebSocket", "gatewayReady"}


def every_operation_was_asked():
    """Each one had an answer that is no refusal of the gateway; what an ordinary caller may ask, also a success from the embedded
    server, asked by such a caller."""
    ordinary = {*RULES["alice"]["allow"], "own"}
    left = []
    for (method, path), op in operations().items():
        needs_success = op["x-stacygate-class"] in ordinary and op["operationId"] not in NOT_EMBEDDED
        seen = {s for name, c in CALLERS.items() for s in c.asked.get((method, path), ()) if name in ("alice", "bob") or not needs_success}
        if not (any(s < 400 for s in seen) if needs_success else seen - {403, 502}):
            left.append(f"{method} {path}")
    assert not left, left


def stop_leaves_nothing():
    left = G.stop()
    assert not left, left
    assert "SEKRET" not in G.log()


def main():
    global G
    G = sg.Gateway("", tempfile.mkdtemp(prefix="sg-e2e.", dir="/tmp"))
    with open(G.argv[-1], "w", encoding="utf-8") as f:
        f.write(config())
    tests = dict(globals())
    if len(sys.argv) < 2:
        tests["test_every_operation_was_asked"] = every_operation_was_asked
    try:
        G.start()
        return sg.main(tests, stop_leaves_nothing)
    finally:
        G.remove()


if __name__ == "__main__":
    sg.need_user_namespaces()
    sys.exit(main())
