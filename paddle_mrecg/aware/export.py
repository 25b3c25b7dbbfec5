# SPDX-License-Identifier: Apache-2.0
"""A frozen model written as a program, and the two compared."""
import dataclasses
import functools
import os
from typing import Dict, List

import numpy as np
import paddle

from ..deploy.check.doctor import AGREES
from ..deploy.check.verdict import verdict, verdict_line
from ..errors import DataError, MrecgError, said
from ..files import write_json, write_json_table
from ..graph.specs import has_dict, map_specs, named_values, refuse_other_specs
from ..graph.writer import save_program
from ..report.progress import get_logger
from ..report.report import FORMAT_VERSION
from ..report.result_dir import PROGRAM, ResultDir
from .ends import chooses, end_outputs
from .freeze import freeze
from .program import check_target, training_graph
from .table import check_dropped

# batch and free sides of the random input that an exported program is checked on
TRACED_SAMPLES, FREE_SIZE = 2, 32


@dataclasses.dataclass
class ExportedModel:
    """What ``export`` wrote.

    Args:
        save_dir(str): the directory.
        verification(dict): ``verdict`` on the program in Paddle Inference against the frozen model,
            ``why``, ``max_abs_diff``, ``mean_abs_diff`` and ``max_abs_output``, over ``samples``
            inputs and ``outputs`` tensors: the program's outputs, or those of the last quantized
            layers where it ends in an NMS. See ``deploy.check.verdict``.
        dropped(list[str]): quantized layers that run in training only and are not in the program.
    """

    save_dir: str
    verification: Dict[str, float]
    dropped: List[str] = dataclasses.field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """False when the program computes something else than the trained model."""
        return self.verification["verdict"].startswith(AGREES)


def export_quantized(model, save_dir: str, input_spec, samples=None,
                     target: str = "simulation") -> ExportedModel:
    """Freeze a model and write it as a program of ``quantize_linear`` / ``dequantize_linear``, as
    the post-training job does.

    Writes ``model.pdmodel`` and ``model.pdiparams`` (weights as int8 codes), ``encodings.json`` and
    ``report.json``, all of them or none, and compares the program with the model.

    Args:
        model(paddle.nn.Layer): a prepared model, or what ``freeze`` returned.
        save_dir(str): directory of the result.
        input_spec(list[paddle.static.InputSpec]): one per input, the first dimension free; dicts of
            specs where the model takes dicts.
        samples(list[array], optional): one array per input, or dict of them, to compare on.
            Default: None, normally distributed ones.
        target(str, optional): 'paddle_lite' refuses grids that its int8 kernels do not
            have. Default: 'simulation'.

    Returns:
        ExportedModel: where, and how far model and program differ.

    Raises:
        ModelError: nothing is quantized, the model cannot be exported, or evaluation does not run
            layers any more that it ran when they were prepared.
        DataError: the model does not run on ``samples``, or on what ``input_spec`` describes.
        ConfigError: ``target`` cannot run an activation's grid.
        OutputError: ``save_dir`` cannot be written.
    """
    frozen = freeze(model)
    refuse_other_specs(input_spec)
    if samples is not None and (not isinstance(samples, (list, tuple))
                                or len(samples) != len(input_spec)):
        raise DataError(f"samples is a {type(samples).__name__}: give a list with one array for "
                        f"each of the {len(input_spec)} entries of input_spec")
    samples = _random(input_spec) if samples is None else map_specs(np.asarray, samples)
    graph, encodings, dropped = training_graph(frozen, input_spec)
    for remark in graph.remarks:
        get_logger().warning(remark)
    if dropped:
        check_dropped(frozen, dropped)
        get_logger().info("left out, for evaluation does not run them: %s", ", ".join(dropped))
    check_target({n: e for n, e in encodings.items() if n not in graph.params}, target)
    with ResultDir(save_dir) as result:
        prefix = result.path(PROGRAM)
        save_program(graph, prefix)
        feed = named_values(input_spec, samples) if has_dict(input_spec) else samples
        verification = _verify(frozen, graph, samples, feed, prefix)
        write_json_table(result.path("encodings.json"),
                         {name: e.to_dict() for name, e in encodings.items()})
        write_json(result.path("report.json"), dict(format_version=FORMAT_VERSION,
                                                    verification=verification, dropped=dropped))
        result.publish()
    return ExportedModel(os.fspath(save_dir), verification, dropped)


def _random(input_spec):
    """As many samples for every input: those of one whose batch is fixed, else TRACED_SAMPLES."""
    batches: List[int] = []
    map_specs(lambda spec: batches.extend(n for n in spec.shape[:1] if n is not None and n > 0),
              input_spec)
    return map_specs(functools.partial(_random_array, batch=(batches or [TRACED_SAMPLES])[0]),
                     input_spec)


def _random_array(spec, batch: int) -> np.ndarray:
    shape = [n if n is not None and n > 0 else (FREE_SIZE if k else batch)
             for k, n in enumerate(spec.shape)]
    if "int" in str(spec.dtype).lower():  # token ids, sizes: 0 and 1 are right for most
        kind = "int32" if "32" in str(spec.dtype) else "int64"
        return np.random.default_rng(0).integers(0, 2, shape).astype(kind)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _outputs(frozen, graph, tensors) -> Dict[str, np.ndarray]:
    """What the program is compared with."""
    if chooses(graph):
        return end_outputs(frozen, graph, tensors)
    with paddle.no_grad():
        outputs = paddle.utils.flatten(frozen(*tensors))
    return dict(zip(graph.outputs, (t.numpy() for t in outputs)))


def _verify(frozen, graph, samples, feed, prefix) -> Dict:
    """``samples`` as the model takes them, ``feed`` as the program does."""
    try:
        expected = _outputs(frozen, graph, map_specs(paddle.to_tensor, samples))
    except (MrecgError, MemoryError):
        raise
    except Exception as error:  # whatever a network raises that is given something else
        reason = said(error, line=0)
        raise DataError(f"the model does not run on samples like {map_specs(np.shape, samples)} "
                        f"({reason}): give input_spec, or samples, in the shape and type that it "
                        "was trained with") from error
    feed = feed if isinstance(feed, dict) else dict(zip(graph.inputs, feed))
    found = verdict(prefix, feed, expected)
    log = get_logger().info if found["verdict"].startswith(AGREES) else get_logger().warning
    log("exported program against the trained model: %s", verdict_line(found))
    return found
