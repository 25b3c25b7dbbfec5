# SPDX-License-Identifier: Apache-2.0
"""Trains on random images, whose epochs count from 1; exports a layer around the
model, without ``input_spec``.
"""
import os

import paddle

from ppcls.arch import build_model
from tests.slim_nets import SHAPE, images


def train_epoch(engine, epoch_id, print_batch_step):
    engine.model.train()
    engine.model(paddle.to_tensor(images(8, epoch_id))).square().mean().backward()
    engine.optimizer.step()
    engine.optimizer.clear_grad()


class Engine:
    def __init__(self, config, mode="train"):
        self.config, self.update_freq = config, config["Global"].get("update_freq", 1)
        self.train_epoch_func, self.train_dataloader = train_epoch, [None]  # one batch
        self.model = build_model(config, mode)
        if config["Global"].get("pretrained_model"):
            self.model.set_state_dict(paddle.load(config["Global"]["pretrained_model"]
                                                  + ".pdparams"))
        self.optimizer = paddle.optimizer.Momentum(0.01, parameters=self.model.parameters())

    def train(self):
        for epoch_id in range(1, self.config["Global"]["epochs"] + 1):
            self.train_epoch_func(self, epoch_id, 10)
        paddle.save(self.model.state_dict(),
                    os.path.join(self.config["Global"]["output_dir"], "latest.pdparams"))

    def export(self):
        self.model.eval()
        around = paddle.jit.to_static(paddle.nn.Sequential(self.model, paddle.nn.Softmax()),
                                      input_spec=[paddle.static.InputSpec([None, *SHAPE],
                                                                          "float32")])
        self.model.quanter.save_quantized_model(around,
                                                os.path.join(self.config["Global"]["output_dir"],
                                                             "inference_int8"))
