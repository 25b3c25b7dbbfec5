# SPDX-License-Identifier: Apache-2.0
"""Loops and branches: carried from file to file, and everything in front of them is as before."""
import numpy as np
import pytest

import paddle
from paddle_mrecg.deploy.lite.ops import missing_ops
from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.errors import ConfigError, ModelError
from paddle_mrecg.graph.carried import CARRIED, all_ops, blocks_of, in_place, op_types
from paddle_mrecg.graph.execute import GraphExecutor
from paddle_mrecg.graph.float_weights import float_weights
from paddle_mrecg.graph.fold import fold
from paddle_mrecg.graph.graph import Graph, weight_name
from paddle_mrecg.graph.load import load_graph
from paddle_mrecg.graph.probe import probe
from paddle_mrecg.graph.writer import save_program
from tests.control_flow_nets import NETS, SHAPE, SPEC, Inside, Loop, Nested


@pytest.fixture
def exported(tmp_path):
    """Export a network as this Paddle does (2: ProgramDesc, 3: PIR); returns the graph read."""
    def export(name):
        paddle.seed(1)
        layer = NETS[name]()
        layer.eval()
        paddle.jit.save(layer, str(tmp_path / name), input_spec=SPEC)
        return load_graph(str(tmp_path / name))
    return export


def samples(seed, count=2):
    return np.random.RandomState(seed).randn(count, *SHAPE).astype("float32")


@pytest.mark.parametrize("name", NETS)
def test_the_written_program_computes_what_the_exported_one_does(name, exported, tmp_path):
    graph = exported(name)
    assert [op.type for op in graph.ops].count(CARRIED) == 1
    save_program(graph, str(tmp_path / "once"))
    again = load_graph(str(tmp_path / "once"))
    assert (again.inputs, again.outputs) == (graph.inputs, graph.outputs)
    assert sorted(op.type for op in all_ops(again.ops)) == sorted(
        op.type for op in all_ops(graph.ops))  # no copies of copies
    save_program(fold(again), str(tmp_path / "twice"))
    runs = [Predictor(files, optimize=False)
            for files in (graph.files, str(tmp_path / "once"), str(tmp_path / "twice"))]
    runs.append(Predictor(str(tmp_path / "twice")))
    seen = set()
    for seed in (0, 1, 2, 0):  # nothing is left from one run to the next
        want, *others = [run({"x": samples(seed)}) for run in runs]
        seen.add(want[0].tobytes())
        for got in others:
            assert len(got) == len(want)
            for a, b in zip(got, want):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert len(seen) == 3


def test_both_sides_of_the_branch_were_taken(exported):
    run = Predictor(exported("Branch").files, optimize=False)
    sides = {bool((run({"x": samples(seed)})[0] > 50).all()) for seed in (0, 1, 2)}
    assert sides == {True, False}


@pytest.mark.parametrize("name", NETS)
def test_the_executor_runs_it_for_any_number_of_samples(name, exported):
    graph = fold(exported(name))
    found = probe(graph, {"x": samples(0, 3)})
    assert not found.unreached
    assert [op.type for op in found.forward_only] == [CARRIED]
    for count in (1, 3, 2):
        want = Predictor(graph.files, optimize=False)({"x": samples(4, count)})
        got = GraphExecutor(graph, graph.outputs).run({"x": samples(4, count)})
        np.testing.assert_allclose(got[0], want[0], rtol=1e-4, atol=1e-5)


def test_weights_inside_stay_float_and_are_named(exported):
    graph = fold(exported("Loop"))
    layers = [weight_name(op, graph) for op in graph.ops if weight_name(op, graph)]
    reasons = float_weights(graph, quantized=layers)
    assert len(layers) == 1 and len(reasons) == 1 and not reasons.keys() & set(layers)
    assert "control flow that depends on data" in next(iter(reasons.values()))


def test_a_network_that_is_all_branch_has_nothing_to_quantize(tmp_path):
    import paddle_mrecg
    paddle.jit.save(Inside(), str(tmp_path / "net"), input_spec=SPEC)
    config = {"MRECG": {"batch_size": 2}}
    with pytest.raises(ModelError, match="every layer of the model runs inside of a loop"):
        paddle_mrecg.quant_post_mrecg(str(tmp_path), [samples(0)], config, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_targets_see_the_ops_inside(exported):
    types = op_types(exported("Arrays").ops)
    assert {"while", "write_to_array", "conv2d"} <= types and CARRIED not in types
    graph = exported("Loop")
    assert missing_ops(graph, "arm") == []
    strange = next(op for op in graph.ops if op.type == CARRIED).attrs["region"]
    inner = next(op for op in strange.ops if blocks_of(op))
    blocks_of(inner)[0].ops[0].type = "warp_drive"
    assert missing_ops(graph, "arm") == ["warp_drive"]


def test_names_inside_give_way_to_those_around(exported):
    graph = exported("Loop")
    op = next(op for op in graph.ops if op.type == CARRIED)
    private = set(op.attrs["region"].tensors)
    taken = set(graph.tensors) | private
    region = in_place(op, set(taken))
    assert private and not set(region.tensors) & taken
    written = {n for each in region.ops for n in each.output_names}
    assert set(op.output_names) <= written


def test_a_copy_of_the_graph_leaves_the_region_alone(exported):
    graph: Graph = exported("Loop")
    copied = graph.copy()
    before = repr(graph.ops[-1].attrs["region"])
    fold(copied)
    assert repr(graph.ops[-1].attrs["region"]) == before


def test_a_layer_that_trains_inside_of_a_loop_is_refused_before_training():
    import paddle_mrecg
    batches = [paddle.to_tensor(samples(seed)) for seed in (0, 1)]
    with pytest.raises(ConfigError, match=r"QuantAware.skip: \[fc\]"):
        paddle_mrecg.quant_aware_prepare(Loop(), {"QuantAware": {}}, calibration=batches)


def test_a_network_with_a_loop_behind_its_layers_trains_and_exports(tmp_path):
    import paddle_mrecg
    batches = [paddle.to_tensor(samples(seed)) for seed in (0, 1)]
    model, _ = paddle_mrecg.quant_aware_prepare(Nested(), {"QuantAware": {"skip": ["fc"]}},
                                                calibration=batches)
    model.eval()
    want = model(batches[0]).numpy()
    paddle_mrecg.export_quantized(model, str(tmp_path / "q"), SPEC)
    got, = Predictor(str(tmp_path / "q" / "model"))({"x": samples(0)})
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
