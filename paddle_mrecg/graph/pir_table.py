# SPDX-License-Identifier: Apache-2.0
"""How each PIR op is called in ProgramDesc, and what its operands become.

Most of it is Paddle's own knowledge: ``pir_rules.json`` holds what Paddle's translator makes of
every registered ProgramDesc op (``tests/graph/derive_pir_rules.py`` writes it anew). A rule there
is ``[PIR op, ProgramDesc op, operands, results, attributes]``. An operand is a slot name (``X``),
``@attr`` (a constant folded into an attribute; ``@attr/List/Tensor`` names the slots for the case
that it is computed: as a list of scalars, or as one tensor), or ``-`` (dropped). An attribute is
``pir>programdesc``, one name when both are the same, and nothing behind ``>`` when ProgramDesc has
none. Written by hand is what the translator cannot tell.
"""
import dataclasses
import json
from pathlib import Path
from typing import Any, Dict, Tuple


@dataclasses.dataclass(frozen=True)
class PIRRule:
    """Translation of one PIR op; see the module's docstring for ``inputs``."""

    type: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    rename: Dict[str, str]
    extra: Dict[str, Any] = dataclasses.field(default_factory=dict)


# Of several ProgramDesc ops with the same PIR form, the one that Paddle's exporter writes.
_SECOND_CHOICE = ("grad_add", "deformable_conv_v1", "matmul")
# Attributes of ProgramDesc alone: their values are part of what the PIR op means.
_EXTRA: Dict[str, Dict[str, Any]] = {
    "hard_swish": {"threshold": 6.0, "scale": 6.0, "offset": 3.0}, "relu6": {"threshold": 6.0},
    "swish": {"beta": 1.0}, "unpool": {"unpooling_type": "max"},
    **{f"elementwise_{name}": {"axis": -1} for name in (
        "add", "sub", "mul", "div", "max", "min", "pow", "floordiv", "mod", "fmax", "fmin")}}


def _derived() -> Dict[str, PIRRule]:
    data = json.loads(Path(__file__).with_name("pir_rules.json").read_text(encoding="utf-8"))
    rules = {}
    for name, op_type, inputs, outputs, attributes in data["rules"]:
        if op_type in _SECOND_CHOICE:
            continue
        pairs = (a.partition(">") for a in attributes.split())
        rename = {pir: new if arrow else pir for pir, arrow, new in pairs if arrow}
        rules[name] = PIRRule(op_type, tuple(inputs.split()), tuple(outputs.split()), rename,
                              _EXTRA.get(op_type, {}))
    return rules


PIR_RULES = _derived()


def _hand(name, op_type, inputs="X", outputs="Out", rename=None, **extra):
    PIR_RULES[name] = PIRRule(op_type, tuple(inputs.split()), tuple(outputs.split()), rename or {},
                              extra)


# One ProgramDesc op that an attribute, or what its operands are, splits into several PIR ops.
_hand("split", "split", "X @sections/SectionsTensorList @axis//AxisTensor", num=0)
_hand("split_with_num", "split", "X @axis//AxisTensor", sections=[])
_hand("tril", "tril_triu", lower=True)
_hand("triu", "tril_triu", lower=False)
_SHAPE = "@shape/ShapeTensorList/ShapeTensor"
_hand("full_with_tensor", "fill_constant", f"@value//ValueTensor {_SHAPE}")
_PLACES = "@starts/StartsTensorList @ends/EndsTensorList @steps/StepsTensorList"
_hand("set_value", "set_value", f"Input {_PLACES}")
_hand("set_value_with_tensor", "set_value", f"Input ValueTensor {_PLACES}", shape=[])
# By-products that only training reads, and seeds.
_hand("dropout", "dropout", "X - @dropout_prob", "Out",
      {"mode": "dropout_implementation", "seed": "", "fix_seed": ""})
_hand("rnn", "rnn", "Input PreState WeightList SequenceLength -", "Out DropoutState State Reserve")
# PIR writes some ops with a trailing underscore: they may reuse their input's memory.
PIR_RULES.update({name + "_": rule for name, rule in list(PIR_RULES.items())
                  if name + "_" not in PIR_RULES})
PIR_RULES.update({name[:-1]: rule for name, rule in list(PIR_RULES.items())
                  if name.endswith("_") and name[:-1] not in PIR_RULES})
