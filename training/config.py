"""What an experiment record says, section by section; `training.records` reads it from a file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from service.preprocess import Preprocessing

SHIPPED_BACKGROUND = "pictures"

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Side = Annotated[int, Field(ge=16)]  # of a square of pixels


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_number_by_yes(cls, value: Any, field: ValidationInfo) -> Any:
        """To Python, and so to pydantic, true is 1."""
        if (
            isinstance(value, bool)
            and cls.model_fields[field.field_name or ""].annotation is not bool
        ):
            raise ValueError(f"expected no yes or no, got {str(value).lower()}")
        return value


class DataConfig(_Record):
    """What of the photos the model sees, and how splits are drawn where the data name none."""

    px: Side = Field(default=224, description="side of the square that the served model sees")
    fit: Literal["squash", "crop"] = "squash"
    crop_fraction: float = Field(default=1.0, gt=0.0, le=1.0)
    cache_px: Side = Field(default=256, description="side of the cached photos that are augmented")
    val_fraction: float = Field(default=0.1, gt=0.0, lt=1.0)
    test_fraction: float = Field(default=0.1, ge=0.0, lt=1.0)
    hold_out: str | None = Field(
        default=None,
        pattern=r".+:[^:]+",
        description="folds:fold, such as refuse:1, whose kinds become the split `unseen`",
    )

    def served(self) -> Preprocessing:
        """The preprocessing of evaluation and of the service."""
        return Preprocessing(
            height=self.px, width=self.px, fit=self.fit, crop_fraction=self.crop_fraction
        )

    def cached(self) -> Preprocessing:
        """What augmentation starts from: the whole photo, so that a crop can fall anywhere."""
        return Preprocessing(height=self.cache_px, width=self.cache_px, fit="squash")


class BackboneConfig(_Record):
    """See `training.backbones.build_backbone`."""

    name: Literal[
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "efficientnet_lite0",
        "efficientnet_lite1",
        "efficientnet_lite2",
        "efficientnet_lite012",
    ] = "efficientnet_lite0"
    stem: Literal["imagenet", "cifar"] = "imagenet"
    pretrained: bool = True
    weights: str | None = Field(
        default=None, description="finished run whose backbone to start from, not ImageNet's"
    )
    drop_path: float = Field(default=0.0, ge=0.0, lt=1.0)
    frozen_groups: int = Field(
        default=0, ge=0, description="first parts kept as they are, from the stem"
    )


class SclreConfig(_Record):
    """Widths and weights of SCLRE; the defaults are the paper's."""

    hidden: int = Field(default=512, ge=1)
    width: int = Field(default=128, ge=2, description="of z and of the embedding v")
    heads: int = Field(default=8, ge=1)
    key_width: int = Field(default=256, ge=1, description="over all heads")
    alpha: float = Field(
        default=0.5, ge=0.0, le=1.0, description="contrastive against cross-entropy"
    )
    target_weight: float = Field(default=0.2, ge=0.0)
    temperature: float = Field(default=0.5, gt=0.0)
    sharpness: float | None = Field(
        default=None, gt=0.0, description="attention by likeness, so sharp at first; unset: CIA's"
    )
    attention: bool = Field(default=True, description="off: the ablation without CIA or bank")
    anchors: Literal["simplex", "reference"] = Field(
        "simplex", description="reference: as the paper's code makes them, an ablation"
    )
    contrastive_mean: Literal["pairs", "batch"] = Field(
        "pairs", description="divide by the positive pairs, or by 2n as the reference code does"
    )


class CrossEntropyConfig(_Record):
    """What is done to features while its classifier learns."""

    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="share of features left out")
    mixup: float = Field(
        default=0.0, ge=0.0, description="alpha of the Beta by which photos are mixed; 0: none"
    )


class ContrastiveConfig(_Record):
    """SupCon, SimCLR and MoCo v2; the last two keys are MoCo's."""

    hidden: int = Field(default=512, ge=1)
    width: int = Field(default=128, ge=2)
    temperature: float = Field(default=0.2, gt=0.0)
    queue: int = Field(default=4096, ge=1)
    momentum: float = Field(default=0.99, ge=0.0, lt=1.0)


class MatchingConfig(_Record):
    """Attention by likeness to the bank."""

    width: int = Field(default=128, ge=1, description="principal components of the features")
    temperature: float = Field(default=0.03, gt=0.0)
    words: str | None = Field(
        default=None, description="words file, or the name of a shipped one, of a sorting guide"
    )
    like_words: float = Field(
        default=0.65,
        ge=-1.0,
        le=1.0,
        description="likeness of an item that weighs as the words, in a bank of 5,136",
    )
    background: str | None = Field(
        default=None,
        description="folder of pictures of what is of no superclass, to doubt what is like them; "
        "pictures: those that are shipped; empty: none",
    )


class GeorgeConfig(_Record):
    """GEORGE's second stage."""

    first_stage: str | None = Field(
        default=None, description="finished run of cross-entropy whose features are clustered"
    )
    most_clusters: int = Field(default=10, ge=2, description="of a superclass")
    step_size: float = Field(default=0.01, gt=0.0, description="of group-DRO's weights")


class BankConfig(_Record):
    """The frozen context bank: how many items, and how they are chosen."""

    size: int = Field(default=64, ge=2)
    selection: Literal["random", "centroids", "herding", "all"] = Field(
        "herding", description="all: every training photo, whatever the size"
    )


class AugmentConfig(_Record):
    """Random changes to training photos; see `training.augment`."""

    scale_min: float = Field(
        default=0.4, gt=0.0, le=1.0, description="smallest share of area cropped"
    )
    aspect_max: float = Field(default=1.33, ge=1.0)
    rotation_degrees: float = Field(default=15.0, ge=0.0, le=180.0)
    flip: float = Field(default=0.5, ge=0.0, le=1.0)
    brightness: float = Field(default=0.3, ge=0.0, lt=1.0)
    contrast: float = Field(default=0.3, ge=0.0, lt=1.0)
    saturation: float = Field(default=0.3, ge=0.0, le=1.0)
    cast: float = Field(default=0.1, ge=0.0, lt=1.0, description="gain of each colour channel")
    erase: float = Field(
        default=0.25, ge=0.0, le=1.0, description="probability of a grey rectangle"
    )


class TrainConfig(_Record):
    """Budget and optimiser."""

    epochs: float = Field(default=16, gt=0)
    batch: int = Field(default=64, ge=2, description="of all processes together")
    sync_batchnorm: bool = Field(
        default=False, description="with several processes: normalise by the whole batch"
    )
    sizes: tuple[tuple[Share, Side], ...] = Field(
        (), description="(share of training, px) from which a size holds; data.px where empty"
    )
    optimiser: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(default=3e-4, gt=0)
    head_lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.02, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    warm_up: float = Field(default=0.05, ge=0, lt=1, description="share of training")
    clip_norm: float = Field(default=5.0, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    ema: float = Field(
        default=0.99, ge=0, lt=1, description="decay of the weights' average; 0 is off"
    )
    precision: Literal["bf16", "fp32"] = "bf16"
    compile: bool = Field(
        default=False, description="the backbone by torch.compile; on CPUs it does not pay"
    )
    checkpoint_minutes: float = Field(default=5.0, ge=0)


class Config(_Record):
    """A whole experiment."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    method: Literal["sclre", "cross_entropy", "supcon", "simclr", "moco", "george", "matching"] = (
        "sclre"
    )
    seed: int = Field(default=0, ge=0, lt=2**32, strict=True)
    data: DataConfig = DataConfig()
    backbone: BackboneConfig = BackboneConfig()
    sclre: SclreConfig = SclreConfig()
    cross_entropy: CrossEntropyConfig = CrossEntropyConfig()
    contrastive: ContrastiveConfig = ContrastiveConfig()
    george: GeorgeConfig = GeorgeConfig()
    matching: MatchingConfig = MatchingConfig()
    bank: BankConfig = BankConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()
