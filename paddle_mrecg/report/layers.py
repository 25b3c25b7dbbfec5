# SPDX-License-Identifier: Apache-2.0
"""What quantization did to each layer by itself, and how its values lie on their grid."""
import dataclasses
from typing import Dict, List, Optional, Sequence

HISTOGRAM_COLUMNS = 120  # of a histogram, at most


@dataclasses.dataclass
class Histogram:
    """How values lie on a grid.

    Attributes:
        low(float): left end of the first column, in the unit of the values, or in steps where
            every channel has its own step.
        high(float): right end of the last column.
        counts(list[int]): per column; the two outermost also hold what lies beyond them.
        grid_low(float): smallest level of the grid.
        grid_high(float): largest level.
        levels(int): number of levels, evenly spaced.
        used(int): levels that some value is rounded to.
        outside(float): share of values more than half a step beyond the grid, in [0, 1].
    """

    low: float
    high: float
    counts: List[int]
    grid_low: float
    grid_high: float
    levels: int
    used: int
    outside: float


@dataclasses.dataclass
class LayerReport:
    """One quantized layer.

    The errors are of the layer alone: it reads the float network's activations, and its output is
    compared with that of the float layer, as root mean square of the difference over that of the
    output's variation. Where biases are corrected, a constant difference per channel does not
    count.

    Attributes:
        name(str): its weight.
        op(str): type of the op.
        shape(list[int]): of the weight.
        weight_bits(int): 2 to 8.
        activation_bits(int, optional): of the input; None when it stays float.
        error(float): with both quantized.
        weight_error(float): with the weight alone quantized.
        activation_error(float): with the input alone quantized.
        arriving_error(float): at the same place in the whole quantized network, where the errors
            of the layers in front arrive, too.
        weights(Histogram, optional): of the float weight, in steps; of the worst layers only.
        activations(Histogram, optional): of the input; of the worst layers only.
    """

    name: str
    op: str
    shape: List[int]
    weight_bits: int
    activation_bits: Optional[int]
    error: float
    weight_error: float
    activation_error: float
    arriving_error: float
    weights: Optional[Histogram] = None
    activations: Optional[Histogram] = None

    @classmethod
    def from_dict(cls, entry: Dict) -> "LayerReport":
        """The reverse of ``dataclasses.asdict``; null becomes NaN."""
        known = {f.name: entry[f.name] for f in dataclasses.fields(cls) if f.name in entry}
        for name in ("error", "weight_error", "activation_error", "arriving_error"):
            known[name] = float("nan") if known[name] is None else known[name]
        for name in ("weights", "activations"):
            if known.get(name):
                known[name] = Histogram(**known[name])
        return cls(**known)


def ranked(layers: Sequence[LayerReport]) -> List[LayerReport]:
    """The worst first; what could not be measured last."""
    return sorted(layers, key=lambda layer: -layer.error if layer.error == layer.error else 1.0)
