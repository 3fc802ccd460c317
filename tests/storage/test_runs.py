"""A run from an address: only what is asked for is fetched, and what cannot be read is named."""

import pytest

from xmoe.errors import RunFolderError
from xmoe.serve.expert import ExpertCore
from xmoe.storage.runs import open_run


def test_path_is_used_where_it_is(tiny_run):
    assert open_run(str(tiny_run), ["stem"]).path == tiny_run


def test_address_is_fetched_in_part(tiny_run):
    folder = open_run(f"file://{tiny_run}", ["expert-low"])
    assert folder.path != tiny_run
    names = {path.name for path in folder.checkpoint_folder().iterdir()}
    assert names == {"manifest.json", "expert-low.safetensors"}
    assert folder.load_tensors("expert-low")


def test_expert_loads_from_an_address(tiny_run):
    assert ExpertCore.load(f"file://{tiny_run}", "low").expert.name == "low"


@pytest.mark.parametrize("address", ["file:///no/such/run", "nothing://bucket/run"])
def test_address_that_cannot_be_read(address):
    with pytest.raises(RunFolderError):
        open_run(address, ["stem"])


def test_expert_that_is_not_in_the_run(tiny_run):
    with pytest.raises(RunFolderError, match="no expert"):
        ExpertCore.load(str(tiny_run), "mid")
