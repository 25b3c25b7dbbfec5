# SPDX-License-Identifier: Apache-2.0
"""quant_post_static and quant_recon_static: our job behind a switch,
PaddleSlim's otherwise, to the bit.
"""
import os

import numpy as np
import pytest

import paddle
from paddle_mrecg.compat import old_ir
from paddle_mrecg.errors import ConfigError, DataError
from paddle_mrecg.deploy.predictor import Predictor
from paddleslim.quant import quant_post_static, quant_recon_static  # noqa: F401
from tests.slim_nets import FAST, SHAPE, images, program


def read(folder, *names):
    return [open(os.path.join(str(folder), name), "rb").read() for name in names]


PROGRAM = ("model.pdmodel", "model.pdiparams")
READERS = {
    "batch_generator": lambda: dict(batch_generator=lambda: iter([[b] for b in np.split(images(),
                                                                                        2)])),
    "sample_generator": lambda: dict(sample_generator=lambda: ([x] for x in images()),
                                     batch_size=8),
    "samples with a batch dimension": lambda: dict(sample_generator=lambda: (x[None]
                                                                             for x in images()),
                                                   batch_size=1),
    "data_loader": lambda: dict(data_loader=[{"x": b} for b in np.split(images(), 2)]),
    "paddle.io": lambda: dict(data_loader=paddle.io.DataLoader([(x,) for x in images()],
                                                               batch_size=8)),
}


@pytest.fixture(scope="module")
def reference(float_dir, tmp_path_factory):
    """Bytes of the same job under our own name."""
    import paddle_mrecg
    folder = str(tmp_path_factory.mktemp("ours") / "q")
    mrecg = dict(preset="fast", num_iters=10, batch_size=8)
    paddle_mrecg.quant_post_mrecg(float_dir, [images()],
                                  {"Global": {"visualdl": False}, "QuantPost": {"weight_bits": 3},
                                   "MRECG": mrecg}, folder)
    return read(folder, *PROGRAM)


@pytest.mark.parametrize("reader", READERS)
def test_every_documented_reader_gives_the_same_program(reader, reference, float_dir, tmp_path,
                                                        registered, static_mode):
    result = quant_post_static(static_mode, float_dir, str(tmp_path / "q"), round_type="mrecg",
                               weight_bits=3,
                               **READERS[reader](), **FAST)
    assert read(tmp_path / "q", *PROGRAM) == reference
    assert not paddle.in_dynamic_mode(), "the user's static mode is back"
    assert sorted(w["bits"] for w in result.report.weights.values()) == [3, 8, 8]


def test_recon_level_is_the_same_job(reference, float_dir, tmp_path, registered):
    quant_recon_static(None, float_dir, str(tmp_path / "q"), recon_level="mrecg", weight_bits=3,
                       data_loader=[images()], **FAST)
    assert read(tmp_path / "q", *PROGRAM) == reference


def test_files_are_where_paddleslim_puts_them(float_dir, tmp_path, registered, static_mode):
    quant_post_static(static_mode, float_dir, str(tmp_path), model_filename="model.pdmodel",
                      params_filename="model.pdiparams",
                      save_model_filename="small.pdmodel", save_params_filename="small.pdiparams",
                      data_loader=[images()],
                      round_type="mrecg", preset="none", visualdl=False)
    assert sorted(os.listdir(tmp_path)) == ["small.mrecg", "small.pdiparams", "small.pdmodel"]
    assert "report.json" in os.listdir(tmp_path / "small.mrecg")
    x = images(4)
    with old_ir():
        program, feeds, fetches = paddle.static.load_inference_model(
            str(tmp_path), static_mode, model_filename="small.pdmodel",
            params_filename="small.pdiparams")
        out, = static_mode.run(program, feed={feeds[0]: x}, fetch_list=fetches)
    np.testing.assert_allclose(out, Predictor(str(tmp_path / "small"))(x)[0], atol=1e-6)


def test_batch_nums_limits_what_is_read(float_dir, tmp_path, registered):
    asked = []

    def batches():
        for batch in np.split(images(), 4):
            asked.append(len(batch))
            yield [batch]

    quant_post_static(None, float_dir, str(tmp_path / "q"), round_type="mrecg",
                      batch_generator=batches, batch_nums=2,
                      preset="none", visualdl=False)
    assert asked == [4, 4]


def test_skip_tensor_list_skips_the_op_that_reads_the_tensor(float_dir, tmp_path, registered):
    from paddle_mrecg import load_graph
    graph = load_graph(float_dir)
    conv = [op for op in graph.ops if op.type == "conv2d"][1]
    skipped = conv.input("Filter")
    result = quant_post_static(None, float_dir, str(tmp_path / "q"), round_type="mrecg",
                               data_loader=[images()],
                               skip_tensor_list=[conv.input("Input")], preset="none",
                               visualdl=False)
    assert len(result.report.weights) == 2 and skipped not in result.report.weights
    with pytest.raises(ConfigError, match="no op reads nothing_here"):
        quant_post_static(None, float_dir, str(tmp_path / "q"), round_type="mrecg",
                          data_loader=[images()],
                          skip_tensor_list=["nothing_here"])


@pytest.mark.parametrize("given, message", [
    (dict(num_itres=3), "num_itres: unknown key. Did you mean 'num_iters'?"),
    (dict(algo="avg"), "algo: must be one of KL, hist, mse, abs_max, min_max; got 'avg'"),
    (dict(bias_correction="no"), "bias_correction: must be true or false, got 'no'"),
    (dict(onnx_format=False), "leave it out"),
    (dict(activation_bits=4), "set Global.target: simulation"),
    (dict(weight_bits=1), "must be between 2 and 8, got 1"),
    (dict(keep_prob=2), "MRECG.keep_prob: must be between 0.0 and 1.0, got 2"),
])
def test_what_cannot_be_done_is_one_clear_error(given, message, float_dir, tmp_path, registered):
    with pytest.raises(ConfigError) as caught:
        quant_post_static(None, float_dir, str(tmp_path / "q"), round_type="mrecg",
                          data_loader=[images()], **given)
    assert message in str(caught.value)
    assert not os.path.exists(tmp_path / "q" / "model.pdmodel")


@pytest.mark.parametrize("function, wrong, right", [
    ("quant_recon_static", "round_type", "recon_level"),
    ("quant_post_static", "recon_level", "round_type")])
def test_the_switch_of_the_other_function_names_the_right_one(function, wrong, right, registered):
    with pytest.raises(ConfigError, match=f"has no {wrong}: its switch is {right}='mrecg'"):
        globals()[function](None, "somewhere", "elsewhere", data_loader=[images()],
                            **{wrong: "mrecg"})


def test_all_mistakes_come_at_once(float_dir, tmp_path, registered):
    with pytest.raises(ConfigError) as caught:
        quant_recon_static(None, float_dir, str(tmp_path / "q"), recon_level="mrecg",
                           data_loader=[images()], epochs=20,
                           regions=[["a", "b"]], presett="fast")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("readers", [{}, dict(data_loader=[1], batch_generator=lambda: [1])])
def test_exactly_one_reader(readers, float_dir, tmp_path, registered):
    with pytest.raises(DataError, match="pass exactly one of data_loader"):
        quant_post_static(None, float_dir, str(tmp_path / "q"), round_type="mrecg", **readers)


def test_a_missing_argument_is_named(registered):
    with pytest.raises(ConfigError, match="quantize_model_path"):
        quant_post_static(None, "somewhere", round_type="mrecg")


@pytest.mark.host
def test_other_calls_are_bit_identical(float_dir, tmp_path, static_mode):
    import paddle_mrecg

    def run(folder):
        with old_ir(), paddle.utils.unique_name.guard(), \
                paddle.static.scope_guard(paddle.static.Scope()):
            paddle.seed(0)
            with paddle.static.program_guard(paddle.static.Program()):
                x = paddle.static.data("x", [-1, *SHAPE])
            loader = paddle.io.DataLoader([(x,) for x in images()], feed_list=[x], batch_size=8,
                                          return_list=False)
            quant_post_static(static_mode, float_dir, str(folder), data_loader=loader,
                              algo="abs_max",
                              model_filename="model.pdmodel", params_filename="model.pdiparams")
        return program(folder / "model")

    without = run(tmp_path / "without")
    paddle_mrecg.register()
    try:
        assert run(tmp_path / "with") == without
    finally:
        paddle_mrecg.unregister()
