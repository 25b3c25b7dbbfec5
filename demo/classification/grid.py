# SPDX-License-Identifier: Apache-2.0
"""Grids of trainings, one JSON per cell: run what is not there yet, collect what is."""
import sys
import time
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Optional, Tuple

from demo import results, sources
from paddle_mrecg.errors import MrecgError

KEPT_IN_CELLS = ("curves", "layers")  # too long for the table


def run_missing(args, cells: Iterable[Tuple[Dict[str, str], int]],
                train: Callable[[Dict[str, str], int], Dict]):
    """Train the cells that have no file.

    Args:
        args: of the command line: ``cells_dir``, ``command``.
        cells(iterable): setting and seed, in the order in which they are trained.
        train(callable): setting and seed -> record.
    """
    for setting, seed in cells:
        path = results.cell_path(args.cells_dir, setting, seed)
        if path.exists():
            continue
        print(f"=== {path.stem}", flush=True)
        start = time.monotonic()
        record = train(setting, seed)
        results.save_results(path, args.command, [record])
        print(f"=== {path.stem}: {record['measured']}, {time.monotonic() - start:.0f} s",
              flush=True)


def collect(args, script: str, rank: Callable[[Dict], tuple],
            command: Optional[str] = None) -> List[Dict]:
    """Runs of all cells in order, written to ``args.results`` as one table, which is printed;
    nothing where there are none.

    Args:
        args: of the command line: ``cells_dir``, ``results``.
        script(str): for the message that there are none.
        rank(callable): record -> what the order goes by.
        command(str, optional): that the table names. Default: None, those of the cells.
    """
    found = results.load_cells(args.cells_dir)
    runs = sorted((run for cell in found for run in cell["runs"]), key=rank)
    if not runs:
        print(f"no cells in {args.cells_dir}: run `{script} run` first")
        return []
    table = [{k: v for k, v in run.items() if k not in KEPT_IN_CELLS} for run in runs]
    for run in table:  # a grid runs for hours next to other work: its seconds mean little
        run["measured"] = {k: v for k, v in run["measured"].items() if k != "seconds"}
    commands = "; ".join(dict.fromkeys(cell["command"] for cell in found))
    path = results.save_results(args.results, command or commands, table, found)
    print(results.markdown_table(results.load_results(path)))
    return runs


def main(script: str, args, actions: Dict[str, Callable]) -> int:
    """The exit code of ``actions[args.action](args)``; what went wrong, in one sentence."""
    args.command = results.command_line(f"demo/classification/{script}", args.words)
    try:
        return actions[args.action](args)
    except (MrecgError, sources.Absent) as error:
        print(f"{script}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{script}: interrupted; the same command goes on", file=sys.stderr)
        return 130


def place(args, setting: Dict[str, str], seed: int) -> Path:
    """Folder of a cell's checkpoints."""
    return results.cell_path(args.save_dir, setting, seed).with_suffix("")


def rounded(rows):
    """Six digits are enough in a file that goes into the repository."""
    if isinstance(rows, dict):
        return {k: rounded(v) for k, v in rows.items()}
    if isinstance(rows, list):
        return [rounded(v) for v in rows]
    return float(f"{rows:.6g}") if isinstance(rows, float) else rows
