# SPDX-License-Identifier: Apache-2.0
"""Our quanters as factories for ``paddle.quantization.QuantConfig``, also importable from
``paddleslim.quant.quanters``.

Paddle's own ``convert`` follows, and it stores signed codes with zero point 0
whatever a quanter says. So these factories train on signed grids: an unsigned
one would have half the step that is deployed.
"""
from paddle.quantization.factory import QuanterFactory

from ..errors import ConfigError
from ..aware.quanters.lsq import LSQQuanter
from ..strategies.symmetric_pact import SymmetricPACTQuanter
from ..aware.quanters.tqt import TQTQuanter


class SignedFactory(QuanterFactory):
    """Makes one quanter per layer.

    Args:
        **arguments: those of the quanter: role ('activation' or 'weight'), bits,
            per_channel, narrow, init, ...

    Raises:
        ConfigError: ``signed=False``.

    Examples:
        .. code-block:: python

            paddle_mrecg.register()
            from paddleslim.quant.quanters import LSQ, SymmetricPACT
            weight = LSQ(role="weight", bits=4, per_channel=True)
            config = QuantConfig(activation=SymmetricPACT(), weight=weight)
            model = paddle.quantization.QAT(config).quantize(model)
    """

    layer_class = None

    def __init__(self, **arguments):
        if arguments.setdefault("signed", True) is not True:
            raise ConfigError(f"{type(self).__name__}: paddle.quantization stores signed codes "
                              "only; leave out signed")
        super().__init__(**arguments)

    def _get_class(self):
        return self.layer_class


class LSQ(SignedFactory):
    """Learned step; see ``paddle_mrecg.aware.quanters.lsq``."""

    layer_class = LSQQuanter


class TQT(SignedFactory):
    """Learned power-of-two step; see ``paddle_mrecg.aware.quanters.tqt``."""

    layer_class = TQTQuanter


class SymmetricPACT(SignedFactory):
    """Learned clip of activations; see ``paddle_mrecg.strategies.symmetric_pact``."""

    layer_class = SymmetricPACTQuanter


FACTORIES = (LSQ, TQT, SymmetricPACT)


def install(patches):
    """Add the factories to PaddleSlim's folder of quanters."""
    from paddleslim.quant import quanters
    for factory in FACTORIES:
        patches.replace(quanters, factory.__name__, factory)
    patches.replace(quanters, "__all__",
                    quanters.__all__ + [factory.__name__ for factory in FACTORIES])
