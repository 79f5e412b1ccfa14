"""Any model of the timm library that gives a feature map, for example timm:resnet18."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from protocols.errors import InvalidInputError, UnknownNameError, unknown_name
from protocols.method import Features, Wants
from protocols.trunk import InputScale, Trunk
from protocols.weights import Layout, Weights, fit, read

ARGUMENT = "NAME"


class Timm(Trunk):
    """A model of timm without its classifier.

    The vector is the model's own descriptor (class token, mean of patches, ...). Patches of a
    transformer become a map, its class and register tokens aside; such a map is signed.

    Args:
        name: the model's name in timm.
        net: the model, built with ``num_classes=0``.
    """

    def __init__(self, name: str, net: Any) -> None:
        super().__init__()
        self.name, self.net = f"timm:{name}", net
        self.channels = net.num_features
        width = getattr(net, "head_hidden_size", self.channels)
        if width != self.channels:
            raise InvalidInputError(
                f"trunk {self.name} makes a vector of {width} from a map of {self.channels} "
                "channels; a trunk's two widths must be equal. Choose another model"
            )
        config = import_module("timm.data").resolve_data_config({}, model=net)
        # Per model here; the base class declares them per class.
        self.__dict__.update(
            scale=InputScale(mean=tuple(config["mean"]), std=tuple(config["std"])),
            nonnegative=_ends_in_relu(net),
        )

    def map(self, images: Tensor) -> Tensor:
        """Return the last map (B, C, H, W)."""
        return self._as_map(self._encode(images)[0], images)

    def forward(self, images: Tensor) -> Features:
        """Return map, descriptor and stages of scaled images (B, 3, H, W)."""
        encoded, earlier = self._encode(images)
        vector = self.net.forward_head(encoded, pre_logits=True)
        feature_map = self._as_map(encoded, images)
        stages = (*earlier[:-1], feature_map) if earlier else ()
        return Features(feature_map, vector, stages)

    def set_stages(self, count: int) -> None:
        """Give the last ``count`` maps that timm names, a transformer's blocks too, or refuse."""
        most = len(getattr(self.net, "feature_info", ()))
        if count > most or not hasattr(self.net, "forward_intermediates"):
            known = hasattr(self.net, "forward_intermediates") and most
            gives = f"{most} stages at most" if known else "no stages"
            raise InvalidInputError(
                f"trunk {self.name} gives {gives}, asked for {count}. Choose another model"
            )
        self.stage_count = count

    def honour(self, wants: Wants, method: str) -> None:
        """Make the edits ``method`` wants, or raise InvalidInputError with what is not known."""
        if wants.nonnegative and not self.nonnegative:
            raise InvalidInputError(
                f"method {method!r} needs a non-negative feature map, and whether that of trunk "
                f"{self.name} is one is not known: a ReLU at the end is looked for in timm's "
                "ResNets and DenseNets only. Choose one of them with ReLU, or mobilenet_v2, "
                "efficientnet_lite0 or resnet50, which end in one"
            )
        super().honour(wants, method)

    def set_last_stride(self, stride: int) -> None:
        """Refuse: models of timm differ too much in where their strides are."""
        raise InvalidInputError(f"trunk {self.name} cannot set its last stride to {stride}")

    def _encode(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return what the model makes of images, and its maps on the way where they are asked."""
        try:
            if self.stage_count:
                encoded, maps = self.net.forward_intermediates(images, indices=self.stage_count)
            else:
                encoded, maps = self.net.forward_features(images), ()
        except AssertionError as error:  # timm's way to refuse a size
            height, width = images.shape[2:]
            raise InvalidInputError(
                f"trunk {self.name} cannot take {height} x {width} px: {error}"
            ) from error
        return encoded, tuple(maps)

    def _as_map(self, encoded: Tensor, images: Tensor) -> Tensor:
        if encoded.ndim == 4 and str(getattr(self.net, "output_fmt", "NCHW")) == "NHWC":
            return encoded.permute(0, 3, 1, 2)
        if encoded.ndim == 4:
            return encoded
        patches = encoded[:, getattr(self.net, "num_prefix_tokens", 0) :]
        embed = getattr(self.net, "patch_embed", None)
        grid = embed.dynamic_feat_size(images.shape[2:]) if embed is not None else (0, 0)
        if grid[0] * grid[1] != patches.shape[1]:
            raise InvalidInputError(
                f"trunk {self.name} gives {patches.shape[1]} tokens without saying which part of "
                "the image each is of, so they are no map. Choose another model"
            )
        return patches.transpose(1, 2).reshape(len(patches), -1, *grid)


def build(weights: Weights = None, argument: str = "") -> Timm:
    """Return the model ``argument`` with ``weights``, or at random.

    Args:
        weights: a file; or the tag of timm's own weights, ``tv_in1k``, which timm downloads.
        argument: the model's name. With a tag (``resnet50.tv_in1k``) the input is scaled as
            that tag's weights need it, so give the tag that a file of weights belongs to.
    """
    timm = _timm()
    if not timm.is_model(argument):
        near = get_close_matches(argument, timm.list_models(), n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UnknownNameError(f"no model {argument!r} in timm {timm.__version__}.{hint}")
    if isinstance(weights, str):
        argument = _tagged(timm, argument, weights)
    trunk = Timm(argument, _create(timm, argument, pretrained=isinstance(weights, str)))
    if isinstance(weights, Path):
        fit(trunk.net, read(weights), _layout(trunk), str(weights))
    trunk.pretrained = weights is not None
    return trunk


def _timm() -> Any:
    try:
        return import_module("timm")
    except ImportError as error:
        raise InvalidInputError(
            "trunk timm needs the package timm: install it with 'pip install timm'"
        ) from error


def _tagged(timm: Any, name: str, tag: str) -> str:
    """Return the model's name with the tag of the weights asked for."""
    model, _, own = name.partition(".")
    known = [full.partition(".")[2] for full in timm.list_pretrained(f"{model}.*")]
    if tag not in known or own not in ("", tag):
        raise unknown_name(f"weight set of timm:{name}", tag, [own] if own else known)
    return f"{model}.{tag}"


def _create(timm: Any, name: str, *, pretrained: bool) -> Any:
    def create(**options: bool) -> Any:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, **options)

    try:
        try:
            return create(dynamic_img_size=True)  # position embeddings for any size
        except TypeError:  # not a model that has them
            return create()
    except (OSError, RuntimeError, ValueError) as error:
        reason = f"timm cannot make {name}: {error}"
        if pretrained:
            reason = f"weights of timm:{name} could not be downloaded ({error}). Fetch them "
            reason += "yourself and give the file instead of the name"
        raise InvalidInputError(reason) from error


def _layout(trunk: Timm) -> Layout:
    """Return the layout of the model's files: its classifiers are dropped, nothing else."""
    heads = trunk.net.pretrained_cfg.get("classifier") or ()
    names = (heads,) if isinstance(heads, str) else tuple(heads)
    auxiliary = ("AuxLogits.",) if trunk.name.startswith("timm:inception_v3") else ()
    return Layout(f"timm's {trunk.name[5:]}", tuple(f"{n}." for n in names) + auxiliary)


def _ends_in_relu(net: Any) -> bool:
    """Say whether the map is known to be non-negative: ResNets and DenseNets with ReLU."""
    kind = type(net).__name__
    if kind == "ResNet":
        block = net.layer4[-1]
        return isinstance(getattr(block, "act3", None) or block.act2, nn.ReLU)
    return kind == "DenseNet" and isinstance(net.features.norm5.act, nn.ReLU)
