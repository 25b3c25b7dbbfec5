# SPDX-License-Identifier: Apache-2.0
"""Job 2: quant-aware training in the user's own loop, then a program that computes the same."""
import dataclasses
from typing import Dict

from ..config.aware import resolved
from ..config.dialect.aware import accept_qat_config
from ..config.io import load_training_config
from ..errors import ConfigError, ModelError, listed
from ..grids.processes import several
from .additions import attach_additions, find_additions
from .branches import merge_branches
from .build import Builder, without_skipped
from .calibration import calibration_runs, evaluating, find_grids
from .export import ExportedModel, export_quantized  # noqa: F401  the job's other two steps
from .first_batch import FirstBatch
from .fold import fold_batch_norms
from .freeze import freeze  # noqa: F401
from .layers import (alone, called_by_keyword, float_where_it_fails, quantizable, quantized_layers,
                     refuse_other_models, refuse_static)
from .loading import LoadWatch
from .look_ahead import ends_of, ends_without_data
from .penalty import Penalty
from .statistics import as_training_sees_it, trained_norms
from .table import keep, say, say_lopsided, without_frozen


def quant_aware_prepare(model, config=None, calibration=None):
    """Make a float model quantize its weights and activations, in place.

    Names of parameters and keys of the state dict stay, so float checkpoints load before and after;
    after, weight steps are found again from the new weights and activation ranges from the next
    batch. Only blocks whose branches become one convolution (``QuantAware.merge_branches``) get new
    names, and need their float checkpoint before. The quanters' state is saved with the rest. The
    optimizer is made afterwards, from ``penalty.parameter_groups()``: an earlier one does not train
    the steps.

    Args:
        model(paddle.nn.Layer): a float model, trained or not. With several processes it is put
            into ``paddle.DataParallel`` afterwards.
        config(str|dict|TrainingConfig, optional): sections QuantAware, BinRegularization and
            SymmetricPACT, or a flat config dict of PaddleSlim's QAT. Default: None, all defaults.
        calibration(iterable|callable, optional): a few batches, a ``paddle.io.DataLoader`` too,
            all of which are used, one after the other, to find the activation ranges; weight steps
            come from the present weights. Each is what the model takes: a tensor or array, a
            dict of keyword arguments, or the dict that a ``forward`` of one argument takes,
            or a tuple whose first entry is the input; or a function that is called with the model
            and runs it as often as it likes. Default: None, the first batch seen decides, with
            the weights of that moment; which layers come first and last is found from an image of
            a usual size, or guessed from the order in which the model was built where it takes
            none, unless a checkpoint of quant-aware training is loaded, which knows;
            ``rounding: solve`` solves for the first batch in training mode;
            hardware-friendly training needs calibration.

    Returns:
        tuple: the model, and the Penalty to be added to the training loss.

    Raises:
        ConfigError: everything that is wrong with the settings.
        ModelError: not a Layer, nothing to quantize, a model that is quantized or static already,
            or one that calls a layer with its input as a keyword.
        DataError: calibration without a batch, that the model does not run on, or with NaN or
            infinity.
    """
    refuse_other_models(model)
    whole, model = model, alone(model)
    if whole is not model and several():
        raise ModelError("the model is in paddle.DataParallel already, which would not average the "
                         "gradients of the steps that are added now: quantize first")
    refuse_static(model)
    config = load_training_config(accept_qat_config(config))
    settings = resolved(config.quant_aware)
    if any(quantized_layers(model)):
        raise ModelError("the model is quantized already: give the float model, or load its "
                         "checkpoint into it")
    merged = merge_branches(model) if settings.merge_branches else []
    found = quantizable(model, settings.quantizable_layer_type)
    layers, frozen = without_frozen(without_skipped(found, settings), settings.quantize_frozen)
    if calibration is None:
        _refuse_without_data(settings)
    first, runs = (None, ()) if calibration is None else calibration_runs(model, calibration)
    builder = Builder(settings, config.symmetric_pact)
    with evaluating(model), float_where_it_fails(model):
        if first is not None:
            layers = _in_running_order(layers, first)
            ends = ends_of(model, layers, first)
            start = _solved_start(model, layers, first) if settings.rounding == "solve" else None
            if settings.fold_batch_norm:
                fold_batch_norms(model, [layer for _, layer in layers], first)
            additions = find_additions(first) if settings.quantize_additions else []
            mode = as_training_sees_it(trained_norms(model), layers, first)
            builder.attach(layers, ends)
            if any(additions) and builder.activation() is not None:
                attach_additions(model, additions, builder.activation)
            with mode:
                find_grids(model, start.noting(runs) if start else runs)
            if start:
                start.apply(layers)
            say_lopsided(layers)
        else:
            ends = ends_without_data(model, layers)
            builder.attach(layers, ends)
    keep(model, [name for name, _ in found], ends)
    loads = _watch_loading(model, dict(merged),
                           builder.guessed_bits(layers) if first is None else [])
    if settings.rounding == "solve" and first is None:
        FirstBatch(model, loads)
    say(layers, ends, frozen, [name for name, _ in found if name not in frozen
                               and name not in dict(layers)])
    return whole, Penalty(model, dataclasses.replace(config, quant_aware=settings))


def _solved_start(model, layers, first):
    from .solved_start import SolvedStart  # brings post-training, which others need not wait for
    return SolvedStart(model, layers, first)


def _refuse_without_data(settings):
    asked = [key for key, given in (("fold_batch_norm", settings.fold_batch_norm),
                                    ("quantize_additions", settings.quantize_additions)) if given]
    if asked:
        raise ConfigError(f"QuantAware.{listed(asked)} {'finds' if len(asked) == 1 else 'find'} "
                          "out how the model runs from "
                          "calibration data; give quant_aware_prepare a batch as calibration, "
                          "which PaddleSlim's QAT cannot")


def _watch_loading(model, merged, guessed):
    layers = [layer for _, layer in quantized_layers(model)]
    watch = LoadWatch(model, layers, merged, guessed)
    for layer in layers:
        layer.loads = watch
    return watch


def _in_running_order(layers, run):
    """``layers`` in the order in which they run. Those that do not, such as heads for training
    only, come second: they are neither the first layer nor the last.
    """
    order: Dict[int, int] = {}
    names = {id(layer): name for name, layer in layers}

    def note(layer, inputs, output):
        if not inputs:
            raise called_by_keyword(f"layer '{names[id(layer)]}'")
        order.setdefault(id(layer), len(order))
    hooks = [layer.register_forward_post_hook(note) for _, layer in layers]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return sorted(layers, key=lambda item: order.get(id(item[1]), 0.5))
