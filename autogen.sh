#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# ./autogen.sh         generates ./configure
# ./autogen.sh demo    installs what is missing, builds, runs code in a sandbox through the gateway, stops
# ./autogen.sh check   the same set-up, then every test
#
# Both commands build in a directory of their own (build-demo, build-check) and exit non-zero on any failure.
set -eu
top=$(cd "$(dirname "$0")" && pwd)
cd "$top"

say() { printf '\n== %s\n' "$*"; }
die() { printf 'autogen.sh: %s\n' "$*" >&2; exit 1; }

# --- packages -------------------------------------------------------------------------------------------------
# A word is a package; "a|b" is satisfied by either, and the first that the archive has is installed.

PACKAGES_BUILD='autoconf automake gcc libc6-dev make pkgconf|pkg-config libevent-dev
	libcurl4-openssl-dev|libcurl4-gnutls-dev libjansson-dev libncurses-dev libyaml-dev libllhttp-dev|node-llhttp bubblewrap'
PACKAGES_DEMO='curl nodejs'
PACKAGES_CHECK='curl nodejs libcriterion-dev strace python3 python3-jsonschema python3-yaml python3-venv openssl util-linux procps iproute2 chromium
	systemd mandoc tmux'
# With SG_BOOT=1 in the environment, as in CI: a tree of this Debian is made and booted for the tests that want systemd as process 1.
PACKAGES_BOOT='systemd-container debootstrap'

# Debian 12 has no libllhttp-dev, and a library below version 9 is not used (configure.ac says why): there the
# sources that node-llhttp installs are compiled.
usable() {
	case $1 in
	libllhttp-dev) dpkg --compare-versions "${2:-0}" ge 9 ;;
	*) test -n "$2" ;;
	esac
}

installed_version() {
	dpkg-query -W -f '${db:Status-Status} ${Version}\n' "$1" 2>/dev/null | sed -n 's/^installed //p'
}

candidate_version() {
	apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p' | grep -v '^(none)$'
}

# Prints one package for each word of $1 that nothing installed satisfies.
missing_packages() {
	for word in $1; do
		found= choice=
		for name in $(echo "$word" | tr '|' ' '); do
			if usable "$name" "$(installed_version "$name")"; then
				found=yes
				break
			fi
			if test -z "$choice" && usable "$name" "$(candidate_version "$name" || :)"; then
				choice=$name
			fi
		done
		# Without package lists nothing has a candidate; the last word is what every release has.
		test -n "$found" || echo "${choice:-${word##*|}}"
	done
}

# Makes "$as_root COMMAND" a way to become root, or fails.
find_root() {
	as_root=
	test "$(id -u)" -ne 0 || return 0
	command -v sudo >/dev/null 2>&1 || return 1
	as_root=sudo
	sudo -n true 2>/dev/null || { test -t 0 && sudo -v; }
}

install_packages() {
	command -v dpkg-query >/dev/null 2>&1 ||
		die "this is no Debian-like system; what Debian calls these packages is needed: $(echo $1)"
	missing=$(missing_packages "$1")
	test -n "$missing" || return 0
	if ! find_root; then
		die "not root and no sudo; these packages are missing: $(echo $missing)"
	fi
	$as_root apt-get -qq -o DPkg::Lock::Timeout=300 update || echo 'autogen.sh: apt-get update failed; trying what is known' >&2
	missing=$(missing_packages "$1")
	say "Installing:" $missing
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
		-o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install $missing >"$log_packages" 2>&1 || {
		cat "$log_packages" >&2
		die "these packages could not be installed: $(echo $missing)"
	}
	missing=$(missing_packages "$1")
	test -z "$missing" || die "still missing after the installation: $(echo $missing)"
}

# --- user namespaces ------------------------------------------------------------------------------------------

# What keeps an ordinary user from making a user namespace, for people; sandboxes are made of them.
userns_advice() {
	test "$(cat /proc/sys/user/max_user_namespaces 2>/dev/null)" != 0 ||
		echo '  user.max_user_namespaces is 0:                        sysctl -w user.max_user_namespaces=10000'
	test "$(cat /proc/sys/kernel/unprivileged_userns_clone 2>/dev/null)" != 0 ||
		echo '  kernel.unprivileged_userns_clone is 0:                sysctl -w kernel.unprivileged_userns_clone=1'
	test "$(cat /proc/sys/kernel/apparmor_restrict_unprivileged_userns 2>/dev/null)" != 1 ||
		echo '  kernel.apparmor_restrict_unprivileged_userns is 1:    sysctl -w kernel.apparmor_restrict_unprivileged_userns=0'
	cat <<-'END'
	  in a chroot the kernel refuses them: enter it by pivot_root (systemd-nspawn, bwrap)
	  in a container its seccomp profile or masked /proc does: docker --security-opt seccomp=unconfined
	  --security-opt systempaths=unconfined, podman the same; a virtual machine always works
	END
}

# Sandboxes run as an unprivileged uid also when root starts them, so that is what is tried.
check_userns() {
	drop=
	test "$(id -u)" -ne 0 || drop='setpriv --reuid 65533 --regid 65533 --clear-groups'
	if ! why=$($drop bwrap --unshare-all --ro-bind /usr /usr --symlink usr/lib /lib --symlink usr/lib64 /lib64 \
		--symlink usr/bin /bin --proc /proc --dev /dev -- /bin/true 2>&1); then
		echo "autogen.sh: this machine refuses user namespaces, which sandboxes are made of ($why). What allows them:" >&2
		userns_advice >&2
		exit 1
	fi
}

# --- building -------------------------------------------------------------------------------------------------

generate() { autoreconf --install --force; }

# configure_in DIR ARGUMENT...
configure_in() {
	dir=$1
	shift
	test ! -e "$top/config.status" || die "this tree is configured in place; run 'make distclean' first"
	generate >"$log_build" 2>&1 || { cat "$log_build" >&2; die 'autoreconf failed'; }
	mkdir -p "$dir"
	(cd "$dir" && "$top/configure" "$@") >"$log_build" 2>&1 || { cat "$log_build" >&2; die 'configure failed'; }
}

jobs_for_make() { nproc 2>/dev/null || echo 2; }

# --- demo -----------------------------------------------------------------------------------------------------

gateway= # process id while it runs
work=    # the directory of everything that runs

# Prints the pids of everything below process $1, that one included.
process_tree() {
	cat /proc/[0-9]*/status 2>/dev/null | awk -v root="$1" '
		/^Pid:/ { pid = $2 }
		/^PPid:/ { parent[pid] = $2 }
		END {
			for (p in parent) {
				q = p
				while (q in parent && q != root)
					q = parent[q]
				if (q == root)
					print p
			}
		}'
}

# "PID START" of each pid given, since a pid alone may be somebody else's a moment later.
with_start_time() {
	for p in "$@"; do
		stat=$(cat "/proc/$p/stat" 2>/dev/null) || continue
		echo "$p $(echo "${stat##*) }" | cut -d ' ' -f 20)"
	done
}

# Waits at most $1 tenths of a second until the rest of the arguments succeeds as a command.
wait_until() {
	tries=$1
	shift
	until "$@"; do
		tries=$((tries - 1))
		test "$tries" -gt 0 || return 1
		sleep 0.1
	done
}

demo_cleanup() {
	status=$?
	trap - EXIT
	if test -n "$gateway"; then
		kill "$gateway" 2>/dev/null && wait "$gateway" 2>/dev/null || :
	fi
	if test "$status" -ne 0 && test -n "$work" && test -s "$work/gateway.log"; then
		echo '-- log of the gateway:' >&2
		cat "$work/gateway.log" >&2
	fi
	test -z "$work" || rm -rf "$work"
	rm -f "$log_build" "$log_packages"
	exit "$status"
}

gateway_is_ready() {
	kill -0 "$gateway" 2>/dev/null || die 'stacygated ended while starting'
	curl -sf --unix-socket "$STACYGATE_SOCKET" -o /dev/null http://localhost/gateway/v1/health 2>/dev/null
}

# Shows a command as one would type it, then runs it; its output is kept in $out and shown.
show() {
	shown=
	for word in "$@"; do
		case $word in
		"$STACYGATE_SOCKET") word='$STACYGATE_SOCKET' ;;
		'' | *[!A-Za-z0-9_./:=@%+,-]*) word="'$word'" ;;
		esac
		shown="$shown $word"
	done
	printf '\n$%s\n' "$shown"
	code=0
	out=$("$@") || code=$?
	test -z "$out" || printf '%s\n' "$out"
}

api() { show curl -sS --unix-socket "$STACYGATE_SOCKET" "$@"; }

# expect WHAT TEXT: the last output holds TEXT.
expect() {
	case $out in
	*"$2"*) ;;
	*) die "$1: expected '$2' in the answer" ;;
	esac
}

demo_with_curl() {
	say 'With curl: nobody here holds a key, and any HTTP client will do'
	api http://localhost/gateway/v1/health
	expect health '"ok"'
	api http://localhost/gateway/v1/whoami
	expect whoami "\"uid\":$(id -u)"
	api http://localhost/api/v1/sandboxes -d '{"image":"node:20","ttl":"5m"}'
	expect spawn '"state":"running"'
	id=$(printf '%s' "$out" | sed -n 's/.*"id":"\(sb-[0-9a-f]*\)".*/\1/p')
	test -n "$id" || die 'the spawn answered without an id'
	url=http://localhost/api/v1/sandboxes/$id
	api "$url/exec" -d '{"command":"node -e \"console.log(6*7)\""}'
	expect exec '"stdout":"42\n"'
	api "$url/files" -d '{"path":"/workspace/hello.sh","content":"echo Hello from $(hostname), pid $$; ls /home; exit 3\n","mode":"755"}'
	api "$url/exec" -d '{"command":"/workspace/hello.sh"}'
	expect script '"exit_code":3'
	expect script 'Hello from'
	api "$url/exec" -N -d '{"command":"for i in 1 2 3; do echo line $i; sleep 0.2; done","stream":true}'
	expect stream 'line 3'
	api "$url" -X DELETE
	api "$url"
	expect 'a destroyed sandbox' NOT_FOUND
}

demo_with_client() {
	say 'With stacygate: one sandbox per command, destroyed afterwards'
	show ./stacygate run -- node -e 'console.log("node", process.version, "in", process.cwd())'
	test "$code" -eq 0 || die "stacygate run ended with $code"
	expect run 'node v'
	show ./stacygate run -- sh -c 'echo "the exit code comes back too"; exit 7'
	test "$code" -eq 7 || die "stacygate run: expected exit code 7, got $code"
	echo "(exit code $code)"
	say 'A sandbox that is still busy when the gateway stops'
	show ./stacygate spawn
	test "$code" -eq 0 || die "stacygate spawn ended with $code"
	show ./stacygate exec "$out" -- sh -c 'sleep 1000 >/dev/null 2>&1 & echo left running'
	expect exec 'left running'
	show ./stacygate ls
	expect ls 'running'
}

demo_start() {
	work=$(mktemp -d "${TMPDIR:-/tmp}/stacygate-demo.XXXXXX")
	mkdir -m 700 "$work/run" "$work/state"
	export RUNTIME_DIRECTORY="$work/run" STATE_DIRECTORY="$work/state" STACYGATE_SOCKET="$work/run/stacygate.sock"
	# Whatever this user has configured is not what is shown here.
	export XDG_CONFIG_HOME="$work/config"
	say 'Starting the gateway on its embedded server, with no configuration'
	printf '\n$ RUNTIME_DIRECTORY=%s STATE_DIRECTORY=%s ./stacygated &\n' "$RUNTIME_DIRECTORY" "$STATE_DIRECTORY"
	./stacygated 2>"$work/gateway.log" &
	gateway=$!
	wait_until 300 gateway_is_ready || die 'the gateway did not answer within 30 s'
	echo "ready: $STACYGATE_SOCKET"
}

no_longer_running() {
	echo "$running" | while read -r pid start; do
		test "$(with_start_time "$pid")" != "$pid $start" || exit 1
	done
}

demo_stop() {
	say 'Stopping it, and looking for anything left behind'
	running=$(with_start_time $(process_tree "$gateway"))
	test "$(echo "$running" | wc -l)" -ge 4 || die 'the gateway, its server and a sandbox should have been running'
	kill "$gateway"
	code=0
	wait "$gateway" || code=$?
	gateway=
	test "$code" -eq 0 || die "stacygated ended with $code"
	wait_until 20 no_longer_running || die 'a process outlived the gateway'
	! grep -qs "$work" /proc/[0-9]*/mountinfo || die 'a mount was left'
	! grep -qs "$work" /proc/net/unix || die 'a socket is still open'
	test ! -e "$STACYGATE_SOCKET" || die 'the socket file was left'
	left=$(find "$work" -name 'sb-*' -o -type s)
	test -z "$left" || die "left behind: $left"
	rm -rf "$work"
	test ! -e "$work" || die "$work could not be removed"
	work=
	echo "no process (of $(echo "$running" | wc -l)), no mount, no socket, no directory"
}

demo() {
	install_packages "$PACKAGES_BUILD $PACKAGES_DEMO"
	check_userns
	say 'Building stacygated, stacygate-local and stacygate in build-demo'
	configure_in build-demo
	make -s -C build-demo -j"$(jobs_for_make)" programs >"$log_build" 2>&1 ||
		{ cat "$log_build" >&2; die 'the build failed'; }
	cd build-demo
	demo_start
	demo_with_curl
	demo_with_client
	demo_stop
	say 'Done. The programs are in build-demo; README.md says what to do with them'
}

# --- check ----------------------------------------------------------------------------------------------------

# promtool is in the package of a server that would start here when it is installed, so only that file of it is fetched.
fetch_promtool() {
	! command -v promtool >/dev/null 2>&1 || return 0
	test ! -x "$1/promtool" || return 0
	mkdir -p "$1/promtool.new"
	if (cd "$1/promtool.new" && apt-get -qq download prometheus && dpkg-deb --fsys-tarfile prometheus_*.deb >all.tar &&
		tar -xf all.tar ./usr/bin/promtool && mv usr/bin/promtool ../promtool) >"$log_packages" 2>&1; then
		say "Fetched promtool into $1"
	else
		cat "$log_packages" >&2
		echo 'autogen.sh: promtool (package prometheus) could not be fetched: the test that asks it is skipped' >&2
	fi
	rm -rf "$1/promtool.new"
}

check() {
	install_packages "$PACKAGES_BUILD $PACKAGES_CHECK${SG_BOOT:+ $PACKAGES_BOOT}"
	check_userns
	say 'Building with sanitizers in build-check'
	configure_in build-check --enable-sanitize --enable-werror
	fetch_promtool build-check
	make -C build-check -j"$(jobs_for_make)"
	say 'Testing'
	if ! make -C build-check -j"$(jobs_for_make)" check; then
		test ! -e build-check/test-suite.log || cat build-check/test-suite.log
		die 'some tests failed'
	fi
	say 'All tests passed'
}

case ${1-} in
'')
	generate
	;;
demo | check)
	test $# -eq 1 || die "usage: ./autogen.sh [demo|check]"
	log_build=$(mktemp) log_packages=$(mktemp)
	trap demo_cleanup EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	"$1"
	;;
*)
	echo 'usage: ./autogen.sh [demo|check]' >&2
	exit 2
	;;
esac
