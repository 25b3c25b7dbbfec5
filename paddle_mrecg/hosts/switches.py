# SPDX-License-Identifier: Apache-2.0
"""A host's calls of PaddleSlim, answered with the strategies of its YAML file, and its epochs,
passed on to their schedules.
"""
import functools
import statistics
from typing import Callable, Dict, List, Optional, Set

from ..config.aware import TRAINING_SECTIONS
from ..errors import ConfigError
from ..report.progress import get_logger
from ..slim.patches import OURS_ATTRIBUTE, Patches
from ..slim.post_static import PLACES, READERS, quant_static_mrecg
from ..slim.ptq import MrecgPTQ
from ..slim.qat import MrecgQAT
from ..aware.efolds import PLANNABLE
from ..aware.penalty import Penalty
from .sections import Strategies
from .watch import Watch


class Switches:
    """What stands behind PaddleSlim while a host's script runs.

    Args:
        strategies(Strategies): sections of the host's file.
        host_name(str): for messages.
        watch(str, optional): a folder for what training does to weights and clips. Default: None.

    Attributes:
        accumulated(int): batches whose gradients the host adds up before a step.
    """

    def __init__(self, strategies: Strategies, host_name: str, watch: Optional[str] = None):
        self.strategies, self.host_name = strategies, host_name
        self.accumulated, self._epochs = 1, 0
        self._watch = Watch(watch) if watch is not None else None
        self._models: List[MrecgQAT] = []
        self._scaler = None
        self._used: Set[str] = set()

    # Epochs and loss scales -----------------------------------------------------------------------

    def on_epoch(self, epoch: int, epochs: int):
        """To be called before every epoch of the host, 0 to ``epochs - 1``."""
        self._epochs = epochs
        for penalty in self._penalties():
            penalty.on_epoch(min(epoch, epochs - 1), epochs)
            # a method would be copied with the model, with all of this
            penalty.gradient_factor = lambda: self.gradient_factor()
            rows = self._note(epoch, penalty)
            if penalty.bins is not None and _is_first_process():
                near = (sum(row["near"] * row["weights"] for row in rows)
                        / sum(row["weights"] for row in rows))
                state = "on" if penalty.bins.phase.regularize else "off"
                get_logger().info("epoch %d of %d: bin regularization is %s; %.1f %% of the "
                                  "weights lie within a tenth of a step of their level%s",
                                  epoch + 1, epochs, state, 100 * near, _efolds_so_far(rows))

    def plan(self, optimizer, steps: int, steps_per_lr: int = 1):
        """How the host is going to train, told before its first step; see ``Penalty.plan``.

        Raises:
            ConfigError: ``BinRegularization.efolds`` is asked for, and cannot be planned for this
                optimizer.
        """
        known = type(optimizer).__name__ in PLANNABLE
        for penalty in self._penalties():
            if penalty.bins is not None and (known or penalty.bins.settings.efolds is not None):
                penalty.plan(optimizer, steps, steps_per_lr)

    def finish(self):
        """To be called when the script has ended: what the last epoch left."""
        for penalty in self._penalties() if self._epochs else ():
            self._note(self._epochs, penalty)

    @property
    def agrees(self) -> bool:
        """Every program that the script saved computes what the trained model does."""
        return all(qat.agrees for qat in self._models)

    def _penalties(self) -> List[Penalty]:
        return [qat.penalty for qat in self._models if qat.penalty is not None]

    def _note(self, epoch: int, penalty: Penalty) -> List[Dict]:
        """The statistics of the bins, where they are wanted."""
        rows = penalty.statistics() if penalty.bins is not None or self._watch is not None else []
        if self._watch is not None and _is_first_process():
            self._watch.note(epoch, penalty, rows)
        return rows

    def gradient_factor(self) -> float:
        """What the loss was multiplied with: the scale of automatic mixed precision,
        over the accumulated batches.
        """
        scale = self._scaler.state_dict().get("scale") if self._scaler is not None else None
        return (1.0 if scale is None else float(scale)) / self.accumulated

    # Behind PaddleSlim ----------------------------------------------------------------------------

    def install(self, patches: Patches):
        """Put the strategies behind PaddleSlim's classes and functions; our names are
        registered in them already.
        """
        import paddle
        from paddleslim.dygraph.quant import PTQ, QAT
        from paddleslim.quant import quanter, reconstruction_quantization
        patches.replace(QAT, "__init__", self._behind_qat(QAT.__init__))
        if self.strategies.post is not None:
            patches.replace(PTQ, "__init__", self._behind_ptq(PTQ.__init__))
            for module, name in ((quanter, "quant_post_static"),
                                 (reconstruction_quantization, "quant_recon_static")):
                function = getattr(module, name)
                patches.replace_everywhere(function, self._behind_post(function))
        patches.replace(paddle.amp.GradScaler, "scale",
                        self._behind_scale(paddle.amp.GradScaler.scale))

    def _behind_qat(self, registered: Callable) -> Callable:
        training = self.strategies.training

        @functools.wraps(registered)
        def __init__(qat, config=None, *args, **kwargs):
            if training is None:
                registered(qat, config, *args, **kwargs)
            else:
                setattr(qat, OURS_ATTRIBUTE, MrecgQAT(training))
                qat.config = config
                self._use(TRAINING_SECTIONS,
                          f"{self.host_name}'s own settings of its quantizer are replaced")
            if OURS_ATTRIBUTE in vars(qat):
                self._models.append(vars(qat)[OURS_ATTRIBUTE])

        return __init__

    def _behind_ptq(self, registered: Callable) -> Callable:
        @functools.wraps(registered)
        def __init__(ptq, *args, **kwargs):
            setattr(ptq, OURS_ATTRIBUTE, MrecgPTQ(self.strategies.post))
            self._use(self.strategies.post, f"{self.host_name}'s own settings of PTQ are replaced")

        return __init__

    def _behind_post(self, registered: Callable) -> Callable:
        # the three that hosts give without a name
        names = ("executor", "model_dir", "quantize_model_path")

        @functools.wraps(registered)
        def function(*args, **kwargs):
            given = {**dict(zip(names, args)), **kwargs}
            # How many samples are used is said in our section Data, not by the script.
            kept = {k: v for k, v in given.items()
                    if k in (*PLACES, *READERS) and k != "batch_nums"}
            self._use(self.strategies.post, f"of the arguments of {registered.__name__} only those "
                      "that say where files are and how data is read count")
            return quant_static_mrecg(sections=self.strategies.post, **kept)

        return function

    def _behind_scale(self, original: Callable) -> Callable:
        @functools.wraps(original)
        def scale(scaler, *args, **kwargs):
            self._scaler = scaler
            return original(scaler, *args, **kwargs)

        return scale

    def _use(self, sections, consequence: str):
        self._used.update(sections)
        mine = [name for name in self.strategies.sources if name in sections]
        get_logger().info("%s of %s apply; %s", " and ".join(mine),
                          self.strategies.sources[mine[0]], consequence)

    def unused(self) -> List[str]:
        """Sections that nothing of what the script called has read."""
        return [name for name in self.strategies.sources if name not in self._used]

    def refuse(self, why: str):
        """Stop the script with one sentence, when the training sections could not do what they say.

        Raises:
            ConfigError: there are training sections.
        """
        if self.strategies.training is not None:
            raise ConfigError(why)


def _efolds_so_far(rows: List[Dict]) -> str:
    """Of the layers' medians; empty where the training could not be planned."""
    pairs = [(row["predicted_efolds"], row["measured_efolds"])
             for row in rows if "predicted_efolds" in row]
    return ("; e-folds so far, median of the layers: predicted %.2g, measured %.2g" % tuple(
        statistics.median(side) for side in zip(*pairs)) if pairs else "")


def _is_first_process() -> bool:
    import paddle
    return paddle.distributed.get_rank() == 0
