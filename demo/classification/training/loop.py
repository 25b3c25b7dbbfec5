# SPDX-License-Identifier: Apache-2.0
"""The training loop: epochs, scores, checkpoints."""
import contextlib
import dataclasses
import os
import time
import warnings
from typing import Callable, Dict, List, Optional

import numpy as np
import paddle
import paddle.nn.functional as F

from demo.classification.training import checkpoint, parallel
from demo.classification.training.data import DataSets, EpochSampler, batches
from demo.classification.training.ema import WeightAverage
from demo.classification.training.observe import WeightBins
from demo.classification.training.schedule import Recipe, learning_rate
from paddle_mrecg.errors import ConfigError, ModelError, OutputError
from paddle_mrecg.files import write_json
from paddle_mrecg.report.progress import Progress, duration, get_logger
from paddle_mrecg.report.vdl import VisualDLWriter

CHECKPOINT, BEST, CURVES = "checkpoint.pdparams", "best.pdparams", "curves.json"
TEST_BATCH = 250


class Trainer:
    """Trains a classifier; with a directory, every epoch is saved there and a killed run
    goes on after the last one.

    Args:
        network(paddle.nn.Layer): float, or prepared by ``quant_aware_prepare``; its
            first output are the logits.
        data(DataSets): what it is trained and scored on.
        recipe(Recipe): how.
        penalty(paddle_mrecg.aware.penalty.Penalty, optional): of a
            prepared network. Default: None.
        save_dir(str, optional): for the checkpoint, the best weights, the curves and
            VisualDL. Default: None, nothing.
        watch(callable, optional): called after every epoch with ``penalty.statistics()``; the dict
            that it returns goes into that epoch's row of the curves. Default: None.
        num_workers(int, optional): processes that load training images. Default: 0, this one does.

    Attributes:
        rows(list[dict]): one per finished epoch: ``epoch`` (from 1), ``lr``, ``loss`` (with
            penalty), ``penalty``, ``train_top1`` and ``test_top1`` in percent, ``seconds``.
        best(float): the highest ``test_top1`` so far.
    """

    def __init__(self, network: paddle.nn.Layer, data: DataSets, recipe: Recipe, penalty=None,
                 save_dir: Optional[str] = None,
                 watch: Optional[Callable[[List[Dict]], Dict]] = None, num_workers: int = 0):
        self.network, self.recipe, self.penalty, self.save_dir, self._watch = (network, recipe,
                                                                               penalty, save_dir,
                                                                               watch)
        self._model = network
        if parallel.count() > 1:  # what a schedule lets rest has no gradient
            self._model = paddle.DataParallel(network, find_unused_parameters=penalty is not None)
        share = parallel.rank(), parallel.count()
        self._sampler = EpochSampler(len(data.train), recipe.batch_size, recipe.seed,
                                     recipe.epoch_images, share)
        self._batches = batches(data.train, data.view, self._sampler, recipe.seed, num_workers)
        self._test = {limit: batches(data.test, data.view,
                                     EpochSampler(min(limit or len(data.test), len(data.test)),
                                                  TEST_BATCH, share=share))
                      for limit in (recipe.epoch_test_images, None)}
        self._rate = learning_rate(recipe, len(self._sampler))
        parameters = network.parameters() if penalty is None else penalty.parameter_groups()
        self._optimizer = paddle.optimizer.Momentum(self._rate, recipe.momentum, parameters,
                                                    weight_decay=recipe.weight_decay)
        if penalty is not None:
            penalty.plan(self._optimizer, recipe.epochs * len(self._sampler))
        self._average = WeightAverage(network, recipe.ema_decay) if recipe.ema_decay else None
        self.rows: List[Dict] = []
        self.best = -1.0

    def fit(self, resume: bool = False, visualdl: bool = True) -> List[Dict]:
        """Train to the end, and leave the network in evaluation mode with the last
        weights, or their average.

        Args:
            resume(bool, optional): go on after the last saved epoch, if
                there is one. Default: False.
            visualdl(bool, optional): write VisualDL records. Default: True.

        Returns:
            list[dict]: ``rows``.

        Raises:
            ConfigError: the checkpoint was made with another recipe.
            OutputError: there is one and ``resume`` is not set.
            ModelError: the loss became NaN or infinite.
        """
        with paddle.utils.unique_name.guard():  # the optimizer names its state at the first step
            return self._fit(resume, visualdl)

    def _fit(self, resume, visualdl):
        self._open(resume)
        epochs, steps, main = self.recipe.epochs, len(self._sampler), parallel.rank() == 0
        with VisualDLWriter(f"{self.save_dir}/visualdl",
                            enabled=bool(visualdl and self.save_dir and main)) as board, \
                Progress("Training", total=epochs * steps) as bar:
            bar.update(len(self.rows) * steps)
            kept = main and self.save_dir and self.penalty is not None
            bins = WeightBins(self.network, self.save_dir, resume) if kept else None
            for epoch in range(len(self.rows), epochs):
                self.rows.append(self._epoch(epoch, bar))
                self._record(board)
                if bins:
                    bins.add(epoch + 1, self._statistics, board)
                self._save()
            if bins:
                bins.draw()
        self._finish()
        return self.rows

    def evaluate(self, limit: Optional[int] = None) -> float:
        """Top-1 in percent on all test images, or on the first ``limit`` where the
        recipe knows that number.
        """
        self._model.eval()
        right = seen = 0
        with paddle.no_grad():
            for images, labels in self._test[limit]:
                predicted = _logits(self.network(images)).numpy().argmax(1)
                right, seen = (right + int((predicted == labels.numpy()).sum()),
                               seen + len(predicted))
        right, seen = parallel.sums([right, seen])
        return 100.0 * right / seen

    def _epoch(self, epoch: int, bar: Progress) -> Dict:
        """Train and score one epoch."""
        start, rate = time.monotonic(), self._rate.get_lr()
        self._sampler.set_epoch(epoch)
        # From here on everything random is that of (seed, epoch, process): a resumed run
        # needs no generator's state.
        paddle.seed(int(np.random.SeedSequence([self.recipe.seed, epoch,
                                                parallel.rank()]).generate_state(1)[0]))
        if self.penalty is not None:
            self.penalty.on_epoch(epoch, self.recipe.epochs)
        self._model.train()
        sums = paddle.zeros([3])  # loss, penalty, right answers
        for images, labels in self._batches:
            sums += self._step(images, labels)
            bar.text(f"epoch {epoch + 1}/{self.recipe.epochs}")
            bar.update()
        parallel.average_buffers(self.network)
        loss, penalty, right = parallel.sums(sums.tolist())
        batches_seen = len(self._sampler) * parallel.count()
        if not np.isfinite(loss):
            raise ModelError(f"the loss became {loss} in epoch {epoch + 1}: lower --lr or lengthen "
                             "--warmup_epochs")
        last = epoch + 1 == self.recipe.epochs
        with self._averaged():
            top1 = self.evaluate(None if last else self.recipe.epoch_test_images)
        row = dict(epoch=epoch + 1, lr=rate, loss=loss / batches_seen,
                   penalty=penalty / batches_seen,
                   train_top1=100.0 * right / (batches_seen * self.recipe.batch_size),
                   test_top1=top1,
                   seconds=time.monotonic() - start)
        self._statistics = [] if self.penalty is None else self.penalty.statistics()
        return dict(row, **(self._watch(self._statistics) if self._watch else {}))

    def _step(self, images, labels) -> paddle.Tensor:
        """One optimizer step; loss, penalty and right answers of its batch."""
        logits = _logits(self._model(images))
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        penalty = paddle.zeros([]) if self.penalty is None else self.penalty()
        loss = loss + penalty
        loss.backward()
        self._optimizer.step()
        self._optimizer.clear_grad()
        if self.penalty is not None:
            self.penalty.after_step()
        self._rate.step()
        if self._average is not None:
            self._average.update()
        with paddle.no_grad():
            right = (logits.argmax(1) == labels).astype("float32").sum()
            return paddle.stack([loss.detach().reshape([]), penalty.detach().reshape([]),
                                 right.reshape([])])

    def _averaged(self):
        return self._average.applied() if self._average is not None else contextlib.nullcontext()

    def _record(self, board: VisualDLWriter):
        row = self.rows[-1]
        for name, value in row.items():
            if isinstance(value, (int, float)) and name != "epoch":
                board.scalar(f"train/{name}", value, row["epoch"])
        if parallel.rank() == 0:
            get_logger().info("epoch %d/%d  loss %.4f (penalty %.4f)  train %.1f "
                              "%%  test %.2f %%  %s", row["epoch"],
                              self.recipe.epochs, row["loss"], row["penalty"], row["train_top1"],
                              row["test_top1"],
                              duration(row["seconds"]))

    # On disk --------------------------------------------------------------------------------------

    def _open(self, resume: bool):
        if self.save_dir is None:
            return
        path = os.path.join(self.save_dir, CHECKPOINT)
        if os.path.exists(path):
            if not resume:
                raise OutputError(f"'{self.save_dir}' holds a run already: add --resume to go on "
                                  "with it, or choose another --save_dir")
            self._restore(checkpoint.load(path), path)
        try:
            os.makedirs(self.save_dir, exist_ok=True)
        except OSError as error:
            raise OutputError(f"'{self.save_dir}' cannot be made ({error.strerror}): choose "
                              "another --save_dir") from error
        parallel.wait()  # for all to have looked, before one writes

    def _restore(self, state: Dict, path: str):
        made, now = state["recipe"], dataclasses.asdict(self.recipe)
        differing = [f"{k} was {made.get(k)}, is {v}" for k, v in now.items() if made.get(k) != v]
        if differing:
            raise ConfigError(f"'{path}' was made with other settings ({'; '.join(differing)}): "
                              "give those again, or choose another --save_dir")
        self.network.set_state_dict(state["network"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Paddle's warm-up warns of its own entry
            self._optimizer.set_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.set_state_dict(state["average"])
        if self.penalty is not None:
            self.penalty.set_state_dict(state.get("penalty", {}))
        self.rows, self.best = state["rows"], state["best"]

    def _save(self):
        """Best weights and curves before the checkpoint: after a kill in between,
        the epoch is done once more.
        """
        improved = self.rows[-1]["test_top1"] > self.best
        self.best = max(self.best, self.rows[-1]["test_top1"])
        if self.save_dir is not None and parallel.rank() == 0:
            if improved:
                with self._averaged():
                    checkpoint.save(self.network.state_dict(), os.path.join(self.save_dir, BEST))
            write_json(os.path.join(self.save_dir, CURVES), self.rows)
            checkpoint.save(dict(recipe=dataclasses.asdict(self.recipe),
                                 network=self.network.state_dict(),
                                 optimizer=self._optimizer.state_dict(), rows=self.rows,
                                 best=self.best,
                                 penalty={} if self.penalty is None else self.penalty.state_dict(),
                                 average=self._average.state_dict() if self._average is not None
                                 else {}),
                            os.path.join(self.save_dir, CHECKPOINT))
        parallel.wait()

    def _finish(self):
        if self._average is not None:
            self._average.apply()
        self.network.eval()


def _logits(outputs) -> paddle.Tensor:
    """The first output: GoogLeNet has two more, for its auxiliary losses."""
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs
