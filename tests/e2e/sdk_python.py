# SPDX-License-Identifier: Apache-2.0
"""The published Python SDK, through the loopback TCP listener to the embedded server, under isolation: every public method of
every class of the package, of the plain and of the asynchronous client. The SDK holds no key; what it makes up reaches no server."""
import asyncio
import datetime
import functools
import http.server
import importlib
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
import threading
import time
import types

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import environment  # noqa: E402
import sg  # noqa: E402

# What was published when this was written and works; httpx decides what goes over the wire.
PACKAGES = ["stacyvm==0.1.1", "httpx==0.28.1"]
KEY, DUMMY = "SEKRET-sdk-key", "dummy-key-of-the-sdk"
SRC = os.environ.get("SG_SRCDIR", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
PORTS = {}  # listener -> port
G = None  # the gateway
RECORDER = None
DONE = set()  # "Class.method" that came to its end at least once


# --- the package ------------------------------------------------------------------------------------------------------


def classes_of_the_package():
    """Every class the package defines that has methods to call, exceptions aside."""
    import stacyvm
    found = {}
    for module in pkgutil.iter_modules(stacyvm.__path__, "stacyvm."):
        for name, c in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if c.__module__.startswith("stacyvm.") and not issubclass(c, Exception) and public_names(c):
                found[name] = c
    return found


def public_names(c):
    """Methods and properties, and what makes a context manager; none of a data class."""
    managers = ("__enter__", "__exit__", "__aenter__", "__aexit__", "__repr__")
    return [name for name, value in vars(c).items()
            if (inspect.isfunction(value) or isinstance(value, property)) and (name in managers or not name.startswith("_"))
            and "__dataclass_fields__" not in vars(c)]


def watched(label, function):
    """The function, noting when it has come to its end: its value, the end of its coroutine, or of its generator."""
    if inspect.isasyncgenfunction(function):
        async def wrapper(*args, **kwargs):
            async for item in function(*args, **kwargs):
                yield item
            DONE.add(label)
    elif inspect.iscoroutinefunction(function):
        async def wrapper(*args, **kwargs):
            value = await function(*args, **kwargs)
            DONE.add(label)
            return value
    elif inspect.isgeneratorfunction(function):
        def wrapper(*args, **kwargs):
            yield from function(*args, **kwargs)
            DONE.add(label)
    else:
        def wrapper(*args, **kwargs):
            value = function(*args, **kwargs)
            DONE.add(label)
            return value
    return functools.wraps(function)(wrapper)


def watch():
    for class_name, c in classes_of_the_package().items():
        for name in public_names(c):
            value, label = vars(c)[name], f"{class_name}.{name}"
            setattr(c, name, property(watched(label, value.fget)) if isinstance(value, property) else watched(label, value))


# --- one form for both clients ----------------------------------------------------------------------------------------------


class Blocking:
    """An object of the asynchronous client, used as if it were the plain one, so that one check serves both."""

    def __init__(self, inner, loop):
        self.__dict__.update(inner=inner, loop=loop)

    def settle(self, value):
        if inspect.isawaitable(value):
            return self.settle(self.loop.run_until_complete(value))
        if isinstance(value, types.AsyncGeneratorType):
            return self.items(value)
        return Blocking(value, self.loop) if type(value).__name__.startswith("Async") else value

    def items(self, generator):
        try:
            while True:
                yield self.loop.run_until_complete(generator.__anext__())
        except StopAsyncIteration:
            pass
        finally:
            self.loop.run_until_complete(generator.aclose())

    def __getattr__(self, name):
        value = getattr(self.inner, name)
        if not inspect.ismethod(value):
            return value
        return lambda *args, **kwargs: self.settle(value(*args, **kwargs))

    def __enter__(self):
        return self.settle(self.inner.__aenter__())

    def __exit__(self, *args):
        self.settle(self.inner.__aexit__(*args))

    def __repr__(self):
        return repr(self.inner)


class Kind:
    """How to get a client of one of the two kinds."""

    def __init__(self, name):
        self.name = name
        self.loop = asyncio.new_event_loop() if name == "AsyncClient" else None

    def client(self, listener="sdk", host="localhost", **options):
        import stacyvm
        made = getattr(stacyvm, self.name)(f"http://{host}:{PORTS[listener]}", **options)
        return Blocking(made, self.loop) if self.loop else made

    def saved_template(self, **fields):
        """AsyncClient has no templates; what it spawns from is saved by the other one."""
        import stacyvm
        with stacyvm.Client(f"http://localhost:{PORTS['sdk']}") as client:
            return client.templates.save(stacyvm.Template(**fields))


def raises(kind, call, text="", code=None):
    try:
        value = call()
        value = list(value) if isinstance(value, types.GeneratorType) else value
    except kind as e:
        assert type(e) is kind and text in str(e), repr(e)
        assert code is None or e.code == code, (e.code, str(e))
        return e
    raise AssertionError(f"{kind.__name__} expected, came {value!r}")


def seconds(sandbox, key="expires_at"):
    text = re.sub(r"\.\d+", "", sandbox._info[key])
    assert text.endswith("Z"), text
    return datetime.datetime.fromisoformat(text[:-1] + "+00:00").timestamp()


# --- the checks, each for both clients -------------------------------------------------------------------------------------------


def check_how_the_server_is(kind):
    with kind.client() as c:
        health = c.health()
        assert health["status"] == "ok" and health["version"] and health["uptime"], health
        assert [(p["name"], p["healthy"], p["default"]) for p in c.providers()] == [("local", True, True)]
        assert c.pool_status() == {"enabled": False}
        assert vars(c.quota_summary()) == {"total": 0, "with_max_sandboxes": 0, "with_max_ttl": 0, "with_max_exec_timeout": 0}
    for host in ("127.0.0.1", *(["[::1]"] if sg.has_ipv6() else [])):
        with kind.client(host=host) as c:
            assert c.health()["status"] == "ok", host


def check_spawn(kind):
    with kind.client() as c:
        plain = c.spawn()
        assert re.fullmatch("sb-[0-9a-f]{8}", plain.id) and (plain.state, plain.provider, plain.image) == ("running", "local", "alpine:latest")
        assert (plain._info["memory_mb"], plain._info["vcpus"]) == (1024, 1) and abs(seconds(plain) - seconds(plain, "created_at") - 1800) < 2
        assert repr(plain) == f"{kind.name.replace('Client', '')}Sandbox(id={plain.id!r}, state='running')"
        full = c.spawn(image="python:3.12", provider="local", memory_mb=512, vcpus=2, ttl="5m", owner_id="mallory", metadata={"job": "h\u00e9"})
        shown = full._info
        assert (full.image, full.provider, shown["memory_mb"], shown["vcpus"]) == ("python:3.12", "local", 512, 2), shown
        assert abs(seconds(full) - seconds(full, "created_at") - 300) < 2
        assert shown["owner_id"] == "sdk@test" and shown["metadata"]["job"] == "h\u00e9" and shown["metadata"]["stacygate.owner"] == "sdk@test", shown
        for sandbox in (plain, full):
            sandbox.destroy()


def check_spawn_refused(kind):
    import stacyvm
    with kind.client() as c:
        raises(stacyvm.SandboxNotFound, lambda: c.spawn(provider="nope"), "nope", "NOT_FOUND")
        raises(stacyvm.ProviderError, lambda: c.spawn(ttl="soon"), "soon", "INTERNAL_ERROR")
        raises(stacyvm.StacyVMError, lambda: c.spawn(metadata={"stacygate.owner": "mallory"}), "stacygate.", "BAD_REQUEST")
        assert c.list() == []


def check_admission(kind):
    with kind.client() as c:
        decision = c.admission()
        assert (decision.allowed, decision.queueable) == (True, False), decision
        with c.spawn():
            decision = c.admission(image="python:3.12", provider="local", memory_mb=512, vcpus=2, ttl="5m", owner_id="mallory", metadata={"a": "b"})
            assert decision.allowed and decision.active_sandboxes >= 1 and decision.active_owner_sandboxes == 1, decision


def check_get_and_list(kind):
    import stacyvm
    others = G.spawn()
    with kind.client() as c, c.spawn(metadata={"a": "b"}) as mine:
        listed = c.list()
        assert [s.id for s in listed] == [mine.id], listed
        assert (listed[0].state, listed[0].provider, listed[0].image, listed[0].metadata["a"]) == ("running", "local", "alpine:latest", "b"), listed
        again = c.get(mine.id)
        assert again.id == mine.id and again.exec("echo again").stdout == "again\n"
        for unknown in (others, "sb-00000000"):
            e = raises(stacyvm.SandboxNotFound, lambda: c.get(unknown), unknown, "NOT_FOUND")
            assert e.sandbox_id == f"sandbox not found: {unknown}"
        assert set(G.sandboxes()) >= {others, mine.id}
    assert G.request("DELETE", "/api/v1/sandboxes/" + others).status == 200


def check_a_block_destroys(kind):
    import stacyvm
    with kind.client() as c:
        try:
            with c.spawn() as sandbox:
                raise KeyError("mine")
        except KeyError:
            pass
        raises(stacyvm.SandboxNotFound, lambda: c.get(sandbox.id), sandbox.id)


def check_exec(kind):
    import stacyvm
    with kind.client() as c, c.spawn() as s:
        done = s.exec("echo hi; echo err >&2; exit 3")
        assert (done.exit_code, done.stdout, done.stderr) == (3, "hi\n", "err\n") and re.fullmatch(r"[0-9.]+(ns|\u00b5s|ms|s)", done.duration), done
        done = s.exec("printf '%s|'", args=["a b", "it's", "$HOME"], mode="shell", env={"GREETING": "h\u00e9"}, workdir="/tmp", timeout="20s")
        assert done.stdout == "a b|it's|$HOME|", done
        assert s.exec("printf", args=["%s|", "a b", "$HOME"], mode="argv").stdout == "a b|$HOME|"
        assert s.exec("echo $GREETING; pwd", env={"GREETING": "h\u00e9"}, workdir="/tmp").stdout == "h\u00e9\n/tmp\n"
        began = time.monotonic()
        raises(stacyvm.StacyVMError, lambda: s.exec("sleep 60", timeout="200ms"), s.id, "TIMEOUT")
        assert time.monotonic() - began < 20
        assert s.exec("head -c 3000000 /dev/zero | tr '\\0' x").stdout == "x" * 3000000


def check_exec_stream(kind):
    import httpx
    with kind.client() as c, c.spawn() as s:
        chunks = []
        command = "echo first; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo $WORD >&2; pwd; printf '%s|'"
        for chunk in s.exec_stream(command, args=["a b"], mode="shell", env={"WORD": "second"}, workdir="/tmp"):
            if not chunks:  # the rest cannot come before this has been seen here
                s.write_file("/tmp/go", "")
            chunks.append((chunk.stream, chunk.data))
        out, err = ("".join(data for stream, data in chunks if stream == wanted) for wanted in ("stdout", "stderr"))
        assert chunks[0] == ("stdout", "first\n") and (out, err) == ("first\n/tmp\na b|", "second\n"), chunks
        # httpx ends lines at these as well: they must not cut a record in two.
        odd = "\u0085 \u2028 \u2029 \x0b \x0c \x1c h\u00e9"
        assert "".join(chunk.data for chunk in s.exec_stream("printf %s", args=[odd])) == odd
        chunks = s.exec_stream("echo $$ >/tmp/pid; echo on; exec sleep 600")
        assert next(chunks).data == "on\n"
        chunks.close()
        sg.wait_until(lambda: s.exec("kill -0 $(cat /tmp/pid) 2>/dev/null || echo gone").stdout == "gone\n", "the command ends when its stream is left")
        # The SDK reads the body of a refusal too late; that is its own fault, and what its users see of any error here.
        raises(httpx.ResponseNotRead, lambda: s.exec_stream("true", workdir="/none"))


def check_files(kind):
    import stacyvm
    with kind.client() as c, c.spawn() as s:
        s.write_file("/app/run.sh", "#!/bin/sh\necho it runs\n", mode="755")
        assert s.exec("/app/run.sh").stdout == "it runs\n"
        s.write_file("/app/src/h\u00e9 l~l*o.py", "h\u00e9llo\n\U0001f600 \r\n")
        s.write_file("/app/src/deep/er.py", "")
        assert s.read_file("/app/src/h\u00e9 l~l*o.py") == "h\u00e9llo\n\U0001f600 \r\n"
        listed = s.list_files("/app")
        assert [(f["name"], f["path"], f["is_dir"]) for f in listed] == [("run.sh", "/app/run.sh", False), ("src", "/app/src", True)], listed
        assert set(listed[0]) >= {"size", "mode", "mod_time"} and "app" in [f["name"] for f in s.list_files()]
        assert sorted(s.glob_files("/app/**/*.py")) == ["/app/src/deep/er.py", "/app/src/h\u00e9 l~l*o.py"]
        stat = s.stat_file("/app/run.sh")
        assert (int(stat["mode"], 8), stat["size"], stat["is_dir"]) == (0o755, 23, False), stat
        s.move_file("/app/run.sh", "/app/go.sh")
        s.chmod_file("/app/go.sh", "600")
        assert int(s.stat_file("/app/go.sh")["mode"], 8) == 0o600
        s.delete_file("/app/go.sh")
        raises(stacyvm.ProviderError, lambda: s.delete_file("/app/src"), "", "INTERNAL_ERROR")
        s.delete_file("/app/src", recursive=True)
        assert s.list_files("/app") == []
        raises(stacyvm.ProviderError, lambda: s.read_file("/app/go.sh"), "no such file", "INTERNAL_ERROR")
        big = "\u00e9\n" * 300000
        s.write_file("/tmp/big", big)
        assert s.read_file("/tmp/big") == big


def check_life(kind):
    import stacyvm
    with kind.client() as c:
        s = c.spawn(ttl="1m")
        for ttl, wanted in ((None, 1800), ("1h", 3600), ("90s", 90)):
            s.extend_ttl(**({"ttl": ttl} if ttl else {}))
            assert abs(seconds(s) - time.time() - wanted) < 5, (ttl, s._info)
        s.refresh()
        assert s.state == "running"
        assert s.get_preview_url(3000) == f"http://3000-{s.id}.localhost"
        s.destroy()
        s.destroy()
        for call in (s.refresh, s.extend_ttl, lambda: s.exec("true"), lambda: s.read_file("/x"), lambda: c.get(s.id)):
            raises(stacyvm.SandboxNotFound, call, s.id)
        short = c.spawn(ttl="100ms")
        sg.wait_until(lambda: c.list() == [], "a sandbox ends by itself")
        raises(stacyvm.SandboxNotFound, short.refresh, short.id)


def check_prune(kind):
    others = G.spawn(ttl="5m")
    with kind.client() as c, c.spawn() as lasting:
        c.spawn(ttl="1ms")
        pruned = []

        def gone():
            pruned.append(c.prune())
            return [s.id for s in c.list()] == [lasting.id]
        sg.wait_until(gone, "what has expired is gone")
        assert sum(pruned) in (0, 1), pruned  # the server destroys it as well
        assert c.prune() == 0
    assert others in G.sandboxes()
    assert G.request("DELETE", "/api/v1/sandboxes/" + others).status == 200


def check_spawn_from_a_template(kind):
    import stacyvm
    name = "from-" + kind.name
    kind.saved_template(name=name, image="node:20", memory_mb=256, vcpus=2, ttl="10m", metadata={"team": "x"})
    with kind.client() as c:
        for made in (c.spawn_template(name), c.spawn(template=name)):
            shown = made._info
            assert (made.image, shown["memory_mb"], shown["vcpus"], shown["owner_id"]) == ("node:20", 256, 2, "sdk@test"), shown
            assert abs(seconds(made) - seconds(made, "created_at") - 600) < 2 and shown["metadata"]["team"] == "x", shown
            assert made.exec("echo mine").stdout == "mine\n"
            made.destroy()
        with c.spawn(template=name, image="python:3.12", memory_mb=512, ttl="5m") as made:
            assert (made.image, made._info["memory_mb"]) == ("python:3.12", 512) and abs(seconds(made) - seconds(made, "created_at") - 300) < 2
        for call in (lambda: c.spawn_template("nope"), lambda: c.spawn(template="nope")):
            raises(stacyvm.SandboxNotFound, call, "nope", "NOT_FOUND")


def check_errors_of_the_gateway(kind):
    """No upstream, no connection, and an id in the path that is none."""
    import httpx
    import stacyvm
    with kind.client("dead") as c:
        for call in (c.health, c.list, c.spawn, lambda: c.get("sb-00000000")):
            raises(stacyvm.ProviderError, call, "", "CONNECTION_ERROR")
    with kind.client("nobody") as c:
        raises(stacyvm.ConnectionError, c.spawn, "Cannot connect")
        raises(stacyvm.ConnectionError, lambda: c.spawn_template("x"), "Cannot connect")
        raises(httpx.ConnectError, c.health)
    with kind.client() as c:
        raises(stacyvm.SandboxNotFound, lambda: c.get("no such"), "", "NOT_FOUND")
        raises(stacyvm.StacyVMError, lambda: c.get("a%2fb"), "", "BAD_REQUEST")
    with kind.client(host="127.0.0.2", timeout=5) as c:
        raises(httpx.ConnectError, c.health)


def check_what_the_sdk_makes_up_reaches_no_server(kind):
    """A key and a user id given to the SDK: the server of one listener refuses any key but its own, that of the other tells
    what it was sent."""
    with kind.client(api_key=DUMMY, user_id="mallory") as c, c.spawn(owner_id="mallory") as s:
        assert s._info["owner_id"] == "sdk@test" and s.exec("echo works").stdout == "works\n"
    before = len(RECORDER.seen)
    with kind.client("recorded", api_key=DUMMY, user_id="mallory") as c:
        assert c.list() == []
        assert c.spawn(owner_id="mallory", image="x").id == "sb-0000000a"
    seen = [request for request in RECORDER.seen[before:] if "sandboxes" in request["path"]]
    assert [r["method"] for r in seen] == ["GET", "POST"], seen
    for request in seen:
        headers = request["headers"]
        assert headers.get_all("X-API-Key") == [KEY] and headers.get_all("X-User-ID") == ["recorded@test"], headers
        assert DUMMY not in str(headers) + request["body"] and "mallory" not in str(headers) + request["body"], request


CHECKS = {name: value for name, value in list(globals().items()) if name.startswith("check_")}


# --- what only one of them has ---------------------------------------------------------------------------------------------


def test_templates():
    import stacyvm
    with Kind("Client").client() as c:
        wanted = stacyvm.Template(name="t", image="node:20", memory_mb=256, vcpus=2, ttl="1h", metadata={"a": "b"})
        for answer in (c.templates.save(wanted), c.templates.get("t"), *(t for t in c.templates.list() if t.name == "t")):
            assert (answer.name, answer.image, answer.memory_mb, answer.vcpus, answer.metadata) == ("t", "node:20", 256, 2, {"a": "b"}), answer
            assert answer.ttl in ("1h", "1h0m0s"), answer
        c.templates.delete("t")
        raises(stacyvm.SandboxNotFound, lambda: c.templates.get("t"), "t", "NOT_FOUND")
        assert "t" not in [t.name for t in c.templates.list()]
        raises(stacyvm.ProviderError, lambda: c.templates.save(stacyvm.Template(name="", image="x")), "name", "INTERNAL_ERROR")


def test_provider_manager():
    """It is in the package, though no client leads to it. The test of all providers is a route for administrators."""
    import stacyvm
    from stacyvm.providers import ProviderManager
    with Kind("Client").client() as c:
        assert [p["name"] for p in ProviderManager(c._http).list()] == ["local"]
        raises(stacyvm.StacyVMError, ProviderManager(c._http).test, "admin", "FORBIDDEN")
    with Kind("Client").client("admin") as c:
        assert ProviderManager(c._http).test() == {"local": True}


def test_the_readmes_example():
    with open(os.path.join(SRC, "README.md"), encoding="utf-8") as f:
        examples = re.findall(r"^```python\n(.*?)^```$", f.read(), re.S | re.M)
    assert len(examples) == 1 and ":7423" in examples[0], examples
    done = subprocess.run([sys.executable, "-c", examples[0].replace(":7423", f":{PORTS['sdk']}")], capture_output=True, text=True)
    assert done.stdout == "no key here\n\n", done.stdout + done.stderr


def test_many_at_once():
    import stacyvm

    async def all_of_them():
        async with stacyvm.AsyncClient(f"http://localhost:{PORTS['sdk']}") as c:
            async with await c.spawn() as s:
                return await asyncio.gather(*(s.exec(f"echo {n}") for n in range(50)))
    assert [done.stdout for done in asyncio.run(all_of_them())] == [f"{n}\n" for n in range(50)]


def test_close():
    for kind in (Kind("Client"), Kind("AsyncClient")):
        c = kind.client()
        c.close()
        raises(RuntimeError, c.health)


def every_method_was_tried():
    every = {f"{name}.{method}" for name, c in classes_of_the_package().items() for method in public_names(c)}
    assert {"Client.spawn", "AsyncClient.spawn", "Sandbox.exec_stream", "AsyncSandbox.exec_stream", "TemplateManager.save"} <= every, every
    assert every <= DONE, f"never tried to its end: {sorted(every - DONE)}"


# --- the setting --------------------------------------------------------------------------------------------------------------


class Recorder(http.server.ThreadingHTTPServer):
    """A server that remembers what it was sent."""
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Recording)
        self.seen = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Recording(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append({"method": self.command, "path": self.path, "headers": self.headers, "body": body.decode()})
        made = self.command == "POST"
        text = b'{"id":"sb-0000000a","state":"running"}' if made else b"[]"
        self.send_response(201 if made else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *_):
        pass


def config():
    PORTS.update(zip(("sdk", "admin", "recorded", "dead", "nobody"), sg.free_ports(5)))
    here = {"upstream": "here", "user_id": "sdk@test", "allow": ["sandboxes", "templates:read", "templates:write", "system", "prune"], "isolation": "owner"}
    rules = {"sdk": here, "admin": {"upstream": "here", "user_id": "admin@test", "admin": True},
             "recorded": {"upstream": "recorder", "credential": "team", "user_id": "recorded@test", "isolation": "none"},
             "dead": {"upstream": "dead", "credential": "team", "user_id": "dead@test", "isolation": "none"},
             "own": {"upstream": "here", "user_id": "own@test", "allow": ["all"], "isolation": "none"}}
    key = os.path.join(G.dir, "key")
    with open(os.open(key, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as f:
        f.write(KEY + "\n")
    return json.dumps({  # YAML as well
        "listen": [{"path": G.socket, "name": "own"}, *({"tcp": f"127.0.0.1:{PORTS[n]}", "name": n} for n in rules if n != "own")],
        "upstreams": {"here": {"url": "local"}, "recorder": {"url": f"http://127.0.0.1:{RECORDER.server_address[1]}"},
                      "dead": {"url": f"unix://{G.dir}/nobody.sock"}},
        "credentials": {"team": {"api_key": {"file": key}}},
        "clients": [{"name": n, "match": {"listener": n}, **rule} for n, rule in rules.items()]}, indent=1)


def stop_leaves_nothing():
    assert G.sandboxes() == [], "a check left its sandbox"
    left = G.stop()
    assert not left, left
    assert DUMMY not in G.log() and KEY not in G.log()


def main():
    global G, RECORDER
    RECORDER = Recorder()
    G = sg.Gateway("")
    with open(G.argv[-1], "w", encoding="ascii") as f:
        f.write(config())
    tests = {f"test_{kind}_{name[len('check_'):]}": functools.partial(check, Kind(kind)) for kind in ("Client", "AsyncClient") for name, check in CHECKS.items()}
    tests.update((name, value) for name, value in globals().items() if name.startswith("test_"))
    watch()
    if len(sys.argv) < 2:
        tests["test_every_method_was_tried"] = every_method_was_tried
    try:
        G.start()
        return sg.main(tests, stop_leaves_nothing)
    finally:
        G.remove()


if __name__ == "__main__":
    sg.need_user_namespaces()
    environment.enter("sdk-python", PACKAGES, "stacyvm")
    sys.exit(main())
