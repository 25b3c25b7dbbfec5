# SPDX-License-Identifier: Apache-2.0
"""What all quanters share: the grid, its state in buffers, calibration, and the names that
hosts and exporters call.

A quanter is a layer that fake-quantizes what it is given, the same way in training and evaluation.
Its grid has codes ``qmin .. qmax``; a code ``q`` stands for ``(q - z) * step``. Whether the grid is
signed, and where its step starts, is found from data once: from the tensors seen while
``observing`` (calibration), else from the first tensor seen. That it has been found is kept in a
buffer, so a checkpoint brings it along and nothing is initialised twice.
"""
import contextlib
import functools
import math
from typing import List

import numpy as np
import paddle
from paddle.quantization import BaseQuanter

from ..compat import full_precision
from ..errors import ConfigError, DataError
from .affine import Encoding, QuantSpec, along_axis
from .form import arrived, check_form, expect, form_of, is_loading
from .processes import several, take_from_first
from .samples import Samples, awake, initial_step, weight_axis
from .fake_quantize import Grid, codes_of

ROLES = ("activation", "weight")
SMALLEST_STEP = 1e-10
_UNKNOWN, _UNSIGNED, _SIGNED = 0, 1, 2  # values of the buffer `grid`
_spec = functools.lru_cache(maxsize=None)(QuantSpec)  # asked for several times in every step


class Quanter(BaseQuanter):
    """Base of the quanters; subclasses hold what trains, ``step``, ``_set_step``, ``_quantize``.

    Args:
        layer(paddle.nn.Layer, optional): the layer whose weight or input is quantized; the
            factory passes it. Weight quanters read the number of channels from
            ``layer.weight``. Default: None.
        role(str, optional): 'activation' or 'weight'. Default: 'activation'.
        bits(int, optional): 2 to 8. Default: 8.
        per_channel(bool, optional): one step per output channel of ``layer.weight``;
            weights only. Default: False.
        signed(bool, optional): codes -2^(b-1) .. 2^(b-1)-1, else 0 .. 2^b-1. Default: None, signed
            for weights and for activations that were seen below 0.
        narrow(bool, optional): leave out the lowest signed code. Default: False.
        init(str, optional): start of the step, see ``initial_step``: 'mse', 'lsq' or
            'abs_max'. Default: 'mse'.

    Raises:
        ConfigError: bits outside 2..8, an unknown role or init, a narrow unsigned grid,
            or per-channel activations.
    """

    symmetric = True  # the zero point is 0

    def __init__(self, layer=None, *, role="activation", bits=8, per_channel=False, signed=None,
                 narrow=False, init="mse"):
        super().__init__()
        if role not in ROLES:
            raise ConfigError(f"unknown role '{role}' of a quanter; choose one of "
                              f"{', '.join(ROLES)}")
        if per_channel and (role != "weight" or getattr(layer, "weight", None) is None):
            raise ConfigError("per_channel is for quanters with role 'weight' of a "
                              "layer that has a weight")
        self.role, self.bits, self.init = role, bits, init
        self.axis = weight_axis(layer) if per_channel else None
        self.channels = layer.weight.shape[self.axis] if per_channel else 1
        self._narrow = narrow
        self._given_signed = given = True if signed is None and role == "weight" else signed
        QuantSpec(bits, given is not False, True, narrow=narrow)  # complains about bits and narrow
        # a float, which moving averages of a state dict (EMA of hosts' trainers) leave as it is
        self.register_buffer("grid", paddle.full([1], _UNKNOWN, "float32"))
        # What the grid was made for travels with the checkpoint, see check_form.
        self.register_buffer("form", form_of(bits, narrow))
        self._state = None  # of the buffer, where it is known
        self._only_zeros = False  # all that was seen: no range can be found from it
        self._awaited = False  # a checkpoint is being loaded
        self.seen = 0.0, 0.0  # lowest and highest value that the grid was found from
        self.place = role  # in the model, for messages
        self.held = False  # a frozen model's ranges follow nothing any more
        self._samples = None  # collects while observing

    # What the grid is -----------------------------------------------------------------------------

    @property
    def initialized(self) -> bool:
        """Sign and step have been found."""
        return self._grid_state() != _UNKNOWN

    def _grid_state(self) -> int:
        """What the buffer holds, read once: a look at a GPU's tensor waits for its queue."""
        if self._state is None:
            self._state = round(self.grid.item())
        return self._state

    def _state_dict_impl(self, *args, **kwargs):
        """Paddle asks every layer for its tensors here, before it loads or hands them out."""
        self._state = None
        if is_loading(args, kwargs):  # a checkpoint with this quanter brings the sign back
            expect(self.form)
            self._awaited = True
        return super()._state_dict_impl(*args, **kwargs)

    def was_loaded(self) -> bool:
        """A checkpoint with this quanter has been loaded since this was asked last."""
        awaited, self._awaited = self._awaited, False
        return arrived(self.form) and awaited

    @property
    def signed(self) -> bool:
        """Of the initialised grid; until then what was asked for, or True."""
        state = self._grid_state()
        return state == _SIGNED if state != _UNKNOWN else self._given_signed is not False

    @property
    def spec(self) -> QuantSpec:
        signed = self.signed
        return _spec(self.bits, signed, self.symmetric, self.axis, self._narrow and signed)

    @property
    def qmin(self) -> int:
        return self.spec.qmin

    @property
    def qmax(self) -> int:
        return self.spec.qmax

    def step(self) -> paddle.Tensor:
        """The positive step, float32 of shape ``[1]`` or ``[channels]``, differentiable
        w.r.t. the trained parameter.
        """
        raise NotImplementedError

    def zero_points(self) -> paddle.Tensor:
        """The code of 0.0, integers as float32, shape of ``step``; zeros
        except with a trained offset.
        """
        return paddle.zeros([self.channels], "float32")

    def scales(self) -> paddle.Tensor:
        """abs-max, ``step * qmax``: what ``paddle.quantization`` calls a scale."""
        return self.step().detach() * float(self.qmax)

    def quant_axis(self) -> int:
        """The axis with one step per index, -1 for one step in all."""
        return -1 if self.axis is None else self.axis

    def bit_length(self) -> int:
        return self.bits

    def encoding(self) -> Encoding:
        """The grid as it is stored with an exported program.

        Raises:
            DataError: training drove the step to NaN or infinity.
        """
        step, zero = self.step().numpy(), self.zero_points().numpy()
        return Encoding(self.spec, *((step, zero) if self.axis is not None else (step[0], zero[0])))

    # Quantization ---------------------------------------------------------------------------------

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """``x``, of any shape, on the grid, in its own type (float16 under AMP; computed in
        float32).
        """
        if self._samples is not None:
            self._look(self._samples, x)
            return x
        self.ready(x)
        if not self.initialized:
            return x
        with full_precision():
            x32 = x if x.dtype == paddle.float32 else x.cast("float32")
            if self._follows():
                self._follow(x32)
            y = self._quantize(x32)
            return y if x.dtype == y.dtype else y.cast(x.dtype)

    def _follows(self) -> bool:
        return not self.held and (self.training or self.role == "weight")

    def _follow(self, x: paddle.Tensor):
        """Bring an untrained range up to date; learned grids have none."""

    def _quantize(self, x: paddle.Tensor) -> paddle.Tensor:
        raise NotImplementedError

    def codes(self, x: paddle.Tensor) -> paddle.Tensor:
        """Integer codes of ``x`` as float32, without gradient."""
        with paddle.no_grad(), full_precision():
            x = x.detach() if x.dtype == paddle.float32 else x.detach().cast("float32")
            if self.role == "weight" and self._follows():
                self._follow(x)
            spec, zero = self.spec, None if self.symmetric else self.zero_points()
            return codes_of(x, self.step(), zero, Grid(spec.qmin, spec.qmax, self.axis))

    def along(self, values: paddle.Tensor, ndim: int) -> paddle.Tensor:
        """Per-channel ``values`` shaped to broadcast over a tensor of ``ndim`` dimensions."""
        return along_axis(values, self.axis, ndim)

    def gradient_scale(self, x: paddle.Tensor) -> float:
        """LSQ's ``1 / sqrt(N qmax)``; N counts a weight per step, an activation per sample."""
        sharing = self.channels if self.role == "weight" else max(1, x.shape[0] if x.ndim else 1)
        return 1.0 / math.sqrt(max(1.0, math.prod(x.shape) / sharing) * self.qmax)

    # Where the grid starts ------------------------------------------------------------------------

    @contextlib.contextmanager
    def observing(self):
        """Within this context tensors pass unchanged and are looked at; the grid is
        found from them at its end.
        """
        self._samples = Samples(self.axis, whole=self.role == "weight")
        try:
            yield self
            if self._samples.count:
                self._find(self._samples)
        finally:
            self._samples = None

    def ready(self, x: paddle.Tensor):
        """Find the grid from ``x``, unless it has been found; a frozen model finds none."""
        if self.initialized:
            return
        if self.held:
            raise DataError(f"{self.place} was not seen before it was frozen: train it first")
        samples = Samples(self.axis, whole=self.role == "weight")
        self._look(samples, x)
        self._find(samples)

    def _look(self, samples: Samples, x: paddle.Tensor):
        try:
            samples.add(x)
        except DataError as error:
            raise DataError(f"{self.place}: {error}") from error

    def _find(self, samples: Samples):
        """Find the grid. An activation that is all zero, behind a zero gamma, passes unchanged
        until it is not (with several processes the grid is found at once in all of them).
        """
        self._only_zeros = (self.role == "activation" and samples.low == samples.high == 0.0
                            and not several())
        self.seen = samples.low, samples.high
        if not self._only_zeros:
            self.initialize(samples)

    def settle(self):
        """A grid for an activation that was zero whenever it was seen."""
        if self._only_zeros and not self.initialized:
            self._set_grid(_UNSIGNED if self._given_signed is False else _SIGNED)
            self._set_step(np.full([self.channels], 1.0 / self.qmax, np.float32))

    def check_form(self, possible=()):
        """See ``form.check_form``; takes those bits over."""
        self.bits, self._narrow = check_form(self.form, self.bits, self._narrow, possible)

    def forget(self):
        """Find the grid again, from what is seen next."""
        self._set_grid(_UNKNOWN)

    def _set_grid(self, state: int):
        self.grid.set_value(np.array([state], np.float32))
        self._state = None

    def initialize(self, samples: Samples):
        """Choose sign and step.

        With several processes, those of the first are taken by all.

        Raises:
            DataError: NaN or infinity among the samples.
        """
        signed = self._given_signed if self._given_signed is not None else samples.low < 0
        self._set_grid(_SIGNED if signed else _UNSIGNED)
        with paddle.no_grad():
            self._start(samples)
        if several():
            take_from_first([*self.parameters(), *self.buffers()])
            self._state = None

    def _start(self, samples: Samples):
        """Set the trained parameters from ``samples``; the sign is known."""
        step = initial_step(samples, self.spec, self.init)
        self._set_step(awake(step, samples, self.qmax) if self.role == "weight" else step)

    def _set_step(self, step: np.ndarray):
        """Make ``step``, shape ``[channels]``, the present one."""
        raise NotImplementedError

    # What trains ----------------------------------------------------------------------------------

    def step_parameters(self) -> List[paddle.Tensor]:
        """Trained steps, thresholds and offsets."""
        return list(self.parameters())

    def clip_parameters(self) -> List[paddle.Tensor]:
        """Trained clips (PACT's alpha), which have a learning rate of their own."""
        return []
