# SPDX-License-Identifier: Apache-2.0
"""Find PaddleSlim's classes when they are called."""
import paddleslim


class QAT:
    def __init__(self, quant_config, print_model=False):
        self.quant_config = quant_config

    def __call__(self, model):
        self.quanter = paddleslim.dygraph.quant.QAT(config=self.quant_config)
        self.quanter.quantize(model)
        return model

    def save_quantized_model(self, layer, path, input_spec=None):
        self.quanter.save_quantized_model(model=layer, path=path, input_spec=input_spec)


class PTQ:
    def __init__(self, ptq_config):
        self.ptq_config = ptq_config

    def __call__(self, model):
        self.ptq = paddleslim.PTQ(**self.ptq_config)
        model.eval()
        return self.ptq.quantize(model, fuse=True, fuse_list=None)
