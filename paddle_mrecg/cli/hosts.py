# SPDX-License-Identifier: Apache-2.0
"""The subcommand ``run``: scripts of PaddleOCR, PaddleDetection and
PaddleClas with our strategies.
"""
import argparse
import contextlib

from ..compat import import_paddle
from .commands import DIFFERENT, OK, add_command

RUN = """\
Runs a training, export or slim script of PaddleOCR, PaddleDetection or PaddleClas, unchanged, with
our strategies behind its calls of PaddleSlim. They are switched on by our sections, written into
the YAML file that the script reads anyway:

  QuantAware: {weight_bits: 4}        # training: tools/train.py, deploy/slim/quantization/quant.py
  BinRegularization: {lambda: 0.5}
  SymmetricPACT: {init: percentile}

  # post-training: tools/post_quant.py, quant_kl.py, quant_post_static.py
  QuantPost: {weight_bits: 4}
  MRECG: {preset: fast}

The same file goes with evaluation and export. Sections that are misspelled or wrong stop the script
before it starts; `paddle-mrecg config` lists their keys. A script without a host here runs too,
with our names registered in PaddleSlim. Exit code 1 when a program that the script exports differs
from the trained model, with the layer and the reason.

examples, each in the clone of the host:
  # PaddleOCR
  paddle-mrecg run deploy/slim/quantization/quant.py -c my_rec.yml \\
      -o Global.pretrained_model=float/best_accuracy
  paddle-mrecg run deploy/slim/quantization/export_model.py -c my_rec.yml \\
      -o Global.checkpoints=output/best_accuracy
  # PaddleDetection: our sections in either file; its own `slim: QAT` stays
  paddle-mrecg run tools/train.py -c configs/picodet/picodet_s_320_coco_lcnet.yml \\
      --slim_config my_qat.yml --eval
  # PaddleClas: `Slim: {quant: {name: pact}}` stays
  paddle-mrecg run tools/train.py -c my_cls.yaml -o QuantAware.weight_bits=3
  # sections in a file of their own; several processes; what would be switched on
  paddle-mrecg run --strategy qat.yaml tools/train.py -c my_cls.yaml
  python -m paddle.distributed.launch --gpus 0,1 $(which paddle-mrecg) run tools/train.py \\
      -c my_cls.yaml
  paddle-mrecg run --check tools/train.py -c my_cls.yaml
  # a picture of the weights gathering on their levels, renewed every epoch
  paddle-mrecg run --watch output/bins tools/train.py -c my_cls.yaml
"""


def run_command(args) -> int:
    """Run a script of PaddleOCR, PaddleDetection or PaddleClas with our strategies."""
    from ..hosts.sections import examine
    call, strategies = examine(args.script, args.arguments, args.strategy)
    if args.check:
        from ..hosts.sections import described
        print(described(call, strategies))
        return OK
    with contextlib.suppress(ImportError):
        import cv2  # noqa: F401  before Paddle 2.6: loaded after its zlib, it crashes
    import_paddle()
    from ..hosts.run import run_script
    return OK if run_script(call, strategies, args.watch) else DIFFERENT


def add_commands(commands) -> None:
    """Add ``run`` to the parser of ``paddle-mrecg``."""
    command = add_command(commands, "run", run_command, RUN)
    command.add_argument("--strategy", metavar="FILE",
                         help="YAML file of our sections, added to those in the script's own file")
    command.add_argument("--watch", metavar="DIR",
                         help="keep what training does to the weights: bins.csv, bins.png, "
                              "VisualDL curves")
    command.add_argument("--check", action="store_true",
                         help="check the sections and say what would be switched on; run nothing")
    command.add_argument("script", metavar="SCRIPT", help="path of the script, e.g. tools/train.py")
    command.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...",
                         help="the script's own arguments")
