# SPDX-License-Identifier: Apache-2.0
"""Reconstruct one unit: the algorithm on a page.

Given the unit's input in the float and in the quantized network, train the
rounding of its weights (AdaRound) and the scales of its activations (LSQ) so
that its output comes close to the float network's, quantizing only a random
part of the elements while training (QDrop). Several joined modules form one
unit (MRECG); nothing below depends on how many.
"""
from typing import Dict, List, Optional, Union

import numpy as np
import paddle

from ..config import MRECG
from .activation_quantizer import ActivationQuantizer
from .drop import DropMask, chosen_keep_prob
from .network_state import NetworkState
from .soft_rounding import SoftRounding
from .step_batches import StepBatches
from .unit_loss import UnitProblem, array_loss, squared_error

MEAN_SLOPE = 0.2  # of the rectified sigmoid's v = 2h - 1: 0.3 in the middle, 0.09 at the ends


def annealed_beta(step: int, iters: int, settings: MRECG) -> Optional[float]:
    """Exponent b of the rounding term at ``step``: None during warm-up, then linear
    from beta_start to beta_end.
    """
    begin = settings.warm_up * iters
    if step < begin:
        return None
    progress = (step - begin) / max(1.0, iters - begin)
    return settings.beta_end + (settings.beta_start - settings.beta_end) * max(0.0, 1.0 - progress)


class UnitTrainer:
    """Trains the roundings and scales of one unit.

    Args:
        problem(UnitProblem): inputs and targets.
        state(NetworkState): the network so far; changed only by ``commit``.
        settings(MRECG): the section of the config.
        params(dict): float parameters.
        seed(int): seed of sampling and dropping.
    """

    def __init__(self, problem: UnitProblem, state: NetworkState, settings: MRECG, params,
                 seed: int):
        self.problem, self.state, self.settings = problem, state, settings
        self.rng = np.random.default_rng(seed)
        runner = problem.runner
        keep_prob = chosen_keep_prob(settings.keep_prob,
                                     [state.activation_encodings[n].spec.bits
                                      for n in runner.activations])
        self.drop = DropMask(keep_prob, seed) if keep_prob < 1 else None
        self.rounding = {n: SoftRounding(params[n], state.weight_encodings[n],
                                         state.codes[n] if n in state.solved else None,
                                         settings.start_margin)
                         for n in runner.weights if n not in state.finished}
        self.biases = {n: _parameter(state.biases.get(n, params[n])) for n in problem.biases
                       if settings.bias_lr > 0 and n not in state.finished}
        self.frozen = {n: v for n, v in state.parameters(runner).items()
                       if n not in self.rounding and n not in self.biases}
        learn = settings.scale_lr > 0 or settings.activation_clip == "symmetric_pact"
        self.quantizers = {n: ActivationQuantizer(state.activation_encodings[n],
                                                  learn=learn and n not in state.finished,
                                                  clip=settings.activation_clip)
                           for n in runner.activations}
        depthwise = any(op.type == "depthwise_conv2d" for op in runner.ops)
        absolute = settings.round_weight_depthwise if depthwise else settings.round_weight
        self.round_weight: Dict[str, Union[float, paddle.Tensor]] = dict.fromkeys(self.rounding,
                                                                                  absolute)
        self.inner_weights = self._inner_weights()
        self._batches = None
        self.groups: List[List[paddle.Tensor]] = []  # the parameters of each optimizer

    def _inner_weights(self) -> Dict[str, float]:
        """Factors that make ``inner_weight`` times an inner target's relative error
        count as much as the output's.
        """
        factor, inner = self.settings.inner_weight, self.problem.inner_targets
        if not factor or not inner:
            return {}
        power = {n: array_loss(v, v).power for n, v in inner.items()}
        output = sum(array_loss(v, v).power for v in self.problem.targets.values())
        return {n: factor * output / p for n, p in power.items() if p > 0}

    def warm_start(self, alphas: Dict[str, np.ndarray]):
        """Continue from earlier rounding variables instead of from the start."""
        for name, rounding in self.rounding.items():
            if name in alphas:
                rounding.load_alpha(alphas[name])

    def train(self, iters: int, on_step=None, best=None, keeper=None) -> int:
        """``iters`` Adam steps on roundings and scales.

        Args:
            iters(int): how many.
            on_step(callable, optional): called with (trainer, step, loss) after each.
                Default: None.
            best(BestIterate, optional): judges some iterates; the trainer ends at the best.
                Default: None, it ends at the last.
            keeper(UnitKeeper, optional): goes on where a killed run was, and saves. Default: None.

        Returns:
            int: steps taken, fewer than ``iters`` after an early stop.
        """
        settings = self.settings
        optimizers, schedules = self._optimizers(max(1, iters))
        points = best.points(iters) if best else []
        half = points[(len(points) - 1) // 2] if settings.early_stop and points else iters + 1
        first = keeper.resume(self, optimizers, best) if keeper else 0
        for step in range(first, iters):
            beta = annealed_beta(step, iters, settings)
            if beta is not None:
                self._settle_round_weight()
            loss = self._loss(beta)
            loss.backward()
            if settings.round_weight_relative > 0 and beta is None:
                self._scale_round_weight(step)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.clear_grad()
            for schedule in schedules:
                schedule.step()
            if on_step:
                on_step(self, step, loss)
            if step + 1 in points:
                best.judge(self, step + 1)
                if best.snapshot is None and step + 1 >= half:
                    iters = step + 1
                    break
            if keeper:
                keeper.after(self, optimizers, best, step + 1)
        self._close()
        if best and best.snapshot:
            self.restore(best.snapshot)
        return iters

    def _optimizers(self, iters: int):
        """Adam for the roundings and, where they learn, for scales and biases;
        and what moves their steps.
        """
        settings, start = self.settings, self.settings.rounding_lr_start
        scales = [p for q in self.quantizers.values() for p in q.parameters()]
        jobs = [(paddle.optimizer.lr.LambdaDecay(settings.rounding_lr,
                                                 lambda step: start + (1.0 - start) * step / iters),
                 [r.alpha for r in self.rounding.values()])]
        for lr, parameters in ((settings.scale_lr, scales),
                               (settings.bias_lr, list(self.biases.values()))):
            if parameters:
                jobs.append((paddle.optimizer.lr.CosineAnnealingDecay(lr, T_max=iters), parameters))
        self.groups = [parameters for _, parameters in jobs]
        return ([paddle.optimizer.Adam(schedule, parameters=p) for schedule, p in jobs],
                [schedule for schedule, _ in jobs])

    def _loss(self, beta) -> paddle.Tensor:
        problem, batch = self.problem, self._batch()
        feed = {n: batch["quant", n] for n in problem.inputs}
        float_feed = {n: batch["float", n] for n in problem.inputs} if self.drop else None
        weights = dict(self.frozen, **self.biases)
        for name, rounding in self.rounding.items():
            # the rounding term's gradient comes along
            weights[name] = rounding.soft(self.round_weight[name], beta)
        fetch = problem.outputs + list(self.inner_weights)
        output = problem.runner.run_quantized(feed, fetch, weights, self.quantizers,
                                              drop=self.drop, float_feed=float_feed)
        loss = None
        for name in problem.outputs:
            term = squared_error(output[name], batch["target", name],
                                 batch.get(("importance", name)))
            loss = term if loss is None else loss + term
        for name, weight in self.inner_weights.items():
            loss = loss + squared_error(output[name], batch["target", name]) * weight
        return loss

    def _batch(self):
        """The next step's samples, as tensors by kind and name."""
        if self._batches is None:
            problem = self.problem
            self._batches = StepBatches(problem.arrays(self.inner_weights, bool(self.drop)),
                                        self._drawn, problem.quant_stream.store.in_files > 0)
        return self._batches.next()

    def skip_batch(self):
        """Draw a step's samples, and leave them."""
        self._drawn()

    def _drawn(self) -> np.ndarray:
        count = self.problem.quant_stream.num_samples
        return self.rng.integers(count, size=min(self.settings.batch_size, count))

    def _close(self):
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    def _scale_round_weight(self, step: int):
        """Measure the reconstruction loss's gradient while the rounding term is still off.

        The published lambda fits the published losses and 20,000 steps: where the loss is larger,
        or the steps are few, roundings stay undecided and the hard network is worse than the soft
        one. This weight follows the gradient that it has to overcome; the best factor still differs
        between layers, which is why the option is off by default.
        """
        for name, rounding in self.rounding.items():
            gradient = paddle.abs(rounding.alpha.grad).mean()
            weight = gradient * (self.settings.round_weight_relative / MEAN_SLOPE)
            self.round_weight[name] = (weight if step == 0
                                       else 0.9 * self.round_weight[name] + 0.1 * weight)

    def _settle_round_weight(self):
        """Read the measured weights from the device, once: from now on they stay."""
        for name, weight in self.round_weight.items():
            if isinstance(weight, paddle.Tensor):
                self.round_weight[name] = float(weight)

    def settled(self) -> float:
        """Share of the roundings that are decided: h below 0.01 or above 0.99."""
        h = np.concatenate([h.ravel() for h in self.h().values()])
        return float(np.mean((h < 0.01) | (h > 0.99)))

    def soft_weights(self) -> Dict[str, paddle.Tensor]:
        with paddle.no_grad():
            return dict(self.frozen, **self.biases,
                        **{n: r.soft() for n, r in self.rounding.items()})

    def alphas(self) -> Dict[str, np.ndarray]:
        return {n: r.alpha.numpy() for n, r in self.rounding.items()}

    def h(self) -> Dict[str, np.ndarray]:
        """The soft roundings, in [0, 1]."""
        return {n: r.h() for n, r in self.rounding.items()}

    def snapshot(self) -> Dict[str, Dict[str, np.ndarray]]:
        """All that is trained, copied; the reverse is ``restore``."""
        return dict(alphas=self.alphas(), biases={n: b.numpy() for n, b in self.biases.items()},
                    scales={n: [p.numpy() for p in q.parameters()]
                            for n, q in self.quantizers.items()})

    def restore(self, snapshot: Dict[str, Dict[str, np.ndarray]]):
        """Go back to an earlier iterate."""
        self.warm_start(snapshot["alphas"])
        for name, bias in self.biases.items():
            bias.set_value(snapshot["biases"][name])
        for name, quantizer in self.quantizers.items():
            for parameter, value in zip(quantizer.parameters(), snapshot["scales"][name]):
                parameter.set_value(value)

    def commit(self) -> NetworkState:
        """The state with this unit's weights rounded hard and its scales fixed."""
        state = self.state.copy()
        for name, rounding in self.rounding.items():
            state.codes[name] = rounding.codes()
        for name, quantizer in self.quantizers.items():
            if name not in state.finished:
                state.activation_encodings[name] = quantizer.encoding()
        state.biases.update({n: bias.numpy() for n, bias in self.biases.items()})
        state.finished.update(self.rounding, self.quantizers, self.problem.biases)
        return state


def _parameter(value: np.ndarray) -> paddle.Tensor:
    return paddle.create_parameter(list(value.shape), "float32",
                                   default_initializer=paddle.nn.initializer.Assign(value))
