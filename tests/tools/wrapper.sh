#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The wrappers that judge test programs are judged themselves: what is at fault must be refused, for its own reason.
set -u

passed=0
failed=0
src=${SG_SRCDIR:?} build=${SG_BUILDDIR:?}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

ok() { passed=$((passed + 1)); }
bad() {
	failed=$((failed + 1))
	echo "FAILED: $1"
	# Quoted by a prefix, and spelt so that the wrapper above this script does not take it for its own.
	sed -e 's/Sanitizer/Saniti-zer/g; s/runtime error/runtime-error/g; s/check failed/check-failed/g; s/^/  | /' "$work/out"
}

# judge NAME WRAPPER EXPECTED-STATUS EXPECTED-REASON COMMAND...
judge() {
	name=$1 wrapper=$2 want=$3 reason=$4
	shift 4
	"$wrapper" "$@" >"$work/out" 2>&1 9>"$work/nine"
	got=$?
	if [ "$got" -ne "$want" ]; then
		bad "$name: exit $got, expected $want"
	elif [ -n "$reason" ] && ! grep -aq "$reason" "$work/out" "$work/nine"; then
		bad "$name: no '$reason' said"
	else
		ok
	fi
}

criterion=$src/tests/tools/run-criterion
judge "a good program" "$criterion" 0 "Tested: 1" "$build/sample_fine"
grep -q 'sample_fine: Tested: 1' "$work/nine" && ok || bad "the Synthesis line is not on descriptor 9"
judge "no test" "$criterion" 1 "no test ran" "$build/sample_empty"
judge "a failed CHECK" "$criterion" 1 "a failed CHECK" "$build/sample_crashes"
# The harness fails a test whose program wrote a credential, a sanitizer's report or a failed CHECK.
judge "what programs write" "$criterion" 1 "Failing: 3" "$build/sample_spills"
judge "not a Criterion program" "$criterion" 1 "no Synthesis line" /bin/true
judge "a program that is not there" "$criterion" 1 "exit status 127" "$build/sample_none"
if [ -n "${SG_SANITIZE:-}" ]; then
	judge "a leak" "$criterion" 1 "sanitizer report" "$build/sample_leaks"
	judge "undefined behaviour" "$criterion" 1 "sanitizer report" "$build/sample_overflows"
	# The reason for the wrapper: Criterion itself is content with a leak.
	"$build/sample_leaks" >"$work/out" 2>&1 || echo "note: this Criterion fails a leaking program by itself"
else
	echo "not a sanitizer build: the leaking and the overflowing program are not tried"
fi

script=$src/tests/tools/run-script
try() {
	printf '%s\n' "$1" >"$work/$2"
	echo "$work/$2"
}
judge "a good script" "$script" 0 "3 passed, 0 failed" "$(try 'echo "3 passed, 0 failed"' good.sh)"
judge "a script with a failure" "$script" 1 "1 failed" "$(try 'echo "3 passed, 1 failed"' one.sh)"
judge "a script without a test" "$script" 1 "no test passed" "$(try 'echo "0 passed, 0 failed"' none.sh)"
judge "a script without a summary" "$script" 1 "no summary line" "$(try 'echo hello' silent.sh)"
judge "a script that exits 3" "$script" 1 "exit status 3" "$(try 'echo "1 passed, 0 failed"; exit 3' three.sh)"
judge "a script that skips" "$script" 77 "skipped" "$(try 'echo "no namespaces"; exit 77' skip.sh)"
judge "a sanitizer's report" "$script" 1 "sanitizer report" \
	"$(try 'echo "ERROR: Leak""Sanitizer: x"; echo "1 passed, 0 failed"' report.sh)"
SG_TEST_TIMEOUT=1 judge "a script that hangs" "$script" 1 "not done" "$(try 'sleep 60' hang.sh)"
judge "a unittest" "$script" 0 "1 passed" "$(try 'import unittest
class T(unittest.TestCase):
    def test_it(self): pass
unittest.main()' unit.py)"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
