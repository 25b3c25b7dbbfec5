# SPDX-License-Identifier: Apache-2.0
"""Write a quantized program in the form that a runtime reads."""
import dataclasses
import os
from typing import Any, Dict, List, Sequence

from ..errors import ModelError, OutputError
from ..files import write_bytes, write_json
from ..graph.graph import Graph
from ..graph.program import is_quantize_op
from ..graph.writer import save_program
from .lite.convert import LITE_TARGETS, convert
from .lite.env import find_lite
from .lite.ops import missing_ops
from .to_onnx import onnx_model


@dataclasses.dataclass
class ExportedFiles:
    """Files that were written, and what is to be known of them."""

    files: List[str]
    details: Dict[str, Any]


def export_model(graph: Graph, target: str, output: str,
                 lite_targets: Sequence[str] = LITE_TARGETS) -> ExportedFiles:
    """Export for one runtime.

    Args:
        graph(Graph): a quantized program of this package or of PaddleSlim; for
            ``inference`` a float one too, which carries a ``.json`` program of Paddle 3 to
            what reads ``.pdmodel`` only.
        target(str): ``lite``, ``inference`` or ``onnx``.
        output(str): directory; made when missing.
        lite_targets(list[str], optional): what ``paddle_lite_opt`` converts
            for. Default: arm and x86.

    Raises:
        ModelError: the program is not quantized, or the target's converter refuses it.
        MrecgError: the target's tools are not installed.
        OutputError: the directory cannot be written.
    """
    if target != "inference" and not any(is_quantize_op(op.type) for op in graph.ops):
        raise ModelError(f"{graph.source} is not quantized: run `paddle-mrecg quant` first")
    if target == "lite":
        return _write_lite(graph, output, lite_targets)
    return {"inference": _write_inference, "onnx": _onnx}[target](graph, output)


def _make_parent(output: str) -> None:
    """Make the directory, once there is something to write."""
    try:
        os.makedirs(output, exist_ok=True)
    except OSError as error:
        raise OutputError(f"'{output}' cannot be made ({error.strerror}): choose "
                          "another --output") from error


def _converted(graph: Graph, tools, target: str, targets: Sequence[str]):
    """A converted model; nothing has been written when one of several targets fails."""
    try:
        return convert(graph, tools, target)
    except ModelError as error:
        others = [t for t in targets if t != target and not missing_ops(graph, t)]
        if not others:
            raise
        raise ModelError(f"{error}; no .nb file was written: `paddle-mrecg export --target lite "
                         f"--lite_targets {' '.join(others)}` leaves {target} out") from error


def _write_lite(graph: Graph, output: str, targets: Sequence[str]) -> ExportedFiles:
    tools, files, details = find_lite(), [], {}
    models = {target: _converted(graph, tools, target, targets) for target in targets}
    _make_parent(output)
    for target, model in models.items():
        path = os.path.join(output, f"model.{target}.nb")
        write_bytes(path, model.data)
        files.append(path)
        details[target] = dict(int8=model.int8, ops=len(model.rows), changes=model.changes,
                               bytes=len(model.data),
                               rows=[dataclasses.asdict(row) for row in model.rows])
    path = os.path.join(output, "ops.json")
    write_json(path, details)
    return ExportedFiles(files + [path], details)


def _write_inference(graph: Graph, output: str) -> ExportedFiles:
    _make_parent(output)
    # scripts look for that name
    prefix = os.path.join(output, os.path.splitext(os.path.basename(graph.source))[0])
    save_program(graph, prefix)
    return ExportedFiles([prefix + ".pdmodel", prefix + ".pdiparams"], {})


def _onnx(graph: Graph, output: str) -> ExportedFiles:
    data, path = onnx_model(graph).SerializeToString(), os.path.join(output, "model.onnx")
    _make_parent(output)
    write_bytes(path, data)
    return ExportedFiles([path], {})
