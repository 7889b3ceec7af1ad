"""Cases, recipes and programs small enough for tests."""

import dataclasses

from pytest_perfq.core.case import Case
from pytest_perfq.core.spec import Spec
from pytest_perfq.tasks import _synthetic, _synthetic_models

TINY_ROWS = 96
AS_SHIPPED = dict(_synthetic.TRAIN_ROWS), dict(_synthetic_models.RECIPES)


def case_of(task, **fields):
    values = {"dataset": "synthetic", "model": "synthetic:bert", "model_name": "bert", "backend": Spec("eager"), **fields}
    return Case(task=Spec.parse(task), **values)


def predict_of(model):
    """The model's own forward pass."""
    import torch

    def predict(batch):
        with torch.no_grad():
            output = model.module(**{name: torch.from_numpy(array) for name, array in batch.arrays.items()})
        return {name: getattr(output, name).numpy() for name in model.outputs}

    return predict


def shrink(patch):
    """Recipes that take a second: few rows, one epoch."""
    for name in _synthetic.TRAIN_ROWS:
        patch.setitem(_synthetic.TRAIN_ROWS, name, TINY_ROWS)
        patch.setitem(
            _synthetic_models.RECIPES, name, dataclasses.replace(_synthetic_models.RECIPES[name], epochs=1, batch_size=16)
        )
    _synthetic.table.cache_clear()


def restore(patch):
    """The recipes as shipped, whatever shrank them for the module."""
    for name, rows in AS_SHIPPED[0].items():
        patch.setitem(_synthetic.TRAIN_ROWS, name, rows)
        patch.setitem(_synthetic_models.RECIPES, name, AS_SHIPPED[1][name])
    _synthetic.table.cache_clear()
