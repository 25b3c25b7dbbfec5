# SPDX-License-Identifier: Apache-2.0
"""The subcommands about settings: ``validate`` and ``config``."""
import os
import sys
import tempfile

from ..compat import import_paddle
from ..config import Config
from ..config.aware import TRAINING_SECTIONS
from ..config.docs import markdown_tables, text_tables
from ..config.io import (load_any_config, load_config, load_training_config, missing_for_command,
                         read_sections, save_config, too_few_samples)
from ..config.recipes import recipe_list, recipe_text
from ..config.schema import ALL_SECTIONS
from ..errors import ConfigError, MrecgError, numbered
from .commands import OK, OVERRIDES, add_command, make_parent

VALIDATE = """\
Checks names, types, ranges and contradictions of a config and prints all of them at once; exit code
2 if there are any. No data is read; of a model at Global.model_dir the shapes
are, and a line says what memory the job will hold. With --model everything that may stop `quant`
before its first step is tried: data, evaluation, a first run; and a line says how long the job will
take. An evaluator of your own is not called, for it may take long; that it is there and takes its
arguments is checked. Takes recipes of PaddleSlim's AutoCompression (ACT) too; of one with
BinRegularization, Global.model_dir and TrainConfig.train_iter the e-folds are predicted, layer by
layer; of a file for your own training loop with --float_model, --train_iter and --learning_rate.

examples:
  paddle-mrecg validate my.yaml
  paddle-mrecg validate my.yaml --model  # with model, data, a first run in Paddle Inference
  paddle-mrecg validate act.yaml TrainConfig.epochs=2
  paddle-mrecg validate train.yaml --float_model inference/ --train_iter 5000 --learning_rate 0.01
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


def validate_command(args) -> int:
    """Check a config file."""
    from ..slim.act_recipe import is_recipe
    if args.act or is_recipe(read_sections(args.config, ALL_SECTIONS)[0]):
        return _validate_recipe(args)
    if _is_for_hosts(args.config):
        return _validate_for_hosts(args)
    config = load_any_config(args.config, args.overrides)
    if isinstance(config, Config):
        _refuse_impossible(config)
    if args.resolved:
        make_parent(args.resolved, "--resolved")
        save_config(config, args.resolved)
    if args.model:
        _try_model(config, args)
    lines = _efold_lines(config, args)
    has_model = isinstance(config, Config) and _has_model(config.global_.model_dir)
    if has_model:
        import_paddle(False)
        from ..post.examine import check_model
        check_model(config)
    print("\n  ".join([f"{args.config}: valid", *lines]))
    for problem in missing_for_command(config) if isinstance(config, Config) else ():
        print(f"  needed on the command line, or as an argument from Python: {problem}")
    if has_model:
        _print_memory(config)
    return OK


def _refuse_impossible(config: Config):
    """What ``quant`` would refuse, as far as the settings and the names of files show it.

    Raises:
        ConfigError, DataError, OutputError: too few samples, or none; a place where no result
            can be.
    """
    from ..data.images import list_images
    from ..report.result_dir import refuse_place
    data = config.data
    is_here = data.loader is None and data.image_dir and os.path.isdir(data.image_dir)
    problems = too_few_samples(config, len(list_images(data)) if is_here else None)
    if problems:
        raise ConfigError(problems)
    model = config.global_.model_dir
    refuse_place(config.global_.save_dir, [model] if _has_model(model) else [])


def _is_for_hosts(path) -> bool:
    """Sections of both jobs in one file, as scripts of hosts read them (``paddle-mrecg run``)."""
    sections = set(read_sections(path, ALL_SECTIONS)[0])
    return bool(sections & set(TRAINING_SECTIONS)) and bool(sections & {"QuantPost", "MRECG"})


def _validate_for_hosts(args) -> int:
    """Check the sections of either job by themselves."""
    if args.model or args.resolved:
        raise ConfigError(f"{args.config} has sections of both jobs, for `paddle-mrecg run`: "
                          "--model and --resolved take a file of one job")
    sections, problems = read_sections(args.config, ALL_SECTIONS)[0], []
    for load, training in ((load_training_config, True), (load_config, False)):
        mine = {name: value for name, value in sections.items()
                if (name in TRAINING_SECTIONS) == training}
        words = [text for text in args.overrides
                 if (text.split(".")[0] in TRAINING_SECTIONS) == training]
        try:
            load(mine, words)
        except ConfigError as error:
            problems += [f"{args.config}: {text}" for text in error.problems]
    if problems:
        raise ConfigError(problems)
    print(f"{args.config}: valid, with sections of both jobs, for `paddle-mrecg run`")
    return OK


def _has_model(path) -> bool:
    return path is not None and (os.path.isdir(path) or any(
        os.path.isfile(path + suffix) for suffix in (".pdmodel", ".json")))


def _print_memory(config: Config):
    """What the job will hold, as far as its model tells."""
    from ..post.prepare import expected_memory
    try:
        lines = expected_memory(config).sentences(tempfile.gettempdir())
    except MrecgError as error:
        lines = [f"memory is not known: {error}"]
    for line in lines:
        print(f"  {line}")


def _try_model(config, args):
    """Read the model and the data, run the float program, try the evaluation.

    Raises:
        MrecgError: whatever a run would raise before its first step.
    """
    from ..data.hooks import refuse_foreign_hooks
    if not isinstance(config, Config):
        raise ConfigError(f"--model tries a post-training job, and {args.config} has settings of "
                          "quantization-aware training: leave it out")
    missing = missing_for_command(config)
    if missing:
        raise ConfigError(missing)
    refuse_foreign_hooks(config, args.config)
    import_paddle()
    from ..post.examine import check_place, examined
    check_place(config)
    with examined(config) as prepared:
        kept = [f"{name} stays float ({why})" for name, why in prepared.float_tensors.items()]
        print("\n".join([f"{numbered(len(prepared.network.scheme.weights), 'weight')} "
                         "would be quantized, in "
                         f"{numbered(len(prepared.modules), 'module')}", *prepared.notes, *kept,
                         *filter(None, (prepared.time.sentence(), prepared.time.warning()))]))


def _efold_lines(config, args):
    """Predicted e-folds for the user's own training, where the command line describes it.

    Raises:
        ConfigError: it is described in part, or for another job.
    """
    plan = {"--float_model": args.float_model, "--train_iter": args.train_iter,
            "--learning_rate": args.learning_rate}
    missing = [name for name, value in plan.items() if value is None]
    if len(missing) == len(plan):
        return []
    if missing:
        raise ConfigError(f"e-folds cannot be predicted without {' and '.join(missing)}: give "
                          "it, or none of " + ", ".join(plan))
    if isinstance(config, Config):
        raise ConfigError(f"{', '.join(plan)} predict a training, and {args.config} has settings "
                          "of post-training quantization: leave them out")
    if not 0 <= args.momentum < 1 or args.learning_rate <= 0:
        raise ConfigError("--learning_rate must be positive, and --momentum from 0 to below 1")
    import_paddle()
    import paddle
    from ..aware.expected_efolds import program_pull_lines
    optimizer = paddle.optimizer.Momentum(args.learning_rate, args.momentum,
                                          parameters=[paddle.create_parameter([1], "float32")])
    return program_pull_lines(config, args.float_model, optimizer, args.train_iter)


def _validate_recipe(args) -> int:
    """Check a recipe of AutoCompression with the code that AutoCompression
    runs after ``register()``.
    """
    if args.resolved:
        raise ConfigError("--resolved writes settings of our own jobs, and this is a recipe of "
                          "AutoCompression: leave it out")
    import_paddle()
    from ..slim.act_efolds import efold_lines
    from ..slim.act_recipe import load_recipe
    sections = load_recipe(args.config, args.overrides)
    print(f"{args.config}: valid, for PaddleSlim's AutoCompression after paddle_mrecg.register()")
    for line in efold_lines(sections):
        print(f"  {line}")
    return OK


def config_command(args) -> int:
    """List all settings, or print a recipe."""
    if args.recipe is not None:
        if args.sections or args.markdown:
            raise ConfigError("--recipe prints a recipe and not settings: leave out sections and "
                              "--markdown")
        sys.stdout.write(recipe_text(args.recipe) if args.recipe else recipe_list() + "\n")
        return OK
    print(markdown_tables() if args.markdown else text_tables(args.sections or ALL_SECTIONS))
    return OK


def add_commands(commands) -> None:
    """Add the two subcommands to the parser of ``paddle-mrecg``."""
    command = add_command(commands, "validate", validate_command, VALIDATE)
    command.add_argument("config", metavar="FILE", help="YAML file of settings")
    command.add_argument("overrides", **OVERRIDES)
    command.add_argument("--resolved", metavar="FILE",
                         help="write all settings, defaults and preset included")
    command.add_argument("--model", action="store_true",
                         help="read model and data too, and run the float program once")
    command.add_argument("--act", action="store_true",
                         help="a recipe of AutoCompression (usually seen from its sections)")
    group = command.add_argument_group(
        "your own training with bin regularization: e-folds, layer by layer")
    group.add_argument("--float_model", metavar="DIR", help="the network, exported as a program")
    group.add_argument("--train_iter", type=int, metavar="N", help="optimizer steps in all")
    group.add_argument("--learning_rate", type=float, metavar="R", help="the mean over all steps")
    group.add_argument("--momentum", type=float, default=0.9, metavar="M",
                       help="of the optimizer, 0 for SGD (%(default)s)")
    command = add_command(commands, "config", config_command, CONFIG)
    command.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(ALL_SECTIONS))
    command.add_argument("--markdown", action="store_true", help="tables in Markdown")
    command.add_argument("--recipe", nargs="?", const="", metavar="NAME",
                         help="print a recipe, or the names of all")
