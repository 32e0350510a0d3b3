"""Layer names of the papers, class names, and the messages for names that do not exist."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.errors import UnitError
from deconvviz.models.classes import class_index
from deconvviz.models.layer_names import paper_names, unknown_layer_message
from deconvviz.similar_names import nearest

Layers = list[tuple[str, str]]


def vgg(blocks: list[int], *, bn: bool = False, fcs: int = 3) -> Layers:
    unit = ["conv", "bn", "relu"] if bn else ["conv", "relu"]
    kinds = [kind for convs in blocks for kind in unit * convs + ["pool"]]
    head = (["fc", "relu", "dropout"] * (fcs - 1)) + ["fc"]
    return [
        *((f"features.{n}", kind) for n, kind in enumerate(kinds)),
        ("avgpool", "avgpool"),
        *((f"classifier.{n}", kind) for n, kind in enumerate(head)),
    ]


ALEXNET: Layers = [
    *((f"features.{n}", {"c": "conv", "r": "relu", "p": "pool"}[k]) for n, k in enumerate("crpcrpcrcrcrp")),
    ("avgpool", "avgpool"),
    *((f"classifier.{n}", k) for n, k in enumerate(["dropout", "fc", "relu", "dropout", "fc", "relu", "fc"])),
]
VGG19 = paper_names(vgg([2, 2, 4, 4, 4]))


def test_paper_names_of_vgg19_map_to_torchvisions_names() -> None:
    known = {"conv1_1": 0, "relu1_1": 1, "conv1_2": 2, "pool1": 4, "conv3_4": 16, "relu3_4": 17, "pool3": 18,
             "conv5_1": 28, "relu5_4": 35, "pool5": 36}  # fmt: skip
    assert {name: VGG19[name] for name in known} == {name: f"features.{n}" for name, n in known.items()}
    head = {"fc6": 0, "relu6": 1, "fc7": 3, "relu7": 4, "fc8": 6}
    assert {name: VGG19[name] for name in head} == {name: f"classifier.{n}" for name, n in head.items()}
    assert len(VGG19) == 37 + 5  # features and classifier, without avgpool and the two dropouts


def test_batch_norm_has_the_number_of_its_convolution() -> None:
    names = paper_names(vgg([2, 2, 4, 4, 4], bn=True))
    assert (names["conv3_4"], names["bn3_4"], names["relu3_4"]) == (
        "features.23",
        "features.24",
        "features.25",
    )
    assert set(names) == set(VGG19) | {
        name.replace("conv", "bn") for name in VGG19 if name.startswith("conv")
    }


def test_vgg_with_four_blocks_continues_with_fc5() -> None:
    names = paper_names(vgg([2, 2, 2, 2], fcs=2))
    assert list(names)[-3:] == ["fc5", "relu5", "fc6"]
    assert (names["conv4_2"], names["fc6"]) == ("features.17", "classifier.3")


def test_paper_names_of_alexnet_are_numbered_by_layer() -> None:
    features = "conv1 relu1 pool1 conv2 relu2 pool2 conv3 relu3 conv4 relu4 conv5 relu5 pool5"
    assert " ".join(paper_names(ALEXNET)) == f"{features} fc6 relu6 fc7 relu7 fc8"
    assert paper_names(ALEXNET)["pool5"] == "features.12"
    assert paper_names(ALEXNET)["fc6"] == "classifier.1"


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [("features.0", "conv"), ("features.1", "relu"), ("features.2", "pool"), ("classifier.1", "conv")],
        [("conv1", "conv"), ("bn1", "bn"), ("relu", "relu"), ("maxpool", "pool"), ("fc", "fc")],
        [*vgg([2, 2]), ("features.99", "conv")],
        [("features.0", "add"), *vgg([2, 2])],
        [(f"body.{name}", kind) for name, kind in vgg([2, 2, 4, 4, 4])],
    ],
    ids=["nothing", "squeezenet", "resnet", "convolution at the end", "an addition", "wrapped"],
)
def test_paper_names_of_other_networks_are_empty(layers: Layers) -> None:
    assert paper_names(layers) == {}


@given(st.lists(st.integers(1, 5), min_size=2, max_size=7), st.booleans(), st.integers(1, 4))
def test_paper_names_of_any_vgg_are_complete_and_ordered(blocks: list[int], bn: bool, fcs: int) -> None:
    layers = vgg(blocks, bn=bn, fcs=fcs)
    names = paper_names(layers)
    if "conv1" in names:  # the structure of AlexNet: 1, 1, 3
        assert blocks == [1, 1, 3]
        return
    named = [name for name, kind in layers if kind not in ("avgpool", "dropout")]
    assert list(names.values()) == named
    convs = [f"conv{b}_{i}" for b, count in enumerate(blocks, 1) for i in range(1, count + 1)]
    assert [name for name in names if name.startswith("conv")] == convs
    assert [name for name in names if name.startswith("pool")] == [f"pool{b + 1}" for b in range(len(blocks))]
    first = len(blocks) + 1
    assert [name for name in names if name.startswith("fc")] == [f"fc{first + i}" for i in range(fcs)]


def test_unknown_layer_message_lists_its_block() -> None:
    assert unknown_layer_message("conv3_5", [*VGG19, *VGG19.values()], "vgg19") == (
        "no layer 'conv3_5' in vgg19: block 3 has conv3_1, conv3_2, conv3_3, conv3_4 "
        "(see: deconvviz layers --model vgg19)"
    )


@pytest.mark.parametrize(
    ("requested", "existing"),
    [
        ("conv3", "block 3 has conv3_1, conv3_2, conv3_3, conv3_4"),
        ("Relu5_7", "block 5 has relu5_1, relu5_2, relu5_3, relu5_4"),
        ("conv6_1", "its conv blocks run from 1 to 5"),
        ("bn3_1", "nearest are"),
        ("pool6", "nearest are pool5, pool4, pool3"),
        ("fc9", "nearest are fc8, fc7, fc6"),
        ("Conv_1_1", "nearest are conv1_1"),
        ("???", "it has 42 layers, from conv1_1 to fc8"),
    ],
)
def test_unknown_layer_message_names_existing_layers(requested: str, existing: str) -> None:
    message = unknown_layer_message(requested, VGG19, "vgg19")
    assert f"no layer '{requested}' in vgg19: {existing}" in message


def test_unknown_layer_message_names_nearest_dotted_names() -> None:
    names = [f"features.{n}" for n in range(13)]
    message = unknown_layer_message("featurs.9", names, "squeezenet1_0")
    assert message.startswith("no layer 'featurs.9' in squeezenet1_0: nearest are features.9, features.8, ")
    assert message.endswith("(see: deconvviz layers --model squeezenet1_0)")


def test_unknown_layer_message_can_refer_to_other_places() -> None:
    assert unknown_layer_message("a", [], "Net", see="net.layers") == (
        "no layer 'a' in Net: it has no named layers (see: net.layers)"
    )


def test_nearest_prefers_swapped_letters_then_near_numbers() -> None:
    models = ["resnet18", "vgg11", "vgg11_bn", "vgg13", "vgg16", "vgg19", "vgg19_bn"]
    assert nearest("vgg91", models) == ["vgg19", "vgg16", "vgg13"]
    assert nearest("ResNet-18", models) == ["resnet18"]
    assert nearest("zzz", models) == []


@pytest.mark.slow
@given(st.text(max_size=12), st.lists(st.text(max_size=12), max_size=12), st.integers(1, 5))
def test_nearest_returns_at_most_n_existing_names(requested: str, existing: list[str], n: int) -> None:
    names = nearest(requested, existing, n)
    assert len(names) <= n and len(set(names)) == len(names) and set(names) <= set(existing)
    if requested in existing:
        assert names[0].casefold() == requested.casefold()


IMAGENET = [
    "tench",
    "great white shark",
    "tiger shark",
    "crane bird",
    "crane",
    "maillot",
    "maillot tank suit",
]


@pytest.mark.parametrize(
    ("requested", "index"),
    [
        ("Tench", 0),
        ("great_white_shark", 1),
        ("white", 1),
        ("crane", 4),
        ("maillot", 5),
        ("tank", 6),
        (3, 3),
        ("2", 2),
    ],
)
def test_class_index_accepts_name_part_of_name_or_number(requested: str | int, index: int) -> None:
    assert class_index(requested, IMAGENET) == index


@pytest.mark.parametrize(
    ("requested", "classes", "message"),
    [
        (
            "shark",
            IMAGENET,
            "class 'shark' is ambiguous: it could be 'great white shark' (1), 'tiger shark' (2). Give",
        ),
        (
            "crane",
            ["crane", "tench", "crane"],
            "class 'crane' is ambiguous: it could be 'crane' (0), 'crane' (2). Give",
        ),
        ("tensch", IMAGENET, "no class 'tensch' among 7: the nearest is 'tench' (0)"),
        ("", IMAGENET, "no class '' among 7: no name is similar"),
        (7, IMAGENET, "no class number 7: class numbers run from 0 to 6"),
        ("-1", IMAGENET, "no class number -1: class numbers run from 0 to 6"),
        ("cat", [], "no class 'cat': this network has no class names. Give a number"),
    ],
)
def test_class_index_rejects_unknown_and_ambiguous_classes(
    requested: str | int, classes: list[str], message: str
) -> None:
    with pytest.raises(UnitError) as caught:
        class_index(requested, classes)
    assert str(caught.value).startswith(message)


def test_class_index_without_names_accepts_numbers_of_outputs() -> None:
    assert class_index("11", [], outputs=12) == 11
    with pytest.raises(UnitError, match="class numbers run from 0 to 11"):
        class_index(12, [], outputs=12)
    with pytest.raises(UnitError, match=r"Give a number from 0 to 11"):
        class_index("cat", [], outputs=12)


def test_long_list_of_matching_classes_is_shortened() -> None:
    with pytest.raises(UnitError, match="'dog 7' \\(7\\) and 12 more"):
        class_index("dog", [f"dog {n}" for n in range(20)])


@given(st.lists(st.text("ab _", min_size=1, max_size=4), min_size=1, max_size=8), st.data())
def test_class_index_of_a_full_name_is_that_class(classes: list[str], data: st.DataObject) -> None:
    requested = data.draw(st.sampled_from(classes))
    try:
        found = class_index(requested, classes)
    except UnitError:
        return
    assert classes[found].replace("_", " ").split() == requested.replace("_", " ").split()


def test_name_modules_do_not_import_torch() -> None:
    modules = ", ".join(f"deconvviz.models.{name}" for name in ("layer_names", "classes", "catalog"))
    check = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, env=os.environ, timeout=60)
