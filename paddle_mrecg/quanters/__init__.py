# SPDX-License-Identifier: Apache-2.0
"""Fake quantisers with learned grids, as layers on ``paddle.quantization``'s factory API."""
