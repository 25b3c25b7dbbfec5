# SPDX-License-Identifier: Apache-2.0
"""Run ops of the neutral graph in dygraph, differentiably, on Paddle 2.6 and 3.x.

Ops keep the names, slots and attributes of ProgramDesc; an attribute that is
missing takes the default of Paddle's op. Inference semantics throughout: batch
norm uses its running statistics, dropout only scales. By-products that nothing
reads at inference (``XShape``, ``Mask``, ``SavedMean``, ...) are not produced.
"""
from . import activation, conv, create, elementwise, linear, norm, pool, reduce, shape, window
from .registry import SUPPORTED, has_gradient, run_op, run_ops

__all__ = ["SUPPORTED", "has_gradient", "run_op", "run_ops"]
