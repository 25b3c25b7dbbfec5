# SPDX-License-Identifier: Apache-2.0
"""The command ``paddle-mrecg``: one file per job."""
