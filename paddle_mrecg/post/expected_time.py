# SPDX-License-Identifier: Apache-2.0
"""How long a job will take on this machine, said before it starts.

The probe times a forward pass of the float network; one matrix product is timed here. The rest is
counted: passes over the samples, the rows of the layers' linear systems, steps of training. The
factors were measured on MobileNetV1, PP-LCNetV2, PP-OCRv4's recognizer and ResNet-20.
"""
import dataclasses
import math
import time

import numpy as np

from ..config import Config
from ..config.post_rules import JOINING
from ..errors import UnsupportedOpError
from ..graph.graph import WEIGHT_SLOTS, Graph, Op, weight_name
from ..graph.probe import Probe
from ..report.progress import get_logger, rough_duration
from .choose_ranges import SCORED, most_positions
from .layer_rows import layer_rows, solved_positions
from .program import verified_samples
from .scheme import Scheme
from .solve import SWEEPS

OBSERVED = 2.0  # forward passes that an observer's pass takes
EQUALIZED = {"none": 0.0, "fold": 3.0, "auto": 9.0}  # and the search for factors
GRIDS = 14  # candidates for the range of an activation, about
QUANTIZED_VALUES = 1.2e8  # values per second through a fake quantizer in numpy
SOLVED = 5.0  # forward passes of both streams, biases included
ROW_SECONDS = 2e-4  # of numpy's calls for one row of a layer
STEP = 5.0  # forward passes of a step of training: quantized, back, and the update
MEASURED = 6.0  # forward passes in which units are measured before and behind their training
JOINED = 1.5  # modules of a unit where modules are joined, about
REST = 3.0  # seconds of everything else
# and passes: the first run; for each verified sample verification and the report's layers
FIRST_PASSES, VERIFYING_PASSES = 10.0, 5.0
LONG = 3600.0  # a training of more seconds is warned of
PRODUCT, PRODUCTS = 384, 10  # rows and columns of the matrix product that is timed; how often


@dataclasses.dataclass
class ExpectedTime:
    """What a job takes, in seconds.

    Attributes:
        forward(float): one pass of the whole float network, for one sample.
        layers(int): that are quantized.
        calibration(float): both passes and the choice of the ranges.
        solving(float): roundings and biases; 0 where there is neither.
        rest(float): first run, verification, report.
        training(float): if all units are trained.
        config(Config): of the job.
    """

    forward: float
    layers: int
    calibration: float
    solving: float
    rest: float
    training: float
    config: Config

    @property
    def untrained(self) -> float:
        """All but the training: reading, checks and the report included."""
        return self.calibration + self.solving + self.rest

    def sentence(self) -> str:
        """One line."""
        text = (f"time: about {rough_duration(self.untrained)} on this machine"
                + (" without the training" if self.training else ""))
        if self.training:
            some = "up to" if self.config.mrecg.train_above > 0 else "about"
            text += f", which takes {some} {rough_duration(self.training)} more"
        return text + "; scoring not counted"

    def warning(self) -> str:
        """What to do about a training of hours; empty where there is none."""
        if self.training <= LONG:
            return ""
        return (f"MRECG.num_iters is {self.config.mrecg.num_iters} steps for every module, "
                f"{rough_duration(self.training)} on this machine: MRECG.preset=fast takes "
                "minutes, MRECG.preset=none trains nothing")


def tell_time(expected: ExpectedTime):
    """Log what a job will take, and what to do where that is hours."""
    get_logger().info(expected.sentence())
    if expected.warning():
        get_logger().warning(expected.warning())


def leave_unsaid(*_):
    """For a job whose time was said as part of a longer one's."""


def expected_time(graph: Graph, scheme: Scheme, found: Probe, config: Config,
                  count: int) -> ExpectedTime:
    """Count passes and products, and time a product.

    Args:
        graph(Graph): the folded graph.
        scheme(Scheme): what is quantized.
        found(Probe): says which ops run, and what a pass takes.
        config(Config): of the job.
        count(int): samples of the job.
    """
    post, settings = config.quant_post, config.mrecg
    layers = [op for op in graph.ops if scheme.is_quantized(op) and op not in found.unreached]
    # what chooses boxes behind the last layer runs in a few passes only
    each = found.seconds(scheme.up_to_layers(graph.ops))
    product = _product_seconds()
    observed = min(count, post.num_observe)
    calibration = observed * (OBSERVED + EQUALIZED[post.equalize]) * each
    if post.activation_observer == "output_error" and scheme.activations:
        calibration += min(observed, SCORED) * each
        calibration += sum(_ranges(op, graph, product, found, observed) for op in layers)
    solving = 0.0
    if post.rounding == "solve" or post.bias_correction:
        solving = count * SOLVED * each
    if post.rounding == "solve":
        solving += sum(_system_seconds(op, graph, product, found, count) for op in layers)
    joined = (JOINED if settings.granularity in JOINING and settings.iters_scaling == "per_module"
              else 1.0)
    batch = min(settings.batch_size, count)
    training = settings.num_iters * batch * STEP * each * joined
    if training:  # and the layers behind a trained unit are solved again
        training += count * MEASURED * each + solving
    whole = found.seconds(graph.ops)
    values = sum(abs(math.prod(found.shapes[n])) for n in graph.inputs)
    rest = REST + (FIRST_PASSES + VERIFYING_PASSES * verified_samples(count, values)) * whole
    return ExpectedTime(whole, len(layers), calibration, solving, rest, training, config)


def _product_seconds() -> float:
    """Of one multiplication and addition in a matrix product of numpy: the fastest of a few, for
    one takes milliseconds, and other processes make single ones ten times as slow.
    """
    matrix, taken = np.ones((PRODUCT, PRODUCT), np.float32), []
    for _ in range(PRODUCTS):
        begin = time.perf_counter()
        matrix @ matrix
        taken.append(time.perf_counter() - begin)
    return min(taken) / PRODUCT**3


def _ranges(op: Op, graph: Graph, product: float, found: Probe, count: int) -> float:
    """Seconds of the choice of an input's range by the error of the layer that reads it."""
    layout = _layout(op, graph)
    if layout is None:
        return 0.0
    positions = min(most_positions(layout), _positions(op, layout, found, min(count, SCORED)))
    values = layout.groups * positions * layout.rows
    return GRIDS * values * (1 / QUANTIZED_VALUES + min(layout.rows, layout.columns) * product)


def _system_seconds(op: Op, graph: Graph, product: float, found: Probe, count: int) -> float:
    """Seconds of a layer's linear system: its sums, its factors, rounding and sweeps."""
    layout = _layout(op, graph)
    if layout is None:
        return 0.0
    rows, columns = layout.rows, layout.columns
    positions = min(solved_positions(rows), _positions(op, layout, found, count))
    products = (positions * rows * (rows + 3 * columns) + rows**3
                + (4 + 2 * SWEEPS) * rows * rows * columns)
    return layout.groups * products * product + ROW_SECONDS * rows * (1 + SWEEPS)


def _positions(op: Op, layout, found: Probe, count: int) -> float:
    """Rows of a layer's output, of so many samples."""
    shape = found.shapes[op.output(WEIGHT_SLOTS[op.type][2])]
    return count * abs(float(np.prod(shape))) / (layout.groups * layout.columns)


def _layout(op: Op, graph: Graph):
    try:
        return layer_rows(op, graph.params[weight_name(op, graph)])
    except UnsupportedOpError:
        return None
