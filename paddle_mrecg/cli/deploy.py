# SPDX-License-Identifier: Apache-2.0
"""The subcommands of deployment: ``export``, ``check`` and ``lite-env``."""
import json
import os

from ..compat import import_paddle
from ..errors import DataError, ModelError
from ..files import refuse_output
from .commands import DIFFERENT, OK, add_command, first_samples, list_argument

EXPORT = """\
Writes a quantized model for a runtime: lite (paddle_lite_opt for ARM and x86, .nb files and the
table of ops in ops.json), inference (.pdmodel) or onnx (QuantizeLinear / DequantizeLinear). Takes
results of this package and programs that PaddleSlim quantized; inference takes float programs too,
which turns the .json of Paddle 3 into a .pdmodel.

What runs code: a recipe of your own runs the functions that it names (Data.loader,
Evaluation.evaluator as module:function), and the demos read .pdparams, which are pickles: take both
only from those you trust. What never does: models, results and sample files (.npz) are data; export
imports and calls nothing that they name, and no other command does so without --trust-hooks. A
recipe in a folder with a model, or in one below it, counts as received with that model.

examples:
  paddle-mrecg export --target lite output/w4a8
  paddle-mrecg export --target onnx output/w4a8 --output deploy
  paddle-mrecg export --target inference float_model --output float_pdmodel
"""
CHECK = """\
Runs a quantized model in Paddle Inference, onnxruntime and Paddle Lite (x86, int8) on the same
inputs as the simulation and says where they part: which layer, how far, why, and what to do. Inputs
are those of --inputs, else the calibration data of the job that made the model. Exit code 0: all
agree; 1: one differs or fails; 2: wrong usage.

A result may come from others. Its program and its settings are read, its pictures too; code that
its resolved_config.yaml names (a loader as module:function) is not imported and not called unless
you give --trust-hooks. With --inputs the settings are not even read.

examples:
  paddle-mrecg check output/w4a8
  paddle-mrecg check output/w4a8 --inputs samples.npz --runtimes inference lite --json
"""
LITE_ENV = """\
Sets up Paddle Lite's converter: paddlelite 2.12 has wheels for Python 3.7 at most, so
it gets an environment of its own. `export` and `check` find it there; $PADDLE_LITE_OPT
and PATH are searched first.

examples:
  paddle-mrecg lite-env
  paddle-mrecg lite-env --python /usr/bin/python3.7 --dir lite
"""


def export_command(args) -> int:
    """Write a quantized model for Paddle Lite, Paddle Inference or ONNX."""
    import_paddle()
    from ..deploy.targets import export_model
    output = args.output or os.path.join(_folder(args.model_dir), args.target)
    refuse_output(output, "--output" if args.output else "MODEL_DIR/TARGET", True)
    exported = export_model(_load(args), args.target, output, args.lite_targets)
    for name, found in exported.details.items():
        print(f"{name}: {found['int8']} of {found['ops']} convolutions and matrix products in "
              f"int8, {found['bytes'] / 1000:.1f} kB")
        for line in found["changes"]:
            print(f"  {line}")
        for row in found["rows"]:
            if not row["int8"]:
                print(f"  float: {row['weight']} ({row['kernel']}): {row['why']}")
    print("\n".join(exported.files))
    return OK


def check_command(args) -> int:
    """Compare a quantized model on real runtimes with its simulation."""
    import_paddle()
    from ..deploy.check.doctor import check
    from ..deploy.check.text import report_text
    from ..files import plain
    graph = _load(args)
    report = check(graph, _samples_by_name(args, graph), args.runtimes, args.tolerance,
                   args.seconds)
    print(json.dumps(plain(report.to_dict()), indent=1) if args.json else report_text(report))
    return OK if report.is_fine else DIFFERENT


def lite_env_command(args) -> int:
    """Set up Paddle Lite's converter in an environment of its own."""
    from ..deploy.lite.env import make_env
    tools = make_env(args.dir, args.python)
    print(f"converter: {tools.opt}\nx86 predictor: {tools.python}")
    return OK


def add_commands(commands) -> None:
    """Add the three subcommands to the parser of ``paddle-mrecg``."""
    command = add_command(commands, "export", export_command, EXPORT)
    _model_arguments(command)
    command.add_argument("--target", required=True, choices=("lite", "inference", "onnx"))
    command.add_argument("--output", metavar="DIR", help="default MODEL_DIR/TARGET")
    list_argument(command, "--lite_targets")
    command = add_command(commands, "check", check_command, CHECK)
    _model_arguments(command)
    command.add_argument("--inputs", metavar="FILE",
                         help=".npz with one array per input, or .npy for the only one")
    command.add_argument("--trust-hooks", action="store_true",
                         help="call the loader that the result's settings name: code of whoever "
                              "made the result")
    command.add_argument("--num_samples", type=int, default=8,
                         help="samples to compare (default 8)")
    list_argument(command, "--runtimes")
    command.add_argument("--tolerance", type=float, default=0.01,
                         help="relative difference of a layer (default 0.01)")
    command.add_argument("--seconds", type=int, default=300,
                         help="limit for one run of a runtime (default 300)")
    command.add_argument("--json", action="store_true", help="the whole report as JSON")
    command = add_command(commands, "lite-env", lite_env_command, LITE_ENV)
    command.add_argument("--dir", metavar="DIR",
                         help="where to put it (default: the user's cache directory)")
    command.add_argument("--python", metavar="FILE",
                         help="a Python 3.7 interpreter (default: searched for)")


def _model_arguments(command):
    command.add_argument("model_dir", metavar="MODEL_DIR",
                         help="result of a job, or directory or prefix of a quantized program")
    command.add_argument("--model_filename", metavar="NAME",
                         help="program file, when there are several")
    command.add_argument("--params_filename", metavar="NAME",
                         help="parameter file, when there are several")


def _folder(model_dir: str) -> str:
    return model_dir if os.path.isdir(model_dir) else os.path.dirname(model_dir)


def _load(args):
    from ..graph.load import load_graph
    return load_graph(args.model_dir, args.model_filename, args.params_filename,
                      allow_quantized=True)


def _samples_by_name(args, graph):
    """Samples by input name, from ``--inputs`` or from the job's own data."""
    if args.num_samples < 1:
        raise DataError(f"--num_samples {args.num_samples}: give at least 1")
    if not args.inputs:
        return _calibration(args, graph)
    from ..data.batches import as_batches, inputs_text
    inputs = [graph.tensors[n] for n in graph.inputs]
    try:
        feed = next(as_batches([_arrays(args.inputs)], inputs))
    except DataError as error:
        raise DataError(f"--inputs {args.inputs}: {error}; the model wants "
                        f"{inputs_text(inputs)}") from error
    return {n: value[:args.num_samples] for n, value in feed.items()}


def _arrays(path: str):
    """What a .npy or .npz file holds: an array; a list, where numpy numbered the arrays of
    ``savez``; or arrays by name.

    Raises:
        DataError: it cannot be read.
    """
    import numpy as np
    try:
        loaded = np.load(path, allow_pickle=False)
        if not hasattr(loaded, "files"):
            return loaded
        numbered = loaded.files == [f"arr_{k}" for k in range(len(loaded.files))]
        return [loaded[n] for n in loaded.files] if numbered else {n: loaded[n]
                                                                  for n in loaded.files}
    except FileNotFoundError as error:
        raise DataError("the file does not exist: check its name") from error
    except IsADirectoryError as error:
        raise DataError("this is a folder: give a .npz or .npy file") from error
    except Exception as error:  # whatever a few wrong bytes bring about
        if "Object arrays" in str(error):
            raise DataError("it holds an array of Python objects, which would be unpickled: save "
                            "arrays of numbers") from error
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"it cannot be read ({error.strerror}): check its rights") from error
        raise DataError("it is not a .npz or .npy file, or is damaged: save it with "
                        "numpy.savez") from error


def _calibration(args, graph):
    """The first samples of the job that made the model."""
    from ..config.io import load_config
    path = os.path.join(_folder(args.model_dir), "resolved_config.yaml")
    if not os.path.exists(path):
        raise ModelError(f"no inputs: {path} does not exist, so give samples "
                         "with --inputs FILE.npz")
    config = load_config(path)
    if not args.trust_hooks:
        if config.data.loader:
            raise ModelError(f"no inputs: {path} takes them from the code '{config.data.loader}', "
                             "which came with the model and is not run: give samples with --inputs "
                             "FILE.npz, or --trust-hooks if you trust whoever made the result")
    images = config.data.image_dir
    if images and not config.data.loader and not os.path.exists(images):
        raise DataError(f"no inputs: {path} takes them from '{images}', which is not there: run "
                        "this in the folder where that job was started, for paths are relative to "
                        "it, or give samples with --inputs FILE.npz")
    return first_samples(graph, config, args.num_samples)
