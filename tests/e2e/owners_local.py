# SPDX-License-Identifier: Apache-2.0
"""Two owners on the embedded server: neither can see, enter, read or destroy what is the other's, and each can use his own."""
import os
import shutil
import socket
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sg  # noqa: E402

NEVER = "sb-00000000"
KEY = "SEKRET-owners-key"  # of the server that outlives its gateway


def config(directory, upstream=""):
    """Two listeners, each with a rule and a user of its own; isolation: owner is what a rule has."""
    listeners = "".join(f"  - {{ path: {socket_of(directory, n)}, name: {n} }}\n" for n in ("alice", "bob"))
    credential = "\n    credential: team" if upstream else ""
    rules = "".join(f"  - name: {n}\n    match: {{ listener: {n} }}\n    user_id: {n}{credential}\n" for n in ("bob", "alice"))
    rules += "    allow: [sandboxes, templates:read, templates:write, system, events, prune]\n"
    return f"listen:\n{listeners}{upstream}clients:\n{rules}"


def socket_of(directory, name):
    # The one that sg.Gateway asks whether it is ready is alice's.
    return os.path.join(directory, "run", "stacygate.sock" if name == "alice" else name + ".sock")


class Owners(sg.Gateway):
    """The gateway with its two callers."""

    def __init__(self, directory, upstream=""):
        super().__init__(config(directory, upstream), directory)

    def ask(self, name, method, path, body=None, headers=None):
        return sg.request(socket_of(self.dir, name), method, "/api/v1" + path, body, headers)

    def make(self, name, **fields):
        answer = self.ask(name, "POST", "/sandboxes", fields)
        assert answer.status == 201, answer.body
        return answer.json["id"]

    def listed(self, name):
        return [s["id"] for s in self.ask(name, "GET", "/sandboxes").json]

    def run(self, name, sandbox, command, **fields):
        answer = self.ask(name, "POST", f"/sandboxes/{sandbox}/exec", {"command": command, **fields})
        assert answer.status == 200, (answer.status, answer.body)
        return answer.json


def started(upstream=""):
    return sg.Started(Owners(tempfile.mkdtemp(prefix="sg-e2e.", dir="/tmp"), upstream))


ROUTES = [
    ("GET", "", None), ("POST", "/extend", {"ttl": "1h"}), ("POST", "/exec", {"command": "touch /workspace/bob-was-here"}),
    ("POST", "/exec", {"command": "cat /workspace/secret", "stream": True}), ("POST", "/files", {"path": "/workspace/secret", "content": "bob's"}),
    ("GET", "/files?path=/workspace/secret", None), ("DELETE", "/files?path=/workspace/secret", None), ("GET", "/files/list?path=/workspace", None),
    ("GET", "/files/stat?path=/workspace/secret", None), ("GET", "/files/glob?pattern=/workspace/*", None),
    ("POST", "/files/move", {"old_path": "/workspace/secret", "new_path": "/workspace/mine"}),
    ("POST", "/files/chmod", {"path": "/workspace/secret", "mode": "0600"}), ("GET", "/logs", None), ("GET", "/stats", None), ("DELETE", "", None),
]


def strangers(g, sandbox):
    for method, rest, body in ROUTES:
        seen = []
        for target in (sandbox, NEVER):
            answer = g.ask("bob", method, f"/sandboxes/{target}{rest}", body)
            assert answer.status == 404, (method, rest, answer.status, answer.body)
            assert answer.json == {"code": "NOT_FOUND", "message": f"sandbox not found: {target}"}, answer.body
            seen.append([(k, v) for k, v in answer.headers.items() if k.lower() not in ("x-request-id", "date")])
        assert seen[0] == seen[1], (method, rest, seen)


def untouched(g, sandbox):
    done = g.run("alice", sandbox, "cat /workspace/secret; ls /workspace")
    assert done["stdout"] == "alice's\nsecret\n", done


def with_secret(g):
    sandbox = g.make("alice", metadata={"mark": "hers"})
    answer = g.ask("alice", "POST", f"/sandboxes/{sandbox}/files", {"path": "/workspace/secret", "content": "alice's\n"})
    assert answer.status == 200, answer.body
    return sandbox


def test_c10_a_stranger_meets_404_on_every_route():
    with started() as g:
        sandbox = with_secret(g)
        strangers(g, sandbox)
        untouched(g, sandbox)
        assert g.ask("alice", "GET", f"/sandboxes/{sandbox}/files?path=/workspace/secret").body == b"alice's\n"
        bobs = g.make("bob")
        assert g.run("bob", bobs, "ls /workspace")["stdout"] == ""
        assert g.ask("alice", "DELETE", "/sandboxes/" + bobs).status == 404
        for _ in range(2):
            assert g.ask("alice", "DELETE", "/sandboxes/" + sandbox).status == 200
        strangers(g, sandbox)
        assert g.ask("alice", "GET", "/sandboxes/" + sandbox).json["message"] == f"sandbox not found: {sandbox}"
        assert g.run("bob", bobs, "echo still here")["stdout"] == "still here\n"


def test_c11_each_lists_his_own():
    with started() as g:
        made = {"alice": [], "bob": []}
        for _ in range(5):
            for name, ids in made.items():
                ids.append(g.make(name))
        for name, ids in made.items():
            assert sorted(g.listed(name)) == sorted(ids), name
            for shown in g.ask(name, "GET", "/sandboxes").json:
                assert shown["metadata"]["stacygate.owner"] == name and shown["owner_id"] == name, shown


def test_c11_prune_takes_no_one_elses():
    """What expires here is soon destroyed by the server as well; what must stay is all that has not expired."""
    with started() as g:
        lasting = {name: g.make(name) for name in ("alice", "bob")}
        g.make("alice", ttl="1ms")
        sg.wait_until(lambda: g.ask("alice", "DELETE", "/sandboxes").json["pruned"] in (0, 1) and g.listed("alice") == [lasting["alice"]],
                      "what has expired is gone")
        assert g.listed("bob") == [lasting["bob"]]


def test_c13_a_template_spawn_has_an_owner():
    with started() as g:
        template = {"name": "t", "image": "from-template", "memory_mb": 333, "ttl_seconds": 600}
        answer = g.ask("bob", "POST", "/templates", template)
        assert answer.status == 403 and "templates:write" in answer.json["message"], answer.body
        assert g.ask("alice", "POST", "/templates", template).status == 201
        answer = g.ask("bob", "POST", "/templates/t/spawn", {})
        assert answer.status == 201, answer.body
        sandbox = answer.json
        assert (sandbox["image"], sandbox["memory_mb"], sandbox["owner_id"]) == ("from-template", 333, "bob"), sandbox
        assert sandbox["metadata"]["template"] == "t" and sandbox["metadata"]["stacygate.owner"] == "bob", sandbox
        assert g.run("bob", sandbox["id"], "echo mine")["stdout"] == "mine\n"
        assert g.ask("alice", "GET", "/sandboxes/" + sandbox["id"]).status == 404
        answer = g.ask("bob", "POST", "/templates/none/spawn", {})
        assert answer.status == 404 and "none" in answer.json["message"], answer.body


def test_c10_owners_outlive_the_gateway():
    """The server stays, the gateway is started anew: whose a sandbox is stands in the server's own record."""
    directory = tempfile.mkdtemp(prefix="sg-e2e.", dir="/tmp")
    path, key = os.path.join(directory, "s"), os.path.join(directory, "key")
    with open(os.open(key, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as f:
        f.write(KEY + "\n")
    with open(os.path.join(directory, "log"), "wb") as log:
        server = subprocess.Popen([sg.program("stacygate-local"), "--listen", "unix:" + path, "--state", os.path.join(directory, "state"),
                                   "--api-key-file", key], stdout=log, stderr=log)
    upstream = f"upstreams:\n  own: {{ url: unix://{path} }}\ncredentials:\n  team: {{ api_key: {{ file: {key} }} }}\n"
    try:
        sg.wait_until(lambda: answers(path), "the server answers", 30)
        with started(upstream) as g:
            sandbox, destroyed = with_secret(g), g.make("alice")
            assert g.ask("alice", "DELETE", "/sandboxes/" + destroyed).status == 200
            strangers(g, sandbox)
            assert not g.stop()
            g.start()
            strangers(g, sandbox)
            strangers(g, destroyed)
            untouched(g, sandbox)
            assert g.listed("alice") == [sandbox] and g.listed("bob") == []
        with started(upstream) as g:  # another gateway, with the same settings and no state
            strangers(g, sandbox)
            untouched(g, sandbox)
            assert g.ask("alice", "DELETE", "/sandboxes/" + sandbox).status == 200
    finally:
        server.terminate()
        server.wait(30)
        with open(os.path.join(directory, "log"), encoding="utf-8", errors="replace") as f:
            text = f.read()
        shutil.rmtree(directory, ignore_errors=True)
    sg.check_clean(text, "stacygate-local")
    assert KEY not in text


def answers(path):
    try:
        return sg.request(path, "GET", "/api/v1/health").status == 401
    except OSError:
        return False


def test_c10_a_tunnel_is_the_owners():
    """An upgrade of the exec route is a stranger's 404, and to the owner what the server says of it."""
    with started() as g:
        sandbox = g.make("alice")
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        for target in (sandbox, NEVER):
            answer = g.ask("bob", "GET", f"/sandboxes/{target}/exec/ws", None, headers)
            assert answer.status == 404 and answer.json["message"] == f"sandbox not found: {target}", answer.body
        answer = g.ask("alice", "GET", f"/sandboxes/{sandbox}/exec/ws", None, headers)
        assert answer.status in (101, 501) and "Stacygate-Error" not in answer.headers, (answer.status, answer.body)


if __name__ == "__main__":
    socket.setdefaulttimeout(60)
    sg.need_user_namespaces()
    sys.exit(sg.main(dict(globals())))
