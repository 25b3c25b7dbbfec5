# SPDX-License-Identifier: Apache-2.0
"""Programs that are scored in the process of a job."""
import subprocess
import sys

import numpy as np
import pytest

from paddle_mrecg.deploy.predictor import Predictor, scored_program
from paddle_mrecg.graph.graph import Op, TensorInfo
from paddle_mrecg.graph.writer import save_program

from tests.tiny import tiny_graph, tiny_quantized, tiny_samples


@pytest.mark.parametrize("make", [tiny_graph, tiny_quantized])
def test_a_scored_program_computes_the_same(make, tmp_path):
    graph, prefix = make(), str(tmp_path / "model")
    save_program(graph, prefix)
    feed = tiny_samples(8)
    for ours, plain in zip(scored_program(prefix, graph)(feed), Predictor(prefix)(feed)):
        assert np.array_equal(ours, plain)


def chain(length=40):
    """Tensors of 1.5 MiB for 8 samples, one behind the other, in front of the tiny network."""
    names = ["image", *(f"t{k}" for k in range(length))]
    graph = tiny_graph(size=128)
    graph.tensors.update({n: TensorInfo(n, (-1, 3, 128, 128)) for n in names})
    first, *others = graph.ops
    graph.ops = [*(Op("sigmoid", {"X": [a]}, {"Out": [b]}, {}) for a, b in zip(names, names[1:])),
                 Op(first.type, dict(first.inputs, Input=names[-1:]), first.outputs, first.attrs),
                 *others]
    return graph


HELD = """
import sys
from paddle_mrecg.compat import import_paddle
from paddle_mrecg.machine import resident_bytes
import_paddle()
from paddle_mrecg.deploy.predictor import Predictor, scored_program
from tests.deploy.test_predictor import chain
import numpy as np
graph, prefix = chain(), sys.argv[1]
predict = scored_program(prefix, graph) if sys.argv[2] == "lean" else Predictor(prefix)
before = resident_bytes()
predict(np.zeros((8, 3, 128, 128), np.float32))
print(resident_bytes() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is Linux's")
def test_a_scored_program_holds_a_part_of_its_tensors(tmp_path, repository):
    prefix = str(tmp_path / "model")
    save_program(chain(), prefix)
    lean, plain = (int(subprocess.run([sys.executable, "-W", "ignore", "-c", HELD, prefix, how],
                                      capture_output=True, text=True, check=True, cwd=repository
                                      ).stdout) for how in ("lean", "plain"))
    assert lean < 0.5 * plain
