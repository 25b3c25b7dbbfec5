# SPDX-License-Identifier: Apache-2.0
"""What the losses of the units say about the settings."""
from typing import Dict, List, Sequence

from ..config import MRECG
from ..errors import numbered
from .summary import RUNTIME_TITLES
from .units import UnitReport

NOTICEABLE = 0.01  # relative loss below which no advice is needed
UNDECIDED = 1.3  # hard over soft loss: rounding hard cost nearly a third
UNTRAINED = 0.7  # trained over nearest loss: a unit that learns ends at a small part of that
LARGE = 0.1  # relative loss of which the network's outputs will show something


def advice(units: Sequence[UnitReport], settings: MRECG, solved: bool = False) -> List[str]:
    """One sentence per thing that went wrong in training, with its cure.

    Args:
        units(list[UnitReport]): as trained; those that were not are passed over.
        settings(MRECG): what they were trained with; nothing is advised that is there already.
        solved(bool, optional): training began at solved codes, to which it can add little: only
            a unit that it made worse went wrong. Default: False, at nearest rounding.
    """
    trained = [u for u in units if u.iterations]
    worse = [u for u in trained if u.note]
    thrown = [u for u in trained if u.relative_hard > LARGE and
              (u.note or (not solved and u.loss_hard > UNTRAINED * u.loss_start))]
    undecided = [u for u in trained if u not in thrown and u.loss_hard > UNDECIDED * u.loss_soft
                 and u.relative_hard > NOTICEABLE]
    sentences = []
    if len(trained) < len(units) and settings.train_above > 0 and settings.num_iters > 0:
        small = [u for u in units if not u.iterations and u.weights
                 and u.relative_start <= settings.train_above]
        sentences += [f"{len(small)} of {_count(units)} needed no training: an output error of at "
                      f"most {100 * settings.train_above:g} % (MRECG.train_above) was left after "
                      "rounding"] if small else []
    if worse:
        sentences.append(f"{_count(worse)} kept the rounding that "
                         f"{'it' if len(worse) == 1 else 'they'} began with, which was better: "
                         f"{_unit_names(worse)}")
    if thrown:
        growing = "MRECG.rounding_lr_start=0.1, " if settings.rounding_lr_start > 0.1 else ""
        found = ("found nothing better than the solved rounding in" if solved
                 else "gained little over nearest rounding in")
        sentences.append(f"training {found} {_count(thrown)} ({_unit_names(thrown)}), whose error "
                         "is large: the steps are too large for many inputs per output, or too "
                         f"few; try {growing}MRECG.rounding_lr={settings.rounding_lr / 2:g}, or "
                         f"MRECG.num_iters={2 * settings.num_iters}")
    if undecided:
        heavier = 2 * settings.round_weight_relative or 30
        sentences.append(f"rounding hard cost much in {_count(undecided)} "
                         f"({_unit_names(undecided)}): roundings were still undecided; try "
                         f"MRECG.round_weight_relative={heavier:g} or "
                         f"MRECG.num_iters={2 * settings.num_iters}")
    return sentences


def untrained_note(error: float, bound: float) -> List[str]:
    """A sentence on a job that trained nothing.

    Args:
        error(float): of the network's outputs after the solve, over their variation.
        bound(float): ``MRECG.train_network_above``.
    """
    return [f"nothing was trained: the solve left {100 * error:.2g} % of the outputs' variation as "
            f"error, and up to {100 * bound:g} % training gains little "
            "(MRECG.train_network_above=0: train all the same)"]


def taken_back_note(before: float, after: float) -> List[str]:
    """A sentence on a training whose units got better and whose network got worse.

    Args:
        before(float): error of the network's outputs after the solve, over their variation.
        after(float): the same after training.
    """
    return [f"the training was taken back: the error of the network's outputs grew from "
            f"{100 * before:.3g} to {100 * after:.3g} % of their variation, so that the solved "
            "rounding stays; more samples (Data.num_samples) help training"]


def coarse_advice(coarse: Dict[str, float], equalize: str) -> List[str]:
    """A sentence on depthwise convolutions whose input eight bits cannot hold, with the cure.

    Args:
        coarse(dict): weight -> noise over signal in a channel of its input, of
            ``post.calibrate.coarse_inputs``.
        equalize(str): ``QuantPost.equalize``; ``auto`` is the better cure.
    """
    if not coarse:
        return []
    names = sorted(coarse, key=coarse.get, reverse=True)
    return ["one 8-bit step is too coarse for the input of "
            f"{numbered(len(names), 'depthwise convolution')}, whose channels differ too much in "
            f"size (rounding noise is {100 * coarse[names[0]]:.0f} % of the worst one's signal); "
            + ("scale the channels: QuantPost.equalize=auto" if equalize != "auto" else
               f"leave {'them' if len(names) > 1 else 'it'} float: "
               f"QuantPost.skip=[{', '.join(names)}]")]


def equalized_note(equalized: List[Dict]) -> List[str]:
    """A sentence on inserted multiplications, which cost time on a device.

    Args:
        equalized(list[dict]): ``Report.equalized``.
    """
    inserted = [entry for entry in equalized if entry["way"] == "multiply"]
    if not inserted:
        return []
    worst = max(inserted, key=lambda entry: entry["before"])
    return [f"{numbered(len(inserted), 'multiplication')} by constants inserted in "
            f"front of depthwise convolutions: at {worst['layers'][0]} the error of the output "
            f"falls from {100 * worst['before']:.1f} to {100 * worst['after']:.2f} % of its power; "
            "QuantPost.equalize=fold does without"]


def equalize_cost_note(cost: Dict[str, float]) -> List[str]:
    """A sentence on the time that inserted multiplications take.

    Args:
        cost(dict): runtime -> their share of the time without them; from ``Report.equalize_cost``.
    """
    if not cost:
        return []
    shares = ", ".join(f"{100 * max(0.0, share):.0f} % on {RUNTIME_TITLES.get(name, name)}"
                       for name, share in cost.items())
    return [f"the inserted multiplications add to the CPU time of this machine: {shares}"]


def float_note(float_tensors: Dict[str, str], most: int = 5) -> List[str]:
    """A sentence on the weights that stay float, with the reasons of the first ``most``.

    Args:
        float_tensors(dict): weight -> reason.
        most(int, optional): how many to name. Default: 5.
    """
    if not float_tensors:
        return []
    named = [f"{name} ({reason})" for name, reason in list(float_tensors.items())[:most]]
    rest = len(float_tensors) - len(named)
    count = numbered(len(float_tensors), "weight")
    more = f", and {rest} more in report.json" if rest else ""
    return [f"{count} stay{'s' * (len(float_tensors) == 1)} float: {', '.join(named)}{more}"]


def _count(units) -> str:
    return numbered(len(units), "unit")


def _unit_names(units) -> str:
    return ", ".join(u.name for u in units)
