# SPDX-License-Identifier: Apache-2.0
"""The command ``paddle-mrecg``: one sentence on stderr and exit code 2 for
everything a user can put right.
"""
import argparse
import os
import sys
from typing import List, Optional

from .. import __version__
from . import deploy, hosts
from ..config import Config
from ..config.docs import markdown_tables, text_tables
from ..config.io import (load_any_config, load_config, missing_for_command, read_sections,
                         save_config)
from ..config.recipes import recipe_list, recipe_text
from ..config.schema import ALL_SECTIONS
from ..errors import ConfigError, MrecgError, OutputError
from ..compat import import_paddle

OK, USER_ERROR, INTERRUPTED = 0, 2, 130

DESCRIPTION = """\
Quantize an exported Paddle inference model to few bits without labels: joins the modules whose
reconstruction losses oscillate (MRECG), learns rounding and activation scales per unit, and writes
a program that Paddle Inference and Paddle Lite run.

examples:
  # write down the settings; `paddle-mrecg config` lists them all
  cat > my.yaml <<'END'
  Global: {model_dir: inference_model, save_dir: output/w4a8}
  Data: {image_dir: images, input_shape: [3, 224, 224], resize_short: 256}
  QuantPost: {weight_bits: 4, activation_bits: 8}
  MRECG: {preset: fast}
  END

  paddle-mrecg validate my.yaml        # every mistake in the file, at once
  paddle-mrecg plan --config my.yaml  # which modules become one unit, before an hour is spent
  paddle-mrecg quant --config my.yaml  # the low-bit program and its report in output/w4a8
  paddle-mrecg quant --config my.yaml QuantPost.weight_bits=3 Global.save_dir=output/w3a8

from Python: paddle_mrecg.quant_post_mrecg(model, data_loader, config, save_dir)
"""
QUANT = """\
Writes into Global.save_dir, as a whole or not at all: model.pdmodel and model.pdiparams (int8
weights), encodings.json (bits and scale of every tensor), report.json, units.csv, plan.json,
resolved_config.yaml, oscillation.png (loss per block with and without joining) and VisualDL logs.

examples:
  paddle-mrecg quant --config my.yaml
  # no reconstruction: what rounding alone costs
  paddle-mrecg quant --config my.yaml MRECG.preset=nearest
  paddle-mrecg quant --config my.yaml Global.resume=true               # go on after Ctrl-C
  # keep layers in float, by name pattern
  paddle-mrecg quant --config my.yaml "QuantPost.skip=['head.*']"
"""
PLAN = """\
Prints the modules of the model, which of them are joined and why, and saves that as
plan.json. Nothing is trained: the policies that need losses (loss, loss_peaks, optimal) use
those of nearest rounding, so their plan may differ from that of `quant`, which measures
after a short reconstruction.

examples:
  paddle-mrecg plan --config my.yaml
  paddle-mrecg plan --config my.yaml MRECG.granularity=modcap MRECG.top_k=4 --output plan.json
"""
VALIDATE = """\
Checks names, types, ranges and contradictions of a config and prints all of them at once; exit code
2 if there are any. Neither the model nor the data is read. Takes recipes of PaddleSlim's
AutoCompression (ACT) too.

examples:
  paddle-mrecg validate my.yaml
  paddle-mrecg validate act.yaml TrainConfig.epochs=2
  paddle-mrecg validate my.yaml MRECG.num_iters=100 --resolved resolved.yaml
"""
CONFIG = """\
Lists every setting with its type, default, allowed values and the paper's symbol; or recipes:
whole files to start from.

examples:
  paddle-mrecg config
  paddle-mrecg config MRECG            # one section
  paddle-mrecg config --markdown       # the same as Markdown tables
  paddle-mrecg config --recipe         # names of all recipes
  paddle-mrecg config --recipe ppocr_cls_mrecg_w4a8
"""
OVERRIDES = dict(nargs="*", metavar="Section.key=value",
                 help="settings that win over the file; values as in YAML")


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv(list[str], optional): arguments without the program's name.
            Default: those of the process.

    Returns:
        int: 0; 2 when the user can put it right; 130 after Ctrl-C.
    """
    args = _parse(argv)
    try:
        return args.run(args)
    except MrecgError as error:
        print(f"paddle-mrecg: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("paddle-mrecg: interrupted; no result was written", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `paddle-mrecg config | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def quant(args) -> int:
    """Quantize a model and report what it cost."""
    config = _complete_config(args)
    import_paddle(config.global_.tune_cpu)
    from ..post.job import quant_post_mrecg
    result = quant_post_mrecg(config=config)
    if result.interrupted:
        print(f"paddle-mrecg: interrupted; {result.save_dir} holds a usable program with the "
              "finished units, the others rounded to nearest; the same command with "
              "Global.resume=true goes on", file=sys.stderr)
        return INTERRUPTED
    return OK


def plan(args) -> int:
    """Show which modules would be joined."""
    config = _complete_config(args)
    import_paddle(config.global_.tune_cpu)
    from ..post.job import plan_post
    from ..files import write_json
    result = plan_post(config=config)
    path = args.output or config.global_.save_dir.rstrip("/") + ".plan.json"
    _make_parent(path)
    write_json(path, result.to_dict())
    print(result.table())
    print(f"\nsaved as {path}")
    return OK


def validate(args) -> int:
    """Check a config file."""
    from ..slim.act_recipe import is_recipe
    if args.act or is_recipe(read_sections(args.config, ALL_SECTIONS)[0]):
        return _validate_recipe(args)
    config = load_any_config(args.config, args.overrides)
    if args.resolved:
        _make_parent(args.resolved)
        save_config(config, args.resolved)
    print(f"{args.config}: valid")
    for problem in missing_for_command(config) if isinstance(config, Config) else ():
        print(f"  needed on the command line, or as an argument from Python: {problem}")
    return OK


def _validate_recipe(args) -> int:
    """Check a recipe of AutoCompression with the code that AutoCompression
    runs after ``register()``.
    """
    if args.resolved:
        raise ConfigError("--resolved writes settings of our own jobs, and this is a recipe of "
                          "AutoCompression: leave it out")
    import_paddle()
    from ..slim.act_recipe import load_recipe
    load_recipe(args.config, args.overrides)
    print(f"{args.config}: valid, for PaddleSlim's AutoCompression after paddle_mrecg.register()")
    return OK


def config(args) -> int:
    """List all settings, or print a recipe."""
    if args.recipe is not None:
        if args.sections or args.markdown:
            raise ConfigError("--recipe prints a recipe and not settings: leave out sections and "
                              "--markdown")
        sys.stdout.write(recipe_text(args.recipe) if args.recipe else recipe_list() + "\n")
        return OK
    print(markdown_tables() if args.markdown else text_tables(args.sections or ALL_SECTIONS))
    return OK


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(prog="paddle-mrecg", description=DESCRIPTION,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    root.add_argument("--version", action="version", version=f"paddle-mrecg {__version__}")
    commands = root.add_subparsers(metavar="COMMAND", required=True,
                                   title="commands (COMMAND --help tells more)")

    def add(run, text):
        command = commands.add_parser(run.__name__, help=run.__doc__.rstrip("."), description=text,
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
        command.set_defaults(run=run, overrides=None)  # None: takes no settings
        return command

    for run, text in ((quant, QUANT), (plan, PLAN)):
        command = add(run, text)
        command.add_argument("--config", required=True, metavar="FILE",
                             help="YAML file of settings")
        command.add_argument("overrides", **OVERRIDES)
        if run is plan:
            command.add_argument("--output", metavar="FILE",
                                 help="where to save the plan (default SAVE_DIR.plan.json)")
    command = add(validate, VALIDATE)
    command.add_argument("config", metavar="FILE", help="YAML file of settings")
    command.add_argument("overrides", **OVERRIDES)
    command.add_argument("--resolved", metavar="FILE",
                         help="write all settings, defaults and preset included")
    command.add_argument("--act", action="store_true",
                         help="a recipe of AutoCompression (usually seen from its sections)")
    command = add(config, CONFIG)
    command.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(ALL_SECTIONS))
    command.add_argument("--markdown", action="store_true", help="tables in Markdown")
    command.add_argument("--recipe", nargs="?", const="", metavar="NAME",
                         help="print a recipe, or the names of all")
    for module in (deploy, hosts):
        module.add_commands(commands)
    return root


def _parse(argv):
    """Arguments; overrides may stand before, between and after options,
    which argparse alone refuses.
    """
    root = parser()
    args, rest = root.parse_known_args(argv)
    stray = [text for text in rest if text.startswith("-") or "=" not in text]
    if stray:
        root.error(f"unrecognized arguments: {' '.join(stray)}")
    if rest and args.overrides is None:
        root.error(f"{args.run.__name__.replace('_', '-')} reads no settings, so '{rest[0]}' has "
                   "no effect: leave it out; settings go to quant, plan and validate")
    args.overrides = list(args.overrides or ()) + rest
    unknown = set(getattr(args, "sections", ())) - set(ALL_SECTIONS)
    if unknown:
        root.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(ALL_SECTIONS)}")
    return args


def _complete_config(args):
    """The config with everything that a run without Python arguments needs.

    Raises:
        ConfigError: see ``load_config``; or the model or data is not named.
    """
    loaded = load_config(args.config, args.overrides)
    missing = missing_for_command(loaded)
    if missing:
        raise ConfigError(missing)
    return loaded


def _make_parent(path: str):
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written ({error.strerror}): "
                          "choose another place") from error
