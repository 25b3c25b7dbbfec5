# SPDX-License-Identifier: Apache-2.0
"""The studies of ``compare_granularity.py study``: all cells train from one solved start, with the
budget counted in passes over modules.

A step through a unit of m modules costs m passes, so equal steps for every unit (``iters_scaling:
per_unit``) cost the same whatever is joined; what a first pass takes is deducted. Of ``layer``, all
layers of a module together count as one pass.

- ``policies``: does joining pay? Output error and top-1 of every policy.
- ``curves``: the loss of every module, of the policies that the paper draws.
- ``random``: random partitions against the policies (the paper's Pareto figure).
- ``batch``: batch size against accuracy (marginal utility), at equal steps.
- ``ablation``: granularity x batch.
- ``rounding_lr``: how large the steps of the roundings are.
"""
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from demo import results, sources
from demo.classification import cifar10, models
from demo.classification.quant_post import job_config
from demo.ocr import crops

CONFIG = "configs/classification/cifar_resnet20_mrecg_w4a4.yaml"
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
        model(str): a CIFAR network of ``demo.classification.models``.
        bits(str): e.g. W2A4.
        seed(int): draws the calibration images and everything else.
        args: ``data_dir``, ``num_calib`` and ``num_eval`` of the command line.
    """

    def __init__(self, model: str, bits: str, seed: int, args):
        from paddle_mrecg.compat import seed_everything
        from paddle_mrecg.post.prepare import prepare
        from paddle_mrecg.post.solved_rounding import rounded_layers
        data_dir = args.data_dir or cifar10.DATA_DIR
        weight_bits, activation_bits = bits[1:].split("A")
        config = job_config(model, str(sources.ROOT / CONFIG),
                            [f"QuantPost.weight_bits={weight_bits}",
                             f"QuantPost.activation_bits={activation_bits}",
                             f"Data.num_samples={args.num_calib}"], data_dir, seed)
        config.data.loader_args["num_samples"] = args.num_calib
        seed_everything(seed)
        self.prepared = prepare(models.inference_model(model), None, config)
        self.state, _ = rounded_layers(self.prepared, "solve")
        self.images, self.labels = cifar10.test_set(data_dir, args.num_eval)
        self._float = self._logits(self.prepared.float_graph)

    def score(self, state) -> Dict[str, float]:
        """Top-1 and the output error ``||y - y_float||^2 / ||y_float||^2`` of the logits, both in
        percent, on the test images.
        """
        from paddle_mrecg.post.program import qdq_graph
        network = self.prepared.network
        logits = self._logits(qdq_graph(network.graph, network.scheme, state))
        error = np.square(logits - self._float).sum() / np.square(self._float).sum()
        return {"top1": 100.0 * float((logits.argmax(-1) == self.labels).mean()),
                "output error": 100.0 * float(error)}

    def _logits(self, graph) -> np.ndarray:
        from paddle_mrecg.deploy.predictor import Predictor
        from paddle_mrecg.graph.writer import save_program
        with tempfile.TemporaryDirectory() as folder:
            save_program(graph, f"{folder}/model")
            predict = Predictor(f"{folder}/model", [graph.tensors[n] for n in graph.inputs])
            return np.concatenate([predict(b)[0] for b in crops.batches(self.images, 250)])

    def train(self, cell: Cell, num_iters: int) -> Tuple[Dict[str, float], Dict]:
        """Measures of one cell and, for the record, its units and losses per module."""
        from paddle_mrecg.config import MRECG
        from paddle_mrecg.graph.partition import join
        begin, prepared = time.perf_counter(), self.prepared
        settings = MRECG(**{**dict(preset="fast", num_iters=num_iters, train_above=0.0),
                            **cell.mrecg})
        modules = prepared.layers if settings.granularity == "layer" else prepared.modules
        losses, share = self._first_pass(settings)
        units = (join(prepared.graph, modules, cell.groups(len(modules))) if cell.groups
                 else self._plan(settings, modules, losses))
        walker = self._walk(units, settings, round(num_iters * (1.0 - share)))
        measured = self.score(walker.state)
        seconds = time.perf_counter() - begin
        curve = [dict(modules=[m.index for m in r.unit.modules],
                      start=r.start.relative, end=r.hard.relative,
                      inner={str(m.index): hard.relative for m, _, hard in r.inner})
                 for r in walker.results]
        return ({**measured, "units": len(units), "seconds": seconds,
                 "passes": num_iters * len(prepared.modules)},
                dict(curve=curve, num_eval=len(self.labels)))

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
        walker = Walker(self.prepared.network, self.state,
                        self.prepared.layers)
        for k, unit in enumerate(units):
            walker.step(unit, units[k + 1:], settings, iters)
        return walker


def study(args) -> int:
    """Run one study; its results file grows cell by cell, and cells that are in it are not run
    again.
    """
    if not args.model.startswith("cifar"):
        raise sources.Absent("the studies are for the small networks: --model cifar_resnet20 or "
                             "cifar_resnet56")
    path = Path(args.results)
    runs = results.load_results(path)["runs"] if path.exists() else []
    done = {(*r["setting"].values(), r["seed"]) for r in runs}
    for seed in args.seeds:
        for bits in args.bits or ("W2A4",):
            common = dict(model=args.model, bits=bits, steps=str(args.num_iters))
            start, solved = None, dict(common, policy="solved, no training")
            for cell in [None, *STUDIES[args.study]()]:
                setting = dict(common, **cell.setting) if cell else solved
                if (*setting.values(), seed) in done:
                    continue
                start = start or Start(args.model, bits, seed, args)
                measured, more = (start.train(cell, args.num_iters) if cell
                                  else (start.score(start.state), {}))
                runs.append(results.run_record(setting, seed, measured, **more))
                results.save_results(path, args.command, runs)
                print(setting, runs[-1]["measured"], flush=True)
    print(results.markdown_table(results.load_results(path)))
    return 0
