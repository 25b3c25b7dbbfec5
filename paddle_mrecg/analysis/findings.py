# SPDX-License-Identifier: Apache-2.0
"""What ``analyze`` found: as a table, as files, and as lines for the config."""
import csv
import dataclasses
import io
import os
from typing import Dict, List, Sequence

import yaml

from ..errors import OutputError
from ..files import csv_cell, write_json, write_text
from .causes import FINE_BITS, ranking, worst_layers
from .picture import sensitivity_picture
from .sensitivity import PARTS, LayerEffect

MOST_SUGGESTED = 10  # layers in the lines to paste
NOTHING = 1e-3  # of the output's variance, with everything quantized: not worth a layer's bits
SUGGESTED_SHARE = 0.5  # of the summed error, which these layers should remove


@dataclasses.dataclass
class Findings:
    """The layers of a model and what their quantization does to its output.

    Attributes:
        layers(list[LayerEffect]): in execution order.
        whole(float): relative error of the output with everything quantized.
        outputs(list[str]): the tensors in which the error was measured.
        samples(int): inputs on which it was measured.
        float_metric(dict): scores of the float network; empty without an evaluator.
        seconds(float): duration of the whole analysis.
    """

    layers: List[LayerEffect]
    whole: float
    outputs: List[str]
    samples: int
    float_metric: Dict[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    def ranked(self) -> List[LayerEffect]:
        """Worst first, by the error with the layer alone quantized."""
        return ranking(self.layers)

    @property
    def negligible(self) -> bool:
        """All layers together cost next to nothing."""
        return self.whole <= NOTHING

    def suggested(self) -> List[LayerEffect]:
        """The fewest layers to change that make up half of the summed errors, at most ten; none
        where all together are ``negligible``.
        """
        if self.negligible:
            return []
        return worst_layers(self.layers, SUGGESTED_SHARE)[:MOST_SUGGESTED]

    def yaml_lines(self) -> str:
        """What to paste into the config: more bits for layers whose weight hurts, float for those
        whose input does.
        """
        section = raised(self.suggested())
        return yaml.safe_dump({"QuantPost": section}, sort_keys=False) if section else ""

    def table(self, most: int = 20) -> str:
        """The worst layers, one per line, fixed width.

        Args:
            most(int, optional): how many. Default: 20.
        """
        metrics = list(self.float_metric)
        head = ["#", "layer", "op", "bits", "weights", "activ.", "both", "if float",
                *(f"{m} change" for m in metrics), "cause"]
        rows = [[str(k), e.weight, e.op_type, f"W{e.weight_bits}A{e.activation_bits}",
                 *(_three_digits(e.on[part]) for part in PARTS), _three_digits(e.off["both"]),
                 *(f"{e.metric[m] - self.float_metric[m]:+.4f}" for m in metrics), e.cause]
                for k, e in enumerate(self.ranked()[:most], 1)]
        widths = [max(len(r[c]) for r in [head] + rows) for c in range(len(head))]
        left = {1, 2, 3, len(head) - 1}
        lines = ["  ".join(cell.ljust(w) if c in left else cell.rjust(w)
                           for c, (cell, w) in enumerate(zip(row, widths))).rstrip()
                 for row in [head] + rows]
        rest = len(self.layers) - most
        return "\n".join(lines + ([f"and {rest} more layers"] if rest > 0 else []))

    def text(self) -> str:
        """Table, its reading, and the lines to paste."""
        lines = [self.table(), "", "error of the network's output, in percent of its variance, "
                 "with this layer alone quantized (weights, activ., both), and with everything "
                 f"quantized but this layer (if float); everything quantized: "
                 f"{_three_digits(self.whole)} %"]
        advised = [e for e in self.suggested() if e.suggestion]
        lines += [f"{e.weight}: {e.cause}; {e.suggestion}" for e in advised]
        if self.negligible:
            lines += [f"no layer needs more bits: all together cost at most {100 * NOTHING:g} %"]
        pasted = self.yaml_lines()
        if pasted:
            lines += ["", "to spend bits where they count most, put into the config:", pasted]
        return "\n".join(lines).rstrip()

    def to_dict(self) -> Dict:
        """JSON-able."""
        ranks = {e.weight: k for k, e in enumerate(self.ranked(), 1)}
        return dict(dataclasses.asdict(self), layers=[dict(dataclasses.asdict(e),
                                                           rank=ranks[e.weight])
                                                      for e in self.layers])

    def save(self, folder: str):
        """Write sensitivity.csv, sensitivity.json, sensitivity.png and suggested.yaml.

        Raises:
            OutputError: the folder or a file cannot be written.
        """
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise OutputError(f"'{folder}' cannot be written ({error.strerror}): choose another "
                              "folder") from error
        write_text(os.path.join(folder, "sensitivity.csv"), self._csv())
        write_json(os.path.join(folder, "sensitivity.json"), self.to_dict())
        sensitivity_picture(os.path.join(folder, "sensitivity.png"), self.layers, self.whole)
        write_text(os.path.join(folder, "suggested.yaml"), self.yaml_lines())

    def _csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["rank", "layer", "op", "weight_bits", "activation_bits", "weights",
                         *(f"on_{p}" for p in PARTS), *(f"off_{p}" for p in PARTS),
                         *self.float_metric, "cause", "suggestion"])
        for k, e in enumerate(self.ranked(), 1):
            writer.writerow([csv_cell(v) for v in (
                k, e.weight, e.op_type, e.weight_bits, e.activation_bits, e.elements,
                *(e.on[p] for p in PARTS), *(e.off[p] for p in PARTS),
                *(e.metric[m] for m in self.float_metric), e.cause, e.suggestion)])
        return text.getvalue()


def raised(effects: Sequence[LayerEffect]) -> Dict[str, List]:
    """Keys of ``QuantPost`` that take away what hurts: 8 bits for coarse weights and activations,
    float where 8 bits are not enough.

    Args:
        effects(list[LayerEffect]): measured layers.
    """
    finer, skipped = [], []
    for effect in effects:
        by_weight = effect.on["weights"] >= effect.on["activations"]
        if by_weight and effect.weight_bits < FINE_BITS:
            finer.append(dict(pattern=literal(effect.weight), weight_bits=FINE_BITS))
        elif not by_weight and effect.activation_bits < FINE_BITS:
            finer.append(dict(pattern=literal(effect.weight), activation_bits=FINE_BITS))
        else:
            skipped.append(literal(effect.weight))
    return {**({"overrides": finer} if finer else {}), **({"skip": skipped} if skipped else {})}


def _three_digits(share: float) -> str:
    return f"{100 * share:.3g}"


def literal(name: str) -> str:
    """A pattern that matches this name alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
