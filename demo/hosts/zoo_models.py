# SPDX-License-Identifier: Apache-2.0
"""The architectures of ``zoo.py``: one or two of each family, and how their host exports them."""
import contextlib
import importlib
import os
import sys
from pathlib import Path
from typing import Dict, Tuple

import numpy as np
import paddle

from demo import sources

# PaddleClas: the smallest of each file, and the side of its images where 64 pixels do not do.
CLAS = """MobileNetV1_x0_25 MobileNetV2_x0_25 MobileNetV3_small_x0_35 MobileNetV3_large_x0_35
MobileNetV4_conv_small MobileNetV4_hybrid_medium:256 MobileNeXt_x0_35:224 MobileFaceNet:128
MobileViT_XXS:256 MobileViTV2_x0_5:256 MobileViTV3_XXS:256 PPLCNet_x0_25 PPLCNetV2_small
PPHGNet_tiny PPHGNetV2_B0 ESNet_x0_25 ShuffleNetV2_x0_25 ShuffleNetV2_swish:224 GhostNet_x0_5
SqueezeNet1_1 EfficientNetB0 EfficientNetV2_S TinyNet_E:128 MixNet_S:224 ReXNet_1_0 MicroNet_M0:224
FasterNet_T0 StarNet_S1 RepVGG_A0 PeleeNet:224 HarDNet39_ds RegNetX_200MF AlexNet:224 VGG11:224
GoogLeNet:224 InceptionV3:128 InceptionV4:128 Xception41 ResNet18_vd ResNet50_vd ResNeXt50_32x4d
SE_ResNet18_vd Res2Net50_26w_4s ResNeSt50_fast_1s1x64d:128 RedNet26 DPN68 DenseNet121
DLA34 HRNet_W18_C DarkNet53 CSPDarkNet53 DSNet_tiny:224 VAN_B0:224 ConvNeXt_tiny
DeiT_tiny_patch16_224:224 CLIP_vit_base_patch32_224:224 cae_base_patch16_224:224 LeViT_128S:224
SwinTransformer_tiny_patch4_window7_224:224 SwinTransformerV2_tiny_patch4_window8_256:256
CSWinTransformer_tiny_224:224 pcpvt_small:224 alt_gvt_small:224 PVT_V2_B0:224 TNT_small:224
CvT_13_224:224 UniFormer_small:224 NextViT_small_224:224 SVTR_tiny"""
# PaddleDetection and PaddleSeg: below their folder configs.
DET = """picodet/picodet_xs_320_coco_lcnet picodet/picodet_s_320_coco_lcnet
ppyoloe/ppyoloe_plus_crn_s_80e_coco ppyolo/ppyolo_tiny_650e_coco ppyolo/ppyolov2_r50vd_dcn_365e_coco
yolov3/yolov3_mobilenet_v3_large_270e_coco yolox/yolox_nano_300e_coco rtdetr/rtdetr_r18vd_6x_coco
ssd/ssdlite_mobilenet_v3_small_320_coco ssd/ssd_vgg16_300_240e_voc gfl/gfl_r50_fpn_1x_coco
fcos/fcos_r50_fpn_1x_coco retinanet/retinanet_r50_fpn_1x_coco ttfnet/ttfnet_darknet53_1x_coco
tood/tood_r50_fpn_1x_coco yolof/yolof_r50_c5_1x_coco face_detection/blazeface_1000e
keypoint/tiny_pose/tinypose_128x96 keypoint/hrnet/hrnet_w32_256x192
mot/fairmot/fairmot_hrnetv2_w18_dlafpn_30e_576x320 rotate/ppyoloe_r/ppyoloe_r_crn_s_3x_dota
faster_rcnn/faster_rcnn_r50_fpn_1x_coco mask_rcnn/mask_rcnn_r50_fpn_1x_coco
solov2/solov2_r50_fpn_1x_coco detr/detr_r50_1x_coco"""
SEG = """pp_liteseg/pp_liteseg_stdc1_cityscapes_1024x512_scale0.5_160k
pp_mobileseg/pp_mobileseg_tiny_ade20k_512x512_80k pp_humanseg_lite/pp_humanseg_lite_mini_supervisely
lraspp/lraspp_mobilenetv3_cityscapes_1024x512_80k fastscnn/fastscnn_cityscapes_1024x1024_160k
bisenet/bisenet_cityscapes_1024x1024_160k stdcseg/stdc1_seg_voc12aug_512x512_40k
ddrnet/ddrnet23_cityscapes_1024x1024_120k pidnet/pidnet_small_cityscapes_1024x1024_120k
espnet/espnet_cityscapes_1024x512_120k deeplabv3p/deeplabv3p_resnet50_os8_voc12aug_512x512_40k
ocrnet/ocrnet_hrnetw18_voc12aug_512x512_40k segformer/segformer_b0_cityscapes_1024x512_160k"""
MODELS = {"PaddleClas": CLAS, "PaddleDetection": DET, "PaddleSeg": SEG}
SIDE, SEG_SIDE = 64, 256
Feed = Dict[str, np.ndarray]


def names_of(host: str) -> Dict[str, int]:
    """The models of a host -> the side of their images."""
    pairs = (name.partition(":") for name in MODELS[host].split())
    return {name: int(side or (SIDE if host == "PaddleClas" else SEG_SIDE))
            for name, _, side in pairs}


def export(host: str, model: str, checkout: Path, folder: Path) -> Tuple[str, Feed]:
    """Build a model with weights drawn by a seed and export it.

    Returns:
        tuple: the file prefix of its program, and inputs for it.
    """
    paddle.seed(3)
    return {"PaddleClas": _clas, "PaddleDetection": _det, "PaddleSeg": _seg}[host](
        model, checkout, folder)


def _clas(model, checkout, folder):
    sys.path.insert(0, str(checkout or sources.package_path("paddleclas", "paddleclas==2.6.0")))
    importlib.import_module("ppcls.utils.logger").init_logger()
    layer = getattr(importlib.import_module("ppcls.arch.backbone"), model)(class_num=10)
    return _saved(layer, names_of("PaddleClas")[model], folder)


def _seg(model, checkout, folder):
    sys.path.insert(0, str(checkout))
    cvlibs = importlib.import_module("paddleseg.cvlibs")
    config = cvlibs.Config(str(checkout / "configs" / f"{model}.yml"))
    _replace(config.dic, "pretrained", None)
    return _saved(cvlibs.SegBuilder(config).model, SEG_SIDE, folder)


def _saved(layer, side: int, folder: Path):
    image = _image(2, side)
    _draw_constant_weights(layer)
    layer.eval()
    with _own_statistics(layer), paddle.no_grad():
        layer(paddle.to_tensor(image))
    prefix = str(folder / "inference")
    spec = [paddle.static.InputSpec([None, 3, side, side], "float32", "x")]
    paddle.jit.save(paddle.jit.to_static(layer, input_spec=spec), prefix)
    return prefix, {"x": image}


def _det(model, checkout, folder):
    os.chdir(checkout)  # its configs name files from there
    sys.path.insert(0, str(checkout))
    workspace = importlib.import_module("ppdet.core.workspace")
    config = workspace.load_config(f"configs/{model}.yml")
    config.update(use_gpu=False, use_ema=False, pretrain_weights=None, weights=None,
                  norm_type="bn", filename="inference")
    _replace(config, "score_threshold", 0.0)  # drawn weights find nothing: give boxes all the same
    trainer = importlib.import_module("ppdet.engine").Trainer(config, mode="test")
    size = (config["TestReader"].get("inputs_def") or {}).get("image_shape") or [320, 320]
    image = _image(1, *(320 if side in (None, -1) else side for side in size[-2:]))
    feed = {"image": image, "im_shape": np.float32([image.shape[2:]]),
            "scale_factor": np.ones((1, 2), np.float32)}
    _draw_constant_weights(trainer.model)
    trainer.model.eval()
    with _own_statistics(trainer.model), paddle.no_grad():
        trainer.model({name: paddle.to_tensor(value) for name, value in feed.items()})
    trainer.export(str(folder))
    found = next(folder.rglob("*.pdiparams"))
    return str(found.with_suffix("")), feed


def _draw_constant_weights(layer):
    """Heads that start at zero would give the same outputs for every image."""
    for weight in layer.parameters():
        if weight.ndim > 1 and float(weight.max()) == float(weight.min()):
            weight.set_value(paddle.normal(0.0, 0.05, weight.shape))


@contextlib.contextmanager
def _own_statistics(layer):
    """Within it every batch norm takes over the statistics of what it gets: with the ones that it
    starts with, drawn weights let activations die out or grow without end.
    """
    def take(norm, inputs):
        axes = [k for k in range(inputs[0].ndim) if k != 1]
        norm._mean.set_value(inputs[0].mean(axes))
        norm._variance.set_value(inputs[0].var(axes, unbiased=False) + 1e-3)
    hooks = [each.register_forward_pre_hook(take) for each in layer.sublayers()
             if hasattr(each, "_variance") and hasattr(each, "_mean")]
    yield
    for hook in hooks:
        hook.remove()


def _image(count: int, height: int, width: int = None) -> np.ndarray:
    return np.random.default_rng(1).uniform(-2, 2, (count, 3, height, width or height)).astype(
        np.float32)


def _replace(settings, key: str, value):
    """Everywhere in a nested dict."""
    for name, each in list(settings.items()):
        if name == key:
            settings[name] = value
        elif isinstance(each, dict):
            _replace(each, key, value)
