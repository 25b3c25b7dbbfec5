# SPDX-License-Identifier: Apache-2.0
"""A sweep over what people export: functions behind a convolution, and small networks."""
