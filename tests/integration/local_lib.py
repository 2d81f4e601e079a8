# SPDX-License-Identifier: Apache-2.0
"""Starts stacygate-local (or its form with sandboxes in memory) in a directory of its own and speaks HTTP to it."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

BUILD = os.environ.get("SG_BUILDDIR", ".")
BASE = "/api/v1"
KEY = "SEKRET-local-key"  # the harness's mark: it must never be written anywhere
DEADLINE = 20.0           # what must happen, happens within this on a slow machine with sanitizers


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        assert self.header("content-type") == "application/json", self.headers
        assert self.body.endswith(b"\n"), self.body
        return json.loads(self.body)

    def header(self, name):
        values = self.all(name)
        return values[0] if values else None

    def all(self, name):
        return [v for k, v in self.headers if k.lower() == name.lower()]

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=DEADLINE):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def wait_for(what, holds, seconds=DEADLINE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = holds()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"not within {seconds} s: {what}")


class Server:
    """One server; its socket, state and key lie below a temporary directory."""

    def __init__(self, program="stacygate-local", key=True, admin=None, args=(), directory=None, wait=True, life=None,
                 wrapper=(), fds=()):
        self.directory = directory or tempfile.mkdtemp(prefix="sg-local.")
        self.own_directory = directory is None
        self.socket = os.path.join(self.directory, "s")
        self.state = os.path.join(self.directory, "state")
        self.key = KEY if key else None
        command = [*wrapper, os.path.join(BUILD, program), "--listen", "unix:" + self.socket, "--state", self.state]
        if key:
            command += ["--api-key-file", self.write("key", KEY + "\n")]
        if admin:
            command += ["--admin-api-key-file", self.write("admin", admin + "\n")]
        fds = list(fds)
        if life is not None:
            command += ["--life-fd", str(life)]
            fds.append(life)
        self.out = open(os.path.join(self.directory, "out"), "wb")
        self.err = open(os.path.join(self.directory, "err"), "wb")
        self.process = subprocess.Popen(command + list(args), stdout=self.out, stderr=self.err, pass_fds=fds)
        if wait:
            wait_for("the server accepts", self.accepts)

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o600)
        return path

    def accepts(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended with {self.process.returncode}: {self.log()}")
        try:
            self.raw().close()
            return True
        except OSError:
            return False

    def raw(self):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(DEADLINE)
        sock.connect(self.socket)
        return sock

    def head(self, method, path, body=None, headers=()):
        """The bytes of a request."""
        text = f"{method} {BASE}{path} HTTP/1.1\r\nHost: x\r\n"
        if self.key:
            text += f"X-API-Key: {self.key}\r\n"
        for name, value in headers:
            text += f"{name}: {value}\r\n"
        if body is not None:
            text += f"Content-Length: {len(body)}\r\n"
        return text.encode("latin-1") + b"\r\n" + (body or b"")

    def request(self, method, path, body=None, headers=None, key=True, base=BASE):
        connection = UnixConnection(self.socket)
        send = dict(headers or {})
        if key and self.key:
            send["X-API-Key"] = self.key
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        try:
            connection.request(method, base + path, body=body, headers=send)
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.request("POST", path, body=body, **more)

    def delete(self, path, **more):
        return self.request("DELETE", path, **more)

    def spawn(self, **fields):
        answer = self.post("/sandboxes", fields)
        assert answer.status == 201, answer
        return answer.json()["id"]

    def run(self, sandbox, command, **fields):
        answer = self.post(f"/sandboxes/{sandbox}/exec", {"command": command, **fields})
        assert answer.status == 200, answer
        return answer.json()

    def log(self):
        with open(os.path.join(self.directory, "err"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def stop(self, sig=signal.SIGTERM, status=0):
        """Ends it, judges its output and the directories, and removes them."""
        if self.process.poll() is None and sig:
            self.process.send_signal(sig)
        try:
            self.process.wait(DEADLINE)
        finally:
            self.process.kill()
            self.out.close()
            self.err.close()
        log = self.log()
        with open(os.path.join(self.directory, "out"), encoding="utf-8", errors="replace") as file:
            output = file.read()
        assert not re.search(r"Sanitizer|runtime error|check failed", log), log
        assert KEY not in log + output, "the key was written"
        if status is not None:
            assert self.process.returncode == status, (self.process.returncode, log[-3000:])
        if self.own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)
        return log

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind:
            sys.stderr.write(self.log()[-4000:])
        self.stop(status=None if kind else 0)


def require_sandboxes():
    """Ends the script as skipped where user namespaces or bubblewrap are missing."""
    with tempfile.TemporaryDirectory(prefix="sg-local.") as directory:
        server = Server(directory=directory, wait=False)
        try:
            while server.process.poll() is None:
                if os.path.exists(server.socket):
                    return
                time.sleep(0.01)
            if re.search(r"user namespaces|bubblewrap|bwrap", server.log()) and server.process.returncode == 3:
                print("SKIPPED: no sandboxes here: " + server.log().strip().replace("\n", "; "))
                sys.exit(77)
            raise AssertionError(f"the server does not start: {server.log()}")
        finally:
            server.stop(status=None)


def main(tests):
    """Runs the functions, or those named on the command line, and prints the summary."""
    wanted = sys.argv[1:]
    passed = failed = 0
    for test in tests:
        if wanted and test.__name__ not in wanted:
            continue
        began = time.monotonic()
        try:
            test()
            passed += 1
            verdict = "ok"
        except Exception:  # pylint: disable=broad-except
            traceback.print_exc(file=sys.stdout)
            failed += 1
            verdict = "FAILED"
        print(f"{verdict}: {test.__name__} ({time.monotonic() - began:.2f} s)", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)
