# SPDX-License-Identifier: Apache-2.0
"""The data set that takes another sample where one fails."""


class SimpleDataSet:
    """Samples that ``read`` gives."""

    def __init__(self, read, count):
        self.read, self.count = read, count

    def __getitem__(self, index):
        try:
            return self.read(index)
        except Exception:
            sample = None
        return sample or self[(index + 1) % self.count]
