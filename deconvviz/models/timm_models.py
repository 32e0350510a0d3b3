"""Build timm's networks by name, with their weights and preprocessing. timm is imported when it is needed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from torch import nn
from torchvision import models

from deconvviz.errors import DownloadError, NetworkError, WeightsError
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.models import initialization
from deconvviz.models.catalog import TIMM_IS_MISSING
from deconvviz.models.checkpoints import UNREADABLE
from deconvviz.models.expected_input import preprocessing_of_config
from deconvviz.models.fit import fit
from deconvviz.models.initialization import seeded
from deconvviz.models.model_spec import ModelSpec
from deconvviz.models.state_dict import other_classes
from deconvviz.models.stdout import stdout_to_stderr
from deconvviz.models.weights import Spec, WeightsInfo, weights_of_file
from deconvviz.paths import reason_of
from deconvviz.similar_names import nearest

if TYPE_CHECKING:
    from types import ModuleType

# Arguments of timm that are rejected, and how to set them in deconvviz.
_REPLACED = {
    "pretrained": "{option}",
    "checkpoint_path": "{option}",
    "pretrained_cfg": "the tag of a name, timm:NAME.TAG",
    "pretrained_cfg_overlay": "the tag of a name, timm:NAME.TAG",
    "cache_dir": "the environment variable HF_HOME",
}
_ADVICE = "Give a file with {option}, or use {option}"
_WEIGHTS = ("weights=FILE", "weights=random")
# Exceptions that constructors raise for arguments that they do not accept.
_UNFIT = (
    TypeError, ValueError, RuntimeError, AssertionError, LookupError, AttributeError, ArithmeticError,
    NotImplementedError,
)  # fmt: skip


def timm_names() -> list[str]:
    """Return all names that timm lists, with and without tags."""
    timm = _module("timm")
    return list(dict.fromkeys([*timm.list_models(), *timm.list_models(include_tags=True)]))


def build(spec: ModelSpec, *, seed: int = 0, device: str = "cpu", classes: int | None = None) -> nn.Module:
    """Return the network in evaluation mode with random weights; nothing is downloaded.

    On the device "meta" the network has shapes but no values. `classes` is the number of outputs. Raises
    NetworkError.
    """
    _check(spec)
    arguments = dict(spec.arguments) if classes is None else {**spec.arguments, "num_classes": classes}
    return initialization.build(lambda drawn: _create(spec, arguments), seed=seed, device=device)


def load_network(
    spec: ModelSpec, weights: Spec = "default", *, seed: int = 0
) -> tuple[nn.Module, WeightsInfo]:
    """Return one of timm's networks in evaluation mode, with its weights.

    `weights`: "default" (timm's for this name and tag, downloaded if necessary), "random", or a file, which
    also determines the number of classes. Raises NetworkError, WeightsError and DownloadError.
    """
    if weights == "random":
        return _described(spec, build(spec, seed=seed), "random", f"random, seed {seed}")
    shaped = build(spec, device="meta")  # raises for invalid arguments before anything is downloaded
    if weights == "default":
        module = _pretrained(spec, seed)
        source = f"timm {_whole_name(spec)}"
        return _described(spec, module, "default", source, _untrained(spec, module, seed))
    shape = preprocessing(spec).shape
    given = weights_of_file(weights, shaped, f"named weights of {spec.text}: default, random", shape)
    notes = given.notes
    count = other_classes(given.state, shaped)
    module = build(spec, seed=seed, classes=count)
    lacking = fit(module, given.state, network=spec.text, source=given.place, shape=shape)
    if count is not None:
        notes = (*notes, f"{count} classes, as in the weights")
    module, info = _described(spec, module, str(weights), str(weights), notes)
    return module, info.without(lacking)


def preprocessing(spec: ModelSpec) -> Preprocessing:
    """Return the preprocessing of timm's evaluation, adapted to arguments that change the input."""
    config = dict(_config(spec))
    size, channels = spec.arguments.get("img_size"), spec.arguments.get("in_chans")
    if size is not None:
        both = size if isinstance(size, (list, tuple)) else (size, size)
        config["input_size"] = (config["input_size"][0], *both)
        config.pop("test_input_size", None)
    if channels is not None:
        for name in ("input_size", "test_input_size"):
            if config.get(name):
                config[name] = (channels, *config[name][1:])
    return preprocessing_of_config(config)


def _described(
    spec: ModelSpec, module: nn.Module, weights: str, source: str, notes: tuple[str, ...] = ()
) -> tuple[nn.Module, WeightsInfo]:
    return module, WeightsInfo(spec.text, weights, source, preprocessing(spec), _classes(module), notes)


def _module(name: str) -> ModuleType:
    """Import timm or one of the modules that are installed with it."""
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError as reason:
        if reason.name != "timm":
            raise
        raise NetworkError(TIMM_IS_MISSING) from reason


def _check(spec: ModelSpec) -> None:
    """Raise NetworkError for a name that timm does not have or an argument that is not accepted."""
    timm = _module("timm")
    name, _, tag = spec.name.partition(".")
    if not name:
        raise NetworkError("no name after 'timm:'. Give timm:NAME, such as timm:resnet26d")
    if name in (renamed := timm.models.get_deprecated_models()):
        now = f": it is now called timm:{renamed[name]}" if renamed[name] else ""
        raise NetworkError(f"timm no longer has the network {name!r}{now}")
    if not timm.is_model(name):
        similar = nearest(name, timm.list_models(), 4)
        names = f"nearest: {', '.join(f'timm:{one}' for one in similar)}" if similar else "no name is similar"
        raise NetworkError(f"no network {name!r} in timm {timm.__version__}; {names}")
    tags = [one.partition(".")[2] for one in timm.list_models(f"{name}.*", include_tags=True)]
    if tag and tag not in tags:
        existing = f"there are {', '.join(filter(None, tags))}" if any(tags) else "there are none"
        raise NetworkError(f"no weights {tag!r} of {name} in timm {timm.__version__}: {existing}")
    for argument, instead in _REPLACED.items():
        if argument in spec.arguments:
            message = f"{argument} cannot be set as an argument of the network: use {instead}"
            raise NetworkError(message, option=_WEIGHTS)


def _create(spec: ModelSpec, arguments: Mapping[str, Any], *, pretrained: bool = False) -> nn.Module:
    try:
        with stdout_to_stderr():
            module: nn.Module = _module("timm").create_model(spec.name, pretrained=pretrained, **arguments)
    except _UNFIT as reason:
        if pretrained or not arguments:
            raise
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise NetworkError(f"{spec.text} cannot be built with {given}: {_line(reason)}") from reason
    return module


def _config(spec: ModelSpec) -> dict[str, Any]:
    """Return timm's `pretrained_cfg` of a network."""
    found: dict[str, Any] = _module("timm").get_pretrained_cfg(spec.name).to_dict()
    return found


def _whole_name(spec: ModelSpec) -> str:
    """Return the name with the tag of the weights, which the user may omit."""
    config = _config(spec)
    return f"{config['architecture']}.{config['tag']}" if config.get("tag") else config["architecture"]


def _classes(module: nn.Module) -> tuple[str, ...]:
    """Return the class names of the subset of ImageNet that the network was trained on, if it is known."""
    info = _module("timm.data.imagenet_info")
    subset = info.infer_imagenet_subset(module)
    if subset is None:
        return ()
    if subset == "imagenet-1k":  # torchvision's names are shorter, and the same as those of its own networks
        return tuple(models.VGG19_Weights.IMAGENET1K_V1.meta["categories"])
    named = info.ImageNetInfo(subset)
    return tuple(named.index_to_description(index) for index in range(named.num_classes()))


def _untrained(spec: ModelSpec, module: nn.Module, seed: int) -> tuple[str, ...]:
    """Return a note if the classifier is random, because its size differs from that of the weights."""
    trained = _config(spec).get("num_classes")
    now = getattr(module, "num_classes", trained)
    if now in (trained, 0):
        return ()
    return (f"trained for {trained} classes, not {now}: the classifier's weights are random, seed {seed}",)


def _pretrained(spec: ModelSpec, seed: int) -> nn.Module:
    config = _config(spec)
    places = [config.get(key) for key in ("hf_hub_id", "url", "file") if config.get(key)]
    if not places:
        message = f"timm has no trained weights of {_whole_name(spec)}{_other_tags(spec)}. {_ADVICE}"
        raise WeightsError(message, option=_WEIGHTS)
    place = f"{_endpoint()}/{places[0]}" if config.get("hf_hub_id") else places[0]
    failures: tuple[type[Exception], ...] = (OSError, HTTPException, *_hub_errors())
    try:
        with seeded(seed):
            if config.get("hf_hub_id"):
                _check_server(config["hf_hub_id"], config.get("hf_hub_filename") or "model.safetensors")
            return _create(spec, spec.arguments, pretrained=True).eval()
    except failures as reason:
        raise DownloadError(
            f"the weights of {spec.text} are not in the cache and could not be downloaded from {place}: "
            f"{_line(_first(reason))}. {_ADVICE}",
            option=_WEIGHTS,
        ) from reason
    except (SafetensorError, *UNREADABLE) as reason:
        raise WeightsError(
            f"the weights of {spec.text} from {place} are damaged or do not fit: {_line(reason)}. {_ADVICE}",
            option=_WEIGHTS,
        ) from reason


def _check_server(repository: str, file: str) -> None:
    """Raise the client's error if the server does not answer: the client itself would retry for a minute."""
    hub = _module("huggingface_hub")
    if isinstance(hub.try_to_load_from_cache(repository, file), str):
        return
    with contextlib.suppress(hub.errors.HfHubHTTPError):  # the server answers; timm handles its errors
        hub.get_hf_file_metadata(hub.hf_hub_url(repository, file))


def _other_tags(spec: ModelSpec) -> str:
    name = spec.name.partition(".")[0]
    trained = _module("timm").list_models(f"{name}.*", pretrained=True)
    return f": there are weights of timm:{', timm:'.join(trained)}" if trained else ""


def _hub_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of the hub's client and of the HTTP client that it uses."""
    errors = vars(_module("huggingface_hub.errors")).values()
    return tuple(one for one in errors if isinstance(one, type) and issubclass(one, Exception))


def _endpoint() -> str:
    endpoint: str = _module("huggingface_hub.constants").ENDPOINT
    return endpoint


def _first(reason: BaseException) -> BaseException:
    """Return the system's error, if a client wrapped it."""
    inner = getattr(reason, "reason", None)
    if isinstance(inner, OSError):  # urllib
        return inner
    while isinstance(reason, FileNotFoundError) and reason.__cause__ is not None:  # of the hub's client
        reason = reason.__cause__
    return reason


def _line(reason: BaseException) -> str:
    words = reason_of(reason) if isinstance(reason, OSError) else str(reason)
    return re.sub(r"^\[Errno -?\d+\] ", "", " ".join(words.split())) or type(reason).__name__
