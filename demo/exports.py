# SPDX-License-Identifier: Apache-2.0
"""Layers of the demos as exported inference models, kept for the next run."""
from pathlib import Path
from typing import Callable

import paddle
from paddle.static import InputSpec


def exported(name: str, build: Callable, cache_dir: str) -> str:
    """Directory of an exported Layer; made once per Paddle version.

    Args:
        name(str): of the directory.
        build(callable): -> (Layer, shape of one sample).
        cache_dir(str): where exports are kept.
    """
    directory = Path(cache_dir) / f"{name}-paddle{paddle.__version__}"
    if not (directory / "inference.pdiparams").exists():
        # weights have the same names whatever was built before: configs name them
        with paddle.utils.unique_name.guard():
            layer, shape = build()
        paddle.jit.save(layer, str(directory / "inference"),
                        input_spec=[InputSpec([None, *shape], "float32", "image")])
    return str(directory)
