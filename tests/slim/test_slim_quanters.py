# SPDX-License-Identifier: Apache-2.0
"""paddle.quantization.QuantConfig with our factories: what is trained is what
Paddle converts and saves.
"""
import numpy as np
import pytest

import paddle
from paddle.quantization import QAT, QuantConfig
from paddle_mrecg.compat import old_ir
from paddle_mrecg.errors import ConfigError
from paddle_mrecg.deploy.predictor import Predictor
from tests.slim_nets import SHAPE, images


def trained(net, config, steps=3):
    net.train()
    model = QAT(config).quantize(net, inplace=True)
    optimizer = paddle.optimizer.SGD(0.01, parameters=model.parameters())
    x = paddle.to_tensor(images(8))
    for _ in range(steps):
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.clear_grad()
    return model


def configs():
    from paddleslim.quant.quanters import LSQ, TQT, SymmetricPACT
    return {"lsq": QuantConfig(activation=LSQ(),
                               weight=LSQ(role="weight", bits=4, per_channel=True)),
            "tqt": QuantConfig(activation=TQT(), weight=TQT(role="weight", bits=4)),
            "symmetric_pact": QuantConfig(activation=SymmetricPACT(),
                                          weight=LSQ(role="weight", bits=3))}


@pytest.mark.parametrize("name", ["lsq", "tqt", "symmetric_pact"])
def test_convert_keeps_what_was_learned(name, tiny_net, registered):
    model = trained(tiny_net, config := configs()[name])
    model.eval()
    x = paddle.to_tensor(images(4, seed=1))
    want = model(x).numpy()
    got = QAT(config).convert(model)(x).numpy()
    # The same grid in another order of operations: rounding may differ only
    # where a value lies on a tie.
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max() + 1e-6


def test_the_saved_program_computes_the_same(tiny_net, tmp_path, registered):
    model = trained(tiny_net, config := configs()["lsq"])
    model.eval()
    x = images(4, seed=1)
    want = model(paddle.to_tensor(x)).numpy()
    converted = QAT(config).convert(model)
    with old_ir():
        paddle.jit.save(converted, str(tmp_path / "net"),
                        [paddle.static.InputSpec([None, *SHAPE], "float32", "x")])
    np.testing.assert_allclose(Predictor(str(tmp_path / "net"))(x)[0], want, atol=1e-5)


def test_names_are_there_only_while_registered():
    import paddle_mrecg
    from paddleslim.quant import quanters
    assert not hasattr(quanters, "SymmetricPACT")
    before = quanters.__all__
    paddle_mrecg.register()
    assert {"LSQ", "TQT", "SymmetricPACT"} <= set(quanters.__all__)
    paddle_mrecg.unregister()
    assert quanters.__all__ is before and not hasattr(quanters, "SymmetricPACT")


def test_unsigned_grids_are_refused(registered):
    from paddleslim.quant.quanters import LSQ
    with pytest.raises(ConfigError, match="signed codes only"):
        LSQ(signed=False)
