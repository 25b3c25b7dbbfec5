# SPDX-License-Identifier: Apache-2.0
"""Factors per channel that a network can carry without computing anything else.

A positive factor on a channel passes ReLU, pooling, additions of channels with the same factor, and
all else that is positively homogeneous; a weight in front takes it up and a weight behind gives it
back (Nagel et al. 2019, arXiv 1906.04721). So every channel of every tensor belongs to a *class*:
channels of one class must have the same factor, and those of class 0 the factor 1. Whatever factors
the other classes get, the network stays the same function.
"""
import dataclasses
from typing import Callable, Dict, List, Optional, Tuple

import numpy as np

from .graph import Graph

FIXED = 0  # the class of channels that must keep their values
# op type -> rule(ChannelClasses, Op) -> whether it could follow
CHANNEL_RULES: Dict[str, Callable] = {}


def channel_rule(*op_types: str):
    """Register a rule for ops that let factors pass, take them up or give them back."""
    def register(function):
        CHANNEL_RULES.update(dict.fromkeys(op_types, function))
        return function
    return register


@dataclasses.dataclass(frozen=True)
class Channels:
    """The channels of one tensor: their axis, the tensor's rank, and a class for each."""

    rank: int
    axis: int
    classes: np.ndarray

    def spread(self, values: np.ndarray) -> np.ndarray:
        """One value per channel, shaped to broadcast over the tensor."""
        return values.reshape([-1 if k == self.axis else 1 for k in range(self.rank)])


class ChannelClasses:
    """Classes of all channels of a graph; filled by ``graph.homogeneous.channel_classes``.

    Args:
        graph(Graph): the graph; only ``apply`` changes it.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self._parent = [FIXED]
        self._tensors: Dict[str, Channels] = {}
        self._scalings: List[Tuple[str, Callable]] = []
        self._reads: Dict[str, int] = {}
        for op in graph.ops:
            for name in op.input_names:
                self._reads[name] = self._reads.get(name, 0) + 1

    def __len__(self):
        """How many factors ``apply`` takes."""
        return len(self._parent)

    def of(self, name: str) -> Optional[np.ndarray]:
        """The class of each channel of a tensor, ``[C]``; None when all of it is fixed."""
        channels = self._tensors.get(name)
        return None if channels is None else self._roots(channels.classes)

    def apply(self, factors: np.ndarray):
        """Multiply channels by the factors of their classes, in the graph's parameters.

        Args:
            factors(array): positive, ``[len(self)]``; only those of classes that ``of`` gives are
                read, and that of class 0 must be 1.
        """
        every = np.asarray(factors, np.float64)[self._roots(np.arange(len(self)))]
        params = self.graph.params
        for name, scaling in self._scalings:
            params[name] = (params[name] * scaling(every)).astype(params[name].dtype)

    # What the rules of ``graph.homogeneous`` are written in.

    def channels(self, name: Optional[str]) -> Optional[Channels]:
        """The channels of a tensor as far as rules have followed them."""
        return self._tensors.get(name)

    def own(self, name: Optional[str]) -> Optional[np.ndarray]:
        """The parameter ``name`` if only one op reads it, so that it may be scaled, else None."""
        return self.graph.params.get(name) if self._reads.get(name) == 1 else None

    def is_fixed(self, channels: Optional[Channels]) -> bool:
        return channels is None or not self._roots(channels.classes).any()

    def fresh(self, name: str, rank: int, axis: int, count: int) -> np.ndarray:
        """New classes for the channels of a tensor that an op may scale as it likes."""
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return self.put(name, Channels(rank, axis, np.arange(start, start + count)))

    def put(self, name: str, channels: Channels) -> np.ndarray:
        self._tensors[name] = channels
        return channels.classes

    def scale(self, param: str, scaling: Callable[[np.ndarray], np.ndarray]):
        """A parameter that is multiplied by ``scaling(factors of all classes)``."""
        self._scalings.append((param, scaling))

    def fix(self, name: str):
        """The channels of a tensor keep their values."""
        channels = self._tensors.get(name)
        if channels is not None:
            self.tie(channels.classes, np.zeros_like(channels.classes))

    def tie(self, left: np.ndarray, right: np.ndarray):
        """Channels that must have the same factor, one by one."""
        for a, b in zip(self._roots(left).tolist(), self._roots(right).tolist()):
            a, b = self._root(a), self._root(b)
            self._parent[max(a, b)] = min(a, b)

    def _root(self, k: int) -> int:
        while self._parent[k] != k:
            self._parent[k] = self._parent[self._parent[k]]
            k = self._parent[k]
        return k

    def _roots(self, classes: np.ndarray) -> np.ndarray:
        return np.array([self._root(k) for k in np.asarray(classes).tolist()], int)
