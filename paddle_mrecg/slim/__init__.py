# SPDX-License-Identifier: Apache-2.0
"""Our strategies under PaddleSlim's own names: one file per PaddleSlim API,
``registration.py`` switches them on.
"""
