# SPDX-License-Identifier: Apache-2.0
"""Weights of the Fisher reconstruction loss (BRECQ, arXiv 2102.05426, section 3.3).

BRECQ weighs the squared error of a unit's output z by the squared gradient of
the network's loss. The diagonal of the Fisher matrix of a softmax output p is
``sum_i (dp_i/dz)^2 / p_i = E_r[(d(r . 2 sqrt p)/dz)^2]`` for random signs r;
one backward pass per batch estimates it. (The public BRECQ code adds 1 to the
gradient and so behaves like plain squared error.) Outputs that are not
probabilities use ``r . y``: the Gauss-Newton diagonal of their squared error.
"""
from typing import Dict, List

import numpy as np
import paddle

from ..graph.ops import run_op

LARGEST_WEIGHT = 100.0  # one element never weighs more than this many times the mean


def importance(network, names: List[str], chunk: int = 16) -> Dict[str, np.ndarray]:
    """Squared gradients at ``names``, mean 1 per tensor, for every sample.

    Args:
        network(Network): the folded graph, its ops up to the last that dygraph can run, samples,
            the store that holds the result, and the seed of the random signs.
        names(list[str]): unit outputs.
        chunk(int, optional): samples per backward pass. Default: 16.
    """
    rng, ops, samples = np.random.default_rng(network.seed), network.reached, network.samples
    params = {n: paddle.to_tensor(v) for n, v in network.graph.params.items()}
    wanted, result = set(names), {}
    count = len(next(iter(samples.values())))
    for start in range(0, count, chunk):
        values = dict(params)
        for name, value in samples.items():
            values[name] = paddle.to_tensor(value[start:start + chunk])
        for op in ops:
            values.update(run_op(op, values))
            for name in wanted.intersection(op.output_names):
                values[name].stop_gradient = False  # gradients begin here: inputs may be ids
        score = sum(_projected(values[n], rng) for n in _ends(ops, values))
        grads = paddle.grad([score], [values[n] for n in names], allow_unused=True)
        for name, grad in zip(names, grads):
            squared = (np.square(grad.numpy()) if grad is not None
                       else np.ones(values[name].shape, np.float32))
            if name not in result:
                result[name] = network.store.allocate((count,) + squared.shape[1:])
            result[name][start:start + chunk] = squared
    for array in result.values():
        _bounded(array, chunk)
    return result


def _ends(ops, values) -> List[str]:
    """Where gradients can begin: floats that nothing turns into other floats, so what an argmax
    reads as well.
    """
    floats = {n for n, v in values.items() if paddle.is_floating_point(v)}
    passed_on = {n for op in ops if floats.intersection(op.output_names) for n in op.input_names}
    return [n for op in ops for n in op.output_names if n in floats - passed_on]


def _bounded(array, chunk: int):
    """Mean 1, no value above LARGEST_WEIGHT times it, and mean 1 again."""
    parts = [slice(start, start + chunk) for start in range(0, len(array), chunk)]
    for limit in (np.inf, LARGEST_WEIGHT):
        for part in parts:
            array[part] = np.minimum(array[part], np.float32(limit))
        mean = sum(float(array[part].sum(dtype=np.float64)) for part in parts) / array.size
        for part in parts:
            array[part] = array[part] / np.float32(max(mean, 1e-30))


def _projected(output: paddle.Tensor, rng) -> paddle.Tensor:
    """Random projection whose squared gradient has the Fisher diagonal as expectation."""
    signs = paddle.to_tensor(rng.choice(np.float32([-1, 1]), size=output.shape))
    flat = output.detach()
    probabilities = output.ndim > 1 and float(flat.min()) >= 0 and bool(
        paddle.allclose(flat.sum(-1), paddle.ones(flat.shape[:-1]), atol=1e-3))
    return (signs * (2.0 * paddle.sqrt(output + 1e-12) if probabilities else output)).sum()
