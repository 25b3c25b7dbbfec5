# SPDX-License-Identifier: Apache-2.0
"""State of a training on disk: written as a whole or not at all.

The files are ``paddle.save``'s, which are pickles: load them only from sources that you trust.
"""
import io
import os

import paddle

from paddle_mrecg.errors import DataError
from paddle_mrecg.files import write_bytes


def save(state, path: str):
    """Write tensors and plain values, in nested dicts and lists.

    Raises:
        OutputError: the file cannot be written; an existing one is unchanged.
    """
    data = io.BytesIO()
    paddle.save(state, data)
    write_bytes(os.fspath(path), data.getvalue())


def load(path: str):
    """What ``save`` wrote.

    Raises:
        DataError: no such file, or it is none of Paddle's.
    """
    if not os.path.isfile(path):
        raise DataError(f"checkpoint '{path}' does not exist; give the path of one")
    try:
        return paddle.load(os.fspath(path))
    except Exception as error:  # whatever unpickling a foreign or damaged file raises
        raise DataError(f"'{path}' cannot be read as a checkpoint ({type(error).__name__}): remove "
                        "it or give another") from error


def load_weights(network: paddle.nn.Layer, path: str):
    """Fill ``network`` from a state dict file.

    Raises:
        DataError: the file is unreadable, or belongs to another network.
    """
    state = load(path)
    wanted = network.state_dict()
    differing = [name for name, tensor in wanted.items()
                 if not isinstance(state, dict) or name not in state
                 or list(state[name].shape) != list(tensor.shape)]
    if differing:
        raise DataError(f"'{path}' holds the weights of another network: {len(differing)} of "
                        f"{len(wanted)} tensors are missing or of another shape, e.g. "
                        f"'{differing[0]}'; check --model and --scale")
    network.set_state_dict({name: state[name] for name in wanted})
