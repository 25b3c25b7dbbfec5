# SPDX-License-Identifier: Apache-2.0
"""Inputs of a Layer: what it declared with ``to_static``, and specs inside
dicts, as detectors take them.
"""
from typing import Any, Callable, Dict, List, Optional

from ..errors import ModelError

# the public name of it refuses to answer with full_graph=False, the default
_SPEC = "_function_spec"
_ORIGINALS = "_original_funcs"  # methods that Paddle replaced while it traced


def declared_specs(layer) -> Optional[List]:
    """The ``input_spec`` that a layer was given with ``paddle.jit.to_static``, else None."""
    spec = getattr(getattr(layer.forward, _SPEC, None), "input_spec", None)
    return list(spec) if spec else None


def filling_in(declared: Optional[List], given: List) -> Optional[Callable]:
    """What stands in for inputs in dicts that a host leaves out, because nothing that it exports
    depends on them, and that ``forward`` looks up all the same.

    Args:
        declared(list, optional): specs of everything that ``forward`` takes.
        given(list): those that are wanted.

    Returns:
        callable: a forward pre-hook; None where nothing is left out.
    """
    missing = [{key: spec for key, spec in whole.items() if key not in part}
               if isinstance(whole, dict) and isinstance(part, dict) else {}
               for whole, part in zip(declared or [], given)]
    if not any(missing):
        return None

    def fill_in(layer, inputs):
        return tuple({**{key: _ones(spec) for key, spec in specs.items()}, **value}
                     if specs else value for value, specs in zip(inputs, missing))
    return fill_in


def _ones(spec):
    import paddle
    return paddle.ones([1 if side in (None, -1) else side for side in spec.shape], spec.dtype)


def make_eager(layer):
    """Undo ``paddle.jit.to_static`` on a layer and all within it, which tracing has
    given other methods, in place.
    """
    for sub in _reachable(layer):
        if ("forward" in vars(sub)
            and (hasattr(sub.forward, _SPEC) or "forward" in getattr(sub, _ORIGINALS, ()))):
            del sub.forward


def _reachable(layer) -> List:
    """A layer and all that it holds; PaddleYOLO's backbones keep some in lists, unregistered."""
    met, waiting, found = set(), [layer], []
    while waiting:
        value = waiting.pop()
        if id(value) in met:
            continue
        met.add(id(value))
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
        elif hasattr(value, "_sub_layers"):
            found.append(value)
            waiting += vars(value).values()
    return found


def refuse_other_specs(spec: Any):
    """Raise ModelError for an ``input_spec`` that is not a list of specs, or of structures of
    them.
    """
    wrong: List[Any] = []
    if isinstance(spec, (list, tuple)) and spec:
        map_specs(lambda s: None if hasattr(s, "shape") and hasattr(s, "dtype")
                  else wrong.append(s), spec)
    else:
        wrong.append(spec)
    if wrong:
        raise ModelError(f"input_spec {spec!r} is not a list of paddle.static.InputSpec: give one "
                         "for each input of forward, e.g. "
                         "[paddle.static.InputSpec([None, 3, 224, 224], 'float32', 'x')]")


def map_specs(function: Callable, spec: Any) -> Any:
    """``function`` of every spec in a structure of lists, tuples and dicts, in that structure."""
    if isinstance(spec, dict):
        return {key: map_specs(function, value) for key, value in spec.items()}
    if isinstance(spec, (list, tuple)):
        return [map_specs(function, value) for value in spec]
    return function(spec)


def named_values(spec: Any, value: Any, key: str = "") -> Dict[str, Any]:
    """Values by the names of their specs; a spec without a name has that of its key.

    Args:
        spec(InputSpec|list|dict): one spec, or a structure of them.
        value: an array, or a structure of arrays that has at least those entries.
    """
    if isinstance(spec, dict):
        pairs = [(s, value[k], k) for k, s in spec.items()]
    elif isinstance(spec, (list, tuple)):
        pairs = [(s, v, f"{key}{k}") for k, (s, v) in enumerate(zip(spec, value))]
    else:
        return {spec.name or key: value}
    named = {}
    for pair in pairs:
        named.update(named_values(*pair))
    return named


def has_dict(spec: Any) -> bool:
    """Some input comes inside a dict, so inputs are told apart by name."""
    return (isinstance(spec, dict)
            or (isinstance(spec, (list, tuple)) and any(has_dict(s) for s in spec)))
