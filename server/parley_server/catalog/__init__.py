"""What is publicly known of well-known models: limits, capabilities, prices, shutdown dates.

`models.json` is data that people review: one model a line, its sources, and the day it was put together (`version`).
The fields of a model:

- `provider`, `model`: whose, and the provider's own name of it.
- `operations`, `capabilities`, `input`, `output`: as in `v1.Model`.
- `context_tokens`, `max_input_tokens`, `max_output_tokens`, `embedding_dimensions`, `max_embed_inputs`: as in
  `v1.ModelLimits`.
- `price`: billionths of a US dollar for a million tokens of `input`, `output`, `cache_read`, `cache_write` (where a
  provider has several, the one with the shortest life). At the standard tier; missing where tokens of one kind have
  several prices, as with audio. `price_up_to`: input tokens beyond which another price list applies.
- `shutdown`: the day it goes away, UTC. `local`: runs on the operator's own machines, so nobody offers it as such.
"""

from parley_server.catalog.load import Catalog

__all__ = ["Catalog"]
