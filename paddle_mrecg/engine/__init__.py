# SPDX-License-Identifier: Apache-2.0
"""Post-training reconstruction: prepare, calibrate, walk the units, write the outcome."""
