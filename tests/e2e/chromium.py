# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium that a test drives by its DevTools protocol over a pipe: pages, what stands in them, pictures of them."""
import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--disable-default-apps",
         "--disable-extensions", "--no-proxy-server",
         # No name is asked of anybody: the attacker's leads to this machine, all others nowhere.
         "--host-resolver-rules=MAP evil.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1, EXCLUDE ::1"]


def start(profile, *words, pass_fds=(), wrapper=()):
    """A browser whose files are all below a directory; ends with the process group."""
    env = {**os.environ, "HOME": profile, "XDG_CONFIG_HOME": profile, "XDG_CACHE_HOME": profile}
    return subprocess.Popen([*wrapper, PROGRAM, *FLAGS, f"--user-data-dir={profile}/data", *words], env=env, pass_fds=pass_fds,
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def end(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def visit(url, done):
    """Opens the page in a browser of its own, until the event is set, which the page's server does."""
    with tempfile.TemporaryDirectory(prefix="sg-browser.", dir="/tmp", ignore_cleanup_errors=True) as profile:
        process = start(profile, "--remote-debugging-port=0", url)
        try:
            assert done.wait(90), "the page has not told its results"
        finally:
            end(process)


class Chromium:
    """One browser with one page."""

    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="sg-browser.", dir="/tmp")
        theirs_in, self.out = os.pipe()
        self.inn, theirs_out = os.pipe()
        # The protocol is spoken on descriptors 3 and 4; sh moves them there.
        self.process = start(self.profile, "--remote-debugging-pipe", "--window-size=1200,1500", "about:blank",
                             pass_fds=(theirs_in, theirs_out),
                             wrapper=("sh", "-c", f"exec 3<&{theirs_in} 4>&{theirs_out} && exec \"$@\"", "sh"))
        os.close(theirs_in)
        os.close(theirs_out)
        self.rest = b""
        self.number = 0
        self.events = []    # (method, params) of what the page said: console, exceptions, log entries, dialogs
        self.session = None
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")

    def _message(self, seconds):
        """The next one; None when there is none in time."""
        end = time.monotonic() + seconds
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.inn], [], [], max(0, end - time.monotonic()))
            if not ready:
                return None
            piece = os.read(self.inn, 1 << 16)
            assert piece, "the browser has ended"
            self.rest += piece
        one, _, self.rest = self.rest.partition(b"\0")
        return json.loads(one)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message(90)
            assert answer is not None, f"the browser does not answer {method}"
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            if "method" in answer:
                self.events.append((answer["method"], answer.get("params", {})))
                assert answer["method"] != "Page.javascriptDialogOpening", answer

    def open(self, url):
        done = self.call("Page.navigate", url=url)
        assert "errorText" not in done, done

    def value(self, expression):
        """What the expression is in the page, as JSON."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def text(self, selector):
        return self.value(f"(document.querySelector({json.dumps(selector)}) || {{}}).innerText || ''")

    def picture(self, path):
        with open(path, "wb") as f:
            f.write(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def complaints(self):
        """Exceptions, console errors and refusals of the page so far."""
        self.value("1")
        bad = []
        for method, params in self.events:
            if method == "Runtime.exceptionThrown":
                bad.append(params["exceptionDetails"])
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                bad.append(params)
            elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                bad.append(params["entry"])
        return bad

    def asked(self):
        """URLs that were asked for."""
        return [params["request"]["url"] for method, params in self.events if method == "Network.requestWillBeSent"]

    def close(self):
        end(self.process)
        os.close(self.out)
        os.close(self.inn)
        shutil.rmtree(self.profile, ignore_errors=True)
