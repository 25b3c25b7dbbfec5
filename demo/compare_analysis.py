# SPDX-License-Identifier: Apache-2.0
"""Is the ranking of ``analyze`` that of the task's metric, and does ``auto`` raise fewer layers
than PaddleSlim's own analysis keeps float?

    python demo/compare_analysis.py                                  # all models: hours of one core
    python demo/compare_analysis.py --models MobileNetV1 --questions ranking
    python demo/compare_analysis.py --table                          # of the cells that exist

``ranking``: every layer alone is quantized, rounded to nearest, without corrected biases; the
errors of the network's output on a few samples are correlated with what the metric loses on the
scored ones (Spearman). How far a metric can be ordered at all is its reliability: what layers cost
on every second of the scored samples against what they cost on the others.

``slim``: the same programs go PaddleSlim's way, as its ``Analysis`` does (``metric_error_analyse``,
``get_target_quant_model``): layers by the metric that each alone costs, which the cell of
``ranking`` holds, the worst kept float one by one until at most ``DROP`` points are lost. Grids,
calibration samples and programs are ours; the order and the rounding to nearest are PaddleSlim's.
At which layer its loop ends is found by bisection here; the evaluations are those of the loop.

``hand``: the same programs without an analysis: the first and the last layer float, then the next
ones from both ends, the fewest by bisection; and along the ranking of ``analyze`` in its place.

``auto``: the search for a loss of at most ``DROP`` points on the same samples and metric, from the
same bits.

Every cell is a process of its own with one thread and leaves one file in
``results/analysis_cells``; an interrupted run goes on where it stopped, a search within its tries
(its minutes are not known then). Seconds are those of the
processor; those of ``analyze`` are without the evaluations.
"""
import argparse
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from PIL import Image  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)

from demo import results, sources  # noqa: E402
from demo.analysis_table import BITS, CELLS, SAMPLES, correlation, table  # noqa: E402
from demo.compare_steps import Evaluator  # noqa: E402
from demo.mobile import workloads  # noqa: E402
from demo.mobile.workloads import batches  # noqa: E402

SEARCHES = ROOT / "cache" / "analysis"  # of searches that are under way
QUESTIONS = ("ranking", "slim", "hand", "auto")
WORKLOADS = {**workloads.WORKLOADS, **workloads.TEXT_DETECTORS}
DROP = 1.0  # points of the metric
HALVES = {"even": slice(0, None, 2), "odd": slice(1, None, 2)}


class RankingEvaluator(Evaluator):
    """Scores the halves of the samples too: every second one, and the others. Knows when it was
    first called: what an analysis does before is the analysis.
    """

    first = None

    def __call__(self, predict):
        self.first = self.first or time.process_time()
        outputs = self.outputs(predict)
        return {"score": self._score(outputs),
                **{half: self._score(outputs, rows) for half, rows in HALVES.items()}}


def job(model: str, bits: str, **post):
    """The config of one cell: defaults, but for the bits and ``post``."""
    weight_bits, activation_bits = (int(b) for b in bits[1:].split("A"))
    return dict(Global=dict(visualdl=False, tune_cpu=True),
                Data=dict(num_samples=SAMPLES[model][0], batch_size=WORKLOADS[model].batch_size),
                QuantPost=dict(weight_bits=weight_bits, activation_bits=activation_bits, **post),
                MRECG=dict(preset="none"))


def nearest_job(model: str, bits: str):
    """The job of ``ranking`` and ``slim``: of the network as it is."""
    return job(model, bits, rounding="nearest", bias_correction=False, equalize="none")


def measure_ranking(model: str, bits: str):
    """What ``analyze`` says against what the metric loses."""
    from paddle_mrecg import analyze
    work = WORKLOADS[model]
    feed = batches(work.calibration(SAMPLES[model][0]), work.batch_size)
    evaluator = RankingEvaluator(work, SAMPLES[model][1])
    model_dir, begin = work.model_dir(), time.process_time()
    found = analyze(model_dir, feed, nearest_job(model, bits), evaluator=evaluator)
    keys = {"drop": "score", **{half: half for half in HALVES}}
    layers = [dict(weight=e.weight, activation=e.activation, error=e.on["both"],
                   **{key: round(found.float_metric[metric] - e.metric[metric], 4)
                      for key, metric in keys.items()}) for e in found.layers]
    errors, drops, *halves = ([e[key] for e in layers] for key in ("error", *keys))
    return {"analyze": evaluator.first - begin, "float": found.float_metric["score"],
            "Spearman": correlation(errors, drops),
            "reliability": correlation(*halves)}, dict(layers=layers, ranked=found.samples)


def kept_of(model: str, bits: str):
    """Programs with some layers float, along a cell of ``ranking``."""
    from demo.kept_float import Kept
    from paddle_mrecg.analysis.job import prepare_to_measure
    from paddle_mrecg.config.io import load_config
    path = results.cell_path(CELLS, setting_of(model, bits, "ranking"), 0)
    if not path.exists():
        raise sources.Absent(f"no ranking of {model} at {bits}: run --questions ranking first")
    run, work = results.load_results(path)["runs"][0], WORKLOADS[model]
    feed = batches(work.calibration(SAMPLES[model][0]), work.batch_size)
    prepared = prepare_to_measure(work.model_dir(), feed,
                                  load_config(nearest_job(model, bits)))[0]
    return Kept(prepared, run["layers"], run["measured"]["float"],
                Evaluator(work, SAMPLES[model][1]), DROP)


def measure_slim(model: str, bits: str):
    """PaddleSlim's way; the count at which its loop ends is found by bisection."""
    from demo.kept_float import worst_first
    kept = kept_of(model, bits)
    count, lost = kept.fewest(worst_first(kept.layers, "drop"))
    layers = len(kept.layers)
    return {"slim drop": lost, "slim layers": count,
            "slim evaluations": layers + min(count + 1, layers)}, {}


def measure_hand(model: str, bits: str):
    """Without an analysis, and along that of ``analyze``."""
    from demo.kept_float import from_both_ends, worst_first
    kept = kept_of(model, bits)
    hand, hand_lost = kept.fewest(from_both_ends(kept.layers))
    ours, lost = kept.fewest(worst_first(kept.layers, "error"))
    return {"hand layers": hand, "hand drop": hand_lost,
            "ranked layers": ours, "ranked drop": lost}, {}


def measure_auto(model: str, bits: str):
    """What ``auto`` needs for the same loss on the same samples."""
    from paddle_mrecg import Goal, auto
    work = WORKLOADS[model]
    feed = batches(work.calibration(SAMPLES[model][0]), work.batch_size)
    evaluator, model_dir = Evaluator(work, SAMPLES[model][1]), work.model_dir()
    place = SEARCHES / results.cell_path(CELLS, setting_of(model, bits, "auto"), 0).stem
    resumed, begin = place.exists(), time.process_time()
    found = auto(model_dir, feed, job(model, bits), str(place / "out"), evaluator,
                 Goal(max_drop=DROP))
    seconds = time.process_time() - begin
    shutil.rmtree(place)
    measured = {"auto drop": found.best.loss, "reached": float(found.reached),
                **raised_layers(model_dir, job(model, bits), found.best.settings),
                "auto evaluations": len(found.tries)}
    if not resumed:
        measured["auto minutes"] = seconds / 60
    return measured, dict(taken=found.best.name,
                          tries=[[t.name, round(t.loss, 3), round(t.bits, 3)] for t in found.tries])


def raised_layers(model, config, settings):
    """How many layers have more bits with ``settings`` on top of ``config``, and how many are float
    then.
    """
    from paddle_mrecg.config.io import load_config
    from paddle_mrecg.graph.fold import fold
    from paddle_mrecg.post.prepare import read_model
    from paddle_mrecg.post.scheme import build_scheme
    given = load_config(config)
    graph = fold(read_model(model, given))
    post = {**config["QuantPost"], **settings.get("QuantPost", {})}
    before, after = (build_scheme(graph, c.quant_post, given.global_.target).weights
                     for c in (given, load_config({**config, "QuantPost": post})))
    return {"auto layers": sum(spec.bits > before[name].bits for name, spec in after.items()),
            "auto float layers": len(before.keys() - after.keys())}


def setting_of(model: str, bits: str, question: str):
    """What names a cell."""
    return dict(model=model, metric=WORKLOADS[model].metric, bits=bits, question=question)


def measure(setting):
    """One cell: its results file."""
    run = {"ranking": measure_ranking, "slim": measure_slim, "hand": measure_hand,
           "auto": measure_auto}[setting["question"]]
    measured, extra = run(setting["model"], setting["bits"])
    count, scored = SAMPLES[setting["model"]]
    results.save_results(
        results.cell_path(CELLS, setting, 0),
        f"python demo/compare_analysis.py --models '{setting['model']}' --bits {setting['bits']} "
        f"--questions {setting['question']}",
        [results.run_record(setting, 0, measured, samples=scored, calibration=count, **extra)])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--models", nargs="+", choices=list(SAMPLES), default=list(SAMPLES))
    made.add_argument("--bits", nargs="+", choices=BITS, default=["W4A8"])
    made.add_argument("--questions", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    made.add_argument("--table", action="store_true", help="print the table and measure nothing")
    made.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return made


@sources.explained
def main(argv=None) -> int:
    args = parser().parse_args(argv)
    settings = [setting_of(model, bits, question)
                for question in args.questions for model in args.models for bits in args.bits]
    return results.measure_cells(
        [(results.cell_path(CELLS, setting, 0),
          ["--models", setting["model"], "--bits", setting["bits"], "--questions",
           setting["question"]], (setting,)) for setting in settings],
        __file__, args, measure, table, timeout=3 * 3600)


if __name__ == "__main__":
    sys.exit(main())
