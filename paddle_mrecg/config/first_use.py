# SPDX-License-Identifier: Apache-2.0
"""The recipe for a model and a folder of images, of which nothing else is known."""
import os
import re
from typing import Any, Dict, List, Sequence

import yaml

# Enough for 8-bit grids and roundings, which take a minute or two; of large images fewer are.
CALIBRATION_IMAGES, LEAST_IMAGES = 64, 16
COMMENTS = {
    "Global": {"target": "int8 for Paddle Lite; `simulation` allows fewer activation bits"},
    "Data": {"num_samples": "more images: a little better, and longer",
             "input_shape": "C, H, W", "resize_short": "first to this short side, then crop",
             "crop": "center, resize (squeeze) or pad", "layout": "channel order: RGB, BGR or GRAY",
             "scale": "pixels times this, then minus mean, then over std"},
    "QuantPost": {"weight_bits": "2 to 8; at 4 the model is half as large, and less exact",
                  "activation_bits": "8 is what Paddle Lite runs",
                  "skip": "names or patterns of layers that stay float; `paddle-mrecg analyze` "
                          "says which"},
    "MRECG": {"preset": "none: solved roundings alone; fast: minutes of training on top; "
                        "mrecg: hours on a CPU"},
}
EVALUATION = """\
# Evaluation:            # the report then says what the model lost
#   data:
#     image_dir: {image_dir}
#     label_file: labels.txt   # lines `path class`; for other tasks: evaluator: module:function
"""


def first_sections(model_dir: str, image_dir: str, data: Dict[str, Any],
                   num_samples: int) -> Dict[str, Dict]:
    """Sections for W8A8 on Paddle Lite.

    Args:
        model_dir(str): directory or file prefix of the exported model.
        image_dir(str): folder of images.
        data(dict): further keys of ``Data``, of ``data.preprocessing``.
        num_samples(int): images to calibrate with.
    """
    return {"Global": dict(model_dir=model_dir, save_dir=result_dir(model_dir, 8, 8),
                           target="paddle_lite"),
            "Data": dict(image_dir=image_dir, num_samples=num_samples, **data),
            "QuantPost": dict(weight_bits=8, activation_bits=8, num_observe=num_samples, skip=[]),
            "MRECG": dict(preset="none")}


def result_dir(model_dir: str, weight_bits: int, activation_bits: int) -> str:
    """Where the result goes if nothing is said."""
    return f"output/{telling_name(model_dir)}_w{weight_bits}a{activation_bits}"


def recipe(sections: Dict[str, Dict], source: str) -> str:
    """The sections as a commented YAML file.

    Args:
        sections(dict): of ``first_sections``.
        source(str): who says how the images are prepared.
    """
    lines = ["# Recipe of `paddle-mrecg init`: `paddle-mrecg quant --config FILE` runs it,",
             "# `paddle-mrecg config` lists all settings, `validate` checks the file."]
    for section, values in sections.items():
        note = f"  # images as {source} says" if section == "Data" else ""
        lines.append(f"{section}:{note}")
        for key, value in values.items():
            comment = COMMENTS[section].get(key)
            lines.append(f"  {key}: {_flow(value)}" + (f"  # {comment}" if comment else ""))
        if section == "Data":
            lines.append(EVALUATION.format(image_dir=values["image_dir"]).rstrip("\n"))
    return "\n".join(lines) + "\n"


def _flow(value) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text[:-len("\n...\n")] if text.endswith("\n...\n") else text.rstrip("\n")


def telling_name(model_dir: str) -> str:
    """What a model is called: the last part of its path that says something, else ``model``."""
    parts = [p for p in os.path.normpath(os.path.abspath(model_dir)).split(os.sep) if p]
    dull = {"model", "__model__", "inference", "infer", "ckpt", "export", "output", "weights"}
    telling = [p for p in reversed(parts) if p.lower() not in dull]
    return re.sub(r"[^\w.-]+", "_", telling[0] if telling else "model")


def paths_of(words: Sequence[str]) -> List[str]:
    """The words on a command line that are paths and not ``Section.key=value``."""
    return [w for w in words if not re.match(r"\w+(\.\w+)+=", w)]
