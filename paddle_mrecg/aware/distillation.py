# SPDX-License-Identifier: Apache-2.0
"""Training towards the float model's outputs, without labels (Hinton et al., arXiv 1503.02531)."""
from typing import Any, List

import paddle
import paddle.nn.functional as F

from ..errors import ConfigError, ModelError
from .layers import alone, copied, quantized_layers


class FloatTeacher:
    """The float model as it is before ``quant_aware_prepare``, and the loss towards its outputs.

    Args:
        model(paddle.nn.Layer): a float model; a copy is kept, in evaluation mode and without
            gradients, so it may be prepared afterwards.
        temperature(float, optional): divides the logits of both; the loss is multiplied with its
            square, which keeps the size of the gradients. Default: 1.0.
        axis(int, optional): of the classes. Default: -1.

    Raises:
        ModelError: the model is quantized already.
        ConfigError: a temperature that is not above 0.

    Examples:
        .. code-block:: python

            teacher = paddle_mrecg.FloatTeacher(model)
            model, penalty = paddle_mrecg.quant_aware_prepare(model, "qat.yaml", batches)
            for images in loader:  # labels are not needed
                loss = teacher(model(images), images) + penalty()
    """

    def __init__(self, model: paddle.nn.Layer, temperature: float = 1.0, axis: int = -1):
        if any(quantized_layers(model)):
            raise ModelError("the teacher's model is quantized already: make the FloatTeacher "
                             "before quant_aware_prepare")
        if not temperature > 0:
            raise ConfigError(f"temperature {temperature} of the distillation: must be above 0")
        self.temperature, self.axis, self.model = temperature, axis, copied(alone(model))
        self.model.eval()
        for parameter in self.model.parameters():
            parameter.stop_gradient = True

    def __call__(self, outputs: Any, *inputs) -> paddle.Tensor:
        """Divergence KL(float || quantized) of the softmax over ``axis``, a scalar: the mean over
        everything but the classes, summed over the outputs.

        Args:
            outputs(Tensor or structure): logits of the quantized model, of any number of outputs.
            *inputs: what it was called with.

        Raises:
            ModelError: the float model has other outputs, e.g. heads for training only.
        """
        with paddle.no_grad():
            wanted = _floating(self.model(*inputs))
        given = _floating(outputs)
        shapes, others = [t.shape for t in wanted], [t.shape for t in given]
        if shapes != others:
            raise ModelError(f"the float model gives outputs of shapes {shapes}, the quantized one "
                             f"{others}: pass those that evaluation has")
        return paddle.add_n([self._divergence(a, b) for a, b in zip(given, wanted)])

    def _divergence(self, given, wanted):
        far = F.kl_div(F.log_softmax(given.astype("float32") / self.temperature, self.axis),
                       F.softmax(wanted.astype("float32") / self.temperature, self.axis),
                       reduction="none")
        return far.sum(self.axis).mean() * self.temperature ** 2


def _floating(outputs: Any) -> List[paddle.Tensor]:
    return [t for t in paddle.utils.flatten(outputs)
            if isinstance(t, paddle.Tensor) and t.is_floating_point()]
