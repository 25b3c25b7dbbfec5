# SPDX-License-Identifier: Apache-2.0
"""All functions that are put behind one convolution, by group."""

from .computing import ACTIVATIONS, BINARY, PRODUCTS, REDUCE, UNARY
from .layers import DETECTION, LAYERS, POOLS
from .moving import LAYOUT, MAKERS, SEARCH

GROUPS = {
    "activation": ACTIVATIONS,
    "unary": UNARY,
    "binary": BINARY,
    "product": PRODUCTS,
    "reduce": REDUCE,
    "layout": LAYOUT,
    "search": SEARCH,
    "maker": MAKERS,
    "pool": POOLS,
    "layer": LAYERS,
    "detection": DETECTION,
}
FUNCTIONS = {name: function for group in GROUPS.values() for name, function in group.items()}
