# SPDX-License-Identifier: Apache-2.0
"""Every promise of the SDK, kept over the socket of a gateway without configuration, asked with curl as a user would."""
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.parse

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sg  # noqa: E402

DURATION = re.compile(r"^(\d+h)?(\d+m)?(\d+(\.\d+)?(ns|\u00b5s|ms|s))?$")
API = "http://localhost/api/v1"
OWN = "http://localhost/gateway/v1"
G = None  # the gateway, one for all tests


def curl_argv(*words):
    return ["curl", "-sS", "--max-time", "60", "--unix-socket", G.socket, *words]


def curl(method, path, body=None, *words):
    """Runs curl; the answer as sg.Answer, its headers as a lower-case dictionary."""
    with tempfile.TemporaryDirectory(prefix="sg-curl.") as folder:
        heads, out = os.path.join(folder, "h"), os.path.join(folder, "b")
        argv = curl_argv("-X", method, "-D", heads, "-o", out, "-w", "%{http_code}", *words)
        if body is not None:
            argv += ["-d", json.dumps(body)]
        done = subprocess.run([*argv, path if path.startswith("http") else API + path], capture_output=True, text=True)
        assert done.returncode == 0, (path, done.returncode, done.stderr)
        with open(heads, encoding="latin-1") as f:
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in f.read().splitlines()[1:])}
        data = b""
        if os.path.exists(out):
            with open(out, "rb") as f:
                data = f.read()
    return sg.Answer(int(done.stdout), headers, data)


def ok(answer, status=200):
    assert answer.status == status, (answer.status, answer.body)
    assert answer.headers["content-type"] == "application/json", answer.headers
    return answer.json


def refused(answer, status, code, text=""):
    fault = answer.json
    assert (answer.status, fault["code"]) == (status, code) and text in fault["message"], (answer.status, answer.body)
    assert set(fault) == {"code", "message"}, fault
    return fault


def spawn(**fields):
    return ok(curl("POST", "/sandboxes", fields), 201)


def run(sandbox, command, **fields):
    return ok(curl("POST", f"/sandboxes/{sandbox}/exec", {"command": command, **fields}))


def write(sandbox, path, content, **fields):
    assert ok(curl("POST", f"/sandboxes/{sandbox}/files", {"path": path, "content": content, **fields})) == {"status": "written"}


def query(sandbox, tail, **values):
    return curl("GET", f"/sandboxes/{sandbox}/files{tail}?" + urllib.parse.urlencode(values))


def destroy(sandbox):
    assert ok(curl("DELETE", f"/sandboxes/{sandbox}")) == {"status": "destroyed"}


def when(text):
    assert text.endswith("Z"), text
    return datetime.datetime.fromisoformat(re.sub(r"\.\d+", "", text)[:-1] + "+00:00").timestamp()


class Sandbox:
    """A sandbox for the length of a with block."""

    def __init__(self, **fields):
        self.fields = fields

    def __enter__(self):
        self.id = spawn(**self.fields)["id"]
        return self.id

    def __exit__(self, *_):
        destroy(self.id)


def gone(sandbox):
    sg.wait_until(lambda: curl("GET", f"/sandboxes/{sandbox}").status == 404, f"{sandbox} is destroyed")
    assert sandbox not in [s["id"] for s in ok(curl("GET", "/sandboxes"))]


def test_row_01_client():
    """The socket is the client: what a client says of itself changes nothing, and it may bound each request."""
    me = ok(curl("GET", OWN + "/whoami"))
    claims = ("-H", "X-API-Key: mine", "-H", "X-User-ID: somebody", "-H", "Authorization: Bearer x")
    claimed = ok(curl("GET", OWN + "/whoami", None, *claims))
    assert claimed["user_id"] == me["user_id"] != "somebody", claimed
    sandbox = ok(curl("POST", "/sandboxes", {}, *claims, "-H", "Stacygate-Timeout: 30s"), 201)
    assert sandbox["owner_id"] == me["user_id"], sandbox
    answer = curl("POST", f"/sandboxes/{sandbox['id']}/exec", {"command": "sleep 30"}, "-H", "Stacygate-Timeout: 100ms")
    refused(answer, 504, "UPSTREAM_TIMEOUT", "Stacygate-Timeout")
    assert answer.headers["stacygate-error"] == "UPSTREAM_TIMEOUT", answer.headers
    destroy(sandbox["id"])


def test_row_02_spawn_exec_destroy():
    sandbox = spawn(image="node:20")
    assert re.fullmatch(r"sb-[0-9a-f]{8}", sandbox["id"]) and sandbox["image"] == "node:20"
    done = run(sandbox["id"], "node -e 'console.log(1+1)'")
    assert (done["stdout"], done["exit_code"]) == ("2\n", 0), done
    destroy(sandbox["id"])
    refused(curl("GET", "/sandboxes/" + sandbox["id"]), 404, "NOT_FOUND", sandbox["id"])


def test_row_03_run():
    """One request is spawn, files, exec and destroy: nothing is left of it when it is answered, also when the command fails."""
    done = ok(curl("POST", OWN + "/run", {"image": "node:20", "command": "cat /app/in; wc -c </app/bytes; exit 3", "files": [
        {"path": "/app/in", "content": "h\u00e9llo\n"}, {"path": "/app/bytes", "content": "AP8=", "encoding": "base64"}]}))
    assert (done["exit_code"], done["stdout"]) == (3, "h\u00e9llo\n2\n") and DURATION.match(done["duration"]), done
    answer = curl("POST", OWN + "/run", {"command": "echo one; exit 4", "stream": True})
    records = [json.loads(line) for line in answer.body.splitlines() if line.strip()]
    assert records[0] == {"stream": "stdout", "data": "one\n"} and records[-1]["exit_code"] == 4 and len(records) == 2, records
    assert ok(curl("GET", "/sandboxes")) == []


def test_row_03_leases():
    """A sandbox ends with the script that made it, with its connection, and goes on with a clock that is renewed."""
    script = ('curl -sf --unix-socket "$0" -H "Stacygate-Lease: process=$$" -d {} http://localhost/api/v1/sandboxes; exit 1')
    done = subprocess.run(["sh", "-c", script, G.socket], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    gone(json.loads(done.stdout)["id"])
    gone(ok(curl("POST", "/sandboxes", {}, "-H", "Stacygate-Lease: connection"), 201)["id"])
    # A lease is known to be over a moment after its sandbox is.
    sg.wait_until(lambda: ok(curl("GET", OWN + "/leases")) == [], "both leases are over")
    sandbox = ok(curl("POST", "/sandboxes", {}, "-H", "Stacygate-Lease: 90s"), 201)["id"]
    assert [(x["sandbox"], x["kind"]) for x in ok(curl("GET", OWN + "/leases"))] == [(sandbox, "clock")]
    renewed = ok(curl("PUT", f"{OWN}/leases/{sandbox}", {"lease": "1h"}))
    assert abs(when(renewed["expires_at"]) - datetime.datetime.now().timestamp() - 3600) < 5, renewed
    assert ok(curl("DELETE", f"{OWN}/leases/{sandbox}")) == {"status": "released"}
    assert ok(curl("GET", OWN + "/leases")) == []
    destroy(sandbox)


def test_row_04_spawn_options():
    fields = {"image": "python:3.12", "memory_mb": 512, "vcpus": 2, "ttl": "2h", "metadata": {"job": "nightly", "k\u00e9y": "<v>"}}
    sandbox = spawn(**fields)
    for key in ("image", "memory_mb", "vcpus"):
        assert sandbox[key] == fields[key], (key, sandbox)
    assert {k: v for k, v in sandbox["metadata"].items() if not k.startswith("stacygate.")} == fields["metadata"]
    assert abs(when(sandbox["expires_at"]) - when(sandbox["created_at"]) - 7200) <= 1
    destroy(sandbox["id"])
    for ttl, seconds in (("30s", 30), ("5m", 300)):
        sandbox = spawn(ttl=ttl)
        assert abs(when(sandbox["expires_at"]) - when(sandbox["created_at"]) - seconds) <= 1
        destroy(sandbox["id"])


def test_row_04_spawn_defaults_and_providers():
    sandbox = spawn()
    assert (sandbox["image"], sandbox["memory_mb"], sandbox["vcpus"]) == ("alpine:latest", 1024, 1), sandbox
    assert abs(when(sandbox["expires_at"]) - when(sandbox["created_at"]) - 1800) <= 1
    destroy(sandbox["id"])
    name = sandbox["provider"]
    with Sandbox(provider=name) as same:
        assert ok(curl("GET", f"/sandboxes/{same}"))["provider"] == name
    refused(curl("POST", "/sandboxes", {"provider": "nope"}), 404, "NOT_FOUND", "provider not found: nope")
    refused(curl("POST", "/sandboxes", {"memory_mb": "x"}), 400, "BAD_REQUEST", "invalid request body")


def test_row_05_exec_result():
    with Sandbox() as s:
        done = run(s, "echo hi; echo err >&2; exit 3")
        assert (done["exit_code"], done["stdout"], done["stderr"]) == (3, "hi\n", "err\n"), done
        assert set(done) == {"exit_code", "stdout", "stderr", "duration"} and DURATION.match(done["duration"]), done


def test_row_06_exec_options():
    with Sandbox() as s:
        assert run(s, "printf '%s|'", args=["a b", "it's", "$HOME"])["stdout"] == "a b|it's|$HOME|"
        assert run(s, "echo $GREETING", env={"GREETING": "h\u00e9llo"})["stdout"] == "h\u00e9llo\n"
        assert run(s, "pwd", workdir="/tmp")["stdout"] == "/tmp\n"
        refused(curl("POST", f"/sandboxes/{s}/exec", {"command": "sleep 30", "timeout": "200ms"}), 408, "TIMEOUT", s)
        assert "sleep 30" not in run(s, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '", timeout="30s")["stdout"]


def test_row_07_stream():
    with Sandbox() as s:
        body = {"stream": True, "command": "echo first; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo second >&2"}
        p = subprocess.Popen(curl_argv("-N", "-d", json.dumps(body), f"{API}/sandboxes/{s}/exec"), stdout=subprocess.PIPE)
        # The second line cannot come before this test has seen the first.
        assert json.loads(p.stdout.readline()) == {"stream": "stdout", "data": "first\n"}
        write(s, "/tmp/go", "")
        rest = [json.loads(line) for line in p.stdout.read().splitlines() if line.strip()]
        assert rest == [{"stream": "stderr", "data": "second\n"}] and p.wait() == 0, rest


def test_row_07_stream_options_and_end():
    with Sandbox() as s:
        answer = curl("POST", f"/sandboxes/{s}/exec", {"stream": True, "command": "echo $A; pwd", "args": [";x"], "env": {"A": "1"},
                                                       "workdir": "/app"})
        assert answer.status == 200 and answer.headers["content-type"] == "application/x-ndjson", answer.headers
        records = [json.loads(line) for line in answer.body.splitlines() if line.strip()]
        assert all(set(r) == {"stream", "data"} for r in records), records
        text = "".join(r["data"] for r in records if r["stream"] == "stdout")
        assert text.startswith("1\n/app"), records


def test_row_07_stream_exit_code():
    """Whoever accepts it is told the exit code by the last line, and nobody else."""
    with Sandbox() as s:
        body = {"stream": True, "command": "echo one; exit 3"}
        for accept, more in (("application/x-ndjson; exit=1", 1), ("application/x-ndjson", 0)):
            answer = curl("POST", f"/sandboxes/{s}/exec", body, "-H", "Accept: " + accept)
            records = [json.loads(line) for line in answer.body.splitlines() if line.strip()]
            assert records[0] == {"stream": "stdout", "data": "one\n"} and len(records) == 1 + more, records
            assert not more or (records[1]["exit_code"] == 3 and DURATION.match(records[1]["duration"])), records


def test_row_08_write_with_mode():
    with Sandbox() as s:
        write(s, "/app/run.sh", "#!/bin/sh\necho it runs\n", mode="755")
        write(s, "/app/plain.txt", "text")
        assert run(s, "/app/run.sh")["stdout"] == "it runs\n"
        assert run(s, "stat -c %a /app/run.sh /app/plain.txt")["stdout"] == "755\n644\n"


def test_row_09_read():
    with Sandbox() as s:
        write(s, "/workspace/a b/h\u00e9.txt", "h\u00e9llo\n")
        answer = query(s, "", path="/workspace/a b/h\u00e9.txt")
        assert answer.status == 200 and answer.body == "h\u00e9llo\n".encode()
        assert answer.headers["content-type"] == "application/octet-stream"
        run(s, "printf '\\000\\377\\n\\200' >/workspace/bin")
        assert query(s, "", path="/workspace/bin").body == b"\0\xff\n\x80"
        refused(query(s, "", path="/workspace/none"), 500, "INTERNAL_ERROR")
        refused(query(s, ""), 400, "BAD_REQUEST", "path query parameter required")


def test_row_10_list():
    with Sandbox() as s:
        root = ok(curl("GET", f"/sandboxes/{s}/files/list"))
        assert {"app", "tmp", "workspace"} <= {e["name"] for e in root}, root
        write(s, "/workspace/d/a.txt", "h\u00e9llo\n")
        run(s, "mkdir /workspace/d/sub")
        files = {e["name"]: e for e in ok(query(s, "/list", path="/workspace/d"))}
        assert set(files) == {"a.txt", "sub"}, files
        entry = files["a.txt"]
        assert (entry["path"], entry["size"], entry["is_dir"]) == ("/workspace/d/a.txt", 7, False), entry
        assert entry["mode"] in ("644", "0644") and files["sub"]["is_dir"], files
        assert abs(when(entry["mod_time"]) - datetime.datetime.now().timestamp()) < 60
        assert ok(query(s, "/list", path="/workspace/d/sub")) == []


def test_row_11_glob():
    with Sandbox() as s:
        for path in ("/app/a.test.js", "/app/x/b.test.js", "/app/x/y/c.test.js", "/app/x/d.js"):
            write(s, path, "")
        found = ok(query(s, "/glob", pattern="/app/**/*.test.js"))
        assert sorted(found) == ["/app/a.test.js", "/app/x/b.test.js", "/app/x/y/c.test.js"], found
        assert ok(query(s, "/glob", pattern="/app/*.none")) == []


def test_row_12_stat():
    with Sandbox() as s:
        write(s, "/workspace/a.txt", "12345")
        entry = ok(query(s, "/stat", path="/workspace/a.txt"))
        assert (entry["name"], entry["path"], entry["size"], entry["is_dir"]) == ("a.txt", "/workspace/a.txt", 5, False), entry
        entry = ok(query(s, "/stat", path="/workspace"))
        assert entry["is_dir"] and entry["mode"] in ("755", "0755", "700", "0700"), entry


def test_row_13_move_chmod_delete():
    with Sandbox() as s:
        write(s, "/workspace/a.txt", "x")
        base = f"/sandboxes/{s}/files"
        assert ok(curl("POST", base + "/move", {"old_path": "/workspace/a.txt", "new_path": "/workspace/n/b.txt"})) == {"status": "moved"}
        assert ok(curl("POST", base + "/chmod", {"path": "/workspace/n/b.txt", "mode": "755"})) == {"status": "chmod applied"}
        assert ok(query(s, "/stat", path="/workspace/n/b.txt"))["mode"] in ("755", "0755")
        refused(curl("DELETE", base + "?path=/workspace/n"), 500, "INTERNAL_ERROR")
        assert ok(curl("DELETE", base + "?path=/workspace/n/b.txt")) == {"status": "deleted"}
        write(s, "/workspace/n/m/c.txt", "x")
        assert ok(curl("DELETE", base + "?path=/workspace/n&recursive=true")) == {"status": "deleted"}
        assert "n" not in [e["name"] for e in ok(query(s, "/list", path="/workspace"))]


def test_row_14_preview():
    """The URL of a port is that of the sandbox's record, and a server started in the background answers there."""
    with Sandbox() as s:
        url = ok(curl("GET", f"{OWN}/sandboxes/{s}/preview/3000"))["url"]
        assert url == f"http://3000-{s}.localhost", url
        text = curl("GET", f"{OWN}/sandboxes/{s}/preview/3000", None, "-H", "Accept: text/plain")
        assert text.body.decode().strip() == url and text.headers["content-type"].startswith("text/plain"), text.headers
        write(s, "/app/server.js", "require('http').createServer((q, a) => a.end(q.method + ' ' + q.url)).listen(3000)")
        assert run(s, "node /app/server.js &")["exit_code"] == 0
        sg.wait_until(lambda: curl("GET", url + "/a?b=c").status == 200, "the server listens")
        assert curl("GET", url + "/a?b=c").body == b"GET /a?b=c"
    refused(curl("GET", url + "/"), 404, "NOT_FOUND")


def test_row_15_templates():
    saved = ok(curl("POST", "/templates", {"name": "py", "image": "python:3.12", "memory_mb": 256, "vcpus": 2, "ttl": "1h",
                                           "metadata": {"team": "a"}}), 201)
    assert (saved["cpu_cores"], saved["vcpus"], saved["ttl_seconds"], saved["memory_mb"]) == (2, 2, 3600, 256), saved
    again = ok(curl("POST", "/templates", {"name": "py", "image": "python:3.12", "memory_mb": 64, "ttl": "10m"}))
    assert (again["memory_mb"], again["ttl_seconds"]) == (64, 600) and ok(curl("GET", "/templates/py"))["memory_mb"] == 64, again
    changed = ok(curl("PUT", "/templates/py", {"image": "python:3.13", "memory_mb": 128, "vcpus": 1, "ttl": "5m"}))
    assert changed["image"] == "python:3.13", changed
    assert ok(curl("GET", "/templates/py"))["memory_mb"] == 128
    assert ok(curl("DELETE", "/templates/py")) == {"status": "deleted"}
    refused(curl("GET", "/templates/py"), 404, "NOT_FOUND", "py")


def test_row_16_template_spawn():
    ok(curl("POST", "/templates", {"name": "t", "image": "python:3.12", "memory_mb": 256, "vcpus": 2, "ttl": "1h"}), 201)
    assert [t["name"] for t in ok(curl("GET", "/templates"))] == ["t"]
    sandbox = ok(curl("POST", "/templates/t/spawn"), 201)
    assert (sandbox["image"], sandbox["memory_mb"], sandbox["vcpus"]) == ("python:3.12", 256, 2), sandbox
    assert abs(when(sandbox["expires_at"]) - when(sandbox["created_at"]) - 3600) <= 1
    other = ok(curl("POST", "/templates/t/spawn", {"ttl": "10m", "provider": sandbox["provider"]}), 201)
    assert abs(when(other["expires_at"]) - when(other["created_at"]) - 600) <= 1
    assert run(other["id"], "echo ok")["stdout"] == "ok\n"
    for each in (sandbox, other):
        destroy(each["id"])
    assert ok(curl("DELETE", "/templates/t")) == {"status": "deleted"}


def test_row_17_ttl_and_extend():
    short = spawn(ttl="300ms")["id"]
    sg.wait_until(lambda: curl("GET", f"/sandboxes/{short}").status == 404, "the sandbox ends by itself", 10)
    with Sandbox(ttl="1m") as s:
        for ttl, seconds in (("1h", 3600), ("30m", 1800)):
            extended = ok(curl("POST", f"/sandboxes/{s}/extend", {"ttl": ttl}))
            assert abs(when(extended["expires_at"]) - datetime.datetime.now().timestamp() - seconds) < 5, extended
            assert ok(curl("GET", f"/sandboxes/{s}"))["expires_at"] == extended["expires_at"]
        refused(curl("POST", f"/sandboxes/{s}/extend", {}), 400, "BAD_REQUEST", "ttl is required")


def test_row_18_reattach():
    with Sandbox() as s:
        write(s, "/workspace/kept", "still here")
        run(s, "sleep 600 >/dev/null 2>&1 & echo $! >/workspace/pid")
        assert ok(curl("GET", f"/sandboxes/{s}"))["id"] == s
        assert run(s, "cat /workspace/kept; kill -0 $(cat /workspace/pid) && echo alive")["stdout"] == "still herealive\n"


def test_row_19_pool_status():
    assert ok(curl("GET", "/pool/status")) == {"enabled": False}


def test_row_20_health_list_providers_prune():
    health = ok(curl("GET", "/health"))
    assert health["status"] == "ok" and health["version"] and DURATION.match(health["uptime"]), health
    with Sandbox(metadata={"n": "1"}) as first, Sandbox() as second:
        assert [s["id"] for s in ok(curl("GET", "/sandboxes"))] == [second, first]
        providers = ok(curl("GET", "/providers"))
        assert [(p["healthy"], p["default"]) for p in providers] == [(True, True)] and providers[0]["name"], providers
        assert ok(curl("DELETE", "/sandboxes")) == {"pruned": 0}
    assert ok(curl("GET", "/sandboxes")) == []


def test_row_20_other_system_routes():
    assert ok(curl("GET", "/live"))["status"] == "alive"
    assert ok(curl("GET", "/ready"))["status"] == "ready"
    assert ok(curl("GET", "/snapshots")) == []
    assert ok(curl("GET", "/quotas/summary"))["total"] == 0
    admission = ok(curl("POST", "/sandboxes/admission", {}))
    assert admission["allowed"] is True and not {"selected_worker_id", "eligible_workers", "worker_reason"} & set(admission)
    with Sandbox() as s:
        assert ok(curl("GET", f"/sandboxes/{s}/logs?lines=1"))
        assert ok(curl("GET", f"/sandboxes/{s}/stats"))["supported"] in (True, False)


def test_row_21_errors():
    fault = refused(curl("GET", "/sandboxes/sb-00000000"), 404, "NOT_FOUND")
    assert fault["message"] == "sandbox not found: sb-00000000", fault
    refused(curl("POST", "/sandboxes/sb-00000000/exec", {"command": "x"}), 404, "NOT_FOUND", "sb-00000000")
    with Sandbox() as s:
        refused(curl("POST", f"/sandboxes/{s}/exec", {"command": "x", "mode": "raw"}), 400, "BAD_REQUEST")
        refused(curl("POST", f"/sandboxes/{s}/exec", {"command": "no-such-program", "mode": "argv"}), 500, "INTERNAL_ERROR")
        refused(curl("POST", f"/sandboxes/{s}/exec", {"command": "x", "timeout": "-1s"}), 429, "RESOURCE_LIMIT")
    answer = curl("GET", "http://localhost/gateway/v1/none")
    refused(answer, 404, "NOT_FOUND")
    assert answer.headers["stacygate-error"] == "NOT_FOUND", answer.headers
    gone = subprocess.run(["curl", "-sS", "--unix-socket", G.socket + ".none", API + "/health"], capture_output=True, check=False)
    assert gone.returncode == 7, gone


def test_row_22_states():
    sandbox = spawn()
    assert sandbox["state"] == "running"
    assert ok(curl("GET", "/sandboxes/" + sandbox["id"]))["state"] == "running"
    destroy(sandbox["id"])
    refused(curl("GET", "/sandboxes/" + sandbox["id"]), 404, "NOT_FOUND", "sandbox destroyed: " + sandbox["id"])
    # As the server does it: a repeat is no error.
    destroy(sandbox["id"])


def test_gateway_routes():
    health = ok(curl("GET", "http://localhost/gateway/v1/health"))
    assert health["status"] == "ok" and health["upstreams"][0]["healthy"] is True, health
    me = ok(curl("GET", "http://localhost/gateway/v1/whoami"))
    assert (me["uid"], me["gid"]) == (os.getuid(), os.getgid()) and me["user_id"] and me["upstream"], me
    status = curl("GET", "http://localhost/gateway/v1/status")
    assert status.status == 200 and status.json, status.body


def test_request_ids():
    assert curl("GET", "/health", None, "-H", "X-Request-ID: my-id_1").headers["x-request-id"] == "my-id_1"
    first, second = (curl("GET", "/health").headers["x-request-id"] for _ in range(2))
    assert first and second and first != second


def set_gateway(gateway):
    global G
    G = gateway


if __name__ == "__main__":
    sys.exit(sg.main_with_gateway(dict(globals()), set_gateway))
