# SPDX-License-Identifier: Apache-2.0
"""Compare the values of ``QuantPost.equalize``: solved roundings, no reconstruction, every layer
quantized.

    python demo/compare_equalize.py --model picodet --bits W8A8 W4A8 --modes none fold auto

Adds to ``demo/detection/results/equalize.json`` and prints which layers were scaled, with the error
of their outputs before and after.
"""
import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from PIL import Image  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)

from demo import results, sources  # noqa: E402
from demo.classification import models as classification_models  # noqa: E402
from demo.classification.quant_post import job_config  # noqa: E402
from demo.detection import models as detection_models  # noqa: E402

SCRIPT = "demo/compare_equalize.py"
RESULTS = sources.ROOT / "demo/detection/results/equalize.json"
RECIPES = {**{name: f"detection/{name}_w4a8" for name in detection_models.NAMES},
           **{name: f"classification/{name}_mrecg_w4a8" for name in ("mobilenet_v1", "pplcnetv2")},
           "ppocr_det": "ocr/ppocrv4_det_w4a8", "ppocr_rec": "ocr/ppocrv4_rec_mrecg_w4a8"}


def job(args, bits: str, mode: str):
    """The model's folder and the config of one cell: the model's recipe without its exceptions."""
    from paddle_mrecg.config.io import load_config
    weight_bits, activation_bits = bits[1:].split("A")
    overrides = [f"QuantPost.weight_bits={weight_bits}", f"QuantPost.equalize={mode}",
                 f"QuantPost.activation_bits={activation_bits}", "QuantPost.skip=[]",
                 "Global.visualdl=false", f"Global.seed={args.seed}", *args.overrides]
    recipe = sources.ROOT / f"configs/{RECIPES[args.model]}.yaml"
    if args.model in classification_models.NAMES:
        config = job_config(args.model, recipe, overrides, seed=args.seed)
        return classification_models.inference_model(args.model), config
    found = (detection_models.inference_model(args.model) if args.model in detection_models.NAMES
             else sources.model_dir(args.model))
    return found, load_config(recipe, overrides)


def scores(evaluator, graph, source):
    """The metrics of a program, in percent."""
    from paddle_mrecg.deploy.predictor import Predictor
    from paddle_mrecg.graph.writer import save_program
    with tempfile.TemporaryDirectory() as folder:
        save_program(graph, f"{folder}/model")
        predict = Predictor(f"{folder}/model", [source.tensors[n] for n in source.inputs])
        found = evaluator(predict)
    return {k: 100 * v if k in ("top1", "top5") else v for k, v in found.items()}


def run(args, bits: str, mode: str, full):
    """One cell; returns the float scores (computed once) and the cell's numbers per metric."""
    from paddle_mrecg.compat import seed_everything
    from paddle_mrecg.data.evaluation import make_evaluator
    from paddle_mrecg.post.prepare import prepare
    from paddle_mrecg.post.program import qdq_graph
    from paddle_mrecg.post.solved_rounding import rounded_layers
    model_dir, config = job(args, bits, mode)
    seed_everything(args.seed)
    prepared = prepare(model_dir, None, config)
    evaluator = make_evaluator(config.evaluation, args.seed)
    full = full or scores(evaluator, prepared.float_graph, prepared.float_graph)
    state = rounded_layers(prepared, "solve").state
    program = qdq_graph(prepared.graph, prepared.network.scheme, state)
    solved = scores(evaluator, program, prepared.graph)
    prepared.network.store.close()
    if args.keep:
        from paddle_mrecg.graph.writer import save_program
        save_program(program, f"{args.keep}/{args.model}_{bits}_{mode}/model")
    for entry in prepared.equalized:
        print(f"  {entry.way:8} {entry.before:8.5f} -> {entry.after:8.5f}  ratio "
              f"{entry.ratio:6.1f}  {' '.join(entry.layers)}")
    folded = sum(len(e.layers) for e in prepared.equalized if e.way == "fold")
    inserted = sum(e.way == "multiply" for e in prepared.equalized)
    return full, {m: {"float": full[m], "solved": solved[m], "layers folded": folded,
                      "multiplications": inserted} for m in solved}


def record(path: Path, args, bits: str, mode: str, numbers):
    """Add a cell to the results file, in place of an earlier one."""
    new = [results.run_record(dict(model=args.model, bits=bits, equalize=mode, metric=metric),
                              args.seed, values, overrides=args.overrides)
           for metric, values in numbers.items()]
    runs = results.load_results(path)["runs"] if path.exists() else []
    taken = [(r["setting"], r["seed"]) for r in new]
    runs = [r for r in runs if (r["setting"], r["seed"]) not in taken] + new
    results.save_results(path, f"python {SCRIPT} --model MODEL --bits W8A8 W4A8", runs)


@sources.explained
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=sorted(RECIPES), required=True)
    parser.add_argument("--bits", nargs="+", default=["W8A8", "W4A8"])
    parser.add_argument("--modes", nargs="+", default=["none", "fold", "auto"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--keep", help="folder for the quantized programs; default: not kept")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    args = parser.parse_intermixed_args(argv)
    from paddle_mrecg.compat import tune_cpu
    tune_cpu(True)
    full = None
    for bits in args.bits:
        for mode in args.modes:
            full, numbers = run(args, bits, mode, full)
            print(args.model, bits, mode, numbers, flush=True)
            record(args.results, args, bits, mode, numbers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
