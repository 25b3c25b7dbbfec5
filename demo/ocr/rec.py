# SPDX-License-Identifier: Apache-2.0
"""PP-OCRv4 text recognition: quantize it and count the words that are read right.

Calibrates on word crops of the IIIT5K training set and evaluates on its test set; a word counts
when its letters and digits agree, upper and lower case being equal.
"""
import argparse
import sys
from pathlib import Path
from typing import Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np  # noqa: E402
import yaml  # noqa: E402
from PIL import Image  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)

from demo import sources  # noqa: E402
from demo.ocr import crops  # noqa: E402

CONFIG = "configs/ocr/ppocrv4_rec_mrecg_w4a8.yaml"
BLANK = 0  # CTC's class for "no character here"


def read_characters(path: Path) -> List[str]:
    """The classes of a recognizer: blank, the characters of ``path``, space.

    Args:
        path(Path): one character per line, or PaddleOCR's ``inference.yml`` that lists them.
    """
    text = Path(path).read_text(encoding="utf-8")
    listed = (yaml.safe_load(text)["PostProcess"]["character_dict"] if path.suffix == ".yml"
              else text.rstrip("\n").split("\n"))
    return ["", *listed, " "]


def ctc_decode(scores: np.ndarray, characters: List[str]) -> List[str]:
    """Best-path decoding: take the best class of every column, drop repetitions, then blanks.

    Args:
        scores(np.ndarray): [B, columns, classes].
        characters(list[str]): the character of every class.
    """
    best = scores.argmax(-1)
    changed = np.concatenate([np.ones((len(best), 1), bool), best[:, 1:] != best[:, :-1]], axis=1)
    return ["".join(characters[k]
                    for k in row[keep & (row != BLANK)]) for row, keep in zip(best, changed)]


def alphanumeric(text: str) -> str:
    """What word accuracy compares: ASCII letters and digits in lower case."""
    return "".join(c for c in text.lower() if c.isascii() and c.isalnum())


def word_accuracy(predict, images: np.ndarray, texts: List[str], characters: List[str],
                  batch_size: int = 16) -> float:
    """Share of words read right, in percent.

    Args:
        predict(callable): array [B, 3, 48, 320] -> list of outputs, the
            first [B, columns, classes].
        images(np.ndarray): [N, 3, 48, 320].
        texts(list[str]): the truth.
        characters(list[str]): of ``read_characters``.
        batch_size(int, optional): samples per call. Default: 16.
    """
    read = [text for batch in crops.batches(images, batch_size)
            for text in ctc_decode(predict(batch)[0], characters)]
    return 100.0 * float(np.mean([alphanumeric(a) == alphanumeric(b) for a, b in zip(read, texts)]))


def word_set(folder: str, limit: int = None):
    """Network input [N, 3, 48, 320] and texts of a folder of the measuring data."""
    images, texts = crops.read_crops(sources.shared_data(folder))
    return (np.stack([crops.preprocess(image, crops.REC_SIZE) for image in images[:limit]]),
            texts[:limit])


def calibration(num_samples: int = 256, batch_size: int = 16):
    """Unlabelled calibration batches; for ``Data.loader``."""
    return crops.batches(word_set("ocr/iiit5k_train", num_samples)[0], batch_size)


def evaluate(predict, num_samples: int = 500) -> Dict[str, float]:
    """Word accuracy in percent; for ``Evaluation.evaluator``."""
    characters = read_characters(sources.characters_file("ppocr_rec"))
    return {"word accuracy": word_accuracy(predict, *word_set("ocr/iiit5k_test", num_samples),
                                           characters)}


@sources.explained
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config_path", default=str(sources.ROOT / CONFIG))
    parser.add_argument("--save_dir", default="output/ppocrv4_rec")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--devices", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    args = parser.parse_intermixed_args(argv)
    sources.need("ppocr_rec")
    import paddle
    from paddle_mrecg import quant_post_mrecg
    from paddle_mrecg.config.io import load_config
    paddle.set_device(args.devices)
    config = load_config(args.config_path, ["Global.tune_cpu=true", *args.overrides,
                                           f"Global.seed={args.seed}"])
    quant_post_mrecg(sources.model_dir("ppocr_rec"), None, config, save_dir=args.save_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
