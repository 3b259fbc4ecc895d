"""What is publicly known of well-known models: limits, capabilities, prices, days of release and of shutdown.

`models.json` is data that people review: one model a line, its sources, and the day it was put together (`version`).
`make catalog` writes it; decision 0012 says out of what and by which rules. The fields of a model:

- `provider`, `model`: whose (`Provider.catalog`), and the provider's own name of it.
- `operations`, `capabilities`, `input`, `output`: as in `v1.Model`. Without `capabilities` nobody knows them.
- `context_tokens`, `max_input_tokens`, `max_output_tokens`, `embedding_dimensions`, `max_embed_inputs`: as in
  `v1.ModelLimits`.
- `price`: billionths of a US dollar for a million tokens of `input`, `output`, `cache_read`, `cache_write`,
  `cache_write_1h`, or billionths of a dollar for one `search`; missing where a price cannot be said so: by the hour
  of the day, by request.
- `tiers`: further price lists, each complete: `above` a number of input tokens, at a `service_tier`, or both.
- `unpriced`: media whose tokens have other prices.
- `later`: price lists that replace all that is above, each `from` a day on.
- `released`, `deprecated`, `shutdown`: days, UTC. `deprecated: true` is deprecation on an unknown day.
- `local`: runs on the operator's own machines, so nobody offers it as such.
- `unlisted`: only a price list has it, which may be an old one, so nobody offers it as such.
- `sources`: where its facts are from. `checked`: the day since which the line is as it is.

An operator's own file of such rows lies on top: `overlay.py`.
"""

from parley_server.catalog.load import Catalog

__all__ = ["Catalog"]
