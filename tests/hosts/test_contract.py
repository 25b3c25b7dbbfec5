# SPDX-License-Identifier: Apache-2.0
"""What our code relies on in the hosts, read in their installed packages without importing them:
what moved, when one fails.
"""
import ast

import pytest

pytestmark = pytest.mark.host


def definitions(path, inside=""):
    """Name -> node of the functions and classes of a file, or of one class in it."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    if inside:
        body = next(n for n in body if isinstance(n, ast.ClassDef) and n.name == inside).body
    return {n.name: n for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}


def arguments(node):
    return [a.arg for a in node.args.args]


def source(node):
    return ast.unparse(node).replace("(", " ( ").replace("'", '"')


def test_paddledetection_finds_paddleslims_class_when_it_is_called(package_files):
    qat = definitions(package_files("ppdet", "slim/quant.py"), "QAT")
    assert arguments(qat["__init__"])[:2] == ["self", "quant_config"]
    assert "paddleslim.dygraph.quant.QAT ( config=self.quant_config" in source(qat["__call__"])
    assert "save_quantized_model" in qat
    ptq = definitions(package_files("ppdet", "slim/quant.py"), "PTQ")
    assert "paddleslim.PTQ ( **self.ptq_config" in source(ptq["__call__"])


def test_paddledetection_takes_the_preprocessing_out_unless_it_trains(package_files):
    build = definitions(package_files("ppdet", "slim/__init__.py"))["build_slim_model"]
    assert 'slim.quant_config["activation_preprocess_type"] = None' in source(build)


def test_paddledetection_tells_callbacks_the_epoch(package_files):
    path = package_files("ppdet", "engine/trainer.py")
    trainer = definitions(path, "Trainer")
    assert {"train", "export", "post_quant", "_get_infer_cfg_and_input_spec"} <= set(trainer)
    train = source(trainer["train"])
    assert ('self.status["epoch_id"] = epoch_id' in train
            and 'self.status["mode"] = "train"' in train)
    assert ("self._compose_callback.on_epoch_begin ( self.status" in train
            and "self.cfg.epoch" in train)
    assert "ComposeCallback" in path.read_text(encoding="utf-8").split("class Trainer")[0]
    assert ("on_epoch_begin" in definitions(package_files("ppdet", "engine/callbacks.py"),
                                            "ComposeCallback"))


def test_paddleclas_quantizes_by_one_function(package_files):
    quantize = definitions(package_files("paddleclas",
                                         "ppcls/arch/slim/quant.py"))["quantize_model"]
    assert arguments(quantize) == ["config", "model", "mode"]
    text = source(quantize)
    assert '.lower ( ) == "pact"' in text and "from paddleslim.dygraph.quant import QAT" in text
    build = definitions(package_files("paddleclas", "ppcls/arch/__init__.py"))["build_model"]
    assert "quantize_model ( config, arch, mode" in source(build)
