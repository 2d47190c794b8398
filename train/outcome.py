"""The report of a run's state: its predictions, and the model before and after training."""

import pathlib
from typing import Any

import numpy as np
from flax import nnx

from train import build
from train.checkpointing import init_from
from train.distributed import processes
from train.experiment import Experiment
from train.reporting import predictions, report
from train.reporting.results import Results
from train.state import TrainState


def write(
    exp: Experiment,
    state: TrainState,
    *,
    split: str,
    scores: dict[str, Any],
    history: list[dict[str, Any]],
    workdir: pathlib.Path,
    folder: pathlib.Path,
) -> pathlib.Path | None:
    """Writes the page for `state` and the images of `split`, and `predictions.csv` next to it.

    Returns the page's path, None in all processes but the first.

    `scores` are the state's for that split (`Experiment.evaluate`), with the facts of the run's summary if
    they are known. All processes must call it.
    """
    probabilities, model = exp.predict(state, split), exp.trained(state)
    if not processes.first():
        return None
    run = Results(
        workdir=workdir,
        config=exp.config,
        summary=scores,
        history=history,
        images=exp.sets[split],
        probabilities=probabilities,
        model=model,
        initial=initial(exp),
        step=int(np.ravel(state.step)[0]),
    )
    page = report.write(run, folder, exp.track)
    images = exp.sets[split]
    labels = [images.class_names[label] for label in images.labels]
    about = {'index': range(len(images)), 'label': labels}
    predictions.write(folder / 'predictions.csv', about, probabilities, images.class_names)
    return page


def finish(
    exp: Experiment,
    state: TrainState,
    summary: dict[str, Any],
    history: list[dict[str, Any]],
    workdir: pathlib.Path,
) -> str:
    """Writes the report of a run that has just ended and says in a line where it is, or why there is none."""
    scores = ('accuracy', 'accuracy_sd', 'loss', 'loss_sd', 'top5_accuracy')
    known = summary | {key: summary[f'test_{key}'] for key in scores if f'test_{key}' in summary}
    try:
        page = write(
            exp,
            state,
            split='test',
            scores=known,
            history=history,
            workdir=workdir,
            folder=workdir / 'report',
        )
    except Exception as error:  # of any kind: the run is finished, and its checkpoints and scores are saved
        return f'no report: {type(error).__name__}: {" ".join(str(error).split())}'
    return f'report      {page}'


def initial(exp: Experiment) -> nnx.Module | None:
    """The model as it was before training; None where the weights that the run started from are gone."""
    fresh = build.create_model(exp.config, next(iter(exp.sets.values())))
    model = init_from.started(exp.config, fresh, exp.init_digest)
    if model is not None:
        model.eval()
    return model
