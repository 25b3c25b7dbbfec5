# SPDX-License-Identifier: Apache-2.0
"""Start a host's quant-aware training from the weights of a released inference model.

Released models are often inference programs only; their training checkpoints are a download away,
or not to be had. The parameters are the same numbers: layers run in the order of the program's ops,
so they are matched one by one in that order.
"""
from typing import List, Tuple

import numpy as np
import paddle

from paddle_mrecg.errors import ModelError
from paddle_mrecg.graph.load import load_graph

# in the order of a layer's own tensors
SLOTS = ("Filter", "W", "Y", "Scale", "Bias", "Mean", "Variance")
TENSORS = ("weight", "bias", "_mean", "_variance")


def load_released(layer: paddle.nn.Layer, model_dir: str, sample: paddle.Tensor) -> int:
    """Set the parameters of ``layer`` to those of an inference model, in place.

    Args:
        layer(paddle.nn.Layer): the same architecture as a host builds it.
        model_dir(str): directory or file prefix of the inference model.
        sample(Tensor): an input, to see in which order the layers run.

    Returns:
        int: how many tensors were set.

    Raises:
        ModelError: the tensors do not match in number or shape.
    """
    wanted, found = _tensors_in_order(layer, sample), _parameters_in_order(model_dir)
    if len(wanted) != len(found):
        raise ModelError(f"the network has {len(wanted)} tensors, the program {len(found)}: "
                         "another architecture, or batch norms folded into weights")
    for (name, tensor), (parameter, value) in zip(wanted, found):
        if tensor.size != value.size:
            raise ModelError(f"'{name}' has shape {tensor.shape}, '{parameter}' of the program "
                             f"{list(value.shape)}")
        tensor.set_value(value.reshape(tensor.shape).astype(np.float32))
    return len(wanted)


def _parameters_in_order(model_dir: str) -> List[Tuple[str, np.ndarray]]:
    graph = load_graph(model_dir)
    names = [name for op in graph.ops for slot in sorted(op.inputs, key=_rank)
             for name in op.inputs[slot]]
    return [(name, graph.params[name]) for name in dict.fromkeys(names)
            if name in graph.params and graph.params[name].dtype == np.float32]


def _rank(slot: str) -> int:
    # a bias that is reshaped first stands in another slot
    return SLOTS.index(slot) if slot in SLOTS else len(SLOTS)


def _tensors_in_order(layer, sample) -> List[Tuple[str, paddle.Tensor]]:
    found, hooks, training = {}, [], layer.training
    for name, sub in layer.named_sublayers():
        tensors = [(f"{name}.{key}", getattr(sub, key, None)) for key in TENSORS]
        tensors = [(key, tensor) for key, tensor in tensors if isinstance(tensor, paddle.Tensor)]
        hooks.append(
            sub.register_forward_post_hook(
                lambda sub, inputs, output, own=tensors: found.update(own)
            )
        )
    layer.eval()
    try:
        with paddle.no_grad():
            layer(sample)
    finally:
        layer.training = training
        for sub in layer.sublayers():
            sub.training = training
        for hook in hooks:
            hook.remove()
    return list(found.items())
