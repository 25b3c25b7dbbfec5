# SPDX-License-Identifier: Apache-2.0
"""What quant-aware training adds to the loss, over all layers and all epochs."""
from typing import Callable, Dict, List, Optional, Tuple, Union

import paddle

from ..config.aware import TrainingConfig
from ..errors import ConfigError
from ..strategies.symmetric_pact import Injection, SymmetricPACTQuanter
from ..strategies.bin_regularization import bin_statistics
from .bin_regularizer import BinRegularizer
from .weight_oscillation import DampeningLoss, IterativeFreezing
from .additions import addition_quanters
from .affine import AffineOnly
from .fold import FoldedConv
from .layers import quantized_layers
from .step_watch import StepWatch


class Penalty:
    """Bin regularization and dampening of the weights, and decay of PACT's clips.

    In mode ``loss`` add ``penalty()`` to the training loss. In mode ``injection`` ``penalty()`` is
    0 and the same gradients are added inside the quanters during ``backward``: set
    ``gradient_factor`` where they are rescaled.

    Args:
        model(paddle.nn.Layer): the prepared model.
        config(TrainingConfig): all sections.

    Examples:
        .. code-block:: python

            model, penalty = paddle_mrecg.quant_aware_prepare(model, "qat.yaml", batches)
            optimizer = paddle.optimizer.Momentum(
                0.01, parameters=penalty.parameter_groups(weight_decay=1e-4))
            for epoch in range(90):
                penalty.on_epoch(epoch, 90)
                for images, labels in loader:
                    loss = criterion(model(images), labels) + penalty()
                    ...
                    optimizer.step()
                    penalty.after_step()  # for section Freezing
    """

    def __init__(self, model: paddle.nn.Layer, config: TrainingConfig):
        self.model, self.settings = model, config.quant_aware
        self._clip_lr = config.symmetric_pact.lr if config.symmetric_pact is not None else 1.0
        self._clips = [q for q in model.sublayers() if isinstance(q, SymmetricPACTQuanter)]
        self._layers = layers = list(quantized_layers(model))
        self.bins: Optional[BinRegularizer] = None
        if config.bin_regularization is not None:
            self.bins = BinRegularizer([(name,
                                         _Folded(layer) if isinstance(layer, FoldedConv) else layer)
                                        for name, layer in layers], config.bin_regularization)
        given = config.dampening
        self.dampening = given and DampeningLoss(layers, given.weight, given.start, given.reduction)
        self._freezing_settings = config.freezing
        self.freezing: Optional[IterativeFreezing] = None  # made when it first acts
        affine = self.settings.affine_epochs
        self._affine = AffineOnly(model, affine) if affine else None
        # at a rate of 0 steps are meant to rest
        self._steps = StepWatch(model) if self.settings.scale_lr > 0 else None
        self._injection = Injection(enabled=self.settings.penalty_mode == "injection")
        for quanter in self._clips:
            quanter.injection = self._injection
        if self._injection.enabled and self.bins is not None:
            for _, layer in layers:
                layer.inject = self.bins.inject
        for parameters, factor in self._added():
            for parameter in parameters:
                parameter.optimize_attr["learning_rate"] = factor
                parameter.regularizer = paddle.regularizer.L2Decay(0.0)

    def __call__(self) -> paddle.Tensor:
        """The penalty at the present parameters, a scalar; 0 in mode ``injection``.

        Raises:
            DataError: a step has become NaN or infinite; says of which layer.
        """
        if self._steps is not None:
            self._steps.count()
        if self._injection.enabled:
            return paddle.zeros([], "float32")
        self._find_grids()
        if self._affine is not None and self._affine.resting:  # what they pull at rests
            return paddle.zeros([], "float32")
        terms = [quanter.clip_penalty().sum() for quanter in self._clips if quanter.initialized]
        terms += [term.loss() for term in (self.bins, self.dampening) if term is not None]
        return paddle.add_n(terms) if terms else paddle.zeros([], "float32")

    def on_epoch(self, epoch: int, epochs: int):
        """Call before every epoch, 0 to ``epochs - 1``: moves the penalties' schedules."""
        if not 0 <= epoch < epochs:
            raise ConfigError(f"epoch {epoch} of {epochs}: epochs count from 0 to epochs - 1")
        if self._steps is not None:
            self._steps.look()
        for term in (self.bins, self.dampening, self._frozen()):
            if term is not None:
                term.on_epoch(epoch, epochs)
        if self._affine is not None:
            self._affine.on_epoch(epoch, epochs)

    def after_step(self):
        """Call after every step of the optimizer: section ``Freezing`` acts here, nothing else."""
        freezing = self._frozen()
        if freezing is not None and not (self._affine is not None and self._affine.resting):
            freezing.step()

    def _frozen(self) -> Optional[IterativeFreezing]:
        """What freezes weights; it starts from the grids, which must have been found."""
        if self.freezing is None and self._freezing_settings is not None:
            self._find_grids()
            self.freezing = IterativeFreezing(self._layers, **vars(self._freezing_settings))
        return self.freezing

    def state_dict(self) -> Dict:
        """What a checkpoint needs besides the model's and the optimizer's state: which weights
        are frozen, and how often each has turned; empty without section ``Freezing``.
        """
        freezing = self._frozen()
        return {} if freezing is None else freezing.state_dict()

    def set_state_dict(self, state: Dict):
        """Go on where ``state_dict`` was; after the model's own state is loaded."""
        freezing = self._frozen()
        if freezing is not None:
            freezing.set_state_dict(state)

    def plan(self, optimizer, steps: int, steps_per_lr: int = 1):
        """Tell how the training goes: ``BinRegularization.efolds`` needs it, and
        ``statistics`` predicts with it; see ``BinRegularizer.plan``.
        """
        if self.bins is not None:
            self._find_grids()
            self.bins.plan(optimizer, steps, steps_per_lr)

    @property
    def gradient_factor(self) -> Union[float, Callable[[], float]]:
        """Factor on injected gradients, a number or a function that gives it: the loss scale
        under AMP (``lambda: scaler.state_dict()["scale"].item()``), 1/k where gradients of k
        batches are added up. Default: 1.0."""
        return self._injection.factor

    @gradient_factor.setter
    def gradient_factor(self, factor):
        self._injection.factor = factor
        if self.bins is not None:
            self.bins.gradient_factor = factor

    def statistics(self) -> List[Dict]:
        """One row per layer: how far its weights have collapsed onto their levels, whether
        or not that is regularized.
        """
        self._find_grids()
        if self.bins is not None:
            return self.bins.statistics()
        return [dict(layer=name, **bin_statistics(layer.float_weight(), layer.weight_quanter))
                for name, layer in quantized_layers(self.model)]

    def _find_grids(self):
        """Bins need steps: those of weights that no batch has passed yet are found now."""
        for _, layer in self._layers:
            if layer.loads is not None:
                layer.loads.settle()
            # asked first: a folded layer computes its weight
            if not layer.weight_quanter.initialized:
                layer.weight_quanter.ready(layer.float_weight())

    def alphas(self) -> Dict[str, float]:
        """PACT's clips by the name of their layer, for curves."""
        return {name: float(layer.activation_quanter.alpha().item())
                for name, layer in quantized_layers(self.model)
                if isinstance(layer.activation_quanter, SymmetricPACTQuanter)}

    def parameter_groups(self, weight_decay: Optional[float] = None) -> List[Dict]:
        """Parameters for an optimizer of Paddle's: the network's, the steps, and the clips.

        Steps and clips have their own factors on the learning rate (``QuantAware.scale_lr``,
        ``SymmetricPACT.lr``) and no weight decay: a clip's own decay is in the penalty. Both stand
        in the parameters as well, for what takes no groups: ``paddle.Model``,
        ``Optimizer.minimize`` and ``LookAhead`` are given ``model.parameters()``.

        Args:
            weight_decay(float, optional): of the network's parameters.
                Default: None, the optimizer's.

        Returns:
            list[dict]: to be given as ``parameters``; groups without parameters are left out.
        """
        added = self._added()
        special = {id(p) for parameters, _ in added for p in parameters}
        network: Dict = dict(params=[p for p in self.model.parameters() if id(p) not in special])
        if weight_decay is not None:
            network["weight_decay"] = weight_decay
        groups = [network, *(dict(params=parameters, learning_rate=factor, weight_decay=0.0)
                             for parameters, factor in added)]
        return [group for group in groups if group["params"]]

    def _added(self) -> List[Tuple[List[paddle.Tensor], float]]:
        """Steps, clips, and the factor of each on the learning rate."""
        quanters = [q for _, layer in quantized_layers(self.model) for q in layer.quanters()]
        quanters += [q for _, q in addition_quanters(self.model)]
        return [(_unique(p for q in quanters for p in q.step_parameters()), self.settings.scale_lr),
                (_unique(p for q in quanters for p in q.clip_parameters()), self._clip_lr)]


class _Folded:
    """A folded convolution as bin regularization sees it: its weight is the
    product that is quantized.
    """

    def __init__(self, layer):
        self.layer = layer
        self.weight_quanter, self.activation_quanter = (layer.weight_quanter,
                                                        layer.activation_quanter)

    @property
    def weight(self):
        return self.layer.float_weight()


def _unique(tensors) -> List[paddle.Tensor]:
    return list({id(t): t for t in tensors}.values())
