# SPDX-License-Identifier: Apache-2.0
"""The switch changes what it says, twice is once, off is as if it had never been on."""
import inspect
import subprocess
import sys
import types

import pytest

import paddle
import paddle_mrecg
import paddleslim
import paddleslim.quant.quanters  # noqa: F401  registration imports it, which changes nothing
from paddle_mrecg.slim import patches, registration
from paddleslim.quant import quant_post_static  # a second reference, as user code has it

# ``quant_post_static`` of this module is one of the references that registration must reach.
HERE = sys.modules[__name__]


def snapshot():
    """Every attribute of PaddleSlim's modules and classes, and of Paddle's quantization."""
    state = {}
    for name, module in list(sys.modules.items()):
        if (name.split(".")[0] == "paddleslim" or name.startswith("paddle.quantization")
            or module is HERE):
            for key, value in list(vars(module).items()):
                state[name, key] = value
                if inspect.isclass(value) and value.__module__.startswith("paddleslim"):
                    state.update({(name, key, k): v for k, v in vars(value).items()})
    return state


def changed(before, after):
    return {key for key in before.keys() | after.keys() if before.get(key) is not after.get(key)}


def test_unregister_restores_every_object():
    before = snapshot()
    paddle_mrecg.register()
    during = snapshot()
    paddle_mrecg.unregister()
    assert changed(before, during) and not changed(before, snapshot())


def test_registering_twice_is_registering_once():
    before = snapshot()
    paddle_mrecg.register()
    during = snapshot()
    paddle_mrecg.register()
    assert not changed(during, snapshot())
    paddle_mrecg.unregister()
    assert not changed(before, snapshot())
    paddle_mrecg.unregister()
    assert not changed(before, snapshot()) and not registration.registered()


def test_names_bound_before_registration_are_reached(registered):
    held = [paddleslim.quant.quant_post_static, paddleslim.quant.quanter.quant_post_static,
            paddleslim.quant.quant_post,
            paddleslim.auto_compression.compressor.quant_post]
    assert all(function is quant_post_static for function in held)
    assert quant_post_static.__wrapped__ is not quant_post_static
    assert inspect.signature(quant_post_static) == inspect.signature(quant_post_static.__wrapped__)


def test_names_bound_while_registered_are_put_back(monkeypatch):
    module = types.ModuleType("late")
    monkeypatch.setitem(sys.modules, "late", module)
    original = paddleslim.quant.quant_post_static
    paddle_mrecg.register()
    module.function = paddleslim.quant.quant_post_static
    assert module.function is not original
    paddle_mrecg.unregister()
    assert module.function is original


def test_a_failure_leaves_nothing_behind(monkeypatch):
    def fails(table):
        table.replace(paddleslim.quant, "quant_post_static", None)
        raise RuntimeError

    before = snapshot()
    monkeypatch.setattr(registration, "_installers", lambda: [fails])
    with pytest.raises(RuntimeError):
        paddle_mrecg.register()
    assert not changed(before, snapshot()) and not registration.registered()


def test_what_others_replaced_since_stays_theirs(monkeypatch):
    class Owner:
        kept = 1

    table = patches.Patches()
    table.replace(Owner, "kept", 2)
    table.replace(Owner, "new", 3)
    Owner.kept = "theirs"
    table.restore()
    assert Owner.kept == "theirs" and not hasattr(Owner, "new")


@pytest.mark.slow
def test_importing_changes_nothing_and_paddleslim_may_come_second():
    code = ("import zlib, sys, PIL.Image, paddle_mrecg\n"
            "assert 'paddleslim' not in sys.modules\n"
            "paddle_mrecg.register()\n"
            "from paddleslim.quant import quant_post_static as function\n"
            "original = function.__wrapped__\n"
            "assert original.__module__ == 'paddleslim.quant.quanter'\n"
            "paddle_mrecg.unregister()\n"
            "from paddleslim.quant import quant_post_static as again\n"
            "assert again is function is original")
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True)


def test_registration_does_not_switch_modes(registered):
    assert paddle.in_dynamic_mode()
