# SPDX-License-Identifier: Apache-2.0
"""B6: a server killed at any step leaves no process, and at the next start no directory.

The driver is killed at its n-th system call, n swept: a few dozen points, or every one with STACYGATE_SWEEP=all. It is also
killed while a command runs, with its init stopped, so that only the kernel can end that. Where it keeps its sandboxes they go
half a second later, or are taken up by the next run. Run as root it then does all this once more as an unprivileged user.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("SG_BUILDDIR", os.getcwd())
DRIVER = os.path.join(BUILD, "sandbox-driver")
POINTS = 40
LIMIT = 2.0  # seconds after the death of the server
KEPT = 0.5   # seconds that sandboxes outlive a driver that keeps them

passed = failed = 0


def check(ok, text):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    if not ok:
        print("FAILED: " + text, flush=True)


def processes(mark):
    """Processes whose command line has the mark: bubblewrap and the init carry the name of their sandbox."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if mark.encode() in words and b"strace" not in words[0] and (b"driver" not in words[0] or is_keeper(pid)):
            found.append(int(pid))
    return found


def is_keeper(pid):
    """The process that keeps sandboxes is a fork of the driver."""
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii") as file:
            return file.read() == "stacygate-keep\n"
    except OSError:
        return False


def runs(pid):
    """Whether there is more of it than a zombie, which its new parent, not ours, has to reap."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_gone(mark, pids=(), limit=LIMIT):
    """Seconds until no process is left, or None."""
    began = time.monotonic()
    while time.monotonic() - began < limit:
        if not processes(mark) and not any(map(runs, pids)):
            return time.monotonic() - began
        time.sleep(0.01)
    return None


class Place:
    """A state directory, and the command that runs the driver as the wanted user."""

    def __init__(self, uid):
        self.dir = tempfile.mkdtemp(prefix="sg-kill.")
        self.driver = DRIVER
        self.prefix = []
        self.env = dict(os.environ, ASAN_OPTIONS="detect_leaks=0")
        if uid:
            # The build tree may be closed to others.
            self.driver = shutil.copy(DRIVER, self.dir)
            os.chmod(self.dir, 0o755)
            os.mkdir(self.dir + "/s", 0o700)
            os.chown(self.dir + "/s", uid, uid)
            self.prefix = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "sh", "-c", 'exec "$@"', "sh"]
            self.state = self.dir + "/s/state"
        else:
            # Below a directory that only its owner may enter.
            self.state = self.dir + "/state"

    def command(self, mark, *more):
        return self.prefix + [self.driver, self.state, mark] + list(more)

    def left(self):
        try:
            return os.listdir(self.state + "/sandboxes")
        except FileNotFoundError:
            return []


def calls_of(trace):
    """The system calls of a whole run, by name, and the index of the first that matters."""
    with open(trace, encoding="utf-8", errors="replace") as file:
        lines = [line for line in file if re.match(r"[a-z_0-9]+\(", line)]
    names = [line.split("(")[0] for line in lines]
    return lines, names, names.index("flock") if "flock" in names else 0


def kill_at(names, n):
    """strace's words for a kill at the n-th call: it counts each kind on its own."""
    return ["-e", f"inject={names[n]}:signal=SIGKILL:when={names[:n + 1].count(names[n])}"]


def points_of(names, first):
    every = os.environ.get("STACYGATE_SWEEP") == "all"
    return range(first, len(names), 1 if every else max(1, (len(names) - first) // POINTS))


def sweep(place, who):
    trace = place.dir + "/trace"
    strace = ["strace", "-qq", "-o", trace]
    full = subprocess.run(strace + place.command("sb-count0"), env=place.env, capture_output=True, text=True, timeout=60)
    if full.returncode == 77:
        print("SKIPPED: user namespaces are refused: " + full.stderr)
        return False
    check(full.returncode == 0 and "gone" in full.stdout, f"{who}: a run without a kill: {full.stdout}{full.stderr}")
    _, names, first = calls_of(trace)
    points = points_of(names, first)
    slowest, killed = 0.0, 0
    for n in points:
        mark = f"sb-kill{n}"
        run = subprocess.run(strace + kill_at(names, n) + place.command(mark), env=place.env, capture_output=True, text=True, timeout=60)
        killed += run.returncode != 0
        seconds = wait_gone(mark)
        call = names[n]
        check(seconds is not None, f"{who}: killed at call {n} ({call}), a process is left: {processes(mark)}")
        check(wait_gone("trial") is not None, f"{who}: killed at call {n} ({call}), the trial is left")
        check(run.returncode in (0, -9, 137), f"{who}: call {n}: exit {run.returncode}: {run.stderr}")
        slowest = max(slowest, seconds or 0.0)
    again = subprocess.run(place.command("sb-again"), env=place.env, capture_output=True, text=True, timeout=60)
    check(again.returncode == 0 and not place.left(), f"{who}: left after the next start: {place.left()} {again.stderr}")
    # The calls of one run are nearly those of the next.
    check(killed > 0.9 * len(points), f"{who}: only {killed} of {len(points)} were killed")
    print(f"{who}: {killed} killed of {len(points)} points of {len(names)} calls, slowest {slowest:.2f} s")
    return True


def sweep_kept(place, who):
    """Killed at each step in turn: what it kept ends by itself, or is there for the next run, which destroys it."""
    trace = place.dir + "/trace"
    strace = ["strace", "-qq", "-o", trace]
    full = subprocess.run(strace + place.command("sb-keeps0", "keep"), env=place.env, capture_output=True, text=True, timeout=60)
    check(full.returncode == 0 and "gone" in full.stdout, f"{who}: a run that keeps: {full.stdout}{full.stderr}")
    lines, names, first = calls_of(trace)
    # Each call from before the keeper is told of the sandbox until after it is told of its end.
    told = [i for i, line in enumerate(lines) if "sendmsg(" in line and "sb-keeps0" in line]
    check(len(told) == 2, f"{who}: the keeper is told twice: {told}")
    points = sorted({*points_of(names, first), *range(told[0] - 3, told[-1] + 6)})
    taken_up = 0
    for turn, n in enumerate(points):
        mark = f"sb-keep{n}"
        # No pipe: the keeper would hold it.
        with open(place.dir + "/said", "w+", encoding="utf-8") as said:
            run = subprocess.run(strace + kill_at(names, n) + place.command(mark, "keep"), env=place.env, stdout=said, stderr=said, timeout=60, check=False)
            said.seek(0)
            check(run.returncode in (0, -9, 137), f"{who}: kept, call {n}: exit {run.returncode}: {said.read()}")
        if turn % 2:
            again = subprocess.run(place.command("sb-then", "keep"), env=place.env, capture_output=True, text=True, timeout=60)
            check(again.returncode == 0 and not place.left(), f"{who}: kept, call {n}: the next run: {again.stdout}{again.stderr}")
            taken_up += "taken up" in again.stdout
        check(wait_gone(mark, limit=LIMIT + KEPT) is not None, f"{who}: kept, call {n}: a process is left: {processes(mark)}")
    check(taken_up > 0, f"{who}: no run found what was kept")
    again = subprocess.run(place.command("sb-again"), env=place.env, capture_output=True, text=True, timeout=60)
    check(again.returncode == 0 and not place.left(), f"{who}: kept: left after the next start: {place.left()} {again.stderr}")
    print(f"{who}: kept: {len(points)} points, {taken_up} taken up")


def kill_while_running(place, who, stop_init):
    mark = "sb-stopped" if stop_init else "sb-runs"
    run = subprocess.Popen(place.command(mark, "stay"), env=place.env, stdout=subprocess.PIPE, text=True)
    line = ""
    while line != "executed\n":
        line = run.stdout.readline()
        if not line:
            break
    check(line == "executed\n", f"{who}: the driver does not run")
    pids = processes(mark)
    check(len(pids) == 2, f"{who}: bubblewrap and init are expected: {pids}")
    if stop_init and pids:
        os.kill(max(pids), signal.SIGSTOP)
    run.kill()
    run.wait()
    seconds = wait_gone(mark, pids)
    check(seconds is not None, f"{who}: {mark}: left after kill -9: {processes(mark)}")
    check(place.left() == [mark], f"{who}: {place.left()}")
    again = subprocess.run(place.command("sb-next"), env=place.env, capture_output=True, text=True, timeout=60)
    check(again.returncode == 0 and not place.left(), f"{who}: the next start leaves {place.left()} {again.stderr}")


def main():
    if not shutil.which("strace"):
        print("SKIPPED: no strace")
        return 77
    users = [0] if os.geteuid() else [0, 65533]
    for uid in users:
        who = f"uid {uid or os.geteuid()}"
        place = Place(uid)
        try:
            if not sweep(place, who):
                return 77
            sweep_kept(place, who)
            kill_while_running(place, who, stop_init=False)
            kill_while_running(place, who, stop_init=True)
        finally:
            shutil.rmtree(place.dir, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
