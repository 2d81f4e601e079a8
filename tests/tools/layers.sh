#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The tree keeps the layer rules, and the script that says so finds each kind of planted violation.
set -u

passed=0
failed=0
src=${SG_SRCDIR:?}
check=$src/tests/tools/check-layers
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

verdict() {
	if [ "$1" -eq 0 ]; then passed=$((passed + 1)); else
		failed=$((failed + 1))
		echo "FAILED: $2"
		cat "$work/out"
	fi
}

python3 "$check" "$src" >"$work/out" 2>&1
verdict $? "the tree itself"

# a small tree of its own, sound so far
fresh() {
	tree=$work/tree
	rm -rf "$tree"
	mkdir -p "$tree/include/common" "$tree/include/gateway" "$tree/include/local" "$tree/daemon/common" \
		"$tree/daemon/gateway" "$tree/daemon/local" "$tree/tests/tools" "$tree/tests/unit"
	cp "$src/tests/tools/layers" "$tree/tests/tools/"
	for header in common/err common/loop common/buf gateway/client gateway/upstream gateway/gateway local/a local/b; do
		write "include/$header.h" ''
	done
}

# write FILE LINE...: a source file with its SPDX line
write() {
	file=$1
	shift
	printf '%s\n' '/* SPDX-License-Identifier: Apache-2.0 */' "$@" >"$tree/$file"
}

# judge NAME EXPECTED-TEXT: what the script says of the tree; no text means that it must pass
judge() {
	python3 "$check" "$tree" >"$work/out" 2>&1
	status=$?
	if [ -z "$2" ]; then
		verdict $status "$1: must pass"
	else
		{ [ $status -ne 0 ] && grep -q "$2" "$work/out"; }
		verdict $? "$1: '$2' not reported"
	fi
}

# plant NAME EXPECTED-TEXT FILE LINE...: one more file, then judge
plant() {
	name=$1 expected=$2
	shift 2
	fresh
	write "$@"
	judge "$name" "$expected"
}

plant "a sound tree" "" daemon/gateway/client.c '#include "gateway/client.h"' '#include "common/loop.h"' \
	'/* sprintf(a) is not called here */' 'const char *s = "strcpy(x)"; int my_system(int); int f(void) { return my_system(1); }'
plant "an include up" "gateway/client.*includes gateway/gateway.*: up" daemon/gateway/client.c '#include "gateway/gateway.h"'
plant "an include sideways" "sideways" daemon/gateway/client.c '#include "gateway/upstream.h"'
plant "up inside common" "common/buf.*includes common/loop.*: up" daemon/common/buf.c '#include "common/loop.h"'
plant "another part" "a part includes itself and common only" daemon/local/a.c '#include "gateway/client.h"'
plant "an unknown module" "has no layer" daemon/gateway/stranger.c 'int x;'
plant "a header that is not there" "does not exist" daemon/gateway/client.c '#include "gateway/nothing.h"'
plant "a header that needs another" "does not compile alone" include/gateway/client.h 'size_t client_count(void);'
plant "curl in the wrong place" "only dial, wire may include" daemon/gateway/client.c '#include <curl/curl.h>'
fresh
printf 'int x;\n' >"$tree/daemon/gateway/client.c"
judge "no SPDX line" "client.c:1: the first line is not the SPDX line"
fresh
write include/local/a.h '#include "local/b.h"'
write daemon/local/b.c '#include "local/a.h"'
judge "a circle" "circle: local/a -> local/b -> local/a"
plant "a test that includes a .c" "link the library instead" tests/unit/x.c '#include "daemon/common/buf.c"'
for call in sprintf strcpy strcat strncpy atoi sscanf strtok alloca system popen; do
	plant "a call of $call" "client.c:2: $call() is forbidden" daemon/gateway/client.c "int f(void) { return (int)$call(0); }"
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
