# SPDX-License-Identifier: Apache-2.0
"""
Runs in the booted tree, as root, with a systemd as process 1: the package's life there. /sgtest holds three versions, in order
of their names: old, and new and newer with another configuration each.
"""
import glob
import hashlib
import os
import pwd
import stat
import subprocess
import sys
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, "/sgtest")
from booted_driver import CONFIG, Connection, Load, as_user, ask, is_active, run, show, wait_for  # noqa: E402

OLD, NEW, NEWER = sorted(glob.glob("/sgtest/stacygate_*.deb"))
UNITS = ("stacygated.socket", "stacygated.service", "stacygate-local.service")
# What belongs to the running system, or is written by any package's installation: other people's logs, caches and backups.
ELSEWHERE = ("/proc", "/sys", "/dev", "/sgtest", "/tmp", "/var/tmp", "/var/log/journal", "/var/log/dpkg.log", "/var/cache/ldconfig",
             "/var/lib/dpkg", "/run/systemd", "/run/log", "/run/udev", "/run/credentials", "/run/host", "/run/agetty.reload",
             "/var/lib/systemd/random-seed", "/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock", "/root/.cache")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def every_file():
    """{path: what it is}, and what it holds where that is configuration or state."""
    out = {}
    for folder, folders, files in os.walk("/"):
        folders[:] = [f for f in folders if os.path.join(folder, f) not in ELSEWHERE]
        for name in folders + files:
            path = os.path.join(folder, name)
            if path in ELSEWHERE:
                continue
            try:
                s = os.lstat(path)
                what = [stat.filemode(s.st_mode), s.st_uid, s.st_gid]
                if stat.S_ISREG(s.st_mode) and path.startswith("/etc/"):
                    with open(path, "rb") as file:
                        what.append(hashlib.sha256(file.read()).hexdigest())
            except FileNotFoundError:
                continue
            out[path] = what
    return out


def dpkg(*words):
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["dpkg", "--force-confdef", "--force-confold", *words], capture_output=True, text=True, timeout=300, env=env,
                          check=False)
    if done.returncode:
        raise AssertionError(f"dpkg {words}: {done.returncode} {done.stdout} {done.stderr}")
    return done.stdout + done.stderr


def version():
    return run("dpkg-query", "-W", "-f", "${Status} ${Version}", "stacygate")


def assert_all_run():
    for unit in UNITS:
        wait_for(unit, lambda u=unit: show(u, "ActiveState") == ["active"])
        assert run("systemctl", "is-enabled", unit) == "enabled", unit


def assert_nothing_left(before):
    after = every_file()
    more = {p: w for p, w in after.items() if before.get(p) != w}
    less = {p: w for p, w in before.items() if p not in after}
    assert not more and not less, f"left: {more}; missing: {less}"
    assert subprocess.run(["getent", "passwd", "stacygate"], check=False, capture_output=True).returncode == 2
    assert subprocess.run(["getent", "group", "stacygate"], check=False, capture_output=True).returncode == 2
    assert not glob.glob("/var/lib/dpkg/info/stacygate.*")
    assert "stacygate" not in run("systemctl", "list-unit-files", "--no-legend")


def spawn():
    """A sandbox, or nothing where this container refuses what bubblewrap needs."""
    done = subprocess.run(["stacygate", "spawn"], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        print(f"SKIPPED: no sandbox can be made in this container: {done.stderr.strip()}")
        return None
    return done.stdout.strip()


# --- tests, in this order -----------------------------------------------------------------------------------------

def test_install():
    said = dpkg("-i", OLD)
    assert "installed" in version(), said
    assert_all_run()
    user = pwd.getpwnam("stacygate")
    assert user.pw_uid < 1000 and user.pw_shell == "/usr/sbin/nologin", user
    folder = os.stat("/etc/stacygate")
    assert (stat.S_IMODE(folder.st_mode), folder.st_uid, folder.st_gid) == (0o750, 0, user.pw_gid), folder
    assert run("dpkg-query", "-W", "-f", "${Conffiles}", "stacygate").split()[0] == CONFIG
    assert run("dpkg", "--verify", "stacygate") == ""
    assert "ok" in run("stacygate", "health")
    # Nobody is in the group, and no session has a gateway of its own unless its user wants one.
    try:
        as_user("alice", "/gateway/v1/health")
    except OSError as fault:
        assert "Permission denied" in str(fault), fault
    else:
        raise AssertionError("who is not in the group may open the socket")
    assert not glob.glob("/etc/systemd/user/**/*stacygate*", recursive=True)
    run("usermod", "-aG", "stacygate", "alice")
    assert as_user("alice", "/gateway/v1/health")[0] == 200


def test_upgrade():
    idle = Connection()
    idle.request("GET", "/gateway/v1/health")
    assert idle.getresponse().read()
    sandbox = spawn()
    was = [show(unit, "MainPID" if unit != UNITS[0] else "ActiveEnterTimestampMonotonic") for unit in UNITS]
    with Load() as load:
        wait_for("requests", lambda: load.done > 5)
        dpkg("-i", NEW)
        done = load.done
        wait_for("more requests", lambda: load.done > done + 5)
    load.assert_lost()
    assert version().endswith(run("dpkg-deb", "-f", NEW, "Version"))
    assert_all_run()
    is_now = [show(unit, "MainPID" if unit != UNITS[0] else "ActiveEnterTimestampMonotonic") for unit in UNITS]
    assert [a == b for a, b in zip(was, is_now)] == [True, False, True], (was, is_now)
    idle.request("GET", "/gateway/v1/health")
    assert idle.getresponse().status == 200
    idle.close()
    assert "# of the new version" in read(CONFIG), "a configuration that nobody changed is the package's"
    if sandbox:
        assert ask(f"/api/v1/sandboxes/{sandbox}")[0] == 200, "an upgrade ends sandboxes"
        run("systemctl", "restart", "stacygate-local.service")
        wait_for("the new server has it", lambda: ask(f"/api/v1/sandboxes/{sandbox}")[0] == 200)
        run("stacygate", "kill", sandbox)


def test_upgrade_keeps_what_the_administrator_changed():
    with open(CONFIG, "a", encoding="utf-8") as file:
        file.write("# of the administrator\n")
    run("systemctl", "disable", "--now", "stacygate-local.service")
    dpkg("-i", NEWER)
    assert read(CONFIG).endswith("# of the new version\n# of the administrator\n"), read(CONFIG)
    assert "# of the newer version" in read(CONFIG + ".dpkg-dist")
    assert subprocess.run(["systemctl", "is-enabled", "stacygate-local.service"], capture_output=True, text=True,
                          check=False).stdout.strip() == "disabled"
    run("systemctl", "enable", "--now", "stacygate-local.service")
    assert is_active()


def test_upgrade_with_a_faulty_configuration():
    """The running daemon stays, whoever upgrades is told why, and the upgrade itself does not fail."""
    good, before = read(CONFIG), show("stacygated.service", "MainPID")
    with open(CONFIG, "a", encoding="utf-8") as file:
        file.write("oops: 1\n")
    said = dpkg("-i", NEWER)
    assert "NOT RESTARTED" in said and 'unknown key "oops"' in said and "systemctl restart stacygated" in said, said
    assert "installed" in version() and show("stacygated.service", "MainPID") == before
    assert "ok" in run("stacygate", "health")
    # Nor does it fail when nothing runs because of the fault.
    assert subprocess.run(["systemctl", "restart", "stacygated.service"], check=False, capture_output=True).returncode
    dpkg("-i", NEWER)
    assert "installed" in version() and show("stacygated.socket", "ActiveState") == ["active"]
    with open(CONFIG, "w", encoding="utf-8") as file:
        file.write(good)
    wait_for("the repaired file is enough", is_active)
    before = show("stacygated.service", "MainPID")
    said = dpkg("-i", NEWER)
    assert "NOT RESTARTED" not in said and is_active() and show("stacygated.service", "MainPID") != before, said


def test_remove():
    sandbox = spawn()
    dpkg("-r", "stacygate")
    if sandbox:
        wait_for("nothing of its sandboxes runs", lambda: not run("pgrep", "-f", sandbox, check=False), 5)
    assert "config-files" in version(), version()
    for unit in UNITS:
        assert show(unit, "ActiveState") == ["inactive"], unit
    left = run("ps", "-u", "stacygate", "-o", "pid,args", "--no-headers", check=False) + run("pgrep", "-a", "stacygate", check=False)
    assert not left, left
    assert not os.path.exists("/run/stacygate") and not os.path.exists("/run/stacygate-local")
    assert not os.path.exists("/usr/sbin/stacygated")
    # What is the administrator's stays until a purge.
    assert "# of the administrator" in read(CONFIG) and os.path.exists("/var/lib/stacygate") and pwd.getpwnam("stacygate")


def test_install_again():
    dpkg("-i", NEW)
    assert_all_run()
    assert "# of the administrator" in read(CONFIG)
    assert as_user("alice", "/gateway/v1/health")[0] == 200


def test_purge():
    """With everything there that could stay: keys, state, another file of the administrator's, somebody in the group."""
    for path in ("/etc/credstore/stacygate.api-key", "/etc/stacygate/ca.pem"):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
            file.write("SEKRET\n")
    for folder in ("/var/lib/stacygate", "/var/lib/stacygate-local", "/var/log/stacygate"):
        assert os.path.isdir(folder), folder
    dpkg("-P", "stacygate")
    assert_nothing_left(BEFORE)
    assert read("/home/alice/stacygate.txt") == "mine\n"


def test_purge_of_what_was_never_changed():
    dpkg("-i", OLD)
    assert_all_run()
    dpkg("-P", "stacygate")
    assert_nothing_left(BEFORE)


def test_purge_leaves_a_user_who_has_processes():
    dpkg("-i", OLD)
    with subprocess.Popen(["sleep", "1000"], user="stacygate") as busy:
        said = dpkg("-P", "stacygate")
        busy.kill()
    assert "the user stays" in said and pwd.getpwnam("stacygate"), said
    assert not os.path.exists("/var/lib/stacygate")


def main():
    passed = failed = 0
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            try:
                test()
            except Exception:
                traceback.print_exc(file=sys.stdout)
                print(f"FAIL: {name}", flush=True)
                failed += 1
            else:
                print(f"ok: {name}", flush=True)
                passed += 1
    print(f"{passed} passed, {failed} failed", flush=True)


run("useradd", "-m", "alice")
os.makedirs("/etc/credstore", mode=0o700, exist_ok=True)
with open("/home/alice/stacygate.txt", "w", encoding="ascii") as mine:
    mine.write("mine\n")
BEFORE = every_file()
main()
