# SPDX-License-Identifier: Apache-2.0
"""The simulation is the network that was quantized, and the cut program its layers,
each on simulated inputs.
"""
import numpy as np
import pytest

from paddle_mrecg.deploy.check.cut import CUT_SUFFIX, cut, cut_feed, cut_points, layers
from paddle_mrecg.deploy import simulate as simulation
from paddle_mrecg.deploy.simulate import simulate
from paddle_mrecg.post.unit_runner import UnitRunner
from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.post.program import qdq_graph
from paddle_mrecg.graph.graph import Op, TensorInfo
from paddle_mrecg.graph.writer import save_program

from tests.tiny import tiny_job, tiny_samples

FEED = {"image": tiny_samples()["image"][:4]}


@pytest.fixture(scope="module")
def job():
    return tiny_job(target="paddle_lite", weight_bits=4)


@pytest.fixture
def graph(job):
    return qdq_graph(job.network.graph, job.network.scheme, job.state)


def test_simulation_is_what_the_job_simulated(job, graph):
    network, state = job.network, job.state
    runner = UnitRunner(network.graph, network.reached, network.scheme, network.constants)
    expected = runner.numpy(runner.run_quantized, network.graph.outputs,
                            weights=state.weights(runner.weights),
                            quantizers=state.quantizers(runner.activations))(FEED)
    found = simulate(graph, FEED, graph.outputs)
    assert np.abs(found["probability"] - expected["probability"]).max() <= 1e-6


def test_simulation_of_low_bit_clips_too():
    job = tiny_job(target="paddle_lite", weight_bits=4, activation_bits=3)
    graph = qdq_graph(job.network.graph, job.network.scheme, job.state)
    values = simulate(graph, FEED,
                      [op.output("Y") for op in graph.ops if op.type == "dequantize_linear"])
    counts = {name: len(np.unique(v)) for name, v in values.items()
              if name.startswith(("a.relu", "b.relu"))}
    assert counts and max(counts.values()) <= 8


def test_what_is_not_asked_for_does_not_run(graph, monkeypatch):
    """A suppression of boxes behind the last layer takes longer than some networks."""
    ran, run = [], simulation.run_op
    monkeypatch.setattr(simulation, "run_op",
                        lambda op, values: ran.append(op.type) or run(op, values))
    assert set(simulate(graph, FEED, graph.outputs)) == {"probability"} and "softmax" in ran
    ran.clear()
    softmax = next(op for op in graph.ops if op.type == "softmax")
    assert set(simulate(graph, FEED, [softmax.input("X")])) == {softmax.input("X")}
    assert ran and "softmax" not in ran


def test_jitter_moves_values_off_rounding_boundaries_only(graph):
    points = cut_points(graph)
    plain, same, shaken = (simulate(graph, FEED, points, jitter) for jitter in (0.0, 0.0, 0.01))
    assert all(np.array_equal(plain[n], same[n]) for n in points)
    assert any(not np.array_equal(plain[n], shaken[n]) for n in points)


def test_cut_program_gives_the_simulated_values_everywhere(graph, tmp_path):
    points = cut_points(graph)
    values = simulate(graph, FEED, points)
    pieces = cut(graph, points)
    assert pieces.inputs[0] == "image" and all(n.endswith(CUT_SUFFIX) for n in pieces.inputs[1:])
    save_program(pieces, str(tmp_path / "cut"))
    outputs = dict(zip(pieces.outputs,
                       Predictor(str(tmp_path / "cut"))(cut_feed(pieces, FEED, values))))
    for name in points:
        assert (np.abs(outputs[name] - values[name]).max()
                <= 1e-5 * max(1.0, np.abs(values[name]).max()))
    assert graph.inputs == ["image"], "the program itself is not changed"


def test_a_wrong_layer_shows_in_its_own_output_alone(graph, tmp_path):
    """A weight is damaged: only the layer that reads it differs, though
    everything behind it depends on it.
    """
    points = cut_points(graph)
    values = simulate(graph, FEED, points)
    pieces = cut(graph, points)
    pieces.params["b.w"] = np.clip(pieces.params["b.w"].astype(int) * 2, -127, 127).astype(np.int8)
    found = simulate(pieces, cut_feed(pieces, FEED, values), pieces.outputs)
    wrong = [layer for layer in layers(pieces)
             if np.abs(found[layer.output] - values[layer.output]).max() > 1e-3]
    assert [layer.weights for layer in wrong] == [["b.w"]]


def test_layers_name_their_weights(graph):
    named = [layer.name for layer in layers(cut(graph, cut_points(graph)))]
    assert named[:2] == ["a.w", "b.w"] and named[-1] == "fc.w"


def test_outputs_behind_a_choice_are_replaced_by_what_it_reads(graph):
    graph.tensors["boxes"] = TensorInfo("boxes", (-1, 6))
    graph.ops.append(Op("multiclass_nms3", {"BBoxes": ["probability"], "Scores": ["probability"]},
                        {"Out": ["boxes"]}, {}))
    graph.outputs = ["boxes"]
    assert cut_points(graph)[-1] == "probability"
    assert "boxes" not in simulate(graph, FEED, ["boxes", "probability"])
