# SPDX-License-Identifier: Apache-2.0
"""The effect of each layer on the output, against programs that Paddle runs as a whole."""
import numpy as np
import pytest

import paddle_mrecg
from paddle_mrecg.analysis.causes import ranking, worst_layers
from paddle_mrecg.analysis.isolated import isolated_rounding
from paddle_mrecg.analysis.job import only_layers, prepare_to_measure, ranking_samples
from paddle_mrecg.analysis.rerun import Rerunner
from paddle_mrecg.analysis.sensitivity import (LayerEffect, Sensitivity, measured_outputs,
                                               without_layer)
from paddle_mrecg.config.io import load_config
from paddle_mrecg.errors import ConfigError, DataError
from paddle_mrecg.post.program import qdq_graph
from paddle_mrecg.post.scheme import Scheme
from paddle_mrecg.post.unit_runner import UnitRunner
from tests.executor import executor_outputs
from tests.jobs import batches, model_dir, settings  # noqa: F401
from tests.tiny import tiny_graph, tiny_samples

TARGETS = {"paddle_lite": dict(weight_bits=3), "simulation": dict(weight_bits=3, activation_bits=3)}


@pytest.fixture(scope="module", params=sorted(TARGETS))
def measured(request):
    """A prepared job, each layer's rounding, and the measured effects."""
    config = load_config(dict(Global=dict(target=request.param),
                              QuantPost=TARGETS[request.param]))
    prepared, samples = prepare_to_measure(tiny_graph(), tiny_samples(28), config, 12)
    alone = isolated_rounding(prepared)
    sensitivity = Sensitivity(prepared.network, alone, samples)
    sensitivity.measure()
    return prepared, alone, samples, sensitivity


def output(prepared, scheme, state, samples):
    """The logits of a whole program."""
    graph = (qdq_graph(prepared.graph, scheme, state) if state is not None
             else prepared.float_graph)
    return executor_outputs(graph, samples, ["fc"])[0]


def error(values, target):
    return np.square(values - target).sum() / np.square(target - target.mean()).sum()


def test_alone_quantized_is_a_program_with_one_layer_quantized(measured):
    prepared, alone, samples, sensitivity = measured
    target = output(prepared, None, None, samples)
    for effect in sensitivity.layers:
        values = output(prepared, *only_layers(prepared, alone, [effect]), samples)
        assert effect.on["both"] == pytest.approx(error(values, target), rel=1e-3), effect.weight
    assert len({round(e.on["both"], 9) for e in sensitivity.layers}) == 5


def test_alone_float_is_a_program_without_that_layer(measured):
    prepared, alone, samples, sensitivity = measured
    target = output(prepared, None, None, samples)
    for effect in sensitivity.layers:
        scheme = without_layer(prepared.network.scheme, effect, sensitivity.layers)
        state = alone.copy()
        del state.weight_encodings[effect.weight], state.codes[effect.weight]
        state.biases.pop(prepared.network.biases[effect.weight])
        values = output(prepared, scheme, state, samples)
        assert effect.off["both"] == pytest.approx(error(values, target), rel=1e-3), effect.weight
    assert sensitivity.whole == pytest.approx(
        error(output(prepared, prepared.network.scheme, alone, samples), target), rel=1e-3)


def test_weights_alone_is_a_program_with_float_activations(measured):
    prepared, alone, samples, sensitivity = measured
    target = output(prepared, None, None, samples)
    effect = sensitivity.layers[2]
    scheme, state = only_layers(prepared, alone, [effect])
    values = output(prepared, Scheme(scheme.weights, {}, False), state, samples)
    assert effect.on["weights"] == pytest.approx(error(values, target), rel=1e-3)
    assert effect.on["activations"] > 0 and effect.off["activations"] != sensitivity.whole


def test_only_what_a_change_reaches_runs_again(measured):
    prepared, _, samples, sensitivity = measured
    float_ops = sensitivity._float
    last = sensitivity.layers[-1]
    change = sensitivity._on[last.weight]["weights"]
    assert [op.type for op in float_ops.reached(change.view, change.params)] == ["matmul_v2",
                                                                                "elementwise_add"]
    first = sensitivity._on[sensitivity.layers[0].weight]["both"]
    assert len(float_ops.reached(first.view, first.params)) >= len(float_ops.view)


def test_the_time_is_said_before_it_is_spent(measured):
    prepared, alone, samples, _ = measured
    again = Sensitivity(prepared.network, alone, samples)
    assert 0 < again.seconds() < 60
    half = Sensitivity(prepared.network, alone, {n: v[:6] for n, v in samples.items()})
    assert half.chunk == again.chunk == 8


def test_a_softmax_is_compared_in_front_of_it(measured):
    prepared = measured[0]
    runner = UnitRunner(prepared.graph, prepared.graph.ops, prepared.network.scheme, {})
    assert measured_outputs(runner, prepared.graph) == ["fc"]


def test_a_run_may_not_disturb_the_next(measured):
    _, _, samples, sensitivity = measured
    feed = {n: v[:8] for n, v in samples.items()}
    rerunner: Rerunner = sensitivity._float
    before = rerunner.run(feed)["fc"].numpy()
    for changes in sensitivity._on.values():
        for change in changes.values():
            assert not np.array_equal(rerunner.changed(change.view, change.params)["fc"].numpy(),
                                      before)
    assert np.array_equal(rerunner.changed(rerunner.view, {})["fc"].numpy(), before)


def test_few_samples_serve_both_purposes_and_many_are_kept_apart():
    config = load_config()
    prepared, kept = prepare_to_measure(tiny_graph(), tiny_samples(20), config, 4)
    assert len(kept["image"]) == 4 and len(prepared.network.samples["image"]) == 16
    assert not (kept["image"][:, None] == prepared.network.samples["image"]).all((2, 3, 4)).any()
    prepared, kept = prepare_to_measure(tiny_graph(), tiny_samples(5), config, 4)
    assert len(kept["image"]) == 4 and len(prepared.network.samples["image"]) == 5
    assert len(prepare_to_measure(tiny_graph(), tiny_samples(20), config)[1]["image"]) == 8


@pytest.mark.parametrize("size, count", [(32, 8), (224, 8), (416, 4), (640, 2), (1280, 2)])
def test_large_images_are_ranked_on_fewer(size, count):
    image = np.broadcast_to(np.float32(0), (40, 3, size, size))
    assert ranking_samples({"image": image}) == count
    scaled = {"image": image, "scale": np.ones((40, 2), np.float32)}
    assert ranking_samples(scaled) == count


def test_worst_are_the_fewest_that_make_up_the_share():
    effects = [LayerEffect(n, "x", [], "conv2d", 4, 8, 1, on={"both": v})
               for n, v in (("a", 1.0), ("b", 6.0), ("c", 3.0), ("d", 0.0))]
    assert [e.weight for e in ranking(effects)] == ["b", "c", "a", "d"]
    assert [e.weight for e in worst_layers(effects, 0.5)] == ["b"]
    assert [e.weight for e in worst_layers(effects, 0.8)] == ["b", "c"]
    assert worst_layers(effects[3:]) == []


def test_analyze_ranks_scores_and_writes(model_dir, tmp_path):  # noqa: F811
    images = tiny_samples(48)["image"]

    def evaluator(predict):
        return {"spread": float(np.std(predict([images[:16]])[0]))}
    found = paddle_mrecg.analyze(model_dir, batches(), settings(), str(tmp_path / "out"),
                                 evaluator, samples=8)
    assert found.samples == 8 and len(found.layers) == 5 and 0 < found.whole < 1
    assert all(set(e.metric) == {"spread"} for e in found.layers)
    assert len({e.metric["spread"] for e in found.layers}) == 5  # each layer its own program
    assert (sorted(p.name for p in (tmp_path / "out").iterdir())
            == ["report.html", "resolved_config.yaml", "sensitivity.csv", "sensitivity.json",
                "sensitivity.png", "suggested.yaml"])
    written = load_config(str(tmp_path / "out" / "resolved_config.yaml"))
    assert written.quant_post.weight_bits == settings()["QuantPost"]["weight_bits"]
    rows = (tmp_path / "out" / "sensitivity.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("rank,layer,op,weight_bits") and "spread" in rows[0]
    assert [r.split(",")[1] for r in rows[1:]] == [e.weight for e in found.ranked()]
    pasted = load_config(str(tmp_path / "out" / "suggested.yaml"))  # it is a config
    named = [o.pattern for o in pasted.quant_post.overrides] + pasted.quant_post.skip
    assert named and named == [e.weight for e in found.suggested()]
    assert all(o.weight_bits == 8 for o in pasted.quant_post.overrides)
    assert {e.suggestion for e in found.suggested()} == {"weight_bits: 8"}  # as advised in words
    assert not pasted.quant_post.skip  # at 3 bits it is the weights that hurt


def test_what_to_paste_makes_the_output_better(model_dir, tmp_path):  # noqa: F811
    base = settings(dict(QuantPost=dict(weight_bits=2, last_layer_weight_bits=2)))
    before = paddle_mrecg.analyze(model_dir, batches(), base, str(tmp_path))
    config = load_config(str(tmp_path / "suggested.yaml"))
    base["QuantPost"]["skip"] = config.quant_post.skip
    base["QuantPost"]["overrides"] = [dict(pattern=o.pattern, weight_bits=o.weight_bits)
                                      for o in config.quant_post.overrides]
    after = paddle_mrecg.analyze(model_dir, batches(), base)
    assert after.whole < 0.7 * before.whole


@pytest.mark.parametrize("samples, cure", [(0, "at least 2"), (-3, "at least 2")])
def test_no_samples_is_an_error(model_dir, samples, cure):  # noqa: F811
    with pytest.raises(ConfigError, match=cure):
        paddle_mrecg.analyze(model_dir, batches(), settings(), samples=samples)


def test_an_evaluator_without_scores_is_an_error(model_dir):  # noqa: F811
    with pytest.raises(DataError, match="must return a mapping"):
        paddle_mrecg.analyze(model_dir, batches(), settings(), evaluator=lambda predict: 3.0)


def test_each_layer_is_rounded_as_if_the_others_were_float():
    def of(bits):
        config = load_config(dict(QuantPost=dict(weight_bits=3, first_layer_weight_bits=bits)))
        prepared, _ = prepare_to_measure(tiny_graph(), tiny_samples(28), config, 12)
        return isolated_rounding(prepared)
    coarse, fine = of(2), of(8)
    assert not np.array_equal(coarse.codes["a.w"], fine.codes["a.w"])
    for name in ("b.w", "c.w", "d.w", "fc.w"):
        assert np.array_equal(coarse.codes[name], fine.codes[name]), name
    changed = {n for n in fine.biases if not np.array_equal(coarse.biases[n], fine.biases[n])}
    assert changed == {"a.b"}
