# SPDX-License-Identifier: Apache-2.0
"""``paddleslim.quant.quant_post_static(round_type='mrecg')`` and
``quant_recon_static(recon_level='mrecg')``.

Both run the post-training job on the model's program, eagerly, so they work
where PaddleSlim's own do not: on Paddle 3.x, with generators, and with weights
and activations of different bits.
"""
import copy
import functools
import glob
import inspect
import os
from typing import Any, Callable, Dict, List

from ..errors import ConfigError
from ..graph.graph import weight_name
from ..graph.load import load_graph
from .loaders import calibration_batches
from .modes import dynamic_mode
from .place_program import MRECG_SWITCH, quantize_to
from ..config.dialect.post import post_sections

READERS = ("batch_generator", "sample_generator", "data_loader", "batch_size", "batch_nums")
SWITCHES = {"round_type", "recon_level"}
# Arguments of PaddleSlim that say where things are, not how to quantize.
PLACES = ("executor", "model_dir", "quantize_model_path", "model_filename", "params_filename",
          "save_model_filename",
          "save_params_filename", "scope", "skip_tensor_list", "evaluator")


def with_mrecg(original: Callable, switch: str) -> Callable:
    """``original`` with one more value of its argument ``switch``; all other
    calls go through unchanged.

    Args:
        original(callable): ``quant_post_static`` or ``quant_recon_static``.
        switch(str): ``round_type`` or ``recon_level``.
    """
    signature = inspect.signature(original)

    @functools.wraps(original)
    def function(*args, **kwargs):
        for other in SWITCHES - set(signature.parameters):
            if kwargs.get(other) == MRECG_SWITCH:
                raise ConfigError(f"{original.__name__} has no {other}: its switch is "
                                  f"{switch}='{MRECG_SWITCH}'")
        if not _chosen(signature, switch, args, kwargs):
            return original(*args, **kwargs)
        known = {k: v for k, v in kwargs.items() if k in signature.parameters}
        try:
            given = dict(signature.bind(*args, **known).arguments)
        except TypeError as error:
            raise ConfigError(f"{original.__name__}: {error}; see its "
                              "documentation in PaddleSlim") from None
        given.update({k: v for k, v in kwargs.items() if k not in known})
        del given[switch]
        return quant_static_mrecg(**given)

    function.__doc__ = f"{original.__doc__}\n{_NOTE.format(switch=switch)}"
    return function


_NOTE = """
    With paddle_mrecg registered, {switch}='mrecg' reconstructs with mixed granularity:
    weight_bits and activation_bits are independent, any of batch_generator, sample_generator
    and data_loader will do, and every key of our sections QuantPost and MRECG is an argument
    (MRECG.batch_size as mrecg_batch_size). Returns paddle_mrecg.Result.
"""


def _chosen(signature, switch: str, args, kwargs) -> bool:
    position = list(signature.parameters).index(switch)
    value = kwargs.get(switch, args[position] if len(args) > position else None)
    return isinstance(value, str) and value == MRECG_SWITCH


def quant_static_mrecg(executor=None, model_dir=None, quantize_model_path=None, sections=None,
                       **given):
    """The post-training job under PaddleSlim's arguments.

    Args:
        executor(paddle.static.Executor, optional): not needed; the job runs
            eagerly on the current device.
        model_dir(str): directory of the float model.
        quantize_model_path(str): directory of the result.
        sections(dict, optional): all settings, in place of those in ``given``. Default: None.
        **given: PaddleSlim's other arguments, and our settings.

    Returns:
        paddle_mrecg.Result: its ``save_dir`` holds the report.

    Raises:
        ConfigError: arguments that are unknown or have no counterpart; and
            see ``quant_post_mrecg``.
    """
    readers = {name: given.pop(name) for name in READERS if name in given}
    places = {name: given.pop(name) for name in PLACES if name in given}
    _follow_paddle_3(places, model_dir)
    sections = (post_sections(_with_slim_defaults(given)) if sections is None
                else copy.deepcopy(sections))
    sections.setdefault("Global",
                        {}).update({name: places[name]
                                    for name in ("model_filename", "params_filename")
                                    if places.get(name)})
    if places.get("skip_tensor_list"):
        sections.setdefault("QuantPost", {}).setdefault("skip", [])
        sections["QuantPost"]["skip"] += _weights_next_to(places["skip_tensor_list"], model_dir,
                                                         sections["Global"])
    if readers.get("sample_generator") is not None:
        readers["ranks"] = _input_ranks(model_dir, places)
    name = places.get("save_model_filename") or "model.pdmodel"
    # as Paddle's save_quantized_model does
    stem = name[:-len(".pdmodel")] if name.endswith(".pdmodel") else name
    with dynamic_mode():
        return quantize_to(os.path.join(quantize_model_path, stem), model_dir,
                           calibration_batches(**readers), sections,
                           places.get("evaluator"))


def _follow_paddle_3(places: Dict[str, Any], model_dir: str):
    """Scripts of hosts name ``inference.pdmodel`` where their export on Paddle 3 has written
    ``inference.json``.
    """
    stem, suffix = os.path.splitext(places.get("model_filename") or "")
    named, written = (os.path.join(model_dir or "", stem + s) for s in (suffix, ".json"))
    if suffix == ".pdmodel" and not os.path.isfile(named) and os.path.isfile(written):
        places["model_filename"] = stem + ".json"


def _with_slim_defaults(given: Dict[str, Any]) -> Dict[str, Any]:
    """Bits are 8 unless given, as in PaddleSlim; everything else that is not
    given is as in our sections.
    """
    return {"weight_bits": 8, "activation_bits": 8, **given}


def _graph(model_dir: str, places: Dict[str, str]):
    return load_graph(model_dir, places.get("model_filename"), places.get("params_filename"))


def _input_ranks(model_dir: str, places: Dict[str, str]) -> List[int]:
    """Dimensions of the model's inputs, in order."""
    graph = _graph(model_dir, places)
    return [len(graph.tensors[name].shape) for name in graph.inputs]


def _weights_next_to(tensors: List[str], model_dir: str, places: Dict[str, str]) -> List[str]:
    """Skip patterns for the weights of the ops that read one of ``tensors``, which
    is what PaddleSlim skips.
    """
    graph = _graph(model_dir, places)
    known = {n for op in graph.ops for n in op.input_names}
    missing = sorted(set(tensors) - known)
    if missing:
        raise ConfigError(f"skip_tensor_list: no op reads {', '.join(missing)}; name inputs or "
                          "weights of quantized ops")
    weights = ({weight_name(op, graph) for op in graph.ops if set(op.input_names) & set(tensors)}
               - {None})
    return [glob.escape(name) for name in sorted(weights)]


def install(patches):
    """Put the two functions wherever PaddleSlim's are: ACT and the analysis tools
    hold references of their own.
    """
    from paddleslim.quant import quanter, reconstruction_quantization
    patches.replace_everywhere(quanter.quant_post_static,
                               with_mrecg(quanter.quant_post_static, "round_type"))
    original = reconstruction_quantization.quant_recon_static
    patches.replace_everywhere(original, with_mrecg(original, "recon_level"))
