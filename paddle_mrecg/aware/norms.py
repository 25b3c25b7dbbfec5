# SPDX-License-Identifier: Apache-2.0
"""Weights that a weight norm or spectral norm computes in front of every forward pass.

The hook would compute the float weight again in a frozen model, and again while it is traced.
"""
from paddle.nn.utils.spectral_norm_hook import SpectralNorm
from paddle.nn.utils.weight_norm_hook import WeightNorm


def keep_weight(layer):
    """Turn weights that such a hook computes into parameters with the present values, in place."""
    for key, hook in list(layer._forward_pre_hooks.items()):
        if not isinstance(hook, (WeightNorm, SpectralNorm)):
            continue
        hook(layer, ())
        value = getattr(layer, hook.name).detach().clone()
        delattr(layer, hook.name)
        for part in ("_g", "_v", "_orig", "_u"):
            layer._parameters.pop(hook.name + part, None)
            if layer._buffers.pop(hook.name + part, None) is not None:
                layer._non_persistable_buffer_names_set.discard(hook.name + part)
        weight = layer.create_parameter(value.shape, dtype=value.dtype)
        weight.set_value(value)
        layer.add_parameter(hook.name, weight)
        del layer._forward_pre_hooks[key]
