"""A checkpoint's sums are those of whole files, however slowly orbax writes some of them."""

import time

import pytest
import runs
from orbax.checkpoint._src.metadata import checkpoint as orbax_metadata

import train
from train.checkpointing import manifest


@pytest.mark.filterwarnings('error')
def test_a_slow_write_of_the_metadata_is_waited_for(tmp_path, monkeypatch):
    store = orbax_metadata._MetadataStoreImpl
    write = store.write

    def slow(self, file_path, metadata):
        time.sleep(0.3)
        write(self, file_path, metadata)

    monkeypatch.setattr(store, 'write', slow)
    train.run(runs.digits(tmp_path, epochs=1), tmp_path / 'run')
    (checkpoint,) = (tmp_path / 'run' / 'checkpoints').iterdir()
    assert manifest.damage(checkpoint) == ''
