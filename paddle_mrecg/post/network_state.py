# SPDX-License-Identifier: Apache-2.0
"""The quantized network so far: what one unit hands on to the next."""
import dataclasses
from typing import Dict

import numpy as np
import paddle

from ..grids.affine import Encoding, dequantize, quantize
from .activation_quantizer import ActivationQuantizer


@dataclasses.dataclass
class NetworkState:
    """The quantized network so far: grids of all weights and activations, and
    the weights' integer codes.
    """

    weight_encodings: Dict[str, Encoding]
    codes: Dict[str, np.ndarray]
    activation_encodings: Dict[str, Encoding]
    # parameter -> corrected bias; the float network keeps its own
    biases: Dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    # weights whose codes were solved: reconstruction starts from those
    solved: set = dataclasses.field(default_factory=set)
    # weights, activations and biases that no later unit may change
    finished: set = dataclasses.field(default_factory=set)

    @classmethod
    def nearest(cls, params, weight_encodings, activation_encodings) -> "NetworkState":
        """Every weight rounded to nearest: the start, and the baseline."""
        codes = {n: quantize(params[n], e) for n, e in weight_encodings.items()}
        return cls(dict(weight_encodings), codes, dict(activation_encodings))

    def copy(self) -> "NetworkState":
        return NetworkState(dict(self.weight_encodings), dict(self.codes),
                            dict(self.activation_encodings), dict(self.biases),
                            set(self.solved), set(self.finished))

    def weight(self, name: str) -> np.ndarray:
        """The dequantized weight, float32."""
        return dequantize(self.codes[name], self.weight_encodings[name]).astype(np.float32)

    def quantizers(self, names) -> Dict[str, ActivationQuantizer]:
        return {n: ActivationQuantizer(self.activation_encodings[n], learn=False, clip="none")
                for n in names}

    def weights(self, names) -> Dict[str, paddle.Tensor]:
        return {n: paddle.to_tensor(self.weight(n)) for n in names}

    def parameters(self, runner) -> Dict[str, paddle.Tensor]:
        """Dequantized weights and corrected biases of the ops that ``runner`` runs."""
        biases = {n: paddle.to_tensor(self.biases[n]) for n in runner.fixed if n in self.biases}
        return dict(self.weights(runner.weights), **biases)
