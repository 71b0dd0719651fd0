"""The character-level tokenizer of ``mini``, as a ``PreTrainedTokenizerFast`` that ``AutoTokenizer`` loads."""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

END, MASK, UNKNOWN = "<|endoftext|>", "<|mdm_mask|>", "<|unk|>"
CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character (printable ASCII and the line end), three special tokens in front."""
    vocabulary = {token: i for i, token in enumerate([END, MASK, UNKNOWN, *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, mask_token=MASK, unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False, padding_side="left",
    )  # fmt: skip
