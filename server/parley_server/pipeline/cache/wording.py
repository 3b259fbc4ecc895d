"""Whether two questions that are similar ask the same, as far as their words tell.

Vectors of short texts hardly tell "enable" from "disable" or 2025 from 2026, so similarity alone gives wrong answers
with great confidence. Here the words of two questions must account for each other, one by one: numbers, names, units
and negations by themselves, other words by themselves or by one that means the same. What is left out are the frames
that questions come in; whether they ask how, what, or whether one may, has to agree too. In doubt they are not the
same.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from parley_server.pipeline.cache import vocabulary

_MOST_SYNONYMS = 12  # that may make up the difference between two questions

Tokens = tuple[str, ...]
Table = dict[str, list[Tokens]]
"""Sequences of words by their first one, the longest first."""

_TOKEN = re.compile(
    r"(?<!\S)-{1,2}[a-zA-Z][\w-]*"  # options of commands
    r"|\w+(?:[._@/:,'+]\w+)*"  # words, numbers, addresses, names of files and functions
    r"|(?<=\w)(?:--|\+\+)"
    r"|(?<=\s)-(?=\s)"
    r"|[^\w\s.,!?;:'\"()…“”‘’\-–—]+"  # operators, currencies, brackets
)
_SENTENCE = re.compile(r"[.!?:\n\"“(]")  # what may stand before its first word
_CONTRACTED = re.compile(r"\b(can|won|shan|ain)'t\b|n't\b|\bcannot\b", re.IGNORECASE)
_WHOLE = {"won": "will not", "shan": "shall not", "ain": "is not"}
_CLITIC = re.compile(r"'(?:s|re|ve|ll|d|m)\b", re.IGNORECASE)
_SUFFIXES = (("sses", "ss"), ("ies", "y"), ("ied", "y"), ("ings", ""), ("ing", ""), ("ed", ""), ("es", ""), ("s", ""))


def _table(sequences: Sequence[Sequence[str]]) -> Table:
    table: Table = {}
    for sequence in sorted(sequences, key=len, reverse=True):
        table.setdefault(sequence[0], []).append(tuple(sequence))
    return table


_PHRASES = {tuple(said): tuple(meant) for said, meant in vocabulary.pairs(vocabulary.PHRASES)}
_PHRASES_BY_FIRST = _table(list(_PHRASES))
_POLITE = _table(list(vocabulary.groups(vocabulary.POLITE)))
_TELL = _table(list(vocabulary.groups(vocabulary.TELL)))
_KINDS = [(kind, _table(list(vocabulary.groups(text)))) for kind, text in vocabulary.KINDS.items()]
_OPEN = ("how", "what")  # kinds that are not answered with yes or no
_SPEAKERS = {"i": "i", "we": "i", "you": "you"}
_FORMS = dict(vocabulary.groups(vocabulary.FORMS))
_EMPTY = frozenset(vocabulary.EMPTY.split())
_CASED = _EMPTY | {"who"}  # mean something else as names: May, Will, IT, the WHO
_NOUNS = frozenset(vocabulary.NOUNS.split())
_DETERMINERS = frozenset(vocabulary.DETERMINERS.split())
_DIRECTED = frozenset(vocabulary.DIRECTED.split())
_ALIKE = [frozenset(group) for group in vocabulary.groups(vocabulary.ALIKE)]
_TOPICS = frozenset(vocabulary.TOPICS.split())


@dataclass(frozen=True)
class Wording:
    """The words of a question. `kind`: what it asks, such as "how", or "can:i" for what is answered with yes or no."""

    tokens: Tokens
    kind: str
    content: Tokens

    @cached_property
    def signature(self) -> bytes:
        """The same for all that ask the same, and for few others: 16 bytes."""
        kind = self.kind.partition(":")[0]
        alone = sorted(word for word in self.content if word not in _groups())
        parts = ["" if kind == "what" else kind, str(len(self.content)), *alone]
        return hashlib.blake2b("\0".join(parts).encode(errors="surrogatepass"), digest_size=16).digest()

    @cached_property
    def directed(self) -> bool:
        """Whether the order of the words matters by itself: from here to there, more than that."""
        before = ""
        for token in self.tokens:
            if token in _DIRECTED or (token == "to" and before and before not in _EMPTY):
                return True
            before = token
        return False


def wording(text: str) -> Wording:
    """The words of `text`. Takes about a microsecond a letter."""
    tokens = _tokens(text)
    kind, rest = _kind(tokens)
    rest = _rephrased(rest, len(rest))
    before = ("", *rest)
    content = (
        stem(token)
        for token, last in zip(rest, before, strict=False)
        if token not in _EMPTY or (token in _NOUNS and last in _DETERMINERS)
    )
    return Wording(tokens, kind, tuple(content))


def same(one: Wording, other: Wording) -> bool:
    """Whether both ask the same. Never for those of which nothing is left without their frame."""
    if not one.content or len(one.content) != len(other.content) or not _kinds_agree(one.kind, other.kind):
        return False
    if _is_minimal_pair(one.tokens, other.tokens):
        return False
    places = _matched(one.content, other.content)
    if places is None:
        return False
    return places == sorted(places) or not (one.directed or other.directed)


def _tokens(text: str) -> Tokens:
    plain = unicodedata.normalize("NFKC", text).replace("’", "'")
    plain = _CONTRACTED.sub(_not, plain)
    plain = _CLITIC.sub("", plain)
    if plain.isupper():
        return tuple(_TOKEN.findall(plain.casefold()))
    tokens: list[str] = []
    end, named = 0, True
    found = list(_TOKEN.finditer(plain))
    for index, match in enumerate(found):
        token, word = match[0], match[0].casefold()
        first = index == 0 or _SENTENCE.search(plain, end, match.start()) is not None
        end = match.end()
        capital = token[0].isupper() and not first
        if token == "I":  # a number, if it follows a name or ends the text
            capital = capital and (named or index == len(found) - 1)
        named = capital
        tokens.append(token if capital and word in _CASED else word)
    return tuple(tokens)


def _not(found: re.Match[str]) -> str:
    start = (found[1] or "").lower()
    if start == "can" or found[0].lower() == "cannot":
        return "can not"
    return _WHOLE.get(start, " not")


def _prefix(tokens: Tokens, at: int, table: Table) -> int:
    """How many tokens from `at` on stand in the table as a sequence."""
    if at < len(tokens):
        for some in table.get(tokens[at], ()):
            if tokens[at : at + len(some)] == some:
                return len(some)
    return 0


def _kind(tokens: Tokens) -> tuple[str, Tokens]:
    """What is asked, and the words after that."""
    if len(tokens) > 2 and tokens[0] in _TOPICS and any(_prefix(tokens, 2, table) for _, table in _KINDS):
        tokens = (*tokens[2:], *tokens[:2])  # in Python, how …
    kind, polite, at = "", False, 0
    while True:
        if length := _prefix(tokens, at, _POLITE):
            polite = True
        elif length := _prefix(tokens, at, _TELL):
            kind = "what"
        if not length or at + length == len(tokens):
            break
        at += length
    rest = _rephrased(tokens[at:], 1)
    for name, table in _KINDS:
        if length := _prefix(rest, 0, table):
            if name in _OPEN:
                return name, rest[length:]
            if not polite and not kind:
                speaker = next((_SPEAKERS[token] for token in rest[: length + 1] if token in _SPEAKERS), "")
                return f"{name}:{speaker}", rest[length:]
    return kind, rest


def _rephrased(tokens: Tokens, until: int) -> Tokens:
    """The tokens, with one word for what several say. Phrases that begin at `until` or later are left."""
    out: list[str] = []
    at = 0
    while at < min(until, len(tokens)):
        if length := _prefix(tokens, at, _PHRASES_BY_FIRST):
            out += _PHRASES[tokens[at : at + length]]
            at += length
        else:
            out.append(tokens[at])
            at += 1
    return (*out, *tokens[at:])


def _kinds_agree(one: str, other: str) -> bool:
    if one == other or {one, other} == {"", "what"}:
        return True
    same_kind = one.partition(":")[0] == other.partition(":")[0]
    return same_kind and (one.endswith(":") or other.endswith(":"))


def _is_minimal_pair(one: Tokens, other: Tokens) -> bool:
    """Whether the texts differ in one small word, which may well be the point, or in nothing but their order."""
    if len(one) != len(other) or one == other:
        return False
    differing = [(a, b) for a, b in zip(one, other, strict=True) if a != b]
    if len(differing) > 1:
        return sorted(one) == sorted(other)
    [(a, b)] = differing
    return (a in _EMPTY or b in _EMPTY) and not any(a in group and b in group for group in _ALIKE)


def _matched(one: Tokens, other: Tokens) -> list[int] | None:
    """For each word of `one` the place of its counterpart in `other`; None if there are words without any."""
    free: dict[str, list[int]] = {}
    for place in reversed(range(len(other))):
        free.setdefault(other[place], []).append(place)
    places = [free[word].pop() if free.get(word) else -1 for word in one]
    lacking = [index for index, place in enumerate(places) if place < 0]
    if len(lacking) > _MOST_SYNONYMS:
        return None
    left = sorted(place for some in free.values() for place in some)
    for index in lacking:
        found = next((place for place in left if _alike(one[index], other[place])), None)
        if found is None:
            return None
        places[index] = found
        left.remove(found)
    return places


def _alike(one: str, other: str) -> bool:
    groups = _groups()
    return one in groups and other in groups and not groups[one].isdisjoint(groups[other])


@lru_cache(maxsize=1)
def _groups() -> dict[str, frozenset[int]]:
    """The groups of words that mean the same, by word."""
    found: dict[str, set[int]] = {}
    for number, group in enumerate(vocabulary.groups(vocabulary.SAME)):
        for word in group:
            found.setdefault(stem(word), set()).add(number)
    return {word: frozenset(numbers) for word, numbers in found.items()}


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """A word without its endings, roughly; numbers as digits."""
    word = _FORMS.get(word, word)
    if len(word) < 4 or not (word.isascii() and word.isalpha()):
        return word
    ending = "ise"
    for suffix, instead in _SUFFIXES:
        base = word.removesuffix(suffix)
        if base == word or len(base) < 3:
            continue
        if (suffix == "s" and base[-1] in "su") or (suffix == "es" and base[-1] not in "sxzh"):
            continue
        if suffix in ("ing", "ings", "ed"):
            if not re.search(r"[aeiouy]", base):
                break
            if len(base) > 3 and base[-1] == base[-2] and base[-1] not in "lsz":
                base = base[:-1]
        word, ending = base + instead, "is"
        break
    if word.endswith(ending) and len(word) > 5:  # British and American
        return word.removesuffix(ending) + "iz"
    return word[:-1] if len(word) > 3 and word.endswith("e") else word
