"""Where networks are trained: what is not there is said before anything is trained."""

import pytest
import torch

from boardfit.devices.errors import InputError
from boardfit.search.compute import Compute
from boardfit.search.ranks import Ranks


def test_the_processor_is_always_there() -> None:
    assert Compute("cpu").device == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_told_and_auto_goes_without() -> None:
    with pytest.raises(InputError, match=r"finds no GPU; use --accelerator cpu"):
        _ = Compute("cuda").device
    assert Compute("auto").device.type == "cpu"


def test_other_values_are_refused() -> None:
    with pytest.raises(InputError, match="no accelerator is called 'tpu'; known: auto, cpu, cuda"):
        Compute("tpu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="0 or more"):
        Compute(workers=-1)
    with pytest.raises(InputError, match="0 or more"):
        Compute(checkpoint_seconds=float("nan"))


def test_one_process_calls_the_module_itself() -> None:
    module = torch.nn.Linear(2, 2)
    assert Compute("cpu", ranks=Ranks()).wrapped(module) is module
