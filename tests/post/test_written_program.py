# SPDX-License-Identifier: Apache-2.0
"""The check at the end of every run sees what is wrong with a program."""
from types import SimpleNamespace

import numpy as np
import pytest

from paddle_mrecg.post.program import qdq_graph
from paddle_mrecg.post.program import VERIFIED_SAMPLES, ends, verify
from paddle_mrecg.graph.graph import Graph, Op, TensorInfo
from paddle_mrecg.graph.writer import save_program

from tests.tiny import tiny_graph, tiny_job, tiny_samples


def verified(job, folder, change=None):
    graph = qdq_graph(job.network.graph, job.network.scheme, job.state)
    if change:
        change(graph)
    save_program(graph, str(folder / "model"))
    return verify(job.network, job.state, str(folder / "model"))


def _one_code(graph):
    graph.params["b.w"][0, 0, 1, 1] += 1


def _one_scale(graph):
    name = next(n for n in graph.params if n.startswith("a.relu.scale"))
    graph.params[name] *= np.float32(1.05)


@pytest.mark.parametrize("change", [_one_code, _one_scale])
def test_one_wrong_number_is_seen(change, tmp_path):
    job = tiny_job(target="paddle_lite", weight_bits=4)
    right = verified(job, tmp_path)
    assert (right["max_abs_diff"] <= 1e-6 * right["max_abs_output"]
            and right["mean_abs_diff"] <= right["max_abs_diff"])
    wrong = verified(job, tmp_path, change)
    assert wrong["max_abs_diff"] > 1e-4 * wrong["max_abs_output"] and wrong["mean_abs_diff"] > 0


@pytest.mark.parametrize("count, used", [(3, 3), (48, VERIFIED_SAMPLES)])
def test_few_samples_are_enough(count, used, tmp_path):
    found = verified(tiny_job(samples=tiny_samples(count)), tmp_path)
    assert found["samples"] == used and found["outputs"] == 1


def test_outputs_that_dygraph_cannot_compute_are_left_out(tmp_path):
    graph = tiny_graph()
    graph.tensors["norm"] = TensorInfo("norm", (-1, 1))
    graph.ops.append(Op("p_norm", {"X": ["probability"]}, {"Out": ["norm"]},
                        dict(porder=2.0, axis=1, keepdim=True, epsilon=1e-12, asvector=False)))
    graph.outputs.append("norm")
    job = tiny_job(graph)
    job.network.reached = [op for op in graph.ops if op.type != "p_norm"]
    found = verified(job, tmp_path)
    assert found["outputs"] == 1 and found["max_abs_diff"] <= 1e-6


def test_what_stands_in_front_of_a_selection_is_compared():
    """One box more or less, for a score that fell to the other side, is not a wrong program."""
    ops = [Op("relu", {"X": ["x"]}, {"Out": ["boxes"]}), Op("tanh", {"X": ["x"]}, {"Out": ["z"]}),
           Op("multiclass_nms3", {"BBoxes": ["boxes"], "Scores": ["z"]}, {"Out": ["found"]}),
           Op("scale", {"X": ["found"]}, {"Out": ["scaled"]})]
    graph = Graph(ops, {}, {}, ["x"], ["scaled"])
    assert ends(SimpleNamespace(ops=ops), graph) == ["boxes", "z"]
    graph.outputs.append("z")
    assert ends(SimpleNamespace(ops=ops), graph) == ["z"]
