# SPDX-License-Identifier: Apache-2.0
"""Model files are found under every name Paddle has used, and never guessed."""
import shutil

import numpy as np
import pytest

import paddle
from paddle_mrecg.errors import ModelError
from paddle_mrecg.graph.fold import fold
from paddle_mrecg.graph.graph import TensorInfo
from paddle_mrecg.graph.load import load_graph
from paddle_mrecg.graph.params import read_combined, write_combined
from paddle_mrecg.graph.writer import save_program
from tests.executor import executor_outputs


@pytest.fixture
def model(small_graph, tmp_path):
    save_program(small_graph, str(tmp_path / "inference"))
    return tmp_path


def test_directory_prefix_and_file_are_the_same(model):
    graphs = [load_graph(str(path))
              for path in (model, model / "inference", model / "inference.pdmodel")]
    assert len({tuple(op.type for op in g.ops) for g in graphs}) == 1
    assert all(len(g.params) == len(graphs[0].params) for g in graphs)


def test_names_need_not_match(model):
    (model / "inference.pdmodel").rename(model / "a.bin")
    (model / "inference.pdiparams").rename(model / "b.bin")
    assert load_graph(str(model), "a.bin", "b.bin").ops


def test_legacy_directory_with_one_file_per_parameter(model, small_graph):
    (model / "inference.pdmodel").rename(model / "__model__")
    (model / "inference.pdiparams").unlink()
    for name, value in small_graph.params.items():
        with open(model / name, "wb") as file:
            write_combined(file, {name: value})
    assert load_graph(str(model)).params.keys() == small_graph.params.keys()


def test_several_candidates_are_listed(model):
    shutil.copy(model / "inference.pdmodel", model / "other.pdmodel")
    with pytest.raises(ModelError, match=r"inference\.pdmodel, other\.pdmodel"):
        load_graph(str(model))
    assert load_graph(str(model), "inference.pdmodel").ops
    shutil.copy(model / "inference.pdiparams", model / "third.pdiparams")
    with pytest.raises(ModelError, match="params_filename"):
        load_graph(str(model), "other.pdmodel")


def test_what_a_mac_packs_next_to_every_file_is_not_a_candidate(model):
    for name in ("inference.pdmodel", "inference.pdiparams"):
        (model / f"._{name}").write_bytes(b"\0\5\x16\7")
    assert load_graph(str(model)).ops
    (model / "inference.pdiparams").rename(model / "weights.pdiparams")
    assert load_graph(str(model)).ops


def test_other_json_files_do_not_count(model):
    (model / "config.json").write_text('{"a": 1}')
    assert load_graph(str(model)).ops


@pytest.mark.parametrize("args, message", [
    (("nowhere/at/all",), "does not exist"),
    ((".", "absent.pdmodel"), "absent.pdmodel does not exist"),
    ((".", "inference.pdmodel", "absent"), "absent does not exist"),
    (("missing_prefix",), "no program file")])
def test_what_is_missing_is_named(model, monkeypatch, args, message):
    monkeypatch.chdir(model)
    with pytest.raises(ModelError, match=message):
        load_graph(*args)


@pytest.mark.parametrize("name", [None, "inference", "inference{}"])
@pytest.mark.parametrize("suffix", [".json", ".pdmodel"])
def test_a_program_without_its_parameters_says_which_file_is_missing(suffix, name, tmp_path):
    net = paddle.nn.Linear(2, 2)
    paddle.jit.save(net, str(tmp_path / "inference"),
                    [paddle.static.InputSpec([None, 2], "float32", "x")])
    if suffix == ".pdmodel":
        save_program(load_graph(str(tmp_path)), str(tmp_path / "inference"))
        (tmp_path / "inference.json").unlink(missing_ok=True)
    (tmp_path / "inference.pdiparams").unlink()
    program = next(tmp_path.glob("inference.*[ln]"))
    with pytest.raises(ModelError, match=f"no parameter file next to {program}: copy "
                                         f"inference.pdiparams, .*, into {tmp_path}"):
        load_graph(str(tmp_path / name.format(program.suffix) if name else tmp_path))
    program.rename(tmp_path / f"other{program.suffix}")
    with pytest.raises(ModelError, match=f"next to {tmp_path}/other.*: copy other.pdiparams"):
        load_graph(str(tmp_path), f"other{program.suffix}")


def test_empty_directory(tmp_path):
    with pytest.raises(ModelError, match="no program file.*holds nothing"):
        load_graph(str(tmp_path))


def test_program_with_a_hole_is_refused(model, small_graph):
    del small_graph.ops[3]
    save_program(small_graph, str(model / "inference"))
    with pytest.raises(ModelError, match="which nothing writes"):
        load_graph(str(model))


@pytest.mark.parametrize("stored, declared", [((), (1,)), ((1, 3), (3,))])
def test_scales_of_paddle_2_have_more_or_fewer_axes_than_their_program_says(tmp_path, stored,
                                                                            declared):
    with open(tmp_path / "scales", "wb") as file:
        write_combined(file, {"s": np.ones(stored, np.float32)})
    found = read_combined(str(tmp_path / "scales"), {"s": TensorInfo("s", declared)})
    assert found["s"].shape == declared
    with pytest.raises(ModelError, match="do not belong together"):
        read_combined(str(tmp_path / "scales"), {"s": TensorInfo("s", (2,))})


def test_norms_that_take_the_statistics_of_a_batch_take_their_running_ones(tmp_path):
    """As runtimes do that fold them; PaddleGAN's pix2pix has such norms."""
    nets = [paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.ReLU(),
                                 paddle.nn.BatchNorm(4, trainable_statistics=own))
            for own in (True, False)]
    nets[1].set_state_dict(nets[0].state_dict())
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 8, 8)).astype("float32")
    spec = [paddle.static.InputSpec([None, 3, 8, 8], "float32", "x")]
    for net, name in zip(nets, ("batch", "running")):
        net.eval()
        paddle.jit.save(net, str(tmp_path / name), spec)
    batch, running = (load_graph(str(tmp_path / name)) for name in ("batch", "running"))
    assert "(1) take the mean and variance" in batch.remarks[0] and batch.files is None
    assert not running.remarks and running.files
    got, = executor_outputs(batch, {"x": x}, batch.outputs)
    with paddle.no_grad():
        own, want = (net(paddle.to_tensor(x)).numpy() for net in nets)
    np.testing.assert_allclose(got, want, atol=1e-6)
    assert np.abs(own - want).max() > 0.1
    assert fold(batch).remarks == batch.remarks
