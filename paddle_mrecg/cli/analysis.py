# SPDX-License-Identifier: Apache-2.0
"""The subcommand ``analyze``: which layers cost the accuracy."""
from ..compat import import_paddle
from .commands import OK, OVERRIDES, add_command
from .post import complete_config

ANALYZE = """\
Ranks the layers by what their quantization does to the network's output. Each layer is quantized
alone, and left float alone: its weights, its activations, both. Labels are not needed: the error is
that of the outputs, in percent of their variance, on --samples inputs. With --metric the evaluator
of the config also scores the network with each layer alone quantized, which takes one evaluation
per layer. How long it will take is said before it starts.

Prints the worst layers with cause and cure, and lines to paste into the config; writes
sensitivity.csv (all layers), sensitivity.json, sensitivity.png and suggested.yaml.

examples:
  paddle-mrecg analyze inference_model images
  paddle-mrecg analyze --config my.yaml
  paddle-mrecg analyze --config my.yaml QuantPost.weight_bits=8        # does 8 bits hurt, and where
  paddle-mrecg analyze --config my.yaml QuantPost.rounding=nearest QuantPost.bias_correction=false
  paddle-mrecg analyze --config my.yaml --metric --output analysis

PaddleSlim's names: Analysis(...).metric_error_analyse() is `analyze --metric`,
statistical_analyse() is `analyze`, get_target_quant_model(metric) is `auto`.
"""


def analyze(args) -> int:
    """Rank the layers by what their quantization costs."""
    config = complete_config(args)
    import_paddle(config.global_.tune_cpu)
    from ..analysis.job import analyze as run
    from ..analysis.job import evaluator_of
    folder = args.output or config.global_.save_dir.rstrip("/") + ".analysis"
    findings = run(config=config, save_dir=folder, samples=args.samples,
                   evaluator=evaluator_of(config) if args.metric else None)
    print(f"{findings.text()}\n\nall layers in {folder}/sensitivity.csv, picture in "
          f"{folder}/sensitivity.png")
    return OK


def add_commands(commands) -> None:
    """Add the subcommand to the parser of ``paddle-mrecg``."""
    command = add_command(commands, "analyze", analyze, ANALYZE)
    command.add_argument("--config", metavar="FILE",
                         help="YAML file of settings; or give MODEL_DIR and IMAGES")
    command.add_argument("overrides", **OVERRIDES)
    command.add_argument("--trust-hooks", action="store_true",
                         help="call functions named in a config that lies with a model")
    command.add_argument("--samples", type=int, default=8, metavar="N",
                         help="inputs on which errors are measured (default 8)")
    command.add_argument("--metric", action="store_true",
                         help="score every layer with the config's evaluator too")
    command.add_argument("--output", metavar="DIR",
                         help="where to write (default SAVE_DIR.analysis)")
