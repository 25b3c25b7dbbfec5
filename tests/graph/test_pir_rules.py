# SPDX-License-Identifier: Apache-2.0
"""The mapping of PIR to ProgramDesc is Paddle's own, and complete."""
import json

import pytest
from paddle.base.framework import OpProtoHolder

from paddle_mrecg.compat import op_proto, paddle_version
from paddle_mrecg.graph.ops import SUPPORTED
from paddle_mrecg.graph.pir_table import PIR_RULES
from tests.graph.derive_pir_rules import TARGET, derive_all

needs_pir = pytest.mark.skipif(paddle_version() < "3", reason="Paddle 2 does not know PIR")
# Ops of Paddle 2 programs that no PIR op becomes: read from ProgramDesc alone.
PROGRAM_ONLY = {
    "assign_value", "fill_zeros_like", "flatten", "flatten2", "hard_tanh", "mul", "pad2d",
    "squeeze", "sync_batch_norm", "transpose", "unsqueeze", "matmul", "reshape",
    "deformable_conv_v1", "grad_add"}


def stored():
    """Rules, and the reason for each op that has none, as they were derived."""
    return json.loads(TARGET.read_text(encoding="utf-8"))


def known():
    return {rule.type for rule in PIR_RULES.values()} | stored()["reasons"].keys() | PROGRAM_ONLY


def test_every_op_of_the_executor_has_a_rule_or_a_reason():
    assert SUPPORTED <= known()


@needs_pir
def test_every_registered_op_has_a_rule_or_a_reason():
    assert set(OpProtoHolder.instance().op_proto_map) <= known()


@needs_pir
def test_rules_name_slots_and_attributes_that_exist():
    for name, rule in PIR_RULES.items():
        proto = op_proto(rule.type)
        slots = {s.name for s in proto.inputs}
        attrs = {a.name for a in proto.attrs}
        for role in rule.inputs:
            parts = role.lstrip("@").split("/")
            assert role == "-" or parts[0] in (attrs if role[0] == "@" else slots), (name, role)
            assert {p for p in parts[1:] if p} <= slots, (name, role)
        assert set(rule.outputs) - {"-"} <= {s.name for s in proto.outputs}, name
        assert {new for new in rule.rename.values() if new} <= attrs, name


@needs_pir
@pytest.mark.parametrize("op_types", [["grid_sampler", "range", "one_hot_v2", "strided_slice",
                                       "softshrink", "reshape2", "rnn", "reduce_sum"]])
def test_rules_are_what_this_paddle_answers(op_types):
    known_rules = {rule[1]: rule for rule in stored()["rules"]}
    rules, reasons = derive_all(op_types)
    assert not reasons
    assert {rule[1]: rule for rule in rules} == {name: known_rules[name] for name in op_types}


@needs_pir
@pytest.mark.slow
def test_all_rules_are_what_this_paddle_answers():
    rules, reasons = derive_all()
    assert (sorted(rules), reasons) == (sorted(stored()["rules"]), stored()["reasons"])
