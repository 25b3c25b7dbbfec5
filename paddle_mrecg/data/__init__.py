# SPDX-License-Identifier: Apache-2.0
"""From image folders, hooks and loaders of any kind to arrays that fit a model's inputs."""
from .batches import as_batches, as_feed, collect_samples
from .hooks import call_hook
from .sources import calibration_samples, open_loader

__all__ = ["as_batches", "as_feed", "calibration_samples", "call_hook", "collect_samples",
           "open_loader"]
