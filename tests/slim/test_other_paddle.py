# SPDX-License-Identifier: Apache-2.0
"""What we write from Paddle 3's format is read by plain PaddleSlim on Paddle 2.6.2."""
import os
import subprocess
from pathlib import Path

import paddle
import pytest

from paddle_mrecg.compat import paddle_version
from paddle_mrecg.deploy.targets import export_model
from paddle_mrecg.graph.load import load_graph
from tests.graph.sweep.networks import NETWORKS

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("MRECG_PYTHON_262") or str(ROOT / ".venv262" / "bin" / "python")
QUANT_POST = """
import sys
import cv2, paddle
import numpy as np
from paddleslim.quant import quant_post_static
assert paddle.__version__.startswith("2.6"), paddle.__version__
paddle.enable_static()
class Loader(paddle.io.DataLoader):
    __init__ = __del__ = lambda self: None
    __len__ = lambda self: 2
    __call__ = lambda self: iter([{"x": rows[:4]}, {"x": rows[4:]}])

rows = np.random.RandomState(0).rand(8, 3, 32, 32).astype("float32")
quant_post_static(paddle.static.Executor(paddle.CPUPlace()), sys.argv[1], sys.argv[2],
                  data_loader=Loader(), batch_size=4, batch_nums=2,
                  model_filename="inference.pdmodel", params_filename="inference.pdiparams",
                  algo="abs_max", onnx_format=True)
"""


@pytest.mark.skipif(paddle_version() < "3" or not os.access(PYTHON, os.X_OK),
                    reason="needs Paddle 3 here and an environment with Paddle 2.6.2: set "
                           "MRECG_PYTHON_262 to its interpreter")
@pytest.mark.parametrize("name", ["net_inverted_residual", "net_text_detector"])
def test_paddleslim_quantizes_what_was_written_from_json(name, tmp_path):
    layer = NETWORKS[name]()
    layer.eval()
    paddle.jit.save(layer, str(tmp_path / "float" / "inference"), input_spec=[
        paddle.static.InputSpec([-1, 3, 32, 32], "float32", "x")])
    graph = load_graph(str(tmp_path / "float"))
    assert graph.files[0].endswith(".json")
    export_model(graph, "inference", str(tmp_path / "old"))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([PYTHON, "-c", QUANT_POST, str(tmp_path / "old"), str(tmp_path / "int8")],
                          env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    quantized = load_graph(str(tmp_path / "int8"), allow_quantized=True)
    weights = [op for op in quantized.ops if op.type == "dequantize_linear"
               and op.input("X") in quantized.params]
    assert len(weights) >= 2
