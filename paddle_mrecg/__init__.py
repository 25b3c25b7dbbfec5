# SPDX-License-Identifier: Apache-2.0
"""Post-training quantization with mixed reconstruction granularity (MRECG) for PaddlePaddle.

Public names are loaded when they are first used: importing this package
imports neither Paddle nor anything that reads files or changes settings.
"""
import importlib
# Paddle 2.6 exports one of its own: with this first, PNG files can be read after importing Paddle.
import zlib  # noqa: F401

__version__ = "0.1.0"

_PUBLIC = {  # name -> module
    "quant_post_mrecg": "post.job",
    "plan_post": "post.job",
    "Result": "post.job",
    "quant_aware_prepare": "aware.job",
    "freeze": "aware.job",
    "export_quantized": "aware.job",
    "load_config": "config.io",
    "load_training_config": "config.io",
    "save_config": "config.io",
    "Config": "config",
    "load_graph": "graph.load",
    "Report": "report.report",
    "MrecgError": "errors",
    "register": "slim.registration",
    "unregister": "slim.registration",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'; it has "
                         f"{', '.join(__all__)}")


def __dir__():
    return sorted(set(globals()) | set(__all__))
