# SPDX-License-Identifier: Apache-2.0
"""The parts of the small trainer: data, networks, schedule, average of
weights, checkpoints, loop.
"""
