# SPDX-License-Identifier: Apache-2.0
"""How weights gather on their levels and clips move while a host trains: a table, a picture
and curves, epoch by epoch.
"""
import os
from typing import Dict, List, Optional

from ..errors import OutputError
from ..report.bins import BinHistory
from ..report.vdl import VisualDLWriter
from ..aware.layers import quantized_layers
from ..aware.penalty import Penalty

PICTURE, CURVES = "bins.png", "visualdl"


class Watch:
    """Writes ``bins.csv``, ``bins.png`` and VisualDL records, per epoch and at the end.

    Args:
        folder(str): made when it is missing.

    Raises:
        OutputError: it cannot be made.
    """

    def __init__(self, folder: str):
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise OutputError(f"'{folder}' cannot be made ({error.strerror}): choose "
                              "another place for --watch") from error
        self.folder = folder
        # both begin with the first note, which one process alone makes
        self._board: Optional[VisualDLWriter] = None
        self._history: Optional[BinHistory] = None

    def note(self, epoch: int, penalty: Penalty, rows: List[Dict]):
        """What ``epoch`` begins with; a run that starts later goes on with
        the files that are there.

        Args:
            epoch(int): from 0; the number of epochs at the end.
            penalty(Penalty): of the model that trains.
            rows(list[dict]): its statistics.
        """
        if self._history is None or self._board is None:
            self._history = BinHistory(self.folder, resume=epoch > 0)
            self._board = VisualDLWriter(os.path.join(self.folder, CURVES))
        self._history.add(epoch, rows, quantized_layers(penalty.model), self._board)
        for name, alpha in penalty.alphas().items():
            self._board.scalar(f"clipping_alpha/{name}", alpha, epoch)
        self._history.draw(os.path.join(self.folder, PICTURE))
