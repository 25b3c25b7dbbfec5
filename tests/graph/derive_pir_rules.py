# SPDX-License-Identifier: Apache-2.0
"""Ask the installed Paddle 3 how each ProgramDesc op is called in PIR, and what its parts become.

Paddle translates ProgramDesc programs to PIR; its mapping of names, slots and attributes lives
only in compiled code. So every registered op is put into a program of its own, with its slots
filled, left empty, and its attributes changed one after the other, and what Paddle makes of it is
written down.

    python -m tests.graph.derive_pir_rules            # writes paddle_mrecg/graph/pir_rules.json
    python -m tests.graph.derive_pir_rules OP ...     # prints the findings of single ops
"""
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "4")
warnings.filterwarnings("ignore")

import paddle  # noqa: E402

from paddle_mrecg.compat import default_attrs, old_ir, op_proto  # noqa: E402
from paddle_mrecg.graph.graph import Graph, Op, TensorInfo  # noqa: E402
from paddle_mrecg.graph.writer import program_desc  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "paddle_mrecg" / "graph" / "pir_rules.json"
# A value of each of ProgramDesc's attribute types, and one that differs from every default.
_PLAIN = {0: 1, 1: 1.0, 2: "a", 3: [1], 4: [1.0], 5: ["a"], 6: False, 7: [False], 9: 1, 11: [1],
          12: [1.0], 15: 1.0, 16: 1.0, 17: [1.0]}
_OTHER = {0: 7, 1: 7.5, 2: "zzz", 3: [7], 4: [7.5], 5: ["zzz"], 7: [True], 9: 7, 11: [7],
          12: [7.5], 15: 7.5, 16: 7.5, 17: [7.5]}
_KINDS = [((2,) * rank, dtype) for dtype in ("float32", "int32", "int64", "bool")
          for rank in (4, 2, 3, 1, 5)]
_PLUMBING = ("pd_op.feed", "pd_op.data", "pd_op.full", "pd_op.full_int_array", "builtin.combine",
             "builtin.split", "builtin.slice")
_NOISE = ("op_role", "op_role_var", "op_namescope", "op_callstack", "op_device", "with_quant_attr")


def _attributes(proto):
    known, attrs = default_attrs(proto.type), {}
    for attr in proto.attrs:
        value = known.get(attr.name, _PLAIN.get(attr.type))
        if attr.name not in _NOISE and value is not None:
            attrs[attr.name] = value
    return attrs


def _graph(op_type, skip, changed, kind):
    """A graph of the one op; a tensor's name says its slot."""
    proto, (shape, dtype) = op_proto(op_type), kind
    sides = []
    for tag, slots in (("i", proto.inputs), ("o", proto.outputs)):
        sides.append({s.name: [f"{tag}|{s.name}|{k}" for k in range(2 if s.duplicable else 1)]
                      for s in slots if s.name not in skip})
    names = [[n for slot in side.values() for n in slot] for side in sides]
    tensors = {n: TensorInfo(n, shape, dtype) for side in names for n in side}
    op = Op(op_type, *sides, {**_attributes(proto), **changed})
    return Graph([op], tensors, {}, *names)


def _translate(graph):
    with old_ir():
        text = program_desc(graph).SerializeToString()
        program = paddle.static.Program.parse_from_string(text)
    return paddle.pir.translate_to_pir(program.desc)


def _source(value):
    """Where an operand comes from: a slot, a constant, or nowhere."""
    if not value.initialized():
        return ("none",)
    op = value.get_defining_op()
    if op.name() in ("pd_op.feed", "pd_op.data"):
        return ("slot", op.attrs()["name"].split("|")[1])
    if op.name() in ("pd_op.full", "pd_op.full_int_array"):
        return ("constant", repr(op.attrs().get("value")))
    slots = {s for s in map(_source, op.operands_source()) if s[0] == "slot"}
    return slots.pop() if len(slots) == 1 else ("unknown",)


def _look(op_type, skip=(), changed=None, kind=_KINDS[0]):
    """What the op becomes: its PIR name, where operands come from, slots of results, attributes."""
    program = _translate(_graph(op_type, skip, changed or {}, kind))
    body, written = [], {}
    for op in program.global_block().ops:
        if op.name() == "pd_op.fetch":
            value = op.operands_source()[0]
            if value.get_defining_op().name() in ("builtin.split", "builtin.slice"):
                value = value.get_defining_op().operands_source()[0]
            written[value.id] = op.attrs()["name"].split("|")[1]
        elif op.name() not in _PLUMBING:
            body.append(op)
    if len(body) != 1:
        raise ValueError("becomes several ops: " + ", ".join(op.name() for op in body))
    op = body[0]
    noise = ("persistable", "stop_gradient", "op_callstack", "struct_name")
    return {"name": op.name(), "inputs": [_source(v) for v in op.operands_source()],
            "outputs": [written.get(r.id, "-") for r in op.results()],
            "attrs": {k: repr(v) for k, v in op.attrs().items() if k not in noise}}


def _try(*args, **options):
    try:
        return _look(*args, **options)
    except Exception:  # Paddle refuses some combinations; another one tells
        return None


def _first_look(op_type, optional, by_products):
    """The first form that Paddle translates: skipped slots and kind of tensor."""
    problem = None
    for kind in _KINDS:
        for skip in ((), by_products, optional, optional + by_products):
            try:
                return _look(op_type, skip, None, kind), skip, kind
            except Exception as error:  # the next form may do
                text = str(error).strip().splitlines()[-1].strip()
                problem = problem or text
    raise ValueError(problem)


def derive(op_type):
    """The rule of one op: ``[PIR name, type, inputs, outputs, attributes]``; see pir_table.py.

    Raises:
        ValueError: Paddle cannot translate the op; the message says why.
    """
    proto = op_proto(op_type)
    optional = tuple(s.name for s in proto.inputs if s.dispensable)
    by_products = tuple(s.name for s in proto.outputs if s.name == "XShape" or s.dispensable)
    base, skip, kind = _first_look(op_type, optional, by_products)
    outside = tuple(n for n in skip if n in by_products)
    forms = [outside, outside + optional]
    forms += [outside + (n,) for n in optional]
    forms += [outside + tuple(m for m in optional if m != n) for n in optional]
    looks = [_try(op_type, form, None, kind) for form in dict.fromkeys(forms)]
    looks = [look for look in looks if look and look["name"] == base["name"]] or [base]
    width = len(base["inputs"])
    slots = [list(dict.fromkeys(look["inputs"][k][1] for look in looks
                                if look["inputs"][k][0] == "slot")) for k in range(width)]
    plain = _try(op_type, outside + optional, None, kind)
    form = outside + optional if plain and plain["name"] == base["name"] else skip
    attrs, operands = _follow_attributes(op_type, form, kind)
    several = {s.name for s in proto.inputs if s.duplicable}
    inputs = [_role(slots[k], operands.get(k), several) for k in range(width)]
    return [base["name"].split(".", 1)[1], op_type, " ".join(inputs), " ".join(base["outputs"]),
            " ".join(attrs)]


def _role(slots, attr, several):
    if attr is None:
        return slots[0] if slots else "-"
    lists = [s for s in slots if s in several]
    tensors = [s for s in slots if s not in several]
    parts = ["@" + attr, lists[0] if lists else "", tensors[0] if tensors else ""]
    return "/".join(parts).rstrip("/")


def _follow_attributes(op_type, form, kind):
    """Change attribute after attribute: ``pir>programdesc`` names, and operands that are one."""
    reference = _look(op_type, form, None, kind)
    found, operands = {}, {}
    for attr in op_proto(op_type).attrs:
        current = _attributes(op_proto(op_type)).get(attr.name)
        if attr.name in _NOISE or current is None:
            continue
        for value in _candidates(attr, current):
            look = _try(op_type, form, {attr.name: value}, kind)
            if not look or look["name"] != reference["name"]:
                continue
            for name, text in look["attrs"].items():
                if text != reference["attrs"].get(name):
                    found.setdefault(name, attr.name)
            for k, (a, b) in enumerate(zip(look["inputs"], reference["inputs"])):
                if a != b:
                    operands[k] = attr.name
            break
        else:
            if attr.name in reference["attrs"]:
                found.setdefault(attr.name, attr.name)
    names = sorted(reference["attrs"])
    return [n if found.get(n) == n else f"{n}>{found.get(n, '')}" for n in names], operands


def _candidates(attr, current):
    if attr.type == 6:
        return [not current]
    values = [2, 3, 5, 7] if attr.type == 0 else [_OTHER[attr.type]]
    if attr.type == 2:
        values += ["NHWC", "VALID", "float64", "1.5"]
    if isinstance(current, list) and current and not isinstance(current[0], (str, bool)):
        values.insert(0, [type(current[0])(7)] * len(current))
    return [v for v in values if v != current]


def _reason(text):
    if "should have corresponding OpInfo" in text:
        return "Paddle has no PIR form of it"
    if "Sparse" in text or "SelectedRows" in text:
        return "works on sparse tensors"
    if "get input names" in text or "becomes several ops" in text:
        return text.split(" (at ")[0]
    return "Paddle's translator refuses it: " + text.split(" (at ")[0].split("[Hint: ")[-1][:120]


def _work(names):
    for name in names:
        print("START " + name, flush=True)
        try:
            result = {"rule": derive(name)}
        except ValueError as error:
            result = {"reason": _reason(str(error))}
        print("DONE " + json.dumps([name, result]), flush=True)


def derive_all(names=None):
    """Rules and reasons of all registered ops, each in a process that may crash."""
    from paddle.base.framework import OpProtoHolder
    todo, found = sorted(names or OpProtoHolder.instance().op_proto_map), {}
    while todo:
        command = [sys.executable, "-m", "tests.graph.derive_pir_rules", "--work", *todo]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        at = None
        for line in done.stdout.splitlines():
            if line.startswith("START "):
                at = line[len("START "):]
            elif line.startswith("DONE "):
                name, result = json.loads(line[len("DONE "):])
                found[name], at = result, None
        if at is None and not done.stdout:
            raise RuntimeError(done.stderr[-500:])
        if at is not None:
            found[at] = {"reason": "Paddle's translator crashes on it"}
        todo = [name for name in todo if name not in found]
    rules = [r["rule"] for _, r in sorted(found.items()) if "rule" in r]
    return rules, {name: r["reason"] for name, r in sorted(found.items()) if "reason" in r}


def main(names):
    rules, reasons = derive_all(names)
    lines = ",\n".join(json.dumps(rule) for rule in sorted(rules))
    reason_lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in reasons.items())
    text = (f'{{"paddle": "{paddle.__version__}",\n"rules": [\n{lines}\n],\n'
            f'"reasons": {{\n{reason_lines}\n}}}}\n')
    if names:
        print(text)
    else:
        TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        _work(sys.argv[2:])
    else:
        main(sys.argv[1:])
