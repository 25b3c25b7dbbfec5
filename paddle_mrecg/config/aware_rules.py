# SPDX-License-Identifier: Apache-2.0
"""Settings of quant-aware training that are fine one by one but not together,
and what unset ones mean.
"""
from typing import Iterator, List

from .schema import Path, Problem, dotted
from .shared_rules import check_activation_bits, check_overrides, check_types, field_default
from .aware import (LAYER_TYPES, BinRegularization, QuantAware, SymmetricPACTSettings,
                    TrainingConfig, resolved)


def check_training_rules(config: TrainingConfig, bad: List[Path]) -> Iterator[Problem]:
    """Problems between settings.

    Args:
        config(TrainingConfig): right in its types and ranges.
        bad(list[tuple]): paths that have been complained about; rules that read them are not asked.
    """
    complained = {dotted(path[:2]) for path in bad}
    rules = (_bits_settings, _overrides, _layer_types, _quanters, _hardware, _pact, _schedule,
             _efolds, _dampening, _freezing, _affine)
    for problem in (p for rule in rules for p in rule(config)):
        if dotted(problem.path[:2]) not in complained and "QuantAware" not in complained:
            yield problem


def _bits_settings(config):
    settings = config.quant_aware
    return check_activation_bits("QuantAware", settings, settings.target == "paddle_lite",
                                 "or set QuantAware.target: "
                                 "simulation to try it without a device")


def _overrides(config):
    return check_overrides("QuantAware", config.quant_aware.overrides, "features.*")


def _layer_types(config):
    return check_types(("QuantAware", "quantizable_layer_type"),
                       config.quant_aware.quantizable_layer_type, LAYER_TYPES)


def _quanters(config):
    settings, meant = config.quant_aware, resolved(config.quant_aware)
    plus = meant.activation_quanter == "lsq_plus"
    if plus and settings.activation_offset and settings.target == "paddle_lite":
        yield Problem(("QuantAware", "activation_quanter"),
                      "lsq_plus trains an offset, and Paddle Lite's int8 kernels have no zero "
                      "point for activations; set activation_offset: false, or QuantAware.target: "
                      "simulation to try it without a device")
    if plus and settings.activation_offset and settings.activation_init == "lsq":
        yield Problem(("QuantAware", "activation_init"),
                      "lsq gives no offset to start from; use mse or abs_max, or set "
                      "activation_offset: false")
    if not plus and not settings.activation_offset:
        yield _no_effect("activation_offset", "it is read only by activation_quanter lsq_plus")
    if (meant.weight_quanter == "abs_max"
        and settings.weight_init != field_default(QuantAware, "weight_init")):
        yield _no_effect("weight_init", "weight_quanter abs_max follows the weight's present range")
    if meant.weight_quanter == "abs_max" and settings.rounding == "solve":
        yield Problem(("QuantAware", "rounding"), "solve rounds to steps that stay, and those of "
                      "weight_quanter abs_max follow the weights; use lsq or tqt, or set rounding: "
                      "nearest")
    own_start = meant.activation_quanter in ("abs_max", "symmetric_pact")
    if own_start and settings.activation_init != field_default(QuantAware, "activation_init"):
        yield _no_effect("activation_init",
                         f"activation_quanter {meant.activation_quanter} starts in its own way")
    if ({meant.weight_quanter, meant.activation_quanter} <= {"abs_max", "symmetric_pact"}
        and settings.scale_lr != 1.0):
        yield _no_effect("scale_lr", "neither quanter learns a step")


def _hardware(config):
    settings = config.quant_aware
    if settings.hardware_friendly:
        for key in ("weight_quanter", "activation_quanter"):
            if getattr(settings, key) not in (None, "tqt"):
                yield Problem(("QuantAware", key), "hardware_friendly asks for power-of-two "
                              "scales, which only tqt has; leave it out, or set hardware_friendly: "
                              "false and turn on the switches that you want")
        for key in ("quantize_additions", "fold_batch_norm"):
            if getattr(settings, key) is False:
                yield Problem(("QuantAware", key),
                              "contradicts hardware_friendly, which turns it on; set "
                              "hardware_friendly: false and turn on the switches that you want")


def _pact(config):
    quanter, pact = resolved(config.quant_aware).activation_quanter, config.symmetric_pact
    if pact is None:
        return
    if quanter != "symmetric_pact":
        yield Problem(("SymmetricPACT",), f"has no effect with activation_quanter {quanter}; set "
                      "QuantAware.activation_quanter: symmetric_pact or remove the section")
    for key, init in (("momentum", "abs_max"), ("percentile", "percentile")):
        if getattr(pact, key) != field_default(SymmetricPACTSettings, key) and pact.init != init:
            yield Problem(("SymmetricPACT", key),
                          f"has no effect with init {pact.init}; remove it or set init: {init}")


def _schedule(config):
    bins, settings = config.bin_regularization, resolved(config.quant_aware)
    if bins is not None and bins.schedule != "S2" and bins.start != BinRegularization().start:
        yield Problem(("BinRegularization", "start"),
                      f"has no effect with schedule {bins.schedule}; remove it or use S2")
    if bins is not None and bins.schedule == "S3" and settings.fold_batch_norm:
        yield Problem(("BinRegularization", "schedule"),
                      "S3 stops weights by epochs, but those regularized here are products "
                      "of weights and batch norms; use S1 or S2, or fold_batch_norm: false")


def _efolds(config):
    bins = config.bin_regularization
    if bins is None or bins.efolds is None:
        return
    if bins.lambda_ != BinRegularization().lambda_:
        yield Problem(("BinRegularization", "lambda"), "has no effect with efolds, which finds "
                      "the weight of each layer; remove one of the two")
    if bins.schedule == "S3" or (bins.schedule == "S2" and bins.start >= 1):
        yield Problem(("BinRegularization", "efolds"), "needs schedule S1, or S2 with a start "
                      "below 1: the share of the training after which the term begins")


def _dampening(config):
    if config.dampening is not None and config.quant_aware.penalty_mode == "injection":
        yield Problem(("Dampening",), "is a term of the loss only; set QuantAware.penalty_mode: "
                      "loss or remove the section")


def _freezing(config):
    freezing, settings = config.freezing, config.quant_aware
    if freezing is None:
        return
    if settings.penalty_mode == "injection":
        yield Problem(("Freezing",), "acts after every step of the optimizer, in a loop that calls "
                      "penalty.after_step; set QuantAware.penalty_mode: loss or remove the section")
    if resolved(settings).fold_batch_norm:
        yield Problem(("Freezing",), "fixes weights, and fold_batch_norm makes them products that "
                      "move with the batch norm; leave one of the two out")
    if not 0 < freezing.momentum < min(freezing.threshold, freezing.end):
        yield Problem(("Freezing", "momentum"), "must be above 0 and below threshold and end, or a "
                      "single oscillation would fix a weight")


def _affine(config):
    settings, bins = config.quant_aware, config.bin_regularization
    if settings.affine_epochs and resolved(settings).fold_batch_norm:
        yield Problem(("QuantAware", "affine_epochs"), "trains batch norms while weights rest, and "
                      "fold_batch_norm makes them part of the weights; leave one of the two out")
    if settings.affine_epochs and bins is not None and bins.efolds is not None:
        yield Problem(("QuantAware", "affine_epochs"), "stops the weights before the end, which "
                      "BinRegularization.efolds plans to; leave one of the two out")


def _no_effect(key, reason):
    return Problem(("QuantAware", key), f"has no effect: {reason}; remove it")
