# SPDX-License-Identifier: Apache-2.0
"""Finished units on disk."""
import copy
import os
import pickle

import numpy as np
import pytest

from paddle_mrecg.post.checkpoint import Checkpoint, job_parts

from tests.tiny import tiny_graph, tiny_job


@pytest.fixture()
def saved(tmp_path):
    """(checkpoint, starting state, saved state, summary, alphas) of one finished unit."""
    job = tiny_job(weight_bits=3, activation_bits=4)
    state = job.state.copy()
    state.codes["b.w"] = state.codes["b.w"] * 0 + 2
    state.activation_encodings["a.relu"] = copy.copy(state.activation_encodings["a.relu"])
    state.activation_encodings["a.relu"].scale = np.float32(1) / np.float32(3)
    state.finished.update(["b.w", "a.relu"])
    alphas = {
        "b.w": np.random.default_rng(0).standard_normal(state.codes["b.w"].shape).astype(np.float32)
    }
    checkpoint = Checkpoint(str(tmp_path / "folder"), {"job": "digest"})
    checkpoint.save("0", state, sorted(state.finished), {"hard": [0.1, 1.0]}, alphas)
    return checkpoint, job.state, state, {"hard": [0.1, 1.0]}, alphas


def test_what_is_loaded_is_what_was_saved(saved):
    checkpoint, start, state, summary, alphas = saved
    loaded, loaded_summary, loaded_alphas = checkpoint.load("0", start)
    assert loaded.finished == {"b.w", "a.relu"} and loaded_summary == summary
    assert all(np.array_equal(loaded.codes[n], state.codes[n]) for n in state.codes)
    assert loaded.activation_encodings["a.relu"].scale == state.activation_encodings["a.relu"].scale
    assert (loaded_alphas.keys() == alphas.keys()
            and np.array_equal(loaded_alphas["b.w"], alphas["b.w"]))
    assert not start.finished and not np.array_equal(start.codes["b.w"], state.codes["b.w"]), (
        "a copy is changed")


def test_other_jobs_and_other_units_have_no_file(saved):
    checkpoint, start = saved[:2]
    assert Checkpoint(checkpoint.folder, {"job": "other"}).load("0", start) is None
    assert checkpoint.load("1", start) is None
    assert Checkpoint(checkpoint.folder + "/nowhere", {"job": "digest"}).load("0", start) is None


@pytest.mark.parametrize("keep", [0, 1, 10, 200, 0.5, 0.9, -1])
def test_truncated_files_are_as_good_as_none(saved, keep):
    checkpoint, start = saved[:2]
    path = os.path.join(checkpoint.folder, "unit_0.npz")
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[:keep if isinstance(keep, int) else int(keep * len(content))])
    assert checkpoint.load("0", start) is None


def test_damaged_files_are_as_good_as_none(saved):
    checkpoint, start = saved[:2]
    path = os.path.join(checkpoint.folder, "unit_0.npz")
    with open(path, "rb") as file:
        content = bytearray(file.read())
    start_of_data = content.index(b"digest")
    content[start_of_data:start_of_data + 200] = bytes(200)
    with open(path, "wb") as file:
        file.write(content)
    assert checkpoint.load("0", start) is None


class Touch:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("form", ["pickle", "npz"])
def test_pickles_are_never_opened(saved, tmp_path, form):
    checkpoint, start = saved[:2]
    bait = str(tmp_path / "bait")
    with open(os.path.join(checkpoint.folder, "unit_0.npz"), "wb") as file:
        if form == "pickle":
            pickle.dump(Touch(bait), file)
        else:
            np.savez(file, header=np.array([Touch(bait)], object))
    assert checkpoint.load("0", start) is None and not os.path.exists(bait)


def test_no_temporary_file_stays(saved):
    assert os.listdir(saved[0].folder) == ["unit_0.npz"]


def test_identity_is_settings_program_parameters_and_samples(tmp_path):
    settings, samples = dict(MRECG=dict(a=1, b=2)), {"x": np.zeros((2, 2), np.float32)}
    parts = job_parts(settings, tiny_graph(), samples)
    assert parts == job_parts(dict(MRECG=dict(b=2, a=1)), tiny_graph(), dict(samples))
    graphs = [tiny_graph(seed=1), tiny_graph(), tiny_graph()]
    graphs[1].ops[0].attrs["strides"] = [2, 2]
    graphs[2].params["other"] = graphs[2].params.pop("a.w")
    others = [job_parts(dict(MRECG=dict(a=1, b=3)), tiny_graph(), samples),
              *(job_parts(settings, graph, samples) for graph in graphs),
              job_parts(settings, tiny_graph(), {"x": samples["x"] + 1}),
              job_parts(settings, tiny_graph(), {"x": samples["x"].reshape(1, 4)})]
    assert [sorted(k for k in parts if parts[k] != o[k]) for o in others] == [
        ["MRECG.b"], ["the model's parameters"], ["the model's program"],
        ["the model's parameters"], ["the calibration samples"], ["the calibration samples"]]


def test_units_of_another_job_are_deleted_and_the_reason_is_told(saved):
    checkpoint = saved[0]
    assert checkpoint.discard_others() == [] and os.listdir(checkpoint.folder) == ["unit_0.npz"]
    other = Checkpoint(checkpoint.folder, {"job": "other"})
    assert other.discard_others() == ["job"] and os.listdir(checkpoint.folder) == []
