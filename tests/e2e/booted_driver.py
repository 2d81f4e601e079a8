# SPDX-License-Identifier: Apache-2.0
"""Runs in the booted tree, as root, with a systemd as process 1: the packaged units as an administrator uses them."""
import http.client
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback

SOCKET = "/run/stacygate/stacygate.sock"
CONFIG = "/etc/stacygate/stacygate.yaml"
DROP_INS = "/run/systemd/system/stacygated.service.d"
KEY = "SEKRET-booted-key"
DEADLINE = 60.0


class Skip(Exception):
    """What this tree or kernel does not allow."""


def run(*words, check=True, **more):
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, **more)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(words)}: {done.returncode} {done.stdout} {done.stderr}")
    return done.stdout.strip()


def show(unit, *names):
    out = dict(line.split("=", 1) for line in run("systemctl", "show", unit, *("-p" + n for n in names)).splitlines())
    return [out[n] for n in names]


def wait_for(what, holds, seconds=DEADLINE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = holds()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}; {log()[-3000:]}")


def log(unit="stacygated.service"):
    return run("journalctl", "-u", unit, "-o", "cat", "--no-pager", check=False)


def is_active():
    return show("stacygated.service", "ActiveState", "SubState") == ["active", "running"]


class Connection(http.client.HTTPConnection):
    def __init__(self, address=SOCKET):
        super().__init__("localhost", timeout=DEADLINE)
        self.address = address

    def connect(self):
        if isinstance(self.address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(DEADLINE)
            self.sock.connect(self.address)
        else:
            self.sock = socket.create_connection(self.address, DEADLINE)


def ask(target, method="GET", body=None, address=SOCKET):
    connection = Connection(address)
    connection.request(method, target, body)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data


def as_user(name, target, method="GET", body=None):
    """The same as somebody else."""
    script = (f"import sys; sys.path.insert(0, '/sgtest'); import booted_driver as d; s, b = d.ask({target!r}, {method!r}, {body!r});"
              "print(s); print(b.decode())")
    user = pwd.getpwnam(name)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, user=user.pw_uid,
                          group=user.pw_gid, extra_groups=os.getgrouplist(name, user.pw_gid), cwd="/")
    if done.returncode:
        raise OSError(done.stderr.strip().splitlines()[-1])
    status, _, text = done.stdout.partition("\n")
    return int(status), text


def pid():
    return int(show("stacygated.service", "MainPID")[0])


def running():
    """Its process, or nothing."""
    state, sub, main_pid = show("stacygated.service", "ActiveState", "SubState", "MainPID")
    return int(main_pid) if (state, sub) == ("active", "running") else 0


def drop_in(name, text):
    os.makedirs(DROP_INS, exist_ok=True)
    with open(f"{DROP_INS}/{name}.conf", "w", encoding="utf-8") as file:
        file.write(text)
    run("systemctl", "daemon-reload")


def no_drop_in(name):
    os.unlink(f"{DROP_INS}/{name}.conf")
    run("systemctl", "daemon-reload")


def restart():
    run("systemctl", "reset-failed", "stacygated.service", check=False)
    run("systemctl", "restart", "stacygated.service")


class Configuration:
    """Other contents while it lasts."""

    def __init__(self, text):
        self.text = text

    def __enter__(self):
        with open(CONFIG, encoding="utf-8") as file:
            self.before = file.read()
        with open(CONFIG, "w", encoding="utf-8") as file:
            file.write(self.text)

    def __exit__(self, *_):
        with open(CONFIG, "w", encoding="utf-8") as file:
            file.write(self.before)
        restart()


WITH_KEY = """upstreams: { main: { url: "http://127.0.0.1:9" } }
credentials: { team: { api_key: { systemd: api-key } } }
clients:
  - { name: root, match: { uid: 0 }, upstream: main, credential: team, admin: true }
"""


class Key:
    """One that only root can read on disk, where the unit looks for it."""

    def __enter__(self):
        os.makedirs("/etc/credstore", mode=0o700, exist_ok=True)
        with open(os.open("/etc/credstore/stacygate.api-key", os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
            file.write(KEY + "\n")

    def __exit__(self, *_):
        os.unlink("/etc/credstore/stacygate.api-key")


class Load:
    """
    Clients all the time, each with requests for the gateway and for the server, on new connections and on one that it keeps.
    `refused` are those that found nobody, `lost` those without an answer, `wrong` other answers than those that there should be.
    """

    REQUESTS = (("GET", "/gateway/v1/health", None, 200), ("POST", "/api/v1/sandboxes/sb-00000000/exec", '{"command":"true"}', 404))

    def __init__(self, pause=0.02, threads=1):
        self.over, self.done = threading.Event(), 0
        self.refused, self.lost, self.wrong = [], [], []
        self.pause = pause
        self.threads = [threading.Thread(target=self.client) for _ in range(threads)]

    def ask(self, connection, method, target, body, status):
        try:
            connection.request(method, target, body)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status == status:
                self.done += 1
            else:
                self.wrong.append((method, answer.status, text[:200]))
        except (ConnectionRefusedError, FileNotFoundError) as fault:
            self.refused.append(repr(fault))
        except (OSError, http.client.HTTPException) as fault:
            self.lost.append((method, repr(fault)))
            connection.close()

    def client(self):
        kept = Connection()
        while not self.over.wait(self.pause):
            for request in self.REQUESTS:
                self.ask(kept, *request)
                new = Connection()
                self.ask(new, *request)
                new.close()
        kept.close()

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for t in self.threads:
            t.join()

    def assert_lost(self, at_most=0):
        assert not self.refused and not self.wrong and len(self.lost) <= at_most, (self.refused[:5], self.wrong[:5], self.lost[:5])


# --- tests ------------------------------------------------------------------------------------------------------------

def test_a_connection_starts_the_service():
    assert show("stacygated.service", "ActiveState") == ["inactive"]
    status, body = ask("/gateway/v1/whoami")
    who = json.loads(body)
    assert status == 200 and who["uid"] == 0 and who["rule"] == "root" and who["listener"] == "host", body
    assert is_active()
    user, text = show("stacygated.service", "User", "StatusText")
    assert user == "stacygate" and text.startswith("serving"), text
    with open(f"/proc/{pid()}/status", encoding="ascii") as file:
        status = file.read()
    assert f"Uid:\t{pwd.getpwnam('stacygate').pw_uid}\t" in status and "CapEff:\t0000000000000000" in status, status
    assert re.search(r"^Seccomp:\t2$", status, re.M) and re.search(r"^NoNewPrivs:\t1$", status, re.M), status


def test_members_of_the_group_and_nobody_else():
    status, text = as_user("alice", "/gateway/v1/whoami")
    assert status == 200 and json.loads(text)["uid"] == pwd.getpwnam("alice").pw_uid and json.loads(text)["rule"] == "users", text
    try:
        as_user("mallory", "/gateway/v1/whoami")
        raise AssertionError("who is not in the group may connect")
    except OSError as fault:
        assert "Permission denied" in str(fault), fault
    done = subprocess.run(["stacygate", "health"], capture_output=True, text=True, timeout=120, user="mallory", group="mallory",
                          extra_groups=[], cwd="/", check=False)
    assert done.returncode == 1 and "with mode 0660 only members of group stacygate may use it" in done.stderr, done


def test_sandboxes_of_the_local_unit():
    status, text = as_user("alice", "/api/v1/sandboxes", "POST", '{"image":"node:20","ttl":"5m"}')
    if status != 201:
        probe = subprocess.run(["setpriv", "--reuid", "65533", "--regid", "65533", "--clear-groups", "bwrap", "--unshare-all", "--ro-bind",
                                "/", "/", "--proc", "/proc", "--dev", "/dev", "true"], capture_output=True, text=True, check=False)
        if probe.returncode:
            raise Skip(f"this container refuses what bubblewrap needs: {probe.stderr.strip()}")
    assert status == 201, (status, text, log("stacygate-local.service")[-3000:])
    sandbox = json.loads(text)["id"]
    status, text = as_user("alice", f"/api/v1/sandboxes/{sandbox}/exec", "POST", '{"command":"echo in; cat /proc/self/uid_map"}')
    assert status == 200 and json.loads(text)["stdout"].startswith("in\n"), text
    with open("/var/lib/stacygate-local/api.key", encoding="ascii") as file:
        key = file.read().strip()
    stat = os.stat("/var/lib/stacygate-local/api.key")
    assert (stat.st_mode & 0o777, stat.st_uid, stat.st_gid) == (0o640, 0, pwd.getpwnam("stacygate").pw_gid), stat
    assert key not in log() and key not in log("stacygate-local.service")
    status, _ = as_user("alice", f"/api/v1/sandboxes/{sandbox}", "DELETE")
    assert status == 200


def local_processes(sandbox):
    """bubblewrap and the init carry the name of their sandbox."""
    return run("pgrep", "-f", sandbox, check=False).split()


def test_sandboxes_outlive_the_local_unit():
    """Restarted, killed, stopped and started: the sandbox and what runs in it are there again, in another mount namespace."""
    unit = "stacygate-local.service"

    def command(text):
        status, answer = as_user("alice", f"/api/v1/sandboxes/{sandbox}/exec", "POST", json.dumps({"command": text}))
        return json.loads(answer)["stdout"] if status == 200 else None

    status, text = as_user("alice", "/api/v1/sandboxes", "POST", '{"image":"node:20","ttl":"10m"}')
    if status != 201:
        raise Skip("this container refuses what bubblewrap needs")
    sandbox = json.loads(text)["id"]
    assert command("echo kept >f; setsid sleep 4077301 >/dev/null 2>&1 & echo $!") is not None
    was = show(unit, "MainPID")[0]
    # The keeper stays in it, so that its number is not given away again.
    first = os.readlink(f"/proc/{was}/ns/mnt")
    ways = [lambda: run("systemctl", "restart", unit), lambda: os.kill(int(was), signal.SIGKILL),
            lambda: (run("systemctl", "stop", unit), run("systemctl", "start", unit))]
    for way in ways:
        begin = time.monotonic()
        way()
        wait_for("it runs again", lambda: show(unit, "ActiveState", "MainPID")[0] == "active" and show(unit, "MainPID")[0] not in ("0", was))
        found = wait_for("the sandbox answers", lambda: command("cat f; ps ax | grep -c '[s]leep 4077301'"))
        assert found == "kept\n1\n", found
        print(f"    answers after {time.monotonic() - begin:.1f} s")
        was = show(unit, "MainPID")[0]
        assert os.readlink(f"/proc/{was}/ns/mnt") != first
    assert as_user("alice", f"/api/v1/sandboxes/{sandbox}", "DELETE")[0] == 200
    assert not local_processes(sandbox) and not os.listdir("/var/lib/stacygate-local/state/sandboxes")
    # Stopped for good they would go after 30 s, and at once when the unit is killed.
    sandbox = json.loads(as_user("alice", "/api/v1/sandboxes", "POST", '{"image":"node:20","ttl":"10m"}')[1])["id"]
    run("systemctl", "stop", unit)
    assert local_processes(sandbox), log(unit)[-2000:]
    run("systemctl", "kill", "--signal=SIGKILL", unit)
    wait_for("everything has ended", lambda: not local_processes(sandbox), 5)
    run("systemctl", "start", unit)
    wait_for("nothing of it is known", lambda: as_user("alice", f"/api/v1/sandboxes/{sandbox}")[0] == 404)
    assert not os.listdir("/var/lib/stacygate-local/state/sandboxes")


def test_reload():
    run("systemctl", "reload", "stacygated.service")
    wait_for("it is read again", lambda: "configuration 2 is in force" in log())
    assert is_active()


def test_reload_of_a_faulty_file():
    """Whoever reloads hears of it; nothing changes. A file that needs the service's key passes, as it does at the start."""
    with Configuration(WITH_KEY), Key():
        restart()
        before = pid()
        run("systemctl", "reload", "stacygated.service")
        count = log().count("is in force")
        with open(CONFIG, "a", encoding="utf-8") as file:
            file.write("oops: 1\n")
        done = subprocess.run(["systemctl", "reload", "stacygated.service"], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 1, done
        run("journalctl", "--sync")
        assert f'{CONFIG}:5:1: unknown key "oops"' in log(), log()[-3000:]
        assert is_active() and pid() == before and ask("/gateway/v1/health")[0] == 200
        assert log().count("is in force") == count, "the daemon was told to reload"


def test_a_faulty_file_does_not_take_the_socket():
    """Clients that come meanwhile wait, and are served as soon as the file is repaired."""
    with open(CONFIG, encoding="utf-8") as file:
        good = file.read()
    with Configuration(good + "oops: 1\n"):
        assert subprocess.run(["systemctl", "restart", "stacygated.service"], capture_output=True, timeout=120, check=False).returncode == 1
        began = int(show("stacygated.service", "NRestarts")[0])
        waiting = [Connection() for _ in range(100)]
        for c in waiting:
            c.request("GET", "/gateway/v1/health")
        wait_for("it is tried again", lambda: int(show("stacygated.service", "NRestarts")[0]) > began + 4)
        assert show("stacygated.socket", "ActiveState", "Result") == ["active", "success"] and os.path.exists(SOCKET)
        assert 'unknown key "oops"' in log()
        with open(CONFIG, "w", encoding="utf-8") as file:
            file.write(good)
        for c in waiting:
            assert c.getresponse().status == 200
            c.close()
        assert is_active()


def test_units_of_a_user():
    """The same, by the user's own systemd."""
    user = pwd.getpwnam("alice")
    os.makedirs(f"/run/user/{user.pw_uid}", mode=0o700, exist_ok=True)
    os.chown(f"/run/user/{user.pw_uid}", user.pw_uid, user.pw_gid)
    folder = "/home/alice/.config/stacygate"
    run("systemd-run", "--quiet", "--unit=alices", "--uid=alice", "-p", "Delegate=yes", "-p", "Type=notify",
        f"--setenv=XDG_RUNTIME_DIR=/run/user/{user.pw_uid}", "--setenv=HOME=/home/alice", "/lib/systemd/systemd", "--user")
    more = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/",
            "env": {**os.environ, "HOME": "/home/alice", "XDG_RUNTIME_DIR": f"/run/user/{user.pw_uid}"}}

    def systemctl(*words):
        return subprocess.run(["systemctl", "--user", *words], capture_output=True, text=True, timeout=120, check=False, **more)

    def write(text):
        with open(folder + "/stacygate.yaml", "w", encoding="utf-8") as file:
            file.write(text)
    try:
        os.makedirs(folder)
        write(f"upstreams: {{ main: {{ url: unix:///nowhere }} }}\ncredentials: {{ k: {{ api_key: {{ file: {folder}/key }} }} }}\n"
              f"clients: [{{ name: a, match: {{ uid: {user.pw_uid} }}, upstream: main, credential: k }}]\n")
        with open(os.open(folder + "/key", os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
            file.write("a-key\n")
        run("chown", "-R", "alice:", "/home/alice/.config")
        done = systemctl("start", "stacygated.service")
        assert done.returncode == 0, (done, log("alices.service"))
        socket_path = f"/run/user/{user.pw_uid}/stacygate.sock"
        assert systemctl("reload", "stacygated.service").returncode == 0
        write("oops: 1\n")
        assert systemctl("reload", "stacygated.service").returncode == 1
        assert systemctl("restart", "stacygated.service").returncode == 1
        waiting = Connection(socket_path)
        waiting.request("GET", "/gateway/v1/health")
        os.unlink(folder + "/stacygate.yaml")
        write("log: { level: info }\n")
        assert waiting.getresponse().status == 403, "it admits alice's own uid only"
        waiting.close()
    finally:
        run("systemctl", "stop", "alices.service")


def test_l6_crashes():
    """Killed 20 times under a client that comes 50 times a second: none is refused, systemd starts it each time."""
    before = int(show("stacygated.service", "NRestarts")[0])
    with Load() as load:
        for i in range(20):
            done = load.done
            wait_for("clients are served", lambda: load.done > done + 3)
            os.kill(wait_for("it runs", running), signal.SIGKILL)
            wait_for("it is started again", lambda: int(show("stacygated.service", "NRestarts")[0]) == before + i + 1 and is_active())
        done = load.done
        wait_for("clients are served", lambda: load.done > done + 3)
    # A kill costs the client what is under way, and his kept connection.
    load.assert_lost(at_most=2 * 20)


def test_l7_a_burst_of_crashes():
    with Load() as load:
        begin = time.monotonic()
        killed = 0
        while killed < 10:
            try:
                os.kill(wait_for("it runs", running), signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                continue  # systemd has not seen the last one yet
        took = time.monotonic() - begin
        wait_for("it is well again", is_active)
        done = load.done
        wait_for("clients are served", lambda: load.done > done + 3)
    load.assert_lost(at_most=2 * 10)
    assert show("stacygated.socket", "ActiveState") == ["active"]
    print(f"    10 kills in {took:.1f} s")


def test_l8_watchdog():
    drop_in("watchdog", "[Service]\nWatchdogSec=2s\n")
    restart()
    stopped = wait_for("it runs", running)
    before = int(show("stacygated.service", "NRestarts")[0])
    # A loop that turns is left alone for longer than that.
    time.sleep(4)
    assert pid() == stopped and int(show("stacygated.service", "NRestarts")[0]) == before
    os.kill(stopped, signal.SIGSTOP)
    wait_for("it is aborted and started again", lambda: is_active() and pid() not in (0, stopped))
    assert "watchdog" in run("journalctl", "-u", "stacygated.service", "-o", "cat", "--no-pager").lower()
    assert ask("/gateway/v1/health")[0] == 200
    no_drop_in("watchdog")
    restart()


def test_id4_private_users():
    drop_in("users", "[Service]\nPrivateUsers=yes\nRestart=no\n")
    run("systemctl", "restart", "stacygated.service", check=False)
    wait_for("it has failed", lambda: show("stacygated.service", "ActiveState") == ["failed"])
    assert show("stacygated.service", "ExecMainStatus") == ["3"] and "PrivateUsers=no" in log()
    no_drop_in("users")
    restart()
    assert is_active()


UNIT_RULE = """listen: [{{ path: {socket}, name: host, mode: "0660" }}]
clients:
  - {{ name: root, match: {{ uid: 0 }}, upstream: local, admin: true }}
  - {{ name: unit, match: {{ {match} }}, upstream: local }}
"""


def test_identity_conf():
    """What a rule asks for is refused, and the error names the drop-in with which it works."""
    with open("/usr/share/stacygate/identity.conf", encoding="utf-8") as file:
        text = file.read()
    for match, more in (("unit: asks.service", text), ("exe: [/usr/bin/curl]", re.sub(r"^#(?=[A-Z]\w+=)", "", text, flags=re.M))):
        with Configuration(UNIT_RULE.format(socket=SOCKET, match=match)):
            drop_in("once", "[Service]\nRestart=no\n")
            run("systemctl", "restart", "stacygated.service", check=False)
            wait_for("it has failed", lambda: show("stacygated.service", "ActiveState") == ["failed"])
            assert "/usr/share/stacygate/identity.conf" in log()
            drop_in("identity", more)
            no_drop_in("once")
            restart()
            assert is_active(), log()[-2000:]
            name = "asks" if match.startswith("unit") else "curls"
            answer = run("systemd-run", "--wait", "--pipe", "--quiet", f"--unit={name}", "--uid=alice", "-p", "SupplementaryGroups=stacygate",
                         "curl", "-sS", "--unix-socket", SOCKET, "http://localhost/gateway/v1/whoami")
            where = run("systemd-run", "--wait", "--pipe", "--quiet", f"--unit={name}", "cat", "/proc/self/cgroup")
            no_drop_in("identity")
            if name == "asks" and "name=systemd:/\n" in where:
                # The host mounts the old hierarchy beside the one that this systemd uses, so no process is seen in a unit there.
                print("    SKIPPED: that the rule by unit matches: this container shows /proc/PID/cgroup of two hierarchies")
                continue
            assert json.loads(answer).get("rule") == "unit", (answer, where)


def test_x4_credentials():
    """A key that only root can read on disk; nobody else sees it in the process or in systemd's copy."""
    with Configuration(WITH_KEY), Key():
        restart()
        assert is_active(), log()[-2000:]
        # The descriptor's name is the listener's where the file names none.
        status, body = ask("/gateway/v1/whoami")
        assert status == 200 and json.loads(body)["listener"] == "host", body
        status, body = ask("/gateway/v1/ready")
        assert b"credential" not in body, body
        with open(f"/proc/{pid()}/environ", "rb") as file:
            environ = file.read()
        directory = re.search(rb"CREDENTIALS_DIRECTORY=([^\0]+)", environ).group(1).decode()
        assert KEY.encode() not in environ
        script = f"import os; os.setgroups([]); os.setgid({pwd.getpwnam('mallory').pw_gid}); os.setuid({pwd.getpwnam('mallory').pw_uid})\n"
        for path in (f"{directory}/api-key", f"/proc/{pid()}/environ", f"/proc/{pid()}/mem"):
            done = subprocess.run([sys.executable, "-c", script + f"open({path!r}, 'rb').read(1)"], capture_output=True, text=True, check=False)
            assert "PermissionError" in done.stderr, (path, done.stderr)
        # The daemon's own uid may not look into it either.
        user = pwd.getpwnam("stacygate")
        for path in (f"/proc/{pid()}/environ", f"/proc/{pid()}/mem"):
            done = subprocess.run([sys.executable, "-c", f"open({path!r}, 'rb').read(1)"], capture_output=True, text=True, check=False,
                                  user=user.pw_uid, group=user.pw_gid, extra_groups=[])
            assert "PermissionError" in done.stderr, (path, done.stderr)
        assert KEY not in log()


def test_init_writes_what_works_here():
    """One user more: what is left to be done is printed, and done as printed he may in and root may look after it."""
    key = "/etc/stacygate/team.key"
    with open(CONFIG, encoding="utf-8") as file:
        before = file.read()
    run("gpasswd", "-d", "mallory", "stacygate", check=False)
    with Configuration(before):
        done = subprocess.run(["stacygate", "init", "--upstream", "local", "--user", "mallory", "--force"], capture_output=True, text=True,
                              timeout=120, check=False)
        assert (done.returncode, done.stdout) == (0, CONFIG + "\n"), done
        for command in re.findall(r"usermod -aG stacygate mallory|systemctl restart stacygated", done.stderr):
            run(*command.split())
        run("stacygated", "-t", "-c", CONFIG)
        status, body = as_user("mallory", "/gateway/v1/whoami")
        assert status == 200 and json.loads(body)["rule"] == "users", (status, body, done.stderr)
        assert as_user("alice", "/gateway/v1/whoami")[0] == 403
        run("stacygate", "reload")
        run("stacygate", "status")
        assert "was passed with mode" not in log().split("Starting stacygated")[-1], "the file and the socket unit disagree"
        # A key that the service may not read is refused before it is written.
        with open(os.open(key, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
            file.write(KEY + "\n")
        words = ["stacygate", "init", "--upstream", "https://127.0.0.1:9", "--key-file", key, "--force"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 1 and f"--key-file: credential \"main\": {key}: Permission denied" in done.stderr, done
        assert "user stacygate is to read it" in done.stderr, done
        os.chown(key, 0, pwd.getpwnam("stacygate").pw_gid)
        os.chmod(key, 0o640)
        run(*words)
        restart()
        assert ask("/gateway/v1/whoami")[0] == 200
        os.unlink(key)
    run("gpasswd", "-d", "mallory", "stacygate")


def test_loopback_port_is_held_while_stopped():
    os.makedirs("/run/systemd/system/stacygated.socket.d", exist_ok=True)
    with open("/run/systemd/system/stacygated.socket.d/tcp.conf", "w", encoding="utf-8") as file:
        file.write("[Socket]\nListenStream=127.0.0.1:7423\nListenStream=[::1]:7423\n")
    run("systemctl", "daemon-reload")
    with Configuration(f"""listen:
  - {{ path: {SOCKET}, name: host, mode: "0660" }}
  - {{ tcp: 127.0.0.1:7423, name: web }}
clients:
  - {{ name: root, match: {{ uid: 0, listener: [host, web] }}, upstream: local, admin: true }}
"""):
        run("systemctl", "stop", "stacygated.service", "stacygated.socket")
        run("systemctl", "start", "stacygated.socket")
        for host in ("127.0.0.1", "::1"):
            status, body = ask("/gateway/v1/whoami", address=(host, 7423))
            assert status == 200 and json.loads(body)["listener"] == "web", body
        run("systemctl", "stop", "stacygated.service")
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as squatter:
                try:
                    squatter.bind((host, 7423))
                    raise AssertionError(f"{host} can be taken while the service is stopped")
                except OSError as fault:
                    assert "in use" in str(fault), fault
    os.unlink("/run/systemd/system/stacygated.socket.d/tcp.conf")
    run("systemctl", "daemon-reload")
    run("systemctl", "stop", "stacygated.service", "stacygated.socket")
    run("systemctl", "start", "stacygated.socket")
    assert ask("/gateway/v1/health")[0] == 200


def test_l15_another_program_under_load():
    """What an upgrade does: the program is replaced, the service restarted; clients wait a moment, every one is answered."""
    with Load(threads=4) as load:
        for _ in range(5):
            done = load.done
            wait_for("clients are served", lambda: load.done > done + 10)
            run("cp", "/usr/sbin/stacygated", "/usr/sbin/stacygated.new")
            os.rename("/usr/sbin/stacygated.new", "/usr/sbin/stacygated")
            restart()
        done = load.done
        wait_for("clients are served", lambda: load.done > done + 10)
    load.assert_lost()


def test_a_restart_keeps_idle_connections():
    """They wait in systemd's store; a stop for good closes them."""
    idle = [Connection() for _ in range(150)]

    def ask_all():
        for c in idle:
            c.request("GET", "/gateway/v1/health")
            assert c.getresponse().read() and c.sock, "closed"
    ask_all()
    for _ in range(3):
        before = pid()
        restart()
        assert pid() != before
        ask_all()
    wait_for("systemd keeps no copies", lambda: show("stacygated.service", "NFileDescriptorStore") == ["0"])
    run("systemctl", "stop", "stacygated.service")
    for c in idle:
        c.sock.settimeout(DEADLINE)
        assert c.sock.recv(1) == b""
        c.close()
    run("systemctl", "start", "stacygated.service")


def test_exposure_of_the_running_service():
    output = run("systemd-analyze", "security", "--no-pager", "stacygated.service")
    figure = float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", output).group(1))
    print(f"    exposure {figure}")
    assert figure <= 1.4, output


def test_stop_keeps_the_socket():
    run("systemctl", "stop", "stacygated.service")
    assert os.path.exists(SOCKET) and show("stacygated.socket", "SubState") == ["listening"]
    assert ask("/gateway/v1/health")[0] == 200
    run("systemctl", "stop", "stacygated.service", "stacygated.socket")
    assert not os.path.exists(SOCKET)
    code = show("stacygated.service", "Result", "ExecMainStatus")
    assert code == ["success", "0"], code


def prepare():
    run("systemd-sysusers")
    run("systemd-tmpfiles", "--create")
    for name, groups in (("alice", ["-G", "stacygate"]), ("mallory", [])):
        run("useradd", "-m", *groups, name)
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "stacygated.socket")


def main():
    passed = failed = 0
    prepare()
    for name, test in list(globals().items()):
        if not name.startswith("test_"):
            continue
        begin = time.monotonic()
        try:
            test()
        except Skip as why:
            print(f"SKIPPED: {name}: {why}", flush=True)
        except Exception:
            traceback.print_exc(file=sys.stdout)
            print(f"FAIL: {name}\n{log()[-4000:]}", flush=True)
            failed += 1
        else:
            passed += 1
            print(f"ok: {name} ({time.monotonic() - begin:.1f} s)", flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)


if __name__ == "__main__":
    main()
