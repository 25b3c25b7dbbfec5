# SPDX-License-Identifier: Apache-2.0
"""First use: a model and a folder of images are enough for ``quant``, and ``init`` writes its
recipe.
"""
import math
import os
import sys
from typing import Dict, List, Tuple

from ..compat import import_paddle
from ..config.first_use import (CALIBRATION_IMAGES, LEAST_IMAGES, first_sections, paths_of, recipe,
                                result_dir)
from ..config.io import load_config
from ..config.schema import did_you_mean
from ..errors import ConfigError, DataError, ModelError, MrecgError
from ..files import write_text
from .commands import OK, add_command, first_samples, make_parent

INIT = """\
Writes a commented recipe for a model: 8-bit weights and activations for Paddle Lite, with the image
size and normalisation that the model's own inference.yml (PaddleOCR, PaddleClas, PaddleX),
infer_cfg.yml (PaddleDetection) or deploy.yaml (PaddleSeg) states, or that its family is known to
use. Where neither is there, it asks for them.

examples:
  paddle-mrecg init inference_model images                 # writes recipe.yaml
  paddle-mrecg init inference_model images my.yaml QuantPost.weight_bits=4 MRECG.preset=fast
  paddle-mrecg init exported photographs Data.mean=[0.5,0.5,0.5] Data.std=[0.5,0.5,0.5]
  paddle-mrecg quant --config recipe.yaml
"""
CHECKED = 4  # samples that runtimes are compared on, fewer of large ones
QUESTION = """\
how does '{model}' want its images? It holds no {files} and its name is not of a known family, so \
say what training did, behind the command: Data.mean and Data.std (per channel, of pixels / 255; \
ImageNet: Data.mean=[0.485,0.456,0.406] Data.std=[0.229,0.224,0.225], none: Data.mean=[0,0,0] \
Data.std=[1,1,1]), Data.layout=BGR if not RGB, Data.crop=resize or pad if not the middle, and \
Data.input_shape=[3,H,W] if its size is free"""


def init_command(args) -> int:
    """Write a commented recipe for a model and a folder of images."""
    words = list(args.overrides)
    paths = paths_of(words)
    output = paths[2] if len(paths) == 3 else "recipe.yaml"
    if len(paths) == 3:
        words.remove(output)
    sections, source, overrides = first_use(words, "init")
    load_config(sections, overrides)
    if os.path.exists(output):
        raise ConfigError(f"'{output}' exists: name another file behind the folder of images")
    make_parent(output, "the recipe")
    write_text(output, recipe(_overridden(sections, overrides), source))
    print(f"{output}: images as {source} says\nnext: paddle-mrecg quant --config {output}")
    return OK


def first_use(words: List[str], command: str) -> Tuple[Dict, str, List[str]]:
    """Sections for a model and a folder of images, who says how these are prepared, and the
    settings that the command line adds.

    Args:
        words(list[str]): MODEL_DIR, IMAGES and ``Section.key=value`` in any order.
        command(str): for messages.

    Raises:
        ConfigError, ModelError, DataError: a path is missing or wrong, or nothing says how the
            model wants its images.
    """
    from ..data.preprocessing import FILES, preprocessing
    paths = paths_of(words)
    overrides = [w for w in words if w not in paths]
    if len(paths) != 2:
        what = "nothing" if not paths else " ".join(paths)
        takes_file = command != "init"
        hint = (f"paddle-mrecg {command} --config {paths[0]}" if takes_file and len(paths) == 1
                and paths[0].endswith((".yaml", ".yml")) else
                f"paddle-mrecg {command} MODEL_DIR IMAGES"
                + (", or --config FILE" if takes_file else " [FILE]"))
        raise ConfigError(f"a model and a folder of images are needed, got {what}: {hint}")
    model, images = paths
    if not os.path.isdir(images):
        raise DataError(f"'{images}' is not a folder: give the folder of images behind the model")
    if not os.path.exists(model) and not os.path.isdir(os.path.dirname(model) or "."):
        raise ModelError(f"model '{model}' does not exist: give its directory or file prefix")
    found = preprocessing(model)
    named = {w.partition("=")[0] for w in overrides}
    if found is None and not {"Data.mean", "Data.std"} <= named:
        raise ModelError(QUESTION.format(model=model, files=" or ".join(FILES[:3])))
    data, source = found or ({}, "the command line")
    sections = first_sections(model, images, data, _enough_images(model, data, overrides))
    bits = _overridden(sections, overrides)["QuantPost"]
    sections["Global"]["save_dir"] = result_dir(model, bits["weight_bits"],
                                                bits["activation_bits"])
    return sections, source, overrides


def _enough_images(model: str, data: Dict, overrides: List[str]) -> int:
    """How many to calibrate with, by the size that they come to."""
    from ..data.amount import enough_of
    given = _overridden({"Data": data, "Global": {}}, overrides)
    shape = given["Data"].get("input_shape")
    if shape is None:
        import_paddle(given["Global"].get("tune_cpu", True))
        from ..graph.load import load_graph
        graph = load_graph(model)
        shape = graph.tensors[graph.inputs[0]].shape[1:]
    values = math.prod(shape) if all(side > 0 for side in shape) else 0
    return enough_of(CALIBRATION_IMAGES, values, LEAST_IMAGES)


def _overridden(sections: Dict[str, Dict], overrides: List[str]) -> Dict[str, Dict]:
    """The sections with ``Section.key=value`` put in."""
    from ..config.io import apply_overrides
    changed = {name: dict(values) for name, values in sections.items()}
    apply_overrides(changed, {}, overrides, resolved=False)
    return changed


def to_lite(result, config) -> None:
    """Behind a first run: convert for Paddle Lite and compare, where its tools are installed. That
    Paddle Inference computes what was simulated has been verified.
    """
    from ..data.amount import enough_samples
    from ..deploy.check.doctor import check
    from ..deploy.check.text import report_text
    from ..deploy.lite.env import find_lite
    from ..deploy.targets import export_model
    from ..graph.load import load_graph
    if config.global_.target != "paddle_lite":
        return
    try:
        find_lite()
    except MrecgError:
        print(f"next: paddle-mrecg lite-env, then paddle-mrecg export --target lite "
              f"{result.save_dir} makes the .nb file of Paddle Lite; paddle-mrecg check "
              f"{result.save_dir} compares runtimes", file=sys.stderr)
        return
    graph = load_graph(result.prefix, allow_quantized=True)
    try:
        files = export_model(graph, "lite", os.path.join(result.save_dir, "lite")).files
    except ModelError as error:
        print(f"the result is in {result.save_dir}; it was not converted for Paddle Lite: {error}",
              file=sys.stderr)
        return
    print("\n".join(files))
    samples = first_samples(graph, config, CHECKED)
    count = enough_samples(CHECKED, samples)
    print(report_text(check(graph, {n: v[:count] for n, v in samples.items()}, ["lite"])))


def unknown_command(word: str, commands) -> str:
    """The sentence for a subcommand that does not exist."""
    return f"no command '{word}'.{did_you_mean(word, commands)} There are {', '.join(commands)}"


def add_commands(commands) -> None:
    """Add ``init`` to the parser of ``paddle-mrecg``."""
    command = add_command(commands, "init", init_command, INIT)
    command.add_argument("overrides", nargs="*", metavar="MODEL_DIR IMAGES [FILE] "
                         "[Section.key=value]",
                         help="the exported model, its images, where to write the recipe (default "
                              "recipe.yaml), and settings")
