"""From where a model comes to a loaded Model. Knows heads by what transformers calls them; scores nothing.

Sources: a hub id, a folder, `package:MODULE/PATH` (a folder that a Python package ships), `synthetic:NAME` (trained here at
first use), `finetuned:SOURCE` (an encoder fine-tuned here on the case's data set). Nothing that came with a model is run:
trust_remote_code is never set, and weights are safetensors unless resources.pickle says otherwise.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from optimum.exporters.tasks import TasksManager
from optimum.utils.normalized_config import NormalizedConfigManager, NormalizedTextConfig
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig
from transformers.utils import logging

from pytest_perfq.contracts import Model
from pytest_perfq.errors import Unavailable, UsageError
from pytest_perfq.tasks import _hub, _tokenizers

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# What a configuration says of where it came from; not part of what the model is.
_PROVENANCE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "_attn_implementation")


def folder(source: str, pickle: bool) -> Path:
    """The folder of a hub id, a path or `package:`. Raises Unavailable and UsageError."""
    kind, _, rest = source.partition(":")
    if kind == "package":
        return _packaged(source, rest)
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise UsageError(
            f"model folder {source!r} does not exist; give a folder with config.json, or a hub id such as 'owner/name'"
        )
    return _hub.folder(source, pickle)


def _packaged(source: str, rest: str) -> Path:
    module, _, inside = rest.partition("/")
    spec = find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(f"model {source!r} needs the package {module!r}, which is not installed; install it with pip")
    root = Path(next(iter(spec.submodule_search_locations)))
    if not (root / inside).is_dir():
        raise UsageError(
            f"package {module!r} ships no folder {inside!r}; it has {', '.join(sorted(p.name for p in root.iterdir()))}"
        )
    return root / inside


@contextmanager
def quiet() -> Iterator[None]:
    """transformers prints neither bars nor advice within it: both would land in the middle of pytest's lines."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def head_class(task: str, config: Any) -> type:
    """transformers' class of this architecture with the task's head, by optimum's table of tasks."""
    auto = TasksManager.get_model_class_for_task(task)
    try:
        chosen: type = auto._model_mapping[type(config)]
    except KeyError:
        raise UsageError(
            f"architecture {config.model_type!r} has no head for {task}; "
            f"use one that transformers' {auto.__name__} knows, such as bert"
        ) from None
    return chosen


def config_of(source: str, path: Path) -> Any:
    """The configuration in a folder. Raises UsageError for an architecture that only its own code could run."""
    try:
        return AutoConfig.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"the configuration of model {source!r} cannot be read ({str(error).splitlines()[0]}); "
            "models whose architecture needs their own code are not run"
        ) from error


def check_head(source: str, config: Any, wanted: type, task: str) -> None:
    """Raises UsageError when the weights in the folder were not saved with the task's head."""
    given = list(config.architectures or ["model of no named architecture"])
    if wanted.__name__ not in given:
        raise UsageError(
            f"model {source!r} is a {given[0]}, but task {task} needs a {wanted.__name__}; "
            f"name a model with that head, or have one trained here: 'finetuned:{source}'"
        )


def load(source: str, path: Path, task: str, outputs: tuple[str, ...], pickle: bool) -> Model:
    """The model in a folder with the task's head: fp32, eval mode, CPU, eager attention. source: how messages call it."""
    config = config_of(source, path)
    wanted = head_class(task, config)
    check_head(source, config, wanted, task)
    with quiet():
        tokenizer = _tokenizers.load(source, path)  # before weights are read for nothing
        module, missing = weights(wanted, source, path, pickle)
    if missing:
        raise UsageError(
            f"model {source!r} says it is a {wanted.__name__} but has no weights for {', '.join(sorted(missing)[:3])}; "
            f"save the whole model again, or have one trained here: 'finetuned:{source}'"
        )
    module.eval()
    size = sizes(config)
    limit = int(getattr(size, "max_position_embeddings", size.vocab_size))
    return Model(
        module=module, tokenizer=tokenizer, config=module.config, key=content_key(module), source=source,
        inputs=inputs_of(module), outputs=outputs, max_positions=min(limit, int(tokenizer.model_max_length)),
        vocab_size=int(size.vocab_size), bytes=sum(value.numel() * value.element_size() for value in module.parameters()),
        revision=_hub.commit_of(path),
    )  # fmt: skip


def weights(wanted: Any, source: str, path: Path, pickle: bool, **options: Any) -> tuple[Any, list[str]]:
    """The module, and the names of weights that the folder lacks. Raises UsageError for torn files, and for pickle files not
    allowed."""
    if not pickle and not any(path.glob("*.safetensors")):
        none = "none" if _hub.commit_of(path) is None else "not fetched"
        held = ", ".join(sorted(one.name for one in path.glob("*.bin"))) or none
        raise UsageError(
            f"model {source!r} has no safetensors weights (pickle files: {held}); "
            "loading pickle files runs code, so convert them with save_pretrained, or allow them with --perf-allow-pickle"
        )
    for file in sorted(path.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt"):
                pass  # its header is held against its length
        except SafetensorError as error:
            raise UsageError(
                f"model {source!r} has weights that cannot be read, {file}: {error}; copy or save them again"
            ) from error
    module, info = wanted.from_pretrained(
        path, output_loading_info=True, use_safetensors=None if pickle else True, attn_implementation="eager",
        dtype=torch.float32, local_files_only=True, **options,
    )  # fmt: skip
    return module, list(info["missing_keys"])


def sizes(config: Any) -> NormalizedTextConfig:
    """The configuration under optimum's common names (vocab_size, hidden_size, num_layers ...)."""
    try:
        normalize = NormalizedConfigManager.get_normalized_config_class(config.model_type)
    except KeyError:
        normalize = NormalizedTextConfig
    return normalize(config)


def inputs_of(module: Any) -> tuple[str, ...]:
    """Which of INPUTS the module takes, in the order of its forward; no token types where it knows one type only."""
    left_out = () if getattr(module.config, "type_vocab_size", 0) > 1 else ("token_type_ids",)
    return tuple(name for name in inspect.signature(module.forward).parameters if name in INPUTS and name not in left_out)


def content_key(module: Any) -> str:
    """Hex digest of every weight and of the configuration, without where they came from."""
    settings = {key: value for key, value in module.config.to_dict().items() if key not in _PROVENANCE}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    digest.update(type(module).__name__.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
