# SPDX-License-Identifier: Apache-2.0
"""The exporter of PaddleOCR 2.10 and later: two arguments came to stand in the middle."""
import paddle

from tests.slim_nets import SHAPE


def export_single_model(model, arch_config, save_path, logger, yaml_path, config,
                        input_shape=None, quanter=None):
    model = paddle.jit.to_static(
        model, input_spec=[paddle.static.InputSpec([None, *(input_shape or SHAPE)], "float32")])
    if quanter is None:
        config["Global"].get("export_with_pir", False)
    else:
        quanter.save_quantized_model(model, save_path)
