# SPDX-License-Identifier: Apache-2.0
"""Before training: what comes first and last, what stays float, and whether it can be exported."""
import numpy as np
import paddle
import pytest
from paddle import nn

from paddle_mrecg.aware.job import export_quantized, quant_aware_prepare
from paddle_mrecg.aware.layers import quantized_layers
from paddle_mrecg.errors import ConfigError
from paddle_mrecg.report.progress import get_logger

X = paddle.to_tensor(np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype("float32"))
SPEC = [paddle.static.InputSpec([None, 3, 8, 8], "float32", "x")]
W3 = {"weight_bits": 3, "penalty_mode": "injection"}


@pytest.fixture
def lines(caplog):
    """What our logger says."""
    logger = get_logger()
    logger.addHandler(caplog.handler)
    yield lambda: [r.getMessage() for r in caplog.records]
    logger.removeHandler(caplog.handler)


class Heads(nn.Layer):
    """Registered backwards; two heads, one for training only, 1-D and shared layers among them."""

    def __init__(self):
        super().__init__()
        self.boxes, self.scores = nn.Conv2D(8, 4, 1), nn.Linear(8, 2)
        self.thresh = nn.Conv2D(8, 1, 1)
        self.middle, self.line = nn.Conv2D(8, 8, 3, padding=1), nn.Conv1D(8, 8, 3, padding=1)
        self.stem = nn.Conv2D(3, 8, 3, padding=1)

    def forward(self, x):
        y = self.middle(self.middle(self.stem(x)))
        scores = self.scores(self.line(y.flatten(2)).mean(2))
        extra = (self.thresh(y),) if self.training else ()
        return (self.boxes(y), scores, *extra)


def bits(model):
    return {name: layer.weight_quanter.bits for name, layer in quantized_layers(model)}


def test_first_and_last_layers_follow_the_data(lines, tmp_path):
    model, _ = quant_aware_prepare(Heads(), {"QuantAware": W3}, [X])
    assert bits(model) == dict(stem=8, middle=3, line=3, boxes=8, scores=8, thresh=3)
    text = "\n".join(lines())
    assert "first layers: stem (8 bits)" in text
    assert "last layers: boxes (8 bits), scores (8 bits)" in text or \
        "last layers: scores (8 bits), boxes (8 bits)" in text
    assert "evaluation does not run and export leaves out: thresh" in text
    model.train()
    model(X)
    exported = export_quantized(model, str(tmp_path / "out"), SPEC)
    assert exported.dropped == ["thresh"]
    assert exported.verification["max_abs_diff"] < 1e-4


class Taught(nn.Layer):
    def __init__(self):
        super().__init__()
        self.teacher, self.student = (nn.Sequential(nn.Conv2D(3, 8, 3), nn.ReLU(),
                                                    nn.Conv2D(8, 4, 3)) for _ in range(2))
        for parameter in self.teacher.parameters():
            parameter.stop_gradient = True

    def forward(self, x):
        return self.student(x), self.teacher(x)


def test_a_teacher_stays_float_unless_it_is_asked_for(lines):
    model, _ = quant_aware_prepare(Taught(), {}, [X])
    assert set(bits(model)) == {"student.0", "student.2"}
    assert any("do not train" in line and "teacher.0, teacher.2" in line for line in lines())
    model, _ = quant_aware_prepare(Taught(), {"QuantAware": {"quantize_frozen": True}}, [X])
    assert len(bits(model)) == 4
    alone = Taught().teacher  # to be evaluated or exported, not trained
    model, _ = quant_aware_prepare(alone, {}, [X])
    assert len(bits(model)) == 2


@pytest.mark.parametrize("trained, here, said", [
    ([], ["middle"], "layer 'middle' was quantized when the checkpoint was trained and is float"),
    (["middle"], [], "layer 'middle' was float when the checkpoint was trained and is quantized")])
def test_skip_patterns_travel_with_the_checkpoint(trained, here, said, tmp_path):
    source, _ = quant_aware_prepare(Heads(), {"QuantAware": {**W3, "skip": trained}}, [X])
    model, _ = quant_aware_prepare(Heads(), {"QuantAware": {**W3, "skip": here}}, [X])
    model.set_state_dict(source.state_dict())
    for use in (model, lambda x: export_quantized(model, str(tmp_path / "out"), SPEC)):
        with pytest.raises(ConfigError, match=said):
            use(X)
    assert not (tmp_path / "out").exists()


class InPlace(nn.Layer):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2D(3, 8, 3, padding=1), nn.Conv2D(8, 8, 3, padding=1)

    def forward(self, x):
        y = self.a(x)
        z = self.b(y)
        z.add_(y)
        return z


class InPlaceAndUsed(InPlace):
    def forward(self, x):
        y = self.a(x)
        z = self.b(y)
        z = z.add_(y)
        return z


@pytest.mark.parametrize("make", [InPlace, InPlaceAndUsed])
def test_operations_in_place_that_the_exporter_loses_are_said_before_training(lines, make):
    quant_aware_prepare(make(), {"QuantAware": W3}, [X])
    said = [line for line in lines() if "write x = x.add_(y) for x.add_(y)" in line]
    assert bool(said) == (make is InPlace)


def test_a_layer_that_was_replaced_stays_float_and_is_named(lines, tmp_path):
    model, _ = quant_aware_prepare(Heads(), {"QuantAware": W3}, [X])
    model.scores = nn.Linear(8, 7)
    assert export_quantized(model, str(tmp_path / "out"), SPEC, [X]).agrees
    assert any("scores: replaced by others since quant_aware_prepare" in line for line in lines())


def test_a_model_that_cannot_be_exported_is_told_before_it_trains(lines):
    class Eager(nn.Layer):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2D(3, 8, 3), nn.Conv2D(8, 4, 3)

        def forward(self, x):
            if not paddle.in_dynamic_mode():
                raise RuntimeError("only in dygraph")
            return self.b(self.a(x))
    model, _ = quant_aware_prepare(Eager(), {"QuantAware": W3}, [X])
    assert any("can be trained and not be exported as it is" in line for line in lines())
    assert bits(model) == dict(a=8, b=8)


def test_models_with_named_inputs_are_traced():
    class Named(nn.Layer):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Conv2D(8, 4, 1), nn.Conv2D(3, 8, 3)
            self.other = nn.Conv2D(8, 4, 1)

        def forward(self, data):
            y = self.first(data["image"])
            return self.last(y), self.other(y)
    model, _ = quant_aware_prepare(Named(), {"QuantAware": W3}, lambda m: m({"image": X}))
    assert bits(model) == dict(first=8, last=8, other=8)


class Detector(nn.Layer):
    """A head for training only is built last, and the last one that runs before it."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2D(3, 8, 3)
        self.found, self.margin = nn.Conv2D(8, 1, 3), nn.Conv2D(8, 1, 3)

    def forward(self, x):
        y = nn.functional.relu(self.body(x))
        return paddle.concat([self.found(y), self.margin(y)], 1) if self.training else self.found(y)


def test_without_data_the_last_layer_is_the_one_that_evaluation_runs_last():
    model, _ = quant_aware_prepare(Detector(), {"QuantAware": {"weight_bits": 4}})
    bits = {name: layer.weight_quanter.bits for name, layer in quantized_layers(model)}
    assert bits == {"body": 8, "found": 8, "margin": 4}
    assert not any(q.initialized for _, layer in quantized_layers(model)
                   for q in layer.quanters())


class Keeping(Detector):
    """Keeps its inputs, as PaddleDetection's networks do: a tensor would become a buffer. Sizes are
    among them, which it does not read. Its head is built for one size.
    """

    eval_size = [10, 12]

    def forward(self, x):
        self.inputs = x
        assert x["image"].shape[2:] == self.eval_size
        y = nn.functional.relu(self.body(self.inputs["image"]))
        return paddle.concat([self.found(y), self.margin(y)], 1) if self.training else self.found(y)


def test_a_look_without_data_leaves_no_trace():
    model, _ = quant_aware_prepare(Keeping(), {"QuantAware": {"weight_bits": 4}})
    assert {name: layer.weight_quanter.bits for name, layer in quantized_layers(model)} \
        == {"body": 8, "found": 8, "margin": 4}
    assert not hasattr(model, "inputs")
    model({"image": paddle.zeros([1, 3, 10, 12])})  # a TypeError where a tensor was kept before


def test_a_network_for_other_inputs_goes_by_the_order_in_which_it_was_built():
    model, _ = quant_aware_prepare(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4),
                                                 nn.Linear(4, 2)))
    assert [layer.weight_quanter.bits for _, layer in quantized_layers(model)] == [8, 4, 8]


EIGHT = dict(activation_bits=8, last_layer_activation_bits=8)


@pytest.mark.parametrize("between, given, warned", [
    (nn.Hardswish, {}, True), (nn.Hardswish, dict(activation_quanter="lsq_plus"), False),
    (nn.Hardswish, EIGHT, False), (nn.ReLU, {}, False), (nn.Identity, {}, False)])
def test_half_used_grids_are_warned_of(lines, between, given, warned):
    model = nn.Sequential(nn.Conv2D(3, 8, 3), between(), nn.Conv2D(8, 8, 3), between(),
                          nn.Conv2D(8, 4, 1))
    with paddle.no_grad():
        model[0].weight.set_value(5.0 * model[0].weight)
        model[2].weight.set_value(5.0 * model[2].weight)
    settings = dict(dict(target="simulation", activation_bits=4, last_layer_activation_bits=4),
                    **given)
    quant_aware_prepare(model, {"QuantAware": settings}, [X, -X])
    said = [line for line in lines() if "lsq_plus learns where its grid starts" in line]
    assert len(said) == warned and all("inputs of 2, 4 go far above 0" in line for line in said)
