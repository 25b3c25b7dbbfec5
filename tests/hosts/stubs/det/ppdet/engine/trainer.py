# SPDX-License-Identifier: Apache-2.0
"""Models take dicts; epochs count from 0 and are told to callbacks, evaluation too; export traces
the model to see what is read.
"""
import os

import paddle

from tests.slim_nets import DICT_SPEC, images


def batch(seed):
    x = images(8, seed)
    return {"image": paddle.to_tensor(x), "scale_factor": paddle.to_tensor(x[:, 0, 0, :2]),
            "im_id": paddle.to_tensor([0] * 8)}


class ComposeCallback:
    def on_epoch_begin(self, status):
        status["begun"] = status.get("begun", 0) + 1


class Trainer:
    def __init__(self, cfg):
        self.cfg, self.model, self.status, self._compose_callback = (cfg, cfg.model, {},
                                                                     ComposeCallback())
        self.loader = [None]  # one batch
        self.optimizer = paddle.optimizer.Momentum(0.01, parameters=self.model.parameters())

    def train(self, validate=False):
        for epoch_id in range(self.cfg.epoch):
            self.status.update(mode="train", epoch_id=epoch_id)
            self._compose_callback.on_epoch_begin(self.status)
            self.model.train()
            self.model(batch(epoch_id)).square().mean().backward()
            self.optimizer.step()
            self.optimizer.clear_grad()
            self.status["mode"] = "eval"
            self._compose_callback.on_epoch_begin(self.status)
        paddle.save(self.model.state_dict(),
                    os.path.join(self.cfg.output_dir, "model_final.pdparams"))

    def _get_infer_cfg_and_input_spec(self, save_dir, prune_input=True):
        if not prune_input:
            return None, DICT_SPEC
        static = paddle.jit.to_static(self.model, input_spec=DICT_SPEC, full_graph=True)
        static.forward.main_program
        return static, DICT_SPEC

    def export(self):
        self.model.eval()
        static, spec = self._get_infer_cfg_and_input_spec(self.cfg.output_dir)
        self.cfg.slim.save_quantized_model(self.model, os.path.join(self.cfg.output_dir, "model"),
                                           input_spec=spec)

    def post_quant(self):
        for seed in range(4):
            self.model(batch(seed))
        _, spec = self._get_infer_cfg_and_input_spec(self.cfg.output_dir, prune_input=False)
        self.cfg.slim.ptq.save_quantized_model(self.model,
                                               os.path.join(self.cfg.output_dir, "model"), spec)
