"""The tokenizer that stands beside a model's weights. Knows no head and no task.

Where a folder holds no tokenizer, transformers makes one of nothing, for which every word is unknown. The original would read
the same as the case, and lose nothing: so a tokenizer without words is refused here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from pytest_perfq.errors import UsageError
from pytest_perfq.tasks import _hub

# Files that hold words; tokenizer_config.json and its like only say how to use them.
VOCABULARIES = ("tokenizer.json", "tokenizer.*.json", "vocab*", "*.model")


def load(source: str, path: Path) -> Any:
    """The fast tokenizer in a model's folder. source: how messages call the model. Raises UsageError where there is none, where
    it cannot be read, has no words or is not a fast one."""
    held = sorted({one.name for pattern in VOCABULARIES for one in path.glob(pattern)})
    if not held:
        files = ", ".join(sorted(one.name for one in path.iterdir())) or "nothing"
        raise UsageError(
            f"model {source!r} has no tokenizer: {path} holds {files}, and neither tokenizer.json nor a vocabulary; "
            f"{_mend(path)}"
        )
    try:
        found = AutoTokenizer.from_pretrained(path)
    except Exception as error:
        # The library tokenizers raises a bare Exception for a file that it cannot read.
        if type(error) is not Exception and not isinstance(error, (OSError, ValueError, KeyError)):
            raise
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"the tokenizer of model {source!r} ({', '.join(held)} in {path}) cannot be read: {why}; {_mend(path)}"
        ) from error
    if not found.is_fast:
        raise UsageError(f"model {source!r} has no fast tokenizer (tokenizer.json); save one beside it with save_pretrained")
    if set(found.get_vocab()) <= set(found.all_special_tokens):
        raise UsageError(
            f"the tokenizer of model {source!r} knows no words: its class {type(found).__name__} reads "
            f"{' or '.join(found.vocab_files_names.values())}, and {path} holds {', '.join(held)}; {_mend(path)}"
        )
    return found


def _mend(path: Path) -> str:
    if _hub.commit_of(path) is None:
        return f"save the model's own beside it with tokenizer.save_pretrained({str(path)!r})"
    return "save the model and its tokenizer to one folder with save_pretrained, and name that folder"
