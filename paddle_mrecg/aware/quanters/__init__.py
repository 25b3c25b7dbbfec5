# SPDX-License-Identifier: Apache-2.0
"""Layers that fake-quantize while training, one per way of finding the step."""
