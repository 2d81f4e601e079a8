#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# User instructions of one small request, and of a read that is remembered, counted by callgrind at 32 clients, must not grow
# unnoticed. Instructions do not drift with the machine as seconds do; what is bounded is the difference between a run of many requests and one of
# few, which is free of start, connections and stop.
set -u

# The goal. With owners kept apart, limits and the audit on, 11,530 were counted with gcc 12 -O2, 11,640 with gcc 14.
LIMIT=12000
# A read of a template that is remembered: 6,277 were counted, 6,607 with gcc 14. Its other half, system calls, is half of a passed request's.
CACHED_LIMIT=6800
FEW=200 MANY=1200 CLIENTS=32

build=${SG_BUILDDIR:?} src=${SG_SRCDIR:?}
work=
upstream=
gateway=
skip() {
	echo "skipped: $1"
	exit 77
}
finish() {
	for pid in $gateway $upstream; do
		kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
	done
	[ -z "$work" ] || rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

command -v valgrind >/dev/null || skip "valgrind is not installed: the instructions of a request are not bounded"
[ -z "${SG_SANITIZE:-}" ] || skip "a sanitizer build cannot run under valgrind: the instructions of a request are not bounded"
case " ${SG_CFLAGS:-} " in
*" --coverage "*) skip "a build for gcov counts itself: the instructions of a request are not bounded" ;;
*" -O2 "* | *" -O3 "*) ;;
*) skip "not built with -O2: the instructions of a request are not bounded" ;;
esac
work=$(mktemp -d) || exit 1
mkdir -m 700 "$work/run" "$work/state"

# wait_for WHAT COMMAND...: polls for a minute.
wait_for() {
	what=$1
	shift
	deadline=$(($(date +%s) + 60))
	until "$@"; do
		if [ "$(date +%s)" -ge "$deadline" ]; then
			echo "FAILED: waited a minute for $what"
			cat "$work/log"
			exit 1
		fi
		sleep 0.05
	done
}

# count REQUESTS [PATH]: instructions of a whole run, in $counted.
count() {
	rm -f "$work/gw.sock"
	RUNTIME_DIRECTORY=$work/run STATE_DIRECTORY=$work/state valgrind --tool=callgrind \
		"--callgrind-out-file=$work/count.%p" "$build/stacygated" -c "$work/stacygate.yaml" >"$work/log" 2>&1 &
	gateway=$!
	wait_for "stacygated to be ready" grep -q 'stacygated: ready' "$work/log"
	if ! "$build/bench_probe" "$work/gw.sock" requests "$1" "$CLIENTS" ${2:+"$2"} >/dev/null; then
		echo "FAILED: the requests did not go through"
		cat "$work/log"
		exit 1
	fi
	kill "$gateway"
	wait "$gateway"
	counted=$(sed -n 's/^totals: \([0-9][0-9]*\).*/\1/p' "$work/count.$gateway")
	gateway=
	[ -n "$counted" ] || { echo "FAILED: callgrind wrote no total"; exit 1; }
}

umask 077
echo 0123456789abcdef0123456789abcdef >"$work/api.key"
sed -e "s#@LISTEN@#$work/gw.sock#; s#@UPSTREAM@#unix://$work/up.sock#; s#@TLS@##; s#@DIR@#$work#; s#@UID@#$(id -u)#" \
	"$src/tests/bench/stacygate.yaml" >"$work/stacygate.yaml"
"$build/bench_upstream" "$work/up.sock" &
upstream=$!
: >"$work/log"
wait_for "the upstream to listen" test -S "$work/up.sock"
passed=0 failed=0

# judge WHAT LIMIT [PATH]
judge() {
	count "$FEW" ${3:+"$3"}
	few=$counted
	count "$MANY" ${3:+"$3"}
	each=$(((counted - few) / (MANY - FEW)))
	echo "$each user instructions per $1 at $CLIENTS clients, $2 allowed"
	# A count too low to be true is a run that did not measure what it says.
	if [ "$each" -lt 2000 ]; then
		echo "FAILED: that is too few to be the work of a request"
		failed=$((failed + 1))
	elif [ "$each" -gt "$2" ]; then
		failed=$((failed + 1))
	else
		passed=$((passed + 1))
	fi
}
judge "small request" "$LIMIT"
judge "cached template read" "$CACHED_LIMIT" /api/v1/templates/bench
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
