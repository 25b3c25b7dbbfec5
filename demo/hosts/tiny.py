# SPDX-License-Identifier: Apache-2.0
"""Small synthetic data and small configs for scripts of hosts, made from the hosts' own configs:
their networks, losses and transforms, with our data, small images and one epoch.
"""
import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import cv2
import numpy as np
import yaml

SIDE = 192  # pixels, of detectors; PicoDet's assigner needs nine cells at stride 64
IMAGES = 8  # of each kind
OURS = {"QuantAware": {"weight_bits": 4}, "BinRegularization": {"schedule": "S1"}}
SOLVED = {**OURS, "QuantAware": {"weight_bits": 4, "rounding": "solve"}}
CHECKPOINTS = "latest", "model_final"  # as the hosts call their last one
FLOAT, TRAINED = "float", "trained"  # folders of checkpoints
# model -> its config in the host's folder
MODELS: Dict[str, Dict[str, str]] = {
    "PaddleDetection": {
        "PicoDet-XS": "configs/picodet/picodet_xs_320_coco_lcnet.yml",
        "YOLOv3-MobileNetV3": "configs/yolov3/yolov3_mobilenet_v3_large_270e_coco.yml",
        "PP-YOLO tiny": "configs/ppyolo/ppyolo_tiny_650e_coco.yml",
        "PP-YOLO R50vd": "configs/ppyolo/ppyolo_r50vd_dcn_1x_coco.yml",
        # PaddleYOLO's, which has PaddleDetection's scripts
        "YOLOv5-n": "configs/yolov5/yolov5_n_300e_coco.yml",
        "YOLOv7-tiny": "configs/yolov7/yolov7_tiny_300e_coco.yml",
        "YOLOv8-n": "configs/yolov8/yolov8_n_500e_coco.yml"},
    "PaddleOCR": {
        "DB MobileNetV3": "configs/det/det_mv3_db.yml",
        "PP-OCRv4 det": "configs/det/ch_PP-OCRv4/ch_PP-OCRv4_det_student.yml",
        "CRNN MobileNetV3 (CTC)": "configs/rec/rec_mv3_none_bilstm_ctc.yml",
        "PP-OCRv3 rec (CTC + SAR)": "configs/rec/PP-OCRv3/en_PP-OCRv3_rec.yml",
        "PP-OCRv3 rec, distillation": "configs/rec/PP-OCRv3/ch_PP-OCRv3_rec_distillation.yml"},
    "PaddleClas": {
        "MobileNetV3-small x0.35":
            "ppcls/configs/slim/MobileNetV3_large_x1_0_quantization.yaml"}}


class Trial(NamedTuple):
    """What to run, in this order: scripts and their arguments, in which ``FLOAT`` and ``TRAINED``
    stand for checkpoints, see ``checkpoint``.

    Attributes:
        pretrain(list): the host's training by itself.
        train, evaluate, export(list): with our sections; ``evaluate`` is empty where the host's
            export evaluates.
    """

    pretrain: List[str]
    train: List[str]
    evaluate: List[str]
    export: List[str]


def prepare(host: str, model: str, checkout: Path, folder: Path, ours: Dict = OURS) -> Trial:
    """Write data and configs with sections ``ours`` into ``folder``, which is absolute."""
    config = checkout / MODELS[host][model]
    makers = dict(PaddleDetection=_detection, PaddleOCR=_ocr, PaddleClas=_classification)
    return makers[host](config, folder, ours)


def checkpoint(folder: Path) -> str:
    """The last checkpoint that a host wrote below ``folder``, without suffix; where there is none,
    the host itself will say so.
    """
    found = [path for name in CHECKPOINTS for path in sorted(folder.rglob(f"{name}.pdparams"))]
    return str((found or [folder / "latest"])[0].with_suffix(""))


def _write(path: Path, content) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else
                    yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return str(path)


# PaddleDetection ----------------------------------------------------------------------------------

DATA_SETS = """\
metric: COCO
num_classes: 1
TrainDataset: !COCODataSet
  {image_dir: ., anno_path: boxes.json, dataset_dir: FOLDER,
   data_fields: [image, gt_bbox, gt_class, is_crowd]}
EvalDataset: !COCODataSet {image_dir: ., anno_path: boxes.json, dataset_dir: FOLDER}
TestDataset: !ImageFolder {anno_path: boxes.json, dataset_dir: FOLDER}
"""


def _detection(config: Path, folder: Path, ours: Dict) -> Trial:
    _boxes(folder / "data")
    small = dict(_BASE_=[str(config)], eval_size=[SIDE, SIDE], worker_num=0, log_iter=1, epoch=1,
                 snapshot_epoch=1, **_readers(config))
    written = _write(folder / "tiny.yml", yaml.safe_dump(small, sort_keys=False)
                     + DATA_SETS.replace("FOLDER", json.dumps(str(folder / "data"))))
    slim = _write(folder / "slim.yml", {"slim": "QAT", **ours, "QAT": {
        "quant_config": {"weight_bits": 8, "activation_bits": 8}, "print_model": False}})

    def call(script, *settings, **options):
        return [f"tools/{script}.py", "-c", written,
                *(word for k, v in options.items() for word in (f"--{k}", v)),
                "-o", "use_gpu=false", *settings]
    return Trial(
        call("train", f"save_dir={folder / FLOAT}", "pretrain_weights="),
        call("train", f"save_dir={folder / TRAINED}", "pretrain_weights=FLOAT", slim_config=slim),
        call("eval", "weights=TRAINED", slim_config=slim),
        call("export_model", "weights=TRAINED", slim_config=slim,
             output_dir=str(folder / "program")))


def _readers(config: Path) -> Dict[str, Any]:
    """The host's readers for two small images at a time."""
    bases = yaml.safe_load(config.read_text(encoding="utf-8").split("]")[0] + "]")["_BASE_"]
    path, = (config.parent / base for base in bases if base.endswith("_reader.yml"))
    readers = {name: _small(value) for name, value in
               yaml.safe_load(path.read_text(encoding="utf-8")).items() if name.endswith("Reader")}
    for name, reader in readers.items():
        reader["batch_size"] = 2 if name == "TrainReader" else 1
    return readers


def _small(value, key=""):
    """``value`` of a reader, with sizes of ``SIDE``."""
    if isinstance(value, dict):
        return {k: _small(v, k) for k, v in value.items()}
    if key == "target_size" or key == "size" and isinstance(value, list):
        return [SIDE] if len(value) > 2 else [SIDE, SIDE]
    if key == "image_shape":
        return [*value[:-2], SIDE, SIDE]
    return [_small(v) for v in value] if isinstance(value, list) else value


def _boxes(folder: Path):
    """Boxes of one class, in COCO's format."""
    folder.mkdir(parents=True, exist_ok=True)
    random, images, boxes = np.random.default_rng(0), [], []
    for k in range(1, IMAGES + 1):
        picture = np.full((SIDE, SIDE, 3), 200, np.uint8)
        x, y = (int(v) for v in random.integers(5, SIDE // 2, 2))
        width, height = (int(v) for v in random.integers(SIDE // 4, SIDE // 2, 2))
        cv2.rectangle(picture, (x, y), (x + width, y + height), (0, 0, 200), -1)
        cv2.imwrite(str(folder / f"{k}.png"), picture)
        images.append(dict(id=k, file_name=f"{k}.png", width=SIDE, height=SIDE))
        boxes.append(dict(id=k, image_id=k, category_id=1, bbox=[x, y, width, height],
                          area=width * height, iscrowd=0))
    _write(folder / "boxes.json", json.dumps(dict(images=images, annotations=boxes,
                                                  categories=[dict(id=1, name="box")])))


# PaddleOCR ----------------------------------------------------------------------------------------


def _ocr(path: Path, folder: Path, ours: Dict) -> Trial:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    kind = config["Architecture"]["model_type"] if "model_type" in config["Architecture"] else "rec"
    (_words if kind == "rec" else _lines)(folder / "data")
    config["Global"].update(
        use_gpu=False, distributed=False, epoch_num=1, save_epoch_step=1, print_batch_step=1,
        eval_batch_step=[0, 2], use_visualdl=False, pretrained_model=None,
        save_inference_dir=str(folder / "program"))
    if kind == "rec":
        config["Global"]["character_dict_path"] = "ppocr/utils/en_dict.txt"
    for name in ("Train", "Eval"):
        _small_reader(config[name], folder / "data", 4 if name == "Train" else 1)
    for name, settings in (config["Architecture"].get("Models") or {}).items():
        settings["freeze_params"] = name == "Teacher"
    rate = config["Optimizer"]["lr"]
    if "decay_epochs" in rate:
        # a distillation of 2.6 has a boundary too many, which newer Paddles refuse
        rate["decay_epochs"] = rate["decay_epochs"][:len(rate["values"]) - 1]
    plain, ours = (_write(folder / f"{name}.yml", {**config, **sections})
                   for name, sections in (("float", {}), ("tiny", ours)))

    def call(script, written, **settings):
        return [script, "-c", written, "-o", *(f"Global.{k}={v}" for k, v in settings.items())]
    slim = "deploy/slim/quantization"
    return Trial(call("tools/train.py", plain, save_model_dir=folder / FLOAT),
                 call(f"{slim}/quant.py", ours, save_model_dir=folder / TRAINED,
                      pretrained_model="FLOAT"),
                 [],
                 call(f"{slim}/export_model.py", ours, checkpoints="TRAINED"))


def _small_reader(reader: Dict, data: Path, batch_size: int):
    """Our data and small images in one of PaddleOCR's readers."""
    reader["dataset"].update(name="SimpleDataSet", data_dir=str(data),
                             label_file_list=[str(data / "labels.txt")])
    for key in ("ratio_list", "ext_op_transform_idx"):  # several files; pasting words together
        reader["dataset"].pop(key, None)
    kept = [t for t in reader["dataset"]["transforms"] if "RecConAug" not in t]
    for transform in kept:
        for name, key in (("EastRandomCropData", "size"), ("DetResizeForTest", "image_shape")):
            if name in transform:
                transform[name] = {**(transform[name] or {}), key: [160, 160]}
    reader["dataset"]["transforms"] = kept
    reader["loader"].update(num_workers=0, batch_size_per_card=batch_size, drop_last=False,
                            use_shared_memory=False)


def _text(random) -> str:
    return "".join(random.choice(list("abcdefgh123"), 6))


def _words(folder: Path):
    """Words, for recognition."""
    folder.mkdir(parents=True, exist_ok=True)
    random, rows = np.random.default_rng(0), []
    for k in range(IMAGES):
        picture, text = np.full((32, 120, 3), 230, np.uint8), _text(random)
        cv2.putText(picture, text, (3, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 2)
        cv2.imwrite(str(folder / f"{k}.png"), picture)
        rows.append(f"{k}.png\t{text}\n")
    _write(folder / "labels.txt", "".join(rows))


def _lines(folder: Path):
    """Two lines of text in a picture, for detection."""
    folder.mkdir(parents=True, exist_ok=True)
    random, rows = np.random.default_rng(0), []
    for k in range(IMAGES):
        picture, boxes = np.full((160, 160, 3), 230, np.uint8), []
        for y in (40, 110):
            text, x = _text(random), int(random.integers(5, 30))
            cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (0, 0, 0), 2)
            boxes.append(dict(transcription=text, points=[
                [x, y - 24], [x + 115, y - 24], [x + 115, y + 6], [x, y + 6]]))
        cv2.imwrite(str(folder / f"{k}.png"), picture)
        rows.append(f"{k}.png\t{json.dumps(boxes)}\n")
    _write(folder / "labels.txt", "".join(rows))


# PaddleClas ---------------------------------------------------------------------------------------


def _classification(path: Path, folder: Path, ours: Dict) -> Trial:
    _pictures(folder / "data")
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["Global"].update(device="cpu", epochs=1, image_shape=[3, 64, 64], use_dali=False,
                            use_visualdl=False, print_batch_step=1, pretrained_model=None,
                            save_inference_dir=str(folder / "program"))
    config["Arch"].update(name="MobileNetV3_small_x0_35", class_num=2, pretrained=False)
    config["Optimizer"]["lr"] = {"name": "Cosine", "learning_rate": 0.01}
    for name in ("Train", "Eval"):
        reader = config["DataLoader"][name]
        normalize, = (t for t in reader["dataset"]["transform_ops"] if "NormalizeImage" in t)
        reader["dataset"].update(
            image_root=str(folder / "data"), cls_label_path=str(folder / "data" / "labels.txt"),
            transform_ops=[{"DecodeImage": {"to_rgb": True, "channel_first": False}},
                           {"ResizeImage": {"size": 64}}, normalize])
        reader["sampler"].update(batch_size=4, drop_last=False)
        reader["loader"].update(num_workers=0, use_shared_memory=False)
        config["Metric"][name] = [{"TopkAcc": {"topk": [1]}}]
    ours = _write(folder / "tiny.yml", {**config, **ours})
    plain = _write(folder / "float.yml", {k: v for k, v in config.items() if k != "Slim"})

    def call(script, written, **settings):
        return [f"tools/{script}.py", "-c", written,
                *(word for k, v in settings.items() for word in ("-o", f"Global.{k}={v}"))]
    return Trial(call("train", plain, output_dir=folder / FLOAT),
                 call("train", ours, output_dir=folder / TRAINED, pretrained_model="FLOAT"),
                 call("eval", ours, pretrained_model="TRAINED"),
                 call("export_model", ours, pretrained_model="TRAINED"))


def _pictures(folder: Path):
    """Dark and bright pictures, two classes."""
    folder.mkdir(parents=True, exist_ok=True)
    random, rows = np.random.default_rng(0), []
    for k in range(IMAGES):
        picture = random.integers(0, 120, (64, 64, 3)) + 100 * (k % 2)
        cv2.imwrite(str(folder / f"{k}.png"), picture.astype(np.uint8))
        rows.append(f"{k}.png {k % 2}\n")
    _write(folder / "labels.txt", "".join(rows))
