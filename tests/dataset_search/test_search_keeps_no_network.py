"""A search does not keep its network alive, and detects changed weights."""

from __future__ import annotations

import gc
import pickle
import weakref
from pathlib import Path

import pytest
import torch
from helpers.searches import Noise, same, small
from torch import nn

import deconvviz as dv
from deconvviz.dataset_search.result import Search, open_search
from deconvviz.dataset_search.search import search
from deconvviz.errors import ManifestError, SearchError

GONE = (
    "the network of this search no longer exists: Sequential was made in Python, and a search does not keep "
    "its network. Pass it again with network=NETWORK"
)


def searched(out: Path | None = None) -> tuple[dv.Network, Search]:
    net = small()
    return net, search(net, Noise(6), "3", out=out, workers=0)


@pytest.mark.parametrize("saved", [False, True])
def test_search_does_not_keep_the_network_alive(tmp_path: Path, saved: bool) -> None:
    net, found = searched(tmp_path if saved else None)
    shown = found.topnine("3", count=1, k=2)
    network, module = weakref.ref(net), weakref.ref(net.module)
    del net
    gc.collect()
    assert network() is None and module() is None
    assert len(found.top("3", 0)) == len(found) / 5 and shown.figure().axes is not None
    with pytest.raises(SearchError) as gone:
        found.topnine("3")
    assert str(gone.value) == GONE


def test_network_can_be_passed_again() -> None:
    net, found = searched()
    expected = found.topnine("3", channels=[1], k=2).arrays()["pixels"]
    del net
    gc.collect()
    again = found.topnine("3", channels=[1], k=2, network=small()).arrays()["pixels"]
    assert (again == expected).all()


def test_network_with_other_weights_is_rejected() -> None:
    net, found = searched()
    with pytest.raises(
        SearchError, match=r"^the weights of Sequential are not those of this search: sha256:"
    ):
        found.topnine("3", network=small(seed=1))
    assert found.topnine("3", count=1, k=1, network=net).k == 1


@pytest.mark.parametrize("through_data", [False, True])
def test_weights_changed_after_the_search_are_detected(through_data: bool) -> None:
    net, found = searched()
    last = net.module[6].weight  # type: ignore[index, operator, union-attr]
    with torch.no_grad():  # in a later layer: the activations of layer 3 do not change
        (last.data if through_data else last)[0, 0] += 1e-3
    with pytest.raises(SearchError, match="the weights of Sequential are not those of this search"):
        found.topnine("3")
    with torch.no_grad():
        net.module[0].weight.mul_(2)  # type: ignore[index, operator, union-attr]
    with pytest.raises(SearchError, match="the weights of Sequential are not those of this search"):
        found.topnine("3")


def test_restored_weights_are_accepted() -> None:
    net, found = searched()
    before = {name: tensor.clone() for name, tensor in net.module.state_dict().items()}
    with torch.no_grad():
        net.module[3].weight.mul_(2)  # type: ignore[index, operator, union-attr]
    with pytest.raises(SearchError):
        found.topnine("3")
    net.module.load_state_dict(before)
    assert found.topnine("3", count=1, k=1).k == 1


def test_network_passed_to_open_search_is_kept(tmp_path: Path) -> None:
    """Otherwise the network in `network=small()` would be deleted at once."""
    searched(tmp_path)
    opened = open_search(tmp_path, network=small(), source=Noise(6))
    gc.collect()
    assert opened.topnine("3", count=1, k=1).k == 1


def test_opened_search_without_its_network_raises(tmp_path: Path) -> None:
    searched(tmp_path)
    opened = open_search(tmp_path, source=Noise(6))
    with pytest.raises(ManifestError, match="was made in Python from a module"):
        opened.topnine("3")
    assert opened.topnine("3", count=1, k=1, network=small()).k == 1


def test_network_with_a_name_is_loaded_again() -> None:
    found = search("minivgg", "scenes:3", "conv1_1", workers=0)
    gc.collect()
    assert found.topnine("conv1_1", count=1, k=2).arrays()["activation"].shape == (2,)


def test_resumed_search_does_not_keep_the_network_alive(tmp_path: Path) -> None:
    searched(tmp_path)
    net = small()
    found = search(net, Noise(6), "3", out=tmp_path, workers=0, resume=True)
    assert found.topnine("3", count=1, k=1).k == 1
    reference = weakref.ref(net)
    del net
    gc.collect()
    assert reference() is None
    with pytest.raises(SearchError, match="no longer exists"):
        found.topnine("3")


def test_search_can_be_pickled_without_its_network() -> None:
    net, found = searched()
    copy = pickle.loads(pickle.dumps(found))
    assert same(copy, found)
    assert copy.topnine("3", count=1, k=1, network=net).k == 1


def test_two_networks_with_one_module_are_equal() -> None:
    module = small().module
    assert isinstance(module, nn.Module)
    found = search(small(module), Noise(6), "3", workers=0)
    assert found.topnine("3", count=1, k=1, network=small(module)).k == 1
