# SPDX-License-Identifier: Apache-2.0
"""One process of the sweep: export, read, write, run, compare; one JSON line per entry.

Run as ``python -m tests.graph.sweep.entry FORMAT DEPTH NAME ...``; ``run.py`` starts it, so that a
crash inside Paddle becomes a failed entry.
"""
import contextlib
import json
import os
import sys
import tempfile
import warnings

os.environ.setdefault("GLOG_minloglevel", "4")
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import paddle  # noqa: E402
import paddle.inference  # noqa: E402
import paddle.nn as nn  # noqa: E402
import paddle.nn.functional as F  # noqa: E402

from paddle_mrecg.compat import old_ir  # noqa: E402
from paddle_mrecg.errors import MrecgError  # noqa: E402
from paddle_mrecg.graph.fold import fold  # noqa: E402
from paddle_mrecg.graph.graph import weight_name  # noqa: E402
from paddle_mrecg.graph.load import load_graph  # noqa: E402
from paddle_mrecg.graph.ops import has_gradient, run_ops  # noqa: E402
from paddle_mrecg.graph.probe import probe  # noqa: E402
from paddle_mrecg.graph.writer import save_program  # noqa: E402

from .functions import FUNCTIONS  # noqa: E402
from .networks import BATCH_1, NETWORKS  # noqa: E402

TOLERANCE = 1e-4  # of the largest value of the output
HALF_TOLERANCE = 1e-3  # a float16 in the graph rounds 1e-7 to its own step, 5e-4


class Behind(nn.Layer):
    """The function behind a convolution, and another convolution next to it."""

    def __init__(self, function):
        super().__init__()
        self.a, self.norm = nn.Conv2D(3, 8, 3, 2, 1), nn.BatchNorm2D(8)
        self.z, self._function = nn.Conv2D(8, 4, 1), function

    def forward(self, x):
        y = F.relu(self.norm(self.a(x)))
        result = self._function(y)
        return (*result, self.z(y)) if isinstance(result, (list, tuple)) else (result, self.z(y))


def layer_of(name):
    """The layer of an entry, and the shape of its input."""
    paddle.seed(3)
    if name in NETWORKS:
        layer, shape = NETWORKS[name](), [1 if name in BATCH_1 else -1, 3, 32, 32]
    else:
        layer, shape = Behind(FUNCTIONS[name]), [-1, 3, 16, 16]
    layer.eval()
    return layer, shape


def predict(prefix, suffix, feed):
    """Outputs of Paddle's own predictor without its rewrites."""
    config = paddle.inference.Config(prefix + suffix, prefix + ".pdiparams")
    config.disable_gpu()
    config.disable_glog_info()
    config.switch_ir_optim(False)
    if hasattr(config, "disable_mkldnn"):
        config.disable_mkldnn()
    predictor = paddle.inference.create_predictor(config)
    for name in predictor.get_input_names():
        handle = predictor.get_input_handle(name)
        handle.reshape(feed.shape)
        handle.copy_from_cpu(feed)
    predictor.run()
    return [predictor.get_output_handle(n).copy_to_cpu() for n in predictor.get_output_names()]


def difference(got, want):
    """The largest difference over all outputs, relative to the output's largest value."""
    if len(got) != len(want):
        return float("inf")
    worst = 0.0
    for a, b in zip(got, want):
        if a.shape != b.shape or not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return float("inf")
        a, b = (np.where(np.isfinite(v), v, 0).astype("float64") for v in (a, b))
        if a.size:
            worst = max(worst, float(np.abs(a - b).max() / max(np.abs(b).max(), 1.0)))
    return worst


def export(name, file_format, prefix):
    layer, shape = layer_of(name)
    spec = [paddle.static.InputSpec(shape, "float32", "x")]
    with old_ir() if file_format == "pdmodel" else contextlib.nullcontext():
        paddle.jit.save(layer, prefix, input_spec=spec)
    count = shape[0] if shape[0] > 0 else 4
    samples = np.random.RandomState(1).uniform(-1, 1, [count, *shape[1:]]).astype("float32")
    return samples


def check(name, file_format, depth):
    """What becomes of one entry: a dict with ``status`` and whatever belongs to it."""
    with tempfile.TemporaryDirectory() as directory:
        prefix = os.path.join(directory, "float", "inference")
        try:
            feed = export(name, file_format, prefix)
            want = predict(prefix, "." + file_format, feed)
            print("EXPORTED " + name, flush=True)
        except Exception as error:  # Paddle's own exporter or predictor cannot take it
            return {"status": "not exported", "reason": _last_line(error)}
        try:
            return _accept(prefix, feed, want, depth)
        except MrecgError as error:
            return {"status": "refused", "reason": str(error).replace(directory, "")}
        except Exception as error:  # anything else is a defect
            return {"status": "failed", "reason": f"{type(error).__name__}: {_last_line(error)}"}


def _accept(prefix, feed, want, depth):
    graph = fold(load_graph(prefix))
    known = probe(graph, {graph.inputs[0]: feed})
    written = os.path.dirname(prefix) + "_written/inference"
    save_program(graph, written)
    worst = difference(predict(written, ".pdmodel", feed), want)
    simulated = difference(_simulate(graph, feed), want) if not known.unreached else float("inf")
    allowed = HALF_TOLERANCE if _has_half(graph) else TOLERANCE
    result = {"status": "accepted" if max(worst, simulated) <= allowed else "different",
              "difference": worst, "simulation": simulated,
              "weights": sum(weight_name(op, graph) is not None for op in graph.ops),
              "forward only": sorted({op.type for op in graph.ops if not has_gradient(op)})}
    if depth == "job":
        found = _quantize(os.path.dirname(prefix), feed)
        result["verdict"] = found["verdict"]
        if result["status"] == "accepted" and not found["verdict"].startswith("agrees"):
            result.update(status="different", reason=f"{found['verdict']} {found['why']}")
    return result


def _simulate(graph, feed):
    """The graph in dygraph, as reconstruction runs it."""
    values = {name: paddle.to_tensor(value) for name, value in graph.params.items()}
    values[graph.inputs[0]] = paddle.to_tensor(feed)
    with paddle.no_grad():
        run_ops(graph.ops, values)
    return [values[name].numpy() for name in graph.outputs]


def _has_half(graph):
    return any(op.attrs.get("out_dtype") == 4 for op in graph.ops if op.type == "cast")


def _quantize(model_dir, feed):
    import paddle_mrecg
    config = {"Global": {"visualdl": False, "tune_cpu": False}, "MRECG": {"preset": "none"},
              "QuantPost": {"weight_bits": 8}, "Data": {"num_samples": 8, "batch_size": len(feed)}}
    done = paddle_mrecg.quant_post_mrecg(model_dir, [[feed]] * (8 // len(feed)), config,
                                         save_dir=model_dir + "_int8")
    return done.report.verification


def _last_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()[:300]


def main(argv):
    file_format, depth, *names = argv
    for name in names:
        print("START " + name, flush=True)
        print("DONE " + json.dumps({"name": name, **check(name, file_format, depth)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
