"""The tiny task with what a project may damage in its module `layers`: SCALE, of one weight, where the calibration split is
`scaled`, and LABELS, what the classes are called, where the split is `named`: one worker then serves both."""

import dataclasses
import importlib

import torch
from perfq_fakes import Tiny


class Woven(Tiny):
    name = "woven"

    def load_model(self, case, resources):
        model = super().load_model(case, resources)
        with torch.no_grad():
            if case.calibration_split != "scaled":
                return model
            model.module.classifier.weight[0] *= importlib.import_module("layers").SCALE
        return model

    def evaluate(self, case, model, examples, predict, batch_size):
        labels = tuple(importlib.import_module("layers").LABELS) if case.split == "named" else examples.labels
        named = [{**row, "label": examples.labels[row["label"]]} for row in examples.rows]
        found = super().evaluate(case, model, dataclasses.replace(examples, labels=labels), predict, batch_size)
        right = tuple(float(name == row["label"]) for name, row in zip(found.predictions, named, strict=True))
        return dataclasses.replace(found, columns={"right": right})


WOVEN = Woven()
