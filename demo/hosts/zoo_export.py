# SPDX-License-Identifier: Apache-2.0
"""How the hosts of ``zoo.py`` export their networks."""
import contextlib
import importlib
import os
import sys
from pathlib import Path
from typing import Dict, List, Tuple
from unittest import mock

import numpy as np
import paddle

from demo import sources
from demo.hosts.zoo_models import SEG_SIDE, names_of

Feed = Dict[str, np.ndarray]


def export(host: str, model: str, checkout: Path, folder: Path
           ) -> Tuple[str, Feed, List[np.ndarray]]:
    """Build a model with weights drawn by a seed, export it and run what was exported.

    Returns:
        tuple: the file prefix of its program, what the program reads, and its outputs.
    """
    paddle.seed(3)
    found = {"PaddleClas": _clas, "PaddleDetection": _det, "PaddleOCR": _ocr, "PaddleSeg": _seg,
             "PaddleYOLO": _det}[host](model, checkout, folder)
    prefix = str(next(folder.rglob("*.pdiparams")).with_suffix(""))
    exported = as_exported(prefix)
    feed = found if isinstance(found, dict) else dict(zip(exported.input_names, found))
    feed = {name: feed[name] for name in exported.input_names}
    return prefix, feed, exported(feed)


def as_exported(prefix: str):
    """The program that the host wrote, run without Paddle's rewrites."""
    from paddle_mrecg.deploy.predictor import Predictor
    program = next(name for name in (prefix + ".json", prefix + ".pdmodel") if os.path.isfile(name))
    return Predictor((program, prefix + ".pdiparams"), optimize=False)


def _clas(model, checkout, folder):
    sys.path.insert(0, str(checkout or sources.package_path("paddleclas", "paddleclas==2.6.0")))
    importlib.import_module("ppcls.utils.logger").init_logger()
    layer = getattr(importlib.import_module("ppcls.arch.backbone"), model)(class_num=10)
    return _saved(layer, names_of("PaddleClas")[model], folder)


def _seg(model, checkout, folder):
    sys.path.insert(0, str(checkout))
    cvlibs = importlib.import_module("paddleseg.cvlibs")
    config = cvlibs.Config(str(checkout / "configs" / f"{model}.yml"))
    _replace(config.dic, "pretrained", None)
    return _saved(cvlibs.SegBuilder(config).model, SEG_SIDE, folder)


def _saved(layer, side: int, folder: Path):
    image = _image(2, side)
    _draw_constant_weights(layer)
    layer.eval()
    with _own_statistics(layer), paddle.no_grad():
        layer(paddle.to_tensor(image))
    spec = [paddle.static.InputSpec([None, 3, side, side], "float32", "x")]
    paddle.jit.save(paddle.jit.to_static(layer, input_spec=spec), str(folder / "inference"))
    return {"x": image}


def _det(model, checkout, folder):
    os.chdir(checkout)  # its configs name files from there
    sys.path.insert(0, str(checkout))
    workspace = importlib.import_module("ppdet.core.workspace")
    config = workspace.load_config(f"configs/{model}.yml")
    config.update(use_gpu=False, use_ema=False, pretrain_weights=None, weights=None,
                  norm_type="bn", filename="inference")
    _replace(config, "score_threshold", 0.0)  # drawn weights find nothing: give boxes all the same
    trainer = importlib.import_module("ppdet.engine").Trainer(config, mode="test")
    size = (config["TestReader"].get("inputs_def") or {}).get("image_shape") or [320, 320]
    image = _image(1, *(320 if side in (None, -1) else side for side in size[-2:]))
    feed = {"image": image, "im_shape": np.float32([image.shape[2:]]),
            "scale_factor": np.ones((1, 2), np.float32)}
    _draw_constant_weights(trainer.model)
    trainer.model.eval()
    with _own_statistics(trainer.model), paddle.no_grad():
        trainer.model({name: paddle.to_tensor(value) for name, value in feed.items()})
    trainer.export(str(folder))
    return feed


def _ocr(model, checkout, folder):
    """By PaddleOCR's own ``tools/export_model.py``, with drawn weights in place of loaded ones."""
    os.chdir(checkout)  # its configs name dictionaries from there
    sys.path.insert(0, str(checkout))
    script = importlib.import_module("tools.export_model")
    to_static, load_config, feed = script.to_static, script.load_config, []

    def without_downloads(path):
        config = load_config(path)
        _replace(config, "pretrained", False)
        return config

    def traced(layer, input_spec):
        feed.extend(_values(paddle.utils.flatten(input_spec)))
        _draw_constant_weights(layer)
        with _own_statistics(layer), paddle.no_grad():
            layer(*paddle.utils.pack_sequence_as(input_spec, [paddle.to_tensor(v) for v in feed]))
        return to_static(layer, input_spec=input_spec)
    words = ["export_model.py", "-c", f"configs/{model}.yml", "-o", "Global.use_gpu=False",
             f"Global.save_inference_dir={folder}"]
    with mock.patch.multiple(script, load_model=lambda *_, **__: None, to_static=traced,
                             load_config=without_downloads), \
            mock.patch.object(sys, "argv", words):
        script.main()
    return feed


def _values(specs):
    """Images between -1 and 1, positions along the second axis for integers, widths of 1."""
    for spec in specs:
        free = iter([2, *([SEG_SIDE] * spec.shape.count(-1))])
        shape = [next(free) if side in (None, -1) else side for side in spec.shape]
        if "int" in str(spec.dtype):
            yield np.broadcast_to(np.arange(shape[1]).reshape(-1, *[1] * (len(shape) - 2)), shape
                                  ).astype("int64") * (len(shape) < 4)
        elif len(shape) == 1:
            yield np.ones(shape, np.float32)
        else:
            yield np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)


def _draw_constant_weights(layer):
    """Heads that start at zero would give the same outputs for every image. Small ones: offsets of
    deformable convolutions must not reach far, or outputs jump with the last digits of the input.
    """
    for weight in layer.parameters():
        if weight.ndim > 1 and float(weight.max()) == float(weight.min()):
            spread = min(0.05, 0.5 / float(np.sqrt(np.prod(weight.shape[1:]))))
            weight.set_value(paddle.normal(0.0, spread, weight.shape))


@contextlib.contextmanager
def _own_statistics(layer):
    """Within it every batch norm takes over the statistics of what it gets: with the ones that it
    starts with, drawn weights let activations die out or grow without end.
    """
    def take(norm, inputs):
        axes = [k for k in range(inputs[0].ndim) if k != 1]
        norm._mean.set_value(inputs[0].mean(axes))
        norm._variance.set_value(inputs[0].var(axes, unbiased=False) + 1e-3)
    hooks = [each.register_forward_pre_hook(take) for each in layer.sublayers()
             if hasattr(each, "_variance") and hasattr(each, "_mean")]
    yield
    for hook in hooks:
        hook.remove()


def _image(count: int, height: int, width: int = None) -> np.ndarray:
    return np.random.default_rng(1).uniform(-2, 2, (count, 3, height, width or height)).astype(
        np.float32)


def _replace(settings, key: str, value):
    """Everywhere in a nested dict."""
    for name, each in list(settings.items()):
        if name == key:
            settings[name] = value
        elif isinstance(each, dict):
            _replace(each, key, value)
