# SPDX-License-Identifier: Apache-2.0
"""The command ``paddle-mrecg``: one sentence on stderr and exit code 2 for everything that a user
can put right.
"""
import argparse
import os
import sys
from typing import List, Optional

from .. import __version__
from ..compat import interruptible
from ..config.schema import ALL_SECTIONS, did_you_mean
from ..errors import MrecgError, is_users
from . import analysis, deploy, first_use, hosts, post, settings
from .commands import INTERRUPTED, OK, USER_ERROR, joined_lists

DESCRIPTION = """\
Quantize an exported Paddle inference model to few bits without labels: joins the modules whose
reconstruction losses oscillate (MRECG), learns rounding and activation scales per unit, and writes
a program that Paddle Inference and Paddle Lite run.

examples:
  # 8 bits for Paddle Lite, from an exported model and a folder of images
  paddle-mrecg quant inference_model images
  paddle-mrecg init inference_model images my.yaml   # the same as a recipe to edit

  # write down the settings; `paddle-mrecg config` lists them all
  cat > my.yaml <<'END'
  Global: {model_dir: inference_model, save_dir: output/w4a8}
  Data: {image_dir: images, input_shape: [3, 224, 224], resize_short: 256}
  QuantPost: {weight_bits: 4, activation_bits: 8}
  MRECG: {preset: fast}
  END

  paddle-mrecg validate my.yaml        # every mistake in the file, at once
  paddle-mrecg plan --config my.yaml  # which modules become one unit, before an hour is spent
  paddle-mrecg analyze --config my.yaml  # which layers cost the accuracy
  paddle-mrecg quant --config my.yaml  # the low-bit program and its report in output/w4a8
  paddle-mrecg quant --config my.yaml QuantPost.weight_bits=3 Global.save_dir=output/w3a8

from Python: paddle_mrecg.quant_post_mrecg(model, data_loader, config, save_dir)
"""


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv(list[str], optional): arguments without the program's name.
            Default: those of the process.

    Returns:
        int: 0; 2 when the user can put it right; 130 after Ctrl-C.
    """
    args = _parse_words(argv)
    try:
        with interruptible():
            return args.run(args)
    except MrecgError as error:
        print(f"paddle-mrecg: {error}", file=sys.stderr)
        return USER_ERROR
    except (Exception, SystemExit) as error:
        if not is_users(error):
            raise
        from ..data.hooks import users_frames
        print(f"paddle-mrecg: your own code raised {type(error).__name__}: {error}; no result was "
              f"written, mend it here:\n{users_frames(error)}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("paddle-mrecg: interrupted; no result was written", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `paddle-mrecg config | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(prog="paddle-mrecg", description=DESCRIPTION,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    root.add_argument("--version", action="version", version=f"paddle-mrecg {__version__}")
    commands = root.add_subparsers(metavar="COMMAND", required=True,
                                   title="commands (COMMAND --help tells more)")
    root.set_defaults(commands=commands.choices)
    for module in (post, first_use, analysis, settings, deploy, hosts):
        module.add_commands(commands)
    return root


def _parse_words(argv):
    """Arguments; overrides may stand before, between and after options,
    which argparse alone refuses.
    """
    root = parser()
    argv = sys.argv[1:] if argv is None else argv
    first = next(iter(argv), "-")
    known = list(root.get_default("commands"))
    if not first.startswith("-") and first not in known:
        root.error(first_use.unknown_command(first, known))
    if first != "run":  # whose words are the script's
        argv = joined_lists(argv)
    args, rest = root.parse_known_args(argv)
    stray = [text for text in rest if text.startswith("-") or "=" not in text]
    if stray:
        root.error(f"unrecognized arguments: {' '.join(stray)}")
    if rest and args.overrides is None:
        root.error(f"{args.command} reads no settings, so '{rest[0]}' has no effect: leave it "
                   "out; settings go to quant, plan and validate")
    args.overrides = list(args.overrides or ()) + rest
    unknown = set(getattr(args, "sections", ())) - set(ALL_SECTIONS)
    if unknown:
        hint = did_you_mean(sorted(unknown)[0], ALL_SECTIONS)
        root.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(ALL_SECTIONS)}."
                   f"{hint}")
    return args
