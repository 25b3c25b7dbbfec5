# SPDX-License-Identifier: Apache-2.0
"""The subcommands of post-training: ``quant`` and ``plan``."""
import sys

from ..compat import import_paddle
from ..config.io import load_config, missing_for_command, too_few_samples
from ..errors import ConfigError
from ..report.progress import get_logger
from .commands import DIFFERENT, INTERRUPTED, OK, add_command, config_arguments, make_parent
from .first_use import first_use, to_lite

QUANT = """\
Writes into Global.save_dir, as a whole or not at all: model.pdmodel and model.pdiparams (int8
weights), encodings.json (bits and scale of every tensor), report.json, units.csv, plan.json,
resolved_config.yaml, oscillation.png (loss per block with and without joining), VisualDL logs, and
report.html, which shows all of it on one page, in English and Chinese, without a network.
Exit code 0; 1 when the written program differs from what was simulated, with the layer and the
reason; 2 for what you can put right; 130 after Ctrl-C.

examples:
  # 8 bits for Paddle Lite, no file of settings: image size and normalisation come from the model's
  # inference.yml or infer_cfg.yml; `paddle-mrecg init` writes the same as a file to edit
  paddle-mrecg quant inference_model images
  paddle-mrecg quant --config my.yaml
  # no reconstruction: solved roundings and corrected biases alone
  paddle-mrecg quant --config my.yaml MRECG.preset=none
  paddle-mrecg quant --config my.yaml Global.resume=true               # go on after Ctrl-C
  # keep layers in float, by name pattern
  paddle-mrecg quant --config my.yaml "QuantPost.skip=['head.*']"
"""
PLAN = """\
Prints the modules of the model, which of them are joined and why, and saves that as
plan.json. What would stop `quant` stops this too: the float program is written and run in Paddle
Inference, evaluation data is tried. Nothing is trained: the policies that need losses (loss,
loss_peaks, optimal) use those of nearest rounding, so their plan may differ from that of `quant`,
which measures after a short reconstruction.

examples:
  paddle-mrecg plan --config my.yaml
  paddle-mrecg plan --config my.yaml MRECG.granularity=modcap MRECG.top_k=4 --output plan.json
"""


def quant_command(args) -> int:
    """Quantize a model and report what it cost."""
    config = complete_config(args)
    import_paddle(config.global_.tune_cpu)
    from ..post.job import quant_post_mrecg
    result = quant_post_mrecg(config=config)
    if result.interrupted:
        print(f"paddle-mrecg: interrupted; {result.save_dir} holds a usable program with the "
              "finished units, the others rounded to nearest; the same command with "
              "Global.resume=true goes on", file=sys.stderr)
        return INTERRUPTED
    if args.config is None:
        to_lite(result, config)
    return OK if result.report.agrees else DIFFERENT


def plan_command(args) -> int:
    """Show which modules would be joined."""
    config = complete_config(args)
    import_paddle(config.global_.tune_cpu)
    from ..files import write_json
    path = args.output or config.global_.save_dir.rstrip("/") + ".plan.json"
    make_parent(path, "--output" if args.output else "next to Global.save_dir,")
    from ..post.examine import check_place
    from ..post.job import plan_post
    check_place(config)
    result = plan_post(config=config)
    write_json(path, result.to_dict())
    print(result.table())
    print(f"\nsaved as {path}")
    return OK


def add_commands(commands) -> None:
    """Add the two subcommands to the parser of ``paddle-mrecg``."""
    for name, run, text in (("quant", quant_command, QUANT), ("plan", plan_command, PLAN)):
        command = add_command(commands, name, run, text)
        config_arguments(command)
    command.add_argument("--output", metavar="FILE",
                         help="where to save the plan (default SAVE_DIR.plan.json)")


def complete_config(args):
    """The config with everything that a run without Python arguments needs.

    Raises:
        ConfigError: see ``load_config``; or the model or data is not named.
    """
    from ..data.hooks import refuse_foreign_hooks
    if args.config is None:
        sections, source, overrides = first_use(args.overrides, args.command)
        loaded = load_config(sections, overrides)
        get_logger().info("images as %s says", source)
    else:
        loaded = load_config(args.config, args.overrides)
    if args.config and not args.trust_hooks:
        own = [text.partition("=")[2].strip() for text in args.overrides]
        refuse_foreign_hooks(loaded, args.config, own)
    if loaded.global_.tune_cpu is None:
        loaded.global_.tune_cpu = True  # the process is ours
    if loaded.global_.measure_speed is None:
        loaded.global_.measure_speed = True
    problems = missing_for_command(loaded)
    if args.command in ("quant", "plan"):  # the others train nothing, or decide themselves
        problems += too_few_samples(loaded)
    if problems:
        raise ConfigError(problems)
    return loaded
