# SPDX-License-Identifier: Apache-2.0
"""Templates as documented, on a server that knows them otherwise: both spellings, saving twice, what is not stored."""
import json

from cache_lib import NEVER_SET, cached, quoted, said
from owners_lib import expect_error, headers_of, run
from vm_lib import API, cut, garbage, status

DOCUMENTED = {"name": "node-dev", "image": "node:20", "memory_mb": 2048, "vcpus": 4, "ttl": "1h", "provider": "docker",
              "metadata": {"team": "web"}}


def ignored(answer):
    return headers_of(answer, "stacygate-ignored")


def written(server, mark=0, method=None):
    """What has reached the server of writes: method, target and body."""
    return [(r.method, r.target, json.loads(r.body) if r.body else None) for r in server.since(mark)
            if r.method in ("POST", "PUT", "DELETE") and method in (None, r.method)]


def test_documented_spelling():
    """vcpus and ttl reach the server as what it knows, and every answer shows both."""
    with cached() as (server, g):
        answer = g.api("alice", "POST", "/templates", DOCUMENTED)
        assert answer.status == 201, answer
        (_, target, body), = written(server)
        assert target == API + "/templates" and body["cpu_cores"] == 4 and body["ttl_seconds"] == 3600
        assert "vcpus" not in body and "ttl" not in body and body["memory_mb"] == 2048
        for got in (answer.json(), g.read(path="/templates/node-dev").json(), g.read("bob").json()[0]):
            assert (got["cpu_cores"], got["vcpus"], got["ttl_seconds"], got["ttl"]) == (4, 4, 3600, "1h0m0s"), got
            assert got["created_at"] == "2026-01-01T00:00:00Z"
        assert ignored(answer) == ["metadata, provider"]


def test_servers_spelling():
    """cpu_cores and ttl_seconds go through byte for byte, and what is given in both spellings alike is no fault."""
    with cached() as (server, g):
        text = b'{"name" : "a", "image":"i",\t"cpu_cores":2, "ttl_seconds":90,"description":"\\u00fc"}'
        answer = g.api("alice", "POST", "/templates", text)
        assert answer.status == 201 and answer.json()["vcpus"] == 2 and answer.json()["ttl"] == "1m30s" and not ignored(answer), answer
        assert server.since(0, "POST")[0].body == text
        assert g.api("alice", "PUT", "/templates/a", {"image": "i", "cpu_cores": 2, "vcpus": 2, "ttl": "90s", "ttl_seconds": 90}).status == 200
        assert g.api("alice", "PUT", "/templates/a", {"image": "i", "vcpus": None, "ttl": ""}).status == 200
        assert written(server, method="PUT")[-1][2] == {"image": "i"}


def test_bad_values():
    """400 for a ttl that is none or not of whole seconds, and for two values of one thing; nothing reaches the server."""
    with cached() as (server, g):
        for more, word in (({"ttl": "1500ms"}, "ttl"), ({"ttl": "soon"}, "ttl"), ({"ttl": 60}, "ttl"), ({"ttl": "-5s"}, "ttl"),
                           ({"ttl": {}}, "ttl"), ({"ttl": "1h", "ttl_seconds": 60}, "ttl_seconds"), ({"vcpus": 2, "cpu_cores": 3}, "cpu_cores"),
                           ({"VCPUs": 2, "cpu_cores": 3}, "cpu_cores"), ({"metadata": {"stacygate.owner": "bob"}}, "stacygate."),
                           ({"metadata": {"STACYGATE.x": "bob"}}, "stacygate.")):
            for method, path in (("POST", "/templates"), ("PUT", "/templates/t")):
                expect_error(g.api("alice", method, path, {"name": "t", "image": "i", **more}), 400, "BAD_REQUEST", word)
        for text in (b"", b"[]", b"{", b'{"name":"t","image":"i"} x', b'{"ttl":"1h","TTL":"2h"}'):
            expect_error(g.api("alice", "POST", "/templates", text), 400, "BAD_REQUEST")
        assert not written(server)
        # Of another type it is the server's to refuse.
        assert g.api("alice", "POST", "/templates", {"name": "t", "image": "i", "vcpus": "two"}).status == 400
        assert written(server)[0][2]["cpu_cores"] == "two"


def test_save_twice():
    """A second save replaces: as a POST would have stored it, answered with 200 and what is stored, created when it was."""
    with cached() as (server, g):
        assert g.api("alice", "POST", "/templates", DOCUMENTED).status == 201
        answer = g.api("alice", "POST", "/templates", {"name": "node-dev", "image": "node:22", "ttl": "10m", "provider": "docker"})
        assert answer.status == 200 and ignored(answer) == ["provider"], answer
        got = answer.json()
        assert (got["image"], got["version"], got["memory_mb"], got["cpu_cores"], got["vcpus"]) == ("node:22", 1, 512, 1, 1), got
        assert (got["ttl_seconds"], got["ttl"], got["created_at"]) == (600, "10m0s", "2026-01-01T00:00:00Z"), got
        assert [(m, t) for m, t, _ in written(server)] == [("POST", API + "/templates")] * 2 + [("PUT", API + "/templates/node-dev")]
        stored = g.read(path="/templates/node-dev").json()
        assert stored == got, (stored, got)
        assert len(server.templates) == 1


def test_save_twice_odd_names():
    """The path of the PUT is one that the server decodes; a name that has no path keeps the server's 409."""
    with cached() as (server, g):
        for name in ("a b", "a:b", "ü", "a%41", "x!'()*", "a?b#c", "$&+,;=@~-_."):
            assert g.api("alice", "POST", "/templates", {"name": name, "image": "i"}).status == 201
            answer = g.api("alice", "POST", "/templates", {"name": name, "image": "j"})
            assert answer.status == 200 and answer.json()["name"] == name and server.templates[name]["image"] == "j", (name, answer)
        paths = [t.rpartition("/")[2] for m, t, _ in written(server, method="PUT")]
        assert paths == ["a%20b", "a:b", "%C3%BC", "a%2541", "x%21%27%28%29%2A", "a%3Fb%23c", "$&+,;=@~-_."], paths
        for name in ("a/b", "..", ".", "n" * 2000):
            assert g.api("alice", "POST", "/templates", {"name": name, "image": "i"}).status == 201
            mark = server.mark()
            answer = g.api("alice", "POST", "/templates", {"name": name, "image": "j"})
            assert answer.status == 409 and answer.json()["code"] == "CONFLICT" and not written(server, mark, "PUT"), (name, answer)


def test_save_twice_refused():
    """Who may not replace gets the server's 409, and nothing is replaced."""
    rules = {"alice": ["allow: [all]"], "bob": ["allow: [all]", 'deny: ["PUT /api/v1/templates/*"]'], "admin": ["allow: [templates:read, \"POST /api/v1/templates\"]"]}
    with cached(rules) as (server, g):
        assert g.api("alice", "POST", "/templates", {"name": "t", "image": "i"}).status == 201
        for name in ("bob", "admin"):
            assert g.api(name, "POST", "/templates", {"name": "t", "image": "j"}).status == 409
        assert server.templates["t"]["image"] == "i" and not written(server, method="PUT")


def test_faults_of_the_server():
    """Its errors pass as they are; one that breaks off is 502, and after each of them reads ask anew."""
    with cached(cache="{ templates: { ttl: 1h } }") as (server, g):
        server.put("t")
        answer = g.api("alice", "POST", "/templates", {"name": "x"})
        assert answer.status == 500 and answer.json()["message"] == "template image is required" and not headers_of(answer, "stacygate-error")
        answer = g.api("alice", "PUT", "/templates/none", {"image": "i"})
        assert answer.status == 404 and answer.json()["message"] == 'not found: template "none"'
        for act in (cut("before"), cut("head"), cut("body"), garbage):
            g.read()
            with server.fault("PUT", "/templates/t", act):
                expect_error(g.api("alice", "PUT", "/templates/t", {"image": "i"}), 502, "CONNECTION_ERROR")
            assert "stored" in said(g.read())
        with server.fault("PUT", "/templates/t", status(503)):
            assert g.api("alice", "POST", "/templates", {"name": "t", "image": "i"}).status == 503


def test_created_at():
    """The answer to a PUT never shows a time of creation that is none: it is looked up, else left out."""
    with cached() as (server, g):
        server.put("t")
        answer = g.api("alice", "PUT", "/templates/t", {"image": "i"})
        assert answer.json()["created_at"] == "2026-01-01T00:00:00Z" and answer.json()["image"] == "i"
        mark = server.mark()
        assert g.api("alice", "PUT", "/templates/t", {"image": "i", "created_at": "2025-05-05T00:00:00Z"}).json()["created_at"] == "2025-05-05T00:00:00Z"
        assert not server.reads(mark)
        for act in (status(500), cut("body")):
            with server.fault("GET", "/templates/t", act):
                answer = g.api("alice", "PUT", "/templates/t", {"image": "i"})
            assert answer.status == 200 and "created_at" not in answer.json() and NEVER_SET.encode() not in answer.body, answer


def test_ignored():
    """What was sent and is not stored is named, whoever sent it in whichever spelling; nothing else is."""
    with cached() as (server, g):
        for more, names in (({"provider": "docker"}, ["provider"]), ({"provider": "", "metadata": {}, "secrets": []}, []),
                            ({"Metadata": {"a": "b"}, "env": {"A": "1"}, "secrets": ["s"]}, ["env, metadata, secrets"]),
                            ({"owner_id": "bob", "tenant_id": "t"}, ["owner_id, tenant_id"]), ({"vcpus": 2, "ttl": "1m"}, []),
                            ({"unheard_of": 1}, [])):
            answer = g.api("alice", "PUT", "/templates/t", {"image": "i", **more}) if server.templates.get("t") else \
                g.api("alice", "POST", "/templates", {"name": "t", "image": "i", **more})
            assert answer.status in (200, 201) and ignored(answer) == names, (more, answer.headers)


def test_delete():
    """A DELETE passes as it is."""
    with cached() as (server, g):
        server.put("a b")
        answer = g.api("alice", "DELETE", "/templates/" + quoted("a b"))
        assert answer.status == 200 and answer.json() == {"status": "deleted"} and not server.templates
        assert g.api("alice", "DELETE", "/templates/" + quoted("a b")).status == 404


def test_spawn():
    """A template spawn takes the template from memory by the rules of reads: one fetch for many, a write is seen, stale if need be."""
    with cached({"alice": ["allow: [all]"], "bob": []}, cache="{ templates: { ttl: 1h } }") as (server, g):
        assert g.api("alice", "POST", "/templates", DOCUMENTED).status == 201
        mark = server.mark()
        for more in ({}, {"ttl": "10m", "metadata": {"a": "b"}}):
            made = g.api("alice", "POST", "/templates/node-dev/spawn", more)
            assert made.status == 201, made
            record = server.records[made.json()["id"]]
            assert (record["image"], record["memory_mb"], record["vcpus"], record["owner_id"]) == ("node:20", 2048, 4, "alice"), record
            assert round(record["expires_at"] - record["created_at"]) == (600 if more else 3600)
            assert record["metadata"]["stacygate.owner"] == "alice" and record["metadata"]["template"] == "node-dev"
        assert said(g.read(path="/templates/node-dev"))["hit"] and len(server.reads(mark)) == 1
        assert g.api("bob", "POST", "/templates/node-dev/spawn").status == 201
        assert [r.all("x-user-id") for r in server.reads(mark)] == [["alice"], ["bob"]]
        assert g.api("alice", "PUT", "/templates/node-dev", {"image": "node:22", "vcpus": 1}).status == 200
        made = g.api("bob", "POST", "/templates/node-dev/spawn")
        assert server.records[made.json()["id"]]["image"] == "node:22"
        with server.fault("GET", "/templates/.*", status(503)):
            assert g.api("bob", "POST", "/templates/node-dev/spawn").status == 201
            answer = g.api("bob", "POST", "/templates/none/spawn")
            assert answer.status == 503, answer
        answer = g.api("bob", "POST", "/templates/none/spawn")
        assert answer.status == 404 and "none" in answer.json()["message"], answer


if __name__ == "__main__":
    run(globals())
