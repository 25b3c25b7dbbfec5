# SPDX-License-Identifier: Apache-2.0
"""What all tests share: import order, markers, and where optional data and models lie."""
import importlib.util
import os
from pathlib import Path

# One thread unless told otherwise: faster on the tiny networks here, and the
# same sums on every machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GLOG_minloglevel", "2")

# Paddle 2.6 brings its own zlib: what uses another one must be imported before it.
try:
    import cv2  # noqa: F401
except ImportError:  # on Python 3.13: PaddleSlim pins a build for numpy 1
    pass
import matplotlib  # noqa: E402
import PIL.Image  # noqa: E402,F401
import PIL.PngImagePlugin  # noqa: E402,F401
import pytest  # noqa: E402

matplotlib.use("Agg")

import paddle  # noqa: E402,F401

ROOT = Path(__file__).resolve().parents[1]
MARKERS = {
    "slow": "takes more than ten seconds; left out with -m 'not slow'",
    "host": "a fact about the installed Paddle or PaddleSlim that our code relies on",
}


def pytest_configure(config):
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


@pytest.fixture(scope="session")
def repository():
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data():
    """name -> path below ``$MRECG_SHARED_DATA`` or ``../shared/data``;
    skips when it is not there.
    """
    base = Path(os.environ.get("MRECG_SHARED_DATA") or ROOT.parent / "shared" / "data")

    def find(name=""):
        if not (base / name).exists():
            pytest.skip(f"no measuring data '{name}': set MRECG_SHARED_DATA to the "
                        "folder that holds it")
        return base / name

    return find


@pytest.fixture(scope="session")
def package_files():
    """(package, path inside) -> path of a file in an installed package, which is not
    imported; skips without it.
    """

    def find(package, inside=""):
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            if (Path(place) / inside).exists():
                return Path(place) / inside
        pytest.skip(f"{package}/{inside} is not installed")

    return find


@pytest.fixture
def make_quanter():
    """(step, bits, axis, gradient_scale) -> plain quanter of ``tests/plain_quanter.py``."""
    from tests.plain_quanter import PlainQuanter
    return PlainQuanter


@pytest.fixture
def make_layer():
    """(weight, quanter) -> plain layer of ``tests/plain_quanter.py``."""
    from tests.plain_quanter import PlainLinear
    return PlainLinear
