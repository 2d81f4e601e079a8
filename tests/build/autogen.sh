#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What ./autogen.sh demo and check do when something is missing, fails, or is left behind. Package manager, compiler
# and programs are stand-ins on PATH; nothing is installed or built.
set -u
passed=0 failed=0
top=$(mktemp -d "${TMPDIR:-/tmp}/autogen-test.XXXXXX") || exit 1
trap 'rm -rf "$top"' EXIT
trap 'exit 1' HUP INT TERM

stub() { # NAME BODY: a program of that name on PATH
	printf '#!/bin/sh\n%s\n' "$2" >"$top/bin/$1"
	chmod +x "$top/bin/$1"
}

# Everything as it is on a machine where all works; a case changes what it is about.
prepare() {
	case_name=$1
	rm -rf "$top/bin" "$top/src" "$top/tmp" "$top/facts"
	mkdir "$top/bin" "$top/src" "$top/tmp" "$top/facts"
	cp "$SG_SRCDIR/autogen.sh" "$top/src/"
	stub id 'echo 1000'
	stub sudo 'exit 1'
	stub nproc 'echo 1'
	stub dpkg 'case $2 in 0 | 8*) exit 1 ;; esac'
	stub dpkg-query 'case $* in *" none-"*) exit 1 ;; esac
name=; for name; do :; done
grep -qsx "$name" '"$top"'/facts/missing && exit 1
echo "installed 10.0"'
	stub apt-cache 'echo "$2:"; echo "  Candidate: 10.0"'
	stub apt-get 'echo "$@" >>'"$top"'/facts/apt'
	stub bwrap 'exit 0'
	stub setpriv 'while [ "$1" != bwrap ]; do shift; done; exec "$@"'
	stub autoreconf 'exit 0'
	stub make 'echo made >>'"$top"'/facts/make'
	printf '#!/bin/sh\nexit 0\n' >"$top/src/configure"
	chmod +x "$top/src/configure"
	mkdir "$top/src/build-demo" "$top/src/build-check"
	demo_programs
}

# gateway_stand_in AT-START AT-TERM: a daemon with three children, which it ends itself.
gateway_stand_in() {
	cat >"$top/src/build-demo/stacygated" <<-END
	#!/bin/sh
	sleep 100 & a=\$!; sleep 100 & b=\$!; sleep 100 & c=\$!
	$1
	stop() { kill \$a \$b \$c; $2; }
	trap stop TERM
	: >"\$STACYGATE_SOCKET"
	while :; do sleep 0.05; done
	END
	chmod +x "$top/src/build-demo/stacygated"
}

# Stand-ins that give the answers which the demo looks for.
demo_programs() {
	stub curl 'for a; do :; done
case $* in
*gateway/v1/health*) test -e "$STACYGATE_SOCKET" && echo "{\"status\":\"ok\"}" ;;
*whoami*) echo "{\"uid\":1000}" ;;
*"stream\":true"*) echo "line 3" ;;
*"console.log(6*7)"*) echo "{\"stdout\":\"42\\\\n\"}" ;;
*/exec*) echo "{\"exit_code\":3,\"stdout\":\"Hello from x\"}" ;;
*/files*) echo "{}" ;;
*-X*) echo "{}" ;;
*/sandboxes/sb-*) echo "{\"code\":\"NOT_FOUND\"}" ;;
*/sandboxes*) echo "{\"id\":\"sb-0a1b2c3d\",\"state\":\"running\"}" ;;
*) exit 7 ;;
esac'
	stub stacygate 'case $* in *"exit 7"*) echo x; exit 7 ;; *node*) echo "node v1" ;;
spawn) echo sb-0a1b2c3d ;; exec*) echo "left running" ;; ls) echo "sb-0a1b2c3d running" ;; esac'
	gateway_stand_in : 'rm -f "$STACYGATE_SOCKET"; exit 0'
	mv "$top/bin/stacygate" "$top/src/build-demo/"
}

run() { # COMMAND...: leaves $status and $top/facts/output
	status=0
	PATH="$top/bin:$PATH" TMPDIR="$top/tmp" sh "$top/src/autogen.sh" "$@" >"$top/facts/output" 2>&1 || status=$?
}

verdict() { # CONDITION-STATUS WHAT
	if [ "$1" -eq 0 ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAIL: $case_name: $2 (exit status $status)"
		cat "$top/facts/output"
	fi
}

succeeds() { [ "$status" -eq 0 ]; verdict $? 'should succeed'; }
fails() { [ "$status" -ne 0 ]; verdict $? 'should fail'; }
says() { grep -qF -- "$1" "$top/facts/output"; verdict $? "should say '$1'"; }
left_nothing() { [ -z "$(ls -A "$top/tmp")" ]; verdict $? "left in the temporary directory: $(ls -A "$top/tmp")"; }

prepare 'unknown word'
run nonsense
[ "$status" -eq 2 ]; verdict $? 'should be a usage error'

prepare 'demo where all is well'
run demo
succeeds
left_nothing
[ ! -e "$top/facts/apt" ]; verdict $? 'should not run apt-get when nothing is missing'

prepare 'packages are missing and nobody may install them'
printf 'jansson\nlibjansson-dev\nbubblewrap\nlibllhttp-dev\nnode-llhttp\n' >"$top/facts/missing"
run demo
fails
says 'these packages are missing: libjansson-dev libllhttp-dev bubblewrap'
[ ! -e "$top/facts/apt" ]; verdict $? 'should not run apt-get'
left_nothing

prepare 'one of two packages is enough'
printf 'libllhttp-dev\npkgconf\nlibcurl4-openssl-dev\n' >"$top/facts/missing"
run demo
succeeds

prepare 'no candidate for libllhttp-dev, as on Debian 12'
printf 'libllhttp-dev\nnode-llhttp\n' >"$top/facts/missing"
stub apt-cache 'echo "$2:"; case $2 in libllhttp-dev) echo "  Candidate: (none)" ;; *) echo "  Candidate: 8.1" ;; esac'
run check
fails
says 'missing: node-llhttp'

prepare 'the installation does not help'
stub id 'echo 0'
echo bubblewrap >"$top/facts/missing"
run demo
fails
says 'still missing after the installation: bubblewrap'
grep -q 'install bubblewrap$' "$top/facts/apt"; verdict $? 'should have tried to install it'

prepare 'the installation fails'
stub id 'echo 0'
echo bubblewrap >"$top/facts/missing"
stub apt-get 'case $* in *install*) echo "E: no such thing"; exit 100 ;; esac'
run demo
fails
says 'E: no such thing'

prepare 'no Debian'
rm "$top/bin/dpkg-query"
mkdir "$top/plain"
for tool in sh cat mktemp dirname tr rm grep sed id; do ln -s "$(command -v $tool)" "$top/plain/$tool"; done
status=0
PATH="$top/plain" TMPDIR="$top/tmp" sh "$top/src/autogen.sh" demo >"$top/facts/output" 2>&1 || status=$?
fails
says 'this is no Debian-like system'
says 'bubblewrap'
left_nothing

prepare 'user namespaces are refused'
stub bwrap 'echo "bwrap: No permissions to create new namespace" >&2; exit 1'
run demo
fails
says 'refuses user namespaces'
says 'No permissions to create new namespace'
[ ! -e "$top/facts/make" ]; verdict $? 'should not build first'

prepare 'the build fails'
stub make 'echo "x.c:1: error: nonsense"; exit 2'
run demo
fails
says 'x.c:1: error: nonsense'
left_nothing

prepare 'configure fails'
printf '#!/bin/sh\necho "no libevent"; exit 1\n' >"$top/src/configure"
run demo
fails
says 'no libevent'

prepare 'the tree is configured in place'
: >"$top/src/config.status"
run check
fails
says 'make distclean'

prepare 'the gateway ends at once'
printf '#!/bin/sh\necho "cannot bind" >&2; exit 3\n' >"$top/src/build-demo/stacygated"
run demo
fails
says 'cannot bind'
left_nothing

prepare 'the gateway ends with an error'
gateway_stand_in : 'rm -f "$STACYGATE_SOCKET"; exit 4'
run demo
fails
says 'stacygated ended with 4'
left_nothing

prepare 'a process outlives the gateway'
gateway_stand_in "sleep 60 & echo \$! >$top/facts/outliving" 'rm -f "$STACYGATE_SOCKET"; exit 0'
run demo
fails
says 'a process outlived the gateway'
kill "$(cat "$top/facts/outliving")"
left_nothing

prepare 'the socket stays'
gateway_stand_in : 'exit 0'
run demo
fails
says 'the socket file was left'
left_nothing

prepare 'a sandbox directory stays'
gateway_stand_in 'mkdir -p "$STATE_DIRECTORY/sandboxes/sb-1"' 'rm -f "$STACYGATE_SOCKET"; exit 0'
run demo
fails
says 'left behind'
left_nothing

prepare 'a wrong answer'
sed -i 's/42/41/' "$top/bin/curl"
run demo
fails
says "exec: expected"
left_nothing

prepare 'a lost exit code'
sed -i 's/exit 7 ;;/exit 0 ;;/' "$top/src/build-demo/stacygate"
run demo
fails
says 'expected exit code 7, got 0'

prepare 'check where all is well'
run check
succeeds
says 'All tests passed'

if command -v promtool >/dev/null 2>&1; then
	echo 'SKIPPED: promtool is installed here, so it is never fetched'
else
	prepare 'promtool is fetched, not installed'
	stub apt-get 'case $* in *"download prometheus") : >prometheus_1_amd64.deb ;; *) exit 100 ;; esac'
	stub dpkg-deb 'mkdir -p usr/bin; echo tool >usr/bin/promtool; chmod +x usr/bin/promtool; tar -c ./usr; rm -r usr'
	run check
	succeeds
	[ "$(ls "$top/src/build-check")" = promtool ] && [ -x "$top/src/build-check/promtool" ]
	verdict $? 'should leave promtool and nothing else in build-check'
	stub apt-get 'echo "$@" >>'"$top"'/facts/apt'
	run check
	[ ! -e "$top/facts/apt" ]; verdict $? 'should not fetch it twice'

	prepare 'promtool cannot be fetched'
	stub apt-get 'echo "E: no network" >&2; exit 100'
	run check
	succeeds
	says 'E: no network'
	says 'the test that asks it is skipped'
	[ -z "$(ls "$top/src/build-check")" ]; verdict $? 'should leave nothing'
fi

prepare 'a test fails'
stub make 'case $* in *check) echo "assertion of a test" >'"$top"'/src/build-check/test-suite.log; exit 2 ;; esac'
run check
fails
says 'assertion of a test'
left_nothing

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
