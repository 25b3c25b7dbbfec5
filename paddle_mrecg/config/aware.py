# SPDX-License-Identifier: Apache-2.0
"""Every setting of the quant-aware job, with its one default.

The sections are independent of those of the post-training job (``fields.py``)
and are declared and checked in the same way. ``BinRegularization`` and
``Dampening`` and ``Freezing`` act when the section is given, even if empty: it is the switch.
"""
import dataclasses
from typing import List, Optional

from .post import Override, knob

WEIGHT_QUANTERS = ("lsq", "tqt", "abs_max")
ACTIVATION_QUANTERS = ("lsq", "lsq_plus", "tqt", "symmetric_pact", "abs_max")
LAYER_TYPES = ("Conv2D", "Conv2DTranspose", "Linear", "Conv1D")


@dataclasses.dataclass
class QuantAware:
    """What is quantized while training, how finely, and by which quanters."""

    target: str = knob("paddle_lite", "what the result must run on: paddle_lite (symmetric signed "
                       "int8 storage, 8-bit activations) or simulation (the papers' settings: "
                       "unsigned and low-bit activations)",
                       choices=("paddle_lite", "simulation"))
    weight_bits: int = knob(4, "bits of weights", "b", low=2, high=8)
    activation_bits: int = knob(8, "bits of activations (inputs of quantized layers); "
                                "32 leaves them float", "b",
                                low=2, high=32)
    first_layer_weight_bits: Optional[int] = knob(None, "bits of the weights of first layers: "
                                                  "those with no quantized layer in front; "
                                                  "unset: 8, or weight_bits when "
                                                  "hardware_friendly", low=2, high=8)
    last_layer_weight_bits: Optional[int] = knob(None, "bits of the weights of last layers: those "
                                                 "with no quantized layer behind, e.g. all "
                                                 "outputs of a detector; unset: as above",
                                                 low=2, high=8)
    first_layer_activation_bits: Optional[int] = knob(None, "bits of the model's input; unset: 8, "
                                                      "or activation_bits when hardware_friendly",
                                                      low=2, high=32)
    last_layer_activation_bits: Optional[int] = knob(None, "bits of the last quantized layer's "
                                                     "input; unset: as above",
                                                     low=2, high=32)
    quantizable_layer_type: List[str] = knob(list(LAYER_TYPES),
                                             "layer types to quantize, among these")
    skip: List[str] = knob([], "shell-style patterns of layer names that stay float")
    quantize_frozen: bool = knob(False, "quantize layers too whose parameters do not train, such "
                                 "as a teacher's; a model of which nothing trains is quantized "
                                 "anyway")
    overrides: List[Override] = knob([], "per-layer bits; patterns are on layer names, "
                                     "the first match wins")
    merge_branches: bool = knob(True, "blocks that train as branches and are deployed as one "
                                "convolution (RepVGG, PP-LCNetV3) become that convolution before "
                                "it is quantized; false: the branches are quantized and exported")
    weight_quanter: Optional[str] = knob(None, "lsq: learned step; tqt: learned power of two; "
                                         "abs_max: the present range; unset: lsq, or tqt when "
                                         "hardware_friendly", choices=WEIGHT_QUANTERS)
    activation_quanter: Optional[str] = knob(None, "lsq, tqt, lsq_plus (learned step and offset), "
                                             "symmetric_pact (learned clip), abs_max (moving "
                                             "average); unset: symmetric_pact if that section is "
                                             "given, else as weight_quanter",
                                             choices=ACTIVATION_QUANTERS)
    weight_per_channel: bool = knob(True, "one weight scale per output channel; the papers of LSQ, "
                                    "TQT and bin regularization have one per layer")
    weight_init: str = knob("mse", "start of learned weight steps: least error, LSQ's "
                            "2<|v|>/sqrt(p), or the full range",
                            choices=("mse", "lsq", "abs_max"))
    rounding: str = knob("nearest", "where weights start: nearest leaves them as they are; solve "
                         "moves them until their nearest codes are those of post-training's linear "
                         "solve, which at few bits starts far better (for calibration data, or the "
                         "first batch of training; the model must be one that can be exported)",
                         choices=("nearest", "solve"))
    activation_init: str = knob("mse", "start of learned activation steps, from "
                                "calibration or the first batch",
                                choices=("mse", "lsq", "abs_max"))
    activation_offset: bool = knob(True, "lsq_plus: train an offset (zero point) too; false trains "
                                   "the step alone")
    scale_lr: float = knob(1.0, "learning rate of steps and thresholds, as a "
                           "factor on the optimizer's", low=0.0)
    penalty_mode: str = knob("loss", "loss: penalty() is added to the loss; injection: the same "
                             "gradient enters inside the quanters, for training loops "
                             "that cannot be changed", choices=("loss", "injection"))
    affine_epochs: int = knob(0, "last epochs in which only the scales and shifts of batch norms "
                              "train, which cost nothing when deployed; the training loop calls "
                              "penalty.on_epoch", low=0)
    hardware_friendly: bool = knob(False, "the bin regularization paper's hardware-friendly "
                                   "setting: turns on the four switches below, power-of-two "
                                   "scales, and low bits in the first and last layer")
    quantize_additions: Optional[bool] = knob(None, "quantize inputs and outputs of element-wise "
                                              "additions; unset: as hardware_friendly")
    fold_batch_norm: Optional[bool] = knob(None, "fold batch norms into the convolutions while "
                                           "training (needs calibration data); unset: as "
                                           "hardware_friendly")
    bias_bits: Optional[int] = knob(None, "bits of biases; unset: 8 when "
                                    "hardware_friendly, else float", low=2, high=8)


@dataclasses.dataclass
class BinRegularization:
    """Pull the weights of every quantization bin onto its level (ICCV 2021)."""

    lambda_: float = knob(0.5, "weight of the term in the loss", "lambda", low=0.0)
    efolds: Optional[float] = knob(None, "instead of lambda: by how many e-folds the term alone "
                                   "brings the weights of each layer closer to their levels; the "
                                   "training calls penalty.plan(optimizer, steps)", low=0.0,
                                   high=20.0)
    schedule: str = knob("S2", "S1: from the start; S2: after `start`, when the steps have "
                         "settled; S3: epochs alternate between training the scales and the "
                         "regularized weights", choices=("S1", "S2", "S3"))
    start: float = knob(1 / 3, "S2: first epoch with the term; below 1 it is a share of all epochs",
                        low=0.0)
    unbiased: bool = knob(False, "divide the variance of a bin of V weights by V - 1, not V")
    grad_to_scale: bool = knob(True, "train the step sizes on the term too")


@dataclasses.dataclass
class Dampening:
    """Keep weights from oscillating between levels by pulling each to the
    middle of its bin (ICML 2022).
    """

    weight: float = knob(1e-3, "weight of the term in the loss in the last epoch", "lambda",
                         low=0.0)
    start: float = knob(0.25, "share of the epochs before the weight begins to grow "
                        "from 0, along a cosine", low=0.0, high=1.0)
    reduction: str = knob("sum", "over the weights of a layer", choices=("sum", "mean"))


@dataclasses.dataclass
class Freezing:
    """Fix weights that oscillate between two levels at the one where they are most of the time
    (ICML 2022).
    """

    threshold: float = knob(0.1, "turns per step, a moving average, above which a weight is fixed "
                            "in the first epoch", low=0.0, high=1.0)
    end: float = knob(0.01, "what the threshold falls to in the last epoch, along a cosine",
                      low=0.0, high=1.0)
    momentum: float = knob(0.001, "weight of the newest step in that average; below both "
                           "thresholds", low=0.0, high=1.0)


@dataclasses.dataclass
class SymmetricPACTSettings:
    """Learned clip of every quantized activation: clip(x, -alpha, alpha); the section,
    even if empty, is the switch.
    """

    init: Optional[str] = knob(None, "start of alpha on calibration data: moving average of "
                               "abs-max over batches, or a percentile of |x|; unset: percentile "
                               "below 8 bits, where from abs_max nothing is clipped and alpha "
                               "never learns, else abs_max", choices=("abs_max", "percentile"))
    momentum: float = knob(0.9, "momentum of the moving average of abs-max", low=0.0, high=1.0)
    percentile: float = knob(0.999, "share of |x| below alpha for init percentile", low=0.5,
                             high=1.0)
    lr: float = knob(1.0, "learning rate of alpha, as a factor on the optimizer's", low=0.0)
    decay: float = knob(1e-4, "weight of alpha^2 / 2 in the loss; acts in full "
                        "at any size of alpha", low=0.0)


@dataclasses.dataclass
class TrainingConfig:
    """A quant-aware job. Optional sections are None unless they are given."""

    quant_aware: QuantAware = dataclasses.field(default_factory=QuantAware)
    bin_regularization: Optional[BinRegularization] = None
    dampening: Optional[Dampening] = None
    freezing: Optional[Freezing] = None
    symmetric_pact: Optional[SymmetricPACTSettings] = None

    def __post_init__(self):
        settings, pact = self.quant_aware, self.symmetric_pact
        if pact is not None and settings.activation_quanter is None:
            self.quant_aware = settings = dataclasses.replace(settings,
                                                              activation_quanter="symmetric_pact")
        if pact is None and settings.activation_quanter == "symmetric_pact":
            self.symmetric_pact = pact = SymmetricPACTSettings()
        if pact is not None and pact.init is None:
            self.symmetric_pact = dataclasses.replace(pact,
                                                      init="percentile" if settings.activation_bits
                                                      < 8 else "abs_max")


def resolved(settings: QuantAware) -> QuantAware:
    """A copy in which no setting is unset but ``bias_bits`` (None: float biases)."""
    friendly = settings.hardware_friendly
    weight_quanter = settings.weight_quanter or ("tqt" if friendly else "lsq")
    meant = dict(weight_quanter=weight_quanter,
                 activation_quanter=settings.activation_quanter or weight_quanter,
                 quantize_additions=friendly, fold_batch_norm=friendly,
                 bias_bits=8 if friendly else None)
    for end in ("first", "last"):
        meant[f"{end}_layer_weight_bits"] = settings.weight_bits if friendly else 8
        meant[f"{end}_layer_activation_bits"] = settings.activation_bits if friendly else 8
    return dataclasses.replace(settings,
                               **{k: v for k, v in meant.items() if getattr(settings, k) is None})


TRAINING_SECTIONS = {"QuantAware": "quant_aware", "BinRegularization": "bin_regularization",
                     "Dampening": "dampening", "Freezing": "freezing",
                     "SymmetricPACT": "symmetric_pact"}
