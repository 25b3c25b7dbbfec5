# SPDX-License-Identifier: Apache-2.0
"""What a job holds is known before its start, bounded by the limit, and a cure is named."""
import io
import re
import subprocess
import sys

import numpy as np
import pytest

from paddle_mrecg import machine
from paddle_mrecg.config.io import load_config
from paddle_mrecg.data.store import ActivationStore
from paddle_mrecg.errors import OutputError
from paddle_mrecg.graph.partition import modules_of
from paddle_mrecg.graph.probe import probe
from paddle_mrecg.graph.writer import save_program
from paddle_mrecg.post import memory, unit_state
from paddle_mrecg.post.checkpoint import Checkpoint
from paddle_mrecg.post.job import quant_post_mrecg
from paddle_mrecg.post.memory import MIB, UNIT_TRAINING, Forecast, Stage, Start
from paddle_mrecg.post.scheme import build_scheme
from paddle_mrecg.post.working_sets import Sizes, forecast
from paddle_mrecg.report.progress import get_logger

from tests.jobs import batches, settings
from tests.tiny import tiny_graph, tiny_samples


def tiny_forecast(count, size=32, **mrecg):
    config = load_config({"MRECG": dict(dict(granularity="block", batch_size=16), **mrecg),
                          "Global": {"memory_limit_mb": 1024}})
    graph = tiny_graph(size=size)
    scheme = build_scheme(graph, config.quant_post, "simulation")
    found = probe(graph, tiny_samples(3, size))
    layers = modules_of(graph, found, scheme.is_quantized, granularity="layer")
    modules = modules_of(graph, found, scheme.is_quantized)
    return forecast(Sizes(graph, found, scheme), layers, modules, config,
                    Start(300.0 * MIB, count))


def stage(expected, name):
    return next(s for s in expected.stages if s.name == name)


def test_cache_grows_with_the_samples_and_work_with_the_batch():
    few, many, large = tiny_forecast(1000), tiny_forecast(2000), tiny_forecast(1000, batch_size=256)
    assert stage(many, UNIT_TRAINING).cache == 2 * stage(few, UNIT_TRAINING).cache > 0
    assert stage(many, UNIT_TRAINING).work == stage(few, UNIT_TRAINING).work
    growth = (stage(large, UNIT_TRAINING).work - stage(few, UNIT_TRAINING).work) / 240
    assert growth == pytest.approx(few.batch[1], rel=1e-6) and growth > 6 * 32 * 32 * 4


def test_peak_grows_with_the_limit_and_not_with_the_samples():
    some, more = tiny_forecast(40_000), tiny_forecast(400_000)
    assert some.peak == more.peak == pytest.approx(1024 * MIB)
    assert more.files > some.files > 0


def test_half_takes_half_of_the_streams():
    whole, half = (_with_dtype(t) for t in ("float32", "float16"))
    samples = 1000 * 3 * 32 * 32 * 4
    assert stage(half, UNIT_TRAINING).cache - samples == pytest.approx(
        (stage(whole, UNIT_TRAINING).cache - samples) / 2)


def _with_dtype(name):
    config = load_config({"Global": {"cache_dtype": name}, "MRECG": {"granularity": "block"}})
    graph = tiny_graph(size=32)
    scheme = build_scheme(graph, config.quant_post, "simulation")
    found = probe(graph, tiny_samples(3, 32))
    modules = modules_of(graph, found, scheme.is_quantized)
    return forecast(Sizes(graph, found, scheme), modules, modules, config, Start(0.0, 1000))


def a_forecast(work=1000, cache=500, limit=4096, process=400):
    return Forecast(process * MIB, [Stage(UNIT_TRAINING, work * MIB, cache * MIB),
                                    Stage("calibration", 100 * MIB, 50 * MIB)], limit * MIB,
                    (100, 9.0 * MIB))


@pytest.mark.parametrize("room, expected, words", [
    (8000, a_forecast(), ["memory: about 1,900 MiB at the peak \\(training a unit\\)"]),
    (1800, a_forecast(), ["memory: about", "will not suffice: set Global.memory_limit_mb=1710"]),
    (1200, a_forecast(), ["memory: about", "set MRECG.batch_size=73 and "
                                           "Global.memory_limit_mb=1200"]),
    (300, a_forecast(), ["memory: about", "needs 516 MiB and more whatever the settings, so use a "
                                          "machine"]),
    (8000, a_forecast(limit=900), ["memory: about", "memory_limit_mb of 900 MiB cannot be kept: "
                                                    "set MRECG.batch_size=4"]),
    (8000, a_forecast(limit=450), ["memory: about", "so set Global.memory_limit_mb=1417"]),
])
def test_the_line_names_the_setting_that_makes_it_fit(room, expected, words, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: room * MIB)
    monkeypatch.setattr(memory, "resident_bytes", lambda: 0)
    monkeypatch.setattr(memory, "in_memory_folder", lambda path: False)
    sentences = expected.sentences("folder")
    assert len(sentences) == len(words)
    for sentence, word in zip(sentences, words):
        assert re.search(word, sentence)


def test_files_in_memory_count_as_memory(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2000 * MIB)
    monkeypatch.setattr(memory, "resident_bytes", lambda: 0)
    expected = a_forecast(cache=5000, limit=1600)
    monkeypatch.setattr(memory, "in_memory_folder", lambda path: False)
    assert len(expected.sentences("folder")) == 1
    monkeypatch.setattr(memory, "in_memory_folder", lambda path: True)
    assert "set TMPDIR to a folder on a disk" in expected.sentences("folder")[1]


def test_too_little_room_for_files_is_said_before_the_start(monkeypatch, tmp_path):
    store = ActivationStore(1, str(tmp_path))
    monkeypatch.setattr(memory, "free_bytes", lambda path: 4000 * MIB)
    memory.tell(a_forecast(cache=5000, limit=2500), store)
    assert store.limit == 1100 * MIB
    monkeypatch.setattr(memory, "free_bytes", lambda path: 3000 * MIB)
    with pytest.raises(OutputError, match="3,900 MiB.*3,000 MiB left.*TMPDIR"):
        memory.tell(a_forecast(cache=5000, limit=2500), store)


@pytest.mark.parametrize("shared, room, words", [
    (True, 4100, "result needs up to 300 MiB next to 3,900 MiB of activations.*has 4,100 MiB left"),
    (True, 4300, None), (False, 4100, None),
    (False, 200, "result needs up to 300 MiB, and 'place' has 200 MiB left.*Global.save_dir")])
def test_too_little_room_for_the_result_is_said_before_the_start(shared, room, words, monkeypatch,
                                                                 tmp_path):
    store = ActivationStore(1, str(tmp_path))
    monkeypatch.setattr(memory, "same_disk", lambda *_: shared)
    monkeypatch.setattr(memory, "free_bytes",
                        lambda path: MIB * (room if path == "place" else 4000))
    expected = a_forecast(cache=5000, limit=2500)
    expected.result = 300 * MIB
    if words is None:
        memory.tell(expected, store, "place")
        return
    with pytest.raises(OutputError, match=words):
        memory.tell(expected, store, "place")
    memory.tell(expected, store)  # nothing is written: no room is needed


def test_a_job_without_room_stops_before_it_calibrates(tmp_path, monkeypatch):
    save_program(tiny_graph(), str(tmp_path / "float"))
    monkeypatch.setattr(memory, "free_bytes",
                        lambda path: 1.0 if path.endswith("out") else 1e12)
    monkeypatch.setattr("paddle_mrecg.post.calibrate.activation_encodings", lambda *_: 1 / 0)
    with pytest.raises(OutputError, match="the result needs up to 4 MiB.*out' has 0 MiB left"):
        quant_post_mrecg(str(tmp_path), batches(), settings(), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_result_stays_within_the_room_that_was_asked_for(tmp_path, monkeypatch):
    """Without the fixed share for reports, whose size does not depend on the model."""
    graph = tiny_graph(channels=96)
    save_program(graph, str(tmp_path / "float"))
    monkeypatch.setattr(unit_state, "STATE_SECONDS", 0.0)
    monkeypatch.setattr(unit_state, "SAVING_SHARE", np.inf)
    largest, write = [0], Checkpoint.write

    def watched(*args):
        write(*args)
        largest.append(size_of(tmp_path / "out.partial"))
    monkeypatch.setattr(Checkpoint, "write", watched)
    expected = []
    monkeypatch.setattr(memory, "_refuse_full", lambda forecast, *_: expected.append(forecast))
    quant_post_mrecg(str(tmp_path), batches(), settings(num_iters=3), str(tmp_path / "out"))
    programs = size_of(tmp_path / "out", ".pd*")
    weights = sum(v.nbytes for v in graph.params.values())
    needed = max(largest) + weights + 4 * programs
    assert needed < expected[0].result - 4 * MIB < 3 * needed


def size_of(folder, pattern="*"):
    return sum(p.stat().st_size for p in folder.rglob(pattern) if p.is_file())


def test_samples_that_were_read_move_to_files_when_steps_need_the_memory(tmp_path):
    store = ActivationStore(4, str(tmp_path))
    values = np.random.default_rng(0).random((300, 1000), np.float32)
    array = store.allocate(values.shape)
    array[:] = values
    assert store.in_memory == values.nbytes
    store.bound(MIB / 2)
    assert store.in_memory == 0 and store.in_files == values.nbytes
    assert np.array_equal(np.asarray(array), values)


@pytest.mark.parametrize("groups, files, least", [
    ("0::/a/b\n", {"a/memory.max": "1000", "a/memory.current": "400", "a/b/memory.max": "max",
                   "a/b/memory.current": "9"}, 600),
    ("5:memory:/c\n", {"memory/c/memory.limit_in_bytes": "500",
                       "memory/c/memory.usage_in_bytes": "450"}, 50),
    ("0::/\n", {}, None),
])
def test_the_limit_of_a_container_counts(groups, files, least, monkeypatch):
    numbers = {f"/sys/fs/cgroup/{name}": text for name, text in files.items()}
    real = open

    def opened(path, *args, **kwargs):
        if str(path) == "/proc/self/cgroup":
            return io.StringIO(groups)
        if str(path).startswith("/sys/fs/cgroup"):
            if path not in numbers:
                raise FileNotFoundError(path)
            return io.StringIO(numbers[path])
        return real(path, *args, **kwargs)
    monkeypatch.setattr("builtins.open", opened)
    free = machine._kilobytes("/proc/meminfo", "MemAvailable")
    assert machine.available_bytes() == (least if least is not None else pytest.approx(free,
                                                                                       rel=0.2))


def test_a_job_says_it(tmp_path, monkeypatch, caplog):
    save_program(tiny_graph(), str(tmp_path / "float"))
    monkeypatch.setattr(get_logger(), "propagate", True)
    result = quant_post_mrecg(str(tmp_path), batches(), settings(num_iters=2),
                              str(tmp_path / "out"))
    assert "memory: about" in caplog.text and "the machine has" in caplog.text
    report = result.report
    assert report.expected_memory > 100 * MIB and report.temporary_files == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator is glibc's")
def test_freed_memory_is_handed_back(repository):
    """Blocks between which one stays: the allocator would keep them all."""
    code = ("from paddle_mrecg.machine import resident_bytes\n"
            "from paddle_mrecg.post.memory import return_freed_memory\n"
            "blocks = [bytearray(64 << 10) for _ in range(2000)]\n"
            "kept = blocks[::20]; del blocks; before = resident_bytes(); return_freed_memory()\n"
            "print(before - resident_bytes() > 64 << 20)")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True,
                          text=True, check=True, cwd=repository)
    assert done.stdout.strip() == "True"
