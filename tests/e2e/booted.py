#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
The packaged units under a real systemd as process 1, in a container (systemd-nspawn) of a Debian tree: what booted_driver.py
tests. It runs where a tree is, $SG_BOOT_TREE or /var/tmp/stacygate-boot-tree-SUITE, which the long form of the tests makes by
debootstrap; the tree itself stays as it is. The suite is that of this machine or $SG_BOOT_SUITE; what another suite boots is built
in a second tree of it, /var/tmp/stacygate-build-tree-SUITE.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

SRC = os.environ["SG_SRCDIR"]
BUILD = os.environ["SG_BUILDDIR"]
LONG = os.environ.get("SG_LONG") == "1"
# Make what is missing, and skip loudly where it cannot be made or booted.
TRY = os.environ.get("SG_BOOT") == "1" and not LONG


def own_suite():
    """The name of this machine's release of Debian; nothing where it says none."""
    with open("/etc/os-release", encoding="utf-8") as file:
        return "".join(re.findall(r"^VERSION_CODENAME=(\w+)", file.read(), re.M))


SUITE = os.environ.get("SG_BOOT_SUITE") or own_suite()
TREE = os.environ.get("SG_BOOT_TREE") or f"/var/tmp/stacygate-boot-tree-{SUITE}"
BUILD_TREE = None if SUITE == own_suite() else f"/var/tmp/stacygate-build-tree-{SUITE}"
PACKAGES = ["systemd", "systemd-sysv", "dbus", "bubblewrap", "curl", "python3", "nodejs", "passwd", "util-linux", "procps"]
TIMEOUT = 900


def skip(why):
    print(f"SKIPPED: {why}")
    sys.exit(77)


def give_up(why):
    """What has nothing to do with the units stands in the way."""
    if TRY:
        skip(f"NO TREE WAS BOOTED: {why}")
    sys.exit(why)


def run(*words, otherwise=give_up, **more):
    """`otherwise` says what it means when it fails."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "DESTDIR")}
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=False, **more)
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-4000:])
        otherwise(f"{' '.join(words)}: {done.returncode}")


def in_suite(*words, cwd="/"):
    """
    The words that run these in the suite, as they are or, where it is another, in its build tree: with this machine's sources, build
    and /var/tmp, but without a network.
    """
    if not BUILD_TREE:
        return ["env", "-C", cwd, *words]
    return ["bwrap", "--unshare-net", "--unshare-pid", "--die-with-parent", "--clearenv", "--setenv", "PATH", "/usr/sbin:/usr/bin",
            *[w for d in ("usr", "etc", "var") for w in ("--ro-bind", f"{BUILD_TREE}/{d}", "/" + d)],
            *[w for d in ("bin", "sbin", "lib", "lib64") for w in ("--symlink", "usr/" + d, "/" + d)],
            "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--bind", "/var/tmp", "/var/tmp",
            "--ro-bind", os.path.abspath(SRC), os.path.abspath(SRC), "--bind", os.path.abspath(BUILD), os.path.abspath(BUILD),
            "--chdir", os.path.abspath(cwd), *words]


def has_tree():
    return os.path.exists(f"{TREE}/usr/lib/systemd/systemd")


def build_depends():
    with open(SRC + "/debian/control", encoding="utf-8") as file:
        return re.search(r"^Build-Depends:((?:.*\n[ \t])*.*)", file.read(), re.M).group(1)


def has_build_tree():
    """One that was made for what the package is built with now."""
    if not BUILD_TREE:
        return True
    try:
        with open(BUILD_TREE + "/build-depends", encoding="utf-8") as file:
            return file.read() == build_depends()
    except OSError:
        return False


def said_in_suite(*words):
    return subprocess.run(in_suite(*words), capture_output=True, text=True, check=False).stdout


def library_packages(stage):
    """Those of the libraries that our programs are linked with."""
    found = set()
    for program in ("usr/sbin/stacygated", "usr/libexec/stacygate-local", "usr/bin/stacygate"):
        for path in re.findall(r"=> (/\S+)", said_in_suite("ldd", f"{stage}/{program}")):
            for name in (path, "/usr" + path, path.removeprefix("/usr")):
                found |= set(re.findall(r"^([a-z0-9.+-]+)(?::\w+)?: ", said_in_suite("dpkg-query", "-S", name), re.M))
    return sorted(found)


def debootstrap(tree, *options):
    print(f"making {tree}", flush=True)
    shutil.rmtree(tree + ".new", ignore_errors=True)
    run("timeout", "600", "debootstrap", *options, SUITE, tree + ".new")


def make_build_tree():
    """What the package is built with, as its Build-Depends say."""
    debootstrap(BUILD_TREE, "--variant=buildd")
    get = 'apt-get -q update && apt-get -qy --no-install-recommends satisfy "$1" && apt-get clean'
    run("systemd-nspawn", "-q", "-D", BUILD_TREE + ".new", "--register=no", "--keep-unit", "--as-pid2", "--pipe",
        "--setenv=DEBIAN_FRONTEND=noninteractive", "sh", "-c", get, "sh", f"{build_depends()}, lintian")
    with open(BUILD_TREE + ".new/build-depends", "w", encoding="utf-8") as file:
        file.write(build_depends())
    shutil.rmtree(BUILD_TREE, ignore_errors=True)
    os.rename(BUILD_TREE + ".new", BUILD_TREE)


def make_tree(stage):
    debootstrap(TREE, "--variant=minbase", "--include=" + ",".join(PACKAGES + library_packages(stage)))
    os.rename(TREE + ".new", TREE)


def install(stage):
    """The release build, as a package would hold it."""
    where = os.path.join(BUILD, "long-boot", SUITE)
    os.makedirs(where, exist_ok=True)
    if not os.path.exists(where + "/config.status"):
        run(*in_suite(os.path.abspath(SRC + "/configure"), "--prefix=/usr", "--sysconfdir=/etc", "--libexecdir=/usr/libexec", "CFLAGS=-g -O2",
                      cwd=where), otherwise=sys.exit)
    run(*in_suite("make", "-j2", "programs", cwd=where), otherwise=sys.exit)
    run(*in_suite("make", "install", "DESTDIR=" + stage, cwd=where), otherwise=sys.exit)


CGROUPS = "/sys/fs/cgroup"


def own_cgroup():
    """
    A control group below which the tree has its own. It must be of the unified hierarchy: in the old one a systemd in a container
    does not hear that a unit's group has become empty, and waits for TimeoutStopSec at each crash.
    """
    if not os.path.exists(CGROUPS + "/cgroup.procs"):
        run("mount", "-t", "cgroup2", "cgroup2", CGROUPS)
    group = f"{CGROUPS}/sg-boot-{os.getpid()}"
    os.mkdir(group)
    with open(group + "/cgroup.procs", "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    return group


def leave_cgroup(group):
    with open(CGROUPS + "/cgroup.procs", "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    for folder, _, _ in os.walk(group, topdown=False):
        for _ in range(50):
            try:
                os.rmdir(folder)
                break
            except OSError:
                time.sleep(0.1)  # its last process is being reaped


def boot(work, driver=SRC + "/tests/e2e/booted_driver.py"):
    """
    The tree, with {work}/stage over it if there is one, until the driver has run; what it says is in {work}/test/result. To be called in
    a mount namespace of its own, so that nothing stays mounted.
    """
    for name in ("upper", "work", "merged", "test"):
        os.makedirs(f"{work}/{name}", exist_ok=True)
    run("mount", "-t", "tmpfs", "tmpfs", f"{work}/upper")
    os.makedirs(f"{work}/upper/u")
    os.makedirs(f"{work}/upper/w")
    lower = f"{work}/stage:{TREE}" if os.path.exists(work + "/stage") else TREE
    run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={work}/upper/u,workdir={work}/upper/w", f"{work}/merged")
    shutil.copy(driver, work + "/test/")
    unit = ("[Unit]\nAfter=multi-user.target\nSuccessAction=poweroff-force\nFailureAction=poweroff-force\n[Service]\nType=oneshot\n"
            f"ExecStart=/bin/sh -c 'python3 -u /sgtest/{os.path.basename(driver)} >/sgtest/result 2>&1'\n")
    units = f"{work}/merged/etc/systemd/system"
    with open(f"{units}/sgtest.service", "w", encoding="utf-8") as file:
        file.write(unit)
    os.makedirs(f"{units}/multi-user.target.wants", exist_ok=True)
    os.symlink("../sgtest.service", f"{units}/multi-user.target.wants/sgtest.service")
    env = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1"}
    group = own_cgroup()
    with open(f"{work}/console", "wb") as console:
        booted = subprocess.Popen(["systemd-nspawn", "-q", "-D", f"{work}/merged", "-b", "--register=no", "--keep-unit", "--private-network",
                                   f"--bind={work}/test:/sgtest", "--machine=sgtest" + str(os.getpid())], stdin=subprocess.DEVNULL,
                                  stdout=console, stderr=console, env=env)
        try:
            booted.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            booted.terminate()
            booted.wait(60)
        finally:
            leave_cgroup(group)


def why_not():
    """Why no tree can be booted here, or nothing."""
    if os.getuid():
        return "only root can boot a tree"
    if not shutil.which("systemd-nspawn"):
        return "systemd-nspawn is not installed (Debian: systemd-container)"
    if not SUITE:
        return "this is no release of Debian; name one by SG_BOOT_SUITE"
    if has_tree() and has_build_tree():
        return None
    if not LONG and not TRY:
        return f"there is no tree to boot at {TREE}; `make check-long` makes one, and so does SG_BOOT=1; or set SG_BOOT_TREE"
    if not shutil.which("debootstrap"):
        return f"debootstrap is not installed, and there is no tree of {SUITE}"
    return None


def result(work, script):
    """Boots by `script --inside work`, and prints and judges what the driver said: its two counts, or it failed."""
    inside = subprocess.run(["unshare", "--mount", "--propagation", "private", sys.executable, script, "--inside", work], check=False)
    try:
        with open(work + "/test/result", encoding="utf-8", errors="replace") as file:
            said = file.read()
    except OSError:
        with open(work + "/console", encoding="utf-8", errors="replace") as file:
            print(file.read()[-8000:])
        give_up("the tree did not boot")
    summary = re.search(r"^(\d+) passed, (\d+) failed$", said, re.M)
    print(said)
    return (int(summary.group(1)), int(summary.group(2))) if inside.returncode == 0 and summary else (0, 1)


def main():
    if "--inside" not in sys.argv:
        if why_not():
            skip(why_not())
        with tempfile.TemporaryDirectory(prefix="sg-boot.", dir="/var/tmp") as work:
            os.chmod(work, 0o755)
            if not has_build_tree():
                make_build_tree()
            install(work + "/stage")
            if not has_tree():
                make_tree(work + "/stage")
            passed, failed = result(work, os.path.abspath(__file__))
        sys.exit(0 if passed and not failed else 1)
    boot(sys.argv[-1])


if __name__ == "__main__":
    main()
