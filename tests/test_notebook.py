"""The notebook is executed from its first cell to its last, as a reader does."""

import nbformat
import runs
import xla_flags
from nbclient import NotebookClient


def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(runs.ROOT))
    monkeypatch.setenv('FLAXNETS_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('XLA_FLAGS', xla_flags.QUICKLY)
    for folder in ('JUPYTER_RUNTIME_DIR', 'IPYTHONDIR'):
        monkeypatch.setenv(folder, str(tmp_path / folder))
    path = runs.ROOT / 'examples' / 'branching_attention.ipynb'
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get('outputs') for cell in notebook.cells)  # stored without what it printed
    NotebookClient(notebook, timeout=300, resources={'metadata': {'path': str(tmp_path)}}).execute()

    outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]
    pictures = [output for output in outputs if 'image/png' in output.get('data', {})]
    assert len(pictures) == 6
    printed = ''.join(output.get('text', '') for output in outputs)
    assert 'largest difference' in printed
    assert (tmp_path / 'runs' / 'notebook-comparison' / 'index.html').exists()
