# SPDX-License-Identifier: Apache-2.0
"""PaddleOCR: ``deploy/slim/quantization/quant.py``, ``export_model.py`` and ``quant_kl.py``."""
import ast
import functools
import importlib
import importlib.util
import inspect
import os
import threading

from ..errors import DataError

NAME, PACKAGE = "PaddleOCR", "ppocr"
EXPORTERS = "ppocr.utils.export_model", "tools.export_model"  # of 2.10 and later, and before
MOST_FAILURES = 32  # samples in a row that cannot be read


def look_ahead(call, config):
    """Lines of ``run --check``: what is written where, which heads only train, and what is known
    of this version's export.
    """
    places, inference = config.get("Global") or {}, "(Global.save_inference_dir)"
    lines = [f"writes   quant.py: checkpoints in {places.get('save_model_dir') or './output'}",
             f"writes   export_model.py: {places.get('save_inference_dir') or inference}"
             "/inference.pdmodel, .pdiparams and the folder inference.mrecg"]
    lines += [f"heads    {name} runs in training only and is not exported"
              for name in training_heads(config.get("Architecture") or {})]
    taken = taken_for_quanter(call.root)
    if taken:
        lines.append("export   this PaddleOCR's own slim export is broken: its script gives the "
                     f"quanter where export_single_model expects `{taken}`; `paddle-mrecg run` "
                     "puts it right, by hand give all arguments by their names")
    return lines


def training_heads(architecture):
    """Names of heads in a config that evaluation does not run."""
    models = architecture.get("Models")
    if isinstance(models, dict):  # a distillation
        return [name for model in models.values() for name in training_heads(model or {})]
    head = architecture.get("Head") or {}
    if head.get("name") == "DBHead":
        return ["DBHead's thresh"]
    if head.get("name") == "MultiHead":  # the first is kept
        return [name for entry in (head.get("head_list") or [])[1:] for name in entry]
    return []


def taken_for_quanter(root):
    """The parameter of ``export_single_model`` that gets the slim script's quanter, None where that
    is ``quanter`` or cannot be told: 2.6 leaves out one argument in front of it, 2.10 two.
    """
    script = os.path.join(root, "deploy", "slim", "quantization", "export_model.py")
    if not os.path.isfile(script):
        return None
    positions = {k for node in ast.walk(_syntax_of(script)) if isinstance(node, ast.Call)
                 and getattr(node.func, "id", "") == "export_single_model"
                 for k, argument in enumerate(node.args)
                 if getattr(argument, "id", "") == "quanter"}
    for module in EXPORTERS:
        path = os.path.join(root, *module.split(".")) + ".py"
        for node in ast.walk(_syntax_of(path)) if os.path.isfile(path) else ():
            if isinstance(node, ast.FunctionDef) and node.name == "export_single_model":
                names = [argument.arg for argument in node.args.args]
                return next((names[k] for k in positions
                             if k < len(names) and names[k] != "quanter"), None)
    return None


def _syntax_of(path):
    with open(path, encoding="utf-8") as file:
        return ast.parse(file.read())


def install(patches, switches):
    """Tell the switches PaddleOCR's epochs, each of which goes once through its training data;
    mend the call of its export, and end what its data sets would try without end.
    """
    from ppocr.data import simple_dataset
    from tools import program
    train, build = program.train, program.build_dataloader
    signature = inspect.signature(train)

    @functools.wraps(train)
    def train_(*args, **kwargs):
        given = signature.bind(*args, **kwargs)
        config = given.arguments["config"]
        first = (given.arguments.get("pre_best_model_dict") or {}).get("start_epoch", 1)
        epochs = Epochs(first - 1, config["Global"]["epoch_num"], switches)
        switches.plan(given.arguments["optimizer"],
                      config["Global"]["epoch_num"] * len(given.arguments["train_dataloader"]))
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
    data_set = simple_dataset.SimpleDataSet
    patches.replace(data_set, "__getitem__", _giving_up(data_set.__getitem__))
    for name in EXPORTERS:
        if importlib.util.find_spec(name) is not None:
            exporter = importlib.import_module(name)
            if hasattr(exporter, "export_single_model"):
                patches.replace(exporter, "export_single_model",
                                _mended(exporter.export_single_model))


def _mended(export):
    """``export_single_model`` for slim scripts that leave out arguments in front of the quanter, so
    that it arrives where another one is expected.
    """
    signature = inspect.signature(export)

    @functools.wraps(export)
    def export_single_model(*args, **kwargs):
        given = signature.bind(*args, **kwargs).arguments
        taken = next((name for name, value in given.items() if name != "quanter"
                      and hasattr(value, "save_quantized_model")), None)
        if taken is not None:
            given["quanter"], given[taken] = given[taken], None
            if taken == "config":  # and the shape stands where a path is expected
                given["input_shape"], given["yaml_path"] = given["yaml_path"], None
        return export(**given)
    return export_single_model


def _giving_up(getitem):
    """``SimpleDataSet.__getitem__`` without its endless search: it takes the next sample where one
    fails, and grows by gigabytes of messages where all do.
    """
    local = threading.local()

    @functools.wraps(getitem)
    def __getitem__(data_set, index):
        local.depth = getattr(local, "depth", 0) + 1
        try:
            if local.depth > MOST_FAILURES:
                raise DataError(f"{MOST_FAILURES} samples of PaddleOCR's data set failed one after "
                                "another, for the reasons in its log: mend the label file or the "
                                "transforms (imgaug 0.4 needs numpy below 1.24)")
            return getitem(data_set, index)
        finally:
            local.depth -= 1
    return __getitem__


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
