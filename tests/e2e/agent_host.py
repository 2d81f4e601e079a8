# SPDX-License-Identifier: Apache-2.0
"""conf/agent-host.yaml as it is shipped, but for its paths: two containers, each with the directory of its listener mounted
read-only. Each works with its own sandboxes, finds nothing of the other's, and goes on through the same mount after the
gateway was stopped or killed and started again."""
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sg  # noqa: E402

SRC = os.environ.get("SG_SRCDIR", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
KEY = "SEKRET-agent-host-key"
STRANGER = 54321  # a uid of the host that is nobody's
INSIDE = "/run/stacygate/stacygate.sock"


def shipped(directory):
    """The file with its paths moved below one directory, and `uid: 0` meaning whoever runs this."""
    with open(os.path.join(SRC, "conf", "agent-host.yaml"), encoding="utf-8") as f:
        text = f.read()
    for there, here in (("/run/stacygate-agents/", "agents/"), ("/run/stacygate/", "run/"), ("/run/stacyvm/stacyvm.sock", "server.sock"),
                        ("/etc/stacygate/team.key", "key")):
        text, times = re.subn(r"^(?!#)(.*)" + re.escape(there), lambda m, here=here: m[1] + os.path.join(directory, here), text, flags=re.M)
        assert times, f"the file does not name {there}"
    text, times = re.subn(r"\buid: 0\b(?=[ ,])", f"uid: {os.getuid()}", re.sub(r"^#.*\n", "", text, flags=re.M))
    assert times == 1, "the file has no rule for uid 0"
    return text


class Host:
    """The host: a server that outlives the gateway, so that sandboxes do, and the gateway with the shipped file."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="sg-e2e.", dir="/tmp")
        os.mkdir(os.path.join(self.dir, "agents"), 0o700)
        with open(os.open(os.path.join(self.dir, "key"), os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as f:
            f.write(KEY + "\n")
        self.gateway = sg.Gateway(shipped(self.dir), self.dir)
        self.log_path = os.path.join(self.dir, "server.log")
        self.server = None

    def __enter__(self):
        path = os.path.join(self.dir, "server.sock")
        with open(self.log_path, "wb") as log:
            self.server = subprocess.Popen([sg.program("stacygate-local"), "--listen", "unix:" + path, "--state", os.path.join(self.dir, "vm"),
                                            "--api-key-file", os.path.join(self.dir, "key")], stdout=log, stderr=log)
        try:
            sg.wait_until(lambda: os.path.exists(path), "the server listens", 30)
            self.gateway.start()
        except BaseException:
            self.__exit__(True)
            raise
        return self

    def __exit__(self, kind, *_):
        try:
            if not kind:
                self.gateway.stop()
        finally:
            self.server.terminate()
            self.server.wait(30)
            with open(self.log_path, encoding="utf-8", errors="replace") as f:
                text = f.read()
            self.gateway.remove()
        if not kind:
            sg.check_clean(text, "stacygate-local")

    def kill_gateway(self):
        family = self.gateway.family()
        self.gateway.process.send_signal(signal.SIGKILL)
        self.gateway.process.wait(30)
        sg.wait_until(lambda: not sg.alive(family), "what the gateway had started has gone", 10)
        assert os.path.exists(os.path.join(self.dir, "agents", "a", "stacygate.sock")), "no stale socket: this is not what was to be tried"

    def mounted(self, agent):
        return os.path.join(self.dir, "agents", agent)


class Container:
    """A container with a shell in it that stays, whatever becomes of the gateway."""

    def __init__(self, host, agent, remapped=False):
        argv = ["bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-net", "--die-with-parent", "--new-session", "--clearenv",
                "--setenv", "PATH", "/usr/bin:/bin:/usr/sbin:/sbin", "--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
                "--perms", "0755", "--dir", "/run", "--perms", "0755", "--dir", "/opt",  # bubblewrap's own choice is 0700
                "--ro-bind", sg.program("stacygate"), "/opt/stacygate", "--ro-bind", host.mounted(agent), os.path.dirname(INSIDE)]
        for name in ("bin", "sbin", "lib", "lib64"):
            argv += ["--symlink", "usr/" + name, "/" + name]
        if remapped:  # by root for somebody else: what is root inside is STRANGER for the host
            argv += ["--", "setpriv", "--reuid", str(STRANGER), "--regid", str(STRANGER), "--clear-groups",
                     "unshare", "--user", "--map-root-user", "--", "/bin/sh"]
        else:
            argv += ["--unshare-user", "--uid", "0", "--gid", "0", "--", "/bin/sh"]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.sh("id -u") == "0\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()

    def sh(self, command):
        """What the shell inside prints for it."""
        self.process.stdin.write(f"{{ {command}; }} </dev/null 2>&1; printf '\\n=%s=\\n' END\n")
        self.process.stdin.flush()
        lines = []
        while not lines or lines[-1] != "=END=\n":
            lines.append(self.process.stdout.readline())
            assert lines[-1], f"the container ended: {''.join(lines)}"
        return "".join(lines[:-1])[:-1]

    def ask(self, method, path, body=None):
        argv = ["curl", "-sS", "--max-time", "60", "--unix-socket", INSIDE, "-X", method, "-w", "\\n%{http_code}", "http://localhost" + path]
        if body is not None:
            argv += ["-d", json.dumps(body)]
        text = self.sh(" ".join(shlex.quote(word) for word in argv))
        body, _, status = text.rpartition("\n")
        assert status.isdigit() and status != "000", text
        return int(status), json.loads(body)

    def ok(self, method, path, body=None, status=200):
        answer = self.ask(method, path, body)
        assert answer[0] == status, answer
        return answer[1]

    def spawn(self):
        return self.ok("POST", "/api/v1/sandboxes", {}, 201)["id"]

    def run(self, sandbox, command):
        return self.ok("POST", f"/api/v1/sandboxes/{sandbox}/exec", {"command": command})["stdout"]

    def listed(self):
        return [s["id"] for s in self.ok("GET", "/api/v1/sandboxes")]


def works_alone(mine, sandbox, other, agent, uid):
    """Own sandboxes are there and work; the other's do not exist."""
    me = mine.ok("GET", "/gateway/v1/whoami")
    assert (me["rule"], me["listener"], me["uid"]) == (agent, agent, uid) and me["user_id"].startswith(agent + "@"), me
    assert mine.listed() == [sandbox]
    assert mine.run(sandbox, "cat /workspace/mark") == agent
    for method, path, body in (("GET", "", None), ("POST", "/exec", {"command": "true"}), ("GET", "/files?path=/workspace/mark", None), ("DELETE", "", None)):
        answer = mine.ask(method, f"/api/v1/sandboxes/{other}{path}", body)
        assert answer == (404, {"code": "NOT_FOUND", "message": f"sandbox not found: {other}"}), (method, path, answer)
    assert mine.sh("find / -xdev -type s; find /run -type s") == INSIDE + "\n"
    assert mine.sh("/opt/stacygate ls | grep -o 'sb-[0-9a-f]*' | sort -u") == sandbox + "\n"


def cannot_replace(container):
    """The mount is read-only: nothing inside can take the socket away or put another one there."""
    for command in (f"rm -f {INSIDE}", f"touch {os.path.dirname(INSIDE)}/x", f"mv {INSIDE} {INSIDE}.old"):
        assert "Read-only file system" in container.sh(command), command


def two_agents(remapped):
    uid = STRANGER if remapped else os.getuid()
    with Host() as host, Container(host, "a", remapped) as a, Container(host, "b", remapped) as b:
        sandboxes = {c: c.spawn() for c in (a, b)}
        for c, name in ((a, "agent-a"), (b, "agent-b")):
            c.run(sandboxes[c], f"printf {name} >/workspace/mark")

        def both():
            works_alone(a, sandboxes[a], sandboxes[b], "agent-a", uid)
            works_alone(b, sandboxes[b], sandboxes[a], "agent-b", uid)

        both()
        cannot_replace(a)
        directory = os.stat(host.mounted("a")).st_ino
        host.gateway.stop()
        assert [os.listdir(host.mounted(name)) for name in "ab"] == [[], []]
        assert "000" in a.sh(f"curl -sS --unix-socket {INSIDE} -w '%{{http_code}}' http://localhost/"), "somebody answers without a gateway"
        host.gateway.start()
        both()
        host.kill_gateway()
        host.gateway.start()
        both()
        assert os.stat(host.mounted("a")).st_ino == directory, "not the directory that is mounted"
        assert sorted(host.gateway.sandboxes()) == sorted(sandboxes.values()), "the host's own listener shows both"
        a.ok("DELETE", "/api/v1/sandboxes/" + sandboxes[a])
        assert a.listed() == [] and b.listed() == [sandboxes[b]]
        assert KEY not in host.gateway.log()


def test_root_in_two_containers_is_uid_0_and_each_is_its_own():
    """Started by root what is root inside is uid 0 for the host as well; otherwise it is whoever started it."""
    two_agents(False)


def test_root_of_a_mapped_user_namespace_is_told_by_the_listener_too():
    if os.getuid():
        raise sg.Skip("only root starts containers for other uids")
    two_agents(True)


def test_other_users_of_the_host_do_not_reach_the_sockets():
    """The sockets are open to every uid; what closes them is the directory above, which is mounted nowhere."""
    if os.getuid():
        raise sg.Skip("only root can try as another user")
    with Host() as host:
        os.chmod(host.dir, 0o755)
        path = os.path.join(host.mounted("a"), "stacygate.sock")

        def as_stranger():
            done = subprocess.run(["setpriv", "--reuid", str(STRANGER), "--regid", str(STRANGER), "--clear-groups", "curl", "-sS", "--unix-socket", path,
                                   "http://localhost/gateway/v1/whoami"], capture_output=True, text=True)
            return done.returncode

        assert as_stranger() == 7  # curl: failed to connect
        os.chmod(os.path.dirname(host.mounted("a")), 0o755)
        assert as_stranger() == 0, "it was refused for another reason"


if __name__ == "__main__":
    socket.setdefaulttimeout(60)
    sg.need_user_namespaces()
    if not shutil.which("curl"):
        sg.skip("curl is not installed")
    sys.exit(sg.main(dict(globals())))
