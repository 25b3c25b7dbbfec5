# SPDX-License-Identifier: Apache-2.0
"""The moving average of a network's weights."""
import contextlib
from typing import Dict

import paddle

WARMUP = 10.0  # the average is young at first: its decay starts at 1 / WARMUP


class WeightAverage:
    """Exponential moving average of all floating parameters and buffers.

    Args:
        network(paddle.nn.Layer): whose weights are followed.
        decay(float): in (0, 1), e.g. 0.999.
    """

    def __init__(self, network: paddle.nn.Layer, decay: float):
        self._decay, self._updates = decay, 0
        self._followed = {name: t for name, t in network.state_dict().items()
                          if t.dtype == paddle.float32}
        self._averages = {name: t.clone().detach() for name, t in self._followed.items()}

    @paddle.no_grad()
    def update(self):
        """Take in the present weights; to be called after every step."""
        self._updates += 1
        decay = min(self._decay, (1.0 + self._updates) / (WARMUP + self._updates))
        for name, tensor in self._followed.items():
            average = self._averages[name]
            average.scale_(decay)
            average.add_(tensor * (1.0 - decay))

    @contextlib.contextmanager
    def applied(self):
        """Within this context the network has the averages for weights."""
        kept = {name: tensor.clone() for name, tensor in self._followed.items()}
        self.apply()
        try:
            yield
        finally:
            self._set(kept)

    def apply(self):
        """Give the network the averages for weights, for good."""
        self._set(self._averages)

    def _set(self, values):
        for name, tensor in self._followed.items():
            tensor.set_value(values[name])

    def state_dict(self) -> Dict:
        """For a checkpoint."""
        return dict(updates=self._updates, averages=dict(self._averages))

    def set_state_dict(self, state: Dict):
        """Go on where ``state_dict`` was."""
        self._updates = int(state["updates"])
        for name, average in self._averages.items():
            average.set_value(state["averages"][name])
