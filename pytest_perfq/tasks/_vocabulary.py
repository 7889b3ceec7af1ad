"""A WordPiece vocabulary and tokenizer from a small corpus: frequent words whole, the rest in pieces.

Written out instead of tokenizers' trainer because that breaks ties by the order of a hash map, and a recipe must give
equal bits. Knows texts only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerFast

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_LEAST_COUNT = 3  # a word seen less often is spelt in pieces
_PIECES = 300  # the most frequent parts of two to four letters
_WORDS = 3000


def words_and_pieces(texts: Iterable[str]) -> list[str]:
    """The vocabulary in order: specials, letters alone and inside words, pieces, words. Ties go by the alphabet."""
    splitter = pre_tokenizers.BertPreTokenizer()
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    letters = sorted({letter for word in counts for letter in word})
    pieces: Counter[str] = Counter()
    for word, count in counts.items():
        for size in (2, 3, 4):
            for at in range(1, len(word) - size + 1):
                pieces["##" + word[at : at + size]] += count
    words = [word for word, count in _ranked(counts) if count >= _LEAST_COUNT and len(word) > 1][:_WORDS]
    return [
        *SPECIALS,
        *letters,
        *(f"##{letter}" for letter in letters),
        *(piece for piece, _ in _ranked(pieces)[:_PIECES]),
        *words,
    ]


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def tokenizer(texts: Iterable[str], max_length: int) -> Any:
    """A cased BERT tokenizer over these texts."""
    vocabulary = {token: at for at, token in enumerate(words_and_pieces(texts))}
    made = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece(prefix="##")
    made.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=max_length, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]", model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip
