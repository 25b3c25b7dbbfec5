# SPDX-License-Identifier: Apache-2.0
"""Low-bit quantization for PaddlePaddle, as a plugin for PaddleSlim.

Public names are loaded when they are first used: importing this package imports neither Paddle nor
anything that reads files or changes settings.

Where things are
----------------
Jobs, each in a folder whose ``job.py`` is the way in (``analysis`` has ``search.py`` too)::

    post/       an exported program and samples -> a low-bit program (MRECG and its baselines)
    aware/      a model in the user's training loop -> the same
    deploy/     that program on Paddle Lite, ONNX, Paddle Inference; and does it compute the same?
    analysis/   which layers cost the accuracy (analyze), and what to do (auto): runs job 1

Three strategies, one file and one config section each: ``strategies/`` mrecg, bin_regularization,
symmetric_pact. Below the jobs, and unaware of them::

    graph/      programs of either format as one list of ops; run op by op; cut into modules
    grids/      codes, ranges, observers, the fake quantizer, the base of all quanters
    config/     sections, defaults, rules; dialect/ is PaddleSlim's names for our settings
    data/       samples and evaluators      report/   tables, pictures, the folder of a result
    scratch.py  temporary folders           files.py  files that exist as a whole or not at all

Around them: ``slim/`` (PaddleSlim's own APIs), ``hosts/`` (PaddleOCR, PaddleDetection, PaddleClas),
``cli/``. Only slim/ and hosts/ import PaddleSlim; ``tests/test_layout.py`` says which folder may
import which, and that a name is defined in one file only.

A *quanter* is a layer of ``paddle.quantization`` that fake-quantizes while training; *quantizer* is
the word for everything else that puts values on a grid. *QDQ*: a program of ``quantize_linear`` and
``dequantize_linear``, which both jobs end in and every target starts from.

To add
------
* a strategy: ``strategies/NAME.py``, its section in ``config/``, a test in ``tests/strategies``,
  its section in ``strategies/README.md`` (``test_no_dead_settings`` finds knobs without effect);
* an op: one function in ``graph/ops`` (``tests/graph/test_ops.py`` lists what has none), and its
  name in PIR if Paddle calls it otherwise;
* a quanter: ``aware/quanters/NAME.py`` and its name in ``config/aware.py``
  (``tests/aware/test_quanters.py`` runs all);
* a target: a function in ``deploy/targets.py``, a runtime in ``deploy/check/runtimes.py``
  (``tests/deploy``);
* a host: ``hosts/NAME.py`` with ``NAME``, ``PACKAGE``, ``install`` and ``look_ahead``, and its
  place in ``hosts/host.py`` (``tests/hosts`` has a stand-in of each).
"""
import importlib
# Paddle 2.6 exports one of its own: with this first, PNG files can be read after importing Paddle.
import zlib  # noqa: F401

__version__ = "0.1.0"

_PUBLIC = {  # name -> module
    "quant_post_mrecg": "post.job",
    "plan_post": "post.job",
    "Result": "post.job",
    "analyze": "analysis.job",
    "auto": "analysis.search",
    "Goal": "analysis.goal",
    "quant_aware_prepare": "aware.job",
    "freeze": "aware.job",
    "export_quantized": "aware.job",
    "FloatTeacher": "aware.distillation",
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
