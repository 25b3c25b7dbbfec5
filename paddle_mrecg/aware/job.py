# SPDX-License-Identifier: Apache-2.0
"""Job 2: quant-aware training in the user's own loop, then a program that computes the same."""
import contextlib
import dataclasses
import os
from typing import Dict, List

import numpy as np
import paddle

from ..config.io import load_training_config
from ..config.aware import resolved
from ..errors import ConfigError, DataError, ModelError, MrecgError
from .ends import chooses, end_outputs
from ..deploy.predictor import Predictor
from .program import check_target, training_graph
from ..deploy.verify import differences
from ..files import write_json
from ..graph.specs import has_dict, make_eager, map_specs, named_values
from ..graph.writer import save_program
from ..grids.quanter import Quanter
from ..report.progress import get_logger
from ..report.result_dir import ResultDir
from ..config.dialect.aware import accept_slim_config
from .additions import addition_quanters, attach_additions, count_additions
from .build import Builder, without_skipped
from .calibration import calibration_runs
from .fold import FoldedConv, fold_batch_norms
from .layers import QuantizedLayer, copied, mixed_class, quantizable, quantized_layers
from .penalty import Penalty

PROGRAM = "model"  # stem of the written program
# batch and free sides of the random input that an exported program is checked on
SAMPLES, FREE_SIZE = 2, 32


def quant_aware_prepare(model, config=None, calibration=None):
    """Make a float model quantize its weights and activations, in place.

    Names of parameters and keys of the state dict stay, so float checkpoints load before and after;
    the quanters' state is saved with the rest.

    Args:
        model(paddle.nn.Layer): a float model, trained or not.
        config(str|dict|TrainingConfig, optional): sections QuantAware, BinRegularization and
            SymmetricPACT, or a flat config dict of PaddleSlim's QAT. Default: None, all defaults.
        calibration(iterable|callable, optional): a few batches, a ``paddle.io.DataLoader`` too,
            all of which are used, one after the other, to find the activation ranges; weight steps
            come from the present weights. Each is what the model takes: a tensor or array, a
            dict of keyword arguments,
            or a tuple whose first entry is the input; or a function that is called with the model
            and runs it as often as it likes. Default: None, the first batch seen decides, with
            the weights of that
            moment; hardware-friendly training needs one.

    Returns:
        tuple: the model, and the Penalty to be added to the training loss.

    Raises:
        ConfigError: everything that is wrong with the settings.
        ModelError: nothing to quantize, or a model that is quantized already.
        DataError: calibration without a batch, or with NaN or infinity.
    """
    config = load_training_config(accept_slim_config(config))
    settings = resolved(config.quant_aware)
    if any(quantized_layers(model)):
        raise ModelError("the model is quantized already: give the float model, or load its "
                         "checkpoint into it")
    layers = without_skipped(quantizable(model, settings.quantizable_layer_type), settings)
    if calibration is None and (settings.fold_batch_norm or settings.quantize_additions):
        raise ConfigError("QuantAware.fold_batch_norm and quantize_additions find out how the "
                          "model runs from calibration data; give quant_aware_prepare a "
                          "batch as calibration")
    first, runs = (None, ()) if calibration is None else calibration_runs(model, calibration)
    builder = Builder(settings, config.symmetric_pact)
    with _evaluating(model):
        if first is not None:
            layers = _in_running_order(layers, first)
            if settings.fold_batch_norm:
                fold_batch_norms(model, [layer for _, layer in layers], first)
            additions = count_additions(first) if settings.quantize_additions else 0
            builder.attach(layers)
            if additions and builder.activation() is not None:
                attach_additions(model, additions, builder.activation)
            _calibrate(model, runs)
        else:
            builder.attach(layers)
    return model, Penalty(model, dataclasses.replace(config, quant_aware=settings))


@contextlib.contextmanager
def _evaluating(model):
    """Evaluation mode within this context; afterwards every layer's own mode,
    which its new quanters share.
    """
    modes = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    model.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training
        for _, layer in quantized_layers(model):
            for quanter in layer.quanters():
                quanter.training = layer.training
        for _, quanter in addition_quanters(model):
            quanter.training = model.training


def _in_running_order(layers, run):
    """``layers`` in the order in which they run. Those that do not, such as heads for training
    only, come second: they are neither the first layer nor the last.
    """
    order: Dict[int, int] = {}

    def note(layer, inputs, output):
        order.setdefault(id(layer), len(order))
    hooks = [layer.register_forward_post_hook(note) for _, layer in layers]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return sorted(layers, key=lambda item: order.get(id(item[1]), 0.5))


def _calibrate(model, runs):
    """Find all grids: of weights at once, of activations from what the float
    network computes in ``runs``.
    """
    quanters = {id(q): q for _, layer in quantized_layers(model) for q in layer.quanters()}
    quanters.update((id(q), q) for _, q in addition_quanters(model))
    with contextlib.ExitStack() as stack:
        for quanter in quanters.values():
            stack.enter_context(quanter.observing())
        with paddle.no_grad():
            for _, layer in quantized_layers(model):
                layer.quantized_weight(layer.float_weight())
                layer.quantized_bias(layer.float_bias())
            for run in runs:
                run()


def freeze(model) -> paddle.nn.Layer:
    """A copy for deployment: weights and biases lie on their grids, batch norms that were
    folded are gone for good.

    Steps are those of training to the last bit, every weight is an integer times its step, and the
    copy computes what the model computes in evaluation mode.

    Args:
        model(paddle.nn.Layer): a prepared model, trained or not;
            ``paddle.DataParallel`` is unwrapped.

    Raises:
        ModelError: nothing is quantized.
        DataError: a step is NaN or infinite, or a grid has seen no data yet.
    """
    model = model._layers if isinstance(model, paddle.DataParallel) else model
    if not any(quantized_layers(model)):
        raise ModelError("nothing in this model is quantized: call quant_aware_prepare first")
    frozen = copied(model)
    frozen.eval()
    make_eager(frozen)
    for name, layer in quantized_layers(frozen):
        layer.inject = None
        layer.weight_quanter.ready(layer.float_weight())
        for quanter in layer.quanters():
            quanter.settle()
            if not quanter.initialized:
                raise DataError(f"the input of layer '{name}' has not been seen yet, so its range "
                                "is unknown: run the model on a batch, or give quant_aware_prepare "
                                "calibration data")
            try:
                quanter.check_form()
                quanter.encoding()
            except MrecgError as error:
                raise type(error)(f"layer '{name}': {error}") from error
        _freeze(layer)
    for quanter in frozen.sublayers():
        if isinstance(quanter, Quanter):
            quanter.held = True
    return frozen


def _freeze(layer):
    """Put weight and bias of one layer on their grids."""
    with paddle.no_grad():
        weight, bias = layer.float_weight(), layer.float_bias()
        weight, bias = layer.quantized_weight(weight), layer.quantized_bias(bias)
    # another layer may share the weight, which now lies on the grid
    layer.weight_quanter.held = True
    if isinstance(layer, FoldedConv):
        base = layer.float_class.float_class
        layer.__class__ = mixed_class(QuantizedLayer, base)
        layer.batch_norm = layer.convolution = None
        if layer.bias is None:
            layer.bias = layer.create_parameter([weight.shape[0]], is_bias=True)
    layer.weight.set_value(weight)
    if bias is not None:
        layer.bias.set_value(bias)


@dataclasses.dataclass
class Exported:
    """What ``export`` wrote.

    Args:
        save_dir(str): the directory.
        verification(dict): ``max_abs_diff``, ``mean_abs_diff`` and ``max_abs_output`` between the
            frozen model and the program in Paddle Inference, over ``samples`` inputs and
            ``outputs`` tensors: the program's outputs, or those of the last quantized layers where
            it ends in an NMS. Differences of one activation step come from values on a rounding
            boundary that fall to either side by the last bit of a sum.
        dropped(list[str]): quantized layers that run in training only and are not in the program.
    """

    save_dir: str
    verification: Dict[str, float]
    dropped: List[str] = dataclasses.field(default_factory=list)


def export_quantized(model, save_dir: str, input_spec, samples=None,
                     target: str = "simulation") -> Exported:
    """Freeze a model and write it as a program of ``quantize_linear`` / ``dequantize_linear``, as
    the post-training job does.

    Writes ``model.pdmodel`` and ``model.pdiparams`` (weights as int8 codes), ``encodings.json`` and
    ``report.json``, all of them or none, and compares the program with the model.

    Args:
        model(paddle.nn.Layer): a prepared model, or what ``freeze`` returned.
        save_dir(str): directory of the result.
        input_spec(list[paddle.static.InputSpec]): one per input, the first dimension free; dicts of
            specs where the model takes dicts.
        samples(list[array], optional): one array per input, or dict of them, to compare on.
            Default: None, normally distributed ones.
        target(str, optional): 'paddle_lite' refuses grids that its int8 kernels do not
            have. Default: 'simulation'.

    Returns:
        Exported: where, and how far model and program differ.

    Raises:
        ModelError: nothing is quantized, or the model cannot be exported.
        ConfigError: ``target`` cannot run an activation's grid.
        OutputError: ``save_dir`` cannot be written.
    """
    frozen = freeze(model)
    samples = map_specs(_random, input_spec) if samples is None else map_specs(np.asarray, samples)
    graph, encodings, dropped = training_graph(frozen, input_spec)
    if dropped:
        get_logger().info("left out, for evaluation does not run them: %s", ", ".join(dropped))
    check_target({n: e for n, e in encodings.items() if n not in graph.params}, target)
    with ResultDir(save_dir) as result:
        prefix = result.path(PROGRAM)
        save_program(graph, prefix)
        feed = named_values(input_spec, samples) if has_dict(input_spec) else samples
        verification = _verify(frozen, graph, samples, feed, prefix)
        write_json(result.path("encodings.json"),
                   {name: e.to_dict() for name, e in encodings.items()})
        write_json(result.path("report.json"), dict(verification=verification, dropped=dropped))
        result.publish()
    return Exported(os.fspath(save_dir), verification, dropped)


def _random(spec) -> np.ndarray:
    shape = [n if n is not None and n > 0 else (FREE_SIZE if k else SAMPLES)
             for k, n in enumerate(spec.shape)]
    if "int" in str(spec.dtype).lower():  # token ids, sizes: 0 and 1 are right for most
        kind = "int32" if "32" in str(spec.dtype) else "int64"
        return np.random.default_rng(0).integers(0, 2, shape).astype(kind)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _verify(frozen, graph, samples, feed, prefix) -> Dict[str, float]:
    """``samples`` as the model takes them, ``feed`` as the program does."""
    tensors = map_specs(paddle.to_tensor, samples)
    if chooses(graph):
        pairs = list(end_outputs(frozen, graph, tensors, feed, prefix))
    else:
        with paddle.no_grad():
            outputs = paddle.utils.flatten(frozen(*tensors))
        pairs = list(zip((t.numpy() for t in outputs), Predictor(prefix)(feed)))
    count = len(next(iter(feed.values())) if isinstance(feed, dict) else feed[0])
    return dict(differences(pairs), samples=count, outputs=len(pairs))
