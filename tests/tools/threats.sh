#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The rows of threats that must have tests have them, and the script that says so does not take mere words for a test.
set -u

passed=0
failed=0
src=${SG_SRCDIR:?}
rows=$src/tests/tools/threat-rows
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

verdict() {
	if [ "$1" -eq 0 ]; then passed=$((passed + 1)); else
		failed=$((failed + 1))
		echo "FAILED: $2"
		cat "$work/out"
	fi
}

python3 "$rows" check -C "$src" B1 B2 B3 B4 B5 B6 C1 C2 C3 C4 C5 C6 C7 C8 C9 F4 F35 H6 H7 \
	L1 L2 L3 L4 L5 L6 L7 L8 L9 L10 L11 L12 L13 L14 L15 L16 L17 X1 X2 X3 X4 X5 X6 X7 X8 X9 X10 X11 X12 X13 X14 >"$work/out" 2>&1
verdict $? "the rows that must have tests"

# What the last long run wrote speaks of rows that still have tests.
written=$(sed -n 's/^| \([A-Z]*[0-9]*\) |.*/\1/p' "$src/tests/THREATS.md")
echo "$written" >"$work/out"
[ "$(echo "$written" | wc -l)" -ge 50 ] && python3 "$rows" check -C "$src" $written >"$work/out" 2>&1
verdict $? "tests/THREATS.md"

mkdir -p "$work/tests/unit"
echo 'TESTS += tests/unit/a.c tests/unit/b.py tests/unit/c.sh' >"$work/tests/x.inc"
cat >"$work/tests/unit/a.c" <<'END'
/* SPDX-License-Identifier: Apache-2.0 */
/* Of all in this file: P1. */
/* P2: in the comment of a test. */
Test(a, one)
{
	try("%C3%B1", "P3");
}

Test(a, P4_in_the_name)
{
}

/* P9: a helper behind the last test */
END
printf '# SPDX\n"""P5"""\ndef test_p6_x():\n    pass\n' >"$work/tests/unit/b.py"
echo '# P7' >"$work/tests/unit/c.sh"
echo '# P8' >"$work/tests/unit/not-built.sh"

covers() {
	python3 "$rows" check -C "$work" "$@" >"$work/out" 2>&1
}

covers P2 P3 P4 P6 P7
verdict $? "what is covered: P2 P3 P4 P6 P7"
for row in P1 P5 P8 P9 C3 B1 P99; do
	! covers "$row"
	verdict $? "$row is not covered"
done
test "$(python3 "$rows" list "$work" | tr '\t' ' ' | head -n 2)" = "$(printf 'P2 tests/unit/a.c a_one\nP3 tests/unit/a.c a_one')"
verdict $? "the list names file and test"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
