#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The units as systemd reads them: no fault, no more exposure than promised, and a configuration that the daemon accepts."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

SRC = os.environ["SG_SRCDIR"]
BUILD = os.environ["SG_BUILDDIR"]
ANALYZE = shutil.which("systemd-analyze")
EXPOSURE_MAX = 1.4  # of the gateway
SYSTEM = ("stacygated.service", "stacygated.socket", "stacygate-local.service")
USER = ("user/stacygated.service", "user/stacygated.socket")
passed = failed = 0


def verdict(good, what, details=""):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print(f"FAIL: {what}\n{details}")


def read(name):
    with open(name, encoding="utf-8") as file:
        return file.read()


def settings(text):
    """{key: [values]} of a unit, in order; an empty value stands as ""."""
    out = {}
    for line in text.replace("\\\n", " ").splitlines():
        if re.match(r"[A-Za-z]+=", line):
            key, value = line.split("=", 1)
            out.setdefault(key, []).append(" ".join(value.split()))
    return out


def unit(name):
    return settings(read(f"{BUILD}/systemd/{name}"))


def lay_out(where):
    """The units with programs that are there: verify looks for each."""
    for name in (*SYSTEM, *USER):
        text = read(f"{BUILD}/systemd/{name}")
        text = re.sub(r"(Exec(?:Start|Reload)=)\S+/(stacygated|stacygate-local)", rf"\1{BUILD}/\2", text)
        text = re.sub(r"^Documentation=.*\n", "", text, flags=re.M)
        os.makedirs(f"{where}/{os.path.dirname(name)}", exist_ok=True)
        with open(f"{where}/{name}", "w", encoding="utf-8") as file:
            file.write(text)


def run(*words, **env):
    done = subprocess.run([ANALYZE, *words], capture_output=True, text=True, env={**os.environ, "SYSTEMD_COLORS": "0", **env})
    return done.returncode, done.stdout + done.stderr


def faults_of(output, names):
    """What is said of our own units."""
    return [line for line in output.splitlines() if any(os.path.basename(n) in line for n in names)]


def with_systemd(work):
    lay_out(work)
    for names, scope in ((SYSTEM, "--system"), (USER, "--user")):
        folder = work + ("/user" if scope == "--user" else "")
        files = [f"{folder}/{os.path.basename(n)}" for n in names]
        code, output = run("verify", "--man=no", "--recursive-errors=no", scope, *files, SYSTEMD_UNIT_PATH=folder + ":",
                           XDG_RUNTIME_DIR=work)
        verdict(code == 0 and not faults_of(output, names), f"systemd-analyze verify {scope}", output)
    # That it finds what is wrong.
    bad = f"{work}/bad.service"
    with open(bad, "w", encoding="utf-8") as file:
        file.write(read(f"{work}/stacygated.service").replace("ProtectProc=", "ProtectPorc="))
    code, output = run("verify", "--man=no", "--recursive-errors=no", bad)
    verdict("ProtectPorc" in output, "verify overlooks a wrong key", output)

    code, output = run("security", "--offline=yes", f"--threshold={EXPOSURE_MAX * 10:.0f}", "--no-pager",
                       f"{work}/stacygated.service")
    figure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", output)
    print("exposure of stacygated.service:", figure.group(1) if figure else output)
    verdict(code == 0 and figure and float(figure.group(1)) <= EXPOSURE_MAX, "exposure of the gateway", output)
    with open(bad, "w", encoding="utf-8") as file:
        file.write(read(f"{work}/stacygated.service").replace("NoNewPrivileges=yes", "").replace("PrivateDevices=yes", ""))
    code, output = run("security", "--offline=yes", f"--threshold={EXPOSURE_MAX * 10:.0f}", "--no-pager", bad)
    verdict(code != 0, "the threshold admits everything", output)
    for name in ("stacygate-local.service", "user/stacygated.service"):
        code, output = run("security", "--offline=yes", "--no-pager", f"{work}/{name}")
        figure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", output)
        print(f"exposure of {name}:", figure.group(1) if figure else output)
    code, output = run("security", "--offline=yes", "--no-pager", f"{work}/stacygate-local.service")
    figure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", output)
    verdict(figure and float(figure.group(1)) < 7, "exposure of the embedded server", output)


def without_systemd():
    service, sock = unit("stacygated.service"), unit("stacygated.socket")
    # ID4: otherwise every client is uid 65534.
    verdict(service["PrivateUsers"] == ["no"], "PrivateUsers", str(service.get("PrivateUsers")))
    for key, value in (("Type", "notify"), ("ProtectProc", "invisible"), ("User", "stacygate"), ("CapabilityBoundingSet", ""),
                       ("StateDirectory", "stacygate"), ("RuntimeDirectory", "stacygate"), ("RuntimeDirectoryPreserve", "yes"),
                       ("Restart", "always"), ("StartLimitIntervalSec", "0"), ("WatchdogSec", "15s"),
                       ("Environment", "STACYGATE_LOCAL_SOCKET=/run/stacygate-local/api.sock")):
        verdict(service.get(key) == [value], f"{key} of stacygated.service", str(service.get(key)))
    # What a key on disk, idle clients over a restart and a socket file after a stop hang on.
    verdict(service.get("LoadCredential") == ["api-key:stacygate.api-key", "admin-key:stacygate.admin-key"], "LoadCredential=",
            str(service.get("LoadCredential")))
    for name in ("stacygated.service", "user/stacygated.service"):
        verdict(int(unit(name).get("FileDescriptorStoreMax", ["0"])[0]) >= 4096, f"FileDescriptorStoreMax= of {name}")
    for name in ("stacygated.socket", "user/stacygated.socket"):
        verdict(unit(name).get("RemoveOnStop") == ["yes"], f"RemoveOnStop= of {name}")
    verdict("stacygate-local.service" in service["Wants"][0].split(), "Wants=", str(service["Wants"]))
    # A faulty file fails the reload, so it is looked at first, and it is the one that the service runs with.
    for name in ("stacygated.service", "user/stacygated.service"):
        start, reload = unit(name)["ExecStart"][0], unit(name).get("ExecReload")
        verdict(reload == [start.replace("/stacygated", "/stacygated -t", 1), "/bin/kill -HUP $MAINPID"], f"ExecReload= of {name}", str(reload))
        verdict("RestartPreventExitStatus" not in unit(name), f"{name} may fail for good, and its socket unit with it")
    verdict("-c " in service["ExecStart"][0] and service["ExecStart"][0].endswith("/stacygate/stacygate.yaml"), "ExecStart=",
            str(service["ExecStart"]))
    verdict(sock["ListenStream"] == ["/run/stacygate/stacygate.sock"] and sock["FileDescriptorName"] == ["host"], "the socket")
    server = unit("stacygate-local.service")
    # What --keep keeps, systemd must not kill at a restart.
    verdict(server["KillMode"] == ["process"] and server["ExecStart"][0].endswith("--keep"), "--keep of stacygate-local.service", str(server))
    verdict("User" not in server and "CAP_SETUID" in server["CapabilityBoundingSet"][0].split(), "systemd 257 takes CAP_SETUID",
            str(server))
    local = server["ExecStart"][0]
    verdict(service["Environment"][0].split("=")[1] in local and "--keys /var/lib/stacygate-local" in local, "stacygate-local", local)
    drop_in = read(BUILD + "/systemd/identity.conf")
    verdict(settings(drop_in) == {"ProtectProc": ["default"]}, "identity.conf", drop_in)
    exe = settings(re.sub(r"^#(?=[A-Z][A-Za-z]+=)", "", drop_in, flags=re.M))
    verdict(exe.get("AmbientCapabilities") == exe.get("CapabilityBoundingSet") == ["CAP_SYS_PTRACE"], "identity.conf for exe", drop_in)
    for name in (*SYSTEM, *USER, "identity.conf"):
        verdict("@" not in re.sub(r"^#.*|SystemCallFilter=.*", "", read(f"{BUILD}/systemd/{name}"), flags=re.M), f"{name} has a hole")


def configuration(work):
    """Neither user nor group need exist here; that they are asked for is seen by their absence."""
    path = work + "/stacygate.yaml"
    text = read(SRC + "/systemd/stacygate.yaml")
    user = unit("stacygated.service")["User"][0]
    verdict(f"\nuser: {user} " in text, "systemd/stacygate.yaml names another user than the unit", text)
    text = text.replace(f"\nuser: {user} ", "\nuser: root ")
    full = re.sub(r"^# (?=credentials|  team|    api_key)", "", text, flags=re.M).replace("group: stacygate", "group: root")
    full = re.sub(r"url: local\b", "url: https://stacyvm.example.com", full)
    full = full.replace("    upstream: main\n", "    upstream: main\n    credential: team\n")
    for what in (text.replace("group: stacygate", "group: root"), full):
        with open(path, "w", encoding="utf-8") as file:
            file.write(what)
        os.makedirs(work + "/credentials", exist_ok=True)
        with open(work + "/credentials/api-key", "w", encoding="ascii") as file:
            file.write("a-key\n")
        done = subprocess.run([BUILD + "/stacygated", "-t", "-c", path], capture_output=True, text=True, env={
            **os.environ, "STATE_DIRECTORY": work, "RUNTIME_DIRECTORY": "/run/stacygate", "CREDENTIALS_DIRECTORY": work + "/credentials"})
        verdict(done.returncode == 0 and "error" not in done.stderr, "stacygated -t refuses systemd/stacygate.yaml", done.stderr)


def main():
    with tempfile.TemporaryDirectory(prefix="units.") as work:
        without_systemd()
        configuration(work)
        if ANALYZE:
            with_systemd(work)
        else:
            print("SKIPPED: systemd-analyze is not installed (Debian: systemd): units are not verified, exposure is not measured")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
