# SPDX-License-Identifier: Apache-2.0
"""Does joining modules pay, and the studies of MRECG's paper, each by one command on a small
network. All cells of a study train from one solved start, with the budget counted in passes over
modules.

    python demo/compare_granularity.py --study policies --bits W2A4 --seeds 0 1 2
    python demo/compare_granularity.py --study curves
    python demo/compare_granularity.py --model PP-LCNetV2 --bits W4A4 --policies block pairs

A step through a unit of m modules costs m passes, so equal steps for every unit (``iters_scaling:
per_unit``) cost the same whatever is joined; what a first pass takes is deducted. Of ``layer``, all
layers of a module together count as one pass.

- ``policies``: does joining pay? Output error and score of every policy.
- ``curves``: the loss of every module, of the policies that the paper draws.
- ``random``: random partitions against the policies (the paper's Pareto figure).
- ``batch``: batch size against accuracy (marginal utility), at equal steps.
- ``ablation``: granularity x batch.
- ``rounding_lr``: how large the steps of the roundings are.

The results file grows cell by cell; cells that are in it are not run again.
"""
import argparse
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)

from demo import results, sources  # noqa: E402
from demo.compare_steps import SAMPLES, WORKLOADS  # noqa: E402
from demo.mobile.workloads import batches  # noqa: E402

MODELS = [name for name in SAMPLES if name != "PicoDet-416"]  # its outputs are boxes
LOSS_POLICIES = ("loss", "loss_peaks", "optimal")
POLICIES = ("block", "pairs", "loss_peaks", "modcap", "layer", "loss", "optimal")
Groups = List[Tuple[int, int]]


class Cell(NamedTuple):
    """One training: its name in the table, what differs from preset ``fast``, and its units."""

    setting: Dict[str, str]
    mrecg: Dict[str, object]
    groups: Optional[Callable[[int], Groups]] = None  # of the number of modules


def pairs(count: int) -> Groups:
    """Modules two by two behind the first; of an even number the last stays alone too."""
    groups = [(0, 0)] + [(k, min(k + 1, count - 1)) for k in range(1, count, 2)]
    return groups


def random_groups(seed: int, most: int = 3) -> Callable[[int], Groups]:
    """A random partition into units of 1 to ``most`` modules."""
    def draw(count: int) -> Groups:
        rng, groups, start = np.random.default_rng(seed), [], 0
        while start < count:
            stop = min(count, start + int(rng.integers(1, most + 1)))
            groups.append((start, stop - 1))
            start = stop
        return groups
    return draw


def _policy(name: str, **more) -> Cell:
    granularity = {"pairs": "block"}.get(name, name)
    setting = dict(policy=name, **{k: str(v) for k, v in more.items()})
    return Cell(setting, dict(granularity=granularity, **more), pairs if name == "pairs" else None)


def _random_cells() -> Iterator[Cell]:
    for k in range(6):
        yield Cell(dict(policy=f"random {k}"), dict(granularity="block"), random_groups(k))
    for name in ("block", "loss_peaks", "optimal"):
        yield _policy(name)


STUDIES: Dict[str, Callable[[], Iterator[Cell]]] = {
    "policies": lambda: (_policy(name) for name in POLICIES),
    "curves": lambda: (_policy(name) for name in ("block", "modcap", "loss", "loss_peaks")),
    "random": _random_cells,
    "batch": lambda: (_policy("block", batch_size=b) for b in (8, 16, 32, 64, 128)),
    "rounding_lr": lambda: (_policy("block", rounding_lr=lr) for lr in (0.2, 0.05, 0.02)),
    "ablation": lambda: (_policy(name, batch_size=b) for name in ("block", "loss_peaks")
                         for b in (16, 64)),
}


class Start:
    """A network with solved rounding, and what scores it; one per bits and seed.

    Args:
        model(str): of ``MODELS``.
        bits(str): e.g. W2A4.
        seed(int): draws the calibration samples and everything else.
        num_calib(int): calibration samples.
        num_eval(int): samples that are scored.
    """

    def __init__(self, model: str, bits: str, seed: int, num_calib: int, num_eval: int):
        from paddle_mrecg.compat import seed_everything
        from paddle_mrecg.config.io import load_config
        from paddle_mrecg.post.prepare import prepare
        from paddle_mrecg.post.solved_rounding import rounded_layers
        work = WORKLOADS[model]
        weight_bits, activation_bits = (int(b) for b in bits[1:].split("A"))
        config = dict(Global=dict(seed=seed, target="simulation"), Data=dict(num_samples=num_calib),
                      QuantPost=dict(weight_bits=weight_bits, activation_bits=activation_bits))
        seed_everything(seed)
        feed = batches(work.calibration(num_calib, seed), work.batch_size)
        self.prepared = prepare(work.model_dir(), feed, load_config(config))
        self.state = rounded_layers(self.prepared, "solve").state
        self._inputs, self._score = work.evaluation(num_eval)
        self._size = work.batch_size
        self._float = self._outputs(self.prepared.float_graph)

    def score(self, state) -> Dict[str, float]:
        """The task's score and the output error ``||y - y_float||^2 / ||y_float||^2``, both in
        percent, on the samples that are scored.
        """
        from paddle_mrecg.post.program import qdq_graph
        network = self.prepared.network
        outputs = self._outputs(qdq_graph(network.graph, network.scheme, state))
        error = sum(float(np.square(y - f).sum()) for y, f in zip(outputs, self._float))
        power = sum(float(np.square(f).sum()) for f in self._float)
        return {"score": self._score(outputs), "output error": 100.0 * error / power}

    def _outputs(self, graph) -> List[np.ndarray]:
        from paddle_mrecg.deploy.predictor import Predictor
        from paddle_mrecg.graph.writer import save_program
        with tempfile.TemporaryDirectory() as folder:
            save_program(graph, f"{folder}/model")
            predict = Predictor(f"{folder}/model", [graph.tensors[n] for n in graph.inputs])
            parts = [predict(batch) for batch in batches(self._inputs, self._size)]
        return [np.concatenate(part) for part in zip(*parts)]

    def train(self, cell: Cell, num_iters: int) -> Tuple[Dict[str, float], Dict]:
        """Measures of one cell and, for the record, its units and losses per module."""
        from paddle_mrecg.config import MRECG
        from paddle_mrecg.graph.partition import join
        begin, prepared = time.process_time(), self.prepared
        settings = MRECG(**{**dict(preset="fast", num_iters=num_iters, train_above=0.0),
                            **cell.mrecg})
        modules = prepared.layers if settings.granularity == "layer" else prepared.modules
        losses, share = self._first_pass(settings)
        units = (join(prepared.graph, modules, cell.groups(len(modules))) if cell.groups
                 else self._plan(settings, modules, losses))
        walker = self._walk(units, settings, round(num_iters * (1.0 - share)))
        seconds = time.process_time() - begin
        curve = [dict(modules=[m.index for m in r.unit.modules],
                      start=r.start.relative, end=r.hard.relative,
                      inner={str(m.index): hard.relative for m, _, hard in r.inner})
                 for r in walker.results]
        return ({**self.score(walker.state), "units": len(units), "seconds": seconds,
                 "passes": num_iters * len(prepared.modules)}, dict(curve=curve))

    def _first_pass(self, settings):
        """Losses and powers of the modules, and the share of the steps that they cost."""
        if settings.granularity not in LOSS_POLICIES:
            return (None, None), 0.0
        from paddle_mrecg.graph.partition import Unit
        walker = self._walk([Unit.single(m) for m in self.prepared.modules], settings,
                            round(settings.num_iters * settings.first_pass_ratio))
        return (([r.hard.error for r in walker.results], [r.hard.power for r in walker.results]),
                settings.first_pass_ratio)

    def _plan(self, settings, modules, losses):
        from paddle_mrecg.strategies.mrecg import make_plan
        bits = {n: s.bits for n, s in self.prepared.network.scheme.weights.items()}
        return make_plan(self.prepared.graph, modules, settings, bits, *losses).units

    def _walk(self, units, settings, iters: int):
        from paddle_mrecg.post.walk import Walker
        walker = Walker(self.prepared.network, self.state, self.prepared.layers)
        for k, unit in enumerate(units):
            walker.step(unit, units[k + 1:], settings, iters)
        return walker


def of_all_seeds(command: str, runs) -> str:
    """The command that gives all ``runs``, those of earlier commands too."""
    seeds = " ".join(map(str, sorted({run["seed"] for run in runs})))
    return re.sub(r" --seeds( \d+)+", "", command) + (f" --seeds {seeds}" if seeds != "0" else "")


def study(args) -> int:
    """Run one study and print its table."""
    path = Path(args.results)
    runs = results.load_results(path)["runs"] if path.exists() else []
    done = {(*r["setting"].values(), r["seed"]) for r in runs}
    new = 0
    for seed in args.seeds:
        for bits in args.bits:
            common = dict(model=args.model, bits=bits, steps=str(args.num_iters))
            start, solved = None, dict(common, policy="solved, no training")
            for cell in [None, *args.cells]:
                setting = dict(common, **cell.setting) if cell else solved
                if (*setting.values(), seed) in done:
                    continue
                start = start or Start(args.model, bits, seed, args.num_calib, args.num_eval)
                measured, more = (start.train(cell, args.num_iters) if cell
                                  else (start.score(start.state), {}))
                new += 1
                runs.append(results.run_record(setting, seed, measured, num_eval=args.num_eval,
                                               num_calib=args.num_calib, **more))
                results.save_results(path, of_all_seeds(args.command, runs), runs)
                print(setting, runs[-1]["measured"], flush=True)
    if not new:
        print(results.NOTHING_NEW)
    print(results.markdown_table(results.load_results(path)))
    return 0


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", choices=list(STUDIES), default="policies")
    parser.add_argument("--policies", nargs="+", help="of the study, the cells of these policies "
                        "alone (default: all)")
    parser.add_argument("--model", choices=MODELS, default="ResNet-20")
    parser.add_argument("--bits", nargs="+", default=["W2A4"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--num_iters", type=int, default=60, help="steps per unit")
    parser.add_argument("--num_calib", type=int, help="calibration samples (default: the model's)")
    parser.add_argument("--num_eval", type=int, help="samples to score (default: the model's)")
    parser.add_argument("--results", help="default: demo/classification/results/study_STUDY.json")
    args = parser.parse_args(argv)
    args.cells = list(STUDIES[args.study]())
    if args.policies:
        known = list(dict.fromkeys(c.setting["policy"] for c in args.cells))
        if unknown := set(args.policies).difference(known):
            parser.error(f"--policies {' '.join(sorted(unknown))}: study {args.study} has "
                         f"{', '.join(known)}")
        args.cells = [c for c in args.cells if c.setting["policy"] in args.policies]
    calib, scored = SAMPLES[args.model]
    args.num_calib, args.num_eval = args.num_calib or calib, args.num_eval or scored
    folder = sources.ROOT / "demo" / "classification" / "results"
    args.results = args.results or folder / f"study_{args.study}.json"
    args.command = results.command_line("demo/compare_granularity.py", argv)
    return args


@sources.explained
def main(argv=None) -> int:
    args = parse_args(argv)
    from paddle_mrecg.compat import tune_cpu
    tune_cpu(True)
    return study(args)


if __name__ == "__main__":
    sys.exit(main())
