# SPDX-License-Identifier: Apache-2.0
"""The subcommands ``analyze``, which layers cost the accuracy, and ``auto``, what to do."""
import sys

from ..analysis import FEWEST_SAMPLES, RANKING_SAMPLES, TRIES
from ..compat import import_paddle
from ..errors import ConfigError, numbered
from ..files import refuse_output
from .commands import DIFFERENT, OK, add_command, config_arguments
from .post import complete_config

ANALYZE = """\
Ranks the layers by what their quantization does to the network's output. Each layer is quantized
alone, and left float alone: its weights, its activations, both. Labels are not needed: the error is
that of the outputs, in percent of their variance, on --samples inputs. With --metric the evaluator
of the config also scores the network with each layer alone quantized, which takes one evaluation
per layer. How long it will take is said before it starts.

Prints the worst layers with cause and cure, and lines to paste into the config; writes
sensitivity.csv (all layers), sensitivity.json, sensitivity.png, suggested.yaml, report.html, one
page in English and Chinese that shows all of it, and resolved_config.yaml, the settings.

examples:
  paddle-mrecg analyze inference_model images
  paddle-mrecg analyze --config my.yaml
  paddle-mrecg analyze --config my.yaml QuantPost.weight_bits=8        # does 8 bits hurt, and where
  paddle-mrecg analyze --config my.yaml QuantPost.rounding=nearest QuantPost.bias_correction=false
  paddle-mrecg analyze --config my.yaml --metric --output analysis

PaddleSlim's names: Analysis(...).metric_error_analyse() is `analyze --metric`,
statistical_analyse() is `analyze`, get_target_quant_model(metric) is `auto`.
"""

AUTO = """\
Finds the cheapest setting that loses at most --max-drop, beginning with the bits of the config:
points of the evaluator's first metric (0.01 of one that is a share), or without an evaluator
percent of the variance of the network's output. In this order, as far as it is needed: the settings
as they are with solved roundings, equalized channels, activation ranges by output error, 8 bits for
the smallest layers (3 % of the weights), then for the fewest of the layers that hurt most (bisected
along the errors that `analyze` measures), float in their place where 8 bits for all are not enough,
and a short reconstruction where nothing else was enough. With --size or --bits-average every layer
gets 2 to 8 bits, by the error that each bit takes away. These two are one goal in two ways: give
one of them; either goes with --max-drop.

At most --tries settings are tried, with one evaluation each; the final report scores the result and
its baselines once more. Every try is in SAVE_DIR.auto/tries.json, from which the same command goes
on after an interruption, or with more --tries. The section MRECG is not read.
Writes the model to SAVE_DIR, the recipe to SAVE_DIR.auto/recipe.yaml, and what each try bought to
SAVE_DIR.auto/report.html. Exit code 0: the goal is reached; 1: it is not, and the best that was
found is written; 2: wrong usage.

examples:
  paddle-mrecg auto --config my.yaml --max-drop 1
  paddle-mrecg auto --config my.yaml --max-drop 0.5 QuantPost.weight_bits=4
  paddle-mrecg auto inference_model images --max-drop 2        # 2 % error of the output, no labels
  paddle-mrecg auto --config my.yaml --bits-average 4
  paddle-mrecg auto --config my.yaml --size 1.2M --max-drop 1
"""


def analyze_command(args) -> int:
    """Rank the layers by what their quantization costs."""
    config = complete_config(args)
    folder = args.output or config.global_.save_dir.rstrip("/") + ".analysis"
    refuse_output(folder, "--output" if args.output else "next to Global.save_dir,", True)
    import_paddle(config.global_.tune_cpu)
    from ..analysis.job import analyze, evaluator_of
    findings = analyze(config=config, save_dir=folder, samples=args.samples,
                       evaluator=evaluator_of(config) if args.metric else None)
    print(f"{findings.text()}\n\nall layers in {folder}/sensitivity.csv, one page of it in "
          f"{folder}/report.html")
    return OK


def auto_command(args) -> int:
    """Find the cheapest setting that loses at most so much."""
    from ..analysis.goal import Goal
    given = (args.max_drop, args.bits_average, args.size)
    goal = Goal(1.0 if given == (None,) * 3 else args.max_drop, args.bits_average,
                _bytes_from_text(args.size))
    goal.check()
    config = complete_config(args)
    import_paddle(config.global_.tune_cpu)
    from ..analysis.search import auto
    result = auto(config=config, goal=goal, tries=args.tries, metric=args.metric)
    print(f"{result.table()}\n\nmodel and report in {result.save_dir}, recipe in {result.recipe}, "
          "what each try bought in report.html next to it")
    if result.reached:
        return OK
    print(f"the goal was not reached: {result.best.name} is the best of "
          f"{numbered(len(result.tries), 'try')}",
          file=sys.stderr)
    return DIFFERENT


def _bytes_from_text(text):
    """``900k``, ``1.5M``, ``2500000``."""
    if text is None:
        return None
    factor = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}.get(text.rstrip("B")[-1:], 1.0)
    try:
        return float(text.rstrip("kKMGB")) * factor
    except ValueError as error:
        raise ConfigError(f"--size {text}: give bytes, or a number with k or M") from error


def add_commands(commands) -> None:
    """Add the two subcommands to the parser of ``paddle-mrecg``."""
    command = add_command(commands, "analyze", analyze_command, ANALYZE)
    config_arguments(command)
    command.add_argument("--samples", type=int, metavar="N",
                         help=f"inputs on which errors are measured (default {RANKING_SAMPLES}, "
                              f"fewer of large images, at least {FEWEST_SAMPLES})")
    command.add_argument("--metric", action="store_true",
                         help="score every layer with the config's evaluator too")
    command.add_argument("--output", metavar="DIR",
                         help="where to write (default SAVE_DIR.analysis)")
    command = add_command(commands, "auto", auto_command, AUTO)
    config_arguments(command)
    command.add_argument("--max-drop", type=float, metavar="POINTS",
                         help="what may be lost (default 1 where no size is given)")
    command.add_argument("--bits-average", type=float, metavar="BITS",
                         help="mean bits of a weight, 2 to 8; not with --size")
    command.add_argument("--size", metavar="BYTES",
                         help="bytes of the weights, e.g. 900k or 1.5M; not with --bits-average")
    command.add_argument("--tries", type=int, default=TRIES, metavar="N",
                         help="settings to try at most, one evaluation each (default %(default)s)")
    command.add_argument("--metric", metavar="NAME",
                         help="which value of the evaluator counts (default the first)")
