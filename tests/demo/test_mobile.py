# SPDX-License-Identifier: Apache-2.0
"""The deployment table is made of result files, and latency is a median over pairs."""
import json

from demo.mobile import latency, table


def test_ratio_is_the_median_over_alternating_pairs():
    now, order = [0.0], []

    def model(name, seconds):
        def run():
            order.append(name)
            now[0] += next(seconds)
        return run

    floats = model("float", iter([9.0, 2.0, 4.0, 100.0]))
    int8 = model("int8", iter([9.0, 1.0, 1.0, 50.0]))
    found = latency.compare(floats, int8, 3, clock=lambda: now[0], warmup=1)
    assert order == ["float", "int8"] * 4
    assert found == dict(float_ms=4000.0, int8_ms=1000.0, ratio=2.0, repeats=3)


def write(folder, target, **cell):
    sizes = dict(quantized_file=dict(bytes=500000))
    run = dict(setting=dict(model="ResNet-20", bits="W4A8", target=target), seed=0, measured={}, sizes=sizes, **cell)
    path = table._path(folder, "ResNet-20", 4, target)
    path.write_text(json.dumps(dict(runs=[run])), encoding="utf-8")


def test_rows_show_what_was_measured_and_no_more(tmp_path):
    write(tmp_path, "Lite ARM", accepted=True, status="converted", int8_ops=20, ops=20, bytes=330000)
    write(tmp_path, "ONNX", accepted=False, status="failed", reason="killed")
    write(tmp_path, "Paddle Inference", accepted=True, status="agrees", max_abs_diff=0.16, mean_abs_diff=0.05, worst_layer=1e-6,
          metric=89.5, int8_ops=19, latency=dict(ratio=1.13))
    assert table.rows(tmp_path) == [
        ["ResNet-20", "W4A8", "Paddle Inference", "agrees", "19/20", "0.16 / 0.05", "0.0001 %", "89.5", "0.50", "1.13"],
        ["ResNet-20", "W4A8", "ONNX", "no: killed", "–", "–", "–", "–", "–", "–"],
        ["ResNet-20", "W4A8", "Lite ARM", "converted", "20/20", "–", "–", "–", "0.33", "–"]]


def test_every_result_file_is_of_a_known_model(repository):
    for path in sorted((repository / "demo/mobile/results").glob("*.json")):
        run, = json.loads(path.read_text(encoding="utf-8"))["runs"]
        setting = run["setting"]
        assert path == table._path(path.parent, setting["model"], int(setting["bits"][1]), setting["target"])
        assert run["accepted"] or run["reason"], path
