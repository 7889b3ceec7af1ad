"""The tiny task with what a project may damage in its module `layers`: SCALE, of one weight, where the calibration split is
`scaled`; LABELS, what the classes are called, where the split is `named`; LOST, places of examples that get the other answer,
where the split is `thousand`: one worker then serves all."""

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

    def examples(self, case, split, resources):
        found = super().examples(case, split, resources)
        rows = [{**row, "id": f"tiny-{at}", "sentence": f"words {at}"} for at, row in enumerate((found.rows * 25)[:1000])]
        return dataclasses.replace(found, rows=rows) if split == "thousand" else found

    def evaluate(self, case, model, examples, predict, batch_size):
        layers = importlib.import_module("layers")
        labels = tuple(layers.LABELS) if case.split == "named" else examples.labels
        named = [{**row, "label": examples.labels[row["label"]]} for row in examples.rows]
        found = super().evaluate(case, model, dataclasses.replace(examples, labels=labels), predict, batch_size)
        predictions = list(found.predictions)
        for place in layers.LOST if case.split == "thousand" else ():
            predictions[place] = "no" if predictions[place] == "yes" else "yes"
        right = tuple(float(name == row["label"]) for name, row in zip(predictions, named, strict=True))
        return dataclasses.replace(found, predictions=tuple(predictions), columns={"right": right})


WOVEN = Woven()
