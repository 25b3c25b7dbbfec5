# SPDX-License-Identifier: Apache-2.0
"""PaddleOCR: ``deploy/slim/quantization/quant.py``, ``export_model.py`` and ``quant_kl.py``."""
import functools
import inspect

NAME, PACKAGE = "PaddleOCR", "ppocr"


def install(patches, switches):
    """Tell the switches PaddleOCR's epochs, each of which goes once through its training data."""
    from tools import program
    train, build = program.train, program.build_dataloader
    signature = inspect.signature(train)

    @functools.wraps(train)
    def train_(*args, **kwargs):
        given = signature.bind(*args, **kwargs)
        config = given.arguments["config"]
        first = (given.arguments.get("pre_best_model_dict") or {}).get("start_epoch", 1)
        epochs = Epochs(first - 1, config["Global"]["epoch_num"], switches)
        given.arguments["train_dataloader"] = epochs.over(given.arguments["train_dataloader"])

        # some data sets are built again for every epoch
        def build_dataloader(config, mode, *rest, **others):
            loader = build(config, mode, *rest, **others)
            return epochs.over(loader) if mode == "Train" else loader

        program.build_dataloader = build_dataloader
        try:
            return train(*given.args, **given.kwargs)
        finally:
            program.build_dataloader = build

    patches.replace(program, "train", train_)


class Epochs:
    """Counts epochs by the passes over loaders that it has wrapped.

    Args:
        first(int): the epoch of the first pass, from 0.
        count(int): epochs in all.
        switches(Switches): is told.
    """

    def __init__(self, first: int, count: int, switches):
        self.next, self.count, self.switches = first, count, switches

    def over(self, loader):
        """The same loader, each pass over which begins an epoch."""
        return _Counted(loader, self.begin)

    def begin(self):
        self.switches.on_epoch(self.next, self.count)
        self.next += 1


class _Counted:
    """A data loader that says when a pass over it begins."""

    def __init__(self, loader, begin):
        self._loader, self._begin = loader, begin

    def __iter__(self):
        self._begin()
        return iter(self._loader)

    def __len__(self):
        return len(self._loader)

    def __getattr__(self, name):
        return getattr(self._loader, name)
