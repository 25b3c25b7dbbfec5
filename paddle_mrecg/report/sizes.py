# SPDX-License-Identifier: Apache-2.0
"""What the low-bit weights weigh: as stored, zipped, and as an ideal
entropy coder would write them.

Paddle Lite stores every weight code as int8 whatever its bits, so fewer bits
show only in compressed size.
"""
import os
from typing import Dict, Mapping, Sequence

import numpy as np

from ..files import deflate


def entropy_bits(codes: np.ndarray) -> float:
    """Shannon entropy of the codes' histogram, in bits per weight.

    Args:
        codes(np.ndarray): integer codes, any shape.

    Returns:
        float: 0 for constant or empty codes; never more than log2 of the number of distinct codes.
            Order-0: a coder that models neighbours can go below.
    """
    _, counts = np.unique(codes, return_counts=True)
    share = counts / max(1, codes.size)
    return float(-np.sum(share * np.log2(share))) + 0.0


def code_sizes(codes: Mapping[str, np.ndarray], bits: Mapping[str, int]) -> Dict:
    """Sizes of all integer weight codes.

    Args:
        codes(dict[str, np.ndarray]): integer codes of every weight, each within 8 bits.
        bits(dict[str, int]): bits of every weight.

    Returns:
        dict: bytes as ``float32``, ``int8``, ``packed`` (bits per weight exactly), ``zipped`` (zlib
            over the int8 codes) and ``entropy_coded`` (ideal, without the code tables);
            ``entropy_bits`` is a dict per tensor.
    """
    entropy = {name: entropy_bits(c) for name, c in codes.items()}
    count = sum(int(c.size) for c in codes.values())
    int8 = b"".join(np.asarray(c).astype(np.int64).astype(np.int8).tobytes()
                    for c in codes.values())
    return dict(float32=4 * count, int8=count,
                packed=-(-sum(int(c.size) * bits[n] for n, c in codes.items()) // 8),
                zipped=len(deflate(int8)),
                entropy_coded=round(sum(entropy[n] * c.size for n, c in codes.items()) / 8),
                entropy_bits=entropy)


def file_sizes(paths: Sequence[str]) -> Dict[str, int]:
    """Bytes of some files together, as they are (``bytes``) and zipped (``zipped``)."""
    total = zipped = 0
    for path in paths:
        total += os.path.getsize(path)
        with open(path, "rb") as file:
            zipped += len(deflate(file.read()))
    return dict(bytes=total, zipped=zipped)
