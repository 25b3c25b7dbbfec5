# SPDX-License-Identifier: Apache-2.0
"""The loop: epochs count from 1, a resumed run starts later, and some data sets are
built again for every epoch.
"""
import sys

import paddle
import yaml

from tests.slim_nets import images


def load_config():
    with open(sys.argv[sys.argv.index("-c") + 1], encoding="utf-8") as file:
        return yaml.safe_load(file)


class Loader(list):
    need_reset = False


def build_dataloader(config, mode, seed=0):
    loader = Loader([paddle.to_tensor(images(8, seed))])
    loader.need_reset = config["Train"]["need_reset"]
    return loader


def train(config, train_dataloader, valid_dataloader, model, optimizer, pre_best_model_dict):
    model.train()
    for epoch in range(pre_best_model_dict.get("start_epoch", 1),
                       config["Global"]["epoch_num"] + 1):
        if train_dataloader.need_reset:
            train_dataloader = build_dataloader(config, "Train", seed=epoch)
        for _, x in enumerate(train_dataloader):
            model(x).square().mean().backward()
            optimizer.step()
            optimizer.clear_grad()
        list(valid_dataloader)
    paddle.save(model.state_dict(), config["Global"]["save_model_dir"] + "/latest.pdparams")
