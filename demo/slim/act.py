# SPDX-License-Identifier: Apache-2.0
"""Run a recipe of configs/slim through AutoCompression (ACT) with our strategies.

Everything below the section Global is what AutoCompression reads. Global belongs to this script:
which model, and which functions give the data and the score. A recipe runs twice, with our sections
and without them (MRECG: with nearest rounding instead; training: PaddleSlim's own), so that the
table says what they add. Nothing is selected on the evaluation data: what is scored is the last
program, as Paddle Inference runs it.

    python demo/slim/act.py --config_path configs/slim/ppocr_cls_act_mrecg_w4a8.yaml \\
        --save_dir output/act
    python demo/slim/act.py --config_path configs/slim/ppocr_cls_act_mrecg_w4a8.yaml \\
        QuantPost.weight_bits=3
    # every mistake of a recipe, at once
    paddle-mrecg validate configs/slim/ppocr_cls_act_mrecg_w4a8.yaml
"""
import argparse
import copy
import functools
import random
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)

from demo import results, sources  # noqa: E402

NEEDED = ("model_dir", "loader", "evaluator")
OPTIONAL = ("model_filename", "params_filename", "loader_args", "evaluator_args")
NAMES = dict(model_filename="inference.pdmodel", params_filename="inference.pdiparams")


def read_recipe(path: str, overrides=()):
    """A checked recipe; what this script reads from Global is checked too.

    Raises:
        ConfigError: with everything that is wrong.
    """
    from paddle_mrecg.config.schema import did_you_mean
    from paddle_mrecg.errors import ConfigError
    from paddle_mrecg.slim.act_recipe import load_recipe
    from paddle_mrecg.config.dialect.post import GLOBAL_KEYWORDS
    recipe = load_recipe(path, overrides)
    known = (*NEEDED, *OPTIONAL, *GLOBAL_KEYWORDS)
    settings = recipe.get("Global", {})
    problems = [f"Global.{k}: is needed by demo/slim/act.py" for k in NEEDED if k not in settings]
    problems += [f"Global.{k}: unknown key.{did_you_mean(k, known)}" for k in settings
                 if k not in known]
    if problems:
        raise ConfigError(problems)
    return recipe


def without_ours(recipe):
    """What stands on the other side of the comparison: its name, and the recipe."""
    other = {name: value for name, value in recipe.items()
             if name not in ("BinRegularization", "SymmetricPACT")}
    if "MRECG" in recipe:
        nearest = dict(recipe.get("QuantPost", {}), rounding="nearest", bias_correction=False)
        return "nearest", dict(other, QuantPost=nearest, MRECG={"preset": "none"})
    return "PaddleSlim alone", other


def layers():
    """What builds the demos' own networks: name -> function that returns a Layer
    and the shape of one sample.
    """
    from demo.classification import models as classification
    from demo.detection import models as detection
    found = {name: lambda build=build, shape=shape: (build(), shape)
             for name, (build, shape) in classification.LAYERS.items()}
    return {**found, **{name: functools.partial(detection.layer, name) for name in detection.YOLO}}


def exported(build, directory: Path) -> Path:
    """A Layer of the demos in the form that PaddleSlim reads, which is the same for
    every Paddle; exported once.
    """
    import paddle
    from paddle_mrecg.compat import old_ir
    if not (directory / NAMES["params_filename"]).exists():
        # the same names whatever was built before: recipes name what they distil
        with paddle.utils.unique_name.guard():
            net, shape = build()
            with old_ir():
                paddle.jit.save(net, str(directory / "inference"),
                                [paddle.static.InputSpec([None, *shape], "float32", "image")])
    return directory


def file_names(settings):
    """Names of the program's two files, as AutoCompression takes them."""
    return {key: settings.get(key, default) for key, default in NAMES.items()}


def float_model(settings) -> Path:
    """Directory of ``model_dir``, which may name a model of the demos.

    Raises:
        sources.Absent: the demo's package or weights are not here.
        ModelError: the files do not exist.
    """
    from paddle_mrecg.errors import ModelError
    name, own = settings["model_dir"], layers()
    if name in own:
        return exported(own[name], Path("cache/models-pdmodel") / name)
    directory = Path(sources.model_dir(name) if name in sources.MODELS else name)
    missing = [str(directory / file) for file in file_names(settings).values()
               if not (directory / file).exists()]
    if missing:
        raise ModelError(f"no {' and no '.join(missing)}: set Global.model_dir, model_filename and "
                         "params_filename")
    return directory


def compress(recipe, model_dir: Path, save_dir: Path, seed: int):
    """One run of AutoCompression; returns the prefix of the program it wrote."""
    import paddle
    from paddle_mrecg.data import as_feed, call_hook
    from paddle_mrecg.deploy.predictor import Predictor
    from paddleslim.auto_compression import AutoCompression
    settings = recipe["Global"]
    names = file_names(settings)
    stem = Path(names["model_filename"]).stem
    own = save_dir / "float"  # PaddleSlim rewrites the model that it is given
    own.mkdir(parents=True, exist_ok=True)
    for name in names.values():
        shutil.copy(model_dir / name, own / name)
    arguments = dict(settings.get("loader_args") or {})
    arguments.update({"seed": arguments["seed"] + seed} if "seed" in arguments else {})
    inputs = Predictor(str(own / stem)).input_names
    batches = [as_feed(b, inputs)
               for b in call_hook(settings["loader"], arguments=arguments,
                                  setting="Global.loader_args")]
    recipe = copy.deepcopy(dict(recipe, Global=dict(settings, seed=seed)))
    random.seed(seed), np.random.seed(seed), paddle.seed(seed)
    with paddle.utils.unique_name.guard(), paddle.static.scope_guard(paddle.static.Scope()):
        AutoCompression(str(own), lambda: iter(batches), **names, save_dir=str(save_dir),
                        config=recipe).compress()
    paddle.disable_static()  # AutoCompression leaves static mode on when it trains
    return str(save_dir / stem)


def measure(recipe, model_dir: Path, save_dir: Path, seed: int):
    """Scores in percent of the float model, of the recipe without our sections and with them,
    by the evaluator's metric.
    """
    from paddle_mrecg.data.hooks import call_hook
    from paddle_mrecg.deploy.predictor import Predictor
    settings = recipe["Global"]

    def score(prefix):
        return call_hook(settings["evaluator"], Predictor(prefix),
                         arguments=settings.get("evaluator_args") or {},
                         setting="Global.evaluator_args")

    name, other = without_ours(recipe)
    stem = Path(file_names(settings)["model_filename"]).stem
    ours = " + ".join(n for n in ("MRECG", "BinRegularization", "SymmetricPACT") if n in recipe)
    scores = {"float": score(str(model_dir / stem)),
              name: score(compress(other, model_dir, save_dir / "without", seed)),
              ours: score(compress(recipe, model_dir, save_dir, seed))}
    return {metric: {program: found[metric] for program, found in scores.items()}
            for metric in scores["float"]}


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_path", required=True, metavar="FILE",
                        help="a recipe of configs/slim, or one like them")
    parser.add_argument("--save_dir", default="output/act",
                        help="the program, and below it the float model and the comparison")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0],
                        help="draw the data and everything random in the job")
    parser.add_argument("--results", metavar="FILE",
                        help="write all runs to this JSON, e.g. demo/slim/results/NAME.json")
    parser.add_argument("overrides", nargs="*", metavar="Section.key=value",
                        help="settings that win over the file")
    return parser.parse_intermixed_args(argv)


@sources.explained
def main(argv=None) -> int:
    args = parse_args(argv)
    import paddle
    import paddle_mrecg
    from paddle_mrecg.slim.act import refuse_paddle_3
    recipe = read_recipe(args.config_path, args.overrides)
    refuse_paddle_3(recipe)
    model_dir = float_model(recipe["Global"])
    paddle_mrecg.register()
    runs = []
    for seed in args.seeds:
        save_dir = (Path(args.save_dir) / f"seed{seed}" if len(args.seeds) > 1
                    else Path(args.save_dir))
        measured = measure(recipe, model_dir, save_dir, seed)
        for metric, scores in measured.items():
            setting = dict(recipe=Path(args.config_path).stem,
                           **(dict(metric=metric) if len(measured) > 1 else {}))
            runs.append(results.run_record(setting, seed, scores))
            words = ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
            print(f"{metric}: {words} on Paddle {paddle.__version__}")
        if args.results:
            results.save_results(args.results, results.command_line("demo/slim/act.py", argv), runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
