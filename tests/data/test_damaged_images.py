# SPDX-License-Identifier: Apache-2.0
"""A few wrong bytes in an image: it is read, or refused in a sentence; MRECG_FUZZ=2000 is a long
run.
"""
import io
import os
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from paddle_mrecg.config import Data
from paddle_mrecg.data.images import read_image
from paddle_mrecg.errors import DataError

EXAMPLES = int(os.environ.get("MRECG_FUZZ", "60"))
MODES = {"png": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"), "jpeg": ("RGB", "L", "CMYK"),
         "bmp": ("RGB", "L", "1"), "gif": ("P", "L"), "tiff": ("RGB", "L", "F", "I;16", "I"),
         "webp": ("RGB", "RGBA"), "ppm": ("RGB", "L")}


def encoded(kind, mode):
    """The bytes of a 12 x 9 ramp."""
    ramp = np.arange(108).reshape(9, 12)
    if mode in ("I;16", "I", "F"):
        dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        image = Image.fromarray((ramp * 600).astype(dtype))
    else:
        image = Image.fromarray((ramp * 2).astype(np.uint8)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", MODES)
@settings(max_examples=EXAMPLES, deadline=10000,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_wrong_bytes_are_read_or_refused(kind, data, tmp_path):
    content = bytearray(encoded(kind, data.draw(st.sampled_from(MODES[kind]))))
    places = st.integers(0, len(content) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)):
        content[place] = value
    path = tmp_path / f"image.{kind}"
    path.write_bytes(bytes(content[:data.draw(st.sampled_from([len(content), len(content) // 2]))]))
    section = Data(crop=data.draw(st.sampled_from(["center", "resize", "pad"])),
                   layout=data.draw(st.sampled_from(["RGB", "BGR"])))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about what it then refuses
            pixels = read_image(path, section, (8, 8))
    except DataError as error:
        assert str(path) in str(error) and len(str(error)) < 2000
        return
    assert pixels.shape == (3, 8, 8) and pixels.dtype == np.float32 and np.isfinite(pixels).all()
