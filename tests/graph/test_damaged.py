# SPDX-License-Identifier: Apache-2.0
"""A few wrong bytes in a model: it is read, or refused in a sentence; MRECG_FUZZ=2000 is a long
run.
"""
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paddle_mrecg.config import QuantPost
from paddle_mrecg.errors import DataError, ModelError
from paddle_mrecg.graph.fold import fold
from paddle_mrecg.graph.load import load_graph
from paddle_mrecg.graph.partition import modules_of
from paddle_mrecg.graph.probe import probe
from paddle_mrecg.graph.writer import save_program
from paddle_mrecg.post.scheme import build_scheme

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
        _prepared(load_graph(str(folder)), str(folder / "out" / "model"))
    except ModelError as error:
        assert len(str(error)) < 2000
    except DataError as error:  # a weight with a huge exponent
        assert "check the model's weights" in str(error)


def _prepared(graph, prefix):
    """All that is done with a model before the first layer is looked at, and writing it."""
    graph = fold(graph)
    scheme = build_scheme(graph, QuantPost(), "paddle_lite")
    samples = {n: np.ones((3, *[min(abs(k), 64) for k in graph.tensors[n].shape[1:]]),
                          graph.tensors[n].dtype) for n in graph.inputs}
    modules_of(graph, probe(graph, samples), scheme.is_quantized)
    save_program(graph, prefix)
