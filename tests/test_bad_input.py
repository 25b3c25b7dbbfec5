# SPDX-License-Identifier: Apache-2.0
"""Bad models, data, settings and places are refused in one sentence;
unsupported ops are lived with.
"""
import os

import numpy as np
import pytest

from paddle_mrecg.errors import ConfigError, DataError, ModelError, MrecgError, OutputError
from paddle_mrecg.deploy.predictor import Predictor
from paddle_mrecg.post.program import qdq_graph
from paddle_mrecg.graph.graph import Op, TensorInfo
from paddle_mrecg.graph.writer import save_program
from paddle_mrecg.post.job import quant_post_mrecg
from paddle_mrecg.post.walk import Walker
from paddle_mrecg.report.progress import get_logger

from .jobs import batches, model_dir, settings  # noqa: F401
from .tiny import tiny_graph, tiny_job, tiny_samples


def _refused(kind, match, folder, *args, **kwargs):
    with pytest.raises(kind, match=match) as caught:
        quant_post_mrecg(*args,
                         **dict(dict(config=settings(), save_dir=str(folder / "out")), **kwargs))
    assert isinstance(caught.value, MrecgError) and "\n" not in str(caught.value), "one sentence"
    assert sorted(os.listdir(folder)) == [], "nothing half-written"


def _nan():
    images = [b["image"].copy() for b in batches()]
    images[1][3, 0, 0, 0] = np.nan
    return images


@pytest.mark.parametrize("loader, match", [
    ([], "empty"), (batches()[:0], "empty"), (iter(()), "empty"), (_nan(), "NaN"),
    ([np.zeros((4, 3, 9, 8), np.float32)], "shape"),
    ([np.zeros((4, 8, 8, 3), np.float32)], "shape"),
    ([np.zeros((4, 3, 8, 8), np.uint8)], "uint8"),
    ([{"picture": np.zeros((4, 3, 8, 8), np.float32)}], "image"),
    (batches(16)[0]["image"][:4], "too few"), (None, "no data"), (3, "int"), ("images", "str")],
                         ids=str)
def test_bad_data_is_refused_in_one_sentence(loader, match, model_dir, tmp_path):
    _refused(DataError, match, tmp_path, model_dir, loader)


def test_bad_models_are_refused_in_one_sentence(model_dir, tmp_path_factory, tmp_path):
    _refused(ModelError, "nowhere", tmp_path, os.path.join(model_dir, "nowhere"), batches())
    _refused(ModelError, "model_dir", tmp_path, None, batches())
    _refused(ModelError, "int", tmp_path, 7, batches())
    for pair in ((), (7,), (None, None), ("model", "params")):
        _refused(ModelError, "a tuple is not a model", tmp_path, pair, batches())
    for suffix in (".pdmodel", ".pdiparams"):
        for share in (0.0, 0.5, 0.99):
            broken = tmp_path_factory.mktemp("broken")
            save_program(tiny_graph(), str(broken / "inference"))
            path = str(broken / "inference") + suffix
            with open(path, "rb") as file:
                whole = file.read()
            with open(path, "wb") as file:
                file.write(whole[:int(share * len(whole))])
            _refused(ModelError, "inference", tmp_path, str(broken), batches())


def test_a_quantized_model_is_not_a_float_model(tmp_path_factory, tmp_path):
    job, prefix = tiny_job(), str(tmp_path_factory.mktemp("quantized") / "model")
    save_program(qdq_graph(job.network.graph, job.network.scheme, job.state), prefix)
    _refused(ModelError, "already quantized", tmp_path, prefix, batches())


def test_weights_that_are_not_finite_are_refused(tmp_path):
    graph = tiny_graph()
    graph.params["c.w"][0, 0, 0, 0] = np.nan
    _refused(ModelError, "c.w", tmp_path, graph, batches())


def test_a_model_with_nothing_to_quantize_is_refused(tmp_path):
    graph = tiny_graph()
    graph.ops, graph.outputs = [op for op in graph.ops if op.type == "softmax"], ["probability"]
    graph.ops[0].inputs["X"] = ["image"]
    graph.params.clear()
    _refused(ModelError, "nothing to quantize", tmp_path, graph, batches())


def test_bad_settings_are_refused(model_dir, tmp_path):
    _refused(ConfigError, "activation_bits", tmp_path, model_dir, batches(),
             config=settings({"QuantPost": {"activation_bits": 4}}))
    _refused(ConfigError, "nothing.*", tmp_path, model_dir, batches(),
             config=settings({"QuantPost": {"skip": ["nothing.*"]}}))
    _refused(ConfigError, "units", tmp_path, model_dir, batches(),
             config=settings(granularity="explicit", units=[[0, 0], [2, 2]]))
    for last in (1, 9):  # the network has three modules
        _refused(ConfigError, "the last module is 2", tmp_path, model_dir, batches(),
                 config=settings(granularity="explicit", units=[[0, 0], [1, last]]))


def test_places_that_cannot_be_written_are_refused(model_dir, tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below", model_dir):
        with pytest.raises(OutputError):
            quant_post_mrecg(model_dir, batches(), settings(), str(place))
    assert os.listdir(tmp_path) == ["file"]
    assert sorted(os.listdir(model_dir)) == ["inference.pdiparams", "inference.pdmodel"]


def test_an_error_during_the_run_leaves_nothing(model_dir, tmp_path):
    def broken(predict):
        raise DataError("the evaluator is broken")
    with pytest.raises(DataError):
        quant_post_mrecg(model_dir, batches(), settings(), str(tmp_path / "out"), evaluator=broken)
    assert not os.path.exists(tmp_path / "out")


@pytest.mark.parametrize("scores", [None, [0.7], 0.7, {}, {"top1": "70 %"}, {"top1": np.nan}],
                         ids=str)
def test_an_evaluator_is_tried_before_the_first_step(scores, model_dir, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("a unit was trained before the evaluator was tried")
    monkeypatch.setattr(Walker, "step", never)
    _refused(DataError, "evaluator", tmp_path, model_dir, batches(), evaluator=lambda _: scores)


def test_an_exception_of_the_users_code_passes_through_and_is_named(model_dir, tmp_path, caplog,
                                                                    monkeypatch):
    monkeypatch.setattr(get_logger(), "propagate", True)

    def evaluator(predict):
        raise LookupError("mine")

    def loader():
        yield batches()[0]
        raise LookupError("mine")
    for arguments, name in ((dict(data_loader=batches(), evaluator=evaluator), "the evaluator"),
                            (dict(data_loader=loader()), "data_loader")):
        with pytest.raises(LookupError, match="mine"):
            quant_post_mrecg(model_dir, config=settings(), save_dir=str(tmp_path / "out"),
                             **arguments)
        assert f"{name} raised LookupError: this is your own code" in caplog.text
        assert not os.path.exists(tmp_path / "out")


def _with_unsupported(graph, behind):
    """Insert an op behind ``behind`` that Paddle Inference can run and dygraph cannot."""
    info = graph.tensors[behind]
    copy = graph.tensors["copied"] = TensorInfo("copied", info.shape)
    for op in graph.ops:
        for names in op.inputs.values():
            names[:] = [copy.name if n == behind else n for n in names]
    graph.outputs = [copy.name if n == behind else n for n in graph.outputs]
    place = next((k for k, op in enumerate(graph.ops) if behind in op.output_names), -1)
    graph.ops.insert(place + 1,
                     Op("lrn", {"X": [behind]}, {"Out": [copy.name], "MidOut": ["middle"]},
                        dict(n=3, k=1.0, alpha=1e-4, beta=0.75, data_format="NCHW")))
    graph.tensors["middle"] = TensorInfo("middle", info.shape)
    return graph


@pytest.mark.parametrize("behind", ["image", "c.relu", "d.relu"])
def test_an_op_that_only_the_executor_runs_may_stand_anywhere(behind, tmp_path):
    graph = tiny_graph()
    graph.outputs.append("d.relu")
    result = quant_post_mrecg(_with_unsupported(graph, behind), batches(), settings(),
                              str(tmp_path / "out"))
    assert set(result.report.weights) == {"a.w", "b.w", "c.w", "d.w", "fc.w"}
    assert not result.report.float_tensors
    checked = result.report.verification
    assert checked["outputs"] and checked["max_abs_diff"] <= 1e-5 * checked["max_abs_output"]
    assert np.isfinite(Predictor(result.prefix)(tiny_samples(4))[0]).all()
