# SPDX-License-Identifier: Apache-2.0
"""A few wrong bytes in a model: it is read, or refused in a sentence; MRECG_FUZZ=2000 is a long
run.
"""
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paddle_mrecg.errors import ModelError
from paddle_mrecg.graph.load import load_graph
from paddle_mrecg.graph.writer import save_program

from tests.tiny import tiny_graph

EXAMPLES = int(os.environ.get("MRECG_FUZZ", "60"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """(folder to write to, suffix -> bytes) of the tiny model."""
    folder = tmp_path_factory.mktemp("damaged")
    save_program(tiny_graph(), str(folder / "model"))
    return folder, {s: (folder / f"model{s}").read_bytes() for s in (".pdmodel", ".pdiparams")}


@pytest.mark.parametrize("suffix", [".pdmodel", ".pdiparams"])
@settings(max_examples=EXAMPLES, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_wrong_bytes_are_read_or_refused(suffix, model, data):
    folder, contents = model
    damaged = dict(contents, **{suffix: bytearray(contents[suffix])})
    places = st.integers(0, len(contents[suffix]) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1,
                                           max_size=6)):
        damaged[suffix][place] = value
    for name, content in damaged.items():
        (folder / f"model{name}").write_bytes(bytes(content))
    try:
        load_graph(str(folder))
    except ModelError as error:
        assert len(str(error)) < 2000
