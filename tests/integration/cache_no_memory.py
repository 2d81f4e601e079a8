# SPDX-License-Identifier: Apache-2.0
"""
M4, C1, C4: each allocation made for a read or a write of templates fails once. It is answered 502, 503 or 504, or closed, or it did
not matter; nobody gets another's, no read that follows is of what was before a write, nothing is leaked.
"""
import os
import shutil
import tempfile

import owners_no_memory
from cache_lib import RULES, CacheGateway, TemplateServer, said
from no_memory import Plan
from owners_lib import run
from tls_lib import BUILD, Skip
from vm_lib import API


class OwnPlan(Plan):
    """Knows what it was armed for."""

    at = 0

    def arm(self, n, failing=1):
        self.at = n
        super().arm(n, failing)


class Sweep(owners_no_memory.Sweep):
    def __enter__(self):
        if not os.path.exists(os.path.join(BUILD, "failing-malloc.so")):
            raise Skip("failing-malloc.so is not built")
        self.directory = tempfile.mkdtemp(prefix="sg-plan.")
        self.plan = OwnPlan(self.directory)
        self.server = TemplateServer()
        options = os.environ.get("ASAN_OPTIONS", "")
        self.gateway = CacheGateway(self.server, RULES, "{ keep: true, templates: { ttl: 1h } }", level="info", env={
            "LD_PRELOAD": os.path.join(BUILD, "failing-malloc.so"), "SG_ALLOC_PLAN": self.plan.path,
            "ASAN_OPTIONS": "verify_asan_link_order=0:allocator_may_return_null=1" + (":" + options if options else "")})
        self.gateway.__enter__()
        return self


def test_m4_reads():
    """M4, C1: a read is answered with what the caller may see, from the server as from memory; what is remembered stays true."""
    with Sweep() as s:
        g, server = s.gateway, s.server

        def of_user(server, connection, request):
            server.send_json(connection, request, 200, [{"name": request.user, "cpu_cores": 2, "ttl_seconds": 60}])
            return "answered"

        def judge(answer):
            assert answer.status == 200 and [t["name"] for t in answer.json()] == ["alice"], answer
        with server.fault("GET", "/templates", of_user):
            # What must be true before is made so without any failing.
            def ask_anew():
                n = s.plan.at
                s.plan.disarm()
                assert g.ask("admin", "DELETE", "/gateway/v1/cache").status == 200
                assert g.read("bob").json()[0]["name"] == "bob"
                s.plan.arm(n)
                return g.read()
            for ask in (ask_anew, g.read, lambda: g.read(headers={"Cache-Control": "no-cache"})):
                s.each(ask, judge, lambda: judge(g.read()))
            assert said(g.read())["hit"]
            s.each(lambda: g.ask("admin", "DELETE", "/gateway/v1/cache"), lambda a: a.json()["dropped"])
        assert {r.all("x-user-id")[0] for r in server.reads()} == {"alice", "bob"}


def writes(method, path, body):
    """Whatever the write is answered, a read behind it is of what the server has."""
    with Sweep() as s:
        g, server = s.gateway, s.server

        def ask():
            n = s.plan.at
            s.plan.disarm()
            server.put("t")
            assert g.ask("admin", "DELETE", "/gateway/v1/cache").status == 200
            g.read(path="/templates/t")
            s.plan.arm(n)
            return g.api("alice", method, path, body)

        def check():
            answer = g.read(path="/templates/t")
            has = server.templates.get("t")
            assert (answer.status, answer.status == 200 and answer.json()["image"]) == ((200, has["image"]) if has else (404, False)), (answer, has)

        def judge(answer):
            assert answer.status == 200, answer
        s.each(ask, judge, check)
        assert server.since(0, method)


def test_m4_replace():
    """M4, C4: PUT."""
    writes("PUT", "/templates/t", {"image": "new", "vcpus": 2, "ttl": "1m", "provider": "docker"})


def test_m4_save_twice():
    """M4, C4: a POST that becomes a PUT."""
    writes("POST", "/templates", {"name": "t", "image": "new", "vcpus": 2, "ttl": "1m", "metadata": {"a": "b"}})


def test_m4_delete():
    """M4, C4: DELETE."""
    writes("DELETE", "/templates/t", None)


if __name__ == "__main__":
    run(globals())
