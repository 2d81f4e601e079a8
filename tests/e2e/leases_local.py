# SPDX-License-Identifier: Apache-2.0
"""Leases on the embedded server, by curl, a shell script and the command-line client."""
import json
import os
import signal
import socket
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sg  # noqa: E402

# Makes a sandbox that is its own, says its id, and goes on until its input ends.
SCRIPT = ('curl -sf --unix-socket "$STACYGATE_SOCKET" -H "Stacygate-Lease: process=$$" -d "{}" http://localhost/api/v1/sandboxes; '
          'echo; read line')


def started():
    return sg.Started(sg.Gateway("leases: { ttl: 6s, extend: 500ms, grace: 1s }\n"))


def script(g):
    p = subprocess.Popen(["sh", "-c", SCRIPT], env=g.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return p, json.loads(p.stdout.readline())["id"]


def leases(g):
    done = subprocess.run([sg.program("stacygate"), "leases", "--json"], env=g.env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def gone(g, sandbox):
    sg.wait_until(lambda: sandbox not in g.sandboxes(), f"{sandbox} is gone")
    sg.wait_until(lambda: leases(g) == [], "its lease is gone")


def test_a_script_and_its_sandbox():
    """A sandbox that a script made works as long as the script lives, beyond the ttl, and ends with it, by whatever signal."""
    with started() as g:
        for how in (signal.SIGTERM, signal.SIGKILL):
            p, s = script(g)
            assert [(x["sandbox"], x["kind"], x["pid"], x["state"]) for x in leases(g)] == [(s, "process", p.pid, "held")]
            before = g.request("GET", f"/api/v1/sandboxes/{s}").json["expires_at"]
            sg.wait_until(lambda: g.request("GET", f"/api/v1/sandboxes/{s}").json["expires_at"] > before, "it is extended")
            assert g.exec(s, "echo here")["stdout"] == "here\n"
            p.send_signal(how)
            p.wait()
            gone(g, s)
            p.stdin.close()
            p.stdout.close()


def test_client_renews_and_releases():
    """The command-line client ties a sandbox to a clock, and lets it go again: then the script's end is nothing to it."""
    with started() as g:
        p, s = script(g)
        client = [sg.program("stacygate"), "leases"]
        subprocess.run([*client, "renew", s, "1h"], env=g.env, check=True, capture_output=True)
        assert [x["kind"] for x in leases(g)] == ["clock"]
        subprocess.run([*client, "release", s], env=g.env, check=True, capture_output=True)
        p.communicate("\n")
        assert leases(g) == [] and g.exec(s, "echo still here")["stdout"] == "still here\n"
        assert g.request("DELETE", f"/api/v1/sandboxes/{s}").status == 200


def test_the_gateway_is_killed():
    """The embedded server ends with its gateway, and so do its sandboxes: the next start finds that out and forgets the leases."""
    with started() as g:
        p, s = script(g)
        with p:
            g.process.kill()
            g.process.wait()
            g.start()
            gone(g, s)
            p.kill()


if __name__ == "__main__":
    socket.setdefaulttimeout(60)
    sg.need_user_namespaces()
    sys.exit(sg.main(dict(globals())))
