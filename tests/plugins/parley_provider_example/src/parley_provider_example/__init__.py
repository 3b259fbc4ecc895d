"""Two kinds of providers: an invented API with a dialect of its own, and a server that needs no more than a row."""

from parley_provider_example import acorn, walnut

KINDS = (acorn.KIND, walnut.KIND)
