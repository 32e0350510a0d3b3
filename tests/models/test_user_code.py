"""Networks that a function in a user's Python file returns."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deconvviz.errors import ManifestError, NetworkError
from deconvviz.models.model_spec import ModelSpec
from deconvviz.models.providers import parse
from deconvviz.models.user_code import Made, make

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(code: str, name: str = "own.py") -> Path:
        path = tmp_path / name
        path.write_text("import torch\nfrom torch import nn\n" + code)
        return path

    return write


def made(path: Path, function: str = "make", seed: int = 0, **arguments: Any) -> Made:
    return make(parse(f"{path}:{function}", arguments), seed=seed)


def rejection(path: Path, function: str = "make", **arguments: Any) -> str:
    before, generator = list(sys.path), torch.random.get_rng_state()
    with pytest.raises(NetworkError) as caught:
        made(path, function, **arguments)
    assert sys.path == before and torch.equal(torch.random.get_rng_state(), generator)
    assert "\n" not in str(caught.value)
    return str(caught.value)


PLAIN = "def make(width=4, *, depth=1):\n    return nn.Conv2d(3, width, depth)\n"


def weight(found: Made) -> Tensor:
    assert isinstance(found.product, nn.Conv2d)
    return found.product.weight


def test_function_is_called_with_its_arguments(write: Write) -> None:
    path = write(PLAIN)
    assert weight(made(path)).shape == (4, 3, 1, 1)
    assert weight(made(path, width=6, depth=3)).shape == (6, 3, 3, 3)


def test_class_can_be_called_like_a_function(write: Write) -> None:
    path = write("class Net(nn.Conv2d):\n    def __init__(self):\n        super().__init__(3, 2, 1)\n")
    assert weight(made(path, "Net")).shape == (2, 3, 1, 1)


def test_seed_determines_weights_and_restores_generators(write: Write) -> None:
    path = write(
        "import random\nimport numpy as np\n"
        "def make():\n    drawn = nn.Conv2d(3, 4, 1)\n"
        "    drawn.numbers = random.random(), float(np.random.rand())\n    return drawn\n"
    )
    torch.manual_seed(5)
    states = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]
    first, again, other = (made(path, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(weight(first), weight(again)) and first.product.numbers == again.product.numbers
    assert not torch.equal(weight(first), weight(other)) and first.product.numbers != other.product.numbers
    assert torch.equal(torch.random.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # type: ignore[index]


def test_printed_text_goes_to_stderr(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    made(write("print('reading')\ndef make():\n    print('making')\n    return nn.ReLU()\n"))
    assert capsys.readouterr() == ("", "reading\nmaking\n")


def test_modules_of_the_folder_can_be_imported_and_path_is_restored(write: Write) -> None:
    write("def block():\n    return nn.Tanh()\n", "neighbouring_blocks.py")
    path = write("from neighbouring_blocks import block\ndef make():\n    return block()\n")
    before = list(sys.path)
    assert isinstance(made(path).product, nn.Tanh) and sys.path == before
    assert isinstance(made(path, "block").product, nn.Tanh)  # imported functions can be named too
    del sys.modules["neighbouring_blocks"]


def test_dataclasses_with_string_annotations_work(write: Write) -> None:
    """Dataclasses look up their module by name if annotations are strings."""
    path = write("")
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom torch import nn\n"
        "@dataclass\nclass Config:\n    width: int = 3\n"
        "def make():\n    return nn.Conv2d(3, Config().width, 1)\n"
    )
    assert weight(made(path)).shape == (3, 3, 1, 1)


def test_edited_file_is_read_again(write: Write) -> None:
    """Python's own cache would miss a change within the same second that keeps the length of the file."""
    path = write(PLAIN)
    first = made(path)
    second = made(write(PLAIN.replace("width=4", "width=5")))
    assert weight(second).shape[0] == 5 and first.digest != second.digest
    assert not list(path.parent.glob("__pycache__"))


def test_file_with_another_digest_is_not_run(write: Write, tmp_path: Path) -> None:
    path = write(f"open({str(tmp_path / 'it ran')!r}, 'w').close()\n{PLAIN}")
    digest = "sha256:" + "0" * 64
    with pytest.raises(ManifestError, match=f"own.py has changed: its digest is sha256:.*, not {digest}"):
        make(ModelSpec("file", "make", {}, path, digest))
    assert not (tmp_path / "it ran").exists()
    found = made(path)
    assert (tmp_path / "it ran").exists()
    assert weight(make(ModelSpec("file", "make", {}, path, found.digest))).shape[0] == 4


# --- errors


def test_missing_file_is_rejected(write: Write, tmp_path: Path) -> None:
    write(PLAIN)
    assert rejection(tmp_path / "onw.py") == (
        f"no Python file '{tmp_path}/onw.py': similar names in {tmp_path}: own.py"
    )
    assert "there is no folder" in rejection(tmp_path / "nowhere" / "own.py")
    (tmp_path / "empty.py").touch()
    assert "empty.py is empty (0 bytes)" in rejection(tmp_path / "empty.py")
    (tmp_path / "folder.py").mkdir()
    assert "folder.py is a folder, not a Python file" in rejection(tmp_path / "folder.py")


TWO = PLAIN + "class Net(nn.Module):\n    pass\ndef _helper():\n    pass\nsize = 3\nnet = make()\n"


def test_unknown_function_error_lists_existing_functions(write: Write) -> None:
    path = write(TWO)
    assert rejection(path, "mke") == f"no function 'mke' in {path}: there is {path}:make, {path}:Net"
    assert rejection(path, "") == f"no function of {path} is named: there is {path}:make, {path}:Net"
    there = f"there is {path}:make, {path}:Net"
    assert (
        rejection(path, "size")
        == f"size in {path} is not a function that returns a network but of type int: {there}"
    )
    assert (
        rejection(path, "net")
        == f"net in {path} is not a function that returns a network but of type Conv2d: {there}"
    )
    bare = write("a = 3\n", "bare.py")
    assert (
        rejection(bare)
        == f"no function 'make' in {bare}: there are no functions. Write one that returns the network"
    )


def test_file_is_not_run_to_list_its_functions(write: Write, tmp_path: Path) -> None:
    path = write(f"open({str(tmp_path / 'it ran')!r}, 'w').close()\n{PLAIN}")
    assert rejection(path, "").endswith(f"there is {path}:make")
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"width": 1, "widht": 3}, "got an unexpected keyword argument 'widht'"),
        ({}, "missing a required argument: 'width'"),
    ],
)
def test_wrong_arguments_are_rejected_with_the_signature(
    write: Write, arguments: dict[str, Any], reason: str
) -> None:
    path = write(PLAIN.replace("width=4", "width: int"))
    message = (
        f"make in {path} cannot be called with these arguments: {reason}. It takes width: int, depth=1. "
        "Set them with "
    )
    assert rejection(path, **arguments) == message + "arguments={...}"
    with pytest.raises(NetworkError) as caught:
        made(path, **arguments)
    assert caught.value.on_command_line() == message + "--model-arg NAME=VALUE"


RAISING = {
    "when the file is run": ("a = [1]\na[3]\n" + PLAIN, "4: IndexError: list index out of range"),
    "in the function": ("def make():\n    return {}['key']\n", "4: KeyError: 'key'"),
    "in a call of torch": ("def make():\n    return nn.Conv2d(3, 4)\n", "4: TypeError: "),
    "without a message": ("def make():\n    raise RuntimeError\n", "4: RuntimeError"),
    "with a long message": ("def make():\n    raise ValueError('a\\n  b\\nc')\n", "4: ValueError: a b c"),
    "by exit": ("import sys\nsys.exit('no')\n", "4: SystemExit: no"),
    "at an import": ("import no_such_package_at_all\n", "3: ModuleNotFoundError: No module named 'no_such"),
    "at a syntax error": ("def make(:\n    pass\n", "3: SyntaxError: "),
    "at wrong indentation": ("def make():\npass\n", "4: IndentationError: "),
}


@pytest.mark.parametrize(("code", "reason"), RAISING.values(), ids=RAISING)
def test_exception_becomes_one_line_with_its_place(write: Write, code: str, reason: str) -> None:
    path = write(code)
    assert rejection(path).startswith(f"{path}:{reason}")


def test_file_that_is_not_text_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_bytes(b"def make():\n    return '\xff'\n")
    assert rejection(path).startswith(f"{path}") and "SyntaxError" in rejection(path)
    path.write_bytes(b"a = '\0'\n")
    assert rejection(path).startswith(f"{path}")
    assert rejection(path, "").startswith(f"{path}")


def test_keyboard_interrupt_is_not_caught(write: Write) -> None:
    with pytest.raises(KeyboardInterrupt):
        made(write("def make():\n    raise KeyboardInterrupt\n"))
