# SPDX-License-Identifier: Apache-2.0
"""Every setting of the post-training job, with its one default.

A YAML file has the sections below (PascalCase, as in PaddleSlim); a section is
one dataclass; a key is one field. ``metadata`` carries what ``--help`` and the
README's table print (``doc``, the paper's ``symbol``) and what validation
checks (``choices``, ``low``/``high``, both inclusive).
"""
import dataclasses
import functools
from typing import Any, Dict, List, Optional


def knob(default, doc, symbol="", choices=None, low=None, high=None, min_items=None):
    """One config field: default, sentence for the docs, and allowed values."""
    meta = dict(doc=doc, symbol=symbol, choices=choices, low=low, high=high, min_items=min_items)
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=meta)
    return dataclasses.field(default=default, metadata=meta)


@dataclasses.dataclass
class Global:
    """Where the model is, where the result goes, what it must run on."""

    model_dir: Optional[str] = knob(None,
                                    "directory or file prefix of the exported inference model")
    model_filename: Optional[str] = knob(None, "program file inside model_dir; found "
                                         "automatically when there is only one")
    params_filename: Optional[str] = knob(None, "combined parameter file; empty for "
                                          "one file per parameter")
    save_dir: str = knob("output/quantized",
                         "directory of the result; written as a whole or not at all")
    target: str = knob("paddle_lite", "what the result must run on: paddle_lite (symmetric signed "
                       "int8 storage, 8-bit activations) or simulation (the papers' settings: "
                       "asymmetric, low-bit activations)",
                       choices=("paddle_lite", "simulation"))
    seed: int = knob(0, "seed of numpy, paddle and the sampling; same seed, same bytes", low=0,
                     high=2**32 - 1)
    memory_limit_mb: int = knob(4096, "memory of the whole process in MiB: what the model and the "
                                "largest step leave of it holds samples and activations, the rest "
                                "of these goes to temporary files", low=16)
    cache_dtype: str = knob("float32", "type in which activations are held between units: float16 "
                            "takes half the memory and disk, at three digits",
                            choices=("float32", "float16"))
    tune_cpu: Optional[bool] = knob(None, "allocator and MKL settings of the whole process that "
                                    "make training on a CPU about twice as fast; unset: "
                                    "True on the command line, False from Python")
    measure_speed: Optional[bool] = knob(None, "time float against int8 on the runtimes that are "
                                         "installed, some ten seconds for each; unset: "
                                         "True on the command line, False from Python")
    visualdl: bool = knob(True, "write VisualDL scalars and histograms below save_dir/visualdl")
    resume: bool = knob(False, "continue an interrupted run of the same config in save_dir")
    overwrite: bool = knob(False, "delete the finished units of an interrupted run in save_dir")


@dataclasses.dataclass
class Data:
    """Images of one purpose: calibration (unlabelled) or evaluation (labelled)."""

    image_dir: Optional[str] = knob(None, "folder of images, searched recursively")
    label_file: Optional[str] = knob(None, "text file of lines `path<space or tab>label`, paths "
                                     "relative to image_dir")
    loader: Optional[str] = knob(None, "`module:function` that returns an iterable of batches; "
                                 "args in loader_args")
    loader_args: Dict[str, Any] = knob({}, "keyword arguments of `loader`")
    num_samples: int = knob(1024, "use at most this many samples, drawn with Global.seed", low=1)
    batch_size: int = knob(32, "samples per forward pass of the whole model", low=1)
    input_shape: Optional[List[int]] = knob(None, "C, H, W fed to the model; taken from the "
                                            "program when it is fixed",
                                            min_items=3)
    resize_short: Optional[int] = knob(None, "scale the short side to this many pixels first",
                                       low=1)
    crop: str = knob("center", "how to reach H, W: center crop, resize (squeeze), or pad (keep "
                     "ratio, pad right/bottom)",
                     choices=("center", "resize", "pad"))
    layout: str = knob("RGB", "channel order fed to the model", choices=("RGB", "BGR", "GRAY"))
    scale: float = knob(1.0 / 255.0, "pixels are multiplied by this before mean and std")
    mean: List[float] = knob([0.485, 0.456, 0.406], "subtracted per channel after scale")
    std: List[float] = knob([0.229, 0.224, 0.225], "divided by per channel")
    pad_value: float = knob(0.0, "value of padded pixels after normalisation")
    views: int = knob(1, "each sample enters this often: once as it is, then moved by up to an "
                      "eighth of its sides", low=1)
    mirror: bool = knob(False, "mirror half of the further views; not for text, nor where "
                        "left and right differ")


@dataclasses.dataclass
class Evaluation:
    """How float, nearest and reconstructed programs are scored; optional."""

    data: Optional[Data] = knob(None,
                                "labelled images, same keys as Data; metrics are top1 and top5")
    evaluator: Optional[str] = knob(None, "`module:function` called with a predict(batch) -> "
                                    "outputs, returns {metric: value}")
    evaluator_args: Dict[str, Any] = knob({}, "keyword arguments of `evaluator`")
    label_offset: int = knob(0, "added to labels, for models with a background class 0")


@dataclasses.dataclass
class Override:
    """Other bits for the layers whose weight or op output name matches."""

    pattern: str = knob("", "shell-style pattern (fnmatch) on the weight's or the output's name")
    weight_bits: Optional[int] = knob(None, "bits of the weight", low=2, high=8)
    activation_bits: Optional[int] = knob(None, "bits of the input activation", low=2, high=8)


@dataclasses.dataclass
class QuantPost:
    """What is quantized, and how finely."""

    weight_bits: int = knob(4, "bits of weights", low=2, high=8)
    activation_bits: int = knob(8, "bits of activations (inputs of quantized ops); "
                                "32 leaves them float", low=2, high=32)
    first_layer_weight_bits: int = knob(8, "bits of the weights of first layers: those with no "
                                        "quantized layer in front of them", low=2, high=8)
    last_layer_weight_bits: int = knob(8, "bits of the weights of last layers: those with no "
                                       "quantized layer behind them, as many as a detector has "
                                       "outputs", low=2, high=8)
    first_layer_activation_bits: int = knob(8, "bits of the inputs of first layers", low=2, high=32)
    last_layer_activation_bits: int = knob(8, "bits of the inputs of last layers", low=2, high=32)
    small_layer_share: float = knob(0.0, "share of all weights, counted from the smallest layer "
                                    "on, that keeps 8 bits: layers at high resolution and "
                                    "depthwise ones hold few weights for the error that they "
                                    "make", low=0.0, high=1.0)
    quantizable_op_type: List[str] = knob(["conv2d", "depthwise_conv2d", "conv2d_transpose",
                                           "depthwise_conv2d_transpose", "mul", "matmul",
                                           "matmul_v2"],
                                          "op types to quantize, among these")
    skip: List[str] = knob([], "shell-style patterns of weights or outputs that stay float")
    overrides: List[Override] = knob([], "per-layer bits; the first matching pattern wins")
    weight_per_channel: bool = knob(True, "one weight scale per output channel")
    weight_symmetric: Optional[bool] = knob(None, "weights without zero point; unset: True for "
                                            "paddle_lite, False for simulation")
    weight_observer: str = knob("mse", "how weight ranges are found",
                                choices=("mse", "min_max", "percentile", "kl"))
    activation_symmetric: Optional[bool] = knob(None, "activations without zero point; "
                                                "unset: as for weights")
    activation_observer: str = knob("output_error", "how activation ranges are found: among the "
                                    "ranges of the other observers and shares of min_max, the one "
                                    "with the smallest error in the outputs of the layers that "
                                    "read the activation, or by one observer for all",
                                    choices=("output_error", "mse", "min_max", "percentile", "kl"))
    percentile: float = knob(0.9999, "share of values kept by the percentile observer", low=0.5,
                             high=1.0)
    quantize_shared: Optional[bool] = knob(None, "other readers (shortcuts) of a quantized "
                                           "activation read the quantized one too; unset: False "
                                           "for paddle_lite (its additions are "
                                           "float), True for simulation")
    equalize: str = knob("auto", "scale channels of layers' inputs so that one step serves them "
                         "all, where the outputs gain: fold (into weights alone, free of charge), "
                         "auto (also by multiplications in front of depthwise convolutions that "
                         "gain much), or none", choices=("none", "fold", "auto"))
    rounding: str = knob("solve", "how weights are rounded before any reconstruction: by a linear "
                         "solve for the input that each layer will get, or to nearest",
                         choices=("solve", "nearest"))
    bias_correction: bool = knob(True, "correct the mean of every layer's output in its bias; "
                                 "layers without a bias get one")
    num_observe: int = knob(256, "samples from which activation ranges are found", low=1)


def _from_preset(cls):
    """``cls(preset=name, ...)`` starts from ``PRESETS[name]``; what else is given wins."""
    plain_init = cls.__init__

    @functools.wraps(plain_init)
    def __init__(self, **given):
        plain_init(self, **{**PRESETS.get(given.get("preset"), {}), **given})

    cls.__init__ = __init__
    return cls


@_from_preset
@dataclasses.dataclass
class MRECG:
    """Granularity (which modules are joined) and reconstruction (how a unit is trained).

    ``preset`` chooses the starting values; keys given next to it win.
    """

    preset: str = knob("mrecg", "named starting values",
                       choices=("adaround", "brecq", "qdrop", "mrecg", "fast", "none"))
    granularity: str = knob("loss_peaks", "which neighbouring modules become one unit",
                            choices=("layer", "block", "explicit", "modcap", "loss", "loss_peaks",
                                     "optimal"))
    units: List[List[int]] = knob([], "explicit partition: [[first module, last module], ...], "
                                  "both inclusive")
    top_k: Optional[int] = knob(None, "pairs to join in modcap and loss; unset: a "
                                "quarter of the modules", "k", low=0)
    stride_factor: float = knob(1.6, "weight of stride-2 convolutions in the capacity", "alpha",
                                low=0.0)
    homogeneous_only: bool = knob(False, "modcap: compare only neighbours with equal "
                                  "numbers of convolutions")
    max_unit_modules: int = knob(3, "a unit never joins more modules than this", low=1)
    relative_loss: bool = knob(True, "compare losses divided by the power of the float "
                               "output, not absolute ones")
    peak_partner: str = knob("successor", "loss_peaks: the module from which the loss drops is "
                             "joined with the one behind it, as in the paper, or "
                             "with the one before it", choices=("successor", "predecessor"))
    join_cost: float = knob(0.0, "optimal: price of every join, in units of the mean module loss",
                            "mu", low=0.0)
    first_pass_ratio: float = knob(0.1, "share of num_iters that the loss policies spend to "
                                   "measure every module; the units get the rest", low=0.0,
                                   high=0.9)
    warm_start: bool = knob(True, "joined units start from the first pass's roundings")
    num_iters: int = knob(20000, "optimizer steps per module", low=0)
    iters_scaling: str = knob("per_module",
                              "a joined unit gets num_iters for each of its modules, or once",
                              choices=("per_module", "per_unit"))
    batch_size: int = knob(256, "samples per step, drawn afresh each step (expanded batch)", "B",
                           low=1)
    rounding_lr: float = knob(1e-3, "Adam step of the rounding variables", low=0.0)
    rounding_lr_start: float = knob(1.0, "share of rounding_lr at the first step; grows linearly "
                                    "to 1 at the last. Below 1 where a large step throws a unit "
                                    "with many inputs per output off", low=0.0, high=1.0)
    scale_lr: float = knob(4e-5, "Adam step of activation scales, cosine to 0; 0 freezes them",
                           low=0.0)
    bias_lr: float = knob(1e-3, "Adam step of corrected biases, cosine to 0; 0 freezes them",
                          low=0.0)
    start_margin: float = knob(0.1, "how far from a solved code its rounding variable starts, in "
                               "steps, on the side of the float weight", low=0.0, high=0.5)
    round_weight: float = knob(0.01, "weight of the rounding term", "lambda", low=0.0)
    round_weight_depthwise: float = knob(0.1, "the same for units with depthwise convolutions",
                                         "lambda", low=0.0)
    round_weight_relative: float = knob(0.0, "if positive, the weight of the rounding term is this "
                                        "many times the mean gradient of the reconstruction loss, "
                                        "per layer, instead of round_weight: "
                                        "follows the loss's scale", low=0.0)
    inner_weight: float = knob(0.0, "joined units: weight of the relative errors at the inner "
                               "block ends, added to that of the output; 0 as in the paper",
                               low=0.0)
    warm_up: float = knob(0.2, "share of the steps before the rounding term sets in", low=0.0,
                          high=1.0)
    beta_start: float = knob(20.0, "exponent of the rounding term after warm-up", "b", low=1.0)
    beta_end: float = knob(2.0, "exponent at the last step, reached linearly", "b", low=1.0)
    keep_prob: Optional[float] = knob(0.5, "probability that an element is quantized while "
                                      "training (QDrop); 1: always; null: 0.5 in units that read "
                                      "activations of at most 4 bits, 1 in others", "p", low=0.0,
                                      high=1.0)
    train_above: float = knob(0.0, "a unit whose output error, relative to the output's power, is "
                              "not above this after rounding is not trained", low=0.0)
    train_network_above: float = knob(0.0, "no unit is trained where the error of the network's "
                                      "outputs after the solve, relative to their variation, is "
                                      "not above this", low=0.0)
    early_stop: bool = knob(False, "end a unit's training at half of its steps where no iterate "
                            "was better than its start by then")
    loss: str = knob("mse", "squared error of the unit's output, or weighted by the squared "
                     "gradient of the network's KL divergence", choices=("mse", "fisher"))
    activation_clip: str = knob("none",
                                "symmetric_pact: learn a symmetric clip alpha that sets the scale",
                                choices=("none", "symmetric_pact"))


# Granularities that need every module's loss, from a first pass.
LOSS_POLICIES = ("loss", "loss_peaks", "optimal")

PRESETS: Dict[str, Dict[str, Any]] = {
    # AdaRound (arXiv 2004.10568): layer by layer, weights only.
    "adaround": dict(granularity="layer", keep_prob=1.0, scale_lr=0.0, batch_size=32,
                     num_iters=10000),
    # BRECQ (arXiv 2102.05426) in MQBench's one-stage form: weights and scales together.
    "brecq": dict(granularity="block", keep_prob=1.0, batch_size=32),
    # QDrop (arXiv 2203.05740).
    "qdrop": dict(granularity="block", batch_size=32),
    # MRECG (arXiv 2303.11906) on QDrop with the expanded batch: the defaults above.
    "mrecg": dict(),
    # Two CPU cores and minutes. The solve has done most: training stays close to its codes, ends
    # at half of its steps where it gained nothing by then, and a joined unit costs what its modules
    # would cost alone. The steps grow from a tenth, and the rounding term follows the loss's
    # gradient: from the float weights, without the first, MobileNetV1's last blocks diverge at
    # W4A8, without the second, its few depthwise weights stay undecided (1 % top-1 instead of 73).
    # Few samples too: targets at the inner block ends and at the peaks keep joined units from
    # overfitting.
    "fast": dict(num_iters=60, batch_size=32, rounding_lr=0.05, rounding_lr_start=0.1,
                 round_weight_relative=30.0,
                 keep_prob=None, train_above=0.04, train_network_above=0.02, early_stop=True,
                 scale_lr=1e-3, warm_start=False, iters_scaling="per_unit",
                 inner_weight=1.0,
                 peak_partner="predecessor"),
    # No reconstruction: QuantPost.rounding and bias_correction alone.
    "none": dict(granularity="block", num_iters=0),
}


@dataclasses.dataclass
class Config:
    """A whole job. Field names are the YAML sections (``Global`` -> ``global_``)."""

    global_: Global = dataclasses.field(default_factory=Global)
    data: Data = dataclasses.field(default_factory=Data)
    evaluation: Evaluation = dataclasses.field(default_factory=Evaluation)
    quant_post: QuantPost = dataclasses.field(default_factory=QuantPost)
    mrecg: MRECG = dataclasses.field(default_factory=MRECG)


SECTIONS = {"Global": "global_", "Data": "data", "Evaluation": "evaluation",
            "QuantPost": "quant_post", "MRECG": "mrecg"}
