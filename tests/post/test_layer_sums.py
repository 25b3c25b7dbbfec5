# SPDX-License-Identifier: Apache-2.0
"""Layers whose output is added to a shortcut."""
import numpy as np
import pytest

from paddle_mrecg.graph.graph import QUANTIZED
from paddle_mrecg.post import solved_rounding
from paddle_mrecg.post.layer_sums import LayerSum, layer_sum
from paddle_mrecg.post.solved_rounding import LayerWalk
from paddle_mrecg.post.unit_runner import UnitRunner
from tests.tiny import tiny_graph, tiny_job


def sums(job):
    """Weight -> where the output of its layer ends up."""
    graph, scheme = job.network.graph, job.network.scheme
    return {op.input("Filter"): layer_sum(op, unit, graph, scheme) for unit in job.units()
            for op in graph.ops[unit.start:unit.stop] if op.type == "conv2d"}


@pytest.mark.parametrize("target, read", [("paddle_lite", "a.relu"),
                                          ("simulation", "a.relu" + QUANTIZED)])
def test_a_sum_is_followed_through_the_bias_to_the_shortcut(target, read):
    found = sums(tiny_job(granularity="layer", target=target))
    assert found["c.w"] == LayerSum("c.add", [read])
    assert found["b.w"] == LayerSum("b.sum", [])


def test_a_sum_that_others_read_ends_there():
    graph = tiny_graph()
    relu = next(op for op in graph.ops if op.output("Out") == "c.relu")
    relu.inputs["X"] = ["c.sum"]  # and the addition reads it, too
    assert sums(tiny_job(graph, granularity="layer"))["c.w"] == LayerSum("c.sum", [])


def error_behind_the_sum(job):
    """Of the quantized network at ``c.relu``, over its variance."""
    done = LayerWalk(job.network, job.state)
    done.run(job.modules)
    graph = job.network.graph
    end = next(k for k, op in enumerate(graph.ops) if "c.relu" in op.output_names) + 1
    runner = UnitRunner(graph, graph.ops[:end], job.network.scheme, job.network.constants)
    feed = {n: v[:] for n, v in job.network.samples.items()}
    wanted = runner.numpy(runner.run, ["c.relu"])(feed)["c.relu"]
    found = runner.numpy(runner.run_quantized, ["c.relu"], weights=done.state.parameters(runner),
                         quantizers=done.state.quantizers(runner.activations))(feed)["c.relu"]
    return float(np.square(found - wanted).mean() / wanted.var())


def test_a_layer_makes_up_for_the_error_of_its_shortcut(monkeypatch):
    def job():
        return tiny_job(granularity="layer", weight_bits=8, activation_bits=8,
                        first_layer_weight_bits=2)  # its rounding is the error of the shortcut
    with_shortcut = error_behind_the_sum(job())
    monkeypatch.setattr(solved_rounding, "layer_sum",
                        lambda op, *rest: LayerSum(op.output("Output") or op.output("Out"), []))
    assert with_shortcut < 0.9 * error_behind_the_sum(job())
