# SPDX-License-Identifier: Apache-2.0
"""report.json and the table at the end: what was done, what it brought, what it cost."""
import dataclasses
import importlib.metadata
import json
import os
import platform
import sys
from typing import Any, Dict, List, Optional

try:
    import resource
except ImportError:  # Windows
    resource = None

from ..errors import DataError
from ..files import write_json
from .layers import LayerReport
from .loss_curve import LossCurve
from .progress import duration
from .units import UnitReport

FORMAT_VERSION = 2
SAME = 0.01  # of the largest output, where no verdict was written
# Keys of Report.metrics and columns of the table, from the float program to the written one.
STAGES = ("float", "nearest", "nearest_bias", "solved", "quantized")
DISTRIBUTIONS = ("paddlepaddle", "paddlepaddle-gpu", "paddleslim", "numpy", "paddle-mrecg")


@dataclasses.dataclass
class Report:
    """Everything that a reader of the result may ask.

    Attributes:
        metrics(dict): ``float``, ``nearest`` and ``quantized``, each name ->
            value; empty without labels.
        units(list[UnitReport]): the reconstructed units in order.
        first_pass(list[UnitReport]): the single modules that data-dependent
            joining measured; may be empty.
        layers(list[LayerReport]): error of every quantized layer by itself, in execution order.
        output_error(float): squared error of what leaves the last quantized layers over its
            variance, on calibration samples; of several ends the worst; None if it was not
            measured.
        weights(dict): weight name -> ``dict(bits=, scale=)``, scale being
            ``per_channel`` or ``per_tensor``.
        activations(dict): activation name -> ``dict(bits=, signed=)``.
        float_tensors(dict): weight or op output that stays float -> why.
        equalized(list[dict]): channels that were scaled: ``layers``, ``way`` (``fold`` or
            ``multiply``), the layers' relative errors ``before`` and ``after``, ``ratio`` of the
            largest factor to the smallest.
        seconds(dict): stage -> duration.
        peak_memory(int): largest resident set of the process, in bytes; 0 when unknown.
        expected_memory(int): the same as it was predicted before the start.
        temporary_files(int): bytes of samples and activations beyond that, in files.
        speed(dict): runtime -> ``deploy.speed.compare_speed``'s figures; empty if not measured.
        equalize_cost(dict): runtime -> time of the inserted multiplications over that of the
            quantized program without them; empty without them or if not measured.
        sizes(dict): ``float_file``, ``quantized_file`` (from ``file_sizes``) and
            ``codes`` (from ``code_sizes``).
        verification(dict): ``verdict`` on the exported program against the simulation, ``why``,
            ``agreement`` of labels and boxes, ``max_abs_diff``, ``max_abs_output``, ``samples``.
        cpu_tuning(dict): start-up settings that were applied, from ``tune_cpu``.
        samples(dict): purpose -> number of samples.
        status(str): ``complete``, or ``interrupted`` when the units missing from ``units``
            stayed at nearest rounding.
        notes(list[str]): sentences that the reader must not miss; printed below the table.
    """

    metrics: Dict[str, Dict[str, float]] = dataclasses.field(default_factory=dict)
    units: List[UnitReport] = dataclasses.field(default_factory=list)
    first_pass: List[UnitReport] = dataclasses.field(default_factory=list)
    layers: List[LayerReport] = dataclasses.field(default_factory=list)
    output_error: Optional[float] = None
    weights: Dict[str, Dict] = dataclasses.field(default_factory=dict)
    activations: Dict[str, Dict] = dataclasses.field(default_factory=dict)
    float_tensors: Dict[str, str] = dataclasses.field(default_factory=dict)
    equalized: List[Dict] = dataclasses.field(default_factory=list)
    seconds: Dict[str, float] = dataclasses.field(default_factory=dict)
    peak_memory: int = 0
    expected_memory: int = 0
    temporary_files: int = 0
    speed: Dict[str, Dict] = dataclasses.field(default_factory=dict)
    equalize_cost: Dict[str, float] = dataclasses.field(default_factory=dict)
    sizes: Dict[str, Dict] = dataclasses.field(default_factory=dict)
    verification: Dict[str, float] = dataclasses.field(default_factory=dict)
    samples: Dict[str, int] = dataclasses.field(default_factory=dict)
    cpu_tuning: Dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    config: Dict[str, Any] = dataclasses.field(default_factory=dict)
    versions: Dict[str, str] = dataclasses.field(default_factory=lambda: installed_versions())
    device: str = dataclasses.field(default_factory=lambda: device_name())
    status: str = "complete"
    notes: List[str] = dataclasses.field(default_factory=list)
    format_version: int = FORMAT_VERSION

    def curves(self) -> List[LossCurve]:
        """Loss per module without joining (first pass, or nothing was joined) and with it."""
        curves = []
        # shorter than the final pass, and the reader of the picture must know it
        if self.first_pass:
            iterations = max(u.iterations for u in self.first_pass)
            curves = [LossCurve.of_units(f"without joining (first pass, {iterations} iterations)",
                                         self.first_pass)]
        joined = any(len(u.modules) > 1 for u in self.units)
        return (curves
                + [LossCurve.of_units("with joining" if joined else "without joining", self.units)])

    def oscillation(self) -> Dict[str, Dict]:
        """``Curve.measures`` of the curves ``first_pass`` (where there was one) and ``final``."""
        keys = (["first_pass"] if self.first_pass else []) + ["final"]
        return {key: curve.measures() for key, curve in zip(keys, self.curves())}

    def recovered(self, metric: str) -> Optional[float]:
        """Share of what rounding to nearest lost that the job won back; None when nothing was lost.

        The baseline has corrected biases where the job corrects biases.
        """
        full, quantized = self._score("float", metric), self._score("quantized", metric)
        baseline = self._score("nearest_bias", metric)
        baseline = self._score("nearest", metric) if baseline is None else baseline
        if None in (full, baseline, quantized) or full == baseline:
            return None
        return (quantized - baseline) / (full - baseline)

    def _score(self, stage: str, metric: str) -> Optional[float]:
        return self.metrics.get(stage, {}).get(metric)

    def to_dict(self) -> Dict:
        """JSON-able, with the derived numbers in it."""
        metrics = sorted({m for values in self.metrics.values() for m in values})
        return dict(dataclasses.asdict(self), units=[u.to_dict() for u in self.units],
                    first_pass=[u.to_dict() for u in self.first_pass],
                    recovered={m: self.recovered(m) for m in metrics},
                    oscillation=self.oscillation())

    @classmethod
    def from_dict(cls, entry: Dict) -> "Report":
        """The reverse of ``to_dict``; a report of a later format keeps what this version knows."""
        known = {f.name for f in dataclasses.fields(cls)}
        report = cls(**{k: v for k, v in entry.items() if k in known})
        report.units = [UnitReport.from_dict(u) for u in report.units]
        report.first_pass = [UnitReport.from_dict(u) for u in report.first_pass]
        report.layers = [LayerReport.from_dict(layer) for layer in report.layers]
        return report

    def save(self, path: str):
        """Write report.json; raises OutputError."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str) -> "Report":
        """Read report.json.

        Raises:
            DataError: the file is missing or is not a report.
        """
        try:
            with open(path, encoding="utf-8") as file:
                return cls.from_dict(json.load(file))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"'{path}' is not a readable report.json of paddle_mrecg: give the "
                            "save_dir of a finished run") from error

    def table(self) -> str:
        """The fixed-width table printed at the end."""
        return "\n".join(self._metric_lines() + self._size_lines() + self._cost_lines())

    def _metric_lines(self) -> List[str]:
        names = list(dict.fromkeys(m for s in STAGES for m in self.metrics.get(s, {})))
        if not names:
            return ["no labels or evaluator given: nothing to score"]
        width = max(16, *(len(n) + 1 for n in names))
        stages = [s for s in STAGES if s in self.metrics]
        titles = [s.replace("nearest_bias", "near.+bias") for s in stages]
        lines = [f"{'metric':<{width}}" + "".join(f"{s:>11}" for s in titles)
                 + f"{'change':>11}{'recovered':>11}"]
        lines.append("-" * len(lines[0]))
        for name in names:
            values = [self._score(s, name) for s in stages]
            full, ours = self._score("float", name), self._score("quantized", name)
            change = None if None in (full, ours) else ours - full
            lines.append(f"{name:<{width}}" + "".join(f"{_four_digits(v):>11}" for v in values)
                         + f"{_four_digits(change, '+'):>11}"
                         + f"{_whole_percent(self.recovered(name)):>11}")
        return lines + ["change: quantized - float; recovered: share of nearest rounding's loss "
                        "(with corrected biases where there are) won back"]

    def _size_lines(self) -> List[str]:
        lines = [""]
        for label, key in (("float", "float_file"), ("quantized", "quantized_file")):
            if key in self.sizes:
                size = self.sizes[key]
                lines.append(f"{label + ' model':<16}{size_text(size['bytes']):>11}"
                             f"{size_text(size['zipped']):>11} zipped")
        if "codes" in self.sizes:
            codes = self.sizes["codes"]
            lines.append(f"{'weight codes':<16}{size_text(codes['int8']):>11}"
                         f"{size_text(codes['zipped']):>11} zipped"
                         f"{size_text(codes['entropy_coded']):>11} ideally coded   "
                         f"(float32 {size_text(codes['float32'])})")
        return lines if len(lines) > 1 else []

    @property
    def agrees(self) -> bool:
        """False when the exported program computes something else than what was simulated."""
        found = self.verification
        if "verdict" in found or "max_abs_diff" not in found:
            return found.get("verdict", "agrees").startswith("agrees")
        return found["max_abs_diff"] <= SAME * found["max_abs_output"]

    def _verdict_lines(self) -> List[str]:
        found = self.verification
        line = f"exported program against simulation: {found.get('verdict', 'not judged')}"
        if "max_abs_diff" in found:
            line += (f"; max |difference| {found['max_abs_diff']:.3g} of "
                     f"{found['max_abs_output']:.3g}")
        return [line] + ([f"  {found['why']}"] if found.get("why") else []) + [
            f"  {sentence}" for sentence in found.get("agreement", ())]

    def _cost_lines(self) -> List[str]:
        lines = [""]
        if self.verification:
            lines += self._verdict_lines()
        if self.seconds:
            lines.append("time: " + ", ".join(f"{k} {duration(s)}" for k, s in self.seconds.items())
                         + f"; together {duration(sum(self.seconds.values()))}")
        lines.append(", ".join([self.device] + [f"{k} {v}" for k, v in self.versions.items()]
                               + [f"seed {self.seed}"]))
        return (lines + ([f"status: {self.status}"] if self.status != "complete" else [])
                + self.notes)


def _whole_percent(share: Optional[float]) -> str:
    """Whole percent, without a minus in front of 0."""
    return "-" if share is None else f"{round(100 * share) + 0} %"


def _four_digits(value, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.4f}"


def size_text(count: int) -> str:
    """Bytes with a unit, three digits or so: ``500 B``, ``1.40 MB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.2f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def installed_versions() -> Dict[str, str]:
    """Versions of Python and of the packages that matter."""
    found = dict(python=platform.python_version())
    for distribution in DISTRIBUTIONS:
        try:
            found[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def peak_memory() -> int:
    """Largest resident set of this process so far, in bytes; 0 where the system does not tell."""
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def device_name() -> str:
    """The GPU in use, else the processor with its number of cores; never a host name."""
    paddle = sys.modules.get("paddle")  # never imported only to name the device
    if paddle is not None and paddle.device.get_device().startswith("gpu"):
        return paddle.device.cuda.get_device_name()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file
                     if line.startswith("model name")]
    except OSError:
        names = []
    return (f"{names[0] if names else platform.processor() or platform.machine()} "
            f"({os.cpu_count()} cores)")
