# SPDX-License-Identifier: Apache-2.0
"""The architectures of ``zoo.py``: one or two of each family."""
from typing import Dict

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
# PaddleYOLO and PaddleOCR: below their folder configs.
YOLO = """yolov5/yolov5_n_300e_coco yolov5u/yolov5u_n_300e_coco yolov6/yolov6_n_300e_coco
yolov6lite/yolov6lite_s_400e_coco yolov7/yolov7_tiny_416_300e_coco yolov7u/yolov7u_l_300e_coco
yolov8/yolov8_n_500e_coco rtmdet/rtmdet_t_300e_coco yolox/yolox_cdn_tiny_300e_coco
convnext/yolov5_convnext_s_36e_coco"""
OCR = """cls/cls_mv3 cls/ch_PP-OCRv3/ch_PP-OCRv3_rotnet det/ch_PP-OCRv3/ch_PP-OCRv3_det_student
det/ch_PP-OCRv4/ch_PP-OCRv4_det_student det/ch_PP-OCRv4/ch_PP-OCRv4_det_teacher
det/det_mv3_db det/det_mv3_east det/det_mv3_pse det/det_r18_vd_ct det/det_r50_db++_icdar15
det/det_r50_drrg_ctw det/det_r50_vd_dcn_fce_ctw det/det_r50_vd_sast_icdar15
det/det_r50_vd_sast_totaltext e2e/e2e_r50_vd_pg rec/ch_PP-OCRv2/ch_PP-OCRv2_rec
rec/PP-OCRv3/ch_PP-OCRv3_rec rec/PP-OCRv4/ch_PP-OCRv4_rec rec/PP-OCRv4/ch_PP-OCRv4_rec_hgnet
rec/rec_mv3_none_none_ctc rec/rec_mv3_none_bilstm_ctc rec/rec_mv3_tps_bilstm_ctc
rec/rec_mv3_tps_bilstm_att rec/rec_d28_can rec/rec_efficientb3_fpn_pren rec/rec_mtb_nrtr
rec/rec_r31_robustscanner rec/rec_r31_sar rec/rec_r32_gaspin_bilstm_att rec/rec_r45_abinet
rec/rec_r45_visionlan rec/rec_r50_fpn_srn rec/rec_resnet_rfl_att rec/rec_resnet_rfl_visual
rec/rec_resnet_stn_bilstm_att rec/rec_satrn rec/rec_svtrnet rec/rec_svtrnet_ch
rec/rec_vitstr_none_ce sr/sr_telescope sr/sr_tsrn_transformer_strock table/SLANet
table/table_mv3"""
MODELS = {"PaddleClas": CLAS, "PaddleDetection": DET, "PaddleOCR": OCR, "PaddleSeg": SEG,
          "PaddleYOLO": YOLO}
SIDE, SEG_SIDE = 64, 256


def names_of(host: str) -> Dict[str, int]:
    """The models of a host -> the side of their images."""
    pairs = (name.partition(":") for name in MODELS[host].split())
    return {name: int(side or (SIDE if host == "PaddleClas" else SEG_SIDE))
            for name, _, side in pairs}
