#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""stacygate-local --keep: its sandboxes outlive a kill -9, a SIGTERM and a crash, and end in time when no server comes."""
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from local_lib import Server, main, require_sandboxes, wait_for  # noqa: E402

DEATH = 2.0  # B6


class Place:
    """A directory in which one server after the other runs."""

    def __init__(self, keep="1m"):
        self.directory = tempfile.mkdtemp(prefix="sg-keep.")
        self.keep = keep
        self.server = self.start()

    def start(self, keep=None):
        keep = self.keep if keep is None else keep
        self.server = Server(directory=self.directory, args=["--keep=" + keep] if keep else [])
        return self.server

    def end(self, sig):
        """Ends the server, which must leave its sandboxes at once; what it said."""
        began = time.monotonic()
        log = self.server.stop(sig, status=-sig if sig == signal.SIGKILL else 0)
        assert time.monotonic() - began < 5, "a stop waits for sandboxes"
        return log

    def restart(self, sig, keep=None):
        self.end(sig)
        return self.start(keep)

    def processes(self):
        """What runs of this place: servers and keepers by their command line, sandboxes by the names of their directories."""
        marks = [self.directory.encode(), *map(str.encode, self.boxes())]
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    line = file.read()
                if int(pid) != os.getpid() and any(m in line for m in marks):
                    found.append(int(pid))
        return found

    def keeper(self):
        for pid in self.processes():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="ascii") as file:
                if file.read() == "stacygate-keep\n":
                    return pid
        return None

    def boxes(self):
        return os.listdir(self.directory + "/state/sandboxes")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind:
            sys.stderr.write(self.server.log()[-4000:])
        self.server.stop(status=None)
        # A test that failed, and one that ends with sandboxes, leaves nothing behind all the same.
        if self.keeper():
            os.kill(self.keeper(), signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)


def mounts(directory):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
            if directory in file.read():
                found.append(int(pid))
    return found


def test_everything_is_there_again():
    with Place() as place:
        s = place.server
        one = s.spawn(image="node:20", metadata={"a": "ü\"", "stacygate.owner": "x"}, ttl="5m", memory_mb=300)
        two = s.spawn(image="python:3")
        s.post(f"/sandboxes/{one}/files", {"path": "/workspace/f", "content": "kept"})
        s.run(one, "setsid sleep 4077201 >/dev/null 2>&1 & python3 -m http.server 8123 --bind 127.0.0.1 >/dev/null 2>&1 &")
        before = s.get(f"/sandboxes/{one}").body
        assert_keeper_holds(place.keeper(), sandboxes=2)
        for sig in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            s = place.restart(sig)
            assert f"{one}: taken up" in s.log(), s.log()
            assert s.get(f"/sandboxes/{one}").body == before
            listed = [x["id"] for x in s.get("/sandboxes").json()]
            assert listed == [two, one], listed
            assert s.run(one, "cat f; pgrep sleep | wc -l")["stdout"] == "kept1\n"
            assert s.get(f"/sandboxes/{one}/stats").status == 200
            assert s.run(two, "hostname")["stdout"] == two + "\n"
            page = wait_for("its port answers", lambda: preview(s, one), 10)
            assert b"f</a>" in page, page
        answer = s.get(f"/sandboxes/{one}/files?path=/workspace/f")
        assert answer.status == 200 and b"kept" in answer.body, answer
        assert_keeper_holds(place.keeper(), sandboxes=2)
        for sandbox in (one, two):
            assert s.delete(f"/sandboxes/{sandbox}").status == 200
            assert s.get(f"/sandboxes/{sandbox}").status == 404
        assert not place.boxes() and not mounts(place.directory + "/state/sandboxes")
        assert_keeper_holds(place.keeper(), sandboxes=0)
        place.end(signal.SIGTERM)
        wait_for("nothing is left", lambda: not place.processes(), DEATH)


def assert_keeper_holds(keeper, sandboxes):
    """Its standard ones, three to hear by, and five of each sandbox: nothing else of the server's, and nothing twice."""
    def count():
        with contextlib.suppress(PermissionError):
            return len(os.listdir(f"/proc/{keeper}/fd"))
        return want  # not root: its descriptors are nobody's to see

    want = 6 + 5 * sandboxes
    wait_for("the keeper holds what it should", lambda: count() == want, DEATH)


def preview(server, sandbox):
    answer = server.request("GET", "/", headers={"Host": f"8123-{sandbox}.localhost"}, base="")
    return answer.body if answer.status == 200 else None


def test_commands_run_on_without_their_readers():
    for sig in (signal.SIGKILL, signal.SIGTERM):
        run_on(sig)


def run_on(sig):
    with Place() as place:
        s = place.server
        one = s.spawn()
        script = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); head -c 100000 /dev/zero | tr '\\0' x; done; echo; touch done; exec sleep 4077202"
        broken = []

        def ask():
            try:
                broken.append(s.post(f"/sandboxes/{one}/exec", {"command": script, "stream": True}))
            except Exception as fault:  # pylint: disable=broad-except
                broken.append(fault)

        thread = threading.Thread(target=ask)
        thread.start()
        wait_for("it runs", lambda: s.run(one, "pgrep -f 'while' | wc -l")["stdout"] != "0\n")
        s = place.restart(sig)
        thread.join()
        assert isinstance(broken[0], Exception), broken
        wait_for("the command has gone on", lambda: s.run(one, "ls")["stdout"] == "done\n")
        wait_for("and still runs", lambda: s.run(one, "pgrep sleep | wc -l")["stdout"] == "1\n")


def test_expiry_goes_on():
    with Place() as place:
        s = place.server
        short, long, late = s.spawn(ttl="2s"), s.spawn(ttl="3s"), s.spawn(ttl="1s")
        assert s.post(f"/sandboxes/{long}/extend", {"ttl": "10m"}).status == 200
        s = place.restart(signal.SIGKILL)
        assert s.get(f"/sandboxes/{long}").json()["state"] == "running"
        # What expired while no server was there goes at once, the others at their time.
        for sandbox in (late, short):
            wait_for("it is gone", lambda: s.get(f"/sandboxes/{sandbox}").status == 404, 6)  # pylint: disable=cell-var-from-loop
        assert s.run(long, "echo here")["stdout"] == "here\n"
        assert place.boxes() == [long]


def test_b6_nobody_comes_back():
    for sig in (signal.SIGKILL, signal.SIGTERM):
        with Place(keep="1s") as place:
            s = place.server
            ids = [s.spawn() for _ in range(3)]
            for sandbox in ids:
                s.run(sandbox, "setsid sleep 4077203 >/dev/null 2>&1 &")
            place.end(sig)
            began = time.monotonic()
            assert len(place.processes()) >= 7, place.processes()
            wait_for("everything has ended", lambda: not place.processes(), 1.0 + DEATH)
            assert time.monotonic() - began > 0.5, "it did not wait"
            assert not mounts(place.directory + "/state/sandboxes")
            # What no process can remove goes at the next start.
            assert sorted(place.boxes()) == sorted(ids)
            place.start()
            assert not place.boxes()


def test_without_keep_they_end_with_the_server():
    with Place(keep="") as place:
        place.server.spawn()
        place.end(signal.SIGKILL)
        wait_for("everything has ended", lambda: not place.processes(), DEATH)
        place.start()


def test_a_server_that_keeps_none_destroys_what_it_finds():
    with Place() as place:
        one = place.server.spawn()
        s = place.restart(signal.SIGKILL, keep="")
        wait_for("it is destroyed", lambda: not place.boxes(), DEATH)
        assert s.get(f"/sandboxes/{one}").status == 404
        assert place.keeper() is None or wait_for("the keeper ends", lambda: place.keeper() is None, DEATH)
        place.end(signal.SIGTERM)
        assert not place.processes()


def test_the_keeper_dies():
    with Place() as place:
        s = place.server
        one = s.spawn()
        os.kill(place.keeper(), signal.SIGKILL)
        wait_for("it is said", lambda: "the keeper of the sandboxes is gone" in s.log())
        # The server goes on; its sandboxes are as those of one that keeps none.
        assert s.run(one, "echo here")["stdout"] == "here\n"
        two = s.spawn()
        assert s.run(two, "echo here")["stdout"] == "here\n"
        place.end(signal.SIGKILL)
        wait_for("everything has ended", lambda: not place.processes(), DEATH)
        s = place.start()
        three = s.spawn()
        place.end(signal.SIGKILL)
        # While no server is there, its death is theirs.
        os.kill(place.keeper(), signal.SIGKILL)
        wait_for("everything has ended", lambda: not place.processes(), DEATH)
        s = place.start()
        assert s.get(f"/sandboxes/{three}").status == 404


def test_a_new_mount_namespace():
    """As systemd gives each start of a unit with PrivateMounts= one."""
    if os.geteuid():
        print("SKIPPED: not root: no mount namespace to be had")
        return
    with Place() as place:
        apart = ["unshare", "--mount", "--propagation", "slave", "sh", "-c",
                 'mount -t tmpfs none /mnt && mount -t tmpfs none /srv && exec "$@"', "sh"]
        place.end(signal.SIGTERM)

        def start():
            place.server = Server(directory=place.directory, args=["--keep=1m"], wrapper=apart)
            return place.server

        s = start()
        one = s.spawn()
        s.post(f"/sandboxes/{one}/files", {"path": "f", "content": "kept"})
        for sig in (signal.SIGKILL, signal.SIGTERM):
            place.end(sig)
            s = start()
            assert s.run(one, "cat f; echo more >>g; wc -l <g")["stdout"].startswith("kept")
        two = s.spawn()
        assert s.run(two, "echo fine")["stdout"] == "fine\n"
        for sandbox in (one, two):
            assert s.delete(f"/sandboxes/{sandbox}").status == 200
        assert not place.boxes()


def test_requests_under_way_break_off():
    """A stop waits neither for a stream nor for a spawn, and what was spawned by then is either known or gone."""
    with Place() as place:
        s = place.server
        told = []

        def spawn():
            with contextlib.suppress(Exception):
                told.append(s.spawn())

        threads = [threading.Thread(target=spawn) for _ in range(12)]
        for t in threads:
            t.start()
        wait_for("some have begun", lambda: place.boxes())
        place.end(signal.SIGTERM)
        for t in threads:
            t.join()
        s = place.start()
        known = {x["id"] for x in s.get("/sandboxes").json()}
        assert set(told) <= known, (told, known)
        for sandbox in known:
            assert s.run(sandbox, "echo fine")["stdout"] == "fine\n"
        assert set(place.boxes()) == known


if __name__ == "__main__":
    require_sandboxes()
    main([test_everything_is_there_again, test_commands_run_on_without_their_readers, test_expiry_goes_on, test_b6_nobody_comes_back,
          test_without_keep_they_end_with_the_server, test_a_server_that_keeps_none_destroys_what_it_finds, test_the_keeper_dies,
          test_a_new_mount_namespace, test_requests_under_way_break_off])
